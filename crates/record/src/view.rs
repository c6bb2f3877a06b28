//! Records as checked types: a view says which fields a record has and what each
//! of them is. What has no view is read by its [`Fields`].
//!
//! Fields are found by name (their order changed between kernels), the first of a
//! name counts. A word that no table here knows is kept ([`Or::Other`]): a newer
//! kernel may say more, and interpreted text has names where records have numbers.

mod container;
mod dm;
mod execve;
mod integrity;
mod ipe;
mod kinds;
mod syscall;
mod time;
mod user;

pub use container::{ContainerId, ContainerOp};
pub use dm::{DmCtrl, DmEvent};
pub use execve::Execve;
pub use integrity::{EvmXattr, Integrity, IntegrityRule, PolicyRule};
pub use ipe::{Hook, IpeAccess, IpeConfigChange, IpePolicyLoad, Operation};
pub use kinds::{Dev, Hex, Id, Mode, Or};
pub use syscall::{Cwd, NetfilterPkt, Path, Proctitle, Sockaddr, Syscall, Task};
pub use time::{NtpValue, TimeAdjNtpVal, TimeInjOffset};
pub use user::{ConfigChange, User};

use crate::fields::Fields;
use crate::line::Line;
use crate::names::RecordType;
use crate::value::Value;

/// Whether a record tells of data that is not what was promised.
#[must_use]
pub fn is_violation(line: &Line<'_>) -> bool {
    match line.effective_type() {
        RecordType::DM_EVENT => DmEvent::read(line).is_ok_and(|event| !event.res),
        RecordType::VT_FEC => true,
        RecordType::IPE_ACCESS => IpeAccess::read(line)
            .is_ok_and(|access| memchr::memmem::find(access.rule.text(), b"action=DENY").is_some()),
        RecordType(1800..=1899) => Integrity::read(line).is_ok_and(|record| !record.res),
        _ => false,
    }
}

/// Why a record is not what its type promises.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The view is of other types.
    #[error("a {found} record, where {expected} was expected")]
    Type {
        /// The type of the record.
        found: RecordType,
        /// The name of the view.
        expected: &'static str,
    },
    /// A field that always stands in this record does not.
    #[error("the field {field}= is missing")]
    Missing {
        /// Its name.
        field: String,
    },
    /// A field does not hold what it always holds.
    #[error("{field}={} is not {expected}", .found.escape_ascii())]
    Value {
        /// Its name.
        field: &'static str,
        /// What it holds, its first 64 bytes.
        found: Vec<u8>,
        /// What it should hold.
        expected: &'static str,
    },
}

/// A record as a type.
pub trait View<'a>: Sized {
    /// Its name in errors.
    const NAME: &'static str;

    /// Whether records of this type have this view.
    fn accepts(kind: RecordType) -> bool;

    /// Reads the fields of a body, which may be interpreted text.
    ///
    /// # Errors
    /// The first field that is missing or unreadable.
    fn from_fields(fields: &Fields<'a>) -> Result<Self, ViewError>;

    /// Reads a record.
    ///
    /// # Errors
    /// When the record is of another type, or a field is missing or unreadable.
    fn read(line: &Line<'a>) -> Result<Self, ViewError> {
        let found = line.effective_type();
        if !Self::accepts(found) {
            return Err(ViewError::Type { found, expected: Self::NAME });
        }
        Self::from_fields(&line.fields())
    }
}

/// What a field can be.
trait Kind<'a>: Sized {
    /// As an error says it.
    const WHAT: &'static str;

    fn from_value(value: Value<'a>) -> Option<Self>;

    /// What a missing field stands for, if it may be missing.
    fn absent() -> Option<Self> {
        None
    }
}

fn field<'a, T: Kind<'a>>(fields: &Fields<'a>, name: &'static str) -> Result<T, ViewError> {
    let Some(value) = fields.clone().find_value(name.as_bytes()) else {
        return T::absent().ok_or_else(|| ViewError::Missing { field: name.to_string() });
    };
    T::from_value(value).ok_or_else(|| {
        let found = value.text();
        let found = found[..found.len().min(64)].to_vec();
        ViewError::Value { field: name, found, expected: T::WHAT }
    })
}

/// A view from a table of its fields. The first line names the types; a last
/// line `task` means the task block of [`Task`].
macro_rules! view {
    ($(#[$doc:meta])* $name:ident $(<$life:lifetime>)? ($($kind:ident)*) {
        $($(#[$fdoc:meta])* $field:ident: $type:ty = $key:literal,)*
    } $($task:ident)?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name $(<$life>)? {
            $($(#[$fdoc])* pub $field: $type,)*
            $(
                /// The task that did it.
                pub $task: crate::view::Task<'a>,
            )?
        }

        impl<'a> crate::view::View<'a> for $name $(<$life>)? {
            const NAME: &'static str = stringify!($name);

            fn accepts(kind: crate::RecordType) -> bool {
                [$(crate::RecordType::$kind),*].contains(&kind)
            }

            fn from_fields(fields: &crate::Fields<'a>) -> Result<Self, crate::view::ViewError> {
                Ok($name {
                    $($field: crate::view::field(fields, $key)?,)*
                    $($task: crate::view::View::from_fields(fields)?,)?
                })
            }
        }
    };
}
use view;

#[cfg(test)]
mod tests;
