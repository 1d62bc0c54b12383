/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The body of a request as it comes from the wire: of known length, or chunked (RFC 9112, 7.1)
 * without chunk extensions and trailers, which nobody sends and readers disagree about.
 */
#pragma once

#include "apid/head.h"

typedef struct {
	HvpBodyKind kind;
	guint64 left_bytes; /* of the body, or of the chunk */
	guint64 taken_bytes;
	guint64 max_bytes;
	guint state;
	guint digits;
	bool is_done;
} HvpBody;

/* @max_bytes: of the body; one that says it is longer is for the caller to refuse. */
void hvp_body_init(HvpBody *self, const HvpHead *head, guint64 max_bytes);

/*
 * Takes what belongs to the body from the front of @wire and appends its payload to @payload.
 * INVALID_ARGUMENT: not a chunked body; TOO_LARGE: past the maximum. Nothing more may be taken
 * then.
 */
bool hvp_body_take(HvpBody *self, GByteArray *wire, GByteArray *payload, GError **error);
