//! This binary run again as another process: the test named `enter` is its door.

use std::time::Duration;
use std::{env, process, thread};

use host::channel::Channel;

use crate::spawn::ROLE;

/// No process of a test lives longer.
const LIFE: Duration = Duration::from_secs(60);

/// Nothing in a test run; in a process of [`spawn`], its whole life.
#[test]
fn enter() {
    let Ok(role) = env::var(ROLE) else { return };
    thread::spawn(|| {
        thread::sleep(LIFE);
        process::exit(99);
    });
    let channel = Channel::from_stdin().unwrap();
    match role.as_str() {
        "server" => crate::serving::be_server(&channel),
        "notifier" => crate::notify::be_notifier(&channel),
        "nobody who may not open /dev/fuse" => crate::fuse::be_nobody_shut_out(&channel),
        "nobody" => crate::fuse::be_nobody(&channel),
        other => panic!("no role {other}"),
    }
    process::exit(0);
}
