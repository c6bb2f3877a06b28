//! What the annotations of an OCI container say of it (runtime-spec, "Annotations").

use std::collections::BTreeMap;

use engine::containers::{Description, LONGEST_TEXT};

/// Where engines say what a container is called, and of what image it is: the CRI of containerd, CRI-O, podman,
/// and the image specification's own.
const NAMES: &[&str] = &[
    "io.kubernetes.cri.container-name",
    "io.kubernetes.cri-o.Name",
    "io.kubernetes.container.name",
    "io.podman.annotations.name",
    "org.opencontainers.image.title",
];
const IMAGES: &[&str] = &[
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
    "io.podman.annotations.image",
    "org.opencontainers.image.ref.name",
    "org.opencontainers.image.base.name",
];
const DIGESTS: &[&str] = &[
    "io.kubernetes.cri-o.ImageRef",
    "io.podman.annotations.image-digest",
    "org.opencontainers.image.base.digest",
];

/// Its name, image and digest, where they are told.
pub(crate) fn described(annotations: &BTreeMap<String, String>) -> Description {
    let find = |keys: &[&str]| {
        let found = keys.iter().find_map(|key| annotations.get(*key));
        found.filter(|text| !text.is_empty()).map(|text| cut(text))
    };
    Description {
        name: find(NAMES),
        image: find(IMAGES),
        digest: find(DIGESTS),
        ..Description::default()
    }
}

/// As much as is kept.
pub(crate) fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(LONGEST_TEXT)).unwrap_or_default().to_owned()
}
