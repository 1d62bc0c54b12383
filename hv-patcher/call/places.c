/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "call/places.h"

#include "guest/ftrace.h"
#include "guest/instructions.h"
#include "guest/text-sites.h"

#include <string.h>

/* Functions that are looked at for padding behind them, and how long they may be. */
#define MAX_FUNCTIONS 512U
#define MAX_FUNCTION_BYTES 4096U

struct HvpPlaces {
	HvpKernel *kernel;
	HvpKeeperTrapKind kind;
	/* Of spin traps only. */
	HvpFtrace *ftrace;
	HvpTextSites *text_sites;
	GArray *spins; /* HvpKeeperSpin */
	guint announced;
};

void hvp_places_free(HvpPlaces *self)
{
	if (self == NULL)
		return;
	hvp_ftrace_free(self->ftrace);
	hvp_text_sites_free(self->text_sites);
	g_array_unref(self->spins);
	g_free(self);
}

HvpPlaces *hvp_places_new(HvpKernel *kernel, HvpKeeperTrapKind kind, GError **error)
{
	g_autoptr(HvpPlaces) self = g_new0(HvpPlaces, 1);

	self->kernel = kernel;
	self->kind = kind;
	self->spins = g_array_sized_new(FALSE, TRUE, sizeof(HvpKeeperSpin), HVP_KEEPER_MAX_SPINS);
	if (kind == HVP_KEEPER_BREAKPOINTS)
		return g_steal_pointer(&self);
	self->ftrace = hvp_ftrace_read(kernel, error);
	self->text_sites = self->ftrace ? hvp_text_sites_read(kernel, error) : NULL;
	return self->text_sites != NULL ? g_steal_pointer(&self) : NULL;
}

static bool has(const HvpPlaces *self, HvpGva pc)
{
	for (guint i = 0; i < self->spins->len; i++)
		if (g_array_index(self->spins, HvpKeeperSpin, i).pc.value == pc.value)
			return true;
	return false;
}

static bool refuse(HvpGva pc, const char *why, GError **error)
{
	return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "no spin trap at 0x%" G_GINT64_MODIFIER "x: %s", pc.value, why);
}

/* @pc begins an instruction, or is padding; [@pc, @pc + @length_bytes) is nobody else's. */
static bool add_spin(HvpPlaces *self, HvpGva pc, const guint8 *bytes, guint length_bytes,
		     const HvpEmulation *emulation, GError **error)
{
	HvpGvaRange range = { pc, hvp_gva_add(pc, length_bytes) };
	HvpKeeperSpin spin = { .pc = pc, .emulation = *emulation };

	if (!hvp_gva_range_contains(hvp_kernel_get_text(self->kernel), pc))
		return refuse(pc, "it is not in the kernel's text", error);
	if (length_bytes < HVP_KEEPER_SPIN_BYTES)
		return refuse(pc, "the instruction there is too short", error);
	if ((pc.value & HVP_PAGE_MASK) + HVP_KEEPER_SPIN_BYTES > HVP_PAGE_SIZE)
		return refuse(pc, "a page ends there", error);
	if (self->spins->len == HVP_KEEPER_MAX_SPINS)
		return refuse(pc, "there are too many", error);
	memcpy(spin.old_bytes, bytes, HVP_KEEPER_SPIN_BYTES);
	if (!hvp_text_sites_check(self->text_sites, range, error) ||
	    !hvp_text_sites_check_kprobes(self->kernel, range, error) ||
	    !hvp_address_space_translate(hvp_kernel_get_space(self->kernel), pc, &spin.gpa, error))
		return false;
	g_array_append_val(self->spins, spin);
	return true;
}

static bool add_at(HvpPlaces *self, HvpGva pc, HvpPlacesOthers others, GError **error)
{
	guint8 bytes[HVP_INSTRUCTION_MAX_BYTES];
	HvpEmulation emulation = { .kind = HVP_EMULATION_NONE };
	HvpInstruction instruction;

	if (has(self, pc))
		return true;
	if (!hvp_address_space_read(hvp_kernel_get_space(self->kernel), pc, bytes, sizeof bytes,
				    error) ||
	    !hvp_instructions_decode(bytes, sizeof bytes, pc, &instruction, error) ||
	    (others == HVP_PLACES_PASS &&
	     !hvp_instructions_emulate(bytes, sizeof bytes, pc, &emulation, error)))
		return false;
	return add_spin(self, pc, bytes, instruction.length_bytes, &emulation, error);
}

bool hvp_places_add_entry(HvpPlaces *self, HvpGva function, HvpPlacesOthers others, HvpGva *ret_pc,
			  GError **error)
{
	HvpFtraceRecord slot;
	HvpGva pc;

	*ret_pc = function;
	if (self->kind == HVP_KEEPER_BREAKPOINTS)
		return true;
	if (!hvp_ftrace_find(self->ftrace, function, &slot, error))
		return false;
	pc = hvp_gva_add(slot.ip, HVP_FTRACE_SLOT_BYTES);
	if (!add_at(self, pc, others, error))
		return false;
	*ret_pc = pc;
	return true;
}

bool hvp_places_add_instruction(HvpPlaces *self, HvpGva pc, GError **error)
{
	return self->kind == HVP_KEEPER_BREAKPOINTS || add_at(self, pc, HVP_PLACES_PASS, error);
}

/* Behind the function that lies in @range. */
static bool add_padding(HvpPlaces *self, HvpGvaRange range, HvpGva *ret_pc)
{
	static const HvpEmulation none = { .kind = HVP_EMULATION_NONE };
	guint8 code[MAX_FUNCTION_BYTES];
	guint64 length_bytes = hvp_gva_range_size(range);
	HvpGvaRange padding;

	if (length_bytes > sizeof code ||
	    !hvp_address_space_read(hvp_kernel_get_space(self->kernel), range.start, code,
				    length_bytes, NULL) ||
	    !hvp_instructions_find_padding(code, length_bytes, range.start, &padding, NULL) ||
	    hvp_gva_range_size(padding) < HVP_KEEPER_SPIN_BYTES)
		return false;
	if (self->kind == HVP_KEEPER_SPINS &&
	    !add_spin(self, padding.start, code + (padding.start.value - range.start.value),
		      HVP_KEEPER_SPIN_BYTES, &none, NULL))
		return false;
	*ret_pc = padding.start;
	return true;
}

bool hvp_places_add_unused(HvpPlaces *self, HvpGva function, HvpGva *ret_pc, GError **error)
{
	HvpGvaRange text = hvp_kernel_get_text(self->kernel), range;
	HvpGva at = function;
	const char *name;

	for (guint i = 0; i < MAX_FUNCTIONS && hvp_gva_range_contains(text, at); i++) {
		if (!hvp_kernel_find_address(self->kernel, at, &name, &range) ||
		    range.end.value <= at.value)
			break;
		if (add_padding(self, range, ret_pc))
			return true;
		at = range.end;
	}
	return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "no place in the guest kernel where a call could return to");
}

bool hvp_places_announce(HvpPlaces *self, HvpKeeper *keeper, GError **error)
{
	if (self->announced == self->spins->len)
		return true;
	if (!hvp_keeper_set_spins(keeper, (const HvpKeeperSpin *)(void *)self->spins->data,
				  self->spins->len, error))
		return false;
	self->announced = self->spins->len;
	return true;
}
