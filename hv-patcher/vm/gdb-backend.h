/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's gdb stub as a backend. Getting a stub is the matter of keeper/attach.c. */
#pragma once

#include "vm/backend.h"
#include "vm/gdbstub.h"

/* Takes @stub, after its handshake. Never NULL. */
HvpBackend *hvp_gdb_backend_new(HvpGdbstub *stub);
