//! A rule, whatever form it came in.

use super::field::{Field, Operator};

/// Which events, and whether there is to be a record of them. All conditions must hold; the first
/// rule of a list that matches decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    pub(super) list: List,
    pub(super) action: Action,
    pub(super) syscalls: Syscalls,
    /// At most [`Rule::MOST_CONDITIONS`], and the texts are together no longer than a `u32`
    /// counts.
    pub(super) conditions: Vec<Condition>,
}

impl Rule {
    /// `AUDIT_MAX_FIELDS`.
    pub const MOST_CONDITIONS: usize = 64;
    /// `AUDIT_MAX_KEY_LEN`: the bytes of all keys of a rule, and one between each two.
    pub const KEY_BYTES: usize = 256;
    /// What stands between two keys.
    pub const KEY_SEPARATOR: u8 = 1;

    /// The moment at which the kernel looks at it.
    #[must_use]
    pub fn list(&self) -> List {
        self.list
    }

    /// What happens where it matches.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    /// The system calls that it is for, or the operations on the io_uring list; on other lists
    /// without meaning.
    #[must_use]
    pub fn syscalls(&self) -> &Syscalls {
        &self.syscalls
    }

    /// What must hold besides.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// What of it a kernel evaluates: none that was released knows all fields here.
    #[must_use]
    pub fn in_kernel(&self) -> InKernel {
        let known = |condition: &&Condition| !condition.field.is_beyond_kernels();
        let conditions: Vec<_> = self.conditions.iter().filter(known).cloned().collect();
        if conditions.len() == self.conditions.len() {
            return InKernel::Whole;
        }
        match (self.list, self.action) {
            (List::Exit, Action::Always) => {
                InKernel::Broader(Box::new(Rule { conditions, ..self.clone() }))
            }
            _ => InKernel::Nothing,
        }
    }

    /// What is still to be asked of an event for which the kernel has found that its part holds.
    #[must_use]
    pub fn beyond_kernels(&self) -> Self {
        let left = |one: &&Condition| one.field.is_beyond_kernels() || one.field == Field::Key;
        let conditions = self.conditions.iter().filter(left).cloned().collect();
        Self { syscalls: Syscalls::ALL, conditions, ..self.clone() }
    }

    /// Whether the kernel looks at it once for each file: of those that it keeps by inode, which are not
    /// those with `inode!=`.
    #[must_use]
    pub fn is_of_files(&self) -> bool {
        self.conditions.iter().any(|one| match one.field {
            Field::Path => true,
            Field::Inode => one.operator == Operator::Equal,
            _ => false,
        })
    }

    /// Whether it is for every system call of every task, but for what `key` says.
    #[must_use]
    pub fn is_for_everything(&self) -> bool {
        let narrows = |condition: &Condition| !matches!(condition.field, Field::Key | Field::Arch);
        self.syscalls.is_all() && !self.conditions.iter().any(narrows)
    }

    /// The same rule, whose first key is this one.
    ///
    /// # Errors
    /// Where there is no room for it.
    pub fn with_key(&self, key: &[u8]) -> Result<Self, NoRoom> {
        let mut keys = key.to_vec();
        for own in self.keys() {
            keys.push(Self::KEY_SEPARATOR);
            keys.extend(own);
        }
        let mut conditions = self.conditions.clone();
        conditions.retain(|condition| condition.field != Field::Key);
        if keys.len() > Self::KEY_BYTES || conditions.len() >= Self::MOST_CONDITIONS {
            return Err(NoRoom);
        }
        let value = Value::Text(keys);
        conditions.push(Condition { field: Field::Key, operator: Operator::Equal, value });
        Ok(Self { conditions, ..self.clone() })
    }

    /// The same rule with one condition more.
    ///
    /// # Errors
    /// Where there is no room for it.
    pub fn with_condition(&self, condition: Condition) -> Result<Self, NoRoom> {
        let mut rule = self.clone();
        if rule.conditions.len() >= Self::MOST_CONDITIONS {
            return Err(NoRoom);
        }
        rule.conditions.push(condition);
        Ok(rule)
    }

    /// `never` for what this process does while it runs this program, in whatever list order it is
    /// put.
    #[must_use]
    pub fn never_of(pid: u32, exe: &[u8]) -> Self {
        let equal = |field, value| Condition { field, operator: Operator::Equal, value };
        Self {
            list: List::Exit,
            action: Action::Never,
            syscalls: Syscalls::ALL,
            conditions: vec![
                equal(Field::Pid, Value::Number(pid)),
                equal(Field::Exe, Value::Text(exe.to_vec())),
            ],
        }
    }

    /// The keys that its records have.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let of = |condition: &'_ Condition| condition.field == Field::Key;
        self.conditions.iter().filter(move |condition| of(condition)).flat_map(|condition| {
            let text = match &condition.value {
                Value::Text(text) => text.as_slice(),
                Value::Number(_) | Value::Wide(_) => &[],
            };
            text.split(|byte| *byte == Self::KEY_SEPARATOR)
        })
    }
}

/// No room for a further key, which are together at most [`Rule::KEY_BYTES`], or for a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no room for a further key: a rule has at most 64 conditions and 256 bytes of keys"
)]
pub struct NoRoom;

/// What of a rule a stock kernel evaluates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InKernel {
    /// All of it.
    Whole,
    /// This one, which matches more.
    Broader(Box<Rule>),
    /// Nothing: what it would match more must not be dropped, or is recorded anyway.
    Nothing,
}

/// When a rule is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    /// Before a message of user space is recorded.
    User,
    /// When a task is made: whether it is audited at all.
    Task,
    /// At the end of a system call.
    Exit,
    /// Before a record is made; whatever the action, a match means none.
    Exclude,
    /// When the names of a file system's entries are collected for a record.
    Filesystem,
    /// At the end of an operation of io_uring.
    IoUring,
}

/// A list, its number, its name.
const LISTS: [(List, u32, &str); 6] = [
    (List::User, 0, "user"),
    (List::Task, 1, "task"),
    (List::Exit, 4, "exit"),
    (List::Exclude, 5, "exclude"),
    (List::Filesystem, 6, "filesystem"),
    (List::IoUring, 7, "io_uring"),
];

impl List {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        LISTS.iter().find(|(_, known, _)| *known == number).map(|(list, ..)| *list)
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        LISTS.iter().find(|(.., known)| *known == name).map(|(list, ..)| *list)
    }

    /// Its number, in whose order the kernel lists rules.
    #[must_use]
    pub fn number(self) -> u32 {
        self.row().0
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u32, &'static str) {
        LISTS
            .iter()
            .find(|(list, ..)| *list == self)
            .map_or((0, ""), |(_, number, name)| (*number, name))
    }

    /// Whether a rule of this list is for certain calls.
    pub(super) fn has_syscalls(self) -> bool {
        matches!(self, List::Exit | List::IoUring)
    }
}

/// What a match means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// No record.
    Never,
    /// A record.
    Always,
}

impl Action {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Action::Never, Action::Always].into_iter().find(|action| action.name() == name)
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        [Action::Never, Action::Always].into_iter().find(|action| action.number() == number)
    }

    pub(super) fn number(self) -> u32 {
        match self {
            Action::Never => 0,
            Action::Always => 2,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::Never => "never",
            Action::Always => "always",
        }
    }
}

/// A set of system calls by number, of whatever architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Syscalls(pub(super) [u32; 64]);

impl Syscalls {
    /// None.
    pub const NONE: Self = Self([0; 64]);
    /// Every one. The last 16 numbers are none: they stand for classes of calls, which the kernel
    /// replaces by their members, so that it lists this as it is.
    pub const ALL: Self = {
        let mut mask = [u32::MAX; 64];
        mask[63] = 0xffff;
        Self(mask)
    };
    /// The numbers that there are, the classes included.
    pub const NUMBERS: u32 = 64 * 32;

    /// Whether it is in there.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        let word = usize::try_from(number / 32).ok().and_then(|word| self.0.get(word));
        word.is_some_and(|word| word >> (number % 32) & 1 == 1)
    }

    /// Whether every call is in there; the last 32 numbers, which no architecture has, do not
    /// count.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.iter().take(63).all(|word| *word == u32::MAX)
    }

    /// Those that are in there, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..Self::NUMBERS).filter(|number| self.contains(*number))
    }

    /// Puts it in, if there is such a number.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        let word = usize::try_from(number / 32).ok().and_then(|word| self.0.get_mut(word));
        word.map(|word| *word |= 1 << (number % 32)).is_some()
    }
}

/// One of the things that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// What is compared.
    pub field: Field,
    /// How.
    pub operator: Operator,
    /// With what. A text for the fields whose values are one, else a number.
    pub value: Value,
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// Of 32 bits, signed where the field is.
    Number(u32),
    /// Of 64 bits: an audit container identifier.
    Wide(u64),
    /// A path, part of a label, or keys with [`Rule::KEY_SEPARATOR`] between them.
    Text(Vec<u8>),
}
