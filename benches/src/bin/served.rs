//! Reading a served device: one FUSE layer over one file, with a content that only reads, one that
//! hashes too, and one that verifies; what a second read costs; and the memory of a server of a
//! large device. Needs root. Servers are processes of their own (this program again), as a reader
//! must not wait for itself when it is killed.

use std::cell::RefCell;
use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use benches::{Amount, Bench, Disk, contestant, noise};
use block::ReadAt;
use block::access::Memory;
use block::verity::{
    BlockSize, Device, Digest, HashArea, HashName, HashType, Layout, Params, Salt, Volume, format,
};
use host::fuse::{Attributes, Content, Errno, Reader, serve};
use host::mount::{Detach, MAX_READ, Options, attach, detach, device_number, set_read_ahead};
use lanes::BlockHasher;
use uuid::Uuid;

const MIB: usize = 1 << 20;
/// As much as is read in one run.
const SIZE: usize = 512 * MIB;
/// Reads of 4 KiB in one run.
const RANDOM: usize = 20_000;
/// A large device.
const LARGE: u64 = 100 << 30;

fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().collect();
    if let [_, role, rest @ ..] = &words[..]
        && role == SERVER
    {
        return server(rest);
    }
    let mut bench = Bench::from_args("served");
    let folder = tempfile::tempdir()?;
    let point = folder.path().join("probe");
    File::create(&point)?;
    let mounted = attach(&point, Options::default()).and_then(|_| detach(&point, Detach::Lazy));
    if let Err(error) = mounted {
        println!("SKIPPED: served: {error}");
        return Ok(());
    }
    if fs::metadata("/proc/self")?.uid() != 0 {
        println!("SKIPPED: served: only root may set how far the kernel reads ahead");
        return Ok(());
    }
    let (data, hash) = (folder.path().join("data"), folder.path().join("hash"));
    let mut file = File::create(&data)?;
    let piece = noise(16 * MIB);
    for _ in 0..SIZE / piece.len() {
        file.write_all(&piece)?;
    }
    drop(piece);
    file.sync_all()?;
    let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let params = params(SIZE as u64);
    let layout = Layout::new(&params, HashArea::default()).map_err(io::Error::other)?;
    let tree = Memory::default();
    let input = Disk(File::open(&data)?);
    let root = format(&input, &tree, &params, &layout, Uuid::nil(), threads, &mut |_| {})
        .map_err(io::Error::other)?;
    fs::write(&hash, tree.into_bytes())?;
    fs::write(folder.path().join("root"), root.as_bytes())?;
    bench.note(format_args!("{threads} cores, {} MiB", SIZE / MIB));

    for (servers, read_ahead) in [(2, 128), (2, 512)] {
        let way = Way { direct_io: false, servers, read_ahead };
        let once = |what| {
            move |folder: &Path| sequential(&Served::new(folder, what, SIZE as u64, way).point)
        };
        // A new mount has nothing in its page cache.
        let contestants = CONTENTS.map(|(name, what)| {
            let (folder, once) = (folder.path(), once(what));
            contestant(name, move || once(folder))
        });
        bench.contest(
            &format!("sequential, {servers} server threads, read-ahead {read_ahead} KiB"),
            Amount::bytes(SIZE),
            contestants.into(),
        );
    }
    for readers in [1, 4] {
        let way = Way { direct_io: true, servers: 2, read_ahead: 128 };
        let contestants = CONTENTS.map(|(name, what)| {
            let served = Served::new(folder.path(), what, SIZE as u64, way);
            contestant(name, move || random(&served.point, readers))
        });
        bench.contest(
            &format!("4 KiB random, direct, 2 server threads, {readers} readers"),
            Amount::items("reads", RANDOM),
            contestants.into(),
        );
    }
    let way = Way { direct_io: false, servers: 2, read_ahead: 128 };
    let mut contestants = vec![contestant("a plain file", || sequential(&data))];
    for (name, what) in [CONTENTS[0], CONTENTS[2]] {
        let served = Served::new(folder.path(), what, SIZE as u64, way);
        contestants.push(contestant(name, move || sequential(&served.point)));
    }
    bench.contest("second read of the same", Amount::bytes(SIZE), contestants);

    File::create(folder.path().join("sparse"))?.set_len(LARGE)?;
    let way = Way { direct_io: true, servers: 4, read_ahead: 1024 };
    let served = Served::new(folder.path(), "large", LARGE, way);
    random(&served.point, 4);
    let file = File::open(&served.point)?;
    let mut buf = vec![0; MIB];
    for place in (0..LARGE).step_by(1 << 30) {
        file.read_exact_at(&mut buf, place)?;
    }
    bench.note(format_args!(
        "most memory of a server of 100 GiB that was read all over: {} KiB",
        served.most_memory()?
    ));
    Ok(())
}

/// What is served: the name of the contestant, and the word for the server.
const CONTENTS: [(&str, &str); 3] = [
    ("served, not verified", "plain"),
    ("served, hashed, no tree", "hashed"),
    ("served, verified", "verified"),
];

/// The first argument of a server.
const SERVER: &str = "--serve";

/// Serves until the other end of standard input is closed: whoever started it may die.
fn server(words: &[String]) -> io::Result<()> {
    let [folder, what, point, size, direct_io, servers, read_ahead] = words else {
        return Err(io::Error::other("the words of Served::new"));
    };
    let (folder, point) = (Path::new(folder), Path::new(point));
    let number = |word: &str| word.parse::<u64>().map_err(io::Error::other);
    let disk = |name: &str| File::open(folder.join(name)).map(Disk);
    let params = params(number(size)?);
    let attributes = Attributes {
        size: number(size)?,
        mode: 0o444,
        uid: 0,
        gid: 0,
        block_size: 4096,
        direct_io: direct_io == "true",
        threads: servers.parse().map_err(io::Error::other)?,
    };
    // As a device server has it.
    let max_read = if attributes.direct_io { MAX_READ } else { 128 << 10 };
    let connection =
        attach(point, Options { max_read, ..Options::default() }).map_err(io::Error::other)?;
    let area = HashArea::default();
    let session = match what.as_str() {
        "plain" => serve(connection, attributes, Plain(disk("data")?.0)),
        "hashed" => {
            serve(connection, attributes, Hashed { file: disk("data")?.0, hasher: params.hasher() })
        }
        "verified" => {
            let root = Digest::new(&fs::read(folder.join("root"))?);
            let volume = Volume::open(disk("data")?, disk("hash")?, &params, area, &root)
                .map_err(io::Error::other)?;
            serve(connection, attributes, Verified(Device::new(volume)))
        }
        _ => {
            let layout = Layout::new(&params, area).map_err(io::Error::other)?;
            let (tree, root) = TreeOfZeros::new(&params, &layout);
            let volume = Volume::open(disk("sparse")?, tree, &params, area, &root)
                .map_err(io::Error::other)?;
            serve(connection, attributes, Verified(Device::new(volume)))
        }
    }?;
    let device = device_number(point)?.ok_or_else(|| io::Error::other("it is mounted"))?;
    set_read_ahead(device, read_ahead.parse().map_err(io::Error::other)?)?;
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    detach(point, Detach::Lazy).map_err(io::Error::other)?;
    session.wait()
}

/// The tree over nothing but zeros: the hash blocks of a level are all alike, but for the last.
struct TreeOfZeros {
    layout: Layout,
    /// By level: one of its blocks, and the last.
    levels: Vec<[Vec<u8>; 2]>,
}

impl TreeOfZeros {
    fn new(params: &Params, layout: &Layout) -> (TreeOfZeros, Digest) {
        let (hasher, geometry) = (params.hasher(), layout.geometry());
        let digest = |block: &[u8]| {
            let mut digest = vec![0; hasher.digest_size()];
            hasher.hash_one(block, &mut digest);
            digest
        };
        let below = digest(&vec![0; params.data_block_size.as_usize()]);
        let mut below = [below.clone(), below];
        let mut levels = Vec::new();
        for level in 0..geometry.levels() {
            let last = geometry.level_blocks(level) - 1;
            let block = |digests: usize, is_last: bool| {
                let mut block = vec![0; geometry.hash_block_size()];
                for slot in 0..digests {
                    let last = usize::from(is_last && slot + 1 == digests);
                    block[geometry.slot(slot)].copy_from_slice(&below[last]);
                }
                block
            };
            let blocks =
                [block(geometry.per_block(), false), block(geometry.digests(level, last), true)];
            below = [digest(&blocks[0]), digest(&blocks[1])];
            levels.push(blocks);
        }
        (TreeOfZeros { layout: layout.clone(), levels }, Digest::new(&below[1]))
    }
}

impl ReadAt for TreeOfZeros {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let size = self.layout.hash_block_size();
        let place = record::units::HashBlock(size.whole_blocks(offset));
        let Some((level, index)) = self.layout.locate(place) else { return Ok(0) };
        let last = index + 1 == self.layout.geometry().level_blocks(level);
        self.levels[level][usize::from(last)]
            .as_slice()
            .read_at(buf, offset % u64::from(size.bytes()))
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.layout.tree_bytes().end)
    }
}

fn params(size: u64) -> Params {
    Params {
        hash_type: HashType::Normal,
        hash: HashName::parse("sha256").expect("known"),
        data_block_size: BlockSize::DEFAULT,
        hash_block_size: BlockSize::DEFAULT,
        data_blocks: size / u64::from(BlockSize::DEFAULT.bytes()),
        salt: Salt::new(&[7; 32]).expect("short"),
    }
}

/// Reads a file from front to end, 1 MiB at a time.
fn sequential(path: &Path) -> u64 {
    let file = File::open(path).expect("it is there");
    let mut buf = vec![0; MIB];
    let mut sum = 0;
    for at in (0..SIZE).step_by(MIB) {
        file.read_exact_at(&mut buf, at as u64).expect("the device answers");
        sum = u64::from(buf[at / MIB]) + sum * 31 % 1_000_003;
    }
    sum
}

/// Reads blocks here and there, by several threads.
fn random(path: &Path, readers: usize) -> u64 {
    let file = Arc::new(File::open(path).expect("it is there"));
    let blocks = file.metadata().expect("it is open").len() / 4096;
    let read = |reader: usize| {
        let file = file.clone();
        thread::spawn(move || {
            let mut buf = [0; 4096];
            let mut state = reader as u64 + 1;
            let mut sum = 0;
            for _ in 0..RANDOM / readers {
                state =
                    state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                let block = (state >> 20) % blocks;
                file.read_exact_at(&mut buf, block * 4096).expect("the device answers");
                sum += u64::from(buf[77]);
            }
            sum
        })
    };
    let threads: Vec<_> = (0..readers).map(read).collect();
    threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
}

/// How a device is served.
#[derive(Clone, Copy)]
struct Way {
    direct_io: bool,
    servers: usize,
    /// In KiB.
    read_ahead: u32,
}

/// A served device; not any more when this goes.
struct Served {
    point: PathBuf,
    server: Child,
}

impl Served {
    fn new(folder: &Path, what: &str, size: u64, way: Way) -> Served {
        let point = folder.join(format!("served-{what}"));
        File::create(&point).expect("a new file");
        let program = env::current_exe().expect("this program");
        let Way { direct_io, servers, read_ahead } = way;
        let mut server = Command::new(program)
            .arg(SERVER)
            .args([folder.as_os_str(), what.as_ref(), point.as_os_str()])
            .args([size.to_string(), direct_io.to_string()])
            .args([servers.to_string(), read_ahead.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut said = [0; 5];
        let ready = server.stdout.take().expect("piped").read_exact(&mut said);
        let served = Served { point, server };
        ready.expect("the server says ready");
        served
    }

    /// The most memory that the server has had so far, in KiB.
    fn most_memory(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        number.ok_or_else(|| io::Error::other("no VmHWM in its status"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}

/// Content that is what the file holds.
struct Plain(File);

impl Content for Plain {
    fn read(&self, _: Reader, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.0.read_exact_at(buf, offset).map_err(|_| Errno::IO)
    }
}

/// The same, each block of which was hashed in vain: the least that any verification takes.
struct Hashed {
    file: File,
    hasher: BlockHasher,
}

impl Content for Hashed {
    fn read(&self, _: Reader, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        const CHUNK: usize = 128 * 1024;
        let mut digests = [0; CHUNK / 4096 * 32];
        let mut at = offset;
        for chunk in buf.chunks_mut(CHUNK) {
            self.file.read_exact_at(chunk, at).map_err(|_| Errno::IO)?;
            let digests = &mut digests[..chunk.len() / 4096 * 32];
            self.hasher.hash_blocks(chunk, 4096, digests);
            std::hint::black_box(digests);
            at += chunk.len() as u64;
        }
        Ok(())
    }
}

/// Content that is what the root hash promises.
struct Verified<H>(Device<Disk, H>);

impl<H: ReadAt + Send + 'static> Content for Verified<H> {
    fn read(&self, _: Reader, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        thread_local! {
            static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        SCRATCH.with_borrow_mut(|scratch| {
            self.0.read_at(offset, buf, scratch, &mut |_| {}).map_err(|_| Errno::IO)
        })
    }
}
