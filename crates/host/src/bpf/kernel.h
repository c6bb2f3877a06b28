// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What the programs read of the kernel: only the members that they use. Order and omissions do not
 * matter, the loader moves every access to where the running kernel has the member (CO-RE).
 */
#ifndef VERITRAIL_KERNEL_H
#define VERITRAIL_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
enum { false = 0, true = 1 };

/* linux/bpf.h */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
enum {
	BPF_ANY = 0,
};
enum {
	BPF_F_NO_PREALLOC = 1U << 0,
	BPF_F_MMAPABLE = 1U << 10,
};
enum {
	BPF_RB_NO_WAKEUP = 1ULL << 0,
	BPF_RB_FORCE_WAKEUP = 1ULL << 1,
};
enum {
	BPF_RB_AVAIL_DATA = 0,
};
enum {
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1ULL << 0,
};

/* Of the helpers that not every kernel has. */
enum bpf_func_id___vt {
	BPF_FUNC_ktime_get_tai_ns___vt = 208,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

struct pid_namespace {
	struct ns_common ns;
};

struct user_namespace {
	struct ns_common ns;
};

/* fs/mount.h */
struct mnt_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

typedef struct {
	unsigned int val;
} kuid_t;

/* Group ids have the same form. */
struct cred {
	kuid_t uid;
	kuid_t gid;
	kuid_t suid;
	kuid_t sgid;
	kuid_t euid;
	kuid_t egid;
	kuid_t fsuid;
	kuid_t fsgid;
	struct user_namespace *user_ns;
};

typedef struct {
	int counter;
} atomic_t;

struct tty_struct {
	char name[64];
};

struct signal_struct {
	atomic_t live;
	struct tty_struct *tty;
};

/* x86 */
struct thread_info {
	__u32 status;
};

struct pt_regs___vt {
	unsigned long orig_ax;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int pid;
	int tgid;
	int exit_code;
	__u64 start_boottime;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	struct css_set *cgroups;
	struct nsproxy *nsproxy;
	const struct cred *cred;
	kuid_t loginuid;
	unsigned int sessionid;
	char comm[16];
};

struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};

/* linux/audit.h: old and new, of what TIME_ADJNTPVAL tells in its order. */
struct audit_ntp_val {
	long long oldval;
	long long newval;
};

struct audit_ntp_data {
	struct audit_ntp_val vals[6];
};

struct linux_binprm {
	const char *filename;
};

struct nf_hook_state {
	struct net *net;
};

struct xt_action_param {
	const struct nf_hook_state *state;
};

struct nft_pktinfo {
	const struct nf_hook_state *state;
};

struct sk_buff {
	unsigned char *data;
};

/* kernel/audit.c */
struct audit_buffer {
	struct sk_buff *skb;
};

#pragma clang attribute pop

#endif
