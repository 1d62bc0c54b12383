/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the author of a patch, or the operator, asks of kernel threads at the switch: one more
 * condition beside the proof, never a reason to skip a stack. Judged by guest memory alone.
 *
 * Kernel threads here are all that have no system call that ends: io_uring and vhost workers, too.
 */
#pragma once

#include "engine/prove.h"
#include "guest/kthread.h"
#include "patch/manifest.h"

typedef struct HvpKthreadRule HvpKthreadRule;

/*
 * The rule of @manifest (borrowed) in @target's guest. UNSUPPORTED: a standing function is not
 * there; INVALID_ARGUMENT: the policy has nothing to look at.
 */
HvpKthreadRule *hvp_kthread_rule_new(HvpTarget *target, const HvpManifest *manifest,
				     GError **error);
void hvp_kthread_rule_free(HvpKthreadRule *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpKthreadRule, hvp_kthread_rule_free)

/* Finds the standing functions anew, after the target's modules were read. */
bool hvp_kthread_rule_refresh(HvpKthreadRule *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Whether @task of @sweep breaks it. *@ret_standing: the function it is in, or NULL where it had
 * to be at rest; then *@ret_state is what it is. Allocates nothing; may be called while stopped.
 */
bool hvp_kthread_rule_is_broken_by(const HvpKthreadRule *self, const HvpSweep *sweep,
				   const HvpSweepTask *task, const char **ret_standing,
				   HvpKthreadState *ret_state);

/*
 * Whether any task that @sweep has seen breaks it; NULL: there is no rule. Likewise.
 */
bool hvp_kthread_rule_is_broken(const HvpKthreadRule *self, const HvpSweep *sweep);

/* Adds who breaks it, as HvpBlocker, until there are @max; NULL: there is no rule. */
void hvp_kthread_rule_add_blockers(const HvpKthreadRule *self, const HvpSweep *sweep,
				   GPtrArray *blockers, guint max);

/* Whether @name matches @pattern, with * for any characters and ? for one. */
bool hvp_kthread_rule_matches(const char *pattern, const char *name);
