//! The record that can be trusted.
