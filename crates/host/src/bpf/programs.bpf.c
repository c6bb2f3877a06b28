// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Every program, one object: they share the ring. Each loads without the others.
 */
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "events.h"
#include "labels.h"
#include "describe.h"
#include "clock.h"
#include "groups.h"
#include "namespaces.h"
#include "packets.h"
#include "tasks.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
