//! Which containers see the file of a violation, and where.

use engine::containers::{Confidence, Labelled};
use record::Fields;

use super::super::journal::OwnRecord;
use super::{Containers, owned};

impl Containers {
    /// Says of each VT_MOUNT in one of `namespaces`, which are not ours and have the device mounted, whose that is:
    /// `point` and `file` are paths as that container sees them. Behind these stands who all of them are.
    pub(in crate::agent) fn name_mounts(
        &mut self,
        records: &mut Vec<OwnRecord>,
        namespaces: &[u32],
    ) {
        for OwnRecord(_, body) in records.iter_mut().filter(|one| one.0 == "VT_MOUNT") {
            let number = Fields::new(body.as_bytes()).find_value(b"mntns");
            let number = number.and_then(|number| str::from_utf8(number.text()).ok()?.parse().ok());
            let other = number.filter(|number| namespaces.contains(number));
            let ids = other.map_or_else(Vec::new, |number| self.engine.in_mounts(&[number]));
            // Whoever shares a namespace with many sees what each of them sees.
            let ids: Vec<String> = ids.iter().take(MOST).map(ToString::to_string).collect();
            if !ids.is_empty() {
                *body = std::mem::take(body).word("contid", ids.join(","));
            }
        }
        let ids = self.engine.in_mounts(namespaces);
        for id in &ids {
            self.accounts.violation(*id);
        }
        let labelled = Labelled::of_device(&ids, Confidence::Inferred, &|id| self.engine.maker(id));
        records.extend(labelled.into_iter().flat_map(|labelled| owned(labelled.records)));
    }
}

/// Containers that are named in one record.
const MOST: usize = 16;
