/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kvm backend at a VMM that is not QEMU: a process of the test's own with two vCPUs, which may
 * use the synchronized registers itself, and may stay out of the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm/access.h"
#include "vm/kvm.h"

#define VCPUS 2
/* One more, which may be there and run by nobody. */
#define MAX_VCPUS 3
#define MEMORY_BYTES 0x10000
#define CODE 0x1000
#define COUNTERS 0x2000
/* 1: incl %eax; movl %eax, COUNTERS; jmp 1b, for the first vCPU; 16 bytes on, for the other. */
static const guint8 code[MAX_VCPUS][16] = {
	{ 0x66, 0x40, 0x66, 0xa3, 0x00, 0x20, 0xeb, 0xf8 },
	{ 0x66, 0x40, 0x66, 0xa3, 0x04, 0x20, 0xeb, 0xf8 },
	{ 0x66, 0x40, 0x66, 0xa3, 0x08, 0x20, 0xeb, 0xf8 },
};

typedef enum { INSIDE, OUTSIDE, UNPLUGGED } Where;

/* What the VMM and the test tell each other. */
typedef struct {
	gint where[MAX_VCPUS]; /* to be */
	gint is[MAX_VCPUS];
	gint kick;     /* the second vCPU, again and again */
	guint64 valid; /* what the VMM asks for itself */
	guint64 dirty; /* left by one that is outside */
	struct kvm_run *runs[MAX_VCPUS];
} Board;

typedef struct {
	pid_t pid;
	Board *board;	/* shared */
	guint8 *memory; /* shared; at the same address in the VMM */
	HvpRamRange range;
	HvpBackend *backend;
} Fixture;

/* --- the VMM --- */

static Fixture *vmm; /* in the child */

static void run_vcpu(guint index, int vcpu_fd)
{
	struct kvm_run *run = vmm->board->runs[index];
	Board *board = vmm->board;

	run->kvm_valid_regs = board->valid;
	for (;;) {
		if (ioctl(vcpu_fd, KVM_RUN, 0) != 0 && errno != EINTR)
			_exit(2);
		if (g_atomic_int_get(&board->where[index]) == INSIDE)
			continue;
		if (g_atomic_int_get(&board->where[index]) == UNPLUGGED)
			return;
		run->kvm_dirty_regs = board->dirty;
		g_atomic_int_set(&board->is[index], OUTSIDE);
		while (g_atomic_int_get(&board->where[index]) == OUTSIDE)
			usleep(1000);
		run->kvm_dirty_regs = 0;
		g_atomic_int_set(&board->is[index], INSIDE);
	}
}

typedef struct {
	guint index;
	int vm_fd, run_bytes;
} Vcpu;

/* As QEMU has it: the descriptor of one that was unplugged stays, and is mapped when it is needed.
 */
static void *vcpu_thread(void *data)
{
	const Vcpu *self = data;
	struct kvm_regs regs = { .rip = CODE + 16 * self->index, .rflags = 2 };
	struct kvm_run *run;
	struct kvm_sregs sregs;
	int fd = ioctl(self->vm_fd, KVM_CREATE_VCPU, self->index);

	if (g_atomic_int_get(&vmm->board->where[self->index]) == UNPLUGGED)
		g_atomic_int_set(&vmm->board->is[self->index], UNPLUGGED);
	while (g_atomic_int_get(&vmm->board->where[self->index]) == UNPLUGGED)
		usleep(1000);
	run = mmap(NULL, self->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	vmm->board->runs[self->index] = run;
	if (fd < 0 || run == MAP_FAILED || ioctl(fd, KVM_GET_SREGS, &sregs) != 0)
		_exit(3);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(fd, KVM_SET_SREGS, &sregs) != 0 || ioctl(fd, KVM_SET_REGS, &regs) != 0)
		_exit(4);
	run_vcpu(self->index, fd);
	munmap(run, self->run_bytes);
	return NULL;
}

static void on_kick(int number)
{
	(void)number;
}

static void be_vmm(Fixture *self, guint machines, guint vcpu_count)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct kvm_userspace_memory_region region = {
		.memory_size = MEMORY_BYTES,
		.userspace_addr = (guintptr)self->memory,
	};
	pthread_t threads[MAX_VCPUS];
	Vcpu vcpus[MAX_VCPUS];
	int vm_fd = -1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_TIMERSLACK, 1);
	signal(SIGUSR1, on_kick);
	vmm = self;
	for (guint i = 0; i < machines; i++)
		vm_fd = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm_fd < 0 || ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region) != 0)
		_exit(5);
	for (guint i = 0; i < vcpu_count; i++) {
		vcpus[i] = (Vcpu){ i, vm_fd, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0) };
		if (pthread_create(&threads[i], NULL, vcpu_thread, &vcpus[i]) != 0)
			_exit(6);
	}
	for (;;) {
		if (g_atomic_int_get(&self->board->kick))
			pthread_kill(threads[1], SIGUSR1);
		usleep(g_atomic_int_get(&self->board->kick) ? 5 : 1000);
	}
}

/* --- the test --- */

static bool has_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		g_test_skip("no /dev/kvm here");
		return false;
	}
	close(fd);
	return true;
}

static guint32 count_of(const Fixture *self, guint index)
{
	guint32 count;

	memcpy(&count, self->memory + COUNTERS + 4 * index, sizeof count);
	return count;
}

/* It is a failure if that does not happen in a minute. */
#define wait_until(condition)                                                     \
	do {                                                                      \
		HvpDeadline wait_deadline = hvp_deadline_in(60 * G_USEC_PER_SEC); \
		while (!(condition)) {                                            \
			g_assert_false(hvp_deadline_passed(wait_deadline));       \
			g_usleep(1000);                                           \
		}                                                                 \
	} while (0)

static void assert_advances(const Fixture *self)
{
	for (guint i = 0; i < VCPUS; i++) {
		guint32 before = count_of(self, i);

		wait_until(count_of(self, i) != before);
	}
}

static void *share(gsize length_bytes)
{
	void *at = mmap(NULL, length_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			0);

	g_assert_true(at != MAP_FAILED);
	return at;
}

static void start(Fixture *self, guint64 valid, guint machines, guint vcpu_count)
{
	self->board = share(sizeof *self->board);
	self->memory = share(MEMORY_BYTES);
	self->board->valid = valid;
	self->board->where[VCPUS] = UNPLUGGED;
	memcpy(self->memory + CODE, code, sizeof code);
	self->range = (HvpRamRange){ hvp_gpa(0), hvp_gpa(MEMORY_BYTES),
				     hvp_hva((guintptr)self->memory) };
	self->pid = fork();
	g_assert_cmpint(self->pid, >=, 0);
	if (self->pid == 0)
		be_vmm(self, machines, vcpu_count);
	for (guint i = 0; i < VCPUS; i++)
		wait_until(count_of(self, i) != 0);
}

static HvpBackend *attach(Fixture *self, GError **error)
{
	HvpKvmPlace place = { .pid = self->pid, .ranges = &self->range, .range_count = 1 };

	g_assert_true(hvp_access_read_start_time(self->pid, &place.start_time));
	return hvp_kvm_attach(&place, hvp_deadline_in(10 * G_USEC_PER_SEC), error);
}

static void start_attached(Fixture *self, guint64 valid)
{
	g_autoptr(GError) error = NULL;

	start(self, valid, 1, VCPUS);
	self->backend = attach(self, &error);
	g_assert_no_error(error);
	g_assert_cmpuint(hvp_backend_get_vcpu_count(self->backend), ==, VCPUS);
}

static void end(Fixture *self)
{
	int status;

	hvp_backend_free(self->backend);
	g_assert_cmpint(waitpid(self->pid, &status, WNOHANG), ==, 0);
	kill(self->pid, SIGKILL);
	g_assert_cmpint(waitpid(self->pid, &status, 0), ==, self->pid);
	munmap(self->board, sizeof *self->board);
	munmap(self->memory, MEMORY_BYTES);
}

static guint64 read_valid(const Fixture *self, guint index)
{
	guint64 value;
	struct iovec local = { &value, sizeof value };
	struct iovec remote = { &self->board->runs[index]->kvm_valid_regs, sizeof value };

	g_assert_cmpint(process_vm_readv(self->pid, &local, 1, &remote, 1, 0), ==, sizeof value);
	return value;
}

static bool stop_once(Fixture *self, GError **error)
{
	HvpBackendStop stop;

	return hvp_backend_stop(self->backend, hvp_deadline_in(10 * G_USEC_PER_SEC), &stop, error);
}

/* On a crowded host a thread may wait for its CPU for longer than a stop takes its time. */
static void stop(Fixture *self)
{
	HvpDeadline deadline = hvp_deadline_in(60 * G_USEC_PER_SEC);

	for (;;) {
		g_autoptr(GError) error = NULL;

		if (stop_once(self, &error))
			return;
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
		g_assert_false(hvp_deadline_passed(deadline));
	}
}

/* All stand in their loops, registers and counters agree, and stay. */
static void assert_stands(const Fixture *self)
{
	guint32 before[VCPUS];

	for (guint i = 0; i < VCPUS; i++) {
		g_autoptr(GError) error = NULL;
		HvpRegisters registers;

		g_assert_true(hvp_backend_read_registers(self->backend, i, &registers, &error));
		g_assert_cmphex(registers.rip, >=, CODE + 16 * i);
		g_assert_cmphex(registers.rip, <=, CODE + 16 * i + 6);
		before[i] = count_of(self, i);
		g_assert_cmpuint((guint32)registers.general[HVP_RAX] - before[i], <=, 1);
	}
	g_usleep(2000);
	for (guint i = 0; i < VCPUS; i++)
		g_assert_cmpuint(count_of(self, i), ==, before[i]);
}

static void resume(Fixture *self)
{
	g_autoptr(GError) error = NULL;

	g_assert_true(hvp_backend_resume(self->backend, &error));
}

/* An interrupted KVM_RUN returns, whether or not the stop comes about. */
static void send_out(Fixture *self, guint index)
{
	g_autoptr(GError) error = NULL;

	g_atomic_int_set(&self->board->where[index], OUTSIDE);
	if (stop_once(self, &error))
		resume(self);
	wait_until(g_atomic_int_get(&self->board->is[index]) == OUTSIDE);
}

static void check_storm(guint64 valid)
{
	Fixture self = { 0 };

	if (!has_kvm())
		return;
	start_attached(&self, valid);
	for (guint round = 0; round < 50; round++) {
		stop(&self);
		assert_stands(&self);
		for (guint i = 0; i < VCPUS; i++)
			g_assert_cmphex(read_valid(&self, i), ==, valid);
		resume(&self);
	}
	assert_advances(&self);
	end(&self);
}

static void test_other_vmm(void)
{
	check_storm(0);
}

static void test_asks_itself(void)
{
	check_storm(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS);
	check_storm(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS);
}

/* A stop that never comes about leaves nothing armed, and none that follows is the worse for it. */
static void test_outside(void)
{
	g_autoptr(GError) error = NULL;
	Fixture self = { 0 };

	if (!has_kvm())
		return;
	start_attached(&self, 0);
	send_out(&self, 1);
	g_assert_false(stop_once(&self, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
	g_assert_nonnull(strstr(error->message, "vCPU 1"));
	for (guint i = 0; i < VCPUS; i++)
		g_assert_cmphex(read_valid(&self, i), ==, 0);
	g_atomic_int_set(&self.board->where[1], INSIDE);
	stop(&self);
	assert_stands(&self);
	resume(&self);
	assert_advances(&self);
	end(&self);
}

static gpointer let_in(gpointer data)
{
	Fixture *self = data;

	g_usleep(100 * 1000);
	g_atomic_int_set(&self->board->where[0], INSIDE);
	return NULL;
}

/* One comes back while the stop is being tried. */
static void test_comes_back(void)
{
	Fixture self = { 0 };
	GThread *thread;

	if (!has_kvm())
		return;
	start_attached(&self, 0);
	send_out(&self, 0);
	thread = g_thread_new("let-in", let_in, &self);
	stop(&self);
	assert_stands(&self);
	resume(&self);
	g_thread_join(thread);
	assert_advances(&self);
	end(&self);
}

/* Exits between the tries of a stop: what counts is the last one. */
static void test_kicked(void)
{
	Fixture self = { 0 };

	if (!has_kvm())
		return;
	start_attached(&self, 0);
	for (guint round = 0; round < 10; round++) {
		GThread *thread;

		g_atomic_int_set(&self.board->kick, 1);
		send_out(&self, 0);
		thread = g_thread_new("let-in", let_in, &self);
		stop(&self);
		g_atomic_int_set(&self.board->kick, 0);
		assert_stands(&self);
		resume(&self);
		g_thread_join(thread);
	}
	assert_advances(&self);
	end(&self);
}

/* One of the descriptors is of a vCPU that is run by nobody, until it is plugged in again. */
static void test_parked(void)
{
	g_autoptr(GError) error = NULL;
	Fixture self = { 0 };
	guint32 nothing = 0;

	if (!has_kvm())
		return;
	start(&self, 0, 1, MAX_VCPUS);
	wait_until(g_atomic_int_get(&self.board->is[VCPUS]) == UNPLUGGED);
	self.backend = attach(&self, &error);
	g_assert_no_error(error);
	stop(&self);
	g_assert_cmpuint(hvp_backend_get_vcpu_count(self.backend), ==, VCPUS);
	assert_stands(&self);
	g_assert_true(hvp_backend_write_physical(self.backend, hvp_gpa(COUNTERS + 0x100), &nothing,
						 sizeof nothing, &error));
	resume(&self);
	g_atomic_int_set(&self.board->where[VCPUS], INSIDE);
	wait_until(count_of(&self, VCPUS) != 0);
	stop(&self);
	g_assert_false(hvp_backend_write_physical(self.backend, hvp_gpa(COUNTERS + 0x100), &nothing,
						  sizeof nothing, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
	resume(&self);
	end(&self);
}

static void test_unplugged(void)
{
	g_autoptr(GError) error = NULL;
	Fixture self = { 0 };
	guint32 before, nothing = 0;

	if (!has_kvm())
		return;
	start_attached(&self, 0);
	g_atomic_int_set(&self.board->where[1], UNPLUGGED);
	for (guint round = 0; round < 20; round++) {
		stop(&self);
		resume(&self);
	}
	stop(&self);
	g_assert_cmpuint(hvp_backend_get_vcpu_count(self.backend), ==, 1);
	before = count_of(&self, 0);
	g_assert_true(hvp_backend_write_physical(self.backend, hvp_gpa(COUNTERS + 0x100), &nothing,
						 sizeof nothing, &error));
	g_usleep(2000);
	g_assert_cmpuint(count_of(&self, 0), ==, before);
	resume(&self);
	wait_until(count_of(&self, 0) != before);
	g_assert_cmphex(read_valid(&self, 0), ==, 0);
	end(&self);
}

/* Nobody has touched it yet: it is fetched before the next stop. */
static void test_cold_page(void)
{
	const HvpGpa cold = hvp_gpa(0x8000);
	g_autoptr(GError) error = NULL;
	Fixture self = { 0 };
	guint8 byte = 7;

	if (!has_kvm())
		return;
	start_attached(&self, 0);
	stop(&self);
	g_assert_false(hvp_backend_write_physical(self.backend, cold, &byte, 1, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_FAULT);
	g_clear_error(&error);
	resume(&self);
	stop(&self);
	g_assert_true(hvp_backend_write_physical(self.backend, cold, &byte, 1, &error));
	resume(&self);
	g_assert_cmpuint(self.memory[cold.value], ==, byte);
	end(&self);
}

/* Registers of the VMM's own, not yet in the vCPU, are not taken for its, nor overwritten. */
static void test_dirty(void)
{
	g_autoptr(GError) error = NULL;
	Fixture self = { 0 };

	if (!has_kvm())
		return;
	start_attached(&self, KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS);
	self.board->dirty = KVM_SYNC_X86_REGS;
	send_out(&self, 0);
	g_assert_false(stop_once(&self, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
	g_atomic_int_set(&self.board->where[0], INSIDE);
	stop(&self);
	assert_stands(&self);
	resume(&self);
	assert_advances(&self);
	end(&self);
}

static void test_two_machines(void)
{
	g_autoptr(GError) error = NULL;
	Fixture self = { 0 };

	if (!has_kvm())
		return;
	start(&self, 0, 2, VCPUS);
	g_assert_null(attach(&self, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
	assert_advances(&self);
	end(&self);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vm/kvm/other-vmm-UNDISTURBED", test_other_vmm);
	g_test_add_func("/vm/kvm/vmm-asks-for-registers-itself-RESTORED", test_asks_itself);
	g_test_add_func("/vm/kvm/vcpu-outside-of-kvm-BUSY", test_outside);
	g_test_add_func("/vm/kvm/vcpu-comes-back-STOPPED", test_comes_back);
	g_test_add_func("/vm/kvm/kicked-while-tried-STOPPED", test_kicked);
	g_test_add_func("/vm/kvm/parked-then-plugged-BUSY", test_parked);
	g_test_add_func("/vm/kvm/unplugged-STOPPED", test_unplugged);
	g_test_add_func("/vm/kvm/cold-page-FETCHED", test_cold_page);
	g_test_add_func("/vm/kvm/registers-of-the-vmm-BUSY", test_dirty);
	g_test_add_func("/vm/kvm/two-machines-UNSUPPORTED", test_two_machines);
	return g_test_run();
}
