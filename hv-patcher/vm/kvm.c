/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/kvm.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "mem/address-space.h"
#include "vm/access.h"
#include "vm/kvm-memory.h"
#include "vm/kvm-run.h"
#include "vm/threads.h"
#include "vm/wakeups.h"

/*
 * A vCPU comes out of the guest in microseconds; its thread may have to wait for a CPU. All others
 * stand meanwhile: no longer than a pause may be.
 */
#define STOP_USEC (G_USEC_PER_SEC / 100)
/*
 * An exit that its VMM works on is over soon; a vCPU that is elsewhere may stay there. Spin traps,
 * which are not looked after meanwhile, stand for 2 s at most.
 */
#define ALL_TRIES_USEC G_USEC_PER_SEC
/* How much longer than a try has held the guest it runs before the next one. */
#define REST_FACTOR 4
#define FIRST_PAUSE_USEC 20
#define LAST_PAUSE_USEC 2000
#define LOOK_AGAIN_USEC 500

#define CR4_LA57 (1ULL << 12)

/* What a vCPU's thread was stopped at. */
typedef enum {
	AT_UNKNOWN,
	AT_INTERRUPTED, /* KVM_RUN returned -EINTR: the vCPU stands between two instructions */
	AT_EXIT,	/* outside of KVM_RUN: the VMM may be working on an exit */
} Standing;

typedef struct {
	HvpBackend backend;
	HvpKvmProcess process;
	HvpThreads threads; /* by the index of the vCPU */
	HvpKvmRun run;
	HvpPhysical *memory;
	HvpAddressSpace *spaces[2]; /* of 4 and 5 levels */
	int pidfd;
	int child_fd; /* SIGCHLD */
	int wakeups_fd;
	bool stopped;
	bool listed;	   /* vCPUs and threads, as far as nobody has come or gone since */
	gint64 asked_usec; /* when the last stop began */
	bool checked; /* since the stop: no vCPU came or went */
	Standing standing[HVP_KVM_MAX_VCPUS];
	HvpRegisters registers[HVP_KVM_MAX_VCPUS];
	GError *failure;
} HvpKvm;

static bool still_usable(const HvpKvm *self, GError **error)
{
	if (self->failure == NULL)
		return true;
	if (error != NULL)
		*error = g_error_copy(self->failure);
	return false;
}

/* All run again after these, so that it may be tried another time. */
static bool may_try_again(const GError *error)
{
	return g_error_matches(error, HVP_ERROR, HVP_ERROR_BUSY) ||
	       g_error_matches(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
}

/* After these nothing will work any more. */
static bool is_final(const GError *error)
{
	return g_error_matches(error, HVP_ERROR, HVP_ERROR_VM_GONE) ||
	       g_error_matches(error, HVP_ERROR, HVP_ERROR_INTERNAL);
}

static bool failed(HvpKvm *self, GError *local, GError **error)
{
	if (self->failure == NULL && is_final(local))
		self->failure = g_error_copy(local);
	g_propagate_error(error, local);
	return false;
}

/* --- which thread runs which vCPU --- */

static guint count_unknown(const HvpKvm *self)
{
	guint unknown = 0;

	for (guint i = 0; i < self->process.count; i++)
		unknown += self->process.vcpus[i].thread_id == 0;
	return unknown;
}

static bool knows_thread(const HvpKvm *self, pid_t thread_id)
{
	for (guint i = 0; i < self->process.count; i++)
		if (self->process.vcpus[i].thread_id == thread_id)
			return true;
	return false;
}

/* Asks a running thread's own registers, for which it is stopped. */
static bool ask_running_thread(HvpKvm *self, pid_t thread_id, gint *ret_index, GError **error)
{
	struct user_regs_struct registers;
	HvpThreads *threads = &self->threads;
	bool ok;

	threads->count = 1;
	threads->threads[0] = (HvpThread){ .thread_id = thread_id };
	if (!hvp_threads_seize(threads, error) ||
	    !hvp_threads_stop(threads, hvp_deadline_in(STOP_USEC), error))
		return false;
	ok = hvp_threads_read(threads, 0, &registers, error);
	hvp_threads_release(threads);
	if (ok)
		*ret_index = hvp_kvm_process_find_run(&self->process, &registers);
	return ok;
}

static bool ask_thread(HvpKvm *self, pid_t thread_id, GError **error)
{
	GError *local = NULL;
	bool running;
	gint index;

	if (knows_thread(self, thread_id) ||
	    !hvp_kvm_process_ask_thread(&self->process, thread_id, &index, &running))
		return true;
	if (running && !ask_running_thread(self, thread_id, &index, &local)) {
		/* A thread that ended meanwhile was no vCPU's; others are asked again. */
		if (!may_try_again(local))
			return failed(self, local, error);
		g_error_free(local);
		return true;
	}
	if (index >= 0)
		self->process.vcpus[index].thread_id = thread_id;
	return true;
}

static bool ask_all_threads(HvpKvm *self, GError **error)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/task", (int)self->process.pid);
	g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
	const char *name;

	if (folder == NULL)
		return hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d has ended",
				     (int)self->process.pid);
	while (count_unknown(self) > 0 && (name = g_dir_read_name(folder)) != NULL)
		if (!ask_thread(self, (pid_t)atoi(name), error))
			return false;
	return true;
}

static bool find_threads(HvpKvm *self, HvpDeadline deadline, GError **error)
{
	for (;;) {
		if (!ask_all_threads(self, error))
			return false;
		if (count_unknown(self) == 0)
			break;
		if (hvp_deadline_passed(deadline))
			return hvp_error_set(error, HVP_ERROR_BUSY,
					     "%u of %u vCPUs run in no thread: the VM is paused, "
					     "or halts outside of KVM",
					     count_unknown(self), self->process.count);
		g_usleep(LOOK_AGAIN_USEC);
	}
	self->threads.count = self->process.count;
	for (guint i = 0; i < self->process.count; i++)
		self->threads.threads[i] =
			(HvpThread){ .thread_id = self->process.vcpus[i].thread_id };
	return true;
}

/* A vCPU was unplugged. */
static bool list_again(HvpKvm *self, HvpDeadline deadline, GError **error)
{
	pid_t pid = self->process.pid;

	(void)!hvp_kvm_run_disarm(&self->run, NULL);
	hvp_kvm_process_close(&self->process);
	self->listed = hvp_kvm_process_open(&self->process, pid, error) &&
		       find_threads(self, deadline, error);
	return self->listed;
}

/* --- stopping --- */

static bool read_standing(HvpKvm *self, GError **error)
{
	for (guint i = 0; i < self->process.count; i++) {
		struct user_regs_struct registers;
		gint index;

		if (!hvp_threads_read(&self->threads, i, &registers, error))
			return false;
		index = hvp_kvm_process_find_run(&self->process, &registers);
		if (index >= 0 && (guint)index != i)
			return hvp_error_set(error, HVP_ERROR_CONFLICT,
					     "vCPU %u is in another thread than before",
					     self->process.vcpus[index].id);
		self->standing[i] = index >= 0 && (gint64)registers.rax == -EINTR ? AT_INTERRUPTED
										  : AT_EXIT;
	}
	return true;
}

/* Whether what lies in the page of vCPU @index are its registers now. */
static bool is_told(const HvpKvm *self, guint index)
{
	switch (self->run.states[index]) {
	case HVP_KVM_RUN_FRESH:
		return true;
	case HVP_KVM_RUN_SHARED:
		return self->standing[index] == AT_INTERRUPTED;
	default:
		return false;
	}
}

static bool check_told(HvpKvm *self, GError **error)
{
	gint missing = -1;

	for (guint i = 0; i < self->process.count; i++) {
		if (is_told(self, i))
			continue;
		missing = (gint)i;
		/* Its VMM may be writing others: those of an exit that comes from now on will do.
		 */
		self->run.known[i] = false;
	}
	return missing < 0 ||
	       hvp_error_set(error, HVP_ERROR_BUSY,
			     "vCPU %u is not in the guest, so that its registers are not told",
			     self->process.vcpus[missing].id);
}

/* All or none: on failure all threads run. Pages stay armed for another try. */
static bool try_stop(HvpKvm *self, HvpDeadline deadline, GError **error)
{
	bool told;

	if (!self->listed && !list_again(self, deadline, error))
		return false;
	if (!hvp_threads_seize(&self->threads, error))
		return false;
	if (!hvp_kvm_run_arm(&self->run, error)) {
		/* What is seized can only be let go while it stands. */
		if (hvp_threads_stop(&self->threads, deadline, NULL))
			hvp_threads_release(&self->threads);
		return false;
	}
	self->asked_usec = g_get_monotonic_time();
	if (!hvp_threads_stop(&self->threads, deadline, error))
		return false;
	told = hvp_kvm_run_take(&self->run, self->registers, error) && read_standing(self, error) &&
	       check_told(self, error) && hvp_kvm_run_disarm(&self->run, error);
	if (!told)
		hvp_threads_release(&self->threads);
	return told;
}

/*
 * On a crowded host a thread that was let go waits for a CPU, and the next try finds it where it
 * stood: each has to run once between two of the tries, not all between the same two.
 */
static bool try_until(HvpKvm *self, HvpDeadline deadline, GError **error)
{
	gint64 pause_usec = FIRST_PAUSE_USEC, started = g_get_monotonic_time();
	GError *local = NULL;

	hvp_kvm_memory_prepare(self->memory);
	while (!try_stop(self, hvp_deadline_in(STOP_USEC), &local)) {
		if (!may_try_again(local) || hvp_deadline_passed(deadline)) {
			(void)!hvp_kvm_run_disarm(&self->run, NULL);
			g_propagate_error(error, local);
			return false;
		}
		self->listed = self->listed && !hvp_kvm_process_lost_thread(&self->process);
		g_clear_error(&local);
		g_usleep((gulong)MAX(pause_usec, REST_FACTOR * (g_get_monotonic_time() - started)));
		pause_usec = MIN(2 * pause_usec, LAST_PAUSE_USEC);
		started = g_get_monotonic_time();
	}
	return true;
}

static bool stop(HvpBackend *backend, HvpDeadline deadline, HvpBackendStop *ret_stop,
		 GError **error)
{
	HvpKvm *self = (HvpKvm *)backend;
	GError *local = NULL;

	if (!still_usable(self, error))
		return false;
	if (!try_until(self, hvp_deadline_min(deadline, hvp_deadline_in(ALL_TRIES_USEC)), &local)) {
		if (may_try_again(local))
			local->code = HVP_ERROR_BUSY;
		return failed(self, local, error);
	}
	self->stopped = true;
	self->checked = false;
	*ret_stop = (HvpBackendStop){ HVP_BACKEND_PAUSED, 0, -1, self->asked_usec };
	return true;
}

/* The descriptor tells only of the end of the process. */
static bool wait_stop(HvpBackend *backend, HvpDeadline deadline, HvpBackendStop *ret_stop,
		      GError **error)
{
	HvpKvm *self = (HvpKvm *)backend;
	GError *local = NULL;

	(void)deadline;
	(void)ret_stop;
	hvp_error_set(&local, HVP_ERROR_VM_GONE, "process %d has ended", (int)self->process.pid);
	return failed(self, local, error);
}

static bool check_stopped(HvpBackend *backend, GError **error)
{
	HvpKvm *self = (HvpKvm *)backend;
	struct signalfd_siginfo info;
	GError *local = NULL;

	while (read(self->child_fd, &info, sizeof info) == sizeof info)
		;
	return hvp_threads_check(&self->threads, &local) || failed(self, local, error);
}

static bool resume(HvpBackend *backend, GError **error)
{
	HvpKvm *self = (HvpKvm *)backend;

	(void)error;
	hvp_threads_release(&self->threads);
	self->stopped = false;
	return true;
}

/* --- registers and memory, while stopped --- */

static bool read_registers(HvpBackend *backend, guint vcpu_index, HvpRegisters *ret_registers,
			   GError **error)
{
	HvpKvm *self = (HvpKvm *)backend;

	if (!still_usable(self, error))
		return false;
	*ret_registers = self->registers[vcpu_index];
	return true;
}

static bool can_write_registers(const HvpBackend *backend, guint vcpu_index)
{
	const HvpKvm *self = (const HvpKvm *)backend;

	return self->standing[vcpu_index] == AT_INTERRUPTED && self->run.settled[vcpu_index] &&
	       self->threads.threads[vcpu_index].signal == 0;
}

static bool write_registers(HvpBackend *backend, guint vcpu_index, const HvpRegisters *from,
			    const HvpRegisters *to, GError **error)
{
	HvpKvm *self = (HvpKvm *)backend;
	HvpRegisters *now = &self->registers[vcpu_index];
	GError *local = NULL;

	(void)from;
	if (!still_usable(self, error))
		return false;
	if (!can_write_registers(backend, vcpu_index))
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "vCPU %u is at an exit, or takes an interrupt, that is not "
				     "finished, or is called out",
				     self->process.vcpus[vcpu_index].id);
	if (!hvp_kvm_run_put(&self->run, vcpu_index, to, &local))
		return failed(self, local, error);
	memcpy(now->general, to->general, sizeof now->general);
	now->rip = to->rip;
	now->rflags = to->rflags;
	return true;
}

static bool read_physical(HvpBackend *backend, HvpGpa gpa, void *ret_bytes, gsize length_bytes,
			  GError **error)
{
	HvpKvm *self = (HvpKvm *)backend;
	GError *local = NULL;

	if (!still_usable(self, error))
		return false;
	return hvp_physical_read(self->memory, gpa, ret_bytes, length_bytes, &local) ||
	       failed(self, local, error);
}

/* A vCPU that came after the threads were listed would run on: nothing is written then. */
static bool check_complete(HvpKvm *self, GError **error)
{
	if (!self->checked)
		self->checked = hvp_kvm_process_check(&self->process, error);
	return self->checked;
}

static bool write_physical(HvpBackend *backend, HvpGpa gpa, const void *bytes, gsize length_bytes,
			   GError **error)
{
	HvpKvm *self = (HvpKvm *)backend;
	GError *local = NULL;

	if (!still_usable(self, error))
		return false;
	return (check_complete(self, &local) &&
		hvp_kvm_memory_write(self->memory, gpa, bytes, length_bytes, &local)) ||
	       failed(self, local, error);
}

/* The page tables as vCPU @index uses them now. */
static HvpAddressSpace *get_space(HvpKvm *self, guint index)
{
	const HvpRegisters *registers = &self->registers[index];
	HvpAddressSpace *space = self->spaces[(registers->cr4 & CR4_LA57) != 0];

	hvp_address_space_set_root(space, registers->cr3);
	hvp_address_space_forget(space);
	return space;
}

static bool read_virtual(HvpBackend *backend, guint vcpu_index, HvpGva gva, void *ret_bytes,
			 gsize length_bytes, GError **error)
{
	HvpKvm *self = (HvpKvm *)backend;
	GError *local = NULL;

	if (!still_usable(self, error))
		return false;
	return hvp_address_space_read(get_space(self, vcpu_index), gva, ret_bytes, length_bytes,
				      &local) ||
	       failed(self, local, error);
}

static bool write_virtual(HvpBackend *backend, guint vcpu_index, HvpGva gva, const void *bytes,
			  gsize length_bytes, GError **error)
{
	HvpKvm *self = (HvpKvm *)backend;
	HvpAddressSpace *space = get_space(self, vcpu_index);
	const guint8 *from = bytes;
	GError *local = NULL;

	if (!still_usable(self, error))
		return false;
	while (length_bytes > 0) {
		gsize part_bytes =
			MIN(length_bytes, HVP_PAGE_SIZE - (gsize)(gva.value & HVP_PAGE_MASK));
		HvpGpa gpa;

		if (!hvp_address_space_translate(space, gva, &gpa, &local) ||
		    !write_physical(backend, gpa, from, part_bytes, &local))
			return failed(self, local, error);
		gva = hvp_gva_add(gva, part_bytes);
		from += part_bytes;
		length_bytes -= part_bytes;
	}
	return true;
}

/* --- life --- */

static void free_backend(HvpBackend *backend)
{
	HvpKvm *self = (HvpKvm *)backend;

	if (self->stopped)
		hvp_threads_release(&self->threads);
	hvp_cpus_end(&self->threads.cpus);
	hvp_kvm_process_close(&self->process);
	hvp_address_space_free(self->spaces[0]);
	hvp_address_space_free(self->spaces[1]);
	hvp_physical_free(self->memory);
	if (self->pidfd >= 0)
		close(self->pidfd);
	if (self->child_fd >= 0)
		close(self->child_fd);
	if (self->wakeups_fd >= 0)
		close(self->wakeups_fd);
	g_clear_error(&self->failure);
	g_free(self);
}

static bool has_failed(const HvpBackend *backend)
{
	return ((const HvpKvm *)backend)->failure != NULL;
}

static guint get_vcpu_count(const HvpBackend *backend)
{
	return ((const HvpKvm *)backend)->process.count;
}

static int get_fd(const HvpBackend *backend)
{
	const HvpKvm *self = (const HvpKvm *)backend;

	/* The end of a traced thread is told to us first. */
	return self->stopped ? self->child_fd : self->pidfd;
}

static const HvpBackendOps ops = {
	.name = "kvm",
	.runs_when_let_go = true,
	.free = free_backend,
	.has_failed = has_failed,
	.get_vcpu_count = get_vcpu_count,
	.get_fd = get_fd,
	.stop = stop,
	.wait_stop = wait_stop,
	.check_stopped = check_stopped,
	.resume = resume,
	.read_registers = read_registers,
	.can_write_registers = can_write_registers,
	.write_registers = write_registers,
	.read_physical = read_physical,
	.write_physical = write_physical,
	.read_virtual = read_virtual,
	.write_virtual = write_virtual,
};

static bool set_up(HvpKvm *self, const HvpKvmPlace *place, HvpDeadline deadline, GError **error)
{
	guint64 start_time;

	self->pidfd = pidfd_open(place->pid, 0);
	if (self->child_fd < 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "signals");
	if (self->pidfd < 0)
		return hvp_access_explain(place->pid, errno, "opening", error);
	if (!hvp_access_read_start_time(place->pid, &start_time) || start_time != place->start_time)
		return hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d has ended",
				     (int)place->pid);
	self->memory = hvp_kvm_memory_new(place->pid, place->ranges, place->range_count, error);
	if (self->memory == NULL || !hvp_kvm_run_check(error) ||
	    !hvp_kvm_process_open(&self->process, place->pid, error))
		return false;
	self->spaces[0] = hvp_address_space_new(self->memory, 0, 0);
	self->spaces[1] = hvp_address_space_new(self->memory, 0, CR4_LA57);
	self->run.process = &self->process;
	self->threads.pid = place->pid;
	self->listed = find_threads(self, deadline, error);
	if (self->listed)
		hvp_threads_keep_off(&self->threads);
	return self->listed;
}

HvpBackend *hvp_kvm_attach(const HvpKvmPlace *place, HvpDeadline deadline, GError **error)
{
	HvpKvm *self = g_new0(HvpKvm, 1);

	self->backend.ops = &ops;
	self->pidfd = -1;
	self->child_fd = hvp_threads_prepare();
	self->wakeups_fd = hvp_wakeups_hasten();
	hvp_cpus_begin(&self->threads.cpus);
	if (!set_up(self, place, deadline, error)) {
		free_backend(&self->backend);
		return NULL;
	}
	return &self->backend;
}
