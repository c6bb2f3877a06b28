//! `agent metrics` by curl and promtool, with an agent and without, and by clients that are none.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::bench::{Bench, PROGRAM, has, is_root, port, soon};
use crate::forward::Wire;

fn checked(bench: &Bench, page: &str) {
    bench.write("page", page);
    let ran = bench.run("sh", &["-c", "promtool check metrics < page"]);
    assert!(ran.status.success() && ran.stderr.is_empty(), "{page}\n{ran:?}");
}

#[test]
fn prometheus_reads_what_the_agent_counts() {
    let test = "prometheus_reads_what_the_agent_counts";
    if !has(test, &["curl", "promtool"]) || !is_root(test) {
        return;
    }
    let Some(wire) = Wire::new(test) else { return };
    let bench = &wire.bench;
    wire.configure("[agent]\nsources = [\"uevent\", \"kmsg\"]\npoll_seconds = 1\n");
    let agent = bench.start(
        "timeout",
        &[
            "100",
            PROGRAM,
            "agent",
            "run",
            "--trail",
            "trail",
            "--run-dir",
            "run",
            "--config",
            "config",
        ],
        "agent.log",
    );
    soon("the agent", || bench.read("agent.log").contains("\nready"));
    let forwarder = wire.forward();

    let port = port();
    let unix = format!("unix:{}", wire.at("metrics.sock"));
    let tcp = format!("127.0.0.1:{port}");
    let mut exporters = Vec::new();
    for (name, listen) in [("a", &unix), ("b", &tcp)] {
        bench.write(name, &format!("[metrics]\nlisten = \"{listen}\"\n"));
        let log = format!("{name}.log");
        exporters.push(bench.start(
            PROGRAM,
            &["agent", "metrics", "--config", name, "--run-dir", "run"],
            &log,
        ));
        soon("the exporter", || bench.read(&log).contains("ready: "));
    }
    let url = format!("http://{tcp}/metrics");
    let by_tcp = || bench.good("curl", &["-sS", "--fail", "--max-time", "9", &url]);
    let by_unix = || {
        let socket = wire.at("metrics.sock");
        bench.good(
            "curl",
            &[
                "-sS",
                "--fail",
                "--max-time",
                "9",
                "--unix-socket",
                &socket,
                "http://localhost/metrics",
            ],
        )
    };
    for page in [by_tcp(), by_unix()] {
        checked(bench, &page);
        for line in
            ["veritrail_up 1", "veritrail_trail_works 1", "veritrail_source_up{source=\"kmsg\"} 1"]
        {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert!(
            page.contains("veritrail_process_resident_memory_bytes{process=\"agent\"} "),
            "{page}"
        );
    }

    // No server yet: that is told, in the trail and here; and that it works when there is one.
    let told = |state: &str| {
        let said = bench.run(PROGRAM, &["search", "--trail", "trail", "--raw", "-m", "VT_FORWARD"]);
        String::from_utf8_lossy(&said.stdout).contains(&format!("state={state}"))
    };
    soon("VT_FORWARD", || told("failing"));
    soon("the number", || by_tcp().contains("veritrail_forward_up 0\n"));
    let status = bench.good(PROGRAM, &["agent", "status", "--run-dir", "run"]);
    assert!(status.contains("forward:    failing to 127.0.0.1:"), "{status}");
    let server = wire.serve("anon");
    soon("VT_FORWARD", || told("working"));
    soon("the number", || by_unix().contains("veritrail_forward_up 1\n"));
    checked(bench, &by_unix());

    // Who says nothing, or nonsense, or too much, holds nobody else up.
    let quiet: Vec<_> = (0..7).map(|_| TcpStream::connect(&tcp).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(100));
    assert!(by_tcp().contains("veritrail_up 1\n"));
    let more: Vec<_> = (0..20).map(|_| TcpStream::connect(&tcp).unwrap()).collect();
    let began = Instant::now();
    soon("its turn", || {
        bench.run("curl", &["-sS", "--fail", "--max-time", "2", &url]).status.success()
    });
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    drop((quiet, more));
    for (request, status) in [
        (&b"\x16\x03\x01\x02\x00\r\n\r\n"[..], "HTTP/1.1 400 "),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 "),
        (&[b'a'; 9000], "HTTP/1.1 400 "),
    ] {
        let mut client = TcpStream::connect(&tcp).unwrap();
        client.write_all(request).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(status), "{answer}");
    }

    forwarder.stop();
    server.stop();
    agent.stop();
    soon("the end of the agent", || by_tcp().contains("veritrail_up 0\n"));
    checked(bench, &by_tcp());
}
