/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/locks.h"

#include "base/bytes.h"

/* The low bits of a mutex's owner word are flags (kernel/locking/mutex.h). */
#define MUTEX_FLAG_BITS 7U
/* rt_mutex: one flag bit, "has waiters". */
#define RT_MUTEX_FLAG_BITS 1U
/* _QW_LOCKED in include/asm-generic/qrwlock.h: a writer holds it. */
#define WRITER_BITS 0xffU
/* READER_BIAS in include/linux/rwbase_rt.h: gone as soon as a writer holds it or waits. */
#define RT_READER_BIAS (1U << 31)
/* The locked byte of a queued spinlock. */
#define SPIN_LOCKED_BITS 0xffU

typedef struct {
	const char *name;
	guint64 mask; /* bits that tell whether it is held */
	guint64 free; /* what they are when it is not */
	guint8 bytes[8];
} Lock;

struct HvpLocks {
	HvpKernel *kernel;
	GArray *locks; /* Lock */
	GArray *reads; /* HvpVirtualRead, one a lock */
};

void hvp_locks_free(HvpLocks *self)
{
	if (self == NULL)
		return;
	g_array_unref(self->locks);
	g_array_unref(self->reads);
	g_free(self);
}

static void add_lock(HvpLocks *self, const char *name, HvpGva word, gsize bytes, guint64 mask,
		     guint64 free)
{
	Lock lock = { .name = name, .mask = mask, .free = free };
	HvpVirtualRead read = { word, NULL, bytes, false };

	g_array_append_val(self->locks, lock);
	g_array_append_val(self->reads, read);
}

static bool add_mutex(HvpLocks *self, const char *name, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);
	bool is_rt = !hvp_layout_has(layout, HVP_AT_MUTEX_OWNER);
	HvpLayoutItem owner = is_rt ? HVP_AT_MUTEX_RT_OWNER : HVP_AT_MUTEX_OWNER;
	HvpGva address;

	if (!hvp_layout_require(layout, owner, error) ||
	    !hvp_kernel_symbol(self->kernel, name, &address, error))
		return false;
	add_lock(self, name, hvp_gva_add(address, hvp_layout_get(layout, owner)), 8,
		 ~(guint64)(is_rt ? RT_MUTEX_FLAG_BITS : MUTEX_FLAG_BITS), 0);
	return true;
}

static bool add_run_queues(HvpLocks *self, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);

	if (!hvp_layout_require(layout, HVP_AT_RQ_LOCK, error))
		return false;
	for (guint cpu = 0; cpu < hvp_kernel_get_cpu_count(self->kernel); cpu++) {
		HvpGva queue;

		if (hvp_kernel_get_cpu_offset(self->kernel, cpu) == 0)
			continue;
		if (!hvp_kernel_per_cpu(self->kernel, "runqueues", cpu, &queue, error))
			return false;
		add_lock(self, "a run queue's lock",
			 hvp_gva_add(queue, hvp_layout_get(layout, HVP_AT_RQ_LOCK)), 4,
			 SPIN_LOCKED_BITS, 0);
	}
	return true;
}

static bool add_all(HvpLocks *self, GError **error)
{
	/* A kernel without the feature has no such lock, and nobody who holds it. */
	static const char *const optional[] = { "kprobe_mutex", "jump_label_mutex", "ftrace_lock",
						"module_mutex", "klp_mutex" };
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);
	HvpGva tasklist;

	if (!add_mutex(self, "text_mutex", error) ||
	    !hvp_kernel_symbol(self->kernel, "tasklist_lock", &tasklist, error))
		return false;
	for (guint i = 0; i < G_N_ELEMENTS(optional); i++)
		if (hvp_kernel_has_symbol(self->kernel, optional[i]) &&
		    !add_mutex(self, optional[i], error))
			return false;
	if (hvp_layout_has(layout, HVP_AT_MUTEX_OWNER))
		add_lock(self, "tasklist_lock", tasklist, 4, WRITER_BITS, 0);
	else
		add_lock(self, "tasklist_lock", tasklist, 4, RT_READER_BIAS, RT_READER_BIAS);
	return add_run_queues(self, error);
}

HvpLocks *hvp_locks_new(HvpKernel *kernel, GError **error)
{
	g_autoptr(HvpLocks) self = g_new0(HvpLocks, 1);

	self->kernel = kernel;
	self->locks = g_array_new(FALSE, FALSE, sizeof(Lock));
	self->reads = g_array_new(FALSE, FALSE, sizeof(HvpVirtualRead));
	if (!add_all(self, error))
		return NULL;
	for (guint i = 0; i < self->locks->len; i++)
		g_array_index(self->reads, HvpVirtualRead, i).buffer =
			g_array_index(self->locks, Lock, i).bytes;
	return g_steal_pointer(&self);
}

bool hvp_locks_check_free(HvpLocks *self, GError **error)
{
	HvpVirtualRead *reads = (HvpVirtualRead *)(void *)self->reads->data;

	if (!hvp_address_space_read_batch(hvp_kernel_get_space(self->kernel), reads,
					  self->reads->len, error))
		return false;
	for (guint i = 0; i < self->locks->len; i++) {
		const Lock *lock = &g_array_index(self->locks, Lock, i);
		guint64 word = reads[i].length_bytes == 8 ? hvp_load_u64(lock->bytes)
							  : hvp_load_u32(lock->bytes);

		if (!reads[i].ok || (word & lock->mask) != lock->free)
			return hvp_error_set(error, HVP_ERROR_BUSY, "the guest holds %s",
					     lock->name);
	}
	return true;
}
