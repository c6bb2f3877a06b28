//! The binary as a user runs it: standard output, standard error and exit status.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod beside;
mod containers;
mod demo;
mod fec;
mod import;
mod pages;
mod search;
mod serve;
mod signature;
mod specification;
mod timeline;
mod trail;
mod verity;
