//! A full check of a device: how far it has come, whether it may go on where another one stopped,
//! and how fast it may be.

mod budget;
mod state;

pub use budget::Budget;
pub use state::{
    Access, Backend, Begin, Counts, Ended, Identity, Last, Live, Module, Pass, State, StateError,
    Subject, Verdict, Why,
};
