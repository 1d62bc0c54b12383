/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "watch.h"

#include <string.h>

#include "clock.h"

/* What one tick does at most. */
#define MAX_DISCOVERED 512
#define MAX_LOOKS 512
#define MAX_GONE 256
#define SLICE_NSEC (20 * AGENT_NSEC_PER_MSEC)
#define DISCOVER_INTERVAL_NSEC (500 * AGENT_NSEC_PER_MSEC)
/* Room for the pids that are gone and the brackets behind. */
#define TAIL_BYTES (MAX_GONE * 12 + 64)

#define FNV_START 0xcbf29ce484222325ULL
#define FNV_PRIME 0x100000001b3ULL

typedef struct {
	int32_t pids[MAX_GONE];
	size_t count;
} Gone;

void agent_watch_start(AgentWatch *self, const AgentWatchOptions *options, int64_t now_nsec)
{
	self->enabled = true;
	self->options = *options;
	self->count = self->cursor = 0;
	self->discover_pid = 0;
	self->discover_nsec = self->event_nsec = now_nsec;
}

void agent_watch_stop(AgentWatch *self)
{
	self->enabled = false;
	self->count = 0;
}

/* Goes back to the last * only: that is enough, and takes at most length times length steps. */
bool agent_watch_matches(const char *pattern, const char *text)
{
	const char *star = NULL, *retry = NULL;

	while (*text != '\0') {
		if (*pattern == '*') {
			star = ++pattern;
			retry = text;
		} else if (*pattern == '?' || *pattern == *text) {
			pattern++;
			text++;
		} else if (star != NULL) {
			pattern = star;
			text = ++retry;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

static bool is_wanted(const AgentWatch *self, const char *comm)
{
	for (size_t i = 0; i < self->options.pattern_count; i++)
		if (agent_watch_matches(self->options.patterns[i], comm))
			return true;
	return self->options.pattern_count == 0;
}

/* The index of the first record whose pid is not below @pid. */
static size_t find_record(const AgentWatch *self, int32_t pid)
{
	size_t low = 0, high = self->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (self->records[middle].pid < pid)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void insert_record(AgentWatch *self, size_t index, const AgentKthread *kthread)
{
	AgentWatchRecord *record = &self->records[index];

	memmove(record + 1, record, (self->count - index) * sizeof *record);
	*record = (AgentWatchRecord){ .pid = kthread->pid, .start_ticks = kthread->start_ticks };
	self->count++;
	self->cursor += self->cursor > index;
}

static void remove_record(AgentWatch *self, size_t index)
{
	AgentWatchRecord *record = &self->records[index];

	self->count--;
	memmove(record, record + 1, (self->count - index) * sizeof *record);
}

/* Looks at a process that no record is of. */
static void discover_one(AgentWatch *self, const AgentProc *proc, int32_t pid, size_t index)
{
	AgentKthread kthread;

	if (agent_kthread_identify(proc, pid, &kthread) == AGENT_KTHREAD_FOUND &&
	    is_wanted(self, kthread.comm))
		insert_record(self, index, &kthread);
}

static void discover(AgentWatch *self, AgentProc *proc, int64_t now_nsec)
{
	size_t looks = 0;

	self->discover_nsec = now_nsec + DISCOVER_INTERVAL_NSEC;
	if (!agent_proc_list(proc, self->discover_pid))
		return;
	self->discover_pid = 0;
	for (size_t i = 0; i < proc->pid_count && self->count < AGENT_WATCH_MAX_THREADS; i++) {
		int32_t pid = proc->pids[i];
		size_t index = find_record(self, pid);

		if (index < self->count && self->records[index].pid == pid)
			continue;
		if (looks++ == MAX_DISCOVERED) {
			self->discover_pid = pid;
			self->discover_nsec = now_nsec;
			return;
		}
		discover_one(self, proc, pid, index);
	}
	if (proc->more_pids && proc->pid_count > 0)
		self->discover_pid = proc->pids[proc->pid_count - 1] + 1;
}

static uint64_t add_to_digest(uint64_t digest, const void *bytes, size_t size_bytes)
{
	const unsigned char *at = bytes;

	for (size_t i = 0; i < size_bytes; i++)
		digest = (digest ^ at[i]) * FNV_PRIME;
	return digest;
}

/* Of all that agent_kthread_write() tells; never 0. */
static uint64_t digest_of(const AgentKthread *kthread)
{
	uint64_t digest = FNV_START;

	digest = add_to_digest(digest, kthread->comm, strlen(kthread->comm) + 1);
	digest = add_to_digest(digest, kthread->cpus, strlen(kthread->cpus) + 1);
	digest = add_to_digest(digest, kthread->wchan, strlen(kthread->wchan) + 1);
	digest = add_to_digest(digest, &kthread->flags, sizeof kthread->flags);
	digest = add_to_digest(digest, &kthread->state, sizeof kthread->state);
	digest = add_to_digest(digest, &kthread->voluntary, sizeof kthread->voluntary);
	digest = add_to_digest(digest, &kthread->involuntary, sizeof kthread->involuntary);
	return digest != 0 ? digest : 1;
}

static bool tell_change(AgentWatchRecord *record, const AgentKthread *kthread, AgentWriter *writer)
{
	uint64_t digest = digest_of(kthread);
	AgentWriterMark mark = agent_writer_mark(writer);

	if (digest == record->digest)
		return true;
	agent_kthread_write(kthread, NULL, writer);
	if (writer->overflow) {
		agent_writer_go_back(writer, mark);
		return false;
	}
	record->digest = digest;
	return true;
}

static bool tell_gone(AgentWatchRecord *record, Gone *gone)
{
	if (record->digest == 0)
		return true;
	if (gone->count == MAX_GONE)
		return false;
	gone->pids[gone->count++] = record->pid;
	record->digest = 0;
	return true;
}

/* Looks at the record under the cursor and moves on. False: the event has no room for it. */
static bool look(AgentWatch *self, const AgentProc *proc, AgentWriter *writer, Gone *gone)
{
	AgentWatchRecord *record = &self->records[self->cursor];
	AgentKthread kthread;
	bool found = agent_kthread_read(proc, record->pid, &kthread, NULL) == AGENT_KTHREAD_FOUND;

	if (!found) {
		if (!tell_gone(record, gone))
			return false;
		remove_record(self, self->cursor);
		return true;
	}
	if (kthread.start_ticks != record->start_ticks) {
		if (!tell_gone(record, gone))
			return false;
		record->start_ticks = kthread.start_ticks;
	}
	if (!tell_change(record, &kthread, writer))
		return false;
	self->cursor++;
	return true;
}

/* Each record once, as far as room and time allow. */
static void look_around(AgentWatch *self, const AgentProc *proc, AgentWriter *writer, Gone *gone)
{
	int64_t end_nsec = agent_clock_nsec(CLOCK_MONOTONIC) + SLICE_NSEC;
	size_t looks = self->count < MAX_LOOKS ? self->count : MAX_LOOKS;

	for (size_t i = 0; i < looks && self->count > 0; i++) {
		if (self->cursor >= self->count)
			self->cursor = 0;
		if (!look(self, proc, writer, gone) || agent_clock_nsec(CLOCK_MONOTONIC) > end_nsec)
			return;
	}
}

static void open_event(AgentWriter *writer, const char *boot_id)
{
	int64_t now_nsec = agent_clock_nsec(CLOCK_REALTIME);

	agent_writer_open(writer, '{');
	agent_writer_name(writer, "event");
	agent_writer_string(writer, "HVPATCH_KTHREADS");
	agent_writer_name(writer, "timestamp");
	agent_writer_open(writer, '{');
	agent_writer_name(writer, "seconds");
	agent_writer_integer(writer, now_nsec / AGENT_NSEC_PER_SEC);
	agent_writer_name(writer, "microseconds");
	agent_writer_integer(writer, now_nsec % AGENT_NSEC_PER_SEC / 1000);
	agent_writer_close(writer, '}');
	agent_writer_name(writer, "data");
	agent_writer_open(writer, '{');
	agent_writer_name(writer, "boot_id");
	agent_writer_string(writer, boot_id);
	agent_writer_name(writer, "kthreads");
	agent_writer_open(writer, '[');
}

static void close_event(AgentWriter *writer, const Gone *gone)
{
	agent_writer_close(writer, ']');
	agent_writer_name(writer, "gone");
	agent_writer_open(writer, '[');
	for (size_t i = 0; i < gone->count; i++)
		agent_writer_integer(writer, gone->pids[i]);
	agent_writer_close(writer, ']');
	agent_writer_close(writer, '}');
	agent_writer_close(writer, '}');
}

void agent_watch_tick(AgentWatch *self, AgentProc *proc, const char *boot_id, int64_t now_nsec,
		      AgentWriter *writer)
{
	Gone gone = { .count = 0 };
	AgentWriterMark start;

	self->event_nsec = now_nsec + self->options.interval_msec * AGENT_NSEC_PER_MSEC;
	if (now_nsec >= self->discover_nsec)
		discover(self, proc, now_nsec);
	writer->capacity_bytes -= TAIL_BYTES;
	open_event(writer, boot_id);
	start = agent_writer_mark(writer);
	look_around(self, proc, writer, &gone);
	writer->capacity_bytes += TAIL_BYTES;
	if (agent_writer_mark(writer) == start && gone.count == 0)
		agent_writer_go_back(writer, 0);
	else
		close_event(writer, &gone);
}
