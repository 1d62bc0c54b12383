/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/notify.h"

#include <fcntl.h>
#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <string.h>
#include <unistd.h>

#define MAX_INHERITED 8

/* A variable's number, if it is for this process; 0: not there. */
static guint64 number_for_us(const char *variable, const char *pid_variable)
{
	guint64 pid = 0, value = 0;

	if (g_getenv(pid_variable) != NULL &&
	    (!g_ascii_string_to_unsigned(g_getenv(pid_variable), 10, 1, G_MAXINT32, &pid, NULL) ||
	     (pid_t)pid != getpid()))
		return 0;
	if (g_getenv(variable) != NULL)
		g_ascii_string_to_unsigned(g_getenv(variable), 10, 0, G_MAXINT64, &value, NULL);
	return value;
}

int hvp_notify_inherited_count(void)
{
	int count = g_getenv("LISTEN_PID") != NULL
			    ? (int)MIN(number_for_us("LISTEN_FDS", "LISTEN_PID"), MAX_INHERITED)
			    : 0;

	for (int i = 0; i < count; i++)
		fcntl(HVP_NOTIFY_FIRST_FD + i, F_SETFD, FD_CLOEXEC);
	g_unsetenv("LISTEN_PID");
	g_unsetenv("LISTEN_FDS");
	return count;
}

static GSocketAddress *manager_address(const char *path)
{
	if (path[0] == '@')
		return g_unix_socket_address_new_with_type(path + 1, -1,
							   G_UNIX_SOCKET_ADDRESS_ABSTRACT);
	return g_unix_socket_address_new(path);
}

void hvp_notify_send(const char *state)
{
	const char *path = g_getenv("NOTIFY_SOCKET");
	g_autoptr(GSocketAddress) address = NULL;
	g_autoptr(GSocket) socket = NULL;

	if (path == NULL)
		return;
	address = manager_address(path);
	socket = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_DATAGRAM,
			      G_SOCKET_PROTOCOL_DEFAULT, NULL);
	if (socket == NULL)
		return;
	g_socket_set_blocking(socket, FALSE);
	g_socket_send_to(socket, address, state, strlen(state), NULL, NULL);
}

guint hvp_notify_watchdog_msec(void)
{
	guint64 usec = number_for_us("WATCHDOG_USEC", "WATCHDOG_PID");

	return (guint)MIN(usec / 2000, G_MAXINT32);
}
