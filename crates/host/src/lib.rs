//! The kernel as safe functions on owned and borrowed descriptors: FUSE volumes, mounts, facts
//! about processes, the sandbox of a device server, audit, the device mapper, the kernel's messages.
//!
//! No policy here: what a call means is decided elsewhere. Unsafe code is only in the modules of
//! single system calls that rustix, fuser and seccompiler have not, such as `drops`.

pub mod audit;
pub mod background;
pub mod block_device;
pub mod bpf;
pub mod btrfs;
pub mod channel;
pub mod clock;
pub mod device;
pub mod dm;
mod drops;
pub mod extents;
pub mod fuse;
pub mod fuse_tree;
#[allow(unsafe_code, reason = "ioctl(2)")]
mod ioctl;
pub mod keyring;
pub mod kmsg;
pub mod loop_device;
pub mod mount;
pub mod mount_namespaces;
pub mod mountinfo;
pub mod notify;
pub mod peer;
pub mod process;
pub mod pstore;
pub mod sandbox;
pub mod space_map;
pub mod target;
mod text;
pub mod uevent;
mod wait;
