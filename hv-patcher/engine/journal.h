/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One journal file a VM, and with it the lock that lets only one operation at it. The file
 * is named by QEMU's pid and start time, so that a new VM never meets an old journal.
 * The lock belongs to the open file, which the keeper shares: it holds until the
 * last of both is gone.
 */
#pragma once

#include "keeper/journal.h"
#include "vm/machine.h"

typedef struct HvpJournal HvpJournal;

typedef struct {
	bool begun, over;
	guint64 value; /* RAX, when it is over */
} HvpJournalCall;

/* Steps from @first on, and before @end. */
typedef struct {
	guint first, end;
} HvpJournalRange;

/* What an unfinished journal says is left. */
typedef struct {
	bool attached;	    /* a keeper may still be connected, or have left things in QEMU */
	GArray *frames;	    /* HvpKeeperFrame */
	GArray *hooks;	    /* HvpKeeperHook */
	GArray *spins;	    /* HvpKeeperSpin: where spin traps may stand */
	GArray *writes;	    /* HvpKeeperWrite, uncommitted */
	GArray *places;	    /* HvpGpa: of all writes, data and spin traps that there were */
	bool committed;	    /* the last writes were made final */
	GHashTable *begin;  /* char * -> char *: what the operation was */
	GPtrArray *steps;   /* char *: "key=value" of its steps, in order */
	GArray *calls;      /* HvpJournalCall, of each step: the guest call that it announces */
	GArray *ranges;     /* HvpJournalRange, of each of the frames: the steps that wait for it */
	guint first_open;   /* steps from here on are followed by no call yet */
	bool is_called;	    /* the record before was CALLED, of the call of the steps of `called` */
	HvpJournalRange called;
} HvpJournalState;

void hvp_journal_state_free(HvpJournalState *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpJournalState, hvp_journal_state_free)

/* The state of a journal that says only that a keeper was attached. */
HvpJournalState *hvp_journal_state_new_attached(void);

/* Where all journals are; the caller's. */
char *hvp_journal_folder(void);

/*
 * The processes, pid_t, that run and whose journal in folder @where (NULL: where all journals are)
 * is not at its end: something is left of an operation there, or one goes on. The array is the
 * caller's; an empty one where nothing can be read.
 */
GArray *hvp_journal_list_open(const char *where);

/*
 * Opens and locks the journal of @machine in folder @where (NULL: where all journals are). BUSY:
 * another hvpatch, or its keeper, works on it.
 */
HvpJournal *hvp_journal_open(const HvpMachine *machine, const char *where, GError **error);

/* The same by the VM's process, which there is. */
HvpJournal *hvp_journal_open_of(pid_t pid, guint64 start_time, const char *where, GError **error);
void hvp_journal_free(HvpJournal *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpJournal, hvp_journal_free)

int hvp_journal_get_fd(const HvpJournal *self);

/*
 * Reads what an earlier operation left: *@ret_state is NULL when it ended properly. The state is
 * the caller's. A torn tail is cut off the file, so that what is appended next can be read.
 */
bool hvp_journal_read_unfinished(HvpJournal *self, HvpJournalState **ret_state,
				 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Starts anew for @operation on @patch. */
bool hvp_journal_begin(HvpJournal *self, const char *operation, const char *patch,
		       const char *sha256, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Notes a step before it is taken. */
bool hvp_journal_step(HvpJournal *self, const char *key, guint64 value,
		      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Nobody is in the call of the innermost frame of @state: it is over, or was never begun. */
bool hvp_journal_drop_frame(HvpJournal *self, HvpJournalState *state,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The operation is over; nothing is left to do. */
bool hvp_journal_end(HvpJournal *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The value of the last step @key; false when there was none. */
bool hvp_journal_state_find(const HvpJournalState *self, const char *key, guint64 *ret_value);

/* Whether step @key was noted with @value. */
bool hvp_journal_state_has(const HvpJournalState *self, const char *key, guint64 value);

/*
 * Notes that from here on calls are those of a recovery: what was announced before and not called
 * stays so.
 */
bool hvp_journal_step_recovery(HvpJournal *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Appends step @text, "key=value", to @self, as the journal has it. */
void hvp_journal_state_add_step(HvpJournalState *self, const char *text);

/* The call that the steps before announce began; which steps these are. */
HvpJournalRange hvp_journal_state_call(HvpJournalState *self);

/*
 * Takes over from the journal what has become of the calls since @self was read: who brought
 * their threads home has added that.
 */
bool hvp_journal_refresh_calls(HvpJournal *self, HvpJournalState *state,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What the call that the last step @key announced gave back; false when it is not known. */
bool hvp_journal_state_find_result(const HvpJournalState *self, const char *key,
				   guint64 *ret_value);

/* The same for the step @key with @value. */
bool hvp_journal_state_get_result(const HvpJournalState *self, const char *key, guint64 value,
				  guint64 *ret_value);

/* Whether step @key, which announces a guest call, was noted with @value and the call began. */
bool hvp_journal_state_has_begun(const HvpJournalState *self, const char *key, guint64 value);
