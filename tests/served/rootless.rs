//! Without root: with `fusermount3`, and a `/dev/fuse` that users may open, as udev makes it. Where
//! it is not like that, one that is stands in its place for this session only.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::bench::{Bench, Ran, has};

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";

/// The whole session of a user, in a mount name space of its own. Each line says what it is.
const SESSION: &str = r#"
set -e
mount -t tmpfs -o mode=755 none "$1/dev"
mknod -m 666 "$1/dev/fuse" c 10 229
mount --bind "$1/dev/fuse" /dev/fuse
cd "$1/home"
exec setpriv --reuid 65534 --regid 65534 --clear-groups env -u XDG_RUNTIME_DIR -u XDG_STATE_HOME HOME="$1/home" sh -c '
    v="$1"; root="$2"; run="$3/home/run"
    device=$($v verity open data v hash $root --run-dir $run --trail trail) || exit 50
    cmp data "$device" && echo same
    printf CORRUPT! | dd of=data bs=1 seek=40977 conv=notrunc status=none
    dd if="$device" of=/dev/null bs=4096 skip=10 count=1 iflag=direct status=none 2>&1
    exec 3< "$device"
    $v verity close v --run-dir $run 2> busy; echo "busy $?"
    exec 3<&-
    $v verity status v --run-dir $run | grep -E "is active|status:|server:"
    pid=$($v verity status v --run-dir $run --json | sed "s/.*volume_pid\":\([0-9]*\).*/\1/")
    kill -9 $pid
    for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.2; $v verity status v --run-dir $run | grep server: && break; done
    cat "$device" > /dev/null 2>&1; echo "cat $?"
    device=$($v verity open data v hash $root --run-dir $run --trail trail) || exit 51
    dd if="$device" of=/dev/null bs=4096 skip=11 count=2 iflag=direct status=none && echo again
    $v verity close v --run-dir $run; echo "close $?"
    ls -A $run/devices | wc -l
    $v search --trail trail --raw -m DM_EVENT,VT_READER | tr "\035" "\n" | grep -E "^type="
    $v trail verify trail > /dev/null; echo "verify $?"
' sh "$2" "$3" "$1"
"#;

#[test]
fn a_user_without_root_can_do_it_too() {
    let test = "a_user_without_root_can_do_it_too";
    if !has(test, &["setpriv", "unshare", "fusermount3"]) {
        return;
    }
    let Some(bench) = Bench::new(test) else { return };
    let program = env!("CARGO_BIN_EXE_veritrail");
    fs::set_permissions(bench.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["dev", "home"] {
        fs::create_dir(bench.path(name)).unwrap();
    }
    bench.golden("v-sha256.hash", ROOT);
    for name in ["data", "hash"] {
        fs::rename(bench.path(name), bench.path("home").join(name)).unwrap();
        std::os::unix::fs::chown(bench.path("home").join(name), Some(65534), Some(65534)).unwrap();
    }
    std::os::unix::fs::chown(bench.path("home"), Some(65534), Some(65534)).unwrap();
    let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups", program, "--version"];
    if Ran::of(bench.timed("setpriv", &user).output().unwrap()).status != 0 {
        return eprintln!("SKIPPED: {test}: another user cannot run the binary where it is");
    }
    let folder = bench.folder().to_str().unwrap();
    let arguments = ["-m", "--propagation", "private", "sh", "-c", SESSION, "sh"];
    let arguments = [&arguments[..], &[folder, program, ROOT]].concat();
    let ran = Ran::of(bench.timed("unshare", &arguments).output().unwrap());
    if ran.err.contains("unshare failed") || ran.err.contains("mount: ") {
        return eprintln!("SKIPPED: {test}: no mount name space: {}", ran.err.trim());
    }
    let device = format!("{folder}/home/run/devices/v");
    let lines: Vec<&str> = ran.out.lines().collect();
    let said = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(lines.first(), Some(&"same"), "{ran:?}");
    for once in [
        "Input/output error",
        "busy 3",
        &format!("{device} is active."),
        "  status:      corrupted",
        "  server:      killed by signal 9",
        "cat 1",
        "again",
        "close 0",
        " sector=10 res=0",
        "verify 0",
    ] {
        assert_eq!(said(once), 1, "{once}: {ran:?}");
    }
    assert!(lines.contains(&"0"), "{ran:?}");
    let readers: Vec<_> = lines.iter().filter(|line| line.starts_with("type=VT_READER")).collect();
    let [reader] = readers[..] else { panic!("{ran:?}") };
    assert!(
        reader.contains(r#" uid=65534 gid=65534 "#) && reader.contains(r#" comm="dd" "#),
        "{reader}"
    );
    assert_eq!(bench.left(), Vec::<String>::new());
}
