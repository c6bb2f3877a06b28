//! Work that gives way to all other work.

use std::io;

/// From now on this thread, and every thread that it starts, gets the processor and the disk when
/// nobody else wants them: nice 19, and the idle class of I/O where the disk's scheduler has classes.
///
/// # Errors
/// Where the kernel refuses, as a sandbox may. The work is then done as any other.
pub fn give_way() -> io::Result<()> {
    rustix::process::nice(19)?;
    idle_io()
}

/// `linux/ioprio.h`: the class stands above 13 bits of data.
const IDLE: libc::c_int = 3 << 13;

/// `linux/ioprio.h`: one thread, 0 for the one that asks.
const WHO_PROCESS: libc::c_int = 1;

#[allow(unsafe_code)]
fn idle_io() -> io::Result<()> {
    // SAFETY: ioprio_set(2) takes three numbers and touches no memory of ours.
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, IDLE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_way_and_so_do_those_it_starts() {
        std::thread::spawn(|| {
            give_way().unwrap();
            let nice = |tid: u32| {
                let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap();
                let (_, rest) = text.rsplit_once(") ").unwrap();
                // Field 19; the state behind the name is field 3.
                rest.split(' ').nth(16).unwrap().to_owned()
            };
            let me = || rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
            assert_eq!(nice(me()), "19");
            let child = std::thread::spawn(move || (nice(me()), idle_io().is_ok()));
            assert_eq!(child.join().unwrap(), ("19".to_owned(), true));
        })
        .join()
        .unwrap();
    }
}
