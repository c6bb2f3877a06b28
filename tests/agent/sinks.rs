//! Checkpoints that leave by audit and by syslog, and what the trail is held against by them.

use std::fmt::Write;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use host::audit::{Received, Stream};

use crate::auditing::Auditing;
use crate::bench::Bench;

#[test]
fn checkpoints_in_audits_log_and_in_syslog_are_anchors() {
    let test = "checkpoints_in_audits_log_and_in_syslog_are_anchors";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let syslog = UnixDatagram::bind(bench.path("log")).unwrap();
    syslog.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let path = bench.path("log");
    bench.write(
        "config",
        &format!(
            "[agent]\nsources = [\"audit\"]\n\
             [trail]\nsinks = [{{ audit = true }}, {{ syslog = {path:?} }}]\n"
        ),
    );
    let mut stream = Stream::multicast(8 << 20).unwrap();
    let agent = bench.start(&["--config", "config"]);
    auditing.send("some", 50);
    assert_eq!(agent.stop(), Some(0));
    let mut log = String::new();
    loop {
        match stream.recv(Some(Duration::from_millis(500))).unwrap() {
            Received::Record { kind: 1121, text } => {
                writeln!(log, "type=TRUSTED_APP msg={}", String::from_utf8_lossy(text)).unwrap();
            }
            Received::TimedOut => break,
            _ => {}
        }
    }
    bench.write("audit.log", &log);
    let mut lines = String::new();
    let mut message = [0; 4096];
    while let Ok(length) = syslog.recv(&mut message) {
        writeln!(lines, "{}", String::from_utf8_lossy(&message[..length])).unwrap();
    }
    bench.write("syslog", &lines);
    for anchors in ["audit.log", "syslog"] {
        let ran = bench.veritrail(&["trail", "verify", "trail", "--json", "--anchors", anchors]);
        assert_eq!(ran.status, Some(0), "{ran:?} {log} {lines}");
        let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert!(report["anchors"].as_u64() >= Some(1), "{anchors}: {report}");
        // The end is what the last one signed.
        let size = format!("size={} ", report["signed"]);
        assert!(if anchors == "syslog" { &lines } else { &log }.contains(&size), "{log} {lines}");
    }
    // What it sends is not an event of its own trail, or there would always be one more.
    let ours = bench.bodies("TRUSTED_APP");
    assert_eq!(ours.len(), 50, "{ours:?}");
}
