//! The table of devices: what systemd's veritytab(5) holds, and a little more.
//!
//! ```text
//! # name  data-device     hash-device     roothash      options
//! usr     PARTUUID=783e…  PARTUUID=21dc…  36e3f740ad…   nofail,restart-on-corruption
//! data    /srv/data.img   /srv/data.hash  a5ee4b42f7…   superblock=no,data-blocks=512
//! ```
//!
//! Fields stand between blanks, options between commas (`\,` is a comma that separates nothing). A
//! line becomes the arguments of `verity open`: what they mean is decided there, and here only
//! whether they can be meant. A bad line spoils no other.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use block::fec::Roots;
use block::verity::{BlockSize, Digest, HashName, HashType, Salt};
use serde::Serialize;
use uuid::Uuid;

use crate::served::Name;

/// The largest table, in bytes.
pub(super) const MOST_BYTES: u64 = 1 << 20;
/// The most lines that describe a device.
const MOST_DEVICES: usize = 1024;

/// What was read.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tab {
    pub(super) devices: Vec<Entry>,
    pub(super) problems: Vec<Problem>,
}

/// A line that describes a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) data: String,
    pub(super) hash: String,
    pub(super) root_hash: String,
    /// As `verity open` has them.
    pub(super) options: Vec<String>,
    /// The signature that stands in the line itself, as DER.
    #[serde(skip)]
    pub(super) signature: Option<Vec<u8>>,
}

/// Why a line describes none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// Counted from 1.
    pub(super) line: usize,
    /// In characters, counted from 1.
    pub(super) column: usize,
    /// The first field.
    pub(super) name: Option<String>,
    pub(super) what: String,
    pub(super) hint: Option<String>,
}

/// What is wrong at a byte of a line.
struct Wrong {
    at: usize,
    what: String,
    hint: Option<String>,
}

impl Wrong {
    fn new(at: usize, what: impl Into<String>) -> Wrong {
        Wrong { at, what: what.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Wrong {
        self.hint = Some(hint.into());
        self
    }
}

/// What an option is followed by, and becomes.
#[derive(Clone, Copy)]
enum Takes {
    /// Nothing; it is the argument of `verity open`.
    Nothing,
    /// Nothing; it says when systemd starts the device and not how it is served.
    NoMeaning,
    /// Yes or no; no is the argument.
    YesOrNo,
    Count,
    /// As many parity bytes as a codeword can have.
    Roots,
    /// A size in bytes; K, M, G, T, P and E count in powers of 1024.
    Bytes,
    BlockSize,
    Format,
    Hash,
    Salt,
    Uuid,
    /// A device.
    Device,
    /// An absolute path.
    Path,
    /// An absolute path, or `base64:` and the signature itself.
    Signature,
}

/// Every option, with the argument of `verity open` that means the same.
const OPTIONS: &[(&str, Takes, &str)] = &[
    ("superblock", Takes::YesOrNo, "--no-superblock"),
    ("format", Takes::Format, "--format"),
    ("data-block-size", Takes::BlockSize, "--data-block-size"),
    ("hash-block-size", Takes::BlockSize, "--hash-block-size"),
    ("data-blocks", Takes::Count, "--data-blocks"),
    ("hash-offset", Takes::Bytes, "--hash-offset"),
    ("salt", Takes::Salt, "--salt"),
    ("uuid", Takes::Uuid, "--uuid"),
    ("hash", Takes::Hash, "--hash"),
    ("ignore-corruption", Takes::Nothing, "--ignore-corruption"),
    ("restart-on-corruption", Takes::Nothing, "--restart-on-corruption"),
    ("panic-on-corruption", Takes::Nothing, "--panic-on-corruption"),
    ("ignore-zero-blocks", Takes::Nothing, "--ignore-zero-blocks"),
    ("check-at-most-once", Takes::Nothing, "--check-at-most-once"),
    ("fec-device", Takes::Device, "--fec-device"),
    ("fec-offset", Takes::Bytes, "--fec-offset"),
    ("fec-roots", Takes::Roots, "--fec-roots"),
    ("root-hash-signature", Takes::Signature, "--root-hash-signature"),
    ("auto", Takes::NoMeaning, ""),
    ("noauto", Takes::NoMeaning, ""),
    ("nofail", Takes::NoMeaning, ""),
    ("_netdev", Takes::NoMeaning, ""),
    ("x-initrd.attach", Takes::NoMeaning, ""),
    ("x-veritrail.trail", Takes::Path, "--trail"),
    ("x-veritrail.direct-io", Takes::Nothing, "--direct-io"),
    ("x-veritrail.keyring", Takes::Path, "--keyring"),
];

/// At most one of these.
const MODES: [&str; 3] = ["ignore-corruption", "restart-on-corruption", "panic-on-corruption"];

/// Reads a table.
pub(super) fn parse(text: &[u8]) -> Tab {
    let mut tab = Tab::default();
    let mut lines = BTreeMap::new();
    for (line, bytes) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let text = String::from_utf8_lossy(bytes);
        if matches!(text.trim_ascii_start().chars().next(), None | Some('#')) {
            continue;
        }
        let name = text.split_ascii_whitespace().next().map(|name| match Name::parse(name) {
            Ok(_) => name.to_owned(),
            Err(_) => shown(name),
        });
        let mut problem = |Wrong { at, what, hint }: Wrong| {
            // A place behind what is not UTF-8 is not looked for.
            let column = text.get(..at).map_or(1, |before| before.chars().count() + 1);
            tab.problems.push(Problem { line, column, name: name.clone(), what, hint });
        };
        if lines.len() == MOST_DEVICES {
            problem(Wrong::new(0, format!("a table has at most {MOST_DEVICES} devices")));
            break;
        }
        let entry = match std::str::from_utf8(bytes) {
            Ok(text) => entry(line, text),
            Err(error) => Err(Wrong::new(error.valid_up_to(), "this is not UTF-8")),
        };
        let known = lines.insert(name.clone(), line);
        match (entry, known) {
            (Err(wrong), _) => problem(wrong),
            (Ok(entry), Some(first)) => problem(
                Wrong::new(0, format!("{} is described in line {first} already", entry.name))
                    .hint("remove one of the lines"),
            ),
            (Ok(entry), None) => tab.devices.push(entry),
        }
    }
    tab
}

/// A line that is no comment.
fn entry(line: usize, text: &str) -> Result<Entry, Wrong> {
    if let Some(at) = text.find(|c: char| c.is_control() && !c.is_ascii_whitespace()) {
        return Err(Wrong::new(at, "this is a control character"));
    }
    const FIELDS: [&str; 4] = ["volume-name", "data-device", "hash-device", "roothash"];
    let fields = fields(text);
    let missing = |missing: &str| {
        Wrong::new(text.trim_ascii_end().len(), format!("the {missing} is missing"))
            .hint("a line is: volume-name data-device hash-device roothash options")
    };
    let field = |n: usize| fields.get(n).copied().ok_or_else(|| missing(FIELDS[n]));
    let (name, data, hash, root) = (field(0)?, field(1)?, field(2)?, field(3)?);
    if let Some((at, _)) = fields.get(5) {
        return Err(Wrong::new(*at, "a line has five fields, and this is a sixth")
            .hint("options stand behind each other with commas and without blanks"));
    }
    Name::parse(name.1).map_err(|why| Wrong::new(name.0, why))?;
    let mut entry = Entry {
        line,
        name: name.1.to_owned(),
        data: device(data.1).map_err(|why| at(data, &why))?,
        hash: device(hash.1).map_err(|why| at(hash, &why))?,
        root_hash: root_hash(root)?,
        options: Vec::new(),
        signature: None,
    };
    match fields.get(4) {
        None | Some((_, "-" | "none")) => {}
        Some(options) => read_options(*options, &mut entry)?,
    }
    Ok(entry)
}

/// Only the options of a line, as `verity open` has them, and a signature that stands in them.
pub(super) fn options(text: &str) -> Result<(Vec<String>, Option<Vec<u8>>), String> {
    let mut entry = Entry {
        line: 0,
        name: String::new(),
        data: String::new(),
        hash: String::new(),
        root_hash: String::new(),
        options: Vec::new(),
        signature: None,
    };
    read_options((0, text), &mut entry).map_err(|wrong| wrong.what)?;
    Ok((entry.options, entry.signature))
}

fn at((at, text): (usize, &str), why: &str) -> Wrong {
    Wrong::new(at, format!("{} {why}", shown(text)))
}

/// What stands between blanks, with where it begins; at most six.
fn fields(text: &str) -> Vec<(usize, &str)> {
    let mut fields = Vec::new();
    let mut rest = 0;
    while let Some(blanks) = text[rest..].find(|c: char| !c.is_ascii_whitespace()) {
        let begin = rest + blanks;
        let end = text[begin..].find(|c: char| c.is_ascii_whitespace());
        rest = end.map_or(text.len(), |len| begin + len);
        fields.push((begin, &text[begin..rest]));
        if fields.len() == 6 {
            break;
        }
    }
    fields
}

fn root_hash((at, text): (usize, &str)) -> Result<String, Wrong> {
    if text == "-" {
        return Err(Wrong::new(at, "the root hash is not looked for in udev's properties")
            .hint("write it in the line: whoever can change the disk can change those"));
    }
    Digest::parse(text).map_err(|error| Wrong::new(at, error.to_string()))?;
    Ok(text.to_owned())
}

/// A path, or what udev calls a device with this tag.
fn device(text: &str) -> Result<String, String> {
    for (tag, folder) in [
        ("UUID=", "by-uuid"),
        ("LABEL=", "by-label"),
        ("PARTUUID=", "by-partuuid"),
        ("PARTLABEL=", "by-partlabel"),
    ] {
        match text.strip_prefix(tag) {
            Some("") => return Err("has nothing behind the =".into()),
            Some(value) => return Ok(format!("/dev/disk/{folder}/{}", udev_name(value))),
            None => {}
        }
    }
    path(text).map_err(|_| {
        "is no device: an absolute path, UUID=, LABEL=, PARTUUID= or PARTLABEL= is".into()
    })
}

fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("is no absolute path".into()) }
}

/// As udev spells a value in the name of a link: what is neither a letter or digit nor one of
/// `#+-.:=@_` is `\x` and its hexadecimal digits.
fn udev_name(value: &str) -> String {
    let mut name = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && !"#+-.:=@_".contains(c) {
            // A string takes everything that is written to it.
            let _ = write!(name, "\\x{:02x}", u32::from(c));
        } else {
            name.push(c);
        }
    }
    name
}

fn read_options((mut begin, text): (usize, &str), entry: &mut Entry) -> Result<(), Wrong> {
    let mut seen: Vec<&str> = Vec::new();
    for word in split_options(text) {
        let (at, len) = (begin, word.len());
        begin += len + 1;
        let word = unescape(word).map_err(|byte| {
            Wrong::new(at + byte, "only a comma or a backslash can stand behind a backslash")
        })?;
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), None),
        };
        let Some((name, takes, argument)) = OPTIONS.iter().find(|(known, ..)| *known == name)
        else {
            let wrong = Wrong::new(at, format!("there is no option {}", shown(name)));
            return Err(match nearest(name) {
                Some(near) => wrong.hint(format!("{near} is one")),
                None => wrong.hint("veritytab(5) and `veritrail serve --help` have them"),
            });
        };
        if seen.contains(name) {
            return Err(Wrong::new(at, format!("{name} is given twice")));
        }
        if let Some(other) = seen.iter().find(|other| MODES.contains(other) && MODES.contains(name))
        {
            return Err(Wrong::new(at, format!("{name} and {other} exclude each other")));
        }
        seen.push(name);
        let option = option(*takes, argument, value, entry);
        option.map_err(|why| Wrong::new(at, format!("{name} {why}")))?;
    }
    Ok(())
}

/// At the commas that no backslash stands before.
fn split_options(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c| {
        let splits = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        splits
    })
}

/// Without the backslashes, or where there is one too much.
fn unescape(word: &str) -> Result<String, usize> {
    let mut plain = String::with_capacity(word.len());
    let mut chars = word.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, c @ (',' | '\\'))) => plain.push(c),
                _ => return Err(at),
            },
            c => plain.push(c),
        }
    }
    Ok(plain)
}

/// Adds what an option means to the entry, or says what is wrong with its value.
fn option(
    takes: Takes,
    argument: &str,
    value: Option<&str>,
    entry: &mut Entry,
) -> Result<(), String> {
    match (takes, value) {
        (Takes::NoMeaning, None) => return Ok(()),
        (Takes::Nothing, None) => {
            entry.options.push(argument.to_owned());
            return Ok(());
        }
        (Takes::Nothing | Takes::NoMeaning, Some(_)) => return Err("takes no value".into()),
        (_, None) => return Err("needs a value: =".into()),
        (_, Some(_)) => {}
    }
    let text = value.unwrap_or_default();
    let given = |why: &dyn std::fmt::Display| format!("is {}: {why}", shown(text));
    let value = match takes {
        Takes::Nothing | Takes::NoMeaning => return Ok(()),
        Takes::YesOrNo => {
            match yes_or_no(text) {
                Some(true) => {}
                Some(false) => entry.options.push(argument.to_owned()),
                None => return Err(given(&"yes or no is meant")),
            }
            return Ok(());
        }
        Takes::Count => text.parse::<u64>().map_err(|_| given(&"no number"))?.to_string(),
        Takes::Roots => {
            let roots = text.parse().ok().and_then(Roots::new);
            let (least, most) = (Roots::MIN, Roots::MAX);
            roots.ok_or_else(|| given(&format!("{least} to {most} is meant")))?.get().to_string()
        }
        Takes::Bytes => bytes(text).ok_or_else(|| given(&"no size in bytes"))?.to_string(),
        Takes::BlockSize => {
            let bytes = bytes(text).ok_or_else(|| given(&"no size in bytes"))?;
            BlockSize::new("block size", bytes).map_err(|error| given(&error))?;
            bytes.to_string()
        }
        Takes::Format => {
            let number = text.parse().map_err(|_| given(&"no number"))?;
            HashType::from_number(number).map_err(|error| given(&error))?;
            number.to_string()
        }
        Takes::Hash => {
            HashName::parse(text).map_err(|error| given(&error))?;
            text.to_owned()
        }
        Takes::Salt => {
            Salt::parse(text).map_err(|error| given(&error))?;
            if text.is_empty() { "-".to_owned() } else { text.to_owned() }
        }
        Takes::Uuid => {
            Uuid::try_parse(text).map_err(|error| given(&error))?;
            text.to_owned()
        }
        Takes::Device => device(text).map_err(|why| format!("{} {why}", shown(text)))?,
        Takes::Path => path(text).map_err(|why| format!("{} {why}", shown(text)))?,
        Takes::Signature => match text.strip_prefix("base64:") {
            Some(digits) => {
                let der =
                    BASE64.decode(digits).map_err(|error| format!("is no base64: {error}"))?;
                entry.signature = Some(der);
                return Ok(());
            }
            None => path(text).map_err(|why| format!("{} {why}", shown(text)))?,
        },
    };
    entry.options.push(format!("{argument}={value}"));
    Ok(())
}

/// systemd's words for it.
fn yes_or_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// A number of bytes, or of 1024 to some power of them.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let power = text.chars().next_back().and_then(|last| "BKMGTPE".find(last));
    let digits = power.map_or(text, |_| &text[..text.len() - 1]);
    let factor = 1024_u64.pow(u32::try_from(power.unwrap_or(0)).ok()?);
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// The option that was meant, if one is not far.
fn nearest(name: &str) -> Option<&'static str> {
    /// Longer than any option with a slip or two.
    const LONGEST: usize = 40;
    if name.len() > LONGEST {
        return None;
    }
    let far = |known: &str| strsim::osa_distance(known, name);
    let (near, ..) = OPTIONS.iter().min_by_key(|(known, ..)| far(known))?;
    (far(near) <= (near.len() / 3).max(1)).then_some(near)
}

/// Text of others for a message: quoted where it has to be, and not endless.
fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let plain = |c: char| c.is_ascii_graphic();
    let cut = text.chars().count() > LONGEST;
    match (text.chars().all(plain), cut) {
        _ if text.is_empty() => "empty".to_owned(),
        (true, false) => text.to_owned(),
        (_, false) => format!("{text:?}"),
        (_, true) => format!("{:?}...", text.chars().take(LONGEST).collect::<String>()),
    }
}

#[cfg(test)]
mod tests;
