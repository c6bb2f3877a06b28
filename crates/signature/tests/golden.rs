//! Signatures that a kernel has judged (tests/golden/signed, tests/golden/devices).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use signature::{Bad, Certificate, Error, Keyring, Message, Time, Untrusted, Verdict};

/// 2026-12-01
const AT: Time = Time(1_796_083_200);
const ROOT: &[u8] = b"a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)).unwrap()
}

fn keyring(names: &[&str]) -> Keyring {
    let mut keyring = Keyring::new();
    for name in names {
        for certificate in Certificate::from_file(&golden(name)).unwrap() {
            keyring.add(certificate).unwrap();
        }
    }
    keyring
}

fn hex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn the_root_hash_signature_is_trusted_with_its_certificate_and_not_without() {
    let bytes = golden("devices/v-sha256.p7s");
    let message = Message::parse(&bytes).unwrap();
    let verdict = |content: &[u8], keyring: &Keyring, at| {
        message.check_detached(content, keyring, at).unwrap()
    };
    let own = keyring(&["devices/v-sha256.p7s.cert.pem"]);
    let Verdict::Trusted(trusted) = verdict(ROOT, &own, AT) else { panic!("not trusted") };
    assert_eq!(trusted.signer.subject, "CN=golden-test");
    assert_eq!((trusted.signer == trusted.anchor, trusted.chain), (true, 1));
    assert_eq!(trusted.until.to_string(), "2026-12-21T22:57:15Z");
    assert_eq!(trusted.signer.serial, "38b4931750fbd6f408ad60858733e30fa24b8b89");

    let mut other = ROOT.to_vec();
    other[0] ^= 1;
    assert!(matches!(verdict(&other, &own, AT), Verdict::Bad(Bad::Signature { .. })));
    assert!(matches!(
        verdict(ROOT, &keyring(&["signed/trusted.crt"]), AT),
        Verdict::Untrusted(Untrusted::NoSuchSigner { .. })
    ));
    // 2026-12-22 and 2026-11-21T22:57:14
    let late = verdict(ROOT, &own, Time(1_797_897_600)).to_string();
    assert_eq!(
        late,
        "the certificate of `CN=golden-test` has expired: it ended 2026-12-21T22:57:15Z, and it is 2026-12-22T00:00:00Z"
    );
    let Verdict::Expired(early) = verdict(ROOT, &own, Time(1_795_301_834)) else { panic!() };
    assert!(early.is_not_yet_valid(), "{early}");
}

#[test]
fn attached_content_is_judged_as_the_kernel_judged_it() {
    let ring = keyring(&["signed/trusted.crt"]);
    let both = keyring(&["signed/trusted.crt", "signed/other.crt"]);
    for (name, subject) in [("cms", "life"), ("v100", "life"), ("other", "other")] {
        let bytes = golden(&format!("signed/{name}.p7b"));
        let message = Message::parse(&bytes).unwrap();
        let content = String::from_utf8(message.content().unwrap().to_vec()).unwrap();
        assert!(content.starts_with(&format!("policy_name={subject} ")), "{content}");
        let verdict = message.check_attached(&ring, AT).unwrap();
        assert!(matches!(verdict, Verdict::Trusted(_)), "{name}: {verdict}");
        assert_eq!(message.check_detached(b"", &ring, AT), Err(Error::Attached));
    }
    let judged = |name: &str, ring: &Keyring| {
        let bytes = golden(&format!("signed/{name}.p7b"));
        Message::parse(&bytes).unwrap().check_attached(ring, AT)
    };
    assert!(matches!(judged("tampered", &ring), Ok(Verdict::Bad(Bad::Signature { .. }))));
    assert!(matches!(judged("wrongkey", &ring), Ok(Verdict::Untrusted(_))));
    assert!(matches!(judged("wrongkey", &both), Ok(Verdict::Trusted(_))));
    assert_eq!(judged("detached", &ring), Err(Error::Detached));
    let parsed = |name: &str| {
        Message::parse(&golden(&format!("signed/{name}.p7b"))).unwrap_err().to_string()
    };
    assert_eq!(parsed("trailing"), "3 bytes follow the signature's end");
    assert_eq!(
        parsed("truncated"),
        "byte 0: an element has 10 bytes fewer than it says; it was cut off"
    );
    assert_eq!(
        parsed("withattrs"),
        "signer 0: the signed attribute smimeCapabilities has no place here (and a kernel refuses it); sign without it (openssl smime: -noattr)"
    );
}

#[test]
fn fs_verity_builtin_signatures_are_read_too() {
    let ring = keyring(&["signed/trusted.crt"]);
    let digests = [
        (
            "sha256",
            "465356657269747901002000b0d074abef4d544404facfab6ba242f6a8ccbde90f1325cd286f3c8aa8d0f8aa",
        ),
        (
            "sha512",
            "46535665726974790200400097a1e45daaa69bd7b31908cf835318ba36476984ffa7f4a5913c0187db04ce5f19dc80306f493741d4ad1cdd212b7a9d2691aa3d42563d35471363fbb0fc7f1c",
        ),
    ];
    for (name, signed) in digests {
        let bytes = golden(&format!("signed/m4097.{name}.sig"));
        let message = Message::parse(&bytes).unwrap();
        let verdict = message.check_detached(&hex(signed), &ring, AT).unwrap();
        let Verdict::Trusted(trusted) = verdict else { panic!("{name}: {verdict}") };
        assert_eq!(trusted.digest.name(), name);
    }
}

/// Cut anywhere it is no signature; with bytes behind it it is none; and whatever bit of it is
/// flipped, it is never trusted for other content.
#[test]
fn no_damage_makes_a_signature_of_other_content() {
    let own = keyring(&["devices/v-sha256.p7s.cert.pem"]);
    let bytes = golden("devices/v-sha256.p7s");
    for end in 0..bytes.len() {
        assert!(Message::parse(&bytes[..end]).is_err(), "cut at {end}");
    }
    for count in [1, 12] {
        let longer = [&bytes[..], &vec![0; count]].concat();
        assert_eq!(Message::parse(&longer).err(), Some(Error::TrailingBytes { bytes: count }));
    }
    let mut other = ROOT.to_vec();
    other[63] = b'4';
    let mut trusted = Vec::new();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let Ok(message) = Message::parse(&damaged) else { continue };
            let Ok(verdict) = message.check_detached(&other, &own, AT) else { continue };
            assert!(!matches!(verdict, Verdict::Trusted(_)), "byte {at}, bit {bit}");
            if let Ok(Verdict::Trusted(_)) = message.check_detached(ROOT, &own, AT) {
                trusted.push(at);
            }
        }
    }
    // No bit of it is without meaning.
    assert_eq!(trusted, Vec::<usize>::new());
}

const FILES: [&str; 6] = [
    "devices/v-sha256.p7s",
    "signed/cms.p7b",
    "signed/detached.p7b",
    "signed/withattrs.p7b",
    "signed/m4097.sha256.sig",
    "signed/trusted.crt",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Pieces of one file put into another, anywhere: no panic, and nothing is trusted that was not
    /// signed.
    #[test]
    fn pieces_of_signatures_make_no_other_signature(
        (base, donor) in (0..FILES.len(), 0..FILES.len()),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..64_usize, 0..64_usize), 1..4),
    ) {
        let ring = keyring(&["devices/v-sha256.p7s.cert.pem", "signed/trusted.crt"]);
        let (mut bytes, donor) = (golden(FILES[base]), golden(FILES[donor]));
        for (to, from, removed, length) in cuts {
            let to = to.index(bytes.len());
            let from = from.index(donor.len());
            let end = (to + removed).min(bytes.len() - 1);
            let piece = donor[from..(from + length).min(donor.len())].to_vec();
            bytes.splice(to..end.max(to), piece);
        }
        let _ = Certificate::from_der(&bytes);
        let _ = Certificate::from_file(&bytes);
        if let Ok(message) = Message::parse(&bytes) {
            let verdict = match message.content() {
                Some(_) => message.check_attached(&ring, AT),
                None => message.check_detached(b"nobody signed this", &ring, AT),
            };
            if let Ok(Verdict::Trusted(_)) = verdict {
                let signed = golden("signed/cms.p7b");
                prop_assert_eq!(message.content(), Message::parse(&signed).unwrap().content());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Message::parse(&bytes);
        let _ = Certificate::from_file(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = 0x30;
        }
        let _ = Message::parse(&bytes);
        let _ = Certificate::from_file(&bytes);
    }
}
