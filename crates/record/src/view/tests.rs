//! Every sample of the reference and of the public documents, field by field.

use super::*;
use crate::place::Position;
use crate::units::{ContId, DataBlock, Sector};
use crate::violation::{CtrlOp, EventOp, Module};

fn read<'a, V: View<'a>>(raw: &'a str) -> V {
    let line = Line::parse(raw.as_bytes()).unwrap_or_else(|error| panic!("{raw}: {error}"));
    V::read(&line).unwrap_or_else(|error| panic!("{raw}: {error}"))
}

/// The body of an `ausearch -i` sample, which is refused as a line.
fn interpreted<'a, V: View<'a>>(raw: &'a str) -> V {
    let error = Line::parse(raw.as_bytes()).unwrap_err();
    assert_eq!(error.kind, crate::LineErrorKind::Interpreted, "{raw}");
    V::from_fields(&Fields::new(&raw.as_bytes()[error.at..])).unwrap()
}

fn text(value: Value<'_>) -> String {
    String::from_utf8(value.untrusted().unwrap().into_owned()).unwrap()
}

#[test]
fn dm_ctrl() {
    let old = r#"type=UNKNOWN[1336] msg=audit(1630425039.363:184): module=integrity op=ctr ppid=3807 pid=3819 auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts2 ses=3 comm="integritysetup" exe="/sbin/integritysetup" subj==unconfined dev=254:3 error_msg='success' res=1"#;
    let view: DmCtrl<'_> = read(old);
    assert_eq!(view.module, Or::Known(Module::Integrity));
    assert_eq!(view.op, Or::Known(CtrlOp::Ctr));
    assert_eq!(view.dev, Dev { major: 254, minor: 3 });
    assert_eq!((view.error_msg, view.res), (Value::Single(b"success"), true));
    assert_eq!(view.task.auid, Or::Known(Id(1000)));
    assert_eq!(view.task.subj, Some(&b"=unconfined"[..]));
    assert_eq!((view.task.ppid, view.task.pid), (3807, 3819));
    assert_eq!(view.task.tty, Some(&b"pts2"[..]));

    let failed = r#"type=DM_CTRL msg=audit(1795298400.352:7): module=verity op=ctr ppid=155 pid=177 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm="dmsetup" exe="/sbin/dmsetup" dev=253:0 error_msg='Invalid root digest' res=0"#;
    let view: DmCtrl<'_> = read(failed);
    assert_eq!((view.error_msg.text(), view.res), (&b"Invalid root digest"[..], false));
    assert_eq!((view.task.tty, view.task.subj), (None, None));
    assert_eq!(view.task.auid, Or::Known(Id::UNSET));

    let of_2023 = r#"type=DM_CTRL msg=audit(1677618791.876:962): module=verity op=ctr ppid=4876 pid=29102 auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=44 comm="cmld" exe="/usr/sbin/cml/cmld" subj=unconfined dev=254:3 error_msg='success' res=1"#;
    let view: DmCtrl<'_> = read(of_2023);
    assert_eq!(view.task.subj, Some(&b"unconfined"[..]));
    assert_eq!(text(view.task.comm), "cmld");
}

#[test]
fn dm_event_in_the_unit_of_each_op() {
    let block = |n| Some(Position::DataBlock(DataBlock(n)));
    let sector = |n| Some(Position::Sector(Sector(n)));
    let cases = [
        ("DM_EVENT", "module=verity op=verify-data dev=7:0 sector=1000 res=0", block(1000)),
        ("DM_EVENT", "module=verity op=verify-metadata dev=7:1 sector=200 res=0", block(200)),
        (
            "DM_EVENT",
            "module=verity op=max-corrupted-errors dev=254:3 sector=? res=0",
            Some(Position::Whole),
        ),
        (
            "DM_EVENT",
            "module=integrity op=integrity-checksum dev=253:0 sector=2856 res=0",
            sector(2856),
        ),
        (
            "UNKNOWN[1337]",
            "module=integrity op=integrity-checksum dev=254:3 sector=77480 res=0",
            sector(77480),
        ),
        (
            "UNKNOWN[1339]",
            "module=integrity op=mac-superblock dev=253:0 sector=? res=0",
            Some(Position::Whole),
        ),
        ("1339", "module=crypt op=integrity-aead dev=253:0 sector=1000 res=0", sector(1000)),
        ("DM_EVENT", "module=newer op=unheard-of dev=253:0 sector=1000 res=0", None),
        ("DM_EVENT", "module=newer op=unheard-of dev=253:0 sector=? res=0", Some(Position::Whole)),
    ];
    for (kind, body, position) in cases {
        let raw = format!("type={kind} msg=audit(1677619463.786:1074): {body}");
        let view: DmEvent<'_> = read(&raw);
        assert_eq!(view.place().map(|place| place.position), position, "{body}");
        assert!(!view.res);
        // What is known is written again as the kernel wrote it.
        match view.violation() {
            Some(violation) => assert_eq!(violation.to_string(), body),
            None => assert_eq!(view.op, Or::Other(b"unheard-of")),
        }
        assert_eq!(view.op.known().map(EventOp::module), view.module.known());
    }
}

#[test]
fn a_field_that_is_wrong_is_named() {
    let cases = [
        ("module=verity op=verify-data sector=1 res=0", "the field dev= is missing"),
        ("module=verity op=x dev=7 sector=1 res=0", "dev=7 is not a device number, MAJOR:MINOR"),
        ("module=verity op=x dev=7:1 sector=-1 res=0", "sector=-1 is not a number below 2^64"),
        ("module=verity op=x dev=7:1 sector=\"1\" res=0", "sector=1 is not a number below 2^64"),
        (
            "module=verity op=x dev=7:1 sector=1 res=2",
            "res=2 is not 0, 1, no, yes, failed or success",
        ),
    ];
    for (body, message) in cases {
        let error = DmEvent::from_fields(&Fields::new(body.as_bytes())).unwrap_err();
        assert_eq!(error.to_string(), message, "{body}");
    }
    let line = Line::parse(b"type=CWD msg=audit(1.002:3): cwd=\"/\"").unwrap();
    assert_eq!(
        DmEvent::read(&line).unwrap_err().to_string(),
        "a CWD record, where DmEvent was expected"
    );
}

#[test]
fn containers() {
    let op: ContainerOp<'_> = interpreted(
        "type=CONTAINER_OP msg=audit(2018-06-06 12:39:29.636:26949) : op=set opid=2209 old-contid=18446744073709551615 contid=123456 pid=628 auid=root uid=root tty=ttyS0 ses=1 subj=unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023 comm=bash exe=/usr/bin/bash res=yes",
    );
    assert_eq!((op.op, op.opid, op.res), (&b"set"[..], 2209, Some(true)));
    assert_eq!(op.old_contid.chains(), [[ContId::UNSET]]);
    assert_eq!(op.contid.chains(), [[ContId(123_456)]]);
    assert_eq!(op.auid, Some(Or::Other(b"root")));
    // V11: the task is in the SYSCALL record; V7 and later: the last task went.
    let op: ContainerOp<'_> =
        read("type=CONTAINER_OP msg=audit(1.002:3): op=drop opid=5 contid=-1 old-contid=4,^2,^1");
    assert_eq!((op.pid, op.res), (None, None));
    assert!(op.old_contid.has_nested(ContId(1)) && !op.old_contid.has(ContId(1)));

    let id: ContainerId<'_> = interpreted(
        "type=CONTAINER_ID msg=audit(03/15/2019 14:16:13.369:244) : contid=123452,123451",
    );
    assert_eq!(id.contid.chains(), [[ContId(123_452)], [ContId(123_451)]]);
    let id: ContainerId<'_> =
        read("type=UNKNOWN[1336] msg=audit(1.002:3): record=1 contid=2,^1,3,^1");
    assert_eq!(id.record, Some(1));
    assert_eq!(id.contid.chains(), [[ContId(2), ContId(1)], [ContId(3), ContId(1)]]);
    let id: ContainerId<'_> =
        read("type=CONTAINER_ID msg=audit(1.002:3): contid=7 VT_REF=opid:1234 VT_CONF=late");
    assert_eq!((id.refers_to, id.is_of_subject()), (Some(&b"opid:1234"[..]), false));
}

#[test]
fn clocks() {
    let offset: TimeInjOffset =
        read("type=TIME_INJOFFSET msg=audit(1795301406.124:5): sec=-3007 nsec=871635032");
    assert_eq!(offset.nanoseconds(), -3_006_128_364_968);
    let value: TimeAdjNtpVal<'_> =
        read("type=TIME_ADJNTPVAL msg=audit(1795298400.028:6): op=freq old=0 new=4294967296000");
    assert_eq!(
        value,
        TimeAdjNtpVal { op: Or::Known(NtpValue::Freq), old: 0, new: 4_294_967_296_000 }
    );
}

#[test]
fn packets() {
    let pkt: NetfilterPkt<'_> = read(
        "type=NETFILTER_PKT msg=audit(1795301006.620:803): mark=0x12345555 saddr=127.0.0.1 daddr=127.0.0.1 proto=1",
    );
    assert_eq!(
        (pkt.mark, pkt.saddr, pkt.proto),
        (Hex(0x1234_5555), Some(&b"127.0.0.1"[..]), Or::Known(1))
    );
    let pkt: NetfilterPkt<'_> = read(
        "type=NETFILTER_PKT msg=audit(1795301006.620:802): mark=0x0 saddr=::1 daddr=::1 proto=58",
    );
    assert_eq!((pkt.mark, pkt.daddr), (Hex(0), Some(&b"::1"[..])));
    let pkt: NetfilterPkt<'_> =
        read("type=NETFILTER_PKT msg=audit(1.620:802): mark=0x0 saddr=? daddr=? proto=-1");
    assert_eq!((pkt.saddr, pkt.daddr, pkt.proto), (None, None, Or::Known(-1)));
    let pkt: NetfilterPkt<'_> = interpreted(
        "type=NETFILTER_PKT msg=audit(03/15/2019 14:16:13.369:244) : mark=0x12345555 saddr=127.0.0.1 daddr=127.0.0.1 proto=icmp",
    );
    assert_eq!(pkt.proto, Or::Other(b"icmp"));
}

#[test]
fn integrity() {
    let status: Integrity<'_> = read(
        r#"type=INTEGRITY_STATUS msg=audit(1795298420.530:137): pid=155 uid=0 auid=4294967295 ses=4294967295 op=policy_update cause=completed comm="sh" res=1 errno=0"#,
    );
    assert_eq!(
        (status.op, status.cause, status.res, status.errno),
        (&b"policy_update"[..], &b"completed"[..], true, Some(0))
    );
    assert_eq!((status.name, status.dev, status.ino), (None, None, None));
    let status: Integrity<'_> = read(
        r#"type=1802 audit(1.530:137): pid=155 uid=0 auid=4294967295 ses=4294967295 op=policy_update cause=signed policy required comm="sh" res=0 errno=0"#,
    );
    assert_eq!(status.cause, b"signed policy required");
    let data: Integrity<'_> = read(
        r#"type=1800 audit(1795301216.997:12): pid=150 uid=0 auid=4294967295 ses=4294967295 op=appraise_data cause=IMA-signature-required comm="init" name="/m/tiny" dev="vda" ino=12 res=0 errno=0"#,
    );
    assert_eq!((data.name.map(text), data.ino), (Some("/m/tiny".to_string()), Some(12)));

    let rule: IntegrityRule<'_> = read(
        r#"type=1805 audit(1795301216.997:12): file="/m/tiny" hash="sha256:02902600c767" ppid=1 pid=150 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm="init" exe="/bin/busybox""#,
    );
    assert_eq!(rule.digest(), Some((&b"sha256"[..], &b"02902600c767"[..])));
    assert_eq!(rule.task.exe.map(text), Some("/bin/busybox".to_string()));
}

#[test]
fn a_line_of_a_policy_keeps_its_operators() {
    let rule: PolicyRule<'_> = read(
        "type=1807 audit(1.518:135): action=measure func=FILE_CHECK mask=^MAY_READ uid>5 fowner<7 UNKNOWN=bogus res=0",
    );
    let words: Vec<_> =
        rule.words.iter().map(|word| (word.key, word.op, word.value.text())).collect();
    assert_eq!(
        words,
        [
            (&b"action"[..], b'=', &b"measure"[..]),
            (b"func", b'=', b"FILE_CHECK"),
            (b"mask", b'=', b"^MAY_READ"),
            (b"uid", b'>', b"5"),
            (b"fowner", b'<', b"7"),
            (b"UNKNOWN", b'=', b"bogus"),
        ]
    );
    assert!(!rule.res);
    let xattr: EvmXattr<'_> =
        read("type=INTEGRITY_EVM_XATTR msg=audit(1.002:3): xattr=\"security.foo\" res=1");
    assert_eq!((text(xattr.xattr).as_str(), xattr.res), ("security.foo", true));
}

#[test]
fn ipe() {
    let access: IpeAccess<'_> = read(
        r#"type=IPE_ACCESS msg=audit(1653364370.067:61): ipe_op=EXECUTE ipe_hook=MMAP enforcing=1 pid=2241 comm="ld-linux.so" path="/deny/lib/libc.so.6" dev="sda2" ino=14549020 rule="DEFAULT action=DENY""#,
    );
    assert_eq!(
        (access.ipe_op, access.ipe_hook),
        (Or::Known(Operation::Execute), Or::Known(Hook::Mmap))
    );
    assert_eq!((access.enforcing, access.pid, access.ino), (true, 2241, Some(14_549_020)));
    assert_eq!(text(access.rule), "DEFAULT action=DENY");
    let access: IpeAccess<'_> = read(
        r#"type=1420 audit(1.067:61): ipe_op=KERNEL_NEW ipe_hook=KERNEL_LOAD enforcing=0 pid=1 comm="x" path=? dev=? ino=? rule="op=EXECUTE boot_verified=TRUE action=ALLOW""#,
    );
    assert_eq!(access.ipe_op, Or::Other(b"KERNEL_NEW"));
    assert_eq!((access.path, access.dev, access.ino), (None, None, None));
    let load: IpePolicyLoad<'_> = read(
        r#"type=IPE_POLICY_LOAD msg=audit(1653425529.927:53): policy_name="boot_verified" policy_version=0.0.0 policy_digest=sha256:820EEA5B auid=4294967295 ses=4294967295 lsm=ipe res=1"#,
    );
    assert_eq!((load.version, load.digest), (Some(&b"0.0.0"[..]), Some(&b"sha256:820EEA5B"[..])));
    let change: IpeConfigChange<'_> = read(
        r#"type=IPE_CONFIG_CHANGE msg=audit(1.067:61): old_active_pol_name=? old_active_pol_version=? old_policy_digest=? new_active_pol_name="b" new_active_pol_version=0.0.1 new_policy_digest=sha256:AB auid=4294967295 ses=4294967295 lsm=ipe res=1"#,
    );
    assert_eq!(
        (change.old_name, change.old_version, change.new_version),
        (None, None, &b"0.0.1"[..])
    );
}

#[test]
fn system_calls_and_files() {
    let call: Syscall<'_> = read(
        r#"type=1300 audit(1795301208.102:12): arch=c000003e syscall=59 success=yes exit=0 a0=2189b8d8 a1=2189b8f8 a2=2189b908 a3=8 items=1 ppid=1 pid=154 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm="tiny" exe="/m/tiny" key=(null)"#,
    );
    assert_eq!(
        (call.arch, call.syscall, call.success),
        (Or::Known(Hex(0xc000_003e)), Or::Known(59), Some(true))
    );
    assert_eq!((call.exit, call.items, call.key), (Some(Or::Known(0)), 1, None));
    let call: Syscall<'_> = interpreted(
        "type=SYSCALL msg=audit(2018-06-06 12:46:31.707:26953) : arch=x86_64 syscall=openat success=yes exit=3 a0=0xffffffffffffff9c a1=0x5621f2b81900 a2=O_WRONLY|O_CREAT|O_TRUNC a3=0x1b6 items=2 ppid=628 pid=2232 auid=root uid=root gid=root euid=root suid=root fsuid=root egid=root sgid=root fsgid=root tty=ttyS0 ses=1 comm=perl exe=/usr/bin/perl subj=unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023 key=tmpcontainerid",
    );
    assert_eq!(
        (call.syscall, call.a0, call.a2),
        (
            Or::Other(b"openat"),
            Or::Known(Hex(0xffff_ffff_ffff_ff9c)),
            Or::Other(b"O_WRONLY|O_CREAT|O_TRUNC")
        )
    );

    let path: Path<'_> = read(
        "type=PATH msg=audit(1795300925.152:786): item=1 name=772F612062 inode=10141713 dev=fe:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=CREATE cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0",
    );
    assert_eq!(
        (path.name.map(text), path.mode),
        (Some("w/a b".to_string()), Some(Or::Known(Mode(0o100_644))))
    );
    let path: Path<'_> =
        read("type=PATH msg=audit(1.152:786): item=0 name=(null) nametype=UNKNOWN");
    assert_eq!((path.name, path.inode, path.nametype), (None, None, Some(&b"UNKNOWN"[..])));
    let path: Path<'_> = interpreted(
        "type=PATH msg=audit(2018-06-06 12:46:31.707:26953) : item=0 name=/tmp/ inode=8985 dev=00:26 mode=dir,sticky,777 ouid=root ogid=root rdev=00:00 obj=system_u:object_r:tmp_t:s0 nametype=PARENT cap_fp=none cap_fi=none cap_fe=0 cap_fver=0",
    );
    assert_eq!((path.mode, path.inode), (Some(Or::Other(b"dir,sticky,777")), Some(8985)));

    let cwd: Cwd<'_> = interpreted("type=CWD msg=audit(2018-06-06 12:46:31.707:26953) : cwd=/root");
    assert_eq!(cwd.cwd.map(text), Some("/root".to_string()));
    let title: Proctitle<'_> = read("type=PROCTITLE msg=audit(1.000:2): proctitle=6C73002D6C");
    assert_eq!(&*title.bytes(), b"ls\0-l");
    let title: Proctitle<'_> = interpreted(
        r#"type=PROCTITLE msg=audit(2018-06-06 12:46:31.707:26953) : proctitle=perl -e sleep 1; open(my $tmpfile, '>', "/tmp/tmpcontainerid"); close($tmpfile);"#,
    );
    assert_eq!(
        &*title.bytes(),
        br#"perl -e sleep 1; open(my $tmpfile, '>', "/tmp/tmpcontainerid"); close($tmpfile);"#
    );
    let address: Sockaddr = read("type=SOCKADDR msg=audit(1795301342.240:819): saddr=010000616273");
    assert_eq!(address.saddr, b"\x01\0\0abs");
}

#[test]
fn arguments_come_together() {
    fn join(bodies: &[&str]) -> Result<Vec<String>, String> {
        let raw: Vec<_> =
            bodies.iter().map(|b| format!("type=EXECVE msg=audit(1.000:2): {b}")).collect();
        let lines = raw.iter().map(|raw| Line::parse(raw.as_bytes()).unwrap());
        let args = Execve::join(lines).map_err(|error| error.to_string())?.args;
        Ok(args.into_iter().map(|arg| String::from_utf8(arg).unwrap()).collect())
    }
    assert_eq!(
        join(&[r#"argc=3 a0="/bin/echo" a1="one" a2=74776F207468726565"#]).unwrap(),
        ["/bin/echo", "one", "two three"]
    );
    assert_eq!(
        join(&[r#"argc=3 a0="x" a1_len=5 a1[0]=6120"#, "a1[1]=62", r#"a1[2]=2063 a2="z""#])
            .unwrap(),
        ["x", "a b c", "z"]
    );
    assert_eq!(join(&["argc=0"]).unwrap(), [""; 0]);
    assert_eq!(join(&[]).unwrap_err(), "the field argc= is missing");
    assert_eq!(join(&["argc=4000000000 a0=\"x\""]).unwrap_err(), "the field a1= is missing");
    assert_eq!(join(&["argc=1 a0[0]=61 a0[2]=61"]).unwrap_err(), "the field a0[1]= is missing");
    assert_eq!(join(&["argc=1 a0[1]=61"]).unwrap_err(), "the field a0[0]= is missing");
}

#[test]
fn users_and_configuration() {
    let user: User<'_> = read(
        r#"type=USER msg=audit(1795300925.156:790): pid=18267 uid=0 auid=4294967295 ses=4294967295 msg='text=hello from "user" exe="/usr/sbin/auditctl" hostname=? addr=? terminal=? res=success'"#,
    );
    assert_eq!((user.pid, user.res(), user.op()), (18267, Some(true), None));
    let user: User<'_> = read(
        r#"type=USER_AUTH msg=audit(1.000:2): pid=1 uid=0 auid=1000 ses=2 subj=x msg='op=PAM:authentication acct="al" exe="/bin/su" hostname=? addr=? terminal=pts/0 res=failed'"#,
    );
    assert_eq!(
        (user.op(), user.account(), user.res()),
        (Some(&b"PAM:authentication"[..]), Some(Value::Quoted(b"al")), Some(false))
    );
    // The text may claim a result; the real one comes after it.
    let user: User<'_> = read(
        "type=USER msg=audit(1.000:2): pid=1 uid=0 auid=1000 ses=2 msg='op=a res=success x res=failed'",
    );
    assert_eq!(user.res(), Some(false));

    let change: ConfigChange<'_> = read(
        r#"type=CONFIG_CHANGE msg=audit(1795300924.928:779): auid=4294967295 ses=4294967295 op=add_rule key="vt_time" list=4 res=1"#,
    );
    assert_eq!(
        (change.op, change.key.map(text), change.list),
        (Some(&b"add_rule"[..]), Some("vt_time".to_string()), Some(Or::Known(4)))
    );
    let raw = "type=CONFIG_CHANGE msg=audit(1795301008.004:812): op=set audit_enabled=0 old=1 auid=4294967295 ses=4294967295 res=1";
    let change: ConfigChange<'_> = read(raw);
    assert_eq!((change.op, change.old), (Some(&b"set"[..]), Some(&b"1"[..])));
}

proptest::proptest! {
    /// A fuzz target calls the same: no body is too strange to be refused.
    #[test]
    fn no_body_makes_a_view_panic(words in proptest::collection::vec((0usize..KEYS.len(), ".{0,12}"), 0..30)) {
        let body: String = words.iter().map(|(key, value)| format!("{}={value} ", KEYS[*key])).collect();
        let fields = Fields::new(body.as_bytes());
        let _ = DmCtrl::from_fields(&fields);
        let _ = DmEvent::from_fields(&fields).map(|view| view.violation());
        let _ = ContainerOp::from_fields(&fields).map(|view| view.contid.chains());
        let _ = Integrity::from_fields(&fields);
        let _ = PolicyRule::from_fields(&fields);
        let _ = Syscall::from_fields(&fields);
        let _ = Path::from_fields(&fields);
        let _ = Sockaddr::from_fields(&fields);
        let _ = User::from_fields(&fields).map(|view| (view.op(), view.res()));
        let raw = format!("type=EXECVE msg=audit(1.000:2): {body}");
        let _ = Execve::join(Line::parse(raw.as_bytes()));
    }
}

const KEYS: &[&str] = &[
    "argc",
    "a0",
    "a1",
    "a1[0]",
    "a1[1]",
    "a99",
    "op",
    "dev",
    "sector",
    "module",
    "res",
    "pid",
    "uid",
    "auid",
    "ses",
    "contid",
    "old-contid",
    "opid",
    "msg",
    "saddr",
    "item",
    "mode",
    "cause",
    "comm",
    "arch",
];
