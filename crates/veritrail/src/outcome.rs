//! How a verb ended: what it found, or why it could not look.
//!
//! The exit codes are one list for every verb (docs/specification.md):
//! 0 good, 1 the answer is no, 2 usage, 3 the environment lacks something,
//! 4 trail tampered with, 5 unusable input, 6 I/O.

use std::error::Error;
use std::io::{self, Write};

/// What a verb found, which is not the same as whether it worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Yes: clean, found, proven.
    Good,
    /// No: a violation, nothing found, not proven.
    No,
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
            Outcome::No => 1,
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
}

impl Failure {
    /// A failure of `kind`, described by `message`.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), source: None, hint: None }
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

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::new(Kind::Io, "cannot write the output").because(error)
    }
}
