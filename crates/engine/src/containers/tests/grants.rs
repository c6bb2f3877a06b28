//! What a container may that is granted something, and what it may not.

use super::machine::{Machine, caller};
use super::*;

const MANAGER: u64 = 77;

fn grant(most: usize) -> Grant {
    let container = Grantee::Called("manager".into());
    Grant { name: "ci".into(), container, ids: 500..=509, most }
}

/// A container called so, and its first process, whose write is what is judged from then on.
fn with_manager(most: usize) -> (Machine, u32) {
    let mut machine = Machine::new();
    machine.containers.handle_grants(vec![grant(most)]);
    let manager = machine.fork(628);
    machine.write(manager, b"77").unwrap();
    describe(&mut machine, MANAGER, "manager");
    machine.take_said();
    be(&mut machine, manager, MANAGER);
    (machine, manager)
}

fn describe(machine: &mut Machine, id: u64, name: &str) {
    let description = Description { name: Some(name.into()), ..Description::default() };
    machine.containers.handle_described(ReqId(1), ContId(id), description);
    machine.run();
}

fn be(machine: &mut Machine, pid: u32, contid: u64) {
    machine.caller = Caller { pid, capable: false, contid: ContId(contid), ..caller() };
}

#[test]
fn a_grantee_makes_containers_of_what_is_its_own_and_of_nothing_else() {
    let (mut machine, manager) = with_manager(8);
    let child = machine.fork(manager);
    let other = machine.fork(manager);
    let stranger = machine.fork(628);
    assert_eq!(machine.write(child, b"500"), Ok(Answer::Written(3)));
    let said = machine.take_said();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said[0].starts_with(&format!("CONTAINER_OP op=set opid={child} old-contid=77 contid=500 "))
    );
    assert!(said[1].contains("state=begun contid=500") && said[1].contains(" parent=77 "));
    let granted = format!("VT_CONTAINER state=granted contid=500 opid={child} by=77 grant=\"ci\"");
    assert_eq!(said[2], granted);
    let life = machine.life(500);
    assert_eq!((life.parent, life.grant.as_deref()), (ContId(77), Some("ci")));
    assert_eq!(
        (machine.containers.maker(ContId(500)), machine.containers.root(ContId(500))),
        (Some(ContId(77)), ContId(77))
    );
    // Another one into the same, which is its own.
    assert_eq!(machine.write(other, b"500"), Ok(Answer::Written(3)));
    machine.take_said();
    let third = machine.fork(manager);
    for (target, id, errno) in [
        (child, "501", Errno::Eexist),
        (manager, "501", Errno::Ebusy),
        (628, "501", Errno::Ebusy),
        (stranger, "501", Errno::Exdev),
        (third, "499", Errno::Eperm),
        (third, "510", Errno::Eperm),
        (third, "77", Errno::Eperm),
        (third, "18446744073709551615", Errno::Einval),
    ] {
        assert_eq!(machine.write(target, id.as_bytes()), Err(errno), "{target} {id}");
        let said = machine.take_said();
        let beyond = format!(
            "VT_CONTAINER state=beyond-grant contid={id} opid={target} by=77 errno={} grant=\"ci\"",
            format!("{errno:?}").to_uppercase()
        );
        assert!(said[0].ends_with(" res=0") && said[1..] == [beyond], "{said:?}");
    }
    // Itself, without children; and what others have set.
    for child in [child, other, third] {
        machine.exit(child);
    }
    machine.deliver();
    assert_eq!(machine.write(manager, b"501"), Err(Errno::Exdev));
    machine.caller = caller();
    machine.write(stranger, b"502").unwrap();
    be(&mut machine, manager, MANAGER);
    let fourth = machine.fork(manager);
    assert_eq!(machine.write(fourth, b"502"), Err(Errno::Enotuniq));
    // It reads what it may change, and no more.
    assert_eq!(machine.read(fourth), Ok(Answer::Read(b"77".to_vec())));
    assert_eq!(machine.read(stranger), Err(Errno::Eperm));
    assert_eq!(machine.life(MANAGER).refused, 10);
}

#[test]
fn who_is_no_grantee_is_judged_as_ever() {
    let (mut machine, manager) = with_manager(8);
    let child = machine.fork(manager);
    machine.write(child, b"500").unwrap();
    let within = machine.fork(child);
    // A process of what it made, whatever that is called; and somebody whom nobody sees.
    be(&mut machine, child, 500);
    assert_eq!(machine.write(within, b"501"), Err(Errno::Eperm));
    describe(&mut machine, 500, "manager");
    assert_eq!(machine.life(500).description.name.as_deref(), Some("ci/manager"));
    assert_eq!(machine.write(within, b"501"), Err(Errno::Eperm));
    assert_eq!(machine.read(within), Err(Errno::Eperm));
    let other = machine.fork(manager);
    be(&mut machine, 0, MANAGER);
    assert_eq!(machine.write(other, b"501"), Err(Errno::Eperm));
    // The host sets what it likes, by the errnos of V5.
    machine.caller = caller();
    assert_eq!(machine.write(child, b"9"), Err(Errno::Ebusy));
    assert_eq!(machine.write(within, b"9"), Ok(Answer::Written(1)));
    // A grant that is taken back is none; what was made under it stays.
    be(&mut machine, manager, MANAGER);
    machine.containers.handle_grants(Vec::new());
    assert_eq!(machine.write(other, b"501"), Err(Errno::Eperm));
    assert_eq!(machine.life(500).grant.as_deref(), Some("ci"));
    let contid = Grantee::Contid(ContId(MANAGER));
    machine.containers.handle_grants(vec![Grant { container: contid, ..grant(8) }]);
    assert_eq!(machine.write(other, b"501"), Ok(Answer::Written(3)));
}

#[test]
fn a_grant_has_room_for_so_many_and_not_all_at_once() {
    let (mut machine, manager) = with_manager(2);
    let children: Vec<u32> = (0..3).map(|_| machine.fork(manager)).collect();
    assert_eq!(machine.containers.number_granted(&machine.caller), Some(ContId(500)));
    machine.write(children[0], b"500").unwrap();
    assert_eq!(machine.containers.number_granted(&machine.caller), Some(ContId(501)));
    machine.write(children[1], b"501").unwrap();
    assert_eq!(machine.write(children[2], b"502"), Err(Errno::Enospc));
    assert_eq!(machine.write(children[2], b"501"), Ok(Answer::Written(3)), "it is there already");
    // What is kept over a restart counts.
    let state = serde_json::to_string(&machine.containers.state("boot")).unwrap();
    machine.restart(&state, "boot");
    machine.containers.handle_grants(vec![grant(2)]);
    machine.deliver();
    let fourth = machine.fork(manager);
    assert_eq!(machine.write(fourth, b"502"), Err(Errno::Enospc));
    assert_eq!(machine.containers.maker(ContId(501)), Some(ContId(77)));
    // One has ended: its events are whose they were, and there is room.
    machine.exit(children[0]);
    machine.deliver();
    assert_eq!(machine.containers.maker(ContId(500)), Some(ContId(77)));
    assert_eq!(machine.write(fourth, b"502"), Ok(Answer::Written(3)));
    // Each set is a record of the first class: not too many of them.
    let mut done = 0;
    let errno = loop {
        let child = machine.fork(manager);
        match machine.write(child, b"502") {
            Ok(_) => done += 1,
            Err(errno) => break errno,
        }
        assert!(done < 100);
    };
    assert_eq!(errno, Errno::Eagain);
    machine.pass(10_000_000_000);
    let child = machine.fork(manager);
    assert_eq!(machine.write(child, b"502"), Ok(Answer::Written(3)));
}

/// Two of one name, who want the same number at the same time.
#[test]
fn two_grantees_never_share_a_container() {
    let (mut machine, manager) = with_manager(8);
    machine.caller = caller();
    let second = machine.fork(628);
    machine.write(second, b"78").unwrap();
    describe(&mut machine, 78, "manager");
    let (one, two) = (machine.fork(manager), machine.fork(second));
    let by = |pid, contid| Caller { pid, capable: false, contid: ContId(contid), ..caller() };
    // Both are looked at before either is stored.
    machine.containers.handle_write(ReqId(1), one, by(manager, 77), 0, b"500");
    machine.containers.handle_write(ReqId(2), two, by(second, 78), 0, b"500");
    machine.run();
    let mut answer = |req| machine.answers.remove(&ReqId(req)).unwrap().0;
    assert_eq!([answer(1), answer(2)], [Ok(Answer::Written(3)), Err(Errno::Enotuniq)]);
    assert_eq!(machine.life(500).parent, ContId(77));
    // And each has its own.
    machine.caller = by(second, 78);
    assert_eq!(machine.write(two, b"501"), Ok(Answer::Written(3)));
    assert_eq!(machine.life(501).parent, ContId(78));
    assert_eq!(machine.read(one), Err(Errno::Eperm));
}
