//! The process that reads a hostile image for hostile readers: it has the descriptors that the
//! keeper sent, and no way to get others.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use block::ReadAt;
use block::fec::{Area, Corrector};
use block::verity::{Device as Verity, Notice, Policy, ReadError, Volume};
use host::channel::{Channel, Received};
use host::fuse::{Attributes, Content, Errno, Reader};

use super::wire::{self, Counted, Counts, Found, Report, Role, Setup, Started, What};
use crate::outcome::{Failure, Kind};
use crate::verbs::verity::Device;

/// How long a reader waits at most for its report to be noted.
const NOTED: Duration = Duration::from_secs(5);

/// Serves until the device is unmounted or the keeper is gone.
pub(crate) fn run(keeper: u32) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new(Kind::Usage, "this is started by `veritrail verity open` only").because(error)
    };
    host::sandbox::die_with_parent(keeper).map_err(failed)?;
    // The program was started as /proc/self/exe, which tells nobody anything.
    let _ = rustix::thread::set_name(c"veritrail-vol");
    let control = Channel::from_stdin().map_err(failed)?;
    let mut buf = vec![0; wire::LONGEST];
    let (setup, fds) = match control.recv(&mut buf, Some(Duration::from_secs(10))) {
        Ok(Received::Message { len, fds }) => (serde_json::from_slice(&buf[..len]), fds),
        Ok(_) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => return Err(failed(error)),
    };
    let started = setup
        .map_err(|error| error.to_string())
        .and_then(|setup: Setup| serve(&setup, fds).map_err(|why| why.to_string()));
    let (session, device) = match started {
        Ok(started) => started,
        Err(why) => {
            let _ = tell(&control, &Started::Failed(why));
            return Ok(());
        }
    };
    tell(&control, &Started::Ready).map_err(failed)?;
    // The keeper asks for counts until it ends, and then this ends too, whoever still reads.
    std::thread::spawn(move || {
        while let Ok(Received::Message { len, .. }) = control.recv(&mut buf, None) {
            let Ok(asked) = serde_json::from_slice(&buf[..len]) else { break };
            if tell(&control, &Counted { asked, counts: counts(&device) }).is_err() {
                break;
            }
        }
        std::process::exit(1);
    });
    session.wait().map_err(|e| Failure::new(Kind::Io, "cannot serve any longer").because(e))
}

fn tell(channel: &Channel, what: &impl serde::Serialize) -> io::Result<()> {
    channel.send(&serde_json::to_vec(what)?, &[])
}

type Engine = Verity<Device, Device>;

fn counts(engine: &Engine) -> Counts {
    let counts = engine.counts();
    Counts {
        reads: counts.reads,
        violations: counts.mismatches,
        corrected: counts.corrected,
        io_errors: counts.io_errors,
    }
}

/// Why a volume cannot start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("a descriptor is missing")]
    Descriptor,
    #[error("cannot confine itself: {0}")]
    Confine(io::Error),
    #[error(transparent)]
    Param(#[from] block::verity::ParamError),
    #[error(transparent)]
    Open(#[from] block::verity::OpenError),
    #[error(transparent)]
    Fec(#[from] block::fec::AreaError),
    #[error("cannot serve: {0}")]
    Serve(io::Error),
}

fn serve(
    setup: &Setup,
    fds: Vec<OwnedFd>,
) -> Result<(host::fuse::Session, Arc<Engine>), StartError> {
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or(StartError::Descriptor);
    let (connection, reports) = (next()?, Channel::from(next()?));
    let (data, hash) = (Device::received(next()?), Device::received(next()?));
    host::sandbox::confine_volume().map_err(StartError::Confine)?;

    let (params, area, root) = setup.image.parts()?;
    let volume = Volume::open(data, hash, &params, area, &root)?;
    let policy = Policy {
        ignore_corruption: setup.ignore_corruption,
        ignore_zero_blocks: setup.ignore_zero_blocks,
        check_at_most_once: setup.check_at_most_once,
    };
    let mut device = Verity::with_policy(volume, policy)?;
    if let Some(wire::Fec { roots, offset, covered_end }) = setup.fec {
        let area = Area::new(device.layout(), roots, offset, covered_end)?;
        let parity = Device::received(next()?);
        device = device.with_correction(Corrector::new(area, parity));
    }
    let device = Arc::new(device);
    let attributes = Attributes {
        size: device.layout().data_bytes(),
        mode: setup.mode,
        uid: setup.uid,
        gid: setup.gid,
        block_size: device.layout().data_block_size().bytes(),
        direct_io: setup.direct_io,
        threads: setup.threads,
    };
    let content = Served { device: Arc::clone(&device), reports: Mutex::new(reports) };
    let session = host::fuse::serve(connection, attributes, content).map_err(StartError::Serve)?;
    Ok((session, device))
}

/// The engine behind the FUSE file.
struct Served<D, H> {
    device: Arc<Verity<D, H>>,
    /// One report at a time: a reader that asks for bad blocks waits for others that do, and for
    /// nobody else.
    reports: Mutex<Channel>,
}

thread_local! {
    /// Room for the blocks of which only a part was asked for.
    static EDGES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl<D, H> Content for Served<D, H>
where
    D: ReadAt + Send + Sync + 'static,
    H: ReadAt + Send + Sync + 'static,
{
    fn read(&self, reader: Reader, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let came = Instant::now();
        EDGES.with_borrow_mut(|edges| {
            let mut notice = |notice: Notice| self.report(reader, came, notice_to_wire(&notice));
            match self.device.read_at(offset, buf, edges, &mut notice) {
                Ok(()) => Ok(()),
                Err(error) => {
                    if let Some(what) = error_to_wire(&error) {
                        self.report(reader, came, what);
                    }
                    Err(Errno::IO)
                }
            }
        })
    }
}

impl<D, H> Served<D, H> {
    /// Returns when the keeper has noted it. Without a keeper nobody is answered any more.
    fn report(&self, Reader { tid, uid, gid, .. }: Reader, came: Instant, what: What) {
        let channel = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let waited_us = u64::try_from(came.elapsed().as_micros()).unwrap_or(u64::MAX);
        let report = Report { tid, uid, gid, waited_us, what };
        let noted = tell(&channel, &report).and_then(|()| channel.recv(&mut [0; 8], Some(NOTED)));
        if !matches!(noted, Ok(Received::Message { .. })) {
            std::process::exit(1);
        }
    }
}

fn notice_to_wire(notice: &Notice) -> What {
    match notice {
        Notice::Corrected { finding, errors, .. } => {
            What::Corrected { found: Found::of(finding), errors: *errors }
        }
        Notice::Tolerated(refused) => What::Violation {
            block: refused.block.0,
            found: Found::of(&refused.finding),
            saturated: refused.saturated,
            delivered: true,
        },
    }
}

fn error_to_wire(error: &ReadError) -> Option<What> {
    /// What a disk says when it says nothing else.
    const EIO: i32 = 5;
    Some(match error {
        ReadError::Refused(refused) => What::Violation {
            block: refused.block.0,
            found: Found::of(&refused.finding),
            saturated: refused.saturated,
            delivered: false,
        },
        ReadError::Io { role, offset, source, .. } => What::Io {
            role: Role::from_word(role),
            offset: *offset,
            errno: source.raw_os_error().unwrap_or(EIO),
        },
        // The kernel asks for what is inside only.
        ReadError::Outside { .. } => return None,
    })
}
