//! What must hold for any bytes, one function per parser. None of them may panic, and memory
//! stays within a small multiple of the input; beyond that each says what it checks.
//!
//! `cargo fuzz run NAME` (nightly) looks for bytes that break one; `tests/replay.rs` runs them
//! on the stable toolchain over the seeds, damaged seeds, and whatever a fuzzer once found.

mod clock;
mod config;
pub mod seeds;

use std::time::Duration;

use ::signature::{Certificate, Message, SigningKey, Time, Verdict};
use block::fec::{self, Area, Corrector};
use block::verity::{
    BlockSize, HashArea, HashName, HashType, Layout, Params, Salt, Superblock, Table,
};
pub use clock::clock;
pub use config::config;
use engine::containers::Group;
use engine::devices::kernel_log::{self, Kept, Said};
use engine::devices::uevent::{Action, Mismatch, Uevent};
use engine::devices::{Devices, Mapped, MappedTarget, Output, table};
use host::audit::{self, Features, ReplyBody, replies};
use host::btrfs::{self, Chunk, Items, RootRef};
use host::dm::answer;
use host::mountinfo::{MountEntry, entries};
use host::process::{Stat, Status};
use policy::audit::{
    Change, Context, Decision, Facts, List, Matches, Rule, Statement, decide, matches,
};
use record::contid::{self, ContIds};
use record::dispatch::{self, LONGEST_TEXT, Reader, Writer};
use record::interpret::{EventContext, Interpreter, Numeric, Reading};
use record::stored::{Origin, Restorer, Source, push_stored, split_end};
use record::tables::syscall::Machine;
use record::units::{DataBlock, HashBlock};
use record::write::{LONGEST_LINE, LONGEST_TAIL, Tail, push_record};
use record::{Assembler, EventId, Line, Patience, RecordType};
use trail::door::{Frame, Unpacked, pack};
use trail::note::Note;
use trail::{Checkpoint, Class, Proof, PublicKey, SecretKey, check_proof};

/// A target: its name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: &[Target] = &[
    ("lines", lines),
    ("stored", stored),
    ("interpret", interpret),
    ("superblock", superblock),
    ("fec", fec),
    ("note", note),
    ("proof", proof),
    ("frame", frame),
    ("entry", entry),
    ("leaf", leaf),
    ("mountinfo", mountinfo),
    ("btrfs", btrfs),
    ("process", process),
    ("netlink", netlink),
    ("dispatch", dispatch),
    ("rule", rule),
    ("config", config),
    ("evaluate", evaluate),
    ("device_mapper", device_mapper),
    ("table", table),
    ("signature", signature),
    ("certificate", certificate),
    ("kernel_texts", kernel_texts),
    ("devices", devices),
    ("scrub", scrub),
    ("bpf", bpf),
    ("contid", contid),
    ("control_group", control_group),
    ("clock", clock),
];

/// A log: a line is its prefix and its payload, its fields end, and every record that goes into
/// the assembler comes out of it once.
pub fn lines(bytes: &[u8]) {
    let mut assembler = Assembler::new(Patience::default());
    let (mut taken, mut given) = (0, 0);
    for text in bytes.split(|b| *b == b'\n') {
        for line in [Line::parse(text), Line::parse_stored(text)].into_iter().flatten() {
            assert!(line.raw().starts_with(line.prefix()));
            let fields = line.fields().flat().count();
            assert!(fields <= line.body().len() + 1);
        }
        if let Ok(line) = Line::parse(text) {
            assembler.handle_line(Duration::ZERO, &line, ());
            taken += 1;
            while let Some(event) = assembler.poll_event() {
                given += event.records.len();
            }
        }
    }
    assembler.handle_end();
    while let Some(event) = assembler.poll_event() {
        given += event.records.len();
    }
    assert_eq!(taken, given);
}

/// A source line comes back from its stored form byte for byte, wherever it came from; and its
/// stored form has no line that ausearch would cut.
pub fn stored(bytes: &[u8]) {
    let mut tail = Tail::new();
    tail.push("VT_LEAF", 7).expect("a registered name");
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let (text, end) = split_end(line);
        round_trip(Source { text, end, origin: Origin::File }, &tail);
    }
    round_trip(Source { text: bytes, end: b"\n", origin: Origin::Netlink }, &tail);
}

fn round_trip(source: Source<'_>, tail: &Tail) {
    let mut stored = Vec::new();
    push_stored(&mut stored, source, tail, EventId { millis: 1, serial: 2 });
    let mut restored = Vec::new();
    let mut restorer = Restorer::default();
    let body = stored.strip_suffix(b"\n").expect("every stored line ends in a line feed");
    for line in body.split(|b| *b == b'\n') {
        assert!(line.len() < record::write::LONGEST_LINE);
        restorer.push(line, &mut restored).expect("what was stored can be restored");
    }
    restorer.finish().expect("all pieces are there");
    assert_eq!(restored, [source.text, source.end].concat());
}

/// Interpreted text has no control characters, whatever the record holds.
pub fn interpret(bytes: &[u8]) {
    let context = EventContext::read(bytes);
    let interpreter = Interpreter::new(&Numeric);
    for text in bytes.split(|b| *b == b'\n') {
        let Ok(line) = Line::parse(text) else { continue };
        let reading = Reading::of(&line, &context);
        let mut out = Vec::new();
        interpreter.body(&reading, line.body(), &mut out);
        assert!(out.iter().all(|b| *b >= b' '), "{}", out.escape_ascii());
    }
}

/// A superblock that is accepted is written in one way, and its layout can be computed.
pub fn superblock(bytes: &[u8]) {
    let Ok(superblock) = Superblock::read(bytes) else { return };
    let written = superblock.to_bytes();
    let again = Superblock::read(&written).expect("what was accepted is accepted again");
    assert_eq!(again.to_bytes(), written);
    // The name of the algorithm may be spelled otherwise, and padding is not looked at.
    assert_eq!(written[..32], bytes[..32]);
    assert_eq!(written[64..82], bytes[64..82]);
    for offset in [0, 512, u64::MAX / 512 * 512] {
        let _ = Layout::new(&superblock.params, HashArea { offset, superblock: true });
    }
}

/// Any geometry and any bytes on the three devices. The first 35 bytes are numbers of the image
/// (roots, block size, superblock; data blocks, FEC offset, end of what is covered, the block that is
/// asked for); the rest is data, tree and parity, a third each. An area that is accepted has all its
/// places in a file, and nothing is called corrected that was not called right.
pub fn fec(bytes: &[u8]) {
    let Some(([roots, size, flags], rest)) = bytes.split_first_chunk() else { return };
    let Some((numbers, rest)) = rest.split_first_chunk::<32>() else { return };
    let [data_blocks, offset, covered_end, number] =
        std::array::from_fn(|n| u64::from_le_bytes(numbers.as_chunks().0[n]));
    let block_size = BlockSize::new("block size", 512 << (size % 11)).expect("a power of two");
    let params = Params {
        hash_type: HashType::Normal,
        hash: HashName::parse("sha256").expect("known"),
        data_block_size: block_size,
        hash_block_size: block_size,
        data_blocks,
        salt: Salt::default(),
    };
    let area = HashArea { offset: 0, superblock: flags & 1 == 0 };
    let Ok(layout) = Layout::new(&params, area) else { return };
    let Ok(area) = Area::new(&layout, u64::from(*roots), offset, covered_end) else { return };
    let parity = area.bytes();
    assert!(parity.start == offset && parity.start < parity.end && parity.end < 1 << 63);
    assert_eq!(parity.end - parity.start, area.parity_blocks() * u64::from(block_size.bytes()));
    assert!(area.covered() >= data_blocks);
    if block_size.bytes() > 4096 {
        // The same code over more bytes, and slow.
        return;
    }
    let third = rest.len() / 3;
    let (data, hash, parity) = (&rest[..third], &rest[third..2 * third], &rest[2 * third..]);
    let target = match flags & 2 {
        0 => fec::Target::Data(DataBlock(number)),
        _ => fec::Target::Hash(HashBlock(number)),
    };
    let mut out = vec![0; block_size.as_usize()];
    let mut right: Option<Vec<u8>> = None;
    let corrected = Corrector::new(area, parity).correct(
        &data,
        &hash,
        target,
        &mut |other, bytes| {
            assert_ne!(other, target);
            bytes.first().is_some_and(|byte| byte & 1 != 0)
        },
        &mut |bytes| {
            let is_right = bytes.last().is_some_and(|byte| byte & 3 == 0);
            right = is_right.then(|| bytes.to_vec());
            is_right
        },
        &mut out,
    );
    assert_eq!(corrected.is_some(), right.as_deref() == Some(&out[..]));
}

/// Only canonical bytes are a note, a checkpoint or a key.
pub fn note(bytes: &[u8]) {
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(note.to_text().as_bytes(), bytes);
        if let Ok(checkpoint) = Checkpoint::parse(note.text) {
            assert_eq!(checkpoint.to_text(), note.text);
        }
        // The key that signed the seeds never left this program.
        let _ = note.check(seeds::key().public());
    }
    for anchor in trail::anchors::read(bytes) {
        let line = trail::anchors::to_line(&anchor.note);
        let again = line.as_deref().and_then(|line| trail::anchors::from_line(line.as_bytes()));
        assert!(line.is_none() || again == Some(anchor.note.clone()), "another note came back");
        let _ = anchor.origin();
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = PublicKey::parse(text);
        let _ = SecretKey::parse(text);
    }
}

/// A bundle that is accepted is one of the seeds: nothing else leads to the signed root.
pub fn proof(bytes: &[u8]) {
    if let Ok(Proof::Good(proven)) = check_proof(bytes, seeds::key().public()) {
        assert!(
            seeds::proven().contains(&(proven.index.0, proven.leaf)),
            "a forged leaf was accepted"
        );
    }
}

/// A frame that is read and written is the same frame again.
pub fn frame(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    if let Ok(frame) = Frame::read(*kind, body) {
        let mut written = Vec::new();
        frame.write(&mut written);
        assert_eq!(Frame::read(written[4], &written[5..]), Ok(frame));
    }
    let mut stream = bytes;
    let mut buffer = Vec::new();
    while let Ok(Some(_)) = Frame::next(&mut stream, &mut buffer) {}
}

/// An entry that is taken apart can be packed again.
pub fn entry(bytes: &[u8]) {
    if let Ok(unpacked) = Unpacked::read(bytes) {
        let packed = pack(&unpacked.entry(Class::Rest, None)).expect("it was packed before");
        assert_eq!(packed, bytes);
    }
}

/// A leaf lies within the bytes, ends with a line feed and has no NUL.
pub fn leaf(bytes: &[u8]) {
    if let trail::leaf::Frame::Whole { len, tail } = trail::leaf::frame(bytes) {
        let leaf = &bytes[..len];
        assert!(leaf.ends_with(b"\n") && leaf.len() <= trail::leaf::MOST_BYTES);
        assert!(!leaf.contains(&0));
        let _ = tail.ticket();
    }
}

/// `/proc/self/mountinfo`: there is at most one mount a line, and each, written as the kernel
/// writes it, is read as the same.
pub fn mountinfo(bytes: &[u8]) {
    let lines = bytes.split(|b| *b == b'\n').count();
    let mut mounts = 0;
    for entry in entries(bytes) {
        mounts += 1;
        let (major, minor) = entry.device;
        let mut line = format!("{} {} {major}:{minor} ", entry.id, entry.parent).into_bytes();
        let escaped = |line: &mut Vec<u8>, name: &[u8]| {
            for byte in name {
                match byte {
                    b' ' | b'\t' | b'\n' | b'\\' => line.extend(format!("\\{byte:03o}").bytes()),
                    _ => line.push(*byte),
                }
            }
            line.push(b' ');
        };
        escaped(&mut line, &entry.root);
        escaped(&mut line, &entry.point);
        line.extend(b"rw shared:1 - ");
        line.extend(entry.fs_type);
        line.push(b' ');
        escaped(&mut line, &entry.source);
        line.extend(if entry.read_only { b"ro" } else { b"rw" });
        assert_eq!(MountEntry::parse(&line).as_ref(), Some(&entry));
    }
    assert!(mounts <= lines);
}

/// `/proc/PID/stat` and `status`: what was read, written again, is read as the same, and a name
/// of any bytes moves nothing.
pub fn process(bytes: &[u8]) {
    if let Some(stat) = Stat::parse(bytes) {
        assert!(stat.comm.len() + 2 < bytes.len());
        assert_eq!(Stat::parse(&stat_text(&stat)), Some(stat));
    }
    let named = Stat { comm: bytes, terminal: 34816, flags: 0x0040_0000, start_time: u64::MAX };
    assert_eq!(Stat::parse(&stat_text(&named)), Some(named));
    if let Some(status) = Status::parse(bytes) {
        let [u, v, w, x] = status.uid;
        let [g, h, i, j] = status.gid;
        let text = format!(
            "Name:\tx\nTgid:\t{}\nPPid:\t{}\nUid:\t{u}\t{v}\t{w}\t{x}\nGid:\t{g}\t{h}\t{i}\t{j}\n",
            status.tgid, status.ppid
        );
        assert_eq!(Status::parse(text.as_bytes()), Some(status));
    }
}

fn stat_text(stat: &Stat<'_>) -> Vec<u8> {
    let Stat { comm, terminal, flags, start_time } = *stat;
    let tail = format!(
        ") S 1 2 3 {} -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 {start_time} 9 10\n",
        terminal.cast_signed()
    );
    [b"7 (", comm, tail.as_bytes()].concat()
}

/// Answers of the kernel: the data of all messages is disjoint, in order and within the datagram,
/// each behind a header; after what is none there is nothing.
pub fn netlink(bytes: &[u8]) {
    let mut end = bytes.as_ptr().addr();
    let mut replies = replies(bytes);
    for reply in replies.by_ref() {
        let Ok(reply) = reply else { break };
        let ReplyBody::Data(_, data) = reply.body else { continue };
        assert!(data.as_ptr().addr() >= end + 16);
        end = data.as_ptr().addr() + data.len();
        let status = audit::Status::parse(data);
        assert!(data.len() >= 8 || status == audit::Status::default());
        assert!(data.len() >= 12 || Features::parse(data) == Features::default());
    }
    assert!(end <= bytes.as_ptr().addr() + bytes.len());
    assert!(replies.next().is_none());
}

/// A list of containers that is read is written again as it was meant, and in pieces of which none
/// is too long and none says what the whole does not.
pub fn contid(bytes: &[u8]) {
    if let Ok(id) = contid::parse_write(0, bytes) {
        assert_eq!(contid::parse_write(0, id.to_string().as_bytes()), Ok(id));
    }
    if let Some(id) = contid::parse_filter(bytes) {
        assert_eq!(contid::parse_filter(id.interpreted().to_string().as_bytes()), Some(id));
    }
    let Some(list) = ContIds::parse(bytes) else { return };
    let chains = list.chains();
    let written = contid::lists(chains.iter().map(Vec::as_slice), usize::MAX);
    let [whole] = &written[..] else { panic!("a list is one list") };
    let again = ContIds::parse(whole.as_bytes()).expect("what is written is a list");
    assert!(again.items().eq(list.items()));
    for piece in contid::lists(chains.iter().map(Vec::as_slice), 64) {
        assert!(piece.len() <= 64);
        let piece = ContIds::parse(piece.as_bytes()).expect("a piece is a list");
        assert!(piece.items().all(|(id, _)| list.has_nested(id)));
        assert!(piece.direct().all(|id| list.has(id)));
    }
}

/// What auditd hands on, or a plugin of ours: a message is a record that can be sent on and comes back the
/// same, and is the same however what came was cut.
pub fn dispatch(bytes: &[u8]) {
    let read = |writer: Writer, piece: usize| {
        let mut reader = Reader::new(writer, vec![b"vm".to_vec()]);
        let mut lines = Vec::new();
        for piece in bytes.chunks(piece) {
            reader.push(piece);
            loop {
                let record = match reader.next() {
                    Ok(Some(dispatch::Message::Record(record))) => record,
                    Ok(Some(dispatch::Message::Dropped(_))) => continue,
                    Ok(None) => break,
                    Err(_) => return lines,
                };
                let line = record.line.raw();
                assert!(line.len() <= LONGEST_TEXT + 64);
                let mut sent = Vec::new();
                record.push_to(&mut sent);
                let mut again = Reader::new(Writer::Plugin, vec![]);
                again.push(&sent);
                let Ok(Some(dispatch::Message::Record(back))) = again.next() else {
                    panic!("what is sent can be read");
                };
                assert_eq!((back.line.raw(), back.verbatim), (line, record.verbatim));
                lines.push(line.to_vec());
            }
        }
        lines
    };
    for writer in [Writer::Auditd, Writer::Plugin] {
        assert_eq!(read(writer, 7), read(writer, usize::MAX));
    }
}

/// An event of a BPF program: names end where they should, and more bytes behind it change nothing.
pub fn bpf(bytes: &[u8]) {
    let Ok(event) = host::bpf::Event::parse(bytes) else { return };
    let is_name = |task: &host::bpf::Task| task.comm.len() <= 16 && !task.comm.contains(&0);
    assert!(event.task().is_none_or(is_name));
    let longer = [bytes, &[0xff; 8]].concat();
    assert_eq!(host::bpf::Event::parse(&longer), Ok(event));
}

/// The control groups of a process: what a container makes below its own group does not change which it is.
pub fn control_group(bytes: &[u8]) {
    let Some(group) = Group::of_process(bytes) else { return };
    let path = group.path.as_bytes();
    assert!(path.starts_with(b"/") && memchr::memmem::find(bytes, path).is_some());
    assert!(!group.key().is_empty());
    for below in [&b""[..], b"/x", b"/docker/0", b"/\xff:0::/machine.slice/machine-x.scope"] {
        let deeper = Group::of_path(group.hierarchy, &[path, b"/payload", below].concat());
        assert_eq!(deeper.as_ref(), Some(&group));
    }
}

/// A table of the kernel's verity target is read again as it was read, once it is written.
pub fn table(bytes: &[u8]) {
    let Ok(table) = String::from_utf8_lossy(bytes).parse::<Table>() else { return };
    assert_eq!(table.to_string().parse(), Ok(table));
}

/// The device mapper's answers: texts end before their NUL, and there are no more devices or targets
/// than there is room for.
pub fn device_mapper(bytes: &[u8]) {
    if let Ok(info) = answer::info(bytes) {
        assert!(info.name.len() < 128 && info.uuid.len() < 129);
        assert!(!info.name.contains(&0) && !info.uuid.contains(&0));
    }
    let devices = answer::list(bytes).unwrap_or_default();
    assert!(devices.len() <= bytes.len() / 12);
    assert!(devices.iter().all(|device| !device.name.contains(&0)));
    let targets = answer::targets(bytes).unwrap_or_default();
    assert!(targets.len() <= bytes.len() / 40);
    assert!(targets.iter().all(|target| !target.params.contains(&0)));
    assert!(answer::versions(bytes).unwrap_or_default().len() <= bytes.len() / 16);
}

/// An audit rule in auditctl's words or as the kernel lists it: what is one, is the same one in the
/// other form, and what is none is said within the text.
pub fn rule(bytes: &[u8]) {
    if let Ok(rule) = Rule::from_wire(bytes) {
        let wire = rule.to_wire();
        assert!(wire.len() <= bytes.len());
        assert_eq!(Rule::from_wire(&wire).as_ref(), Ok(&rule));
        assert!(rule.to_text(Machine::X86_64).starts_with('-'));
    }
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Change::parse(text, &Anywhere) {
        Ok(change) => {
            let rule = change.rule();
            assert_eq!(Rule::from_wire(&rule.to_wire()).as_ref(), Ok(rule));
            let again = Change::parse(&rule.to_text(Machine::X86_64), &Anywhere);
            assert_eq!(again.as_ref().map(Change::rule), Ok(rule));
        }
        Err(error) => assert!(text.get(error.span).is_some()),
    }
}

/// Rules before an empty line, records behind it: each rule that matches alone is found among all, or
/// one before it is, or may be; and what is wrong in a line is said within it.
pub fn evaluate(bytes: &[u8]) {
    let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or(bytes.len());
    let (head, tail) = bytes.split_at(end);
    let mut rules = Vec::new();
    for line in head.split(|byte| *byte == b'\n').take(16) {
        let Ok(line) = str::from_utf8(line) else { continue };
        match Statement::parse(line, &Anywhere) {
            Ok(Statement::Change(change)) => rules.push(change.rule().clone()),
            Ok(_) => {}
            Err(error) => assert!(line.get(error.span).is_some()),
        }
    }
    let lines = || tail.split(|byte| *byte == b'\n').filter_map(|line| Line::parse(line).ok());
    let mut all = vec![Facts::of_call(lines())];
    all.extend(lines().take(4).map(|line| Facts::of_message(&line)));
    for facts in &all {
        for list in [List::Exit, List::Task, List::User, List::Exclude] {
            match decide(&rules, list, facts) {
                Decision::Rule { at, .. } => {
                    assert!(rules.get(at).is_some_and(|rule| rule.list() == list));
                    let rule = rules.get(at);
                    assert_eq!(rule.map(|rule| matches(rule, facts)), Some(Matches::Yes));
                }
                Decision::CannotTell { at, .. } => assert!(at < rules.len()),
                Decision::Nothing => {}
            }
        }
    }
}

/// A machine on which every name is somebody.
struct Anywhere;

impl Context for Anywhere {
    fn machine(&self) -> Machine {
        Machine::X86_64
    }
    fn uid(&self, name: &str) -> Option<u32> {
        u32::try_from(name.len()).ok()
    }
    fn gid(&self, name: &str) -> Option<u32> {
        self.uid(name)
    }
    fn is_directory(&self, path: &[u8]) -> bool {
        path.len().is_multiple_of(2)
    }
}

/// A signature that the golden certificates vouch for is one of the golden contents, signed by one of
/// them: nothing else leads there.
pub fn signature(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes) else { return };
    // 2026-12-01, when the golden certificates are valid.
    let at = Time(1_796_083_200);
    let contents = match message.content() {
        Some(content) => vec![content],
        None => vec![seeds::ROOT_HASH, b"other"],
    };
    for content in contents {
        let verdict = match message.content() {
            Some(_) => message.check_attached(seeds::keyring(), at),
            None => message.check_detached(content, seeds::keyring(), at),
        };
        if let Ok(Verdict::Trusted(trusted)) = verdict {
            assert!(seeds::signed_contents().contains(&content), "forged: {trusted}");
            let mut certificates = seeds::keyring().certificates().iter();
            assert!(certificates.any(|certificate| certificate.facts() == trusted.signer));
        }
    }
}

/// A certificate is its bytes again, and its names can be printed. A key file never panics.
pub fn certificate(bytes: &[u8]) {
    if let Ok(certificate) = Certificate::from_der(bytes) {
        assert_eq!(certificate.as_der(), bytes);
    }
    for certificate in Certificate::from_file(bytes).into_iter().flatten() {
        let facts = certificate.facts();
        assert!(!facts.subject.chars().chain(facts.issuer.chars()).any(char::is_control));
        assert_eq!(Certificate::from_der(certificate.as_der()), Ok(certificate));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = SigningKey::from_pem(text);
    }
}

/// What the kernel says of mapped devices, by netlink, in its log and in tables: a device event that is
/// read, written again, is read as the same; a hash block covers data blocks that there are; a log line
/// gives no more bytes than it has.
pub fn kernel_texts(bytes: &[u8]) {
    if let Some(uevent) = Uevent::parse(bytes) {
        let action = match uevent.action {
            Action::Add => "add",
            Action::Change => "change",
            Action::Remove => "remove",
        };
        let (major, minor) = uevent.device;
        let mismatch = uevent.mismatch.map(|block| match block {
            Mismatch::Data(block) => format!("DM_VERITY_ERR_BLOCK_NR=0,{block}\0"),
            Mismatch::Hash(block) => format!("DM_VERITY_ERR_BLOCK_NR=1,{block}\0"),
        });
        let text = format!(
            "{action}@/d\0ACTION={action}\0SUBSYSTEM=block\0{}MAJOR={major}\0MINOR={minor}\0DEVNAME=dm-0\0",
            mismatch.unwrap_or_default()
        );
        assert_eq!(Uevent::parse(text.as_bytes()), Some(uevent));
    }
    if let Some(record) = kernel_log::Record::parse(bytes) {
        assert!(record.text.len() <= bytes.len());
        let _ = Said::parse(&record.text);
    }
    for line in bytes.split(|b| *b == b'\n') {
        let _ = Said::parse(line);
        if let Some(kept) = Kept::parse(line) {
            assert!(
                line.windows(kept.text.len().max(1)).any(|window| window == kept.text)
                    || kept.text.is_empty()
            );
        }
        let Some((kind, params)) = split_word(line) else { continue };
        let Ok(kind) = std::str::from_utf8(kind) else { continue };
        let _ = table::Status::parse(kind, params);
        if let Some(table::Target::Verity(verity)) = table::Target::parse(kind, params) {
            let table = verity.table;
            for block in (0..8).flat_map(|near| [near, table.hash_start.saturating_add(near)]) {
                if let Some(covered) = table.covered(HashBlock(block)) {
                    assert!(covered.start < covered.end && covered.end <= table.data_blocks);
                }
            }
        }
    }
}

fn split_word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = line.iter().position(|b| *b == b' ')?;
    Some((&line[..blank], &line[blank + 1..]))
}

/// A machine, one line for each thing that happens: `k` a record of the kernel log, `u` a device event
/// with `|` for NUL, `a` an audit record, `p` a kept line, `i` a table of a device, `t` time. Every
/// violation that the kernel recorded gets its place once, every record of ours is a line that can be
/// stored, and in the end nothing is left to do.
pub fn devices(bytes: &[u8]) {
    let mut machine = Devices::new();
    let mut now = Duration::ZERO;
    let mut tables: Vec<Mapped> = Vec::new();
    let (mut found, mut placed) = (0, 0);
    for line in bytes.split(|b| *b == b'\n') {
        let Some((kind, rest)) = line.split_first() else { continue };
        match kind {
            b'k' => machine.handle_kmsg(now, rest),
            b'u' => {
                let raw: Vec<u8> = rest.iter().map(|b| if *b == b'|' { 0 } else { *b }).collect();
                machine.handle_uevent(now, &raw);
            }
            b'a' => {
                let Ok(record) = Line::parse(rest) else { continue };
                let before = machine.counters().unknown_records;
                machine.handle_event(now, record.id(), &[record]);
                let known = machine.counters().unknown_records == before;
                found += u64::from(record.effective_type() == RecordType::DM_EVENT && known);
            }
            b'p' => machine.handle_pstore(now, rest),
            b't' => now += Duration::from_millis(rest.iter().map(|b| u64::from(*b)).sum()),
            b'i' => {
                let Some((kind, params)) = split_word(rest) else { continue };
                let target = MappedTarget {
                    start: 0,
                    length: 8,
                    kind: String::from_utf8_lossy(kind).into_owned(),
                    params: params.to_vec(),
                    status: params.to_vec(),
                };
                let minor = u32::try_from(tables.len() % 4).expect("small");
                let mapped = Mapped {
                    device: (253, minor),
                    name: kind.to_vec(),
                    targets: vec![target],
                    ..Mapped::default()
                };
                tables.retain(|other| other.device != mapped.device);
                tables.push(mapped);
                machine.handle_inventory(now, tables.clone());
            }
            _ => machine.handle_audit_state(now, rest.is_empty()),
        }
        if machine.poll_timeout().is_some_and(|due| due <= now) {
            machine.handle_timeout(now);
        }
        placed += drain(&mut machine);
    }
    for _ in 0..64 {
        let Some(due) = machine.poll_timeout() else { break };
        now = now.max(due);
        machine.handle_inventory(now, tables.clone());
        machine.handle_timeout(now);
        placed += drain(&mut machine);
    }
    assert_eq!(found, placed);
}

/// The places that were given beside events of the kernel.
fn drain(machine: &mut Devices) -> u64 {
    let mut placed = 0;
    while let Some(output) = machine.poll() {
        let records = match output {
            Output::Record(own) => own.records,
            Output::Beside(beside) => {
                placed += u64::from(beside.records.iter().any(|(kind, _)| *kind == "VT_PLACE"));
                beside.records
            }
            Output::Inventory | Output::Explain { .. } => continue,
        };
        for (kind, body) in records {
            let mut line = Vec::new();
            push_record(&mut line, kind, EventId::default(), body.as_bytes());
            assert!(line.len() <= LONGEST_LINE - LONGEST_TAIL);
            assert!(line.iter().all(|b| (b' '..=b'~').contains(b)), "{}", line.escape_ascii());
            let fields = Line::parse(&line).expect("a record").fields().count();
            assert!(fields > 0);
        }
    }
    placed
}

/// A state of a check that is accepted is written in one way, and says where to go on within its
/// device.
pub fn scrub(bytes: &[u8]) {
    let Ok(state) = engine::scrub::State::read(bytes) else { return };
    let written = state.to_text();
    assert!(written.len() <= engine::scrub::State::LONGEST);
    assert_eq!(engine::scrub::State::read(&written).expect("what was accepted"), state);
    if let engine::scrub::Begin::After(pass) = state.begin(&state.identity, false) {
        assert!(pass.next <= pass.blocks);
    }
    if let Some(last) = state.last {
        let _ = last.counts.verdict();
    }
}

/// An answer of btrfs: items end within it, and what a chunk places lies in what was asked and in
/// the chunk.
pub fn btrfs(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first_chunk() else { return };
    let Some((start, rest)) = rest.split_first_chunk() else { return };
    let Some((length, buffer)) = rest.split_first_chunk() else { return };
    let start = u64::from_le_bytes(*start);
    let asked = start..start.saturating_add(u64::from_le_bytes(*length));
    let mut total = 0;
    for (offset, item) in Items::new(buffer, u32::from_le_bytes(*count)) {
        total += item.len() + 32;
        let _ = RootRef::parse(item);
        let Some(chunk) = Chunk::parse(offset, item) else { continue };
        for device in [0, 1, 2] {
            for (piece, mapped) in chunk.place(device, &asked) {
                assert!(asked.start <= piece.start && piece.start < piece.end);
                assert!(piece.end <= asked.end);
                if let btrfs::Mapped::At(logical) = mapped {
                    assert!(logical >= chunk.logical);
                }
            }
        }
    }
    assert!(total <= buffer.len());
}
