//! The records that tell of all this (docs/formats/containers.md).

use record::units::ContId;
use record::write::Body;

use super::groups::Group;
use super::judge::Errno;
use super::lives::{Caller, Description};
use super::{Drift, Record};
use crate::tasks::{Image, Namespaces};

/// An attempt to set an identifier, whatever came of it: V5's fields in V5's order.
pub(super) fn set(opid: u32, old: ContId, new: ContId, caller: &Caller, done: bool) -> Record {
    let body = Body::new()
        .word("op", "set")
        .word("opid", opid)
        .word("old-contid", old)
        .word("contid", new)
        .word("pid", caller.pid)
        .word("auid", caller.auid)
        .word("uid", caller.uid)
        .word("tty", caller.tty.as_deref().unwrap_or("(none)"))
        .word("ses", caller.ses);
    let body = match &caller.subj {
        Some(subj) => body.word("subj", String::from_utf8_lossy(subj)),
        None => body,
    };
    let body = body.untrusted("comm", &caller.comm);
    let body = match &caller.exe {
        Some(exe) => body.untrusted("exe", exe),
        None => body.word("exe", "(null)"),
    };
    ("CONTAINER_OP", body.word("res", u8::from(done)))
}

/// The last process of a container is gone: which, and what it was like where that was seen.
pub(super) fn drop(opid: u32, old: ContId, image: Option<&Image>) -> Record {
    let body = Body::new()
        .word("op", "drop")
        .word("opid", opid)
        .word("old-contid", old)
        .word("contid", ContId::UNSET);
    let body = match image {
        Some(image) => {
            let body = body
                .word("pid", opid)
                .word("auid", image.loginuid)
                .word("uid", image.uid)
                .word("ses", image.session)
                .untrusted("comm", image.name());
            match &image.program {
                Some(program) => body.untrusted("exe", program),
                None => body,
            }
        }
        None => body,
    };
    ("CONTAINER_OP", body.word("res", 1))
}

/// What a container was like when it began.
pub(super) fn begun(
    id: ContId,
    opid: u32,
    parent: ContId,
    namespaces: Namespaces,
    cgroup: u64,
) -> Record {
    let Namespaces { user, mount, pid, network } = namespaces;
    let body = Body::new()
        .word("state", "begun")
        .word("contid", id)
        .word("opid", opid)
        .word("parent", parent)
        .word("userns", user)
        .word("mntns", mount)
        .word("pidns", pid)
        .word("netns", network)
        .word("cgroup", cgroup);
    ("VT_CONTAINER", body)
}

/// A process of `by` was allowed by that grant to set it.
pub(super) fn granted(id: ContId, opid: u32, grant: &str, by: ContId) -> Record {
    let body = Body::new()
        .word("state", "granted")
        .word("contid", id)
        .word("opid", opid)
        .word("by", by)
        .untrusted("grant", grant.as_bytes());
    ("VT_CONTAINER", body)
}

/// The same was refused, as the grant does not reach so far.
pub(super) fn beyond(id: ContId, opid: u32, grant: &str, by: ContId, errno: Errno) -> Record {
    let body = Body::new()
        .word("state", "beyond-grant")
        .word("contid", id)
        .word("opid", opid)
        .word("by", by)
        .word("errno", format_args!("{errno:?}").to_string().to_uppercase())
        .untrusted("grant", grant.as_bytes());
    ("VT_CONTAINER", body)
}

/// It was found by its control group, with so many processes that had no label.
pub(super) fn found(id: ContId, group: &Group, how: &'static str, processes: usize) -> Record {
    let body = Body::new()
        .word("state", "found")
        .word("contid", id)
        .word("how", how)
        .word("processes", processes)
        .untrusted("group", group.path.as_bytes());
    ("VT_CONTAINER", body)
}

/// Its first process is in its namespaces now.
pub(super) fn entered(id: ContId, opid: u32, namespaces: Namespaces) -> Record {
    let Namespaces { user, mount, pid, network } = namespaces;
    let body = Body::new()
        .word("state", "entered")
        .word("contid", id)
        .word("opid", opid)
        .word("userns", user)
        .word("mntns", mount)
        .word("pidns", pid)
        .word("netns", network);
    ("VT_CONTAINER", body)
}

/// What its runtime calls it, and what of that is not known: words with commas between them.
pub(super) fn described(id: ContId, description: &Description, unknown: &str) -> Record {
    let body = Body::new().word("state", "described").word("contid", id);
    let Description { runtime, id, name, image, digest } = description;
    let fields =
        [("runtime", runtime), ("id", id), ("name", name), ("image", image), ("digest", digest)];
    let body = fields.into_iter().fold(body, |body, (key, value)| match value {
        Some(value) => body.untrusted(key, value.as_bytes()),
        None => body,
    });
    let body = if unknown.is_empty() { body } else { body.word("unknown", unknown) };
    ("VT_CONTAINER", body)
}

/// One of its processes is in another namespace than the container.
pub(super) fn drifted(id: ContId, drift: &Drift, image: &Image) -> Record {
    let body = Body::new()
        .word("state", "drift")
        .word("contid", id)
        .word("opid", drift.process.pid)
        .word("ns", drift.kind.word())
        .word("old", drift.old)
        .word("new", drift.new)
        .untrusted("comm", image.name());
    ("VT_CONTAINER", body)
}

/// There is no room for more of these.
pub(super) fn full(what: &'static str, limit: usize) -> Record {
    let body = Body::new().word("state", "full").word("what", what).word("limit", limit);
    ("VT_CONTAINER", body)
}
