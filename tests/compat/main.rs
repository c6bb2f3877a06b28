//! The stock tools as peers: what they write we read, what we write they read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auditctl;
mod ausearch;
mod ausearch_reads;
mod fec;
mod verity;
