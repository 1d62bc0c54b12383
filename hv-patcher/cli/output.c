/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/output.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

char *hvp_cli_output_escape(const char *text)
{
	return hvp_json_escape(text);
}

char *hvp_cli_output_address(HvpGva address)
{
	return hvp_json_format_address(address);
}

char *hvp_cli_output_time(gint64 unix_usec)
{
	return hvp_json_format_time(unix_usec);
}

/* Takes @node. */
static void print_json(JsonNode *node, bool pretty)
{
	g_autoptr(JsonGenerator) generator = json_generator_new();
	g_autoptr(JsonNode) root = node;
	g_autofree char *text = NULL;

	json_generator_set_root(generator, root);
	json_generator_set_pretty(generator, pretty);
	text = json_generator_to_data(generator, NULL);
	printf("%s\n", text);
}

void hvp_cli_json_print_node(JsonNode *node)
{
	print_json(node, isatty(STDOUT_FILENO));
}

void hvp_cli_json_print_node_line(JsonNode *node)
{
	print_json(node, false);
}

void hvp_cli_json_print(JsonBuilder *json)
{
	hvp_cli_json_print_node(hvp_json_end(json));
}

void hvp_cli_json_print_line(JsonBuilder *json)
{
	hvp_cli_json_print_node_line(hvp_json_end(json));
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
		JsonBuilder *json = hvp_json_new();

		hvp_json_error(json, error);
		hvp_cli_json_print(json);
	}
	/* Whoever mistypes is a person, whatever output was asked for. */
	if (cli->output == HVP_CLI_TABLE || exit_status == 2)
		hvp_cli_output_error_line(error);
	return exit_status;
}
