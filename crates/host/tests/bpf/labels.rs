//! Audit container ids: set by pidfd, inherited in the kernel.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use host::bpf::{Event, Label, Labels, Opened, Program, Programs, Task, UNSET, Wanted};
use host::channel::{Channel, Received};
use host::target::Target;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::CapabilitySet;

use crate::{drain, shell};

/// The programs and their reader; none, which is said, where labels cannot be had.
pub(crate) fn load(wanted: Wanted) -> Option<(Programs, Opened)> {
    let programs = [Program::Labels, Program::Fork, Program::Exec, Program::Exit].to_vec();
    let (programs, report, opened) = crate::load(&Wanted { programs, ..wanted })?;
    assert_eq!(report.missing().count(), 0);
    Some((programs, opened))
}

/// A number that no other test has.
pub(crate) fn generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) fn label(contid: u64) -> Label {
    Label { contid, old: UNSET, generation: generation() }
}

/// A shell, which waits for a line before it runs its script.
pub(crate) struct Waiting {
    shell: Child,
    pub(crate) target: Target,
}

impl Waiting {
    pub(crate) fn new(script: &str) -> Waiting {
        Waiting::with(script, &[])
    }

    pub(crate) fn with(script: &str, arguments: &[&str]) -> Waiting {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("read go; {script}"), "sh"]).args(arguments);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let shell = shell.spawn().unwrap();
        let target = Target::open(shell.id()).unwrap();
        Waiting { shell, target }
    }

    pub(crate) fn go(&mut self) {
        self.shell.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    /// The next number that it says.
    fn number(&mut self) -> u32 {
        let mut line = Vec::new();
        // One byte at a time: what follows is for the next call.
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            std::io::Read::read_exact(self.shell.stdout.as_mut().unwrap(), &mut byte).unwrap();
            line.extend(byte);
        }
        String::from_utf8(line).unwrap().trim().parse().unwrap()
    }

    pub(crate) fn end(mut self) -> Target {
        drop(self.shell.stdin.take());
        assert!(self.shell.wait().unwrap().success());
        let Waiting { target, .. } = self;
        target
    }

    pub(crate) fn kill(mut self) {
        let mut of = vec![self.shell.id()];
        while let Some(one) = of.pop() {
            if let Ok(target) = Target::open(one) {
                of.extend(target.children().unwrap_or_default());
                let _ = rustix::process::pidfd_send_signal(&target, rustix::process::Signal::KILL);
            }
        }
        self.shell.wait().unwrap();
    }
}

/// The events of these processes and of all that they have begun.
pub(crate) fn of_family(events: &[Event], first: u32) -> Vec<&Event> {
    let mut family = HashSet::from([first]);
    let ours = |event: &&Event| match event {
        Event::Fork(task) => family.contains(&task.parent) && family.insert(task.tgid),
        event => family.contains(&event.task().unwrap().tgid),
    };
    events.iter().filter(ours).collect()
}

fn told(task: &Task) -> (u64, u64) {
    (task.contid, task.generation)
}

fn labels(opened: &Opened) -> &Labels {
    opened.labels.as_ref().unwrap()
}

#[test]
fn short_processes_have_the_label_of_whoever_began_them() {
    let Some((_programs, mut opened)) = load(Wanted::default()) else { return };
    let mut shell = Waiting::new("n=0; while [ $n -lt 300 ]; do n=$((n+1)); /bin/true; done");
    assert_eq!(labels(&opened).get(&shell.target).unwrap(), None);
    let label = label(123_456);
    labels(&opened).set(&shell.target, label).unwrap();
    assert_eq!(labels(&opened).get(&shell.target).unwrap(), Some(label));
    drain(&mut opened);
    shell.go();
    let target = shell.end();
    let events = drain(&mut opened);
    let events = of_family(&events, target.tgid());
    // Each forks, runs its program and ends; the shell ends too.
    assert_eq!(events.len(), 3 * 300 + 1);
    for event in events {
        assert_eq!(told(event.task().unwrap()), (123_456, label.generation), "{event:?}");
    }
    for gone in [labels(&opened).get(&target).map(drop), labels(&opened).set(&target, label)] {
        assert_eq!(gone.unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
    assert!(labels(&opened).get(std::fs::File::open("/dev/null").unwrap()).is_err());
    let failures = opened.counters.of(Program::Labels);
    assert_eq!((failures.storage, failures.label, opened.counters.lost()), (0, 0, 0));
}

#[test]
fn who_has_no_label_gives_none() {
    let Some((_programs, mut opened)) = load(Wanted::default()) else { return };
    drain(&mut opened);
    let pid = shell(20);
    let events = drain(&mut opened);
    let events = of_family(&events, std::process::id());
    let ours: Vec<_> = events.iter().filter(|event| event.task().unwrap().parent == pid).collect();
    assert_eq!(ours.len(), 60);
    assert!(ours.iter().all(|event| told(event.task().unwrap()) == (UNSET, 0)));
    // Nobody is given the unset id.
    let shell = Waiting::new("true");
    let refused = labels(&opened).set(&shell.target, label(UNSET)).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    shell.end();
}

/// Forks a child that ends at once, with further flags of clone(2). Its number.
fn clone(flags: libc::c_int) -> u32 {
    // SAFETY: without memory that is shared this is fork(2); the child makes one call and is gone.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: it does not return.
        unsafe { libc::syscall(libc::SYS_exit_group, 0) };
    }
    u32::try_from(pid).unwrap()
}

/// Not a test: what a labelled shell of `threads_and_siblings` becomes.
#[test]
fn role_of_threads() {
    if std::env::var_os("VERITRAIL_LABELLED").is_none() {
        return;
    }
    let child = |_| std::thread::spawn(|| Command::new("/bin/true").status().unwrap());
    let threads: Vec<_> = (0..4).map(child).collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap().success()));
    let say = |number: u32| std::io::stderr().write_all(format!("{number}\n").as_bytes()).unwrap();
    // Not ours but our parent's.
    say(clone(libc::CLONE_PARENT));
    say(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
    BufReader::new(std::io::stdin()).read_line(&mut String::new()).unwrap();
}

#[test]
fn threads_and_siblings() {
    let Some((_programs, mut opened)) = load(Wanted::default()) else { return };
    let exe = std::env::current_exe().unwrap();
    let script = "exec env VERITRAIL_LABELLED=1 \"$@\" 2>&1 >/dev/null";
    let role = [exe.to_str().unwrap(), "--exact", "labels::role_of_threads", "--nocapture"];
    let mut process = Waiting::with(script, &role);
    let label = label(7);
    labels(&opened).set(&process.target, label).unwrap();
    drain(&mut opened);
    process.go();
    let (sibling, thread) = (process.number(), process.number());
    // What another program has become is labelled, and so is a thread of it.
    assert_eq!(labels(&opened).get(&process.target).unwrap(), Some(label));
    let of_thread = Target::open(thread).unwrap();
    assert!(!of_thread.is_leader() && of_thread.tgid() == process.target.tgid());
    // PIDFD_THREAD.
    let flags = PidfdFlags::from_bits_retain(libc::O_EXCL.unsigned_abs());
    match pidfd_open(Pid::from_raw(thread.cast_signed()).unwrap(), flags) {
        Ok(pidfd) => assert_eq!(labels(&opened).get(pidfd).unwrap(), Some(label)),
        Err(error) => eprintln!("skipped: no pidfd of a thread before 6.9 ({error})"),
    }
    process.go();
    let sibling_pid = Pid::from_raw(sibling.cast_signed()).unwrap();
    rustix::process::waitpid(Some(sibling_pid), rustix::process::WaitOptions::empty()).unwrap();
    let target = process.end();
    let events = drain(&mut opened);
    let family = of_family(&events, target.tgid());
    let children = family.iter().filter(|event| matches!(event, Event::Fork(_))).count();
    assert_eq!(children, 4, "{family:#?}");
    let of_sibling: Vec<_> =
        events.iter().filter(|event| event.task().unwrap().tgid == sibling).collect();
    let [Event::Fork(begun), Event::Exit { .. }] = of_sibling[..] else { panic!("{of_sibling:?}") };
    assert_eq!(begun.parent, std::process::id());
    for event in family.into_iter().chain(of_sibling) {
        assert_eq!(told(event.task().unwrap()), (7, label.generation), "{event:?}");
    }
}

#[test]
fn what_is_aborted_is_taken_back_from_all_who_inherited_it() {
    let Some((_programs, mut opened)) = load(Wanted::default()) else { return };
    // A child, which has children, and both live on.
    let script = "sh -c 'sleep 60 & sleep 60' & read go; /bin/true; read go";
    let mut shell = Waiting::new(script);
    let first = Label { contid: 5, old: UNSET, generation: 0 };
    labels(&opened).set(&shell.target, first).unwrap();
    assert_eq!(labels(&opened).get(&shell.target).unwrap(), Some(first));
    let second = Label { contid: 6, old: 5, generation: generation() };
    labels(&opened).set(&shell.target, second).unwrap();
    shell.go();
    let family = || -> Vec<Target> {
        let mut family = vec![Target::open(shell.target.tgid()).unwrap()];
        let mut next = 0;
        while let Some(target) = family.get(next) {
            let children = target.children().unwrap();
            next += 1;
            family.extend(children.into_iter().filter_map(|child| Target::open(child).ok()));
        }
        family
    };
    while family().len() < 4 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let all = family();
    let labels_of = |of: &[Target]| -> Vec<_> {
        of.iter().map(|one| labels(&opened).get(one).unwrap()).collect()
    };
    assert_eq!(labels_of(&all), [Some(second); 4]);
    labels(&opened).abort(second.generation).unwrap();
    assert!(labels(&opened).is_aborted(second.generation).unwrap());
    assert!(!labels(&opened).is_aborted(first.generation).unwrap());
    assert!(labels(&opened).abort(0).is_err());
    let back = Label { contid: 5, old: 5, generation: 0 };
    assert_eq!(labels_of(&all), [Some(back); 4]);
    drain(&mut opened);
    shell.go();
    let events = loop {
        let events = drain(&mut opened);
        if !of_family(&events, shell.target.tgid()).is_empty() {
            break events;
        }
    };
    let tgid = shell.target.tgid();
    shell.kill();
    let ends = drain(&mut opened);
    for event in of_family(&[events, ends].concat(), tgid) {
        assert_eq!(told(event.task().unwrap()), (5, 0), "{event:?}");
    }
}

fn boottime_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}

/// Each process begins between its `start_boottime` and the event's time, and gets its label there.
#[test]
fn forks_meanwhile_have_one_or_the_other() {
    /// When a label was set, and taken back.
    struct Round {
        label: Label,
        set: [u64; 2],
        aborted: [u64; 2],
    }

    let Some((_programs, mut opened)) = load(Wanted::default()) else { return };
    let mut shell = Waiting::new("while :; do (:); done");
    let tgid = shell.target.tgid();
    shell.go();
    let (mut rounds, mut events) = (Vec::new(), Vec::new());
    for round in 0..1000 {
        let label = label(10_000 + round);
        let labels = labels(&opened);
        let set = {
            let from = boottime_ns();
            labels.set(&shell.target, label).unwrap();
            [from, boottime_ns()]
        };
        std::thread::sleep(Duration::from_micros(500 + round * 2));
        let aborted = {
            let from = boottime_ns();
            labels.abort(label.generation).unwrap();
            [from, boottime_ns()]
        };
        std::thread::sleep(Duration::from_micros(1500 - round));
        rounds.push(Round { label, set, aborted });
        opened.reader.read(Duration::ZERO, |event| events.push(event)).unwrap();
    }
    shell.kill();
    events.extend(drain(&mut opened));
    assert_eq!(opened.counters.lost(), 0);
    let by_generation: HashMap<u64, &Round> =
        rounds.iter().map(|round| (round.label.generation, round)).collect();
    let mut begun = HashMap::new();
    let (mut labelled, mut not, mut between) = (0, 0, 0);
    for event in of_family(&events, tgid) {
        let task = event.task().unwrap();
        let of = match by_generation.get(&task.generation) {
            Some(round) => {
                assert_eq!(task.contid, round.label.contid, "{task:?}");
                Some(task.generation)
            }
            None => {
                assert_eq!(told(task), (UNSET, 0), "{task:?}");
                None
            }
        };
        match event {
            Event::Fork(task) => {
                begun.insert((task.tgid, task.start_boottime), of);
                let (from, to) = (task.start_boottime, task.boottime_ns);
                let last = rounds.iter().rposition(|round| round.set[0] < to);
                let Some(last) = last else { continue };
                let round = &rounds[last];
                if from > round.set[1] && to < round.aborted[0] {
                    assert_eq!(of, Some(round.label.generation), "{task:?}");
                    labelled += 1;
                } else if from > round.aborted[1] {
                    assert_eq!(of, None, "{task:?}");
                    not += 1;
                } else {
                    between += 1;
                }
            }
            // It ends with what it began with, or that was taken back.
            Event::Exit { task, .. } => {
                if let Some(begun) = begun.get(&(task.tgid, task.start_boottime)) {
                    assert!(of.is_none() || of == *begun, "{task:?}: {begun:?}");
                }
            }
            _ => {}
        }
    }
    println!(
        "{labelled} forks with a label, {not} without, {between} while one was set or aborted"
    );
    assert!(labelled > 50 && not > 50);
}

#[test]
fn labels_are_read_and_set_at_another_end_without_rights() {
    let Some((programs, opened)) = load(Wanted::default()) else { return };
    drop(opened);
    let (here, there) = Channel::pair().unwrap();
    let shared = programs.share().unwrap().unwrap();
    let (bytes, fds) = shared.to_message();
    here.send(&bytes, &fds).unwrap();
    let mut buf = [0; 64];
    let Received::Message { len, mut fds } = there.recv(&mut buf, None).unwrap() else { panic!() };
    let other: OwnedFd = fds[0].try_clone().unwrap();
    let opened = host::bpf::Shared::from_message(&buf[..len], fds.split_off(0)).unwrap();
    let labels = opened.open().unwrap().labels.unwrap();
    let shell = Waiting::new("true");
    // The rights of a thread are its own.
    let without = std::thread::scope(|scope| {
        let tried = scope.spawn(|| {
            let mut rights = rustix::thread::capabilities(None).unwrap();
            rights.effective = CapabilitySet::empty();
            rustix::thread::set_capabilities(None, rights).unwrap();
            let label = label(9);
            labels.set(&shell.target, label)?;
            assert_eq!(labels.get(&shell.target)?, Some(label));
            labels.abort(label.generation)?;
            labels.get(&shell.target)
        });
        tried.join().unwrap()
    });
    match without {
        Ok(label) => assert_eq!(label, None),
        Err(error) => eprintln!("skipped: before 5.19 it takes CAP_BPF ({error})"),
    }
    drop(shell.end());
    // Maps of another form.
    let (bytes, fds) = shared.to_message();
    let mut fds: Vec<OwnedFd> = fds.iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    let last = fds.len() - 1;
    fds[last] = other;
    assert!(host::bpf::Shared::from_message(&bytes, fds).is_err());
}

/// Prints what a fork costs with a label and without; the best of some batches, as interrupts are in the
/// time of a run.
#[test]
fn the_cost_of_a_label_is_counted() {
    let wanted = Wanted { statistics: true, ..Wanted::default() };
    let Some((_programs, mut opened)) = load(wanted) else { return };
    for contid in [None, Some(4)] {
        let mut best: HashMap<Program, u64> = HashMap::new();
        for _ in 0..20 {
            let mut shell = Waiting::new("n=0; while [ $n -lt 100 ]; do n=$((n+1)); (:); done");
            if let Some(contid) = contid {
                labels(&opened).set(&shell.target, label(contid)).unwrap();
            }
            let of = [Program::Labels, Program::Fork, Program::Exit];
            let before = of.map(|program| opened.statistics(program).unwrap());
            shell.go();
            shell.end();
            for (program, before) in of.into_iter().zip(before) {
                let after = opened.statistics(program).unwrap();
                let each = (after.run_time_ns - before.run_time_ns) / (after.runs - before.runs);
                let best = best.entry(program).or_insert(u64::MAX);
                *best = each.min(*best);
            }
            drain(&mut opened);
        }
        let [inherit, fork, exit] =
            [Program::Labels, Program::Fork, Program::Exit].map(|p| best[&p]);
        println!(
            "contid {contid:?}: to inherit {inherit} ns, to tell fork {fork} and exit {exit} ns"
        );
    }
}
