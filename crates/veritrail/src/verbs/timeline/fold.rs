//! Slews of a time daemon, many an hour, as one row with totals. Pure.

use record::view::NtpValue;

use super::gather::{Change, Who};

/// A row of the timeline: one change, or a daemon's slews between two others.
#[derive(Clone, Debug)]
pub(super) struct Row<'a> {
    pub(super) first: &'a Change,
    pub(super) last: &'a Change,
    pub(super) count: u64,
    pub(super) totals: Vec<Total>,
}

/// What became of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) op: NtpValue,
    pub(super) count: u64,
    /// Before the first.
    pub(super) old: i64,
    /// After the last.
    pub(super) new: i64,
    /// Of the new values: what was asked for in all, where each is a correction.
    pub(super) sum: i128,
}

/// One row for each change, or (`fold`) for each run of slews by the same program.
pub(super) fn rows<'a>(changes: impl IntoIterator<Item = &'a Change>, fold: bool) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    for change in changes {
        let joins = |row: &Row<'_>| {
            fold && change.step == 0
                && row.first.step == 0
                && row.first.node == change.node
                && is_same(&row.first.who, &change.who)
        };
        let row = match rows.last_mut() {
            Some(row) if joins(row) => {
                row.last = change;
                row.count += 1;
                row
            }
            _ => {
                rows.push(Row { first: change, last: change, count: 1, totals: Vec::new() });
                let Some(row) = rows.last_mut() else { continue };
                row
            }
        };
        for value in &change.values {
            let new = i128::from(value.new);
            match row.totals.iter_mut().find(|total| total.op == value.op) {
                Some(total) => {
                    total.count += 1;
                    total.new = value.new;
                    total.sum = total.sum.saturating_add(new);
                }
                None => row.totals.push(Total {
                    op: value.op,
                    count: 1,
                    old: value.old,
                    new: value.new,
                    sum: new,
                }),
            }
        }
    }
    rows
}

/// A daemon that was restarted is the same one.
fn is_same(one: &Who, other: &Who) -> bool {
    one.comm == other.comm && one.exe == other.exe && one.uid == other.uid
}

#[cfg(test)]
mod tests {
    use super::super::gather::Value;
    use super::*;

    fn slew(comm: &str, op: NtpValue, old: i64, new: i64) -> Change {
        let who = Who { comm: Some(comm.as_bytes().to_vec()), ..Who::default() };
        Change { who, values: vec![Value { op, old, new }], ..Change::default() }
    }

    #[test]
    fn slews_of_one_program_are_one_row_until_somebody_else_does_something() {
        let step = Change { step: 5, ..slew("chronyd", NtpValue::Freq, 0, 0) };
        let changes = [
            slew("chronyd", NtpValue::Freq, 0, 10),
            slew("chronyd", NtpValue::Freq, 10, 30),
            slew("chronyd", NtpValue::Tick, 1, 2),
            slew("adjtimex", NtpValue::Freq, 30, 0),
            step.clone(),
            step,
            slew("chronyd", NtpValue::Freq, 0, -4),
        ];
        let folded = rows(&changes, true);
        assert_eq!(folded.iter().map(|row| row.count).collect::<Vec<_>>(), [3, 1, 1, 1, 1]);
        let freq = Total { op: NtpValue::Freq, count: 2, old: 0, new: 30, sum: 40 };
        let tick = Total { op: NtpValue::Tick, count: 1, old: 1, new: 2, sum: 2 };
        assert_eq!(folded[0].totals, [freq, tick]);
        assert_eq!(rows(&changes, false).len(), changes.len());
    }
}
