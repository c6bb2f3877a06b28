//! The record that can be trusted.
//!
//! A trail is a directory of text: events in the form of Linux audit records, cut into leaves,
//! hashed into an RFC 6962 tree, the head of which is signed every second. This crate appends
//! to one ([`Writer`]), brings one back after a crash, reads one while it grows ([`Reader`]),
//! says whether one is what was signed ([`verify`]) and proves a single event to somebody who
//! has nothing but a public key ([`prove`], [`check_proof`]).
//!
//! It reads no clock: every call that needs the time takes a [`Stamp`]. What it needs of a
//! disk is the trait [`Store`], so that its tests can lose power five thousand times.
//!
//! The format is docs/formats/trail.md; design.md section 5 decides where this page is silent.

pub mod anchors;
pub mod checkpoint;
mod compose;
mod derived;
pub mod door;
mod entry;
mod error;
pub mod export;
pub mod follow;
mod growing;
mod identity;
pub mod import;
pub mod layout;
pub mod leaf;
pub mod merkle;
pub mod note;
mod proof;
mod reader;
mod recover;
mod scan;
pub mod sinks;
pub mod store;
mod verify;
mod writer;

pub use checkpoint::Checkpoint;
pub use door::{Door, DoorError};
pub use entry::{Class, Entry, Field, Lines, Own, Stamp, Ticket};
pub use error::Error;
pub use identity::create;
pub use note::{PublicKey, SecretKey};
pub use proof::{Proof, Proven, check_proof, prove};
pub use reader::{Leaf, Reader};
pub use record::stored::Origin;
pub use recover::Recovered;
pub use store::{Disk, Store};
pub use verify::{KeyTrust, Place, Report, Tampered, Verdict, VerifyOptions, verify};
pub use writer::{Appended, Writer};
