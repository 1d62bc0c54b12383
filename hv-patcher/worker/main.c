/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hvpatch-worker: does one operation on one VM for the daemon, which speaks to it on descriptor 3
 * (channel.h). Two halves:
 *
 *   privileged    finds the VM, then does for the other half what broker.h lists
 *   unprivileged  parses the patch and the guest's memory, decides; sandboxed (sandbox.h)
 *
 * Both end with the daemon. What an end leaves in a guest its keeper takes back by itself, and what
 * that cannot, the verb recover.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "errand/worker.h"
#include "vm/helper.h"
#include "vm/libvirt.h"
#include "worker/broker.h"
#include "worker/sandbox.h"
#include "worker/work.h"

#define CHANNEL_FD 3
#define JOB_USEC (10 * G_USEC_PER_SEC)
/* On top of the operation's own limit: attaching, loading, recovering, libvirt. */
#define SPARE_SECONDS 900
#define MAX_LOGGED_BYTES 1024

typedef struct {
	HvpChannel *channel;
	HvpJob *job;
	HvpPlace *place;
	int patch_fd;
	HvpSandboxUser user;
	bool is_unbegun; /* there is no other half, for want of something on this host */
} Worker;

static GLogWriterOutput write_log(GLogLevelFlags level, const GLogField *fields, gsize count,
				  gpointer user_data)
{
	(void)user_data;
	if ((level & (G_LOG_LEVEL_DEBUG | G_LOG_LEVEL_INFO)) != 0)
		return G_LOG_WRITER_HANDLED;
	for (gsize i = 0; i < count; i++) {
		g_autofree char *text = NULL;

		if (strcmp(fields[i].key, "MESSAGE") != 0)
			continue;
		text = hvp_text_escape(fields[i].value, HVP_TEXT_TERMINATED, MAX_LOGGED_BYTES);
		fprintf(stderr, "hvpatch-worker: %s\n", text);
	}
	return G_LOG_WRITER_HANDLED;
}

static bool is_socket(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

static bool read_job(Worker *self, GError **error)
{
	g_autoptr(JsonNode) node = hvp_channel_receive_job(self->channel, hvp_deadline_in(JOB_USEC),
							   &self->patch_fd, error);

	self->job = node ? hvp_job_new(node, error) : NULL;
	return self->job != NULL;
}

static bool prepare(Worker *self, GError **error)
{
	if (!read_job(self, error))
		return false;
	self->is_unbegun = !hvp_sandbox_find_user(&self->user, error);
	if (self->is_unbegun)
		return false;
	/* A patch file alone needs no VM, and nobody to help. */
	if (self->job->verb == HVP_JOB_INSPECT)
		return true;
	self->place = hvp_place_new(self->job, error);
	return self->place != NULL;
}

static int compare_ints(const void *a, const void *b)
{
	return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

static bool enter_sandbox(Worker *self, pid_t parent, int helper_fd, GError **error)
{
	int fds[] = { hvp_channel_get_fd(self->channel),
		      hvp_channel_get_attachment_fd(self->channel), self->patch_fd, helper_fd };
	HvpSandbox sandbox = { .user = self->user,
			       .parent = parent,
			       .cpu_seconds = self->job->options.timeout_usec / G_USEC_PER_SEC +
					      SPARE_SECONDS,
			       .fds = fds,
			       .fd_count = G_N_ELEMENTS(fds) };

	qsort(fds, G_N_ELEMENTS(fds), sizeof *fds, compare_ints);
	return hvp_sandbox_enter(&sandbox, error);
}

/* The unprivileged half; its exit status: whether the daemon has its result. */
static int work(Worker *self, pid_t parent, int helper_fd)
{
	g_autoptr(GError) reason = NULL;

	hvp_helper_use(helper_fd);
	if (!enter_sandbox(self, parent, helper_fd, &reason))
		return hvp_work_fail(self->job, self->channel, reason) ? 0 : 1;
	return hvp_work_run(self->job, self->place, self->patch_fd, self->channel) ? 0 : 1;
}

/* The other half's wait status, told where it was killed; -1 where there is none. */
static int wait_for(pid_t child)
{
	int status = -1;

	if (TEMP_FAILURE_RETRY(waitpid(child, &status, 0)) == child && WIFSIGNALED(status))
		fprintf(stderr, "hvpatch-worker: ended by signal %d (%s)\n", WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	return status;
}

/*
 * Ends as the other half has: the daemon is to see that there is no result, and why. What it knows
 * of the guest then is nothing, and it has another worker recover.
 */
static int end_like(pid_t child)
{
	int status = wait_for(child);

	if (status == -1)
		return 1;
	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status) != 0;
	signal(WTERMSIG(status), SIG_DFL);
	raise(WTERMSIG(status));
	return 1;
}

/* The privileged half, from here on. */
static int serve(Worker *self, pid_t child, int helper_fd)
{
	bool has_patch = self->patch_fd >= 0, has_begun;

	if (has_patch)
		close(self->patch_fd);
	if (self->place == NULL) {
		close(helper_fd);
		return end_like(child);
	}
	has_begun = hvp_broker_run(
		helper_fd, self->job, self->place,
		hvp_deadline_in(self->job->options.timeout_usec + SPARE_SECONDS * G_USEC_PER_SEC));
	/* It has ended, unless it hangs or is not itself any more. */
	(void)kill(child, SIGKILL);
	/* A patch is parsed before anything is asked for, and may have had its say. */
	if (has_begun || has_patch)
		return end_like(child);
	(void)wait_for(child);
	return HVP_WORKER_EXIT_UNBEGUN;
}

static int split(Worker *self, GError **error)
{
	pid_t parent = getpid(), child;
	int ends[2];

	self->is_unbegun = true;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "socket pair");
		return -1;
	}
	child = fork();
	if (child < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "fork");
		return -1;
	}
	/* No destructors there: what was opened before belongs to the other half. */
	if (child == 0)
		_exit(work(self, parent, ends[1]));
	self->is_unbegun = false;
	close(ends[1]);
	return serve(self, child, ends[0]);
}

static void begin(void)
{
	signal(SIGPIPE, SIG_IGN);
	/* Terminals of whoever started the daemon are not ours. */
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)prctl(PR_SET_DUMPABLE, 0);
	hvp_libvirt_be_quiet();
	g_log_set_writer_func(write_log, NULL, NULL);
}

int main(void)
{
	Worker self = { .patch_fd = -1 };
	g_autoptr(GError) reason = NULL;
	int status = -1;

	if (!is_socket(CHANNEL_FD)) {
		fputs("hvpatch-worker is started by hvpatchd\n", stderr);
		return 2;
	}
	begin();
	self.channel = hvp_channel_new(CHANNEL_FD);
	if (prepare(&self, &reason))
		status = split(&self, &reason);
	if (status < 0) {
		status = hvp_work_fail(self.job, self.channel, reason) ? 0 : 1;
		if (self.is_unbegun)
			status = HVP_WORKER_EXIT_UNBEGUN;
	}
	hvp_place_free(self.place);
	hvp_job_free(self.job);
	hvp_channel_free(self.channel);
	return status;
}
