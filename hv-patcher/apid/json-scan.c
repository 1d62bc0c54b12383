/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/json-scan.h"

#include <string.h>

#include "apid/problem.h"

#define MAX_DEPTH 32
#define MAX_NUMBER_BYTES 32

typedef struct {
	const char *start;
	const char *at;
	const char *end;
	guint depth;
	guint max_depth;
	gsize values_left;
	/* Of each open container: the names so far of an object, NULL for an array. */
	GHashTable *names[MAX_DEPTH];
	const char *why;
} Scan;

static bool fail(Scan *scan, const char *why)
{
	if (scan->why == NULL)
		scan->why = why;
	return false;
}

static void skip_space(Scan *scan)
{
	while (scan->at < scan->end && strchr(" \t\r\n", *scan->at) != NULL && *scan->at != '\0')
		scan->at++;
}

static bool take(Scan *scan, char wanted)
{
	if (scan->at >= scan->end || *scan->at != wanted)
		return false;
	scan->at++;
	return true;
}

static bool take_hex4(Scan *scan, guint *ret_value)
{
	guint value = 0;

	for (guint i = 0; i < 4; i++) {
		if (scan->at >= scan->end || !g_ascii_isxdigit(*scan->at))
			return fail(scan, "\\u wants four hexadecimal digits");
		value = value << 4 | (guint)g_ascii_xdigit_value(*scan->at++);
	}
	*ret_value = value;
	return true;
}

/* Behind "\u". */
static bool take_unicode_escape(Scan *scan)
{
	guint first, second;

	if (!take_hex4(scan, &first))
		return false;
	if (first == 0)
		return fail(scan, "a string has U+0000");
	if (first < 0xd800 || first > 0xdfff)
		return true;
	if (first > 0xdbff || !take(scan, '\\') || !take(scan, 'u') || !take_hex4(scan, &second) ||
	    second < 0xdc00 || second > 0xdfff)
		return fail(scan, "half a surrogate pair");
	return true;
}

static bool take_escape(Scan *scan)
{
	char byte = scan->at < scan->end ? *scan->at++ : '\0';

	if (byte == 'u')
		return take_unicode_escape(scan);
	if (byte == '\0' || strchr("\"\\/bfnrt", byte) == NULL)
		return fail(scan, "an unknown escape");
	return true;
}

/* Behind the opening quote. */
static bool take_string(Scan *scan, bool *ret_has_escapes)
{
	*ret_has_escapes = false;
	while (scan->at < scan->end) {
		char byte = *scan->at++;

		if (byte == '"')
			return true;
		if ((guchar)byte < 0x20)
			return fail(scan, "a control character in a string");
		if (byte == '\\') {
			*ret_has_escapes = true;
			if (!take_escape(scan))
				return false;
		}
	}
	return fail(scan, "a string without an end");
}

static bool take_digits(Scan *scan)
{
	const char *first = scan->at;

	while (scan->at < scan->end && g_ascii_isdigit(*scan->at))
		scan->at++;
	return scan->at > first || fail(scan, "not a number");
}

static bool take_number(Scan *scan)
{
	const char *first = scan->at;

	take(scan, '-');
	if (!take(scan, '0') && !take_digits(scan))
		return false;
	if (take(scan, '.') && !take_digits(scan))
		return false;
	if (take(scan, 'e') || take(scan, 'E')) {
		if (!take(scan, '+'))
			take(scan, '-');
		if (!take_digits(scan))
			return false;
	}
	return scan->at - first <= MAX_NUMBER_BYTES || fail(scan, "a number that is too long");
}

static bool take_word(Scan *scan, const char *word)
{
	gsize length = strlen(word);

	if ((gsize)(scan->end - scan->at) < length || memcmp(scan->at, word, length) != 0)
		return fail(scan, "not a value");
	scan->at += length;
	return true;
}

static bool take_scalar(Scan *scan)
{
	bool has_escapes;

	switch (scan->at < scan->end ? *scan->at : '\0') {
	case '"':
		scan->at++;
		return take_string(scan, &has_escapes);
	case 't':
		return take_word(scan, "true");
	case 'f':
		return take_word(scan, "false");
	case 'n':
		return take_word(scan, "null");
	default:
		return take_number(scan);
	}
}

/* "name": with the blanks around. */
static bool take_name(Scan *scan)
{
	GHashTable *names = scan->names[scan->depth - 1];
	const char *first;
	bool has_escapes;

	skip_space(scan);
	if (!take(scan, '"'))
		return fail(scan, "a member's name is wanted");
	first = scan->at;
	if (!take_string(scan, &has_escapes))
		return false;
	if (has_escapes)
		return fail(scan, "a member's name with an escape");
	if (!g_hash_table_add(names, g_strndup(first, (gsize)(scan->at - 1 - first))))
		return fail(scan, "a member that is there twice");
	skip_space(scan);
	return take(scan, ':') || fail(scan, "a colon is wanted");
}

static bool open_container(Scan *scan, bool is_object)
{
	if (scan->depth >= scan->max_depth)
		return fail(scan, "nested too deeply");
	scan->names[scan->depth++] = is_object ? g_hash_table_new_full(g_str_hash, g_str_equal,
								       g_free, NULL)
					       : NULL;
	return true;
}

/* Takes the closing bracket of the innermost container, if it is next. */
static bool close_container(Scan *scan)
{
	GHashTable *names = scan->names[scan->depth - 1];

	skip_space(scan);
	if (!take(scan, names != NULL ? '}' : ']'))
		return false;
	g_clear_pointer(&scan->names[--scan->depth], g_hash_table_unref);
	return true;
}

/* Behind a value: closes what ends here, up to where the next value begins, or the text's end. */
static bool go_on(Scan *scan)
{
	while (scan->depth > 0) {
		if (close_container(scan))
			continue;
		if (!take(scan, ','))
			return fail(scan, "a comma or the end is wanted");
		return scan->names[scan->depth - 1] == NULL || take_name(scan);
	}
	return true;
}

/* One value, of a container its opening bracket; *@ret_is_open: a value is to follow inside it. */
static bool take_value(Scan *scan, bool *ret_is_open)
{
	bool is_object;

	*ret_is_open = false;
	skip_space(scan);
	if (scan->values_left-- == 0)
		return fail(scan, "too many values");
	is_object = take(scan, '{');
	if (!is_object && !take(scan, '['))
		return take_scalar(scan);
	if (!open_container(scan, is_object))
		return false;
	*ret_is_open = !close_container(scan);
	return !*ret_is_open || !is_object || take_name(scan);
}

static bool scan_all(Scan *scan)
{
	bool is_open;

	do {
		if (!take_value(scan, &is_open) || (!is_open && !go_on(scan)))
			return false;
	} while (scan->depth > 0);
	skip_space(scan);
	return scan->at == scan->end || fail(scan, "something behind the value");
}

bool hvp_json_scan_check(const char *text, gsize length_bytes, guint max_depth, gsize max_values,
			 GError **error)
{
	Scan scan = { .start = text,
		      .at = text,
		      .end = text + length_bytes,
		      .max_depth = MIN(max_depth, MAX_DEPTH),
		      .values_left = max_values };
	bool ok;

	if (!g_utf8_validate_len(text, length_bytes, NULL))
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "the JSON is not UTF-8");
	ok = scan_all(&scan);
	while (scan.depth > 0)
		g_clear_pointer(&scan.names[--scan.depth], g_hash_table_unref);
	if (ok)
		return true;
	return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
			       "not the JSON that is taken, at byte %" G_GSIZE_FORMAT ": %s",
			       (gsize)(scan.at - scan.start), scan.why);
}
