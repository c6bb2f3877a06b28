//! Writes the seeds of every target below a folder, for `cargo fuzz`: `seeds fuzz/corpus`.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).unwrap_or_else(|| "fuzz/corpus".into()));
    for (target, _) in invariants::ALL {
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        for (number, seed) in invariants::seeds::of(target).iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
