//! See [`invariants::clock`].
#![no_main]
#![allow(unsafe_code, reason = "fuzz_target! exports a C symbol")]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::clock(bytes));
