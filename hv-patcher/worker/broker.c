/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "worker/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/journal.h"
#include "keeper/spawn.h"
#include "vm/helper.h"
#include "vm/kvm-process.h"
#include "vm/process-memory.h"
#include "vm/ram-jobs.h"
#include "worker/questions.h"

/* A keeper that is let go of leaves within a moment; one that is at work does not. */
#define KEEPER_LEAVES_USEC (3 * G_USEC_PER_SEC)
#define CONNECT_USEC (2 * G_USEC_PER_SEC)
#define CONNECT_RETRY_USEC 10000
/* An honest half asks some dozens of times. Past that it is served as slowly as it deserves. */
#define FREE_REQUESTS 4096
#define SLOW_USEC 2000

typedef struct {
	int fd;
	const HvpJob *job;
	HvpPlace *place;
	HvpQuestions *questions; /* on the monitor's connection that the other half has; NULL */
	HvpJournal *journal;	 /* NULL: not open */
	int life_fd;		 /* closed at its other end when the last keeper has ended; -1 */
	guint64 request_count;
} Broker;

/* --- the monitor --- */

/* The other half speaks to us, and we to QEMU. Returns its end. */
static int open_monitor(Broker *self, GError **error)
{
	HvpQmp *qmp;
	int ends[2];

	/* It has dropped its connection, or lost it. */
	g_clear_pointer(&self->questions, hvp_questions_free);
	qmp = hvp_place_connect(self->place, error);
	if (qmp == NULL)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "socket pair");
		hvp_qmp_free(qmp);
		return -1;
	}
	self->questions = hvp_questions_new(ends[0], qmp);
	return ends[1];
}

/* --- the keeper --- */

static bool has_left(int life_fd, HvpDeadline deadline)
{
	struct pollfd pollfd = { .fd = life_fd };

	return poll(&pollfd, 1, hvp_deadline_left_msec(deadline)) > 0;
}

static bool wait_for_keeper(Broker *self, GError **error)
{
	if (self->life_fd < 0)
		return true;
	if (!has_left(self->life_fd, hvp_deadline_in(KEEPER_LEAVES_USEC)))
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "the keeper before is still at work on the VM");
	close(self->life_fd);
	self->life_fd = -1;
	return true;
}

/* The descriptors that it gets are ours: none comes from the other half. */
static int start_keeper_with(Broker *self, int qmp_fd, int journal_fd, GError **error)
{
	const HvpPlace *place = self->place;
	int life[2], fd;

	if (pipe2(life, O_CLOEXEC) != 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "a pipe");
		return -1;
	}
	fd = hvp_spawn_keeper_of(place->pid, place->start_time, qmp_fd, journal_fd, life[1], error);
	close(life[1]);
	if (fd < 0)
		close(life[0]);
	else
		self->life_fd = life[0];
	return fd;
}

static int start_scratch_keeper(Broker *self, GError **error)
{
	int journal_fd = memfd_create("journal", MFD_CLOEXEC);
	int fd;

	if (journal_fd < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "memory for a journal");
		return -1;
	}
	fd = start_keeper_with(self, -1, journal_fd, error);
	close(journal_fd);
	return fd;
}

/* QEMU's own connection goes to it; what the other half has of that is over. */
static int start_keeper(Broker *self, guint64 flags, GError **error)
{
	int qmp_fd = -1, fd;

	if (!hvp_place_check(self->place, error) || !wait_for_keeper(self, error))
		return -1;
	if ((flags & HVP_HELPER_KEEPER_SCRATCH) != 0)
		return start_scratch_keeper(self, error);
	if (self->journal == NULL) {
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "a keeper without a journal");
		return -1;
	}
	if ((flags & HVP_HELPER_KEEPER_MONITOR) != 0) {
		qmp_fd = self->questions ? hvp_questions_steal_fd(self->questions) : -1;
		if (qmp_fd < 0) {
			hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				      "a keeper's monitor, without one");
			return -1;
		}
		g_clear_pointer(&self->questions, hvp_questions_free);
	}
	fd = start_keeper_with(self, qmp_fd, hvp_journal_get_fd(self->journal), error);
	if (qmp_fd >= 0)
		close(qmp_fd);
	return fd;
}

/* --- files and sockets --- */

/* Opened anew: until those who had it before have let go, others may still write to it. */
static int open_journal(Broker *self, GError **error)
{
	const HvpPlace *place = self->place;

	g_clear_pointer(&self->journal, hvp_journal_free);
	if (!hvp_place_check(place, error))
		return -1;
	self->journal = hvp_journal_open_of(place->pid, place->start_time, NULL, error);
	return self->journal ? fcntl(hvp_journal_get_fd(self->journal), F_DUPFD_CLOEXEC, 0) : -1;
}

/* Opened, and only then is looked whose it is: the pid could have been another's by then. */
static int open_process_file(Broker *self, const char *name, GError **error)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)self->place->pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_PERMISSION, "%s", path);
		return -1;
	}
	if (hvp_place_check(self->place, error))
		return fd;
	close(fd);
	return -1;
}

static bool open_mapping(Broker *self, guint64 start, int *ret_fd, GError **error)
{
	if (!hvp_process_memory_open_mapping(self->place->pid, start, ret_fd, error))
		return false;
	if (hvp_place_check(self->place, error))
		return true;
	if (*ret_fd >= 0)
		close(*ret_fd);
	*ret_fd = -1;
	return false;
}

static int connect_socket(const char *path, GError **error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	HvpDeadline deadline = hvp_deadline_in(CONNECT_USEC);
	int fd;

	if (path == NULL ||
	    g_strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path) {
		hvp_error_set(error, HVP_ERROR_NOT_FOUND, "there is no such socket");
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* EAGAIN: the queue of clients is full. */
	while (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		if ((errno != EAGAIN && errno != EINTR) || hvp_deadline_passed(deadline)) {
			hvp_error_set_errno(error, errno, HVP_ERROR_NOT_FOUND, "%s", path);
			close(fd);
			return -1;
		}
		g_usleep(CONNECT_RETRY_USEC);
	}
	return fd;
}

/* --- numbers --- */

/* Of our process alone: others are as good as gone. */
static bool read_start_time(Broker *self, guint64 pid, guint64 *ret_number, GError **error)
{
	*ret_number = self->place->start_time;
	if (pid != (guint64)self->place->pid)
		return hvp_error_set(error, HVP_ERROR_PERMISSION, "that process is not the VM's");
	return hvp_place_check(self->place, error);
}

static bool read_thread_group(Broker *self, guint64 thread_id, guint64 *ret_number, GError **error)
{
	pid_t pid;

	if (thread_id == 0 || thread_id > G_MAXINT ||
	    !hvp_machine_read_thread_group((pid_t)thread_id, &pid, NULL) || pid != self->place->pid)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND, "that thread is not the VM's");
	*ret_number = (guint64)pid;
	return true;
}

static bool find_userfaultfd(Broker *self, guint64 *ret_number, GError **error)
{
	bool has;

	if (!hvp_ram_jobs_has_userfaultfd(self->place->pid, &has, error))
		return false;
	*ret_number = has;
	return true;
}

static bool list_vcpus(Broker *self, HvpHelperAnswer *answer, GError **error)
{
	g_autofree HvpKvmProcess *process = g_new0(HvpKvmProcess, 1);
	bool ok = hvp_kvm_process_open(process, self->place->pid, error);

	for (guint i = 0; ok && i < process->count && i < HVP_HELPER_MAX_IDS; i++)
		answer->ids[answer->id_count++] = process->vcpus[i].id;
	hvp_kvm_process_close(process);
	return ok && hvp_place_check(self->place, error);
}

/* --- requests --- */

static bool has(int fd, int *ret_fd)
{
	*ret_fd = fd;
	return fd >= 0;
}

static bool handle(Broker *self, const HvpHelperRequest *request, HvpHelperAnswer *answer,
		   int *ret_fd, GError **error)
{
	*ret_fd = -1;
	switch ((HvpHelperQuestion)request->question) {
	case HVP_HELPER_MONITOR:
		return has(open_monitor(self, error), ret_fd);
	case HVP_HELPER_KEEPER:
		return has(start_keeper(self, request->number, error), ret_fd);
	case HVP_HELPER_JOURNAL:
		return has(open_journal(self, error), ret_fd);
	case HVP_HELPER_MAPS:
		return has(open_process_file(self, "maps", error), ret_fd);
	case HVP_HELPER_MEMORY:
		return has(open_process_file(self, "mem", error), ret_fd);
	case HVP_HELPER_PAGEMAP:
		return has(open_process_file(self, "pagemap", error), ret_fd);
	case HVP_HELPER_MAPPING:
		return open_mapping(self, request->number, ret_fd, error);
	case HVP_HELPER_AGENT:
		return has(connect_socket(self->place->agent_path, error), ret_fd);
	case HVP_HELPER_ORACLE:
		return has(connect_socket(self->job->oracle_path, error), ret_fd);
	case HVP_HELPER_START_TIME:
		return read_start_time(self, request->number, &answer->number, error);
	case HVP_HELPER_THREAD_GROUP:
		return read_thread_group(self, request->number, &answer->number, error);
	case HVP_HELPER_USERFAULTFD:
		return find_userfaultfd(self, &answer->number, error);
	case HVP_HELPER_JOBS:
		return hvp_place_read_jobs(self->place, &answer->number, error);
	case HVP_HELPER_NO_JOB:
		return hvp_place_check_no_job(self->place, error);
	case HVP_HELPER_VCPUS:
		return list_vcpus(self, answer, error);
	}
	return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "there is no such request");
}

/* False: the other half has ended, or speaks something else. */
static bool serve(Broker *self)
{
	HvpHelperAnswer answer = { 0 };
	g_autoptr(GError) reason = NULL;
	HvpHelperRequest request;
	bool sent;
	int fd = -1;

	if (hvp_helper_receive(self->fd, &request) != HVP_HELPER_GOT)
		return false;
	if (++self->request_count > FREE_REQUESTS)
		g_usleep(SLOW_USEC);
	if (!handle(self, &request, &answer, &fd, &reason)) {
		if (reason == NULL)
			hvp_error_set(&reason, HVP_ERROR_INTERNAL, "request %u failed",
				      request.question);
		hvp_helper_set_failed(&answer, reason);
	}
	sent = hvp_helper_answer(self->fd, &answer, fd);
	if (fd >= 0)
		close(fd);
	return sent;
}

bool hvp_broker_run(int fd, const HvpJob *job, HvpPlace *place, HvpDeadline deadline)
{
	Broker self = { .fd = fd, .job = job, .place = place, .life_fd = -1 };
	bool goes_on = true;

	while (goes_on && !hvp_deadline_passed(deadline)) {
		struct pollfd pollfds[] = {
			{ .fd = fd, .events = POLLIN },
			{ .fd = self.questions ? hvp_questions_get_fd(self.questions) : -1,
			  .events = POLLIN },
		};

		if (poll(pollfds, G_N_ELEMENTS(pollfds), hvp_deadline_left_msec(deadline)) <= 0)
			continue;
		if (pollfds[1].revents != 0 && !hvp_questions_serve(self.questions))
			g_clear_pointer(&self.questions, hvp_questions_free);
		if (pollfds[0].revents != 0)
			goes_on = serve(&self);
	}
	hvp_questions_free(self.questions);
	hvp_journal_free(self.journal);
	if (self.life_fd >= 0)
		close(self.life_fd);
	close(fd);
	return self.request_count > 0;
}
