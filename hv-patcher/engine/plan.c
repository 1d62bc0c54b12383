/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/plan.h"

#include "base/bytes.h"
#include "guest/instructions.h"

#include <string.h>

#define OPCODE_JUMP_REL32 0xe9
#define OPCODE_INT3 0xcc

void hvp_plan_clear_facts(HvpFunctionFacts *self)
{
	g_clear_pointer(&self->object, g_free);
	g_clear_pointer(&self->name, g_free);
}

/* What hangs on where the function lies. */
static bool gather_place(HvpKernel *kernel, const HvpFtrace *ftrace, const char *name,
			 HvpFunctionFacts *facts, GError **error)
{
	if (!hvp_gva_range_contains(facts->text, facts->old.start))
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "%s is not in the kernel's text (init code, data)", name);
	if (!hvp_ftrace_find(ftrace, facts->old.start, &facts->slot, error)) {
		g_prefix_error(error, "%s: ", name);
		(*error)->code = HVP_ERROR_UNSUPPORTED;
		return false;
	}
	facts->code_bytes = MIN(hvp_gva_range_size(facts->old), HVP_PLAN_CODE_BYTES);
	return hvp_address_space_read(hvp_kernel_get_space(kernel), facts->old.start, facts->code,
				      facts->code_bytes, error);
}

static void gather_object(HvpKernel *kernel, const HvpModule *object, HvpFunctionFacts *facts)
{
	facts->text = hvp_kernel_get_text(kernel);
	if (object == NULL)
		return;
	facts->text = object->text;
	facts->module = object->address;
}

bool hvp_plan_gather(HvpKernel *kernel, HvpModules *modules, HvpModule *object,
		     const HvpFtrace *ftrace, const char *name, guint64 position,
		     HvpFunctionFacts *ret_facts, GError **error)
{
	HvpFunctionFacts facts = { .position = position };

	gather_object(kernel, object, &facts);
	if (object == NULL
		    ? !hvp_kernel_function(kernel, name, position, &facts.old, error)
		    : !hvp_modules_function(modules, object, name, position, &facts.old, error))
		return false;
	if (!gather_place(kernel, ftrace, name, &facts, error))
		return false;
	facts.name = g_strdup(name);
	facts.object = object ? g_strdup(object->name) : NULL;
	*ret_facts = facts;
	return true;
}

bool hvp_plan_gather_at(HvpKernel *kernel, HvpModules *modules, HvpModule *object,
			const HvpFtrace *ftrace, HvpGva start, HvpFunctionFacts *ret_facts,
			GError **error)
{
	HvpFunctionFacts facts = { 0 };
	const char *name;

	gather_object(kernel, object, &facts);
	if (!hvp_modules_symbolize(modules, object, start, &name, &facts.old) ||
	    facts.old.start.value != start.value)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
				     "no function of module %s starts at 0x%" G_GINT64_MODIFIER "x",
				     object->name, start.value);
	if (!gather_place(kernel, ftrace, name, &facts, error))
		return false;
	facts.name = g_strdup(name);
	facts.object = g_strdup(object->name);
	*ret_facts = facts;
	return true;
}

static bool no_room(const HvpFunctionFacts *facts, GError **error)
{
	return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "%s is too short (%" G_GUINT64_FORMAT " bytes) for a jump behind its "
			     "fentry slot",
			     facts->name, hvp_gva_range_size(facts->old));
}

static bool prefix_name(const HvpFunctionFacts *facts, GError **error)
{
	g_prefix_error(error, "%s: ", facts->name);
	return false;
}

/* The site may not already lead somewhere else, nor be in the middle of a change. */
static bool check_first(const HvpFunctionFacts *facts, const guint8 *code, gsize length_bytes,
			HvpGva site, HvpGvaRange image, GError **error)
{
	HvpInstruction first;

	if (!hvp_instructions_decode(code, length_bytes, site, &first, error))
		return prefix_name(facts, error);
	if (first.kind == HVP_INSTRUCTION_BREAKPOINT)
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "%s holds a breakpoint behind its fentry slot", facts->name);
	if (first.kind == HVP_INSTRUCTION_JUMP && !hvp_gva_range_contains(image, first.target) &&
	    !hvp_gva_range_contains(facts->text, first.target))
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "%s is patched already (it jumps to 0x%" G_GINT64_MODIFIER
				     "x, outside the kernel's text)",
				     facts->name, first.target.value);
	return true;
}

bool hvp_plan_site(const HvpFunctionFacts *facts, const HvpTextSites *sites, HvpGvaRange image,
		   HvpSite *ret_site, GError **error)
{
	gsize slot = facts->slot.ip.value - facts->old.start.value;
	gsize at = slot + HVP_FTRACE_SLOT_BYTES;
	HvpSite site = { .site = hvp_gva_add(facts->old.start, at) };
	guint covered;

	if (at + HVP_PLAN_JUMP_BYTES > facts->code_bytes)
		return no_room(facts, error);
	if (facts->code[slot] == OPCODE_INT3)
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "the guest is changing %s's fentry slot", facts->name);
	if (!check_first(facts, facts->code + at, facts->code_bytes - at, site.site, image, error))
		return false;
	if (!hvp_instructions_cover(facts->code + at, facts->code_bytes - at, site.site,
				    HVP_PLAN_JUMP_BYTES, &covered, error))
		return prefix_name(facts, error);
	if (covered > HVP_PLAN_MAX_SITE_BYTES)
		return no_room(facts, error);
	site.length_bytes = covered;
	memcpy(site.old_bytes, facts->code + at, covered);
	if (sites != NULL &&
	    !hvp_text_sites_check(
		    sites, (HvpGvaRange){ site.site, hvp_gva_add(site.site, covered) }, error))
		return prefix_name(facts, error);
	*ret_site = site;
	return true;
}

bool hvp_plan_jump(HvpSite *site, HvpGva target, GError **error)
{
	gint64 distance = (gint64)(target.value - (site->site.value + HVP_PLAN_JUMP_BYTES));

	if (distance != (gint64)(gint32)distance)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "0x%" G_GINT64_MODIFIER
				     "x is out of reach of a jump at 0x%" G_GINT64_MODIFIER "x",
				     target.value, site->site.value);
	site->new_bytes[0] = OPCODE_JUMP_REL32;
	hvp_store_u32(site->new_bytes + 1, (guint32)distance);
	hvp_instructions_fill_nops(site->new_bytes + HVP_PLAN_JUMP_BYTES,
				   site->length_bytes - HVP_PLAN_JUMP_BYTES);
	return true;
}

bool hvp_plan_decode_jump(HvpGva site, const guint8 *bytes, guint length_bytes, HvpGva *ret_target)
{
	guint8 nops[HVP_PLAN_MAX_SITE_BYTES];

	if (length_bytes < HVP_PLAN_JUMP_BYTES || length_bytes > HVP_PLAN_MAX_SITE_BYTES ||
	    bytes[0] != OPCODE_JUMP_REL32)
		return false;
	hvp_instructions_fill_nops(nops, length_bytes - HVP_PLAN_JUMP_BYTES);
	if (memcmp(bytes + HVP_PLAN_JUMP_BYTES, nops, length_bytes - HVP_PLAN_JUMP_BYTES) != 0)
		return false;
	*ret_target = hvp_gva(site.value + HVP_PLAN_JUMP_BYTES +
			      (guint64)(gint64)(gint32)hvp_load_u32(bytes + 1));
	return true;
}

/* One piece of a site: within a page, and no longer than the keeper takes. */
static bool append_piece(HvpAddressSpace *space, const HvpSite *site, guint at, guint length,
			 GArray *writes, GError **error)
{
	HvpKeeperWrite write = { .length_bytes = length };

	if (!hvp_address_space_translate(space, hvp_gva_add(site->site, at), &write.gpa, error))
		return false;
	memcpy(write.old_bytes, site->old_bytes + at, length);
	memcpy(write.new_bytes, site->new_bytes + at, length);
	g_array_append_val(writes, write);
	return true;
}

bool hvp_plan_writes(HvpAddressSpace *space, const HvpSite *site, GArray *writes, GError **error)
{
	for (guint at = 0; at < site->length_bytes;) {
		guint64 address = site->site.value + at;
		guint left = (guint)(HVP_PAGE_SIZE - (address & HVP_PAGE_MASK));
		guint length = MIN(MIN(site->length_bytes - at, left), HVP_KEEPER_WRITE_BYTES);

		if (!append_piece(space, site, at, length, writes, error))
			return false;
		at += length;
	}
	if (writes->len > HVP_KEEPER_MAX_WRITES)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "more than %u places to change",
				     HVP_KEEPER_MAX_WRITES);
	return true;
}
