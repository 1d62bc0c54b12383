/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the plugin in QEMU has seen, put where it belongs in the report. */
#pragma once

#include "rehearse/report.h"
#include "vm/plugin.h"

/*
 * The patch is in force as @result says: finds the new functions' code in @target and its blocks.
 * What cannot be read is noted with the function and is no failure. False: the guest is gone.
 */
bool hvp_evidence_find_code(HvpReport *report, HvpTarget *target, const HvpResult *result,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The counts since the switch, with the patch in force. */
bool hvp_evidence_take_patched(HvpReport *report, HvpPlugin *plugin, HvpDeadline deadline,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The calls of the old functions since they are in force again. */
bool hvp_evidence_take_unpatched(HvpReport *report, HvpPlugin *plugin, HvpDeadline deadline,
				 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * The violations that were not taken yet, as of round @round; @target, which may be NULL, knows
 * names. *@next: the number of the first that is new; moved on.
 */
bool hvp_evidence_take_violations(HvpReport *report, HvpPlugin *plugin, HvpTarget *target,
				  guint round, guint64 *next, HvpDeadline deadline,
				  GError **error) G_GNUC_WARN_UNUSED_RESULT;
