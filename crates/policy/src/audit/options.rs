//! The options of a line, as getopt_long(3) takes them: what belongs to one stands behind it in the
//! same word or is the next, and a long one may be cut short as far as no other begins so.

use super::error::{RuleError, RuleErrorKind};
use super::words::Word;

/// Every option, and whether something belongs to it.
const OPTIONS: [(&str, bool); 30] = [
    ("-a", true),
    ("-A", true),
    ("-b", true),
    ("-c", false),
    ("-C", true),
    ("-d", true),
    ("-D", false),
    ("-e", true),
    ("-f", true),
    ("-F", true),
    ("-h", false),
    ("-i", false),
    ("-k", true),
    ("-l", false),
    ("-m", true),
    ("-p", true),
    ("-q", true),
    ("-r", true),
    ("-R", true),
    ("-s", false),
    ("-S", true),
    ("-t", false),
    ("-v", false),
    ("-w", true),
    ("-W", true),
    ("--backlog_wait_time", true),
    ("--loginuid-immutable", false),
    ("--reset-lost", false),
    ("--reset_backlog_wait_time_actual", false),
    ("--signal", true),
];

/// Those that a rule is made of; the others each are a statement.
const OF_RULES: [&str; 10] = ["-a", "-A", "-d", "-w", "-W", "-S", "-F", "-C", "-p", "-k"];

/// An option as it stands in a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'t> {
    /// Its whole name.
    pub(super) name: &'static str,
    /// The word that it is, or that it begins.
    pub(super) word: Word<'t>,
    /// What belongs to it, where that is in the same word.
    joined: Option<Word<'t>>,
}

impl<'t> Given<'t> {
    /// The option that a word is.
    ///
    /// # Errors
    /// Where it is none.
    pub(super) fn read(word: Word<'t>) -> Result<Self, RuleError> {
        let given = if word.text.starts_with("--") { Self::long(word) } else { Self::short(word) };
        given.ok_or_else(|| Self::unknown(word))
    }

    /// The same among those that a rule is made of.
    pub(super) fn of_rule(word: Word<'t>) -> Result<Self, RuleError> {
        Self::read(word)?.in_rule().ok_or_else(|| Self::unknown(word))
    }

    /// It, if a rule is made of it.
    pub(super) fn in_rule(self) -> Option<Self> {
        OF_RULES.contains(&self.name).then_some(self)
    }

    /// What belongs to it; `end` is where the line ends.
    pub(super) fn argument(
        &self,
        rest: &mut impl Iterator<Item = Word<'t>>,
        end: Word<'t>,
    ) -> Result<Word<'t>, RuleError> {
        let argument = self.joined.or_else(|| rest.next());
        argument.ok_or_else(|| RuleError::new(RuleErrorKind::Argument(self.name), end.span()))
    }

    fn short(word: Word<'t>) -> Option<Self> {
        let (option, rest) = word.split_at(2);
        let (name, takes) = *OPTIONS.iter().find(|(name, _)| *name == option.text)?;
        let joined = (!rest.text.is_empty()).then_some(rest);
        // auditctl takes a file only by a word of its own.
        let fits = joined.is_none() || (takes && name != "-R");
        fits.then_some(Self { name, word, joined })
    }

    fn long(word: Word<'t>) -> Option<Self> {
        let end = word.text.find('=');
        let (option, value) = word.split_at(end.unwrap_or(word.text.len()));
        let mut like = OPTIONS
            .iter()
            .filter(|(name, _)| name.starts_with("--") && name.starts_with(option.text));
        let (name, takes) = *like.next()?;
        let joined = end.map(|_| value.split_at(1).1);
        (like.next().is_none() && (joined.is_none() || takes)).then_some(Self {
            name,
            word,
            joined,
        })
    }

    fn unknown(word: Word<'t>) -> RuleError {
        RuleError::new(RuleErrorKind::Option(word.text.into()), word.span())
    }
}
