//! Full checks of devices, in the background: everything is read, past the page cache, at no more
//! than a given rate, and what was done is not done again after a stop.
//!
//! ```text
//!   scrub NAME ─▶ reference.rs ─▶ target.rs      which device, opened
//!                                    │
//!   store.rs ─ lock, state ──▶ check.rs ◀─ disk.rs      O_DIRECT, bytes a second
//!                                    │
//!                                records.rs ─▶ trail
//! ```
//!
//! A check comes to milestones: first its records are durable, then its state is. Whatever ends it
//! in between, the next one begins at the last milestone: nothing is counted twice or left
//! out, and what was found behind that milestone is recorded again.

pub(crate) mod check;
mod disk;
mod records;
pub(crate) mod reference;
pub(crate) mod report;
pub(crate) mod store;
pub(crate) mod target;
