/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A journal whose last record was torn by a kill, finished by recoveries of which one is killed. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/journal.h"

#define PID 4242
#define START_TIME 77U
#define RESULT 5U

typedef struct {
	char *folder;
	char *path;
} Fixture;

static void set_up(Fixture *self)
{
	self->folder = g_dir_make_tmp("hvpatch-journal-XXXXXX", NULL);
	g_assert_nonnull(self->folder);
	self->path = g_strdup_printf("%s/%d-%u.journal", self->folder, PID, START_TIME);
}

static void tear_down(Fixture *self)
{
	g_assert_cmpint(g_unlink(self->path), ==, 0);
	g_assert_cmpint(g_rmdir(self->folder), ==, 0);
	g_free(self->folder);
	g_free(self->path);
}

static HvpJournal *open_journal(Fixture *self)
{
	g_autoptr(GError) error = NULL;
	HvpJournal *journal = hvp_journal_open_of(PID, START_TIME, self->folder, &error);

	g_assert_no_error(error);
	return journal;
}

static HvpJournalState *read_unfinished(HvpJournal *journal)
{
	g_autoptr(GError) error = NULL;
	HvpJournalState *state = NULL;

	g_assert_true(hvp_journal_read_unfinished(journal, &state, &error));
	g_assert_no_error(error);
	return state;
}

static void append(HvpJournal *journal, HvpJournalType type, const void *payload,
		   gsize length_bytes)
{
	g_assert_true(
		hvp_journal_append(hvp_journal_get_fd(journal), type, payload, length_bytes, NULL));
}

/* An operation that was killed while its keeper wrote the record behind a call that is made. */
static void leave_torn(Fixture *self)
{
	g_autoptr(HvpJournal) journal = open_journal(self);
	const HvpKeeperFrame frame = { .return_pc = { 0x1234 } };
	int fd = hvp_journal_get_fd(journal);

	g_assert_true(hvp_journal_begin(journal, "apply", "patch", "", NULL));
	g_assert_true(hvp_journal_step(journal, "call", 1, NULL));
	append(journal, HVP_JOURNAL_CALLED, NULL, 0);
	append(journal, HVP_JOURNAL_DIVERT, &frame, sizeof frame);
	append(journal, HVP_JOURNAL_HOOKS, &(HvpKeeperHook){ 0 }, sizeof(HvpKeeperHook));
	g_assert_true(hvp_journal_cut(fd, hvp_journal_get_size(fd) - 3));
}

/* What a recovery's keeper says of the call, in the same go and to the next recovery. */
static void test_recovery_killed(void)
{
	const guint64 result = RESULT;
	guint64 value;
	Fixture f;

	set_up(&f);
	leave_torn(&f);
	for (guint i = 0; i < 2; i++) {
		g_autoptr(HvpJournal) journal = open_journal(&f);
		g_autoptr(HvpJournalState) state = read_unfinished(journal);

		g_assert_nonnull(state);
		g_assert_true(hvp_journal_state_has_begun(state, "call", 1));
		g_assert_cmpuint(state->hooks->len, ==, 0);
		g_assert_true(hvp_journal_state_find_result(state, "call", &value) == (i == 1));
		if (i == 1)
			break;
		g_assert_true(hvp_journal_step_recovery(journal, NULL));
		append(journal, HVP_JOURNAL_RETURNED, &result, sizeof result);
		append(journal, HVP_JOURNAL_HOME, NULL, 0);
		g_assert_true(hvp_journal_refresh_calls(journal, state, NULL));
		g_assert_true(hvp_journal_state_find_result(state, "call", &value));
		g_assert_cmpuint(value, ==, RESULT);
	}
	g_assert_cmpuint(value, ==, RESULT);
	tear_down(&f);
}

/* The END of a recovery, killed before it could empty the file, is seen. */
static void test_end_SEEN(void)
{
	g_autoptr(HvpJournal) journal = NULL;
	g_autoptr(HvpJournalState) state = NULL;
	Fixture f;

	set_up(&f);
	leave_torn(&f);
	journal = open_journal(&f);
	state = read_unfinished(journal);
	g_assert_nonnull(state);
	append(journal, HVP_JOURNAL_END, NULL, 0);
	g_assert_null(read_unfinished(journal));
	tear_down(&f);
}

/* Of a journal whose first record is torn nothing is left: nothing was begun. */
static void test_first_record(void)
{
	g_autoptr(HvpJournal) journal = NULL;
	Fixture f;

	set_up(&f);
	journal = open_journal(&f);
	g_assert_true(hvp_journal_begin(journal, "apply", "patch", "", NULL));
	g_assert_true(hvp_journal_cut(hvp_journal_get_fd(journal), 20));
	g_assert_null(read_unfinished(journal));
	g_assert_cmpint(hvp_journal_get_size(hvp_journal_get_fd(journal)), ==, 0);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/journal/torn-and-recovery-killed-READ", test_recovery_killed);
	g_test_add_func("/journal/torn-then-end-SEEN", test_end_SEEN);
	g_test_add_func("/journal/first-record-torn-EMPTY", test_first_record);
	return g_test_run();
}
