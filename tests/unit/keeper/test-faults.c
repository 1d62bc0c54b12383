/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A keeper with a real QEMU when others do not behave: somebody stops, resumes,
 * resets or debugs the VM, the tool takes too long or talks nonsense.
 */
#include <sys/mman.h>
#include <sys/socket.h>

#include "keeper/spawn.h"
#include "points.h"

static void test_budget_UNDONE(void)
{
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	/* Long enough to write in it on a host that is busy. */
	CHECK(hvp_keeper_stop(vm.keeper, G_USEC_PER_SEC, &stop, &error));
	CHECK(hvp_keeper_write(vm.keeper, &patch, 1, &error));
	vm_wait_untouched(&vm, 20 * G_USEC_PER_SEC);
	for (int tries = 0; tries < 2; tries++) {
		g_assert_false(hvp_keeper_commit(vm.keeper, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_UNDONE);
		g_assert_nonnull(strstr(error->message, "budget of 1000 ms"));
		g_clear_error(&error);
	}
}

/* A tool that has the journal filled loses its keeper long before no recovery could read it. */
static void test_full_journal_UNDONE(void)
{
	g_autofree guint8 *filling = g_malloc0(HVP_JOURNAL_MAX_RECORD_BYTES);
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 }, again = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	CHECK(hvp_keeper_write(vm.keeper, &patch, 1, &error));
	for (int i = 0; i < 14; i++)
		CHECK(hvp_journal_append(vm.journal_fd, HVP_JOURNAL_STEP, filling,
					 HVP_JOURNAL_MAX_RECORD_BYTES, &error));
	g_assert_false(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &again, &error) &&
		       hvp_keeper_commit(vm.keeper, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNDONE);
	g_assert_nonnull(strstr(error->message, "journal is full"));
	vm_wait_untouched(&vm, 20 * G_USEC_PER_SEC);
	g_assert_cmpint(hvp_journal_get_size(vm.journal_fd), <, HVP_JOURNAL_MAX_BYTES);
}

/* The tool stands still at a hook for too long: its thread goes home, and the VM runs. */
static void test_budget_at_a_hook_UNDONE(void)
{
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;
	Borrowed borrowed;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	borrower_catch(&vm, &borrowed);
	CHECK(hvp_keeper_set_hooks(vm.keeper, &hook, 1, &error));
	borrower_call(&vm, &borrowed, GUEST_CALLEE, 3, 0);
	CHECK(hvp_keeper_wait(vm.keeper, vm_soon(), 50000, &stop, &error));
	g_usleep(60000);
	vm_wait_untouched(&vm, 20 * G_USEC_PER_SEC);
	g_assert_false(hvp_keeper_answer(vm.keeper, borrowed.vcpu, 0, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNDONE);
}

static void test_paused_by_its_owner_CONFLICT(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	g_autofree char *status = NULL;

	if (!vm_is_possible())
		return;
	vm_start_with(&vm, "-name", "test");
	vm.keeper = vm_start_keeper(&vm);
	vm_command(&vm, "stop");
	g_assert_false(hvp_keeper_attach(vm.keeper, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	g_assert_nonnull(strstr(error->message, "paused"));
	g_clear_error(&error);
	status = vm_status(&vm);
	g_assert_cmpstr(status, ==, "paused");
	g_assert_false(vm_has_chardev(&vm, "hvpatch-gdb"));
	vm_command(&vm, "cont");
	CHECK(hvp_keeper_attach(vm.keeper, &error));
}

static void test_debugger_CONFLICT(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	vm_start_with(&vm, "-gdb", "null");
	vm.keeper = vm_start_keeper(&vm);
	g_assert_false(hvp_keeper_attach(vm.keeper, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	g_assert_nonnull(strstr(error->message, "debugger"));
	g_clear_error(&error);
	g_assert_false(hvp_keeper_adopt(vm.keeper, NULL, 0, NULL, 0, NULL, 0, NULL, 0, false,
					vm_soon(), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	vm_assert_untouched(&vm);
}

/* QEMU has one gdb server: the owner's takes it from us, and is left alone. */
static void test_debugger_comes_CONFLICT(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	g_autofree char *text = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	text = vm_hmp(&vm, "gdbserver null");
	g_assert_false(hvp_keeper_set_traps(vm.keeper, NULL, 0, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	g_clear_pointer(&vm.keeper, hvp_keeper_free);
	g_assert_true(vm_has_chardev(&vm, "gdb: "));
	vm_assert_untouched(&vm);
}

static void test_resumed_by_somebody_CONFLICT(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	stop_vm(&vm);
	vm_command(&vm, "cont");
	g_assert_false(hvp_keeper_write(vm.keeper, &patch, 1, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	vm_assert_untouched(&vm);
}

static void test_resumed_after_a_write_CONFLICT(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	stop_vm(&vm);
	CHECK(hvp_keeper_write(vm.keeper, &patch, 1, &error));
	vm_command(&vm, "cont");
	vm_command(&vm, "stop");
	vm_command(&vm, "cont");
	g_assert_false(hvp_keeper_commit(vm.keeper, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	vm_assert_untouched(&vm);
}

static void test_paused_while_running_CONFLICT(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	g_autofree char *status = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	vm_command(&vm, "stop");
	wait_until_left(&vm, 20 * G_USEC_PER_SEC);
	status = vm_status(&vm);
	g_assert_cmpstr(status, ==, "paused");
	g_assert_false(hvp_keeper_set_traps(vm.keeper, NULL, 0, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	vm_command(&vm, "cont");
	vm_assert_untouched(&vm);
}

/* Until the keeper has heard that somebody else stopped the VM; until then it refuses a commit. */
static void wait_for_conflict(Vm *vm)
{
	HvpDeadline deadline = vm_soon();

	for (;;) {
		g_autoptr(GError) error = NULL;

		g_assert_false(hvp_keeper_commit(vm->keeper, &error));
		if (g_error_matches(error, HVP_ERROR, HVP_ERROR_CONFLICT))
			return;
		g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
		g_assert_false(hvp_deadline_passed(deadline));
		g_usleep(5000);
	}
}

/* A call is under way: nothing is resumed against its owner's will, and it ends afterwards. */
static void test_paused_while_calling_CONFLICT(void)
{
	g_auto(Vm) vm = { 0 };
	g_autofree char *status = NULL;

	if (!vm_is_possible())
		return;
	vm_start_with(&vm, "-name", "test");
	vm.keeper = vm_start_keeper(&vm);
	go_to(&vm, AT_CALLING);
	vm_command(&vm, "stop");
	wait_for_conflict(&vm);
	status = vm_status(&vm);
	g_assert_cmpstr(status, ==, "paused");
	g_assert_true(vm_has_chardev(&vm, "hvpatch-gdb"));
	vm_command(&vm, "cont");
	vm_wait_untouched(&vm, 20 * G_USEC_PER_SEC);
}

static void test_reset_CONFLICT(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	g_autofree char *status = NULL;

	if (!vm_is_possible())
		return;
	vm_start_with(&vm, "-name", "test");
	vm.keeper = vm_start_keeper(&vm);
	go_to(&vm, AT_CALLING);
	vm_command(&vm, "system_reset");
	wait_until_left(&vm, 20 * G_USEC_PER_SEC);
	g_assert_false(hvp_keeper_commit(vm.keeper, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	status = vm_status(&vm);
	g_assert_cmpstr(status, ==, "running");
}

static void test_reset_while_stopped_CONFLICT(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Borrowed borrowed;
	HvpKeeperFrame frame;
	HvpRegisters registers;
	g_autofree char *status = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	borrower_catch(&vm, &borrowed);
	borrower_prepare(&vm, &borrowed, GUEST_CALLEE, &frame, &registers);
	vm_command(&vm, "system_reset");
	g_assert_false(hvp_keeper_divert(vm.keeper, &frame, &registers, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	wait_until_left(&vm, 20 * G_USEC_PER_SEC);
	status = vm_status(&vm);
	g_assert_cmpstr(status, ==, "running");
}

static void test_terminated_UNDONE(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	pid_t keeper;

	if (!vm_is_possible())
		return;
	vm_start_with(&vm, "-name", "test");
	vm.keeper = vm_start_keeper(&vm);
	go_to(&vm, AT_WRITTEN);
	keeper = hvp_keeper_get_pid(vm.keeper);
	kill(keeper, SIGTERM);
	wait_until_dead(keeper);
	vm_assert_untouched(&vm);
	g_assert_false(hvp_keeper_commit(vm.keeper, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNDONE);
}

/* Not even the tool's own words are trusted. */
static void test_garbage_from_the_tool(void)
{
	static const char *const garbage[] = { "short", "HVPK\1\0\0\0\377\377\377\377 too long",
					       "HVPK\7\0\0\0\1\0\0\0!", "HVPK\6\0\0\0\0\0\0\0" };
	static const gsize lengths[] = { 5, 20, 13, 12 };
	g_auto(Vm) vm = { 0 };

	if (!vm_is_possible())
		return;
	vm_start_with(&vm, "-name", "test");
	for (gsize i = 0; i < G_N_ELEMENTS(garbage); i++) {
		g_autoptr(HvpQmp) qmp = vm_connect(&vm, "keeper.sock");
		int monitor = hvp_qmp_steal_fd(qmp);
		int fd = hvp_spawn_keeper(monitor, vm.journal_fd, NULL);
		char rest[4096];

		g_assert_cmpint(fd, >=, 0);
		close(monitor);
		g_assert_cmpint(send(fd, garbage[i], lengths[i], 0), ==, (ssize_t)lengths[i]);
		shutdown(fd, SHUT_WR);
		while (recv(fd, rest, sizeof rest, 0) > 0)
			;
		close(fd);
	}
	vm_assert_untouched(&vm);
}

static void test_no_program_NOT_FOUND(void)
{
	g_autofree char *program = g_strdup(g_getenv("HVPATCH_KEEPER"));
	int null = open("/dev/null", O_RDWR);
	g_autoptr(GError) error = NULL;

	g_setenv("HVPATCH_KEEPER", "/nonexistent/keeper", TRUE);
	g_assert_null(hvp_keeper_start(null, null, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INTERNAL);
	if (program != NULL)
		g_setenv("HVPATCH_KEEPER", program, TRUE);
	else
		g_unsetenv("HVPATCH_KEEPER");
	g_assert_cmpint(fcntl(null, F_GETFD), >=, 0);
	close(null);
}

/* Nothing leads to a VM; then a process that is none. */
static void test_no_monitor(void)
{
	int journal = memfd_create("journal", MFD_CLOEXEC);
	const HvpKvmPlace place = { .pid = getpid(), .start_time = 1 };
	g_autoptr(HvpKeeper) keeper = NULL;
	g_autoptr(GError) error = NULL;

	keeper = hvp_keeper_start(-1, journal, &error);
	g_assert_no_error(error);
	g_assert_false(hvp_keeper_attach(keeper, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_clear_error(&error);
	g_assert_false(hvp_keeper_adopt(keeper, NULL, 0, NULL, 0, NULL, 0, NULL, 0, false,
					hvp_deadline_in(G_USEC_PER_SEC), &error));
	g_clear_error(&error);
	CHECK(hvp_keeper_use_kvm(keeper, &place, &error));
	g_assert_false(hvp_keeper_attach(keeper, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
	close(journal);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/faults/budget-UNDONE", test_budget_UNDONE);
	g_test_add_func("/faults/full-journal-UNDONE", test_full_journal_UNDONE);
	g_test_add_func("/faults/budget-at-a-hook-UNDONE", test_budget_at_a_hook_UNDONE);
	g_test_add_func("/faults/paused-by-its-owner-CONFLICT", test_paused_by_its_owner_CONFLICT);
	g_test_add_func("/faults/debugger-CONFLICT", test_debugger_CONFLICT);
	g_test_add_func("/faults/debugger-comes-CONFLICT", test_debugger_comes_CONFLICT);
	g_test_add_func("/faults/resumed-by-somebody-CONFLICT", test_resumed_by_somebody_CONFLICT);
	g_test_add_func("/faults/resumed-after-a-write-CONFLICT",
			test_resumed_after_a_write_CONFLICT);
	g_test_add_func("/faults/paused-while-running-CONFLICT",
			test_paused_while_running_CONFLICT);
	g_test_add_func("/faults/paused-while-calling-CONFLICT",
			test_paused_while_calling_CONFLICT);
	g_test_add_func("/faults/reset-CONFLICT", test_reset_CONFLICT);
	g_test_add_func("/faults/reset-while-stopped-CONFLICT", test_reset_while_stopped_CONFLICT);
	g_test_add_func("/faults/terminated-UNDONE", test_terminated_UNDONE);
	g_test_add_func("/faults/garbage-from-the-tool", test_garbage_from_the_tool);
	g_test_add_func("/faults/no-program", test_no_program_NOT_FOUND);
	g_test_add_func("/faults/no-monitor-no-place-INVALID_ARGUMENT", test_no_monitor);
	return g_test_run();
}
