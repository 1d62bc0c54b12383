/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/messages.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define WARNING_LEVEL 4U
#define LEVEL_MASK 7U
#define MAX_TEXT_BYTES 1024U
#define MAX_LEARNT 4096U

/* Behind "NAME: ", once for a guest or a module (kernel/module/main.c). */
static const char *const loader_notes[] = {
	"loading out-of-tree module taints kernel.",
	"module verification failed: signature and/or required key missing - tainting kernel",
	"tainting kernel with TAINT_LIVEPATCH",
};

/* Where each CPU is a thread on a busy host, clocks and watchdogs see it standing. */
static const char *const emulator_notes[] = {
	"clocksource: ", "hrtimer: interrupt took ",	  "sched_clock: ",
	"workqueue: ",	 "perf: interrupt took too long",
};

const char *hvp_messages_kind_name(HvpMessageKind kind)
{
	static const char *const names[] = { "quiet", "loader", "emulator", "before", "against" };

	return (guint)kind < G_N_ELEMENTS(names) ? names[kind] : "against";
}

static void message_free(gpointer data)
{
	HvpMessage *message = data;

	g_free(message->text);
	g_free(message);
}

HvpMessages *hvp_messages_new(const char *patch)
{
	HvpMessages *self = g_new0(HvpMessages, 1);

	self->messages = g_ptr_array_new_with_free_func(message_free);
	self->before = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	self->patch = g_strdup(patch);
	return self;
}

void hvp_messages_free(HvpMessages *self)
{
	if (self == NULL)
		return;
	g_ptr_array_unref(self->messages);
	g_hash_table_unref(self->before);
	g_free(self->patch);
	g_free(self->ignored);
	g_free(self);
}

/* "<N>[ seconds.usec] text": where the text begins, or NULL. */
static const char *parse(const char *line, guint *ret_level)
{
	const char *next = line;
	char *end;
	guint64 number;

	if (*next++ != '<' || !g_ascii_isdigit(*next))
		return NULL;
	number = strtoull(next, &end, 10);
	if (end[0] != '>' || end[1] != '[')
		return NULL;
	next = end + 2;
	next += strspn(next, " ");
	next += strspn(next, "0123456789.");
	if (*next++ != ']')
		return NULL;
	*ret_level = (guint)(number & LEVEL_MASK);
	return *next == ' ' ? next + 1 : next;
}

/* The same message with other addresses, times or numbers is the same message. */
static char *without_numbers(const char *text)
{
	GString *plain = g_string_new(NULL);

	for (; *text != 0; text++)
		if (!g_ascii_isxdigit(*text))
			g_string_append_c(plain, *text);
		else if (plain->len == 0 || plain->str[plain->len - 1] != '#')
			g_string_append_c(plain, '#');
	return g_string_free(plain, FALSE);
}

static bool is_loader_note(const HvpMessages *self, const char *text)
{
	gsize length = strlen(self->patch);

	if (strncmp(text, self->patch, length) != 0 || strncmp(text + length, ": ", 2) != 0)
		return false;
	for (guint i = 0; i < G_N_ELEMENTS(loader_notes); i++)
		if (strcmp(text + length + 2, loader_notes[i]) == 0)
			return true;
	return false;
}

static bool is_emulator_note(const char *text)
{
	for (guint i = 0; i < G_N_ELEMENTS(emulator_notes); i++)
		if (g_str_has_prefix(text, emulator_notes[i]))
			return true;
	return false;
}

static HvpMessageKind sort(const HvpMessages *self, guint level, const char *text)
{
	g_autofree char *plain = NULL;

	if (is_loader_note(self, text))
		return HVP_MESSAGE_LOADER;
	if (level > WARNING_LEVEL)
		return HVP_MESSAGE_QUIET;
	if (is_emulator_note(text))
		return HVP_MESSAGE_EMULATOR;
	plain = without_numbers(text);
	return g_hash_table_contains(self->before, plain) ? HVP_MESSAGE_BEFORE
							  : HVP_MESSAGE_AGAINST;
}

static void take(HvpMessages *self, guint level, const char *text)
{
	HvpMessageKind kind = sort(self, level, text);
	HvpMessage *message;

	if (kind == HVP_MESSAGE_AGAINST)
		self->against++;
	if (self->messages->len == HVP_MESSAGES_MAX) {
		self->dropped++;
		return;
	}
	message = g_new0(HvpMessage, 1);
	message->level = level;
	message->text = g_strdup(text);
	message->kind = kind;
	g_ptr_array_add(self->messages, message);
}

static bool is_ignored(const HvpMessages *self, const char *text)
{
	return self->ignored != NULL && strstr(text, self->ignored) != NULL;
}

/* Calls for each message of @text; a line that is none, or not whole, is passed by. */
static void for_each(HvpMessages *self, const char *text, gsize length_bytes, bool learn)
{
	const char *end = text + length_bytes;

	while (text < end) {
		const char *newline = memchr(text, '\n', (gsize)(end - text));
		g_autofree char *line = NULL;
		g_autofree char *escaped = NULL;
		const char *body;
		guint level;

		if (newline == NULL)
			return;
		line = g_strndup(text, (gsize)(newline - text));
		line[strcspn(line, "\r")] = 0;
		text = newline + 1;
		body = parse(line, &level);
		if (body == NULL || is_ignored(self, body))
			continue;
		escaped = hvp_text_escape(body, HVP_TEXT_TERMINATED, MAX_TEXT_BYTES);
		if (!learn)
			take(self, level, escaped);
		else if (g_hash_table_size(self->before) < MAX_LEARNT)
			g_hash_table_add(self->before, without_numbers(escaped));
	}
}

void hvp_messages_ignore(HvpMessages *self, const char *word)
{
	g_free(self->ignored);
	self->ignored = g_strdup(word);
}

void hvp_messages_learn(HvpMessages *self, const char *text, gsize length_bytes)
{
	for_each(self, text, length_bytes, true);
}

void hvp_messages_add(HvpMessages *self, const char *text, gsize length_bytes)
{
	for_each(self, text, length_bytes, false);
}
