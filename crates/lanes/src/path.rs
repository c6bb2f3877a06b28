//! The ways SHA-256 can be computed, and which of them this CPU has.

use std::fmt;

use crate::sha256::Engine;

/// A way to compute SHA-256 (and SHA-224) of many blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// Sixteen blocks at a time in AVX-512 registers.
    Avx512,
    /// Two blocks at a time through the SHA extensions.
    ShaNi2,
    /// One block at a time through the SHA extensions.
    ShaNi,
    /// Eight blocks at a time in AVX2 registers.
    Avx2,
    /// Plain integer code, one block at a time.
    Portable,
}

impl Path {
    /// Every path there is, those for the fastest CPUs first.
    pub const ALL: [Self; 5] =
        [Self::Avx512, Self::ShaNi2, Self::ShaNi, Self::Avx2, Self::Portable];

    /// The paths this CPU has, fastest first; never empty.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|&path| Engine::for_path(path).is_some())
    }

    /// The path a [`BlockHasher`](crate::BlockHasher) takes unless told otherwise.
    pub fn best() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// A short name for reports: `avx512`, `sha-ni-2`, ...
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::ShaNi2 => "sha-ni-2",
            Self::ShaNi => "sha-ni",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The path asked for needs instructions that this CPU has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this CPU has no {path} path for SHA-256")]
pub struct PathUnavailable {
    /// The path asked for.
    pub path: Path,
}
