//! Whole machines in virtual time: a kernel that keeps labels as tasks do, and loses events on demand.

mod adopted;
mod grants;
mod machine;
mod packets;
mod records;

use record::units::ContId;

use self::machine::{Machine, NET, caller};
use super::*;
use crate::tasks::Namespaces;

const UNSET: &str = "18446744073709551615";

#[test]
fn an_identifier_is_set_read_and_inherited() {
    let mut machine = Machine::new();
    let sleep = machine.fork(628);
    assert_eq!(machine.read(sleep), Ok(Answer::Read(UNSET.into())));
    assert_eq!(machine.write(sleep, b"123456\n"), Ok(Answer::Written(7)));
    assert_eq!(
        machine.take_said(),
        [
            format!(
                "CONTAINER_OP op=set opid={sleep} old-contid={UNSET} contid=123456 pid=628 auid=1000 \
                 uid=0 tty=ttyS0 ses=1 subj=unconfined_u:unconfined_r:unconfined_t:s0 comm=\"bash\" \
                 exe=\"/usr/bin/bash\" res=1"
            ),
            format!(
                "VT_CONTAINER state=begun contid=123456 opid={sleep} parent={UNSET} userns=1 mntns=2 \
                 pidns=3 netns={NET} cgroup=77"
            ),
        ]
    );
    let child = machine.fork(sleep);
    machine.exec(child);
    assert_eq!(machine.read(child), Ok(Answer::Read("123456".into())));
    machine.deliver();
    assert_eq!(machine.life(123_456).processes, 2);
    let registrar = machine.life(123_456).registrar.clone().unwrap();
    assert_eq!((registrar.pid, &registrar.comm[..]), (628, &b"bash"[..]));
    // Again, which V5 allows and records; and another one, which is another container.
    let target = machine.fork(628);
    assert_eq!(machine.write(target, b"123456"), Ok(Answer::Written(6)));
    assert_eq!(machine.write(target, b"123456"), Ok(Answer::Written(6)));
    assert_eq!(machine.write(target, b"8"), Ok(Answer::Written(1)));
    let said = machine.take_said();
    assert!(said[1].contains("old-contid=123456 contid=123456") && said[1].ends_with("res=1"));
    assert!(said[2].contains("old-contid=123456 contid=8 "));
    assert_eq!((machine.life(123_456).processes, machine.life(8).processes), (2, 1));
    // The last one that leaves a container ends it, as one that ends does.
    assert_eq!(machine.write(target, b"9"), Ok(Answer::Written(1)));
    assert_eq!(
        machine.take_said().last().unwrap(),
        &format!(
            "CONTAINER_OP op=drop opid={target} old-contid=8 contid={UNSET} pid={target} auid=1000 \
             uid=0 ses=1 comm=\"p\" res=1"
        )
    );
}

#[test]
fn success_waits_for_its_record_and_refusal_does_not() {
    let mut machine = Machine::new();
    let target = machine.fork(628);
    machine.containers.handle_write(ReqId(900), target, caller(), 0, b"7");
    machine.run();
    let ticket = machine.last_ticket;
    let (result, after) = machine.answers.remove(&ReqId(900)).unwrap();
    assert_eq!((result, after), (Ok(Answer::Written(1)), Some(ticket)));
    machine.fork(target);
    machine.containers.handle_write(ReqId(901), target, caller(), 0, b"7");
    machine.run();
    assert_eq!(machine.answers.remove(&ReqId(901)).unwrap(), (Err(Errno::Ebusy), None));
}

/// A caller that is refused again and again.
#[test]
fn of_a_flood_of_refusals_all_are_counted_and_few_are_told_one_by_one() {
    let mut machine = Machine::new();
    let target = machine.fork(628);
    machine.caller = Caller { capable: false, uid: 100_000, ..caller() };
    for _ in 0..1000 {
        assert_eq!(machine.write(target, b"7"), Err(Errno::Eperm));
    }
    // Another one is told of as ever.
    machine.caller.uid = 100_001;
    assert_eq!(machine.write(target, b"7"), Err(Errno::Eperm));
    let said = machine.take_said();
    assert_eq!(said.len(), 17, "{said:?}");
    assert!(said.iter().all(|said| said.starts_with("CONTAINER_OP op=set")));
    let due = machine.containers.poll_timeout().unwrap();
    let nanos = u64::try_from(due.as_nanos()).unwrap();
    machine.containers.handle_timeout(Moment { boottime_ns: nanos - 1, realtime_ns: 0 });
    machine.run();
    assert!(machine.take_said().is_empty(), "not so soon");
    machine.containers.handle_timeout(Moment { boottime_ns: nanos, realtime_ns: 0 });
    machine.run();
    let gap = format!("VT_GAP source=refusals uid=100000 contid={UNSET} records=984 count=exact");
    assert_eq!(machine.take_said(), [gap]);
    assert_eq!(machine.containers.poll_timeout(), None);
    assert_eq!(machine.containers.counters().refused, 1001);
    // Root of a container may be any user.
    for uid in 0..100 {
        machine.caller = Caller { capable: false, uid, contid: ContId(5), ..caller() };
        assert_eq!(machine.write(target, b"7"), Err(Errno::Eperm));
    }
    assert_eq!(machine.take_said().len(), 16);
    machine.containers.handle_timeout(Moment { boottime_ns: u64::MAX, realtime_ns: 0 });
    machine.run();
    assert_eq!(machine.take_said(), ["VT_GAP source=refusals contid=5 records=84 count=exact"]);
}

#[test]
fn what_is_refused_is_recorded_where_an_identifier_was_asked_for() {
    let mut machine = Machine::new();
    let target = machine.fork(628);
    let cases: [(&[u8], Errno); 4] = [
        (b"-1", Errno::Einval),
        (b"", Errno::Einval),
        (b"0x10", Errno::Einval),
        (b"18446744073709551616", Errno::Erange),
    ];
    for (bytes, errno) in cases {
        assert_eq!(machine.write(target, bytes), Err(errno));
    }
    assert_eq!(machine.write(4_000_000, b"7"), Err(Errno::Esrch));
    assert!(machine.take_said().is_empty());
    assert_eq!(machine.write(target, UNSET.as_bytes()), Err(Errno::Einval));
    machine.caller.capable = false;
    assert_eq!(machine.write(target, b"7"), Err(Errno::Eperm));
    assert_eq!(machine.read(target), Err(Errno::Eperm));
    machine.caller = Caller { pid: 0, ..caller() };
    assert_eq!(machine.write(target, b"7"), Err(Errno::Eperm), "of a foreign pid namespace");
    machine.caller = caller();
    machine.kernel.get_mut(&target).unwrap().threads = 2;
    assert_eq!(machine.write(target, b"7"), Err(Errno::Ealready));
    machine.fork(target);
    assert_eq!(machine.write(target, b"7"), Err(Errno::Ebusy));
    let said = machine.take_said();
    assert_eq!(said.len(), 5);
    assert!(said.iter().all(|said| said.contains("op=set") && said.ends_with("res=0")));
    assert!(said[1].contains("old-contid=18446744073709551615 contid=7 "));
    assert_eq!(machine.containers.lives().count(), 0);
    machine.containers.handle_labelling(Labelling::Starting);
    assert_eq!(machine.write(628, b"7"), Err(Errno::Eagain));
    assert_eq!(machine.read(628), Err(Errno::Eagain));
    machine.containers.handle_labelling(Labelling::Impossible);
    assert_eq!(machine.write(628, b"7"), Err(Errno::Enoprotoopt));
    assert_eq!(machine.read(628), Ok(Answer::Read(UNSET.into())));
    assert!(machine.take_said().is_empty());
}

#[test]
fn a_thousand_short_lived_children_are_labelled_and_end_once() {
    let mut machine = Machine::new();
    let shell = machine.fork(628);
    machine.write(shell, b"7").unwrap();
    machine.take_said();
    let mut children = Vec::new();
    for _ in 0..1000 {
        let child = machine.fork(shell);
        machine.exec(child);
        children.push((child, machine.now));
        machine.exit(child);
    }
    machine.deliver();
    for (child, at) in children {
        let found = machine.attribution(child, at);
        assert_eq!((found.contid, found.confidence), (ContId(7), Confidence::Certain));
    }
    assert!(machine.take_said().is_empty());
    assert_eq!(machine.life(7).processes, 1);
    let many: Vec<u32> = (0..1000).map(|_| machine.fork(shell)).collect();
    machine.exit(shell);
    for child in many {
        machine.exit(child);
    }
    machine.deliver();
    let said = machine.take_said();
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("CONTAINER_OP op=drop") && said[0].contains("old-contid=7 "));
    assert_eq!(machine.containers.counters().dropped, 1);
    // Its next life is another one.
    let again = machine.fork(628);
    machine.write(again, b"7").unwrap();
    assert_eq!(machine.take_said().len(), 2);
    assert_eq!(machine.life(7).processes, 1);
}

#[test]
fn a_number_that_is_used_again_is_not_in_the_container() {
    let mut machine = Machine::new();
    let target = machine.fork(628);
    machine.write(target, b"7").unwrap();
    let inside = machine.now;
    machine.exit(target);
    let between = machine.now;
    machine.pass(1_000_000_000);
    machine.fork_as(628, target);
    machine.deliver();
    let now = machine.kernel[&target].id.start_ns;
    assert_eq!(machine.attribution(target, inside).contid, ContId(7));
    let found = machine.attribution(target, now);
    assert_eq!((found.contid, found.confidence), (ContId::UNSET, Confidence::Certain));
    let late = machine.attribution(target, between + 10);
    assert_eq!((late.contid, late.confidence), (ContId(7), Confidence::Late));
    // A span that touches both names both.
    let both = Attribution::of(&machine.tasks, target, inside, now, |_| None);
    assert_eq!((both.contid, &both.or[..]), (ContId(7), &[ContId::UNSET][..]));
    assert_eq!(both.confidence, Confidence::Ambiguous);
    let unheard = Attribution::of(&machine.tasks, target, now, machine.now + 1, |_| None);
    assert_eq!(unheard.confidence, Confidence::Late);
    assert_eq!(machine.attribution(999_999, now), Attribution::UNKNOWN);
}

#[test]
fn a_child_that_is_born_before_the_label_takes_it_back() {
    let mut machine = Machine::new();
    let target = machine.fork(628);
    machine.before_store = Some(|machine, target| {
        machine.fork(target);
    });
    machine.after_store = Some(|machine, target| {
        // Born with the label, seen with it, and it has a child itself before that is taken back.
        let child = machine.fork(target);
        machine.fork(child);
        machine.deliver();
    });
    assert_eq!(machine.write(target, b"7"), Err(Errno::Ebusy));
    machine.deliver();
    let said = machine.take_said();
    assert_eq!(said.len(), 1);
    assert!(said[0].ends_with("res=0") && said[0].contains("contid=7 "));
    assert_eq!(machine.read(target), Ok(Answer::Read(UNSET.into())));
    let (born, grandchild) = (target + 2, target + 3);
    assert_eq!(machine.kernel[&born].label.contid, ContId(7), "the kernel keeps what it inherited");
    let later = machine.fork(grandchild);
    machine.deliver();
    let heard = machine.now - 10_000;
    for pid in [target, target + 1, born, grandchild, later] {
        let found = machine.attribution(pid, heard.max(machine.kernel[&pid].id.start_ns));
        assert_eq!((found.contid, found.confidence), (ContId::UNSET, Confidence::Certain), "{pid}");
        assert_eq!(machine.read(pid), Ok(Answer::Read(UNSET.into())));
    }
    assert_eq!(machine.containers.lives().count(), 0);
    assert!(machine.containers.members.is_empty());
    // Back to where it was, if it was in one.
    let other = machine.fork(628);
    machine.write(other, b"3").unwrap();
    machine.before_store = Some(|machine, target| {
        machine.fork(target);
    });
    machine.after_store = Some(|machine, target| {
        machine.fork(target);
        machine.deliver();
    });
    assert_eq!(machine.write(other, b"4"), Err(Errno::Ebusy));
    machine.deliver();
    assert_eq!(machine.life(3).processes, 3);
    assert_eq!(machine.attribution(other + 2, machine.now).contid, ContId(3));
    assert!(machine.containers.life(ContId(4)).is_none());
}

#[test]
fn children_that_are_born_with_the_label_stay_in_it() {
    let mut machine = Machine::new();
    let target = machine.fork(628);
    machine.after_store = Some(|machine, target| {
        let child = machine.fork(target);
        machine.deliver();
        machine.exit(target);
        machine.deliver();
        assert_eq!(machine.kernel[&child].label.contid, ContId(7));
    });
    assert_eq!(machine.write(target, b"7"), Ok(Answer::Written(1)));
    let child = target + 1;
    assert_eq!(machine.life(7).processes, 1);
    machine.exit(child);
    machine.deliver();
    let said = machine.take_said();
    assert_eq!(said.iter().filter(|said| said.contains("op=drop")).count(), 1);
    // One that has ended when it is looked at again, and was alone.
    let alone = machine.fork(628);
    machine.after_store = Some(|machine, target| {
        machine.exit(target);
        machine.deliver();
    });
    assert_eq!(machine.write(alone, b"8"), Ok(Answer::Written(1)));
    let said = machine.take_said();
    assert!(said[0].ends_with("res=1") && said.last().unwrap().contains("op=drop"));
    // Its end is not heard yet: then nobody knows that it had the label at all.
    let gone = machine.fork(628);
    machine.after_store = Some(|machine, target| machine.exit(target));
    assert_eq!(machine.write(gone, b"9"), Err(Errno::Esrch));
    machine.deliver();
    assert_eq!(machine.containers.lives().count(), 0);
}

#[test]
fn writers_of_one_file_come_one_after_the_other() {
    let mut machine = Machine::new();
    let target = machine.fork(628);
    for (req, bytes) in [(1, b"1"), (2, b"2"), (3, b"3")] {
        machine.containers.handle_write(ReqId(req), target, caller(), 0, bytes);
    }
    machine.run();
    assert_eq!(machine.answers.len(), 3);
    let sets: Vec<String> = machine
        .take_said()
        .into_iter()
        .filter(|said| said.contains("op=set"))
        .map(|said| said.split(' ').skip(3).take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        sets,
        [&format!("old-contid={UNSET} contid=1"), "old-contid=1 contid=2", "old-contid=2 contid=3"]
    );
    let most = u64::try_from(REQUESTS).unwrap();
    for req in 0..=most {
        machine.containers.handle_read(ReqId(1000 + req), target, caller());
    }
    machine.run();
    let refused = machine.answers.values().filter(|(result, _)| *result == Err(Errno::Eagain));
    assert_eq!(refused.count(), 1);
}

#[test]
fn a_label_that_cannot_be_stored_is_taken_back() {
    for (why, errno) in [
        (NotStored::Gone, Errno::Esrch),
        (NotStored::NoRoom, Errno::Enomem),
        (NotStored::Failed, Errno::Eio),
    ] {
        let mut machine = Machine::new();
        let target = machine.fork(628);
        machine.not_stored = Some(why);
        assert_eq!(machine.write(target, b"7"), Err(errno));
        let said = machine.take_said();
        assert!(said.len() == 1 && said[0].ends_with("res=0"));
        assert_eq!(machine.containers.lives().count(), 0);
    }
}

#[test]
fn a_lost_exit_ends_the_container_when_it_is_listed() {
    let mut machine = Machine::new();
    let target = machine.fork(628);
    machine.write(target, b"7").unwrap();
    machine.take_said();
    machine.exit(target);
    machine.lose();
    assert_eq!(
        machine.take_said(),
        [format!(
            "CONTAINER_OP op=drop opid={target} old-contid=7 contid={UNSET} res=1 (inferred)"
        )]
    );
    machine.exit(628);
    machine.deliver();
    assert!(machine.take_said().is_empty());
}

#[test]
fn a_lost_fork_does_not_end_a_container_that_lives() {
    let mut machine = Machine::new();
    let target = machine.fork(628);
    machine.write(target, b"7").unwrap();
    machine.take_said();
    let child = machine.fork(target);
    machine.can_list = false;
    machine.lose();
    machine.exit(target);
    machine.deliver();
    assert!(machine.take_said().is_empty(), "nobody knows what was lost");
    assert_eq!(machine.life(7).processes, 0);
    machine.can_list = true;
    machine.pass(LIST_AGAIN.as_nanos().try_into().unwrap());
    machine.tick();
    assert!(machine.take_said().is_empty());
    assert_eq!(machine.life(7).processes, 1);
    assert_eq!(machine.containers.poll_timeout(), None);
    machine.exit(child);
    machine.deliver();
    assert_eq!(machine.take_said().len(), 1);
}

#[test]
fn one_that_ends_while_the_living_are_listed_does_not_come_back() {
    let mut machine = Machine::new();
    let target = machine.fork(628);
    machine.write(target, b"7").unwrap();
    let child = machine.fork(target);
    machine.deliver();
    machine.take_said();
    let (now, listed) = (machine.moment(), machine.listed());
    machine.containers.handle_lost(now, machine.now);
    assert_eq!(machine.containers.poll(), Some(Act::List));
    machine.pass(1);
    let began = machine.now;
    machine.exit(child);
    machine.exit(target);
    machine.deliver();
    let now = machine.moment();
    machine.containers.handle_listed(now, began, Some(&listed));
    machine.run();
    let said = machine.take_said();
    assert!(said.len() == 1 && said[0].contains("op=drop"), "{said:?}");
    assert!(machine.containers.members.is_empty());
}

#[test]
fn a_restart_keeps_what_lives_and_ends_what_does_not() {
    let mut machine = Machine::new();
    let [first, second, third] = [1u8, 2, 3].map(|id| {
        let target = machine.fork(628);
        machine.write(target, id.to_string().as_bytes()).unwrap();
        target
    });
    machine.before_store = Some(|machine, target| {
        machine.fork(target);
    });
    machine.after_store = Some(|machine, target| {
        machine.fork(target);
    });
    assert_eq!(machine.write(third, b"4"), Err(Errno::Ebusy));
    let born = third + 2;
    let description = Description { name: Some("web 1".into()), ..Description::default() };
    machine.containers.handle_described(ReqId(5), ContId(2), description.clone());
    machine.deliver();
    assert_eq!(
        machine.take_said().last().unwrap(),
        "VT_CONTAINER state=described contid=2 name=7765622031"
    );
    let state = serde_json::to_string(&machine.containers.state("boot-1")).unwrap();
    machine.exit(first);
    machine.queue.clear();
    machine.restart(&state, "boot-1");
    assert_eq!(
        machine.take_said(),
        [format!("CONTAINER_OP op=drop opid={first} old-contid=1 contid={UNSET} res=1 (inferred)")]
    );
    assert_eq!(machine.life(2).description, description);
    assert_eq!(machine.life(2).registrar.as_ref().unwrap().pid, 628);
    assert_eq!(machine.life(3).processes, 3, "with the child of a set that was taken back");
    assert_eq!(machine.kernel[&born].label.contid, ContId(4));
    machine.exit(second);
    machine.deliver();
    assert_eq!(machine.take_said().len(), 1);
    // The machine was started again: what was, is over, once.
    let state = serde_json::to_string(&machine.containers.state("boot-1")).unwrap();
    machine.restart(&state, "boot-2");
    assert_eq!(
        machine.take_said()[0],
        format!("CONTAINER_OP op=drop opid={born} old-contid=3 contid={UNSET} res=1 (inferred)")
    );
}

#[test]
fn a_network_namespace_lists_its_containers() {
    let mut machine = Machine::new();
    let [first, second] = [b"123451", b"123452"].map(|id| {
        let target = machine.fork(628);
        machine.write(target, id).unwrap();
        target
    });
    let both = [ContId(123_452), ContId(123_451)];
    assert_eq!(machine.in_network(NET), both);
    // A child more and less changes nothing.
    let child = machine.fork(second);
    machine.exit(child);
    machine.deliver();
    assert_eq!(machine.in_network(NET), both);
    let child = machine.fork(first);
    machine.unshare(first, |namespaces| namespaces.network = 4444);
    machine.deliver();
    assert_eq!(machine.in_network(NET), both);
    assert_eq!(machine.in_network(4444), [ContId(123_451)]);
    machine.exit(child);
    machine.deliver();
    assert_eq!(machine.in_network(NET), [ContId(123_452)]);
    machine.exit(second);
    machine.deliver();
    assert!(machine.in_network(NET).is_empty());
    // One that goes elsewhere while it is labelled.
    let third = machine.fork(628);
    machine.after_store = Some(|machine, target| {
        machine.unshare(target, |namespaces| namespaces.network = 5555);
        machine.deliver();
    });
    machine.write(third, b"3").unwrap();
    assert_eq!(machine.in_network(5555), [ContId(3)]);
    assert!(machine.in_network(NET).is_empty());
    machine.exit(first);
    machine.deliver();
    assert!(machine.in_network(4444).is_empty());
}

#[test]
fn who_leaves_the_namespaces_is_told_once_for_each_kind() {
    let mut machine = Machine::new();
    let target = machine.fork(628);
    machine.write(target, b"7").unwrap();
    machine.take_said();
    for round in 0..3 {
        let child = machine.fork(target);
        machine.unshare(child, |namespaces| {
            *namespaces = Namespaces { network: 4444, ..*namespaces };
        });
        if round == 1 {
            machine.unshare(child, |namespaces| namespaces.user = 11);
        }
    }
    machine.deliver();
    let child = target + 1;
    assert_eq!(
        machine.take_said(),
        [
            format!(
                "VT_CONTAINER state=drift contid=7 opid={child} ns=net old={NET} new=4444 comm=\"p\""
            ),
            format!(
                "VT_CONTAINER state=drift contid=7 opid={} ns=user old=1 new=11 comm=\"p\"",
                child + 1
            ),
        ]
    );
}

#[test]
fn a_container_knows_those_it_was_made_in() {
    let mut machine = Machine::new();
    for (id, parent) in [(1, u64::MAX), (2, 1), (4, 2), (1, 4)] {
        let target = machine.fork(628);
        machine.caller.contid = ContId(parent);
        machine.write(target, id.to_string().as_bytes()).unwrap();
    }
    assert_eq!(machine.containers.chain(ContId(4)), [4, 2, 1].map(ContId));
    assert_eq!(machine.containers.chain(ContId(9)), [ContId(9)]);
}

#[test]
fn more_containers_than_there_is_room_for() {
    let mut machine = Machine::new();
    for id in 0..LIVES {
        let id = ContId(u64::try_from(id).unwrap() + 100);
        let life = Life::new(Moment::default(), ContId::UNSET, &Image::default(), 1);
        machine.containers.lives.insert(id, life);
    }
    let target = machine.fork(628);
    assert_eq!(machine.write(target, b"7"), Err(Errno::Enomem));
    assert_eq!(machine.write(target, b"100"), Ok(Answer::Written(3)));
    let req = ReqId(7);
    machine.containers.handle_described(req, ContId(5), Description::default());
    let name = Some("x".repeat(LONGEST_TEXT + 1));
    let long = Description { name, ..Description::default() };
    machine.containers.handle_described(ReqId(8), ContId(100), long);
    machine.run();
    assert_eq!(machine.answers[&req].0, Err(Errno::Esrch));
    assert_eq!(machine.answers[&ReqId(8)].0, Err(Errno::Einval));
}
