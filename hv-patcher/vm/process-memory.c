/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/process-memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vm/access.h"
#include "vm/helper.h"
#include "vm/process-maps.h"

/* Pieces in one process_vm_readv; with the next, below the 2 GiB that one call copies. */
#define BATCH_PIECES 512
#define PIECE_MAX_BYTES (1U << 20)
#define PAGEMAP_CHUNK_PAGES 64
/* Bits 63 (present) and 62 (swapped) of an entry; Documentation/admin-guide/mm/pagemap.rst. */
#define PAGEMAP_HELD(entry) (((entry) >> 62) != 0)

typedef enum {
	SOURCE_PROCESS,
	SOURCE_FILE,
	SOURCE_PROCESS_OR_FILE,
} Source;

/* A part of the RAM layout that lies in one mapping. */
typedef struct {
	HvpGpaRange gpa;
	HvpHva hva;
	Source source;
	int fd; /* borrowed from files; -1 for SOURCE_PROCESS */
	guint64 offset_bytes;
} Segment;

typedef struct {
	dev_t device;
	guint64 inode;
	int fd; /* -1: not a regular file, such as a DAX device: always allocated */
} File;

typedef struct {
	HvpPhysical physical;
	pid_t pid;
	int pidfd;
	int memory_fd; /* its memory, opened by the helper; -1: asked for by its pid */
	int pagemap_fd;
	GArray *segments; /* of Segment, ascending */
	GArray *files;	  /* of File */
	/* What waits for the next process_vm_readv, and the reads that it is for. */
	guint queued_count;
	struct iovec local[BATCH_PIECES];
	struct iovec remote[BATCH_PIECES];
	HvpPhysicalRead *owners[BATCH_PIECES];
} HvpProcessMemory;

static bool has_ended(const HvpProcessMemory *self)
{
	struct pollfd pollfd = {.fd = self->pidfd, .events = POLLIN};

	return poll(&pollfd, 1, 0) != 0;
}

/* The segment that holds @gpa, or NULL. */
static const Segment *find_segment(const HvpProcessMemory *self, HvpGpa gpa)
{
	guint low = 0;
	guint high = self->segments->len;

	while (low < high) {
		guint middle = low + (high - low) / 2;
		const Segment *segment = &g_array_index(self->segments, Segment, middle);

		if (gpa.value < segment->gpa.start.value)
			high = middle;
		else if (gpa.value >= segment->gpa.end.value)
			low = middle + 1;
		else
			return segment;
	}
	return NULL;
}

/* How many pieces from @first on @copied_bytes fill wholly. */
static guint count_filled(const HvpProcessMemory *self, guint first, gsize copied_bytes)
{
	guint index = first;

	while (index < self->queued_count && copied_bytes >= self->remote[index].iov_len)
		copied_bytes -= self->remote[index++].iov_len;
	return index - first;
}

/* False where the file ends early or cannot be read. */
static bool pread_all(int fd, void *buffer, gsize length_bytes, guint64 offset_bytes)
{
	guint8 *at = buffer;

	while (length_bytes > 0) {
		ssize_t got = pread(fd, at, length_bytes, (off_t)offset_bytes);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		at += got;
		offset_bytes += (guint64)got;
		length_bytes -= (gsize)got;
	}
	return true;
}

/* The same by a descriptor of the memory, which takes one piece at a time. */
static bool flush_queue_by_descriptor(HvpProcessMemory *self)
{
	for (guint i = 0; i < self->queued_count; i++)
		if (!pread_all(self->memory_fd, self->local[i].iov_base, self->local[i].iov_len,
			       (guintptr)self->remote[i].iov_base))
			self->owners[i]->ok = false;
	self->queued_count = 0;
	return true;
}

/*
 * Reads all that is queued. The kernel stops at the first piece that it cannot
 * read: that one is not ok, and the rest is asked for anew.
 */
static bool flush_queue(HvpProcessMemory *self, GError **error)
{
	guint index = 0;

	if (self->memory_fd >= 0)
		return flush_queue_by_descriptor(self);
	while (index < self->queued_count) {
		unsigned long left = self->queued_count - index;
		ssize_t copied = process_vm_readv(self->pid, self->local + index, left,
						  self->remote + index, left, 0);

		if (copied < 0 && errno != EFAULT) {
			self->queued_count = 0;
			return hvp_access_explain(self->pid, errno, "reading the memory of", error);
		}
		index += count_filled(self, index, (gsize)MAX(copied, 0));
		if (index < self->queued_count)
			self->owners[index++]->ok = false;
	}
	self->queued_count = 0;
	return true;
}

static bool queue_piece(HvpProcessMemory *self, HvpPhysicalRead *owner, HvpHva hva, guint8 *buffer,
			gsize length_bytes, GError **error)
{
	while (length_bytes > 0) {
		gsize piece_bytes = MIN(length_bytes, PIECE_MAX_BYTES);

		if (self->queued_count == BATCH_PIECES && !flush_queue(self, error))
			return false;
		self->local[self->queued_count] = (struct iovec){buffer, piece_bytes};
		self->remote[self->queued_count] =
			(struct iovec){(void *)(guintptr)hva.value, piece_bytes};
		self->owners[self->queued_count++] = owner;
		hva.value += piece_bytes;
		buffer += piece_bytes;
		length_bytes -= piece_bytes;
	}
	return true;
}

/* Part of a read: [@hva, @hva + @length_bytes) in one segment. */
typedef struct {
	HvpPhysicalRead *owner;
	HvpHva hva;
	guint8 *buffer;
	gsize length_bytes;
	guint64 offset_bytes;
} Part;

/* The first @length_bytes of @part, within one page that the process holds or not. */
static bool read_in_page(HvpProcessMemory *self, const Segment *segment, const Part *part,
			 gsize length_bytes, bool held, GError **error)
{
	if (held)
		return queue_piece(self, part->owner, part->hva, part->buffer, length_bytes, error);
	if (!pread_all(segment->fd, part->buffer, length_bytes, part->offset_bytes))
		part->owner->ok = false;
	return true;
}

static void advance(Part *part, gsize bytes)
{
	part->hva.value += bytes;
	part->buffer += bytes;
	part->offset_bytes += bytes;
	part->length_bytes -= bytes;
}

/*
 * A private mapping of a file: a page that the process does not hold is read from
 * the file, because reading it there would allocate one on hugetlbfs.
 */
static bool read_held_or_file(HvpProcessMemory *self, const Segment *segment, Part part,
			      GError **error)
{
	guint64 entries[PAGEMAP_CHUNK_PAGES];

	while (part.length_bytes > 0) {
		guint64 first_page = part.hva.value / HVP_PAGE_SIZE;
		guint64 last_page = (part.hva.value + part.length_bytes - 1) / HVP_PAGE_SIZE;
		gsize count = MIN(last_page - first_page + 1, PAGEMAP_CHUNK_PAGES);

		if (!pread_all(self->pagemap_fd, entries, count * sizeof *entries,
			       first_page * sizeof *entries)) {
			part.owner->ok = false;
			return true;
		}
		for (gsize i = 0; i < count; i++) {
			gsize in_page = HVP_PAGE_SIZE - (part.hva.value & HVP_PAGE_MASK);
			gsize bytes = MIN(in_page, part.length_bytes);

			if (!read_in_page(self, segment, &part, bytes, PAGEMAP_HELD(entries[i]),
					  error))
				return false;
			advance(&part, bytes);
		}
	}
	return true;
}

static bool read_part(HvpProcessMemory *self, const Segment *segment, const Part *part,
		      GError **error)
{
	switch (segment->source) {
	case SOURCE_PROCESS:
		return queue_piece(self, part->owner, part->hva, part->buffer, part->length_bytes,
				   error);
	case SOURCE_FILE:
		return read_in_page(self, segment, part, part->length_bytes, false, error);
	case SOURCE_PROCESS_OR_FILE:
		return read_held_or_file(self, segment, *part, error);
	}
	return hvp_error_set(error, HVP_ERROR_INTERNAL, "unknown source of memory");
}

static bool read_one(HvpProcessMemory *self, HvpPhysicalRead *read, GError **error)
{
	gsize done_bytes = 0;

	/* Cannot wrap around: the last byte of the address space is never RAM. */
	read->ok = true;
	while (done_bytes < read->length_bytes) {
		HvpGpa gpa = hvp_gpa(read->gpa.value + done_bytes);
		const Segment *segment = find_segment(self, gpa);
		guint64 into_bytes;
		Part part;

		if (segment == NULL) {
			read->ok = false;
			return true;
		}
		into_bytes = gpa.value - segment->gpa.start.value;
		part = (Part){
			read, hvp_hva(segment->hva.value + into_bytes),
			(guint8 *)read->buffer + done_bytes,
			MIN(read->length_bytes - done_bytes, segment->gpa.end.value - gpa.value),
			segment->offset_bytes + into_bytes};
		if (!read_part(self, segment, &part, error))
			return false;
		done_bytes += part.length_bytes;
	}
	return true;
}

static bool read_all(HvpProcessMemory *self, HvpPhysicalRead *reads, gsize count, GError **error)
{
	for (gsize i = 0; i < count; i++) {
		if (!read_one(self, &reads[i], error))
			return false;
	}
	if (!flush_queue(self, error))
		return false;
	/* Afterwards: had the pid been reused before, the bytes would be another process's. */
	if (has_ended(self))
		return hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d has ended",
				     (int)self->pid);
	return true;
}

static bool process_memory_read(HvpPhysical *physical, HvpPhysicalRead *reads, gsize count,
				GError **error)
{
	HvpProcessMemory *self = (HvpProcessMemory *)physical;

	if (read_all(self, reads, count, error))
		return true;
	self->queued_count = 0;
	for (gsize i = 0; i < count; i++)
		reads[i].ok = false;
	return false;
}

static void process_memory_free(HvpPhysical *physical)
{
	HvpProcessMemory *self = (HvpProcessMemory *)physical;

	for (guint i = 0; i < self->files->len; i++) {
		int fd = g_array_index(self->files, File, i).fd;

		if (fd >= 0)
			close(fd);
	}
	if (self->pidfd >= 0)
		close(self->pidfd);
	if (self->memory_fd >= 0)
		close(self->memory_fd);
	if (self->pagemap_fd >= 0)
		close(self->pagemap_fd);
	g_array_unref(self->files);
	g_array_unref(self->segments);
	g_free(self);
}

static const HvpPhysicalOps process_memory_ops = {
	.read = process_memory_read,
	.free = process_memory_free,
};

static bool overlaps_ram(const HvpRam *ram, const HvpProcessMapping *mapping)
{
	gsize count;
	const HvpRamRange *ranges = hvp_ram_get_ranges(ram, &count);

	for (gsize i = 0; i < count; i++) {
		guint64 start = ranges[i].hva.value;
		guint64 end = start + (ranges[i].end.value - ranges[i].start.value);

		if (mapping->start < end && start < mapping->end)
			return true;
	}
	return false;
}

/* Keeps of the open maps file @file the mappings of RAM, and *@ret_first, a readable one. */
static GArray *collect_mappings(FILE *file, const HvpRam *ram, HvpProcessMapping *ret_first)
{
	GArray *mappings = g_array_new(FALSE, TRUE, sizeof(HvpProcessMapping));
	size_t line_size = 0;
	char *line = NULL;

	*ret_first = (HvpProcessMapping){0};
	while (getline(&line, &line_size, file) > 0) {
		HvpProcessMapping mapping;

		if (!hvp_process_maps_parse(line, &mapping))
			continue;
		/* Of no use here, and gone with the line. */
		mapping.path = "";
		if (ret_first->end == 0 && mapping.readable)
			*ret_first = mapping;
		if (overlaps_ram(ram, &mapping))
			g_array_append_val(mappings, mapping);
	}
	free(line);
	return mappings;
}

static GArray *read_mappings(pid_t pid, const HvpRam *ram, HvpProcessMapping *ret_first,
			     GError **error)
{
	FILE *file = hvp_process_maps_open(pid, error);
	GArray *mappings;

	if (file == NULL)
		return NULL;
	mappings = collect_mappings(file, ram, ret_first);
	fclose(file);
	return mappings;
}

/*
 * Opens @path if it is the file of @mapping. -1 and errno; *@ret_is_file is false
 * for a device, which is not opened.
 */
static int open_if_same(const char *path, const HvpProcessMapping *mapping, bool *ret_is_file)
{
	struct stat status;
	int fd;

	*ret_is_file = true;
	if (stat(path, &status) < 0)
		return -1;
	errno = ENOENT;
	if (status.st_ino != mapping->inode)
		return -1;
	*ret_is_file = S_ISREG(status.st_mode);
	if (!*ret_is_file)
		return -1;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0 && (fstat(fd, &status) < 0 || status.st_ino != mapping->inode)) {
		close(fd);
		errno = ENOENT;
		return -1;
	}
	return fd;
}

/* Needs no privilege beyond reading the process, but a descriptor that is still open there. */
static int open_by_descriptor(pid_t pid, const HvpProcessMapping *mapping, bool *ret_is_file)
{
	g_autofree char *folder = g_strdup_printf("/proc/%d/fd", (int)pid);
	g_autoptr(GDir) directory = g_dir_open(folder, 0, NULL);
	const char *name;

	*ret_is_file = true;
	while (directory != NULL && (name = g_dir_read_name(directory)) != NULL) {
		g_autofree char *path = g_build_filename(folder, name, NULL);
		struct stat status;
		int fd;

		if (stat(path, &status) < 0 || status.st_dev != mapping->device)
			continue;
		fd = open_if_same(path, mapping, ret_is_file);
		if (fd >= 0 || !*ret_is_file)
			return fd;
	}
	return -1;
}

/* Since 5.9 map_files wants CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN before. */
static int open_by_mapping(pid_t pid, const HvpProcessMapping *mapping, bool *ret_is_file)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/map_files/%" G_GINT64_MODIFIER
						"x-%" G_GINT64_MODIFIER "x",
						(int)pid, mapping->start, mapping->end);

	return open_if_same(path, mapping, ret_is_file);
}

/* As open_if_same. */
static int open_file_of(pid_t pid, const HvpProcessMapping *mapping, bool *ret_is_file)
{
	int fd = -1;

	if (hvp_helper_is_used()) {
		*ret_is_file = !hvp_helper_ask(HVP_HELPER_MAPPING, mapping->start, NULL, &fd, NULL);
		return fd;
	}
	fd = open_by_mapping(pid, mapping, ret_is_file);
	return fd < 0 && *ret_is_file ? open_by_descriptor(pid, mapping, ret_is_file) : fd;
}

/* The mapping of @pid that begins at @start. */
static bool find_mapping(pid_t pid, guint64 start, HvpProcessMapping *ret_mapping, GError **error)
{
	FILE *file = hvp_process_maps_open(pid, error);
	size_t line_size = 0;
	char *line = NULL;
	bool found = false;

	if (file == NULL)
		return false;
	while (!found && getline(&line, &line_size, file) > 0)
		found = hvp_process_maps_parse(line, ret_mapping) && ret_mapping->start == start;
	fclose(file);
	free(line);
	ret_mapping->path = "";
	return (found && ret_mapping->inode != 0) ||
	       hvp_error_set(error, HVP_ERROR_NOT_FOUND,
			     "process %d has no file mapped at 0x%" G_GINT64_MODIFIER "x", (int)pid,
			     start);
}

bool hvp_process_memory_open_mapping(pid_t pid, guint64 start, int *ret_fd, GError **error)
{
	HvpProcessMapping mapping;
	bool is_file;

	if (!find_mapping(pid, start, &mapping, error))
		return false;
	*ret_fd = open_file_of(pid, &mapping, &is_file);
	return *ret_fd >= 0 || !is_file ||
	       hvp_error_set(error, HVP_ERROR_PERMISSION,
			     "the file behind the guest's memory at 0x%" G_GINT64_MODIFIER
			     "x of process %d cannot be opened",
			     start, (int)pid);
}

/* The file of @mapping, opened once; NULL and PERMISSION when it cannot be. */
static const File *get_file(HvpProcessMemory *self, const HvpProcessMapping *mapping,
			    GError **error)
{
	File file = {mapping->device, mapping->inode, -1};
	bool is_file;

	for (guint i = 0; i < self->files->len; i++) {
		const File *known = &g_array_index(self->files, File, i);

		if (known->device == mapping->device && known->inode == mapping->inode)
			return known;
	}
	file.fd = open_file_of(self->pid, mapping, &is_file);
	if (file.fd < 0 && is_file) {
		hvp_error_set(error, HVP_ERROR_PERMISSION,
			      "the file behind the guest's memory at 0x%" G_GINT64_MODIFIER
			      "x of process %d cannot be opened; CAP_CHECKPOINT_RESTORE is needed",
			      mapping->start, (int)self->pid);
		return NULL;
	}
	g_array_append_val(self->files, file);
	return &g_array_index(self->files, File, self->files->len - 1);
}

/* Adds the part of @range that starts at @hva and lies in @mapping. */
static bool add_segment(HvpProcessMemory *self, const HvpRamRange *range, HvpHva hva,
			const HvpProcessMapping *mapping, GError **error)
{
	guint64 into_bytes = hva.value - range->hva.value;
	guint64 range_end = range->hva.value + (range->end.value - range->start.value);
	guint64 size_bytes = MIN(range_end, mapping->end) - hva.value;
	const File *file = NULL;
	Segment segment = {.hva = hva, .source = SOURCE_PROCESS, .fd = -1};

	segment.gpa.start = hvp_gpa(range->start.value + into_bytes);
	segment.gpa.end = hvp_gpa(segment.gpa.start.value + size_bytes);
	if (mapping->inode != 0) {
		file = get_file(self, mapping, error);
		if (file == NULL)
			return false;
		segment.fd = file->fd;
		segment.offset_bytes = mapping->offset_bytes + (hva.value - mapping->start);
	}
	if (segment.fd >= 0)
		segment.source = mapping->shared ? SOURCE_FILE : SOURCE_PROCESS_OR_FILE;
	g_array_append_val(self->segments, segment);
	return true;
}

/* Covers @range with the @mappings (ascending) it lies in. */
static bool add_range(HvpProcessMemory *self, const HvpRamRange *range, GArray *mappings,
		      GError **error)
{
	guint64 end = range->hva.value + (range->end.value - range->start.value);
	HvpHva hva = range->hva;

	for (guint i = 0; i < mappings->len && hva.value < end; i++) {
		const HvpProcessMapping *mapping = &g_array_index(mappings, HvpProcessMapping, i);

		if (hva.value < mapping->start || hva.value >= mapping->end)
			continue;
		if (!add_segment(self, range, hva, mapping, error))
			return false;
		hva.value = mapping->end;
	}
	if (hva.value < end)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "guest memory at 0x%" G_GINT64_MODIFIER
				     "x is not mapped in process %d",
				     range->start.value, (int)self->pid);
	return true;
}

/*
 * Whether process_vm_readv is allowed, which is more than reading /proc/PID/maps
 * takes. Tried outside of the guest's memory, so that nothing is allocated there.
 */
static bool check_access(const HvpProcessMemory *self, const HvpProcessMapping *readable,
			 GError **error)
{
	guint8 byte;
	struct iovec local = {&byte, 1};
	struct iovec remote = {(void *)(guintptr)readable->start, 1};

	if (self->memory_fd >= 0)
		return true;
	if (process_vm_readv(self->pid, &local, 1, &remote, 1, 0) < 0 && errno != EFAULT)
		return hvp_access_explain(self->pid, errno, "reading the memory of", error);
	return true;
}

static bool ask_for_process(HvpProcessMemory *self, GError **error)
{
	self->memory_fd = hvp_helper_open(HVP_HELPER_MEMORY, 0, error);
	if (self->memory_fd < 0)
		return false;
	self->pagemap_fd = hvp_helper_open(HVP_HELPER_PAGEMAP, 0, error);
	return self->pagemap_fd >= 0;
}

static bool open_process(HvpProcessMemory *self, GError **error)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/pagemap", (int)self->pid);

	self->pidfd = pidfd_open(self->pid, 0);
	if (self->pidfd < 0)
		return hvp_access_explain(self->pid, errno, "opening", error);
	if (hvp_helper_is_used())
		return ask_for_process(self, error);
	self->pagemap_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (self->pagemap_fd < 0)
		return hvp_access_explain(self->pid, errno, "reading the page map of", error);
	return true;
}

static bool set_up(HvpProcessMemory *self, const HvpRam *ram, GError **error)
{
	g_autoptr(GArray) mappings = NULL;
	const HvpRamRange *ranges;
	HvpProcessMapping readable;
	gsize count;

	if (!open_process(self, error))
		return false;
	mappings = read_mappings(self->pid, ram, &readable, error);
	if (mappings == NULL || !check_access(self, &readable, error))
		return false;
	ranges = hvp_ram_get_ranges(ram, &count);
	for (gsize i = 0; i < count; i++) {
		if (!add_range(self, &ranges[i], mappings, error))
			return false;
	}
	return true;
}

HvpPhysical *hvp_process_memory_new(pid_t pid, const HvpRam *ram, GError **error)
{
	HvpProcessMemory *self = g_new0(HvpProcessMemory, 1);
	g_autoptr(HvpPhysical) physical = &self->physical;

	self->physical.ops = &process_memory_ops;
	self->pid = pid;
	self->pidfd = -1;
	self->memory_fd = -1;
	self->pagemap_fd = -1;
	self->segments = g_array_new(FALSE, TRUE, sizeof(Segment));
	self->files = g_array_new(FALSE, TRUE, sizeof(File));
	if (!set_up(self, ram, error))
		return NULL;
	return g_steal_pointer(&physical);
}
