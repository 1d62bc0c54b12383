/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/query.h"

#include <string.h>

#include "apid/problem.h"

#define UUID_LENGTH 36
#define SHA256_LENGTH 64

static bool is_lower_hex(char byte)
{
	return g_ascii_isdigit(byte) || (byte >= 'a' && byte <= 'f');
}

bool hvp_query_is_uuid(const char *text)
{
	for (guint i = 0; i < UUID_LENGTH; i++) {
		bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (is_dash ? text[i] != '-' : !is_lower_hex(text[i]))
			return false;
	}
	return text[UUID_LENGTH] == '\0';
}

bool hvp_query_is_sha256(const char *text)
{
	for (guint i = 0; i < SHA256_LENGTH; i++)
		if (!is_lower_hex(text[i]))
			return false;
	return text[SHA256_LENGTH] == '\0';
}

bool hvp_query_is_script(const char *text)
{
	gsize stem = strspn(text, G_CSET_a_2_z "-");

	return stem > 0 && strcmp(text + stem, ".js") == 0;
}

static bool is_plain(const char *text)
{
	return text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-_.")] == '\0' &&
	       text[0] != '\0';
}

static bool add_pair(GHashTable *table, const char *pair, const char *const *names, GError **error)
{
	g_auto(GStrv) parts = g_strsplit(pair, "=", 2);

	if (parts[0] == NULL || !g_strv_contains(names, parts[0]))
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "an unknown query parameter");
	if (parts[1] == NULL || !is_plain(parts[1]))
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "query parameter %s: not a value", parts[0]);
	if (g_hash_table_contains(table, parts[0]))
		return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
				       "query parameter %s is there twice", parts[0]);
	g_hash_table_insert(table, g_strdup(parts[0]), g_strdup(parts[1]));
	return true;
}

GHashTable *hvp_query_parse(const char *query, const char *const *names, GError **error)
{
	g_autoptr(GHashTable)
		table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	g_auto(GStrv) pairs = g_strsplit(query ? query : "", "&", -1);

	for (guint i = 0; pairs[i] != NULL; i++)
		if (!add_pair(table, pairs[i], names, error))
			return NULL;
	return g_steal_pointer(&table);
}

bool hvp_query_number(GHashTable *query, const char *name, guint64 minimum, guint64 maximum,
		      guint64 normal, guint64 *ret_value, GError **error)
{
	const char *text = g_hash_table_lookup(query, name);

	*ret_value = normal;
	if (text == NULL || g_ascii_string_to_unsigned(text, 10, minimum, maximum, ret_value, NULL))
		return true;
	return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
			       "query parameter %s: a number from %" G_GUINT64_FORMAT
			       " to %" G_GUINT64_FORMAT " is wanted",
			       name, minimum, maximum);
}

bool hvp_query_word(GHashTable *query, const char *name, const char *const *words,
		    const char **ret_word, GError **error)
{
	*ret_word = g_hash_table_lookup(query, name);
	if (*ret_word == NULL || g_strv_contains(words, *ret_word))
		return true;
	return hvp_problem_set(error, HVP_PROBLEM_INVALID_ARGUMENT,
			       "query parameter %s: an unknown word", name);
}
