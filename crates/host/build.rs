//! Compiles the BPF programs (`src/bpf/programs.bpf.c`) to an object in the build's own folder.
//!
//! Needs clang; libbpf and its headers come with the crate libbpf-sys.

use std::path::PathBuf;
use std::process::ExitCode;

use libbpf_cargo::SkeletonBuilder;

const FOLDER: &str = "src/bpf";

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed={FOLDER}");
    let Some(out) = std::env::var_os("OUT_DIR").map(PathBuf::from) else {
        eprintln!("OUT_DIR is not set: this is a build script");
        return ExitCode::FAILURE;
    };
    // The skeleton itself is not used: each program is loaded or left out by its name, which the
    // object tells.
    let built = SkeletonBuilder::new()
        .source(format!("{FOLDER}/programs.bpf.c"))
        .obj(out.join("programs.bpf.o"))
        .reference_obj(true)
        .clang_args(["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-mcpu=v3"])
        .build_and_generate(out.join("programs.skel.rs"));
    match built {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot compile {FOLDER}: {error:#}");
            eprintln!("clang must be installed (scripts/setup build does that)");
            ExitCode::FAILURE
        }
    }
}
