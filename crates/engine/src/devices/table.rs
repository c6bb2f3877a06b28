//! Lines of a device-mapper table and of its status, as the kernel prints them
//! (reference: `STATUSTYPE_TABLE` and `STATUSTYPE_INFO` of dm-verity, dm-integrity, dm-crypt and
//! dm-linear, Linux 6.12).
//!
//! ```text
//! verity     TYPE DATA_DEV HASH_DEV DATA_BS HASH_BS DATA_BLOCKS HASH_START ALGORITHM ROOT SALT [N OPTION...]
//! integrity  DEV START TAG|- J|D|B|R|I N OPTION...
//! crypt      CIPHER KEY IV_OFFSET DEV START [N OPTION...]
//! linear     DEV START
//! ```
//!
//! What is not of this form is no table of ours ([`Target::parse`] gives `None`): a device with it
//! is known by name only.

use std::ops::Range;

use record::units::HashBlock;
use record::violation::Module;

use super::DeviceNumber;
use crate::text::{decimal, device_number};

/// 512 bytes, the unit of tables.
pub const SECTOR: u64 = 512;

/// One target of a mapped device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// dm-verity
    Verity(Verity),
    /// dm-integrity
    Integrity(Integrity),
    /// dm-crypt
    Crypt(Crypt),
    /// dm-linear
    Linear(Linear),
}

/// What a verity device does about a corrupted block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCorruption {
    /// The read fails.
    Eio,
    /// The read succeeds with the wrong data: no audit record.
    Ignore,
    /// The machine restarts.
    Restart,
    /// The kernel panics.
    Panic,
}

impl OnCorruption {
    /// As `on_corruption=` has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            OnCorruption::Eio => "eio",
            OnCorruption::Ignore => "ignore",
            OnCorruption::Restart => "restart",
            OnCorruption::Panic => "panic",
        }
    }
}

/// The facts of a verity table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verity {
    /// 1, or 0 for the tree of Chrome OS.
    pub version: u8,
    /// Where the data are.
    pub data_device: DeviceNumber,
    /// Where the hash tree is.
    pub hash_device: DeviceNumber,
    /// Bytes of a data block.
    pub data_block_size: u32,
    /// Bytes of a hash block.
    pub hash_block_size: u32,
    /// Data blocks.
    pub data_blocks: u64,
    /// The first block of the tree, counted from the start of the hash device.
    pub hash_start: u64,
    /// The hash algorithm, in the kernel's words.
    pub algorithm: String,
    /// The root hash, hex.
    pub root_hash: String,
    /// The salt, hex, or `-`.
    pub salt: String,
    /// What happens about a corrupted block.
    pub on_corruption: OnCorruption,
    /// Forward error correction.
    pub fec: Option<Fec>,
}

/// Forward error correction of a verity table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fec {
    /// Where the parity is.
    pub device: DeviceNumber,
    /// Its first block there.
    pub start: u64,
    /// Blocks that are covered.
    pub blocks: u64,
    /// Roots of the code, 2 to 24.
    pub roots: u8,
}

impl Fec {
    /// How far blocks lie apart that share codewords.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.blocks.div_ceil(255 - u64::from(self.roots))
    }
}

/// The facts of an integrity table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integrity {
    /// The device below.
    pub device: DeviceNumber,
    /// `J`, `D`, `B`, `R` or `I`.
    pub mode: char,
    /// Bytes that share a tag.
    pub block_size: u32,
    /// Without one somebody above it checks (dm-crypt), and dm-integrity reports nothing.
    pub internal_hash: bool,
    /// Whether the journal has a MAC.
    pub journal_mac: bool,
}

/// The facts of a crypt table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crypt {
    /// The cipher.
    pub cipher: String,
    /// The device below.
    pub device: DeviceNumber,
    /// Bytes that share a tag.
    pub sector_size: u32,
    /// Whether it authenticates (`integrity:N:aead`).
    pub authenticated: bool,
}

/// The facts of a linear table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    /// The device below.
    pub device: DeviceNumber,
}

impl Target {
    /// Reads the parameters of a target of type `kind`; `None` for other types, and where the text
    /// is not what the kernel prints.
    #[must_use]
    pub fn parse(kind: &str, params: &[u8]) -> Option<Target> {
        match kind {
            "verity" => Verity::parse(params).map(Target::Verity),
            "integrity" => Integrity::parse(params).map(Target::Integrity),
            "crypt" => Crypt::parse(params).map(Target::Crypt),
            "linear" => {
                let mut words = words(params);
                let device = device_number(words.next()?)?;
                decimal::<u64>(words.next()?)?;
                Some(Target::Linear(Linear { device }))
            }
            _ => None,
        }
    }

    /// The target that speaks in records, if it is one that does.
    #[must_use]
    pub fn module(&self) -> Option<Module> {
        match self {
            Target::Verity(_) => Some(Module::Verity),
            Target::Integrity(_) => Some(Module::Integrity),
            Target::Crypt(_) => Some(Module::Crypt),
            Target::Linear(_) => None,
        }
    }

    /// The device that holds the data below this one.
    #[must_use]
    pub fn below(&self) -> DeviceNumber {
        match self {
            Target::Verity(verity) => verity.data_device,
            Target::Integrity(integrity) => integrity.device,
            Target::Crypt(crypt) => crypt.device,
            Target::Linear(linear) => linear.device,
        }
    }
}

impl Verity {
    fn parse(params: &[u8]) -> Option<Verity> {
        let mut words = words(params);
        let mut next = || words.next();
        let version: u8 = decimal(next()?)?;
        let data_device = device_number(next()?)?;
        let hash_device = device_number(next()?)?;
        let data_block_size = block_size(next()?)?;
        let hash_block_size = block_size(next()?)?;
        let data_blocks = decimal(next()?)?;
        let hash_start = decimal(next()?)?;
        let algorithm = word(next()?)?;
        let root_hash = word(next()?)?;
        let salt = next()?;
        let is_hex = |text: &[u8]| text.iter().all(u8::is_ascii_hexdigit);
        if version > 1
            || !is_hex(root_hash.as_bytes())
            || root_hash.len() % 2 != 0
            || root_hash.len() > 2 * 64
            || !(salt == b"-" || is_hex(salt) && salt.len() <= 2 * 256)
        {
            return None;
        }
        let mut verity = Verity {
            version,
            data_device,
            hash_device,
            data_block_size,
            hash_block_size,
            data_blocks,
            hash_start,
            algorithm,
            root_hash,
            salt: salt.iter().copied().map(char::from).collect(),
            on_corruption: OnCorruption::Eio,
            fec: None,
        };
        verity.options(words);
        Some(verity)
    }

    fn options<'a>(&mut self, mut words: impl Iterator<Item = &'a [u8]>) {
        let (mut device, mut start, mut blocks, mut roots) = (None, None, None, None);
        while let Some(word) = words.next() {
            match word {
                b"ignore_corruption" => self.on_corruption = OnCorruption::Ignore,
                b"restart_on_corruption" => self.on_corruption = OnCorruption::Restart,
                b"panic_on_corruption" => self.on_corruption = OnCorruption::Panic,
                b"fec_blocks" => blocks = words.next().and_then(decimal),
                b"fec_roots" => roots = words.next().and_then(decimal),
                b"use_fec_from_device" => device = words.next().and_then(device_number),
                b"fec_start" => start = words.next().and_then(decimal),
                // Its value could be one of the words above.
                b"root_hash_sig_key_desc" => {
                    words.next();
                }
                _ => {}
            }
        }
        let parity = device.zip(start).zip(blocks.zip(roots));
        if let Some(((device, start), (blocks, roots @ 2..=24))) = parity {
            self.fec = Some(Fec { device, start, blocks, roots });
        }
    }

    /// The data blocks that hang below a block of the tree; `None` if that is no block of it.
    ///
    /// The tree lies from the top level to the lowest, each level whole blocks.
    #[must_use]
    pub fn covers(&self, block: HashBlock) -> Option<Range<u64>> {
        let digest = u32::try_from(self.root_hash.len() / 2).ok()?;
        let bits = self.hash_block_size.checked_div(digest)?.checked_ilog2().filter(|b| *b > 0)?;
        let last = self.data_blocks.checked_sub(1)?;
        let levels = (0..).take_while(|level| last.checked_shr(level * bits).unwrap_or(0) > 0);
        let levels = u32::try_from(levels.count()).ok()?;
        let mut start = self.hash_start;
        for level in (1..=levels).rev() {
            let shift = level * bits;
            let blocks = last.checked_shr(shift).unwrap_or(0) + 1;
            let end = start.checked_add(blocks)?;
            if (start..end).contains(&block.0) {
                let first = (block.0 - start).checked_mul(1u64.checked_shl(shift)?)?;
                let past = first.saturating_add(1u64 << shift).min(self.data_blocks);
                return Some(first..past);
            }
            start = end;
        }
        None
    }
}

impl Integrity {
    fn parse(params: &[u8]) -> Option<Integrity> {
        let mut words = words(params);
        let device = device_number(words.next()?)?;
        decimal::<u64>(words.next()?)?;
        let tag = words.next()?;
        if tag != b"-" {
            decimal::<u32>(tag)?;
        }
        let mode = match words.next()? {
            [mode @ (b'J' | b'D' | b'B' | b'R' | b'I')] => char::from(*mode),
            _ => return None,
        };
        let mut integrity =
            Integrity { device, mode, block_size: 512, internal_hash: false, journal_mac: false };
        for word in words {
            if let Some(size) = word.strip_prefix(b"block_size:").and_then(block_size) {
                integrity.block_size = size;
            }
            integrity.internal_hash |= word.starts_with(b"internal_hash:");
            integrity.journal_mac |= word.starts_with(b"journal_mac:");
        }
        Some(integrity)
    }
}

impl Crypt {
    fn parse(params: &[u8]) -> Option<Crypt> {
        let mut words = words(params);
        let cipher = word(words.next()?)?;
        let _key = words.next()?;
        decimal::<u64>(words.next()?)?;
        let device = device_number(words.next()?)?;
        decimal::<u64>(words.next()?)?;
        let mut crypt = Crypt { cipher, device, sector_size: 512, authenticated: false };
        for word in words {
            if let Some(size) = word.strip_prefix(b"sector_size:").and_then(block_size) {
                crypt.sector_size = size;
            }
            crypt.authenticated |= word.starts_with(b"integrity:") && word.ends_with(b":aead");
        }
        Some(crypt)
    }
}

/// The status line of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// verity: whether a mismatch was seen since it was made. Never goes back.
    Verity {
        /// `C` stands there, and not `V`.
        corrupted: bool,
    },
    /// integrity: mismatches since it was made.
    Integrity {
        /// The counter.
        mismatches: u64,
    },
}

impl Status {
    /// Reads what a target of type `kind` says of itself.
    #[must_use]
    pub fn parse(kind: &str, text: &[u8]) -> Option<Status> {
        let first = words(text).next()?;
        match (kind, first) {
            ("verity", b"V") => Some(Status::Verity { corrupted: false }),
            ("verity", b"C") => Some(Status::Verity { corrupted: true }),
            ("integrity", count) => {
                decimal(count).map(|mismatches| Status::Integrity { mismatches })
            }
            _ => None,
        }
    }
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b' ' | b'\n' | 0)).filter(|word| !word.is_empty())
}

fn word(text: &[u8]) -> Option<String> {
    let graphic = text.len() <= 256 && text.iter().all(u8::is_ascii_graphic);
    graphic.then(|| text.iter().copied().map(char::from).collect())
}

/// A power of two from 512 bytes to 1 MiB.
fn block_size(text: &[u8]) -> Option<u32> {
    decimal::<u32>(text).filter(|size| size.is_power_of_two() && (512..=1 << 20).contains(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";

    fn verity(numbers: &str, options: &str) -> Option<Verity> {
        match Target::parse(
            "verity",
            format!("1 7:1 7:0 {numbers} sha256 {ROOT} - {options}").as_bytes(),
        ) {
            Some(Target::Verity(verity)) => Some(verity),
            _ => None,
        }
    }

    #[test]
    fn tables_as_the_kernel_prints_them() {
        let plain = verity("4096 4096 64 1", "").unwrap();
        assert_eq!((plain.data_device, plain.hash_device), ((7, 1), (7, 0)));
        assert_eq!((plain.data_blocks, plain.hash_start), (64, 1));
        assert_eq!((plain.on_corruption, plain.fec), (OnCorruption::Eio, None));
        let options = "11 ignore_corruption root_hash_sig_key_desc panic_on_corruption \
                       use_fec_from_device 7:2 fec_blocks 66 fec_start 0 fec_roots 2";
        let more = verity("4096 4096 64 1", options).unwrap();
        assert_eq!(more.on_corruption, OnCorruption::Ignore);
        assert_eq!(more.fec, Some(Fec { device: (7, 2), start: 0, blocks: 66, roots: 2 }));

        let dif = Target::parse(
            "integrity",
            b"7:5 320 28 J 7 block_size:4096 journal_sectors:264 interleave_sectors:32768 \
              buffer_sectors:32 journal_watermark:50 commit_time:10000 fix_padding",
        );
        let Some(Target::Integrity(dif)) = dif else { panic!("{dif:?}") };
        assert_eq!((dif.device, dif.block_size, dif.internal_hash), ((7, 5), 4096, false));
        let crypt = Target::parse(
            "crypt",
            b"capi:gcm(aes)-random :32:logon:cryptsetup:x-d0 0 253:0 0 2 integrity:28:aead sector_size:4096",
        );
        let Some(Target::Crypt(crypt)) = crypt else { panic!("{crypt:?}") };
        assert_eq!((crypt.device, crypt.sector_size, crypt.authenticated), ((253, 0), 4096, true));
        assert_eq!(
            Target::parse("linear", b"8:2 2048"),
            Some(Target::Linear(Linear { device: (8, 2) }))
        );
    }

    #[test]
    fn what_the_kernel_does_not_print_is_no_table() {
        for numbers in ["0 4096 64 1", "4097 4096 64 1", "4096 4096 -1 1", "4096 4096 64"] {
            assert_eq!(verity(numbers, ""), None, "{numbers}");
        }
        for (kind, text) in [
            ("verity", &b""[..]),
            ("integrity", b"7:5 0 4 X 0"),
            ("integrity", b"7:5 0"),
            ("crypt", b"aes - 0 sda 0"),
            ("linear", b"8:2"),
            ("striped", b"8:2 0"),
        ] {
            assert_eq!(Target::parse(kind, text), None, "{kind} {}", text.escape_ascii());
        }
    }

    #[test]
    fn a_hash_block_covers_what_hangs_below_it() {
        // 128 digests of 32 bytes in a block: 300 data blocks have 3 blocks below 1.
        let verity = verity("4096 4096 300 1", "").unwrap();
        let covers = |block| verity.covers(HashBlock(block));
        assert_eq!(covers(0), None, "the superblock");
        assert_eq!(covers(1), Some(0..300));
        assert_eq!(covers(2), Some(0..128));
        assert_eq!(covers(4), Some(256..300));
        assert_eq!(covers(5), None);
        // The golden image of three levels, by what the kernel said of its hash block 7.
        let root = "9580272a638395a0".repeat(8);
        let params = format!("1 7:1 7:0 1024 512 256 1 sha512 {root} 5a");
        let Some(Target::Verity(golden)) = Target::parse("verity", params.as_bytes()) else {
            panic!("no table")
        };
        assert_eq!(golden.covers(HashBlock(7)), Some(8..16));
        assert_eq!(golden.covers(HashBlock(5)), Some(192..256));
        assert_eq!(golden.covers(HashBlock(38)), None);
    }

    #[test]
    fn status_lines() {
        assert_eq!(Status::parse("verity", b"V"), Some(Status::Verity { corrupted: false }));
        // Newer kernels add the number of corrected blocks.
        assert_eq!(Status::parse("verity", b"C -"), Some(Status::Verity { corrupted: true }));
        let counted = Some(Status::Integrity { mismatches: 17 });
        assert_eq!(Status::parse("integrity", b"17 2048 -"), counted);
        assert_eq!(Status::parse("verity", b"X"), None);
        assert_eq!(Status::parse("crypt", b""), None);
    }
}
