//! `/proc/self/mountinfo` (proc_pid_mountinfo(5)): what is mounted where, without asking any
//! file system for an answer.
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//! id |  |    root  point options    tags     | type source    super options
//!    parent                                  separator
//!       major:minor
//! ```
//!
//! The kernel writes the text, but users choose the names in it: paths are octal-escaped, and
//! sources may be anything. A line that is not of this form is passed over.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fs, io};

use crate::text::decimal;

/// One line: a mount of this process's mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry<'a> {
    /// Number of the mount; unique while it exists.
    pub id: u32,
    /// Number of the mount it lies on.
    pub parent: u32,
    /// `st_dev` of the files on it: major and minor.
    pub device: (u32, u32),
    /// What of the file system is mounted, unescaped.
    pub root: Cow<'a, [u8]>,
    /// Where, unescaped; relative to this process's root directory.
    pub point: Cow<'a, [u8]>,
    /// Type, with its subtype: `fuse.veritrail`.
    pub fs_type: &'a [u8],
    /// What mount(2) was given as its source, unescaped.
    pub source: Cow<'a, [u8]>,
    /// Whether nothing can be written to the file system by any of its mounts.
    pub read_only: bool,
}

impl<'a> MountEntry<'a> {
    /// Reads one line, without its line feed; `None` where it has another form.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|b| *b == b' ');
        let id = decimal(fields.next()?)?;
        let parent = decimal(fields.next()?)?;
        let device = device_pair(fields.next()?)?;
        let root = unescape(fields.next()?);
        let point = unescape(fields.next()?);
        let _options = fields.next()?;
        // Any number of tags, and a tag is never a lone dash.
        fields.by_ref().find(|field| *field == b"-")?;
        let fs_type = fields.next()?;
        let source = unescape(fields.next()?);
        let read_only = fields.next()?.split(|b| *b == b',').next() == Some(b"ro");
        Some(Self { id, parent, device, root, point, fs_type, source, read_only })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.point))
    }
}

/// Every mount in `text`, in the kernel's order: of two on one point the later covers the other.
pub fn entries(text: &[u8]) -> impl Iterator<Item = MountEntry<'_>> {
    text.split(|b| *b == b'\n').filter_map(MountEntry::parse)
}

/// The text for this process.
///
/// # Errors
/// Where `/proc` is not mounted.
pub fn read() -> io::Result<Vec<u8>> {
    fs::read("/proc/self/mountinfo")
}

/// `MAJOR:MINOR`, as mountinfo and sysfs write a device number.
#[must_use]
pub(crate) fn device_pair(text: &[u8]) -> Option<(u32, u32)> {
    let colon = text.iter().position(|b| *b == b':')?;
    Some((decimal(&text[..colon])?, decimal(&text[colon + 1..])?))
}

/// Undoes the kernel's `\ooo`. A backslash that begins no three octal digits of one byte stands
/// for itself.
fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', behind @ ..]) => {
                bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = behind;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    Cow::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_manual_page() {
        let line =
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let entry = MountEntry::parse(line).unwrap();
        assert_eq!((entry.id, entry.parent, entry.device), (36, 35, (98, 0)));
        assert_eq!((&*entry.root, &*entry.point), (&b"/mnt1"[..], &b"/mnt2"[..]));
        assert_eq!((entry.fs_type, &*entry.source), (&b"ext3"[..], &b"/dev/root"[..]));
        assert!(!entry.read_only);
        // Of the mount and of the file system.
        for (line, read_only) in [
            (&b"1 2 0:3 / /m ro - t s rw,ro"[..], false),
            (b"1 2 0:3 / /m rw - t s ro,errors=continue", true),
            (b"1 2 0:3 / /m rw - t s ro", true),
        ] {
            assert_eq!(MountEntry::parse(line).unwrap().read_only, read_only);
        }
    }

    #[test]
    fn tags_are_none_or_many() {
        for tags in ["", "shared:1 ", "shared:1 master:2 propagate_from:3 unbindable "] {
            let line = format!("1 2 0:3 / /m rw {tags}- fuse.veritrail veritrail ro");
            let entry = MountEntry::parse(line.as_bytes()).unwrap();
            assert_eq!(entry.fs_type, b"fuse.veritrail");
        }
    }

    #[test]
    fn names_come_back_as_they_were() {
        let line = br"1 2 0:3 / /a\040b\134c\012\011\043\377 rw - t s\040t o";
        let entry = MountEntry::parse(line).unwrap();
        assert_eq!(&*entry.point, b"/a b\\c\n\t#\xff");
        assert_eq!(&*entry.source, b"s t");
        // Not the kernel's: too large for a byte, too short, not octal.
        for odd in [&br"/\400"[..], br"/\04", br"/\08x", br"/\"] {
            assert_eq!(&*unescape(odd), odd);
        }
    }

    #[test]
    fn other_forms_are_passed_over() {
        for line in [
            &b""[..],
            b"1",
            b"1 2 0:3 / /m rw",
            b"1 2 0:3 / /m rw -",
            b"1 2 0:3 / /m rw - t",
            b"1 2 0:3 / /m rw - t s",
            b"x 2 0:3 / /m rw - t s o",
            b"1 2 03 / /m rw - t s o",
            b"1 2 0:4294967296 / /m rw - t s o",
            b"1 +2 0:3 / /m rw - t s o",
        ] {
            assert_eq!(MountEntry::parse(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn the_running_kernel_s_lines_are_all_read() {
        let text = read().unwrap();
        let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count();
        assert_eq!(entries(&text).count(), lines);
        assert!(entries(&text).any(|entry| entry.path() == Path::new("/proc")));
    }
}
