/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/klp-core.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>

#define MAX_PATCHES 4096U
/* MODULE_NAME_LEN: 64 - sizeof(unsigned long) */
#define ALIAS_BYTES 56U

static bool read_u64(HvpKernel *kernel, HvpGva base, HvpLayoutItem item, guint64 *ret_value,
		     GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);

	return hvp_layout_require(layout, item, error) &&
	       hvp_address_space_read_u64(hvp_kernel_get_space(kernel),
					  hvp_gva_add(base, hvp_layout_get(layout, item)),
					  ret_value, error);
}

static bool read_enabled(HvpKernel *kernel, HvpGva patch, bool *ret_enabled, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	guint8 enabled;

	if (!hvp_layout_require(layout, HVP_AT_KLP_PATCH_ENABLED, error) ||
	    !hvp_address_space_read(
		    hvp_kernel_get_space(kernel),
		    hvp_gva_add(patch, hvp_layout_get(layout, HVP_AT_KLP_PATCH_ENABLED)), &enabled,
		    1, error))
		return false;
	*ret_enabled = enabled != 0;
	return true;
}

bool hvp_klp_core_find(HvpKernel *kernel, HvpGva module, HvpKlpCore *ret_core, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	HvpGva head;
	guint64 at;

	*ret_core = (HvpKlpCore){ 0 };
	if (!hvp_kernel_has_symbol(kernel, "klp_patches"))
		return true;
	if (!hvp_layout_require(layout, HVP_AT_KLP_PATCH_LIST, error) ||
	    !hvp_kernel_symbol(kernel, "klp_patches", &head, error) ||
	    !hvp_address_space_read_u64(hvp_kernel_get_space(kernel), head, &at, error))
		return false;
	for (guint i = 0; at != head.value; i++) {
		HvpGva patch = hvp_gva(at - hvp_layout_get(layout, HVP_AT_KLP_PATCH_LIST));
		guint64 owner;

		if (i >= MAX_PATCHES)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "the guest's list of livepatches does not end");
		if (!read_u64(kernel, patch, HVP_AT_KLP_PATCH_MOD, &owner, error))
			return false;
		if (owner == module.value) {
			ret_core->patch = patch;
			return read_enabled(kernel, patch, &ret_core->enabled, error);
		}
		if (!hvp_address_space_read_u64(hvp_kernel_get_space(kernel), hvp_gva(at), &at,
						error))
			return false;
	}
	return true;
}

bool hvp_klp_core_read_transition(HvpKernel *kernel, HvpGva *ret_patch, GError **error)
{
	ret_patch->value = 0;
	return !hvp_kernel_has_symbol(kernel, "klp_transition_patch") ||
	       hvp_kernel_read_u64(kernel, "klp_transition_patch", &ret_patch->value, error);
}

bool hvp_klp_core_hasten(HvpBorrow *borrow, HvpKernel *kernel, HvpDeadline deadline, GError **error)
{
	HvpGva patch;

	hvp_address_space_forget(hvp_kernel_get_space(kernel));
	if (!hvp_klp_core_read_transition(kernel, &patch, error))
		return false;
	return patch.value == 0 ||
	       hvp_borrow_hasten_work(borrow, "klp_transition_work", "klp_transition_work_fn",
				      deadline, error);
}

gsize hvp_klp_core_alias_bytes(guint object_count)
{
	return (gsize)object_count * ALIAS_BYTES;
}

HvpGva hvp_klp_core_alias(HvpGva aliases, guint index)
{
	return hvp_gva_add(aliases, (guint64)index * ALIAS_BYTES);
}

static bool write_member(HvpBorrow *borrow, HvpKernel *kernel, HvpGva base, HvpLayoutItem item,
			 guint64 value, gsize length_bytes, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	guint8 bytes[8];

	hvp_store_u64(bytes, value);
	return hvp_layout_require(layout, item, error) &&
	       hvp_borrow_write(borrow, hvp_gva_add(base, hvp_layout_get(layout, item)), bytes,
				length_bytes, error);
}

/* vmlinux's object goes to the front of the guest's array, so that the core can start behind. */
static bool move_vmlinux_first(HvpBorrow *borrow, HvpKernel *kernel, HvpKlpPatch *patch,
			       bool *ret_has_vmlinux, GError **error)
{
	guint32 size = hvp_layout_get(hvp_kernel_get_layout(kernel), HVP_AT_KLP_OBJECT_SIZE);
	g_autofree guint8 *bytes = NULL;
	guint index = 0;

	while (index < patch->objects->len && hvp_klp_patch_get(patch, index)->name != NULL)
		index++;
	*ret_has_vmlinux = index < patch->objects->len;
	if (!*ret_has_vmlinux || index == 0)
		return true;
	bytes = g_malloc((gsize)(index + 2) * size);
	if (!hvp_address_space_read(hvp_kernel_get_space(kernel), patch->first_object, bytes + size,
				    (gsize)(index + 1) * size, error))
		return false;
	memcpy(bytes, bytes + (gsize)(index + 1) * size, size);
	if (!hvp_borrow_write(borrow, patch->first_object, bytes, (gsize)(index + 1) * size, error))
		return false;
	g_ptr_array_insert(patch->objects, 0, g_ptr_array_steal_index(patch->objects, index));
	for (guint i = 0; i <= index; i++)
		hvp_klp_patch_get(patch, i)->address = hvp_gva_add(patch->first_object,
								   (guint64)i * size);
	return true;
}

/* Each needs a name of its own, which no module has, for its folder in sysfs. */
static bool write_alias(HvpBorrow *borrow, HvpKernel *kernel, const HvpKlpObject *object,
			HvpGva alias, GError **error)
{
	char text[ALIAS_BYTES] = { 0 };

	/* The name comes back by cutting the end off: a number in its place would not do. */
	if (g_snprintf(text, sizeof text, "%s" HVP_KLP_ALIAS_SUFFIX, object->name) >=
	    (gint)sizeof text)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the patch changes a module whose name is too long: %s",
				     object->name);
	return hvp_borrow_write(borrow, alias, text, sizeof text, error) &&
	       write_member(borrow, kernel, object->address, HVP_AT_KLP_OBJECT_NAME, alias.value, 8,
			    error);
}

static bool enabling_failed(gint64 value, GError **error)
{
	if (value == -EBUSY || value == -ENOMEM)
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "the guest's own livepatch core does not take the patch: %s",
				     g_strerror((int)-value));
	return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "the guest's own livepatch core refuses the patch: %s (its log says "
			     "why)",
			     g_strerror((int)-value));
}

bool hvp_klp_core_restore_objects(HvpBorrow *borrow, HvpKernel *kernel, HvpGva patch, HvpGva first,
				  GError **error)
{
	return write_member(borrow, kernel, patch, HVP_AT_KLP_PATCH_OBJS, first.value, 8, error);
}

bool hvp_klp_core_enable(HvpBorrow *borrow, HvpKernel *kernel, HvpKlpPatch *patch,
			 HvpDeadline deadline, GError **error)
{
	guint32 size = hvp_layout_get(hvp_kernel_get_layout(kernel), HVP_AT_KLP_OBJECT_SIZE);
	guint64 argument = patch->address.value, value;
	HvpGva first = patch->first_object;
	bool has_vmlinux;

	if (!move_vmlinux_first(borrow, kernel, patch, &has_vmlinux, error))
		return false;
	for (guint i = 0; i < patch->objects->len; i++) {
		const HvpKlpObject *object = hvp_klp_patch_get(patch, i);

		if (object->name != NULL &&
		    !write_alias(borrow, kernel, object, hvp_klp_core_alias(patch->aliases, i),
				 error))
			return false;
	}
	if (has_vmlinux)
		first = hvp_gva_add(first, size);
	/* Replacing is our business: the core would look at it once more when it is done. */
	if ((patch->replace && !write_member(borrow, kernel, patch->address,
					     HVP_AT_KLP_PATCH_REPLACE, 0, 1, error)) ||
	    !write_member(borrow, kernel, patch->address, HVP_AT_KLP_PATCH_OBJS, first.value, 8,
			  error) ||
	    !hvp_borrow_call_name(borrow, "klp_enable_patch", &argument, 1, deadline, &value,
				  error) ||
	    !hvp_klp_core_restore_objects(borrow, kernel, patch->address, patch->first_object,
					  error))
		return false;
	return (gint32)value == 0 || enabling_failed((gint32)value, error);
}

/* echo 0 > /sys/kernel/livepatch/PATCH/enabled, from inside. *@ret_value: its errno, or 0. */
static bool store_disabled(HvpBorrow *borrow, HvpKernel *kernel, HvpGva patch, HvpDeadline deadline,
			   gint64 *ret_value, GError **error)
{
	static const char text[] = "0";
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	HvpGva scratch = hvp_borrow_scratch(borrow), attribute;
	guint64 arguments[4], store, value;

	if (!hvp_layout_require(layout, HVP_AT_KLP_PATCH_KOBJ, error) ||
	    !hvp_kernel_symbol(kernel, "enabled_kobj_attr", &attribute, error) ||
	    !read_u64(kernel, attribute, HVP_AT_KOBJ_ATTRIBUTE_STORE, &store, error) ||
	    !hvp_borrow_write(borrow, scratch, text, sizeof text, error))
		return false;
	arguments[0] = patch.value + hvp_layout_get(layout, HVP_AT_KLP_PATCH_KOBJ);
	arguments[1] = attribute.value;
	arguments[2] = scratch.value;
	arguments[3] = strlen(text);
	if (!hvp_borrow_call(borrow, hvp_gva(store), arguments, 4, NULL, 0, NULL, deadline, &value,
			     error))
		return false;
	*ret_value = MIN((gint64)value, 0);
	return true;
}

bool hvp_klp_core_disable(HvpBorrow *borrow, HvpKernel *kernel, const HvpKlpCore *core,
			  HvpDeadline deadline, GError **error)
{
	gint64 value;

	if (!store_disabled(borrow, kernel, core->patch, deadline, &value, error))
		return false;
	/* EBUSY: at another transition; EINVAL: the guest's owner was quicker. */
	if (value == 0 || value == -EBUSY || value == -EINVAL)
		return true;
	return hvp_error_set(error, HVP_ERROR_CONFLICT,
			     "the guest's own livepatch core does not let go of the patch: %s",
			     g_strerror((int)-value));
}

/* An other name is the real one with something behind, which is cut off. */
static bool restore_name(HvpBorrow *borrow, HvpKernel *kernel, const HvpKlpObject *object,
			 GError **error)
{
	static const guint8 end = 0;
	char name[ALIAS_BYTES];
	guint64 at;

	if (!read_u64(kernel, object->address, HVP_AT_KLP_OBJECT_NAME, &at, error) ||
	    !hvp_address_space_read_string(hvp_kernel_get_space(kernel), hvp_gva(at), name,
					   sizeof name, error))
		return false;
	return !g_str_has_suffix(name, HVP_KLP_ALIAS_SUFFIX) ||
	       hvp_borrow_write(borrow, hvp_gva(at + strlen(name) - strlen(HVP_KLP_ALIAS_SUFFIX)),
				&end, sizeof end, error);
}

bool hvp_klp_core_present(HvpBorrow *borrow, HvpTarget *target, const HvpKlpPatch *patch,
			  const HvpPins *pins, GError **error)
{
	for (guint i = 0; i < hvp_klp_patch_count(patch); i++) {
		const HvpKlpObject *object = hvp_klp_patch_get(patch, i);
		HvpModule *module;

		if (object->name == NULL)
			continue;
		if (!restore_name(borrow, target->kernel, object, error))
			return false;
		if (hvp_pins_has_object(pins, target->modules, object, &module) &&
		    !write_member(borrow, target->kernel, object->address, HVP_AT_KLP_OBJECT_MOD,
				  module->address.value, 8, error))
			return false;
	}
	return true;
}
