/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cuts what the host sends into lines. The byte 0xFF forgets an unfinished line. Of a line that is
 * too long the rest is dropped, up to its newline or a 0xFF.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define AGENT_LINE_MAX_BYTES 65535U
#define AGENT_LINE_RESET '\xff'

typedef enum {
	AGENT_LINE_UNFINISHED, /* all bytes are used up */
	AGENT_LINE_WHOLE,      /* @bytes and @used_bytes are it, without its newline */
	AGENT_LINE_TOO_LONG,   /* told once, as soon as that is clear */
} AgentLineResult;

typedef struct {
	char bytes[AGENT_LINE_MAX_BYTES];
	size_t used_bytes;
	bool whole;    /* @bytes was handed out */
	bool dropping; /* the rest of a line that is too long */
} AgentLine;

void agent_line_reset(AgentLine *self);

/* Takes bytes up to the end of a line; *ret_taken_bytes is how many. */
AgentLineResult agent_line_take(AgentLine *self, const char *bytes, size_t size_bytes,
				size_t *ret_taken_bytes);
