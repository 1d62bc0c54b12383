/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A strict reader of one JSON text (RFC 8259) that comes from somebody hostile: no allocation, no
 * recursion, fixed limits. Values stand in the order of the text; an object or array is followed
 * by what is in it, an object's names each before its value.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AGENT_JSON_MAX_DEPTH 16
#define AGENT_JSON_MAX_VALUES 512

typedef enum {
	AGENT_JSON_OBJECT,
	AGENT_JSON_ARRAY,
	AGENT_JSON_STRING,
	AGENT_JSON_NUMBER,
	AGENT_JSON_TRUE,
	AGENT_JSON_FALSE,
	AGENT_JSON_NULL,
} AgentJsonType;

typedef struct {
	AgentJsonType type;
	uint32_t start, end; /* in the text; strings with their quotes */
	uint32_t next;	     /* the index behind this value and all that is in it */
} AgentJsonValue;

typedef struct {
	const char *text; /* borrowed from the caller */
	size_t size_bytes;
	AgentJsonValue values[AGENT_JSON_MAX_VALUES]; /* the first is the whole text */
	uint32_t count;
} AgentJson;

/*
 * Reads @text, which need not end in NUL and has to outlive @self. Returns NULL, or a phrase that
 * says what is wrong; @self is of no use then.
 */
const char *agent_json_parse(AgentJson *self, const char *text, size_t size_bytes);

/*
 * Looks the members of @object up: ret_indexes[i] is the value of names[i], 0 if there is none.
 * Returns NULL, or what is wrong: no object, a name that is not in @names, one that comes twice.
 */
const char *agent_json_members(const AgentJson *self, uint32_t object, const char *const *names,
			       size_t name_count, uint32_t *ret_indexes);

/* False: no whole number, or it does not fit. */
bool agent_json_get_integer(const AgentJson *self, uint32_t index, int64_t *ret_value);

bool agent_json_get_boolean(const AgentJson *self, uint32_t index, bool *ret_value);

/* Ended by NUL. False: no string, longer than @capacity - 1 bytes, or with a NUL of its own. */
bool agent_json_get_string(const AgentJson *self, uint32_t index, char *ret_text, size_t capacity);
