//! A device that is being read: every policy against a model of it, requests of any bytes,
//! disks that change and fail meanwhile, many threads.

#![allow(clippy::unwrap_used)]

mod images;

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::sync::{Mutex, RwLock};
use std::thread;

use block::access::ReadAt;
use block::verity::{
    Blocks, Counts, Device, Fault, Finding, Health, Notice, ParamError, Policy, ReadError, Refused,
};
use images::{FORMATS, Failing, Image, Random, make, make_with};
use proptest::prelude::*;
use record::place::DeviceId;
use record::units::{DataBlock, HashBlock};

/// Every combination.
fn policies() -> impl Iterator<Item = Policy> {
    (0..8).map(|bits| Policy {
        ignore_corruption: bits & 1 != 0,
        ignore_zero_blocks: bits & 2 != 0,
        check_at_most_once: bits & 4 != 0,
    })
}

/// How a request ended.
#[derive(Debug, PartialEq)]
enum Answer {
    Bytes(Vec<u8>),
    Refused(Refused),
    Io(&'static str, DataBlock, u64),
}

/// A device as the documentation describes it, without threads, pieces, bounds and speed.
struct Model<'a> {
    image: &'a Image,
    data: &'a Failing<'a>,
    hash: &'a Failing<'a>,
    policy: Policy,
    seen: HashSet<u64>,
    kept: HashMap<HashBlock, Vec<u8>>,
    mismatches: u64,
    io_errors: u64,
    delivered_good: u64,
    notices: Vec<Notice>,
}

impl Model<'_> {
    fn request(&mut self, range: Range<u64>) -> Answer {
        let size = u64::from(self.image.params.data_block_size.bytes());
        let mut leaf: Option<(Range<u64>, Vec<u8>)> = None;
        let mut bytes = Vec::new();
        for block in range.start / size..range.end.div_ceil(size) {
            match self.block(block, &mut leaf) {
                Ok(block) => bytes.extend(block),
                Err(answer) => return answer,
            }
        }
        let skip = usize::try_from(range.start % size).unwrap();
        let count = usize::try_from(range.end - range.start).unwrap();
        Answer::Bytes(bytes[skip..skip + count].to_vec())
    }

    fn block(
        &mut self,
        block: u64,
        leaf: &mut Option<(Range<u64>, Vec<u8>)>,
    ) -> Result<Vec<u8>, Answer> {
        let layout = self.image.layout();
        let place = DataBlock(block)..DataBlock(block + 1);
        let range = layout.data_range(&place);
        let size = self.image.params.data_block_size.as_usize();
        let mut bytes = vec![0; size];
        let read = self.data.read_full(&mut bytes, range.start);
        if self.seen.contains(&block) {
            // What fails never began to fail here, so it was not good once.
            self.delivered_good += 1;
            return Ok(bytes);
        }
        if !leaf.as_ref().is_some_and(|(covers, _)| covers.contains(&block)) {
            *leaf = None;
            *leaf = Some(self.look_up(block)?);
        }
        let want = &leaf.as_ref().unwrap().1;
        let geometry = layout.geometry();
        let want = match geometry.levels() {
            0 => want.clone(),
            _ => want[geometry.slot(geometry.position(block, 0).slot)].to_vec(),
        };
        if self.policy.ignore_zero_blocks && want == self.digest(&vec![0; size]) {
            self.delivered_good += 1;
            return Ok(vec![0; size]);
        }
        let blocks = Blocks::Data(place);
        if self.judge(&bytes, read, &want, block, blocks, "data", range.start)? {
            self.delivered_good += 1;
            if self.policy.check_at_most_once {
                self.seen.insert(block);
            }
        }
        Ok(bytes)
    }

    fn look_up(&mut self, block: u64) -> Result<(Range<u64>, Vec<u8>), Answer> {
        let layout = self.image.layout();
        let geometry = layout.geometry();
        let levels = geometry.levels();
        if levels == 0 {
            return Ok((0..1, self.image.root.as_bytes().to_vec()));
        }
        let place = |level| layout.hash_block(level, geometry.position(block, level).index);
        let lowest = (0..levels).find(|&level| self.kept.contains_key(&place(level)));
        let mut above = lowest.unwrap_or(levels);
        let mut bytes = lowest.map(|level| self.kept[&place(level)].clone());
        while above > 0 {
            let want = match &bytes {
                None => self.image.root.as_bytes().to_vec(),
                Some(bytes) => bytes[geometry.slot(geometry.position(block, above).slot)].to_vec(),
            };
            above -= 1;
            let number = place(above);
            let range = layout.hash_range(&(number..HashBlock(number.0 + 1)));
            let mut found = vec![0; geometry.hash_block_size()];
            let read = self.hash.read_full(&mut found, range.start);
            let covers = geometry.covered(above, geometry.position(block, above).index);
            let blocks = Blocks::Hash {
                level: above,
                blocks: number..HashBlock(number.0 + 1),
                covers: DataBlock(covers.start)..DataBlock(covers.end),
            };
            if self.judge(&found, read, &want, block, blocks, "hash", range.start)? {
                self.kept.insert(number, found.clone());
            }
            bytes = Some(found);
        }
        Ok((geometry.covered(0, geometry.position(block, 0).index), bytes.unwrap()))
    }

    /// Whether a block is good; not, if it is passed over.
    #[allow(clippy::too_many_arguments)]
    fn judge(
        &mut self,
        bytes: &[u8],
        read: io::Result<usize>,
        want: &[u8],
        block: u64,
        blocks: Blocks,
        role: &'static str,
        offset: u64,
    ) -> Result<bool, Answer> {
        let fault = match read {
            Err(_) => {
                self.io_errors += 1;
                return Err(Answer::Io(role, DataBlock(block), offset));
            }
            Ok(read) if read < bytes.len() => Fault::Missing,
            Ok(_) if self.digest(bytes) != want => Fault::Mismatch,
            Ok(_) => return Ok(true),
        };
        self.mismatches += 1;
        let finding = Finding { fault, blocks };
        let refused =
            Refused { block: DataBlock(block), finding, saturated: self.mismatches == 100 };
        if self.policy.ignore_corruption && fault == Fault::Mismatch {
            self.notices.push(Notice::Tolerated(refused));
            return Ok(false);
        }
        Err(Answer::Refused(refused))
    }

    fn digest(&self, bytes: &[u8]) -> Vec<u8> {
        let mut digest = vec![0; self.image.root.as_bytes().len()];
        self.image.params.hasher().hash_one(bytes, &mut digest);
        digest
    }
}

fn ask<D: ReadAt, H: ReadAt>(
    device: &Device<D, H>,
    range: Range<u64>,
    notices: &mut Vec<Notice>,
) -> Answer {
    let mut buf = vec![0xa5; usize::try_from(range.end - range.start).unwrap()];
    let mut scratch = Vec::new();
    let answer =
        device.read_at(range.start, &mut buf, &mut scratch, &mut |notice| notices.push(notice));
    match answer {
        Ok(()) => Answer::Bytes(buf),
        Err(ReadError::Refused(refused)) => Answer::Refused(refused),
        Err(ReadError::Io { role, block, offset, source }) => {
            assert_eq!(source.raw_os_error(), Some(5));
            Answer::Io(role, block, offset)
        }
        Err(error) => panic!("{error}"),
    }
}

fn zero_some(data: &mut [u8], size: usize) {
    for (i, block) in data.chunks_exact_mut(size).enumerate() {
        if i % 5 == 2 || (20..40).contains(&i) {
            block.fill(0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Any faults, any requests, every policy: answers, notices and counts are the model's.
    #[test]
    fn every_policy_answers_as_it_says(
        number in 0..FORMATS.len(),
        data_flips in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        hash_flips in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        data_holes in prop::collection::vec(any::<prop::sample::Index>(), 0..2),
        hash_holes in prop::collection::vec(any::<prop::sample::Index>(), 0..2),
        data_end in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        hash_end in prop::option::weighted(0.1, any::<prop::sample::Index>()),
        requests in prop::collection::vec((any::<prop::sample::Index>(), 1..40_000_u64), 1..60),
    ) {
        let mut image = make_with(number, zero_some);
        for (bytes, flips) in [(&mut image.data, data_flips), (&mut image.hash, hash_flips)] {
            for flip in flips {
                let at = flip.index(bytes.len());
                bytes[at] ^= 0x10;
            }
        }
        let failing = |bytes, holes: Vec<prop::sample::Index>, end: Option<prop::sample::Index>| {
            let bytes: &[u8] = bytes;
            let unreadable = holes.iter().map(|hole| {
                let at = hole.index(bytes.len()) as u64;
                at..at + 600
            });
            let end = end.map_or(bytes.len(), |end| end.index(bytes.len()));
            Failing { bytes, end, unreadable: unreadable.collect() }
        };
        let data = failing(&image.data, data_holes, data_end);
        let hash = failing(&image.hash, hash_holes, hash_end);
        let end = image.layout().data_bytes();
        for policy in policies() {
            let device = Device::with_policy(image.volume(&data, &hash), policy).unwrap();
            let mut model = Model {
                image: &image,
                data: &data,
                hash: &hash,
                policy,
                seen: HashSet::new(),
                kept: HashMap::new(),
                mismatches: 0,
                io_errors: 0,
                delivered_good: 0,
                notices: Vec::new(),
            };
            let mut notices = Vec::new();
            for (start, count) in &requests {
                let start = start.index(image.data.len()) as u64;
                let range = start..(start + count).min(end);
                let answer = ask(&device, range.clone(), &mut notices);
                prop_assert_eq!(answer, model.request(range));
            }
            prop_assert_eq!(&notices, &model.notices);
            let counts = device.counts();
            prop_assert_eq!(counts.reads, requests.len() as u64);
            prop_assert_eq!(counts.mismatches, model.mismatches);
            prop_assert_eq!(counts.io_errors, model.io_errors);
            prop_assert_eq!(counts.verified + counts.unverified, model.delivered_good);
            prop_assert_eq!(counts.corrected, 0);
            prop_assert_eq!(device.health(), Health::after(model.mismatches));
            if policy == Policy::default() {
                prop_assert_eq!(notices, []);
                prop_assert_eq!(counts.unverified, 0);
            }
        }
    }
}

/// A file that others change.
struct Changing(RwLock<Vec<u8>>);

impl Changing {
    fn new(bytes: &[u8]) -> Changing {
        Changing(RwLock::new(bytes.to_vec()))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.0.write().unwrap());
    }
}

impl ReadAt for Changing {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read().unwrap().read_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.0.read().unwrap().size()
    }
}

/// 300 blocks of 512 bytes, 16 digests in a hash block.
const SMALL: usize = 0;

fn block_range(block: u64) -> Range<u64> {
    block * 512..(block + 1) * 512
}

#[test]
fn a_block_that_was_good_once_is_not_looked_at_again() {
    let image = make(SMALL);
    let data = Changing::new(&image.data);
    let policy = Policy { check_at_most_once: true, ..Policy::default() };
    let device = Device::with_policy(image.volume(&data, &image.hash), policy).unwrap();
    let mut notices = Vec::new();
    ask(&device, 512 * 10..512 * 30, &mut notices);
    assert_eq!((device.counts().verified, device.counts().unverified), (20, 0));

    data.change(|data| data.iter_mut().for_each(|byte| *byte ^= 1));
    let changed: Vec<u8> = image.data.iter().map(|byte| byte ^ 1).collect();
    let known = ask(&device, 512 * 10..512 * 30, &mut notices);
    assert_eq!(known, Answer::Bytes(changed[512 * 10..512 * 30].to_vec()));
    // The neighbours were not read yet.
    for range in [512 * 9..512 * 30, 512 * 10..512 * 31] {
        let Answer::Refused(refused) = ask(&device, range, &mut notices) else {
            panic!("not refused")
        };
        assert!(matches!(refused.block.0, 9 | 30));
    }
    // What is gone cannot have been good.
    data.change(|data| data.truncate(512 * 15));
    let Answer::Refused(refused) = ask(&device, 512 * 15..512 * 16, &mut notices) else {
        panic!("not refused")
    };
    assert_eq!(refused.finding.fault, Fault::Missing);
    assert_eq!((device.counts().mismatches, notices), (3, vec![]));
}

#[test]
fn more_blocks_than_there_are_marks_are_refused() {
    struct Endless;
    impl ReadAt for Endless {
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }
        fn size(&self) -> io::Result<u64> {
            Ok(u64::MAX >> 1)
        }
    }
    let mut image = make(SMALL);
    for (blocks, fits) in [(2_147_483_647, true), (2_147_483_648, false)] {
        image.params.data_blocks = blocks;
        let policy = Policy { check_at_most_once: true, ..Policy::default() };
        let device = Device::with_policy(image.volume(Endless, Endless), policy);
        match device {
            Ok(_) => assert!(fits),
            Err(error) => {
                assert!(!fits);
                assert_eq!(error, ParamError::TooManyToMark { blocks, most: 2_147_483_647 });
            }
        }
    }
}

#[test]
fn files_that_become_shorter_are_violations_from_there_on() {
    let image = make(SMALL);
    let layout = image.layout();
    let (data, hash) = (Changing::new(&image.data), Changing::new(&image.hash));
    let device = Device::new(image.volume(&data, &hash)).with_cache(0);
    let mut notices = Vec::new();
    let mut refused = |block| match ask(&device, block_range(block), &mut notices) {
        Answer::Refused(refused) => {
            let violations = refused.violations(DeviceId::Unserved, DeviceId::Unserved);
            violations.map(|violation| violation.to_string()).collect::<Vec<_>>()
        }
        Answer::Bytes(bytes) => {
            let range = layout.data_range(&(DataBlock(block)..DataBlock(block + 1)));
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            assert_eq!(bytes, image.data[range]);
            vec![]
        }
        answer => panic!("{answer:?}"),
    };
    let nothing: Vec<String> = vec![];
    assert_eq!(refused(200), nothing);
    data.change(|data| data.truncate(200 * 512 + 511));
    let record = |op, block| format!("module=verity op={op} dev=0:0 sector={block} res=0");
    assert_eq!(refused(199), nothing);
    assert_eq!(refused(200), [record("verify-data", 200)]);
    assert_eq!(refused(299), [record("verify-data", 299)]);

    // The hash block of block 199 is in memory, those of others are gone.
    let end = usize::try_from(layout.tree_bytes().start).unwrap();
    hash.change(|hash| hash.truncate(end));
    assert_eq!(refused(199), nothing);
    for block in [0, 100, 170] {
        assert_eq!(refused(block), [record("verify-metadata", block)]);
    }
    data.change(|data| data.clone_from(&image.data));
    hash.change(|hash| hash.clone_from(&image.hash));
    for block in [0, 100, 170, 200, 299] {
        assert_eq!(refused(block), nothing);
    }
    assert_eq!(device.counts().mismatches, 5);
    assert_eq!(device.health(), Health::Corrupted { mismatches: 5 });
}

#[test]
fn a_request_outside_the_device_is_neither_read_nor_counted() {
    let image = make(SMALL);
    let device = Device::new(image.volume(&image.data, &image.hash));
    let end = image.layout().data_bytes();
    let mut scratch = Vec::new();
    for (offset, count) in [(end, 1), (end - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 4096)] {
        let result = device.read_at(offset, &mut vec![0; count], &mut scratch, &mut |_| {});
        assert!(matches!(result, Err(ReadError::Outside { .. })), "{offset}, {count}");
    }
    for (block, count) in [(300, 512), (299, 1024), (0, 511), (u64::MAX, 512), (0, 513)] {
        let result = device.read(DataBlock(block), &mut vec![0; count], &mut |_| {});
        assert!(matches!(result, Err(ReadError::Outside { .. })), "{block}, {count}");
    }
    assert_eq!(device.counts(), Counts::default());
    device.read_at(end, &mut [], &mut scratch, &mut |_| {}).unwrap();
    device.read(DataBlock(300), &mut [], &mut |_| {}).unwrap();
}

#[test]
fn hash_blocks_are_read_once_while_there_is_room() {
    let image = make(SMALL);
    let geometry = image.layout().geometry().clone();
    let device = Device::new(image.volume(&image.data, &image.hash));
    for _ in 0..3 {
        for block in 0..300 {
            device.read(DataBlock(block), &mut [0; 512], &mut |_| {}).unwrap();
        }
    }
    let counts = device.counts();
    assert_eq!((counts.hash_reads, counts.verified), (geometry.blocks(), 900));

    // One that changes on disk meanwhile was verified, and stays what it was.
    let hash = Changing::new(&image.hash);
    let device = Device::new(image.volume(&image.data, &hash));
    device.read(DataBlock(7), &mut [0; 512], &mut |_| {}).unwrap();
    hash.change(|hash| hash.fill(0));
    device.read(DataBlock(8), &mut [0; 512], &mut |_| {}).unwrap();
    assert!(device.read(DataBlock(100), &mut [0; 512], &mut |_| {}).is_err());
}

/// Eight threads on a device of which data, tree and disk are bad in places: every good byte is
/// right, every failure is counted once, and the hundredth is announced once.
#[test]
fn eight_threads_lose_no_count() {
    const THREADS: u64 = 8;
    const REQUESTS: u64 = 3000;
    let mut image = make(SMALL);
    let good = image.data.clone();
    for block in [3, 77, 78, 250] {
        image.data[block * 512 + 5] ^= 1;
    }
    let layout = image.layout();
    let leaf = layout.hash_range(&(layout.hash_block(0, 9)..layout.hash_block(0, 10)));
    image.hash[usize::try_from(leaf.start).unwrap()] ^= 1;
    let under_leaf = layout.geometry().covered(0, 9);
    let data =
        Failing { bytes: &image.data, end: image.data.len(), unreadable: vec![block_range(222)] };
    for (policy, cache) in policies().flat_map(|policy| [(policy, 0), (policy, 1 << 20)]) {
        let device = Device::with_policy(image.volume(&data, &image.hash), policy)
            .unwrap()
            .with_cache(cache);
        let all: Mutex<(u64, u64, u64)> = Mutex::default();
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (device, all, good, under_leaf) = (&device, &all, &good, &under_leaf);
                scope.spawn(move || {
                    let mut random = Random(thread + 1);
                    let (mut failures, mut io_errors, mut saturated) = (0, 0, 0);
                    for _ in 0..REQUESTS {
                        let start = random.below(300 * 512);
                        let range = start..(start + 1 + random.below(3000)).min(300 * 512);
                        let blocks = range.start / 512..range.end.div_ceil(512);
                        let is_bad = |block: u64| {
                            matches!(block, 3 | 77 | 78 | 250) || under_leaf.contains(&block)
                        };
                        let mut notices = Vec::new();
                        let answer = ask(device, range.clone(), &mut notices);
                        for notice in notices {
                            let Notice::Tolerated(refused) = notice else { panic!("{notice:?}") };
                            assert!(policy.ignore_corruption && is_bad(refused.block.0));
                            failures += 1;
                            saturated += u64::from(refused.saturated);
                        }
                        match answer {
                            Answer::Bytes(bytes) => {
                                assert!(!blocks.clone().any(|block| block == 222));
                                let tolerated = policy.ignore_corruption;
                                assert!(tolerated || !blocks.clone().any(is_bad));
                                if !blocks.clone().any(|block| matches!(block, 3 | 77 | 78 | 250)) {
                                    let at = usize::try_from(range.start).unwrap();
                                    assert_eq!(bytes, good[at..at + bytes.len()]);
                                }
                            }
                            Answer::Refused(refused) => {
                                assert!(!policy.ignore_corruption);
                                let first = blocks.clone().find(|&block| is_bad(block));
                                assert_eq!(Some(refused.block.0), first);
                                failures += 1;
                                saturated += u64::from(refused.saturated);
                            }
                            Answer::Io(role, block, _) => {
                                assert_eq!((role, block.0), ("data", 222));
                                io_errors += 1;
                            }
                        }
                    }
                    let mut all = all.lock().unwrap();
                    all.0 += failures;
                    all.1 += io_errors;
                    all.2 += saturated;
                });
            }
        });
        let (failures, io_errors, saturated) = all.into_inner().unwrap();
        let counts = device.counts();
        assert_eq!(counts.reads, THREADS * REQUESTS);
        assert_eq!((counts.mismatches, counts.io_errors), (failures, io_errors), "{policy:?}");
        assert!(failures > 100 && io_errors > 0);
        assert_eq!((saturated, device.health()), (1, Health::Saturated));
    }
}
