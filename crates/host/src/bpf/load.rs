//! Programs into the kernel: all at once, and where that is refused each on its own.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Func;
use libbpf_rs::{
    Link, MapCore, MapHandle, Object, ObjectBuilder, OpenObject, PrintLevel, set_print,
};

use super::labels::{self, Labels};
use super::pins::{self, Folder, Pins};
use super::program::Program;
use super::shared::Shared;
use super::tracepoint::Tracepoints;

/// The object that the build script made.
#[repr(align(8))]
struct Aligned<T: ?Sized>(T);
static OBJECT: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/programs.bpf.o")));

/// What is to be loaded.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// These programs.
    pub programs: Vec<Program>,
    /// Bytes of the ring, made a power of two of at least a page.
    pub ring_bytes: u32,
    /// Whether the kernel is to count runs and their time, of every program of the host, which
    /// costs each run some 50 ns.
    pub statistics: bool,
    /// Where labels stay when these programs end: a folder to be made in bpffs, such as
    /// `/sys/fs/bpf/veritrail`, of whoever loads and nobody else. None: they do not stay.
    pub pins: Option<PathBuf>,
}

impl Default for Wanted {
    fn default() -> Wanted {
        // A thousand processes a second that begin, run a program and end fill half a megabyte.
        Wanted {
            programs: Program::ALL.to_vec(),
            ring_bytes: 4 << 20,
            statistics: false,
            pins: None,
        }
    }
}

/// What became of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Attached,
    /// It does not, and why.
    Missing(String),
    /// Nobody asked for it.
    Off,
}

/// What became of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// In the order of [`Program::ALL`].
    pub programs: Vec<(Program, State)>,
    /// Why runs are not counted, where they should be.
    pub no_statistics: Option<String>,
    /// Whether labels stay when these programs end.
    pub pins: Pins,
}

impl Report {
    /// The programs that run.
    pub fn attached(&self) -> impl Iterator<Item = Program> {
        let attached = self.programs.iter().filter(|(_, state)| *state == State::Attached);
        attached.map(|(program, _)| *program)
    }

    /// The programs that were wanted and do not run, and why.
    pub fn missing(&self) -> impl Iterator<Item = (Program, &str)> {
        self.programs.iter().filter_map(|(program, state)| match state {
            State::Missing(why) => Some((*program, why.as_str())),
            State::Attached | State::Off => None,
        })
    }
}

/// Programs that run. Dropped, they do not any more.
#[derive(Debug, Default)]
pub struct Programs {
    links: Vec<Link>,
    /// What is given away; none where no program runs. The object itself is not kept: its memory is that
    /// of a whole kernel's types.
    shared: Option<Shared>,
    statistics: Option<OwnedFd>,
}

impl Programs {
    /// Loads and attaches what can be had, and says of the others why not.
    ///
    /// Takes CAP_BPF and CAP_PERFMON; for run statistics CAP_SYS_ADMIN.
    #[must_use]
    pub fn load(wanted: &Wanted) -> (Programs, Report) {
        let _said = Said::listen();
        let mut states: Vec<(Program, State)> =
            Program::ALL.map(|program| (program, State::Off)).into();
        let mut programs = Programs::default();
        let asked: Vec<Program> =
            Program::ALL.into_iter().filter(|one| wanted.programs.contains(one)).collect();
        let mut set = |program: Program, state: State| {
            for (_, old) in states.iter_mut().filter(|(of, _)| *of == program) {
                *old = state.clone();
            }
        };
        // Before the first run.
        let mut no_statistics = None;
        if wanted.statistics {
            match count_runs() {
                Ok(fd) => programs.statistics = Some(fd),
                Err(error) => no_statistics = Some(error.to_string()),
            }
        }
        // The system calls are watched only where the functions behind them cannot be: that costs
        // every call of every process.
        let (mut instead, mut able): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|program| program.stands_in_for().is_some());
        let is_free = |program: &mut Program, able: &[Program]| {
            program.stands_in_for().is_none_or(|first| !able.contains(&first))
        };
        let free: Vec<Program> = instead.extract_if(.., |one| is_free(one, &able)).collect();
        able.extend(free);
        let has_labels = able.contains(&Program::Labels);
        let mut pins = Pins::Off;
        let mut folder = wanted.pins.as_deref().filter(|_| has_labels).map(Folder::open);
        let maps = match &mut folder {
            Some(Ok(folder)) => folder.take_maps(),
            _ => Vec::new(),
        };
        let mut loaded = load_some(&able, wanted, &maps);
        // One refused program spoils the object: it is tried without, as often as there are some.
        while let Err((why, Some(refused))) = &loaded
            && able.contains(refused)
        {
            set(*refused, State::Missing(why.clone()));
            for lost in able.iter().filter(|program| program.adds_to() == Some(*refused)) {
                set(*lost, State::Missing(why.clone()));
            }
            able.retain(|program| program != refused && program.adds_to() != Some(*refused));
            let free: Vec<Program> = instead.extract_if(.., |one| is_free(one, &able)).collect();
            able.extend(free);
            loaded = load_some(&able, wanted, &maps);
        }
        match loaded {
            Err((why, _)) => {
                for program in able {
                    set(program, State::Missing(why.clone()));
                }
            }
            Ok(object) => {
                let mut attached = Vec::new();
                let mut running = Vec::new();
                // Programs at one place run in the order in which they came: a child has its label
                // before it is told.
                able.sort_by_key(|program| *program != Program::Labels);
                for program in able {
                    match attach(&object, program, &mut running) {
                        Ok(mut links) => {
                            if program == Program::Labels
                                && let Some(folder) = folder.take()
                            {
                                pins = pin(folder, &object, &mut links);
                            }
                            programs.links.extend(links);
                            attached.push(program);
                            set(program, State::Attached);
                        }
                        Err(why) => set(program, State::Missing(why)),
                    }
                }
                attached.sort();
                match descriptors(&object, &attached) {
                    Ok(shared) => programs.shared = (!attached.is_empty()).then_some(shared),
                    Err(error) => {
                        programs.links.clear();
                        for program in attached {
                            set(program, State::Missing(error.to_string()));
                        }
                    }
                }
            }
        }
        (programs, Report { programs: states, no_statistics, pins })
    }

    /// The descriptors themselves: none where no program runs.
    #[must_use]
    pub fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// Descriptors for whoever reads: none where no program runs.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn share(&self) -> io::Result<Option<Shared>> {
        self.shared.as_ref().map(Shared::try_clone).transpose()
    }
}

fn pin(folder: Result<Folder, String>, object: &Object, links: &mut [Link]) -> Pins {
    let Some(link) = links.first_mut() else { return Pins::Off };
    folder.and_then(|folder| folder.pin(object, link)).unwrap_or_else(Pins::Missing)
}

/// Descriptors of the maps and of these programs.
fn descriptors(object: &Object, programs: &[Program]) -> io::Result<Shared> {
    let map = |name: &str| {
        let map = object.maps().find(|map| map.name() == name);
        map.ok_or(io::ErrorKind::NotFound)?.as_fd().try_clone_to_owned()
    };
    let mut functions = Vec::new();
    for program in programs {
        for function in object.progs().filter(|one| is_of(*program, one.name())) {
            functions.push((*program, function.as_fd().try_clone_to_owned()?));
        }
    }
    let labels = if programs.contains(&Program::Labels) {
        let [labels, aborted, unstored] = labels::MAPS.map(|(name, ..)| map(name));
        Some(Labels::new([labels?, aborted?, unstored?])?)
    } else {
        None
    };
    Ok(Shared { ring: map("events")?, failures: map("failures")?, labels, functions })
}

fn is_of(program: Program, name: &std::ffi::OsStr) -> bool {
    let is_there = |function: &str| match function {
        "veritrail_clock_values" => !has_clocks_of_its_own(),
        "veritrail_clock_values_of" => has_clocks_of_its_own(),
        _ => true,
    };
    program.functions().iter().any(|function| name == *function && is_there(function))
}

/// Whether this kernel has further clocks that are steered (since 6.15): then the function that does
/// it has another name and is told which clock.
fn has_clocks_of_its_own() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let types = Btf::from_vmlinux();
        types.is_ok_and(|types| types.type_by_name::<Func<'_>>("ntp_adjtimex").is_some())
    })
}

/// An object with these programs only, and with these maps instead of new ones of their names; or why not,
/// and which of them the kernel refused.
fn load_some(
    programs: &[Program],
    wanted: &Wanted,
    maps: &[MapHandle],
) -> Result<Object, (String, Option<Program>)> {
    let has_labels = programs.contains(&Program::Labels);
    let prepare = || -> Result<OpenObject, libbpf_rs::Error> {
        let mut object = ObjectBuilder::default().name("veritrail")?.open_memory(&OBJECT.0)?;
        for mut function in object.progs_mut() {
            let wants = programs.iter().any(|program| is_of(*program, function.name()));
            function.set_autoload(wants);
        }
        let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
        let ring = wanted.ring_bytes.clamp(page, 1 << 30).next_power_of_two();
        for mut map in object.maps_mut() {
            if map.name() == "events" {
                map.set_max_entries(ring)?;
            } else if map.name().to_string_lossy().ends_with(".rodata") {
                // `struct settings`. The reader has the other half of the room to come.
                let settings = [u64::from(ring / 2), u64::from(has_labels)];
                map.set_initial_value(zerocopy::IntoBytes::as_bytes(&settings))?;
            } else if pins::is_of_labels(map.name()) {
                map.set_autocreate(has_labels)?;
                if let Some(old) = maps.iter().find(|old| old.name() == map.name()) {
                    map.reuse_fd(old.as_fd())?;
                }
            }
        }
        Ok(object)
    };
    Said::clear();
    prepare()
        .and_then(OpenObject::load)
        .map_err(|error| (Said::because(&error), Said::refused(programs)))
}

/// Attaches the functions of a program, but for those that `running` has, and adds them to it.
fn attach(
    object: &Object,
    program: Program,
    running: &mut Vec<OsString>,
) -> Result<Vec<Link>, String> {
    Said::clear();
    if program.stands_in_for().is_some() {
        return attach_to_calls(object, program);
    }
    let mut links = Vec::new();
    let mut names = Vec::new();
    for function in object.progs_mut().filter(|one| is_of(program, one.name())) {
        let name = function.name().to_owned();
        if !running.contains(&name) {
            links.push(function.attach().map_err(|error| Said::because(&error))?);
            names.push(name);
        }
    }
    running.extend(names);
    if links.is_empty() && !running.iter().any(|name| is_of(program, name)) {
        return Err("the object has no function of it".into());
    }
    Ok(links)
}

/// The calls whose tracepoints functions are attached to; of those that read arguments by the number of these.
const CALLS: [(&str, &[&str]); 4] = [
    ("veritrail_clock_call_1", &["sys_enter_adjtimex"]),
    (
        "veritrail_clock_call_2",
        &["sys_enter_clock_adjtime", "sys_enter_clock_settime", "sys_enter_settimeofday"],
    ),
    (
        "veritrail_clock_called",
        &[
            "sys_exit_adjtimex",
            "sys_exit_clock_adjtime",
            "sys_exit_clock_settime",
            "sys_exit_settimeofday",
        ],
    ),
    ("veritrail_namespaces_called", &["sys_exit_setns", "sys_exit_unshare"]),
];

fn attach_to_calls(object: &Object, program: Program) -> Result<Vec<Link>, String> {
    let tracepoints = Tracepoints::open().map_err(|error| format!("no tracefs: {error}"))?;
    let mut links = Vec::new();
    for function in object.progs_mut().filter(|one| is_of(program, one.name())) {
        let calls = CALLS.iter().find(|(name, _)| function.name() == *name);
        for call in calls.iter().flat_map(|(_, calls)| calls.iter()) {
            let event = tracepoints.event(call).map_err(|error| format!("{call}: {error}"))?;
            // The link takes the descriptor over.
            let link = function.attach_perf_event(event.into_raw_fd());
            links.push(link.map_err(|error| format!("{call}: {}", Said::because(&error)))?);
        }
    }
    Ok(links)
}

/// Has the kernel count runs for as long as the descriptor is open.
fn count_runs() -> io::Result<OwnedFd> {
    #![allow(unsafe_code, reason = "libbpf-rs has no call for it")]
    // SAFETY: it takes a number and touches no memory of ours.
    let fd = unsafe {
        libbpf_rs::libbpf_sys::bpf_enable_stats(libbpf_rs::libbpf_sys::BPF_STATS_RUN_TIME)
    };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the kernel gave it to us just now, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What libbpf says meanwhile, which is where a verifier gives its reason.
struct Said(Option<(PrintLevel, libbpf_rs::PrintCallback)>);

static SAID: Mutex<String> = Mutex::new(String::new());

/// More is not kept.
const MOST_SAID: usize = 16 << 10;

impl Said {
    fn listen() -> Said {
        let keep = |_: PrintLevel, text: String| {
            let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
            if said.len() + text.len() <= MOST_SAID {
                said.push_str(&text);
            }
        };
        Said(set_print(Some((PrintLevel::Warn, keep))))
    }

    fn clear() {
        SAID.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The one of these programs that it was said about: `libbpf: prog 'NAME': ...`.
    fn refused(programs: &[Program]) -> Option<Program> {
        let said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        named(&said, programs)
    }

    /// The error, and the first thing that libbpf said about it.
    fn because(error: &libbpf_rs::Error) -> String {
        let said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        let first = said.lines().next().unwrap_or_default().trim();
        let first = first.strip_prefix("libbpf: ").unwrap_or(first);
        if first.is_empty() { error.to_string() } else { format!("{error} ({first})") }
    }
}

fn named(said: &str, programs: &[Program]) -> Option<Program> {
    let mut names = said.lines().filter_map(|line| {
        let named = |what: &str| Some(line.split_once(what)?.1.split_once('\'')?.0);
        if named("map '").is_some_and(|name| pins::is_of_labels(name.as_ref())) {
            return Some(Program::Labels);
        }
        let name = named("prog '")?;
        programs.iter().copied().find(|program| program.functions().contains(&name))
    });
    names.next()
}

impl Drop for Said {
    fn drop(&mut self) {
        set_print(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refused_program_is_found_in_what_is_said() {
        let said = "libbpf: Error loading vmlinux BTF: -2\n\
                    libbpf: prog 'veritrail_unshare': BPF program load failed: -EPERM\n\
                    libbpf: failed to load object 'veritrail'\n";
        assert_eq!(named(said, &Program::ALL), Some(Program::Namespaces));
        let said = "libbpf: map 'labels': failed to create: -EPERM\n";
        assert_eq!(named(said, &Program::ALL), Some(Program::Labels));
        assert_eq!(named("libbpf: map 'events': failed to create: -EPERM\n", &Program::ALL), None);
        assert_eq!(named("libbpf: prog 'other': x\nprog 'veritrail_", &Program::ALL), None);
        assert_eq!(named("", &Program::ALL), None);
        // Two have this one, and the first of them was refused before.
        let said = "libbpf: prog 'veritrail_packet_told': BPF program load failed: -EPERM\n";
        assert_eq!(named(said, &[Program::Fork, Program::PacketsNft]), Some(Program::PacketsNft));
    }
}
