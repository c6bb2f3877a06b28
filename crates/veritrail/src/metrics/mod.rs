//! What the agent counts, for Prometheus: a process of its own that asks the agent at its socket and answers
//! `GET /metrics`.
//!
//! ```text
//!  Prometheus ── HTTP ──▶ veritrail agent metrics ── agent/control ──▶ agent
//!                          no capabilities            one JSON line
//! ```
//!
//! So nothing that a client does reaches the agent, and where there is none the answer says that.

mod http;
mod text;

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Connection;

use crate::agent::{self, Home};
use crate::config::Listen;
use crate::outcome::{Failure, Kind};

/// Clients that are answered at one time; others are turned away at once.
const CLIENTS: usize = 8;

/// Listens, and is ready to answer.
pub(crate) struct Server {
    socket: Socket,
    home: Home,
}

enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// Somebody has it; I/O.
    pub(crate) fn bind(listen: &Listen, home: Home) -> Result<Server, Failure> {
        let failed = |error: io::Error, what: String| {
            Failure::new(Kind::Io, format!("cannot listen at {what}")).because(error)
        };
        let socket = match listen {
            Listen::Loopback(address) => Socket::Tcp(
                TcpListener::bind(address).map_err(|error| failed(error, address.to_string()))?,
            ),
            Listen::Unix(path) => {
                Socket::Unix(bind(path).map_err(|error| failed(error, path.display().to_string()))?)
            }
        };
        Ok(Server { socket, home })
    }

    /// The address, as a person would write it.
    pub(crate) fn address(&self) -> String {
        match &self.socket {
            Socket::Tcp(socket) => socket
                .local_addr()
                .map_or_else(|_| "?".into(), |address| format!("http://{address}/metrics")),
            Socket::Unix(socket) => socket
                .local_addr()
                .ok()
                .and_then(|address| {
                    address.as_pathname().map(|path| format!("unix:{}", path.display()))
                })
                .unwrap_or_else(|| "?".into()),
        }
    }

    /// Answers until the process is ended.
    pub(crate) fn run(self) -> ! {
        let busy = Arc::new(AtomicUsize::new(0));
        let home = Arc::new(self.home);
        loop {
            let connection = match &self.socket {
                Socket::Unix(socket) => {
                    socket.accept().and_then(|(client, _)| Connection::unix(client))
                }
                Socket::Tcp(socket) => {
                    socket.accept().and_then(|(client, _)| Connection::tcp(client))
                }
            };
            let Ok(connection) = connection else {
                // No descriptor is left; there may be one in a moment.
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            if busy.fetch_add(1, Ordering::Relaxed) >= CLIENTS {
                busy.fetch_sub(1, Ordering::Relaxed);
                connection.turn_away();
                continue;
            }
            let (home, leaving) = (Arc::clone(&home), Leaving(Arc::clone(&busy)));
            // Where no thread is to be had the closure is dropped, and with it the client and his place.
            let _ = std::thread::Builder::new().name("client".into()).spawn(move || {
                let _leaving = leaving;
                connection.answer(|| text::page(agent::ask(&home).ok().flatten().as_ref()));
            });
        }
    }
}

/// The place of a client, given back however he ends.
struct Leaving(Arc<AtomicUsize>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes the place of a socket that nobody answers at any more.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let answers = std::os::unix::net::UnixStream::connect(path);
            if answers.is_ok_and(|_| true) {
                return Err(error);
            }
            let found = std::fs::symlink_metadata(path)?;
            if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    // As a port of the loopback interface is: everybody on this host may ask.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}
