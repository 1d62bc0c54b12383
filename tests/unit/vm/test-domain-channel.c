/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/domain-channel.h"

#define NAME "org.hvpatch.agent.0"
#define CHANNEL(type, path, target, name)                                                          \
	"<channel type='" type "'><source mode='bind' path='" path "'/><target type='" target      \
	"' name='" name "' state='connected'/></channel>"
#define DOMAIN(devices) "<domain type='kvm'><devices>" devices "</devices></domain>"

static void assert_found(const char *xml, const char *expected)
{
	g_autofree char *found = hvp_domain_channel_find(xml, NAME);

	g_assert_cmpstr(found, ==, expected);
}

static void test_found(void)
{
	assert_found(DOMAIN(CHANNEL("unix", "/run/a", "virtio", NAME)), "/run/a");
	assert_found(DOMAIN(CHANNEL("unix", "/run/ga", "virtio", "org.qemu.guest_agent.0") CHANNEL(
			     "unix", "/run/a", "virtio", NAME)),
		     "/run/a");
	/* In the other order. */
	assert_found(DOMAIN("<channel type='unix'><target type='virtio' name='" NAME
			    "'/><source path='/run/a'/></channel>"),
		     "/run/a");
}

static void test_other(void)
{
	assert_found(DOMAIN(""), NULL);
	assert_found(DOMAIN(CHANNEL("spicevmc", "/run/a", "virtio", NAME)), NULL);
	assert_found(DOMAIN(CHANNEL("unix", "/run/a", "guestfwd", NAME)), NULL);
	assert_found(DOMAIN(CHANNEL("unix", "/run/a", "virtio", "org.hvpatch.agent.00")), NULL);
	/* Of the channel before, or of another device. */
	assert_found(DOMAIN(CHANNEL("unix", "/run/a", "virtio",
				    "x") "<channel type='unix'><target type='virtio' name='" NAME
					 "'/></channel>"),
		     NULL);
	assert_found(DOMAIN("<serial type='unix'><source path='/run/a'/><target type='virtio' "
			    "name='" NAME "'/></serial>"),
		     NULL);
}

static void test_garbage(void)
{
	assert_found("", NULL);
	assert_found("<domain>", NULL);
	assert_found(DOMAIN(CHANNEL("unix", "/run/a", "virtio", NAME)) "<", NULL);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/domain-channel/socket-of-the-port-FOUND", test_found);
	g_test_add_func("/domain-channel/others-NOT-TAKEN", test_other);
	g_test_add_func("/domain-channel/garbage-NOTHING", test_garbage);
	return g_test_run();
}
