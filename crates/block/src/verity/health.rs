//! What a verity device has told about itself so far.

/// What a verity device has told about itself since it was opened.
///
/// ```text
///            mismatch            100th mismatch
///   Clean ------------> Corrupted -------------> Saturated
///                        |     ^                  |     ^
///                        +-----+ mismatch         +-----+ mismatch
/// ```
///
/// There is no way back: only closing the device forgets. Nothing else changes at
/// the 100th: reads keep failing and keep being recorded (Linux 6.12,
/// `drivers/md/dm-verity-target.c`, `verity_handle_err`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// No mismatch yet. `dmsetup status` says `V`.
    #[default]
    Clean,
    /// Some; `dmsetup status` says `C` from the first on.
    Corrupted {
        /// How many, 1 to 99.
        mismatches: u32,
    },
    /// A hundred or more; they are no longer counted.
    Saturated,
}

impl Health {
    /// As the kernel has it, `DM_VERITY_MAX_CORRUPTED_ERRS`.
    pub const MAX_CORRUPTED_ERRORS: u32 = 100;

    /// The state after so many mismatches.
    #[must_use]
    pub fn after(mismatches: u64) -> Health {
        match u32::try_from(mismatches) {
            Ok(0) => Health::Clean,
            Ok(mismatches @ 1..Self::MAX_CORRUPTED_ERRORS) => Health::Corrupted { mismatches },
            _ => Health::Saturated,
        }
    }

    /// The state after one more mismatch, and whether this is the moment to
    /// announce `max-corrupted-errors`. It is announced once.
    #[must_use]
    pub fn after_mismatch(self) -> (Health, bool) {
        let count = match self {
            Health::Clean => 1,
            Health::Corrupted { mismatches } => mismatches + 1,
            Health::Saturated => return (Health::Saturated, false),
        };
        if count == Self::MAX_CORRUPTED_ERRORS {
            (Health::Saturated, true)
        } else {
            (Health::Corrupted { mismatches: count }, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hundredth_is_announced_once_and_nothing_is_forgotten() {
        let mut health = Health::Clean;
        let mut announced = Vec::new();
        for mismatch in 1..=250 {
            let (next, announce) = health.after_mismatch();
            health = next;
            if announce {
                announced.push(mismatch);
            }
            assert_eq!(health, Health::after(mismatch));
            assert_ne!(health, Health::Clean);
        }
        assert_eq!((announced, health), (vec![100], Health::Saturated));
    }
}
