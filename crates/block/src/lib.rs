//! Integrity-protected block devices over `ReadAt`: bytes in, data or a violation out.
