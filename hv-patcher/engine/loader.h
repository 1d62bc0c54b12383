/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loads and unloads the patch module through the guest's own module loader, with the
 * livepatch core answered by the host.
 *
 *   vzalloc, write the file, kmalloc the record
 *   load_module(info, args, 0)
 *       strndup_user(args)       -> answered: the record's buffer (its first byte is NUL)
 *       init: klp_enable_patch() -> answered: the host reads the complete klp_patch, and calls
 *                                   __module_get, and try_module_get for the patched modules
 *                                   klp_apply_section_relocs for each loaded module object
 *                                   the pre_patch callbacks
 *                                   klp_enable_patch itself, for the module objects alone
 *
 * Unloading: module_put, then the guest's own delete_module with
 *       strncpy_from_user(name)  -> answered: the module's name
 */
#pragma once

#include "call/borrow.h"
#include "engine/journal.h"
#include "engine/klp-patch.h"
#include "engine/options.h"
#include "engine/pins.h"
#include "engine/target.h"
#include "patch/patch.h"

/* What loading one patch takes beside its file. */
typedef struct {
	const HvpPatch *patch;
	gsize record_bytes;	/* room for the record */
	const GPtrArray *older; /* HvpKlpPatch: those in force, oldest first; borrowed */
	HvpReplace replace;
	HvpPins *pins; /* takes the modules of all objects that are loaded */
} HvpLoaderOrder;

/*
 * Loads a patch in the borrowed thread, takes a reference to the module and does all that its
 * init expects of klp_enable_patch but the switch. Afterwards @target knows the guest's modules
 * anew. On failure nothing of it is left in the guest (a TIMED_OUT call apart, which the keeper
 * sees to). PERMISSION: a pre_patch callback refuses.
 */
HvpKlpPatch *hvp_loader_load(HvpBorrow *borrow, HvpTarget *target, const HvpLoaderOrder *order,
			     HvpJournal *journal, HvpDeadline deadline, GError **error);

typedef enum { HVP_LOADER_DROP_REFERENCE, HVP_LOADER_NO_REFERENCE } HvpLoaderReference;

/*
 * Unloads module @name at @module; with DROP_REFERENCE the one that loading took is given back
 * first. BUSY when somebody else uses it.
 */
bool hvp_loader_unload(HvpBorrow *borrow, HvpTarget *target, const char *name, HvpGva module,
		       HvpLoaderReference reference, HvpJournal *journal, HvpDeadline deadline,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The buffers of a load, by the journal's key. */
#define HVP_LOADER_FILE "file"
#define HVP_LOADER_RECORD "record"

/*
 * Where the buffer @key lies that a load left and that nobody else frees; false where there is
 * none. Known also of one whose address nobody lived to note.
 */
bool hvp_loader_find_buffer(const HvpJournalState *state, const char *key, HvpGva *ret_address);

/*
 * Frees @buffer, that of @key. Noted in @journal before: from then on it is not found any more if
 * the call has begun, so that it is freed once whoever dies.
 */
bool hvp_loader_free_buffer(HvpBorrow *borrow, HvpJournal *journal, const char *key, HvpGva buffer,
			    HvpDeadline deadline, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The journal's key for a call of @which; its values are addresses of klp_objects. */
const char *hvp_loader_get_step(HvpKlpCallback which);

/*
 * Runs callback @which of @patch for vmlinux and the modules that are pinned, each noted in
 * @journal before. @older (may be NULL) as for loading: what klp_get_prev_state answers.
 */
bool hvp_loader_callbacks(HvpBorrow *borrow, HvpTarget *target, const HvpKlpPatch *patch,
			  HvpKlpCallback which, const HvpPins *pins, const GPtrArray *older,
			  HvpJournal *journal, HvpDeadline deadline,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;
