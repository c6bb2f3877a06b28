//! Which rule decides about an event, as the kernel finds it (kernel/auditsc.c, auditfilter.c of
//! Linux 6.18).
//!
//! ```text
//!   exit      rules of the list, first match  ──┐  the earlier of the two in the list decides
//!             rules of a path or an inode,      │
//!             for each file of the call       ──┘
//!   task      first match; nothing is known of a call
//!   user      first match; a field that the kernel does not know there ends the search
//!   exclude   the same, and whatever the rule says, a match means no record
//! ```
//!
//! Records do not say all that the kernel looks at: then the answer is that it cannot be told, and
//! which fact is missing.

use record::tables::syscall::Machine;

use super::facts::{Fact, Facts, Name};
use super::field::{Field, Operator};
use super::paths::{Below, at_path, at_path_inside, exe, exe_inside};
use super::rule::{Action, Condition, List, Rule, Value};

/// What the rules of a list come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The rule at this place decides.
    Rule {
        /// From 0, among the rules that were asked.
        at: usize,
        /// What it says.
        action: Action,
    },
    /// None matches.
    Nothing,
    /// The rule at this place may match or not, and it would decide.
    CannotTell {
        /// From 0.
        at: usize,
        /// What is not known.
        missing: Field,
    },
}

/// Whether a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matches {
    /// All that it asks holds.
    Yes,
    /// Something of it does not.
    No,
    /// What is known holds, and this is not known.
    CannotTell(Field),
}

/// What the rules of `list` say of an event; `rules` are those of all lists, in the kernel's order.
#[must_use]
pub fn decide<'r, R>(rules: R, list: List, facts: &Facts<'_>) -> Decision
where
    R: IntoIterator<Item = &'r Rule, IntoIter: Clone>,
{
    let rules = rules.into_iter();
    match list {
        List::Exit => at_exit(rules, facts),
        List::User | List::Exclude => of_message(rules, list, facts),
        List::Task | List::Filesystem | List::IoUring => {
            first(rules, facts, |rule| rule.list() == list)
        }
    }
}

/// Whether one rule matches by itself: of a path or an inode, for some file of the call.
#[must_use]
pub fn matches(rule: &Rule, facts: &Facts<'_>) -> Matches {
    match rule.list() {
        List::User | List::Exclude => match message(rule, facts) {
            Some(matches) => matches,
            None => Matches::No,
        },
        _ if rule.is_of_files() => {
            let mut doubt = None;
            for name in facts.names() {
                match all_hold(rule, facts, Some(name)) {
                    Matches::Yes => return Matches::Yes,
                    Matches::No => {}
                    Matches::CannotTell(missing) => doubt = doubt.or(Some(missing)),
                }
            }
            if !facts.has_all_names() {
                doubt = doubt.or(Some(Field::Path));
            }
            doubt.map_or(Matches::No, Matches::CannotTell)
        }
        _ => all_hold(rule, facts, None),
    }
}

/// The first of these that matches.
fn first<'r>(
    rules: impl Iterator<Item = &'r Rule>,
    facts: &Facts<'_>,
    of: impl Fn(&Rule) -> bool,
) -> Decision {
    for (at, rule) in rules.enumerate().filter(|(_, rule)| of(rule)) {
        match all_hold(rule, facts, None) {
            Matches::Yes => return Decision::Rule { at, action: rule.action() },
            Matches::No => {}
            Matches::CannotTell(missing) => return Decision::CannotTell { at, missing },
        }
    }
    Decision::Nothing
}

fn at_exit<'r>(rules: impl Iterator<Item = &'r Rule> + Clone, facts: &Facts<'_>) -> Decision {
    let list = first(rules.clone(), facts, |rule| rule.list() == List::Exit && !rule.is_of_files());
    let before = match list {
        Decision::Rule { at, .. } | Decision::CannotTell { at, .. } => at,
        Decision::Nothing => usize::MAX,
    };
    let of_files = rules.enumerate().take(before);
    let mut of_files = of_files.filter(|(_, rule)| rule.list() == List::Exit && rule.is_of_files());
    if of_files.clone().next().is_none() {
        return list;
    }
    for name in facts.names() {
        for (at, rule) in of_files.clone() {
            match all_hold(rule, facts, Some(name)) {
                // The kernel does not look at the files behind this one.
                Matches::Yes => return Decision::Rule { at, action: rule.action() },
                Matches::No => {}
                Matches::CannotTell(missing) => return Decision::CannotTell { at, missing },
            }
        }
    }
    match of_files.next() {
        Some((at, _)) if !facts.has_all_names() => {
            Decision::CannotTell { at, missing: Field::Path }
        }
        _ => list,
    }
}

fn of_message<'r>(
    rules: impl Iterator<Item = &'r Rule>,
    list: List,
    facts: &Facts<'_>,
) -> Decision {
    for (at, rule) in rules.enumerate().filter(|(_, rule)| rule.list() == list) {
        match message(rule, facts) {
            // The kernel gives up.
            None => return Decision::Nothing,
            Some(Matches::Yes) => {
                let action = if list == List::Exclude { Action::Never } else { rule.action() };
                return Decision::Rule { at, action };
            }
            Some(Matches::No) => {}
            Some(Matches::CannotTell(missing)) => return Decision::CannotTell { at, missing },
        }
    }
    Decision::Nothing
}

/// A rule of the lists for messages; none where it has a field that ends the search. One without
/// any condition matches nothing.
fn message(rule: &Rule, facts: &Facts<'_>) -> Option<Matches> {
    let mut doubt = None;
    for condition in rule.conditions() {
        let known = matches!(
            condition.field,
            Field::Pid
                | Field::Uid
                | Field::Gid
                | Field::Auid
                | Field::LoginUidSet
                | Field::MsgType
                | Field::SubjUser
                | Field::SubjRole
                | Field::SubjType
                | Field::SubjSen
                | Field::SubjClr
                | Field::Exe
                | Field::ContId
        );
        if !known {
            return if doubt.is_some() { doubt.map(Matches::CannotTell) } else { None };
        }
        let holds = match condition.field {
            // Further groups do not count here.
            Field::Gid => compared(facts.gids[0], condition),
            _ => holds(condition, facts, None),
        };
        match holds {
            Holds::Yes => {}
            Holds::No => return Some(Matches::No),
            Holds::Unknown => doubt = doubt.or(Some(condition.field)),
        }
    }
    Some(match doubt {
        Some(missing) => Matches::CannotTell(missing),
        None if rule.conditions().is_empty() => Matches::No,
        None => Matches::Yes,
    })
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    No,
    Unknown,
}

impl From<bool> for Holds {
    fn from(yes: bool) -> Self {
        if yes { Holds::Yes } else { Holds::No }
    }
}

impl Holds {
    /// `!=` of the kernel, where a comparison has only `=`.
    fn signed(self, operator: Operator) -> Self {
        match (self, operator) {
            (Holds::Yes, Operator::NotEqual) => Holds::No,
            (Holds::No, Operator::NotEqual) => Holds::Yes,
            _ => self,
        }
    }

    /// Yes if one of them is.
    fn any(all: impl IntoIterator<Item = Self>, complete: bool) -> Self {
        let mut sum = if complete { Holds::No } else { Holds::Unknown };
        for one in all {
            match one {
                Holds::Yes => return Holds::Yes,
                Holds::No => {}
                Holds::Unknown => sum = Holds::Unknown,
            }
        }
        sum
    }
}

fn all_hold(rule: &Rule, facts: &Facts<'_>, name: Option<&Name<'_>>) -> Matches {
    let mut doubt = None;
    if matches!(rule.list(), List::Exit | List::IoUring) {
        match facts.call {
            Fact::Known(call) if rule.syscalls().contains(call) => {}
            Fact::Known(_) | Fact::Absent => return Matches::No,
            Fact::Unknown if rule.syscalls().is_all() => {}
            // It has no field of its own; its numbers depend on this one.
            Fact::Unknown => doubt = Some(Field::Arch),
        }
    }
    for condition in rule.conditions() {
        match holds(condition, facts, name) {
            Holds::Yes => {}
            Holds::No => return Matches::No,
            // Whose it is may be known later: whoever asks is told that before anything else.
            Holds::Unknown if condition.field.is_beyond_kernels() => doubt = Some(condition.field),
            Holds::Unknown => doubt = doubt.or(Some(condition.field)),
        }
    }
    doubt.map_or(Matches::Yes, Matches::CannotTell)
}

/// `name` is the file that is asked for; none: any of the call.
fn holds(condition: &Condition, facts: &Facts<'_>, name: Option<&Name<'_>>) -> Holds {
    let Condition { field, operator, value } = condition;
    match field {
        Field::Pid => compared(facts.pid, condition),
        Field::Ppid => compared(facts.ppid, condition),
        Field::Uid => compared(facts.uids[0], condition),
        Field::Euid => compared(facts.uids[1], condition),
        Field::Suid => compared(facts.uids[2], condition),
        Field::FsUid => compared(facts.uids[3], condition),
        Field::Gid => group(facts.gids[0], facts, condition),
        Field::Egid => group(facts.gids[1], facts, condition),
        Field::Sgid => compared(facts.gids[2], condition),
        Field::FsGid => compared(facts.gids[3], condition),
        Field::Auid => compared(facts.auid, condition),
        Field::LoginUidSet => {
            compared(map(facts.auid, |auid| u32::from(auid != u32::MAX)), condition)
        }
        Field::SessionId => compared(facts.session, condition),
        Field::Pers => compared(facts.personality, condition),
        Field::Arch => compared(facts.arch, condition),
        Field::MsgType => compared(facts.kind, condition),
        Field::Exit => compared(facts.exit, condition),
        Field::Success => match value {
            // 1 is success and 2 failure, and what is asked for is one of them.
            Value::Number(number) => {
                let wanted = if *number == 0 { 2 } else { 1 };
                with(facts.success, |yes| number_is(if yes { 1 } else { 2 }, *operator, wanted))
            }
            _ => Holds::No,
        },
        Field::A0 => argument(facts, 0, condition),
        Field::A1 => argument(facts, 1, condition),
        Field::A2 => argument(facts, 2, condition),
        Field::A3 => argument(facts, 3, condition),
        Field::SaddrFam => compared(facts.family, condition),
        Field::DevMajor => of_files(facts, name, |file| {
            number(file.device.0, condition).or(number(file.is_device.0, condition))
        }),
        Field::DevMinor => of_files(facts, name, |file| {
            number(file.device.1, condition).or(number(file.is_device.1, condition))
        }),
        Field::Inode => of_files(facts, name, |file| {
            // The kernel compares 32 bits.
            number(u32::try_from(file.inode & 0xffff_ffff).unwrap_or(0), condition)
        }),
        Field::ObjUid => of_files(facts, name, |file| number(file.uid, condition)),
        Field::ObjGid => of_files(facts, name, |file| number(file.gid, condition)),
        Field::FileType => {
            let Value::Number(wanted) = value else { return Holds::No };
            let is_it =
                |file: &Name<'_>| file.inode != u64::MAX && file.mode & 0o170_000 == *wanted;
            let all = facts.names().iter().map(|file| is_it(file).into());
            Holds::any(all, facts.has_all_names()).signed(*operator)
        }
        Field::FieldCompare => fields(condition, facts, name),
        Field::Path => {
            let (Value::Text(path), Some(file)) = (value, name) else { return Holds::No };
            at_path(file, facts, path, Below::No).signed(*operator)
        }
        Field::Dir => {
            let Value::Text(path) = value else { return Holds::No };
            let all = facts.names().iter().map(|file| at_path(file, facts, path, Below::Yes));
            Holds::any(all, facts.has_all_names()).signed(*operator)
        }
        Field::Exe => {
            let Value::Text(path) = value else { return Holds::No };
            exe(facts, path).signed(*operator)
        }
        Field::ContExe | Field::ContPath | Field::ContDir => {
            let Value::Text(path) = value else { return Holds::No };
            let of_files = |below| {
                let is_it = |file| at_path_inside(file, facts, path, below);
                Holds::any(facts.names().iter().map(is_it), facts.has_all_names())
            };
            let is_it = match field {
                Field::ContExe => exe_inside(facts, path),
                Field::ContPath => of_files(Below::No),
                _ => of_files(Below::Yes),
            };
            is_it.signed(*operator).and(with(facts.container, |contid| contid != u64::MAX))
        }
        Field::Perm => match value {
            Value::Number(mask) => permission(facts, *mask).signed(*operator),
            _ => Holds::No,
        },
        Field::SubjUser => label(facts.label, 0, condition),
        Field::SubjRole => label(facts.label, 1, condition),
        Field::SubjType => label(facts.label, 2, condition),
        Field::ObjUser => of_files(facts, name, |file| label(file.label, 0, condition)),
        Field::ObjRole => of_files(facts, name, |file| label(file.label, 1, condition)),
        Field::ObjType => of_files(facts, name, |file| label(file.label, 2, condition)),
        // Levels are ordered by a policy.
        Field::SubjSen | Field::SubjClr => with_label(facts.label, |_| Holds::Unknown),
        Field::ObjLevLow | Field::ObjLevHigh => {
            of_files(facts, name, |file| with_label(file.label, |_| Holds::Unknown))
        }
        Field::ContId => match value {
            Value::Wide(wanted) => {
                with(facts.container, |contid| {
                    // Any of a chain; `!=` is that none is.
                    let mut chain = std::iter::once(contid).chain(facts.made_by);
                    let is = |contid| wide_is(contid, *operator, *wanted);
                    if *operator == Operator::NotEqual { chain.all(is) } else { chain.any(is) }
                })
            }
            _ => Holds::No,
        },
        Field::Key => Holds::Yes,
        // No call has a file system as a whole, and the kernel does not match it here either.
        Field::FsType => Holds::No,
        Field::Other(_) => Holds::Unknown,
    }
}

impl Holds {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Holds::No, _) | (_, Holds::No) => Holds::No,
            (Holds::Yes, Holds::Yes) => Holds::Yes,
            _ => Holds::Unknown,
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Holds::Yes, _) | (_, Holds::Yes) => Holds::Yes,
            (Holds::No, Holds::No) => Holds::No,
            _ => Holds::Unknown,
        }
    }
}

fn with<T: Copy>(fact: Fact<T>, holds: impl FnOnce(T) -> bool) -> Holds {
    match fact {
        Fact::Known(fact) => holds(fact).into(),
        Fact::Absent => Holds::No,
        Fact::Unknown => Holds::Unknown,
    }
}

fn map(fact: Fact<u32>, of: impl FnOnce(u32) -> u32) -> Fact<u32> {
    match fact {
        Fact::Known(fact) => Fact::Known(of(fact)),
        other => other,
    }
}

fn compared(fact: Fact<u32>, condition: &Condition) -> Holds {
    match fact {
        Fact::Known(fact) => number(fact, condition),
        Fact::Absent => Holds::No,
        Fact::Unknown => Holds::Unknown,
    }
}

fn number(left: u32, condition: &Condition) -> Holds {
    match condition.value {
        Value::Number(right) => number_is(left, condition.operator, right).into(),
        Value::Wide(_) | Value::Text(_) => Holds::No,
    }
}

/// Without a sign, whatever the field.
fn number_is(left: u32, operator: Operator, right: u32) -> bool {
    wide_is(left.into(), operator, right.into())
}

fn wide_is(left: u64, operator: Operator, right: u64) -> bool {
    match operator {
        Operator::Equal => left == right,
        Operator::NotEqual => left != right,
        Operator::Greater => left > right,
        Operator::GreaterOrEqual => left >= right,
        Operator::Less => left < right,
        Operator::LessOrEqual => left <= right,
        Operator::Mask => left & right != 0,
        Operator::Test => left & right == right,
    }
}

/// `=` and `!=` look at the further groups too, which no record has.
fn group(fact: Fact<u32>, facts: &Facts<'_>, condition: &Condition) -> Holds {
    let Value::Number(wanted) = condition.value else { return Holds::No };
    let alone = compared(fact, condition);
    let further = match facts.groups {
        Fact::Known(groups) => groups.contains(&wanted).into(),
        Fact::Absent => Holds::No,
        Fact::Unknown => Holds::Unknown,
    };
    match condition.operator {
        Operator::Equal => alone.or(further),
        Operator::NotEqual if alone == Holds::No => Holds::No,
        Operator::NotEqual => match (alone, further) {
            (_, Holds::Yes) => Holds::No,
            (Holds::Yes, Holds::No) => Holds::Yes,
            _ => Holds::Unknown,
        },
        _ => alone,
    }
}

fn argument(facts: &Facts<'_>, at: usize, condition: &Condition) -> Holds {
    match facts.arguments {
        Fact::Known(arguments) => {
            arguments.get(at).map_or(Holds::No, |argument| number(*argument, condition))
        }
        Fact::Absent => Holds::No,
        Fact::Unknown => Holds::Unknown,
    }
}

/// Of the one file, or of any.
fn of_files(
    facts: &Facts<'_>,
    name: Option<&Name<'_>>,
    holds: impl Fn(&Name<'_>) -> Holds,
) -> Holds {
    match name {
        Some(name) => holds(name),
        None => Holds::any(facts.names().iter().map(holds), facts.has_all_names()),
    }
}

/// Two fields of which the condition says how they are to each other.
fn fields(condition: &Condition, facts: &Facts<'_>, name: Option<&Name<'_>>) -> Holds {
    let Value::Number(which) = condition.value else { return Holds::No };
    let Some(both) = super::field::Comparison::from_number(which) else { return Holds::Unknown };
    let (one, other) = both.fields();
    let of_task = |field: Field| match field {
        Field::Uid => facts.uids[0],
        Field::Euid => facts.uids[1],
        Field::Suid => facts.uids[2],
        Field::FsUid => facts.uids[3],
        Field::Gid => facts.gids[0],
        Field::Egid => facts.gids[1],
        Field::Sgid => facts.gids[2],
        Field::FsGid => facts.gids[3],
        Field::Auid => facts.auid,
        _ => Fact::Unknown,
    };
    let left = match of_task(one) {
        Fact::Known(left) => left,
        Fact::Absent => return Holds::No,
        Fact::Unknown => return Holds::Unknown,
    };
    let with_file = |of: fn(&Name<'_>) -> u32| {
        let is_it = |file: &Name<'_>| Holds::from(number_is(left, condition.operator, of(file)));
        let this = name.map_or(Holds::No, is_it);
        this.or(Holds::any(facts.names().iter().map(is_it), facts.has_all_names()))
    };
    match other {
        Field::ObjUid => with_file(|file| file.uid),
        Field::ObjGid => with_file(|file| file.gid),
        other => with(of_task(other), |right| number_is(left, condition.operator, right)),
    }
}

/// user, role or type of a label.
fn label(label: Fact<&[u8]>, part: usize, condition: &Condition) -> Holds {
    let Value::Text(wanted) = &condition.value else { return Holds::No };
    with_label(label, |label| {
        let colons = label.iter().filter(|byte| **byte == b':').count();
        match label.split(|byte| *byte == b':').nth(part) {
            Some(is) if colons >= 2 => {
                Holds::from(is == wanted.as_slice()).signed(condition.operator)
            }
            // What is not of three parts is another module's than SELinux's.
            _ => Holds::Unknown,
        }
    })
}

fn with_label(label: Fact<&[u8]>, holds: impl FnOnce(&[u8]) -> Holds) -> Holds {
    match label {
        Fact::Known(label) => holds(label),
        Fact::Absent => Holds::No,
        Fact::Unknown => Holds::Unknown,
    }
}

const READ: u32 = 4;
const WRITE: u32 = 2;
const EXECUTE: u32 = 1;
const ATTRIBUTES: u32 = 8;

/// Whether a call does one of these: r 4, w 2, x 1, a 8 (`audit_match_perm`).
fn permission(facts: &Facts<'_>, mask: u32) -> Holds {
    let (arch, call) = match (facts.arch, facts.call) {
        (Fact::Known(arch), Fact::Known(call)) => (arch, call),
        (Fact::Absent, _) | (_, Fact::Absent) => return Holds::No,
        _ => return Holds::Unknown,
    };
    let Some(machine) = Machine::from_audit_arch(arch).filter(|machine| machine.has_syscalls())
    else {
        return Holds::Unknown;
    };
    let opened = |flags: u32| {
        let way = match flags & 3 {
            0 => READ,
            1 => WRITE,
            _ => READ | WRITE,
        };
        way & mask != 0
    };
    let argument = |at: usize| match facts.arguments {
        Fact::Known(arguments) => Fact::Known(arguments.get(at).copied().unwrap_or(0)),
        Fact::Absent => Fact::Absent,
        Fact::Unknown => Fact::Unknown,
    };
    match machine.syscall(call) {
        Some("open") => with(argument(1), opened),
        Some("openat") => with(argument(2), opened),
        Some("openat2") => with(facts.open_flags, opened),
        Some("execve" | "execveat") => (mask & EXECUTE != 0).into(),
        // 2 is bind.
        Some("socketcall") => with(argument(0), |which| which == 2 && mask & WRITE != 0),
        Some(name) => match class(name) {
            Some(class) => (class & mask != 0).into(),
            None => Holds::Unknown,
        },
        None => Holds::Unknown,
    }
}

/// What a call does to files (include/asm-generic/audit_*.h); none where kernels differ.
fn class(call: &str) -> Option<u32> {
    Some(match call {
        "rename" | "mkdir" | "rmdir" | "creat" | "unlink" | "symlink" | "mknod" | "mkdirat"
        | "mknodat" | "unlinkat" | "renameat" | "symlinkat" | "renameat2" | "acct" | "swapon"
        | "truncate" | "truncate64" | "ftruncate" | "ftruncate64" | "bind" | "fallocate" => WRITE,
        "link" | "linkat" => WRITE | ATTRIBUTES,
        "quotactl" => READ | WRITE,
        "readlink" | "readlinkat" | "listxattr" | "llistxattr" | "flistxattr" | "getxattr"
        | "lgetxattr" | "fgetxattr" => READ,
        "chmod" | "fchmod" | "chown" | "lchown" | "fchown" | "chown32" | "lchown32"
        | "fchown32" | "setxattr" | "lsetxattr" | "fsetxattr" | "removexattr" | "lremovexattr"
        | "fremovexattr" | "fchownat" | "fchmodat" => ATTRIBUTES,
        // Linux 6.18 has them in a class, and older ones had not.
        "fchmodat2" | "setxattrat" | "removexattrat" | "getxattrat" | "listxattrat" => {
            return None;
        }
        _ => 0,
    })
}
