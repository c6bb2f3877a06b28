//! See [`invariants::control_group`].
#![no_main]
#![allow(unsafe_code, reason = "fuzz_target! exports a C symbol")]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::control_group(bytes));
