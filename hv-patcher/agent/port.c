/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/port.h"

#include <string.h>

#define MAX_DEVICES 4096U

/* Devices with an id, and without. */
static const char *const folders[] = { "/machine/peripheral", "/machine/peripheral-anon" };

static JsonNode *get_property(HvpQmp *qmp, const char *path, const char *property,
			      HvpDeadline deadline, GError **error)
{
	g_autoptr(JsonObject) arguments = json_object_new();

	json_object_set_string_member(arguments, "path", path);
	json_object_set_string_member(arguments, "property", property);
	return hvp_qmp_execute(qmp, "qom-get", arguments, deadline, error);
}

static const char *as_text(JsonNode *node)
{
	if (node == NULL || !JSON_NODE_HOLDS_VALUE(node) ||
	    json_node_get_value_type(node) != G_TYPE_STRING)
		return "";
	return json_node_get_string(node);
}

/* *@ret_label: the character device of the port at @path if it is the agent's, else NULL. */
static bool read_label(HvpQmp *qmp, const char *path, HvpDeadline deadline, char **ret_label,
		       GError **error)
{
	g_autoptr(JsonNode) name = get_property(qmp, path, "name", deadline, error);
	g_autoptr(JsonNode) label = NULL;

	*ret_label = NULL;
	if (name == NULL)
		return false;
	if (strcmp(as_text(name), HVP_PORT_NAME) != 0)
		return true;
	label = get_property(qmp, path, "chardev", deadline, error);
	if (label == NULL)
		return false;
	*ret_label = g_strdup(as_text(label));
	return true;
}

/* Looks through the devices of one folder. */
static bool find_label(HvpQmp *qmp, const char *folder, HvpDeadline deadline, char **ret_label,
		       GError **error)
{
	g_autoptr(JsonObject) arguments = json_object_new();
	g_autoptr(JsonNode) answer = NULL;
	JsonArray *devices;

	json_object_set_string_member(arguments, "path", folder);
	answer = hvp_qmp_execute(qmp, "qom-list", arguments, deadline, error);
	devices = answer ? hvp_qmp_as_array(answer, "qom-list", error) : NULL;
	if (devices == NULL)
		return false;
	for (guint i = 0; i < MIN(json_array_get_length(devices), MAX_DEVICES); i++) {
		JsonObject *device = hvp_qmp_as_object(json_array_get_element(devices, i),
						       "qom-list", error);
		g_autofree char *path = NULL;
		const char *name, *type;

		if (device == NULL || !hvp_qmp_member_string(device, "name", &name, error) ||
		    !hvp_qmp_member_string(device, "type", &type, error))
			return false;
		if (strcmp(type, "child<virtserialport>") != 0)
			continue;
		path = g_strdup_printf("%s/%s", folder, name);
		if (!read_label(qmp, path, deadline, ret_label, error))
			return false;
		if (*ret_label != NULL)
			return true;
	}
	return true;
}

/*
 * The path in a server socket's name: "unix:PATH,server=on", with "disconnected:" in front while
 * nobody is connected. NULL: something else.
 */
static char *path_of(const char *filename)
{
	const char *end;

	if (g_str_has_prefix(filename, "disconnected:"))
		filename += strlen("disconnected:");
	end = g_strrstr(filename, ",server");
	if (!g_str_has_prefix(filename, "unix:") || end == NULL)
		return NULL;
	filename += strlen("unix:");
	return end > filename ? g_strndup(filename, (gsize)(end - filename)) : NULL;
}

/* What one of query-chardev says. */
typedef struct {
	char *path; /* of a server socket; NULL: something else */
	bool is_open;
} Chardev;

/* *@ret_chardev stays as it is where there is none of label @wanted. */
static bool find_chardev(HvpQmp *qmp, const char *wanted, HvpDeadline deadline,
			 Chardev *ret_chardev, GError **error)
{
	g_autoptr(JsonNode) answer = hvp_qmp_execute(qmp, "query-chardev", NULL, deadline, error);
	JsonArray *chardevs = answer ? hvp_qmp_as_array(answer, "query-chardev", error) : NULL;

	if (chardevs == NULL)
		return false;
	for (guint i = 0; i < json_array_get_length(chardevs); i++) {
		JsonObject *chardev = hvp_qmp_as_object(json_array_get_element(chardevs, i),
							"query-chardev", error);
		const char *label, *filename;

		if (chardev == NULL || !hvp_qmp_member_string(chardev, "label", &label, error) ||
		    !hvp_qmp_member_string(chardev, "filename", &filename, error))
			return false;
		if (strcmp(label, wanted) != 0)
			continue;
		g_free(ret_chardev->path);
		ret_chardev->path = path_of(filename);
		if (!hvp_qmp_member_bool(chardev, "frontend-open", &ret_chardev->is_open, NULL))
			ret_chardev->is_open = false;
	}
	return true;
}

/* *@ret_label: that of the port, NULL where there is none. */
static bool find_port(HvpQmp *qmp, HvpDeadline deadline, char **ret_label, GError **error)
{
	*ret_label = NULL;
	for (guint i = 0; i < G_N_ELEMENTS(folders) && *ret_label == NULL; i++)
		if (!find_label(qmp, folders[i], deadline, ret_label, error))
			return false;
	return true;
}

bool hvp_port_find(HvpQmp *qmp, HvpDeadline deadline, char **ret_path, GError **error)
{
	g_autofree char *label = NULL;
	Chardev chardev = { 0 };
	bool ok;

	*ret_path = NULL;
	ok = find_port(qmp, deadline, &label, error) &&
	     (label == NULL || find_chardev(qmp, label, deadline, &chardev, error));
	if (ok)
		*ret_path = g_steal_pointer(&chardev.path);
	g_free(chardev.path);
	return ok;
}

bool hvp_port_read_state(HvpQmp *qmp, HvpDeadline deadline, HvpPortState *ret_state, GError **error)
{
	g_autofree char *label = NULL;
	Chardev chardev = { 0 };
	bool ok = find_port(qmp, deadline, &label, error) &&
		  (label == NULL || find_chardev(qmp, label, deadline, &chardev, error));

	if (ok)
		*ret_state = label == NULL     ? HVP_PORT_ABSENT
			     : chardev.is_open ? HVP_PORT_OPEN
					       : HVP_PORT_CLOSED;
	g_free(chardev.path);
	return ok;
}
