/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal of one operation on one VM: an append-only file of records, each
 * synced before the intrusion that it announces, so that whoever comes after
 * a killed tool and a killed keeper knows what is left to do. The tool and the
 * keeper append to the same file. A torn last record is cut off by whoever is
 * to finish what was begun, before anything is appended.
 *
 *   file   = record*
 *   record = magic u32, type u32, length u32, crc32 u32 (of type, length, payload), payload
 *
 * For a call that steps wait for, CALLED and DIVERT are written at once. CALLED is in front so that
 * it can stay where there is no room for HOME and DIVERT is cut off instead: whoever recovers knows
 * without a further record that the call was made. Behind it a DIVERT that is torn takes it along.
 *
 * It lies on a tmpfs (/run/hvpatch): it outlives processes, not the host, and
 * neither does the VM.
 */
#pragma once

#include "keeper/keeper.h"

typedef enum {
	/* Text payloads, by the tool. */
	HVP_JOURNAL_BEGIN = 1, /* "key=value\n" lines: operation, pid, start time, patch, sha256 */
	HVP_JOURNAL_STEP,      /* "key=value\n" lines: a step of the operation done or announced */
	/* Binary payloads, by the keeper. */
	HVP_JOURNAL_ATTACH,    /* none: about to attach to a running VM */
	HVP_JOURNAL_HOOKS,     /* HvpKeeperHook[]: the set in force from now on */
	HVP_JOURNAL_DIVERT,    /* HvpKeeperFrame: pushed */
	HVP_JOURNAL_HOME,      /* none: the innermost frame is home (written after the fact) */
	HVP_JOURNAL_WRITE,     /* HvpKeeperWrite[]: about to be written, uncommitted */
	HVP_JOURNAL_UNDONE,    /* none: uncommitted writes are undone */
	HVP_JOURNAL_COMMIT,    /* none: writes so far are final */
	HVP_JOURNAL_DETACH,    /* none: run state restored, nothing of ours is left in QEMU */
	HVP_JOURNAL_END,       /* by the tool: the operation is over, nothing left to do */
	HVP_JOURNAL_NOT_BEGUN, /* none, by the keeper: as HOME, of a call that did not begin */
	HVP_JOURNAL_SPINS,     /* HvpKeeperSpin[]: where spin traps may stand from now on */
	HVP_JOURNAL_RETURNED,  /* RAX u64: the innermost call is over, its thread comes home next */
	HVP_JOURNAL_CALLED,    /* none, by the keeper: the steps' call begins, see above */
	HVP_JOURNAL_DATA,      /* HvpJournalData: about to be written, by kvm, and never undone */
} HvpJournalType;

#define HVP_JOURNAL_MAX_BYTES (16U << 20)
#define HVP_JOURNAL_MAX_RECORD_BYTES (1U << 20)
/* The size of a record without payload. */
#define HVP_JOURNAL_HEADER_BYTES 16
#define HVP_JOURNAL_MAX_AT_ONCE 2

typedef struct {
	HvpGpa gpa;
	guint64 length_bytes;
} HvpJournalData;

typedef struct {
	HvpJournalType type;
	const guint8 *payload; /* borrowed; of what was read: into the reader's buffer */
	gsize length_bytes;
} HvpJournalRecord;

/* Appends one record to @fd and syncs it. No allocation; may be called while stopped. */
bool hvp_journal_append(int fd, HvpJournalType type, const void *payload, gsize length_bytes,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same for @count records (at most HVP_JOURNAL_MAX_AT_ONCE): all of them or none. */
bool hvp_journal_append_all(int fd, const HvpJournalRecord *records, gsize count,
			    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The size of the file, at which the next record will stand; -1 where it is not known. */
gint64 hvp_journal_get_size(int fd);

/*
 * Takes all records from @size_bytes on away, which needs no room: for what is over, when not
 * even that could be written. False where @size_bytes is -1 or the file cannot be cut.
 */
bool hvp_journal_cut(int fd, gint64 size_bytes) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Splits a whole journal in @bytes into records; a torn or corrupt tail ends
 * the list and sets *@ret_torn. Returns an array of HvpJournalRecord that points into
 * @bytes.
 */
GArray *hvp_journal_parse(const guint8 *bytes, gsize length_bytes, bool *ret_torn);
