//! Programs and files as containers see them, each in a root of its own: rules for them, and what `search` and
//! `report` say of containers by their names.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::auditing::Auditing;
use crate::bench::{Bench, soon};
use crate::containers::start;

/// What a container needs of a root; false without a static busybox.
fn root(at: &Path) -> bool {
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|at| fs::exists(at).unwrap());
    let Some(busybox) = busybox else { return false };
    for folder in ["bin", "etc", "old"] {
        fs::create_dir_all(at.join(folder)).unwrap();
    }
    // Programs of their own: audit names what runs and not the link to it.
    for program in ["busybox", "true"] {
        fs::copy(busybox, at.join("bin").join(program)).unwrap();
    }
    true
}

/// A shell whose root is this folder, which waits for a line and then does the script.
struct Inside {
    child: Child,
}

impl Inside {
    fn new(into: &str, root: &Path, script: &str) -> Inside {
        let words = format!(
            "cd {} && {into} /bin/busybox sh -c 'echo there; read line; {script}'",
            root.display()
        );
        let mut child = Command::new("unshare")
            .args(["-m", "sh", "-c", &words])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "there\n");
        Inside { child }
    }

    fn run(mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const RULES: &str = "\
-a always,exit -F arch=b64 -S execve -F cont_exe=/bin/true -k prog
-a always,exit -F arch=b64 -S open,openat -F perm=wa -F cont_path=/etc/shadow -k shadow
-a always,exit -F arch=b64 -S open,openat -F perm=wa -F cont_path=/etc/gshadow -k shadow
-a always,exit -F arch=b64 -S open,openat -F perm=wa -F cont_path=/etc/other -F contid=42 -k other
";

/// What each of them does: by a relative name, and beside that what no rule asks for.
const SCRIPT: &str =
    "cd /etc; echo x >shadow; echo x >/etc/other; /bin/true; /bin/busybox cat /etc/other";

#[test]
fn a_rule_for_what_is_inside_matches_in_each_container_and_nowhere_else() {
    let test = "a_rule_for_what_is_inside_matches_in_each_container_and_nowhere_else";
    let Some(_auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let (left, right) = (bench.path("left"), bench.path("right"));
    if !root(&left) || !root(&right) {
        eprintln!("SKIPPED: {test}: no static busybox");
        return;
    }
    fs::create_dir(bench.path("rules.d")).unwrap();
    bench.write("rules.d/inside.rules", RULES);
    let dir = bench.path("rules.d");
    bench
        .write("config", &format!("[rules]\ndir = \"{}\"\nkey = \"test-inside\"\n", dir.display()));
    let Some(agent) = start(test, &bench, &["--config", "config", "--audit-mode", "coexist"])
    else {
        return;
    };
    let pivot = "mount --bind . . && cd . && cd \"$PWD\" && pivot_root . old && exec";
    let inside = [
        (Inside::new(pivot, &left, SCRIPT), "41", "left"),
        (Inside::new("exec chroot .", &right, SCRIPT), "42", "right"),
    ];
    // The same names in the same root, and no container.
    let nobody = Inside::new("exec chroot .", &left, SCRIPT);
    for (one, contid, name) in &inside {
        let pid = one.child.id().to_string();
        let words = ["container", "set", &pid, contid, "--name", name, "--run-dir", "run"];
        assert_eq!(bench.veritrail(&words).status, Some(0));
    }
    for (one, ..) in inside {
        one.run();
    }
    nobody.run();
    let found = |words: &[&str]| -> Vec<Value> {
        let ran = bench.veritrail(&[&["search", "--trail", "trail", "--json"], words].concat());
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    soon("both ends", || {
        found(&["-m", "CONTAINER_OP"])
            .iter()
            .filter(|event| event.to_string().contains("op=drop"))
            .count()
            == 2
    });
    soon("the programs", || found(&["-k", "prog"]).len() >= 2);
    // Two of them are one to the kernel.
    assert_eq!(bench.status()["rules"]["refused"], 0);
    assert_eq!(agent.stop(), Some(0));
    for key in ["prog", "shadow"] {
        let events = found(&["-k", key]);
        let mut whose: Vec<&Value> = events.iter().map(|event| &event["contid"]).collect();
        whose.sort_by_key(|contid| contid.to_string());
        assert_eq!(whose, [&json!("41"), &json!("42")], "{key}: {events:#?}");
    }
    let events = found(&["-k", "shadow", "-f", "shadow"]);
    assert_eq!(events.len(), 2, "{events:#?}");
    // The kernel finds the rule for shadow first, and another one asks for it.
    let events = found(&["-f", "/etc/other"]);
    assert_eq!(events, found(&["-k", "other"]));
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0]["contid"], "42");

    // By its name a container is found with its beginning, what it did, and its end.
    let left = found(&["--contid", "left"]);
    let kinds: Vec<&Value> = left.iter().map(|event| &event["records"][0]["type"]).collect();
    let of = |kind: &str| kinds.iter().filter(|one| ***one == kind).count();
    assert_eq!((of("CONTAINER_OP"), of("SYSCALL")), (2, 2), "{left:#?}");
    assert!(of("VT_CONTAINER") >= 1, "{left:#?}");
    let ran = bench.veritrail(&["report", "containers", "--trail", "trail", "--json"]);
    let rows: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = rows.iter().map(|row| (&row["name"], &row["types"]["SYSCALL"])).collect();
    assert_eq!(told, [(&json!("left"), &json!(2)), (&json!("right"), &json!(3))], "{ran:?}");
    assert!(
        rows.iter().all(|row| row["ended"].is_string() && row["by"]["comm"] == "veritrail"),
        "{ran:?}"
    );
    bench.trail_is_good();
}
