/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What users and scripts get to see: tables for people, one JSON object for
 * scripts, one line for an error. Text of guests and files is escaped here, so
 * that it can neither drive a terminal nor break JSON.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <libsmartcols.h>

#include "cli/cli.h"

/* Escapes guest or foreign text, NULL as ""; the caller's. */
char *hvp_cli_output_escape(const char *text);

/* "0x..."; the caller's. */
char *hvp_cli_output_address(HvpGva address);

/* Unix time in microseconds as ISO 8601 in UTC, "" where it is no time; the caller's. */
char *hvp_cli_output_time(gint64 unix_usec);

/* An object that is begun, with its "version"; ends with hvp_cli_json_print, which takes it. */
JsonBuilder *hvp_cli_json_new(void);
void hvp_cli_json_print(JsonBuilder *json);
/* The same on one line, wherever it goes. */
void hvp_cli_json_print_line(JsonBuilder *json);

/* A document that is complete: with line breaks on a terminal, or on one line wherever it goes. */
void hvp_cli_json_print_node(JsonNode *root);
void hvp_cli_json_print_node_line(JsonNode *root);

/* One member each. Text is escaped, NULL becomes null, as does an address of 0. */
void hvp_cli_json_text(JsonBuilder *json, const char *name, const char *text);
void hvp_cli_json_integer(JsonBuilder *json, const char *name, gint64 value);
void hvp_cli_json_bool(JsonBuilder *json, const char *name, bool value);
void hvp_cli_json_hex(JsonBuilder *json, const char *name, guint64 value);
void hvp_cli_json_address(JsonBuilder *json, const char *name, HvpGva address);
void hvp_cli_json_begin_array(JsonBuilder *json, const char *name);

/* "code" and "message" of @error, null both without one. */
void hvp_cli_json_error(JsonBuilder *json, const GError *error);

/* A column; SCOLS_FL_RIGHT for numbers. */
typedef struct {
	const char *name;
	int flags;
} HvpCliColumn;

/* A table of @columns, the last one named NULL. hvp_cli_table_print frees it. */
struct libscols_table *hvp_cli_table_new(const HvpCliColumn *columns);

/* Adds a line of as many cells as there are columns; each is escaped. */
void hvp_cli_table_add(struct libscols_table *table, ...) G_GNUC_NULL_TERMINATED;

/* Prints to stdout, and frees. A table without a line prints nothing. */
void hvp_cli_table_print(struct libscols_table *table);

/* A table of which each line may have text underneath. */
typedef struct {
	struct libscols_table *table;
	GPtrArray *notes; /* GString, one a line */
} HvpCliListing;

HvpCliListing hvp_cli_listing_begin(const HvpCliColumn *columns);

/* What goes underneath the line that is added next: whole lines, escaped. Owned by @self. */
GString *hvp_cli_listing_note(HvpCliListing *self);

/* Prints to stdout, and frees. There must be as many lines as notes. */
void hvp_cli_listing_print(HvpCliListing *self);

/* Shows @error: on stderr, and as an object on stdout for JSON. Returns the exit status. */
int hvp_cli_output_fail(const HvpCli *cli, const GError *error);

/* The line for people alone. */
void hvp_cli_output_error_line(const GError *error);
