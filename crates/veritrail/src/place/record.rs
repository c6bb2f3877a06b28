//! An explanation as records: VT_FILE for what was hit, VT_MOUNT for where it can be seen
//! (docs/formats/agent.md).

use record::write::Body;

use super::{Explanation, Hit, Mounted, Use, What};

/// A record of ours: its name and its body.
pub(crate) type Named = (&'static str, Body);

/// No more VT_FILE records of one explanation, and no more VT_MOUNT.
const MOST_FILES: usize = 16;
const MOST_MOUNTS: usize = 64;

/// No more bytes of words about what could not be found out.
const LONGEST_MISSED: usize = 400;

/// The records of an explanation: none where no mounted file system has the bytes.
pub(crate) fn records(explanation: &Explanation) -> Vec<Named> {
    let mut files = Vec::new();
    let mut mounts = Vec::new();
    let (mut more_files, mut more_mounts) = (0u64, 0u64);
    for hit in &explanation.hits {
        more_files += hit.more_uses;
        for one in &hit.uses {
            if files.len() < MOST_FILES {
                files.push(("VT_FILE", file(hit, one)));
            } else {
                more_files += 1;
            }
        }
        for mount in &hit.mounts {
            if mounts.len() < MOST_MOUNTS {
                mounts.push(("VT_MOUNT", mounted(hit, mount)));
            } else {
                more_mounts += 1;
            }
        }
    }
    for (list, more) in [(&mut files, more_files), (&mut mounts, more_mounts)] {
        if let Some((_, last)) = list.last_mut()
            && more > 0
        {
            *last = std::mem::take(last).word("more", more);
        }
    }
    files.append(&mut mounts);
    // Who lists fewer mounts than there are has to say so: others can pile them up.
    if let Some((_, first)) = files.first_mut()
        && !explanation.gaps.is_empty()
    {
        let gaps = explanation.gaps.join("; ");
        let end = gaps.floor_char_boundary(LONGEST_MISSED);
        *first = std::mem::take(first).phrase("missed", gaps.get(..end).unwrap_or_default());
    }
    files
}

fn file(hit: &Hit, one: &Use) -> Body {
    let (major, minor) = hit.device;
    let body = Body::new()
        .word("dev", format_args!("{major}:{minor}"))
        .untrusted("fs", &hit.fs_type)
        .word("use", one.what.word());
    let bytes = |body: Body| match one.bytes.end.checked_sub(1) {
        Some(last) => body.word("bytes", format_args!("{}-{last}", one.bytes.start)),
        None => body,
    };
    match &one.what {
        What::File { inode, path: name, offset, links } => {
            let mut body = path(body.word("inode", inode), "file", name.as_deref(), 3000);
            if *links > 1 {
                body = body.word("links", links);
            }
            if let Some(offset) = offset {
                body = body.word("offset", offset);
            }
            bytes(body)
        }
        What::Metadata { of, inode, path: name } => {
            let body = match inode {
                Some(inode) => body.word("inode", inode),
                None => body,
            };
            bytes(path(body, "file", name.as_deref(), 3000)).phrase("of", of)
        }
        What::Free => bytes(body),
        What::Unknown { reason } => bytes(body).phrase("reason", reason),
    }
}

fn mounted(hit: &Hit, mount: &Mounted) -> Body {
    let body = Body::new().word("mntns", mount.namespace).word("pid", mount.pid);
    let body = path(body, "point", Some(&mount.point), 1000);
    let body = match mount.root.as_slice() {
        b"/" => body,
        root => path(body, "root", Some(root), 1000),
    };
    let first = hit.uses.iter().find_map(|one| one.what.path());
    let seen = first.and_then(|file| mount.path_of(file));
    path(body, "file", seen.as_deref(), 1000)
}

/// A path; of one that is longer than `most` bytes the beginning, and how long it is. In hex it is twice
/// as long, and a stored line has less than nine thousand.
fn path(body: Body, key: &str, path: Option<&[u8]>, most: usize) -> Body {
    let Some(path) = path else { return body };
    match path.get(..most) {
        Some(beginning) if path.len() > most => {
            body.untrusted(key, beginning).word(&format!("{key}_length"), path.len())
        }
        _ => body.untrusted(key, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(uses: Vec<Use>, mounts: usize) -> Hit {
        let mounted = |n| Mounted {
            namespace: 4_026_531_841,
            pid: 1,
            point: format!("/mnt{n}").into_bytes(),
            root: if n == 1 { b"/etc".to_vec() } else { b"/".to_vec() },
            is_ours: true,
        };
        Hit {
            stack: Vec::new(),
            device: (7, 0),
            fs_type: b"ext4".to_vec(),
            bytes: 0..4096,
            uses,
            more_uses: 0,
            mounts: (0..mounts).map(mounted).collect(),
            notes: Vec::new(),
        }
    }

    fn text(hit: Hit) -> Vec<String> {
        let explanation = Explanation { hits: vec![hit], ..Explanation::default() };
        let line = |(name, body): Named| format!("{name} {}", body.as_bytes().escape_ascii());
        records(&explanation).into_iter().map(line).collect()
    }

    #[test]
    fn uses_are_told_apart() {
        let uses = [
            What::File {
                inode: 13,
                path: Some(b"/etc/motto".to_vec()),
                offset: Some(8192),
                links: 2,
            },
            What::Metadata {
                of: "directory".to_owned(),
                inode: Some(12),
                path: Some(b"/a b".to_vec()),
            },
            What::Free,
            What::Unknown { reason: "it's late".to_owned() },
        ];
        let uses = uses.into_iter().map(|what| Use { bytes: 512..1024, what }).collect();
        assert_eq!(
            text(hit(uses, 2)),
            [
                r#"VT_FILE dev=7:0 fs=\"ext4\" use=file inode=13 file=\"/etc/motto\" links=2 offset=8192 bytes=512-1023"#,
                r#"VT_FILE dev=7:0 fs=\"ext4\" use=metadata inode=12 file=2F612062 bytes=512-1023 of=\'directory\'"#,
                r#"VT_FILE dev=7:0 fs=\"ext4\" use=free bytes=512-1023"#,
                r#"VT_FILE dev=7:0 fs=\"ext4\" use=unknown bytes=512-1023 reason=\'it?s late\'"#,
                r#"VT_MOUNT mntns=4026531841 pid=1 point=\"/mnt0\" file=\"/mnt0/etc/motto\""#,
                r#"VT_MOUNT mntns=4026531841 pid=1 point=\"/mnt1\" root=\"/etc\" file=\"/mnt1/motto\""#,
            ]
        );
    }

    #[test]
    fn of_an_inode_there_are_no_bytes() {
        let what = What::File { inode: 13, path: None, offset: None, links: 0 };
        let found = text(hit(vec![Use { bytes: 0..0, what }], 0));
        assert_eq!(found, [r#"VT_FILE dev=7:0 fs=\"ext4\" use=file inode=13"#]);
    }

    #[test]
    fn what_was_not_seen_is_said() {
        let what = What::Free;
        let hit = hit(vec![Use { bytes: 0..512, what }], 1);
        let gaps = vec!["3 mount namespaces were not read".to_owned(), "\u{e9}".repeat(4000)];
        let explanation = Explanation { hits: vec![hit], gaps, ..Explanation::default() };
        let records = records(&explanation);
        let first = String::from_utf8(records[0].1.as_bytes().to_vec()).unwrap();
        assert!(first.contains(" missed='3 mount namespaces were not read; ???"), "{first}");
        assert!(first.len() < 600, "{}", first.len());
    }

    #[test]
    fn what_is_left_out_is_counted_and_no_line_is_too_long() {
        let name = vec![b' '; 4095];
        let what = What::File { inode: u64::MAX, path: Some(name), offset: Some(1), links: 9 };
        let one = Use { bytes: 0..u64::MAX, what };
        let mut hit = hit(vec![one; 20], 70);
        for mount in &mut hit.mounts {
            mount.point = vec![b' '; 4095];
        }
        hit.more_uses = 5;
        let lines = text(hit);
        assert_eq!(lines.len(), 16 + 64);
        assert!(lines[15].ends_with(" more=9") && lines[79].ends_with(" more=6"), "{}", lines[79]);
        let longest = lines.iter().map(String::len).max().unwrap();
        assert!(longest < record::write::LONGEST_LINE - record::write::LONGEST_TAIL, "{longest}");
        assert!(lines[0].contains(" file_length=4095 "));
    }
}
