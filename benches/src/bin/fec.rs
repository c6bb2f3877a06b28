//! Error correction data of an image in the page cache: veritysetup, ours, and our encoder alone.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use benches::{Amount, Bench, Disk, contestant, first_bytes, noise};
use block::ReadAt;
use block::fec::{Area, Corrector, Target, encode};
use block::verity::{BlockSize, HashArea, HashName, HashType, Layout, Params, Salt, format};
use record::units::DataBlock;
use uuid::Uuid;

const MIB: usize = 1 << 20;

fn main() -> io::Result<()> {
    let mut bench = Bench::from_args("fec");
    let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let size = 32 * MIB;
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

    let params = Params {
        hash_type: HashType::Normal,
        hash: HashName::parse("sha256").expect("known"),
        data_block_size: BlockSize::DEFAULT,
        hash_block_size: BlockSize::DEFAULT,
        data_blocks: (size / 4096) as u64,
        salt: Salt::parse("00").expect("hexadecimal"),
    };
    let layout = Layout::new(&params, HashArea::default()).map_err(io::Error::other)?;
    let hash = create(&folder.path().join("hash"))?;
    let fec = create(&folder.path().join("fec"))?;
    for roots in [2_u64, 24] {
        let area =
            Area::new(&layout, roots, 0, layout.tree_bytes().end).map_err(io::Error::other)?;
        let tree = || {
            format(&data, &hash, &params, &layout, Uuid::nil(), threads, &mut |_| {})
                .expect("the disk works");
        };
        let parity = || {
            encode(&data, &hash, &fec, &area, threads, &mut |_| {}).expect("the disk works");
            parity_sum(&fec)
        };
        tree();
        let sum = parity();
        let mut contestants = Vec::new();
        if peer {
            let theirs = ["theirs.hash", "theirs.fec"].map(|name| folder.path().join(name));
            let data_path = data_path.clone();
            contestants.push(contestant("veritysetup format", move || {
                let [hash, fec] = &theirs;
                let status = Command::new("veritysetup")
                    .arg("format")
                    .args([&data_path, hash])
                    .args(["--salt", "00", "--uuid", "00000000-0000-0000-0000-000000000000"])
                    .arg("--fec-device")
                    .arg(fec)
                    .args(["--fec-roots", &roots.to_string()])
                    .stdout(Stdio::null())
                    .status()
                    .expect("runs");
                assert!(status.success());
                let theirs = parity_sum(&Disk(File::open(fec).expect("was made")));
                assert_eq!(theirs, sum, "other parity");
                sum
            }));
        }
        contestants.push(contestant("veritrail format", || {
            tree();
            parity()
        }));
        contestants.push(contestant("veritrail, parity alone", parity));
        bench.contest(&format!("format with {roots} roots"), Amount::bytes(size), contestants);
    }

    // What one bad block costs its reader: good parity, and parity that is no use at all.
    let area = Area::new(&layout, 2, 0, layout.tree_bytes().end).map_err(io::Error::other)?;
    encode(&data, &hash, &fec, &area, threads, &mut |_| {}).map_err(io::Error::other)?;
    let wrong = Wrong(&data);
    let corrector = Corrector::new(area, &fec);
    let correct = |right: bool| {
        let mut good = vec![0; 4096];
        data.read_full(&mut good, 4096).expect("the disk works");
        let mut out = vec![0; 4096];
        let corrected = corrector.correct(
            &wrong,
            &hash,
            Target::Data(DataBlock(1)),
            &mut |_, _| false,
            &mut |bytes| right && bytes == good,
            &mut out,
        );
        assert_eq!(corrected.is_some(), right);
        1
    };
    let contestants =
        vec![contestant("corrected", || correct(true)), contestant("given up", || correct(false))];
    bench.contest("one bad block, 2 roots", Amount::items("blocks", 1), contestants);
    Ok(())
}

/// Something that depends on all parity.
fn parity_sum(fec: &Disk) -> u64 {
    let size = usize::try_from(fec.size().expect("a file")).expect("small");
    let mut bytes = vec![0; size];
    fec.read_full(&mut bytes, 0).expect("the disk works");
    let sum = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31) ^ u64::from(*byte));
    first_bytes(&sum.to_be_bytes())
}

fn create(path: &Path) -> io::Result<Disk> {
    Ok(Disk(File::options().read(true).write(true).create(true).truncate(true).open(path)?))
}

/// The same with all of block 1 wrong.
struct Wrong<'a>(&'a Disk);

impl ReadAt for Wrong<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.0.read_at(buf, offset)?;
        for (at, byte) in (offset..).zip(&mut buf[..read]) {
            if (4096..8192).contains(&at) {
                *byte ^= 0x5a;
            }
        }
        Ok(read)
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}
