//! Requests to audit, each with its answer.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::error::{Capability, Error};
use super::message::{
    ACKNOWLEDGE, Features, ReplyBody, Setting, Status, equivalent, feature_for_ever, kind, replies,
    request,
};
use super::socket::Socket;
use crate::wait::readable;

/// A socket for requests.
#[derive(Debug)]
pub struct Control {
    socket: Socket,
    sequence: u32,
    buf: Vec<u8>,
}

/// What the kernel does where it loses a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing but counting it.
    Silent,
    /// A line in the kernel's log.
    Print,
    /// The machine stops.
    Panic,
}

/// What ends the answer to a request, besides the acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Nothing,
    /// One message of the request's own type.
    One,
    /// As many as there are, and the end of the list.
    List,
}

/// The answer to a request.
struct Answer {
    /// Of the acknowledgement.
    number: u32,
    data: Vec<Vec<u8>>,
}

impl Control {
    /// The longest text of a user message; the kernel cuts what is longer
    /// (`AUDIT_MESSAGE_TEXT_MAX`).
    pub const MESSAGE_BYTES: usize = 8560;

    /// The kernel answers at once; a list of rules takes it a moment.
    const PATIENCE: Duration = Duration::from_secs(10);
    /// More than any answer: a rule is 1,040 bytes and its strings, each at most a page.
    const ANSWER_BYTES: usize = 512 << 10;
    /// So many rules are somebody's mistake, and what the kernel's walk of them for each system
    /// call would do to the machine.
    const MOST_RULES: usize = 1 << 16;

    /// A socket; the kernel looks at who sends only with the first request.
    ///
    /// # Errors
    /// Where the kernel has no audit.
    pub fn open() -> Result<Self, Error> {
        let errno = |errno| Error::of("speak to audit", errno, Capability::Control);
        let socket = Socket::open().map_err(errno)?;
        socket.set_receive_buffer(1 << 20).map_err(errno)?;
        socket.bind(0).map_err(errno)?;
        Ok(Self { socket, sequence: 0, buf: vec![0; Self::ANSWER_BYTES] })
    }

    /// The state of audit.
    ///
    /// # Errors
    /// Where the kernel does not tell us.
    pub fn status(&mut self) -> Result<Status, Error> {
        let doing = "read audit's status";
        let answer = self.ask(doing, kind::GET, &[], Expected::One)?;
        Ok(Status::parse(answer.data.first().map_or(&[], Vec::as_slice)))
    }

    /// The switches of audit.
    ///
    /// # Errors
    /// As [`Control::status`].
    pub fn features(&mut self) -> Result<Features, Error> {
        let doing = "read audit's features";
        let answer = self.ask(doing, kind::GET_FEATURE, &[], Expected::One)?;
        Ok(Features::parse(answer.data.first().map_or(&[], Vec::as_slice)))
    }

    /// Makes records be made, or not.
    ///
    /// # Errors
    /// Where we may not, or audit is locked.
    pub fn set_enabled(&mut self, on: bool) -> Result<(), Error> {
        self.set("switch auditing on or off", Setting::Enabled(on.into())).map(drop)
    }

    /// Keeps anything from being changed until the machine is booted again.
    ///
    /// # Errors
    /// As [`Control::set_enabled`].
    pub fn lock(&mut self) -> Result<(), Error> {
        self.set("lock audit's configuration", Setting::Enabled(2)).map(drop)
    }

    /// See [`OnFailure`].
    ///
    /// # Errors
    /// As [`Control::set_enabled`].
    pub fn set_failure(&mut self, failure: OnFailure) -> Result<(), Error> {
        let value = match failure {
            OnFailure::Silent => 0,
            OnFailure::Print => 1,
            OnFailure::Panic => 2,
        };
        self.set("set what audit does on failure", Setting::Failure(value)).map(drop)
    }

    /// See [`Status::rate_limit`].
    ///
    /// # Errors
    /// As [`Control::set_enabled`].
    pub fn set_rate_limit(&mut self, per_second: u32) -> Result<(), Error> {
        self.set("set audit's rate limit", Setting::RateLimit(per_second)).map(drop)
    }

    /// See [`Status::backlog_limit`].
    ///
    /// # Errors
    /// As [`Control::set_enabled`].
    pub fn set_backlog_limit(&mut self, records: u32) -> Result<(), Error> {
        self.set("set audit's backlog limit", Setting::BacklogLimit(records)).map(drop)
    }

    /// See [`Status::backlog_wait_time`]; at most ten minutes.
    ///
    /// # Errors
    /// As [`Control::set_enabled`].
    pub fn set_backlog_wait_time(&mut self, jiffies: u32) -> Result<(), Error> {
        self.set("set audit's backlog wait time", Setting::BacklogWaitTime(jiffies)).map(drop)
    }

    /// Sets [`Status::lost`] to zero, and says what it was.
    ///
    /// # Errors
    /// As [`Control::set_enabled`].
    pub fn reset_lost(&mut self) -> Result<u32, Error> {
        self.set("reset audit's count of lost records", Setting::Lost)
    }

    /// Sets [`Status::backlog_wait_time_actual`] to zero, and says what it was.
    ///
    /// # Errors
    /// As [`Control::set_enabled`].
    pub fn reset_waited(&mut self) -> Result<u32, Error> {
        self.set("reset audit's sum of waiting", Setting::Waited)
    }

    /// Keeps login uids from being set again until the machine is booted again.
    ///
    /// # Errors
    /// As [`Control::set_enabled`].
    pub fn freeze_login_uids(&mut self) -> Result<(), Error> {
        let doing = "keep login uids as they are";
        let only_once = feature_for_ever(1 << 1);
        self.ask(doing, kind::SET_FEATURE, &only_once, Expected::Nothing).map(drop)
    }

    /// Takes what is not mounted there any more out of the trees of `dir` rules.
    ///
    /// # Errors
    /// As [`Control::set_enabled`].
    pub fn trim(&mut self) -> Result<(), Error> {
        self.ask("trim watched trees", kind::TRIM, &[], Expected::Nothing).map(drop)
    }

    /// Has rules that watch the tree at `mount` watch what is at `subtree` too.
    ///
    /// # Errors
    /// Where one of them is not there, and as [`Control::set_enabled`].
    pub fn make_equivalent(&mut self, mount: &[u8], subtree: &[u8]) -> Result<(), Error> {
        let doing = "make two trees one to audit";
        let both = equivalent(mount, subtree).ok_or(Error::Refused { doing })?;
        self.ask(doing, kind::MAKE_EQUIVALENT, &both, Expected::Nothing).map(drop)
    }

    /// Every rule in the form of the wire (`struct audit_rule_data`), in the kernel's order.
    ///
    /// # Errors
    /// As [`Control::status`].
    pub fn rules(&mut self) -> Result<Vec<Vec<u8>>, Error> {
        Ok(self.ask("list audit's rules", kind::LIST_RULES, &[], Expected::List)?.data)
    }

    /// Adds a rule in the form of the wire.
    ///
    /// # Errors
    /// Where the kernel has it, or does not take it.
    pub fn add_rule(&mut self, wire: &[u8]) -> Result<(), Error> {
        self.ask("add an audit rule", kind::ADD_RULE, wire, Expected::Nothing).map(drop)
    }

    /// Deletes a rule in the form of the wire.
    ///
    /// # Errors
    /// Where the kernel has no such rule.
    pub fn delete_rule(&mut self, wire: &[u8]) -> Result<(), Error> {
        self.ask("delete an audit rule", kind::DEL_RULE, wire, Expected::Nothing).map(drop)
    }

    /// Has the kernel make a record of `kind`, which is one of user space's: 1005, 1100-1199 or
    /// 2100-2999. The text stands in it between `msg='` and `'` as it is: what quotes it has is
    /// the sender's matter. Needs CAP_AUDIT_WRITE and works in any PID namespace.
    ///
    /// Success says that the kernel took it: where auditing is off, or a rule of the user list
    /// says never, there is no record.
    ///
    /// # Errors
    /// Where the kernel would refuse the type or cut the text, or does not let us.
    pub fn send_user(&mut self, kind: u16, text: &[u8]) -> Result<(), Error> {
        let doing = "send an audit message";
        let wrong = |why| Err(Error::Message { doing, why });
        if !matches!(kind, 1005 | 1100..=1199 | 2100..=2999) {
            return wrong("its type is none of user space's (1005, 1100-1199, 2100-2999)");
        }
        if text.is_empty() {
            return wrong("it has no text");
        }
        if text.len() > Self::MESSAGE_BYTES {
            return wrong("its text is longer than 8560 bytes");
        }
        if text.contains(&0) {
            return wrong("there is a NUL in its text, where the kernel would cut it");
        }
        // The kernel writes a NUL over the last byte.
        let text: Vec<u8> = text.iter().copied().chain([0]).collect();
        self.ask(doing, kind, &text, Expected::Nothing).map(drop)
    }

    fn set(&mut self, doing: &'static str, setting: Setting) -> Result<u32, Error> {
        Ok(self.ask(doing, kind::SET, &setting.payload(), Expected::Nothing)?.number)
    }

    /// Why the kernel said EPERM to what changes something.
    pub(super) fn denied(doing: &'static str) -> Error {
        let status = Self::open().and_then(|mut control| control.status());
        if status.is_ok_and(|status| status.is_locked()) {
            return Error::Locked { doing };
        }
        Error::of(doing, Errno::PERM, Capability::Control)
    }

    fn ask(
        &mut self,
        doing: &'static str,
        asked: u16,
        payload: &[u8],
        expected: Expected,
    ) -> Result<Answer, Error> {
        let capability = match asked {
            1000..=1099 if asked != 1005 => Capability::Control,
            _ => Capability::Write,
        };
        self.exchange(doing, asked, payload, expected)?.map_err(|errno| match (asked, errno) {
            (kind::ADD_RULE, Errno::EXIST) => Error::RuleExists { doing },
            (kind::DEL_RULE, Errno::NOENT) => Error::NoSuchRule { doing },
            (kind::SET | kind::ADD_RULE | kind::DEL_RULE, Errno::PERM) => Self::denied(doing),
            _ => Error::of(doing, errno, capability),
        })
    }

    /// Sends a request and reads until its answer is whole, or the errno of the refusal.
    fn exchange(
        &mut self,
        doing: &'static str,
        asked: u16,
        payload: &[u8],
        expected: Expected,
    ) -> Result<Result<Answer, Errno>, Error> {
        // Events have number 0.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let message =
            request(asked, ACKNOWLEDGE, self.sequence, payload).ok_or(Error::Refused { doing })?;
        if let Err(errno) = self.socket.send(&message) {
            return Ok(Err(errno));
        }
        let until = Instant::now() + Self::PATIENCE;
        let mut acknowledged = None;
        let mut ended = expected == Expected::Nothing;
        let mut data: Vec<Vec<u8>> = Vec::new();
        loop {
            let arrived = match self.socket.take(&mut self.buf) {
                Ok(Some(arrived)) => arrived,
                Ok(None) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if !readable(&self.socket, Some(left)).map_err(Error::io(doing))? {
                        return Err(Error::NoAnswer { doing, after: Self::PATIENCE });
                    }
                    continue;
                }
                Err(errno) => return Err(Error::Io { doing, source: errno.into() }),
            };
            if arrived.port != 0 {
                continue;
            }
            let malformed = |why| Error::Malformed { doing, why };
            let datagram = self.buf.get(..arrived.length).ok_or(malformed("it is too long"))?;
            for reply in replies(datagram) {
                let reply = reply.map_err(|_| malformed("a message in it is cut"))?;
                // What is left of a request that was given up.
                if reply.sequence != self.sequence {
                    continue;
                }
                match reply.body {
                    ReplyBody::Acknowledged(code) if code < 0 => {
                        return Ok(Err(Errno::from_raw_os_error(code.saturating_neg())));
                    }
                    ReplyBody::Acknowledged(code) => acknowledged = Some(code.cast_unsigned()),
                    ReplyBody::Done => ended = true,
                    ReplyBody::Data(kind, bytes) if kind == asked => {
                        if data.len() == Self::MOST_RULES {
                            return Err(malformed("there are more than 65536 rules"));
                        }
                        data.push(bytes.to_vec());
                        ended |= expected == Expected::One;
                    }
                    ReplyBody::Data(..) => {}
                }
            }
            if let Some(number) = acknowledged
                && ended
            {
                return Ok(Ok(Answer { number, data }));
            }
        }
    }
}
