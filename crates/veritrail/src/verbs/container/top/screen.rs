//! A terminal that is drawn on, and as it was when that is over.

use std::io::{self, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcgetwinsize,
    tcsetattr,
};

use super::rows::Frame;

/// What is drawn goes to a screen of its own, so that what was there before is there again.
#[derive(Debug)]
pub(super) struct Screen {
    /// The terminal's keys as they were; none where they are not ours to hear.
    before: Option<Termios>,
}

/// ECMA-48, and xterm's second screen.
const OPEN: &[u8] = b"\x1b[?1049h\x1b[?25l";
const CLOSE: &[u8] = b"\x1b[?25h\x1b[?1049l";
const HOME: &[u8] = b"\x1b[H";
const END_OF_LINE: &str = "\x1b[K";
const REST: &[u8] = b"\x1b[J";

/// Where a terminal does not say how large it is.
const SIZE: (usize, usize) = (24, 80);

/// The last line, and what it says.
const KEYS: &str = "q: end";

impl Screen {
    pub(super) fn open() -> io::Result<Screen> {
        let before = if isatty(stdin()) { Some(tcgetattr(stdin())?) } else { None };
        if let Some(before) = &before {
            let mut keys = before.clone();
            // Each key at once and unseen; Ctrl-C is a signal still, and Ctrl-Z is none.
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            keys.special_codes[SpecialCodeIndex::VMIN] = 0;
            keys.special_codes[SpecialCodeIndex::VTIME] = 0;
            keys.special_codes[SpecialCodeIndex::VSUSP] = 0;
            tcsetattr(stdin(), OptionalActions::Now, &keys)?;
        }
        let screen = Screen { before };
        rustix::io::write(stdout(), OPEN)?;
        Ok(screen)
    }

    /// Draws over what was there.
    pub(super) fn draw(&self, frame: &Frame<'_>, out: &mut dyn Write) -> io::Result<()> {
        let (lines, columns) = match tcgetwinsize(stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
                (usize::from(size.ws_row), usize::from(size.ws_col))
            }
            _ => SIZE,
        };
        out.write_all(HOME)?;
        let last = self.before.is_some().then(|| KEYS.to_owned());
        let room = lines.saturating_sub(usize::from(last.is_some()));
        for (index, line) in frame.lines().take(room).chain(last).enumerate() {
            // Nothing is behind the last line, or the terminal would move up.
            let before = if index > 0 { "\r\n" } else { "" };
            let line = line.get(..line.len().min(columns)).unwrap_or_default();
            write!(out, "{before}{line}{END_OF_LINE}")?;
        }
        out.write_all(REST)?;
        out.flush()
    }

    /// Waits so long for a key. True where it is the one that ends it.
    pub(super) fn wants_end(&mut self, patience: Duration) -> bool {
        if self.before.is_none() {
            std::thread::sleep(patience);
            return false;
        }
        let keyboard = stdin();
        let mut waited = [PollFd::new(&keyboard, PollFlags::IN)];
        let patience = Timespec::try_from(patience).ok();
        // A signal ends the waiting too, and is looked at by whoever asks.
        if poll(&mut waited, patience.as_ref()).is_ok_and(|ready| ready > 0) {
            let mut keys = [0; 64];
            return match rustix::io::read(stdin(), &mut keys) {
                // The terminal has gone.
                Ok(0) => true,
                Ok(read) => keys.iter().take(read).any(|key| b"qQ\x03".contains(key)),
                Err(_) => false,
            };
        }
        false
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to tell where the terminal is gone.
        let _ = rustix::io::write(stdout(), CLOSE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}
