/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of the QEMU plugin that sends anything, while instructions execute: each whole request
 * has one reply that fits, and the sums of what was executed add up. The input is what arrives on
 * the socket; behind each request two instructions are run that it chooses.
 */
#include <glib.h>
#include <string.h>

#include "protocol.h"

#define VCPUS 2U

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes);

static guint8 reply[PLUGIN_PROTOCOL_MAX_REPLY_BYTES];

static void check_reply(gsize length_bytes, const guint8 *request)
{
	HvpPluginWireHeader asked, answered;

	g_assert(length_bytes >= sizeof answered && length_bytes <= sizeof reply);
	memcpy(&asked, request, sizeof asked);
	memcpy(&answered, reply, sizeof answered);
	g_assert(answered.magic == HVP_PLUGIN_WIRE_MAGIC && answered.sequence == asked.sequence);
	g_assert(answered.type == (asked.type | HVP_PLUGIN_WIRE_REPLY));
	g_assert(answered.length_bytes == length_bytes - sizeof answered);
	g_assert(answered.status == HVP_PLUGIN_WIRE_OK || answered.length_bytes == 0);
}

/* At the address that the request's payload begins with, and one behind it. */
static void run_guest(PluginWatch *watch, const guint8 *request, gsize length_bytes)
{
	guint64 pc = 0;

	if (length_bytes >= sizeof(HvpPluginWireHeader) + sizeof pc)
		memcpy(&pc, request + sizeof(HvpPluginWireHeader), sizeof pc);
	for (guint i = 0; i < 2; i++) {
		PluginInsn *insn = plugin_watch_find(watch, pc + i * 8);

		g_assert(insn == NULL ||
			 (plugin_watch_may_hold(watch, pc + i * 8, pc + i * 8 + 1) &&
			  plugin_watch_holds(watch, pc + i * 8, pc + i * 8 + 1)));
		if (insn != NULL)
			plugin_watch_execute(watch, insn, i);
	}
}

static void check_sums(PluginWatch *watch)
{
	static HvpPluginWireViolation violations[PLUGIN_WATCH_MAX_VIOLATIONS];
	HvpPluginWireViolations head;
	guint count = plugin_watch_read_violations(watch, 0, &head, violations);
	guint64 sum = head.lost_count;

	for (guint i = 0; i < count; i++)
		sum += violations[i].count;
	g_assert(sum == head.final_count + head.undecided_count);
	g_assert(watch->undecided || head.undecided_count == 0);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes)
{
	static PluginWatch watch;
	gsize whole;

	g_assert(plugin_watch_init(&watch, VCPUS));
	while (plugin_protocol_measure(data, size_bytes, &whole) && whole > 0) {
		g_assert(whole <= size_bytes);
		check_reply(plugin_protocol_answer(&watch, 1, data, whole, reply), data);
		run_guest(&watch, data, whole);
		check_sums(&watch);
		data += whole;
		size_bytes -= whole;
	}
	plugin_watch_clear(&watch);
	return 0;
}
