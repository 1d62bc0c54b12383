/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/libvirt-monitor.h"

#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/json-text.h"
#include "vm/libvirt.h"
#include "vm/qmp-server.h"

/* A daemon that hangs is found out after about 6 s; one that says it is busy after its own 30 s. */
#define KEEPALIVE_SECONDS 2
#define KEEPALIVE_COUNT 3
/* Past this a call hangs for good: SIGALRM ends the program, and the client sees that. */
#define CALL_SECONDS 45
#define CONNECT_SECONDS 20
/* How long a command waits for a daemon that is being restarted; the client waits for 5 s. */
#define RECONNECT_USEC (4 * G_USEC_PER_SEC)
#define RETRY_USEC (100 * 1000)
#define TICK_MSEC 250
#define EVENTS "^(STOP|RESUME|RESET|SHUTDOWN)$"

typedef struct {
	HvpQmpServer *server;
	const char *uri;
	const char *uuid;
	int id;
	virConnectPtr connection; /* NULL: lost, to be made again */
	virDomainPtr domain;
	int tick;  /* libvirt's number of our timer */
	bool over; /* the client is gone, or the domain */
} Bridge;

static void on_event(virConnectPtr connection, virDomainPtr domain, const char *event,
		     long long seconds, unsigned int microseconds, const char *details, void *data)
{
	Bridge *self = data;

	(void)connection;
	(void)domain;
	if (!hvp_qmp_server_send_event(self->server, event, seconds, microseconds, details, NULL))
		self->over = true;
}

/* --- the connection to the daemon --- */

static void disconnect(Bridge *self)
{
	if (self->domain != NULL)
		virDomainFree(self->domain);
	if (self->connection != NULL)
		virConnectClose(self->connection);
	self->domain = NULL;
	self->connection = NULL;
}

static bool set_gone(Bridge *self, GError **error)
{
	self->over = true;
	return hvp_error_set(error, HVP_ERROR_VM_GONE, "the domain does not run any more");
}

/* Whether the domain is the running one that we were started for. */
static bool check_same(Bridge *self, GError **error)
{
	virDomainPtr domain = virDomainLookupByID(self->connection, self->id);
	char uuid[VIR_UUID_STRING_BUFLEN] = "";
	bool same;

	if (domain == NULL && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN)
		return set_gone(self, error);
	if (domain == NULL)
		return hvp_libvirt_set_error(error, "looking for the domain");
	same = virDomainGetUUIDString(domain, uuid) == 0 && strcmp(uuid, self->uuid) == 0;
	virDomainFree(domain);
	return same || set_gone(self, error);
}

static bool set_up(Bridge *self, GError **error)
{
	(void)virConnectSetKeepAlive(self->connection, KEEPALIVE_SECONDS, KEEPALIVE_COUNT);
	if (!check_same(self, error))
		return false;
	self->domain = virDomainLookupByUUIDString(self->connection, self->uuid);
	if (self->domain == NULL)
		return hvp_libvirt_set_error(error, "looking for the domain");
	return virConnectDomainQemuMonitorEventRegister(
		       self->connection, self->domain, EVENTS, on_event, self, NULL,
		       VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX) >= 0 ||
	       hvp_libvirt_set_error(error, "events of the monitor");
}

static bool connect_once(Bridge *self, GError **error)
{
	bool ok;

	alarm(CONNECT_SECONDS);
	self->connection = virConnectOpen(self->uri);
	ok = self->connection != NULL ? set_up(self, error)
				      : hvp_libvirt_set_error(error, "no connection to libvirt");
	if (!ok)
		disconnect(self);
	alarm(0);
	return ok;
}

static bool is_connected(Bridge *self)
{
	if (self->connection != NULL && virConnectIsAlive(self->connection) != 1)
		disconnect(self);
	return self->connection != NULL;
}

/* Connects again until @deadline, where the connection is lost. */
static bool ensure_connected(Bridge *self, HvpDeadline deadline, GError **error)
{
	g_autoptr(GError) reason = NULL;

	while (!is_connected(self)) {
		g_clear_error(&reason);
		if (connect_once(self, &reason))
			return true;
		if (self->over || hvp_deadline_passed(deadline)) {
			g_propagate_error(error, g_steal_pointer(&reason));
			return false;
		}
		g_usleep(RETRY_USEC);
	}
	return true;
}

/* So that events come as well while no command does. */
static void on_tick(int timer, void *data)
{
	Bridge *self = data;

	(void)timer;
	if (!self->over && !is_connected(self))
		(void)connect_once(self, NULL);
}

/* --- commands --- */

/* Whether @command changes nothing, so that it may be sent twice. */
static bool only_asks(const char *command)
{
	g_autoptr(JsonNode) node = json_from_string(command, NULL);
	JsonNode *name = hvp_json_text_typed_member(json_node_get_object(node), "execute",
						    G_TYPE_STRING);
	const char *text = name ? json_node_get_string(name) : "";

	return g_str_has_prefix(text, "query-") || strcmp(text, "qom-list") == 0 ||
	       strcmp(text, "qom-get") == 0;
}

/* What has become of @command, whose call failed. */
static bool set_command_error(Bridge *self, GError **error)
{
	g_autoptr(GError) reason = NULL;

	hvp_libvirt_set_error(&reason, "libvirt");
	if (!is_connected(self))
		return hvp_error_set(error, HVP_ERROR_FAULT, "%s (the daemon is gone)",
				     reason->message);
	/* "domain is not running" */
	if (g_error_matches(reason, HVP_ERROR, HVP_ERROR_NOT_FOUND) ||
	    (g_error_matches(reason, HVP_ERROR, HVP_ERROR_CONFLICT) &&
	     virDomainIsActive(self->domain) != 1))
		return set_gone(self, error);
	g_propagate_error(error, g_steal_pointer(&reason));
	return false;
}

static char *run_once(Bridge *self, const char *command, int fd, GError **error)
{
	char *answer = NULL;
	char *own;
	int result;

	if (!check_same(self, error))
		return NULL;
	alarm(CALL_SECONDS);
	result = virDomainQemuMonitorCommandWithFiles(self->domain, command, fd >= 0 ? 1 : 0, &fd,
						      NULL, NULL, &answer, 0);
	if (result != 0)
		set_command_error(self, error);
	alarm(0);
	if (result != 0)
		return NULL;
	own = g_strdup(answer);
	free(answer);
	return own;
}

/* What QEMU told before it answered reaches the client before the answer. */
static void deliver_events(Bridge *self)
{
	virEventUpdateTimeout(self->tick, 0);
	(void)virEventRunDefaultImpl();
	virEventUpdateTimeout(self->tick, TICK_MSEC);
}

static char *run(gpointer data, const char *command, int fd, GError **error)
{
	Bridge *self = data;
	HvpDeadline deadline = hvp_deadline_in(RECONNECT_USEC);
	g_autoptr(GError) reason = NULL;
	char *answer = NULL;

	for (;;) {
		if (!ensure_connected(self, deadline, error))
			return NULL;
		answer = run_once(self, command, fd, &reason);
		if (answer != NULL || self->over || is_connected(self) || !only_asks(command) ||
		    hvp_deadline_passed(deadline))
			break;
		g_clear_error(&reason);
	}
	if (answer != NULL)
		deliver_events(self);
	else
		g_propagate_error(error, g_steal_pointer(&reason));
	return answer;
}

/* --- the client --- */

static void on_client(int watch, int fd, int events, void *data)
{
	Bridge *self = data;

	(void)watch;
	(void)fd;
	(void)events;
	if (!hvp_qmp_server_receive(self->server, NULL))
		self->over = true;
}

static bool begin(Bridge *self, int fd, GError **error)
{
	hvp_libvirt_be_quiet();
	if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0)
		return hvp_libvirt_set_error(error, "libvirt does not start");
	self->tick = virEventAddTimeout(TICK_MSEC, on_tick, self, NULL);
	if (self->tick < 0 ||
	    virEventAddHandle(fd, VIR_EVENT_HANDLE_READABLE | VIR_EVENT_HANDLE_HANGUP, on_client,
			      self, NULL) < 0)
		return hvp_libvirt_set_error(error, "libvirt's event loop");
	return connect_once(self, error) && hvp_qmp_server_greet(self->server, error);
}

int hvp_libvirt_monitor_run(int fd, const char *uri, const char *uuid, int id)
{
	Bridge self = { .uri = uri, .uuid = uuid, .id = id };
	g_autoptr(HvpQmpServer) server = hvp_qmp_server_new(fd, run, &self);
	g_autoptr(GError) reason = NULL;

	self.server = server;
	if (!begin(&self, fd, &reason)) {
		(void)!hvp_qmp_server_refuse(server, reason, NULL);
		return 1;
	}
	while (!self.over && virEventRunDefaultImpl() == 0) {
		while (!self.over && hvp_qmp_server_has_request(server))
			if (!hvp_qmp_server_serve(server, NULL))
				self.over = true;
	}
	/* Not disconnected: a daemon that hangs would keep us, the end of the process does not. */
	return 0;
}
