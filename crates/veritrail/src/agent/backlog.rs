//! The kernel's own queue of audit records: nearly full, that is said before something is lost.

/// Whether it was nearly full when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    is_high: bool,
}

/// It is nearly full from this part of its limit on, in hundredths, and not any more below the other.
const HIGH: u64 = 80;
const LOW: u64 = 50;

impl Backlog {
    /// Takes note; whether it has just become nearly full.
    pub(super) fn note(&mut self, waiting: u32, limit: u32) -> bool {
        // A limit of 0 is none.
        let over = |part: u64| limit > 0 && u64::from(waiting) * 100 > u64::from(limit) * part;
        let was_high = self.is_high;
        self.is_high = over(if was_high { LOW } else { HIGH });
        self.is_high && !was_high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_until_it_has_been_low() {
        let mut backlog = Backlog::default();
        let told: Vec<bool> = [0, 80, 81, 100, 70, 90, 50, 81, 0]
            .into_iter()
            .map(|waiting| backlog.note(waiting, 100))
            .collect();
        assert_eq!(told, [false, false, true, false, false, false, false, true, false]);
        assert!(!backlog.note(u32::MAX, 0));
    }
}
