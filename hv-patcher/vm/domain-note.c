/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/domain-note.h"

#include <string.h>
#include <unistd.h>

#include "base/text.h"

#define MAX_NAME_BYTES 64U
#define SHA256_DIGITS 64U
#define YEAR_DIGITS 4U
#define MIN_NUMBER_DIGITS 4U
#define MAX_NUMBER_DIGITS 12U
#define CVE "CVE-"
#define ROOT "patches"
#define APPLIED "applied"
#define INSTALLED "installed"

static char *take_text(const char *text)
{
	return text && text[0] ? hvp_text_escape(text, HVP_TEXT_TERMINATED, MAX_NAME_BYTES) : NULL;
}

static bool is_sha256(const char *text)
{
	return text != NULL && strlen(text) == SHA256_DIGITS &&
	       strspn(text, "0123456789abcdef") == SHA256_DIGITS;
}

/* --- one patch --- */

HvpDomainNotePatch *hvp_domain_note_patch_new(const char *name, const char *sha256, gint64 at)
{
	HvpDomainNotePatch *self = g_new0(HvpDomainNotePatch, 1);

	self->name = hvp_text_escape(name, HVP_TEXT_TERMINATED, MAX_NAME_BYTES);
	self->sha256 = is_sha256(sha256) ? g_strdup(sha256) : NULL;
	self->at = at;
	self->uid = -1;
	self->pause_usec = -1;
	self->cves = g_ptr_array_new_with_free_func(g_free);
	return self;
}

/* What the guest does not know of a patch. */
static void copy_story(HvpDomainNotePatch *self, const HvpDomainNotePatch *other)
{
	g_free(self->by);
	self->by = g_strdup(other->by);
	g_free(self->sudo_user);
	self->sudo_user = g_strdup(other->sudo_user);
	self->uid = other->uid;
	self->pause_usec = other->pause_usec;
	for (guint i = 0; i < other->cves->len; i++)
		hvp_domain_note_patch_add_cves(self, g_ptr_array_index(other->cves, i));
}

HvpDomainNotePatch *hvp_domain_note_patch_copy(const HvpDomainNotePatch *self)
{
	HvpDomainNotePatch *copy = hvp_domain_note_patch_new(self->name, self->sha256, self->at);

	copy->state = g_strdup(self->state);
	copy_story(copy, self);
	return copy;
}

void hvp_domain_note_patch_free(HvpDomainNotePatch *self)
{
	if (self == NULL)
		return;
	g_free(self->name);
	g_free(self->sha256);
	g_free(self->by);
	g_free(self->sudo_user);
	g_free(self->state);
	g_ptr_array_unref(self->cves);
	g_free(self);
}

/* How long the CVE number at @text is; 0: there is none. */
static gsize cve_length(const char *text)
{
	const char *year = text + strlen(CVE);
	gsize digits;

	if (strncmp(text, CVE, strlen(CVE)) != 0 || strspn(year, "0123456789") != YEAR_DIGITS ||
	    year[YEAR_DIGITS] != '-')
		return 0;
	digits = strspn(year + YEAR_DIGITS + 1, "0123456789");
	if (digits < MIN_NUMBER_DIGITS || digits > MAX_NUMBER_DIGITS)
		return 0;
	return strlen(CVE) + YEAR_DIGITS + 1 + digits;
}

void hvp_domain_note_patch_add_cves(HvpDomainNotePatch *self, const char *text)
{
	while (text != NULL && (text = strstr(text, CVE)) != NULL) {
		gsize length = cve_length(text);
		g_autofree char *cve = g_strndup(text, length);

		if (length > 0 && self->cves->len < HVP_DOMAIN_NOTE_MAX_CVES &&
		    !g_ptr_array_find_with_equal_func(self->cves, cve, g_str_equal, NULL))
			g_ptr_array_add(self->cves, g_steal_pointer(&cve));
		text += MAX(length, strlen(CVE));
	}
}

void hvp_domain_note_patch_set_user(HvpDomainNotePatch *self)
{
	g_free(self->by);
	self->by = take_text(g_get_user_name());
	self->uid = getuid();
	g_free(self->sudo_user);
	self->sudo_user = take_text(g_getenv("SUDO_USER"));
}

/* --- the note --- */

static GPtrArray *patches_new(void)
{
	return g_ptr_array_new_with_free_func((GDestroyNotify)hvp_domain_note_patch_free);
}

HvpDomainNote *hvp_domain_note_new(void)
{
	HvpDomainNote *self = g_new0(HvpDomainNote, 1);

	self->applied = patches_new();
	self->installed = patches_new();
	return self;
}

void hvp_domain_note_free(HvpDomainNote *self)
{
	if (self == NULL)
		return;
	g_ptr_array_unref(self->applied);
	g_ptr_array_unref(self->installed);
	g_free(self);
}

static bool is_same(const HvpDomainNotePatch *a, const HvpDomainNotePatch *b)
{
	return strcmp(a->name, b->name) == 0 && g_strcmp0(a->sha256, b->sha256) == 0;
}

/* The one that @patch is; NULL. */
static const HvpDomainNotePatch *find_same(const GPtrArray *patches,
					   const HvpDomainNotePatch *patch)
{
	for (guint i = 0; i < patches->len; i++)
		if (is_same(g_ptr_array_index(patches, i), patch))
			return g_ptr_array_index(patches, i);
	return NULL;
}

void hvp_domain_note_set_applied(HvpDomainNote *self, const GPtrArray *facts,
				 const HvpDomainNotePatch *news)
{
	g_autoptr(GPtrArray) applied = patches_new();

	for (guint i = 0; i < MIN(facts->len, HVP_DOMAIN_NOTE_MAX_PATCHES); i++) {
		HvpDomainNotePatch *patch = hvp_domain_note_patch_copy(g_ptr_array_index(facts, i));
		const HvpDomainNotePatch *known = find_same(self->applied, patch);

		if (news != NULL && is_same(news, patch))
			copy_story(patch, news);
		/* The same patch at another time was applied by somebody else. */
		else if (known != NULL && known->at == patch->at)
			copy_story(patch, known);
		g_ptr_array_add(applied, patch);
	}
	g_ptr_array_unref(self->applied);
	self->applied = g_steal_pointer(&applied);
}

void hvp_domain_note_install(HvpDomainNote *self, const HvpDomainNotePatch *patch)
{
	(void)hvp_domain_note_uninstall(self, patch->name);
	if (self->installed->len < HVP_DOMAIN_NOTE_MAX_PATCHES)
		g_ptr_array_add(self->installed, hvp_domain_note_patch_copy(patch));
}

bool hvp_domain_note_uninstall(HvpDomainNote *self, const char *name)
{
	for (guint i = 0; i < self->installed->len; i++) {
		const HvpDomainNotePatch *patch = g_ptr_array_index(self->installed, i);

		if (strcmp(patch->name, name) == 0) {
			g_ptr_array_remove_index(self->installed, i);
			return true;
		}
	}
	return false;
}

/* --- writing --- */

static void append_text(GString *xml, const char *name, const char *value)
{
	g_autofree char *escaped = value ? g_markup_escape_text(value, -1) : NULL;

	if (value != NULL)
		g_string_append_printf(xml, " %s='%s'", name, escaped);
}

static void append_number(GString *xml, const char *name, gint64 value)
{
	if (value >= 0)
		g_string_append_printf(xml, " %s='%" G_GINT64_FORMAT "'", name, value);
}

static void append_time(GString *xml, gint64 at)
{
	g_autoptr(GDateTime) time = at > 0 ? g_date_time_new_from_unix_utc(at) : NULL;
	g_autofree char *text = time ? g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ") : NULL;

	append_text(xml, "at", text);
}

static void append_cves(GString *xml, const GPtrArray *cves)
{
	g_autoptr(GString) text = g_string_new(NULL);

	for (guint i = 0; i < cves->len; i++)
		g_string_append_printf(text, "%s%s", i > 0 ? " " : "",
				       (const char *)g_ptr_array_index(cves, i));
	append_text(xml, "cves", cves->len > 0 ? text->str : NULL);
}

static void append_patches(GString *xml, const char *element, const GPtrArray *patches)
{
	for (guint i = 0; i < patches->len; i++) {
		const HvpDomainNotePatch *patch = g_ptr_array_index(patches, i);

		g_string_append_printf(xml, "<%s", element);
		append_text(xml, "name", patch->name);
		append_text(xml, "sha256", patch->sha256);
		append_time(xml, patch->at);
		append_text(xml, "by", patch->by);
		append_number(xml, "uid", patch->uid);
		append_text(xml, "sudo_user", patch->sudo_user);
		append_number(xml, "pause_usec", patch->pause_usec);
		append_cves(xml, patch->cves);
		append_text(xml, "state", patch->state);
		g_string_append(xml, "/>");
	}
}

char *hvp_domain_note_to_xml(const HvpDomainNote *self)
{
	GString *xml;

	if (self->applied->len == 0 && self->installed->len == 0)
		return NULL;
	xml = g_string_new("<" ROOT ">");
	append_patches(xml, APPLIED, self->applied);
	append_patches(xml, INSTALLED, self->installed);
	g_string_append(xml, "</" ROOT ">");
	return g_string_free(xml, FALSE);
}

/* --- reading --- */

static const char *without_prefix(const char *name)
{
	const char *colon = strchr(name, ':');

	return colon ? colon + 1 : name;
}

static gint64 read_number(const char *text)
{
	guint64 value;

	return g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT64, &value, NULL) ? (gint64)value
										 : -1;
}

static gint64 read_time(const char *text)
{
	g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(text, NULL);

	return time ? MAX(g_date_time_to_unix(time), 0) : 0;
}

static void replace_text(char **text, const char *value)
{
	g_free(*text);
	*text = take_text(value);
}

static void take_attribute(HvpDomainNotePatch *self, const char *name, const char *value)
{
	if (strcmp(name, "sha256") == 0 && is_sha256(value))
		replace_text(&self->sha256, value);
	else if (strcmp(name, "at") == 0)
		self->at = read_time(value);
	else if (strcmp(name, "by") == 0)
		replace_text(&self->by, value);
	else if (strcmp(name, "uid") == 0)
		self->uid = read_number(value);
	else if (strcmp(name, "sudo_user") == 0)
		replace_text(&self->sudo_user, value);
	else if (strcmp(name, "pause_usec") == 0)
		self->pause_usec = read_number(value);
	else if (strcmp(name, "cves") == 0)
		hvp_domain_note_patch_add_cves(self, value);
	else if (strcmp(name, "state") == 0)
		replace_text(&self->state, value);
}

static void add_patch(GPtrArray *patches, const char **names, const char **values)
{
	const char *name = NULL;
	HvpDomainNotePatch *patch;

	for (gsize i = 0; names[i] != NULL; i++)
		if (strcmp(without_prefix(names[i]), "name") == 0)
			name = values[i];
	if (name == NULL || name[0] == 0 || patches->len >= HVP_DOMAIN_NOTE_MAX_PATCHES)
		return;
	patch = hvp_domain_note_patch_new(name, NULL, 0);
	for (gsize i = 0; names[i] != NULL; i++)
		take_attribute(patch, without_prefix(names[i]), values[i]);
	g_ptr_array_add(patches, patch);
}

static void on_element(GMarkupParseContext *context, const char *element, const char **names,
		       const char **values, gpointer data, GError **error)
{
	HvpDomainNote *self = data;
	const GSList *open = g_markup_parse_context_get_element_stack(context);
	const char *name = without_prefix(element);

	if (open->next == NULL && strcmp(name, ROOT) != 0)
		g_set_error(error, G_MARKUP_ERROR, G_MARKUP_ERROR_UNKNOWN_ELEMENT,
			    "another element");
	else if (open->next == NULL || open->next->next != NULL)
		return;
	else if (strcmp(name, APPLIED) == 0)
		add_patch(self->applied, names, values);
	else if (strcmp(name, INSTALLED) == 0)
		add_patch(self->installed, names, values);
}

HvpDomainNote *hvp_domain_note_parse(const char *xml, GError **error)
{
	static const GMarkupParser parser = { .start_element = on_element };
	g_autoptr(HvpDomainNote) self = hvp_domain_note_new();
	g_autoptr(GMarkupParseContext) context = g_markup_parse_context_new(&parser, 0, self, NULL);
	g_autoptr(GError) reason = NULL;
	gsize length = xml ? strnlen(xml, HVP_DOMAIN_NOTE_MAX_XML_BYTES + 1) : 0;

	if (xml == NULL)
		return g_steal_pointer(&self);
	if (length <= HVP_DOMAIN_NOTE_MAX_XML_BYTES &&
	    g_markup_parse_context_parse(context, xml, (gssize)length, &reason) &&
	    g_markup_parse_context_end_parse(context, &reason))
		return g_steal_pointer(&self);
	hvp_error_set(error, HVP_ERROR_BAD_DATA,
		      "the metadata element " HVP_DOMAIN_NOTE_URI " is damaged");
	return NULL;
}
