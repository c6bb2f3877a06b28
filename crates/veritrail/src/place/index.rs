//! Which file has a byte of the device: the extents of a whole file system, in order, and the
//! names they belong to. Pure; what fills it is in `walk`.

use std::ops::Range;

use host::extents::Extent;

/// A node of the tree of names; [`Index::ROOT`] is the directory that the walk began in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u32);

/// A file system's extents and names. About 60 bytes for a file of one extent, and its name.
#[derive(Debug)]
pub(super) struct Index {
    nodes: Vec<Node>,
    names: Vec<u8>,
    /// By `start` once [`Index::seal`]ed.
    pieces: Vec<Piece>,
    /// For each piece the largest end of it and all before it: what begins early may reach far.
    reach: Vec<u64>,
    /// No more memory than that, in bytes.
    limit: usize,
}

/// What is on record of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    parent: NodeId,
    name_start: u32,
    name_length: u16,
    pub(super) is_directory: bool,
    pub(super) inode: u64,
    /// How many names it has.
    pub(super) links: u32,
}

/// A stretch of the device that holds a piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    start: u64,
    end: u64,
    logical: u64,
    node: NodeId,
    content: Content,
}

/// What of a file a stretch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Its bytes, one by one.
    Data,
    /// Its bytes, compressed.
    Compressed,
    /// Its extended attributes.
    Attributes,
}

/// A file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// On the device.
    pub(super) bytes: Range<u64>,
    pub(super) node: NodeId,
    pub(super) content: Content,
    /// Where in the file `bytes` begins; of a compressed stretch where the whole of it begins.
    pub(super) offset: u64,
}

/// The file system has more files, or they more extents, than there is memory for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Index {
    pub(super) const ROOT: NodeId = NodeId(0);

    pub(super) fn new(root_inode: u64, limit: usize) -> Index {
        let root = Node {
            parent: Self::ROOT,
            name_start: 0,
            name_length: 0,
            is_directory: true,
            inode: root_inode,
            links: 1,
        };
        let (names, pieces, reach) = (Vec::new(), Vec::new(), Vec::new());
        Index { nodes: vec![root], names, pieces, reach, limit }
    }

    /// Adds a name.
    pub(super) fn add(
        &mut self,
        parent: NodeId,
        name: &[u8],
        inode: u64,
        links: u32,
        is_directory: bool,
    ) -> Result<NodeId, Full> {
        let id = NodeId(u32::try_from(self.nodes.len()).map_err(|_| Full)?);
        let name_start = u32::try_from(self.names.len()).map_err(|_| Full)?;
        let name_length = u16::try_from(name.len()).map_err(|_| Full)?;
        self.names.extend_from_slice(name);
        self.nodes.push(Node { parent, name_start, name_length, is_directory, inode, links });
        self.has_room().map(|()| id)
    }

    /// Adds a piece of a file, which goes on in the last one where both the file and the device do.
    pub(super) fn extend(
        &mut self,
        node: NodeId,
        content: Content,
        extent: &Extent,
    ) -> Result<(), Full> {
        let (start, end) = (extent.physical, extent.physical + extent.length);
        if let Some(last) = self.pieces.last_mut()
            && (last.node, last.content) == (node, content)
            && content == Content::Data
            && last.end == start
            && last.logical + (last.end - last.start) == extent.logical
        {
            last.end = end;
            return Ok(());
        }
        self.pieces.push(Piece { start, end, logical: extent.logical, node, content });
        self.has_room()
    }

    fn has_room(&self) -> Result<(), Full> {
        if self.bytes() > self.limit { Err(Full) } else { Ok(()) }
    }

    /// The memory that it needs.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>()
            + self.names.len()
            + self.pieces.len() * (size_of::<Piece>() + size_of::<u64>())
    }

    /// Puts the pieces in order; nothing is added afterwards.
    pub(super) fn seal(&mut self) {
        self.pieces.sort_unstable_by_key(|piece| (piece.start, piece.end));
        // FIEMAP has one length for both sides. Of a compressed piece it is that of the file, and
        // on the device it ends where the next one begins, at the latest.
        let mut next = u64::MAX;
        for at in (0..self.pieces.len()).rev() {
            let later = self.pieces.get(at + 1).map_or(u64::MAX, |piece| piece.start);
            let Some(piece) = self.pieces.get_mut(at) else { continue };
            next = if later > piece.start { later } else { next };
            if piece.content == Content::Compressed {
                piece.end = piece.end.min(next);
            }
        }
        let mut furthest = 0;
        self.reach.extend(self.pieces.iter().map(|piece| {
            furthest = piece.end.max(furthest);
            furthest
        }));
        self.names.shrink_to_fit();
        self.pieces.shrink_to_fit();
        self.nodes.shrink_to_fit();
    }

    /// The pieces that have a byte of `bytes`, in order, cut to it.
    pub(super) fn find(&self, bytes: &Range<u64>) -> impl Iterator<Item = Found> {
        let first = self.reach.partition_point(|end| *end <= bytes.start);
        let Range { start, end } = *bytes;
        let candidates = self.pieces.iter().skip(first).take_while(move |piece| piece.start < end);
        candidates.filter(move |piece| piece.end > start).map(move |piece| {
            let cut = piece.start.max(start)..piece.end.min(end);
            let inside = match piece.content {
                Content::Data => cut.start - piece.start,
                Content::Compressed | Content::Attributes => 0,
            };
            Found {
                offset: piece.logical + inside,
                bytes: cut,
                node: piece.node,
                content: piece.content,
            }
        })
    }

    /// The node, which is one of this index.
    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(usize::try_from(id.0).ok()?)
    }

    /// The first name found of an inode.
    pub(super) fn of_inode(&self, inode: u64) -> Option<NodeId> {
        let at = self.nodes.iter().position(|node| node.inode == inode)?;
        u32::try_from(at).ok().map(NodeId)
    }

    /// Its path from the root of the walk, which is `/`.
    pub(super) fn path(&self, id: NodeId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = id;
        // A parent is always older, so this ends.
        while at != Self::ROOT {
            let Some(node) = self.node(at) else { break };
            names.push(self.name(node));
            at = node.parent;
        }
        if names.is_empty() {
            return b"/".to_vec();
        }
        names.iter().rev().flat_map(|name| [b"/".as_slice(), name].concat()).collect()
    }

    fn name(&self, node: &Node) -> &[u8] {
        let start = usize::try_from(node.name_start).unwrap_or(usize::MAX);
        let end = start.saturating_add(usize::from(node.name_length));
        self.names.get(start..end).unwrap_or_default()
    }

    /// How many files and directories.
    pub(super) fn files(&self) -> usize {
        self.nodes.len()
    }
}

#[cfg(test)]
mod tests {
    use host::extents::Flags;
    use proptest::prelude::*;

    use super::*;

    fn extent(logical: u64, physical: u64, length: u64) -> Extent {
        Extent { logical, physical, length, flags: Flags::default() }
    }

    #[test]
    fn names_are_paths() {
        let mut index = Index::new(2, usize::MAX);
        let etc = index.add(Index::ROOT, b"etc", 12, 2, true).unwrap();
        let motto = index.add(etc, b"mo\xfftto", 13, 3, false).unwrap();
        assert_eq!(index.path(Index::ROOT), b"/");
        assert_eq!(index.path(motto), b"/etc/mo\xfftto");
        assert_eq!(index.of_inode(13), Some(motto));
        assert_eq!(index.node(motto).unwrap().links, 3);
    }

    #[test]
    fn compressed_pieces_end_where_the_next_begins() {
        let mut index = Index::new(2, usize::MAX);
        for (physical, logical) in [(4096, 0), (8192, 65536), (8192, 131_072)] {
            index
                .extend(Index::ROOT, Content::Compressed, &extent(logical, physical, 65536))
                .unwrap();
        }
        index.seal();
        let found: Vec<_> = index.find(&(0..1 << 30)).map(|one| (one.bytes, one.offset)).collect();
        assert_eq!(found[0], (4096..8192, 0));
        assert_eq!(found[1..].iter().map(|one| one.1).collect::<Vec<_>>(), [65536, 131_072]);
    }

    #[test]
    fn memory_has_an_end() {
        let mut index = Index::new(2, 4096);
        let mut added = 0;
        while index.add(Index::ROOT, b"name", 3, 1, false).is_ok() {
            added += 1;
            assert!(added < 4096);
        }
        let mut index = Index::new(2, 4096);
        let pieces = (0..).find(|n| {
            let far = extent(0, n * 8192, 4096);
            index.extend(Index::ROOT, Content::Data, &far) == Err(Full)
        });
        assert!(pieces.unwrap() < 4096);
    }

    proptest! {
        /// Whatever overlaps, the index finds what a look at each piece does.
        #[test]
        fn finds_what_a_scan_finds(
            pieces in proptest::collection::vec((0..500u64, 1..80u64, 0..3u64), 0..60),
            start in 0..600u64,
            length in 0..100u64,
        ) {
            let mut index = Index::new(2, usize::MAX);
            let mut plain = Vec::new();
            for (at, (physical, length, logical)) in (0u64..).zip(&pieces) {
                let node = index.add(Index::ROOT, b"f", at, 1, false).unwrap();
                index.extend(node, Content::Data, &extent(*logical, *physical, *length)).unwrap();
                plain.push((*physical, *physical + *length, *logical, node));
            }
            index.seal();
            let end = start + length;
            let mut expected: Vec<_> = plain
                .iter()
                .filter(|one| one.0 < end && one.1 > start && length > 0)
                .map(|one| {
                    let cut = one.0.max(start);
                    (cut, one.1.min(end), one.2 + cut - one.0, one.3)
                })
                .collect();
            let mut found: Vec<_> = index
                .find(&(start..end))
                .map(|one| (one.bytes.start, one.bytes.end, one.offset, one.node))
                .filter(|one| one.0 < one.1)
                .collect();
            expected.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
