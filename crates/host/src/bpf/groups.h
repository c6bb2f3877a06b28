// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Processes that come into another control group: put there, or begun there (CLONE_INTO_CGROUP).
 * A runtime does that with a container's first process before anything of the container runs.
 */
#ifndef VERITRAIL_GROUPS_H
#define VERITRAIL_GROUPS_H

/* TRACE_CGROUP_PATH_LEN of kernel/cgroup: the kernel tells no longer one. */
#define LONGEST_GROUP 1024

struct group_event {
	struct head head; /* detail: bytes of the path, without its end; 0: it is to be asked for */
	__u32 hierarchy;  /* 0: the unified one */
	__u32 padding;
	char path[LONGEST_GROUP];
};

static __always_inline int tell_group(struct task_struct *task, __u32 hierarchy, const char *path)
{
	struct group_event *event = take(PROGRAM_GROUPS, sizeof(*event));
	bool urgent;
	long length = 0;

	if (!event)
		return 0;
	describe(&event->head.task, task);
	/* Whoever has a label keeps it: only the others are waited for. */
	urgent = event->head.task.contid == UNSET;
	event->hierarchy = hierarchy;
	event->padding = 0;
	event->path[0] = 0;
	if (path) {
		length = bpf_probe_read_kernel_str(event->path, sizeof(event->path), path);
		if (length < 0)
			failed(PROGRAM_GROUPS, FAILURE_READ);
	}
	event->head.detail = length > 0 ? length - 1 : 0;
	give(event, urgent);
	return 0;
}

/* After the task, and with `threadgroup` its whole process, is there. */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(veritrail_attach, struct cgroup *group, const char *path, struct task_struct *task,
	     bool threadgroup)
{
	/* A thread alone is where its process is as far as anybody is told. */
	if (task->pid != task->tgid)
		return 0;
	return tell_group(task, group->root->hierarchy_id, path);
}

/* Before the child runs for the first time; it has its parent's group unless it was asked for. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(veritrail_begin_elsewhere, struct task_struct *parent, struct task_struct *child)
{
	if (child->pid != child->tgid || parent->cgroups->dfl_cgrp == child->cgroups->dfl_cgrp)
		return 0;
	return tell_group(child, 0, 0);
}

#endif
