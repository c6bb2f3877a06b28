//! A test binary run again as another process, with a channel to it.

use std::env;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use host::channel::{Channel, Received};

/// What the process is, in its environment.
pub(crate) const ROLE: &str = "VERITRAIL_TEST_ROLE";

/// This binary as `role`, one end of a channel as its standard input; `runner` may name a program
/// that runs it (`setpriv` with its options).
pub(crate) fn spawn(role: &str, runner: &[&str]) -> (Child, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    let this = env::current_exe().unwrap();
    let mut words = runner.iter().map(Into::into).chain([this.into_os_string()]);
    let child = Command::new(words.next().unwrap())
        .args(words)
        .args(["--exact", "role::enter", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (child, ours)
}

/// The next word of the other end, which has to come.
pub(crate) fn word(channel: &Channel) -> String {
    let mut buf = [0; 256];
    match channel.recv(&mut buf, Some(Duration::from_secs(20))).unwrap() {
        Received::Message { len, .. } => String::from_utf8(buf[..len].to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}
