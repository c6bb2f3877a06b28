//! Languages of rules: text to rules to a decision, and the form in which the kernel takes them.
//!
//! No I/O and no clock.

pub mod audit;
