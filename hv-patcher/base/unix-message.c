/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/unix-message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* As many are taken off the socket with a message; all but one are closed. */
#define MAX_RECEIVED_FDS 8

typedef union {
	struct cmsghdr header;
	char space[CMSG_SPACE(MAX_RECEIVED_FDS * sizeof(int))];
} Control;

ssize_t hvp_unix_message_send(int socket_fd, const void *bytes, gsize length_bytes, int attached_fd,
			      int flags)
{
	struct iovec iovec = { (void *)bytes, length_bytes };
	Control control = { .header = { .cmsg_level = SOL_SOCKET,
					.cmsg_type = SCM_RIGHTS,
					.cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct msghdr message = { .msg_iov = &iovec, .msg_iovlen = 1 };
	ssize_t sent;

	if (attached_fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &attached_fd, sizeof attached_fd);
		message.msg_control = control.space;
		message.msg_controllen = CMSG_SPACE(sizeof(int));
	}
	do
		sent = sendmsg(socket_fd, &message, MSG_NOSIGNAL | flags);
	while (sent < 0 && errno == EINTR);
	return sent;
}

static void take_fds(struct msghdr *message, int *ret_fd)
{
	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
	     header = CMSG_NXTHDR(message, header)) {
		gsize count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		for (gsize i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
			if (*ret_fd < 0)
				*ret_fd = fd;
			else
				close(fd);
		}
	}
}

ssize_t hvp_unix_message_receive(int socket_fd, void *ret_bytes, gsize length_bytes, int flags,
				 int *ret_fd)
{
	struct iovec iovec = { ret_bytes, length_bytes };
	Control control = { 0 };
	struct msghdr message = { .msg_iov = &iovec,
				  .msg_iovlen = 1,
				  .msg_control = control.space,
				  .msg_controllen = sizeof control.space };
	ssize_t got;

	*ret_fd = -1;
	do
		got = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC | flags);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return got;
	take_fds(&message, ret_fd);
	if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
		return got;
	if (*ret_fd >= 0)
		close(*ret_fd);
	*ret_fd = -1;
	errno = EMSGSIZE;
	return -1;
}
