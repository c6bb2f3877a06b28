//! Names of record types, and the names that are veritrail's own.
//!
//! The numbers and names up to 2507 are those of `linux/audit.h` and of audit
//! userspace; a reader accepts for every one of them the name, `UNKNOWN[n]` and
//! the bare number (netlink captures, printk). From 2900 up are our own: they
//! are names only in a trail, and the numbers exist for exports that want one.
//! The list is documented in `docs/formats/names.md`.

use std::fmt;

/// The number of a record type, `nlmsg_type` of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u16);

macro_rules! types {
    ($($number:literal $name:ident)*) => {
        impl RecordType {
            $(
                #[doc = concat!("`", stringify!($name), "`, ", stringify!($number))]
                pub const $name: RecordType = RecordType($number);
            )*
        }

        /// Every known type, ascending by number.
        pub const TYPES: &[(u16, &str)] = &[$(($number, stringify!($name)),)*];
    };
}

types! {
    1005 USER
    1006 LOGIN
    1100 USER_AUTH
    1101 USER_ACCT
    1102 USER_MGMT
    1103 CRED_ACQ
    1104 CRED_DISP
    1105 USER_START
    1106 USER_END
    1107 USER_AVC
    1108 USER_CHAUTHTOK
    1109 USER_ERR
    1110 CRED_REFR
    1111 USYS_CONFIG
    1112 USER_LOGIN
    1113 USER_LOGOUT
    1114 ADD_USER
    1115 DEL_USER
    1116 ADD_GROUP
    1117 DEL_GROUP
    1118 DAC_CHECK
    1119 CHGRP_ID
    1120 TEST
    1121 TRUSTED_APP
    1122 USER_SELINUX_ERR
    1123 USER_CMD
    1124 USER_TTY
    1125 CHUSER_ID
    1126 GRP_AUTH
    1127 SYSTEM_BOOT
    1128 SYSTEM_SHUTDOWN
    1129 SYSTEM_RUNLEVEL
    1130 SERVICE_START
    1131 SERVICE_STOP
    1132 GRP_MGMT
    1133 GRP_CHAUTHTOK
    1134 MAC_CHECK
    1135 ACCT_LOCK
    1136 ACCT_UNLOCK
    1137 USER_DEVICE
    1138 SOFTWARE_UPDATE
    1200 DAEMON_START
    1201 DAEMON_END
    1202 DAEMON_ABORT
    1203 DAEMON_CONFIG
    1205 DAEMON_ROTATE
    1206 DAEMON_RESUME
    1207 DAEMON_ACCEPT
    1208 DAEMON_CLOSE
    1209 DAEMON_ERR
    1300 SYSCALL
    1302 PATH
    1303 IPC
    1304 SOCKETCALL
    1305 CONFIG_CHANGE
    1306 SOCKADDR
    1307 CWD
    1309 EXECVE
    1311 IPC_SET_PERM
    1312 MQ_OPEN
    1313 MQ_SENDRECV
    1314 MQ_NOTIFY
    1315 MQ_GETSETATTR
    1316 KERNEL_OTHER
    1317 FD_PAIR
    1318 OBJ_PID
    1319 TTY
    1320 EOE
    1321 BPRM_FCAPS
    1322 CAPSET
    1323 MMAP
    1324 NETFILTER_PKT
    1325 NETFILTER_CFG
    1326 SECCOMP
    1327 PROCTITLE
    1328 FEATURE_CHANGE
    1329 REPLACE
    1330 KERN_MODULE
    1331 FANOTIFY
    1332 TIME_INJOFFSET
    1333 TIME_ADJNTPVAL
    1334 BPF
    1335 EVENT_LISTENER
    1336 URINGOP
    1337 OPENAT2
    1338 DM_CTRL
    1339 DM_EVENT
    1400 AVC
    1401 SELINUX_ERR
    1402 AVC_PATH
    1403 MAC_POLICY_LOAD
    1404 MAC_STATUS
    1405 MAC_CONFIG_CHANGE
    1406 MAC_UNLBL_ALLOW
    1407 MAC_CIPSOV4_ADD
    1408 MAC_CIPSOV4_DEL
    1409 MAC_MAP_ADD
    1410 MAC_MAP_DEL
    1411 MAC_IPSEC_ADDSA
    1412 MAC_IPSEC_DELSA
    1413 MAC_IPSEC_ADDSPD
    1414 MAC_IPSEC_DELSPD
    1415 MAC_IPSEC_EVENT
    1416 MAC_UNLBL_STCADD
    1417 MAC_UNLBL_STCDEL
    1418 MAC_CALIPSO_ADD
    1419 MAC_CALIPSO_DEL
    1420 IPE_ACCESS
    1421 IPE_CONFIG_CHANGE
    1422 IPE_POLICY_LOAD
    1423 LANDLOCK_ACCESS
    1424 LANDLOCK_DOMAIN
    1425 MAC_TASK_CONTEXTS
    1426 MAC_OBJ_CONTEXTS
    1500 APPARMOR
    1501 APPARMOR_AUDIT
    1502 APPARMOR_ALLOWED
    1503 APPARMOR_DENIED
    1504 APPARMOR_HINT
    1505 APPARMOR_STATUS
    1506 APPARMOR_ERROR
    1507 APPARMOR_KILL
    1700 ANOM_PROMISCUOUS
    1701 ANOM_ABEND
    1702 ANOM_LINK
    1703 ANOM_CREAT
    1800 INTEGRITY_DATA
    1801 INTEGRITY_METADATA
    1802 INTEGRITY_STATUS
    1803 INTEGRITY_HASH
    1804 INTEGRITY_PCR
    1805 INTEGRITY_RULE
    1806 INTEGRITY_EVM_XATTR
    1807 INTEGRITY_POLICY_RULE
    2000 KERNEL
    2100 ANOM_LOGIN_FAILURES
    2101 ANOM_LOGIN_TIME
    2102 ANOM_LOGIN_SESSIONS
    2103 ANOM_LOGIN_ACCT
    2104 ANOM_LOGIN_LOCATION
    2105 ANOM_MAX_DAC
    2106 ANOM_MAX_MAC
    2107 ANOM_AMTU_FAIL
    2108 ANOM_RBAC_FAIL
    2109 ANOM_RBAC_INTEGRITY_FAIL
    2110 ANOM_CRYPTO_FAIL
    2111 ANOM_ACCESS_FS
    2112 ANOM_EXEC
    2113 ANOM_MK_EXEC
    2114 ANOM_ADD_ACCT
    2115 ANOM_DEL_ACCT
    2116 ANOM_MOD_ACCT
    2117 ANOM_ROOT_TRANS
    2118 ANOM_LOGIN_SERVICE
    2119 ANOM_LOGIN_ROOT
    2120 ANOM_ORIGIN_FAILURES
    2121 ANOM_SESSION
    2200 RESP_ANOMALY
    2201 RESP_ALERT
    2202 RESP_KILL_PROC
    2203 RESP_TERM_ACCESS
    2204 RESP_ACCT_REMOTE
    2205 RESP_ACCT_LOCK_TIMED
    2206 RESP_ACCT_UNLOCK_TIMED
    2207 RESP_ACCT_LOCK
    2208 RESP_TERM_LOCK
    2209 RESP_SEBOOL
    2210 RESP_EXEC
    2211 RESP_SINGLE
    2212 RESP_HALT
    2213 RESP_ORIGIN_BLOCK
    2214 RESP_ORIGIN_BLOCK_TIMED
    2215 RESP_ORIGIN_UNBLOCK_TIMED
    2300 USER_ROLE_CHANGE
    2301 ROLE_ASSIGN
    2302 ROLE_REMOVE
    2303 LABEL_OVERRIDE
    2304 LABEL_LEVEL_CHANGE
    2305 USER_LABELED_EXPORT
    2306 USER_UNLABELED_EXPORT
    2307 DEV_ALLOC
    2308 DEV_DEALLOC
    2309 FS_RELABEL
    2310 USER_MAC_POLICY_LOAD
    2311 ROLE_MODIFY
    2312 USER_MAC_CONFIG_CHANGE
    2313 USER_MAC_STATUS
    2400 CRYPTO_TEST_USER
    2401 CRYPTO_PARAM_CHANGE_USER
    2402 CRYPTO_LOGIN
    2403 CRYPTO_LOGOUT
    2404 CRYPTO_KEY_USER
    2405 CRYPTO_FAILURE_USER
    2406 CRYPTO_REPLAY_USER
    2407 CRYPTO_SESSION
    2408 CRYPTO_IKE_SA
    2409 CRYPTO_IPSEC_SA
    2500 VIRT_CONTROL
    2501 VIRT_RESOURCE
    2502 VIRT_MACHINE_ID
    2503 VIRT_INTEGRITY_CHECK
    2504 VIRT_CREATE
    2505 VIRT_DESTROY
    2506 VIRT_MIGRATE_IN
    2507 VIRT_MIGRATE_OUT
    2900 CONTAINER_OP
    2901 CONTAINER_ID
    2910 VT_LINE
    2911 VT_IMPORT
    2912 VT_RECOVER
    2913 VT_GAP
    2914 VT_PLACE
    2915 VT_READER
    2916 VT_PRUNE
    2917 VT_SINK
    2918 VT_FEC
    2919 VT_DEVICE
    2920 VT_FILE
    2921 VT_MOUNT
    2922 VT_SCRUB
    2923 VT_AGENT
    2924 VT_CLOCK
    2925 VT_RULE
    2927 VT_FORWARD
    2928 VT_CONTAINER
}

/// First number of veritrail's own types.
pub const FIRST_OWN_TYPE: u16 = 2900;

/// Names that may open veritrail's tail of a stored line (what follows its last
/// 0x1D), each once per tail.
pub const TAIL_NAMES: &[&str] = &[
    "VT_LEAF", "VT_BT", "VT_BOOT", "VT_SRC", "VT_CONF", "VT_VIA", "VT_REF", "VT_SEQ", "VT_PRE",
    "VT_RAW", "VT_EOL", "VT_MORE", "VT_DEV", "VT_KEY", "CONTID",
];

/// Whether `name` may stand in veritrail's tail.
#[must_use]
pub fn is_tail_name(name: &[u8]) -> bool {
    TAIL_NAMES.iter().any(|known| known.as_bytes() == name)
}

impl RecordType {
    /// A type that the source gave a name no table knows; the line's
    /// `type_text` still has it. No kernel message carries this number.
    pub const UNNAMED: RecordType = RecordType(0);

    /// A process's message with a number of ours (2900-2999), which the line's `type_text` still has. No message
    /// carries this number.
    pub const USER_UNNAMED: RecordType = RecordType(u16::MAX);

    /// Whether only the line's `type_text` says what it is.
    #[must_use]
    pub fn is_unnamed(self) -> bool {
        matches!(self, RecordType::UNNAMED | RecordType::USER_UNNAMED)
    }

    /// The type that `text` names: a name in any case, `UNKNOWN[n]` or `n`.
    #[must_use]
    pub fn from_name(text: &[u8]) -> Option<RecordType> {
        if let Some(found) = slot_of(text) {
            return Some(found);
        }
        let bracketed = text
            .get(..8)
            .filter(|head| head.eq_ignore_ascii_case(b"UNKNOWN["))
            .and_then(|_| text[8..].strip_suffix(b"]"));
        let digits = bracketed.unwrap_or(text);
        if digits.first().is_some_and(u8::is_ascii_digit) {
            return parse_u16(digits).map(RecordType);
        }
        let upper = text.to_ascii_uppercase();
        slot_of(&upper)
    }

    /// The type of a record whose `type=` says `text`. As [`RecordType::from_name`],
    /// but a number in the private range is nobody's: a process may send a user
    /// message of type 2901, and it must not become a record of ours.
    #[must_use]
    pub(crate) fn from_record(text: &[u8]) -> RecordType {
        match RecordType::from_name(text) {
            Some(found) if found.0 < FIRST_OWN_TYPE || !text.iter().any(u8::is_ascii_digit) => {
                found
            }
            Some(RecordType(FIRST_OWN_TYPE..=2999)) => RecordType::USER_UNNAMED,
            _ => RecordType::UNNAMED,
        }
    }

    /// The symbolic name, where there is one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        TYPES.binary_search_by_key(&self.0, |(number, _)| *number).ok().map(|at| TYPES[at].1)
    }

    /// Whether this is one of veritrail's own types ([`FIRST_OWN_TYPE`] and up).
    #[must_use]
    pub fn is_own(self) -> bool {
        self.0 >= FIRST_OWN_TYPE && self.name().is_some()
    }

    /// Whether a process sent this text (1005, 1100-1199, 2100-2999): its body
    /// is verbatim and may hold anything.
    #[must_use]
    pub fn is_user_message(self) -> bool {
        matches!(self.0, 1005 | 1100..=1199 | 2100..=2899) || self == RecordType::USER_UNNAMED
    }

    /// Whether a record of this type is an event of its own: no other record
    /// shares its serial (audit userspace's rule; 1420-1422 may be part of more).
    #[must_use]
    pub fn is_single(self) -> bool {
        matches!(self.0, 1005 | 1007..=1299 | 1406..=1419 | 2000 | 2100..=2899)
            || self == RecordType::USER_UNNAMED
    }
}

impl fmt::Display for RecordType {
    /// As auditd writes it: the name, else `UNKNOWN[n]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "UNKNOWN[{}]", self.0),
        }
    }
}

fn parse_u16(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    digits
        .iter()
        .try_fold(0u32, |sum, d| d.is_ascii_digit().then(|| sum * 10 + u32::from(d - b'0')))
        .and_then(|sum| u16::try_from(sum).ok())
}

/// Open addressing, filled at compile time: parsing looks up one name a line.
const SLOTS: usize = 1024;
static BY_NAME: [u16; SLOTS] = {
    let mut slots = [u16::MAX; SLOTS];
    let mut at = 0;
    while at < TYPES.len() {
        let mut slot = hash(TYPES[at].1.as_bytes());
        while slots[slot] != u16::MAX {
            slot = (slot + 1) % SLOTS;
        }
        assert!(at < u16::MAX as usize);
        #[allow(clippy::cast_possible_truncation)]
        {
            slots[slot] = at as u16;
        }
        at += 1;
    }
    slots
};

/// Four bytes and the length spread these names: none needs a third probe.
const fn hash(name: &[u8]) -> usize {
    let len = name.len();
    if len == 0 {
        return 0;
    }
    let sum = len * 37
        + name[0] as usize * 17
        + name[len / 2] as usize * 71
        + name[len * 3 / 4] as usize * 11
        + name[len - 1] as usize * 131;
    sum % SLOTS
}

/// The longest name there is; longer texts are no names.
const LONGEST: usize = {
    let mut longest = 0;
    let mut at = 0;
    while at < TYPES.len() {
        if TYPES[at].1.len() > longest {
            longest = TYPES[at].1.len();
        }
        at += 1;
    }
    longest
};

fn slot_of(name: &[u8]) -> Option<RecordType> {
    if name.len() > LONGEST {
        return None;
    }
    let mut slot = hash(name);
    loop {
        let (number, known) = *TYPES.get(usize::from(BY_NAME[slot]))?;
        if known.as_bytes() == name {
            return Some(RecordType(number));
        }
        slot = (slot + 1) % SLOTS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_ascends_and_every_spelling_finds_its_number() {
        assert!(TYPES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for &(number, name) in TYPES {
            let found = Some(RecordType(number));
            assert_eq!(RecordType::from_name(name.as_bytes()), found, "{name}");
            assert_eq!(RecordType::from_name(name.to_lowercase().as_bytes()), found, "{name}");
            assert_eq!(RecordType::from_name(format!("UNKNOWN[{number}]").as_bytes()), found);
            assert_eq!(RecordType::from_name(number.to_string().as_bytes()), found);
            assert_eq!(RecordType(number).to_string(), name);
        }
    }

    #[test]
    fn what_has_no_name() {
        assert_eq!(RecordType(1301).to_string(), "UNKNOWN[1301]");
        assert_eq!(RecordType::from_name(b"UNKNOWN[1301]"), Some(RecordType(1301)));
        for text in [
            &b""[..],
            b"NOSUCH",
            b"UNKNOWN[]",
            b"UNKNOWN[65536]",
            b"65536",
            b"13x",
            b"UNKNOWN[1",
            b"-1",
        ] {
            assert_eq!(RecordType::from_name(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn the_registry_in_docs_is_this_table() {
        let page = include_str!("../../../docs/formats/names.md");
        let first_cells = page.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some((cells.next()?, cells.next()?))
        });
        let (mut types, mut fields) = (Vec::new(), Vec::new());
        for (name, second) in first_cells.filter(|(name, _)| *name != "name") {
            match second.parse::<u16>() {
                Ok(number) => types.push((number, name)),
                Err(_) => fields.push(name),
            }
        }
        let own: Vec<_> = TYPES.iter().copied().filter(|(n, _)| *n >= FIRST_OWN_TYPE).collect();
        assert_eq!(types, own);
        assert_eq!(fields, TAIL_NAMES);
    }

    #[test]
    fn a_number_of_ours_is_nobodys() {
        assert_eq!(RecordType::from_record(b"VT_GAP"), RecordType::VT_GAP);
        assert_eq!(RecordType::from_record(b"CONTAINER_ID"), RecordType::CONTAINER_ID);
        // What a process sent is still that, and an event of its own.
        for text in [&b"2913"[..], b"UNKNOWN[2913]", b"unknown[2901]", b"2999"] {
            let kind = RecordType::from_record(text);
            assert_eq!(kind, RecordType::USER_UNNAMED);
            assert!(kind.is_user_message() && kind.is_single() && kind.is_unnamed());
        }
        assert_eq!(RecordType::from_record(b"3000"), RecordType::UNNAMED);
        assert_eq!(RecordType::from_record(b"UNKNOWN[1339]"), RecordType::DM_EVENT);
    }
}
