/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/core.h"

#include "base/bytes.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SEGMENTS 4096U
#define MAX_NOTE_BYTES (16U << 20)
#define MAX_VCPUS 4096U

/* struct QEMUCPUState, version 1, as QEMU writes it. */
#define QEMU_STATE_VERSION 1U
#define QEMU_STATE_BYTES 440U
#define QEMU_STATE_GENERAL 8U
#define QEMU_STATE_RIP 136U
#define QEMU_STATE_RFLAGS 144U
#define QEMU_STATE_SEGMENTS 152U
#define QEMU_SEGMENT_BYTES 24U
#define QEMU_SEGMENT_BASE 16U
#define QEMU_STATE_CR 392U
#define QEMU_STATE_KERNEL_GS_BASE 432U

enum {
	SEGMENT_CS,
	SEGMENT_DS,
	SEGMENT_ES,
	SEGMENT_FS,
	SEGMENT_GS,
	SEGMENT_SS,
	SEGMENT_LDT,
	SEGMENT_TR,
	SEGMENT_GDT,
	SEGMENT_IDT
};

typedef struct {
	HvpGpaRange range;
	guint64 file_offset;
} Segment;

struct HvpCore {
	HvpPhysical physical;
	int fd;
	GArray *segments;  /* Segment, ascending */
	GArray *registers; /* HvpRegisters */
};

static const Segment *find_segment(HvpCore *self, guint64 gpa)
{
	for (guint i = 0; i < self->segments->len; i++) {
		const Segment *segment = &g_array_index(self->segments, Segment, i);

		if (gpa >= segment->range.start.value && gpa < segment->range.end.value)
			return segment;
	}
	return NULL;
}

static bool read_piece(HvpCore *self, HvpPhysicalRead *read)
{
	gsize done = 0;

	while (done < read->length_bytes) {
		guint64 gpa = read->gpa.value + done;
		const Segment *segment = find_segment(self, gpa);
		gsize piece;
		gssize got;

		if (segment == NULL)
			return false;
		piece = MIN(read->length_bytes - done, segment->range.end.value - gpa);
		got = pread(self->fd, (guint8 *)read->buffer + done, piece,
			    (off_t)(segment->file_offset + gpa - segment->range.start.value));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		done += (gsize)got;
	}
	return true;
}

static bool core_read(HvpPhysical *physical, HvpPhysicalRead *reads, gsize count, GError **error)
{
	HvpCore *self = (HvpCore *)physical;

	(void)error;
	for (gsize i = 0; i < count; i++)
		reads[i].ok = read_piece(self, &reads[i]);
	return true;
}

static void core_physical_free(HvpPhysical *physical)
{
	/* The reader is part of the HvpCore and goes with it. */
	(void)physical;
}

static const HvpPhysicalOps core_ops = { core_read, core_physical_free };

void hvp_core_free(HvpCore *self)
{
	if (self == NULL)
		return;
	if (self->fd >= 0)
		close(self->fd);
	g_array_unref(self->segments);
	g_array_unref(self->registers);
	g_free(self);
}

HvpPhysical *hvp_core_get_physical(HvpCore *self)
{
	return &self->physical;
}

const HvpRegisters *hvp_core_get_registers(HvpCore *self, guint *ret_count)
{
	*ret_count = self->registers->len;
	return (const HvpRegisters *)(const void *)self->registers->data;
}

static guint64 segment_base(const guint8 *state, guint segment)
{
	return hvp_load_u64(state + QEMU_STATE_SEGMENTS + segment * QEMU_SEGMENT_BYTES +
			    QEMU_SEGMENT_BASE);
}

static HvpRegisters parse_state(const guint8 *state)
{
	/* The order in which QEMU writes them, in terms of ours. */
	static const guint8 order[HVP_GENERAL_COUNT] = { HVP_RAX, HVP_RBX, HVP_RCX, HVP_RDX,
							 HVP_RSI, HVP_RDI, HVP_RSP, HVP_RBP,
							 HVP_R8,  HVP_R9,  HVP_R10, HVP_R11,
							 HVP_R12, HVP_R13, HVP_R14, HVP_R15 };
	HvpRegisters registers = { 0 };

	for (guint i = 0; i < HVP_GENERAL_COUNT; i++)
		registers.general[order[i]] = hvp_load_u64(state + QEMU_STATE_GENERAL + i * 8);
	registers.rip = hvp_load_u64(state + QEMU_STATE_RIP);
	registers.rflags = hvp_load_u64(state + QEMU_STATE_RFLAGS);
	registers.cs = hvp_load_u32(state + QEMU_STATE_SEGMENTS);
	registers.ss = hvp_load_u32(state + QEMU_STATE_SEGMENTS + SEGMENT_SS * QEMU_SEGMENT_BYTES);
	registers.fs_base = segment_base(state, SEGMENT_FS);
	registers.gs_base = segment_base(state, SEGMENT_GS);
	registers.idt_base = segment_base(state, SEGMENT_IDT);
	registers.tr_base = segment_base(state, SEGMENT_TR);
	registers.cr0 = hvp_load_u64(state + QEMU_STATE_CR);
	registers.cr3 = hvp_load_u64(state + QEMU_STATE_CR + 24);
	registers.cr4 = hvp_load_u64(state + QEMU_STATE_CR + 32);
	registers.kernel_gs_base = hvp_load_u64(state + QEMU_STATE_KERNEL_GS_BASE);
	return registers;
}

static gsize note_padded(gsize bytes)
{
	return (bytes + 3) & ~(gsize)3;
}

static bool parse_notes(HvpCore *self, const guint8 *notes, gsize length_bytes, GError **error)
{
	HvpCursor cursor = hvp_cursor(notes, length_bytes);

	while (cursor.offset_bytes + 12 <= length_bytes) {
		guint32 name_bytes = hvp_cursor_u32(&cursor);
		guint32 state_bytes = hvp_cursor_u32(&cursor);
		const guint8 *name, *state;

		(void)hvp_cursor_u32(&cursor);
		name = hvp_cursor_take(&cursor, note_padded(name_bytes));
		state = hvp_cursor_take(&cursor, note_padded(state_bytes));
		if (cursor.failed || self->registers->len >= MAX_VCPUS)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA, "the notes are cut off");
		if (name_bytes == 5 && memcmp(name, "QEMU", 5) == 0 &&
		    state_bytes >= QEMU_STATE_BYTES && hvp_load_u32(state) == QEMU_STATE_VERSION) {
			HvpRegisters registers = parse_state(state);

			g_array_append_val(self->registers, registers);
		}
	}
	return true;
}

static bool load_notes(HvpCore *self, const GElf_Phdr *header, GError **error)
{
	g_autofree guint8 *notes = NULL;

	if (header->p_filesz > MAX_NOTE_BYTES)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "the notes are too large");
	notes = g_malloc(header->p_filesz + 1);
	if (pread(self->fd, notes, header->p_filesz, (off_t)header->p_offset) !=
	    (gssize)header->p_filesz)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "the notes are cut off");
	return parse_notes(self, notes, header->p_filesz, error);
}

static bool load_segment(HvpCore *self, const GElf_Phdr *header, guint64 file_bytes, GError **error)
{
	Segment segment = { { hvp_gpa(header->p_paddr),
			      hvp_gpa(header->p_paddr + header->p_filesz) },
			    header->p_offset };

	if (header->p_filesz == 0)
		return true;
	if (segment.range.end.value < segment.range.start.value || header->p_offset > file_bytes ||
	    header->p_filesz > file_bytes - header->p_offset)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "the segment at physical 0x%" G_GINT64_MODIFIER "x is cut off",
				     header->p_paddr);
	g_array_append_val(self->segments, segment);
	return true;
}

static bool load_headers(HvpCore *self, Elf *elf, guint64 file_bytes, GError **error)
{
	size_t count;

	if (elf_getphdrnum(elf, &count) != 0 || count > MAX_SEGMENTS)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "bad program headers");
	for (size_t i = 0; i < count; i++) {
		GElf_Phdr header;

		if (gelf_getphdr(elf, (int)i, &header) == NULL)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA, "bad program headers");
		if (header.p_type == PT_LOAD && !load_segment(self, &header, file_bytes, error))
			return false;
		if (header.p_type == PT_NOTE && !load_notes(self, &header, error))
			return false;
	}
	if (self->segments->len == 0 || self->registers->len == 0)
		return hvp_error_set(
			error, HVP_ERROR_BAD_DATA,
			"no memory or no vCPU in it (not a dump by dump-guest-memory)");
	return true;
}

static bool load_core(HvpCore *self, GError **error)
{
	struct stat status;
	GElf_Ehdr header;
	Elf *elf;
	bool ok;

	if (fstat(self->fd, &status) != 0 || !S_ISREG(status.st_mode))
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "not a regular file");
	elf_version(EV_CURRENT);
	elf = elf_begin(self->fd, ELF_C_READ, NULL);
	ok = elf != NULL && gelf_getehdr(elf, &header) != NULL && header.e_type == ET_CORE &&
	     header.e_machine == EM_X86_64;
	if (!ok)
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "not an x86-64 ELF core dump");
	else
		ok = load_headers(self, elf, (guint64)status.st_size, error);
	elf_end(elf);
	return ok;
}

HvpCore *hvp_core_open(const char *path, GError **error)
{
	g_autoptr(HvpCore) self = g_new0(HvpCore, 1);

	self->physical.ops = &core_ops;
	self->segments = g_array_new(FALSE, FALSE, sizeof(Segment));
	self->registers = g_array_new(FALSE, FALSE, sizeof(HvpRegisters));
	self->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (self->fd < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INVALID_ARGUMENT, "%s", path);
		return NULL;
	}
	if (!load_core(self, error)) {
		g_prefix_error(error, "%s: ", path);
		return NULL;
	}
	return g_steal_pointer(&self);
}
