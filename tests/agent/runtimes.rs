//! Containers that runtimes make: runc with the hook, and what becomes of one that cannot be registered.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bench::{Bench, soon};
use crate::containers::{BPF_ONLY, file, start};

/// A bundle whose program is the shell of busybox, with our hook; none, visibly, without runc.
pub(crate) fn bundle(test: &str, bench: &Bench, name: &str, script: &str) -> Option<PathBuf> {
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|at| fs::exists(at).unwrap());
    let (Ok(_), Some(busybox)) = (Command::new("runc").arg("-v").output(), busybox) else {
        eprintln!("SKIPPED: {test}: no runc, or no static busybox");
        return None;
    };
    let bundle = bench.path(name);
    fs::create_dir_all(bundle.join("rootfs/bin")).unwrap();
    fs::copy(busybox, bundle.join("rootfs/bin/busybox")).unwrap();
    for applet in ["sh", "true", "sleep", "cat"] {
        std::os::unix::fs::symlink("busybox", bundle.join("rootfs/bin").join(applet)).unwrap();
    }
    let ran = Command::new("runc").arg("spec").current_dir(&bundle).status().unwrap();
    assert!(ran.success());
    let hook = bench.path("hook");
    let words = format!(
        "#!/bin/sh\nexec {} oci-hook --run-dir {}\n",
        env!("CARGO_BIN_EXE_veritrail"),
        bench.path("run").display()
    );
    fs::write(&hook, words).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    config["process"]["rlimits"] = json!([]);
    let hooks = json!([{ "path": hook }]);
    config["hooks"] = json!({ "createRuntime": hooks, "poststop": hooks });
    config["annotations"] = json!({ "org.opencontainers.image.ref.name": "busybox:1" });
    fs::write(&path, config.to_string()).unwrap();
    Some(bundle)
}

/// runc's own name for a container of this bench.
pub(crate) fn name_of(bundle: &std::path::Path) -> String {
    let folder = bundle.parent().unwrap().file_name().unwrap().to_str().unwrap();
    format!(
        "vt{}-{}",
        folder.trim_start_matches('.'),
        bundle.file_name().unwrap().to_str().unwrap()
    )
}

/// Runs it to its end; what it said.
fn run(bundle: &std::path::Path) -> String {
    let ran = Command::new("timeout")
        .args(["-k", "5", "60", "runc", "run", "-b"])
        .arg(bundle)
        .arg(name_of(bundle))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{said}");
    said
}

#[test]
fn a_container_of_runc_is_labelled_before_its_program_runs() {
    let test = "a_container_of_runc_is_labelled_before_its_program_runs";
    let bench = Bench::new();
    bench.write("config", BPF_ONLY);
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let script = "n=0; while [ $n -lt 20 ]; do n=$((n+1)); /bin/true; done; sleep 2";
    let bundles: Option<Vec<PathBuf>> =
        ["one", "two"].iter().map(|name| bundle(test, &bench, name, script)).collect();
    let Some(bundles) = bundles else { return };
    std::thread::scope(|scope| {
        for bundle in &bundles {
            scope.spawn(|| assert_eq!(run(bundle), ""));
        }
        soon("both", || {
            let status = bench.status();
            let containers = status["containers"].as_array().unwrap();
            containers.len() == 2
                && containers.iter().all(|one| one["description"]["id"].is_string())
        });
        let status = bench.status();
        for container in status["containers"].as_array().unwrap() {
            let description = &container["description"];
            assert_eq!(
                (&description["runtime"], &description["image"]),
                (&json!("runc"), &json!("busybox:1"))
            );
            // Its namespaces are its own already.
            let own = fs::read_link("/proc/self/ns/mnt").unwrap();
            let number = container["namespaces"]["mount"].to_string();
            assert!(number != "0" && !own.to_str().unwrap().contains(&number), "{container}");
        }
    });
    // The last of their processes has gone, each once.
    soon("their ends", || {
        let ops = bench.bodies("CONTAINER_OP");
        ops.iter().filter(|body| body.starts_with("op=drop ")).count() == 2
    });
    let ops = bench.bodies("CONTAINER_OP");
    assert_eq!(ops.iter().filter(|body| body.starts_with("op=set ")).count(), 2, "{ops:?}");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bench.bodies("VT_GAP"), [""; 0]);
    bench.trail_is_good();
}

/// What the hook answers a runtime, and says; `words` come before it.
fn hook(bench: &Bench, before: &[&str], options: &[&str], run_dir: &str) -> (Option<i32>, String) {
    let mut words = before.to_vec();
    let run_dir = bench.path(run_dir);
    let run_dir = run_dir.to_str().unwrap();
    words.extend([env!("CARGO_BIN_EXE_veritrail"), "oci-hook", "--run-dir", run_dir]);
    words.extend(options);
    let state = r#"{"ociVersion":"1.0.2","id":"web","status":"created","pid":1,"bundle":"/b"}"#;
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(state.as_bytes()).unwrap();
    let ran = child.wait_with_output().unwrap();
    (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
}

/// No agent was there since the host began, or the directory is none that could be believed.
#[test]
fn a_hook_that_finds_nothing_lets_the_container_go_on() {
    let bench = Bench::new();
    let (status, said) = hook(&bench, &[], &[], "run");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.starts_with("veritrail: "), "{said}");
    // It is noted for the first agent.
    let noted = fs::read_to_string(bench.path("run/agent/unregistered")).unwrap();
    assert!(noted.contains("\"web\""), "{noted}");
    let mode = fs::metadata(bench.path("run/agent")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let (status, said) = hook(&bench, &[], &["--strict"], "run");
    assert!(status != Some(0) && !said.is_empty(), "{said}");
    fs::create_dir(bench.path("open")).unwrap();
    fs::set_permissions(bench.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    for (options, expected) in [(&[][..], 0), (&["--strict"], 3)] {
        let (status, said) = hook(&bench, &[], options, "open");
        assert_eq!(status, Some(expected), "{said}");
        assert!(said.contains("is not a directory that only you can change"), "{said}");
    }
    // As podman without root has it: what is root's is nobody's there.
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Ur"];
    let inside = if rustix::process::geteuid().is_root() { &nobody[..] } else { &nobody[4..] };
    let mut probe = Command::new(inside[0]);
    if !probe.args(&inside[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no user namespace can be made here");
        return;
    }
    fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let (status, said) = hook(&bench, inside, &[], "run");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.starts_with("veritrail: "), "{said}");
}

/// The container goes on, and that nobody knows it is on record with the next agent.
#[test]
fn a_container_that_cannot_be_registered_runs_and_is_a_gap() {
    let test = "a_container_that_cannot_be_registered_runs_and_is_a_gap";
    let bench = Bench::new();
    bench.write("config", BPF_ONLY);
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let Some(bundle) = bundle(test, &bench, "alone", "true") else { return };
    assert_eq!(agent.stop(), Some(0));
    assert!(!file(&bench, 1).exists());
    run(&bundle);
    let agent = bench.start(&["--config", "config"]);
    soon("the gap", || !bench.gaps("oci-hook").is_empty());
    let gaps = bench.gaps("oci-hook");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let id = format!(" runtime=\"runc\" id=\"{}\" image=\"busybox:1\" ", name_of(&bundle));
    assert!(gaps[0].contains(&id) && gaps[0].contains(" containers=1 count=exact "), "{gaps:?}");
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}
