/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/journal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bytes.h"

#define MAGIC 0x4a505648U /* "HVPJ" */
#define CRC_FROM_BYTES 4 /* type and length */
#define CRC_HEADER_BYTES 8

/* CRC-32 (IEEE 802.3, reflected), half a byte at a time. */
static guint32 crc32_add(guint32 crc, const guint8 *bytes, gsize length_bytes)
{
	static const guint32 table[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
		0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
		0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};

	for (gsize i = 0; i < length_bytes; i++) {
		crc ^= bytes[i];
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return crc;
}

static guint32 record_crc(const guint8 *header, const guint8 *payload, gsize length_bytes)
{
	guint32 crc = crc32_add(~0U, header + CRC_FROM_BYTES, CRC_HEADER_BYTES);

	return ~crc32_add(crc, payload, length_bytes);
}

gint64 hvp_journal_get_size(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 ? status.st_size : -1;
}

bool hvp_journal_cut(int fd, gint64 size_bytes)
{
	return size_bytes >= 0 && ftruncate(fd, size_bytes) == 0;
}

/*
 * Nothing can be read behind a torn record, and one that is not sure to be there announces what
 * will not happen: a failed append takes its piece away.
 */
static bool fail_append(int fd, gint64 size_bytes, int why, const char *what, GError **error)
{
	(void)!hvp_journal_cut(fd, size_bytes);
	return hvp_error_set_errno(error, why, HVP_ERROR_FAULT, "%s", what);
}

static void fill_header(guint8 *header, const HvpJournalRecord *record)
{
	hvp_store_u32(header, MAGIC);
	hvp_store_u32(header + 4, record->type);
	hvp_store_u32(header + 8, (guint32)record->length_bytes);
	hvp_store_u32(header + 12, record_crc(header, record->payload, record->length_bytes));
}

bool hvp_journal_append_all(int fd, const HvpJournalRecord *records, gsize count, GError **error)
{
	guint8 headers[HVP_JOURNAL_MAX_AT_ONCE][HVP_JOURNAL_HEADER_BYTES];
	struct iovec parts[2 * HVP_JOURNAL_MAX_AT_ONCE];
	gint64 size_bytes = hvp_journal_get_size(fd);
	int part_count = 0;
	ssize_t written, wanted = 0;

	g_assert(count <= HVP_JOURNAL_MAX_AT_ONCE);
	if (size_bytes < 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_FAULT, "journal");
	for (gsize i = 0; i < count; i++) {
		gsize length_bytes = records[i].length_bytes;

		if (length_bytes > HVP_JOURNAL_MAX_RECORD_BYTES)
			return hvp_error_set(error, HVP_ERROR_INTERNAL, "journal record too long");
		fill_header(headers[i], &records[i]);
		parts[part_count++] = (struct iovec){ headers[i], HVP_JOURNAL_HEADER_BYTES };
		if (length_bytes > 0)
			parts[part_count++] =
				(struct iovec){ (void *)records[i].payload, length_bytes };
		wanted += (ssize_t)(HVP_JOURNAL_HEADER_BYTES + length_bytes);
	}
	do
		written = writev(fd, parts, part_count);
	while (written < 0 && errno == EINTR);
	if (written != wanted)
		return fail_append(fd, size_bytes, written < 0 ? errno : ENOSPC,
				   "writing the journal", error);
	if (fdatasync(fd) != 0)
		return fail_append(fd, size_bytes, errno, "syncing the journal", error);
	return true;
}

bool hvp_journal_append(int fd, HvpJournalType type, const void *payload, gsize length_bytes,
			GError **error)
{
	HvpJournalRecord record = { type, payload, length_bytes };

	return hvp_journal_append_all(fd, &record, 1, error);
}

static bool next_record(HvpCursor *cursor, HvpJournalRecord *ret_record)
{
	const guint8 *header = hvp_cursor_take(cursor, HVP_JOURNAL_HEADER_BYTES);
	gsize length_bytes;

	if (header == NULL || hvp_load_u32(header) != MAGIC)
		return false;
	length_bytes = hvp_load_u32(header + 8);
	if (length_bytes > HVP_JOURNAL_MAX_RECORD_BYTES)
		return false;
	ret_record->type = (HvpJournalType)hvp_load_u32(header + 4);
	ret_record->length_bytes = length_bytes;
	ret_record->payload = hvp_cursor_take(cursor, length_bytes);
	return ret_record->payload != NULL &&
	       hvp_load_u32(header + 12) == record_crc(header, ret_record->payload, length_bytes);
}

/*
 * Whether the last of @records is the CALLED of a DIVERT that ends in the midst, at @bytes: both
 * are one write, so the call was not made. With less than its type there it might be another
 * record, and a call that was made is not to be made again.
 */
static bool is_half_a_call(const GArray *records, const guint8 *bytes, gsize length_bytes)
{
	return records->len > 0 &&
	       g_array_index(records, HvpJournalRecord, records->len - 1).type ==
		       HVP_JOURNAL_CALLED &&
	       length_bytes >= CRC_FROM_BYTES + 4 &&
	       length_bytes < HVP_JOURNAL_HEADER_BYTES + sizeof(HvpKeeperFrame) &&
	       hvp_load_u32(bytes) == MAGIC &&
	       hvp_load_u32(bytes + CRC_FROM_BYTES) == HVP_JOURNAL_DIVERT;
}

GArray *hvp_journal_parse(const guint8 *bytes, gsize length_bytes, bool *ret_torn)
{
	g_autoptr(GArray) records = g_array_new(FALSE, FALSE, sizeof(HvpJournalRecord));
	HvpCursor cursor = hvp_cursor(bytes, MIN(length_bytes, HVP_JOURNAL_MAX_BYTES));
	HvpJournalRecord record;

	*ret_torn = length_bytes > HVP_JOURNAL_MAX_BYTES;
	while (cursor.offset_bytes < cursor.length_bytes) {
		gsize at = cursor.offset_bytes;

		if (!next_record(&cursor, &record)) {
			*ret_torn = true;
			if (is_half_a_call(records, bytes + at, cursor.length_bytes - at))
				g_array_set_size(records, records->len - 1);
			break;
		}
		g_array_append_val(records, record);
	}
	return g_steal_pointer(&records);
}
