/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of QEMU's machine protocol (docs/interop/qmp-spec in QEMU's source):
 * JSON objects, one a line, over a unix socket. One command at a time; no main
 * loop, no thread; every wait has a deadline. The peer is not trusted: lines are
 * bounded, nesting and the number of values are checked before they are parsed.
 *
 *   connect: greeting "QMP" -> qmp_capabilities -> ready
 *   ready:   execute -> (event | late answer of a command that timed out)* -> answer
 *
 * What is not here: what the commands mean; that is machine.c and gdbstub.c.
 *
 * Errors of every exchange: TIMED_OUT (the connection stays usable, the late
 * answer is skipped), VM_GONE (closed, or broken by an earlier error), BAD_DATA (not
 * the protocol), CONFLICT with QEMU's own words, escaped, where QEMU refused the
 * command (NOT_FOUND where it does not know it).
 */
#pragma once

#include <json-glib/json-glib.h>

#include "base/deadline.h"
#include "base/error.h"

#define HVP_QMP_MAX_LINE_BYTES (4U << 20)
#define HVP_QMP_MAX_DEPTH 64
#define HVP_QMP_MAX_VALUES 131072

typedef struct HvpQmp HvpQmp;

/* Events that say that somebody else changed the run state; the rest is OTHER. */
typedef enum {
	HVP_QMP_EVENT_STOP,
	HVP_QMP_EVENT_RESUME,
	HVP_QMP_EVENT_RESET,
	HVP_QMP_EVENT_SHUTDOWN,
	HVP_QMP_EVENT_OTHER,
	HVP_QMP_EVENT_COUNT,
} HvpQmpEvent;

/*
 * Connects to the socket at @path and negotiates. NOT_FOUND: no such path.
 * INVALID_ARGUMENT: not a socket, or a path too long for one. VM_GONE: nobody
 * listens. PERMISSION. BUSY: no greeting by @deadline, because the monitor serves
 * one client at a time and another holds it.
 */
HvpQmp *hvp_qmp_connect(const char *path, HvpDeadline deadline, GError **error);

/*
 * Negotiates on @fd, a unix socket on which nothing was said yet; takes it. @name is for messages.
 * BUSY: no greeting by @deadline. A server that says an error instead of the greeting: as if it
 * refused a command.
 */
HvpQmp *hvp_qmp_negotiate(int fd, const char *name, HvpDeadline deadline, GError **error);

/* Wraps @fd, a unix socket on which a client has negotiated already; takes it. Never NULL. */
HvpQmp *hvp_qmp_new_from_fd(int fd);

/* Closes the connection; NULL is fine. */
void hvp_qmp_free(HvpQmp *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpQmp, hvp_qmp_free)

/* The socket, borrowed (to poll for POLLIN or POLLHUP); -1 after steal_fd. */
int hvp_qmp_get_fd(const HvpQmp *self);

/*
 * Gives up the socket for hvp_qmp_new_from_fd elsewhere; @self can then only be
 * freed. Waits for the rest of a half-read line, at most a second; -1, and @self as
 * it was, when that does not come.
 */
int hvp_qmp_steal_fd(HvpQmp *self);

/*
 * Runs @command and returns its "return" value. @arguments is borrowed and may be
 * NULL. Blocks until @deadline.
 */
JsonNode *hvp_qmp_execute(HvpQmp *self, const char *command, JsonObject *arguments,
			  HvpDeadline deadline, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Likewise, with a copy of descriptor @fd (borrowed) attached to the request, as getfd wants. */
JsonNode *hvp_qmp_execute_with_fd(HvpQmp *self, const char *command, JsonObject *arguments, int fd,
				  HvpDeadline deadline, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Runs @hmp, a line of the human monitor, and returns what it prints. */
char *hvp_qmp_monitor_command(HvpQmp *self, const char *hmp, HvpDeadline deadline,
			      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Asks for the run state: *@ret_running, and, where @ret_status is not NULL, its
 * name ("running", "paused", "prelaunch", "inmigrate"...), owned by the caller.
 */
bool hvp_qmp_query_status(HvpQmp *self, HvpDeadline deadline, bool *ret_running, char **ret_status,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Reads what has arrived by now, without blocking, so that event counts are fresh. */
bool hvp_qmp_drain_events(HvpQmp *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* How many events of that kind have been read from this connection so far. */
guint64 hvp_qmp_get_event_count(const HvpQmp *self, HvpQmpEvent event);

/*
 * Members of an answer, checked: BAD_DATA naming @name when it is missing or of
 * another type. Strings are borrowed from @object.
 */
bool hvp_qmp_member_string(JsonObject *object, const char *name, const char **ret_value,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_qmp_member_int(JsonObject *object, const char *name, gint64 *ret_value,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_qmp_member_bool(JsonObject *object, const char *name, bool *ret_value,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* @node as an object or array, borrowed; NULL and BAD_DATA naming @what when it is not one. */
JsonObject *hvp_qmp_as_object(JsonNode *node, const char *what, GError **error);
JsonArray *hvp_qmp_as_array(JsonNode *node, const char *what, GError **error);

/*
 * Runs @command, which takes no arguments, and gives its answer as an object or array, borrowed
 * from *@ret_node, which is the caller's. NULL and BAD_DATA when it is not one.
 */
JsonObject *hvp_qmp_query_object(HvpQmp *self, const char *command, HvpDeadline deadline,
				 JsonNode **ret_node, GError **error);
JsonArray *hvp_qmp_query_array(HvpQmp *self, const char *command, HvpDeadline deadline,
			       JsonNode **ret_node, GError **error);
