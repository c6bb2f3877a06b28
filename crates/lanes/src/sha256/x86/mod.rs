//! Kernels for particular x86-64 CPUs; with `host` the only unsafe code of the workspace.
//!
//! Two things are unsafe here and each is kept small: a load from a lane, whose
//! bounds [`lane_pointers`] has checked, and the step into a function compiled
//! for instructions that not every CPU has. The second is made sound by the
//! kernel's type: a value of it comes only from its `detect`, which asks the CPU.

mod avx2;
mod avx512;
mod sha_ni;

pub(crate) use avx2::Avx2;
pub(crate) use avx512::Avx512;
pub(crate) use sha_ni::ShaNi;

use super::CHUNK;

/// Where the lanes begin, and how many chunks every one of them has.
///
/// # Panics
/// When a lane is longer or shorter than the first or no whole number of chunks: the kernels read
/// by pointer, and this is their bounds check.
fn lane_pointers<const N: usize>(lanes: &[&[u8]; N]) -> ([*const u8; N], usize) {
    let len = lanes[0].len();
    assert!(len.is_multiple_of(CHUNK) && lanes.iter().all(|lane| lane.len() == len));
    (lanes.map(<[u8]>::as_ptr), len / CHUNK)
}
