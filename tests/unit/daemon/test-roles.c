/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/roles.h"

#include <string.h>

#define UUID_A "11111111-1111-4111-8111-111111111111"

static const HvpRolesDomain web = { "web-1", UUID_A };
static const HvpRolesDomain database = { "db-1", "22222222-2222-4222-8222-222222222222" };

static void add(GPtrArray *roles, const char *principals, const char *verbs, const char *domains)
{
	g_auto(GStrv) who = g_strsplit(principals, ";", -1);
	g_auto(GStrv) what = g_strsplit(verbs, ";", -1);
	g_auto(GStrv) where = g_strsplit(domains, ";", -1);
	g_autoptr(GError) error = NULL;
	HvpRole *role = hvp_roles_new_role("r", (const char *const *)who, (const char *const *)what,
					   (const char *const *)where, &error);

	g_assert_no_error(error);
	g_ptr_array_add(roles, role);
}

static GPtrArray *site(void)
{
	GPtrArray *roles = g_ptr_array_new_with_free_func((GDestroyNotify)hvp_roles_free_role);

	add(roles, "uid:0", "*", "*");
	add(roles, "uid:1000;cert:viewer", "view", "*");
	add(roles, "cert:web operator", "view;check;apply;cancel", "web-*");
	add(roles, "cert:by uuid", "view", UUID_A);
	add(roles, "uid:2000", "upload;metrics", "");
	return roles;
}

/* The whole table of role x verb x domain: a letter a verb, in the order of HvpVerb. */
static void test_table(void)
{
	static const struct {
		const char *principal;
		const char *on_web;
		const char *on_database;
		const char *on_none;
	} rows[] = {
		{ "uid:0", "vcarRouxdm", "vcarRouxdm", "vcarRouxdm" },
		{ "uid:1000", "v.........", "v.........", "v........." },
		{ "cert:viewer", "v.........", "v.........", "v........." },
		{ "cert:web operator", "vca....x..", "..........", "vca....x.." },
		{ "cert:by uuid", "v.........", "..........", "v........." },
		{ "uid:2000", "..........", "..........", "......u..m" },
		{ "uid:3000", "..........", "..........", ".........." },
		{ "uid:00", "..........", "..........", ".........." },
		{ "cert:web", "..........", "..........", ".........." },
		{ "cert:0", "..........", "..........", ".........." },
		{ "", "..........", "..........", ".........." },
		{ "*", "..........", "..........", ".........." },
	};
	g_autoptr(GPtrArray) roles = site();

	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		for (guint verb = 0; verb < HVP_VERB_COUNT; verb++) {
			const char *who = rows[i].principal;

			g_test_message("%s %s", who, hvp_roles_verb_name(verb));
			g_assert_cmpint(hvp_roles_allow(roles, who, verb, &web), ==,
					rows[i].on_web[verb] != '.');
			g_assert_cmpint(hvp_roles_allow(roles, who, verb, &database), ==,
					rows[i].on_database[verb] != '.');
			g_assert_cmpint(hvp_roles_allow(roles, who, verb, NULL), ==,
					rows[i].on_none[verb] != '.');
		}
	}
}

static void test_all_domains(void)
{
	g_autoptr(GPtrArray) roles = site();

	g_assert_true(hvp_roles_allow_all(roles, "uid:1000", HVP_VERB_VIEW));
	g_assert_false(hvp_roles_allow_all(roles, "uid:1000", HVP_VERB_APPLY));
	g_assert_false(hvp_roles_allow_all(roles, "cert:web operator", HVP_VERB_VIEW));
}

static void test_no_roles_DENIED(void)
{
	g_autoptr(GPtrArray) none = g_ptr_array_new();

	for (guint verb = 0; verb < HVP_VERB_COUNT; verb++) {
		g_assert_false(hvp_roles_allow(none, "uid:0", verb, &web));
		g_assert_false(hvp_roles_allow(none, "uid:0", verb, NULL));
	}
}

static void test_principals(void)
{
	static const char *const good[] = { "uid:0", "uid:1000", "cert:a", "cert:a b.example",
					    "cert:\xc3\xa9" };
	static const char *const bad[] = { "",		"uid:",		  "uid:-1", "uid:01",
					   "uid:1 ",	"uid:4294967295", "cert:",  "cert:a\nb",
					   "cert:\xff", "root",		  "UID:0",  "uid:0x1" };

	for (guint i = 0; i < G_N_ELEMENTS(good); i++)
		g_assert_true(hvp_roles_is_principal(good[i]));
	for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_false(hvp_roles_is_principal(bad[i]));
}

static void test_bad_roles_REFUSED(void)
{
	static const char *const none[] = { NULL };
	static const char *const root[] = { "uid:0", NULL };
	static const char *const star[] = { "*", NULL };
	static const char *const view[] = { "view", NULL };
	static const char *const other[] = { "view", "everything", NULL };

	g_assert_null(hvp_roles_new_role("r", none, view, star, NULL));
	g_assert_null(hvp_roles_new_role("r", star, view, star, NULL));
	g_assert_null(hvp_roles_new_role("r", root, other, star, NULL));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/roles/table", test_table);
	g_test_add_func("/roles/all-domains", test_all_domains);
	g_test_add_func("/roles/no-roles-DENIED", test_no_roles_DENIED);
	g_test_add_func("/roles/principals", test_principals);
	g_test_add_func("/roles/bad-roles-REFUSED", test_bad_roles_REFUSED);
	return g_test_run();
}
