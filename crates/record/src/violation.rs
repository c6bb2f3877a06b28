//! A violation: data that is not what was promised. This is what veritrail
//! exists to report, so it is a result and never an error.
//!
//! The words are the kernel's (reference: dm-audit of Linux 6.12,
//! `drivers/md/dm-audit.c`, and the targets that call it).

use std::fmt;

use crate::place::{DeviceId, Place, Position};
use crate::task::Task;
use crate::units::{DataBlock, Sector};
use crate::write::Body;

/// An enum whose variants are words of a record. One list makes the type, the
/// parser and the writer.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// All of them, in the order of declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The variant that `word` names.
            #[must_use]
            pub fn parse(word: &[u8]) -> Option<$name> {
                $name::ALL.iter().copied().find(|w| w.word().as_bytes() == word)
            }

            /// As it stands in a record.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// The device-mapper target that speaks, `module=`.
    Module {
        /// dm-verity
        Verity = "verity",
        /// dm-integrity
        Integrity = "integrity",
        /// dm-crypt
        Crypt = "crypt",
    }
}

words! {
    /// What was found, `op=` of a DM_EVENT.
    EventOp {
        /// A data block's digest is not the one in the tree.
        VerifyData = "verify-data",
        /// A hash block's digest is not the one in its parent (or the root hash).
        VerifyMetadata = "verify-metadata",
        /// The hundredth mismatch of one activation.
        MaxCorruptedErrors = "max-corrupted-errors",
        /// A tag does not match its sector.
        IntegrityChecksum = "integrity-checksum",
        /// A sector in the journal does not match its tag.
        JournalChecksum = "journal-checksum",
        /// Replay of the journal found a tag mismatch.
        IntegrityReplayJournal = "integrity-replay-journal",
        /// The MAC of a journal section is wrong.
        MacJournal = "mac-journal",
        /// The MAC of the superblock is wrong.
        MacSuperblock = "mac-superblock",
        /// Authenticated decryption failed.
        IntegrityAead = "integrity-aead",
    }
}

words! {
    /// What happened to a mapping, `op=` of a DM_CTRL.
    CtrlOp {
        /// Construction.
        Ctr = "ctr",
        /// Destruction.
        Dtr = "dtr",
    }
}

impl EventOp {
    /// The target that reports this.
    #[must_use]
    pub fn module(self) -> Module {
        match self {
            EventOp::VerifyData | EventOp::VerifyMetadata | EventOp::MaxCorruptedErrors => {
                Module::Verity
            }
            EventOp::IntegrityChecksum
            | EventOp::JournalChecksum
            | EventOp::IntegrityReplayJournal
            | EventOp::MacJournal
            | EventOp::MacSuperblock => Module::Integrity,
            EventOp::IntegrityAead => Module::Crypt,
        }
    }

    /// What `sector=` counts in a record of this kind; the one normaliser of
    /// units. An op that the kernel reports for the whole device gives
    /// [`Position::Whole`] whatever the number.
    #[must_use]
    pub fn position(self, number: u64) -> Position {
        match self {
            EventOp::VerifyData | EventOp::VerifyMetadata => Position::DataBlock(DataBlock(number)),
            EventOp::IntegrityChecksum | EventOp::JournalChecksum | EventOp::IntegrityAead => {
                Position::Sector(Sector(number))
            }
            EventOp::MaxCorruptedErrors
            | EventOp::IntegrityReplayJournal
            | EventOp::MacJournal
            | EventOp::MacSuperblock => Position::Whole,
        }
    }
}

/// Data that is not what was promised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// What was found.
    pub op: EventOp,
    /// Where, as the kernel would say it.
    pub place: Place,
}

impl Violation {
    /// A violation of `op` on `device`, with its number in the unit of that op.
    #[must_use]
    pub fn new(op: EventOp, device: DeviceId, number: u64) -> Violation {
        Violation { op, place: Place { device, position: op.position(number) } }
    }
}

impl fmt::Display for Violation {
    /// The body of the kernel's DM_EVENT record, field for field.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "module={} op={} dev={} sector={} res=0",
            self.op.module(),
            self.op,
            self.place.device,
            self.place.position
        )
    }
}

/// A mapping that was made or taken away, or could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control<'a> {
    /// The target.
    pub module: Module,
    /// What happened.
    pub op: CtrlOp,
    /// The mapped device.
    pub device: &'a DeviceId,
    /// Why it could not be made, in the target's words.
    pub error: Option<&'a str>,
}

impl Control<'_> {
    /// The body of the kernel's DM_CTRL record, field for field. `task` is who asked for it.
    #[must_use]
    pub fn body(&self, task: &Task) -> Body {
        let begun = Body::new().word("module", self.module).word("op", self.op);
        task.push(begun)
            .word("dev", self.device)
            .phrase("error_msg", self.error.unwrap_or("success"))
            .word("res", u8::from(self.error.is_none()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_record_is_the_kernels() {
        let unset = u32::MAX;
        let task = Task {
            ppid: 158,
            pid: 165,
            auid: unset,
            uid: 0,
            gid: 0,
            euid: 0,
            suid: 0,
            fsuid: 0,
            egid: 0,
            sgid: 0,
            fsgid: 0,
            tty: None,
            ses: unset,
            comm: b"veritysetup".to_vec(),
            exe: Some(b"/sbin/veritysetup".to_vec()),
        };
        let device = &DeviceId::Kernel { major: 253, minor: 0, diskseq: 0 };
        let made = Control { module: Module::Verity, op: CtrlOp::Ctr, device, error: None };
        let failed = Control { error: Some("Invalid root digest"), ..made.clone() };
        // As the 6.12 kernel printed it.
        let start = "module=verity op=ctr ppid=158 pid=165 auid=4294967295 uid=0 gid=0 euid=0 suid=0 \
                     fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm=\"veritysetup\" \
                     exe=\"/sbin/veritysetup\" dev=253:0 error_msg=";
        let text =
            |control: &Control<'_>| String::from_utf8(control.body(&task).as_bytes().to_vec());
        assert_eq!(text(&made).unwrap(), format!("{start}'success' res=1"));
        assert_eq!(text(&failed).unwrap(), format!("{start}'Invalid root digest' res=0"));
    }

    #[test]
    fn the_body_is_the_kernels() {
        let cases = [
            (EventOp::VerifyData, 10, "module=verity op=verify-data dev=7:1 sector=10 res=0"),
            (
                EventOp::MaxCorruptedErrors,
                10,
                "module=verity op=max-corrupted-errors dev=7:1 sector=? res=0",
            ),
            (
                EventOp::IntegrityChecksum,
                2856,
                "module=integrity op=integrity-checksum dev=7:1 sector=2856 res=0",
            ),
            (
                EventOp::IntegrityAead,
                1000,
                "module=crypt op=integrity-aead dev=7:1 sector=1000 res=0",
            ),
        ];
        for (op, number, body) in cases {
            let device = DeviceId::Kernel { major: 7, minor: 1, diskseq: 0 };
            assert_eq!(Violation::new(op, device, number).to_string(), body);
        }
    }
}
