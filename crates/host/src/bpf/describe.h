// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#ifndef VERITRAIL_DESCRIBE_H
#define VERITRAIL_DESCRIBE_H

/* Says who this task is. */
static __always_inline void describe(struct task *out, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct task_struct *parent = task->real_parent;
	struct nsproxy *proxy = task->nsproxy;
	const struct cred *cred = task->cred;
	struct label label;

	label_of(&label, task);
	out->boottime_ns = bpf_ktime_get_boot_ns();
	out->start_boottime = leader->start_boottime;
	out->parent_start = parent->group_leader->start_boottime;
	out->cgroup = task->cgroups->dfl_cgrp->kn->id;
	out->contid = label.contid;
	out->generation = label.generation;
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
