/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/output.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"

#define MAX_TEXT_BYTES 4096U
#define OBJECT_VERSION 1

char *hvp_cli_output_escape(const char *text)
{
	return hvp_text_escape(text ? text : "", HVP_TEXT_TERMINATED, MAX_TEXT_BYTES);
}

static char *format_hex(guint64 value)
{
	return g_strdup_printf("0x%" G_GINT64_MODIFIER "x", value);
}

char *hvp_cli_output_address(HvpGva address)
{
	return format_hex(address.value);
}

char *hvp_cli_output_time(gint64 unix_usec)
{
	g_autoptr(GDateTime) time = NULL;

	if (unix_usec > 0)
		time = g_date_time_new_from_unix_utc(unix_usec / G_USEC_PER_SEC);
	return time ? g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ") : g_strdup("");
}

JsonBuilder *hvp_cli_json_new(void)
{
	JsonBuilder *json = json_builder_new();

	json_builder_begin_object(json);
	hvp_cli_json_integer(json, "version", OBJECT_VERSION);
	return json;
}

static void print_node(JsonNode *root, bool pretty)
{
	g_autoptr(JsonGenerator) generator = json_generator_new();
	g_autofree char *text = NULL;

	json_generator_set_root(generator, root);
	json_generator_set_pretty(generator, pretty);
	text = json_generator_to_data(generator, NULL);
	printf("%s\n", text);
}

static void print_json(JsonBuilder *json, bool pretty)
{
	g_autoptr(JsonNode) root = NULL;

	json_builder_end_object(json);
	root = json_builder_get_root(json);
	print_node(root, pretty);
	g_object_unref(json);
}

void hvp_cli_json_print_node(JsonNode *root)
{
	print_node(root, isatty(STDOUT_FILENO));
}

void hvp_cli_json_print_node_line(JsonNode *root)
{
	print_node(root, false);
}

void hvp_cli_json_print(JsonBuilder *json)
{
	print_json(json, isatty(STDOUT_FILENO));
}

void hvp_cli_json_print_line(JsonBuilder *json)
{
	print_json(json, false);
}

void hvp_cli_json_text(JsonBuilder *json, const char *name, const char *text)
{
	g_autofree char *escaped = hvp_cli_output_escape(text);

	json_builder_set_member_name(json, name);
	if (text == NULL)
		json_builder_add_null_value(json);
	else
		json_builder_add_string_value(json, escaped);
}

void hvp_cli_json_integer(JsonBuilder *json, const char *name, gint64 value)
{
	json_builder_set_member_name(json, name);
	json_builder_add_int_value(json, value);
}

void hvp_cli_json_bool(JsonBuilder *json, const char *name, bool value)
{
	json_builder_set_member_name(json, name);
	json_builder_add_boolean_value(json, value);
}

void hvp_cli_json_hex(JsonBuilder *json, const char *name, guint64 value)
{
	g_autofree char *text = format_hex(value);

	hvp_cli_json_text(json, name, text);
}

void hvp_cli_json_address(JsonBuilder *json, const char *name, HvpGva address)
{
	if (address.value == 0)
		hvp_cli_json_text(json, name, NULL);
	else
		hvp_cli_json_hex(json, name, address.value);
}

void hvp_cli_json_begin_array(JsonBuilder *json, const char *name)
{
	json_builder_set_member_name(json, name);
	json_builder_begin_array(json);
}

void hvp_cli_json_error(JsonBuilder *json, const GError *error)
{
	hvp_cli_json_text(json, "code", error ? hvp_error_name(error) : NULL);
	hvp_cli_json_text(json, "message", error ? error->message : NULL);
}

struct libscols_table *hvp_cli_table_new(const HvpCliColumn *columns)
{
	struct libscols_table *table = scols_new_table();

	scols_table_enable_ascii(table, !isatty(STDOUT_FILENO));
	scols_table_set_stream(table, stdout);
	/* No blanks at the end of lines. */
	scols_table_enable_minout(table, 1);
	for (; columns->name != NULL; columns++) {
		struct libscols_column *column = scols_table_new_column(table, columns->name, 0,
									columns->flags);

		/* Escaped already: the backslashes are ours. */
		scols_column_set_safechars(column, "\\");
	}
	return table;
}

void hvp_cli_table_add(struct libscols_table *table, ...)
{
	struct libscols_line *line = scols_table_new_line(table, NULL);
	gsize count = scols_table_get_ncols(table);
	va_list cells;

	va_start(cells, table);
	for (gsize i = 0; i < count; i++) {
		const char *cell = va_arg(cells, const char *);
		g_autofree char *escaped = hvp_cli_output_escape(cell);

		scols_line_set_data(line, i, escaped);
	}
	va_end(cells);
}

void hvp_cli_table_print(struct libscols_table *table)
{
	if (scols_table_get_nlines(table) > 0)
		scols_print_table(table);
	scols_unref_table(table);
}

static void note_free(gpointer note)
{
	g_string_free(note, TRUE);
}

HvpCliListing hvp_cli_listing_begin(const HvpCliColumn *columns)
{
	return (HvpCliListing){ hvp_cli_table_new(columns),
				g_ptr_array_new_with_free_func(note_free) };
}

GString *hvp_cli_listing_note(HvpCliListing *self)
{
	GString *note = g_string_new(NULL);

	g_ptr_array_add(self->notes, note);
	return note;
}

/* The table as a whole, for widths are computed for all of it each time; then line by line. */
void hvp_cli_listing_print(HvpCliListing *self)
{
	char *text = NULL, *rest, *line;
	guint index = 0;

	if (self->notes->len > 0 && scols_print_table_to_string(self->table, &text) == 0) {
		rest = text;
		/* The first line is the header; cells hold no newline, they are escaped. */
		line = strsep(&rest, "\n");
		printf("%s\n", line);
		while (index < self->notes->len && (line = strsep(&rest, "\n")) != NULL) {
			const GString *note = g_ptr_array_index(self->notes, index++);

			printf("%s\n%s", line, note->str);
		}
	}
	free(text);
	scols_unref_table(self->table);
	g_ptr_array_unref(self->notes);
}

void hvp_cli_output_error_line(const GError *error)
{
	g_autofree char *message = hvp_cli_output_escape(error->message);

	fflush(stdout);
	fprintf(stderr, "hvpatch: %s\n", message);
}

int hvp_cli_output_fail(const HvpCli *cli, const GError *error)
{
	int exit_status = hvp_error_exit_status(error);

	if (cli->output == HVP_CLI_JSON) {
		JsonBuilder *json = hvp_cli_json_new();

		hvp_cli_json_error(json, error);
		hvp_cli_json_print(json);
	}
	/* Whoever mistypes is a person, whatever output was asked for. */
	if (cli->output == HVP_CLI_TABLE || exit_status == 2)
		hvp_cli_output_error_line(error);
	return exit_status;
}
