//! Notes, keys, checkpoints and proofs as others write them, and as nobody should.

use proptest::prelude::*;
use record::units::LeafIndex;
use tempfile::TempDir;
use trail::checkpoint::split;
use trail::merkle::{Range, leaf_hash};
use trail::note::{Note, NoteError};
use trail::{Checkpoint, Disk, Proof, PublicKey, SecretKey, Writer, check_proof, create, prove};

use crate::kit::{BOOT, Dice, append, at};

/// The example in the documentation of Go's golang.org/x/mod/sumdb/note.
const SECRET: &str =
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
const SIGNATURE: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUg\
                         YN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn notes_and_keys_are_those_of_go() {
    let secret = SecretKey::parse(SECRET).unwrap();
    let public = PublicKey::parse(PUBLIC).unwrap();
    assert_eq!(secret.public(), &public);
    assert_eq!(secret.to_text(), format!("{SECRET}\n"));
    assert_eq!(public.to_text(), format!("{PUBLIC}\n"));
    assert_eq!((public.name(), public.hash()), ("PeterNeumann", 0xc74f_20a3));
    let note = format!("{TEXT}\n{SIGNATURE}");
    assert_eq!(secret.sign(TEXT), note);
    let read = Note::parse(note.as_bytes()).unwrap();
    assert_eq!((read.text, read.signatures(), read.check(&public)), (TEXT, 1, Ok(())));
    // A witness's line beside it is passed over; an unknown key has not signed.
    let cosigned = format!("{note}\u{2014} witness.example AAAAAAE=\n");
    assert_eq!(Note::parse(cosigned.as_bytes()).unwrap().check(&public), Ok(()));
    let other = SecretKey::from_seed("PeterNeumann", &[7; 32]).unwrap();
    assert_eq!(read.check(other.public()), Err(NoteError::Unsigned(other.public().hash())));
    let forged = note.replace("problem is", "problem was");
    let forged = Note::parse(forged.as_bytes()).unwrap();
    assert_eq!(forged.check(&public), Err(NoteError::Forged(0xc74f_20a3)));
}

#[test]
fn keys_that_are_none_say_why() {
    let cases = [
        ("", NoteError::KeyForm),
        ("a+b", NoteError::KeyForm),
        ("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", NoteError::KeyName),
        ("Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", NoteError::KeyName),
        ("PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", NoteError::KeyForm),
        ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", NoteError::KeyHash),
        ("PeterNeumenn+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", NoteError::KeyHash),
        ("PeterNeumann+c74f20a3+BBpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", NoteError::KeyType),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10", NoteError::KeyForm),
    ];
    for (text, error) in cases {
        assert_eq!(PublicKey::parse(text), Err(error), "{text}");
    }
}

#[test]
fn a_file_of_checkpoints_is_cut_into_them() {
    let key = SecretKey::from_seed("web1/00", &[1; 32]).unwrap();
    let mut tree = Range::new();
    let mut notes = Vec::new();
    for n in 0..5_u8 {
        notes.push(Checkpoint::of("web1/00", &tree).sign(&key));
        tree.push(leaf_hash(&[n]));
    }
    assert_eq!(split(&notes.concat()).collect::<Vec<_>>(), notes);
    assert_eq!(split(&format!("\n\n{}\n", notes.join("\n"))).collect::<Vec<_>>(), notes);
    assert_eq!(split("").count(), 0);
    for (n, note) in notes.iter().enumerate() {
        let checkpoint = Checkpoint::open(note.as_bytes(), key.public()).unwrap();
        assert_eq!(checkpoint.size, n as u64);
        assert_eq!(checkpoint.sign(&key), *note);
    }
}

#[test]
fn a_bundle_proves_nothing_after_any_change() {
    let directory = TempDir::new().unwrap();
    let disk = Disk::new(directory.path());
    let key = create(&disk, "host").unwrap();
    let (mut writer, _) = Writer::open(disk.clone(), BOOT, at(0)).unwrap();
    for n in 0..30 {
        append(&mut writer, "a", n, at(0)).unwrap();
    }
    writer.close(at(0)).unwrap();
    let bundle = prove(&disk, LeafIndex(13)).unwrap();
    assert!(matches!(check_proof(&bundle, &key).unwrap(), Proof::Good(_)));
    let mut dice = Dice(12);
    for bit in 0..bundle.len() * 8 {
        let mut changed = bundle.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!matches!(check_proof(&changed, &key), Ok(Proof::Good(_))), "bit {bit}");
        if bit % 16 == 0 {
            changed = bundle.clone();
            let at = usize::try_from(dice.below(bundle.len() as u64)).unwrap();
            changed.insert(at, bundle[bit / 8]);
            assert!(!matches!(check_proof(&changed, &key), Ok(Proof::Good(_))));
            changed.truncate(at);
            assert!(!matches!(check_proof(&changed, &key), Ok(Proof::Good(_))));
        }
    }
    let other = SecretKey::from_seed(key.name(), &[7; 32]).unwrap();
    let Proof::False(why) = check_proof(&bundle, other.public()).unwrap() else { panic!() };
    assert_eq!(
        why,
        format!(
            "its checkpoint: there is no signature of the key {:08x} on it",
            other.public().hash()
        )
    );
}

/// Text that often comes near what is wanted.
fn nearly(whole: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..8);
    (0..=whole.len(), 0..=whole.len(), bytes).prop_map(move |(from, to, bytes)| {
        let whole = whole.as_bytes();
        [&whole[..from], &bytes, &whole[to..]].concat()
    })
}

const NOTE: &str = "web1/00\n12\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\u{2014} a AAAAAAE=\n\u{2014} b AAAAAAE=\n";
const BUNDLE: &str = "c2sp.org/tlog-proof@v1\nextra YQo=\nindex 1\n\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\
                      web1/00\n12\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\
                      \u{2014} a AAAAAAE=\n";

proptest! {
    #[test]
    fn any_bytes_may_be_a_note(bytes in prop_oneof![nearly(NOTE), any::<Vec<u8>>()]) {
        if let Ok(note) = Note::parse(&bytes) {
            let again = note.to_text();
            prop_assert_eq!(again.as_bytes(), &bytes[..]);
            if let Ok(checkpoint) = Checkpoint::parse(note.text) {
                prop_assert_eq!(checkpoint.to_text(), note.text);
            }
        }
    }

    #[test]
    fn any_text_may_be_a_key(bytes in prop_oneof![nearly(PUBLIC), nearly(SECRET), any::<Vec<u8>>()]) {
        if let Ok(text) = std::str::from_utf8(&bytes) {
            if let Ok(key) = PublicKey::parse(text) {
                prop_assert_eq!(key.to_text(), format!("{}\n", text.strip_suffix('\n').unwrap_or(text)));
            }
            if let Ok(key) = SecretKey::parse(text) {
                prop_assert_eq!(key.to_text(), format!("{}\n", text.strip_suffix('\n').unwrap_or(text)));
            }
        }
    }

    #[test]
    fn any_bytes_may_be_a_bundle(bytes in prop_oneof![nearly(BUNDLE), any::<Vec<u8>>()]) {
        let key = PublicKey::parse(PUBLIC).unwrap();
        prop_assert!(!matches!(check_proof(&bytes, &key), Ok(Proof::Good(_))));
    }

    #[test]
    fn any_text_may_be_checkpoints(bytes in prop_oneof![nearly(NOTE), any::<Vec<u8>>()]) {
        let text = String::from_utf8_lossy(&bytes);
        let joined: String = split(&text).collect();
        prop_assert_eq!(joined.replace('\n', ""), text.replace('\n', ""));
    }
}
