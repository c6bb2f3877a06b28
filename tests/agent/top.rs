//! `container top`: what it prints, and what it does to a terminal.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::Bench;
use crate::containers::{BPF_ONLY, Waiting, set, start};

/// Called by whoever would move the cursor.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;evil\u{7}\u{202e}\n";

/// Types `keys` after a while at a terminal on which the words run; how they ended, and what was on the screen.
fn at_terminal(bench: &Bench, words: &str, keys: &[u8]) -> (Option<i32>, String) {
    let veritrail = env!("CARGO_BIN_EXE_veritrail");
    let run = bench.path("run");
    let words =
        words.replace("TOP", &format!("{veritrail} container top --run-dir {}", run.display()));
    let mut child = Command::new("timeout")
        .args([
            "-k",
            "1",
            "30",
            "script",
            "-qec",
            // A shell that was sent the interrupt too ends with it, where it does not catch it.
            &format!("trap : INT; stty rows 7 cols 60; {words}"),
            "/dev/null",
        ])
        // script(1) takes the shell of whoever calls it.
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    thread::sleep(Duration::from_millis(1500));
    keyboard.write_all(keys).unwrap();
    let output = child.wait_with_output();
    drop(keyboard);
    let output = output.unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn top_shows_the_busiest_first_and_no_name_reaches_the_terminal() {
    let test = "top_shows_the_busiest_first_and_no_name_reaches_the_terminal";
    let bench = Bench::new();
    let top = |more: &[&str]| {
        let words = [&["container", "top", "--run-dir", "run", "-i", "0.3"], more].concat();
        bench.veritrail(&words)
    };
    fs::create_dir_all(bench.path("run")).unwrap();
    let ran = top(&["-n", "1"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(3), ""), "{ran:?}");
    for wrong in [&["--sort", "size"][..], &["-i", "0"], &["-n", "0"], &["-i", "x"]] {
        assert_eq!(top(wrong).status, Some(2), "{wrong:?}");
    }
    bench.write("config", BPF_ONLY);
    let Some(agent) = start(test, &bench, &["--config", "config"]) else { return };
    let quiet = Waiting::new("true");
    set(&bench, quiet.pid(), "77401").unwrap();
    let hostile = Waiting::new("sleep 60 & sleep 60 & wait");
    let pid = hostile.pid().to_string();
    let ran = bench.veritrail(&[
        "container",
        "set",
        &pid,
        "77402",
        "--name",
        HOSTILE,
        "--run-dir",
        "run",
    ]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let mut hostile = hostile;
    hostile.go();
    let contids = |line: &str| -> Vec<u64> {
        let frame: Value = serde_json::from_str(line).unwrap();
        assert!(frame["time"].is_string() && frame["interval_ms"].as_u64() >= Some(300), "{frame}");
        let containers = frame["containers"].as_array().unwrap();
        containers.iter().map(|one| one["contid"].as_u64().unwrap()).collect()
    };
    crate::bench::soon("its processes", || {
        let ran = top(&["-n", "1", "--json", "--sort", "processes"]);
        contids(&ran.out) == [77_402, 77_401]
    });
    let began = Instant::now();
    let ran = top(&["-n", "2", "--json", "--sort", "contid"]);
    assert!(began.elapsed() >= Duration::from_millis(600));
    assert_eq!(ran.out.lines().map(contids).collect::<Vec<_>>(), [[77_401, 77_402]; 2]);
    // A refused set is counted of whose it is.
    assert!(set(&bench, hostile.pid(), "77403").is_err());
    crate::bench::soon("the refusal", || {
        let ran = top(&["-n", "1", "--sort", "refused"]);
        assert_eq!(ran.status, Some(0));
        assert!(ran.out.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{:?}", ran.out);
        let lines: Vec<&str> = ran.out.lines().collect();
        assert!(
            lines[0].starts_with("2 containers, ") && lines[1].starts_with("CONTID "),
            "{lines:?}"
        );
        lines[2].starts_with("77402 ")
    });
    if Command::new("script").arg("-V").output().is_err() {
        eprintln!("SKIPPED: {test}: the terminal: no script(1)");
        return;
    }
    for (words, keys) in
        [("TOP -i 0.2; echo; stty -a", &b"q"[..]), ("TOP -i 60; echo; stty -a", b"\x03")]
    {
        let (status, screen) = at_terminal(&bench, words, keys);
        assert_eq!(status, Some(0), "{screen:?}");
        let (drawn, after) = screen.split_once("\u{1b}[?25h\u{1b}[?1049l").expect(&screen);
        let drawn = drawn.split_once("\u{1b}[?1049h\u{1b}[?25l").expect(&screen).1;
        assert!(drawn.contains("77402") && drawn.contains("q: end"), "{screen:?}");
        // Nothing but our own controls, on lines that fit.
        // The terminal puts one more CR before each LF.
        let own = ["\u{1b}[H", "\u{1b}[K", "\u{1b}[J", "\r\r\n", "\r\n"];
        for frame in drawn.split("\u{1b}[H").skip(1) {
            assert!(frame.lines().count() <= 7, "{frame:?}");
            let text = own.iter().fold(frame.to_owned(), |text, own| text.replace(own, "|"));
            assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text:?}");
            assert!(text.split('|').all(|line| line.len() <= 60), "{text:?}");
        }
        assert!(after.contains(" icanon ") && after.contains(" echo "), "{after:?}");
    }
    assert_eq!(agent.stop(), Some(0));
}
