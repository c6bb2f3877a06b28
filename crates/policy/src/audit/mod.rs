//! Audit rules: what the kernel is to make records of.
//!
//! ```text
//!                 Change::parse                 Rule::to_wire
//!   auditctl's   ---------------->             ---------------->  struct audit_rule_data,
//!   words                            [Rule]                       as the kernel takes and
//!                <----------------             <----------------  lists it
//!                  Rule::to_text                Rule::from_wire
//! ```
//!
//! What the words leave to the machine (who `alice` is, what `b64` is, whether a watched path is a
//! directory) is asked of a [`Context`]. What `from_wire` reads may be anything that some kernel
//! holds; what `parse` makes is a rule that Linux 6.12 takes, as far as that can be told without it:
//! that a path's folder exists, it alone knows.

mod error;
mod evaluate;
mod facts;
mod field;
mod options;
mod parse;
mod paths;
mod print;
mod rule;
mod statement;
mod warning;
mod wire;
mod words;

pub use error::{RuleError, RuleErrorKind};
pub use evaluate::{Decision, Matches, decide, matches};
pub use facts::{Fact, Facts, Name};
pub use field::{Comparison, Field, Operator};
pub use parse::{Change, Context};
pub use rule::{Action, Condition, InKernel, List, NoRoom, Rule, Syscalls, Value};
pub use statement::{Setting, Signal, Statement};
pub use warning::Warning;
pub use wire::WireError;

#[cfg(test)]
mod tests;
