/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Watches the memory of the running guest for a thread that may stand at a spin trap, so that it
 * is stopped when that is likely, and else runs: a CPU that has been with one task, and not its
 * idle one, for some time; a worker that has come to a function that is trapped.
 *
 *   runqueues[cpu].curr, .nr_switches; task_struct.worker_private -> kthread.data -> worker
 *
 * A hint only: who stands where is known from the registers.
 */
#pragma once

#include "base/deadline.h"
#include "guest/kernel.h"

typedef struct HvpWatch HvpWatch;

/* For workers that come to @work_functions (copied). UNSUPPORTED: a struct is not as known. */
HvpWatch *hvp_watch_new(HvpKernel *kernel, const HvpGva *work_functions, guint count,
			GError **error);
void hvp_watch_free(HvpWatch *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpWatch, hvp_watch_free)

/* Begins to wait for something new: the next one that stands anywhere is not waited for long. */
void hvp_watch_begin(HvpWatch *self);

/*
 * Until it is time to look, and at most until @latest. Each time that it was not yet, tasks have
 * to stand longer.
 */
void hvp_watch_wait(HvpWatch *self, HvpDeadline latest);
