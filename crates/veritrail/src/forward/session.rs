//! One connection to the server: TLS, messages, and the proof that it has read them.
//!
//! Syslog has no word for "I have it". But a server that has read everything up to our end of the connection ends
//! it by an orderly FIN, and one that went away with something unread by a reset: the kernel does that. So a
//! session ends after a while, and what was sent in it counts as sent only when the FIN has come.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::config::Server;
use crate::outcome::{Failure, Kind};

/// How long the server may take to answer, to take what is sent, and to end.
const PROMPT: Duration = Duration::from_secs(10);

/// Bytes that the server may say at the end: it has nothing to say.
const MOST: usize = 1 << 20;

/// How the server is known, read from the files that the configuration names.
pub(super) fn trust(server: &Server) -> Result<Arc<ClientConfig>, Failure> {
    let bad = |path: &std::path::Path, error: &dyn std::fmt::Display| {
        let what = format!("{} cannot be used", path.display());
        Failure::new(Kind::Unusable, what).because(error.to_string())
    };
    let certificates = |path: &std::path::Path| {
        CertificateDer::pem_file_iter(path)
            .and_then(|found| found.collect::<Result<Vec<_>, _>>())
            .map_err(|error| bad(path, &error))
    };
    let mut roots = RootCertStore::empty();
    // A bundle may have some that no one reads; none at all is another matter.
    let (good, _) = roots.add_parsable_certificates(certificates(&server.ca)?);
    if good == 0 {
        return Err(bad(&server.ca, &"it has no certificate of an authority")
            .hint("forward.ca names a PEM file of those who vouch for the server"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(Kind::Environment, "cannot use TLS").because(error))?
        .with_root_certificates(roots);
    let config = match &server.own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &error))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, secret)
                .map_err(|error| bad(certificate, &error))?
        }
    };
    Ok(Arc::new(config))
}

/// A connection that takes messages.
pub(super) struct Session {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Session {
    /// Connects and makes sure who is there.
    pub(super) fn open(server: &Server, trust: &Arc<ClientConfig>) -> io::Result<Session> {
        let name = ServerName::try_from(server.name.clone())
            .map_err(|_| io::Error::other(format!("`{}` is no name of a server", server.name)))?;
        let mut last = io::Error::other("the name has no address");
        for address in (server.host.as_str(), server.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PROMPT) {
                Ok(socket) => {
                    socket.set_read_timeout(Some(PROMPT))?;
                    socket.set_write_timeout(Some(PROMPT))?;
                    socket.set_nodelay(true)?;
                    let client =
                        ClientConnection::new(Arc::clone(trust), name).map_err(io::Error::other)?;
                    let mut stream = StreamOwned::new(client, socket);
                    // Not with the first message: a wrong certificate is told before there is one.
                    while stream.conn.is_handshaking() {
                        stream.conn.complete_io(&mut stream.sock)?;
                    }
                    return Ok(Session { stream });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sends messages.
    pub(super) fn send(&mut self, messages: &[u8]) -> io::Result<()> {
        self.stream.write_all(messages)?;
        self.stream.flush()
    }

    /// Ends the connection; returns when the server has read everything.
    pub(super) fn confirm(mut self) -> io::Result<()> {
        self.stream.conn.send_close_notify();
        while self.stream.conn.wants_write() {
            self.stream.conn.write_tls(&mut self.stream.sock)?;
        }
        self.stream.sock.shutdown(Shutdown::Write)?;
        let until = Instant::now() + PROMPT;
        let mut part = [0; 4096];
        let mut heard = 0;
        loop {
            // Not by way of TLS, which knows nothing of a reset behind the last word.
            let length = self.stream.sock.read(&mut part)?;
            if length == 0 {
                return Ok(());
            }
            let mut bytes = part.get(..length).unwrap_or_default();
            while !bytes.is_empty() && self.stream.conn.read_tls(&mut bytes)? > 0 {
                // An alert: what was sent has not been taken.
                self.stream.conn.process_new_packets().map_err(io::Error::other)?;
            }
            heard += length;
            if heard > MOST || Instant::now() > until {
                return Err(io::Error::other("the server does not end the connection"));
            }
        }
    }
}
