//! Which audit daemons there are: registered with the kernel, or installed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use host::audit::Status;

use super::seat::Daemons;

/// Where auditd's program is, by any distribution.
const PROGRAMS: [&str; 4] =
    ["/usr/sbin/auditd", "/sbin/auditd", "/usr/local/sbin/auditd", "/usr/bin/auditd"];

/// Where its unit is.
const UNITS: [&str; 4] = [
    "/etc/systemd/system/auditd.service",
    "/usr/local/lib/systemd/system/auditd.service",
    "/usr/lib/systemd/system/auditd.service",
    "/lib/systemd/system/auditd.service",
];

/// Where a unit is masked: a link to /dev/null.
const MASKS: [&str; 2] =
    ["/etc/systemd/system/auditd.service", "/run/systemd/system/auditd.service"];

/// Looks.
pub(super) fn look(status: &Status) -> Daemons {
    Daemons { registered: registered(status), installed: installed(Path::new("/")) }
}

/// The process that is registered, if it is another than this one. The kernel notices a killed one only
/// with the next record.
fn registered(status: &Status) -> Option<u32> {
    let is_other = status.pid != 0 && status.pid != std::process::id();
    (is_other && Path::new(&format!("/proc/{}", status.pid)).exists()).then_some(status.pid)
}

/// auditd's program, which can be run, or its unit; whoever has masked the unit does not mean to run it.
fn installed(root: &Path) -> Option<PathBuf> {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let masked =
        |path: &str| std::fs::read_link(below(path)).is_ok_and(|to| to == Path::new("/dev/null"));
    if MASKS.iter().any(|path| masked(path)) {
        return None;
    }
    let can_run = |path: &str| {
        std::fs::metadata(below(path))
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let is_unit = |path: &str| std::fs::metadata(below(path)).is_ok_and(|found| found.is_file());
    let program = PROGRAMS.into_iter().find(|path| can_run(path));
    program.or_else(|| UNITS.into_iter().find(|path| is_unit(path))).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_program_or_a_unit_is_an_installation_unless_it_is_masked() {
        let root = tempfile::TempDir::new().unwrap();
        let path = |of: &str| root.path().join(of);
        for dir in ["usr/sbin", "etc/systemd/system", "usr/lib/systemd/system"] {
            fs::create_dir_all(path(dir)).unwrap();
        }
        assert_eq!(installed(root.path()), None);
        fs::write(path("usr/sbin/auditd"), "").unwrap();
        assert_eq!(installed(root.path()), None, "it cannot be run");
        fs::write(path("usr/lib/systemd/system/auditd.service"), "").unwrap();
        let found = installed(root.path());
        assert_eq!(found, Some("/usr/lib/systemd/system/auditd.service".into()));
        let may_run = fs::Permissions::from_mode(0o755);
        fs::set_permissions(path("usr/sbin/auditd"), may_run).unwrap();
        assert_eq!(installed(root.path()), Some("/usr/sbin/auditd".into()));
        symlink("/dev/null", path("etc/systemd/system/auditd.service")).unwrap();
        assert_eq!(installed(root.path()), None);
    }

    #[test]
    fn neither_ourselves_nor_a_dead_process_is_a_daemon() {
        let of = |pid| registered(&Status { pid, ..Status::default() });
        assert_eq!((of(0), of(std::process::id()), of(1)), (None, None, Some(1)));
        // Beyond `PID_MAX_LIMIT`.
        assert_eq!(of(1 << 23), None);
    }
}
