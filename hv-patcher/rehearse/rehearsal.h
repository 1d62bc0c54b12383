/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rehearsal of a patch: a throw-away guest under emulation, watched instruction by
 * instruction, in which the patch is applied and reverted as it would be elsewhere.
 *
 *   boot -> check -> workload -> (apply -> workload -> revert -> workload)* -> judge
 *
 * The workload runs first without the patch: what fails, or what the kernel says, then already is
 * not held against the patch.
 */
#pragma once

#include "engine/options.h"
#include "rehearse/report.h"

#define HVP_REHEARSAL_DEFAULT_ROUNDS 1U
#define HVP_REHEARSAL_MAX_ROUNDS 1000U
#define HVP_REHEARSAL_DEFAULT_WORKLOAD_USEC (300 * G_USEC_PER_SEC)
#define HVP_REHEARSAL_BOOT_USEC (300 * G_USEC_PER_SEC)
/* More than a tenant's VM gets: an emulated guest on a crowded host is slow to be stopped. */
#define HVP_REHEARSAL_DEFAULT_MAX_PAUSE_USEC (200 * 1000)
#define HVP_REHEARSAL_DEFAULT_VCPUS 2U
#define HVP_REHEARSAL_MAX_VCPUS 64U
#define HVP_REHEARSAL_DEFAULT_MEMORY_MIB 512U
#define HVP_REHEARSAL_MIN_MEMORY_MIB 128U
#define HVP_REHEARSAL_MAX_MEMORY_MIB 65536U

typedef struct {
	const char *kernel_path;
	const char *initrd_path;	 /* NULL: busybox alone */
	const char *workload_path;	 /* NULL: a moment of ordinary life */
	const char *const *module_paths; /* NULL-terminated, or NULL */
	const char *qemu_path;		 /* NULL: the one of $PATH */
	const char *plugin_path;	 /* NULL: $HVPATCH_PLUGIN, or the one that is installed */
	guint rounds;
	guint vcpu_count;
	guint memory_mib;
	gint64 workload_usec;
	const HvpOptions *options; /* of each apply and revert */
} HvpRehearsalOrder;

/*
 * Rehearses @patch. NULL: it could not be held at all (no QEMU, no plugin, a kernel that does not
 * boot), and @error says why. Else the report, the caller's, has the verdict; what ended it early
 * is in it. Needs a process of one thread. Blocks as long as guest and deadlines take.
 */
HvpReport *hvp_rehearsal_run(const HvpRehearsalOrder *order, const HvpPatch *patch, GError **error);

/*
 * The plugin that guests would get: @path where it is not NULL, else as above; the caller's.
 * NOT_FOUND.
 */
char *hvp_rehearsal_find_plugin(const char *path, GError **error);
