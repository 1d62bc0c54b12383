/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a rehearsal has found out, for whoever shows it. */
#pragma once

#include "engine/check.h"
#include "rehearse/blocks.h"
#include "rehearse/messages.h"

#define HVP_REPORT_NOT_RUN (-1)
/* A verdict of fail that no error of apply or revert explains. */
#define HVP_REPORT_EXIT_FAILED 8

/* One stretch of a new function's code: itself, or one of its .cold parts. */
typedef struct {
	char *name;
	HvpGvaRange range; /* of the round at hand: each loads the module elsewhere */
	HvpGva first;	   /* where it began in the first round, as in the blocks */
} HvpReportPart;

typedef struct {
	char *object; /* "vmlinux" */
	char *name;
	HvpGva old_address;
	HvpGva new_address; /* of the last round */
	guint64 old_calls;  /* while the patch was not in force, once it is watched */
	guint64 redirected; /* entries of the old function that went to the new one */
	guint64 new_calls;
	GArray *parts;	   /* HvpReportPart */
	HvpBlocks *blocks; /* of the parts, with counts over all rounds; NULL: not known */
	GPtrArray
		*annotations; /* char *, one an instruction: what a call's target is; may be NULL */
	char *why_unknown;    /* where there are no blocks */
} HvpReportFunction;

/* An instruction that ran where none may. */
typedef struct {
	guint round;
	HvpGva address;
	char *place; /* "cmdline_proc_show+0x10/0x40", or NULL */
	guint vcpu;
	guint64 usec; /* since the switch */
	guint64 count;
} HvpReportViolation;

typedef struct {
	HvpResult *apply; /* NULL: not reached, as all that follows */
	HvpResult *revert;
	int status;	  /* of the workload with the patch, or HVP_REPORT_NOT_RUN */
	int status_after; /* without it again */
	gint64 workload_usec;
	char *output; /* the end of what it printed with the patch */
} HvpReportRound;

typedef struct {
	char *patch;
	char *sha256;
	char *format;
	char *kernel; /* release; NULL: it was not found out */
	char *qemu;   /* version */
	guint vcpu_count;
	guint wanted_rounds;
	bool names_functions;	/* false: only the patch's own init knows its functions */
	guint wanted_functions; /* that the patch names */
	bool passed;
	GPtrArray *reasons;	 /* char *: why it did not pass; escaped */
	GPtrArray *notes;	 /* char *: what a reader should know though it passed */
	GError *error;		 /* what ended it; may be NULL */
	HvpCheck *check;	 /* may be NULL */
	int status_before;	 /* of the workload before the first round */
	GPtrArray *functions;	 /* HvpReportFunction */
	GPtrArray *rounds;	 /* HvpReportRound */
	guint64 violation_count; /* executions, also of those that are not listed */
	bool is_incomplete;	 /* the plugin could not watch all */
	GPtrArray *violations;	 /* HvpReportViolation */
	HvpMessages *messages;
	bool is_console_full; /* and messages may be missing */
	bool is_unsettled;    /* the same: the kernel did not say the last that it should */
	gint64 total_usec;
} HvpReport;

HvpReport *hvp_report_new(const HvpPatch *patch, guint wanted_rounds);
void hvp_report_free(HvpReport *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpReport, hvp_report_free)

/* The function of that name and old address, made if need be. */
HvpReportFunction *hvp_report_function(HvpReport *self, const char *object, const char *name,
				       HvpGva old_address);
HvpReportRound *hvp_report_add_round(HvpReport *self);
void hvp_report_add_reason(HvpReport *self, const char *format, ...) G_GNUC_PRINTF(2, 3);
void hvp_report_add_note(HvpReport *self, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Where @address of the blocks is: "NAME+0x10", NAME with .cold where it is there. The caller's. */
char *hvp_report_place(const HvpReportFunction *function, HvpGva address);

/* Who was in the way of @result's operation last, whether it went well or not: HvpBlocker. */
const GPtrArray *hvp_report_blockers(const HvpResult *result);

/* Judges by what is in it: sets passed, reasons and notes. */
void hvp_report_judge(HvpReport *self);

/*
 * 0: passed. 3, 4, 5: the patch cannot be applied, is busy or refused, as `apply` would have it.
 * HVP_REPORT_EXIT_FAILED: anything else.
 */
int hvp_report_exit_status(const HvpReport *self);
