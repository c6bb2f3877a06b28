//! What goes out of the agent and onto a machine: installation, package, numbers, syslog. With the real peers:
//! dpkg, systemd, promtool, curl, rsyslog.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod forward;
mod install;
mod metrics;
