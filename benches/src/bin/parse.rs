//! Audit text: lines to records, records to fields, records to events, on one core.

use std::hint::black_box;
use std::time::Duration;

use benches::{Amount, Bench, contestant};
use record::{Assembler, Line};

const MIB: usize = 1 << 20;

fn main() {
    let mut bench = Bench::from_args("parse");
    for (name, text) in [
        ("raw", events(64 * MIB, "")),
        (
            "ENRICHED",
            events(64 * MIB, "\u{1d}ARCH=x86_64 SYSCALL=openat AUID=\"alice\" UID=\"root\""),
        ),
        ("DM_EVENT", violations(64 * MIB)),
    ] {
        let text = text.as_bytes();
        let lines = lines(text).count();
        bench.note(format_args!("{name}: {} bytes a line", text.len() / lines));
        bench.contest(
            &format!("{name}, one core"),
            Amount::bytes(text.len()),
            vec![
                contestant("find the line ends", || count(self::lines(text), |line| line.len())),
                contestant("parse lines", || count(parsed(text), |line| line.record_type())),
                contestant("parse lines, walk fields", || count(parsed(text), walk)),
                contestant("parse lines, assemble events", || assembled(text)),
            ],
        );
    }
}

/// Looks at every line, and says how many there were.
fn count<L, T>(lines: impl Iterator<Item = L>, look: impl Fn(L) -> T) -> u64 {
    lines.fold(0, |count, line| {
        black_box(look(line));
        count + 1
    })
}

/// Touches every field.
fn walk(line: Line<'_>) -> usize {
    line.fields().fold(0, |sum, field| sum + field.key.len() + field.value.text().len())
}

/// The records of all events.
fn assembled(text: &[u8]) -> u64 {
    let mut core = Assembler::default();
    let mut records = 0;
    let mut count = |core: &mut Assembler<usize>| {
        while let Some(event) = core.poll_event() {
            records += event.records.len() as u64;
        }
    };
    for (at, line) in parsed(text).enumerate() {
        core.handle_line(Duration::ZERO, &line, at);
        count(&mut core);
    }
    core.handle_end();
    count(&mut core);
    records
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    memchr::memchr_iter(b'\n', text).map(move |end| {
        let line = &text[from..end];
        from = end + 1;
        line
    })
}

fn parsed(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    lines(text).map(|line| Line::parse(line).expect("the lines are made here"))
}

/// Full system call events as a rule on `openat` makes them.
fn events(size: usize, enriched: &str) -> String {
    let mut text = String::with_capacity(size + 4096);
    let mut serial = 1;
    while text.len() < size {
        let id = format!("{}.{:03}:{serial}", 1_795_300_000 + serial / 1000, serial % 1000);
        let pid = 1000 + serial % 30_000;
        text.push_str(&format!(
            "type=SYSCALL msg=audit({id}): arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c a1=7ffc{serial:08x} a2=80000 a3=0 items=1 ppid={pid} pid={pid} auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=3 comm=\"cat\" exe=\"/usr/bin/cat\" key=\"etc\"{enriched}\n\
             type=CWD msg=audit({id}): cwd=\"/root\"\n\
             type=PATH msg=audit({id}): item=0 name=\"/etc/passwd\" inode={serial} dev=fe:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0\n\
             type=PROCTITLE msg=audit({id}): proctitle=636174002F6574632F706173737764\n"
        ));
        serial += 1;
    }
    text
}

fn violations(size: usize) -> String {
    let mut text = String::with_capacity(size + 4096);
    let mut serial = 1u32;
    while text.len() < size {
        text.push_str(&format!(
            "type=DM_EVENT msg=audit({}.{:03}:{serial}): module=verity op=verify-data dev=7:1 sector={serial} res=0\n",
            1_795_300_000 + serial / 1000,
            serial % 1000
        ));
        serial += 1;
    }
    text
}
