/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mem/address-space.h"

#include "base/bytes.h"

#define CACHE_SLOTS 256U
#define BATCH_PIECES 512U

#define ENTRY_PRESENT (1ULL << 0)
#define ENTRY_WRITABLE (1ULL << 1)
#define ENTRY_LARGE (1ULL << 7)
#define ENTRY_NO_EXECUTE (1ULL << 63)
#define ENTRY_ADDRESS 0x000ffffffffff000ULL
#define LARGE_PAGE_PAT (1ULL << 12)
#define CR4_LA57 (1ULL << 12)

typedef struct {
	guint64 gpa; /* of the table page; G_MAXUINT64 when empty */
	guint8 entries[HVP_PAGE_SIZE];
} TableSlot;

struct HvpAddressSpace {
	HvpPhysical *physical;
	guint64 root_gpa;
	guint top_level;
	TableSlot *slots;
	HvpPhysicalRead pieces[BATCH_PIECES];
	HvpVirtualRead *owners[BATCH_PIECES];
};

HvpAddressSpace *hvp_address_space_new(HvpPhysical *physical, guint64 cr3, guint64 cr4)
{
	HvpAddressSpace *self = g_new0(HvpAddressSpace, 1);

	self->physical = physical;
	self->root_gpa = cr3 & ENTRY_ADDRESS;
	self->top_level = (cr4 & CR4_LA57) ? 5 : 4;
	self->slots = g_new(TableSlot, CACHE_SLOTS);
	hvp_address_space_forget(self);
	return self;
}

void hvp_address_space_free(HvpAddressSpace *self)
{
	if (self == NULL)
		return;
	g_free(self->slots);
	g_free(self);
}

HvpPhysical *hvp_address_space_get_physical(HvpAddressSpace *self)
{
	return self->physical;
}

void hvp_address_space_set_root(HvpAddressSpace *self, guint64 cr3)
{
	self->root_gpa = cr3 & ENTRY_ADDRESS;
}

void hvp_address_space_forget(HvpAddressSpace *self)
{
	for (guint i = 0; i < CACHE_SLOTS; i++)
		self->slots[i].gpa = G_MAXUINT64;
}

static bool load_entry(HvpAddressSpace *self, guint64 table_gpa, guint index, guint64 *ret_entry,
		       GError **error)
{
	TableSlot *slot = &self->slots[(table_gpa / HVP_PAGE_SIZE) % CACHE_SLOTS];

	if (slot->gpa != table_gpa) {
		slot->gpa = G_MAXUINT64;
		if (!hvp_physical_read(self->physical, hvp_gpa(table_gpa), slot->entries,
				       sizeof slot->entries, error))
			return false;
		slot->gpa = table_gpa;
	}
	*ret_entry = hvp_load_u64(&slot->entries[index * 8]);
	return true;
}

/* Bits of a virtual address below the index of @level: 12, 21, 30, 39, 48. */
static guint level_shift(guint level)
{
	return 12 + 9 * (level - 1);
}

static bool is_canonical(HvpAddressSpace *self, HvpGva gva)
{
	guint sign_bit = level_shift(self->top_level) + 8;
	guint64 upper = gva.value >> sign_bit;

	return upper == 0 || upper == G_MAXUINT64 >> sign_bit;
}

static bool check_large(guint level, guint64 entry, HvpGva gva, GError **error)
{
	guint64 reserved = ENTRY_ADDRESS & ((1ULL << level_shift(level)) - 1) & ~LARGE_PAGE_PAT;

	if (level > 3 || (entry & reserved) != 0)
		return hvp_error_set(error, HVP_ERROR_FAULT,
				     "reserved bits in the level-%u page-table entry 0x%"
				     G_GINT64_MODIFIER "x of 0x%" G_GINT64_MODIFIER "x",
				     level, entry, gva.value);
	return true;
}

bool hvp_address_space_walk(HvpAddressSpace *self, HvpGva gva, HvpTranslation *ret_translation,
			    GError **error)
{
	HvpTranslation found = { .writable = true, .executable = true };
	guint64 table = self->root_gpa;

	if (!is_canonical(self, gva))
		return hvp_error_set(error, HVP_ERROR_FAULT,
				     "0x%" G_GINT64_MODIFIER "x is not a canonical address",
				     gva.value);
	for (guint level = self->top_level; level >= 1; level--) {
		guint64 entry, mask = (1ULL << level_shift(level)) - 1;

		if (!load_entry(self, table, (gva.value >> level_shift(level)) & 511, &entry,
				error))
			return false;
		found.block_bytes = mask + 1;
		if (!(entry & ENTRY_PRESENT))
			break;
		found.writable &= (entry & ENTRY_WRITABLE) != 0;
		found.executable &= (entry & ENTRY_NO_EXECUTE) == 0;
		if (level > 1 && !(entry & ENTRY_LARGE)) {
			table = entry & ENTRY_ADDRESS;
			continue;
		}
		if (level > 1 && !check_large(level, entry, gva, error))
			return false;
		found.mapped = true;
		found.gpa = hvp_gpa((entry & ENTRY_ADDRESS & ~mask) | (gva.value & mask));
		break;
	}
	*ret_translation = found;
	return true;
}

bool hvp_address_space_translate(HvpAddressSpace *self, HvpGva gva, HvpGpa *ret_gpa,
				 GError **error)
{
	HvpTranslation found;

	if (!hvp_address_space_walk(self, gva, &found, error))
		return false;
	if (!found.mapped)
		return hvp_error_set(error, HVP_ERROR_FAULT,
				     "0x%" G_GINT64_MODIFIER "x is not mapped in the guest",
				     gva.value);
	*ret_gpa = found.gpa;
	return true;
}

static bool flush_pieces(HvpAddressSpace *self, gsize count, GError **error)
{
	if (!hvp_physical_read_batch(self->physical, self->pieces, count, error))
		return false;
	for (gsize i = 0; i < count; i++)
		self->owners[i]->ok &= self->pieces[i].ok;
	return true;
}

/*
 * The physical piece at @done_bytes into @read; length 0 when it faults. False only when
 * memory as a whole is gone.
 */
static bool next_piece(HvpAddressSpace *self, const HvpVirtualRead *read, gsize done_bytes,
		       HvpPhysicalRead *ret_piece, GError **error)
{
	HvpPhysicalRead piece = { 0 };
	HvpGva gva = hvp_gva_add(read->gva, done_bytes);
	HvpTranslation found = { 0 };
	GError *reason = NULL;

	*ret_piece = piece;
	if (gva.value < read->gva.value)
		return true;
	if (!hvp_address_space_walk(self, gva, &found, &reason) &&
	    !g_error_matches(reason, HVP_ERROR, HVP_ERROR_FAULT)) {
		g_propagate_error(error, reason);
		return false;
	}
	g_clear_error(&reason);
	if (!found.mapped)
		return true;
	piece.gpa = found.gpa;
	piece.buffer = (guint8 *)read->buffer + done_bytes;
	piece.length_bytes = MIN(read->length_bytes - done_bytes,
				 found.block_bytes - (gva.value & (found.block_bytes - 1)));
	*ret_piece = piece;
	return true;
}

bool hvp_address_space_read_batch(HvpAddressSpace *self, HvpVirtualRead *reads, gsize count,
				  GError **error)
{
	gsize used = 0;

	for (gsize i = 0; i < count; i++) {
		gsize done = 0;

		reads[i].ok = true;
		while (done < reads[i].length_bytes) {
			HvpPhysicalRead piece;

			if (!next_piece(self, &reads[i], done, &piece, error))
				return false;
			if (piece.length_bytes == 0) {
				reads[i].ok = false;
				break;
			}
			self->pieces[used] = piece;
			self->owners[used++] = &reads[i];
			done += piece.length_bytes;
			if (used == BATCH_PIECES) {
				if (!flush_pieces(self, used, error))
					return false;
				used = 0;
			}
		}
	}
	return flush_pieces(self, used, error);
}

bool hvp_address_space_read(HvpAddressSpace *self, HvpGva gva, void *ret_bytes,
			    gsize length_bytes, GError **error)
{
	HvpVirtualRead read = { gva, ret_bytes, length_bytes, false };

	if (!hvp_address_space_read_batch(self, &read, 1, error))
		return false;
	if (!read.ok)
		return hvp_error_set(error, HVP_ERROR_FAULT,
				     "no guest memory at 0x%" G_GINT64_MODIFIER
				     "x (%" G_GSIZE_FORMAT " bytes)", gva.value, length_bytes);
	return true;
}

bool hvp_address_space_read_u32(HvpAddressSpace *self, HvpGva gva, guint32 *ret_value,
				GError **error)
{
	guint8 bytes[4];

	if (!hvp_address_space_read(self, gva, bytes, sizeof bytes, error))
		return false;
	*ret_value = hvp_load_u32(bytes);
	return true;
}

bool hvp_address_space_read_u64(HvpAddressSpace *self, HvpGva gva, guint64 *ret_value,
				GError **error)
{
	guint8 bytes[8];

	if (!hvp_address_space_read(self, gva, bytes, sizeof bytes, error))
		return false;
	*ret_value = hvp_load_u64(bytes);
	return true;
}

bool hvp_address_space_read_string(HvpAddressSpace *self, HvpGva gva, char *ret_string,
				   gsize max_bytes, GError **error)
{
	gsize done = 0;

	/* By pieces that stay in one page: the string may end before an unmapped one. */
	while (done < max_bytes) {
		HvpGva at = hvp_gva_add(gva, done);
		gsize piece = MIN(max_bytes - done, HVP_PAGE_SIZE - (at.value & HVP_PAGE_MASK));

		if (at.value < gva.value)
			return hvp_error_set(error, HVP_ERROR_FAULT,
					     "the string at 0x%" G_GINT64_MODIFIER
					     "x passes the end of the address space", gva.value);
		if (!hvp_address_space_read(self, at, ret_string + done, piece, error))
			return false;
		if (memchr(ret_string + done, 0, piece) != NULL)
			return true;
		done += piece;
	}
	return hvp_error_set(error, HVP_ERROR_BAD_DATA,
			     "the string at 0x%" G_GINT64_MODIFIER "x does not end within %"
			     G_GSIZE_FORMAT " bytes", gva.value, max_bytes);
}
