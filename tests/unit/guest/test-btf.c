/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "base/bytes.h"
#include "btf-maker.h"

#define HEADER_BYTES 24U

static HvpBtf *open_bytes(const guint8 *data, gsize length_bytes, GError **error)
{
	/* A copy of just this length, so that a sanitizer sees who passes its end. */
	g_autoptr(GBytes) blob = g_bytes_new(data, length_bytes);

	return hvp_btf_new(blob, error);
}

static HvpBtf *open_maker(BtfMaker *maker)
{
	g_autoptr(GBytes) blob = btf_maker_finish(maker);
	g_autoptr(GError) error = NULL;
	HvpBtf *btf = hvp_btf_new(blob, &error);

	g_assert_no_error(error);
	return btf;
}

static HvpBtfMember member(HvpBtf *btf, const char *name, const char *path)
{
	g_autoptr(GError) error = NULL;
	HvpBtfMember found = { 0 };

	g_assert_true(hvp_btf_member(btf, name, path, &found, &error));
	return found;
}

static void assert_no_member(HvpBtf *btf, const char *name, const char *path, HvpErrorCode code)
{
	g_autoptr(GError) error = NULL;
	HvpBtfMember found;

	g_assert_false(hvp_btf_member(btf, name, path, &found, &error));
	g_assert_error(error, HVP_ERROR, (int)code);
}

static void test_members(void)
{
	g_autoptr(BtfMaker) maker = btf_maker_new();
	guint32 word = btf_maker_int(maker, 8), other = btf_maker_int(maker, 4);
	guint32 inner = btf_maker_struct(
		maker, "inner", BTF_STRUCT, 24,
		(BtfMakerMember[]){ { "x", word, 0, 0 }, { "y", word, 128, 0 } }, 2);
	guint32 twice = btf_maker_type(maker, "twice_t", BTF_TYPEDEF, 0, inner, NULL, 0);
	guint32 constant = btf_maker_type(maker, NULL, BTF_CONST, 0, twice, NULL, 0);
	guint32 nested = btf_maker_struct(
		maker, NULL, BTF_UNION, 16,
		(BtfMakerMember[]){ { "deep", word, 0, 0 }, { "deeper", other, 32, 0 } }, 2);
	guint32 anonymous = btf_maker_struct(
		maker, NULL, BTF_STRUCT, 32,
		(BtfMakerMember[]){ { "first", word, 0, 0 }, { NULL, nested, 128, 0 } }, 2);
	guint32 array = btf_maker_array(maker, word, 56);
	g_autoptr(HvpBtf) btf = NULL;
	HvpBtfMember found;
	guint32 size;

	btf_maker_struct(maker, "outer", BTF_STRUCT, 600,
			 (BtfMakerMember[]){ { "plain", word, 64, 0 },
					     { NULL, anonymous, 128, 0 },
					     { "sub", constant, 1024, 0 },
					     { "names", array, 2048, 0 } },
			 4);
	btf = open_maker(maker);
	g_assert_true(hvp_btf_struct_size(btf, "outer", &size, NULL));
	g_assert_cmpuint(size, ==, 600);
	g_assert_cmpuint(member(btf, "outer", "plain").bit, ==, 64);
	g_assert_cmpuint(member(btf, "outer", "first").bit, ==, 128);
	g_assert_cmpuint(member(btf, "outer", "deep").bit, ==, 256);
	g_assert_cmpuint(member(btf, "outer", "deeper").bit, ==, 288);
	g_assert_cmpuint(member(btf, "outer", "sub").bit, ==, 1024);
	g_assert_cmpuint(member(btf, "outer", "sub.y").bit, ==, 1152);
	found = member(btf, "outer", "names");
	g_assert_cmpuint(found.count, ==, 56);
	g_assert_cmpuint(member(btf, "outer", "plain").count, ==, 1);
	assert_no_member(btf, "outer", "absent", HVP_ERROR_NOT_FOUND);
	assert_no_member(btf, "outer", "plai", HVP_ERROR_NOT_FOUND);
	assert_no_member(btf, "outer", "plainer", HVP_ERROR_NOT_FOUND);
	assert_no_member(btf, "outer", "plain.x", HVP_ERROR_NOT_FOUND);
	assert_no_member(btf, "outer", "sub.z", HVP_ERROR_NOT_FOUND);
	assert_no_member(btf, "nobody", "plain", HVP_ERROR_NOT_FOUND);
	assert_no_member(btf, "twice_t", "x", HVP_ERROR_NOT_FOUND);
	assert_no_member(btf, "", "deep", HVP_ERROR_NOT_FOUND);
}

static void test_bitfields(void)
{
	g_autoptr(BtfMaker) maker = btf_maker_new();
	guint32 word = btf_maker_int(maker, 4);
	g_autoptr(HvpBtf) btf = NULL;
	HvpBtfMember found;

	btf_maker_struct(maker, "orc", BTF_STRUCT, 6,
			 (BtfMakerMember[]){ { "offset", word, 0, 0 },
					     { "low", word, 32, 4 },
					     { NULL, word, 36, 2 },
					     { "high", word, 38, 3 } },
			 4);
	btf = open_maker(maker);
	found = member(btf, "orc", "low");
	g_assert_cmpuint(found.bit, ==, 32);
	g_assert_cmpuint(found.bits, ==, 4);
	found = member(btf, "orc", "high");
	g_assert_cmpuint(found.bit, ==, 38);
	g_assert_cmpuint(found.bits, ==, 3);
	g_assert_cmpuint(member(btf, "orc", "offset").bits, ==, 0);
}

static void test_enumerators(void)
{
	static const char *const names[] = { "ONE", "MINUS", "LARGE" };
	static const gint64 values[] = { 1, -1, 1LL << 40 };
	g_autoptr(BtfMaker) maker = btf_maker_new();
	g_autoptr(HvpBtf) btf = NULL;
	guint32 old[] = { btf_maker_string(maker, "OLD"), 0xfffffffe };
	g_autoptr(GError) error = NULL;
	gint64 value;

	btf_maker_type(maker, "unsigned_enum", BTF_ENUM, 1, 4, old, 2);
	old[0] = btf_maker_string(maker, "SIGNED");
	btf_maker_type(maker, "signed_enum", BTF_ENUM | 1U << 7, 1, 4, old, 2);
	btf_maker_enum(maker, names, values, 3);
	btf = open_maker(maker);
	for (guint i = 0; i < 3; i++) {
		g_assert_true(hvp_btf_enumerator(btf, names[i], &value, NULL));
		g_assert_cmpint(value, ==, values[i]);
	}
	g_assert_true(hvp_btf_enumerator(btf, "OLD", &value, NULL));
	g_assert_cmpint(value, ==, 0xfffffffe);
	g_assert_true(hvp_btf_enumerator(btf, "SIGNED", &value, NULL));
	g_assert_cmpint(value, ==, -2);
	g_assert_false(hvp_btf_enumerator(btf, "TWO", &value, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
}

/* Each kind is stepped over by its own length. */
static void test_all_kinds(void)
{
	static const guint words[] = { 0, 1, 0, 3, 9, 9, 6, 0, 0, 0, 0, 0, 0, 6, 1, 9, 0, 1, 0, 9 };
	g_autoptr(BtfMaker) maker = btf_maker_new();
	g_autoptr(HvpBtf) btf = NULL;
	guint32 tail[9] = { 0 };
	guint32 size;

	for (guint kind = BTF_INT; kind <= BTF_ENUM64; kind++)
		btf_maker_type(maker, "any", kind, 3, 0, tail, words[kind]);
	btf_maker_struct(maker, "behind", BTF_STRUCT, 40, NULL, 0);
	btf = open_maker(maker);
	g_assert_true(hvp_btf_struct_size(btf, "behind", &size, NULL));
	g_assert_cmpuint(size, ==, 40);
}

static void test_loops(void)
{
	g_autoptr(BtfMaker) maker = btf_maker_new();
	guint32 id = btf_maker_next(maker), word;
	g_autoptr(HvpBtf) btf = NULL;

	btf_maker_type(maker, "self_t", BTF_TYPEDEF, 0, id, NULL, 0);
	btf_maker_type(maker, "ping_t", BTF_TYPEDEF, 0, id + 2, NULL, 0);
	btf_maker_type(maker, NULL, BTF_CONST, 0, id + 1, NULL, 0);
	word = btf_maker_int(maker, 4);
	btf_maker_struct(maker, "looping", BTF_STRUCT, 8,
			 (BtfMakerMember[]){ { "self", id, 0, 0 },
					     { "ping", id + 1, 0, 0 },
					     { NULL, id, 0, 0 },
					     { "good", word, 32, 0 } },
			 4);
	id = btf_maker_next(maker);
	/* A struct that contains itself, by name and without. */
	btf_maker_struct(maker, "snake", BTF_STRUCT, 8,
			 (BtfMakerMember[]){ { "tail", id, 8, 0 }, { NULL, id, 8, 0 } }, 2);
	id = btf_maker_next(maker);
	btf_maker_struct(maker, NULL, BTF_UNION, 8,
			 (BtfMakerMember[]){ { NULL, id, 0, 0 }, { NULL, id, 0, 0 } }, 2);
	btf_maker_struct(maker, "hydra", BTF_STRUCT, 8, (BtfMakerMember[]){ { NULL, id, 0, 0 } },
			 1);
	btf = open_maker(maker);
	assert_no_member(btf, "looping", "self.x", HVP_ERROR_BAD_DATA);
	assert_no_member(btf, "looping", "ping.x", HVP_ERROR_BAD_DATA);
	assert_no_member(btf, "looping", "absent", HVP_ERROR_NOT_FOUND);
	g_assert_cmpuint(member(btf, "looping", "good").bit, ==, 32);
	g_assert_cmpuint(member(btf, "looping", "self").count, ==, 1);
	assert_no_member(btf, "snake", "absent", HVP_ERROR_NOT_FOUND);
	g_assert_cmpuint(member(btf, "snake", "tail.tail.tail.tail").bit, ==, 32);
	assert_no_member(btf, "hydra", "absent", HVP_ERROR_NOT_FOUND);
}

/* As wide as can be and within itself: each look-up alone ends, but many would take for ever. */
static void test_wide(void)
{
	g_autoptr(BtfMaker) maker = btf_maker_new();
	guint32 id = btf_maker_next(maker);
	g_autofree BtfMakerMember *members = g_new0(BtfMakerMember, G_MAXUINT16);
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpBtf) btf = NULL;
	HvpBtfMember found;
	guint32 bytes;

	for (guint i = 0; i < G_MAXUINT16; i++)
		members[i].type = id;
	btf_maker_struct(maker, NULL, BTF_UNION, 8, members, G_MAXUINT16);
	btf_maker_struct(maker, "wide", BTF_STRUCT, 8, (BtfMakerMember[]){ { NULL, id, 0, 0 } }, 1);
	btf = open_maker(maker);
	for (guint i = 0; i < 9; i++)
		g_assert_false(hvp_btf_member(btf, "wide", "x", &found, NULL));
	g_assert_false(hvp_btf_struct_size(btf, "wide", &bytes, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	assert_no_member(btf, "wide", "x", HVP_ERROR_BAD_DATA);
}

static void test_dangling(void)
{
	static const guint32 ids[] = { 0, 1000, G_MAXUINT32, 1U << 31 };

	for (guint i = 0; i < G_N_ELEMENTS(ids); i++) {
		g_autoptr(BtfMaker) maker = btf_maker_new();
		guint32 chain = btf_maker_type(maker, "t", BTF_TYPEDEF, 0, ids[i], NULL, 0);
		g_autoptr(HvpBtf) btf = NULL;

		btf_maker_struct(maker, "holder", BTF_STRUCT, 8,
				 (BtfMakerMember[]){ { "a", ids[i], 0, 0 },
						     { "b", chain, 32, 0 },
						     { NULL, ids[i], 0, 0 },
						     { "c", 0, 64, 0 } },
				 4);
		btf = open_maker(maker);
		g_assert_cmpuint(member(btf, "holder", "c").bit, ==, 64);
		g_assert_cmpuint(member(btf, "holder", "b").bit, ==, 32);
		assert_no_member(btf, "holder", "a.x", HVP_ERROR_BAD_DATA);
		assert_no_member(btf, "holder", "b.x", HVP_ERROR_BAD_DATA);
	}
}

static void assert_blob_refused(const guint8 *data, gsize length_bytes)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpBtf) btf = open_bytes(data, length_bytes, &error);

	g_assert_null(btf);
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
}

/* Everything that is asked of a kernel's BTF, of a blob that may be broken. */
static void assert_blob_safe(const guint8 *data, gsize length_bytes)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpBtf) btf = open_bytes(data, length_bytes, &error);
	HvpLayout layout;

	if (btf == NULL) {
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	} else if (!hvp_layout_resolve(btf, &layout, &error)) {
		g_assert_true(error->domain == HVP_ERROR);
	} else {
		for (guint i = 0; i < HVP_LAYOUT_COUNT; i++)
			if (hvp_layout_has(&layout, i))
				g_assert_cmpuint(hvp_layout_get(&layout, i), <, G_MAXUINT32);
	}
}

static void test_truncated(void)
{
	g_autoptr(GBytes) blob = btf_maker_kernel(GENERATION_6_1, NULL);
	gsize length_bytes;
	const guint8 *data = g_bytes_get_data(blob, &length_bytes);

	for (gsize cut = 0; cut < length_bytes; cut++)
		assert_blob_refused(data, cut);
	assert_blob_safe(data, length_bytes);
}

static void test_header(void)
{
	static const struct {
		guint at;
		guint32 value;
	} lies[] = {
		{ 0, 0x00019feb }, /* the other byte order */
		{ 0, 0x0002eb9f }, /* another version */
		{ 4, 0 },	   { 4, 23 },		{ 4, G_MAXUINT32 },  { 8, G_MAXUINT32 },
		{ 8, 1U << 31 },   { 12, G_MAXUINT32 }, { 16, G_MAXUINT32 }, { 20, 0 },
		{ 20, 1U << 31 },  { 20, G_MAXUINT32 },
	};
	g_autoptr(GBytes) blob = btf_maker_kernel(GENERATION_6_12, NULL);
	gsize length_bytes;
	g_autofree guint8 *data = g_memdup2(g_bytes_get_data(blob, &length_bytes),
					    g_bytes_get_size(blob));

	for (guint i = 0; i < G_N_ELEMENTS(lies); i++) {
		guint32 saved = hvp_load_u32(data + lies[i].at);

		hvp_store_u32(data + lies[i].at, lies[i].value);
		assert_blob_refused(data, length_bytes);
		hvp_store_u32(data + lies[i].at, saved);
	}
	/* Strings that do not end. */
	data[length_bytes - 1] = 'x';
	assert_blob_refused(data, length_bytes);
}

static void test_lengths(void)
{
	static const guint kinds[] = { 0, 20, 31 };
	g_autoptr(BtfMaker) maker = btf_maker_new();
	g_autoptr(GBytes) blob = NULL;
	g_autofree guint8 *data = NULL;
	gsize length_bytes;

	btf_maker_struct(maker, "s", BTF_STRUCT, 8, (BtfMakerMember[]){ { "a", 1, 0, 0 } }, 1);
	blob = btf_maker_finish(maker);
	data = g_memdup2(g_bytes_get_data(blob, &length_bytes), g_bytes_get_size(blob));
	for (guint vlen = 2; vlen < 0x10000; vlen *= 2) {
		hvp_store_u32(data + HEADER_BYTES + 4, BTF_STRUCT << 24 | vlen);
		assert_blob_refused(data, length_bytes);
	}
	hvp_store_u32(data + HEADER_BYTES + 4, BTF_STRUCT << 24);
	assert_blob_refused(data, length_bytes);
	for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
		hvp_store_u32(data + HEADER_BYTES + 4, kinds[i] << 24 | 1);
		assert_blob_refused(data, length_bytes);
	}
}

static void test_bad_strings(void)
{
	static const guint32 offsets[] = { 1U << 20, G_MAXUINT32, 0x7fffffff };

	for (guint i = 0; i < G_N_ELEMENTS(offsets); i++) {
		g_autoptr(BtfMaker) maker = btf_maker_new();
		g_autoptr(GBytes) blob = NULL;
		g_autoptr(HvpBtf) btf = NULL;
		g_autofree guint8 *data = NULL;
		gsize length_bytes;

		btf_maker_struct(maker, "s", BTF_STRUCT, 8, (BtfMakerMember[]){ { "a", 0, 0, 0 } },
				 1);
		btf_maker_struct(maker, "t", BTF_STRUCT, 8, (BtfMakerMember[]){ { "a", 0, 0, 0 } },
				 1);
		blob = btf_maker_finish(maker);
		data = g_memdup2(g_bytes_get_data(blob, &length_bytes), g_bytes_get_size(blob));
		hvp_store_u32(data + HEADER_BYTES, offsets[i]);
		hvp_store_u32(data + HEADER_BYTES + 24 + 12, offsets[i]);
		btf = open_bytes(data, length_bytes, NULL);
		g_assert_nonnull(btf);
		assert_no_member(btf, "s", "a", HVP_ERROR_NOT_FOUND);
		assert_no_member(btf, "t", "a", HVP_ERROR_NOT_FOUND);
	}
}

/* Many structs with one long name between them: time stays in proportion. */
static void test_many_structs(void)
{
	enum { COUNT = 200000 };
	g_autoptr(BtfMaker) maker = btf_maker_new();
	g_autofree char *name = g_strnfill(1 << 20, 'n');
	guint32 first = btf_maker_string(maker, name), size;
	g_autoptr(GBytes) blob = NULL;
	g_autoptr(HvpBtf) btf = NULL;
	g_autofree guint8 *data = NULL;
	gint64 started = g_get_monotonic_time();
	gsize length_bytes;

	for (guint i = 0; i < COUNT; i++)
		btf_maker_type(maker, NULL, BTF_STRUCT, 0, 8, NULL, 0);
	blob = btf_maker_finish(maker);
	data = g_memdup2(g_bytes_get_data(blob, &length_bytes), g_bytes_get_size(blob));
	for (guint32 i = 0; i < COUNT; i++)
		hvp_store_u32(data + HEADER_BYTES + i * 12, first + i);
	btf = open_bytes(data, length_bytes, NULL);
	g_assert_nonnull(btf);
	for (guint i = 0; i < 100; i++)
		g_assert_false(hvp_btf_struct_size(btf, "task_struct", &size, NULL));
	g_assert_cmpint(g_get_monotonic_time() - started, <, 10 * G_USEC_PER_SEC);
}

static void test_flipped(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(3);

	for (guint generation = 0; generation < 2; generation++) {
		g_autoptr(GBytes) blob = btf_maker_kernel(generation, NULL);
		gsize length_bytes;
		g_autofree guint8 *data = g_memdup2(g_bytes_get_data(blob, &length_bytes),
						    g_bytes_get_size(blob));

		for (guint i = 0; i < 3000; i++) {
			gsize at = (gsize)g_rand_int_range(rand, 0, (gint32)length_bytes);
			guint8 saved = data[at];

			data[at] = (guint8)g_rand_int(rand);
			assert_blob_safe(data, length_bytes);
			data[at] = saved;
		}
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/btf/members-nested-and-anonymous-FOUND", test_members);
	g_test_add_func("/btf/bitfields-FOUND", test_bitfields);
	g_test_add_func("/btf/enumerators-FOUND", test_enumerators);
	g_test_add_func("/btf/all-kinds-STEPPED-over", test_all_kinds);
	g_test_add_func("/btf/loops-END", test_loops);
	g_test_add_func("/btf/dangling-ids-BAD_DATA", test_dangling);
	g_test_add_func("/btf/truncated-at-each-byte-BAD_DATA", test_truncated);
	g_test_add_func("/btf/header-lies-BAD_DATA", test_header);
	g_test_add_func("/btf/lengths-and-kinds-lie-BAD_DATA", test_lengths);
	g_test_add_func("/btf/bad-strings-NOT_FOUND", test_bad_strings);
	g_test_add_func("/btf/many-structs-with-long-names-BOUNDED", test_many_structs);
	g_test_add_func("/btf/wide-and-nested-BOUNDED", test_wide);
	g_test_add_func("/btf/bytes-changed-SAFE", test_flipped);
	return g_test_run();
}
