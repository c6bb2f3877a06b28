//! Which container an event belongs to, and the CONTAINER_ID records that say so.

use record::contid::{LONGEST_LIST, lists};
use record::units::ContId;
use record::write::Body;
use record::{Line, RecordType};

use super::{Confidence, Packet, Record};
use crate::tasks::{Process, Tasks};

/// The container of a process at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// It, or that nobody had labelled the process.
    pub contid: ContId,
    /// Others that it may have been, where that cannot be told.
    pub or: Vec<ContId>,
    /// How sure it is: `Inferred` where it had no label, and was in a container's control group.
    pub confidence: Confidence,
}

impl Attribution {
    /// Nobody knows.
    pub const UNKNOWN: Attribution =
        Attribution { contid: ContId::UNSET, or: Vec::new(), confidence: Confidence::Unknown };

    /// The container of whoever had number `pid` in that span, in ns since boot: a stamp of the audit log
    /// is that of a tick before its event.
    ///
    /// It always answers; [`Tasks::has_heard`] says whether to wait. What is asked too early is `Late`.
    /// `in_group` is the container of a control group, by its inode number.
    #[must_use]
    pub fn of(
        tasks: &Tasks,
        pid: u32,
        from_ns: u64,
        to_ns: u64,
        in_group: impl Fn(u64) -> Option<ContId>,
    ) -> Attribution {
        let to_ns = to_ns.max(from_ns);
        let mut found: Vec<ContId> = Vec::new();
        let (mut is_certain, mut is_sure, mut any) = (tasks.has_heard(to_ns), true, false);
        let mut is_inferred = false;
        // Who has no label and is in a container's group was there before it was labelled, or ended
        // before it could be.
        let mut of_group = |process: &Process, contid: ContId, at: u64| {
            let group = (!contid.is_set()).then(|| in_group(process.cgroup(at)?)).flatten();
            is_inferred |= group.is_some();
            group.unwrap_or(contid)
        };
        for (process, began_ns, surely) in tasks.holders(pid, from_ns, to_ns) {
            any = true;
            is_sure &= surely;
            // It was set in that span: nobody knows on which side of it the event is.
            for at in [to_ns, from_ns] {
                match process.contid(at) {
                    Some((contid, of_then)) => {
                        let contid = of_group(process, contid, at.max(began_ns));
                        is_certain &= of_then || at < to_ns;
                        if !found.contains(&contid) {
                            found.push(contid);
                        }
                    }
                    None => is_sure = false,
                }
            }
        }
        if !any {
            // It has ended, and its last records came after it.
            let last = tasks.last_holder(pid, to_ns);
            let last = last.and_then(|last| Some((last, last.contid(to_ns)?.0)));
            found.extend(last.map(|(last, contid)| of_group(last, contid, to_ns)));
            is_certain = false;
        }
        let mut found = found.into_iter();
        let (Some(contid), true) = (found.next(), is_sure) else { return Attribution::UNKNOWN };
        let or: Vec<ContId> = found.collect();
        let confidence = match (or.is_empty(), is_certain) {
            (false, _) => Confidence::Ambiguous,
            (true, _) if is_inferred => Confidence::Inferred,
            (true, true) => Confidence::Certain,
            (true, false) => Confidence::Late,
        };
        Attribution { contid, or, confidence }
    }

    /// All that it may be.
    fn ids(&self) -> Vec<ContId> {
        std::iter::once(self.contid).chain(self.or.iter().copied()).collect()
    }

    /// Whether there is a container to name.
    fn names_one(&self) -> bool {
        self.contid.is_set() || self.or.iter().any(|id| id.is_set())
    }
}

/// Whom an audit event is about (reference, section 4, "When CONTAINER_ID is attached").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concerned {
    /// The process that did it: `pid=` of a SYSCALL, URINGOP or DM_CTRL, or who sent a user message.
    pub subject: Option<u32>,
    /// The processes it was done to, `opid=` of OBJ_PID, each once.
    pub targets: Vec<u32>,
    /// The packet that it is, of a network namespace that the record does not name.
    pub packet: Option<Packet>,
    /// The process of a record that stands alone and gets no CONTAINER_ID: of SECCOMP, AVC, ANOM_ABEND, as the
    /// kernel patches have it. Whoever makes them is known all the same.
    pub alone: Option<u32>,
    /// It is about a device, in a thread of the kernel that stands for nobody.
    pub device: bool,
}

/// Targets of one event that are looked at.
const TARGETS: usize = 1024;

impl Concerned {
    /// Reads the records of an event.
    #[must_use]
    pub fn of<'a, 'l: 'a>(lines: impl IntoIterator<Item = &'a Line<'l>>) -> Concerned {
        let mut concerned = Concerned::default();
        for line in lines {
            let number = |name: &[u8]| {
                let value = line.fields().find_value(name)?;
                str::from_utf8(value.text()).ok()?.parse::<u32>().ok()
            };
            match line.effective_type() {
                RecordType::SYSCALL | RecordType::URINGOP => {
                    concerned.subject = number(b"pid").or(concerned.subject);
                }
                RecordType::DM_CTRL => concerned.subject = concerned.subject.or(number(b"pid")),
                // The kernel writes its sender in front of what it says itself.
                kind if kind.is_user_message() => {
                    concerned.subject = concerned.subject.or(number(b"pid"));
                }
                RecordType::OBJ_PID => {
                    let target = number(b"opid").filter(|pid| !concerned.targets.contains(pid));
                    if concerned.targets.len() < TARGETS {
                        concerned.targets.extend(target);
                    }
                }
                RecordType::NETFILTER_PKT => {
                    let [source, destination] = [b"saddr", b"daddr"].map(|name| {
                        let value = line.fields().find_value(name)?;
                        str::from_utf8(value.text()).ok()?.parse().ok()
                    });
                    concerned.packet = Some(Packet { source, destination });
                }
                RecordType::DM_EVENT => concerned.device = true,
                // And AppArmor's.
                RecordType::SECCOMP
                | RecordType::AVC
                | RecordType::ANOM_ABEND
                | RecordType(1500..=1507) => {
                    concerned.alone = concerned.alone.or(number(b"pid"));
                }
                _ => {}
            }
        }
        concerned
    }

    /// Whether nobody is to be found out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Concerned::default()
    }
}

/// Who made a container under a grant ([`Containers::maker`](super::Containers::maker)).
pub type Maker<'m> = &'m dyn Fn(ContId) -> Option<ContId>;

/// The records to write beside an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// CONTAINER_ID: targets, then the subject.
    pub records: Vec<Record>,
    /// How sure the least sure of them is.
    pub confidence: Confidence,
    /// The container of a packet, where it is one alone and certain.
    pub sole: Option<ContId>,
    /// By what it was found out, `VT_VIA`, where not by the process.
    via: Option<&'static str>,
}

impl Labelled {
    /// The containers of subject and targets; none where there is nothing to say. `find` is asked for
    /// each process once, `maker` for who made a container under a grant.
    #[must_use]
    pub fn of_tasks(
        concerned: &Concerned,
        mut find: impl FnMut(u32) -> Attribution,
        maker: Maker<'_>,
    ) -> Option<Labelled> {
        let mut labelled = Labelled::empty(None);
        for pid in &concerned.targets {
            labelled.push(&find(*pid), Some(&format!("opid:{pid}")), maker);
        }
        if let Some(subject) = concerned.subject {
            let reference = (!labelled.records.is_empty()).then_some("subject");
            labelled.push(&find(subject), reference, maker);
        }
        labelled.unless_empty()
    }

    /// The containers in a packet's network namespace, the one that came last first.
    #[must_use]
    pub fn of_network(
        ids: &[ContId],
        confidence: Confidence,
        maker: Maker<'_>,
    ) -> Option<Labelled> {
        let mut labelled = Labelled::empty(Some("netns"));
        labelled.list(ids, None, confidence, maker);
        labelled.sole = match ids {
            [id] if confidence == Confidence::Certain => Some(*id),
            _ => None,
        };
        labelled.unless_empty()
    }

    /// The containers that use a device.
    #[must_use]
    pub fn of_device(ids: &[ContId], confidence: Confidence, maker: Maker<'_>) -> Option<Labelled> {
        let mut labelled = Labelled::empty(Some("device"));
        labelled.list(ids, None, confidence, maker);
        labelled.unless_empty()
    }

    /// The container of whoever asked a server of ours, which knows the label and not who made it.
    #[must_use]
    pub fn of_reader(contid: ContId, confidence: Confidence) -> Option<Labelled> {
        let mut labelled = Labelled::empty(None);
        labelled.list(&[contid], None, confidence, &|_| None);
        labelled.unless_empty()
    }

    fn empty(via: Option<&'static str>) -> Labelled {
        Labelled { records: Vec::new(), confidence: Confidence::Certain, sole: None, via }
    }

    fn unless_empty(self) -> Option<Labelled> {
        (!self.records.is_empty()).then_some(self)
    }

    fn push(&mut self, found: &Attribution, reference: Option<&str>, maker: Maker<'_>) {
        // That nobody knows is said too: a blank stands for no container.
        if found.names_one() || found.confidence == Confidence::Unknown {
            self.list(&found.ids(), reference, found.confidence, maker);
        }
    }

    fn list(
        &mut self,
        ids: &[ContId],
        reference: Option<&str>,
        confidence: Confidence,
        maker: Maker<'_>,
    ) {
        let chain = |id: &ContId| std::iter::once(*id).chain(maker(*id)).collect::<Vec<_>>();
        let chains: Vec<Vec<ContId>> = ids.iter().map(chain).collect();
        for list in lists(chains.iter().map(Vec::as_slice), LONGEST_LIST) {
            let body = Body::of_words(format_args!("contid={list}"));
            let body = match reference {
                Some(reference) => body.word("VT_REF", reference),
                None => body,
            };
            let body = match confidence {
                Confidence::Certain => body,
                _ => body.word("VT_CONF", confidence.word()),
            };
            let body = match self.via {
                Some(via) => body.word("VT_VIA", via),
                None => body,
            };
            self.records.push(("CONTAINER_ID", body));
            if rank(confidence) > rank(self.confidence) {
                self.confidence = confidence;
            }
        }
    }
}

fn rank(confidence: Confidence) -> u8 {
    match confidence {
        Confidence::Certain => 0,
        Confidence::Late => 1,
        Confidence::Inferred => 2,
        Confidence::Ambiguous => 3,
        Confidence::Unknown => 4,
    }
}
