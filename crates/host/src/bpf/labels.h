// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The audit container id of each task, in its own storage: it comes with the task and goes with it,
 * and a child has it before its first instruction. `labels.rs` reads and writes the same layouts:
 * both change together.
 *
 * A label may be taken back after others have inherited it: its generation is put into `aborted`,
 * by one store, and whoever has it has the old id from then on.
 */
#ifndef VERITRAIL_LABELS_H
#define VERITRAIL_LABELS_H

/* No id: as no label at all. */
#define UNSET (~0ULL)

struct label {
	__u64 contid;
	__u64 old;        /* what it is if its generation is aborted */
	__u64 generation; /* of the call that set it; 0: it is not taken back any more */
};

/* By task; of user space by pidfd. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct label);
} labels SEC(".maps");

/* Generations. A set. The oldest may go: see `settle`. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} aborted SEC(".maps");

struct unstored {
	struct label label;
	__u64 start_boottime; /* of the process, whose number others may have after it */
};

/* Labels that found no memory in their task's storage, by tgid. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct unstored);
} unstored SEC(".maps");

/* How many there ever were: as long as there was none, nobody looks for one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} unstored_ever SEC(".maps");

static __always_inline bool is_aborted(__u64 generation)
{
	return generation && bpf_map_lookup_elem(&aborted, &generation);
}

/*
 * Copies a label as it holds now. One that is aborted is changed where it lies: `aborted` forgets
 * the oldest, and a task that forks, runs a program or ends does not need it any more after that.
 * It is one store of 64 bits, so that whoever reads meanwhile gets the old id by either way.
 */
static __always_inline void settle(struct label *out, struct label *label)
{
	__u64 generation = label->generation;

	if (is_aborted(generation)) {
		label->contid = label->old;
		out->contid = out->old = label->old;
		out->generation = 0;
		return;
	}
	out->contid = label->contid;
	out->old = label->old;
	out->generation = generation;
}

static __always_inline struct label *unstored_of(struct task_struct *task)
{
	__u32 key = 0;
	__u64 *ever = bpf_map_lookup_elem(&unstored_ever, &key);
	struct unstored *entry;

	if (!ever || !*ever)
		return 0;
	key = task->tgid;
	entry = bpf_map_lookup_elem(&unstored, &key);
	if (!entry || entry->start_boottime != task->group_leader->start_boottime)
		return 0;
	return &entry->label;
}

/* The label of a task as it holds now; false where it has no id. */
static __always_inline bool label_of(struct label *out, struct task_struct *task)
{
	struct label *label = 0;

	out->contid = out->old = UNSET;
	out->generation = 0;
	if (!settings.labels)
		return false;
	label = bpf_task_storage_get(&labels, task, 0, 0);
	if (!label)
		label = unstored_of(task);
	if (!label)
		return false;
	settle(out, label);
	return out->contid != UNSET;
}

static __always_inline void keep_unstored(struct task_struct *task, struct label *label)
{
	struct unstored entry = { .label = *label };
	__u32 tgid = task->tgid, key = 0;
	__u64 *ever = bpf_map_lookup_elem(&unstored_ever, &key);

	failed(PROGRAM_LABELS, FAILURE_STORAGE);
	entry.start_boottime = task->group_leader->start_boottime;
	if (!ever || bpf_map_update_elem(&unstored, &tgid, &entry, BPF_ANY)) {
		failed(PROGRAM_LABELS, FAILURE_LABEL);
		return;
	}
	__sync_fetch_and_add(ever, 1);
}

/*
 * Every task that begins, threads too, before it runs for the first time. `parent` is the task that
 * called (kernel_clone() passes `current`), also where the child is its sibling (CLONE_PARENT).
 *
 * It is attached before `veritrail_fork`, which tells the label: programs run in that order. Twice
 * for the same child is as once: what is there stays.
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(veritrail_inherit, struct task_struct *parent, struct task_struct *child)
{
	struct label label;

	if (!label_of(&label, parent))
		return 0;
	if (!bpf_task_storage_get(&labels, child, &label, BPF_LOCAL_STORAGE_GET_F_CREATE))
		keep_unstored(child, &label);
	return 0;
}

#endif
