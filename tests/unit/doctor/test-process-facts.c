/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Command lines of QEMU, and this very process. */
#include "doctor/process-facts.h"

#include <string.h>
#include <unistd.h>

static void check(const char *arguments, gsize length_bytes, const char *debugger,
		  const char *encryption)
{
	g_auto(HvpFactsVm) facts = { 0 };

	hvp_process_facts_read_arguments(arguments, length_bytes, &facts);
	g_assert_cmpstr(facts.debugger, ==, debugger);
	g_assert_cmpstr(facts.encryption, ==, encryption);
}

#define CHECK(arguments, debugger, encryption) \
	check(arguments, sizeof arguments, debugger, encryption)

static void test_debugger(void)
{
	CHECK("qemu\0-smp\0"
	      "2",
	      NULL, NULL);
	CHECK("qemu\0-s", "-s", NULL);
	CHECK("qemu\0-gdb\0tcp::1234\0-smp\0"
	      "2",
	      "tcp::1234", NULL);
	CHECK("qemu\0--gdb\0unix:/x", "unix:/x", NULL);
	CHECK("qemu\0-gdb\0none", NULL, NULL);
	CHECK("qemu\0-gdb", NULL, NULL);
	CHECK("qemu\0-serial\0none", NULL, NULL);
}

static void test_encryption(void)
{
	CHECK("qemu\0-object\0sev-guest,id=s", NULL, "sev");
	CHECK("qemu\0-object\0{\"qom-type\":\"sev-snp-guest\",\"id\":\"s\"}", NULL, "sev-snp");
	CHECK("qemu\0-object\0tdx-guest,id=t", NULL, "tdx");
	CHECK("qemu\0-object\0memory-backend-memfd,id=ram", NULL, NULL);
	CHECK("qemu\0-name\0sev-guest", NULL, NULL);
}

static void test_ours(void)
{
	g_auto(HvpFactsVm) facts = { .pid = getpid() };

	hvp_process_facts_gather(&facts);
	g_assert_cmpint(facts.has_process, ==, HVP_FACTS_YES);
	g_assert_cmpuint(facts.process_user_id, ==, geteuid());
	g_assert_nonnull(facts.process_user_name);
	g_assert_no_error(facts.access_error);
	g_assert_cmpint(facts.has_userfaultfd, ==, HVP_FACTS_NO);
}

static void test_gone(void)
{
	g_auto(HvpFactsVm) facts = { .pid = G_MAXINT };

	hvp_process_facts_gather(&facts);
	g_assert_cmpint(facts.has_process, ==, HVP_FACTS_UNKNOWN);
	g_assert_cmpint(facts.has_userfaultfd, ==, HVP_FACTS_UNKNOWN);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/process-facts/gdb-options-FOUND", test_debugger);
	g_test_add_func("/process-facts/encryption-objects-FOUND", test_encryption);
	g_test_add_func("/process-facts/our-own-process-READ", test_ours);
	g_test_add_func("/process-facts/no-process-UNKNOWN", test_gone);
	return g_test_run();
}
