/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every changing operation gives back: the result and its numbers. */
#pragma once

#include "engine/prove.h"

typedef enum {
	HVP_RESULT_APPLIED,
	HVP_RESULT_REVERTED,
	HVP_RESULT_BUSY,
	HVP_RESULT_REFUSED,
	HVP_RESULT_FAILED,
	HVP_RESULT_ROLLED_BACK,
} HvpResultKind;

/* "applied", "reverted", "busy", ... Static. */
const char *hvp_result_kind_name(HvpResultKind kind);

/* The kind of result that @error means. */
HvpResultKind hvp_result_kind_of(const GError *error);

typedef struct {
	char *object; /* "vmlinux" */
	char *name;
	HvpGva old_address;
	HvpGva new_address; /* 0: not known yet */
	HvpGva site;
} HvpFunctionResult;

/* Where the time of the pause in which the switch was made went. */
typedef struct {
	gint64 stop_usec;
	gint64 registers_usec;
	gint64 sweep_usec;  /* locks, lists, keys */
	gint64 rewalk_usec; /* proving */
	gint64 switch_usec;
	gint64 resume_usec;
} HvpPauseTimes;

typedef struct {
	HvpResultKind kind;
	char *message; /* for people; NULL */
	char *patch;
	char *sha256;
	GPtrArray *functions; /* HvpFunctionResult */
	guint tasks;
	guint rechecked;
	guint attempts;
	guint stops; /* attempts for which the guest was stopped */
	gint64 pause_usec;
	gint64 longest_pause_usec; /* of all stops of this operation, guest calls included */
	HvpPauseTimes pause;
	gint64 total_usec;
	GPtrArray *blockers; /* HvpBlocker */
	GPtrArray *met; /* HvpBlocker: of the last blocked attempt, where a later one went well */
} HvpResult;

HvpResult *hvp_result_new(void);
void hvp_result_free(HvpResult *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpResult, hvp_result_free)
void hvp_result_add_function(HvpResult *self, const char *object, const char *name,
			     HvpGva old_address, HvpGva new_address, HvpGva site);
