//! Both ways against openssl: it takes what is made here, and what it makes is judged here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use signature::{
    Bad, Certificate, KeyError, Keyring, Message, SignError, SigningKey, SigningKeyError, Time,
    Verdict, sign_detached,
};
use tempfile::TempDir;

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";

/// A folder with the root hash's digits in `root.hex`, to run openssl in.
struct Bench(TempDir);

impl Bench {
    /// None, visibly, where there is no openssl.
    fn new(test: &str) -> Option<Bench> {
        if Command::new("openssl").arg("version").output().is_err() {
            println!("SKIPPED: {test}: no openssl program");
            return None;
        }
        let bench = Bench(TempDir::new().unwrap());
        bench.write("root.hex", ROOT.as_bytes());
        Some(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn try_openssl(&self, arguments: &str) -> Output {
        Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    fn openssl(&self, arguments: &str) {
        let output = self.try_openssl(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "openssl {arguments}: {said}");
    }

    /// `NAME.key`: PKCS#8 in PEM.
    fn key(&self, name: &str, kind: &str) {
        let options = match kind {
            "P-256" | "P-384" => format!("EC -pkeyopt ec_paramgen_curve:{kind}"),
            bits => format!("RSA -pkeyopt rsa_keygen_bits:{bits}"),
        };
        self.openssl(&format!("genpkey -algorithm {options} -out {name}.key"));
    }

    /// `NAME.key` and a self-signed `NAME.pem`.
    fn identity(&self, name: &str, kind: &str) {
        self.key(name, kind);
        self.openssl(&format!(
            "req -new -x509 -key {name}.key -subj /CN={name} -days 30 -out {name}.pem"
        ));
    }

    /// `NAME.key` and `NAME.pem`, issued by `issuer` with these extensions.
    fn issued(&self, name: &str, kind: &str, issuer: &str, days: u32, extensions: &str) {
        self.key(name, kind);
        self.write("extensions", extensions.as_bytes());
        self.openssl(&format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial \
             -days {days} -extfile extensions -out {name}.pem"
        ));
    }

    fn certificate(&self, name: &str) -> Certificate {
        Certificate::from_file(&self.read(&format!("{name}.pem"))).unwrap().remove(0)
    }

    fn signing_key(&self, file: &str) -> Result<SigningKey, SigningKeyError> {
        SigningKey::from_pem(&String::from_utf8(self.read(file)).unwrap())
    }

    fn keyring(&self, names: &[&str]) -> Keyring {
        let mut keyring = Keyring::new();
        for name in names {
            keyring.add(self.certificate(name)).unwrap();
        }
        keyring
    }

    /// What the file's signature over the root hash comes to.
    fn judge(&self, file: &str, keyring: &[&str], at: Time) -> Verdict {
        let bytes = self.read(file);
        let message = Message::parse(&bytes).unwrap();
        message.check_detached(ROOT.as_bytes(), &self.keyring(keyring), at).unwrap()
    }
}

fn now() -> Time {
    Time(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

fn in_days(days: u64) -> Time {
    Time(now().0 + days * 86_400)
}

const SMIME: &str = "smime -sign -binary -in root.hex -outform der";

#[test]
fn what_is_made_here_is_what_openssl_makes_or_takes() {
    let Some(bench) = Bench::new("what_is_made_here_is_what_openssl_makes_or_takes") else {
        return;
    };
    for kind in ["2048", "4096", "P-256", "P-384"] {
        bench.identity(kind, kind);
        let key = bench.signing_key(&format!("{kind}.key")).unwrap();
        let made = sign_detached(ROOT.as_bytes(), &key, &bench.certificate(kind)).unwrap();
        bench.write("made.p7s", &made);
        bench.openssl(&format!(
            "{SMIME} -nocerts -noattr -inkey {kind}.key -signer {kind}.pem -out theirs.p7s"
        ));
        if kind.starts_with('P') {
            // ECDSA is not the same twice in openssl; here it is (RFC 6979).
            let again = sign_detached(ROOT.as_bytes(), &key, &bench.certificate(kind)).unwrap();
            assert!(made == again, "{kind}");
        } else {
            assert!(made == bench.read("theirs.p7s"), "{kind}: other bytes than openssl's");
        }
        let verify = |content: &str| {
            bench.try_openssl(&format!(
                "smime -verify -binary -inform der -in made.p7s -content {content} -certfile {kind}.pem \
                 -CAfile {kind}.pem -purpose any -out /dev/null"
            ))
        };
        let output = verify("root.hex");
        assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        bench.write("other.hex", &ROOT.replace('a', "b").into_bytes());
        assert!(!verify("other.hex").status.success(), "{kind}");
        for file in ["made.p7s", "theirs.p7s"] {
            let verdict = bench.judge(file, &[kind], now());
            assert!(matches!(verdict, Verdict::Trusted(_)), "{kind}, {file}: {verdict}");
        }
    }
}

#[test]
fn what_openssl_makes_is_judged_whatever_its_form() {
    let Some(bench) = Bench::new("what_openssl_makes_is_judged_whatever_its_form") else { return };
    for kind in ["2048", "P-256", "P-384"] {
        bench.identity(kind, kind);
        let who = format!("-inkey {kind}.key -signer {kind}.pem -out s.p7s");
        for digest in ["sha256", "sha384", "sha512"] {
            for form in [
                "smime -sign -nocerts -noattr",
                "smime -sign -noattr",
                "cms -sign -nocerts -noattr",
                "cms -sign -noattr -keyid",
                "cms -sign -nosmimecap",
                "cms -sign -nosmimecap -keyid -nocerts",
            ] {
                bench.openssl(&format!(
                    "{form} -binary -md {digest} -in root.hex -outform der {who}"
                ));
                let verdict = bench.judge("s.p7s", &[kind], now());
                let Verdict::Trusted(trusted) = verdict else { panic!("{kind} {form}: {verdict}") };
                assert_eq!(trusted.digest.name(), digest);
                assert_eq!(trusted.signing_time.is_some(), form.contains("nosmimecap"), "{form}");

                let bytes = bench.read("s.p7s");
                let message = Message::parse(&bytes).unwrap();
                let other = message.check_detached(b"other", &bench.keyring(&[kind]), now());
                assert!(matches!(other, Ok(Verdict::Bad(_))), "{kind} {form} {digest}");
                let nobody = message.check_detached(ROOT.as_bytes(), &Keyring::new(), now());
                assert!(matches!(nobody, Ok(Verdict::Untrusted(_))), "{kind} {form} {digest}");
            }
        }
        bench.openssl(&format!(
            "smime -sign -binary -noattr -nodetach -in root.hex -outform der {who}"
        ));
        let bytes = bench.read("s.p7s");
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.content(), Some(ROOT.as_bytes()));
        let verdict = message.check_attached(&bench.keyring(&[kind]), now()).unwrap();
        assert!(matches!(verdict, Verdict::Trusted(_)), "{kind}: {verdict}");
    }
}

#[test]
fn what_is_too_weak_is_refused_by_name() {
    let Some(bench) = Bench::new("what_is_too_weak_is_refused_by_name") else { return };
    bench.identity("2048", "2048");
    let refused = |options: &str| {
        bench.openssl(&format!(
            "cms -sign -binary -nosmimecap -in root.hex -outform der -inkey 2048.key \
             -signer 2048.pem -out s.p7s {options}"
        ));
        Message::parse(&bench.read("s.p7s")).unwrap_err().to_string()
    };
    assert!(refused("-md sha1").contains("digest algorithm: SHA-1 is too weak"));
    assert!(refused("-md md5").contains("digest algorithm: MD5 is too weak"));
    assert!(
        refused("-md sha3-256").contains("2.16.840.1.101.3.4.2.8 is not supported"),
        "{}",
        refused("-md sha3-256")
    );
    let pss = refused("-md sha256 -keyopt rsa_padding_mode:pss");
    assert!(pss.contains("RSASSA-PSS is not supported"), "{pss}");

    bench.identity("1024", "1024");
    let weak = bench.certificate("1024");
    assert_eq!(weak.usable(), Err(KeyError::Weak { bits: 1024 }));
    assert_eq!(
        bench.signing_key("1024.key").unwrap_err(),
        SigningKeyError::Key(KeyError::Weak { bits: 1024 })
    );
    bench.openssl(&format!("{SMIME} -noattr -inkey 1024.key -signer 1024.pem -out s.p7s"));
    let verdict = bench.judge("s.p7s", &["1024"], now());
    assert_eq!(
        verdict.to_string(),
        "the certificate of `CN=1024` cannot be used: an RSA key of 1024 bits is too weak; 2048 or more are needed"
    );
    // A link of the chain that is signed with SHA-1, or by a weak key.
    bench.key("leaf", "P-256");
    bench.openssl("req -new -key leaf.key -subj /CN=leaf -out leaf.csr");
    for (issuer, digest, why) in [
        ("2048", "sha1", "SHA-1 is too weak"),
        ("1024", "sha256", "an RSA key of 1024 bits is too weak"),
    ] {
        bench.openssl(&format!(
            "x509 -req -in leaf.csr -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial -{digest} \
             -out leaf.pem"
        ));
        bench.openssl(&format!("{SMIME} -noattr -inkey leaf.key -signer leaf.pem -out s.p7s"));
        let said = bench.judge("s.p7s", &[issuer], now()).to_string();
        let expected = format!("`CN={issuer}` does not vouch for `CN=leaf`: {why}");
        assert!(said.starts_with(&expected), "{said}");
    }
}

#[test]
fn chains_of_openssl_are_followed_and_their_faults_said() {
    let Some(bench) = Bench::new("chains_of_openssl_are_followed_and_their_faults_said") else {
        return;
    };
    let authority = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
                     subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid,issuer\n";
    let signing = "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\n\
                   extendedKeyUsage=codeSigning\nsubjectKeyIdentifier=hash\n\
                   authorityKeyIdentifier=keyid,issuer\n";
    bench.identity("root", "4096");
    bench.issued("middle", "P-384", "root", 10, authority);
    bench.issued("signer", "2048", "middle", 20, signing);
    let sign = |name: &str, with: &str| {
        bench.openssl(&format!(
            "{SMIME} -noattr -inkey {name}.key -signer {name}.pem -certfile {with}.pem -out s.p7s"
        ));
    };
    sign("signer", "middle");
    let verdict = bench.judge("s.p7s", &["root"], now());
    let Verdict::Trusted(trusted) = verdict else { panic!("{verdict}") };
    assert_eq!((trusted.chain, trusted.anchor.subject.as_str()), (3, "CN=root"));
    assert_eq!(trusted.until, bench.certificate("middle").facts().not_after);
    assert!(matches!(bench.judge("s.p7s", &["middle"], now()), Verdict::Trusted(_)));
    assert!(matches!(bench.judge("s.p7s", &["signer"], now()), Verdict::Trusted(_)));
    let said = |at| bench.judge("s.p7s", &["root"], at).to_string();
    assert!(
        said(in_days(11)).starts_with("the certificate of `CN=middle` has expired"),
        "{}",
        said(in_days(11))
    );
    assert!(said(in_days(25)).starts_with("the certificate of `CN=signer` has expired"));
    assert!(said(Time(now().0 - 86_400)).contains("is not yet valid"), "{}", said(Time(0)));
    // Its own day is not that of a middle nobody asks.
    assert!(matches!(bench.judge("s.p7s", &["signer"], in_days(11)), Verdict::Trusted(_)));

    bench.issued("server", "P-256", "middle", 20, "extendedKeyUsage=serverAuth\n");
    sign("server", "middle");
    assert_eq!(
        said(now()),
        "wrong usage: the certificate of `CN=server` is for id-kp-serverAuth, not for codeSigning"
    );
    bench.issued("cipher", "2048", "middle", 20, "keyUsage=keyEncipherment\n");
    sign("cipher", "middle");
    assert!(said(now()).contains("is not for signatures"), "{}", said(now()));
    bench.issued("leaf", "P-256", "signer", 20, signing);
    sign("leaf", "signer");
    assert!(
        bench
            .judge("s.p7s", &["middle"], now())
            .to_string()
            .contains("`CN=signer` is not an authority's")
    );
    bench.issued(
        "named",
        "P-256",
        "root",
        20,
        "basicConstraints=CA:TRUE\nnameConstraints=permitted;DNS:x\n",
    );
    bench.issued("below", "P-256", "named", 20, signing);
    sign("below", "named");
    assert!(said(now()).contains("id-ce-nameConstraints"), "{}", said(now()));
}

#[test]
fn keys_are_read_in_every_form_that_openssl_writes() {
    let Some(bench) = Bench::new("keys_are_read_in_every_form_that_openssl_writes") else { return };
    for kind in ["2048", "P-256", "P-384"] {
        bench.identity(kind, kind);
        bench.openssl(&format!("pkey -in {kind}.key -traditional -out old.key"));
        let sign = |file: &str| {
            let key = bench.signing_key(file).unwrap();
            sign_detached(ROOT.as_bytes(), &key, &bench.certificate(kind)).unwrap()
        };
        assert!(sign("old.key") == sign(&format!("{kind}.key")), "{kind}");
        let shown = format!("{:?}", bench.signing_key("old.key").unwrap());
        assert!(shown.len() < 32, "a key is not to be shown: {shown}");
        bench.openssl(&format!("pkey -in {kind}.key -aes256 -passout pass:x -out locked.key"));
        assert_eq!(bench.signing_key("locked.key").unwrap_err(), SigningKeyError::Encrypted);
        bench.openssl(&format!(
            "pkey -in {kind}.key -traditional -aes256 -passout pass:x -out locked.key"
        ));
        assert_eq!(bench.signing_key("locked.key").unwrap_err(), SigningKeyError::Encrypted);
    }
    // As openssl ecparam writes it: another block comes first.
    bench.openssl("ecparam -name prime256v1 -genkey -out named.key");
    assert!(bench.signing_key("named.key").is_ok());

    let key = bench.signing_key("2048.key").unwrap();
    assert_eq!(
        sign_detached(b"", &key, &bench.certificate("P-256")).unwrap_err(),
        SignError::OtherKey { subject: "CN=P-256".into() }
    );
    assert_eq!(bench.signing_key("2048.pem").unwrap_err(), SigningKeyError::Nothing);
    bench.openssl("genpkey -algorithm ed25519 -out ed.key");
    let refused = bench.signing_key("ed.key").unwrap_err().to_string();
    assert!(refused.contains("id-Ed25519 is not supported"), "{refused}");
    bench.openssl("ecparam -name secp521r1 -genkey -noout -out large.key");
    assert!(matches!(bench.signing_key("large.key"), Err(SigningKeyError::Unreadable(_))));
}

/// Text around the blocks, several certificates in one file, DER: all are files of certificates.
#[test]
fn certificates_are_read_in_every_form_that_openssl_writes() {
    let Some(bench) = Bench::new("certificates_are_read_in_every_form_that_openssl_writes") else {
        return;
    };
    bench.identity("a", "P-256");
    bench.identity("b", "2048");
    bench.openssl("x509 -in a.pem -text -out text.pem");
    bench.openssl("x509 -in a.pem -outform der -out a.der");
    let a = bench.certificate("a");
    assert_eq!(Certificate::from_file(&bench.read("text.pem")), Ok(vec![a.clone()]));
    assert_eq!(Certificate::from_file(&bench.read("a.der")), Ok(vec![a.clone()]));
    let both = [bench.read("a.key"), bench.read("text.pem"), bench.read("b.pem")].concat();
    assert_eq!(Certificate::from_file(&both), Ok(vec![a, bench.certificate("b")]));
    assert!(Certificate::from_file(&bench.read("a.key")).is_err());
    let cut = bench.read("a.pem");
    assert!(Certificate::from_file(&cut[..cut.len() - 40]).is_err());
}

/// A signature by one key, named as another's.
#[test]
fn a_signature_is_nobodys_but_its_keys() {
    let Some(bench) = Bench::new("a_signature_is_nobodys_but_its_keys") else { return };
    bench.identity("a", "2048");
    // The same name, serial number and kind of key.
    bench.key("b", "2048");
    for name in ["a", "b"] {
        bench.openssl(&format!(
            "req -new -x509 -key {name}.key -subj /CN=same -set_serial 7 -days 9 -out {name}.pem"
        ));
    }
    bench.openssl(&format!("{SMIME} -nocerts -noattr -inkey a.key -signer a.pem -out s.p7s"));
    assert!(matches!(bench.judge("s.p7s", &["a"], now()), Verdict::Trusted(_)));
    assert!(matches!(bench.judge("s.p7s", &["b"], now()), Verdict::Bad(Bad::Signature { .. })));
    assert!(matches!(bench.judge("s.p7s", &["b", "a"], now()), Verdict::Trusted(_)));
}
