//! A good device, from its opening to its end.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use crate::bench::{BLOCK, Bench, Ran, direct, golden, long, noise, read_once};

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";

#[test]
fn a_device_reads_as_its_image_in_every_way() {
    let Some(bench) = Bench::new("a_device_reads_as_its_image_in_every_way") else { return };
    let bytes = noise(300 * BLOCK);
    let image = bench.image("image", &bytes);
    let device = bench.open("root", &image, &[]);
    let cmp = bench.timed("cmp", &[bench.path("image"), device.clone()]).status().unwrap();
    assert!(cmp.success());
    assert_eq!(fs::metadata(&device).unwrap().len(), bytes.len() as u64);
    assert!(fs::read(&device).unwrap() == bytes);
    let (plain, direct) = (File::open(&device).unwrap(), direct(&device));
    let end = bytes.len() as u64;
    for (offset, len) in [
        (0, 1),
        (1, 1),
        (4095, 2),
        (4095, 4098),
        (12_345, 300_000),
        (end - 1, 1),
        (end - 5, 100),
        (end, 100),
        (end + 7, 4096),
        (1 << 40, 4096),
    ] {
        let want = bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let want = &want[..want.len().min(len)];
        for file in [&plain, &direct] {
            let mut got = Vec::new();
            while got.len() < len {
                let more = read_once(file, offset + got.len() as u64, len - got.len()).unwrap();
                if more.is_empty() {
                    break;
                }
                got.extend(more);
            }
            assert!(got == want, "{len} bytes at {offset}");
        }
    }
    assert!(File::create(&device).is_err());
    assert!(plain.write_at(b"x", 0).is_err());
    drop((plain, direct));
    bench.close("root");
    assert_eq!(bench.left(), Vec::<String>::new());
}

/// The loader maps what it is told to run.
#[test]
fn a_device_can_be_mapped() {
    let test = "a_device_can_be_mapped";
    let Some(bench) = Bench::new(test) else { return };
    let loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let Some(loader) = loaders.into_iter().find(|loader| fs::exists(loader).unwrap()) else {
        return eprintln!("SKIPPED: {test}: the loader is not where it is looked for");
    };
    let mut program = fs::read("/bin/echo").unwrap();
    program.resize(program.len().next_multiple_of(BLOCK), 0);
    let image = bench.image("image", &program);
    let device = bench.open("echo", &image, &[]);
    let ran = Ran::of(bench.timed(loader, &[device.to_str().unwrap(), "mapped"]).output().unwrap());
    assert_eq!(ran, Ran { status: 0, out: "mapped\n".into(), err: String::new() });
    bench.close("echo");
}

#[test]
fn status_has_the_lines_of_veritysetup_and_ours() {
    let Some(bench) = Bench::new("status_has_the_lines_of_veritysetup_and_ours") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    let device = bench.open("root", &image, &[]);
    assert!(fs::read(&device).unwrap() == golden("vdata-64x4k.img"));
    let (keeper, _) = bench.servers("root");
    let ran = bench.verity(&["status", "root"]);
    let at = |name: &str| bench.path(name).display().to_string();
    let salt: String = (0..32).map(|n| format!("{n:02x}")).collect();
    let expected = [
        format!("{} is active.", device.display()),
        "  type:        VERITY".into(),
        "  status:      verified".into(),
        "  hash type:   1".into(),
        "  data block:  4096".into(),
        "  hash block:  4096".into(),
        "  hash name:   sha256".into(),
        format!("  salt:        {salt}"),
        format!("  data device: {}", at("data")),
        "  size:        512 sectors".into(),
        "  mode:        readonly".into(),
        format!("  hash device: {}", at("hash")),
        "  hash offset: 8 sectors".into(),
        format!("  root hash:   {ROOT}"),
        "  backend:     user".into(),
        format!("  trail:       {}", at("trail")),
        format!("  server:      process {keeper}"),
    ];
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(ran.status, 0);
    assert_eq!(lines[..expected.len()], expected);
    assert!(lines[expected.len()].starts_with("  opened:      20"), "{}", ran.out);
    assert!(
        lines[expected.len() + 1].ends_with(", 0 violations, 0 blocks corrected, 0 I/O errors"),
        "{}",
        ran.out
    );
    assert_eq!(lines[expected.len() + 2..], ["  last check:  never"]);

    bench.corrupt("data", 10 * BLOCK as u64 + 17);
    read_once(&direct(&device), 10 * BLOCK as u64, BLOCK).unwrap_err();
    let status = bench.status("root");
    assert_eq!(status["state"], "active");
    assert_eq!(status["corrupted"], true);
    assert_eq!(status["counts"]["violations"], 1);
    let event = status["last_violation"]["event"].as_str().unwrap();
    let dev = fs::metadata(&device).unwrap().dev();
    let dev = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
    assert_eq!(event, format!("module=verity op=verify-data dev={dev} sector=10 res=0"));
    let ran = bench.verity(&["status"]);
    assert!(ran.out.contains("  status:      corrupted\n"), "{}", ran.out);
    bench.close("root");
    let ran = bench.verity(&["status", "root"]);
    assert_eq!((ran.status, ran.out), (1, format!("{} is inactive.\n", device.display())));
    let ran = bench.verity(&["status"]);
    assert_eq!((ran.status, ran.out.as_str()), (0, ""));
}

/// Who read: a process that we know, by its number, name and program.
#[test]
fn a_record_names_the_process_that_read() {
    let Some(bench) = Bench::new("a_record_names_the_process_that_read") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    let device = bench.open("root", &image, &[]);
    bench.corrupt("data", 10 * BLOCK as u64 + 17);
    let dd = Command::new("dd")
        .arg(format!("if={}", device.display()))
        .args(["of=/dev/null", "bs=4096", "skip=10", "count=1", "iflag=direct"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid = dd.id();
    assert!(!dd.wait_with_output().unwrap().status.success());
    bench.close("root");
    let events = bench.events();
    let event = events.iter().find(|event| event.body("DM_EVENT").is_some()).unwrap();
    let exe = fs::canonicalize("/bin/dd").unwrap();
    let reader = event.body("VT_READER").unwrap();
    assert!(reader.starts_with(&format!("pid={pid} tid={pid} uid=0 gid=0 ")), "{reader}");
    let rest = format!(r#" comm="dd" exe="{}" answer=EIO"#, exe.display());
    assert!(reader.ends_with(&rest), "{reader}");
    let file = bench.path("data");
    assert_eq!(
        event.body("VT_PLACE").unwrap(),
        format!(
            r#"role=data unit=4096 fault=mismatch blocks=10-10 bytes=40960-45055 file="{}""#,
            file.display()
        )
    );
    assert_eq!(event.tail("VT_DEV"), Some("root"));
    // The opening and the end stand around it, with who asked for them.
    let kinds: Vec<&str> =
        events.iter().map(|event| event.records[0].split(' ').next().unwrap()).collect();
    assert_eq!(kinds, ["DM_CTRL", "DM_EVENT", "DM_CTRL"]);
    let ctrl = bench.bodies("DM_CTRL");
    for (ctrl, op) in ctrl.iter().zip(["ctr", "dtr"]) {
        assert!(ctrl.starts_with(&format!("module=verity op={op} ppid=")), "{ctrl}");
        assert!(ctrl.contains(r#" comm="veritrail" "#), "{ctrl}");
        assert!(ctrl.ends_with(" dev=M error_msg='success' res=1"), "{ctrl}");
    }
    assert!(events[0].body("VT_DEVICE").unwrap().starts_with(r#"name="root" state=opened "#));
    let closed = events[2].body("VT_DEVICE").unwrap();
    assert!(closed.starts_with(r#"name="root" state=closed reads="#), "{closed}");
    assert!(closed.ends_with(" violations=1 corrected=0 io_errors=0"), "{closed}");
    bench.trail_is_good();
}

/// A hundred times, in the short run twenty.
#[test]
fn many_cycles_leave_nothing() {
    let Some(bench) = Bench::new("many_cycles_leave_nothing") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    let cycles = if long() { 100 } else { 20 };
    for _ in 0..cycles {
        let device = bench.open("root", &image, &[]);
        assert_eq!(fs::read(device).unwrap().len(), 64 * BLOCK);
        bench.close("root");
        assert_eq!(bench.left(), Vec::<String>::new());
    }
    assert_eq!(bench.bodies("DM_CTRL").len(), 2 * cycles);
    bench.trail_is_good();
}

#[test]
fn a_deep_run_directory_is_no_hindrance() {
    let Some(bench) = Bench::new("a_deep_run_directory_is_no_hindrance") else { return };
    let image = bench.golden("v-sha256.hash", ROOT);
    let deep = bench.path(&"d".repeat(120));
    let (deep, trail) = (deep.to_str().unwrap(), bench.path("trail"));
    let verity = |arguments: &[&str]| {
        bench.veritrail(&[&["verity"], arguments, &["--run-dir", deep]].concat())
    };
    let open = ["open", "data", "root", "hash", &image.root, "--trail", trail.to_str().unwrap()];
    let ran = verity(&open);
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(fs::read(ran.out.trim_end()).unwrap() == golden("vdata-64x4k.img"));
    assert_eq!(verity(&["status", "root"]).status, 0);
    assert_eq!(verity(&["close", "root"]).status, 0);
    assert_eq!(fs::read_dir(format!("{deep}/devices")).unwrap().count(), 0);
}
