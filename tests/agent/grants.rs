//! A container that may make others within itself: what it may, what it may not, and what is said of it.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::auditing::Auditing;
use crate::bench::{Bench, soon};
use crate::containers::{BPF_ONLY, Waiting, set, start};

const GRANT: &str = "[[containers.grants]]\nname = \"ci\"\ncontainer = \"manager\"\n\
                     ids = [500100, 500109]\ncontainers = 2\n";

/// Without the capability that setting takes on the host.
const WITHOUT: &str = "setpriv --bounding-set=-audit_control --inh-caps=-audit_control";

/// A container called `manager` whose root may not control audit, and what it does then. In that, `try WORD
/// PID CONTID` sets and says how that went.
fn manager(bench: &Bench, by: &str, contid: u64, script: &str) -> Waiting {
    let veritrail = env!("CARGO_BIN_EXE_veritrail");
    let run = bench.path("run");
    let file = bench.path(&format!("script{contid}"));
    let words = format!(
        "try() {{ said=$({veritrail} container set $2 $3 --name web --run-dir {run} 2>&1); \
         echo \"$1 $? $said\"; }}\n\
         get() {{ {veritrail} container get $1 --run-dir {run} 2>&1; }}\n\
         run() {{ {veritrail} container run --contid $1 --run-dir {run} -- true 2>&1; echo \"run $?\"; }}\n\
         {script}\n",
        run = run.display()
    );
    fs::write(&file, words).unwrap();
    let process = Waiting::new(&format!("exec {WITHOUT} {by} sh {}", file.display()));
    thread::sleep(Duration::from_millis(100));
    let id = contid.to_string();
    let ran = bench.veritrail(&[
        "container",
        "set",
        &process.pid().to_string(),
        &id,
        "--name",
        "manager",
        "--run-dir",
        "run",
    ]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    process
}

/// The lines that it says until it says `done`.
fn lines(process: &mut Waiting) -> Vec<String> {
    use std::io::{BufRead, BufReader};
    process.go();
    let said = BufReader::new(process.0.stdout.as_mut().unwrap()).lines();
    said.map(Result::unwrap).take_while(|line| line != "done").collect()
}

fn told(bench: &Bench, state: &str) -> Vec<String> {
    let wanted = format!("state={state} ");
    let all = bench.bodies("VT_CONTAINER").into_iter();
    all.filter(|body| body.starts_with(&wanted)).collect()
}

fn shown(bench: &Bench, contid: u64) -> Value {
    let status = bench.status();
    let containers = status["containers"].as_array().unwrap();
    containers.iter().find(|one| one["contid"] == contid).cloned().unwrap_or_default()
}

#[test]
fn a_grantee_labels_what_is_its_own_and_nothing_else() {
    let test = "a_grantee_labels_what_is_its_own_and_nothing_else";
    let bench = Bench::new();
    bench.write("config", &format!("{BPF_ONLY}{GRANT}"));
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let stranger = Waiting::new("true");
    let theirs = Waiting::new("true");
    set(&bench, theirs.pid(), "500105").unwrap();
    let script = format!(
        "sleep 60 & one=$!; sleep 60 & two=$!; sleep 60 & three=$!; sleep 0.2\n\
         try first $one 500100; try again $one 500101; try own $$ 500101; run 500101\n\
         try host {stranger} 500101; try range $two 500110; try taken $two 500105\n\
         try second $two 500101; try many $three 500102; try join $three 500100\n\
         get $one; get {stranger}; echo done; read line\n\
         sleep 60 & four=$!; try revoked $four 500101; echo done; read line; kill $one $two $three $four\n",
        stranger = stranger.pid()
    );
    let mut process = manager(&bench, "", 77_100, &script);
    let said = lines(&mut process);
    let starts = [
        "first 0 ",
        "again 1 ",
        "own 1 ",
        "veritrail: ",
        "run 1",
        "host 1 ",
        "range 1 ",
        "taken 1 ",
        "second 0 ",
        "many 1 ",
        "join 0 ",
        "500100",
        "veritrail: ",
    ];
    let said: Vec<&String> =
        said.iter().filter(|line| starts.iter().any(|start| line.starts_with(start))).collect();
    assert_eq!(said.len(), starts.len(), "{said:?}");
    assert!(said.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{said:?}");
    let errnos: Vec<String> = told(&bench, "beyond-grant")
        .iter()
        .map(|body| {
            body.split(' ').find_map(|word| word.strip_prefix("errno=")).unwrap().to_owned()
        })
        .collect();
    assert_eq!(errnos, ["EEXIST", "EBUSY", "EXDEV", "EXDEV", "EPERM", "ENOTUNIQ", "ENOSPC"]);
    let granted = told(&bench, "granted");
    assert_eq!(granted.len(), 3, "{granted:?}");
    assert!(granted[0].starts_with("state=granted contid=500100 opid="), "{granted:?}");
    assert!(granted[0].ends_with(" by=77100 grant=\"ci\""), "{granted:?}");
    // Each attempt is a CONTAINER_OP as ever.
    let ops = bench.bodies("CONTAINER_OP");
    assert_eq!(ops.iter().filter(|op| op.ends_with(" res=0")).count(), 7, "{ops:?}");
    let child = shown(&bench, 500_100);
    assert_eq!((&child["parent"], &child["grant"]), (&77_100.into(), &"ci".into()), "{child}");
    assert_eq!(child["processes"], 2);
    // Whoever makes it calls it something, and that is not what the host calls so.
    assert_eq!(child["description"]["name"], "ci/web");
    assert_eq!(shown(&bench, 77_100)["refused"], 7);
    // Another container without a grant.
    let other = Waiting::new(&format!("exec {WITHOUT} sh -c 'sleep 60 & sleep 60'"));
    set(&bench, other.pid(), "77101").unwrap();
    // The grant is taken back, and what was made under it stays.
    bench.write("config", BPF_ONLY);
    kill_process(agent.doorkeeper, Signal::HUP).unwrap();
    soon("the reload", || {
        bench.bodies("VT_AGENT").iter().any(|body| body.contains("state=reload"))
    });
    let said = lines(&mut process);
    assert!(said[0].starts_with("revoked 1 ") && said[0].contains("you may not"), "{said:?}");
    assert_eq!(shown(&bench, 500_100)["grant"], "ci");
    process.go();
    process.0.wait().unwrap();
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

/// Numbers of processes are those of the manager's own pid namespace.
#[test]
fn a_grantee_in_a_pid_namespace_means_its_own_numbers() {
    let test = "a_grantee_in_a_pid_namespace_means_its_own_numbers";
    let bench = Bench::new();
    bench.write("config", &format!("{BPF_ONLY}{GRANT}"));
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    // The first there has number 1, on the host init's.
    let script = "sleep 60 & one=$!; sleep 0.2; echo pid $one\n\
                  try first $one 500100; get $one; try init 1 500101; try nobody 4000 500101\n\
                  echo done; read line";
    let by = "unshare --pid --fork --kill-child --mount-proc";
    let mut process = manager(&bench, by, 77_200, script);
    let said = lines(&mut process);
    let number: u32 = said[0].strip_prefix("pid ").unwrap().parse().unwrap();
    assert!(number < 20, "{said:?}");
    let starts = ["first 0 ", "500100", "init 1 ", "nobody 1 "];
    let rest =
        said.iter().skip(1).filter(|line| starts.iter().any(|start| line.starts_with(start)));
    let rest: Vec<&String> = rest.collect();
    assert!(rest.len() == 4 && rest[3].contains("no such process"), "{said:?}");
    // Its own first process has a child.
    assert_eq!(told(&bench, "beyond-grant").len(), 1);
    assert!(told(&bench, "beyond-grant")[0].contains(" errno=EBUSY "));
    let opid: u32 = told(&bench, "granted")[0]
        .split(' ')
        .find_map(|word| word.strip_prefix("opid="))
        .unwrap()
        .parse()
        .unwrap();
    let status = fs::read_to_string(format!("/proc/{opid}/status")).unwrap();
    assert!(
        status.contains("Name:\tsleep") && status.contains(&format!("\t{opid}\t{number}\n")),
        "{status}"
    );
    process.go();
    process.0.wait().unwrap();
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn events_of_what_a_grantee_makes_name_it_and_its_rules_hold_for_them() {
    let test = "events_of_what_a_grantee_makes_name_it_and_its_rules_hold_for_them";
    let Some(auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let rules = bench.path("rules.d");
    fs::create_dir(&rules).unwrap();
    // Of the manager's container, by the identifier that the host knows.
    let rule = "-a always,exit -F arch=b64 -S execve -F contid=77300 -k manager\n\
                -a always,exit -F arch=b64 -S chdir -F contid!=77300 -k others\n";
    fs::write(rules.join("a.rules"), rule).unwrap();
    let config =
        format!("[containers]\ngroups = false\n{GRANT}[rules]\ndir = \"{}\"\n", rules.display());
    bench.write("config", &config);
    let more = ["--config", "config", "--audit-mode", "coexist"];
    let Some(agent) = start(test, &bench, &more) else { return };
    let script = "sh -c 'read x; cd /; /bin/true; /bin/true; sleep 60' < fifo & one=$!; sleep 0.2\n\
                  try first $one 500100; sleep 0.2; echo go > fifo; sleep 1; echo done; read line";
    let fifo = bench.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let script = script.replace("fifo", fifo.to_str().unwrap());
    let mut process = manager(&bench, "", 77_300, &script);
    let said = lines(&mut process);
    assert!(said.iter().any(|line| line.starts_with("first 0")), "{said:?}");
    thread::sleep(Duration::from_secs(1));
    process.go();
    process.0.wait().unwrap();
    assert_eq!(agent.stop(), Some(0));
    let ran = bench
        .veritrail(&["search", "--trail", "trail", "--raw", "--contid", "500100", "-k", "manager"]);
    let ids = ran.out.lines().filter(|line| line.starts_with("type=CONTAINER_ID "));
    let ids: Vec<&str> = ids.map(|line| line.split('\x1d').next().unwrap()).collect();
    assert!(
        ids.len() >= 3 && ids.iter().all(|id| id.ends_with(": contid=500100,^77300")),
        "{ids:?}"
    );
    let ran = bench
        .veritrail(&["search", "--trail", "trail", "--raw", "--contid", "500100", "-k", "others"]);
    assert_eq!(ran.out, "", "they are not of another container");
    bench.trail_is_good();
    drop(auditing);
}
