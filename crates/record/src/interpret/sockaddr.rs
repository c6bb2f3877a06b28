//! Socket addresses: the raw bytes of `saddr=`.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::text::{escape, unhex, until};
use crate::tables::{name_of, net};

/// The longest address the kernel copies (`sockaddr_storage`).
const LONGEST: usize = 128;

/// Writes a decoded address, `{ saddr_fam=inet laddr=127.0.0.1 lport=1 }`.
///
/// The family stands in the byte order of the machine that logged it; a
/// little-endian one is assumed, as are `sockaddr_in` and its like:
///
/// ```text
///  inet     family(2) port(2, big endian) address(4) ...
///  inet6    family(2) port(2, big endian) flow(4) address(16) scope(4)
///  local    family(2) path(up to 108)
///  netlink  family(2) pad(2) pid(4) groups(4)
///  vsock    family(2) reserved(2) port(4) cid(4) ...
///  packet   family(2) protocol(2, big endian) interface(4) ...
/// ```
pub(super) fn sockaddr(value: &[u8], out: &mut Vec<u8>) {
    let mut raw = Vec::with_capacity(LONGEST);
    unhex(&value[..value.len().min(2 * LONGEST)], &mut raw);
    let Some((family, rest)) = raw.split_first_chunk::<2>() else {
        return put(out, format_args!("malformed-host({})", value.escape_ascii()));
    };
    let family = u16::from_le_bytes(*family);
    let Some(name) = name_of(net::FAMILIES, family.into()) else {
        return put(out, format_args!("unknown-family({family})"));
    };
    put(out, format_args!("{{ saddr_fam={name} "));
    let known = match name {
        "local" => local(rest, out),
        "inet" => inet(rest, out),
        "inet6" => inet6(rest, out),
        "netlink" => netlink(rest, out),
        "vsock" => vsock(rest, out),
        "packet" => packet(rest, out),
        "ax25" => ax25(rest, out),
        "atmpvc" => atmpvc(rest, out),
        "x25" => x25(rest, out),
        _ => {
            out.extend_from_slice(b"(unsupported)");
            Some(())
        }
    };
    if known.is_none() {
        out.extend_from_slice(match name {
            "inet6" => b"sockaddr6 len too short",
            "netlink" => b"len too short",
            _ => b"sockaddr len too short",
        });
    }
    out.extend_from_slice(b" }");
}

fn local(rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if rest.len() < 2 {
        return None;
    }
    out.extend_from_slice(b"path=");
    let start = out.len();
    let path = &rest[..rest.len().min(108)];
    if path[0] == 0 {
        // Abstract: a name may hold NULs, so only those that fill it up end it.
        let name = &path[1..];
        let end = name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        out.extend_from_slice(&name[..end]);
    } else {
        out.extend_from_slice(until(path, 0));
    }
    escape(out, start);
    Some(())
}

fn inet(rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    // The whole `sockaddr_in` of 16 bytes, its padding too.
    let (port, rest) = rest.first_chunk::<14>()?.split_first_chunk::<2>()?;
    let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
    put(out, format_args!("laddr={address} lport={}", u16::from_be_bytes(*port)));
    Some(())
}

fn inet6(rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (port, rest) = rest.first_chunk::<26>()?.split_first_chunk::<2>()?;
    let address = Ipv6Addr::from(*rest[4..].first_chunk::<16>()?);
    let scope = u32::from_le_bytes(*rest.last_chunk::<4>()?);
    out.extend_from_slice(b"laddr=");
    ipv6(address, out);
    if scope != 0 {
        put(out, format_args!("%{scope}"));
    }
    put(out, format_args!(" lport={}", u16::from_be_bytes(*port)));
    Some(())
}

/// As glibc's `inet_ntop`, which shows the last four bytes of an address whose
/// first twelve are zero in dots.
fn ipv6(address: Ipv6Addr, out: &mut Vec<u8>) {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
            let bytes = Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
            put(out, format_args!("::{bytes}"));
        }
        _ => put(out, format_args!("{address}")),
    }
}

fn netlink(rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let rest = rest.first_chunk::<10>()?;
    let pid = u32::from_le_bytes(*rest[2..].first_chunk::<4>()?);
    put(out, format_args!("nlnk-fam=16 nlnk-pid={pid}"));
    Some(())
}

fn vsock(rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let rest = rest.first_chunk::<10>()?;
    let port = u32::from_le_bytes(*rest[2..].first_chunk::<4>()?);
    let cid = u32::from_le_bytes(*rest[6..].first_chunk::<4>()?);
    put(out, format_args!("cid={cid} port={port}"));
    Some(())
}

fn packet(rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let rest = rest.first_chunk::<10>()?;
    let protocol = u16::from_be_bytes(*rest.first_chunk::<2>()?);
    let interface = u32::from_le_bytes(*rest[2..].first_chunk::<4>()?);
    put(out, format_args!("proto={protocol:#x} ifindex={interface}"));
    Some(())
}

fn ax25(rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let call = rest.first_chunk::<7>()?;
    out.extend_from_slice(b"call=");
    let start = out.len();
    out.extend_from_slice(call);
    escape(out, start);
    Some(())
}

fn atmpvc(rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let interface = i16::from_le_bytes(*rest.get(2..)?.first_chunk::<2>()?);
    put(out, format_args!("int={interface}"));
    Some(())
}

fn x25(rest: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(b"laddr=");
    let start = out.len();
    out.extend_from_slice(until(&rest[..rest.len().min(15)], 0));
    escape(out, start);
    Some(())
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let cases: &[(&str, &str)] = &[
            ("020000017F0000010000000000000000", "{ saddr_fam=inet laddr=127.0.0.1 lport=1 }"),
            ("020000017F000001", "{ saddr_fam=inet sockaddr len too short }"),
            (
                "0A0000020000000000000000000000000000000000000001000000000000",
                "{ saddr_fam=inet6 laddr=::1 lport=2 }",
            ),
            (
                "0A00000200000000FE80000000000000000000000000000102000000",
                "{ saddr_fam=inet6 laddr=fe80::1%2 lport=2 }",
            ),
            (
                "0A000002000000000000000000000000000000000102030400000000",
                "{ saddr_fam=inet6 laddr=::1.2.3.4 lport=2 }",
            ),
            ("0A0000020000", "{ saddr_fam=inet6 sockaddr6 len too short }"),
            ("01002F72756E2F6E6F2073756368", "{ saddr_fam=local path=/run/no such }"),
            ("01002F746D70002F7872", "{ saddr_fam=local path=/tmp }"),
            ("010000616273", "{ saddr_fam=local path=abs }"),
            ("0100006100620000", "{ saddr_fam=local path=a\\000b }"),
            ("0100", "{ saddr_fam=local sockaddr len too short }"),
            ("100000000000000000000000", "{ saddr_fam=netlink nlnk-fam=16 nlnk-pid=0 }"),
            ("10000000", "{ saddr_fam=netlink len too short }"),
            ("28000000D204000003000000", "{ saddr_fam=vsock cid=3 port=1234 }"),
            ("11000800020000000000000000000000", "{ saddr_fam=packet proto=0x800 ifindex=2 }"),
            ("1D00", "{ saddr_fam=can (unsupported) }"),
            ("0000", "unknown-family(0)"),
            ("FFFF", "unknown-family(65535)"),
            ("02", "malformed-host(02)"),
            ("", "malformed-host()"),
            ("?", "malformed-host(?)"),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            sockaddr(value.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), *expected, "{value}");
        }
    }
}
