/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes JSON into a fixed buffer. Commas come by themselves. What does not fit is left out and
 * makes @overflow true, from then on nothing more is written; a caller that wants to go on without
 * the last piece notes @used before it and goes back.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
	char *bytes;
	size_t capacity_bytes;
	size_t used_bytes;
	bool overflow;
} AgentWriter;

/* Where to go back to. */
typedef size_t AgentWriterMark;

AgentWriterMark agent_writer_mark(const AgentWriter *self);

/* Takes back all that was written since. */
void agent_writer_go_back(AgentWriter *self, AgentWriterMark mark);

/* As it is. */
void agent_writer_bytes(AgentWriter *self, const void *bytes, size_t size_bytes);
void agent_writer_text(AgentWriter *self, const char *text);

/* @bracket: one of { } [ ] */
void agent_writer_open(AgentWriter *self, char bracket);
void agent_writer_close(AgentWriter *self, char bracket);

/* The name of a member, which has to be plain ASCII; its value comes next. */
void agent_writer_name(AgentWriter *self, const char *name);

void agent_writer_integer(AgentWriter *self, int64_t value);
void agent_writer_boolean(AgentWriter *self, bool value);

/* Bytes that are no UTF-8 become U+FFFD. */
void agent_writer_string(AgentWriter *self, const char *text);
void agent_writer_string_bytes(AgentWriter *self, const char *text, size_t size_bytes);

/* A value that is JSON already. */
void agent_writer_json(AgentWriter *self, const char *json, size_t size_bytes);
