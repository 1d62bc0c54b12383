/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An hvpatch of its own, the same program as this one, whose output is collected: it may crash or
 * hang without taking us along. stderr is ours.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "base/deadline.h"
#include "base/error.h"

/* More output than that is dropped. */
#define HVP_CHILD_MAX_OUTPUT_BYTES (4U << 20)

typedef struct HvpChild HvpChild;

/*
 * Starts @program (NULL: the one that runs) with @arguments, without its name. It has
 * @timeout_usec. INTERNAL: it cannot be started.
 */
HvpChild *hvp_child_start(const char *program, const char *const *arguments, gint64 timeout_usec,
			  GError **error);

/* Kills it if it still runs. */
void hvp_child_free(HvpChild *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpChild, hvp_child_free)

/* Can be read when it has said something, closed when it has ended; borrowed. */
int hvp_child_get_fd(const HvpChild *self);

/* When it is to be killed, by calling hvp_child_has_ended. */
HvpDeadline hvp_child_get_deadline(const HvpChild *self);

/* Takes what it said. Whether it has ended, or was killed just now for taking too long. */
bool hvp_child_has_ended(HvpChild *self);

/* Of one that has ended: its exit status, -1 where it was killed. */
int hvp_child_get_exit_status(const HvpChild *self);

/* The object that it printed, the caller's. BAD_DATA: it is none. */
JsonNode *hvp_child_parse_output(const HvpChild *self, GError **error);
