// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tasks that enter other namespaces without running another program. There is no tracepoint for
 * it but those of system calls, which every system call pays for: so by the functions themselves,
 * and by the tracepoints only where the kernel lets no program there.
 */
#ifndef VERITRAIL_NAMESPACES_H
#define VERITRAIL_NAMESPACES_H

enum entered {
	ENTERED_SETNS = 1,
	ENTERED_UNSHARE = 2,
};

static __always_inline int tell_namespaces(long result, enum entered how)
{
	struct head *event;

	if (result != 0)
		return 0;
	event = take(PROGRAM_NAMESPACES, sizeof(*event));
	if (!event)
		return 0;
	describe(&event->task, bpf_get_current_task_btf());
	event->detail = how;
	give(event, false);
	return 0;
}

#if defined(__TARGET_ARCH_x86)
#define SETNS "fexit/__x64_sys_setns"
#elif defined(__TARGET_ARCH_arm64)
#define SETNS "fexit/__arm64_sys_setns"
#elif defined(__TARGET_ARCH_riscv)
#define SETNS "fexit/__riscv_sys_setns"
#else
#define SETNS "fexit/__se_sys_setns"
#endif

SEC(SETNS)
int BPF_PROG(veritrail_setns, const void *registers, long result)
{
	return tell_namespaces(result, ENTERED_SETNS);
}

SEC("fexit/ksys_unshare")
int BPF_PROG(veritrail_unshare, unsigned long flags, int result)
{
	return tell_namespaces(result, ENTERED_UNSHARE);
}

#ifdef __TARGET_ARCH_x86
#define NR_setns 308
#else /* asm-generic/unistd.h */
#define NR_setns 268
#endif

SEC("tracepoint")
int veritrail_namespaces_called(struct call_exit *exit)
{
	enum entered how = exit->number == NR_setns ? ENTERED_SETNS : ENTERED_UNSHARE;

	return tell_namespaces(exit->result, how);
}

#endif
