/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One hvpatch-worker: a process that does one job on one domain, and is believed nothing but its
 * own words. JSON objects on a socket that keeps messages apart (SOCK_SEQPACKET), its descriptor 3:
 *
 *   daemon: the job, once, with the patch's descriptor attached where there is one;
 *           {"cancel":true}
 *   worker: {"progress":{"state","step","attempt","blockers"}}*
 *           {"result":{..}|null,"attached":bool,"exit":N,"error":null|{"code","message"}}
 *
 * A long result is attached as the descriptor of a sealed memory file. A worker that crashes,
 * hangs, floods or talks nonsense is ended, and that is how its job ends. Floods: 32 messages of
 * progress a second, or one of more than 12 KiB.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "base/error.h"

/*
 * The status with which a worker ends that could not confine the half of it that parses, and has
 * given it nothing of the guest.
 */
#define HVP_WORKER_EXIT_UNBEGUN 75

/* Of a result that is attached. */
#define HVP_WORKER_MAX_ATTACHED_BYTES (16U << 20)

typedef struct HvpWorker HvpWorker;

typedef enum {
	HVP_WORKER_DONE,      /* it has told its result, of a failure too */
	HVP_WORKER_CRASHED,   /* it ended without one */
	HVP_WORKER_TIMED_OUT, /* it had to be ended */
	HVP_WORKER_GARBAGE,   /* likewise, for what it said */
} HvpWorkerOutcome;

typedef struct {
	HvpWorkerOutcome outcome;
	JsonNode *result;    /* an object; NULL; borrowed, as the rest */
	int exit_status;     /* of the command line's kind */
	const char *code;    /* of its error; NULL: all went well */
	const char *message; /* likewise; for the other outcomes: what happened */
	/* Nothing of the guest was parsed: who has to do with the guest had no say in that. */
	bool is_unbegun;
} HvpWorkerEnd;

typedef struct {
	void (*progress)(JsonObject *progress, gpointer data);
	/* Once, and never from within hvp_worker_start; the worker is to be freed then or later. */
	void (*ended)(const HvpWorkerEnd *end, gpointer data);
} HvpWorkerHandlers;

/*
 * Starts one for @job (a job's text) with @patch_fd (borrowed; -1: none), to be ended after
 * @deadline_usec. NOT_FOUND: the program is not installed. FAULT.
 */
HvpWorker *hvp_worker_start(const char *job, int patch_fd, gint64 deadline_usec,
			    const HvpWorkerHandlers *handlers, gpointer data, GError **error);

/* Asks it to give up, where it still can. */
void hvp_worker_cancel(HvpWorker *self);

/* Ends it, if it still runs, without telling anybody. NULL is fine. */
void hvp_worker_free(HvpWorker *self);
