//! The arguments of a program, over all EXECVE records of its event.

use std::collections::BTreeMap;

use super::ViewError;
use crate::line::Line;
use crate::names::RecordType;
use crate::value::Value;

/// What a program was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execve {
    /// The arguments, the program's name first.
    pub args: Vec<Vec<u8>>,
}

impl Execve {
    /// Joins the EXECVE records of one event, in their order; records of other
    /// types are passed over. A long argument comes in pieces `aN[0]= aN[1]=`, and
    /// these in several records.
    ///
    /// # Errors
    /// When there is no EXECVE record, or an argument or piece is missing.
    pub fn join<'a>(lines: impl IntoIterator<Item = Line<'a>>) -> Result<Execve, ViewError> {
        let mut argc = None;
        let mut args: BTreeMap<u32, BTreeMap<u32, Value<'a>>> = BTreeMap::new();
        for line in lines.into_iter().filter(|l| l.effective_type() == RecordType::EXECVE) {
            for field in line.fields() {
                if field.key == b"argc" && argc.is_none() {
                    argc = Some(super::field::<u32>(&line.fields(), "argc")?);
                } else if let Some((arg, piece)) = argument(field.key) {
                    args.entry(arg).or_default().entry(piece).or_insert(field.value);
                }
            }
        }
        let missing = |field: String| ViewError::Missing { field };
        let argc = argc.ok_or_else(|| missing("argc".to_string()))?;
        // By what is there and not by `argc`, which may be absurd.
        let mut joined = Vec::with_capacity(args.len());
        for at in 0..argc {
            let pieces = args.get(&at).ok_or_else(|| missing(format!("a{at}")))?;
            let mut whole = Vec::new();
            for (expected, (piece, value)) in (0..).zip(pieces) {
                if *piece != expected {
                    return Err(missing(format!("a{at}[{expected}]")));
                }
                whole.extend_from_slice(&value.untrusted().unwrap_or_default());
            }
            joined.push(whole);
        }
        Ok(Execve { args: joined })
    }
}

/// Which argument and which piece `aN` or `aN[M]` is; `aN_len` is neither.
fn argument(key: &[u8]) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(key.strip_prefix(b"a")?).ok()?;
    match text.split_once('[') {
        None => Some((text.parse().ok()?, 0)),
        Some((arg, piece)) => Some((arg.parse().ok()?, piece.strip_suffix(']')?.parse().ok()?)),
    }
}
