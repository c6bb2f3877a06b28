//! The trail through its front door.

mod basics;
mod kit;
