//! Which events are meant: the query, and whether an event answers it. Pure.
//!
//! The records of an event answer together, as in ausearch: every criterion must
//! hold, each may be met by another record. Where several records of an event give
//! one item (a pid, a command), the last one decides, which in a system call's event
//! is SYSCALL itself; of keys, file names and contexts each one counts.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use record::{Fields, Line, RecordType, Value};

use super::args::Sectors;
use super::time::Millis;
use super::whose::{Meant, is_of};

/// What is searched for. Every criterion that is set has to hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    /// Not before this moment.
    pub(super) from: Option<Millis>,
    /// Not after this moment.
    pub(super) to: Option<Millis>,
    pub(super) serial: Option<u32>,
    /// One of these; empty means any.
    pub(super) nodes: Vec<Vec<u8>>,
    /// One of these; empty means any.
    pub(super) types: Vec<Type>,
    pub(super) numbers: Vec<(Number, u32)>,
    pub(super) users: Users,
    pub(super) gid: Option<u32>,
    pub(super) egid: Option<u32>,
    /// One of the two group criteria suffices.
    pub(super) any_group: bool,
    pub(super) syscall: Option<u32>,
    /// Values of `arch=` that are meant.
    pub(super) arch: Option<u32>,
    pub(super) exit: Option<i64>,
    pub(super) success: Option<bool>,
    pub(super) texts: Vec<(Text, Vec<u8>)>,
    /// Subject and object contexts; with `any_context` one of them suffices.
    pub(super) subject: Option<Vec<u8>>,
    pub(super) object: Option<Vec<u8>>,
    pub(super) any_context: bool,
    /// Texts are compared as a whole.
    pub(super) word: bool,
    pub(super) integrity: Integrity,
    /// One of these.
    pub(super) containers: Option<Vec<Meant>>,
}

/// A record type to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// A name: what records of that kind are about, whatever number they were once written with.
    Known(RecordType),
    /// A number: as the line has it, or as it would have it today.
    Numbered(RecordType),
    /// A name that no table has.
    Named(Vec<u8>),
}

/// Items that are unsigned numbers of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Pid,
    Ppid,
    Session,
}

/// Items that are text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    Comm,
    Exe,
    File,
    Host,
    Key,
    Terminal,
    Uuid,
    Vm,
}

/// A user: by number, or by a name that an enriched record may have too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) number: u32,
    pub(super) name: Option<Vec<u8>>,
}

/// The user criteria.
#[derive(Clone, Debug, Default)]
pub(super) struct Users {
    pub(super) uid: Option<User>,
    pub(super) euid: Option<User>,
    pub(super) auid: Option<User>,
    /// This one as any of the three.
    pub(super) any: Option<User>,
}

/// What one record about a protected device has to say.
#[derive(Clone, Debug, Default)]
pub(super) struct Integrity {
    pub(super) device: Option<Device>,
    pub(super) sector: Option<Sectors>,
    pub(super) op: Option<Vec<u8>>,
}

/// A device, as the records may call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// `MAJ:MIN`, where known: `dev=` of device-mapper records.
    pub(super) number: Option<Vec<u8>>,
    /// A name: `VT_DEV=` in a trail, `dev="sda2"` of integrity and IPE records.
    pub(super) name: Option<Vec<u8>>,
}

impl Query {
    /// Whether a record with this stamp can belong to an answer.
    pub(super) fn in_range(&self, millis: u64) -> bool {
        let millis = i64::try_from(millis).unwrap_or(i64::MAX);
        self.from.is_none_or(|from| from <= millis) && self.to.is_none_or(|to| millis <= to)
    }

    /// Whether the header of `line` alone rules nothing out: serial and node are the
    /// same in all records of an event.
    pub(super) fn header_fits(&self, line: &Line<'_>) -> bool {
        self.serial.is_none_or(|serial| serial == line.serial())
            && (self.nodes.is_empty()
                || line.node().is_some_and(|node| self.nodes.iter().any(|n| n == node)))
    }

    /// Whether `line` has one of the types.
    pub(super) fn type_fits(&self, line: &Line<'_>) -> bool {
        self.types.is_empty()
            || self.types.iter().any(|wanted| match wanted {
                Type::Known(wanted) => *wanted == line.effective_type(),
                Type::Numbered(wanted) => {
                    *wanted == line.record_type() || *wanted == line.effective_type()
                }
                Type::Named(name) => line.type_text().eq_ignore_ascii_case(name),
            })
    }

    /// Whether an event of these records, in order of arrival, is meant.
    pub(super) fn matches(&self, event: &[Line<'_>]) -> bool {
        let Some(first) = event.first() else { return false };
        if !self.in_range(first.stamp().millis)
            || !self.header_fits(first)
            || !event.iter().any(|line| self.type_fits(line))
            || self.containers.as_ref().is_some_and(|meant| !is_of(meant, event))
        {
            return false;
        }
        if !self.needs_facts() {
            return true;
        }
        let device = self.integrity.device.as_ref();
        // The tail stands behind one line and is true of all.
        let named = device.is_some_and(|device| event.iter().any(|line| device.names(line)));
        let mut facts = Facts::default();
        for line in event {
            facts.integrity |= self.integrity.fits(line, named);
            facts.add(self, line);
        }
        let mut tails = event.iter().filter_map(Line::own_tail);
        if let Some(keys) = tails.find_map(|tail| Fields::new(tail).find_value(b"VT_KEY")) {
            // The record has the keys of a rule that covers more in the kernel.
            facts.keys.clear();
            facts.add_keys(&keys.untrusted().unwrap_or_default());
        }
        facts.answer(self)
    }

    /// Whether any criterion looks into the bodies.
    fn needs_facts(&self) -> bool {
        !self.numbers.is_empty()
            || !self.texts.is_empty()
            || self.users.uid.is_some()
            || self.users.euid.is_some()
            || self.users.auid.is_some()
            || self.users.any.is_some()
            || self.gid.is_some()
            || self.egid.is_some()
            || self.syscall.is_some()
            || self.arch.is_some()
            || self.exit.is_some()
            || self.success.is_some()
            || self.subject.is_some()
            || self.object.is_some()
            || self.integrity.is_some()
    }

    /// Whether records of this type can have anything to say: they are many, and long.
    fn asks(&self, kind: RecordType) -> bool {
        match kind {
            RecordType::PROCTITLE | RecordType::EXECVE | RecordType::EOE => false,
            RecordType::PATH | RecordType::CWD => {
                self.object.is_some() || self.texts.iter().any(|(item, _)| *item == Text::File)
            }
            _ => true,
        }
    }

    fn text_fits(&self, wanted: &[u8], found: &[u8]) -> bool {
        if self.word { wanted == found } else { memchr::memmem::find(found, wanted).is_some() }
    }
}

impl Integrity {
    fn is_some(&self) -> bool {
        self.device.is_some() || self.sector.is_some() || self.op.is_some()
    }

    /// Whether this one record says it all, or all but the device where its event is `named` after
    /// that.
    fn fits(&self, line: &Line<'_>, named: bool) -> bool {
        self.device.as_ref().is_none_or(|device| named || device.fits(line))
            && self.sector.is_none_or(|range| {
                number::<u64>(line.fields().find_value(b"sector"))
                    .is_some_and(|sector| (range.first..=range.last).contains(&sector))
            })
            && self.op.as_ref().is_none_or(|op| {
                line.flat_fields().any(|field| field.key == b"op" && field.value.text() == op)
            })
    }
}

impl Device {
    /// Whether veritrail's tail of this line gives its event this name.
    fn names(&self, line: &Line<'_>) -> bool {
        let name = line.own_tail().and_then(|tail| Fields::new(tail).find_value(b"VT_DEV"));
        name.is_some_and(|name| self.name.as_deref() == Some(name.text()))
    }

    fn fits(&self, line: &Line<'_>) -> bool {
        let wanted = match line.effective_type() {
            // PATH has a dev= too, in hexadecimal; a file is not a protected device.
            RecordType::PATH => return false,
            RecordType::DM_CTRL | RecordType::DM_EVENT => &self.number,
            _ => &self.name,
        };
        let found = line.fields().find_value(b"dev");
        found.is_some_and(|dev| wanted.as_deref() == Some(dev.text()))
    }
}

/// The searchable items of one event.
#[derive(Default)]
struct Facts<'a> {
    pid: Option<u32>,
    ppid: Option<u32>,
    session: Option<u32>,
    uid: Identity<'a>,
    euid: Identity<'a>,
    auid: Identity<'a>,
    gid: Option<u32>,
    egid: Option<u32>,
    syscall: Option<u32>,
    arch: Option<u32>,
    exit: Option<i64>,
    success: Option<bool>,
    comm: Option<Cow<'a, [u8]>>,
    exe: Option<Cow<'a, [u8]>>,
    host: Option<Cow<'a, [u8]>>,
    terminal: Option<Cow<'a, [u8]>>,
    uuid: Option<Cow<'a, [u8]>>,
    vm: Option<Cow<'a, [u8]>>,
    cwd: Option<Cow<'a, [u8]>>,
    keys: Vec<Cow<'a, [u8]>>,
    files: Vec<Cow<'a, [u8]>>,
    subjects: Vec<&'a [u8]>,
    objects: Vec<&'a [u8]>,
    integrity: bool,
}

/// A user of a record: the number, and the name that an enriched record gives it.
#[derive(Clone, Copy, Default)]
struct Identity<'a> {
    number: Option<u32>,
    name: Option<&'a [u8]>,
}

impl Identity<'_> {
    fn is(self, wanted: &User) -> bool {
        match (&wanted.name, self.name) {
            (Some(wanted), Some(name)) => wanted == name,
            _ => self.number == Some(wanted.number),
        }
    }
}

impl<'a> Facts<'a> {
    fn add(&mut self, query: &Query, line: &Line<'a>) {
        let kind = line.effective_type();
        if !query.asks(kind) {
            return;
        }
        // An address that is given as a name of the host is better than `?`.
        let mut nameless = kind == RecordType::DAEMON_ACCEPT || kind == RecordType::DAEMON_CLOSE;
        let mut judged = None;
        for field in line.fields() {
            match field.inner() {
                Some(inner) => {
                    for field in inner {
                        self.take(kind, field.key, field.value, true, &mut nameless, &mut judged);
                    }
                }
                None => self.take(kind, field.key, field.value, false, &mut nameless, &mut judged),
            }
        }
        // Kernels that log no res= with these log them only when all went well.
        let granted = matches!(kind, RecordType::LOGIN | RecordType::CONFIG_CHANGE).then_some(true);
        self.success = judged.or(granted).or(self.success);
        if query.users.by_name()
            && let Some(tail) = line.enriched()
        {
            for field in Fields::new(tail) {
                let name = Some(field.value.text());
                match field.key {
                    b"UID" => self.uid.name = name,
                    b"EUID" => self.euid.name = name,
                    b"AUID" => self.auid.name = name,
                    _ => {}
                }
            }
        }
    }

    /// Takes one field in. `nested` fields stand in a user message's `msg='...'`.
    fn take(
        &mut self,
        kind: RecordType,
        key: &'a [u8],
        value: Value<'a>,
        nested: bool,
        nameless: &mut bool,
        judged: &mut Option<bool>,
    ) {
        let text = value.text();
        let user = |to: &mut Identity<'a>| {
            if let Some(number) = number(Some(value)) {
                *to = Identity { number: Some(number), name: None };
            }
        };
        match key {
            // Of a message's two, the sender's pid counts, but the user that it tells of.
            b"pid" if !nested => set(&mut self.pid, number(Some(value))),
            b"ppid" if !nested => set(&mut self.ppid, number(Some(value))),
            b"ses" if !nested => set(&mut self.session, number(Some(value))),
            b"uid" => user(&mut self.uid),
            b"euid" => user(&mut self.euid),
            b"auid" | b"loginuid" if !nested => user(&mut self.auid),
            b"gid" => set(&mut self.gid, number(Some(value))),
            b"egid" => set(&mut self.egid, number(Some(value))),
            b"syscall" | b"uring_op" => set(&mut self.syscall, number(Some(value))),
            b"arch" => set(&mut self.arch, hexadecimal(text)),
            b"exit" if !nested => {
                set(&mut self.exit, std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()));
            }
            b"success" if !nested => *judged = Some(text == b"yes"),
            b"res" | b"result" => *judged = Some(went_well(text)),
            b"" if kind == RecordType::AVC || kind == RecordType::USER_AVC => match text {
                b"denied" => *judged = Some(false),
                b"granted" => *judged = Some(true),
                _ => {}
            },
            b"apparmor" => *judged = Some(text != b"DENIED"),
            b"comm" => self.comm = Some(string(value)),
            b"exe" => self.exe = Some(string(value)),
            b"tty" | b"terminal" => self.terminal = Some(Cow::Borrowed(text)),
            b"vm" => self.vm = Some(string(value)),
            b"uuid" => self.uuid = Some(Cow::Borrowed(text)),
            b"key" => self.add_keys(&string(value)),
            b"hostname" => {
                *nameless = text == b"?";
                self.host = Some(Cow::Borrowed(text));
            }
            b"addr" if *nameless => {
                let port = kind == RecordType::DAEMON_ACCEPT || kind == RecordType::DAEMON_CLOSE;
                let end = if port { memchr::memchr(b':', text) } else { None };
                self.host = Some(Cow::Borrowed(&text[..end.unwrap_or(text.len())]));
            }
            b"saddr" if kind == RecordType::NETFILTER_PKT => self.host = Some(Cow::Borrowed(text)),
            b"saddr" => self.add_address(text),
            b"cwd" if kind == RecordType::CWD => {
                self.cwd.get_or_insert_with(|| string(value));
            }
            b"cwd" => self.cwd = Some(string(value)),
            b"path" | b"file" | b"new-disk" => self.add_file(string(value)),
            b"name" if names_a_file(kind) => self.add_file(string(value)),
            b"subj" | b"scontext" | b"vm-ctx" => self.subjects.push(text),
            b"obj" | b"tcontext" | b"img-ctx" => self.objects.push(text),
            _ => {}
        }
    }

    /// A rule may have several keys, which then stand in one field.
    fn add_keys(&mut self, keys: &[u8]) {
        const SEPARATOR: u8 = 1;
        self.keys.extend(
            keys.split(|b| *b == SEPARATOR).filter(|k| !k.is_empty()).map(|k| k.to_vec().into()),
        );
    }

    /// A relative name is looked for behind the directory it was used in.
    fn add_file(&mut self, name: Cow<'a, [u8]>) {
        let relative = name.starts_with(b"./") || name.starts_with(b"..");
        self.files.push(match &self.cwd {
            Some(cwd) if relative => [cwd, &b"/"[..], &name].concat().into(),
            _ => name,
        });
    }

    /// `saddr=` is a `sockaddr` in hexadecimal, in the byte order of the machine that
    /// wrote it (which is little-endian on every one we know).
    fn add_address(&mut self, text: &[u8]) {
        let Some(bytes) = record::value::decode_hex(text) else { return };
        let Some((family, rest)) = bytes.split_first_chunk::<2>() else { return };
        match u16::from_le_bytes(*family) {
            1 => {
                let path = rest.strip_prefix(b"\0").unwrap_or(rest);
                let end = memchr::memchr(0, path).unwrap_or(path.len());
                self.files.push(path[..end].to_vec().into());
            }
            2 => {
                if let Some(address) = rest.get(2..).and_then(|at| at.first_chunk::<4>()) {
                    let address = Ipv4Addr::from(*address).to_string();
                    self.host = Some(address.into_bytes().into());
                }
            }
            10 => {
                if let Some(address) = rest.get(6..).and_then(|at| at.first_chunk::<16>()) {
                    let address = Ipv6Addr::from(*address).to_string();
                    self.host = Some(address.into_bytes().into());
                }
            }
            _ => {}
        }
    }

    fn answer(&self, query: &Query) -> bool {
        let is = |wanted: &Option<User>, found: Identity<'_>| {
            wanted.as_ref().is_none_or(|wanted| found.is(wanted))
        };
        let users = &query.users;
        let groups = [(query.gid, self.gid), (query.egid, self.egid)];
        let group = |(wanted, found): (Option<u32>, Option<u32>)| wanted == found;
        let groups_fit = if query.any_group {
            groups.into_iter().any(group)
        } else {
            groups.into_iter().all(|pair| pair.0.is_none() || group(pair))
        };
        query.numbers.iter().all(|(item, wanted)| self.number(*item) == Some(*wanted))
            && is(&users.uid, self.uid)
            && is(&users.euid, self.euid)
            && is(&users.auid, self.auid)
            && users
                .any
                .as_ref()
                .is_none_or(|user| [self.uid, self.euid, self.auid].iter().any(|id| id.is(user)))
            && groups_fit
            && query.syscall.is_none_or(|wanted| self.syscall == Some(wanted))
            && query.arch.is_none_or(|wanted| self.arch == Some(wanted))
            && query.exit.is_none_or(|wanted| self.exit == Some(wanted))
            && query.success.is_none_or(|wanted| self.success == Some(wanted))
            && query
                .texts
                .iter()
                .all(|(item, wanted)| self.texts(*item).any(|found| query.text_fits(wanted, found)))
            && self.contexts_fit(query)
            && (self.integrity || !query.integrity.is_some())
    }

    fn contexts_fit(&self, query: &Query) -> bool {
        let one = |wanted: &Option<Vec<u8>>, found: &[&[u8]]| {
            wanted.as_ref().map(|wanted| found.iter().any(|text| query.text_fits(wanted, text)))
        };
        let subject = one(&query.subject, &self.subjects);
        let object = one(&query.object, &self.objects);
        if query.any_context {
            subject == Some(true) || object == Some(true)
        } else {
            subject != Some(false) && object != Some(false)
        }
    }

    fn number(&self, item: Number) -> Option<u32> {
        match item {
            Number::Pid => self.pid,
            Number::Ppid => self.ppid,
            Number::Session => self.session,
        }
    }

    fn texts(&self, item: Text) -> impl Iterator<Item = &[u8]> {
        let one = match item {
            Text::Comm => &self.comm,
            Text::Exe => &self.exe,
            Text::File => &self.cwd,
            Text::Host => &self.host,
            Text::Key => &None,
            Text::Terminal => &self.terminal,
            Text::Uuid => &self.uuid,
            Text::Vm => &self.vm,
        };
        let many: &[_] = match item {
            Text::File => &self.files,
            Text::Key => &self.keys,
            _ => &[],
        };
        one.iter().chain(many).map(|text| &**text)
    }
}

impl Users {
    fn by_name(&self) -> bool {
        [&self.uid, &self.euid, &self.auid, &self.any]
            .into_iter()
            .flatten()
            .any(|user| user.name.is_some())
    }
}

fn set<T>(to: &mut Option<T>, found: Option<T>) {
    if found.is_some() {
        *to = found;
    }
}

/// Text that nobody vouches for. Here an absent one is found by what stands for it,
/// `(null)`, as ausearch does.
fn string(value: Value<'_>) -> Cow<'_, [u8]> {
    value.untrusted().unwrap_or(Cow::Borrowed(value.text()))
}

/// Whether `name=` is the name of a file in records of this type.
fn names_a_file(kind: RecordType) -> bool {
    matches!(kind.0, 1800..=1899) || kind == RecordType::PATH || kind == RecordType::AVC
}

/// `res=` is a number in kernel records, a word in those of programs.
fn went_well(text: &[u8]) -> bool {
    let failed = text.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"fail"));
    !failed && !matches!(text, b"0" | b"no")
}

/// A decimal number, -1 meaning the largest.
fn number<T: TryFrom<u64> + Unset>(value: Option<Value<'_>>) -> Option<T> {
    match value?.text() {
        b"-1" => Some(T::UNSET),
        text => digits(text),
    }
}

/// Only the one spelling that records have: digits without sign and leading zeros, so
/// that a search for the bytes of a number finds every field that has it.
pub(super) fn digits<T: TryFrom<u64>>(text: &[u8]) -> Option<T> {
    if text.is_empty() || text.len() > 20 || (text[0] == b'0' && text.len() > 1) {
        return None;
    }
    let number = text.iter().try_fold(0u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        sum.checked_mul(10)?.checked_add(digit.into())
    })?;
    T::try_from(number).ok()
}

/// What -1 stands for.
trait Unset {
    const UNSET: Self;
}

impl Unset for u32 {
    const UNSET: u32 = u32::MAX;
}

impl Unset for u64 {
    const UNSET: u64 = u64::MAX;
}

fn hexadecimal(text: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}
