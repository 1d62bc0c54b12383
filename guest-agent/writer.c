/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "utf8.h"

#define REPLACEMENT "\xef\xbf\xbd"

AgentWriterMark agent_writer_mark(const AgentWriter *self)
{
	return self->used_bytes;
}

void agent_writer_go_back(AgentWriter *self, AgentWriterMark mark)
{
	self->used_bytes = mark;
	self->overflow = false;
}

void agent_writer_bytes(AgentWriter *self, const void *bytes, size_t size_bytes)
{
	if (self->overflow || size_bytes > self->capacity_bytes - self->used_bytes) {
		self->overflow = true;
		return;
	}
	memcpy(self->bytes + self->used_bytes, bytes, size_bytes);
	self->used_bytes += size_bytes;
}

void agent_writer_text(AgentWriter *self, const char *text)
{
	agent_writer_bytes(self, text, strlen(text));
}

/* A comma, unless this is the first in its object or array, or a member's value. */
static void separate(AgentWriter *self)
{
	char last = self->used_bytes > 0 ? self->bytes[self->used_bytes - 1] : '\xff';

	if (last != '{' && last != '[' && last != ':' && last != '\xff')
		agent_writer_text(self, ",");
}

void agent_writer_open(AgentWriter *self, char bracket)
{
	separate(self);
	agent_writer_bytes(self, &bracket, 1);
}

void agent_writer_close(AgentWriter *self, char bracket)
{
	agent_writer_bytes(self, &bracket, 1);
}

void agent_writer_name(AgentWriter *self, const char *name)
{
	agent_writer_string(self, name);
	agent_writer_text(self, ":");
}

void agent_writer_integer(AgentWriter *self, int64_t value)
{
	char text[24];

	snprintf(text, sizeof text, "%" PRId64, value);
	agent_writer_json(self, text, strlen(text));
}

void agent_writer_boolean(AgentWriter *self, bool value)
{
	separate(self);
	agent_writer_text(self, value ? "true" : "false");
}

static void write_character(AgentWriter *self, const char *text, size_t length)
{
	unsigned char first = (unsigned char)text[0];
	char escape[8];

	if (length == 0) {
		agent_writer_text(self, REPLACEMENT);
	} else if (first == '"' || first == '\\') {
		agent_writer_text(self, "\\");
		agent_writer_bytes(self, text, 1);
	} else if (first < 0x20 || first == 0x7f) {
		snprintf(escape, sizeof escape, "\\u%04x", first);
		agent_writer_text(self, escape);
	} else {
		agent_writer_bytes(self, text, length);
	}
}

void agent_writer_string_bytes(AgentWriter *self, const char *text, size_t size_bytes)
{
	separate(self);
	agent_writer_text(self, "\"");
	for (size_t at = 0; at < size_bytes && !self->overflow;) {
		size_t length = agent_utf8_length(text + at, size_bytes - at);

		write_character(self, text + at, length);
		at += length > 0 ? length : 1;
	}
	agent_writer_text(self, "\"");
}

void agent_writer_string(AgentWriter *self, const char *text)
{
	agent_writer_string_bytes(self, text, strlen(text));
}

void agent_writer_json(AgentWriter *self, const char *json, size_t size_bytes)
{
	separate(self);
	agent_writer_bytes(self, json, size_bytes);
}
