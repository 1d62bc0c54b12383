/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one VM of a job, found by the half of the worker that has the privileges, before the other
 * half is started: its process is fixed here, and whatever is asked for later is of that process.
 */
#pragma once

#include "worker/job.h"

typedef struct {
	HvpMonitor *monitor;
	bool by_monitor; /* it is used; else the VM is reached by its process alone */
	HvpQmp *qmp;	 /* the first connection to it; NULL: used, or none */
	pid_t pid;
	guint64 start_time;
	char *uri; /* of a domain; NULL: none */
	char *uuid;
	int id;
	char *agent_path; /* NULL: none is known */
} HvpPlace;

/*
 * Finds the VM of @job. Errors of vm/libvirt.h and of hvp_monitor_connect; BUSY: it is to be
 * changed, and somebody moves its RAM.
 */
HvpPlace *hvp_place_new(const HvpJob *job, GError **error);
void hvp_place_free(HvpPlace *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpPlace, hvp_place_free)

/* Whether its process is still the same one. VM_GONE. */
bool hvp_place_check(const HvpPlace *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether its owner, if there is one to ask, does not move or copy its RAM now. BUSY. */
bool hvp_place_check_no_job(const HvpPlace *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What hvp_libvirt_domain_describe_jobs tells, as a number. UNSUPPORTED: it is no domain. */
bool hvp_place_read_jobs(const HvpPlace *self, guint64 *ret_jobs,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The connection to its monitor: the first one, or another; the caller's. */
HvpQmp *hvp_place_connect(HvpPlace *self, GError **error);
