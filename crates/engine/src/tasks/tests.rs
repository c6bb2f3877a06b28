use super::*;

const SECOND: u64 = 1_000_000_000;

fn id(pid: u32, start_ns: u64) -> ProcessId {
    ProcessId { pid, start_ns }
}

fn image(comm: &str) -> Image {
    let mut image = Image::default();
    image.comm[..comm.len()].copy_from_slice(comm.as_bytes());
    image
}

fn seen(at_ns: u64, id: ProcessId, comm: &str) -> Sighting {
    Sighting {
        at_ns,
        id,
        parent: ProcessId { pid: 1, start_ns: 0 },
        image: image(comm),
        label: None,
    }
}

fn table() -> Tasks {
    Tasks::new(100, 5 * SECOND)
}

/// The word for an answer, and the process's name.
fn said(tasks: &Tasks, pid: u32, at_ns: u64) -> String {
    let (word, image) = match tasks.who(pid, at_ns) {
        Who::Certain(_, _, image) => ("certain", image),
        Who::Late(_, _, image) => ("late", image),
        Who::NotYet => return "not yet".into(),
        Who::Unknown => return "unknown".into(),
    };
    format!("{word} {}", String::from_utf8_lossy(image.name()))
}

#[test]
fn a_process_is_what_it_was_at_the_time_asked_about() {
    let mut tasks = table();
    let sh = id(10, 100);
    tasks.handle(Change::Fork, seen(101, sh, "sh"));
    tasks.handle(Change::Exec(b"/bin/ls".to_vec()), seen(200, sh, "ls"));
    assert_eq!(said(&tasks, 10, 150), "not yet");
    tasks.handle_heard(1000);
    assert_eq!(said(&tasks, 10, 99), "unknown");
    assert_eq!(said(&tasks, 10, 100), "certain sh");
    assert_eq!(said(&tasks, 10, 199), "certain sh");
    assert_eq!(said(&tasks, 10, 200), "certain ls");
    assert_eq!(said(&tasks, 11, 200), "unknown");
    tasks.handle(Change::Exec(b"x".to_vec()), seen(300, sh, "x"));
    assert_eq!(said(&tasks, 10, 150), "late ls", "two are kept");
    let Who::Certain(of, _, image) = tasks.who(10, 400) else { panic!() };
    assert_eq!((of, image.program.as_deref()), (sh, Some(&b"x"[..])));
}

#[test]
fn a_child_runs_the_program_of_its_parent() {
    let mut tasks = table();
    let parent = id(10, 100);
    tasks.handle(Change::Exec(b"/bin/sh".to_vec()), seen(100, parent, "sh"));
    let child = Sighting { parent, ..seen(200, id(11, 200), "sh") };
    tasks.handle(Change::Fork, child);
    let (process, image) = tasks.process(id(11, 200)).unwrap();
    assert_eq!((process.parent, image.program.as_deref()), (parent, Some(&b"/bin/sh"[..])));
}

#[test]
fn a_number_that_is_used_again_is_another_process() {
    let mut tasks = table();
    for (start, name) in [(100, "a"), (300, "b"), (500, "c")] {
        tasks.handle(Change::Fork, seen(start, id(10, start), name));
        tasks.handle(Change::Exit, seen(start + 100, id(10, start), name));
    }
    tasks.handle_heard(1000);
    for (at, expected) in [
        (99, "unknown"),
        (100, "certain a"),
        (200, "certain a"),
        (250, "late a"),
        (300, "certain b"),
        (450, "late b"),
        (599, "certain c"),
        (601, "late c"),
    ] {
        assert_eq!(said(&tasks, 10, at), expected, "at {at}");
    }
}

#[test]
fn nobody_is_named_across_a_loss_before_it_is_seen_again() {
    let mut tasks = table();
    let first = id(10, 100);
    tasks.handle(Change::Fork, seen(100, first, "a"));
    tasks.handle_lost(200, 300);
    tasks.handle_heard(1000);
    assert_eq!(said(&tasks, 10, 150), "certain a");
    assert_eq!(said(&tasks, 10, 250), "unknown");
    assert_eq!(said(&tasks, 10, 900), "unknown", "it may have ended, and another one come");
    // It was another one: whose beginning was lost is known from when it began.
    let mut reused = table();
    reused.handle(Change::Fork, seen(100, first, "a"));
    reused.handle_lost(200, 300);
    reused.handle(Change::Exec(b"b".to_vec()), seen(400, id(10, 250), "b"));
    reused.handle_heard(1000);
    assert_eq!(said(&reused, 10, 220), "unknown");
    assert_eq!(said(&reused, 10, 260), "late b", "its name then is not known");
    assert_eq!(said(&reused, 10, 400), "certain b");
    // It was the same one.
    tasks.handle(Change::Exit, seen(500, first, "a"));
    assert_eq!(said(&tasks, 10, 250), "late a");
}

#[test]
fn a_listed_process_becomes_the_one_that_events_tell_of() {
    let mut tasks = table();
    let start = 7 * TICK_NS;
    tasks.handle_listed(seen(SECOND, id(10, start), "sh"));
    tasks.handle_heard(2 * SECOND);
    assert_eq!(said(&tasks, 10, start + 5), "unknown", "another one may have had it");
    assert_eq!(said(&tasks, 10, start + TICK_NS), "late sh");
    assert_eq!(said(&tasks, 10, SECOND), "certain sh");
    tasks.handle(Change::Exec(b"ls".to_vec()), seen(SECOND + 1, id(10, start + 5), "ls"));
    assert_eq!(tasks.len(), 1);
    assert_eq!(said(&tasks, 10, start + 5), "late sh");
    assert_eq!(said(&tasks, 10, SECOND + 1), "certain ls");
    // Listed again, it is what events told; after a loss, what is listed.
    tasks.handle_listed(seen(SECOND + 2, id(10, start), "old"));
    assert_eq!(said(&tasks, 10, SECOND + 2), "certain ls");
    tasks.handle_lost(SECOND + 3, SECOND + 4);
    assert_eq!(said(&tasks, 10, SECOND + 9), "unknown");
    tasks.handle_listed(seen(SECOND + 8, id(10, start), "new"));
    assert_eq!(said(&tasks, 10, SECOND + 9), "certain new");
    assert_eq!(tasks.len(), 1);
}

#[test]
fn the_dead_are_forgotten_in_time_and_before_the_living() {
    let mut tasks = Tasks::new(3, SECOND);
    for pid in 1..=3 {
        tasks.handle(Change::Fork, seen(pid.into(), id(pid, pid.into()), "p"));
    }
    tasks.handle(Change::Fork, seen(4, id(4, 4), "p"));
    assert_eq!(tasks.counts(), Counts { turned_away: 1, ..Counts::default() });
    tasks.handle(Change::Exit, seen(5, id(2, 2), "p"));
    tasks.handle(Change::Fork, seen(6, id(5, 6), "p"));
    assert_eq!(tasks.counts(), Counts { forgotten_early: 1, turned_away: 1, ..Counts::default() });
    tasks.handle_heard(6);
    assert_eq!((said(&tasks, 2, 6), said(&tasks, 5, 6)), ("unknown".into(), "certain p".into()));
    tasks.handle(Change::Exit, seen(7, id(5, 6), "p"));
    tasks.handle_heard(SECOND);
    assert_eq!(tasks.len(), 3);
    tasks.handle_heard(SECOND + 8);
    assert_eq!(tasks.len(), 2);
}

#[test]
fn a_full_table_does_not_name_the_old_owner_of_a_number() {
    let mut tasks = Tasks::new(1, SECOND);
    tasks.handle(Change::Fork, seen(1, id(9, 1), "old"));
    // Its end was not heard.
    tasks.handle(Change::Fork, seen(50, id(9, 50), "new"));
    tasks.handle_heard(100);
    assert_eq!(said(&tasks, 9, 60), "certain new");
    assert_eq!(said(&tasks, 9, 10), "unknown");
}

#[test]
fn losses_without_end_take_no_room() {
    let mut tasks = table();
    tasks.handle(Change::Fork, seen(5, id(10, 5), "a"));
    for n in 1..10_000 {
        tasks.handle_lost(n * 100, n * 100 + 1);
    }
    tasks.handle_heard(10_000_000);
    assert!(tasks.losses.len() <= LOSSES);
    assert_eq!(said(&tasks, 10, 50), "certain a");
    assert_eq!(said(&tasks, 10, 150), "unknown", "the oldest became one");
}

#[test]
fn twenty_thousand_processes_fit_a_few_megabytes() {
    let mut tasks = Tasks::new(20_000, SECOND);
    for pid in 0..30_000 {
        let of = id(pid, u64::from(pid) + 1);
        tasks.handle(Change::Fork, seen(of.start_ns, of, "p"));
        tasks.handle(Change::Exec(b"/usr/bin/something".to_vec()), seen(of.start_ns, of, "q"));
    }
    assert_eq!((tasks.len(), tasks.counts().turned_away), (20_000, 20_000));
    let each = size_of::<(ProcessId, Process)>() + size_of::<(u64, Image)>() + 64;
    // Nodes of the tree are at least half full.
    assert!(2 * each * tasks.len() < 20 << 20, "{each} bytes");
}

#[test]
fn a_label_is_of_its_time_and_inherited() {
    let at = |tasks: &Tasks, pid, at| tasks.holders(pid, at, at).next().unwrap().0.contid(at);
    let label = |contid, generation| Label { contid: ContId(contid), generation };
    let mut tasks = table();
    let parent = id(10, 101);
    // Told before its beginning was.
    tasks.handle_labelled(parent, 150, label(7, 150));
    tasks.handle(Change::Fork, Sighting { label: Some(Label::UNSET), ..seen(102, parent, "sh") });
    let child = Sighting { label: Some(label(7, 150)), ..seen(201, id(11, 201), "sh") };
    tasks.handle(Change::Fork, child);
    assert_eq!(at(&tasks, 10, 149), Some((ContId::UNSET, true)));
    assert_eq!(at(&tasks, 10, 150), Some((ContId(7), true)));
    assert_eq!(at(&tasks, 11, 300), Some((ContId(7), true)));
    // What was before the set changes nothing that comes after it.
    let late = Sighting { label: Some(Label::UNSET), ..seen(140, parent, "sh") };
    tasks.handle(Change::Exec(b"x".to_vec()), late);
    assert_eq!(at(&tasks, 10, 150), Some((ContId(7), true)));
    tasks.handle_aborted(150, ContId(3));
    let grandchild = Sighting { label: Some(label(7, 150)), ..seen(401, id(12, 401), "sh") };
    tasks.handle(Change::Fork, grandchild);
    for pid in [10, 11, 12] {
        assert_eq!(at(&tasks, pid, 500), Some((ContId(3), true)));
    }
    tasks.handle_listed(seen(600, id(13, TICK_NS * 2), "daemon"));
    assert_eq!(tasks.process(id(13, TICK_NS * 2)).unwrap().0.contid(700), None);
    for generation in 1000..5000 {
        tasks.handle_aborted(generation, ContId(3));
    }
    assert!(tasks.counts().sets_forgotten > 2000);
}
