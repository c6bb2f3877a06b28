//! Messages and descriptors from end to end.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use host::channel::{Channel, MAX_DESCRIPTORS, Received};
use rustix::io::{Errno, FdFlags};

fn message(channel: &Channel, buf: &mut [u8]) -> (usize, Vec<OwnedFd>) {
    match channel.recv(buf, Some(Duration::from_secs(10))).unwrap() {
        Received::Message { len, fds } => (len, fds),
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_keep_their_bounds_and_descriptors_arrive() {
    let (one, other) = Channel::pair().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"through").unwrap();
    one.send(b"first", &[]).unwrap();
    one.send(b"second", &[file.as_fd(), file.as_fd()]).unwrap();
    let mut buf = [0; 64];
    let (len, fds) = message(&other, &mut buf);
    assert_eq!((&buf[..len], fds.len()), (&b"first"[..], 0));
    let (len, fds) = message(&other, &mut buf);
    assert_eq!((&buf[..len], fds.len()), (&b"second"[..], 2));
    for fd in fds {
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
        let mut file = File::from(fd);
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }
    // As many as there may be, and one more.
    let many: Vec<BorrowedFd<'_>> = vec![file.as_fd(); MAX_DESCRIPTORS + 1];
    one.send(b"x", &many[1..]).unwrap();
    assert_eq!(message(&other, &mut buf).1.len(), MAX_DESCRIPTORS);
    assert!(one.send(b"x", &many).is_err());
    assert!(one.send(b"", &[]).is_err());
}

#[test]
fn the_end_is_told_from_silence() {
    let (one, other) = Channel::pair().unwrap();
    let mut buf = [0; 8];
    let start = Instant::now();
    let nothing = other.recv(&mut buf, Some(Duration::from_millis(50))).unwrap();
    assert!(matches!(nothing, Received::TimedOut));
    assert!(start.elapsed() >= Duration::from_millis(50));
    let nothing = other.recv(&mut buf, Some(Duration::ZERO)).unwrap();
    assert!(matches!(nothing, Received::TimedOut));
    one.send(b"last", &[]).unwrap();
    drop(one);
    assert_eq!(message(&other, &mut buf).0, 4);
    assert!(matches!(other.recv(&mut buf, None).unwrap(), Received::Closed));
    // And no signal for whoever still talks.
    let refused = other.send(b"x", &[]).unwrap_err();
    assert_eq!(Errno::from_io_error(&refused), Some(Errno::PIPE));
}

#[test]
fn what_does_not_fit_is_an_error_and_leaks_nothing() {
    let (one, other) = Channel::pair().unwrap();
    let file = tempfile::tempfile().unwrap();
    let mut buf = [0; 4];
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let refused = |buf: &mut [u8]| {
        let error = other.recv(buf, Some(Duration::from_secs(10))).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::MSGSIZE));
    };
    let before = open();
    for _ in 0..64 {
        one.send(b"too long", &[file.as_fd(); 3]).unwrap();
        refused(&mut buf);
    }
    // A peer that is not this code sends more than it should.
    let many: Vec<BorrowedFd<'_>> = vec![file.as_fd(); 100];
    for count in [MAX_DESCRIPTORS + 1, MAX_DESCRIPTORS + 2, 100] {
        send_raw(&one, &many[..count]);
        refused(&mut buf);
    }
    // Other tests open and close files meanwhile, but not this many.
    assert!(open() < before + 60, "{} descriptors more", open() - before);
    one.send(b"good", &[]).unwrap();
    assert_eq!(message(&other, &mut buf).0, 4);
}

fn send_raw(channel: &Channel, fds: &[BorrowedFd<'_>]) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(128))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    let bytes = [std::io::IoSlice::new(b"x")];
    sendmsg(channel, &bytes, &mut control, SendFlags::empty()).unwrap();
}
