/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/text.h"

#include <string.h>

static const char hvp_text_ellipsis[] = "...";

static gsize escaped_size(guint8 byte)
{
	return g_ascii_isprint((char)byte) ? 1 : strlen("\\xNN");
}

static void append_escaped(GString *text, guint8 byte)
{
	if (g_ascii_isprint((char)byte))
		g_string_append_c(text, (char)byte);
	else
		g_string_append_printf(text, "\\x%02x", byte);
}

/* How many bytes of the input fit whole into @max_bytes of output. */
static gsize fitting_prefix(const guint8 *bytes, gsize length_bytes, gsize max_bytes)
{
	gsize used = 0;
	gsize i;

	for (i = 0; i < length_bytes; i++) {
		used += escaped_size(bytes[i]);
		if (used > max_bytes)
			break;
	}
	return i;
}

char *hvp_text_escape(const char *bytes, gsize length_bytes, gsize max_bytes)
{
	GString *text = g_string_new(NULL);
	const guint8 *input = (const guint8 *)bytes;
	bool cut;
	gsize fitting;

	if (length_bytes == HVP_TEXT_TERMINATED)
		length_bytes = strnlen(bytes, max_bytes + 1);
	fitting = fitting_prefix(input, length_bytes, max_bytes);
	cut = fitting < length_bytes;
	if (cut)
		fitting = fitting_prefix(input, fitting, max_bytes - strlen(hvp_text_ellipsis));
	for (gsize i = 0; i < fitting; i++)
		append_escaped(text, input[i]);
	if (cut)
		g_string_append(text, hvp_text_ellipsis);
	return g_string_free(text, FALSE);
}

bool hvp_text_is_name(const char *bytes, gsize max_bytes)
{
	gsize length_bytes = strnlen(bytes, max_bytes + 1);

	if (length_bytes == 0 || length_bytes > max_bytes)
		return false;
	for (gsize i = 0; i < length_bytes; i++) {
		if (!g_ascii_isgraph(bytes[i]))
			return false;
	}
	return true;
}
