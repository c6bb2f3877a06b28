//! Packets that the kernel makes records of (`iptables -j AUDIT`, `log level audit` of nft): of which
//! containers they may be. Real packets in network namespaces of their own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::auditing::Auditing;
use crate::bench::{Agent, Bench, soon};
use crate::containers::{file, start};

/// Records, and who was in the namespace: nothing else.
const CONFIG: &str = "[agent]\nsources = [\"audit\", \"bpf\"]\n";

/// Some ticks of audit's clock.
const TICKS: Duration = Duration::from_millis(50);

const UNSET: &str = "18446744073709551615";

/// Rules for echo requests, and how they are asked for.
const IPTABLES: &str = "iptables -I INPUT -p icmp --icmp-type echo-request -d 198.51.100.0/28 -j AUDIT --type accept
    ip6tables -I INPUT -p ipv6-icmp --icmpv6-type echo-request -d 2001:db8::/124 -j AUDIT --type accept";
const NFT: &str =
    "nft 'add table inet t; add chain inet t in { type filter hook input priority 0; }
    add rule inet t in ip daddr 198.51.100.16/28 icmp type echo-request log level audit
    add rule inet t in ip6 daddr 2001:db8::10/124 icmpv6 type echo-request log level audit'";

/// A process that waits for a line, then does the rest of its script; killed when it is dropped.
struct Waiting(Child);

impl Waiting {
    /// `before` was done, or not.
    fn begin(runner: &[&str], before: &str, then: &str) -> Result<Waiting, String> {
        let script = format!("set -e\n{before}\necho up; read line; {then}");
        let (program, arguments) = runner.split_first().unwrap();
        let mut child = Command::new(program)
            .args(arguments)
            .args(["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        if said == "up\n" {
            return Ok(Waiting(child));
        }
        let output = child.wait_with_output().unwrap();
        Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn go(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Where it is now.
    fn network(&self) -> String {
        let link = std::fs::read_link(format!("/proc/{}/ns/net", self.pid())).unwrap();
        link.to_str().unwrap().to_owned()
    }

    fn label(&self, bench: &Bench, id: u32) {
        std::fs::write(file(bench, self.pid()), id.to_string()).unwrap();
    }

    /// One echo request from its network namespace to itself.
    fn ping(&self, address: &str) {
        let pid = self.pid().to_string();
        let ping = ["-t", &pid, "-n", "ping", "-q", "-n", "-c", "1", "-W", "2", address];
        let output = Command::new("nsenter").args(ping).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A namespace with rules and these addresses, and a process in it; none, visibly, where that cannot be had.
fn network(test: &str, addresses: &[&str], rules: &str, then: &str) -> Option<Waiting> {
    let add = |address: &&str| format!("ip addr add {address} dev lo\n");
    let add: String = addresses.iter().map(add).collect();
    let before = format!("ip link set lo up\n{add}{rules}");
    match Waiting::begin(&["unshare", "-n"], &before, then) {
        Ok(waiting) => Some(waiting),
        Err(why) => {
            eprintln!("SKIPPED: {test}: no records of packets here: {why}");
            None
        }
    }
}

/// Where the kernel tells the namespace of such a packet, what is said of it is certain.
fn is_told(bench: &Bench, program: &str) -> bool {
    let status = bench.status();
    let mut programs = status["programs"].as_array().unwrap().iter();
    programs.any(|one| one["name"] == program && one["state"] == "attached")
}

/// What stands beside the records of packets whose lines have this: CONTAINER_ID, each once.
fn beside(bench: &Bench, what: &str) -> Option<Vec<String>> {
    let ran = bench.veritrail(&["search", "--trail", "trail", "--raw", "-m", "NETFILTER_PKT"]);
    let id =
        |line: &str| line.split_once("msg=audit(")?.1.split_once(')').map(|(id, _)| id.to_owned());
    let lines = || ran.out.lines().map(|line| line.split('\x1d').next().unwrap());
    let packets = lines().filter(|line| line.starts_with("type=NETFILTER_PKT "));
    let ids: Vec<_> = packets.filter(|line| line.contains(what)).filter_map(id).collect();
    let ours = |line: &&str| id(line).is_some_and(|id| ids.contains(&id));
    let body = |line: &str| {
        let line = line.strip_prefix("type=CONTAINER_ID ")?;
        Some(line.split_once(": ").unwrap().1.to_owned())
    };
    let mut found: Vec<String> = lines().filter(ours).filter_map(body).collect();
    found.sort();
    found.dedup();
    (!ids.is_empty()).then_some(found)
}

/// Waits until that is said of the packets whose records have this.
fn said(bench: &Bench, what: &str) -> String {
    let mut found = None;
    soon(&format!("the containers of {what}"), || {
        found = beside(bench, what).filter(|found| !found.is_empty());
        found.is_some()
    });
    let found = found.unwrap();
    assert_eq!(found.len(), 1, "{what}: {found:?}");
    found.into_iter().next().unwrap()
}

/// Sends from there to that address of its own, and checks who is said to have been in the namespace.
fn check(bench: &Bench, from: &Waiting, program: &str, address: &str, ids: &str) {
    from.ping(address);
    let how = if is_told(bench, program) { "" } else { " VT_CONF=inferred" };
    let wanted = format!("contid={ids}{how} VT_VIA=netns");
    assert_eq!(said(bench, &format!("daddr={address} ")), wanted, "{program}, {address}");
}

fn begin(test: &str) -> Option<(Auditing, Bench, Agent)> {
    let auditing = Auditing::begin(test)?;
    let bench = Bench::new();
    bench.write("config", CONFIG);
    let agent = start(test, &bench, &["--config", "config", "--audit-mode", "coexist"])?;
    Some((auditing, bench, agent))
}

fn stop(bench: &Bench, agent: Agent) {
    assert_eq!(agent.stop(), Some(0));
    bench.trail_is_good();
}

const ADDRESSES: [&str; 10] = [
    "198.51.100.1/32",
    "198.51.100.2/32",
    "198.51.100.3/32",
    "198.51.100.17/32",
    "198.51.100.18/32",
    "2001:db8::1/128",
    "2001:db8::2/128",
    "2001:db8::11/128",
    "2001:db8::12/128",
    "2001:db8::13/128",
];

#[test]
fn a_packet_names_the_containers_of_its_network_namespace() {
    let test = "a_packet_names_the_containers_of_its_network_namespace";
    let Some((auditing, bench, agent)) = begin(test) else { return };
    let Some(first) = network(test, &ADDRESSES, IPTABLES, "true") else { return };
    let leave = "exec unshare -n sleep 60";
    let pid = first.pid().to_string();
    let mut second = Waiting::begin(&["nsenter", "-t", &pid, "-n"], "", leave).unwrap();
    let witness = Waiting::begin(&["nsenter", "-t", &pid, "-n"], "", "true").unwrap();
    first.label(&bench, 123_451);
    second.label(&bench, 123_452);
    // Two that are in it, the one that came last first.
    check(&bench, &first, "packets-xt", "198.51.100.1", "123452,123451");
    check(&bench, &first, "packets-xt", "2001:db8::1", "123452,123451");
    let nft = Command::new("nsenter").args(["-t", &pid, "-n", "sh", "-c", NFT]).output().unwrap();
    if nft.status.success() {
        check(&bench, &first, "packets-nft", "198.51.100.17", "123452,123451");
        check(&bench, &first, "packets-nft", "2001:db8::11", "123452,123451");
    } else {
        eprintln!("SKIPPED: {test}: nft: {}", String::from_utf8_lossy(&nft.stderr).trim());
    }
    // One ends. A stamp stands for the tick after it, and who was there in that may have been meant.
    drop(first);
    thread::sleep(TICKS);
    check(&bench, &witness, "packets-xt", "198.51.100.2", "123452");
    // The other goes into a namespace of its own.
    let before = second.network();
    second.go();
    soon("its own namespace", || second.network() != before);
    thread::sleep(TICKS);
    witness.ping("198.51.100.3");
    if is_told(&bench, "packets-xt") {
        soon("the record", || beside(&bench, "daddr=198.51.100.3 ").is_some());
        // All that is held is decided when it ends.
        stop(&bench, agent);
        assert_eq!(beside(&bench, "daddr=198.51.100.3 "), Some(Vec::new()));
    } else {
        let wanted = format!("contid={UNSET} VT_CONF=inferred VT_VIA=netns");
        assert_eq!(said(&bench, "daddr=198.51.100.3 "), wanted);
        stop(&bench, agent);
    }
    drop(auditing);
}

#[test]
fn packets_with_the_same_addresses_are_never_another_containers() {
    let test = "packets_with_the_same_addresses_are_never_another_containers";
    let Some((auditing, bench, agent)) = begin(test) else { return };
    // The mark tells us, and nobody else, whose it is: whoever may configure a namespace may set any.
    let rules = |mark: u32| {
        format!(
            "iptables -I INPUT -p icmp --icmp-type echo-request -j AUDIT --type accept\n\
             iptables -t mangle -I INPUT -p icmp -j MARK --set-mark {mark:#x}"
        )
    };
    let addresses = ["203.0.113.5/32"];
    let Some(first) = network(test, &addresses, &rules(0x71), "true") else { return };
    let Some(second) = network(test, &addresses, &rules(0x82), "true") else { return };
    first.label(&bench, 7);
    second.label(&bench, 8);
    for (from, mark, id) in [(&first, "mark=0x71 ", 7), (&second, "mark=0x82 ", 8)] {
        from.ping("203.0.113.5");
        let wanted = match is_told(&bench, "packets-xt") {
            true => format!("contid={id} VT_VIA=netns"),
            false => "contid=7,8 VT_CONF=ambiguous VT_VIA=netns".to_owned(),
        };
        // In which order namespaces are looked at is of no matter.
        let found = said(&bench, mark).replace("contid=8,7 ", "contid=7,8 ");
        assert_eq!(found, wanted, "{mark}");
    }
    stop(&bench, agent);
    drop(auditing);
}
