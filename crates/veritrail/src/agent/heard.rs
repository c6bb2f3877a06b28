//! An event of the audit stream: its lines as they came, and what decides where they go.

use record::dispatch::is_of_daemon;
use record::stored::Origin;
use record::value::Value;
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
    /// It tells of audit's own rules or settings.
    pub(super) changes_rules: bool,
    /// Messages as `type=NAME msg=` and the bytes of the kernel.
    pub(super) lines: Vec<Vec<u8>>,
}

/// What one record says of its event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) class: Class,
    is_foreign: bool,
    pid: Option<u32>,
    owner: Option<Owner>,
    changes_rules: bool,
}

/// A record: how its line came, and the line without its end.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) origin: Origin,
    pub(super) told: Told,
    pub(super) line: Vec<u8>,
}

impl Told {
    /// By what the kernel writes first: a user's own text stands behind it.
    pub(super) fn of(line: &Line<'_>) -> Told {
        let kind = line.effective_type();
        let (mut pid, mut auid, mut uid) = (None, None, None);
        let mut class = class(kind);
        if kind == RecordType::SYSCALL {
            for field in line.fields() {
                match field.key {
                    b"pid" => pid = pid.or(Some(field.value)),
                    b"auid" => auid = auid.or(Some(field.value)),
                    b"uid" => uid = uid.or(Some(field.value)),
                    b"key" => {
                        if field.value.text() != b"(null)" {
                            class = Class::Keyed;
                        }
                        break;
                    }
                    _ => {}
                }
            }
        } else if kind.is_user_message() {
            [pid, auid, uid] =
                [&b"pid"[..], b"auid", b"uid"].map(|key| line.fields().find_value(key));
            // A checkpoint of ours is on its way to audit's log; here it would make another one.
            let is_checkpoint =
                || memchr::memmem::find(line.body(), trail::anchors::MARK.as_bytes()).is_some();
            pid = pid.filter(|_| kind == RecordType(1121) && is_checkpoint());
        }
        let number = |value: Value<'_>| str::from_utf8(value.text()).ok()?.parse::<u32>().ok();
        let owner = || Some(Owner { auid: number(auid?)?, uid: number(uid?)? });
        Told {
            class,
            is_foreign: line.node().is_some() || is_of_daemon(line.record_type()),
            pid: pid.and_then(number),
            owner: owner(),
            changes_rules: kind == RecordType::CONFIG_CHANGE,
        }
    }
}

impl Heard {
    /// A message of netlink that is no record.
    pub(super) fn no_record(line: Vec<u8>) -> Heard {
        let (class, lines) = (Class::Rest, vec![line]);
        Heard {
            id: None,
            is_foreign: false,
            origin: Origin::Netlink,
            class,
            pid: None,
            owner: None,
            changes_rules: false,
            lines,
        }
    }

    /// The event of these records.
    pub(super) fn of(id: EventId, parts: Vec<Part>) -> Heard {
        let mut heard = Heard {
            id: Some(id),
            is_foreign: false,
            origin: Origin::File,
            class: Class::Rest,
            pid: None,
            owner: None,
            changes_rules: false,
            lines: Vec::with_capacity(parts.len()),
        };
        for Part { origin, told, line } in parts {
            // A file's line ends where it ends; in what the kernel wrote anything may stand.
            if origin == Origin::Netlink || memchr::memchr2(b'\n', 0, &line).is_some() {
                heard.origin = Origin::Netlink;
            }
            heard.is_foreign |= told.is_foreign;
            heard.class = heard.class.min(told.class);
            heard.owner = heard.owner.or(told.owner);
            heard.pid = told.pid.or(heard.pid);
            heard.changes_rules |= told.changes_rules;
            heard.lines.push(line);
        }
        if heard.is_foreign {
            // Processes of another machine are none of ours.
            (heard.id, heard.pid) = (None, None);
        }
        heard
    }

    /// How many bytes it holds, about.
    pub(super) fn bytes(&self) -> usize {
        self.lines.iter().map(|line| line.len() + size_of::<Vec<u8>>()).sum()
    }
}

/// How much a record of a type matters at least (design section 4, Priorities): a system call that a rule
/// has a key for matters more.
fn class(kind: RecordType) -> Class {
    match kind {
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
        _ => Class::Rest,
    }
}

#[cfg(test)]
impl Heard {
    /// The event of these records, as netlink brings them.
    pub(super) fn of_netlink(lines: &[&str]) -> Heard {
        let part = |line: &&str| {
            let told = Told::of(&Line::parse(line.as_bytes()).unwrap());
            Part { origin: Origin::Netlink, told, line: line.as_bytes().to_vec() }
        };
        Heard::of(EventId { millis: 1000, serial: 2 }, lines.iter().map(part).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_record_decides() {
        let syscall = "type=SYSCALL msg=audit(1.000:2): arch=c000003e syscall=16 pid=77 key=";
        let keyed = format!("{syscall}\"watch\"");
        let silent = format!("{syscall}(null)");
        let control = "type=DM_CTRL msg=audit(1.000:2): module=verity op=ctr ppid=1 pid=77";
        for (lines, class, pid) in [
            (&[] as &[&str], Class::Rest, None),
            (&[&silent], Class::Rest, Some(77)),
            (&[&keyed, "type=CWD msg=audit(1.000:2): cwd=\"/\""], Class::Keyed, Some(77)),
            (&[control, &silent], Class::Integrity, Some(77)),
            (&["type=INTEGRITY_DATA msg=audit(1.000:2): pid=1"], Class::Integrity, None),
            (&["type=USER msg=audit(1.000:2): pid=1 msg='key=1'"], Class::Rest, None),
        ] {
            let heard = Heard::of_netlink(lines);
            assert_eq!((heard.class, heard.pid), (class, pid), "{lines:?}");
        }
    }

    #[test]
    fn what_this_kernel_did_not_number_is_foreign() {
        let of = |line: &str| {
            let told = Told::of(&Line::parse(line.as_bytes()).unwrap());
            let part = Part { origin: Origin::File, told, line: line.into() };
            Heard::of(EventId { millis: 1000, serial: 2 }, vec![part])
        };
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
