//! `veritrail serve`: a line of a table becomes a device, and the service manager knows of it.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tempfile::TempDir;

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";
const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dist/systemd");
const UNIT: &str = "veritrail-device@.service";

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/devices");
    fs::read(folder.join(name)).unwrap()
}

/// Why no device can be served here.
fn cannot_serve() -> Option<&'static str> {
    let device = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let root = rustix::process::geteuid().is_root();
    if device.is_err() {
        Some("/dev/fuse cannot be used")
    } else if !root && !Path::new("/usr/bin/fusermount3").exists() {
        Some("neither root nor fusermount3")
    } else {
        None
    }
}

/// A folder with an image, a trail to be, and a table that says so.
struct Place(TempDir);

impl Place {
    fn new(table: &str) -> Place {
        let place = Place(TempDir::new().unwrap());
        fs::write(place.path("root.img"), golden("vdata-64x4k.img")).unwrap();
        fs::write(place.path("root.hash"), golden("v-sha256.hash")).unwrap();
        fs::create_dir(place.path("keys")).unwrap();
        let here = place.0.path().to_str().unwrap();
        let table = table.replace("HERE", here).replace("ROOT", ROOT);
        fs::write(place.path("veritytab"), table).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn serve(&self, before: &[String], arguments: &[&str]) -> Command {
        let mut words: Vec<OsString> = before.iter().map(OsString::from).collect();
        words.push(env!("CARGO_BIN_EXE_veritrail").into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("serve").args(arguments).current_dir(self.0.path());
        command.args(["--tab", "veritytab"]).env_remove("NOTIFY_SOCKET");
        command
    }

    /// Exit status, standard output and standard error, with the folder as HERE.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.serve(&[], arguments).output().unwrap();
        let here = self.0.path().to_str().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(here, "HERE");
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// All lines of the trail.
    fn trail(&self) -> String {
        let segments = fs::read_dir(self.path("trail/segments")).unwrap();
        let logs = segments.map(|entry| entry.unwrap().path());
        let logs = logs.filter(|path| path.extension().is_some_and(|end| end == "log"));
        logs.map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()).collect()
    }
}

/// A server that does not outlive its test.
struct Server {
    child: Child,
    device: PathBuf,
}

impl Server {
    /// Starts it and returns when it has said where the device is.
    fn start(mut command: Command, run: &Path) -> Server {
        let mut child = command.arg("--run-dir").arg(run).stdout(Stdio::piped()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let server = Server { child, device: run.join("devices/root") };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), server.device.to_str().unwrap());
        server
    }

    fn terminate(&self) {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(kill.unwrap().success());
    }

    /// The exit status.
    fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + LONG;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A test has failed: what is left goes as well as it can.
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = Command::new("umount").arg("-l").arg(&self.device).output();
        }
    }
}

/// The service manager's end.
struct Manager(UnixDatagram);

impl Manager {
    fn new(address: &SocketAddr) -> Manager {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Manager(socket)
    }

    /// Waits until it is told a line that is `wanted`, which is `what`.
    fn is_told(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut buf = [0; 1024];
        loop {
            let len = match self.0.recv(&mut buf) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                len => len.unwrap_or_else(|error| panic!("{what}: {error}")),
            };
            let told = String::from_utf8(buf[..len].to_vec()).unwrap();
            if let Some(line) = told.lines().find(|line| wanted(line)) {
                return line.to_owned();
            }
        }
    }
}

const TABLE: &str = "# the test's\n
root HERE/root.img HERE/root.hash ROOT x-veritrail.trail=HERE/trail,x-veritrail.direct-io,nofail
other HERE/nothing
";

#[test]
fn a_line_is_served_and_the_manager_is_told() {
    if let Some(why) = cannot_serve() {
        println!("SKIPPED: a_line_is_served_and_the_manager_is_told: {why}");
        return;
    }
    for abstract_name in [false, true] {
        let place = Place::new(TABLE);
        let (name, address) = if abstract_name {
            let name = format!("veritrail-test-{}", place.0.path().display());
            (format!("@{name}"), SocketAddr::from_abstract_name(&name).unwrap())
        } else {
            let path = place.path("notify");
            (path.to_str().unwrap().to_owned(), SocketAddr::from_pathname(&path).unwrap())
        };
        let manager = Manager::new(&address);
        let mut command = place.serve(&[], &["root"]);
        command.env("NOTIFY_SOCKET", name);
        let mut server = Server::start(command, &place.path("run"));
        manager.is_told("ready", |line| line == "READY=1");
        assert!(fs::read(&server.device).unwrap() == golden("vdata-64x4k.img"));

        let mut image = golden("vdata-64x4k.img");
        image[20 * 4096] ^= 1;
        fs::write(place.path("root.img"), image).unwrap();
        assert_eq!(fs::read(&server.device).unwrap_err().raw_os_error(), Some(5));
        // The reader may try again, a block at a time.
        let told = manager.is_told("violations", |line| {
            line.starts_with("STATUS=") && !line.starts_with("STATUS=0 ")
        });
        assert!(told.ends_with(" violations, 0 blocks corrected, 0 I/O errors"), "{told}");

        server.terminate();
        manager.is_told("stopping", |line| line == "STOPPING=1");
        assert_eq!(server.wait(), Some(0));
        assert_eq!(fs::read_dir(place.path("run/devices")).unwrap().count(), 0);
        let trail = place.trail();
        for words in ["op=ctr", "op=dtr", "op=verify-data", "data_device=\"", "name=\"root\""] {
            assert!(trail.contains(words), "{words} is not in\n{trail}");
        }
    }
}

#[test]
fn a_killed_server_is_named_by_doctor() {
    if let Some(why) = cannot_serve() {
        println!("SKIPPED: a_killed_server_is_named_by_doctor: {why}");
        return;
    }
    let place = Place::new(TABLE);
    let doctor = || {
        let output = Command::new(env!("CARGO_BIN_EXE_veritrail"))
            .args(["doctor", "--run-dir"])
            .arg(place.path("run"))
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(doctor().contains("has      device servers  none\n"), "{}", doctor());
    let mut server = Server::start(place.serve(&[], &["root"]), &place.path("run"));
    assert!(doctor().contains("has      device servers  alive: root\n"), "{}", doctor());
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let said = doctor();
    assert!(said.contains("lacks    device servers  dead: root\n"), "{said}");
    assert!(said.contains("do:  veritrail verity close root: "), "{said}");
    // Another one takes the place of the dead.
    let mut server = Server::start(place.serve(&[], &["root"]), &place.path("run"));
    assert!(fs::read(&server.device).unwrap() == golden("vdata-64x4k.img"));
    server.terminate();
    assert_eq!(server.wait(), Some(0));
    assert!(doctor().contains("has      device servers  none\n"), "{}", doctor());
    assert!(place.trail().contains("type=VT_GAP") || place.trail().contains("source=device"));
}

/// With what the unit leaves it, and no more.
#[test]
fn what_the_unit_leaves_it_is_enough() {
    let name = "what_the_unit_leaves_it_is_enough";
    if let Some(why) = cannot_serve() {
        println!("SKIPPED: {name}: {why}");
        return;
    }
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/setpriv").exists() {
        println!("SKIPPED: {name}: it takes root and setpriv");
        return;
    }
    let unit = fs::read_to_string(Path::new(UNITS).join(UNIT)).unwrap();
    let bounds = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    assert!(unit.contains("\nNoNewPrivileges=yes\n"));
    let bounds: Vec<String> = bounds
        .split(' ')
        .map(|name| format!("+{}", name.strip_prefix("CAP_").unwrap().to_lowercase()))
        .collect();
    let setpriv = ["/usr/bin/setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set"];
    let mut before: Vec<String> = setpriv.map(str::to_owned).into();
    before.push(format!("-all,{}", bounds.join(",")));
    let place = Place::new(TABLE);
    let mut server = Server::start(place.serve(&before, &["root"]), &place.path("run"));
    assert!(fs::read(&server.device).unwrap() == golden("vdata-64x4k.img"));
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    server.terminate();
    assert_eq!(server.wait(), Some(0));
    assert!(place.trail().contains("op=dtr"));
}

#[test]
fn a_device_that_cannot_be_served_is_said_with_its_line() {
    let place = Place::new(TABLE);
    let expected = (
        5,
        String::new(),
        "veritrail: veritytab:4:19: the hash-device is missing\n  \
         hint: a line is: volume-name data-device hash-device roothash options\n"
            .to_owned(),
    );
    let (code, out, err) = place.run(&["other"]);
    // The folder's name is longer than HERE.
    let place_column = "other ".len() + place.path("nothing").to_str().unwrap().len() + 1;
    let err = err.replace(&format!(":{place_column}:"), ":19:");
    assert_eq!((code, out, err), expected);
    assert_eq!(
        place.run(&["missing"]),
        (
            2,
            String::new(),
            "veritrail: veritytab does not describe missing\n  hint: it describes root\n"
                .to_owned()
        )
    );
    fs::remove_file(place.path("veritytab")).unwrap();
    assert_eq!(place.run(&["root"]).0, 3);
    assert_eq!(place.run(&[]).0, 2);
    assert_eq!(place.run(&["root", "--json"]).0, 2);
}

#[test]
fn a_table_is_checked_line_by_line() {
    let place =
        Place::new("a /d /h ROOT superblock=no,hash-offset=4K\n# x\nb /d /h ROOT hash-offest=1\n");
    let (code, out, err) = place.run(&["--check"]);
    assert_eq!(
        (code, out, err.as_str()),
        (
            5,
            format!(
                "line 1: a: /d by /h, root hash {ROOT} --no-superblock --hash-offset=4096\n\
                 veritytab:3:74: there is no option hash-offest\n  hint: hash-offset is one\n"
            ),
            "veritrail: 1 of 2 lines of veritytab cannot be used\n"
        )
    );
    assert_eq!(place.run(&["a", "--check"]).0, 0);
    assert_eq!(place.run(&["b", "--check"]).0, 5);
    assert_eq!(place.run(&["c", "--check"]).0, 2);
    assert_eq!(
        place.run(&["--check", "--json"]).1,
        format!(
            concat!(
                r#"{{"tab":"veritytab","devices":[{{"line":1,"name":"a","data":"/d","hash":"/h","#,
                r#""root_hash":"{}","options":["--no-superblock","--hash-offset=4096"]}}],"#,
                r#""problems":[{{"line":3,"column":74,"name":"b","#,
                r#""what":"there is no option hash-offest","hint":"hash-offset is one"}}]}}"#,
                "\n"
            ),
            ROOT
        )
    );
    let large = Place::new(&"#".repeat((1 << 20) + 1));
    let (code, _, err) = large.run(&["--check"]);
    assert_eq!(
        (code, err.lines().next()),
        (5, Some("veritrail: veritytab is larger than 1048576 bytes"))
    );
}

/// What stands in the line is judged as a file would be.
#[test]
fn a_signature_in_the_line_is_judged() {
    let line = |signature: &[u8]| {
        format!(
            "root HERE/root.img HERE/root.hash ROOT x-veritrail.trail=HERE/trail,\
             x-veritrail.keyring=HERE/keys,root-hash-signature=base64:{}",
            BASE64.encode(signature)
        )
    };
    for (signature, code, words) in [
        // Nobody in the empty keyring vouches for it.
        (golden("v-sha256.p7s"), 1, "veritrail: Root hash verification failed\n"),
        (b"none".to_vec(), 5, "is no usable signature\n"),
    ] {
        let place = Place::new(&line(&signature));
        let (found, _, err) = place.run(&["root", "--run-dir", "run"]);
        assert!(found == code && err.contains(words), "{found}: {err}");
        let trail = place.trail();
        assert!(trail.contains("error_msg='Root hash verification failed'"), "{trail}");
    }
}

#[test]
fn the_units_are_ones_that_systemd_takes() {
    // A mount that is to be seen by the host is not to be made in a namespace of the unit's own.
    const OF_ITS_OWN: [&str; 10] = [
        "Private",
        "ProtectS",
        "ProtectH",
        "ProtectK",
        "ProtectC",
        "ProtectP",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "InaccessiblePaths",
        "TemporaryFileSystem",
    ];
    let folder = TempDir::new().unwrap();
    for (unit, manager) in [(UNIT.to_owned(), "--system"), (format!("user/{UNIT}"), "--user")] {
        let text = fs::read_to_string(Path::new(UNITS).join(unit)).unwrap();
        for line in text.lines() {
            assert!(!OF_ITS_OWN.iter().any(|key| line.starts_with(key)), "{line}");
        }
        // It looks for the program.
        let text = text.replace("/usr/bin/veritrail", env!("CARGO_BIN_EXE_veritrail"));
        let path = folder.path().join(UNIT);
        fs::write(&path, &text).unwrap();
        let verify = |path: &Path| {
            Command::new("systemd-analyze")
                .args([manager, "verify", "--man=no"])
                .arg(path)
                .env("XDG_RUNTIME_DIR", folder.path())
                .output()
        };
        let Ok(output) = verify(&path) else {
            println!("SKIPPED: the_units_are_ones_that_systemd_takes: no systemd-analyze");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{manager}: {said}");
        // It does say something where there is something to say.
        fs::write(&path, text.replace("KillMode=", "KillMood=")).unwrap();
        assert!(!verify(&path).unwrap().stderr.is_empty());
    }
}

#[test]
fn the_units_of_checks_are_ones_that_systemd_takes() {
    let folder = TempDir::new().unwrap();
    let units = ["veritrail-scrub@.service", "veritrail-scrub@.timer"];
    for unit in units {
        let text = fs::read_to_string(Path::new(UNITS).join(unit)).unwrap();
        // It looks for the program.
        let text = text.replace("/usr/bin/veritrail", env!("CARGO_BIN_EXE_veritrail"));
        fs::write(folder.path().join(unit), text).unwrap();
    }
    let verify = || {
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no"]).args(units.map(|unit| folder.path().join(unit)));
        command.output()
    };
    let Ok(output) = verify() else {
        println!("SKIPPED: the_units_of_checks_are_ones_that_systemd_takes: no systemd-analyze");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    let timer = folder.path().join(units[1]);
    let text = fs::read_to_string(&timer).unwrap();
    fs::write(&timer, text.replace("OnCalendar=monthly", "OnCalendar=mostly")).unwrap();
    assert!(!verify().unwrap().stderr.is_empty());
}
