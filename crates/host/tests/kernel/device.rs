//! Files and loop devices.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use host::device::{Identity, backing_of_loop, identity};
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
