/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Spin traps against a real QEMU, whose breakpoints are not used: those who come are looked for. */
#include "points.h"

static void start(Vm *vm)
{
	vm->uses_spins = true;
	vm_start(vm);
}

/* The two bytes at @address, as the guest has them. */
static guint bytes_at(const Vm *vm, guint64 address)
{
	return (guint)(vm_peek(vm, address) & 0xffff);
}

static void assert_no_spin(const Vm *vm)
{
	static const guint64 pcs[] = { GUEST_WORK, GUEST_INNER, GUEST_CALLEE_CALL, GUEST_SLOW,
				       GUEST_NOWHERE };

	for (guint i = 0; i < G_N_ELEMENTS(pcs); i++)
		g_assert_cmphex(bytes_at(vm, pcs[i]), !=, 0xfeeb);
}

/* All vCPUs come by all the time; each is seen and let past. */
static void test_traps(void)
{
	const HvpGva pcs[] = { { GUEST_WORK }, { GUEST_INNER } };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	guint seen[2][2] = { { 0 } };

	if (!vm_is_possible())
		return;
	start(&vm);
	CHECK(hvp_keeper_set_traps(vm.keeper, pcs, G_N_ELEMENTS(pcs), &error));
	for (int round = 0; round < 100; round++) {
		g_auto(HvpKeeperStop) stop = { 0 };
		guint vcpu;

		CHECK(hvp_keeper_wait(vm.keeper, vm_soon(), BUDGET_USEC, &stop, &error));
		g_assert_cmpint(stop.trapped_vcpu, >=, 0);
		g_assert_cmphex(bytes_at(&vm, GUEST_WORK), ==, 0xfeeb);
		vcpu = (guint)stop.trapped_vcpu;
		seen[vcpu][stop.trap.value == GUEST_WORK]++;
		CHECK(hvp_keeper_pass(vm.keeper, vcpu, &error));
		g_assert_false(hvp_keeper_pass(vm.keeper, vcpu, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
		g_clear_error(&error);
	}
	for (guint i = 0; i < 4; i++)
		g_assert_cmpuint(seen[i / 2][i % 2], >, 0);
	CHECK(hvp_keeper_set_traps(vm.keeper, NULL, 0, &error));
	assert_no_spin(&vm);
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	g_assert_true(vm_advances(&vm));
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

/* A page that nobody has touched is fetched while the VM runs, never while it stands. */
static void test_cold_page_BUSY(void)
{
	static const HvpKeeperWrite cold = { { 12U << 20 }, 1, { 0 }, { 2 } };
	g_auto(HvpKeeperStop) stop = { 0 }, again = { 0 };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	if (!vm_is_kvm()) {
		g_test_skip("its memory is accessed by QEMU itself");
		return;
	}
	start(&vm);
	CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	CHECK(hvp_keeper_write(vm.keeper, &patch, 1, &error));
	g_assert_false(hvp_keeper_write(vm.keeper, &cold, 1, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
	g_clear_error(&error);
	CHECK(hvp_keeper_commit(vm.keeper, &error));
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	g_assert_true(vm_advances(&vm));
	CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &again, &error));
	CHECK(hvp_keeper_write(vm.keeper, &cold, 1, &error));
	CHECK(hvp_keeper_commit(vm.keeper, &error));
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	g_assert_cmphex(vm_peek(&vm, cold.gpa.value) & 0xff, ==, 2);
	CHECK(hvp_keeper_detach(vm.keeper, &error));
}

static void test_wait_TIMED_OUT(void)
{
	const HvpGva nobody = { GUEST_SLOW };
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	start(&vm);
	CHECK(hvp_keeper_set_traps(vm.keeper, &nobody, 1, &error));
	for (gint64 usec = 0; usec <= 50000; usec += 25000) {
		g_assert_false(hvp_keeper_wait(vm.keeper, hvp_deadline_in(usec), BUDGET_USEC, &stop,
					       &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
		g_clear_error(&error);
		g_assert_true(vm_advances(&vm));
	}
	CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

/* The other vCPU comes by both hooks and is let past each: by emulating a call, and a mov. */
static void test_calls_and_hooks(void)
{
	const HvpKeeperHook hooks[] = { { { GUEST_CALLEE_CALL }, 5, 0 },
					{ { GUEST_INNER }, 0, 0 } };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Borrowed borrowed;

	if (!vm_is_possible())
		return;
	start(&vm);
	for (guint round = 0; round < 6; round++) {
		guint which = round % 2;
		bool answers = round >= 2;

		borrower_catch(&vm, &borrowed);
		CHECK(hvp_keeper_set_hooks(vm.keeper, &hooks[which], 1, &error));
		borrower_call(&vm, &borrowed, GUEST_CALLEE, 1000, 0);
		borrower_wait(&vm, &borrowed, hooks[which].pc.value);
		if (answers)
			CHECK(hvp_keeper_answer(vm.keeper, borrowed.vcpu, 234, &error));
		else
			CHECK(hvp_keeper_pass(vm.keeper, borrowed.vcpu, &error));
		g_assert_cmpuint(borrower_wait_return(&vm, &borrowed), ==, answers ? 1234 : 1007);
		borrower_come_home(&vm, &borrowed);
		CHECK(hvp_keeper_set_hooks(vm.keeper, NULL, 0, &error));
		CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
		g_assert_true(vm_advances(&vm));
	}
	assert_no_spin(&vm);
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

static void test_call_from_a_hook(void)
{
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Borrowed outer, inner;

	if (!vm_is_possible())
		return;
	start(&vm);
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

static void test_redirect(void)
{
	const HvpGva work = { GUEST_WORK };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Borrowed borrowed;

	if (!vm_is_possible())
		return;
	start(&vm);
	CHECK(hvp_keeper_set_traps(vm.keeper, &work, 1, &error));
	for (int i = 0; i < 10; i++) {
		borrower_wait(&vm, &borrowed, GUEST_WORK);
		CHECK(hvp_keeper_redirect(vm.keeper, borrowed.vcpu, hvp_gva(GUEST_CALLEE), 30,
					  &error));
	}
	CHECK(hvp_keeper_set_traps(vm.keeper, NULL, 0, &error));
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

/* What cannot be emulated holds its vCPU until the trap is removed, and is then executed. */
static void test_pass_what_cannot_be_emulated_BUSY(void)
{
	const HvpGva slow = { GUEST_SLOW };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;
	Borrowed borrowed;

	if (!vm_is_possible())
		return;
	start(&vm);
	borrower_catch(&vm, &borrowed);
	CHECK(hvp_keeper_set_traps(vm.keeper, &slow, 1, &error));
	borrower_call(&vm, &borrowed, GUEST_SLOW, 5, 3);
	borrower_wait(&vm, &borrowed, GUEST_SLOW);
	g_assert_false(hvp_keeper_pass(vm.keeper, borrowed.vcpu, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
	g_clear_error(&error);
	CHECK(hvp_keeper_set_traps(vm.keeper, NULL, 0, &error));
	g_assert_cmpuint(borrower_wait_return(&vm, &borrowed), ==, 12);
	borrower_come_home(&vm, &borrowed);
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

/* A tool that plants and then neither waits nor ends: its traps do not stay. */
static void test_not_looked_after_UNDONE(void)
{
	const HvpGva work = { GUEST_WORK };
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	start(&vm);
	CHECK(hvp_keeper_set_traps(vm.keeper, &work, 1, &error));
	wait_until_left(&vm, 20 * G_USEC_PER_SEC);
	g_assert_false(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNDONE);
	assert_no_spin(&vm);
	vm_assert_untouched(&vm);
}

/* Its owner pauses the VM while a call has to come home alone, and resumes it later. */
static void test_paused_on_the_way_home(void)
{
	g_auto(Vm) vm = { 0 };
	g_autofree char *status = NULL;

	if (!vm_is_possible())
		return;
	vm.uses_spins = true;
	vm_start_with(&vm, "-name", "test");
	vm.keeper = vm_start_keeper(&vm);
	go_to(&vm, AT_CALLING);
	vm_command(&vm, "stop");
	g_clear_pointer(&vm.keeper, hvp_keeper_free);
	g_usleep(200000);
	status = vm_status(&vm);
	g_assert_cmpstr(status, ==, "paused");
	vm_command(&vm, "cont");
	wait_until_left(&vm, 20 * G_USEC_PER_SEC);
	assert_no_spin(&vm);
	vm_assert_untouched(&vm);
}

/* What its owner paused while somebody waited, and let go on since, is ours to resume again. */
static void test_paused_while_waiting_resumes(void)
{
	const HvpGva nobody = { GUEST_SLOW };
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_kvm()) {
		g_test_skip("HVPATCH_TEST_KVM=1 is not set: a gdb stub tells who paused it");
		return;
	}
	if (!vm_is_possible())
		return;
	start(&vm);
	CHECK(hvp_keeper_set_traps(vm.keeper, &nobody, 1, &error));
	vm_command(&vm, "stop");
	g_assert_false(hvp_keeper_wait(vm.keeper, hvp_deadline_in(G_USEC_PER_SEC / 10),
				       BUDGET_USEC, &stop, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
	g_clear_error(&error);
	vm_command(&vm, "cont");
	CHECK(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	CHECK(hvp_keeper_resume(vm.keeper, NULL, &error));
	g_assert_true(vm_advances(&vm));
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	assert_no_spin(&vm);
	vm_assert_untouched(&vm);
}

/* After a reset there is nobody to wait for, and nothing of ours to put back. */
static void test_reset_CONFLICT(void)
{
	g_auto(Vm) vm = { 0 };
	g_auto(HvpKeeperStop) stop = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	vm.uses_spins = true;
	vm_start_with(&vm, "-name", "test");
	vm.keeper = vm_start_keeper(&vm);
	go_to(&vm, AT_CALLING);
	vm_command(&vm, "system_reset");
	wait_until_left(&vm, 20 * G_USEC_PER_SEC);
	g_assert_false(hvp_keeper_stop(vm.keeper, BUDGET_USEC, &stop, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	/* Begun anew, the guest has made its own text anew. */
	g_assert_true(vm_is_running(&vm));
	for (int tries = 0; tries < 500 && bytes_at(&vm, GUEST_NOWHERE) == 0xfeeb; tries++)
		g_usleep(10000);
	assert_no_spin(&vm);
}

/* The guest changed the place after it was chosen. */
static void test_foreign_bytes_CONFLICT(void)
{
	const HvpGva work = { GUEST_WORK };
	const HvpKeeperSpin site = { work, { GUEST_WORK }, { 0x12, 0x34 }, { 0 } };
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	vm_start(&vm);
	CHECK(hvp_keeper_set_spins(vm.keeper, &site, 1, &error));
	g_assert_false(hvp_keeper_set_traps(vm.keeper, &work, 1, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	vm_wait_untouched(&vm, 20 * G_USEC_PER_SEC);
}

static void test_INVALID_ARGUMENT(void)
{
	const HvpGva work = { GUEST_WORK }, other = { GUEST_WORK + 2 };
	const HvpKeeperHook elsewhere = { other, 0, 0 };
	const HvpKeeperSpin good = { work,
				     { GUEST_WORK },
				     { 0x66, 0x90 },
				     { .kind = HVP_EMULATION_NOTHING, .length_bytes = 2 } };
	HvpKeeperSpin bad[] = { good, good, good, good };
	HvpKeeperSpin many[HVP_KEEPER_MAX_SPINS + 1];
	g_auto(Vm) vm = { 0 };
	g_autoptr(GError) error = NULL;

	if (!vm_is_possible())
		return;
	bad[0].gpa.value = GUEST_WORK | 0xfff;
	bad[1].pc.value = 0;
	bad[2].emulation.length_bytes = 16;
	bad[3].old_bytes[0] = 0xeb;
	bad[3].old_bytes[1] = 0xfe;
	for (guint i = 0; i < G_N_ELEMENTS(many); i++)
		many[i] = good;
	vm_start(&vm);
	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_assert_false(hvp_keeper_set_spins(vm.keeper, &bad[i], 1, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
		g_clear_error(&error);
	}
	g_assert_false(hvp_keeper_set_spins(vm.keeper, many, G_N_ELEMENTS(many), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_clear_error(&error);
	CHECK(hvp_keeper_set_spins(vm.keeper, &good, 1, &error));
	g_assert_false(hvp_keeper_set_traps(vm.keeper, &other, 1, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_clear_error(&error);
	g_assert_false(hvp_keeper_set_hooks(vm.keeper, &elsewhere, 1, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_clear_error(&error);
	CHECK(hvp_keeper_set_traps(vm.keeper, &work, 1, &error));
	/* What is planted stays in the table. */
	g_assert_false(hvp_keeper_set_spins(vm.keeper, NULL, 0, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	g_clear_error(&error);
	CHECK(hvp_keeper_set_traps(vm.keeper, NULL, 0, &error));
	CHECK(hvp_keeper_set_spins(vm.keeper, NULL, 0, &error));
	CHECK(hvp_keeper_detach(vm.keeper, &error));
	vm_assert_untouched(&vm);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/spins/traps", test_traps);
	g_test_add_func("/spins/cold-page-BUSY", test_cold_page_BUSY);
	g_test_add_func("/spins/wait-TIMED_OUT", test_wait_TIMED_OUT);
	g_test_add_func("/spins/calls-and-hooks", test_calls_and_hooks);
	g_test_add_func("/spins/call-from-a-hook", test_call_from_a_hook);
	g_test_add_func("/spins/redirect", test_redirect);
	g_test_add_func("/spins/pass-what-cannot-be-emulated-BUSY",
			test_pass_what_cannot_be_emulated_BUSY);
	g_test_add_func("/spins/not-looked-after-UNDONE", test_not_looked_after_UNDONE);
	g_test_add_func("/spins/paused-on-the-way-home", test_paused_on_the_way_home);
	g_test_add_func("/spins/paused-while-waiting-resumes", test_paused_while_waiting_resumes);
	g_test_add_func("/spins/reset-CONFLICT", test_reset_CONFLICT);
	g_test_add_func("/spins/foreign-bytes-CONFLICT", test_foreign_bytes_CONFLICT);
	g_test_add_func("/spins/wrong-sites-INVALID_ARGUMENT", test_INVALID_ARGUMENT);
	return g_test_run();
}
