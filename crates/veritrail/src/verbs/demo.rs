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

/// Corrupt a block, find it, record it, search it, prove it, catch the tampering
///
/// Makes a small file system image in a temporary folder, corrupts one block under one of
/// its files, reads it 101 times through the verity engine, and follows the records into a
/// trail, a search and a proof; then changes one byte of the trail and has it refused.
/// Needs no root and leaves nothing behind.
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
/// The image: 4 MiB of ext4.
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

        self.heading("One byte changes on the disk")?;
        let at = block.0 * BLOCK as u64 + 7;
        flip_byte(&data, at)?;
        self.say(&format!("byte {at} of {data} is now wrong"))?;
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
        let found = hits.lines().filter(|line| line.contains("op=verify-data")).count();
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
        let lines: Vec<&str> =
            records.lines().filter(|line| line.starts_with("type=DM_EVENT")).collect();
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
    if !mkfs(&tree, image)? {
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

/// An ext4 file system, where e2fsprogs is installed.
fn mkfs(tree: &Path, image: &str) -> Result<bool, Failure> {
    let made = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-O", "^has_journal", "-b", "4096", "-d"])
        .arg(tree)
        .args([image, &BLOCKS.to_string()])
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output();
    match made {
        Ok(output) if output.status.success() => Ok(true),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::new(Kind::Io, "cannot run mke2fs").because(error)),
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
