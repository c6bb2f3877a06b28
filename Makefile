# The few things one does with this project. Each target does its own set-up:
# scripts/setup installs what is missing (Debian packages, Rust) and says so first.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PREFIX ?= /usr/local

.PHONY: help setup build demo test test-long vm-test bench fuzz lint install deb

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup:
	@scripts/setup build

build: setup ## the release binary, target/release/veritrail
	@scripts/with-cargo cargo build --release --locked --package veritrail

demo: build ## the main job on real input, in a temporary folder
	@scripts/setup demo
	@target/release/veritrail demo

test: ## everything that fits half an hour; what cannot run here is skipped visibly
	@scripts/setup test
	@scripts/with-cargo scripts/test

test-long: ## the same with the long runs (many more kills, crash points, mutations)
	@scripts/setup test
	@VERITRAIL_LONG=1 scripts/with-cargo scripts/test

vm-test: ## only the scenarios on stock kernels under QEMU (VERITRAIL_VM_SCENARIOS, VERITRAIL_VM_KERNEL select)
	@scripts/setup test
	@scripts/with-cargo cargo test --locked --package veritrail --test vm -- --nocapture

bench: ## ratios against the stock tools and the machine's own limit
	@scripts/setup test
	@scripts/with-cargo scripts/bench

fuzz: ## each fuzz target for FUZZ_SECONDS (default 60); needs a nightly toolchain
	@scripts/with-cargo scripts/fuzz

lint: setup ## format, clippy, documentation
	@scripts/with-cargo scripts/lint

install: build ## binary, man pages, completions and units under PREFIX (default /usr/local), settings in /etc
	@scripts/install $(PREFIX)

deb: build ## a Debian package, target/veritrail_VERSION_ARCHITECTURE.deb
	@scripts/deb
