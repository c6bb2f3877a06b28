//! What -m sends.

use std::io::{self, IsTerminal};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use record::write::Body;

/// The text as it is, and who says it where, as `audit_log_user_message` of audit's library puts it.
pub(super) fn sent(text: &[u8]) -> Vec<u8> {
    let exe = std::fs::read_link("/proc/self/exe");
    let exe = exe.map_or_else(|_| b"?".to_vec(), |path| path.into_os_string().into_vec());
    let terminal = terminal();
    // The library says which host it is only where there is a terminal.
    let host = terminal.as_ref().map(|_| rustix::system::uname().nodename().to_bytes().to_vec());
    let word = |bytes: Option<Vec<u8>>| {
        String::from_utf8_lossy(&bytes.unwrap_or_else(|| b"?".into())).into_owned()
    };
    let who = Body::new()
        .untrusted("exe", &exe)
        .word("hostname", word(host))
        .word("addr", "?")
        .word("terminal", word(terminal))
        .word("res", "success");
    [b"text=", text, b" ", who.as_bytes()].concat()
}

/// The first of the three streams that is one, without `/dev/`.
fn terminal() -> Option<Vec<u8>> {
    let is_one =
        [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
    let at = is_one.into_iter().position(|is_one| is_one)?;
    let path = std::fs::read_link(format!("/proc/self/fd/{at}")).ok()?;
    let name = path.strip_prefix("/dev").unwrap_or(&path);
    Some(name.as_os_str().as_bytes().to_vec())
}
