//! A machine on virtual time: what the kernel sends, in any order and with losses, and what is told.

use proptest::prelude::*;
use record::line::EventId;

use super::*;

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(10_000 + millis)
}

fn target(kind: &str, params: &str, status: &str) -> MappedTarget {
    MappedTarget {
        start: 0,
        length: 4096,
        kind: kind.into(),
        params: params.as_bytes().to_vec(),
        status: status.as_bytes().to_vec(),
    }
}

fn mapped(minor: u32, name: &str, targets: Vec<MappedTarget>) -> Mapped {
    Mapped { device: (253, minor), name: name.into(), uuid: name.into(), targets }
}

fn verity(minor: u32, name: &str, options: &str) -> Mapped {
    let params = format!("1 7:1 7:0 4096 4096 300 1 sha256 {ROOT} - {options}");
    mapped(minor, name, vec![target("verity", &params, "V")])
}

fn id(serial: u32) -> EventId {
    EventId { millis: 1_795_298_401_916, serial }
}

/// A machine with its outputs.
struct Machine {
    devices: Devices,
    outputs: Vec<Output>,
    snapshot: Vec<Mapped>,
    now: u64,
    serial: u32,
}

impl Machine {
    fn new(snapshot: Vec<Mapped>) -> Machine {
        let mut machine =
            Machine { devices: Devices::new(), outputs: Vec::new(), snapshot, now: 0, serial: 0 };
        machine.look();
        machine
    }

    fn look(&mut self) {
        self.devices.handle_inventory(ms(self.now), self.snapshot.clone());
        self.drain();
    }

    /// Takes the outputs, and answers questions for an inventory.
    fn drain(&mut self) {
        while let Some(output) = self.devices.poll() {
            match output {
                Output::Inventory => {
                    self.devices.handle_inventory(ms(self.now), self.snapshot.clone());
                }
                other => self.outputs.push(other),
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(at) = self.devices.poll_timeout().filter(|at| *at <= ms(end)) {
            self.now = self.now.max(u64::try_from(at.saturating_sub(ms(0)).as_millis()).unwrap());
            self.devices.handle_timeout(ms(self.now));
            self.drain();
        }
        self.now = end;
        self.devices.handle_timeout(ms(self.now));
        self.drain();
    }

    fn audit(&mut self, bodies: &[&str]) -> EventId {
        self.serial += 1;
        let id = id(self.serial);
        let text: Vec<String> = bodies
            .iter()
            .map(|body| {
                let (kind, body) = body.split_once(' ').unwrap();
                format!("type={kind} msg=audit({id}): {body}")
            })
            .collect();
        let lines: Vec<Line<'_>> =
            text.iter().map(|line| Line::parse(line.as_bytes()).unwrap()).collect();
        self.devices.handle_event(ms(self.now), id, &lines);
        self.drain();
        id
    }

    fn kmsg(&mut self, text: &str) {
        let raw = format!("3,1,2,-;{text}\n");
        self.devices.handle_kmsg(ms(self.now), raw.as_bytes());
        self.drain();
    }

    fn uevent(&mut self, minor: u32, block: &str) {
        let key = format!("DM_VERITY_ERR_BLOCK_NR={block}\0");
        self.raw_uevent("change", minor, &key);
    }

    fn raw_uevent(&mut self, action: &str, minor: u32, key: &str) {
        let raw = format!(
            "{action}@/d\0ACTION={action}\0DEVPATH=/d\0SUBSYSTEM=block\0{key}MAJOR=253\0\
             MINOR={minor}\0DEVNAME=dm-{minor}\0"
        );
        self.devices.handle_uevent(ms(self.now), raw.as_bytes());
        self.drain();
    }

    /// What was said since the last call, one text each.
    fn said(&mut self) -> Vec<String> {
        let text = |records: &[Record]| {
            let texts = records
                .iter()
                .map(|(kind, body)| format!("{kind} {}", String::from_utf8_lossy(body.as_bytes())));
            texts.collect::<Vec<_>>().join(" | ")
        };
        let said = self.outputs.drain(..).map(|output| match output {
            Output::Inventory => "inventory".into(),
            Output::Record(own) => {
                format!(
                    "own {} {}: {}",
                    own.source.word(),
                    own.confidence.word(),
                    text(&own.records)
                )
            }
            Output::Beside(beside) => {
                let Beside { event, records, confidence } = beside;
                format!("beside {} {}: {}", event.serial, confidence.word(), text(&records))
            }
            Output::Explain { subject, .. } => format!("explain {subject:?}"),
        });
        said.collect()
    }
}

const PLACE: &str = "VT_PLACE dev=253:0 name=\"root\" role=data unit=4096 fault=mismatch \
                     blocks=10-10 bytes=40960-45055 stack=253:0,7:1";
const EXPLAIN: &str = "explain Bytes { mapped: (253, 0), bytes: 40960..45056 }";
const DATA: &str = "DM_EVENT module=verity op=verify-data dev=7:1 sector=10 res=0";
const LOG: &str = "device-mapper: verity: 7:1: data block 10 is corrupted";

#[test]
fn a_failure_that_all_sources_see_is_told_once_in_any_order() {
    for order in ["auk", "aku", "uak", "uka", "kau", "kua"] {
        for lag in [0, 100] {
            let mut machine = Machine::new(vec![verity(0, "root", "")]);
            machine.devices.handle_audit_state(ms(0), true);
            for source in order.chars() {
                match source {
                    'a' => _ = machine.audit(&[DATA]),
                    'u' => machine.uevent(0, "0,10"),
                    _ => machine.kmsg(LOG),
                }
                machine.pass(lag);
            }
            machine.pass(20_000);
            let beside = format!("beside 1 certain: {PLACE}");
            assert_eq!(machine.said(), [&beside, EXPLAIN], "{order} {lag}");
            let device = machine.devices.devices().next().unwrap();
            assert_eq!((device.violations, device.state), (1, State::Corrupted));
            assert!(device.place.is_some());
            assert_eq!(machine.devices.violations(), 1);
        }
    }
}

#[test]
fn without_auditing_the_other_sources_are_the_event() {
    for sources in ["uk", "ku", "u", "k"] {
        let mut machine = Machine::new(vec![verity(0, "root", "")]);
        for source in sources.chars() {
            match source {
                'u' => machine.uevent(0, "0,10"),
                _ => machine.kmsg(LOG),
            }
        }
        machine.pass(1_000);
        let source = if sources.contains('u') { "uevent" } else { "kmsg" };
        let own = format!("own {source} certain: {DATA} | {PLACE}");
        assert_eq!(machine.said(), [&own, EXPLAIN], "{sources}");
    }
}

#[test]
fn a_block_that_fails_again_is_told_again() {
    // Read three times: the log is limited, an audit record and a device event get lost.
    let mut machine = Machine::new(vec![verity(0, "root", "")]);
    machine.devices.handle_audit_state(ms(0), true);
    machine.kmsg(LOG);
    machine.uevent(0, "0,10");
    machine.audit(&[DATA]);
    machine.pass(1_000);
    machine.audit(&[DATA]);
    machine.pass(1_000);
    machine.uevent(0, "0,10");
    machine.pass(20_000);
    let said = machine.said();
    let beside = |serial| format!("beside {serial} certain: {PLACE}");
    let own = format!("own uevent certain: {DATA} | {PLACE}");
    assert_eq!(said, [&beside(1), EXPLAIN, &beside(2), EXPLAIN, &own, EXPLAIN]);
    assert_eq!(machine.devices.devices().next().unwrap().violations, 3);
}

#[test]
fn a_record_that_comes_after_its_failure_was_told_says_so() {
    let mut machine = Machine::new(vec![verity(0, "root", "")]);
    machine.devices.handle_audit_state(ms(0), true);
    machine.uevent(0, "0,10");
    machine.pass(3_000);
    machine.audit(&[DATA]);
    machine.pass(1);
    let own = format!("own uevent certain: {DATA} | {PLACE}");
    let beside = format!("beside 1 certain: {PLACE} told=before");
    assert_eq!(machine.said(), [&own, EXPLAIN, &beside]);
    assert_eq!(machine.devices.devices().next().unwrap().violations, 1);
    assert_eq!(machine.devices.violations(), 1);
}

#[test]
fn a_bad_hash_block_is_named_by_the_second_source() {
    let event = "DM_EVENT module=verity op=verify-metadata dev=7:1 sector=200 res=0";
    let log = "device-mapper: verity: 7:1: metadata block 3 is corrupted";
    for order in ["au", "ua", "ak", "ka", "uka"] {
        let mut machine = Machine::new(vec![verity(0, "root", "")]);
        machine.devices.handle_audit_state(ms(0), true);
        for source in order.chars() {
            match source {
                'a' => _ = machine.audit(&[event]),
                'u' => machine.uevent(0, "1,3"),
                _ => machine.kmsg(log),
            }
        }
        machine.pass(20_000);
        let beside = "beside 1 certain: VT_PLACE dev=253:0 name=\"root\" role=hash unit=4096 \
                      fault=mismatch blocks=3-3 bytes=12288-16383 covers=128-255 stack=253:0,7:1";
        let explain = "explain Bytes { mapped: (253, 0), bytes: 819200..823296 }";
        assert_eq!(machine.said(), [beside, explain], "{order}");
    }
    // Without one, what it vouched for; without an audit record, all that hangs below.
    let mut machine = Machine::new(vec![verity(0, "root", "")]);
    machine.audit(&[event]);
    machine.pass(20_000);
    assert_eq!(
        machine.said()[0],
        "beside 1 certain: VT_PLACE dev=253:0 name=\"root\" role=hash unit=4096 fault=mismatch \
         covers=200-200 stack=253:0,7:1"
    );
    let mut machine = Machine::new(vec![verity(0, "root", "")]);
    machine.kmsg(log);
    machine.pass(20_000);
    assert_eq!(
        machine.said(),
        [
            "own kmsg certain: DM_EVENT module=verity op=verify-metadata dev=7:1 sector=? res=0 | \
             VT_PLACE dev=253:0 name=\"root\" role=hash unit=4096 fault=mismatch blocks=3-3 \
             bytes=12288-16383 covers=128-255 stack=253:0,7:1",
            "explain Bytes { mapped: (253, 0), bytes: 524288..1048576 }"
        ]
    );
}

#[test]
fn two_bad_hash_blocks_do_not_borrow_each_others_names() {
    let mut machine = Machine::new(vec![verity(0, "root", "")]);
    machine.uevent(0, "1,4");
    machine.uevent(0, "1,2");
    machine.audit(&["DM_EVENT module=verity op=verify-metadata dev=7:1 sector=7 res=0"]);
    machine.audit(&["DM_EVENT module=verity op=verify-metadata dev=7:1 sector=299 res=0"]);
    machine.pass(20_000);
    let said = machine.said();
    assert!(said[0].starts_with("beside 1 ") && said[0].contains("blocks=2-2"), "{}", said[0]);
    assert!(said[2].starts_with("beside 2 ") && said[2].contains("blocks=4-4"), "{}", said[2]);
    assert_eq!(said.len(), 4);
}

#[test]
fn ignored_corruption_is_heard_by_the_other_sources_though_auditing_is_on() {
    let mut machine = Machine::new(vec![verity(0, "root", "1 ignore_corruption")]);
    machine.devices.handle_audit_state(ms(0), true);
    machine.uevent(0, "0,10");
    machine.pass(400);
    let own = format!("own uevent certain: {DATA} | {PLACE}");
    assert_eq!(machine.said(), [&own, EXPLAIN]);
}

#[test]
fn a_kernel_whose_verity_writes_no_records_is_found_out() {
    let mut machine = Machine::new(vec![verity(0, "root", "")]);
    machine.devices.handle_audit_state(ms(0), true);
    machine.uevent(0, "0,10");
    machine.pass(2_400);
    assert_eq!(machine.said().len(), 0, "a record may come");
    machine.pass(200);
    assert_eq!(machine.said().len(), 2);
    machine.uevent(0, "0,10");
    machine.pass(400);
    assert_eq!(machine.said().len(), 2, "and now none is waited for");
    // Or it is told.
    let mut machine = Machine::new(vec![verity(0, "root", "")]);
    machine.devices.handle_audit_state(ms(0), true);
    machine.devices.handle_release((6, 1));
    machine.uevent(0, "0,10");
    machine.pass(400);
    assert_eq!(machine.said().len(), 2);
}

#[test]
fn after_the_hundredth_the_silence_is_told_once() {
    let mut machine = Machine::new(vec![verity(0, "root", "")]);
    for block in 0..100 {
        machine.uevent(0, &format!("0,{block}"));
        machine.kmsg(&format!("device-mapper: verity: 7:1: data block {block} is corrupted"));
        if block == 99 {
            machine.kmsg("device-mapper: verity: 7:1: reached maximum errors");
        }
    }
    machine.pass(20_000);
    let said = machine.said();
    let data = said.iter().filter(|text| text.contains("op=verify-data")).count();
    let max: Vec<_> = said.iter().filter(|text| text.contains("max-corrupted-errors")).collect();
    let gaps: Vec<_> = said.iter().filter(|text| text.contains("VT_GAP")).collect();
    assert_eq!((data, machine.devices.violations()), (100, 100));
    assert_eq!(
        max,
        ["own kmsg certain: DM_EVENT module=verity op=max-corrupted-errors dev=253:0 sector=? \
          res=0 | VT_PLACE dev=253:0 name=\"root\" role=device stack=253:0,7:1"]
    );
    assert_eq!(
        gaps,
        ["own engine certain: VT_GAP source=uevent dev=253:0 name=\"root\" reason='of mismatches \
          after the 100th the kernel tells nothing here' count=unknown"]
    );
    // With records there is nothing to miss.
    let mut machine = Machine::new(vec![verity(0, "root", "")]);
    machine.devices.handle_audit_state(ms(0), true);
    for block in 0..100 {
        machine.uevent(0, &format!("0,{block}"));
        machine.audit(&[&DATA.replace("sector=10", &format!("sector={block}"))]);
    }
    machine.audit(&["DM_EVENT module=verity op=max-corrupted-errors dev=253:0 sector=? res=0"]);
    machine.kmsg("device-mapper: verity: 7:1: reached maximum errors");
    machine.pass(20_000);
    let said = machine.said();
    assert_eq!(said.iter().filter(|text| text.starts_with("beside")).count(), 101);
    assert_eq!(said.iter().filter(|text| text.starts_with("own")).count(), 0);
}

#[test]
fn two_verity_devices_on_one_data_device() {
    let mut machine = Machine::new(vec![verity(0, "root", ""), verity(1, "copy", "")]);
    machine.devices.handle_audit_state(ms(0), true);
    machine.audit(&[DATA]);
    machine.pass(1_000);
    let said = machine.said();
    assert!(said[0].starts_with("beside 1 ambiguous: VT_PLACE dev=253:0 "), "{}", said[0]);
    assert!(said[0].contains(" | VT_PLACE dev=253:1 name=\"copy\""), "{}", said[0]);
    assert_eq!(said.len(), 3, "both are explained");
    // A device event tells which.
    machine.audit(&[DATA]);
    machine.uevent(1, "0,10");
    machine.pass(1_000);
    let said = machine.said();
    assert!(
        said[0].starts_with("beside 2 certain: VT_PLACE dev=253:1 name=\"copy\""),
        "{}",
        said[0]
    );
    assert_eq!(said.len(), 2);
}

fn integrity(minor: u32, mismatches: u64) -> Mapped {
    let params = "7:5 0 4 J 3 block_size:512 internal_hash:crc32c journal_mac:hmac(sha256):00";
    mapped(minor, "data", vec![target("integrity", params, &format!("{mismatches} 2048 -"))])
}

fn crypt(dif: &str) -> Vec<Mapped> {
    let below = format!("{dif} 320 28 J 1 block_size:4096");
    let crypt = "capi:gcm(aes)-random :32:logon:x 0 253:0 0 2 integrity:28:aead sector_size:4096";
    vec![
        mapped(0, "C_dif", vec![target("integrity", &below, "0 336 -")]),
        mapped(1, "C", vec![target("crypt", crypt, "")]),
    ]
}

#[test]
fn integrity_and_crypt_name_what_they_name() {
    let mut machine = Machine::new(vec![integrity(0, 0)]);
    let event = "DM_EVENT module=integrity op=integrity-checksum dev=253:0 sector=2856 res=0";
    machine.audit(&[event]);
    machine.kmsg("device-mapper: integrity: dm-0: Checksum failed at sector 0xb28");
    machine.pass(20_000);
    assert_eq!(
        machine.said(),
        [
            "beside 1 certain: VT_PLACE dev=253:0 name=\"data\" role=data unit=512 fault=mismatch \
             blocks=2856-2856 bytes=1462272-1462783 stack=253:0,7:5",
            "explain Bytes { mapped: (253, 0), bytes: 1462272..1462784 }"
        ]
    );
    machine.audit(&["DM_EVENT module=integrity op=journal-checksum dev=253:0 sector=8 res=0"]);
    machine
        .audit(&["DM_EVENT module=integrity op=integrity-replay-journal dev=253:0 sector=? res=0"]);
    let mac = "DM_EVENT module=integrity op=mac-journal dev=253:0 sector=? res=0";
    machine.audit(&[mac, mac, mac, mac]);
    machine.kmsg("device-mapper: integrity: Error on journal mac: -84");
    machine.pass(20_000);
    let said = machine.said();
    let places = said.iter().filter(|text| text.starts_with("beside"));
    assert!(places.clone().all(|text| text.contains(" certain: VT_PLACE dev=253:0 name=\"data\"")));
    assert_eq!((places.count(), said.len()), (6, 7), "{said:#?}");

    // 6.12 names the device below, 6.1 the crypt device; the log has the same device as the record.
    for (dev, name) in [("253:0", "dm-0"), ("253:1", "dm-1")] {
        let mut machine = Machine::new(crypt("7:5"));
        machine.audit(&[&format!(
            "DM_EVENT module=crypt op=integrity-aead dev={dev} sector=184 res=0"
        )]);
        machine.kmsg(&format!("device-mapper: crypt: {name}: INTEGRITY AEAD ERROR, sector 184"));
        machine.pass(20_000);
        assert_eq!(
            machine.said(),
            [
                "beside 1 certain: VT_PLACE dev=253:1 name=\"C\" role=data unit=4096 fault=mismatch \
                 blocks=23-23 bytes=94208-98303 stack=253:1,253:0,7:5",
                "explain Bytes { mapped: (253, 1), bytes: 94208..98304 }"
            ],
            "{dev}"
        );
    }
}

#[test]
fn the_log_alone_tells_of_macs_without_a_device() {
    let mut machine = Machine::new(vec![integrity(0, 0), verity(1, "root", "")]);
    machine.kmsg("device-mapper: integrity: Error on journal mac: -84");
    machine.kmsg("device-mapper: integrity: Error on superblock mac: -84");
    machine.pass(20_000);
    let said = machine.said();
    assert!(said[0].contains("op=mac-journal dev=253:0 sector=? res=0 | VT_PLACE dev=253:0 name="));
    assert!(said[1].contains("op=mac-superblock"), "{}", said[1]);
}

const TASK: &str = "ppid=155 pid=177 auid=4294967295 uid=0 comm=\"veritysetup\"";

#[test]
fn activations_and_tear_downs() {
    let ctl = |module: &str, op: &str, dev: &str, error: &str| {
        let res = u8::from(error == "success");
        format!("DM_CTRL module={module} op={op} {TASK} dev={dev} error_msg='{error}' res={res}")
    };
    let mut machine = Machine::new(Vec::new());
    // Refused: ctr and dtr in one event.
    let refused = ctl("verity", "ctr", "253:0", "Invalid root digest");
    machine.audit(&[&refused, &ctl("verity", "dtr", "253:0", "success")]);
    assert_eq!(
        machine.said(),
        ["beside 1 certain: VT_DEVICE dev=253:0 state=activation-failed module=verity \
          reason='Invalid root digest'"]
    );
    // Made: named as soon as its table is there.
    machine.audit(&[&ctl("verity", "ctr", "253:0", "success")]);
    machine.pass(300);
    assert_eq!(machine.said().len(), 0);
    machine.snapshot = vec![verity(0, "root", "")];
    machine.pass(1_000);
    let facts = format!(
        "module=verity data_dev=7:1 hash_dev=7:0 data_blocks=300 unit=4096 algorithm=sha256 \
         root_hash={ROOT} on_corruption=eio"
    );
    assert_eq!(
        machine.said(),
        [format!(
            "beside 2 certain: VT_DEVICE dev=253:0 name=\"root\" uuid=\"root\" state=activated {facts}"
        )]
    );
    // A further table, then the swap: the old one is destroyed by a resume.
    machine.audit(&[&ctl("verity", "ctr", "253:0", "success")]);
    machine.audit(&[
        &ctl("verity", "dtr", "253:0", "success"),
        "SYSCALL arch=c000003e syscall=16 a1=c138fd06",
    ]);
    machine.pass(2_000);
    let said = machine.said();
    assert!(said[0].contains("beside 3 ") && said[0].contains("state=loaded"), "{said:#?}");
    assert!(said[1].contains("beside 4 ") && said[1].contains("state=reloaded"), "{said:#?}");
    // Gone: its name is still known, also where the device event was quicker.
    machine.raw_uevent("remove", 0, "");
    machine.snapshot = Vec::new();
    machine.audit(&[&ctl("verity", "dtr", "253:0", "success")]);
    machine.pass(2_000);
    let said = machine.said();
    let gone = "beside 5 certain: VT_DEVICE dev=253:0 name=\"root\" uuid=\"root\" state=removed";
    assert!(said[0].starts_with(gone), "{said:#?}");
    // The superblock's MAC: there will never be such a device.
    machine.kmsg("device-mapper: integrity: Error on superblock mac: -84");
    machine.audit(&[
        "DM_EVENT module=integrity op=mac-superblock dev=253:0 sector=? res=0",
        &ctl("integrity", "ctr", "253:0", "Error reading superblock"),
        &ctl("integrity", "dtr", "253:0", "success"),
    ]);
    machine.pass(20_000);
    assert_eq!(
        machine.said(),
        [
            "beside 6 certain: VT_DEVICE dev=253:0 state=activation-failed module=integrity \
             reason='Error reading superblock'",
            "beside 6 certain: VT_PLACE dev=253:0 reason='its activation failed'"
        ]
    );
}

#[test]
fn devices_that_come_and_go_are_told_of_where_no_audit_record_does() {
    let facts = format!(
        "module=verity data_dev=7:1 hash_dev=7:0 data_blocks=300 unit=4096 algorithm=sha256 \
         root_hash={ROOT} on_corruption=eio"
    );
    let of = |source: &str, minor: u32, name: &str, state: &str| {
        format!(
            "own {source} certain: VT_DEVICE dev=253:{minor} name=\"{name}\" uuid=\"{name}\" \
             state={state} {facts}"
        )
    };
    for auditing in [true, false] {
        let mut machine = Machine::new(vec![verity(0, "before", "")]);
        machine.devices.handle_audit_state(ms(0), auditing);
        // First without a table, as between `create` and `resume`.
        machine.snapshot.push(mapped(1, "v", Vec::new()));
        machine.look();
        machine.snapshot[1] = verity(1, "v", "");
        machine.look();
        machine.look();
        machine.raw_uevent("remove", 1, "");
        machine.snapshot.clear();
        machine.look();
        machine.pass(10_000);
        let told = [
            of("status", 1, "v", "activated"),
            of("uevent", 1, "v", "removed"),
            of("status", 0, "before", "removed"),
        ];
        assert_eq!(machine.said(), if auditing { Vec::new() } else { told.to_vec() });
    }
    // 6.1 audits, but its dm-verity does not.
    let mut machine = Machine::new(Vec::new());
    machine.devices.handle_audit_state(ms(0), true);
    machine.devices.handle_release((6, 1));
    machine.snapshot.push(verity(1, "v", ""));
    machine.look();
    assert_eq!(machine.said(), [of("status", 1, "v", "activated")]);
}

#[test]
fn a_device_that_nobody_knows_is_asked_for_and_then_said_to_be_unknown() {
    let mut machine = Machine::new(Vec::new());
    machine.audit(&[DATA]);
    machine.uevent(5, "0,10");
    machine.pass(900);
    assert_eq!(machine.said().len(), 0);
    machine.pass(20_000);
    let none = "reason='no mapped device that is known is meant'";
    assert_eq!(
        machine.said(),
        [
            format!("beside 1 unknown: VT_PLACE dev=7:1 {none}"),
            format!(
                "own uevent unknown: DM_EVENT module=verity op=verify-data dev=253:5 sector=10 \
                 res=0 | VT_PLACE dev=253:5 {none}"
            )
        ]
    );
    // One that comes a moment later is found.
    machine.audit(&[DATA]);
    machine.pass(300);
    machine.snapshot = vec![verity(0, "root", "")];
    machine.pass(1_000);
    assert_eq!(machine.said()[0], format!("beside 2 certain: {PLACE}"));
}

#[test]
fn a_device_that_went_is_remembered_for_a_minute_and_its_number_is_another_ones() {
    let mut machine = Machine::new(vec![verity(0, "root", "")]);
    machine.snapshot = Vec::new();
    machine.look();
    machine.audit(&[DATA]);
    machine.pass(1_000);
    assert_eq!(machine.said(), [format!("beside 1 inferred: {PLACE} state=gone")]);
    // Its number is used again, by a device over other data.
    machine.snapshot = vec![integrity(0, 0)];
    machine.look();
    let states: Vec<_> =
        machine.devices.devices().map(|one| (one.name.clone(), one.state)).collect();
    assert_eq!(states, [(b"data".to_vec(), State::Active), (b"root".to_vec(), State::Gone)]);
    machine.pass(70_000);
    machine.look();
    assert_eq!(machine.devices.devices().count(), 1);
    machine.audit(&[DATA]);
    machine.pass(2_000);
    assert!(machine.said()[0].starts_with("beside 2 unknown: "));
}

#[test]
fn a_status_that_no_event_explains_is_a_violation() {
    let with = |status: &str| {
        let mut one = verity(0, "root", "");
        one.targets[0].status = status.into();
        vec![one]
    };
    // Seen to become corrupted: told after a grace, once.
    let mut machine = Machine::new(with("V"));
    machine.snapshot = with("C");
    for _ in 0..5 {
        machine.pass(2_000);
        machine.look();
    }
    let own = "own status inferred: DM_EVENT module=verity op=verify-data dev=7:1 sector=? res=0 | \
               VT_DEVICE dev=253:0 name=\"root\" uuid=\"root\" state=corrupted module=verity";
    let said = machine.said();
    assert!(said.len() == 1 && said[0].starts_with(own), "{said:#?}");
    assert!(said[0].ends_with("reason='the status says so, and no event came'"));
    assert_eq!(machine.devices.violations(), 1);
    // The event comes after the status.
    let mut machine = Machine::new(with("V"));
    machine.snapshot = with("C");
    machine.look();
    machine.pass(1_000);
    machine.audit(&[DATA]);
    for _ in 0..5 {
        machine.pass(2_000);
        machine.look();
    }
    assert_eq!(machine.said().len(), 2, "the event and its explanation");
    // Corrupted before we came.
    let mut machine = Machine::new(with("C"));
    let said = machine.said();
    assert!(said[0].starts_with("own status late: DM_EVENT module=verity op=verify-data"));
    machine.pass(9_000);
    machine.look();
    assert_eq!(machine.said().len(), 0);
    // Back to V: another device under the same number and name; and that one goes bad as well.
    machine.snapshot = with("V");
    machine.look();
    assert_eq!(machine.devices.devices().next().unwrap().violations, 0);
    machine.snapshot = with("C");
    machine.look();
    machine.pass(9_000);
    machine.look();
    assert_eq!(machine.said().len(), 1);
}

#[test]
fn a_counter_that_rises_without_an_event() {
    let mut machine = Machine::new(vec![integrity(0, 2)]);
    let said = machine.said();
    assert!(said[0].contains("op=integrity-checksum dev=253:0 sector=? res=0"), "{said:#?}");
    assert!(said[0].contains("mismatches=2 before=0"));
    // One event may count for seventeen.
    machine.pass(10_000);
    machine.look();
    machine.audit(&["DM_EVENT module=integrity op=integrity-checksum dev=253:0 sector=8 res=0"]);
    machine.said();
    machine.snapshot = vec![integrity(0, 19)];
    for _ in 0..5 {
        machine.look();
        machine.pass(2_000);
    }
    assert_eq!(machine.said().len(), 0);
    machine.snapshot = vec![integrity(0, 20)];
    for _ in 0..5 {
        machine.look();
        machine.pass(2_000);
    }
    let said = machine.said();
    assert!(said.len() == 1 && said[0].contains("mismatches=20 before=19"), "{said:#?}");
}

#[test]
fn what_was_corrected_is_told_unless_it_was_not() {
    let fec = "8 use_fec_from_device 7:2 fec_blocks 303 fec_start 0 fec_roots 2";
    let log = |codeword: u64| {
        format!("device-mapper: verity-fec: 7:1: FEC {codeword}: corrected 8 errors")
    };
    let mut machine = Machine::new(vec![verity(0, "root", fec)]);
    machine.kmsg(&log(4096));
    machine.kmsg(&log(4096));
    machine.pass(2_000);
    assert_eq!(
        machine.said(),
        ["own kmsg certain: VT_FEC dev=253:0 name=\"root\" data_dev=7:1 fault=mismatch unit=4096 \
          first=1 step=2 errors=16 result=corrected"]
    );
    machine.kmsg(&log(0));
    machine.audit(&[DATA]);
    machine.pass(2_000);
    let said = machine.said();
    assert!(said.iter().all(|text| !text.contains("VT_FEC")), "{said:#?}");
}

#[test]
fn a_file_of_fs_verity() {
    let mut machine = Machine::new(Vec::new());
    machine.kmsg(
        "fs-verity (sda2, inode 12): FILE CORRUPTED! pos=4096, level=-1, want_hash=sha256:00, \
         real_hash=sha256:11",
    );
    assert_eq!(
        machine.said(),
        [
            "own kmsg certain: VT_FILE fs_name=\"sda2\" use=file inode=12 fault=mismatch \
             offset=4096 level=-1 expected=sha256:00 found=sha256:11",
            "explain Inode { fs: [115, 100, 97, 50], inode: 12 }"
        ]
    );
    assert_eq!(machine.devices.violations(), 1);
}

#[test]
fn losses_are_told_with_their_number() {
    let mut machine = Machine::new(vec![verity(0, "root", "")]);
    machine.kmsg("verity_handle_err: 90 callbacks suppressed");
    machine.kmsg("verity_handle_err: 7 callbacks suppressed");
    machine.pass(2_000);
    assert_eq!(
        machine.said(),
        [
            "own engine certain: VT_GAP source=kmsg reason='the kernel limits the rate of its lines' lost=97 count=exact",
        ]
    );
    // Where records tell the same, nothing was lost.
    machine.devices.handle_audit_state(ms(0), true);
    machine.audit(&[DATA]);
    machine.kmsg("verity_handle_err: 90 callbacks suppressed");
    machine.pass(2_000);
    assert_eq!(machine.said().len(), 2);
    assert_eq!(machine.devices.counters().spared_lines, 90);
    // But of a device whose mode has no records.
    machine.snapshot.push(verity(1, "lax", "1 ignore_corruption"));
    machine.look();
    machine.kmsg("verity_handle_err: 90 callbacks suppressed");
    machine.pass(2_000);
    assert_eq!(machine.said().len(), 1);
}

#[test]
fn what_the_machine_kept_over_its_restart() {
    let kept = "Panic#1 Part1\n<3>[   12.345678] device-mapper: verity: 7:1: data block 10 is corrupted\n\
                <12>[   12.4] device-mapper: verity: 7:1: data block 11 is corrupted\n\
                [   12.500000] device-mapper: verity: 7:1: data block 12 is corrupted\n\
                <0>[   12.600000] Kernel panic - not syncing: dm-verity device corrupted\n";
    let mut machine = Machine::new(Vec::new());
    machine.devices.handle_pstore(ms(0), kept.as_bytes());
    machine.drain();
    let identities = |machine: &Machine| {
        let own = machine.outputs.iter().filter_map(|output| match output {
            Output::Record(own) => own.identity,
            _ => None,
        });
        own.collect::<BTreeSet<_>>()
    };
    let first = identities(&machine);
    let before =
        "VT_PLACE reason='from before the last start of the machine' line=6465766963652D6D";
    let said = machine.said();
    assert_eq!((first.len(), said.len()), (3, 3));
    assert!(said[0].starts_with(&format!("own pstore late: {DATA} | {before}")), "{said:#?}");
    // A process may have written this one.
    assert!(said[1].starts_with("own pstore unknown: "), "{said:#?}");
    assert!(said[2].starts_with("own pstore late: VT_DEVICE state=panicked module=verity line="));
    let mut again = Machine::new(Vec::new());
    again.devices.handle_pstore(ms(9), kept.as_bytes());
    again.drain();
    assert_eq!(identities(&again), first, "the same after the next start");
}

#[test]
fn a_flood_is_told_whole() {
    let many = 20_000u64;
    let params = format!("1 7:1 7:0 4096 4096 {many} 1 sha256 {ROOT} -");
    let big = || vec![mapped(0, "root", vec![target("verity", &params, "V")])];
    let mut machine = Machine::new(big());
    machine.devices.handle_audit_state(ms(0), true);
    for block in 0..many {
        machine.audit(&[&DATA.replace("sector=10", &format!("sector={block}"))]);
        if block < 100 {
            machine.uevent(0, &format!("0,{block}"));
        }
    }
    machine.pass(20_000);
    let told = machine.said();
    assert_eq!(told.iter().filter(|text| text.starts_with("beside")).count(), 20_000);
    assert_eq!(told.iter().filter(|text| text.starts_with("own")).count(), 0);
    assert_eq!(machine.devices.devices().next().unwrap().violations, many);
    // The same block over and over, hash blocks, and a source that only the log has.
    let mut machine = Machine::new(big());
    for _ in 0..many {
        machine.audit(&[DATA]);
        machine.audit(&["DM_EVENT module=verity op=verify-metadata dev=7:1 sector=200 res=0"]);
    }
    machine.pass(20_000);
    let beside = machine.said().iter().filter(|text| text.starts_with("beside")).count();
    assert_eq!(beside, 40_000);
    let mut machine = Machine::new(big());
    for block in 0..many {
        machine.kmsg(&format!("device-mapper: verity: 7:1: data block {block} is corrupted"));
    }
    machine.pass(20_000);
    let own = machine.said().iter().filter(|text| text.starts_with("own kmsg")).count();
    assert_eq!(own, 20_000);
    // Nobody knows the device: nothing is dropped.
    let mut machine = Machine::new(Vec::new());
    for block in 0..many {
        machine.audit(&[&DATA.replace("sector=10", &format!("sector={block}"))]);
    }
    machine.pass(20_000);
    let beside = machine.said().iter().filter(|text| text.starts_with("beside")).count();
    assert_eq!(beside, 20_000);
}

#[test]
fn hostile_input_is_counted_and_nothing_else() {
    let mut machine = Machine::new(vec![verity(0, "root", "")]);
    let foreign = format!("11,1,2,-;{LOG}");
    machine.devices.handle_kmsg(ms(0), foreign.as_bytes());
    machine.devices.handle_kmsg(ms(0), b"\xff\xfe");
    machine.kmsg(&format!("somebody says {LOG}"));
    machine.kmsg(&format!("x\\x0a{LOG}"));
    machine.kmsg("device-mapper: verity: 7:1: data block 18446744073709551616 is corrupted");
    machine.uevent(0, "0,1,2");
    machine.audit(&["DM_EVENT module=verity op=verify-data dev=7:1 sector=x res=0"]);
    machine.audit(&["DM_CTRL module=verity op=ctr dev=253:0"]);
    machine.pass(20_000);
    assert_eq!(machine.said(), Vec::<String>::new());
    let counters = machine.devices.counters();
    let all = (counters.foreign_lines, counters.unreadable_lines, counters.unknown_records);
    assert_eq!(all, (1, 1, 2));
    // A block that the device does not have, and a name of odd bytes.
    machine.audit(&["DM_EVENT module=verity op=verify-data dev=7:1 sector=300 res=0"]);
    machine.pass(20_000);
    assert!(machine.said()[0].starts_with("beside 3 unknown"));
    machine.snapshot[0].name = b"a b\"\n\xff".to_vec();
    machine.look();
    machine.audit(&[DATA]);
    assert!(machine.said()[0].contains("name=612062220AFF "));
}

#[test]
fn more_devices_than_are_watched() {
    let linear = |minor| mapped(minor, "x", vec![target("linear", "7:1 0", "")]);
    let mut machine = Machine::new((0..5_000).map(linear).collect());
    machine.pass(2_000);
    assert_eq!(machine.devices.devices().count(), 4_096);
    assert_eq!(
        machine.said(),
        ["own engine certain: VT_GAP source=status reason='more mapped devices than are watched' \
          lost=904 count=exact"]
    );
}

#[test]
fn the_words_of_stock_kernels_are_understood() {
    let read = |captured: &'static [u8]| {
        let mut words = Vec::new();
        for raw in captured.split(|byte| *byte == b'\n').filter(|raw| !raw.is_empty()) {
            let record = kernel_log::Record::parse(raw).unwrap();
            if let Some(said) = Said::parse(&record.text) {
                assert!(record.is_kernels());
                words.push(format!("{said:?}"));
            } else if record.text.starts_with(b"audit: ") {
                let event = DmEvent::read(&[Line::parse(&record.text).unwrap()]);
                assert_eq!((event.unknown, event.found.len() + event.controlled.len()), (0, 1));
                words.extend(event.found.iter().map(|found| format!("{:?}", found.op)));
            }
        }
        words
    };
    let verity = [
        "Mismatch { data_device: (7, 0), block: Data(10) }",
        "Limit { data_device: (7, 0) }",
        "Mismatch { data_device: (7, 3), block: Hash(1) }",
        "Corrected { data_device: (7, 6), codeword: 0, errors: 8 }",
    ];
    let sector = "Sector { op: IntegrityChecksum, device: Dm(0), sector: 4560 }";
    let (old, new) = (
        include_bytes!("../../../../tests/golden/kernel/kmsg-6.1.txt"),
        include_bytes!("../../../../tests/golden/kernel/kmsg-6.12.txt"),
    );
    let mut words = read(old);
    words.retain(|word| !word.starts_with("Suppressed"));
    let [data, limit, hash, corrected] = verity;
    assert_eq!(words, [data, limit, hash, corrected, sector, "IntegrityChecksum"]);
    let mut words = read(new);
    words.retain(|word| !word.starts_with("Suppressed"));
    assert_eq!(
        words,
        [
            data,
            "VerifyData",
            limit,
            "MaxCorruptedErrors",
            hash,
            "VerifyMetadata",
            corrected,
            sector,
            "IntegrityChecksum"
        ]
    );
    // The limit of the log's rate was met on both.
    assert!(read(old).len() > 6 && read(new).len() > 9);
}

proptest! {
    /// Whatever is lost and in whatever order: as many failures as the source that saw most of them,
    /// and an event of ours for those only that have no record.
    #[test]
    fn a_failure_is_told_once(seen in prop::collection::vec((0u8..3, 0u64..4, 0u64..4), 0..60)) {
        let mut machine = Machine::new(vec![verity(0, "root", "")]);
        machine.devices.handle_audit_state(ms(0), true);
        let mut counts = BTreeMap::<u64, [usize; 3]>::new();
        for (witness, block, lag) in seen {
            machine.pass(lag);
            match witness {
                0 => _ = machine.audit(&[&DATA.replace("=10", &format!("={block}"))]),
                1 => machine.uevent(0, &format!("0,{block}")),
                _ => machine.kmsg(&LOG.replace("10", &block.to_string())),
            }
            counts.entry(block).or_default()[usize::from(witness)] += 1;
        }
        machine.pass(20_000);
        let said = machine.said();
        for (block, counts) in counts {
            let at = format!("blocks={block}-{block} ");
            let told = |head: &str| {
                said.iter().filter(|text| text.starts_with(head) && text.contains(&at)).count()
            };
            prop_assert_eq!(told("beside"), counts[0]);
            prop_assert_eq!(told("own") + told("beside"), counts.into_iter().max().unwrap_or(0));
        }
    }
}
