//! The command line: what was typed, turned into a verb to run.
//!
//! One binary; a link named like a stock tool makes it behave as that tool does
//! for the verbs that exist, exit codes included.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::agent;
use crate::outcome::{Failure, Kind, Outcome};
use crate::served;
use crate::verbs;
use crate::verbs::search::{Clock, Manner};

/// Every integrity violation, caught where it happens and recorded so that it can be trusted
#[derive(Debug, Parser)]
#[command(name = "veritrail", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Verity(Box<verbs::verity::VerityArgs>),
    Search(Box<verbs::search::Arguments>),
    /// What is on record, summed up
    #[command(subcommand)]
    Report(verbs::report::Verb),
    Timeline(verbs::timeline::TimelineArgs),
    /// Tamper-evident trails: verify, prove, check-proof, checkpoint, import, export
    #[command(subcommand)]
    Trail(verbs::trail::Verb),
    /// Block devices, the kernel's and served ones: list them, explain what lies at a place
    #[command(subcommand)]
    Device(verbs::device::Verb),
    Serve(verbs::serve::ServeArgs),
    Scrub(Box<verbs::scrub::ScrubArgs>),
    Rules(verbs::rules::RulesArgs),
    /// Containers: give processes an identifier, list them
    #[command(subcommand)]
    Container(verbs::container::Verb),
    OciHook(verbs::oci_hook::HookArgs),
    /// The agent, which listens to the kernel: run, status
    #[command(subcommand)]
    Agent(verbs::agent::Verb),
    Demo(verbs::demo::DemoArgs),
    Doctor(verbs::doctor::DoctorArgs),
    Completions(verbs::completions::CompletionsArgs),
    Man(verbs::completions::ManArgs),
    /// The confined half of a device server, started by the other
    #[command(hide = true)]
    ServeVolume {
        /// The other's process
        keeper: u32,
    },
    /// The agent's process that listens, started by the doorkeeper
    #[command(hide = true)]
    AgentListen(verbs::agent::RunArgs),
    /// The doorkeeper that an agent becomes whose own is gone
    #[command(hide = true)]
    AgentHeir(verbs::agent::RunArgs),
    /// The agent's process that writes the trail, started by the doorkeeper
    #[command(hide = true)]
    AgentWriter(verbs::agent::RunArgs),
}

/// What is to be done, and under which name we were called.
#[derive(Debug)]
pub(crate) struct Command {
    verb: Verb,
    typed: Vec<OsString>,
    called_as: Called,
}

/// The name under which we were called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    Veritrail,
    Veritysetup,
    Ausearch,
    Auditctl,
}

impl Called {
    fn from_name(name: &OsString) -> Called {
        match Path::new(name).file_name().and_then(|n| n.to_str()) {
            Some("veritysetup") => Called::Veritysetup,
            Some("ausearch") => Called::Ausearch,
            Some("auditctl") => Called::Auditctl,
            _ => Called::Veritrail,
        }
    }

    /// The exit status for what was found. veritysetup says 2, "no permission", to data that
    /// does not match, and 4, "wrong device specified", where `status` finds none (veritysetup(8),
    /// return codes; the rest by trying it, version 2.6.1).
    fn outcome_code(self, outcome: Outcome) -> u8 {
        match (self, outcome) {
            (Called::Veritysetup, Outcome::No) => 2,
            (Called::Veritysetup, Outcome::Absent) => 4,
            _ => outcome.code(),
        }
    }

    /// The exit status for a failure. veritysetup says 4, "wrong device specified", where it cannot
    /// open one, 5 where it exists already or is in use, and 1 to everything else.
    fn failure_code(self, failure: &Failure) -> u8 {
        if let Some(status) = failure.status() {
            return status;
        }
        match (self, failure.io_kind()) {
            (
                Called::Veritysetup,
                Some(ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::InvalidInput),
            ) => 4,
            (Called::Veritysetup, Some(ErrorKind::AlreadyExists | ErrorKind::ResourceBusy)) => 5,
            // ausearch has one status for all that is not an event.
            (Called::Veritysetup | Called::Ausearch, _) => 1,
            // So has auditctl.
            (Called::Auditctl, _) => 255,
            (Called::Veritrail, _) => failure.kind.code(),
        }
    }

    /// The exit status for a command line that cannot be understood.
    fn usage_code(self) -> u8 {
        match self {
            Called::Veritysetup | Called::Ausearch => 1,
            Called::Auditctl => 255,
            Called::Veritrail => Kind::Usage.code(),
        }
    }
}

/// Turns the arguments into a command, or into the exit status of `--help`, `--version`
/// or a usage error (which is printed here).
pub(crate) fn parse(mut args: Vec<OsString>) -> Result<Command, ExitCode> {
    let called_as = args.first().map_or(Called::Veritrail, Called::from_name);
    let typed = args.clone();
    let verb = match called_as {
        Called::Veritrail => {
            if args.get(1).is_some_and(|verb| verb == "search") {
                verbs::search::spell_out(&mut args[2..]);
            }
            Cli::try_parse_from(args).map(|cli| cli.verb)
        }
        Called::Veritysetup => alone("veritysetup", args).map(|args| Verb::Verity(Box::new(args))),
        Called::Ausearch => {
            verbs::search::spell_out(&mut args[1..]);
            alone("ausearch", args).map(|args| Verb::Search(Box::new(args)))
        }
        Called::Auditctl => {
            Ok(Verb::Rules(verbs::rules::RulesArgs::of_auditctl(args.split_off(1))))
        }
    };
    verb.map(|verb| Command { verb, typed, called_as }).map_err(|error| {
        // clap chooses the stream; a closed one is nobody's loss.
        let _ = error.print();
        ExitCode::from(if error.use_stderr() { called_as.usage_code() } else { 0 })
    })
}

/// A verb's arguments as those of a program of its own, which without any says how it is used.
fn alone<A: Args>(name: &'static str, args: Vec<OsString>) -> Result<A, clap::Error> {
    let program =
        clap::Command::new(name).version(env!("CARGO_PKG_VERSION")).arg_required_else_help(true);
    let mut matches = A::augment_args(program).try_get_matches_from(args)?;
    A::from_arg_matches_mut(&mut matches)
}

/// Does what a command line asks for, as if it had been typed behind `veritrail`.
pub(crate) fn execute(args: &[impl AsRef<OsStr>], out: &mut dyn Write) -> Result<Outcome, Failure> {
    let typed = std::iter::once("veritrail".as_ref()).chain(args.iter().map(AsRef::as_ref));
    let command = parse(typed.map(OsStr::to_owned).collect()).map_err(|_| {
        let words: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
        Failure::new(Kind::Usage, format!("`{}` is no command", words.join(" ")))
    })?;
    command.run(out)
}

impl Command {
    /// Does it.
    pub(crate) fn run(&self, out: &mut dyn Write) -> Result<Outcome, Failure> {
        match &self.verb {
            Verb::Verity(args) => args.run(self.called_as, &self.typed, out),
            Verb::Search(args) => {
                let manner = match self.called_as {
                    Called::Ausearch => Manner::Ausearch,
                    Called::Veritrail | Called::Veritysetup | Called::Auditctl => Manner::Own,
                };
                args.run(manner, &Clock::read(), out)
            }
            Verb::Report(verb) => verb.run(&Clock::read(), out),
            Verb::Timeline(args) => verbs::timeline::run(args, out),
            Verb::Trail(verb) => verb.run(out),
            Verb::Device(verb) => verb.run(out),
            Verb::Agent(verb) => verb.run(&self.typed, out),
            Verb::Serve(args) => verbs::serve::run(args, out),
            Verb::Scrub(args) => verbs::scrub::run(args, out),
            Verb::Rules(args) => args.run(out),
            Verb::Container(verb) => verb.run(out),
            Verb::OciHook(args) => args.run(out),
            Verb::Demo(args) => verbs::demo::run(args, out),
            Verb::Doctor(args) => verbs::doctor::run(args, out),
            Verb::Completions(args) => verbs::completions::completions(args, out),
            Verb::Man(args) => verbs::completions::man(args),
            Verb::AgentListen(args) => {
                let options = args.of_service(self.typed.get(2..).unwrap_or_default())?;
                agent::listen(options).map(|()| Outcome::Good)
            }
            Verb::AgentHeir(args) => {
                let options = args.of_service(self.typed.get(2..).unwrap_or_default())?;
                agent::run(options, out).map(|()| Outcome::Good)
            }
            Verb::AgentWriter(args) => agent::write(&args.of_service(&[])?).map(|()| Outcome::Good),
            Verb::ServeVolume { keeper } => served::volume::run(*keeper).map(|()| Outcome::Good),
        }
    }

    /// The exit status for what was found.
    pub(crate) fn exit_code(&self, outcome: Outcome) -> ExitCode {
        ExitCode::from(self.called_as.outcome_code(outcome))
    }

    /// The exit status for a failure.
    pub(crate) fn failure_code(&self, failure: &Failure) -> ExitCode {
        ExitCode::from(self.called_as.failure_code(failure))
    }
}
