//! Why the kernel did not take a table, in its own words: they are in its log and nowhere else.

use std::io;
use std::time::Duration;

use host::kmsg::{From, Kmsg, Received};
use rustix::io::Errno;

use crate::outcome::{Failure, Kind};

/// What the kernel says from now on.
pub(super) struct Listening(Option<Kmsg>);

impl Listening {
    /// To be begun before the kernel has anything to say. Without the right to read its log there are no
    /// words.
    pub(super) fn begin() -> Self {
        Self(Kmsg::open(From::Now).ok())
    }

    /// What it said of the table of this device since.
    fn words(self, device: (u32, u32)) -> Option<String> {
        let mut log = self.0?;
        let mut said = None;
        // It is said before the call returns.
        loop {
            match log.recv(Some(Duration::ZERO)) {
                Ok(Received::Record(record)) => said = words(record, device).or(said),
                Ok(Received::Lost(_)) => {}
                Ok(Received::TimedOut) | Err(_) => break,
            }
        }
        said
    }

    /// The failure to take the table of `name`.
    pub(super) fn failure(self, name: &str, device: (u32, u32), error: io::Error) -> Failure {
        let words = self.words(device);
        let errno = Errno::from_io_error(&error);
        let signature =
            words.as_deref().is_some_and(|words| words.contains("Root hash verification"))
                || matches!(errno, Some(Errno::NOKEY | Errno::KEYREJECTED | Errno::BADMSG));
        let kind = match errno {
            _ if signature => Kind::Refused,
            Some(Errno::INVAL | Errno::TOOBIG | Errno::RANGE) => Kind::Unusable,
            Some(Errno::PERM | Errno::ACCESS) => Kind::Environment,
            _ => Kind::Io,
        };
        let what = match &words {
            Some(words) => format!("the kernel refuses {name}: {words}"),
            None => format!("the kernel refuses {name}"),
        };
        let failure = Failure::new(kind, what).because(error);
        match (signature, hint(words.as_deref())) {
            (true, _) => failure.hint(
                "the signer's certificate has to be in the kernel's keyring (.secondary_trusted_keys, or the \
                 platform's); --keyring DIR has it judged by certificates of yours instead",
            ),
            (false, hint) => failure.hint(hint),
        }
    }
}

/// The words of `device-mapper: table: 254:0: verity: WORDS (-EINVAL)`, where the kernel itself said them:
/// what a user writes into the log is of another facility than 0.
fn words(record: &[u8], (major, minor): (u32, u32)) -> Option<String> {
    let text = str::from_utf8(record).ok()?;
    let (head, text) = text.split_once(';')?;
    let facility = head.split(',').next()?.parse::<u32>().ok()? >> 3;
    let line = text.lines().next()?;
    let words = line.strip_prefix("device-mapper: table: ")?;
    let words = words.strip_prefix(&format!("{major}:{minor}: "))?;
    let words = words.strip_prefix("verity: ").unwrap_or(words);
    let words = match words.rsplit_once(" (") {
        Some((words, number)) if number.starts_with('-') => words,
        _ => words,
    };
    (facility == 0).then(|| words.to_owned())
}

fn hint(words: Option<&str>) -> &'static str {
    match words {
        Some("Invalid root digest") => "a root hash has two digits for each byte of its algorithm",
        Some(words) if words.contains("too small") => {
            "a device ends before what is on it: was it cut, or is an offset wrong?"
        }
        Some(words) if words.contains("hash function") => {
            "the kernel lacks the algorithm, or its module; --backend user has it"
        }
        Some(words) if words.contains("ecognized") => {
            "this kernel does not know the option; --backend user may"
        }
        Some(words) if words.contains("block size") => {
            "the kernel takes blocks up to its page size; --backend user takes all"
        }
        Some(_) => {
            "`veritrail verity verify` looks for what is wrong; --backend user needs no device mapper"
        }
        None => "its reason is in its log (dmesg)",
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn only_the_kernel_s_own_words_about_this_device() {
        let line =
            "3,12,345,-;device-mapper: table: 254:0: verity: Invalid root digest (-EINVAL)\n";
        assert_eq!(words(line.as_bytes(), (254, 0)).as_deref(), Some("Invalid root digest"));
        let older = line.replace("(-EINVAL)", "(-22)");
        assert_eq!(words(older.as_bytes(), (254, 0)).as_deref(), Some("Invalid root digest"));
        let whole =
            "3,1,2,-;device-mapper: table: 254:0: loop0 too small for target: start=0\n DEVICE=x";
        let wanted = Some("loop0 too small for target: start=0");
        assert_eq!(words(whole.as_bytes(), (254, 0)).as_deref(), wanted);
        // Of another device, of a user, of another form.
        assert_eq!(words(line.as_bytes(), (254, 1)), None);
        assert_eq!(words(line.replacen('3', "11", 1).as_bytes(), (254, 0)), None);
        for other in ["", ";", "3;x", "x,1;device-mapper: table: 254:0: y"] {
            assert_eq!(words(other.as_bytes(), (254, 0)), None, "{other}");
        }
        assert_eq!(words(b"3,1,2,-;\xff", (254, 0)), None);
    }
}
