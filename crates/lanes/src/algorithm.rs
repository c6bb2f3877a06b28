//! The hash algorithms a verity superblock or fs-verity descriptor may name.

use std::{fmt, str::FromStr};

/// The longest digest of any [`Algorithm`], in bytes.
pub const MAX_DIGEST_SIZE: usize = 64;

macro_rules! algorithms {
    ($($(#[$doc:meta])* $variant:ident $size:literal $name:literal $(| $other:literal)*;)*) => {
        /// A hash algorithm, by the name the kernel's crypto API gives it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Algorithm { $($(#[$doc])* $variant,)* }

        impl Algorithm {
            /// Every algorithm there is.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The kernel's spelling, lower case, as in a dm table line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Bytes in a digest, at most [`MAX_DIGEST_SIZE`].
            pub const fn digest_size(self) -> usize {
                match self { $(Self::$variant => $size,)* }
            }

            /// Reads a name as `veritysetup --hash` takes it: the kernel's spelling or the one of
            /// its crypto libraries, in any case.
            pub fn parse(name: &str) -> Result<Self, UnknownAlgorithm> {
                $(if [$name $(, $other)*].iter().any(|known| known.eq_ignore_ascii_case(name)) {
                    return Ok(Self::$variant);
                })*
                Err(UnknownAlgorithm { name: name.to_owned() })
            }
        }
    };
}

algorithms! {
    /// SHA-1 (FIPS 180-4). Broken for collisions; old images have it.
    Sha1 20 "sha1";
    /// SHA-224 (FIPS 180-4).
    Sha224 28 "sha224";
    /// SHA-256 (FIPS 180-4), the default everywhere and the one with lanes.
    Sha256 32 "sha256";
    /// SHA-384 (FIPS 180-4).
    Sha384 48 "sha384";
    /// SHA-512 (FIPS 180-4), fs-verity's other algorithm.
    Sha512 64 "sha512";
    /// SHA3-224 (FIPS 202).
    Sha3_224 28 "sha3-224";
    /// SHA3-256 (FIPS 202).
    Sha3_256 32 "sha3-256";
    /// SHA3-384 (FIPS 202).
    Sha3_384 48 "sha3-384";
    /// SHA3-512 (FIPS 202).
    Sha3_512 64 "sha3-512";
    /// BLAKE2b of 160 bits (RFC 7693).
    Blake2b160 20 "blake2b-160";
    /// BLAKE2b of 256 bits (RFC 7693).
    Blake2b256 32 "blake2b-256";
    /// BLAKE2b of 384 bits (RFC 7693).
    Blake2b384 48 "blake2b-384";
    /// BLAKE2b of 512 bits (RFC 7693).
    Blake2b512 64 "blake2b-512" | "blake2b512";
    /// BLAKE2s of 128 bits (RFC 7693).
    Blake2s128 16 "blake2s-128";
    /// BLAKE2s of 160 bits (RFC 7693).
    Blake2s160 20 "blake2s-160";
    /// BLAKE2s of 224 bits (RFC 7693).
    Blake2s224 28 "blake2s-224";
    /// BLAKE2s of 256 bits (RFC 7693).
    Blake2s256 32 "blake2s-256" | "blake2s256";
    /// RIPEMD-160 (ISO/IEC 10118-3); cryptsetup says `ripemd160`.
    Ripemd160 20 "rmd160" | "ripemd160";
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        Self::parse(name)
    }
}

/// A name that is no [`Algorithm`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown hash algorithm {name:?}; known are sha256, sha512, sha1, sha3-256, blake2b-512 and their relatives"
)]
pub struct UnknownAlgorithm {
    /// The name as it was given.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_in_any_case() {
        for &algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name()), Ok(algorithm));
            assert_eq!(algorithm.name().to_ascii_uppercase().parse(), Ok(algorithm));
            assert!(algorithm.digest_size() <= MAX_DIGEST_SIZE);
        }
        assert_eq!(Algorithm::parse("ripemd160"), Ok(Algorithm::Ripemd160));
        assert_eq!(Algorithm::parse("blake2b512"), Ok(Algorithm::Blake2b512));
        for unknown in ["", "sha", "sha256 ", "sha2566", "md5", "hmac(sha256)"] {
            assert_eq!(
                Algorithm::parse(unknown),
                Err(UnknownAlgorithm { name: unknown.to_owned() })
            );
        }
    }
}
