//! A device event of the kernel (kobject_uevent), as it comes from netlink.
//!
//! ```text
//! change@/devices/virtual/block/dm-0\0ACTION=change\0DEVPATH=...\0SUBSYSTEM=block\0
//! DM_VERITY_ERR_BLOCK_NR=0,10\0MAJOR=253\0MINOR=0\0DEVNAME=dm-0\0DEVTYPE=disk\0DISKSEQ=9\0SEQNUM=4711\0
//! ```
//!
//! dm-verity sends one for each of the first hundred mismatches of an activation: `0,N` is data
//! block N, `1,N` is block N of the *hash device*.

use super::DeviceNumber;
use crate::text::{decimal, split_once};

/// What happened to a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `change`, `remove` ...
    pub action: Action,
    /// The device.
    pub device: DeviceNumber,
    /// What dm-verity found.
    pub mismatch: Option<Mismatch>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It came.
    Add,
    /// Something about it changed.
    Change,
    /// It went.
    Remove,
}

/// A block that does not match its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// A data block.
    Data(u64),
    /// A block of the hash device.
    Hash(u64),
}

impl Uevent {
    /// Reads a datagram; `None` where it is not about a mapped device (`dm-N`), or has another form.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Option<Uevent> {
        let mut parts = raw.split(|byte| *byte == 0);
        let (head, path) = split_once(parts.next()?, b"@")?;
        let (mut major, mut minor, mut block, mut dm) = (None, None, false, false);
        let mut mismatch = None;
        for part in parts.take(MOST_KEYS) {
            let Some((key, value)) = split_once(part, b"=") else { continue };
            match key {
                b"ACTION" if value != head => return None,
                b"DEVPATH" if value != path => return None,
                b"SUBSYSTEM" => block = value == b"block",
                b"DEVNAME" => {
                    dm = value.strip_prefix(b"dm-").and_then(decimal::<u32>).is_some();
                }
                b"MAJOR" => major = decimal(value),
                b"MINOR" => minor = decimal(value),
                b"DM_VERITY_ERR_BLOCK_NR" => mismatch = Some(Mismatch::parse(value)?),
                _ => {}
            }
        }
        let action = match head {
            b"add" => Action::Add,
            b"change" => Action::Change,
            b"remove" => Action::Remove,
            _ => return None,
        };
        // dm-verity itself sends SUBSYSTEM and DEVNAME too; a message without them is not its.
        (block && dm).then_some(Uevent { action, device: (major?, minor?), mismatch })
    }
}

/// The kernel's own limit is 64 (`UEVENT_NUM_ENVP`).
const MOST_KEYS: usize = 64;

impl Mismatch {
    fn parse(value: &[u8]) -> Option<Mismatch> {
        let (kind, number) = split_once(value, b",")?;
        match kind {
            b"0" => decimal(number).map(Mismatch::Data),
            b"1" => decimal(number).map(Mismatch::Hash),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(action: &str, keys: &[&str]) -> Vec<u8> {
        let path = "/devices/virtual/block/dm-0";
        let mut raw =
            format!("{action}@{path}\0ACTION={action}\0DEVPATH={path}\0SUBSYSTEM=block\0");
        for key in keys {
            raw.push_str(key);
            raw.push('\0');
        }
        raw.push_str("MAJOR=253\0MINOR=0\0DEVNAME=dm-0\0DEVTYPE=disk\0DISKSEQ=9\0SEQNUM=4711\0");
        raw.into_bytes()
    }

    #[test]
    fn what_verity_sends() {
        let found = |key: &str| Uevent::parse(&datagram("change", &[key])).unwrap().mismatch;
        assert_eq!(found("DM_VERITY_ERR_BLOCK_NR=0,10"), Some(Mismatch::Data(10)));
        assert_eq!(found("DM_VERITY_ERR_BLOCK_NR=1,3"), Some(Mismatch::Hash(3)));
        let plain = Uevent::parse(&datagram("add", &[])).unwrap();
        assert_eq!((plain.device, plain.mismatch), ((253, 0), None));
    }

    #[test]
    fn other_messages_are_none_of_ours() {
        for raw in [
            &b""[..],
            b"libudev\0\xfe\xed\xca\xfe",
            b"change@/devices/x\0ACTION=change\0SUBSYSTEM=net\0MAJOR=1\0MINOR=2\0",
            b"change@/devices/x\0ACTION=remove\0SUBSYSTEM=block\0DEVNAME=dm-0\0MAJOR=1\0MINOR=2\0",
            b"change@/d\0ACTION=change\0SUBSYSTEM=block\0DEVNAME=sda\0MAJOR=8\0MINOR=0\0DM_VERITY_ERR_BLOCK_NR=0,1\0",
        ] {
            assert_eq!(Uevent::parse(raw), None, "{}", raw.escape_ascii());
        }
        for value in ["2,1", "0", "0,", "0,-1", "0,99999999999999999999", ",1"] {
            let key = format!("DM_VERITY_ERR_BLOCK_NR={value}");
            assert_eq!(Uevent::parse(&datagram("change", &[&key])), None, "{value}");
        }
    }
}
