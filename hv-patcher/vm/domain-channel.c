/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/domain-channel.h"

#include <stdbool.h>
#include <string.h>

typedef struct {
	const char *name;
	bool in_channel;
	char *path; /* of the channel that is read */
	bool has_name;
	char *found;
} Reader;

static const char *get(const char *const *names, const char *const *values, const char *name)
{
	for (guint i = 0; names[i] != NULL; i++)
		if (strcmp(names[i], name) == 0)
			return values[i];
	return NULL;
}

static void begin_channel(Reader *self, const char *type)
{
	self->in_channel = g_strcmp0(type, "unix") == 0;
	self->has_name = false;
	g_clear_pointer(&self->path, g_free);
}

static void on_start(GMarkupParseContext *context, const char *element, const char **names,
		     const char **values, gpointer data, GError **error)
{
	Reader *self = data;

	(void)context;
	(void)error;
	if (strcmp(element, "channel") == 0) {
		begin_channel(self, get(names, values, "type"));
	} else if (self->in_channel && strcmp(element, "source") == 0) {
		g_free(self->path);
		self->path = g_strdup(get(names, values, "path"));
	} else if (self->in_channel && strcmp(element, "target") == 0) {
		self->has_name = g_strcmp0(get(names, values, "type"), "virtio") == 0 &&
				 g_strcmp0(get(names, values, "name"), self->name) == 0;
	}
}

static void on_end(GMarkupParseContext *context, const char *element, gpointer data, GError **error)
{
	Reader *self = data;

	(void)context;
	(void)error;
	if (strcmp(element, "channel") != 0)
		return;
	if (self->in_channel && self->has_name && self->found == NULL)
		self->found = g_steal_pointer(&self->path);
	self->in_channel = false;
}

char *hvp_domain_channel_find(const char *xml, const char *name)
{
	static const GMarkupParser parser = { .start_element = on_start, .end_element = on_end };
	Reader reader = { .name = name };
	g_autoptr(GMarkupParseContext)
		context = g_markup_parse_context_new(&parser, 0, &reader, NULL);
	bool whole = g_markup_parse_context_parse(context, xml, -1, NULL) &&
		     g_markup_parse_context_end_parse(context, NULL);

	g_free(reader.path);
	if (!whole)
		g_clear_pointer(&reader.found, g_free);
	return reader.found;
}
