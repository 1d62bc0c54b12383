/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other side of vm/qmp.h: speaks QMP to one client, on a socket of which anybody may hold the
 * other end, and has each command run by somebody else. One command at a time, in their order.
 *
 *   greeting -> qmp_capabilities -> (command -> answer with its id | event)*
 *
 * A request may have one descriptor attached (SCM_RIGHTS, as getfd wants); others are closed.
 * Nothing waits for the client but sending, at most some seconds: a client that does not read is
 * as good as gone. Knows nothing of libvirt.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "base/error.h"

#define HVP_QMP_SERVER_MAX_REQUEST_BYTES (1U << 20)
#define HVP_QMP_SERVER_MAX_ANSWER_BYTES (4U << 20)

typedef struct HvpQmpServer HvpQmpServer;

/*
 * Runs @command, a JSON object without an id, with descriptor @fd attached (borrowed; -1: none),
 * and returns the whole answer, an object with "return" or "error". On failure the client is told
 * the message; VM_GONE ends the connection instead.
 */
typedef char *(*HvpQmpServerRun)(gpointer data, const char *command, int fd, GError **error);

/* Takes @fd; @data is borrowed. Never NULL. */
HvpQmpServer *hvp_qmp_server_new(int fd, HvpQmpServerRun run, gpointer data);

/* Closes the connection; NULL is fine. */
void hvp_qmp_server_free(HvpQmpServer *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpQmpServer, hvp_qmp_server_free)

/* Sends the greeting. VM_GONE: the client is gone; likewise below. */
bool hvp_qmp_server_greet(HvpQmpServer *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Sends an error with the words of @reason in place of the greeting. */
bool hvp_qmp_server_refuse(HvpQmpServer *self, const GError *reason,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Takes in what has come, without waiting. VM_GONE: the client has closed its end. BAD_DATA: a
 * request past HVP_QMP_SERVER_MAX_REQUEST_BYTES.
 */
bool hvp_qmp_server_receive(HvpQmpServer *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether a whole request has come. */
bool hvp_qmp_server_has_request(const HvpQmpServer *self);

/* Runs one request, if a whole one has come, and answers it. */
bool hvp_qmp_server_serve(HvpQmpServer *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Sends event @name of that time; @data is its JSON object as text, or NULL. What is not one is
 * left out. Nothing is sent before the client has negotiated.
 */
bool hvp_qmp_server_send_event(HvpQmpServer *self, const char *name, gint64 seconds,
			       guint microseconds, const char *data,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;
