/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/keeper.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "keeper/spawn.h"
#include "keeper/wire.h"
#include "vm/cpus.h"

/* The keeper's own deadlines are shorter: it stops answering only when it is itself stopped. */
#define ANSWER_TIMEOUT_USEC (60 * G_USEC_PER_SEC)
#define HELLO_TIMEOUT_USEC (5 * G_USEC_PER_SEC)
#define END_TIMEOUT_USEC G_USEC_PER_SEC
/* While a VM stands the answer is here before somebody asleep were woken. */
#define SPIN_USEC 100

struct HvpKeeper {
	int fd;
	pid_t pid;
	guint calls; /* of divert, without their come_home */
	HvpKeeperTrapKind trap_kind;
	HvpKeeperGuard guard; /* may be NULL */
	gpointer guard_data;
	int calm_policy; /* of this thread when nothing is stopped */
	struct sched_param calm_parameter;
	HvpCpus cpus;
	bool hurries;
	bool is_lost;
	GHashTable *pages; /* numbers of those that were written to */
	GError *ended;
	HvpWireMessage request;
	HvpWireMessage answer;
};

void hvp_keeper_stop_clear(HvpKeeperStop *self)
{
	g_clear_pointer(&self->registers, g_free);
	memset(self, 0, sizeof *self);
}

/* --- no VM is to stand still because this thread has to wait for a CPU --- */

static void hurry(HvpKeeper *self)
{
	struct sched_param urgent = { .sched_priority = 1 };

	if (self->hurries)
		return;
	/* A nice value would count among the threads of our own session or group only. */
	self->calm_policy = sched_getscheduler(0);
	if (sched_getparam(0, &self->calm_parameter) == 0)
		self->hurries =
			sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &urgent) == 0;
	if (self->hurries) {
		hvp_cpus_begin(&self->cpus);
		hvp_cpus_join(&self->cpus, self->pid);
	}
}

static void calm_down(HvpKeeper *self)
{
	if (!self->hurries)
		return;
	/* That children start calm cannot be taken back without a privilege. */
	sched_setscheduler(0, self->calm_policy | SCHED_RESET_ON_FORK, &self->calm_parameter);
	hvp_cpus_end(&self->cpus);
	self->hurries = false;
}

/* --- one request, one answer --- */

static bool fail_again(HvpKeeper *self, GError **error)
{
	if (error != NULL)
		*error = g_error_copy(self->ended);
	return false;
}

/* The keeper itself has failed: nobody looks after the VM any more. */
static bool lost(HvpKeeper *self, const char *how, GError **error)
{
	self->is_lost = true;
	if (self->ended == NULL)
		hvp_error_set(&self->ended, HVP_ERROR_INCONSISTENT,
			      "the keeper %s: run hvpatch recover", how);
	return fail_again(self, error);
}

static bool receive(HvpKeeper *self, HvpDeadline deadline, GError **error)
{
	HvpDeadline spin = hvp_deadline_in(self->hurries ? SPIN_USEC : 0);
	struct pollfd descriptor = { self->fd, POLLIN, 0 };

	hvp_wire_clear(&self->answer);
	for (;;) {
		switch (hvp_wire_read(&self->answer, self->fd)) {
		case HVP_WIRE_READ_DONE:
			return true;
		case HVP_WIRE_READ_CLOSED:
			return lost(self, "has ended", error);
		case HVP_WIRE_READ_GARBAGE:
			return lost(self, "answered garbage", error);
		case HVP_WIRE_READ_MORE:
			break;
		}
		if (hvp_deadline_passed(deadline))
			return lost(self, "does not answer", error);
		if (hvp_deadline_passed(spin))
			poll(&descriptor, 1, hvp_deadline_left_msec(deadline));
		else
			sched_yield();
	}
}

static bool take_error(HvpKeeper *self, GError **error)
{
	HvpWireError failure;
	gsize length_bytes;
	const guint8 *bytes = hvp_wire_get_payload(&self->answer, &length_bytes);
	g_autofree char *message = NULL;

	if (length_bytes != sizeof failure)
		return lost(self, "answered garbage", error);
	memcpy(&failure, bytes, sizeof failure);
	failure.message[sizeof failure.message - 1] = '\0';
	message = hvp_text_escape(failure.message, HVP_TEXT_TERMINATED, sizeof failure.message);
	if (failure.code > HVP_ERROR_INTERNAL)
		failure.code = HVP_ERROR_INTERNAL;
	if (failure.ended == 0)
		return hvp_error_set(error, (HvpErrorCode)failure.code, "%s", message);
	hvp_error_set(&self->ended, (HvpErrorCode)failure.code, "%s", message);
	return fail_again(self, error);
}

static bool begin(HvpKeeper *self, HvpWireType type, GError **error)
{
	if (self->ended != NULL)
		return fail_again(self, error);
	hvp_wire_begin(&self->request, type);
	return true;
}

static bool add(HvpKeeper *self, const void *bytes, gsize length_bytes, GError **error)
{
	return hvp_wire_append(&self->request, bytes, length_bytes) ||
	       hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "too much for one request");
}

/* Sends the request; the answer, @answer_bytes of payload at least, is in `answer`. */
static bool finish(HvpKeeper *self, HvpDeadline deadline, gsize answer_bytes, GError **error)
{
	GError *local = NULL;
	gsize length_bytes;

	/* An ended keeper may have left its last words. */
	if (!hvp_wire_send(&self->request, self->fd, deadline, &local))
		g_clear_error(&local);
	if (!receive(self, deadline, error))
		return false;
	if (hvp_wire_get_type(&self->answer) == HVP_WIRE_ERROR)
		return take_error(self, error);
	hvp_wire_get_payload(&self->answer, &length_bytes);
	if (hvp_wire_get_type(&self->answer) != HVP_WIRE_OK || length_bytes < answer_bytes)
		return lost(self, "answered garbage", error);
	return true;
}

/* A request of one part, or none, without an answer. */
static bool simple(HvpKeeper *self, HvpWireType type, const void *bytes, gsize length_bytes,
		   GError **error)
{
	return begin(self, type, error) && add(self, bytes, length_bytes, error) &&
	       finish(self, hvp_deadline_in(ANSWER_TIMEOUT_USEC), 0, error);
}

/* --- life --- */

static bool receive_hello(HvpKeeper *self, GError **error)
{
	HvpWireHello hello;
	gsize length_bytes;
	const guint8 *bytes;

	if (!receive(self, hvp_deadline_in(HELLO_TIMEOUT_USEC), NULL))
		return hvp_error_set(error, HVP_ERROR_INTERNAL,
				     "the program hvpatch-keeper does not start");
	bytes = hvp_wire_get_payload(&self->answer, &length_bytes);
	if (hvp_wire_get_type(&self->answer) != HVP_WIRE_HELLO || length_bytes != sizeof hello)
		return lost(self, "answered garbage", error);
	memcpy(&hello, bytes, sizeof hello);
	self->pid = hello.pid;
	return true;
}

HvpKeeper *hvp_keeper_start(int qmp_fd, int journal_fd, GError **error)
{
	g_autoptr(HvpKeeper) self = g_new0(HvpKeeper, 1);

	self->pages = g_hash_table_new(NULL, NULL);
	self->fd = hvp_spawn_keeper(qmp_fd, journal_fd, error);
	if (self->fd < 0 || !receive_hello(self, error))
		return NULL;
	if (qmp_fd >= 0)
		close(qmp_fd);
	return g_steal_pointer(&self);
}

pid_t hvp_keeper_get_pid(const HvpKeeper *self)
{
	return self->pid;
}

/* The keeper's end closes when it ends. */
static void wait_for_end(HvpKeeper *self)
{
	HvpDeadline deadline = hvp_deadline_in(END_TIMEOUT_USEC);
	struct pollfd descriptor = { self->fd, POLLIN, 0 };
	char rest[256];

	while (poll(&descriptor, 1, hvp_deadline_left_msec(deadline)) > 0)
		if (recv(self->fd, rest, sizeof rest, MSG_DONTWAIT) <= 0)
			return;
}

void hvp_keeper_free(HvpKeeper *self)
{
	if (self == NULL)
		return;
	calm_down(self);
	if (self->fd >= 0) {
		shutdown(self->fd, SHUT_WR);
		wait_for_end(self);
		close(self->fd);
	}
	g_clear_error(&self->ended);
	g_hash_table_unref(self->pages);
	g_free(self);
}

/* --- requests --- */

static void note_pages(HvpKeeper *self, HvpGpa gpa, gsize length_bytes)
{
	guint64 last = (gpa.value + length_bytes - 1) / HVP_PAGE_SIZE;

	for (guint64 page = gpa.value / HVP_PAGE_SIZE; page <= last; page++)
		g_hash_table_add(self->pages, (gpointer)(guintptr)page);
}

GArray *hvp_keeper_get_pages(const HvpKeeper *self)
{
	GArray *pages = g_array_new(FALSE, FALSE, sizeof(HvpGpa));
	GHashTableIter iter;
	gpointer page;

	g_hash_table_iter_init(&iter, self->pages);
	while (g_hash_table_iter_next(&iter, &page, NULL)) {
		HvpGpa gpa = hvp_gpa((guintptr)page * HVP_PAGE_SIZE);

		g_array_append_val(pages, gpa);
	}
	return pages;
}

bool hvp_keeper_use_kvm(HvpKeeper *self, const HvpKvmPlace *place, GError **error)
{
	HvpWirePlace request = { .pid = place->pid, .start_time = place->start_time };

	return begin(self, HVP_WIRE_PLACE, error) && add(self, &request, sizeof request, error) &&
	       add(self, place->ranges, place->range_count * sizeof *place->ranges, error) &&
	       finish(self, hvp_deadline_in(ANSWER_TIMEOUT_USEC), 0, error);
}

bool hvp_keeper_attach(HvpKeeper *self, GError **error)
{
	return simple(self, HVP_WIRE_ATTACH, NULL, 0, error);
}

bool hvp_keeper_adopt(HvpKeeper *self, const HvpKeeperFrame *frames, gsize frame_count,
		      const HvpKeeperHook *hooks, gsize hook_count, const HvpKeeperSpin *spins,
		      gsize spin_count, const HvpKeeperWrite *writes, gsize write_count,
		      bool roll_forward, HvpDeadline deadline, GError **error)
{
	HvpWireAdopt head = {
		.frame_count = (guint32)frame_count,
		.hook_count = (guint32)hook_count,
		.spin_count = (guint32)spin_count,
		.write_count = (guint32)write_count,
		.roll_forward = roll_forward,
		.deadline_at_usec = deadline.at_usec,
	};

	if (frame_count > HVP_KEEPER_MAX_FRAMES || hook_count > HVP_KEEPER_MAX_TRAPS ||
	    spin_count > HVP_KEEPER_MAX_SPINS || write_count > HVP_KEEPER_MAX_WRITES)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "too many frames, hooks, spin traps or writes");
	deadline.at_usec += ANSWER_TIMEOUT_USEC;
	return begin(self, HVP_WIRE_ADOPT, error) && add(self, &head, sizeof head, error) &&
	       add(self, frames, frame_count * sizeof *frames, error) &&
	       add(self, hooks, hook_count * sizeof *hooks, error) &&
	       add(self, spins, spin_count * sizeof *spins, error) &&
	       add(self, writes, write_count * sizeof *writes, error) &&
	       finish(self, deadline, 0, error);
}

bool hvp_keeper_detach(HvpKeeper *self, GError **error)
{
	return simple(self, HVP_WIRE_DETACH, NULL, 0, error);
}

/* Checks and copies the answer to STOP or WAIT. */
static bool take_stop(HvpKeeper *self, HvpKeeperStop *ret_stop, GError **error)
{
	HvpWireStopped stopped;
	gsize length_bytes;
	const guint8 *bytes = hvp_wire_get_payload(&self->answer, &length_bytes);

	memcpy(&stopped, bytes, sizeof stopped);
	if (stopped.vcpu_count == 0 || stopped.vcpu_count > HVP_KEEPER_MAX_VCPUS ||
	    stopped.trapped_vcpu < -1 || stopped.trapped_vcpu >= (gint32)stopped.vcpu_count ||
	    length_bytes != sizeof stopped + stopped.vcpu_count * sizeof(HvpRegisters))
		return lost(self, "answered garbage", error);
	*ret_stop = (HvpKeeperStop){
		.vcpu_count = stopped.vcpu_count,
		.registers = g_memdup2(bytes + sizeof stopped, length_bytes - sizeof stopped),
		.trapped_vcpu = stopped.trapped_vcpu,
		.trap = hvp_gva(stopped.trap),
		.stop_usec = stopped.stop_usec,
		.registers_usec = stopped.registers_usec,
	};
	return true;
}

bool hvp_keeper_stop(HvpKeeper *self, gint64 budget_usec, HvpKeeperStop *ret_stop, GError **error)
{
	HvpWireStop request = { budget_usec };

	hurry(self);
	if (begin(self, HVP_WIRE_STOP, error) && add(self, &request, sizeof request, error) &&
	    finish(self, hvp_deadline_in(ANSWER_TIMEOUT_USEC), sizeof(HvpWireStopped), error) &&
	    take_stop(self, ret_stop, error))
		return true;
	calm_down(self);
	return false;
}

bool hvp_keeper_resume(HvpKeeper *self, gint64 *ret_usec, GError **error)
{
	gsize length_bytes;

	if (!begin(self, HVP_WIRE_RESUME, error) ||
	    !finish(self, hvp_deadline_in(ANSWER_TIMEOUT_USEC), sizeof *ret_usec, error)) {
		calm_down(self);
		return false;
	}
	calm_down(self);
	if (ret_usec != NULL)
		memcpy(ret_usec, hvp_wire_get_payload(&self->answer, &length_bytes),
		       sizeof *ret_usec);
	return true;
}

void hvp_keeper_set_trap_kind(HvpKeeper *self, HvpKeeperTrapKind kind)
{
	self->trap_kind = kind;
}

HvpKeeperTrapKind hvp_keeper_get_trap_kind(const HvpKeeper *self)
{
	return self->trap_kind;
}

void hvp_keeper_set_guard(HvpKeeper *self, HvpKeeperGuard guard, gpointer data)
{
	self->guard = guard;
	self->guard_data = data;
}

bool hvp_keeper_check_no_job(HvpKeeper *self, GError **error)
{
	return self->trap_kind != HVP_KEEPER_SPINS ||
	       ((self->guard == NULL || self->guard(self->guard_data, error)) &&
		simple(self, HVP_WIRE_JOBS, NULL, 0, error));
}

bool hvp_keeper_set_spins(HvpKeeper *self, const HvpKeeperSpin *sites, gsize count, GError **error)
{
	for (gsize i = 0; i < count; i++)
		note_pages(self, sites[i].gpa, HVP_KEEPER_SPIN_BYTES);
	return simple(self, HVP_WIRE_SPINS, sites, count * sizeof *sites, error);
}

bool hvp_keeper_set_traps(HvpKeeper *self, const HvpGva *pcs, gsize count, GError **error)
{
	return simple(self, HVP_WIRE_TRAPS, pcs, count * sizeof *pcs, error);
}

bool hvp_keeper_set_hooks(HvpKeeper *self, const HvpKeeperHook *hooks, gsize count, GError **error)
{
	return simple(self, HVP_WIRE_HOOKS, hooks, count * sizeof *hooks, error);
}

bool hvp_keeper_wait(HvpKeeper *self, HvpDeadline deadline, gint64 budget_usec,
		     HvpKeeperStop *ret_stop, GError **error)
{
	HvpWireWait request = { deadline.at_usec, budget_usec };

	calm_down(self);
	deadline.at_usec = MAX(deadline.at_usec, g_get_monotonic_time()) + ANSWER_TIMEOUT_USEC;
	return begin(self, HVP_WIRE_WAIT, error) && add(self, &request, sizeof request, error) &&
	       finish(self, deadline, sizeof(HvpWireStopped), error) &&
	       take_stop(self, ret_stop, error);
}

static bool on_vcpu(HvpKeeper *self, HvpWireType type, guint vcpu_index, guint64 value,
		    GError **error)
{
	HvpWireVcpu request = { .vcpu_index = vcpu_index, .value = value };

	return simple(self, type, &request, sizeof request, error);
}

bool hvp_keeper_pass(HvpKeeper *self, guint vcpu_index, GError **error)
{
	return on_vcpu(self, HVP_WIRE_PASS, vcpu_index, 0, error);
}

bool hvp_keeper_divert(HvpKeeper *self, const HvpKeeperFrame *frame, const HvpRegisters *registers,
		       GError **error)
{
	HvpWireDivert request = { *frame, *registers };

	if (!simple(self, HVP_WIRE_DIVERT, &request, sizeof request, error))
		return false;
	self->calls++;
	return true;
}

bool hvp_keeper_is_lost(const HvpKeeper *self)
{
	return self->is_lost;
}

bool hvp_keeper_is_calling(const HvpKeeper *self)
{
	return self->calls > 0;
}

bool hvp_keeper_come_home(HvpKeeper *self, guint vcpu_index, GError **error)
{
	if (!on_vcpu(self, HVP_WIRE_HOME, vcpu_index, 0, error))
		return false;
	self->calls--;
	return true;
}

bool hvp_keeper_answer(HvpKeeper *self, guint vcpu_index, guint64 value, GError **error)
{
	return on_vcpu(self, HVP_WIRE_ANSWER, vcpu_index, value, error);
}

bool hvp_keeper_redirect(HvpKeeper *self, guint vcpu_index, HvpGva pc, guint64 argument,
			 GError **error)
{
	HvpWireRedirect request = { .vcpu_index = vcpu_index,
				    .pc = pc.value,
				    .argument = argument };

	return simple(self, HVP_WIRE_REDIRECT, &request, sizeof request, error);
}

static bool write_piece(HvpKeeper *self, guint64 gpa, const guint8 *bytes, gsize length_bytes,
			GError **error)
{
	return begin(self, HVP_WIRE_DATA, error) && add(self, &gpa, sizeof gpa, error) &&
	       add(self, bytes, length_bytes, error) &&
	       finish(self, hvp_deadline_in(ANSWER_TIMEOUT_USEC), 0, error);
}

bool hvp_keeper_write_data(HvpKeeper *self, HvpGpa gpa, const void *bytes, gsize length_bytes,
			   GError **error)
{
	if (length_bytes > 0)
		note_pages(self, gpa, length_bytes);
	for (gsize done = 0; done < length_bytes; done += HVP_WIRE_DATA_BYTES)
		if (!write_piece(self, gpa.value + done, (const guint8 *)bytes + done,
				 MIN(HVP_WIRE_DATA_BYTES, length_bytes - done), error))
			return false;
	return true;
}

bool hvp_keeper_write(HvpKeeper *self, const HvpKeeperWrite *writes, gsize count, GError **error)
{
	if (count > HVP_KEEPER_MAX_WRITES)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "more than %d writes at a time", HVP_KEEPER_MAX_WRITES);
	for (gsize i = 0; i < count; i++)
		note_pages(self, writes[i].gpa, HVP_KEEPER_WRITE_BYTES);
	return simple(self, HVP_WIRE_WRITE, writes, count * sizeof *writes, error);
}

bool hvp_keeper_commit(HvpKeeper *self, GError **error)
{
	return simple(self, HVP_WIRE_COMMIT, NULL, 0, error);
}
