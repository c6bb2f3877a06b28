//! Single values: ids, modes, flags, capabilities and other numbers with names.

use std::io::Write;

use super::Names;
use super::number::{TooBig, low, signed, unsigned, unsigned32};
use crate::tables::syscall::Machine;
use crate::tables::{Named, errno, file, name_of, process};

/// How a number without a name is shown: `unknown-WHAT(VALUE)`.
#[derive(Clone, Copy)]
pub(super) struct Unknown {
    what: &'static str,
    prefix: &'static str,
}

impl Unknown {
    /// With `0x` before the value.
    pub(super) const fn hex(what: &'static str) -> Unknown {
        Unknown { what, prefix: "0x" }
    }

    /// With the value alone.
    pub(super) const fn bare(what: &'static str) -> Unknown {
        Unknown { what, prefix: "" }
    }
}

pub(super) fn unknown(unknown: Unknown, value: &[u8], out: &mut Vec<u8>) {
    put(out, format_args!("unknown-{}({}", unknown.what, unknown.prefix));
    out.extend_from_slice(value);
    out.push(b')');
}

pub(super) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every byte");
}

pub(super) fn word(word: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(word.as_bytes());
}

/// The names of the bits of `bits` that `table` knows; whether there was any.
pub(super) fn flags(table: Named, bits: u32, between: &[u8], out: &mut Vec<u8>) -> bool {
    let mut any = false;
    for (bit, name) in table {
        if bits & bit != 0 {
            if any {
                out.extend_from_slice(between);
            }
            word(name, out);
            any = true;
        }
    }
    any
}

/// The name of the number in `value`, from `table`.
pub(super) fn named(
    table: Named,
    value: &[u8],
    base: u32,
    otherwise: Unknown,
    out: &mut Vec<u8>,
) -> Result<(), TooBig> {
    match name_of(table, unsigned32(value, base)?) {
        Some(name) => word(name, out),
        None => unknown(otherwise, value, out),
    }
    Ok(())
}

pub(super) fn user(uid: u32, names: &dyn Names, out: &mut Vec<u8>) {
    id(uid, |uid| names.user(uid), out);
}

pub(super) fn group(gid: u32, names: &dyn Names, out: &mut Vec<u8>) {
    id(gid, |gid| names.group(gid), out);
}

fn id<'n>(
    id: u32,
    name: impl FnOnce(u32) -> Option<std::borrow::Cow<'n, [u8]>>,
    out: &mut Vec<u8>,
) {
    match id {
        u32::MAX => word("unset", out),
        0 => word("root", out),
        _ => match name(id) {
            Some(name) => super::text::plain(&name, out),
            // Signed, as audit userspace prints it.
            None => put(out, format_args!("unknown({})", id.cast_signed())),
        },
    }
}

pub(super) fn exit(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    let code = signed(value, 10)?;
    if code < 0 {
        error(low(code.unsigned_abs()), out);
    } else {
        out.extend_from_slice(value);
    }
    Ok(())
}

/// An error number on its own: the sign is the caller's habit, 0 is none.
pub(super) fn errno(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    match signed(value, 10)? {
        0 => out.extend_from_slice(value),
        code => error(low(code.unsigned_abs()), out),
    }
    Ok(())
}

fn error(number: u32, out: &mut Vec<u8>) {
    match errno::errno(number) {
        Some((name, text)) => put(out, format_args!("{name}({text})")),
        None => put(out, format_args!("(null)(Unknown error {})", number.cast_signed())),
    }
}

pub(super) fn perm(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    const NAMES: [(u32, &str); 4] = [(4, "read"), (2, "write"), (1, "exec"), (8, "attr")];
    let bits = low(signed(value, 10)?.cast_unsigned());
    // The kernel treats nothing as everything.
    let bits = if bits == 0 { 0xf } else { bits };
    let mut any = false;
    for (bit, name) in NAMES {
        if bits & bit != 0 {
            if any {
                out.push(b',');
            }
            word(name, out);
            any = true;
        }
    }
    Ok(())
}

/// A mode with its file type, `file,suid,755`.
pub(super) fn mode(mode: u32, out: &mut Vec<u8>) {
    match mode >> 12 & 0xf {
        0o01 => word("fifo", out),
        0o02 => word("character", out),
        0o04 => word("dir", out),
        0o06 => word("block", out),
        0o10 => word("file", out),
        0o12 => word("link", out),
        0o14 => word("socket", out),
        other => put(out, format_args!("{other:03o}")),
    }
    for (bit, name) in SPECIAL {
        if mode & bit != 0 {
            out.push(b',');
            word(name, out);
        }
    }
    put(out, format_args!(",{:03o}", mode & 0o777));
}

/// A mode without a type, `0644` or `suid,0755`.
pub(super) fn short_mode(mode: u32, out: &mut Vec<u8>) {
    for (bit, name) in SPECIAL {
        if mode & bit != 0 {
            word(name, out);
            out.push(b',');
        }
    }
    put(out, format_args!("0{:03o}", mode & 0o777));
}

const SPECIAL: [(u32, &str); 3] = [(0o4000, "suid"), (0o2000, "sgid"), (0o1000, "sticky")];

pub(super) fn success(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    if !value.first().is_some_and(u8::is_ascii_digit) {
        super::text::plain(value, out);
        return Ok(());
    }
    word(
        match unsigned32(value, 10)? {
            0 => "no",
            1 => "yes",
            _ => "unset",
        },
        out,
    );
    Ok(())
}

pub(super) fn signal(value: &[u8], base: u32, out: &mut Vec<u8>) -> Result<(), TooBig> {
    let otherwise = if base == 16 { Unknown::hex("signal") } else { Unknown::bare("signal") };
    named(process::SIGNALS, value, base, otherwise, out)
}

pub(super) fn capability(value: &[u8], base: u32, out: &mut Vec<u8>) -> Result<(), TooBig> {
    let otherwise =
        if base == 16 { Unknown::hex("capability") } else { Unknown::bare("capability") };
    named(process::CAPABILITIES, value, base, otherwise, out)
}

pub(super) fn capabilities(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    let bits = unsigned(value, 16)?;
    let mut any = false;
    for (number, name) in process::CAPABILITIES {
        if bits >> number & 1 != 0 {
            if any {
                out.push(b',');
            }
            word(name, out);
            any = true;
        }
    }
    if !any {
        word("none", out);
    }
    Ok(())
}

/// The flags of `open` that `bits` (read from `value`) are on `machine`.
pub(super) fn open_flags(bits: u32, machine: Option<Machine>, value: &[u8], out: &mut Vec<u8>) {
    let bits = match machine {
        Some(Machine::Arm | Machine::Aarch64) => open_bits_of_arm(bits),
        _ => bits,
    };
    let read_only = bits & 3 == 0;
    if read_only {
        word("O_RDONLY", out);
        if file::OPEN_FLAGS.iter().any(|(bit, _)| bits & bit != 0) {
            out.push(b'|');
        }
    }
    if !flags(file::OPEN_FLAGS, bits, b"|", out) && !read_only {
        word("0x", out);
        out.extend_from_slice(value);
    }
}

/// Arm has four flags in other places: `O_DIRECTORY` 040000, `O_NOFOLLOW`
/// 0100000, `O_DIRECT` 0200000, `O_LARGEFILE` 0400000.
fn open_bits_of_arm(bits: u32) -> u32 {
    const MOVED: [(u32, u32); 4] = [
        (0o40_000, 0o200_000),
        (0o100_000, 0o400_000),
        (0o200_000, 0o40_000),
        (0o400_000, 0o100_000),
    ];
    MOVED.iter().fold(
        bits & !0o740_000,
        |sum, (arm, common)| {
            if bits & arm != 0 { sum | common } else { sum }
        },
    )
}

pub(super) fn mmap_flags(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    let bits = unsigned32(value, 16)?;
    let file = bits & 0xf == 0;
    if file {
        word("MAP_FILE", out);
        if file::MMAP_FLAGS.iter().any(|(bit, _)| bits & bit != 0) {
            out.push(b'|');
        }
    }
    if !flags(file::MMAP_FLAGS, bits, b"|", out) && !file {
        word("0x", out);
        out.extend_from_slice(value);
    }
    Ok(())
}

pub(super) fn resolve(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    if !flags(file::RESOLVE, low(unsigned(value, 16)?), b"|", out) {
        word("0x", out);
        out.extend_from_slice(value);
    }
    Ok(())
}

/// Flags of a path lookup, which the first kernels with audit logged.
pub(super) fn lookup_flags(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    let bits = unsigned32(value, 16)?;
    if bits == 0 {
        word("none", out);
    } else if !flags(file::LOOKUP_FLAGS, bits, b",", out) {
        word("0x", out);
        out.extend_from_slice(value);
    }
    Ok(())
}

pub(super) fn ioctl(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    let request = unsigned32(value, 16)?;
    match name_of(file::IOCTL, request) {
        Some(name) => word(name, out),
        None => put(out, format_args!("{request:#x}")),
    }
    Ok(())
}

pub(super) fn personality(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    const NO_RANDOMIZE: u32 = 0x0004_0000;
    let personality = unsigned32(value, 16)?;
    match name_of(process::PERSONALITIES, personality & 0xff) {
        Some(name) => {
            word(name, out);
            if personality & NO_RANDOMIZE != 0 {
                word("|~ADDR_NO_RANDOMIZE", out);
            }
        }
        None => unknown(Unknown::hex("personality"), value, out),
    }
    Ok(())
}

pub(super) fn seccomp(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    /// `SECCOMP_RET_ACTION`: kills of thread and process read alike.
    const ACTION: u32 = 0x7fff_0000;
    match name_of(process::SECCOMP, unsigned32(value, 16)? & ACTION) {
        Some(name) => word(name, out),
        None => unknown(Unknown::bare("seccomp-code"), value, out),
    }
    Ok(())
}

pub(super) fn fanotify(value: &[u8], out: &mut Vec<u8>) -> Result<(), TooBig> {
    if !value.first().is_some_and(u8::is_ascii_digit) {
        super::text::plain(value, out);
        return Ok(());
    }
    word(
        match unsigned32(value, 10)? {
            1 => "allow",
            2 => "deny",
            _ => "unknown",
        },
        out,
    );
    Ok(())
}
