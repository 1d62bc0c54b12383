/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs of QEMU's that copy the VM's RAM, under which a host write may be lost: migration, dump,
 * snapshot, a userfaultfd. A state that is not known to be at rest counts as a job.
 */
#pragma once

#include <sys/types.h>

#include "vm/qmp.h"

/*
 * *@ret_job: the name of one with its state (such as "migration (active)"), the caller's, or NULL
 * when there is none in QEMU @pid, which answers on @qmp; 0: not known, and no userfaultfd is
 * looked for.
 */
bool hvp_ram_jobs_ask(HvpQmp *qmp, pid_t pid, HvpDeadline deadline, char **ret_job,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same for what is seen without the monitor. PERMISSION. */
bool hvp_ram_jobs_find_userfaultfd(pid_t pid, char **ret_job,
				   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether there is that. */
bool hvp_ram_jobs_has_userfaultfd(pid_t pid, bool *ret_has,
				  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * All that QEMU tells of such jobs, ended ones as well, as text that is another one when any has
 * come, gone or got on since; the caller's.
 */
char *hvp_ram_jobs_describe(HvpQmp *qmp, HvpDeadline deadline, GError **error);
