/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel threads that the host wants to hear of. Nothing is queued: what was told last is kept of
 * each thread as a digest, and an event is made of what differs when there is room to send it.
 */
#pragma once

#include "kthread.h"

#define AGENT_WATCH_MAX_THREADS 8192
#define AGENT_WATCH_MAX_PATTERNS 16
#define AGENT_WATCH_PATTERN_CAPACITY 64
#define AGENT_WATCH_MIN_INTERVAL_MSEC 10
#define AGENT_WATCH_MAX_INTERVAL_MSEC 60000

typedef struct {
	int32_t pid;
	uint64_t start_ticks;
	uint64_t digest; /* of what was told last, 0: nothing yet */
} AgentWatchRecord;

typedef struct {
	uint32_t interval_msec;
	char patterns[AGENT_WATCH_MAX_PATTERNS][AGENT_WATCH_PATTERN_CAPACITY];
	size_t pattern_count; /* 0: all threads */
} AgentWatchOptions;

typedef struct {
	bool enabled;
	AgentWatchOptions options;
	AgentWatchRecord records[AGENT_WATCH_MAX_THREADS]; /* by pid */
	size_t count;
	size_t cursor;	       /* the record to look at next */
	int32_t discover_pid;  /* where the search for new threads goes on */
	int64_t discover_nsec; /* and when */
	int64_t event_nsec;    /* when the next event is due */
} AgentWatch;

/* Watches from now on, or anew. */
void agent_watch_start(AgentWatch *self, const AgentWatchOptions *options, int64_t now_nsec);

void agent_watch_stop(AgentWatch *self);

/*
 * To be called when the next event is due. Writes an event, without a newline, if there is
 * something to tell; @writer is empty. A call takes some hundredths of a second at most, what is
 * left over has its turn at the next.
 */
void agent_watch_tick(AgentWatch *self, AgentProc *proc, const char *boot_id, int64_t now_nsec,
		      AgentWriter *writer);

/* Whether @text is of the form @pattern: * for any text, ? for any byte. */
bool agent_watch_matches(const char *pattern, const char *text);
