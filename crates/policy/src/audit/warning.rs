//! What is a rule, and hardly the one that was meant.

use record::tables::syscall::Machine;

use super::field::Field;
use super::parse::{Change, native};
use super::rule::{List, Rule, Value};

/// Why a rule may be another one than was meant. auditctl 3.0.9 warns of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Calls that a 32-bit program makes by other numbers, and no `arch`.
    #[error(
        "the 32-bit calls of these numbers are others: say which are meant by -F arch=b64 or -F arch=b32 before -S"
    )]
    Numbers,
    /// `..` in a path.
    #[error("relative path notation is not supported: write the path without `..`")]
    Relative,
    /// `*` or `?` in a path.
    #[error("wildcard notation is not supported: a file of this very name is watched")]
    Wildcard,
}

impl Change {
    /// What there is to warn of on such a machine.
    #[must_use]
    pub fn warnings(&self, machine: Machine) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let rule = self.rule();
        if !matches!(self, Change::Delete(_)) && is_mixed(rule, machine) {
            warnings.push(Warning::Numbers);
        }
        for condition in rule.conditions() {
            let Value::Text(path) = &condition.value else { continue };
            if !matches!(condition.field, Field::Path | Field::Dir) {
                continue;
            }
            if path.split(|byte| *byte == b'/').any(|name| name == b"..") {
                warnings.push(Warning::Relative);
            }
            if path.iter().any(|byte| matches!(byte, b'*' | b'?')) {
                warnings.push(Warning::Wildcard);
            }
        }
        warnings
    }
}

/// Whether a number in it is one call to the machine, and another to its 32-bit programs.
fn is_mixed(rule: &Rule, machine: Machine) -> bool {
    let is_of_calls = rule.list() == List::Exit && !rule.syscalls().is_all();
    let has_arch = rule.conditions().iter().any(|condition| condition.field == Field::Arch);
    let (_, short) = native(machine);
    let Some(short) = short.filter(|short| *short != machine && short.has_syscalls()) else {
        return false;
    };
    let differs = |number| machine.syscall(number) != short.syscall(number);
    is_of_calls && !has_arch && rule.syscalls().iter().any(differs)
}
