/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/monitor.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "vm/helper.h"
#include "vm/program.h"

#define MAX_NAME_BYTES 128

static const HvpProgram bridge_program = { "hvpatch-libvirt-monitor", "HVPATCH_LIBVIRT_MONITOR" };

struct HvpMonitor {
	char *name; /* of a domain: escaped */
	/* Of a domain; NULL for a socket. */
	char *uri;
	char *uuid;
	char *id;
};

HvpMonitor *hvp_monitor_new_for_socket(const char *path)
{
	HvpMonitor *self = g_new0(HvpMonitor, 1);

	self->name = g_strdup(path);
	return self;
}

HvpMonitor *hvp_monitor_new_for_domain(const char *uri, const char *uuid, int id, const char *name)
{
	HvpMonitor *self = g_new0(HvpMonitor, 1);

	self->name = hvp_text_escape(name, HVP_TEXT_TERMINATED, MAX_NAME_BYTES);
	self->uri = g_strdup(uri);
	self->uuid = g_strdup(uuid);
	self->id = g_strdup_printf("%d", id);
	return self;
}

void hvp_monitor_free(HvpMonitor *self)
{
	if (self == NULL)
		return;
	g_free(self->name);
	g_free(self->uri);
	g_free(self->uuid);
	g_free(self->id);
	g_free(self);
}

const char *hvp_monitor_get_name(const HvpMonitor *self)
{
	return self->name;
}

/* Starts the program at one end of a socket pair; returns ours, or -1. */
static int start_bridge(const HvpMonitor *self, GError **error)
{
	const char *const arguments[] = { self->uri, self->uuid, self->id, NULL };
	int ends[2];
	bool started;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "socket pair");
		return -1;
	}
	started = hvp_program_start(&bridge_program, arguments, &ends[1], 1, error);
	close(ends[1]);
	if (started)
		return ends[0];
	close(ends[0]);
	return -1;
}

HvpQmp *hvp_monitor_connect(const HvpMonitor *self, HvpDeadline deadline, GError **error)
{
	g_autofree char *what = NULL;
	int fd;

	if (self->uri == NULL && !hvp_helper_is_used())
		return hvp_qmp_connect(self->name, deadline, error);
	fd = hvp_helper_is_used() ? hvp_helper_open(HVP_HELPER_MONITOR, 0, error)
				  : start_bridge(self, error);
	if (fd < 0)
		return NULL;
	what = self->uri ? g_strdup_printf("domain %s", self->name) : g_strdup(self->name);
	return hvp_qmp_negotiate(fd, what, deadline, error);
}

char *hvp_monitor_find_bridge(GError **error)
{
	return hvp_program_find(&bridge_program, error);
}
