//! The vocabulary of veritrail: audit records as text and as types, events,
//! interpretation, and the words for what went wrong and where.
//!
//! No I/O and no clock: bytes and stamps come in, values and bytes go out.

pub mod assemble;
pub mod contid;
pub mod dispatch;
pub mod fields;
pub mod interpret;
pub mod line;
pub mod names;
pub mod place;
mod scan;
pub mod stored;
pub mod tables;
pub mod task;
pub mod units;
pub mod value;
pub mod view;
pub mod violation;
pub mod write;

pub use assemble::{Assembler, End, Event, Patience};
pub use fields::{Field, Fields};
pub use line::{EventId, Line, LineError, LineErrorKind, Stamp};
pub use names::RecordType;
pub use value::Value;
