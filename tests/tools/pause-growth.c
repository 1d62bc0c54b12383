/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pause-growth TASKS ROUNDS: how long a guest of TASKS sleeping tasks would stand still to be
 * judged, in a made-up guest whose memory is read as a shared mapping is. Prints
 *
 *   quiet N busy N
 *
 * medians of ROUNDS, in nanoseconds: nothing has happened since the look before the stop; one CPU
 * has switched once, so that all keys are read again. For scripts/bench.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../unit/guest/synthetic-guest.h"
#include "engine/prove.h"
#include "engine/sweep.h"

/* A task, its stack of four pages and the hole behind it. */
#define TASK_BYTES (64U << 10)
#define FIRST_PID 100U

typedef struct {
	SyntheticGuest *guest;
	HvpTarget target;
	HvpRegisters registers[SYNTHETIC_CPUS];
	HvpSweep *sweep;
	HvpForbidden old; /* the function to be replaced: nobody is in it */
} Growth;

static gint64 now_nsec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (gint64)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void set_up(Growth *self, guint tasks)
{
	SyntheticOptions options = { .generation = GENERATION_6_1,
				     .heap_bytes = (guint64)tasks * TASK_BYTES };

	self->guest = synthetic_guest_new(&options);
	for (guint i = 0; i < tasks; i++)
		synthetic_guest_add_task(self->guest, "sleeper", FIRST_PID + i, hvp_gva(0));
	for (guint cpu = 0; cpu < SYNTHETIC_CPUS; cpu++) {
		HvpGva offsets = synthetic_guest_symbol(self->guest, "__per_cpu_offset");

		self->registers[cpu] = self->guest->registers;
		self->registers[cpu].kernel_gs_base = synthetic_guest_get(
			self->guest, hvp_gva_add(offsets, cpu * 8));
	}
	self->old.range.start = synthetic_guest_symbol(self->guest, "frozen");
	self->old.range.end = hvp_gva_add(self->old.range.start, SYNTHETIC_FUNCTION_BYTES);
	self->old.name = "frozen";
	self->target.kernel = synthetic_guest_attach(self->guest);
	self->target.registers = self->registers;
	self->target.vcpu_count = SYNTHETIC_CPUS;
}

static void tear_down(Growth *self)
{
	hvp_sweep_free(self->sweep);
	hvp_unwinder_free(self->target.unwinder);
	hvp_modules_free(self->target.modules);
	hvp_kernel_free(self->target.kernel);
	synthetic_guest_free(self->guest);
}

/* One CPU has switched from a task to itself, as far as its count tells. */
static void count_switch(Growth *self)
{
	HvpGva count = synthetic_guest_member(self->guest,
					      synthetic_guest_per_cpu(self->guest, "runqueues", 0),
					      HVP_AT_RQ_NR_SWITCHES);

	synthetic_guest_put(self->guest, count, synthetic_guest_get(self->guest, count) + 1);
}

/* One stop: the time in it, or -1. */
static gint64 judge(Growth *self, bool busy, GError **error)
{
	guint ignored;
	gint64 start;

	if (!hvp_sweep_run(self->sweep, error))
		return -1;
	if (busy)
		count_switch(self);
	start = now_nsec();
	if (!hvp_sweep_recheck(self->sweep, self->registers, SYNTHETIC_CPUS, &ignored, error))
		return -1;
	if (!hvp_prove_changed(self->sweep, &self->old, 1)) {
		hvp_error_set(error, HVP_ERROR_INTERNAL, "somebody is in the old function");
		return -1;
	}
	return now_nsec() - start;
}

static int compare(const void *a, const void *b)
{
	gint64 one = *(const gint64 *)a, other = *(const gint64 *)b;

	return (one > other) - (one < other);
}

/* -1 on failure. */
static gint64 median(Growth *self, guint rounds, bool busy, GError **error)
{
	g_autofree gint64 *times = g_new(gint64, rounds);

	for (guint i = 0; i < rounds; i++) {
		times[i] = judge(self, busy, error);
		if (times[i] < 0)
			return -1;
	}
	qsort(times, rounds, sizeof *times, compare);
	return times[rounds / 2];
}

static bool run(Growth *self, guint rounds, GError **error)
{
	gint64 quiet, busy;

	if (!hvp_target_refresh_modules(&self->target, error))
		return false;
	self->sweep = hvp_sweep_new(&self->target, error);
	if (self->sweep == NULL)
		return false;
	quiet = median(self, rounds, false, error);
	busy = quiet < 0 ? -1 : median(self, rounds, true, error);
	if (busy < 0)
		return false;
	printf("quiet %" G_GINT64_FORMAT " busy %" G_GINT64_FORMAT "\n", quiet, busy);
	return true;
}

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	Growth growth = { 0 };
	gulong tasks = argc == 3 ? strtoul(argv[1], NULL, 10) : 0;
	gulong rounds = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	bool ok;

	if (tasks == 0 || tasks > 100000 || rounds == 0 || rounds > 100000) {
		fprintf(stderr, "usage: pause-growth TASKS ROUNDS\n");
		return 2;
	}
	set_up(&growth, (guint)tasks);
	ok = run(&growth, (guint)rounds, &error);
	if (!ok)
		fprintf(stderr, "pause-growth: %s\n", error->message);
	tear_down(&growth);
	return ok ? 0 : 1;
}
