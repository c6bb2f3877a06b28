//! A device with known contents, served by a process of its own.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;
use std::{panic, thread};

use host::channel::{Channel, Received};
use host::fuse::{Attributes, Content, Errno, Reader, serve};
use host::mount::{Detach, Options, attach, detach};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::spawn::{spawn, word};

pub(crate) const BLOCK: u64 = 4096;
/// Blocks of [`Pattern`] that do not simply read.
pub(crate) const FAILS: u64 = 100;
pub(crate) const FAILS_WITH_EILSEQ: u64 = 200;
pub(crate) const PANICS: u64 = 300;
pub(crate) const SLOW: u64 = 400;
/// Names its reader: thread, user and group, each four bytes.
pub(crate) const NAMES_READER: u64 = 500;

/// Byte `at` of the pattern: no period that a block, page or request could hide.
pub(crate) fn pattern(at: u64) -> u8 {
    let mixed = (at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
    mixed.to_le_bytes()[(at % 8) as usize]
}

pub(crate) fn pattern_range(from: u64, len: usize) -> Vec<u8> {
    (from..).take(len).map(pattern).collect()
}

const ON_PURPOSE: &str = "a content that panics";

struct Pattern;

impl Content for Pattern {
    fn read(&self, reader: Reader, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let blocks = offset / BLOCK..=(offset + buf.len() as u64 - 1) / BLOCK;
        if blocks.contains(&FAILS) {
            return Err(Errno::IO);
        }
        if blocks.contains(&FAILS_WITH_EILSEQ) {
            return Err(Errno::ILSEQ);
        }
        assert!(!blocks.contains(&PANICS), "{ON_PURPOSE}");
        if blocks.contains(&SLOW) {
            thread::sleep(Duration::from_secs(3));
        }
        for (at, byte) in (offset..).zip(&mut *buf) {
            *byte = pattern(at);
        }
        if offset == NAMES_READER * BLOCK {
            let Reader { tid, uid, gid } = reader;
            let name = [tid, uid, gid].into_iter().flat_map(u32::to_le_bytes);
            for (byte, named) in buf.iter_mut().zip(name) {
                *byte = named;
            }
        }
        Ok(())
    }
}

/// A file that is served as it is.
struct Image(File);

impl Content for Image {
    fn read(&self, _: Reader, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.0.read_exact_at(buf, offset).map_err(|_| Errno::IO)
    }
}

/// `DIRECT MODE SIZE` and the connection, then perhaps an image: what the server is sent.
pub(crate) fn be_server(channel: &Channel) {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some(ON_PURPOSE) {
            usual(panic);
        }
    }));
    let mut buf = [0; 64];
    let Received::Message { len, fds } = channel.recv(&mut buf, None).unwrap() else { return };
    let words = str::from_utf8(&buf[..len]).unwrap();
    let [direct_io, mode, size] =
        <[&str; 3]>::try_from(words.split(' ').collect::<Vec<_>>()).unwrap();
    let mut fds = fds.into_iter();
    let connection = fds.next().unwrap();
    let attributes = Attributes {
        size: size.parse().unwrap(),
        mode: mode.parse().unwrap(),
        uid: 0,
        gid: 0,
        block_size: 4096,
        direct_io: direct_io == "direct",
        threads: 4,
    };
    let session = match fds.next() {
        Some(image) => serve(connection, attributes, Image(image.into())),
        None => serve(connection, attributes, Pattern),
    };
    let session = session.unwrap();
    let agreed = session.agreement();
    channel.send(format!("{agreed:?}").as_bytes(), &[]).unwrap();
    session.wait().unwrap();
    channel.send(b"unmounted", &[]).unwrap();
}

/// What to serve, and how.
#[derive(Clone, Copy)]
pub(crate) struct Device<'a> {
    pub(crate) direct_io: bool,
    pub(crate) image: Option<&'a Path>,
    /// Size of the pattern, without an image.
    pub(crate) size: u64,
    pub(crate) mode: u32,
}

impl Default for Device<'_> {
    fn default() -> Self {
        Self { direct_io: false, image: None, size: 1000 * BLOCK + 777, mode: 0o444 }
    }
}

/// A mounted device, its server, and the folder they are in. All are gone when it is dropped.
pub(crate) struct Served {
    _folder: TempDir,
    pub(crate) point: PathBuf,
    pub(crate) server: Child,
    pub(crate) channel: Channel,
    pub(crate) agreement: String,
}

impl Served {
    pub(crate) fn new(device: Device<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let point = folder.path().join("device one");
        fs::write(&point, "").unwrap();
        let connection = attach(&point, Options { others: true, ..Options::default() }).unwrap();
        let (server, channel) = spawn("server", &[]);
        let mut served = Self { _folder: folder, point, server, channel, agreement: String::new() };
        served.agreement = start(&served.channel, connection, device);
        served
    }

    /// Kills the server in a way it cannot answer.
    pub(crate) fn kill(&mut self) {
        rustix::process::kill_process(Pid::from_child(&self.server), Signal::KILL).unwrap();
        self.server.wait().unwrap();
    }

    /// The next word of the server, which has to come.
    pub(crate) fn word(&self) -> String {
        word(&self.channel)
    }
}

/// Sends the server what it needs; its own copy of the connection is then the only one.
pub(crate) fn start(channel: &Channel, connection: OwnedFd, device: Device<'_>) -> String {
    let image = device.image.map(|path| File::open(path).unwrap());
    let size = image.as_ref().map_or(device.size, |image| image.metadata().unwrap().len());
    let how = if device.direct_io { "direct" } else { "cached" };
    let mut fds = vec![connection.as_fd()];
    fds.extend(image.as_ref().map(AsFd::as_fd));
    channel.send(format!("{how} {} {size}", device.mode).as_bytes(), &fds).unwrap();
    drop(connection);
    word(channel)
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = detach(&self.point, Detach::Lazy);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Says why a test does not run here, if it does not.
pub(crate) fn runs(test: &str, tools: &[&str]) -> bool {
    let reason = if !rustix::process::geteuid().is_root() {
        "needs root".to_owned()
    } else if !may_mount() {
        "needs CAP_SYS_ADMIN".to_owned()
    } else if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
        format!("/dev/fuse: {error}")
    } else if let Some(tool) = tools.iter().find(|tool| !installed(tool)) {
        format!("no {tool}")
    } else {
        return true;
    };
    eprintln!("SKIPPED: {test}: {reason}");
    false
}

fn may_mount() -> bool {
    let now = rustix::thread::capabilities(None);
    now.is_ok_and(|now| now.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
}

fn installed(tool: &str) -> bool {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].iter().any(|p| Path::new(p).join(tool).exists())
}
