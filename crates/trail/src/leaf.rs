//! How events are framed as leaves.
