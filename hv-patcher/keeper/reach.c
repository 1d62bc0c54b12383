/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/reach.h"

#include <stdio.h>
#include <string.h>

#include "keeper/attach.h"
#include "vm/kvm.h"
#include "vm/ram-blocks.h"

/* A vCPU is back in the guest long before; on a busy host its thread may wait for a CPU. */
#define FIND_USEC (5 * G_USEC_PER_SEC)

/* The only process that a place may name; 0: any. */
static HvpWirePlace only;

bool hvp_reach_allow_only(const char *argument)
{
	int length = 0;

	if (!g_str_has_prefix(argument, HVP_WIRE_ONLY))
		return false;
	argument += strlen(HVP_WIRE_ONLY);
	return sscanf(argument, "%d-%" G_GUINT64_FORMAT "%n", &only.pid, &only.start_time,
		      &length) == 2 &&
	       argument[length] == 0 && only.pid > 0;
}

static bool is_allowed(const HvpWirePlace *place)
{
	return only.pid == 0 ||
	       (place->pid == only.pid && place->start_time == only.start_time);
}

/*
 * Who is not trusted might name as guest memory what is the VMM's own: its stack, its heap. What
 * does not lie where guest memory can is left out (ROM, a device's RAM: nothing of ours is there).
 */
static bool keep_memory(HvpSession *self, GError **error)
{
	HvpRamBlocks blocks;
	gsize kept = 0;

	if (only.pid == 0 || self->range_count == 0)
		return true;
	if (!hvp_ram_blocks_read(&blocks, only.pid, error))
		return false;
	for (gsize i = 0; i < self->range_count; i++) {
		HvpRamRange range = self->ranges[i];

		if (range.end.value > range.start.value &&
		    hvp_ram_blocks_hold(&blocks, range.hva, range.end.value - range.start.value))
			self->ranges[kept++] = range;
	}
	self->range_count = kept;
	return true;
}

bool hvp_reach_set_place(HvpSession *self, const HvpWirePlace *place, const HvpRamRange *ranges,
			 gsize count, GError **error)
{
	if (place->pid <= 0 || count > HVP_RAM_MAX_RANGES)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "a place with pid %d and %" G_GSIZE_FORMAT " ranges of RAM",
				     place->pid, count);
	if (!is_allowed(place))
		return hvp_error_set(error, HVP_ERROR_PERMISSION,
				     "process %d is not the one that this keeper is for",
				     place->pid);
	self->by_kvm = true;
	self->place = *place;
	self->range_count = count;
	memcpy(self->ranges, ranges, count * sizeof *ranges);
	return keep_memory(self, error);
}

static HvpBackend *attach_kvm(HvpSession *self, GError **error)
{
	HvpKvmPlace place = {
		.pid = self->place.pid,
		.start_time = self->place.start_time,
		.ranges = self->ranges,
		.range_count = self->range_count,
	};

	return hvp_kvm_attach(&place, hvp_deadline_in(FIND_USEC), error);
}

/* Only a process with KVM vCPUs can be reached without a monitor. */
static bool has_way(const HvpSession *self, GError **error)
{
	return self->by_kvm || self->qmp != NULL ||
	       hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "neither a monitor nor a place");
}

HvpBackend *hvp_reach_running(HvpSession *self, GError **error)
{
	if (!has_way(self, error))
		return NULL;
	return self->by_kvm ? attach_kvm(self, error) : hvp_attach_running(self->qmp, error);
}

HvpBackend *hvp_reach_leftover(HvpSession *self, bool *ret_stopped, GError **error)
{
	*ret_stopped = !self->by_kvm;
	if (!has_way(self, error))
		return NULL;
	return self->by_kvm ? attach_kvm(self, error) : hvp_attach_leftover(self->qmp, error);
}

bool hvp_reach_leave(HvpSession *self, HvpBackend *backend, bool run, GError **error)
{
	if (self->by_kvm) {
		hvp_backend_free(backend);
		return true;
	}
	return hvp_attach_leave(self->qmp, backend, error) &&
	       (!run || hvp_attach_ensure_running(self->qmp, error));
}

bool hvp_reach_ensure_running(HvpSession *self, GError **error)
{
	/* With the backend its threads were let go. */
	return self->by_kvm || hvp_attach_ensure_running(self->qmp, error);
}
