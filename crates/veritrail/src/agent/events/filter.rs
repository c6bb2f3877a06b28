//! What a reader wants: one JSON object on the first line.

use record::contid::ContIds;
use record::{Line, RecordType};
use serde::{Deserialize, Serialize};

use crate::agent::heard::Told;

/// The object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wanted {
    /// Events with a record of one of these types, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) r#type: Option<Few<String>>,
    /// Events about this device: MAJOR:MINOR, or a name of the device mapper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
    /// Events of this container, or of one in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) contid: Option<ContainerNumber>,
    /// Events that a rule with this key reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Events that matter so much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) class: Option<Few<Class>>,
    /// The first leaf; now: what comes from now on.
    pub(crate) from_leaf: From,
    /// Whether to wait for more at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) follow: Option<bool>,
    /// Seconds after which a line comes even if there is nothing to tell; none: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) heartbeat: Option<u64>,
    /// Milliseconds for which an event waits for records that stand beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) join_ms: Option<u64>,
}

/// One, or a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "one word or a list of words that are known here")]
pub(crate) enum Few<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> Few<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Few::One(one) => std::slice::from_ref(one),
            Few::Many(many) => many,
        }
    }
}

/// A container's number: as a string too, because not every reader of JSON has 64 bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "the number of a container")]
pub(crate) enum ContainerNumber {
    Number(u64),
    Text(String),
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "from_leaf is the number of a leaf, or \"now\"")]
pub(crate) enum From {
    Leaf(u64),
    Now(Now),
    /// The same as now.
    #[default]
    Unsaid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Now {
    Now,
}

/// How much an event matters (design section 4, Priorities).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// Integrity, container, time, policy, gap
    Integrity,
    /// Reported by a rule with a key
    Keyed,
    /// The rest
    Rest,
}

/// What may be asked for at most.
const MOST_WORDS: usize = 64;
const LONGEST_WORD: usize = 1024;
const HEARTBEAT: std::ops::RangeInclusive<u64> = 1..=3600;
const MOST_JOIN_MS: u64 = 10_000;

/// How long an event waits for its company where nobody says.
pub(super) const JOIN_MS: u64 = 100;

/// The same, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    types: Vec<RecordType>,
    device: Option<Vec<u8>>,
    contid: Option<u64>,
    key: Option<Vec<u8>>,
    classes: Vec<Class>,
}

impl Wanted {
    /// Reads the line.
    pub(super) fn read(line: &[u8]) -> Result<Wanted, String> {
        serde_json::from_slice(line).map_err(|error| {
            format!("the first line is not a filter: {error} (docs/formats/agent.md, events.sock)")
        })
    }

    pub(super) fn check(&self) -> Result<Filter, String> {
        let too_long = |what: &str| format!("{what}: more than {LONGEST_WORD} bytes");
        let text = |what: &str, text: &Option<String>| match text {
            Some(text) if text.len() > LONGEST_WORD => Err(too_long(what)),
            Some(text) => Ok(Some(text.clone().into_bytes())),
            None => Ok(None),
        };
        let words = self.r#type.as_ref().map_or(&[][..], Few::as_slice);
        let classes = self.class.as_ref().map_or(&[][..], Few::as_slice);
        if words.len() > MOST_WORDS || classes.len() > MOST_WORDS {
            return Err(format!("a list has {MOST_WORDS} words at most"));
        }
        let number = |word: &str| word.parse().map(RecordType).ok();
        let kind = |word: &String| {
            let kind = RecordType::from_name(word.as_bytes()).or_else(|| number(word));
            let shown: String = word.chars().take(64).collect();
            kind.ok_or_else(|| format!("type: {shown:?} is neither a record type nor a number"))
        };
        if let Some(beat) = self.heartbeat
            && !HEARTBEAT.contains(&beat)
        {
            return Err(format!("heartbeat: {beat} is not 1 to 3600 seconds"));
        }
        if let Some(join) = self.join_ms
            && join > MOST_JOIN_MS
        {
            return Err(format!("join_ms: {join} is more than {MOST_JOIN_MS}"));
        }
        let contid = match &self.contid {
            None => None,
            Some(ContainerNumber::Number(number)) => Some(*number),
            Some(ContainerNumber::Text(text)) => {
                Some(text.parse().map_err(|_| "contid: not a number of 64 bits".to_owned())?)
            }
        };
        Ok(Filter {
            types: words.iter().map(kind).collect::<Result<_, _>>()?,
            device: text("device", &self.device)?,
            contid,
            key: text("key", &self.key)?,
            classes: classes.to_vec(),
        })
    }
}

impl Filter {
    /// Whether an event is wanted; each thing that is asked for may be in another of its records.
    pub(super) fn matches(&self, lines: &[Line<'_>]) -> bool {
        let any = |so: &dyn Fn(&Line<'_>) -> bool| lines.iter().any(so);
        (self.types.is_empty() || any(&|line| self.types.contains(&line.effective_type())))
            && self.device.as_ref().is_none_or(|device| is_about(lines, device))
            && self.key.as_ref().is_none_or(|key| any(&|line| has_key(line, key)))
            && self.contid.is_none_or(|contid| any(&|line| is_of(line, contid)))
            && (self.classes.is_empty() || self.classes.contains(&class_of(lines)))
    }
}

fn class_of(lines: &[Line<'_>]) -> Class {
    if ours(lines).next().is_some() {
        return Class::Integrity;
    }
    let class = lines.iter().map(|line| Told::of(line).class).min().unwrap_or(trail::Class::Rest);
    match class {
        trail::Class::Integrity => Class::Integrity,
        trail::Class::Keyed => Class::Keyed,
        trail::Class::Rest => Class::Rest,
    }
}

/// The records that veritrail wrote. A process may send messages of our types to audit: those came from
/// the kernel, as the tail says that ends their leaf.
fn ours<'a>(lines: &'a [Line<'a>]) -> impl Iterator<Item = &'a Line<'a>> {
    let written = |at: usize| {
        let mut tails = lines.get(at..).unwrap_or_default().iter().filter_map(Line::own_tail);
        let source = tails.find_map(|tail| record::stored::tail_value(tail, "VT_SRC"));
        source.is_some_and(|source| ![&b"kernel"[..], b"auditd", b"import"].contains(&source))
    };
    let ours = move |(at, line): &(usize, &Line<'_>)| {
        let kind = line.record_type();
        kind.is_own() && kind != RecordType::VT_LINE && written(*at)
    };
    lines.iter().enumerate().filter(ours).map(|(_, line)| line)
}

/// Only what the kernel or we ourselves say of devices: in a user's message it can be anything.
fn is_about(lines: &[Line<'_>], device: &[u8]) -> bool {
    let names: [&[u8]; 4] = [b"dev", b"name", b"data_dev", b"hash_dev"];
    let says = |line: &Line<'_>| {
        line.fields().any(|field| {
            names.contains(&field.key)
                && (field.value.text() == device
                    || field.value.untrusted().is_some_and(|text| text == device))
        })
    };
    let of_kernel = |line: &&Line<'_>| {
        [RecordType::DM_CTRL, RecordType::DM_EVENT].contains(&line.effective_type())
    };
    ours(lines).chain(lines.iter().filter(of_kernel)).any(says)
}

fn has_key(line: &Line<'_>, key: &[u8]) -> bool {
    if line.effective_type().is_user_message() {
        return false;
    }
    let Some(value) = line.fields().find_value(b"key") else { return false };
    // Several keys of one event stand with 0x01 between them, and then in hex.
    value.untrusted().is_some_and(|keys| keys.split(|byte| *byte == 1).any(|one| one == key))
}

fn is_of(line: &Line<'_>, contid: u64) -> bool {
    let has = |text: &[u8]| {
        ContIds::parse(text).is_some_and(|ids| ids.items().any(|(id, _)| id.0 == contid))
    };
    let told = line.own_tail().and_then(|tail| record::stored::tail_value(tail, "CONTID"));
    if told.is_some_and(has) {
        return true;
    }
    let kinds = [RecordType::CONTAINER_ID, RecordType::CONTAINER_OP];
    kinds.contains(&line.effective_type())
        && line.fields().find_value(b"contid").is_some_and(|value| has(value.text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Result<Filter, String> {
        Wanted::read(text.as_bytes()).and_then(|wanted| wanted.check())
    }

    #[test]
    fn each_thing_that_is_asked_for_must_be_there() {
        let line = |text: &'static str| Line::parse_stored(text.as_bytes()).unwrap();
        let kernel = line(
            "type=DM_EVENT msg=audit(1.000:2): module=verity op=verify-data dev=7:1 sector=8 res=0",
        );
        let place = line(
            "type=VT_PLACE msg=audit(1.000:2): dev=253:0 name=\"root\" role=data\x1dVT_LEAF=2 VT_SRC=engine CONTID=4,^2",
        );
        let call =
            line("type=SYSCALL msg=audit(1.000:2): arch=c000003e syscall=16 pid=77 key=\"watch\"");
        let two =
            line("type=SYSCALL msg=audit(1.000:2): syscall=16 pid=77 key=776174636801656C7365");
        let user =
            line("type=USER msg=audit(1.000:2): pid=1 msg='dev=7:1 key=\"watch\" name=root'");
        let violation = [kernel, place];
        let forged = line(
            "type=VT_PLACE msg=audit(1.000:2): dev=253:0 name=\"root\"\x1dVT_LEAF=2 VT_SRC=kernel",
        );
        for text in [r#"{"device":"root"}"#, r#"{"class":"integrity"}"#] {
            assert!(!filter(text).unwrap().matches(&[forged]), "{text}");
        }
        for (text, of_violation, of_call, of_two, of_user) in [
            ("{}", true, true, true, true),
            (r#"{"type":"DM_EVENT"}"#, true, false, false, false),
            (r#"{"type":["1339","SYSCALL"],"follow":false}"#, true, true, true, false),
            (r#"{"type":"VT_PLACE","device":"7:1"}"#, true, false, false, false),
            (r#"{"device":"253:0"}"#, true, false, false, false),
            (r#"{"device":"root","class":"integrity"}"#, true, false, false, false),
            (r#"{"device":"root","class":["keyed","rest"]}"#, false, false, false, false),
            (r#"{"class":["keyed"]}"#, false, true, true, false),
            (r#"{"class":"rest"}"#, false, false, false, true),
            (r#"{"key":"watch"}"#, false, true, true, false),
            (r#"{"key":"else"}"#, false, false, true, false),
            (r#"{"contid":"2"}"#, true, false, false, false),
            (r#"{"contid":4}"#, true, false, false, false),
            (r#"{"contid":5}"#, false, false, false, false),
        ] {
            let filter = filter(text).unwrap();
            assert_eq!(filter.matches(&violation), of_violation, "{text}");
            assert_eq!(filter.matches(&[call]), of_call, "{text}");
            assert_eq!(filter.matches(&[two]), of_two, "{text}");
            assert_eq!(filter.matches(&[user]), of_user, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (text, said) in [
            ("", "the first line is not a filter"),
            ("\u{0}\u{1}", "the first line is not a filter"),
            ("[]extra", "the first line is not a filter"),
            (r#"{"typ":"DM_EVENT"}"#, "unknown field `typ`, expected one of `type`"),
            (r#"{"type":"DM_EVNT"}"#, "type: \"DM_EVNT\" is neither a record type nor a number"),
            (r#"{"class":"high"}"#, "one word or a list of words that are known here"),
            (r#"{"from_leaf":-1}"#, "from_leaf is the number of a leaf, or \"now\""),
            (r#"{"from_leaf":"then"}"#, "from_leaf is the number of a leaf"),
            (r#"{"heartbeat":0}"#, "heartbeat: 0 is not 1 to 3600 seconds"),
            (r#"{"join_ms":10001}"#, "join_ms: 10001 is more than 10000"),
            (r#"{"contid":"x"}"#, "contid: not a number of 64 bits"),
        ] {
            let error = filter(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        let long = "x".repeat(LONGEST_WORD + 1);
        assert!(filter(&format!(r#"{{"key":"{long}"}}"#)).unwrap_err().starts_with("key: more"));
        let many = vec!["\"USER\""; MOST_WORDS + 1].join(",");
        assert!(filter(&format!(r#"{{"type":[{many}]}}"#)).is_err());
        assert_eq!(Wanted::read(b"{}").unwrap().from_leaf, From::Unsaid);
        let now = Wanted::read(br#"{"from_leaf":"now"}"#).unwrap();
        assert_eq!(now.from_leaf, From::Now(Now::Now));
    }
}
