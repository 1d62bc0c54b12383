/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/rehearse-show.h"

#include "cli/output.h"
#include "cli/show.h"

static void show_texts_json(JsonBuilder *json, const char *name, const GPtrArray *texts)
{
	hvp_json_begin_array(json, name);
	for (guint i = 0; i < texts->len; i++)
		json_builder_add_string_value(json, g_ptr_array_index(texts, i));
	json_builder_end_array(json);
}

static void show_items_json(JsonBuilder *json, const HvpCheck *check)
{
	hvp_json_begin_array(json, "items");
	for (guint i = 0; check != NULL && i < check->items->len; i++) {
		const HvpCheckItem *item = &g_array_index(check->items, HvpCheckItem, i);

		json_builder_begin_object(json);
		hvp_json_text(json, "item", item->item);
		hvp_json_bool(json, "ok", item->ok);
		hvp_json_bool(json, "accepted", item->accepted);
		hvp_json_text(json, "why", item->why ? item->why : "");
		json_builder_end_object(json);
	}
	json_builder_end_array(json);
}

static void show_status_json(JsonBuilder *json, const char *name, int status)
{
	if (status == HVP_REPORT_NOT_RUN)
		hvp_json_text(json, name, NULL);
	else
		hvp_json_integer(json, name, status);
}

static void show_result_json(JsonBuilder *json, const char *name, const HvpResult *result)
{
	json_builder_set_member_name(json, name);
	if (result == NULL) {
		json_builder_add_null_value(json);
		return;
	}
	json_builder_begin_object(json);
	hvp_json_text(json, "result", hvp_result_kind_name(result->kind));
	hvp_json_integer(json, "pause_usec", result->pause_usec);
	hvp_json_integer(json, "longest_pause_usec", result->longest_pause_usec);
	hvp_json_integer(json, "attempts", result->attempts);
	hvp_json_integer(json, "stops", result->stops);
	hvp_json_integer(json, "tasks", result->tasks);
	hvp_json_integer(json, "total_usec", result->total_usec);
	hvp_parts_add_blockers(json, hvp_report_blockers(result));
	json_builder_end_object(json);
}

static void show_output_json(JsonBuilder *json, const char *output)
{
	g_auto(GStrv) lines = g_strsplit(output ? output : "", "\n", -1);

	hvp_json_begin_array(json, "workload_output");
	/* Behind the last newline is nothing. */
	for (guint i = 0; lines[i] != NULL && lines[i + 1] != NULL; i++)
		json_builder_add_string_value(json, lines[i]);
	json_builder_end_array(json);
}

static void show_rounds_json(JsonBuilder *json, const GPtrArray *rounds)
{
	hvp_json_begin_array(json, "rounds");
	for (guint i = 0; i < rounds->len; i++) {
		const HvpReportRound *round = g_ptr_array_index(rounds, i);

		json_builder_begin_object(json);
		hvp_json_integer(json, "round", i + 1);
		show_result_json(json, "apply", round->apply);
		show_status_json(json, "workload_status", round->status);
		hvp_json_integer(json, "workload_usec", round->workload_usec);
		show_output_json(json, round->output);
		show_result_json(json, "revert", round->revert);
		show_status_json(json, "workload_status_after", round->status_after);
		json_builder_end_object(json);
	}
	json_builder_end_array(json);
}

/* Where the code that never ran begins, as an offset into the new function or its .cold part. */
static void show_never_run_json(JsonBuilder *json, const HvpReportFunction *function)
{
	const HvpBlocks *blocks = function->blocks;

	hvp_json_begin_array(json, "never_run");
	for (guint i = 0; i < blocks->blocks->len; i++) {
		const HvpBlocksBlock *block = &g_array_index(blocks->blocks, HvpBlocksBlock, i);
		const HvpBlocksInstruction *first = &g_array_index(
			blocks->instructions, HvpBlocksInstruction, block->first);
		g_autofree char *place = NULL;

		if (block->is_padding || hvp_blocks_ran(blocks, block))
			continue;
		place = hvp_report_place(function, first->address);
		json_builder_add_string_value(json, place);
	}
	json_builder_end_array(json);
}

static void show_coverage_json(JsonBuilder *json, const HvpReportFunction *function)
{
	json_builder_set_member_name(json, "coverage");
	if (function->blocks == NULL) {
		json_builder_add_null_value(json);
		return;
	}
	json_builder_begin_object(json);
	hvp_json_integer(json, "blocks", hvp_blocks_total(function->blocks));
	hvp_json_integer(json, "executed", hvp_blocks_executed(function->blocks));
	show_never_run_json(json, function);
	json_builder_end_object(json);
}

static void show_functions_json(JsonBuilder *json, const GPtrArray *functions)
{
	hvp_json_begin_array(json, "functions");
	for (guint i = 0; i < functions->len; i++) {
		const HvpReportFunction *function = g_ptr_array_index(functions, i);

		json_builder_begin_object(json);
		hvp_json_text(json, "object", function->object);
		hvp_json_text(json, "name", function->name);
		hvp_json_address(json, "old", function->old_address);
		hvp_json_address(json, "new", function->new_address);
		hvp_json_integer(json, "old_calls", (gint64)function->old_calls);
		hvp_json_integer(json, "redirected_calls", (gint64)function->redirected);
		hvp_json_integer(json, "new_calls", (gint64)function->new_calls);
		show_coverage_json(json, function);
		json_builder_end_object(json);
	}
	json_builder_end_array(json);
}

static void show_violations_json(JsonBuilder *json, const GPtrArray *violations)
{
	hvp_json_begin_array(json, "violations");
	for (guint i = 0; i < violations->len; i++) {
		const HvpReportViolation *violation = g_ptr_array_index(violations, i);

		json_builder_begin_object(json);
		hvp_json_integer(json, "round", violation->round);
		hvp_json_address(json, "address", violation->address);
		hvp_json_text(json, "place", violation->place);
		hvp_json_integer(json, "vcpu", violation->vcpu);
		hvp_json_integer(json, "usec_since_switch", (gint64)violation->usec);
		hvp_json_integer(json, "count", (gint64)violation->count);
		json_builder_end_object(json);
	}
	json_builder_end_array(json);
}

static void show_messages_json(JsonBuilder *json, const HvpMessages *messages)
{
	hvp_json_begin_array(json, "messages");
	for (guint i = 0; i < messages->messages->len; i++) {
		const HvpMessage *message = g_ptr_array_index(messages->messages, i);

		json_builder_begin_object(json);
		hvp_json_integer(json, "level", message->level);
		hvp_json_text(json, "kind", hvp_messages_kind_name(message->kind));
		hvp_json_text(json, "text", message->text);
		json_builder_end_object(json);
	}
	json_builder_end_array(json);
	hvp_json_integer(json, "messages_dropped", messages->dropped);
}

void hvp_cli_rehearse_show_json(const HvpReport *report)
{
	JsonBuilder *json = hvp_json_new();

	hvp_json_text(json, "operation", "rehearse");
	hvp_json_text(json, "verdict", report->passed ? "pass" : "fail");
	hvp_json_error(json, report->error);
	show_texts_json(json, "reasons", report->reasons);
	show_texts_json(json, "notes", report->notes);
	hvp_json_text(json, "kernel", report->kernel);
	hvp_json_text(json, "qemu", report->qemu);
	hvp_json_integer(json, "vcpus", report->vcpu_count);
	hvp_json_text(json, "patch", report->patch);
	hvp_json_text(json, "sha256", report->sha256);
	hvp_json_text(json, "format", report->format);
	hvp_json_bool(json, "applicable", report->check && report->check->applicable);
	show_items_json(json, report->check);
	show_status_json(json, "workload_status_before", report->status_before);
	hvp_json_integer(json, "wanted_rounds", report->wanted_rounds);
	show_rounds_json(json, report->rounds);
	show_functions_json(json, report->functions);
	show_violations_json(json, report->violations);
	show_messages_json(json, report->messages);
	hvp_json_integer(json, "total_usec", report->total_usec);
	hvp_cli_json_print(json);
}

/* What does not hold, or was accepted: all else of the check says only "ok". */
static void show_items_table(const HvpCheck *check)
{
	struct libscols_table *table = hvp_cli_show_items_table();

	for (guint i = 0; check != NULL && i < check->items->len; i++) {
		const HvpCheckItem *item = &g_array_index(check->items, HvpCheckItem, i);

		if (!item->ok)
			hvp_cli_show_item_line(table, item->item, false, item->accepted, item->why);
	}
	hvp_cli_table_print(table);
}

static char *status_text(int status)
{
	return status == HVP_REPORT_NOT_RUN ? g_strdup("no end") : g_strdup_printf("%d", status);
}

static void add_round(struct libscols_table *table, guint number, const HvpReportRound *round)
{
	const HvpResult *const results[] = { round->apply, round->revert };
	const int statuses[] = { round->status, round->status_after };
	static const char *const operations[] = { "apply", "revert" };

	for (guint i = 0; i < G_N_ELEMENTS(results) && results[i] != NULL; i++) {
		g_autofree char *count = g_strdup_printf("%u", number);
		g_autofree char *pause = g_strdup_printf("%" G_GINT64_FORMAT,
							 results[i]->pause_usec);
		g_autofree char *attempts = g_strdup_printf("%u", results[i]->attempts);
		g_autofree char *met = g_strdup_printf("%u", hvp_report_blockers(results[i])->len);
		g_autofree char *status = status_text(statuses[i]);

		hvp_cli_table_add(table, count, operations[i],
				  hvp_result_kind_name(results[i]->kind), pause, attempts, met,
				  status, NULL);
	}
}

static void show_rounds_table(const HvpReport *report)
{
	static const HvpCliColumn columns[] = {
		{ "ROUND", SCOLS_FL_RIGHT },
		{ "STEP", 0 },
		{ "RESULT", 0 },
		{ "PAUSE-US", SCOLS_FL_RIGHT },
		{ "ATTEMPTS", SCOLS_FL_RIGHT },
		{ "BLOCKERS", SCOLS_FL_RIGHT },
		{ "WORKLOAD", SCOLS_FL_RIGHT },
		{ NULL },
	};
	struct libscols_table *table = hvp_cli_table_new(columns);

	for (guint i = 0; i < report->rounds->len; i++)
		add_round(table, i + 1, g_ptr_array_index(report->rounds, i));
	hvp_cli_table_print(table);
	for (guint i = 0; i < report->rounds->len; i++) {
		const HvpReportRound *round = g_ptr_array_index(report->rounds, i);

		if (round->apply != NULL)
			hvp_cli_show_blockers_table(hvp_report_blockers(round->apply));
		if (round->revert != NULL)
			hvp_cli_show_blockers_table(hvp_report_blockers(round->revert));
	}
}

static char *coverage_text(const HvpBlocks *blocks)
{
	if (blocks == NULL)
		return g_strdup("unknown");
	return g_strdup_printf("%u of %u blocks", hvp_blocks_executed(blocks),
			       hvp_blocks_total(blocks));
}

static void show_functions_table(const GPtrArray *functions)
{
	static const HvpCliColumn columns[] = {
		{ "OBJECT", 0 },
		{ "FUNCTION", 0 },
		{ "OLD-CALLS", SCOLS_FL_RIGHT },
		{ "REDIRECTED", SCOLS_FL_RIGHT },
		{ "NEW-CALLS", SCOLS_FL_RIGHT },
		{ "COVERAGE", 0 },
		{ NULL },
	};
	struct libscols_table *table = hvp_cli_table_new(columns);

	for (guint i = 0; i < functions->len; i++) {
		const HvpReportFunction *function = g_ptr_array_index(functions, i);
		g_autofree char *old = g_strdup_printf("%" G_GUINT64_FORMAT, function->old_calls);
		g_autofree char *redirected = g_strdup_printf("%" G_GUINT64_FORMAT,
							      function->redirected);
		g_autofree char *new = g_strdup_printf("%" G_GUINT64_FORMAT, function->new_calls);
		g_autofree char *coverage = coverage_text(function->blocks);

		hvp_cli_table_add(table, function->object, function->name, old, redirected, new,
				  coverage, NULL);
	}
	hvp_cli_table_print(table);
}

static void show_violations_table(const GPtrArray *violations)
{
	static const HvpCliColumn columns[] = {
		{ "ROUND", SCOLS_FL_RIGHT },
		{ "ADDRESS", 0 },
		{ "INSTRUCTION OF", 0 },
		{ "VCPU", SCOLS_FL_RIGHT },
		{ "US-AFTER-SWITCH", SCOLS_FL_RIGHT },
		{ "TIMES", SCOLS_FL_RIGHT },
		{ NULL },
	};
	struct libscols_table *table = hvp_cli_table_new(columns);

	for (guint i = 0; i < violations->len; i++) {
		const HvpReportViolation *violation = g_ptr_array_index(violations, i);
		g_autofree char *round = g_strdup_printf("%u", violation->round);
		g_autofree char *address = hvp_cli_output_address(violation->address);
		g_autofree char *vcpu = g_strdup_printf("%u", violation->vcpu);
		g_autofree char *usec = g_strdup_printf("%" G_GUINT64_FORMAT, violation->usec);
		g_autofree char *count = g_strdup_printf("%" G_GUINT64_FORMAT, violation->count);

		hvp_cli_table_add(table, round, address, violation->place, vcpu, usec, count, NULL);
	}
	hvp_cli_table_print(table);
}

static void show_messages_table(const HvpMessages *messages)
{
	for (guint i = 0; i < messages->messages->len; i++) {
		const HvpMessage *message = g_ptr_array_index(messages->messages, i);

		printf("kernel (%s): %s\n", hvp_messages_kind_name(message->kind), message->text);
	}
	if (messages->dropped > 0)
		printf("and %u messages more\n", messages->dropped);
}

void hvp_cli_rehearse_show_table(const HvpReport *report)
{
	g_autofree char *name = hvp_cli_output_escape(report->patch);

	show_items_table(report->check);
	show_rounds_table(report);
	show_functions_table(report->functions);
	show_violations_table(report->violations);
	show_messages_table(report->messages);
	for (guint i = 0; i < report->notes->len; i++)
		printf("note: %s\n", (const char *)g_ptr_array_index(report->notes, i));
	for (guint i = 0; i < report->reasons->len; i++)
		printf("failed: %s\n", (const char *)g_ptr_array_index(report->reasons, i));
	printf("%s: %s on %s, %u round%s, %.1f s\n", report->passed ? "pass" : "fail", name,
	       report->kernel ? report->kernel : "an unknown kernel", report->rounds->len,
	       report->rounds->len == 1 ? "" : "s", (double)report->total_usec / G_USEC_PER_SEC);
}
