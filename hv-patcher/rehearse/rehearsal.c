/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/rehearsal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/apply.h"
#include "engine/revert.h"
#include "rehearse/evidence.h"
#include "rehearse/initramfs.h"
#include "rehearse/throwaway.h"

#define PLUGIN "libhvpatch-plugin.so"
#define MAX_KERNEL_BYTES (256U << 20)
#define PLUGIN_USEC (30 * G_USEC_PER_SEC)
#define SETTLE_USEC (30 * G_USEC_PER_SEC)
#define WORD_BYTES 16U

typedef struct {
	const HvpRehearsalOrder *order;
	const HvpPatch *patch;
	HvpReport *report;
	HvpThrowaway *guest;
	HvpPlugin *plugin;
	gsize console_offset;
	guint64 next_violation;
	HvpReportRound *round; /* at hand */
	bool is_lost;	       /* the guest hangs in the workload, or is gone */
} Rehearsal;

static char *plugin_beside_ours(void)
{
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
	g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;

	return folder ? g_build_filename(folder, "..", "qemu-plugin", PLUGIN, NULL) : NULL;
}

/* QEMU would say of a missing one no more than that it cannot be opened. */
char *hvp_rehearsal_find_plugin(const char *path, GError **error)
{
	const char *named = path ? path : secure_getenv("HVPATCH_PLUGIN");
	g_autofree char *beside = plugin_beside_ours();

	if (named != NULL && access(named, R_OK) == 0)
		return g_canonicalize_filename(named, NULL);
	if (named != NULL)
		hvp_error_set(error, HVP_ERROR_NOT_FOUND, "there is no plugin %s", named);
	else if (beside != NULL && access(beside, R_OK) == 0)
		return g_canonicalize_filename(beside, NULL);
	else if (access(HVP_PLUGIN_FOLDER "/" PLUGIN, R_OK) == 0)
		return g_strdup(HVP_PLUGIN_FOLDER "/" PLUGIN);
	else
		hvp_error_set(error, HVP_ERROR_NOT_FOUND,
			      "the plugin " PLUGIN " is not installed; --plugin FILE names one");
	return NULL;
}

/* A word that nothing in the guest says by accident. */
static char *make_word(void)
{
	GString *word = g_string_new("hvpatch-");

	for (guint i = 0; i < WORD_BYTES / sizeof(guint32); i++)
		g_string_append_printf(word, "%08x", g_random_int());
	return g_string_free(word, FALSE);
}

static bool boot(Rehearsal *self, GError **error)
{
	const HvpRehearsalOrder *order = self->order;
	g_autofree char *plugin = hvp_rehearsal_find_plugin(order->plugin_path, error);
	g_autofree char *word = make_word();
	const HvpInitramfsOrder contents = { .initrd_path = order->initrd_path,
					     .workload_path = order->workload_path,
					     .module_paths = order->module_paths,
					     .word = word };
	g_autoptr(GBytes) kernel = NULL, initramfs = NULL;
	HvpThrowawayOrder job = { .qemu_path = order->qemu_path,
				  .plugin_path = plugin,
				  .kernel_path = order->kernel_path,
				  .word = word,
				  .vcpu_count = order->vcpu_count,
				  .memory_mib = order->memory_mib };

	if (plugin == NULL)
		return false;
	kernel = hvp_initramfs_read_file(order->kernel_path, "kernel", MAX_KERNEL_BYTES, error);
	initramfs = kernel ? hvp_initramfs_make(&contents, error) : NULL;
	if (initramfs == NULL)
		return false;
	job.kernel = kernel;
	job.initramfs = initramfs;
	hvp_messages_ignore(self->report->messages, word);
	hvp_options_progress(order->options, "booting the guest", 0, 0);
	self->guest = hvp_throwaway_start(&job, error);
	return self->guest != NULL &&
	       hvp_throwaway_wait_ready(self->guest, hvp_deadline_in(HVP_REHEARSAL_BOOT_USEC),
					error);
}

static HvpTarget *open_target(Rehearsal *self, GError **error)
{
	HvpTarget *target = hvp_target_open_qmp(hvp_throwaway_get_qmp_path(self->guest), error);

	if (target == NULL)
		return NULL;
	target->oracle_path = g_strdup(hvp_throwaway_get_plugin_socket(self->guest));
	target->keeps_watching = true;
	target->journal_folder = g_strdup(hvp_throwaway_get_folder(self->guest));
	return target;
}

static void take_messages(Rehearsal *self)
{
	gsize length_bytes;
	g_autofree char *text = hvp_throwaway_console(self->guest, &self->console_offset,
						      &length_bytes);

	hvp_messages_add(self->report->messages, text, length_bytes);
	self->report->is_console_full = hvp_throwaway_is_console_full(self->guest);
}

/* Runs the workload; *@ret_status. A guest that hangs or dies ends the rehearsal. */
static bool run_workload(Rehearsal *self, const char *step, int *ret_status, GError **error)
{
	gint64 limit = self->order->workload_usec;
	GError *reason = NULL;

	hvp_options_progress(self->order->options, step, 0, 0);
	if (hvp_throwaway_run(self->guest, hvp_deadline_in(limit), ret_status, &reason))
		return true;
	self->is_lost = true;
	if (g_error_matches(reason, HVP_ERROR, HVP_ERROR_TIMED_OUT)) {
		/* Not the code of a busy guest: trying again is no help. */
		g_clear_error(&reason);
		return hvp_error_set(error, HVP_ERROR_FAULT,
				     "the workload did not end within %" G_GINT64_FORMAT " s",
				     limit / G_USEC_PER_SEC);
	}
	g_propagate_error(error, reason);
	return false;
}

/* Until what the kernel has to say of all that was done is on the console. */
static bool settle(Rehearsal *self, GError **error)
{
	GError *reason = NULL;

	hvp_options_progress(self->order->options, "waiting for the kernel's messages", 0, 0);
	if (hvp_throwaway_settle(self->guest, hvp_deadline_in(SETTLE_USEC), &reason))
		return true;
	if (g_error_matches(reason, HVP_ERROR, HVP_ERROR_TIMED_OUT)) {
		self->report->is_unsettled = true;
		g_error_free(reason);
		return true;
	}
	g_propagate_error(error, reason);
	return false;
}

/* Without the patch: what the workload makes the kernel say anyway is learnt. */
static bool run_before(Rehearsal *self, GError **error)
{
	g_autofree char *text = NULL;
	gsize length_bytes, offset = 0;
	bool ok = run_workload(self, "running the workload without the patch",
			       &self->report->status_before, error) &&
		  settle(self, error);

	text = hvp_throwaway_console(self->guest, &offset, &length_bytes);
	hvp_messages_learn(self->report->messages, text, length_bytes);
	self->console_offset = offset;
	if (!ok)
		g_prefix_error(error, "before the patch was there: ");
	return ok;
}

static bool check(Rehearsal *self, GError **error)
{
	g_autoptr(HvpTarget) target = open_target(self, error);
	HvpReport *report = self->report;

	if (target == NULL)
		return false;
	report->kernel = g_strdup(hvp_kernel_get_release(target->kernel));
	report->qemu = g_strdup(hvp_machine_get_version(target->machine));
	report->vcpu_count = target->vcpu_count;
	report->check = hvp_check_run(target, self->patch, self->order->options, error);
	return report->check != NULL && hvp_check_verdict(report->check, error);
}

static bool run_apply(Rehearsal *self, GError **error)
{
	HvpReportRound *round = self->round;
	g_autoptr(HvpTarget) target = open_target(self, error);

	if (target == NULL)
		return false;
	round->apply = hvp_apply(target, self->patch, self->order->options, error);
	if (round->apply->kind != HVP_RESULT_APPLIED || (error != NULL && *error != NULL))
		return false;
	return hvp_evidence_find_code(self->report, target, round->apply, error);
}

static bool take_evidence(Rehearsal *self, HvpTarget *target, GError **error)
{
	return hvp_evidence_take_violations(self->report, self->plugin, target,
					    self->report->rounds->len, &self->next_violation,
					    hvp_deadline_in(PLUGIN_USEC), error);
}

static bool run_patched(Rehearsal *self, GError **error)
{
	HvpReportRound *round = self->round;
	gint64 started = g_get_monotonic_time();
	bool ok = run_workload(self, "running the workload with the patch", &round->status, error);

	round->workload_usec = g_get_monotonic_time() - started;
	round->output = hvp_throwaway_output(self->guest);
	return hvp_evidence_take_patched(self->report, self->plugin, hvp_deadline_in(PLUGIN_USEC),
					 ok ? error : NULL) &&
	       ok;
}

static bool run_revert(Rehearsal *self, GError **error)
{
	HvpReportRound *round = self->round;
	g_autoptr(HvpTarget) target = open_target(self, error);

	/* While the module is there its functions have names. */
	if (target == NULL || !take_evidence(self, target, error))
		return false;
	round->revert = hvp_revert(target, self->patch->name, self->patch->sha256,
				   self->order->options, error);
	return round->revert->kind == HVP_RESULT_REVERTED && (error == NULL || *error == NULL) &&
	       take_evidence(self, target, error);
}

static bool run_unpatched(Rehearsal *self, GError **error)
{
	return run_workload(self, "running the workload after the revert",
			    &self->round->status_after, error) &&
	       hvp_evidence_take_unpatched(self->report, self->plugin, hvp_deadline_in(PLUGIN_USEC),
					   error) &&
	       take_evidence(self, NULL, error);
}

static bool run_round(Rehearsal *self, GError **error)
{
	self->round = hvp_report_add_round(self->report);
	return run_apply(self, error) && run_patched(self, error) && run_revert(self, error) &&
	       run_unpatched(self, error);
}

static bool run_rounds(Rehearsal *self, GError **error)
{
	bool ok = true;

	for (guint i = 0; ok && i < self->order->rounds; i++) {
		ok = run_round(self, error);
		take_messages(self);
		if (!ok)
			g_prefix_error(error, "round %u: ", i + 1);
	}
	/* What was seen before it failed counts. */
	if (!ok)
		(void)take_evidence(self, NULL, NULL);
	return ok;
}

static void take_last_messages(Rehearsal *self)
{
	g_autoptr(GError) reason = NULL;

	/* That the guest is gone ends the rehearsal only where nothing else did. */
	if (!self->is_lost && !settle(self, &reason) && self->report->error == NULL) {
		g_prefix_error(&reason, "after the last step: ");
		self->report->error = g_steal_pointer(&reason);
	}
	take_messages(self);
}

static bool connect_plugin(Rehearsal *self, GError **error)
{
	self->plugin = hvp_plugin_connect(hvp_throwaway_get_plugin_socket(self->guest),
					  hvp_deadline_in(PLUGIN_USEC), error);
	return self->plugin != NULL;
}

HvpReport *hvp_rehearsal_run(const HvpRehearsalOrder *order, const HvpPatch *patch, GError **error)
{
	gint64 started = g_get_monotonic_time();
	g_autoptr(HvpReport) report = hvp_report_new(patch, order->rounds);
	Rehearsal self = { .order = order, .patch = patch, .report = report };
	bool ready = boot(&self, error) && connect_plugin(&self, error);

	if (ready && check(&self, &report->error) && run_before(&self, &report->error) &&
	    report->status_before == 0) {
		(void)run_rounds(&self, &report->error);
		take_last_messages(&self);
	}
	hvp_plugin_free(self.plugin);
	hvp_throwaway_free(self.guest);
	if (!ready)
		return NULL;
	hvp_report_judge(report);
	report->total_usec = g_get_monotonic_time() - started;
	return g_steal_pointer(&report);
}
