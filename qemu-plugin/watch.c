/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "watch.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIRST_TABLE_SIZE 4096U
#define NSEC_PER_USEC 1000U

static uint64_t now_nsec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

bool plugin_watch_init(PluginWatch *self, uint32_t vcpu_count)
{
	if (vcpu_count == 0 || vcpu_count > PLUGIN_WATCH_MAX_VCPUS)
		return false;
	memset(self, 0, sizeof *self);
	self->vcpu_count = vcpu_count;
	self->next_number = 1;
	self->table_size = FIRST_TABLE_SIZE;
	self->ranges = calloc(HVP_PLUGIN_WIRE_MAX_RANGES, sizeof *self->ranges);
	self->spare = calloc(HVP_PLUGIN_WIRE_MAX_RANGES, sizeof *self->spare);
	self->table = calloc(self->table_size, sizeof(PluginInsn *));
	atomic_store(&self->lowest, UINT64_MAX);
	if (self->ranges == NULL || self->spare == NULL || self->table == NULL ||
	    pthread_mutex_init(&self->lock, NULL) != 0) {
		free(self->ranges);
		free(self->spare);
		free(self->table);
		return false;
	}
	return true;
}

void plugin_watch_clear(PluginWatch *self)
{
	for (uint32_t i = 0; i < self->table_size; i++)
		free(self->table[i]);
	free(self->table);
	free(self->ranges);
	free(self->spare);
	pthread_mutex_destroy(&self->lock);
}

/* --- instructions --- */

static PluginInsn **slot_of(PluginInsn **table, uint32_t size, uint64_t pc)
{
	uint32_t at = (uint32_t)((pc * 0x9e3779b97f4a7c15ULL) >> 32) & (size - 1);

	while (table[at] != NULL && table[at]->pc != pc)
		at = (at + 1) & (size - 1);
	return &table[at];
}

static bool grow_table(PluginWatch *self)
{
	uint32_t size = self->table_size * 2;
	PluginInsn **table = calloc(size, sizeof(PluginInsn *));

	if (table == NULL)
		return false;
	for (uint32_t i = 0; i < self->table_size; i++)
		if (self->table[i] != NULL)
			*slot_of(table, size, self->table[i]->pc) = self->table[i];
	free(self->table);
	self->table = table;
	self->table_size = size;
	return true;
}

static PluginInsn *new_insn(PluginWatch *self, uint64_t pc)
{
	PluginInsn *insn;

	if (self->insn_count >= PLUGIN_WATCH_MAX_INSNS ||
	    self->insn_count >= PLUGIN_WATCH_MAX_COUNTERS / self->vcpu_count ||
	    (self->insn_count >= self->table_size / 2 && !grow_table(self)))
		return NULL;
	insn = calloc(1, sizeof *insn + self->vcpu_count * sizeof *insn->counters);
	if (insn == NULL)
		return NULL;
	insn->pc = pc;
	*slot_of(self->table, self->table_size, pc) = insn;
	self->insn_count++;
	return insn;
}

/* --- ranges --- */

/* The first range that ends behind @address, or range_count. */
static uint32_t first_behind(const PluginWatch *self, uint64_t address)
{
	uint32_t low = 0, high = self->range_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (self->ranges[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static PluginRange *range_of(PluginWatch *self, uint64_t pc)
{
	uint32_t at = first_behind(self, pc);

	return at < self->range_count && self->ranges[at].start <= pc ? &self->ranges[at] : NULL;
}

static PluginRange *exact_range(PluginWatch *self, uint64_t start, uint64_t end)
{
	PluginRange *range = range_of(self, start);

	return range != NULL && range->start == start && range->end == end ? range : NULL;
}

static uint32_t forbidden_in(const PluginRange *range, uint64_t pc)
{
	uint32_t bits = 0;

	for (uint32_t i = 0; range != NULL && i < PLUGIN_WATCH_OUTCOMES; i++)
		if (range->rules[i].forbidden && pc >= range->rules[i].allowed_end)
			bits |= 1U << i;
	return bits;
}

static void note_bounds(PluginWatch *self)
{
	bool any = self->range_count > 0;

	atomic_store_explicit(&self->lowest, any ? self->ranges[0].start : UINT64_MAX,
			      memory_order_release);
	atomic_store_explicit(&self->end, any ? self->ranges[self->range_count - 1].end : 0,
			      memory_order_release);
}

/* Makes each record say what the ranges say. */
static void judge_all(PluginWatch *self)
{
	for (uint32_t i = 0; i < self->table_size; i++)
		if (self->table[i] != NULL)
			atomic_store(&self->table[i]->forbidden,
				     forbidden_in(range_of(self, self->table[i]->pc),
						  self->table[i]->pc));
}

/* Counting begins anew in the ranges that are new. */
static void zero_counts(PluginWatch *self)
{
	for (uint32_t i = 0; i < self->table_size; i++) {
		PluginInsn *insn = self->table[i];
		const PluginRange *range = insn != NULL ? range_of(self, insn->pc) : NULL;

		for (uint32_t vcpu = 0; range != NULL && range->is_new && vcpu < self->vcpu_count;
		     vcpu++) {
			PluginCounter *counter = &insn->counters[vcpu];

			counter->zero = counter->split = atomic_load(&counter->now);
		}
	}
	for (uint32_t i = 0; i < self->range_count; i++)
		self->ranges[i].is_new = false;
}

bool plugin_watch_holds(PluginWatch *self, uint64_t start, uint64_t end)
{
	uint32_t at;
	bool holds;

	pthread_mutex_lock(&self->lock);
	at = first_behind(self, start);
	holds = at < self->range_count && self->ranges[at].start < end;
	pthread_mutex_unlock(&self->lock);
	return holds;
}

PluginInsn *plugin_watch_find(PluginWatch *self, uint64_t pc)
{
	PluginInsn *insn = NULL;
	PluginRange *range;

	pthread_mutex_lock(&self->lock);
	range = range_of(self, pc);
	if (range != NULL) {
		insn = *slot_of(self->table, self->table_size, pc);
		if (insn == NULL)
			insn = new_insn(self, pc);
		if (insn != NULL)
			atomic_store(&insn->forbidden, forbidden_in(range, pc));
		else
			self->incomplete++;
	}
	pthread_mutex_unlock(&self->lock);
	return insn;
}

/* --- violations --- */

static bool is_same(const HvpPluginWireViolation *a, const HvpPluginWireViolation *b)
{
	return a->pc == b->pc && a->vcpu == b->vcpu && a->epoch == b->epoch &&
	       a->verdict == b->verdict;
}

static void note_violation(PluginWatch *self, const HvpPluginWireViolation *violation)
{
	self->totals[violation->verdict] += violation->count;
	for (uint32_t i = 0; i < self->violation_count; i++)
		if (is_same(&self->violations[i], violation)) {
			self->violations[i].count += violation->count;
			return;
		}
	if (self->violation_count == PLUGIN_WATCH_MAX_VIOLATIONS) {
		self->lost[violation->verdict] += violation->count;
		return;
	}
	self->violations[self->violation_count] = *violation;
	self->violations[self->violation_count++].number = self->next_number++;
}

static void violate(PluginWatch *self, uint64_t pc, uint32_t vcpu)
{
	const PluginRange *range = range_of(self, pc);
	uint32_t forbidden = forbidden_in(range, pc);
	HvpPluginWireViolation violation = { .pc = pc, .vcpu = vcpu, .count = 1 };
	const PluginRule *rule;

	/* Withdrawn since the record was read. */
	if (forbidden == 0)
		return;
	rule = &range->rules[forbidden & 1U << PLUGIN_WATCH_CONFIRMED ? PLUGIN_WATCH_CONFIRMED
								      : PLUGIN_WATCH_CANCELLED];
	violation.usec_since_switch = (now_nsec() - rule->switched_nsec) / NSEC_PER_USEC;
	violation.epoch = rule->epoch;
	violation.verdict = forbidden == 1U << PLUGIN_WATCH_CONFIRMED ? HVP_PLUGIN_WIRE_IF_CONFIRMED
			    : forbidden == 1U << PLUGIN_WATCH_CANCELLED
				    ? HVP_PLUGIN_WIRE_IF_CANCELLED
				    : HVP_PLUGIN_WIRE_FINAL;
	note_violation(self, &violation);
}

void plugin_watch_execute(PluginWatch *self, PluginInsn *insn, uint32_t vcpu)
{
	if (vcpu < self->vcpu_count) {
		_Atomic uint64_t *now = &insn->counters[vcpu].now;

		atomic_store_explicit(now, atomic_load_explicit(now, memory_order_relaxed) + 1,
				      memory_order_relaxed);
	}
	if (atomic_load_explicit(&insn->forbidden, memory_order_relaxed) == 0)
		return;
	pthread_mutex_lock(&self->lock);
	violate(self, insn->pc, vcpu);
	pthread_mutex_unlock(&self->lock);
}

/* Those of @outcome are final; those of the other one never were any. */
static void sort_violations(PluginWatch *self, PluginOutcome outcome)
{
	uint32_t become = outcome == PLUGIN_WATCH_CONFIRMED ? HVP_PLUGIN_WIRE_IF_CONFIRMED
							    : HVP_PLUGIN_WIRE_IF_CANCELLED;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < self->violation_count; i++) {
		HvpPluginWireViolation *violation = &self->violations[i];

		if (violation->verdict == become)
			violation->verdict = HVP_PLUGIN_WIRE_FINAL;
		if (violation->verdict == HVP_PLUGIN_WIRE_FINAL)
			self->violations[kept++] = *violation;
	}
	self->violation_count = kept;
	self->totals[HVP_PLUGIN_WIRE_FINAL] += self->totals[become];
	self->lost[HVP_PLUGIN_WIRE_FINAL] += self->lost[become];
	for (uint32_t i = HVP_PLUGIN_WIRE_IF_CONFIRMED; i <= HVP_PLUGIN_WIRE_IF_CANCELLED; i++)
		self->totals[i] = self->lost[i] = 0;
}

/* --- requests --- */

static bool is_sound(uint64_t start, uint64_t end)
{
	return start >= HVP_PLUGIN_WIRE_LOWEST_ADDRESS && start < end &&
	       end - start <= HVP_PLUGIN_WIRE_MAX_RANGE_BYTES;
}

static int compare_ranges(const void *a, const void *b)
{
	const PluginRange *left = a, *right = b;

	return left->start < right->start ? -1 : left->start > right->start;
}

/* Leaves out those of the first *@count of @ranges that are marked. */
static void sweep_withdrawn(PluginRange *ranges, uint32_t *count)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < *count; i++)
		if (!ranges[i].withdrawn)
			ranges[kept++] = ranges[i];
	*count = kept;
}

/* Marks in @ranges, a copy of self->ranges or they themselves, all that [@start, @end) touches. */
static void mark_withdrawn(const PluginWatch *self, PluginRange *ranges, uint64_t start,
			   uint64_t end)
{
	for (uint32_t i = first_behind(self, start);
	     i < self->range_count && self->ranges[i].start < end; i++)
		ranges[i].withdrawn = true;
}

/* Makes spare, of *@ret_count ranges in order, of those that are there and the new ones. */
static HvpPluginWireStatus merge(PluginWatch *self, const HvpPluginWireRange *ranges,
				 uint32_t count, uint32_t *ret_count)
{
	uint32_t total = self->range_count;

	memcpy(self->spare, self->ranges, total * sizeof *self->spare);
	for (uint32_t i = 0; i < count; i++) {
		if (!is_sound(ranges[i].start, ranges[i].end))
			return HVP_PLUGIN_WIRE_BAD_REQUEST;
		if (exact_range(self, ranges[i].start, ranges[i].end) == NULL)
			mark_withdrawn(self, self->spare, ranges[i].start, ranges[i].end);
	}
	sweep_withdrawn(self->spare, &total);
	for (uint32_t i = 0; i < count; i++) {
		if (exact_range(self, ranges[i].start, ranges[i].end) != NULL)
			continue;
		if (total == HVP_PLUGIN_WIRE_MAX_RANGES)
			return HVP_PLUGIN_WIRE_NO_ROOM;
		self->spare[total++] = (PluginRange){ .start = ranges[i].start,
						      .end = ranges[i].end,
						      .is_new = true };
	}
	qsort(self->spare, total, sizeof *self->spare, compare_ranges);
	for (uint32_t i = 1; i < total; i++)
		if (self->spare[i].start < self->spare[i - 1].end)
			return HVP_PLUGIN_WIRE_OVERLAP;
	*ret_count = total;
	return HVP_PLUGIN_WIRE_OK;
}

HvpPluginWireStatus plugin_watch_add(PluginWatch *self, const HvpPluginWireRange *ranges,
				     uint32_t count)
{
	HvpPluginWireStatus status;
	uint32_t total = 0;

	pthread_mutex_lock(&self->lock);
	status = merge(self, ranges, count, &total);
	if (status == HVP_PLUGIN_WIRE_OK) {
		PluginRange *old = self->ranges;

		self->ranges = self->spare;
		self->spare = old;
		self->range_count = total;
		zero_counts(self);
		note_bounds(self);
	}
	pthread_mutex_unlock(&self->lock);
	return status;
}

static HvpPluginWireStatus check_changes(PluginWatch *self, const HvpPluginWireChange *changes,
					 uint32_t count)
{
	if (self->undecided)
		return HVP_PLUGIN_WIRE_UNDECIDED;
	for (uint32_t i = 0; i < count; i++) {
		if (!is_sound(changes[i].start, changes[i].end) || changes[i].forbidden > 1 ||
		    changes[i].allowed_end < changes[i].start ||
		    changes[i].allowed_end > changes[i].end)
			return HVP_PLUGIN_WIRE_BAD_REQUEST;
		if (exact_range(self, changes[i].start, changes[i].end) == NULL)
			return HVP_PLUGIN_WIRE_NOT_WATCHED;
	}
	return HVP_PLUGIN_WIRE_OK;
}

static void split_counts(PluginWatch *self)
{
	for (uint32_t i = 0; i < self->table_size; i++)
		for (uint32_t vcpu = 0; self->table[i] && vcpu < self->vcpu_count; vcpu++) {
			PluginCounter *counter = &self->table[i]->counters[vcpu];

			counter->split = atomic_load(&counter->now);
		}
}

HvpPluginWireStatus plugin_watch_switch(PluginWatch *self, const HvpPluginWireChange *changes,
					uint32_t count)
{
	HvpPluginWireStatus status;
	uint64_t now = now_nsec();

	pthread_mutex_lock(&self->lock);
	status = check_changes(self, changes, count);
	if (status == HVP_PLUGIN_WIRE_OK) {
		self->epoch++;
		self->undecided = true;
		for (uint32_t i = 0; i < count; i++)
			exact_range(self, changes[i].start, changes[i].end)
				->rules[PLUGIN_WATCH_CONFIRMED] = (PluginRule){
				.forbidden = changes[i].forbidden,
				.allowed_end = changes[i].allowed_end,
				.switched_nsec = now,
				.epoch = self->epoch,
			};
		split_counts(self);
		judge_all(self);
	}
	pthread_mutex_unlock(&self->lock);
	return status;
}

static void decide(PluginWatch *self, PluginOutcome outcome)
{
	if (!self->undecided)
		return;
	self->undecided = false;
	self->confirmed += outcome == PLUGIN_WATCH_CONFIRMED;
	for (uint32_t i = 0; i < self->range_count; i++)
		self->ranges[i].rules[outcome ^ 1U] = self->ranges[i].rules[outcome];
	judge_all(self);
	sort_violations(self, outcome);
}

void plugin_watch_decide(PluginWatch *self, PluginOutcome outcome)
{
	pthread_mutex_lock(&self->lock);
	decide(self, outcome);
	pthread_mutex_unlock(&self->lock);
}

void plugin_watch_withdraw(PluginWatch *self, const HvpPluginWireRange *ranges, uint32_t count)
{
	pthread_mutex_lock(&self->lock);
	for (uint32_t i = 0; i < count; i++)
		mark_withdrawn(self, self->ranges, ranges[i].start, ranges[i].end);
	sweep_withdrawn(self->ranges, &self->range_count);
	note_bounds(self);
	judge_all(self);
	pthread_mutex_unlock(&self->lock);
}

static void forget(PluginWatch *self)
{
	decide(self, PLUGIN_WATCH_CANCELLED);
	self->range_count = 0;
	self->violation_count = 0;
	memset(self->totals, 0, sizeof self->totals);
	memset(self->lost, 0, sizeof self->lost);
	note_bounds(self);
	judge_all(self);
}

void plugin_watch_forget(PluginWatch *self)
{
	pthread_mutex_lock(&self->lock);
	forget(self);
	pthread_mutex_unlock(&self->lock);
}

void plugin_watch_enter_boot(PluginWatch *self, uint64_t boot)
{
	pthread_mutex_lock(&self->lock);
	if (self->boot != 0 && self->boot != boot)
		forget(self);
	self->boot = boot;
	pthread_mutex_unlock(&self->lock);
}

void plugin_watch_read_state(PluginWatch *self, HvpPluginWireState *ret_state)
{
	pthread_mutex_lock(&self->lock);
	ret_state->vcpu_count = self->vcpu_count;
	ret_state->range_count = self->range_count;
	ret_state->epoch = self->epoch;
	ret_state->undecided = self->undecided;
	ret_state->confirmed = self->confirmed;
	ret_state->incomplete = self->incomplete;
	pthread_mutex_unlock(&self->lock);
}

static void add_counts(const PluginWatch *self, const PluginInsn *insn, uint32_t only_vcpu,
		       HvpPluginWireCount *ret_count)
{
	*ret_count = (HvpPluginWireCount){ .pc = insn->pc };
	for (uint32_t vcpu = 0; vcpu < self->vcpu_count; vcpu++) {
		const PluginCounter *counter = &insn->counters[vcpu];

		if (only_vcpu != HVP_PLUGIN_WIRE_ALL_VCPUS && only_vcpu != vcpu)
			continue;
		ret_count->before += counter->split - counter->zero;
		ret_count->since += atomic_load(&counter->now) - counter->split;
	}
}

uint32_t plugin_watch_read_counts(PluginWatch *self, const HvpPluginWireQuery *query,
				  HvpPluginWireCount *ret_counts)
{
	uint64_t pc = query->from > query->start ? query->from : query->start;
	uint32_t count = 0;

	if (!is_sound(query->start, query->end))
		return 0;
	pthread_mutex_lock(&self->lock);
	for (; pc < query->end && count < HVP_PLUGIN_WIRE_MAX_ANSWERS; pc++) {
		const PluginInsn *insn = *slot_of(self->table, self->table_size, pc);

		if (insn != NULL && range_of(self, pc) != NULL)
			add_counts(self, insn, query->vcpu, &ret_counts[count++]);
	}
	pthread_mutex_unlock(&self->lock);
	return count;
}

uint32_t plugin_watch_read_violations(PluginWatch *self, uint64_t from,
				      HvpPluginWireViolations *ret_head,
				      HvpPluginWireViolation *ret_violations)
{
	uint32_t count = 0;

	pthread_mutex_lock(&self->lock);
	for (uint32_t i = 0; i < self->violation_count; i++)
		if (self->violations[i].number >= from)
			ret_violations[count++] = self->violations[i];
	*ret_head = (HvpPluginWireViolations){
		.final_count = self->totals[HVP_PLUGIN_WIRE_FINAL],
		.undecided_count = self->totals[HVP_PLUGIN_WIRE_IF_CONFIRMED] +
				   self->totals[HVP_PLUGIN_WIRE_IF_CANCELLED],
		.lost_count = self->lost[HVP_PLUGIN_WIRE_FINAL] +
			      self->lost[HVP_PLUGIN_WIRE_IF_CONFIRMED] +
			      self->lost[HVP_PLUGIN_WIRE_IF_CANCELLED],
		.next = self->next_number,
	};
	pthread_mutex_unlock(&self->lock);
	return count;
}
