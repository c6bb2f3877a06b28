//! Which container a control group is, by its path: what runtimes call theirs.
//!
//! ```text
//!  /system.slice/docker-ID.scope                            docker, systemd        /docker/ID
//!  /machine.slice/libpod-ID.scope/container                 podman, systemd        /libpod_parent/libpod-ID
//!  /kubepods.slice/.../cri-containerd-ID.scope, crio-ID.scope   kubelet            /kubepods/burstable/podUID/ID
//!  /machine.slice/machine-NAME.scope                        machined: nspawn, libvirt
//!  /machine.slice/systemd-nspawn@NAME.service/payload       nspawn as a service
//! ```
//!
//! Whoever is in a container can make groups below his own, with any name: so the outermost directory that
//! names one counts, and nothing below it. And a directory that is not in one of those above is not root's as a
//! rule: what it names is a container of its own, whatever other one has that id ([`Group::key`]).

use serde::{Deserialize, Serialize};

/// A container's control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The hierarchy it was seen in, as `/proc/PID/cgroup` numbers them: 0 is the unified one.
    pub hierarchy: u32,
    /// From the hierarchy's root to the container's own directory.
    pub path: String,
    /// Who makes groups of that name; none where several do.
    pub runtime: Option<String>,
    /// The runtime's id or name of it.
    pub id: String,
}

/// No container's own directory is further from the root, in bytes.
const LONGEST_PATH: usize = 1024;

impl Group {
    /// The container that this path names, if it names one.
    #[must_use]
    pub fn of_path(hierarchy: u32, path: &[u8]) -> Option<Group> {
        let mut end = 0;
        let mut above: Vec<&str> = Vec::new();
        for part in path.strip_prefix(b"/")?.split(|byte| *byte == b'/') {
            let begin = end + 1;
            end = begin + part.len();
            if end > LONGEST_PATH {
                break;
            }
            // What stands below a container is looked at by nobody: it may be any bytes.
            let part = str::from_utf8(part).ok()?;
            if let Some((runtime, id)) = named(&above, part, path.get(end..)?) {
                let runtime = runtime.map(str::to_owned);
                let path = str::from_utf8(path.get(..end)?).ok()?.to_owned();
                return Some(Group { hierarchy, path, runtime, id });
            }
            above.push(part);
        }
        None
    }

    /// The container of a process, by the text of its `/proc/PID/cgroup`: the unified hierarchy's if that names
    /// one.
    #[must_use]
    pub fn of_process(text: &[u8]) -> Option<Group> {
        let mut first = None;
        for line in text.split(|byte| *byte == b'\n') {
            // NUMBER:CONTROLLERS:PATH, and the path may have colons.
            let mut parts = line.splitn(3, |byte| *byte == b':');
            let (Some(number), Some(_), Some(path)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let number = str::from_utf8(number).ok().and_then(|text| text.parse().ok());
            let Some(group) = number.and_then(|number| Group::of_path(number, path)) else {
                continue;
            };
            if group.hierarchy == 0 {
                return Some(group);
            }
            first = first.or(Some(group));
        }
        first
    }

    /// What tells this container from every other: its id where that is unique and the place root's, so that it
    /// is one by whatever hierarchy and hook it comes; else the path, with which it begins.
    #[must_use]
    pub fn key(&self) -> &str {
        if is_unique(&self.id) && self.is_in_a_place_of_root() { &self.id } else { &self.path }
    }

    /// Whether nobody but root makes groups there.
    #[must_use]
    pub fn is_in_a_place_of_root(&self) -> bool {
        self.owner().is_none()
    }

    /// Whose place it is in, unless it is root's: the first directory above it that is not known to be handed to
    /// nobody, of a user's slice that. Anybody may be root below it, as a container of LXC is.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        let (above, _) = self.path.rsplit_once('/')?;
        let mut end = 0;
        let mut before: Vec<&str> = Vec::new();
        for part in above.split('/').skip(1) {
            end += 1 + part.len();
            if !is_of_root(&before, part) {
                return self.path.get(..end);
            }
            before.push(part);
        }
        (before == ["user.slice"]).then(|| self.path.get(..end))?
    }
}

/// Places of docker, of containerd by its namespaces, of the kubelet and of podman, where no systemd makes slices.
const OF_RUNTIMES: [&str; 5] = ["docker", "default", "k8s.io", "kubepods", "libpod_parent"];

/// Whether root alone makes groups in the directory `part`, which is in such ones.
fn is_of_root(before: &[&str], part: &str) -> bool {
    match before {
        [] => part.ends_with(".slice") || OF_RUNTIMES.contains(&part),
        ["user.slice", ..] => false,
        ["kubepods", ..] => ["burstable", "besteffort"].contains(&part) || part.starts_with("pod"),
        [first, ..] => first.ends_with(".slice") && part.ends_with(".slice"),
    }
}

/// Whether nobody else has it: 64 hexadecimal digits.
#[must_use]
pub fn is_unique(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

type Named = (Option<&'static str>, String);

/// What the directory `part` below `above` names; `below` is the rest of the path.
fn named(above: &[&str], part: &str, below: &[u8]) -> Option<Named> {
    let by_id = |runtime, id: &str| is_unique(id).then(|| (runtime, id.to_owned()));
    if is_unique(part) {
        // Of whoever is told to put its containers there: docker's own place, or the kubelet's.
        return by_id((above == ["docker"]).then_some("docker"), part);
    }
    // Where a kubelet of one driver speaks to a runtime of the other: SLICE:PREFIX:ID.
    if let Some((rest, id)) = part.rsplit_once(':')
        && let Some((_, prefix)) = rest.rsplit_once(':')
    {
        return by_id(runtime_of(prefix), id);
    }
    let unit = part.strip_suffix(".scope");
    if let Some((prefix, id)) = unit.unwrap_or(part).rsplit_once('-')
        && let Some(runtime) = runtime_of(prefix)
    {
        return by_id(Some(runtime), id);
    }
    if above != ["machine.slice"] {
        return None;
    }
    if let Some(name) = unit.and_then(|unit| unit.strip_prefix("machine-")) {
        let name = unescaped(name)?;
        let runtime = if name.starts_with("qemu-") || name.starts_with("lxc-") {
            "libvirt"
        } else {
            "systemd-machined"
        };
        return Some((Some(runtime), name));
    }
    let unit = part.strip_suffix(".service")?;
    let name = unescaped(unit.strip_prefix("systemd-nspawn@")?)?;
    // What stands beside it is the host's: systemd-nspawn itself.
    let is_payload = below == b"/payload" || below.starts_with(b"/payload/");
    is_payload.then_some((Some("systemd-nspawn"), name))
}

/// Who puts this before an id. Others, as `crio-conmon`, are a runtime's own processes.
fn runtime_of(prefix: &str) -> Option<&'static str> {
    Some(match prefix {
        "docker" => "docker",
        "cri-containerd" | "containerd" | "nerdctl" => "containerd",
        "crio" => "cri-o",
        "libpod" | "libpod-payload" => "podman",
        _ => return None,
    })
}

/// A name in a unit's (systemd.unit(5), "String Escaping for Inclusion in Unit Names"); none of no name.
fn unescaped(text: &str) -> Option<String> {
    let mut name = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let hex = rest.strip_prefix("\\x").and_then(|rest| rest.get(..2));
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            name.push(byte);
            rest = rest.get(4..)?;
        } else {
            name.extend(c.encode_utf8(&mut [0; 4]).bytes());
            rest = rest.get(c.len_utf8()..)?;
        }
    }
    String::from_utf8(name).ok().filter(|name| !name.is_empty() && name.len() <= 255)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn found(path: &str) -> Option<(String, String, String)> {
        let group = Group::of_path(0, path.replace('A', A).replace('B', B).as_bytes())?;
        let short = |text: &str| text.replace(A, "A").replace(B, "B");
        Some((group.runtime.unwrap_or_default(), short(&group.id), short(&group.path)))
    }

    #[test]
    fn groups_of_the_known_runtimes_are_containers() {
        for (path, runtime, id, own) in [
            ("/docker/A", "docker", "A", "/docker/A"),
            ("/docker/A/init.scope", "docker", "A", "/docker/A"),
            ("/system.slice/docker-A.scope", "docker", "A", "/system.slice/docker-A.scope"),
            ("/of-ours/A", "", "A", "/of-ours/A"),
            ("/kubepods/burstable/pod12/A", "", "A", "/kubepods/burstable/pod12/A"),
            (
                "/kubepods.slice/kubepods-pod1.slice/cri-containerd-A.scope",
                "containerd",
                "A",
                "/kubepods.slice/kubepods-pod1.slice/cri-containerd-A.scope",
            ),
            (
                "/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:A",
                "containerd",
                "A",
                "/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:A",
            ),
            ("/kubepods.slice/crio-A.scope/x", "cri-o", "A", "/kubepods.slice/crio-A.scope"),
            ("/kubepods/besteffort/pod1/crio-A", "cri-o", "A", "/kubepods/besteffort/pod1/crio-A"),
            (
                "/machine.slice/libpod-A.scope/container",
                "podman",
                "A",
                "/machine.slice/libpod-A.scope",
            ),
            ("/libpod_parent/libpod-A", "podman", "A", "/libpod_parent/libpod-A"),
            (
                "/system.slice/web.service/libpod-payload-A",
                "podman",
                "A",
                "/system.slice/web.service/libpod-payload-A",
            ),
            (
                r"/machine.slice/machine-my\x2dbox.scope/payload/init.scope",
                "systemd-machined",
                "my-box",
                r"/machine.slice/machine-my\x2dbox.scope",
            ),
            (
                r"/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/emulator",
                "libvirt",
                "qemu-1-vm",
                r"/machine.slice/machine-qemu\x2d1\x2dvm.scope",
            ),
            (
                "/machine.slice/systemd-nspawn@box.service/payload/init.scope",
                "systemd-nspawn",
                "box",
                "/machine.slice/systemd-nspawn@box.service",
            ),
        ] {
            let expected = (runtime.to_owned(), id.to_owned(), own.to_owned());
            assert_eq!(found(path), Some(expected), "{path}");
        }
    }

    #[test]
    fn what_is_the_hosts_is_no_container() {
        for path in [
            "/",
            "",
            "docker/A",
            "/docker",
            "/system.slice/docker.service",
            "/system.slice/crio-conmon-A.scope",
            "/machine.slice/libpod-conmon-A.scope",
            "/libpod_parent/conmon",
            "/machine.slice/systemd-nspawn@box.service",
            "/machine.slice/systemd-nspawn@box.service/supervisor",
            "/machine.slice/systemd-nspawn@box.service/payload2",
            "/machine.slice/machine-.scope",
            "/user.slice/machine-x.scope",
            "/a/machine.slice/machine-x.scope",
            "/docker-0123.scope",
            "/docker/AA",
            "/process_api/0ac99ab1c26932c82d5a5368e4eae5cc",
            "/x:y:z",
        ] {
            assert_eq!(found(path), None, "{path}");
        }
        assert_eq!(Group::of_path(0, b"/\xff"), None);
        // Nor does it hide itself by what it calls its own.
        let own = [b"/docker/", A.as_bytes(), b"/\xff/", &[b'x'; 5000]].concat();
        assert_eq!(Group::of_path(0, &own).unwrap().id, A);
    }

    /// Root of a container, and a user, name their own groups as they like.
    #[test]
    fn nobody_is_named_as_another_by_a_group_below_its_own() {
        let key = |path: &str| {
            let path = path.replace('A', A).replace('B', B);
            Group::of_path(0, path.as_bytes()).unwrap().key().to_owned()
        };
        for below in ["", "/docker/B", "/system.slice/docker-B.scope", "/B", "/libpod-B.scope/x"] {
            assert_eq!(key(&format!("/docker/A{below}")), A);
            assert_eq!(key(&format!("/machine.slice/libpod-A.scope{below}")), A);
            let nspawn = "/machine.slice/systemd-nspawn@box.service";
            assert_eq!(key(&format!("{nspawn}/payload{below}")), nspawn);
        }
        for own in [
            "/user.slice/user-1000.slice/user@1000.service/docker-B.scope",
            "/user.slice/B",
            "/system.slice/web.service/B",
            "/machine.slice/other.scope/B",
            // Root of a container of LXC, LXD or Incus, and of whatever else is not known.
            "/lxc.payload.web/system.slice/docker-B.scope",
            "/lxc/web/docker/B",
            "/of-ours/B",
            "/docker/buildkit/B",
            "/kubepods/other/B",
            "/podman/B",
        ] {
            assert_ne!(key(own), B, "{own}");
        }
        for roots in [
            "/B",
            "/docker/B",
            "/default/B",
            "/libpod_parent/libpod-B",
            "/system.slice/docker-B.scope",
            "/machine.slice/machine-libpod_pod_1.slice/libpod-B.scope",
            "/kubepods/besteffort/pod1/B",
            "/kubepods/pod1/crio-B",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/crio-B.scope",
        ] {
            assert_eq!(key(roots), B, "{roots}");
        }
    }

    #[test]
    fn a_place_has_one_owner_however_deep_it_is() {
        let owner = |path: &str| {
            let group = Group::of_path(0, path.replace('B', B).as_bytes()).unwrap();
            group.owner().map(str::to_owned)
        };
        for (path, expected) in [
            (
                "/user.slice/user-1000.slice/user@1000.service/a/b/docker-B.scope",
                "/user.slice/user-1000.slice",
            ),
            ("/user.slice/user-1000.slice/B", "/user.slice/user-1000.slice"),
            ("/user.slice/B", "/user.slice"),
            ("/lxc.payload.web/a.slice/B", "/lxc.payload.web"),
            ("/system.slice/web.service/x/B", "/system.slice/web.service"),
        ] {
            assert_eq!(owner(path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(owner("/system.slice/docker-B.scope"), None);
    }

    #[test]
    fn the_unified_hierarchy_goes_first() {
        let text = format!("9:name=systemd:/docker/{B}\n4:memory:/a:b\nx\n0::/docker/{A}/deeper\n");
        let group = Group::of_process(text.as_bytes()).unwrap();
        assert_eq!((group.hierarchy, group.id.as_str()), (0, A));
        let text = format!("9:name=systemd:/docker/{B}\n4:memory:/\n0::/\n");
        let group = Group::of_process(text.as_bytes()).unwrap();
        assert_eq!((group.hierarchy, group.id.as_str()), (9, B));
        assert_eq!(Group::of_process(b""), None);
    }

    proptest! {
        /// Whatever a path says: an answer, which is a part of the path from its begin on.
        #[test]
        fn any_path_is_judged(parts in prop::collection::vec(prop::sample::select(&[
            "docker", "/", "-", ".scope", ".service", "machine.slice", "machine-", "systemd-nspawn@", "payload",
            A, B, "\\x2d", "\\x", "\u{e4}", ":", "libpod", "\u{0}", "..",
        ][..]), 0..20)) {
            let path = format!("/{}", parts.concat());
            if let Some(group) = Group::of_path(3, path.as_bytes()) {
                prop_assert!(path.starts_with(&group.path));
                prop_assert!(!group.id.is_empty() && path.len() <= LONGEST_PATH);
                // What stands below changes nothing.
                let below = format!("{path}/docker/{A}");
                prop_assert_eq!(Group::of_path(3, below.as_bytes()), Some(group));
            }
        }
    }
}
