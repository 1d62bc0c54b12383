/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A livepatch module of arbitrary bytes: an answer, and every field readable. */
#include <string.h>

#include "base/error.h"
#include "patch/patch.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes);

static gsize length_of(const char *text)
{
	return text == NULL ? 0 : strlen(text);
}

static gsize touch_objects(const HvpPatch *patch)
{
	gsize sum = 0;

	for (guint i = 0; i < patch->object_count; i++) {
		const HvpPatchObject *object = &patch->objects[i];

		sum += length_of(object->name);
		for (guint k = 0; k < object->function_count; k++)
			sum += strlen(object->functions[k].name) +
			       length_of(object->functions[k].new_symbol);
	}
	return sum;
}

static gsize touch_symbols(const HvpPatch *patch)
{
	gsize sum = 0;

	for (guint i = 0; i < patch->undefined_count; i++)
		sum += strlen(patch->undefined[i].name);
	for (guint i = 0; i < patch->klp_symbol_count; i++)
		sum += strlen(patch->klp_symbols[i].name) + length_of(patch->klp_symbols[i].object);
	for (guint i = 0; i < patch->klp_relocations_count; i++)
		sum += strlen(patch->klp_relocations[i].section);
	return sum;
}

static void touch(const HvpPatch *patch)
{
	g_autoptr(GPtrArray) cold = hvp_patch_cold_references(patch);
	volatile gsize sum = touch_objects(patch) + touch_symbols(patch) + strlen(patch->name) +
			     strlen(patch->vermagic) + length_of(patch->description) + cold->len;

	(void)sum;
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size_bytes)
{
	g_autoptr(GBytes) bytes = g_bytes_new_static(data, size_bytes);
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpPatch) patch = hvp_patch_open_bytes(bytes, "fuzz.ko", NULL, &error);

	g_assert((patch == NULL) == (error != NULL));
	g_assert(error == NULL || error->domain == HVP_ERROR);
	if (patch != NULL)
		touch(patch);
	return 0;
}
