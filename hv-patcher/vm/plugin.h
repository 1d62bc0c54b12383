/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The QEMU plugin's client: which ranges of an emulated guest are watched, when a switch was made
 * and what became of it, how often instructions executed, and whether one did that must not.
 * wire/plugin-wire.h has the protocol, qemu-plugin/ the other end.
 *
 * A range that QEMU has translated already is watched only from its next translation on: its
 * bytes have to be written once more, through the gdbstub, behind hvp_plugin_watch().
 *
 * Errors of all functions: TIMED_OUT, VM_GONE (the plugin closed the connection), BAD_DATA (it
 * does not speak the protocol); after these the connection is of no use, and each call says so.
 */
#pragma once

#include "base/address.h"
#include "base/deadline.h"
#include "base/error.h"

typedef struct HvpPlugin HvpPlugin;

typedef struct {
	HvpGvaRange range;
	HvpGva allowed_end; /* from here on nothing may execute while it is forbidden */
	bool forbidden;
} HvpPluginChange;

typedef enum { HVP_PLUGIN_CANCEL, HVP_PLUGIN_CONFIRM } HvpPluginDecision;

/* How often the instruction at @pc began to execute, before the last switch and since. */
typedef struct {
	HvpGva pc;
	guint64 before;
	guint64 since;
} HvpPluginCount;

typedef enum {
	HVP_PLUGIN_FINAL,
	HVP_PLUGIN_IF_CONFIRMED, /* it is a violation if the last switch is confirmed */
	HVP_PLUGIN_IF_CANCELLED,
} HvpPluginVerdict;

typedef struct {
	guint64 number;
	HvpGva pc;
	guint64 usec_since_switch;
	guint64 count;
	guint32 epoch;
	guint32 vcpu;
	HvpPluginVerdict verdict;
} HvpPluginViolation;

/*
 * Connects to the plugin that listens at @path. NOT_FOUND, PERMISSION, INVALID_ARGUMENT (no
 * path of a socket), UNSUPPORTED (another version of the protocol).
 */
HvpPlugin *hvp_plugin_connect(const char *path, HvpDeadline deadline, GError **error);
void hvp_plugin_free(HvpPlugin *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpPlugin, hvp_plugin_free)

guint hvp_plugin_get_vcpu_count(const HvpPlugin *self);

/*
 * What is watched from now on belongs to the boot of the guest that has this number: what was
 * told of another one is forgotten.
 */
bool hvp_plugin_enter_boot(HvpPlugin *self, guint64 boot, HvpDeadline deadline,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Watches @ranges as well; known ones stay as they are, others that they overlap are withdrawn.
 * UNSUPPORTED: no room, or they overlap one another.
 */
bool hvp_plugin_watch(HvpPlugin *self, const HvpGvaRange *ranges, gsize count, HvpDeadline deadline,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * From now on all @changes are so, undecided. To be called while the VM stands still. CONFLICT:
 * an earlier one is undecided, or a range is not watched; then nothing is changed.
 */
bool hvp_plugin_switch(HvpPlugin *self, const HvpPluginChange *changes, gsize count,
		       HvpDeadline deadline, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What became of the last switch; nothing happens where that is decided. */
bool hvp_plugin_decide(HvpPlugin *self, HvpPluginDecision decision, HvpDeadline deadline,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Watches nothing of @ranges any more. */
bool hvp_plugin_withdraw(HvpPlugin *self, const HvpGvaRange *ranges, gsize count,
			 HvpDeadline deadline, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Counts of the instructions of @range (1 MiB at most) that were translated, in order:
 * HvpPluginCount, the caller's. Those of all vCPUs, or of one.
 */
GArray *hvp_plugin_read_counts(HvpPlugin *self, HvpGvaRange range, HvpDeadline deadline,
			       GError **error);
GArray *hvp_plugin_read_vcpu_counts(HvpPlugin *self, HvpGvaRange range, guint vcpu_index,
				    HvpDeadline deadline, GError **error);

/*
 * All that are kept (HvpPluginViolation), the caller's. *@ret_count is how many executions were
 * forbidden beyond doubt, also those that are not kept.
 */
GArray *hvp_plugin_read_violations(HvpPlugin *self, guint64 *ret_count, HvpDeadline deadline,
				   GError **error);

/* Whether all that was translated of the ranges is counted; else memory was short. */
bool hvp_plugin_is_complete(HvpPlugin *self, bool *ret_complete, HvpDeadline deadline,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;
