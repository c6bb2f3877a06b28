//! The binary as a user runs it: standard output, standard error and exit status.

mod search;
