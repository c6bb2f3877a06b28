//! PEM blocks (RFC 7468) in a file that may hold other text, too.

use pem_rfc7468::decode_vec;

use crate::certificate::{Certificate, CertificateError};

/// Most certificates of one file.
const MOST_CERTIFICATES: usize = 256;

/// Why a file holds no certificates that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is nothing of the kind.
    #[error("it is neither DER nor PEM with a certificate")]
    Nothing,
    /// A block that begins and is not Base64, or does not end.
    #[error("its PEM block `{label}` cannot be read: {why}")]
    Block {
        /// What it is said to hold.
        label: String,
        /// What is wrong.
        why: String,
    },
    /// A certificate that cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Beyond the bound.
    #[error("it holds more than {MOST_CERTIFICATES} certificates")]
    TooMany,
}

/// One block, still encoded.
pub(crate) struct Block<'a> {
    pub(crate) label: &'a str,
    pub(crate) text: &'a str,
}

/// The blocks of a text. What begins and never ends is a block to its end.
pub(crate) fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let begin = rest.find("-----BEGIN ")?;
            let from = &rest[begin..];
            let label = &from["-----BEGIN ".len()..];
            let Some(end) = label.find("-----") else {
                rest = "";
                continue;
            };
            let label = &label[..end];
            let close = format!("-----END {label}-----");
            let length = from.find(&close).map_or(from.len(), |at| at + close.len());
            let (text, behind) = from.split_at(length);
            rest = behind;
            return Some(Block { label, text });
        }
    })
}

impl Block<'_> {
    pub(crate) fn decode(&self) -> Result<Vec<u8>, PemError> {
        match decode_vec(self.text.as_bytes()) {
            Ok((_, bytes)) => Ok(bytes),
            Err(why) => Err(PemError::Block {
                label: self.label.escape_debug().to_string(),
                why: why.to_string(),
            }),
        }
    }
}

impl Certificate {
    /// The certificates of a file: one in DER, or any number in PEM with other text between them.
    ///
    /// # Errors
    /// There is none, or one cannot be read.
    pub fn from_file(bytes: &[u8]) -> Result<Vec<Certificate>, PemError> {
        if bytes.first() == Some(&0x30) {
            return Ok(vec![Certificate::from_der(bytes)?]);
        }
        let text = String::from_utf8_lossy(bytes);
        let mut certificates = Vec::new();
        for block in blocks(&text) {
            // TRUSTED CERTIFICATE is openssl's own: a certificate and rules that would be overlooked.
            if block.label != "CERTIFICATE" && block.label != "X509 CERTIFICATE" {
                continue;
            }
            if certificates.len() == MOST_CERTIFICATES {
                return Err(PemError::TooMany);
            }
            certificates.push(Certificate::from_der(&block.decode()?)?);
        }
        if certificates.is_empty() { Err(PemError::Nothing) } else { Ok(certificates) }
    }
}
