/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/callbacks.h"

#include "engine/loader.h"

#define KLP 0x1000
#define VMLINUX 0x2000
#define MODULE 0x3000

/* A patch of vmlinux and of a module, with all callbacks. */
typedef struct {
	HvpKlpPatch patch;
	HvpKlpObject objects[2];
	HvpJournalState *state;
} Fixture;

static void set_up(Fixture *fixture, gconstpointer data)
{
	static const guint64 addresses[] = { VMLINUX, MODULE };

	(void)data;
	fixture->patch.address = hvp_gva(KLP);
	fixture->patch.objects = g_ptr_array_new();
	for (guint i = 0; i < G_N_ELEMENTS(addresses); i++) {
		HvpKlpObject *object = &fixture->objects[i];

		object->key = hvp_gva(addresses[i]);
		for (guint which = 0; which < HVP_KLP_CALLBACK_COUNT; which++)
			object->callbacks[which] = hvp_gva(addresses[i] + 1);
		g_ptr_array_add(fixture->patch.objects, object);
	}
	fixture->state = hvp_journal_state_new_attached();
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
	(void)data;
	g_ptr_array_unref(fixture->patch.objects);
	hvp_journal_state_free(fixture->state);
}

static void note(Fixture *fixture, const char *key, guint64 value)
{
	g_autofree char *text = g_strdup_printf("%s=%" G_GUINT64_FORMAT, key, value);

	hvp_journal_state_add_step(fixture->state, text);
}

/* Noted, and the call began. */
static void call(Fixture *fixture, HvpKlpCallback which, guint64 object)
{
	note(fixture, hvp_loader_get_step(which), object);
	(void)hvp_journal_state_call(fixture->state);
}

static void assert_due(Fixture *fixture, HvpKlpCallback which, bool vmlinux, bool module)
{
	g_assert_cmpint(fixture->objects[0].callbacks[which].value != 0, ==, vmlinux);
	g_assert_cmpint(fixture->objects[1].callbacks[which].value != 0, ==, module);
}

static void test_loading(Fixture *fixture, gconstpointer data)
{
	(void)data;
	note(fixture, "klp", KLP);
	call(fixture, HVP_KLP_PRE_PATCH, VMLINUX);
	/* Announced, but the tool died before it was called. */
	note(fixture, hvp_loader_get_step(HVP_KLP_PRE_PATCH), MODULE);
	hvp_callbacks_drop_post_unpatch(&fixture->patch, fixture->state);
	assert_due(fixture, HVP_KLP_POST_UNPATCH, true, false);
	assert_due(fixture, HVP_KLP_POST_PATCH, true, true);
}

/* In force, and the guest's core had undone the module's before the revert that was killed. */
static void test_undone(Fixture *fixture, gconstpointer data)
{
	(void)data;
	note(fixture, "undone", MODULE);
	call(fixture, HVP_KLP_PRE_UNPATCH, VMLINUX);
	hvp_callbacks_drop_post_unpatch(&fixture->patch, fixture->state);
	assert_due(fixture, HVP_KLP_POST_UNPATCH, true, false);
	hvp_callbacks_drop_post_patch(&fixture->patch, fixture->state, false);
	assert_due(fixture, HVP_KLP_POST_PATCH, true, false);
}

static void test_refused(Fixture *fixture, gconstpointer data)
{
	(void)data;
	note(fixture, "klp", KLP);
	call(fixture, HVP_KLP_PRE_PATCH, VMLINUX);
	call(fixture, HVP_KLP_PRE_PATCH, MODULE);
	note(fixture, "pre-patch-refused", MODULE);
	hvp_callbacks_drop_post_unpatch(&fixture->patch, fixture->state);
	assert_due(fixture, HVP_KLP_POST_UNPATCH, true, false);
}

static void test_in_force(Fixture *fixture, gconstpointer data)
{
	(void)data;
	call(fixture, HVP_KLP_POST_UNPATCH, VMLINUX);
	note(fixture, hvp_loader_get_step(HVP_KLP_POST_UNPATCH), MODULE);
	hvp_callbacks_drop_post_unpatch(&fixture->patch, fixture->state);
	assert_due(fixture, HVP_KLP_POST_UNPATCH, false, true);
}

static void test_applied(Fixture *fixture, gconstpointer data)
{
	(void)data;
	call(fixture, HVP_KLP_POST_PATCH, VMLINUX);
	note(fixture, hvp_loader_get_step(HVP_KLP_POST_PATCH), MODULE);
	hvp_callbacks_drop_post_patch(&fixture->patch, fixture->state, true);
	assert_due(fixture, HVP_KLP_POST_PATCH, false, true);
	assert_due(fixture, HVP_KLP_POST_UNPATCH, true, true);
}

/* Calls that a recovery makes for itself do not make what was announced before it begun. */
static void test_recovery(Fixture *fixture, gconstpointer data)
{
	(void)data;
	note(fixture, "klp", KLP);
	call(fixture, HVP_KLP_PRE_PATCH, VMLINUX);
	note(fixture, hvp_loader_get_step(HVP_KLP_PRE_PATCH), MODULE);
	note(fixture, "recovery", 1);
	call(fixture, HVP_KLP_POST_UNPATCH, VMLINUX);
	hvp_callbacks_drop_post_unpatch(&fixture->patch, fixture->state);
	assert_due(fixture, HVP_KLP_POST_UNPATCH, false, false);
}

static void test_revert_stopped(Fixture *fixture, gconstpointer data)
{
	(void)data;
	call(fixture, HVP_KLP_PRE_UNPATCH, MODULE);
	hvp_callbacks_drop_post_patch(&fixture->patch, fixture->state, false);
	assert_due(fixture, HVP_KLP_POST_PATCH, false, true);
}

static void add(const char *path, void (*test)(Fixture *, gconstpointer))
{
	g_test_add(path, Fixture, NULL, set_up, test, tear_down);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add("/callbacks/loading-only-where-pre_patch-ran-DUE", test_loading);
	add("/callbacks/pre_patch-refused-NOT_DUE", test_refused);
	add("/callbacks/in-force-post_unpatch-ONCE", test_in_force);
	add("/callbacks/applied-post_patch-ONCE", test_applied);
	add("/callbacks/recovery-calls-nothing-BEGINS", test_recovery);
	add("/callbacks/revert-stopped-half-way-post_patch-AGAIN", test_revert_stopped);
	add("/callbacks/undone-by-the-guest-NOT_DUE", test_undone);
	return g_test_run();
}
