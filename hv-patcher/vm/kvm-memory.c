/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/kvm-memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/deadline.h"
#include "vm/access.h"

#define PAGEMAP_CHUNK_PAGES 64
/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT(entry) (((entry) >> 63) != 0)
#define PAGEMAP_SWAPPED(entry) (((entry) >> 62 & 1) != 0)
/* The kernel moves a page, or 2 MiB of them, in less; in all, while the vCPUs stand. */
#define PATIENCE_USEC 10000
#define LOOK_AGAIN_USEC 20
#define MAX_COLD 64

typedef struct {
	HvpPhysical physical;
	pid_t pid;
	int pagemap_fd;
	HvpDeadline patience; /* for pages that are being moved */
	guint cold_count;
	HvpHva cold[MAX_COLD]; /* pages that were not there */
	gsize count;
	HvpRamRange ranges[];
} HvpKvmMemory;

/* The part of [@gpa, @gpa + *@length_bytes) that lies in one range, which shortens the length. */
static bool locate(const HvpKvmMemory *self, HvpGpa gpa, gsize *length_bytes, HvpHva *ret_hva)
{
	for (gsize i = 0; i < self->count; i++) {
		const HvpRamRange *range = &self->ranges[i];

		if (gpa.value < range->start.value || gpa.value >= range->end.value)
			continue;
		*length_bytes = MIN(*length_bytes, range->end.value - gpa.value);
		*ret_hva = hvp_hva(range->hva.value + (gpa.value - range->start.value));
		return true;
	}
	return false;
}

static void note_cold(HvpKvmMemory *self, guint64 page)
{
	if (self->cold_count < MAX_COLD)
		self->cold[self->cold_count++] = hvp_hva(page * HVP_PAGE_SIZE);
}

/*
 * A page that the host moves to another place looks as if it were swapped out, for some
 * microseconds; it is waited for. Others are noted.
 */
static bool wait_for_page(HvpKvmMemory *self, guint64 page, guint64 entry)
{
	while (!PAGEMAP_PRESENT(entry)) {
		if (!PAGEMAP_SWAPPED(entry) || hvp_deadline_passed(self->patience)) {
			note_cold(self, page);
			return false;
		}
		g_usleep(LOOK_AGAIN_USEC);
		if (pread(self->pagemap_fd, &entry, sizeof entry, (off_t)(page * sizeof entry)) !=
		    sizeof entry)
			return false;
	}
	return true;
}

static bool is_present(HvpKvmMemory *self, HvpHva hva, gsize length_bytes)
{
	guint64 page = hva.value / HVP_PAGE_SIZE;
	guint64 end = (hva.value + length_bytes - 1) / HVP_PAGE_SIZE + 1;
	guint64 entries[PAGEMAP_CHUNK_PAGES];

	while (page < end) {
		gsize count = MIN(end - page, PAGEMAP_CHUNK_PAGES);
		ssize_t size_bytes = (ssize_t)(count * sizeof *entries);

		if (pread(self->pagemap_fd, entries, (size_t)size_bytes,
			  (off_t)(page * sizeof *entries)) != size_bytes)
			return false;
		for (gsize i = 0; i < count; i++)
			if (!wait_for_page(self, page + i, entries[i]))
				return false;
		page += count;
	}
	return true;
}

static bool not_there(HvpGpa gpa, GError **error)
{
	return hvp_error_set(error, HVP_ERROR_FAULT,
			     "physical 0x%" G_GINT64_MODIFIER "x is not present on the host",
			     gpa.value);
}

typedef ssize_t (*Transfer)(pid_t pid, const struct iovec *local, unsigned long local_count,
			    const struct iovec *remote, unsigned long remote_count,
			    unsigned long flags);

/* One part in one range, present already. */
static bool move(const HvpKvmMemory *self, Transfer transfer, HvpHva hva, void *bytes,
		 gsize length_bytes, GError **error)
{
	struct iovec local = { bytes, length_bytes };
	struct iovec remote = { (void *)(guintptr)hva.value, length_bytes };
	ssize_t moved = transfer(self->pid, &local, 1, &remote, 1, 0);

	if (moved == (ssize_t)length_bytes)
		return true;
	if (moved < 0 && errno == ESRCH)
		return hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d has ended",
				     (int)self->pid);
	if (moved < 0 && errno != EFAULT)
		return hvp_access_explain(self->pid, errno, "accessing the memory of", error);
	return hvp_error_set(error, HVP_ERROR_FAULT,
			     "guest memory at 0x%" G_GINT64_MODIFIER "x of process %d cannot be "
			     "accessed",
			     hva.value, (int)self->pid);
}

static bool check_present(HvpKvmMemory *self, HvpGpa gpa, gsize length_bytes, GError **error)
{
	while (length_bytes > 0) {
		gsize part_bytes = length_bytes;
		HvpHva hva;

		if (!locate(self, gpa, &part_bytes, &hva) || !is_present(self, hva, part_bytes))
			return not_there(gpa, error);
		gpa = hvp_gpa(gpa.value + part_bytes);
		length_bytes -= part_bytes;
	}
	return true;
}

static bool move_all(HvpKvmMemory *self, Transfer transfer, HvpGpa gpa, guint8 *bytes,
		     gsize length_bytes, GError **error)
{
	if (!check_present(self, gpa, length_bytes, error))
		return false;
	while (length_bytes > 0) {
		gsize part_bytes = length_bytes;
		HvpHva hva;

		if (!locate(self, gpa, &part_bytes, &hva))
			return not_there(gpa, error);
		if (!move(self, transfer, hva, bytes, part_bytes, error))
			return false;
		gpa = hvp_gpa(gpa.value + part_bytes);
		bytes += part_bytes;
		length_bytes -= part_bytes;
	}
	return true;
}

static bool read_batch(HvpPhysical *physical, HvpPhysicalRead *reads, gsize count, GError **error)
{
	HvpKvmMemory *self = (HvpKvmMemory *)physical;

	for (gsize i = 0; i < count; i++) {
		g_autoptr(GError) local = NULL;

		reads[i].ok = move_all(self, process_vm_readv, reads[i].gpa, reads[i].buffer,
				       reads[i].length_bytes, &local);
		if (!reads[i].ok && !g_error_matches(local, HVP_ERROR, HVP_ERROR_FAULT)) {
			g_propagate_error(error, g_steal_pointer(&local));
			return false;
		}
	}
	return true;
}

static void free_memory(HvpPhysical *physical)
{
	HvpKvmMemory *self = (HvpKvmMemory *)physical;

	if (self->pagemap_fd >= 0)
		close(self->pagemap_fd);
	g_free(self);
}

static const HvpPhysicalOps kvm_memory_ops = {
	.read = read_batch,
	.free = free_memory,
};

HvpPhysical *hvp_kvm_memory_new(pid_t pid, const HvpRamRange *ranges, gsize count, GError **error)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/pagemap", (int)pid);
	HvpKvmMemory *self = g_malloc0(sizeof *self + count * sizeof *ranges);

	self->physical.ops = &kvm_memory_ops;
	self->pid = pid;
	self->count = count;
	for (gsize i = 0; i < count; i++)
		self->ranges[i] = ranges[i];
	self->pagemap_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (self->pagemap_fd < 0) {
		hvp_access_explain(pid, errno, "reading the page map of", error);
		free_memory(&self->physical);
		return NULL;
	}
	return &self->physical;
}

void hvp_kvm_memory_prepare(HvpPhysical *physical)
{
	HvpKvmMemory *self = (HvpKvmMemory *)physical;

	while (self->cold_count > 0) {
		guint8 byte;

		/* Whether it came is seen when it is needed. */
		(void)!move(self, process_vm_readv, self->cold[--self->cold_count], &byte, 1, NULL);
	}
	self->patience = hvp_deadline_in(PATIENCE_USEC);
}

bool hvp_kvm_memory_write(HvpPhysical *self, HvpGpa gpa, const void *bytes, gsize length_bytes,
			  GError **error)
{
	/* Only read from: the interface of the system call does not say so. */
	return move_all((HvpKvmMemory *)self, process_vm_writev, gpa, (guint8 *)bytes, length_bytes,
			error);
}
