/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tool or QEMU is killed at each step of a session with a real QEMU: the keeper
 * alone puts all right within a second, or ends.
 */
#include "points.h"

static bool journal_says_over(Vm *vm, Point point)
{
	g_autofree char *journal = vm_journal(vm);

	return point == AT_START ? journal[0] == '\0' : g_str_has_suffix(journal, "X");
}

static void wait_until_running(Vm *vm, gint64 usec)
{
	HvpDeadline deadline = hvp_deadline_in(usec);

	while (!vm_is_running(vm)) {
		g_assert_false(hvp_deadline_passed(deadline));
		g_usleep(2000);
	}
}

/* The last thing that a keeper does. */
static void wait_until_over(Vm *vm, Point point, gint64 usec)
{
	HvpDeadline deadline = hvp_deadline_in(usec);

	while (!journal_says_over(vm, point)) {
		g_assert_false(hvp_deadline_passed(deadline));
		g_usleep(2000);
	}
}

static void tool_process(Vm *vm, Point point)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	vm->keeper = vm_start_keeper(vm);
	go_to(vm, point);
	_exit(0);
}

/* What comes after the tool has to know whether the call was made. */
static void assert_call_told(Vm *vm, Point point)
{
	g_autofree char *journal = vm_journal(vm);

	if (point == AT_DIVERTED)
		g_assert_nonnull(strstr(journal, "Dn"));
	if (point == AT_CALLING || point == AT_RETURN)
		g_assert_nonnull(strstr(journal, "Drh"));
}

/* The tool is killed at that point; the keeper alone has put all right a second later. */
static void test_tool_dies(gconstpointer data)
{
	g_auto(Vm) vm = { 0 };
	Point point = point_of(data, &vm);
	pid_t tool;
	int status;

	if (!vm_is_possible())
		return;
	vm_start_with(&vm, "-name", "test");
	tool = fork();
	if (tool == 0)
		tool_process(&vm, point);
	g_assert_cmpint(waitpid(tool, &status, 0), ==, tool);
	g_assert_cmpint(status, ==, 0);
	wait_until_running(&vm, 10 * G_USEC_PER_SEC);
	/* A call under way is not cut short, and lasts longer on a busy machine. */
	wait_until_over(&vm, point, 20 * G_USEC_PER_SEC);
	assert_call_told(&vm, point);
	if (point == AT_COMMITTED)
		assert_committed_and_revert(&vm);
	vm_assert_untouched(&vm);
}

static void test_qemu_dies_VM_GONE(gconstpointer data)
{
	g_auto(Vm) vm = { 0 };
	Point point = point_of(data, &vm);
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;
	pid_t keeper;

	if (!vm_is_possible())
		return;
	vm_start_with(&vm, "-name", "test");
	vm.keeper = vm_start_keeper(&vm);
	go_to(&vm, point);
	kill(vm.pid, SIGKILL);
	waitpid(vm.pid, NULL, 0);
	/* One that stands still already may be answered from what is known of it. */
	if (hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error))
		g_assert_false(hvp_keeper_resume(vm.keeper, NULL, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
	keeper = hvp_keeper_get_pid(vm.keeper);
	g_clear_pointer(&vm.keeper, hvp_keeper_free);
	wait_until_dead(keeper);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_points("deaths/tool-dies", AT_START, AT_COMMITTED, test_tool_dies);
	if (vm_is_kvm()) {
		add_points("deaths/qemu-dies-VM_GONE", AT_ATTACHED, AT_COMMITTED,
			   test_qemu_dies_VM_GONE);
		return g_test_run();
	}
	add_spinning_points("deaths/tool-dies", AT_TRAPS_SET, AT_TRAP, test_tool_dies);
	add_spinning_points("deaths/tool-dies", AT_CALLING, AT_RETURN, test_tool_dies);
	add_points("deaths/qemu-dies-VM_GONE", AT_STOPPED, AT_STOPPED, test_qemu_dies_VM_GONE);
	add_points("deaths/qemu-dies-VM_GONE", AT_CALLING, AT_CALLING, test_qemu_dies_VM_GONE);
	return g_test_run();
}
