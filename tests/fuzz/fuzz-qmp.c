/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A monitor that says anything: each exchange has an answer or a reason, and so has the RAM layout
 * made of such answers.
 *
 *   input = what the monitor sends, in which each "@ID@" is the id of the next request
 */
#include <string.h>

#include "peer.h"
#include "vm/qemu-ram.h"

#define ID_MARK "@ID@"
#define ANSWER_USEC G_USEC_PER_SEC
#define ADDRESS 0x100000ULL

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes);

/* The ids that the client will use: it counts from 1. */
static GByteArray *put_ids(const guint8 *data, gsize size_bytes)
{
	GByteArray *bytes = g_byte_array_new();
	guint number = 0;

	while (size_bytes > 0) {
		const guint8 *mark = memmem(data, size_bytes, ID_MARK, strlen(ID_MARK));
		gsize before = mark ? (gsize)(mark - data) : size_bytes;
		g_autofree char *id = NULL;

		g_byte_array_append(bytes, data, (guint)before);
		if (mark == NULL)
			break;
		id = g_strdup_printf("hvpatch-%d-%u", (int)getpid(), ++number);
		g_byte_array_append(bytes, (const guint8 *)id, (guint)strlen(id));
		data += before + strlen(ID_MARK);
		size_bytes -= before + strlen(ID_MARK);
	}
	return bytes;
}

static void check(bool ok, GError **error)
{
	g_assert(ok == (*error == NULL));
	g_assert(*error == NULL || (*error)->domain == HVP_ERROR);
	g_clear_error(error);
}

static void check_ram(HvpQmp *qmp, HvpDeadline deadline)
{
	GError *error = NULL;
	g_autoptr(HvpRam) ram = hvp_qemu_ram_query(qmp, deadline, &error);
	const HvpRamRange *ranges;
	gsize count;

	check(ram != NULL, &error);
	if (ram == NULL)
		return;
	ranges = hvp_ram_get_ranges(ram, &count);
	g_assert(count > 0 && count <= HVP_RAM_MAX_RANGES);
	for (gsize i = 0; i < count; i++) {
		g_assert(ranges[i].start.value < ranges[i].end.value);
		g_assert(i == 0 || ranges[i - 1].end.value <= ranges[i].start.value);
		g_assert(hvp_ram_find(ram, ranges[i].start) == &ranges[i]);
	}
}

/* Members of an answer of whatever form. */
static void check_members(JsonNode *answer)
{
	GError *error = NULL;
	JsonObject *object = hvp_qmp_as_object(answer, "fuzz", &error);
	const char *text;
	gint64 number;
	bool truth;

	check(object != NULL, &error);
	if (object == NULL)
		return;
	check(hvp_qmp_member_string(object, "status", &text, &error), &error);
	check(hvp_qmp_member_int(object, "status", &number, &error), &error);
	check(hvp_qmp_member_bool(object, "running", &truth, &error), &error);
}

static void talk(HvpQmp *qmp)
{
	HvpDeadline deadline = hvp_deadline_in(ANSWER_USEC);
	g_autofree char *status = NULL, *text = NULL;
	g_autoptr(JsonNode) answer = NULL;
	GError *error = NULL;
	bool running;
	HvpHva hva;

	check(hvp_qmp_query_status(qmp, deadline, &running, &status, &error), &error);
	check_ram(qmp, deadline);
	text = hvp_qmp_monitor_command(qmp, "info mtree -f", deadline, &error);
	check(text != NULL, &error);
	if (text != NULL)
		check(hvp_qemu_ram_parse_gpa2hva(text, hvp_gpa(ADDRESS), &hva, &error), &error);
	answer = hvp_qmp_execute(qmp, "query-fuzz", NULL, deadline, &error);
	check(answer != NULL, &error);
	if (answer != NULL)
		check_members(answer);
	check(hvp_qmp_drain_events(qmp, &error), &error);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes)
{
	g_autoptr(GByteArray) bytes = put_ids(data, size_bytes);
	g_autoptr(HvpQmp) qmp = NULL;
	int peer, stolen;

	if (bytes->len > PEER_MAX_BYTES)
		return 0;
	qmp = hvp_qmp_new_from_fd(peer_say(bytes->data, bytes->len, &peer));
	talk(qmp);
	stolen = hvp_qmp_steal_fd(qmp);
	if (stolen >= 0)
		close(stolen);
	close(peer);
	return 0;
}
