//! What is wrong with the text of a rule, where, and what would be right.

use std::ops::Range;

use super::rule::{List, Rule};

/// What is wrong with the text of a rule, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct RuleError {
    /// What is wrong.
    pub kind: RuleErrorKind,
    /// The bytes of the text that it is about.
    pub span: Range<usize>,
}

/// What can be wrong with the text of a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleErrorKind {
    /// There is nothing in it.
    #[error("there is no rule")]
    Empty,
    /// More than one line.
    #[error("a rule is one line")]
    Lines,
    /// An option that is none, or none of a rule.
    #[error("unknown option `{0}`")]
    Option(String),
    /// An option at the end that something belongs to.
    #[error("{0} lacks what belongs to it")]
    Argument(&'static str),
    /// Neither -a, -A, -d nor -w, or not as the first.
    #[error("{0} before the rule has begun")]
    NotBegun(&'static str),
    /// A second -a, -A, -d, -w or -W.
    #[error("the rule has begun already")]
    Begun,
    /// What follows -a, -A or -d.
    #[error("`{0}` is no list and action")]
    Head(String),
    /// A list and `possible`, which auditctl passes over.
    #[error("the action `possible` is deprecated, and makes no rule")]
    Possible,
    /// A field that is none.
    #[error("unknown field `{name}`")]
    Field {
        /// What is there.
        name: String,
        /// The field that it is most like.
        near: Option<&'static str>,
    },
    /// No operator in a condition.
    #[error("`{0}` is no comparison")]
    NoOperator(String),
    /// An operator that the field does not take.
    #[error("`{field}` does not take `{sign}`")]
    Operator {
        /// The field.
        field: &'static str,
        /// The operator.
        sign: &'static str,
        /// Those that it takes.
        allowed: &'static str,
    },
    /// A field that means nothing on this list.
    #[error("`{field}` is not known on the {} list", .list.name())]
    FieldOnList {
        /// The field.
        field: &'static str,
        /// The list.
        list: List,
    },
    /// A value that the field does not take.
    #[error("`{value}` is no value of `{field}`")]
    Value {
        /// The field.
        field: &'static str,
        /// What is there.
        value: String,
        /// What would be.
        allowed: &'static str,
    },
    /// A user, group, type, errno, architecture that is not known by this name.
    #[error("there is no {what} `{name}`")]
    Unknown {
        /// What it would be.
        what: &'static str,
        /// What is there.
        name: String,
        /// The one it is most like.
        near: Option<&'static str>,
    },
    /// Calls on a list that has none.
    #[error("the {} list is not for certain system calls", .0.name())]
    Syscalls(List),
    /// `arch` behind the calls whose numbers depend on it.
    #[error("arch stands behind the system calls that it numbers")]
    ArchBehind,
    /// Two fields that the kernel does not compare.
    #[error("`{0}` and `{1}` are not compared")]
    Comparison(&'static str, &'static str),
    /// What a rule can have once.
    #[error("a rule has {0} once")]
    Twice(&'static str),
    /// More conditions than there is room for.
    #[error("a rule has at most 64 conditions, keys together being one")]
    TooMany,
    /// What does not stand beside this option.
    #[error("this does not stand beside {0}")]
    Beside(&'static str),
    /// A value that an option does not take.
    #[error("`{value}` is no value of {option}")]
    Setting {
        /// The option.
        option: &'static str,
        /// What is there.
        value: String,
        /// What would be.
        allowed: &'static str,
    },
    /// What belongs to -q.
    #[error("`{0}` is not a mount and a subtree")]
    Equivalent(String),
    /// A text that is too long.
    #[error("{what} is {length} bytes long, and may be {most}")]
    TooLong {
        /// What of.
        what: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        most: usize,
    },
}

impl RuleError {
    pub(super) fn new(kind: RuleErrorKind, span: Range<usize>) -> Self {
        Self { kind, span }
    }

    /// What would be right, where there is anything to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let mean = |near: Option<&str>| near.map(|near| format!("did you mean `{near}`?"));
        Some(match &self.kind {
            RuleErrorKind::Empty => "-a always,exit -F arch=b64 -S execve -k run".into(),
            RuleErrorKind::Option(_) => {
                "a rule has -a, -A, -d, -S, -F, -C, -w, -W, -p and -k; other lines are -D, -e, -f, \
                 -b, -r, -c, -i, -l, -m, -q, -s, -t and those of auditctl(8) with two hyphens"
                    .into()
            }
            RuleErrorKind::Beside(_) => "write it on a line, or as a command, of its own".into(),
            RuleErrorKind::Equivalent(_) => "two absolute paths with a comma between".into(),
            RuleErrorKind::NotBegun(_) => "begin with -a LIST,ACTION or -w PATH".into(),
            RuleErrorKind::Begun => "write another rule".into(),
            RuleErrorKind::Head(_) => {
                "always or never, a comma, and user, task, exit, exclude, filesystem or io_uring"
                    .into()
            }
            RuleErrorKind::Possible => "write always or never, or leave the line out".into(),
            RuleErrorKind::Field { near, .. } => return mean(*near),
            RuleErrorKind::NoOperator(_) => {
                "a field, one of = != < <= > >= & &=, and a value, without blanks".into()
            }
            RuleErrorKind::Operator { allowed, .. }
            | RuleErrorKind::Setting { allowed, .. }
            | RuleErrorKind::Value { allowed, .. } => {
                format!("it takes {allowed}")
            }
            RuleErrorKind::FieldOnList { field, list } => match list {
                List::User | List::Exclude if *field == "key" => {
                    "leave it out: a key on this list matches nothing, and ends the kernel's search"
                        .into()
                }
                List::User | List::Exclude => {
                    "there are pid uid gid auid msgtype exe subj_* and contid".into()
                }
                List::Task => "there are fields of the task: pid, uids, gids, auid, sessionid, \
                               pers, exe, subj_* and key"
                    .into(),
                List::Filesystem => "there are fstype and key".into(),
                List::Exit | List::IoUring => "msgtype belongs to the user and exclude lists, \
                                               fstype to filesystem, perm to exit"
                    .into(),
            },
            RuleErrorKind::Unknown { near, .. } => return mean(*near),
            RuleErrorKind::Syscalls(_) => "leave -S out".into(),
            RuleErrorKind::ArchBehind => "put -F arch= before -S".into(),
            RuleErrorKind::Comparison(..) => {
                "two of auid uid euid suid fsuid obj_uid, or two of gid egid sgid fsgid obj_gid"
                    .into()
            }
            RuleErrorKind::Twice(_) => "write another rule: rules are or, conditions and".into(),
            RuleErrorKind::TooMany => format!("{} is the most", Rule::MOST_CONDITIONS),
            RuleErrorKind::Lines | RuleErrorKind::Argument(_) | RuleErrorKind::TooLong { .. } => {
                return None;
            }
        })
    }
}
