/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "doctor/domain-xml.h"

#include <string.h>

#include "agent/port.h"
#include "base/text.h"

#define MAX_DEPTH 64
#define MAX_QUOTED_BYTES 200

typedef struct {
	HvpFactsVm *facts;
	GString *path; /* "/domain/devices/channel/target" */
	guint depth;
	bool is_gdb_next; /* the argument before was -gdb */
} Reader;

typedef struct {
	const char **names, **values;
} Attributes;

static const char *get(const Attributes *self, const char *name)
{
	for (gsize i = 0; self->names[i] != NULL; i++)
		if (strcmp(self->names[i], name) == 0)
			return self->values[i];
	return NULL;
}

static void take(char **where, const char *text)
{
	g_free(*where);
	*where = g_strdup(text);
}

static void on_domain(Reader *self, const Attributes *attributes)
{
	const char *type = get(attributes, "type");

	if (g_strcmp0(type, "kvm") == 0)
		self->facts->accelerator = HVP_FACTS_ACCELERATOR_KVM;
	else if (g_strcmp0(type, "qemu") == 0)
		self->facts->accelerator = HVP_FACTS_ACCELERATOR_TCG;
	else
		self->facts->accelerator = HVP_FACTS_ACCELERATOR_OTHER;
}

static void on_os_type(Reader *self, const Attributes *attributes)
{
	take(&self->facts->architecture, get(attributes, "arch"));
}

static void on_launch_security(Reader *self, const Attributes *attributes)
{
	const char *type = get(attributes, "type");

	take(&self->facts->encryption, type ? type : "launchSecurity");
}

static void on_hugepages(Reader *self, const Attributes *attributes)
{
	(void)attributes;
	take(&self->facts->memory_source, "hugepages");
}

static void on_memory_source(Reader *self, const Attributes *attributes)
{
	if (self->facts->memory_source == NULL)
		take(&self->facts->memory_source, get(attributes, "type"));
}

/* Without it memory is private, whatever its source. */
static void on_memory_access(Reader *self, const Attributes *attributes)
{
	if (g_strcmp0(get(attributes, "mode"), "shared") == 0)
		self->facts->memory_is_shared = HVP_FACTS_YES;
}

/* A node of NUMA may differ from the rest; one that is private makes it all so. */
static void on_numa_cell(Reader *self, const Attributes *attributes)
{
	const char *access = get(attributes, "memAccess");

	if (access != NULL)
		self->facts->memory_is_shared = strcmp(access, "shared") == 0 ? HVP_FACTS_YES
									      : HVP_FACTS_NO;
}

static void on_channel_target(Reader *self, const Attributes *attributes)
{
	if (g_strcmp0(get(attributes, "name"), HVP_PORT_NAME) != 0)
		return;
	self->facts->agent = g_strcmp0(get(attributes, "state"), "connected") == 0
				     ? HVP_FACTS_AGENT_OPEN
				     : HVP_FACTS_AGENT_CLOSED;
}

static void on_controller(Reader *self, const Attributes *attributes)
{
	if (g_strcmp0(get(attributes, "type"), "virtio-serial") == 0)
		self->facts->has_serial_controller = true;
}

static void on_cpu(Reader *self, const Attributes *attributes)
{
	const char *mode = get(attributes, "mode");

	self->facts->cpu_is_hosts = g_strcmp0(mode, "host-passthrough") == 0 ||
				    g_strcmp0(mode, "maximum") == 0;
	take(&self->facts->cpu, mode);
}

static void on_cpu_feature(Reader *self, const Attributes *attributes)
{
	const char *name = get(attributes, "name");
	const char *policy = get(attributes, "policy");
	bool is_off = g_strcmp0(policy, "disable") == 0 || g_strcmp0(policy, "forbid") == 0;

	if (g_strcmp0(name, "vmx") != 0 && g_strcmp0(name, "svm") != 0)
		return;
	if (!is_off)
		self->facts->nested = HVP_FACTS_YES;
	else if (self->facts->nested == HVP_FACTS_UNKNOWN)
		self->facts->nested = HVP_FACTS_NO;
}

static void on_argument(Reader *self, const Attributes *attributes)
{
	const char *value = get(attributes, "value");

	if (value == NULL)
		return;
	if (self->is_gdb_next && strcmp(value, "none") != 0)
		take(&self->facts->debugger, value);
	if (strcmp(value, "-s") == 0 || strcmp(value, "--s") == 0)
		take(&self->facts->debugger, "-s");
	self->is_gdb_next = strcmp(value, "-gdb") == 0 || strcmp(value, "--gdb") == 0;
}

static const struct {
	const char *path;
	void (*function)(Reader *self, const Attributes *attributes);
} places[] = {
	{ "/domain", on_domain },
	{ "/domain/os/type", on_os_type },
	{ "/domain/launchSecurity", on_launch_security },
	{ "/domain/memoryBacking/hugepages", on_hugepages },
	{ "/domain/memoryBacking/source", on_memory_source },
	{ "/domain/memoryBacking/access", on_memory_access },
	{ "/domain/cpu/numa/cell", on_numa_cell },
	{ "/domain/cpu", on_cpu },
	{ "/domain/cpu/feature", on_cpu_feature },
	{ "/domain/devices/channel/target", on_channel_target },
	{ "/domain/devices/controller", on_controller },
	{ "/domain/qemu:commandline/qemu:arg", on_argument },
};

static void on_start(GMarkupParseContext *context, const char *element, const char **names,
		     const char **values, gpointer data, GError **error)
{
	Reader *self = data;
	Attributes attributes = { names, values };

	(void)context;
	if (++self->depth > MAX_DEPTH) {
		g_set_error(error, G_MARKUP_ERROR, G_MARKUP_ERROR_INVALID_CONTENT,
			    "nested too deep");
		return;
	}
	g_string_append_printf(self->path, "/%s", element);
	for (gsize i = 0; i < G_N_ELEMENTS(places); i++)
		if (strcmp(places[i].path, self->path->str) == 0)
			places[i].function(self, &attributes);
}

static void on_end(GMarkupParseContext *context, const char *element, gpointer data, GError **error)
{
	Reader *self = data;

	(void)context;
	(void)error;
	self->depth--;
	g_string_truncate(self->path, self->path->len - strlen(element) - 1);
}

static void on_text(GMarkupParseContext *context, const char *text, gsize length_bytes,
		    gpointer data, GError **error)
{
	Reader *self = data;

	(void)context;
	(void)error;
	if (strcmp(self->path->str, "/domain/cpu/model") != 0)
		return;
	g_free(self->facts->cpu);
	self->facts->cpu = g_strndup(text, length_bytes);
}

bool hvp_domain_xml_parse(const char *xml, HvpFactsVm *facts, GError **error)
{
	static const GMarkupParser parser = { .start_element = on_start,
					      .end_element = on_end,
					      .text = on_text };
	g_autoptr(GString) path = g_string_new(NULL);
	Reader reader = { .facts = facts, .path = path };
	g_autoptr(GMarkupParseContext)
		context = g_markup_parse_context_new(&parser, 0, &reader, NULL);
	g_autoptr(GError) reason = NULL;
	g_autofree char *words = NULL;

	facts->memory_is_shared = HVP_FACTS_NO;
	facts->agent = HVP_FACTS_AGENT_ABSENT;
	if (g_markup_parse_context_parse(context, xml, -1, &reason) &&
	    g_markup_parse_context_end_parse(context, &reason)) {
		return facts->accelerator != HVP_FACTS_ACCELERATOR_UNKNOWN ||
		       hvp_error_set(error, HVP_ERROR_BAD_DATA, "this is no domain's XML");
	}
	words = hvp_text_escape(reason->message, HVP_TEXT_TERMINATED, MAX_QUOTED_BYTES);
	return hvp_error_set(error, HVP_ERROR_BAD_DATA, "the domain's XML: %s", words);
}
