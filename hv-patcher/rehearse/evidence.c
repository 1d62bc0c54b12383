/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/evidence.h"

#include <string.h>

#include "base/text.h"

#define MAX_NAME_BYTES 512U
#define MAX_VIOLATIONS 1000U

static void add_part(HvpReportFunction *function, const char *name, HvpGvaRange range)
{
	HvpReportPart part = { g_strdup(name), range, range.start };

	g_array_append_val(function->parts, part);
}

/* The function at @address and the parts that the compiler moved away: NAME.cold, NAME.cold.N. */
static bool find_parts(HvpTarget *target, HvpGva address, HvpReportFunction *found, GError **error)
{
	HvpModule *module = hvp_modules_find_address(target->modules, address);
	g_autofree char *cold = NULL;
	g_autoptr(GArray) ranges = NULL;
	const char *name;
	HvpGvaRange range;

	if (module == NULL ||
	    !hvp_modules_symbolize(target->modules, module, address, &name, &range) ||
	    range.start.value != address.value)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
				     "the module's symbols do not tell where it ends");
	add_part(found, name, range);
	cold = g_strconcat(name, ".cold", NULL);
	ranges = hvp_modules_functions_named(target->modules, module, cold);
	for (guint i = 0; i < ranges->len; i++)
		add_part(found, cold, g_array_index(ranges, HvpGvaRange, i));
	return true;
}

static HvpBlocks *read_blocks(HvpTarget *target, const GArray *parts, GError **error)
{
	HvpAddressSpace *space = hvp_kernel_get_space(target->kernel);
	g_autoptr(HvpBlocks) blocks = hvp_blocks_new();

	for (guint i = 0; i < parts->len; i++) {
		const HvpReportPart *part = &g_array_index(parts, HvpReportPart, i);
		guint64 size = hvp_gva_range_size(part->range);
		g_autofree guint8 *code = NULL;

		if (size > HVP_BLOCKS_MAX_BYTES) {
			hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s is longer than %u bytes",
				      part->name, HVP_BLOCKS_MAX_BYTES);
			return NULL;
		}
		code = g_malloc(size);
		if (!hvp_address_space_read(space, part->range.start, code, size, error) ||
		    !hvp_blocks_add(blocks, code, size, part->range.start, error))
			return NULL;
	}
	hvp_blocks_divide(blocks);
	return g_steal_pointer(&blocks);
}

static char *name_place(HvpTarget *target, HvpGva address)
{
	const char *module, *name;
	HvpGvaRange range;
	g_autofree char *text = NULL;

	if (!hvp_target_symbolize(target, address, &module, &name, &range))
		return NULL;
	text = g_strdup_printf("%s+0x%" G_GINT64_MODIFIER "x/0x%" G_GINT64_MODIFIER "x%s%s%s", name,
			       address.value - range.start.value, hvp_gva_range_size(range),
			       strcmp(module, "vmlinux") == 0 ? "" : " [",
			       strcmp(module, "vmlinux") == 0 ? "" : module,
			       strcmp(module, "vmlinux") == 0 ? "" : "]");
	return hvp_text_escape(text, HVP_TEXT_TERMINATED, MAX_NAME_BYTES);
}

/* What is called or jumped to outside of the function. */
static GPtrArray *annotate(HvpTarget *target, const HvpBlocks *blocks)
{
	GPtrArray *annotations = g_ptr_array_new_with_free_func(g_free);

	for (guint i = 0; i < blocks->instructions->len; i++) {
		const HvpInstruction *decoded =
			&g_array_index(blocks->instructions, HvpBlocksInstruction, i).decoded;
		bool leads = decoded->kind == HVP_INSTRUCTION_CALL ||
			     decoded->kind == HVP_INSTRUCTION_JUMP ||
			     decoded->kind == HVP_INSTRUCTION_BRANCH;

		g_ptr_array_add(annotations, leads ? name_place(target, decoded->target) : NULL);
	}
	return annotations;
}

static void find_first(HvpReportFunction *function, HvpTarget *target)
{
	g_autoptr(GError) reason = NULL;

	if (find_parts(target, function->new_address, function, &reason))
		function->blocks = read_blocks(target, function->parts, &reason);
	if (function->blocks != NULL)
		function->annotations = annotate(target, function->blocks);
	else
		function->why_unknown = g_strdup(reason->message);
}

/* The same code at another place: its parts come in the same order, and are as long. */
static void find_again(HvpReportFunction *function, HvpTarget *target)
{
	HvpReportFunction now = { .parts = g_array_new(FALSE, TRUE, sizeof(HvpReportPart)) };
	bool same = find_parts(target, function->new_address, &now, NULL) &&
		    now.parts->len == function->parts->len;

	for (guint i = 0; same && i < now.parts->len; i++)
		same = hvp_gva_range_size(g_array_index(now.parts, HvpReportPart, i).range) ==
		       hvp_gva_range_size(g_array_index(function->parts, HvpReportPart, i).range);
	for (guint i = 0; same && i < now.parts->len; i++)
		g_array_index(function->parts, HvpReportPart, i).range =
			g_array_index(now.parts, HvpReportPart, i).range;
	for (guint i = 0; i < now.parts->len; i++)
		g_free(g_array_index(now.parts, HvpReportPart, i).name);
	g_array_unref(now.parts);
	if (same)
		return;
	g_clear_pointer(&function->blocks, hvp_blocks_free);
	g_free(function->why_unknown);
	function->why_unknown = g_strdup("its code is not the same in each round");
}

bool hvp_evidence_find_code(HvpReport *report, HvpTarget *target, const HvpResult *result,
			    GError **error)
{
	if (!hvp_target_refresh_modules(target, error))
		return false;
	for (guint i = 0; i < result->functions->len; i++) {
		const HvpFunctionResult *found = g_ptr_array_index(result->functions, i);
		HvpReportFunction *function = hvp_report_function(report, found->object,
								  found->name, found->old_address);

		function->new_address = found->new_address;
		if (function->blocks == NULL && function->why_unknown == NULL)
			find_first(function, target);
		else if (function->blocks != NULL)
			find_again(function, target);
	}
	return true;
}

/* How often the instruction at @address ran since the switch. */
static bool read_calls(HvpPlugin *plugin, HvpGva address, HvpDeadline deadline, guint64 *ret_calls,
		       GError **error)
{
	HvpGvaRange first_byte = { address, hvp_gva_add(address, 1) };
	g_autoptr(GArray) counts = hvp_plugin_read_counts(plugin, first_byte, deadline, error);

	if (counts == NULL)
		return false;
	*ret_calls = 0;
	for (guint i = 0; i < counts->len; i++)
		*ret_calls += g_array_index(counts, HvpPluginCount, i).since;
	return true;
}

static bool take_part(HvpReportFunction *function, const HvpReportPart *part, HvpPlugin *plugin,
		      HvpDeadline deadline, GError **error)
{
	g_autoptr(GArray) counts = hvp_plugin_read_counts(plugin, part->range, deadline, error);

	if (counts == NULL)
		return false;
	for (guint i = 0; i < counts->len; i++) {
		const HvpPluginCount *count = &g_array_index(counts, HvpPluginCount, i);
		guint64 offset = count->pc.value - part->range.start.value;

		/* Where no instruction of ours begins, the code was changed meanwhile. */
		if (count->since > 0 &&
		    !hvp_blocks_count(function->blocks, hvp_gva_add(part->first, offset),
				      count->since))
			g_debug("%s+0x%" G_GINT64_MODIFIER "x ran, which is no instruction",
				part->name, offset);
	}
	return true;
}

bool hvp_evidence_take_patched(HvpReport *report, HvpPlugin *plugin, HvpDeadline deadline,
			       GError **error)
{
	for (guint i = 0; i < report->functions->len; i++) {
		HvpReportFunction *function = g_ptr_array_index(report->functions, i);
		guint64 redirected, calls;

		if (function->new_address.value == 0)
			continue;
		if (!read_calls(plugin, function->old_address, deadline, &redirected, error) ||
		    !read_calls(plugin, function->new_address, deadline, &calls, error))
			return false;
		function->redirected += redirected;
		function->new_calls += calls;
		for (guint j = 0; function->blocks != NULL && j < function->parts->len; j++)
			if (!take_part(function, &g_array_index(function->parts, HvpReportPart, j),
				       plugin, deadline, error))
				return false;
	}
	return true;
}

bool hvp_evidence_take_unpatched(HvpReport *report, HvpPlugin *plugin, HvpDeadline deadline,
				 GError **error)
{
	for (guint i = 0; i < report->functions->len; i++) {
		HvpReportFunction *function = g_ptr_array_index(report->functions, i);
		guint64 calls;

		if (!read_calls(plugin, function->old_address, deadline, &calls, error))
			return false;
		function->old_calls += calls;
	}
	return true;
}

static void add_violation(HvpReport *report, const HvpPluginViolation *found, HvpTarget *target,
			  guint round)
{
	HvpReportViolation *violation;

	if (report->violations->len >= MAX_VIOLATIONS)
		return;
	violation = g_new0(HvpReportViolation, 1);
	violation->round = round;
	violation->address = found->pc;
	violation->place = target ? name_place(target, found->pc) : NULL;
	violation->vcpu = found->vcpu;
	violation->usec = found->usec_since_switch;
	violation->count = found->count;
	g_ptr_array_add(report->violations, violation);
}

bool hvp_evidence_take_violations(HvpReport *report, HvpPlugin *plugin, HvpTarget *target,
				  guint round, guint64 *next, HvpDeadline deadline, GError **error)
{
	g_autoptr(GArray) found = NULL;
	guint64 first = *next;
	bool complete;

	found = hvp_plugin_read_violations(plugin, &report->violation_count, deadline, error);
	if (found == NULL || !hvp_plugin_is_complete(plugin, &complete, deadline, error))
		return false;
	for (guint i = 0; i < found->len; i++) {
		const HvpPluginViolation *violation = &g_array_index(found, HvpPluginViolation, i);

		if (violation->number < first)
			continue;
		add_violation(report, violation, target, round);
		*next = MAX(*next, violation->number + 1);
	}
	report->is_incomplete = report->is_incomplete || !complete;
	return true;
}
