/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What users and scripts get to see: tables for people, one JSON object for
 * scripts, one line for an error. Text of guests and files is escaped here, so
 * that it can neither drive a terminal nor break JSON.
 */
#pragma once

#include <libsmartcols.h>

#include "cli/cli.h"
#include "document/json.h"

/* Escapes guest or foreign text, NULL as ""; the caller's. */
char *hvp_cli_output_escape(const char *text);

/* "0x..."; the caller's. */
char *hvp_cli_output_address(HvpGva address);

/* Unix time in microseconds as ISO 8601 in UTC, "" where it is no time; the caller's. */
char *hvp_cli_output_time(gint64 unix_usec);

/* Prints the object that hvp_json_new has begun, and takes it. */
void hvp_cli_json_print(JsonBuilder *json);
/* Prints a document, and takes it. */
void hvp_cli_json_print_node(JsonNode *node);
/* The same on one line, wherever it goes. */
void hvp_cli_json_print_line(JsonBuilder *json);

/* A complete document (taken) on one line wherever it goes. */
void hvp_cli_json_print_node_line(JsonNode *node);

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
