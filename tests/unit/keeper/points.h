/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Steps of a tool at which something can happen to it, its keeper or its VM. */
#pragma once

#include "borrower.h"

/* Instructions of a round of the guest's loop, and of a turn of GUEST_SLOW. */
#define ROUND_INSTRUCTIONS 12U
#define TURN_INSTRUCTIONS 2U
#define MEASURE_USEC 30000U
#define CALL_MSEC 200U

G_GNUC_UNUSED static const HvpKeeperWrite patch = { { GUEST_PATCHED_BYTE }, 1, { 1 }, { 2 } };
G_GNUC_UNUSED static const HvpKeeperHook hook = { { GUEST_CALLEE_CALL }, 5, 0xdead };

/* What the tool has done when it, or the keeper, dies. */
typedef enum {
	AT_START,
	AT_ATTACHED,
	AT_STOPPED,
	AT_TRAPS_SET,
	AT_TRAP,
	AT_REDIRECTED,
	AT_DIVERTED,
	AT_CALLING,
	AT_CALLING_HOOKED,
	AT_HOOK,
	AT_NESTED,
	AT_RETURN,
	AT_HOME,
	AT_WRITTEN,
	AT_WRITTEN_RUNNING,
	AT_COMMITTED,
	AT_COUNT,
} Point;

G_GNUC_UNUSED static const char *const point_names[AT_COUNT] = {
	"start",     "attached",  "stopped",
	"traps-set", "at-a-trap", "redirected",
	"diverted",  "calling",	  "calling-with-hooks",
	"at-a-hook", "nested",	  "at-its-return",
	"home",	     "written",	  "written-and-running",
	"committed",
};

static inline void stop_vm(Vm *vm)
{
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;

	CHECK(hvp_keeper_stop(vm->keeper, BUDGET_USEC, &stop, &error));
}

/* Turns of GUEST_SLOW for about that time: guests' speeds differ a thousandfold. */
static inline guint64 long_call(const Vm *vm)
{
	guint64 usec = (vm->call_msec ? vm->call_msec : CALL_MSEC) * 1000;
	guint64 rounds = vm_peek(vm, GUEST_COUNTERS);
	gint64 started = g_get_monotonic_time();

	g_usleep(MEASURE_USEC);
	rounds = vm_peek(vm, GUEST_COUNTERS) - rounds;
	return MAX(rounds, 1) * ROUND_INSTRUCTIONS / TURN_INSTRUCTIONS * usec /
	       (guint64)(g_get_monotonic_time() - started);
}

static inline void go_to_borrowing(Vm *vm, Point point)
{
	guint64 turns = long_call(vm);
	bool hooked = point == AT_CALLING_HOOKED || point == AT_HOOK || point == AT_NESTED;
	bool slow = point == AT_CALLING || point == AT_CALLING_HOOKED;
	g_autoptr(GError) error = NULL;
	Borrowed borrowed;

	borrower_catch(vm, &borrowed);
	if (hooked)
		CHECK(hvp_keeper_set_hooks(vm->keeper, &hook, 1, &error));
	borrower_call(vm, &borrowed, slow ? GUEST_SLOW : GUEST_CALLEE, 3, turns);
	if (slow) {
		CHECK(hvp_keeper_resume(vm->keeper, NULL, &error));
		g_usleep(20000);
	}
	if (point == AT_HOOK || point == AT_NESTED)
		borrower_wait(vm, &borrowed, GUEST_CALLEE_CALL);
	if (point == AT_NESTED) {
		borrower_call(vm, &borrowed, GUEST_SLOW, 3, turns);
		CHECK(hvp_keeper_resume(vm->keeper, NULL, &error));
		g_usleep(20000);
	}
	if (point >= AT_RETURN)
		borrower_wait_return(vm, &borrowed);
	if (point == AT_HOME)
		borrower_come_home(vm, &borrowed);
}

static inline void go_to_writing(Vm *vm, Point point)
{
	g_autoptr(GError) error = NULL;

	stop_vm(vm);
	CHECK(hvp_keeper_write(vm->keeper, &patch, 1, &error));
	if (point == AT_WRITTEN_RUNNING)
		CHECK(hvp_keeper_resume(vm->keeper, NULL, &error));
	if (point == AT_COMMITTED)
		CHECK(hvp_keeper_commit(vm->keeper, &error));
}

static inline void go_to(Vm *vm, Point point)
{
	const HvpGva pc = { GUEST_WORK };
	g_autoptr(GError) error = NULL;
	Borrowed borrowed;

	if (point >= AT_ATTACHED)
		CHECK(hvp_keeper_attach(vm->keeper, &error));
	if (point >= AT_ATTACHED && vm->uses_spins)
		vm_use_spins(vm);
	if (point == AT_STOPPED)
		stop_vm(vm);
	if (point >= AT_TRAPS_SET && point <= AT_REDIRECTED)
		CHECK(hvp_keeper_set_traps(vm->keeper, &pc, 1, &error));
	if (point == AT_TRAP || point == AT_REDIRECTED)
		borrower_wait(vm, &borrowed, GUEST_WORK);
	if (point == AT_REDIRECTED)
		CHECK(hvp_keeper_redirect(vm->keeper, borrowed.vcpu, hvp_gva(GUEST_CALLEE), 3,
					  &error));
	if (point >= AT_DIVERTED && point <= AT_HOME)
		go_to_borrowing(vm, point);
	if (point >= AT_WRITTEN)
		go_to_writing(vm, point);
}

static inline void wait_until_left(Vm *vm, gint64 usec)
{
	HvpDeadline deadline = hvp_deadline_in(usec);

	while (vm_is_attached(vm)) {
		g_assert_false(hvp_deadline_passed(deadline));
		g_usleep(2000);
	}
}

/* Whoever has to reap it may be in no hurry. */
static inline bool is_alive(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
	g_autofree char *text = NULL;

	return g_file_get_contents(path, &text, NULL, NULL) && strstr(text, ") Z") == NULL;
}

static inline void wait_until_dead(pid_t pid)
{
	HvpDeadline deadline = hvp_deadline_in(2 * G_USEC_PER_SEC);

	while (is_alive(pid)) {
		g_assert_false(hvp_deadline_passed(deadline));
		g_usleep(2000);
	}
}

/* Undoes by hand what was committed, for vm_assert_untouched. */
static inline void assert_committed_and_revert(Vm *vm)
{
	const HvpKeeperWrite back = { { GUEST_PATCHED_BYTE }, 1, { 2 }, { 1 } };
	g_autoptr(GError) error = NULL;

	g_assert_cmpuint(vm_peek(vm, GUEST_PATCHED_BYTE) & 0xff, ==, 2);
	vm->keeper = vm_start_keeper(vm);
	CHECK(hvp_keeper_attach(vm->keeper, &error));
	stop_vm(vm);
	CHECK(hvp_keeper_write(vm->keeper, &back, 1, &error));
	CHECK(hvp_keeper_commit(vm->keeper, &error));
	CHECK(hvp_keeper_detach(vm->keeper, &error));
}

static inline void add_points(const char *what, Point first, Point last, GTestDataFunc function)
{
	for (Point point = first; point <= last; point++) {
		g_autofree char *path = g_strdup_printf("/%s/%s", what, point_names[point]);

		g_test_add_data_func(path, GINT_TO_POINTER(point), function);
	}
}

/* The same with spin traps; point_of tells. */
#define SPINNING 0x100

static inline Point point_of(gconstpointer data, Vm *vm)
{
	gint value = GPOINTER_TO_INT(data);

	vm->uses_spins = (value & SPINNING) != 0 || vm_is_kvm();
	return (Point)(value & ~SPINNING);
}

static inline void add_spinning_points(const char *what, Point first, Point last,
				       GTestDataFunc function)
{
	for (Point point = first; point <= last; point++) {
		g_autofree char *path = g_strdup_printf("/%s/spinning-%s", what,
							point_names[point]);

		g_test_add_data_func(path, GINT_TO_POINTER((gint)point | SPINNING), function);
	}
}
