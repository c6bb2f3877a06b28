//! What `doctor` says of audit: whether it is on, whether it can be heard, and what is lost or costs.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use host::audit;
use rustix::thread::CapabilitySet;

use super::{Finding, Machine, State, finding};
use crate::agent::{self, Home};

pub(super) fn auditing(
    machine: &Machine,
    status: Result<&audit::Status, &audit::Error>,
) -> Finding {
    const ON: &str = "auditctl -e 1; at every boot: audit=1 on the kernel's command line";
    let purpose = "records of the kernel";
    let built = machine.exists("/proc/self/loginuid");
    let daemon = match (machine.audit_daemon(), status) {
        (Some(pid), _) => format!("audit daemon runs as pid {pid}"),
        (None, Ok(status)) if status.pid != 0 => {
            let comm = machine.text(&format!("/proc/{}/comm", status.pid)).unwrap_or_default();
            format!("audit daemon is pid {} ({})", status.pid, comm.trim())
        }
        _ => "no audit daemon".to_owned(),
    };
    let found = |state, seen, remedy: Option<Cow<'static, str>>| Finding {
        name: "audit",
        state,
        seen,
        purpose,
        remedy,
    };
    match status {
        _ if !built => found(
            State::Lacks,
            "no /proc/self/loginuid".to_owned(),
            Some(
                "a kernel with CONFIG_AUDIT and CONFIG_AUDITSYSCALL, not booted with audit=off"
                    .into(),
            ),
        ),
        Ok(status) if status.is_locked() => {
            found(State::Has, format!("on and locked until the next boot, {daemon}"), None)
        }
        Ok(status) if status.is_on() => found(State::Has, format!("on, {daemon}"), None),
        Ok(_) => found(State::Lacks, format!("built in but off, {daemon}"), Some(ON.into())),
        Err(error) => {
            let seen = format!("built in, {daemon}; whether it is on is not told");
            found(State::Unknown, seen, Some(error.to_string().into()))
        }
    }
}

/// Whether records can be read beside a daemon, or without one: what multicast needs.
pub(super) fn audit_reading(machine: &Machine) -> Finding {
    let capable = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::AUDIT_READ));
    // Of the initial user namespace, every number is itself.
    let users = machine.text("/proc/self/uid_map").unwrap_or_default();
    let initial = users.split_whitespace().eq(["0", "0", "4294967295"]);
    let net = |process: &str| fs::read_link(machine.path(&format!("/proc/{process}/ns/net"))).ok();
    let elsewhere = net("1").zip(net("self")).map(|(first, ours)| first != ours);
    let (name, purpose) = ("audit records", "hearing what the kernel records");
    let (seen, remedy) = if !initial {
        (
            "this is not the initial user namespace, the only one that audit answers",
            "run on the host, or in a container without a user namespace of its own",
        )
    } else if elsewhere == Some(true) {
        (
            "this is not the first process's network namespace: records arrive only there",
            "run with the host's network (--network=host)",
        )
    } else if !capable {
        ("CAP_AUDIT_READ is lacking", "run as root, or with AmbientCapabilities=CAP_AUDIT_READ")
    } else if elsewhere.is_none() {
        return Finding {
            name,
            state: State::Unknown,
            seen: "the first process's network namespace is not told: records arrive only there"
                .into(),
            purpose,
            remedy: Some("run with CAP_SYS_PTRACE, or as root on the host".into()),
        };
    } else {
        ("by multicast, beside an audit daemon or without one", "")
    };
    finding(name, remedy.is_empty(), seen, purpose, remedy)
}

/// Whether the kernel loses records before anybody could read them.
pub(super) fn audit_queue(status: Result<&audit::Status, &audit::Error>) -> Finding {
    /// The kernel begins with 64, which one busy moment fills.
    const ENOUGH: u32 = 1024;
    let (name, purpose) = ("audit queue", "no record is lost, and nobody waits, in a burst");
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            let remedy = Some(error.to_string().into());
            let seen = "not told".to_owned();
            return Finding { name, state: State::Unknown, seen, purpose, remedy };
        }
    };
    let limit = match status.backlog_limit {
        0 => "any number of records may wait".to_owned(),
        limit => format!("{} of {limit} records wait", status.backlog),
    };
    let rate = match status.rate_limit {
        0 => String::new(),
        rate => format!(", more than {rate} a second are dropped"),
    };
    let remedy = if status.rate_limit != 0 {
        "auditctl -r 0"
    } else if (1..ENOUGH).contains(&status.backlog_limit) {
        "auditctl -b 8192; at every boot: audit_backlog_limit=8192 on the kernel's command line"
    } else if status.lost != 0 {
        "auditctl -b with a higher limit, then auditctl --reset-lost"
    } else {
        ""
    };
    let seen = format!("{limit}, {} lost since boot{rate}", status.lost);
    finding(name, remedy.is_empty(), seen, purpose, remedy)
}

pub(super) fn dm_audit(machine: &Machine) -> Finding {
    let purpose = "DM_CTRL and DM_EVENT records of the kernel's own devices";
    match machine.kernel_option("CONFIG_DM_AUDIT") {
        Some(set) => finding(
            "DM_AUDIT",
            set,
            if set { "CONFIG_DM_AUDIT is set" } else { "CONFIG_DM_AUDIT is not set" },
            purpose,
            "nothing to do: uevents and the kernel log are the second source",
        ),
        None => Finding {
            name: "DM_AUDIT",
            state: State::Unknown,
            seen: "the kernel's configuration is not under /boot or /lib/modules".to_owned(),
            purpose,
            remedy: Some("look for CONFIG_DM_AUDIT in the kernel's configuration".into()),
        },
    }
}

/// Whether processes that start before anybody switches auditing on are audited: the kernel gives a task
/// its audit context when it is made, and only if auditing is, or was, on.
pub(super) fn audit_boot(machine: &Machine) -> Finding {
    let (name, purpose) = ("audit=1", "system calls of processes that start before the agent");
    let Some(line) = machine.text("/proc/cmdline") else {
        let seen = "/proc/cmdline is not told".to_owned();
        let remedy = Some("look for audit=1 among the kernel's parameters".into());
        return Finding { name, state: State::Unknown, seen, purpose, remedy };
    };
    let last = |key: &str| {
        let value = |word: &str| word.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
        line.split_whitespace().filter_map(value).next_back()
    };
    let on = matches!(last("audit").as_deref(), Some("1" | "on"));
    let limit = last("audit_backlog_limit");
    let limit = limit.map_or(String::new(), |limit| format!(", audit_backlog_limit={limit}"));
    let seen = if on { "on the kernel's command line" } else { "not on the kernel's command line" };
    finding(
        name,
        on,
        format!("{seen}{limit}"),
        purpose,
        "put audit=1 audit_backlog_limit=8192 on the kernel's command line",
    )
}

/// What the kernel does when it cannot record something.
pub(super) fn audit_failure(status: Result<&audit::Status, &audit::Error>) -> Finding {
    let (name, purpose) = ("audit failure", "a loss is counted, and does not stop the machine");
    match status {
        Ok(status) => {
            let seen = match status.failure {
                0 => "0: it says nothing",
                1 => "1: it says so in its log",
                _ => "2: it panics",
            };
            finding(
                name,
                status.failure < 2,
                seen,
                purpose,
                "auditctl -f 1, unless it is wanted so",
            )
        }
        Err(error) => Finding {
            name,
            state: State::Unknown,
            seen: "not told".to_owned(),
            purpose,
            remedy: Some(error.to_string().into()),
        },
    }
}

/// How many rules there are, and what a system call costs with them. Nothing is changed for the measure, so
/// there is no number without them: the cheapest call of the kernel is the measure, whose time is the
/// rules' for the most part where there are many.
pub(super) fn audit_rules(rules: Result<&[Vec<u8>], &audit::Error>) -> Finding {
    let (name, purpose) =
        ("audit rules", "each system call of every process passes all exit rules");
    let rules = match rules {
        Ok(rules) => rules,
        Err(error) => {
            let remedy = Some(error.to_string().into());
            let seen = "not told".to_owned();
            return Finding { name, state: State::Unknown, seen, purpose, remedy };
        }
    };
    // The first number of `struct audit_rule_data` is its list.
    #[expect(clippy::host_endian_bytes, reason = "the kernel's own struct")]
    let is_exit = |rule: &&Vec<u8>| {
        rule.first_chunk().is_some_and(|list| u32::from_ne_bytes(*list) & 0xf == EXIT)
    };
    let exit = rules.iter().filter(is_exit).count();
    let seen = format!(
        "{} rules, {exit} of them for the exit of system calls; the cheapest call takes {} ns with them",
        rules.len(),
        cost_of_a_call().as_nanos()
    );
    Finding { name, state: State::Has, seen, purpose, remedy: None }
}

/// `AUDIT_FILTER_EXIT` of linux/audit.h.
const EXIT: u32 = 4;

/// The time of the cheapest system call, the least of several means.
fn cost_of_a_call() -> Duration {
    const CALLS: u32 = 20_000;
    let round = |_| {
        let began = Instant::now();
        for _ in 0..CALLS {
            // The library asks the kernel each time.
            std::hint::black_box(rustix::process::getppid());
        }
        began.elapsed() / CALLS
    };
    (0..5).map(round).min().unwrap_or_default()
}

/// Where our agent gets records from, if that is not the kernel: then it matters whether auditd hands them on.
pub(super) fn audit_input(run_dir: Option<&Path>) -> Option<Finding> {
    let status = Home::locate(run_dir).and_then(|home| agent::ask(&home)).ok()??;
    let source = status.sources.into_iter().find(|source| source.name == "audit")?;
    let by_auditd = source.detail.starts_with("auditd's events");
    by_auditd.then(|| {
        finding(
            "audit input",
            source.state == agent::SourceState::Listening,
            source.detail,
            "the agent hears what the kernel records",
            "start auditd, with its plugin: active = yes in plugins.d/af_unix.conf, or veritrail agent install \
             --plugin",
        )
    })
}

/// What our agent has lost, by its own count.
pub(super) fn own_losses(run_dir: Option<&Path>) -> Finding {
    let (name, purpose) = ("agent losses", "everything that is heard is on record");
    let asked = Home::locate(run_dir).and_then(|home| agent::ask(&home));
    let status = match asked {
        Ok(Some(status)) => status,
        Ok(None) => {
            let seen = "no agent runs".to_owned();
            return Finding { name, state: State::Unknown, seen, purpose, remedy: None };
        }
        Err(failure) => {
            let seen = failure.to_string();
            return Finding { name, state: State::Unknown, seen, purpose, remedy: None };
        }
    };
    let inbox = &status.inbox;
    let queue = inbox.lost_integrity + inbox.lost_keyed + inbox.lost_rest;
    let of_sources: Vec<String> = status
        .sources
        .iter()
        .filter(|source| source.lost > 0)
        .map(|source| format!("{} {}", source.name, source.lost))
        .collect();
    let sources = match of_sources.is_empty() {
        true => "none in its sources".to_owned(),
        false => format!("in its sources: {}", of_sources.join(", ")),
    };
    let seen = format!(
        "{sources}; {queue} in its queue, {} over a quota, {} not told of yet; {} of {} records \
         waited in the kernel",
        status.over_quota,
        status.lost_entries,
        status.audit.backlog_high_water,
        status.audit.backlog_limit
    );
    let lost = queue > 0 || !of_sources.is_empty() || status.lost_entries > 0;
    finding(
        name,
        !lost,
        seen,
        purpose,
        "veritrail search -m VT_GAP tells when and where; a larger agent.audit_buffer or backlog limit \
         (auditctl -b) holds more",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_promised_only_in_the_first_network_namespace() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::new(folder.path());
        let net = |process: &str, namespace: &str| {
            let folder = folder.path().join("proc").join(process).join("ns");
            fs::create_dir_all(&folder).unwrap();
            std::os::unix::fs::symlink(namespace, folder.join("net")).unwrap();
        };
        net("self", "net:[4026531840]");
        fs::write(folder.path().join("proc/self/uid_map"), "0 0 4294967295\n").unwrap();
        // Only the right to read is this process's own.
        let capable = rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::AUDIT_READ));
        let told = |state| if capable { state } else { State::Lacks };
        let found = audit_reading(&machine);
        assert_eq!(found.state, told(State::Unknown), "{found:?}");
        assert!(found.remedy.is_some(), "{found:?}");
        net("1", "net:[4026531840]");
        assert_eq!(audit_reading(&machine).state, told(State::Has));
        fs::remove_file(folder.path().join("proc/1/ns/net")).unwrap();
        net("1", "net:[4026532999]");
        assert_eq!(audit_reading(&machine).state, State::Lacks);
    }

    #[test]
    fn what_is_wrong_with_audit_comes_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("proc/self")).unwrap();
        fs::write(folder.path().join("proc/self/loginuid"), "0").unwrap();
        let machine = Machine::new(folder.path());
        let on = audit::Status { enabled: 1, backlog_limit: 8192, ..Default::default() };
        let cases = [
            (audit::Status { enabled: 0, ..on }, "off, no audit daemon", "auditctl -e 1"),
            (audit::Status { enabled: 2, ..on }, "locked", ""),
            (audit::Status { pid: 9, ..on }, "on, audit daemon is pid 9", ""),
            (audit::Status { backlog_limit: 64, ..on }, "0 of 64 records wait", "auditctl -b"),
            (audit::Status { backlog_limit: 0, ..on }, "any number", ""),
            (audit::Status { lost: 7, ..on }, "7 lost", "--reset-lost"),
            (audit::Status { rate_limit: 5, ..on }, "more than 5 a second", "auditctl -r 0"),
        ];
        for (status, seen, remedy) in cases {
            let findings = [auditing(&machine, Ok(&status)), audit_queue(Ok(&status))];
            assert!(findings.iter().any(|finding| finding.seen.contains(seen)), "{findings:?}");
            let remedies = findings.iter().filter_map(|finding| finding.remedy.as_deref());
            let remedies: Vec<&str> = remedies.collect();
            assert_eq!(remedies.is_empty(), remedy.is_empty(), "{findings:?}");
            assert!(remedies.iter().all(|said| said.contains(remedy)), "{findings:?}");
        }
    }

    #[test]
    fn the_command_line_and_the_failure_mode_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::new(folder.path());
        assert_eq!(audit_boot(&machine).state, State::Unknown);
        fs::create_dir_all(folder.path().join("proc")).unwrap();
        for (line, state, seen) in [
            (
                "quiet audit=0 audit=1 audit_backlog_limit=8192\n",
                State::Has,
                "audit_backlog_limit=8192",
            ),
            ("audit=on", State::Has, "on the kernel's command line"),
            ("audit=1 audit=0", State::Lacks, "not on the kernel's command line"),
            ("noaudit=1 xaudit=1", State::Lacks, "not on"),
        ] {
            fs::write(folder.path().join("proc/cmdline"), line).unwrap();
            let found = audit_boot(&machine);
            assert_eq!(found.state, state, "{line}");
            assert!(found.seen.contains(seen), "{found:?}");
        }
        for (failure, state) in [(0, State::Has), (1, State::Has), (2, State::Lacks)] {
            let status = audit::Status { failure, ..Default::default() };
            assert_eq!(audit_failure(Ok(&status)).state, state);
        }
    }

    #[test]
    fn rules_are_counted_and_a_call_is_timed() {
        #[expect(clippy::host_endian_bytes, reason = "the kernel's own struct")]
        let rule = |list: u32| [&list.to_ne_bytes()[..], &[0; 1036]].concat();
        let found = audit_rules(Ok(&[rule(4), rule(4), rule(1), vec![4]]));
        assert!(found.seen.starts_with("4 rules, 2 of them for the exit"), "{found:?}");
        let cost = cost_of_a_call();
        assert!(cost > Duration::ZERO && cost < Duration::from_millis(1), "{cost:?}");
    }

    #[test]
    fn without_an_agent_nothing_is_known_of_its_losses() {
        let folder = tempfile::tempdir().unwrap();
        let found = own_losses(Some(folder.path()));
        assert_eq!((found.state, &*found.seen), (State::Unknown, "no agent runs"));
    }
}
