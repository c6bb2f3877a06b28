//! Lines of a device-mapper table and of its status, as the kernel prints them
//! (reference: `STATUSTYPE_TABLE` and `STATUSTYPE_INFO` of dm-verity, dm-integrity, dm-crypt and
//! dm-linear, Linux 6.12).
//!
//! ```text
//! verity     block::verity::Table
//! integrity  DEV START TAG|- J|D|B|R|I N OPTION...
//! crypt      CIPHER KEY IV_OFFSET DEV START [N OPTION...]
//! linear     DEV START             so do delay, flakey and dust
//! ```
//!
//! What is not of this form is no table of ours ([`Target::parse`] gives `None`): a device with it
//! is known by name only.

use block::verity::Table;
use record::violation::Module;

use super::DeviceNumber;
use crate::text::{decimal, device_number};

/// 512 bytes, the unit of tables.
pub const SECTOR: u64 = 512;

/// One target of a mapped device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// dm-verity
    Verity(Box<Verity>),
    /// dm-integrity
    Integrity(Integrity),
    /// dm-crypt
    Crypt(Crypt),
    /// dm-linear, and what only delays or spoils on the way: dm-delay, dm-flakey, dm-dust; the origin of
    /// a snapshot
    Linear(Linear),
}

/// A verity table, and the devices that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verity {
    /// All that it says.
    pub table: Table,
    /// Where the data are.
    pub data_device: DeviceNumber,
    /// Where the hash tree is.
    pub hash_device: DeviceNumber,
    /// Where the parity is, if there is any.
    pub fec_device: Option<DeviceNumber>,
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
    /// Where the data begin there, in sectors.
    pub start: u64,
    /// Bytes that share a tag.
    pub sector_size: u32,
    /// Whether it authenticates (`integrity:N:aead`).
    pub authenticated: bool,
}

/// The facts of a table whose bytes are those of the device below, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    /// The device below.
    pub device: DeviceNumber,
    /// Where they begin there, in sectors.
    pub start: u64,
}

impl Target {
    /// Reads the parameters of a target of type `kind`; `None` for other types, and where the text
    /// is not what the kernel prints.
    #[must_use]
    pub fn parse(kind: &str, params: &[u8]) -> Option<Target> {
        match kind {
            "verity" => Verity::parse(params).map(|verity| Target::Verity(Box::new(verity))),
            "integrity" => Integrity::parse(params).map(Target::Integrity),
            "crypt" => Crypt::parse(params).map(Target::Crypt),
            "linear" | "delay" | "flakey" | "dust" => {
                let mut words = words(params);
                let device = device_number(words.next()?)?;
                Some(Target::Linear(Linear { device, start: decimal(words.next()?)? }))
            }
            "snapshot-origin" => {
                let device = device_number(words(params).next()?)?;
                Some(Target::Linear(Linear { device, start: 0 }))
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

    /// Where the bytes of the mapped device are on the one below, in sectors; none where its driver
    /// puts something between them.
    #[must_use]
    pub fn start_below(&self) -> Option<u64> {
        match self {
            Target::Verity(_) => Some(0),
            Target::Integrity(_) => None,
            Target::Crypt(crypt) => Some(crypt.start),
            Target::Linear(linear) => Some(linear.start),
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
        let table: Table = str::from_utf8(params).ok()?.parse().ok()?;
        let number = |device: &str| device_number(device.as_bytes());
        let fec_device = match &table.fec {
            Some(fec) => Some(number(&fec.device)?),
            None => None,
        };
        Some(Verity {
            data_device: number(&table.data_device)?,
            hash_device: number(&table.hash_device)?,
            fec_device,
            table,
        })
    }

    /// Bytes of a data block.
    #[must_use]
    pub fn unit(&self) -> u32 {
        self.table.data_block_size.bytes()
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
        let start = decimal(words.next()?)?;
        let mut crypt = Crypt { cipher, device, start, sector_size: 512, authenticated: false };
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

    fn verity(devices: &str, options: &str) -> Option<Verity> {
        let text = format!("1 {devices} 4096 4096 64 1 sha256 {ROOT} - {options}");
        match Target::parse("verity", text.as_bytes()) {
            Some(Target::Verity(verity)) => Some(*verity),
            _ => None,
        }
    }

    #[test]
    fn tables_as_the_kernel_prints_them() {
        let plain = verity("7:1 7:0", "").unwrap();
        assert_eq!((plain.data_device, plain.hash_device), ((7, 1), (7, 0)));
        assert_eq!((plain.unit(), plain.fec_device), (4096, None));
        let options = "8 use_fec_from_device 7:2 fec_blocks 66 fec_start 0 fec_roots 2";
        assert_eq!(verity("7:1 7:0", options).unwrap().fec_device, Some((7, 2)));

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
        for (kind, text, start) in [
            ("linear", &b"8:2 2048"[..], 2048),
            ("flakey", b"8:2 7 1 1", 7),
            ("snapshot-origin", b"8:2", 0),
        ] {
            let linear = Target::Linear(Linear { device: (8, 2), start });
            assert_eq!(Target::parse(kind, text), Some(linear));
        }
    }

    #[test]
    fn what_the_kernel_does_not_print_is_no_table() {
        for devices in ["7:1 /dev/loop0", "7 7:0", "7:1 7:0 9"] {
            assert_eq!(verity(devices, ""), None, "{devices}");
        }
        assert_eq!(
            verity("7:1 7:0", "8 use_fec_from_device x fec_blocks 66 fec_start 0 fec_roots 2"),
            None
        );
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
