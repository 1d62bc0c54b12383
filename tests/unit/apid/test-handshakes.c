/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/handshakes.h"

static void check_source(const char *text, const char *wanted)
{
	g_autoptr(GInetAddress) address = g_inet_address_new_from_string(text);
	g_autofree char *source = hvp_handshakes_source(address);

	g_assert_cmpstr(source, ==, wanted);
}

static void test_source(void)
{
	check_source("192.0.2.1", "192.0.2.1");
	check_source("::ffff:192.0.2.1", "192.0.2.1");
	check_source("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
	check_source("2001:db8:1:2::1", "2001:db8:1:2::");
	check_source("2001:db8:1:3::1", "2001:db8:1:3::");
	check_source("::1", "::");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/apid/handshakes/network-of-64-bits-ONE-SOURCE", test_source);
	return g_test_run();
}
