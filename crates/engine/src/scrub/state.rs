//! What is known of the checks of one device, kept in a file between them.
//!
//! ```text
//! {"version":1,"subject":{…},"identity":{…},
//!  "pass":{…},                    the check that is under way, or was stopped
//!  "last":{…}}                    the last one that came to its end
//! ```
//!
//! Whoever can write the file can say anything; what cannot be true is refused, and the check begins
//! anew. The fields are in docs/formats/scrub.md.

use serde::{Deserialize, Serialize};

/// Everything that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    /// What is checked.
    pub subject: Subject,
    /// As what it was known when the pass began.
    pub identity: Identity,
    /// The check that is under way, or was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<Pass>,
    /// The last check that came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
}

/// What is checked, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The name of the device, or the path of the image. What is not UTF-8 in it is lost.
    pub name: String,
    /// What protects it.
    pub module: Module,
    /// Who serves it.
    pub backend: Backend,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// As it stands in records and files.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }
    };
}

words! {
    /// What protects a device.
    Module {
        /// A hash tree.
        Verity = "verity",
        /// Tags of dm-integrity.
        Integrity = "integrity",
        /// Authenticated encryption.
        Crypt = "crypt",
    }
}

words! {
    /// Who serves a device.
    Backend {
        /// A server of ours.
        User = "user",
        /// The kernel's device mapper.
        Kernel = "kernel",
        /// Nobody: an image in files.
        Image = "image",
    }
}

words! {
    /// How the disk was read.
    Access {
        /// Past the page cache.
        Direct = "direct",
        /// Through it: the file system knows no other way. What was cached was dropped first, as far
        /// as the kernel does that.
        Buffered = "buffered",
    }
}

words! {
    /// How a check ended that did not come to its end.
    Ended {
        /// It was told to.
        Stopped = "stopped",
        /// Something was missing that it needs: its trail, its state, the device.
        Failed = "failed",
    }
}

words! {
    /// What a check comes to.
    Verdict {
        /// All is what was promised.
        Good = "good",
        /// Not all, but there are right bytes for all that is not.
        Correctable = "correctable",
        /// Not all could be read; what could is good.
        Unreadable = "unreadable",
        /// Something is not what was promised.
        Violation = "violation",
    }
}

/// What tells a device from another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// What it is made of, as text: of verity the root hash and all that leads to it.
    pub image: String,
    /// Bytes that are checked.
    pub size: u64,
    /// The inode of the file, where it is one: of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// The block device, where it is one: of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
}

/// A block device of one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// The kernel's `boot_id`: without it the numbers mean nothing.
    pub boot: String,
    /// Major and minor.
    pub device: (u32, u32),
    /// Tells two lives of the same number apart; 0 where unknown.
    pub diskseq: u64,
}

impl Identity {
    /// Whether both can be one device. Over a restart of the machine numbers tell nothing.
    fn can_be(&self, other: &Identity) -> bool {
        let same_life = match (&self.live, &other.live) {
            (Some(mine), Some(theirs)) => mine.boot != theirs.boot || mine == theirs,
            (None, None) => true,
            _ => false,
        };
        same_life
            && self.image == other.image
            && self.size == other.size
            && self.inode == other.inode
    }
}

/// A check that is under way, or was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pass {
    /// Seconds since 1970.
    pub started: u64,
    /// When this was written, in seconds since 1970.
    pub updated: u64,
    /// Its process, if there still is one.
    pub pid: u32,
    /// The first block that is not checked yet.
    pub next: u64,
    /// All blocks.
    pub blocks: u64,
    /// The size of a block in bytes.
    pub unit: u32,
    /// Bytes read, those of the tree too.
    pub bytes: u64,
    /// Time taken, without that in which nothing was done.
    pub milliseconds: u64,
    /// How the disk was read; the worse of two ways.
    pub access: Access,
    /// What was found in the blocks before `next`.
    pub counts: Counts,
    /// Set when it ended before its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A check that came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// Seconds since 1970.
    pub started: u64,
    /// Seconds since 1970.
    pub finished: u64,
    /// All blocks.
    pub blocks: u64,
    /// The size of a block in bytes.
    pub unit: u32,
    /// Bytes read, those of the tree too.
    pub bytes: u64,
    /// Time taken, without that in which nothing was done.
    pub milliseconds: u64,
    /// How the disk was read.
    pub access: Access,
    /// What was found.
    pub counts: Counts,
}

/// What was found, in numbers of blocks. Those of data are each in one of the first six.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Are what was promised.
    pub good: u64,
    /// Are not, or are not there.
    pub bad: u64,
    /// Are not, and there are right bytes for them.
    pub correctable: u64,
    /// Were not given by the disk.
    pub unreadable: u64,
    /// Stand below a hash block that is bad.
    pub unverifiable: u64,
    /// Stand below a hash block that the disk did not give.
    pub unreachable: u64,
    /// Hash blocks that are bad.
    pub bad_hash: u64,
    /// Hash blocks that are bad, and for which there are right bytes.
    pub correctable_hash: u64,
    /// Hash blocks that the disk did not give.
    pub unreadable_hash: u64,
}

impl Counts {
    /// Data blocks that are settled; none where that is more than a number can say.
    fn settled(&self) -> Option<u64> {
        let kinds =
            [self.bad, self.correctable, self.unreadable, self.unverifiable, self.unreachable];
        kinds.into_iter().try_fold(self.good, u64::checked_add)
    }

    /// These and those.
    #[must_use]
    pub fn plus(&self, more: &Counts) -> Counts {
        let sum = |a: u64, b: u64| a.saturating_add(b);
        Counts {
            good: sum(self.good, more.good),
            bad: sum(self.bad, more.bad),
            correctable: sum(self.correctable, more.correctable),
            unreadable: sum(self.unreadable, more.unreadable),
            unverifiable: sum(self.unverifiable, more.unverifiable),
            unreachable: sum(self.unreachable, more.unreachable),
            bad_hash: sum(self.bad_hash, more.bad_hash),
            correctable_hash: sum(self.correctable_hash, more.correctable_hash),
            unreadable_hash: sum(self.unreadable_hash, more.unreadable_hash),
        }
    }

    /// Blocks of both kinds that are not what was promised and cannot be put right.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.bad.saturating_add(self.bad_hash)
    }

    /// Blocks of both kinds that the disk did not give.
    fn not_read(&self) -> u64 {
        self.unreadable.saturating_add(self.unreadable_hash)
    }

    /// Blocks of both kinds that are not what was promised, with right bytes at hand.
    fn with_right_bytes(&self) -> u64 {
        self.correctable.saturating_add(self.correctable_hash)
    }

    /// What it comes to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.violations() > 0 {
            Verdict::Violation
        } else if self.not_read() > 0 {
            Verdict::Unreadable
        } else if self.with_right_bytes() > 0 {
            Verdict::Correctable
        } else {
            Verdict::Good
        }
    }
}

/// Where a check begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At the first block.
    Anew(Why),
    /// Where this one stopped.
    After(Pass),
}

words! {
    /// Why a check begins anew.
    Why {
        /// Nothing is known of another one.
        First = "first",
        /// The last one came to its end.
        Due = "due",
        /// It was told to.
        Told = "restart",
        /// The device is another one.
        Changed = "changed",
    }
}

/// Why a state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// More than a state can have.
    #[error("it has more than {} bytes", State::LONGEST)]
    TooLong,
    /// Not of the form.
    #[error("it is not of the form expected")]
    Form(#[from] serde_json::Error),
    /// Of another version of this program.
    #[error("its version is {found}, not {}", State::VERSION)]
    Version {
        /// The number found.
        found: u32,
    },
    /// Numbers that contradict each other.
    #[error("{what} cannot be")]
    Impossible {
        /// Which ones.
        what: &'static str,
    },
}

impl State {
    /// The version written, and the only one read.
    pub const VERSION: u32 = 1;

    /// The longest state in bytes: its texts, each byte written as six, and some numbers.
    pub const LONGEST: usize = 128 << 10;

    /// The longest name or text, in bytes, that is kept whole.
    const LONGEST_TEXT: usize = 4096;

    /// Nothing is known but what is to be checked.
    #[must_use]
    pub fn new(subject: Subject, identity: Identity) -> State {
        let mut state =
            State { version: State::VERSION, subject, identity, pass: None, last: None };
        cut(&mut state.subject.name);
        cut(&mut state.identity.image);
        state
    }

    /// Reads what [`State::to_text`] wrote, or anything.
    ///
    /// # Errors
    /// Whatever is not a state, or cannot be true.
    pub fn read(text: &[u8]) -> Result<State, StateError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        if text.len() > State::LONGEST {
            return Err(StateError::TooLong);
        }
        let Version { version } = serde_json::from_slice(text)?;
        if version != State::VERSION {
            return Err(StateError::Version { found: version });
        }
        let state: State = serde_json::from_slice(text)?;
        state.check()?;
        Ok(state)
    }

    fn check(&self) -> Result<(), StateError> {
        let impossible = |what| Err(StateError::Impossible { what });
        let size = |blocks: u64, unit: u32| blocks.checked_mul(unit.into());
        let of_a_block = |unit: u32| unit.is_power_of_two() && unit >= 512;
        if let Some(pass) = &self.pass {
            if !of_a_block(pass.unit) || size(pass.blocks, pass.unit) != Some(self.identity.size) {
                return impossible("the size of the device");
            }
            if pass.next > pass.blocks || pass.counts.settled() != Some(pass.next) {
                return impossible("the number of blocks that are checked");
            }
        }
        if let Some(last) = &self.last
            && (!of_a_block(last.unit)
                || size(last.blocks, last.unit).is_none()
                || last.counts.settled() != Some(last.blocks))
        {
            return impossible("the number of blocks of the last check");
        }
        let texts = [&self.subject.name, &self.identity.image];
        let reason = self.pass.as_ref().and_then(|pass| pass.reason.as_ref());
        let boot = self.identity.live.as_ref().map(|live| &live.boot);
        if texts.into_iter().chain(reason).chain(boot).any(|text| text.len() > State::LONGEST_TEXT)
        {
            return impossible("the length of a text");
        }
        Ok(())
    }

    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).expect("plain data has a form in JSON");
        text.push(b'\n');
        text
    }

    /// Where a check of what is now `identity` begins.
    #[must_use]
    pub fn begin(&self, identity: &Identity, restart: bool) -> Begin {
        match &self.pass {
            _ if restart => Begin::Anew(Why::Told),
            _ if !self.identity.can_be(identity) => Begin::Anew(Why::Changed),
            None => Begin::Anew(Why::Due),
            Some(pass) => Begin::After(pass.clone()),
        }
    }

    /// The check that is under way came to its end.
    pub fn finish(&mut self, finished: u64) {
        let Some(pass) = self.pass.take() else { return };
        let Pass { started, blocks, unit, bytes, milliseconds, access, counts, .. } = pass;
        self.last =
            Some(Last { started, finished, blocks, unit, bytes, milliseconds, access, counts });
    }

    /// The check that is under way ended before its end.
    pub fn end(&mut self, ended: Ended, reason: Option<String>) {
        let Some(pass) = &mut self.pass else { return };
        pass.ended = Some(ended);
        pass.reason = reason.map(|mut reason| {
            cut(&mut reason);
            reason
        });
    }
}

/// Cuts a text to what a state keeps of it.
fn cut(text: &mut String) {
    if text.len() > State::LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(State::LONGEST_TEXT));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> State {
        let subject =
            Subject { name: "root".into(), module: Module::Verity, backend: Backend::User };
        let identity =
            Identity { image: "root=00".into(), size: 40_960, inode: Some(7), live: None };
        let mut state = State::new(subject, identity);
        let counts = Counts { good: 3, bad: 1, bad_hash: 1, unverifiable: 2, ..Counts::default() };
        state.pass = Some(Pass {
            started: 100,
            updated: 200,
            pid: 1,
            next: 6,
            blocks: 10,
            unit: 4096,
            bytes: 40_000,
            milliseconds: 5,
            access: Access::Direct,
            counts,
            ended: None,
            reason: None,
        });
        state
    }

    #[test]
    fn what_is_written_is_read_and_goes_on() {
        let mut state = state();
        let read = State::read(&state.to_text()).unwrap();
        assert_eq!(read, state);
        let identity = state.identity.clone();
        assert_eq!(read.begin(&identity, false), Begin::After(state.pass.clone().unwrap()));
        assert_eq!(read.begin(&identity, true), Begin::Anew(Why::Told));
        let other = Identity { image: "root=01".into(), ..identity.clone() };
        assert_eq!(read.begin(&other, false), Begin::Anew(Why::Changed));
        state.end(Ended::Failed, Some("ä".repeat(5000)));
        assert_eq!(State::read(&state.to_text()).unwrap(), state);
        state.pass = state.pass.map(|pass| Pass {
            next: 10,
            counts: Counts { good: 7, ..pass.counts },
            ..pass
        });
        state.finish(300);
        let read = State::read(&state.to_text()).unwrap();
        assert_eq!(read.begin(&identity, false), Begin::Anew(Why::Due));
        let last = read.last.unwrap();
        assert_eq!((last.finished, last.counts.verdict()), (300, Verdict::Violation));
    }

    #[test]
    fn numbers_of_another_boot_tell_nothing() {
        let live = |boot: &str, diskseq| {
            let live = Live { boot: boot.into(), device: (7, 0), diskseq };
            Identity { live: Some(live), ..state().identity }
        };
        assert!(live("a", 1).can_be(&live("a", 1)));
        assert!(!live("a", 1).can_be(&live("a", 2)));
        assert!(live("a", 1).can_be(&live("b", 2)));
        assert!(!live("a", 1).can_be(&state().identity));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let text = String::from_utf8(state().to_text()).unwrap();
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"next\":6", "\"next\":7"),
            ("\"next\":6", "\"next\":11"),
            ("\"blocks\":10", "\"blocks\":11"),
            ("\"blocks\":10", "\"blocks\":4503599627370506"),
            ("\"unit\":4096", "\"unit\":0"),
            ("\"good\":3", "\"good\":18446744073709551615"),
            ("\"good\":3", "\"good\":-3"),
            ("\"direct\"", "\"odd\""),
            ("{\"version\"", "{\"more\":1,\"version\""),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(State::read(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
        assert!(State::read(&vec![b' '; State::LONGEST + 1]).is_err());
        assert!(State::read("[".repeat(State::LONGEST).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn damage_is_refused_or_harmless(at in any::<prop::sample::Index>(), byte: u8) {
            let mut text = state().to_text();
            let at = at.index(text.len());
            text[at] = byte;
            if let Ok(state) = State::read(&text) {
                prop_assert_eq!(&State::read(&state.to_text()).unwrap(), &state);
                let pass = state.pass.unwrap();
                prop_assert!(pass.next <= pass.blocks);
            }
        }
    }
}
