//! A second of UTC.

use std::fmt;
use std::time::Duration;

use der::DateTime;

/// Seconds since 1970-01-01T00:00:00Z: the unit that certificates are dated in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl From<x509_cert::time::Time> for Time {
    fn from(time: x509_cert::time::Time) -> Time {
        Time(time.to_unix_duration().as_secs())
    }
}

/// RFC 3339; the bare seconds where no calendar of four digits has that year.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_unix_duration(Duration::from_secs(self.0)) {
            Ok(date) => write!(f, "{date}"),
            Err(_) => write!(f, "second {} after 1970", self.0),
        }
    }
}
