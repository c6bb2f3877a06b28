//! `[forward]`: the syslog server that gets every leaf; off unless this names one.
//!
//! ```toml
//! [forward]
//! server = "log.example.org:6514"
//! ca = "/etc/veritrail/forward-ca.pem"           # who vouches for the server
//! name = "log.example.org"                       # what its certificate has to say; as in `server` if left out
//! certificate = "/etc/veritrail/forward.pem"     # ours, where the server wants one; with `key`
//! key = "/etc/veritrail/forward.key"
//! confirm_seconds = 10                           # how often the server has to show that it has read all
//! state = "/var/lib/veritrail/forward"           # how far the server has everything
//! ```

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Config;
use super::written::{Section, Wrong};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Forward {
    server: Option<String>,
    ca: PathBuf,
    name: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    confirm_seconds: u64,
    state: PathBuf,
}

impl Default for Forward {
    fn default() -> Forward {
        Forward {
            server: None,
            // What Debian's and most others' packages of certificates make.
            ca: "/etc/ssl/certs/ca-certificates.crt".into(),
            name: None,
            certificate: None,
            key: None,
            confirm_seconds: 10,
            state: "/var/lib/veritrail/forward".into(),
        }
    }
}

/// What `forward.confirm_seconds` may be.
const CONFIRM_SECONDS: RangeInclusive<u64> = 1..=3600;

/// A server, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// Name or address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Certificates of those who vouch for it.
    pub(crate) ca: PathBuf,
    /// The name that its certificate has.
    pub(crate) name: String,
    /// Our certificate and its key.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
    /// The longest time between two confirmations of what was sent.
    pub(crate) confirm: Duration,
}

/// `HOST:PORT`, with an IPv6 address in brackets.
fn parse(server: &str) -> Option<(String, u16)> {
    let (host, port) = server.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return None;
    }
    let host = bare.unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

impl Section for Forward {
    const NAME: &'static str = "forward";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        if let Some(server) = &self.server
            && parse(server).is_none()
        {
            wrong.key("server", format_args!("`{server}` is not HOST:PORT"));
        }
        wrong.absolute("ca", &self.ca);
        wrong.absolute("state", &self.state);
        for (key, path) in [("certificate", &self.certificate), ("key", &self.key)] {
            if let Some(path) = path {
                wrong.absolute(key, path);
            }
        }
        match (&self.certificate, &self.key) {
            (Some(_), None) => wrong.key("certificate", "its key is missing: forward.key"),
            (None, Some(_)) => wrong.key("key", "its certificate is missing: forward.certificate"),
            _ => {}
        }
        wrong.range("confirm_seconds", &self.confirm_seconds, &CONFIRM_SECONDS, "seconds");
    }
}

impl Config {
    /// Where leaves are sent; none: nowhere.
    pub(crate) fn forward(&self) -> Option<Server> {
        let Forward { server, ca, name, certificate, key, confirm_seconds, .. } = &self.forward;
        let (host, port) = parse(server.as_deref()?)?;
        Some(Server {
            name: name.clone().unwrap_or_else(|| host.clone()),
            host,
            port,
            ca: ca.clone(),
            own: certificate.clone().zip(key.clone()),
            confirm: Duration::from_secs(*confirm_seconds),
        })
    }

    /// Where it is kept how far the server has everything.
    pub(crate) fn forward_state(&self) -> PathBuf {
        self.forward.state.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mistakes, read};

    #[test]
    fn a_server_is_a_host_and_a_port() {
        let server = read("[forward]\nserver = \"[::1]:6514\"\nname = \"a\"").forward().unwrap();
        assert_eq!((server.host.as_str(), server.port, server.name.as_str()), ("::1", 6514, "a"));
        assert_eq!(read("[forward]").forward(), None);
        for (wrong, said) in [
            ("server = \"a\"", "server: `a` is not HOST:PORT"),
            ("server = \"::1:6514\"", "server: `::1:6514` is not HOST:PORT"),
            ("server = \"a:0\"", "server: `a:0` is not HOST:PORT"),
            ("ca = \"a\"", "ca: a is not absolute"),
            ("key = \"/a\"", "key: its certificate is missing: forward.certificate"),
            ("confirm_seconds = 0", "confirm_seconds: 0 is not 1 to 3600 seconds"),
        ] {
            let found = mistakes(&format!("[forward]\n{wrong}"));
            assert_eq!(found, [format!("2: forward.{said}")]);
        }
    }
}
