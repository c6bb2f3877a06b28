//! What a container may bring: one that floods is held to its share, exactly counted, and nobody else notices.

use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::auditing::Auditing;
use crate::bench::{Bench, number, soon};
use crate::containers::{Waiting, set, start};
use crate::runtimes::bundle;

/// Containers of others on this machine are none of ours.
const ALONE: &str = "[containers]\ngroups = false\n";

/// Runs `/bin/true` so often: an event of its execve each.
fn runs(times: u32) -> String {
    format!("n=0; while [ $n -lt {times} ]; do n=$((n+1)); /bin/true; done")
}

/// Calls chdir(2) so often, by the shell itself.
fn moves(times: u32) -> String {
    format!("n=0; while [ $n -lt {times} ]; do n=$((n+1)); cd /; done")
}

/// The events in the trail of a container, of that system call (x86_64).
fn stored(bench: &Bench, contid: u64, call: &str) -> u64 {
    let contid = contid.to_string();
    let ran = bench.veritrail(&["search", "--trail", "trail", "--raw", "--contid", &contid]);
    let is_call = |line: &&str| {
        line.starts_with("type=SYSCALL ") && line.contains(&format!(" syscall={call} "))
    };
    ran.out.lines().filter(is_call).count() as u64
}

const EXECVE: &str = "59";
const CHDIR: &str = "80";

/// What is said to be held back of a container.
fn held_back(bench: &Bench, contid: u64, key: &str) -> u64 {
    let of = format!("source=quota contid={contid} ");
    let gaps = bench.gaps("quota").into_iter().filter(|gap| gap.starts_with(&of));
    gaps.map(|gap| number(&gap, key)).sum()
}

fn shown(bench: &Bench, contid: u64) -> Value {
    let status = bench.status();
    let containers = status["containers"].as_array().unwrap();
    containers.iter().find(|one| one["contid"] == contid).cloned().unwrap_or_default()
}

/// The container's life that a report tells of.
fn reported(bench: &Bench, contid: u64) -> Value {
    let ran = bench.veritrail(&["report", "containers", "--trail", "trail", "--json"]);
    let lives = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let contid = Value::from(contid.to_string());
    let mut newest_first = lives.rev();
    newest_first.find(|life| life["contid"] == contid).unwrap_or_default()
}

/// Lets a labelled process do all of it, which takes a while, and waits until all is heard.
fn labelled(bench: &Bench, contid: u64, script: &str) -> Waiting {
    // It lives on, so that its container does.
    let process = Waiting::new(&format!("{script}; echo done; read line"));
    // Its own execve is of the tick before.
    thread::sleep(Duration::from_millis(100));
    set(bench, process.pid(), &contid.to_string()).unwrap();
    process
}

fn do_all(processes: &mut [Waiting]) {
    for process in &mut *processes {
        process.go();
    }
    for process in processes {
        let mut said = [0; 5];
        std::io::Read::read_exact(process.0.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(&said, b"done\n");
    }
}

#[test]
fn a_container_that_floods_is_held_to_its_quota_and_no_other_is() {
    let test = "a_container_that_floods_is_held_to_its_quota_and_no_other_is";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    bench.write("config", &format!("{ALONE}[quota]\ncontainer_rest_per_second = 10\n"));
    let more = ["--config", "config", "--audit-mode", "coexist"];
    let Some(agent) = start(test, &bench, &more) else { return };
    let add = |auditing: &mut Auditing, rule| crate::rules::add(&mut auditing.control, rule);
    add(&mut auditing, "-a always,exit -F arch=b64 -S execve");
    add(&mut auditing, "-a always,exit -F arch=b64 -S chdir -k moved");
    // What a key asks for comes behind the flood; and a quiet one, and the host.
    let mut all = [
        labelled(&bench, 77_001, &format!("{}; {}", runs(1000), moves(100))),
        labelled(&bench, 77_002, &runs(60)),
        Waiting::new(&format!("{}; echo done; read line", runs(300))),
    ];
    let outside = all[2].pid().to_string();
    do_all(&mut all);
    let brought = |bench: &Bench, key: &str| shown(bench, 77_001)[key].as_u64().unwrap();
    soon("all of it", || {
        let over = shown(&bench, 77_001)["over_quota"]["rest"].as_u64().unwrap();
        brought(&bench, "events") + over >= 1100 && shown(&bench, 77_002)["events"] == 60
    });
    soon("its gap", || {
        let over = shown(&bench, 77_001)["over_quota"]["rest"].as_u64().unwrap();
        over > 0 && held_back(&bench, 77_001, "rest") == over
    });
    let rest = held_back(&bench, 77_001, "rest");
    let calls = stored(&bench, 77_001, EXECVE);
    assert_eq!(calls + rest, 1000, "{:?}", bench.bodies("VT_GAP"));
    // A burst of ten seconds' worth, and what the time brought.
    assert!((100..600).contains(&calls), "{calls}");
    assert_eq!(held_back(&bench, 77_001, "keyed"), 0);
    assert_eq!(stored(&bench, 77_001, CHDIR), 100, "a key's are not in the way of the rest");
    assert_eq!((stored(&bench, 77_002, EXECVE), held_back(&bench, 77_002, "rest")), (60, 0));
    // Whoever is in no container.
    let ran = bench.veritrail(&["search", "--trail", "trail", "--raw", "-pp", &outside]);
    let events = ran.out.lines().filter(|line| line.starts_with("type=SYSCALL ")).count();
    assert_eq!(events, 300);
    // It is told wherever containers are.
    let over = &shown(&bench, 77_001)["over_quota"];
    assert_eq!(over["rest"], rest);
    assert_eq!(over["bytes"], held_back(&bench, 77_001, "bytes"));
    assert_eq!(bench.status()["over_quota"], rest);
    let life = reported(&bench, 77_001);
    assert_eq!(life["over_quota"]["rest"], rest, "{life}");
    let said = bench.veritrail(&["agent", "status", "--run-dir", "run"]).out;
    assert!(said.contains(&format!("77001: 0 keyed and {rest} other events of ")), "{said}");
    assert!(number(&bench.gaps("quota")[0], "bytes") > 100);
    let top = [
        "container",
        "top",
        "--run-dir",
        "run",
        "--json",
        "-n",
        "1",
        "-i",
        "0.1",
        "--sort",
        "over",
    ];
    let frame: Value = serde_json::from_str(&bench.veritrail(&top).out).unwrap();
    let first = &frame["containers"][0];
    assert_eq!((&first["contid"], &first["over_quota"]["rest"]), (&77_001.into(), &rest.into()));
    assert_eq!(first["events"], 1100 - rest);
    // Without the quota nothing is held back any more.
    bench.write("config", ALONE);
    kill_process(agent.doorkeeper, Signal::HUP).unwrap();
    soon("the reload", || {
        bench.bodies("VT_AGENT").iter().any(|body| body.contains("state=reload"))
    });
    let mut all = [labelled(&bench, 77_003, &runs(300))];
    do_all(&mut all);
    soon("all of it", || shown(&bench, 77_003)["events"] == 300);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(stored(&bench, 77_003, EXECVE), 300);
    assert_eq!(held_back(&bench, 77_003, "rest"), 0);
    let others = bench.bodies("VT_GAP").into_iter().filter(|gap| !gap.starts_with("source=quota "));
    assert_eq!(others.collect::<Vec<_>>(), [""; 0]);
    bench.trail_is_good();
}

#[test]
fn a_containers_bytes_of_a_day_end_and_a_real_one_cannot_fill_the_disk() {
    let test = "a_containers_bytes_of_a_day_end_and_a_real_one_cannot_fill_the_disk";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    bench.write("config", &format!("{ALONE}[quota]\ncontainer_bytes_per_day = 1048576\n"));
    let more = ["--config", "config", "--audit-mode", "coexist"];
    let Some(agent) = start(test, &bench, &more) else { return };
    let script = format!("{}; {}; sleep 3", runs(1500), moves(50));
    let Some(bundle) = bundle(test, &bench, "flood", &script) else { return };
    crate::rules::add(&mut auditing.control, "-a always,exit -F arch=b64 -S execve");
    crate::rules::add(&mut auditing.control, "-a always,exit -F arch=b64 -S chdir -k moved");
    let name = format!("vtquota{}", std::process::id());
    let ran = thread::scope(|scope| {
        let run = scope.spawn(|| {
            std::process::Command::new("timeout")
                .args(["-k", "5", "90", "runc", "run", "-b"])
                .args([bundle.as_os_str(), name.as_ref()])
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap()
        });
        run.join().unwrap()
    });
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    soon("its end", || bench.bodies("CONTAINER_OP").iter().any(|op| op.starts_with("op=drop ")));
    // What it did last may be held still.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.stop(), Some(0));
    let ops = bench.bodies("CONTAINER_OP");
    let set = ops.iter().find(|op| op.starts_with("op=set ")).unwrap();
    let contid = number(set, "contid");
    let gaps = bench.gaps("quota");
    let of = format!("source=quota contid={contid} limit=bytes keyed=0 ");
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| gap.starts_with(&of)), "{gaps:?}");
    let calls = stored(&bench, contid, EXECVE);
    let rest = held_back(&bench, contid, "rest");
    // Its program itself, what it runs, and nothing twice.
    assert!((1500..1520).contains(&(calls + rest)), "{calls} {rest}");
    assert!(rest > 300, "{rest}");
    // The last quarter is for those.
    assert!(stored(&bench, contid, CHDIR) >= 50);
    let raw =
        bench.veritrail(&["search", "--trail", "trail", "--raw", "--contid", &contid.to_string()]);
    assert!((600_000..1_400_000).contains(&raw.out.len()), "{}", raw.out.len());
    bench.trail_is_good();
}
