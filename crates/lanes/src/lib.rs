//! Hashing of many equal-sized blocks at once, and the hash tree over them.
