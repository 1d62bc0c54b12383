/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/accept.h"

#include <string.h>

#define MAX_RANGES 64
#define QUALITY_ONE 1000

/* The type alone, without blanks; owned by the caller. */
static char *bare_type(const char *text)
{
	return g_strstrip(g_strndup(text, strcspn(text, ";")));
}

bool hvp_accept_is_type(const char *content_type, const char *type)
{
	g_autofree char *bare = content_type ? bare_type(content_type) : NULL;
	const char *charset = content_type ? strcasestr(content_type, "charset=") : NULL;

	if (bare == NULL || g_ascii_strcasecmp(bare, type) != 0)
		return false;
	return charset == NULL || g_ascii_strncasecmp(charset + 8, "utf-8", 5) == 0 ||
	       g_ascii_strncasecmp(charset + 8, "\"utf-8\"", 7) == 0;
}

/* Of "type;q=0.5", in thousandths; what is no number is nothing. */
static int quality_of(const char *range)
{
	g_auto(GStrv) parts = g_strsplit(range, ";", -1);

	for (guint i = 1; parts[0] != NULL && parts[i] != NULL; i++) {
		const char *part = g_strstrip(parts[i]);

		if (g_ascii_strncasecmp(part, "q=", 2) == 0)
			return (int)(CLAMP(g_ascii_strtod(part + 2, NULL), 0, 1) * QUALITY_ONE);
	}
	return QUALITY_ONE;
}

/* How well a range names @type: 3 by name, 2 as its major type, 1 as anything, 0 not. */
static int closeness(const char *range, const char *type)
{
	g_autofree char *bare = bare_type(range);
	gsize major = strcspn(type, "/") + 1;

	if (g_ascii_strcasecmp(bare, type) == 0)
		return 3;
	if (strlen(bare) == major + 1 && bare[major] == '*' &&
	    g_ascii_strncasecmp(bare, type, major) == 0)
		return 2;
	return strcmp(bare, "*/*") == 0 ? 1 : 0;
}

static int quality_for(const char *const *ranges, const char *type)
{
	int best = 0, quality = 0;

	for (guint i = 0; ranges[i] != NULL && i < MAX_RANGES; i++) {
		int close = closeness(ranges[i], type);

		if (close > best) {
			best = close;
			quality = quality_of(ranges[i]);
		}
	}
	return quality;
}

const char *hvp_accept_choose(const char *accept, const char *const *types)
{
	g_auto(GStrv) ranges = g_strsplit(accept ? accept : "*/*", ",", -1);
	const char *chosen = NULL;
	int best = 0;

	for (guint i = 0; types[i] != NULL; i++) {
		int quality = quality_for((const char *const *)ranges, types[i]);

		if (quality > best) {
			best = quality;
			chosen = types[i];
		}
	}
	return chosen;
}
