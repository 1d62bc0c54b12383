/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A gdb stub that says anything: each request has an answer or a reason.
 *
 *   input = "p" (line "\n")*    each line is sent as "+" and a packet of it with its checksum; one
 *                               that begins with "!" without the "+"; an empty one is a "+" alone
 *         | "r" byte*           sent as they are
 */
#include <string.h>

#include "peer.h"
#include "vm/gdbstub.h"

#define ANSWER_USEC G_USEC_PER_SEC
#define MOST_VCPUS 4U
#define MEMORY_BYTES 4096U
#define PC 0xffffffff9a001000ULL

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes);

static void append_packet(GByteArray *bytes, const guint8 *line, gsize length_bytes)
{
	bool acknowledged = length_bytes == 0 || line[0] != '!';
	char end[4];
	guint8 sum = 0;

	if (acknowledged)
		g_byte_array_append(bytes, (const guint8 *)"+", 1);
	if (acknowledged && length_bytes == 0)
		return;
	if (!acknowledged) {
		line++;
		length_bytes--;
	}
	for (gsize i = 0; i < length_bytes; i++)
		sum += line[i];
	g_snprintf(end, sizeof end, "#%02x", sum);
	g_byte_array_append(bytes, (const guint8 *)"$", 1);
	g_byte_array_append(bytes, line, (guint)length_bytes);
	g_byte_array_append(bytes, (const guint8 *)end, 3);
}

static GByteArray *conversation(const guint8 *data, gsize size_bytes)
{
	GByteArray *bytes = g_byte_array_new();
	const guint8 *end = data + size_bytes;

	if (*data++ != 'p') {
		g_byte_array_append(bytes, data, (guint)(end - data));
		return bytes;
	}
	while (data < end) {
		const guint8 *newline = memchr(data, '\n', (gsize)(end - data));
		const guint8 *line_end = newline ? newline : end;

		append_packet(bytes, data, (gsize)(line_end - data));
		data = newline ? newline + 1 : end;
	}
	return bytes;
}

static bool check(bool ok, GError **error)
{
	g_assert(ok == (*error == NULL));
	g_assert(*error == NULL || (*error)->domain == HVP_ERROR);
	g_clear_error(error);
	return ok;
}

static void use_vcpu(HvpGdbstub *stub, guint vcpu)
{
	HvpRegisters before = { 0 }, after;
	guint8 bytes[64];
	GError *error = NULL;

	if (!check(hvp_gdbstub_read_registers(stub, vcpu, &before, &error), &error))
		return;
	after = before;
	after.rip++;
	after.general[HVP_RAX]++;
	check(hvp_gdbstub_write_registers(stub, vcpu, &before, &after, &error), &error);
	check(hvp_gdbstub_read_virtual(stub, vcpu, hvp_gva(PC), bytes, sizeof bytes, &error),
	      &error);
}

static void use_memory(HvpGdbstub *stub)
{
	guint8 bytes[MEMORY_BYTES] = { 0 };
	GError *error = NULL;

	check(hvp_gdbstub_read_physical(stub, hvp_gpa(0), bytes, sizeof bytes, &error), &error);
	check(hvp_gdbstub_write_physical(stub, hvp_gpa(0), bytes, 16, &error), &error);
	check(hvp_gdbstub_leave_physical_mode(stub, &error), &error);
}

static bool check_stop(HvpGdbstub *stub, bool ok, const HvpGdbstubStop *stop, GError **error)
{
	if (check(ok, error))
		g_assert(stop->vcpu_index >= -1 &&
			 stop->vcpu_index < (gint)hvp_gdbstub_get_vcpu_count(stub));
	return ok;
}

static bool stop_by_interrupt(HvpGdbstub *stub, HvpDeadline deadline)
{
	HvpGdbstubStop stop = { 0 };
	GError *error = NULL;
	bool ok;

	if (!check(hvp_gdbstub_continue(stub, &error), &error))
		return false;
	ok = hvp_gdbstub_interrupt(stub, deadline, &stop, &error);
	return check_stop(stub, ok, &stop, &error);
}

static void run(HvpGdbstub *stub)
{
	HvpDeadline deadline = hvp_deadline_in(ANSWER_USEC);
	HvpGdbstubStop stop = { 0 };
	GError *error = NULL;
	bool ok;

	check(hvp_gdbstub_insert_breakpoint(stub, hvp_gva(PC), &error), &error);
	ok = hvp_gdbstub_step(stub, 0, &stop, &error);
	check_stop(stub, ok, &stop, &error);
	if (!stop_by_interrupt(stub, deadline) ||
	    !check(hvp_gdbstub_continue(stub, &error), &error))
		return;
	ok = hvp_gdbstub_wait_stop(stub, deadline, &stop, &error);
	if (check_stop(stub, ok, &stop, &error))
		check(hvp_gdbstub_remove_breakpoint(stub, hvp_gva(PC), &error), &error);
}

static void talk(HvpGdbstub *stub)
{
	GError *error = NULL;

	if (!check(hvp_gdbstub_handshake(stub, &error), &error))
		return;
	g_assert(hvp_gdbstub_get_vcpu_count(stub) > 0);
	g_assert(hvp_gdbstub_get_vcpu_count(stub) <= HVP_GDBSTUB_MAX_VCPUS);
	if (check(hvp_gdbstub_learn_registers(stub, &error), &error))
		for (guint i = 0; i < MIN(hvp_gdbstub_get_vcpu_count(stub), MOST_VCPUS); i++)
			use_vcpu(stub, i);
	use_memory(stub);
	run(stub);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes)
{
	g_autoptr(GByteArray) bytes = NULL;
	g_autoptr(HvpGdbstub) stub = NULL;
	int peer;

	if (size_bytes == 0)
		return 0;
	bytes = conversation(data, size_bytes);
	if (bytes->len > PEER_MAX_BYTES)
		return 0;
	stub = hvp_gdbstub_new(peer_say(bytes->data, bytes->len, &peer), ANSWER_USEC);
	talk(stub);
	close(peer);
	return 0;
}
