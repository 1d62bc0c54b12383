/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/problem.h"

#define CHUNK_BYTES (256U << 10)
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

void hvp_sealed_free(HvpSealed *self)
{
	if (self == NULL)
		return;
	if (self->fd >= 0)
		close(self->fd);
	g_clear_pointer(&self->bytes, g_bytes_unref);
	g_free(self->sha256);
	g_free(self);
}

static bool set_too_large(gsize max_bytes, GError **error)
{
	return hvp_problem_set(error, HVP_PROBLEM_TOO_LARGE,
			       "the file has more than %" G_GSIZE_FORMAT " bytes", max_bytes);
}

/* A pipe or device could have us wait, or give other bytes each time. */
static bool check_file(int fd, gsize max_bytes, GError **error)
{
	struct stat status;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &status) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "the file");
	if (!S_ISREG(status.st_mode) || (flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_WRONLY)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "not a regular file that is open for reading");
	return (guint64)status.st_size <= max_bytes || set_too_large(max_bytes, error);
}

static bool write_all(int fd, const guint8 *bytes, gsize length_bytes, GError **error)
{
	while (length_bytes > 0) {
		ssize_t written = write(fd, bytes, length_bytes);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "the copy");
		bytes += written;
		length_bytes -= (gsize)written;
	}
	return true;
}

/* The hash is of the bytes that are written, not of what the file has by then. */
static bool copy(int from, int to, gsize max_bytes, GChecksum *hash, gsize *ret_length_bytes,
		 GError **error)
{
	g_autofree guint8 *chunk = g_malloc(CHUNK_BYTES);
	gsize length_bytes = 0;

	for (;;) {
		ssize_t got = pread(from, chunk, CHUNK_BYTES, (off_t)length_bytes);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "the file");
		if (got == 0)
			break;
		length_bytes += (gsize)got;
		if (length_bytes > max_bytes)
			return set_too_large(max_bytes, error);
		g_checksum_update(hash, chunk, got);
		if (!write_all(to, chunk, (gsize)got, error))
			return false;
	}
	*ret_length_bytes = length_bytes;
	return length_bytes > 0 || hvp_error_set(error, HVP_ERROR_BAD_DATA, "the file is empty");
}

typedef struct {
	void *address;
	gsize length_bytes;
} Mapping;

static void mapping_free(gpointer data)
{
	Mapping *mapping = data;

	munmap(mapping->address, mapping->length_bytes);
	g_free(mapping);
}

static GBytes *map(int fd, gsize length_bytes, GError **error)
{
	void *address = mmap(NULL, length_bytes, PROT_READ, MAP_SHARED, fd, 0);
	Mapping *mapping;

	if (address == MAP_FAILED) {
		hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "mapping the copy");
		return NULL;
	}
	mapping = g_new(Mapping, 1);
	*mapping = (Mapping){ address, length_bytes };
	return g_bytes_new_with_free_func(address, length_bytes, mapping_free, mapping);
}

HvpSealed *hvp_sealed_copy(int fd, gsize max_bytes, GError **error)
{
	g_autoptr(HvpSealed) self = g_new0(HvpSealed, 1);
	g_autoptr(GChecksum) hash = g_checksum_new(G_CHECKSUM_SHA256);
	gsize length_bytes = 0;

	self->fd = -1;
	if (!check_file(fd, max_bytes, error))
		return NULL;
	self->fd = memfd_create("hvpatch-patch", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (self->fd < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "memfd_create");
		return NULL;
	}
	if (!copy(fd, self->fd, max_bytes, hash, &length_bytes, error))
		return NULL;
	/* For who reads it by its offset, which goes along with the descriptor. */
	if (lseek(self->fd, 0, SEEK_SET) != 0 || fcntl(self->fd, F_ADD_SEALS, SEALS) != 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "sealing the copy");
		return NULL;
	}
	self->bytes = map(self->fd, length_bytes, error);
	if (self->bytes == NULL)
		return NULL;
	self->sha256 = g_strdup(g_checksum_get_string(hash));
	return g_steal_pointer(&self);
}
