//! What has to be known of a process before it is given an audit container id, and of whoever asks for it.
//!
//! Facts only, each as it is at the moment of the call. What they mean is decided elsewhere.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::ioctl;
use crate::process::{self, line};
use crate::text::decimal;
use crate::wait::readable;

/// A process that is to be labelled, held so that another one with its number is never taken for it.
#[derive(Debug)]
pub struct Target {
    tid: u32,
    tgid: u32,
    start_time: u64,
    pidfd: OwnedFd,
    /// `/proc/TGID`.
    folder: OwnedFd,
}

impl Target {
    /// The process that this task is of, a thread of it or its first.
    ///
    /// # Errors
    /// ESRCH where it is gone or was waited for; what `/proc` answered.
    pub fn open(tid: u32) -> io::Result<Target> {
        let task = folder(tid)?;
        let tgid: u32 = number(&process::read(&task, "status").map_err(gone)?, b"Tgid")?;
        let pid = i32::try_from(tgid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| gone(error.into()))?;
        let folder = folder(tgid)?;
        let start_time = start_time(&folder)?;
        // As the thread is still there, all this time the number was its process's.
        process::read(&task, "status").map_err(gone)?;
        Ok(Target { tid, tgid, start_time, pidfd, folder })
    }

    /// Its number in the initial pid namespace.
    #[must_use]
    pub fn tgid(&self) -> u32 {
        self.tgid
    }

    /// Whether the task that was asked for is the process's first thread.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.tid == self.tgid
    }

    /// When it began, in clock ticks since boot (`/proc/PID/stat`): with the number, its identity.
    #[must_use]
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Whether it runs: it has not ended, waited for or not.
    ///
    /// # Errors
    /// What poll(2) answered.
    pub fn is_alive(&self) -> io::Result<bool> {
        readable(&self.pidfd, Some(Duration::ZERO)).map(|ended| !ended)
    }

    /// How many threads it has, of which at least one is.
    ///
    /// # Errors
    /// ESRCH where it was waited for.
    pub fn threads(&self) -> io::Result<u32> {
        number(&process::read(&self.folder, "status").map_err(gone)?, b"Threads")
    }

    /// The numbers of its threads, its first among them.
    ///
    /// # Errors
    /// ESRCH where it was waited for.
    pub fn thread_ids(&self) -> io::Result<Vec<u32>> {
        threads_of(&self.folder)
    }

    /// A descriptor of one of its threads; none on a kernel that has no such thing (before 6.9).
    ///
    /// # Errors
    /// ESRCH where it is no thread of it (any more).
    pub fn thread(&self, tid: u32) -> io::Result<Option<OwnedFd>> {
        let number = i32::try_from(tid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        // PIDFD_THREAD of linux/pidfd.h.
        let flags = PidfdFlags::from_bits_retain(OFlags::EXCL.bits());
        let thread = match pidfd_open(number, flags) {
            Err(Errno::INVAL) => return Ok(None),
            thread => thread?,
        };
        // As it is there still, the number was its own when it was opened.
        if threads_of(&self.folder)?.contains(&tid) {
            Ok(Some(thread))
        } else {
            Err(Errno::SRCH.into())
        }
    }

    /// The text of its `/proc/PID/cgroup`: a line for each hierarchy, `NUMBER:CONTROLLERS:PATH`. Whoever is in a
    /// group may have chosen the end of its path.
    ///
    /// # Errors
    /// ESRCH where it was waited for.
    pub fn control_groups(&self) -> io::Result<Vec<u8>> {
        process::read(&self.folder, "cgroup").map_err(gone)
    }

    /// The processes that it has to wait for, of all its threads, those that have ended too. Some may be
    /// left out where others are waited for meanwhile; where there are any, one is told.
    ///
    /// # Errors
    /// ESRCH where it was waited for itself.
    pub fn children(&self) -> io::Result<Vec<u32>> {
        let mut children = BTreeSet::new();
        for thread in threads_of(&self.folder)? {
            let text = match process::read_any(&self.folder, &format!("task/{thread}/children")) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if process::read(&self.folder, &format!("task/{thread}/stat")).is_err() {
                        // It has ended, and what it had is another thread's.
                        continue;
                    }
                    // A kernel without CONFIG_PROC_CHILDREN.
                    return children_by_parent(self.tgid);
                }
                Err(error) => return Err(error),
            };
            let numbers = text.split(|byte| *byte == b' ').filter_map(decimal::<u32>);
            children.extend(numbers);
        }
        Ok(children.into_iter().collect())
    }
}

impl AsFd for Target {
    /// Its pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// The inode number of the initial user namespace: `PROC_USER_INIT_INO` of linux/proc_ns.h.
const INITIAL_USER_NS: u64 = 0xEFFF_FFFD;

/// `CAP_AUDIT_CONTROL` of linux/capability.h.
const AUDIT_CONTROL: u32 = 30;

/// Whether this task may control audit now: it has CAP_AUDIT_CONTROL, and in the initial user namespace, as the
/// kernel's `capable` has it. Ask it anew with each request: rights change. Not for 0, which stands for
/// a task of another pid namespace.
///
/// Takes CAP_SYS_PTRACE for tasks of others.
///
/// # Errors
/// ESRCH where it is gone; what `/proc` answered.
pub fn may_control_audit(tid: u32) -> io::Result<bool> {
    if tid == 0 {
        return Ok(false);
    }
    let task = folder(tid)?;
    let user = rustix::fs::statat(&task, "ns/user", AtFlags::empty());
    let user = user.map_err(|error| gone(error.into()))?;
    let status = process::read(&task, "status").map_err(gone)?;
    let effective = line(&status, b"CapEff").and_then(|text| str::from_utf8(text).ok());
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let effective = effective.ok_or_else(other_form)?;
    Ok(user.st_ino == INITIAL_USER_NS && effective & (1 << AUDIT_CONTROL) != 0)
}

/// The process that `caller` means by `number`: its own pid namespace may number processes otherwise than ours.
///
/// Looks at every process where it does.
///
/// # Errors
/// ESRCH where one of them is gone, or nobody has that number there; what `/proc` answered.
pub fn meant_by(caller: u32, number: u32) -> io::Result<u32> {
    let there = folder(caller)?;
    let space = pid_namespace(&there)?;
    let ours = rustix::fs::stat("/proc/self/ns/pid").map_err(io::Error::from)?;
    if rustix::fs::fstat(&space)?.st_ino == ours.st_ino {
        return Ok(number);
    }
    let wanted = rustix::fs::fstat(&space)?.st_ino;
    let depth = numbers(&there)?.len();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = decimal::<u32>(entry?.file_name().as_encoded_bytes()) else { continue };
        let is_meant = || {
            let one = folder(pid)?;
            let is_so = numbers(&one)?.get(depth.wrapping_sub(1)) == Some(&number);
            Ok::<bool, io::Error>(is_so && is_within(pid_namespace(&one)?, wanted)?)
        };
        // Others may end meanwhile.
        if is_meant().is_ok_and(|is_meant| is_meant) {
            return Ok(pid);
        }
    }
    Err(Errno::SRCH.into())
}

/// Its numbers, from our pid namespace down to its own.
fn numbers(task: &OwnedFd) -> io::Result<Vec<u32>> {
    let status = process::read(task, "status").map_err(gone)?;
    let text = line(&status, b"NSpid").ok_or_else(other_form)?;
    let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.map(|word| decimal(word).ok_or_else(other_form)).collect()
}

fn pid_namespace(task: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(task, "ns/pid", flags, Mode::empty());
    opened.map_err(|error| gone(error.into()))
}

/// The kernel nests them no deeper (`MAX_PID_NS_LEVEL`).
const DEEPEST: usize = 32;

/// Whether the pid namespace is the one of that inode number, or was made in it.
fn is_within(mut namespace: OwnedFd, wanted: u64) -> io::Result<bool> {
    for _ in 0..=DEEPEST {
        if rustix::fs::fstat(&namespace)?.st_ino == wanted {
            return Ok(true);
        }
        namespace = match ioctl::parent_of(&namespace) {
            Ok(parent) => parent,
            // What lies above ours is not ours to see.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(false),
            Err(error) => return Err(error),
        };
    }
    Ok(false)
}

/// The folder of a task: it stays that of this very task.
fn folder(tid: u32) -> io::Result<OwnedFd> {
    if tid == 0 {
        return Err(Errno::SRCH.into());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{tid}"), flags, Mode::empty())
        .map_err(|error| gone(error.into()))
}

/// `/proc` has no file of a task that is gone.
fn gone(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::NotFound { Errno::SRCH.into() } else { error }
}

fn other_form() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "text in /proc of an unknown form")
}

fn number(status: &[u8], name: &[u8]) -> io::Result<u32> {
    let text = line(status, name).ok_or_else(other_form)?;
    decimal(text.trim_ascii()).ok_or_else(other_form)
}

fn start_time(folder: &OwnedFd) -> io::Result<u64> {
    let text = process::read(folder, "stat").map_err(gone)?;
    process::Stat::parse(&text).map(|stat| stat.start_time).ok_or_else(other_form)
}

fn threads_of(folder: &OwnedFd) -> io::Result<Vec<u32>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tasks = rustix::fs::openat(folder, "task", flags, Mode::empty());
    let tasks = tasks.map_err(|error| gone(error.into()))?;
    let mut threads = Vec::new();
    for entry in Dir::new(tasks)? {
        let entry = entry.map_err(|error| gone(error.into()))?;
        threads.extend(decimal::<u32>(entry.file_name().to_bytes()));
    }
    Ok(threads)
}

/// The same by looking at every process.
fn children_by_parent(parent: u32) -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = decimal::<u32>(entry?.file_name().as_encoded_bytes()) else { continue };
        let of = folder(pid).and_then(|task| process::read(&task, "status"));
        if of.is_ok_and(|status| number(&status, b"PPid").ok() == Some(parent)) {
            children.push(pid);
        }
    }
    Ok(children)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_and_its_children() {
        // Nobody waits for true(1): the shell is another program by then.
        let script = "sleep 3 & true & exec sleep 60";
        let mut shell = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let target = Target::open(shell.id()).unwrap();
        assert!(target.is_leader() && target.is_alive().unwrap());
        assert_eq!((target.tgid(), target.threads().unwrap()), (shell.id(), 1));
        assert_eq!(target.start_time(), process::facts(shell.id()).unwrap().start_time);
        let comm = || std::fs::read(format!("/proc/{}/comm", shell.id())).unwrap();
        while comm() != b"sleep\n" {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut by_parent = children_by_parent(shell.id()).unwrap();
        by_parent.sort_unstable();
        assert_eq!(target.children().unwrap(), by_parent);
        assert_eq!(by_parent.len(), 2, "{by_parent:?}");
        shell.kill().unwrap();
        while target.is_alive().unwrap() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Not waited for, it is still there.
        assert_eq!(target.children().unwrap(), [0; 0]);
        shell.wait().unwrap();
        for error in [target.children().unwrap_err(), target.threads().unwrap_err()] {
            assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
        }
        assert_eq!(Target::open(shell.id()).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn a_thread_is_of_its_process() {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        let target = Target::open(tid.try_into().unwrap()).unwrap();
        assert_eq!((target.tgid(), target.is_leader()), (std::process::id(), false));
        assert!(target.threads().unwrap() >= 2);
        for nobody in [0, u32::MAX] {
            assert_eq!(Target::open(nobody).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        }
    }

    #[test]
    fn who_may_control_audit() {
        assert!(!may_control_audit(0).unwrap());
        if !rustix::process::geteuid().is_root() {
            assert!(!may_control_audit(std::process::id()).unwrap());
            return;
        }
        let initial = std::fs::read_link("/proc/self/ns/user").unwrap();
        if initial.to_str() == Some("user:[4026531837]") {
            assert!(may_control_audit(std::process::id()).unwrap());
        }
        let judged = |arguments: &[&str]| {
            let mut child = Command::new(arguments[0])
                .args(&arguments[1..])
                .args(["cat"])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let comm = format!("/proc/{}/comm", child.id());
            while std::fs::read(&comm).unwrap() != b"cat\n" && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
            let may = may_control_audit(child.id());
            child.kill().unwrap();
            child.wait().unwrap();
            may
        };
        // Root of its own namespace has every right there.
        for arguments in [
            &["unshare", "--user", "--map-root-user"][..],
            &["setpriv", "--reuid=1", "--clear-groups"],
        ] {
            match judged(arguments) {
                Ok(may) => assert!(!may, "{arguments:?}"),
                Err(error) => eprintln!("skipped: {arguments:?} did not run: {error}"),
            }
        }
    }

    #[test]
    fn a_number_is_of_the_callers_own_pid_namespace() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: a_number_is_of_the_callers_own_pid_namespace: needs root");
            return;
        }
        let own = std::process::id();
        assert_eq!(meant_by(own, 4711).unwrap(), 4711);
        // Numbers there: the shell is 1, the others 2 and 3; the last is 1 of a namespace further in.
        let script = "sleep 50 & unshare -p -f --kill-child sleep 50 & wait";
        let mut outside = Command::new("unshare")
            .args(["-p", "-f", "--kill-child", "sh", "-c", script])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let is_there = |pid: u32, count: usize| {
            let until = std::time::Instant::now() + Duration::from_secs(10);
            loop {
                let children = Target::open(pid).and_then(|target| target.children());
                if let Ok(children) = &children
                    && children.len() == count
                {
                    return children.clone();
                }
                assert!(std::time::Instant::now() < until, "{children:?}");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        let shell = is_there(outside.id(), 1)[0];
        let children = is_there(shell, 2);
        let unshare =
            *children.iter().find(|pid| numbers(&folder(**pid).unwrap()).unwrap()[1] == 3).unwrap();
        let deeper = is_there(unshare, 1)[0];
        for pid in [shell, children[0], children[1], deeper] {
            let number = numbers(&folder(pid).unwrap()).unwrap()[1];
            assert_eq!(meant_by(shell, number).unwrap(), pid);
        }
        // From further in: itself alone. Ours are nobody there, from nowhere.
        assert_eq!(meant_by(deeper, 1).unwrap(), deeper);
        for number in [own, 999, 0] {
            let error = meant_by(deeper, number).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
        }
        outside.kill().unwrap();
        outside.wait().unwrap();
    }
}
