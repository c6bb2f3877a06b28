//! What whoever loaded the programs gives to whoever reads: descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::counters::Counters;
use super::labels::Labels;
use super::program::{Program, Statistics};
use super::ring::Reader;

/// Descriptors of the ring, the counters, the labels and the programs: duplicates, so that they outlive whoever
/// loaded them, but the programs run only as long as that one keeps its links.
#[derive(Debug)]
pub struct Shared {
    pub(super) ring: OwnedFd,
    pub(super) failures: OwnedFd,
    /// Where [`Program::Labels`] runs.
    pub(super) labels: Option<Labels>,
    /// A program may be several functions.
    pub(super) functions: Vec<(Program, OwnedFd)>,
}

/// The same, open.
#[derive(Debug)]
pub struct Opened {
    /// Of the events.
    pub reader: Reader,
    /// Of what was lost.
    pub counters: Counters,
    /// Of tasks; none where nothing has them inherited.
    pub labels: Option<Labels>,
    functions: Vec<(Program, OwnedFd)>,
}

/// What stands for a map of the labels where the others are programs.
const LABELS: [u8; 3] = [u8::MAX; 3];

impl Shared {
    /// The same once more.
    pub(super) fn try_clone(&self) -> io::Result<Shared> {
        let function = |(program, fd): &(Program, OwnedFd)| Ok((*program, fd.try_clone()?));
        Ok(Shared {
            ring: self.ring.try_clone()?,
            failures: self.failures.try_clone()?,
            labels: self.labels.as_ref().map(Labels::try_clone).transpose()?,
            functions: self.functions.iter().map(function).collect::<io::Result<_>>()?,
        })
    }

    /// What to send over a [`channel`](crate::channel): bytes that say what the descriptors are, and
    /// the descriptors.
    #[must_use]
    pub fn to_message(&self) -> (Vec<u8>, Vec<BorrowedFd<'_>>) {
        let numbers = self.functions.iter().map(|(program, _)| program.number());
        let mut bytes: Vec<_> = numbers.filter_map(|number| u8::try_from(number).ok()).collect();
        let programs = self.functions.iter().map(|(_, fd)| fd.as_fd());
        let fds = [self.ring.as_fd(), self.failures.as_fd()].into_iter().chain(programs);
        let mut fds: Vec<_> = fds.collect();
        if let Some(labels) = &self.labels {
            bytes.extend(LABELS);
            fds.extend(labels.maps());
        }
        (bytes, fds)
    }

    /// The same at the other end.
    ///
    /// # Errors
    /// Where descriptors are missing, of an unknown program or of other maps; needs `/proc`.
    pub fn from_message(bytes: &[u8], fds: Vec<OwnedFd>) -> io::Result<Shared> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "other descriptors of BPF");
        let mut fds = fds.into_iter();
        let (Some(ring), Some(failures)) = (fds.next(), fds.next()) else { return Err(wrong()) };
        if fds.len() != bytes.len() {
            return Err(wrong());
        }
        let mut functions: Vec<_> = fds.collect();
        let (bytes, labels) = match bytes.split_last_chunk() {
            Some((programs, last)) if *last == LABELS => {
                let maps = functions.split_off(programs.len()).try_into().map_err(|_| wrong())?;
                (programs, Some(Labels::new(maps)?))
            }
            _ => (bytes, None),
        };
        let programs = bytes.iter().map(|number| Program::of_number((*number).into()));
        let programs = programs.collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
        let functions = programs.into_iter().zip(functions).collect();
        Ok(Shared { ring, failures, labels, functions })
    }

    /// Opens them for reading; needs `/proc`.
    ///
    /// # Errors
    /// Where they are not what they should be, or memory is short.
    pub fn open(self) -> io::Result<Opened> {
        Ok(Opened {
            reader: Reader::new(self.ring)?,
            counters: Counters::new(&self.failures)?,
            labels: self.labels,
            functions: self.functions,
        })
    }
}

impl Opened {
    /// The programs that run.
    #[must_use]
    pub fn programs(&self) -> Vec<Program> {
        let mut programs: Vec<_> = self.functions.iter().map(|(program, _)| *program).collect();
        programs.dedup();
        programs
    }

    /// What the kernel counts of a program, all its functions together.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn statistics(&self, program: Program) -> io::Result<Statistics> {
        let of = self.functions.iter().filter(|(of, _)| *of == program);
        of.map(|(_, fd)| Statistics::read(fd))
            .try_fold(Statistics::default(), |sum, one| Ok(sum.plus(one?)))
    }
}
