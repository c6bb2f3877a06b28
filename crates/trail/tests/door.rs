//! The door with several processes at it: the writer is killed again and again, and nothing
//! that was acknowledged is lost, nothing is there twice, and the trail is what was signed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{HashMap, HashSet};
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use record::units::LeafIndex;
use trail::door::{self, Frame, Options, Role};
use trail::sinks::Sink;
use trail::{
    Class, Disk, Door, DoorError, Entry, Field, Lines, Reader, Stamp, Verdict, VerifyOptions,
};

fn now() -> Stamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = u64::try_from(now.as_nanos()).unwrap();
    Stamp { boottime_ns: now, realtime_ns: now }
}

fn options() -> Options {
    Options {
        now,
        boot: "test".into(),
        sinks: Vec::new(),
        reserve: None,
        patience: Duration::from_secs(30),
        role: Role::Any,
    }
}

fn made() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    door::create(dir.path(), "host").unwrap().expect("it is not there yet");
    assert_eq!(door::create(dir.path(), "host").unwrap(), None);
    dir
}

/// Hands in one line.
fn submit(door: &Door, line: &str) -> Result<door::Receipt, DoorError> {
    door.submit(&Entry {
        class: Class::Rest,
        ticket: None,
        lines: Lines::Foreign { origin: record::stored::Origin::File, lines: &[line.as_bytes()] },
        tail: &[Field { name: "VT_SRC", value: "import" }],
    })
}

fn line(tag: &str, n: u64) -> String {
    format!("type=USER msg=audit(1.000:{n}): tag={tag} n={n}\n")
}

/// `tag=` and `n=` of every leaf that has them, in order.
fn tagged(dir: &Path) -> Vec<(String, u64)> {
    let mut reader = Reader::open(Disk::new(dir), LeafIndex(0)).unwrap();
    let mut found = Vec::new();
    while let Some(leaf) = reader.next().unwrap() {
        let text = String::from_utf8(leaf.bytes.to_vec()).unwrap();
        let Some((_, tag)) = text.split_once(" tag=") else { continue };
        let (tag, rest) = tag.split_once(" n=").unwrap();
        let n = rest.split('\u{1d}').next().unwrap();
        found.push((tag.to_owned(), n.parse().unwrap()));
    }
    found
}

fn assert_good(dir: &Path) {
    match trail::verify(&Disk::new(dir), &VerifyOptions::default()).unwrap() {
        Verdict::Good(_) => {}
        Verdict::Tampered(what) => panic!("{what}"),
    }
}

const DIR: &str = "VERITRAIL_TEST_DOOR_DIR";
const TAG: &str = "VERITRAIL_TEST_DOOR_TAG";

/// Not a test but a process of one: hands in lines, says which are durable, ends when its
/// standard input does.
#[test]
fn worker() {
    let (Ok(dir), Ok(tag)) = (std::env::var(DIR), std::env::var(TAG)) else { return };
    let (stop, stopped) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        drop(stop);
    });
    let door = Door::open(Path::new(&dir), options()).unwrap();
    let mut n = 0;
    let mut out = std::io::stderr();
    while stopped.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
        let mut last = door::Receipt::default();
        for _ in 0..20 {
            last = submit(&door, &line(&tag, n)).unwrap();
            n += 1;
        }
        door.wait_durable(last).unwrap();
        writeln!(out, "durable {n}").unwrap();
    }
    door.close().unwrap();
    writeln!(out, "closed {n}").unwrap();
}

struct Worker {
    child: Child,
    tag: String,
    /// Gives what the worker has said once it has ended.
    said: std::thread::JoinHandle<(u64, bool)>,
}

impl Worker {
    fn start(dir: &Path, tag: String) -> Worker {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker", "--nocapture"])
            .env(DIR, dir)
            .env(TAG, &tag)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        let said = std::thread::spawn(move || {
            let (mut durable, mut closed) = (0, false);
            for line in err.lines().map_while(Result::ok) {
                if let Some(n) = line.strip_prefix("durable ").and_then(|n| n.parse().ok()) {
                    durable = n;
                } else if line == format!("closed {durable}") {
                    closed = true;
                } else {
                    eprintln!("worker: {line}");
                }
            }
            (durable, closed)
        });
        Worker { child, tag, said }
    }
}

#[test]
fn killed_writers_lose_nothing_and_double_nothing() {
    let long = std::env::var_os("VERITRAIL_LONG").is_some();
    let (kills, workers, seconds) = if long { (300, 6, 600) } else { (40, 4, 120) };
    let dir = made();
    let mut running: Vec<_> =
        (0..workers).map(|n| Worker::start(dir.path(), format!("first{n}"))).collect();
    let mut ended = Vec::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut killed = 0;
    while killed < kills && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20 + 7 * (killed % 11)));
        // The peer of the socket is whoever listens there: the writer.
        let Ok(socket) = UnixStream::connect(dir.path().join("trail.sock")) else { continue };
        let Ok(peer) = rustix::net::sockopt::socket_peercred(&socket) else { continue };
        let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap();
        let Some(at) = running.iter().position(|w| w.child.id() == pid) else { continue };
        let mut worker = running.swap_remove(at);
        worker.child.kill().unwrap();
        worker.child.wait().unwrap();
        ended.push(worker);
        running.push(Worker::start(dir.path(), format!("next{killed}")));
        killed += 1;
    }
    assert_eq!(killed, kills, "the writers were too slow");
    let mut acknowledged = HashMap::new();
    for mut worker in running {
        drop(worker.child.stdin.take());
        assert!(worker.child.wait().unwrap().success());
        let (durable, closed) = worker.said.join().unwrap();
        assert!(closed && durable > 0, "{} did nothing", worker.tag);
        acknowledged.insert(worker.tag, durable);
    }
    for worker in ended {
        acknowledged.insert(worker.tag, worker.said.join().unwrap().0);
    }
    assert_good(dir.path());
    let found = tagged(dir.path());
    let mut next: HashMap<&str, u64> = HashMap::new();
    for (tag, n) in &found {
        let next = next.entry(tag).or_default();
        assert_eq!(n, next, "{tag}: lost, doubled or out of order");
        *next += 1;
    }
    for (tag, durable) in &acknowledged {
        let there = next.get(tag.as_str()).copied().unwrap_or_default();
        assert!(there >= *durable, "{tag}: {durable} acknowledged, {there} there");
    }
    eprintln!("{kills} writers killed, {} leaves", found.len());
}

#[test]
fn one_door_after_the_other_and_many_at_once() {
    let dir = made();
    for tag in ["a", "b"] {
        let door = Door::open(dir.path(), options()).unwrap();
        let first = submit(&door, &line(tag, 0)).unwrap();
        for n in 1..10 {
            submit(&door, &line(tag, n)).unwrap();
        }
        door.wait_durable_from(first).unwrap();
        assert!(door.is_settled(first));
        door.close().unwrap();
    }
    // The first is the writer; it leaves first, and the others go on.
    let doors: Vec<_> = (0..4).map(|_| Door::open(dir.path(), options()).unwrap()).collect();
    for round in 0..4_u64 {
        for (at, door) in doors.iter().enumerate() {
            for n in 0..100 {
                submit(door, &line(&format!("c{at}"), round * 100 + n)).unwrap();
            }
        }
    }
    for door in doors {
        door.close().unwrap();
    }
    let found = tagged(dir.path());
    assert_eq!(found.len(), 20 + 4 * 400);
    assert_eq!(found.iter().collect::<HashSet<_>>().len(), found.len());
    assert_good(dir.path());
}

#[test]
fn a_checkpoint_covers_what_was_handed_in() {
    let dir = made();
    let first = Door::open(dir.path(), options()).unwrap();
    submit(&first, &line("a", 0)).unwrap();
    let size = |note: &[u8]| {
        let note = String::from_utf8(note.to_vec()).unwrap();
        note.lines().nth(1).unwrap().parse::<usize>().unwrap()
    };
    assert!(size(&first.checkpoint().unwrap()) >= 1);
    // And from a client.
    let second = Door::open(dir.path(), options()).unwrap();
    for n in 0..10 {
        submit(&second, &line("b", n)).unwrap();
    }
    assert!(size(&second.checkpoint().unwrap()) >= 11);
    assert!(size(&second.checkpoint().unwrap()) >= 11);
    second.close().unwrap();
    first.close().unwrap();
}

#[test]
fn sinks_get_checkpoints_and_their_failures_are_recorded() {
    let dir = made();
    let anchors = dir.path().join("anchors");
    let broken = Sink::Command { program: "false".into(), args: Vec::new() };
    let sinks = vec![Sink::File(anchors.clone()), broken];
    let door = Door::open(dir.path(), Options { sinks, ..options() }).unwrap();
    submit(&door, &line("a", 0)).unwrap();
    door.checkpoint().unwrap();
    // The failing sink is told of by the writer's next round.
    std::thread::sleep(Duration::from_millis(1500));
    submit(&door, &line("a", 1)).unwrap();
    door.close().unwrap();
    let text = std::fs::read_to_string(&anchors).unwrap();
    let notes: Vec<_> = trail::checkpoint::split(&text).map(str::to_owned).collect();
    assert!(notes.len() >= 2, "{text}");
    assert_eq!(
        notes.last().unwrap(),
        &std::fs::read_to_string(dir.path().join("checkpoint")).unwrap()
    );
    let options = VerifyOptions { anchors: notes.clone(), ..VerifyOptions::default() };
    let Verdict::Good(report) = trail::verify(&Disk::new(dir.path()), &options).unwrap() else {
        panic!("its own checkpoints are in it")
    };
    assert_eq!(report.anchors, notes.len());
    let mut reader = Reader::open(Disk::new(dir.path()), LeafIndex(0)).unwrap();
    let mut sinks = Vec::new();
    while let Some(leaf) = reader.next().unwrap() {
        let text = String::from_utf8(leaf.bytes.to_vec()).unwrap();
        if text.starts_with("type=VT_SINK ") {
            sinks
                .push(text.split_once("): ").unwrap().1.split('\u{1d}').next().unwrap().to_owned());
        }
    }
    let sink = "636F6D6D616E642066616C7365"; // "command false"
    let error = "656E64656420776974682065786974207374617475733A2031"; // "ended with exit status: 1"
    assert_eq!(sinks, [format!("sink={sink} state=failing failures=1 error={error}")]);
}

#[test]
fn hostile_frames_cost_their_sender_the_connection() {
    let dir = made();
    let door = Door::open(dir.path(), options()).unwrap();
    let last = submit(&door, &line("a", 0)).unwrap();
    door.wait_durable(last).unwrap();
    let hello = |client| {
        let mut out = Vec::new();
        Frame::Hello { version: 1, client }.write(&mut out);
        out
    };
    let entry = |packed: &[u8]| {
        let mut out = Vec::new();
        Frame::Entry { seq: 1, class: Class::Rest, packed: packed.to_vec() }.write(&mut out);
        out
    };
    let forged = b"\x02\0\x05\0\0\0a\nb\x1dVT_LEAF=1";
    let cases: &[Vec<u8>] = &[
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        entry(b"\x02\0\x01\0\0\0a"),
        [hello(1), hello(1)].concat(),
        [hello(2), entry(b"")].concat(),
        [hello(3), entry(b"\xff\xff\xff\xff")].concat(),
        [hello(4), entry(forged)].concat(),
        [hello(5), b"\x00\x00\x30\x00\x02only the beginning".to_vec()].concat(),
        [hello(6), entry(b"\x02\x01\x07\x01\0VT_LEAF7\x01\0\0\0a")].concat(),
        [hello(7), entry(b"\0\0\x05\0\0\0\x01a\n\x1dx")].concat(),
    ];
    let mut kept = Vec::new();
    for case in cases {
        let mut stream = UnixStream::connect(dir.path().join("trail.sock")).unwrap();
        // The writer may have hung up before all of it went.
        let _ = stream.write_all(case);
        kept.push(stream);
    }
    for n in 1..100 {
        submit(&door, &line("a", n)).unwrap();
    }
    door.close().unwrap();
    drop(kept);
    let found = tagged(dir.path());
    assert_eq!(found, (0..100).map(|n| ("a".to_owned(), n)).collect::<Vec<_>>());
    assert_good(dir.path());
}

#[test]
fn an_entry_that_no_trail_takes_is_refused_and_the_rest_goes_on() {
    let dir = made();
    let writer = Door::open(dir.path(), options()).unwrap();
    let last = submit(&writer, &line("w", 0)).unwrap();
    writer.wait_durable(last).unwrap();
    let client = Door::open(dir.path(), options()).unwrap();
    for (door, tag) in [(&writer, "w"), (&client, "c")] {
        let bad = [Field { name: "VT_LEAF", value: "7" }];
        let before = submit(door, &line(tag, 1)).unwrap();
        let lines = Lines::Foreign { origin: record::stored::Origin::File, lines: &[b"x\n"] };
        let entry = Entry { class: Class::Rest, ticket: None, lines, tail: &bad };
        let refused = door.submit(&entry).unwrap();
        let after = submit(door, &line(tag, 2)).unwrap();
        door.wait_durable(before).unwrap();
        assert!(matches!(door.wait_durable(refused), Err(DoorError::Refused { .. })));
        door.wait_durable(after).unwrap();
    }
    client.close().unwrap();
    writer.close().unwrap();
    let mut found = tagged(dir.path());
    found.sort();
    let expected = [("c", 1), ("c", 2), ("w", 0), ("w", 1), ("w", 2)];
    assert_eq!(found, expected.map(|(tag, n)| (tag.to_owned(), n)));
    assert_good(dir.path());
}

/// What the gaps say of the rest.
fn told_lost(dir: &Path) -> u64 {
    let mut reader = Reader::open(Disk::new(dir), LeafIndex(0)).unwrap();
    let mut told = 0;
    while let Some(leaf) = reader.next().unwrap() {
        let text = String::from_utf8(leaf.bytes.to_vec()).unwrap();
        let Some((_, rest)) = text.split_once("source=queue integrity=0 keyed=0 rest=") else {
            continue;
        };
        told += rest.split(' ').next().unwrap().parse::<u64>().unwrap();
    }
    told
}

/// What a disk has no room for does not keep back what it has room for.
#[test]
fn a_run_that_finds_no_room_is_refused_at_once_and_what_is_behind_it_is_taken() {
    const RUN: u64 = 1000;
    let dir = made();
    let scarce = Options { reserve: Some(1 << 60), role: Role::Writer, ..options() };
    let writer = Door::open(dir.path(), scarce).unwrap();
    let client = Door::open(dir.path(), Options { role: Role::Client, ..options() }).unwrap();
    let hand_in = |class, tag: &str, n| {
        let line = line(tag, n);
        let lines = [line.as_bytes()];
        let origin = record::stored::Origin::File;
        let lines = Lines::Foreign { origin, lines: &lines };
        client.submit(&Entry { class, ticket: None, lines, tail: &[] }).unwrap()
    };
    let began = Instant::now();
    let refused: Vec<_> = (0..RUN).map(|n| hand_in(Class::Rest, "rest", n)).collect();
    client.wait_durable(hand_in(Class::Integrity, "kept", 0)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let is_told =
        |receipt: &&door::Receipt| matches!(client.wait_durable(**receipt), Err(DoorError::NoRoom));
    assert_eq!(refused.iter().filter(is_told).count() as u64, RUN);
    // Of both kinds in turn each is what it is.
    for n in 1..10 {
        let lost = hand_in(Class::Rest, "rest", RUN + n);
        let kept = hand_in(Class::Integrity, "kept", n);
        client.wait_durable(kept).unwrap();
        assert!(is_told(&&lost));
    }
    client.close().unwrap();
    writer.close().unwrap();
    assert_eq!(told_lost(dir.path()), RUN + 9);
    assert_eq!(tagged(dir.path()), (0..10).map(|n| ("kept".to_owned(), n)).collect::<Vec<_>>());
    assert_good(dir.path());
}

#[test]
fn a_door_that_cannot_be_opened_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let error = Door::open(dir.path(), options()).unwrap_err();
    assert_eq!(error.to_string(), "there is no trail here: no file `id`");
    let dir = made();
    std::fs::write(dir.path().join("key"), "nonsense").unwrap();
    let door = Door::open(dir.path(), options()).unwrap();
    let receipt = submit(&door, &line("a", 0));
    let error = receipt.and_then(|receipt| door.wait_durable(receipt)).unwrap_err();
    assert!(matches!(error, DoorError::Trail(_)), "{error}");
    assert_eq!(door.close().unwrap_err().to_string(), error.to_string());
}

#[test]
fn no_trail_is_made_among_other_files() {
    let dir = tempfile::tempdir().unwrap();
    // What a crash leaves of an unfinished trail is no obstacle.
    for name in ["key", "checkpoint.tmp", "lock"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    std::fs::write(dir.path().join("passwd"), "").unwrap();
    let error = door::create(dir.path(), "host").unwrap_err();
    let expected = "no trail is made in a directory that holds other files: passwd";
    assert_eq!(error.to_string(), expected);
    std::fs::remove_file(dir.path().join("passwd")).unwrap();
    assert!(door::create(dir.path(), "host").unwrap().is_some());
}

#[test]
fn who_can_never_get_in_is_told_at_once() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: who_can_never_get_in_is_told_at_once: needs root to be another user");
        return;
    }
    let dir = made();
    for mode in [0o755, 0o700] {
        std::fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        let path = dir.path().to_owned();
        let start = Instant::now();
        // A user of this thread only, and of those that the door starts.
        let told = std::thread::spawn(move || {
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65534)).unwrap();
            let door = Door::open(&path, options())?;
            door.wait_durable(submit(&door, &line("a", 0))?)
        });
        assert_eq!(
            told.join().unwrap().unwrap_err().to_string(),
            "user 65534 may neither read the trail's key nor reach its writer; user 0 and root may"
        );
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_directory_for_everybody_and_parts_that_are_links_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let exposed = |mode| std::fs::set_permissions(dir.path(), Permissions::from_mode(mode));
    let expected = "everybody may write to the trail's directory";
    exposed(0o1777).unwrap();
    assert_eq!(door::create(dir.path(), "host").unwrap_err().to_string(), expected);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
    exposed(0o755).unwrap();
    door::create(dir.path(), "host").unwrap().unwrap();
    exposed(0o757).unwrap();
    assert_eq!(Door::open(dir.path(), options()).unwrap_err().to_string(), expected);
    exposed(0o755).unwrap();
    for part in ["segments", "hashes", "torn"] {
        let (path, moved) = (dir.path().join(part), dir.path().join("moved"));
        std::fs::rename(&path, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &path).unwrap();
        let expected = format!(
            "{part} is not usable: it is not a directory; a trail lies in one place, without links"
        );
        assert_eq!(Door::open(dir.path(), options()).unwrap_err().to_string(), expected);
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&moved, &path).unwrap();
    }
    Door::open(dir.path(), options()).unwrap().close().unwrap();
}
