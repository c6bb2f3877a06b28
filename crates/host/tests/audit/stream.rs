//! Records, all of them or counted.

use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use host::audit::{Control, Error, Received, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::auditing::Auditing;

/// No test waits longer for a record.
const PATIENCE: Duration = Duration::from_secs(120);

/// `AUDIT_TRUSTED_APP`.
const KIND: u16 = 1121;
const MESSAGES: usize = 30_000;
const PLENTY: usize = 64 << 20;

/// The text of message `number` of test `test`, of this process.
fn text(test: &str, number: usize) -> String {
    format!("veritrail-test={test}-{} number={number}", std::process::id())
}

fn send(control: &mut Control, test: &str, number: usize) {
    control.send_user(KIND, text(test, number).as_bytes()).unwrap();
}

/// The number of a message of `test`, if it is one; it is whole.
fn number_of(test: &str, record: &[u8]) -> Option<usize> {
    let record = str::from_utf8(record).unwrap();
    let (_, rest) = record.split_once(&format!("msg='{}", text(test, 0).strip_suffix('0')?))?;
    let number = rest.strip_suffix('\'').expect("the message is cut");
    Some(number.parse().unwrap())
}

/// Everything that is there or comes within `patience` after the last: the texts of the records,
/// and how many more there were.
fn drain(stream: &mut Stream, patience: Duration) -> (Vec<Vec<u8>>, u64) {
    let (mut records, mut lost) = (Vec::new(), 0);
    loop {
        match stream.recv(Some(patience)).unwrap() {
            Received::Record { text, .. } => records.push(text.to_vec()),
            Received::Lost(count) => lost += count,
            Received::TimedOut => return (records, lost),
            other => panic!("{other:?}"),
        }
    }
}

/// Reads until message `number` of `test` is among the records.
fn drain_until(stream: &mut Stream, test: &str, number: usize) -> (Vec<Vec<u8>>, u64) {
    let until = Instant::now() + PATIENCE;
    let mut all = (Vec::new(), 0);
    while !all.0.iter().any(|record: &Vec<u8>| number_of(test, record) == Some(number)) {
        assert!(Instant::now() < until, "message {number} did not come");
        let (records, lost) = drain(stream, Duration::from_millis(100));
        all.0.extend(records);
        all.1 += lost;
    }
    all
}

#[test]
fn every_one_of_thirty_thousand_records_comes_in_order() {
    let test = "every";
    let Some(mut auditing) = Auditing::begin("every_one_of_thirty_thousand_records_comes_in_order")
    else {
        return;
    };
    let mut stream = Stream::multicast(PLENTY).unwrap();
    assert!(stream.receive_buffer().unwrap() >= PLENTY);
    for number in 0..MESSAGES {
        send(&mut auditing.control, test, number);
    }
    let (records, lost) = drain_until(&mut stream, test, MESSAGES - 1);
    assert_eq!(lost, 0);
    let numbers: Vec<usize> = records.iter().filter_map(|record| number_of(test, record)).collect();
    assert!(numbers.iter().copied().eq(0..MESSAGES), "{} came", numbers.len());
    assert!(records.iter().all(|record| record.starts_with(b"audit(") && !record.contains(&0)));
    assert_eq!(auditing.control.status().unwrap().lost, 0);
}

#[test]
fn what_a_small_buffer_loses_is_counted_to_the_record() {
    let test = "small";
    let Some(mut auditing) = Auditing::begin("what_a_small_buffer_loses_is_counted_to_the_record")
    else {
        return;
    };
    // Whatever else this machine records meanwhile, a second reader with a buffer for all of it
    // sees; the first and the last message both readers have.
    let mut witness = Stream::multicast(PLENTY).unwrap();
    let mut small = Stream::multicast(4 << 10).unwrap();
    // What was on its way already is nobody's loss here.
    drain(&mut small, Duration::from_millis(50));
    send(&mut auditing.control, test, 0);
    let (mut records, mut lost) = drain_until(&mut small, test, 0);
    let (sender, done) = mpsc::channel();
    let flood = thread::spawn(move || {
        let mut control = Control::open().unwrap();
        for number in 1..MESSAGES {
            send(&mut control, test, number);
        }
        sender.send(()).unwrap();
    });
    // Now and then, so that there are many holes.
    let until = Instant::now() + PATIENCE;
    let mut holes = 0;
    loop {
        let ended = done.recv_timeout(Duration::from_millis(3)).is_ok();
        let (more, hole) = drain(&mut small, Duration::ZERO);
        records.extend(more);
        lost += hole;
        holes += u32::from(hole > 0);
        if ended {
            break;
        }
        assert!(Instant::now() < until);
    }
    flood.join().unwrap();
    // The kernel's own thread may still be at it.
    let (more, hole) = drain(&mut small, Duration::from_millis(500));
    records.extend(more);
    lost += hole;
    send(&mut auditing.control, test, MESSAGES);
    let (more, hole) = drain_until(&mut small, test, MESSAGES);
    records.extend(more);
    lost += hole;
    let (all, none) = drain_until(&mut witness, test, MESSAGES);
    assert_eq!(none, 0);

    let between = |records: &[Vec<u8>]| {
        let at = |number| {
            records.iter().position(|record| number_of(test, record) == Some(number)).unwrap()
        };
        at(MESSAGES) + 1 - at(0)
    };
    let ours = all.iter().filter(|record| number_of(test, record).is_some()).count();
    assert_eq!(ours, MESSAGES + 1);
    assert!(lost > 1000 && holes > 1, "{lost} lost in {holes} holes");
    let received = u64::try_from(between(&records)).unwrap();
    assert_eq!(received + lost, u64::try_from(between(&all)).unwrap(), "{lost} lost");
    eprintln!("{received} received, {lost} lost in {holes} holes");
}

#[test]
fn the_longest_record_comes_whole() {
    let Some(mut auditing) = Auditing::begin("the_longest_record_comes_whole") else { return };
    let mut stream = Stream::multicast(1 << 20).unwrap();
    drain(&mut stream, Duration::from_millis(50));
    let long = [b'x'; Control::MESSAGE_BYTES];
    auditing.control.send_user(KIND, &long).unwrap();
    let Received::Record { text, .. } = stream.recv(Some(PATIENCE)).unwrap() else {
        panic!("no record");
    };
    assert!(text.ends_with(&[&long[..], b"'"].concat()));
}

#[test]
fn the_stream_waits_as_long_as_it_is_told_and_polls_readable() {
    let test = "poll";
    let Some(mut auditing) =
        Auditing::begin("the_stream_waits_as_long_as_it_is_told_and_polls_readable")
    else {
        return;
    };
    let mut stream = Stream::multicast(1 << 20).unwrap();
    drain(&mut stream, Duration::from_millis(50));
    let readable = |stream: &Stream, millis| {
        let timeout = Timespec::try_from(Duration::from_millis(millis)).unwrap();
        poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&timeout)).unwrap() == 1
    };
    assert!(!readable(&stream, 0));
    let started = Instant::now();
    let wait = Duration::from_millis(200);
    assert_eq!(stream.recv(Some(wait)).unwrap(), Received::TimedOut);
    assert!(started.elapsed() >= wait);
    send(&mut auditing.control, test, 1);
    assert!(readable(&stream, 10_000));
    let Received::Record { text, .. } = stream.recv(Some(Duration::ZERO)).unwrap() else {
        panic!("no record");
    };
    assert_eq!(number_of(test, text), Some(1));
    assert!(stream.as_fd().try_clone_to_owned().is_ok());
}

#[test]
fn the_registered_reader_gets_every_record_and_is_gone_when_dropped() {
    let test = "registered";
    let Some(mut auditing) =
        Auditing::begin("the_registered_reader_gets_every_record_and_is_gone_when_dropped")
    else {
        return;
    };
    let lost_before = auditing.control.status().unwrap().lost;
    // Little room: the kernel waits for this reader.
    let mut stream = Stream::register(4 << 10).unwrap();
    assert_eq!(auditing.control.status().unwrap().pid, std::process::id());
    let flood = thread::spawn(move || {
        let mut control = Control::open().unwrap();
        for number in 0..MESSAGES {
            send(&mut control, test, number);
        }
    });
    let (records, lost) = drain_until(&mut stream, test, MESSAGES - 1);
    flood.join().unwrap();
    let mut numbers: Vec<usize> =
        records.iter().filter_map(|record| number_of(test, record)).collect();
    // The kernel sends what it had to keep later than what came after it.
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..MESSAGES), "{} came", numbers.len());
    assert_eq!((lost, auditing.control.status().unwrap().lost), (0, lost_before));
    drop(stream);
    assert_eq!(auditing.control.status().unwrap().pid, 0);
    // And again, the explicit way.
    let stream = Stream::register(1 << 20).unwrap();
    assert_eq!(auditing.control.status().unwrap().pid, std::process::id());
    stream.close().unwrap();
    assert_eq!(auditing.control.status().unwrap().pid, 0);
}

#[test]
fn a_second_daemon_is_refused_and_the_first_hears_of_it() {
    let Some(mut auditing) =
        Auditing::begin("a_second_daemon_is_refused_and_the_first_hears_of_it")
    else {
        return;
    };
    let mut stream = Stream::register(1 << 20).unwrap();
    let refused = Stream::register(1 << 20).unwrap_err();
    let pid = std::process::id();
    assert!(matches!(refused, Error::DaemonExists { pid: there, .. } if there == pid), "{refused}");
    assert!(refused.to_string().contains(&format!("process {pid} is the audit daemon")));
    // The refused one did not unregister the other.
    assert_eq!(auditing.control.status().unwrap().pid, pid);
    let until = Instant::now() + PATIENCE;
    loop {
        match stream.recv(Some(PATIENCE)).unwrap() {
            Received::Contested { pid: by } => break assert_eq!(by, pid),
            other => assert_ne!(other, Received::TimedOut),
        }
        assert!(Instant::now() < until);
    }
}

#[test]
fn a_message_of_another_process_is_no_record() {
    use rustix::net::netlink::{self, SocketAddrNetlink};
    use rustix::net::{
        AddressFamily, SendFlags, SocketFlags, SocketType, getsockname, sendto, socket_with,
    };
    let Some(_auditing) = Auditing::begin("a_message_of_another_process_is_no_record") else {
        return;
    };
    let mut stream = Stream::multicast(1 << 20).unwrap();
    drain(&mut stream, Duration::from_millis(50));
    let flags = SocketFlags::CLOEXEC;
    let forger =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::AUDIT)).unwrap();
    let port = |socket: &dyn AsFd| {
        let address = getsockname(socket.as_fd()).unwrap();
        SocketAddrNetlink::try_from(address).unwrap().pid()
    };
    let to = SocketAddrNetlink::new(port(&stream), 0);
    let mut message = vec![36, 0, 0, 0, 0x3b, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend(b"audit(1.000:1): forg");
    sendto(&forger, &message, SendFlags::empty(), &to).unwrap();
    assert_eq!(stream.recv(Some(PATIENCE)).unwrap(), Received::Foreign { port: port(&forger) });
}
