/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/domain-note.h"

#include <string.h>

#define SHA256 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OTHER "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
#define AT 1795900000 /* 2026-11-28T21:06:40Z */

static HvpDomainNote *parse(const char *xml)
{
	g_autoptr(GError) error = NULL;
	HvpDomainNote *note = hvp_domain_note_parse(xml, &error);

	g_assert_no_error(error);
	return note;
}

static const HvpDomainNotePatch *get(const GPtrArray *patches, guint index)
{
	g_assert_cmpuint(patches->len, >, index);
	return g_ptr_array_index(patches, index);
}

/* What the guest has: one patch, or none where @name is NULL. */
static GPtrArray *facts_new(const char *name, const char *sha256, gint64 at)
{
	GPtrArray *facts = g_ptr_array_new_with_free_func(
		(GDestroyNotify)hvp_domain_note_patch_free);

	if (name != NULL)
		g_ptr_array_add(facts, hvp_domain_note_patch_new(name, sha256, at));
	return facts;
}

static HvpDomainNotePatch *news_new(const char *name)
{
	HvpDomainNotePatch *news = hvp_domain_note_patch_new(name, SHA256, 0);

	news->by = g_strdup("root");
	news->uid = 0;
	news->sudo_user = g_strdup("alice");
	news->pause_usec = 1216;
	hvp_domain_note_patch_add_cves(news, "CVE-2026-12345");
	return news;
}

static void test_nothing_to_say(void)
{
	g_autoptr(HvpDomainNote) none = parse(NULL), empty = parse("<patches/>");

	g_assert_null(hvp_domain_note_to_xml(none));
	g_assert_null(hvp_domain_note_to_xml(empty));
}

static void test_applied(void)
{
	g_autoptr(HvpDomainNote) note = hvp_domain_note_new();
	g_autoptr(GPtrArray) facts = facts_new("fix", SHA256, AT);
	g_autoptr(HvpDomainNotePatch) news = news_new("fix");
	g_autofree char *xml = NULL, *again = NULL;
	g_autoptr(HvpDomainNote) read = NULL;

	hvp_domain_note_set_applied(note, facts, news);
	xml = hvp_domain_note_to_xml(note);
	g_assert_cmpstr(xml, ==,
			"<patches><applied name='fix' sha256='" SHA256 "' "
			"at='2026-11-28T21:06:40Z' by='root' uid='0' sudo_user='alice' "
			"pause_usec='1216' cves='CVE-2026-12345'/></patches>");
	read = parse(xml);
	again = hvp_domain_note_to_xml(read);
	g_assert_cmpstr(again, ==, xml);
}

/* As libvirt gives it back. */
static void test_prefixed(void)
{
	g_autoptr(HvpDomainNote) note = parse(
		"<hvpatch:patches xmlns:hvpatch=\"urn:hvpatch:domain:1\">\n"
		"  <hvpatch:applied name=\"a\" pause_usec=\"7\"><x><y/></x></hvpatch:applied>\n"
		"  <installed name=\"b\"/>text<!-- comment --><applied/>\n"
		"</hvpatch:patches>\n");

	g_assert_cmpuint(note->applied->len, ==, 1);
	g_assert_cmpstr(get(note->applied, 0)->name, ==, "a");
	g_assert_cmpint(get(note->applied, 0)->pause_usec, ==, 7);
	g_assert_cmpstr(get(note->installed, 0)->name, ==, "b");
}

static void test_hostile_text(void)
{
	static const char name[] = "a'/><b c=\"&lt;&\x01\xff]]>\n";
	g_autoptr(HvpDomainNote) note = hvp_domain_note_new(), read = NULL;
	g_autoptr(GPtrArray) facts = facts_new(name, "'/>", AT);
	g_autofree char *xml = NULL;

	hvp_domain_note_set_applied(note, facts, NULL);
	xml = hvp_domain_note_to_xml(note);
	g_assert_cmpstr(
		xml, ==,
		"<patches><applied name='a&apos;/&gt;&lt;b c=&quot;&amp;lt;&amp;\\x01\\xff]]"
		"&gt;\\x0a' at='2026-11-28T21:06:40Z'/></patches>");
	read = parse(xml);
	g_assert_cmpuint(read->applied->len, ==, 1);
	g_assert_cmpstr(get(read->applied, 0)->name, ==, "a'/><b c=\"&lt;&\\x01\\xff]]>\\x0a");
	/* And so it is found again. */
	hvp_domain_note_set_applied(read, facts, NULL);
	g_free(g_steal_pointer(&xml));
	xml = hvp_domain_note_to_xml(note);
	g_assert_nonnull(strstr(xml, "\\xff]]"));
}

static void test_caps(void)
{
	g_autofree char *name = g_strnfill(10000, 'a');
	g_autoptr(HvpDomainNote) note = hvp_domain_note_new();
	g_autoptr(GPtrArray) facts = facts_new(NULL, NULL, 0);
	g_autoptr(HvpDomainNotePatch) patch = hvp_domain_note_patch_new("p", NULL, G_MAXINT64);

	for (guint i = 0; i < HVP_DOMAIN_NOTE_MAX_PATCHES + 5; i++)
		g_ptr_array_add(facts, hvp_domain_note_patch_new(name, NULL, 0));
	hvp_domain_note_set_applied(note, facts, NULL);
	g_assert_cmpuint(note->applied->len, ==, HVP_DOMAIN_NOTE_MAX_PATCHES);
	g_assert_cmpuint(strlen(get(note->applied, 0)->name), <=, 64);
	for (guint i = 0; i < HVP_DOMAIN_NOTE_MAX_CVES + 5; i++) {
		g_autofree char *cve = g_strdup_printf("CVE-2026-%u", 10000 + i);

		hvp_domain_note_patch_add_cves(patch, cve);
	}
	g_assert_cmpuint(patch->cves->len, ==, HVP_DOMAIN_NOTE_MAX_CVES);
	/* A time that is none is not written. */
	hvp_domain_note_install(note, patch);
	g_free(hvp_domain_note_to_xml(note));
}

static void test_malformed(void)
{
	g_autofree char *long_text = g_strnfill(HVP_DOMAIN_NOTE_MAX_XML_BYTES + 1, ' ');
	const char *const texts[] = { "",
				      "<",
				      "<patches>",
				      "<other/>",
				      "text",
				      "<patches a=b/>",
				      "<patches>\xff</patches>",
				      long_text };

	for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_null(hvp_domain_note_parse(texts[i], &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
}

/* Attributes that mean nothing are as good as none. */
static void test_nonsense(void)
{
	g_autoptr(HvpDomainNote)
		note = parse("<patches><applied name='a' sha256='abc' at='today' uid='-5' by='' "
			     "pause_usec='1e9' cves='CVE-1-2 CVE-2026-12345 CVE-2026-12345' x='y'/>"
			     "<applied name=''/></patches>");
	g_autofree char *xml = hvp_domain_note_to_xml(note);

	g_assert_cmpstr(xml, ==, "<patches><applied name='a' cves='CVE-2026-12345'/></patches>");
}

static void test_corrected(void)
{
	g_autoptr(HvpDomainNote) note = hvp_domain_note_new();
	g_autoptr(GPtrArray) facts = facts_new("fix", SHA256, AT);
	g_autoptr(GPtrArray) later = facts_new("fix", SHA256, AT + 1);
	g_autoptr(GPtrArray) other = facts_new("fix", OTHER, AT);
	g_autoptr(GPtrArray) none = facts_new(NULL, NULL, 0);
	g_autoptr(HvpDomainNotePatch) news = news_new("fix");

	hvp_domain_note_set_applied(note, facts, news);
	hvp_domain_note_install(note, news);
	/* The same again: who did it stays known. */
	hvp_domain_note_set_applied(note, facts, NULL);
	g_assert_cmpstr(get(note->applied, 0)->by, ==, "root");
	g_assert_cmpint(get(note->applied, 0)->pause_usec, ==, 1216);
	/* Another file of that name, or applied again: not. */
	hvp_domain_note_set_applied(note, other, NULL);
	g_assert_null(get(note->applied, 0)->by);
	hvp_domain_note_set_applied(note, facts, news);
	hvp_domain_note_set_applied(note, later, NULL);
	g_assert_null(get(note->applied, 0)->by);
	g_assert_cmpint(get(note->applied, 0)->pause_usec, ==, -1);
	/* After a reboot; what is installed stays so. */
	hvp_domain_note_set_applied(note, none, NULL);
	g_assert_cmpuint(note->applied->len, ==, 0);
	g_assert_cmpuint(note->installed->len, ==, 1);
}

static void test_installed(void)
{
	g_autoptr(HvpDomainNote) note = hvp_domain_note_new();
	g_autoptr(HvpDomainNotePatch) first = hvp_domain_note_patch_new("fix", SHA256, AT);
	g_autoptr(HvpDomainNotePatch) second = hvp_domain_note_patch_new("fix", OTHER, AT);

	hvp_domain_note_install(note, first);
	hvp_domain_note_install(note, second);
	g_assert_cmpuint(note->installed->len, ==, 1);
	g_assert_cmpstr(get(note->installed, 0)->sha256, ==, OTHER);
	g_assert_false(hvp_domain_note_uninstall(note, "other"));
	g_assert_true(hvp_domain_note_uninstall(note, "fix"));
	g_assert_cmpuint(note->installed->len, ==, 0);
}

static void test_cves(void)
{
	g_autoptr(HvpDomainNotePatch) patch = hvp_domain_note_patch_new("p", NULL, 0);

	hvp_domain_note_patch_add_cves(patch, NULL);
	hvp_domain_note_patch_add_cves(patch,
				       "CVE-CVE-2026-1234,CVE-2026-99999: fixes, CVE-2026-1, "
				       "CVE-26-1234 CVE-2026-1234 CVE-2026-12345678901234 CVE-");
	g_assert_cmpuint(patch->cves->len, ==, 2);
	g_assert_cmpstr(g_ptr_array_index(patch->cves, 0), ==, "CVE-2026-1234");
	g_assert_cmpstr(g_ptr_array_index(patch->cves, 1), ==, "CVE-2026-99999");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/domain-note/nothing-to-say", test_nothing_to_say);
	g_test_add_func("/domain-note/applied", test_applied);
	g_test_add_func("/domain-note/prefixed", test_prefixed);
	g_test_add_func("/domain-note/hostile-text-ESCAPED", test_hostile_text);
	g_test_add_func("/domain-note/caps", test_caps);
	g_test_add_func("/domain-note/malformed-BAD_DATA", test_malformed);
	g_test_add_func("/domain-note/nonsense-DROPPED", test_nonsense);
	g_test_add_func("/domain-note/corrected", test_corrected);
	g_test_add_func("/domain-note/installed", test_installed);
	g_test_add_func("/domain-note/cves", test_cves);
	return g_test_run();
}
