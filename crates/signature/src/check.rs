//! Judging a signature: does it fit, and who vouches for the signer.

use crate::certificate::Certificate;
use crate::chain::{Fault, Keyring, Search};
use crate::message::{Error, Message, Signer, is_attributes};
use crate::time::Time;
use crate::verdict::{Bad, Trusted, Untrusted, Verdict};

impl Message<'_> {
    /// Judges a detached signature over `content`.
    ///
    /// With several signers, as in the kernel, every one whose certificate is there must fit, and
    /// one that is trusted is enough.
    ///
    /// # Errors
    /// It has content of its own, which `content` would stand beside.
    pub fn check_detached(
        &self,
        content: &[u8],
        keyring: &Keyring,
        at: Time,
    ) -> Result<Verdict, Error> {
        match self.content {
            Some(_) => Err(Error::Attached),
            None => self.check(content, keyring, at),
        }
    }

    /// Judges a signature over the content that it carries.
    ///
    /// # Errors
    /// It carries none.
    pub fn check_attached(&self, keyring: &Keyring, at: Time) -> Result<Verdict, Error> {
        match self.content {
            Some(content) => self.check(content, keyring, at),
            None => Err(Error::Detached),
        }
    }

    fn check(&self, content: &[u8], keyring: &Keyring, at: Time) -> Result<Verdict, Error> {
        let plain = self.signers.iter().any(|signer| signer.attributes.is_none());
        if plain && is_attributes(content) {
            return Err(Error::ContentIsAttributes);
        }
        // A signer is worth more the nearer it is to being trusted; one that does not fit settles it.
        let worth = |verdict: &Verdict| match verdict {
            Verdict::Bad(_) => 4,
            Verdict::Trusted(_) => 3,
            Verdict::Expired(_) => 2,
            Verdict::WrongUsage(_) => 1,
            Verdict::Untrusted(_) => 0,
        };
        let verdicts = self
            .signers
            .iter()
            .map(|signer| judge(signer, content, &self.certificates, keyring, at))
            .rev();
        // Of equals the last is taken, which is the first signer.
        verdicts.max_by_key(worth).ok_or(Error::NoSigner)
    }
}

fn judge(
    signer: &Signer<'_>,
    content: &[u8],
    embedded: &[Certificate],
    keyring: &Keyring,
    at: Time,
) -> Verdict {
    let mut digest = signer.digest.hash(&[content]);
    if let Some(attributes) = &signer.attributes {
        if attributes.message_digest != digest {
            return Verdict::Bad(Bad::MessageDigest);
        }
        // In the message the set has the tag [0]; what was signed has that of a SET OF.
        digest = signer.digest.hash(&[&[0x31], attributes.behind_tag]);
    }

    let mut candidates: Vec<&Certificate> = Vec::new();
    for certificate in keyring.certificates().iter().chain(embedded) {
        if signer.name.is(certificate) && !candidates.contains(&certificate) {
            candidates.push(certificate);
        }
    }
    // Several certificates may go by one name. Only one with the right key can be meant.
    let mut unfit = None;
    let mut best: Option<Verdict> = None;
    for certificate in candidates {
        let key = match &certificate.key {
            Ok(key) => key,
            Err(why) => {
                let signer = certificate.subject().to_owned();
                let verdict = Verdict::Untrusted(Untrusted::Key { signer, why: why.clone() });
                best.get_or_insert(verdict);
                continue;
            }
        };
        if !key.fits(signer.kind, signer.digest, &digest, signer.signature) {
            unfit.get_or_insert(certificate);
            continue;
        }
        let verdict = vouch(signer, certificate, embedded, keyring, at);
        match (&verdict, &best) {
            (Verdict::Trusted(_), _) => return verdict,
            (_, None | Some(Verdict::Untrusted(_))) => best = Some(verdict),
            _ => {}
        }
    }
    match (best, unfit) {
        (Some(verdict), _) => verdict,
        (None, Some(certificate)) => {
            Verdict::Bad(Bad::Signature { signer: certificate.subject().to_owned() })
        }
        (None, None) => Verdict::Untrusted(Untrusted::NoSuchSigner { signer: signer.name.text() }),
    }
}

/// Who vouches for the certificate that fits.
fn vouch(
    signer: &Signer<'_>,
    certificate: &Certificate,
    embedded: &[Certificate],
    keyring: &Keyring,
    at: Time,
) -> Verdict {
    let signing_time = signer.attributes.as_ref().and_then(|attributes| attributes.signing_time);
    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
    if let Some(signing_time) = signing_time
        && !(not_before..=not_after).contains(&signing_time)
    {
        let signer = certificate.subject().to_owned();
        return Verdict::Bad(Bad::SigningTime { signer, signing_time, not_before, not_after });
    }
    let search = Search::from(certificate, keyring, embedded);
    let mut fault = None;
    for chain in &search.chains {
        match chain.fault(at) {
            None => {
                return Verdict::Trusted(Box::new(Trusted {
                    signer: certificate.facts(),
                    anchor: chain.anchor().facts(),
                    chain: chain.len(),
                    until: chain.until(),
                    digest: signer.digest,
                    signing_time,
                }));
            }
            Some(why) => {
                fault.get_or_insert(why);
            }
        }
    }
    match fault {
        Some(Fault::Expired(why)) => Verdict::Expired(why),
        Some(Fault::WrongUsage(why)) => Verdict::WrongUsage(why),
        None => Verdict::Untrusted(search.dead_end(certificate)),
    }
}
