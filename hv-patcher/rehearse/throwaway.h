/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A throw-away guest: one QEMU that emulates (TCG), its sockets in a folder that only we can
 * enter, no network, no disk. It ends with us, however we end:
 *
 *   us -- pipe --> janitor (a fork of us) --> QEMU
 *
 * The janitor waits for the end of the pipe or of QEMU, kills QEMU and removes the folder; if it
 * is killed itself, the kernel kills QEMU, and we remove the folder.
 *
 * Console and QEMU's own messages go to files without a name; the guest's second serial line is
 * the way to its init (rehearse/initramfs.h).
 */
#pragma once

#include "base/deadline.h"
#include "base/error.h"

/* Kept of what the workload prints: its end. */
#define HVP_THROWAWAY_OUTPUT_BYTES (16U << 10)

typedef struct HvpThrowaway HvpThrowaway;

typedef struct {
	const char *qemu_path; /* NULL: qemu-system-x86_64 */
	const char *plugin_path;
	const char *kernel_path; /* for messages */
	GBytes *kernel;
	GBytes *initramfs;
	const char *word; /* of its init */
	guint vcpu_count;
	guint memory_mib;
} HvpThrowawayOrder;

/*
 * Starts it. NOT_FOUND: no QEMU, no plugin; BAD_DATA: @kernel is no bzImage. Does not wait for
 * QEMU: what that objects to comes with the first wait.
 */
HvpThrowaway *hvp_throwaway_start(const HvpThrowawayOrder *order, GError **error);

/* Ends it and leaves nothing behind; NULL is fine. */
void hvp_throwaway_free(HvpThrowaway *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpThrowaway, hvp_throwaway_free)

/* Owned by @self. */
const char *hvp_throwaway_get_qmp_path(const HvpThrowaway *self);
const char *hvp_throwaway_get_plugin_socket(const HvpThrowaway *self);
const char *hvp_throwaway_get_folder(const HvpThrowaway *self);

/*
 * Waits until its init is up. TIMED_OUT; VM_GONE: QEMU or the kernel gave up, with the last that
 * either said; INVALID_ARGUMENT: a module that was to be loaded could not be.
 */
bool hvp_throwaway_wait_ready(HvpThrowaway *self, HvpDeadline deadline,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Runs the workload: *@ret_status is its exit status. TIMED_OUT: it goes on; the guest is then of
 * no more use. VM_GONE.
 */
bool hvp_throwaway_run(HvpThrowaway *self, HvpDeadline deadline, int *ret_status,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Waits until what the kernel says, now and in the next moment, is on the console. TIMED_OUT: it
 * may not all be there; VM_GONE.
 */
bool hvp_throwaway_settle(HvpThrowaway *self, HvpDeadline deadline,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The end of what the workload printed last, escaped line by line; the caller's. */
char *hvp_throwaway_output(const HvpThrowaway *self);

/* Whether the guest has written so much to its console that the rest is lost. */
bool hvp_throwaway_is_console_full(const HvpThrowaway *self);

/* Console text from *@offset on, whole lines; moves *@offset behind it. The caller's. */
char *hvp_throwaway_console(const HvpThrowaway *self, gsize *offset, gsize *ret_length_bytes);
