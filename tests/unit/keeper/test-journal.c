/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The journal's format: what was appended is read back; a torn or corrupt tail is cut off. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "keeper/journal.h"

#define HEADER_BYTES HVP_JOURNAL_HEADER_BYTES

static int open_journal(void)
{
	int fd = memfd_create("journal", MFD_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(fcntl(fd, F_SETFL, O_APPEND), ==, 0);
	return fd;
}

static void append(int fd, HvpJournalType type, const void *payload, gsize length_bytes)
{
	g_autoptr(GError) error = NULL;

	g_assert_true(hvp_journal_append(fd, type, payload, length_bytes, &error));
	g_assert_no_error(error);
}

static guint8 *read_all(int fd, gsize *ret_length_bytes)
{
	off_t size_bytes = lseek(fd, 0, SEEK_END);
	guint8 *bytes = g_malloc((gsize)size_bytes + 1);

	g_assert_cmpint(pread(fd, bytes, (gsize)size_bytes, 0), ==, size_bytes);
	*ret_length_bytes = (gsize)size_bytes;
	return bytes;
}

/* Three records: a text, one without payload, one of binary data. */
static guint8 *make_journal(gsize *ret_length_bytes, gsize ret_ends[3])
{
	static const char text[] = "operation=apply\npid=1\n";
	HvpKeeperWrite write = { { 0x1234 }, 5, { 1, 2, 3, 4, 5 }, { 6, 7, 8, 9, 10 } };
	int fd = open_journal();
	guint8 *bytes;

	append(fd, HVP_JOURNAL_BEGIN, text, strlen(text));
	ret_ends[0] = HEADER_BYTES + strlen(text);
	append(fd, HVP_JOURNAL_ATTACH, NULL, 0);
	ret_ends[1] = ret_ends[0] + HEADER_BYTES;
	append(fd, HVP_JOURNAL_WRITE, &write, sizeof write);
	ret_ends[2] = ret_ends[1] + HEADER_BYTES + sizeof write;
	bytes = read_all(fd, ret_length_bytes);
	close(fd);
	g_assert_cmpuint(*ret_length_bytes, ==, ret_ends[2]);
	return bytes;
}

static void test_append_and_parse(void)
{
	gsize length_bytes, ends[3];
	g_autofree guint8 *bytes = make_journal(&length_bytes, ends);
	bool torn = true;
	g_autoptr(GArray) records = hvp_journal_parse(bytes, length_bytes, &torn);
	const HvpJournalRecord *record = (const HvpJournalRecord *)(void *)records->data;
	HvpKeeperWrite write;

	g_assert_false(torn);
	g_assert_cmpuint(records->len, ==, 3);
	g_assert_cmpint(record[0].type, ==, HVP_JOURNAL_BEGIN);
	g_assert_cmpmem(record[0].payload, record[0].length_bytes, "operation=apply\npid=1\n", 22);
	g_assert_cmpint(record[1].type, ==, HVP_JOURNAL_ATTACH);
	g_assert_cmpuint(record[1].length_bytes, ==, 0);
	g_assert_cmpint(record[2].type, ==, HVP_JOURNAL_WRITE);
	g_assert_cmpuint(record[2].length_bytes, ==, sizeof write);
	memcpy(&write, record[2].payload, sizeof write);
	g_assert_cmphex(write.gpa.value, ==, 0x1234);
	g_assert_cmpuint(write.new_bytes[4], ==, 10);
}

/* CRC-32 as everybody else computes it: of type 3, length 0. */
static void test_known_bytes(void)
{
	static const guint8 expected[] = { 'H', 'V', 'P', 'J', 3, 0, 0, 0, 0, 0, 0, 0 };
	g_autofree guint8 *bytes = NULL;
	gsize length_bytes;
	int fd = open_journal();

	append(fd, HVP_JOURNAL_ATTACH, NULL, 0);
	bytes = read_all(fd, &length_bytes);
	close(fd);
	g_assert_cmpuint(length_bytes, ==, HEADER_BYTES);
	g_assert_cmpmem(bytes, sizeof expected, expected, sizeof expected);
	g_assert_cmphex((guint)bytes[12] | (guint)bytes[13] << 8 | (guint)bytes[14] << 16 |
				(guint)bytes[15] << 24,
			==, 0xebadd88aU);
}

static void test_torn_at_every_byte(void)
{
	gsize length_bytes, ends[3];
	g_autofree guint8 *bytes = make_journal(&length_bytes, ends);

	for (gsize cut = 0; cut < length_bytes; cut++) {
		/* A copy of its own, so that reading past its end is noticed. */
		g_autofree guint8 *piece = g_memdup2(bytes, cut);
		bool torn;
		g_autoptr(GArray) records = hvp_journal_parse(piece, cut, &torn);
		guint whole = (cut >= ends[0]) + (cut >= ends[1]);

		g_assert_cmpuint(records->len, ==, whole);
		g_assert_true(torn == (cut != 0 && cut != ends[0] && cut != ends[1]));
	}
}

/* No byte can change without ending the list there. */
static void test_corrupt_at_every_byte(void)
{
	gsize length_bytes, ends[3];
	g_autofree guint8 *bytes = make_journal(&length_bytes, ends);

	for (gsize at = 0; at < length_bytes; at++) {
		g_autofree guint8 *copy = g_memdup2(bytes, length_bytes);
		bool torn;
		g_autoptr(GArray) records = NULL;

		copy[at] ^= 0x40;
		records = hvp_journal_parse(copy, length_bytes, &torn);
		g_assert_true(torn);
		g_assert_cmpuint(records->len, ==, (at >= ends[0]) + (at >= ends[1]));
	}
}

/* Two records of one write, of which the second can be cut off. */
static void test_two_at_once(void)
{
	const HvpKeeperFrame frame = { .return_pc = { 0x1234 } };
	const HvpJournalRecord both[] = {
		{ HVP_JOURNAL_CALLED, NULL, 0 },
		{ HVP_JOURNAL_DIVERT, (const guint8 *)&frame, sizeof frame },
	};
	int fd = open_journal();
	g_autoptr(GError) error = NULL;
	g_autofree guint8 *bytes = NULL;
	g_autoptr(GArray) records = NULL;
	gsize length_bytes;
	bool torn;

	g_assert_true(hvp_journal_append_all(fd, both, 2, &error));
	g_assert_no_error(error);
	g_assert_true(hvp_journal_cut(fd, HEADER_BYTES));
	g_assert_true(hvp_journal_append_all(fd, both, 2, &error));
	g_assert_no_error(error);
	bytes = read_all(fd, &length_bytes);
	records = hvp_journal_parse(bytes, length_bytes, &torn);
	g_assert_false(torn);
	g_assert_cmpuint(records->len, ==, 3);
	for (guint i = 0; i < records->len; i++)
		g_assert_cmpint(g_array_index(records, HvpJournalRecord, i).type, ==,
				i < 2 ? HVP_JOURNAL_CALLED : HVP_JOURNAL_DIVERT);
	close(fd);
	fd = open("/dev/full", O_WRONLY | O_APPEND | O_CLOEXEC);
	g_assert_false(hvp_journal_append_all(fd, both, 2, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_FAULT);
	close(fd);
}

/* CALLED alone tells of a call that was made; before a torn DIVERT, of one that was not. */
static void test_torn_call(void)
{
	const HvpKeeperFrame frame = { .return_pc = { 0x1234 } };
	const HvpJournalRecord both[] = {
		{ HVP_JOURNAL_CALLED, NULL, 0 },
		{ HVP_JOURNAL_DIVERT, (const guint8 *)&frame, sizeof frame },
	};
	g_autofree guint8 *bytes = NULL;
	gsize length_bytes;
	int fd = open_journal();

	append(fd, HVP_JOURNAL_ATTACH, NULL, 0);
	g_assert_true(hvp_journal_append_all(fd, both, 2, NULL));
	bytes = read_all(fd, &length_bytes);
	close(fd);
	for (gsize cut = 2 * HEADER_BYTES; cut < length_bytes; cut++) {
		g_autofree guint8 *piece = g_memdup2(bytes, cut);
		bool torn;
		g_autoptr(GArray) records = hvp_journal_parse(piece, cut, &torn);

		/* Less than a type may have been the beginning of anything. */
		g_assert_cmpuint(records->len, ==, cut < 2 * HEADER_BYTES + 8 ? 2 : 1);
		g_assert_true(torn == (cut != 2 * HEADER_BYTES));
	}
}

static void test_empty(void)
{
	bool torn = true;
	g_autoptr(GArray) records = hvp_journal_parse(NULL, 0, &torn);

	g_assert_false(torn);
	g_assert_cmpuint(records->len, ==, 0);
}

static void test_too_long_INTERNAL(void)
{
	g_autofree guint8 *payload = g_malloc0(HVP_JOURNAL_MAX_RECORD_BYTES + 1);
	g_autoptr(GError) error = NULL;
	int fd = open_journal();

	append(fd, HVP_JOURNAL_STEP, payload, HVP_JOURNAL_MAX_RECORD_BYTES);
	g_assert_false(hvp_journal_append(fd, HVP_JOURNAL_STEP, payload,
					  HVP_JOURNAL_MAX_RECORD_BYTES + 1, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INTERNAL);
	close(fd);
}

static void test_cannot_write(void)
{
	g_autoptr(GError) error = NULL;
	int fd = open("/dev/null", O_RDONLY);

	g_assert_false(hvp_journal_append(fd, HVP_JOURNAL_ATTACH, NULL, 0, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_FAULT);
	close(fd);
}

/* What did not fit is taken away again, so that later records can be read. */
static void test_full_then_room_again(void)
{
	struct rlimit before, small = { 64, RLIM_INFINITY };
	guint8 payload[100] = { 0 };
	g_autofree guint8 *bytes = NULL;
	g_autoptr(GArray) records = NULL;
	g_autoptr(GError) error = NULL;
	gsize length_bytes;
	int fd = open_journal();
	bool torn;

	g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &before), ==, 0);
	signal(SIGXFSZ, SIG_IGN);
	append(fd, HVP_JOURNAL_ATTACH, NULL, 0);
	small.rlim_max = before.rlim_max;
	g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &small), ==, 0);
	g_assert_false(hvp_journal_append(fd, HVP_JOURNAL_STEP, payload, sizeof payload, &error));
	g_assert_nonnull(error);
	g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &before), ==, 0);
	append(fd, HVP_JOURNAL_DETACH, NULL, 0);
	bytes = read_all(fd, &length_bytes);
	close(fd);
	records = hvp_journal_parse(bytes, length_bytes, &torn);
	g_assert_false(torn);
	g_assert_cmpuint(records->len, ==, 2);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/journal/append-and-parse", test_append_and_parse);
	g_test_add_func("/journal/known-bytes", test_known_bytes);
	g_test_add_func("/journal/torn-at-every-byte", test_torn_at_every_byte);
	g_test_add_func("/journal/corrupt-at-every-byte", test_corrupt_at_every_byte);
	g_test_add_func("/journal/two-at-once", test_two_at_once);
	g_test_add_func("/journal/torn-call-NOT-CALLED", test_torn_call);
	g_test_add_func("/journal/empty", test_empty);
	g_test_add_func("/journal/too-long-INTERNAL", test_too_long_INTERNAL);
	g_test_add_func("/journal/cannot-write-FAULT", test_cannot_write);
	g_test_add_func("/journal/full-then-room-again", test_full_then_room_again);
	return g_test_run();
}
