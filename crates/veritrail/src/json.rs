//! Events as JSON, one schema for every verb that prints them (docs/formats/json.md).
//!
//! ```text
//! {"leaf":7,"node":null,"time":"2023-03-01T18:51:03.786Z","serial":1074,"boottime":12345,
//!  "src":"kernel","conf":"certain","contid":"123456","records":[
//!   {"type":"DM_EVENT","number":1339,"fields":{"module":"verity","sector":"1000"},"raw":"..."}]}
//! ```
//!
//! Bytes that are not UTF-8 stand as `{"hex":"6AFF"}` where a string would be, so
//! that nothing is lost and nothing is guessed.

use std::io::{self, Write};

use record::names::RecordType;
use record::stored::tail_value;
use record::units::LeafIndex;
use record::value::push_hex;
use record::{EventId, Line};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// Bytes of a record as a JSON string, or as `{"hex":"..."}` where they are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(self.0) {
            return serializer.serialize_str(text);
        }
        let mut hex = Vec::new();
        push_hex(&mut hex, self.0);
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("hex", &String::from_utf8_lossy(&hex))?;
        map.end()
    }
}

/// One event: its records, and what veritrail knows about it.
#[derive(Debug, Serialize)]
pub(crate) struct Event<'a> {
    /// Its place in the trail; null for an event of a plain log.
    leaf: Option<u64>,
    /// The host that wrote it, where the log says so.
    node: Option<Text<'a>>,
    /// When, in UTC with milliseconds; null for a time no calendar has.
    time: Option<String>,
    /// The kernel's serial, or one of ours.
    serial: u32,
    /// Nanoseconds since boot.
    boottime: Option<u64>,
    /// Where it came from: kernel, engine, bpf, kmsg, uevent, import.
    src: Option<Text<'a>>,
    /// How sure that is: certain, late, inferred, ambiguous, unknown.
    conf: Option<Text<'a>>,
    /// The audit container identifier, or the list of them, as written.
    contid: Option<Text<'a>>,
    records: Vec<Record<'a>>,
}

#[derive(Debug, Serialize)]
struct Record<'a> {
    /// The type's name, or the text that the log has for it.
    r#type: Kind<'a>,
    /// Its number; null where no table has the name.
    number: Option<u16>,
    fields: Fields<'a>,
    /// The line without veritrail's tail.
    raw: Text<'a>,
}

#[derive(Debug)]
enum Kind<'a> {
    Known(RecordType),
    Unnamed(Text<'a>),
}

impl Serialize for Kind<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Kind::Known(kind) => serializer.collect_str(kind),
            Kind::Unnamed(text) => text.serialize(serializer),
        }
    }
}

/// The fields in their order. A key that stands there twice has the list of its values.
#[derive(Debug)]
struct Fields<'a>(Vec<(&'a [u8], Vec<Text<'a>>)>);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, values) in &self.0 {
            // A key is a name; one that is not is shown with its bytes escaped.
            let key = key.escape_ascii().to_string();
            match values.as_slice() {
                [value] => map.serialize_entry(&key, value)?,
                values => map.serialize_entry(&key, values)?,
            }
        }
        map.end()
    }
}

impl<'a> Fields<'a> {
    fn new(line: &Line<'a>) -> Fields<'a> {
        let mut fields: Vec<(&'a [u8], Vec<Text<'a>>)> = Vec::new();
        for field in line.flat_fields() {
            // Bare words have no key; they are in `raw`.
            if field.key.is_empty() {
                continue;
            }
            let value = Text(field.value.text());
            match fields.iter_mut().find(|(key, _)| *key == field.key) {
                Some((_, values)) => values.push(value),
                None => fields.push((field.key, vec![value])),
            }
        }
        Fields(fields)
    }
}

impl<'a> Event<'a> {
    /// The event of these lines, which must not be none; `leaf` where it lies in a trail.
    /// Lines of a trail come from [`Line::parse_stored`], those of a log from [`Line::parse`].
    pub(crate) fn new(leaf: Option<LeafIndex>, lines: &[Line<'a>]) -> Option<Event<'a>> {
        let first = lines.first()?;
        let tail = |name| lines.iter().rev().find_map(|line| tail_value(line.own_tail()?, name));
        let contid = tail("CONTID").or_else(|| {
            let mut ids = lines.iter().filter(|l| l.effective_type() == RecordType::CONTAINER_ID);
            ids.find_map(|line| Some(line.fields().find_value(b"contid")?.text()))
        });
        let boottime = tail("VT_BT").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        Some(Event {
            leaf: leaf.map(|leaf| leaf.0),
            node: first.node().map(Text),
            time: time(first.id()),
            serial: first.serial(),
            boottime,
            src: tail("VT_SRC").map(Text),
            conf: tail("VT_CONF").map(Text),
            contid: contid.map(Text),
            records: lines.iter().map(Record::new).collect(),
        })
    }

    /// Writes the event as one line (JSON Lines).
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }
}

impl<'a> Record<'a> {
    fn new(line: &Line<'a>) -> Record<'a> {
        let kind = line.effective_type();
        let named = !kind.is_unnamed();
        let raw = line.raw();
        let own = line.own_tail().map_or(0, |tail| tail.len() + 1);
        Record {
            r#type: if named { Kind::Known(kind) } else { Kind::Unnamed(Text(line.type_text())) },
            number: named.then_some(kind.0),
            fields: Fields::new(line),
            raw: Text(&raw[..raw.len() - own - usize::from(line.has_cr())]),
        }
    }
}

/// The place of the event that this line ends.
pub(crate) fn leaf(line: &Line<'_>) -> Option<LeafIndex> {
    let text = tail_value(line.own_tail()?, "VT_LEAF")?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn time(id: EventId) -> Option<String> {
    let stamp = jiff::Timestamp::from_millisecond(i64::try_from(id.millis).ok()?).ok()?;
    Some(format!("{stamp:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(leaf: Option<u64>, lines: &[&[u8]]) -> String {
        let lines: Vec<_> = lines.iter().map(|line| Line::parse_stored(line).unwrap()).collect();
        let mut out = Vec::new();
        Event::new(leaf.map(LeafIndex), &lines).unwrap().write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_schema() {
        type Case<'a> = (Option<u64>, &'a [&'a [u8]], &'a str);
        let cases: [Case<'_>; 4] = [
            (
                Some(7),
                &[
                    b"node=h type=DM_EVENT msg=audit(1677619463.786:1074): module=verity sector=1",
                    b"node=h type=CONTAINER_ID msg=audit(1677619463.786:1074): contid=123\x1d\
                      VT_LEAF=7 VT_BT=5 VT_SRC=engine VT_CONF=certain",
                ],
                r#"{"leaf":7,"node":"h","time":"2023-02-28T21:24:23.786Z","serial":1074,"boottime":5,"src":"engine","conf":"certain","contid":"123","records":[{"type":"DM_EVENT","number":1339,"fields":{"module":"verity","sector":"1"},"raw":"node=h type=DM_EVENT msg=audit(1677619463.786:1074): module=verity sector=1"},{"type":"CONTAINER_ID","number":2901,"fields":{"contid":"123"},"raw":"node=h type=CONTAINER_ID msg=audit(1677619463.786:1074): contid=123"}]}"#,
            ),
            (
                None,
                &[b"type=NEW msg=audit(0.001:2): a=\"b\" a=c avc: d=\xff"],
                r#"{"leaf":null,"node":null,"time":"1970-01-01T00:00:00.001Z","serial":2,"boottime":null,"src":null,"conf":null,"contid":null,"records":[{"type":"NEW","number":null,"fields":{"a":["b","c"],"d":{"hex":"FF"}},"raw":{"hex":"747970653D4E4557206D73673D617564697428302E3030313A32293A20613D22622220613D63206176633A20643DFF"}}]}"#,
            ),
            (
                Some(0),
                &[b"type=1327 msg=audit(18446744073709551.615:1): msg='op=x res=0'\x1dUID=\"r\"\x1dVT_LEAF=0"],
                "{\"leaf\":0,\"node\":null,\"time\":null,\"serial\":1,\"boottime\":null,\"src\":null,\"conf\":null,\"contid\":null,\"records\":[{\"type\":\"PROCTITLE\",\"number\":1327,\"fields\":{\"op\":\"x\",\"res\":\"0\"},\"raw\":\"type=1327 msg=audit(18446744073709551.615:1): msg='op=x res=0'\\u001dUID=\\\"r\\\"\"}]}",
            ),
            (
                None,
                &[b"type=EOE msg=audit(1.002:3): "],
                r#"{"leaf":null,"node":null,"time":"1970-01-01T00:00:01.002Z","serial":3,"boottime":null,"src":null,"conf":null,"contid":null,"records":[{"type":"EOE","number":1320,"fields":{},"raw":"type=EOE msg=audit(1.002:3): "}]}"#,
            ),
        ];
        for (leaf, lines, expected) in cases {
            assert_eq!(json(leaf, lines), format!("{expected}\n"));
        }
    }
}
