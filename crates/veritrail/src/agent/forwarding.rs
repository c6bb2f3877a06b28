//! How the forwarder does, by what it leaves in its directory: told in the trail and to whoever asks. The
//! forwarder itself writes no records (docs/decisions/0010).

use std::path::{Path, PathBuf};

use record::write::Body;
use serde::{Deserialize, Serialize};

use super::journal::OwnRecord;
use crate::config::Config;
use crate::forward::{self, State};

/// What `agent status` says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forward {
    pub(crate) server: String,
    /// `working`, `failing`, or `absent`: no forwarder runs.
    pub(crate) state: String,
    /// Why it fails.
    pub(crate) reason: Option<String>,
    /// Seconds since 1970: since when it is so.
    pub(crate) since: u64,
    /// Leaves that the server has read.
    pub(crate) confirmed: u64,
    /// Leaves that it has not.
    pub(crate) lag_leaves: u64,
    /// How old the first of them is, in seconds.
    pub(crate) lag_seconds: u64,
    /// Leaves that retention took before they were sent.
    pub(crate) gone: u64,
}

/// Looks after the forwarder.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// Its directory; none where nothing is forwarded.
    dir: Option<PathBuf>,
    /// What was seen last.
    seen: Option<State>,
    shown: Option<Forward>,
}

impl Forwarding {
    pub(super) fn new(config: &Config) -> Forwarding {
        let dir = config.forward().map(|_| config.forward_state());
        // What it was before this agent is on record.
        let seen = dir.as_deref().and_then(|dir| forward::read(dir).ok()?);
        Forwarding { dir, seen, shown: None }
    }

    /// What there is to record since the last look, `now` seconds since 1970.
    pub(super) fn look(&mut self, now: u64) -> Vec<OwnRecord> {
        let Some(state) = self.dir.as_deref().and_then(|dir| forward::read(dir).ok()?) else {
            self.shown = None;
            return Vec::new();
        };
        let mut records = Vec::new();
        let before = self.seen.take().unwrap_or_default();
        if state.failing.is_some() != before.failing.is_some() {
            let word = if state.failing.is_some() { "failing" } else { "working" };
            let body = Body::new()
                .phrase("server", &state.server)
                .word("state", word)
                .word("confirmed", state.confirmed)
                .word("waiting", state.end.saturating_sub(state.confirmed));
            let body = match &state.failing {
                Some(why) => body.phrase("reason", why),
                None => body,
            };
            records.push(OwnRecord("VT_FORWARD", body));
        }
        // Another trail begins anew; what a forger writes makes no more than one record.
        let gone = state.gone.saturating_sub(before.gone);
        if gone > 0 {
            let body =
                Body::new().word("source", "forward").word("leaves", gone).word("count", "exact");
            records.push(OwnRecord("VT_GAP", body));
        }
        self.shown = Some(shown(&state, now));
        self.seen = Some(state);
        records
    }

    pub(super) fn shown(&self) -> Option<Forward> {
        self.shown.clone()
    }
}

fn shown(state: &State, now: u64) -> Forward {
    let runs = state.pid != 0 && Path::new(&format!("/proc/{}", state.pid)).exists();
    let word = match (&state.failing, runs) {
        (_, false) => "absent",
        (Some(_), true) => "failing",
        (None, true) => "working",
    };
    let oldest = state.oldest.map(|millis| now.saturating_sub(millis / 1000));
    Forward {
        server: state.server.clone(),
        state: word.into(),
        reason: state.failing.clone(),
        since: state.since,
        confirmed: state.confirmed,
        lag_leaves: state.end.saturating_sub(state.confirmed),
        lag_seconds: oldest.unwrap_or(0),
        gone: state.gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(records: &[OwnRecord]) -> Vec<String> {
        let text = |body: &Body| String::from_utf8(body.as_bytes().to_vec()).unwrap();
        records.iter().map(|OwnRecord(kind, body)| format!("{kind} {}", text(body))).collect()
    }

    #[test]
    fn a_change_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let write = |state: &State| {
            let text = serde_json::to_vec(state).unwrap();
            std::fs::write(dir.path().join("state.json"), text).unwrap();
        };
        let mut forwarding = Forwarding { dir: Some(dir.path().into()), ..Forwarding::default() };
        assert!(forwarding.look(0).is_empty() && forwarding.shown().is_none());
        let mut state = State { server: "h:1".into(), end: 9, confirmed: 2, ..State::default() };
        state.oldest = Some(40_000);
        write(&state);
        assert!(forwarding.look(100).is_empty());
        let shown = forwarding.shown().unwrap();
        assert_eq!((shown.state.as_str(), shown.lag_leaves, shown.lag_seconds), ("absent", 7, 60));
        state.failing = Some("refused".into());
        state.pid = std::process::id();
        write(&state);
        let told = bodies(&forwarding.look(100));
        let [said] = &told[..] else { panic!("{told:?}") };
        assert!(said.starts_with("VT_FORWARD server="), "{said}");
        assert!(said.contains("state=failing confirmed=2 waiting=7"), "{said}");
        assert!(forwarding.look(100).is_empty());
        assert_eq!(forwarding.shown().unwrap().state, "failing");
        (state.failing, state.gone) = (None, 3);
        write(&state);
        let told = bodies(&forwarding.look(100));
        assert!(told[0].contains("state=working"), "{told:?}");
        assert_eq!(told[1], "VT_GAP source=forward leaves=3 count=exact");
        // What is no state says nothing.
        std::fs::write(dir.path().join("state.json"), "{").unwrap();
        assert!(forwarding.look(100).is_empty());
    }
}
