//! `veritrail oci-hook`: what an OCI runtime runs when it makes a container (runtime-spec, "POSIX-platform
//! Hooks").

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use clap::Args;
use engine::containers::Description;
use serde::Deserialize;

use super::container::register;
use crate::agent::{Home, Registration, cut, described, leave_unregistered};
use crate::outcome::{Failure, Kind, Outcome};

/// Tell the agent of a container that an OCI runtime is making
///
/// For `createRuntime` and `poststop`. Reads the container's state on standard input, and gives its first process
/// an identifier before it runs the container's program: the one that the agent gave it already, --contid, or the
/// first 63 bits of SHA-256 over the runtime's name, unless the container's id is of 64 hexadecimal digits, a zero
/// byte and the id. Waits until that is durable in the trail, but never longer than
/// 2 s: then the container goes on unlabelled and the agent writes a VT_GAP that names it; with --strict it does
/// not go on.
///
/// At `poststop` there is nothing to do: the end of the last process is seen.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  config.json:
    \"hooks\": {\"createRuntime\": [{\"path\": \"/usr/bin/veritrail\", \"args\": [\"veritrail\", \"oci-hook\"]}]}
  podman run --hooks-dir /usr/share/veritrail/hooks.d ...
  veritrail oci-hook <<< '{\"ociVersion\":\"1.0.2\",\"id\":\"web\",\"status\":\"created\",\"pid\":4711,\"bundle\":\"/b\"}'")]
pub(crate) struct HookArgs {
    /// What the runtime is called [default: the process that runs this]
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// The container's identifier, instead of one made of its id
    #[arg(long, value_name = "CONTID")]
    contid: Option<u64>,
    /// Let the container fail that cannot be labelled
    #[arg(long)]
    strict: bool,
    /// Tell the agent of this run directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

/// The state of a container (runtime-spec, "State"), as much of it as is used.
#[derive(Debug, Deserialize)]
struct State {
    id: String,
    status: String,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The longest state that is read, in bytes.
const LONGEST: u64 = 4 << 20;

/// How long a container may be kept waiting.
const PATIENCE: Duration = Duration::from_secs(2);

impl HookArgs {
    pub(crate) fn run(&self, _: &mut dyn Write) -> Result<Outcome, Failure> {
        let mut text = Vec::new();
        std::io::stdin().lock().take(LONGEST).read_to_end(&mut text)?;
        let state: State = serde_json::from_slice(&text).map_err(|error| {
            Failure::new(Kind::Unusable, "standard input is no state of an OCI container")
                .because(error)
                .hint("this is run by a runtime: see --help")
        })?;
        // "creating" since createRuntime, "created" for runtimes that say so early; later it is late.
        if state.pid == 0 || state.status == "stopped" {
            return Ok(Outcome::Good);
        }
        match self.register(&state) {
            Err(failure) if self.strict => Err(failure),
            Err(failure) => {
                // The container matters more than we do.
                failure.print(&mut std::io::stderr().lock());
                Ok(Outcome::Good)
            }
            Ok(()) => Ok(Outcome::Good),
        }
    }

    /// Registers the container, or notes that it could not be.
    fn register(&self, state: &State) -> Result<(), Failure> {
        let home = Home::locate(self.run_dir.as_deref())?;
        let description = self.description(state);
        let registration = Registration {
            task: state.pid,
            contid: self.contid,
            description: Some(description.clone()),
            of_runtime: true,
        };
        let Err(failure) = within(&home, registration) else { return Ok(()) };
        if let Err(unnoted) = leave_unregistered(&home, &description, &failure.to_string()) {
            unnoted.print(&mut std::io::stderr().lock());
        }
        Err(failure)
    }

    fn description(&self, state: &State) -> Description {
        Description {
            runtime: self.runtime.clone().or_else(parent).map(|text| cut(&text)),
            id: Some(cut(&state.id)),
            ..described(&state.annotations)
        }
    }
}

/// The name of the process that runs this.
fn parent() -> Option<String> {
    let parent = rustix::process::getppid()?.as_raw_nonzero();
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Registers it in time, or says why not. What comes too late goes on by itself.
fn within(home: &Home, registration: Registration) -> Result<(), Failure> {
    let (sender, done) = mpsc::channel();
    let home = home.clone();
    std::thread::spawn(move || {
        // Nobody hears it when it is too late.
        let _ = sender.send(register(&home, registration).map(drop));
    });
    done.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let what = format!("the agent did not answer within {} s", PATIENCE.as_secs());
        Err(Failure::new(Kind::Io, what))
    })
}
