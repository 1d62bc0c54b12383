/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of the one session that a keeper serves, its answers to the tool, and
 * stopping and resuming with the budget. What is done with it: requests.c (for the
 * tool), home.c (without it), loop.c (what happens next).
 *
 *   detached --ATTACH--> running <--RESUME/STOP--> stopped
 *        ^                  |  ^                      |
 *        |               WAIT  | timed out            | budget, failure
 *        |                  v  |                      v
 *        +---all home--- going home <----tool gone, SIGTERM, conflict
 */
#pragma once

#include "keeper/frames.h"
#include "keeper/guest-mark.h"
#include "keeper/sites.h"
#include "keeper/wire.h"
#include "vm/qmp.h"
#include "vm/ram.h"

/* The request that has no answer yet. */
typedef enum {
	HVP_SESSION_PENDING_NOTHING,
	HVP_SESSION_PENDING_WAIT,
	HVP_SESSION_PENDING_ADOPT,
} HvpSessionPending;

typedef struct {
	int tool_fd;	/* -1: gone */
	int dropped_fd; /* a tool that closes its session waits for the end of this */
	int journal_fd;
	int signal_fd;
	HvpQmp *qmp; /* NULL: there is no monitor */
	HvpGuestMark mark; /* without one, what tells of a reset */
	HvpVcpus vcpus;
	HvpFrames frames;
	HvpSites sites;
	bool by_kvm; /* at `place`, with guest memory at `ranges` */
	HvpWirePlace place;
	gsize range_count;
	HvpRamRange ranges[HVP_RAM_MAX_RANGES];
	gint64 budget_usec; /* of the current or last stop */
	HvpDeadline budget;
	bool budget_runs;
	gint64 stop_usec;
	gint64 registers_usec;
	HvpSessionPending pending;
	HvpDeadline pending_deadline;
	HvpDeadline look;      /* for spin traps: when to look at the vCPUs again, */
	gint64 look_usec;      /* after how long once more, */
	HvpDeadline last_look; /* and when somebody must have */
	bool going_home;
	bool has_set_out; /* on the way home: nothing is left to do without the guest */
	bool stays_attached; /* at the end of going home: ADOPT */
	bool has_adopted;    /* what is in the journal since before */
	bool reattached;
	bool monitor_lost;
	bool terminated;
	guint64 resets; /* RESET events seen */
	GError *ended;	/* the answer to every request from now on */
	HvpWireMessage request;
	HvpWireMessage answer;
} HvpSession;

/* From now on there is no tool. */
void hvp_session_drop_tool(HvpSession *self);

/* Sends `answer`; a tool that does not read it is as good as gone. */
void hvp_session_send_answer(HvpSession *self);
void hvp_session_answer_ok(HvpSession *self, const void *bytes, gsize length_bytes);
void hvp_session_answer_error(HvpSession *self, const GError *error);
/* The answer to STOP and WAIT; all registers are known. */
void hvp_session_answer_stop(HvpSession *self);

/* From now on the tool has @usec until it resumes. */
void hvp_session_start_budget(HvpSession *self, gint64 usec);

/* As of vcpus.h, timed. */
bool hvp_session_stop(HvpSession *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_session_read_registers(HvpSession *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_session_resume(HvpSession *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * While stopped: where no monitor tells of resets, whether the guest is the one that it was when
 * there was nothing of ours in it yet; with a monitor, or nothing of ours, it is. When it is
 * not, or not for sure, nobody may be given registers.
 */
HvpGuestMarkVerdict hvp_session_judge_guest(HvpSession *self);

/*
 * The same: CONFLICT, and it stands, when it was reset; BUSY when that is not sure, and it was
 * resumed.
 */
bool hvp_session_check_guest(HvpSession *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Before anything of ours is put into the guest. UNSUPPORTED: nothing would tell of its reset. */
bool hvp_session_check_mark(const HvpSession *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Attached anew: resets count from here on. */
void hvp_session_begin(HvpSession *self);

/*
 * Nobody reports who comes to a spin trap: while some are planted and somebody waits for them, the
 * vCPUs are looked at in growing intervals, first a moment from now.
 */
void hvp_session_look_soon(HvpSession *self);
void hvp_session_look_later(HvpSession *self);
bool hvp_session_must_look(const HvpSession *self);

/* Whether spin traps are planted in a running guest, and whoever comes there stands. */
bool hvp_session_is_spinning(const HvpSession *self);

/* Sets, or replaces, what every request will be answered with. */
void hvp_session_set_ended(HvpSession *self, HvpErrorCode code, const char *message);
