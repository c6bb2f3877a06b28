//! What must stand somewhere in an event's bytes for the event to be an answer.
//!
//! Most lines of a log are nobody's answer. Searching a whole chunk for a few byte
//! strings costs a fraction of reading its fields, so only events with a hit are read.
//! A needle is a necessary condition and never a sufficient one.

use memchr::memmem::Finder;
use record::value::push_hex;

use super::filter::{Number, Query, Text};
use super::whose::Meant;

/// Byte strings of which at least one stands in a record of every event that matches.
#[derive(Debug)]
pub(super) struct Needles {
    finders: Vec<Finder<'static>>,
}

impl Needles {
    /// The rarest necessary condition of `query`; `None` when it has none that is text.
    pub(super) fn of(query: &Query) -> Option<Needles> {
        let words = integrity(query).or_else(|| text(query)).or_else(|| numbers(query))?;
        debug_assert!(!words.is_empty());
        Some(Needles { finders: words.iter().map(|word| Finder::new(word).into_owned()).collect() })
    }

    /// Appends the places of all hits in `bytes` to `hits`, ascending.
    pub(super) fn find(&self, bytes: &[u8], hits: &mut Vec<usize>) {
        for finder in &self.finders {
            hits.extend(finder.find_iter(bytes));
        }
        if self.finders.len() > 1 {
            hits.sort_unstable();
        }
    }
}

fn integrity(query: &Query) -> Option<Vec<Vec<u8>>> {
    let wanted = &query.integrity;
    if let Some(op) = wanted.op.as_ref().filter(|op| !op.is_empty()) {
        return Some(vec![op.clone()]);
    }
    if let Some(device) = &wanted.device {
        let number = device.number.iter().map(|number| [b"dev=", &number[..]].concat());
        return Some(number.chain(device.name.clone()).collect());
    }
    match wanted.sector {
        Some(range) if range.first == range.last => {
            Some(vec![format!("sector={}", range.first).into_bytes()])
        }
        Some(_) => Some(vec![b"sector=".to_vec()]),
        None => query.containers.as_ref().map(|meant| containers(meant)),
    }
}

/// A long number is rare by itself; a short one stands in other numbers everywhere.
fn containers(meant: &[Meant]) -> Vec<Vec<u8>> {
    let numbers: Vec<Vec<u8>> =
        meant.iter().map(|one| one.contid().to_string().into_bytes()).collect();
    if (1..=4).contains(&numbers.len()) && numbers.iter().all(|number| number.len() > 5) {
        return numbers;
    }
    vec![b"contid=".to_vec(), b"CONTID=".to_vec()]
}

/// A text stands in a record as it is, or in hexadecimal.
fn text(query: &Query) -> Option<Vec<Vec<u8>>> {
    query.texts.iter().find_map(|(item, wanted)| {
        let wanted: &[u8] = match item {
            // The name and the directory it is relative to stand in two records.
            Text::File => wanted.split(|b| *b == b'/').max_by_key(|part| part.len())?,
            _ => wanted,
        };
        if wanted.is_empty() {
            return None;
        }
        let mut hex = Vec::new();
        push_hex(&mut hex, wanted);
        let mut words = vec![wanted.to_vec(), hex];
        if *item == Text::Host {
            words.push(b"saddr=".to_vec());
        }
        Some(words)
    })
}

fn numbers(query: &Query) -> Option<Vec<Vec<u8>>> {
    let mut names: Vec<(&str, i64)> = Vec::new();
    if let Some((item, wanted)) = query.numbers.first() {
        let name = match item {
            Number::Pid => "pid",
            Number::Ppid => "ppid",
            Number::Session => "ses",
        };
        names.push((name, (*wanted).into()));
    } else if let Some(exit) = query.exit {
        names.push(("exit", exit));
    } else if let Some(syscall) = query.syscall {
        // io_uring's records call it `uring_op`.
        names.extend([("syscall", syscall.into()), ("uring_op", syscall.into())]);
    }
    let unset = i64::from(u32::MAX);
    let words = names.iter().flat_map(|(name, number)| {
        let spelled = format!("{name}={number}").into_bytes();
        let minus_one = (*number == unset).then(|| format!("{name}=-1").into_bytes());
        [spelled].into_iter().chain(minus_one)
    });
    Some(words.collect()).filter(|words: &Vec<_>| !words.is_empty())
}
