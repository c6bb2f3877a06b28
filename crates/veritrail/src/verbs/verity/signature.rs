//! Signatures of root hashes: whether one is there, and whether the keyring vouches for it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use block::verity::Digest;
use clap::Args;
use jiff::Timestamp;
use rustix::fs::OFlags;
use signature::{Certificate, Keyring, Message, Time, Trusted, Verdict};

use super::options::unusable;
use crate::clock;
use crate::outcome::{Failure, Kind};

/// The kernel's text for every root hash that it does not take for its signature.
const FAILED: &str = "Root hash verification failed";
/// Where certificates are trusted if nothing is said.
const KEYRING: &str = "/etc/veritrail/keyring";
/// Names of files in a keyring that are looked into.
const SUFFIXES: [&str; 4] = ["pem", "crt", "cer", "der"];
/// Most of them.
const MOST_FILES: usize = 1024;
/// Most bytes of one of them.
const MOST_FILE_BYTES: u64 = 1024 * 1024;

/// What is wanted of the root hash's signature.
#[derive(Debug, Args)]
pub(super) struct SignatureOptions {
    /// Path to root hash signature file (PKCS#7, DER, detached)
    #[arg(long, global = true, value_name = "STRING")]
    pub(super) root_hash_signature: Option<PathBuf>,
    /// Certificates that are trusted: every *.pem, *.crt, *.cer and *.der of this folder. The default is
    /// /etc/veritrail/keyring, but for a device of the kernel's: without this its own keyring judges
    /// (not in veritysetup)
    #[arg(long, global = true, value_name = "DIR")]
    keyring: Option<PathBuf>,
    /// Refuse a root hash without a signature, as the kernel's dm_verity.require_signatures=1 (not
    /// in veritysetup)
    #[arg(long, global = true)]
    require_signature: bool,
    /// Judge certificates as of this time, RFC 3339 (2026-11-22T10:00:00Z), and not as of now (not
    /// in veritysetup)
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    at: Option<Time>,
}

impl SignatureOptions {
    /// Refuses what would have no effect on a verb that trusts no root hash.
    pub(super) fn refuse(&self, verb: &str) -> Result<(), Failure> {
        let option = match (&self.root_hash_signature, self.require_signature) {
            (Some(_), _) => "--root-hash-signature",
            (None, true) => "--require-signature",
            (None, false) => return Ok(()),
        };
        // veritysetup's words.
        let refused = format!("Option {option} is not allowed with {verb} action.");
        Err(Failure::new(Kind::Usage, refused))
    }

    fn keyring(&self) -> &Path {
        self.keyring.as_deref().unwrap_or(Path::new(KEYRING))
    }

    /// The time to judge by.
    pub(super) fn at(&self) -> Time {
        self.at.unwrap_or_else(|| Time(clock::now().realtime_ns / 1_000_000_000))
    }

    /// Judges the signature in `file` over `root`.
    pub(super) fn judge(&self, file: &Path, root: &Digest) -> Result<Verdict, Failure> {
        let keyring = load(self.keyring())?;
        let no_signature = |error| {
            Failure::new(Kind::Unusable, format!("{} is no usable signature", file.display()))
                .because(error)
                .hint(
                    "a detached PKCS#7 signature in DER is needed, as `veritrail verity sign` and \
                     `openssl smime -sign -nocerts -noattr -binary -outform der` make it",
                )
        };
        let bytes = read(file, signature::MOST_BYTES as u64, "signature")?;
        let message = Message::parse(&bytes).map_err(no_signature)?;
        message.check_detached(signed(root).as_bytes(), &keyring, self.at()).map_err(no_signature)
    }

    /// What to do about a verdict.
    fn hint(&self, verdict: &Verdict) -> Option<String> {
        let keyring = self.keyring().display();
        match verdict {
            Verdict::Trusted(_) => None,
            Verdict::Untrusted(_) => Some(format!(
                "a certificate that is to be trusted belongs into {keyring} (--keyring)"
            )),
            Verdict::Bad(_) => {
                Some("the root hash or its signature belongs to another image".into())
            }
            Verdict::Expired(_) => Some("--at TIME judges as of another time".into()),
            Verdict::WrongUsage(_) => Some("sign with a certificate that was made for it".into()),
        }
    }
}

/// Who vouches for `root`: nobody, if no signature is given and none is required.
///
/// To be called when the root hash is known and before anything is read under it.
///
/// # Errors
/// [`Kind::Refused`] in the kernel's words if nobody does; [`Kind::Unusable`] for a file that is no
/// signature.
pub(super) fn check(
    options: &SignatureOptions,
    root: &Digest,
) -> Result<Option<Box<Trusted>>, Failure> {
    let refused = || Failure::new(Kind::Refused, FAILED);
    let Some(file) = &options.root_hash_signature else {
        return if options.require_signature {
            Err(refused()
                .because("it has no signature, and --require-signature wants one")
                .hint("give the signature by --root-hash-signature FILE"))
        } else {
            Ok(None)
        };
    };
    match options.judge(file, root)? {
        Verdict::Trusted(trusted) => Ok(Some(trusted)),
        verdict => {
            let failure = refused().because(verdict.to_string());
            Err(match options.hint(&verdict) {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
    }
}

/// The signature that the kernel is to judge by its own keyring. None if none is given; nor with
/// --keyring, whose certificates are not the kernel's: then it is judged here, as by [`check`].
pub(super) fn for_kernel(
    options: &SignatureOptions,
    root: &Digest,
) -> Result<Option<Vec<u8>>, Failure> {
    match &options.root_hash_signature {
        Some(file) if options.keyring.is_none() => {
            if options.at.is_some() {
                return Err(Failure::new(Kind::Usage, "--at is for signatures that we judge")
                    .because("the kernel judges by its own clock")
                    .hint("--keyring DIR names the certificates to judge by"));
            }
            let bytes = read(file, signature::MOST_BYTES as u64, "signature")?;
            if bytes.len() > signature::MOST_BYTES {
                let long = format!("{} is no signature", file.display());
                return Err(Failure::new(Kind::Unusable, long)
                    .because(format!("it is larger than {} bytes", signature::MOST_BYTES)));
            }
            Ok(Some(bytes))
        }
        _ => check(options, root).map(|_| None),
    }
}

/// What is signed: the root hash as the table line has it, in hexadecimal digits and nothing else.
pub(super) fn signed(root: &Digest) -> String {
    root.to_string()
}

/// A root hash whose algorithm nobody named: as long as that of one there is.
pub(super) fn root(digits: &str) -> Result<Digest, Failure> {
    let root = Digest::parse(digits).map_err(unusable)?;
    match root.as_bytes().len() {
        20 | 28 | 32 | 48 | 64 => Ok(root),
        bytes => {
            let odd = format!("a root hash of {bytes} bytes is none of a known algorithm");
            Err(Failure::new(Kind::Unusable, odd).hint("was a part of it left out?"))
        }
    }
}

/// The certificates of a folder. A file that is none is named and left out: that trusts fewer.
fn load(folder: &Path) -> Result<Keyring, Failure> {
    let failed = |error: io::Error| {
        let missing = error.kind() == io::ErrorKind::NotFound;
        let kind = if missing { Kind::Environment } else { Kind::Io };
        Failure::new(kind, format!("cannot read the keyring {}", folder.display()))
            .because(error)
            .hint("it is a folder with the certificates that are to be trusted (--keyring DIR)")
    };
    if fs::metadata(folder).map_err(failed)?.mode() & 0o002 != 0 {
        let open = format!("everybody can write to the keyring {}", folder.display());
        return Err(Failure::new(Kind::Environment, open)
            .hint("whoever writes there decides who is trusted; chmod o-w it"));
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !path.extension().is_some_and(|end| SUFFIXES.iter().any(|suffix| end == *suffix)) {
            continue;
        }
        if files.len() == MOST_FILES {
            let many = format!("the keyring {} has more than {MOST_FILES} files", folder.display());
            return Err(Failure::new(Kind::Unusable, many));
        }
        files.push(path);
    }
    files.sort();
    let mut keyring = Keyring::new();
    for file in files {
        if let Err(why) = add(&mut keyring, &file) {
            // Standard error may be closed; what is left out is not trusted in any case.
            let _ = writeln!(
                io::stderr(),
                "veritrail: warning: {} is left out of the keyring: {why}",
                file.display()
            );
        }
    }
    Ok(keyring)
}

fn add(keyring: &mut Keyring, file: &Path) -> Result<(), String> {
    // A FIFO would be waited for.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let open = OpenOptions::new().read(true).custom_flags(flags).open(file);
    let open = open.map_err(|error| error.to_string())?;
    let found = open.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is not a file".into());
    }
    if found.mode() & 0o002 != 0 {
        return Err("everybody can write to it".into());
    }
    let mut bytes = Vec::new();
    open.take(MOST_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST_FILE_BYTES {
        return Err(format!("it is larger than {MOST_FILE_BYTES} bytes"));
    }
    for certificate in Certificate::from_file(&bytes).map_err(|error| error.to_string())? {
        certificate.usable().map_err(|error| format!("{}: {error}", certificate.subject()))?;
        keyring.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// All of a file that has at most so many bytes, or one byte more as a sign that it has more.
pub(super) fn read(file: &Path, most: u64, what: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    fs::File::open(file).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(
        |error| {
            Failure::new(Kind::Io, format!("cannot read {what} {}", file.display())).because(error)
        },
    )?;
    Ok(bytes)
}

fn time(text: &str) -> Result<Time, String> {
    let time: Timestamp = text.parse().map_err(|_| {
        format!("`{text}` is not a time in RFC 3339's form, such as 2026-11-22T10:00:00Z")
    })?;
    u64::try_from(time.as_second()).map(Time).map_err(|_| "a time before 1970".into())
}
