// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Calls that change CLOCK_REALTIME, with the clocks before and after them.
 *
 * Two doors to the same event. The functions that every call ends in (fentry, fexit): they see calls
 * of 32 bits too and cost no other call anything. Where these are refused, the system calls by
 * their tracepoints: 64 bits only.
 *
 * Calls that fail, only read, or are for another clock tell nothing.
 */
#ifndef VERITRAIL_CLOCK_H
#define VERITRAIL_CLOCK_H

#define ADJ_SETOFFSET 0x0100
#define ADJ_OFFSET_READONLY 0x2000
#define ADJ_ADJTIME 0x8000
#define CLOCK_REALTIME 0
#define PF_KTHREAD 0x00200000
#define TS_COMPAT 0x0002

/* struct timex of user space with 64 bits, and struct __kernel_timex: the same (linux/timex.h). */
#define TIMEX_BYTES 168

enum clock_flags {
	CLOCK_SET = 1,    /* a new time; else adjtimex */
	CLOCK_VALUES = 2, /* the kernel's own values are there */
	CLOCK_KERNEL = 4, /* a thread of the kernel */
	CLOCK_COMPAT = 8, /* a call of 32 bits */
	CLOCK_NUMBER = 16 /* the system call's number is there */
};

/* TAI less the time since boot changes by steps only. 0: this kernel does not tell TAI. */
struct moment {
	__u64 before; /* time since boot */
	__u64 tai;
	__u64 after; /* time since boot */
};

struct clock_pending {
	struct moment entry;
	__u64 argument; /* the caller's struct */
	__s64 seconds;
	__s64 nanoseconds;
	__s64 values[12];
	__u32 flags;
	__u32 reserved;
	__u8 asked[TIMEX_BYTES];
};

struct clock_event {
	struct head head; /* detail: flags */
	struct moment entry;
	struct moment exit;
	__s64 seconds; /* the new time */
	__s64 nanoseconds;
	__s64 values[12]; /* struct audit_ntp_data */
	__u32 gid, euid, suid, fsuid, egid, sgid, fsgid;
	__u32 number;
	char thread[16]; /* its own name */
	char tty[32];
	__u8 asked[TIMEX_BYTES];
	__u8 after[TIMEX_BYTES];
};

/* Calls that go on, by thread. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct clock_pending);
} clock_calls SEC(".maps");

static __always_inline void clock_look(struct moment *now)
{
	now->before = bpf_ktime_get_boot_ns();
	now->tai = 0;
	if (bpf_core_enum_value_exists(enum bpf_func_id___vt, BPF_FUNC_ktime_get_tai_ns___vt))
		now->tai = bpf_ktime_get_tai_ns();
	now->after = bpf_ktime_get_boot_ns();
}

static __always_inline bool clock_only_reads(__u32 modes)
{
	if (modes & ADJ_SETOFFSET)
		return false;
	return modes == 0 || (modes & ADJ_ADJTIME && modes & ADJ_OFFSET_READONLY);
}

static __always_inline __u32 clock_thread(void)
{
	return (__u32)bpf_get_current_pid_tgid();
}

static __always_inline void clock_begin(struct clock_pending *call)
{
	__u32 thread = clock_thread();

	/* Last: what comes between these and the call is taken for the call. */
	clock_look(&call->entry);
	if (bpf_map_update_elem(&clock_calls, &thread, call, BPF_ANY))
		failed(PROGRAM_CLOCK, FAILURE_STORAGE);
}

static __always_inline void clock_describe(struct clock_event *event)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	const struct cred *cred = task->cred;
	struct tty_struct *tty;

	describe(&event->head.task, task);
	event->gid = cred->gid.val;
	event->euid = cred->euid.val;
	event->suid = cred->suid.val;
	event->fsuid = cred->fsuid.val;
	event->egid = cred->egid.val;
	event->sgid = cred->sgid.val;
	event->fsgid = cred->fsgid.val;
	__builtin_memcpy(event->thread, task->comm, sizeof(event->thread));
	__builtin_memset(event->tty, 0, sizeof(event->tty));
	tty = task->signal->tty;
	if (tty)
		bpf_probe_read_kernel_str(event->tty, sizeof(event->tty), tty->name);
	event->number = 0;
	if (task->flags & PF_KTHREAD) {
		event->head.detail |= CLOCK_KERNEL;
		return;
	}
#ifdef __TARGET_ARCH_x86
	struct pt_regs___vt *regs = (void *)bpf_task_pt_regs((void *)task);
	unsigned long number = 0;

	if (bpf_core_read(&number, sizeof(number), &regs->orig_ax) == 0) {
		event->number = number;
		event->head.detail |= CLOCK_NUMBER;
	}
	if (task->thread_info.status & TS_COMPAT)
		event->head.detail |= CLOCK_COMPAT;
#endif
}

/* `after` is the struct as the call left it, in the kernel or (`user`) in the caller. */
static __always_inline void clock_end(long result, const void *after, bool user)
{
	__u32 thread = clock_thread();
	struct clock_pending *call = bpf_map_lookup_elem(&clock_calls, &thread);
	struct clock_event *event;
	struct moment exit;
	long unread = 0;

	if (!call)
		return;
	if (result < 0)
		goto out;
	clock_look(&exit);
	event = take(PROGRAM_CLOCK, sizeof(*event));
	if (!event)
		goto out;
	event->head.detail = call->flags;
	event->entry = call->entry;
	event->exit = exit;
	event->seconds = call->seconds;
	event->nanoseconds = call->nanoseconds;
	__builtin_memcpy(event->values, call->values, sizeof(event->values));
	__builtin_memcpy(event->asked, call->asked, sizeof(event->asked));
	__builtin_memset(event->after, 0, sizeof(event->after));
	if (!(call->flags & CLOCK_SET)) {
		if (user)
			unread = bpf_probe_read_user(event->after, TIMEX_BYTES, (void *)call->argument);
		else
			unread = bpf_probe_read_kernel(event->after, TIMEX_BYTES, after);
	}
	if (unread)
		failed(PROGRAM_CLOCK, FAILURE_READ);
	clock_describe(event);
	give(event, true);
out:
	bpf_map_delete_elem(&clock_calls, &thread);
}

SEC("fentry/do_settimeofday64")
int BPF_PROG(veritrail_clock_set, const struct timespec64 *time)
{
	struct clock_pending call = { .flags = CLOCK_SET };

	if (bpf_core_read(&call.seconds, sizeof(call.seconds), &time->tv_sec) ||
	    bpf_core_read(&call.nanoseconds, sizeof(call.nanoseconds), &time->tv_nsec))
		failed(PROGRAM_CLOCK, FAILURE_READ);
	clock_begin(&call);
	return 0;
}

SEC("fexit/do_settimeofday64")
int BPF_PROG(veritrail_clock_was_set, const struct timespec64 *time, int result)
{
	clock_end(result, 0, false);
	return 0;
}

SEC("fentry/do_adjtimex")
int BPF_PROG(veritrail_clock_adjust, const void *timex)
{
	struct clock_pending call = {};

	if (bpf_probe_read_kernel(call.asked, TIMEX_BYTES, timex))
		failed(PROGRAM_CLOCK, FAILURE_READ);
	if (clock_only_reads(*(__u32 *)call.asked))
		return 0;
	clock_begin(&call);
	return 0;
}

SEC("fexit/do_adjtimex")
int BPF_PROG(veritrail_clock_was_adjusted, const void *timex, int result)
{
	clock_end(result, timex, false);
	return 0;
}

/*
 * What the kernel would tell of the call, were there a rule. It runs while the clock is locked: no clock
 * may be read here.
 */
static __always_inline void clock_values(const struct audit_ntp_data *data)
{
	__u32 thread = clock_thread();
	struct clock_pending *call = bpf_map_lookup_elem(&clock_calls, &thread);

	if (!call)
		return;
	if (bpf_core_read(call->values, sizeof(call->values), &data->vals))
		failed(PROGRAM_CLOCK, FAILURE_READ);
	else
		call->flags |= CLOCK_VALUES;
}

SEC("fexit/__do_adjtimex")
int BPF_PROG(veritrail_clock_values, void *timex, const void *time, __s32 *tai,
	     struct audit_ntp_data *data, int result)
{
	clock_values(data);
	return 0;
}

/* The same since 6.15; the first is the clock that everybody has. */
SEC("fexit/ntp_adjtimex")
int BPF_PROG(veritrail_clock_values_of, unsigned int clock, void *timex, const void *time, __s32 *tai,
	     struct audit_ntp_data *data, int result)
{
	if (clock == 0)
		clock_values(data);
	return 0;
}

#ifdef __TARGET_ARCH_x86
#define NR_adjtimex 159
#define NR_settimeofday 164
#define NR_clock_settime 227
#define NR_clock_adjtime 305
#else /* asm-generic/unistd.h */
#define NR_adjtimex 171
#define NR_settimeofday 170
#define NR_clock_settime 112
#define NR_clock_adjtime 266
#endif

static __always_inline int clock_enter(__s32 number, __u64 first, __u64 second)
{
	struct clock_pending call = {};
	__s64 time[2] = {};
	bool sets = number == NR_settimeofday || number == NR_clock_settime;
	bool named = number == NR_clock_settime || number == NR_clock_adjtime;

	/* Both are read, or the choice becomes one of addresses, which the verifier refuses. */
	barrier_var(first);
	barrier_var(second);
	if (named && (__s32)first != CLOCK_REALTIME)
		return 0;
	call.argument = named ? second : first;
	/* Only a time zone, or a call that will fail. */
	if (!call.argument)
		return 0;
	if (sets) {
		if (bpf_probe_read_user(time, sizeof(time), (void *)call.argument)) {
			failed(PROGRAM_CLOCK, FAILURE_READ);
			return 0;
		}
		call.flags = CLOCK_SET;
		call.seconds = time[0];
		call.nanoseconds = number == NR_settimeofday ? time[1] * 1000 : time[1];
	} else {
		if (bpf_probe_read_user(call.asked, TIMEX_BYTES, (void *)call.argument)) {
			failed(PROGRAM_CLOCK, FAILURE_READ);
			return 0;
		}
		if (clock_only_reads(*(__u32 *)call.asked))
			return 0;
	}
	clock_begin(&call);
	return 0;
}

/* A program may read no more arguments than the call has: this is for adjtimex. */
SEC("tracepoint")
int veritrail_clock_call_1(struct call_enter *enter)
{
	return clock_enter(enter->number, enter->args[0], 0);
}

SEC("tracepoint")
int veritrail_clock_call_2(struct call_enter *enter)
{
	return clock_enter(enter->number, enter->args[0], enter->args[1]);
}

SEC("tracepoint")
int veritrail_clock_called(struct call_exit *exit)
{
	clock_end(exit->result, 0, true);
	return 0;
}

#endif
