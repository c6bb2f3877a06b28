//! The examples of the public documents that veritrail answers to, run as they stand.
