//! This binary run again as another process: the test named `enter` is its door.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, process, thread};

use host::channel::Channel;

const ROLE: &str = "VERITRAIL_TEST_ROLE";
/// No process of a test lives longer.
const LIFE: Duration = Duration::from_secs(60);

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

/// Nothing in a test run; in a process of [`spawn`], its whole life.
#[test]
fn enter() {
    let Ok(role) = env::var(ROLE) else { return };
    if role != "confined" {
        thread::spawn(|| {
            thread::sleep(LIFE);
            process::exit(99);
        });
    }
    let channel = Channel::from_stdin().unwrap();
    match role.as_str() {
        "server" => crate::serving::be_server(&channel),
        "nobody" => crate::fuse::be_nobody(&channel),
        other => panic!("no role {other}"),
    }
    process::exit(0);
}
