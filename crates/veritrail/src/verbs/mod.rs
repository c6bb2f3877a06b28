//! One file per verb: its arguments (whose doc comments are the help text) and
//! the function that does it. Verbs print to the writer they are given.

pub(crate) mod agent;
pub(crate) mod completions;
pub(crate) mod container;
pub(crate) mod demo;
pub(crate) mod device;
pub(crate) mod doctor;
pub(crate) mod forward;
pub(crate) mod install;
pub(crate) mod metrics;
pub(crate) mod oci_hook;
pub(crate) mod report;
pub(crate) mod rules;
pub(crate) mod scrub;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod timeline;
pub(crate) mod trail;
pub(crate) mod verity;
