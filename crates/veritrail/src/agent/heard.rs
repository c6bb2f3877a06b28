//! An event of the audit stream: its lines as they came, and what decides where they go.

use record::dispatch::is_of_daemon;
use record::stored::Origin;
use record::{EventId, Line, RecordType};
use trail::Class;

use super::quota::Owner;

/// A whole event.
#[derive(Debug)]
pub(super) struct Heard {
    /// Its stamp and serial; none for a message that is no record, and where they are not this kernel's.
    pub(super) id: Option<EventId>,
    /// It was numbered by auditd, whose own record it is, or by another machine, whose records auditd
    /// gathers: nothing that is known here is about it.
    pub(super) is_foreign: bool,
    /// How its lines came; decides what may be changed in them.
    pub(super) origin: Origin,
    pub(super) class: Class,
    /// The process that made the system call, where there was one.
    pub(super) pid: Option<u32>,
    /// Who did it, where a system call or a message says so.
    pub(super) owner: Option<Owner>,
    /// Messages as `type=NAME msg=` and the bytes of the kernel.
    pub(super) lines: Vec<Vec<u8>>,
}

impl Heard {
    /// The event of these lines of netlink.
    pub(super) fn new(id: Option<EventId>, lines: Vec<Vec<u8>>) -> Heard {
        Heard::of(id, lines.into_iter().map(|line| (Origin::Netlink, line)).collect())
    }

    /// The event of these lines, and how each came.
    pub(super) fn of(id: Option<EventId>, parts: Vec<(Origin, Vec<u8>)>) -> Heard {
        // A file's line ends where it ends; in what the kernel wrote anything may stand.
        let is_line = |(origin, line): &(Origin, Vec<u8>)| {
            *origin == Origin::File && memchr::memchr2(b'\n', 0, line).is_none()
        };
        let origin = if parts.iter().all(is_line) { Origin::File } else { Origin::Netlink };
        let mut heard = Heard {
            id,
            is_foreign: false,
            origin,
            class: Class::Rest,
            pid: None,
            owner: None,
            lines: parts.into_iter().map(|(_, line)| line).collect(),
        };
        for line in heard.lines.iter().filter_map(|line| Line::parse(line).ok()) {
            if line.node().is_some() || is_of_daemon(line.record_type()) {
                (heard.is_foreign, heard.id) = (true, None);
            }
            heard.class = heard.class.min(class(&line));
            let kind = line.effective_type();
            if heard.owner.is_none() && (kind == RecordType::SYSCALL || kind.is_user_message()) {
                heard.owner = owner(&line);
            }
            // A checkpoint of ours is on its way to audit's log; here it would make another one.
            let checkpoint = line.effective_type() == RecordType(1121)
                && memchr::memmem::find(line.body(), trail::anchors::MARK.as_bytes()).is_some();
            if heard.is_foreign {
                // Processes of another machine are none of ours.
            } else if line.record_type() == RecordType::SYSCALL || checkpoint {
                let pid = line.fields().find_value(b"pid").map(|pid| pid.text());
                heard.pid = pid.and_then(|pid| str::from_utf8(pid).ok()?.parse().ok());
            }
        }
        heard
    }

    /// How many bytes it holds, about.
    pub(super) fn bytes(&self) -> usize {
        self.lines.iter().map(|line| line.len() + size_of::<Vec<u8>>()).sum()
    }
}

/// What stands before a user's own text is the kernel's: the first of a name counts.
fn owner(line: &Line<'_>) -> Option<Owner> {
    let number =
        |key: &[u8]| str::from_utf8(line.fields().find_value(key)?.text()).ok()?.parse().ok();
    Some(Owner { auid: number(b"auid")?, uid: number(b"uid")? })
}

/// How much a record matters (design section 4, Priorities).
pub(super) fn class(line: &Line<'_>) -> Class {
    match line.effective_type() {
        RecordType::DM_CTRL
        | RecordType::DM_EVENT
        | RecordType::TIME_INJOFFSET
        | RecordType::TIME_ADJNTPVAL
        | RecordType::CONTAINER_ID
        | RecordType::CONTAINER_OP
        // IPE, which other numbers of its block have no part in.
        | RecordType(1420..=1422)
        // Integrity: IMA, EVM, fs-verity.
        | RecordType(1800..=1899) => Class::Integrity,
        RecordType::SYSCALL => {
            let key = line.fields().find_value(b"key").map(|key| key.text());
            if key.is_some_and(|key| key != b"(null)") { Class::Keyed } else { Class::Rest }
        }
        _ => Class::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_record_decides() {
        let heard = |lines: &[&str]| {
            Heard::new(None, lines.iter().map(|line| line.as_bytes().to_vec()).collect())
        };
        let syscall = "type=SYSCALL msg=audit(1.000:2): arch=c000003e syscall=16 pid=77 key=";
        let keyed = format!("{syscall}\"watch\"");
        let silent = format!("{syscall}(null)");
        let control = "type=DM_CTRL msg=audit(1.000:2): module=verity op=ctr ppid=1 pid=77";
        for (lines, class, pid) in [
            (&[][..], Class::Rest, None),
            (&["no record"], Class::Rest, None),
            (&[&silent], Class::Rest, Some(77)),
            (&[&keyed, "type=CWD msg=audit(1.000:2): cwd=\"/\""], Class::Keyed, Some(77)),
            (&[control, &silent], Class::Integrity, Some(77)),
            (&["type=INTEGRITY_DATA msg=audit(1.000:2): pid=1"], Class::Integrity, None),
            (&["type=USER msg=audit(1.000:2): pid=1 msg='key=1'"], Class::Rest, None),
        ] {
            let heard = heard(lines);
            assert_eq!((heard.class, heard.pid), (class, pid), "{lines:?}");
        }
    }

    #[test]
    fn what_this_kernel_did_not_number_is_foreign() {
        let id = Some(EventId { millis: 1000, serial: 2 });
        let of = |line: &str| Heard::of(id, vec![(Origin::File, line.as_bytes().to_vec())]);
        for (line, foreign) in [
            ("type=SYSCALL msg=audit(1.000:2): pid=77", false),
            ("node=other type=SYSCALL msg=audit(1.000:2): pid=77", true),
            ("type=DAEMON_START msg=audit(1.000:2): op=start", true),
        ] {
            let heard = of(line);
            let seen = (heard.is_foreign, heard.id.is_none(), heard.origin);
            assert_eq!(seen, (foreign, foreign, Origin::File), "{line}");
            assert!(!foreign || heard.pid.is_none());
        }
        assert_eq!(of("type=USER msg=audit(1.000:2): a\nb").origin, Origin::Netlink);
    }
}
