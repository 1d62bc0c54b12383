/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hvpatchd's D-Bus interface (hv-patcher/daemon/org.hvpatch1.xml), as a caller of his own.
 *
 * On the system bus; $HVPATCH_BUS for tests: another bus' address. A daemon that does not run is
 * not started, and not waited for.
 */
#pragma once

#include <gio/gio.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "base/error.h"
#include "cli/cli.h"

typedef struct HvpBus HvpBus;

/* NULL: there is no hvpatchd. */
HvpBus *hvp_bus_open(void);
void hvp_bus_free(HvpBus *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpBus, hvp_bus_free)

/*
 * Calls @method with @arguments behind the principal; NULL: none. Takes a floating @arguments.
 * Blocks until the answer, at most half a minute. The errors are those of the daemon's problem
 * documents; see also hvp_bus_is_gone.
 */
GVariant *hvp_bus_call(HvpBus *self, const char *method, GVariant *arguments,
		       const char *reply_type, GError **error);

/* The same with descriptor @fd, which is index 0 of handles in @arguments, and more time. */
GVariant *hvp_bus_call_with_file(HvpBus *self, const char *method, GVariant *arguments, int fd,
				 const char *reply_type, GError **error);

/* The same for methods that answer with one document: that, the caller's. */
JsonNode *hvp_bus_get(HvpBus *self, const char *method, GVariant *arguments, GError **error);

/* Whether the last call failed because nobody was there, or somebody went while he answered. */
bool hvp_bus_is_gone(const HvpBus *self);

/* --- for commands that are about the daemon alone --- */

/* NOT_FOUND: it does not run. */
HvpBus *hvp_cli_bus_require(GError **error);

/* INVALID_ARGUMENT: a VM is named, or a way to it. */
bool hvp_cli_bus_check_options(const HvpCli *cli, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* As a table by @show_table, or as an object with member @name. BAD_DATA: it is no array. */
bool hvp_cli_bus_show_list(const HvpCli *cli, JsonNode *list, const char *name,
			   void (*show_table)(JsonArray *list),
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
