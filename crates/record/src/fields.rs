//! The fields of a record's body.
//!
//! A body is `key=value` separated by blanks, with exceptions that real records
//! have. What this iterator does with each:
//!
//! | text | field |
//! |---|---|
//! | `comm="a b"` | the value ends with the word, if that ends in `"`, else at the next `"`, if that ends a word (there is no escaping) |
//! | `comm="a` | no closing quote: one missing quote must not swallow the fields after it, so a literal up to the next blank, its `"` included |
//! | `msg='...'`, `error_msg='...'` | free text: the value ends at the last `'` of the body, or at its end |
//! | `acct='a b'` | as with `"` |
//! | `subj==unconfined` | value `=unconfined`, as `ausearch -i` prints it (the 2021 posting wrote `subj==`) |
//! | `avc: denied { read }` | four words, each a field with an empty key |
//! | `uid>5`, `fowner<7` | the operator is kept ([`Field::op`]; INTEGRITY_POLICY_RULE) |
//! | `cause=signed policy required comm=` | `cause` and `op` go on over bare words, up to the next word with a `=` |
//! | `proctitle=perl -e sleep 1` | unquoted, it is hex or interpreted text, and the last field: up to the end |
//! | `text=hello from "user" exe=` | `text` goes on up to the last ` exe=` of the body (`auditctl -m` escapes nothing) |
//! | `a=1, b=2` | one comma at the end of an unquoted value, or after a closing quote, separates (very old records; auparse does the same) |
//! | `saddr={ saddr_fam=local path=/x }` | interpreted addresses: up to the next ` }` |
//!
//! Nothing is lost: the [`Field::raw`] of all fields and [`Fields::rest`] of what
//! then remains, one after the other, are the body.

use std::num::NonZero;

use memchr::{memchr, memmem, memrchr};

use crate::scan::Marks;
use crate::value::Value;

/// One field of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// What stands before the operator; empty for a bare word.
    pub key: &'a [u8],
    /// `=`, or `<` or `>` in the rules of INTEGRITY_POLICY_RULE; `=` for a bare word.
    pub op: u8,
    /// What stands after the operator, or the bare word.
    pub value: Value<'a>,
    /// All bytes of the field, with the separators before it.
    pub raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// The fields inside a `msg='...'` of a user message.
    #[must_use]
    pub fn inner(&self) -> Option<Fields<'a>> {
        match self.value {
            Value::Single(text) if self.key == b"msg" => Some(Fields::new(text)),
            _ => None,
        }
    }
}

/// Iterator over the fields of a body; see the module for the rules.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    body: &'a [u8],
    at: usize,
    /// The marks from `at` on, as far as they are known.
    marks: Marks,
}

impl<'a> Fields<'a> {
    /// The fields of `body`: what follows the `): ` of a record, or the text of
    /// a tail.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Fields<'a> {
        Fields { body, at: 0, marks: Marks::default() }
    }

    /// What has not been read yet. After the last field: the separators at the
    /// end of the body.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        &self.body[self.at..]
    }

    /// The value of the first field called `key` from here on.
    #[must_use]
    pub fn find_value(mut self, key: &[u8]) -> Option<Value<'a>> {
        self.find(|field| field.key == key).map(|field| field.value)
    }

    /// The same fields with those inside `msg='...'` in its place.
    #[must_use]
    pub fn flat(self) -> Flat<'a> {
        Flat { outer: self, inner: None }
    }

    /// Where the value that starts at `from` ends, quotes included, and what it is.
    fn value(&self, key: &[u8], from: usize) -> (Value<'a>, usize) {
        let rest = &self.body[from..];
        match rest.first() {
            Some(b'"') => {
                if let Some(end) = closing(b'"', rest) {
                    return (Value::Quoted(&rest[1..end]), from + end + 1);
                }
            }
            Some(b'\'') => {
                if matches!(key, b"msg" | b"error_msg") {
                    let end = memrchr(b'\'', &rest[1..]).map_or(rest.len(), |end| end + 1);
                    return (Value::Single(&rest[1..end]), (from + end + 1).min(self.body.len()));
                }
                if let Some(end) = closing(b'\'', rest) {
                    return (Value::Single(&rest[1..end]), from + end + 1);
                }
            }
            Some(b'{') => {
                // An address is short; the bound keeps hostile text linear.
                let near = &rest[..rest.len().min(512)];
                if let Some(end) = memmem::find(near, b" }") {
                    return (Value::Literal(&rest[..end + 2]), from + end + 2);
                }
            }
            _ => {}
        }
        let mut end = token_end(rest);
        match key {
            b"cause" | b"op" => {
                while let Some(next) = bare_word(rest, end) {
                    end = next;
                }
            }
            b"proctitle" => end = rest.len(),
            b"text" => end = memmem::rfind(rest, b" exe=").unwrap_or(rest.len()),
            _ => {}
        }
        if end > 0 && rest[end - 1] == b',' {
            end -= 1;
        }
        (Value::Literal(&rest[..end]), from + end)
    }
}

/// Where the quote stands that closes the one at the start: at the end of the
/// word, or it is the next one and ends a word. (To look further would cost the
/// square of a hostile line's length.)
fn closing(quote: u8, text: &[u8]) -> Option<usize> {
    let word = &text[..token_end(text)];
    let word = word.strip_suffix(b",").unwrap_or(word);
    if word.len() > 1 && word.ends_with(&[quote]) {
        return Some(word.len() - 1);
    }
    let end = memchr(quote, &text[1..])? + 1;
    let ends = match text.get(end + 1) {
        None | Some(b' ') => true,
        Some(b',') => matches!(text.get(end + 2), None | Some(b' ')),
        Some(_) => false,
    };
    ends.then_some(end)
}

/// Where the token at the start of `text` ends: at the first blank.
fn token_end(text: &[u8]) -> usize {
    memchr(b' ', text).unwrap_or(text.len())
}

/// The end of the word after the blank at `from`, if it is one without `=`.
fn bare_word(text: &[u8], from: usize) -> Option<usize> {
    let word = text.get(from + 1..)?;
    let end = token_end(word);
    (end > 0 && !word[..end].contains(&b'=')).then_some(from + 1 + end)
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        if self.at == self.body.len() {
            return None;
        }
        self.plain().or_else(|| self.any())
    }
}

impl<'a> Fields<'a> {
    /// The next field if it is what nearly all are: `key=word` or `key="word"`,
    /// within 64 bytes. Gives what [`Fields::any`] would.
    #[inline]
    fn plain(&mut self) -> Option<Field<'a>> {
        let mut marks = self.marks;
        let mut skip = marks.skip_blank();
        if marks.blank == 0 {
            marks = Marks::of(self.body.get(self.at..)?);
            skip = marks.skip_blank();
        }
        let length = NonZero::new(marks.blank)?.trailing_zeros() as usize;
        let equals = NonZero::new(marks.equals)?.trailing_zeros() as usize;
        let raw = self.body.get(self.at..self.at + skip + length)?;
        let token = raw.get(skip..)?;
        let (key, value) = (token.get(..equals)?, token.get(equals + 1..)?);
        let value = match value {
            [b'"', text @ .., b'"'] => Value::Quoted(text),
            [b'"' | b'\'' | b'{', ..] | [.., b','] => return None,
            _ => Value::Literal(value),
        };
        let mut next = marks.after(length);
        self.marks = next;
        match key {
            // No field, or one with a rule of its own.
            [] | [b',', ..] | b"text" | b"proctitle" => return None,
            // These go on over bare words: the next must be seen to have a `=`.
            b"op" | b"cause" => {
                next.skip_blank();
                if next.equals.trailing_zeros() >= next.blank.trailing_zeros() {
                    return None;
                }
            }
            _ => {}
        }
        self.at += raw.len();
        Some(Field { key, op: b'=', value, raw })
    }

    /// The next field, whatever it looks like.
    #[cold]
    #[inline(never)]
    fn any(&mut self) -> Option<Field<'a>> {
        let body = self.body;
        let start = self.at;
        self.marks = Marks::default();
        let from = start + body[start..].iter().position(|b| !matches!(b, b' ' | b','))?;
        let token = &body[from..from + token_end(&body[from..])];
        let operator = match memchr(b'=', token) {
            Some(0) => None,
            Some(at) => Some(at),
            None => token
                .iter()
                .position(|b| matches!(b, b'<' | b'>'))
                .filter(|at| *at > 0 && token[..*at].iter().all(|b| is_key(*b))),
        };
        let Some(operator) = operator else {
            self.at = from + token.len();
            let raw = &body[start..self.at];
            return Some(Field { key: b"", op: b'=', value: Value::Literal(token), raw });
        };
        let key = &token[..operator];
        let (value, end) = self.value(key, from + operator + 1);
        self.at = end;
        Some(Field { key, op: token[operator], value, raw: &body[start..end] })
    }
}

fn is_key(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

/// See [`Fields::flat`].
#[derive(Clone, Debug)]
pub struct Flat<'a> {
    outer: Fields<'a>,
    inner: Option<Fields<'a>>,
}

impl<'a> Iterator for Flat<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            if let Some(inner) = &mut self.inner {
                match inner.next() {
                    Some(field) => return Some(field),
                    None => self.inner = None,
                }
            }
            let field = self.outer.next()?;
            match field.inner() {
                Some(inner) => self.inner = Some(inner),
                None => return Some(field),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each field as `key op value`, the kind of quotes kept.
    fn shown(body: &str) -> Vec<String> {
        Fields::new(body.as_bytes())
            .map(|field| {
                let (open, close) = match field.value {
                    Value::Literal(_) => ("", ""),
                    Value::Quoted(_) => ("\"", "\""),
                    Value::Single(_) => ("'", "'"),
                };
                format!(
                    "{}{}{open}{}{close}",
                    String::from_utf8_lossy(field.key),
                    if field.key.is_empty() { ' ' } else { field.op as char },
                    String::from_utf8_lossy(field.value.text())
                )
            })
            .collect()
    }

    #[test]
    fn the_exceptions_that_real_records_have() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            (" ", &[]),
            ("a=1", &["a=1"]),
            (" a=  b=2 ", &["a=", "b=2"]),
            ("subj==unconfined dev=254:3", &["subj==unconfined", "dev=254:3"]),
            (
                "dev=254:3 error_msg='Invalid root digest' res=0",
                &["dev=254:3", "error_msg='Invalid root digest'", "res=0"],
            ),
            ("error_msg='can't' res=0", &["error_msg='can't'", "res=0"]),
            (
                "rule=\"DEFAULT op=EXECUTE action=DENY\" x=1",
                &["rule=\"DEFAULT op=EXECUTE action=DENY\"", "x=1"],
            ),
            (
                "avc:  denied  { read } for  pid=1",
                &[" avc:", " denied", " {", " read", " }", " for", "pid=1"],
            ),
            (
                "action=measure uid>5 fowner<7 mask=^MAY_READ res=1",
                &["action=measure", "uid>5", "fowner<7", "mask=^MAY_READ", "res=1"],
            ),
            (
                "op=policy_update cause=signed policy required comm=\"sh\"",
                &["op=policy_update", "cause=signed policy required", "comm=\"sh\""],
            ),
            ("cause=failed(directio) comm=\"h\"", &["cause=failed(directio)", "comm=\"h\""]),
            ("a=1, b=\"x\", c=3,", &["a=1", "b=\"x\"", "c=3"]),
            ("contid=2,^1,3,^1", &["contid=2,^1,3,^1"]),
            ("comm=\"cut", &["comm=\"cut"]),
            ("comm=\"a b=1", &["comm=\"a", "b=1"]),
            ("path=\"a\"b c=1", &["path=\"a\"b", "c=1"]),
            ("path=\"a\"b\" c=1", &["path=\"a\"b\"", "c=1"]),
            ("acct='a b' x=1", &["acct='a b'", "x=1"]),
            ("pid=1 msg='op=x res=success'", &["pid=1", "msg='op=x res=success'"]),
            ("pid=1 msg='op=x", &["pid=1", "msg='op=x'"]),
            ("a2_len=9 a2[0]=61 a2[1]=62", &["a2_len=9", "a2[0]=61", "a2[1]=62"]),
            (
                "SADDR={ saddr_fam=inet laddr=127.0.0.1 lport=1 } X=1",
                &["SADDR={ saddr_fam=inet laddr=127.0.0.1 lport=1 }", "X=1"],
            ),
            ("=a ==b", &[" =a", " ==b"]),
        ];
        for (body, fields) in cases {
            assert_eq!(shown(body), *fields, "{body}");
        }
    }

    #[test]
    fn a_user_message_opens_up() {
        let body = b"pid=1 uid=0 msg='text=hello from \"user\" exe=\"/usr/sbin/auditctl\" addr=? res=success'";
        let flat: Vec<_> = Fields::new(body).flat().map(|f| (f.key, f.value)).collect();
        assert_eq!(
            flat,
            [
                (&b"pid"[..], Value::Literal(b"1")),
                (b"uid", Value::Literal(b"0")),
                (b"text", Value::Literal(b"hello from \"user\"")),
                (b"exe", Value::Quoted(b"/usr/sbin/auditctl")),
                (b"addr", Value::Literal(b"?")),
                (b"res", Value::Literal(b"success")),
            ]
        );
    }

    fn body() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            Just(b' '),
            Just(b'='),
            Just(b'"'),
            Just(b'\''),
            Just(b','),
            Just(b'{'),
            Just(b'}'),
            Just(b'>'),
            Just(b'a'),
            any::<u8>(),
        ];
        let piece = prop_oneof![
            4 => proptest::collection::vec(byte, 0..30),
            1 => proptest::sample::select(vec![
                "op=a b ", "cause=x y z=", "key=\"value\" ", " k=v", "text=a exe=", "msg='a=b' ",
                "proctitle=6173", "a=0123456789012345678901234567890123456789012345678901234567890",
            ]).prop_map(|text| text.as_bytes().to_vec()),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_short_way_gives_what_the_long_way_gives(body in body()) {
            let (mut short, mut long) = (Fields::new(&body), Fields::new(&body));
            loop {
                let (one, other) = (short.next(), long.any());
                prop_assert_eq!(one, other);
                prop_assert_eq!(short.rest(), long.rest());
                if one.is_none() {
                    break;
                }
            }
        }

        #[test]
        fn no_byte_is_lost(body in body()) {
            let mut fields = Fields::new(&body);
            let mut back = Vec::new();
            for field in fields.by_ref() {
                prop_assert!(!field.raw.is_empty());
                back.extend_from_slice(field.raw);
            }
            back.extend_from_slice(fields.rest());
            prop_assert_eq!(back, body);
        }
    }
}
