//! `[metrics]`: where `veritrail agent metrics` answers; off unless this says where.
//!
//! ```toml
//! [metrics]
//! listen = "unix:/run/veritrail/metrics.sock"    # or "127.0.0.1:9417"
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Config;
use super::written::{Section, Wrong};

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    listen: Option<String>,
}

/// Where numbers are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// A socket file.
    Unix(PathBuf),
    /// An address of this host that no other one reaches.
    Loopback(SocketAddr),
}

impl Listen {
    fn parse(text: &str) -> Result<Listen, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Listen::Unix(path))
            } else {
                Err(format!("{} is not absolute", path.display()))
            };
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_| format!("`{text}` is neither unix:PATH nor an address with a port"))?;
        if !address.ip().is_loopback() {
            // Nobody is asked who he is, and nothing is encrypted.
            return Err(format!(
                "{} is not a loopback address; other hosts are served by a proxy",
                address.ip()
            ));
        }
        Ok(Listen::Loopback(address))
    }
}

impl Section for Metrics {
    const NAME: &'static str = "metrics";

    fn check(&self, wrong: &mut Wrong<'_, '_>) {
        if let Some(Err(why)) = self.listen.as_deref().map(Listen::parse) {
            wrong.key("listen", why);
        }
    }
}

impl Config {
    /// Where the agent's numbers are asked for; none: nowhere.
    pub(crate) fn metrics(&self) -> Option<Listen> {
        Listen::parse(self.metrics.listen.as_deref()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mistakes, read};
    use super::*;

    #[test]
    fn only_this_host_is_answered() {
        let listen = |value: &str| read(&format!("[metrics]\nlisten = \"{value}\"")).metrics();
        assert_eq!(read("[metrics]").metrics(), None);
        assert_eq!(listen("unix:/run/m"), Some(Listen::Unix("/run/m".into())));
        assert_eq!(listen("[::1]:9"), Some(Listen::Loopback("[::1]:9".parse().unwrap())));
        for (wrong, said) in [
            ("0.0.0.0:9417", "0.0.0.0 is not a loopback address"),
            ("192.168.0.1:9417", "192.168.0.1 is not a loopback address"),
            ("unix:m", "m is not absolute"),
            ("localhost:9417", "`localhost:9417` is neither unix:PATH nor an address with a port"),
        ] {
            let found = mistakes(&format!("[metrics]\nlisten = \"{wrong}\""));
            let start = format!("2: metrics.listen: {said}");
            assert!(matches!(&found[..], [only] if only.starts_with(&start)), "{found:?}");
        }
    }
}
