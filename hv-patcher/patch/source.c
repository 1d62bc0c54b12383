/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/source.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

static int source_open(const char *path, GError **error)
{
	/* O_NONBLOCK: the open of a FIFO must not wait for its writer. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		hvp_error_set_errno(error, errno, HVP_ERROR_INVALID_ARGUMENT, "cannot open");
	return fd;
}

static bool source_check(int fd, gsize max_bytes, gsize *ret_size_bytes, GError **error)
{
	struct stat status;

	if (fstat(fd, &status) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_INVALID_ARGUMENT,
					   "cannot inspect");
	if (!S_ISREG(status.st_mode))
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "not a regular file");
	if ((guint64)status.st_size > max_bytes)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "too large: %" G_GINT64_FORMAT
				     " bytes, the limit is %" G_GSIZE_FORMAT,
				     (gint64)status.st_size, max_bytes);
	if (status.st_size == 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "empty");
	*ret_size_bytes = (gsize)status.st_size;
	return true;
}

/* Reads until @size_bytes are there or the file ends; false with errno set. */
static bool source_fill(int fd, guint8 *buffer, gsize size_bytes, gsize *ret_length_bytes)
{
	gsize length_bytes = 0;

	while (length_bytes < size_bytes) {
		ssize_t got = pread(fd, buffer + length_bytes, size_bytes - length_bytes,
				    (off_t)length_bytes);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return false;
		if (got == 0)
			break;
		length_bytes += (gsize)got;
	}
	*ret_length_bytes = length_bytes;
	return true;
}

GBytes *hvp_source_read_fd(int fd, gsize max_bytes, GError **error)
{
	g_autofree guint8 *buffer = NULL;
	gsize size_bytes = 0;
	gsize length_bytes = 0;

	if (!source_check(fd, max_bytes, &size_bytes, error))
		return NULL;
	/* One byte more than it should have shows a file that grew. */
	buffer = g_try_malloc(size_bytes + 1);
	if (buffer == NULL) {
		hvp_error_set(error, HVP_ERROR_FAULT, "no memory for %" G_GSIZE_FORMAT " bytes",
			      size_bytes);
		return NULL;
	}
	if (!source_fill(fd, buffer, size_bytes + 1, &length_bytes)) {
		hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "cannot read");
		return NULL;
	}
	if (length_bytes != size_bytes) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "changed while it was read");
		return NULL;
	}
	return g_bytes_new_take(g_steal_pointer(&buffer), length_bytes);
}

GBytes *hvp_source_read(const char *path, gsize max_bytes, GError **error)
{
	int fd = source_open(path, error);
	GBytes *bytes;

	if (fd < 0)
		return NULL;
	bytes = hvp_source_read_fd(fd, max_bytes, error);
	close(fd);
	return bytes;
}
