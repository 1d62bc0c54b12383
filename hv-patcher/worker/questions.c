/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "worker/questions.h"

#include <string.h>

#include "base/json-text.h"
#include "vm/qmp-server.h"

#define ANSWER_USEC (10 * G_USEC_PER_SEC)
#define ADDRESS "gpa2hva 0x"

struct HvpQuestions {
	int fd; /* borrowed from the server */
	HvpQmpServer *server;
	HvpQmp *qmp;
	bool greeted;
};

/* A line of the human monitor: nothing behind it, for that reads several commands of none. */
static bool is_allowed_line(const char *line)
{
	gsize digits;

	if (strcmp(line, "info mtree -f") == 0 || strcmp(line, "info registers -a") == 0)
		return true;
	if (!g_str_has_prefix(line, ADDRESS))
		return false;
	line += strlen(ADDRESS);
	digits = strspn(line, "0123456789abcdef");
	return digits > 0 && digits <= 16 && line[digits] == 0;
}

static bool is_allowed_human(JsonObject *arguments)
{
	JsonNode *line = arguments ? hvp_json_text_typed_member(arguments, "command-line",
								G_TYPE_STRING)
				   : NULL;

	return line != NULL && json_object_get_size(arguments) == 1 &&
	       is_allowed_line(json_node_get_string(line));
}

bool hvp_questions_are_allowed(const char *execute, JsonObject *arguments)
{
	static const char *const queries[] = {
		"query-version", "query-target", "query-kvm",	  "query-cpus-fast",
		"query-status",	 "query-dump",	 "query-migrate", "query-chardev",
		"query-jobs",	 NULL,
	};

	if (strcmp(execute, "human-monitor-command") == 0)
		return is_allowed_human(arguments);
	return g_strv_contains(queries, execute) &&
	       (arguments == NULL || json_object_get_size(arguments) == 0);
}

static JsonObject *get_arguments(JsonObject *command)
{
	JsonNode *node = json_object_get_member(command, "arguments");

	return node != NULL && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

/* QEMU's answer, as a whole one. */
static char *wrap(JsonNode *value)
{
	g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
	JsonObject *object = json_object_new();

	json_object_set_member(object, "return", value);
	json_node_take_object(root, object);
	return json_to_string(root, FALSE);
}

static char *run(gpointer data, const char *command, int fd, GError **error)
{
	HvpQuestions *self = data;
	g_autoptr(JsonNode) node = json_from_string(command, NULL);
	JsonObject *object = node != NULL ? json_node_get_object(node) : NULL;
	const char *execute = object ? json_object_get_string_member(object, "execute") : "";
	JsonNode *value;

	(void)fd;
	if (object == NULL || !hvp_questions_are_allowed(execute, get_arguments(object))) {
		hvp_error_set(error, HVP_ERROR_PERMISSION,
			      "this command is not for who only asks");
		return NULL;
	}
	value = hvp_qmp_execute(self->qmp, execute, get_arguments(object),
				hvp_deadline_in(ANSWER_USEC), error);
	return value != NULL ? wrap(value) : NULL;
}

HvpQuestions *hvp_questions_new(int fd, HvpQmp *qmp)
{
	HvpQuestions *self = g_new0(HvpQuestions, 1);

	self->fd = fd;
	self->qmp = qmp;
	self->server = hvp_qmp_server_new(fd, run, self);
	self->greeted = hvp_qmp_server_greet(self->server, NULL);
	return self;
}

void hvp_questions_free(HvpQuestions *self)
{
	if (self == NULL)
		return;
	hvp_qmp_server_free(self->server);
	hvp_qmp_free(self->qmp);
	g_free(self);
}

int hvp_questions_get_fd(const HvpQuestions *self)
{
	return self->fd;
}

bool hvp_questions_serve(HvpQuestions *self)
{
	if (!self->greeted || !hvp_qmp_server_receive(self->server, NULL))
		return false;
	while (hvp_qmp_server_has_request(self->server))
		if (!hvp_qmp_server_serve(self->server, NULL))
			return false;
	return true;
}

int hvp_questions_steal_fd(HvpQuestions *self)
{
	return hvp_qmp_steal_fd(self->qmp);
}
