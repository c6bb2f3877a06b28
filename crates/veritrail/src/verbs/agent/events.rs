//! `veritrail agent events`: what `events.sock` tells, on standard output.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use clap::Args;

use crate::agent::Home;
use crate::agent::events::{Class, ContainerNumber, Few, From, Now, SOCKET, Wanted, Word};
use crate::json_line;
use crate::outcome::{Failure, Kind, Outcome};
use crate::run_dir::near;

/// Print events as the trail gets them, as JSON Lines
///
/// Each line is an event as `search --json` prints it, with `next`: the leaf to go on with (--from) after this
/// line. Only what is durable is told. An event waits --join-ms for records beside it; what comes later is a line
/// of its own with the same time and serial. Leaves that are not in the trail any more are a line
/// {"gap":{"first":N,"last":N,"reason":"..."}}.
///
/// Without --follow it ends when all that is durable now has been told; with it, when the agent stops. Exit
/// status 1: nothing was found. 3: no agent, or you may not read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail agent events --follow
  veritrail agent events --follow --type DM_EVENT --device root | jq .records[0].fields
  veritrail agent events --from 0 --class integrity
  veritrail agent events --follow --from 1042 --heartbeat 10
  printf '{\"type\":\"DM_EVENT\"}\\n' | nc -U /run/veritrail/events.sock")]
pub(crate) struct EventsArgs {
    /// Events with a record of this type (name or number); may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Events about this device: MAJOR:MINOR, or its name
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Events of this container
    #[arg(long, value_name = "CONTID")]
    contid: Option<u64>,
    /// Events that a rule with this key reported
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Events of this class; may be given several times
    #[arg(long, value_name = "CLASS", value_enum)]
    class: Vec<Class>,
    /// Begin with this leaf, or `now` [default: with --follow now, else 0]
    #[arg(long, value_name = "LEAF", value_parser = leaf)]
    from: Option<From>,
    /// Wait for more at the end
    #[arg(long, short)]
    follow: bool,
    /// Print a line after so many seconds even if nothing has come
    #[arg(long, value_name = "SECONDS")]
    heartbeat: Option<u64>,
    /// How long an event waits for records beside it [default: 100]
    #[arg(long, value_name = "MILLISECONDS")]
    join_ms: Option<u64>,
    /// Ask the agent of this run directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

fn leaf(text: &str) -> Result<From, String> {
    match text.parse() {
        Ok(leaf) => Ok(From::Leaf(leaf)),
        Err(_) if text == "now" => Ok(From::Now(Now::Now)),
        Err(_) => Err("it is the number of a leaf, or `now`".to_owned()),
    }
}

/// The longest line that is believed, in bytes.
const LONGEST: u64 = 64 << 20;

pub(super) fn run(args: &EventsArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let wanted = args.wanted();
    let home = Home::locate(args.run_dir.as_deref())?;
    let path = home.run_dir().join(SOCKET);
    let stream = match near(home.run_dir(), |dir| UnixStream::connect(dir.join(SOCKET))) {
        Ok(stream) => stream,
        Err(error)
            if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused]
                .contains(&error.kind()) =>
        {
            let what = format!("no agent tells events at {}", path.display());
            return Err(Failure::new(Kind::Environment, what).hint(
                "start one (veritrail agent run), or read the trail: veritrail search --json",
            ));
        }
        Err(error) => return Err(broken(&path, error, None)),
    };
    // It may refuse us before it has read what we want; its word tells why.
    let asked = json_line::say(&stream, &wanted);
    let mut reader = BufReader::new(&stream);
    let mut line = Vec::new();
    let mut found = false;
    let mut next = None;
    loop {
        line.clear();
        let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line);
        read.map_err(|error| broken(&path, error, next))?;
        if line.is_empty() {
            let error = asked.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
            return Err(broken(&path, error, next));
        }
        match serde_json::from_slice::<Word>(&line) {
            Ok(Word::Error(why)) => {
                return Err(
                    Failure::new(Kind::Environment, "the agent tells no events").because(why)
                );
            }
            Ok(Word::End { .. }) => {
                return Ok(if found { Outcome::Good } else { Outcome::No });
            }
            Ok(Word::Gap { .. } | Word::Heartbeat { .. }) => {}
            Err(_) => {
                found = true;
                next = serde_json::from_slice::<Next>(&line).ok().map(|line| line.next);
            }
        }
        out.write_all(&line)?;
        if reader.buffer().is_empty() {
            out.flush()?;
        }
    }
}

#[derive(serde::Deserialize)]
struct Next {
    next: u64,
}

fn broken(path: &std::path::Path, error: io::Error, next: Option<u64>) -> Failure {
    let what = format!("{} tells no more", path.display());
    let failure = Failure::new(Kind::Io, what).because(error);
    match next {
        Some(next) => failure.hint(format!("go on with --from {next}")),
        None => failure,
    }
}

impl EventsArgs {
    fn wanted(&self) -> Wanted {
        let few = |list: &[Class]| (!list.is_empty()).then(|| Few::Many(list.to_vec()));
        let begin = if self.follow { From::Now(Now::Now) } else { From::Leaf(0) };
        Wanted {
            r#type: (!self.types.is_empty()).then(|| Few::Many(self.types.clone())),
            device: self.device.clone(),
            contid: self.contid.map(ContainerNumber::Number),
            key: self.key.clone(),
            class: few(&self.class),
            from_leaf: self.from.unwrap_or(begin),
            follow: Some(self.follow),
            heartbeat: self.heartbeat,
            join_ms: self.join_ms,
        }
    }
}
