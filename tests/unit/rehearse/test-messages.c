/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/messages.h"

#include <string.h>

static const HvpMessage *message_at(const HvpMessages *self, guint index)
{
	g_assert_cmpuint(index, <, self->messages->len);
	return g_ptr_array_index(self->messages, index);
}

static void test_kinds(void)
{
	static const char before[] = "<4>[    1.000000] eth0: 17 packets dropped at 0xffff0001\n";
	static const char text[] =
		"<6>[    2.000000] loop: module loaded\n"
		"guest init: no kernel message\n"
		"<12>[    2.100000] fix: loading out-of-tree module taints kernel.\r\n"
		"<4>[    2.200000] other: loading out-of-tree module taints kernel.\n"
		"<4>[    2.300000] hrtimer: interrupt took 123456 ns\n"
		"<4>[   12.300000] eth0: 4 packets dropped at 0xffff0ab2\n"
		"<4>[   12.400000] ------------[ cut here ]------------\n"
		"<0>[   12.500000] BUG: bad \x1b[31m thing\n"
		"<4>[   12.600000] not a whole line";
	g_autoptr(HvpMessages) messages = hvp_messages_new("fix");
	static const HvpMessageKind kinds[] = { HVP_MESSAGE_QUIET,   HVP_MESSAGE_LOADER,
						HVP_MESSAGE_AGAINST, HVP_MESSAGE_EMULATOR,
						HVP_MESSAGE_BEFORE,  HVP_MESSAGE_AGAINST,
						HVP_MESSAGE_AGAINST };

	hvp_messages_learn(messages, before, strlen(before));
	hvp_messages_add(messages, text, strlen(text));
	g_assert_cmpuint(messages->messages->len, ==, G_N_ELEMENTS(kinds));
	for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
		g_assert_cmpint(message_at(messages, i)->kind, ==, kinds[i]);
	g_assert_cmpuint(messages->against, ==, 3);
	g_assert_cmpuint(message_at(messages, 1)->level, ==, 4);
	g_assert_cmpstr(message_at(messages, 1)->text, ==,
			"fix: loading out-of-tree module taints kernel.");
	g_assert_cmpstr(message_at(messages, 6)->text, ==, "BUG: bad \\x1b[31m thing");
}

static void test_junk(void)
{
	static const char text[] = "\n<\n<4\n<4>\n<4>[\n<4>[ 1.0\n<>[ 1.0] x\n<x>[ 1.0] x\n"
				   "<99999999999999999999>[ 1.0] x\n<4>[ 1.0]\n";
	g_autoptr(HvpMessages) messages = hvp_messages_new("fix");

	hvp_messages_add(messages, text, strlen(text));
	g_assert_cmpuint(messages->messages->len, ==, 2);
	g_assert_cmpuint(message_at(messages, 0)->level, <=, 7);
	g_assert_cmpstr(message_at(messages, 1)->text, ==, "");
	hvp_messages_add(messages, NULL, 0);
	g_assert_cmpuint(messages->messages->len, ==, 2);
}

/* A guest that talks without end: what is not kept is still judged. */
static void test_flood(void)
{
	static const char line[] = "<3>[    1.000000] again\n";
	g_autoptr(HvpMessages) messages = hvp_messages_new("fix");

	for (guint i = 0; i < HVP_MESSAGES_MAX + 5; i++)
		hvp_messages_add(messages, line, strlen(line));
	g_assert_cmpuint(messages->messages->len, ==, HVP_MESSAGES_MAX);
	g_assert_cmpuint(messages->dropped, ==, 5);
	g_assert_cmpuint(messages->against, ==, HVP_MESSAGES_MAX + 5);
}

/* The word that ends them is not the patch's fault, nor known from before; others still count. */
static void test_ignored(void)
{
	static const char text[] = "<12>[    1.000000] hvpatch-0123 settled\n"
				   "<12>[    1.000001] hvpatch-0124 settled\n";
	g_autoptr(HvpMessages) messages = hvp_messages_new("fix");

	hvp_messages_ignore(messages, "hvpatch-0123");
	hvp_messages_learn(messages, text, strcspn(text, "\n") + 1);
	hvp_messages_add(messages, text, strlen(text));
	g_assert_cmpuint(messages->messages->len, ==, 1);
	g_assert_cmpuint(messages->against, ==, 1);
	g_assert_cmpstr(message_at(messages, 0)->text, ==, "hvpatch-0124 settled");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/messages/each-kind-SORTED", test_kinds);
	g_test_add_func("/messages/junk-PASSED-BY", test_junk);
	g_test_add_func("/messages/flood-BOUNDED", test_flood);
	g_test_add_func("/messages/ours-PASSED-BY", test_ignored);
	return g_test_run();
}
