/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The texts are QEMU 7.2.22's, views and ranges that do not matter cut out. */
#include "vm/qemu-ram.h"

#include <string.h>

#include "scripted-qmp.h"

#define VIEW_SMM                                                                                   \
	"FlatView #0\r\n"                                                                          \
	" AS \"cpu-smm-0\", root: memory\r\n"                                                      \
	" Root memory region: memory\r\n"                                                          \
	"  0000000000000000-00000000000bffff (prio 0, ram): pc.ram\r\n"                            \
	"  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom\r\n"                            \
	"  0000000000100000-000000001fffffff (prio 0, ram): pc.ram @0000000000100000\r\n"          \
	"\r\n"
#define VIEW_IO                                                                                    \
	"FlatView #1\r\n"                                                                          \
	" AS \"I/O\", root: io\r\n"                                                                \
	" Root memory region: io\r\n"                                                              \
	"  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan\r\n"                          \
	"  0000000000000010-000000000000001f (prio 0, i/o): io @0000000000000010\r\n"              \
	"\r\n"
#define VIEW_NONE                                                                                  \
	"FlatView #3\r\n"                                                                          \
	" AS \"i440FX\", root: bus master container\r\n"                                           \
	" Root memory region: (none)\r\n"                                                          \
	"  No rendered FlatView\r\n"                                                               \
	"\r\n\r\n"
#define MEMORY_HEAD                                                                                \
	"FlatView #2\r\n"                                                                          \
	" AS \"memory\", root: system\r\n"                                                         \
	" AS \"cpu-memory-0\", root: system\r\n"                                                   \
	" AS \"ich9-ahci\", root: bus master container\r\n"                                        \
	" Root memory region: system\r\n"

/* -m 512, TCG, the firmware running. */
#define TEXT_512                                                                                   \
	VIEW_SMM VIEW_IO MEMORY_HEAD                                                               \
		"  0000000000000000-00000000000c2fff (prio 0, ram): pc.ram\r\n"                    \
		"  00000000000c3000-00000000000e7fff (prio 0, rom): pc.ram @00000000000c3000\r\n"  \
		"  00000000000e8000-00000000000effff (prio 0, ram): pc.ram @00000000000e8000\r\n"  \
		"  00000000000f0000-00000000000fffff (prio 0, rom): pc.ram @00000000000f0000\r\n"  \
		"  0000000000100000-000000001fffffff (prio 0, ram): pc.ram @0000000000100000\r\n"  \
		"  00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic\r\n"                    \
		"  00000000fee00000-00000000feefffff (prio 4096, i/o): apic-msi\r\n"               \
		"  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios\r\n"                   \
		"\r\n" VIEW_NONE

/* -m 512 -S: nothing has run, the BIOS lies over the RAM. */
#define TEXT_512_RESET                                                                             \
	VIEW_IO MEMORY_HEAD                                                                        \
		"  0000000000000000-00000000000bffff (prio 0, ram): pc.ram\r\n"                    \
		"  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom\r\n"                    \
		"  00000000000e0000-00000000000fffff (prio 0, rom): pc.bios @0000000000020000\r\n" \
		"  0000000000100000-000000001fffffff (prio 0, ram): pc.ram @0000000000100000\r\n"  \
		"  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios\r\n"                   \
		"\r\n" VIEW_NONE

/* -m 5G -vga std, TCG: RAM on both sides of the hole, in one region. */
#define TEXT_5G                                                                                    \
	VIEW_SMM MEMORY_HEAD                                                                       \
		"  0000000000000000-000000000009ffff (prio 0, ram): pc.ram\r\n"                    \
		"  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem\r\n"                \
		"  00000000000c0000-00000000000c9fff (prio 0, rom): pc.ram @00000000000c0000\r\n"  \
		"  00000000000ca000-00000000000ccfff (prio 0, ram): pc.ram @00000000000ca000\r\n"  \
		"  00000000000cd000-00000000000e7fff (prio 0, rom): pc.ram @00000000000cd000\r\n"  \
		"  00000000000e8000-00000000000effff (prio 0, ram): pc.ram @00000000000e8000\r\n"  \
		"  00000000000f0000-00000000000fffff (prio 0, rom): pc.ram @00000000000f0000\r\n"  \
		"  0000000000100000-00000000bfffffff (prio 0, ram): pc.ram @0000000000100000\r\n"  \
		"  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram\r\n"                  \
		"  00000000febf0400-00000000febf041f (prio 0, i/o): vga ioports remapped\r\n"      \
		"  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios\r\n"                   \
		"  0000000100000000-000000017fffffff (prio 0, ram): pc.ram @00000000c0000000\r\n"  \
		"\r\n" VIEW_NONE

/* -M q35 -m 4G,slots=4,maxmem=8G, two NUMA nodes with backends m0 and m1, a pc-dimm d0. */
#define TEXT_NUMA                                                                                  \
	VIEW_IO VIEW_SMM MEMORY_HEAD                                                               \
		"  0000000000000000-00000000000c2fff (prio 0, ram): m0\r\n"                        \
		"  00000000000c3000-00000000000e7fff (prio 0, rom): m0 @00000000000c3000\r\n"      \
		"  00000000000e8000-00000000000effff (prio 0, ram): m0 @00000000000e8000\r\n"      \
		"  00000000000f0000-00000000000fffff (prio 0, rom): m0 @00000000000f0000\r\n"      \
		"  0000000000100000-000000007fffffff (prio 0, ram): m0 @0000000000100000\r\n"      \
		"  00000000b0000000-00000000bfffffff (prio 0, i/o): pcie-mmcfg-mmio\r\n"           \
		"  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios\r\n"                   \
		"  0000000100000000-000000017fffffff (prio 0, ram): m1\r\n"                        \
		"  0000000180000000-000000019fffffff (prio 0, ram): d0\r\n"                        \
		"\r\n" VIEW_NONE

/* -M microvm -m 512: one pc.bios at two places. */
#define TEXT_MICROVM                                                                               \
	VIEW_IO                                                                                    \
	"FlatView #1\r\n"                                                                          \
	" AS \"memory\", root: system\r\n"                                                         \
	" AS \"cpu-memory-0\", root: system\r\n"                                                   \
	" AS \"cpu-smm-0\", root: memory\r\n"                                                      \
	" Root memory region: system\r\n"                                                          \
	"  0000000000000000-00000000000effff (prio 0, ram): microvm.ram\r\n"                       \
	"  00000000000f0000-00000000000fffff (prio 0, ram): pc.bios\r\n"                           \
	"  0000000000100000-000000001fffffff (prio 0, ram): microvm.ram @0000000000100000\r\n"     \
	"  00000000feb02e00-00000000feb02fff (prio 0, i/o): virtio-mmio\r\n"                       \
	"  00000000ffff0000-00000000ffffffff (prio 0, ram): pc.bios\r\n"                           \
	"\r\n\r\n"

/* -accel kvm -M q35 -m 3G -vga std, before the firmware. */
#define TEXT_KVM                                                                                   \
	MEMORY_HEAD                                                                                \
	"  0000000000000000-000000000009ffff (prio 0, ram): pc.ram KVM\r\n"                        \
	"  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem\r\n"                        \
	"  00000000000c0000-000000007fffffff (prio 0, ram): pc.ram @00000000000c0000 KVM\r\n"      \
	"  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram KVM\r\n"                      \
	"  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios KVM\r\n"                       \
	"  0000000100000000-000000013fffffff (prio 0, ram): pc.ram @0000000080000000 KVM\r\n"      \
	"\r\n" VIEW_NONE

/* An nvdimm; and what device memory and flash look like (types of memory_region_type). */
#define TEXT_TYPES                                                                                 \
	MEMORY_HEAD                                                                                \
	"  0000000000000000-000000000fffffff (prio 0, ram): pc.ram\r\n"                            \
	"  0000000040000000-0000000040000fff (prio 0, ramd): 0000:01:00.0 BAR 0 mmaps[0]\r\n"      \
	"  00000000ffc00000-00000000ffffffff (prio 0, romd): system.flash0\r\n"                    \
	"  0000000100000000-0000000100ffffff (prio 0, nv-ram): nv0\r\n"                            \
	"\r\n"

typedef struct {
	guint64 start;
	guint64 end;
	guint64 offset_bytes;
	const char *region;
} Expected;

static void assert_views(const char *text, const Expected *expected, guint count)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GArray) views = hvp_qemu_ram_parse_mtree(text, &error);

	g_assert_no_error(error);
	g_assert_cmpuint(views->len, ==, count);
	for (guint i = 0; i < count; i++) {
		const HvpQemuRamView *view = &g_array_index(views, HvpQemuRamView, i);

		g_assert_cmphex(view->gpa.start.value, ==, expected[i].start);
		g_assert_cmphex(view->gpa.end.value, ==, expected[i].end);
		g_assert_cmphex(view->offset_bytes, ==, expected[i].offset_bytes);
		g_assert_cmpstr(view->region, ==, expected[i].region);
	}
}

static void test_parse_512(void)
{
	static const Expected running[] = {
		{0, 0x20000000, 0, "pc.ram"},
		{0xfffc0000, 0x100000000, 0, "pc.bios"},
	};
	static const Expected reset[] = {
		{0, 0xc0000, 0, "pc.ram"},
		{0xc0000, 0xe0000, 0, "pc.rom"},
		{0xe0000, 0x100000, 0x20000, "pc.bios"},
		{0x100000, 0x20000000, 0x100000, "pc.ram"},
		{0xfffc0000, 0x100000000, 0, "pc.bios"},
	};

	assert_views(TEXT_512, running, G_N_ELEMENTS(running));
	assert_views(TEXT_512_RESET, reset, G_N_ELEMENTS(reset));
}

static void test_parse_5g(void)
{
	static const Expected expected[] = {
		{0, 0xa0000, 0, "pc.ram"},
		{0xc0000, 0xc0000000, 0xc0000, "pc.ram"},
		{0xfd000000, 0xfe000000, 0, "vga.vram"},
		{0xfffc0000, 0x100000000, 0, "pc.bios"},
		{0x100000000, 0x180000000, 0xc0000000, "pc.ram"},
	};

	assert_views(TEXT_5G, expected, G_N_ELEMENTS(expected));
}

static void test_parse_numa(void)
{
	static const Expected expected[] = {
		{0, 0x80000000, 0, "m0"},
		{0xfffc0000, 0x100000000, 0, "pc.bios"},
		{0x100000000, 0x180000000, 0, "m1"},
		{0x180000000, 0x1a0000000, 0, "d0"},
	};

	assert_views(TEXT_NUMA, expected, G_N_ELEMENTS(expected));
}

static void test_parse_microvm(void)
{
	static const Expected expected[] = {
		{0, 0xf0000, 0, "microvm.ram"},
		{0xf0000, 0x100000, 0, "pc.bios"},
		{0x100000, 0x20000000, 0x100000, "microvm.ram"},
		{0xffff0000, 0x100000000, 0, "pc.bios"},
	};

	assert_views(TEXT_MICROVM, expected, G_N_ELEMENTS(expected));
}

static void test_parse_kvm(void)
{
	static const Expected expected[] = {
		{0, 0xa0000, 0, "pc.ram"},
		{0xc0000, 0x80000000, 0xc0000, "pc.ram"},
		{0xfd000000, 0xfe000000, 0, "vga.vram"},
		{0xfffc0000, 0x100000000, 0, "pc.bios"},
		{0x100000000, 0x140000000, 0x80000000, "pc.ram"},
	};

	assert_views(TEXT_KVM, expected, G_N_ELEMENTS(expected));
}

static void test_parse_types(void)
{
	static const Expected expected[] = {
		{0, 0x10000000, 0, "pc.ram"},
		{0x100000000, 0x101000000, 0, "nv0"},
	};

	assert_views(TEXT_TYPES, expected, G_N_ELEMENTS(expected));
}

static void test_parse_bad(void)
{
	static const char *const texts[] = {
		"",
		"unknown command: 'info mtree -f'\r\n",
		VIEW_SMM VIEW_IO VIEW_NONE,
		MEMORY_HEAD,
		MEMORY_HEAD "  No rendered FlatView\r\n",
		MEMORY_HEAD "  0000000000000000-0000000000000fff (prio 0, i/o): x\r\n",
		MEMORY_HEAD "  0000000000001000-0000000000000fff (prio 0, ram): x\r\n",
		MEMORY_HEAD "  0000000000001000-ffffffffffffffff (prio 0, ram): x\r\n",
		MEMORY_HEAD "  00000000000000000-0000000000000fff (prio 0, ram): x\r\n",
		MEMORY_HEAD "  0000000000001000-0000000000001fff (prio 0, ram): x @zz\r\n",
		MEMORY_HEAD "  0000000000001000-0000000000001fff (prio 0, ram)\r\n",
		MEMORY_HEAD "  0000000000001000-0000000000001fff (prio 0): x, y\r\n",
		MEMORY_HEAD "  0000000000001000-0000000000001fff\r\n",
		MEMORY_HEAD "  0000000000001000-0000000000002fff (prio 0, ram): x\r\n"
			    "  0000000000002000-0000000000003fff (prio 0, ram): y\r\n",
	};

	for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_autoptr(GError) error = NULL;
		GArray *views = hvp_qemu_ram_parse_mtree(texts[i], &error);

		g_assert_null(views);
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
}

/* Every prefix of a good text either parses or is an error, and reads nothing past its end. */
static void test_parse_truncated(void)
{
	for (gsize length_bytes = 0; length_bytes < strlen(TEXT_5G); length_bytes++) {
		g_autofree char *text = g_strndup(TEXT_5G, length_bytes);
		g_autoptr(GError) error = NULL;
		g_autoptr(GArray) views = hvp_qemu_ram_parse_mtree(text, &error);

		g_assert_true((views == NULL) == (error != NULL));
	}
}

static void test_parse_too_many(void)
{
	g_autoptr(GString) text = g_string_new(MEMORY_HEAD);
	g_autoptr(GError) error = NULL;
	GArray *views;

	for (guint i = 0; i <= HVP_RAM_MAX_RANGES; i++)
		g_string_append_printf(text, "  %016x-%016x (prio 0, ram): r\r\n", i << 12,
				       (i << 12) + 0xfff);
	views = hvp_qemu_ram_parse_mtree(text->str, &error);
	g_assert_null(views);
	g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
}

static void test_parse_long_name(void)
{
	g_autofree char *name = g_strnfill(5000, 'n');
	g_autofree char *text = g_strdup_printf(
		MEMORY_HEAD "  0000000000000000-0000000000000fff (prio 0, ram): %s\r\n", name);
	g_autoptr(GArray) views = hvp_qemu_ram_parse_mtree(text, NULL);

	g_assert_cmpuint(strlen(g_array_index(views, HvpQemuRamView, 0).region), ==, 127);
}

static void test_gpa2hva(void)
{
	static const char *const bad[] = {
		"",
		"Host virtual address for 0x2000 (pc.ram) is 0x7f85",
		"Host virtual address for 0x1000 (pc.ram)",
		"Host virtual address for 0x1000 is 0x",
		"Host virtual address for 0x1000 (pc.ram) is (nil)",
		" is 0x1000",
		"Host virtual address for 0x1000 (x) is 0x0",
		"Host virtual address for 0x1000 (x) is 0x11112222333344445",
	};
	HvpHva hva = {0};

	g_assert_true(hvp_qemu_ram_parse_gpa2hva(
		"Host virtual address for 0xa0000 (a) is 0x1) is 0x7f854fea0000\r\n",
		hvp_gpa(0xa0000), &hva, NULL));
	g_assert_cmphex(hva.value, ==, 0x7f854fea0000);
	for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_false(hvp_qemu_ram_parse_gpa2hva(bad[i], hvp_gpa(0x1000), &hva, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
}

#define HMP(command)                                                                               \
	"\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"" command "\"}"
#define RETURN(text) "{\"return\":\"" text "\",\"id\":@ID@}\r\n"
#define MTREE                                                                                      \
	{                                                                                          \
		HMP("info mtree -f"),                                                              \
			RETURN(" AS \\\"memory\\\", root: system\\r\\n"                            \
			       "  0000000000000000-0000000000ffffff (prio 0, ram): r\\r\\n")       \
	}
#define FIRST                                                                                      \
	{                                                                                          \
		HMP("gpa2hva 0x0"),                                                                \
			RETURN("Host virtual address for 0x0 (r) is 0x7f0000000000\\r\\n")         \
	}
#define LAST(hva)                                                                                  \
	{                                                                                          \
		HMP("gpa2hva 0xffffff"),                                                           \
			RETURN("Host virtual address for 0xffffff (r) is 0x" hva "\\r\\n")         \
	}
#define NOT_RAM                                                                                    \
	{                                                                                          \
		HMP("gpa2hva 0xffffff"), RETURN("Memory at address 0xffffff is not RAM\\r\\n")     \
	}

static HvpRam *query(const ScriptedStep *steps, gsize count, GError **error)
{
	ScriptedQmp server;
	HvpQmp *qmp = hvp_qmp_new_from_fd(scripted_start(&server, steps, count));
	HvpRam *ram = hvp_qemu_ram_query(qmp, hvp_deadline_in(10 * G_USEC_PER_SEC), error);

	hvp_qmp_free(qmp);
	scripted_finish(&server);
	return ram;
}

static void test_query(void)
{
	static const ScriptedStep steps[] = {MTREE, FIRST, LAST("7f0000ffffff")};
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpRam) ram = query(steps, G_N_ELEMENTS(steps), &error);
	const HvpRamRange *range;

	g_assert_no_error(error);
	range = hvp_ram_find(ram, hvp_gpa(0xfff000));
	g_assert_cmphex(range->hva.value, ==, 0x7f0000000000);
	g_assert_cmphex(range->end.value, ==, 0x1000000);
}

static void test_query_scattered(void)
{
	static const ScriptedStep steps[] = {MTREE, FIRST, LAST("7f0001ffffff")};
	g_autoptr(GError) error = NULL;

	g_assert_null(query(steps, G_N_ELEMENTS(steps), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
}

static void test_query_changing(void)
{
	static const ScriptedStep once[] = {MTREE, FIRST, NOT_RAM,
					    MTREE, FIRST, LAST("7f0000ffffff")};
	static const ScriptedStep always[] = {MTREE,   FIRST, NOT_RAM, MTREE,  FIRST,
					      NOT_RAM, MTREE, FIRST,   NOT_RAM};
	g_autoptr(GError) error = NULL;

	hvp_ram_free(query(once, G_N_ELEMENTS(once), &error));
	g_assert_no_error(error);
	g_assert_null(query(always, G_N_ELEMENTS(always), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/qemu-ram/parse/512-megabytes", test_parse_512);
	g_test_add_func("/qemu-ram/parse/5-gigabytes-hole", test_parse_5g);
	g_test_add_func("/qemu-ram/parse/q35-numa-dimm", test_parse_numa);
	g_test_add_func("/qemu-ram/parse/microvm", test_parse_microvm);
	g_test_add_func("/qemu-ram/parse/kvm", test_parse_kvm);
	g_test_add_func("/qemu-ram/parse/types", test_parse_types);
	g_test_add_func("/qemu-ram/parse/malformed-BAD_DATA", test_parse_bad);
	g_test_add_func("/qemu-ram/parse/truncated", test_parse_truncated);
	g_test_add_func("/qemu-ram/parse/too-many-UNSUPPORTED", test_parse_too_many);
	g_test_add_func("/qemu-ram/parse/long-name", test_parse_long_name);
	g_test_add_func("/qemu-ram/gpa2hva", test_gpa2hva);
	g_test_add_func("/qemu-ram/query/one-range", test_query);
	g_test_add_func("/qemu-ram/query/scattered-BAD_DATA", test_query_scattered);
	g_test_add_func("/qemu-ram/query/changing-BUSY", test_query_changing);
	return g_test_run();
}
