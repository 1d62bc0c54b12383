/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/operation.h"

#include <string.h>

#include "daemon/outcome.h"

#define SHA256 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const HvpOperationRequestLimits usual = { 100, 600 };

static HvpOperation *operation_of(const char *request)
{
	g_autoptr(GError) error = NULL;
	HvpOperationRequest *parsed = hvp_operation_request_parse(request, &usual, &error);

	g_assert_no_error(error);
	return hvp_operation_new("uuid", "name", "uid:0", parsed);
}

/* Each line: what may follow, as the first letters of states in their order. */
static void test_states(void)
{
	static const char *const rows[HVP_OPERATION_STATE_COUNT] = {
		/* qclwsv acrR frnc */
		".c........frnc", /* queued */
		"..lwsvacrRfrnc", /* checking */
		"...wsvacrRfrnc", /* loading */
		"....svacrRfrnc", /* waiting */
		"...w.vacrRfrnc", /* switching */
		"......acrRfrnc", /* verifying */
		"..............", "..............", "..............", "..............",
		"..............", "..............", "..............", "..............",
	};

	for (guint from = 0; from < HVP_OPERATION_STATE_COUNT; from++) {
		HvpOperationState again;
		const char *name = hvp_operation_state_name(from);

		g_assert_true(hvp_operation_find_state(name, &again));
		g_assert_cmpint(again, ==, from);
		g_assert_cmpint(hvp_operation_is_end(from), ==, from >= HVP_OPERATION_APPLIED);
		for (guint to = 0; to < HVP_OPERATION_STATE_COUNT; to++) {
			g_test_message("%s -> %s", name, hvp_operation_state_name(to));
			g_assert_cmpint(hvp_operation_may_follow(from, to), ==,
					rows[from][to] != '.');
		}
	}
}

static void test_cancellable(void)
{
	g_autoptr(HvpOperation)
		apply = operation_of("{\"verb\":\"apply\",\"patch\":\"" SHA256 "\"}");
	g_autoptr(HvpOperation) recover = operation_of("{\"verb\":\"recover\"}");

	for (guint state = 0; state < HVP_OPERATION_STATE_COUNT; state++) {
		apply->state = recover->state = state;
		g_assert_cmpint(hvp_operation_is_cancellable(apply), ==,
				state < HVP_OPERATION_VERIFYING);
		g_assert_cmpint(hvp_operation_is_cancellable(recover), ==,
				state == HVP_OPERATION_QUEUED);
		apply->is_settling = true;
		g_assert_false(hvp_operation_is_cancellable(apply));
		apply->is_settling = false;
	}
}

static void test_file(void)
{
	g_autoptr(HvpOperation) operation = operation_of(
		"{\"verb\":\"revert\",\"name\":\"fix\",\"options\":{\"accept\":[\"guard\"]}}");
	g_autoptr(JsonNode) file = NULL, document = NULL, again = NULL;
	g_autoptr(HvpOperation) read = NULL;
	g_autoptr(GError) error = NULL;

	operation->key = g_strdup("key");
	operation->body_sha256 = g_strdup(SHA256);
	operation->started_usec = operation->created_usec + 1;
	operation->state = HVP_OPERATION_WAITING;
	file = hvp_operation_to_file(operation);
	read = hvp_operation_parse_file(file, &error);
	g_assert_no_error(error);
	document = hvp_operation_to_document(operation);
	again = hvp_operation_to_document(read);
	g_assert_true(json_node_equal(document, again));
	g_assert_cmpstr(read->key, ==, "key");
	g_assert_cmpstr(read->body_sha256, ==, SHA256);
	/* What is nobody's business is not in the document. */
	g_assert_false(json_object_has_member(json_node_get_object(document), "key"));
}

static void test_limits(void)
{
	static const struct {
		const char *asked;
		HvpOperationRequestLimits allowed;
		const char *name;
		double expected; /* < 0: refused */
	} cases[] = {
		{ "{}", { 100, 600 }, "max_pause", 10 },
		{ "{}", { 5, 600 }, "max_pause", 5 },
		{ "{\"max_pause\":50}", { 100, 600 }, "max_pause", 50 },
		{ "{\"max_pause\":50.5}", { 50, 600 }, "max_pause", -1 },
		{ "{}", { 100, 600 }, "timeout", 30 },
		{ "{}", { 100, 20 }, "timeout", 20 },
		{ "{\"timeout\":600}", { 100, 600 }, "timeout", 600 },
		{ "{\"timeout\":600.5}", { 100, 600 }, "timeout", -1 },
	};

	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *text = g_strdup_printf("{\"verb\":\"recover\",\"options\":%s}",
							cases[i].asked);
		g_autoptr(GError) error = NULL;
		g_autoptr(HvpOperationRequest)
			request = hvp_operation_request_parse(text, &cases[i].allowed, &error);

		if (cases[i].expected < 0) {
			g_assert_error(error, HVP_ERROR, HVP_ERROR_PERMISSION);
			continue;
		}
		g_assert_no_error(error);
		g_assert_cmpfloat(json_object_get_double_member(
					  json_node_get_object(request->options), cases[i].name),
				  ==, cases[i].expected);
	}
}

/* --- outcomes --- */

static HvpOutcome outcome(const HvpOperation *operation, HvpPhase phase, HvpWorkerOutcome how,
			  const char *code, const char *result, bool recovered)
{
	g_autoptr(JsonNode) node = result ? json_from_string(result, NULL) : NULL;
	HvpWorkerEnd end = { how, node, 0, code, code ? "why" : NULL };

	return hvp_outcome_of(operation, phase, &end, recovered);
}

#define LOST HVP_WORKER_CRASHED
#define DONE HVP_WORKER_DONE
#define IN_FORCE                                                           \
	"{\"status\":{\"patches\":[{\"name\":\"fix\",\"sha256\":\"" SHA256 \
	"\",\"state\":\"switched\"}]}}"
#define OTHER "{\"status\":{\"patches\":[{\"name\":\"x\",\"state\":\"switched\"},7]}}"
#define TAMPERED                                                           \
	"{\"status\":{\"patches\":[{\"name\":\"fix\",\"sha256\":\"" SHA256 \
	"\",\"state\":\"tampered\"}]}}"
/* Of the same name, but of another file; and a record that cannot be read. */
#define OTHER_FILE                                                       \
	"{\"status\":{\"patches\":[{\"name\":\"fix\",\"sha256\":\"ab\"," \
	"\"state\":\"switched\"}]}}"
#define DAMAGED                                                        \
	"{\"status\":{\"patches\":[{\"name\":\"fix\",\"sha256\":\"\"," \
	"\"state\":\"tampered\"}]}}"
#define REVERT_BY_DIGEST "revert by digest"

static const struct {
	const char *verb;
	HvpPhase phase;
	HvpWorkerOutcome how;
	const char *code;
	const char *result;
	bool recovered;
	const char *end; /* a state, or the next phase */
} outcomes[] = {
	{ "check", HVP_PHASE_WORK, DONE, NULL, "{}", false, "checked" },
	{ "apply", HVP_PHASE_WORK, DONE, NULL, "{}", false, "applied" },
	{ "apply", HVP_PHASE_WORK, DONE, "BUSY", "{}", false, "failed" },
	{ "apply", HVP_PHASE_WORK, DONE, "UNDONE", "{}", false, "rolled-back" },
	{ "apply", HVP_PHASE_WORK, DONE, "TAMPERED", NULL, false, "needs-operator" },
	{ "apply", HVP_PHASE_WORK, DONE, "FAULT", "{\"result\":\"applied\"}", false, "applied" },
	{ "apply", HVP_PHASE_WORK, DONE, "CANCELLED", NULL, false, "failed" },
	{ "check", HVP_PHASE_WORK, LOST, "INTERNAL", NULL, false, "failed" },
	{ "apply", HVP_PHASE_WORK, LOST, "INTERNAL", NULL, false, "recover" },
	{ "apply", HVP_PHASE_WORK, HVP_WORKER_GARBAGE, "INTERNAL", NULL, false, "recover" },
	{ "recover", HVP_PHASE_WORK, HVP_WORKER_TIMED_OUT, "INTERNAL", NULL, false, "recover" },
	{ "apply", HVP_PHASE_RECOVER, LOST, "INTERNAL", NULL, false, "needs-operator" },
	{ "apply", HVP_PHASE_RECOVER, DONE, "BUSY", NULL, false, "needs-operator" },
	{ "apply", HVP_PHASE_RECOVER, DONE, "VM_GONE", NULL, false, "failed" },
	{ "apply", HVP_PHASE_RECOVER, DONE, NULL, "{}", false, "look" },
	{ "recover", HVP_PHASE_RECOVER, DONE, NULL, "{}", false, "recovered" },
	{ "apply", HVP_PHASE_LOOK, DONE, NULL, IN_FORCE, false, "applied" },
	{ "apply", HVP_PHASE_LOOK, DONE, NULL, OTHER, false, "failed" },
	{ "apply", HVP_PHASE_LOOK, DONE, NULL, OTHER, true, "rolled-back" },
	{ "apply", HVP_PHASE_LOOK, DONE, NULL, TAMPERED, false, "needs-operator" },
	{ "revert", HVP_PHASE_LOOK, DONE, NULL, OTHER, false, "reverted" },
	{ "revert", HVP_PHASE_LOOK, DONE, NULL, IN_FORCE, true, "rolled-back" },
	{ "revert", HVP_PHASE_LOOK, DONE, NULL, OTHER_FILE, true, "rolled-back" },
	{ REVERT_BY_DIGEST, HVP_PHASE_LOOK, DONE, NULL, OTHER_FILE, true, "reverted" },
	{ REVERT_BY_DIGEST, HVP_PHASE_LOOK, DONE, NULL, IN_FORCE, true, "rolled-back" },
	{ REVERT_BY_DIGEST, HVP_PHASE_LOOK, DONE, NULL, DAMAGED, true, "needs-operator" },
	{ "apply", HVP_PHASE_LOOK, DONE, NULL, "{}", false, "needs-operator" },
	{ "apply", HVP_PHASE_LOOK, LOST, "INTERNAL", NULL, false, "needs-operator" },
	{ "apply", HVP_PHASE_LOOK, DONE, "NOT_FOUND", NULL, false, "failed" },
};

static void test_outcomes(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(outcomes); i++) {
		bool by_digest = strcmp(outcomes[i].verb, REVERT_BY_DIGEST) == 0;
		const char *verb = by_digest ? "revert" : outcomes[i].verb;
		const char *subject = "";
		g_autofree char *text = NULL;
		g_autoptr(HvpOperation) operation = NULL;
		HvpOutcome got;

		if (strcmp(outcomes[i].verb, "revert") == 0)
			subject = ",\"name\":\"fix\"";
		else if (strcmp(outcomes[i].verb, "recover") != 0)
			subject = ",\"patch\":\"" SHA256 "\"";
		text = g_strdup_printf("{\"verb\":\"%s\"%s}", verb, subject);
		operation = operation_of(text);
		/* As the patch's store has it. */
		if (by_digest)
			operation->request->name = g_strdup("fix");
		got = outcome(operation, outcomes[i].phase, outcomes[i].how, outcomes[i].code,
			      outcomes[i].result, outcomes[i].recovered);
		g_test_message("%u: %s %s", i, outcomes[i].verb, outcomes[i].end);
		if (got.is_over)
			g_assert_cmpstr(hvp_operation_state_name(got.state), ==, outcomes[i].end);
		else
			g_assert_cmpstr(got.next == HVP_PHASE_LOOK ? "look" : "recover", ==,
					outcomes[i].end);
	}
}

static void test_cancelled(void)
{
	g_autoptr(HvpOperation)
		operation = operation_of("{\"verb\":\"apply\",\"patch\":\"" SHA256 "\"}");
	HvpOutcome got;

	operation->cancel_wanted = true;
	got = outcome(operation, HVP_PHASE_WORK, DONE, "CANCELLED", NULL, false);
	g_assert_cmpint(got.state, ==, HVP_OPERATION_CANCELLED);
	g_assert_null(got.code);
	/* It came too late. */
	got = outcome(operation, HVP_PHASE_WORK, DONE, NULL, "{}", false);
	g_assert_cmpint(got.state, ==, HVP_OPERATION_APPLIED);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/operation/states", test_states);
	g_test_add_func("/operation/cancellable", test_cancellable);
	g_test_add_func("/operation/file", test_file);
	g_test_add_func("/operation/limits", test_limits);
	g_test_add_func("/operation/outcomes", test_outcomes);
	g_test_add_func("/operation/cancelled", test_cancelled);
	return g_test_run();
}
