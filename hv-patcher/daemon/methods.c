/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/methods.h"

#include <gio/gunixfdlist.h>
#include <string.h>
#include <unistd.h>

#include "base/json-text.h"
#include "daemon/fields.h"
#include "daemon/minisign.h"
#include "daemon/problem.h"

#define DEFAULT_LIST 100
#define MAX_LIST 1000
/* A bus turns out who sends a message of more than 32 MiB. */
#define MAX_ANSWER_BYTES (16U << 20)
#define DOMAIN "domain"
#define OPERATION "operation"

/* Takes @text. */
static void answer_text(HvpCall *call, char *text)
{
	g_autofree char *owned = text;

	hvp_call_answer(call, g_variant_new("(s)", owned));
}

static void answer_node(HvpCall *call, JsonNode *node)
{
	answer_text(call, hvp_fields_to_text(node));
}

/* Texts put together to an array, without reading them again. */
static void add_element(GString *array, const char *text)
{
	if (array->len > 1)
		g_string_append_c(array, ',');
	g_string_append(array, text);
}

static void answer_array(HvpCall *call, GString *array)
{
	g_autofree char *text = NULL;
	g_autoptr(GError) error = NULL;

	g_string_append_c(array, ']');
	text = g_string_free(array, FALSE);
	if (strlen(text) <= MAX_ANSWER_BYTES) {
		answer_text(call, g_steal_pointer(&text));
		return;
	}
	hvp_problem_set(&error, HVP_PROBLEM_TOO_LARGE,
			"all of them have more than %u bytes: ask for each", MAX_ANSWER_BYTES);
	hvp_call_fail(call, error, NULL);
}

/* --- domains --- */

static void list_domains(HvpCall *call)
{
	g_autoptr(GPtrArray) domains = hvp_domains_list(call->context->domains);
	GString *array = g_string_new("[");

	for (guint i = 0; i < domains->len; i++) {
		HvpDomain *domain = g_ptr_array_index(domains, i);

		if (hvp_call_may_view(call, domain->uuid, domain->name))
			add_element(array, hvp_domain_get_text(domain));
	}
	answer_array(call, array);
}

static void begin_list_domains(HvpCall *call)
{
	hvp_call_need_view(call, list_domains);
}

static void need_on_domain(HvpCall *call, HvpVerb verb, HvpCallStep next)
{
	const HvpDomain *domain = hvp_domains_find(call->context->domains,
						   hvp_call_get_text(call, 1));

	hvp_call_need_on(call, verb, domain ? domain->uuid : NULL, domain ? domain->name : NULL,
			 DOMAIN, next);
}

/* It may have gone while polkit was asked. NULL: the call is answered. */
static HvpDomain *find_again(HvpCall *call)
{
	HvpDomain *domain = hvp_domains_find(call->context->domains, call->domain_uuid);
	g_autoptr(GError) error = NULL;

	if (domain != NULL)
		return domain;
	hvp_error_set(&error, HVP_ERROR_NOT_FOUND, "there is no such " DOMAIN);
	hvp_call_fail(call, error, NULL);
	return NULL;
}

static void get_domain(HvpCall *call)
{
	HvpDomain *domain = find_again(call);

	if (domain != NULL)
		hvp_call_answer(call, g_variant_new("(s)", hvp_domain_get_text(domain)));
}

static void begin_get_domain(HvpCall *call)
{
	need_on_domain(call, HVP_VERB_VIEW, get_domain);
}

static void refresh_domain(HvpCall *call)
{
	hvp_domains_refresh(call->context->domains, call->domain_uuid);
	get_domain(call);
}

static void begin_refresh_domain(HvpCall *call)
{
	need_on_domain(call, HVP_VERB_VIEW, refresh_domain);
}

/* --- patches --- */

static void tell_patch(const HvpCallContext *context, const char *sha256, JsonNode *document)
{
	hvp_events_add(context->events, HVP_EVENT_PATCH, sha256, NULL, NULL, document);
	hvp_metrics_count(context->metrics, HVP_METRICS_EVENTS, 1);
}

static void on_uploaded(GObject *source, GAsyncResult *result, gpointer data)
{
	HvpCall *call = data;
	g_autoptr(GError) error = NULL;
	g_autofree char *text = NULL;
	HvpPatchStoreUploaded what = HVP_PATCH_STORE_KEPT;
	const HvpStoredPatch *patch = hvp_patch_store_upload_finish(call->context->patches, result,
								    &what, &error);

	(void)source;
	if (patch == NULL) {
		hvp_call_fail(call, error, NULL);
		return;
	}
	if (what != HVP_PATCH_STORE_KEPT)
		tell_patch(call->context, patch->sha256, patch->document);
	text = hvp_fields_to_text(patch->document);
	hvp_call_answer(call, g_variant_new("(sb)", text, what == HVP_PATCH_STORE_ADDED));
}

/* A descriptor of our own for the one that came with the message. */
static int take_file(const HvpCall *call, GError **error)
{
	GDBusMessage *message = g_dbus_method_invocation_get_message(call->invocation);
	GUnixFDList *fds = g_dbus_message_get_unix_fd_list(message);
	int fd = -1;
	gint32 index;

	g_variant_get_child(call->parameters, 1, "h", &index);
	if (fds != NULL && index >= 0 && index < g_unix_fd_list_get_length(fds))
		fd = g_unix_fd_list_get(fds, index, NULL);
	if (fd < 0)
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "there is no file");
	return fd;
}

static GBytes *take_signature(const HvpCall *call, GError **error)
{
	g_autoptr(GVariant) signature = g_variant_get_child_value(call->parameters, 2);

	if (g_variant_get_size(signature) <= HVP_MINISIGN_MAX_BYTES)
		return g_variant_get_data_as_bytes(signature);
	hvp_problem_set(error, HVP_PROBLEM_TOO_LARGE, "the signature has more than %u bytes",
			HVP_MINISIGN_MAX_BYTES);
	return NULL;
}

static void answer_nothing(HvpCall *call)
{
	hvp_call_answer(call, NULL);
}

static void begin_may_upload(HvpCall *call)
{
	hvp_call_need(call, HVP_VERB_UPLOAD, answer_nothing);
}

static void upload_patch(HvpCall *call)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) signature = take_signature(call, &error);
	int fd = signature ? take_file(call, &error) : -1;

	if (fd < 0) {
		hvp_call_fail(call, error, NULL);
		return;
	}
	hvp_patch_store_upload(call->context->patches, fd, signature, call->caller->principal,
			       on_uploaded, call);
}

static void begin_upload_patch(HvpCall *call)
{
	hvp_call_need(call, HVP_VERB_UPLOAD, upload_patch);
}

static void list_patches(HvpCall *call)
{
	g_autoptr(GPtrArray) patches = hvp_patch_store_list(call->context->patches);
	GString *array = g_string_new("[");

	for (guint i = 0; i < patches->len; i++) {
		const HvpStoredPatch *patch = g_ptr_array_index(patches, i);
		g_autofree char *text = hvp_fields_to_text(patch->document);

		add_element(array, text);
	}
	answer_array(call, array);
}

static void begin_list_patches(HvpCall *call)
{
	hvp_call_need_view(call, list_patches);
}

static void get_patch(HvpCall *call)
{
	g_autoptr(GError) error = NULL;
	const HvpStoredPatch *patch = hvp_patch_store_find(call->context->patches,
							   hvp_call_get_text(call, 1), &error);

	if (patch != NULL)
		answer_node(call, patch->document);
	else
		hvp_call_fail(call, error, NULL);
}

static void begin_get_patch(HvpCall *call)
{
	hvp_call_need_view(call, get_patch);
}

static bool remove_patch(const HvpCall *call, const char *sha256, GError **error)
{
	const HvpOperation *user = hvp_operations_find_user(call->context->operations, sha256);

	if (user == NULL)
		return hvp_patch_store_remove(call->context->patches, sha256, error);
	if (hvp_call_may_view(call, user->domain, user->domain_name))
		return hvp_problem_set_in_the_way(error, user->id);
	return hvp_error_set(error, HVP_ERROR_CONFLICT, "an operation uses the patch");
}

static void delete_patch(HvpCall *call)
{
	const char *sha256 = hvp_call_get_text(call, 1);
	g_autoptr(GError) error = NULL;

	if (!remove_patch(call, sha256, &error)) {
		hvp_call_fail(call, error, NULL);
		return;
	}
	tell_patch(call->context, sha256, NULL);
	hvp_call_answer(call, NULL);
}

static void see_and_delete_patch(HvpCall *call)
{
	hvp_call_see(call, delete_patch);
}

static void begin_delete_patch(HvpCall *call)
{
	hvp_call_need(call, HVP_VERB_DELETE, see_and_delete_patch);
}

/* --- operations --- */

/* As it is now; the caller's. */
static char *operation_text(const HvpOperation *operation)
{
	g_autoptr(JsonNode) document = hvp_operation_to_document(operation);

	return hvp_fields_to_text(document);
}

static HvpOperationsCall wanted_by(const HvpCall *call)
{
	return (HvpOperationsCall){ hvp_call_get_text(call, 1), call->domain_name,
				    call->caller->principal, hvp_call_get_text(call, 2),
				    hvp_call_get_text(call, 3) };
}

static const HvpOperation *start(HvpCall *call, bool *ret_created, GError **error)
{
	HvpOperations *operations = call->context->operations;
	HvpOperationsCall wanted = wanted_by(call);
	const HvpOperation *found;

	*ret_created = false;
	if (!hvp_operations_find_by_key(operations, &wanted, &found, error))
		return NULL;
	if (found != NULL)
		return found;
	*ret_created = true;
	return hvp_operations_start(operations, &wanted, g_steal_pointer(&call->request), error);
}

static void start_operation(HvpCall *call)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *text = NULL;
	const HvpOperation *operation;
	bool created;

	if (find_again(call) == NULL)
		return;
	operation = start(call, &created, &error);
	if (operation == NULL) {
		hvp_call_fail(call, error, NULL);
		return;
	}
	text = operation_text(operation);
	hvp_call_answer(call, g_variant_new("(sb)", text, created));
}

/* To apply in place of what is in force is to replace, however it is asked for. */
static HvpVerb verb_needed(const HvpOperationRequest *request)
{
	JsonNode *replace = hvp_json_text_typed_member(json_node_get_object(request->options),
						       "replace", G_TYPE_BOOLEAN);

	if (request->verb == HVP_VERB_APPLY && replace != NULL && json_node_get_boolean(replace))
		return HVP_VERB_REPLACE;
	return request->verb;
}

/* What this call began when it came before; NULL: nothing. */
static const HvpOperation *find_begun(const HvpCall *call)
{
	HvpOperationsCall wanted = wanted_by(call);
	const HvpOperation *found;

	if (!hvp_operations_find_by_key(call->context->operations, &wanted, &found, NULL))
		return NULL;
	return found;
}

static void answer_begun(HvpCall *call)
{
	const HvpOperation *operation = find_begun(call);
	g_autofree char *text = operation ? operation_text(operation) : NULL;
	g_autoptr(GError) error = NULL;

	if (text != NULL) {
		hvp_call_answer(call, g_variant_new("(sb)", text, false));
		return;
	}
	hvp_error_set(&error, HVP_ERROR_NOT_FOUND, "there is no such " OPERATION);
	hvp_call_fail(call, error, NULL);
}

/* Who asks again is to learn what became of it, also where its domain has gone since. */
static void begin_start_operation(HvpCall *call)
{
	const HvpConfig *config = call->context->config;
	HvpOperationRequestLimits limits = { config->max_pause_msec, config->max_timeout_seconds };
	const HvpOperation *begun = find_begun(call);
	g_autoptr(GError) error = NULL;

	if (begun != NULL) {
		hvp_call_need_on(call, verb_needed(begun->request), begun->domain,
				 begun->domain_name, OPERATION, answer_begun);
		return;
	}
	call->request = hvp_operation_request_parse(hvp_call_get_text(call, 2), &limits, &error);
	if (call->request != NULL)
		need_on_domain(call, verb_needed(call->request), start_operation);
	else
		hvp_call_fail(call, error, NULL);
}

static void need_on_operation(HvpCall *call, HvpVerb verb, HvpCallStep next)
{
	const HvpOperation *operation = hvp_operations_find(call->context->operations,
							    hvp_call_get_text(call, 1));

	hvp_call_need_on(call, verb, operation ? operation->domain : NULL,
			 operation ? operation->domain_name : NULL, OPERATION, next);
}

static void get_operation(HvpCall *call)
{
	const HvpOperation *operation = hvp_operations_find(call->context->operations,
							    hvp_call_get_text(call, 1));
	g_autoptr(GError) error = NULL;

	if (operation != NULL) {
		answer_text(call, operation_text(operation));
		return;
	}
	hvp_error_set(&error, HVP_ERROR_NOT_FOUND, "there is no such " OPERATION);
	hvp_call_fail(call, error, NULL);
}

static void begin_get_operation(HvpCall *call)
{
	need_on_operation(call, HVP_VERB_VIEW, get_operation);
}

static void cancel_operation(HvpCall *call)
{
	const char *id = hvp_call_get_text(call, 1);
	g_autofree char *instance = g_strdup_printf("/v1/operations/%s", id);
	g_autoptr(GError) error = NULL;

	/* With what it is then: who may cancel it need not be able to ask for it. */
	if (hvp_operations_cancel(call->context->operations, id, &error))
		get_operation(call);
	else
		hvp_call_fail(call, error, instance);
}

static void begin_cancel_operation(HvpCall *call)
{
	need_on_operation(call, HVP_VERB_CANCEL, cancel_operation);
}

/* What ListOperations is asked for. */
typedef struct {
	const char *domain; /* NULL: any, as the others */
	const char *state;
	const char *verb;
	int active; /* -1: any */
	gint64 limit;
} Filter;

static bool read_active(JsonObject *object, Filter *filter, GError **error)
{
	JsonNode *active = hvp_json_text_typed_member(object, "active", G_TYPE_BOOLEAN);

	filter->active = active ? json_node_get_boolean(active) : -1;
	return active != NULL || !json_object_has_member(object, "active") ||
	       hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "active: not a boolean");
}

static bool read_filter(JsonObject *object, Filter *filter, GError **error)
{
	static const char *const known[] = { "domain", "state", "verb", "active", "limit", NULL };
	HvpOperationState state;
	HvpVerb verb;

	if (!hvp_fields_check_members(object, known, "the filter", error) ||
	    !read_active(object, filter, error))
		return false;
	filter->domain = hvp_fields_get_text(object, "domain");
	filter->state = hvp_fields_get_text(object, "state");
	filter->verb = hvp_fields_get_text(object, "verb");
	filter->limit = hvp_fields_get_integer(object, "limit", DEFAULT_LIST);
	if ((json_object_has_member(object, "state") &&
	     (filter->state == NULL || !hvp_operation_find_state(filter->state, &state))) ||
	    (json_object_has_member(object, "verb") &&
	     (filter->verb == NULL || !hvp_roles_find_verb(filter->verb, &verb))) ||
	    (json_object_has_member(object, "domain") && filter->domain == NULL) ||
	    filter->limit < 1 || filter->limit > MAX_LIST)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "the filter has a value that cannot be");
	return true;
}

static bool matches(const HvpOperation *operation, const Filter *filter)
{
	const char *state = hvp_operation_state_name(operation->state);
	const char *verb = hvp_roles_verb_name(operation->request->verb);

	return (filter->domain == NULL || strcmp(filter->domain, operation->domain) == 0) &&
	       (filter->state == NULL || strcmp(filter->state, state) == 0) &&
	       (filter->verb == NULL || strcmp(filter->verb, verb) == 0) &&
	       (filter->active < 0 ||
		hvp_operation_is_end(operation->state) != (filter->active != 0));
}

static void answer_operations(HvpCall *call, const Filter *filter)
{
	g_autoptr(GPtrArray) operations = hvp_operations_list(call->context->operations);
	GString *array = g_string_new("[");
	gint64 count = 0;

	for (guint i = 0; i < operations->len && count < filter->limit; i++) {
		const HvpOperation *operation = g_ptr_array_index(operations, i);
		g_autofree char *text = NULL;

		if (!matches(operation, filter) ||
		    !hvp_call_may_view(call, operation->domain, operation->domain_name))
			continue;
		text = operation_text(operation);
		/* Results can be long. The newest are there, as with a lower limit. */
		if (array->len + strlen(text) + 2 > MAX_ANSWER_BYTES)
			break;
		add_element(array, text);
		count++;
	}
	answer_array(call, array);
}

static void list_operations(HvpCall *call)
{
	const char *text = hvp_call_get_text(call, 1);
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) root = hvp_fields_parse_request(text[0] != '\0' ? text : "{}",
							    "the filter", &error);
	Filter filter;

	if (root != NULL && read_filter(json_node_get_object(root), &filter, &error))
		answer_operations(call, &filter);
	else
		hvp_call_fail(call, error, NULL);
}

static void begin_list_operations(HvpCall *call)
{
	hvp_call_need_view(call, list_operations);
}

/* --- events --- */

static bool may_view_event(const HvpEvent *event, gpointer data)
{
	return event->domain_uuid == NULL ||
	       hvp_call_may_view(data, event->domain_uuid, event->domain_name);
}

static void get_events(HvpCall *call)
{
	const HvpEvents *events = call->context->events;
	g_autofree char *text = NULL;
	guint64 since;
	guint32 limit;

	if (call->caller->is_direct && call->sees_all)
		hvp_listeners_add(call->context->listeners, call->caller);
	g_variant_get_child(call->parameters, 1, "t", &since);
	g_variant_get_child(call->parameters, 2, "u", &limit);
	text = hvp_events_read(events, since, limit, may_view_event, call);
	hvp_call_answer(call, g_variant_new("(stt)", text, hvp_events_get_oldest(events),
					    hvp_events_get_newest(events)));
}

static void begin_get_events(HvpCall *call)
{
	/* Who speaks for others hears all, and asks for each of them what that one may hear. */
	if (call->caller->is_api)
		hvp_listeners_add(call->context->listeners, call->caller);
	hvp_call_need_view(call, get_events);
}

/* --- metrics --- */

/* Those that the caller may view; @now counts all. */
static GArray *list_patched(const HvpCall *call, HvpMetricsNow *now)
{
	g_autoptr(GPtrArray) all = hvp_domains_list(call->context->domains);
	GArray *patched = g_array_new(TRUE, TRUE, sizeof(HvpMetricsDomain));

	for (guint i = 0; i < all->len; i++) {
		const HvpDomain *domain = g_ptr_array_index(all, i);
		HvpMetricsDomain one = { domain->name, domain->uuid,
					 hvp_domain_count_patches(domain) };

		if (one.patches == 0)
			continue;
		now->patched_domains++;
		if (hvp_call_may_view(call, domain->uuid, domain->name))
			g_array_append_val(patched, one);
	}
	now->domains = all->len;
	return patched;
}

static void get_metrics(HvpCall *call)
{
	const HvpCallContext *context = call->context;
	g_autoptr(GPtrArray) patches = hvp_patch_store_list(context->patches);
	HvpMetricsNow now = { .stored_patches = patches->len };
	g_autoptr(GArray) patched = list_patched(call, &now);

	now.patched = (const HvpMetricsDomain *)(const void *)patched->data;
	hvp_operations_count(context->operations, &now.queued, &now.running);
	answer_text(call, hvp_metrics_to_text(context->metrics, &now));
}

static void see_and_get_metrics(HvpCall *call)
{
	hvp_call_see(call, get_metrics);
}

static void begin_get_metrics(HvpCall *call)
{
	hvp_call_need(call, HVP_VERB_METRICS, see_and_get_metrics);
}

HvpCallStep hvp_methods_find(const char *name)
{
	static const struct {
		const char *name;
		HvpCallStep begin;
	} methods[] = {
		{ "ListDomains", begin_list_domains },
		{ "GetDomain", begin_get_domain },
		{ "RefreshDomain", begin_refresh_domain },
		{ "MayUpload", begin_may_upload },
		{ "UploadPatch", begin_upload_patch },
		{ "ListPatches", begin_list_patches },
		{ "GetPatch", begin_get_patch },
		{ "DeletePatch", begin_delete_patch },
		{ "StartOperation", begin_start_operation },
		{ "GetOperation", begin_get_operation },
		{ "ListOperations", begin_list_operations },
		{ "CancelOperation", begin_cancel_operation },
		{ "GetEvents", begin_get_events },
		{ "GetMetrics", begin_get_metrics },
	};

	for (guint i = 0; i < G_N_ELEMENTS(methods); i++)
		if (strcmp(methods[i].name, name) == 0)
			return methods[i].begin;
	return NULL;
}
