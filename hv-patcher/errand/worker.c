/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "errand/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json-text.h"
#include "base/text.h"
#include "base/unix-message.h"
#include "vm/program.h"

#define MAX_MESSAGE_BYTES (256U << 10)
/* Four below what readers of events take, in which a result is. */
#define MAX_DEPTH 12
#define MAX_VALUES 500000
/*
 * Of progress, which has some 130 bytes and 6 values: a step has 4096 characters at most, which as
 * JSON may be two bytes each. What does not begin so is the result, or the last that is heard.
 */
#define PROGRESS "{\"progress\":"
#define MAX_PROGRESS_BYTES (12U << 10)
#define MAX_PROGRESS_VALUES 64
/* So that one worker cannot keep the loop from all others. */
#define MESSAGES_A_TURN 16
/*
 * Progress comes ten times a second at most, and waits in the socket, which has room for some 280,
 * where we were kept from reading it.
 */
#define MESSAGES_A_SECOND 32
#define MESSAGES_AT_ONCE 512
#define MESSAGE_USEC (G_USEC_PER_SEC / MESSAGES_A_SECOND)
/* Between the result and the end of the process. */
#define FAREWELL_MSEC 5000U
#define MAX_QUOTED_BYTES 1024U
#define MAX_FILES 1024
/* The status of what could not be run, be it for want of a library. */
#define NO_PROGRAM 127

typedef struct {
	JsonNode *result;
	int exit_status;
	char *code;
	char *message;
} Told;

struct HvpWorker {
	const HvpWorkerHandlers *handlers;
	gpointer data;
	GPid pid;				   /* 0: reaped */
	int pidfd;				   /* -1: closed */
	int fd;					   /* likewise */
	guint readable, ended, deadline, farewell; /* sources; 0: none */
	gint64 spent_usec; /* MESSAGE_USEC a message; not before now, but for MESSAGES_AT_ONCE */
	int wait_status;
	bool has_told;
	Told told;
	HvpWorkerOutcome outcome; /* why it was ended, where has_told is false */
	char *why;
};

static const char *const nonsense = "the worker says what no worker says";
static const char *const too_much = "the worker sends more than " G_STRINGIFY(
	MESSAGES_A_SECOND) " messages a second";
static const HvpProgram program = { "hvpatch-worker", "HVPATCH_WORKER" };

static void clear_source(guint *source)
{
	if (*source != 0)
		g_source_remove(*source);
	*source = 0;
}

static void close_socket(HvpWorker *self)
{
	clear_source(&self->readable);
	if (self->fd >= 0)
		close(self->fd);
	self->fd = -1;
}

/*
 * Of its group all: a keeper of its is in a session of its own, and has work to finish. Until we
 * reap it, which GLib does not do for us, its number is nobody else's.
 */
static void kill_group(HvpWorker *self)
{
	if (self->pid == 0)
		return;
	if (kill(-self->pid, SIGKILL) != 0)
		(void)kill(self->pid, SIGKILL);
}

static void end_for(HvpWorker *self, HvpWorkerOutcome outcome, const char *why)
{
	if (self->why == NULL && !self->has_told) {
		self->outcome = outcome;
		self->why = g_strdup(why);
	}
	kill_group(self);
	close_socket(self);
}

/* --- messages --- */

/* What the socket has, with a NUL behind it: the length, 0 at its end, -1 as errno says. */
static ssize_t receive(int fd, char *buffer, int *ret_fd)
{
	ssize_t got = hvp_unix_message_receive(fd, buffer, MAX_MESSAGE_BYTES, MSG_DONTWAIT, ret_fd);

	if (got >= 0)
		buffer[got] = '\0';
	return got;
}

/* Whether it stays as it is in a document, of which strict readers would refuse the whole. */
static bool is_plain_name(const char *name)
{
	for (const char *at = name; *at != '\0'; at++)
		if (g_ascii_iscntrl(*at) || *at == '"' || *at == '\\')
			return false;
	return true;
}

static bool add_members(GPtrArray *open, JsonObject *object)
{
	JsonObjectIter iter;
	const char *name;
	JsonNode *node;

	json_object_iter_init(&iter, object);
	while (json_object_iter_next(&iter, &name, &node)) {
		if (!is_plain_name(name))
			return false;
		g_ptr_array_add(open, node);
	}
	return true;
}

static void add_elements(GPtrArray *open, JsonArray *array)
{
	for (guint i = 0; i < json_array_get_length(array); i++)
		g_ptr_array_add(open, json_array_get_element(array, i));
}

static bool is_plain(JsonNode *root)
{
	g_autoptr(GPtrArray) open = g_ptr_array_new();

	g_ptr_array_add(open, root);
	while (open->len > 0) {
		JsonNode *node = g_ptr_array_steal_index_fast(open, open->len - 1);

		if (JSON_NODE_HOLDS_OBJECT(node)) {
			if (!add_members(open, json_node_get_object(node)))
				return false;
		} else if (JSON_NODE_HOLDS_ARRAY(node)) {
			add_elements(open, json_node_get_array(node));
		} else if (JSON_NODE_HOLDS_VALUE(node) &&
			   json_node_get_value_type(node) == G_TYPE_DOUBLE &&
			   !isfinite(json_node_get_double(node))) {
			return false;
		}
	}
	return true;
}

static JsonNode *parse(const char *text, gsize length_bytes, gsize max_values)
{
	g_autoptr(JsonNode) root = hvp_json_text_parse_object(text, length_bytes, MAX_DEPTH,
							      max_values, "a message", NULL);

	return root != NULL && is_plain(root) ? g_steal_pointer(&root) : NULL;
}

static JsonObject *get_object(JsonObject *object, const char *name)
{
	JsonNode *node = json_object_get_member(object, name);

	return node != NULL && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static const char *get_text(JsonObject *object, const char *name)
{
	JsonNode *node = hvp_json_text_typed_member(object, name, G_TYPE_STRING);

	return node ? json_node_get_string(node) : NULL;
}

static int get_exit_status(JsonObject *object)
{
	JsonNode *node = hvp_json_text_typed_member(object, "exit", G_TYPE_INT64);

	return node ? (int)json_node_get_int(node) : 1;
}

/* Sealed, or else it could change, or be cut off under us, while we read it. */
static JsonNode *read_attached(int fd)
{
	const int needed = F_SEAL_SHRINK | F_SEAL_WRITE;
	struct stat status;
	int seals = fcntl(fd, F_GET_SEALS);
	g_autofree char *text = NULL;

	if (seals < 0 || (seals & needed) != needed || fstat(fd, &status) != 0 ||
	    status.st_size <= 0 || status.st_size > HVP_WORKER_MAX_ATTACHED_BYTES)
		return NULL;
	text = g_malloc((gsize)status.st_size + 1);
	if (pread(fd, text, (gsize)status.st_size, 0) != status.st_size)
		return NULL;
	text[status.st_size] = '\0';
	return parse(text, (gsize)status.st_size, MAX_VALUES);
}

static bool read_failure(HvpWorker *self, JsonObject *object)
{
	JsonObject *failure = get_object(object, "error");
	const char *code, *message;

	if (failure == NULL)
		return json_object_get_null_member(object, "error");
	code = get_text(failure, "code");
	message = get_text(failure, "message");
	if (code == NULL || message == NULL || !hvp_text_is_name(code, MAX_QUOTED_BYTES))
		return false;
	self->told.code = g_strdup(code);
	self->told.message = hvp_text_escape(message, HVP_TEXT_TERMINATED, MAX_QUOTED_BYTES);
	return true;
}

static bool read_result(HvpWorker *self, JsonObject *object, int attached)
{
	JsonNode *result = json_object_get_member(object, "result");
	JsonNode *is_attached = hvp_json_text_typed_member(object, "attached", G_TYPE_BOOLEAN);

	self->told.exit_status = get_exit_status(object);
	if (!json_object_has_member(object, "error") || !read_failure(self, object))
		return false;
	if (is_attached != NULL && json_node_get_boolean(is_attached)) {
		self->told.result = attached >= 0 ? read_attached(attached) : NULL;
		return self->told.result != NULL;
	}
	if (JSON_NODE_HOLDS_OBJECT(result))
		self->told.result = json_node_ref(result);
	return JSON_NODE_HOLDS_OBJECT(result) || JSON_NODE_HOLDS_NULL(result);
}

static gboolean on_farewell(gpointer data)
{
	HvpWorker *self = data;

	self->farewell = 0;
	kill_group(self);
	return G_SOURCE_REMOVE;
}

static bool take_progress(HvpWorker *self, const char *text, gsize length_bytes)
{
	g_autoptr(JsonNode) root = length_bytes <= MAX_PROGRESS_BYTES
					   ? parse(text, length_bytes, MAX_PROGRESS_VALUES)
					   : NULL;
	JsonObject *progress = root ? get_object(json_node_get_object(root), "progress") : NULL;

	if (progress != NULL)
		self->handlers->progress(progress, self->data);
	return progress != NULL;
}

static bool take_result(HvpWorker *self, const char *text, gsize length_bytes, int attached)
{
	g_autoptr(JsonNode) root = parse(text, length_bytes, MAX_VALUES);
	JsonObject *object = root ? json_node_get_object(root) : NULL;

	if (object == NULL || !json_object_has_member(object, "result") ||
	    !read_result(self, object, attached))
		return false;
	self->has_told = true;
	self->farewell = g_timeout_add(FAREWELL_MSEC, on_farewell, self);
	return true;
}

static bool is_too_much(HvpWorker *self)
{
	gint64 now = g_get_monotonic_time();
	gint64 since = now - MESSAGES_AT_ONCE * MESSAGE_USEC;

	self->spent_usec = MAX(self->spent_usec, since) + MESSAGE_USEC;
	return self->spent_usec > now;
}

/* What is wrong with it; NULL: nothing. */
static const char *take_message(HvpWorker *self, const char *text, gsize length_bytes, int attached)
{
	bool good;

	if (self->has_told)
		return nonsense;
	if (is_too_much(self))
		return too_much;
	if (g_str_has_prefix(text, PROGRESS))
		good = take_progress(self, text, length_bytes);
	else
		good = take_result(self, text, length_bytes, attached);
	return good ? NULL : nonsense;
}

/* Takes one message. False: there is none now, or never will be. */
static bool take_next(HvpWorker *self, char *buffer)
{
	int attached;
	ssize_t got = receive(self->fd, buffer, &attached);
	const char *complaint = NULL;

	/* ECONNRESET comes once, where it has ended without reading all, before what it said. */
	if (got < 0 && (errno == EINTR || errno == ECONNRESET))
		return true;
	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return false;
	if (got > 0)
		complaint = take_message(self, buffer, (gsize)got, attached);
	else if (got < 0)
		complaint = nonsense;
	if (attached >= 0)
		close(attached);
	if (complaint != NULL)
		end_for(self, HVP_WORKER_GARBAGE, complaint);
	else if (got == 0)
		close_socket(self);
	return self->fd >= 0;
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer data)
{
	HvpWorker *self = data;
	g_autofree char *buffer = g_malloc(MAX_MESSAGE_BYTES + 1);

	(void)fd;
	(void)condition;
	for (guint i = 0; i < MESSAGES_A_TURN && take_next(self, buffer); i++)
		;
	if (self->fd >= 0)
		return G_SOURCE_CONTINUE;
	self->readable = 0;
	return G_SOURCE_REMOVE;
}

/* --- its end --- */

static char *describe_end(int status)
{
	if (WIFSIGNALED(status))
		return g_strdup_printf("the worker was ended by signal %d", WTERMSIG(status));
	return g_strdup_printf("the worker ended with status %d and no result",
			       WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* It did not become a worker, or says itself that it has not begun to be one. */
static bool is_unbegun(int status)
{
	return WIFEXITED(status) && (WEXITSTATUS(status) == HVP_WORKER_EXIT_UNBEGUN ||
				     WEXITSTATUS(status) == NO_PROGRAM);
}

static void tell_end(HvpWorker *self)
{
	HvpWorkerEnd end = { .outcome = HVP_WORKER_DONE,
			     .is_unbegun = is_unbegun(self->wait_status) };

	if (self->has_told) {
		end.result = self->told.result;
		end.exit_status = self->told.exit_status;
		end.code = self->told.code;
		end.message = self->told.message;
	} else {
		if (self->why == NULL) {
			self->outcome = HVP_WORKER_CRASHED;
			self->why = describe_end(self->wait_status);
		}
		end.outcome = self->outcome;
		end.exit_status = 1;
		end.code = "INTERNAL";
		end.message = self->why;
	}
	self->handlers->ended(&end, self->data);
}

/* False: not yet. It has ended, or was killed, so that this does not take long. */
static bool reap(HvpWorker *self)
{
	if (waitpid(self->pid, &self->wait_status, WNOHANG) == 0)
		return false;
	self->pid = 0;
	close(self->pidfd);
	self->pidfd = -1;
	return true;
}

/* What it said last may still be in the socket. Others may hold the other end: no waiting. */
static gboolean on_ended(gint fd, GIOCondition condition, gpointer data)
{
	HvpWorker *self = data;
	g_autofree char *buffer = g_malloc(MAX_MESSAGE_BYTES + 1);

	(void)fd;
	(void)condition;
	kill_group(self);
	if (!reap(self))
		return G_SOURCE_CONTINUE;
	self->ended = 0;
	while (self->fd >= 0 && !self->has_told && take_next(self, buffer))
		;
	clear_source(&self->deadline);
	clear_source(&self->farewell);
	close_socket(self);
	tell_end(self);
	return G_SOURCE_REMOVE;
}

static gboolean on_deadline(gpointer data)
{
	HvpWorker *self = data;

	self->deadline = 0;
	end_for(self, HVP_WORKER_TIMED_OUT, "the worker did not come to an end in time");
	return G_SOURCE_REMOVE;
}

/* --- its beginning --- */

/*
 * Between fork and exec. Its end comes with ours, whose operations it would do; the keeper, which
 * can put a guest right, is in a session of its own and not our child.
 */
static void prepare_child(gpointer data)
{
	const pid_t *parent = data;
	const struct rlimit no_core = { 0, 0 };
	const struct rlimit files = { MAX_FILES, MAX_FILES };

	if (setpgid(0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || getppid() != *parent)
		_exit(NO_PROGRAM);
	(void)setrlimit(RLIMIT_CORE, &no_core);
	(void)setrlimit(RLIMIT_NOFILE, &files);
}

static bool spawn(HvpWorker *self, int child_fd, GError **error)
{
	g_autofree char *path = hvp_program_find(&program, error);
	const char *arguments[] = { path, NULL };
	const int wanted = HVP_PROGRAM_FIRST_FD;
	g_autoptr(GError) reason = NULL;
	pid_t own = getpid();

	if (path == NULL)
		return false;
	if (g_spawn_async_with_pipes_and_fds(NULL, arguments, NULL,
					     G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
					     prepare_child, &own, -1, -1, -1, &child_fd, &wanted, 1,
					     &self->pid, NULL, NULL, NULL, &reason))
		return true;
	return hvp_error_set(error, HVP_ERROR_FAULT, "%s", reason->message);
}

static bool watch(HvpWorker *self, GError **error)
{
	self->pidfd = pidfd_open(self->pid, 0);
	if (self->pidfd < 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "pidfd_open");
	self->ended = g_unix_fd_add(self->pidfd, G_IO_IN, on_ended, self);
	self->readable = g_unix_fd_add(self->fd, G_IO_IN | G_IO_HUP, on_readable, self);
	return true;
}

static bool send_message(int fd, const char *text, int attached)
{
	return hvp_unix_message_send(fd, text, strlen(text), attached, MSG_DONTWAIT) ==
	       (ssize_t)strlen(text);
}

HvpWorker *hvp_worker_start(const char *job, int patch_fd, gint64 deadline_usec,
			    const HvpWorkerHandlers *handlers, gpointer data, GError **error)
{
	HvpWorker *self = g_new0(HvpWorker, 1);
	int fds[2];
	bool started;

	self->handlers = handlers;
	self->data = data;
	self->pidfd = self->fd = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "socketpair");
		hvp_worker_free(self);
		return NULL;
	}
	self->fd = fds[0];
	started = spawn(self, fds[1], error) && watch(self, error);
	close(fds[1]);
	if (!started) {
		hvp_worker_free(self);
		return NULL;
	}
	self->deadline = g_timeout_add((guint)MIN(deadline_usec / 1000, (gint64)G_MAXINT),
				       on_deadline, self);
	/* Of one that is gone already the end tells. */
	if (!send_message(self->fd, job, patch_fd))
		end_for(self, HVP_WORKER_CRASHED, "the worker did not take its job");
	return self;
}

void hvp_worker_cancel(HvpWorker *self)
{
	if (self->fd >= 0)
		(void)send_message(self->fd, "{\"cancel\":true}", -1);
}

/* Nobody kills it from here on, whoever reaps it. */
static void ignore_end(GPid pid, gint status, gpointer data)
{
	(void)pid;
	(void)status;
	(void)data;
}

void hvp_worker_free(HvpWorker *self)
{
	if (self == NULL)
		return;
	clear_source(&self->ended);
	clear_source(&self->deadline);
	clear_source(&self->farewell);
	close_socket(self);
	if (self->pid != 0) {
		kill_group(self);
		g_child_watch_add(self->pid, ignore_end, NULL);
	}
	if (self->pidfd >= 0)
		close(self->pidfd);
	if (self->told.result != NULL)
		json_node_unref(self->told.result);
	g_free(self->told.code);
	g_free(self->told.message);
	g_free(self->why);
	g_free(self);
}
