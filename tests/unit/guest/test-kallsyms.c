/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "base/bytes.h"
#include "guest/kallsyms.h"
#include "kallsyms-maker.h"

#define BASE 0xffffffff9a000000ULL
#define IMAGE_BYTES 0x20000U
#define AT 0x800U
#define COUNT 1200U

typedef struct {
	guint8 *image;
	KallsymsPlaces places;
} Fixture;

/* 125 characters before its number: as compressed here, more than 127 tokens. */
#define LONG_PREFIX                                                                            \
	"Zz_zZ_zzZ_Z_zz_zZ_zzZ_Z_zz_zZ_zzZ_Z_zz_zZ_zzZ_Z_zz_zZ_zzZ_Z_zz_zZ_zzZ_Z_zz_zZ_zzZ_Z_" \
	"zz_zZ_zzZ_Z_zz_zZ_zzZ_Z_zz_zZ_zzZ_Z_zz_z"

static void set_up(Fixture *self, KallsymsLayout layout, KallsymsOffsets offsets)
{
	g_autoptr(KallsymsMaker) maker = kallsyms_maker_new();

	self->image = g_malloc0(IMAGE_BYTES);
	for (guint i = 0; i < COUNT; i++) {
		g_autofree char *name = g_strdup_printf(
			i % 100 == 0 ? LONG_PREFIX "%u" : "function_%u", i);
		bool absolute = offsets == KALLSYMS_ABSOLUTE_PERCPU && i < 10;

		kallsyms_maker_add(maker, name, i % 2 ? 't' : 'T', i * 16, absolute);
	}
	/* Both are names a decoder may stumble over. */
	kallsyms_maker_add(maker, "0123456789", 'D', 0x80000, false);
	kallsyms_maker_add(maker, "x", 'b', 0x7fffffff, false);
	self->places = kallsyms_maker_write(maker, layout, offsets, hvp_gva(BASE), self->image,
					    IMAGE_BYTES, AT);
}

static void tear_down(Fixture *self)
{
	g_free(self->image);
}

/* From a copy that ends where the image does. */
static HvpSymbols *decode(const guint8 *image, gsize length_bytes, GError **error)
{
	g_autofree guint8 *exact = g_memdup2(image, length_bytes ? length_bytes : 1);
	HvpKallsymsPiece pieces[HVP_KALLSYMS_PIECES];

	return hvp_kallsyms_decode(exact, length_bytes, hvp_gva(BASE), pieces, error);
}

static void assert_refused(const guint8 *image, gsize length_bytes)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpSymbols) symbols = decode(image, length_bytes, &error);

	g_assert_null(symbols);
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
}

/* An answer, whichever. */
static void assert_safe(const guint8 *image, gsize length_bytes)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpSymbols) symbols = decode(image, length_bytes, &error);

	g_assert((symbols == NULL) == (error != NULL));
	g_assert(error == NULL || error->domain == HVP_ERROR);
}

static void assert_whole(const Fixture *self, KallsymsOffsets offsets)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpSymbols) symbols = decode(self->image, IMAGE_BYTES, &error);
	gsize first;

	g_assert_no_error(error);
	g_assert_cmpuint(hvp_symbols_count(symbols), ==, COUNT + 2);
	for (guint i = 0; i < COUNT; i++) {
		g_autofree char *name = g_strdup_printf(
			i % 100 == 0 ? LONG_PREFIX "%u" : "function_%u", i);
		HvpSymbol symbol;

		g_assert_cmpuint(hvp_symbols_find(symbols, name, &first), ==, 1);
		symbol = hvp_symbols_by_name(symbols, first);
		g_assert_cmphex(symbol.value, ==, i * 16);
		g_assert_cmpint(symbol.type, ==, i % 2 ? 't' : 'T');
		g_assert_cmpint(symbol.absolute, ==, offsets == KALLSYMS_ABSOLUTE_PERCPU && i < 10);
	}
	g_assert_cmpuint(hvp_symbols_find(symbols, "x", &first), ==, 1);
	g_assert_cmphex(hvp_symbols_by_name(symbols, first).value, ==, 0x7fffffff);
}

static void test_layouts(void)
{
	for (guint layout = 0; layout < 2; layout++)
		for (guint offsets = 0; offsets < 2; offsets++) {
			Fixture f;

			set_up(&f, layout, offsets);
			assert_whole(&f, offsets);
			tear_down(&f);
		}
}

/* Sequence numbers without a zero among them, up to the first token. */
static void test_joined(void)
{
	Fixture f;

	set_up(&f, KALLSYMS_BEFORE_6_4, KALLSYMS_ABSOLUTE_PERCPU);
	memset(f.image + f.places.token_table - 100, 0x5a, 100);
	assert_whole(&f, KALLSYMS_ABSOLUTE_PERCPU);
	tear_down(&f);
}

/* Things that look like the tables, before and behind the true ones. */
static void test_decoys(void)
{
	static const guint8 digits[] = "0\0001\0002\0003\0004\0005\0006\0007\0008\0009";

	for (guint layout = 0; layout < 2; layout++) {
		Fixture f;

		set_up(&f, layout, KALLSYMS_ABSOLUTE_PERCPU);
		for (gsize at = 8; at + 32 < AT; at += 32)
			memcpy(f.image + at, digits, sizeof digits);
		for (gsize at = f.places.end + 64; at + 8 <= IMAGE_BYTES; at += 64)
			hvp_store_u64(f.image + at, BASE);
		assert_whole(&f, KALLSYMS_ABSOLUTE_PERCPU);
		tear_down(&f);
	}
}

static void test_missing(void)
{
	g_autofree guint8 *image = g_malloc0(IMAGE_BYTES);

	assert_refused(image, 0);
	assert_refused(image, 1);
	assert_refused(image, IMAGE_BYTES);
	memset(image, 0xff, IMAGE_BYTES);
	assert_refused(image, IMAGE_BYTES);
}

static void test_truncated(void)
{
	for (guint layout = 0; layout < 2; layout++) {
		Fixture f;
		gsize needed;

		set_up(&f, layout, KALLSYMS_ABSOLUTE_PERCPU);
		needed = layout == KALLSYMS_SINCE_6_4 ? f.places.relative_base + 8
						      : f.places.token_index + 512;
		for (gsize cut = 0; cut < needed; cut += cut + 300 < needed ? 97 : 1)
			assert_refused(f.image, cut);
		assert_safe(f.image, needed);
		tear_down(&f);
	}
}

static void test_count(void)
{
	static const guint32 counts[] = { 0,	    1,	      COUNT,	COUNT + 1, COUNT + 3,
					  1U << 20, 1U << 22, 1U << 30, 1U << 31,  G_MAXUINT32 };

	for (guint layout = 0; layout < 2; layout++) {
		Fixture f;

		set_up(&f, layout, KALLSYMS_ABSOLUTE_PERCPU);
		for (guint i = 0; i < G_N_ELEMENTS(counts); i++) {
			/* One less fits the alignment of the new layout's offsets. */
			hvp_store_u32(f.image + f.places.count, counts[i]);
			if (counts[i] == COUNT + 1)
				assert_safe(f.image, IMAGE_BYTES);
			else
				assert_refused(f.image, IMAGE_BYTES);
		}
		tear_down(&f);
	}
}

static void test_markers(void)
{
	for (guint layout = 0; layout < 2; layout++)
		for (guint i = 0; i < (COUNT + 255) / 256; i++) {
			Fixture f;

			set_up(&f, layout, KALLSYMS_ABSOLUTE_PERCPU);
			f.image[f.places.markers + i * 4] ^= 1;
			assert_refused(f.image, IMAGE_BYTES);
			tear_down(&f);
		}
}

static void test_base(void)
{
	for (guint layout = 0; layout < 2; layout++) {
		Fixture f;

		set_up(&f, layout, KALLSYMS_ABSOLUTE_PERCPU);
		hvp_store_u64(f.image + f.places.relative_base, BASE + 0x1000);
		assert_refused(f.image, IMAGE_BYTES);
		tear_down(&f);
	}
}

static void test_names(void)
{
	for (guint layout = 0; layout < 2; layout++) {
		Fixture f;

		/* Lengths 0 and 0 in two bytes; all of one kind; longer than the table. */
		for (guint i = 0; i < 5; i++) {
			set_up(&f, layout, KALLSYMS_ABSOLUTE_PERCPU);
			if (i == 0)
				f.image[f.places.names] = 0;
			else if (i == 1)
				memcpy(f.image + f.places.names, "\x80\x00", 2);
			else if (i == 2)
				memset(f.image + f.places.names, 0xff,
				       f.places.markers - f.places.names);
			else if (i == 3)
				memset(f.image + f.places.names, 0x01,
				       f.places.markers - f.places.names);
			else
				f.image[f.places.markers - 8] = 0x7f;
			if (i < 4)
				assert_refused(f.image, IMAGE_BYTES);
			else
				assert_safe(f.image, IMAGE_BYTES);
			tear_down(&f);
		}
	}
}

static void test_tokens(void)
{
	for (guint layout = 0; layout < 2; layout++) {
		Fixture f;

		/* No token ends; one more; the index disagrees; the digits are missing. */
		for (guint i = 0; i < 4; i++) {
			set_up(&f, layout, KALLSYMS_ABSOLUTE_PERCPU);
			if (i == 0)
				memset(f.image + f.places.token_table + 0x100, 'x',
				       IMAGE_BYTES - f.places.token_table - 0x100);
			else if (i == 1)
				f.image[f.places.token_table + 1] = 0;
			else if (i == 2)
				f.image[f.places.token_index + 511] ^= 0x10;
			else
				memset(f.image + f.places.token_table, 'x', 0x100);
			assert_refused(f.image, IMAGE_BYTES);
			tear_down(&f);
		}
	}
}

/* A name that its tokens make longer than any name. */
static void test_long_name(void)
{
	Fixture f;
	gsize at;

	set_up(&f, KALLSYMS_SINCE_6_4, KALLSYMS_ABSOLUTE_PERCPU);
	/* Two names become one of 2 x 127 tokens: the count is wrong, and so are the markers. */
	f.image[f.places.names] |= 0x80;
	assert_refused(f.image, IMAGE_BYTES);
	tear_down(&f);

	/* The tables begin where the image does: nothing precedes the tokens. */
	set_up(&f, KALLSYMS_SINCE_6_4, KALLSYMS_ABSOLUTE_PERCPU);
	for (at = f.places.token_table; at >= 8; at -= 8)
		if (at == f.places.token_table || at < 64)
			assert_safe(f.image + at, IMAGE_BYTES - at);
	assert_refused(f.image + f.places.token_table, IMAGE_BYTES - f.places.token_table);
	assert_refused(f.image + f.places.token_table - 1, IMAGE_BYTES - f.places.token_table + 1);
	tear_down(&f);
}

/* An image that is nothing but what is searched for: the search gives up. */
static void test_endless(void)
{
	enum { BYTES = 8 << 20 };
	g_autofree guint8 *image = g_malloc0(BYTES);
	static const guint8 digits[] = "0\0001\0002\0003\0004\0005\0006\0007\0008\0009";
	gint64 started = g_get_monotonic_time();
	Fixture f;

	for (gsize at = 0; at + sizeof digits <= BYTES; at += sizeof digits)
		memcpy(image + at, digits, sizeof digits);
	assert_refused(image, BYTES);
	/* A true token table amidst bases. */
	set_up(&f, KALLSYMS_SINCE_6_4, KALLSYMS_ABSOLUTE_PERCPU);
	for (gsize at = 0; at + 8 <= BYTES; at += 8)
		hvp_store_u64(image + at, BASE);
	memcpy(image + BYTES / 2, f.image + f.places.token_table,
	       f.places.offsets - f.places.token_table);
	assert_refused(image, BYTES);
	tear_down(&f);
	g_assert_cmpint(g_get_monotonic_time() - started, <, 20 * G_USEC_PER_SEC);
}

static void test_flipped(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);

	for (guint layout = 0; layout < 2; layout++) {
		Fixture f;

		set_up(&f, layout, KALLSYMS_ABSOLUTE_PERCPU);
		for (guint i = 0; i < 400; i++) {
			gsize at = (gsize)g_rand_int_range(rand, (gint32)AT, (gint32)f.places.end);
			guint8 saved = f.image[at];

			f.image[at] = (guint8)g_rand_int(rand);
			assert_safe(f.image, f.places.end);
			f.image[at] = saved;
		}
		tear_down(&f);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/kallsyms/both-layouts-and-offsets-DECODE", test_layouts);
	g_test_add_func("/kallsyms/no-gap-before-tokens-DECODE", test_joined);
	g_test_add_func("/kallsyms/decoys-PASSED-by", test_decoys);
	g_test_add_func("/kallsyms/missing-UNSUPPORTED", test_missing);
	g_test_add_func("/kallsyms/truncated-UNSUPPORTED", test_truncated);
	g_test_add_func("/kallsyms/wrong-count-UNSUPPORTED", test_count);
	g_test_add_func("/kallsyms/wrong-marker-UNSUPPORTED", test_markers);
	g_test_add_func("/kallsyms/other-base-UNSUPPORTED", test_base);
	g_test_add_func("/kallsyms/bad-names-UNSUPPORTED", test_names);
	g_test_add_func("/kallsyms/bad-tokens-UNSUPPORTED", test_tokens);
	g_test_add_func("/kallsyms/joined-names-and-image-start-UNSUPPORTED", test_long_name);
	g_test_add_func("/kallsyms/endless-candidates-GIVEN-UP", test_endless);
	g_test_add_func("/kallsyms/bytes-changed-SAFE", test_flipped);
	return g_test_run();
}
