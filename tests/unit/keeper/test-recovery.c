/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper is killed at each step of a session with a real QEMU; another one, told
 * what the journal says, puts all right.
 */
#include "points.h"

/* What recovery reads from a journal. */
typedef struct {
	HvpKeeperFrame frames[HVP_KEEPER_MAX_FRAMES];
	gsize frame_count;
	HvpKeeperHook hooks[HVP_KEEPER_MAX_TRAPS];
	gsize hook_count;
	HvpKeeperSpin spins[HVP_KEEPER_MAX_SPINS];
	gsize spin_count;
	HvpKeeperWrite writes[16];
	gsize write_count;
} Left;

static void add_left(Left *left, const HvpJournalRecord *record)
{
	switch (record->type) {
	case HVP_JOURNAL_HOOKS:
		memcpy(left->hooks, record->payload, record->length_bytes);
		left->hook_count = record->length_bytes / sizeof(HvpKeeperHook);
		break;
	case HVP_JOURNAL_SPINS:
		memcpy(left->spins, record->payload, record->length_bytes);
		left->spin_count = record->length_bytes / sizeof(HvpKeeperSpin);
		break;
	case HVP_JOURNAL_DIVERT:
		memcpy(&left->frames[left->frame_count++], record->payload, sizeof(HvpKeeperFrame));
		break;
	case HVP_JOURNAL_NOT_BEGUN:
	case HVP_JOURNAL_HOME:
		left->frame_count--;
		break;
	case HVP_JOURNAL_WRITE:
		memcpy(&left->writes[left->write_count++], record->payload, sizeof(HvpKeeperWrite));
		break;
	case HVP_JOURNAL_UNDONE:
	case HVP_JOURNAL_COMMIT:
		left->write_count = 0;
		break;
	default:
		break;
	}
}

static void read_left(const Vm *vm, Left *left)
{
	g_autofree char *path = vm_path(vm, "journal");
	g_autofree char *bytes = NULL;
	g_autoptr(GArray) records = NULL;
	gsize length_bytes;
	bool torn;

	memset(left, 0, sizeof *left);
	g_assert_true(g_file_get_contents(path, &bytes, &length_bytes, NULL));
	records = hvp_journal_parse((const guint8 *)bytes, length_bytes, &torn);
	for (guint i = 0; i < records->len; i++)
		add_left(left, &g_array_index(records, HvpJournalRecord, i));
}

static void kill_keeper(Vm *vm)
{
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;

	g_assert_cmpint(kill(hvp_keeper_get_pid(vm->keeper), SIGKILL), ==, 0);
	g_assert_false(hvp_keeper_stop(vm->keeper, BUDGET_USEC, &stop, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INCONSISTENT);
	g_clear_pointer(&vm->keeper, hvp_keeper_free);
}

static bool adopt(Vm *vm, const Left *left, bool forward, GError **error)
{
	return hvp_keeper_adopt(vm->keeper, left->frames, left->frame_count, left->hooks,
				left->hook_count, left->spins, left->spin_count, left->writes,
				left->write_count, forward, vm_soon(), error);
}

/* The keeper is killed at that point; another one, told what the journal says, repairs. */
static void test_keeper_dies(gconstpointer data)
{
	g_auto(Vm) vm = { 0 };
	Point point = point_of(data, &vm);
	g_autoptr(GError) error = NULL;
	Left left;

	if (!vm_is_possible())
		return;
	vm_start_with(&vm, "-name", "test");
	vm.keeper = vm_start_keeper(&vm);
	go_to(&vm, point);
	kill_keeper(&vm);
	read_left(&vm, &left);
	vm.keeper = vm_start_keeper(&vm);
	/* Under KVM nothing of the other one is left in QEMU. */
	if (point >= AT_ATTACHED && !vm_is_kvm()) {
		g_assert_false(hvp_keeper_attach(vm.keeper, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_INCONSISTENT);
		g_clear_error(&error);
	}
	CHECK(adopt(&vm, &left, false, &error));
	if (point == AT_COMMITTED)
		g_assert_cmpuint(vm_peek(&vm, GUEST_PATCHED_BYTE) & 0xff, ==, 2);
	else
		vm_assert_untouched_but_attached(&vm);
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	g_clear_pointer(&vm.keeper, hvp_keeper_free);
	if (point == AT_COMMITTED)
		assert_committed_and_revert(&vm);
	vm_assert_untouched(&vm);
}

static void test_roll_forward(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Left left;

	if (!vm_is_possible())
		return;
	vm_start_with(&vm, "-name", "test");
	vm.keeper = vm_start_keeper(&vm);
	go_to(&vm, AT_WRITTEN);
	kill_keeper(&vm);
	read_left(&vm, &left);
	vm.keeper = vm_start_keeper(&vm);
	CHECK(adopt(&vm, &left, true, &error));
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	g_clear_pointer(&vm.keeper, hvp_keeper_free);
	assert_committed_and_revert(&vm);
	vm_assert_untouched(&vm);
}

/* It says that all was written, but nothing was: the VM runs, and an operator is called. */
static void test_roll_forward_INCONSISTENT(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Left left = { .writes = { patch }, .write_count = 1 };

	if (!vm_is_possible())
		return;
	vm_start_with(&vm, "-name", "test");
	vm.keeper = vm_start_keeper(&vm);
	g_assert_false(adopt(&vm, &left, true, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INCONSISTENT);
	vm_assert_untouched(&vm);
}

/* The call is still under way when recovery's patience ends; it ends all the same. */
static void test_adopt_TIMED_OUT(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Left left;

	if (!vm_is_possible())
		return;
	vm.uses_spins = vm_is_kvm();
	/* Longer than a new keeper takes to attach where all wait for a CPU. */
	vm.call_msec = 4000;
	vm_start_with(&vm, "-name", "test");
	vm.keeper = vm_start_keeper(&vm);
	go_to(&vm, AT_CALLING);
	kill_keeper(&vm);
	read_left(&vm, &left);
	vm.keeper = vm_start_keeper(&vm);
	g_assert_false(hvp_keeper_adopt(vm.keeper, left.frames, left.frame_count, NULL, 0,
					left.spins, left.spin_count, NULL, 0, false,
					hvp_deadline_in(1000), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
	g_clear_pointer(&vm.keeper, hvp_keeper_free);
	vm_wait_untouched(&vm, 60 * G_USEC_PER_SEC);
}

/*
 * The keeper was killed between the two registers of a redirection, or behind the second: the
 * thread gets the first one back, or is none of ours any more.
 */
static void test_redirecting(gconstpointer data)
{
	bool complete = GPOINTER_TO_INT(data);
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;
	Left left = { .frame_count = 1 };
	HvpKeeperFrame *frame = &left.frames[0];
	Borrowed borrowed;

	if (!vm_is_possible())
		return;
	vm_start_with(&vm, "-name", "test");
	vm.keeper = vm_start_keeper(&vm);
	go_to(&vm, AT_TRAPS_SET);
	borrower_wait(&vm, &borrowed, GUEST_WORK);
	/* Where it stands already, only the argument differs afterwards. */
	CHECK(hvp_keeper_redirect(vm.keeper, borrowed.vcpu,
				  hvp_gva(complete ? GUEST_PATCHED : GUEST_WORK), 0x1234, &error));
	kill_keeper(&vm);
	frame->vcpu_index = borrowed.vcpu;
	frame->saved = borrowed.registers;
	frame->return_rsp = frame->saved.general[HVP_RSP];
	frame->stack = (HvpGvaRange){ hvp_gva(frame->return_rsp), hvp_gva(frame->return_rsp + 8) };
	vm.keeper = vm_start_keeper(&vm);
	CHECK(adopt(&vm, &left, false, &error));
	/* Nobody there changes RDI. */
	CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	g_assert_cmphex(stop.registers[borrowed.vcpu].general[HVP_RDI], ==,
			complete ? 0x1234 : borrowed.registers.general[HVP_RDI]);
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	g_clear_pointer(&vm.keeper, hvp_keeper_free);
	vm_assert_untouched(&vm);
}

static void test_foreign_bytes_at_undo_INCONSISTENT(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Left left = { .writes = { { { GUEST_SCRATCH }, 2, { 1, 2 }, { 3, 4 } } },
		      .write_count = 1 };

	if (!vm_is_possible())
		return;
	vm_start_with(&vm, "-name", "test");
	vm.keeper = vm_start_keeper(&vm);
	g_assert_false(adopt(&vm, &left, false, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INCONSISTENT);
	vm_assert_untouched(&vm);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_points("recovery/keeper-dies", AT_ATTACHED, AT_COMMITTED, test_keeper_dies);
	if (!vm_is_kvm()) {
		add_spinning_points("recovery/keeper-dies", AT_TRAPS_SET, AT_TRAP,
				    test_keeper_dies);
		add_spinning_points("recovery/keeper-dies", AT_CALLING, AT_RETURN,
				    test_keeper_dies);
	}
	g_test_add_func("/recovery/roll-forward", test_roll_forward);
	g_test_add_func("/recovery/roll-forward-INCONSISTENT", test_roll_forward_INCONSISTENT);
	g_test_add_func("/recovery/adopt-TIMED_OUT", test_adopt_TIMED_OUT);
	/* Under KVM all registers of a vCPU are written at once. */
	if (!vm_is_kvm()) {
		g_test_add_data_func("/recovery/redirecting-half", GINT_TO_POINTER(false),
				     test_redirecting);
		g_test_add_data_func("/recovery/redirecting-all", GINT_TO_POINTER(true),
				     test_redirecting);
	}
	g_test_add_func("/recovery/foreign-bytes-at-undo-INCONSISTENT",
			test_foreign_bytes_at_undo_INCONSISTENT);
	return g_test_run();
}
