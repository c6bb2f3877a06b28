//! A line of a rules file, or what follows `auditctl` on a command line: one grammar.

use super::error::{RuleError, RuleErrorKind};
use super::options::Given;
use super::parse::{Change, Context, number, wrong};
use super::words::{Word, push_escaped, unescape, words};

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// An empty line, or one that begins with `#`.
    Nothing,
    /// A rule: -a, -A, -d, -w and -W.
    Change(Box<Change>),
    /// -D: all rules, or those that have this in a key.
    DeleteAll {
        /// Of -k.
        key: Option<Vec<u8>>,
    },
    /// -e, -f, -b, -r and --backlog_wait_time, which may stand together.
    Set(Vec<Setting>),
    /// -l: all rules, or those that have this in a key.
    List {
        /// Of -k.
        key: Option<Vec<u8>>,
        /// -i: with names.
        interpret: bool,
    },
    /// -s
    Status {
        /// -i: with names.
        interpret: bool,
    },
    /// -m
    Message(Vec<u8>),
    /// -t
    Trim,
    /// -q
    Equivalent {
        /// Where the tree is that is watched.
        mount: Vec<u8>,
        /// What is the same tree.
        subtree: Vec<u8>,
    },
    /// --reset-lost
    ResetLost,
    /// --reset_backlog_wait_time_actual
    ResetWaited,
    /// --loginuid-immutable
    FreezeLoginUid,
    /// --signal
    Signal(Signal),
    /// -R: a file of rules.
    Read(Vec<u8>),
    /// -c: go on behind an error, and fail at the end.
    Continue,
    /// -i: go on behind an error.
    Ignore,
    /// -v
    Version,
    /// -h
    Help,
}

/// What of audit's state a line changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// -e: 0 off, 1 on, 2 locked until the machine is booted again.
    Enabled(u32),
    /// -f: what happens where a record is lost: 0 nothing, 1 a line in the log, 2 panic.
    Failure(u32),
    /// -r: records in a second; 0 for no limit.
    RateLimit(u32),
    /// -b: records that may wait; 0 for no limit.
    BacklogLimit(u32),
    /// --`backlog_wait_time`: how long who makes one then sleeps, in jiffies.
    BacklogWaitTime(u32),
}

/// What --signal sends to the audit daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `TERM`, `stop`
    Term,
    /// `HUP`, `reload`
    Hup,
    /// `USR1`, `rotate`
    Usr1,
    /// `USR2`, `resume`
    Usr2,
    /// `CONT`, `state`
    Cont,
}

const SIGNALS: [(&str, Signal); 10] = [
    ("TERM", Signal::Term),
    ("HUP", Signal::Hup),
    ("USR1", Signal::Usr1),
    ("USR2", Signal::Usr2),
    ("CONT", Signal::Cont),
    ("stop", Signal::Term),
    ("reload", Signal::Hup),
    ("rotate", Signal::Usr1),
    ("resume", Signal::Usr2),
    ("state", Signal::Cont),
];

/// Those that are settings.
const SETTINGS: [&str; 5] = ["-e", "-f", "-r", "-b", "--backlog_wait_time"];

impl Statement {
    /// A line as it stands in a file of rules, without its end.
    ///
    /// # Errors
    /// With the bytes of the first word that is wrong.
    pub fn parse(line: &str, context: &dyn Context) -> Result<Self, RuleError> {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim_start().starts_with('#') || line.trim().is_empty() {
            return Ok(Statement::Nothing);
        }
        let all = words(line);
        let mut rest = all.iter().copied();
        let Some(first) = rest.next() else { return Ok(Statement::Nothing) };
        let option = Given::read(first)?;
        if option.in_rule().is_some() {
            return Change::parse(line, context).map(|change| Statement::Change(Box::new(change)));
        }
        let end = Word { text: "", start: line.len() };
        let mut words = Rest { rest, end };
        let statement = match option.name {
            "-D" => Statement::DeleteAll { key: words.key()? },
            "-l" => match words.next() {
                None => Statement::List { key: None, interpret: false },
                Some(word) if word.text == "-i" => Statement::List { key: None, interpret: true },
                Some(word) if word.text == "-k" => {
                    let key = Some(unescape(words.argument("-k")?.text));
                    Statement::List { key, interpret: false }
                }
                Some(word) => return Err(wrong(word, RuleErrorKind::Beside("-l"))),
            },
            "-s" => match words.next() {
                None => Statement::Status { interpret: false },
                Some(word) if word.text == "-i" => Statement::Status { interpret: true },
                Some(word) => return Err(wrong(word, RuleErrorKind::Beside("-s"))),
            },
            name if SETTINGS.contains(&name) => return settings(&all, end),
            "-m" => {
                let word = option.argument(&mut words.rest, end)?;
                let text = unescape(word.text);
                if text.iter().any(|byte| *byte < b' ') {
                    let allowed = "a text without bytes below 32";
                    let (option, value) = (option.name, word.text.into());
                    return Err(wrong(word, RuleErrorKind::Setting { option, value, allowed }));
                }
                Statement::Message(text)
            }
            "-t" => Statement::Trim,
            "-q" => {
                let both = option.argument(&mut words.rest, end)?;
                let (mount, subtree) = both
                    .text
                    .split_once(',')
                    .filter(|(mount, subtree)| mount.starts_with('/') && subtree.starts_with('/'))
                    .ok_or_else(|| wrong(both, RuleErrorKind::Equivalent(both.text.into())))?;
                Statement::Equivalent { mount: unescape(mount), subtree: unescape(subtree) }
            }
            "-c" => Statement::Continue,
            "-i" => Statement::Ignore,
            "-v" => Statement::Version,
            "-h" => Statement::Help,
            "-R" => Statement::Read(unescape(option.argument(&mut words.rest, end)?.text)),
            "--reset-lost" => Statement::ResetLost,
            "--reset_backlog_wait_time_actual" => Statement::ResetWaited,
            "--loginuid-immutable" => Statement::FreezeLoginUid,
            "--signal" => {
                let word = option.argument(&mut words.rest, end)?;
                let is_it = |name: &str| match name.chars().any(char::is_lowercase) {
                    true => name == word.text,
                    false => name.eq_ignore_ascii_case(word.text),
                };
                let signal = SIGNALS.iter().find(|(name, _)| is_it(name));
                let unknown = || RuleErrorKind::Setting {
                    option: "--signal",
                    value: word.text.into(),
                    allowed: "TERM, HUP, USR1, USR2, CONT, or stop, reload, rotate, resume, state",
                };
                Statement::Signal(signal.ok_or_else(|| wrong(word, unknown()))?.1)
            }
            _ => return Err(wrong(first, RuleErrorKind::Option(first.text.into()))),
        };
        match words.next() {
            Some(more) => Err(wrong(more, RuleErrorKind::Beside(option.name))),
            None => Ok(statement),
        }
    }

    /// The words of a command line as a line of a file, of which [`Statement::parse`] makes what they
    /// say; none where one of them is empty, which no line can have.
    #[must_use]
    pub fn line(words: &[&[u8]]) -> Option<String> {
        let mut line = String::new();
        for word in words {
            if word.is_empty() {
                return None;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            push_escaped(word, &mut line);
        }
        Some(line)
    }
}

/// The words behind the first.
struct Rest<'t, I: Iterator<Item = Word<'t>>> {
    rest: I,
    end: Word<'t>,
}

impl<'t, I: Iterator<Item = Word<'t>>> Rest<'t, I> {
    fn next(&mut self) -> Option<Word<'t>> {
        self.rest.next()
    }

    fn argument(&mut self, option: &'static str) -> Result<Word<'t>, RuleError> {
        self.next().ok_or_else(|| wrong(self.end, RuleErrorKind::Argument(option)))
    }

    /// -k KEY, if there is anything.
    fn key(&mut self) -> Result<Option<Vec<u8>>, RuleError> {
        match self.next() {
            None => Ok(None),
            Some(word) if word.text == "-k" => Ok(Some(unescape(self.argument("-k")?.text))),
            Some(word) => Err(wrong(word, RuleErrorKind::Beside("-D"))),
        }
    }
}

fn settings(words: &[Word<'_>], end: Word<'_>) -> Result<Statement, RuleError> {
    let mut settings = Vec::new();
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let given = Given::read(word).ok().filter(|given| SETTINGS.contains(&given.name));
        let given = given.ok_or_else(|| wrong(word, RuleErrorKind::Beside("a setting")))?;
        let word = given.argument(&mut words, end)?;
        let option = given.name;
        // No sign.
        let digits = word.text.starts_with(|first: char| first.is_ascii_digit());
        let value = number(word.text).filter(|_| digits);
        let (value, allowed) = match option {
            "-e" | "-f" => (value.filter(|value| *value <= 2 && word.text.len() == 1), "0, 1 or 2"),
            _ => (value, "a number from 0 to 4294967295"),
        };
        let unknown = || RuleErrorKind::Setting { option, value: word.text.into(), allowed };
        let value = value.ok_or_else(|| wrong(word, unknown()))?;
        settings.push(match option {
            "-e" => Setting::Enabled(value),
            "-f" => Setting::Failure(value),
            "-r" => Setting::RateLimit(value),
            "-b" => Setting::BacklogLimit(value),
            _ => Setting::BacklogWaitTime(value),
        });
    }
    Ok(Statement::Set(settings))
}
