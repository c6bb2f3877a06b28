//! The network namespaces of this machine, and what their interfaces are: asked where nothing in the
//! kernel tells the namespace of a packet. Each is read through a process in it; its text is the kernel's,
//! but whoever configures the namespace decides how much there is of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engine::containers::Interfaces;
use engine::tasks::Tasks;
use host::mountinfo::MountEntry;

use crate::clock;

/// The most that is read of a file, in bytes. One that is longer is not whole.
const LONGEST: u64 = 64 << 10;

/// Namespaces that are looked at.
const MOST: usize = 1024;

/// What was read last: packets that are asked for together are answered from one reading.
#[derive(Debug, Default)]
pub(super) struct Seen {
    at_ns: u64,
    all: Vec<Interfaces>,
}

impl Seen {
    /// As they were at that time or later.
    pub(super) fn at(&mut self, at_ns: u64, tasks: &Tasks) -> &[Interfaces] {
        if self.at_ns <= at_ns {
            self.at_ns = clock::now().boottime_ns;
            let complete = tasks.counts().turned_away == 0;
            self.all = all(&tasks.networks(at_ns), complete);
        }
        &self.all
    }
}

/// All that are known: those of processes, each by one of these that is still there, and those that are only mounted
/// somewhere. What cannot be read may have any address.
pub(super) fn all(of_processes: &BTreeMap<u32, Vec<u32>>, complete: bool) -> Vec<Interfaces> {
    let nothing =
        Interfaces { network: 0, local: Vec::new(), others: 0, forwards: [true; 2], whole: false };
    let unread = |network| Interfaces { network, ..nothing.clone() };
    let looked = of_processes.iter().take(MOST).map(|(network, pids)| {
        let mut read = pids.iter().filter_map(|pid| read(*network, *pid).ok());
        read.next().unwrap_or_else(|| unread(*network))
    });
    let mut all: Vec<Interfaces> = looked.collect();
    let mounted = mounted().unwrap_or_else(|_| vec![0]).into_iter();
    all.extend(mounted.filter(|one| !of_processes.contains_key(one)).map(unread));
    if !complete || of_processes.len() > MOST {
        all.push(unread(0));
    }
    all
}

fn read(network: u32, pid: u32) -> io::Result<Interfaces> {
    let text = |name| text(&format!("/proc/{pid}/net/{name}"));
    let (four, whole) = text("fib_trie")?;
    let mut local = addresses(&four);
    let (devices, all_devices) = text("dev")?;
    let (counters, _) = text("snmp")?;
    // Without IPv6 there is no such file.
    let (six, all_six) = text("if_inet6").unwrap_or((String::new(), true));
    local.extend(six.lines().filter_map(address_of_six));
    let forwards = [forwards(&counters), has_several(&six)];
    let link = fs::read_link(format!("/proc/{pid}/ns/net"))?;
    if link.to_str() != Some(&format!("net:[{network}]")) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let whole = whole && all_devices && all_six;
    Ok(Interfaces { network, local, others: others(&devices), forwards, whole })
}

/// What a file says, and whether that is all.
fn text(path: &str) -> io::Result<(String, bool)> {
    let mut text = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut text)?;
    let whole = u64::try_from(text.len()).is_ok_and(|length| length < LONGEST);
    Ok((String::from_utf8_lossy(&text).into_owned(), whole))
}

/// The inode numbers of the network namespaces that are mounted as files.
fn mounted() -> io::Result<Vec<u32>> {
    let text = fs::read("/proc/self/mountinfo")?;
    let number = |line| {
        let entry = MountEntry::parse(line).filter(|entry| entry.fs_type == b"nsfs")?;
        let root = str::from_utf8(&entry.root).ok()?;
        root.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
    };
    Ok(text.split(|byte| *byte == b'\n').filter_map(number).collect())
}

/// Addresses of `/proc/net/fib_trie` for which a packet is taken in, each with its bits.
fn addresses(text: &str) -> Vec<(IpAddr, u8)> {
    let mut found = Vec::new();
    let mut address: Option<Ipv4Addr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(leaf) = line.strip_prefix("|-- ") {
            address = leaf.parse().ok();
        } else if line.ends_with(" LOCAL") || line.ends_with(" BROADCAST") {
            let bits = line.strip_prefix('/').and_then(|line| line.split(' ').next()?.parse().ok());
            found.extend(address.zip(bits).map(|(address, bits)| (IpAddr::V4(address), bits)));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// An address of `/proc/net/if_inet6`: 32 digits, then five columns.
fn address_of_six(line: &str) -> Option<(IpAddr, u8)> {
    let digits = line.split_ascii_whitespace().next().filter(|digits| digits.len() == 32)?;
    let number = u128::from_str_radix(digits, 16).ok()?;
    Some((Ipv6Addr::from(number).into(), 128))
}

/// Whether two interfaces beside the loopback one have an address in `/proc/net/if_inet6`: no file tells of
/// another namespace whether it hands IPv6 on.
fn has_several(text: &str) -> bool {
    let names = text.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
    names.filter(|name| *name != "lo").collect::<BTreeSet<_>>().len() > 1
}

/// Whether IPv4 is handed on: the first number of `/proc/net/snmp` is 2 where it is not.
fn forwards(text: &str) -> bool {
    let numbers = text.lines().filter_map(|line| line.strip_prefix("Ip: ")).nth(1);
    numbers.and_then(|numbers| numbers.split(' ').next()) != Some("2")
}

/// How many interfaces of `/proc/net/dev` are not the loopback one.
fn others(text: &str) -> usize {
    let names = text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    names.filter(|name| *name != "lo").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_what_the_kernel_says() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 4\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                    Local:\n  +-- 127.0.0.0/8 2 0 2\n     |-- 127.0.0.0\n        /8 host LOCAL\n\
                    \x20    |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n\
                    \x20    |-- garbage\n        /32 host LOCAL\n  /x LOCAL\n";
        let [net, one, all]: [IpAddr; 3] =
            ["127.0.0.0", "127.0.0.1", "10.0.0.255"].map(|text| text.parse().unwrap());
        assert_eq!(addresses(text), [(all, 32), (net, 8), (one, 32)]);
        let line = "00000000000000000000000000000001 01 80 10 80       lo";
        assert_eq!(address_of_six(line), Some(("::1".parse().unwrap(), 128)));
        for wrong in ["", "1 01", "0000000000000000000000000000000g 01 80 10 80 lo"] {
            assert_eq!(address_of_six(wrong), None);
        }
        let text = "Inter-|   Receive\n face |bytes\n    lo: 0 0\n  eth0: 1 2\n";
        assert_eq!(others(text), 1);
        assert!(!forwards("Ip: Forwarding DefaultTTL\nIp: 2 64\n"));
        assert!(forwards("Ip: Forwarding DefaultTTL\nIp: 1 64\n") && forwards(""));
        let several = |names: [&str; 2]| {
            has_several(&names.map(|name| format!("1 2 3 4 5 {name}")).join("\n"))
        };
        assert!(several(["a", "b"]) && !several(["a", "a"]) && !several(["lo", "a"]));
    }

    #[test]
    fn our_own_namespace_is_read_through_a_process_in_it() {
        let link = fs::read_link("/proc/self/ns/net").unwrap();
        let number = link.to_str().unwrap().trim_matches(|c: char| !c.is_ascii_digit());
        let own: u32 = number.parse().unwrap();
        let found = all(&BTreeMap::from([(own, vec![u32::MAX, std::process::id()])]), true);
        let ours = found.iter().find(|one| one.network == own).unwrap();
        assert!(ours.whole, "{ours:?}");
        // Through one that is in another, or is none, it is not.
        let found = all(&BTreeMap::from([(1, vec![std::process::id()]), (2, Vec::new())]), false);
        assert!(found.iter().all(|one| !one.whole), "{found:?}");
        assert!(found.iter().any(|one| one.network == 0));
    }
}
