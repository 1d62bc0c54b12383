/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What info says of a VM and its kernel, read before the first of it is shown. */
#pragma once

#include "document/patchable.h"
#include "guest/tasks.h"

typedef struct {
	HvpVcpuState state;
	gint32 pid;
	char comm[HVP_TASK_COMM_BYTES + 1];
} HvpInfoVcpu;

typedef struct {
	HvpTarget *target; /* borrowed */
	HvpInfoVcpu *vcpus; /* of as many as the target has */
	guint task_count;
	HvpPatchable patchable;
} HvpInfo;

/* Reads it all. Fails only where the guest cannot be read. */
bool hvp_info_read(HvpTarget *target, HvpInfo *ret_info, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void hvp_info_clear(HvpInfo *self);

/* Of domains, and of VMs that have none; a socket is one. */
bool hvp_info_is_told_of_monitor(const HvpInfo *self);

/* The document; the caller's. */
JsonNode *hvp_info_to_json(const HvpInfo *self);
