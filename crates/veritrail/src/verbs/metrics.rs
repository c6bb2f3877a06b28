//! `veritrail agent metrics`: the agent's numbers for Prometheus.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::agent::Home;
use crate::config::Config;
use crate::metrics::Server;
use crate::outcome::{Failure, Outcome};

/// Answer Prometheus, in the foreground, for a service manager
///
/// Listens where `[metrics]` of the configuration says, a socket file or a port of the loopback interface, and
/// gives GET /metrics what the agent counts (docs/formats/metrics.md). Without that section it ends at once with
/// status 0. It is a process of its own without capabilities: nothing that a client does reaches the agent.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail agent metrics
  curl --unix-socket /run/veritrail/metrics.sock http://localhost/metrics | promtool check metrics")]
pub(crate) struct MetricsArgs {
    /// Read this configuration instead of /etc/veritrail/veritrail.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask the agent of this run directory instead of /run/veritrail
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

pub(crate) fn run(args: &MetricsArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let config = Config::load(args.config.as_deref())?;
    let Some(listen) = config.metrics() else {
        writeln!(out, "metrics are off: the configuration has no metrics.listen")?;
        return Ok(Outcome::Good);
    };
    let server = Server::bind(&listen, Home::locate(args.run_dir.as_deref())?)?;
    writeln!(out, "ready: {}", server.address())?;
    out.flush()?;
    // It may be that no manager listens.
    let _ = host::notify::ready();
    server.run()
}
