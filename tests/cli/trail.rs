//! `veritrail trail`: what goes in comes out, what was changed is found, and who is killed
//! has lost nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

const OURS: &str = env!("CARGO_BIN_EXE_veritrail");

/// Exit status, standard output, standard error.
struct Said {
    code: i32,
    out: Vec<u8>,
    err: String,
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8(self.out.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap()
    }
}

/// `veritrail trail ARGS` in `dir`.
fn trail_with(dir: &Path, args: &[&str], stdin: &[u8]) -> Said {
    let mut child = Command::new(OURS)
        .arg("trail")
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    Said { code: output.status.code().unwrap(), out: output.stdout, err }
}

fn trail(dir: &Path, args: &[&str]) -> Said {
    trail_with(dir, args, b"")
}

/// The same where nothing may go wrong.
fn good(dir: &Path, args: &[&str]) -> Said {
    let said = trail(dir, args);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{args:?}");
    said
}

fn goldens() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/audit");
    let mut logs: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.sort();
    logs
}

/// Lines with their ends, in an order of their own: events are stored one after the other,
/// however their lines were mixed.
fn sorted(log: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<_> = log.split_inclusive(|&byte| byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

fn segment(trail: &Path) -> PathBuf {
    trail.join("segments/00000000000000000000.log")
}

#[test]
fn real_logs_go_in_and_come_out() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let logs = goldens();
    let mut args = vec!["import", "t", "--json"];
    args.extend(logs.iter().map(|log| log.to_str().unwrap()));
    let imported = good(dir, &args).json();
    assert_eq!(imported["sources"].as_array().unwrap().len(), logs.len());
    let mut all = Vec::new();
    let mut events = 0;
    for (log, source) in logs.iter().zip(imported["sources"].as_array().unwrap()) {
        let bytes = fs::read(log).unwrap();
        assert_eq!(source["source"], log.to_str().unwrap());
        assert_eq!(source["bytes"], bytes.len());
        assert_eq!(source["lines"], bytes.split_inclusive(|&b| b == b'\n').count());
        assert_eq!(source["unparsed"], 0);
        events += source["events"].as_u64().unwrap();
        all.extend(bytes);
    }
    let key = imported["created"].as_str().unwrap();
    assert_eq!(fs::read_to_string(dir.join("t/key.pub")).unwrap().trim_end(), key);

    let raw = good(dir, &["export", "t"]);
    assert_eq!(sorted(&raw.out), sorted(&all));
    let json = good(dir, &["export", "t", "--format", "json"]).text();
    assert_eq!(json.lines().count() as u64, events);
    let json = good(dir, &["export", "t", "--format", "json", "--all"]).text();
    assert_eq!(json.lines().count() as u64, events + logs.len() as u64);
    for (leaf, line) in json.lines().enumerate() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!((event["leaf"].as_u64(), &event["src"]), (Some(leaf as u64), &"import".into()));
    }
    let some = good(dir, &["export", "t", "--format", "json", "--from", "3", "--to", "5"]).text();
    assert_eq!(some, json.lines().skip(3).take(2).map(|l| format!("{l}\n")).collect::<String>());

    let verified = good(dir, &["verify", "t", "--json", "--public-key", key]).json();
    assert_eq!(verified["verdict"], "good");
    assert_eq!(verified["key"], "proven");
    assert_eq!(verified["signed"], events + logs.len() as u64);
    assert_eq!((verified["unsigned"].as_u64(), verified["torn"].as_u64()), (Some(0), Some(0)));

    // The same file again: new leaves.
    good(dir, &["import", "t", logs[0].to_str().unwrap()]);
    let again = good(dir, &["verify", "t", "--json"]).json();
    assert!(again["signed"].as_u64() > verified["signed"].as_u64());
}

#[test]
fn the_words_of_import_and_verify() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let log = b"type=USER msg=audit(1.000:1): a=1\nnothing\n";
    let said = trail_with(dir, &["import", "t", "-"], log);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let key = fs::read_to_string(dir.join("t/key.pub")).unwrap();
    let origin = fs::read_to_string(dir.join("t/id")).unwrap();
    let (key, origin) = (key.trim_end(), origin.trim_end());
    assert_eq!(
        said.text(),
        format!(
            "made the trail t of {origin}; keep its public key elsewhere:\n  {key}\n\
             -: 2 lines, 1 events, 1 lines that are no records\n  42 bytes, SHA-256 {}\n",
            sha256(log)
        )
    );
    let checkpoint = fs::read_to_string(dir.join("t/checkpoint")).unwrap();
    let root = checkpoint.lines().nth(2).unwrap();
    assert_eq!(
        good(dir, &["verify", "t"]).text(),
        format!(
            "self-consistent; key not proven\n  The trail fits the key that lies in it. Whoever \
             can write there could have put\n  another key and signed anew: compare with \
             --public-key or --anchors.\nsigned 3, unsigned tail 0\norigin {origin}\nroot {root}\n"
        )
    );
    assert_eq!(
        good(dir, &["verify", "t", "--public-key", "t/key.pub", "--checkpoint", "t/checkpoint"])
            .text(),
        format!(
            "good: the trail is what the given key signed\nsigned 3, unsigned tail 0\n\
             contains all 1 given checkpoints\norigin {origin}\nroot {root}\n"
        )
    );
    assert_eq!(good(dir, &["checkpoint", "t"]).text(), checkpoint);
    let json = good(dir, &["checkpoint", "t", "--json"]).json();
    assert_eq!(json["note"], checkpoint);
    assert_eq!((&json["origin"], json["size"].as_u64()), (&origin.into(), Some(3)));
}

fn sha256(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bytes");
    fs::write(&file, bytes).unwrap();
    let output = Command::new("sha256sum").arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn proofs_are_checked_without_the_trail() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let logs = goldens();
    good(dir, &["import", "t", logs[0].to_str().unwrap()]);
    good(dir, &["import", "other", logs[0].to_str().unwrap()]);
    good(dir, &["prove", "t", "3", "--output", "proof"]);
    assert_eq!(good(dir, &["prove", "t", "3"]).out, fs::read(dir.join("proof")).unwrap());
    let args = ["check-proof", "proof", "--json", "--public-key", "t/key.pub"];
    let proven = good(dir, &args).json();
    assert_eq!((&proven["proof"], proven["leaf"].as_u64()), (&"good".into(), Some(3)));
    let text = fs::read_to_string(segment(&dir.join("t"))).unwrap();
    let leaf = text.lines().find(|line| line.contains("\u{1d}VT_LEAF=3 ")).unwrap();
    assert_eq!(proven["event"], format!("{leaf}\n"));
    // Another's key, another's checkpoint, a changed leaf: no.
    let bundle = fs::read_to_string(dir.join("proof")).unwrap();
    let no = trail(dir, &["check-proof", "proof", "--public-key", "other/key.pub"]);
    assert_eq!((no.code, no.err.as_str()), (1, ""));
    fs::write(dir.join("changed"), bundle.replacen("index 3", "index 4", 1)).unwrap();
    let no = trail(dir, &["check-proof", "changed", "--json", "--public-key", "t/key.pub"]);
    assert_eq!((no.code, &no.json()["proof"]), (1, &"false".into()));
    // No bundle at all, no such leaf.
    let log = logs[0].to_str().unwrap();
    assert_eq!(trail(dir, &["check-proof", log, "--public-key", "t/key.pub"]).code, 5);
    let none = trail(dir, &["prove", "t", "1000"]);
    assert_eq!((none.code, none.out.len()), (1, 0));
}

#[test]
fn tampering_is_found_and_the_place_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let logs = goldens();
    good(dir, &["import", "t", logs[0].to_str().unwrap()]);
    let old = good(dir, &["checkpoint", "t"]).out;
    fs::write(dir.join("old"), old).unwrap();
    let copy: Vec<_> = ["checkpoint", "segments/00000000000000000000.log"]
        .map(|name| (name, fs::read(dir.join("t").join(name)).unwrap()))
        .into();
    good(dir, &["import", "t", logs[1].to_str().unwrap()]);
    good(dir, &["verify", "t", "--checkpoint", "old"]);
    fs::write(dir.join("new"), fs::read(dir.join("t/checkpoint")).unwrap()).unwrap();

    let path = segment(&dir.join("t"));
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    let at = whole.windows(8).position(|w| w == b"VT_LEAF=").unwrap() - 5;
    changed[at] ^= 1;
    fs::write(&path, changed).unwrap();
    let said = trail(dir, &["verify", "t", "--json"]);
    assert_eq!(said.code, 4);
    let answer = said.json();
    assert_eq!((&answer["verdict"], answer["leaf"].as_u64()), (&"tampered".into(), Some(0)));
    assert!(said.err.starts_with("veritrail: trail t was tampered with: leaf 0: "), "{}", said.err);
    fs::write(&path, &whole).unwrap();
    good(dir, &["verify", "t", "--checkpoint", "new"]);

    // An older copy is consistent in itself; the newer checkpoint says that it is not all.
    for (name, bytes) in copy {
        fs::write(dir.join("t").join(name), bytes).unwrap();
    }
    good(dir, &["verify", "t"]);
    assert_eq!(trail(dir, &["verify", "t", "--checkpoint", "new"]).code, 4);
    assert_eq!(trail(dir, &["verify", "t", "--anchors", "new"]).code, 4);
}

#[test]
fn checkpoints_go_to_the_sinks() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let anchors = dir.join("anchors");
    let told = dir.join("told");
    let config = format!(
        "[trail]\nsinks = [{{ file = {anchors:?} }}, {{ command = [\"tee\", \"-a\", {told:?}] }}]\n"
    );
    fs::write(dir.join("config"), config).unwrap();
    let log = goldens()[0].clone();
    for _ in 0..3 {
        good(dir, &["import", "t", log.to_str().unwrap(), "--config", "config"]);
    }
    let notes = fs::read_to_string(&anchors).unwrap();
    assert_eq!(fs::read_to_string(&told).unwrap(), notes);
    let last = fs::read_to_string(dir.join("t/checkpoint")).unwrap();
    assert!(notes.ends_with(&last));
    let count = notes.matches("\n\u{2014} ").count();
    assert!(count >= 3, "{notes}");
    let verified = good(dir, &["verify", "t", "--json", "--anchors", "anchors"]).json();
    assert_eq!(verified["anchors"], count);
    // Those of another trail are not in it.
    good(dir, &["import", "other", log.to_str().unwrap()]);
    assert!([4, 5].contains(&trail(dir, &["verify", "other", "--anchors", "anchors"]).code));
    fs::write(dir.join("none"), "\n").unwrap();
    assert_eq!(trail(dir, &["verify", "t", "--anchors", "none"]).code, 5);
}

#[test]
fn checkpoints_in_a_log_tell_a_trail_that_was_cut_rewritten_or_forked() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let syslog = std::os::unix::net::UnixDatagram::bind(dir.join("socket")).unwrap();
    syslog.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let socket = dir.join("socket");
    fs::write(dir.join("config"), format!("[trail]\nsinks = [{{ syslog = {socket:?} }}]\n"))
        .unwrap();
    for name in ["first", "second", "third"] {
        let line = |n| format!("type=USER msg=audit(1.000:{n}): pid={n} msg='{name}'\n");
        fs::write(dir.join(name), (1..20).map(line).collect::<String>()).unwrap();
    }
    let copy = |to: &str| {
        let done = Command::new("cp").args(["-r", "t", to]).current_dir(dir).status();
        assert!(done.unwrap().success());
    };
    good(dir, &["import", "t", "first", "--config", "config"]);
    copy("cut");
    copy("forked");
    good(dir, &["import", "t", "second", "--config", "config"]);
    let mut log = "Nov 22 host kernel: nothing\n".to_owned();
    let mut message = [0; 4096];
    while let Ok(length) = syslog.recv(&mut message) {
        log.push_str("2026-11-22T10:00:00Z host ");
        log.push_str(std::str::from_utf8(&message[..length]).unwrap());
        log.push('\n');
    }
    fs::write(dir.join("syslog"), &log).unwrap();
    let verified = good(dir, &["verify", "t", "--json", "--anchors", "syslog"]).json();
    let count = log.lines().count() - 1;
    assert!(count >= 2, "{log}");
    assert_eq!(verified["anchors"], count);

    // Who has the key signs anew: only what has left the machine tells.
    good(dir, &["import", "forked", "third"]);
    good(dir, &["import", "forked", "third"]);
    for (name, said) in [("cut", "the end was cut off"), ("forked", "leaves are not those of")] {
        good(dir, &["verify", name]);
        let ran = trail(dir, &["verify", name, "--anchors", "syslog"]);
        assert_eq!(ran.code, 4, "{}", ran.err);
        assert!(ran.err.contains(said), "{}", ran.err);
        assert!(ran.err.contains("the checkpoint kept in syslog, line "), "{}", ran.err);
    }
    // A line that somebody has changed is named; those of other trails are passed over.
    let at = log.rfind("sig=").unwrap() + 20;
    let other = if &log[at..=at] == "A" { "B" } else { "A" };
    let mut changed = log.clone();
    changed.replace_range(at..=at, other);
    fs::write(dir.join("changed"), changed).unwrap();
    let ran = trail(dir, &["verify", "t", "--anchors", "changed"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("the checkpoint kept in changed, line "), "{}", ran.err);
    good(dir, &["import", "elsewhere", "first"]);
    let ran = trail(dir, &["verify", "elsewhere", "--anchors", "syslog"]);
    assert_eq!(ran.code, 5);
    assert!(ran.err.contains("syslog holds no checkpoint of "), "{}", ran.err);
}

#[test]
fn what_cannot_be_done_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("log"), "type=USER msg=audit(1.000:1): a=1\n").unwrap();
    fs::write(dir.join("bad.toml"), "[trail]\nsink = 1\n").unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    let cases: [(&[&str], i32); 9] = [
        (&["verify", "nowhere"], 5),
        (&["verify", "empty"], 5),
        (&["verify", "empty", "--public-key", "nonsense"], 5),
        (&["export", "empty"], 5),
        (&["checkpoint", "empty"], 5),
        (&["import", "t", "nowhere"], 6),
        (&["import", "t", "."], 6),
        (&["import", "t", "log", "--config", "bad.toml"], 5),
        (&["import", "t"], 2),
    ];
    for (args, code) in cases {
        let said = trail(dir, args);
        assert_eq!(said.code, code, "{args:?}: {}", said.err);
        assert_eq!(said.out, b"", "{args:?}");
    }
    assert!(!dir.join("t").exists(), "nothing is made for what cannot be read");
}

/// Files that want to be something else. For each the number of events and of lines that are
/// no records; everything must come back as it was.
#[test]
fn nothing_in_a_file_forges_a_record() {
    let user = |n: usize, body: &[u8]| {
        [format!("type=USER msg=audit(1.000:{n}): ").as_bytes(), body].concat()
    };
    let long = |n: usize| user(n, &vec![b'x'; n]);
    let forged = b"type=DM_EVENT msg=audit(1.000:9): module=verity op=verify-data\n";
    let mut limits = Vec::new();
    for n in (8700..9000).step_by(7) {
        limits.extend([long(n), b"\n".to_vec()].concat());
    }
    let cases: Vec<(&str, Vec<u8>, u64, u64)> = vec![
        ("nothing", Vec::new(), 0, 0),
        ("a LF", b"\n".to_vec(), 0, 1),
        ("CRLF", [&user(1, b"a=1")[..], b"\r\n", &user(2, b"a=2"), b"\r\n"].concat(), 2, 0),
        ("no LF at the end", [&user(1, b"a=1")[..], b"\n", &user(2, b"a=2")].concat(), 2, 0),
        ("CR at the end", [&user(1, b"a=1")[..], b"\r"].concat(), 1, 0),
        ("CR inside", [&user(1, b"a=1\r")[..], forged].concat(), 1, 0),
        ("NULs", [&user(1, b"a=\0b\n\0\0\n")[..], &user(2, b"a=2\n")].concat(), 2, 1),
        ("our tail", user(1, b"a=1\x1dVT_LEAF=7\n"), 1, 0),
        ("all of it", user(1, b"a=1\x1dVT_LEAF=7 VT_SEQ=x:99 VT_SRC=kernel\x1d\n"), 1, 0),
        ("two tails", user(1, b"a=1\x1dUID=\"root\"\x1dVT_LEAF=0 VT_MORE=1\n"), 1, 0),
        ("a tail alone", b"\x1d\n\x1dVT_LEAF=3\nx\x1dVT_LEAF=4\n".to_vec(), 0, 3),
        (
            "our records",
            b"type=VT_LINE msg=audit(1.000:1): part=1/2 data=61\n\
              type=VT_IMPORT msg=audit(1.000:2): source=\"x\"\n\
              type=UNKNOWN[2912] msg=audit(1.000:3): x\n"
                .to_vec(),
            3,
            0,
        ),
        ("a long line", [&long(9000)[..], forged].concat(), 1, 0),
        ("lines about the limit", limits, 43, 0),
        ("a MiB", [long(1 << 20), b"\n".to_vec()].concat(), 1, 0),
        (
            "3 MiB, and a record where it may be cut",
            [&vec![b'q'; 3 << 20][..], forged].concat(),
            0,
            1,
        ),
        (
            "5 MiB, the same",
            [&vec![b'q'; 3 << 20][..], &forged[..forged.len() - 1], &vec![b'z'; 2 << 20], b"\n"]
                .concat(),
            0,
            1,
        ),
        ("no text", user(1, b"a=\xff\xfe b=\"\xc3\"\n"), 1, 0),
        (
            "ausearch -i",
            b"----\ntype=USER msg=audit(01/01/24 10:00:00.000:1) : a=1\n".to_vec(),
            0,
            2,
        ),
        (
            "the last moment",
            b"type=USER msg=audit(18446744073709551.615:4294967295): a\n".to_vec(),
            1,
            0,
        ),
        (
            "one event without end",
            (0..3000)
                .flat_map(|n| format!("type=PATH msg=audit(1.000:1): item={n}\n").into_bytes())
                .collect(),
            1,
            0,
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (name, bytes, events, unparsed) in cases {
        let _ = fs::remove_dir_all(dir.join("t"));
        let said = trail_with(dir, &["import", "t", "-", "--json"], &bytes);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{name}");
        let source = &said.json()["sources"][0];
        let counts = (source["events"].as_u64(), source["unparsed"].as_u64());
        assert_eq!(counts, (Some(events), Some(unparsed)), "{name}");
        good(dir, &["verify", "t"]);
        let back = good(dir, &["export", "t"]);
        assert!(sorted(&back.out) == sorted(&bytes), "{name}: export is not what came in");
        // What claims to be ours in the source is text, in a leaf with our own word behind.
        let json = good(dir, &["export", "t", "--format", "json", "--all"]).text();
        for (leaf, line) in json.lines().enumerate() {
            let event: Value = serde_json::from_str(line).unwrap();
            assert_eq!(event["src"], "import", "{name}");
            let forged = &event["records"][0]["type"];
            assert!(forged != "DM_EVENT", "{name}: leaf {leaf}");
        }
    }
}

/// A log of `events` events of two records, `first` being the serial of the first one.
fn log(first: usize, events: usize) -> String {
    let mut log = String::new();
    for n in first..first + events {
        let stamp = format!("audit({}.{:03}:{n})", 1_700_000_000 + n / 1000, n % 1000);
        log += &format!("type=SYSCALL msg={stamp}: arch=c000003e syscall=59 n={n}\n");
        log += &format!("type=PROCTITLE msg={stamp}: proctitle=\"p{n}\"\n");
    }
    log
}

#[test]
fn an_import_that_is_killed_costs_nothing_but_itself() {
    let kills = if std::env::var_os("VERITRAIL_LONG").is_some() { 200 } else { 25 };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("log"), log(1, 5000)).unwrap();
    let mut whole = 0;
    for kill in 0..kills {
        let mut import = Command::new(OURS)
            .args(["trail", "import", "t", "log"])
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis((kill * 37) % 97));
        import.kill().unwrap();
        whole += usize::from(import.wait().unwrap().success());
        if dir.join("t/id").exists() {
            good(dir, &["verify", "t"]);
        }
    }
    let last = good(dir, &["import", "t", "log", "--json"]).json();
    assert_eq!(last["sources"][0]["events"], 5000);
    good(dir, &["verify", "t"]);
    // Every import that said it was done is there as a whole, and no event is in two pieces.
    let all = good(dir, &["export", "t", "--format", "json", "--all"]).text();
    let imports = all.lines().filter(|line| line.contains("\"type\":\"VT_IMPORT\"")).count();
    assert!(imports > whole, "{imports} of {whole} whole imports and the last");
    for line in all.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let records = event["records"].as_array().unwrap();
        if event["src"] == "import" && records[0]["type"] == "SYSCALL" {
            assert_eq!(records.len(), 2, "{line}");
        }
    }
    eprintln!("{kills} imports killed, {whole} of them too late");
}

#[test]
fn several_imports_at_once_make_one_trail() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut all = String::new();
    let imports: Vec<_> = (0..4)
        .map(|n| {
            let name = format!("log{n}");
            let text = log(1 + n * 1000, 1000);
            fs::write(dir.join(&name), &text).unwrap();
            all += &text;
            Command::new(OURS)
                .args(["trail", "import", "t", &name])
                .current_dir(dir)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut import in imports {
        assert!(import.wait().unwrap().success());
    }
    good(dir, &["verify", "t"]);
    let raw = good(dir, &["export", "t"]);
    assert_eq!(sorted(&raw.out), sorted(all.as_bytes()));
    // --all adds the four records of the imports, and nothing of ours in their tails.
    let raw = good(dir, &["export", "t", "--all"]).text();
    assert_eq!(raw.lines().filter(|line| line.starts_with("type=VT_IMPORT ")).count(), 4);
    assert!(!raw.contains('\u{1d}'));
}
