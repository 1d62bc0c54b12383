/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/kvm-run.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vm/access.h"

#define REGISTERS (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS)
#define WANTED (REGISTERS | KVM_SYNC_X86_EVENTS)
/* No address of 4- or 5-level paging, so no instruction is there. */
#define MARKER 0x5aa5c33c0ff0a55aULL
/* Of the events' flags, of which KVM knows a few. */
#define NOT_TOLD (~0U)
/* UIO_MAXIOV is 1024. */
#define BATCH_VCPUS 256

/* What lies beside each other in the page: the two words, ... */
typedef struct {
	guint64 valid;
	guint64 dirty;
} Words;

/* ... and behind them the registers. */
typedef struct {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_vcpu_events events;
} Stored;

#define WORDS_OFFSET offsetof(struct kvm_run, kvm_valid_regs)
#define STORED_OFFSET offsetof(struct kvm_run, s.regs.regs)
#define RIP_OFFSET (STORED_OFFSET + offsetof(struct kvm_regs, rip))
#define EVENT_FLAGS_OFFSET \
	(STORED_OFFSET + offsetof(Stored, events) + offsetof(struct kvm_vcpu_events, flags))

G_STATIC_ASSERT(offsetof(struct kvm_run, kvm_dirty_regs) == WORDS_OFFSET + 8);
G_STATIC_ASSERT(offsetof(struct kvm_sync_regs, sregs) == offsetof(Stored, sregs));
G_STATIC_ASSERT(offsetof(struct kvm_sync_regs, events) == offsetof(Stored, events));

bool hvp_kvm_run_check(GError **error)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int offered;

	if (fd < 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_UNSUPPORTED, "/dev/kvm");
	offered = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS);
	close(fd);
	return (offered >= 0 && (offered & WANTED) == WANTED) ||
	       hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "this host's KVM does not leave registers in the shared page");
}

typedef enum { READ, WRITE } Direction;

typedef struct {
	const HvpKvmProcess *process;
	Direction direction;
	guint count;
	gsize length_bytes;
	struct iovec local[3 * BATCH_VCPUS];
	struct iovec remote[3 * BATCH_VCPUS];
} Batch;

static void add(Batch *self, guint index, gsize offset_bytes, void *bytes, gsize length_bytes)
{
	guint64 hva = self->process->vcpus[index].run.value + offset_bytes;

	self->local[self->count] = (struct iovec){ bytes, length_bytes };
	self->remote[self->count++] = (struct iovec){ (void *)(guintptr)hva, length_bytes };
	self->length_bytes += length_bytes;
}

/* Bytes are copied in the order of the pieces. */
static bool flush(Batch *self, GError **error)
{
	pid_t pid = self->process->pid;
	ssize_t copied = self->direction == READ ? process_vm_readv(pid, self->local, self->count,
								    self->remote, self->count, 0)
						 : process_vm_writev(pid, self->local, self->count,
								     self->remote, self->count, 0);
	bool ok = copied == (ssize_t)self->length_bytes;
	int failure = copied < 0 ? errno : EFAULT;

	self->count = 0;
	self->length_bytes = 0;
	if (ok)
		return true;
	if (failure == EFAULT || failure == ESRCH)
		return hvp_error_set(error,
				     hvp_kvm_process_has_memory(self->process) ? HVP_ERROR_BUSY
									       : HVP_ERROR_VM_GONE,
				     "a vCPU of process %d is not mapped any more", (int)pid);
	return hvp_access_explain(pid, failure, "accessing the vCPUs of", error);
}

/* A batch is too large for a small stack; the program that calls this has one thread. */
static Batch *batch_new(const HvpKvmRun *self, Direction direction)
{
	static Batch batch;

	batch.process = self->process;
	batch.direction = direction;
	batch.count = 0;
	batch.length_bytes = 0;
	return &batch;
}

static bool read_words(const HvpKvmRun *self, guint first, guint end, Words *ret_words,
		       GError **error)
{
	Batch *batch = batch_new(self, READ);

	for (guint i = first; i < end; i++)
		add(batch, i, WORDS_OFFSET, &ret_words[i - first], sizeof *ret_words);
	return flush(batch, error);
}

static HvpKvmRunState sort(guint64 valid, guint64 dirty)
{
	if (dirty != 0)
		return HVP_KVM_RUN_TAKEN;
	if ((valid & REGISTERS) == REGISTERS)
		return HVP_KVM_RUN_SHARED;
	return (valid & REGISTERS) == 0 ? HVP_KVM_RUN_STALE : HVP_KVM_RUN_TAKEN;
}

/* While our bits are there, what was found before them still holds. */
static void find(HvpKvmRun *self, guint index, const Words *words)
{
	bool ours = self->armed[index] && (words->valid & WANTED) == WANTED;

	if (!ours) {
		self->found[index] = words->valid;
		self->known[index] = false;
	}
	self->states[index] = sort(self->found[index], words->dirty);
	if (self->states[index] == HVP_KVM_RUN_STALE && self->known[index])
		self->states[index] = HVP_KVM_RUN_SHARED;
	self->armed[index] = ours || (self->states[index] != HVP_KVM_RUN_TAKEN &&
				      (self->found[index] & WANTED) != WANTED);
}

static bool arm_some(HvpKvmRun *self, guint first, guint end, GError **error)
{
	static guint64 marker = MARKER;
	static guint32 not_told = NOT_TOLD;
	Words words[BATCH_VCPUS];
	guint64 valid[BATCH_VCPUS];
	Batch *batch;

	if (!read_words(self, first, end, words, error))
		return false;
	batch = batch_new(self, WRITE);
	for (guint i = first; i < end; i++) {
		find(self, i, &words[i - first]);
		if (!self->armed[i] || self->states[i] == HVP_KVM_RUN_TAKEN)
			continue;
		valid[i - first] = self->found[i] | WANTED;
		if (self->states[i] == HVP_KVM_RUN_STALE)
			add(batch, i, RIP_OFFSET, &marker, sizeof marker);
		if (words[i - first].valid == valid[i - first])
			continue;
		add(batch, i, EVENT_FLAGS_OFFSET, &not_told, sizeof not_told);
		add(batch, i, WORDS_OFFSET, &valid[i - first], sizeof valid[0]);
	}
	return batch->count == 0 || flush(batch, error);
}

bool hvp_kvm_run_arm(HvpKvmRun *self, GError **error)
{
	guint count = self->process->count;

	for (guint i = 0; i < count; i++)
		self->states[i] = HVP_KVM_RUN_TAKEN;
	for (guint i = 0; i < count; i += BATCH_VCPUS)
		if (!arm_some(self, i, MIN(i + BATCH_VCPUS, count), error))
			return false;
	return true;
}

static void convert(const Stored *from, HvpRegisters *to)
{
	const struct kvm_regs *regs = &from->regs;

	*to = (HvpRegisters){
		.general = { regs->rax, regs->rcx, regs->rdx, regs->rbx, regs->rsp, regs->rbp,
			     regs->rsi, regs->rdi, regs->r8, regs->r9, regs->r10, regs->r11,
			     regs->r12, regs->r13, regs->r14, regs->r15 },
		.rip = regs->rip,
		.rflags = regs->rflags,
		.fs_base = from->sregs.fs.base,
		.gs_base = from->sregs.gs.base,
		.cr0 = from->sregs.cr0,
		.cr3 = from->sregs.cr3,
		.cr4 = from->sregs.cr4,
		.efer = from->sregs.efer,
		.idt_base = from->sregs.idt.base,
		.tr_base = from->sregs.tr.base,
		.cs = from->sregs.cs.selector,
		.ss = from->sregs.ss.selector,
	};
}

/* KVM drops an exception that is pending when registers are set, and injects all others again. */
static bool is_settled(const struct kvm_vcpu_events *events)
{
	return events->flags != NOT_TOLD && events->exception.injected == 0 &&
	       events->exception.pending == 0 && events->interrupt.injected == 0 &&
	       events->nmi.injected == 0 && events->smi.smm == 0;
}

static bool take_some(HvpKvmRun *self, guint first, guint end, HvpRegisters *ret_registers,
		      GError **error)
{
	static Stored stored[BATCH_VCPUS];
	guint8 called_out[BATCH_VCPUS];
	Batch *batch = batch_new(self, READ);

	for (guint i = first; i < end; i++) {
		add(batch, i, STORED_OFFSET, &stored[i - first], sizeof stored[0]);
		add(batch, i, offsetof(struct kvm_run, immediate_exit), &called_out[i - first], 1);
	}
	if (!flush(batch, error))
		return false;
	for (guint i = first; i < end; i++) {
		const Stored *page = &stored[i - first];

		if (self->states[i] == HVP_KVM_RUN_STALE && page->regs.rip != MARKER) {
			self->states[i] = HVP_KVM_RUN_FRESH;
			self->known[i] = true;
		}
		self->settled[i] = is_settled(&page->events) && !called_out[i - first];
		convert(page, &ret_registers[i]);
	}
	return true;
}

bool hvp_kvm_run_take(HvpKvmRun *self, HvpRegisters *ret_registers, GError **error)
{
	guint count = self->process->count;

	for (guint i = 0; i < count; i += BATCH_VCPUS)
		if (!take_some(self, i, MIN(i + BATCH_VCPUS, count), ret_registers, error))
			return false;
	return true;
}

static bool disarm_some(const HvpKvmRun *self, guint first, guint end, GError **error)
{
	Batch *batch = batch_new(self, WRITE);

	for (guint i = first; i < end; i++)
		if (self->armed[i])
			add(batch, i, WORDS_OFFSET, (void *)&self->found[i], sizeof self->found[i]);
	return batch->count == 0 || flush(batch, error);
}

/* Each by itself: of one that is not mapped any more nobody reads it either. */
static bool disarm_each(const HvpKvmRun *self, guint first, guint end, GError **error)
{
	for (guint i = first; i < end; i++) {
		g_autoptr(GError) reason = NULL;

		if (!disarm_some(self, i, i + 1, &reason) &&
		    !g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY)) {
			g_propagate_error(error, g_steal_pointer(&reason));
			return false;
		}
	}
	return true;
}

bool hvp_kvm_run_disarm(HvpKvmRun *self, GError **error)
{
	guint count = self->process->count;
	bool ok = true;

	for (guint i = 0; ok && i < count; i += BATCH_VCPUS) {
		guint end = MIN(i + BATCH_VCPUS, count);

		ok = disarm_some(self, i, end, NULL) || disarm_each(self, i, end, error);
	}
	memset(self->armed, 0, sizeof self->armed);
	return ok;
}

static struct kvm_regs convert_back(const HvpRegisters *from)
{
	const guint64 *general = from->general;

	return (struct kvm_regs){
		.rax = general[HVP_RAX],
		.rbx = general[HVP_RBX],
		.rcx = general[HVP_RCX],
		.rdx = general[HVP_RDX],
		.rsi = general[HVP_RSI],
		.rdi = general[HVP_RDI],
		.rsp = general[HVP_RSP],
		.rbp = general[HVP_RBP],
		.r8 = general[HVP_R8],
		.r9 = general[HVP_R9],
		.r10 = general[HVP_R10],
		.r11 = general[HVP_R11],
		.r12 = general[HVP_R12],
		.r13 = general[HVP_R13],
		.r14 = general[HVP_R14],
		.r15 = general[HVP_R15],
		.rip = from->rip,
		.rflags = from->rflags,
	};
}

bool hvp_kvm_run_put(HvpKvmRun *self, guint index, const HvpRegisters *registers, GError **error)
{
	struct kvm_regs regs = convert_back(registers);
	guint64 dirty = KVM_SYNC_X86_REGS;
	Batch *batch = batch_new(self, WRITE);

	add(batch, index, STORED_OFFSET, &regs, sizeof regs);
	add(batch, index, offsetof(struct kvm_run, kvm_dirty_regs), &dirty, sizeof dirty);
	return flush(batch, error);
}
