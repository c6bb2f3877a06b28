// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Processes that begin, run another program and end. Threads are left out: nothing that is
 * recorded names one alone.
 */
#ifndef VERITRAIL_TASKS_H
#define VERITRAIL_TASKS_H

#define LONGEST_NAME 256

struct exec_event {
	struct head head; /* detail: bytes of the name, without its end */
	char name[LONGEST_NAME];
};

/* Before the child runs for the first time. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(veritrail_fork, struct task_struct *parent, struct task_struct *child)
{
	struct head *event;

	if (child->pid != child->tgid)
		return 0;
	event = take(PROGRAM_FORK, sizeof(*event));
	if (!event)
		return 0;
	describe(&event->task, child);
	give(event, false);
	return 0;
}

/* When the new program is certain to run, before its first instruction. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(veritrail_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct exec_event *event = take(PROGRAM_EXEC, sizeof(*event));
	long length;

	if (!event)
		return 0;
	describe(&event->head.task, task);
	length = bpf_probe_read_kernel_str(event->name, sizeof(event->name), bprm->filename);
	if (length < 0)
		failed(PROGRAM_EXEC, FAILURE_READ);
	event->head.detail = length > 0 ? length - 1 : 0;
	give(event, false);
	return 0;
}

/* When the last thread of a process ends. Newer kernels pass a further argument. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(veritrail_exit, struct task_struct *task)
{
	struct head *event;

	if (task->signal->live.counter != 0)
		return 0;
	event = take(PROGRAM_EXIT, sizeof(*event));
	if (!event)
		return 0;
	describe(&event->task, task);
	event->detail = task->exit_code;
	give(event, false);
	return 0;
}

#endif
