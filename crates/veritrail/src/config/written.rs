//! A configuration as it is written: tables of TOML that still know where they stand, so that every mistake is
//! told with its line and its key, and all of them at once.
//!
//! A file has one table (`[agent]`, `[trail]`...) for each [`Section`]. Serde reads a section; what it refuses is
//! noted and taken out, and the rest read again. What only we can judge, [`Section::check`] notes by key.

use std::fmt;
use std::ops::{Range, RangeInclusive};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One table of the file.
pub(super) trait Section: Default + DeserializeOwned {
    /// Its name between the brackets.
    const NAME: &'static str;

    /// Notes what is wrong with it that its types do not say.
    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        let _ = wrong;
    }
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Mistake {
    /// The line, from 1.
    pub(crate) line: usize,
    /// The key with its section (`agent.poll_seconds`, `trail.sinks.0`), where there is one.
    pub(crate) key: Option<String>,
    /// What is wrong, on one line.
    pub(crate) what: String,
    /// What may have been meant.
    pub(crate) hint: Option<String>,
}

impl fmt::Display for Mistake {
    /// `LINE: KEY: WHAT`, to stand behind the name of the file and a colon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Reads sections out of a text.
pub(super) struct Written<'t> {
    text: &'t str,
    root: DeTable<'t>,
    names: Vec<&'static str>,
    mistakes: Vec<Mistake>,
}

/// More mistakes than these are not told: a file of anything else has one on every line.
const MOST: usize = 50;

impl<'t> Written<'t> {
    /// The tables of `text`. Where it is no TOML, that alone is told: what the rest means is a guess then.
    pub(super) fn parse(text: &'t str) -> Written<'t> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut written =
            Written { text, root: DeTable::new(), names: Vec::new(), mistakes: Vec::new() };
        for error in &errors {
            let mistake = written.mistake(error.span(), error.message());
            // One slip makes several complaints about the bytes behind it.
            if written.mistakes.last().is_none_or(|before| before.line != mistake.line) {
                written.note(mistake);
            }
        }
        if errors.is_empty() {
            written.root = root.into_inner();
        }
        written
    }

    /// The section of this type; its defaults where it is missing, or where it has mistakes.
    pub(super) fn section<S: Section>(&mut self) -> S {
        self.names.push(S::NAME);
        let Some((name, value)) = self.root.get_key_value(S::NAME) else { return S::default() };
        let (at, kept) = (name.span(), value.clone());
        let DeValue::Table(table) = value.get_ref() else {
            let what = format!("this is a section: [{}]", S::NAME);
            let mistake = self.mistake(Some(at), &what);
            self.note(mistake);
            return S::default();
        };
        let mut table = table.clone();
        let mut refused = false;
        // Each turn takes a key out, so this ends.
        let section = loop {
            let value = Spanned::new(kept.span(), DeValue::Table(table.clone()));
            match S::deserialize(toml::de::ValueDeserializer::from(value)) {
                Ok(section) => break section,
                Err(error) => {
                    refused = true;
                    let span = error.span().unwrap_or_else(|| at.clone());
                    let mistake = self.mistake(Some(span.clone()), error.message());
                    self.note(mistake);
                    let culprit = table.iter().find(|(key, value)| holds(key, value, span.start));
                    let Some(key) = culprit.map(|(key, _)| key.get_ref().to_string()) else {
                        return S::default();
                    };
                    table.remove(key.as_str());
                }
            }
        };
        section.check(&mut Wrong { written: self, section: S::NAME, at });
        // What was taken out would be missed by whoever uses the rest.
        if refused { S::default() } else { section }
    }

    /// All mistakes in the order of their lines; asked when every section was read, since what is left is none.
    pub(super) fn finish(mut self) -> Result<(), Vec<Mistake>> {
        let mut left = Vec::new();
        for (key, _) in &self.root {
            if !self.names.contains(&key.get_ref().as_ref()) {
                left.push((key.span(), key.get_ref().to_string()));
            }
        }
        for (span, key) in left {
            let mistake = Mistake {
                line: self.line(span.start),
                key: None,
                what: shown(&format!("there is no section `{key}`")),
                hint: Some(match nearest(&key, self.names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", self.names.join(", ")),
                }),
            };
            self.note(mistake);
        }
        if self.mistakes.is_empty() {
            return Ok(());
        }
        self.mistakes.sort_by_key(|mistake| mistake.line);
        Err(self.mistakes)
    }

    fn note(&mut self, mistake: Mistake) {
        if self.mistakes.len() < MOST {
            self.mistakes.push(mistake);
        }
    }

    /// What `message` says of the bytes of `span`.
    fn mistake(&self, span: Option<Range<usize>>, message: &str) -> Mistake {
        let start = span.map_or(0, |span| span.start);
        // Serde lists in backticks what was there and then what could be.
        let mut words = message.split('`').skip(1).step_by(2);
        let near = message
            .starts_with("unknown")
            .then(|| words.next().and_then(|word| nearest(word, words)))
            .flatten();
        Mistake {
            line: self.line(start),
            key: path(&self.root, start).map(|path| shown(&path)),
            what: shown(message),
            hint: near.map(|near| format!("did you mean `{near}`?")),
        }
    }

    fn line(&self, start: usize) -> usize {
        let before = self.text.as_bytes().get(..start).unwrap_or(self.text.as_bytes());
        memchr::memchr_iter(b'\n', before).count() + 1
    }
}

/// Where a section notes what is wrong.
pub(super) struct Wrong<'w, 't> {
    written: &'w mut Written<'t>,
    section: &'static str,
    /// The bytes of its name.
    at: Range<usize>,
}

impl Wrong<'_, '_> {
    /// `key` (with dots for what is deeper: `sinks.0` is the first of `sinks`) is wrong, and this is why.
    pub(super) fn key(&mut self, key: &str, why: impl fmt::Display) {
        let mut at = self.at.start;
        let mut place = self.written.root.get(self.section).map(Spanned::get_ref);
        for part in key.split('.') {
            let (next, span) = match place {
                Some(DeValue::Table(table)) => match table.get_key_value(part) {
                    Some((key, value)) => (value.get_ref(), key.span()),
                    None => break,
                },
                Some(DeValue::Array(items)) => {
                    let item = part.parse::<usize>().ok().and_then(|index| items.get(index));
                    let Some(item) = item else { break };
                    (item.get_ref(), item.span())
                }
                _ => break,
            };
            at = span.start;
            place = Some(next);
        }
        let mistake = Mistake {
            line: self.written.line(at),
            key: Some(format!("{}.{key}", self.section)),
            what: shown(&why.to_string()),
            hint: None,
        };
        self.written.note(mistake);
    }

    /// `key` is a number of `unit` that has to be within `range`.
    pub(super) fn range<N: PartialOrd + fmt::Display>(
        &mut self,
        key: &str,
        value: &N,
        range: &RangeInclusive<N>,
        unit: &str,
    ) {
        if !range.contains(value) {
            let (least, most) = (range.start(), range.end());
            self.key(key, format_args!("{value} is not {least} to {most} {unit}"));
        }
    }

    /// `key` is a command: a program and its arguments.
    pub(super) fn command(&mut self, key: &str, argv: &[String]) {
        if argv.first().is_none_or(String::is_empty) {
            self.key(key, "a command needs at least its program");
        }
    }

    /// `key` is a path from the root on.
    pub(super) fn absolute(&mut self, key: &str, path: &std::path::Path) {
        if !path.is_absolute() {
            self.key(key, format_args!("{} is not absolute", path.display()));
        }
    }
}

/// The keys from the root down to the byte at `at`, with dots between them.
fn path(table: &DeTable<'_>, at: usize) -> Option<String> {
    let (key, value) = table.iter().find(|(key, value)| holds(key, value, at))?;
    let mut path = key.get_ref().to_string();
    if let Some(deeper) = below(value.get_ref(), at) {
        path.push('.');
        path.push_str(&deeper);
    }
    Some(path)
}

fn below(value: &DeValue<'_>, at: usize) -> Option<String> {
    match value {
        DeValue::Table(table) => path(table, at),
        DeValue::Array(items) => {
            let index = items.iter().position(|item| within(item, at))?;
            let item = items.get(index)?;
            let deeper =
                below(item.get_ref(), at).map_or_else(String::new, |path| format!(".{path}"));
            Some(format!("{index}{deeper}"))
        }
        _ => None,
    }
}

/// Whether the byte at `at` belongs to the key or to anything below it. A table under a header of its own lies
/// outside of the table that it belongs to.
fn holds(key: &Spanned<impl Sized>, value: &Spanned<DeValue<'_>>, at: usize) -> bool {
    key.span().contains(&at) || within(value, at)
}

fn within(value: &Spanned<DeValue<'_>>, at: usize) -> bool {
    value.span().contains(&at)
        || match value.get_ref() {
            DeValue::Table(table) => table.iter().any(|(key, value)| holds(key, value, at)),
            DeValue::Array(items) => items.iter().any(|item| within(item, at)),
            _ => false,
        }
}

/// The one of `known` that was meant, if one is not far.
fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    /// Longer than any name with a slip or two.
    const LONGEST: usize = 40;
    if name.len() > LONGEST {
        return None;
    }
    let far = known.map(|known| (strsim::osa_distance(known, name), known));
    let (far, near) = far.min_by_key(|(far, _)| *far)?;
    (far <= (near.len() / 3).max(1)).then_some(near)
}

/// Text of the file for a message: on one line, and not endless.
fn shown(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut shown = String::new();
    for (index, c) in text.trim_end().chars().enumerate() {
        match c {
            _ if index == LONGEST => {
                shown.push_str("...");
                break;
            }
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}
