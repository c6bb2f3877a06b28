//! The parameters of the kernel's verity target, and its status.
//!
//! ```text
//! 1 7:0 7:1 4096 4096 64 1 sha256 a8f5…3f15 1f2e…9d 1 ignore_zero_blocks
//! │ │   │   │    │    │  │ │      │         salt, -  number of words behind it, and these words
//! │ │   │   │    │    │  │ │      root hash
//! │ │   │   │    │    │  │ algorithm
//! │ │   │   │    │    │  first block of the tree, in hash blocks
//! │ │   │   │    │    data blocks
//! │ │   │   data and hash block size, in bytes
//! │ data and hash device
//! hash type
//! ```
//!
//! Source: Linux 6.12 `drivers/md/dm-verity-target.c`, `verity_ctr` and `verity_status`.

use std::fmt;
use std::str::FromStr;

use std::ops::Range;

use lanes::tree::Geometry;
use record::units::HashBlock;

use super::layout::HashArea;
use super::params::{BlockSize, Digest, HashName, HashType, ParamError, Params, Salt};

/// What the kernel is told, or tells, of a verity target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Where the salt goes and how digests are packed.
    pub hash_type: HashType,
    /// Major and minor number; a path where somebody gave one.
    pub data_device: String,
    /// The same of the device with the tree.
    pub hash_device: String,
    /// Size of a data block.
    pub data_block_size: BlockSize,
    /// Size of a hash block.
    pub hash_block_size: BlockSize,
    /// Number of data blocks.
    pub data_blocks: u64,
    /// First block of the tree, in hash blocks of its device.
    pub hash_start: u64,
    /// As the kernel's crypto API calls it.
    pub algorithm: String,
    /// The root hash.
    pub root_hash: Digest,
    /// The salt.
    pub salt: Salt,
    /// What happens at corruption.
    pub on_corruption: OnCorruption,
    /// Whether blocks that should be zero are not read.
    pub ignore_zero_blocks: bool,
    /// Whether a block is verified only until it was good once.
    pub check_at_most_once: bool,
    /// Whether what is in the cache is verified at once, in softirq context.
    pub try_verify_in_tasklet: bool,
    /// Error correction, if there is any.
    pub fec: Option<FecTable>,
    /// Description of the key that has the signature.
    pub signature_key: Option<String>,
    /// Options that this program does not know.
    pub others: Vec<String>,
}

/// What the kernel does when a block is not what was promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCorruption {
    /// The reader gets EIO.
    #[default]
    Fail,
    /// The reader gets the data.
    Ignore,
    /// The machine restarts.
    Restart,
    /// The kernel panics.
    Panic,
}

/// Error correction in a table; numbers in blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FecTable {
    /// Where the parity is.
    pub device: String,
    /// Blocks that are covered.
    pub blocks: u64,
    /// First block of the parity.
    pub start: u64,
    /// Parity bytes of a codeword.
    pub roots: u64,
}

/// Why a text is no table of a verity target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A word is missing.
    #[error("the table ends before its {0}")]
    Short(&'static str),
    /// A word is no number, or not one that can stand there.
    #[error("the table's {what} is {found:?}")]
    Word {
        /// Which one.
        what: &'static str,
        /// It.
        found: String,
    },
    /// A parameter is none of dm-verity's.
    #[error(transparent)]
    Param(#[from] ParamError),
}

impl OnCorruption {
    /// The word of the table.
    #[must_use]
    pub fn option(self) -> Option<&'static str> {
        match self {
            Self::Fail => None,
            Self::Ignore => Some("ignore_corruption"),
            Self::Restart => Some("restart_on_corruption"),
            Self::Panic => Some("panic_on_corruption"),
        }
    }

    /// As `on_corruption=` of a record has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fail => "eio",
            Self::Ignore => "ignore",
            Self::Restart => "restart",
            Self::Panic => "panic",
        }
    }
}

impl FecTable {
    /// How far blocks lie apart that share codewords; none for a code that there is not, or of nothing.
    #[must_use]
    pub fn rounds(&self) -> Option<u64> {
        let is_code = (2..=24).contains(&self.roots);
        is_code.then(|| self.blocks.div_ceil(255 - self.roots)).filter(|rounds| *rounds > 0)
    }
}

impl Table {
    /// How the tree was made.
    ///
    /// # Errors
    /// [`ParamError`] for an algorithm that the kernel has and this crate has not.
    pub fn params(&self) -> Result<Params, ParamError> {
        Ok(Params {
            hash_type: self.hash_type,
            hash: HashName::parse(&self.algorithm)?,
            data_block_size: self.data_block_size,
            hash_block_size: self.hash_block_size,
            data_blocks: self.data_blocks,
            salt: self.salt.clone(),
        })
    }

    /// Where the tree is; what stands before it is not the kernel's business.
    #[must_use]
    pub fn hash_area(&self) -> Option<HashArea> {
        let offset = self.hash_block_size.offset(self.hash_start)?;
        Some(HashArea { offset, superblock: false })
    }

    /// The data blocks that hang below a block of the tree, which is counted from the start of the hash
    /// device; none if that is no block of it.
    #[must_use]
    pub fn covered(&self, block: HashBlock) -> Option<Range<u64>> {
        let size = self.hash_block_size.as_usize();
        let digest = self.root_hash.as_bytes().len();
        let geometry = Geometry::new(self.data_blocks, size, digest, self.hash_type.packing());
        let geometry = geometry.ok()?;
        let (level, index) = geometry.locate(block.0.checked_sub(self.hash_start)?)?;
        Some(geometry.covered(level, index))
    }

    /// The optional words, in the kernel's order.
    fn options(&self) -> Vec<String> {
        let flags = [
            self.on_corruption.option(),
            self.ignore_zero_blocks.then_some("ignore_zero_blocks"),
            self.check_at_most_once.then_some("check_at_most_once"),
            self.try_verify_in_tasklet.then_some("try_verify_in_tasklet"),
        ];
        let mut words: Vec<String> = flags.into_iter().flatten().map(str::to_owned).collect();
        if let Some(FecTable { device, blocks, start, roots }) = &self.fec {
            let pairs = [
                ("use_fec_from_device", device.clone()),
                ("fec_blocks", blocks.to_string()),
                ("fec_start", start.to_string()),
                ("fec_roots", roots.to_string()),
            ];
            words.extend(pairs.into_iter().flat_map(|(word, value)| [word.to_owned(), value]));
        }
        if let Some(key) = &self.signature_key {
            words.extend(["root_hash_sig_key_desc".to_owned(), key.clone()]);
        }
        words.extend_from_slice(&self.others);
        words
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {} {} {} {} {} {}",
            self.hash_type.number(),
            self.data_device,
            self.hash_device,
            self.data_block_size,
            self.hash_block_size,
            self.data_blocks,
            self.hash_start,
            self.algorithm,
            self.root_hash,
            self.salt,
        )?;
        let options = self.options();
        if options.is_empty() {
            Ok(())
        } else {
            write!(f, " {} {}", options.len(), options.join(" "))
        }
    }
}

impl FromStr for Table {
    type Err = TableError;

    fn from_str(text: &str) -> Result<Self, TableError> {
        let mut words = text.split_ascii_whitespace();
        let mut next = |what| words.next().ok_or(TableError::Short(what));
        let hash_type = HashType::from_number(number("hash type", next("hash type")?)?)?;
        let (data_device, hash_device) = (next("data device")?, next("hash device")?);
        let size =
            |what, word: &str| Ok::<_, TableError>(BlockSize::new(what, number(what, word)?)?);
        let data_block_size = size("data block size", next("data block size")?)?;
        let hash_block_size = size("hash block size", next("hash block size")?)?;
        let data_blocks = number("number of data blocks", next("number of data blocks")?)?;
        let hash_start = number("hash start", next("hash start")?)?;
        let algorithm = next("algorithm")?.to_owned();
        let root_hash = Digest::parse(next("root hash")?)?;
        let salt = Salt::parse(next("salt")?)?;
        let mut table = Table {
            hash_type,
            data_device: data_device.to_owned(),
            hash_device: hash_device.to_owned(),
            data_block_size,
            hash_block_size,
            data_blocks,
            hash_start,
            algorithm,
            root_hash,
            salt,
            on_corruption: OnCorruption::Fail,
            ignore_zero_blocks: false,
            check_at_most_once: false,
            try_verify_in_tasklet: false,
            fec: None,
            signature_key: None,
            others: Vec::new(),
        };
        if let Some(count) = words.next() {
            let count: usize = number("number of options", count)?;
            table.read_options(words, count)?;
        }
        Ok(table)
    }
}

impl Table {
    fn read_options<'a>(
        &mut self,
        mut words: impl Iterator<Item = &'a str>,
        count: usize,
    ) -> Result<(), TableError> {
        const VALUE: TableError = TableError::Short("option's value");
        let mut fec = FecTable { device: String::new(), blocks: 0, start: 0, roots: 2 };
        let mut taken = 0;
        while let Some(word) = words.next() {
            taken += 1;
            let mut value = || {
                taken += 1;
                words.next().ok_or(VALUE)
            };
            match word {
                "ignore_corruption" => self.on_corruption = OnCorruption::Ignore,
                "restart_on_corruption" => self.on_corruption = OnCorruption::Restart,
                "panic_on_corruption" => self.on_corruption = OnCorruption::Panic,
                "ignore_zero_blocks" => self.ignore_zero_blocks = true,
                "check_at_most_once" => self.check_at_most_once = true,
                "try_verify_in_tasklet" => self.try_verify_in_tasklet = true,
                "use_fec_from_device" => value()?.clone_into(&mut fec.device),
                "fec_blocks" => fec.blocks = number("fec_blocks", value()?)?,
                "fec_start" => fec.start = number("fec_start", value()?)?,
                "fec_roots" => fec.roots = number("fec_roots", value()?)?,
                "root_hash_sig_key_desc" => self.signature_key = Some(value()?.to_owned()),
                other => self.others.push(other.to_owned()),
            }
        }
        if taken != count {
            let found = count.to_string();
            return Err(TableError::Word { what: "number of options", found });
        }
        self.fec = (!fec.device.is_empty()).then_some(fec);
        Ok(())
    }
}

fn number<T: FromStr>(what: &'static str, word: &str) -> Result<T, TableError> {
    let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| word.parse().ok()).flatten();
    number.ok_or_else(|| TableError::Word { what, found: word.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word() -> impl Strategy<Value = String> {
        "[a-z][!-~]{0,20}"
    }

    fn fec() -> impl Strategy<Value = FecTable> {
        (word(), any::<[u64; 3]>()).prop_map(|(device, [blocks, start, roots])| FecTable {
            device,
            blocks,
            start,
            roots,
        })
    }

    prop_compose! {
        fn table()(
            (data_device, hash_device, algorithm) in (word(), word(), word()),
            (data, hash) in (9_u32..20, 9_u32..20),
            (data_blocks, hash_start) in any::<(u64, u64)>(),
            root in prop::collection::vec(any::<u8>(), 1..65),
            salt in prop::collection::vec(any::<u8>(), 0..257),
            mode in 0_usize..4,
            flags in any::<[bool; 4]>(),
            fec in prop::option::of(fec()),
            signature_key in prop::option::of("cryptsetup:[a-z]{1,9}"),
        ) -> Table {
            use OnCorruption::{Fail, Ignore, Panic, Restart};
            let [ignore_zero_blocks, check_at_most_once, try_verify_in_tasklet, normal] = flags;
            Table {
                hash_type: if normal { HashType::Normal } else { HashType::ChromeOs },
                data_device,
                hash_device,
                data_block_size: BlockSize::new("data", 1 << data).unwrap(),
                hash_block_size: BlockSize::new("hash", 1 << hash).unwrap(),
                data_blocks,
                hash_start,
                algorithm,
                root_hash: Digest::new(&root),
                salt: Salt::new(&salt).unwrap(),
                on_corruption: [Fail, Ignore, Restart, Panic][mode],
                ignore_zero_blocks,
                check_at_most_once,
                try_verify_in_tasklet,
                fec,
                signature_key,
                others: Vec::new(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(table in table()) {
            prop_assert_eq!(table.to_string().parse(), Ok(table));
        }

        #[test]
        fn no_text_is_too_much(text in "[ -~]{0,200}") {
            let _ = text.parse::<Table>();
        }
    }

    #[test]
    fn a_hash_block_covers_what_hangs_below_it() {
        // 128 digests of 32 bytes in a block: 300 data blocks have 3 blocks below 1.
        let root = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";
        let table: Table = format!("1 7:1 7:0 4096 4096 300 1 sha256 {root} -").parse().unwrap();
        let covered = |block| table.covered(HashBlock(block));
        assert_eq!(covered(0), None, "the superblock");
        assert_eq!(covered(1), Some(0..300));
        assert_eq!(covered(2), Some(0..128));
        assert_eq!(covered(4), Some(256..300));
        assert_eq!(covered(5), None);
        // The golden image of three levels, by what the kernel said of its hash block 7.
        let root = "9580272a638395a0".repeat(8);
        let golden: Table = format!("1 7:1 7:0 1024 512 256 1 sha512 {root} 5a").parse().unwrap();
        assert_eq!(golden.covered(HashBlock(7)), Some(8..16));
        assert_eq!(golden.covered(HashBlock(5)), Some(192..256));
        assert_eq!(golden.covered(HashBlock(38)), None);
    }

    proptest! {
        #[test]
        fn what_is_covered_is_there(table in table(), block in any::<u64>(), near in 0..200_u64) {
            for block in [block, table.hash_start.saturating_add(near)] {
                if let Some(covered) = table.covered(HashBlock(block)) {
                    prop_assert!(covered.start < covered.end && covered.end <= table.data_blocks);
                }
            }
        }
    }

    /// As `dmsetup table` showed it of Linux 6.12.
    #[test]
    fn a_table_of_the_kernel_s() {
        let text = "1 7:1 7:0 4096 4096 64 1 sha256 \
            a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15 \
            0011 10 restart_on_corruption use_fec_from_device 7:2 fec_blocks 65 fec_start 0 fec_roots 2 \
            ignore_zero_blocks";
        let table: Table = text.parse().unwrap();
        assert_eq!(table.on_corruption, OnCorruption::Restart);
        assert_eq!((table.hash_start, table.fec.as_ref().unwrap().blocks), (1, 65));
        // The kernel before 5.5 wrote options in another order.
        assert_eq!(table.to_string().parse(), Ok(table));
        let newer: Table = text.replace("ignore_zero_blocks", "from_the_future").parse().unwrap();
        assert_eq!(newer.others, ["from_the_future"]);
    }

    #[test]
    fn other_texts_are_refused() {
        let good = "1 7:0 7:1 4096 4096 8 1 sha256 00ff - 2 ignore_zero_blocks check_at_most_once";
        assert!(good.parse::<Table>().is_ok());
        for (from, to) in [
            ("1 7:0", "2 7:0"),
            (" 4096 8", " 4095 8"),
            (" 8 ", " -8 "),
            (" 8 ", " 18446744073709551616 "),
            ("00ff", "00fg"),
            (" 2 ", " 3 "),
            (" 2 ignore_zero_blocks", " 2 fec_roots"),
            (" - 2 ignore_zero_blocks check_at_most_once", ""),
        ] {
            let bad = good.replacen(from, to, 1);
            assert!(bad.parse::<Table>().is_err(), "{bad}");
        }
    }
}
