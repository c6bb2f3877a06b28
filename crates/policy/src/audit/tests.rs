use proptest::prelude::*;
use record::Line;
use record::tables::syscall::Machine;

use super::field::FIELDS;
use super::words::{unescape, words};
use super::*;

/// A machine of x86-64 that knows alice (1000), her group (100), and that `/etc` is a directory.
struct Here;

impl Context for Here {
    fn machine(&self) -> Machine {
        Machine::X86_64
    }
    fn uid(&self, name: &str) -> Option<u32> {
        [("root", 0), ("alice", 1000)].iter().find(|known| known.0 == name).map(|known| known.1)
    }
    fn gid(&self, name: &str) -> Option<u32> {
        (name == "users").then_some(100)
    }
    fn is_directory(&self, path: &[u8]) -> bool {
        matches!(path, b"/" | b"/etc")
    }
}

pub(super) fn parse(line: &str) -> Rule {
    match Change::parse(line, &Here) {
        Ok(change) => change.rule().clone(),
        Err(error) => panic!("{line}: {error} at {:?}", error.span),
    }
}

/// Through all three forms and back.
fn round(line: &str) -> String {
    let rule = parse(line);
    assert_eq!(Rule::from_wire(&rule.to_wire()).as_ref(), Ok(&rule), "{line}");
    assert_eq!(Rule::from_wire(&rule.to_wire_in_front()).as_ref(), Ok(&rule), "{line}");
    let text = rule.to_text(Machine::X86_64);
    assert_eq!(parse(&text), rule, "{line} became {text}");
    text
}

/// What was typed, and what `auditctl -l` of 3.0.9 printed for it on Linux 6.18.
#[test]
fn rules_are_printed_as_auditctl_prints_them() {
    let cases = [
        ("-a exit,always -S 1", "-a always,exit -S write"),
        ("-a always,exit", "-a always,exit -S all"),
        ("-a always,task", "-a always,task"),
        ("-a always,user", "-a always,user"),
        ("-a never,filesystem -F fstype=tracefs", "-a never,filesystem -F fstype=tracefs"),
        ("-a never,filesystem -F fstype=0x62656572", "-a never,filesystem -F fstype=1650812274"),
        (
            "-a always,exit -F arch=b64 -S openat,open -F success=0 -F auid>=1000 -F auid!=unset -k k1",
            "-a always,exit -F arch=b64 -S open,openat -F success=0 -F auid>=1000 -F auid!=-1 -F key=k1",
        ),
        (
            "-a always,exit -F arch=b32 -S open -F exit=-EACCES -F a0=0x10 -F a1&3 -F a2&=020 -k two -k three",
            "-a always,exit -F arch=b32 -S open -F exit=-EACCES -F a0=0x10 -F a1&0x3 -F a2&=0x10 -F key=two -F key=three",
        ),
        ("-w /etc/passwd -p wa -k passwd", "-w /etc/passwd -p wa -k passwd"),
        ("-w /etc/ -p xawr", "-w /etc -p rwxa"),
        ("-w /etc/passwd", "-w /etc/passwd -p rwxa"),
        ("-w /", "-w / -p rwxa"),
        ("-a always,exit -F path=/etc/passwd -F perm=r", "-w /etc/passwd -p r"),
        (
            "-w /etc/passwd -F uid=0 -p xw",
            "-a always,exit -S all -F path=/etc/passwd -F perm=wx -F uid=0",
        ),
        (
            "-a always,exit -F dir=/usr -F perm=x -F uid!=root",
            "-a always,exit -S all -F dir=/usr -F perm=x -F uid!=0",
        ),
        (
            "-a always,exit -F arch=b64 -S execve -C euid!=uid -F euid=0",
            "-a always,exit -F arch=b64 -S execve -C uid!=euid -F euid=0",
        ),
        (
            "-a always,exit -F exe=/bin/true -F arch=i686 -S execve -F gid=users -F auid=alice",
            "-a always,exit -F exe=/bin/true -F arch=b32 -S execve -F gid=100 -F auid=1000",
        ),
        ("-a always,exclude -F msgtype=1327", "-a always,exclude -F msgtype=PROCTITLE"),
        (
            "-a never,user -F msgtype>=1100 -F msgtype<DAEMON_START",
            "-a never,user -F msgtype>=USER_AUTH -F msgtype<DAEMON_START",
        ),
        (
            "-a always,exit -F exit>=ENOENT -F exit=-EWOULDBLOCK -F exit=-4095 -F exit=0",
            "-a always,exit -S all -F exit>=2 -F exit=-EAGAIN -F exit=-4095 -F exit=0",
        ),
        (
            "-a always,exit -S open -F key=b -F uid=3 -k c",
            "-a always,exit -S open -F uid=3 -F key=b -F key=c",
        ),
        (
            "-a always,exit -F inode=4294967295 -F loginuid=4294967294 -F sessionid=unset -F pers&=8",
            "-a always,exit -S all -F inode=4294967295 -F auid=-2 -F sessionid=-1 -F pers&=8",
        ),
        (
            "-a always,exit -F subj_sen>=s0 -F obj_lev_high!=s1:c0,c1",
            "-a always,exit -S all -F subj_sen>=s0 -F obj_lev_high!=s1:c0,c1",
        ),
        ("-a always,exit -S 334,424,1000", "-a always,exit -S rseq,pidfd_send_signal,1000"),
        // Where 3.0.9 prints something else, which it does not take or takes for another rule.
        ("-a always,exit -F filetype=dir", "-a always,exit -S all -F filetype=dir"),
        ("-a never,exit -F path=/x -F perm=r", "-a never,exit -S all -F path=/x -F perm=r"),
        ("-a always,exit -F perm=r -F path=/x", "-a always,exit -S all -F perm=r -F path=/x"),
        ("-a always,exit -F exe!=/x -S open", "-a always,exit -S open -F exe!=/x"),
        (r"-w /tmp/a\ b\x0a\\x0a\x5cx41\y\\ -p wa", r"-w /tmp/a\ b\x0a\\x0a\x5cx41\y\\ -p wa"),
        (r"-w /etc/dev-disk\\x2dby.mount -p r", r"-w /etc/dev-disk\x2dby.mount -p r"),
        // Which 3.0.9 does not take.
        ("-a always,exit -S open -F perm!=r", "-a always,exit -S open -F perm!=r"),
        // Where it takes any case.
        (
            "-a always,exit -F ARCH=B64 -S OpenAt,0x3b,010 -F AUID=0 -F exit=-eacces -C UID!=Euid",
            "-a always,exit -F arch=b64 -S lseek,execve,openat -F auid=0 -F exit=-EACCES -C uid!=euid",
        ),
        (
            "-a always,exit -F filetype=FIFO -F Key=K",
            "-a always,exit -S all -F filetype=fifo -F key=K",
        ),
        ("-a never,filesystem -F fstype=TraceFS", "-a never,filesystem -F fstype=tracefs"),
        ("-a always,exit -F arch=X86_64", "-a always,exit -F arch=b64 -S all"),
        ("-a always,exclude -F msgtype=avc", "-a always,exclude -F msgtype=AVC"),
        (
            "-a always,exit -F uid=0 -F arch=aarch64 -S openat",
            "-a always,exit -F uid=0 -F arch=aarch64 -S openat",
        ),
        ("-a always,io_uring -S 18,connect", "-a always,io_uring -S connect,openat"),
    ];
    for (typed, printed) in cases {
        assert_eq!(round(typed), printed, "{typed}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_what_would_be_right() {
    // The text, the part that is wrong, what is said, what is advised.
    let cases = [
        ("", "", "there is no rule", "execve"),
        ("  ", "", "there is no rule", "execve"),
        ("-a always,exit\n-D", "\n", "one line", ""),
        ("-x", "-x", "unknown option `-x`", "-S"),
        ("-D", "-D", "unknown option `-D`", "-S"),
        ("-F uid=0", "-F", "before the rule has begun", "begin with -a"),
        ("-a always,exit -w /x", "-w", "begun already", "another rule"),
        ("-a always,exit -S", "", "-S lacks", ""),
        ("-a exit", "exit", "`exit` is no list and action", "a comma"),
        ("-a always,always", "always,always", "no list", "io_uring"),
        ("-a possible,exit", "possible,exit", "no list", "always or never"),
        ("-a always,entry", "always,entry", "no list", "exclude"),
        ("-a always,exit -F ui=0", "ui", "unknown field `ui`", "`uid`"),
        ("-a always,exit -F contid=x", "x", "no value of `contid`", "18446744073709551615"),
        (
            "-a always,exit -F contid>set",
            "contid>set",
            "`contid` does not take `>`",
            "it takes = !=",
        ),
        ("-a always,user -F cont_exe=/x", "cont_exe", "not known on the user list", "contid"),
        ("-a always,exit -F cont_path=x", "x", "no value of `cont_path`", "absolute"),
        (
            "-a always,task -F contid=1",
            "contid",
            "not known on the task list",
            "fields of the task",
        ),
        ("-a always,exit -F field_compare=1", "field_compare", "unknown field", ""),
        ("-a always,exit -F uid", "uid", "`uid` is no comparison", "= != <"),
        ("-a always,exit -F uid=", "uid=", "no comparison", "without blanks"),
        ("-a always,exit -F =0", "=0", "no comparison", "a field"),
        ("-a always,exit -F uid&5", "uid", "`uid` does not take `&`", "= != < <= > >="),
        ("-a always,exit -F inode>5", "inode", "does not take `>`", "= !="),
        ("-a always,exit -F perm>r", "perm", "does not take `>`", "it takes = !="),
        ("-a never,user -F uid=0 -k x", "-k", "`key` is not known on the user", "leave it out"),
        ("-a never,user -F exe=/x -kx", "-kx", "`key` is not known on the user", "leave it out"),
        ("-a always,exclude -F pid=1 -F key=x", "key", "not known on the exclude", "leave it out"),
        (
            "-a exit,possible -S nope",
            "exit,possible",
            "`possible` is deprecated",
            "always or never",
        ),
        ("-a always,EXIT", "always,EXIT", "no list", "io_uring"),
        ("-a always,exit -S ALL", "ALL", "no system call `ALL`", ""),
        ("-a always,exit -S 08", "08", "no system call `08`", ""),
        ("-a always,exit -F auid=UNSET", "UNSET", "no user `UNSET`", ""),
        ("-a always,exit -Fuidd=0", "uidd", "unknown field `uidd`", "`uid`"),
        ("-a always,exit -S", "", "-S lacks", ""),
        ("-Sopen -F uid=0 -a always,exit", "-F", "-F before the rule has begun", "begin with -a"),
        ("-S open -Sclose", "-S", "-S before the rule has begun", "begin with -a"),
        ("-S opne -a always,exit", "opne", "no system call `opne`", "`open`"),
        ("-S open -a always,task", "open", "task list is not for", "leave -S out"),
        ("-S open -a always,exit -F arch=b64", "arch", "behind the system calls", "before -S"),
        ("-a always,exit -F auid>=unset", "auid>=unset", "does not take `>=`", "= !="),
        (
            "-a always,exit -F msgtype=AVC",
            "msgtype",
            "not known on the exit list",
            "user and exclude",
        ),
        ("-a always,user -F euid=0", "euid", "not known on the user list", "auid"),
        ("-a never,filesystem -F uid=0", "uid", "on the filesystem list", "fstype"),
        ("-a always,exit -F uid=12abc", "12abc", "no user `12abc`", ""),
        ("-a always,exit -F uid=-1", "-1", "no value of `uid`", "only auid"),
        ("-a always,exit -F gid=nobody", "nobody", "no group `nobody`", ""),
        ("-a always,exit -F pid=4294967296", "4294967296", "no value of `pid`", "4294967295"),
        ("-a always,exit -F pid=-2147483649", "-2147483649", "no value", "-2147483648"),
        ("-a always,exit -F pid=08", "08", "no value of `pid`", ""),
        ("-a always,exit -F saddr_fam=inet", "inet", "no value of `saddr_fam`", "2 for inet"),
        ("-a always,exit -F saddr_fam=46", "46", "no value", "below 46"),
        ("-a always,exit -F exit=-EACCESS", "-EACCESS", "no error `-EACCESS`", "`EACCES`"),
        ("-a always,exit -F perm=rq", "rq", "no value of `perm`", "rwxa"),
        ("-a always,exit -F filetype=dirs", "dirs", "no type of file `dirs`", "`dir`"),
        ("-a always,exit -F filetype=8", "8", "no type of file", ""),
        ("-a never,filesystem -F fstype=nfs", "nfs", "no file system here `nfs`", ""),
        ("-a always,exclude -F msgtype=PROCTITEL", "PROCTITEL", "no record type", "`PROCTITLE`"),
        ("-a always,exit -F arch=vax", "vax", "no value of `arch`", "b64"),
        ("-a always,exit -F arch=b64 -S opne", "opne", "no system call `opne`", "`open`"),
        ("-a always,exit -S open,,close", "", "no system call ``", ""),
        ("-a always,exit -S 2048", "2048", "no system call `2048`", ""),
        ("-a always,exit -S open -F arch=b64", "arch", "behind the system calls", "before -S"),
        ("-a always,user -S open", "open", "user list is not for", "leave -S out"),
        ("-a always,exit -C uid=gid", "uid=gid", "`uid` and `gid` are not compared", "auid"),
        ("-a always,exit -C uid>euid", "uid>euid", "does not take `>`", "= !="),
        ("-a always,exit -F path=x", "x", "no value of `path`", "absolute"),
        ("-a always,exit -F path=/x/", "/x/", "no value of `path`", "slash"),
        ("-w relative", "relative", "no value of `path`", "absolute"),
        ("-w /x -F dir=/y", "dir=/y", "path, dir or inode once", "another rule"),
        ("-a always,exit -F exe=/x -F exe=/y", "exe=/y", "exe once", "another rule"),
        (r"-a always,exit -k a\x00", r"a\x00", "no value of `key`", "NUL"),
    ];
    for (line, wrong, said, hint) in cases {
        let error = match Change::parse(line, &Here) {
            Ok(change) => panic!("{line}: {change:?}"),
            Err(error) => error,
        };
        assert_eq!(line.get(error.span.clone()), Some(wrong), "{line}: {error}");
        assert!(error.to_string().contains(said), "{line}: {error}");
        let advice = error.hint().unwrap_or_default();
        assert!(advice.contains(hint), "{line}: {advice:?}");
        assert_eq!(advice.is_empty(), error.hint().is_none(), "{line}");
    }
    let keys = "-k 0123456789 ".repeat(24);
    let error = Change::parse(&format!("-w /x {keys}"), &Here).unwrap_err();
    assert!(matches!(error.kind, RuleErrorKind::TooLong { length: 263, most: 256, .. }));
    let many = "-F pid=1 ".repeat(64);
    let error = Change::parse(&format!("-a always,exit {many}"), &Here).unwrap_err();
    assert_eq!(error.kind, RuleErrorKind::TooMany);
    round(&format!("-a always,exit {}-k k", "-F pid=1 ".repeat(63)));
}

#[test]
fn the_wire_form_of_a_rule_byte_by_byte() {
    let rule = parse("-a always,exit -F arch=b64 -S openat -F dir=/etc -F auid!=unset -k the-key");
    let mut bytes = vec![0; 1040];
    let mut put = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    put(0, 4);
    put(4, 2);
    put(8, 4);
    put(12 + 4 * (257 / 32), 1 << (257 % 32));
    for (at, (field, value, operator)) in [
        (11, 0xc000_003e, 0x4000_0000),
        (107, 4, 0x4000_0000),
        (9, u32::MAX, 0x3000_0000),
        (210, 7, 0x4000_0000),
    ]
    .into_iter()
    .enumerate()
    {
        put(268 + 4 * at, field);
        put(524 + 4 * at, value);
        put(780 + 4 * at, operator);
    }
    put(1036, 11);
    bytes.extend(b"/etcthe-key");
    assert_eq!(rule.to_wire(), bytes);
    bytes[0] = 0x14;
    assert_eq!(rule.to_wire_in_front(), bytes);
}

#[test]
fn bytes_that_are_no_rule_are_refused_with_the_reason() {
    let rule = parse("-a always,exit -S open -F exe=/bin/true -k k").to_wire();
    let with = |at: usize, byte: u8| {
        let mut bytes = rule.clone();
        bytes[at] = byte;
        Rule::from_wire(&bytes)
    };
    assert_eq!(Rule::from_wire(&rule[..1039]), Err(WireError::Short { length: 1039 }));
    assert_eq!(with(0, 2), Err(WireError::List(2)));
    assert_eq!(with(4, 1), Err(WireError::Action(1)));
    assert_eq!(with(8, 65), Err(WireError::Fields(65)));
    assert_eq!(with(780 + 3, 0), Err(WireError::Operator { field: 0, bits: 0 }));
    assert_eq!(with(524, 90), Err(WireError::Texts { length: 10, referred: 90 }));
    assert_eq!(with(524, 8), Err(WireError::Texts { length: 10, referred: 9 }));
    assert_eq!(with(1036, 9), Err(WireError::Texts { length: 9, referred: 10 }));
    // A field that is not known is kept.
    let other = with(268 + 4, 77).map(|rule| rule.conditions()[1].clone());
    let error = Err(WireError::Texts { length: 10, referred: 9 });
    assert_eq!(other, error);
    let mut bytes = parse("-a always,exit -F pid=5").to_wire();
    bytes[268] = 77;
    let rule = Rule::from_wire(&bytes).unwrap();
    assert_eq!(rule.conditions()[0].field, Field::Other(77));
    assert_eq!(rule.to_wire(), bytes);
    assert_eq!(rule.to_text(Machine::X86_64), "-a always,exit -S all -F f77=5");
}

/// Each pair is the same to auditctl 3.0.9.
#[test]
fn options_are_taken_as_getopt_takes_them() {
    for (one, other) in [
        ("-aalways,exit -Farch=b64 -Sopen -kx", "-a always,exit -F arch=b64 -S open -k x"),
        ("-Aalways,exit -Cuid=euid", "-A always,exit -C uid=euid"),
        ("-w/etc -pwa -kx", "-w /etc -p wa -k x"),
        ("-W/etc", "-W /etc"),
        ("-S open -S close -a always,exit -k x", "-a always,exit -S open,close -k x"),
        ("-S open -w /etc", "-w /etc"),
        ("-b8192 -e1 -f 2 -r0", "-b 8192 -e 1 -f 2 -r 0"),
        ("-b 0x40", "-b 64"),
        ("--backlog_wait_time=60000", "--backlog_wait_time 60000"),
        ("--back=1 -b2", "--backlog_wait_time 1 -b 2"),
        ("--reset-l", "--reset-lost"),
        ("--reset_", "--reset_backlog_wait_time_actual"),
        ("--l", "--loginuid-immutable"),
        ("--sig=usr1", "--signal usr1"),
        ("-mhello", "-m hello"),
        ("-q/a,/b", "-q /a,/b"),
    ] {
        assert_eq!(Statement::parse(one, &Here).unwrap(), Statement::parse(other, &Here).unwrap());
    }
    for (line, wrong) in [
        ("--reset", "--reset"),
        ("--reset-lost=3", "--reset-lost=3"),
        ("--", "--"),
        ("-", "-"),
        ("-é", "-é"),
        ("-lx", "-lx"),
        ("-R/etc/audit/audit.rules", "-R/etc/audit/audit.rules"),
        ("-e11", "11"),
        ("-e2x", "2x"),
        ("--backlog_wait_time=", ""),
        ("--signal=x", "x"),
        ("-ma\\x0ab", "a\\x0ab"),
        ("-b 1 -x", "-x"),
    ] {
        let error = Statement::parse(line, &Here).unwrap_err();
        assert_eq!(line.get(error.span.clone()), Some(wrong), "{line}: {error}");
    }
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    use Warning::{Numbers, Relative, Wildcard};
    let cases: [(&str, &[Warning]); 12] = [
        ("-a always,exit -S openat", &[Numbers]),
        ("-S getpid -A always,exit", &[Numbers]),
        ("-d always,exit -S openat", &[]),
        ("-a always,exit -F arch=b64 -S openat", &[]),
        ("-a always,exit -S all", &[]),
        ("-a always,exit", &[]),
        ("-a always,io_uring -S openat", &[]),
        ("-w /etc/../etc", &[Relative]),
        ("-w /etc/a..b", &[]),
        ("-w /etc/pass*", &[Wildcard]),
        ("-W /etc/pass?", &[Wildcard]),
        ("-a always,exit -F dir=/../?", &[Relative, Wildcard]),
    ];
    for (line, expected) in cases {
        let change = Change::parse(line, &Here).unwrap();
        assert_eq!(change.warnings(Machine::X86_64), expected, "{line}");
    }
    let change = Change::parse("-a always,exit -S openat", &Here).unwrap();
    assert_eq!(change.warnings(Machine::Riscv64), []);
}

/// What `auditctl -l -i` of 3.0.9 prints.
#[test]
fn arguments_of_one_call_are_what_they_are_to_it() {
    use record::interpret::Numeric;
    for (line, printed) in [
        (
            "-a always,exit -F arch=b64 -S openat -F a0=-100 -F a2=0x241 -F a3=0644",
            "-a always,exit -F arch=x86_64 -S openat -F a0=AT_FDCWD -F a2=O_WRONLY|O_CREAT|O_TRUNC -F a3=0x1a4",
        ),
        (
            "-a always,exit -F arch=b64 -S openat,open -F a0=-100",
            "-a always,exit -F arch=x86_64 -S open,openat -F a0=0xFFFFFF9C",
        ),
        (
            "-a always,exit -F arch=b64 -S openat -F a2&=0x40",
            "-a always,exit -F arch=x86_64 -S openat -F a2&=O_RDONLY|O_CREAT",
        ),
        ("-a always,exit -S openat -F a2=0x4A", "-a always,exit -S openat -F a2=0x4a"),
        (
            "-a always,exit -F arch=b64 -S socket -F a0=2 -F a1=1 -F a2=6",
            "-a always,exit -F arch=x86_64 -S socket -F a0=inet -F a1=SOCK_STREAM -F a2=tcp",
        ),
        (
            "-a always,exit -F arch=b32 -S socketcall -F a0=5",
            "-a always,exit -F arch=i386 -S socketcall -F a0=accept",
        ),
        ("-a always,exit -F a0=5 -F auid=-1", "-a always,exit -S all -F a0=0x5 -F auid=unset"),
    ] {
        assert_eq!(parse(line).to_names(Machine::X86_64, &Numeric), printed, "{line}");
    }
}

#[test]
fn keys_are_told_apart() {
    let rule = parse("-w /x -k one -k two");
    assert_eq!(rule.keys().collect::<Vec<_>>(), [b"one", b"two"]);
    assert_eq!(parse("-w /x").keys().count(), 0);
}

#[test]
fn the_table_of_fields_is_sorted_and_names_none_twice() {
    assert!(FIELDS.windows(2).all(|pair| pair[0].number < pair[1].number));
    for row in FIELDS {
        assert_eq!(Field::from_name(row.name), Some(row.field));
        assert_eq!(Field::from_number(row.number), row.field);
    }
}

fn condition() -> impl Strategy<Value = String> {
    let operator = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">=", "&", "&="]);
    let value = prop_oneof![
        any::<i32>().prop_map(|number| number.to_string()),
        any::<u32>().prop_map(|number| format!("{number:#x}")),
        (0_u32..3000).prop_map(|number| number.to_string()),
        "-?E(ACCES|PERM|NOENT)",
        "[rwxa]{1,4}",
        "/[a-z ÿ\\\\x0-9./]{0,20}".prop_map(|path| path.replace(' ', "\\ ")),
        "[!-~]{1,12}",
        Just("unset".to_owned()),
        Just("b64".to_owned()),
        Just("fifo".to_owned()),
        Just("tracefs".to_owned()),
    ];
    (prop::sample::select(FIELDS), operator, value)
        .prop_map(|(row, operator, value)| format!("-F {}{operator}{value}", row.name))
}

/// A line that may be a rule; most of its conditions are refused at first.
fn rule() -> impl Strategy<Value = Option<Rule>> {
    let head = prop_oneof![
        4 => Just("-a always,exit"),
        1 => prop::sample::select(vec![
            "-A never,exit", "-a always,user", "-d never,exclude", "-a always,task",
            "-a never,filesystem", "-a always,io_uring", "-w /etc/shadow", "-w /etc",
        ]),
    ];
    let calls = prop::collection::vec(0_u32..2016, 0..5);
    (head, calls, prop::collection::vec(condition(), 0..40), any::<u8>()).prop_map(
        |(head, calls, conditions, arch)| {
            let mut line = head.to_owned();
            line.push_str(
                ["", " -F arch=b64", " -F arch=b32", " -F arch!=arm64"][usize::from(arch % 4)],
            );
            if arch % 4 > 0 && Change::parse(&line, &Here).is_err() {
                line = head.to_owned();
            }
            for part in calls.iter().map(|call| format!("-S {call}")).chain(conditions) {
                let longer = format!("{line} {part}");
                if Change::parse(&longer, &Here).is_ok() {
                    line = longer;
                }
            }
            Change::parse(&line, &Here).ok().map(|change| change.rule().clone())
        },
    )
}

/// Bytes, most of them such as mean something to the words of a line.
fn awkward() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(br"\\ x0af2d,=".to_vec()),
        1 => 1_u8..,
    ];
    prop::collection::vec(byte, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn every_rule_is_the_same_in_every_form(rule in rule()) {
        let rule = rule.expect("the head alone is a rule");
        prop_assert_eq!(Rule::from_wire(&rule.to_wire()), Ok(rule.clone()));
        let text = rule.to_text(Machine::X86_64);
        let again = Change::parse(&text, &Here);
        prop_assert_eq!(again.as_ref().map(Change::rule), Ok(&rule), "{}", text);
        prop_assert_eq!(again.map(|again| again.rule().to_text(Machine::X86_64)), Ok(text));
    }

    #[test]
    fn any_path_survives_the_text(path in awkward(), key in prop::collection::vec(2_u8.., 1..20)) {
        let mut rule = parse("-w /x -p r -k k");
        let slash = |path: &[u8]| [b"/", path, b"x"].concat();
        rule.conditions[0].value = Value::Text(slash(&path));
        rule.conditions[2].value = Value::Text(key);
        let text = rule.to_text(Machine::X86_64);
        prop_assert_eq!(parse(&text), rule, "{}", text);
    }

    #[test]
    fn any_words_are_the_same_in_a_line(all in prop::collection::vec(awkward(), 1..5)) {
        let some: Vec<&[u8]> = all.iter().map(Vec::as_slice).filter(|word| !word.is_empty()).collect();
        let line = Statement::line(&some).unwrap();
        prop_assert!(!line.contains(char::is_control));
        let read: Vec<_> = words(&line).iter().map(|word| unescape(word.text)).collect();
        prop_assert_eq!(read, some, "{}", line);
    }

    #[test]
    fn any_text_is_a_rule_or_an_error_in_it(line in "(-[aAdwWSFCpk] {0,1}[!-~ \\\\]{0,12} ?){0,6}|\\PC{0,40}") {
        match Change::parse(&line, &Here) {
            Ok(change) => {
                let rule = change.rule();
                prop_assert_eq!(Rule::from_wire(&rule.to_wire()), Ok(rule.clone()));
            }
            Err(error) => prop_assert!(line.get(error.span.clone()).is_some(), "{error:?}"),
        }
    }
}

#[test]
fn a_rule_for_a_container_is_for_what_that_has_made_too() {
    let text = "type=SYSCALL msg=audit(1.000:2): arch=c000003e syscall=59 success=yes exit=0 items=0 ppid=1 pid=7 \
                auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 ses=1 comm=\"x\" exe=\"/x\" key=\"k\"";
    for (condition, alone, made) in [
        ("contid=5", true, true),
        ("contid=2", false, true),
        ("contid=7", false, false),
        // None of a chain is.
        ("contid!=5", false, false),
        ("contid!=2", true, false),
        ("contid!=7", true, true),
        // Any is.
        ("contid<3", false, true),
        ("contid>3", true, true),
        ("contid>5", false, false),
        ("contid!=unset", true, true),
    ] {
        let rule = parse(&format!("-a always,exit -F {condition}"));
        for (made_by, expected) in [(None, alone), (Some(2), made)] {
            let mut facts = Facts::of_call([Line::parse(text.as_bytes()).unwrap()]);
            (facts.container, facts.made_by) = (Fact::Known(5), made_by);
            let decided = decide(std::slice::from_ref(&rule), List::Exit, &facts);
            let holds = matches!(decided, Decision::Rule { .. });
            assert_eq!(holds, expected, "{condition} {made_by:?} {decided:?}");
        }
    }
}

#[test]
fn what_a_call_does_not_do_can_be_asked_for() {
    let text = "type=SYSCALL msg=audit(1.000:2): arch=c000003e syscall=2 success=yes exit=0 a0=0 a1=1 a2=0 a3=0 items=0 \
                ppid=1 pid=7 auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 ses=1 comm=\"x\" exe=\"/x\"";
    for (letters, does) in [("w", true), ("r", false)] {
        let mut rule = parse(&format!("-a always,exit -S open -F perm={letters}"));
        for (operator, expected) in [(Operator::Equal, does), (Operator::NotEqual, !does)] {
            for condition in &mut rule.conditions {
                condition.operator = operator;
            }
            let facts = Facts::of_call([Line::parse(text.as_bytes()).unwrap()]);
            let holds = matches!(decide([&rule], List::Exit, &facts), Decision::Rule { .. });
            assert_eq!(holds, expected, "{letters} {operator:?}");
        }
    }
}
