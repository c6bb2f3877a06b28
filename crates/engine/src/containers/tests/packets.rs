//! Packets: whose network namespace they were in.

use super::machine::{Machine, NET};
use super::*;

/// `MILLIS:SERIAL` of a record, the same as its time here.
fn record_at(machine: &Machine) -> record::EventId {
    record::EventId { millis: machine.moment().realtime_ns / 1_000_000, serial: 7 }
}

fn packet(source: &str, destination: &str) -> Packet {
    let address = |text: &str| Some(text.parse().unwrap());
    Packet { source: address(source), destination: address(destination) }
}

fn interfaces(network: u32, local: &[(&str, u8)], others: usize) -> Interfaces {
    let local = local.iter().map(|(text, bits)| (text.parse().unwrap(), *bits)).collect();
    Interfaces { network, local, others, forwards: [others > 1, false], whole: true }
}

fn told(labelled: Option<Labelled>) -> Vec<String> {
    let records = labelled.into_iter().flat_map(|labelled| labelled.records);
    let body = |body: record::write::Body| String::from_utf8(body.as_bytes().to_vec()).unwrap();
    records.map(|(kind, text)| format!("{kind} {}", body(text))).collect()
}

#[test]
fn a_packet_is_of_those_who_were_in_its_namespace_then() {
    let mut machine = Machine::new();
    let early = machine.now;
    machine.pass(1000);
    let [first, second] = [b"123451", b"123452"].map(|id| {
        let target = machine.fork(628);
        machine.write(target, id).unwrap();
        target
    });
    machine.deliver();
    let id = record_at(&machine);
    // Told by the kernel, and read after all of it: of that time only.
    let at = |machine: &mut Machine, at_ns: u64| {
        machine.containers.handle_packet(id, NET, at_ns);
        let nobody = || panic!("it was told");
        told(machine.containers.of_packet(id, &Packet::default(), [at_ns; 2], nobody))
    };
    let now = machine.now;
    let both = ["CONTAINER_ID contid=123452,123451 VT_VIA=netns"];
    assert_eq!(at(&mut machine, now), both);
    assert!(at(&mut machine, early).is_empty());
    machine.exit(first);
    machine.deliver();
    machine.pass(1000);
    assert_eq!(at(&mut machine, now), both);
    let now = machine.now;
    assert_eq!(at(&mut machine, now), ["CONTAINER_ID contid=123452 VT_VIA=netns"]);
    machine.unshare(second, |namespaces| namespaces.network = 4444);
    machine.deliver();
    machine.pass(1000);
    let now = machine.now;
    assert!(at(&mut machine, now).is_empty());
    machine.containers.handle_packet(id, 4444, now);
    let there = machine.containers.of_packet(id, &Packet::default(), [now; 2], || &[]);
    assert_eq!(told(there), ["CONTAINER_ID contid=123452 VT_VIA=netns"]);
    // One that is labelled anew is in the list as what it was until then.
    machine.write(second, b"5").unwrap();
    machine.containers.handle_packet(id, 4444, now);
    let there = machine.containers.of_packet(id, &Packet::default(), [now; 2], || &[]);
    assert_eq!(told(there), ["CONTAINER_ID contid=123452 VT_VIA=netns"]);
}

#[test]
fn a_packet_whose_namespace_was_not_told_is_never_certain() {
    let mut machine = Machine::new();
    let target = machine.fork(628);
    machine.write(target, b"7").unwrap();
    let other = machine.fork(628);
    machine.write(other, b"8").unwrap();
    machine.unshare(other, |namespaces| namespaces.network = 4444);
    machine.deliver();
    let (id, now) = (record_at(&machine), machine.now);
    let lo: &[(&str, u8)] = &[("127.0.0.0", 8), ("::1", 128)];
    let mut of = |packet: &Packet, interfaces: &[Interfaces]| {
        told(machine.containers.of_packet(id, packet, [now; 2], || interfaces))
    };
    let inferred = |id: u32| format!("CONTAINER_ID contid={id} VT_CONF=inferred VT_VIA=netns");
    let local = packet("127.0.0.1", "127.9.9.9");
    assert_eq!(of(&local, &[interfaces(NET, lo, 1), interfaces(4444, &[], 0)]), [inferred(7)]);
    assert_eq!(of(&packet("::1", "::1"), &[interfaces(4444, lo, 0)]), [inferred(8)]);
    // Both have the address: it may be either's, and neither is left out.
    let same = [interfaces(NET, lo, 3), interfaces(4444, lo, 0)];
    let either = ["CONTAINER_ID contid=7,8 VT_CONF=ambiguous VT_VIA=netns"];
    assert_eq!(of(&local, &same), either);
    // One between others may hand it on; one with a single interface may not.
    let (inside, outside) = (&[("10.0.0.2", 32)][..], &[("192.0.2.1", 32)][..]);
    let from_inside = packet("10.0.0.2", "198.51.100.9");
    assert_eq!(
        of(&from_inside, &[interfaces(NET, outside, 2), interfaces(4444, inside, 1)]),
        either
    );
    assert_eq!(
        of(&from_inside, &[interfaces(NET, outside, 1), interfaces(4444, inside, 1)]),
        [inferred(8)]
    );
    // One that could not be looked at may have anything, and nobody may be in it.
    let mut unread = interfaces(99, &[], 0);
    unread.whole = false;
    let unset = format!("CONTAINER_ID contid=7,{UNSET} VT_CONF=ambiguous VT_VIA=netns");
    assert_eq!(of(&local, &[unread, interfaces(NET, lo, 0)]), [unset]);
    let unknown = format!("CONTAINER_ID contid={UNSET} VT_CONF=unknown VT_VIA=netns");
    assert_eq!(of(&local, &[]), [&*unknown]);
    assert_eq!(of(&local, &[interfaces(4444, &[], 1)]), [&*unknown]);
    // What the kernel could not read may be anybody's.
    assert_eq!(of(&Packet::default(), &same), either);
}

#[test]
fn a_record_whose_namespace_was_told_differently_is_not_believed() {
    let mut machine = Machine::new();
    let target = machine.fork(628);
    machine.write(target, b"7").unwrap();
    machine.deliver();
    let (id, now) = (record_at(&machine), machine.now);
    for network in [NET, NET, 4444, NET] {
        machine.containers.handle_packet(id, network, now);
    }
    let found = machine.containers.of_packet(id, &Packet::default(), [now; 2], || &[]);
    let unknown = format!("CONTAINER_ID contid={UNSET} VT_CONF=unknown VT_VIA=netns");
    assert_eq!(told(found), [unknown]);
}

#[test]
fn what_is_heard_after_a_set_of_before_it_changes_nothing() {
    let mut machine = Machine::new();
    let first = machine.fork(628);
    machine.write(first, b"1").unwrap();
    machine.deliver();
    let second = machine.fork(628);
    machine.unshare(second, |namespaces| namespaces.network = 4444);
    machine.unshare(second, |namespaces| namespaces.network = NET);
    // Its way there is still in the ring.
    machine.write(second, b"2").unwrap();
    machine.deliver();
    assert_eq!(machine.in_network(NET), [ContId(2), ContId(1)]);
    assert!(machine.in_network(4444).is_empty());
    let said = machine.take_said();
    assert!(said.iter().all(|line| !line.contains("state=drift")), "{said:?}");
}
