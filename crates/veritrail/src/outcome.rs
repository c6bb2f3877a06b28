//! How a verb ended: what it found, or why it could not look.
//!
//! The exit codes are one list for every verb (docs/specification.md):
//! 0 good, 1 the answer is no, 2 usage, 3 the environment lacks something,
//! 4 trail tampered with, 5 unusable input, 6 I/O.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

/// What a verb found, which is not the same as whether it worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Yes: clean, found, proven.
    Good,
    /// No: a violation, nothing found, not proven.
    No,
    /// No: there is no such device.
    Absent,
}

/// Whose fault a failure is, which decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The answer is no before anything was done: nobody vouches for what was asked for.
    Refused,
    /// The command line asks for something that makes no sense.
    Usage,
    /// This machine lacks something; the hint names the remedy.
    Environment,
    /// A trail is not what was signed.
    Tampered,
    /// The input cannot be used: format, key, passphrase.
    Unusable,
    /// The disk or the network did not do what was asked.
    Io,
}

impl Outcome {
    /// The exit status of a verb called under our own name.
    pub(crate) fn code(self) -> u8 {
        match self {
            Outcome::Good => 0,
            Outcome::No | Outcome::Absent => 1,
        }
    }
}

impl Kind {
    /// The exit status of a verb called under our own name.
    pub(crate) fn code(self) -> u8 {
        match self {
            Kind::Refused => 1,
            Kind::Usage => 2,
            Kind::Environment => 3,
            Kind::Tampered => 4,
            Kind::Unusable => 5,
            Kind::Io => 6,
        }
    }
}

/// Why a verb could not answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Whose fault it is.
    pub(crate) kind: Kind,
    /// What was being done and what is wrong, in one sentence.
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
    /// The exit status where everything was printed already, be it by another process of ours.
    passed_on: Option<u8>,
}

impl Failure {
    /// A failure of `kind`, described by `message`.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), source: None, hint: None, passed_on: None }
    }

    /// A failure of another process of ours, which has said what there was to say.
    pub(crate) fn passed_on(status: u8) -> Failure {
        let kinds = [Kind::Usage, Kind::Environment, Kind::Tampered, Kind::Unusable, Kind::Io];
        let kind = kinds.into_iter().find(|kind| kind.code() == status).unwrap_or(Kind::Io);
        Failure { passed_on: Some(status), ..Failure::new(kind, "the server did not start") }
    }

    /// A failure whose every detail was printed as the answer that was asked for.
    pub(crate) fn printed(kind: Kind) -> Failure {
        Failure { passed_on: Some(kind.code()), ..Failure::new(kind, "the answer says why not") }
    }

    /// The exit status that was passed on, if one was.
    pub(crate) fn status(&self) -> Option<u8> {
        self.passed_on
    }

    /// The same failure with its cause, printed on a line of its own.
    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        self.source = Some(source.into());
        self
    }

    /// The same failure with what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Whether this is our reader closing the pipe.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.io_kind() == Some(io::ErrorKind::BrokenPipe)
    }

    /// What the system said, if it was the system that failed.
    pub(crate) fn io_kind(&self) -> Option<io::ErrorKind> {
        self.source.as_ref()?.downcast_ref::<io::Error>().map(io::Error::kind)
    }

    /// Prints the failure, its causes one below the other, and the hint.
    pub(crate) fn print(&self, err: &mut dyn Write) {
        if self.passed_on.is_some() {
            return;
        }
        // Nobody is left to tell if standard error is gone.
        let _ = writeln!(err, "veritrail: {}", self.message);
        let mut cause: Option<&dyn Error> =
            self.source.as_ref().map(|source| &**source as &dyn Error);
        while let Some(error) = cause {
            let _ = writeln!(err, "  because: {error}");
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(err, "  hint: {hint}");
        }
    }
}

impl fmt::Display for Failure {
    /// In one line, for a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::new(Kind::Io, "cannot write the output").because(error)
    }
}
