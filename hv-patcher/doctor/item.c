/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "doctor/item.h"

#include <stdarg.h>

const char *hvp_item_state_name(HvpItemState state)
{
	static const char *const names[] = { "ok", "warning", "missing", "unknown" };

	return names[state];
}

static void item_free(gpointer data)
{
	HvpItem *self = data;

	g_free(self->why);
	g_free(self->remedy);
	g_free(self);
}

GPtrArray *hvp_item_list_new(void)
{
	return g_ptr_array_new_with_free_func(item_free);
}

/* Takes @why and @remedy. */
static void add(GPtrArray *items, const char *name, HvpItemState state, HvpErrorCode code,
		char *why, char *remedy)
{
	HvpItem *item = g_new0(HvpItem, 1);

	*item = (HvpItem){ name, state, code, why, remedy };
	g_ptr_array_add(items, item);
}

void hvp_item_ok(GPtrArray *items, const char *name, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(items, name, HVP_ITEM_OK, 0, g_strdup_vprintf(format, arguments), NULL);
	va_end(arguments);
}

void hvp_item_unknown(GPtrArray *items, const char *name, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(items, name, HVP_ITEM_UNKNOWN, 0, g_strdup_vprintf(format, arguments), NULL);
	va_end(arguments);
}

void hvp_item_warn(GPtrArray *items, const char *name, char *remedy, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(items, name, HVP_ITEM_WARNING, 0, g_strdup_vprintf(format, arguments), remedy);
	va_end(arguments);
}

void hvp_item_miss(GPtrArray *items, const char *name, HvpErrorCode code, char *remedy,
		   const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add(items, name, HVP_ITEM_MISSING, code, g_strdup_vprintf(format, arguments), remedy);
	va_end(arguments);
}

void hvp_item_miss_error(GPtrArray *items, const char *name, const GError *error, char *remedy)
{
	HvpErrorCode code = error->domain == HVP_ERROR ? (HvpErrorCode)error->code
						       : HVP_ERROR_INTERNAL;

	add(items, name, HVP_ITEM_MISSING, code, g_strdup(error->message), remedy);
}

void hvp_item_hint(GPtrArray *items, char *hint)
{
	HvpItem *last = g_ptr_array_index(items, items->len - 1);

	g_free(last->remedy);
	last->remedy = hint;
}
