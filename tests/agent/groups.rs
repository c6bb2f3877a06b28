//! Containers that no hook registers, found by their control groups: runc where docker puts it, podman,
//! systemd-nspawn; and what is said of them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::auditing::Auditing;
use crate::bench::{Bench, number, soon};
use crate::containers::start;
use crate::runtimes::bundle;

/// What runtimes leave of their groups, taken away where it is empty. Groups are the host's: one test at a time,
/// and each looks at its own containers only.
struct Cleared(&'static str, #[allow(dead_code, reason = "held")] MutexGuard<'static, ()>);

static ONE: Mutex<()> = Mutex::new(());

impl Cleared {
    fn after(name: &'static str) -> Cleared {
        Cleared(name, ONE.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Cleared {
    fn drop(&mut self) {
        for hierarchy in hierarchies() {
            for name in [self.0, "libpod_parent"] {
                remove_empty(&hierarchy.join(name));
            }
        }
    }
}

/// Where the hierarchies are mounted: one, or one for each controller and one below `unified`.
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    if root.join("cgroup.procs").exists() {
        return vec![root];
    }
    fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The unified one.
fn unified() -> PathBuf {
    let all = hierarchies();
    let is_unified = |at: &&PathBuf| at.join("cgroup.subtree_control").exists();
    all.iter().find(is_unified).unwrap().clone()
}

fn remove_empty(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// A runtime's id for a container of this bench: 64 hexadecimal digits.
fn id_of(bench: &Bench, name: &str) -> String {
    let text = format!("{}{name}", bench.path("").display());
    sum(text.as_bytes())
}

fn sum(bytes: &[u8]) -> String {
    let mut child =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let said = child.wait_with_output().unwrap().stdout;
    String::from_utf8(said[..64].to_vec()).unwrap()
}

/// The identifier of the container of that id (docs/formats/containers.md).
fn expected(id: &str) -> u64 {
    let sum = sum(format!("\0{id}").as_bytes());
    u64::from_str_radix(&sum[..16], 16).unwrap() >> 1
}

/// A bundle in docker's group, with or without our hook.
fn in_docker(
    test: &str,
    bench: &Bench,
    (name, id): (&str, &str),
    hook: bool,
    script: &str,
) -> Option<PathBuf> {
    let bundle = bundle(test, bench, name, script)?;
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    if !hook {
        config.as_object_mut().unwrap().remove("hooks");
    }
    config["linux"]["cgroupsPath"] = json!(format!("/docker/{id}"));
    let shared = bench.path("shared");
    fs::write(&shared, "x").unwrap();
    fs::write(bundle.join("rootfs/shared"), "").unwrap();
    let mount =
        json!({"destination": "/shared", "type": "bind", "source": shared, "options": ["bind"]});
    config["mounts"].as_array_mut().unwrap().push(mount);
    fs::write(&path, config.to_string()).unwrap();
    Some(bundle)
}

/// A container of runc; killed when it is dropped.
struct Runc(Child, String);

impl Runc {
    fn start(bundle: &Path, id: &str) -> Runc {
        let child = Command::new("timeout")
            .args(["-k", "5", "60", "runc", "run", "-b"])
            .arg(bundle)
            .arg(id)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Runc(child, id.to_owned())
    }

    /// Lets its script go on.
    fn go(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn end(mut self) {
        // It may have ended already.
        let _ = self.0.stdin.take().unwrap().write_all(b"\n");
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = Command::new("runc").args(["delete", "--force", &self.1]).output();
            let _ = self.0.wait();
        }
    }
}

/// The living containers with this runtime's id; others are of whoever else is on this host.
fn containers(bench: &Bench, id: &str) -> Vec<Value> {
    let all = bench.status()["containers"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|one| one["description"]["id"] == id).collect()
}

fn contids(bench: &Bench, id: &str) -> Vec<u64> {
    containers(bench, id).iter().map(|one| one["contid"].as_u64().unwrap()).collect()
}

/// What is told of a container in that state.
fn told(bench: &Bench, state: &str, contid: u64) -> Vec<String> {
    let wanted = format!("state={state} contid={contid} ");
    let all = bench.bodies("VT_CONTAINER").into_iter();
    all.filter(|body| body.starts_with(&wanted)).collect()
}

/// What was set or dropped of it.
fn ops(bench: &Bench, op: &str, contid: u64) -> usize {
    let (op, contid) = (format!("op={op} "), format!("contid={contid} "));
    let all = bench.bodies("CONTAINER_OP");
    all.iter().filter(|body| body.starts_with(&op) && body.contains(&contid)).count()
}

/// Found when it is made, and when it was made before; what docker's files say of it; and a program that is
/// run in it later.
#[test]
fn a_container_of_docker_is_found_by_its_group() {
    let test = "a_container_of_docker_is_found_by_its_group";
    let bench = Bench::new();
    let _cleared = Cleared::after("docker");
    bench.write(
        "config",
        &format!(
            "[agent]\nsources = [\"bpf\"]\n[containers]\nplaces = [\"{}\"]\n",
            bench.path("docker").display()
        ),
    );
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let id = id_of(&bench, "web");
    let files = bench.path(&format!("docker/containers/{id}"));
    fs::create_dir_all(&files).unwrap();
    let said = json!({"Name": "/web", "Config": {"Image": "busybox:1"}, "Image": "sha256:12"});
    fs::write(files.join("config.v2.json"), said.to_string()).unwrap();
    let script = "read line; n=0; while [ $n -lt 20 ]; do n=$((n+1)); /bin/true; done; read line";
    let Some(bundle) = in_docker(test, &bench, ("web", &id), false, script) else { return };
    let contid = expected(&id);
    let mut container = Runc::start(&bundle, &id);
    soon("its name", || {
        containers(&bench, &id).iter().any(|one| one["description"]["name"] == "web")
    });
    let found = &containers(&bench, &id)[0];
    assert_eq!(found["contid"], contid);
    assert_eq!(found["group"], format!("/docker/{id}"));
    let description = json!({
        "runtime": "docker", "id": id, "name": "web", "image": "busybox:1", "digest": "sha256:12"
    });
    assert_eq!(found["description"], description);
    let how = told(&bench, "found", contid);
    assert!(how[0].contains(" how=attached processes="), "{how:?}");
    // It has its own namespaces, and that its runtime came from elsewhere is nothing to tell of.
    soon("its namespaces", || !told(&bench, "entered", contid).is_empty());
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let mount = number(&told(&bench, "entered", contid)[0], "mntns");
    assert!(mount > 0 && !own.to_str().unwrap().contains(&mount.to_string()));
    let before = ops(&bench, "set", contid);
    let script = "/bin/true; sleep 1";
    let mut exec = Command::new("runc");
    let ran = exec.args(["exec", &id, "/bin/sh", "-c", script]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    soon("the program's label", || ops(&bench, "set", contid) > before);
    container.go();
    // The next agent finds what runs, and gives it no other number.
    agent.signal(Signal::KILL);
    soon("the next agent", || {
        let ran = bench.veritrail(&["agent", "status", "--json", "--run-dir", "run"]);
        let status: Value = serde_json::from_str(&ran.out).unwrap_or_default();
        status["restarts"] == 1 && status["tasks"]["kept"].as_u64() > Some(1)
    });
    assert_eq!(contids(&bench, &id), [contid]);
    container.end();
    soon("its end", || ops(&bench, "drop", contid) == 1);
    assert_eq!(told(&bench, "drift", contid), [""; 0]);
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

#[test]
fn a_container_that_runs_before_the_agent_is_found_by_its_group() {
    let test = "a_container_that_runs_before_the_agent_is_found_by_its_group";
    let bench = Bench::new();
    let _cleared = Cleared::after("docker");
    bench.write("config", "[agent]\nsources = [\"bpf\"]\n");
    let id = id_of(&bench, "before");
    let script = "sleep 50 & sleep 50 & read line";
    let Some(bundle) = in_docker(test, &bench, ("before", &id), false, script) else { return };
    let container = Runc::start(&bundle, &id);
    let init = || -> Option<u64> {
        let said = Command::new("runc").args(["state", &id]).output().unwrap().stdout;
        let state: Value = serde_json::from_slice(&said).ok()?;
        let pid = state["pid"].as_u64()?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        (children.split_ascii_whitespace().count() == 2).then_some(pid)
    };
    soon("its processes", || init().is_some());
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    soon("it", || contids(&bench, &id) == [expected(&id)]);
    let found = told(&bench, "found", expected(&id));
    assert!(found[0].contains(" how=listed processes=3 "), "{found:?}");
    // What is inferred says so.
    let ran = bench.veritrail(&["search", "--trail", "trail", "--raw", "-m", "VT_CONTAINER"]);
    assert!(
        ran.out
            .lines()
            .any(|line| line.contains("state=found") || line.contains("VT_CONF=inferred"))
    );
    container.end();
    soon("its end", || contids(&bench, &id).is_empty());
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

/// By the hook alone, by the group alone, and by both.
#[test]
fn a_container_has_one_number_whichever_way_it_comes() {
    let test = "a_container_has_one_number_whichever_way_it_comes";
    let bench = Bench::new();
    let _cleared = Cleared::after("docker");
    bench.write("off", "[agent]\nsources = [\"bpf\"]\n[containers]\ngroups = false\n");
    bench.write("on", "[agent]\nsources = [\"bpf\"]\n");
    let id = id_of(&bench, "one");
    for (config, hook) in [("off", true), ("on", false), ("on", true)] {
        let Some(agent) = start(test, &bench, &["--config", config]) else { return };
        let Some(bundle) = in_docker(test, &bench, ("one", &id), hook, "read line") else { return };
        let container = Runc::start(&bundle, &id);
        let runtime = if hook { "runc" } else { "docker" };
        soon("it", || {
            let all = containers(&bench, &id);
            all.first().is_some_and(|one| one["description"]["runtime"] == runtime)
        });
        assert_eq!(contids(&bench, &id), [expected(&id)], "{config} {hook}");
        container.end();
        soon("its end", || contids(&bench, &id).is_empty());
        assert_eq!(agent.stop(), Some(0));
        fs::remove_dir_all(bundle).unwrap();
    }
    assert_eq!(ops(&bench, "drop", expected(&id)), 3);
    assert_eq!(ops(&bench, "set", expected(&id)), 4, "by both it is told twice");
    bench.trail_is_good();
}

/// What a container's root may do in its own groups, and what only the host's may.
#[test]
fn no_group_that_a_container_makes_names_it_as_another() {
    let test = "no_group_that_a_container_makes_names_it_as_another";
    let bench = Bench::new();
    let _cleared = Cleared::after("docker");
    bench.write("config", "[agent]\nsources = [\"bpf\"]\n");
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let ids = ["one", "two"].map(|name| id_of(&bench, name));
    let mut running = Vec::new();
    for (name, id) in ["one", "two"].iter().zip(&ids) {
        let script = "sleep 50 & read line";
        let Some(bundle) = in_docker(test, &bench, (name, id), false, script) else { return };
        running.push(Runc::start(&bundle, id));
    }
    let [one, two] = [0, 1].map(|at: usize| ids[at].as_str());
    let members = |group: &Path| {
        fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines().count()
    };
    let group = unified().join("docker").join(one);
    soon("both", || {
        let runs = |id: &String| containers(&bench, id).iter().any(|one| one["processes"] == 2);
        ids.iter().all(runs) && members(&group) == 2
    });
    let procs = fs::read_to_string(group.join("cgroup.procs")).unwrap();
    let sleeper = procs.lines().last().unwrap().to_owned();
    let label = || {
        let ran = bench.veritrail(&["container", "get", &sleeper, "--run-dir", "run"]);
        ran.out.trim_end().parse::<u64>().ok()
    };
    let go = |to: &Path| {
        fs::create_dir_all(to).unwrap();
        fs::write(to.join("cgroup.procs"), &sleeper).unwrap();
        thread::sleep(Duration::from_millis(300));
    };
    go(&group.join(format!("docker/{two}")));
    go(&group.join(format!("docker-{two}.scope")));
    assert_eq!(label(), Some(expected(one)));
    assert_eq!(told(&bench, "drift", expected(one)), [""; 0]);
    // Out of its own, which takes rights of the host.
    go(&unified().join("docker").join(two));
    assert_eq!(label(), Some(expected(one)));
    soon("the drift", || !told(&bench, "drift", expected(one)).is_empty());
    let drift = told(&bench, "drift", expected(one));
    let start = format!("state=drift contid={} opid={sleeper} ns=cgroup ", expected(one));
    assert!(drift.len() == 1 && drift[0].starts_with(&start), "{drift:?}");
    for id in [one, two] {
        assert_eq!(contids(&bench, id), [expected(id)]);
    }
    fs::write(group.join("cgroup.procs"), &sleeper).unwrap();
    for name in [format!("docker/{two}"), "docker".into(), format!("docker-{two}.scope")] {
        fs::remove_dir(group.join(name)).unwrap();
    }
    for container in running {
        container.end();
    }
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

/// An agent that does not get to it in time: every event names the container all the same, and says how that
/// is known.
#[test]
fn what_runs_before_the_label_is_told_as_inferred() {
    let test = "what_runs_before_the_label_is_told_as_inferred";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let _cleared = Cleared::after("docker");
    let Some(agent) = start(test, &bench, &["--audit-mode", "coexist"]) else { return };
    let id = id_of(&bench, "short");
    let script = "/bin/cat /shared; /bin/cat /shared";
    let Some(bundle) = in_docker(test, &bench, ("short", &id), false, script) else { return };
    let watch = format!("-w {} -p r -k shared", bench.path("shared").display());
    crate::rules::add(&mut auditing.control, &watch);
    agent.signal(Signal::STOP);
    Runc::start(&bundle, &id).end();
    agent.signal(Signal::CONT);
    let contid = expected(&id);
    let wanted = format!("contid={contid} VT_CONF=inferred");
    let named = || bench.bodies("CONTAINER_ID").iter().filter(|body| **body == wanted).count();
    soon("both", || named() >= 2);
    let found = told(&bench, "found", contid);
    assert!(found.len() == 1 && found[0].contains(" how=attached processes=0 "), "{found:?}");
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

/// podman with all its files in the bench; none, visibly, where there is no podman.
struct Podman<'b> {
    bench: &'b Bench,
    name: String,
}

impl<'b> Podman<'b> {
    /// With an image of busybox: that of this bundle.
    fn new(test: &str, bench: &'b Bench, bundle: &Path) -> Option<Podman<'b>> {
        let there = Command::new("podman").arg("--version").output();
        if there.is_err() || Command::new("conmon").arg("--version").output().is_err() {
            eprintln!("SKIPPED: {test}: no podman, or no conmon");
            return None;
        }
        let name = format!("vt{}", std::process::id());
        let podman = Podman { bench, name };
        let image = bench.path("image.tar");
        let packed = Command::new("tar")
            .arg("-C")
            .arg(bundle.join("rootfs"))
            .arg("-cf")
            .arg(&image)
            .arg(".")
            .status()
            .unwrap();
        assert!(packed.success());
        podman.run(&["import", image.to_str().unwrap(), "localhost/busybox:1"]);
        Some(podman)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "90", "podman"]);
        for (option, place) in [("--root", "root"), ("--runroot", "runroot"), ("--tmpdir", "tmp")] {
            command.arg(option).arg(self.bench.path("podman").join(place));
        }
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
        command.args(["--events-backend", "file", "--runtime", "runc"]);
        command
    }

    /// What it says, without the line's end.
    fn run(&self, words: &[&str]) -> String {
        let ran = self.command().args(words).output().unwrap();
        assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim_end().to_owned()
    }

    /// Starts a container; its id.
    fn start(&self, before: &[&str], script: &str) -> String {
        let shared = format!("{}:/shared", self.bench.path("shared").display());
        let mut words = before.to_vec();
        words.extend(["run", "-d", "--network", "none", "--name", self.name.as_str()]);
        words.extend(["-v", shared.as_str()]);
        // Limits that root of a machine may not raise are asked for else.
        words.extend(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        words.extend(["localhost/busybox:1", "/bin/sh", "-c", script]);
        self.run(&words)
    }

    fn remove(&self) {
        // One that ends just now is an error to podman 4, and is removed the next time.
        soon("its removal", || {
            let ran = self.command().args(["rm", "-f", "-t", "0", &self.name]).output().unwrap();
            ran.status.success()
        });
    }

    /// What the agent needs to know where this one's files are.
    fn config(bench: &Bench) -> String {
        let place = bench.path("podman/root");
        format!("[containers]\nplaces = [\"{}\"]\n", place.display())
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let _ = self.command().args(["rm", "-f", "-t", "0", &self.name]).output();
    }
}

/// With the hook and without: the same number, name and image; and a program that is run in it.
#[test]
fn a_container_of_podman_is_known_with_and_without_the_hook() {
    let test = "a_container_of_podman_is_known_with_and_without_the_hook";
    let bench = Bench::new();
    let _cleared = Cleared::after("libpod_parent");
    let config = format!("[agent]\nsources = [\"bpf\"]\n{}", Podman::config(&bench));
    bench.write("config", &config);
    bench.write("shared", "x");
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let Some(bundle) = bundle(test, &bench, "bundle", "true") else { return };
    let Some(podman) = Podman::new(test, &bench, &bundle) else { return };
    let hooks = bench.path("hooks");
    fs::create_dir(&hooks).unwrap();
    let hook = bench.path("hook");
    assert!(fs::metadata(&hook).unwrap().permissions().mode() & 0o100 != 0);
    let about = json!({
        "version": "1.0.0", "hook": {"path": hook}, "when": {"always": true},
        "stages": ["createRuntime", "poststop"]
    });
    fs::write(hooks.join("veritrail.json"), about.to_string()).unwrap();
    let hooks = hooks.to_str().unwrap().to_owned();
    for (before, runtime) in [(&["--hooks-dir", hooks.as_str()][..], "runc"), (&[][..], "podman")] {
        let id = podman.start(before, "sleep 60");
        soon("it", || {
            containers(&bench, &id).first().is_some_and(|one| {
                one["description"]["digest"].is_string() && one["description"]["runtime"] == runtime
            })
        });
        let all = containers(&bench, &id);
        assert_eq!(contids(&bench, &id), [expected(&id)], "{all:?}");
        let description = &all[0]["description"];
        assert_eq!(description["name"], podman.name.as_str());
        assert_eq!(description["image"], "localhost/busybox:1");
        assert!(description["digest"].as_str().unwrap().starts_with("sha256:"));
        let pid = podman.run(&["inspect", "-f", "{{.State.Pid}}", &podman.name]);
        let get = |pid: &str| bench.veritrail(&["container", "get", pid, "--run-dir", "run"]).out;
        assert_eq!(get(&pid), format!("{}\n", expected(&id)));
        // conmon is the host's.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
        assert_eq!(get(parent), "unset\n");
        podman.run(&["exec", "-d", &podman.name, "/bin/sleep", "61"]);
        soon("the program", || containers(&bench, &id)[0]["processes"] == 2);
        podman.remove();
        soon("its end", || contids(&bench, &id).is_empty());
        assert_eq!(told(&bench, "drift", expected(&id)), [""; 0]);
    }
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(bench.bodies("VT_GAP"), [""; 0]);
    bench.trail_is_good();
}

/// Two of runc, with the hook and without, and one of podman read the same file: each event is of the one
/// that did it.
#[test]
fn containers_of_two_runtimes_that_read_one_file_are_told_apart() {
    let test = "containers_of_two_runtimes_that_read_one_file_are_told_apart";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    let _cleared = Cleared::after("docker");
    bench.write("config", &Podman::config(&bench));
    let Some(agent) = start(test, &bench, &["--audit-mode", "coexist", "--config", "config"])
    else {
        return;
    };
    let ids = ["one", "two"].map(|name| id_of(&bench, name));
    // Each container reads as often as no other does, by programs that are gone at once.
    let script = |times: u32| {
        format!("n=0; while [ $n -lt {times} ]; do n=$((n+1)); /bin/cat /shared; done; sleep 5")
    };
    let mut bundles = Vec::new();
    for (at, (name, hook)) in [("one", true), ("two", false)].into_iter().enumerate() {
        let script = script(if at == 0 { 20 } else { 30 });
        let Some(bundle) = in_docker(test, &bench, (name, &ids[at]), hook, &script) else { return };
        bundles.push(bundle);
    }
    let Some(podman) = Podman::new(test, &bench, &bundles[0]) else { return };
    let watch = format!("-w {} -p r -k shared", bench.path("shared").display());
    crate::rules::add(&mut auditing.control, &watch);
    let running: Vec<Runc> =
        bundles.iter().zip(&ids).map(|(bundle, id)| Runc::start(bundle, id)).collect();
    let third = podman.start(&[], &script(40));
    let outside = Command::new("cat").arg(bench.path("shared")).output().unwrap();
    assert!(outside.status.success());
    let count = |contid: &str| {
        let words = ["search", "--trail", "trail", "--json", "-k", "shared"];
        let ran = bench.veritrail(&words);
        let mut found = 0;
        for line in ran.out.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let records = event["records"].as_array().unwrap();
            let of = |kind: &str| records.iter().find(|record| record["type"] == kind);
            if of("SYSCALL").is_some_and(|call| call["fields"]["comm"] == "cat") {
                let named =
                    of("CONTAINER_ID").map_or("", |id| id["fields"]["contid"].as_str().unwrap());
                found += usize::from(named == contid);
            }
        }
        found
    };
    let wanted = [(&ids[0], 20), (&ids[1], 30), (&third, 40)];
    soon("all of them", || wanted.iter().all(|(id, n)| count(&expected(id).to_string()) >= *n));
    for (id, n) in wanted {
        assert_eq!(count(&expected(id).to_string()), n);
    }
    assert_eq!(count(""), 1, "what the host reads is of none");
    for container in running {
        container.end();
    }
    podman.remove();
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

/// As systemd runs one as a service: in a group of that name.
#[test]
fn a_container_of_nspawn_is_found_by_its_group() {
    let test = "a_container_of_nspawn_is_found_by_its_group";
    let bench = Bench::new();
    if Command::new("systemd-nspawn").arg("--version").output().is_err() {
        eprintln!("SKIPPED: {test}: no systemd-nspawn");
        return;
    }
    bench.write("config", "[agent]\nsources = [\"bpf\"]\n");
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let Some(bundle) = bundle(test, &bench, "bundle", "true") else { return };
    let root = bundle.join("rootfs");
    fs::create_dir(root.join("usr")).unwrap();
    let name = format!("vt{}", std::process::id());
    let _cleared = Cleared::after("machine.slice");
    let group = unified().join(format!("machine.slice/systemd-nspawn@{name}.service"));
    fs::create_dir_all(&group).unwrap();
    let script = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.display());
    let mut nspawn = Command::new("timeout")
        .args(["-k", "5", "60", "sh", "-c", &script, "sh"])
        .args(["systemd-nspawn", "-q", "--register=no", "--keep-unit", "-M", &name, "-D"])
        .arg(&root)
        .args(["/bin/sh", "-c", "/bin/true; sleep 8"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    soon("it", || contids(&bench, &name).len() == 1);
    let found = &containers(&bench, &name)[0];
    assert_eq!(found["description"]["runtime"], "systemd-nspawn");
    assert_eq!(found["group"], format!("/machine.slice/systemd-nspawn@{name}.service"));
    // systemd-nspawn itself is the host's, and what it runs is not.
    let of = |part: &str| fs::read_to_string(group.join(part).join("cgroup.procs")).unwrap();
    let get = |pid: &str| bench.veritrail(&["container", "get", pid, "--run-dir", "run"]).out;
    soon("its program", || of("payload").lines().count() >= 1);
    let contid = found["contid"].as_u64().unwrap();
    assert_eq!(get(of("payload").lines().last().unwrap()), format!("{contid}\n"));
    assert_eq!(get(of("supervisor").lines().next().unwrap()), "unset\n");
    let _ = nspawn.wait();
    soon("its end", || contids(&bench, &name).is_empty());
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

/// Root of a container that is found by nothing, as of LXC, calls its groups as others' are called, and has processes
/// come into them one after the other.
#[test]
fn in_a_place_that_is_not_roots_all_are_labelled_and_few_records_made() {
    let test = "in_a_place_that_is_not_roots_all_are_labelled_and_few_records_made";
    let bench = Bench::new();
    bench.write("config", "[agent]\nsources = [\"bpf\"]\n");
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let id = id_of(&bench, "victim");
    let name = format!("lxc.payload.vt{}", std::process::id());
    let group = unified().join(&name).join(format!("system.slice/docker-{id}.scope"));
    if let Err(error) = fs::create_dir_all(&group) {
        return eprintln!("SKIPPED: {test}: no control group can be made: {error}");
    }
    let mut all: Vec<Child> = Vec::new();
    let mut come = |count: usize| {
        for _ in 0..count {
            let child = Command::new("sleep").arg("60").spawn().unwrap();
            fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
            all.push(child);
        }
    };
    come(1);
    let path = format!("/{name}/system.slice/docker-{id}.scope");
    soon("it", || contids(&bench, &path).len() == 1);
    let contid = contids(&bench, &path)[0];
    assert_ne!(contid, expected(&id));
    come(100);
    soon("all of them", || containers(&bench, &path)[0]["processes"] == 101);
    // When the first of the hundred came, and when a second had passed; one more where that took longer.
    assert!(ops(&bench, "set", contid) <= 4, "{}", ops(&bench, "set", contid));
    for mut child in all {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    remove_empty(&unified().join(&name));
    soon("its end", || contids(&bench, &path).is_empty());
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}
