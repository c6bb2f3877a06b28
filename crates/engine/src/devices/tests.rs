//! A machine on virtual time: what the kernel sends, in any order and with losses, and what is told.

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
