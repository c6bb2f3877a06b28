//! `veritrail demo`: the main job on real input, from a corrupted byte to a proof.
//!
//! Every line that begins with `$` is run through the same front door as if it had been
//! typed; what it prints is what it printed.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use record::units::{DataBlock, LeafIndex};

use crate::cli;
use crate::outcome::{Failure, Kind, Outcome};

/// Serve an image, corrupt a block, find it, record it, search it, prove it, catch the tampering
///
/// Makes a small file system image in a temporary folder, serves it as a device and mounts it (as
/// root, where the kernel can), corrupts one block under one of its files and reads that file;
/// reads the block 101 times through the verity engine, and follows the records into a
/// trail, a search and a proof; then changes one byte of the trail and has it refused.
/// Without root the device is read but not mounted. Leaves nothing behind.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  veritrail demo
  veritrail demo --keep /tmp/veritrail-demo    # and look at the files afterwards")]
pub(crate) struct DemoArgs {
    /// Work in this new folder and leave it there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// One more than the hundred after which the kernel announces max-corrupted-errors.
const READS: usize = 101;
/// Bytes in a block.
const BLOCK: usize = 4096;
/// The image: 4 MiB.
const BLOCKS: usize = 1024;
/// What the file holds that will be hit.
const MOTTO: &[u8] = b"Every integrity violation, caught where it happens.\n";

pub(crate) fn run(args: &DemoArgs, out: &mut dyn Write) -> Result<Outcome, Failure> {
    let temporary;
    let folder = match &args.keep {
        Some(folder) => {
            fs::create_dir(folder).map_err(|e| cannot("make", folder, e))?;
            folder.clone()
        }
        None => {
            temporary =
                tempfile::tempdir().map_err(|e| cannot("make", &std::env::temp_dir(), e))?;
            temporary.path().to_owned()
        }
    };
    Demo { folder: &folder, out }.play()?;
    if args.keep.is_some() {
        writeln!(out, "\nThe files are in {}", folder.display())?;
    }
    Ok(Outcome::Good)
}

struct Demo<'a> {
    folder: &'a Path,
    out: &'a mut dyn Write,
}

impl Demo<'_> {
    fn play(&mut self) -> Result<(), Failure> {
        let (data, hash, trail) =
            (self.file("root.img"), self.file("root.hash"), self.file("trail"));
        let (root_hash, proof) = (self.file("root.roothash"), self.file("event.proof"));

        self.heading("An image with files, and its hash tree")?;
        let block = make_image(self.folder, &data)?;
        self.say(&format!(
            "{data}: {BLOCKS} blocks of {BLOCK} bytes; block {block} holds /etc/motto"
        ))?;
        self.run(
            &["verity", "format", &data, &hash, "--root-hash-file", &root_hash],
            Outcome::Good,
        )?;
        let root = read_text(&root_hash)?;
        let root = root.trim();
        self.run(&["verity", "verify", &data, &hash, root, "--verbose"], Outcome::Good)?;

        let at = block.0 * BLOCK as u64 + 7;
        let damage = || flip_byte(&data, at);
        let wrong = format!("byte {at} of {data} is now wrong");
        self.served(&[&data, &hash, root, &trail], &damage, &wrong)?;
        self.run(&["verity", "verify", &data, &hash, root], Outcome::No)?;

        self.heading(&format!("A reader asks for that block {READS} times"))?;
        let (skip, reads) = (block.to_string(), READS.to_string());
        let read = ["--skip", &skip, "--count", "1", "--repeat", &reads, "--trail", &trail];
        self.run(&[&["verity", "cat", &data, &hash, root], &read[..]].concat(), Outcome::No)?;
        self.say(&format!("none of them got a byte; each is a record in {trail}"))?;

        self.heading("What the records say")?;
        let sector = block.to_string();
        let records = self.capture(&["search", "--trail", &trail, "-m", "DM_EVENT", "--raw"])?;
        self.show_around_the_hundredth(&records)?;
        self.run(
            &["search", "--trail", &trail, "-m", "DM_EVENT", "--op", "max-corrupted-errors", "-i"],
            Outcome::Good,
        )?;
        let hits = self.capture(&[
            "search",
            "--trail",
            &trail,
            "--op",
            "verify-data",
            "--sector",
            &sector,
            "--raw",
        ])?;
        let found = hits.lines().filter(|line| is_of_no_device(line)).count();
        self.say(&format!("{found} events"))?;
        expect(found == READS, "the search should find each failed read")?;

        self.heading("Whoever doubts it can check it, without this machine")?;
        self.run(&["trail", "verify", &trail], Outcome::Good)?;
        self.run(&["trail", "prove", &trail, "99", "--output", &proof], Outcome::Good)?;
        let key = format!("{trail}/key.pub");
        self.run(&["trail", "check-proof", &proof, "--public-key", &key], Outcome::Good)?;

        self.heading("Somebody changes one byte of the trail")?;
        let segment = first_segment(&trail);
        flip_byte(&segment, 40)?;
        self.say(&format!("byte 40 of {segment} is now wrong"))?;
        let refused = self.refused(&["trail", "verify", &trail, "--public-key", &key])?;
        expect(refused == Kind::Tampered, "the changed trail should be refused")
    }

    /// Serves the image, reads it, damages it underneath and reads it again.
    fn served(
        &mut self,
        [data, hash, root, trail]: &[&str; 4],
        damage: &dyn Fn() -> Result<(), Failure>,
        wrong: &str,
    ) -> Result<(), Failure> {
        self.heading("The image is served: verified at every read")?;
        let run_dir = self.file("run");
        let here = ["--run-dir", &run_dir];
        let open = ["verity", "open", data, "demo", hash, root, "--trail", trail, "--direct-io"];
        let open = [&open[..], &here].concat();
        self.prompt(&open)?;
        let mut path = Vec::new();
        match cli::execute(&open, &mut path) {
            Ok(_) => {}
            // What is missing was said by the server itself.
            Err(failure) if failure.kind == Kind::Environment => {
                self.say("no device can be served here, so the demo goes on without one")?;
                self.heading("One byte changes on the disk")?;
                damage()?;
                return self.say(wrong);
            }
            Err(failure) => return Err(failure),
        }
        let path = String::from_utf8_lossy(&path).trim_end().to_owned();
        self.say(&path)?;
        let mut device = Served { run_dir: run_dir.clone(), mounted: None };
        let target = self.file("mnt");
        let mounted = self.mount(&path, &target)?;
        let file = if mounted == Mounted::Not {
            self.shell(&["cmp", data, &path])?;
            path
        } else {
            device.mounted = Some(target.clone());
            self.shell(&["cat", &format!("{target}/etc/hostname")])?;
            format!("{target}/etc/motto")
        };

        self.heading("One byte changes on the disk, underneath")?;
        damage()?;
        self.say(wrong)?;
        let good = self.shell(&["cat", &file])?;
        expect(!good, "the file should not be readable any more")?;
        let search =
            ["search", "--trail", trail, "--device", "demo", "--op", "verify-data", "--raw"];
        let events = self.capture(&search)?;
        let last = events.lines().rev().take(3).collect::<Vec<_>>();
        for line in last.iter().rev() {
            self.say(line.split('\u{1d}').next().unwrap_or(line))?;
        }
        let reader = match mounted {
            Mounted::Not | Mounted::FromFile => "comm=\"cat\"",
            // One of the kernel's own threads reads for whoever uses a loop device.
            Mounted::ByLoop => "exe=(null)",
        };
        expect(
            last.iter().any(|line| line.starts_with("type=VT_READER") && line.contains(reader)),
            "the records should name the reader",
        )?;
        device.unmount()?;
        self.run(&[&["verity", "close", "demo"], &here[..]].concat(), Outcome::Good)
    }

    /// Mounts the device, as root and where the kernel can.
    fn mount(&mut self, device: &str, target: &str) -> Result<Mounted, Failure> {
        if !rustix::process::geteuid().is_root() {
            self.say("(only root can mount it; it can be read all the same)")?;
            return Ok(Mounted::Not);
        }
        fs::create_dir(target).map_err(|e| cannot("make", target.as_ref(), e))?;
        if host::mount::mount_erofs(device.as_ref(), target.as_ref()).is_ok() {
            self.say(&format!("(mounted on {target}, as EROFS straight from the file)"))?;
            return Ok(Mounted::FromFile);
        }
        let by_loop = Command::new("mount").args(["-o", "ro,loop", device, target]).output();
        if by_loop.is_ok_and(|output| output.status.success()) {
            self.say(&format!("(mounted on {target}, by a loop device)"))?;
            return Ok(Mounted::ByLoop);
        }
        self.say("(this kernel cannot mount it; it can be read all the same)")?;
        Ok(Mounted::Not)
    }

    /// Runs a program and shows what it prints; whether it went well.
    fn shell(&mut self, argv: &[&str]) -> Result<bool, Failure> {
        let line = self.shorten(&argv.join(" "));
        writeln!(self.out, "$ {line}")?;
        let output = Command::new(argv[0])
            .args(&argv[1..])
            .output()
            .map_err(|e| cannot("run", argv[0].as_ref(), e))?;
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(text);
            if let Some(first) = text.lines().next() {
                self.say(first)?;
            }
        }
        Ok(output.status.success())
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    fn heading(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "\n== {text}")?;
        Ok(())
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{}", self.shorten(text))?;
        Ok(())
    }

    /// The demo's folder is noise on every line.
    fn shorten(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.display()), "")
    }

    fn prompt(&mut self, args: &[&str]) -> Result<(), Failure> {
        let line = self.shorten(&args.join(" "));
        writeln!(self.out, "$ veritrail {line}")?;
        // The command may write to standard error.
        self.out.flush()?;
        Ok(())
    }

    /// Runs a command line and shows what it prints; anything but `expected` ends the demo.
    fn run(&mut self, args: &[&str], expected: Outcome) -> Result<(), Failure> {
        self.prompt(args)?;
        let mut text = Vec::new();
        let outcome = cli::execute(args, &mut text)?;
        if !text.is_empty() {
            self.say(String::from_utf8_lossy(&text).trim_end())?;
        }
        let code = outcome.code();
        if code != 0 {
            writeln!(self.out, "(exit {code})")?;
        }
        expect(outcome == expected, "a command should have ended otherwise")
    }

    /// Runs a command line that must find something, for its output.
    fn capture(&mut self, args: &[&str]) -> Result<String, Failure> {
        self.prompt(args)?;
        let mut text = Vec::new();
        let outcome = cli::execute(args, &mut text)?;
        expect(outcome == Outcome::Good, "the search should find something")?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs a command line that must fail, and shows how.
    fn refused(&mut self, args: &[&str]) -> Result<Kind, Failure> {
        self.prompt(args)?;
        match cli::execute(args, &mut io::sink()) {
            Ok(_) => Err(surprise("a command should have failed")),
            Err(failure) => {
                let mut text = Vec::new();
                failure.print(&mut text);
                self.say(String::from_utf8_lossy(&text).trim_end())?;
                writeln!(self.out, "(exit {})", failure.kind.code())?;
                Ok(failure.kind)
            }
        }
    }

    /// The first record, those around the hundredth, and the last.
    fn show_around_the_hundredth(&mut self, records: &str) -> Result<(), Failure> {
        let lines: Vec<&str> = records.lines().filter(|line| is_of_no_device(line)).collect();
        let at = lines.iter().position(|line| line.contains("op=max-corrupted-errors"));
        expect(
            lines.len() == READS + 1 && at == Some(99),
            "there should be 101 block records and one max-corrupted-errors before the 100th",
        )?;
        for (number, line) in lines.iter().enumerate() {
            match number {
                0 | 98..=101 => {
                    let kernel = line.split('\u{1d}').next().unwrap_or(line);
                    writeln!(self.out, "{:>4}  {kernel}", number + 1)?;
                }
                1 => writeln!(self.out, "      ...")?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether this is a record of `verity cat`, which reads files and no device.
fn is_of_no_device(line: &str) -> bool {
    line.starts_with("type=DM_EVENT") && line.contains(" dev=0:0 ")
}

/// How the device of the demo is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mounted {
    Not,
    FromFile,
    ByLoop,
}

/// A device of the demo, closed whatever happens.
struct Served {
    run_dir: String,
    mounted: Option<String>,
}

impl Served {
    fn unmount(&mut self) -> Result<(), Failure> {
        let Some(target) = self.mounted.take() else { return Ok(()) };
        host::mount::unmount(target.as_ref(), host::mount::Detach::Now)
            .map_err(|e| Failure::new(Kind::Io, format!("cannot unmount {target}")).because(e))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Where all went well there is nothing left to do.
        let _ = self.unmount();
        let close = ["verity", "close", "demo", "--deferred", "--run-dir", &self.run_dir];
        let _ = cli::execute(&close, &mut io::sink());
    }
}

/// Makes the image and says which block the file /etc/motto lies in.
fn make_image(folder: &Path, image: &str) -> Result<DataBlock, Failure> {
    let tree = folder.join("files");
    let etc = tree.join("etc");
    fs::create_dir_all(&etc).map_err(|e| cannot("make", &etc, e))?;
    for (name, text) in [("motto", MOTTO), ("hostname", b"veritrail-demo\n".as_slice())] {
        let path = etc.join(name);
        // A block of its own for each file.
        let content: Vec<u8> = text.iter().copied().cycle().take(BLOCK).collect();
        fs::write(&path, content).map_err(|e| cannot("write", &path, e))?;
    }
    if !mkfs_erofs(&tree, image)? && !mkfs(&tree, image)? {
        pack(&tree, image)?;
    }
    let file = fs::OpenOptions::new()
        .write(true)
        .open(image)
        .map_err(|e| cannot("open", image.as_ref(), e))?;
    file.set_len((BLOCKS * BLOCK) as u64).map_err(|e| cannot("extend", image.as_ref(), e))?;
    let bytes = fs::read(image).map_err(|e| cannot("read", image.as_ref(), e))?;
    bytes
        .windows(MOTTO.len())
        .position(|window| window == MOTTO)
        .map(|at| DataBlock((at / BLOCK) as u64))
        .ok_or_else(|| surprise("the file should be somewhere in the image"))
}

/// An EROFS, where erofs-utils is installed: the one file system that is mounted without a loop
/// device, so that its reader is the reader of our device.
fn mkfs_erofs(tree: &Path, image: &str) -> Result<bool, Failure> {
    made_by(Command::new("mkfs.erofs").arg(image).arg(tree))
}

/// An ext4, where e2fsprogs is installed.
fn mkfs(tree: &Path, image: &str) -> Result<bool, Failure> {
    let options = ["-q", "-t", "ext4", "-O", "^has_journal", "-b", "4096", "-d"];
    made_by(Command::new("mke2fs").args(options).arg(tree).args([image, &BLOCKS.to_string()]))
}

fn made_by(program: &mut Command) -> Result<bool, Failure> {
    match program.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").output() {
        Ok(output) => Ok(output.status.success()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::new(Kind::Io, "cannot make an image").because(error)),
    }
}

/// Without mke2fs, the files one after the other: an image all the same.
fn pack(tree: &Path, image: &str) -> Result<(), Failure> {
    let mut file = fs::File::create(image).map_err(|e| cannot("make", image.as_ref(), e))?;
    for name in ["etc/hostname", "etc/motto"] {
        let path = tree.join(name);
        let content = fs::read(&path).map_err(|e| cannot("read", &path, e))?;
        file.write_all(&content).map_err(|e| cannot("write", image.as_ref(), e))?;
    }
    Ok(())
}

/// Changes one byte of a file in place.
fn flip_byte(path: &str, at: u64) -> Result<(), Failure> {
    let flip = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        let mut byte = [0];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut byte)?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&[byte[0] ^ 0x01])
    };
    flip().map_err(|e| cannot("change a byte of", path.as_ref(), e))
}

fn first_segment(trail: &str) -> String {
    let path = Path::new(trail).join(trail::layout::segment(LeafIndex(0)));
    path.to_string_lossy().into_owned()
}

fn read_text(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|e| cannot("read", path.as_ref(), e))
}

fn cannot(what: &str, path: &Path, error: io::Error) -> Failure {
    Failure::new(Kind::Io, format!("cannot {what} {}", path.display())).because(error)
}

fn expect(good: bool, what: &str) -> Result<(), Failure> {
    if good { Ok(()) } else { Err(surprise(what)) }
}

/// The demo shows what the product does; if it does something else, that is a defect.
fn surprise(what: &str) -> Failure {
    Failure::new(Kind::Io, format!("the demo did not go as it must: {what}"))
        .hint("please report this with the output above")
}
