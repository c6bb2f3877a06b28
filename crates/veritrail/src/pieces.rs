//! Long records, which a trail keeps in pieces, put together for whoever reads its events.

use record::stored::{Restorer, split_end};
use record::{Line, RecordType};

/// A line of an event, or one that was put together again.
pub(crate) enum Source<'a> {
    Line(Line<'a>),
    Whole(Vec<u8>),
}

impl Source<'_> {
    pub(crate) fn line(&self) -> Option<Line<'_>> {
        match self {
            Source::Line(line) => Some(*line),
            Source::Whole(text) => Line::parse(text).ok(),
        }
    }
}

/// The records of an event, with those put together that a trail keeps in pieces because
/// they are long; `None` if there are none. Pieces of what is no record stay pieces.
pub(crate) fn join_pieces<'a>(lines: &[Line<'a>]) -> Option<Vec<Source<'a>>> {
    let is_piece = |line: &Line<'_>| line.record_type() == RecordType::VT_LINE;
    if !lines.iter().any(is_piece) {
        return None;
    }
    let mut sources = Vec::new();
    let mut restorer = Restorer::default();
    let (mut text, mut first) = (Vec::new(), 0);
    for line in lines {
        if !is_piece(line) {
            sources.push(Source::Line(*line));
            continue;
        }
        if text.is_empty() {
            first = sources.len();
        }
        sources.push(Source::Line(*line));
        if restorer.push(line.raw(), &mut text).is_err() {
            restorer = Restorer::default();
            text.clear();
        } else if restorer.finish().is_ok() {
            let (record, _) = split_end(&text);
            if Line::parse(record).is_ok() {
                sources.truncate(first);
                sources.push(Source::Whole(record.to_vec()));
            }
            text.clear();
        }
    }
    Some(sources)
}
