//! Audit of the running kernel. Needs root and the initial namespaces; what cannot run is skipped
//! visibly.

#![allow(clippy::unwrap_used)] // Also in the functions that the tests share.

mod auditing;
mod control;
mod namespaces;
mod stream;
