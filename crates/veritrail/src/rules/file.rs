//! Files of rules, line by line, and where in them something is wrong.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use policy::audit::{Context, RuleError, RuleErrorKind, Statement};
use serde::Serialize;

use crate::outcome::{Failure, Kind};

/// The longest file, in bytes: a hundred thousand rules.
const LONGEST: u64 = 16 << 20;

/// How many characters of a line are printed around what is wrong.
const WINDOW: usize = 160;

/// Whose file it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Anybody's: it is only looked at.
    Anybody,
    /// Root's or our own, and nobody else's to write: what it says is done.
    Owner,
}

/// What is wrong in a file, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: usize,
    /// Of the first character that is wrong, from 1.
    pub(crate) column: usize,
    /// How many characters are wrong.
    pub(crate) length: usize,
    /// The line.
    pub(crate) text: String,
    pub(crate) message: Box<str>,
    pub(crate) hint: Option<String>,
    /// auditctl says so, and passes over the line.
    #[serde(skip)]
    pub(crate) is_passed_over: bool,
}

impl Fault {
    /// In this line, numbered from 1.
    pub(crate) fn new(file: &str, line: usize, text: &str, error: &RuleError) -> Fault {
        let characters = |range| text.get(range).map_or(0, |text: &str| text.chars().count());
        let (start, end) = (error.span.start, error.span.end);
        Fault {
            file: file.to_owned(),
            line,
            column: characters(0..start) + 1,
            length: characters(start..end),
            text: text.chars().map(shown).collect(),
            message: error.to_string().chars().map(shown).collect(),
            hint: error.hint(),
            is_passed_over: error.kind == RuleErrorKind::Possible,
        }
    }

    /// As compilers do it; of a long line the part around what is wrong.
    pub(crate) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let Fault { file, line, column, message, hint, .. } = self;
        let (text, before, wrong) = self.window();
        writeln!(out, "{file}:{line}:{column}: {message}")?;
        writeln!(out, "    {text}")?;
        writeln!(out, "    {}{}", " ".repeat(before), "^".repeat(wrong))?;
        match hint {
            Some(hint) => writeln!(out, "    hint: {hint}"),
            None => Ok(()),
        }
    }

    /// What of the line is printed, how many characters of that are before the wrong ones, and how many those
    /// are.
    fn window(&self) -> (String, usize, usize) {
        let (at, count) = (self.column - 1, self.text.chars().count());
        let from = at.saturating_sub(WINDOW / 2).min(count.saturating_sub(WINDOW));
        let before = at - from;
        let wrong = self.length.clamp(1, WINDOW.saturating_sub(before).max(1));
        let (left, right) = (from > 0, from + WINDOW < count);
        let mut text = String::from(if left { "..." } else { "" });
        text.extend(self.text.chars().skip(from).take(WINDOW));
        text.push_str(if right { "..." } else { "" });
        (text, before + if left { 3 } else { 0 }, wrong)
    }
}

/// What takes one place on a terminal, and does nothing to it.
fn shown(one: char) -> char {
    match one {
        '\t' => ' ',
        one if one.is_control() => '?',
        one => one,
    }
}

/// A line that asks for something.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) statement: Statement,
}

impl Placed {
    /// Says on standard error what there is to warn of.
    pub(crate) fn warn(&self, file: &str, context: &dyn Context) {
        warn(&format!("{file}:{}", self.line), &self.statement, context);
    }
}

/// The same of a statement that stands elsewhere.
pub(crate) fn warn(place: &str, statement: &Statement, context: &dyn Context) {
    let Statement::Change(change) = statement else { return };
    for warning in change.warnings(context.machine()) {
        // Nobody is left to tell if standard error is gone.
        let _ = writeln!(io::stderr(), "{place}: warning: {warning}");
    }
}

/// A file of rules.
#[derive(Clone, Debug)]
pub(crate) struct RulesFile {
    pub(crate) name: String,
    bytes: Vec<u8>,
}

impl RulesFile {
    /// Reads it.
    pub(crate) fn read(path: &Path, trust: Trust) -> Result<RulesFile, Failure> {
        let name = path.display().to_string();
        let cannot = |error: io::Error| {
            Failure::new(Kind::Io, format!("cannot read the rules in {name}")).because(error)
        };
        let unusable = |why: String, hint: &str| {
            let what = format!("the rules in {name} are not used: {why}");
            Err(Failure::new(Kind::Unusable, what).hint(hint))
        };
        // A pipe would keep us waiting.
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let mut options = File::options();
        let file = options.read(true).custom_flags(nonblocking).open(path).map_err(cannot)?;
        let meta = file.metadata().map_err(cannot)?;
        if !meta.is_file() {
            return unusable("it is no regular file".into(), "name a file of rules");
        }
        let owners = [0, rustix::process::geteuid().as_raw()];
        if trust == Trust::Owner && (!owners.contains(&meta.uid()) || meta.mode() & 0o022 != 0) {
            let why = format!("user {} or others could write them", meta.uid());
            return unusable(why, "chown root it, and chmod go-w");
        }
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > LONGEST {
            let why = format!("they are more than {LONGEST} bytes");
            return unusable(why, "split the file");
        }
        Ok(RulesFile { name, bytes })
    }

    /// What its lines ask for, or what is wrong with them.
    pub(crate) fn statements(
        &self,
        context: &dyn Context,
    ) -> impl Iterator<Item = Result<Placed, Fault>> {
        let lines = self.bytes.split(|byte| *byte == b'\n').enumerate();
        lines.filter_map(move |(at, bytes)| self.statement(at + 1, bytes, context).transpose())
    }

    fn statement(
        &self,
        line: usize,
        bytes: &[u8],
        context: &dyn Context,
    ) -> Result<Option<Placed>, Fault> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let valid = String::from_utf8_lossy(before);
            Fault {
                file: self.name.clone(),
                line,
                column: valid.chars().count() + 1,
                length: 1,
                text: String::from_utf8_lossy(bytes).chars().map(shown).collect(),
                message: "this is not UTF-8".into(),
                hint: Some("write a byte that no text has as \\xff".into()),
                is_passed_over: false,
            }
        })?;
        match Statement::parse(text, context) {
            Ok(Statement::Nothing) => Ok(None),
            Ok(statement) => Ok(Some(Placed { line, text: text.to_owned(), statement })),
            Err(error) => Err(Fault::new(&self.name, line, text, &error)),
        }
    }
}

/// The files of rules in a directory, in the order of augenrules; none where there is no directory.
pub(crate) fn in_directory(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match directory.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().as_bytes();
        if name.ends_with(b".rules") && !name.starts_with(b".") {
            files.push(path);
        }
    }
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().as_bytes().to_vec();
    files.sort_by(|one, other| natural(&name(one), &name(other)));
    Ok(files)
}

/// The order of `ls -v` (GNU coreutils 9): digits that follow each other are a number, letters come before
/// other characters, and suffixes are looked at last.
fn natural(one: &[u8], other: &[u8]) -> Ordering {
    by_parts(stem(one), stem(other)).then_with(|| by_parts(one, other)).then_with(|| one.cmp(other))
}

/// A name without its suffixes: each a dot, a letter, and letters and digits.
fn stem(name: &[u8]) -> &[u8] {
    let mut stem = name;
    while let Some(dot) = memchr::memrchr(b'.', stem).filter(|dot| *dot > 0) {
        let (rest, suffix) = stem.split_at(dot);
        let of_suffix = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'~';
        match suffix.split_first() {
            Some((_, suffix))
                if suffix.first().is_some_and(|first| !first.is_ascii_digit())
                    && suffix.iter().all(of_suffix) =>
            {
                stem = rest;
            }
            _ => break,
        }
    }
    stem
}

fn by_parts(mut left: &[u8], mut right: &[u8]) -> Ordering {
    loop {
        let is_word = |text: &[u8]| text.first().is_some_and(|byte| !byte.is_ascii_digit());
        while is_word(left) || is_word(right) {
            let order = weight(left).cmp(&weight(right));
            if order.is_ne() {
                return order;
            }
            (left, right) = (left.get(1..).unwrap_or_default(), right.get(1..).unwrap_or_default());
        }
        if left.is_empty() && right.is_empty() {
            return Ordering::Equal;
        }
        let ((l, l_rest), (r, r_rest)) = (digits(left), digits(right));
        let order = number(l).len().cmp(&number(r).len()).then(number(l).cmp(number(r)));
        if order.is_ne() {
            return order;
        }
        (left, right) = (l_rest, r_rest);
    }
}

/// Where what comes next stands among others.
fn weight(text: &[u8]) -> i16 {
    match text.first() {
        None => -1,
        Some(b'~') => -2,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i16::from(*byte),
        Some(byte) => i16::from(*byte) + 256,
    }
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// Without the zeroes before it.
fn number(digits: &[u8]) -> &[u8] {
    let zeroes = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.get(zeroes..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::rules::Here;

    #[test]
    fn files_are_ordered_as_augenrules_orders_them() {
        let dir = tempfile::tempdir().unwrap();
        let names = [
            "2-b.rules",
            "10-a.rules",
            "02-b.rules",
            "a.rules",
            "10.rules",
            "1-z.rules",
            "A.rules",
            "10-a-2.rules",
            "10-a-10.rules",
            "2b.rules",
            "1.5.rules",
            "a.b.rules",
            "a~.rules",
            "a_b.rules",
        ];
        for name in names {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::write(dir.path().join("3.conf"), "").unwrap();
        let listed = std::process::Command::new("sh")
            .args(["-c", "/bin/ls -1v | grep '\\.rules$'"])
            .current_dir(dir.path())
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let ours: Vec<String> = in_directory(dir.path())
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        let theirs = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(ours, theirs.lines().collect::<Vec<_>>());
        assert!(in_directory(Path::new("/nowhere/at/all")).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_stands_under_the_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.rules");
        std::fs::write(&path, b"# c\n\t# d\r\n-a always,exit\t-F uidd=0\n-w /\xff\n-D\n").unwrap();
        let file = RulesFile::read(&path, Trust::Anybody).unwrap();
        let here = Here::find().unwrap();
        let lines: Vec<_> = file.statements(&here).collect();
        let mut text = Vec::new();
        lines[0].as_ref().unwrap_err().print(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(first, format!("{}:3:19: unknown field `uidd`", path.display()));
        assert_eq!(
            rest,
            "    -a always,exit -F uidd=0\n                      ^^^^\n    hint: did you mean `uid`?\n"
        );
        assert_eq!(lines[1].as_ref().unwrap_err().column, 5);
        assert_eq!(lines[2].as_ref().unwrap().line, 5);
    }

    #[test]
    fn of_a_long_line_the_part_around_what_is_wrong_is_printed() {
        let here = Here::find().unwrap();
        let printed = |line: &str| {
            let error = Statement::parse(line, &here).unwrap_err();
            let fault = Fault::new("x", 1, line, &error);
            let mut text = Vec::new();
            fault.print(&mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            (fault, lines)
        };
        let key = "k".repeat(100_000);
        // In the middle, at the end, as what is wrong itself.
        let (fault, lines) =
            printed(&format!("-a always,exit -F path={key} -F uidd=0 -F pid={key}"));
        assert_eq!(fault.column, 24);
        assert!(lines[1].starts_with("    -a always,exit -F path=kkk"), "{}", lines[1]);
        assert!(lines[1].ends_with("kkk..."), "{}", lines[1]);
        assert_eq!(lines[2].trim(), "^".repeat(160 - 23));
        let before = "-F pid=1 ".repeat(10_000);
        let (fault, lines) = printed(&format!("-a always,exit -F uidd=0 {before}"));
        assert_eq!((fault.column, fault.length), (19, 4));
        let under = |lines: &[String]| {
            let at = lines[2].find('^').unwrap();
            lines[1].get(at..at + lines[2].trim().len()).unwrap_or_default().to_owned()
        };
        assert_eq!(under(&lines), "uidd");
        let (fault, lines) = printed(&format!("-m {before} -x {before}"));
        assert_eq!(fault.column, 7);
        assert_eq!(under(&lines), "pid=1");
        // Where no number of columns is too large to print.
        let calls = "open,".repeat(20_000);
        let (fault, lines) = printed(&format!("-a always,exit -S {calls}open -F uidd=0"));
        assert_eq!(fault.column, 100_027);
        assert_eq!(under(&lines), "uidd");
        let line = format!("-w /{} -F uidd=1 -F pid=1 {}", "x".repeat(4000), "y".repeat(70_000));
        let (fault, lines) = printed(&line);
        assert_eq!(fault.column, 4009);
        assert_eq!(under(&lines), "uidd");
        assert!(lines[1].starts_with("    ...xxx") && lines[1].ends_with("yyy..."), "{}", lines[1]);
        let (fault, lines) = printed(&format!("-w /{} -k", "x".repeat(4000)));
        assert_eq!(fault.column, 4008);
        assert!(lines[1].ends_with("xxx -k"), "{}", lines[1]);
        assert_eq!(lines[2].len(), 4 + 3 + 160 + 1);
    }

    #[test]
    fn what_others_could_write_is_only_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.rules");
        std::fs::write(&path, "-D\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o646)).unwrap();
        assert!(RulesFile::read(&path, Trust::Anybody).is_ok());
        let failure = RulesFile::read(&path, Trust::Owner).unwrap_err();
        assert_eq!(failure.kind, Kind::Unusable);
        assert!(failure.to_string().contains("others could write"), "{failure}");
        let failure = RulesFile::read(dir.path(), Trust::Anybody).unwrap_err();
        assert!(failure.to_string().contains("no regular file"), "{failure}");
    }
}
