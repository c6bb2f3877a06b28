//! A folder, commands in it, and processes that end with their test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_veritrail");

pub(crate) struct Bench {
    folder: TempDir,
}

/// A process that is killed with its test.
pub(crate) struct Running(pub(crate) Child);

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench { folder: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A command in the folder, with an end.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "120", program]).args(arguments);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).output().unwrap()
    }

    /// The same, which has to work; what it says.
    pub(crate) fn good(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A process in the folder; what it says goes into the file `log`.
    pub(crate) fn start(&self, program: &str, arguments: &[&str], log: &str) -> Running {
        let log = fs::File::create(self.path(log)).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Running(command.spawn().unwrap())
    }

    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }
}

impl Running {
    /// Asks it to end, and waits for that.
    pub(crate) fn stop(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        soon("the end", || self.0.try_wait().unwrap().is_some());
    }

    /// Kills it with -9.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until it is so.
pub(crate) fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what} has not come");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether all of these are here; says what is not.
pub(crate) fn has(test: &str, programs: &[&str]) -> bool {
    let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
    let lacking = programs.iter().find(|program| {
        !path.split(':').any(|folder| Path::new(folder).join(program).is_file())
            && !Path::new(program).is_file()
    });
    if let Some(program) = lacking {
        eprintln!("SKIPPED: {test}: {program} is not here");
    }
    lacking.is_none()
}

pub(crate) fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: {test}: needs root");
    }
    root
}

/// A port that nobody has now.
pub(crate) fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
