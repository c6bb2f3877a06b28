//! Facts about a task, from `/proc`: what the kernel would say of it in an audit record.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::{fs, fs::File};

use record::task::Task;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::text::decimal;

/// What is known of one task (a thread), all of it of that same task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its number.
    pub tid: u32,
    /// What an audit record says of it. Numbers are those of the namespaces of the `/proc` that
    /// is read: the initial ones, for whoever runs in them.
    pub task: Task,
    /// When it started, in clock ticks since boot: with `tid`, its identity.
    pub start_time: u64,
    /// Whether it is one of the kernel's own threads (a loop device's worker, say).
    pub is_kernel_thread: bool,
}

/// Reads the facts of task `tid`, which best be waiting for us meanwhile: a task that ends while
/// it is read gives an error, never the facts of another one that took its number.
///
/// # Errors
/// `NotFound` where there is no such task (any more), or `/proc` hides it; else what `/proc`
/// answered, and `InvalidData` for text of another form.
pub fn facts(tid: u32) -> io::Result<Facts> {
    if tid == 0 {
        return Err(gone());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = format!("/proc/{tid}");
    // Everything through one descriptor: it stays the directory of this task.
    let task = rustix::fs::open(path, flags, Mode::empty()).map_err(error_of)?;
    let stat = read(&task, "stat")?;
    let stat = Stat::parse(&stat).ok_or_else(other_form)?;
    let status = read(&task, "status")?;
    let status = Status::parse(&status).ok_or_else(other_form)?;
    let [uid, euid, suid, fsuid] = status.uid;
    let [gid, egid, sgid, fsgid] = status.gid;
    let exe = rustix::fs::readlinkat(&task, "exe", Vec::new()).ok();
    Ok(Facts {
        tid,
        task: Task {
            ppid: status.ppid,
            pid: status.tgid,
            auid: number_or_unset(&task, "loginuid")?,
            ses: number_or_unset(&task, "sessionid")?,
            uid,
            euid,
            suid,
            fsuid,
            gid,
            egid,
            sgid,
            fsgid,
            tty: terminal(stat.terminal),
            comm: stat.comm.to_vec(),
            exe: exe.map(std::ffi::CString::into_bytes),
        },
        start_time: stat.start_time,
        is_kernel_thread: stat.flags & PF_KTHREAD != 0,
    })
}

/// When task `tid` started, in clock ticks since boot: with the number, its identity.
///
/// # Errors
/// As [`facts`].
pub fn start_time(tid: u32) -> io::Result<u64> {
    let text = fs::read(format!("/proc/{tid}/stat"))
        .map_err(|error| Errno::from_io_error(&error).map_or(error, error_of))?;
    Stat::parse(&text).map(|stat| stat.start_time).ok_or_else(other_form)
}

/// `linux/sched.h`.
const PF_KTHREAD: u32 = 0x0020_0000;

/// More than any of these files has.
const ENOUGH: u64 = 64 << 10;

/// Reads a file of the folder of a task.
///
/// # Errors
/// `NotFound` where the file or the task is not there (any more).
pub(crate) fn read(task: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let text = read_any(task, name)?;
    // So does the directory of a task that has ended, in places.
    if text.is_empty() { Err(gone()) } else { Ok(text) }
}

/// The same of a file that may be empty.
pub(crate) fn read_any(task: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(task, name, flags, Mode::empty()).map_err(error_of)?;
    let mut text = Vec::new();
    File::from(file)
        .take(ENOUGH)
        .read_to_end(&mut text)
        .map_err(|error| Errno::from_io_error(&error).map_or(error, error_of))?;
    Ok(text)
}

/// A kernel without audit has neither file, and a task of nobody's login the same number.
fn number_or_unset(task: &OwnedFd, name: &str) -> io::Result<u32> {
    match read(task, name) {
        Ok(text) => decimal(text.trim_ascii_end()).ok_or_else(other_form),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Not there, or the task is not there any more.
            read(task, "stat").map(|_| u32::MAX)
        }
        Err(error) => Err(error),
    }
}

fn error_of(errno: Errno) -> io::Error {
    if errno == Errno::SRCH { gone() } else { errno.into() }
}

fn gone() -> io::Error {
    Errno::NOENT.into()
}

fn other_form() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "text in /proc of an unknown form")
}

/// What is used of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat<'a> {
    /// The task's name, any bytes: it chose them itself.
    pub comm: &'a [u8],
    /// Device number of the controlling terminal, 0 without one.
    pub terminal: u32,
    /// `PF_*` of `linux/sched.h`.
    pub flags: u32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

impl<'a> Stat<'a> {
    /// Reads the file's text (`proc_pid_stat(5)`); `None` where it has another form.
    ///
    /// ```text
    /// 1234 (comm) S 1 1234 1234 34816 5678 4194304 ... 8456 ...
    /// 1     2     3 4 5    6    7     8    9           22
    ///                           tty_nr     flags       starttime
    /// ```
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        // The name may hold parentheses, blanks and line feeds; nothing behind it does.
        let open = text.iter().position(|b| *b == b'(')?;
        let close = text.iter().rposition(|b| *b == b')')?;
        let comm = text.get(open + 1..close)?;
        let rest = text[close + 1..].trim_ascii();
        let mut fields = rest.split(|b| *b == b' ').zip(3..);
        let mut field = |wanted| fields.find(|(_, number)| *number == wanted).map(|(text, _)| text);
        // Printed as a signed number.
        let terminal = signed(field(7)?)?;
        let flags = decimal(field(9)?)?;
        let start_time = decimal(field(22)?)?;
        Some(Self { comm, terminal, flags, start_time })
    }
}

fn signed(text: &[u8]) -> Option<u32> {
    match text.strip_prefix(b"-") {
        Some(digits) => Some(decimal::<u32>(digits)?.wrapping_neg()),
        None => decimal(text),
    }
}

/// What is used of `/proc/PID/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The process the task belongs to.
    pub tgid: u32,
    /// Its parent, 0 where that is in another process namespace.
    pub ppid: u32,
    /// Real, effective, saved and file system user.
    pub uid: [u32; 4],
    /// The same of the group.
    pub gid: [u32; 4],
}

impl Status {
    /// Reads the file's text (`proc_pid_status(5)`); `None` where one of the lines is missing or
    /// has another form. The name is escaped there, so no line is the task's own.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let line = |name: &[u8]| line(text, name);
        let four = |name: &[u8]| {
            let mut numbers = line(name)?.trim_ascii().split(|b| *b == b'\t').map(decimal);
            let four = [numbers.next()??, numbers.next()??, numbers.next()??, numbers.next()??];
            numbers.next().is_none().then_some(four)
        };
        Some(Self {
            tgid: decimal(line(b"Tgid")?.trim_ascii())?,
            ppid: decimal(line(b"PPid")?.trim_ascii())?,
            uid: four(b"Uid")?,
            gid: four(b"Gid")?,
        })
    }
}

/// What stands behind `name:` in the text of such a file.
pub(crate) fn line<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = text.split(|b| *b == b'\n');
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(b":"))
}

/// The terminal's name as audit prints it (`tty_name`): the driver's name and the line's number,
/// without `/dev/` and without the slash of a pseudo-terminal. `None` where there is none, or no
/// name for it.
fn terminal(number: u32) -> Option<String> {
    // new_encode_dev() of linux/kdev_t.h: minor bits 19..8, major, minor bits 7..0.
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00));
    match (major, minor) {
        (0, _) => None,
        (4, 0..64) => Some(format!("tty{minor}")),
        (4, _) => Some(format!("ttyS{}", minor - 64)),
        // UNIX98 pseudo-terminals: the node is pts/3, the name pts3.
        (136..=143, _) => Some(format!("pts{}", (major - 136) * 256 + minor)),
        _ => {
            let link = fs::read_link(format!("/sys/dev/char/{major}:{minor}")).ok()?;
            Path::new(&link).file_name()?.to_str().map(str::to_owned)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_bytes_moves_nothing() {
        for comm in [&b"cat"[..], b"", b"a) R 1 (b", b"\n) \xff(", b"((((", b"))) S 1 2"] {
            let tail = b") S 1 2 3 34816 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 8456 9 10\n";
            let text = [b"7 (", comm, tail].concat();
            let stat = Stat::parse(&text).unwrap();
            assert_eq!(stat.comm, comm);
            assert_eq!((stat.terminal, stat.flags, stat.start_time), (34816, 4_194_304, 8456));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["", "7", "7 (a", "7 a)", ") (", "7 (a) S 1 2 3", "7 (a) S 1 2 3 x 5 6 7 8"] {
            assert_eq!(Stat::parse(text.as_bytes()), None, "{text}");
        }
        let good = "Name:\ta\nTgid:\t7\nPPid:\t0\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        assert_eq!(
            Status::parse(good.as_bytes()),
            Some(Status { tgid: 7, ppid: 0, uid: [1, 2, 3, 4], gid: [5, 6, 7, 8] })
        );
        for (from, to) in
            [("\t4\n", "\n"), ("\t4\n", "\t4\t5\n"), ("Tgid", "Tgix"), ("\t7\nP", "\t-7\nP")]
        {
            assert_eq!(Status::parse(good.replacen(from, to, 1).as_bytes()), None, "{to:?}");
        }
        // The name is escaped, so a task named like a field is only a name.
        let named = good.replacen("\ta\n", "\tx\\nUid:\t9\t9\t9\t9\n", 1);
        assert_eq!(Status::parse(named.as_bytes()).unwrap().uid, [1, 2, 3, 4]);
    }

    #[test]
    fn terminals_are_named_as_audit_does() {
        for (number, name) in [
            (0, None),
            (0x8800, Some("pts0")),
            (0x8803, Some("pts3")),
            (0x8900, Some("pts256")),
            // Minor 300 of major 136.
            (0x0010_882c, Some("pts300")),
            (0x0401, Some("tty1")),
            (0x0440, Some("ttyS0")),
        ] {
            assert_eq!(terminal(number).as_deref(), name, "{number:#x}");
        }
    }

    #[test]
    fn this_very_task() {
        let tid = u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        let facts = facts(tid).unwrap();
        assert_eq!((facts.tid, facts.task.pid), (tid, std::process::id()));
        assert_eq!(facts.task.ppid, std::os::unix::process::parent_id());
        assert_eq!(facts.task.euid, rustix::process::geteuid().as_raw());
        assert_eq!(facts.task.egid, rustix::process::getegid().as_raw());
        let exe = std::env::current_exe().unwrap();
        assert_eq!(facts.task.exe.as_deref(), Some(exe.as_os_str().as_encoded_bytes()));
        assert!(!facts.is_kernel_thread && facts.start_time > 0);
        // libtest names its threads; the kernel keeps fifteen bytes.
        assert_eq!(facts.task.comm, b"process::tests:"[..]);
    }

    #[test]
    fn a_task_that_is_not_there() {
        for tid in [0, u32::MAX, i32::MAX.cast_unsigned()] {
            assert_eq!(facts(tid).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(facts(child.id()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_kernel_thread_has_no_program() {
        // kthreadd, where this machine shows it.
        let Ok(facts) = facts(2) else { return };
        if facts.task.comm == b"kthreadd" {
            assert!(facts.is_kernel_thread);
            assert_eq!((facts.task.exe, facts.task.tty), (None, None));
        }
    }
}
