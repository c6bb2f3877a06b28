//! The trail through its front door.
// Helpers of tests are tests too, which clippy.toml cannot know.
#![allow(clippy::unwrap_used)]

mod basics;
mod crash;
mod follow;
mod hostile;
mod kill;
mod kit;
mod live;
mod outage;
mod parsers;
mod stopped;
mod tamper;
