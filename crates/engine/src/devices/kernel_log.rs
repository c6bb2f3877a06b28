//! The kernel log: its records, and the lines in it that tell of an integrity violation.
//!
//! A record of `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg):
//!
//! ```text
//! 3,1234,5678901,-;device-mapper: verity: 7:1: data block 10 is corrupted
//!  SUBSYSTEM=block
//!  DEVICE=+block:dm-0
//! `------------- pri = facility * 8 + level, sequence, microseconds, flags; text with \xHH
//! ```
//!
//! Processes may write to the log too. The kernel keeps facility 0 for itself ([`Record::is_kernels`]),
//! and a line counts only where the text stands at its very start. In what pstore kept, the mark of
//! the facility can be missing ([`Kept::certain`]).
//!
//! Texts: drivers/md/dm-verity-target.c, dm-verity-fec.c, dm-integrity.c, dm-crypt.c,
//! fs/verity/{init,verify}.c and lib/ratelimit.c of Linux 6.1 and 6.12.

use std::borrow::Cow;

use record::violation::{EventOp, Module};

use super::DeviceNumber;
use super::uevent::Mismatch;
use crate::text::{decimal, device_number, hexadecimal, split_once};

/// A record of `/dev/kmsg`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Syslog's facility: 0 is the kernel.
    pub facility: u32,
    /// The text, unescaped, without the lines of its dictionary.
    pub text: Cow<'a, [u8]>,
}

impl<'a> Record<'a> {
    /// Reads what one read(2) gave; `None` where it has another form.
    #[must_use]
    pub fn parse(raw: &'a [u8]) -> Option<Record<'a>> {
        let (head, rest) = split_once(raw, b";")?;
        let mut head = head.split(|byte| *byte == b',');
        let priority: u32 = decimal(head.next()?)?;
        let _sequence: u64 = decimal(head.next()?)?;
        let _microseconds: u64 = decimal(head.next()?)?;
        head.next()?;
        let text = rest.split(|byte| *byte == b'\n').next()?;
        Some(Record { facility: priority >> 3, text: unescape(text) })
    }

    /// Whether the kernel said it, and not a process.
    #[must_use]
    pub fn is_kernels(&self) -> bool {
        self.facility == 0
    }
}

/// Undoes the `\xHH` that the log writes for what is not printable, and for the backslash.
fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match after {
            [b'x', hex @ ..] if first == b'\\' => hex
                .get(..2)
                .and_then(hexadecimal)
                .and_then(|byte| u8::try_from(byte).ok())
                .zip(hex.get(2..)),
            _ => None,
        };
        let (byte, behind) = escaped.unwrap_or((first, after));
        bytes.push(byte);
        rest = behind;
    }
    Cow::Owned(bytes)
}

/// A line of the log as pstore kept it over a restart: `<3>[   12.345678] text`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// The text.
    pub text: &'a [u8],
    /// The mark says that the kernel wrote it. Without a mark (a kept console) a process may have.
    pub certain: bool,
}

impl<'a> Kept<'a> {
    /// Reads a line; `None` where it is not one of the log, or a process wrote it.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Kept<'a>> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (certain, rest) = match line.strip_prefix(b"<") {
            Some(marked) => {
                let (priority, rest) = split_once(marked, b">")?;
                if decimal::<u32>(priority)? >> 3 != 0 {
                    return None;
                }
                (true, rest)
            }
            None => (false, line),
        };
        let (stamp, rest) = split_once(rest.strip_prefix(b"[")?, b"]")?;
        let (seconds, fraction) = split_once(stamp.trim_ascii(), b".")?;
        decimal::<u64>(seconds)?;
        decimal::<u64>(fraction)?;
        // With CONFIG_PRINTK_CALLER: `[    T123]`.
        let text = match rest.strip_prefix(b"[") {
            Some(caller) => split_once(caller, b"]")?.1,
            None => rest,
        };
        Some(Kept { text: text.strip_prefix(b" ").unwrap_or(text), certain })
    }
}

/// How a line names a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// `7:1`
    Number(DeviceNumber),
    /// `dm-0`: the minor number of a mapped device.
    Dm(u32),
    /// `sda2`
    Disk(&'a [u8]),
}

impl<'a> Named<'a> {
    fn parse(name: &'a [u8]) -> Option<Named<'a>> {
        if let Some(number) = device_number(name) {
            return Some(Named::Number(number));
        }
        if let Some(minor) = name.strip_prefix(b"dm-").and_then(decimal) {
            return Some(Named::Dm(minor));
        }
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'!');
        (!name.is_empty() && name.len() <= 32 && name.iter().all(plain))
            .then_some(Named::Disk(name))
    }
}

/// What the kernel says in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// dm-verity: a block does not match its hash.
    Mismatch {
        /// The data device, also for a block of the hash device.
        data_device: DeviceNumber,
        /// The block.
        block: Mismatch,
    },
    /// dm-verity: the hundredth mismatch; it will say no more.
    Limit {
        /// The data device.
        data_device: DeviceNumber,
    },
    /// dm-verity: error correction found right bytes.
    Corrected {
        /// The data device.
        data_device: DeviceNumber,
        /// The first byte of the codewords: block number modulo the rounds of the code, in bytes.
        codeword: u64,
        /// Bytes that were wrong.
        errors: u64,
    },
    /// dm-integrity, dm-crypt: a sector does not match its tag.
    Sector {
        /// Which.
        op: EventOp,
        /// The device of the request.
        device: Named<'a>,
        /// 512-byte sector.
        sector: u64,
    },
    /// dm-integrity: a MAC or a tag was wrong. It does not say on which device.
    Unplaced {
        /// Which.
        op: EventOp,
    },
    /// fs-verity: a file's bytes do not match its tree.
    File(CorruptedFile<'a>),
    /// The rate limit of one of these lines swallowed some.
    Suppressed {
        /// How many.
        lines: u64,
        /// Whose violations they tell, where audit records may tell the same.
        module: Option<Module>,
    },
    /// A verity device took the machine down.
    Down {
        /// By a panic, not a restart.
        panic: bool,
    },
}

/// A file whose bytes do not match its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptedFile<'a> {
    /// The file system's name for itself, mostly that of its block device: `sda2`.
    pub fs: &'a [u8],
    /// The file.
    pub inode: u64,
    /// The byte that was being checked, where the line says so.
    pub position: Option<u64>,
    /// The level of the tree that does not match; -1 is the data.
    pub level: i8,
    /// `sha256:HEX` that the tree promises.
    pub expected: &'a [u8],
    /// `sha256:HEX` of what is there.
    pub found: &'a [u8],
}

/// The functions whose rate limits hide lines that [`Said`] knows.
const LIMITED: [(&[u8], Option<Module>); 8] = [
    (b"verity_handle_err", Some(Module::Verity)),
    // What was corrected has no audit record.
    (b"fec_decode_bufs", None),
    (b"integrity_metadata", Some(Module::Integrity)),
    (b"integrity_recheck", Some(Module::Integrity)),
    (b"dm_integrity_map_continue", Some(Module::Integrity)),
    (b"crypt_convert_block_aead", Some(Module::Crypt)),
    (b"kcryptd_async_done", Some(Module::Crypt)),
    (b"fsverity_msg", None),
];

impl<'a> Said<'a> {
    /// What `text` says; `None` for everything else that a kernel logs.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Said<'a>> {
        // <keys/trusted-type.h> leaks its prefix into dm-crypt's lines.
        let text = text.strip_prefix(b"trusted_key: ").unwrap_or(text);
        if let Some(text) = text.strip_prefix(b"device-mapper: ") {
            let (module, text) = split_once(text, b": ")?;
            return match module {
                b"verity" => verity(text),
                b"verity-fec" => fec(text),
                b"integrity" => integrity(text),
                b"crypt" => {
                    let (device, sector) = split_once(text, b": INTEGRITY AEAD ERROR, sector ")?;
                    let (device, sector) = (Named::parse(device)?, decimal(sector)?);
                    Some(Said::Sector { op: EventOp::IntegrityAead, device, sector })
                }
                _ => None,
            };
        }
        if let Some(text) = text.strip_prefix(b"fs-verity (") {
            return file(text).map(Said::File);
        }
        if let Some(head) = text.strip_suffix(b" callbacks suppressed") {
            let (function, lines) = split_once(head, b": ")?;
            let (_, module) = LIMITED.into_iter().find(|(known, _)| *known == function)?;
            return Some(Said::Suppressed { lines: decimal(lines)?, module });
        }
        match text {
            b"Kernel panic - not syncing: dm-verity device corrupted"
            | b"Kernel panic - not syncing: dm-verity device has corrupted blocks" => {
                Some(Said::Down { panic: true })
            }
            b"dm-verity device corrupted"
            | b"reboot: Restarting system with command 'dm-verity device corrupted'" => {
                Some(Said::Down { panic: false })
            }
            _ => None,
        }
    }
}

fn verity(text: &[u8]) -> Option<Said<'_>> {
    let (device, text) = split_once(text, b": ")?;
    let data_device = device_number(device)?;
    if text == b"reached maximum errors" {
        return Some(Said::Limit { data_device });
    }
    let (kind, number) = split_once(text.strip_suffix(b" is corrupted")?, b" block ")?;
    let block = match kind {
        b"data" => Mismatch::Data(decimal(number)?),
        b"metadata" => Mismatch::Hash(decimal(number)?),
        _ => return None,
    };
    Some(Said::Mismatch { data_device, block })
}

fn fec(text: &[u8]) -> Option<Said<'_>> {
    let (device, text) = split_once(text, b": FEC ")?;
    let (codeword, errors) = split_once(text.strip_suffix(b" errors")?, b": corrected ")?;
    let data_device = device_number(device)?;
    Some(Said::Corrected { data_device, codeword: decimal(codeword)?, errors: decimal(errors)? })
}

fn integrity(text: &[u8]) -> Option<Said<'_>> {
    if let Some(text) = text.strip_prefix(b"Error on ") {
        let op = match split_once(text, b": ")? {
            (b"journal mac", b"-84") => EventOp::MacJournal,
            (b"superblock mac", b"-84") => EventOp::MacSuperblock,
            (b"tag mismatch when replaying journal", b"-84") => EventOp::IntegrityReplayJournal,
            // Other errors are of the disk.
            _ => return None,
        };
        return Some(Said::Unplaced { op });
    }
    let sector = |device, op, sector| {
        let (device, sector) = (Named::parse(device)?, hexadecimal(sector)?);
        Some(Said::Sector { op, device, sector })
    };
    if let Some((device, number)) = split_once(text, b": Checksum failed at sector 0x") {
        return sector(device, EventOp::IntegrityChecksum, number);
    }
    let journal = b": Checksum failed when reading from journal, at sector 0x";
    let (device, number) = split_once(text, journal)?;
    sector(device, EventOp::JournalChecksum, number)
}

/// `sda2, inode 12): FILE CORRUPTED! pos=0, level=-1, want_hash=sha256:00, real_hash=sha256:11`;
/// up to 6.2 `index=` counts pages.
fn file(text: &[u8]) -> Option<CorruptedFile<'_>> {
    let (fs, text) = split_once(text, b", inode ")?;
    let (inode, text) = split_once(text, b"): FILE CORRUPTED! ")?;
    let inode = decimal(inode)?;
    let (place, text) = split_once(text, b", level=")?;
    let position = match split_once(place, b"=")? {
        (b"pos", number) => Some(decimal(number)?),
        // Pages of 4096 bytes, or not: no number is better than a wrong one where it is not the first.
        (b"index", b"0") => Some(0),
        (b"index", number) => decimal::<u64>(number).map(|_| None)?,
        _ => return None,
    };
    let (level, text) = split_once(text, b", want_hash=")?;
    let level = match level {
        b"-1" => -1,
        digits => decimal::<u8>(digits).and_then(|level| i8::try_from(level).ok())?,
    };
    let (expected, found) = split_once(text, b", real_hash=")?;
    let plain = |text: &[u8]| text.len() <= 160 && text.iter().all(u8::is_ascii_graphic);
    (plain(expected) && plain(found) && fs.len() <= 32).then_some(CorruptedFile {
        fs,
        inode,
        position,
        level,
        expected,
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_dev_kmsg() {
        let raw = b"3,1234,5678901,-;device-mapper: verity: 7:1: data block 10 is corrupted\n SUBSYSTEM=block\n DEVICE=+block:dm-0\n";
        let record = Record::parse(raw).unwrap();
        assert!(record.is_kernels());
        assert_eq!(&*record.text, b"device-mapper: verity: 7:1: data block 10 is corrupted");
        // `echo ... > /dev/kmsg`
        assert!(!Record::parse(b"12,1,2,-,caller=T1;x").unwrap().is_kernels());
        assert_eq!(&*Record::parse(br"6,1,2,c;a\x09b\x5cx\xzz").unwrap().text, b"a\tb\\x\\xzz");
        for raw in [&b""[..], b"3", b"3,1,2;x", b"x,1,2,-;x", b"3,1,2,-"] {
            assert_eq!(Record::parse(raw), None, "{}", raw.escape_ascii());
        }
    }

    #[test]
    fn what_the_kernel_says() {
        let device = Named::Dm(0);
        let cases = [
            (
                "device-mapper: verity: 7:1: data block 10 is corrupted",
                Said::Mismatch { data_device: (7, 1), block: Mismatch::Data(10) },
            ),
            (
                "device-mapper: verity: 7:1: metadata block 3 is corrupted",
                Said::Mismatch { data_device: (7, 1), block: Mismatch::Hash(3) },
            ),
            (
                "device-mapper: verity: 7:1: reached maximum errors",
                Said::Limit { data_device: (7, 1) },
            ),
            (
                "device-mapper: verity-fec: 7:1: FEC 0: corrected 8 errors",
                Said::Corrected { data_device: (7, 1), codeword: 0, errors: 8 },
            ),
            (
                "device-mapper: integrity: dm-0: Checksum failed at sector 0x180",
                Said::Sector { op: EventOp::IntegrityChecksum, device, sector: 384 },
            ),
            (
                "device-mapper: integrity: Error on journal mac: -84",
                Said::Unplaced { op: EventOp::MacJournal },
            ),
            (
                "device-mapper: integrity: Error on superblock mac: -84",
                Said::Unplaced { op: EventOp::MacSuperblock },
            ),
            (
                "device-mapper: crypt: dm-0: INTEGRITY AEAD ERROR, sector 184",
                Said::Sector { op: EventOp::IntegrityAead, device, sector: 184 },
            ),
            (
                "trusted_key: device-mapper: crypt: dm-0: INTEGRITY AEAD ERROR, sector 184",
                Said::Sector { op: EventOp::IntegrityAead, device, sector: 184 },
            ),
            (
                "verity_handle_err: 90 callbacks suppressed",
                Said::Suppressed { lines: 90, module: Some(Module::Verity) },
            ),
            ("Kernel panic - not syncing: dm-verity device corrupted", Said::Down { panic: true }),
        ];
        for (text, said) in cases {
            assert_eq!(Said::parse(text.as_bytes()), Some(said), "{text}");
        }
        let text = b"fs-verity (sda2, inode 12): FILE CORRUPTED! pos=4096, level=-1, want_hash=sha256:00, real_hash=sha256:11";
        let Some(Said::File(file)) = Said::parse(text) else { panic!("no file") };
        assert_eq!((file.fs, file.inode, file.position), (&b"sda2"[..], 12, Some(4096)));
        assert_eq!(
            (file.level, file.expected, file.found),
            (-1, &b"sha256:00"[..], &b"sha256:11"[..])
        );
    }

    #[test]
    fn lines_that_only_look_alike() {
        for text in [
            "x device-mapper: verity: 7:1: data block 10 is corrupted",
            "device-mapper: verity: sda: data block 10 is corrupted",
            "device-mapper: verity: 7:1: data block -1 is corrupted",
            "device-mapper: verity: 7:1: data block 10 is corrupted; or not",
            "device-mapper: verity: 7:1: other block 10 is corrupted",
            "device-mapper: verity-fec: 7:1: FEC 0: failed to correct: -74",
            "device-mapper: integrity: Error on writing superblock: -5",
            "device-mapper: integrity: Error on journal mac: -5",
            "device-mapper: integrity: a b: Checksum failed at sector 0x180",
            "device-mapper: crypt: dm-0: INTEGRITY AEAD ERROR, sector 0x184",
            "buffer_io_error: 192 callbacks suppressed",
            "fs-verity (sda2, inode 12): something else",
        ] {
            assert_eq!(Said::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_pstore_kept() {
        let kept = |line: &'static str| Kept::parse(line.as_bytes());
        let text = &b"device-mapper: x"[..];
        let certain = Some(Kept { text, certain: true });
        assert_eq!(kept("<3>[   12.345678] device-mapper: x"), certain);
        assert_eq!(kept("<3>[   12.345678][    T7] device-mapper: x\r"), certain);
        assert_eq!(kept("[   12.345678] device-mapper: x"), Some(Kept { text, certain: false }));
        assert_eq!(kept("<12>[   12.345678] device-mapper: x"), None);
        assert_eq!(kept("Panic#1 Part1"), None);
    }
}
