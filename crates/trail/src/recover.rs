//! Opens a trail for a writer, and brings one back that was not closed.
//!
//! A file that a writer had open when it ended is not trusted to hold on the disk what it shows:
//! an fdatasync may have failed on it. So what is whole in the last segment is copied into a new
//! file that takes its name, and what is torn behind it is kept apart in `torn/`.

use std::path::{Path, PathBuf};

use record::write::Body;
use sha2::{Digest as _, Sha256};

use crate::checkpoint::Checkpoint;
use crate::derived;
use crate::entry::{Class, Entry, Field, Lines, Own, Stamp};
use crate::error::Error;
use crate::growing::{Growing, rename, replace};
use crate::identity;
use crate::layout::{self, TILE};
use crate::merkle::{Hash, Range, leaf_hash};
use crate::scan::{Found, Scan, Segment, segments};
use crate::store::{File, Mode, Store};
use crate::verify::Tampered;
use crate::writer::{History, Writer};

use record::units::LeafIndex;

/// What the writer found when it opened the trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Whether the last writer had closed it.
    pub closed: bool,
    /// Leaves that were there but not yet signed.
    pub unsigned: u64,
    /// Bytes behind the last whole leaf and where they are now.
    pub torn: Option<(u64, PathBuf)>,
}

/// Torn bytes that are kept at most. No crash leaves as many; a sparse file can show any number.
const MOST_TORN: u64 = 64 << 20;

/// Where a writer goes on.
pub(crate) struct Resumed<F> {
    pub(crate) segment: Growing<F>,
    pub(crate) hashes: Growing<F>,
    pub(crate) upper: Growing<F>,
    pub(crate) tree: Range,
    pub(crate) history: History,
}

/// See [`Writer::open`].
pub(crate) fn open<S: Store>(
    store: S,
    boot: &str,
    now: Stamp,
) -> Result<(Writer<S>, Recovered), Error> {
    let origin = identity::origin(&store)?.map_err(Error::Tampered)?;
    let key = identity::secret(&store, &origin)?;
    let head = identity::head(&store, &origin, key.public())?.map_err(Error::Tampered)?;
    let crashed = identity::is_open(&store)?;
    let segments = segments(&store)?;
    if !crashed {
        let found = match quick(&store, &segments, &head.1)? {
            Some(resumed) => resumed,
            None => {
                let walk = walk_all(&store, &segments, &head.1)?;
                if let Some(what) = walk.behind {
                    return Err(Error::Tampered(what));
                }
                walk.resume(&store)?
            }
        };
        mark(&store, boot)?;
        let writer = Writer::resume(store, key, head, found, boot, now);
        return Ok((writer, Recovered { closed: true, ..Recovered::default() }));
    }

    let walk = walk_all(&store, &segments, &head.1)?;
    mark(&store, boot)?;
    let unsigned = walk.tree.size() - head.1.size;
    let (end, rest, cut) = (walk.end, walk.rest, walk.more);
    let torn = if rest == 0 { None } else { Some(save(&store, &walk.segment, end, rest)?) };
    let name = walk.segment.path.clone();
    let resumed = walk.copy(&store)?;
    let mut writer = Writer::resume(store, key, head, resumed, boot, now);
    // One leaf more, whatever the segment's length: it gets its name together with it.
    writer.limit_segments(u64::MAX);
    if let Some((path, sha256)) = &torn {
        let body = Body::new()
            .word("op", "torn-tail")
            .word("bytes", rest)
            .word("sha256", hex(sha256))
            .word("file", path.display());
        describe(&mut writer, &body, now)?;
    } else if cut {
        describe(&mut writer, &Body::new().word("op", "cut-event"), now)?;
    }
    writer.sync()?;
    rename(writer.store(), &layout::unfinished(&name), &name)?;
    writer.named(name);
    writer.limit_segments(crate::writer::SEGMENT);
    writer.sign(now)?;
    let torn = torn.map(|(path, _)| (rest, path));
    Ok((writer, Recovered { closed: false, unsigned, torn }))
}

fn describe<S: Store>(writer: &mut Writer<S>, body: &Body, now: Stamp) -> Result<(), Error> {
    let records = [Own { kind: "VT_RECOVER", body: body.as_bytes() }];
    let tail = [Field { name: "VT_SRC", value: "engine" }];
    let lines = Lines::Own(&records);
    let entry = Entry { class: Class::Integrity, ticket: None, lines, tail: &tail };
    writer.append(&entry, now).map(|_| ())
}

/// Marks the trail as open, before anything is appended.
fn mark<S: Store>(store: &S, boot: &str) -> Result<(), Error> {
    let text = format!("{boot} {}\n", std::process::id());
    replace(store, Path::new(layout::OPEN), text.as_bytes(), Mode::Group)
}

/// Opens a closed trail by its hashes, which the checkpoint's root proves, and its last two
/// segments. `None` where that does not work out and only all segments can tell.
fn quick<S: Store>(
    store: &S,
    segments: &[Segment],
    head: &Checkpoint,
) -> Result<Option<Resumed<S::File>>, Error> {
    let Some(last) = segments.last() else { return Ok(None) };
    let from = segments.len().saturating_sub(2);
    let tiles = segments[from].first / TILE;
    if last.first > head.size || !segments[from].first.is_multiple_of(TILE) {
        return Ok(None);
    }
    let upper = PathBuf::from(layout::UPPER);
    let Some(upper) = Growing::resume(store, upper, head.size / TILE * 32)? else {
        return Ok(None);
    };
    let mut tree = Range::new();
    let mut chunk = [0; 32 * 256];
    for tile in (0..tiles).step_by(256) {
        let bytes = usize::try_from((tiles - tile).min(256)).unwrap_or(0) * 32;
        let read = upper.file().read_at(tile * 32, &mut chunk[..bytes]);
        if read.map_err(Error::io("read", &upper.path))? < bytes {
            return Ok(None);
        }
        for hash in chunk[..bytes].as_chunks::<32>().0 {
            tree.push_tile(*hash);
        }
    }
    let mut history = History::default();
    let mut scan = Scan::new(store, segments[from..].to_vec(), segments[from].first);
    while let Found::Leaf { .. } = scan.advance()? {
        tree.push(leaf_hash(scan.bytes()));
        history.note(scan.next_leaf() - 1, scan.bytes(), scan.tail());
    }
    let end = scan.current().map_or(0, |(_, leaves)| leaves.offset());
    if Checkpoint::of(&head.origin, &tree) != *head || scan.rest()? != 0 {
        return Ok(None);
    }
    let first = LeafIndex(last.first);
    let hashes = (head.size - last.first) * 32;
    let hashes = Growing::resume(store, layout::leaf_hashes(first), hashes)?;
    let segment = Growing::resume(store, layout::segment(first), end)?;
    let (Some(segment), Some(hashes)) = (segment, hashes) else { return Ok(None) };
    Ok(Some(Resumed { segment, hashes, upper, tree, history }))
}

/// What is in the segments, all of them read.
struct Walk<F> {
    tree: Range,
    history: History,
    /// The last segment.
    segment: Segment,
    /// Whether there is a file of that name.
    exists: bool,
    /// Where its last whole leaf ends.
    end: u64,
    /// Bytes behind that.
    rest: u64,
    /// Whether the last leaf's event goes on.
    more: bool,
    /// What is behind the signed end, as an accusation.
    behind: Option<Tampered>,
    hashes: Growing<F>,
    upper: Growing<F>,
}

/// Reads all segments, checks them against the signed head and writes the hashes anew.
fn walk_all<S: Store>(
    store: &S,
    segments: &[Segment],
    head: &Checkpoint,
) -> Result<Walk<S::File>, Error> {
    for directory in [layout::SEGMENTS, layout::HASHES, layout::TORN] {
        let path = Path::new(directory);
        store.create_dir(path).map_err(Error::write("create", path))?;
    }
    let upper_name = PathBuf::from(layout::UPPER);
    let mut upper = Growing::create(store, layout::unfinished(&upper_name))?;
    let new_hashes = |first: u64| {
        Growing::create(store, layout::unfinished(&layout::leaf_hashes(LeafIndex(first))))
    };
    let mut hashes = new_hashes(0)?;
    let mut hashed = 0;
    let mut tree = Range::new();
    let mut history = History::default();
    let mut scan = Scan::new(store, segments.to_vec(), 0);
    let mut behind = None;
    let mut more = false;
    loop {
        if tree.size() == head.size && tree.root() != head.root {
            return Err(Error::Tampered(derived::locate(store, segments, head)?));
        }
        let found = scan.advance()?;
        if tree.size() >= head.size && behind.is_none() && found != Found::End {
            behind = Some(scan.behind(found));
        }
        match found {
            Found::Leaf { more: goes_on } => more = goes_on,
            Found::Wrong(what) => return Err(Error::Tampered(scan.wrong(what))),
            Found::End | Found::Rest(_) if tree.size() < head.size => {
                return Err(Error::Tampered(scan.wrong(match found {
                    Found::Rest(what) => what,
                    _ => "it is signed but not there",
                })));
            }
            Found::End | Found::Rest(_) => break,
        }
        let first = scan.current().map_or(0, |(segment, _)| segment.first);
        if first != hashed {
            name_hashes(store, &mut hashes)?;
            hashes = new_hashes(first)?;
            hashed = first;
        }
        let hash = leaf_hash(scan.bytes());
        hashes.pending.extend_from_slice(&hash);
        hashes.relieve()?;
        if let Some(tile) = tree.push(hash) {
            upper.pending.extend_from_slice(&tile);
            upper.relieve()?;
        }
        history.note(scan.next_leaf() - 1, scan.bytes(), scan.tail());
    }
    let rest = scan.rest()?;
    let (segment, end, exists) = match scan.current() {
        Some((segment, leaves)) => (segment.clone(), leaves.offset(), true),
        None => (Segment { first: 0, path: layout::segment(LeafIndex(0)) }, 0, false),
    };
    if segment.first != hashed {
        name_hashes(store, &mut hashes)?;
        hashes = new_hashes(segment.first)?;
    }
    name_hashes(store, &mut hashes)?;
    upper.flush()?;
    rename(store, &upper.path, &upper_name)?;
    upper.path = upper_name;
    Ok(Walk { tree, history, segment, exists, end, rest, more, behind, hashes, upper })
}

/// Gives finished hashes their name.
fn name_hashes<S: Store>(store: &S, hashes: &mut Growing<S::File>) -> Result<(), Error> {
    hashes.flush()?;
    let name = hashes.path.with_extension("");
    rename(store, &hashes.path, &name)?;
    hashes.path = name;
    Ok(())
}

impl<F: File> Walk<F> {
    /// Goes on in the last segment as it is.
    fn resume<S: Store<File = F>>(self, store: &S) -> Result<Resumed<F>, Error> {
        let path = &self.segment.path;
        let segment = if self.exists {
            let file = store.open_append(path).map_err(Error::io("open", path))?;
            Growing::new(file, path.clone())?
        } else {
            let segment = Growing::create(store, path.clone())?;
            let directory = Path::new(layout::SEGMENTS);
            store.sync_dir(directory).map_err(Error::io("sync", directory))?;
            segment
        };
        Ok(self.at(segment))
    }

    /// Goes on in a copy of what is whole in the last segment, which has no name yet.
    fn copy<S: Store<File = F>>(self, store: &S) -> Result<Resumed<F>, Error> {
        let path = &self.segment.path;
        let mut copy = Growing::create(store, layout::unfinished(path))?;
        if self.exists {
            let file = store.open(path).map_err(Error::io("open", path))?;
            pieces(&file, path, 0..self.end, |piece| {
                copy.pending.extend_from_slice(piece);
                copy.flush()
            })?;
        }
        copy.sync()?;
        Ok(self.at(copy))
    }

    fn at(self, segment: Growing<F>) -> Resumed<F> {
        let Walk { tree, history, hashes, upper, .. } = self;
        Resumed { segment, hashes, upper, tree, history }
    }
}

/// Keeps torn bytes in a file of their own: its name and SHA-256.
fn save<S: Store>(
    store: &S,
    segment: &Segment,
    from: u64,
    bytes: u64,
) -> Result<(PathBuf, Hash), Error> {
    let taken =
        store.list(Path::new(layout::TORN)).map_err(Error::io("list", Path::new("torn")))?;
    let free = (0..).map(|n| layout::torn(from, n)).find(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        !taken.iter().any(|taken| taken == name)
    });
    let path = free.unwrap_or_else(|| layout::torn(from, u32::MAX));
    let mut torn = Growing::create(store, path)?;
    let file = store.open(&segment.path).map_err(Error::io("open", &segment.path))?;
    let mut hasher = Sha256::new();
    pieces(&file, &segment.path, from..from + bytes.min(MOST_TORN), |piece| {
        hasher.update(piece);
        torn.pending.extend_from_slice(piece);
        torn.flush()
    })?;
    torn.sync()?;
    let directory = Path::new(layout::TORN);
    store.sync_dir(directory).map_err(Error::io("sync", directory))?;
    Ok((torn.path, hasher.finalize().into()))
}

fn pieces<F: File>(
    file: &F,
    path: &Path,
    range: std::ops::Range<u64>,
    mut each: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut buffer = vec![0; 256 << 10];
    let mut at = range.start;
    while at < range.end {
        let most = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(buffer.len());
        let n = file.read_at(at, &mut buffer[..most]).map_err(Error::io("read", path))?;
        if n == 0 {
            return Err(Error::io("read", path)(std::io::ErrorKind::UnexpectedEof.into()));
        }
        each(&buffer[..n])?;
        at += n as u64;
    }
    Ok(())
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|b| format!("{b:02x}")).collect()
}
