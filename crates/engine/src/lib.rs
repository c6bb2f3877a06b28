//! The decisions of the agent: what an event means, which device and place it is about, and what
//! is said of it.
//!
//! Sans-I/O: everything comes in through `handle_*` and leaves through `poll_*`; the time is given.
//!
//! - [`devices`]: the kernel's verity, integrity and crypt devices, heard through the audit log,
//!   device events, the kernel log and polled status, each failure told once;
//! - [`clock`]: changes of the system's clock, each told once, with who made it;
//! - [`attribute`]: which mapped device, and which bytes of it, a kernel's number means;
//! - [`tasks`]: who is, or was, process N at a time;
//! - [`containers`]: audit container identifiers: who may set one, which processes have it, and which
//!   events are theirs;
//! - [`scrub`]: how far a full check of a device is, whether another may go on from there, and its rate.

pub mod attribute;
pub mod clock;
pub mod containers;
pub mod devices;
pub mod scrub;
pub mod tasks;
mod text;
