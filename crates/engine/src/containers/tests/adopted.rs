//! Containers that nobody sets, in virtual time: a runtime that puts its processes into groups.

use super::machine::first;
use super::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn docker(id: &str) -> String {
    format!("/docker/{id}")
}

/// The identifier that a container of docker gets.
fn number(id: &str) -> u64 {
    first(&Group::of_path(0, docker(id).as_bytes()).unwrap()).0
}

fn inside(mount: u32) -> Namespaces {
    Namespaces { user: 1, mount, pid: mount + 1, network: mount + 2 }
}

/// As runc does it: into the group, then into namespaces, then the program.
fn run(machine: &mut Machine, id: &str, mount: u32) -> u32 {
    let init = machine.fork(628);
    machine.attach(init, &docker(id));
    machine.deliver();
    machine.unshare(init, |namespaces| *namespaces = inside(mount));
    machine.exec(init);
    machine.deliver();
    init
}

#[test]
fn who_comes_into_a_containers_group_is_labelled() {
    let mut machine = Machine::new();
    let init = machine.fork(628);
    machine.attach(init, &docker(A));
    let attached = machine.now;
    // A child of before the label, which has ended by then; and one that lives.
    let short = machine.fork(init);
    let of_short = machine.now;
    machine.exit(short);
    let child = machine.fork(init);
    machine.deliver();
    let a = number(A);
    let cgroup = 30 + docker(A).bytes().map(u64::from).sum::<u64>();
    assert_eq!(
        machine.take_said(),
        [
            format!(
                "CONTAINER_OP op=set opid={init} old-contid={UNSET} contid={a} pid=628 auid=1000 uid=0 \
                 tty=ttyS0 ses=1 subj=unconfined_u:unconfined_r:unconfined_t:s0 comm=\"bash\" \
                 exe=\"/usr/bin/bash\" res=1"
            ),
            format!(
                "VT_CONTAINER state=begun contid={a} opid={init} parent={UNSET} userns=0 mntns=0 pidns=0 \
                 netns=0 cgroup={cgroup}"
            ),
            format!(
                "VT_CONTAINER state=found contid={a} how=attached processes=2 group=\"/docker/{A}\""
            ),
        ]
    );
    assert_eq!(machine.life(a).processes, 2);
    for (pid, at) in [(init, attached), (short, of_short), (child, of_short + 4_500)] {
        let found = machine.attribution(pid, at);
        assert_eq!((found.contid, found.confidence), (ContId(a), Confidence::Inferred), "{pid}");
    }
    machine.exec(child);
    machine.deliver();
    let found = machine.attribution(child, machine.now - 1000);
    assert_eq!((found.contid, found.confidence), (ContId(a), Confidence::Certain));
    // Before it came there it was nobody's.
    let before = machine.attribution(init, machine.kernel[&init].id.start_ns + 1);
    assert_eq!((before.contid, before.confidence), (ContId::UNSET, Confidence::Certain));
    machine.exit(child);
    machine.exit(init);
    machine.deliver();
    let said = machine.take_said();
    assert!(said.len() == 1 && said[0].contains(&format!("op=drop opid={init} old-contid={a} ")));
    // The container is started again: it is the same.
    run(&mut machine, A, 100);
    assert_eq!(machine.containers.lives().map(|(id, _)| id.0).collect::<Vec<_>>(), [a]);
}

#[test]
fn what_comes_and_goes_unlabelled_is_told_all_the_same() {
    let mut machine = Machine::new();
    let gone = machine.fork(628);
    machine.attach(gone, &docker(A));
    let at = machine.now;
    machine.exit(gone);
    machine.deliver();
    let a = number(A);
    let found = machine.attribution(gone, at);
    assert_eq!((found.contid, found.confidence), (ContId(a), Confidence::Inferred));
    assert_eq!(
        machine.take_said(),
        [format!(
            "VT_CONTAINER state=found contid={a} how=attached processes=0 group=\"/docker/{A}\" \
             (inferred)"
        )]
    );
    assert_eq!(machine.containers.lives().count(), 0);
}

/// A program that the runtime runs in a container, and the namespaces of all this.
#[test]
fn a_program_run_in_a_container_is_its_own_and_on_its_way_no_drift() {
    let mut machine = Machine::new();
    let init = run(&mut machine, A, 100);
    let a = number(A);
    let said = machine.take_said();
    let entered = format!(
        "VT_CONTAINER state=entered contid={a} opid={init} userns=1 mntns=100 pidns=101 netns=102"
    );
    assert_eq!(said.last(), Some(&entered), "{said:?}");
    assert_eq!(machine.containers.in_mounts(&[100]), [ContId(a)]);
    machine.pass(60_000_000_000);
    let run = machine.fork(628);
    machine.attach(run, &docker(A));
    machine.deliver();
    machine.exec(run);
    machine.unshare(run, |namespaces| *namespaces = inside(100));
    machine.exec(run);
    machine.deliver();
    let said = machine.take_said();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with(&format!("CONTAINER_OP op=set opid={run} ")));
    assert!(said[1].contains("state=found") && said[1].contains(" processes=1 "));
    assert_eq!(machine.life(a).processes, 2);
    // Later on, who is in the host's namespaces has left.
    machine.pass(6_000_000_000);
    machine.unshare(run, |namespaces| namespaces.mount = 2);
    machine.deliver();
    let said = machine.take_said();
    assert!(said.len() == 1 && said[0].contains("state=drift") && said[0].contains("ns=mnt "));
}

/// Root of a container with a group of its own: makes groups with others' names, and goes elsewhere.
#[test]
fn where_a_labelled_process_goes_changes_nothing_and_is_told() {
    let mut machine = Machine::new();
    let [one, two] = [(A, 100), (B, 200)].map(|(id, mount)| run(&mut machine, id, mount));
    let (a, b) = (number(A), number(B));
    machine.take_said();
    let own = machine.fork(one);
    machine.attach(own, &format!("/docker/{A}/docker/{B}"));
    machine.attach(own, &format!("/docker/{A}/system.slice/docker-{B}.scope"));
    machine.deliver();
    assert!(machine.take_said().is_empty(), "its own groups are its own");
    machine.attach(own, &docker(B));
    machine.attach(own, "/");
    machine.attach(one, "/");
    machine.deliver();
    let said = machine.take_said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(&format!("state=drift contid={a} opid={own} ns=cgroup old=")));
    for (pid, id) in [(own, a), (one, a), (two, b)] {
        assert_eq!(machine.read(pid), Ok(Answer::Read(id.to_string().into_bytes())));
    }
    // A user names a group of his own as another's container.
    let stranger = machine.fork(628);
    let group = format!("/user.slice/user-1000.slice/user@1000.service/docker-{B}.scope");
    machine.attach(stranger, &group);
    machine.deliver();
    let Ok(Answer::Read(id)) = machine.read(stranger) else { panic!() };
    let id: u64 = String::from_utf8(id).unwrap().parse().unwrap();
    assert!(id != b && id != a);
    let life = machine.life(id);
    assert_eq!((&life.description.runtime, life.description.id.as_ref()), (&None, Some(&group)));
}

/// The group is seen first, the hook comes then, or the other way round.
#[test]
fn a_container_is_one_whichever_way_it_comes_and_the_hook_wins() {
    let mut machine = Machine::new();
    let a = number(A);
    let init = machine.fork(628);
    machine.attach(init, &docker(A));
    machine.deliver();
    let group = Group::of_path(0, docker(A).as_bytes());
    // No number is asked for: it has one.
    let found = machine.containers.number(ContId(1), Some(A), group.as_ref());
    assert_eq!(found, ContId(a));
    let register = |machine: &mut Machine, pid, id| {
        machine.containers.handle_register(ReqId(9), pid, caller(), ContId(id));
        machine.run();
        machine.answers.remove(&ReqId(9)).unwrap().0
    };
    assert_eq!(register(&mut machine, init, a), Ok(Answer::Written(0)));
    let description = Description { runtime: Some("runc".into()), ..Description::default() };
    machine.containers.handle_described(ReqId(10), ContId(a), description);
    machine.run();
    assert_eq!(machine.containers.lives().count(), 1);
    let described = &machine.life(a).description;
    assert_eq!((described.runtime.as_deref(), described.id.as_deref()), (Some("runc"), Some(A)));
    // What files say does not go before what the hook said.
    assert_eq!(machine.described, [ContId(a)]);
    let files = Description {
        runtime: Some("docker".into()),
        name: Some("web".into()),
        ..Description::default()
    };
    machine.take_said();
    let group = group.unwrap();
    machine.containers.handle_found(ContId(a), &group, Some(files));
    machine.run();
    assert_eq!(
        machine.take_said(),
        [format!(
            "VT_CONTAINER state=described contid={a} runtime=\"runc\" id=\"{A}\" name=\"web\" \
             unknown=image,digest (inferred)"
        )]
    );
    // The hook has a number of its own: that counts, also for what comes later.
    assert_eq!(register(&mut machine, init, 5), Ok(Answer::Written(0)));
    assert_eq!(machine.containers.lives().map(|(id, _)| id.0).collect::<Vec<_>>(), [5]);
    let run = machine.fork(628);
    machine.attach(run, &docker(A));
    machine.deliver();
    assert_eq!(machine.life(5).processes, 2);
    // The hook comes first.
    let init = machine.fork(628);
    machine.attach(init, &docker(B));
    assert_eq!(register(&mut machine, init, 6), Ok(Answer::Written(0)));
    machine.deliver();
    assert_eq!(machine.containers.lives().map(|(id, _)| id.0).collect::<Vec<_>>(), [5, 6]);
}

#[test]
fn containers_that_run_already_are_found_by_a_listing_and_after_a_loss() {
    let mut machine = Machine::new();
    let init = machine.fork(628);
    machine.kernel.get_mut(&init).unwrap().group = docker(A);
    let child = machine.fork(init);
    machine.lose();
    let a = number(A);
    let said = machine.take_said();
    assert!(said[0].starts_with(&format!("CONTAINER_OP op=set opid={init} ")), "{said:?}");
    assert!(said[2].ends_with(&format!("how=listed processes=2 group=\"/docker/{A}\" (inferred)")));
    assert_eq!(machine.life(a).processes, 2);
    // The next agent knows them, with its file and without.
    let state = serde_json::to_string(&machine.containers.state("boot-1")).unwrap();
    machine.restart(&state, "boot-1");
    assert!(machine.take_said().is_empty());
    assert_eq!(machine.life(a).group.as_ref().unwrap().path, docker(A));
    machine.restart(
        r#"{"version":1,"boot":"boot-1","generation":0,"aborted":[],"lives":[]}"#,
        "boot-1",
    );
    let run = machine.fork(628);
    machine.attach(run, &docker(A));
    machine.deliver();
    assert_eq!(machine.containers.lives().map(|(id, _)| id.0).collect::<Vec<_>>(), [a]);
    assert_eq!(machine.life(a).processes, 3);
    for pid in [child, init, run] {
        machine.exit(pid);
    }
    machine.deliver();
    assert_eq!(machine.containers.lives().count(), 0);
}

/// Whoever may make groups makes as many as he likes.
#[test]
fn users_do_not_fill_the_table() {
    let mut machine = Machine::new();
    for n in 0..100 {
        let pid = machine.fork(628);
        machine.attach(pid, &format!("/user.slice/{n:064}"));
        machine.attach(pid, "/user.slice");
    }
    machine.deliver();
    assert_eq!(machine.containers.lives().count(), 0, "they had left again");
    let said = machine.take_said();
    let found = said.iter().filter(|said| said.contains(" processes=0 ")).count();
    let full = said.iter().filter(|said| said.contains("state=full what=users-containers")).count();
    assert_eq!((found, full), (32, 1));
    assert_eq!(machine.containers.counters().lives_turned_away, 68);
    run(&mut machine, A, 100);
    assert_eq!(machine.containers.lives().count(), 1);
}

/// A user comes into his own container again and again: that is told now and then, and all that is there is
/// labelled in the end.
#[test]
fn who_comes_again_and_again_is_labelled_when_there_is_time() {
    let mut machine = Machine::new();
    let group = format!("/user.slice/user-7.slice/libpod-{A}.scope");
    let come = |machine: &mut Machine| {
        let pid = machine.fork(628);
        machine.attach(pid, &group);
        machine.deliver();
        pid
    };
    come(&mut machine);
    let (id, _) = machine.containers.lives().next().unwrap();
    machine.take_said();
    let mut last = 0;
    for _ in 0..1000 {
        last = come(&mut machine);
    }
    assert_eq!(machine.take_said(), [""; 0]);
    assert_eq!(machine.life(id.0).processes, 1);
    // He is in its group all the same.
    let found = machine.attribution(last, machine.now);
    assert_eq!((found.contid, found.confidence), (id, Confidence::Inferred));
    let due = machine.containers.poll_timeout().unwrap();
    machine.pass(1_000_000_000);
    assert!(due <= since_boot(machine.moment()));
    machine.tick();
    assert_eq!(machine.life(id.0).processes, 1001);
    assert_eq!(machine.take_said().len(), 2, "one set, and what was found");
    assert_eq!(machine.containers.poll_timeout(), None);
    // One of root's is labelled at once, as often as anybody comes.
    let init = run(&mut machine, A, 100);
    for count in 2..50 {
        let more = machine.fork(628);
        machine.attach(more, &docker(A));
        machine.deliver();
        assert_eq!(machine.life(number(A)).processes, count, "{init} {more}");
    }
}

/// Root of a container that this agent does not know as one has a whole tree of groups to name.
#[test]
fn nobody_is_taken_for_the_container_that_his_own_group_is_called_after() {
    let mut machine = Machine::new();
    run(&mut machine, A, 100);
    let a = number(A);
    let stranger = machine.fork(628);
    machine.attach(stranger, &format!("/lxc.payload.web/system.slice/docker-{A}.scope"));
    machine.deliver();
    let Ok(Answer::Read(id)) = machine.read(stranger) else { panic!() };
    assert_ne!(id, a.to_string().into_bytes());
    assert_eq!(machine.life(a).processes, 1);
}

#[test]
fn nothing_is_found_where_nobody_asked_for_it() {
    let mut machine = Machine::new();
    machine.containers.handle_groups(false, 2);
    run(&mut machine, A, 100);
    machine.lose();
    assert_eq!(machine.containers.lives().count(), 0);
    assert!(machine.take_said().is_empty());
}
