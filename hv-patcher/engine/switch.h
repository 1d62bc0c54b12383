/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The switch: sweep while the guest runs; stop; make the sweep true of this moment;
 * prove that nobody stands in the forbidden text; write all changes at once; verify;
 * resume. Where somebody is in the way, resume at once, back off or wait for the agent's hint, try
 * again until the deadline. Nothing is ever forced.
 */
#pragma once

#include "engine/options.h"
#include "engine/result.h"
#include "engine/changes.h"
#include "engine/kthread-rule.h"
#include "engine/oracle.h"

/* What is to be switched, and what must not be stood in. All borrowed. */
typedef struct {
	HvpTarget *target;
	HvpKeeper *keeper;
	const HvpOptions *options;
	const HvpForbidden *forbidden;
	gsize forbidden_count;
	const HvpChanges *changes;
	HvpOracle *oracle;    /* may be NULL; it knows what is to be switched */
	HvpKthreadRule *rule; /* may be NULL */
	bool (*check_stopped)(void *user_data,
			      GError **error); /* asked while stopped; may be NULL */
	void *user_data;
} HvpSwitch;

/*
 * Switches. Fills in tasks, attempts, times and, on BUSY, blockers of @result. BUSY: the
 * deadline passed, nothing is changed; CONFLICT: the text is not as it was planned on; errors of
 * the keeper; TAMPERED: the guest's agent makes false claims.
 */
bool hvp_switch_run(const HvpSwitch *self, HvpDeadline deadline, HvpResult *result,
		    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Looks once, without switching: who stands in the forbidden text now. Stops the guest for a
 * moment when it runs and @keeper is given; else judges by @registers (a dump, a paused VM). The
 * sweep is the caller's.
 */
HvpSweep *hvp_switch_look(HvpTarget *target, HvpKeeper *keeper, GError **error);
