//! `agent forward` against the real rsyslog with gtls.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::bench::{Bench, PROGRAM, Running, has, port, soon};

/// Certificates, a trail and a server.
pub(crate) struct Wire {
    pub(crate) bench: Bench,
    port: u16,
    lines: usize,
}

impl Wire {
    /// None where something lacks.
    pub(crate) fn new(test: &str) -> Option<Wire> {
        let plugin =
            ["/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so", "/usr/lib/rsyslog/lmnsd_gtls.so"];
        let plugin = plugin.into_iter().find(|path| fs::exists(path).unwrap_or(false));
        let plugin = plugin.unwrap_or("lmnsd_gtls.so of rsyslog-gnutls");
        if !has(test, &["rsyslogd", "openssl", plugin]) {
            return None;
        }
        let wire = Wire { bench: Bench::new(), port: port(), lines: 0 };
        for (authority, names) in [("ca", &["server", "client"][..]), ("other", &[])] {
            wire.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"
            ));
            for name in names {
                wire.openssl(&format!(
                    "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
                ));
                wire.bench.write(
                    "ext",
                    "subjectAltName=DNS:log.test\nextendedKeyUsage=serverAuth,clientAuth\n",
                );
                wire.openssl(&format!(
                    "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days 2 -extfile ext -out {name}.pem"
                ));
            }
        }
        wire.configure("");
        Some(wire)
    }

    fn openssl(&self, arguments: &str) {
        self.bench.good("openssl", &arguments.split(' ').collect::<Vec<_>>());
    }

    pub(crate) fn at(&self, name: &str) -> String {
        self.bench.path(name).display().to_string()
    }

    /// Writes our configuration, `more` of the section [forward] and what follows it.
    pub(crate) fn configure(&self, more: &str) {
        let ca = if more.contains("ca =") {
            String::new()
        } else {
            format!("ca = \"{}\"\n", self.at("ca.pem"))
        };
        let name = if more.contains("name =") { "" } else { "name = \"log.test\"\n" };
        let text = format!(
            "[forward]\nserver = \"127.0.0.1:{}\"\nstate = \"{}\"\nconfirm_seconds = 1\n{ca}{name}{more}",
            self.port,
            self.at("state"),
        );
        self.bench.write("config", &text);
        self.bench.good(PROGRAM, &["agent", "check-config", "config"]);
    }

    /// Starts the server; `auth` says whom it takes.
    pub(crate) fn serve(&self, auth: &str) -> Running {
        let at = |name: &str| self.at(name);
        fs::create_dir_all(self.bench.path("work")).unwrap();
        let text = format!(
            "global(workDirectory=\"{}\" maxMessageSize=\"64k\" parser.escapeControlCharactersOnReceive=\"off\"\n\
             DefaultNetstreamDriver=\"gtls\" DefaultNetstreamDriverCAFile=\"{}\"\n\
             DefaultNetstreamDriverCertFile=\"{}\" DefaultNetstreamDriverKeyFile=\"{}\")\n\
             module(load=\"imtcp\" StreamDriver.Name=\"gtls\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"{auth}\")\n\
             template(name=\"t\" type=\"string\" string=\"%pri% %hostname% %app-name% %msgid% %structured-data%|%msg%\\n\")\n\
             input(type=\"imtcp\" port=\"{}\" address=\"127.0.0.1\")\n\
             action(type=\"omfile\" file=\"{}\" template=\"t\")\n",
            at("work"),
            at("ca.pem"),
            at("server.pem"),
            at("server.key"),
            self.port,
            at("got"),
        );
        self.bench.write("rsyslog.conf", &text);
        let (conf, pid) = (at("rsyslog.conf"), at("rsyslog.pid"));
        let server = self.bench.start("rsyslogd", &["-n", "-f", &conf, "-i", &pid], "rsyslog.log");
        soon("the server", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok());
        server
    }

    /// Puts so many records more into the trail.
    fn grow(&mut self, lines: usize) {
        let mut text = String::new();
        for n in self.lines..self.lines + lines {
            let _ = writeln!(text, "type=USER msg=audit(1677619463.786:{}): n={n} \\ \"]", n + 1);
        }
        self.lines += lines;
        self.bench.write("log", &text);
        self.bench.good(PROGRAM, &["trail", "import", "trail", "log"]);
    }

    pub(crate) fn forward(&self) -> Running {
        self.bench.start(
            PROGRAM,
            &["agent", "forward", "--trail", "trail", "--config", "config"],
            "forward.log",
        )
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.bench.read("state/state.json")).unwrap_or(Value::Null)
    }

    /// Waits until the server is known to have everything.
    fn arrived(&self) {
        let note = self.bench.read("trail/checkpoint");
        let leaves: u64 = note.lines().nth(1).unwrap().parse().unwrap();
        soon("the last leaf", || self.state()["confirmed"] == leaves);
        assert!(self.state()["failing"].is_null(), "{}", self.state());
    }

    /// The leaves that the server wrote down, each time it did.
    fn leaves(&self) -> Vec<u64> {
        let got = self.bench.read("got");
        let leaf = |line: &str| {
            let (_, rest) = line.split_once("[veritrail@32473 leaf=\"")?;
            rest.split('"').next()?.parse().ok()
        };
        got.lines().filter_map(leaf).collect()
    }

    /// Every leaf is there, and was there before any later one.
    fn is_whole(&self) {
        let end = self.state()["end"].as_u64().unwrap();
        // The server writes when it comes to it.
        soon("the last line", || self.leaves().iter().max().is_some_and(|last| last + 1 == end));
        let mut next = 0;
        let leaves = self.leaves();
        for leaf in &leaves {
            assert!(*leaf <= next, "leaf {leaf} has come before {next}");
            next = next.max(leaf + 1);
        }
        assert_eq!(next, end, "of {end} leaves");
    }
}

#[test]
fn every_leaf_arrives_in_order_over_stops_and_kills() {
    let test = "every_leaf_arrives_in_order_over_stops_and_kills";
    let Some(mut wire) = Wire::new(test) else { return };
    wire.grow(300);
    let server = wire.serve("anon");
    let forwarder = wire.forward();
    wire.arrived();
    wire.is_whole();
    let got = wire.bench.read("got");
    let line = got.lines().find(|line| line.contains("n=7 ")).unwrap();
    let head = "110 ";
    assert!(line.starts_with(head), "{line}");
    assert!(line.contains(" veritrail USER [veritrail@32473 leaf=\""), "{line}");
    assert!(line.ends_with("|type=USER msg=audit(1677619463.786:8): n=7 \\ \"]"), "{line}");

    // The server goes away, and more comes meanwhile.
    server.stop();
    wire.grow(3000);
    soon("the failure", || !wire.state()["failing"].is_null());
    let server = wire.serve("anon");
    wire.arrived();
    wire.is_whole();

    // The forwarder is killed, again and again, at whatever it does.
    let mut forwarder = forwarder;
    for round in 0..5 {
        wire.grow(2000);
        std::thread::sleep(Duration::from_millis(150 * round));
        forwarder.kill();
        forwarder = wire.forward();
    }
    wire.arrived();
    // The server writes with a pause of its own.
    server.stop();
    wire.is_whole();

    // The server is killed in the middle of it: what it had read and not written is its loss, and no more.
    let server = wire.serve("anon");
    wire.grow(2000);
    wire.arrived();
    forwarder.stop();
    server.stop();
    wire.is_whole();
    assert_eq!(wire.state()["pid"], 0);
}

#[test]
fn a_wrong_certificate_is_refused_and_gets_nothing() {
    let test = "a_wrong_certificate_is_refused_and_gets_nothing";
    let Some(mut wire) = Wire::new(test) else { return };
    wire.grow(3);
    let server = wire.serve("anon");
    let other = format!("ca = \"{}\"\n", wire.at("other.pem"));
    for (more, said) in
        [(other.as_str(), "UnknownIssuer"), ("name = \"else.test\"\n", "not valid for name")]
    {
        wire.configure(more);
        let forwarder = wire.forward();
        soon("the refusal", || {
            wire.state()["failing"].as_str().is_some_and(|why| why.contains(said))
        });
        forwarder.stop();
        assert_eq!(wire.state()["confirmed"], 0);
    }
    server.stop();
    assert_eq!(wire.leaves(), [0; 0]);

    // A server that wants to know who sends.
    let server = wire.serve("x509/certvalid");
    wire.configure("");
    let forwarder = wire.forward();
    soon("the refusal", || !wire.state()["failing"].is_null());
    forwarder.stop();
    assert_eq!(wire.state()["confirmed"], 0);
    let (certificate, key) = (wire.at("client.pem"), wire.at("client.key"));
    wire.configure(&format!("certificate = \"{certificate}\"\nkey = \"{key}\"\n"));
    let forwarder = wire.forward();
    wire.arrived();
    forwarder.stop();
    server.stop();
    wire.is_whole();
}

#[test]
fn certificates_that_are_none_are_told_at_once() {
    let Some(wire) = Wire::new("certificates_that_are_none_are_told_at_once") else { return };
    wire.bench.write("none.pem", "nothing\n");
    wire.configure(&format!("ca = \"{}\"\n", wire.at("none.pem")));
    let ran =
        wire.bench.run(PROGRAM, &["agent", "forward", "--trail", "trail", "--config", "config"]);
    let err = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(5), "{err}");
    assert!(err.contains("none.pem cannot be used") && err.contains("hint: forward.ca"), "{err}");
    wire.bench.write("empty", "");
    let ran =
        wire.bench.run(PROGRAM, &["agent", "forward", "--trail", "trail", "--config", "empty"]);
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
}
