//! Signatures of root hashes, on the command line.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";
/// When the golden certificate is valid, and when no longer.
const THEN: &str = "2026-12-01T00:00:00Z";
const LATE: &str = "2027-01-01T00:00:00+01:00";

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    fs::read(folder.join(name)).unwrap()
}

/// A folder with an image, its golden signature and a keyring with the signer's certificate.
struct Signed(TempDir);

impl Signed {
    fn new() -> Signed {
        let signed = Signed(TempDir::new().unwrap());
        signed.write("root.img", &golden("devices/vdata-64x4k.img"));
        signed.write("root.hash", &golden("devices/v-sha256.hash"));
        signed.write("root.p7s", &golden("devices/v-sha256.p7s"));
        for folder in ["keys", "none"] {
            fs::create_dir(signed.path(folder)).unwrap();
        }
        signed.write("keys/signer.pem", &golden("devices/v-sha256.p7s.cert.pem"));
        signed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn output(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_veritrail"))
            .arg("verity")
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    /// Exit status, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.output(arguments);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// `verify` with the signature and these options.
    fn verify(&self, options: &[&str]) -> (i32, String, String) {
        let verify = ["verify", "root.img", "root.hash", ROOT, "--root-hash-signature", "root.p7s"];
        self.run(&[&verify[..], options].concat())
    }
}

fn said(status: i32, out: &str, err: &str) -> (i32, String, String) {
    (status, out.to_owned(), err.to_owned())
}

#[test]
fn an_image_is_read_only_under_a_root_hash_that_the_keyring_vouches_for() {
    let signed = Signed::new();
    assert_eq!(signed.verify(&["--keyring", "keys", "--at", THEN]), said(0, "", ""));
    assert_eq!(
        signed.verify(&["--keyring", "keys", "--at", THEN, "-v"]),
        said(
            0,
            "root hash signed by `CN=golden-test`, vouched for by `CN=golden-test`, good until 2026-12-21T22:57:15Z\n\
             64 data blocks good\n",
            ""
        )
    );
    assert_eq!(
        signed.verify(&["--keyring", "none", "--at", THEN]),
        said(
            1,
            "",
            "veritrail: Root hash verification failed\n  \
             because: no certificate in the keyring or the signature is the signer's \
             (serial 38b4931750fbd6f408ad60858733e30fa24b8b89 of `CN=golden-test`)\n  \
             hint: a certificate that is to be trusted belongs into none (--keyring)\n"
        )
    );
    assert_eq!(
        signed.verify(&["--keyring", "keys", "--at", LATE]),
        said(
            1,
            "",
            "veritrail: Root hash verification failed\n  \
             because: the certificate of `CN=golden-test` has expired: \
             it ended 2026-12-21T22:57:15Z, and it is 2026-12-31T23:00:00Z\n  \
             hint: --at TIME judges as of another time\n"
        )
    );
    // Nothing leaves before that.
    let cat = ["cat", "root.img", "root.hash", ROOT, "--root-hash-signature", "root.p7s"];
    let (status, out, err) = signed.run(&[&cat[..], &["--keyring", "none"]].concat());
    assert_eq!((status, out.as_str()), (1, ""), "{err}");
    let output = signed.output(&[&cat[..], &["--keyring", "keys", "--at", THEN]].concat());
    assert!(output.stdout == golden("devices/vdata-64x4k.img"));

    // The signature of another root hash.
    let other = format!("b{}", &ROOT[1..]);
    let (status, _, err) = signed.run(&[
        "verify",
        "root.img",
        "root.hash",
        &other,
        "--root-hash-signature",
        "root.p7s",
        "--keyring",
        "keys",
        "--at",
        THEN,
    ]);
    assert_eq!(status, 1);
    assert!(err.contains("because: the signature does not fit"), "{err}");
}

#[test]
fn a_signature_can_be_required() {
    let signed = Signed::new();
    assert_eq!(
        signed.run(&["verify", "root.img", "root.hash", ROOT, "--require-signature"]),
        said(
            1,
            "",
            "veritrail: Root hash verification failed\n  \
             because: it has no signature, and --require-signature wants one\n  \
             hint: give the signature by --root-hash-signature FILE\n"
        )
    );
    let options = ["--require-signature", "--keyring", "keys", "--at", THEN];
    assert_eq!(signed.verify(&options), said(0, "", ""));
}

#[test]
fn what_is_no_signature_is_unusable_and_what_is_no_keyring_is_missing() {
    let signed = Signed::new();
    let options = ["--keyring", "keys", "--at", THEN];
    for (bytes, because) in [
        (
            [&golden("devices/v-sha256.p7s")[..], b"and more 123"].concat(),
            "12 bytes follow the signature's end",
        ),
        (
            golden("signed/v100.p7b"),
            "the signature has content of its own; a detached one is needed",
        ),
        (Vec::new(), "byte 0: nothing instead of a signature (PKCS#7, DER)"),
        (
            vec![0x30; 2 << 20],
            "1048577 bytes are more than a signature has; at most 1048576 are read",
        ),
    ] {
        signed.write("root.p7s", &bytes);
        let (status, out, err) = signed.verify(&options);
        assert_eq!((status, out.as_str()), (5, ""), "{err}");
        let expected =
            format!("veritrail: root.p7s is no usable signature\n  because: {because}\n");
        assert!(err.starts_with(&expected), "{err}");
    }
    fs::remove_file(signed.path("root.p7s")).unwrap();
    assert_eq!(signed.verify(&options).0, 6);
    let (status, _, err) = signed.verify(&["--keyring", "nowhere"]);
    assert_eq!(status, 3);
    assert!(err.starts_with("veritrail: cannot read the keyring nowhere\n"), "{err}");
    assert_eq!(signed.verify(&["--keyring", "keys", "--at", "yesterday"]).0, 2);
    let (status, _, err) = signed.run(&["check-signature", &ROOT[2..], "root.p7s"]);
    assert_eq!(status, 5);
    assert!(err.contains("a root hash of 31 bytes is none of a known algorithm"), "{err}");
    let (status, _, err) = signed.run(&["dump", "root.hash", "--root-hash-signature", "root.p7s"]);
    let refused = "veritrail: Option --root-hash-signature is not allowed with dump action.\n";
    assert_eq!((status, err.as_str()), (2, refused));
}

#[test]
fn a_keyring_that_everybody_can_write_to_is_none() {
    let signed = Signed::new();
    fs::set_permissions(signed.path("keys"), fs::Permissions::from_mode(0o777)).unwrap();
    let (status, out, err) = signed.verify(&["--keyring", "keys", "--at", THEN]);
    assert_eq!((status, out.as_str()), (3, ""), "{err}");
    assert!(err.starts_with("veritrail: everybody can write to the keyring keys\n"), "{err}");
    // Nor is a certificate in it.
    fs::set_permissions(signed.path("keys"), fs::Permissions::from_mode(0o755)).unwrap();
    for file in fs::read_dir(signed.path("keys")).unwrap() {
        let open = fs::Permissions::from_mode(0o666);
        fs::set_permissions(file.unwrap().path(), open).unwrap();
    }
    let (status, out, err) = signed.verify(&["--keyring", "keys", "--at", THEN]);
    assert_eq!((status, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("is left out of the keyring: everybody can write to it\n"), "{err}");
}

/// A device whose root hash nobody vouches for is not opened, and that is recorded in the kernel's
/// words; the mapping that never was ends as one that was.
#[test]
fn a_device_is_opened_only_under_a_root_hash_that_the_keyring_vouches_for() {
    let signed = Signed::new();
    let name = format!("unsigned-{}", std::process::id());
    let open = [
        "open",
        "root.img",
        &name,
        "root.hash",
        ROOT,
        "--root-hash-signature",
        "root.p7s",
        "--keyring",
        "none",
        "--trail",
        "trail",
    ];
    let (status, out, err) = signed.run(&open);
    assert_eq!((status, out.as_str()), (1, ""), "{err}");
    assert!(
        err.contains("veritrail: Root hash verification failed\n  because: no certificate"),
        "{err}"
    );
    let search = Command::new(env!("CARGO_BIN_EXE_veritrail"))
        .args(["search", "--trail", "trail", "-m", "DM_CTRL", "--raw"])
        .current_dir(signed.0.path())
        .output()
        .unwrap();
    let records = String::from_utf8(search.stdout).unwrap();
    let found: Vec<&str> = records.lines().filter(|line| line.contains("module=verity")).collect();
    assert_eq!(found.len(), 2, "{records}");
    assert!(
        found[0].contains("op=ctr")
            && found[0].contains("error_msg='Root hash verification failed' res=0"),
        "{records}"
    );
    assert!(found[1].contains("op=dtr"), "{records}");
}

/// Files that are none are named; a FIFO is not waited for; other names are not looked at.
#[test]
fn what_is_no_certificate_is_left_out_of_the_keyring_and_named() {
    let signed = Signed::new();
    signed.write("keys/a.crt", b"no certificate");
    signed.write("keys/b.der", &golden("devices/v-sha256.p7s"));
    signed.write("keys/README", b"no certificate either");
    signed.write("keys/large.pem", &vec![b'-'; (1 << 20) + 1]);
    fs::create_dir(signed.path("keys/folder.cer")).unwrap();
    let fifo = Command::new("mkfifo").arg(signed.path("keys/pipe.pem")).status().unwrap();
    assert!(fifo.success());
    let (status, out, err) = signed.verify(&["--keyring", "keys", "--at", THEN]);
    assert_eq!((status, out.as_str()), (0, ""), "{err}");
    let lines: Vec<&str> = err.lines().collect();
    let left_out =
        |name: &str| format!("veritrail: warning: keys/{name} is left out of the keyring: ");
    assert_eq!(lines.len(), 5, "{err}");
    for (line, name) in lines.iter().zip(["a.crt", "b.der", "folder.cer", "large.pem", "pipe.pem"])
    {
        assert!(line.starts_with(&left_out(name)), "{line}");
    }
    assert!(lines[0].ends_with("it is neither DER nor PEM with a certificate"), "{err}");
    assert!(lines[4].ends_with("it is not a file"), "{err}");
}

#[test]
fn who_signed_is_told_and_why_nobody_did() {
    let signed = Signed::new();
    let check = ["check-signature", ROOT, "root.p7s", "--keyring", "keys", "--at"];
    let whom = "CN=golden-test (serial 38b4931750fbd6f408ad60858733e30fa24b8b89, RSA 2048, SHA-256 785e5369b7055acfa6e9df86ad7b9002d82478aa8751730abef16b4289254323)";
    assert_eq!(
        signed.run(&[&check[..], &[THEN]].concat()),
        said(
            0,
            &format!("trusted until 2026-12-21T22:57:15Z\nsigner: {whom}\nanchor: {whom}\n"),
            ""
        )
    );
    let late = "the certificate of `CN=golden-test` has expired: it ended 2026-12-21T22:57:15Z, and it is 2026-12-31T23:00:00Z";
    assert_eq!(
        signed.run(&[&check[..], &[LATE]].concat()),
        said(1, &format!("not trusted: {late}\n"), "")
    );
    assert_eq!(
        signed.run(&[&check[..], &[LATE, "--json"]].concat()),
        said(
            1,
            &format!(
                "{{\"root_hash\":\"{ROOT}\",\"verdict\":\"expired\",\"reason\":\"{late}\",\"at\":\"2026-12-31T23:00:00Z\"}}\n"
            ),
            ""
        )
    );
    let (status, out, _) = signed.run(&[&check[..], &[THEN, "--json"]].concat());
    assert_eq!(status, 0);
    let begin = format!(
        "{{\"root_hash\":\"{ROOT}\",\"verdict\":\"trusted\",\"reason\":null,\"at\":\"{THEN}\",\
         \"until\":\"2026-12-21T22:57:15Z\",\"digest\":\"sha256\",\"signing_time\":null,\"chain\":1,\
         \"signer\":{{\"subject\":\"CN=golden-test\",\"issuer\":\"CN=golden-test\","
    );
    assert!(out.starts_with(&begin), "{out}");
}

#[test]
fn what_is_signed_here_is_trusted_here_and_by_openssl() {
    let signed = Signed::new();
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(signed.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    if Command::new("openssl").arg("version").output().is_err() {
        println!("SKIPPED: what_is_signed_here_is_trusted_here_and_by_openssl: no openssl program");
        return;
    }
    openssl(
        "req -new -x509 -newkey rsa:2048 -nodes -keyout key.pem -subj /CN=me -days 9 -out me.pem",
    );
    fs::copy(signed.path("me.pem"), signed.path("none/me.crt")).unwrap();
    signed.write("root.roothash", format!("{ROOT}\n").as_bytes());
    let sign = ["--key", "key.pem", "--certificate", "me.pem", "--output", "mine.p7s"];
    for root in [&["sign", ROOT][..], &["sign", "--root-hash-file", "root.roothash"]] {
        let _ = fs::remove_file(signed.path("mine.p7s"));
        assert_eq!(signed.run(&[root, &sign[..]].concat()), said(0, "", ""));
        signed.write("root.hex", ROOT.as_bytes());
        openssl(
            "smime -sign -nocerts -noattr -binary -in root.hex -inkey key.pem -signer me.pem -outform der -out theirs.p7s",
        );
        let read = |name: &str| fs::read(signed.path(name)).unwrap();
        assert!(read("mine.p7s") == read("theirs.p7s"));
    }
    let options = ["--root-hash-signature", "mine.p7s", "--keyring", "none", "--require-signature"];
    let verify = ["verify", "root.img", "root.hash", ROOT];
    assert_eq!(signed.run(&[&verify[..], &options].concat()), said(0, "", ""));

    openssl("pkey -in key.pem -aes256 -passout pass:x -out locked.pem");
    let locked =
        ["sign", ROOT, "--key", "locked.pem", "--certificate", "me.pem", "--output", "new"];
    assert_eq!(
        signed.run(&locked),
        said(
            5,
            "",
            "veritrail: cannot use the key locked.pem\n  \
             because: the private key is encrypted\n  \
             hint: no passphrase is asked for here; `openssl pkey -in locked.pem` writes it without one\n"
        )
    );
    let other =
        ["sign", ROOT, "--key", "key.pem", "--certificate", "keys/signer.pem", "--output", "new"];
    let (status, _, err) = signed.run(&other);
    assert_eq!(status, 5);
    assert!(
        err.contains("the private key is not the one of the certificate of `CN=golden-test`"),
        "{err}"
    );
    assert!(!signed.path("new").exists());
    // A certificate that nobody will take is signed with, and said.
    openssl(
        "req -new -x509 -key key.pem -subj /CN=me -days 9 -addext extendedKeyUsage=serverAuth -out server.pem",
    );
    let server =
        ["sign", ROOT, "--key", "key.pem", "--certificate", "server.pem", "--output", "new"];
    let (status, _, err) = signed.run(&server);
    assert_eq!(status, 0);
    assert_eq!(
        err,
        "veritrail: warning: wrong usage: the certificate of `CN=me` is for id-kp-serverAuth, not for codeSigning\n"
    );
}

/// The stock tool takes a signature to open a device with, and says so.
#[test]
fn under_its_name_it_refuses_what_veritysetup_refuses() {
    let signed = Signed::new();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_veritrail"), signed.path("veritysetup"))
        .unwrap();
    let run = |program: PathBuf| {
        let output = Command::new(program)
            .args(["verify", "root.img", "root.hash", ROOT, "--root-hash-signature", "root.p7s"])
            .current_dir(signed.0.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = run(signed.path("veritysetup"));
    let refused = "Option --root-hash-signature is not allowed with verify action.";
    assert_eq!(status, Some(1));
    assert!(said.contains(refused), "{said}");
    if Command::new("veritysetup").arg("--version").output().is_err() {
        println!("SKIPPED: under_its_name_it_refuses_what_veritysetup_refuses: no veritysetup");
        return;
    }
    let (status, said) = run("veritysetup".into());
    assert_eq!(status, Some(1));
    assert!(said.contains(refused), "{said}");
}
