//! Programs in the kernel that tell of processes (BPF): what began, ran another program, ended,
//! changed its namespaces; and that keep the audit container id of each.
//!
//! ```text
//!  programs.bpf.c ── one ring ──▶ Reader ── raw ─▶ wire ─▶ Event
//!        ├────────── failures ──▶ Counters      (what found no room, by program)
//!        └── labels of tasks ◀──▶ Labels        (set by pidfd, inherited in the kernel)
//! ```
//!
//! [`Programs::load`] needs rights (CAP_BPF, CAP_PERFMON; CAP_SYS_ADMIN before 5.8), what it returns can
//! be given to another process as descriptors ([`Shared`]), and that process needs none.
//! The sources under `src/bpf` that end in `.c` and `.h` are GPL-2.0-only OR BSD-2-Clause, since
//! they run in the kernel.

mod clock;
mod counters;
mod labels;
mod load;
mod pins;
mod program;
mod ring;
mod shared;
mod tracepoint;
mod wire;

pub use clock::{Asked, ClockCall, Moment};
pub use counters::{Counters, Failures};
pub use labels::{Label, Labels, UNSET};
pub use load::{Programs, Report, State, Wanted};
pub use pins::{Pins, is_bpffs, pinned, unpin};
pub use program::{Program, Statistics};
pub use ring::{Read, Reader};
pub use shared::{Opened, Shared};
pub use wire::{Entered, Event, Malformed, Packet, Task};
