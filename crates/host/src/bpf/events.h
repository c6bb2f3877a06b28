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
	PROGRAMS = 8,
};

/* What can fail in one. */
enum failure {
	FAILURE_RESERVE = 0, /* the ring had no room: the event is lost */
	FAILURE_STORAGE = 1, /* a map had no room or no entry: the event is lost */
	FAILURE_READ = 2,    /* memory could not be read: the event lacks it */
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

/* Bytes that may wait in the ring before the reader is woken; until then it comes by itself. */
const volatile __u64 wake_at = 0;

/* Whose times and names are the thread group's, and whose pid is the thread's. */
struct task {
	__u64 boottime_ns;    /* now */
	__u64 start_boottime; /* of the process */
	__u64 parent_start;   /* of its parent */
	__u64 cgroup;         /* of the unified hierarchy */
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

static __always_inline void failed(enum program program, enum failure failure)
{
	__u32 key = program * FAILURES + failure;
	__u64 *count = bpf_map_lookup_elem(&failures, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
}

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
	bool wake = urgent || bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= wake_at;

	bpf_ringbuf_submit(event, wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

/* Says who this task is. */
static __always_inline void describe(struct task *out, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct task_struct *parent = task->real_parent;
	struct nsproxy *proxy = task->nsproxy;
	const struct cred *cred = task->cred;

	out->boottime_ns = bpf_ktime_get_boot_ns();
	out->start_boottime = leader->start_boottime;
	out->parent_start = parent->group_leader->start_boottime;
	out->cgroup = task->cgroups->dfl_cgrp->kn->id;
	out->pid = task->pid;
	out->tgid = task->tgid;
	out->parent = parent->tgid;
	out->uid = cred->uid.val;
	out->loginuid = task->loginuid.val;
	out->session = task->sessionid;
	out->user_ns = cred->user_ns->ns.inum;
	out->mnt_ns = 0;
	out->pid_ns = 0;
	out->net_ns = 0;
	if (proxy) {
		out->mnt_ns = proxy->mnt_ns->ns.inum;
		out->pid_ns = proxy->pid_ns_for_children->ns.inum;
		out->net_ns = proxy->net_ns->ns.inum;
	}
	__builtin_memcpy(out->comm, leader->comm, sizeof(out->comm));
}

#endif
