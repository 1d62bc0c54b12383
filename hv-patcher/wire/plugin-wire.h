/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the QEMU plugin and its clients say to each other, over a unix stream socket of one host:
 *
 *   message = header, length_bytes of payload
 *   each request has one reply of the same sequence, its type with HVP_PLUGIN_WIRE_REPLY set
 *
 *   request     payload              payload of an OK reply
 *   HELLO       hello                state
 *   BOOT        boot                 state    what tells this boot of the guest from another:
 * FORGET where it is not the one of before WATCH       range*               state    counts what
 * executes there, once it is translated anew; a range that is watched already stays as it is,
 *                                             others that overlap a new one are withdrawn
 *   SWITCH      change*              state    while the VM stands still: from now on the ranges
 *                                             are forbidden or not; an epoch that is undecided
 *   DECIDE      decision             state    whether that was to be; nothing undecided: no change
 *   WITHDRAW    range*               state    of these nothing is watched any more
 *   FORGET      nothing              state    withdraws all, and forgets all violations
 *   COUNTS      query                count*   ordered by pc, at most HVP_PLUGIN_WIRE_MAX_ANSWERS
 *   VIOLATIONS  query (from only)    violations, violation*
 *
 * Ranges are of kernel addresses (upper half) and not empty. In a
 * forbidden range nothing may execute from allowed_end on (allowed_end == start: nothing at all).
 * A message that makes no sense is answered BAD_REQUEST, and nothing is changed; behind a header
 * that makes none the connection is closed.
 */
#pragma once

#include <stdint.h>

#define HVP_PLUGIN_WIRE_MAGIC 0x50505648U
#define HVP_PLUGIN_WIRE_PROTOCOL 1U
#define HVP_PLUGIN_WIRE_REPLY 0x8000U
#define HVP_PLUGIN_WIRE_MAX_RANGES 8192U
#define HVP_PLUGIN_WIRE_MAX_RANGE_BYTES (1U << 20)
#define HVP_PLUGIN_WIRE_MAX_ANSWERS 1024U
#define HVP_PLUGIN_WIRE_ALL_VCPUS UINT32_MAX
#define HVP_PLUGIN_WIRE_LOWEST_ADDRESS 0xffff800000000000ULL

typedef enum {
	HVP_PLUGIN_WIRE_HELLO = 1,
	HVP_PLUGIN_WIRE_WATCH,
	HVP_PLUGIN_WIRE_SWITCH,
	HVP_PLUGIN_WIRE_DECIDE,
	HVP_PLUGIN_WIRE_WITHDRAW,
	HVP_PLUGIN_WIRE_FORGET,
	HVP_PLUGIN_WIRE_COUNTS,
	HVP_PLUGIN_WIRE_VIOLATIONS,
	HVP_PLUGIN_WIRE_BOOT,
} HvpPluginWireType;

typedef enum {
	HVP_PLUGIN_WIRE_OK,
	HVP_PLUGIN_WIRE_BAD_REQUEST,
	HVP_PLUGIN_WIRE_NOT_WATCHED, /* SWITCH of a range that is not watched */
	HVP_PLUGIN_WIRE_NO_ROOM,
	HVP_PLUGIN_WIRE_UNDECIDED, /* SWITCH: the last one is */
	HVP_PLUGIN_WIRE_OVERLAP,   /* WATCH of ranges that overlap one another */
} HvpPluginWireStatus;

typedef struct {
	uint32_t magic;
	uint16_t type;
	uint16_t status; /* 0 in a request */
	uint32_t sequence;
	uint32_t length_bytes; /* of the payload */
} HvpPluginWireHeader;

typedef struct {
	uint32_t protocol;
	uint32_t reserved;
} HvpPluginWireHello;

typedef struct {
	uint32_t protocol;
	uint32_t api; /* of QEMU's plugin interface */
	uint32_t vcpu_count;
	uint32_t range_count;
	uint32_t epoch;	     /* switches so far */
	uint32_t undecided;  /* whether the last of them is */
	uint32_t confirmed;  /* how many were confirmed */
	uint32_t incomplete; /* instructions that could not be watched, for want of memory */
} HvpPluginWireState;

typedef struct {
	uint64_t boot;
} HvpPluginWireBoot;

typedef struct {
	uint64_t start;
	uint64_t end;
} HvpPluginWireRange;

typedef struct {
	uint64_t start;
	uint64_t end;
	uint64_t allowed_end;
	uint32_t forbidden; /* 0 or 1 */
	uint32_t reserved;
} HvpPluginWireChange;

typedef struct {
	uint32_t confirmed; /* 0 or 1 */
	uint32_t reserved;
} HvpPluginWireDecision;

typedef struct {
	uint64_t start;
	uint64_t end;
	uint64_t from; /* first pc, or number of a violation */
	uint32_t vcpu; /* or HVP_PLUGIN_WIRE_ALL_VCPUS */
	uint32_t reserved;
} HvpPluginWireQuery;

/* How often an instruction began to execute, before the last switch and since. */
typedef struct {
	uint64_t pc;
	uint64_t before;
	uint64_t since;
} HvpPluginWireCount;

typedef struct {
	uint64_t final_count; /* executions of forbidden instructions, all of them */
	uint64_t undecided_count;
	uint64_t lost_count; /* of those, how many have no place in the list any more */
	uint64_t next;	     /* the number of the next violation */
} HvpPluginWireViolations;

typedef enum {
	HVP_PLUGIN_WIRE_FINAL,
	HVP_PLUGIN_WIRE_IF_CONFIRMED, /* it is one if the switch is confirmed */
	HVP_PLUGIN_WIRE_IF_CANCELLED,
} HvpPluginWireVerdict;

/* An instruction that was forbidden began to execute on this vCPU, the first time of @count. */
typedef struct {
	uint64_t number;
	uint64_t pc;
	uint64_t usec_since_switch; /* of the switch that forbade it */
	uint64_t count;
	uint32_t epoch; /* of that switch */
	uint32_t vcpu;
	uint32_t verdict;
	uint32_t reserved;
} HvpPluginWireViolation;
