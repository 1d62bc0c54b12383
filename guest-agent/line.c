/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "line.h"

void agent_line_reset(AgentLine *self)
{
	self->used_bytes = 0;
	self->whole = false;
	self->dropping = false;
}

static AgentLineResult take_byte(AgentLine *self, char byte)
{
	if (byte == AGENT_LINE_RESET) {
		agent_line_reset(self);
		return AGENT_LINE_UNFINISHED;
	}
	if (byte == '\n') {
		self->whole = !self->dropping;
		self->dropping = false;
		return self->whole ? AGENT_LINE_WHOLE : AGENT_LINE_UNFINISHED;
	}
	if (self->dropping)
		return AGENT_LINE_UNFINISHED;
	if (self->used_bytes == sizeof self->bytes) {
		self->used_bytes = 0;
		self->dropping = true;
		return AGENT_LINE_TOO_LONG;
	}
	self->bytes[self->used_bytes++] = byte;
	return AGENT_LINE_UNFINISHED;
}

AgentLineResult agent_line_take(AgentLine *self, const char *bytes, size_t size_bytes,
				size_t *ret_taken_bytes)
{
	AgentLineResult result = AGENT_LINE_UNFINISHED;
	size_t taken_bytes = 0;

	if (self->whole)
		agent_line_reset(self);
	while (taken_bytes < size_bytes && result == AGENT_LINE_UNFINISHED)
		result = take_byte(self, bytes[taken_bytes++]);
	*ret_taken_bytes = taken_bytes;
	return result;
}
