//! From a signer to the keyring: which certificate vouches for which.

use crate::certificate::Certificate;
use crate::time::Time;
use crate::verdict::{Expired, Untrusted, WrongUsage};

/// Most certificates from the signer to the keyring, both included.
pub const MOST_CHAIN: usize = 8;
/// Most certificates of a keyring.
pub const MOST_KEYRING: usize = 1024;
/// Most signatures on certificates that are checked to find one signer's chains. Certificates of
/// one name can be arranged so that the ways through them are very many.
const MOST_LINKS: usize = 64;

/// The certificates that are trusted. What lies in it is believed, and what it vouches for.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    certificates: Vec<Certificate>,
}

/// A keyring has no room for another certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a keyring holds at most {MOST_KEYRING} certificates")]
pub struct KeyringFull;

impl Keyring {
    /// One that trusts nobody.
    #[must_use]
    pub fn new() -> Keyring {
        Keyring::default()
    }

    /// Trusts `certificate` from now on. One that is there already is not put in twice.
    ///
    /// # Errors
    /// It is full.
    pub fn add(&mut self, certificate: Certificate) -> Result<(), KeyringFull> {
        if self.contains(&certificate) {
            return Ok(());
        }
        if self.certificates.len() == MOST_KEYRING {
            return Err(KeyringFull);
        }
        self.certificates.push(certificate);
        Ok(())
    }

    /// What lies in it.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    fn contains(&self, certificate: &Certificate) -> bool {
        self.certificates.contains(certificate)
    }
}

/// Why a chain that reaches the keyring is not taken.
pub(crate) enum Fault {
    Expired(Expired),
    WrongUsage(WrongUsage),
}

/// From the signer, which comes first, to a certificate of the keyring.
pub(crate) struct Chain<'k>(Vec<&'k Certificate>);

impl<'k> Chain<'k> {
    pub(crate) fn anchor(&self) -> &'k Certificate {
        // A chain has its signer at least.
        self.0[self.0.len() - 1]
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// When the first of its certificates ends.
    pub(crate) fn until(&self) -> Time {
        self.0.iter().map(|certificate| certificate.not_after).min().unwrap_or(Time(0))
    }

    /// What is wrong with it for signed content at this time: what a certificate may be used for
    /// is asked first, since no later time makes that good.
    pub(crate) fn fault(&self, at: Time) -> Option<Fault> {
        // Authorities between the signer and the one looked at; those that only renew their own
        // name do not count (RFC 5280, 6.1.4 l).
        let mut below = 0;
        for (place, certificate) in self.0.iter().enumerate() {
            let usage = if place == 0 {
                certificate.wrong_for_signing()
            } else {
                let usage = certificate.wrong_for_issuing(below);
                below += usize::from(!certificate.is_self_issued());
                usage
            };
            if let Some(usage) = usage {
                let subject = certificate.subject().to_owned();
                return Some(Fault::WrongUsage(WrongUsage { subject, usage }));
            }
        }
        let invalid =
            |certificate: &&&Certificate| at < certificate.not_before || certificate.not_after < at;
        self.0.iter().find(invalid).map(|certificate| {
            Fault::Expired(Expired {
                subject: certificate.subject().to_owned(),
                not_before: certificate.not_before,
                not_after: certificate.not_after,
                at,
            })
        })
    }
}

/// All chains from one signer, as far as the search goes.
pub(crate) struct Search<'k> {
    keyring: &'k Keyring,
    /// Certificates that came with the signature: believed in nothing that is not signed.
    embedded: &'k [Certificate],
    links: usize,
    pub(crate) chains: Vec<Chain<'k>>,
    /// Why there is none, if there is none.
    dead_end: Option<Untrusted>,
}

impl<'k> Search<'k> {
    pub(crate) fn from(
        signer: &'k Certificate,
        keyring: &'k Keyring,
        embedded: &'k [Certificate],
    ) -> Search<'k> {
        let mut search = Search { keyring, embedded, links: 0, chains: Vec::new(), dead_end: None };
        search.extend(&mut vec![signer]);
        search
    }

    /// Why there is no chain.
    pub(crate) fn dead_end(self, signer: &Certificate) -> Untrusted {
        self.dead_end.unwrap_or_else(|| Untrusted::NotAnchored {
            top: signer.subject().to_owned(),
            issuer: signer.issuer_text().to_owned(),
        })
    }

    /// Follows every issuer of the last certificate. No deeper than [`MOST_CHAIN`].
    fn extend(&mut self, path: &mut Vec<&'k Certificate>) {
        let top = path[path.len() - 1];
        if self.keyring.contains(top) {
            self.chains.push(Chain(path.clone()));
            return;
        }
        let all = self.keyring.certificates.iter().chain(self.embedded);
        let mut issued = false;
        for issuer in all.filter(|issuer| top.names_as_issuer(issuer)) {
            if path.contains(&issuer) {
                continue;
            }
            if path.len() == MOST_CHAIN {
                self.note(Untrusted::TooLong);
                return;
            }
            if self.links == MOST_LINKS {
                self.note(Untrusted::TooWide);
                return;
            }
            self.links += 1;
            let why = match top.is_signed_by(issuer) {
                Ok(true) => {
                    issued = true;
                    path.push(issuer);
                    self.extend(path);
                    path.pop();
                    continue;
                }
                Ok(false) => "its signature does not fit".to_owned(),
                Err(why) => why.to_string(),
            };
            issued = true;
            self.note(Untrusted::Unlinked {
                subject: top.subject().to_owned(),
                issuer: issuer.subject().to_owned(),
                why,
            });
        }
        if !issued {
            self.note(Untrusted::NotAnchored {
                top: top.subject().to_owned(),
                issuer: top.issuer_text().to_owned(),
            });
        }
    }

    /// The first dead end is told, but for the bounds, which explain all others.
    fn note(&mut self, why: Untrusted) {
        if self.dead_end.is_none() || matches!(why, Untrusted::TooLong | Untrusted::TooWide) {
            self.dead_end = Some(why);
        }
    }
}
