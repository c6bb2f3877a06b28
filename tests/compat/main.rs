//! The stock tools as peers: what they write we read, what we write they read.

mod ausearch;
mod verity;
