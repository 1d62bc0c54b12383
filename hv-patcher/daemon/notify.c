/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/notify.h"

#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void hvp_notify_send(const char *state)
{
	const char *path = g_getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length;
	int fd;

	if (path == NULL || (path[0] != '/' && path[0] != '@') ||
	    strlen(path) >= sizeof address.sun_path)
		return;
	memcpy(address.sun_path, path, strlen(path));
	/* An abstract name begins with a NUL, written as @, and has no end but its length. */
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
		     (const struct sockaddr *)&address, length);
	close(fd);
}

void hvp_notify_send_reloading(void)
{
	g_autofree char *state = g_strdup_printf("RELOADING=1\nMONOTONIC_USEC=%" G_GINT64_FORMAT,
						 g_get_monotonic_time());

	hvp_notify_send(state);
}

static gboolean on_watchdog(gpointer data)
{
	(void)data;
	hvp_notify_send("WATCHDOG=1");
	return G_SOURCE_CONTINUE;
}

static guint64 read_number(const char *name)
{
	const char *text = g_getenv(name);
	guint64 number = 0;

	if (text != NULL && !g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT64, &number, NULL))
		return 0;
	return number;
}

void hvp_notify_start_watchdog(void)
{
	guint64 usec = read_number("WATCHDOG_USEC");
	guint64 pid = read_number("WATCHDOG_PID");

	if (usec == 0 || (pid != 0 && pid != (guint64)getpid()))
		return;
	/* Before all else: what is late is what the loop does, not the sign. */
	g_timeout_add_full(G_PRIORITY_HIGH, (guint)MIN(usec / 2000, (guint64)G_MAXINT), on_watchdog,
			   NULL, NULL);
}
