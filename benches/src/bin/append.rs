//! Appending to a trail: durable, hashed, signed each second; and reading it back as a verifier.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Instant, SystemTime};

use benches::{Amount, Bench, contestant};
use trail::{
    Class, Disk, Entry, Field, Lines, Origin, Stamp, Verdict, VerifyOptions, Writer, create, verify,
};

const EVENTS: usize = 200_000;
/// A batch of 1,000 events is what comes in 10 ms at the rate that is to be reached.
const BATCH: usize = 1_000;

fn main() {
    let mut bench = Bench::from_args("append");
    // Beside the build and not in /tmp, which may be memory.
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-append");
    let event = b"type=DM_EVENT msg=audit(1677619463.786:1074): module=verity op=verify-data \
                  dev=7:0 sector=1000 res=0\n";
    bench.note(format_args!("{} bytes an event, {BATCH} events a sync", event.len()));
    bench.contest(
        "append, durable",
        Amount::items("events", EVENTS),
        vec![
            contestant("write and fdatasync alone", || {
                let mut file = File::create(directory.with_extension("plain")).expect("a file");
                let batch = event.repeat(BATCH);
                for _ in 0..EVENTS / BATCH {
                    file.write_all(&batch).expect("room on the disk");
                    file.sync_data().expect("a disk that answers");
                }
                EVENTS as u64
            }),
            contestant("trail", || append(&directory, event)),
        ],
    );
    let disk = Disk::new(&directory);
    bench.contest(
        "verify",
        Amount::items("events", EVENTS),
        vec![contestant("trail", || {
            match verify(&disk, &VerifyOptions::default()).expect("a trail") {
                Verdict::Good(report) => report.checkpoint.size,
                Verdict::Tampered(what) => panic!("{what}"),
            }
        })],
    );
}

fn append(directory: &Path, event: &[u8]) -> u64 {
    // A trail is never made over another.
    let _ = std::fs::remove_dir_all(directory);
    let disk = Disk::new(directory);
    create(&disk, "bench").expect("a new trail");
    let start = Instant::now();
    let now = || Stamp {
        boottime_ns: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        realtime_ns: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .and_then(|since| u64::try_from(since.as_nanos()).ok())
            .unwrap_or(0),
    };
    let (mut writer, _) = Writer::open(disk, "bench", now()).expect("a trail");
    let entry = Entry {
        class: Class::Integrity,
        ticket: None,
        lines: Lines::Foreign { origin: Origin::File, lines: &[event] },
        tail: &[Field { name: "VT_SRC", value: "kernel" }],
    };
    for _ in 0..EVENTS / BATCH {
        for _ in 0..BATCH {
            writer.append(&entry, now()).expect("room on the disk");
        }
        writer.sync().expect("a disk that answers");
        writer.checkpoint(now()).expect("a disk that answers");
    }
    let next = writer.next_leaf();
    writer.close(now()).expect("a disk that answers");
    next.0
}
