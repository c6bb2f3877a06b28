//! Device mapper records (Linux 6.12, `drivers/md/dm-audit.c`).

use super::kinds::{Dev, Or};
use super::view;
use crate::place::{Place, Position};
use crate::value::Value;
use crate::violation::{CtrlOp, EventOp, Module, Violation};

view! {
    /// A mapping was made or taken away. A failed construction is two records, the
    /// failure and the destruction that cleans up.
    DmCtrl<'a> (DM_CTRL) {
        /// The target.
        module: Or<'a, Module> = "module",
        /// Made or taken away.
        op: Or<'a, CtrlOp> = "op",
        /// The mapped device.
        dev: Dev = "dev",
        /// `success`, or the target's own words.
        error_msg: Value<'a> = "error_msg",
        /// Whether it succeeded.
        res: bool = "res",
    } task
}

view! {
    /// A target found that data is not what was promised.
    DmEvent<'a> (DM_EVENT) {
        /// The target.
        module: Or<'a, Module> = "module",
        /// What it found.
        op: Or<'a, EventOp> = "op",
        /// The device that `sector` counts on: verity's data device, integrity's
        /// mapped device, the device below a crypt one (the crypt one before 6.8).
        dev: Dev = "dev",
        /// Where, in the unit of `op`; none for the device as a whole. See
        /// [`DmEvent::place`].
        sector: Option<u64> = "sector",
        /// Always failure.
        res: bool = "res",
    }
}

impl DmEvent<'_> {
    /// Where it happened, in its unit; `None` for an `op` whose unit nobody knows.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let position = match (self.op.known(), self.sector) {
            (_, None) => Position::Whole,
            (Some(op), Some(number)) => op.position(number),
            (None, Some(_)) => return None,
        };
        Some(Place { device: self.dev.device(), position })
    }

    /// What was violated; `None` for an `op` that is not known.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        Some(Violation { op: self.op.known()?, place: self.place()? })
    }
}
