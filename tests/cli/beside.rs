//! Records of ours that stand beside an event of the kernel: leaves of their own, one event for whoever asks.

use std::process::Command;

use record::EventId;
use trail::door::Options;
use trail::{Class, Door, Entry, Field, Lines, Origin, Own, Stamp};

const EVENT: EventId = EventId { millis: 1_795_298_401_916, serial: 8 };
const KERNEL: &[u8] = b"type=DM_EVENT msg=audit(1795298401.916:8): module=verity op=verify-data dev=7:1 sector=10 res=0";
const OTHER: &[u8] = b"type=DM_EVENT msg=audit(1795298401.916:9): module=verity op=verify-data dev=7:1 sector=11 res=0";

fn now() -> Stamp {
    Stamp { boottime_ns: 1_000_000_000, realtime_ns: EVENT.millis * 1_000_000 }
}

#[test]
fn records_beside_an_event_are_found_and_shown_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("trail");
    trail::door::create(&dir, "host").unwrap();
    let options = Options {
        now,
        boot: "boot".into(),
        sinks: Vec::new(),
        reserve: None,
        patience: trail::door::PATIENCE,
        role: trail::door::Role::Any,
    };
    let door = Door::open(&dir, options).unwrap();
    let kernel = [Field { name: "VT_SRC", value: "kernel" }];
    let ours = [Field { name: "VT_SRC", value: "engine" }];
    let foreign = |line: &[&'static [u8]], door: &Door| {
        let lines = Lines::Foreign { origin: Origin::Netlink, lines: line };
        let entry = Entry { class: Class::Integrity, ticket: None, lines, tail: &kernel };
        door.submit(&entry).unwrap();
    };
    let beside = |kind, body: &[u8]| {
        let records = [Own { kind, body }];
        let lines = Lines::Beside { event: EVENT, records: &records };
        let entry = Entry { class: Class::Integrity, ticket: None, lines, tail: &ours };
        door.submit(&entry).unwrap();
    };
    foreign(&[KERNEL], &door);
    beside("VT_PLACE", b"dev=254:0 name=\"v\" role=data unit=4096 blocks=10-10");
    foreign(&[OTHER], &door);
    beside("VT_FILE", b"dev=254:0 fs=\"ext4\" use=file file=\"/etc/motto\"");
    door.close().unwrap();

    let search = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_veritrail"))
            .args(["search", "--trail", dir.to_str().unwrap()])
            .args(more)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // Any one of its records finds the whole event, and nothing of the other.
    for kind in ["VT_PLACE", "VT_FILE"] {
        let raw = search(&["--raw", "-m", kind]);
        let kinds: Vec<&str> = raw.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(kinds, ["type=DM_EVENT", "type=VT_PLACE", "type=VT_FILE"], "{raw}");
        assert!(!raw.contains("sector=11"), "{raw}");
        assert!(raw.lines().all(|line| line.contains("msg=audit(1795298401.916:8): ")), "{raw}");
    }
    let shown = search(&["-i", "-m", "VT_FILE"]);
    for word in ["sector=10", "role=data", "file=/etc/motto"] {
        assert!(shown.contains(word), "{shown}");
    }
    let json = search(&["--json", "-m", "VT_FILE"]);
    assert_eq!(json.lines().count(), 1, "{json}");
    let event: serde_json::Value = serde_json::from_str(&json).unwrap();
    let text = event.to_string();
    for kind in ["DM_EVENT", "VT_PLACE", "VT_FILE"] {
        assert!(text.contains(kind), "{text}");
    }
}
