/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "guest/locks.h"
#include "synthetic-guest.h"

static const char *const mutexes[] = { "text_mutex",  "kprobe_mutex", "jump_label_mutex",
				       "ftrace_lock", "module_mutex", "klp_mutex" };

static void assert_free(HvpLocks *locks)
{
	g_autoptr(GError) error = NULL;

	g_assert_true(hvp_locks_check_free(locks, &error));
}

static void assert_held(HvpLocks *locks, const char *name)
{
	g_autoptr(GError) error = NULL;

	g_assert_false(hvp_locks_check_free(locks, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
	g_assert_nonnull(strstr(error->message, name));
}

static void test_mutexes(void)
{
	for (guint generation = 0; generation < 2; generation++) {
		SyntheticOptions options = { .generation = generation };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
		g_autoptr(HvpLocks) locks = hvp_locks_new(kernel, NULL);

		assert_free(locks);
		for (guint i = 0; i < G_N_ELEMENTS(mutexes); i++) {
			HvpGva mutex = synthetic_guest_symbol(guest, mutexes[i]);

			synthetic_guest_set(guest, mutex, HVP_AT_MUTEX_OWNER,
					    0xffff888001234000 | 1);
			assert_held(locks, mutexes[i]);
			/* Waiters, and no owner: about to be taken, but not by a running one. */
			synthetic_guest_set(guest, mutex, HVP_AT_MUTEX_OWNER, 7);
			assert_free(locks);
			synthetic_guest_set(guest, mutex, HVP_AT_MUTEX_OWNER, 8);
			assert_held(locks, mutexes[i]);
			synthetic_guest_set(guest, mutex, HVP_AT_MUTEX_OWNER, 0);
		}
		assert_free(locks);
	}
	hvp_locks_free(NULL);
}

static void test_tasklist(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
	g_autoptr(HvpLocks) locks = hvp_locks_new(kernel, NULL);
	HvpGva lock = synthetic_guest_symbol(guest, "tasklist_lock");

	/* Readers do no harm; a writer does, with readers waiting or not. */
	synthetic_guest_put(guest, lock, 3U << 9);
	assert_free(locks);
	synthetic_guest_put(guest, lock, 0xff);
	assert_held(locks, "tasklist_lock");
	synthetic_guest_put(guest, lock, 0x2ff);
	assert_held(locks, "tasklist_lock");
}

static void test_run_queues(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
	g_autoptr(HvpLocks) locks = hvp_locks_new(kernel, NULL);

	for (guint cpu = 0; cpu < SYNTHETIC_CPUS; cpu++) {
		HvpGva queue = synthetic_guest_per_cpu(guest, "runqueues", cpu);

		synthetic_guest_set(guest, queue, HVP_AT_RQ_LOCK, 1);
		assert_held(locks, "run queue");
		/* Paravirtual slow path. */
		synthetic_guest_set(guest, queue, HVP_AT_RQ_LOCK, 3);
		assert_held(locks, "run queue");
		synthetic_guest_set(guest, queue, HVP_AT_RQ_LOCK, 0);
	}
	assert_free(locks);
}

static void test_realtime(void)
{
	SyntheticOptions options = { .generation = GENERATION_6_12_RT };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
	g_autoptr(HvpLocks) locks = hvp_locks_new(kernel, NULL);
	HvpGva tasklist = synthetic_guest_symbol(guest, "tasklist_lock");
	HvpGva mutex = synthetic_guest_symbol(guest, "klp_mutex");

	/* Free is the readers' bias alone; a reader; a writer that waits; one that has it. */
	synthetic_guest_put(guest, tasklist, 1U << 31);
	assert_free(locks);
	synthetic_guest_put(guest, tasklist, (1U << 31) + 2);
	assert_free(locks);
	synthetic_guest_put(guest, tasklist, 2);
	assert_held(locks, "tasklist_lock");
	synthetic_guest_put(guest, tasklist, 1U << 30);
	assert_held(locks, "tasklist_lock");
	synthetic_guest_put(guest, tasklist, 1U << 31);
	/* One flag bit, and an owner that only those of a mutex would hide. */
	synthetic_guest_set(guest, mutex, HVP_AT_MUTEX_RT_OWNER, 1);
	assert_free(locks);
	synthetic_guest_set(guest, mutex, HVP_AT_MUTEX_RT_OWNER, 0xffff888001234001);
	assert_held(locks, "klp_mutex");
	synthetic_guest_set(guest, mutex, HVP_AT_MUTEX_RT_OWNER, 2);
	assert_held(locks, "klp_mutex");
}

static void test_missing(void)
{
	static const char *const needed[] = { "text_mutex", "tasklist_lock", "runqueues" };

	for (guint i = 0; i < G_N_ELEMENTS(needed); i++) {
		SyntheticOptions options = { .without = needed[i] };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
		g_autoptr(GError) error = NULL;

		g_assert_null(hvp_locks_new(kernel, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
	}
	for (guint i = 1; i < G_N_ELEMENTS(mutexes); i++) {
		SyntheticOptions options = { .without = mutexes[i] };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
		g_autoptr(HvpLocks) locks = hvp_locks_new(kernel, NULL);

		assert_free(locks);
	}
	for (guint i = 0; i < 2; i++) {
		SyntheticOptions options = { .missing = i ? "rq.__lock" : "mutex.owner" };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
		g_autoptr(GError) error = NULL;

		g_assert_null(hvp_locks_new(kernel, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
	}
}

static void test_unreadable(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
	g_autoptr(HvpLocks) locks = hvp_locks_new(kernel, NULL);
	g_autoptr(GError) error = NULL;
	HvpGva queue = synthetic_guest_per_cpu(guest, "runqueues", 1);

	guest->memory->hole_start = queue.value - SYNTHETIC_DIRECT_MAP;
	guest->memory->hole_end = guest->memory->hole_start + 0x800;
	assert_held(locks, "run queue");
	guest->memory->gone = true;
	g_assert_false(hvp_locks_check_free(locks, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/locks/mutex-owned-BUSY-waiters-alone-FREE", test_mutexes);
	g_test_add_func("/locks/tasklist-written-BUSY-read-FREE", test_tasklist);
	g_test_add_func("/locks/run-queue-BUSY", test_run_queues);
	g_test_add_func("/locks/realtime-kernel-BUSY-or-FREE", test_realtime);
	g_test_add_func("/locks/missing-REFUSED-optional-FINE", test_missing);
	g_test_add_func("/locks/unreadable-BUSY", test_unreadable);
	return g_test_run();
}
