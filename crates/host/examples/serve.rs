//! The same FUSE layer without verification: what a served device is measured against.
//!
//! ```sh
//! cargo run --release -p veritrail-host --example serve -- IMAGE POINT [THREADS [READ_AHEAD_KIB]]
//! ```
//!
//! Serves the file IMAGE at the regular file POINT until that is unmounted (`umount POINT`).

use std::env;
use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use host::fuse::{Attributes, Content, Errno, Reader, serve};
use host::mount::{Options, attach, device_number, set_read_ahead};

struct Image(File);

impl Content for Image {
    fn read(&self, _: Reader, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.0.read_exact_at(buf, offset).map_err(|_| Errno::IO)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().collect();
    let [_, image, point, rest @ ..] = &*words else {
        return Err("usage: serve IMAGE POINT [THREADS [READ_AHEAD_KIB]]".into());
    };
    let image = File::open(image)?;
    let point = Path::new(point);
    let attributes = Attributes {
        size: image.metadata()?.len(),
        mode: 0o444,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        block_size: 4096,
        direct_io: false,
        threads: rest.first().map_or(Ok(2), |word| word.parse())?,
    };
    let others = rustix::process::getuid().is_root();
    let connection = attach(point, Options { others, ..Options::default() })?;
    let session = serve(connection, attributes, Image(image))?;
    if let (Some(kib), Some(device)) = (rest.get(1), device_number(point)?) {
        set_read_ahead(device, kib.parse()?)?;
    }
    println!("{}: {:?}", point.display(), session.agreement());
    session.wait()?;
    Ok(())
}
