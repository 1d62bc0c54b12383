/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/loader.h"

#include "base/bytes.h"
#include "base/text.h"
#include "engine/klp-core.h"
#include "engine/relocate.h"
#include "guest/instructions.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* GFP_KERNEL: ___GFP_DIRECT_RECLAIM | ___GFP_KSWAPD_RECLAIM | ___GFP_IO | ___GFP_FS, since 4.13. */
#define GFP_KERNEL 0xcc0U
#define GFP_ZERO 0x100U
/* What is written at one stop; then the guest runs for a moment. */
#define CHUNK_BYTES (32U << 10)
#define MAX_FUNCTION_BYTES (64U << 10)
#define UNLOAD_RETRIES 10U
/* Behind the key of a buffer: noted before it is allocated, and before it is freed. */
#define ASKED "-asked"
#define FREED "-freed"
#define UNLOAD_RETRY_MSEC 50U
/* Of a patch that only its own init code knows. */
#define MAX_UNKNOWN_OBJECTS 64U
#define CANCELED ((guint64) - (gint64)ECANCELED)
/*
 * What load_module is told, and says, where nobody answered its question for the record: within
 * IS_ERR()'s range, and no error number of the kernel's.
 */
#define NOT_GIVEN ((guint64)-4094)

/* The call to @callee in whichever of @callers has it, for a hook there. */
static bool find_call(HvpKernel *kernel, const char *const *callers, const char *callee,
		      HvpKeeperHook *ret_hook, GError **error)
{
	HvpGva target, call = { 0 };
	guint length = 0;

	if (!hvp_kernel_symbol(kernel, callee, &target, error))
		return false;
	for (guint i = 0; callers[i] != NULL; i++) {
		g_autofree guint8 *code = NULL;
		HvpGvaRange range;
		gsize bytes;

		if (!hvp_kernel_function(kernel, callers[i], 0, &range, NULL))
			continue;
		bytes = MIN(hvp_gva_range_size(range), MAX_FUNCTION_BYTES);
		code = g_malloc(bytes);
		if (!hvp_address_space_read(hvp_kernel_get_space(kernel), range.start, code, bytes,
					    error))
			return false;
		if (hvp_instructions_find_call(code, bytes, range.start, target, &call, &length,
					       NULL))
			break;
	}
	if (length == 0)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the guest's %s does not call %s as expected", callers[0],
				     callee);
	*ret_hook = (HvpKeeperHook){ .pc = call, .call_bytes = length, .failure = CANCELED };
	return true;
}

/* What the hooks of one load share. */
typedef struct {
	HvpTarget *target;
	const HvpLoaderOrder *order;
	HvpDeadline deadline;
	HvpGva record;
	gsize record_bytes;
	bool record_given;
	HvpKlpPatch *patch;
	HvpJournal *journal;
	bool in_core;	   /* the guest's own klp_enable_patch is called by us */
	guint pre_patched; /* how many objects are through with pre_patch */
	HvpBorrowHook hooks[2];
} Load;

enum { HOOK_ARGUMENTS, HOOK_ENABLE };

static bool answer_arguments(HvpBorrow *borrow, const HvpRegisters *registers, void *user_data,
			     HvpBorrowReply *ret_reply, GError **error)
{
	Load *load = user_data;

	(void)borrow;
	(void)registers;
	/* From here on the module's, which frees it, but where load_module says NOT_GIVEN. */
	if (!hvp_journal_step(load->journal, "given", 1, error))
		return false;
	load->record_given = true;
	ret_reply->value = load->record.value;
	return true;
}

/* The last of the patches in force that has the state, as the core finds it in a transition. */
static bool answer_prev_state(HvpBorrow *borrow, const HvpRegisters *registers, void *user_data,
			      HvpBorrowReply *ret_reply, GError **error)
{
	const GPtrArray *older = user_data;

	(void)borrow;
	(void)error;
	for (guint i = 0; older != NULL && i < older->len; i++) {
		const HvpKlpState *state = hvp_klp_patch_find_state(g_ptr_array_index(older, i),
								    registers->general[HVP_RDI]);

		if (state != NULL)
			ret_reply->value = state->address.value;
	}
	return true;
}

static bool call_callback(HvpBorrow *borrow, HvpTarget *target, HvpGva callback, HvpGva object,
			  const GPtrArray *older, HvpDeadline deadline, gint32 *ret_value,
			  GError **error)
{
	HvpBorrowHook hook = { .answer = answer_prev_state };
	guint64 argument = object.value, value;
	guint hooks = 0;

	/* Without a transition of the core's own it would warn and find nothing. */
	if (hvp_kernel_has_symbol(target->kernel, "klp_get_prev_state")) {
		if (!hvp_kernel_symbol(target->kernel, "klp_get_prev_state", &hook.hook.pc, error))
			return false;
		hooks = 1;
	}
	if (!hvp_borrow_call(borrow, callback, &argument, 1, &hook, hooks, (void *)older, deadline,
			     &value, error))
		return false;
	*ret_value = (gint32)value;
	return true;
}

const char *hvp_loader_get_step(HvpKlpCallback which)
{
	static const char *const steps[HVP_KLP_CALLBACK_COUNT] = {
		[HVP_KLP_PRE_PATCH] = "pre-patch",
		[HVP_KLP_POST_PATCH] = "post-patch",
		[HVP_KLP_PRE_UNPATCH] = "pre-unpatch",
		[HVP_KLP_POST_UNPATCH] = "post-unpatch",
	};

	return steps[which];
}

/* Noted first: no callback runs twice, whoever dies, and none is left out. */
static bool note_callback(HvpJournal *journal, HvpKlpCallback which, const HvpKlpObject *object,
			  GError **error)
{
	return hvp_journal_step(journal, hvp_loader_get_step(which), object->key.value, error);
}

bool hvp_loader_callbacks(HvpBorrow *borrow, HvpTarget *target, const HvpKlpPatch *patch,
			  HvpKlpCallback which, const HvpPins *pins, const GPtrArray *older,
			  HvpJournal *journal, HvpDeadline deadline, GError **error)
{
	for (guint i = 0; i < patch->objects->len; i++) {
		const HvpKlpObject *object = hvp_klp_patch_get(patch, i);
		gint32 ignored;

		if (object->callbacks[which].value == 0 ||
		    !hvp_pins_has_object(pins, target->modules, object, NULL))
			continue;
		if (!note_callback(journal, which, object, error) ||
		    !call_callback(borrow, target, object->callbacks[which], object->address, older,
				   deadline, &ignored, error))
			return false;
	}
	return true;
}

static bool is_there(const Load *load, const HvpKlpObject *object)
{
	return hvp_pins_has_object(load->order->pins, load->target->modules, object, NULL);
}

/* Those whose pre_patch ran get their post_unpatch, as when a transition is cancelled. */
static bool undo_pre_patch(HvpBorrow *borrow, Load *load, GError **error)
{
	for (guint i = 0; i < load->pre_patched; i++) {
		const HvpKlpObject *object = hvp_klp_patch_get(load->patch, i);
		HvpGva callback = object->callbacks[HVP_KLP_POST_UNPATCH];
		gint32 ignored;

		if (callback.value == 0 || !is_there(load, object))
			continue;
		if (!note_callback(load->journal, HVP_KLP_POST_UNPATCH, object, error) ||
		    !call_callback(borrow, load->target, callback, object->address,
				   load->order->older, load->deadline, &ignored, error))
			return false;
	}
	return true;
}

/* Before it runs: whoever takes over knows then whose post_unpatch is due. */
static bool note_pre_patch(Load *load, const HvpKlpObject *object, GError **error)
{
	return object->callbacks[HVP_KLP_POST_UNPATCH].value == 0 ||
	       note_callback(load->journal, HVP_KLP_PRE_PATCH, object, error);
}

static bool refuse(Load *load, const HvpKlpObject *object, gint32 value, GError **error)
{
	return hvp_journal_step(load->journal, "pre-patch-refused", object->key.value, error) &&
	       hvp_error_set(error, HVP_ERROR_PERMISSION,
			     "the patch's own pre_patch callback for %s refuses (%d)",
			     object->name ? object->name : "vmlinux", value);
}

static bool run_pre_patch(HvpBorrow *borrow, Load *load, GError **error)
{
	for (; load->pre_patched < load->patch->objects->len; load->pre_patched++) {
		const HvpKlpObject *object = hvp_klp_patch_get(load->patch, load->pre_patched);
		HvpGva callback = object->callbacks[HVP_KLP_PRE_PATCH];
		gint32 value = 0;

		if (!is_there(load, object))
			continue;
		if (!note_pre_patch(load, object, error))
			return false;
		if (callback.value == 0)
			continue;
		if (!call_callback(borrow, load->target, callback, object->address,
				   load->order->older, load->deadline, &value, error))
			return false;
		if (value != 0)
			return refuse(load, object, value, error);
	}
	return true;
}

static bool check_states(Load *load, GError **error)
{
	const GPtrArray *older = load->order->older;

	for (guint i = 0; older != NULL && i < older->len; i++)
		if (!hvp_klp_patch_check_states(load->patch, g_ptr_array_index(older, i),
						load->patch->replaces, error))
			return false;
	return true;
}

/* What goes stays where it is until it is gone, as does what is patched from now on. */
static bool take_pins(HvpBorrow *borrow, Load *load, GError **error)
{
	const GPtrArray *older = load->order->older;

	if (!hvp_pins_take_objects(load->order->pins, borrow, load->target, load->patch,
				   load->deadline, error))
		return false;
	for (guint i = 0; older != NULL && i < older->len; i++)
		if (!hvp_pins_take_objects(load->order->pins, borrow, load->target,
					   g_ptr_array_index(older, i), load->deadline, error))
			return false;
	return true;
}

/* The module objects that are loaded: relocated, and known to their callbacks. */
static bool prepare_objects(HvpBorrow *borrow, Load *load, GError **error)
{
	for (guint i = 0; i < load->patch->objects->len; i++) {
		const HvpKlpObject *object = hvp_klp_patch_get(load->patch, i);

		if (object->name != NULL && is_there(load, object) &&
		    !hvp_relocate_object(borrow, load->target->kernel, load->patch->module,
					 object->name, load->deadline, error))
			return false;
	}
	return hvp_klp_core_present(borrow, load->target, load->patch, load->order->pins, error);
}

/* A call that is still under way has the thread, or the keeper has seen it home. */
static bool is_thread_lost(const GError *reason)
{
	return g_error_matches(reason, HVP_ERROR, HVP_ERROR_TIMED_OUT) ||
	       g_error_matches(reason, HVP_ERROR, HVP_ERROR_UNDONE) ||
	       g_error_matches(reason, HVP_ERROR, HVP_ERROR_INCONSISTENT) ||
	       g_error_matches(reason, HVP_ERROR, HVP_ERROR_VM_GONE);
}

/* Whether the core can be shown not to know the patch. */
static bool is_core_unaware(const Load *load)
{
	HvpKlpCore core;

	hvp_address_space_forget(hvp_kernel_get_space(load->target->kernel));
	return hvp_klp_core_find(load->target->kernel, load->patch->module, &core, NULL) &&
	       core.patch.value == 0;
}

static bool enable_in_core(HvpBorrow *borrow, Load *load, GError **error)
{
	bool ok;

	load->in_core = true;
	ok = hvp_klp_core_enable(borrow, load->target->kernel, load->patch, load->deadline, error);
	load->in_core = false;
	return ok;
}

/*
 * From here on init must not fail by itself: callbacks may have run, and the loader would free a
 * module that the guest's core refers to. Whoever takes over leaves it loaded, for recover.
 */
static bool leave_loaded(HvpBorrow *borrow, Load *load, GError **error)
{
	load->hooks[HOOK_ENABLE].hook.failure = 0;
	return hvp_journal_step(load->journal, "klp", load->patch->address.value, error) &&
	       hvp_journal_step(load->journal, "objects", load->patch->first_object.value, error) &&
	       hvp_borrow_update_hooks(borrow, error);
}

/* All that the core would do before its transition starts. */
static bool prepare_patch(HvpBorrow *borrow, Load *load, GError **error)
{
	return take_pins(borrow, load, error) && prepare_objects(borrow, load, error) &&
	       run_pre_patch(borrow, load, error) &&
	       (!hvp_klp_patch_has_modules(load->patch) || enable_in_core(borrow, load, error));
}

/* Nothing is left of it: init fails, as it would have failed by the core's own answer. */
static bool take_back(HvpBorrow *borrow, Load *load, GError **error)
{
	if (!hvp_klp_core_present(borrow, load->target, load->patch, load->order->pins, error) ||
	    !undo_pre_patch(borrow, load, error))
		return false;
	load->hooks[HOOK_ENABLE].hook.failure = CANCELED;
	return hvp_borrow_update_hooks(borrow, error);
}

static bool prepare_or_take_back(HvpBorrow *borrow, Load *load, GError **error)
{
	GError *reason = NULL;

	if (prepare_patch(borrow, load, &reason))
		return true;
	if (!is_thread_lost(reason)) {
		/* A module that the core knows stays, until it is recovered. */
		if (!is_core_unaware(load) || !take_back(borrow, load, NULL))
			reason->code = HVP_ERROR_INCONSISTENT;
	}
	g_propagate_error(error, reason);
	return false;
}

static guint most_objects(const HvpPatch *patch)
{
	return patch->objects_known ? patch->object_count : MAX_UNKNOWN_OBJECTS;
}

/* What can be said before anything is done. */
static bool check_patch(Load *load, GError **error)
{
	if (load->patch->objects->len > most_objects(load->order->patch))
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the patch names more objects in the guest than in its file");
	return hvp_target_refresh_modules(load->target, error) && check_states(load, error);
}

/* The module's init stands at klp_enable_patch: what it hands over is complete now. */
static bool answer_enable(HvpBorrow *borrow, const HvpRegisters *registers, void *user_data,
			  HvpBorrowReply *ret_reply, GError **error)
{
	Load *load = user_data;
	guint64 module, ignored;

	if (load->in_core) {
		ret_reply->run_it = true;
		return true;
	}
	if (load->patch != NULL)
		return hvp_error_set(
			error, HVP_ERROR_INCONSISTENT,
			"the module's init enables two patches: it stays loaded, unused, "
			"until hvpatch recover");
	/* The module has come since the guest was last looked at. */
	hvp_address_space_forget(hvp_kernel_get_space(load->target->kernel));
	load->patch = hvp_klp_patch_read(load->target->kernel, hvp_gva(registers->general[HVP_RDI]),
					 error);
	if (load->patch == NULL)
		return false;
	if (load->order->replace != HVP_REPLACE_AS_PATCH_SAYS)
		load->patch->replaces = load->order->replace == HVP_REPLACE_YES;
	load->patch->record = load->record;
	load->patch->aliases = hvp_gva_add(load->record, load->record_bytes);
	module = load->patch->module.value;
	return check_patch(load, error) &&
	       hvp_borrow_call_name(borrow, "__module_get", &module, 1, load->deadline, &ignored,
				    error) &&
	       leave_loaded(borrow, load, error) && prepare_or_take_back(borrow, load, error);
}

static bool allocate(HvpBorrow *borrow, HvpTarget *target, const char *const *names,
		     const guint64 *arguments, guint count, HvpDeadline deadline,
		     HvpGva *ret_address, GError **error)
{
	guint64 address = 0;

	for (; names[0] != NULL && !hvp_kernel_has_symbol(target->kernel, names[0]); names++)
		;
	if (names[0] == NULL)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the guest kernel has no allocator of a known name");
	if (!hvp_borrow_call_name(borrow, names[0], arguments, count, deadline, &address, error))
		return false;
	if (address == 0)
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "the guest has no memory for the patch");
	*ret_address = hvp_gva(address);
	return true;
}

/* In pieces, with the guest running for a moment after each: it must not stand for long. */
static bool write_file(HvpBorrow *borrow, HvpGva address, GBytes *file, HvpDeadline deadline,
		       GError **error)
{
	gsize total;
	const guint8 *bytes = g_bytes_get_data(file, &total);
	guint64 msec = 1, ignored;

	for (gsize done = 0; done < total; done += CHUNK_BYTES) {
		gsize piece = MIN(CHUNK_BYTES, total - done);

		if (done > 0 &&
		    !hvp_borrow_call_name(borrow, "msleep", &msec, 1, deadline, &ignored, error))
			return false;
		if (!hvp_borrow_write(borrow, hvp_gva_add(address, done), bytes + done, piece,
				      error))
			return false;
	}
	return true;
}

/* What an errno of the guest's loader means to the operator. */
static bool loader_refused(gint64 value, const char *name, GError **error)
{
	HvpErrorCode code = HVP_ERROR_UNSUPPORTED;

	if (value == -EEXIST)
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "a module named %s is loaded in the guest already", name);
	if (value == -EPERM || value == -EKEYREJECTED || value == -ENOKEY)
		code = HVP_ERROR_PERMISSION;
	if (value == -ENOMEM || value == -EBUSY)
		code = HVP_ERROR_BUSY;
	return hvp_error_set(error, code,
			     "the guest's loader refuses the module: %s (its log says why)",
			     g_strerror((int)-value));
}

/* struct load_info with hdr and len; all else zero. */
static bool prepare_info(HvpBorrow *borrow, HvpTarget *target, HvpGva file, gsize length_bytes,
			 GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(target->kernel);
	guint8 info[HVP_BORROW_SCRATCH_BYTES] = { 0 };
	guint32 size;

	if (!hvp_layout_require(layout, HVP_AT_LOAD_INFO_SIZE, error) ||
	    !hvp_layout_require(layout, HVP_AT_LOAD_INFO_HDR, error) ||
	    !hvp_layout_require(layout, HVP_AT_LOAD_INFO_LEN, error))
		return false;
	size = hvp_layout_get(layout, HVP_AT_LOAD_INFO_SIZE);
	if (size > sizeof info || hvp_layout_get(layout, HVP_AT_LOAD_INFO_HDR) + 8 > size ||
	    hvp_layout_get(layout, HVP_AT_LOAD_INFO_LEN) + 8 > size)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "struct load_info is malformed");
	hvp_store_u64(info + hvp_layout_get(layout, HVP_AT_LOAD_INFO_HDR), file.value);
	hvp_store_u64(info + hvp_layout_get(layout, HVP_AT_LOAD_INFO_LEN), length_bytes);
	return hvp_borrow_write(borrow, hvp_borrow_scratch(borrow), info, size, error);
}

/* Calls load_module itself; it frees the file's buffer whatever comes of it. */
static bool call_load_module(HvpBorrow *borrow, Load *load, HvpGva file, GError **error)
{
	const HvpPatch *patch = load->order->patch;
	static const char *const callers[] = { "load_module", NULL };
	HvpBorrowHook *hooks = load->hooks;
	guint64 arguments[3] = { hvp_borrow_scratch(borrow).value, 0, 0 };
	HvpKernel *kernel = load->target->kernel;
	HvpGva function;
	guint64 value;

	if (!find_call(kernel, callers, "strndup_user", &hooks[HOOK_ARGUMENTS].hook, error))
		return false;
	hooks[HOOK_ARGUMENTS].hook.failure = NOT_GIVEN;
	if (!hvp_kernel_symbol(kernel, "klp_enable_patch", &hooks[HOOK_ENABLE].hook.pc, error) ||
	    !hvp_kernel_symbol(kernel, "load_module", &function, error) ||
	    !prepare_info(borrow, load->target, file, g_bytes_get_size(patch->bytes), error) ||
	    !hvp_borrow_call(borrow, function, arguments, 3, hooks, 2, load, load->deadline, &value,
			     error))
		return false;
	if ((gint32)value != 0)
		return loader_refused((gint32)value, patch->name, error);
	if (load->patch == NULL)
		return hvp_error_set(error, HVP_ERROR_INCONSISTENT,
				     "the module's init did not call klp_enable_patch: it stays "
				     "loaded, unused, until hvpatch recover");
	return true;
}

bool hvp_loader_free_buffer(HvpBorrow *borrow, HvpJournal *journal, const char *key, HvpGva buffer,
			    HvpDeadline deadline, GError **error)
{
	const char *function = strcmp(key, HVP_LOADER_FILE) == 0 ? "vfree" : "kfree";
	g_autofree char *freed = g_strconcat(key, FREED, NULL);
	guint64 ignored;

	return hvp_journal_step(journal, freed, buffer.value, error) &&
	       hvp_borrow_call_name(borrow, function, &buffer.value, 1, deadline, &ignored, error);
}

/* Where that cannot be written, it is left to the recovery. */
static void free_own(HvpBorrow *borrow, const Load *load, const char *key, HvpGva buffer)
{
	if (buffer.value != 0)
		(void)!hvp_loader_free_buffer(borrow, load->journal, key, buffer, load->deadline,
					      NULL);
}

/* Whether the guest has the buffer of @key: its loader, or a module. */
static bool is_handed_over(const HvpJournalState *state, const char *key)
{
	guint64 value;

	if (!hvp_journal_state_has_begun(state, "load", 1))
		return false;
	/* It frees the file whatever comes of it; the record only if it came so far. */
	return strcmp(key, HVP_LOADER_RECORD) != 0 ||
	       !hvp_journal_state_get_result(state, "load", 1, &value) || (gint32)value == 0 ||
	       ((gint32)value != (gint32)NOT_GIVEN && hvp_journal_state_has(state, "given", 1));
}

bool hvp_loader_find_buffer(const HvpJournalState *state, const char *key, HvpGva *ret_address)
{
	g_autofree char *asked = g_strconcat(key, ASKED, NULL);
	g_autofree char *freed = g_strconcat(key, FREED, NULL);

	return (hvp_journal_state_find(state, key, &ret_address->value) ||
		hvp_journal_state_find_result(state, asked, &ret_address->value)) &&
	       ret_address->value != 0 && !is_handed_over(state, key) &&
	       !hvp_journal_state_has_begun(state, freed, ret_address->value);
}

/* The two buffers, filled: the file's and the record's. */
static bool prepare_buffers(HvpBorrow *borrow, Load *load, HvpJournal *journal, HvpGva *ret_file,
			    GError **error)
{
	const HvpPatch *patch = load->order->patch;
	/*
	 * Zeroed by the guest itself: pages that it has never touched may not be there yet when
	 * they are written from outside.
	 */
	static const char *const vmallocs[] = { "vzalloc", "vzalloc_noprof", NULL };
	/* since 6.10 (7bd230a26648): the functions behind the profiling wrappers */
	static const char *const kmallocs[] = { "__kmalloc", "__kmalloc_noprof", NULL };
	static const guint8 empty[16];
	guint64 size = g_bytes_get_size(patch->bytes);
	/* Each object of the patch may need another name, which stands behind the record. */
	guint64 room = load->record_bytes + hvp_klp_core_alias_bytes(most_objects(patch));
	guint64 record[2] = { room, GFP_KERNEL | GFP_ZERO };

	return hvp_journal_step(journal, HVP_LOADER_RECORD ASKED, 1, error) &&
	       allocate(borrow, load->target, kmallocs, record, 2, load->deadline, &load->record,
			error) &&
	       hvp_journal_step(journal, HVP_LOADER_RECORD, load->record.value, error) &&
	       hvp_borrow_write(borrow, load->record, empty, sizeof empty, error) &&
	       hvp_journal_step(journal, HVP_LOADER_FILE ASKED, 1, error) &&
	       allocate(borrow, load->target, vmallocs, &size, 1, load->deadline, ret_file,
			error) &&
	       hvp_journal_step(journal, HVP_LOADER_FILE, ret_file->value, error) &&
	       write_file(borrow, *ret_file, patch->bytes, load->deadline, error) &&
	       hvp_journal_step(journal, "load", 1, error);
}

HvpKlpPatch *hvp_loader_load(HvpBorrow *borrow, HvpTarget *target, const HvpLoaderOrder *order,
			     HvpJournal *journal, HvpDeadline deadline, GError **error)
{
	Load load = { .target = target,
		      .order = order,
		      .journal = journal,
		      .deadline = deadline,
		      .record_bytes = MAX(order->record_bytes, 64),
		      .hooks = { { .answer = answer_arguments },
				 { .answer = answer_enable, .hook.failure = CANCELED } } };
	g_autoptr(GError) reason = NULL;
	HvpGva file = { 0 };
	bool prepared = prepare_buffers(borrow, &load, journal, &file, &reason);

	if (prepared && call_load_module(borrow, &load, file, &reason) &&
	    hvp_journal_step(journal, "loaded", load.patch->module.value, &reason))
		return load.patch;
	if (!is_thread_lost(reason)) {
		if (!prepared)
			free_own(borrow, &load, HVP_LOADER_FILE, file);
		if (!load.record_given)
			free_own(borrow, &load, HVP_LOADER_RECORD, load.record);
	}
	hvp_klp_patch_free(load.patch);
	g_propagate_error(error, g_steal_pointer(&reason));
	return NULL;
}

/* The name that delete_module asks user space for. */
static bool answer_name(HvpBorrow *borrow, const HvpRegisters *registers, void *user_data,
			HvpBorrowReply *ret_reply, GError **error)
{
	const char *name = user_data;

	ret_reply->value = strlen(name);
	return hvp_borrow_write(borrow, hvp_gva(registers->general[HVP_RDI]), name,
				strlen(name) + 1, error);
}

/* The system call's wrapper takes the registers of a user who asks not to wait. */
static bool prepare_syscall(HvpBorrow *borrow, HvpTarget *target, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(target->kernel);
	guint8 regs[HVP_BORROW_SCRATCH_BYTES] = { 0 };
	guint32 size = hvp_layout_get(layout, HVP_AT_REGS_SIZE);

	if (size > sizeof regs || hvp_layout_get(layout, HVP_AT_REGS_SI) + 8 > size)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "struct pt_regs is malformed");
	hvp_store_u64(regs + hvp_layout_get(layout, HVP_AT_REGS_SI), O_NONBLOCK);
	return hvp_borrow_write(borrow, hvp_borrow_scratch(borrow), regs, size, error);
}

static bool call_delete_module(HvpBorrow *borrow, HvpTarget *target, const char *name,
			       HvpDeadline deadline, gint64 *ret_value, GError **error)
{
	static const char *const callers[] = { "__x64_sys_delete_module", "__do_sys_delete_module",
					       "__se_sys_delete_module", NULL };
	HvpBorrowHook hook = { .answer = answer_name };
	guint64 regs = hvp_borrow_scratch(borrow).value, value;
	HvpGva function;

	if (!find_call(target->kernel, callers, "strncpy_from_user", &hook.hook, error) ||
	    !hvp_kernel_symbol(target->kernel, callers[0], &function, error) ||
	    !prepare_syscall(borrow, target, error) ||
	    !hvp_borrow_call(borrow, function, &regs, 1, &hook, 1, (void *)name, deadline, &value,
			     error))
		return false;
	*ret_value = (gint64)value;
	return true;
}

/* The core drops its reference a moment after it has forgotten the patch. */
static bool delete_module(HvpBorrow *borrow, HvpTarget *target, const char *name,
			  HvpDeadline deadline, gint64 *ret_value, GError **error)
{
	guint64 msec = UNLOAD_RETRY_MSEC, ignored;

	for (guint i = 0;; i++) {
		if (!call_delete_module(borrow, target, name, deadline, ret_value, error))
			return false;
		if (*ret_value != -EWOULDBLOCK || i >= UNLOAD_RETRIES)
			return true;
		if (!hvp_borrow_call_name(borrow, "msleep", &msec, 1, deadline, &ignored, error))
			return false;
	}
}

bool hvp_loader_unload(HvpBorrow *borrow, HvpTarget *target, const char *name, HvpGva module,
		       HvpLoaderReference reference, HvpJournal *journal, HvpDeadline deadline,
		       GError **error)
{
	guint64 address = module.value, ignored;
	gint64 value;

	/* Noted after it is done: where it is not noted, the count tells whether it was. */
	if (reference == HVP_LOADER_DROP_REFERENCE &&
	    (!hvp_borrow_call_name(borrow, "module_put", &address, 1, deadline, &ignored, error) ||
	     !hvp_journal_step(journal, "dropped", module.value, error)))
		return false;
	if (!delete_module(borrow, target, name, deadline, &value, error))
		return false;
	if (value == -EWOULDBLOCK)
		return hvp_error_set(error, HVP_ERROR_BUSY, "the guest still uses module %s", name);
	if (value != 0 && value != -ENOENT)
		return hvp_error_set(error, HVP_ERROR_CONFLICT, "the guest does not unload %s: %s",
				     name, g_strerror((int)-value));
	return hvp_journal_step(journal, "unloaded", module.value, error);
}
