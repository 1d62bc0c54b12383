/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The process that is read is the test itself, or a child of it. */
#include "vm/process-memory.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define AREA_BYTES (64U << 20)
#define HUGE_BYTES (2U << 20)
/* Page tables and the test's own heap move it a little. */
#define RSS_SLACK_BYTES (2U << 20)
#define GPA 0x100000

/* Guest-physical GPA .. GPA + length_bytes lies at @area. */
static HvpPhysical *open_area(pid_t pid, const void *area, gsize length_bytes, GError **error)
{
	HvpRamRange range = {hvp_gpa(GPA), hvp_gpa(GPA + length_bytes),
			     hvp_hva((guint64)(guintptr)area)};
	g_autoptr(HvpRam) ram = hvp_ram_new(&range, 1, NULL);

	return hvp_process_memory_new(pid, ram, error);
}

static HvpPhysical *open_own(const void *area, gsize length_bytes)
{
	g_autoptr(GError) error = NULL;
	HvpPhysical *memory = open_area(getpid(), area, length_bytes, &error);

	g_assert_no_error(error);
	return memory;
}

static guint8 *map(gsize length_bytes, int flags, int fd, off_t offset)
{
	void *area = mmap(NULL, length_bytes, PROT_READ | PROT_WRITE, flags, fd, offset);

	g_assert_true(area != MAP_FAILED);
	return area;
}

static int make_memfd(gsize length_bytes, unsigned int flags)
{
	int fd = memfd_create("guest", MFD_CLOEXEC | flags);

	if (fd >= 0)
		g_assert_cmpint(ftruncate(fd, (off_t)length_bytes), ==, 0);
	return fd;
}

static guint64 rss_bytes(void)
{
	g_autofree char *text = NULL;
	unsigned long size_pages, resident_pages;

	g_assert_true(g_file_get_contents("/proc/self/statm", &text, NULL, NULL));
	g_assert_cmpint(sscanf(text, "%lu %lu", &size_pages, &resident_pages), ==, 2);
	return (guint64)resident_pages * HVP_PAGE_SIZE;
}

static gint64 allocated_blocks(int fd)
{
	struct stat status;

	g_assert_cmpint(fstat(fd, &status), ==, 0);
	return status.st_blocks;
}

/* Reads the first bytes of each page of the area in one batch; all must be zero. */
static void read_each_page(HvpPhysical *memory, gsize length_bytes)
{
	gsize count = length_bytes / HVP_PAGE_SIZE;
	g_autofree HvpPhysicalRead *reads = g_new0(HvpPhysicalRead, count);
	g_autofree guint64 *values = g_new0(guint64, count);
	g_autoptr(GError) error = NULL;

	for (gsize i = 0; i < count; i++) {
		values[i] = 1;
		reads[i] = (HvpPhysicalRead){hvp_gpa(GPA + i * HVP_PAGE_SIZE), &values[i],
					     sizeof values[i], false};
	}
	g_assert_true(hvp_physical_read_batch(memory, reads, count, &error));
	for (gsize i = 0; i < count; i++) {
		g_assert_true(reads[i].ok);
		g_assert_cmphex(values[i], ==, 0);
	}
}

static void assert_reads(HvpPhysical *memory, guint64 into_bytes, const char *expected)
{
	gsize length_bytes = strlen(expected);
	g_autofree char *bytes = g_malloc0(length_bytes + 1);
	g_autoptr(GError) error = NULL;

	g_assert_true(
		hvp_physical_read(memory, hvp_gpa(GPA + into_bytes), bytes, length_bytes, &error));
	g_assert_cmpstr(bytes, ==, expected);
}

/* Linux answers reads of untouched private memory with its zero page; a host may do otherwise. */
static bool host_allocates_on_read(void)
{
	const guint8 *area = map(AREA_BYTES, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	guint64 before = rss_bytes();
	bool allocates;

	for (gsize i = 0; i < AREA_BYTES; i += HVP_PAGE_SIZE)
		(void)*(const volatile guint8 *)(area + i);
	allocates = rss_bytes() >= before + RSS_SLACK_BYTES;
	munmap((void *)(guintptr)area, AREA_BYTES);
	return allocates;
}

static void test_private_untouched(void)
{
	guint8 *area = map(AREA_BYTES, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_autoptr(HvpPhysical) memory = open_own(area, AREA_BYTES);
	guint64 before;

	if (host_allocates_on_read()) {
		g_test_skip("the zero page is missing: this host allocates on any read");
		munmap(area, AREA_BYTES);
		return;
	}
	read_each_page(memory, HVP_PAGE_SIZE);
	before = rss_bytes();
	read_each_page(memory, AREA_BYTES);
	g_assert_cmpuint(rss_bytes(), <, before + RSS_SLACK_BYTES);
	memcpy(area + 0x3ffe, "across", 6);
	assert_reads(memory, 0x3ffe, "across");
	munmap(area, AREA_BYTES);
}

static void test_shared_untouched(void)
{
	int fd = make_memfd(AREA_BYTES + HVP_PAGE_SIZE, 0);
	guint8 *area = map(AREA_BYTES, MAP_SHARED, fd, HVP_PAGE_SIZE);
	g_autoptr(HvpPhysical) memory = open_own(area, AREA_BYTES);
	guint64 before = rss_bytes();

	read_each_page(memory, AREA_BYTES);
	g_assert_cmpint(allocated_blocks(fd), ==, 0);
	g_assert_cmpuint(rss_bytes(), <, before + RSS_SLACK_BYTES);
	memcpy(area + 0x3ffe, "across", 6);
	assert_reads(memory, 0x3ffe, "across");
	g_assert_cmpint(allocated_blocks(fd), >, 0);
	/* What the balloon does. */
	g_assert_cmpint(madvise(area, AREA_BYTES, MADV_REMOVE), ==, 0);
	read_each_page(memory, AREA_BYTES);
	g_assert_cmpint(allocated_blocks(fd), ==, 0);
	munmap(area, AREA_BYTES);
	close(fd);
}

static void test_shared_anonymous(void)
{
	guint8 *area = map(AREA_BYTES, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpPhysical) memory = open_area(getpid(), area, AREA_BYTES, &error);

	if (g_error_matches(error, HVP_ERROR, HVP_ERROR_PERMISSION)) {
		g_test_skip("CAP_CHECKPOINT_RESTORE is missing");
	} else {
		guint64 before = rss_bytes();

		g_assert_no_error(error);
		read_each_page(memory, AREA_BYTES);
		g_assert_cmpuint(rss_bytes(), <, before + RSS_SLACK_BYTES);
		memcpy(area + 100, "shared", 6);
		assert_reads(memory, 100, "shared");
	}
	munmap(area, AREA_BYTES);
}

static void test_private_file(void)
{
	int fd = make_memfd(AREA_BYTES, 0);
	guint8 *area = map(AREA_BYTES, MAP_PRIVATE, fd, 0);
	g_autoptr(HvpPhysical) memory = open_own(area, AREA_BYTES);
	guint64 before = rss_bytes();

	read_each_page(memory, AREA_BYTES);
	g_assert_cmpint(allocated_blocks(fd), ==, 0);
	g_assert_cmpuint(rss_bytes(), <, before + RSS_SLACK_BYTES);
	/* "ab" is the file's, then copied on write to "Cb"; the next page stays the file's. */
	g_assert_cmpint(pwrite(fd, "ab", 2, 0x1fff), ==, 2);
	area[0x1fff] = 'C';
	assert_reads(memory, 0x1fff, "Cb");
	munmap(area, AREA_BYTES);
	close(fd);
}

/* No huge page is reserved: touching one in the mapping would be a SIGBUS. */
static void check_huge(int sharing)
{
	int fd = make_memfd(4 * HUGE_BYTES, MFD_HUGETLB);
	void *area;

	if (fd < 0) {
		g_test_skip("this kernel has no hugetlbfs");
		return;
	}
	area = mmap(NULL, 4 * HUGE_BYTES, PROT_READ | PROT_WRITE, sharing | MAP_NORESERVE, fd, 0);
	if (area == MAP_FAILED) {
		g_test_skip("huge pages cannot be mapped here");
	} else {
		g_autoptr(HvpPhysical) memory = open_own(area, 4 * HUGE_BYTES);

		read_each_page(memory, 4 * HUGE_BYTES);
		g_assert_cmpint(allocated_blocks(fd), ==, 0);
		munmap(area, 4 * HUGE_BYTES);
	}
	close(fd);
}

static void test_huge_shared(void)
{
	check_huge(MAP_SHARED);
}

static void test_huge_private(void)
{
	check_huge(MAP_PRIVATE);
}

static void test_truncated_file(void)
{
	int fd = make_memfd(4 * HVP_PAGE_SIZE, 0);
	guint8 *area = map(4 * HVP_PAGE_SIZE, MAP_SHARED, fd, 0);
	g_autoptr(HvpPhysical) memory = open_own(area, 4 * HVP_PAGE_SIZE);
	guint8 bytes[8];
	HvpPhysicalRead reads[] = {
		{hvp_gpa(GPA + HVP_PAGE_SIZE - 8), bytes, 8, false},
		{hvp_gpa(GPA + HVP_PAGE_SIZE - 4), bytes, 8, true},
		{hvp_gpa(GPA + 2 * HVP_PAGE_SIZE), bytes, 8, true},
	};

	g_assert_cmpint(ftruncate(fd, HVP_PAGE_SIZE), ==, 0);
	g_assert_true(hvp_physical_read_batch(memory, reads, G_N_ELEMENTS(reads), NULL));
	g_assert_true(reads[0].ok);
	g_assert_false(reads[1].ok);
	g_assert_false(reads[2].ok);
	munmap(area, 4 * HVP_PAGE_SIZE);
	close(fd);
}

/* Every third page cannot be read; the others must be, over more than one system call. */
static void test_unreadable_pieces(void)
{
	enum { PAGES = 1500 };
	guint8 *area = map(PAGES * HVP_PAGE_SIZE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_autoptr(HvpPhysical) memory = open_own(area, PAGES * HVP_PAGE_SIZE);
	g_autofree HvpPhysicalRead *reads = g_new0(HvpPhysicalRead, PAGES);
	g_autofree guint32 *values = g_new0(guint32, PAGES);

	for (guint32 i = 0; i < PAGES; i++) {
		memcpy(area + i * HVP_PAGE_SIZE + 8, &i, sizeof i);
		reads[i] = (HvpPhysicalRead){hvp_gpa(GPA + i * HVP_PAGE_SIZE + 8), &values[i], 4,
					     false};
	}
	for (guint32 i = 0; i < PAGES; i += 3)
		g_assert_cmpint(mprotect(area + i * HVP_PAGE_SIZE, HVP_PAGE_SIZE, PROT_NONE), ==,
				0);
	g_assert_true(hvp_physical_read_batch(memory, reads, PAGES, NULL));
	for (guint32 i = 0; i < PAGES; i++) {
		g_assert_true(reads[i].ok == (i % 3 != 0));
		g_assert_true(!reads[i].ok || values[i] == i);
	}
	munmap(area, PAGES * HVP_PAGE_SIZE);
}

/* A piece that becomes unreadable in its middle is not ok, the next one is. */
static void test_unreadable_middle(void)
{
	guint8 *area = map(3 * HVP_PAGE_SIZE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_autoptr(HvpPhysical) memory = open_own(area, 3 * HVP_PAGE_SIZE);
	guint8 bytes[2 * HVP_PAGE_SIZE];
	guint8 byte = 0;
	HvpPhysicalRead reads[] = {
		{hvp_gpa(GPA + 100), bytes, sizeof bytes, true},
		{hvp_gpa(GPA + 2 * HVP_PAGE_SIZE), &byte, 1, false},
	};

	area[2 * HVP_PAGE_SIZE] = 42;
	g_assert_cmpint(mprotect(area + HVP_PAGE_SIZE, HVP_PAGE_SIZE, PROT_NONE), ==, 0);
	g_assert_true(hvp_physical_read_batch(memory, reads, G_N_ELEMENTS(reads), NULL));
	g_assert_false(reads[0].ok);
	g_assert_true(reads[1].ok);
	g_assert_cmpuint(byte, ==, 42);
	munmap(area, 3 * HVP_PAGE_SIZE);
}

static void test_outside(void)
{
	guint8 *area = map(HVP_PAGE_SIZE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_autoptr(HvpPhysical) memory = open_own(area, HVP_PAGE_SIZE);
	guint8 bytes[16];
	HvpPhysicalRead reads[] = {
		{hvp_gpa(GPA - 1), bytes, 1, true},
		{hvp_gpa(GPA - 1), bytes, 2, true},
		{hvp_gpa(GPA + HVP_PAGE_SIZE), bytes, 1, true},
		{hvp_gpa(GPA + HVP_PAGE_SIZE - 1), bytes, 2, true},
		{hvp_gpa(G_MAXUINT64 - 3), bytes, 16, true},
		{hvp_gpa(GPA), bytes, 16, false},
		{hvp_gpa(0), bytes, 0, false},
	};

	g_assert_true(hvp_physical_read_batch(memory, reads, G_N_ELEMENTS(reads), NULL));
	for (gsize i = 0; i < G_N_ELEMENTS(reads); i++)
		g_assert_true(reads[i].ok == (i >= 5));
	g_assert_true(hvp_physical_read_batch(memory, NULL, 0, NULL));
	munmap(area, HVP_PAGE_SIZE);
}

/* Neighbours in the guest that lie in a shared and in a private mapping. */
static void test_across_backends(void)
{
	int fd = make_memfd(HVP_PAGE_SIZE, 0);
	guint8 *shared = map(HVP_PAGE_SIZE, MAP_SHARED, fd, 0);
	guint8 *private = map(4 << 20, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	HvpRamRange ranges[] = {
		{hvp_gpa(GPA), hvp_gpa(GPA + HVP_PAGE_SIZE), hvp_hva((guintptr)shared)},
		{hvp_gpa(GPA + HVP_PAGE_SIZE), hvp_gpa(GPA + HVP_PAGE_SIZE + (4 << 20)),
		 hvp_hva((guintptr) private)},
	};
	g_autoptr(HvpRam) ram = hvp_ram_new(ranges, 2, NULL);
	g_autoptr(HvpPhysical) memory = hvp_process_memory_new(getpid(), ram, NULL);
	gsize all_bytes = HVP_PAGE_SIZE + (4 << 20);
	g_autofree guint8 *bytes = g_malloc(all_bytes);

	memset(shared, 's', HVP_PAGE_SIZE);
	memset(private, 'p', 4 << 20);
	assert_reads(memory, HVP_PAGE_SIZE - 2, "sspp");
	g_assert_true(hvp_physical_read(memory, hvp_gpa(GPA), bytes, all_bytes, NULL));
	g_assert_cmpint(memcmp(bytes, shared, HVP_PAGE_SIZE), ==, 0);
	g_assert_cmpint(memcmp(bytes + HVP_PAGE_SIZE, private, 4 << 20), ==, 0);
	munmap(shared, HVP_PAGE_SIZE);
	munmap(private, 4 << 20);
	close(fd);
}

static void test_not_mapped(void)
{
	guint8 *area = map(4 * HVP_PAGE_SIZE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_autoptr(GError) error = NULL;

	munmap(area + HVP_PAGE_SIZE, HVP_PAGE_SIZE);
	g_assert_null(open_area(getpid(), area, 4 * HVP_PAGE_SIZE, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	munmap(area, 4 * HVP_PAGE_SIZE);
}

static pid_t start_sleeper(void)
{
	pid_t pid = fork();

	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	return pid;
}

/* Also while it is a zombie, whose pid is still there. */
static void check_gone(guint8 *area)
{
	pid_t pid = start_sleeper();
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpPhysical) memory = open_area(pid, area, HVP_PAGE_SIZE, &error);
	char bytes[6] = {0};
	HvpPhysicalRead read = {hvp_gpa(GPA), bytes, 5, false};
	siginfo_t info;

	g_assert_no_error(error);
	assert_reads(memory, 0, "hello");
	kill(pid, SIGKILL);
	g_assert_cmpint(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), ==, 0);
	for (int i = 0; i < 2; i++) {
		read.ok = true;
		g_assert_false(hvp_physical_read_batch(memory, &read, 1, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
		g_assert_false(read.ok);
		g_clear_error(&error);
		g_assert_null(open_area(pid, area, HVP_PAGE_SIZE, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
		g_clear_error(&error);
		waitpid(pid, NULL, 0);
	}
}

static void test_gone(void)
{
	int fd = make_memfd(HVP_PAGE_SIZE, 0);
	guint8 *shared = map(HVP_PAGE_SIZE, MAP_SHARED, fd, 0);
	guint8 *private = map(HVP_PAGE_SIZE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memcpy(shared, "hello", 5);
	memcpy(private, "hello", 5);
	check_gone(shared);
	check_gone(private);
	munmap(shared, HVP_PAGE_SIZE);
	munmap(private, HVP_PAGE_SIZE);
	close(fd);
}

/* In a child that gave up root: how many of the checks fail. */
static int unprivileged_failures(const guint8 *other_area, pid_t other)
{
	int fd, failures = 0;
	guint8 *area;
	HvpPhysical *memory;
	GError *error = NULL;
	char byte = 0;

	if (setgid(65534) < 0 || setuid(65534) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
		return 100;
	fd = make_memfd(HVP_PAGE_SIZE, 0);
	area = map(HVP_PAGE_SIZE, MAP_SHARED, fd, 0);
	area[0] = 'x';
	/* /proc/PID/map_files is not for us, the open descriptor is. */
	memory = open_area(getpid(), area, HVP_PAGE_SIZE, NULL);
	if (memory == NULL || !hvp_physical_read(memory, hvp_gpa(GPA), &byte, 1, NULL) ||
	    byte != 'x')
		failures++;
	hvp_physical_free(memory);
	close(fd);
	if (open_area(getpid(), area, HVP_PAGE_SIZE, &error) != NULL ||
	    !g_error_matches(error, HVP_ERROR, HVP_ERROR_PERMISSION))
		failures += 10;
	g_clear_error(&error);
	/* A process of root. */
	if (open_area(other, other_area, HVP_PAGE_SIZE, &error) != NULL ||
	    !g_error_matches(error, HVP_ERROR, HVP_ERROR_PERMISSION))
		failures += 20;
	g_clear_error(&error);
	return failures;
}

static void test_unprivileged(void)
{
	guint8 *area;
	int status;
	pid_t pid;

	if (geteuid() != 0) {
		g_test_skip("not root, cannot become another user");
		return;
	}
	area = map(HVP_PAGE_SIZE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid = fork();
	g_assert_cmpint(pid, >=, 0);
	if (pid == 0)
		_exit(unprivileged_failures(area, getppid()));
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_true(WIFEXITED(status));
	g_assert_cmpint(WEXITSTATUS(status), ==, 0);
	munmap(area, HVP_PAGE_SIZE);
}

static int count_descriptors(void)
{
	g_autoptr(GDir) directory = g_dir_open("/proc/self/fd", 0, NULL);
	int count = 0;

	while (g_dir_read_name(directory) != NULL)
		count++;
	return count;
}

/* Two ranges of one file share a descriptor, and none is left behind. */
static void test_descriptors(void)
{
	int fd = make_memfd(2 * HVP_PAGE_SIZE, 0);
	guint8 *area = map(2 * HVP_PAGE_SIZE, MAP_SHARED, fd, 0);
	HvpRamRange ranges[] = {
		{hvp_gpa(0), hvp_gpa(HVP_PAGE_SIZE), hvp_hva((guintptr)area)},
		{hvp_gpa(GPA), hvp_gpa(GPA + HVP_PAGE_SIZE),
		 hvp_hva((guintptr)area + HVP_PAGE_SIZE)},
	};
	g_autoptr(HvpRam) ram = hvp_ram_new(ranges, 2, NULL);
	int before = count_descriptors();
	HvpPhysical *memory = hvp_process_memory_new(getpid(), ram, NULL);

	area[HVP_PAGE_SIZE] = '2';
	assert_reads(memory, 0, "2");
	/* The process, its page map, the file. */
	g_assert_cmpint(count_descriptors(), ==, before + 3);
	hvp_physical_free(memory);
	g_assert_cmpint(count_descriptors(), ==, before);
	munmap(area, 2 * HVP_PAGE_SIZE);
	close(fd);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/process-memory/untouched/private-anonymous", test_private_untouched);
	g_test_add_func("/process-memory/untouched/shared-memfd", test_shared_untouched);
	g_test_add_func("/process-memory/untouched/shared-anonymous", test_shared_anonymous);
	g_test_add_func("/process-memory/untouched/private-file", test_private_file);
	g_test_add_func("/process-memory/untouched/shared-hugetlb", test_huge_shared);
	g_test_add_func("/process-memory/untouched/private-hugetlb", test_huge_private);
	g_test_add_func("/process-memory/truncated-file", test_truncated_file);
	g_test_add_func("/process-memory/unreadable-pieces", test_unreadable_pieces);
	g_test_add_func("/process-memory/unreadable-middle", test_unreadable_middle);
	g_test_add_func("/process-memory/outside", test_outside);
	g_test_add_func("/process-memory/across-backends", test_across_backends);
	g_test_add_func("/process-memory/not-mapped-BAD_DATA", test_not_mapped);
	g_test_add_func("/process-memory/gone-VM_GONE", test_gone);
	g_test_add_func("/process-memory/unprivileged-PERMISSION", test_unprivileged);
	g_test_add_func("/process-memory/descriptors", test_descriptors);
	return g_test_run();
}
