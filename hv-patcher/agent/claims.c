/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/claims.h"

#include <string.h>

#include "base/json-text.h"
#include "base/text.h"

#define GET_KTHREADS "guest-hvpatch-get-kthreads"
#define PAGE_THREADS 4096
/* A page may hold one thread only, or none; a guest has few thousand kernel threads. */
#define MAX_PAGES 4096U

struct HvpClaims {
	GHashTable *by_pid; /* pid -> HvpClaim */
	char boot_id[HVP_CLAIM_BOOT_ID_BYTES + 1];
};

static const char *const state_names[] = {
	[HVP_CLAIM_PARKED] = "parked",
	[HVP_CLAIM_FROZEN] = "frozen",
	[HVP_CLAIM_IDLE_WORKER] = "idle-worker",
	[HVP_CLAIM_BUSY_WORKER] = "busy-worker",
	[HVP_CLAIM_RUNNING] = "running",
	[HVP_CLAIM_SLEEPING] = "sleeping",
	[HVP_CLAIM_UNINTERRUPTIBLE] = "uninterruptible",
	[HVP_CLAIM_GONE] = "gone",
};

HvpClaims *hvp_claims_new(void)
{
	HvpClaims *self = g_new0(HvpClaims, 1);

	self->by_pid = g_hash_table_new_full(NULL, NULL, NULL, g_free);
	return self;
}

void hvp_claims_free(HvpClaims *self)
{
	if (self == NULL)
		return;
	g_hash_table_unref(self->by_pid);
	g_free(self);
}

const char *hvp_claims_state_name(HvpClaimState state)
{
	return state_names[state];
}

const HvpClaim *hvp_claims_find(const HvpClaims *self, gint32 pid)
{
	return g_hash_table_lookup(self->by_pid, GINT_TO_POINTER(pid));
}

guint hvp_claims_count(const HvpClaims *self)
{
	return g_hash_table_size(self->by_pid);
}

const char *hvp_claims_get_boot_id(const HvpClaims *self)
{
	return self->boot_id;
}

static bool set_malformed(GError **error, const char *what)
{
	return hvp_error_set(error, HVP_ERROR_BAD_DATA,
			     "what the guest's agent says of kernel threads is malformed: %s",
			     what);
}

/* A number from @minimum to @maximum. */
static bool read_number(JsonObject *object, const char *name, gint64 minimum, gint64 maximum,
			gint64 *ret_number, GError **error)
{
	JsonNode *node = hvp_json_text_typed_member(object, name, G_TYPE_INT64);

	if (node == NULL || json_node_get_int(node) < minimum || json_node_get_int(node) > maximum)
		return set_malformed(error, name);
	*ret_number = json_node_get_int(node);
	return true;
}

static bool read_text(JsonObject *object, const char *name, const char **ret_text, GError **error)
{
	JsonNode *node = hvp_json_text_typed_member(object, name, G_TYPE_STRING);

	if (node == NULL)
		return set_malformed(error, name);
	*ret_text = json_node_get_string(node);
	return true;
}

static bool read_flag(JsonObject *object, const char *name, bool *ret_flag, GError **error)
{
	JsonNode *node = hvp_json_text_typed_member(object, name, G_TYPE_BOOLEAN);

	if (node == NULL)
		return set_malformed(error, name);
	*ret_flag = json_node_get_boolean(node);
	return true;
}

static void keep_text(char buffer[HVP_CLAIM_NAME_BYTES + 1], const char *text)
{
	g_autofree char *escaped = hvp_text_escape(text, HVP_TEXT_TERMINATED, HVP_CLAIM_NAME_BYTES);

	g_strlcpy(buffer, escaped, HVP_CLAIM_NAME_BYTES + 1);
}

static bool read_state(const char *name, HvpClaimState *ret_state, GError **error)
{
	for (guint i = 0; i < HVP_CLAIM_GONE; i++)
		if (strcmp(name, state_names[i]) == 0) {
			*ret_state = (HvpClaimState)i;
			return true;
		}
	return set_malformed(error, "state");
}

static bool read_claim(JsonNode *node, HvpClaim *ret_claim, GError **error)
{
	JsonObject *object = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
	const char *comm = "", *state = "", *wchan = "", *cpus = "";
	gint64 pid = 0, voluntary = 0, involuntary = 0;

	if (object == NULL)
		return set_malformed(error, "kthreads");
	if (!read_number(object, "pid", 1, G_MAXINT32, &pid, error) ||
	    !read_number(object, "voluntary", 0, G_MAXINT64, &voluntary, error) ||
	    !read_number(object, "involuntary", 0, G_MAXINT64, &involuntary, error) ||
	    !read_text(object, "comm", &comm, error) ||
	    !read_text(object, "wchan", &wchan, error) ||
	    !read_text(object, "cpus", &cpus, error) ||
	    !read_flag(object, "per_cpu", &ret_claim->per_cpu, error) ||
	    !read_text(object, "state", &state, error) ||
	    !read_state(state, &ret_claim->state, error))
		return false;
	ret_claim->pid = (gint32)pid;
	ret_claim->voluntary = (guint64)voluntary;
	ret_claim->involuntary = (guint64)involuntary;
	keep_text(ret_claim->comm, comm);
	keep_text(ret_claim->wchan, wchan);
	keep_text(ret_claim->cpus, strlen(cpus) < HVP_CLAIM_NAME_BYTES ? cpus : "");
	return true;
}

/* The threads of @object, ascending by pid, behind @claims. */
static bool read_threads(JsonObject *object, GArray *claims, GError **error)
{
	JsonNode *node = json_object_get_member(object, "kthreads");
	JsonArray *threads;
	gint32 last = 0;

	if (node == NULL || !JSON_NODE_HOLDS_ARRAY(node))
		return set_malformed(error, "kthreads");
	threads = json_node_get_array(node);
	for (guint i = 0; i < json_array_get_length(threads); i++) {
		HvpClaim claim = { 0 };

		if (!read_claim(json_array_get_element(threads, i), &claim, error))
			return false;
		if (claim.pid <= last)
			return set_malformed(error, "pids are not in order");
		last = claim.pid;
		g_array_append_val(claims, claim);
	}
	return true;
}

/* Pids that ended, of events; they go before what came. */
static bool read_gone(JsonObject *object, GArray *claims, GError **error)
{
	JsonNode *node = json_object_get_member(object, "gone");
	JsonArray *gone;

	if (node == NULL)
		return true;
	if (!JSON_NODE_HOLDS_ARRAY(node))
		return set_malformed(error, "gone");
	gone = json_node_get_array(node);
	for (guint i = 0; i < json_array_get_length(gone); i++) {
		JsonNode *element = json_array_get_element(gone, i);
		HvpClaim claim = { .state = HVP_CLAIM_GONE };
		gint64 pid;

		if (!JSON_NODE_HOLDS_VALUE(element) ||
		    json_node_get_value_type(element) != G_TYPE_INT64)
			return set_malformed(error, "gone");
		pid = json_node_get_int(element);
		if (pid < 1 || pid > G_MAXINT32)
			return set_malformed(error, "gone");
		claim.pid = (gint32)pid;
		g_array_append_val(claims, claim);
	}
	return true;
}

static bool check_boot_id(const HvpClaims *self, const char *boot_id, GError **error)
{
	if (strlen(boot_id) != HVP_CLAIM_BOOT_ID_BYTES || !g_uuid_string_is_valid(boot_id))
		return set_malformed(error, "boot_id");
	if (self->boot_id[0] != 0 && g_ascii_strcasecmp(self->boot_id, boot_id) != 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the guest's agent speaks of another boot than before");
	return true;
}

bool hvp_claims_add(HvpClaims *self, JsonNode *data, GError **error)
{
	g_autoptr(GArray) claims = g_array_new(FALSE, TRUE, sizeof(HvpClaim));
	JsonObject *object = JSON_NODE_HOLDS_OBJECT(data) ? json_node_get_object(data) : NULL;
	const char *boot_id = "";

	if (object == NULL)
		return set_malformed(error, "no object");
	if (!read_text(object, "boot_id", &boot_id, error) ||
	    !check_boot_id(self, boot_id, error) || !read_gone(object, claims, error) ||
	    !read_threads(object, claims, error))
		return false;
	if (claims->len > HVP_CLAIMS_MAX - hvp_claims_count(self))
		return set_malformed(error, "too many threads");
	g_strlcpy(self->boot_id, boot_id, sizeof self->boot_id);
	for (guint i = 0; i < claims->len; i++) {
		const HvpClaim *claim = &g_array_index(claims, HvpClaim, i);

		g_hash_table_insert(self->by_pid, GINT_TO_POINTER(claim->pid),
				    g_memdup2(claim, sizeof *claim));
	}
	return true;
}

/* One page from *@start on; *@start is then where the next one begins, 0 at the end. */
static bool ask_page(HvpClaims *self, HvpAgent *agent, gint32 *start, guint count,
		     HvpDeadline deadline, GError **error)
{
	g_autoptr(JsonObject) arguments = json_object_new();
	g_autoptr(JsonNode) answer = NULL;
	gint64 next = 0;

	json_object_set_int_member(arguments, "start", *start);
	json_object_set_int_member(arguments, "limit", count);
	answer = hvp_agent_execute(agent, GET_KTHREADS, arguments, deadline, error);
	if (answer == NULL || !hvp_claims_add(self, answer, error) ||
	    !read_number(json_node_get_object(answer), "next", 0, G_MAXINT32, &next, error))
		return false;
	if (next != 0 && next <= *start)
		return set_malformed(error, "next");
	*start = (gint32)next;
	return true;
}

bool hvp_claims_ask(HvpClaims *self, HvpAgent *agent, gint32 start, guint count,
		    HvpDeadline deadline, GError **error)
{
	return ask_page(self, agent, &start, count, deadline, error);
}

bool hvp_claims_ask_all(HvpClaims *self, HvpAgent *agent, HvpDeadline deadline, GError **error)
{
	gint32 start = 0;

	for (guint i = 0; i < MAX_PAGES; i++) {
		if (!ask_page(self, agent, &start, PAGE_THREADS, deadline, error))
			return false;
		if (start == 0)
			return true;
	}
	return set_malformed(error, "the pages do not end");
}
