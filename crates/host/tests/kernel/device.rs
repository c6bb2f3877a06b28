//! Files and loop devices.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use host::device::{Identity, backing_of_loop, identity};
use host::loop_device::{Options, attach, backing_inode};
use host::mount::lies_on;

use crate::files::Loop;
use crate::serving::runs;

#[test]
fn a_file_is_known_by_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    fs::write(&one, "").unwrap();
    fs::write(&other, "").unwrap();
    fs::hard_link(&one, folder.path().join("link")).unwrap();
    let of = |name: &str| identity(File::open(folder.path().join(name)).unwrap()).unwrap();
    assert_eq!(of("one"), of("link"));
    assert_ne!(of("one"), of("other"));
    let stat = fs::metadata(&one).unwrap();
    let device = (rustix::fs::major(stat.dev()), rustix::fs::minor(stat.dev()));
    assert_eq!(of("one"), Identity::File { device, inode: stat.ino() });
    assert_eq!(backing_of_loop(device).unwrap(), None);
    assert!(lies_on(&File::open(&other).unwrap(), device).unwrap());
    assert!(!lies_on(&File::open("/proc/self/status").unwrap(), device).unwrap());
}

#[test]
fn a_loop_device_names_its_file() {
    if !runs("a_loop_device_names_its_file", &["losetup"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file");
    fs::write(&file, vec![0; 1 << 20]).unwrap();
    let Some(device) = Loop::over("a_loop_device_names_its_file", &file) else { return };
    let Identity::Block { device } = identity(File::open(&device.path).unwrap()).unwrap() else {
        panic!("no block device");
    };
    assert_eq!(backing_of_loop(device).unwrap(), Some(fs::canonicalize(&file).unwrap()));
}

#[test]
fn a_loop_device_ends_with_its_last_user() {
    let test = "a_loop_device_ends_with_its_last_user";
    if !runs(test, &["losetup"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, [vec![7; 4096], vec![9; 4096]].concat()).unwrap();
    let options = Options { read_only: true, direct_io: false };
    let made = match attach(File::open(&path).unwrap(), &path, options) {
        Ok(made) => made,
        Err(error) => return eprintln!("SKIPPED: {test}: no loop device: {error}"),
    };
    assert_eq!(identity(&made).unwrap(), Identity::Block { device: made.number() });
    assert_eq!(backing_of_loop(made.number()).unwrap(), Some(path.clone()));
    let Identity::File { device, inode } = identity(File::open(&path).unwrap()).unwrap() else {
        panic!("no file");
    };
    assert_eq!(backing_inode(&made).unwrap(), (device, inode));
    assert_eq!(fs::read(made.path()).unwrap()[4096..], [9; 4096]);
    // As to whether it can be opened for writing, kernels differ.
    let written = fs::OpenOptions::new()
        .write(true)
        .open(made.path())
        .and_then(|device| std::os::unix::fs::FileExt::write_all_at(&device, &[1; 512], 0));
    assert!(written.is_err());
    let user = File::open(made.path()).unwrap();
    let number = made.number();
    drop(made);
    assert_eq!(backing_of_loop(number).unwrap(), Some(path.clone()));
    drop(user);
    let gone = || backing_of_loop(number).unwrap().as_ref() != Some(&path);
    for _ in 0..100 {
        if gone() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(gone());
}
