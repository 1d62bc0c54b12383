/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/serials.h"

#include "daemon/fields.h"
#include "daemon/files.h"
#include "patch/manifest.h"

struct HvpSerials {
	char *path;
	JsonObject *highest; /* by name */
	bool is_unsaved;     /* the file is behind */
};

static void fill(HvpSerials *self, JsonObject *file)
{
	g_autoptr(GList) names = json_object_get_members(file);

	for (GList *name = names; name != NULL; name = name->next)
		json_object_set_int_member(
			self->highest, name->data,
			hvp_fields_get_integer(file, name->data, HVP_MANIFEST_NO_SERIAL));
}

HvpSerials *hvp_serials_read(const char *path, GError **error)
{
	g_autoptr(HvpSerials) self = g_new0(HvpSerials, 1);
	g_autoptr(GError) reason = NULL;
	g_autoptr(JsonNode) node = hvp_files_read_json(path, &reason);

	self->path = g_strdup(path);
	self->highest = json_object_new();
	if (node != NULL)
		fill(self, json_node_get_object(node));
	if (node != NULL || g_error_matches(reason, HVP_ERROR, HVP_ERROR_NOT_FOUND))
		return g_steal_pointer(&self);
	g_propagate_error(error, g_steal_pointer(&reason));
	return NULL;
}

void hvp_serials_free(HvpSerials *self)
{
	if (self == NULL)
		return;
	g_free(self->path);
	g_clear_pointer(&self->highest, json_object_unref);
	g_free(self);
}

gint64 hvp_serials_get(const HvpSerials *self, const char *name)
{
	return hvp_fields_get_integer(self->highest, name, HVP_MANIFEST_NO_SERIAL);
}

void hvp_serials_raise(HvpSerials *self, const char *name, gint64 serial)
{
	if (serial <= hvp_serials_get(self, name))
		return;
	json_object_set_int_member(self->highest, name, serial);
	self->is_unsaved = true;
}

bool hvp_serials_save(HvpSerials *self, GError **error)
{
	g_autoptr(JsonNode) node = NULL;

	if (!self->is_unsaved)
		return true;
	node = hvp_fields_node(json_object_ref(self->highest));
	if (!hvp_files_write_json(self->path, node, error))
		return false;
	self->is_unsaved = false;
	return true;
}
