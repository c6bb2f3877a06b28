//! Nothing is lost in silence: what was sent is what is stored and what the gaps say.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::auditing::Auditing;
use crate::bench::{Bench, number, soon};

/// The numbers of the messages that are stored.
pub(crate) fn stored(bench: &Bench, word: &str) -> BTreeSet<u64> {
    let of_word = format!("msg='{word} n=");
    let bodies = bench.bodies("TRUSTED_APP");
    let ours = bodies.iter().filter(|body| body.contains(&of_word));
    let numbers: Vec<u64> = ours
        .map(|body| {
            let rest = body.split_once(&of_word).unwrap().1;
            rest.split('\'').next().unwrap().parse().unwrap()
        })
        .collect();
    let set: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(set.len(), numbers.len(), "something is there twice");
    set
}

const FLOOD: usize = 20_000;

#[test]
fn a_flood_fits_the_buffer() {
    let Some(mut auditing) = Auditing::begin("a_flood_fits_the_buffer") else { return };
    let bench = Bench::new();
    let agent = bench.start(&[]);
    // All of it waits in the socket.
    agent.signal(Signal::STOP);
    auditing.send("flood", FLOOD);
    agent.signal(Signal::CONT);
    soon("the flood", || bench.source("audit", "events").as_u64() >= Some(FLOOD as u64));
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(stored(&bench, "flood").len(), FLOOD);
    assert_eq!(bench.bodies("VT_GAP"), [""; 0]);
    bench.trail_is_good();
}

#[test]
fn a_flood_that_does_not_fit_is_stored_and_counted_exactly() {
    let test = "a_flood_that_does_not_fit_is_stored_and_counted_exactly";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    bench.write("config", "[agent]\nsources = [\"audit\"]\naudit_buffer = 4096\n");
    let agent = bench.start(&["--config", "config"]);
    for _ in 0..4 {
        agent.signal(Signal::STOP);
        auditing.send("flood", FLOOD / 8);
        agent.signal(Signal::CONT);
        auditing.send("flux", FLOOD / 8);
    }
    let count = |key: &str| bench.source("audit", key).as_u64().unwrap();
    soon("the last", || count("messages") + count("lost") >= FLOOD as u64);
    assert!(count("lost") > 1000);
    assert_eq!(agent.stop(), Some(0));
    let gaps = bench.gaps("audit");
    assert!(gaps.iter().all(|gap| gap.contains(" count=exact from=")), "{gaps:?}");
    let lost: u64 = gaps.iter().map(|gap| number(gap, "records")).sum();
    let stored = bench.bodies("TRUSTED_APP").len() as u64;
    assert_eq!(stored + lost, FLOOD as u64, "{stored} stored, {gaps:?}");
    bench.trail_is_good();
}

/// Records that an agent's end and the next one's beginning make themselves: listeners that come and
/// go, and a BPF record for each program that is loaded and unloaded (97 where some are refused
/// and each is tried alone).
const OTHERS: u64 = 120;

/// Kills an agent at several moments; the gap is never narrower than the truth and hardly wider.
#[test]
fn a_killed_agent_is_a_gap_whose_bound_holds_and_is_tight() {
    let test = "a_killed_agent_is_a_gap_whose_bound_holds_and_is_tight";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    for (before, pause) in [(200, 0), (200, 100), (2000, 0), (500, 1500), (500, 4500)] {
        let bench = Bench::new();
        let agent = bench.start(&[]);
        auditing.send("before", before);
        thread::sleep(Duration::from_millis(pause));
        agent.kill();
        auditing.send("between", 300);
        let agent = bench.start(&[]);
        auditing.send("after", 10);
        soon("the last", || stored(&bench, "after").len() == 10);
        assert_eq!(agent.stop(), Some(0));
        let gaps = bench.gaps("agent");
        let [gap] = &gaps[..] else { panic!("{before} {pause} {gaps:?}") };
        assert!(gap.starts_with("source=agent reason=killed events="), "{gap}");
        assert!(gap.contains(" count=at-most from="), "{gap}");
        let said = number(gap, "events");
        // The kernel may still have had some of the second ones when somebody listened again.
        let there = stored(&bench, "before").len() + stored(&bench, "between").len();
        let missing = (before + 300 - there) as u64;
        assert!((missing..=missing + OTHERS).contains(&said), "{missing} are missing: {gap}");
        let states = bench.bodies("VT_AGENT");
        assert!(states[1].contains(" before=killed"), "{states:?}");
        bench.trail_is_good();
    }
}

#[test]
fn a_stop_and_a_start_tell_what_nobody_heard_between() {
    let test = "a_stop_and_a_start_tell_what_nobody_heard_between";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let agent = bench.start(&[]);
    auditing.send("before", 20);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(stored(&bench, "before").len(), 20, "what had come is drained");
    auditing.send("between", 30);
    let agent = bench.start(&[]);
    auditing.send("after", 1);
    soon("the last", || stored(&bench, "after").len() == 1);
    assert_eq!(agent.stop(), Some(0));
    let gaps = bench.gaps("agent");
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    assert!(gap.starts_with("source=agent reason=stopped events="), "{gap}");
    // The kernel may still have had some of them when somebody listened again.
    let missing = 30 - stored(&bench, "between").len() as u64;
    assert!(
        (missing..=missing + OTHERS).contains(&number(gap, "events")),
        "{missing} missing: {gap}"
    );
    let states = bench.bodies("VT_AGENT");
    assert!(states[2].contains(" late=") && states[2].contains(" before=stopped"), "{states:?}");
}

/// The kernel drops what is over its rate limit before anybody hears it, and counts it.
#[test]
fn what_the_kernel_itself_drops_is_a_gap_of_that_many() {
    let test = "what_the_kernel_itself_drops_is_a_gap_of_that_many";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    bench.write("config", "[agent]\nsources = [\"audit\"]\npoll_seconds = 1\n");
    let agent = bench.start(&["--config", "config"]);
    auditing.control.set_rate_limit(50).unwrap();
    auditing.send("limited", 2000);
    auditing.control.set_rate_limit(0).unwrap();
    auditing.send("free", 10);
    let lost = || bench.gaps("kernel").iter().map(|gap| number(gap, "records")).sum::<u64>();
    soon("the last", || stored(&bench, "free").len() == 10 && lost() > 0);
    // One poll more.
    thread::sleep(Duration::from_secs(2));
    assert_eq!(agent.stop(), Some(0));
    let gaps = bench.gaps("kernel");
    // Nobody is the audit daemon: the counter may have what is kept for none any more.
    assert!(gaps.iter().all(|gap| gap.contains(" count=at-most from=")), "{gaps:?}");
    let missing = 2000 - stored(&bench, "limited").len() as u64;
    assert!(missing > 1000, "{missing}");
    // Its own record of the change may be among what it dropped.
    assert!((missing..=missing + 2).contains(&lost()), "{missing} are missing: {gaps:?}");
    bench.trail_is_good();
}

/// What the kernel drops in an agent's last moment, or while there is none, is told too.
#[test]
fn what_the_kernel_drops_around_a_stop_is_a_gap() {
    let test = "what_the_kernel_drops_around_a_stop_is_a_gap";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let drops = |auditing: &mut Auditing| {
        let before = auditing.control.status().unwrap().lost;
        auditing.control.set_rate_limit(50).unwrap();
        auditing.send("limited", 2000);
        auditing.control.set_rate_limit(0).unwrap();
        u64::from(auditing.control.status().unwrap().lost - before)
    };
    let told = || bench.gaps("kernel").iter().map(|gap| number(gap, "records")).sum::<u64>();
    let agent = bench.start(&[]);
    auditing.send("first", 1);
    soon("the first", || stored(&bench, "first").len() == 1);
    let mut dropped = drops(&mut auditing);
    assert!(dropped > 1000, "{dropped}");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(told(), dropped, "of the last moment");
    dropped += drops(&mut auditing);
    let agent = bench.start(&[]);
    soon("the gap between", || told() == dropped);
    assert_eq!(agent.stop(), Some(0));
    // A killed one has told what it noted, and the next tells the rest, once or twice.
    let agent = bench.start(&[]);
    auditing.send("second", 1);
    soon("the second", || stored(&bench, "second").len() == 1);
    agent.kill();
    dropped += drops(&mut auditing);
    let agent = bench.start(&[]);
    soon("the gap behind a killed one", || told() >= dropped);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(told(), dropped);
    let gaps = bench.gaps("kernel");
    assert!(gaps.iter().all(|gap| gap.contains(" count=at-most from=")), "{gaps:?}");
    bench.trail_is_good();
}
