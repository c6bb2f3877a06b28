//! The kernel's device mapper: which devices there are, their tables and status, and how one is
//! made and taken away.
//!
//! Names, UUIDs and parameters are bytes: the kernel forbids little in them. A device is asked for
//! by its number, and every answer about it tells its name, too: numbers are given again.

pub mod answer;
mod ioctl;
pub mod node;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use zerocopy::IntoBytes;
use zeroize::Zeroizing;

use self::answer::{Malformed, Spec, flag};
use self::ioctl::{Command, Header};

/// Major and minor number.
pub type Number = (u32, u32);

/// The device mapper, open.
#[derive(Debug)]
pub struct Control(File);

/// A device in the list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub device: Number,
    /// Its name.
    pub name: Vec<u8>,
}

/// How a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its number.
    pub device: Number,
    /// Its name.
    pub name: Vec<u8>,
    /// Its UUID, which is any text: `CRYPT-VERITY-…`, `LVM-…`, none at all.
    pub uuid: Vec<u8>,
    /// How often it is open.
    pub open_count: u32,
    /// Whether it can only be read.
    pub read_only: bool,
    /// Whether its requests wait.
    pub suspended: bool,
    /// Whether it is removed when its last user has gone.
    pub deferred_remove: bool,
}

/// A part of a device: one line of its table, or of its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// First 512-byte sector.
    pub start: u64,
    /// How many of them.
    pub length: u64,
    /// `verity`, `crypt`, …
    pub kind: String,
    /// What the kind of target makes of it. What [`Control::table`] gives has zeros in place of
    /// keys, as `dmsetup` has.
    pub params: Vec<u8>,
}

/// A kind of targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetVersion {
    /// Its name.
    pub kind: String,
    /// Its version.
    pub version: (u32, u32, u32),
}

/// Everything about one device, all of it of that same device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// How it is.
    pub info: Info,
    /// Its table.
    pub table: Vec<Target>,
    /// Its status, target by target.
    pub status: Vec<Target>,
}

/// What became of a device that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Now,
    /// It will be, when its last user is.
    Deferred,
}

/// What an answer may take at most, in bytes; a table of 100,000 targets is smaller.
const MOST_BYTES: usize = 16 << 20;

/// What it takes as a rule.
const SOME_BYTES: usize = 16 << 10;

impl Control {
    /// Opens `/dev/mapper/control`; none where this kernel has no device mapper.
    ///
    /// # Errors
    /// Where it must not be opened, or has another version.
    pub fn open() -> io::Result<Option<Self>> {
        let flags = rustix::fs::OFlags::NONBLOCK.bits();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(flags).unwrap_or(0))
            .open("/dev/mapper/control");
        let control = match file {
            Ok(file) => Self(file),
            Err(error) => {
                return match error.raw_os_error() {
                    // No node, or a node of a module that is not there.
                    Some(libc::ENOENT | libc::ENOTDIR | libc::ENXIO | libc::ENODEV) => Ok(None),
                    _ => Err(error),
                };
            }
        };
        control.ask(Command::Version, Question::about_none())?;
        Ok(Some(control))
    }

    /// Every device there is.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn list(&self) -> io::Result<Vec<Listed>> {
        let answer = self.ask(Command::ListDevices, Question::about_none())?;
        answer::list(&answer).map_err(malformed)
    }

    /// How a device is; none if there is no such device (any more).
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn info(&self, device: Number) -> io::Result<Option<Info>> {
        self.ask_info(Question::about(device))
    }

    /// The same of the device of this name.
    ///
    /// # Errors
    /// What the kernel answered, EINVAL for what can be no name.
    pub fn find(&self, name: &[u8]) -> io::Result<Option<Info>> {
        self.ask_info(Question::about_none().named(name)?)
    }

    fn ask_info(&self, question: Question) -> io::Result<Option<Info>> {
        let answer = existing(self.ask(Command::Status, question))?;
        answer.map(|answer| answer::info(&answer).map_err(malformed)).transpose()
    }

    /// The table of a device, with zeros in place of keys; none if there is no such device.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn table(&self, device: Number) -> io::Result<Option<Vec<Target>>> {
        Ok(self.ask_table(device)?.map(|(_, targets)| targets))
    }

    /// The status of each target of a device; none if there is no such device. It does not flush the
    /// device first.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn status(&self, device: Number) -> io::Result<Option<Vec<Target>>> {
        Ok(self.ask_status(device)?.map(|(_, targets)| targets))
    }

    /// Information, table and status of a device, all of them of the same one; none if there is
    /// none (any more), or another one took its number meanwhile.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn mapped(&self, device: Number) -> io::Result<Option<Mapped>> {
        let Some((info, table)) = self.ask_table(device)? else { return Ok(None) };
        let Some((later, status)) = self.ask_status(device)? else { return Ok(None) };
        let same = (&info.name, &info.uuid) == (&later.name, &later.uuid);
        Ok(same.then_some(Mapped { info: later, table, status }))
    }

    fn ask_table(&self, device: Number) -> io::Result<Option<(Info, Vec<Target>)>> {
        // The kernel clears its own copy then.
        let flags = flag::STATUS_TABLE | flag::SECURE_DATA;
        let table = self.ask_targets(device, flags)?;
        Ok(table.map(|(info, mut targets)| {
            targets.iter_mut().for_each(blank_keys);
            (info, targets)
        }))
    }

    fn ask_status(&self, device: Number) -> io::Result<Option<(Info, Vec<Target>)>> {
        self.ask_targets(device, flag::NO_FLUSH)
    }

    fn ask_targets(&self, device: Number, flags: u32) -> io::Result<Option<(Info, Vec<Target>)>> {
        let question = Question::about(device).with_flags(flags);
        let Some(answer) = existing(self.ask(Command::TableStatus, question))? else {
            return Ok(None);
        };
        let info = answer::info(&answer).map_err(malformed)?;
        Ok(Some((info, answer::targets(&answer).map_err(malformed)?)))
    }

    /// The kinds of targets that the kernel has at the moment; modules bring more.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn targets(&self) -> io::Result<Vec<TargetVersion>> {
        let answer = self.ask(Command::ListVersions, Question::about_none())?;
        answer::versions(&answer).map_err(malformed)
    }

    /// The version of one kind of targets, whose module is loaded if need be; none if there is none.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn target(&self, kind: &str) -> io::Result<Option<TargetVersion>> {
        let found = match self
            .ask(Command::TargetVersion, Question::about_none().named(kind.as_bytes())?)
        {
            Ok(answer) => answer::versions(&answer).map_err(malformed)?.into_iter().next(),
            // ENOTTY: before Linux 5.4 one could not ask this way.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY)) => None,
            Err(error) => return Err(error),
        };
        match found {
            Some(found) => Ok(Some(found)),
            None => Ok(self.targets()?.into_iter().find(|target| target.kind == kind)),
        }
    }

    /// Makes a device without a table.
    ///
    /// # Errors
    /// EBUSY where the name or the UUID is taken, EINVAL for what can be none.
    pub fn create(&self, name: &[u8], uuid: &[u8]) -> io::Result<Number> {
        let question = Question::about_none().named(name)?.with_uuid(uuid)?;
        let answer = self.ask(Command::Create, question)?;
        Ok(answer::info(&answer).map_err(malformed)?.device)
    }

    /// Gives a device the table that it works by from its resume on.
    ///
    /// # Errors
    /// What the constructor of a target answered; its words are in the kernel's log only.
    pub fn load(&self, device: Number, table: &[Target], read_only: bool) -> io::Result<()> {
        let flags = if read_only { flag::READ_ONLY } else { 0 } | flag::SECURE_DATA;
        let mut question = Question::about(device).with_flags(flags);
        question.header.target_count = u32::try_from(table.len()).map_err(|_| invalid())?;
        for target in table {
            question.data.extend(specified(target)?);
        }
        self.ask(Command::Load, question).map(drop)
    }

    /// Makes the loaded table the one that the device works by. udev, where it runs, is told that this
    /// is an activation.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn resume(&self, device: Number) -> io::Result<()> {
        let mut question = Question::about(device);
        question.header.event_nr = ACTIVATED;
        self.ask(Command::Suspend, question).map(drop)
    }

    /// Takes a device away; with `deferred`, when its last user has gone.
    ///
    /// # Errors
    /// EBUSY where somebody uses it, ENXIO where there is none.
    pub fn remove(&self, device: Number, deferred: bool) -> io::Result<Removed> {
        let flags = if deferred { flag::DEFERRED_REMOVE } else { 0 };
        let question = Question::about(device).with_flags(flags);
        let answer = self.ask(Command::Remove, question)?;
        let later = answer::info(&answer).map_err(malformed)?.deferred_remove;
        Ok(if later { Removed::Deferred } else { Removed::Now })
    }

    /// Leaves a device be that was to be removed when its last user has gone.
    ///
    /// # Errors
    /// What the kernel answered, ENXIO where there is none.
    pub fn cancel_deferred_remove(&self, device: Number) -> io::Result<()> {
        // struct dm_target_msg: sector u64 | message NUL. It is for the device, not for a target.
        let mut question = Question::about(device);
        question.data.extend(0_u64.as_bytes());
        question.data.extend(b"@cancel_deferred_remove\0");
        self.ask(Command::Message, question).map(drop)
    }

    /// Asks with ever larger buffers until the answer is whole.
    fn ask(&self, command: Command, question: Question) -> io::Result<Zeroizing<Vec<u8>>> {
        let Question { header, data } = question;
        let asked = size_of::<Header>() + data.len();
        let mut bytes = asked.next_power_of_two().max(SOME_BYTES);
        loop {
            let mut buffer = Zeroizing::new(Vec::with_capacity(bytes));
            buffer.extend_from_slice(header.as_bytes());
            buffer.extend_from_slice(&data);
            buffer.resize(bytes, 0);
            ioctl::call(self.0.as_fd(), command, &mut buffer)?;
            if !answer::is_cut(&buffer) {
                return Ok(buffer);
            }
            bytes *= 4;
            if bytes > MOST_BYTES {
                let what = format!("an answer of more than {MOST_BYTES} bytes");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
            }
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What udev's rules are told of a resume (libdevmapper.h): `DM_UDEV_PRIMARY_SOURCE_FLAG`, without which
/// they take it for one of no device mapper's tool and forget the device at the next coldplug, and
/// `DM_UDEV_DISABLE_LIBRARY_FALLBACK_FLAG`. There is no semaphore behind it, so the rules' `dmsetup
/// udevcomplete` finds nobody who waits.
const ACTIVATED: u32 = (0x0040 | 0x0020) << 16;

struct Question {
    header: Header,
    data: Vec<u8>,
}

impl Question {
    fn about_none() -> Self {
        Self { header: Header::new(), data: Vec::new() }
    }

    fn about(device: Number) -> Self {
        let mut question = Self::about_none();
        question.header.dev = pack(device);
        question
    }

    fn with_flags(mut self, flags: u32) -> Self {
        self.header.flags = flags;
        self
    }

    fn named(mut self, name: &[u8]) -> io::Result<Self> {
        if name.is_empty() {
            return Err(invalid());
        }
        put(&mut self.header.name, name)?;
        Ok(self)
    }

    fn with_uuid(mut self, uuid: &[u8]) -> io::Result<Self> {
        put(&mut self.header.uuid, uuid)?;
        Ok(self)
    }
}

/// A text and its NUL.
fn put(field: &mut [u8], text: &[u8]) -> io::Result<()> {
    if text.contains(&0) || text.len() >= field.len() {
        return Err(invalid());
    }
    field[..text.len()].copy_from_slice(text);
    Ok(())
}

/// A target as the kernel takes it: its structure, its parameters, and NULs up to the next one's place.
fn specified(target: &Target) -> io::Result<Vec<u8>> {
    let mut spec =
        Spec { start: target.start, length: target.length, status: 0, next: 0, kind: [0; 16] };
    put(&mut spec.kind, target.kind.as_bytes())?;
    if target.params.contains(&0) {
        return Err(invalid());
    }
    let bytes = (size_of::<Spec>() + target.params.len() + 1).next_multiple_of(8);
    spec.next = u32::try_from(bytes).map_err(|_| invalid())?;
    let mut specified = spec.as_bytes().to_vec();
    specified.extend_from_slice(&target.params);
    specified.resize(bytes, 0);
    Ok(specified)
}

/// `huge_encode_dev` of `linux/kdev_t.h`: minor bits 19..8, major, minor bits 7..0.
fn pack((major, minor): Number) -> u64 {
    u64::from((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

fn unpack(dev: u64) -> Option<Number> {
    let dev = u32::try_from(dev).ok()?;
    Some(((dev & 0xf_ff00) >> 8, (dev & 0xff) | ((dev >> 12) & 0xf_ff00)))
}

/// Writes zeros over keys, of which the kernel tells whoever may ask.
fn blank_keys(target: &mut Target) {
    let zero = |key: &mut [u8]| key.fill(b'0');
    let mut words = target.params.split_mut(|b| *b == b' ');
    match target.kind.as_str() {
        // The second word, unless it names a key in a keyring.
        "crypt" => {
            if let Some(key) = words.nth(1).filter(|key| !key.starts_with(b":") && *key != b"-") {
                zero(key);
            }
        }
        // `internal_hash:ALGORITHM:KEY`; the algorithm has no colon.
        "integrity" => {
            for word in words {
                let names = [&b"internal_hash:"[..], b"journal_crypt:", b"journal_mac:"];
                if names.iter().any(|name| word.starts_with(name))
                    && let Some(key) = word.splitn_mut(3, |b| *b == b':').nth(2)
                {
                    zero(key);
                }
            }
        }
        _ => {}
    }
}

/// None where the kernel knows no such device.
fn existing<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        answer => answer.map(Some),
    }
}

fn malformed(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_packed_as_the_kernel_does() {
        // huge_encode_dev(MKDEV(254, 3)), and a minor of more than eight bits.
        for (device, packed) in [((254, 3), 0xfe03), ((7, 0x12345), 0x1230_0745), ((0, 0), 0)] {
            assert_eq!(pack(device), packed);
            assert_eq!(unpack(packed), Some(device));
        }
        assert_eq!(unpack(1 << 32), None);
    }

    proptest! {
        #[test]
        fn every_number_comes_back(major in 0_u32..1 << 12, minor in 0_u32..1 << 20) {
            prop_assert_eq!(unpack(pack((major, minor))), Some((major, minor)));
        }

        /// The kernel walks from one structure to the next by `next`.
        #[test]
        fn a_table_is_laid_out_for_the_kernel(
            lines in prop::collection::vec(("[a-z-]{1,15}", "[ -~]{0,99}", any::<u64>()), 1..9),
        ) {
            let mut table = Vec::new();
            for (kind, params, start) in &lines {
                let params = params.clone().into_bytes();
                let target = Target { start: *start, length: 8, kind: kind.clone(), params };
                table.extend(specified(&target).unwrap());
            }
            let mut at = 0;
            for (kind, params, start) in lines {
                let (spec, rest) = <Spec as zerocopy::FromBytes>::read_from_prefix(&table[at..]).unwrap();
                prop_assert_eq!((spec.start, spec.length, spec.status), (start, 8, 0));
                prop_assert!(spec.kind.starts_with(kind.as_bytes()) && spec.kind[kind.len()] == 0);
                prop_assert!(rest.starts_with(params.as_bytes()) && rest[params.len()] == 0);
                at += usize::try_from(spec.next).unwrap();
                prop_assert_eq!(at % 8, 0);
            }
            prop_assert_eq!(at, table.len());
        }
    }

    #[test]
    fn what_can_be_no_name_is_refused_before_the_kernel_is_asked() {
        for name in [&b""[..], b"a\0b", &[b'x'; 128]] {
            assert!(Question::about_none().named(name).is_err(), "{name:?}");
        }
        assert!(Question::about_none().named(&[b'x'; 127]).is_ok());
        assert!(Question::about_none().with_uuid(&[b'x'; 129]).is_err());
        let target = |kind: &str, params: &[u8]| Target {
            start: 0,
            length: 1,
            kind: kind.to_owned(),
            params: params.to_vec(),
        };
        assert!(specified(&target("sixteen-letters-", b"")).is_err());
        assert!(specified(&target("linear", b"7:0\0 0")).is_err());
    }

    #[test]
    fn keys_are_blank() {
        for (kind, params, blank) in [
            ("crypt", "aes-xts-plain64 00ff12 0 7:0 0", "aes-xts-plain64 000000 0 7:0 0"),
            ("crypt", "aes :32:logon:k 0 7:0 0", "aes :32:logon:k 0 7:0 0"),
            ("crypt", "cipher_null-ecb - 0 7:0 0", "cipher_null-ecb - 0 7:0 0"),
            (
                "integrity",
                "7:0 0 32 J 2 internal_hash:hmac(sha256):abcd journal_mac:x:11 fix_hmac",
                "7:0 0 32 J 2 internal_hash:hmac(sha256):0000 journal_mac:x:00 fix_hmac",
            ),
            ("integrity", "7:0 0 4 J 1 internal_hash:crc32c", "7:0 0 4 J 1 internal_hash:crc32c"),
            ("verity", "1 7:0 7:1", "1 7:0 7:1"),
            ("crypt", "", ""),
        ] {
            let mut target = Target {
                start: 0,
                length: 1,
                kind: kind.to_owned(),
                params: params.as_bytes().to_vec(),
            };
            blank_keys(&mut target);
            assert_eq!(String::from_utf8(target.params).unwrap(), blank);
        }
    }
}
