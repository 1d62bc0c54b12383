/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kthread.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* include/linux/sched.h: values that /proc/PID/stat gives to users. */
#define PF_WQ_WORKER 0x00000020U
#define PF_KTHREAD 0x00200000U
#define PF_NO_SETAFFINITY 0x04000000U

/* TASK_COMM_LEN without the NUL. */
#define TASK_COMM_BYTES 15
#define STAT_CAPACITY 2048
/* The masks of CPUs and memory nodes of the largest kernels take some kilobytes. */
#define STATUS_CAPACITY 16384
#define MOMENT_TRIES 4
/* Fields of stat, counted from 1 as in proc(5). */
#define STAT_STATE 3
#define STAT_FLAGS 9
#define STAT_START 22

static bool copy_text(char *ret_text, size_t capacity, const char *text, size_t length)
{
	if (length >= capacity)
		return false;
	memcpy(ret_text, text, length);
	ret_text[length] = '\0';
	return true;
}

/*
 * The kernel appends "+NAME" to a worker that runs a work item and "-NAME" to one that did (4.18,
 * commit 6b59808bfe48). Names that have a minus of their own are those of rescuers.
 */
static void cut_work_name(AgentKthread *self)
{
	bool pooled = strncmp(self->comm, "kworker/", 8) == 0 && self->comm[8] != 'R';
	char *mark = strpbrk(self->comm, pooled ? "+-" : "+");

	self->has_work = mark != NULL && *mark == '+';
	if (mark != NULL)
		*mark = '\0';
}

/* The start of field @wanted, @text being that of field STAT_STATE. */
static const char *find_field(const char *text, int wanted)
{
	for (int field = STAT_STATE; field < wanted && text != NULL; field++) {
		text = strchr(text, ' ');
		text = text != NULL ? text + 1 : NULL;
	}
	return text;
}

static bool parse_number(const char *text, uint64_t *ret_value)
{
	char *end;

	if (text == NULL || *text < '0' || *text > '9')
		return false;
	*ret_value = strtoull(text, &end, 10);
	return *end == ' ' || *end == '\n' || *end == '\0';
}

bool agent_kthread_parse_stat(AgentKthread *self, const char *text)
{
	const char *open = strchr(text, '('), *close = strrchr(text, ')');
	uint64_t flags;

	/* A name may have parentheses of its own; behind it there are none. */
	if (open == NULL || close == NULL || close < open || close[1] != ' ' || close[2] == '\0')
		return false;
	if (!copy_text(self->comm, sizeof self->comm, open + 1, (size_t)(close - open) - 1))
		return false;
	if (!parse_number(find_field(close + 2, STAT_FLAGS), &flags) ||
	    !parse_number(find_field(close + 2, STAT_START), &self->start_ticks))
		return false;
	self->letter = close[2];
	self->flags = (uint32_t)flags;
	self->has_work = false;
	if (self->flags & PF_WQ_WORKER)
		cut_work_name(self);
	/* Since 5.17 (d6986ce24fc0) /proc tells long names that the task itself has no room for. */
	self->comm[TASK_COMM_BYTES] = '\0';
	return true;
}

/* What stands behind "NAME:\t" at the start of a line; NULL: no such line. */
static const char *find_line(const char *text, const char *name)
{
	size_t length = strlen(name);

	while (text != NULL) {
		if (strncmp(text, name, length) == 0)
			return text + length;
		text = strchr(text, '\n');
		text = text != NULL ? text + 1 : NULL;
	}
	return NULL;
}

bool agent_kthread_parse_status(AgentKthread *self, const char *text)
{
	const char *state = find_line(text, "State:\t");
	const char *cpus = find_line(text, "Cpus_allowed_list:\t");

	if (state == NULL || *state == '\0' || cpus == NULL)
		return false;
	self->letter = *state;
	/* Too long a list is left out; a part of it would be another list. */
	if (!copy_text(self->cpus, sizeof self->cpus, cpus, strcspn(cpus, "\n")))
		self->cpus[0] = '\0';
	return parse_number(find_line(text, "voluntary_ctxt_switches:\t"), &self->voluntary) &&
	       parse_number(find_line(text, "nonvoluntary_ctxt_switches:\t"), &self->involuntary);
}

static bool waits_in(const AgentKthread *self, const char *function)
{
	return strcmp(self->wchan, function) == 0;
}

AgentKthreadState agent_kthread_judge(const AgentKthread *self)
{
	bool worker = (self->flags & PF_WQ_WORKER) != 0;
	bool waits = self->wchan[0] != '\0', switched = self->voluntary + self->involuntary > 0;

	if (self->letter == 'P')
		return AGENT_KTHREAD_PARKED;
	/*
	 * Since 6.1 (f5d39b020809) frozen is a state of its own, also for those that sleep
	 * freezably. These are told as R, although there is a wchan, and since 6.7 as D like many
	 * others (f718faf3940e, in 6.1.y too). A thread that never ran is R with a wchan as well.
	 */
	if (waits_in(self, "__refrigerator") || (self->letter == 'R' && waits && switched))
		return AGENT_KTHREAD_FROZEN;
	if (worker && waits_in(self, "worker_thread"))
		return AGENT_KTHREAD_IDLE_WORKER;
	if (worker && (self->has_work || (waits && !waits_in(self, "rescuer_thread"))))
		return AGENT_KTHREAD_BUSY_WORKER;
	if (self->letter == 'R')
		return AGENT_KTHREAD_RUNNING;
	return self->letter == 'D' ? AGENT_KTHREAD_UNINTERRUPTIBLE : AGENT_KTHREAD_SLEEPING;
}

static void read_wchan(const AgentProc *proc, AgentKthread *self)
{
	ssize_t length = agent_proc_read_of(proc, self->pid, "wchan", self->wchan,
					    sizeof self->wchan);

	/* "0": it runs, or we may not know. */
	if (length < 0 || strcmp(self->wchan, "0") == 0)
		self->wchan[0] = '\0';
}

static bool read_status(const AgentProc *proc, AgentKthread *self)
{
	char text[STATUS_CAPACITY];

	return agent_proc_read_of(proc, self->pid, "status", text, sizeof text) > 0 &&
	       agent_kthread_parse_status(self, text);
}

AgentKthreadResult agent_kthread_identify(const AgentProc *proc, int32_t pid,
					  AgentKthread *ret_kthread)
{
	char text[STAT_CAPACITY];

	ret_kthread->pid = pid;
	if (agent_proc_read_of(proc, pid, "stat", text, sizeof text) <= 0 ||
	    !agent_kthread_parse_stat(ret_kthread, text))
		return AGENT_KTHREAD_NONE;
	/* One that has exited is no thread of anything any more. */
	if (strchr("ZX", ret_kthread->letter) != NULL)
		return AGENT_KTHREAD_NONE;
	return ret_kthread->flags & PF_KTHREAD ? AGENT_KTHREAD_FOUND : AGENT_KTHREAD_USER;
}

static void read_stack(const AgentProc *proc, int32_t pid, AgentKthreadStack *stack)
{
	if (stack != NULL)
		stack->readable = agent_proc_read_of(proc, pid, "stack", stack->text,
						     sizeof stack->text) >= 0;
}

/*
 * One try; *ret_same: the thread was not switched in between, so that all of it is of one moment.
 * A thread that was asleep at the first and the last look, and was not switched, did not run.
 */
static AgentKthreadResult read_once(const AgentProc *proc, int32_t pid, AgentKthread *self,
				    AgentKthreadStack *stack, bool *ret_same)
{
	AgentKthreadResult result = agent_kthread_identify(proc, pid, self);
	uint64_t voluntary, involuntary;
	char letter = self->letter;

	if (result != AGENT_KTHREAD_FOUND)
		return result;
	if (!read_status(proc, self))
		return AGENT_KTHREAD_NONE;
	voluntary = self->voluntary;
	involuntary = self->involuntary;
	*ret_same = letter == self->letter;
	letter = self->letter;
	read_wchan(proc, self);
	read_stack(proc, pid, stack);
	if (!read_status(proc, self))
		return AGENT_KTHREAD_NONE;
	*ret_same = *ret_same && letter == self->letter && voluntary == self->voluntary &&
		    involuntary == self->involuntary;
	return AGENT_KTHREAD_FOUND;
}

AgentKthreadResult agent_kthread_read(const AgentProc *proc, int32_t pid, AgentKthread *ret_kthread,
				      AgentKthreadStack *stack)
{
	bool same = false;

	for (int i = 0; i < MOMENT_TRIES && !same; i++) {
		AgentKthreadResult result = read_once(proc, pid, ret_kthread, stack, &same);

		if (result != AGENT_KTHREAD_FOUND)
			return result;
	}
	ret_kthread->state = agent_kthread_judge(ret_kthread);
	if (!same) {
		ret_kthread->state = AGENT_KTHREAD_RUNNING;
		ret_kthread->wchan[0] = '\0';
		if (stack != NULL)
			stack->text[0] = '\0';
	}
	return AGENT_KTHREAD_FOUND;
}

static const char *state_name(AgentKthreadState state)
{
	static const char *const names[] = {
		[AGENT_KTHREAD_PARKED] = "parked",
		[AGENT_KTHREAD_FROZEN] = "frozen",
		[AGENT_KTHREAD_IDLE_WORKER] = "idle-worker",
		[AGENT_KTHREAD_BUSY_WORKER] = "busy-worker",
		[AGENT_KTHREAD_RUNNING] = "running",
		[AGENT_KTHREAD_SLEEPING] = "sleeping",
		[AGENT_KTHREAD_UNINTERRUPTIBLE] = "uninterruptible",
	};

	return names[state];
}

/* One string a line, without the address in brackets before it. */
static void write_stack(const AgentKthreadStack *stack, AgentWriter *writer)
{
	const char *line = stack->text;

	agent_writer_name(writer, "stack");
	agent_writer_open(writer, '[');
	while (*line != '\0') {
		size_t length = strcspn(line, "\n");
		const char *frame = *line == '[' ? memchr(line, ' ', length) : NULL;

		frame = frame != NULL ? frame + 1 : line;
		if (frame < line + length)
			agent_writer_string_bytes(writer, frame, (size_t)(line + length - frame));
		line += length + (line[length] == '\n');
	}
	agent_writer_close(writer, ']');
}

void agent_kthread_write(const AgentKthread *self, const AgentKthreadStack *stack,
			 AgentWriter *writer)
{
	bool one_cpu = self->cpus[0] != '\0' && strpbrk(self->cpus, ",-") == NULL;

	agent_writer_open(writer, '{');
	agent_writer_name(writer, "pid");
	agent_writer_integer(writer, self->pid);
	agent_writer_name(writer, "comm");
	agent_writer_string(writer, self->comm);
	agent_writer_name(writer, "cpus");
	agent_writer_string(writer, self->cpus);
	agent_writer_name(writer, "per_cpu");
	agent_writer_boolean(writer, one_cpu && (self->flags & PF_NO_SETAFFINITY));
	agent_writer_name(writer, "state");
	agent_writer_string(writer, state_name(self->state));
	agent_writer_name(writer, "voluntary");
	agent_writer_integer(writer, (int64_t)self->voluntary);
	agent_writer_name(writer, "involuntary");
	agent_writer_integer(writer, (int64_t)self->involuntary);
	agent_writer_name(writer, "wchan");
	agent_writer_string(writer, self->wchan);
	if (stack != NULL && stack->readable)
		write_stack(stack, writer);
	agent_writer_close(writer, '}');
}
