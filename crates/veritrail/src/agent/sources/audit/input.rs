//! `audit.input`: where records come from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Who reads the kernel's records, and how they come here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum AuditInput {
    /// The agent itself.
    #[default]
    Netlink,
    /// auditd, whose af_unix plugin listens there.
    Unix(PathBuf),
    /// auditd, which starts our plugin with events on its standard input.
    Stdin,
}

/// `sun_path` of a socket's address, without the NUL that ends it.
const LONGEST_PATH: usize = 107;

impl FromStr for AuditInput {
    type Err = String;

    fn from_str(text: &str) -> Result<AuditInput, String> {
        match (text, text.strip_prefix("unix:").map(PathBuf::from)) {
            ("netlink", _) => Ok(AuditInput::Netlink),
            ("stdin", _) => Ok(AuditInput::Stdin),
            (_, Some(path)) if !path.is_absolute() => {
                Err(format!("{} is not absolute", path.display()))
            }
            (_, Some(path)) if path.as_os_str().len() > LONGEST_PATH => {
                Err(format!("the path of a socket has {LONGEST_PATH} bytes at most"))
            }
            (_, Some(path)) => Ok(AuditInput::Unix(path)),
            _ => Err(format!("`{text}` is none of netlink, unix:PATH and stdin")),
        }
    }
}

impl fmt::Display for AuditInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuditInput::Netlink => f.write_str("netlink"),
            AuditInput::Unix(path) => write!(f, "unix:{}", path.display()),
            AuditInput::Stdin => f.write_str("stdin"),
        }
    }
}
