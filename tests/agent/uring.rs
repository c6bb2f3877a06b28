//! What a process has done by io_uring: a thread of the kernel's in it does it, which no fork was heard of.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::auditing::Auditing;
use crate::bench::{Bench, soon};
use crate::containers::{Waiting, set, start};

/// Opens its file a hundred times by a worker, and says what the last answer was.
const PROGRAM: &str = r#"
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct io_uring_params p = { 0 };
	int ring = syscall(SYS_io_uring_setup, 8, &p), result = -1;

	if (ring < 0)
		return 2;
	char *sq = mmap(0, p.sq_off.array + p.sq_entries * 4, 3, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	char *cq = mmap(0, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), 3, MAP_SHARED,
			ring, IORING_OFF_CQ_RING);
	struct io_uring_sqe *sqes = mmap(0, p.sq_entries * sizeof(*sqes), 3, MAP_SHARED, ring, IORING_OFF_SQES);
	unsigned *sq_tail = (void *)(sq + p.sq_off.tail), *array = (void *)(sq + p.sq_off.array);
	unsigned *cq_head = (void *)(cq + p.cq_off.head), *cq_mask = (void *)(cq + p.cq_off.ring_mask);
	struct io_uring_cqe *cqes = (void *)(cq + p.cq_off.cqes);

	for (int n = 0; n < 100; n++) {
		unsigned at = *sq_tail & *(unsigned *)(sq + p.sq_off.ring_mask);

		memset(&sqes[at], 0, sizeof(*sqes));
		sqes[at].opcode = IORING_OP_OPENAT;
		sqes[at].flags = IOSQE_ASYNC; /* by a worker */
		sqes[at].fd = AT_FDCWD;
		sqes[at].addr = (unsigned long)argv[1];
		sqes[at].open_flags = O_RDONLY;
		array[at] = at;
		__atomic_store_n(sq_tail, *sq_tail + 1, __ATOMIC_RELEASE);
		if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) < 0)
			return 3;
		result = cqes[*cq_head & *cq_mask].res;
		__atomic_store_n(cq_head, *cq_head + 1, __ATOMIC_RELEASE);
		close(result);
	}
	printf("%d\n", result);
	return 0;
}
"#;

#[test]
fn what_a_worker_of_io_uring_does_is_its_processs() {
    let test = "what_a_worker_of_io_uring_does_is_its_processs";
    let Some(mut auditing) = Auditing::begin(test) else { return };
    let bench = Bench::new();
    bench.write("uring.c", PROGRAM);
    let (source, program) = (bench.path("uring.c"), bench.path("uring"));
    let built =
        Command::new("cc").arg("-o").arg(&program).arg(&source).stderr(Stdio::null()).status();
    if !built.is_ok_and(|status| status.success()) {
        return eprintln!("SKIPPED: {test}: no C compiler");
    }
    let tried = Command::new(&program).arg(&source).output().unwrap();
    if !tried.status.success() || tried.stdout.starts_with(b"-") {
        return eprintln!("SKIPPED: {test}: this machine lets nobody use io_uring ({:?})", tried);
    }
    let Some(agent) = start(test, &bench, &["--audit-mode", "coexist"]) else { return };
    crate::rules::add(&mut auditing.control, "-a always,io_uring -S openat -k uring");
    let script = format!("{} {}; true", program.display(), source.display());
    let (mut inside, mut outside) = (Waiting::new(&script), Waiting::new(&script));
    set(&bench, inside.pid(), "77").unwrap();
    let theirs = inside.pid().to_string();
    for one in [&mut inside, &mut outside] {
        one.go();
        assert!(one.0.wait().unwrap().success());
    }
    let found = || -> Vec<Value> {
        let ran = bench.veritrail(&["search", "--trail", "trail", "--json", "-m", "URINGOP"]);
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    soon("their events", || found().len() >= 200);
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(agent.stop(), Some(0));
    let (mut labelled, mut others, mut wrong) = (0, 0, Vec::new());
    for event in found() {
        let records = event["records"].as_array().unwrap();
        let op = records.iter().find(|record| record["type"] == "URINGOP").unwrap();
        let is_theirs = op["fields"]["ppid"] == theirs.as_str();
        match (is_theirs, &event["contid"]) {
            (true, Value::String(contid)) if contid == "77" => labelled += 1,
            (false, Value::Null) => others += 1,
            _ => wrong.push(event.to_string()),
        }
    }
    assert!(wrong.is_empty(), "{} wrong, {labelled} labelled: {:?}", wrong.len(), wrong.first());
    assert_eq!((labelled, others), (100, 100));
    bench.trail_is_good();
}
