//! The stock reader takes what our writers write.

use std::fs;
use std::process::{Command, Stdio};

use record::stored::{Origin, Source, push_stored};
use record::view::{DmEvent, View};
use record::write::{Body, LONGEST_LINE, Tail, push_record};
use record::{EventId, Line};

/// What `ausearch` prints of `log`; `None`, said aloud, where there is no ausearch.
fn ausearch(test: &str, log: &[u8], arguments: &[&str]) -> Option<Vec<u8>> {
    let path = std::env::temp_dir().join(format!("veritrail-{test}-{}", std::process::id()));
    fs::write(&path, log).expect("the temporary folder takes files");
    let run = Command::new("ausearch")
        .arg("-if")
        .arg(&path)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    fs::remove_file(&path).expect("the file was just written");
    match run {
        Ok(output) => Some(output.stdout),
        Err(error) => {
            eprintln!("SKIPPED: {test}: ausearch: {error}");
            None
        }
    }
}

fn id(serial: u32) -> EventId {
    EventId { millis: 1_795_300_000_123 + u64::from(serial), serial }
}

#[test]
fn every_stored_line_is_a_record_to_ausearch() {
    let mut tail = Tail::new();
    tail.push("VT_LEAF", 5).unwrap();
    tail.push("VT_SRC", "import").unwrap();
    let mut log = Vec::new();
    let mut long = format!("type=USER_CMD msg=audit({}): pid=1 text=", id(5)).into_bytes();
    long.resize(LONGEST_LINE - tail.as_str().len() - 1, b'a');
    let longer = [&long[..], b"b"].concat();
    let sources: [(String, &[u8], Origin); 6] = [
        (format!("type=DM_EVENT msg=audit({}): module=verity res=0", id(1)), b"\n", Origin::File),
        (
            format!("[ 1.5] audit: type=1327 audit({}): proctitle=6C73", id(2)),
            b"\r\n",
            Origin::File,
        ),
        (
            format!("node=h type=CWD msg=audit({}): cwd=\"/\"\u{1d}UID=\"root\"", id(3)),
            b"",
            Origin::File,
        ),
        (
            format!("type=USER msg=audit({}): pid=1 msg='a\ntype=CWD msg=audit(1.000:1): '", id(4)),
            b"\n",
            Origin::Netlink,
        ),
        (String::from_utf8(long).unwrap(), b"\n", Origin::File),
        (String::from_utf8(longer).unwrap(), b"\n", Origin::File),
    ];
    for (text, end, origin) in &sources {
        let source = Source { text: text.as_bytes(), end, origin: *origin };
        push_stored(&mut log, source, &tail, id(6));
    }
    // One for each source, and three pieces for the one that is too long.
    let lines = log.split_inclusive(|b| *b == b'\n').count();
    assert_eq!(lines, sources.len() - 1 + 3);
    let Some(raw) = ausearch("every_stored_line", &log, &["--raw"]) else { return };
    assert_eq!(raw.split_inclusive(|b| *b == b'\n').count(), lines);
    let sorted = |text: &[u8]| {
        let mut lines: Vec<_> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&raw), sorted(&log));
}

#[test]
fn a_record_of_ours_reads_as_the_kernels() {
    let mut log = Vec::new();
    let body = Body::new()
        .word("op", "set")
        .word("opid", 5)
        .untrusted("comm", b"a b")
        .untrusted("exe", b"/bin/x")
        .word("res", 1);
    push_record(&mut log, "CONFIG_CHANGE", id(7), body.as_bytes());
    log.push(b'\n');
    let event = "module=verity op=verify-data dev=7:0 sector=1000 res=0";
    push_record(&mut log, "DM_EVENT", id(8), event.as_bytes());
    let line = Line::parse(log.rsplit(|b| *b == b'\n').next().unwrap()).unwrap();
    assert_eq!(DmEvent::read(&line).unwrap().violation().unwrap().to_string(), event);
    log.push(b'\n');
    let Some(shown) = ausearch("a_record_of_ours", &log, &["-i", "-m", "CONFIG_CHANGE"]) else {
        return;
    };
    let shown = String::from_utf8(shown).unwrap();
    let (_, body) = shown.split_once(") : ").expect("one event is shown");
    assert_eq!(body.trim_end(), "op=set opid=5 comm=a b exe=/bin/x res=yes");
}
