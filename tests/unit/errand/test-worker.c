/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whom a worker's end kills: its whole group, and never who has the number of one that is gone. And
 * what a worker may say before it is ended for that.
 */
#include "errand/worker.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONG_USEC (60 * G_USEC_PER_SEC)
#define SHORT_USEC (G_USEC_PER_SEC / 10)
/* A message at once: of what is read a byte at a time the rest is lost. */
#define TAKE_JOB "dd bs=65536 count=1 <&3 >/dev/null 2>&1; exec 2>/dev/null"
#define PATIENCE_USEC (20 * G_USEC_PER_SEC)

typedef struct {
	char *folder;
	HvpWorker *worker;
	bool has_ended;
	HvpWorkerOutcome outcome;
	guint progress_count;
	gsize result_members;
	char *message;
} Scene;

static guint kills;

/* In place of libc's: the same, of a child that is still ours. */
int kill(pid_t pid, int signal_number)
{
	siginfo_t unused;

	kills++;
	g_assert_cmpint(pid, !=, 0);
	g_assert_cmpint(pid, !=, -1);
	g_assert_cmpint(waitid(P_PID, (id_t)ABS(pid), &unused, WEXITED | WNOWAIT | WNOHANG), ==, 0);
	return (int)syscall(SYS_kill, pid, signal_number);
}

static void on_progress(JsonObject *progress, gpointer data)
{
	(void)progress;
	((Scene *)data)->progress_count++;
}

static void on_ended(const HvpWorkerEnd *end, gpointer data)
{
	Scene *scene = data;

	g_assert_false(scene->has_ended);
	scene->has_ended = true;
	scene->outcome = end->outcome;
	scene->message = g_strdup(end->message);
	if (end->result != NULL)
		scene->result_members = json_object_get_size(json_node_get_object(end->result));
}

static void set_up(Scene *self, gconstpointer data)
{
	(void)data;
	self->folder = g_dir_make_tmp("hvpatch-worker-XXXXXX", NULL);
	kills = 0;
}

static char *file_of(const Scene *self, const char *name)
{
	return g_build_filename(self->folder, name, NULL);
}

static void tear_down(Scene *self, gconstpointer data)
{
	g_autofree char *program = file_of(self, "program");
	g_autofree char *note = file_of(self, "pid");

	(void)data;
	hvp_worker_free(self->worker);
	g_unlink(program);
	g_unlink(note);
	g_assert_cmpint(g_rmdir(self->folder), ==, 0);
	g_free(self->folder);
	g_free(self->message);
}

/* A worker that is the shell script @text, in which $NOTE is a file. */
static void start(Scene *self, const char *text, gint64 deadline_usec)
{
	static const HvpWorkerHandlers handlers = { on_progress, on_ended };
	g_autofree char *program = file_of(self, "program");
	g_autofree char *note = file_of(self, "pid");
	g_autofree char *script = g_strdup_printf("#!/bin/sh\nNOTE=%s\n" TAKE_JOB "\n%s\n", note,
						  text);
	g_autoptr(GError) error = NULL;

	g_assert_true(g_file_set_contents_full(program, script, -1, G_FILE_SET_CONTENTS_NONE, 0700,
					       NULL));
	g_setenv("HVPATCH_WORKER", program, TRUE);
	self->worker = hvp_worker_start("{}", -1, deadline_usec, &handlers, self, &error);
	g_assert_no_error(error);
	g_assert_nonnull(self->worker);
}

static gboolean on_tick(gpointer data)
{
	(void)data;
	return G_SOURCE_CONTINUE;
}

static void wait_end(Scene *self)
{
	gint64 end = g_get_monotonic_time() + PATIENCE_USEC;
	guint tick = g_timeout_add(10, on_tick, NULL);

	while (!self->has_ended && g_get_monotonic_time() < end)
		g_main_context_iteration(NULL, TRUE);
	g_source_remove(tick);
	g_assert_true(self->has_ended);
}

/* Who writes it writes it whole. */
static pid_t read_note(const Scene *self)
{
	g_autofree char *path = file_of(self, "pid");
	gint64 end = g_get_monotonic_time() + PATIENCE_USEC;
	g_autofree char *text = NULL;

	while (!g_file_get_contents(path, &text, NULL, NULL) || strchr(text, '\n') == NULL) {
		g_clear_pointer(&text, g_free);
		g_assert_cmpint(g_get_monotonic_time(), <, end);
		g_usleep(1000);
	}
	return (pid_t)g_ascii_strtoll(text, NULL, 10);
}

/* Whether it is gone, or waits for a parent only, within the patience. */
static bool is_gone(pid_t pid)
{
	gint64 end = g_get_monotonic_time() + PATIENCE_USEC;
	g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);

	while (g_get_monotonic_time() < end) {
		g_autofree char *text = NULL;
		const char *state;

		if (!g_file_get_contents(path, &text, NULL, NULL))
			return true;
		state = strrchr(text, ')');
		if (state != NULL && state[2] == 'Z')
			return true;
		g_usleep(1000);
	}
	return false;
}

static void assert_reaped(pid_t pid)
{
	g_assert_cmpint(waitpid(pid, NULL, WNOHANG), ==, -1);
	g_assert_cmpint(errno, ==, ECHILD);
}

static void test_ends_by_itself(Scene *self, gconstpointer data)
{
	(void)data;
	start(self, "echo $$ >$NOTE", LONG_USEC);
	wait_end(self);
	g_assert_cmpint(self->outcome, ==, HVP_WORKER_CRASHED);
	g_assert_cmpint(kills, >, 0);
	assert_reaped(read_note(self));
	/* Nor later on, when the number may be another's. */
	kills = 0;
	hvp_worker_cancel(self->worker);
	g_clear_pointer(&self->worker, hvp_worker_free);
	g_assert_cmpint(kills, ==, 0);
}

static void test_children_of_one_that_ended_KILLED(Scene *self, gconstpointer data)
{
	(void)data;
	start(self, "sleep 600 & echo $! >$NOTE", LONG_USEC);
	wait_end(self);
	g_assert_true(is_gone(read_note(self)));
}

static void test_too_late_KILLED(Scene *self, gconstpointer data)
{
	(void)data;
	start(self, "echo $$ >$NOTE; sleep 600", SHORT_USEC);
	wait_end(self);
	g_assert_cmpint(self->outcome, ==, HVP_WORKER_TIMED_OUT);
	assert_reaped(read_note(self));
}

static void test_freed_at_work_KILLED(Scene *self, gconstpointer data)
{
	pid_t pid;

	(void)data;
	start(self, "echo $$ >$NOTE; sleep 600", LONG_USEC);
	pid = read_note(self);
	g_clear_pointer(&self->worker, hvp_worker_free);
	g_assert_true(is_gone(pid));
	kills = 0;
	while (waitpid(pid, NULL, WNOHANG) >= 0)
		g_main_context_iteration(NULL, FALSE);
	g_assert_cmpint(kills, ==, 0);
	g_assert_false(self->has_ended);
}

/* One that has ended, and of which the loop does not know yet: its number is kept until it does. */
static void test_freed_behind_its_end(Scene *self, gconstpointer data)
{
	(void)data;
	start(self, "echo $$ >$NOTE", LONG_USEC);
	g_assert_true(is_gone(read_note(self)));
	g_clear_pointer(&self->worker, hvp_worker_free);
	g_assert_cmpint(kills, >, 0);
	g_assert_false(self->has_ended);
}

/* --- what it says --- */

/* @count messages at once. */
#define SAY_PROGRESS(count)                     \
	"i=0; while [ $i -lt " #count " ]; do " \
	"echo '{\"progress\":{\"step\":\"waiting\"}}' >&3; i=$((i+1)); done 2>/dev/null;"
#define SAY_RESULT "echo '{\"result\":{\"a\":1},\"exit\":0,\"error\":null}' >&3;"
/* What is in $NOTE, as one message. */
#define SAY_NOTE "dd bs=1048576 <$NOTE >&3 2>/dev/null;"

/* Ten a second for half a minute, all at once: as a daemon that stood for so long has it. */
static void test_progress_of_an_honest_one_TAKEN(Scene *self, gconstpointer data)
{
	(void)data;
	start(self, SAY_PROGRESS(300) SAY_RESULT, LONG_USEC);
	wait_end(self);
	g_assert_cmpint(self->outcome, ==, HVP_WORKER_DONE);
	g_assert_cmpuint(self->progress_count, ==, 300);
}

static void test_flood_KILLED(Scene *self, gconstpointer data)
{
	(void)data;
	start(self, SAY_PROGRESS(20000) SAY_RESULT, LONG_USEC);
	wait_end(self);
	g_assert_cmpint(self->outcome, ==, HVP_WORKER_GARBAGE);
	g_assert_cmpstr(self->message, ==, "the worker sends more than 32 messages a second");
	g_assert_cmpuint(self->progress_count, >=, 512);
	/* With what a crowded host takes for it. */
	g_assert_cmpuint(self->progress_count, <, 512 + 32 * 30);
}

static void assert_progress_is_refused(Scene *self, const char *make_note)
{
	g_autofree char *script = g_strconcat(make_note, SAY_NOTE SAY_RESULT, NULL);

	start(self, script, LONG_USEC);
	wait_end(self);
	g_assert_cmpint(self->outcome, ==, HVP_WORKER_GARBAGE);
	g_assert_cmpuint(self->progress_count, ==, 0);
}

static void test_long_progress_KILLED(Scene *self, gconstpointer data)
{
	(void)data;
	assert_progress_is_refused(self,
				   "printf '{\"progress\":{\"step\":\"%013000d\"}}' 0 >$NOTE;");
}

static void test_progress_of_many_values_KILLED(Scene *self, gconstpointer data)
{
	(void)data;
	assert_progress_is_refused(self, "{ printf '{\"progress\":{\"a\":['; i=0;"
					 "while [ $i -lt 100 ]; do printf 0,; i=$((i+1)); done;"
					 "printf '0]}}'; } >$NOTE;");
}

/* A step as long as one can be, and a result that is long: both are read. */
static void test_longest_words_of_an_honest_one_TAKEN(Scene *self, gconstpointer data)
{
	(void)data;
	start(self,
	      "printf '{\"progress\":{\"step\":\"%08192d\"}}' 0 >$NOTE;" SAY_NOTE
	      "{ printf '{\"result\":{\"a\":['; i=0;"
	      "while [ $i -lt 10000 ]; do printf 0,; i=$((i+1)); done;"
	      "printf '0],\"b\":\"%080000d\"},\"exit\":0,\"error\":null}' 0; } >$NOTE;" SAY_NOTE,
	      LONG_USEC);
	wait_end(self);
	g_assert_cmpint(self->outcome, ==, HVP_WORKER_DONE);
	g_assert_cmpuint(self->progress_count, ==, 1);
	g_assert_cmpuint(self->result_members, ==, 2);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define ADD(name, test) g_test_add("/worker/" name, Scene, NULL, set_up, test, tear_down)
	ADD("ends-by-itself", test_ends_by_itself);
	ADD("children-of-one-that-ended-KILLED", test_children_of_one_that_ended_KILLED);
	ADD("too-late-KILLED", test_too_late_KILLED);
	ADD("freed-at-work-KILLED", test_freed_at_work_KILLED);
	ADD("freed-behind-its-end", test_freed_behind_its_end);
	ADD("progress-of-an-honest-one-TAKEN", test_progress_of_an_honest_one_TAKEN);
	ADD("longest-words-of-an-honest-one-TAKEN", test_longest_words_of_an_honest_one_TAKEN);
	ADD("flood-KILLED", test_flood_KILLED);
	ADD("long-progress-KILLED", test_long_progress_KILLED);
	ADD("progress-of-many-values-KILLED", test_progress_of_many_values_KILLED);
	return g_test_run();
}
