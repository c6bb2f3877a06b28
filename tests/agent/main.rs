//! The agent as a user has it: `agent run`, what the kernel says meanwhile, `agent status`, the tree, and
//! the trail behind it. Auditing is global, so the tests that switch it on run one after the other,
//! with those of other crates too. Devices of the device mapper are in tests/vm.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auditd;
#[path = "../../crates/host/tests/audit/auditing.rs"]
mod auditing;
mod bench;
mod bpf;
mod clock;
mod containers;
mod corrupted;
mod day;
mod dispatched;
mod events;
mod full;
mod grants;
mod groups;
mod holding;
mod inside;
mod lacking;
mod life;
mod losses;
mod many;
mod modes;
mod packets;
mod processes;
mod quotas;
mod reuse;
mod rules;
mod runtimes;
mod sinks;
mod top;
mod uring;
