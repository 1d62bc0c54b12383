/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "follow/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json-text.h"

/* Also where a newer one was installed since, whose keeper this one may not know. */
#define OURSELVES "/proc/self/exe"
#define OWN_NAME "hvpatch"
#define READ_BYTES 65536
#define MAX_DEPTH 16U
#define MAX_VALUES 1000000U

struct HvpChild {
	GPid pid; /* 0: it has ended */
	int output;
	GString *text;
	HvpDeadline deadline;
	int exit_status;
};

static char **make_arguments(const char *program, const char *const *arguments)
{
	GPtrArray *all = g_ptr_array_new();

	g_ptr_array_add(all, g_strdup(program ? program : OURSELVES));
	g_ptr_array_add(all, g_strdup(program ? program : OWN_NAME));
	for (gsize i = 0; arguments[i] != NULL; i++)
		g_ptr_array_add(all, g_strdup(arguments[i]));
	g_ptr_array_add(all, NULL);
	return (char **)g_ptr_array_free(all, FALSE);
}

HvpChild *hvp_child_start(const char *program, const char *const *arguments, gint64 timeout_usec,
			  GError **error)
{
	g_auto(GStrv) all = make_arguments(program, arguments);
	g_autoptr(GError) reason = NULL;
	HvpChild *self;
	GPid pid;
	int output;

	if (!g_spawn_async_with_pipes(NULL, all, NULL,
				      G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_FILE_AND_ARGV_ZERO, NULL,
				      NULL, &pid, NULL, &output, NULL, &reason)) {
		hvp_error_set(error, HVP_ERROR_INTERNAL, "%s", reason->message);
		return NULL;
	}
	(void)fcntl(output, F_SETFL, O_NONBLOCK);
	self = g_new0(HvpChild, 1);
	self->pid = pid;
	self->output = output;
	self->text = g_string_new(NULL);
	self->deadline = hvp_deadline_in(timeout_usec);
	return self;
}

/* Waits, but not for long: it was killed, or has closed its output. */
static void reap(HvpChild *self)
{
	int status = 0;

	while (waitpid(self->pid, &status, 0) < 0 && errno == EINTR)
		;
	self->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	self->pid = 0;
}

static void kill_and_reap(HvpChild *self)
{
	(void)kill(self->pid, SIGKILL);
	reap(self);
}

void hvp_child_free(HvpChild *self)
{
	if (self == NULL)
		return;
	if (self->pid != 0)
		kill_and_reap(self);
	close(self->output);
	g_string_free(self->text, TRUE);
	g_free(self);
}

int hvp_child_get_fd(const HvpChild *self)
{
	return self->output;
}

HvpDeadline hvp_child_get_deadline(const HvpChild *self)
{
	return self->deadline;
}

/* Whether there is an end to what it says. */
static bool read_output(HvpChild *self)
{
	char bytes[READ_BYTES];
	gssize count;

	while ((count = read(self->output, bytes, sizeof bytes)) > 0 ||
	       (count < 0 && errno == EINTR))
		if (count > 0 && self->text->len + (gsize)count <= HVP_CHILD_MAX_OUTPUT_BYTES)
			g_string_append_len(self->text, bytes, count);
	return count == 0 || errno != EAGAIN;
}

bool hvp_child_has_ended(HvpChild *self)
{
	if (self->pid == 0)
		return true;
	if (read_output(self))
		reap(self);
	else if (hvp_deadline_passed(self->deadline))
		kill_and_reap(self);
	return self->pid == 0;
}

int hvp_child_get_exit_status(const HvpChild *self)
{
	return self->exit_status;
}

JsonNode *hvp_child_parse_output(const HvpChild *self, GError **error)
{
	return hvp_json_text_parse_object(self->text->str, self->text->len, MAX_DEPTH, MAX_VALUES,
					  "what hvpatch says", error);
}
