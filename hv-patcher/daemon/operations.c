/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/operations.h"

#include <glib/gstdio.h>
#include <string.h>

#include "base/text.h"
#include "daemon/fields.h"
#include "daemon/files.h"
#include "daemon/problem.h"
#include "daemon/run.h"

#define FOLDER "operations"
#define SUFFIX ".json"
#define MAX_ACTIVE 4096U
/* Ended ones go when there are more; within a day only where there are far more. */
#define MAX_KEPT 10000U
#define MAX_KEPT_AT_ALL 50000U
#define KEPT_USEC ((gint64)24 * 60 * 60 * G_USEC_PER_SEC)
/* Of the results of all of them: of a guest that makes them up each can be long. */
#define MAX_RESULTS_BYTES (64U << 20)
#define EVENT_USEC (250 * 1000)

typedef struct {
	HvpOperation *operation;
	HvpRun *run;	     /* NULL: it waits, or has ended */
	bool needs_recovery; /* it was at work when the daemon ended */
	gsize result_bytes;  /* what is counted of it */
	gint64 told_usec;    /* when the last event was */
	HvpOperationState told_state;
} Entry;

struct HvpOperations {
	HvpOperationsSetup setup;
	char *folder;
	GHashTable *by_id;     /* Entry */
	GHashTable *by_key;    /* "principal\nkey": Entry, borrowed */
	GHashTable *by_domain; /* those that have not ended: Entry, borrowed */
	GQueue order;	       /* Entry, oldest first, borrowed */
	GQueue waiting;	       /* likewise, those that go first before the others */
	guint running;
	guint stopping; /* of those, how many rewrite */
	gsize results_bytes;
	bool has_begun;
	bool is_draining;
};

static void schedule(HvpOperations *self);

static void entry_free(gpointer data)
{
	Entry *entry = data;

	hvp_run_free(entry->run);
	hvp_operation_free(entry->operation);
	g_free(entry);
}

static char *path_of(const HvpOperations *self, const HvpOperation *operation)
{
	g_autofree char *name = g_strconcat(operation->id, SUFFIX, NULL);

	return g_build_filename(self->folder, name, NULL);
}

static bool save(const HvpOperations *self, const HvpOperation *operation, GError **error)
{
	g_autofree char *path = path_of(self, operation);
	g_autoptr(JsonNode) file = hvp_operation_to_file(operation);

	return hvp_files_write_json(path, file, error);
}

/* What is under way goes on, whatever the disk says. */
static void save_or_warn(const HvpOperations *self, const HvpOperation *operation)
{
	g_autoptr(GError) error = NULL;

	if (!save(self, operation, &error))
		g_warning("operation %s: %s", operation->id, error->message);
}

/*
 * Of one that waits no longer. By what the disk has, the next start would do it, be it done or
 * cancelled: better that it knows nothing of it.
 */
static void save_or_forget(const HvpOperations *self, const HvpOperation *operation)
{
	g_autofree char *path = path_of(self, operation);
	g_autoptr(GError) error = NULL;

	if (save(self, operation, &error))
		return;
	g_warning("operation %s: %s", operation->id, error->message);
	(void)g_unlink(path);
}

static void tell(HvpOperations *self, Entry *entry)
{
	const HvpOperation *operation = entry->operation;
	g_autoptr(JsonNode) document = hvp_operation_to_document(operation);

	entry->told_usec = g_get_monotonic_time();
	entry->told_state = operation->state;
	hvp_events_add(self->setup.events, HVP_EVENT_OPERATION, operation->id, operation->domain,
		       operation->domain_name, document);
	hvp_metrics_count(self->setup.metrics, HVP_METRICS_EVENTS, 1);
}

/* --- the index --- */

static char *key_of(const char *principal, const char *key)
{
	return g_strdup_printf("%s\n%s", principal, key);
}

/* What brings a guest back is not to wait for those that may wait for tasks in the way. */
static bool goes_first(const Entry *entry)
{
	HvpVerb verb = entry->operation->request->verb;

	return verb == HVP_VERB_REVERT || verb == HVP_VERB_RECOVER || entry->needs_recovery;
}

static void enqueue(HvpOperations *self, Entry *entry)
{
	GList *behind = goes_first(entry) ? self->waiting.head : NULL;

	while (behind != NULL && goes_first(behind->data))
		behind = behind->next;
	g_queue_insert_before(&self->waiting, behind, entry);
}

static void add(HvpOperations *self, Entry *entry)
{
	HvpOperation *operation = entry->operation;

	g_hash_table_insert(self->by_id, operation->id, entry);
	g_queue_push_tail(&self->order, entry);
	if (operation->key != NULL)
		g_hash_table_insert(self->by_key, key_of(operation->principal, operation->key),
				    entry);
	if (hvp_operation_is_end(operation->state))
		return;
	g_hash_table_insert(self->by_domain, operation->domain, entry);
	enqueue(self, entry);
}

static void count_result(HvpOperations *self, Entry *entry)
{
	JsonNode *result = entry->operation->result;
	g_autofree char *text = result ? hvp_fields_to_text(result) : NULL;

	self->results_bytes -= entry->result_bytes;
	entry->result_bytes = text ? strlen(text) : 0;
	self->results_bytes += entry->result_bytes;
}

/* The oldest ones are known to have ended, and how, but not with what. */
static void drop_results(HvpOperations *self)
{
	for (GList *link = self->order.head;
	     link != NULL && self->results_bytes > MAX_RESULTS_BYTES; link = link->next) {
		Entry *entry = link->data;

		if (entry->result_bytes == 0)
			continue;
		g_clear_pointer(&entry->operation->result, json_node_unref);
		count_result(self, entry);
		save_or_warn(self, entry->operation);
	}
}

static void forget(HvpOperations *self, GList *link)
{
	Entry *entry = link->data;
	const HvpOperation *operation = entry->operation;
	g_autofree char *path = path_of(self, operation);

	if (operation->key != NULL) {
		g_autofree char *key = key_of(operation->principal, operation->key);

		if (g_hash_table_lookup(self->by_key, key) == entry)
			g_hash_table_remove(self->by_key, key);
	}
	(void)g_unlink(path);
	self->results_bytes -= entry->result_bytes;
	g_queue_delete_link(&self->order, link);
	g_hash_table_remove(self->by_id, operation->id);
}

static void prune(HvpOperations *self)
{
	gint64 before = g_get_real_time() - KEPT_USEC;
	GList *next;

	drop_results(self);
	for (GList *link = self->order.head; link != NULL && self->order.length > MAX_KEPT;
	     link = next) {
		const HvpOperation *operation = ((Entry *)link->data)->operation;

		next = link->next;
		if (hvp_operation_is_end(operation->state) &&
		    (operation->ended_usec < before || self->order.length > MAX_KEPT_AT_ALL))
			forget(self, link);
	}
}

/* --- reading what is there --- */

static Entry *read_entry(const HvpOperations *self, const char *id, GError **error)
{
	g_autofree char *name = g_strconcat(id, SUFFIX, NULL);
	g_autofree char *path = g_build_filename(self->folder, name, NULL);
	g_autoptr(JsonNode) file = hvp_files_read_json(path, error);
	g_autoptr(HvpOperation) operation = NULL;
	Entry *entry;

	operation = file ? hvp_operation_parse_file(file, error) : NULL;
	if (operation == NULL) {
		g_prefix_error(error, "%s: ", path);
		return NULL;
	}
	if (strcmp(operation->id, id) != 0) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "%s: of another operation", path);
		return NULL;
	}
	entry = g_new0(Entry, 1);
	entry->operation = g_steal_pointer(&operation);
	return entry;
}

static gint compare_age(gconstpointer a, gconstpointer b)
{
	const HvpOperation *first = (*(const Entry *const *)a)->operation;
	const HvpOperation *second = (*(const Entry *const *)b)->operation;

	if (first->created_usec != second->created_usec)
		return first->created_usec < second->created_usec ? -1 : 1;
	return strcmp(first->id, second->id);
}

/* It was at work, and its worker has ended with the daemon. */
static void take_up(HvpOperations *self, Entry *entry)
{
	HvpOperation *operation = entry->operation;

	if (hvp_operation_is_end(operation->state) || operation->state == HVP_OPERATION_QUEUED)
		return;
	if (hvp_operation_is_changing(operation)) {
		entry->needs_recovery = true;
		operation->is_settling = true;
		return;
	}
	operation->state = HVP_OPERATION_FAILED;
	operation->ended_usec = g_get_real_time();
	operation->error = hvp_problem_make("INTERNAL", "the daemon ended while it was at work",
					    NULL, NULL);
	save_or_warn(self, operation);
}

/* A damaged file is of one operation; the others are to be seen all the same. */
static bool read_all(HvpOperations *self, GError **error)
{
	g_autoptr(GPtrArray) ids = hvp_files_list(self->folder, SUFFIX, error);
	g_autoptr(GPtrArray) entries = g_ptr_array_new();

	if (ids == NULL)
		return false;
	for (guint i = 0; i < ids->len; i++) {
		g_autoptr(GError) reason = NULL;
		Entry *entry = read_entry(self, g_ptr_array_index(ids, i), &reason);

		if (entry != NULL)
			g_ptr_array_add(entries, entry);
		else
			g_warning("%s", reason->message);
	}
	g_ptr_array_sort(entries, compare_age);
	for (guint i = 0; i < entries->len; i++) {
		take_up(self, g_ptr_array_index(entries, i));
		add(self, g_ptr_array_index(entries, i));
		count_result(self, g_ptr_array_index(entries, i));
	}
	return true;
}

HvpOperations *hvp_operations_new(const HvpOperationsSetup *setup, GError **error)
{
	g_autoptr(HvpOperations) self = g_new0(HvpOperations, 1);

	self->setup = *setup;
	self->folder = g_build_filename(setup->config->state_folder, FOLDER, NULL);
	self->by_id = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, entry_free);
	self->by_key = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	self->by_domain = g_hash_table_new(g_str_hash, g_str_equal);
	g_queue_init(&self->order);
	g_queue_init(&self->waiting);
	if (!hvp_files_make_folder(self->folder, error) || !read_all(self, error))
		return NULL;
	return g_steal_pointer(&self);
}

void hvp_operations_free(HvpOperations *self)
{
	if (self == NULL)
		return;
	g_queue_clear(&self->order);
	g_queue_clear(&self->waiting);
	g_hash_table_unref(self->by_key);
	g_hash_table_unref(self->by_domain);
	g_hash_table_unref(self->by_id);
	g_free(self->folder);
	g_free(self);
}

void hvp_operations_begin(HvpOperations *self)
{
	for (GList *link = self->waiting.head; link != NULL; link = link->next) {
		const HvpOperation *operation = ((Entry *)link->data)->operation;

		self->setup.handlers->at_domain(operation->domain, operation, self->setup.data);
	}
	self->has_begun = true;
	schedule(self);
}

void hvp_operations_look_again(HvpOperations *self)
{
	schedule(self);
}

bool hvp_operations_drain(HvpOperations *self)
{
	self->is_draining = true;
	return self->running > 0;
}

/* --- at work --- */

static Entry *entry_of(const HvpOperations *self, const HvpOperation *operation)
{
	return g_hash_table_lookup(self->by_id, operation->id);
}

/* A worker that has much to say is heard now and then; a new state always, unless it flickers. */
static void on_changed(HvpOperation *operation, gpointer data)
{
	HvpOperations *self = data;
	Entry *entry = entry_of(self, operation);

	if (operation->state > entry->told_state ||
	    g_get_monotonic_time() - entry->told_usec >= EVENT_USEC)
		tell(self, entry);
}

static void on_crashed(gpointer data)
{
	hvp_metrics_count(((HvpOperations *)data)->setup.metrics, HVP_METRICS_WORKER_CRASHES, 1);
}

static void on_recovered(gpointer data)
{
	hvp_metrics_count(((HvpOperations *)data)->setup.metrics, HVP_METRICS_RECOVERIES, 1);
}

static void on_looked(HvpOperation *operation, JsonNode *look, gpointer data)
{
	HvpOperations *self = data;

	self->setup.handlers->looked(operation->domain, look, self->setup.data);
}

static void count_blockers(HvpMetrics *metrics, JsonObject *result)
{
	JsonNode *node = json_object_get_member(result, "blockers");
	JsonArray *blockers;

	if (node == NULL || !JSON_NODE_HOLDS_ARRAY(node))
		return;
	blockers = json_node_get_array(node);
	for (guint i = 0; i < json_array_get_length(blockers); i++) {
		JsonNode *blocker = json_array_get_element(blockers, i);
		const char *function = JSON_NODE_HOLDS_OBJECT(blocker)
					       ? hvp_fields_get_text(json_node_get_object(blocker),
								     "function")
					       : NULL;

		hvp_metrics_count_blocker(metrics, function ? function : "");
	}
}

static void count_end(const HvpOperations *self, const HvpOperation *operation)
{
	HvpMetrics *metrics = self->setup.metrics;
	JsonObject *result = operation->result ? json_node_get_object(operation->result) : NULL;
	JsonObject *problem = operation->error ? json_node_get_object(operation->error) : NULL;
	const char *code = problem ? hvp_fields_get_text(problem, "code") : NULL;
	bool switched = operation->state == HVP_OPERATION_APPLIED ||
			operation->state == HVP_OPERATION_REVERTED;
	gint64 pause_usec = result ? hvp_fields_get_integer(result, "pause_usec", 0) : 0;

	hvp_metrics_count_operation(metrics, hvp_roles_verb_name(operation->request->verb),
				    hvp_operation_state_name(operation->state), code ? code : "");
	if (result == NULL)
		return;
	/* What is applied already needs no pause. */
	if (switched && pause_usec > 0)
		hvp_metrics_observe_pause(metrics, pause_usec);
	hvp_metrics_count(metrics, HVP_METRICS_ATTEMPTS,
			  (guint64)MAX(0, hvp_fields_get_integer(result, "attempts", 0)));
	count_blockers(metrics, result);
}

static void leave(HvpOperations *self, Entry *entry)
{
	HvpOperation *operation = entry->operation;

	g_hash_table_remove(self->by_domain, operation->domain);
	count_end(self, operation);
	tell(self, entry);
	self->setup.handlers->at_domain(operation->domain, NULL, self->setup.data);
}

static void on_ended(HvpOperation *operation, gpointer data)
{
	HvpOperations *self = data;
	Entry *entry = entry_of(self, operation);

	self->running--;
	if (hvp_operation_is_changing(operation))
		self->stopping--;
	g_clear_pointer(&entry->run, hvp_run_free);
	count_result(self, entry);
	save_or_warn(self, operation);
	leave(self, entry);
	prune(self);
	schedule(self);
	if (self->running == 0)
		self->setup.handlers->idle(self->setup.data);
}

static const HvpRunHandlers run_handlers = { on_changed, on_crashed, on_recovered, on_looked,
					     on_ended };

static void start_entry(HvpOperations *self, Entry *entry)
{
	HvpOperation *operation = entry->operation;
	HvpPhase phase = entry->needs_recovery ? HVP_PHASE_RECOVER : HVP_PHASE_WORK;

	self->running++;
	if (hvp_operation_is_changing(operation))
		self->stopping++;
	if (operation->state == HVP_OPERATION_QUEUED) {
		operation->state = HVP_OPERATION_CHECKING;
		operation->started_usec = g_get_real_time();
		g_free(operation->step);
		operation->step = g_strdup("begins");
		/* Before its worker exists: so it is never taken for one that waits. */
		save_or_forget(self, operation);
	}
	entry->run = hvp_run_start(operation, phase, self->setup.config, self->setup.patches,
				   &run_handlers, self);
	tell(self, entry);
	self->setup.handlers->at_domain(operation->domain, operation, self->setup.data);
}

static bool may_start(const HvpOperations *self, const Entry *entry)
{
	return !hvp_operation_is_changing(entry->operation) ||
	       self->stopping < self->setup.config->max_stopped;
}

/* In order, but that who stops no VM need not wait for those who do. */
static void schedule(HvpOperations *self)
{
	GList *next;

	if (!self->has_begun || self->is_draining)
		return;
	for (GList *link = self->waiting.head;
	     link != NULL && self->running < self->setup.config->workers; link = next) {
		Entry *entry = link->data;

		next = link->next;
		if (!may_start(self, entry))
			continue;
		g_queue_delete_link(&self->waiting, link);
		start_entry(self, entry);
	}
}

/* --- for callers --- */

static char *hash_body(const HvpOperationsCall *call)
{
	g_autoptr(GChecksum) hash = g_checksum_new(G_CHECKSUM_SHA256);

	g_checksum_update(hash, (const guchar *)call->uuid, (gssize)strlen(call->uuid));
	g_checksum_update(hash, (const guchar *)"\n", 1);
	g_checksum_update(hash, (const guchar *)call->body, (gssize)strlen(call->body));
	return g_strdup(g_checksum_get_string(hash));
}

bool hvp_operations_find_by_key(const HvpOperations *self, const HvpOperationsCall *call,
				const HvpOperation **ret_found, GError **error)
{
	g_autofree char *key = key_of(call->principal, call->key);
	g_autofree char *body = hash_body(call);
	const Entry *entry = NULL;

	*ret_found = NULL;
	if (call->key[0] == '\0')
		return true;
	if (!hvp_text_is_name(call->key, HVP_OPERATION_MAX_KEY_BYTES))
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "the idempotency key is not 1 to %u printable characters",
				     HVP_OPERATION_MAX_KEY_BYTES);
	entry = g_hash_table_lookup(self->by_key, key);
	if (entry == NULL)
		return true;
	if (g_strcmp0(entry->operation->body_sha256, body) != 0)
		return hvp_problem_set(error, HVP_PROBLEM_IDEMPOTENCY,
				       "the idempotency key was used with another request");
	*ret_found = entry->operation;
	return true;
}

/* The patch has to be here, and names the module. */
static bool find_patch(const HvpOperations *self, HvpOperationRequest *request, GError **error)
{
	const HvpStoredPatch *patch;

	if (request->patch == NULL)
		return true;
	patch = hvp_patch_store_find(self->setup.patches, request->patch, error);
	if (patch == NULL)
		return false;
	if (request->verb != HVP_VERB_REVERT &&
	    !hvp_patch_store_check_serial(self->setup.patches, patch, error))
		return false;
	g_free(request->name);
	request->name = g_strdup(patch->name);
	return true;
}

static bool check_room(const HvpOperations *self, const char *uuid, GError **error)
{
	const Entry *other = g_hash_table_lookup(self->by_domain, uuid);

	if (self->is_draining)
		return hvp_problem_set(error, HVP_PROBLEM_UNAVAILABLE,
				       "the daemon is about to end");
	if (other != NULL)
		return hvp_problem_set_in_the_way(error, other->operation->id);
	return g_hash_table_size(self->by_domain) < MAX_ACTIVE ||
	       hvp_problem_set(error, HVP_PROBLEM_TOO_MANY, "%u operations wait already",
			       MAX_ACTIVE);
}

const HvpOperation *hvp_operations_start(HvpOperations *self, const HvpOperationsCall *call,
					 HvpOperationRequest *request, GError **error)
{
	g_autoptr(HvpOperationRequest) owned = request;
	Entry *entry;
	HvpOperation *operation;

	if (!check_room(self, call->uuid, error) || !find_patch(self, request, error))
		return NULL;
	operation = hvp_operation_new(call->uuid, call->name, call->principal,
				      g_steal_pointer(&owned));
	if (call->key[0] != '\0') {
		operation->key = g_strdup(call->key);
		operation->body_sha256 = hash_body(call);
	}
	if (!save(self, operation, error)) {
		hvp_operation_free(operation);
		return NULL;
	}
	entry = g_new0(Entry, 1);
	entry->operation = operation;
	add(self, entry);
	self->setup.handlers->at_domain(operation->domain, operation, self->setup.data);
	tell(self, entry);
	schedule(self);
	return operation;
}

const HvpOperation *hvp_operations_find(const HvpOperations *self, const char *id)
{
	const Entry *entry = g_hash_table_lookup(self->by_id, id);

	return entry ? entry->operation : NULL;
}

GPtrArray *hvp_operations_list(const HvpOperations *self)
{
	GPtrArray *operations = g_ptr_array_sized_new(self->order.length);

	for (GList *link = self->order.tail; link != NULL; link = link->prev)
		g_ptr_array_add(operations, ((Entry *)link->data)->operation);
	return operations;
}

static void cancel_waiting(HvpOperations *self, Entry *entry)
{
	HvpOperation *operation = entry->operation;

	g_queue_remove(&self->waiting, entry);
	operation->state = HVP_OPERATION_CANCELLED;
	operation->ended_usec = g_get_real_time();
	g_free(operation->step);
	operation->step = g_strdup(hvp_operation_state_name(operation->state));
	save_or_forget(self, operation);
	leave(self, entry);
	prune(self);
}

bool hvp_operations_cancel(HvpOperations *self, const char *id, GError **error)
{
	Entry *entry = g_hash_table_lookup(self->by_id, id);

	if (entry == NULL)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND, "there is no such operation");
	if (entry->operation->state == HVP_OPERATION_CANCELLED)
		return true;
	if (!hvp_operation_is_cancellable(entry->operation))
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "the operation cannot be cancelled any more");
	entry->operation->cancel_wanted = true;
	if (entry->run == NULL)
		cancel_waiting(self, entry);
	else
		hvp_run_cancel(entry->run);
	return true;
}

const HvpOperation *hvp_operations_find_user(const HvpOperations *self, const char *sha256)
{
	GHashTableIter iter;
	gpointer value;

	g_hash_table_iter_init(&iter, self->by_domain);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const Entry *entry = value;

		if (g_strcmp0(entry->operation->request->patch, sha256) == 0)
			return entry->operation;
	}
	return NULL;
}

void hvp_operations_count(const HvpOperations *self, guint *ret_queued, guint *ret_running)
{
	*ret_queued = self->waiting.length;
	*ret_running = self->running;
}
