//! The decisions of the agent: what an event means, which device and place it is about, and what
//! is said of it.
//!
//! Sans-I/O: everything comes in through `handle_*` and leaves through `poll_*`; the time is given.
