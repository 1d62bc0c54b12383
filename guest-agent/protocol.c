/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "protocol.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "line.h"

#define ID_MAX_BYTES 1024
/* Behind the list of a page: "next", "id", brackets. */
#define TAIL_BYTES (ID_MAX_BYTES + 128)
#define PAGE_MAX_THREADS 4096
#define PAGE_NSEC (250 * AGENT_NSEC_PER_MSEC)
#define DEFAULT_INTERVAL_MSEC 100
#define BOOT_ID_PATH "sys/kernel/random/boot_id"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

typedef enum { REQUEST_EXECUTE, REQUEST_ARGUMENTS, REQUEST_ID, REQUEST_MEMBERS } RequestMember;

static const char *const request_members[] = { "execute", "arguments", "id" };

/*
 * Each writes the value of "return". Returns NULL, or a phrase that says what is wrong with the
 * request; @arguments is 0 if there are none.
 */
typedef const char *(*Command)(AgentProtocol *self, uint32_t arguments, AgentWriter *writer);

static const char *sync_delimited(AgentProtocol *self, uint32_t arguments, AgentWriter *writer);
static const char *ping(AgentProtocol *self, uint32_t arguments, AgentWriter *writer);
static const char *info(AgentProtocol *self, uint32_t arguments, AgentWriter *writer);
static const char *get_kthreads(AgentProtocol *self, uint32_t arguments, AgentWriter *writer);
static const char *watch_kthreads(AgentProtocol *self, uint32_t arguments, AgentWriter *writer);
static const char *get_modules(AgentProtocol *self, uint32_t arguments, AgentWriter *writer);

static const struct {
	const char *name;
	Command run;
} commands[] = {
	{ "guest-sync-delimited", sync_delimited },
	{ "guest-ping", ping },
	{ "guest-info", info },
	{ "guest-hvpatch-get-kthreads", get_kthreads },
	{ "guest-hvpatch-watch-kthreads", watch_kthreads },
	{ "guest-hvpatch-get-modules", get_modules },
};

/* --- arguments ------------------------------------------------------------- */

static const char *read_arguments(const AgentProtocol *self, uint32_t arguments,
				  const char *const *names, size_t count, uint32_t *ret_indexes)
{
	if (arguments != 0)
		return agent_json_members(&self->json, arguments, names, count, ret_indexes);
	memset(ret_indexes, 0, count * sizeof *ret_indexes);
	return NULL;
}

static const char *no_arguments(const AgentProtocol *self, uint32_t arguments)
{
	uint32_t none;

	return read_arguments(self, arguments, NULL, 0, &none);
}

/* *value stays as it is without the argument. */
static bool read_integer(const AgentProtocol *self, uint32_t index, int64_t low, int64_t high,
			 int64_t *value)
{
	if (index == 0)
		return true;
	return agent_json_get_integer(&self->json, index, value) && *value >= low && *value <= high;
}

static bool read_boolean(const AgentProtocol *self, uint32_t index, bool *value)
{
	return index == 0 || agent_json_get_boolean(&self->json, index, value);
}

/* --- commands ---------------------------------------------------------------- */

static const char *sync_delimited(AgentProtocol *self, uint32_t arguments, AgentWriter *writer)
{
	static const char *const names[] = { "id" };
	uint32_t index;
	const char *reason = read_arguments(self, arguments, names, 1, &index);
	int64_t id;

	if (reason != NULL)
		return reason;
	if (index == 0 || !agent_json_get_integer(&self->json, index, &id))
		return "id has to be a whole number";
	agent_writer_integer(writer, id);
	return NULL;
}

static const char *ping(AgentProtocol *self, uint32_t arguments, AgentWriter *writer)
{
	agent_writer_open(writer, '{');
	agent_writer_close(writer, '}');
	return no_arguments(self, arguments);
}

static const char *info(AgentProtocol *self, uint32_t arguments, AgentWriter *writer)
{
	agent_writer_open(writer, '{');
	agent_writer_name(writer, "version");
	agent_writer_string(writer, HVP_AGENT_VERSION);
	agent_writer_name(writer, "protocol");
	agent_writer_integer(writer, AGENT_PROTOCOL_VERSION);
	agent_writer_name(writer, "supported_commands");
	agent_writer_open(writer, '[');
	for (size_t i = 0; i < COUNT_OF(commands); i++) {
		agent_writer_open(writer, '{');
		agent_writer_name(writer, "name");
		agent_writer_string(writer, commands[i].name);
		agent_writer_name(writer, "enabled");
		agent_writer_boolean(writer, true);
		agent_writer_close(writer, '}');
	}
	agent_writer_close(writer, ']');
	agent_writer_close(writer, '}');
	return no_arguments(self, arguments);
}

/* Empty if the kernel does not tell. */
static void read_boot_id(const AgentProc *proc, char *ret_text)
{
	if (agent_proc_read(proc, BOOT_ID_PATH, ret_text, AGENT_PROTOCOL_BOOT_ID_CAPACITY) < 0)
		ret_text[0] = '\0';
	ret_text[strcspn(ret_text, "\n")] = '\0';
}

/* False: no room. */
static bool write_kthread(const AgentKthread *kthread, const AgentKthreadStack *stack,
			  AgentWriter *writer)
{
	AgentWriterMark mark = agent_writer_mark(writer);

	agent_kthread_write(kthread, stack, writer);
	if (writer->overflow)
		agent_writer_go_back(writer, mark);
	return agent_writer_mark(writer) > mark;
}

/* Writes threads until the page is full or its time is over; returns where the next begins. */
static int32_t write_page(AgentProtocol *self, int64_t limit, bool with_stack, AgentWriter *writer)
{
	int64_t end_nsec = agent_clock_nsec(CLOCK_MONOTONIC) + PAGE_NSEC;
	AgentKthreadStack *stack = with_stack ? &self->stack : NULL;
	const AgentProc *proc = &self->proc;
	AgentKthread kthread;
	int64_t written = 0;

	for (size_t i = 0; i < proc->pid_count; i++) {
		if (written == limit || (i > 0 && agent_clock_nsec(CLOCK_MONOTONIC) > end_nsec))
			return proc->pids[i];
		if (agent_kthread_read(proc, proc->pids[i], &kthread, stack) != AGENT_KTHREAD_FOUND)
			continue;
		if (!write_kthread(&kthread, stack, writer)) {
			/* A stack that is too long for a page of its own is left out. */
			if (written > 0 || !write_kthread(&kthread, NULL, writer))
				return proc->pids[i];
		}
		written++;
	}
	return proc->more_pids ? proc->pids[proc->pid_count - 1] + 1 : 0;
}

static const char *get_kthreads(AgentProtocol *self, uint32_t arguments, AgentWriter *writer)
{
	static const char *const names[] = { "start", "limit", "stack" };
	uint32_t indexes[COUNT_OF(names)];
	const char *reason = read_arguments(self, arguments, names, COUNT_OF(names), indexes);
	char boot_id[AGENT_PROTOCOL_BOOT_ID_CAPACITY];
	int64_t start = 0, limit = PAGE_MAX_THREADS;
	bool with_stack = false;
	int32_t next;

	if (reason != NULL)
		return reason;
	if (!read_integer(self, indexes[0], 0, INT32_MAX, &start))
		return "start has to be a pid";
	if (!read_integer(self, indexes[1], 1, PAGE_MAX_THREADS, &limit))
		return "limit has to be 1 to 4096";
	if (!read_boolean(self, indexes[2], &with_stack))
		return "stack has to be true or false";
	if (!agent_proc_list(&self->proc, (int32_t)start))
		return "/proc cannot be read";
	read_boot_id(&self->proc, boot_id);
	agent_writer_open(writer, '{');
	agent_writer_name(writer, "boot_id");
	agent_writer_string(writer, boot_id);
	agent_writer_name(writer, "kthreads");
	agent_writer_open(writer, '[');
	writer->capacity_bytes -= TAIL_BYTES;
	next = write_page(self, limit, with_stack, writer);
	writer->capacity_bytes += TAIL_BYTES;
	agent_writer_close(writer, ']');
	agent_writer_name(writer, "next");
	agent_writer_integer(writer, next);
	agent_writer_close(writer, '}');
	return NULL;
}

static const char *read_patterns(const AgentProtocol *self, uint32_t array,
				 AgentWatchOptions *options)
{
	const AgentJsonValue *values = self->json.values;

	if (array == 0)
		return NULL;
	if (values[array].type != AGENT_JSON_ARRAY)
		return "match has to be an array";
	for (uint32_t i = array + 1; i < values[array].next; i = values[i].next) {
		if (options->pattern_count == AGENT_WATCH_MAX_PATTERNS)
			return "match has more than 16 patterns";
		if (!agent_json_get_string(&self->json, i,
					   options->patterns[options->pattern_count++],
					   AGENT_WATCH_PATTERN_CAPACITY))
			return "match has to have strings of at most 63 bytes";
	}
	return options->pattern_count > 0 ? NULL : "match is empty";
}

static const char *watch_kthreads(AgentProtocol *self, uint32_t arguments, AgentWriter *writer)
{
	static const char *const names[] = { "enable", "interval_ms", "match" };
	uint32_t indexes[COUNT_OF(names)];
	const char *reason = read_arguments(self, arguments, names, COUNT_OF(names), indexes);
	AgentWatchOptions options = { .pattern_count = 0 };
	int64_t interval_msec = DEFAULT_INTERVAL_MSEC;
	bool enable;

	if (reason != NULL)
		return reason;
	if (indexes[0] == 0 || !read_boolean(self, indexes[0], &enable))
		return "enable has to be true or false";
	if (!read_integer(self, indexes[1], AGENT_WATCH_MIN_INTERVAL_MSEC,
			  AGENT_WATCH_MAX_INTERVAL_MSEC, &interval_msec))
		return "interval_ms has to be 10 to 60000";
	reason = read_patterns(self, indexes[2], &options);
	if (reason != NULL)
		return reason;
	options.interval_msec = (uint32_t)interval_msec;
	if (enable)
		agent_watch_start(&self->watch, &options, agent_clock_nsec(CLOCK_MONOTONIC));
	else
		agent_watch_stop(&self->watch);
	agent_writer_open(writer, '{');
	agent_writer_close(writer, '}');
	return NULL;
}

static const char *get_modules(AgentProtocol *self, uint32_t arguments, AgentWriter *writer)
{
	static const char *const names[] = { "start" };
	uint32_t index;
	const char *reason = read_arguments(self, arguments, names, 1, &index);
	int64_t start = 0;
	bool good;

	if (reason != NULL)
		return reason;
	if (!read_integer(self, index, 0, INT32_MAX, &start))
		return "start has to be a number";
	agent_writer_open(writer, '{');
	writer->capacity_bytes -= TAIL_BYTES;
	good = agent_module_write(&self->proc, start, writer);
	writer->capacity_bytes += TAIL_BYTES;
	agent_writer_close(writer, '}');
	return good ? NULL : "/proc/modules cannot be read";
}

/* --- requests ---------------------------------------------------------------- */

static void write_error(AgentWriter *writer, const char *class, const char *reason)
{
	agent_writer_go_back(writer, 0);
	agent_writer_open(writer, '{');
	agent_writer_name(writer, "error");
	agent_writer_open(writer, '{');
	agent_writer_name(writer, "class");
	agent_writer_string(writer, class);
	agent_writer_name(writer, "desc");
	agent_writer_string(writer, reason);
	agent_writer_close(writer, '}');
}

/* @id: 0 if there is none. */
static void finish(const AgentProtocol *self, uint32_t id, AgentWriter *writer)
{
	const AgentJsonValue *value = &self->json.values[id];

	if (id != 0) {
		agent_writer_name(writer, "id");
		agent_writer_json(writer, self->json.text + value->start,
				  value->end - value->start);
	}
	agent_writer_text(writer, "}\n");
}

void agent_protocol_refuse(AgentWriter *writer, const char *reason)
{
	write_error(writer, "GenericError", reason);
	agent_writer_text(writer, "}\n");
}

/* The index in commands; their number: no such. */
static size_t find_command(const AgentProtocol *self, uint32_t execute)
{
	char name[64];
	size_t i = 0;

	if (!agent_json_get_string(&self->json, execute, name, sizeof name))
		return COUNT_OF(commands);
	while (i < COUNT_OF(commands) && strcmp(name, commands[i].name) != 0)
		i++;
	return i;
}

static void run(AgentProtocol *self, const uint32_t *members, AgentWriter *writer)
{
	size_t command = find_command(self, members[REQUEST_EXECUTE]);
	const char *reason;

	if (command == COUNT_OF(commands)) {
		write_error(writer, "CommandNotFound", "there is no such command");
		return;
	}
	if (commands[command].run == sync_delimited)
		agent_writer_bytes(writer, (char[]){ AGENT_LINE_RESET }, 1);
	agent_writer_open(writer, '{');
	agent_writer_name(writer, "return");
	reason = commands[command].run(self, members[REQUEST_ARGUMENTS], writer);
	if (reason != NULL)
		write_error(writer, "GenericError", reason);
}

static const char *check_request(const AgentProtocol *self, uint32_t *ret_members)
{
	const AgentJson *json = &self->json;
	const char *reason = agent_json_members(json, 0, request_members, REQUEST_MEMBERS,
						ret_members);
	const AgentJsonValue *execute, *id;

	if (reason != NULL)
		return reason;
	execute = &json->values[ret_members[REQUEST_EXECUTE]];
	id = &json->values[ret_members[REQUEST_ID]];
	if (ret_members[REQUEST_EXECUTE] == 0 || execute->type != AGENT_JSON_STRING)
		return "execute has to be a string";
	if (ret_members[REQUEST_ID] != 0 && id->end - id->start > ID_MAX_BYTES)
		return "id is too long";
	return NULL;
}

static bool is_blank(const char *line, size_t size_bytes)
{
	for (size_t i = 0; i < size_bytes; i++)
		if (memchr(" \t\r", line[i], 3) == NULL)
			return false;
	return true;
}

void agent_protocol_answer(AgentProtocol *self, const char *line, size_t size_bytes,
			   AgentWriter *writer)
{
	uint32_t members[REQUEST_MEMBERS];
	const char *reason;

	if (is_blank(line, size_bytes))
		return;
	reason = agent_json_parse(&self->json, line, size_bytes);
	if (reason == NULL)
		reason = check_request(self, members);
	if (reason != NULL) {
		agent_protocol_refuse(writer, reason);
		return;
	}
	run(self, members, writer);
	finish(self, members[REQUEST_ID], writer);
}

void agent_protocol_tick(AgentProtocol *self, int64_t now_nsec, AgentWriter *writer)
{
	char boot_id[AGENT_PROTOCOL_BOOT_ID_CAPACITY];

	read_boot_id(&self->proc, boot_id);
	agent_watch_tick(&self->watch, &self->proc, boot_id, now_nsec, writer);
	if (writer->used_bytes > 0)
		agent_writer_text(writer, "\n");
}

bool agent_protocol_start(AgentProtocol *self, const char *proc_root)
{
	agent_watch_stop(&self->watch);
	return agent_proc_open(&self->proc, proc_root);
}
