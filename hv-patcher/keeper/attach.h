/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Getting to a VM's vCPUs and away again: starts QEMU's gdb stub on a socket pair
 * that is handed over through the monitor (no path in the file system), and takes
 * it down again.
 *
 *   query-status, query-chardev            is it ours to touch?
 *   getfd, chardev-add hvpatch-gdb         the stub's end of the socket pair
 *   gdbserver chardev:hvpatch-gdb          connects, which stops the VM
 *   handshake (vm/gdbstub.h), vCont;c      the VM runs again
 *   ...
 *   gdbserver none, chardev-remove         nothing of ours is left
 */
#pragma once

#include "vm/backend.h"
#include "vm/qmp.h"

/*
 * Attaches to a running VM; it runs again on return, also after a failure.
 * CONFLICT: it is not running, or a debugger is there. INCONSISTENT: a dead keeper
 * left its connection. PERMISSION: the monitor refuses. UNSUPPORTED. VM_GONE.
 */
HvpBackend *hvp_attach_running(HvpQmp *qmp, GError **error);

/*
 * Attaches to a VM in whatever run state, clearing away what a dead keeper left. The
 * VM is stopped on return; after a failure it is as it was. CONFLICT: a debugger is there.
 */
HvpBackend *hvp_attach_leftover(HvpQmp *qmp, GError **error);

/*
 * Closes @backend (taken; NULL is fine), whose breakpoints are removed and which has
 * resumed the VM, and takes down QEMU's end.
 */
bool hvp_attach_leave(HvpQmp *qmp, HvpBackend *backend, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Makes sure that the VM runs. */
bool hvp_attach_ensure_running(HvpQmp *qmp, GError **error) G_GNUC_WARN_UNUSED_RESULT;
