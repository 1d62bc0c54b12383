/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which buffers of a load a journal leaves to be freed. */
#include "engine/loader.h"

#define FILE_AT 0x1000
#define RECORD_AT 0x2000
#define FAILED ((guint64) - (gint64)125)
/* What the loader says where its question for the record was not answered. */
#define NOT_GIVEN ((guint64)-4094)

static void note(HvpJournalState *state, const char *key, guint64 value)
{
	g_autofree char *text = g_strdup_printf("%s=%" G_GUINT64_FORMAT, key, value);

	hvp_journal_state_add_step(state, text);
}

/* Noted, and the call began. */
static HvpJournalRange call(HvpJournalState *state, const char *key, guint64 value)
{
	note(state, key, value);
	return hvp_journal_state_call(state);
}

/* Also over, with @result. */
static void finish(HvpJournalState *state, const char *key, guint64 value, guint64 result)
{
	HvpJournalRange range = call(state, key, value);

	for (guint i = range.first; i < range.end; i++) {
		HvpJournalCall *made = &g_array_index(state->calls, HvpJournalCall, i);

		made->over = true;
		made->value = result;
	}
}

static void assert_left(const HvpJournalState *state, bool file, bool record)
{
	HvpGva address;

	g_assert_cmpint(hvp_loader_find_buffer(state, HVP_LOADER_FILE, &address), ==, file);
	if (file)
		g_assert_cmphex(address.value, ==, FILE_AT);
	g_assert_cmpint(hvp_loader_find_buffer(state, HVP_LOADER_RECORD, &address), ==, record);
	if (record)
		g_assert_cmphex(address.value, ==, RECORD_AT);
}

/* Both are there, and written. */
static HvpJournalState *prepared(void)
{
	HvpJournalState *state = hvp_journal_state_new_attached();

	finish(state, "record-asked", 1, RECORD_AT);
	note(state, "record", RECORD_AT);
	finish(state, "file-asked", 1, FILE_AT);
	note(state, "file", FILE_AT);
	return state;
}

static void test_asked(void)
{
	g_autoptr(HvpJournalState) state = hvp_journal_state_new_attached();

	note(state, "record-asked", 1);
	assert_left(state, false, false);
	finish(state, "record-asked", 1, RECORD_AT);
	assert_left(state, false, true);
	note(state, "record", RECORD_AT);
	(void)call(state, "file-asked", 1);
	assert_left(state, false, true);
	finish(state, "file-asked", 1, FILE_AT);
	assert_left(state, true, true);
}

static void test_refused(void)
{
	g_autoptr(HvpJournalState) state = hvp_journal_state_new_attached();

	finish(state, "record-asked", 1, 0);
	assert_left(state, false, false);
}

static void test_load_announced(void)
{
	g_autoptr(HvpJournalState) state = prepared();

	assert_left(state, true, true);
	note(state, "load", 1);
	assert_left(state, true, true);
	(void)hvp_journal_state_call(state);
	assert_left(state, false, false);
}

static void test_load_failed_early(void)
{
	g_autoptr(HvpJournalState) state = prepared();

	finish(state, "load", 1, FAILED);
	assert_left(state, false, true);
}

static void test_load_failed_late(void)
{
	g_autoptr(HvpJournalState) state = prepared();

	finish(state, "load", 1, FAILED);
	note(state, "given", 1);
	assert_left(state, false, false);
}

/* "given" is noted before it is: who died in between has given nothing. */
static void test_load_not_answered(void)
{
	g_autoptr(HvpJournalState) state = prepared();

	finish(state, "load", 1, NOT_GIVEN);
	note(state, "given", 1);
	assert_left(state, false, true);
}

static void test_loaded(void)
{
	g_autoptr(HvpJournalState) state = prepared();

	finish(state, "load", 1, 0);
	assert_left(state, false, false);
}

static void test_freed(void)
{
	g_autoptr(HvpJournalState) state = prepared();

	note(state, "file-freed", FILE_AT);
	assert_left(state, true, true);
	/* Another recovery, whose calls are none of the steps before. */
	note(state, "recovery", 1);
	(void)call(state, "file-freed", FILE_AT);
	assert_left(state, false, true);
	(void)call(state, "record-freed", RECORD_AT);
	assert_left(state, false, false);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/loader/asked-LEFT-once-the-call-is-over", test_asked);
	g_test_add_func("/loader/no-memory-NONE", test_refused);
	g_test_add_func("/loader/load-announced-LEFT-until-it-begins", test_load_announced);
	g_test_add_func("/loader/load-failed-early-RECORD-LEFT", test_load_failed_early);
	g_test_add_func("/loader/load-failed-late-NONE", test_load_failed_late);
	g_test_add_func("/loader/load-not-answered-RECORD-LEFT", test_load_not_answered);
	g_test_add_func("/loader/loaded-NONE", test_loaded);
	g_test_add_func("/loader/freeing-announced-LEFT-until-it-begins", test_freed);
	return g_test_run();
}
