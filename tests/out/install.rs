//! `agent install`, `agent uninstall`, and the package that is made of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::bench::{Bench, PROGRAM, has, is_root};

/// What each of a root directory's files is: path and bytes.
fn tree(bench: &Bench, root: &str) -> Vec<(String, Vec<u8>)> {
    let found = bench.good("find", &[root, "-type", "f"]);
    let mut files: Vec<_> =
        found.lines().map(|path| (path.to_owned(), fs::read(bench.path(path)).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn an_installation_says_what_it_does_and_does_it_once() {
    let bench = Bench::new();
    let install = |more: &[&str]| {
        bench.good(
            PROGRAM,
            &[&["agent", "install", "--root", "r", "--prefix", "/usr"], more].concat(),
        )
    };
    let said = install(&["--dry-run"]);
    assert!(said.contains("would have wrote") && !bench.path("r").exists(), "{said}");
    let said = install(&[]);
    for file in [
        "usr/bin/veritrail",
        "usr/lib/systemd/system/veritrail-agent.service",
        "usr/lib/systemd/system/veritrail-forward.service",
        "usr/lib/systemd/system/veritrail-metrics.service",
        "usr/lib/sysusers.d/veritrail.conf",
        "usr/lib/tmpfiles.d/veritrail.conf",
        "usr/share/man/man1/veritrail-agent-run.1",
        "usr/share/bash-completion/completions/veritrail",
        "etc/veritrail/veritrail.toml",
        "etc/veritrail/rules.d/10-veritrail.rules",
    ] {
        assert!(bench.path("r").join(file).is_file(), "{file}");
        assert!(
            said.lines().any(|line| line.starts_with("wrote ") && line.ends_with(file)),
            "{said}"
        );
    }
    // The sample is right, and so it is where every line of it says something.
    bench.good(PROGRAM, &["agent", "check-config", "r/etc/veritrail/veritrail.toml"]);
    let sample = bench.read("r/etc/veritrail/veritrail.toml").replace("\n#[", "\n[");
    let spoken: String = sample
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.contains(" = ") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    bench.write("spoken.toml", &spoken);
    bench.good(PROGRAM, &["agent", "check-config", "spoken.toml"]);
    let before = tree(&bench, "r");

    let said = install(&[]);
    assert!(said.lines().all(|line| line.starts_with("unchanged ")), "{said}");
    assert_eq!(tree(&bench, "r"), before);

    fs::write(bench.path("r/etc/veritrail/veritrail.toml"), "[agent]\n").unwrap();
    fs::write(bench.path("r/usr/lib/tmpfiles.d/veritrail.conf"), "old").unwrap();
    let said = install(&[]);
    let line = |start: &str, end: &str| {
        said.lines().any(|line| line.starts_with(start) && line.contains(end))
    };
    assert!(
        line("kept ", "veritrail.toml (") && line("wrote ", "tmpfiles.d/veritrail.conf"),
        "{said}"
    );
    assert_eq!(bench.read("r/etc/veritrail/veritrail.toml"), "[agent]\n");

    let plugin = "r/etc/audit/plugins.d/veritrail.conf";
    assert!(!bench.path(plugin).exists());
    install(&["--plugin"]);
    let text = bench.read(plugin);
    assert!(text.contains("\npath = /usr/bin/veritrail\n") && text.contains("\nactive = yes\n"));

    fs::create_dir_all(bench.path("r/var/log/veritrail")).unwrap();
    let said = bench.good(PROGRAM, &["agent", "uninstall", "--root", "r", "--prefix", "/usr"]);
    assert!(said.contains("left ") && said.contains("removed "), "{said}");
    assert!(!bench.path(plugin).exists());
    assert!(!bench.path("r/usr/bin/veritrail").exists());
    assert!(bench.path("r/etc/veritrail/veritrail.toml").exists());
    assert!(bench.path("r/var/log/veritrail").exists());
    bench.good(PROGRAM, &["agent", "uninstall", "--root", "r", "--prefix", "/usr", "--purge"]);
    assert!(!bench.path("r/etc/veritrail").exists() && !bench.path("r/var/log/veritrail").exists());
    assert_eq!(tree(&bench, "r"), []);
}

#[test]
fn a_link_out_of_the_root_is_not_followed() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("r")).unwrap();
    fs::create_dir_all(bench.path("host")).unwrap();
    symlink(bench.path("host"), bench.path("r/etc")).unwrap();
    let ran = bench.run(PROGRAM, &["agent", "install", "--root", "r"]);
    let err = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(2), "{err}");
    assert!(err.contains("leads out of"), "{err}");
    assert_eq!(fs::read_dir(bench.path("host")).unwrap().count(), 0);
}

#[test]
fn systemd_takes_the_units() {
    let test = "systemd_takes_the_units";
    if !has(test, &["systemd-analyze"]) {
        return;
    }
    let bench = Bench::new();
    bench.good(PROGRAM, &["agent", "install", "--root", "r", "--prefix", "/usr"]);
    let folder = "r/usr/lib/systemd/system";
    for unit in
        ["veritrail-agent.service", "veritrail-forward.service", "veritrail-metrics.service"]
    {
        let text = bench.read(&format!("{folder}/{unit}")).replace("/usr/bin/veritrail", PROGRAM);
        let path = bench.path(unit);
        fs::write(&path, text).unwrap();
        let ran = bench.run("systemd-analyze", &["verify", "--man=no", path.to_str().unwrap()]);
        let err = String::from_utf8_lossy(&ran.stderr).into_owned();
        // Of units that this machine has or lacks it complains too.
        let ours: Vec<_> = err.lines().filter(|line| line.contains(unit)).collect();
        assert!(ours.is_empty(), "{unit}: {err}");
    }
}

#[test]
fn a_package_is_built_installed_run_and_purged() {
    let test = "a_package_is_built_installed_run_and_purged";
    if !has(test, &["dpkg", "dpkg-deb", "strip", "objdump"]) || !is_root(test) {
        return;
    }
    let bench = Bench::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/deb");
    let out = bench.path("out");
    let built = Command::new("timeout")
        .args(["500", script, PROGRAM, out.to_str().unwrap()])
        .env("DEBFULLNAME", "A Builder")
        .env("DEBEMAIL", "builder@veritrail.dev")
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    let package = fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    let package = package.to_str().unwrap();
    let listed = bench.good("dpkg-deb", &["-c", package]);
    for file in [
        "./usr/bin/veritrail",
        "./usr/share/man/man1/veritrail.1.gz",
        "./etc/veritrail/veritrail.toml",
    ] {
        assert!(
            listed.lines().any(|line| line.ends_with(file) && line.contains("root/root")),
            "{listed}"
        );
    }
    let conffiles = bench.good("dpkg-deb", &["--ctrl-tarfile", package]).len();
    assert!(conffiles > 0);
    if has(test, &["lintian"]) {
        let ran = bench.run("lintian", &["--allow-root", "--fail-on", "error", package]);
        assert!(ran.status.success(), "{ran:?}");
    }

    // A root of its own, where nothing of this machine is.
    for folder in ["info", "updates", "triggers"] {
        fs::create_dir_all(bench.path("r/var/lib/dpkg").join(folder)).unwrap();
    }
    fs::create_dir_all(bench.path("r/etc")).unwrap();
    for file in ["var/lib/dpkg/status", "var/lib/dpkg/available"] {
        fs::write(bench.path("r").join(file), "").unwrap();
    }
    for file in ["passwd", "group"] {
        fs::write(bench.path("r/etc").join(file), "").unwrap();
    }
    let dpkg = |more: &[&str]| {
        let root = format!("--root={}", bench.path("r").display());
        let fixed = [root.as_str(), "--force-script-chrootless", "--force-depends"];
        bench.good("dpkg", &[&fixed, more].concat())
    };
    dpkg(&["-i", package]);
    assert!(bench.read("r/etc/passwd").contains("veritrail:"), "no user was made");
    let owner = bench.good("stat", &["-c", "%u %a", "r/var/log/veritrail"]);
    let number = bench.read("r/etc/passwd");
    let number = number.lines().find(|line| line.starts_with("veritrail:")).unwrap();
    assert_eq!(owner.trim(), format!("{} 750", number.split(':').nth(2).unwrap()));
    let program = bench.path("r/usr/bin/veritrail");
    assert!(bench.good(program.to_str().unwrap(), &["--version"]).starts_with("veritrail "));

    fs::write(bench.path("r/var/log/veritrail/kept"), "").unwrap();
    dpkg(&["-r", "veritrail"]);
    assert!(!program.exists() && bench.path("r/var/log/veritrail/kept").exists());
    assert!(bench.path("r/etc/veritrail/veritrail.toml").exists());
    dpkg(&["-P", "veritrail"]);
    assert!(!bench.path("r/var/log/veritrail").exists() && !bench.path("r/etc/veritrail").exists());
}
