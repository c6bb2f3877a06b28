//! Which CONTAINER_ID records an event gets.

use record::Line;

use super::super::*;

const CALL: &str = "type=SYSCALL msg=audit(1.000:1): arch=c000003e syscall=62 success=yes exit=0 items=0 ppid=1 pid=50 comm=\"kill\"";
const TARGET: &str =
    "type=OBJ_PID msg=audit(1.000:1): opid=1234 oauid=-1 ouid=0 oses=-1 obj=x ocomm=\"a pid=9\"";

fn concerned(texts: &[&str]) -> Concerned {
    let lines: Vec<Line<'_>> =
        texts.iter().map(|text| Line::parse(text.as_bytes()).unwrap()).collect();
    Concerned::of(&lines)
}

/// No container was made under a grant.
fn nobody(_: ContId) -> Option<ContId> {
    None
}

fn certain(id: u64) -> Attribution {
    Attribution { contid: ContId(id), or: Vec::new(), confidence: Confidence::Certain }
}

fn said(labelled: Option<Labelled>) -> Vec<String> {
    let records = labelled.map_or(Vec::new(), |labelled| labelled.records);
    let text = |(name, body): Record| {
        format!("{name} {}", String::from_utf8(body.as_bytes().to_vec()).unwrap())
    };
    records.into_iter().map(text).collect()
}

#[test]
fn subject_and_targets_are_told_apart() {
    let alone = concerned(&[CALL]);
    assert_eq!(alone, Concerned { subject: Some(50), ..Concerned::default() });
    let labelled = Labelled::of_tasks(&alone, |_| certain(123_459), &nobody);
    assert_eq!(said(labelled), ["CONTAINER_ID contid=123459"]);
    let made = |id: ContId| (id == ContId(5)).then_some(ContId(2));
    let labelled = Labelled::of_tasks(&alone, |_| certain(5), &made);
    assert_eq!(said(labelled), ["CONTAINER_ID contid=5,^2"]);
    let both = concerned(&[CALL, TARGET, TARGET]);
    assert_eq!((both.subject, &both.targets[..]), (Some(50), &[1234][..]));
    let of = |pid: u32| certain(if pid == 50 { 5 } else { 7 });
    assert_eq!(
        said(Labelled::of_tasks(&both, of, &nobody)),
        ["CONTAINER_ID contid=7 VT_REF=opid:1234", "CONTAINER_ID contid=5 VT_REF=subject"]
    );
    let only_target = |pid: u32| certain(if pid == 50 { u64::MAX } else { 7 });
    assert_eq!(
        said(Labelled::of_tasks(&both, only_target, &nobody)),
        ["CONTAINER_ID contid=7 VT_REF=opid:1234"]
    );
    let only_subject = |pid: u32| certain(if pid == 50 { 5 } else { u64::MAX });
    assert_eq!(said(Labelled::of_tasks(&both, only_subject, &nobody)), ["CONTAINER_ID contid=5"]);
    assert_eq!(Labelled::of_tasks(&both, |_| certain(u64::MAX), &nobody), None);
}

#[test]
fn who_makes_records_that_stand_alone_is_known_and_not_said() {
    for (record, pid) in [
        ("type=SECCOMP msg=audit(1.000:1): auid=0 uid=0 ses=1 pid=77 comm=\"a pid=9\" sig=0", 77),
        (
            "type=AVC msg=audit(1.000:1): apparmor=\"DENIED\" name=\"/x pid=9\" pid=78 comm=\"y\"",
            78,
        ),
        ("type=ANOM_ABEND msg=audit(1.000:1): auid=0 uid=0 gid=0 ses=1 pid=79 comm=\"z\"", 79),
    ] {
        let alone = concerned(&[record]);
        assert_eq!(alone, Concerned { alone: Some(pid), ..Concerned::default() }, "{record}");
        assert_eq!(Labelled::of_tasks(&alone, |_| certain(5), &nobody), None);
        assert_eq!(concerned(&[record, CALL]).subject, Some(50));
    }
    let of =
        |ids: &[ContId], confidence| Labelled::of_network(ids, confidence, &nobody).unwrap().sole;
    let [one, other] = [ContId(5), ContId(6)];
    assert_eq!(of(&[one], Confidence::Certain), Some(one));
    assert_eq!(of(&[one, other], Confidence::Certain), None);
    assert_eq!(of(&[one], Confidence::Inferred), None);
}

#[test]
fn what_is_not_sure_says_so() {
    let both = concerned(&[CALL, TARGET]);
    let find = |pid: u32| match pid {
        50 => Attribution { confidence: Confidence::Late, ..certain(5) },
        _ => Attribution {
            or: vec![ContId::UNSET, ContId(9)],
            confidence: Confidence::Ambiguous,
            ..certain(7)
        },
    };
    let labelled = Labelled::of_tasks(&both, find, &nobody);
    assert_eq!(labelled.as_ref().unwrap().confidence, Confidence::Ambiguous);
    assert_eq!(
        said(labelled),
        [
            "CONTAINER_ID contid=7,18446744073709551615,9 VT_REF=opid:1234 VT_CONF=ambiguous",
            "CONTAINER_ID contid=5 VT_REF=subject VT_CONF=late"
        ]
    );
    // A blank would say that nobody had labelled them.
    assert_eq!(
        said(Labelled::of_tasks(&both, |_| Attribution::UNKNOWN, &nobody)),
        [
            "CONTAINER_ID contid=18446744073709551615 VT_REF=opid:1234 VT_CONF=unknown",
            "CONTAINER_ID contid=18446744073709551615 VT_REF=subject VT_CONF=unknown"
        ]
    );
}

#[test]
fn who_is_asked_about() {
    let user =
        "type=USER_AUTH msg=audit(1.000:2): pid=61 uid=0 auid=0 ses=1 msg='op=x pid=1 exe=\"/x\"'";
    assert_eq!(concerned(&[user]).subject, Some(61));
    let made =
        "type=DM_CTRL msg=audit(1.000:3): module=verity op=ctr ppid=1 pid=62 auid=0 dev=253:0";
    assert_eq!(concerned(&[made]).subject, Some(62));
    assert_eq!(concerned(&[made, CALL]).subject, Some(50));
    let event =
        "type=DM_EVENT msg=audit(1.000:4): module=verity op=verify-data dev=7:0 sector=1 res=0";
    assert!(concerned(&[event]).device);
    let packet = "type=NETFILTER_PKT msg=audit(1.000:5): mark=0x12345555 saddr=127.0.0.1 daddr=127.0.0.1 proto=1";
    let local = "127.0.0.1".parse().ok();
    let of = concerned(&[packet]).packet.unwrap();
    assert_eq!((of.source, of.destination), (local, local));
    let unread = "type=NETFILTER_PKT msg=audit(1.000:5): mark=0x0 saddr=? daddr=fe80::1 proto=-1";
    let of = concerned(&[unread]).packet.unwrap();
    assert_eq!((of.source, of.destination), (None, "fe80::1".parse().ok()));
    let rule = "type=CONFIG_CHANGE msg=audit(1.000:6): pid=5 op=add_rule list=4 res=1";
    assert!(concerned(&[rule]).is_empty());
}

#[test]
fn packets_and_devices_name_all_that_may_be() {
    let ids = [123_452, 123_451].map(ContId);
    let packet = Labelled::of_network(&ids, Confidence::Certain, &nobody);
    assert_eq!(said(packet), ["CONTAINER_ID contid=123452,123451 VT_VIA=netns"]);
    let device = Labelled::of_device(&ids[..1], Confidence::Inferred, &nobody);
    assert_eq!(said(device), ["CONTAINER_ID contid=123452 VT_CONF=inferred VT_VIA=device"]);
    assert_eq!(Labelled::of_network(&[], Confidence::Certain, &nobody), None);
    let many: Vec<ContId> = (0..5000).map(|n| ContId(u64::MAX - 1 - n)).collect();
    let records = Labelled::of_network(&many, Confidence::Certain, &nobody).unwrap().records;
    assert!(records.len() > 10 && records.iter().all(|(_, body)| body.as_bytes().len() < 6800));
}
