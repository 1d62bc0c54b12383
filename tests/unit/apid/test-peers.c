/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/peers.h"

static void test_limits(void)
{
	g_autoptr(HvpPeers) peers = hvp_peers_new(3, 2);

	g_assert_true(hvp_peers_add(peers, "a"));
	g_assert_true(hvp_peers_add(peers, "a"));
	g_assert_false(hvp_peers_add(peers, "a"));
	g_assert_true(hvp_peers_add(peers, "b"));
	g_assert_false(hvp_peers_add(peers, "c"));
	hvp_peers_remove(peers, "a");
	g_assert_true(hvp_peers_add(peers, "c"));
	hvp_peers_remove(peers, "a");
	hvp_peers_remove(peers, "b");
	hvp_peers_remove(peers, "c");
	g_assert_cmpuint(hvp_peers_count(peers), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/apid/peers/too-many-REFUSED", test_limits);
	return g_test_run();
}
