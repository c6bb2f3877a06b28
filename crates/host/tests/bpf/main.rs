//! The BPF programs in the kernel that runs these tests. Needs root; what cannot run says so.

#![allow(clippy::unwrap_used)] // Also in the functions that the tests share.
#![allow(unsafe_code, reason = "adjtimex(2)")]

mod labels;
mod pins;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use host::bpf::{Asked, Event, Opened, Program, Programs, Report, Wanted};
use host::channel::{Channel, Received};

/// The programs that every host takes.
const PROCESSES: [Program; 3] = [Program::Fork, Program::Exec, Program::Exit];

fn processes() -> Wanted {
    Wanted { programs: PROCESSES.to_vec(), ..Wanted::default() }
}

/// The programs, and what reads them; none where they cannot be had, which is said.
fn load(wanted: &Wanted) -> Option<(Programs, Report, Opened)> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: BPF programs are loaded by root");
        return None;
    }
    let (programs, report) = Programs::load(wanted);
    for (program, why) in report.missing() {
        eprintln!("{} is missing: {why}", program.word());
    }
    if report.missing().any(|(program, _)| PROCESSES.contains(&program)) {
        eprintln!("skipped: this kernel, or this container, refuses programs");
        return None;
    }
    let opened = programs.share().unwrap().unwrap().open().unwrap();
    Some((programs, report, opened))
}

/// A shell that makes that many processes, each of which runs true(1), and its number.
fn shell(processes: u32) -> u32 {
    let script = format!("n=0; while [ $n -lt {processes} ]; do n=$((n+1)); /bin/true; done");
    let mut shell =
        Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap();
    let pid = shell.id();
    assert!(shell.wait().unwrap().success());
    pid
}

/// Everything that waits.
fn drain(opened: &mut Opened) -> Vec<Event> {
    let mut events = Vec::new();
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        let read =
            opened.reader.read(Duration::from_millis(50), |event| events.push(event)).unwrap();
        assert_eq!((read.unknown, read.short), (0, 0));
        if read.events == 0 {
            return events;
        }
    }
    panic!("the ring never becomes empty");
}

#[test]
fn every_process_is_told_once() {
    let Some((_programs, report, mut opened)) = load(&Wanted::default()) else { return };
    assert_eq!(opened.programs(), report.attached().collect::<Vec<_>>());
    drain(&mut opened);
    let pid = shell(500);
    let events = drain(&mut opened);
    let ours =
        |event: &&Event| event.task().unwrap().tgid == pid || event.task().unwrap().parent == pid;
    let (mut forks, mut execs, mut exits) = (0, 0, 0);
    let mut shell_start = None;
    for event in events.iter().filter(ours) {
        let task = event.task().unwrap();
        assert!(task.boottime_ns >= task.start_boottime);
        match event {
            Event::Fork(task) if task.tgid == pid => {
                shell_start = Some(task.start_boottime);
                assert_eq!(task.parent, std::process::id());
            }
            Event::Fork(task) => {
                assert_eq!(Some(task.parent_start), shell_start);
                forks += 1;
            }
            Event::Exec { task, filename } if task.tgid == pid => assert_eq!(filename, b"/bin/sh"),
            Event::Exec { task, filename } => {
                assert_eq!(
                    (filename.as_slice(), task.comm.as_slice()),
                    (&b"/bin/true"[..], &b"true"[..])
                );
                execs += 1;
            }
            Event::Exit { task, code } => {
                assert_eq!(*code, 0);
                exits += u32::from(task.tgid != pid);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((forks, execs, exits), (500, 500, 500));
    assert_eq!(opened.counters.lost(), 0);
}

#[test]
fn what_finds_no_room_is_counted_exactly() {
    let wanted = Wanted { ring_bytes: 4096, statistics: true, ..processes() };
    let Some((programs, report, mut opened)) = load(&wanted) else { return };
    assert_eq!(report.no_statistics, None);
    shell(300);
    // Nothing runs any more, so that both sides can be compared.
    drop(programs);
    let told = drain(&mut opened);
    let of = |program| {
        let count = |event: &&Event| match event {
            Event::Fork(_) => program == Program::Fork,
            Event::Exec { .. } => program == Program::Exec,
            Event::Exit { .. } => program == Program::Exit,
            _ => false,
        };
        told.iter().filter(count).count() as u64
    };
    // Every run of these two tells an event or has it counted.
    let exec = opened.statistics(Program::Exec).unwrap();
    let lost = opened.counters.of(Program::Exec);
    assert_eq!(exec.runs, of(Program::Exec) + lost.reserve);
    assert!(lost.reserve > 200, "{lost:?}");
    assert!(opened.counters.lost() >= lost.lost());
    assert_eq!((lost.storage, lost.read, exec.missed), (0, 0, 0));
}

#[test]
fn other_namespaces_are_told_where_the_kernel_lets_us() {
    let Some((_programs, report, mut opened)) = load(&Wanted::default()) else { return };
    if !report.attached().any(|program| program == Program::Namespaces) {
        eprintln!("skipped: this kernel lets no program at its functions");
        return;
    }
    drain(&mut opened);
    let mut unshare = Command::new("unshare").args(["--net", "/bin/true"]).spawn().unwrap();
    let pid = unshare.id();
    assert!(unshare.wait().unwrap().success());
    let events = drain(&mut opened);
    let ours = || events.iter().filter(|event| event.task().unwrap().tgid == pid);
    let before =
        ours().find(|event| matches!(event, Event::Fork(_))).unwrap().task().unwrap().net_ns;
    let told = ours().find_map(|event| match event {
        Event::Namespaces { task, how: host::bpf::Entered::Unshare } => Some(task.net_ns),
        _ => None,
    });
    let after =
        ours().rfind(|event| matches!(event, Event::Exec { .. })).unwrap().task().unwrap().net_ns;
    assert_eq!(told, Some(after));
    assert_ne!(before, after);
}

/// Directories of a hierarchy, one in the other, taken away again.
struct Groups(Vec<PathBuf>);

impl Groups {
    fn nest(root: &Path, names: &[String]) -> std::io::Result<Groups> {
        let mut groups = Groups(Vec::new());
        for name in names {
            let above = groups.0.last().map_or(root, PathBuf::as_path);
            let next = above.join(name);
            fs::create_dir(&next)?;
            groups.0.push(next);
        }
        Ok(groups)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in self.0.iter().rev() {
            let _ = fs::remove_dir(group);
        }
    }
}

/// Whoever may make groups chooses how long their paths are.
#[test]
fn a_group_with_the_longest_path_is_told_whole() {
    let wanted = Wanted { programs: vec![Program::Groups], ..Wanted::default() };
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: BPF programs are loaded by root");
        return;
    }
    let (programs, report) = Programs::load(&wanted);
    if report.missing().next().is_some() {
        eprintln!("skipped: this kernel, or this container, refuses programs");
        return;
    }
    let mut opened = programs.share().unwrap().unwrap().open().unwrap();
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let Some(root) = roots.into_iter().find(|at| at.join("cgroup.controllers").exists()) else {
        eprintln!("skipped: there is no unified hierarchy");
        return;
    };
    // Each with its slash: 1,023 bytes. A name is at most 255.
    let name = |length: usize, of: &str| format!("{of}{}", "x".repeat(length - of.len()));
    let first = format!("vt-{}-", std::process::id());
    let names = [name(250, &first), name(250, ""), name(250, ""), name(250, ""), name(18, "")];
    let groups = match Groups::nest(root, &names) {
        Ok(groups) => groups,
        Err(error) => {
            eprintln!("skipped: no control group can be made: {error}");
            return;
        }
    };
    let mut sleep = Command::new("sleep").arg("60").spawn().unwrap();
    drain(&mut opened);
    for group in &groups.0 {
        fs::write(group.join("cgroup.procs"), sleep.id().to_string()).unwrap();
    }
    let events = drain(&mut opened);
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    let told: Vec<&[u8]> = events
        .iter()
        .filter_map(|event| match event {
            Event::Group { task, hierarchy: 0, path } if task.tgid == sleep.id() => Some(&path[..]),
            _ => None,
        })
        .collect();
    let path = format!("/{}", names.join("/"));
    assert_eq!(path.len(), 1023);
    let ends = [251, 502, 753, 1004, 1023];
    assert_eq!(told, ends.map(|end| &path.as_bytes()[..end]));
}

#[test]
fn another_end_reads_what_this_one_loaded() {
    let Some((programs, _, opened)) = load(&processes()) else { return };
    drop(opened);
    let (here, there) = Channel::pair().unwrap();
    let shared = programs.share().unwrap().unwrap();
    let (bytes, fds) = shared.to_message();
    here.send(&bytes, &fds).unwrap();
    let mut buf = [0; 64];
    let Received::Message { len, fds } = there.recv(&mut buf, None).unwrap() else { panic!() };
    let mut opened = host::bpf::Shared::from_message(&buf[..len], fds).unwrap().open().unwrap();
    let pid = shell(3);
    // A second reader goes on where the first one ended.
    let first = drain(&mut opened);
    assert!(first.iter().any(|event| event.task().unwrap().tgid == pid));
    drop(opened);
    let pid = shell(3);
    let mut opened = programs.share().unwrap().unwrap().open().unwrap();
    let next = drain(&mut opened);
    assert!(next.iter().any(|event| event.task().unwrap().tgid == pid));
    assert!(next.iter().all(|event| !first.contains(event)));
}

/// Interrupts and other guests of the machine are in the time of a run: the best of some batches is
/// what the program itself costs.
#[test]
fn the_cost_of_a_fork_is_counted() {
    let wanted = Wanted { statistics: true, ..processes() };
    let Some((_programs, _, mut opened)) = load(&wanted) else { return };
    let programs = [Program::Fork, Program::Exec, Program::Exit];
    let mut batches: [Vec<u64>; 3] = Default::default();
    for _ in 0..40 {
        let before = programs.map(|program| opened.statistics(program).unwrap());
        shell(40);
        drain(&mut opened);
        for ((program, before), batch) in programs.iter().zip(before).zip(&mut batches) {
            let after = opened.statistics(*program).unwrap();
            let runs = after.runs - before.runs;
            assert!(runs >= 40);
            batch.push((after.run_time_ns - before.run_time_ns) / runs);
        }
    }
    for (program, batch) in programs.iter().zip(&mut batches) {
        batch.sort_unstable();
        eprintln!("{}: {} ns a run, median {}", program.word(), batch[0], batch[batch.len() / 2]);
    }
    println!("a fork costs {} ns at best", batches[0][0]);
}

#[test]
fn descriptors_of_something_else_are_refused() {
    let file = || fs::File::open("/dev/null").unwrap().into();
    assert!(host::bpf::Shared::from_message(&[1], vec![file(), file()]).is_err());
    assert!(host::bpf::Shared::from_message(&[99], vec![file(), file(), file()]).is_err());
    let shared = host::bpf::Shared::from_message(&[], vec![file(), file()]).unwrap();
    assert!(shared.open().is_err());
}

/// Has adjtimex(2) set the frequency: a call of its own, not the C library's way to another.
fn steer(call: libc::c_long, freq: i64) -> bool {
    // SAFETY: a struct of numbers, for which all zeros is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    timex.modes = libc::ADJ_FREQUENCY;
    timex.freq = freq;
    if call == libc::SYS_clock_adjtime {
        // SAFETY: the struct lives as long as the call.
        return unsafe { libc::syscall(call, libc::CLOCK_REALTIME, &raw mut timex) >= 0 };
    }
    // SAFETY: as above.
    unsafe { libc::syscall(call, &raw mut timex) >= 0 }
}

/// The least change there is, and back: this machine's clock is nothing to play with.
#[test]
fn a_call_that_steers_the_clock_is_told_with_what_it_was_given() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: BPF programs are loaded by root");
        return;
    }
    let programs = vec![Program::Clock, Program::ClockValues, Program::ClockCalls];
    let (programs, report) = Programs::load(&Wanted { programs, ..Wanted::default() });
    let attached: Vec<_> = report.attached().collect();
    for (program, why) in report.missing() {
        eprintln!("{} is missing: {why}", program.word());
    }
    let Some(shared) = programs.share().unwrap() else {
        eprintln!(
            "skipped: neither the functions nor the system calls of the clock can be watched"
        );
        return;
    };
    assert!(attached.contains(&Program::Clock) != attached.contains(&Program::ClockCalls));
    let mut opened = shared.open().unwrap();
    let freq = host::clock::timex().unwrap().freq;
    if !steer(libc::SYS_adjtimex, freq) {
        eprintln!("skipped: the clock cannot be steered here");
        return;
    }
    drain(&mut opened);
    let before = host::clock::distance();
    assert!(steer(libc::SYS_adjtimex, freq + 1) && steer(libc::SYS_clock_adjtime, freq));
    // What only reads is not told.
    host::clock::timex().unwrap();
    let events = drain(&mut opened);
    let ours: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Clock(call) if call.task.tgid == std::process::id() => Some(call),
            _ => None,
        })
        .collect();
    let [there, back] = &ours[..] else { panic!("{events:?}") };
    assert_eq!((there.number, back.number), (Some(159), Some(305)));
    for (call, wanted) in [(there, freq + 1), (back, freq)] {
        let Asked::Adjust { modes, given, left, values } = &call.asked else { panic!("{call:?}") };
        assert_eq!((*modes, given.freq, left.freq), (2, wanted, wanted));
        assert_eq!(left.tick, host::clock::timex().unwrap().tick);
        if attached.contains(&Program::ClockValues) {
            assert_eq!(values.unwrap()[1].1, wanted * 65_536_000);
        }
        assert!(!call.kernel && !call.compat && call.caller.comm.len() <= 15, "{call:?}");
        assert!(call.entry.boottime_ns >= before.boottime_ns);
        assert!(call.exit.boottime_ns >= call.entry.boottime_ns);
        let [entry, exit] = [call.entry, call.exit].map(|moment| moment.tai_offset_ns);
        let moved = entry.zip(exit).map(|(entry, exit)| (exit - entry).unsigned_abs());
        let apart = u128::from(call.entry.apart_ns + call.exit.apart_ns + 50);
        assert!(moved.is_none_or(|moved| moved <= apart), "{call:?}");
    }
    assert_eq!(opened.counters.lost(), 0);
}
