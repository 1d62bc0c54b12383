/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/report.h"

#include <stdarg.h>
#include <string.h>

#include "base/text.h"

#define MAX_REASON_BYTES 1024U

static void part_clear(gpointer data)
{
	HvpReportPart *part = data;

	g_free(part->name);
}

static void function_free(gpointer data)
{
	HvpReportFunction *function = data;

	g_free(function->object);
	g_free(function->name);
	g_free(function->why_unknown);
	g_array_unref(function->parts);
	hvp_blocks_free(function->blocks);
	g_clear_pointer(&function->annotations, g_ptr_array_unref);
	g_free(function);
}

static void violation_free(gpointer data)
{
	HvpReportViolation *violation = data;

	g_free(violation->place);
	g_free(violation);
}

static void round_free(gpointer data)
{
	HvpReportRound *round = data;

	hvp_result_free(round->apply);
	hvp_result_free(round->revert);
	g_free(round->output);
	g_free(round);
}

HvpReport *hvp_report_new(const HvpPatch *patch, guint wanted_rounds)
{
	HvpReport *self = g_new0(HvpReport, 1);

	self->patch = g_strdup(patch->name);
	self->sha256 = g_strdup(patch->sha256);
	self->format = g_strdup(hvp_patch_format_name(patch->format));
	self->wanted_rounds = wanted_rounds;
	self->names_functions = patch->objects_known;
	self->wanted_functions = patch->function_count;
	self->status_before = HVP_REPORT_NOT_RUN;
	self->reasons = g_ptr_array_new_with_free_func(g_free);
	self->notes = g_ptr_array_new_with_free_func(g_free);
	self->functions = g_ptr_array_new_with_free_func(function_free);
	self->rounds = g_ptr_array_new_with_free_func(round_free);
	self->violations = g_ptr_array_new_with_free_func(violation_free);
	self->messages = hvp_messages_new(patch->name);
	return self;
}

void hvp_report_free(HvpReport *self)
{
	if (self == NULL)
		return;
	g_free(self->patch);
	g_free(self->sha256);
	g_free(self->format);
	g_free(self->kernel);
	g_free(self->qemu);
	g_ptr_array_unref(self->reasons);
	g_ptr_array_unref(self->notes);
	g_clear_error(&self->error);
	hvp_check_free(self->check);
	g_ptr_array_unref(self->functions);
	g_ptr_array_unref(self->rounds);
	g_ptr_array_unref(self->violations);
	hvp_messages_free(self->messages);
	g_free(self);
}

HvpReportFunction *hvp_report_function(HvpReport *self, const char *object, const char *name,
				       HvpGva old_address)
{
	HvpReportFunction *function;

	for (guint i = 0; i < self->functions->len; i++) {
		function = g_ptr_array_index(self->functions, i);
		if (function->old_address.value == old_address.value &&
		    strcmp(function->name, name) == 0 && strcmp(function->object, object) == 0)
			return function;
	}
	function = g_new0(HvpReportFunction, 1);
	function->object = g_strdup(object);
	function->name = g_strdup(name);
	function->old_address = old_address;
	function->parts = g_array_new(FALSE, TRUE, sizeof(HvpReportPart));
	g_array_set_clear_func(function->parts, part_clear);
	g_ptr_array_add(self->functions, function);
	return function;
}

HvpReportRound *hvp_report_add_round(HvpReport *self)
{
	HvpReportRound *round = g_new0(HvpReportRound, 1);

	round->status = round->status_after = HVP_REPORT_NOT_RUN;
	g_ptr_array_add(self->rounds, round);
	return round;
}

G_GNUC_PRINTF(2, 0)
static void add_text(GPtrArray *texts, const char *format, va_list arguments)
{
	g_autofree char *text = g_strdup_vprintf(format, arguments);

	g_ptr_array_add(texts, hvp_text_escape(text, HVP_TEXT_TERMINATED, MAX_REASON_BYTES));
}

void hvp_report_add_reason(HvpReport *self, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add_text(self->reasons, format, arguments);
	va_end(arguments);
}

void hvp_report_add_note(HvpReport *self, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add_text(self->notes, format, arguments);
	va_end(arguments);
}

char *hvp_report_place(const HvpReportFunction *function, HvpGva address)
{
	for (guint i = 0; i < function->parts->len; i++) {
		const HvpReportPart *part = &g_array_index(function->parts, HvpReportPart, i);
		guint64 size = hvp_gva_range_size(part->range);
		g_autofree char *name = NULL;

		if (address.value - part->first.value >= size)
			continue;
		name = hvp_text_escape(part->name, HVP_TEXT_TERMINATED, MAX_REASON_BYTES);
		return g_strdup_printf("%s+0x%" G_GINT64_MODIFIER "x", name,
				       address.value - part->first.value);
	}
	return g_strdup("?");
}

const GPtrArray *hvp_report_blockers(const HvpResult *result)
{
	return result->met->len > 0 ? result->met : result->blockers;
}

static bool is_applied(const HvpReportRound *round)
{
	return round->apply != NULL && round->apply->kind == HVP_RESULT_APPLIED;
}

static bool is_finished(const HvpReportRound *round)
{
	return is_applied(round) && round->status != HVP_REPORT_NOT_RUN && round->revert != NULL &&
	       round->revert->kind == HVP_RESULT_REVERTED &&
	       round->status_after != HVP_REPORT_NOT_RUN;
}

/* Whatever did not run needs a reason: what ended it early, or that it is missing. */
static void judge_completeness(HvpReport *self)
{
	if (self->error != NULL)
		return;
	if (self->check == NULL)
		hvp_report_add_reason(self, "the patch was not checked");
	if (self->status_before == HVP_REPORT_NOT_RUN)
		hvp_report_add_reason(self, "the workload did not run without the patch");
	for (guint i = 0; i < self->rounds->len; i++)
		if (!is_finished(g_ptr_array_index(self->rounds, i)))
			hvp_report_add_reason(self, "round %u was not finished", i + 1);
	if (self->status_before == 0 && self->rounds->len < self->wanted_rounds)
		hvp_report_add_reason(self, "only %u of %u rounds", self->rounds->len,
				      self->wanted_rounds);
}

/* How many functions were switched in the round with the fewest; G_MAXUINT: none came so far. */
static guint count_switched(const HvpReport *self)
{
	guint fewest = G_MAXUINT;

	for (guint i = 0; i < self->rounds->len; i++) {
		const HvpReportRound *round = g_ptr_array_index(self->rounds, i);

		if (is_applied(round))
			fewest = MIN(fewest, round->apply->functions->len);
	}
	return fewest;
}

static void judge_switched(HvpReport *self)
{
	guint switched = count_switched(self);

	if (switched == 0 && (!self->names_functions || self->wanted_functions > 0))
		hvp_report_add_reason(self, "no function of the patch was switched: are its "
					    "modules loaded (--module)?");
	else if (self->names_functions && switched < self->wanted_functions)
		hvp_report_add_note(
			self, "%u of %u functions were not switched: their modules are not loaded",
			self->wanted_functions - switched, self->wanted_functions);
}

static void judge_rounds(HvpReport *self)
{
	for (guint i = 0; i < self->rounds->len; i++) {
		const HvpReportRound *round = g_ptr_array_index(self->rounds, i);

		if (round->status > 0)
			hvp_report_add_reason(self,
					      "round %u: the workload fails with the patch (exit "
					      "status %d)",
					      i + 1, round->status);
		if (round->status_after > 0)
			hvp_report_add_reason(self,
					      "round %u: the workload fails after the revert (exit "
					      "status %d)",
					      i + 1, round->status_after);
	}
}

static void note_coverage(HvpReport *self)
{
	for (guint i = 0; i < self->functions->len; i++) {
		const HvpReportFunction *function = g_ptr_array_index(self->functions, i);

		if (function->blocks == NULL)
			hvp_report_add_note(self, "%s: its coverage is not known: %s",
					    function->name,
					    function->why_unknown ? function->why_unknown
								  : "it was not loaded");
		else if (hvp_blocks_executed(function->blocks) == 0)
			hvp_report_add_note(self,
					    "%s: the new code never ran: the workload does not "
					    "reach it",
					    function->name);
		else if (function->blocks->undecoded_bytes > 0)
			hvp_report_add_note(
				self, "%s: %" G_GSIZE_FORMAT " bytes of it are no instructions",
				function->name, function->blocks->undecoded_bytes);
	}
}

void hvp_report_judge(HvpReport *self)
{
	if (self->error != NULL)
		hvp_report_add_reason(self, "%s", self->error->message);
	if (self->status_before > 0)
		hvp_report_add_reason(self,
				      "the workload fails without the patch already (exit status "
				      "%d)",
				      self->status_before);
	if (self->violations->len > 0 || self->violation_count > 0)
		hvp_report_add_reason(self,
				      "code that was switched away was executed (%u places, "
				      "%" G_GUINT64_FORMAT " times)",
				      self->violations->len, self->violation_count);
	if (self->is_incomplete)
		hvp_report_add_reason(self, "the plugin could not watch all of the code");
	judge_rounds(self);
	judge_completeness(self);
	judge_switched(self);
	if (self->messages->against > 0)
		hvp_report_add_reason(self, "the kernel warned with the patch (%u messages)",
				      self->messages->against);
	if (self->is_console_full)
		hvp_report_add_reason(self, "the guest's console is full: messages may be missing");
	if (self->is_unsettled)
		hvp_report_add_reason(self, "the guest's console does not show what its kernel "
					    "says: messages may be missing");
	if (self->rounds->len > 0)
		note_coverage(self);
	self->passed = self->reasons->len == 0;
}

int hvp_report_exit_status(const HvpReport *self)
{
	int status = self->error ? hvp_error_exit_status(self->error) : 0;

	if (self->passed)
		return 0;
	return status >= 3 && status <= 5 ? status : HVP_REPORT_EXIT_FAILED;
}
