//! What is said where the kernel does not let a process near audit: this binary again, by
//! unshare(1) and setpriv(1).

use std::env;
use std::process::Command;
use std::time::Duration;

use host::audit::{Control, Error, Stream};

use crate::auditing::Auditing;

const ROLE: &str = "VERITRAIL_TEST_AUDIT_ROLE";

/// Nothing in a test run; by [`said`], one line for each thing tried.
#[test]
fn try_everything() {
    if env::var_os(ROLE).is_none() {
        return;
    }
    let line = |name: &str, result: Result<(), Error>| match result {
        Ok(()) => println!("{name}: done"),
        Err(error) => println!("{name}: {error}"),
    };
    let mut control = Control::open().unwrap();
    line("status", control.status().map(drop));
    line("enable", control.set_enabled(true));
    line("message", control.send_user(1121, b"op=test"));
    line("multicast", Stream::multicast(1 << 16).map(drop));
    line("register", Stream::register(1 << 16).and_then(Stream::close));
}

/// What [`try_everything`] says, run by `wrapper`.
fn said(test: &str, wrapper: &[&str]) -> Option<String> {
    let (program, args) = wrapper.split_first()?;
    let output = Command::new("timeout")
        .arg(Duration::from_secs(60).as_secs().to_string())
        .arg(program)
        .args(args)
        .arg(env::current_exe().unwrap())
        .args(["--exact", "namespaces::try_everything", "--nocapture", "--test-threads=1"])
        .env(ROLE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !said.contains("register: ") {
        let error = String::from_utf8_lossy(&output.stderr);
        eprintln!("SKIPPED: {test}: {program}: {}", error.lines().next().unwrap_or_default());
        return None;
    }
    Some(said)
}

fn expect(test: &str, wrapper: &[&str], lines: &[(&str, &str)]) {
    let Some(said) = said(test, wrapper) else { return };
    for (name, words) in lines {
        let line = said.lines().find_map(|line| line.split_once(&format!("{name}: ")));
        let (_, line) = line.unwrap_or_else(|| panic!("{name}: {said}"));
        assert!(line.contains(words), "{wrapper:?}: {name}: {line}");
    }
}

#[test]
fn why_the_kernel_refuses_is_said_with_the_remedy() {
    let test = "why_the_kernel_refuses_is_said_with_the_remedy";
    let Some(auditing) = Auditing::begin(test) else { return };
    let user = "initial user namespace";
    expect(
        test,
        &["unshare", "--user", "--map-root-user"],
        &[
            ("status", user),
            ("enable", user),
            ("message", user),
            ("multicast", user),
            ("register", user),
        ],
    );
    let pid = "--pid=host";
    expect(
        test,
        &["unshare", "--pid", "--fork"],
        &[
            ("status", pid),
            ("enable", pid),
            ("message", "done"),
            ("multicast", "done"),
            ("register", pid),
        ],
    );
    expect(
        test,
        &["setpriv", "--bounding-set=-audit_control,-audit_read,-audit_write"],
        &[
            ("status", "CAP_AUDIT_CONTROL is lacking"),
            ("enable", "CAP_AUDIT_CONTROL is lacking"),
            ("message", "CAP_AUDIT_WRITE is lacking"),
            ("multicast", "CAP_AUDIT_READ is lacking"),
            ("register", "CAP_AUDIT_CONTROL is lacking"),
        ],
    );
    // Here everything works, so the words above are said for a reason.
    expect(
        test,
        &["env"],
        &[
            ("status", "done"),
            ("enable", "done"),
            ("message", "done"),
            ("multicast", "done"),
            ("register", "done"),
        ],
    );
    drop(auditing);
}
