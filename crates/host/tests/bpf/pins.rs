//! Labels that stay while nobody has the programs loaded.

use std::path::{Path, PathBuf};

use host::bpf::{Label, Opened, Pins, Program, Programs, UNSET, Wanted, unpin};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::drain;
use crate::labels::{Waiting, label, of_family};

/// A bpffs of our own.
struct Bpffs(tempfile::TempDir);

impl Bpffs {
    fn mount() -> Option<Bpffs> {
        let folder = tempfile::tempdir().unwrap();
        match mount("bpf", folder.path(), "bpf", MountFlags::empty(), None) {
            Ok(()) => Some(Bpffs(folder)),
            Err(error) => {
                eprintln!("skipped: bpffs cannot be mounted: {error}");
                None
            }
        }
    }

    fn pins(&self) -> PathBuf {
        self.0.path().join("veritrail")
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = unpin(&self.pins());
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

fn load(pins: &Path) -> Option<(Programs, Opened, Pins)> {
    let programs = [Program::Labels, Program::Fork, Program::Exit].to_vec();
    let wanted = Wanted { programs, pins: Some(pins.to_owned()), ..Wanted::default() };
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: BPF programs are loaded by root");
        return None;
    }
    let (programs, report) = Programs::load(&wanted);
    if let Some((program, why)) = report.missing().next() {
        eprintln!("skipped: {} is missing: {why}", program.word());
        return None;
    }
    let opened = programs.share().unwrap().unwrap().open().unwrap();
    Some((programs, opened, report.pins))
}

fn get(opened: &Opened, of: &host::target::Target) -> Option<Label> {
    opened.labels.as_ref().unwrap().get(of).unwrap()
}

fn child_of(shell: &Waiting) -> host::target::Target {
    loop {
        if let [child] = shell.target.children().unwrap()[..] {
            return host::target::Target::open(child).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn labels_stay_and_are_inherited_while_nothing_is_loaded() {
    let Some(bpffs) = Bpffs::mount() else { return };
    let Some((programs, opened, pins)) = load(&bpffs.pins()) else { return };
    assert_eq!(pins, Pins::New);
    let mut shell = Waiting::new("sleep 60 & read go; kill $!; wait; sleep 60 & read go; kill $!");
    let label = label(11);
    opened.labels.as_ref().unwrap().set(&shell.target, label).unwrap();
    drop((programs, opened));
    shell.go();
    let child = child_of(&shell);
    let Some((programs, opened, pins)) = load(&bpffs.pins()) else { return };
    assert_eq!(pins, Pins::Adopted);
    assert_eq!([&shell.target, &child].map(|of| get(&opened, of)), [Some(label); 2]);
    // Without the pins it ends with whoever holds the programs.
    assert!(unpin(&bpffs.pins()).unwrap());
    assert!(!unpin(&bpffs.pins()).unwrap() && !bpffs.pins().exists());
    drop(programs);
    // The kernel lets go of a link a moment after its last descriptor.
    std::thread::sleep(std::time::Duration::from_millis(200));
    shell.go();
    while child.is_alive().unwrap() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let child = child_of(&shell);
    assert_eq!([&shell.target, &child].map(|of| get(&opened, of)), [Some(label), None]);
    shell.kill();
}

#[test]
fn no_fork_falls_between_two_programs() {
    let Some(bpffs) = Bpffs::mount() else { return };
    let mut shell = Waiting::new("while :; do (:); done");
    let Some((mut programs, opened, _)) = load(&bpffs.pins()) else { return };
    opened.labels.as_ref().unwrap().set(&shell.target, label(12)).unwrap();
    shell.go();
    drop(opened);
    let mut told = 0;
    for round in 0..6 {
        if round % 2 == 0 {
            // A doorkeeper that was killed, or one that is still there.
            drop(std::mem::take(&mut programs));
        }
        let Some((next, mut opened, pins)) = load(&bpffs.pins()) else { panic!() };
        assert_eq!(pins, Pins::Adopted);
        std::thread::sleep(std::time::Duration::from_millis(50));
        programs = next;
        let events = drain_some(&mut opened);
        let family = of_family(&events, shell.target.tgid());
        assert!(family.iter().all(|event| event.task().unwrap().contid == 12));
        told += family.len();
    }
    println!("{told} events of labelled processes while programs took turns");
    assert!(told > 50);
    shell.kill();
}

/// What is there; the loop never ends by itself.
fn drain_some(opened: &mut Opened) -> Vec<host::bpf::Event> {
    let mut events = Vec::new();
    opened.reader.read(std::time::Duration::ZERO, |event| events.push(event)).unwrap();
    events
}

#[test]
fn pins_of_another_form_are_replaced() {
    let Some(bpffs) = Bpffs::mount() else { return };
    let Some((programs, opened, _)) = load(&bpffs.pins()) else { return };
    drop((programs, opened));
    let other = bpffs.pins().join("aborted");
    std::fs::remove_file(&other).unwrap();
    let size = size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>();
    let options =
        libbpf_rs::libbpf_sys::bpf_map_create_opts { sz: size as u64, ..Default::default() };
    let map = MapHandle::create(MapType::Hash, Some("aborted"), 4, 4, 1, &options);
    map.unwrap().pin(&other).unwrap();
    // Left by one that was killed.
    std::fs::rename(bpffs.pins().join("inherit"), bpffs.pins().join("inherit-new")).unwrap();
    let Some((_programs, _, pins)) = load(&bpffs.pins()) else { return };
    assert_eq!(pins, Pins::Replaced("aborted was of another form".into()));
    assert!(!bpffs.pins().join("inherit-new").exists());
    std::fs::remove_file(bpffs.pins().join("unstored")).unwrap();
    let Some((_programs, _, pins)) = load(&bpffs.pins()) else { return };
    assert_eq!(pins, Pins::Replaced("some were missing".into()));
    let Some((_programs, _, pins)) = load(&bpffs.pins()) else { return };
    assert_eq!(pins, Pins::Adopted);
}

#[test]
fn without_bpffs_labels_are_there_but_do_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let Some((_programs, opened, pins)) = load(&folder.path().join("veritrail")) else { return };
    assert_eq!(pins, Pins::Missing(format!("{} is no bpffs", folder.path().display())));
    assert!(opened.labels.is_some());
}

/// Memory that is short cannot be had for a test: the entry is ours.
#[test]
fn a_label_that_found_no_memory_is_kept_elsewhere() {
    let Some(bpffs) = Bpffs::mount() else { return };
    let Some((_programs, mut opened, _)) = load(&bpffs.pins()) else { return };
    drain(&mut opened);
    let mut shell = Waiting::new("/bin/true; true");
    let tgid = shell.target.tgid();
    let events = drain(&mut opened);
    let began = events.iter().find(|event| event.task().unwrap().tgid == tgid).unwrap();
    let start = began.task().unwrap().start_boottime;
    let open = |name| MapHandle::from_pinned_path(bpffs.pins().join(name)).unwrap();
    let entry = |start| {
        let words: [u64; 4] = [13, UNSET, 0, start];
        zerocopy::IntoBytes::as_bytes(&words).to_vec()
    };
    let (unstored, ever) = (open("unstored"), open("unstored_ever"));
    let key: [u8; 4] = zerocopy::transmute!(tgid);
    let one: [u8; 8] = zerocopy::transmute!(1_u64);
    ever.update(&[0; 4], &one, MapFlags::ANY).unwrap();
    // Another process that had the number before.
    unstored.update(&key, &entry(start - 1_000_000_000), MapFlags::ANY).unwrap();
    assert_eq!(get(&opened, &shell.target), None);
    unstored.update(&key, &entry(start), MapFlags::ANY).unwrap();
    assert_eq!(get(&opened, &shell.target).unwrap().contid, 13);
    shell.go();
    shell.end();
    let events = drain(&mut opened);
    let family = of_family(&events, tgid);
    assert!(family.len() >= 3);
    assert!(family.iter().all(|event| event.task().unwrap().contid == 13), "{family:#?}");
}
