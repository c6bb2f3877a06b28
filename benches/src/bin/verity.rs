//! Verifying and formatting a verity image in the page cache: veritysetup, ours, and what
//! reading and hashing alone take on this machine.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use benches::{Amount, Bench, Disk, contestant, first_bytes, noise};
use block::verity::{
    BlockSize, Digest, Finding, HashArea, HashName, HashType, Layout, Params, Salt, Volume, Watch,
    format,
};
use uuid::Uuid;

const MIB: usize = 1 << 20;

fn main() -> io::Result<()> {
    let mut bench = Bench::from_args("verity");
    let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let size = 512 * MIB;
    let folder = tempfile::tempdir()?;
    let data_path = folder.path().join("data");
    let mut file = File::create(&data_path)?;
    let piece = noise(16 * MIB);
    for _ in 0..size / piece.len() {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    let data = Disk(File::open(&data_path)?);
    let peer = Command::new("veritysetup").arg("--version").output().is_ok();
    bench.note(format_args!("{threads} cores; {} MiB; veritysetup: {peer}", size / MIB));

    for (data_block_size, hash_block_size) in [(4096, 4096), (1024, 1024)] {
        let params = params(size as u64, data_block_size, hash_block_size);
        let sizes = [data_block_size.to_string(), hash_block_size.to_string()];
        let name = sizes.join("/");
        let hash_path = folder.path().join("hash");
        let hash = Disk(
            File::options().read(true).write(true).create(true).truncate(true).open(&hash_path)?,
        );
        let layout = Layout::new(&params, HashArea::default()).map_err(io::Error::other)?;
        let root = make(&data, &hash, &params, &layout, threads);

        let mut contestants = Vec::new();
        if peer {
            let arguments =
                ["--data-block-size", &sizes[0], "--hash-block-size", &sizes[1], "--salt", SALT];
            let (data_path, theirs) = (data_path.clone(), folder.path().join("theirs"));
            let digits = root.to_string();
            contestants.push(contestant("veritysetup format", move || {
                let mut command = veritysetup("format", &data_path, &theirs);
                let output = command.args(arguments).stdout(Stdio::piped()).output().expect("runs");
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(text.contains(&digits), "another root hash: {text}");
                first_bytes(digits.as_bytes())
            }));
        }
        contestants.push(contestant("veritrail format", || {
            first_bytes(make(&data, &hash, &params, &layout, threads).to_string().as_bytes())
        }));
        let amount = Amount::bytes(size);
        bench.contest(&format!("format, {name}"), amount, contestants);

        let volume = Volume::open(&data, &hash, &params, HashArea::default(), &root)
            .map_err(io::Error::other)?;
        let mut contestants = Vec::new();
        if peer {
            let (data_path, hash_path) = (data_path.clone(), hash_path.clone());
            let digits = root.to_string();
            contestants.push(contestant("veritysetup verify", move || {
                let mut command = veritysetup("verify", &data_path, &hash_path);
                assert!(command.arg(&digits).status().expect("runs").success());
                size as u64 / data_block_size
            }));
        }
        contestants
            .push(contestant("veritrail verify", || volume.verify(threads, &mut Nobody).good));
        contestants.push(contestant("pread and lanes, no tree", || {
            hash_all(&data, &params, threads);
            params.data_blocks
        }));
        bench.contest(&format!("verify, {name}"), amount, contestants);
    }
    Ok(())
}

const SALT: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn params(size: u64, data_block_size: u64, hash_block_size: u64) -> Params {
    let block_size = |bytes| BlockSize::new("block size", bytes).expect("a power of two");
    Params {
        hash_type: HashType::Normal,
        hash: HashName::parse("sha256").expect("known"),
        data_block_size: block_size(data_block_size),
        hash_block_size: block_size(hash_block_size),
        data_blocks: size / data_block_size,
        salt: Salt::parse(SALT).expect("hexadecimal digits"),
    }
}

fn make(
    data: &Disk,
    hash: &Disk,
    params: &Params,
    layout: &Layout,
    threads: NonZeroUsize,
) -> Digest {
    format(data, hash, params, layout, Uuid::nil(), threads, &mut |_| {}).expect("the disk works")
}

fn veritysetup(verb: &str, data: &Path, hash: &Path) -> Command {
    let mut command = Command::new("veritysetup");
    command.arg(verb).arg(data).arg(hash).stdout(Stdio::null());
    command
}

/// What there is to do without a tree: read and hash every block.
fn hash_all(data: &Disk, params: &Params, threads: NonZeroUsize) {
    const CHUNK: usize = 256 * 1024;
    let next = AtomicU64::new(0);
    let hasher = params.hasher();
    let block_size = params.data_block_size.as_usize();
    let total = params.data_blocks * block_size as u64;
    thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(|| {
                let mut bytes = vec![0; CHUNK];
                let mut digests = vec![0; CHUNK / block_size * 32];
                loop {
                    let offset = next.fetch_add(CHUNK as u64, Ordering::Relaxed);
                    if offset >= total {
                        break;
                    }
                    data.0.read_exact_at(&mut bytes, offset).expect("the disk works");
                    hasher.hash_blocks(&bytes, block_size, &mut digests);
                    std::hint::black_box(&digests);
                }
            });
        }
    });
}

struct Nobody;

impl Watch for Nobody {
    fn found(&mut self, finding: &Finding) -> ControlFlow<()> {
        panic!("a fault in a good image: {finding:?}");
    }
}
