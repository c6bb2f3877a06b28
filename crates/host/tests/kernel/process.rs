//! Facts of other tasks than this one.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use host::process::facts;

#[test]
fn a_task_with_a_name_meant_to_mislead() {
    let name = "a) S 1 2 (\n";
    let (sender, receiver) = std::sync::mpsc::channel();
    let (end, waits) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        sender.send(rustix::thread::gettid()).unwrap();
        let _ = waits.recv();
    });
    let thread = thread.unwrap();
    let tid = receiver.recv().unwrap().as_raw_nonzero().get();
    let facts = facts(tid.cast_unsigned()).unwrap();
    assert_eq!(facts.task.comm, name.as_bytes());
    assert_eq!((facts.tid, facts.task.pid), (tid.cast_unsigned(), std::process::id()));
    assert_eq!(facts.task.ppid, std::os::unix::process::parent_id());
    drop(end);
    thread.join().unwrap();
}

#[test]
fn a_process_of_another_user() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: a_process_of_another_user: needs root");
    }
    let (ours, theirs) = host::channel::Channel::pair().unwrap();
    let mut command = Command::new("/bin/cat");
    let stdin = theirs.as_fd().try_clone_to_owned().unwrap();
    let mut child = command.stdin(stdin).uid(65534).gid(65533).spawn().unwrap();
    // Until it is the program, it is this test.
    let facts = loop {
        let facts = facts(child.id()).unwrap();
        if facts.task.comm == b"cat" {
            break facts;
        }
        std::thread::yield_now();
    };
    let task = &facts.task;
    assert_eq!((task.uid, task.euid, task.suid, task.fsuid), (65534, 65534, 65534, 65534));
    assert_eq!((task.gid, task.egid, task.sgid, task.fsgid), (65533, 65533, 65533, 65533));
    assert_eq!((task.pid, task.ppid), (child.id(), std::process::id()));
    let exe = std::fs::canonicalize("/bin/cat").unwrap();
    assert_eq!(task.exe.as_deref(), Some(exe.as_os_str().as_encoded_bytes()));
    drop((ours, theirs));
    child.wait().unwrap();
}
