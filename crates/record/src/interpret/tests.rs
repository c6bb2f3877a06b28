use super::*;

struct Alice;

impl Names for Alice {
    fn user(&self, uid: u32) -> Option<Cow<'_, [u8]>> {
        (uid == 1000).then_some(Cow::Borrowed(b"alice"))
    }

    fn group(&self, gid: u32) -> Option<Cow<'_, [u8]>> {
        (gid == 100).then_some(Cow::Borrowed(b"users"))
    }
}

fn line(raw: &[u8]) -> String {
    let line = Line::parse(raw).expect("a record");
    let mut out = Vec::new();
    let date = |stamp: Stamp, out: &mut Vec<u8>| put(out, format_args!("@{}", stamp.millis / 1000));
    Interpreter::new(&Alice).line(&line, &EventContext::default(), &date, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn whole_lines() {
    let cases: &[(&[u8], &str)] = &[
        (
            b"type=SYSCALL msg=audit(1795300000.007:9): arch=c000003e syscall=257 success=no exit=-13 a0=ffffff9c a1=7ffd a2=80000 a3=0 items=1 ppid=1 pid=2 auid=4294967295 uid=1000 gid=100 ses=4294967295 comm=\"cat\" exe=\"/bin/cat\" key=610162",
            "type=SYSCALL msg=audit(@1795300000.007:9) : arch=x86_64 syscall=openat success=no exit=EACCES(Permission denied) a0=AT_FDCWD a1=0x7ffd a2=O_RDONLY|O_CLOEXEC a3=0x0 items=1 ppid=1 pid=2 auid=unset uid=alice gid=users ses=unset comm=cat exe=/bin/cat key=a key=b ",
        ),
        (
            b"node=h type=DM_EVENT msg=audit(1.000:1): module=verity op=verify-data dev=7:1 sector=10 res=0",
            "node=h type=DM_EVENT msg=audit(@1.000:1) : module=verity op=verify-data dev=7:1 sector=10 res=no ",
        ),
        (
            b"type=UNKNOWN[1337] msg=audit(1.000:1): module=crypt op=integrity-aead dev=253:0 sector=1 res=0",
            "type=DM_EVENT msg=audit(@1.000:1) : module=crypt op=integrity-aead dev=253:0 sector=1 res=no ",
        ),
        (
            b"type=USER_AUTH msg=audit(1.000:1): pid=2 uid=0 auid=1000 ses=3 msg='op=PAM:auth acct=\"root\" exe=\"/bin/su\" res=success'",
            "type=USER_AUTH msg=audit(@1.000:1) : pid=2 uid=root auid=alice ses=3 msg='op=PAM:auth acct=root exe=/bin/su res=success' ",
        ),
        (
            b"type=USER_LOGIN msg=audit(1.000:1): uid=7 auid=8 arch=c000003e syscall=2\x1dARCH=arm SYSCALL=unknown-syscall(2) UID=\"bob\" AUID=6162",
            "type=USER_LOGIN msg=audit(@1.000:1) : uid=bob auid=ab arch=arm syscall=2 ",
        ),
        (
            b"type=SOCKADDR msg=audit(1.000:1): saddr=01\x1dSADDR={ saddr_fam=inet laddr=1.2.3.4 lport=1 }",
            "type=SOCKADDR msg=audit(@1.000:1) : saddr={ saddr_fam=inet laddr=1.2.3.4 lport=1 } ",
        ),
        (
            b"type=INTEGRITY_POLICY_RULE msg=audit(1.000:1): action=measure func=FILE_CHECK uid=0 res=1",
            "type=INTEGRITY_POLICY_RULE msg=audit(@1.000:1) : action=measure func=FILE_CHECK uid=root res=yes ",
        ),
        (
            b"type=INTEGRITY_DATA msg=audit(1.000:1): pid=1 uid=0 cause=signed policy required comm=\"h\" res=0 errno=-13",
            "type=INTEGRITY_DATA msg=audit(@1.000:1) : pid=1 uid=root cause=signed policy required comm=h res=no errno=EACCES(Permission denied) ",
        ),
        (
            b"type=AVC msg=audit(1.000:1): avc:  denied  { read } for  pid=1 scontext=u:r:t:s0:c1,c2 tclass=file permissive=0",
            "type=AVC msg=audit(@1.000:1) : avc:  denied  { read } for  pid=1 scontext=u:r:t:s0:c1,c2 tclass=file permissive=0 ",
        ),
        (b"type=EOE msg=audit(1.000:1): ", "type=EOE msg=audit(@1.000:1) : "),
        (
            b"type=CONTAINER_ID msg=audit(1.000:1): contid=18446744073709551615",
            "type=CONTAINER_ID msg=audit(@1.000:1) : contid=unset ",
        ),
        (
            b"type=CONTAINER_OP msg=audit(1.000:1): op=set opid=2209 old-contid=-1 contid=7,^4,18446744073709551615 res=1",
            "type=CONTAINER_OP msg=audit(@1.000:1) : op=set opid=2209 old-contid=unset contid=7,^4,unset res=yes ",
        ),
        (
            b"type=USER msg=audit(1.000:1): msg='text=a\x1b[2Jb c\x07'",
            "type=USER msg=audit(@1.000:1) : msg='text=a\\033[2Jb c\\007'",
        ),
    ];
    for (raw, expected) in cases {
        assert_eq!(line(raw), *expected);
    }
}

#[test]
fn values_one_by_one() {
    let syscall = |number, a0, a1| EventContext {
        machine: Some(Machine::X86_64),
        syscall: Some(number),
        a0,
        a1,
    };
    let plain = EventContext::default();
    type Case = (RecordType, EventContext, &'static str, &'static str, &'static str);
    let cases: &[Case] = &[
        (RecordType::SYSCALL, plain, "uid", "4294967295", "unset"),
        (RecordType::SYSCALL, plain, "uid", "-1", "unset"),
        (RecordType::SYSCALL, plain, "uid", "1234", "unknown(1234)"),
        (
            RecordType::SYSCALL,
            plain,
            "uid",
            "99999999999999999999",
            "conversion error(99999999999999999999)",
        ),
        (RecordType::OBJ_PID, plain, "oses", "-1", "-1"),
        (RecordType::ADD_GROUP, plain, "id", "100", "users"),
        (RecordType::ADD_USER, plain, "id", "1000", "alice"),
        (RecordType::SYSCALL, plain, "exit", "3", "3"),
        (RecordType::PATH, plain, "mode", "0100644", "file,644"),
        (RecordType::PATH, plain, "mode", "041777", "dir,sticky,777"),
        (RecordType::PATH, plain, "mode", "0104755", "file,suid,755"),
        (RecordType::PATH, plain, "mode", "0600", "000,600"),
        (RecordType::MQ_OPEN, plain, "mode", "0600", "0600"),
        (RecordType::MQ_OPEN, plain, "oflag", "0x42", "O_RDWR|O_CREAT"),
        (RecordType::OPENAT2, plain, "oflag", "0100102", "O_RDWR|O_CREAT"),
        (RecordType::OPENAT2, plain, "resolve", "0x8", "RESOLVE_BENEATH"),
        (RecordType::PATH, plain, "cap_fp", "0", "none"),
        (RecordType::PATH, plain, "cap_fp", "0000000000000401", "chown,net_bind_service"),
        (RecordType::CONFIG_CHANGE, plain, "list", "4", "exit"),
        (RecordType::CONFIG_CHANGE, plain, "list", "9", "unknown-list(9)"),
        (RecordType::CONFIG_CHANGE, plain, "perm", "0", "read,write,exec,attr"),
        (RecordType::SECCOMP, plain, "code", "0x50000", "errno"),
        (RecordType::SECCOMP, plain, "code", "0x80000000", "kill"),
        (RecordType::SECCOMP, plain, "sig", "31", "SIGSYS"),
        (RecordType::ANOM_ABEND, plain, "sig", "64", "unknown-signal(64)"),
        (RecordType::NETFILTER_PKT, plain, "proto", "58", "ipv6-icmp"),
        (RecordType::NETFILTER_PKT, plain, "proto", "-1", "undefined protocol"),
        (RecordType::NETFILTER_PKT, plain, "saddr", "::1", "::1"),
        (RecordType::NETFILTER_PKT, plain, "action", "1", "DROP"),
        (RecordType::NETFILTER_CFG, plain, "family", "2", "ipv4"),
        (RecordType::FANOTIFY, plain, "resp", "2", "deny"),
        (RecordType::FANOTIFY, plain, "subj_trust", "2", "unknown"),
        (RecordType::EVENT_LISTENER, plain, "nl-mcgrp", "1", "audit-netlink-multicast"),
        (RecordType::URINGOP, plain, "uring_op", "18", "openat"),
        (RecordType::EXECVE, plain, "a2", "74776F207468726565", "two three"),
        (RecordType::EXECVE, plain, "a1[0]", "6162", "ab"),
        (RecordType::EXECVE, plain, "a1_len", "10", "10"),
        (RecordType::EXECVE, plain, "argc", "3", "3"),
        (RecordType::SYSCALL, plain, "key", "610162", "a,b"),
        (RecordType::IPE_ACCESS, plain, "path", "?", "?"),
        (RecordType::INTEGRITY_PCR, plain, "errno", "0", "0"),
        (RecordType::SYSCALL, plain, "arch", "c00000f3", "riscv64"),
        (RecordType::SYSCALL, plain, "arch", "12345678", "unknown-elf-type(12345678)"),
        (RecordType::SYSCALL, plain, "syscall", "59", "59"),
        (RecordType::SYSCALL, syscall(0, 0, 0), "syscall", "59", "execve"),
        (RecordType::SYSCALL, syscall(0, 0, 0), "syscall", "9999", "unknown-syscall(9999)"),
        (RecordType::SYSCALL, syscall(62, 0, 0), "a1", "f", "SIGTERM"),
        (RecordType::SYSCALL, syscall(268, 0, 0), "a2", "180", "0600"),
        (RecordType::SYSCALL, syscall(90, 0, 0), "a1", "9ed", "suid,0755"),
        (RecordType::SYSCALL, syscall(9, 0, 0), "a2", "5", "PROT_READ|PROT_EXEC"),
        (RecordType::SYSCALL, syscall(9, 0, 0), "a3", "22", "MAP_PRIVATE|MAP_ANONYMOUS"),
        (RecordType::SYSCALL, syscall(41, 0, 0), "a0", "a", "inet6"),
        (RecordType::SYSCALL, syscall(41, 0, 0), "a1", "80001", "SOCK_STREAM"),
        (RecordType::SYSCALL, syscall(157, 23, 0), "a1", "15", "sys_admin"),
        (RecordType::SYSCALL, syscall(54, 0, 6), "a2", "1", "TCP_NODELAY"),
        (RecordType::SYSCALL, syscall(16, 0, 0), "a1", "c138fd09", "DM_TABLE_LOAD"),
        (RecordType::SYSCALL, syscall(272, 0, 0), "a0", "2000000", "CLONE_NEWCGROUP"),
        (RecordType::SYSCALL, syscall(231, 0, 0), "a0", "2", "0x2"),
        (RecordType::SYSCALL, syscall(165, 0, 0), "a3", "1021", "MS_RDONLY|MS_REMOUNT|MS_BIND"),
        (RecordType::SYSCALL, syscall(321, 0, 0), "a0", "5", "BPF_PROG_LOAD"),
    ];
    for (kind, context, key, value, expected) in cases {
        let of = Reading { kind: *kind, enriched: b"", context: *context };
        let mut out = Vec::new();
        Interpreter::new(&Alice).value(&of, key.as_bytes(), value.as_bytes(), &mut out);
        assert_eq!(String::from_utf8_lossy(&out), *expected, "{key}={value}");
    }
}

#[test]
fn the_context_is_read_from_a_syscall_record() {
    let body = b"arch=40000003 syscall=102 success=yes exit=0 a0=2 a1=bfe2 a2=0 a3=0 items=0";
    let context = EventContext::read(body);
    assert_eq!(
        context,
        EventContext { machine: Some(Machine::I386), syscall: Some(102), a0: 2, a1: 0xbfe2 }
    );
    let of = Reading { kind: RecordType::SYSCALL, enriched: b"", context };
    let mut out = Vec::new();
    Interpreter::new(&Numeric).value(&of, b"syscall", b"102", &mut out);
    assert_eq!(out, b"socketcall(bind)");
    assert_eq!(EventContext::read(b""), EventContext::default());
}

proptest::proptest! {
    /// Whatever a log holds: no panic, and nothing that could steer a terminal.
    #[test]
    fn any_bytes_give_a_printable_line(
        kind in 1000u16..3000,
        name in "[a-z0-3_]{1,6}|arch|syscall|saddr|data|proctitle|key|mode|exit|a0|a1|a2|flags|oflag",
        value in proptest::collection::vec(0u8..=255, 0..80),
        body in proptest::collection::vec(0u8..=255, 0..200),
        enriched in proptest::collection::vec(0u8..=255, 0..40),
        syscall in 0u32..500,
        a0 in 0u64..300,
        a1 in 0u64..300,
    ) {
        let context =
            EventContext { machine: Some(Machine::X86_64), syscall: Some(syscall), a0, a1 };
        let of = Reading { kind: RecordType(kind), enriched: &enriched, context };
        let mut out = Vec::new();
        let interpreter = Interpreter::new(&Alice);
        interpreter.value(&of, name.as_bytes(), &value, &mut out);
        interpreter.body(&of, &body, &mut out);
        let _ = EventContext::read(&body);
        proptest::prop_assert!(out.iter().all(|byte| *byte >= 0x20));
    }
}
