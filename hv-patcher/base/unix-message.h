/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One message of a unix socket, with or without a descriptor (SCM_RIGHTS, unix(7)). Flags are
 * those of send(2) and recv(2); interrupted calls are made again.
 */
#pragma once

#include <glib.h>
#include <sys/types.h>

/* Sends @attached_fd along, unless -1. Returns how many bytes went, or -1 and errno. No SIGPIPE. */
ssize_t hvp_unix_message_send(int socket_fd, const void *bytes, gsize length_bytes, int attached_fd,
			      int flags);

/*
 * Returns the length, 0 at the end, or -1 and errno; EMSGSIZE: the message is longer than
 * @length_bytes, or carries more descriptors than anybody sends. *@ret_fd is the first that came,
 * close-on-exec and the caller's, or -1; others are closed.
 */
ssize_t hvp_unix_message_receive(int socket_fd, void *ret_bytes, gsize length_bytes, int flags,
				 int *ret_fd);
