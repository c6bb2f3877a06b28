//! Bytes to begin with, made by our own writers.

use std::path::Path;
use std::sync::OnceLock;

use block::verity::{BlockSize, HashName, HashType, Params, Salt, Superblock};
use policy::audit::Change;
use record::dispatch::{self, Dropped, HEADER, LONGEST};
use record::units::LeafIndex;
use signature::{Certificate, Keyring, Message};
use trail::door::{Frame, pack};
use trail::{
    Class, Disk, Entry, Field, Lines, Origin, Own, Reader, SecretKey, Stamp, Ticket, Writer,
    create, layout, prove,
};

/// A log with one line of each kind that the parsers tell apart.
const LOG: &[u8] = b"type=SYSCALL msg=audit(1795300925.156:791): arch=c000003e syscall=59 success=yes exit=0 a0=55 a1=7f a2=0 a3=8 items=2 ppid=1 pid=2 auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=3 comm=\"echo\" exe=\"/bin/echo\" key=(null)\x1dARCH=x86_64 SYSCALL=execve AUID=\"alice\" UID=\"root\"
type=EXECVE msg=audit(1795300925.156:791): argc=3 a0=\"/bin/echo\" a1=\"one\" a2=74776F207468726565
node=h1 type=UNKNOWN[1339] msg=audit(1795298401.916:8): module=verity op=verify-data dev=7:1 sector=10 res=0\r
audit: type=1338 audit(1795300832.471:4): module=verity op=ctr ppid=158 pid=165 auid=4294967295 uid=0 error_msg='Invalid root digest' res=0
type=1807 audit(1795301114.838:41): action=audit func=BPRM_CHECK fowner>5 UNKNOWN=tok res=0
type=USER msg=audit(1795300925.156:790): pid=1 uid=0 auid=4294967295 ses=1 msg='text=hello \"user\" exe=\"/usr/sbin/auditctl\" hostname=? res=success'
type=SOCKADDR msg=audit(1795301342.240:819): saddr=010000616273
type=CONTAINER_ID msg=audit(1795301342.240:820): record=1 contid=4,^2,^1,9
type=PROCTITLE msg=audit(1795300925.156:791): proctitle=2F62696E2F6563686F006F6E65
type=UNKNOWN[1337] msg=audit(1630425112.119:194): module=integrity op=integrity-checksum dev=254:3 sector=77480 subj==unconfined res=0
not a record";

/// As they are written, filtered for and listed.
const CONTIDS: &[&[u8]] = &[
    b"123456\n",
    b"+18446744073709551615",
    b"-0x7f",
    b"-1",
    b"unset",
    b"123452,123451",
    b"4,^2,^1",
    b"2,^1,3,^1",
    b"4^2^1,18446744073709551615,^18446744073709551614,^18446744073709551613,^7",
];

/// `/proc/PID/cgroup` of a container of docker, of podman and of systemd-nspawn, and of the host's.
const CONTROL_GROUPS: &[&[u8]] = &[
    b"9:name=systemd:/docker/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n0::/init.scope\n",
    b"0::/machine.slice/libpod-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.scope/container\n",
    b"0::/machine.slice/systemd-nspawn@my\\x2dbox.service/payload/init.scope\n",
    b"4:cpu,cpuacct:/a:b\n0::/user.slice/user-1000.slice/session-1.scope\n",
];

/// The seeds of a target.
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "lines" | "interpret" | "stored" => {
            let mut seeds: Vec<Vec<u8>> = LOG.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            seeds.push(LOG.to_vec());
            seeds.extend(trail().leaves.iter().cloned());
            seeds
        }
        "superblock" => superblocks(),
        "fec" => parities(),
        "note" => {
            let text = String::from_utf8_lossy(&trail().note).into_owned();
            let line = trail::anchors::to_line(&text).unwrap_or_default().into_bytes();
            vec![trail().note.clone(), key().public().to_text().into_bytes(), line]
        }
        "proof" => trail().proofs.clone(),
        "frame" => frames(),
        "entry" => vec![entry()],
        "leaf" => trail().leaves.clone(),
        "mountinfo" => vec![MOUNTINFO.to_vec()],
        "btrfs" => vec![chunks()],
        "kernel_texts" => KERNEL_TEXTS.iter().map(|text| text.to_vec()).collect(),
        "devices" => vec![MACHINE.to_vec()],
        "scrub" => SCRUBS.iter().map(|text| text.to_vec()).collect(),
        "process" => vec![STAT.to_vec(), STATUS.to_vec()],
        "netlink" => answers(),
        "dispatch" => dispatched(),
        "rule" => rules(),
        "config" => vec![CONFIG.as_bytes().to_vec()],
        "evaluate" => vec![EVALUATED.to_vec()],
        "bpf" => bpf_events(),
        "control_group" => CONTROL_GROUPS.iter().map(|text| text.to_vec()).collect(),
        "contid" => CONTIDS.iter().map(|text| text.to_vec()).collect(),
        "clock" => vec![CLOCK.to_vec()],
        "table" => TABLES.iter().map(|table| table.as_bytes().to_vec()).collect(),
        "device_mapper" => device_mapper_answers(),
        "signature" => SIGNATURES.iter().map(|bytes| bytes.to_vec()).collect(),
        "certificate" => CERTIFICATES
            .iter()
            .map(|bytes| bytes.to_vec())
            .chain(keyring().certificates().iter().map(|one| one.as_der().to_vec()))
            .chain([KEY.to_vec()])
            .collect(),
        _ => Vec::new(),
    }
}

/// One of each kind, as the ring has them.
fn bpf_events() -> Vec<Vec<u8>> {
    let event = |kind: u32, detail: u32, behind: &[u8]| {
        let mut bytes = [kind, detail].map(u32::to_le_bytes).concat();
        bytes.extend([100_u64, 90, 80, 70, 60, 50].map(u64::to_le_bytes).concat());
        bytes.extend(
            [12, 12, 1, 0, 1000, 3, 4_026_531_837, 4_026_531_841, 4_026_531_836, 4_026_531_840_u32]
                .map(u32::to_le_bytes)
                .concat(),
        );
        bytes.extend(b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes.extend(behind);
        bytes
    };
    let stamp = [&b"audit(1795301006.620:803): "[..], &[0; 21]].concat();
    vec![
        event(1, 0, b""),
        event(2, 7, b"/bin/sh\0"),
        event(3, 256, b""),
        event(4, 1, b""),
        event(9, 0, &stamp),
        event(12, 9, b"\x04\0\0\0\0\0\0\0/docker/1"),
    ]
}

/// The root hash that the first of the golden signatures is over.
pub const ROOT_HASH: &[u8] = b"a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";

const KERNEL_TEXTS: [&[u8]; 5] = [
    b"change@/devices/virtual/block/dm-0\0ACTION=change\0SUBSYSTEM=block\0DM_VERITY_ERR_BLOCK_NR=0,10\0MAJOR=253\0MINOR=0\0DEVNAME=dm-0\0",
    b"3,1234,5678901,-;device-mapper: verity: 7:1: data block 10 is corrupted\n SUBSYSTEM=block\n",
    b"3,1,2,c;fs-verity (sda2, inode 12): FILE CORRUPTED! pos=4096, level=-1, want_hash=sha256:00, real_hash=sha256:11",
    b"<3>[   12.345678][    T7] device-mapper: integrity: dm-0: Checksum failed at sector 0x180",
    b"verity 1 7:1 7:0 4096 4096 300 1 sha256 a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15 - 1 ignore_corruption
integrity 7:5 320 28 J 7 block_size:4096 internal_hash:crc32c
crypt capi:gcm(aes)-random :32:logon:x 0 253:0 0 2 integrity:28:aead sector_size:4096",
];

const CLOCK: &[u8] = b"D
A
r1700000000000000000 40 0 10000
s5000000000 25 1700000005000000000
aSYSCALL msg=audit(1700000000.000:1): arch=c000003e syscall=227 pid=77|TIME_INJOFFSET msg=audit(1700000000.000:1): sec=5 nsec=20
t100000000
c2 65536
c256 1 -3
aTIME_ADJNTPVAL msg=audit(1700000000.000:2): op=freq old=0 new=4294967296000|SYSCALL msg=audit(1700000000.000:2): arch=c000003e syscall=159 pid=77
r1700000005000000000 40 65536 10000
h
t600000000
h
s-1 0 1
t11000000000
d
aTIME_INJOFFSET msg=audit(1700000000.000:3): sec=-1 nsec=999999999|SYSCALL msg=audit(1700000000.000:3): arch=40000003 syscall=25 pid=78
r1700000000000000000 9 0 10001
O
s7 1 2
t300000000
r1700000009000000000 9 5 9999";

const MACHINE: &[u8] = b"iverity 1 7:1 7:0 4096 4096 300 1 sha256 a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15 -
x
k3,1,2,-;device-mapper: verity: 7:1: data block 10 is corrupted
uchange@/d|ACTION=change|SUBSYSTEM=block|DM_VERITY_ERR_BLOCK_NR=1,3|MAJOR=253|MINOR=0|DEVNAME=dm-0|
atype=DM_EVENT msg=audit(1.000:8): module=verity op=verify-data dev=7:1 sector=10 res=0
tzzzz
atype=DM_EVENT msg=audit(1.000:9): module=verity op=verify-metadata dev=7:1 sector=200 res=0
iintegrity 7:5 0 4 J 1 internal_hash:crc32c
k3,1,2,-;device-mapper: integrity: dm-1: Checksum failed at sector 0x180
k3,1,2,-;verity_handle_err: 90 callbacks suppressed
atype=DM_CTRL msg=audit(1.000:10): module=verity op=ctr pid=1 dev=253:0 error_msg='Invalid root digest' res=0
uremove@/d|ACTION=remove|SUBSYSTEM=block|MAJOR=253|MINOR=0|DEVNAME=dm-0|
atype=DM_EVENT msg=audit(1.000:11): module=verity op=max-corrupted-errors dev=253:0 sector=? res=0
p<3>[   12.345678] device-mapper: verity: 7:1: metadata block 3 is corrupted";

const SIGNATURES: [&[u8]; 8] = [
    include_bytes!("../../tests/golden/devices/v-sha256.p7s"),
    include_bytes!("../../tests/golden/signed/cms.p7b"),
    include_bytes!("../../tests/golden/signed/v100.p7b"),
    include_bytes!("../../tests/golden/signed/other.p7b"),
    include_bytes!("../../tests/golden/signed/detached.p7b"),
    include_bytes!("../../tests/golden/signed/withattrs.p7b"),
    include_bytes!("../../tests/golden/signed/wrongkey.p7b"),
    include_bytes!("../../tests/golden/signed/m4097.sha512.sig"),
];

const CERTIFICATES: [&[u8]; 3] = [
    include_bytes!("../../tests/golden/devices/v-sha256.p7s.cert.pem"),
    include_bytes!("../../tests/golden/signed/trusted.crt"),
    include_bytes!("../../tests/golden/signed/other.crt"),
];

/// A private key of nobody's, on P-256.
const KEY: &[u8] = b"-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIClUBi0/D+ExjRyjjlb4EjzQZ6zKDO8z0Wq3d7SIb+K4oAoGCCqGSM49
AwEHoUQDQgAE5Voy4jd7VJR8lhBTFbAkydKu5UgJYYM5AztuWLdWiNd+08qmofsl
Wn3AgVFUbdNHpdRlcGtXxJxg+zKxAFihkw==
-----END EC PRIVATE KEY-----
";

/// Tables of dm-verity, as `dmsetup table` shows them.
const TABLES: [&str; 2] = [
    "1 7:0 7:1 4096 4096 64 1 sha256 a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15 -",
    "0 7:0 7:0 1024 512 256 8 sha1 d48390c62074ad16085bf641e861938efa17581f aabb 13 panic_on_corruption \
     ignore_zero_blocks check_at_most_once use_fec_from_device 7:2 fec_blocks 65 fec_start 0 fec_roots 2 \
     root_hash_sig_key_desc cryptsetup:v",
];

/// Answers about two devices (`linux/dm-ioctl.h`): the list of them, and the status of one.
fn device_mapper_answers() -> Vec<Vec<u8>> {
    let answer = |count: u32, data: &[u8]| {
        let mut bytes = vec![0; 312];
        let size = u32::try_from(312 + data.len()).expect("a short answer");
        for (at, number) in [(0, 4), (4, 48), (12, size), (16, 312), (20, count), (40, 0xfe00)] {
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        bytes[48..52].copy_from_slice(b"root");
        bytes.extend_from_slice(data);
        bytes
    };
    let device = |number: u64, next: u32, name: &[u8; 12]| {
        [&number.to_le_bytes()[..], &next.to_le_bytes(), name].concat()
    };
    let list =
        [device(0xfe00, 24, b"root\0\0\0\0\x05\0\0\0"), device(0xfe01, 0, b"C_dif\0\0\0\0\0\0\0")];
    let target = |next: u32, kind: &[u8; 16], params: &[u8; 8]| {
        let (start, length) = (0_u64.to_le_bytes(), 512_u64.to_le_bytes());
        [&start[..], &length, &[0; 4], &next.to_le_bytes(), kind, params].concat()
    };
    let status = [
        target(48, b"verity\0\0\0\0\0\0\0\0\0\0", b"V\0\0\0\0\0\0\0"),
        target(96, b"integrity\0\0\0\0\0\0\0", b"0 512 -\0"),
    ];
    // struct dm_target_versions.
    let versions =
        [&28_u32.to_le_bytes()[..], &[1, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0], b"verity\0\0"];
    vec![
        answer(0, &list.concat()),
        answer(2, &status.concat()),
        answer(0, &[&versions.concat()[..], &[0; 24]].concat()),
    ]
}

/// The golden certificates, trusted.
pub fn keyring() -> &'static Keyring {
    static KEYRING: OnceLock<Keyring> = OnceLock::new();
    KEYRING.get_or_init(|| {
        let mut keyring = Keyring::new();
        for file in CERTIFICATES {
            for certificate in Certificate::from_file(file).expect("a golden certificate") {
                keyring.add(certificate).expect("a keyring has room for three");
            }
        }
        keyring
    })
}

/// What the golden certificates signed.
pub fn signed_contents() -> &'static [&'static [u8]] {
    static CONTENTS: OnceLock<Vec<&'static [u8]>> = OnceLock::new();
    CONTENTS.get_or_init(|| {
        let messages = SIGNATURES.iter().filter_map(|bytes| Message::parse(bytes).ok());
        messages.filter_map(|message| message.content()).chain([ROOT_HASH]).collect()
    })
}

/// The key that signed the seeds.
#[must_use]
pub fn key() -> &'static SecretKey {
    &trail().key
}

/// The leaves there are proofs of, with their places.
#[must_use]
pub fn proven() -> Vec<(u64, Vec<u8>)> {
    (0..).zip(trail().leaves.iter().cloned()).collect()
}

/// A small image with good parity, one block of it broken, and some numbers that are too large.
fn parities() -> Vec<Vec<u8>> {
    let seed = |head: [u8; 3], numbers: [u64; 4], devices: &[u8]| {
        let numbers = numbers.map(u64::to_le_bytes);
        [&head[..], numbers.as_flattened(), devices].concat()
    };
    let devices = |data: u8| [[data; 512], [0; 512], [0; 512]].concat();
    vec![
        // Zeros are a codeword, of any roots.
        seed([2, 0, 1], [1, 0, 0, 0], &devices(0)),
        seed([2, 0, 1], [1, 0, 0, 0], &devices(4)),
        seed([7, 3, 0], [300, 512, 1 << 20, 299], &devices(4)),
        seed([24, 10, 2], [1 << 40, 0, 1 << 60, 5], &[]),
        seed([2, 0, 0], [u64::MAX >> 10, u64::MAX << 9, u64::MAX, u64::MAX], &[]),
    ]
}

fn superblocks() -> Vec<Vec<u8>> {
    let algorithms = ["sha256", "sha1", "sha512"];
    algorithms
        .into_iter()
        .filter_map(|name| {
            let params = Params {
                hash_type: HashType::Normal,
                hash: HashName::parse(name).ok()?,
                data_block_size: BlockSize::DEFAULT,
                hash_block_size: BlockSize::DEFAULT,
                data_blocks: 64,
                salt: Salt::new(b"\x01\x02").ok()?,
            };
            Some(Superblock { uuid: uuid::Uuid::from_u128(7), params }.to_bytes().to_vec())
        })
        .collect()
}

fn entry() -> Vec<u8> {
    let lines: Vec<&[u8]> = LOG.split(|b| *b == b'\n').take(2).collect();
    let entry = Entry {
        class: Class::Rest,
        ticket: None,
        lines: Lines::Foreign { origin: Origin::File, lines: &lines },
        tail: &[Field { name: "VT_SRC", value: "import" }],
    };
    pack(&entry).unwrap_or_default()
}

fn frames() -> Vec<Vec<u8>> {
    let frames = [
        Frame::Hello { version: 1, client: 9 },
        Frame::Entry { seq: 1, class: Class::Integrity, packed: entry() },
        Frame::Checkpoint,
        Frame::Welcome { version: 1 },
        Frame::Durable { seq: 3 },
    ];
    let bytes = |frame: &Frame| {
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        bytes.split_off(4)
    };
    frames.iter().map(bytes).collect()
}

/// A small trail and what it gives away.
struct Trail {
    key: SecretKey,
    note: Vec<u8>,
    leaves: Vec<Vec<u8>>,
    proofs: Vec<Vec<u8>>,
}

fn trail() -> &'static Trail {
    static TRAIL: OnceLock<Trail> = OnceLock::new();
    TRAIL.get_or_init(|| make().expect("a temporary folder holds a small trail"))
}

fn make() -> Result<Trail, trail::Error> {
    let folder = std::env::temp_dir().join(format!("veritrail-seeds-{}", std::process::id()));
    let io = |_| trail::Error::NoTrail;
    std::fs::create_dir_all(&folder).map_err(io)?;
    let made = fill(&folder);
    // Whatever became of it, nothing is left behind.
    let _ = std::fs::remove_dir_all(&folder);
    made
}

fn fill(folder: &Path) -> Result<Trail, trail::Error> {
    let now = Stamp { boottime_ns: 5, realtime_ns: 1_795_310_000_000_000_000 };
    create(&Disk::new(folder), "fuzz")?;
    let (mut writer, _) = Writer::open(Disk::new(folder), "boot", now)?;
    for (seq, line) in (1..).zip(LOG.split(|b| *b == b'\n')) {
        let lines = [line];
        let own = [Own { kind: "VT_PLACE", body: b"role=data" }];
        let lines = if seq % 3 == 0 {
            Lines::Own(&own)
        } else {
            Lines::Foreign { origin: Origin::Netlink, lines: &lines }
        };
        let ticket = Some(Ticket { client: "seeds", seq });
        writer.append(&Entry { class: Class::Rest, ticket, lines, tail: &[] }, now)?;
    }
    let size = writer.next_leaf().0;
    let note = writer.close(now)?.into_bytes();
    let store = Disk::new(folder);
    let proofs =
        (0..size).map(|index| prove(&store, LeafIndex(index))).collect::<Result<Vec<_>, _>>()?;
    let mut leaves = Vec::new();
    let mut reader = Reader::open(store, LeafIndex(0))?;
    while let Some(leaf) = reader.next()? {
        leaves.push(leaf.bytes.to_vec());
    }
    let text =
        std::fs::read_to_string(folder.join(layout::KEY)).map_err(|_| trail::Error::NoTrail)?;
    let key = SecretKey::parse(&text).map_err(|_| trail::Error::NoTrail)?;
    Ok(Trail { key, note, leaves, proofs })
}

/// Mounts as Linux 6.18 writes them: with and without tags, with escaped names.
const MOUNTINFO: &[u8] = br"24 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw,discard
31 24 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:7 master:3 - tmpfs tmpfs ro,mode=755
42 24 0:44 / /run/veritrail/devices/a\040b ro,nosuid,nodev - fuse.veritrail veritrail ro,user_id=0
43 24 7:0 /\134x /mnt/\011\012 ro - squashfs /dev/loop0 ro
";

/// A process and a thread of the kernel, with a name meant to mislead.
const STAT: &[u8] =
    b"1205 (a) S 1 (b) R 1204 1205 1204 34817 1205 4194304 120 0 0 0 1 2 0 0 20 0 1 0 8456\
 5853184 225 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n";

const STATUS: &[u8] = b"Name:\tcat\\nUid:\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t1205\nNgid:\t0\n\
Pid:\t1206\nPPid:\t1204\nTracerPid:\t0\nUid:\t0\t1000\t0\t1000\nGid:\t0\t100\t0\t100\nGroups:\t0 \n";

/// A configuration with a value of each kind.
const CONFIG: &str = "# all\n[agent]\nwords = [\"a\", \"\"]\nnumber = 10\n[agent.table]\ncommand = []\n[agnet]\nx = 1\n";
/// Rules of each list, and an event and a message that they are asked about.
const EVALUATED: &[u8] = b"-w /etc/passwd -p wa -k pw
-a never,exit -F arch=b64 -S openat,open -F exit=-EACCES -F a2&1 -C uid!=euid
-a always,exit -F dir=/etc -F perm=rwxa -F obj_uid=0 -F filetype=file -F exe!=/bin/true
-a always,exit -F inode!=5 -F contid>=7 -F gid=0 -F saddr_fam=2
-a never,user -F msgtype>=1100 -F auid=unset
-a always,exclude -F msgtype=PROCTITLE
-D -k x

type=SYSCALL msg=audit(1.000:2): arch=c000003e syscall=257 success=no exit=-13 a0=ffffff9c a1=7f a2=1 a3=0 items=1 \
ppid=1 pid=77 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 ses=1 exe=\"/bin/cat\" key=(null)
type=CWD msg=audit(1.000:2): cwd=\"/\"
type=PATH msg=audit(1.000:2): item=0 name=\"etc/passwd\" inode=4711 dev=fe:00 mode=0100644 ouid=0 ogid=0 rdev=00:00
type=SOCKADDR msg=audit(1.000:2): saddr=0200003500000000
type=USER_CMD msg=audit(1.000:3): pid=7 uid=0 auid=4294967295 ses=1 msg='x'";

/// A rule of each kind in auditctl's words, and as the kernel takes it.
fn rules() -> Vec<Vec<u8>> {
    let lines = [
        "-a always,exit -F arch=b64 -S openat,59 -F auid>=1000 -F auid!=unset -F exit=-EACCES -k k",
        "-w /etc/passwd -p wa -k one -k two",
        "-a never,exclude -F msgtype=PROCTITLE",
        "-A always,exit -S all -F a1&=0x10 -C uid!=euid -F filetype=dir -F perm=rw",
        r"-a always,exit -F dir=/a\ b\x0a -F exe!=/bin/true",
        "-a never,filesystem -F fstype=tracefs",
    ];
    let parsed = lines.iter().filter_map(|line| Change::parse(line, &crate::Anywhere).ok());
    let wire = parsed.map(|change| change.rule().to_wire());
    wire.chain(lines.iter().map(|line| line.as_bytes().to_vec())).collect()
}

/// The forms in which auditd hands records on, and what a plugin of ours makes of them.
fn dispatched() -> Vec<Vec<u8>> {
    let mut text = LOG.split(|b| *b == b'\n').take(8).collect::<Vec<_>>().join(&b'\n');
    text.push(b'\n');
    let mut reader = dispatch::Reader::new(dispatch::Writer::Auditd, vec![]);
    reader.push(&text);
    let mut relayed = Vec::new();
    while let Ok(Some(dispatch::Message::Record(record))) = reader.next() {
        record.push_to(&mut relayed);
    }
    let span = [record::Stamp { millis: 1 }, record::Stamp { millis: 2 }];
    Dropped { records: 3, span }.push_to(&mut relayed);
    let kernel = b"audit(1795298401.916:8): module=verity op=verify-data dev=7:1 sector=10 res=0";
    let size = u32::try_from(kernel.len()).unwrap_or(0);
    let header = [0, 16, 1339, size].map(u32::to_le_bytes).concat();
    let packed = [&header, &kernel[..]].concat();
    let mut padded = packed.clone();
    padded.resize(HEADER + LONGEST, b'y');
    vec![text, relayed, packed, padded]
}

/// An acknowledgement, a status, two rules and the end of their list, as Linux 6.18 on x86-64
/// sends them; alone and in one datagram.
fn answers() -> Vec<Vec<u8>> {
    let message = |kind: u16, flags: u16, payload: &[u8]| {
        let length = u32::try_from(16 + payload.len()).unwrap_or(0);
        let header = [length.to_le_bytes(), [0; 4], 7_u32.to_le_bytes(), [0; 4]].concat();
        let mut bytes = [&header, payload].concat();
        bytes[4..6].copy_from_slice(&kind.to_le_bytes());
        bytes[6..8].copy_from_slice(&flags.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let status: Vec<u8> = [0, 1, 1, 812, 0, 8192, 3, 0, 0x7f, 15000, 0_u32]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    let rule = [&[0; 1040][..], b"/etc/passwdthe-key"].concat();
    let mut seeds = vec![
        message(2, 0x100, &[0; 20]),
        message(2, 0, &[0xff; 40]),
        message(1000, 0, &status),
        message(1013, 2, &[0; 1040]),
        message(1013, 2, &rule),
        message(3, 2, &[]),
    ];
    seeds.push(seeds.concat());
    seeds
}

/// States of checks: one that was stopped, one that came to its end.
const SCRUBS: [&[u8]; 2] = [
    br#"{"version":1,"subject":{"name":"root","module":"verity","backend":"kernel"},"identity":{"image":"root=a8f5","size":40960,"live":{"boot":"0e4f","device":[254,0],"diskseq":9}},"pass":{"started":1795300832,"updated":1795300900,"pid":77,"next":6,"blocks":10,"unit":4096,"bytes":40000,"milliseconds":5000,"access":"direct","counts":{"good":3,"bad":1,"correctable":0,"unreadable":0,"unverifiable":2,"unreachable":0,"bad_hash":1,"correctable_hash":0,"unreadable_hash":0},"ended":"stopped"}}"#,
    br#"{"version":1,"subject":{"name":"/srv/a","module":"verity","backend":"image"},"identity":{"image":"root=a8f5","size":8192,"inode":12},"last":{"started":1,"finished":2,"blocks":2,"unit":4096,"bytes":8192,"milliseconds":1,"access":"buffered","counts":{"good":2,"bad":0,"correctable":0,"unreadable":0,"unverifiable":0,"unreachable":0,"bad_hash":0,"correctable_hash":0,"unreadable_hash":0}}}"#,
];

/// Two chunks and the place of a subvolume, as TREE_SEARCH_V2 lays them out, behind the question.
fn chunks() -> Vec<u8> {
    let mut answer = 3u32.to_le_bytes().to_vec();
    answer.extend([1u64 << 20, 1 << 20].map(u64::to_le_bytes).concat());
    let chunk = |kind: u64, stripes: &[(u64, u64)]| {
        let mut item = [1u64 << 20, 2, 65536, kind].map(u64::to_le_bytes).concat();
        item.extend([0; 12]);
        item.extend(u16::try_from(stripes.len()).unwrap_or(0).to_le_bytes());
        item.extend([0; 2]);
        for (device, offset) in stripes {
            item.extend([*device, *offset, 0, 0].map(u64::to_le_bytes).concat());
        }
        item
    };
    let subvolume = [&256u64.to_le_bytes()[..], &[0; 8], &3u16.to_le_bytes(), b"sub"].concat();
    let items = [chunk(1, &[(1, 1 << 20)]), chunk(1 << 3 | 1, &[(1, 1 << 20), (2, 0)]), subvolume];
    for item in items {
        answer.extend([1u64, 256, 1 << 30].map(u64::to_le_bytes).concat());
        answer.extend(228u32.to_le_bytes());
        answer.extend(u32::try_from(item.len()).unwrap_or(0).to_le_bytes());
        answer.extend(item);
    }
    answer
}
