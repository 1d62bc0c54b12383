/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/activity.h"

#define COUNTER_BYTES 8U

struct HvpActivity {
	HvpKernel *kernel;
	GArray *reads; /* HvpVirtualRead, one a counter; none where one is missing */
	guint8 *marked;
	guint8 *now;
	gsize length_bytes; /* of each of the two */
	bool has_mark;
};

void hvp_activity_free(HvpActivity *self)
{
	if (self == NULL)
		return;
	g_array_unref(self->reads);
	g_free(self->marked);
	g_free(self->now);
	g_free(self);
}

static void add_counter(HvpActivity *self, HvpGva address, gsize length_bytes)
{
	HvpVirtualRead read = { address, NULL, length_bytes, false };

	g_array_append_val(self->reads, read);
}

static bool add_tasks(HvpActivity *self)
{
	HvpGva forks, threads;

	if (!hvp_kernel_symbol(self->kernel, "total_forks", &forks, NULL) ||
	    !hvp_kernel_symbol(self->kernel, "nr_threads", &threads, NULL))
		return false;
	add_counter(self, forks, 8);
	add_counter(self, threads, 4);
	return true;
}

static bool add_run_queues(HvpActivity *self, GError **error)
{
	guint32 switches = hvp_layout_get(hvp_kernel_get_layout(self->kernel),
					  HVP_AT_RQ_NR_SWITCHES);

	for (guint cpu = 0; cpu < hvp_kernel_get_cpu_count(self->kernel); cpu++) {
		HvpGva queue;

		if (hvp_kernel_get_cpu_offset(self->kernel, cpu) == 0)
			continue;
		if (!hvp_kernel_per_cpu(self->kernel, "runqueues", cpu, &queue, error))
			return false;
		add_counter(self, hvp_gva_add(queue, switches), 8);
	}
	return true;
}

HvpActivity *hvp_activity_new(HvpKernel *kernel, GError **error)
{
	g_autoptr(HvpActivity) self = g_new0(HvpActivity, 1);

	self->kernel = kernel;
	self->reads = g_array_new(FALSE, FALSE, sizeof(HvpVirtualRead));
	if (!hvp_layout_has(hvp_kernel_get_layout(kernel), HVP_AT_RQ_NR_SWITCHES) ||
	    !add_tasks(self))
		return g_steal_pointer(&self);
	if (!add_run_queues(self, error))
		return NULL;
	self->length_bytes = (gsize)self->reads->len * COUNTER_BYTES;
	self->marked = g_malloc0(self->length_bytes);
	self->now = g_malloc0(self->length_bytes);
	return g_steal_pointer(&self);
}

static bool read_counters(HvpActivity *self, guint8 *buffer)
{
	HvpVirtualRead *reads = (HvpVirtualRead *)(void *)self->reads->data;
	bool ok;

	for (guint i = 0; i < self->reads->len; i++)
		reads[i].buffer = buffer + (gsize)i * COUNTER_BYTES;
	ok = self->reads->len > 0 &&
	     hvp_address_space_read_batch(hvp_kernel_get_space(self->kernel), reads,
					  self->reads->len, NULL);
	for (guint i = 0; i < self->reads->len && ok; i++)
		ok = reads[i].ok;
	return ok;
}

void hvp_activity_mark(HvpActivity *self)
{
	self->has_mark = read_counters(self, self->marked);
}

void hvp_activity_forget(HvpActivity *self)
{
	self->has_mark = false;
}

bool hvp_activity_has_moved(HvpActivity *self)
{
	return self->has_mark && !hvp_activity_is_quiet(self);
}

bool hvp_activity_is_quiet(HvpActivity *self)
{
	return self->has_mark && read_counters(self, self->now) &&
	       memcmp(self->marked, self->now, self->length_bytes) == 0;
}
