//! Small images of every kind of format, and disks that fail, for the tests of this crate.

// Each test program uses what it needs.
#![allow(dead_code)]

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;

use block::access::{Memory, ReadAt};
use block::verity::{
    BlockSize, Digest, HashArea, HashName, HashType, Layout, Params, Salt, Volume, format,
};
use uuid::Uuid;

/// Hash type, algorithm, data block size, hash block size, data blocks, salt.
pub(crate) const FORMATS: &[(u64, &str, u64, u64, u64, &str)] = &[
    (1, "sha256", 512, 512, 300, "00ff"),
    (1, "sha256", 4096, 4096, 9, "-"),
    (1, "sha256", 512, 1024, 33, "0badcafe"),
    (0, "sha1", 1024, 512, 26, "aabbccdd"),
    (1, "sha1", 512, 512, 17, "aabbccdd"),
    (0, "sha384", 512, 1024, 70, "-"),
    (1, "sha512", 1024, 512, 65, "5a"),
    (1, "blake2b-256", 512, 512, 16, "01"),
    (1, "sha256", 512, 512, 1, "01"),
];

#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) data: Vec<u8>,
    pub(crate) hash: Vec<u8>,
    pub(crate) params: Params,
    pub(crate) area: HashArea,
    pub(crate) root: Digest,
}

/// Random data, and its tree.
pub(crate) fn make(format_number: usize) -> Image {
    make_with(format_number, |_, _| {})
}

/// The same, with data that `change` made of it; it is told the size of a block too.
pub(crate) fn make_with(format_number: usize, change: impl FnOnce(&mut [u8], usize)) -> Image {
    make_of(format_number, FORMATS[format_number].4, change)
}

/// So many blocks of the first format.
pub(crate) fn make_large(data_blocks: u64) -> Image {
    make_of(0, data_blocks, |_, _| {})
}

fn make_of(format_number: usize, data_blocks: u64, change: impl FnOnce(&mut [u8], usize)) -> Image {
    let (hash_type, hash, data_block_size, hash_block_size, _, salt) = FORMATS[format_number];
    let params = Params {
        hash_type: HashType::from_number(hash_type).unwrap(),
        hash: HashName::parse(hash).unwrap(),
        data_block_size: BlockSize::new("data block size", data_block_size).unwrap(),
        hash_block_size: BlockSize::new("hash block size", hash_block_size).unwrap(),
        data_blocks,
        salt: Salt::parse(salt).unwrap(),
    };
    let area = HashArea { offset: 512, superblock: format_number.is_multiple_of(2) };
    let layout = Layout::new(&params, area).unwrap();
    let mut random = Random(format_number as u64 + 1);
    let mut data: Vec<u8> =
        (0..layout.data_bytes()).map(|_| random.next().to_le_bytes()[0]).collect();
    change(&mut data, params.data_block_size.as_usize());
    let hash = Memory::default();
    let root = format(
        &data,
        &hash,
        &params,
        &layout,
        Uuid::nil(),
        NonZeroUsize::new(2).unwrap(),
        &mut |_| {},
    )
    .unwrap();
    Image { data, hash: hash.into_bytes(), params, area, root }
}

impl Image {
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(&self.params, self.area).unwrap()
    }

    pub(crate) fn volume<D: ReadAt, H: ReadAt>(&self, data: D, hash: H) -> Volume<D, H> {
        Volume::open(data, hash, &self.params, self.area, &self.root).unwrap()
    }
}

/// xorshift64*: the same faults in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }
}

/// Bytes of which some cannot be read, and that end before they say they do.
pub(crate) struct Failing<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) end: usize,
    pub(crate) unreadable: Vec<Range<u64>>,
}

impl ReadAt for Failing<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let asked = offset..offset + buf.len() as u64;
        if self.unreadable.iter().any(|bad| bad.start < asked.end && asked.start < bad.end) {
            return Err(io::Error::from_raw_os_error(5));
        }
        // Short reads are allowed; not even a block comes at once.
        let most = buf.len().min(700);
        self.bytes[..self.end].read_at(&mut buf[..most], offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }
}
