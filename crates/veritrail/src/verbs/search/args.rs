//! The arguments of `search`: ausearch's, and ours.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Find events in trails, audit logs and pipes (as ausearch)
///
/// Each option narrows the search: an event is printed, with all its records, when its
/// records together satisfy every option given. Only -m and -n may name several values,
/// of which one has to match. Exit status: 0 found, 1 nothing found.
#[derive(Args, Debug)]
#[command(
    version,
    after_help = "\
Examples:
  veritrail search --op verify-data --device 7:1 --sector 0-99
  veritrail search -m DM_CTRL,DM_EVENT -ts today -i
  veritrail search -if /var/log/audit/audit.log -k time-change -ts yesterday -te now
  veritrail search --trail /srv/trail --contid 123456 --json
  veritrail search --contid web -ts today -sv no -i

Times (-ts, -te): now, recent (10 minutes ago), this-hour, boot, today, yesterday, this-week,
  week-ago, this-month, this-year; mm/dd/yyyy or yyyy-mm-dd and/or hh:mm[:ss], local time;
  also RFC 3339 (2026-11-22T10:00:00Z) and seconds since 1970.

Without --trail or --input a pipe on standard input is read, else /var/log/veritrail.
The long names with one dash that ausearch has (-ts, -if, -ui, ...) are understood."
)]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct Arguments {
    /// Search this trail; may be repeated
    #[arg(long, value_name = "DIR", help_heading = "Where")]
    pub(super) trail: Vec<PathBuf>,
    /// Search this audit log, or audit.log and its rotated files in this directory; - is standard input [-if]
    #[arg(long, value_name = "FILE", help_heading = "Where")]
    pub(super) input: Vec<PathBuf>,
    /// Search the default place even if standard input is a pipe
    #[arg(long, help_heading = "Where", conflicts_with_all = ["trail", "input"])]
    pub(super) input_logs: bool,

    /// Events at or after this time [-ts]
    #[arg(long, num_args = 1..=2, value_names = ["DATE", "TIME"], help_heading = "When")]
    pub(super) start: Vec<String>,
    /// Events at or before this time [-te]
    #[arg(long, num_args = 1..=2, value_names = ["DATE", "TIME"], help_heading = "When")]
    pub(super) end: Vec<String>,

    /// Events with a record of one of these types: names or numbers, any case, or ALL
    #[arg(short, long, value_name = "TYPE,...", help_heading = "What")]
    pub(super) message: Vec<String>,
    /// The event with this serial number
    #[arg(short = 'a', long, value_name = "SERIAL", help_heading = "What")]
    pub(super) event: Option<u32>,
    /// Events of this machine, as node= names it; may be repeated
    #[arg(short, long, value_name = "NAME", help_heading = "What")]
    pub(super) node: Vec<OsString>,
    /// Key of the rule that recorded it
    #[arg(short, long, value_name = "TEXT", help_heading = "What")]
    pub(super) key: Option<OsString>,
    /// File name, working directory or socket path
    #[arg(short, long, value_name = "TEXT", help_heading = "What")]
    pub(super) file: Option<OsString>,
    /// System call, by name (of --arch, else of this machine) or number [-sc]
    #[arg(long, value_name = "NAME", help_heading = "What")]
    pub(super) syscall: Option<String>,
    /// Architecture: x86_64, aarch64, i386, b64, b32
    #[arg(long, value_name = "CPU", help_heading = "What")]
    pub(super) arch: Option<String>,
    /// Exit code of the system call, or the name of its errno
    #[arg(short, long, value_name = "CODE", allow_hyphen_values = true, help_heading = "What")]
    pub(super) exit: Option<String>,
    /// Whether it succeeded [-sv]
    #[arg(long, value_name = "yes|no", help_heading = "What")]
    pub(super) success: Option<Success>,

    /// Process
    #[arg(short, long, value_name = "PID", help_heading = "Who")]
    pub(super) pid: Option<u32>,
    /// Parent process [-pp]
    #[arg(long, value_name = "PID", help_heading = "Who")]
    pub(super) ppid: Option<u32>,
    /// Name of the task
    #[arg(short, long, value_name = "TEXT", help_heading = "Who")]
    pub(super) comm: Option<OsString>,
    /// Path of the program
    #[arg(short = 'x', long, value_name = "TEXT", help_heading = "Who")]
    pub(super) executable: Option<OsString>,
    /// User, by name or number [-ui]
    #[arg(long, value_name = "USER", help_heading = "Who")]
    pub(super) uid: Option<String>,
    /// Effective user [-ue]
    #[arg(long, value_name = "USER", help_heading = "Who")]
    pub(super) uid_effective: Option<String>,
    /// User, effective user or login user [-ua]
    #[arg(long, value_name = "USER", help_heading = "Who")]
    pub(super) uid_all: Option<String>,
    /// Login user; -1 is unset [-ul]
    #[arg(long, value_name = "USER", allow_hyphen_values = true, help_heading = "Who")]
    pub(super) loginuid: Option<String>,
    /// Group, by name or number [-gi]
    #[arg(long, value_name = "GROUP", help_heading = "Who")]
    pub(super) gid: Option<String>,
    /// Effective group [-ge]
    #[arg(long, value_name = "GROUP", help_heading = "Who")]
    pub(super) gid_effective: Option<String>,
    /// Group or effective group [-ga]
    #[arg(long, value_name = "GROUP", help_heading = "Who")]
    pub(super) gid_all: Option<String>,
    /// Login session; -1 is unset
    #[arg(long, value_name = "SESSION", allow_hyphen_values = true, help_heading = "Who")]
    pub(super) session: Option<String>,
    /// Terminal
    #[arg(long, value_name = "TEXT", help_heading = "Who")]
    pub(super) terminal: Option<OsString>,
    /// Remote host name or address [-hn]
    #[arg(long, value_name = "TEXT", help_heading = "Who")]
    pub(super) host: Option<OsString>,
    /// SELinux context of the subject [-su]
    #[arg(long, value_name = "TEXT", help_heading = "Who")]
    pub(super) subject: Option<OsString>,
    /// SELinux context of the object
    #[arg(short, long, value_name = "TEXT", help_heading = "Who")]
    pub(super) object: Option<OsString>,
    /// SELinux context of subject or object [-se]
    #[arg(long, value_name = "TEXT", help_heading = "Who")]
    pub(super) context: Option<OsString>,
    /// UUID of a virtual machine [-uu]
    #[arg(long, value_name = "TEXT", help_heading = "Who")]
    pub(super) uuid: Option<OsString>,
    /// Name of a virtual machine [-vm]
    #[arg(long, value_name = "TEXT", help_heading = "Who")]
    pub(super) vm_name: Option<OsString>,

    /// Protected device: MAJOR:MINOR as dev= has it, or a name (ours)
    #[arg(long, value_name = "MAJ:MIN|NAME", help_heading = "Integrity")]
    pub(super) device: Option<String>,
    /// Number in sector=, or a range A-B, A- or -B of them (ours)
    ///
    /// It is compared as recorded: dm-verity counts data blocks of the data device,
    /// dm-integrity and dm-crypt count 512-byte sectors.
    #[arg(long, value_name = "N|A-B", allow_hyphen_values = true, help_heading = "Integrity")]
    pub(super) sector: Option<Sectors>,
    /// What was done or found, as op= has it: verify-data, integrity-checksum, ctr, ... (ours)
    #[arg(long, value_name = "OP", help_heading = "Integrity")]
    pub(super) op: Option<String>,
    /// Container that was concerned itself, not merely as a parent: its identifier, or what its runtime called it (ours)
    ///
    /// Its name, its runtime's id, or a beginning of that id that no other has. What is searched tells who
    /// that was, and when: another container's events with the same identifier do not count, and a name that
    /// was used again means each of its containers. Where several had it at once nothing is searched, and
    /// they are listed.
    #[arg(long, value_name = "N|NAME", help_heading = "Integrity")]
    pub(super) contid: Option<String>,

    /// Texts have to match as a whole
    #[arg(short, long, help_heading = "How")]
    pub(super) word: bool,
    /// Print the records as they are stored
    #[arg(short, long, help_heading = "Output")]
    pub(super) raw: bool,
    /// Print numbers as names
    #[arg(short, long, help_heading = "Output")]
    pub(super) interpret: bool,
    /// Print one JSON object for each event (ours)
    #[arg(long, help_heading = "Output")]
    pub(super) json: bool,
    /// The same choice by name
    #[arg(long, value_name = "FORMAT", help_heading = "Output",
          conflicts_with_all = ["raw", "interpret", "json"])]
    pub(super) format: Option<Format>,
    /// Stop after the first event
    #[arg(long, help_heading = "Output")]
    pub(super) just_one: bool,
    /// Flush after each event
    #[arg(short, long, help_heading = "Output")]
    pub(super) line_buffered: bool,
    /// Seconds after which an event without an end mark is complete [default: 2; of a trail 10, as records of ours come
    /// later]
    #[arg(long, value_name = "SECONDS", help_heading = "How",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) eoe_timeout: Option<u32>,
}

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// As stored.
    Raw,
    /// A separator, the time, the records.
    Default,
    /// Numbers as names.
    Interpret,
    /// JSON Lines.
    Json,
}

/// The argument of `-sv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Success {
    /// It succeeded.
    Yes,
    /// It failed.
    No,
}

/// An inclusive range of the numbers in `sector=`, in the unit of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sectors {
    pub(super) first: u64,
    pub(super) last: u64,
}

const SECTORS: &str = "a number or a range A-B, A- or -B is needed";

impl std::str::FromStr for Sectors {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Sectors, &'static str> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str, open: u64| match text {
            "" => Ok(open),
            _ => text.parse().map_err(|_| SECTORS),
        };
        if first.is_empty() && last.is_empty() {
            return Err(SECTORS);
        }
        let (first, last) = (number(first, 0)?, number(last, u64::MAX)?);
        if first > last {
            return Err("the range ends before it starts");
        }
        Ok(Sectors { first, last })
    }
}

impl Arguments {
    /// The output format; several switches of it are a usage error.
    pub(super) fn output(&self) -> Result<Format, &'static str> {
        match (self.format, self.raw, self.interpret, self.json) {
            (Some(format), ..) => Ok(format),
            (None, false, false, false) => Ok(Format::Default),
            (None, true, false, false) => Ok(Format::Raw),
            (None, false, true, false) => Ok(Format::Interpret),
            (None, false, false, true) => Ok(Format::Json),
            _ => Err("one of --raw, --interpret and --json at most"),
        }
    }
}

/// ausearch's names of more than one letter behind a single dash.
const SINGLE_DASH: [(&str, &str); 20] = [
    ("-ga", "--gid-all"),
    ("-ge", "--gid-effective"),
    ("-gi", "--gid"),
    ("-hn", "--host"),
    ("-if", "--input"),
    ("-pp", "--ppid"),
    ("-sc", "--syscall"),
    ("-se", "--context"),
    ("-su", "--subject"),
    ("-sv", "--success"),
    ("-te", "--end"),
    ("-tm", "--terminal"),
    ("-ts", "--start"),
    ("-ua", "--uid-all"),
    ("-ue", "--uid-effective"),
    ("-ui", "--uid"),
    ("-ul", "--loginuid"),
    ("-uu", "--uuid"),
    ("-v", "--version"),
    ("-vm", "--vm-name"),
];

/// Rewrites those names to what clap understands. `args` are the words after the verb.
pub(crate) fn spell_out(args: &mut [OsString]) {
    for arg in args {
        if let Some((_, long)) = SINGLE_DASH.iter().find(|(short, _)| arg == short) {
            *arg = (*long).into();
        }
    }
}
