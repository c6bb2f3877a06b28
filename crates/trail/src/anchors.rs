//! Checkpoints that were kept elsewhere, in the forms in which sinks keep them.
//!
//! ```text
//!  a file of notes                    host/5f0c…e1 LF 3 LF CsUY…= LF LF — host/5f0c…e1 Az3g…  LF
//!  a line of syslog, or of an audit   … op=veritrail-checkpoint origin="host/5f0c…e1" size=3
//!  log (TRUSTED_APP, 1121)              hash=CsUY…= sig=Az3g… …
//! ```
//!
//! The line says all that the note says, so the note is made of it again and checked like any other.

use record::value::{decode_hex, push_untrusted};

use crate::checkpoint::{Checkpoint, split};
use crate::note::Note;

/// What a line has that holds a checkpoint.
pub const MARK: &str = "op=veritrail-checkpoint ";

/// Anchors that are read from one file, at most: each second one, for a week and more.
pub const MOST: usize = 1 << 20;

/// A checkpoint kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Where in its file: `note 3`, `line 17`.
    pub place: String,
    /// The signed note.
    pub note: String,
}

impl Anchor {
    /// The trail that it says it is of; none where it is no checkpoint.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        let note = Note::parse(self.note.as_bytes()).ok()?;
        Some(Checkpoint::parse(note.text).ok()?.origin)
    }
}

/// The note as one line of text, without a line feed, an apostrophe or a byte that is not printable
/// ASCII: fit for the body of a user message of audit. None if it is no note with one signature.
#[must_use]
pub fn to_line(note: &str) -> Option<String> {
    let parsed = Note::parse(note.as_bytes()).ok()?;
    let checkpoint = Checkpoint::parse(parsed.text).ok()?;
    let signed = note.strip_suffix('\n')?.rsplit_once("\n\u{2014} ")?.1;
    let (name, signature) = signed.rsplit_once(' ')?;
    if name != checkpoint.origin || parsed.signatures() != 1 {
        return None;
    }
    let hash = parsed.text.lines().nth(2)?;
    let mut line = format!("{MARK}origin=").into_bytes();
    match name.contains('\'') {
        // An apostrophe would end the body of a user message.
        true => record::value::push_hex(&mut line, name.as_bytes()),
        false => push_untrusted(&mut line, name.as_bytes()),
    }
    line.extend_from_slice(
        format!(" size={} hash={hash} sig={signature}", checkpoint.size).as_bytes(),
    );
    String::from_utf8(line).ok()
}

/// The note of such a line, wherever in it the mark stands; none if it has no mark, or not all of a
/// checkpoint behind it.
#[must_use]
pub fn from_line(line: &[u8]) -> Option<String> {
    let at = memchr::memmem::find(line, MARK.as_bytes())? + MARK.len();
    let text = std::str::from_utf8(line.get(at..)?.split(|byte| *byte == b'\'').next()?).ok()?;
    let mut words = text.split_ascii_whitespace();
    let mut value = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=');
    let (origin, size, hash, signature) =
        (value("origin")?, value("size")?, value("hash")?, value("sig")?);
    let origin = match origin.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"')?.to_owned(),
        None => String::from_utf8(decode_hex(origin.as_bytes())?).ok()?,
    };
    Some(format!("{origin}\n{size}\n{hash}\n\n\u{2014} {origin} {signature}\n"))
}

/// All the checkpoints in a file, [`MOST`] of them at most: the notes it consists of, or those in its
/// lines if one of these has the mark.
#[must_use]
pub fn read(text: &[u8]) -> Vec<Anchor> {
    if memchr::memmem::find(text, MARK.as_bytes()).is_none() {
        let text = String::from_utf8_lossy(text);
        let note = |(n, note): (usize, &str)| Anchor {
            place: format!("note {}", n + 1),
            note: note.to_owned(),
        };
        return split(&text).take(MOST).enumerate().map(note).collect();
    }
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    let anchor = |(n, line): (usize, &[u8])| {
        Some(Anchor { place: format!("line {}", n + 1), note: from_line(line)? })
    };
    lines.filter_map(anchor).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::Range;
    use crate::note::SecretKey;

    fn note(host: &str) -> String {
        let key = SecretKey::from_seed(&format!("{host}/{:032x}", 7), &[9; 32]).unwrap();
        Checkpoint::of(key.public().name(), &Range::new()).sign(&key)
    }

    #[test]
    fn a_note_is_a_line_and_the_line_is_the_note() {
        for host in ["web1", "o'neill", "h\u{f6}st"] {
            let note = note(host);
            let line = to_line(&note).unwrap();
            assert!(line.len() < 1000 && line.bytes().all(|b| (b' '..0x7f).contains(&b)), "{line}");
            assert!(!line.contains('\''), "{line}");
            for around in [
                line.clone(),
                format!("<85>1 - - veritrail - checkpoint - {line}"),
                format!(
                    "type=TRUSTED_APP msg=audit(1.000:2): pid=1 uid=0 msg='{line} res=success'\u{1d}UID=\"root\""
                ),
            ] {
                assert_eq!(from_line(around.as_bytes()).unwrap(), note, "{around}");
            }
            for end in 0..line.len() - 100 {
                let cut = from_line(&line.as_bytes()[..end]);
                assert!(cut.is_none_or(|cut| cut != note));
            }
        }
        assert_eq!(to_line("nothing"), None);
        assert_eq!(from_line(b"op=veritrail-checkpoint origin=\" size=1 hash=a sig=b"), None);
    }

    #[test]
    fn a_file_is_of_notes_or_of_lines() {
        let note = note("web1");
        let line = to_line(&note).unwrap();
        let notes = read(format!("{note}\n{note}").as_bytes());
        assert_eq!(notes.iter().map(|a| &a.place[..]).collect::<Vec<_>>(), ["note 1", "note 2"]);
        assert!(notes.iter().all(|anchor| anchor.note == note));
        assert_eq!(notes[0].origin().unwrap(), format!("web1/{:032x}", 7));
        let log = format!("type=LOGIN msg=audit(1.000:1): pid=1\n\u{0}\n{line}\nx {MARK}y\n");
        let lines = read(log.as_bytes());
        assert_eq!(lines, [Anchor { place: "line 3".into(), note }]);
        assert_eq!(read(b""), []);
        assert_eq!(read(b"\xff\xfe")[0].origin(), None);
    }
}
