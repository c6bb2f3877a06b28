//! A rule in auditctl's words.
//!
//! As `auditctl -l` of 3.0.9 prints it, but where that is no rule or another one: a file's type is
//! its name, `exe!=` stays that, a watch whose action is `never` or whose fields stand in another
//! order is written with -a, `arch` stays where it is among the conditions, an architecture that is
//! not this machine's has its name, and a blank in a path, and a backslash that must, has a backslash
//! before it.

use std::fmt::Write;

use record::RecordType;
use record::interpret::{EventContext, Interpreter, Names, Reading};
use record::tables::syscall::Machine;
use record::tables::{errno, name_of, process};

use super::field::{Comparison, FILE_TYPES, FS_TYPES, Field, Kind, Operator, PERMISSIONS};
use super::parse::{bits_of, native};
use super::rule::{Action, Condition, List, Rule, Value};
use super::words::push_escaped;

impl Rule {
    /// The rule in auditctl's words, where `b64` and `b32` are the architectures of `machine`.
    #[must_use]
    pub fn to_text(&self, machine: Machine) -> String {
        self.print(machine, None)
    }

    /// The same with more names, as `auditctl -l -i` prints it, for people only: arguments of a rule
    /// for one call are what they are to that.
    #[must_use]
    pub fn to_names(&self, machine: Machine, names: &dyn Names) -> String {
        self.print(machine, Some(names))
    }

    fn print(&self, machine: Machine, names: Option<&dyn Names>) -> String {
        let mut line = String::new();
        if let Some((path, perm, keys)) = self.as_watch() {
            line.push_str("-w ");
            push_escaped(path, &mut line);
            line.push_str(" -p ");
            push_permissions(perm, &mut line);
            for key in keys {
                line.push_str(" -k ");
                push_escaped(key, &mut line);
            }
            return line;
        }
        let _ = write!(line, "-a {},{}", self.action.name(), self.list.name());
        // The names of calls need the architecture, so -S stands behind it.
        let arch = self.conditions.iter().rposition(|condition| condition.field == Field::Arch);
        let (before, behind) = self.conditions.split_at(arch.map_or(0, |at| at + 1));
        let mut manner = Manner { machine, names, call: None };
        for condition in before {
            manner.push(condition, &mut line);
        }
        let numbering = before.last().and_then(|condition| match condition.value {
            Value::Number(arch) => Machine::from_audit_arch(arch),
            Value::Text(_) | Value::Wide(_) => None,
        });
        let mut calls = self.syscalls.iter();
        if self.list == List::Exit
            && let (Some(number), None) = (calls.next(), calls.next())
        {
            let syscall = Some(number);
            let context = EventContext { machine: numbering, syscall, ..EventContext::default() };
            manner.call = names.map(|names| (names, context));
        }
        let numbering = if arch.is_some() { numbering } else { Some(machine) };
        self.push_calls(numbering, &mut line);
        for condition in behind {
            manner.push(condition, &mut line);
        }
        line
    }

    fn push_calls(&self, machine: Option<Machine>, line: &mut String) {
        if !self.list.has_syscalls() {
            return;
        }
        if self.syscalls.is_all() {
            return line.push_str(" -S all");
        }
        for (index, number) in self.syscalls.iter().enumerate() {
            line.push_str(if index == 0 { " -S " } else { "," });
            let name = match self.list {
                List::IoUring => name_of(process::URING, number),
                _ => machine.and_then(|machine| machine.syscall(number)),
            };
            match name {
                Some(name) => line.push_str(name),
                None => {
                    let _ = write!(line, "{number}");
                }
            }
        }
    }

    /// Path, permissions and keys, where -w makes just this rule.
    fn as_watch(&self) -> Option<(&[u8], u32, impl Iterator<Item = &[u8]>)> {
        let (path, perm) = match self.conditions.as_slice() {
            [path, perm] => (path, perm),
            [path, perm, key] if key.field == Field::Key => (path, perm),
            _ => return None,
        };
        let (Value::Text(text), Value::Number(bits)) = (&path.value, &perm.value) else {
            return None;
        };
        let whole = self.list == List::Exit
            && self.action == Action::Always
            && self.syscalls.is_all()
            && matches!(path.field, Field::Path | Field::Dir)
            && perm.field == Field::Perm
            && self.conditions.iter().all(|condition| condition.operator == Operator::Equal)
            // -w takes a slash at the end away.
            && (text.as_slice() == b"/" || text.last() != Some(&b'/'))
            && (1..16).contains(bits);
        whole.then(|| (text.as_slice(), *bits, self.keys()))
    }
}

/// How the conditions are printed.
struct Manner<'n> {
    machine: Machine,
    /// Where there are some, architectures have their names, and what is unset has none.
    names: Option<&'n dyn Names>,
    /// The only call, and what of its arguments was printed.
    call: Option<(&'n dyn Names, EventContext)>,
}

impl Manner<'_> {
    fn push(&mut self, condition: &Condition, line: &mut String) {
        let Condition { field, operator, value } = condition;
        let argument = matches!(field, Field::A0 | Field::A1 | Field::A2 | Field::A3);
        match (&mut self.call, value, field.name()) {
            (Some((names, context)), Value::Number(number), Some(name)) if argument => {
                match field {
                    Field::A0 => context.a0 = u64::from(*number),
                    Field::A1 => context.a1 = u64::from(*number),
                    _ => {}
                }
                let of = Reading { kind: RecordType::SYSCALL, enriched: b"", context: *context };
                let (mut meaning, digits) = (Vec::new(), format!("{number:x}"));
                let interpreter = Interpreter::new(*names);
                interpreter.value(&of, name.as_bytes(), digits.as_bytes(), &mut meaning);
                let meaning = String::from_utf8_lossy(&meaning);
                let _ = write!(line, " -F {name}{}{meaning}", operator.sign());
            }
            _ => push_condition(condition, self.machine, self.names.is_some(), line),
        }
    }
}

fn push_condition(condition: &Condition, machine: Machine, named: bool, line: &mut String) {
    let Condition { field, operator, value } = condition;
    let sign = operator.sign();
    let Some(row) = field.row() else {
        let Value::Number(number) = value else { return };
        let _ = write!(line, " -F f{}{sign}{number}", field.number());
        return;
    };
    match value {
        Value::Number(number) if row.kind == Kind::Comparison => {
            let Some(comparison) = Comparison::from_number(*number) else {
                let _ = write!(line, " -F {}{sign}{number}", row.name);
                return;
            };
            let (one, other) = comparison.fields();
            let name = |field: Field| field.name().unwrap_or_default();
            let _ = write!(line, " -C {}{sign}{}", name(one), name(other));
        }
        Value::Number(number) => {
            let _ = write!(line, " -F {}{sign}", row.name);
            push_number(*number, row.kind, machine, named, line);
        }
        Value::Wide(u64::MAX) => {
            let _ = write!(line, " -F {}{sign}unset", row.name);
        }
        Value::Wide(wide) => {
            let _ = write!(line, " -F {}{sign}{wide}", row.name);
        }
        Value::Text(text) if row.kind == Kind::Key => {
            for key in text.split(|byte| *byte == Rule::KEY_SEPARATOR) {
                let _ = write!(line, " -F {}{sign}", row.name);
                push_escaped(key, line);
            }
        }
        Value::Text(text) => {
            let _ = write!(line, " -F {}{sign}", row.name);
            push_escaped(text, line);
        }
    }
}

fn push_number(number: u32, kind: Kind, machine: Machine, named: bool, line: &mut String) {
    let signed = number.cast_signed();
    let name = match kind {
        Kind::Arch if named => Machine::from_audit_arch(number).map(Machine::name),
        Kind::LoginUid | Kind::Session if named && number == u32::MAX => Some("unset"),
        Kind::Arch => match (Machine::from_audit_arch(number), native(machine)) {
            (Some(known), (long, _)) if Some(known) == long => Some("b64"),
            (Some(known), (_, short)) if Some(known) == short => Some("b32"),
            (known, _) => known.map(Machine::name),
        },
        Kind::Type => u16::try_from(number).ok().and_then(|number| RecordType(number).name()),
        Kind::FileType => name_of(FILE_TYPES, number),
        Kind::FsType => name_of(FS_TYPES, number),
        Kind::Exit if signed < 0 => errno::errno(signed.unsigned_abs()).map(|(name, _)| name),
        _ => None,
    };
    let _ = match (name, kind) {
        (Some(name), Kind::Exit) => write!(line, "-{name}"),
        (Some(name), _) => write!(line, "{name}"),
        (None, Kind::Hex) => write!(line, "0x{number:X}"),
        (None, Kind::Arch) => write!(line, "0x{number:x}"),
        (None, Kind::Unsigned) => write!(line, "{number}"),
        (None, Kind::Perm) if bits_of(number).is_some() => {
            push_permissions(number, line);
            Ok(())
        }
        (None, _) => write!(line, "{signed}"),
    };
}

fn push_permissions(bits: u32, line: &mut String) {
    line.extend(PERMISSIONS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, letter)| letter));
}
