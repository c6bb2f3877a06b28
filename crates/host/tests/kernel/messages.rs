//! What the kernel says by itself: uevents and its log, with every loss counted.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use host::dm::Control;
use host::kmsg::{self, Kmsg};
use host::uevent::{self, Uevents};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, sendto, socket_with};

const SOON: Option<Duration> = Some(Duration::from_secs(10));
const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

/// A forged message that is dropped is counted as well, and has no number.
static ALONE: Mutex<()> = Mutex::new(());

/// Makes the kernel tell of `/dev/null`, with a word of ours; false where we may not.
fn announce(test: &str, word: u32) -> bool {
    let text = format!("change 5c7f0f7a-3b0e-4d2b-9d6c-5f8f6c0e0001 VERITRAIL={word}");
    let written = OpenOptions::new()
        .write(true)
        .open("/sys/class/mem/null/uevent")
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| eprintln!("SKIPPED: {test}: no uevent can be made: {error}")).is_ok()
}

fn has(message: &[u8], variable: &str) -> bool {
    message.split(|b| *b == 0).any(|line| line == variable.as_bytes())
}

fn number(message: &[u8]) -> Option<u64> {
    let mut lines = message.split(|b| *b == 0);
    let number = lines.find_map(|line| line.strip_prefix(b"SEQNUM="))?;
    str::from_utf8(number).ok()?.parse().ok()
}

#[test]
fn uevents_are_the_kernel_s_and_nobody_else_s() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut uevents = Uevents::open(1 << 20).unwrap();
    // A message to the same group by another process's socket (which this one stands for).
    let forger = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(KOBJECT_UEVENT),
    )
    .unwrap();
    bind(&forger, &SocketAddrNetlink::new(0, 0)).unwrap();
    let forged = b"change@/devices/virtual/block/dm-0\0ACTION=change\0VERITRAIL=7\0SEQNUM=1\0";
    if let Err(error) = sendto(&forger, forged, SendFlags::empty(), &SocketAddrNetlink::new(0, 1)) {
        // The kernel's own socket refuses it; the group has it then, or we may not send.
        eprintln!("the forger was told {error}");
    }
    if !announce("uevents_are_the_kernel_s_and_nobody_else_s", 8) {
        return;
    }
    loop {
        match uevents.recv(SOON).unwrap() {
            uevent::Received::Message(message) => {
                assert!(!has(message, "VERITRAIL=7"), "{}", message.escape_ascii());
                if has(message, "SYNTH_ARG_VERITRAIL=8") {
                    assert!(message.starts_with(b"change@/devices/virtual/mem/null\0"));
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_uevent_is_received_or_counted() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Every socket of the machine gets them, so those that are not ours count as well.
    let mut uevents = Uevents::open(0).unwrap();
    let mut seen = Vec::new();
    let mut lost = 0;
    let mut drain = |uevents: &mut Uevents, lost: &mut u64| {
        loop {
            match uevents.recv(AT_ONCE).unwrap() {
                uevent::Received::Message(message) => seen.extend(number(message)),
                uevent::Received::Lost(count) => *lost += count,
                uevent::Received::TimedOut => return seen.clone(),
            }
        }
    };
    for round in 0..5 {
        for i in 0..400 {
            if !announce("every_uevent_is_received_or_counted", round * 1000 + i) {
                return;
            }
        }
        drain(&mut uevents, &mut lost);
    }
    // One more, with room for it, whose number says how many there were.
    assert!(announce("every_uevent_is_received_or_counted", 9999));
    let seen = drain(&mut uevents, &mut lost);
    let (first, last) = (seen[0], *seen.last().unwrap());
    assert!(lost > 1000, "a buffer of nothing took {} of 2000", seen.len());
    assert_eq!(last - first + 1, seen.len() as u64 + lost, "{} seen, {lost} lost", seen.len());
}

#[test]
fn the_log_is_read_record_by_record() {
    let test = "the_log_is_read_record_by_record";
    let (mut now, mut start) = match (Kmsg::open(kmsg::From::Now), Kmsg::open(kmsg::From::Start)) {
        (Ok(now), Ok(start)) => (now, start),
        (Err(error), _) | (_, Err(error)) => return eprintln!("SKIPPED: {test}: {error}"),
    };
    let word = format!("veritrail-test-{}: \x01 of anybody", std::process::id());
    // A user's words are never the kernel's: facility 0 becomes 1.
    let written = OpenOptions::new()
        .write(true)
        .open("/dev/kmsg")
        // Without a line feed it would wait for what continues it.
        .and_then(|mut log| log.write_all(format!("<4>{word}\n").as_bytes()));
    if let Err(error) = written {
        return eprintln!("SKIPPED: {test}: nobody may write: {error}");
    }
    let ours = |log: &mut Kmsg| {
        let mut before = 0;
        loop {
            match log.recv(SOON).unwrap() {
                kmsg::Received::Record(record) => {
                    let text = String::from_utf8_lossy(record).into_owned();
                    if text.contains(&word.replace('\x01', "\\x01")) {
                        return (before, text);
                    }
                    before += 1;
                }
                kmsg::Received::Lost(lost) => panic!("{lost} lost"),
                kmsg::Received::TimedOut => panic!("it did not come"),
            }
        }
    };
    let (_, text) = ours(&mut now);
    assert!(text.starts_with("12,"), "{text}");
    let (before, again) = ours(&mut start);
    assert_eq!(text, again);
    assert!(before > 0, "the kernel has said something before");
    // Others may write, too; nothing came twice.
    while let kmsg::Received::Record(record) = now.recv(AT_ONCE).unwrap() {
        assert!(!String::from_utf8_lossy(record).contains(&word));
    }
}

#[test]
fn a_kernel_without_a_device_mapper_has_none() {
    let found = Control::open();
    if rustix::process::geteuid().is_root() {
        let misc = std::fs::read_to_string("/proc/misc").unwrap();
        assert_eq!(found.unwrap().is_some(), misc.contains("device-mapper"));
    }
}
