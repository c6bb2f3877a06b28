//! One boot of a guest: what goes in, QEMU under a deadline, and what came out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::image::Image;
use crate::scenario::Scenario;

pub(crate) struct Boot<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) base: &'a Path,
    /// What this boot leaves on the host.
    pub(crate) directory: PathBuf,
    pub(crate) scenarios: &'a [Scenario],
    /// From 1.
    pub(crate) phase: u32,
}

/// What is known of a scenario after a boot.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) end: End,
    pub(crate) log: String,
}

#[derive(Debug)]
pub(crate) enum End {
    Passed {
        seconds: String,
    },
    Skipped {
        reason: String,
    },
    Failed {
        status: String,
        seconds: String,
    },
    /// It had said that it would.
    WentDown,
    /// The guest ended, or had to be ended, while it ran.
    Lost,
    NeverBegan,
}

/// Seconds from QEMU's start to the first scenario, and from the last to the end.
const STARTING_AND_STOPPING: u64 = 60;

impl Boot<'_> {
    /// The outcomes, and why the guest did not end as it should, if so.
    pub(crate) fn run(&self) -> Result<(Vec<Outcome>, Option<String>), String> {
        fs::create_dir_all(&self.directory)
            .map_err(|error| format!("{}: {error}", self.directory.display()))?;
        self.initramfs()?;
        let mut qemu = self.qemu()?;
        let deadline =
            STARTING_AND_STOPPING + self.scenarios.iter().map(|one| one.limit + 10).sum::<u64>();
        let problem = end_of(&mut qemu, Duration::from_secs(deadline))?;
        let log = fs::read(self.at("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default();
        let (outcomes, done) = outcomes(self.scenarios, &log);
        let down = outcomes.iter().any(|outcome| matches!(outcome.end, End::WentDown));
        let problem = problem.or((!done && !down).then(|| "the guest went down".to_owned()));
        Ok((
            outcomes,
            problem.map(|problem| format!("{problem}; its console ends with:\n{}", self.console())),
        ))
    }

    /// The files that scenarios left in `$ARTEFACTS`, one directory each.
    pub(crate) fn unpack_artefacts(&self, to: &Path) -> Result<(), String> {
        let tar = self.at("artefacts.tar");
        if fs::metadata(&tar).is_ok_and(|tar| tar.len() > 0) {
            fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
            let ran = Command::new("tar").arg("-C").arg(to).arg("-xf").arg(&tar).status();
            if !ran.as_ref().is_ok_and(std::process::ExitStatus::success) {
                return Err(format!("the artefacts cannot be unpacked: {ran:?}"));
            }
        }
        Ok(())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn initramfs(&self) -> Result<(), String> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
        let mut image = Image::default();
        let stripped = self.at("veritrail");
        let strip = Command::new("strip")
            .arg("-o")
            .arg(&stripped)
            .arg(env!("CARGO_BIN_EXE_veritrail"))
            .status();
        if !strip.is_ok_and(|status| status.success()) {
            return Err("strip failed".into());
        }
        image.executable("usr/bin/veritrail", &stripped)?;
        for name in ["init", "run.sh", "lib.sh"] {
            let at = if name == "init" { name.to_owned() } else { format!("vm/{name}") };
            image.copy(&at, &tests.join("vm").join(name));
        }
        image.files("golden/devices", &tests.join("golden/devices"))?;
        let mut plan = String::new();
        for scenario in self.scenarios {
            image.copy(
                &format!("vm/scenarios/{}.sh", scenario.name),
                &tests.join(format!("vm/scenarios/{}.sh", scenario.name)),
            );
            for tool in &scenario.tools {
                image.tool(tool, &unpacked())?;
            }
            let modules = scenario.modules.join(",");
            plan.push_str(&format!(
                "{}|{}|{}|{}|{modules}\n",
                scenario.name,
                self.phase,
                scenario.limit,
                scenario.disks.len()
            ));
        }
        image.text("vm/plan", &plan);
        let own = self.at("own.cpio.zst");
        image.write(&own, "-1")?;
        let mut all =
            File::create(self.at("initramfs")).map_err(|error| format!("initramfs: {error}"))?;
        for part in [self.base, &own] {
            let copied = File::open(part).and_then(|mut part| std::io::copy(&mut part, &mut all));
            copied.map_err(|error| format!("{}: {error}", part.display()))?;
        }
        Ok(())
    }

    fn qemu(&self) -> Result<std::process::Child, String> {
        let memory = self.scenarios.iter().map(|one| one.memory).max().unwrap_or(1024);
        let mut append = vec![
            "console=ttyS0 quiet panic=-1 reboot=t log_buf_len=16M audit=1 audit_backlog_limit=8192".to_owned(),
        ];
        append.extend(self.scenarios.iter().take(1).flat_map(|one| one.append.clone()));
        let mut qemu = Command::new("qemu-system-x86_64");
        // Not KVM: it must run, and take the same time, where there is none.
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
            .args(["-m", &memory.to_string(), "-nodefaults", "-display", "none", "-no-reboot"])
            .args([
                "-monitor",
                "none",
                "-serial",
                &format!("file:{}", self.at("console").display()),
            ])
            .args(["-device", "virtio-serial"]);
        for (port, file) in [("artefacts", "artefacts.tar"), ("log", "log")] {
            qemu.args(["-chardev", &format!("file,id={port},path={}", self.at(file).display())])
                .args(["-device", &format!("virtserialport,chardev={port},name={port}")]);
        }
        for (scenario, number) in self.scenarios.iter().zip(0..) {
            for (size, disk) in scenario.disks.iter().zip(0..) {
                self.disk(&mut qemu, scenario, size, number, disk)?;
            }
        }
        if self.scenarios.iter().any(|one| one.boots > 1) {
            // What outlives the guest: the place where pstore keeps its last words.
            let erst = format!(
                "memory-backend-file,id=erst,mem-path={},size=64K,share=on",
                self.at("erst").display()
            );
            qemu.args(["-object", &erst, "-device", "acpi-erst,memdev=erst"]);
        }
        qemu.arg("-kernel").arg(self.kernel.join("vmlinuz"));
        qemu.arg("-initrd").arg(self.at("initramfs"));
        qemu.args(["-append", &append.join(" ")]);
        let messages = File::create(self.at("qemu")).map_err(|error| format!("qemu: {error}"))?;
        qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
        qemu.spawn().map_err(|error| format!("qemu-system-x86_64: {error}"))
    }

    /// A blank one, known in the guest by its serial number; the next phase finds it as it was left.
    fn disk(
        &self,
        qemu: &mut Command,
        scenario: &Scenario,
        size: &str,
        number: u32,
        disk: u32,
    ) -> Result<(), String> {
        let file = self.at(&format!("{}.disk{disk}", scenario.name));
        if self.phase == 1 {
            let _ = fs::remove_file(&file);
            let made = Command::new("truncate").args(["-s", size]).arg(&file).status();
            if !made.is_ok_and(|status| status.success()) {
                return Err(format!("{}: no disk of {size}", scenario.name));
            }
        }
        let id = format!("s{number}d{disk}");
        qemu.args(["-drive", &format!("file={},if=none,format=raw,id={id}", file.display())])
            .args(["-device", &format!("virtio-blk-pci,drive={id},serial={id}")]);
        Ok(())
    }

    fn console(&self) -> String {
        let read =
            |name| fs::read(self.at(name)).map(|text| String::from_utf8_lossy(&text).into_owned());
        let console = read("console").unwrap_or_default();
        let lines: Vec<&str> = console.lines().collect();
        format!(
            "{}\n{}",
            lines[lines.len().saturating_sub(40)..].join("\n"),
            read("qemu").unwrap_or_default()
        )
    }
}

/// Where scripts/vm-tools puts what it unpacks.
pub(crate) fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/vm/tools")
}

/// Why it had to be killed, if so.
fn end_of(qemu: &mut std::process::Child, limit: Duration) -> Result<Option<String>, String> {
    let began = Instant::now();
    loop {
        match qemu.try_wait().map_err(|error| format!("qemu: {error}"))? {
            Some(status) if status.success() => return Ok(None),
            Some(status) => return Ok(Some(format!("QEMU ended with {status}"))),
            None if began.elapsed() > limit => {
                let _ = qemu.kill();
                let _ = qemu.wait();
                return Ok(Some(format!("the guest did not end within {} s", limit.as_secs())));
            }
            None => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Reads the guest's log, of which run.sh wrote the lines that begin with `@@ `. True where it ran to
/// its end.
fn outcomes(scenarios: &[Scenario], log: &str) -> (Vec<Outcome>, bool) {
    let mut outcomes: Vec<Outcome> = scenarios
        .iter()
        .map(|one| Outcome { name: one.name.clone(), end: End::NeverBegan, log: String::new() })
        .collect();
    let mut current: Option<usize> = None;
    let mut done = false;
    for line in log.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match (words.as_slice(), current.and_then(|at| outcomes.get_mut(at))) {
            (["@@", "begin", name], _) => {
                current = outcomes.iter().position(|outcome| outcome.name == *name);
                if let Some(outcome) = current.and_then(|at| outcomes.get_mut(at)) {
                    outcome.end = End::Lost;
                }
            }
            (["@@", "end", _, status, seconds], Some(outcome)) => {
                let seconds = (*seconds).to_owned();
                outcome.end = match (*status, &outcome.end) {
                    ("0", _) => End::Passed { seconds },
                    ("77", End::Skipped { reason }) => End::Skipped { reason: reason.clone() },
                    _ => End::Failed { status: (*status).to_owned(), seconds },
                };
                current = None;
            }
            (["@@", "skip", reason @ ..], Some(outcome)) => {
                outcome.end = End::Skipped { reason: reason.join(" ") }
            }
            (["@@", "going", "down"], Some(outcome)) => outcome.end = End::WentDown,
            (["@@", "done"], _) => done = true,
            (_, Some(outcome)) => {
                outcome.log.push_str(line);
                outcome.log.push('\n');
            }
            (_, None) => {}
        }
    }
    (outcomes, done)
}
