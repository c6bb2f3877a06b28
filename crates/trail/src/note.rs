//! Signed notes and their keys, as c2sp.org/signed-note has them, with Ed25519 alone.
//!
//! ```text
//!  text                 one or more lines, each LF-ended
//!                       one empty line
//!  — NAME BASE64        em dash, key name, base64(key hash (4 bytes) || signature (64 bytes))
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

/// Signature type of plain Ed25519.
const ED25519: u8 = 1;
const PRIVATE: &str = "PRIVATE+KEY+";

/// Why a key or a note cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not `name+hash+base64` (with `PRIVATE+KEY+` before it if it is private).
    #[error("this is not a key in the form NAME+HASH+BASE64")]
    KeyForm,
    /// The name holds a blank or a plus, or is empty.
    #[error("a key's name has no blank and no plus and is not empty")]
    KeyName,
    /// The hash in the key is not that of its name and public half.
    #[error("the key's hash does not belong to its name and its public half")]
    KeyHash,
    /// Not type 1.
    #[error("the key is not an Ed25519 key")]
    KeyType,
    /// Not a note.
    #[error("this is not a signed note: {0}")]
    Form(&'static str),
    /// No signature of that key.
    #[error("there is no signature of the key {0:08x} on it")]
    Unsigned(u32),
    /// A signature that is not good.
    #[error("the signature of the key {0:08x} is not good")]
    Forged(u32),
}

/// The public half of a trail's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    hash: [u8; 4],
    key: VerifyingKey,
}

/// A trail's key. Its private half is overwritten when it is dropped.
pub struct SecretKey {
    public: PublicKey,
    key: SigningKey,
}

fn key_hash(name: &str, public: &VerifyingKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([b'\n', ED25519]);
    hasher.update(public.as_bytes());
    let digest: [u8; 32] = hasher.finalize().into();
    [digest[0], digest[1], digest[2], digest[3]]
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c == '+' || c.is_whitespace() || c.is_control())
}

/// `name+hash+base64`, its parts checked as far as they can be without knowing the key.
fn split_key(text: &str) -> Result<(&str, [u8; 4], [u8; 32]), NoteError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::KeyForm);
    };
    if !is_name(name) {
        return Err(NoteError::KeyName);
    }
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if hash.len() != 8 || !hash.bytes().all(lower) {
        return Err(NoteError::KeyForm);
    }
    let hash = u32::from_str_radix(hash, 16).map_err(|_| NoteError::KeyForm)?.to_be_bytes();
    let key = STANDARD.decode(key).map_err(|_| NoteError::KeyForm)?;
    match key.split_first() {
        Some((&ED25519, key)) => Ok((name, hash, key.try_into().map_err(|_| NoteError::KeyForm)?)),
        Some(_) => Err(NoteError::KeyType),
        None => Err(NoteError::KeyForm),
    }
}

fn join_key(name: &str, hash: [u8; 4], key: &[u8; 32]) -> String {
    let mut typed = [0; 33];
    typed[0] = ED25519;
    typed[1..].copy_from_slice(key);
    format!("{name}+{:08x}+{}", u32::from_be_bytes(hash), STANDARD.encode(typed))
}

impl PublicKey {
    /// Reads the text form, with or without a line feed at the end.
    ///
    /// # Errors
    /// Everything about a key in [`NoteError`].
    pub fn parse(text: &str) -> Result<PublicKey, NoteError> {
        let (name, hash, key) = split_key(text.strip_suffix('\n').unwrap_or(text))?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| NoteError::KeyForm)?;
        if key_hash(name, &key) != hash {
            return Err(NoteError::KeyHash);
        }
        Ok(PublicKey { name: name.to_owned(), hash, key })
    }

    /// Its name: the origin of the trail.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number that names the key on a signature line.
    #[must_use]
    pub fn hash(&self) -> u32 {
        u32::from_be_bytes(self.hash)
    }

    /// The text form, LF-ended.
    #[must_use]
    pub fn to_text(&self) -> String {
        join_key(&self.name, self.hash, self.key.as_bytes()) + "\n"
    }

    fn check(&self, text: &str, signature: &[u8; 64]) -> Result<(), NoteError> {
        self.key
            .verify_strict(text.as_bytes(), &Signature::from_bytes(signature))
            .map_err(|_| NoteError::Forged(self.hash()))
    }
}

impl SecretKey {
    /// A key named `name` from 32 bytes nobody can guess.
    ///
    /// # Errors
    /// [`NoteError::KeyName`]
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<SecretKey, NoteError> {
        if !is_name(name) {
            return Err(NoteError::KeyName);
        }
        let key = SigningKey::from_bytes(seed);
        let public = key.verifying_key();
        let hash = key_hash(name, &public);
        Ok(SecretKey { public: PublicKey { name: name.to_owned(), hash, key: public }, key })
    }

    /// Reads the text form, with or without a line feed at the end.
    ///
    /// # Errors
    /// Everything about a key in [`NoteError`].
    pub fn parse(text: &str) -> Result<SecretKey, NoteError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let (name, hash, seed) = split_key(text.strip_prefix(PRIVATE).ok_or(NoteError::KeyForm)?)?;
        let key = SecretKey::from_seed(name, &seed)?;
        if key.public.hash != hash {
            return Err(NoteError::KeyHash);
        }
        Ok(key)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The text form, LF-ended. To be kept from all others.
    #[must_use]
    pub fn to_text(&self) -> String {
        let key = join_key(&self.public.name, self.public.hash, self.key.as_bytes());
        format!("{PRIVATE}{key}\n")
    }

    /// `text`, which ends with a line feed, as a note with one signature.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        debug_assert!(text.ends_with('\n'));
        let mut blob = [0; 68];
        blob[..4].copy_from_slice(&self.public.hash);
        blob[4..].copy_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        format!("{text}\n\u{2014} {} {}\n", self.public.name, STANDARD.encode(blob))
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// A note taken apart; its signatures are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// The signed text, its last line feed included.
    pub text: &'a str,
    signatures: Vec<Line<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line<'a> {
    name: &'a str,
    hash: [u8; 4],
    /// Of any length: other algorithms have other ones.
    signature: Vec<u8>,
}

impl<'a> Note<'a> {
    /// More signatures than that are nobody's.
    const MOST_SIGNATURES: usize = 100;

    /// Takes a note apart. Only the bytes that [`Note::to_text`] would write are one.
    ///
    /// # Errors
    /// [`NoteError::Form`]
    pub fn parse(bytes: &'a [u8]) -> Result<Note<'a>, NoteError> {
        let all = std::str::from_utf8(bytes).map_err(|_| NoteError::Form("it is not UTF-8"))?;
        if all.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Form("there is a control character in it"));
        }
        let split = all.rfind("\n\n").ok_or(NoteError::Form("it has no empty line"))?;
        let (text, lines) = (&all[..=split], &all[split + 2..]);
        if !lines.ends_with('\n') {
            return Err(NoteError::Form("its last line has no line feed"));
        }
        let mut signatures = Vec::new();
        for line in lines.lines() {
            let mut words = line.split(' ');
            let (Some("\u{2014}"), Some(name), Some(blob), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(NoteError::Form("a signature line is not `\u{2014} NAME BASE64`"));
            };
            if !is_name(name) {
                return Err(NoteError::Form("a signature line has no name"));
            }
            let blob =
                STANDARD.decode(blob).map_err(|_| NoteError::Form("a signature is not base64"))?;
            let Some((hash, signature)) = blob.split_first_chunk::<4>() else {
                return Err(NoteError::Form("a signature is too short"));
            };
            if signature.is_empty() {
                return Err(NoteError::Form("a signature is too short"));
            }
            if signatures.len() == Note::MOST_SIGNATURES {
                return Err(NoteError::Form("it has too many signatures"));
            }
            signatures.push(Line { name, hash: *hash, signature: signature.to_vec() });
        }
        let note = Note { text, signatures };
        if note.to_text() != all {
            return Err(NoteError::Form("it is not in canonical bytes"));
        }
        Ok(note)
    }

    /// The note again.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut all = format!("{}\n", self.text);
        for line in &self.signatures {
            let blob = [&line.hash[..], &line.signature].concat();
            all += &format!("\u{2014} {} {}\n", line.name, STANDARD.encode(blob));
        }
        all
    }

    /// How many signatures are on it.
    #[must_use]
    pub fn signatures(&self) -> usize {
        self.signatures.len()
    }

    /// Whether `key` has signed it: all its signatures must be good, and there must be one.
    /// Those of other keys are passed over.
    ///
    /// # Errors
    /// [`NoteError::Unsigned`], [`NoteError::Forged`]
    pub fn check(&self, key: &PublicKey) -> Result<(), NoteError> {
        let mut signed = false;
        for line in &self.signatures {
            if line.name != key.name || line.hash != key.hash {
                continue;
            }
            let signature =
                line.signature.as_slice().try_into().map_err(|_| NoteError::Forged(key.hash()))?;
            key.check(self.text, signature)?;
            signed = true;
        }
        if signed { Ok(()) } else { Err(NoteError::Unsigned(key.hash())) }
    }
}
