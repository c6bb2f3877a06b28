//! What a signature comes to.

use std::fmt;

use crate::certificate::Facts;
use crate::time::Time;

/// What a signature comes to. Anything but [`Verdict::Trusted`] means: do not use the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The content is what somebody signed whom a certificate of the keyring vouches for.
    Trusted(Box<Trusted>),
    /// Nobody of the keyring vouches for the signer.
    Untrusted(Untrusted),
    /// The signature is not one of this content.
    Bad(Bad),
    /// A certificate of the chain is not valid at the time to judge by.
    Expired(Expired),
    /// A certificate of the chain may not be used for this.
    WrongUsage(WrongUsage),
}

/// Who signed, and who vouches for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// Who signed.
    pub signer: Facts,
    /// The certificate of the keyring that vouches for the signer; the signer itself where it lies
    /// in the keyring.
    pub anchor: Facts,
    /// How many certificates lie between the two and at both ends.
    pub chain: usize,
    /// When the first of them ends.
    pub until: Time,
    /// How the content was digested.
    pub digest: crate::DigestAlgorithm,
    /// When the signer says it was signed. Nothing but its word stands behind that.
    pub signing_time: Option<Time>,
}

impl fmt::Display for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trusted { signer, anchor, until, .. } = self;
        write!(
            f,
            "signed by `{}`, vouched for by `{}`, good until {until}",
            signer.subject, anchor.subject
        )
    }
}

/// Why nobody vouches for the signer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// No certificate is there to check the signature with.
    #[error("no certificate in the keyring or the signature is the signer's ({signer})")]
    NoSuchSigner {
        /// The signer as the signature names it.
        signer: String,
    },
    /// The chain ends outside the keyring.
    #[error("`{top}` is not in the keyring, and neither is its issuer `{issuer}`")]
    NotAnchored {
        /// The subject of the last certificate of the chain.
        top: String,
        /// Its issuer.
        issuer: String,
    },
    /// An issuer is there, but its signature on the next certificate does not fit or is too weak.
    #[error("`{issuer}` does not vouch for `{subject}`: {why}")]
    Unlinked {
        /// Whose certificate it is about.
        subject: String,
        /// Whose signature it is.
        issuer: String,
        /// What is wrong with it.
        why: String,
    },
    /// The certificate that the signature names has a key that is not used.
    #[error("the certificate of `{signer}` cannot be used: {why}")]
    Key {
        /// Its subject.
        signer: String,
        /// What is wrong with the key.
        why: crate::KeyError,
    },
    /// The chain is longer than any that is followed.
    #[error("the chain has more than {} certificates", crate::MOST_CHAIN)]
    TooLong,
    /// There are more ways through the certificates than are tried.
    #[error("too many certificates of the same names; the search for a chain was given up")]
    TooWide,
}

/// Why the signature is not one of this content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// The content, its attributes or the signature were changed, or another key signed.
    #[error("the signature does not fit what is to be verified under the key of `{signer}`")]
    Signature {
        /// The subject of the certificate that was tried.
        signer: String,
    },
    /// The signed attributes are those of other content.
    #[error("the signed digest is not that of what is to be verified")]
    MessageDigest,
    /// The signer says it signed at a time when its certificate was not valid.
    #[error(
        "it says it was signed at {signing_time}, and the certificate of `{signer}` is valid from {not_before} to {not_after}"
    )]
    SigningTime {
        /// The subject.
        signer: String,
        /// When it says that was.
        signing_time: Time,
        /// From when the certificate is valid.
        not_before: Time,
        /// Until when.
        not_after: Time,
    },
}

/// A certificate that is not valid at the time to judge by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Whose certificate.
    pub subject: String,
    /// From when it is valid.
    pub not_before: Time,
    /// Until when.
    pub not_after: Time,
    /// The time to judge by, outside of that.
    pub at: Time,
}

impl Expired {
    /// Whether the certificate is of the future and not of the past.
    #[must_use]
    pub fn is_not_yet_valid(&self) -> bool {
        self.at < self.not_before
    }
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Expired { subject, not_before, not_after, at } = self;
        if self.is_not_yet_valid() {
            write!(
                f,
                "the certificate of `{subject}` is not yet valid: it begins {not_before}, and it is {at}"
            )
        } else {
            write!(
                f,
                "the certificate of `{subject}` has expired: it ended {not_after}, and it is {at}"
            )
        }
    }
}

/// A certificate that is used for what it was not made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrong usage: the certificate of `{subject}` {usage}")]
pub struct WrongUsage {
    /// Whose certificate.
    pub subject: String,
    /// What is wrong.
    pub usage: Usage,
}

/// What a certificate was not made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Usage {
    /// Its key usage lacks digitalSignature.
    #[error("is not for signatures (key usage without digitalSignature)")]
    NotForSignatures,
    /// Its extended key usage is for other things.
    #[error("is for {0}, not for codeSigning")]
    OtherPurpose(String),
    /// It vouches for another certificate and is none of an authority.
    #[error("is not an authority's (basic constraints without CA), yet issued one of the chain")]
    NotAnAuthority,
    /// It vouches for another certificate and its key usage lacks keyCertSign.
    #[error("is not for issuing certificates (key usage without keyCertSign)")]
    NotForCertificates,
    /// More authorities are below it than it allows.
    #[error("allows fewer authorities below it than the chain has (pathLenConstraint)")]
    ChainBeyondItsLimit,
    /// It has an extension that must be understood, and is not.
    #[error("has the extension {0}, which is not understood here and may not be overlooked")]
    NotUnderstood(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Trusted(trusted) => trusted.fmt(f),
            Verdict::Untrusted(why) => why.fmt(f),
            Verdict::Bad(why) => why.fmt(f),
            Verdict::Expired(why) => why.fmt(f),
            Verdict::WrongUsage(why) => why.fmt(f),
        }
    }
}
