/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/klp-patch.h"

#include <string.h>

void hvp_klp_patch_free(HvpKlpPatch *self)
{
	if (self == NULL)
		return;
	g_ptr_array_unref(self->objects);
	g_array_unref(self->states);
	g_free(self);
}

static void function_clear(gpointer data)
{
	g_free(((HvpKlpFunction *)data)->name);
}

static void object_free(gpointer data)
{
	HvpKlpObject *object = data;

	g_free(object->name);
	g_array_unref(object->functions);
	g_free(object);
}

static HvpKlpObject *object_new(HvpGva address)
{
	HvpKlpObject *object = g_new0(HvpKlpObject, 1);

	object->address = address;
	object->functions = g_array_new(FALSE, TRUE, sizeof(HvpKlpFunction));
	g_array_set_clear_func(object->functions, function_clear);
	return object;
}

guint hvp_klp_patch_count(const HvpKlpPatch *self)
{
	return self->objects->len;
}

HvpKlpObject *hvp_klp_patch_get(const HvpKlpPatch *self, guint index)
{
	return g_ptr_array_index(self->objects, index);
}

static bool read_member(HvpKernel *kernel, HvpGva base, HvpLayoutItem item, guint64 *ret_value,
			GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);

	return hvp_layout_require(layout, item, error) &&
	       hvp_address_space_read_u64(hvp_kernel_get_space(kernel),
					  hvp_gva_add(base, hvp_layout_get(layout, item)),
					  ret_value, error);
}

/* A bool of C; false where the kernel has no such member. */
static bool read_flag(HvpKernel *kernel, HvpGva base, HvpLayoutItem item, bool *ret_value,
		      GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	guint8 value = 0;

	if (hvp_layout_has(layout, item) &&
	    !hvp_address_space_read(hvp_kernel_get_space(kernel),
				    hvp_gva_add(base, hvp_layout_get(layout, item)), &value, 1,
				    error))
		return false;
	*ret_value = value != 0;
	return true;
}

static bool read_function(HvpKernel *kernel, HvpGva at, HvpKlpObject *object, GError **error)
{
	char name[HVP_SYMBOLS_MAX_NAME_BYTES];
	HvpKlpFunction function = { 0 };
	guint64 name_address;

	if (!read_member(kernel, at, HVP_AT_KLP_FUNC_OLD_NAME, &name_address, error) ||
	    !read_member(kernel, at, HVP_AT_KLP_FUNC_NEW_FUNC, &function.new_function.value,
			 error) ||
	    !read_member(kernel, at, HVP_AT_KLP_FUNC_SYMPOS, &function.position, error) ||
	    !hvp_address_space_read_string(hvp_kernel_get_space(kernel), hvp_gva(name_address),
					   name, sizeof name, error))
		return false;
	if (function.new_function.value == 0)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "%s has no replacement (nop functions are the guest core's)",
				     name);
	function.name = g_strdup(name);
	g_array_append_val(object->functions, function);
	return true;
}

/*
 * Arrays end with an all-zero entry in hand-written modules; kpatch's have a NULL name
 * there, as the kernel's own klp_for_each_func_static asks for.
 */
static bool read_functions(HvpKernel *kernel, HvpGva funcs, HvpKlpPatch *patch,
			   HvpKlpObject *object, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	guint32 size;
	guint64 name;

	if (!hvp_layout_require(layout, HVP_AT_KLP_FUNC_SIZE, error))
		return false;
	size = hvp_layout_get(layout, HVP_AT_KLP_FUNC_SIZE);
	for (;; funcs = hvp_gva_add(funcs, size)) {
		if (!read_member(kernel, funcs, HVP_AT_KLP_FUNC_OLD_NAME, &name, error))
			return false;
		if (name == 0)
			return true;
		if (patch->function_count++ >= HVP_KLP_PATCH_MAX_FUNCTIONS)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "the patch's functions do not end");
		if (!read_function(kernel, funcs, object, error))
			return false;
	}
}

static bool read_callbacks(HvpKernel *kernel, HvpKlpObject *object, GError **error)
{
	static const HvpLayoutItem items[HVP_KLP_CALLBACK_COUNT] = {
		HVP_AT_KLP_OBJECT_PRE_PATCH,
		HVP_AT_KLP_OBJECT_POST_PATCH,
		HVP_AT_KLP_OBJECT_PRE_UNPATCH,
		HVP_AT_KLP_OBJECT_POST_UNPATCH,
	};

	for (guint i = 0; i < HVP_KLP_CALLBACK_COUNT; i++)
		if (!read_member(kernel, object->address, items[i], &object->callbacks[i].value,
				 error))
			return false;
	return true;
}

static bool read_object_name(HvpKernel *kernel, guint64 name_address, HvpKlpObject *object,
			     GError **error)
{
	char name[HVP_SYMBOLS_MAX_NAME_BYTES];

	if (name_address == 0)
		return true;
	if (!hvp_address_space_read_string(hvp_kernel_get_space(kernel), hvp_gva(name_address),
					   name, sizeof name, error))
		return false;
	object->name = g_str_has_suffix(name, HVP_KLP_ALIAS_SUFFIX)
			       ? g_strndup(name, strlen(name) - strlen(HVP_KLP_ALIAS_SUFFIX))
			       : g_strdup(name);
	return true;
}

static bool is_named_before(const HvpKlpPatch *patch, const char *name)
{
	for (guint i = 0; i < patch->objects->len; i++)
		if (g_strcmp0(hvp_klp_patch_get(patch, i)->name, name) == 0)
			return true;
	return false;
}

/* Takes the object at @address over into @patch. */
static bool read_object(HvpKernel *kernel, HvpGva address, guint64 name, guint64 funcs,
			HvpKlpPatch *patch, GError **error)
{
	HvpKlpObject *object = object_new(address);
	bool twice;

	if (!read_object_name(kernel, name, object, error)) {
		object_free(object);
		return false;
	}
	object->name_address = hvp_gva(name);
	twice = is_named_before(patch, object->name);
	g_ptr_array_add(patch->objects, object);
	if (twice)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "the patch names %s twice",
				     object->name ? object->name : "vmlinux");
	return read_member(kernel, address, HVP_AT_KLP_OBJECT_MOD, &object->module.value, error) &&
	       read_flag(kernel, address, HVP_AT_KLP_OBJECT_PATCHED, &object->patched, error) &&
	       read_flag(kernel, address, HVP_AT_KLP_UNPATCH_DUE, &object->is_due, error) &&
	       read_callbacks(kernel, object, error) &&
	       (funcs == 0 || read_functions(kernel, hvp_gva(funcs), patch, object, error));
}

static bool read_objects(HvpKernel *kernel, HvpKlpPatch *patch, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	guint32 size;

	if (!hvp_layout_require(layout, HVP_AT_KLP_OBJECT_SIZE, error))
		return false;
	size = hvp_layout_get(layout, HVP_AT_KLP_OBJECT_SIZE);
	for (guint i = 0; i < HVP_KLP_PATCH_MAX_FUNCTIONS; i++) {
		HvpGva object = hvp_gva_add(patch->first_object, (guint64)i * size);
		guint64 funcs, name;

		/* The kernel stops where neither functions nor a name are given. */
		if (!read_member(kernel, object, HVP_AT_KLP_OBJECT_FUNCS, &funcs, error) ||
		    !read_member(kernel, object, HVP_AT_KLP_OBJECT_NAME, &name, error))
			return false;
		if (funcs == 0 && name == 0)
			return true;
		if (!read_object(kernel, object, name, funcs, patch, error))
			return false;
	}
	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "the patch's objects do not end");
}

/* Ends with id 0. Kernels before 5.5 (73727f4dafe7) have no states. */
static bool read_states(HvpKernel *kernel, HvpKlpPatch *patch, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	guint64 first = 0;

	if (!hvp_layout_has(layout, HVP_AT_KLP_PATCH_STATES))
		return true;
	if (!hvp_layout_require(layout, HVP_AT_KLP_STATE_SIZE, error) ||
	    !hvp_layout_require(layout, HVP_AT_KLP_STATE_VERSION, error) ||
	    !read_member(kernel, patch->address, HVP_AT_KLP_PATCH_STATES, &first, error))
		return false;
	for (guint i = 0; first != 0; i++) {
		HvpKlpState state = {
			.address = hvp_gva(
				first + (guint64)i * hvp_layout_get(layout, HVP_AT_KLP_STATE_SIZE))
		};
		HvpGva version = hvp_gva_add(state.address,
					     hvp_layout_get(layout, HVP_AT_KLP_STATE_VERSION));

		if (!read_member(kernel, state.address, HVP_AT_KLP_STATE_ID, &state.id, error) ||
		    !hvp_address_space_read_u32(hvp_kernel_get_space(kernel), version,
						&state.version, error))
			return false;
		if (state.id == 0)
			break;
		if (i >= HVP_KLP_PATCH_MAX_STATES)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "the patch's states do not end");
		g_array_append_val(patch->states, state);
	}
	return true;
}

void hvp_klp_patch_set_keys(HvpKlpPatch *self, guint32 object_bytes)
{
	guint vmlinux = 0;

	while (vmlinux < self->objects->len && hvp_klp_patch_get(self, vmlinux)->name != NULL)
		vmlinux++;
	for (guint i = 0; i < self->objects->len; i++) {
		bool moves = vmlinux < self->objects->len && i <= vmlinux;
		guint index = !moves ? i : i == vmlinux ? 0 : i + 1;

		hvp_klp_patch_get(self, i)->key = hvp_gva_add(self->first_object,
							      (guint64)index * object_bytes);
	}
}

HvpKlpPatch *hvp_klp_patch_read(HvpKernel *kernel, HvpGva address, GError **error)
{
	g_autoptr(HvpKlpPatch) self = g_new0(HvpKlpPatch, 1);

	self->address = address;
	self->objects = g_ptr_array_new_with_free_func(object_free);
	self->states = g_array_new(FALSE, TRUE, sizeof(HvpKlpState));
	if (!read_member(kernel, address, HVP_AT_KLP_PATCH_MOD, &self->module.value, error) ||
	    !read_member(kernel, address, HVP_AT_KLP_PATCH_OBJS, &self->first_object.value,
			 error) ||
	    !read_flag(kernel, address, HVP_AT_KLP_PATCH_REPLACE, &self->replace, error) ||
	    !read_objects(kernel, self, error) || !read_states(kernel, self, error))
		return NULL;
	hvp_klp_patch_set_keys(
		self, hvp_layout_get(hvp_kernel_get_layout(kernel), HVP_AT_KLP_OBJECT_SIZE));
	self->replaces = self->replace;
	return g_steal_pointer(&self);
}

HvpKlpPatch *hvp_klp_patch_read_own(HvpKernel *kernel, const HvpModule *module, HvpGva address,
				    GError **error)
{
	g_autoptr(HvpKlpPatch) self = hvp_klp_patch_read(kernel, address, error);

	if (self == NULL || self->module.value == module->address.value)
		return g_steal_pointer(&self);
	hvp_error_set(error, HVP_ERROR_BAD_DATA, "the klp_patch of %s is another module's",
		      module->name);
	return NULL;
}

bool hvp_klp_patch_has_modules(const HvpKlpPatch *self)
{
	for (guint i = 0; i < self->objects->len; i++)
		if (hvp_klp_patch_get(self, i)->name != NULL)
			return true;
	return false;
}

bool hvp_klp_patch_has_callback(const HvpKlpPatch *self, HvpKlpCallback which)
{
	for (guint i = 0; i < self->objects->len; i++)
		if (hvp_klp_patch_get(self, i)->callbacks[which].value != 0)
			return true;
	return false;
}

const HvpKlpState *hvp_klp_patch_find_state(const HvpKlpPatch *self, guint64 id)
{
	for (guint i = 0; i < self->states->len; i++)
		if (g_array_index(self->states, HvpKlpState, i).id == id)
			return &g_array_index(self->states, HvpKlpState, i);
	return NULL;
}

bool hvp_klp_patch_check_states(const HvpKlpPatch *self, const HvpKlpPatch *older, bool replaces,
				GError **error)
{
	for (guint i = 0; i < older->states->len; i++) {
		const HvpKlpState *old = &g_array_index(older->states, HvpKlpState, i);
		const HvpKlpState *new = hvp_klp_patch_find_state(self, old->id);

		if (new != NULL ? new->version < old->version : replaces)
			return hvp_error_set(error, HVP_ERROR_CONFLICT,
					     "the patch cannot take over state %" G_GUINT64_FORMAT
					     " version %u of a patch in force",
					     old->id, old->version);
	}
	return true;
}
