//! The tree of RFC 6962: leaves and nodes are hashed apart, so that neither can pass for the
//! other.
//!
//! ```text
//!  SHA-256(0x00 || leaf)            SHA-256(0x01 || left || right)
//! ```

use sha2::{Digest as _, Sha256};

/// SHA-256 of a leaf or a node.
pub type Hash = [u8; 32];

/// Levels from a leaf up to the root of a tile of 256.
const TILE_LEVEL: u8 = 8;

/// `SHA-256(0x00 || leaf)`
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(leaf);
    hasher.finalize().into()
}

/// `SHA-256(0x01 || left || right)`
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut block = [0; 65];
    block[0] = 1;
    block[1..33].copy_from_slice(left);
    block[33..].copy_from_slice(right);
    Sha256::digest(block).into()
}

/// The head of a growing tree: the roots of the full subtrees that it is made of, the largest
/// first. 64 of them are enough for every trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    size: u64,
    subtrees: Vec<(u8, Hash)>,
}

impl Range {
    /// A tree without leaves.
    #[must_use]
    pub fn new() -> Range {
        Range { size: 0, subtrees: Vec::with_capacity(64) }
    }

    /// Leaves in it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf. Gives the root of the tile of 256 leaves that it completes.
    pub fn push(&mut self, leaf: Hash) -> Option<Hash> {
        self.grow(0, leaf)
    }

    /// Adds 256 leaves by the root over them. The tree must consist of full tiles.
    pub fn push_tile(&mut self, root: Hash) {
        debug_assert!(self.size.is_multiple_of(1 << TILE_LEVEL), "tiles are aligned");
        self.grow(TILE_LEVEL, root);
    }

    fn grow(&mut self, mut level: u8, mut hash: Hash) -> Option<Hash> {
        self.size += 1 << level;
        let mut tile = None;
        while let Some(&(top, left)) = self.subtrees.last() {
            if top != level {
                break;
            }
            self.subtrees.pop();
            hash = node_hash(&left, &hash);
            level += 1;
            if level == TILE_LEVEL {
                tile = Some(hash);
            }
        }
        self.subtrees.push((level, hash));
        tile
    }

    /// The root over all leaves; SHA-256 of nothing if there are none.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut subtrees = self.subtrees.iter().rev();
        let Some(&(_, last)) = subtrees.next() else { return Sha256::digest([]).into() };
        subtrees.fold(last, |right, (_, left)| node_hash(left, &right))
    }
}

/// The subtrees, as ranges of leaves `[from, to)`, whose roots prove leaf `index` in a tree of
/// `size` leaves, in the order of a proof: the nearest to the leaf first (RFC 6962, 2.1.1).
#[must_use]
pub fn path(index: u64, size: u64) -> Vec<(u64, u64)> {
    let (mut from, mut to) = (0, size);
    let mut ranges = Vec::new();
    if index >= size {
        return ranges;
    }
    while to - from > 1 {
        // The largest power of two smaller than the number of leaves.
        let split = from + (1 << (63 - (to - from - 1).leading_zeros()));
        if index < split {
            ranges.push((split, to));
            to = split;
        } else {
            ranges.push((from, split));
            from = split;
        }
    }
    ranges.reverse();
    ranges
}

/// The root that a proof leads to from a leaf; `None` if no tree of `size` leaves has a proof of
/// that length for that leaf.
#[must_use]
pub fn climb(index: u64, size: u64, leaf: Hash, proof: &[Hash]) -> Option<Hash> {
    let ranges = path(index, size);
    if index >= size || ranges.len() != proof.len() {
        return None;
    }
    Some(ranges.iter().zip(proof).fold(leaf, |hash, (&(from, _), sibling)| {
        if from > index { node_hash(&hash, sibling) } else { node_hash(sibling, &hash) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962, 2.1, word for word.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let k = leaves.len().next_power_of_two() / 2;
                node_hash(&mth(&leaves[..k]), &mth(&leaves[k..]))
            }
        }
    }

    fn hex(hash: Hash) -> String {
        hash.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_roots_are_those_of_the_rfcs_reference_tree() {
        // The eight leaves and the roots of certificate-transparency's reference test.
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut range = Range::new();
        assert_eq!(hex(range.root()), roots[0]);
        for (leaf, root) in leaves.iter().zip(&roots[1..]) {
            range.push(leaf_hash(leaf));
            assert_eq!(&hex(range.root()), root);
        }
    }

    #[test]
    fn range_path_and_climb_are_what_the_rfc_defines() {
        let leaves: Vec<Hash> = (0..600_u32).map(|i| leaf_hash(&i.to_le_bytes())).collect();
        let mut range = Range::new();
        for (i, &leaf) in leaves.iter().enumerate() {
            let tile = range.push(leaf);
            assert_eq!(tile, (i % 256 == 255).then(|| mth(&leaves[i - 255..=i])));
        }
        for size in [1, 2, 3, 7, 8, 255, 256, 257, 600] {
            let root = mth(&leaves[..size]);
            let mut tiled = Range::new();
            let full = size / 256 * 256;
            leaves[..full].chunks(256).for_each(|tile| tiled.push_tile(mth(tile)));
            for &leaf in &leaves[full..size] {
                tiled.push(leaf);
            }
            assert_eq!((tiled.size(), tiled.root()), (size as u64, root));
            for index in [0, 1, 2, 5, 254, 255, 256, 599] {
                let proof: Vec<Hash> = path(index as u64, size as u64)
                    .iter()
                    .map(|&(from, to)| {
                        mth(&leaves[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()])
                    })
                    .collect();
                let climbed = climb(index as u64, size as u64, leaves[index.min(599)], &proof);
                assert_eq!(climbed, (index < size).then_some(root));
                if index < size {
                    let mut longer = proof.clone();
                    longer.push(root);
                    assert_eq!(climb(index as u64, size as u64, leaves[index], &longer), None);
                }
            }
        }
        assert_eq!(path(u64::MAX - 1, u64::MAX).len(), 63);
    }
}
