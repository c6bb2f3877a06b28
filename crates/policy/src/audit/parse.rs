//! A rule from auditctl's words.

use record::RecordType;
use record::contid;
use record::names::TYPES;
use record::tables::syscall::Machine;
use record::tables::{Named, errno, process};

use super::error::{RuleError, RuleErrorKind};
use super::field::{
    Comparison, FIELDS, FILE_TYPES, FS_TYPES, Field, Kind, Operator, Operators, PERMISSIONS, Row,
};
use super::options::Given;
use super::rule::{Action, Condition, List, Rule, Syscalls, Value};
use super::words::{Word, unescape, words};

/// What the words of a rule mean on the machine that it is for.
pub trait Context {
    /// The architecture of the machine, and so of `b64` and `b32`, and of the calls where no
    /// `arch` is given.
    fn machine(&self) -> Machine;
    /// The number of a user.
    fn uid(&self, name: &str) -> Option<u32>;
    /// The number of a group.
    fn gid(&self, name: &str) -> Option<u32>;
    /// Whether a watched path is a directory.
    fn is_directory(&self, path: &[u8]) -> bool;
}

/// What a line of rules asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// -a and -w: behind the others of its list.
    Append(Rule),
    /// -A: in front of them.
    Prepend(Rule),
    /// -d and -W.
    Delete(Rule),
}

impl Change {
    /// A rule in auditctl's words, without `auditctl` before them. Numbers may be decimal,
    /// octal with a 0 and hexadecimal with 0x before them; unlike auditctl's they are never cut.
    /// Names are in any case, but for lists, actions, users, groups, `all` and `unset`.
    ///
    /// # Errors
    /// With the bytes of the first word that is wrong.
    pub fn parse(line: &str, context: &dyn Context) -> Result<Self, RuleError> {
        if let Some(at) = line.find(['\n', '\r']) {
            return Err(RuleError::new(RuleErrorKind::Lines, at..at + 1));
        }
        let words = words(line);
        let end = Word { text: "", start: line.len() };
        let mut words = words.into_iter();
        let mut rule: Option<Builder<'_>> = None;
        // What of the system calls stands before the rule's beginning.
        let mut early: Vec<(Given<'_>, Word<'_>)> = Vec::new();
        while let Some(word) = words.next() {
            let option = Given::of_rule(word)?;
            let argument = option.argument(&mut words, end)?;
            if matches!(option.name, "-a" | "-A" | "-d" | "-w" | "-W") {
                if rule.is_some() {
                    return Err(wrong(word, RuleErrorKind::Begun));
                }
                let begun = rule.insert(Builder::begin(option.name, argument, context)?);
                for (_, calls) in early.drain(..) {
                    begun.calls(calls)?;
                }
                continue;
            }
            match (&mut rule, option.name) {
                (None, "-S") => early.push((option, argument)),
                (None, name) => return Err(wrong(word, RuleErrorKind::NotBegun(name))),
                (Some(rule), "-S") => rule.calls(argument)?,
                (Some(rule), "-F") => rule.field(argument)?,
                (Some(rule), "-C") => rule.comparison(argument)?,
                (Some(rule), "-p") => rule.permissions(argument)?,
                (Some(rule), _) => rule.named_key(word, argument)?,
            }
        }
        match (rule, early.first()) {
            (Some(rule), _) => rule.finish(),
            (None, Some((calls, _))) => Err(wrong(calls.word, RuleErrorKind::NotBegun("-S"))),
            (None, None) => Err(wrong(end, RuleErrorKind::Empty)),
        }
    }

    /// The rule itself.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        match self {
            Change::Append(rule) | Change::Prepend(rule) | Change::Delete(rule) => rule,
        }
    }
}

/// `b64` and `b32` of a machine.
pub(super) fn native(machine: Machine) -> (Option<Machine>, Option<Machine>) {
    match machine {
        Machine::X86_64 | Machine::I386 => (Some(Machine::X86_64), Some(Machine::I386)),
        Machine::Aarch64 | Machine::Arm => (Some(Machine::Aarch64), Some(Machine::Arm)),
        Machine::Riscv64 => (Some(Machine::Riscv64), None),
        Machine::Ppc64le => (Some(Machine::Ppc64le), None),
        Machine::Ppc64 | Machine::Ppc => (Some(Machine::Ppc64), Some(Machine::Ppc)),
        Machine::S390x | Machine::S390 => (Some(Machine::S390x), Some(Machine::S390)),
    }
}

/// `perm`, if these are bits of it.
pub(super) fn bits_of(number: u32) -> Option<u32> {
    (1..16).contains(&number).then_some(number)
}

pub(super) fn wrong(word: Word<'_>, kind: RuleErrorKind) -> RuleError {
    RuleError::new(kind, word.span())
}

enum How {
    Append,
    Prepend,
    Delete,
}

/// A rule of which some words are read.
struct Builder<'c> {
    context: &'c dyn Context,
    how: How,
    list: List,
    action: Action,
    /// -S, if there was one.
    syscalls: Option<Syscalls>,
    /// Whose numbers -S has.
    machine: Machine,
    conditions: Vec<Condition>,
    /// The keys, which go behind all conditions.
    keys: Vec<u8>,
    /// Begun by -w: path and permissions stand before all other conditions.
    watch: bool,
}

impl<'c> Builder<'c> {
    fn begin(
        letter: &'static str,
        argument: Word<'_>,
        context: &'c dyn Context,
    ) -> Result<Self, RuleError> {
        let watch = matches!(letter, "-w" | "-W");
        let (list, action) = if watch { (List::Exit, Action::Always) } else { head(argument)? };
        let mut rule = Self {
            context,
            how: match letter {
                "-A" => How::Prepend,
                "-d" | "-W" => How::Delete,
                _ => How::Append,
            },
            list,
            action,
            syscalls: None,
            machine: context.machine(),
            conditions: Vec::new(),
            keys: Vec::new(),
            watch,
        };
        if watch {
            let mut path = unescape(argument.text);
            while path.len() > 1 && path.last() == Some(&b'/') {
                path.pop();
            }
            let field = if context.is_directory(&path) { Field::Dir } else { Field::Path };
            let value = Value::Text(checked_path(field, path, argument)?);
            rule.push(argument, Condition { field, operator: Operator::Equal, value })?;
            let value = Value::Number(15);
            let perm = Condition { field: Field::Perm, operator: Operator::Equal, value };
            rule.push(argument, perm)?;
        }
        Ok(rule)
    }

    fn calls(&mut self, argument: Word<'_>) -> Result<(), RuleError> {
        if !self.list.has_syscalls() {
            return Err(wrong(argument, RuleErrorKind::Syscalls(self.list)));
        }
        // A watch is for all of them, whatever is named beside.
        let none = if self.watch { Syscalls::ALL } else { Syscalls::NONE };
        let mut calls = self.syscalls.unwrap_or(none);
        for part in argument.split(',') {
            if part.text == "all" {
                calls = Syscalls::ALL;
                continue;
            }
            let known = self.number_of_call(part.text).filter(|number| calls.insert(*number));
            known.ok_or_else(|| wrong(part, self.unknown_call(part.text)))?;
        }
        self.syscalls = Some(calls);
        Ok(())
    }

    fn number_of_call(&self, text: &str) -> Option<u32> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            return number(text);
        }
        match self.list {
            List::IoUring => number_named(process::URING, text),
            _ => self.machine.syscall_number(text.to_ascii_lowercase().as_bytes()),
        }
    }

    fn unknown_call(&self, text: &str) -> RuleErrorKind {
        let names = (0..Syscalls::NUMBERS).filter_map(|number| match self.list {
            List::IoUring => record::tables::name_of(process::URING, number),
            _ => self.machine.syscall(number),
        });
        let what = if self.list == List::IoUring { "operation of io_uring" } else { "system call" };
        RuleErrorKind::Unknown { what, name: text.into(), near: nearest(text, names) }
    }

    fn field(&mut self, argument: Word<'_>) -> Result<(), RuleError> {
        let (name, operator, value) = comparison(argument)?;
        let known = Field::from_name(name.text).and_then(Field::row);
        let row = known.filter(|row| row.kind != Kind::Comparison).ok_or_else(|| {
            let near = nearest(name.text, FIELDS.iter().map(|row| row.name));
            wrong(name, RuleErrorKind::Field { name: name.text.into(), near })
        })?;
        self.allowed(row, operator, name)?;
        if row.kind == Kind::Key {
            return self.key(value);
        }
        if row.field == Field::Arch {
            if self.syscalls.is_some() {
                return Err(wrong(name, RuleErrorKind::ArchBehind));
            }
            self.machine = self.arch(row, value)?;
        }
        if row.kind == Kind::ContId && value.text == "set" {
            return self.in_some_container(argument, operator);
        }
        let read = self.value(row, value)?;
        // What it means that a login uid is unset has no order.
        if row.kind == Kind::LoginUid
            && read == Value::Number(u32::MAX)
            && !Operators::Equality.allow(operator)
        {
            let allowed = Operators::Equality.signs();
            let kind = RuleErrorKind::Operator { field: row.name, sign: operator.sign(), allowed };
            return Err(wrong(argument, kind));
        }
        self.push(argument, Condition { field: row.field, operator, value: read })
    }

    /// `contid=set`: it is not unset.
    fn in_some_container(
        &mut self,
        argument: Word<'_>,
        operator: Operator,
    ) -> Result<(), RuleError> {
        let operator = match operator {
            Operator::Equal => Operator::NotEqual,
            Operator::NotEqual => Operator::Equal,
            other => {
                let (field, allowed) = ("contid", Operators::Equality.signs());
                let kind = RuleErrorKind::Operator { field, sign: other.sign(), allowed };
                return Err(wrong(argument, kind));
            }
        };
        let value = Value::Wide(u64::MAX);
        self.push(argument, Condition { field: Field::ContId, operator, value })
    }

    fn allowed(&self, row: &Row, operator: Operator, name: Word<'_>) -> Result<(), RuleError> {
        if !row.place.includes(self.list) {
            let kind = RuleErrorKind::FieldOnList { field: row.name, list: self.list };
            return Err(wrong(name, kind));
        }
        if !row.operators.allow(operator) {
            let allowed = row.operators.signs();
            let kind = RuleErrorKind::Operator { field: row.name, sign: operator.sign(), allowed };
            return Err(wrong(name, kind));
        }
        Ok(())
    }

    fn comparison(&mut self, argument: Word<'_>) -> Result<(), RuleError> {
        let (one, operator, other) = comparison(argument)?;
        let named = |word: Word<'_>| {
            let near = nearest(word.text, FIELDS.iter().map(|row| row.name));
            let row = Field::from_name(word.text).and_then(Field::row);
            row.ok_or_else(|| wrong(word, RuleErrorKind::Field { name: word.text.into(), near }))
        };
        let (one, other) = (named(one)?, named(other)?);
        let row = Field::FieldCompare.row().ok_or_else(|| wrong(argument, RuleErrorKind::Empty))?;
        self.allowed(row, operator, argument)?;
        let both = Comparison::of(one.field, other.field)
            .ok_or_else(|| wrong(argument, RuleErrorKind::Comparison(one.name, other.name)))?;
        let value = Value::Number(both.number());
        self.push(argument, Condition { field: Field::FieldCompare, operator, value })
    }

    fn permissions(&mut self, argument: Word<'_>) -> Result<(), RuleError> {
        let row = Field::Perm.row().ok_or_else(|| wrong(argument, RuleErrorKind::Empty))?;
        self.allowed(row, Operator::Equal, argument)?;
        let value = self.value(row, argument)?;
        // A watch has its permissions already, behind its path.
        if self.watch
            && let Some(perm) = self.conditions.get_mut(1)
        {
            perm.value = value;
            return Ok(());
        }
        self.push(argument, Condition { field: Field::Perm, operator: Operator::Equal, value })
    }

    /// -k
    fn named_key(&mut self, option: Word<'_>, argument: Word<'_>) -> Result<(), RuleError> {
        let row = Field::Key.row().ok_or_else(|| wrong(argument, RuleErrorKind::Empty))?;
        self.allowed(row, Operator::Equal, option)?;
        self.key(argument)
    }

    fn key(&mut self, argument: Word<'_>) -> Result<(), RuleError> {
        if !self.keys.is_empty() {
            self.keys.push(Rule::KEY_SEPARATOR);
        }
        self.keys.extend(text("key", argument)?);
        within("the keys", self.keys.len(), Rule::KEY_BYTES, argument)
    }

    /// The value of a field, as it is written.
    fn value(&self, row: &Row, word: Word<'_>) -> Result<Value, RuleError> {
        let expected = |allowed| {
            let value = word.text.into();
            wrong(word, RuleErrorKind::Value { field: row.name, value, allowed })
        };
        let unknown =
            |what, near| wrong(word, RuleErrorKind::Unknown { what, name: word.text.into(), near });
        let among = |what, table: Named| {
            number_named(table, word.text)
                .or_else(|| number(word.text))
                .ok_or_else(|| unknown(what, nearest(word.text, table.iter().map(|row| row.1))))
        };
        let plain = "a number from -2147483648 to 4294967295";
        let read = match row.kind {
            Kind::Number | Kind::Unsigned | Kind::Hex => {
                number(word.text).ok_or_else(|| expected(plain))?
            }
            Kind::Flag => {
                number(word.text).filter(|flag| *flag <= 1).ok_or_else(|| expected("0 or 1"))?
            }
            // AF_MAX of Linux 6.12 is 46.
            Kind::Family => number(word.text).filter(|family| *family < 46).ok_or_else(|| {
                expected("a number below 46: 1 for unix, 2 for inet, 10 for inet6, 16 for netlink")
            })?,
            Kind::Session if word.text == "unset" => u32::MAX,
            Kind::Session => {
                number(word.text).ok_or_else(|| expected("the number of a session, or unset"))?
            }
            Kind::LoginUid if word.text == "unset" => u32::MAX,
            Kind::LoginUid => self.user(word).ok_or_else(|| unknown("user", None))?,
            // The kernel knows no such id.
            Kind::Uid | Kind::Gid if matches!(number(word.text), Some(u32::MAX)) => {
                return Err(expected(
                    "a name or a number below 4294967295; only auid is ever unset",
                ));
            }
            Kind::Uid => self.user(word).ok_or_else(|| unknown("user", None))?,
            Kind::Gid => number(word.text)
                .or_else(|| self.context.gid(word.text))
                .ok_or_else(|| unknown("group", None))?,
            Kind::Arch => self.arch(row, word)?.audit_arch(),
            Kind::Type => RecordType::from_name(word.text.as_bytes())
                .map(|known| u32::from(known.0))
                .or_else(|| number(word.text))
                .ok_or_else(|| {
                    unknown("record type", nearest(word.text, TYPES.iter().map(|row| row.1)))
                })?,
            Kind::Exit => exit(word.text).ok_or_else(|| {
                let names = errno::ERRNO.iter().map(|row| row.1);
                unknown("error", nearest(word.text.trim_start_matches('-'), names))
            })?,
            Kind::Perm => permissions(word.text).ok_or_else(|| expected("letters of rwxa"))?,
            Kind::FileType => {
                let kind = among("type of file", FILE_TYPES)?;
                let is_one = FILE_TYPES.iter().any(|(known, _)| *known == kind);
                is_one.then_some(kind).ok_or_else(|| unknown("type of file", None))?
            }
            Kind::FsType => among("file system here", FS_TYPES)?,
            Kind::ContId => {
                let id = contid::parse_filter(word.text.as_bytes());
                let what = "a number from 0 to 18446744073709551615, set or unset";
                return id.map(|id| Value::Wide(id.0)).ok_or_else(|| expected(what));
            }
            Kind::Comparison => return Err(expected("two fields, by -C")),
            Kind::Label => {
                let label = text(row.name, word)?;
                within(row.name, label.len(), PATH_BYTES, word)?;
                return Ok(Value::Text(label));
            }
            Kind::Path => {
                return checked_path(row.field, unescape(word.text), word).map(Value::Text);
            }
            Kind::Key => return text(row.name, word).map(Value::Text),
        };
        Ok(Value::Number(read))
    }

    fn user(&self, word: Word<'_>) -> Option<u32> {
        number(word.text).or_else(|| self.context.uid(word.text))
    }

    fn arch(&self, row: &Row, word: Word<'_>) -> Result<Machine, RuleError> {
        let (long, short) = native(self.context.machine());
        let known = match word.text.to_ascii_lowercase().as_str() {
            "b64" => long,
            "b32" => short,
            text => number(text)
                .and_then(Machine::from_audit_arch)
                .or_else(|| Machine::from_name(text.as_bytes())),
        };
        known.ok_or_else(|| {
            let value = word.text.into();
            let allowed = "b64, b32, or a name as of uname -m";
            wrong(word, RuleErrorKind::Value { field: row.name, value, allowed })
        })
    }

    /// One condition more, if the kernel takes it beside the others.
    fn push(&mut self, word: Word<'_>, condition: Condition) -> Result<(), RuleError> {
        let has = |fields: &[Field]| {
            self.conditions.iter().any(|earlier| fields.contains(&earlier.field))
        };
        let twice = match condition.field {
            Field::Path | Field::Dir | Field::Inode
                if has(&[Field::Path, Field::Dir, Field::Inode]) =>
            {
                Some("path, dir or inode")
            }
            Field::Exe if has(&[Field::Exe]) => Some("exe"),
            _ => None,
        };
        if let Some(what) = twice {
            return Err(wrong(word, RuleErrorKind::Twice(what)));
        }
        // One place is for the keys.
        if self.conditions.len() + 1 >= Rule::MOST_CONDITIONS {
            return Err(wrong(word, RuleErrorKind::TooMany));
        }
        self.conditions.push(condition);
        Ok(())
    }

    fn finish(mut self) -> Result<Change, RuleError> {
        if !self.keys.is_empty() {
            let value = Value::Text(self.keys);
            self.conditions.push(Condition { field: Field::Key, operator: Operator::Equal, value });
        }
        let syscalls = match self.syscalls {
            Some(calls) => calls,
            None if self.list == List::Task => Syscalls::NONE,
            None => Syscalls::ALL,
        };
        let rule =
            Rule { list: self.list, action: self.action, syscalls, conditions: self.conditions };
        Ok(match self.how {
            How::Append => Change::Append(rule),
            How::Prepend => Change::Prepend(rule),
            How::Delete => Change::Delete(rule),
        })
    }
}

/// `list,action` or `action,list`.
fn head(argument: Word<'_>) -> Result<(List, Action), RuleError> {
    let both = argument.text.split_once(',').and_then(|(one, other)| {
        let read = |list: &str, action: &str| List::from_name(list).zip(Action::from_name(action));
        read(one, other).or_else(|| read(other, one))
    });
    both.ok_or_else(|| {
        let deprecated = argument
            .text
            .split_once(',')
            .is_some_and(|(list, action)| List::from_name(list).is_some() && action == "possible");
        let kind = match deprecated {
            true => RuleErrorKind::Possible,
            false => RuleErrorKind::Head(argument.text.into()),
        };
        wrong(argument, kind)
    })
}

/// What is compared, how, and with what.
fn comparison(argument: Word<'_>) -> Result<(Word<'_>, Operator, Word<'_>), RuleError> {
    let none = || wrong(argument, RuleErrorKind::NoOperator(argument.text.into()));
    let at = argument.text.find(['=', '!', '<', '>', '&']).ok_or_else(none)?;
    let (name, rest) = argument.split_at(at);
    let operator = Operator::leading(rest.text).ok_or_else(none)?;
    let (_, value) = rest.split_at(operator.sign().len());
    if name.text.is_empty() || value.text.is_empty() {
        return Err(none());
    }
    Ok((name, operator, value))
}

/// A number as strtol(3) reads it with base 0, that 32 bits hold.
pub(super) fn number(text: &str) -> Option<u32> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    if !digits.bytes().all(|digit| digit.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i64::from_str_radix(digits, radix).ok()?;
    if negative {
        i32::try_from(-number).ok().map(i32::cast_unsigned)
    } else {
        u32::try_from(number).ok()
    }
}

/// What a call returned: a number or the name of an error, which is returned as its negative.
fn exit(text: &str) -> Option<u32> {
    let named =
        |name: &str| errno::number(name.to_ascii_uppercase().as_bytes()).map(u32::cast_signed);
    let code = match text.strip_prefix('-') {
        Some(name) => named(name).map(|code| -code),
        None => named(text),
    };
    code.map(i32::cast_unsigned).or_else(|| number(text))
}

fn permissions(text: &str) -> Option<u32> {
    let bit = |letter: char| {
        let letter = letter.to_ascii_lowercase();
        PERMISSIONS.iter().find(|(_, known)| *known == letter).map(|(bit, _)| bit)
    };
    let bits = text.chars().try_fold(0, |bits, letter| Some(bits | bit(letter)?))?;
    bits_of(bits)
}

fn number_named(table: Named, name: &str) -> Option<u32> {
    table.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(number, _)| *number)
}

/// `PATH_MAX`, the NUL included.
const PATH_BYTES: usize = 4096;

/// A text that has no NUL, where the kernel would cut it.
fn text(field: &'static str, word: Word<'_>) -> Result<Vec<u8>, RuleError> {
    let bytes = unescape(word.text);
    if bytes.contains(&0) || bytes.is_empty() {
        let allowed = "a text without NUL";
        let kind = RuleErrorKind::Value { field, value: word.text.into(), allowed };
        return Err(wrong(word, kind));
    }
    Ok(bytes)
}

fn checked_path(field: Field, path: Vec<u8>, word: Word<'_>) -> Result<Vec<u8>, RuleError> {
    let name = field.name().unwrap_or_default();
    // A slash at its end is a directory's.
    let of_directory = matches!(field, Field::Dir | Field::ContDir);
    let ends_well = of_directory || path.last() != Some(&b'/');
    if path.first() != Some(&b'/') || !ends_well || path.contains(&0) {
        let allowed = match of_directory {
            true => "an absolute path without NUL",
            false => "an absolute path without NUL or a slash at its end",
        };
        let kind = RuleErrorKind::Value { field: name, value: word.text.into(), allowed };
        return Err(wrong(word, kind));
    }
    within(name, path.len(), PATH_BYTES - 1, word)?;
    Ok(path)
}

fn within(what: &'static str, length: usize, most: usize, word: Word<'_>) -> Result<(), RuleError> {
    if length > most {
        return Err(wrong(word, RuleErrorKind::TooLong { what, length, most }));
    }
    Ok(())
}

/// The one that differs least, if it is at most two changes away.
fn nearest(word: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // No name is longer, and the distance of a long word takes long.
    if word.len() > 40 {
        return None;
    }
    names
        .map(|name| (strsim::osa_distance(word, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 2 && *distance < name.len())
        .map(|(_, name)| name)
}
