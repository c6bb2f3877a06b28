//! What is known of an event, as far as its records say: what rules are compared with.

use record::fields::Field as Said;
use record::value::Value as Text;
use record::view::{ContainerId, View};
use record::{Line, RecordType};

/// A fact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fact<T> {
    /// It is this.
    Known(T),
    /// The event has none: a message has no system call. Nothing matches it, `!=` neither.
    Absent,
    /// Its records do not say.
    #[default]
    Unknown,
}

impl<T: Copy> Fact<T> {
    /// The fact, if it is known.
    #[must_use]
    pub fn known(self) -> Option<T> {
        match self {
            Fact::Known(fact) => Some(fact),
            Fact::Absent | Fact::Unknown => None,
        }
    }

    fn of(fact: Option<T>) -> Self {
        fact.map_or(Fact::Unknown, Fact::Known)
    }
}

/// A file that a system call named or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// As it is recorded: what the call was given, or found.
    pub name: Fact<Text<'a>>,
    /// `u64::MAX` where nothing was found.
    pub inode: u64,
    /// Major and minor number of the device that it lies on.
    pub device: (u32, u32),
    /// Of the device that it is.
    pub is_device: (u32, u32),
    /// Type and permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its security label.
    pub label: Fact<&'a [u8]>,
}

impl Name<'_> {
    /// What the kernel has of a name where nothing was found.
    pub const NOTHING: Self = Self {
        name: Fact::Unknown,
        inode: u64::MAX,
        device: (0, 0),
        is_device: (0, 0),
        mode: 0,
        uid: 0,
        gid: 0,
        label: Fact::Absent,
    };
}

/// Files of a call that are looked at; no call of Linux 6.18 names more than six.
const MOST_NAMES: usize = 12;

/// What is known of an event.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The record's type, where a message is meant.
    pub kind: Fact<u32>,
    /// `AUDIT_ARCH_*`
    pub arch: Fact<u32>,
    /// The system call's number.
    pub call: Fact<u32>,
    /// The low halves of its first four arguments.
    pub arguments: Fact<[u32; 4]>,
    /// What it returned, its low half.
    pub exit: Fact<u32>,
    /// Whether that is no error.
    pub success: Fact<bool>,
    /// `personality(2)`
    pub personality: Fact<u32>,
    /// The process.
    pub pid: Fact<u32>,
    /// Its parent.
    pub ppid: Fact<u32>,
    /// Its login uid; `u32::MAX` where none was set.
    pub auid: Fact<u32>,
    /// Of its session; `u32::MAX` where there is none.
    pub session: Fact<u32>,
    /// uid, euid, suid, fsuid.
    pub uids: [Fact<u32>; 4],
    /// gid, egid, sgid, fsgid.
    pub gids: [Fact<u32>; 4],
    /// Its further groups, which no record has.
    pub groups: Fact<&'a [u32]>,
    /// The program.
    pub exe: Fact<Text<'a>>,
    /// Its security label.
    pub label: Fact<&'a [u8]>,
    /// The directory that names begin in.
    pub folder: Fact<Text<'a>>,
    /// Whether names and the program are where they say, with no link on the way and no second name:
    /// then two paths that differ are two files.
    pub resolved: bool,
    /// The family of the address that a call was given.
    pub family: Fact<u32>,
    /// The flags of openat2(2), which its arguments only point to.
    pub open_flags: Fact<u32>,
    /// The audit container identifier; `u64::MAX` where there is none.
    pub container: Fact<u64>,
    /// The container that this one was made by, whose rules are its too.
    pub made_by: Option<u64>,
    names: [Name<'a>; MOST_NAMES],
    count: usize,
    /// Whether there were more, or fewer than the call has.
    incomplete: bool,
}

impl Default for Facts<'_> {
    fn default() -> Self {
        Self {
            kind: Fact::Unknown,
            arch: Fact::Unknown,
            call: Fact::Unknown,
            arguments: Fact::Unknown,
            exit: Fact::Unknown,
            success: Fact::Unknown,
            personality: Fact::Unknown,
            pid: Fact::Unknown,
            ppid: Fact::Unknown,
            auid: Fact::Unknown,
            session: Fact::Unknown,
            uids: [Fact::Unknown; 4],
            gids: [Fact::Unknown; 4],
            groups: Fact::Unknown,
            exe: Fact::Unknown,
            label: Fact::Unknown,
            folder: Fact::Unknown,
            resolved: false,
            family: Fact::Unknown,
            open_flags: Fact::Unknown,
            container: Fact::Unknown,
            made_by: None,
            names: [Name::NOTHING; MOST_NAMES],
            count: 0,
            incomplete: true,
        }
    }
}

impl<'a> Facts<'a> {
    /// What the records of an event of a system call say. What no record says of one that has a
    /// SYSCALL record is absent where the kernel would have said it.
    #[must_use]
    pub fn of_call(lines: impl IntoIterator<Item = Line<'a>>) -> Self {
        let mut facts = Self::default();
        let mut items = None;
        for line in lines {
            match line.record_type() {
                RecordType::SYSCALL => items = facts.read_call(&line),
                RecordType::PATH => facts.read_path(&line),
                RecordType::CWD => {
                    facts.folder = Fact::of(line.fields().find_value(b"cwd"));
                }
                RecordType::SOCKADDR => facts.read_address(&line),
                // OPENAT2
                RecordType(1337) => {
                    let flags = line.fields().find_value(b"oflag");
                    facts.open_flags = Fact::of(flags.and_then(|flags| octal(flags.text())));
                }
                RecordType::CONTAINER_ID => {
                    // A rule asks for the container of whoever did it.
                    let of = ContainerId::read(&line).ok().filter(ContainerId::is_of_subject);
                    if let Some(id) = of.and_then(|of| of.contid.direct().next()) {
                        facts.container = Fact::Known(id.0);
                    }
                }
                _ => {}
            }
        }
        facts.incomplete = facts.incomplete || items != Some(facts.count);
        facts
    }

    /// What a single record says of the task that it is about.
    #[must_use]
    pub fn of_message(line: &Line<'a>) -> Self {
        let mut facts =
            Self { kind: Fact::Known(line.effective_type().0.into()), ..Self::default() };
        for field in line.fields() {
            facts.read_task(&field);
        }
        facts
    }

    /// The files, in the kernel's order.
    #[must_use]
    pub fn names(&self) -> &[Name<'a>] {
        self.names.get(..self.count).unwrap_or_default()
    }

    /// Whether these are all.
    #[must_use]
    pub fn has_all_names(&self) -> bool {
        !self.incomplete
    }

    /// One file more.
    pub fn push_name(&mut self, name: Name<'a>) {
        match self.names.get_mut(self.count) {
            Some(place) => {
                *place = name;
                self.count += 1;
            }
            None => self.incomplete = true,
        }
    }

    /// All files are there.
    pub fn names_are_complete(&mut self) {
        self.incomplete = false;
    }

    /// The SYSCALL record; gives how many files there are.
    fn read_call(&mut self, line: &Line<'a>) -> Option<usize> {
        // The kernel says these only where there is something to say.
        self.personality = Fact::Known(0);
        self.exit = Fact::Absent;
        self.success = Fact::Absent;
        self.family = Fact::Absent;
        self.incomplete = false;
        let mut arguments = [0_u32; 4];
        let mut seen = 0;
        let mut items = None;
        for field in line.fields() {
            let text = field.value.text();
            match field.key {
                b"arch" => self.arch = Fact::of(hex(text)),
                b"syscall" => self.call = Fact::of(decimal(text)),
                b"per" => self.personality = Fact::of(hex(text)),
                b"success" => self.success = Fact::Known(text == b"yes"),
                b"exit" => self.exit = Fact::of(signed(text)),
                b"a0" | b"a1" | b"a2" | b"a3" => {
                    let at = usize::from(field.key.get(1).map_or(0, |digit| digit - b'0'));
                    if let (Some(place), Some(value)) = (arguments.get_mut(at), hex(text)) {
                        *place = value;
                        seen |= 1 << at;
                    }
                }
                b"items" => items = decimal(text).and_then(|items| usize::try_from(items).ok()),
                _ => self.read_task(&field),
            }
        }
        if seen == 0xf {
            self.arguments = Fact::Known(arguments);
        }
        if self.label == Fact::Unknown {
            self.label = Fact::Absent;
        }
        items
    }

    fn read_task(&mut self, field: &Said<'a>) {
        let text = field.value.text();
        match field.key {
            b"pid" => self.pid = Fact::of(decimal(text)),
            b"ppid" => self.ppid = Fact::of(decimal(text)),
            b"auid" => self.auid = Fact::of(decimal(text)),
            b"ses" => self.session = Fact::of(decimal(text)),
            b"uid" => self.uids[0] = Fact::of(decimal(text)),
            b"euid" => self.uids[1] = Fact::of(decimal(text)),
            b"suid" => self.uids[2] = Fact::of(decimal(text)),
            b"fsuid" => self.uids[3] = Fact::of(decimal(text)),
            b"gid" => self.gids[0] = Fact::of(decimal(text)),
            b"egid" => self.gids[1] = Fact::of(decimal(text)),
            b"sgid" => self.gids[2] = Fact::of(decimal(text)),
            b"fsgid" => self.gids[3] = Fact::of(decimal(text)),
            b"exe" if text == b"(null)" => self.exe = Fact::Absent,
            b"exe" => self.exe = Fact::Known(field.value),
            b"subj" => self.label = Fact::Known(text),
            _ => {}
        }
    }

    fn read_path(&mut self, line: &Line<'a>) {
        let mut name = Name::NOTHING;
        for field in line.fields() {
            let text = field.value.text();
            match field.key {
                b"name" if text == b"(null)" => name.name = Fact::Absent,
                b"name" => name.name = Fact::Known(field.value),
                b"inode" => name.inode = wide(text).unwrap_or(u64::MAX),
                b"dev" => name.device = device(text).unwrap_or_default(),
                b"rdev" => name.is_device = device(text).unwrap_or_default(),
                b"mode" => name.mode = octal(text).unwrap_or_default(),
                b"ouid" => name.uid = decimal(text).unwrap_or_default(),
                b"ogid" => name.gid = decimal(text).unwrap_or_default(),
                b"obj" => name.label = Fact::Known(text),
                _ => {}
            }
        }
        self.push_name(name);
    }

    fn read_address(&mut self, line: &Line<'a>) {
        // Hexadecimal, the family first, in the order of the machine that made it.
        let digits = line.fields().find_value(b"saddr");
        let byte = |at: usize| {
            let digits = digits?.text().get(at..at + 2)?;
            u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
        };
        self.family = match (byte(0), byte(2)) {
            (Some(first), Some(second)) => Fact::Known(theirs([first, second]).into()),
            _ => Fact::Unknown,
        };
    }
}

#[expect(clippy::host_endian_bytes, reason = "the record is of this machine's kernel")]
fn theirs(bytes: [u8; 2]) -> u16 {
    u16::from_ne_bytes(bytes)
}

fn decimal(text: &[u8]) -> Option<u32> {
    str::from_utf8(text).ok()?.parse().ok()
}

fn wide(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.parse().ok()
}

/// Of 64 bits with a sign, its low half.
fn signed(text: &[u8]) -> Option<u32> {
    let number: i64 = str::from_utf8(text).ok()?.parse().ok()?;
    low(number.cast_unsigned())
}

/// Of 64 bits, its low half.
fn hex(text: &[u8]) -> Option<u32> {
    low(u64::from_str_radix(str::from_utf8(text).ok()?, 16).ok()?)
}

fn octal(text: &[u8]) -> Option<u32> {
    u32::from_str_radix(str::from_utf8(text).ok()?, 8).ok()
}

fn low(number: u64) -> Option<u32> {
    u32::try_from(number & u64::from(u32::MAX)).ok()
}

/// Major and minor number, in hexadecimal.
fn device(text: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = str::from_utf8(text).ok()?.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    Some((number(major)?, number(minor)?))
}
