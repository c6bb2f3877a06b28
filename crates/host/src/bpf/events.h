// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What the programs tell, and how: one ring, and a counter for everything that could not be told.
 * `wire.rs` reads the same layouts: both change together.
 */
#ifndef VERITRAIL_EVENTS_H
#define VERITRAIL_EVENTS_H

/* Numbers of programs; of events the same, each tells one kind. */
enum program {
	PROGRAM_FORK = 1,
	PROGRAM_EXEC = 2,
	PROGRAM_EXIT = 3,
	PROGRAM_NAMESPACES = 4,
	PROGRAM_CLOCK = 5,
	PROGRAM_LABELS = 8, /* tells none */
	PROGRAM_PACKETS_XT = 9,
	PROGRAM_PACKETS_NFT = 10,
	PROGRAM_GROUPS = 12,
	PROGRAMS = 16,
};

/* What can fail in one. */
enum failure {
	FAILURE_RESERVE = 0, /* the ring had no room: the event is lost */
	FAILURE_STORAGE = 1, /* a map had no room or no entry: the event is lost */
	FAILURE_READ = 2,    /* memory could not be read: the event lacks it */
	FAILURE_LABEL = 3,   /* a task is without its label */
	FAILURES = 4,
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20); /* the loader sets what is wanted */
} events SEC(".maps");

/* Mapped by the reader, who so needs no right to ask. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PROGRAMS * FAILURES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} failures SEC(".maps");

/* What the loader says, before the verifier looks: what is off costs nothing. */
const volatile struct settings {
	__u64 wake_at; /* bytes in the ring at which the reader is woken; before, it comes by itself */
	__u64 labels;  /* whether tasks have labels */
} settings = {};

/* Whose times and names are the thread group's, and whose pid is the thread's. */
struct task {
	__u64 boottime_ns;    /* now */
	__u64 start_boottime; /* of the process */
	__u64 parent_start;   /* of its parent */
	__u64 cgroup;         /* of the unified hierarchy */
	__u64 contid;         /* all ones: none */
	__u64 generation;     /* of that id: it may still be taken back */
	__u32 pid;            /* all in the initial pid namespace */
	__u32 tgid;
	__u32 parent;
	__u32 uid; /* in the initial user namespace, as the next */
	__u32 loginuid;
	__u32 session;
	__u32 user_ns; /* inode numbers; 0 where there is none (any more) */
	__u32 mnt_ns;
	__u32 pid_ns; /* for children */
	__u32 net_ns;
	char comm[16];
};

struct head {
	__u32 kind;
	__u32 detail; /* by kind */
	struct task task;
};

/* Of linux/trace_events.h, as user space has always had them. */
struct call_enter {
	__u64 common;
	__s32 number;
	__u32 unset; /* whatever was on the stack */
	__u64 args[6];
};

struct call_exit {
	__u64 common;
	__s32 number;
	__u32 unset;
	__s64 result;
};

static __always_inline void failed(enum program program, enum failure failure)
{
	__u32 key = program * FAILURES + failure;
	__u64 *count = bpf_map_lookup_elem(&failures, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
}

/* The longest that is read. */
#define LONGEST_EVENT 1144
static __always_inline void *take(enum program program, __u64 size)
	__attribute__((diagnose_if(size > LONGEST_EVENT, "longer than wire.rs reads", "error")));

/* Room for an event of this size; NULL where there is none, which is counted. */
static __always_inline void *take(enum program program, __u64 size)
{
	struct head *head = bpf_ringbuf_reserve(&events, size, 0);

	if (!head) {
		failed(program, FAILURE_RESERVE);
		return 0;
	}
	head->kind = program;
	head->detail = 0;
	return head;
}

/* Hands an event in. An urgent one wakes the reader. */
static __always_inline void give(void *event, bool urgent)
{
	bool wake = urgent || bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= settings.wake_at;

	bpf_ringbuf_submit(event, wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

#endif
