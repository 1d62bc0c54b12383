/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/remote.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/deadline.h"
#include "cli/answer.h"
#include "cli/output.h"

#define ORACLE_VARIABLE "HVPATCH_ORACLE"
#define URI_VARIABLE "LIBVIRT_DEFAULT_URI"
#define SIGNATURE_SUFFIX ".minisig"
#define MAX_SIGNATURE_BYTES 4096U
#define FIRST_WAIT_USEC (20 * 1000)
#define LAST_WAIT_USEC (200 * 1000)
/* A daemon that was killed is started again by systemd, and brings domains home first. */
#define RETURN_USEC (60 * G_USEC_PER_SEC)
#define LOOK_USEC (60 * G_USEC_PER_SEC)
#define EVENTS_AT_A_TIME 100U

struct HvpRemote {
	HvpBus *bus;
	char *uuid;
	char *why_not; /* it is not looked into; NULL: it is */
};

/* --- finding the domain --- */

static bool is_set(const char *text)
{
	return text != NULL && text[0] != 0 && !g_str_equal(text, "none");
}

/* What only this program itself can do. */
static bool wants_own_way(const HvpCli *cli)
{
	return cli->direct || cli->domain == NULL || cli->monitor || cli->agent_path != NULL ||
	       cli->backend != HVP_TARGET_BACKEND_AUTO || cli->trap_kind != 0 ||
	       cli->oracle_path != NULL || is_set(g_getenv(ORACLE_VARIABLE));
}

static bool is_number(const char *text)
{
	return text[0] != 0 && text[strspn(text, "0123456789")] == 0;
}

/* NULL where libvirt does not know, or tell. */
static char *ask_libvirt(const HvpCli *cli)
{
	g_autoptr(HvpLibvirt) libvirt = hvp_libvirt_connect(cli->connect_uri, NULL);
	g_autoptr(HvpLibvirtDomain) domain = libvirt ? hvp_libvirt_find(libvirt, cli->domain, NULL)
						     : NULL;

	return domain ? g_strdup(hvp_libvirt_domain_get_uuid(domain)) : NULL;
}

/* What libvirt says of one that does not run; NULL: it does, if only to stand. */
static char *tell_inactive(JsonObject *domain)
{
	const char *state = hvp_answer_text(domain, "state");
	const char *name = hvp_answer_text(domain, "name");

	if (g_strcmp0(state, "shut off") != 0 || name == NULL)
		return NULL;
	return g_strdup_printf("domain %s is %s", name, state);
}

/* Nothing where the daemon has none that is named so. */
static void find_in_list(HvpRemote *self, JsonNode *list, const char *which)
{
	JsonArray *domains = JSON_NODE_HOLDS_ARRAY(list) ? json_node_get_array(list) : NULL;

	for (guint i = 0; domains != NULL && i < json_array_get_length(domains); i++) {
		JsonObject *domain = hvp_answer_object_at(domains, i);
		const char *uuid = hvp_answer_text(domain, "uuid");

		if (uuid != NULL && (g_ascii_strcasecmp(uuid, which) == 0 ||
				     g_strcmp0(hvp_answer_text(domain, "name"), which) == 0)) {
			self->uuid = g_strdup(uuid);
			self->why_not = tell_inactive(domain);
			return;
		}
	}
}

/* Of another connection than the daemon's, and by number, libvirt tells which one is meant. */
static bool find_domain(HvpRemote *self, const HvpCli *cli, GError **error)
{
	bool by_libvirt = cli->connect_uri != NULL || is_set(g_getenv(URI_VARIABLE)) ||
			  is_number(cli->domain);
	g_autofree char *uuid = by_libvirt ? ask_libvirt(cli) : NULL;
	g_autoptr(JsonNode) list = NULL;

	if (by_libvirt && uuid == NULL)
		return true;
	list = hvp_bus_get(self->bus, "ListDomains", NULL, error);
	if (list == NULL)
		return false;
	find_in_list(self, list, uuid ? uuid : cli->domain);
	return true;
}

bool hvp_remote_open(const HvpCli *cli, HvpRemote **ret_remote, GError **error)
{
	g_autoptr(HvpRemote) self = g_new0(HvpRemote, 1);
	GError *reason = NULL;

	*ret_remote = NULL;
	self->bus = wants_own_way(cli) ? NULL : hvp_bus_open();
	if (self->bus == NULL)
		return true;
	if (!find_domain(self, cli, &reason)) {
		/* One that ends just now is as good as none. */
		if (hvp_bus_is_gone(self->bus)) {
			g_error_free(reason);
			return true;
		}
		g_propagate_error(error, reason);
		return false;
	}
	if (self->uuid != NULL)
		*ret_remote = g_steal_pointer(&self);
	return true;
}

void hvp_remote_free(HvpRemote *self)
{
	if (self == NULL)
		return;
	hvp_bus_free(self->bus);
	g_free(self->uuid);
	g_free(self->why_not);
	g_free(self);
}

HvpBus *hvp_remote_get_bus(const HvpRemote *self)
{
	return self->bus;
}

const char *hvp_remote_get_uuid(const HvpRemote *self)
{
	return self->uuid;
}

bool hvp_remote_takes(const HvpManifest *manifest)
{
	return manifest == NULL || !manifest->is_beside || manifest->standing[0] == NULL;
}

/* --- the request --- */

/* What was looked at is what is uploaded, whatever becomes of the file. */
static int open_copy(const HvpPatch *patch, GError **error)
{
	gsize length;
	const char *bytes = g_bytes_get_data(patch->bytes, &length);
	int fd = memfd_create("hvpatch-patch", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	gsize done = 0;

	while (fd >= 0 && done < length) {
		ssize_t count = write(fd, bytes + done, length - done);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			break;
		done += (gsize)count;
	}
	if (fd >= 0 && done == length && lseek(fd, 0, SEEK_SET) == 0)
		return fd;
	hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "a copy of the patch in memory");
	if (fd >= 0)
		close(fd);
	return -1;
}

/* The detached signature that lies beside; no bytes where there is none. */
static GVariant *read_signature(const char *path)
{
	g_autofree char *beside = g_strconcat(path, SIGNATURE_SUFFIX, NULL);
	g_autofree char *text = NULL;
	gsize length = 0;

	if (!g_file_get_contents(beside, &text, &length, NULL) || length > MAX_SIGNATURE_BYTES)
		length = 0;
	return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, text, length, 1);
}

static bool upload(HvpRemote *self, const HvpRemoteRequest *request, GError **error)
{
	g_autoptr(GVariant) reply = NULL;
	int fd = open_copy(request->patch, error);

	if (fd < 0)
		return false;
	reply = hvp_bus_call_with_file(self->bus, "UploadPatch",
				       g_variant_new("(h@ay)", 0, read_signature(request->path)),
				       fd, "(sb)", error);
	close(fd);
	return reply != NULL;
}

static void add_number(JsonObject *object, const char *name, gint64 value, gint64 standard,
		       gint64 unit)
{
	if (value == standard)
		return;
	if (value % unit == 0)
		json_object_set_int_member(object, name, value / unit);
	else
		json_object_set_double_member(object, name, (double)value / (double)unit);
}

/* The daemon knows what the module itself says. */
static void add_kthreads(JsonObject *object, const HvpRemoteRequest *request)
{
	static const char *const policies[] = { [HVP_KTHREADS_ANY] = "any",
						[HVP_KTHREADS_REFUSE] = "refuse",
						[HVP_KTHREADS_PARKED] = "parked" };
	const HvpManifest *manifest = request->options->manifest;
	g_autofree char *patterns = NULL, *text = NULL;

	if (manifest == NULL || (request->kthreads == NULL && !manifest->is_beside))
		return;
	patterns = manifest->patterns ? g_strjoinv(",", manifest->patterns) : NULL;
	text = g_strconcat(policies[manifest->kthreads], patterns ? "=" : NULL, patterns, NULL);
	json_object_set_string_member(object, "kthreads", text);
}

static void add_limits(JsonObject *object, const HvpOptions *options)
{
	add_number(object, "timeout", options->timeout_usec, HVP_DEFAULT_TIMEOUT_USEC,
		   G_USEC_PER_SEC);
	add_number(object, "max_pause", options->max_pause_usec, HVP_DEFAULT_MAX_PAUSE_USEC, 1000);
}

static JsonObject *make_options(const HvpRemoteRequest *request)
{
	const HvpOptions *options = request->options;
	JsonObject *object = json_object_new();
	JsonArray *accepted = NULL;

	if (request->has_limits)
		add_limits(object, options);
	if (options->no_prod)
		json_object_set_boolean_member(object, "prod", FALSE);
	if (options->replace != HVP_REPLACE_AS_PATCH_SAYS)
		json_object_set_boolean_member(object, "replace",
					       options->replace == HVP_REPLACE_YES);
	add_kthreads(object, request);
	for (gsize i = 0; options->accepted != NULL && options->accepted[i] != NULL; i++) {
		accepted = accepted ? accepted : json_array_new();
		json_array_add_string_element(accepted, options->accepted[i]);
	}
	if (accepted != NULL)
		json_object_set_array_member(object, "accept", accepted);
	return object;
}

static char *make_request(const HvpRemoteRequest *request)
{
	g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
	JsonObject *object = json_object_new();

	json_object_set_string_member(object, "verb", request->verb);
	if (request->patch != NULL)
		json_object_set_string_member(object, "patch", request->patch->sha256);
	if (request->name != NULL)
		json_object_set_string_member(object, "name", request->name);
	json_object_set_object_member(object, "options", make_options(request));
	json_node_take_object(root, object);
	return json_to_string(root, FALSE);
}

static JsonNode *start(HvpRemote *self, const HvpRemoteRequest *request, GError **error)
{
	g_autofree char *text = make_request(request);
	g_autofree char *key = g_uuid_string_random();
	g_autoptr(GVariant) reply = NULL;
	const char *operation;

	reply = hvp_bus_call(self->bus, "StartOperation",
			     g_variant_new("(sss)", self->uuid, text, key), "(sb)", error);
	if (reply == NULL)
		return NULL;
	g_variant_get(reply, "(&sb)", &operation, NULL);
	return hvp_answer_parse(operation, "StartOperation", error);
}

/* --- waiting --- */

static volatile sig_atomic_t last_signal, signal_count;

static void note_signal(int number)
{
	last_signal = number;
	signal_count++;
}

static void set_signals(void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static G_GNUC_NORETURN void end_by_signal(void)
{
	int number = last_signal;

	set_signals(SIG_DFL);
	raise(number);
	_exit(128 + number);
}

bool hvp_remote_is_end(const char *state)
{
	static const char *const ends[] = { "checked",	 "applied",	   "reverted",
					    "recovered", "failed",	   "rolled-back",
					    "cancelled", "needs-operator", NULL };

	return state != NULL && g_strv_contains(ends, state);
}

typedef struct {
	HvpRemote *remote;
	HvpCliProgress *progress;
	char *id;
	bool asked_to_cancel;
} Wait;

static void say(Wait *self, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void say(Wait *self, const char *format, ...)
{
	g_autofree char *text = NULL, *escaped = NULL;
	va_list arguments;

	va_start(arguments, format);
	text = g_strdup_vprintf(format, arguments);
	va_end(arguments);
	escaped = hvp_cli_output_escape(text);
	hvp_cli_progress_end(self->progress);
	fprintf(stderr, "hvpatch: %s\n", escaped);
}

/* The second time he does not want to wait any longer. */
static void heed_signals(Wait *self)
{
	g_autoptr(GVariant) reply = NULL;
	g_autoptr(GError) reason = NULL;

	if (signal_count > 1) {
		say(self, "operation %s goes on", self->id);
		end_by_signal();
	}
	if (signal_count == 0 || self->asked_to_cancel)
		return;
	self->asked_to_cancel = true;
	reply = hvp_bus_call(self->remote->bus, "CancelOperation", g_variant_new("(s)", self->id),
			     "(s)", &reason);
	if (reply == NULL)
		say(self, "operation %s is not cancelled: %s", self->id, reason->message);
}

static JsonNode *read_operation(Wait *self, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(RETURN_USEC);

	while (true) {
		GError *reason = NULL;
		JsonNode *operation = hvp_bus_get(self->remote->bus, "GetOperation",
						  g_variant_new("(s)", self->id), &reason);

		if (operation != NULL)
			return operation;
		heed_signals(self);
		if (!hvp_bus_is_gone(self->remote->bus)) {
			g_propagate_error(error, reason);
			return NULL;
		}
		if (hvp_deadline_passed(deadline)) {
			g_propagate_prefixed_error(
				error, reason,
				"what became of operation %s is not known: ", self->id);
			return NULL;
		}
		g_error_free(reason);
		hvp_cli_progress_show("hvpatchd went away; waiting for it", 0, 0, self->progress);
		g_usleep(LAST_WAIT_USEC);
	}
}

static void show_progress(Wait *self, JsonObject *operation)
{
	const char *step = hvp_answer_text(operation, "step");
	const char *state = hvp_answer_text(operation, "state");

	if (step == NULL || step[0] == 0)
		step = state ? state : "";
	hvp_cli_progress_show(step, (guint)hvp_answer_integer(operation, "attempt"),
			      (guint)hvp_answer_integer(operation, "blockers"), self->progress);
}

/* Takes @operation, as it was begun; returns it as it ended. */
static JsonNode *wait_for_end(Wait *self, JsonNode *operation, GError **error)
{
	gulong pause = FIRST_WAIT_USEC;

	while (operation != NULL) {
		JsonObject *object = json_node_get_object(operation);

		if (hvp_remote_is_end(hvp_answer_text(object, "state")))
			break;
		show_progress(self, object);
		heed_signals(self);
		g_usleep(pause);
		pause = MIN(pause * 2, LAST_WAIT_USEC);
		json_node_unref(operation);
		operation = read_operation(self, error);
		if (operation != NULL && !JSON_NODE_HOLDS_OBJECT(operation))
			g_clear_pointer(&operation, json_node_unref);
	}
	return operation;
}

/* As a program that does the same itself would end. */
static void end_if_cancelled(Wait *self, JsonNode *operation)
{
	const char *state = hvp_answer_text(json_node_get_object(operation), "state");

	if (!self->asked_to_cancel || g_strcmp0(state, "cancelled") != 0)
		return;
	say(self, "operation %s was cancelled", self->id);
	end_by_signal();
}

static JsonNode *begin_and_wait(Wait *wait, const HvpRemoteRequest *request, GError **error)
{
	g_autoptr(JsonNode) begun = start(wait->remote, request, error);
	const char *id = NULL;

	if (begun == NULL)
		return NULL;
	if (JSON_NODE_HOLDS_OBJECT(begun))
		id = hvp_answer_text(json_node_get_object(begun), "id");
	if (id == NULL) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "hvpatchd names no operation");
		return NULL;
	}
	wait->id = g_strdup(id);
	return wait_for_end(wait, g_steal_pointer(&begun), error);
}

bool hvp_remote_run(HvpRemote *self, const HvpRemoteRequest *request, JsonNode **ret_operation,
		    GError **error)
{
	Wait wait = { .remote = self, .progress = request->progress };

	if (request->patch != NULL && !upload(self, request, error))
		return false;
	set_signals(note_signal);
	*ret_operation = begin_and_wait(&wait, request, error);
	set_signals(SIG_DFL);
	if (*ret_operation != NULL)
		end_if_cancelled(&wait, *ret_operation);
	g_free(wait.id);
	return *ret_operation != NULL;
}

/* --- looking --- */

/* Whether @domain is of a look at @asked or later (times of equal form and zone), or of one in
 * vain. */
static bool is_of_look(JsonObject *domain, const char *asked)
{
	const char *seen = hvp_answer_text(domain, "seen_at");

	if (hvp_answer_object(domain, "error") != NULL)
		return true;
	return seen != NULL && strncmp(seen, asked, strlen("YYYY-MM-DDTHH:MM:SS")) >= 0;
}

/* Whether @event, behind which *@since is put, tells of the look: the domain's document then. */
static JsonObject *take_event(HvpRemote *self, JsonObject *event, const char *asked, guint64 *since)
{
	JsonObject *domain = hvp_answer_object(event, "document");

	*since = MAX(*since, (guint64)hvp_answer_integer(event, "seq"));
	if (g_strcmp0(hvp_answer_text(event, "type"), "domain") != 0 ||
	    g_strcmp0(hvp_answer_text(event, "id"), self->uuid) != 0)
		return NULL;
	return domain != NULL && is_of_look(domain, asked) ? domain : NULL;
}

/* *@ret_domain stays NULL where none has come yet. */
static bool read_events(HvpRemote *self, const char *asked, guint64 *since, JsonNode **ret_domain,
			GError **error)
{
	GVariant *arguments = g_variant_new("(tu)", *since, EVENTS_AT_A_TIME);
	g_autoptr(GVariant) reply = hvp_bus_call(self->bus, "GetEvents", arguments, "(stt)", error);
	g_autoptr(JsonNode) events = NULL;
	JsonArray *array;
	const char *text;

	if (reply == NULL)
		return false;
	g_variant_get(reply, "(&stt)", &text, NULL, NULL);
	events = hvp_answer_parse(text, "GetEvents", error);
	if (events == NULL)
		return false;
	array = JSON_NODE_HOLDS_ARRAY(events) ? json_node_get_array(events) : NULL;
	for (guint i = 0; array != NULL && i < json_array_get_length(array); i++) {
		JsonObject *domain = take_event(self, hvp_answer_object_at(array, i), asked, since);

		if (domain == NULL)
			continue;
		if (*ret_domain != NULL)
			json_node_unref(*ret_domain);
		*ret_domain = json_node_new(JSON_NODE_OBJECT);
		json_node_set_object(*ret_domain, domain);
	}
	return true;
}

static bool get_newest_event(HvpRemote *self, guint64 *ret_newest, GError **error)
{
	g_autoptr(GVariant) reply = hvp_bus_call(
		self->bus, "GetEvents", g_variant_new("(tu)", G_MAXINT64, 1U), "(stt)", error);

	if (reply == NULL)
		return false;
	g_variant_get(reply, "(&stt)", NULL, NULL, ret_newest);
	return true;
}

static bool refresh(HvpRemote *self, GError **error)
{
	g_autoptr(GVariant) reply = hvp_bus_call(self->bus, "RefreshDomain",
						 g_variant_new("(s)", self->uuid), "(s)", error);

	return reply != NULL;
}

bool hvp_remote_look(HvpRemote *self, JsonNode **ret_domain, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(LOOK_USEC);
	g_autoptr(GDateTime) now = g_date_time_new_now_utc();
	g_autofree char *asked = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");
	g_autoptr(JsonNode) domain = NULL;
	gulong pause = FIRST_WAIT_USEC;
	JsonObject *failure;
	guint64 since = 0;

	if (self->why_not != NULL)
		return hvp_error_set(error, HVP_ERROR_CONFLICT, "%s", self->why_not);
	if (!get_newest_event(self, &since, error) || !refresh(self, error))
		return false;
	while (domain == NULL && !hvp_deadline_passed(deadline)) {
		if (!read_events(self, asked, &since, &domain, error))
			return false;
		if (domain == NULL)
			g_usleep(pause);
		pause = MIN(pause * 2, LAST_WAIT_USEC);
	}
	if (domain == NULL)
		return hvp_error_set(error, HVP_ERROR_TIMED_OUT,
				     "hvpatchd has not looked at the domain yet");
	failure = hvp_answer_object(json_node_get_object(domain), "error");
	if (failure != NULL)
		return hvp_answer_fail(failure, error);
	*ret_domain = g_steal_pointer(&domain);
	return true;
}
