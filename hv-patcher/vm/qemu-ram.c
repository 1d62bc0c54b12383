/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/qemu-ram.h"

#include <string.h>

/* The layout may change between its listing and the look-ups: VGA banks, SMRAM, hotplug. */
#define QUERY_TRIES 3

static bool skip_text(const char **at, const char *text)
{
	if (!g_str_has_prefix(*at, text))
		return false;
	*at += strlen(text);
	return true;
}

/* One to sixteen hexadecimal digits. */
static bool parse_hex(const char **at, guint64 *ret_value)
{
	guint64 value = 0;
	guint digits = 0;

	for (; g_ascii_isxdigit(**at); (*at)++) {
		if (++digits > 16)
			return false;
		value = value << 4 | (guint64)g_ascii_xdigit_value(**at);
	}
	*ret_value = value;
	return digits > 0;
}

static bool is_plain_memory(const char *type, gsize length_bytes)
{
	static const char *const types[] = {"ram", "rom", "nv-ram", "nv-rom"};

	for (gsize i = 0; i < G_N_ELEMENTS(types); i++) {
		if (strlen(types[i]) == length_bytes && memcmp(type, types[i], length_bytes) == 0)
			return true;
	}
	return false;
}

/*
 * A region's name and offset, as in "pc.ram @00000000c0000000 KVM". A name may
 * hold spaces; what matters of it is only whether two are the same.
 */
static bool parse_region(const char *at, HvpQemuRamView *ret_view)
{
	const char *name = at;
	const char *offset = g_strrstr(at, " @");
	gsize length_bytes = offset != NULL ? (gsize)(offset - at) : strcspn(at, " ");

	g_strlcpy(ret_view->region, name, MIN(sizeof ret_view->region, length_bytes + 1));
	ret_view->offset_bytes = 0;
	if (offset == NULL)
		return true;
	offset += strlen(" @");
	return parse_hex(&offset, &ret_view->offset_bytes);
}

/* "  START-LAST (prio N, TYPE): REGION": *@ret_is_ram says whether it is RAM. */
static bool parse_range(const char *line, HvpQemuRamView *ret_view, bool *ret_is_ram)
{
	const char *at = line;
	const char *type;
	const char *type_end;
	guint64 start;
	guint64 last;

	if (!skip_text(&at, "  ") || !parse_hex(&at, &start) || !skip_text(&at, "-") ||
	    !parse_hex(&at, &last) || !skip_text(&at, " (prio "))
		return false;
	type = strstr(at, ", ");
	type_end = type != NULL ? strstr(type, "): ") : NULL;
	if (type_end == NULL || last < start)
		return false;
	type += strlen(", ");
	*ret_is_ram = type < type_end && is_plain_memory(type, (gsize)(type_end - type));
	/* The last byte of the address space is never RAM; end would wrap. */
	if (*ret_is_ram && last == G_MAXUINT64)
		return false;
	ret_view->gpa = (HvpGpaRange){hvp_gpa(start), hvp_gpa(last + 1)};
	return parse_region(type_end + strlen("): "), ret_view);
}

static bool continues(const HvpQemuRamView *previous, const HvpQemuRamView *next)
{
	guint64 size_bytes = previous->gpa.end.value - previous->gpa.start.value;

	return previous->gpa.end.value == next->gpa.start.value &&
	       previous->offset_bytes + size_bytes == next->offset_bytes &&
	       strcmp(previous->region, next->region) == 0;
}

/* Adds a range of the view, merged with the one before where it continues it. */
static bool add_view(GArray *views, const HvpQemuRamView *view, GError **error)
{
	HvpQemuRamView *previous = NULL;

	if (views->len > 0)
		previous = &g_array_index(views, HvpQemuRamView, views->len - 1);
	if (previous != NULL && view->gpa.start.value < previous->gpa.end.value)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "QEMU's memory tree: range at 0x%" G_GINT64_MODIFIER
				     "x overlaps the one before",
				     view->gpa.start.value);
	if (previous != NULL && continues(previous, view)) {
		previous->gpa.end = view->gpa.end;
		return true;
	}
	if (views->len >= HVP_RAM_MAX_RANGES)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "QEMU's memory tree has more than %d ranges of RAM",
				     HVP_RAM_MAX_RANGES);
	g_array_append_val(views, *view);
	return true;
}

/* The next line, NUL-terminated in place of its newline; NULL at the end. */
static char *next_line(char **text)
{
	char *line = *text;
	char *newline = strchr(line, '\n');

	if (*line == '\0')
		return NULL;
	if (newline != NULL)
		*newline = '\0';
	*text = newline != NULL ? newline + 1 : line + strlen(line);
	return g_strchomp(line);
}

/* Moves @text behind the header line of the view that holds address space "memory". */
static bool find_view(char **text, GError **error)
{
	for (char *line = next_line(text); line != NULL; line = next_line(text)) {
		if (g_str_has_prefix(line, " AS \"memory\", root: "))
			return true;
	}
	return hvp_error_set(error, HVP_ERROR_BAD_DATA,
			     "QEMU's memory tree has no address space \"memory\"");
}

GArray *hvp_qemu_ram_parse_mtree(const char *text, GError **error)
{
	g_autofree char *copy = g_strdup(text);
	g_autoptr(GArray) views = g_array_new(FALSE, TRUE, sizeof(HvpQemuRamView));
	char *at = copy;

	if (!find_view(&at, error))
		return NULL;
	for (char *line = next_line(&at); line != NULL && *line != '\0'; line = next_line(&at)) {
		HvpQemuRamView view = {0};
		bool is_ram = false;

		if (g_str_has_prefix(line, " AS ") || g_str_has_prefix(line, " Root memory region"))
			continue;
		if (!parse_range(line, &view, &is_ram)) {
			hvp_error_set(error, HVP_ERROR_BAD_DATA,
				      "QEMU's memory tree holds a line of unknown form");
			return NULL;
		}
		if (is_ram && !add_view(views, &view, error))
			return NULL;
	}
	if (views->len == 0) {
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "QEMU's memory tree holds no RAM");
		return NULL;
	}
	return g_steal_pointer(&views);
}

bool hvp_qemu_ram_parse_gpa2hva(const char *text, HvpGpa gpa, HvpHva *ret_hva, GError **error)
{
	const char *at = text;
	const char *is = g_strrstr(text, " is 0x");
	guint64 told;
	guint64 hva;

	if (is == NULL || !skip_text(&at, "Host virtual address for 0x") ||
	    !parse_hex(&at, &told) || told != gpa.value || is < at)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "QEMU does not tell where 0x%" G_GINT64_MODIFIER "x lies",
				     gpa.value);
	at = is + strlen(" is 0x");
	if (!parse_hex(&at, &hva) || hva == 0)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "QEMU's host address of 0x%" G_GINT64_MODIFIER "x is garbled",
				     gpa.value);
	*ret_hva = hvp_hva(hva);
	return true;
}

static bool query_hva(HvpQmp *qmp, HvpGpa gpa, HvpDeadline deadline, HvpHva *ret_hva,
		      GError **error)
{
	g_autofree char *command = g_strdup_printf("gpa2hva 0x%" G_GINT64_MODIFIER "x", gpa.value);
	g_autofree char *text = hvp_qmp_monitor_command(qmp, command, deadline, error);

	if (text == NULL)
		return false;
	if (g_str_has_prefix(text, "Memory at address") ||
	    g_str_has_prefix(text, "No memory is mapped"))
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "the memory layout changed at 0x%" G_GINT64_MODIFIER "x",
				     gpa.value);
	return hvp_qemu_ram_parse_gpa2hva(text, gpa, ret_hva, error);
}

/* Where @view lies in QEMU; its two ends must be as far apart there as in the guest. */
static bool resolve(HvpQmp *qmp, const HvpQemuRamView *view, HvpDeadline deadline,
		    HvpRamRange *ret_range, GError **error)
{
	guint64 last = view->gpa.end.value - 1;
	HvpHva first_hva;
	HvpHva last_hva;

	if (!query_hva(qmp, view->gpa.start, deadline, &first_hva, error) ||
	    !query_hva(qmp, hvp_gpa(last), deadline, &last_hva, error))
		return false;
	if (last_hva.value - first_hva.value != last - view->gpa.start.value)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "RAM at 0x%" G_GINT64_MODIFIER "x is not contiguous in QEMU",
				     view->gpa.start.value);
	*ret_range = (HvpRamRange){view->gpa.start, view->gpa.end, first_hva};
	return true;
}

static HvpRam *query_once(HvpQmp *qmp, HvpDeadline deadline, GError **error)
{
	g_autofree char *text = hvp_qmp_monitor_command(qmp, "info mtree -f", deadline, error);
	g_autoptr(GArray) ranges = g_array_new(FALSE, TRUE, sizeof(HvpRamRange));
	g_autoptr(GArray) views = NULL;

	if (text == NULL)
		return NULL;
	views = hvp_qemu_ram_parse_mtree(text, error);
	if (views == NULL)
		return NULL;
	for (guint i = 0; i < views->len; i++) {
		HvpRamRange range;

		if (!resolve(qmp, &g_array_index(views, HvpQemuRamView, i), deadline, &range,
			     error))
			return NULL;
		g_array_append_val(ranges, range);
	}
	return hvp_ram_new((const HvpRamRange *)ranges->data, ranges->len, error);
}

HvpRam *hvp_qemu_ram_query(HvpQmp *qmp, HvpDeadline deadline, GError **error)
{
	g_autoptr(GError) failure = NULL;

	for (int tries = 0; tries < QUERY_TRIES; tries++) {
		HvpRam *self;

		g_clear_error(&failure);
		self = query_once(qmp, deadline, &failure);
		if (self != NULL)
			return self;
		if (!g_error_matches(failure, HVP_ERROR, HVP_ERROR_BUSY))
			break;
	}
	g_propagate_error(error, g_steal_pointer(&failure));
	return NULL;
}
