/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which way a session gets to its VM: through the monitor and the gdb stub (attach.h), or, where
 * the tool has named a place, through the process that holds KVM vCPUs (vm/kvm.h).
 */
#pragma once

#include "keeper/session.h"

/*
 * @argument is HVP_WIRE_ONLY with a process: no place may name another one, for the life of this
 * program. False: it is something else.
 */
bool hvp_reach_allow_only(const char *argument) G_GNUC_WARN_UNUSED_RESULT;

/* PLACE: from now on by kvm. INVALID_ARGUMENT; PERMISSION: another process is allowed only. */
bool hvp_reach_set_place(HvpSession *self, const HvpWirePlace *place, const HvpRamRange *ranges,
			 gsize count, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* hvp_attach_running or its like; the VM runs. */
HvpBackend *hvp_reach_running(HvpSession *self, GError **error);

/* hvp_attach_leftover or its like; *@ret_stopped: whether the VM stands. */
HvpBackend *hvp_reach_leftover(HvpSession *self, bool *ret_stopped, GError **error);

/* hvp_attach_leave or its like. @run: it is ours to make sure that the VM runs. */
bool hvp_reach_leave(HvpSession *self, HvpBackend *backend, bool run,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The backend is lost: makes the VM run again as far as that takes more than its end. */
bool hvp_reach_ensure_running(HvpSession *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
