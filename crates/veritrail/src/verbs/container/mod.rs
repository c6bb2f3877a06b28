//! `veritrail container`: which container a process is in, and which containers there are.

mod list;
mod top;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::{Args, Subcommand};
use engine::containers::{Description, LONGEST_TEXT};
use record::contid::parse_filter;
use record::units::ContId;
use rustix::io::Errno;

use super::trail::print_json;
use crate::agent::{self, ContainerQuestion, Home, Registration, Told};
use crate::outcome::{Failure, Kind, Outcome};

/// The verbs of `veritrail container`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Set(SetArgs),
    Get(GetArgs),
    List(list::ListArgs),
    Top(top::TopArgs),
    Run(RunArgs),
}

/// Give a process a container identifier
///
/// All that it starts from now on has the identifier too, and every event of theirs says so (CONTAINER_ID). Who
/// asks needs CAP_AUDIT_CONTROL in the initial user namespace; the process may not have children or several
/// threads yet. The same as writing the number to proc/PID/audit_containerid in the agent's tree. What is
/// asked for is in the trail before this ends, refused or not (CONTAINER_OP).
///
/// Exit status 1: refused. 3: no agent, or this kernel cannot label processes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sleep 60 & veritrail container set $! 123456
  veritrail container set 4711 123456 --name web
  echo 123456 > /run/veritrail/fs/proc/$!/audit_containerid")]
pub(crate) struct SetArgs {
    /// The process
    pid: u32,
    /// Its identifier: a number of 64 bits, but 18446744073709551615 (unset)
    #[arg(value_parser = contid)]
    contid: ContId,
    /// What the container is called
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Ask the agent of this run directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

/// Say which container a process is in
///
/// Prints its identifier, or `unset`. Exit status 1 where it has none, or has ended.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail container get 4711
  veritrail container get $$ --json")]
pub(crate) struct GetArgs {
    /// The process, or a thread
    pid: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Ask the agent of this run directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

/// Run a command as a container of its own
///
/// The command takes this process's place, with the identifier; it starts when that is on record. Nothing else
/// is shut off from it: that is for runtimes (see `veritrail oci-hook`).
///
/// Exit status: the command's; 126 where it cannot be run, 127 where it is not there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail container run -- make install
  veritrail container run --contid 123456 --name build -- sh -c 'make && make install'
  veritrail search --contid 123456")]
pub(crate) struct RunArgs {
    /// Its identifier [default: one that no container has]
    #[arg(long, value_name = "CONTID", value_parser = contid)]
    contid: Option<ContId>,
    /// What the container is called
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Ask the agent of this run directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

fn contid(text: &str) -> Result<ContId, String> {
    parse_filter(text.as_bytes()).ok_or_else(|| {
        "it is a number from 0 to 18446744073709551614: decimal, 0x and hexadecimal, or 0 and octal"
            .to_owned()
    })
}

impl Verb {
    /// Does it.
    pub(crate) fn run(&self, out: &mut dyn Write) -> Result<Outcome, Failure> {
        match self {
            Verb::Set(args) => args.run(),
            Verb::Get(args) => args.run(out),
            Verb::List(args) => args.run(out),
            Verb::Top(args) => args.run(out),
            Verb::Run(args) => args.run(),
        }
    }
}

impl SetArgs {
    fn run(&self) -> Result<Outcome, Failure> {
        let name = self.name.clone();
        let description =
            name.map(|name| Description { name: Some(name), ..Description::default() });
        let home = Home::locate(self.run_dir.as_deref())?;
        let registration = Registration {
            task: self.pid,
            contid: Some(self.contid.0),
            description,
            of_runtime: false,
        };
        register(&home, registration).map(|_| Outcome::Good)
    }
}

impl GetArgs {
    fn run(&self, out: &mut dyn Write) -> Result<Outcome, Failure> {
        let home = Home::locate(self.run_dir.as_deref())?;
        let told = ask(&home, &ContainerQuestion::Get { task: self.pid })?;
        let contid = match told {
            Told::Contid(contid) => ContId(contid),
            Told::Errno(errno) => return Err(refused(self.pid, errno)),
        };
        let set = contid.is_set();
        if self.json {
            print_json(
                out,
                &serde_json::json!({
                    "pid": self.pid,
                    "contid": set.then_some(contid.0),
                }),
            )?;
        } else {
            writeln!(out, "{}", contid.interpreted())?;
        }
        Ok(if set { Outcome::Good } else { Outcome::No })
    }
}

impl RunArgs {
    fn run(&self) -> Result<Outcome, Failure> {
        let home = Home::locate(self.run_dir.as_deref())?;
        let id = uuid::Uuid::new_v4().to_string();
        let description = Description {
            runtime: Some("veritrail".into()),
            id: Some(id),
            name: self.name.clone(),
            ..Description::default()
        };
        let registration = Registration {
            task: std::process::id(),
            contid: self.contid.map(|contid| contid.0),
            description: Some(description),
            of_runtime: false,
        };
        register(&home, registration)?;
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or_else(|| Failure::new(Kind::Usage, "there is no command to run"))?;
        let error = Command::new(program).args(arguments).exec();
        let status = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
        eprintln!("veritrail: cannot run {}: {error}", program.to_string_lossy());
        Err(Failure::passed_on(status))
    }
}

fn ask(home: &Home, question: &ContainerQuestion) -> Result<Told, Failure> {
    agent::ask_of_container(home, question)?.ok_or_else(|| {
        let what = format!("there is no agent in {}", home.run_dir().display());
        Failure::new(Kind::Environment, what).hint("start one: veritrail agent run")
    })
}

/// Gives a task an identifier; which.
pub(super) fn register(home: &Home, registration: Registration) -> Result<u64, Failure> {
    let task = registration.task;
    if registration.description.as_ref().is_some_and(|said| !said.fits()) {
        let what = format!("what a container is called has at most {LONGEST_TEXT} bytes");
        return Err(Failure::new(Kind::Usage, what));
    }
    match ask(home, &ContainerQuestion::Set(registration))? {
        Told::Contid(contid) => Ok(contid),
        Told::Errno(errno) => Err(refused(task, errno)),
    }
}

/// What the file in the tree would have failed with, in words.
fn refused(pid: u32, errno: i32) -> Failure {
    let errno = Errno::from_raw_os_error(errno);
    let (kind, why, hint) = match errno {
        Errno::SRCH => (Kind::Refused, "there is no such process (any more)", None),
        Errno::INVAL => (
            Kind::Usage,
            "that is no identifier",
            Some("18446744073709551615 stands for `unset`, which cannot be set"),
        ),
        Errno::PERM => (
            Kind::Refused,
            "you may not",
            Some(
                "it takes CAP_AUDIT_CONTROL in the initial user namespace, or a grant of that identifier",
            ),
        ),
        Errno::BUSY => (
            Kind::Refused,
            "it has children, which would stay outside",
            Some("label it before it starts others: veritrail container run -- COMMAND"),
        ),
        Errno::ALREADY => (
            Kind::Refused,
            "it has several threads, or is one",
            Some("label it before it starts them: veritrail container run -- COMMAND"),
        ),
        Errno::XDEV => (
            Kind::Refused,
            "it is not of your container, or is yourself",
            Some("a grant is for processes that a container's manager has started there"),
        ),
        Errno::EXIST => (Kind::Refused, "it is in a container already", None),
        Errno::NOTUNIQ => (Kind::Refused, "the identifier is another container's", None),
        Errno::NOSPC => (
            Kind::Refused,
            "as many containers live under the grant as may",
            Some("see `containers` of `[[containers.grants]]`"),
        ),
        Errno::NOMEM => (Kind::Refused, "there is no room for another container", None),
        Errno::NOPROTOOPT => (
            Kind::Environment,
            "this kernel cannot label processes",
            Some("`veritrail agent status` says what the program `labels` lacks"),
        ),
        Errno::AGAIN => (Kind::Io, "the agent is busy", Some("try again")),
        _ => (Kind::Io, "the label cannot be stored", None),
    };
    let failure =
        Failure::new(kind, format!("process {pid}: {why}")).because(std::io::Error::from(errno));
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
