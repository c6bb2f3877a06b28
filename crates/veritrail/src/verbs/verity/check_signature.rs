//! `veritrail verity check-signature`

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use ::signature::{Facts, Verdict};
use block::verity::Digest;
use clap::Args;
use serde::Serialize;

use super::options::Options;
use super::signature;
use crate::outcome::{Failure, Outcome};

/// Check the signature of a root hash (not in veritysetup)
///
/// Prints who signed, until when that is good, and which certificate of the keyring vouches for it.
/// Exits 1, with the reason, when nobody does.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  veritrail verity check-signature 4e6969b4...2053 root.p7s --keyring ./keys
  veritrail verity check-signature 4e6969b4...2053 root.p7s --json --at 2026-11-22T10:00:00Z",
    disable_help_flag = true,
    args_override_self = true
)]
pub(crate) struct CheckSignatureArgs {
    /// The root hash
    #[arg(value_name = "root_hash")]
    root_hash: String,
    /// The signature: PKCS#7, DER, detached
    #[arg(value_name = "signature")]
    signature: PathBuf,
    /// Print one JSON object instead
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    args: &CheckSignatureArgs,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Failure> {
    let root = signature::root(&args.root_hash)?;
    let verdict = options.signature.judge(&args.signature, &root)?;
    if args.json {
        let at = options.signature.at().to_string();
        serde_json::to_writer(&mut *out, &Checked::of(&verdict, &root, at))
            .map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write(out, &verdict)?;
    }
    Ok(match verdict {
        Verdict::Trusted(_) => Outcome::Good,
        _ => Outcome::No,
    })
}

fn write(out: &mut dyn Write, verdict: &Verdict) -> std::io::Result<()> {
    let Verdict::Trusted(trusted) = verdict else {
        return writeln!(out, "not trusted: {verdict}");
    };
    let whom = |facts: &Facts| {
        format!(
            "{} (serial {}, {}, SHA-256 {})",
            facts.subject,
            facts.serial,
            facts.key,
            fingerprint(facts)
        )
    };
    writeln!(out, "trusted until {}", trusted.until)?;
    writeln!(out, "signer: {}", whom(&trusted.signer))?;
    writeln!(out, "anchor: {}", whom(&trusted.anchor))?;
    if let Some(time) = trusted.signing_time {
        writeln!(out, "signed: {time}, says the signer")?;
    }
    Ok(())
}

fn fingerprint(facts: &Facts) -> String {
    facts.fingerprint.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// What was found, for machines.
#[derive(Serialize)]
struct Checked {
    root_hash: String,
    /// trusted, untrusted, bad, expired, not-yet-valid, wrong-usage.
    verdict: &'static str,
    /// Why it is not trusted; null if it is.
    reason: Option<String>,
    /// The time that was judged by.
    at: String,
    #[serde(flatten)]
    trusted: Option<Signed>,
}

#[derive(Serialize)]
struct Signed {
    until: String,
    digest: &'static str,
    signing_time: Option<String>,
    /// Certificates from the signer to the anchor, both counted.
    chain: usize,
    signer: Whom,
    anchor: Whom,
}

#[derive(Serialize)]
struct Whom {
    subject: String,
    issuer: String,
    serial: String,
    sha256: String,
    key: String,
    not_before: String,
    not_after: String,
}

impl Checked {
    fn of(verdict: &Verdict, root: &Digest, at: String) -> Checked {
        let name = match verdict {
            Verdict::Trusted(_) => "trusted",
            Verdict::Untrusted(_) => "untrusted",
            Verdict::Bad(_) => "bad",
            Verdict::Expired(why) if why.is_not_yet_valid() => "not-yet-valid",
            Verdict::Expired(_) => "expired",
            Verdict::WrongUsage(_) => "wrong-usage",
        };
        let trusted = match verdict {
            Verdict::Trusted(trusted) => Some(Signed {
                until: trusted.until.to_string(),
                digest: trusted.digest.name(),
                signing_time: trusted.signing_time.map(|time| time.to_string()),
                chain: trusted.chain,
                signer: Whom::of(&trusted.signer),
                anchor: Whom::of(&trusted.anchor),
            }),
            _ => None,
        };
        let reason = trusted.is_none().then(|| verdict.to_string());
        Checked { root_hash: root.to_string(), verdict: name, reason, at, trusted }
    }
}

impl Whom {
    fn of(facts: &Facts) -> Whom {
        Whom {
            subject: facts.subject.clone(),
            issuer: facts.issuer.clone(),
            serial: facts.serial.clone(),
            sha256: fingerprint(facts),
            key: facts.key.clone(),
            not_before: facts.not_before.to_string(),
            not_after: facts.not_after.to_string(),
        }
    }
}
