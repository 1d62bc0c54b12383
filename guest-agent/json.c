/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "json.h"

#include <string.h>

#include "utf8.h"

#define NAME_CAPACITY 32

typedef enum {
	WANT_VALUE,
	WANT_VALUE_OR_END, /* behind [ */
	WANT_NAME,
	WANT_NAME_OR_END, /* behind { */
	WANT_COLON,
	WANT_COMMA_OR_END,
	WANT_NOTHING, /* the text is whole */
} Want;

typedef struct {
	AgentJson *json;
	size_t at;
	Want want;
	uint32_t open[AGENT_JSON_MAX_DEPTH]; /* the objects and arrays that are not yet closed */
	size_t depth;
} Parser;

static char peek(const Parser *self)
{
	return self->at < self->json->size_bytes ? self->json->text[self->at] : '\0';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hexadecimal digits; -1: not four. */
static int32_t hex_four(const char *text, size_t size_bytes)
{
	int32_t value = 0;

	if (size_bytes < 4)
		return -1;
	for (size_t i = 0; i < 4; i++) {
		int digit = hex_digit(text[i]);

		if (digit < 0)
			return -1;
		value = value << 4 | digit;
	}
	return value;
}

static bool is_surrogate(int32_t unit, int32_t first)
{
	return unit >= first && unit < first + 0x400;
}

/*
 * The character of an escape, @text being behind the backslash; *ret_used is what it took. -1: no
 * escape of JSON, or half a surrogate pair.
 */
static int32_t read_escape(const char *text, size_t size_bytes, size_t *ret_used)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	const char *name;
	int32_t high, low;

	if (size_bytes == 0)
		return -1;
	name = text[0] != '\0' ? strchr(names, text[0]) : NULL;
	*ret_used = 1;
	if (name != NULL)
		return values[name - names];
	if (text[0] != 'u')
		return -1;
	high = hex_four(text + 1, size_bytes - 1);
	*ret_used = 5;
	if (high < 0 || is_surrogate(high, 0xdc00))
		return -1;
	if (!is_surrogate(high, 0xd800))
		return high;
	if (size_bytes < 7 || text[5] != '\\' || text[6] != 'u')
		return -1;
	low = hex_four(text + 7, size_bytes - 7);
	*ret_used = 11;
	return is_surrogate(low, 0xdc00) ? 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00) : -1;
}

static const char *add_value(Parser *self, AgentJsonType type, size_t start)
{
	AgentJson *json = self->json;

	if (json->count == AGENT_JSON_MAX_VALUES)
		return "too many values";
	json->values[json->count] = (AgentJsonValue){
		.type = type,
		.start = (uint32_t)start,
		.end = (uint32_t)self->at,
		.next = json->count + 1,
	};
	json->count++;
	return NULL;
}

/* A value is whole: what may follow it. */
static void value_ends(Parser *self)
{
	self->want = self->depth > 0 ? WANT_COMMA_OR_END : WANT_NOTHING;
}

static const char *read_string(Parser *self)
{
	size_t start = self->at++;
	const char *text = self->json->text;
	size_t size_bytes = self->json->size_bytes;

	while (self->at < size_bytes && text[self->at] != '"') {
		size_t used = 1;

		if ((unsigned char)text[self->at] < 0x20)
			return "a control character in a string";
		if (text[self->at] == '\\') {
			self->at++;
			if (read_escape(text + self->at, size_bytes - self->at, &used) < 0)
				return "a bad escape in a string";
		}
		self->at += used;
	}
	if (self->at >= size_bytes)
		return "a string without an end";
	self->at++;
	return add_value(self, AGENT_JSON_STRING, start);
}

static bool skip_digits(Parser *self)
{
	size_t start = self->at;

	while (is_digit(peek(self)))
		self->at++;
	return self->at > start;
}

static const char *read_number(Parser *self)
{
	size_t start = self->at;
	bool good;

	self->at += peek(self) == '-';
	if (peek(self) == '0') {
		self->at++;
		good = true;
	} else {
		good = skip_digits(self);
	}
	if (good && peek(self) == '.') {
		self->at++;
		good = skip_digits(self);
	}
	if (good && (peek(self) == 'e' || peek(self) == 'E')) {
		self->at++;
		self->at += peek(self) == '+' || peek(self) == '-';
		good = skip_digits(self);
	}
	return good ? add_value(self, AGENT_JSON_NUMBER, start) : "a bad number";
}

static const char *read_literal(Parser *self)
{
	static const struct {
		const char *name;
		AgentJsonType type;
	} literals[] = { { "true", AGENT_JSON_TRUE },
			 { "false", AGENT_JSON_FALSE },
			 { "null", AGENT_JSON_NULL } };
	size_t start = self->at, left = self->json->size_bytes - start;

	for (size_t i = 0; i < sizeof literals / sizeof literals[0]; i++) {
		size_t length = strlen(literals[i].name);

		if (left < length || memcmp(self->json->text + start, literals[i].name, length))
			continue;
		self->at += length;
		return add_value(self, literals[i].type, start);
	}
	return "no JSON";
}

static const char *open_container(Parser *self, AgentJsonType type)
{
	const char *reason;

	if (self->depth == AGENT_JSON_MAX_DEPTH)
		return "too deep";
	self->at++;
	reason = add_value(self, type, self->at - 1);
	if (reason != NULL)
		return reason;
	self->open[self->depth++] = self->json->count - 1;
	self->want = type == AGENT_JSON_OBJECT ? WANT_NAME_OR_END : WANT_VALUE_OR_END;
	return NULL;
}

static const char *close_container(Parser *self, char c)
{
	AgentJsonValue *value;

	if (self->depth == 0)
		return "no JSON";
	value = &self->json->values[self->open[self->depth - 1]];
	if (c != (value->type == AGENT_JSON_OBJECT ? '}' : ']'))
		return "no comma and no end where one has to be";
	self->at++;
	value->end = (uint32_t)self->at;
	value->next = self->json->count;
	self->depth--;
	value_ends(self);
	return NULL;
}

static const char *read_value(Parser *self, char c)
{
	const char *reason;

	if (c == '{' || c == '[')
		return open_container(self, c == '{' ? AGENT_JSON_OBJECT : AGENT_JSON_ARRAY);
	if (c == '"')
		reason = read_string(self);
	else if (c == '-' || is_digit(c))
		reason = read_number(self);
	else
		reason = read_literal(self);
	value_ends(self);
	return reason;
}

static const char *read_name(Parser *self, char c)
{
	self->want = WANT_COLON;
	return c == '"' ? read_string(self) : "no name where one has to be";
}

static const char *read_comma(Parser *self, char c)
{
	const AgentJsonValue *container = &self->json->values[self->open[self->depth - 1]];

	if (c != ',')
		return close_container(self, c);
	self->at++;
	self->want = container->type == AGENT_JSON_OBJECT ? WANT_NAME : WANT_VALUE;
	return NULL;
}

/* Reads one piece of the text, which begins with @c. */
static const char *step(Parser *self, char c)
{
	switch (self->want) {
	case WANT_VALUE_OR_END:
		if (c == ']')
			return close_container(self, c);
		return read_value(self, c);
	case WANT_VALUE:
		return read_value(self, c);
	case WANT_NAME_OR_END:
		if (c == '}')
			return close_container(self, c);
		return read_name(self, c);
	case WANT_NAME:
		return read_name(self, c);
	case WANT_COLON:
		self->at++;
		self->want = WANT_VALUE;
		return c == ':' ? NULL : "no colon where one has to be";
	case WANT_COMMA_OR_END:
		return read_comma(self, c);
	case WANT_NOTHING:
		break;
	}
	return "more than one value";
}

static bool is_utf8(const char *text, size_t size_bytes)
{
	for (size_t at = 0; at < size_bytes;) {
		size_t length = agent_utf8_length(text + at, size_bytes - at);

		if (length == 0)
			return false;
		at += length;
	}
	return true;
}

const char *agent_json_parse(AgentJson *self, const char *text, size_t size_bytes)
{
	Parser parser = { .json = self, .want = WANT_VALUE };

	self->text = text;
	self->size_bytes = size_bytes;
	self->count = 0;
	if (size_bytes > UINT32_MAX)
		return "too long";
	if (!is_utf8(text, size_bytes))
		return "no UTF-8";
	for (;;) {
		const char *reason;

		while (parser.at < size_bytes && memchr(" \t\r\n", text[parser.at], 4) != NULL)
			parser.at++;
		if (parser.at == size_bytes)
			return parser.want == WANT_NOTHING ? NULL : "it ends too early";
		reason = step(&parser, text[parser.at]);
		if (reason != NULL)
			return reason;
	}
}

static size_t find_name(const AgentJson *self, uint32_t index, const char *const *names,
			size_t name_count)
{
	char name[NAME_CAPACITY];
	size_t i = 0;

	if (!agent_json_get_string(self, index, name, sizeof name))
		return name_count;
	while (i < name_count && strcmp(name, names[i]) != 0)
		i++;
	return i;
}

const char *agent_json_members(const AgentJson *self, uint32_t object, const char *const *names,
			       size_t name_count, uint32_t *ret_indexes)
{
	const AgentJsonValue *values = self->values;

	memset(ret_indexes, 0, name_count * sizeof *ret_indexes);
	if (values[object].type != AGENT_JSON_OBJECT)
		return "no object where one has to be";
	for (uint32_t i = object + 1; i < values[object].next; i = values[i + 1].next) {
		size_t known = find_name(self, i, names, name_count);

		if (known == name_count)
			return "an unknown member";
		if (ret_indexes[known] != 0)
			return "a member that comes twice";
		ret_indexes[known] = i + 1;
	}
	return NULL;
}

bool agent_json_get_integer(const AgentJson *self, uint32_t index, int64_t *ret_value)
{
	const AgentJsonValue *value = &self->values[index];
	bool negative = self->text[value->start] == '-';
	int64_t sum = 0;

	if (value->type != AGENT_JSON_NUMBER)
		return false;
	/* Summed up below zero, where there is room for one more. */
	for (uint32_t i = value->start + negative; i < value->end; i++) {
		if (!is_digit(self->text[i]) || __builtin_mul_overflow(sum, 10, &sum) ||
		    __builtin_sub_overflow(sum, self->text[i] - '0', &sum))
			return false;
	}
	if (!negative && __builtin_sub_overflow(0, sum, &sum))
		return false;
	*ret_value = sum;
	return true;
}

bool agent_json_get_boolean(const AgentJson *self, uint32_t index, bool *ret_value)
{
	AgentJsonType type = self->values[index].type;

	if (type != AGENT_JSON_TRUE && type != AGENT_JSON_FALSE)
		return false;
	*ret_value = type == AGENT_JSON_TRUE;
	return true;
}

static size_t encode_utf8(uint32_t character, char *ret_bytes)
{
	static const unsigned char marks[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
	size_t length = character < 0x80 ? 1 : character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;

	for (size_t i = length - 1; i > 0; i--) {
		ret_bytes[i] = (char)(0x80 | (character & 0x3f));
		character >>= 6;
	}
	ret_bytes[0] = (char)(marks[length == 1 ? 0 : length] | character);
	return length;
}

bool agent_json_get_string(const AgentJson *self, uint32_t index, char *ret_text, size_t capacity)
{
	const AgentJsonValue *value = &self->values[index];
	const char *at = self->text + value->start + 1, *end = self->text + value->end - 1;
	size_t length = 0;

	if (value->type != AGENT_JSON_STRING)
		return false;
	while (at < end) {
		size_t used = 1, size_bytes = 1;
		char bytes[4] = { *at };

		if (*at == '\\') {
			int32_t character = read_escape(at + 1, (size_t)(end - at) - 1, &used);

			size_bytes = encode_utf8((uint32_t)character, bytes);
			used++;
		}
		if (bytes[0] == '\0' || size_bytes >= capacity - length)
			return false;
		memcpy(ret_text + length, bytes, size_bytes);
		length += size_bytes;
		at += used;
	}
	ret_text[length] = '\0';
	return true;
}
