//! Attempts to make a signature trusted that must not be.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use kit::*;

use crate::algorithm::DigestAlgorithm;
use crate::asn1::encode;
use crate::{Certificate, Keyring, Message, Time, Verdict};

fn starts(found: &str, expected: &str) {
    assert!(found.starts_with(expected), "{found}\ninstead of\n{expected}");
}

fn attribute(id: &str, values: &[&[u8]]) -> Vec<u8> {
    sequence(&[&oid(id), &set(values)])
}

const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";

fn content_type() -> Vec<u8> {
    attribute(CONTENT_TYPE, &[&oid("1.2.840.113549.1.7.1")])
}

fn digest_of(content: &[u8]) -> Vec<u8> {
    octets(&DigestAlgorithm::Sha256.hash(&[content]))
}

fn message_digest() -> Vec<u8> {
    attribute(MESSAGE_DIGEST, &[&digest_of(CONTENT)])
}

fn alice() -> Spec<'static> {
    Spec::new("alice", 1, "alice", 1)
}

#[test]
fn a_self_signed_signer_is_trusted_if_the_keyring_has_it_and_only_then() {
    let alice = alice();
    starts(&Signed::default().judged(&alice, &[&alice]), "trusted: signed by `CN=alice`");
    starts(
        &Signed::default().judged(&alice, &[]),
        "untrusted: no certificate in the keyring or the signature is the signer's (serial 01 of `CN=alice`)",
    );
    starts(
        &Signed::carrying(&[&alice]).judged(&alice, &[]),
        "untrusted: `CN=alice` is not in the keyring, and neither is its issuer `CN=alice`",
    );
    // The same names and the same serial number, another key.
    let impostor = Spec::new("alice", 2, "alice", 2);
    let impostor = Spec { serial: vec![1], ..impostor };
    starts(&Signed::default().judged(&impostor, &[&alice]), "bad: ");
    starts(
        &Signed::carrying(&[&impostor]).judged(&impostor, &[&alice]),
        "untrusted: `CN=alice` does not vouch for `CN=alice`: its signature does not fit",
    );
    // And an honest signature is not spoilt by the impostor's certificate beside it.
    starts(&Signed::carrying(&[&impostor]).judged(&alice, &[&alice]), "trusted: ");
    starts(&Signed::carrying(&[&alice, &alice, &impostor]).judged(&alice, &[&alice]), "trusted: ");
}

#[test]
fn signers_are_found_by_key_identifier_too() {
    let id = |text: &[u8]| extension("2.5.29.14", false, &octets(text));
    let alice = alice().with(id(b"key of alice"));
    let by_id = |text: &[u8]| Signed {
        version: Some(3),
        signer_version: Some(3),
        signer: Some(encode(0x80, &[text])),
        ..Signed::default()
    };
    starts(&by_id(b"key of alice").judged(&alice, &[&alice]), "trusted: ");
    starts(
        &by_id(b"key of bob").judged(&alice, &[&alice]),
        "untrusted: no certificate in the keyring or the signature is the signer's (key identifier 6b6579206f6620626f62)",
    );
    // An empty identifier is not the identifier of a certificate without one.
    starts(&by_id(b"").judged(&self::alice(), &[&self::alice()]), "untrusted: no certificate");
    for (outer, inner) in [(1, 3), (3, 1), (3, 2), (1, 1)] {
        let mixed =
            Signed { version: Some(outer), signer_version: Some(inner), ..by_id(b"key of alice") };
        starts(
            &mixed.judged(&alice, &[&alice]),
            &format!("unusable: signer 0: version {inner} does not go with"),
        );
    }
    let older = Signed { version: Some(0), ..Signed::default() };
    starts(&older.judged(&alice, &[&alice]), "unusable: SignedData version 0 is not known");
}

#[test]
fn a_chain_is_followed_to_the_keyring_and_every_link_is_checked() {
    let root = Spec::new("root", 10, "root", 10).with(ca());
    let middle = Spec::new("middle", 11, "root", 10).with(ca()).with(key_usage(0x04));
    let leaf = Spec::new("leaf", 12, "middle", 11)
        .with(key_usage(0x80))
        .with(extended_usage(&[CODE_SIGNING]));
    let signed = Signed::carrying(&[&middle, &leaf]);
    starts(
        &signed.judged(&leaf, &[&root]),
        "trusted: signed by `CN=leaf`, vouched for by `CN=root`, good until 2027-01-01",
    );
    starts(
        &signed.judged(&leaf, &[&middle]),
        "trusted: signed by `CN=leaf`, vouched for by `CN=middle`",
    );
    starts(
        &signed.judged(&leaf, &[&leaf]),
        "trusted: signed by `CN=leaf`, vouched for by `CN=leaf`",
    );
    starts(
        &Signed::carrying(&[&leaf, &root]).judged(&leaf, &[&root]),
        "untrusted: `CN=leaf` is not in the keyring, and neither is its issuer `CN=middle`",
    );
    starts(
        &Signed::carrying(&[&leaf, &middle, &root]).judged(&leaf, &[]),
        "untrusted: `CN=root` is not in the keyring",
    );
    // A middle of the right name that the root never signed.
    let forged = Spec { issuer_key: 11, ..middle.clone() };
    starts(
        &Signed::carrying(&[&forged, &leaf]).judged(&leaf, &[&root]),
        "untrusted: `CN=root` does not vouch for `CN=middle`: its signature does not fit",
    );
    // A leaf that the middle never signed.
    let stray = Spec { issuer_key: 12, ..leaf.clone() };
    starts(
        &Signed::carrying(&[&middle, &stray]).judged(&stray, &[&root]),
        "untrusted: `CN=middle` does not vouch for `CN=leaf`",
    );
}

#[test]
fn who_is_no_authority_vouches_for_nobody() {
    let root = Spec::new("root", 10, "root", 10).with(ca());
    let leaf = Spec::new("leaf", 12, "middle", 11);
    let through = |middle: &Spec<'_>| Signed::carrying(&[middle, &leaf]).judged(&leaf, &[&root]);
    let middle = Spec::new("middle", 11, "root", 10);
    let wrong = "wrong usage: the certificate of `CN=middle`";
    starts(&through(&middle), &format!("{wrong} is not an authority's"));
    let no = extension("2.5.29.19", true, &sequence(&[]));
    starts(&through(&middle.clone().with(no)), &format!("{wrong} is not an authority's"));
    let signing_only = middle.clone().with(ca()).with(key_usage(0x80));
    starts(&through(&signing_only), &format!("{wrong} is not for issuing certificates"));
    let for_servers = middle.clone().with(ca()).with(extended_usage(&[SERVER_AUTH]));
    starts(
        &through(&for_servers),
        &format!("{wrong} is for id-kp-serverAuth, not for codeSigning"),
    );
    let any = middle.clone().with(ca()).with(extended_usage(&[SERVER_AUTH, "2.5.29.37.0"]));
    starts(&through(&any), "trusted: ");
    // Name constraints are not understood, so they may not be overlooked, critical or not.
    for critical in [true, false] {
        let constrained =
            middle.clone().with(ca()).with(extension("2.5.29.30", critical, &sequence(&[])));
        starts(&through(&constrained), &format!("{wrong} has the extension id-ce-nameConstraints"));
    }
    // Without the flag a trusted signer is no authority for others, either.
    let alice = alice();
    let friend = Spec::new("friend", 3, "alice", 1);
    starts(
        &Signed::carrying(&[&friend]).judged(&friend, &[&alice]),
        "wrong usage: the certificate of `CN=alice` is not an authority's",
    );
}

#[test]
fn a_limit_on_the_chain_is_kept() {
    let root = |limit| Spec::new("root", 10, "root", 10).with(ca_with_limit(limit));
    let middle = Spec::new("middle", 11, "root", 10).with(ca());
    let lower = Spec::new("lower", 12, "middle", 11).with(ca());
    let leaf = Spec::new("leaf", 13, "lower", 12);
    let signed = Signed::carrying(&[&lower, &leaf, &middle]);
    let wrong = "wrong usage: the certificate of `CN=root` allows fewer authorities below it";
    starts(&signed.judged(&leaf, &[&root(0)]), wrong);
    starts(&signed.judged(&leaf, &[&root(1)]), wrong);
    starts(&signed.judged(&leaf, &[&root(2)]), "trusted: ");
}

#[test]
fn a_signer_must_be_made_for_signing_code() {
    let wrong = "wrong usage: the certificate of `CN=alice`";
    let judged = |alice: Spec<'_>| Signed::default().judged(&alice, &[&alice]);
    starts(&judged(alice().with(key_usage(0x04))), &format!("{wrong} is not for signatures"));
    starts(&judged(alice().with(key_usage(0x84))), "trusted: ");
    starts(
        &judged(alice().with(extended_usage(&[SERVER_AUTH]))),
        &format!("{wrong} is for id-kp-serverAuth, not for codeSigning"),
    );
    starts(&judged(alice().with(extended_usage(&[]))), &format!("{wrong} is for "));
    starts(&judged(alice().with(extended_usage(&[SERVER_AUTH, CODE_SIGNING]))), "trusted: ");
    let strange = extension("1.2.3.4", true, b"\x05\x00");
    starts(
        &judged(alice().with(strange)),
        &format!("{wrong} has the extension 1.2.3.4, which is not understood"),
    );
    starts(&judged(alice().with(extension("1.2.3.4", false, b"whatever"))), "trusted: ");
}

#[test]
fn dates_are_said_and_hold_to_the_second() {
    let judged = |alice: &Spec<'_>, at| judge(&Signed::default().der(alice), &[alice], Time(at));
    // 2026-01-01T00:00:00Z and 2027-01-01T00:00:00Z
    let (from, to) = (1_767_225_600, 1_798_761_600);
    let alice = alice();
    starts(&judged(&alice, from), "trusted: ");
    starts(&judged(&alice, to), "trusted: ");
    starts(
        &judged(&alice, to + 1),
        "the certificate of `CN=alice` has expired: it ended 2027-01-01T00:00:00Z",
    );
    starts(
        &judged(&alice, from - 1),
        "the certificate of `CN=alice` is not yet valid: it begins 2026-01-01T00:00:00Z",
    );
    starts(&judged(&alice, u64::MAX), "the certificate of `CN=alice` has expired");
    let never = alice.clone().valid("270101000000Z", "260101000000Z");
    starts(&judged(&never, from), "the certificate of `CN=alice` is not yet valid");
    starts(&judged(&never, to + 1), "the certificate of `CN=alice` has expired");

    let old_root =
        Spec::new("root", 10, "root", 10).with(ca()).valid("250101000000Z", "260101000000Z");
    let leaf = Spec::new("leaf", 12, "root", 10);
    starts(
        &Signed::carrying(&[&leaf]).judged(&leaf, &[&old_root]),
        "the certificate of `CN=root` has expired",
    );
    // Another root of the same name and key that is valid makes it good again.
    let new_root = Spec { serial: vec![99], ..Spec::new("root", 10, "root", 10).with(ca()) };
    starts(&Signed::carrying(&[&leaf]).judged(&leaf, &[&old_root, &new_root]), "trusted: ");
}

#[test]
fn attributes_say_one_thing_and_about_this_content() {
    let alice = alice();
    let with = |attributes: &[Vec<u8>]| {
        let signed = Signed { attributes: Some(attributes.concat()), ..Signed::default() };
        signed.judged(&alice, &[&alice])
    };
    starts(&with(&[content_type(), message_digest()]), "trusted: ");
    // As written is as signed, whatever the order.
    starts(&with(&[message_digest(), content_type()]), "trusted: ");
    starts(&with(&[]), "unusable: signer 0: signed attributes without contentType");
    starts(&with(&[content_type()]), "unusable: signer 0: signed attributes without messageDigest");
    starts(&with(&[message_digest()]), "unusable: signer 0: signed attributes without contentType");
    let other = attribute(MESSAGE_DIGEST, &[&digest_of(b"other")]);
    starts(&with(&[content_type(), other.clone()]), "bad: the signed digest is not that of");
    let twice = "unusable: signer 0: id-messageDigest is there twice, or has not exactly one value";
    starts(&with(&[content_type(), message_digest(), other.clone()]), twice);
    starts(&with(&[content_type(), other, message_digest()]), twice);
    let both = attribute(MESSAGE_DIGEST, &[&digest_of(CONTENT), &digest_of(b"other")]);
    starts(&with(&[content_type(), both]), twice);
    starts(&with(&[content_type(), attribute(MESSAGE_DIGEST, &[])]), twice);
    let short = attribute(MESSAGE_DIGEST, &[&octets(b"")]);
    starts(&with(&[content_type(), short]), "bad: the signed digest is not that of");
    let enveloped = attribute(CONTENT_TYPE, &[&oid("1.2.840.113549.1.7.3")]);
    starts(
        &with(&[enveloped, message_digest()]),
        "unusable: signer 0: the signed attributes are about id-envelopedData, not id-data",
    );
    let at = |text: &[u8]| attribute(SIGNING_TIME, &[&encode(0x17, &[text])]);
    starts(&with(&[content_type(), at(b"260601000000Z"), message_digest()]), "trusted: ");
    starts(
        &with(&[content_type(), at(b"250601000000Z"), message_digest()]),
        "bad: it says it was signed at 2025-06-01T00:00:00Z, and the certificate of `CN=alice` is valid from 2026-01-01T00:00:00Z",
    );
    for refused in ["1.2.840.113549.1.9.15", "1.3.6.1.4.1.311.2.1.12", "1.3.6.1.4.1.311.2.1.11"] {
        let refused = attribute(refused, &[&sequence(&[])]);
        let found = with(&[content_type(), message_digest(), refused]);
        starts(&found, "unusable: signer 0: the signed attribute ");
    }
    // Attributes that were put in after the content was signed, or taken away after they were.
    let added = Signed {
        attributes: Some([content_type(), message_digest()].concat()),
        signature: Some(sign(&key(1), &[CONTENT])),
        ..Signed::default()
    };
    starts(&added.judged(&alice, &[&alice]), "bad: ");
}

/// What was signed as attributes must not come back as content.
#[test]
fn signed_attributes_are_not_content() {
    let alice = alice();
    let odd_time = attribute(SIGNING_TIME, &[&encode(0x17, &[b"5001010000Z"])]);
    for attributes in [
        set(&[&content_type(), &message_digest()]),
        set(&[&content_type(), &odd_time, &message_digest(), &attribute("1.2.3", &[])]),
    ] {
        let signed = Signed {
            content: Some(attributes.clone()),
            signature: Some(sign(&key(1), &[&attributes])),
            ..Signed::default()
        };
        starts(
            &signed.judged(&alice, &[&alice]),
            "unusable: the content is itself a set of signed attributes",
        );
    }
    // Content that only begins like it is content.
    let text = b"1 is 0x31, a SET OF";
    let signed = Signed {
        content: Some(text.to_vec()),
        signature: Some(sign(&key(1), &[text])),
        ..Signed::default()
    };
    starts(&signed.judged(&alice, &[&alice]), "trusted: ");
}

#[test]
fn of_several_signers_all_must_fit_and_one_be_trusted() {
    let (alice, bob) = (alice(), Spec::new("bob", 2, "bob", 2));
    let plain = Signed::default();
    let both = |first: Vec<u8>, second: Vec<u8>, carried: &[&Spec<'_>]| {
        let signed = Signed { signers: Some(vec![first, second]), ..Signed::carrying(carried) };
        signed.judged(&alice, &[&alice])
    };
    starts(
        &both(plain.signer(&alice), plain.signer(&bob), &[&bob]),
        "trusted: signed by `CN=alice`",
    );
    starts(&both(plain.signer(&bob), plain.signer(&alice), &[]), "trusted: signed by `CN=alice`");
    let forged = Signed { signature: Some(sign(&key(2), &[b"other"])), ..Signed::default() };
    starts(&both(plain.signer(&alice), forged.signer(&bob), &[&bob]), "bad: ");
    starts(&both(forged.signer(&bob), plain.signer(&alice), &[&bob]), "bad: ");
    let attributes = Some([content_type(), message_digest()].concat());
    let with_attributes = Signed { attributes, ..Signed::default() };
    starts(
        &both(plain.signer(&alice), with_attributes.signer(&bob), &[]),
        "unusable: some signers have signed attributes and some have not",
    );
    let nobody = Signed { signers: Some(Vec::new()), ..Signed::default() };
    starts(&nobody.judged(&alice, &[&alice]), "unusable: there is no signer");
    let crowd = Signed { signers: Some(vec![plain.signer(&alice); 9]), ..Signed::default() };
    starts(&crowd.judged(&alice, &[&alice]), "unusable: there are more than 8 signers");
}

#[test]
fn algorithms_are_named_once_and_are_none_but_the_strong() {
    let alice = alice();
    let judged = |signed: Signed| signed.judged(&alice, &[&alice]);
    let named = |id: &str| Some(sequence(&[&oid(id)]));
    let (sha1, md5) = ("1.3.14.3.2.26", "1.2.840.113549.2.5");
    let sha512 = "2.16.840.1.101.3.4.2.3";
    starts(
        &judged(Signed { announced: named(sha512), ..Signed::default() }),
        "unusable: signer 0: sha256 is not among the digest algorithms that the signature announces",
    );
    starts(
        &judged(Signed { announced: Some(Vec::new()), ..Signed::default() }),
        "unusable: signer 0: sha256 is not among",
    );
    let both = [sequence(&[&oid(sha1)]), sha256()].concat();
    starts(&judged(Signed { announced: Some(both), ..Signed::default() }), "trusted: ");
    for (id, weak) in [(sha1, "SHA-1"), (md5, "MD5")] {
        starts(
            &judged(Signed { digest: named(id), announced: named(id), ..Signed::default() }),
            &format!("unusable: signer 0: digest algorithm: {weak} is too weak"),
        );
    }
    starts(
        &judged(Signed { digest: named(sha512), announced: named(sha512), ..Signed::default() }),
        "unusable: signer 0: digest sha512, but the signature algorithm is for sha256",
    );
    for (id, refused) in [
        ("1.2.840.10045.4.1", "SHA-1 is too weak"),
        ("1.2.840.113549.1.1.5", "SHA-1 is too weak"),
        ("1.2.840.113549.1.1.4", "MD5 is too weak"),
        ("1.2.840.113549.1.1.10", "RSASSA-PSS is not supported"),
        ("1.3.101.112", "id-Ed25519 is not supported"),
        ("2.16.840.1.101.3.4.2.1", "id-sha256 is not supported"),
    ] {
        starts(
            &judged(Signed { scheme: named(id), ..Signed::default() }),
            &format!("unusable: signer 0: signature algorithm: {refused}"),
        );
    }
    let with_null = sequence(&[&oid("1.2.840.10045.4.3.2"), &[5, 0]]);
    starts(
        &judged(Signed { scheme: Some(with_null), ..Signed::default() }),
        "unusable: signer 0: signature algorithm: ecdsa-with-SHA256 has parameters",
    );
    // An RSA signature under an ECDSA key.
    starts(&judged(Signed { scheme: named("1.2.840.113549.1.1.1"), ..Signed::default() }), "bad: ");
    for signature in [vec![], vec![0; 64], sequence(&[&integer(&[0]), &integer(&[0])])] {
        starts(&judged(Signed { signature: Some(signature), ..Signed::default() }), "bad: ");
    }
    starts(
        &judged(Signed { crls: true, ..Signed::default() }),
        "unusable: it carries revocation lists",
    );
    starts(&judged(Signed { unsigned: true, ..Signed::default() }), "trusted: ");
}

#[test]
fn what_is_wrong_with_the_form_is_said() {
    let alice = alice();
    let good = Signed::default().der(&alice);
    let judged = |bytes: &[u8]| judge(bytes, &[&alice], NOW);
    starts(
        &judged(&[&good[..], &[0; 12]].concat()),
        "unusable: 12 bytes follow the signature's end",
    );
    starts(&judged(b""), "unusable: byte 0: nothing instead of a signature (PKCS#7, DER)");
    let mut indefinite = good.clone();
    let length = indefinite.len();
    indefinite[1] = 0x80;
    starts(&judged(&indefinite), "unusable: byte 0: a length without a number (BER, not DER)");
    starts(
        &judged(&good[..length - 1]),
        "unusable: byte 0: an element has 1 bytes fewer than it says",
    );
    let enveloped = sequence(&[&oid("1.2.840.113549.1.7.3"), &encode(0xa0, &[&sequence(&[])])]);
    starts(&judged(&enveloped), "unusable: content type is id-envelopedData, not id-signedData");
    starts(
        &judged(&vec![0x30; crate::MOST_BYTES + 1]),
        "unusable: 1048577 bytes are more than a signature has",
    );
    let pem = b"-----BEGIN PKCS7-----\n";
    starts(&judged(pem), "unusable: byte 0: ");
}

#[test]
fn certificates_are_read_strictly() {
    let read = |spec: &Spec<'_>| Certificate::from_der(&spec.der()).unwrap_err().to_string();
    starts(&read(&Spec { serial: vec![0x80], ..alice() }), "the serial number is negative");
    starts(
        &read(&Spec { serial: vec![1; 22], ..alice() }),
        "a serial number of 22 octets is too long",
    );
    starts(
        &read(&alice().with(ca()).with(ca())),
        "extension id-ce-basicConstraints is there twice",
    );
    starts(&read(&alice().with(extension("2.5.29.15", true, b"\x30\x00"))), "byte ");
    starts(&read(&alice().with(extension("2.5.29.19", true, b""))), "byte ");
    let mut many = alice();
    for number in 0..65 {
        many = many.with(extension(&format!("1.2.3.{number}"), false, b""));
    }
    starts(&read(&many), "it has more than 64 extensions");
    let mut longer = alice().der();
    longer.push(0);
    assert_eq!(
        Certificate::from_der(&longer).unwrap_err().to_string(),
        "1 bytes follow the certificate's end"
    );
    // Version 1 with extensions: [0] INTEGER 2 becomes 0.
    let with = alice().with(ca()).der();
    let at = with.windows(5).position(|bytes| bytes == [0xa0, 3, 2, 1, 2]).unwrap();
    let mut early = with.clone();
    early[at + 4] = 0;
    assert_eq!(
        Certificate::from_der(&early).unwrap_err().to_string(),
        "it has extensions, but not version 3"
    );
    early[at + 4] = 7;
    assert_eq!(
        Certificate::from_der(&early).unwrap_err().to_string(),
        "certificate version 8 is not known"
    );
    // The algorithm outside is not the one inside.
    let mut differ = alice().der();
    let outside = differ.windows(8).rposition(|bytes| bytes == &ecdsa()[4..]).unwrap();
    differ[outside + 7] = 3;
    assert_eq!(
        Certificate::from_der(&differ).unwrap_err().to_string(),
        "it names one signature algorithm inside, another outside"
    );
}

#[test]
fn names_can_do_nothing_to_a_terminal() {
    let wicked = Spec::new("a\u{1b}[2Jb\u{202e}c\nd\u{9b}e", 1, "x", 1).certificate();
    let shown = wicked.subject();
    assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown:?}");
    assert!(shown.contains("\\u{202e}"), "{shown}");
}

/// Certificates of one name that all sign each other: the ways through them are more than anybody
/// could follow.
#[test]
fn loops_and_crowds_end() {
    let mut carried = Vec::new();
    for serial in 0..60 {
        let spec = Spec { serial: vec![1, serial], ..Spec::new("x", 20, "x", 20).with(ca()) };
        carried.push(spec.der());
    }
    let leaf = Spec::new("leaf", 21, "x", 20);
    carried.push(leaf.der());
    let crowd = Signed { certificates: carried, ..Signed::default() };
    starts(&crowd.judged(&leaf, &[]), "untrusted: too many certificates of the same names");

    let ring = [("a", 30, "b", 31), ("b", 31, "c", 32), ("c", 32, "a", 30)];
    let ring: Vec<_> = ring.map(|(s, k, i, ik)| Spec::new(s, k, i, ik).with(ca())).to_vec();
    let leaf = Spec::new("leaf", 33, "a", 30);
    let looped = Signed::carrying(&[&leaf, &ring[0], &ring[1], &ring[2]]);
    starts(&looped.judged(&leaf, &[]), "untrusted: `CN=c` is not in the keyring");

    let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
    let line: Vec<_> = (0..11_u8)
        .map(|n| {
            let at = usize::from(n);
            Spec::new(&names[at], 40 + n, &names[at + 1], 41 + n).with(ca())
        })
        .collect();
    let all: Vec<_> = line.iter().collect();
    let far = Signed::carrying(&all[..10]);
    starts(
        &far.judged(&line[0], &[&line[10]]),
        "untrusted: the chain has more than 8 certificates",
    );
    let near = Signed::carrying(&all[..7]);
    starts(&near.judged(&line[0], &[&line[7]]), "trusted: ");
}

/// Every bit of the signature, of a certificate in it and of one in the keyring: it is trusted for
/// no other content, by nobody else.
#[test]
fn no_flipped_bit_makes_anybody_else_trusted() {
    let root = Spec::new("root", 10, "root", 10).with(ca());
    let leaf = Spec::new("leaf", 12, "root", 10).with(key_usage(0x80));
    let attributes = Some([content_type(), message_digest()].concat());
    let bytes = Signed { attributes, ..Signed::carrying(&[&leaf]) }.der(&leaf);
    let mut keyring = Keyring::new();
    keyring.add(root.certificate()).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let Ok(message) = Message::parse(&damaged) else { continue };
            if let Ok(verdict) = message.check_detached(b"other", &keyring, NOW) {
                assert!(!matches!(verdict, Verdict::Trusted(_)), "byte {at}, bit {bit}");
            }
            if let Ok(Verdict::Trusted(trusted)) = message.check_detached(CONTENT, &keyring, NOW) {
                panic!("byte {at}, bit {bit}: {trusted}");
            }
        }
        assert!(Message::parse(&bytes[..at]).is_err(), "cut at {at}");
    }
}
