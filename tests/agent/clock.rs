//! Changes of the clock. This machine's is never set: a frequency by one unit of 2^-16 ppm and back is
//! the least that there is.

use std::time::Duration;

use host::clock::timex;

use crate::auditing::Auditing;
use crate::bench::{Bench, soon};

/// Steers the clock by `units`, as adjtimex(8) would; false where that is not allowed here.
fn steer(freq: i64) -> bool {
    let program = "import ctypes,sys\n\
        b=(ctypes.c_long*26)()\n\
        ctypes.cast(b,ctypes.POINTER(ctypes.c_int))[0]=2\n\
        b[2]=int(sys.argv[1])\n\
        sys.exit(ctypes.CDLL(None,use_errno=True).adjtimex(b)<0)";
    let status =
        std::process::Command::new("python3").args(["-c", program, &freq.to_string()]).status();
    status.is_ok_and(|status| status.success())
}

/// The frequency as it was, whatever happens.
struct Kept(i64);

impl Kept {
    /// None, visibly, where it cannot be set.
    fn of_now(test: &str) -> Option<Kept> {
        let kept = Kept(timex().unwrap().freq);
        if !steer(kept.0) {
            eprintln!("SKIPPED: {test}: the clock cannot be steered here");
            return None;
        }
        Some(kept)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        steer(self.0);
    }
}

#[test]
fn a_frequency_and_back_are_two_records_of_the_kernel_and_two_of_ours() {
    let name = "a_frequency_and_back_are_two_records_of_the_kernel_and_two_of_ours";
    let Some(_auditing) = Auditing::begin(name) else { return };
    let Some(kept) = Kept::of_now(name) else { return };
    let freq = kept.0;
    let rule = "-a always,exit -F arch=b64 -S adjtimex -S clock_adjtime -k clock";
    let loaded = std::process::Command::new("auditctl").args(rule.split(' ')).status();
    if !loaded.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: {name}: no auditctl (package auditd)");
        return;
    }
    let bench = Bench::new();
    let agent = bench.start(&[]);
    assert!(agent.says("clock: listening: "), "{:?}", agent.said);
    assert!(steer(freq + 1) && steer(freq));
    soon("the second change", || bench.bodies("VT_CLOCK").len() >= 2);
    // Nothing more comes of them, from whatever source.
    std::thread::sleep(Duration::from_secs(4));
    let [there, back] = [freq, freq + 1].map(|units| units * 65_536_000);
    assert_eq!(
        bench.bodies("TIME_ADJNTPVAL"),
        [format!("op=freq old={there} new={back}"), format!("op=freq old={back} new={there}")]
    );
    assert_eq!(bench.bodies("TIME_INJOFFSET"), [""; 0]);
    let clock = bench.bodies("VT_CLOCK");
    assert_eq!(clock.len(), 2, "{clock:?}");
    for body in &clock {
        assert!(
            body.starts_with("call=clock_adjtime clock=realtime kind=slew old=")
                || body.starts_with("call=adjtimex clock=realtime kind=slew old="),
            "{body}"
        );
        assert!(body.ends_with(" by=task"), "{body}");
    }
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

#[test]
fn without_a_rule_a_frequency_and_back_are_two_records_of_ours() {
    let name = "without_a_rule_a_frequency_and_back_are_two_records_of_ours";
    let Some(_auditing) = Auditing::begin(name) else { return };
    let Some(kept) = Kept::of_now(name) else { return };
    let freq = kept.0;
    let bench = Bench::new();
    let agent = bench.start(&[]);
    let seen = agent.said.iter().find(|line| line.starts_with("bpf: listening: "));
    if !seen.is_some_and(|line| line.contains("clock")) {
        eprintln!("SKIPPED: {name}: no program of ours sees the call: {:?}", agent.said);
        return;
    }
    assert!(steer(freq + 1) && steer(freq));
    soon("the second change", || bench.bodies("VT_CLOCK").len() >= 2);
    std::thread::sleep(Duration::from_secs(4));
    let [there, back] = [freq, freq + 1].map(|units| units * 65_536_000);
    assert_eq!(
        bench.bodies("TIME_ADJNTPVAL"),
        [format!("op=freq old={there} new={back}"), format!("op=freq old={back} new={there}")]
    );
    let clock = bench.bodies("VT_CLOCK");
    assert_eq!(clock.len(), 2, "{clock:?}");
    for body in &clock {
        assert!(body.contains(" by=task ppid="), "{body}");
        assert!(body.contains("comm=\"python3"), "{body}");
    }
    let shown = bench.veritrail(&["timeline", "--trail", "trail", "--json"]);
    assert_eq!((shown.status, shown.out.lines().count()), (Some(0), 1), "{shown:?}");
    assert!(shown.out.contains("\"count\":2"), "{shown:?}");
    let all = bench.veritrail(&["timeline", "--trail", "trail", "--all"]);
    assert_eq!(all.out.lines().count(), 2, "{all:?}");
    assert_eq!(agent.stop(), Some(0));
}

/// An agent without programs in the kernel.
fn without_bpf() -> Bench {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("rules.d")).unwrap();
    let dir = bench.path("rules.d");
    let dir = dir.display();
    bench.write(
        "config",
        &format!(
            "[agent]\nsources = [\"audit\", \"clock\"]\n[rules]\ndir = \"{dir}\"\nkey = \"test-clock\"\n"
        ),
    );
    bench
}

const WITHOUT_BPF: [&str; 4] = ["--config", "config", "--audit-mode", "coexist"];

/// Our rules for the calls in the kernel.
fn rules(auditing: &mut Auditing) -> Vec<Vec<u8>> {
    let mut rules = auditing.control.rules().unwrap();
    let key = b"test-clock\x01clock";
    rules.retain(|rule| rule.windows(key.len()).any(|window| window == key));
    rules
}

#[test]
fn without_bpf_rules_of_ours_have_the_kernel_tell_of_changes_alone() {
    let name = "without_bpf_rules_of_ours_have_the_kernel_tell_of_changes_alone";
    let Some(mut auditing) = Auditing::begin(name) else { return };
    let Some(kept) = Kept::of_now(name) else { return };
    let freq = kept.0;
    let bench = without_bpf();
    let agent = bench.start(&WITHOUT_BPF);
    let widths = if cfg!(target_arch = "x86_64") { 2 } else { rules(&mut auditing).len() };
    assert_eq!(rules(&mut auditing).len(), widths);
    // The same value; and a tick that no clock has.
    assert!(steer(freq));
    let failing = "import ctypes\n\
        b=(ctypes.c_long*26)()\n\
        ctypes.cast(b,ctypes.POINTER(ctypes.c_int))[0]=0x4000\n\
        b[11]=1\n\
        assert ctypes.CDLL(None).adjtimex(b)<0";
    let failed = std::process::Command::new("python3").args(["-c", failing]).status();
    assert!(failed.unwrap().success());
    assert!(steer(freq + 1) && steer(freq));
    soon("the second change", || bench.bodies("VT_CLOCK").len() >= 2);
    std::thread::sleep(Duration::from_secs(2));
    let [there, back] = [freq, freq + 1].map(|units| units * 65_536_000);
    assert_eq!(
        bench.bodies("TIME_ADJNTPVAL"),
        [format!("op=freq old={there} new={back}"), format!("op=freq old={back} new={there}")]
    );
    // By our rules; whoever loads programs meanwhile brings records without one.
    let mut calls = bench.bodies("SYSCALL");
    calls.retain(|call| call.ends_with(" key=746573742D636C6F636B01636C6F636B"));
    assert_eq!(calls.len(), 2, "{calls:?}");
    let clock = bench.bodies("VT_CLOCK");
    assert_eq!(clock.len(), 2, "{clock:?}");
    assert!(clock.iter().all(|body| body.ends_with(" by=task")), "{clock:?}");
    assert!(!bench.bodies("VT_AGENT").iter().any(|body| body.starts_with("state=degraded")));
    assert!(bench.status()["rules"]["dropped"].as_u64() >= Some(2), "{}", bench.status());
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(auditing.control.rules().unwrap(), [[0; 0]; 0]);
    bench.trail_is_good();
}

#[test]
fn where_rules_cannot_be_either_the_loss_is_named() {
    let name = "where_rules_cannot_be_either_the_loss_is_named";
    let Some(mut auditing) = Auditing::begin(name) else { return };
    auditing.control.set_enabled(false).unwrap();
    let bench = without_bpf();
    let agent = bench.start(&WITHOUT_BPF);
    assert!(agent.says("who changes it is not seen"), "{:?}", agent.said);
    assert!(agent.says("auditing is off"), "{:?}", agent.said);
    // Not one of ours while auditing is somebody else's to switch on.
    assert_eq!(rules(&mut auditing), [[0; 0]; 0]);
    let states = |state: &str| {
        let is_it = |body: &&String| body.starts_with(&format!("state={state} source=clock"));
        bench.bodies("VT_AGENT").iter().filter(is_it).count()
    };
    assert_eq!((states("degraded"), states("restored")), (1, 0));
    auditing.control.set_enabled(true).unwrap();
    soon("the rules", || !rules(&mut auditing).is_empty());
    soon("that it is whole again", || states("restored") == 1);
    // Somebody takes one away.
    let rule = rules(&mut auditing).remove(0);
    auditing.control.delete_rule(&rule).unwrap();
    soon("the next loss", || states("degraded") == 2);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(rules(&mut auditing), [[0; 0]; 0]);

    bench.write(
        "config",
        &format!("{}clock = false\n", std::fs::read_to_string(bench.path("config")).unwrap()),
    );
    let agent = bench.start(&WITHOUT_BPF);
    assert!(agent.says("rules.clock is off"), "{:?}", agent.said);
    assert_eq!(rules(&mut auditing), [[0; 0]; 0]);
    assert_eq!(agent.stop(), Some(0));
}
