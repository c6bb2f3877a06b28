//! Proofs that one leaf is in a trail, to be checked by somebody who has only the public key.
//!
//! ```text
//!  c2sp.org/tlog-proof@v1
//!  extra BASE64              the leaf, byte for byte (the format leaves this line to us)
//!  index 73894
//!  BASE64                    one line for each hash, the nearest to the leaf first
//!
//!  web1/5f0c...e1            the checkpoint, a signed note
//!  109482
//!  sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=
//!
//!  — web1/5f0c...e1 Az3grlgtzPICa5OS...
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record::units::LeafIndex;

use crate::checkpoint::Checkpoint;
use crate::derived;
use crate::error::Error;
use crate::identity;
use crate::leaf::{Frame, MOST_BYTES, frame};
use crate::merkle::{Hash, Range, climb, leaf_hash, path};
use crate::note::{Note, PublicKey};
use crate::scan::{Found, Scan, Segment, segments};
use crate::store::Store;

const MAGIC: &str = "c2sp.org/tlog-proof@v1\n";

/// What a bundle proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The leaf's place.
    pub index: LeafIndex,
    /// Its bytes.
    pub leaf: Vec<u8>,
    /// The head under which it is.
    pub checkpoint: Checkpoint,
}

/// The answer to a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The leaf is in the trail.
    Good(Proven),
    /// The bundle does not prove that; why.
    False(String),
}

/// Makes a bundle for a leaf of the signed part.
///
/// # Errors
/// [`Error::NoLeaf`], [`Error::Tampered`] if leaf and checkpoint do not fit, I/O.
pub fn prove<S: Store>(store: &S, index: LeafIndex) -> Result<Vec<u8>, Error> {
    let origin = identity::origin(store)?.map_err(Error::Tampered)?;
    let key = identity::public(store)?.map_err(Error::Tampered)?;
    let (note, head) = identity::head(store, &origin, &key)?.map_err(Error::Tampered)?;
    if index.0 >= head.size {
        return Err(Error::NoLeaf { index: index.0, size: head.size });
    }
    let segments = segments(store)?;
    let leaf = leaf(store, &segments, index)?;
    let ranges = path(index.0, head.size);
    let stored = stored(store, &segments, &ranges)?;
    let proves =
        |proof: &[Hash]| climb(index.0, head.size, leaf_hash(&leaf), proof) == Some(head.root);
    let proof = match stored.filter(|proof| proves(proof)) {
        Some(proof) => proof,
        None => {
            let proof = computed(store, &segments, &ranges, head.size)?;
            if !proves(&proof) {
                return Err(Error::Tampered(derived::locate(store, &segments, &head)?));
            }
            proof
        }
    };
    Ok(Bundle { index: index.0, leaf, proof, note: &note }.to_text().into_bytes())
}

/// Checks a bundle against a public key, without any trail.
///
/// # Errors
/// [`Error::Unusable`] if it is not a bundle.
pub fn check_proof(bundle: &[u8], key: &PublicKey) -> Result<Proof, Error> {
    let Bundle { index, leaf, proof, note } =
        Bundle::parse(bundle).map_err(|what| Error::unusable("the bundle", what))?;
    let checkpoint = match Checkpoint::open(note.as_bytes(), key) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return Ok(Proof::False(format!("its checkpoint: {error}"))),
    };
    if climb(index, checkpoint.size, leaf_hash(&leaf), &proof) != Some(checkpoint.root) {
        let what = format!("its hashes do not lead from leaf {index} to the signed root");
        return Ok(Proof::False(what));
    }
    match frame(&leaf) {
        Frame::Whole { len, tail } if len == leaf.len() && tail.index == index => {
            Ok(Proof::Good(Proven { index: LeafIndex(index), leaf, checkpoint }))
        }
        _ => Ok(Proof::False(format!("what it proves is not leaf {index}"))),
    }
}

struct Bundle<'a> {
    index: u64,
    leaf: Vec<u8>,
    proof: Vec<Hash>,
    note: &'a str,
}

impl<'a> Bundle<'a> {
    fn to_text(&self) -> String {
        let mut text =
            format!("{MAGIC}extra {}\nindex {}\n", STANDARD.encode(&self.leaf), self.index);
        for hash in &self.proof {
            text += &STANDARD.encode(hash);
            text.push('\n');
        }
        text + "\n" + self.note
    }

    fn parse(bytes: &'a [u8]) -> Result<Bundle<'a>, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
        let rest = text.strip_prefix(MAGIC).ok_or("it does not begin as c2sp.org/tlog-proof@v1")?;
        let (lines, note) = rest.split_once("\n\n").ok_or("it has no empty line")?;
        let mut lines = lines.split('\n');
        let leaf = lines.next().and_then(|line| line.strip_prefix("extra "));
        let leaf = leaf.and_then(|leaf| STANDARD.decode(leaf).ok());
        let leaf = leaf.ok_or("its line `extra BASE64`, the leaf, is missing or damaged")?;
        if leaf.len() > MOST_BYTES {
            return Err("its leaf is longer than 65,535 bytes");
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = index.and_then(|index| index.parse().ok());
        let index = index.ok_or("its line `index NUMBER` is missing or damaged")?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == 63 {
                return Err("it has more than 63 hashes");
            }
            let hash = STANDARD.decode(line).ok().and_then(|hash| hash.try_into().ok());
            proof.push(hash.ok_or("one of its hashes is not 32 bytes in base64")?);
        }
        Note::parse(note.as_bytes()).map_err(|_| "its checkpoint is not a signed note")?;
        let bundle = Bundle { index, leaf, proof, note };
        if bundle.to_text() == text { Ok(bundle) } else { Err("it is not in canonical bytes") }
    }
}

/// The bytes of a leaf.
fn leaf<S: Store>(store: &S, all: &[Segment], index: LeafIndex) -> Result<Vec<u8>, Error> {
    let before = all.partition_point(|segment| segment.first <= index.0).saturating_sub(1);
    let segments = all.get(before..).unwrap_or_default();
    let first = segments.first().map_or(0, |segment| segment.first);
    let mut scan = Scan::new(store, segments.to_vec(), first);
    loop {
        match scan.advance()? {
            Found::Leaf { .. } if scan.next_leaf() > index.0 => return Ok(scan.bytes().to_vec()),
            Found::Leaf { .. } => {}
            Found::End => return Err(Error::Tampered(scan.wrong("it is signed but not there"))),
            Found::Rest(what) | Found::Wrong(what) => {
                return Err(Error::Tampered(scan.wrong(what)));
            }
        }
    }
}

/// The proof from the stored hashes; `None` if there are not enough of them.
fn stored<S: Store>(
    store: &S,
    segments: &[Segment],
    ranges: &[(u64, u64)],
) -> Result<Option<Vec<Hash>>, Error> {
    let mut proof = Vec::new();
    for &range in ranges {
        match derived::root(store, segments, range)? {
            Some(root) => proof.push(root),
            None => return Ok(None),
        }
    }
    Ok(Some(proof))
}

/// The proof from the leaves themselves.
fn computed<S: Store>(
    store: &S,
    segments: &[Segment],
    ranges: &[(u64, u64)],
    size: u64,
) -> Result<Vec<Hash>, Error> {
    let mut trees = vec![Range::new(); ranges.len()];
    let mut scan = Scan::new(store, segments.to_vec(), 0);
    while scan.next_leaf() < size {
        match scan.advance()? {
            Found::Leaf { .. } => {}
            Found::End => return Err(Error::Tampered(scan.wrong("it is signed but not there"))),
            Found::Rest(what) | Found::Wrong(what) => {
                return Err(Error::Tampered(scan.wrong(what)));
            }
        }
        let at = scan.next_leaf() - 1;
        if let Some(n) = ranges.iter().position(|&(from, to)| (from..to).contains(&at)) {
            trees[n].push(leaf_hash(scan.bytes()));
        }
    }
    Ok(trees.iter().map(Range::root).collect())
}
