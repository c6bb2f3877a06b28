//! events.sock: events as the trail gets them, for whoever may read them, however they behave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::auditing::Auditing;
use crate::bench::{Agent, Bench, soon};

/// An agent that hears the kernel's log only: what the trail gets is what a test puts into it.
fn start(bench: &Bench, more: &str) -> Agent {
    bench.write("config", &format!("[agent]\nsources = [\"kmsg\"]\n{more}"));
    bench.start(&["--config", "config"])
}

/// Puts these many events into the trail.
fn import(bench: &Bench, first: usize, count: usize) {
    let line = |n: usize| {
        format!(
            "type=USER msg=audit(1700000000.000:{n}): pid={n} msg='op=n-{n} {}'\n",
            "x".repeat(100)
        )
    };
    let text: String = (first..first + count).map(line).collect();
    bench.write("log", &text);
    let ran = bench.veritrail(&["trail", "import", "trail", "log"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
}

struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    fn connect(bench: &Bench) -> Client {
        let stream = UnixStream::connect(bench.path("run/events.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { reader: BufReader::new(stream) }
    }

    fn ask(bench: &Bench, filter: &str) -> Client {
        let client = Client::connect(bench);
        client.send(format!("{filter}\n").as_bytes());
        client
    }

    /// It may be cut off meanwhile.
    fn send(&self, bytes: &[u8]) {
        let _ = self.reader.get_ref().write_all(bytes);
    }

    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line);
        match read {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn error(&mut self) -> String {
        let line = self.line().expect("a word of why");
        line["error"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()
    }
}

fn events(ran: &str) -> BTreeMap<u64, Value> {
    let lines = ran.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|event| (event["leaf"].as_u64().unwrap(), event)).collect()
}

#[test]
fn events_are_told_as_search_tells_them_and_from_any_leaf() {
    let bench = Bench::new();
    let agent = start(&bench, "");
    import(&bench, 0, 500);
    let told = bench.veritrail(&["agent", "events", "--run-dir", "run"]);
    assert_eq!(told.status, Some(0), "{told:?}");
    let searched = bench.veritrail(&["search", "--trail", "trail", "--json"]);
    let (told, searched) = (events(&told.out), events(&searched.out));
    assert!(told.len() > 500);
    for (leaf, event) in &searched {
        let mut told = told[leaf].clone();
        assert_eq!(told["next"], leaf + 1);
        told.as_object_mut().unwrap().remove("next");
        assert_eq!(told, *event);
    }
    let next = told.values().nth(250).unwrap()["next"].as_u64().unwrap().to_string();
    let rest = bench.veritrail(&["agent", "events", "--run-dir", "run", "--from", &next]);
    let rest = events(&rest.out);
    assert!(rest.iter().eq(told.iter().skip(251)));

    let own = ["agent", "events", "--run-dir", "run", "--class", "integrity"];
    let own = events(&bench.veritrail(&own).out);
    assert!(
        own.values().all(|event| event["src"] == "engine" || event["src"] == "import"),
        "{own:?}"
    );
    let none = ["agent", "events", "--run-dir", "run", "--type", "DM_EVENT"];
    assert_eq!(bench.veritrail(&none).status, Some(1));
    let wrong = ["agent", "events", "--run-dir", "run", "--type", "DM_EVNT"];
    let wrong = bench.veritrail(&wrong);
    assert!(wrong.err.contains("\"DM_EVNT\" is neither a record type nor a number"), "{wrong:?}");
    let beyond = bench.veritrail(&["agent", "events", "--run-dir", "run", "--from", "99999"]);
    assert!(beyond.err.contains("the trail has no leaf 99999"), "{beyond:?}");
    soon("all six", || bench.status()["events"]["served"] == 6);
    assert_eq!(agent.stop(), Some(0));
    let gone = bench.veritrail(&["agent", "events", "--run-dir", "run"]);
    assert_eq!(gone.status, Some(3), "{gone:?}");
}

#[test]
fn a_reader_that_follows_gets_what_comes_and_the_end() {
    let bench = Bench::new();
    let agent = start(&bench, "");
    import(&bench, 0, 10);
    let mut now = Client::ask(&bench, r#"{"type":"USER","heartbeat":1}"#);
    let beat = now.line().unwrap();
    let next = beat["heartbeat"]["next"].as_u64().unwrap_or_else(|| panic!("{beat}"));
    let mut later = Client::ask(&bench, &format!(r#"{{"type":"USER","from_leaf":{next}}}"#));
    import(&bench, 10, 5);
    for client in [&mut now, &mut later] {
        for n in 10..15 {
            let event = client.line().unwrap();
            assert_eq!(event["records"][0]["fields"]["pid"], n.to_string(), "{event}");
        }
    }
    let stopped = std::thread::spawn(move || agent.stop());
    let ends = std::iter::from_fn(|| now.line()).find(|line| line.get("end").is_some());
    assert_eq!(ends.unwrap()["end"]["reason"], "the agent stops");
    assert_eq!(stopped.join().unwrap(), Some(0));
    assert!(!bench.path("run/events.sock").exists());
}

#[test]
fn a_user_message_is_a_line_within_300_milliseconds() {
    let test = "a_user_message_is_a_line_within_300_milliseconds";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let _agent = bench.start(&[]);
    let mut client = Client::ask(&bench, r#"{"type":"TRUSTED_APP","heartbeat":1}"#);
    client.line().unwrap();
    let mut times = Vec::new();
    for _ in 0..40 {
        let began = Instant::now();
        auditing.send("late", 1);
        while client.line().unwrap().get("leaf").is_none() {}
        times.push(began.elapsed());
    }
    times.sort();
    println!("event to line: median {:?}, slowest {:?}", times[20], times[39]);
    // The slowest few are the machine's.
    assert!(times[37] < Duration::from_millis(300), "{times:?}");
}

#[test]
fn a_reader_that_sends_rubbish_floods_or_hangs_is_told_and_ended() {
    let bench = Bench::new();
    let agent = start(&bench, "");
    for (filter, said) in [
        ("\u{0}\u{1}\u{7f}", "not a filter"),
        ("{\"typ\":\"USER\"}", "unknown field `typ`"),
        ("{}\n{}", "more than one line"),
        ("[[[[[[[[[[[[[[[[[[[[[[[[[", "not a filter"),
    ] {
        let error = Client::ask(&bench, filter).error();
        assert!(error.contains(said), "{error}");
    }
    let mut flood = Client::connect(&bench);
    for _ in 0..64 {
        flood.send(&[b'x'; 4096]);
    }
    assert!(flood.error().contains("the filter is longer than 65536 bytes"));
    let mut silent = Client::connect(&bench);
    let mut slow = Client::connect(&bench);
    slow.send(b"{");
    let mut talking = Client::ask(&bench, "{\"heartbeat\":1}");
    talking.line().unwrap();
    talking.send(b"more");
    let error = std::iter::from_fn(|| talking.line()).find_map(|line| line.get("error").cloned());
    assert_eq!(error.unwrap(), "nothing is expected after the filter");
    for hanging in [&mut silent, &mut slow] {
        assert!(hanging.error().contains("no filter came within 5 s"));
    }
    soon("their end", || bench.status()["events"]["readers"] == 0);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn readers_are_limited_and_their_places_become_free() {
    let bench = Bench::new();
    let _agent = start(&bench, "[events]\nreaders = 3\nreaders_per_user = 2\n");
    let mut first = Client::ask(&bench, "{\"heartbeat\":1}");
    let mut second = Client::ask(&bench, "{\"heartbeat\":1}");
    first.line().unwrap();
    second.line().unwrap();
    let error = Client::ask(&bench, "{}").error();
    assert!(error.contains("has 2 readers, and no more are served"), "{error}");
    drop(first);
    soon("a free place", || {
        Client::ask(&bench, "{\"heartbeat\":1}").line().unwrap().get("error").is_none()
    });
    // One that takes nothing, and one that goes without a word, hold nobody up.
    drop(second);
}

#[test]
fn a_reader_that_takes_nothing_holds_nobody_up() {
    let bench = Bench::new();
    let agent = start(&bench, "");
    import(&bench, 0, 20_000);
    let stuck = Client::ask(&bench, r#"{"from_leaf":0}"#);
    let mut quick = Client::ask(&bench, r#"{"type":"USER","heartbeat":1}"#);
    quick.line().unwrap();
    import(&bench, 20_000, 1);
    let began = Instant::now();
    while quick.line().unwrap().get("leaf").is_none() {}
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // It took a bufferful; the rest is there when it wants it.
    let mut stuck = stuck.reader;
    let mut some = [0; 100_000];
    stuck.read_exact(&mut some).unwrap();
    let began = Instant::now();
    assert_eq!(agent.stop(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// Nobody, of a group or of none.
fn connect_as(bench: &Bench, group: &str) -> Client {
    let path = bench.path("run/events.sock");
    // Only a process of that user is one to the kernel; it prints the first line that it is told.
    let script = "printf '{\"heartbeat\":1}\\n' | timeout 10 python3 -c 'import socket,sys\n\
        s=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ntry: s.send(sys.stdin.buffer.read())\n\
        except OSError: pass\n\
        print(s.makefile().readline(),end=\"\")' \"$0\"";
    let ran = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--groups", group, "sh", "-c", script])
        .arg(&path)
        .output()
        .unwrap();
    let (mut here, there) = UnixStream::pair().unwrap();
    here.write_all(&ran.stdout).unwrap();
    here.write_all(&ran.stderr).unwrap();
    drop(here);
    Client { reader: BufReader::new(there) }
}

#[test]
fn others_are_refused_and_the_group_that_is_set_is_not() {
    use std::os::unix::fs::PermissionsExt;
    let test = "others_are_refused_and_the_group_that_is_set_is_not";
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: {test}: needs root");
        return;
    }
    let bench = Bench::new();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bench.path(""), open).unwrap();
    let agent = start(&bench, "");
    let error = connect_as(&bench, "4").error();
    assert!(error.contains("user 65534 may not read events: root and user 0 may"), "{error}");
    assert_eq!(agent.stop(), Some(0));
    let agent = start(&bench, "[events]\ngroup = \"adm\"\n");
    let error = connect_as(&bench, "5").error();
    assert!(error.contains("root, user 0 and the group adm may"), "{error}");
    let line = connect_as(&bench, "4").line().unwrap();
    assert!(line.get("heartbeat").is_some(), "{line}");
    assert_eq!(agent.stop(), Some(0));
}

/// Who it is that may read is found out before rights are given up: a library that asks a directory could
/// not be loaded any more.
#[test]
fn the_group_that_may_read_is_that_of_the_beginning() {
    use std::os::unix::fs::PermissionsExt;
    let test = "the_group_that_may_read_is_that_of_the_beginning";
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: {test}: needs root");
        return;
    }
    let mut bench = Bench::new();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bench.path(""), open).unwrap();
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    bench.write("groups", &format!("{groups}veritrail-readers:x:54321:\n"));
    let file = bench.path("groups").display().to_string();
    let mounted = "mount --bind \"$0\" /etc/group && exec \"$@\"";
    bench.run_by(&["unshare", "--mount", "sh", "-c", mounted, &file]);
    let agent = start(&bench, "[events]\ngroup = \"veritrail-readers\"\n");
    bench.write("groups", &groups);
    let line = connect_as(&bench, "54321").line().unwrap();
    assert!(line.get("heartbeat").is_some(), "{line}");
    assert!(connect_as(&bench, "54322").error().contains("the group veritrail-readers may"));
    assert_eq!(agent.stop(), Some(0));
}
