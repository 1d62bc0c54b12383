/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "guest/policy.h"
#include "synthetic-guest.h"

static HvpPolicy read_policy(SyntheticGuest *guest)
{
	g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
	g_autoptr(HvpModules) modules = hvp_modules_read(kernel, NULL);
	g_autoptr(GError) error = NULL;
	HvpPolicy policy;

	g_assert_true(hvp_policy_read(kernel, modules, &policy, &error));
	return policy;
}

static void test_open(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	HvpPolicy policy = read_policy(guest);

	g_assert_true(policy.can_load_modules && policy.can_livepatch);
	g_assert_false(policy.modules_disabled || policy.signature_enforced || policy.loadpin ||
		       policy.ima);
	g_assert_cmpstr(policy.guard, ==, "");
	g_assert_cmpstr(policy.vermagic, ==, "6.1.0-synthetic SMP preempt mod_unload ");
}

static void test_locked(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);

	synthetic_guest_put(guest, synthetic_guest_symbol(guest, "modules_disabled"), 1);
	g_assert_true(read_policy(guest).modules_disabled);
	synthetic_guest_put(guest, synthetic_guest_symbol(guest, "sig_enforce"), 1);
	g_assert_true(read_policy(guest).signature_enforced);
	synthetic_guest_put(guest, synthetic_guest_symbol(guest, "sig_enforce"), 0);
	g_assert_false(read_policy(guest).signature_enforced);
	synthetic_guest_put(guest, synthetic_guest_symbol(guest, "kernel_locked_down"), 1);
	g_assert_true(read_policy(guest).signature_enforced);
	synthetic_guest_add_module(guest, "lkrg");
	g_assert_cmpstr(read_policy(guest).guard, ==, "lkrg");
}

/* As ima_load_data() decides of a module that comes without a file. */
static void test_ima(void)
{
	enum { ENFORCE = 1, FIX = 2, MODULES = 8, FIRMWARE = 16 };
	static const struct {
		guint64 appraise, sig_enforce;
		bool refuses;
	} cases[] = {
		{ ENFORCE, 0, false },		 { ENFORCE | FIRMWARE, 0, false },
		{ FIX | MODULES, 0, false },	 { ENFORCE | MODULES, 0, true },
		{ ENFORCE | MODULES, 1, false },
	};

	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		SyntheticOptions options = { 0 };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);

		synthetic_guest_put(guest, synthetic_guest_symbol(guest, "ima_appraise"),
				    cases[i].appraise);
		synthetic_guest_put(guest, synthetic_guest_symbol(guest, "sig_enforce"),
				    cases[i].sig_enforce);
		g_assert_cmpint(read_policy(guest).ima, ==, cases[i].refuses);
	}
}

static void test_not_configured(void)
{
	static const char *const without[] = { "modules_disabled",    "kernel_locked_down",
					       "__param_sig_enforce", "vermagic",
					       "load_module",	      "klp_enable_patch",
					       "ima_appraise" };

	for (guint i = 0; i < G_N_ELEMENTS(without); i++) {
		SyntheticOptions options = { .without = without[i] };
		g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
		HvpPolicy policy = read_policy(guest);

		g_assert_cmpint(policy.can_load_modules, ==, i != 4);
		g_assert_cmpint(policy.can_livepatch, ==, i != 5);
		g_assert_cmpint(policy.vermagic[0] == 0, ==, i == 3);
		g_assert_false(policy.modules_disabled || policy.signature_enforced);
	}
}

/* What cannot be read might be a lock. */
static void test_unreadable(void)
{
	SyntheticOptions options = { 0 };
	g_autoptr(SyntheticGuest) guest = synthetic_guest_new(&options);
	g_autoptr(HvpKernel) kernel = synthetic_guest_attach(guest);
	g_autoptr(HvpModules) modules = hvp_modules_read(kernel, NULL);
	g_autoptr(GError) error = NULL;
	HvpPolicy policy;

	synthetic_guest_set(guest, synthetic_guest_symbol(guest, "__param_sig_enforce"),
			    HVP_AT_KERNEL_PARAM_ARG, 0x1000);
	g_assert_false(hvp_policy_read(kernel, modules, &policy, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_FAULT);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/policy/nothing-locked-OPEN", test_open);
	g_test_add_func("/policy/each-lock-SEEN", test_locked);
	g_test_add_func("/policy/ima-as-ima_load_data", test_ima);
	g_test_add_func("/policy/not-configured-OPEN-or-unable", test_not_configured);
	g_test_add_func("/policy/unreadable-REFUSED", test_unreadable);
	return g_test_run();
}
