/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is watched, how often it executed, and what of it was forbidden.
 *
 * An instruction has one record for the life of the plugin, found again by its address: QEMU
 * keeps pointers to it in translated code and never tells when it has dropped them. Counters only
 * grow and each is written by its own vCPU alone, so that counting takes no lock; what began at
 * another time is told by subtracting. All else is under one lock, which is held for short, bounded
 * work only: a vCPU waits for it when it translates watched code, or does what is forbidden.
 *
 *   decided --switch--> undecided --decide--> decided
 *
 * While undecided both outcomes are judged, and a violation of one of them is kept as such.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "wire/plugin-wire.h"

#define PLUGIN_WATCH_MAX_VCPUS 512U
#define PLUGIN_WATCH_MAX_INSNS (1U << 18)
/* Of counters, in all: many vCPUs leave room for fewer instructions. */
#define PLUGIN_WATCH_MAX_COUNTERS (1U << 23)
#define PLUGIN_WATCH_MAX_VIOLATIONS 1024U

/* The two outcomes of an undecided switch; the same where all is decided. */
typedef enum {
	PLUGIN_WATCH_CANCELLED,
	PLUGIN_WATCH_CONFIRMED,
	PLUGIN_WATCH_OUTCOMES,
} PluginOutcome;

typedef struct {
	bool forbidden;
	uint64_t allowed_end;
	uint64_t switched_nsec;
	uint32_t epoch;
} PluginRule;

typedef struct {
	uint64_t start;
	uint64_t end;
	PluginRule rules[PLUGIN_WATCH_OUTCOMES];
	bool is_new, withdrawn; /* while a request is carried out */
} PluginRange;

typedef struct {
	_Atomic uint64_t now;
	uint64_t zero;	/* what it was when the range was set */
	uint64_t split; /* what it was at the last switch */
} PluginCounter;

typedef struct {
	uint64_t pc;
	_Atomic uint32_t forbidden; /* bit n: in outcome n */
	PluginCounter counters[];   /* of each vCPU */
} PluginInsn;

typedef struct {
	pthread_mutex_t lock;
	uint32_t vcpu_count;
	_Atomic uint64_t lowest, end; /* of all ranges: a hint that needs no lock */
	PluginRange *ranges;	      /* [HVP_PLUGIN_WIRE_MAX_RANGES], ordered */
	PluginRange *spare;	      /* as many: where the next set of ranges is made */
	uint32_t range_count;
	PluginInsn **table; /* by hash of the address; [table_size], a power of two */
	uint32_t table_size;
	uint32_t insn_count;
	uint32_t incomplete;
	uint64_t boot;
	uint32_t epoch;
	uint32_t confirmed;
	bool undecided;
	HvpPluginWireViolation violations[PLUGIN_WATCH_MAX_VIOLATIONS];
	uint32_t violation_count;
	uint64_t next_number;
	uint64_t totals[3]; /* by HvpPluginWireVerdict */
	uint64_t lost[3];
} PluginWatch;

/* False without memory, or when @vcpu_count is not 1..PLUGIN_WATCH_MAX_VCPUS. */
bool plugin_watch_init(PluginWatch *self, uint32_t vcpu_count);

/* For tests: no translated code may be left. */
void plugin_watch_clear(PluginWatch *self);

/* Whether code of [@start, @end) may be watched; takes no lock, and says yes too often. */
static inline bool plugin_watch_may_hold(PluginWatch *self, uint64_t start, uint64_t end)
{
	return start < atomic_load_explicit(&self->end, memory_order_acquire) &&
	       end > atomic_load_explicit(&self->lowest, memory_order_acquire);
}

/* Whether any of [@start, @end) is watched. */
bool plugin_watch_holds(PluginWatch *self, uint64_t start, uint64_t end);

/*
 * The record of the instruction at @pc, made if need be; NULL where it is not watched. It stays
 * valid. To be called when the instruction is translated.
 */
PluginInsn *plugin_watch_find(PluginWatch *self, uint64_t pc);

/* The instruction begins to execute on @vcpu. */
void plugin_watch_execute(PluginWatch *self, PluginInsn *insn, uint32_t vcpu);

/* Requests of the protocol; @count items each. What is refused changes nothing. */
HvpPluginWireStatus plugin_watch_add(PluginWatch *self, const HvpPluginWireRange *ranges,
				     uint32_t count);
HvpPluginWireStatus plugin_watch_switch(PluginWatch *self, const HvpPluginWireChange *changes,
					uint32_t count);
void plugin_watch_decide(PluginWatch *self, PluginOutcome outcome);
void plugin_watch_withdraw(PluginWatch *self, const HvpPluginWireRange *ranges, uint32_t count);
void plugin_watch_forget(PluginWatch *self);
void plugin_watch_enter_boot(PluginWatch *self, uint64_t boot);

/* Fills in all but protocol and api. */
void plugin_watch_read_state(PluginWatch *self, HvpPluginWireState *ret_state);

/* The counts of @query's range; returns how many, HVP_PLUGIN_WIRE_MAX_ANSWERS at most. */
uint32_t plugin_watch_read_counts(PluginWatch *self, const HvpPluginWireQuery *query,
				  HvpPluginWireCount *ret_counts);

/* Violations from number @from on; returns how many, PLUGIN_WATCH_MAX_VIOLATIONS at most. */
uint32_t plugin_watch_read_violations(PluginWatch *self, uint64_t from,
				      HvpPluginWireViolations *ret_head,
				      HvpPluginWireViolation *ret_violations);
