//! A small bench harness: contestants run in turn, medians, and ratios to the first of them.
//!
//! A bench is one program in `src/bin`: it makes its input and calls
//! [`Bench::contest`] for each group of contestants that do the same job.
//! Contestants of a group take turns, so that a busy machine slows all of them;
//! every result is consumed, and all of a group must give the same one. The peer
//! comes first: the others are told as multiples of its speed. What the machine
//! itself allows (reading the bytes and doing nothing) is a contestant too.
//!
//! ```no_run
//! let mut bench = benches::Bench::from_args("sum");
//! let numbers: Vec<u64> = (0..1 << 20).collect();
//! bench.contest("1 Mi numbers", benches::Amount::items("numbers", 1 << 20), vec![
//!     benches::contestant("peer", || numbers.iter().fold(0, |sum, n| sum + n)),
//!     benches::contestant("ours", || numbers.iter().sum::<u64>()),
//! ]);
//! ```
//!
//! All benches take `--json` (one object per contestant and line), `--runs N`
//! (default 7) and a text that a group's name must contain to be run.

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use block::{ReadAt, WriteAt};
use serde::Serialize;

/// How much work one run does, for the rate.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    unit: &'static str,
    count: u64,
}

impl Amount {
    /// A run works through so many bytes; rates are told in GB/s (10^9).
    pub fn bytes(count: usize) -> Self {
        Self { unit: "bytes", count: count as u64 }
    }

    /// A run works through so many things of a kind; rates are told in thousands per second.
    pub fn items(unit: &'static str, count: usize) -> Self {
        Self { unit, count: count as u64 }
    }

    fn rate(self, time: Duration) -> String {
        // For people to read: the rounding of f64 is far below the noise.
        let per_second = self.count as f64 / time.as_secs_f64();
        match self.unit {
            "bytes" => format!("{:8.3} GB/s", per_second / 1e9),
            unit => format!("{:8.1} k {unit}/s", per_second / 1e3),
        }
    }
}

/// One way to do a group's job; the result is consumed and compared.
pub struct Contestant<'a> {
    name: String,
    run: Box<dyn FnMut() -> u64 + 'a>,
}

/// A contestant of a group: a name, and the job, whose result stands for the work done (a count, a
/// digest's first bytes).
pub fn contestant<'a>(name: impl ToString, run: impl FnMut() -> u64 + 'a) -> Contestant<'a> {
    Contestant { name: name.to_string(), run: Box::new(run) }
}

/// One contestant's line of the report.
#[derive(Debug, Serialize)]
struct Line<'a> {
    bench: &'a str,
    group: &'a str,
    contestant: &'a str,
    unit: &'a str,
    amount: u64,
    runs: usize,
    median_seconds: f64,
    best_seconds: f64,
    per_second: f64,
    /// Speed in multiples of the first contestant's, by the medians.
    ratio: f64,
}

/// A running bench program.
pub struct Bench {
    name: &'static str,
    json: bool,
    runs: usize,
    only: Option<String>,
}

impl Bench {
    /// Reads the program's arguments; a wrong one ends it with exit code 2.
    pub fn from_args(name: &'static str) -> Self {
        let mut bench = Self { name, json: false, runs: 7, only: None };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--json" => bench.json = true,
                "--runs" => match args.next().and_then(|runs| runs.parse().ok()) {
                    Some(runs) if runs > 0 => bench.runs = runs,
                    _ => usage(name),
                },
                // Given by `cargo bench`.
                "--bench" => {}
                only if !only.starts_with('-') => bench.only = Some(only.to_owned()),
                _ => usage(name),
            }
        }
        bench
    }

    /// Runs the contestants in turn and prints their lines.
    ///
    /// The first round only warms up and compares the results.
    ///
    /// # Panics
    /// When two contestants give different results: then they did not do the same job.
    pub fn contest(&mut self, group: &str, amount: Amount, mut contestants: Vec<Contestant<'_>>) {
        if self.only.as_ref().is_some_and(|only| !group.contains(only.as_str())) {
            return;
        }
        let results: Vec<u64> = contestants.iter_mut().map(|one| black_box((one.run)())).collect();
        for (one, result) in contestants.iter().zip(&results) {
            assert_eq!(
                *result, results[0],
                "{}: another result than {}",
                one.name, contestants[0].name
            );
        }
        let mut times = vec![Vec::with_capacity(self.runs); contestants.len()];
        for _ in 0..self.runs {
            for (one, times) in contestants.iter_mut().zip(&mut times) {
                let start = Instant::now();
                let result = black_box((one.run)());
                times.push(start.elapsed());
                assert_eq!(result, results[0], "{}: another result than before", one.name);
            }
        }
        if !self.json {
            println!("{}: {group}", self.name);
        }
        let mut first = None;
        for (one, mut times) in contestants.iter().zip(times) {
            times.sort_unstable();
            let (best, median) = (times[0], times[times.len() / 2]);
            let ratio = first.get_or_insert(median).as_secs_f64() / median.as_secs_f64();
            if self.json {
                let line = Line {
                    bench: self.name,
                    group,
                    contestant: &one.name,
                    unit: amount.unit,
                    amount: amount.count,
                    runs: self.runs,
                    median_seconds: median.as_secs_f64(),
                    best_seconds: best.as_secs_f64(),
                    per_second: amount.count as f64 / median.as_secs_f64(),
                    ratio,
                };
                println!("{}", serde_json::to_string(&line).expect("numbers and text are JSON"));
            } else {
                println!(
                    "  {:28} {}   best {}   x {ratio:.2}",
                    one.name,
                    amount.rate(median),
                    amount.rate(best)
                );
            }
        }
    }

    /// A line of facts about the machine or the input, left out of `--json`.
    pub fn note(&self, text: impl std::fmt::Display) {
        if !self.json {
            println!("{}: {text}", self.name);
        }
    }
}

fn usage(name: &str) -> ! {
    eprintln!("usage: {name} [--json] [--runs N] [PART OF A GROUP'S NAME]");
    std::process::exit(2);
}

/// Bytes without a pattern, the same in every run.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let words = std::iter::repeat_with(|| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes
}

/// The first eight bytes of some output, as a contestant's result.
pub fn first_bytes(output: &[u8]) -> u64 {
    output.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A file, as the engines want it; durable when they ask for that, as it is for users.
#[derive(Debug)]
pub struct Disk(pub File);

impl ReadAt for Disk {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl WriteAt for Disk {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}
