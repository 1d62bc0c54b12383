/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells the QEMU plugin of an emulated guest what is switched, so that it can prove by execution
 * what the stack proof argues: after the switch not one instruction of an old function runs, but
 * those in front of the jump and itself; after a revert none of a new one.
 *
 *   plan* -- watch (its own short stop) -- switch (in the stop of the switch, before anything is
 *   written; the guest stays as it is if the plugin does not answer) -- decide
 *
 * A killed tool leaves a switch undecided; recovering decides it as its journal says. Functions of
 * modules are watched only while the module is pinned: afterwards its owner may unload it, if not
 * target->keeps_watching.
 *
 * All functions take NULL, for a target without a plugin, and have nothing to do then.
 */
#pragma once

#include "engine/changes.h"
#include "keeper/keeper.h"
#include "vm/plugin.h"

typedef struct HvpOracle HvpOracle;

/* Connects to the plugin of target->oracle_path; NULL if that is NULL. Never fails at once. */
HvpOracle *hvp_oracle_new(HvpTarget *target);
void hvp_oracle_free(HvpOracle *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpOracle, hvp_oracle_free)

/* The first failure so far, connecting included. @boot tells this boot of the guest. */
bool hvp_oracle_check(HvpOracle *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void hvp_oracle_enter_boot(HvpOracle *self, guint64 boot);

/* Which code of a patch is not to run any more. */
typedef enum { HVP_ORACLE_OLD_CODE_GOES, HVP_ORACLE_NEW_CODE_GOES } HvpOracleWay;

/*
 * Adds the functions of @record, whose patch module's text holds @new_text, to the next switch. A
 * function that several records name goes the way that was told last.
 */
void hvp_oracle_plan(HvpOracle *self, const HvpRecord *record, HvpGvaRange new_text,
		     HvpOracleWay way);

/*
 * Has all that was planned watched. @changes is what the switch will write. Stops the guest for a
 * moment, so that QEMU translates those functions anew; *@longest_usec is raised to that time.
 */
bool hvp_oracle_watch(HvpOracle *self, HvpKeeper *keeper, const HvpChanges *changes,
		      gint64 *longest_usec, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* While the guest stands still, before the changes are written. Waits half a second at most. */
bool hvp_oracle_switch(HvpOracle *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What became of the last switch, if that is undecided. A failure is kept for check. */
void hvp_oracle_decide(HvpOracle *self, HvpPluginDecision decision);

/* Before @text is freed, or may be. A failure is kept for check. */
void hvp_oracle_withdraw(HvpOracle *self, HvpGvaRange text);
