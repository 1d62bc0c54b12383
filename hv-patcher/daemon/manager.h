/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The object on the bus: its methods and properties. */
#pragma once

#include "daemon/call.h"

#define HVP_MANAGER_NAME "org.hvpatch1"
#define HVP_MANAGER_PATH "/org/hvpatch1"
#define HVP_MANAGER_INTERFACE "org.hvpatch1.Manager"

typedef struct HvpManager HvpManager;

/* @context is borrowed. INTERNAL: it cannot be put on the bus. */
HvpManager *hvp_manager_new(GDBusConnection *connection, const HvpCallContext *context,
			    GError **error);
void hvp_manager_free(HvpManager *self);

/* Sets the property Ready. */
void hvp_manager_set_ready(HvpManager *self, bool is_ready);
