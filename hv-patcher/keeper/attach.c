/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/attach.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "vm/gdb-backend.h"
#include "vm/machine.h"

#define LABEL HVP_MACHINE_GDB_LABEL
#define COMMAND_TIMEOUT_USEC (5 * G_USEC_PER_SEC)
#define REQUEST_TIMEOUT_USEC (5 * G_USEC_PER_SEC)

static HvpDeadline soon(void)
{
	return hvp_deadline_in(COMMAND_TIMEOUT_USEC);
}

/* QEMU's (or a filter's) refusal of a command of ours is a matter of permission. */
static void as_permission(GError **error)
{
	if (error != NULL && (g_error_matches(*error, HVP_ERROR, HVP_ERROR_CONFLICT) ||
			      g_error_matches(*error, HVP_ERROR, HVP_ERROR_NOT_FOUND)))
		(*error)->code = HVP_ERROR_PERMISSION;
}

/* Takes @arguments; @fd is -1 for none. */
static bool run(HvpQmp *qmp, const char *command, JsonObject *arguments, int fd, GError **error)
{
	g_autoptr(JsonObject) owned = arguments;
	g_autoptr(JsonNode) result = NULL;
	GError *local = NULL;

	if (fd >= 0)
		result = hvp_qmp_execute_with_fd(qmp, command, owned, fd, soon(), &local);
	else
		result = hvp_qmp_execute(qmp, command, owned, soon(), &local);
	if (result != NULL)
		return true;
	as_permission(&local);
	g_propagate_error(error, local);
	return false;
}

static JsonObject *one_member(const char *name, const char *value)
{
	JsonObject *object = json_object_new();

	json_object_set_string_member(object, name, value);
	return object;
}

/* CONFLICT where there is a debugger; *@ret_leftover where a keeper left its device. */
static bool look_for_debuggers(HvpQmp *qmp, bool *ret_leftover, GError **error)
{
	bool found = false;
	g_autoptr(JsonNode) result = hvp_qmp_execute(qmp, "query-chardev", NULL, soon(), error);
	JsonArray *devices = result ? hvp_qmp_as_array(result, "query-chardev", error) : NULL;
	const char *label;

	*ret_leftover = false;
	if (devices == NULL)
		return false;
	for (guint i = 0; i < json_array_get_length(devices); i++) {
		JsonObject *device = hvp_qmp_as_object(json_array_get_element(devices, i),
						       "query-chardev", error);

		if (device == NULL || !hvp_qmp_member_string(device, "label", &label, error))
			return false;
		found |= g_str_has_prefix(label, "gdb");
		*ret_leftover |= strcmp(label, LABEL) == 0;
	}
	return !found || hvp_error_set(error, HVP_ERROR_CONFLICT,
				       "a debugger is attached to the VM");
}

static bool require_running(HvpQmp *qmp, GError **error)
{
	g_autofree char *status = NULL;
	g_autofree char *shown = NULL;
	bool running;

	if (!hvp_qmp_query_status(qmp, soon(), &running, &status, error))
		return false;
	if (running)
		return true;
	shown = hvp_text_escape(status, HVP_TEXT_TERMINATED, 40);
	return hvp_error_set(error, HVP_ERROR_CONFLICT, "the VM is paused (%s)", shown);
}

/* { "id": LABEL, "backend": { "type": "socket", "data": { "addr": fd, "server": false } } } */
static JsonObject *chardev_arguments(void)
{
	JsonObject *address = one_member("type", "fd");
	JsonObject *data = json_object_new();
	JsonObject *backend = one_member("type", "socket");
	JsonObject *arguments = one_member("id", LABEL);

	json_object_set_object_member(address, "data", one_member("str", LABEL));
	json_object_set_object_member(data, "addr", address);
	json_object_set_boolean_member(data, "server", FALSE);
	json_object_set_object_member(backend, "data", data);
	json_object_set_object_member(arguments, "backend", backend);
	return arguments;
}

static bool hand_over(HvpQmp *qmp, int fd, GError **error)
{
	if (!run(qmp, "getfd", one_member("fdname", LABEL), fd, error))
		return false;
	if (run(qmp, "chardev-add", chardev_arguments(), -1, error))
		return true;
	if (!run(qmp, "closefd", one_member("fdname", LABEL), -1, NULL))
		return false;
	return false;
}

/* Makes the stub's device; returns our end, or -1. */
static int add_device(HvpQmp *qmp, GError **error)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "socket pair");
		return -1;
	}
	if (!hand_over(qmp, ends[1], error)) {
		close(ends[0]);
		ends[0] = -1;
	}
	close(ends[1]);
	return ends[0];
}

/* Connects the stub to its device, which stops the VM. */
static bool start_server(HvpQmp *qmp, GError **error)
{
	GError *local = NULL;
	g_autofree char *text = hvp_qmp_monitor_command(qmp, "gdbserver chardev:" LABEL, soon(),
							&local);
	g_autofree char *shown = NULL;

	if (text == NULL) {
		as_permission(&local);
		g_propagate_error(error, local);
		return false;
	}
	if (strstr(text, "Waiting for gdb connection") != NULL)
		return true;
	shown = hvp_text_escape(text, HVP_TEXT_TERMINATED, 200);
	return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "QEMU does not start its gdb stub: %s",
			     shown);
}

static bool remove_device(HvpQmp *qmp, GError **error)
{
	return run(qmp, "chardev-remove", one_member("id", LABEL), -1, error);
}

/* There is one gdb server: one that a debugger has taken over is not ours to take down. */
static bool take_down(HvpQmp *qmp, GError **error)
{
	g_autofree char *text = NULL;
	bool leftover = false;

	if (!look_for_debuggers(qmp, &leftover, error)) {
		if (leftover && !remove_device(qmp, NULL))
			return false;
		return false;
	}
	text = hvp_qmp_monitor_command(qmp, "gdbserver none", soon(), error);
	if (text == NULL || !look_for_debuggers(qmp, &leftover, error))
		return false;
	/* QEMU removes the device with its server, where that had it. */
	return !leftover || remove_device(qmp, error);
}

/* Device, server, handshake: the VM is stopped on success, as it was or stopped otherwise. */
static HvpGdbstub *connect_stub(HvpQmp *qmp, GError **error)
{
	g_autoptr(HvpGdbstub) stub = NULL;
	int fd = add_device(qmp, error);

	if (fd < 0)
		return NULL;
	stub = hvp_gdbstub_new(fd, REQUEST_TIMEOUT_USEC);
	if (start_server(qmp, error) && hvp_gdbstub_handshake(stub, error))
		return g_steal_pointer(&stub);
	if (!take_down(qmp, NULL))
		return NULL;
	return NULL;
}

HvpBackend *hvp_attach_running(HvpQmp *qmp, GError **error)
{
	g_autoptr(HvpGdbstub) stub = NULL;
	bool leftover;

	if (!look_for_debuggers(qmp, &leftover, error))
		return NULL;
	if (leftover) {
		hvp_error_set(error, HVP_ERROR_INCONSISTENT,
			      "an earlier session was left: run hvpatch recover");
		return NULL;
	}
	if (!require_running(qmp, error))
		return NULL;
	stub = connect_stub(qmp, error);
	if (stub != NULL && hvp_gdbstub_continue(stub, error) &&
	    hvp_gdbstub_learn_registers(stub, error) && hvp_attach_ensure_running(qmp, error))
		return hvp_gdb_backend_new(g_steal_pointer(&stub));
	if ((stub != NULL && !take_down(qmp, NULL)) || !hvp_attach_ensure_running(qmp, NULL))
		return NULL;
	return NULL;
}

HvpBackend *hvp_attach_leftover(HvpQmp *qmp, GError **error)
{
	g_autoptr(HvpGdbstub) stub = NULL;
	bool leftover, running;

	if (!look_for_debuggers(qmp, &leftover, error) || (leftover && !take_down(qmp, error)) ||
	    !hvp_qmp_query_status(qmp, soon(), &running, NULL, error))
		return NULL;
	stub = connect_stub(qmp, error);
	if (stub != NULL && hvp_gdbstub_learn_registers(stub, error))
		return hvp_gdb_backend_new(g_steal_pointer(&stub));
	if (running && !hvp_attach_ensure_running(qmp, NULL))
		return NULL;
	return NULL;
}

bool hvp_attach_leave(HvpQmp *qmp, HvpBackend *backend, GError **error)
{
	bool done = take_down(qmp, error);

	hvp_backend_free(backend);
	return done;
}

bool hvp_attach_ensure_running(HvpQmp *qmp, GError **error)
{
	bool running;

	if (!hvp_qmp_query_status(qmp, soon(), &running, NULL, error))
		return false;
	return running || run(qmp, "cont", NULL, -1, error);
}
