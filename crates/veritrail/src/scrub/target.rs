//! What is checked, opened.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use block::fec::{Area, AreaError};
use block::verity::{
    BlockSize, Digest, HashArea, HashName, HashType, Layout, ParamError, Params, Salt,
};
use engine::devices::table::{Target as Table, Verity};
use engine::scrub::{Backend, Identity, Live, Module, Subject};
use host::block_device::{BlockDevice, Number};
use host::device;
use host::dm::Mapped;
use record::place::DeviceId;
use record::violation::EventOp;

use super::records::Named;
use super::store::Key;
use crate::clock;
use crate::outcome::{Failure, Kind};
use crate::served::{Opening, Source, State as ServedState, Status};

/// A device, as far as it has to be known to be checked.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) key: Key,
    pub(crate) subject: Subject,
    pub(crate) identity: Identity,
    pub(crate) named: Named,
    pub(crate) check: How,
    /// Where its records go if nothing is said: a served device's own trail.
    pub(crate) trail: Option<PathBuf>,
}

/// By what a device is checked.
#[derive(Debug)]
pub(crate) enum How {
    /// By its hash tree, with our engine: what reads the device is not asked.
    Tree(Box<Tree>),
    /// By reading it, for its driver verifies.
    Through {
        file: File,
        /// What the driver records of a block that is not what it was.
        op: EventOp,
    },
}

/// Data, tree, and what they must lead to.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) data: Source,
    pub(crate) hash: Source,
    pub(crate) fec: Option<(Source, Area)>,
    pub(crate) params: Params,
    pub(crate) area: HashArea,
    pub(crate) layout: Layout,
    pub(crate) root: Digest,
}

impl Tree {
    /// What the tree is, for who wants to know it again.
    fn words(&self) -> String {
        let Tree { params, layout, root, .. } = self;
        format!(
            "verity type={} hash={} salt={} data={}x{} tree={}x{} root={root}",
            params.hash_type.number(),
            params.hash,
            params.salt,
            params.data_blocks,
            params.data_block_size,
            layout.tree_bytes().start,
            params.hash_block_size,
        )
    }
}

/// Why a table of the kernel's cannot be taken for an image.
enum Untaken {
    Form(String),
    Failure(Failure),
}

impl From<Failure> for Untaken {
    fn from(failure: Failure) -> Untaken {
        Untaken::Failure(failure)
    }
}

impl Tree {
    /// What a device of the kernel's dm-verity is made of.
    fn of_table(verity: &Verity) -> Result<Tree, Untaken> {
        let form = |error: ParamError| Untaken::Form(error.to_string());
        let table = &verity.table;
        let params = table.params().map_err(form)?;
        let outside = || Untaken::Form("its table points behind every device".into());
        let area = table.hash_area().ok_or_else(outside)?;
        let layout = Layout::new(&params, area).map_err(form)?;
        let root = table.root_hash.clone();
        let fec = match verity.fec_device.zip(table.fec.as_ref()) {
            Some((device, fec)) => {
                let unit = params.data_block_size;
                // Data first, then the tree from its first block on.
                let tree = fec.blocks.checked_sub(table.data_blocks).ok_or_else(outside)?;
                let end = table.hash_start.checked_add(tree).and_then(|end| unit.offset(end));
                let start = unit.offset(fec.start).ok_or_else(outside)?;
                let covered = end.ok_or_else(outside)?;
                let area = Area::new(&layout, fec.roots, start, covered)
                    .map_err(|error| Untaken::Form(error.to_string()))?;
                Some((open_number(device)?, area))
            }
            None => None,
        };
        let data = open_number(verity.data_device)?;
        let hash = open_number(verity.hash_device)?;
        Ok(Tree { data, hash, fec, params, area, layout, root })
    }
}

impl Target {
    /// An image that nobody has to serve: its parts are opened already.
    pub(crate) fn image(opening: Opening) -> Result<Target, Failure> {
        let Opening { data, hash, fec, params, area, layout, root, .. } = opening;
        let fec = match fec {
            Some((source, fec)) => {
                let area = Area::new(&layout, fec.roots, fec.offset, fec.covered_end);
                Some((source, area.map_err(|error| unusable_fec(&error))?))
            }
            None => None,
        };
        let name = data.path.clone();
        let tree = Tree { data, hash, fec, params, area, layout, root };
        let path = name.as_os_str().as_encoded_bytes();
        let named = Named {
            violated: DeviceId::Unserved,
            mapped: None,
            served: None,
            name: path.to_vec(),
            data: tree.data.path.clone(),
            hash: tree.hash.path.clone(),
            heard: false,
        };
        Target::of_tree(Key::new("image", path), Backend::Image, named, None, tree)
    }

    /// What a server of ours serves, as it has it open.
    pub(crate) fn served(status: &Status) -> Result<Target, Failure> {
        let unusable = |why: String| {
            Failure::new(Kind::Unusable, format!("cannot check {}", status.facts.name)).because(why)
        };
        if status.facts.state == ServedState::Dead {
            return Err(Failure::new(
                Kind::Environment,
                format!("{} has no server", status.facts.name),
            )
            .hint("open it again, or check its files: veritrail scrub DATA --hash HASH ..."));
        }
        let open = |path: &str, descriptor: i32| {
            let link = format!("/proc/{}/fd/{descriptor}", status.pid);
            let file = File::open(&link).map_err(|error| {
                Failure::new(Kind::Environment, format!("cannot open {path} as it is served"))
                    .because(error)
                    .hint("check it as the user who serves it, or as root")
            })?;
            Ok::<_, Failure>(Source { file, path: path.into() })
        };
        let Some(files) = &status.files else {
            return Err(unusable("its server is of an older version".into())
                .hint("close it and open it again"));
        };
        let data = open(&status.facts.data_device, files.data)?;
        let hash = open(&status.facts.hash_device, files.hash)?;
        let form = |error: ParamError| unusable(error.to_string());
        let params = Params {
            hash_type: HashType::from_number(status.facts.hash_type.into()).map_err(form)?,
            hash: HashName::parse(&status.facts.algorithm).map_err(form)?,
            data_block_size: BlockSize::new("data block size", status.facts.data_block_size.into())
                .map_err(form)?,
            hash_block_size: BlockSize::new("hash block size", status.facts.hash_block_size.into())
                .map_err(form)?,
            data_blocks: status.facts.data_blocks,
            salt: Salt::parse(&status.facts.salt).map_err(form)?,
        };
        let offset =
            sectors(status.facts.hash_offset).ok_or_else(|| unusable("its offsets".into()))?;
        // Where the tree begins is known; what stands before it does not matter.
        let area = HashArea { offset, superblock: false };
        let layout = Layout::new(&params, area).map_err(form)?;
        let root = Digest::parse(&status.facts.root_hash).map_err(form)?;
        let fec = match (
            &status.facts.fec_device,
            files.fec,
            status.facts.fec_offset,
            status.facts.fec_roots,
        ) {
            (Some(path), Some(descriptor), Some(offset), Some(roots)) => {
                let source = open(path, descriptor)?;
                let offset = sectors(offset).ok_or_else(|| unusable("its offsets".into()))?;
                let covered_end = covered_end(&source.file, &hash.file, &layout, offset)
                    .map_err(|error| unusable(error.to_string()))?;
                let area = Area::new(&layout, roots, offset, covered_end);
                Some((source, area.map_err(|error| unusable_fec(&error))?))
            }
            _ => None,
        };
        let instance = host::mount::device_number(status.facts.path.as_ref()).ok().flatten();
        let violated = match instance {
            Some(instance) => DeviceId::Served { name: status.facts.name.clone(), instance },
            None => DeviceId::Unserved,
        };
        let named = Named {
            violated,
            mapped: None,
            served: Some(status.facts.name.clone()),
            name: status.facts.name.clone().into_bytes(),
            data: data.path.clone(),
            hash: hash.path.clone(),
            heard: false,
        };
        let tree = Tree { data, hash, fec, params, area, layout, root };
        let trail = Some(PathBuf::from(&status.trail));
        Target::of_tree(Key::served(&status.facts.path), Backend::User, named, trail, tree)
    }

    /// A device of the kernel's device mapper. One with a hash tree is checked below it, where
    /// blocks of the tree can be told from each other; any other by its driver.
    pub(crate) fn mapped(mapped: &Mapped) -> Result<Target, Failure> {
        let Mapped { info, table, .. } = mapped;
        let shown = String::from_utf8_lossy(&info.name).into_owned();
        let unusable =
            |why: &str| Failure::new(Kind::Unusable, format!("cannot check {shown}")).because(why);
        let [target] = table.as_slice() else {
            return Err(unusable("it has several targets, or none"));
        };
        let number = info.device;
        let named = |violated: Number, data: &Source, hash: &Source| Named {
            violated: kernel(violated),
            mapped: Some(kernel(number)),
            served: None,
            name: info.name.clone(),
            data: data.path.clone(),
            hash: hash.path.clone(),
            heard: false,
        };
        let key = Key::kernel(&info.name);
        let (module, op, violated) = match Table::parse(&target.kind, &target.params) {
            Some(Table::Verity(verity)) => {
                let tree = Tree::of_table(&verity).map_err(|why| match why {
                    Untaken::Form(why) => unusable(&why),
                    Untaken::Failure(failure) => failure,
                })?;
                let named = named(verity.data_device, &tree.data, &tree.hash);
                return Target::of_tree(key, Backend::Kernel, named, None, tree);
            }
            Some(Table::Integrity(integrity)) if integrity.internal_hash => {
                (Module::Integrity, EventOp::IntegrityChecksum, number)
            }
            // The kernel names the device below, of the same sectors.
            Some(Table::Crypt(crypt)) if crypt.authenticated => {
                (Module::Crypt, EventOp::IntegrityAead, crypt.device)
            }
            _ => return Err(unusable("it verifies nothing of its own")),
        };
        let source = open_number(number)?;
        let named = named(violated, &source, &source);
        let (inode, live) = life(&source.file)?;
        let size = bytes(&source.file)?;
        let uuid = String::from_utf8_lossy(&info.uuid);
        let image = format!("{} uuid={uuid} name={shown}", module.word());
        Ok(Target {
            key,
            subject: Subject { name: shown, module, backend: Backend::Kernel },
            identity: Identity { image, size, inode, live },
            named,
            check: How::Through { file: source.file, op },
            trail: None,
        })
    }

    fn of_tree(
        key: Key,
        backend: Backend,
        named: Named,
        trail: Option<PathBuf>,
        tree: Tree,
    ) -> Result<Target, Failure> {
        let (inode, live) = life(&tree.data.file)?;
        let size = tree.layout.data_bytes();
        let identity = Identity { image: tree.words(), size, inode, live };
        let name = String::from_utf8_lossy(&named.name).into_owned();
        let subject = Subject { name, module: Module::Verity, backend };
        let check = How::Tree(Box::new(tree));
        Ok(Target { key, subject, identity, named, check, trail })
    }
}

fn kernel(device: Number) -> DeviceId {
    DeviceId::Kernel { major: device.0, minor: device.1, diskseq: diskseq(device) }
}

/// The block device with this number, by the name that the kernel gives it.
fn open_number((major, minor): Number) -> Result<Source, Failure> {
    let failed = |error| {
        let what = format!("cannot open the block device {major}:{minor}");
        Failure::new(Kind::Io, what).because(error)
    };
    let path = BlockDevice::read((major, minor)).map_err(failed)?.node();
    let file = File::open(&path).map_err(failed)?;
    match device::identity(&file).map_err(failed)? {
        device::Identity::Block { device } if device == (major, minor) => Ok(Source { file, path }),
        _ => {
            let what = format!("{} is another device", path.display());
            Err(failed(io::Error::new(io::ErrorKind::NotFound, what)))
        }
    }
}

/// What tells a file or block device from another one of its name.
fn life(file: &File) -> Result<(Option<u64>, Option<Live>), Failure> {
    Ok(match device::identity(file)? {
        device::Identity::File { inode, .. } => (Some(inode), None),
        device::Identity::Block { device } => {
            let diskseq = diskseq(device);
            (None, Some(Live { boot: clock::boot_id(), device, diskseq }))
        }
    })
}

/// Of a partition that of its disk; 0 where it has none (before Linux 5.15).
fn diskseq(number: Number) -> u64 {
    BlockDevice::read(number).ok().and_then(|device| device.diskseq).unwrap_or(0)
}

fn sectors(count: u64) -> Option<u64> {
    count.checked_mul(512)
}

/// Where what parity covers of the hash device ends: at the parity, if that is on the same device
/// (as `verity open` has it).
fn covered_end(parity: &File, hash: &File, layout: &Layout, offset: u64) -> io::Result<u64> {
    if device::identity(parity)? == device::identity(hash)? {
        return Ok(offset);
    }
    Ok(bytes(hash)?.max(layout.tree_bytes().end))
}

fn bytes(mut file: &File) -> io::Result<u64> {
    io::Seek::seek(&mut file, io::SeekFrom::End(0))
}

fn unusable_fec(error: &AreaError) -> Failure {
    Failure::new(Kind::Unusable, "its error correction data cannot be used")
        .because(error.to_string())
}
