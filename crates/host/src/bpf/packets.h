// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * In which network namespace a packet was that the kernel makes a record of (NETFILTER_PKT, which names
 * none): by the serial number of that very record.
 *
 *	audit_tg(), nft_log_eval()    the packet's namespace is marked
 *	  audit_log_start()           a record of that kind gets its number: told, with the mark's namespace
 *	returns                       the mark goes
 *
 * What the packet says is not looked at, so nobody who makes packets decides whose they are. The functions
 * are those of modules, which have to be there before the programs are.
 */
#ifndef VERITRAIL_PACKETS_H
#define VERITRAIL_PACKETS_H

#define AUDIT_NETFILTER_PKT 1324
/* struct nlmsghdr, in front of a record's text. */
#define NETLINK_HEADER 16
/* Stacks, of tasks and of interrupts, are so large and aligned so, on the machines that are supported. */
#define STACK_BYTES (16 << 10)
/*
 * Between a mark's frame and that of the record that it is for there are two functions and two trampolines;
 * a packet that comes in between by an interrupt is farther away, and on most machines on another stack.
 */
#define NEAR 1024

struct packet_mark {
	__u64 frame;
	__u32 net_ns;
	__u32 program;
};

struct packet_event {
	struct head head; /* of the task only when, and the network namespace */
	char stamp[48];   /* audit(SEC.MMM:SERIAL): , and whatever comes after that */
};

/* By the stack on which the packet is handled. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct packet_mark);
} packet_marks SEC(".maps");

/* Where on the stack a program's arguments are. A pointer is no number until it was read as one. */
static __always_inline __u64 frame_of(void *arguments)
{
	void *volatile spilled = arguments;
	__u64 frame = 0;

	bpf_probe_read_kernel(&frame, sizeof(frame), (const void *)&spilled);
	return frame;
}

static __always_inline int packet_begins(enum program program, void *arguments,
					 const struct nf_hook_state *state)
{
	struct packet_mark mark = { .program = program };
	__u64 stack;

	mark.frame = frame_of(arguments);
	mark.net_ns = BPF_CORE_READ(state, net, ns.inum);
	stack = mark.frame / STACK_BYTES;
	if (bpf_map_update_elem(&packet_marks, &stack, &mark, BPF_ANY))
		failed(program, FAILURE_STORAGE);
	return 0;
}

static __always_inline int packet_ends(void *arguments)
{
	__u64 stack = frame_of(arguments) / STACK_BYTES;

	bpf_map_delete_elem(&packet_marks, &stack);
	return 0;
}

SEC("fentry/audit_tg")
int BPF_PROG(veritrail_packet_xt, const void *packet, const struct xt_action_param *action)
{
	return packet_begins(PROGRAM_PACKETS_XT, ctx, BPF_CORE_READ(action, state));
}

SEC("fexit/audit_tg")
int BPF_PROG(veritrail_packet_xt_done)
{
	return packet_ends(ctx);
}

SEC("fentry/nft_log_eval")
int BPF_PROG(veritrail_packet_nft, const void *expression, const void *registers,
	     const struct nft_pktinfo *packet)
{
	return packet_begins(PROGRAM_PACKETS_NFT, ctx, BPF_CORE_READ(packet, state));
}

SEC("fexit/nft_log_eval")
int BPF_PROG(veritrail_packet_nft_done)
{
	return packet_ends(ctx);
}

SEC("fexit/audit_log_start")
int BPF_PROG(veritrail_packet_told, const void *context, unsigned int flags, int type,
	     struct audit_buffer *buffer)
{
	struct packet_event *event;
	struct packet_mark *mark;
	__u64 frame, stack, apart;
	__u32 program;

	if (type != AUDIT_NETFILTER_PKT || !buffer)
		return 0;
	frame = frame_of(ctx);
	stack = frame / STACK_BYTES;
	mark = bpf_map_lookup_elem(&packet_marks, &stack);
	if (!mark)
		return 0;
	apart = mark->frame > frame ? mark->frame - frame : frame - mark->frame;
	if (apart > NEAR)
		return 0;
	program = mark->program;
	/* Whoever makes many packets is not to take the room of those who tell of processes. */
	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= settings.wake_at / 2) {
		failed(program, FAILURE_RESERVE);
		return 0;
	}
	event = take(program, sizeof(*event));
	if (!event)
		return 0;
	__builtin_memset(&event->head.task, 0, sizeof(event->head.task));
	event->head.task.boottime_ns = bpf_ktime_get_boot_ns();
	event->head.task.net_ns = mark->net_ns;
	if (bpf_probe_read_kernel(event->stamp, sizeof(event->stamp),
				  BPF_CORE_READ(buffer, skb, data) + NETLINK_HEADER))
		failed(program, FAILURE_READ);
	give(event, false);
	return 0;
}

#endif
