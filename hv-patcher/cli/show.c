/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/show.h"

struct libscols_table *hvp_cli_show_items_table(void)
{
	static const HvpCliColumn columns[] = {
		{ "ITEM", 0 },
		{ "OK", 0 },
		{ "WHY", SCOLS_FL_WRAP },
		{ NULL },
	};

	return hvp_cli_table_new(columns);
}

void hvp_cli_show_item_line(struct libscols_table *table, const char *item, bool ok, bool accepted,
			    const char *why)
{
	hvp_cli_table_add(table, item, ok ? "ok" : accepted ? "accepted" : "no", why, NULL);
}

struct libscols_table *hvp_cli_show_targets_table(void)
{
	static const HvpCliColumn columns[] = {
		{ "OBJECT", 0 }, { "FUNCTION", 0 }, { "OLD", 0 }, { "SITE", 0 }, { NULL },
	};

	return hvp_cli_table_new(columns);
}

struct libscols_table *hvp_cli_show_patches_table(void)
{
	static const HvpCliColumn columns[] = {
		{ "NAME", 0 },
		{ "APPLIED", 0 },
		{ "VERIFIED", 0 },
		{ "STATE", 0 },
		{ "OBJECTS", 0 },
		{ "FUNCTIONS", 0 },
		{ "SHA256", SCOLS_FL_TRUNC },
		{ NULL },
	};

	return hvp_cli_table_new(columns);
}

struct libscols_table *hvp_cli_show_functions_table(void)
{
	static const HvpCliColumn columns[] = {
		{ "OBJECT", 0 }, { "FUNCTION", 0 }, { "OLD", 0 },
		{ "NEW", 0 },	 { "SITE", 0 },	    { NULL },
	};

	return hvp_cli_table_new(columns);
}

void hvp_cli_show_function_line(struct libscols_table *table, const char *object, const char *name,
				HvpGva old_address, HvpGva new_address, HvpGva site)
{
	g_autofree char *old = hvp_cli_output_address(old_address);
	g_autofree char *new = new_address.value ? hvp_cli_output_address(new_address)
						 : g_strdup("-");
	g_autofree char *where = hvp_cli_output_address(site);

	hvp_cli_table_add(table, object, name, old, new, where, NULL);
}

static void add_blocker(struct libscols_table *table, GString *stack, const HvpBlocker *blocker)
{
	g_autofree char *pid = g_strdup_printf("%d", blocker->pid);

	for (guint i = 0; i < blocker->stack->len; i++) {
		g_autofree char *frame = hvp_cli_output_escape(
			g_ptr_array_index(blocker->stack, i));

		g_string_append_printf(stack, "    %s\n", frame);
	}
	hvp_cli_table_add(table, pid, blocker->comm, blocker->is_kthread ? "kthread" : "user",
			  hvp_parts_reason_name(blocker), blocker->function, NULL);
}

void hvp_cli_show_blockers_table(const GPtrArray *blockers)
{
	static const HvpCliColumn columns[] = {
		{ "PID", SCOLS_FL_RIGHT }, { "COMM", 0 },     { "KIND", 0 },
		{ "REASON", 0 },	   { "FUNCTION", 0 }, { NULL },
	};
	HvpCliListing listing = hvp_cli_listing_begin(columns);

	for (guint i = 0; i < blockers->len; i++)
		add_blocker(listing.table, hvp_cli_listing_note(&listing),
			    g_ptr_array_index(blockers, i));
	hvp_cli_listing_print(&listing);
}
