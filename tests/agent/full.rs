//! A trail's disk that is nearly full, full, and has room again; and what one source may bring.

use std::fs;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::auditing::Auditing;
use crate::bench::{Bench, number, soon};
use crate::containers::{Waiting, set, start};

/// What the gaps of a source say was lost of a class.
fn lost(bench: &Bench, source: &str, key: &str) -> u64 {
    bench.gaps(source).iter().map(|gap| number(gap, key)).sum()
}

/// A disk of 8 MiB, where the trail is.
struct Disk(PathBuf);

impl Disk {
    fn new(test: &str, bench: &Bench) -> Option<Disk> {
        let at = bench.path("trail");
        fs::create_dir(&at).unwrap();
        match mount("none", &at, "tmpfs", MountFlags::empty(), Some(c"size=8m,mode=0750")) {
            Ok(()) => Some(Disk(at)),
            Err(_) => {
                eprintln!("SKIPPED: {test}: no tmpfs can be mounted");
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_a_gap_and_the_agent_goes_on_when_there_is_room() {
    let test = "a_full_disk_is_a_gap_and_the_agent_goes_on_when_there_is_room";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let Some(disk) = Disk::new(test, &bench) else { return };
    bench.write("config", "[agent]\nsources = [\"audit\"]\n[quota]\ndisk_reserve = 2097152\n");
    let agent = bench.start(&["--config", "config"]);
    let mut sent = 0;
    let mut send = |word: &str, count: usize| {
        sent += count as u64;
        auditing.send(word, count);
    };
    send("before", 100);
    soon("the first", || bench.bodies("TRUSTED_APP").len() == 100);
    // Nearly full: only the first class is taken.
    fs::write(disk.0.join("filler"), vec![1; 6 << 20]).unwrap();
    send("scarce", 300);
    // Programs that other tests load are events too.
    soon("a gap", || lost(&bench, "queue", "rest") >= 300);
    let counted = lost(&bench, "queue", "rest");
    assert!(counted <= 400, "{counted} {:?}", bench.gaps("queue"));
    assert_eq!(lost(&bench, "queue", "integrity"), 0);
    // Full: not a byte more.
    let _ = fs::write(disk.0.join("more"), vec![1; 8 << 20]);
    send("full", 300);
    soon("the trail's end", || {
        let status = bench.status();
        status["trail_works"] == false
            || status["inbox"]["lost_rest"].as_u64() > Some(0)
            || status["sources"][0]["events"].as_u64() >= Some(700)
    });
    fs::remove_file(disk.0.join("filler")).unwrap();
    fs::remove_file(disk.0.join("more")).unwrap();
    soon("a trail that works", || {
        send("after", 1);
        bench.bodies("TRUSTED_APP").iter().any(|body| body.contains("'after "))
    });
    assert_eq!(agent.stop(), Some(0));
    let stored = bench.bodies("TRUSTED_APP").len() as u64;
    let bound = lost(&bench, "queue", "rest") + lost(&bench, "door", "events");
    // At most: what was on its way when the door failed, our own records with it.
    assert!((sent - stored..=sent - stored + 100).contains(&bound), "{sent} {stored} {bound}");
    bench.trail_is_good();
}

/// What stands beside an event takes no room that the event is not given.
#[test]
fn a_containers_flood_takes_nothing_of_the_reserve() {
    let test = "a_containers_flood_takes_nothing_of_the_reserve";
    let Some(_auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let Some(disk) = Disk::new(test, &bench) else { return };
    bench.write("config", "[quota]\ndisk_reserve = 2097152\n");
    let words = ["--config", "config", "--audit-mode", "coexist"];
    let Some(agent) = start(test, &bench, &words) else { return };
    let flood = Waiting::new("n=0; while [ $n -lt 50 ]; do n=$((n+1)); auditctl -m flood; done");
    set(&bench, flood.pid(), "9").unwrap();
    fs::write(disk.0.join("filler"), vec![1; 6 << 20]).unwrap();
    flood.output();
    let ended = |body: &String| body.starts_with("op=drop ");
    soon("its end", || bench.bodies("CONTAINER_OP").iter().any(ended));
    soon("the gap", || lost(&bench, "queue", "rest") >= 100);
    assert_eq!(bench.bodies("USER"), [""; 0]);
    assert_eq!(bench.bodies("CONTAINER_ID"), [""; 0]);
    assert_eq!(lost(&bench, "queue", "integrity"), 0);
    fs::remove_file(disk.0.join("filler")).unwrap();
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

#[test]
fn what_is_over_a_quota_is_counted_by_whose_it_is() {
    let test = "what_is_over_a_quota_is_counted_by_whose_it_is";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    bench.write("config", "[agent]\nsources = [\"audit\"]\n[quota]\nrest_per_second = 20\n");
    let agent = bench.start(&["--config", "config"]);
    auditing.send("flood", 3000);
    soon("the last", || bench.source("audit", "events").as_u64() >= Some(3000));
    assert_eq!(agent.stop(), Some(0));
    let gaps = bench.gaps("quota");
    assert!(!gaps.is_empty());
    for gap in &gaps {
        assert!(gap.starts_with("source=quota auid=") && gap.contains(" uid=0 rest="), "{gap}");
        assert!(gap.contains(" count=exact from="), "{gap}");
    }
    let stored = bench.bodies("TRUSTED_APP").len() as u64;
    // Other tests begin agents meanwhile: each of their programs is an event of the same user.
    let counted = stored + lost(&bench, "quota", "rest");
    assert!((3000..3600).contains(&counted), "{counted}");
    // A burst of ten seconds' worth, which other events of ours take a few of, and what the time brought.
    assert!((150..1500).contains(&stored), "{stored}");
    bench.trail_is_good();
}
