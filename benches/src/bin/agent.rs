//! The agent beside auditd: what each costs while programs are started at a given rate under a rule
//! that records every one, and how soon a message that is sent meanwhile is durable. Needs root, auditd and a kernel whose
//! audit nobody uses; takes turns of a minute each, so `--runs` is 5 here unless it is given.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use host::audit::Control;

/// Programs started in a second.
const RATE: u32 = 1000;
const USAGE: &str = "usage: agent [--json] [--runs N] [--seconds N]";

fn main() -> io::Result<()> {
    let mut options = Options { json: false, runs: 5, seconds: 60 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse().ok()).filter(|n| *n > 0);
        match (word.as_str(), &mut options) {
            ("--json", options) => options.json = true,
            ("--runs", options) => options.runs = number().unwrap_or_else(usage),
            ("--seconds", options) => options.seconds = number().unwrap_or_else(usage),
            ("--bench", _) => {}
            _ => usage(),
        }
    }
    let mut audit = match Audit::begin() {
        Ok(audit) => audit,
        Err(why) => {
            println!("SKIPPED: agent: {why}");
            return Ok(());
        }
    };
    let contestants: [(&str, Start); 3] =
        [("auditd, RAW", auditd), ("agent, own", own), ("agent beside it", coexist)];
    let mut costs = [const { Vec::new() }; 3];
    for run in 0..options.runs {
        for ((name, start), costs) in contestants.iter().zip(&mut costs) {
            let cost = measure(&mut audit, *start, &options)?;
            if !options.json {
                println!("agent: run {run}, {name}: {cost}");
            }
            costs.push(cost);
        }
    }
    let mut first = None;
    for ((name, _), costs) in contestants.iter().zip(&mut costs) {
        costs.sort_by(|one, other| one.each_us().total_cmp(&other.each_us()));
        let median = &costs[costs.len() / 2];
        let ratio = median.each_us() / *first.get_or_insert(median.each_us());
        let records = costs.iter().map(|cost| cost.stored).min().unwrap_or_default();
        if options.json {
            let line = serde_json::json!({
                "bench": "agent", "group": "1,000 exec/s", "contestant": name,
                "runs": costs.len(), "seconds": options.seconds,
                "cpu_percent": median.cpu_percent(), "cpu_us_each": median.each_us(), "ratio": ratio,
                "rss_kib": median.rss, "stored": records, "started": median.started,
                "durable_ms": median.durable,
            });
            println!("{line}");
        } else {
            println!("agent: {name:16} median {median}   CPU x {ratio:.2} of auditd's");
        }
    }
    Ok(())
}

struct Options {
    json: bool,
    runs: usize,
    seconds: usize,
}

fn usage<T>() -> T {
    eprintln!("{USAGE}");
    std::process::exit(2);
}

/// The kernel's audit, ours alone, and as it was when it is dropped.
struct Audit {
    control: Control,
    before: host::audit::Status,
}

impl Audit {
    fn begin() -> Result<Audit, String> {
        let text = |error: host::audit::Error| error.to_string();
        let mut control = Control::open().map_err(text)?;
        let before = control.status().map_err(text)?;
        if before.pid != 0 || before.is_locked() {
            return Err("audit is somebody else's here".into());
        }
        if !control.rules().map_err(text)?.is_empty() {
            return Err("there are audit rules here".into());
        }
        if Command::new("auditd").arg("-h").output().is_err() {
            return Err("there is no auditd (apt-get install auditd)".into());
        }
        control.set_backlog_limit(8192).map_err(text)?;
        control.set_enabled(true).map_err(text)?;
        let audit = Audit { control, before };
        if auditctl("-a") { Ok(audit) } else { Err("auditctl cannot add a rule".into()) }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        auditctl("-d");
        let _ = self.control.set_enabled(self.before.is_on());
        let _ = self.control.set_backlog_limit(self.before.backlog_limit);
    }
}

/// Adds or deletes the rule.
fn auditctl(option: &str) -> bool {
    let rule = "always,exit -F arch=b64 -S execve -k bench";
    let mut command = Command::new("auditctl");
    command.arg(option).args(rule.split(' ')).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Starts a contestant in a folder, and returns when it listens.
type Start = fn(&Path) -> io::Result<Contestant>;

struct Contestant {
    child: Child,
    /// auditd, where the agent is beside it: what that costs is not the agent's.
    beside: Option<Child>,
}

impl Contestant {
    fn end(self) -> io::Result<()> {
        for mut child in [Some(self.child), self.beside].into_iter().flatten() {
            Command::new("kill").arg(child.id().to_string()).status()?;
            child.wait()?;
        }
        Ok(())
    }
}

fn auditd(folder: &Path) -> io::Result<Contestant> {
    Ok(Contestant { child: daemon(folder)?, beside: None })
}

fn own(folder: &Path) -> io::Result<Contestant> {
    Ok(Contestant { child: agent(folder, "own")?, beside: None })
}

fn coexist(folder: &Path) -> io::Result<Contestant> {
    let beside = Some(daemon(folder)?);
    Ok(Contestant { child: agent(folder, "coexist")?, beside })
}

fn daemon(folder: &Path) -> io::Result<Child> {
    fs::create_dir(folder.join("plugins.d"))?;
    let config = format!(
        "local_events = yes\nwrite_logs = yes\nlog_file = {0}/log\nlog_format = RAW\n\
         flush = INCREMENTAL_ASYNC\nfreq = 50\nmax_log_file = 4000\nmax_log_file_action = IGNORE\n\
         num_logs = 0\npriority_boost = 4\nname_format = NONE\nspace_left = 2\n\
         space_left_action = IGNORE\nadmin_space_left = 1\nadmin_space_left_action = IGNORE\n\
         disk_full_action = IGNORE\ndisk_error_action = IGNORE\nq_depth = 2000\n\
         overflow_action = IGNORE\nmax_restarts = 10\nplugin_dir = {0}/plugins.d\n",
        folder.display()
    );
    fs::write(folder.join("auditd.conf"), config)?;
    let child = Command::new("auditd").args(["-n", "-c"]).arg(folder).spawn()?;
    soon(|| Control::open().is_ok_and(|mut c| c.status().is_ok_and(|s| s.pid == child.id())))?;
    Ok(child)
}

fn agent(folder: &Path, mode: &str) -> io::Result<Child> {
    let program = std::env::current_exe()?.with_file_name("veritrail");
    let mut child = Command::new(program)
        .args(["agent", "run", "--audit-mode", mode, "--trail", "trail", "--run-dir", "run"])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(File::create(folder.join("stderr"))?)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?).lines();
    if lines.any(|line| line.is_ok_and(|line| line.starts_with("ready"))) {
        return Ok(child);
    }
    let _ = child.kill();
    Err(io::Error::other(fs::read_to_string(folder.join("stderr"))?))
}

fn soon(mut is_so: impl FnMut() -> bool) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What a contestant took.
struct Cost {
    /// User and system time of all its processes, in seconds.
    cpu: f64,
    wall: f64,
    /// Of all its processes, without what they share with files, in KiB.
    rss: u64,
    /// Programs that were started, and how many of them are on record.
    started: usize,
    stored: usize,
    /// Milliseconds until a message is durable, the median and 99 %: where one can know.
    durable: Option<[f64; 2]>,
}

impl Cost {
    fn cpu_percent(&self) -> f64 {
        100.0 * self.cpu / self.wall
    }

    /// Microseconds of CPU for each program started: a busy machine does not start as many in each turn.
    fn each_us(&self) -> f64 {
        1e6 * self.cpu / self.started as f64
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cost { rss, started, stored, wall, .. } = self;
        let rate = *started as f64 / wall;
        write!(f, "{:6.1} us each", self.each_us())?;
        write!(f, "   {:6.2} % of a CPU at {rate:.0} exec/s", self.cpu_percent())?;
        write!(f, "   {rss} KiB   {stored} of {started} on record")?;
        match self.durable {
            Some([half, most]) => write!(f, "   durable after {half:.0} ms, 99 % {most:.0} ms"),
            None => Ok(()),
        }
    }
}

fn measure(audit: &mut Audit, start: Start, options: &Options) -> io::Result<Cost> {
    let folder = tempfile::tempdir()?;
    let contestant = start(folder.path())?;
    // What a beginning costs is not asked.
    thread::sleep(Duration::from_secs(2));
    let family = family(contestant.child.id());
    let before = cpu(&family);
    let began = Instant::now();
    let messages = folder.path().join("run/events.sock");
    let messages = messages.exists().then(|| Messages::begin(&messages)).transpose()?;
    let started = load(options.seconds as u64)?;
    // What has come is still on its way.
    thread::sleep(Duration::from_secs(3));
    let cost = Cost {
        cpu: cpu(&family) - before,
        wall: began.elapsed().as_secs_f64() - 3.0,
        rss: family.iter().map(|pid| anonymous(*pid)).sum(),
        started,
        stored: 0,
        durable: messages.and_then(Messages::end),
    };
    let lost = audit.control.status().map_or(0, |status| status.lost);
    contestant.end()?;
    if lost > audit.before.lost {
        println!("agent: the kernel lost {} records", lost - audit.before.lost);
    }
    Ok(Cost { stored: stored(folder.path())?, ..cost })
}

/// Messages to audit, twenty a second, and when each was told of as durable.
struct Messages {
    reader: UnixStream,
    sender: thread::JoinHandle<Vec<Instant>>,
    told: thread::JoinHandle<Vec<(usize, Instant)>>,
    stop: std::sync::mpsc::Sender<()>,
}

impl Messages {
    fn begin(socket: &Path) -> io::Result<Messages> {
        let mut reader = UnixStream::connect(socket)?;
        reader.write_all(b"{\"type\":\"TRUSTED_APP\",\"join_ms\":0}\n")?;
        let lines = BufReader::new(reader.try_clone()?).lines();
        let told = thread::spawn(move || {
            let number = |line: &str| {
                let digits = line.split("bench n=").nth(1)?;
                digits.split(|next: char| !next.is_ascii_digit()).next()?.parse().ok()
            };
            let times = lines.map_while(Result::ok);
            times.filter_map(|line| Some((number(&line)?, Instant::now()))).collect()
        });
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let sender = thread::spawn(move || {
            let mut sent = Vec::new();
            let Ok(mut control) = Control::open() else { return sent };
            while stopped.recv_timeout(Duration::from_millis(50))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let text = format!("bench n={}", sent.len());
                sent.push(Instant::now());
                // One that is not sent is one that nobody tells of.
                let _ = control.send_user(1121, text.as_bytes());
            }
            sent
        });
        Ok(Messages { reader, sender, told, stop })
    }

    /// Milliseconds, of the half that came soonest and of 99 %.
    fn end(self) -> Option<[f64; 2]> {
        drop(self.stop);
        let sent = self.sender.join().ok()?;
        thread::sleep(Duration::from_secs(1));
        self.reader.shutdown(std::net::Shutdown::Both).ok()?;
        let mut took: Vec<f64> = vec![f64::INFINITY; sent.len()];
        for (number, told) in self.told.join().ok()? {
            *took.get_mut(number)? = (told - *sent.get(number)?).as_secs_f64() * 1e3;
        }
        took.sort_by(f64::total_cmp);
        Some([*took.get(took.len() / 2)?, *took.get(took.len() * 99 / 100)?])
    }
}

/// Starts programs at the rate, each waited for, and says how many.
fn load(seconds: u64) -> io::Result<usize> {
    let began = Instant::now();
    let mut started = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        let due = began + Duration::from_secs(1) * started / RATE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        Command::new("/bin/true").status()?;
        started += 1;
    }
    Ok(started as usize)
}

/// A process and all that descend from it.
fn family(first: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse::<u32>().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut family = vec![first];
    let mut at = 0;
    while let Some(of) = family.get(at).copied() {
        family.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        at += 1;
    }
    family
}

/// What stands behind the name in `/proc/PID/stat`: state, parent ...
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn cpu(family: &[u32]) -> f64 {
    // Fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms.
    let ticks = |pid: &u32| {
        let fields = stat(*pid)?;
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    family.iter().filter_map(ticks).sum::<u64>() as f64 / 100.0
}

fn anonymous(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

/// How many programs are on record.
fn stored(folder: &Path) -> io::Result<usize> {
    let mut logs: Vec<PathBuf> = vec![folder.join("log")];
    // Where there is a trail, it is what was asked for.
    if let Ok(segments) = fs::read_dir(folder.join("trail/segments")) {
        let segments = segments.flatten().map(|entry| entry.path());
        logs = segments.filter(|path| path.extension().is_some_and(|is| is == "log")).collect();
    }
    let mut stored = 0;
    for log in logs {
        let text = fs::read(log)?;
        let lines = text.split(|byte| *byte == b'\n');
        stored +=
            lines.filter(|line| line.starts_with(b"type=EXECVE ") && ends_with_true(line)).count();
    }
    Ok(stored)
}

fn ends_with_true(line: &[u8]) -> bool {
    let argument = b"a0=\"/bin/true\"";
    line.windows(argument.len()).any(|window| window == argument)
}
