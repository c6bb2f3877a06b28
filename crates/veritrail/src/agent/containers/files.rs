//! What the files of a runtime say of a container: read on the host without asking the runtime, by a thread of
//! its own, as a disk may not answer. They are the runtime's, and their text is whoever's: it is kept as text.
//!
//! ```text
//!  docker      PLACE/containers/ID/config.v2.json
//!  containerd  PLACE/io.containerd.runtime.v2.task/NAMESPACE/ID/config.json
//!  podman,     PLACE/DRIVER-containers/containers.json, PLACE/DRIVER-images/images.json,
//!   CRI-O      PLACE/DRIVER-containers/ID/userdata/config.json
//! ```

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use engine::containers::{Description, Group, is_unique};
use record::units::ContId;
use rustix::fs::OFlags;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::inbox::Inbox;
use super::super::sources::Input;
use super::annotations::{cut, described};

/// Containers that wait at most; of one more nothing is read.
const MOST: usize = 1024;

/// The longest file that is read, in bytes.
const LONGEST: u64 = 16 << 20;

/// Namespaces of containerd that are looked into.
const NAMESPACES: usize = 64;

/// Of podman and CRI-O.
const DRIVERS: [&str; 4] = ["overlay", "vfs", "btrfs", "zfs"];

/// Whoever reads them.
#[derive(Debug)]
pub(in crate::agent) struct Files(SyncSender<(ContId, Group)>);

impl Files {
    /// Reads below these places, and puts what was found into the inbox.
    pub(in crate::agent) fn start(
        places: Vec<PathBuf>,
        inbox: &Arc<Inbox<Input>>,
    ) -> io::Result<Files> {
        let (sender, asked) = sync_channel::<(ContId, Group)>(MOST);
        let inbox = Arc::clone(inbox);
        std::thread::Builder::new().name("containers".into()).spawn(move || {
            for (contid, group) in asked {
                let found = read(&places, &group.id);
                inbox.put(Input::Described(contid, group, found));
            }
        })?;
        Ok(Files(sender))
    }

    /// Whether they are going to be read for this container. Only an id that names nothing else is looked for.
    pub(super) fn ask(&self, contid: ContId, group: &Group) -> bool {
        group.key() == group.id
            && is_unique(&group.id)
            && self.0.try_send((contid, group.clone())).is_ok()
    }
}

/// What is said of the container below any of these places.
fn read(places: &[PathBuf], id: &str) -> Option<Description> {
    let mut all = None::<Description>;
    for place in places {
        let found = [docker(place, id), containerd(place, id), storage(place, id)];
        for found in found.into_iter().flatten() {
            all = Some(all.map_or_else(|| found.clone(), |all| all.or(&found)));
        }
    }
    all
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfDocker {
    #[serde(default)]
    name: String,
    config: Option<ConfigOfDocker>,
    /// The image's own id.
    image: Option<String>,
    image_manifest: Option<Manifest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigOfDocker {
    image: Option<String>,
}

#[derive(Deserialize)]
struct Manifest {
    digest: Option<String>,
}

fn docker(place: &Path, id: &str) -> Option<Description> {
    let file: OfDocker = json(&place.join("containers").join(id).join("config.v2.json"))?;
    let digest = file.image_manifest.and_then(|manifest| manifest.digest).or(file.image);
    let name = file.name.strip_prefix('/').unwrap_or(&file.name).to_owned();
    Some(Description {
        runtime: Some("docker".into()),
        id: None,
        name: said(Some(name)),
        image: said(file.config.and_then(|config| config.image)),
        digest: said(digest),
    })
}

/// A runtime's `config.json` (runtime-spec).
#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn containerd(place: &Path, id: &str) -> Option<Description> {
    let tasks = fs::read_dir(place.join("io.containerd.runtime.v2.task")).ok()?;
    tasks.flatten().take(NAMESPACES).find_map(|namespace| {
        let bundle: Bundle = json(&namespace.path().join(id).join("config.json"))?;
        Some(Description { runtime: Some("containerd".into()), ..described(&bundle.annotations) })
    })
}

/// One of `containers.json`.
#[derive(Deserialize)]
struct Stored {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    /// The image's own id.
    #[serde(default)]
    image: String,
    #[serde(default)]
    metadata: String,
}

/// What podman and CRI-O write into `metadata`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Metadata {
    image_name: Option<String>,
    name: Option<String>,
}

/// One of `images.json`.
#[derive(Deserialize)]
struct Image {
    id: String,
    digest: Option<String>,
}

fn storage(place: &Path, id: &str) -> Option<Description> {
    DRIVERS.into_iter().find_map(|driver| {
        let containers = place.join(format!("{driver}-containers"));
        let bundle: Option<Bundle> = json(&containers.join(id).join("userdata/config.json"));
        let stored: Vec<Stored> = json(&containers.join("containers.json")).unwrap_or_default();
        let stored = stored.into_iter().find(|one| one.id == id);
        if bundle.is_none() && stored.is_none() {
            return None;
        }
        let by_bundle = bundle.map(|bundle| described(&bundle.annotations)).unwrap_or_default();
        let Some(Stored { names, image, metadata, .. }) = stored else { return Some(by_bundle) };
        let metadata: Metadata = serde_json::from_str(&metadata).unwrap_or_default();
        let images: Vec<Image> =
            json(&place.join(format!("{driver}-images/images.json"))).unwrap_or_default();
        let digest = images.into_iter().find(|one| one.id == image).and_then(|one| one.digest);
        let by_storage = Description {
            name: said(metadata.name.or_else(|| names.into_iter().next())),
            image: said(metadata.image_name),
            digest: said(digest),
            ..Description::default()
        };
        Some(by_bundle.or(&by_storage))
    })
}

/// As much of it as is kept; nothing is nothing.
fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(|text| cut(&text))
}

/// None where it is not there, no file of its own, too long or of another form.
fn json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .ok()
        .filter(|file| file.metadata().is_ok_and(|about| about.is_file()))?;
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text).ok()?;
    (u64::try_from(text.len()).ok()? <= LONGEST).then(|| serde_json::from_slice(&text).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, path: &str, text: &str) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn words(found: Option<Description>) -> [String; 4] {
        let Description { runtime, name, image, digest, .. } = found.unwrap_or_default();
        [runtime, name, image, digest].map(Option::unwrap_or_default)
    }

    #[test]
    fn each_runtime_says_in_its_files_what_a_container_is() {
        let id = "a".repeat(64);
        let folder = tempfile::tempdir().unwrap();
        let [docker, containerd, podman] =
            ["docker", "containerd", "storage"].map(|name| folder.path().join(name));
        write(
            &docker,
            &format!("containers/{id}/config.v2.json"),
            r#"{"Name":"/web","Config":{"Image":"nginx:1","Env":null},"Image":"sha256:12"}"#,
        );
        write(
            &containerd,
            &format!("io.containerd.runtime.v2.task/k8s.io/{id}/config.json"),
            r#"{"ociVersion":"1.1.0","annotations":{"io.kubernetes.cri.container-name":"api",
                "io.kubernetes.cri.image-name":"registry/api:2"}}"#,
        );
        write(
            &podman,
            "vfs-containers/containers.json",
            &format!(
                r#"[{{"id":"b"}},{{"id":"{id}","names":["db"],"image":"77",
                    "metadata":"{{\"image-name\":\"localhost/db:1\",\"name\":\"db\"}}"}}]"#
            ),
        );
        write(&podman, "vfs-images/images.json", r#"[{"id":"77","digest":"sha256:34"}]"#);
        let read = |place: &Path| words(read(&[place.to_owned()], &id));
        assert_eq!(read(&docker), ["docker", "web", "nginx:1", "sha256:12"]);
        assert_eq!(read(&containerd), ["containerd", "api", "registry/api:2", ""]);
        assert_eq!(read(&podman), ["", "db", "localhost/db:1", "sha256:34"]);
        assert_eq!(read(folder.path()), ["", "", "", ""]);
    }

    #[test]
    fn files_that_are_no_files_or_say_nothing_are_nothing() {
        let id = "a".repeat(64);
        let folder = tempfile::tempdir().unwrap();
        let path = format!("containers/{id}/config.v2.json");
        for text in ["", "[]", "{\"Name\":5}", &"[".repeat(100_000), "\u{0}"] {
            write(folder.path(), &path, text);
            assert_eq!(read(&[folder.path().to_owned()], &id), None);
        }
        write(folder.path(), &path, &format!("{{\"Name\":\"{}\"}}", "n".repeat(5000)));
        assert_eq!(words(read(&[folder.path().to_owned()], &id))[1].len(), 512);
        let path = folder.path().join(path);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert_eq!(read(&[folder.path().to_owned()], &id), None);
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert_eq!(read(&[folder.path().to_owned()], &id), None);
    }
}
