/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A keeper and its client against a real QEMU: everything that goes as it should. */
#include "borrower.h"

static void test_stop_and_resume(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	gint64 usec = -1;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	for (int round = 0; round < 20; round++) {
		g_auto(HvpKeeperStop) stop = { 0 };
		g_autofree char *status = NULL;

		CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
		status = vm_status(&vm);
		g_assert_cmpstr(status, ==, "paused");
		g_assert_cmpuint(stop.vcpu_count, ==, 2);
		g_assert_cmpint(stop.trapped_vcpu, ==, -1);
		for (guint i = 0; i < 2; i++) {
			g_assert_cmpuint(stop.registers[i].cr3, ==, 0x1000);
			g_assert_cmpuint(stop.registers[i].efer, ==, 0x500);
			g_assert_cmpuint(stop.registers[i].cs, ==, 8);
			g_assert_cmpuint(stop.registers[i].rip, >=, GUEST_BASE);
			g_assert_cmpuint(stop.registers[i].rip, <, GUEST_BASE + 0x400);
		}
		g_assert_cmpuint(stop.registers[0].general[HVP_RBX], !=,
				 stop.registers[1].general[HVP_RBX]);
		CHECK(hvp_keeper_resume(vm.keeper, &usec, &error));
		g_assert_cmpint(usec, >=, 0);
	}
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

static void test_attach_again(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	g_autofree char *journal = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	for (int round = 0; round < 5; round++) {
		CHECK(hvp_keeper_detach(vm.keeper, &error));
		vm_assert_untouched(&vm);
		CHECK(hvp_keeper_attach(vm.keeper, &error));
	}
	journal = vm_journal(&vm);
	g_assert_cmpstr(journal, ==, "AXAXAXAXAXA");
}

static void test_traps(void)
{
	const HvpGva pcs[] = { { GUEST_WORK }, { GUEST_WORK }, { GUEST_SLOW } };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	guint seen[2] = { 0, 0 };
	HvpDeadline deadline = vm_soon();

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	CHECK(hvp_keeper_set_traps(vm.keeper, pcs, G_N_ELEMENTS(pcs), &error));
	/* On a busy host one of them may be the only one that gets on, for a while. */
	for (int round = 0; round < 50 || ((seen[0] == 0 || seen[1] == 0) &&
					   !hvp_deadline_passed(deadline));
	     round++) {
		g_auto(HvpKeeperStop) stop = { 0 };

		CHECK(hvp_keeper_wait(vm.keeper, vm_soon(), BUDGET_USEC, &stop, &error));
		g_assert_cmpint(stop.trapped_vcpu, >=, 0);
		g_assert_cmpuint(stop.trap.value, ==, GUEST_WORK);
		seen[stop.trapped_vcpu]++;
		CHECK(hvp_keeper_pass(vm.keeper, (guint)stop.trapped_vcpu, &error));
		g_assert_false(hvp_keeper_pass(vm.keeper, (guint)stop.trapped_vcpu, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
		g_clear_error(&error);
	}
	g_assert_cmpuint(seen[0], >, 0);
	g_assert_cmpuint(seen[1], >, 0);
	CHECK(hvp_keeper_set_traps(vm.keeper, NULL, 0, &error));
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	g_assert_true(vm_advances(&vm));
}

/* Nobody waits: the guest goes on through its traps, however slowly. */
static void test_traps_without_waiting(void)
{
	const HvpGva pc = { GUEST_WORK };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	CHECK(hvp_keeper_set_traps(vm.keeper, &pc, 1, &error));
	g_assert_true(vm_advances(&vm));
	CHECK(hvp_keeper_set_traps(vm.keeper, NULL, 0, &error));
	g_assert_true(vm_advances(&vm));
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

static void test_wait_TIMED_OUT(void)
{
	const HvpGva nobody = { GUEST_SLOW };
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	CHECK(hvp_keeper_set_traps(vm.keeper, &nobody, 1, &error));
	g_assert_false(
		hvp_keeper_wait(vm.keeper, hvp_deadline_in(50000), BUDGET_USEC, &stop, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
	g_clear_error(&error);
	g_assert_true(vm_advances(&vm));
	CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
}

static void test_call(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	g_autofree char *journal = NULL;
	Borrowed borrowed;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	for (guint64 argument = 0; argument < 5; argument++) {
		borrower_catch(&vm, &borrowed);
		borrower_call(&vm, &borrowed, GUEST_CALLEE, argument, 0);
		g_assert_cmpuint(borrower_wait_return(&vm, &borrowed), ==, argument + 7);
		borrower_come_home(&vm, &borrowed);
		CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
		g_assert_true(vm_advances(&vm));
	}
	journal = vm_journal(&vm);
	g_assert_cmpstr(journal, ==, "AcDrhcDrhcDrhcDrhcDrh");
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

/* The other vCPU comes by the hooks all the time, and is never answered. */
static void test_hooks(void)
{
	const HvpKeeperHook hooks[] = { { { GUEST_CALLEE_CALL }, 5, 0 },
					{ { GUEST_INNER }, 0, 0 } };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Borrowed borrowed;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	for (guint which = 0; which < 2; which++) {
		borrower_catch(&vm, &borrowed);
		CHECK(hvp_keeper_set_hooks(vm.keeper, &hooks[which], 1, &error));
		borrower_call(&vm, &borrowed, GUEST_CALLEE, 1000, 0);
		borrower_wait(&vm, &borrowed, hooks[which].pc.value);
		CHECK(hvp_keeper_answer(vm.keeper, borrowed.vcpu, 234, &error));
		g_assert_cmpuint(borrower_wait_return(&vm, &borrowed), ==, 1234);
		borrower_come_home(&vm, &borrowed);
		CHECK(hvp_keeper_set_hooks(vm.keeper, NULL, 0, &error));
		CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	}
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

/* A hook may also let the guest's own function run: the call ends as without any hook. */
static void test_hook_passed(void)
{
	const HvpKeeperHook hook = { { GUEST_INNER }, 0, 0 };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	guint64 results[2];
	Borrowed borrowed;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	for (guint hooks = 0; hooks < 2; hooks++) {
		borrower_catch(&vm, &borrowed);
		CHECK(hvp_keeper_set_hooks(vm.keeper, &hook, hooks, &error));
		borrower_call(&vm, &borrowed, GUEST_CALLEE, 1000, 0);
		if (hooks > 0) {
			borrower_wait(&vm, &borrowed, GUEST_INNER);
			CHECK(hvp_keeper_pass(vm.keeper, borrowed.vcpu, &error));
		}
		results[hooks] = borrower_wait_return(&vm, &borrowed);
		borrower_come_home(&vm, &borrowed);
		CHECK(hvp_keeper_set_hooks(vm.keeper, NULL, 0, &error));
		CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	}
	g_assert_cmpuint(results[0], ==, results[1]);
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

static void test_call_from_a_hook(void)
{
	const HvpKeeperHook hook = { { GUEST_CALLEE_CALL }, 5, 0 };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Borrowed outer, inner;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	borrower_catch(&vm, &outer);
	CHECK(hvp_keeper_set_hooks(vm.keeper, &hook, 1, &error));
	borrower_call(&vm, &outer, GUEST_CALLEE, 1000, 0);
	borrower_wait(&vm, &outer, GUEST_CALLEE_CALL);
	inner = outer;
	borrower_call(&vm, &inner, GUEST_CALLEE, 20, 0);
	borrower_wait(&vm, &inner, GUEST_CALLEE_CALL);
	CHECK(hvp_keeper_answer(vm.keeper, inner.vcpu, 3, &error));
	g_assert_cmpuint(borrower_wait_return(&vm, &inner), ==, 23);
	borrower_come_home(&vm, &inner);
	CHECK(hvp_keeper_answer(vm.keeper, outer.vcpu, 111, &error));
	g_assert_cmpuint(borrower_wait_return(&vm, &outer), ==, 1111);
	borrower_come_home(&vm, &outer);
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

/* The borrowed thread comes to a hook while the tool is not waiting: it is held there. */
static void test_hook_without_waiting(void)
{
	const HvpKeeperHook hook = { { GUEST_CALLEE_CALL }, 5, 0 };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Borrowed borrowed;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	borrower_catch(&vm, &borrowed);
	CHECK(hvp_keeper_set_hooks(vm.keeper, &hook, 1, &error));
	borrower_call(&vm, &borrowed, GUEST_CALLEE, 1, 0);
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	g_usleep(50000);
	borrower_wait(&vm, &borrowed, GUEST_CALLEE_CALL);
	CHECK(hvp_keeper_answer(vm.keeper, borrowed.vcpu, 1, &error));
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	g_usleep(50000);
	g_assert_cmpuint(borrower_wait_return(&vm, &borrowed), ==, 2);
	borrower_come_home(&vm, &borrowed);
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	g_assert_true(vm_advances(&vm));
}

static void test_divert_INVALID_ARGUMENT(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Borrowed borrowed;
	HvpKeeperFrame frame;
	HvpRegisters registers;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	borrower_catch(&vm, &borrowed);
	for (int fault = 0; fault < 5; fault++) {
		borrower_prepare(&vm, &borrowed, GUEST_CALLEE, &frame, &registers);
		switch (fault) {
		case 0:
			frame.vcpu_index = 2;
			break;
		case 1:
			frame.saved.general[HVP_R9]++;
			break;
		case 2:
			frame.return_rsp = frame.stack.end.value;
			break;
		case 3:
			registers.general[HVP_RSP] = frame.stack.start.value - 8;
			break;
		case 4:
			frame.stack.end.value += 1U << 20;
			break;
		}
		g_assert_false(hvp_keeper_divert(vm.keeper, &frame, &registers, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
		g_clear_error(&error);
	}
	g_assert_false(hvp_keeper_come_home(vm.keeper, borrowed.vcpu, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_clear_error(&error);
	g_assert_false(hvp_keeper_answer(vm.keeper, borrowed.vcpu, 0, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_clear_error(&error);
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	g_assert_true(vm_advances(&vm));
}

/* Waits until @vcpu stands at @pc; all others pass. */
static HvpRegisters wait_for_vcpu(Vm *vm, guint vcpu, guint64 pc)
{
	g_autoptr(GError) error = NULL;
	Borrowed found;

	for (;;) {
		borrower_wait(vm, &found, pc);
		if (found.vcpu == vcpu)
			return found.registers;
		CHECK(hvp_keeper_pass(vm->keeper, found.vcpu, &error));
	}
}

/* The function is entered with the argument, and returns to where the other would have. */
static void test_redirect(void)
{
	const HvpGva work = { GUEST_WORK }, inner = { GUEST_INNER };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	g_autofree char *journal = NULL;
	Borrowed borrowed;
	HvpRegisters now;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	CHECK(hvp_keeper_set_traps(vm.keeper, &work, 1, &error));
	borrower_wait(&vm, &borrowed, GUEST_WORK);
	CHECK(hvp_keeper_redirect(vm.keeper, borrowed.vcpu, hvp_gva(GUEST_CALLEE), 30, &error));
	g_assert_false(
		hvp_keeper_redirect(vm.keeper, borrowed.vcpu, hvp_gva(GUEST_CALLEE), 30, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_clear_error(&error);
	CHECK(hvp_keeper_set_traps(vm.keeper, &inner, 1, &error));
	now = wait_for_vcpu(&vm, borrowed.vcpu, GUEST_INNER);
	g_assert_cmpuint(now.general[HVP_RDI], ==, 30);
	g_assert_cmphex(now.general[HVP_RSP], <, borrowed.registers.general[HVP_RSP]);
	CHECK(hvp_keeper_pass(vm.keeper, borrowed.vcpu, &error));
	now = wait_for_vcpu(&vm, borrowed.vcpu, GUEST_INNER);
	g_assert_cmpuint(now.general[HVP_RAX], ==, 37);
	g_assert_cmphex(now.general[HVP_RSP], ==, borrowed.registers.general[HVP_RSP]);
	CHECK(hvp_keeper_set_traps(vm.keeper, NULL, 0, &error));
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
	journal = vm_journal(&vm);
	/* Where it was sent stays no longer than it took. */
	g_assert_cmpstr(journal, ==, "AX");
}

/* Who comes by while a call is under way is redirected, and the call is not lost. */
static void test_redirect_during_a_call(void)
{
	const HvpGva work = { GUEST_WORK };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Borrowed borrowed, other;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	borrower_catch(&vm, &borrowed);
	CHECK(hvp_keeper_set_traps(vm.keeper, &work, 1, &error));
	borrower_call(&vm, &borrowed, GUEST_SLOW, 100, 20000000);
	for (int i = 0; i < 3; i++) {
		borrower_wait(&vm, &other, GUEST_WORK);
		g_assert_cmpuint(other.vcpu, !=, borrowed.vcpu);
		CHECK(hvp_keeper_redirect(vm.keeper, other.vcpu, hvp_gva(GUEST_CALLEE), 1, &error));
	}
	CHECK(hvp_keeper_set_traps(vm.keeper, NULL, 0, &error));
	g_assert_cmpuint(borrower_wait_return(&vm, &borrowed), ==, 107);
	borrower_come_home(&vm, &borrowed);
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

static void test_redirect_INVALID_ARGUMENT(void)
{
	const HvpGva work = { GUEST_WORK };
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;
	Borrowed borrowed;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	g_assert_false(hvp_keeper_redirect(vm.keeper, 0, hvp_gva(GUEST_CALLEE), 0, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_clear_error(&error);
	CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	/* At no trap; no such vCPU; at the return of a call, which is no trap of the set. */
	for (guint vcpu = 0; vcpu < 3; vcpu++) {
		g_assert_false(
			hvp_keeper_redirect(vm.keeper, vcpu, hvp_gva(GUEST_CALLEE), 0, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
		g_clear_error(&error);
	}
	borrower_catch(&vm, &borrowed);
	borrower_call(&vm, &borrowed, GUEST_CALLEE, 5, 0);
	g_assert_cmpuint(borrower_wait_return(&vm, &borrowed), ==, 12);
	g_assert_false(hvp_keeper_redirect(vm.keeper, borrowed.vcpu, work, 0, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_clear_error(&error);
	borrower_come_home(&vm, &borrowed);
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

static void test_write_is_executed(void)
{
	const HvpKeeperWrite write = { { GUEST_PATCHED_BYTE }, 1, { 1 }, { 2 } };
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;
	g_autofree char *journal = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	CHECK(hvp_keeper_write(vm.keeper, &write, 1, &error));
	CHECK(hvp_keeper_commit(vm.keeper, &error));
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	g_assert_true(vm_advances(&vm) && vm_advances(&vm));
	g_assert_cmpuint(vm_peek(&vm, GUEST_RESULT), ==, 2);
	g_assert_cmpuint(vm_peek(&vm, GUEST_RESULT + 8), ==, 2);
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	g_assert_cmpuint(vm_peek(&vm, GUEST_PATCHED_BYTE) & 0xff, ==, 2);
	journal = vm_journal(&vm);
	g_assert_cmpstr(journal, ==, "AWCX");
}

/* All or none: the second place holds other bytes than it is said to. */
static void test_write_foreign_CONFLICT(void)
{
	const HvpKeeperWrite writes[] = { { { GUEST_PATCHED_BYTE }, 1, { 1 }, { 2 } },
					  { { GUEST_SCRATCH }, 2, { 1, 2 }, { 3, 4 } } };
	const HvpKeeperWrite bad[] = { { { 0x1fff }, 2, { 0 }, { 0 } },
				       { { 0x1000 }, 0, { 0 }, { 0 } },
				       { { 0x1000 }, 17, { 0 }, { 0 } } };
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;
	g_autofree char *journal = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	g_assert_false(hvp_keeper_write(vm.keeper, writes, 2, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	g_clear_error(&error);
	for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_assert_false(hvp_keeper_write(vm.keeper, &bad[i], 1, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
		g_clear_error(&error);
	}
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
	journal = vm_journal(&vm);
	g_assert_cmpstr(journal, ==, "AX");
}

/* The second place is no memory: it reads as it is said to, and does not keep what is written. */
static void test_write_to_nowhere_UNDONE(void)
{
	HvpKeeperWrite writes[] = { { { GUEST_PATCHED_BYTE }, 1, { 1 }, { 2 } },
				    { { 0xf0000 }, 1, { 0 }, { 0x55 } } };
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	writes[1].old_bytes[0] = guest_start[0];
	CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	CHECK(hvp_keeper_write(vm.keeper, writes, 2, &error));
	g_assert_false(hvp_keeper_commit(vm.keeper, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNDONE);
	g_clear_error(&error);
	g_assert_false(hvp_keeper_resume(vm.keeper, NULL, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNDONE);
	vm_assert_untouched(&vm);
}

static void test_write_data(void)
{
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;
	g_autofree guint8 *bytes = g_malloc(300000);

	if (!vm_is_possible())
		return;
	for (guint i = 0; i < 300000; i++)
		bytes[i] = (guint8)(i * 7 + i / 251);
	vm_start(&vm);
	CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	CHECK(hvp_keeper_write_data(vm.keeper, hvp_gpa(0x100000), bytes, 300000, &error));
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	for (guint offset = 0; offset < 300000 - 8; offset += 8191) {
		guint64 expected;

		memcpy(&expected, bytes + offset, 8);
		g_assert_cmphex(vm_peek(&vm, 0x100000 + offset), ==, expected);
	}
	vm_assert_untouched_but_attached(&vm);
}

static void test_requests_in_the_wrong_state_INVALID_ARGUMENT(void)
{
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;
	const HvpKeeperWrite write = { { GUEST_PATCHED_BYTE }, 1, { 1 }, { 2 } };

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	g_assert_false(hvp_keeper_attach(vm.keeper, NULL));
	g_assert_false(hvp_keeper_resume(vm.keeper, NULL, NULL));
	g_assert_false(hvp_keeper_write(vm.keeper, &write, 1, NULL));
	g_assert_false(hvp_keeper_commit(vm.keeper, NULL));
	g_assert_false(hvp_keeper_pass(vm.keeper, 0, NULL));
	g_assert_false(hvp_keeper_stop(vm.keeper, 0, &stop, NULL));
	g_assert_false(hvp_keeper_stop(vm.keeper, (gint64)3600 * G_USEC_PER_SEC, &stop, NULL));
	CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	g_assert_false(hvp_keeper_pass(vm.keeper, 77, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_clear_error(&error);
	CHECK(hvp_keeper_write(vm.keeper, &write, 1, &error));
	g_assert_false(hvp_keeper_detach(vm.keeper, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_clear_error(&error);
	g_clear_pointer(&vm.keeper, hvp_keeper_free);
	vm_assert_untouched(&vm);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/session/stop-and-resume", test_stop_and_resume);
	g_test_add_func("/session/attach-again", test_attach_again);
	g_test_add_func("/session/traps", test_traps);
	g_test_add_func("/session/traps-without-waiting", test_traps_without_waiting);
	g_test_add_func("/session/wait-TIMED_OUT", test_wait_TIMED_OUT);
	g_test_add_func("/session/call", test_call);
	g_test_add_func("/session/hooks", test_hooks);
	g_test_add_func("/session/hook-passed", test_hook_passed);
	g_test_add_func("/session/call-from-a-hook", test_call_from_a_hook);
	g_test_add_func("/session/hook-without-waiting", test_hook_without_waiting);
	g_test_add_func("/session/divert-INVALID_ARGUMENT", test_divert_INVALID_ARGUMENT);
	g_test_add_func("/session/redirect", test_redirect);
	g_test_add_func("/session/redirect-during-a-call", test_redirect_during_a_call);
	g_test_add_func("/session/redirect-INVALID_ARGUMENT", test_redirect_INVALID_ARGUMENT);
	g_test_add_func("/session/write-is-executed", test_write_is_executed);
	g_test_add_func("/session/write-foreign-CONFLICT", test_write_foreign_CONFLICT);
	g_test_add_func("/session/write-to-nowhere-UNDONE", test_write_to_nowhere_UNDONE);
	g_test_add_func("/session/write-data", test_write_data);
	g_test_add_func("/session/wrong-state-INVALID_ARGUMENT",
			test_requests_in_the_wrong_state_INVALID_ARGUMENT);
	return g_test_run();
}
