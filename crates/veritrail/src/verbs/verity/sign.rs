//! `veritrail verity sign`

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use ::signature::{
    Certificate, Keyring, Message, SignError, SigningKey, SigningKeyError, Verdict, sign_detached,
};
use block::verity::Digest;
use clap::Args;
use zeroize::Zeroizing;

use super::options::{self, Options};
use super::signature::{self, read, signed};
use crate::outcome::{Failure, Kind, Outcome};

/// Sign a root hash (not in veritysetup)
///
/// Writes a detached PKCS#7 signature over the hexadecimal digits of the root hash: the bytes that
/// `openssl smime -sign -nocerts -noattr -binary -outform der` writes, for --root-hash-signature here
/// and in veritysetup.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  veritrail verity sign 4e6969b4...2053 --key key.pem --certificate cert.pem --output root.p7s
  veritrail verity sign --root-hash-file root.roothash --key key.pem --certificate cert.pem --output root.p7s",
    disable_help_flag = true,
    args_override_self = true
)]
pub(crate) struct SignArgs {
    /// The root hash, unless --root-hash-file gives it
    #[arg(value_name = "root_hash")]
    root_hash: Option<String>,
    /// The private key: PEM, not encrypted; RSA (2048 bits or more), P-256 or P-384
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Its certificate: PEM or DER
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Where the signature goes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Most bytes of a key or certificate file.
const MOST_BYTES: u64 = 1024 * 1024;
/// Digits of the longest root hash.
const MOST_DIGITS: usize = 128;

pub(super) fn run(args: &SignArgs, options: &Options) -> Result<Outcome, Failure> {
    let root = root(args, options)?;
    let key = key(args)?;
    let certificate = certificate(args)?;
    let content = signed(&root);
    let bytes = sign_detached(content.as_bytes(), &key, &certificate).map_err(|error| {
        let failure = Failure::new(Kind::Unusable, "cannot sign with this key and certificate");
        let failure = match &error {
            SignError::OtherKey { .. } => {
                failure.hint("--key and --certificate must belong together")
            }
            _ => failure,
        };
        failure.because(error)
    })?;

    // Read back as everybody else will: nothing leaves that does not fit, and a certificate that
    // nobody will take is said while there is time.
    let at = options.signature.at();
    let mut keyring = Keyring::new();
    keyring.add(certificate).map_err(|error| Failure::new(Kind::Unusable, error.to_string()))?;
    let verdict = Message::parse(&bytes)
        .and_then(|message| message.check_detached(content.as_bytes(), &keyring, at));
    match verdict {
        Ok(Verdict::Trusted(_)) => {}
        Ok(verdict @ (Verdict::Expired(_) | Verdict::WrongUsage(_))) => {
            // Standard error may be closed; whoever checks the signature will say it again.
            let _ = writeln!(io::stderr(), "veritrail: warning: {verdict}");
        }
        Ok(verdict) => {
            let failure = Failure::new(Kind::Unusable, "the signature that was made does not fit");
            return Err(failure.because(verdict.to_string()));
        }
        Err(error) => {
            let failure = Failure::new(Kind::Unusable, "the signature that was made is unusable");
            return Err(failure.because(error));
        }
    }
    fs::write(&args.output, bytes).map_err(|error| {
        let what = format!("cannot write signature {}", args.output.display());
        Failure::new(Kind::Io, what).because(error)
    })?;
    Ok(Outcome::Good)
}

fn root(args: &SignArgs, options: &Options) -> Result<Digest, Failure> {
    let digits = match (&options.root_hash_file, &args.root_hash) {
        (Some(path), _) => options::read_root(path, MOST_DIGITS)?,
        (None, Some(digits)) => digits.clone(),
        (None, None) => {
            return Err(Failure::new(Kind::Usage, "no root hash given")
                .hint("give it as the operand or by --root-hash-file FILE"));
        }
    };
    signature::root(&digits)
}

fn key(args: &SignArgs) -> Result<SigningKey, Failure> {
    let file = args.key.display();
    let text = Zeroizing::new(read(&args.key, MOST_BYTES, "key")?);
    let unusable = |error: SigningKeyError| {
        let failure = Failure::new(Kind::Unusable, format!("cannot use the key {file}"));
        let failure = match error {
            SigningKeyError::Encrypted => failure.hint(format!(
                "no passphrase is asked for here; `openssl pkey -in {file}` writes it without one"
            )),
            _ => failure,
        };
        failure.because(error)
    };
    let text = std::str::from_utf8(&text).map_err(|_| unusable(SigningKeyError::Nothing))?;
    SigningKey::from_pem(text).map_err(unusable)
}

/// The first certificate of the file, as openssl takes it.
fn certificate(args: &SignArgs) -> Result<Certificate, Failure> {
    let bytes = read(&args.certificate, MOST_BYTES, "certificate")?;
    let what = || format!("cannot use the certificate {}", args.certificate.display());
    Certificate::from_file(&bytes)
        .map_err(|error| Failure::new(Kind::Unusable, what()).because(error))?
        .into_iter()
        .next()
        .ok_or_else(|| Failure::new(Kind::Unusable, what()))
}
