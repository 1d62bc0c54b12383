/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/remote-show.h"

#include <stdio.h>

#include "cli/answer.h"
#include "cli/result.h"
#include "cli/show.h"
#include "engine/record.h"

/* --- documents into what tables are made of --- */

static HvpResultKind read_kind(const char *name)
{
	for (int kind = 0; kind <= HVP_RESULT_ROLLED_BACK; kind++)
		if (g_strcmp0(name, hvp_result_kind_name((HvpResultKind)kind)) == 0)
			return (HvpResultKind)kind;
	return HVP_RESULT_FAILED;
}

static HvpBlocker *read_blocker(JsonObject *document)
{
	const char *reason = hvp_answer_text(document, "reason");
	JsonArray *stack = hvp_answer_array(document, "stack");
	HvpBlocker *blocker = g_new0(HvpBlocker, 1);

	blocker->pid = (gint32)hvp_answer_integer(document, "pid");
	blocker->comm = g_strdup(hvp_answer_text(document, "comm"));
	blocker->is_kthread = hvp_answer_bool(document, "kthread");
	blocker->function = g_strdup(hvp_answer_text(document, "function"));
	blocker->reason = g_strcmp0(reason, "ACTIVE") == 0   ? HVP_BLOCKER_ACTIVE
			  : g_strcmp0(reason, "POLICY") == 0 ? HVP_BLOCKER_POLICY
							     : HVP_BLOCKER_UNRELIABLE;
	blocker->stack = g_ptr_array_new_with_free_func(g_free);
	for (guint i = 0; stack != NULL && i < json_array_get_length(stack); i++)
		g_ptr_array_add(blocker->stack, g_strdup(hvp_answer_text_at(stack, i)));
	return blocker;
}

static void read_pause(JsonObject *document, HvpPauseTimes *pause)
{
	pause->stop_usec = hvp_answer_integer(document, "stop_usec");
	pause->registers_usec = hvp_answer_integer(document, "registers_usec");
	pause->sweep_usec = hvp_answer_integer(document, "sweep_usec");
	pause->rewalk_usec = hvp_answer_integer(document, "rewalk_usec");
	pause->switch_usec = hvp_answer_integer(document, "switch_usec");
	pause->resume_usec = hvp_answer_integer(document, "resume_usec");
}

static void read_functions(JsonArray *functions, HvpResult *result)
{
	for (guint i = 0; functions != NULL && i < json_array_get_length(functions); i++) {
		JsonObject *function = hvp_answer_object_at(functions, i);

		hvp_result_add_function(
			result, hvp_answer_text(function, "object"),
			hvp_answer_text(function, "name"), hvp_answer_address(function, "old"),
			hvp_answer_address(function, "new"), hvp_answer_address(function, "site"));
	}
}

static HvpResult *read_result(JsonObject *document)
{
	JsonArray *blockers = hvp_answer_array(document, "blockers");
	HvpResult *result = hvp_result_new();

	result->kind = read_kind(hvp_answer_text(document, "result"));
	/* Else it is the error's. */
	if (hvp_answer_text(document, "code") == NULL)
		result->message = g_strdup(hvp_answer_text(document, "message"));
	result->patch = g_strdup(hvp_answer_text(document, "patch"));
	result->sha256 = g_strdup(hvp_answer_text(document, "sha256"));
	result->tasks = (guint)hvp_answer_integer(document, "tasks");
	result->rechecked = (guint)hvp_answer_integer(document, "rechecked");
	result->attempts = (guint)hvp_answer_integer(document, "attempts");
	result->stops = (guint)hvp_answer_integer(document, "stops");
	result->pause_usec = hvp_answer_integer(document, "pause_usec");
	/* That of the switch is the one that is told. */
	result->longest_pause_usec = result->pause_usec;
	result->total_usec = hvp_answer_integer(document, "total_usec");
	read_pause(hvp_answer_object(document, "pause"), &result->pause);
	read_functions(hvp_answer_array(document, "functions"), result);
	for (guint i = 0; blockers != NULL && i < json_array_get_length(blockers); i++)
		g_ptr_array_add(result->blockers, read_blocker(hvp_answer_object_at(blockers, i)));
	return result;
}

/* What a document of this program says that failed; NULL: nothing. */
static GError *read_error(JsonObject *document)
{
	const char *code = hvp_answer_text(document, "code");
	const char *message = hvp_answer_text(document, "message");
	GError *error = NULL;

	if (code != NULL)
		hvp_error_set(&error, hvp_answer_code(code), "%s", message ? message : "");
	return error;
}

/* --- tables --- */

static void show_items(JsonArray *items)
{
	struct libscols_table *table = hvp_cli_show_items_table();

	for (guint i = 0; items != NULL && i < json_array_get_length(items); i++) {
		JsonObject *item = hvp_answer_object_at(items, i);

		hvp_cli_show_item_line(
			table, hvp_answer_text(item, "item"), hvp_answer_bool(item, "ok"),
			hvp_answer_bool(item, "accepted"), hvp_answer_text(item, "why"));
	}
	hvp_cli_table_print(table);
}

static void show_check_functions(JsonArray *functions)
{
	struct libscols_table *table = hvp_cli_show_targets_table();

	for (guint i = 0; functions != NULL && i < json_array_get_length(functions); i++) {
		JsonObject *function = hvp_answer_object_at(functions, i);

		hvp_cli_table_add(table, hvp_answer_text(function, "object"),
				  hvp_answer_text(function, "name"),
				  hvp_answer_text(function, "old"),
				  hvp_answer_text(function, "site"), NULL);
	}
	hvp_cli_table_print(table);
}

static void show_check(JsonObject *document, const HvpPatch *patch, const GError *verdict)
{
	JsonArray *functions = hvp_answer_array(document, "functions");

	show_items(hvp_answer_array(document, "items"));
	if (functions != NULL && json_array_get_length(functions) > 0)
		printf("\n");
	show_check_functions(functions);
	if (verdict != NULL)
		hvp_cli_output_error_line(verdict);
	else
		printf("\n%s %s\n", patch->name,
		       hvp_answer_bool(document, "already_applied") ? "is applied already"
								    : "can be applied");
}

static void show_recover(JsonObject *document)
{
	const char *done = hvp_answer_text(document, "done");

	printf("%s\n", done != NULL && done[0] != 0 ? done : "nothing to recover");
}

static char *join_objects(JsonObject *patch)
{
	JsonArray *objects = hvp_answer_array(patch, "objects");
	GString *text = g_string_new(NULL);

	for (guint i = 0; objects != NULL && i < json_array_get_length(objects); i++) {
		JsonObject *object = hvp_answer_object_at(objects, i);

		g_string_append_printf(text, "%s%s: %s", i > 0 ? ", " : "",
				       hvp_answer_text(object, "object"),
				       hvp_answer_text(object, "covered"));
	}
	return g_string_free(text, FALSE);
}

static char *join_names(JsonObject *patch)
{
	JsonArray *functions = hvp_answer_array(patch, "functions");
	GString *text = g_string_new(NULL);

	for (guint i = 0; functions != NULL && i < json_array_get_length(functions); i++)
		g_string_append_printf(text, "%s%s", i > 0 ? ", " : "",
				       hvp_answer_text(hvp_answer_object_at(functions, i), "name"));
	return g_string_free(text, FALSE);
}

static void add_patch(struct libscols_table *table, JsonObject *patch)
{
	const char *why = hvp_answer_text(patch, "why");
	bool is_explained = why != NULL && why[0] != 0;
	g_autofree char *state = g_strdup_printf("%s%s%s", hvp_answer_text(patch, "state"),
						 is_explained ? ": " : "", is_explained ? why : "");
	g_autofree char *objects = join_objects(patch);
	g_autofree char *names = join_names(patch);

	hvp_cli_table_add(table, hvp_answer_text(patch, "name"),
			  hvp_answer_text(patch, "applied_at"),
			  hvp_answer_bool(patch, "verified") ? "yes" : "no", state, objects, names,
			  hvp_answer_text(patch, "sha256"), NULL);
}

static void show_patches(JsonArray *patches)
{
	struct libscols_table *table = hvp_cli_show_patches_table();

	if (json_array_get_length(patches) == 0)
		printf("no patch is applied\n");
	for (guint i = 0; i < json_array_get_length(patches); i++)
		add_patch(table, hvp_answer_object_at(patches, i));
	hvp_cli_table_print(table);
}

/* --- commands --- */

static bool has_result_shape(const HvpRemoteRequest *request)
{
	return g_str_equal(request->verb, "apply") || g_str_equal(request->verb, "revert");
}

static void show_failure(HvpCli *cli, const HvpRemoteRequest *request, const GError *error)
{
	if (has_result_shape(request))
		hvp_cli_result_show(cli, request->verb, NULL, NULL, error);
	else
		cli->exit_status = hvp_cli_output_fail(cli, error);
}

static void show_table(HvpCli *cli, const HvpRemoteRequest *request, JsonObject *document,
		       const GError *error)
{
	g_autoptr(HvpResult) result = NULL;

	if (has_result_shape(request)) {
		result = read_result(document);
		hvp_cli_result_show(cli, request->verb, NULL, result, error);
	} else if (hvp_answer_array(document, "items") != NULL) {
		show_check(document, request->patch, error);
	} else if (error != NULL) {
		hvp_cli_output_error_line(error);
	} else {
		show_recover(document);
	}
}

/* As the user named it, where the operation did not get as far as to find it out. */
static void restore_name(const HvpCli *cli, JsonObject *document)
{
	if (json_object_has_member(document, "domain") &&
	    hvp_answer_text(document, "kernel") == NULL)
		json_object_set_string_member(document, "domain", cli->domain);
}

static void show_result(HvpCli *cli, const HvpRemoteRequest *request, JsonNode *result)
{
	JsonObject *document = json_node_get_object(result);
	g_autoptr(GError) error = read_error(document);

	cli->exit_status = error ? hvp_error_exit_status(error) : 0;
	restore_name(cli, document);
	if (cli->output == HVP_CLI_TABLE)
		show_table(cli, request, document, error);
	else
		hvp_cli_json_print_node(json_node_ref(result));
}

static void show_operation(HvpCli *cli, const HvpRemoteRequest *request, JsonNode *operation)
{
	JsonObject *object = json_node_get_object(operation);
	JsonNode *result = json_object_get_member(object, "result");
	g_autoptr(GError) error = NULL;

	if (result != NULL && JSON_NODE_HOLDS_OBJECT(result)) {
		show_result(cli, request, result);
		return;
	}
	hvp_answer_fail(hvp_answer_object(object, "error"), &error);
	show_failure(cli, request, error);
}

bool hvp_remote_show_run(HvpCli *cli, const HvpRemoteRequest *request)
{
	g_autoptr(HvpRemote) remote = NULL;
	g_autoptr(JsonNode) operation = NULL;
	g_autoptr(GError) error = NULL;
	bool done;

	if (!hvp_remote_takes(request->options->manifest))
		return false;
	done = hvp_remote_open(cli, &remote, &error);
	if (done && remote == NULL)
		return false;
	done = done && hvp_remote_run(remote, request, &operation, &error);
	hvp_cli_progress_end(request->progress);
	if (done)
		show_operation(cli, request, operation);
	else
		show_failure(cli, request, error);
	return true;
}

/* As status has it: of each patch all but what the daemon knows beside. */
static JsonNode *make_status(JsonArray *patches)
{
	JsonNode *root = json_node_new(JSON_NODE_OBJECT);
	JsonObject *document = json_object_new();

	for (guint i = 0; i < json_array_get_length(patches); i++) {
		JsonObject *patch = hvp_answer_object_at(patches, i);

		if (patch != NULL)
			json_object_remove_member(patch, "cves");
	}
	json_object_set_int_member(document, "version", 1);
	json_object_set_array_member(document, "patches", json_array_ref(patches));
	json_node_take_object(root, document);
	return root;
}

static int exit_status_of(JsonArray *patches)
{
	g_autoptr(GError) tampered = g_error_new_literal(HVP_ERROR, HVP_ERROR_TAMPERED, "");

	for (guint i = 0; i < json_array_get_length(patches); i++)
		if (g_strcmp0(hvp_answer_text(hvp_answer_object_at(patches, i), "state"),
			      hvp_record_state_name(HVP_RECORD_TAMPERED)) == 0)
			return hvp_error_exit_status(tampered);
	return 0;
}

static void show_status(HvpCli *cli, JsonArray *patches)
{
	g_autoptr(JsonNode) status = make_status(patches);

	if (cli->output == HVP_CLI_JSON)
		hvp_cli_json_print_node(json_node_ref(status));
	else
		show_patches(patches);
	cli->exit_status = exit_status_of(patches);
}

bool hvp_remote_show_status(HvpCli *cli)
{
	g_autoptr(HvpRemote) remote = NULL;
	g_autoptr(JsonNode) domain = NULL;
	g_autoptr(GError) error = NULL;
	JsonArray *patches = NULL;

	if (hvp_remote_open(cli, &remote, &error)) {
		if (remote == NULL)
			return false;
		if (hvp_remote_look(remote, &domain, &error))
			patches = hvp_answer_array(json_node_get_object(domain), "patches");
	}
	if (error == NULL && patches == NULL)
		hvp_error_set(&error, HVP_ERROR_BAD_DATA, "hvpatchd names no patches of %s",
			      cli->domain);
	if (error == NULL)
		show_status(cli, patches);
	else
		cli->exit_status = hvp_cli_output_fail(cli, error);
	return true;
}
