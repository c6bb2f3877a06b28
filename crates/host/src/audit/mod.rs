//! The kernel's audit over netlink: [`Stream`] reads its records, [`Control`] asks and changes.
//!
//! Only datagrams of the kernel's are believed, none is cut in silence, and what is dropped is
//! counted exactly. The form of rules is not known here, they pass as bytes.

mod batch;
mod control;
mod error;
mod message;
mod socket;
mod stream;

pub use control::{Control, OnFailure};
pub use error::Error;
pub use message::{Features, Malformed, Reply, ReplyBody, Status, replies};
pub use stream::{Received, Stream};
