/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which modules an interrupted operation left, by the journal, their records and the text of a
 * made-up guest.
 */
#include "../guest/synthetic-guest.h"
#include "engine/leftovers.h"
#include "engine/record.h"

#include <string.h>

#define PATCH "livepatch_new"
#define REPLACED "livepatch_old"
#define FUNCTION "deep"
#define SITE_BYTES 7U
#define NOP 0x90U
#define INT3 0xccU

typedef struct {
	SyntheticGuest *guest;
	HvpTarget target;
	HvpJournalState *state;
	HvpGva patch, replaced; /* struct module */
	HvpGva site;
} Fixture;

/* The record of @module, @in_force, that replaces FUNCTION. */
static void put_record(Fixture *self, const char *name, HvpGva module, bool in_force,
		       HvpSite *ret_site)
{
	g_autoptr(HvpRecord) record = hvp_record_new(name, "");
	g_autoptr(GBytes) bytes = NULL;
	HvpRecordSite site = { .name = g_strdup(FUNCTION) };
	HvpModule *found = hvp_modules_find(self->target.modules, name);
	HvpGva args;

	site.old.start = synthetic_guest_symbol(self->guest, FUNCTION);
	site.old.end = hvp_gva_add(site.old.start, SYNTHETIC_FUNCTION_BYTES);
	site.slot = site.old.start;
	site.new_function = found->text.start;
	site.site.site = self->site;
	site.site.length_bytes = SITE_BYTES;
	memset(site.site.old_bytes, NOP, SITE_BYTES);
	g_assert_true(hvp_plan_jump(&site.site, site.new_function, NULL));
	*ret_site = site.site;
	g_array_append_val(record->sites, site);
	record->in_force = in_force;
	bytes = hvp_record_encode(record);
	args = synthetic_guest_alloc(self->guest, g_bytes_get_size(bytes));
	memcpy(synthetic_guest_bytes(self->guest, args, g_bytes_get_size(bytes)),
	       g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
	synthetic_guest_set(self->guest, module, HVP_AT_MODULE_ARGS, args.value);
	g_assert_true(hvp_target_refresh_modules(&self->target, NULL));
}

static void put_site(Fixture *self, const guint8 *bytes)
{
	memcpy(synthetic_guest_bytes(self->guest, self->site, SITE_BYTES), bytes, SITE_BYTES);
}

static void add_step(Fixture *self, const char *key, guint64 value)
{
	g_autofree char *text = g_strdup_printf("%s=%" G_GUINT64_FORMAT, key, value);

	hvp_journal_state_add_step(self->state, text);
}

/* An apply was interrupted; the text is as it was. */
static void set_up(Fixture *self)
{
	SyntheticOptions options = { .generation = GENERATION_6_1 };

	*self = (Fixture){ 0 };
	self->guest = synthetic_guest_new(&options);
	self->patch = synthetic_guest_add_module(self->guest, PATCH);
	self->replaced = synthetic_guest_add_module(self->guest, REPLACED);
	self->site = hvp_gva_add(synthetic_guest_symbol(self->guest, FUNCTION),
				 HVP_FTRACE_SLOT_BYTES);
	memset(synthetic_guest_bytes(self->guest, self->site, SITE_BYTES), NOP, SITE_BYTES);
	self->target.kernel = synthetic_guest_attach(self->guest);
	g_assert_true(hvp_target_refresh_modules(&self->target, NULL));
	self->state = hvp_journal_state_new_attached();
	g_hash_table_insert(self->state->begin, g_strdup("operation"), g_strdup("apply"));
	g_hash_table_insert(self->state->begin, g_strdup("patch"), g_strdup(PATCH));
}

static void tear_down(Fixture *self)
{
	hvp_journal_state_free(self->state);
	hvp_modules_free(self->target.modules);
	hvp_kernel_free(self->target.kernel);
	synthetic_guest_free(self->guest);
}

static void assert_left(Fixture *self, guint count, HvpGva module)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(GArray) left = hvp_leftovers_find(&self->target, self->state, &error);

	g_assert_no_error(error);
	g_assert_cmpuint(left->len, ==, count);
	if (count > 0)
		g_assert_cmphex(g_array_index(left, HvpLeftover, 0).module.address.value, ==,
				module.value);
}

static void assert_busy(Fixture *self, const char *module)
{
	g_autoptr(GError) error = NULL;

	g_assert_null(hvp_leftovers_find(&self->target, self->state, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
	g_assert_nonnull(strstr(error->message, module));
}

/* Before the switch: with a record or, if it was not written yet, with the buffer for one. */
static void test_own(void)
{
	HvpSite site;
	Fixture f;

	set_up(&f);
	assert_left(&f, 0, f.patch);
	add_step(&f, "record",
		 synthetic_guest_get(f.guest,
				     synthetic_guest_member(f.guest, f.patch, HVP_AT_MODULE_ARGS)));
	assert_left(&f, 1, f.patch);
	f.state->committed = true;
	assert_left(&f, 0, f.patch);
	put_record(&f, PATCH, f.patch, false, &site);
	assert_left(&f, 1, f.patch);
	tear_down(&f);
}

/* The guest has put a kprobe there since, or is about to: later it can be told. */
static void test_own_with_breakpoint(void)
{
	HvpSite site;
	Fixture f;

	set_up(&f);
	for (guint i = 0; i < 2; i++) {
		f.state->committed = i == 1;
		put_record(&f, PATCH, f.patch, false, &site);
		*synthetic_guest_bytes(f.guest, f.site, 1) = INT3;
		assert_busy(&f, PATCH);
		*synthetic_guest_bytes(f.guest, f.site, 1) = NOP;
		assert_left(&f, 1, f.patch);
	}
	tear_down(&f);
}

/* One that is in force is none, and a breakpoint on its jump keeps nobody waiting. */
static void test_own_in_force(void)
{
	HvpSite site;
	Fixture f;

	set_up(&f);
	f.state->committed = true;
	put_record(&f, PATCH, f.patch, true, &site);
	put_site(&f, site.new_bytes);
	assert_left(&f, 0, f.patch);
	*synthetic_guest_bytes(f.guest, f.site, 1) = INT3;
	assert_left(&f, 0, f.patch);
	tear_down(&f);
}

/* A record that is there, and of which the second half cannot be read. */
static void test_own_unreadable(void)
{
	HvpSite site;
	HvpGva args;
	Fixture f;

	set_up(&f);
	put_record(&f, PATCH, f.patch, false, &site);
	args = hvp_gva(synthetic_guest_get(
		f.guest, synthetic_guest_member(f.guest, f.patch, HVP_AT_MODULE_ARGS)));
	f.guest->memory->hole_start = args.value - SYNTHETIC_DIRECT_MAP + 64;
	f.guest->memory->hole_end = f.guest->memory->hole_start + 64;
	assert_busy(&f, PATCH);
	f.guest->memory->hole_start = f.guest->memory->hole_end = 0;
	assert_left(&f, 1, f.patch);
	tear_down(&f);
}

/* Both by the same site: only who is in force has the jump. */
static void test_replaced(void)
{
	HvpSite site, old;
	Fixture f;

	set_up(&f);
	f.state->committed = true;
	add_step(&f, "replaced", f.replaced.value);
	put_record(&f, PATCH, f.patch, true, &site);
	put_record(&f, REPLACED, f.replaced, false, &old);
	put_site(&f, site.new_bytes);
	assert_left(&f, 1, f.replaced);
	*synthetic_guest_bytes(f.guest, f.site, 1) = INT3;
	assert_busy(&f, REPLACED);
	/* Taken back, it is in force again. */
	put_record(&f, PATCH, f.patch, false, &site);
	put_record(&f, REPLACED, f.replaced, true, &old);
	put_site(&f, old.new_bytes);
	assert_left(&f, 1, f.patch);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/leftovers/own-before-switch-FOUND", test_own);
	g_test_add_func("/leftovers/own-with-breakpoint-BUSY", test_own_with_breakpoint);
	g_test_add_func("/leftovers/own-in-force-NONE", test_own_in_force);
	g_test_add_func("/leftovers/own-unreadable-BUSY", test_own_unreadable);
	g_test_add_func("/leftovers/replaced-FOUND-or-BUSY", test_replaced);
	return g_test_run();
}
