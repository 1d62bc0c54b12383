/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "port.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define LINK_PATH "/dev/virtio-ports/" AGENT_PORT_NAME
#define SYSFS_PATH "/sys/class/virtio-ports"
#define PATH_CAPACITY 320
#define DRAIN_MAX_READS 64

static int open_device(const char *path)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct termios settings;

	if (fd >= 0 && tcgetattr(fd, &settings) == 0) {
		cfmakeraw(&settings);
		tcsetattr(fd, TCSANOW, &settings);
	}
	return fd;
}

static int connect_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, error;

	if (strlen(path) >= sizeof address.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static bool has_name(const char *port)
{
	char path[PATH_CAPACITY], name[sizeof AGENT_PORT_NAME + 1] = "";
	ssize_t length;
	int fd;

	snprintf(path, sizeof path, SYSFS_PATH "/%s/name", port);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	length = read(fd, name, sizeof name);
	close(fd);
	return length == (ssize_t)sizeof AGENT_PORT_NAME &&
	       memcmp(name, AGENT_PORT_NAME "\n", sizeof AGENT_PORT_NAME) == 0;
}

/* Without udev there is no link in /dev/virtio-ports. False with errno set. */
static bool find_device(char *ret_path)
{
	DIR *folder = opendir(SYSFS_PATH);
	const struct dirent *entry;
	bool found = false;

	if (folder == NULL)
		return false;
	while (!found && (entry = readdir(folder)) != NULL)
		if (entry->d_name[0] != '.' && has_name(entry->d_name)) {
			snprintf(ret_path, PATH_CAPACITY, "/dev/%s", entry->d_name);
			found = true;
		}
	closedir(folder);
	errno = ENOENT;
	return found;
}

static int open_virtio_port(void)
{
	int fd = open_device(LINK_PATH);
	char path[PATH_CAPACITY];

	if (fd >= 0 || errno != ENOENT || !find_device(path))
		return fd;
	return open_device(path);
}

static bool is_socket(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && S_ISSOCK(status.st_mode);
}

bool agent_port_open(AgentPort *self)
{
	if (self->fd >= 0)
		return true;
	self->is_socket = self->path != NULL && is_socket(self->path);
	if (self->is_socket)
		self->fd = connect_socket(self->path);
	else
		self->fd = self->path != NULL ? open_device(self->path) : open_virtio_port();
	return self->fd >= 0;
}

void agent_port_close(AgentPort *self)
{
	if (self->fd >= 0)
		close(self->fd);
	self->fd = -1;
}

/* False: the port cannot be read any more. */
static bool drain(int fd)
{
	char bytes[4096];

	for (int i = 0; i < DRAIN_MAX_READS; i++) {
		ssize_t got = read(fd, bytes, sizeof bytes);

		if (got <= 0)
			return got == 0 || errno == EAGAIN || errno == EINTR;
	}
	return true;
}

bool agent_port_has_host(AgentPort *self)
{
	struct pollfd pollfd = { .fd = self->fd, .events = POLLIN };

	if (self->fd < 0 || poll(&pollfd, 1, 0) < 0)
		return false;
	if (!(pollfd.revents & (POLLHUP | POLLERR | POLLNVAL)))
		return true;
	if (self->is_socket || !drain(self->fd))
		agent_port_close(self);
	return false;
}
