/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host that sends anything, and a /proc that says anything: each line is answered by one line of
 * JSON, short enough, and a sync at the end finds its way. The first byte chooses:
 *
 *   even: the rest is what the host sends
 *   odd:  the rest is a text of /proc, which each of its readers takes
 */
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "line.h"
#include "protocol.h"

#define SYNC "\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":42}}\n"
#define SYNCED "\xff{\"return\":42}\n"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes);

static AgentProtocol protocol;
static AgentLine line;
static AgentJson json;
static char outgoing[AGENT_LINE_MAX_BYTES];

/* An answer is one line of JSON, but for the 0xFF before that to a sync. */
static void check_answer(const AgentWriter *writer)
{
	gsize skip = writer->used_bytes > 0 && writer->bytes[0] == AGENT_LINE_RESET;

	g_assert(!writer->overflow);
	if (writer->used_bytes == 0)
		return;
	g_assert(memchr(writer->bytes, '\n', writer->used_bytes) ==
		 writer->bytes + writer->used_bytes - 1);
	g_assert(agent_json_parse(&json, writer->bytes + skip, writer->used_bytes - skip) == NULL ||
		 json.count == AGENT_JSON_MAX_VALUES);
}

/* Returns the answer to the last line. */
static AgentWriter hear(const char *bytes, gsize size_bytes)
{
	AgentWriter writer = { .bytes = outgoing, .capacity_bytes = sizeof outgoing };

	while (size_bytes > 0) {
		gsize taken_bytes;
		AgentLineResult result = agent_line_take(&line, bytes, size_bytes, &taken_bytes);

		g_assert(taken_bytes > 0 && taken_bytes <= size_bytes);
		agent_writer_go_back(&writer, 0);
		if (result == AGENT_LINE_WHOLE)
			agent_protocol_answer(&protocol, line.bytes, line.used_bytes, &writer);
		else if (result == AGENT_LINE_TOO_LONG)
			agent_protocol_refuse(&writer, "too long");
		check_answer(&writer);
		bytes += taken_bytes;
		size_bytes -= taken_bytes;
	}
	return writer;
}

static void hear_host(const char *bytes, gsize size_bytes)
{
	AgentWriter writer;

	agent_line_reset(&line);
	hear(bytes, size_bytes);
	writer = hear(SYNC, strlen(SYNC));
	g_assert(writer.used_bytes == strlen(SYNCED));
	g_assert(memcmp(writer.bytes, SYNCED, strlen(SYNCED)) == 0);
	agent_watch_stop(&protocol.watch);
}

static void read_proc(const char *bytes, gsize size_bytes)
{
	g_autofree char *text = g_strndup(bytes, size_bytes);
	AgentWriter writer = { .bytes = outgoing, .capacity_bytes = sizeof outgoing };
	AgentKthread kthread = { .pid = 1 };
	AgentKthreadStack stack = { .readable = true };

	(void)agent_kthread_parse_stat(&kthread, text);
	(void)agent_kthread_parse_status(&kthread, text);
	g_strlcpy(kthread.wchan, text, sizeof kthread.wchan);
	g_strlcpy(stack.text, text, sizeof stack.text / 8);
	kthread.state = agent_kthread_judge(&kthread);
	agent_kthread_write(&kthread, &stack, &writer);
	agent_writer_text(&writer, "\n");
	check_answer(&writer);
	agent_writer_go_back(&writer, 0);
	agent_module_write_line(text, &writer);
	if (writer.used_bytes > 0)
		agent_writer_text(&writer, "\n");
	check_answer(&writer);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes)
{
	static bool started;

	if (size_bytes == 0)
		return 0;
	/* A folder without processes: the answers of commands are the unit tests' business. */
	if (!started)
		started = agent_protocol_start(&protocol, "/dev/fd");
	g_assert(started);
	if (data[0] % 2 == 0)
		hear_host((const char *)data + 1, size_bytes - 1);
	else
		read_proc((const char *)data + 1, size_bytes - 1);
	return 0;
}
