/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One finding: what was looked at, how it is, why, and what mends it. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

typedef enum {
	HVP_ITEM_OK,
	HVP_ITEM_WARNING, /* works, or not everything does */
	HVP_ITEM_MISSING, /* hvpatch cannot do its work */
	HVP_ITEM_UNKNOWN,
} HvpItemState;

typedef struct {
	const char *name; /* static */
	HvpItemState state;
	HvpErrorCode code; /* of MISSING: with which commands would fail */
	char *why;	   /* foreign text in it is not escaped */
	char *remedy;	   /* lines of shell, or of XML in comments; NULL: none */
} HvpItem;

/* "ok", "warning", "missing", "unknown"; static. */
const char *hvp_item_state_name(HvpItemState state);

/* An empty array of HvpItem that owns what is in it. */
GPtrArray *hvp_item_list_new(void);

/* Each adds one. @remedy is taken and may be NULL. */
void hvp_item_ok(GPtrArray *items, const char *name, const char *format, ...) G_GNUC_PRINTF(3, 4);
void hvp_item_unknown(GPtrArray *items, const char *name, const char *format, ...)
	G_GNUC_PRINTF(3, 4);
void hvp_item_warn(GPtrArray *items, const char *name, char *remedy, const char *format, ...)
	G_GNUC_PRINTF(4, 5);
void hvp_item_miss(GPtrArray *items, const char *name, HvpErrorCode code, char *remedy,
		   const char *format, ...) G_GNUC_PRINTF(5, 6);

/* What @error says is missing; @remedy as above. */
void hvp_item_miss_error(GPtrArray *items, const char *name, const GError *error, char *remedy);

/* A remedy for the item that was added last: what could be better though it is ok. Takes @hint. */
void hvp_item_hint(GPtrArray *items, char *hint);
