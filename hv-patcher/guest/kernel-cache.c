/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/kernel-cache.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "hvpkern2"
#define SUFFIX ".kernel"
#define MAX_PIECES_BYTES (128U << 20)
#define CHUNK_BYTES (1U << 20)
#define MAX_FILES 4096U
#define MAX_FILE_BYTES (512U << 20)

typedef struct {
	char magic[8];
	guint32 layout_version;
	guint32 layout_bytes;
	guint64 symbols_bytes;
	guint64 checksum; /* of identity, layout and symbols */
	HvpKernelIdentity identity;
} KernelCacheHeader;

bool hvp_kernel_cache_matches(const HvpKernelIdentity *self, HvpAddressSpace *space, HvpGva base)
{
	guint8 build_id[HVP_KERNEL_CACHE_ID_BYTES];
	char banner[HVP_KERNEL_CACHE_BANNER_BYTES];
	gsize banner_bytes = strnlen(self->banner, sizeof self->banner);

	return hvp_address_space_read(space, hvp_gva_add(base, self->build_id_offset), build_id,
				      sizeof build_id, NULL) &&
	       memcmp(build_id, self->build_id, sizeof build_id) == 0 &&
	       hvp_address_space_read(space, hvp_gva_add(base, self->banner_offset), banner,
				      banner_bytes, NULL) &&
	       memcmp(banner, self->banner, banner_bytes) == 0;
}

static void digest_piece(GChecksum *digest, const HvpKallsymsPiece *piece)
{
	guint8 place[16];

	hvp_store_u64(place, piece->offset);
	hvp_store_u64(place + 8, piece->length_bytes);
	g_checksum_update(digest, place, sizeof place);
}

void hvp_kernel_cache_seal(HvpKernelIdentity *self, GBytes *image)
{
	g_autoptr(GChecksum) digest = g_checksum_new(G_CHECKSUM_SHA256);
	const guint8 *bytes = g_bytes_get_data(image, NULL);
	gsize digest_bytes = sizeof self->digest;

	for (guint i = 0; i < HVP_KERNEL_CACHE_PIECES; i++) {
		digest_piece(digest, &self->pieces[i]);
		g_checksum_update(digest, bytes + self->pieces[i].offset,
				  (gssize)self->pieces[i].length_bytes);
	}
	g_checksum_get_digest(digest, self->digest, &digest_bytes);
}

static bool digest_guest_piece(GChecksum *digest, const HvpKallsymsPiece *piece,
			       HvpAddressSpace *space, HvpGva base, guint8 *chunk)
{
	digest_piece(digest, piece);
	for (guint64 at = 0; at < piece->length_bytes; at += CHUNK_BYTES) {
		gsize length = MIN(CHUNK_BYTES, piece->length_bytes - at);

		if (!hvp_address_space_read(space, hvp_gva_add(base, piece->offset + at), chunk,
					    length, NULL))
			return false;
		g_checksum_update(digest, chunk, (gssize)length);
	}
	return true;
}

/* Whether the tables in the guest are, byte for byte, those that the file was made from. */
static bool has_same_tables(const HvpKernelIdentity *self, HvpAddressSpace *space, HvpGva base)
{
	g_autoptr(GChecksum) digest = g_checksum_new(G_CHECKSUM_SHA256);
	g_autofree guint8 *chunk = g_malloc(CHUNK_BYTES);
	guint8 found[HVP_KERNEL_CACHE_DIGEST_BYTES];
	gsize digest_bytes = sizeof found;

	for (guint i = 0; i < HVP_KERNEL_CACHE_PIECES; i++)
		if (self->pieces[i].length_bytes > MAX_PIECES_BYTES ||
		    !digest_guest_piece(digest, &self->pieces[i], space, base, chunk))
			return false;
	g_checksum_get_digest(digest, found, &digest_bytes);
	return memcmp(found, self->digest, sizeof found) == 0;
}

/* FNV-1a over 64-bit words: against damage, not against malice (the folder is ours alone). */
static guint64 checksum(guint64 hash, const guint8 *bytes, gsize length_bytes)
{
	for (gsize i = 0; i + 8 <= length_bytes; i += 8)
		hash = (hash ^ hvp_load_u64(bytes + i)) * 0x100000001b3ULL;
	for (gsize i = length_bytes & ~(gsize)7; i < length_bytes; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
	return hash;
}

static guint64 checksum_of(const HvpKernelIdentity *identity, const void *layout,
			   gsize layout_bytes, const void *symbols, gsize symbols_bytes)
{
	guint64 hash = checksum(0xcbf29ce484222325ULL, (const guint8 *)identity, sizeof *identity);

	return checksum(checksum(hash, layout, layout_bytes), symbols, symbols_bytes);
}

/* A file of somebody else's, or one that others may write, is nobody's cache. */
static bool read_header(int fd, KernelCacheHeader *ret_header, gsize *ret_file_bytes)
{
	struct stat status;

	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_uid != geteuid() ||
	    (status.st_mode & 022) != 0 || status.st_size > MAX_FILE_BYTES)
		return false;
	*ret_file_bytes = (gsize)status.st_size;
	return pread(fd, ret_header, sizeof *ret_header, 0) == (gssize)sizeof *ret_header &&
	       memcmp(ret_header->magic, MAGIC, sizeof ret_header->magic) == 0 &&
	       ret_header->layout_version == hvp_layout_version() &&
	       ret_header->layout_bytes == sizeof(HvpLayout) &&
	       *ret_file_bytes >= sizeof *ret_header + sizeof(HvpLayout) &&
	       ret_header->identity.banner[HVP_KERNEL_CACHE_BANNER_BYTES - 1] == 0 &&
	       ret_header->symbols_bytes ==
		       *ret_file_bytes - sizeof *ret_header - ret_header->layout_bytes;
}

static HvpSymbols *read_body(int fd, const KernelCacheHeader *header, HvpLayout *ret_layout)
{
	gsize body_bytes = header->layout_bytes + header->symbols_bytes;
	g_autofree guint8 *body = g_try_malloc(body_bytes);

	if (body == NULL || pread(fd, body, body_bytes, sizeof *header) != (gssize)body_bytes ||
	    checksum_of(&header->identity, body, header->layout_bytes, body + header->layout_bytes,
			header->symbols_bytes) != header->checksum)
		return NULL;
	memcpy(ret_layout, body, sizeof *ret_layout);
	return hvp_symbols_deserialize(body + header->layout_bytes, header->symbols_bytes, NULL);
}

static HvpSymbols *try_file(const char *path, HvpAddressSpace *space, HvpGva base,
			    HvpKernelIdentity *ret_identity, HvpLayout *ret_layout)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	HvpSymbols *symbols = NULL;
	KernelCacheHeader header;
	gsize file_bytes;

	if (fd < 0)
		return NULL;
	if (read_header(fd, &header, &file_bytes) &&
	    hvp_kernel_cache_matches(&header.identity, space, base) &&
	    has_same_tables(&header.identity, space, base))
		symbols = read_body(fd, &header, ret_layout);
	close(fd);
	if (symbols != NULL)
		*ret_identity = header.identity;
	return symbols;
}

bool hvp_kernel_cache_load(const char *folder, HvpAddressSpace *space, HvpGva base,
			   HvpKernelIdentity *ret_identity, HvpLayout *ret_layout,
			   HvpSymbols **ret_symbols, GError **error)
{
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	const char *name;
	guint files = 0;

	while (dir != NULL && files++ < MAX_FILES && (name = g_dir_read_name(dir)) != NULL) {
		g_autofree char *path = g_build_filename(folder, name, NULL);

		if (!g_str_has_suffix(name, SUFFIX))
			continue;
		*ret_symbols = try_file(path, space, base, ret_identity, ret_layout);
		if (*ret_symbols != NULL)
			return true;
	}
	return hvp_error_set(error, HVP_ERROR_NOT_FOUND, "this kernel is not in the cache %s",
			     folder);
}

static bool write_all(int fd, const void *bytes, gsize length_bytes)
{
	const guint8 *rest = bytes;

	while (length_bytes > 0) {
		gssize written = write(fd, rest, length_bytes);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		rest += written;
		length_bytes -= (gsize)written;
	}
	return true;
}

static bool write_file(const char *path, const KernelCacheHeader *header, const HvpLayout *layout,
		       const guint8 *symbols)
{
	g_autofree char *temporary = g_strconcat(path, ".XXXXXX", NULL);
	int fd = g_mkstemp_full(temporary, O_WRONLY | O_CLOEXEC, 0600);
	bool ok;

	if (fd < 0)
		return false;
	ok = write_all(fd, header, sizeof *header) && write_all(fd, layout, sizeof *layout) &&
	     write_all(fd, symbols, header->symbols_bytes) && fsync(fd) == 0;
	ok = close(fd) == 0 && ok && g_rename(temporary, path) == 0;
	if (!ok)
		g_unlink(temporary);
	return ok;
}

static char *file_name(const HvpKernelIdentity *identity)
{
	GString *name = g_string_new(NULL);

	for (guint i = 0; i < sizeof identity->build_id; i++)
		g_string_append_printf(name, "%02x", identity->build_id[i]);
	g_string_append(name, SUFFIX);
	return g_string_free(name, FALSE);
}

bool hvp_kernel_cache_store(const char *folder, const HvpKernelIdentity *identity,
			    const HvpLayout *layout, const HvpSymbols *symbols, GError **error)
{
	g_autoptr(GBytes) serialized = hvp_symbols_serialize(symbols);
	g_autofree char *name = file_name(identity);
	g_autofree char *path = g_build_filename(folder, name, NULL);
	KernelCacheHeader header = { .magic = MAGIC,
				     .layout_version = hvp_layout_version(),
				     .layout_bytes = sizeof *layout,
				     .identity = *identity };
	const guint8 *bytes = g_bytes_get_data(serialized, (gsize *)&header.symbols_bytes);

	header.checksum = checksum_of(&header.identity, layout, sizeof *layout, bytes,
				      header.symbols_bytes);
	if (g_mkdir_with_parents(folder, 0700) != 0 || !write_file(path, &header, layout, bytes))
		return hvp_error_set_errno(error, errno, HVP_ERROR_NOT_FOUND, "%s", path);
	return true;
}
