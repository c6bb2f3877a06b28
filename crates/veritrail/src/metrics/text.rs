//! The page: exposition format 0.0.4, names with their units (docs/formats/metrics.md).

use std::fmt::{self, Write};

use crate::agent::{Container, Forward, ProgramState, SourceState, Status};

/// Builds a page, one family after the other.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.add(format_args!("# HELP veritrail_{name} {help}\n# TYPE veritrail_{name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        self.add(format_args!("veritrail_{name}"));
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            self.add(format_args!("{label}=\"{}\"", Escaped(text)));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        self.add(format_args!(" {value}\n"));
    }

    /// A family of one.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn add(&mut self, text: fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = self.0.write_fmt(text);
    }
}

/// A value of a label. Names of devices are anybody's text.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Devices that are told one by one.
const DEVICES: usize = 1000;

/// Containers that are.
const CONTAINERS: usize = 1000;

/// The page of an agent, or that there is none.
pub(super) fn page(status: Option<&Status>) -> String {
    let mut page = Page::default();
    page.one("up", "gauge", "Whether the agent answers.", u8::from(status.is_some()));
    if let Some(status) = status {
        of_the_agent(&mut page, status);
        of_restarts(&mut page, status);
        of_programs(&mut page, status);
        of_sources(&mut page, status);
        of_devices(&mut page, status);
        of_containers(&mut page, status);
        of_processes(&mut page, status);
        if let Some(extent) = &status.extent {
            page.one(
                "trail_signed_leaves",
                "gauge",
                "Leaves that the checkpoint covers.",
                extent.leaves,
            );
            page.one("trail_size_bytes", "gauge", "Bytes of all segments.", extent.bytes);
            let age = extent.checkpoint_age;
            page.one(
                "trail_checkpoint_age_seconds",
                "gauge",
                "Since the checkpoint was written.",
                age,
            );
        }
        if let Some(forward) = &status.forward {
            of_the_forwarder(&mut page, forward);
        }
    }
    page.0
}

fn of_the_agent(page: &mut Page, status: &Status) {
    page.one(
        "start_time_seconds",
        "gauge",
        "When the agent was started, since 1970.",
        status.started,
    );
    page.one(
        "trail_works",
        "gauge",
        "Whether the trail can be written.",
        u8::from(status.trail_works),
    );
    page.one("trail_entries_total", "counter", "Entries handed in to the trail.", status.entries);
    page.one(
        "trail_lost_entries",
        "gauge",
        "Entries lost at most that no VT_GAP tells of yet.",
        status.lost_entries,
    );
    let inbox = &status.inbox;
    page.one(
        "queue_capacity_bytes",
        "gauge",
        "Room for events that wait for decisions.",
        inbox.capacity,
    );
    page.one(
        "queue_high_water_bytes",
        "gauge",
        "The most bytes that ever waited.",
        inbox.high_water,
    );
    page.family(
        "queue_lost_total",
        "counter",
        "Events that found no room, by what they are about.",
    );
    for (class, lost) in [
        ("integrity", inbox.lost_integrity),
        ("keyed", inbox.lost_keyed),
        ("rest", inbox.lost_rest),
    ] {
        page.sample("queue_lost_total", &[("class", class)], lost);
    }
    page.one(
        "own_events_total",
        "counter",
        "Events of our own calls, not kept.",
        status.own_events,
    );
    let over = &status.passed_over;
    page.family("passed_over_total", "counter", "What was heard and is no violation.");
    for (what, count) in [
        ("foreign_lines", over.foreign_lines),
        ("unreadable_lines", over.unreadable_lines),
        ("unknown_records", over.unknown_records),
        ("spared_lines", over.spared_lines),
    ] {
        page.sample("passed_over_total", &[("what", what)], count);
    }
}

fn of_restarts(page: &mut Page, status: &Status) {
    page.family("restarts_total", "counter", "How often a process was started again.");
    page.sample("restarts_total", &[("process", "agent")], status.restarts);
    page.sample("restarts_total", &[("process", "writer")], status.writer.restarts);
    let answers = u8::from(!status.writer.silent);
    page.one("writer_answers", "gauge", "Whether the writer, and its disk, answer.", answers);
}

fn of_programs(page: &mut Page, status: &Status) {
    let on = || status.programs.iter().filter(|program| program.state != ProgramState::Off);
    page.family("bpf_up", "gauge", "Whether a BPF program is attached.");
    for program in on() {
        let up = u8::from(program.state == ProgramState::Attached);
        page.sample("bpf_up", &[("program", &program.name)], up);
    }
    page.family(
        "bpf_runs_total",
        "counter",
        "Runs, while the kernel counts them (bpf.statistics).",
    );
    for program in on() {
        page.sample("bpf_runs_total", &[("program", &program.name)], program.runs);
    }
    page.family("bpf_run_time_seconds_total", "counter", "Time that they took.");
    for program in on() {
        let (seconds, rest) =
            (program.run_time_ns / 1_000_000_000, program.run_time_ns % 1_000_000_000);
        let time = format_args!("{seconds}.{rest:09}").to_string();
        page.sample("bpf_run_time_seconds_total", &[("program", &program.name)], time);
    }
    page.family("bpf_lost_total", "counter", "Events that a program could not tell.");
    for program in on() {
        page.sample("bpf_lost_total", &[("program", &program.name)], program.lost);
    }
}

fn of_sources(page: &mut Page, status: &Status) {
    page.family(
        "source_up",
        "gauge",
        "Whether a source is heard; sources that are off are not here.",
    );
    let on = || status.sources.iter().filter(|source| source.state != SourceState::Off);
    for source in on() {
        let up = u8::from(source.state == SourceState::Listening);
        page.sample("source_up", &[("source", &source.name)], up);
    }
    page.family("messages_total", "counter", "Messages that came.");
    for source in on() {
        page.sample("messages_total", &[("source", &source.name)], source.messages);
    }
    page.family("events_total", "counter", "Whole events made of messages.");
    for source in on() {
        page.sample("events_total", &[("source", &source.name)], source.events);
    }
    page.family("lost_total", "counter", "Messages lost on the way; what nobody counted is one.");
    for source in on() {
        page.sample("lost_total", &[("source", &source.name)], source.lost);
    }
}

fn of_devices(page: &mut Page, status: &Status) {
    page.one(
        "violations_total",
        "counter",
        "Violations of all devices since the agent knows them.",
        status.violations,
    );
    page.one("devices", "gauge", "Devices that the agent knows.", status.devices.len());
    page.family("device_violations_total", "counter", "Violations of one device.");
    // Two devices of one name, kernel's and ours, have different modules or numbers.
    for device in status.devices.iter().take(DEVICES) {
        let number = device.device.as_deref().unwrap_or("");
        let labels =
            [("device", device.name.as_str()), ("module", &device.module), ("number", number)];
        page.sample("device_violations_total", &labels, device.violations);
    }
}

fn of_containers(page: &mut Page, status: &Status) {
    page.one(
        "over_quota_total",
        "counter",
        "Events that were not kept, over the quota of whose they were.",
        status.over_quota,
    );
    page.one("containers", "gauge", "Containers that live.", status.containers.len());
    let told: Vec<(String, &Container)> = status
        .containers
        .iter()
        .take(CONTAINERS)
        .map(|one| (one.contid.to_string(), one))
        .collect();
    let mut family = |name, help, value: fn(&Container) -> u64| {
        page.family(name, "counter", help);
        for (contid, one) in &told {
            page.sample(name, &[("contid", contid)], value(one));
        }
    };
    family("container_events_total", "Events of a container in the trail.", |one| one.events);
    family("container_trail_bytes_total", "Their bytes, about.", |one| one.bytes);
    family("container_violations_total", "Violations of a container.", |one| one.violations);
    page.family("container_over_quota_total", "counter", "Events of a container over its quota.");
    for (contid, one) in &told {
        for (class, events) in [("keyed", one.over_quota.keyed), ("rest", one.over_quota.rest)] {
            let labels = [("contid", contid.as_str()), ("class", class)];
            page.sample("container_over_quota_total", &labels, events);
        }
    }
}

fn of_the_forwarder(page: &mut Page, forward: &Forward) {
    let works = u8::from(forward.state == "working");
    page.one("forward_up", "gauge", "Whether the syslog server takes the trail.", works);
    page.one(
        "forward_confirmed_leaves_total",
        "counter",
        "Leaves that it has read.",
        forward.confirmed,
    );
    page.one("forward_lag_leaves", "gauge", "Leaves that it has not.", forward.lag_leaves);
    page.one("forward_lag_seconds", "gauge", "How old the first of them is.", forward.lag_seconds);
    page.one(
        "forward_gone_leaves_total",
        "counter",
        "Leaves that retention took first.",
        forward.gone,
    );
}

/// A process of ours, as /proc tells.
struct Process {
    cpu_seconds: f64,
    resident_bytes: u64,
}

impl Process {
    fn read(pid: u32) -> Option<Process> {
        if pid == 0 {
            return None;
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is anybody's text, and ends with the last bracket.
        let rest: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // proc_pid_stat(5): the first of these is field 3.
        let field = |number: usize| rest.get(number - 3)?.parse::<u64>().ok();
        let ticks = field(14)?.checked_add(field(15)?)?;
        // No counter of seconds comes near the bits that a float loses.
        #[allow(clippy::cast_precision_loss)]
        let cpu_seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        let page = u64::try_from(rustix::param::page_size()).ok()?;
        Some(Process { cpu_seconds, resident_bytes: field(24)?.checked_mul(page)? })
    }
}

fn of_processes(page: &mut Page, status: &Status) {
    let processes: Vec<_> =
        [("agent", status.pid), ("doorkeeper", status.doorkeeper), ("writer", status.writer.pid)]
            .into_iter()
            .filter_map(|(name, pid)| Some((name, Process::read(pid)?)))
            .collect();
    page.family("process_cpu_seconds_total", "counter", "Time on a CPU, user and system.");
    for (name, process) in &processes {
        page.sample("process_cpu_seconds_total", &[("process", name)], process.cpu_seconds);
    }
    page.family("process_resident_memory_bytes", "gauge", "Memory that a process has.");
    for (name, process) in &processes {
        page.sample("process_resident_memory_bytes", &[("process", name)], process.resident_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Device;

    #[test]
    fn anybodys_text_stays_within_its_label() {
        let device = Device {
            name: "a\"} 1\n\\".into(),
            device: None,
            module: "verity".into(),
            state: "active".into(),
            violations: 3,
            last_violation: None,
            last_file: None,
        };
        let status = Status { devices: vec![device], ..Status::default() };
        let page = page(Some(&status));
        let line = "veritrail_device_violations_total{device=\"a\\\"} 1\\n\\\\\",module=\"verity\",number=\"\"} 3";
        assert!(page.lines().any(|found| found == line), "{page}");
        for family in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = family.split_once(' ').unwrap();
            assert_eq!(name.ends_with("_total"), kind == "counter", "{family}");
        }
    }

    #[test]
    fn no_agent_is_said_too() {
        assert!(page(None).ends_with("veritrail_up 0\n"));
    }
}
