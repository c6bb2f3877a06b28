//! `veritrail agent forward`: the trail to a syslog server.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use host::sandbox::{Capabilities, keep_capabilities};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::config::{Config, default_trail};
use crate::forward::Forwarder;
use crate::outcome::{Failure, Kind, Outcome};

/// Send every leaf of the trail to a syslog server, in the foreground, for a service manager
///
/// To the server of `[forward]` of the configuration, over TLS, as RFC 5424 messages that are counted by octets
/// (RFC 5425), one for each line, in order. What the server has is known by leaf, also after a restart or a kill:
/// everything comes at least once, and what comes twice has the same leaf and line. While the server is away the
/// trail keeps what is to be sent. Without that section it ends at once with status 0.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail agent forward
  veritrail agent forward --trail ./trail --config ./veritrail.toml
  veritrail agent status --json | jq .forward")]
pub(crate) struct ForwardArgs {
    /// Send this trail instead of /var/log/veritrail
    #[arg(long, value_name = "DIR")]
    trail: Option<PathBuf>,
    /// Read this configuration instead of /etc/veritrail/veritrail.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: &ForwardArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let config = Config::load(args.config.as_deref())?;
    let Some(server) = config.forward() else {
        writeln!(out, "nothing is forwarded: the configuration has no forward.server")?;
        return Ok(Outcome::Good);
    };
    let lacks = |error: std::io::Error| {
        Failure::new(Kind::Environment, "cannot give up rights").because(error)
    };
    keep_capabilities(Capabilities::empty()).map_err(lacks)?;
    let trail = match &args.trail {
        Some(trail) => trail.clone(),
        None => default_trail()?,
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let address = format!("{}:{}", server.host, server.port);
    let forwarder = Forwarder::new(server, trail, &config.forward_state(), stop)?;
    writeln!(out, "ready: to {address}")?;
    out.flush()?;
    // It may be that no manager listens.
    let _ = host::notify::ready();
    forwarder.run().map(|()| Outcome::Good)
}
