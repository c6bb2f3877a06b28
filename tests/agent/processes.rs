//! The three processes: each of them is killed, hangs, is told things; the others go on.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::auditing::Auditing;
use crate::bench::{Bench, has_fuse, number, soon};

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Doorkeeper,
    Agent,
    Writer,
}

impl Who {
    const ALL: [Who; 3] = [Who::Writer, Who::Agent, Who::Doorkeeper];

    fn of(self, status: &Value) -> Option<Pid> {
        let pid = match self {
            Who::Doorkeeper => &status["doorkeeper"],
            Who::Agent => &status["pid"],
            Who::Writer => &status["writer"]["pid"],
        };
        Pid::from_raw(i32::try_from(pid.as_i64()?).ok()?)
    }
}

/// What the agent says, if one answers and everything runs.
fn runs(bench: &Bench) -> Option<Value> {
    let ran = bench.veritrail(&["agent", "status", "--json", "--run-dir", "run"]);
    let status: Value = serde_json::from_str(&ran.out).ok()?;
    let alive = |who: Who| who.of(&status).is_some_and(|pid| test_kill_process(pid).is_ok());
    let works = status["trail_works"] == true && status["writer"]["silent"] == false;
    // One that has heard something has told what was missing before.
    let audit = status["sources"].as_array()?.iter().find(|source| source["name"] == "audit")?;
    let works = works && audit["events"].as_u64() > Some(0);
    (works && Who::ALL.into_iter().all(alive)).then_some(status)
}

/// Kills one, and returns the status when all goes on with another in its place.
fn kill(bench: &Bench, who: Who, mut meanwhile: impl FnMut()) -> Value {
    let before = bench.status();
    let victim = who.of(&before).unwrap();
    kill_process(victim, Signal::KILL).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        meanwhile();
        if let Some(status) = runs(bench)
            && who.of(&status) != Some(victim)
        {
            return status;
        }
        assert!(Instant::now() < until, "{who:?} is not replaced: {before}");
    }
}

/// Numbered messages, and what became of them.
struct Stream {
    auditing: Auditing,
    sent: usize,
}

impl Stream {
    fn send(&mut self, messages: usize) {
        for _ in 0..messages {
            let text = format!("stream n={}", self.sent);
            self.auditing.control.send_user(1121, text.as_bytes()).unwrap();
            self.sent += 1;
        }
    }
}

/// The numbers that are stored, each once.
fn stored(bench: &Bench) -> BTreeSet<usize> {
    let bodies = bench.bodies("TRUSTED_APP");
    let number = |body: &String| {
        let rest = body.split_once("msg='stream n=")?.1;
        rest.split('\'').next()?.parse().ok()
    };
    let numbers: Vec<usize> = bodies.iter().filter_map(number).collect();
    let set: BTreeSet<usize> = numbers.iter().copied().collect();
    assert_eq!(set.len(), numbers.len(), "something is there twice");
    set
}

/// What the gaps say is missing at most, of all that an agent may miss.
fn missing_at_most(bench: &Bench) -> u64 {
    let gaps = bench.bodies("VT_GAP");
    let count = |gap: &String| {
        if gap.starts_with("source=agent ") {
            number(gap, "events")
        } else if gap.starts_with("source=inbox ") || gap.starts_with("source=queue ") {
            ["integrity", "keyed", "rest"].map(|class| number(gap, class)).iter().sum()
        } else if gap.starts_with("source=door ") {
            number(gap, "events")
        } else {
            number(gap, "records")
        }
    };
    let ours = |gap: &&String| !gap.starts_with("source=kmsg") && !gap.starts_with("source=uevent");
    gaps.iter().filter(ours).map(count).sum()
}

/// Everything that was sent is stored, or its loss is told.
fn account(bench: &Bench, sent: usize) {
    let stored = stored(bench);
    let missing = (sent - stored.len()) as u64;
    let told = missing_at_most(bench);
    let gone: Vec<usize> = (0..sent).filter(|n| !stored.contains(n)).collect();
    let gaps = bench.bodies("VT_GAP");
    let states = bench.bodies("VT_AGENT");
    assert!(
        missing <= told,
        "{missing} of {sent} are missing, {told} told of: {gone:?} {gaps:?} {states:?}"
    );
    bench.trail_is_good();
}

/// Ends the service, whichever process it is by now.
fn stop(bench: &Bench) {
    let doorkeeper = Who::Doorkeeper.of(&bench.status()).unwrap();
    kill_process(doorkeeper, Signal::TERM).unwrap();
    soon("the end", || test_kill_process(doorkeeper).is_err() || is_zombie(doorkeeper));
    assert!(!bench.path("run/agent/control").exists());
    assert_eq!(bench.mounts(), [""; 0]);
    // Another writer of before, whose doorkeeper was killed a moment ago.
    soon("the end of all", || bench.processes().is_empty());
}

/// Ends the service when the last of so many messages is stored: what was killed is one gap.
fn one_gap(bench: &Bench, sent: usize) {
    soon("the last", || stored(bench).contains(&(sent - 1)));
    stop(bench);
    let gaps = bench.gaps("agent");
    assert!(gaps.len() == 1 && gaps[0].contains(" reason=killed "), "{gaps:?}");
    account(bench, sent);
}

fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

#[test]
fn a_killed_writer_is_replaced_and_nothing_is_lost_or_there_twice() {
    let test = "a_killed_writer_is_replaced_and_nothing_is_lost_or_there_twice";
    let Some(auditing) = Auditing::begin(test) else { return };
    let mut stream = Stream { auditing, sent: 0 };
    let bench = Bench::new();
    let agent = bench.start(&[]);
    for _ in 0..5 {
        stream.send(300);
        let began = Instant::now();
        let status = kill(&bench, Who::Writer, || stream.send(20));
        assert_eq!(Who::Agent.of(&status), Some(agent.pid), "the agent went on");
        println!("written again after {:?}", began.elapsed());
        stream.send(300);
    }
    let sent = stream.sent;
    soon("the last", || bench.source("audit", "events").as_u64() >= Some(sent as u64));
    assert_eq!(bench.status()["writer"]["restarts"], 5);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(stored(&bench).len(), sent);
    assert_eq!(bench.bodies("VT_GAP"), [""; 0], "there is no gap where nothing is lost");
    bench.trail_is_good();
}

#[test]
fn a_killed_agent_is_replaced_and_is_one_gap() {
    let test = "a_killed_agent_is_replaced_and_is_one_gap";
    let Some(auditing) = Auditing::begin(test) else { return };
    let mut stream = Stream { auditing, sent: 0 };
    let bench = Bench::new();
    let agent = bench.start(&[]);
    stream.send(500);
    let tree = bench.path("run/fs/devices");
    let status = kill(&bench, Who::Agent, || {
        stream.send(20);
        // The tree stands as it was.
        assert!(!has_fuse() || fs::read_dir(&tree).is_ok());
    });
    assert_eq!(Who::Doorkeeper.of(&status), Some(agent.doorkeeper));
    assert_eq!(Who::Writer.of(&status), Some(agent.writer));
    assert_eq!(status["restarts"], 1);
    stream.send(500);
    one_gap(&bench, stream.sent);
}

#[test]
fn without_a_manager_the_agent_takes_a_killed_doorkeepers_place() {
    let test = "without_a_manager_the_agent_takes_a_killed_doorkeepers_place";
    let Some(auditing) = Auditing::begin(test) else { return };
    let mut stream = Stream { auditing, sent: 0 };
    let bench = Bench::new();
    let agent = bench.start(&[]);
    stream.send(500);
    let status = kill(&bench, Who::Doorkeeper, || stream.send(20));
    assert_eq!(Who::Doorkeeper.of(&status), Some(agent.pid), "it is what the agent was");
    if has_fuse() {
        assert!(fs::read_dir(bench.path("run/fs/devices")).is_ok());
        assert_eq!(bench.mounts().len(), 1);
    }
    stream.send(500);
    one_gap(&bench, stream.sent);
}

#[test]
fn restarts_at_random_moments_under_load_lose_nothing_in_silence() {
    let test = "restarts_at_random_moments_under_load_lose_nothing_in_silence";
    let Some(auditing) = Auditing::begin(test) else { return };
    let times = if std::env::var_os("VERITRAIL_LONG").is_some() { 100 } else { 20 };
    let mut stream = Stream { auditing, sent: 0 };
    let bench = Bench::new();
    let _agent = bench.start_for("900", &[]);
    let mut seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = |below: u64| {
        // Knuth's MMIX.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut killed = [0; 2];
    for _ in 0..times {
        let who = Who::ALL[usize::try_from(random(3)).unwrap()];
        let until = Instant::now() + Duration::from_millis(random(1500));
        while Instant::now() < until {
            stream.send(50);
            thread::sleep(Duration::from_millis(5));
        }
        kill(&bench, who, || stream.send(10));
        killed[usize::from(who == Who::Writer)] += 1;
    }
    stream.send(100);
    let last = stream.sent - 1;
    soon("the last", || stored(&bench).contains(&last));
    stop(&bench);
    account(&bench, stream.sent);
    let gaps = bench.gaps("agent");
    // One for each that did not listen for a while; one that was killed before its own was durable is
    // told of with the next.
    assert!((1..=killed[0]).contains(&gaps.len()), "{gaps:?}");
    println!(
        "{} sent, {} stored, {} told as missing at most; killed {killed:?}",
        stream.sent,
        stored(&bench).len(),
        missing_at_most(&bench)
    );
}

#[test]
fn a_stop_under_load_leaves_nothing_behind() {
    let test = "a_stop_under_load_leaves_nothing_behind";
    let Some(auditing) = Auditing::begin(test) else { return };
    let mut stream = Stream { auditing, sent: 0 };
    let bench = Bench::new();
    let agent = bench.start(&[]);
    let before = stream.auditing.control.status().unwrap();
    let doorkeeper = agent.doorkeeper;
    let stopped = thread::spawn(move || agent.stop());
    while test_kill_process(doorkeeper).is_ok() && !stopped.is_finished() {
        stream.send(20);
    }
    assert_eq!(stopped.join().unwrap(), Some(0));
    let after = stream.auditing.control.status().unwrap();
    assert_eq!((after.pid, after.is_on()), (before.pid, before.is_on()));
    assert_eq!((bench.mounts(), bench.processes()), (vec![], vec![]));
    assert!(!bench.path("run/agent/control").exists());
    let states = bench.bodies("VT_AGENT");
    assert!(states[1].starts_with("state=stopped "), "{states:?}");
    assert_eq!(bench.bodies("VT_GAP"), [""; 0]);
    bench.trail_is_good();
    // What came before the end is there without a hole.
    let stored = stored(&bench);
    assert_eq!(stored.iter().copied().collect::<Vec<_>>(), (0..stored.len()).collect::<Vec<_>>());
}

#[test]
fn a_writer_that_hangs_is_seen() {
    let Some(_auditing) = Auditing::begin("a_writer_that_hangs_is_seen") else { return };
    let bench = Bench::new();
    let agent = bench.start(&[]);
    kill_process(agent.writer, Signal::STOP).unwrap();
    soon("the silence", || bench.status()["writer"]["silent"] == true);
    let said = bench.veritrail(&["agent", "status", "--run-dir", "run"]);
    assert!(said.out.contains(", which does not answer\n"), "{said:?}");
    kill_process(agent.writer, Signal::CONT).unwrap();
    soon("its answer", || bench.status()["writer"]["silent"] == false);
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

#[test]
fn a_trail_that_was_tampered_with_ends_the_service_with_4() {
    let test = "a_trail_that_was_tampered_with_ends_the_service_with_4";
    let Some(_auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    assert_eq!(bench.start(&[]).stop(), Some(0));
    let segment = fs::read_dir(bench.path("trail/segments")).unwrap().flatten();
    let segment =
        segment.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "log"));
    let segment = segment.unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.iter().position(|byte| *byte == b'=').unwrap();
    bytes[at + 1] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let ran = bench.veritrail(&["agent", "run", "--trail", "trail", "--run-dir", "run"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(4), ""), "{ran:?}");
    assert_eq!((bench.mounts(), bench.processes()), (vec![], vec![]));
}

/// A field of a process's status, as `/proc` has it.
fn field(pid: Pid, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().to_owned()
}

/// The capabilities of a set, by their numbers in linux/capability.h.
fn capabilities(pid: Pid, set: &str) -> Vec<u32> {
    let bits = u64::from_str_radix(&field(pid, set), 16).unwrap();
    (0..64).filter(|bit| bits & (1 << bit) != 0).collect()
}

const NONE: [u32; 0] = [];
const DAC_READ_SEARCH: u32 = 2;
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const AUDIT_CONTROL: u32 = 30;
const SYSLOG: u32 = 34;
const AUDIT_READ: u32 = 37;

/// With a manager each has what it needs; without one, the agent can take back what it may need as the
/// doorkeeper.
#[test]
fn each_process_has_the_rights_it_needs_and_no_others() {
    let test = "each_process_has_the_rights_it_needs_and_no_others";
    let Some(_auditing) = Auditing::begin(test) else { return };
    let mut bench = Bench::new();
    let manager = Manager::new(&bench);
    bench.run_by(&["env", &manager.variable()]);
    let agent = bench.start(&[]);
    let kept = [DAC_READ_SEARCH, SYS_PTRACE, SYS_ADMIN, AUDIT_CONTROL, SYSLOG, AUDIT_READ];
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(capabilities(agent.writer, set), NONE, "the writer's {set}");
    }
    assert_eq!(capabilities(agent.doorkeeper, "CapEff"), NONE, "the doorkeeper uses none");
    for set in ["CapEff", "CapPrm"] {
        let has = capabilities(agent.pid, set);
        assert!(kept.iter().all(|one| has.contains(one)), "{set}: {has:?}");
        let others: Vec<&u32> = has.iter().filter(|one| !kept.contains(one)).collect();
        println!("{set}: {others:?} beside what is kept");
        // CAP_NET_ADMIN, CAP_SYS_MODULE, CAP_SYS_BOOT, CAP_SYS_RAWIO, CAP_SYS_CHROOT, CAP_SETUID
        assert!([12, 16, 22, 17, 18, 7].iter().all(|one| !has.contains(one)), "{set}: {has:?}");
    }
    for (pid, least) in [(agent.doorkeeper, 1), (agent.pid, 4), (agent.writer, 3)] {
        assert_eq!((field(pid, "Seccomp"), field(pid, "NoNewPrivs")), ("2".into(), "1".into()));
        let filters: u32 = field(pid, "Seccomp_filters").parse().unwrap();
        assert!(filters >= least, "{filters}");
    }
    assert_eq!(agent.stop(), Some(0));
}

/// A trail that belongs to somebody is written by him, and by nobody else.
#[test]
fn the_writer_is_the_owner_of_the_trail() {
    let test = "the_writer_is_the_owner_of_the_trail";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    assert_eq!(bench.start(&[]).stop(), Some(0));
    let mut owned = Command::new("chown");
    assert!(owned.args(["-R", "65534:65534"]).arg(bench.path("trail")).status().unwrap().success());
    // So that he can go there.
    fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let agent = bench.start(&[]);
    auditing.send("owned", 5);
    assert_eq!(field(agent.writer, "Uid").split_whitespace().collect::<Vec<_>>(), ["65534"; 4]);
    assert_eq!(field(agent.writer, "Gid").split_whitespace().collect::<Vec<_>>(), ["65534"; 4]);
    assert_eq!(field(agent.writer, "Groups"), "");
    assert_eq!(capabilities(agent.writer, "CapPrm"), NONE);
    kill_process(agent.writer, Signal::KILL).unwrap();
    auditing.send("again", 5);
    soon("another writer", || {
        runs(&bench).is_some_and(|status| Who::Writer.of(&status) != Some(agent.writer))
    });
    soon("the last", || bench.bodies("TRUSTED_APP").len() == 10);
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
    assert_eq!(fs::metadata(bench.path("trail/checkpoint")).unwrap().uid(), 65534);
}

/// A service manager's socket, and what came there.
struct Manager {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new(bench: &Bench) -> Manager {
        let path = bench.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager { path, socket }
    }

    fn variable(&self) -> String {
        format!("NOTIFY_SOCKET={}", self.path.display())
    }

    /// What comes within this time.
    fn hear(&self, during: Duration) -> Vec<String> {
        let until = Instant::now() + during;
        let mut said = Vec::new();
        let mut buf = [0; 4096];
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            if let Ok(len) = self.socket.recv(&mut buf) {
                said.push(String::from_utf8_lossy(&buf[..len]).into_owned());
            }
        }
        said
    }

    /// Waits until this comes.
    fn wait_for(&self, word: &str) {
        soon(word, || self.hear(Duration::from_millis(100)).iter().any(|said| said.contains(word)));
    }
}

#[test]
fn the_manager_hears_of_all_that_live_and_not_when_one_hangs() {
    let test = "the_manager_hears_of_all_that_live_and_not_when_one_hangs";
    let Some(_auditing) = Auditing::begin(test) else { return };
    let mut bench = Bench::new();
    let manager = Manager::new(&bench);
    bench.run_by(&["env", &manager.variable(), "WATCHDOG_USEC=900000"]);
    let agent = bench.start(&[]);
    manager.wait_for("READY=1");
    let pings = |during| manager.hear(during).iter().filter(|said| *said == "WATCHDOG=1").count();
    let pinged = pings(Duration::from_secs(2));
    assert!((3..=8).contains(&pinged), "{pinged} in two seconds, of a period of 0.9");
    for pid in [agent.writer, agent.pid] {
        kill_process(pid, Signal::STOP).unwrap();
        // Until it is clear that it hangs.
        let _ = manager.hear(Duration::from_secs(6));
        assert_eq!(pings(Duration::from_secs(2)), 0, "one hangs");
        kill_process(pid, Signal::CONT).unwrap();
        manager.wait_for("WATCHDOG=1");
    }
    assert_eq!(agent.stop(), Some(0));
    assert!(manager.hear(Duration::from_millis(10)).iter().any(|said| said == "STOPPING=1"));
}

/// A manager starts the service again; so the others end with the doorkeeper, and nobody takes its place.
#[test]
fn with_a_manager_all_end_with_the_doorkeeper_and_the_next_goes_on() {
    let test = "with_a_manager_all_end_with_the_doorkeeper_and_the_next_goes_on";
    let Some(auditing) = Auditing::begin(test) else { return };
    let mut stream = Stream { auditing, sent: 0 };
    let mut bench = Bench::new();
    let manager = Manager::new(&bench);
    bench.run_by(&["env", &manager.variable()]);
    let agent = bench.start(&[]);
    stream.send(300);
    kill_process(agent.doorkeeper, Signal::KILL).unwrap();
    soon("the end of all", || bench.processes().is_empty());
    stream.send(300);
    let _agent = bench.start(&[]);
    stream.send(300);
    one_gap(&bench, stream.sent);
}

#[test]
fn a_configuration_is_read_again_and_a_bad_one_changes_nothing() {
    let test = "a_configuration_is_read_again_and_a_bad_one_changes_nothing";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let mut bench = Bench::new();
    let manager = Manager::new(&bench);
    bench.run_by(&["env", &manager.variable()]);
    // What the command line says holds, and is no change of the file's.
    let typed = "[audit]\ninput = \"stdin\"\n";
    bench.write("config", &format!("{typed}[agent]\npoll_seconds = 5\n"));
    let agent = bench.start(&["--config", "config", "--audit-input", "netlink"]);
    manager.wait_for("READY=1");
    let reload = |config: &str, states: usize| {
        bench.write("config", &format!("{typed}{config}"));
        kill_process(agent.doorkeeper, Signal::HUP).unwrap();
        manager.wait_for("RELOADING=1\nMONOTONIC_USEC=");
        let reloads = || -> Vec<String> {
            let all = bench.bodies("VT_AGENT").into_iter();
            all.filter(|body| body.starts_with("state=reload ")).collect()
        };
        soon("the record", || reloads().len() == states);
        reloads().pop().unwrap()
    };
    assert_eq!(reload("[agent]\npoll_seconds = 7\n", 1), "state=reload res=1");
    let bad = reload("[agent]\npoll_seconds = none\n", 2);
    assert!(bad.starts_with("state=reload res=0 reason="), "{bad}");
    assert!(bad.contains("cannot be used"), "{bad}");
    // Another sink is the writer's, which is started again for it and loses nothing.
    auditing.send("before", 50);
    let sink = format!("[trail]\nsinks = [{{ file = \"{}\" }}]\n", bench.path("anchors").display());
    assert_eq!(reload(&sink, 3), "state=reload res=1");
    auditing.send("after", 50);
    soon("the sink's first checkpoint", || bench.path("anchors").exists());
    let more = "[agent]\nsources = [\"audit\"]\n[events]\nreaders = 3\n";
    let later = reload(&format!("{sink}{more}"), 4);
    assert_eq!(later, "state=reload res=1 later=agent.sources,events.readers");
    // It waits still, until it is taken back.
    let later = reload(&format!("{sink}{more}"), 5);
    assert_eq!(later, "state=reload res=1 later=agent.sources,events.readers");
    assert_eq!(reload(&sink, 6), "state=reload res=1");
    assert_eq!(bench.status()["restarts"], 0, "the agent went on");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bench.bodies("TRUSTED_APP").len(), 100);
    assert_eq!(bench.bodies("VT_GAP"), [""; 0]);
    bench.trail_is_good();
}

/// What the file says by now is of no use: each process that is killed comes back with what was good.
#[test]
fn a_broken_configuration_ends_nothing_that_runs() {
    let test = "a_broken_configuration_ends_nothing_that_runs";
    let Some(auditing) = Auditing::begin(test) else { return };
    let mut stream = Stream { auditing, sent: 0 };
    let bench = Bench::new();
    bench.write("config", "[agent]\npoll_seconds = 5\n[quota]\ndisk_reserve = 2000000\n");
    let agent = bench.start(&["--config", "config"]);
    stream.send(10);
    bench.write("config", "[agent]\npoll_seconds = none\n");
    kill_process(agent.doorkeeper, Signal::HUP).unwrap();
    let refused = || bench.bodies("VT_AGENT").iter().any(|body| body.contains("reload res=0"));
    soon("the refusal", refused);
    for who in Who::ALL {
        kill(&bench, who, || stream.send(20));
    }
    // Not even once it is gone.
    fs::remove_file(bench.path("config")).unwrap();
    for who in Who::ALL {
        kill(&bench, who, || stream.send(20));
    }
    stop(&bench);
    account(&bench, stream.sent);
    let ran = bench.veritrail(&[
        "agent",
        "run",
        "--trail",
        "trail",
        "--run-dir",
        "run",
        "--config",
        "config",
    ]);
    assert_eq!(ran.status, Some(6), "who starts it anew is told: {ran:?}");
}

/// A trail that is tampered with while it is written is no moment's trouble.
#[test]
fn a_writer_that_finds_the_trail_tampered_with_ends_the_service() {
    let test = "a_writer_that_finds_the_trail_tampered_with_ends_the_service";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let agent = bench.start(&[]);
    auditing.send("before", 20);
    soon("the last", || bench.bodies("TRUSTED_APP").len() == 20);
    // What is not signed yet nobody can tell from what was never there.
    let signed = || fs::read_to_string(bench.path("trail/checkpoint")).unwrap();
    soon("a signature", || signed().lines().nth(1).unwrap().parse::<u64>().unwrap() > 0);
    kill_process(agent.writer, Signal::STOP).unwrap();
    let segments = fs::read_dir(bench.path("trail/segments")).unwrap().flatten();
    let log = segments.map(|entry| entry.path());
    let log = log.filter(|path| path.extension().is_some_and(|e| e == "log")).max().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    let at = bytes.iter().position(|byte| *byte == b'=').unwrap();
    bytes[at + 1] ^= 1;
    fs::write(&log, bytes).unwrap();
    kill_process(agent.writer, Signal::KILL).unwrap();
    let said = "the trail's writer ended with status 4; it would again";
    soon(said, || fs::read_to_string(bench.path("stderr")).unwrap().contains(said));
}
