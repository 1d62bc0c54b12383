/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/hidden-returns.h"

#include "base/bytes.h"

#define MAX_SHADOW_BYTES 4096U
/* FGRAPH_FRAME_OFFSET_MASK in kernel/trace/fgraph.c */
#define FRAME_OFFSET_MASK 0x3ffU

static bool read_task_u64(HvpKernel *kernel, HvpGva task, HvpLayoutItem item, guint64 *ret_value,
			  GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);

	return hvp_layout_require(layout, item, error) &&
	       hvp_address_space_read_u64(hvp_kernel_get_space(kernel),
					  hvp_gva_add(task, hvp_layout_get(layout, item)),
					  ret_value, error);
}

static bool not_found(HvpGva slot, GError **error)
{
	return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
			     "no true return address is kept for the slot at 0x%" G_GINT64_MODIFIER
			     "x",
			     slot.value);
}

/* The trampoline's own address in a node stands for a nested hook: look further. */
static bool find_rethook(HvpKernel *kernel, HvpGva task, HvpGva slot, HvpGva *ret_address,
			 GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	HvpAddressSpace *space = hvp_kernel_get_space(kernel);
	HvpGva trampoline;
	guint64 node;

	if (!hvp_layout_require(layout, HVP_AT_RETHOOK_LLIST, error) ||
	    !hvp_layout_require(layout, HVP_AT_RETHOOK_RETURN, error) ||
	    !hvp_layout_require(layout, HVP_AT_RETHOOK_FRAME, error) ||
	    !hvp_kernel_symbol(kernel, "arch_rethook_trampoline", &trampoline, error) ||
	    !read_task_u64(kernel, task, HVP_AT_TASK_RETHOOKS, &node, error))
		return false;
	for (guint i = 0; node != 0 && i < HVP_HIDDEN_RETURNS_MAX_NODES; i++) {
		HvpGva base = hvp_gva(node - hvp_layout_get(layout, HVP_AT_RETHOOK_LLIST));
		guint64 address, frame;

		if (!hvp_address_space_read_u64(
			    space, hvp_gva_add(base, hvp_layout_get(layout, HVP_AT_RETHOOK_RETURN)),
			    &address, error) ||
		    !hvp_address_space_read_u64(
			    space, hvp_gva_add(base, hvp_layout_get(layout, HVP_AT_RETHOOK_FRAME)),
			    &frame, error) ||
		    !hvp_address_space_read_u64(space, hvp_gva(node), &node, error))
			return false;
		if (frame == slot.value && address != trampoline.value) {
			*ret_address = hvp_gva(address);
			return true;
		}
	}
	return not_found(slot, error);
}

/* One task's shadow stack, copied. */
typedef struct {
	guint8 bytes[MAX_SHADOW_BYTES];
	gsize used_bytes;
	guint32 ret;
	guint32 retp;
	guint32 entry_bytes;
	HvpGva handler;
} Shadow;

static bool matches(const Shadow *shadow, gsize at, HvpGva slot, HvpGva *ret_address)
{
	guint64 address;

	if (at + shadow->entry_bytes > shadow->used_bytes ||
	    hvp_load_u64(shadow->bytes + at + shadow->retp) != slot.value)
		return false;
	address = hvp_load_u64(shadow->bytes + at + shadow->ret);
	/* Of tail calls only the last entry has the true address. */
	if (address == shadow->handler.value)
		return false;
	*ret_address = hvp_gva(address);
	return true;
}

static bool find_in_array(const Shadow *shadow, HvpGva slot, HvpGva *ret_address)
{
	for (gsize at = 0; at < shadow->used_bytes; at += shadow->entry_bytes)
		if (matches(shadow, at, slot, ret_address))
			return true;
	return false;
}

static bool find_in_words(const Shadow *shadow, HvpGva slot, HvpGva *ret_address)
{
	gsize word = shadow->used_bytes / 8;

	while (word > 0) {
		gsize distance = hvp_load_u64(shadow->bytes + --word * 8) & FRAME_OFFSET_MASK;

		if (distance == 0 || distance > word)
			return false;
		word -= distance;
		if (matches(shadow, word * 8, slot, ret_address))
			return true;
	}
	return false;
}

/* Reads what is in use of the task's shadow stack. */
static bool load_shadow(HvpKernel *kernel, HvpGva task, bool is_words, Shadow *ret_shadow,
			GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	HvpAddressSpace *space = hvp_kernel_get_space(kernel);
	guint64 stack;
	guint32 current;
	gint64 count;

	if (!hvp_layout_require(layout, HVP_AT_GRAPH_RET, error) ||
	    !hvp_layout_require(layout, HVP_AT_GRAPH_RETP, error) ||
	    !hvp_layout_require(layout, HVP_AT_GRAPH_SIZE, error) ||
	    !hvp_layout_require(layout, HVP_AT_TASK_CURR_RET_STACK, error) ||
	    !hvp_kernel_symbol(kernel, "return_to_handler", &ret_shadow->handler, error) ||
	    !read_task_u64(kernel, task, HVP_AT_TASK_RET_STACK, &stack, error) ||
	    !hvp_address_space_read_u32(
		    space, hvp_gva_add(task, hvp_layout_get(layout, HVP_AT_TASK_CURR_RET_STACK)),
		    &current, error))
		return false;
	ret_shadow->ret = hvp_layout_get(layout, HVP_AT_GRAPH_RET);
	ret_shadow->retp = hvp_layout_get(layout, HVP_AT_GRAPH_RETP);
	ret_shadow->entry_bytes = hvp_layout_get(layout, HVP_AT_GRAPH_SIZE);
	count = is_words ? (gint64)(gint32)current * 8
			 : ((gint64)(gint32)current + 1) * ret_shadow->entry_bytes;
	if (stack == 0 || count <= 0 || count > (gint64)sizeof ret_shadow->bytes ||
	    ret_shadow->ret + 8 > ret_shadow->entry_bytes ||
	    ret_shadow->retp + 8 > ret_shadow->entry_bytes)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND, "the task has no shadow stack");
	ret_shadow->used_bytes = (gsize)count;
	return hvp_address_space_read(space, hvp_gva(stack), ret_shadow->bytes,
				      ret_shadow->used_bytes, error);
}

static bool find_function_graph(HvpKernel *kernel, HvpGva task, HvpGva slot, HvpGva *ret_address,
				GError **error)
{
	/* The table of several tracers came with the words. */
	bool is_words = hvp_kernel_has_symbol(kernel, "fgraph_array");
	Shadow shadow;

	if (!load_shadow(kernel, task, is_words, &shadow, error))
		return false;
	if (is_words ? find_in_words(&shadow, slot, ret_address)
		     : find_in_array(&shadow, slot, ret_address))
		return true;
	return not_found(slot, error);
}

bool hvp_hidden_returns_find(HvpKernel *kernel, HvpGva task, HvpGva slot, HvpHiddenBy by,
			     HvpGva *ret_address, GError **error)
{
	return by == HVP_HIDDEN_BY_RETHOOK
		       ? find_rethook(kernel, task, slot, ret_address, error)
		       : find_function_graph(kernel, task, slot, ret_address, error);
}
