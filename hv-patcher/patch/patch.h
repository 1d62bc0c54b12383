/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A livepatch module file, read without a VM: what it calls itself, which
 * functions of which objects it replaces, and what it needs from the kernel.
 * It serves `check`; the truth about functions is what the module's init hands
 * to klp_enable_patch, which the engine reads in the guest.
 *
 * The file is copied once into a private buffer and is hostile: everything here
 * was checked against it. Names (module, object, function, symbol, section,
 * vermagic) are printable ASCII without spaces (vermagic: with spaces), or the
 * file was refused. All other modinfo text is escaped by hvp_text_escape.
 *
 * A HvpPatch never changes after it was opened and may be shared by threads;
 * all that it points to lives as long as it does.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* A file above this size is refused before it is read. */
#define HVP_PATCH_MAX_FILE_BYTES (64U << 20)
/* Over all objects of one patch; far above what vendors ship. */
#define HVP_PATCH_MAX_OBJECTS 4096U
#define HVP_PATCH_MAX_FUNCTIONS 16384U
#define HVP_PATCH_MAX_STATES 4096U
/* Each of: undefined symbols, klp symbols, klp relocation sections. */
#define HVP_PATCH_MAX_REFERENCES 65536U
/* KSYM_NAME_LEN (512 since 6.1) and MODULE_NAME_LEN (56) without the final NUL. */
#define HVP_PATCH_MAX_SYMBOL_NAME 511U
#define HVP_PATCH_MAX_MODULE_NAME 55U

/* Who made the module, as seen by the tables it carries. */
typedef enum {
	HVP_PATCH_FORMAT_KPATCH,
	HVP_PATCH_FORMAT_KLP_BUILD,
	HVP_PATCH_FORMAT_KLP,
} HvpPatchFormat;

typedef enum {
	HVP_PATCH_NO,
	HVP_PATCH_YES,
	HVP_PATCH_UNKNOWN,
} HvpPatchTristate;

/* Where things lie in the kernel's structs; offsets and sizes in bytes. */
typedef struct {
	guint32 func_size_bytes;
	guint32 func_old_name;
	guint32 func_new_func;
	guint32 func_old_sympos;
	guint32 object_size_bytes;
	guint32 object_name;
	guint32 object_funcs;
	/* struct klp_callbacks: pre_patch, post_patch, pre_unpatch, post_unpatch in this order. */
	guint32 object_callbacks;
	guint32 patch_size_bytes;
	guint32 patch_mod;
	guint32 patch_objs;
	guint32 patch_states;
	guint32 patch_replace;
	guint32 state_size_bytes;
	guint32 state_id;
	guint32 state_version;
} HvpPatchLayout;

typedef struct {
	/* The function's name in the kernel or module that is patched. */
	const char *name;
	/* 0: the name is unique in its object; n: the n-th of that name there. */
	guint64 sympos;
	/* 0: unknown. */
	guint64 new_size_bytes;
	/* The replacement's symbol in this module; NULL: unknown. */
	const char *new_symbol;
} HvpPatchFunction;

typedef struct {
	/* The module that is patched; NULL: vmlinux. */
	const char *name;
	/* May be empty: an object can have callbacks only. */
	const HvpPatchFunction *functions;
	guint function_count;
	bool pre_patch;
	bool post_patch;
	bool pre_unpatch;
	bool post_unpatch;
} HvpPatchObject;

/* An entry of klp_patch.states. */
typedef struct {
	guint64 id;
	guint32 version;
} HvpPatchState;

typedef struct {
	const char *name;
	bool weak;
} HvpPatchUndefined;

/* A symbol `.klp.sym.OBJECT.NAME,SYMPOS`: where to look for it. */
typedef struct {
	/* NULL: vmlinux. */
	const char *object;
	const char *name;
	/* 0: the name is unique in its object; n: the n-th of that name there. */
	guint64 sympos;
} HvpPatchKlpSymbol;

/* A section `.klp.rela.OBJECT.SECTION`: when to apply it, and to what. */
typedef struct {
	/* NULL: vmlinux. */
	const char *object;
	const char *section;
	guint count;
} HvpPatchKlpRelocations;

/* A section that the guest's module loader treats specially. */
typedef struct {
	const char *name;
	guint64 size_bytes;
} HvpPatchSection;

typedef struct {
	/* The whole file, signature included: what is loaded into the guest. */
	GBytes *bytes;
	/* SHA-256 of bytes in lower-case hex. */
	const char *sha256;
	HvpPatchFormat format;

	/* From modinfo. */
	const char *name;
	const char *vermagic;
	/* Each is NULL where the module has no such field. */
	const char *depends;
	const char *description;
	const char *license;
	const char *srcversion;

	/* Whether the file ends in a signature, and its length with trailer and marker. */
	bool is_signed;
	gsize signature_bytes;

	bool has_init;
	/* Whether it has a cleanup_module: without one the kernel never unloads it. */
	bool has_exit;

	/*
	 * False: the tables are made by the module's own init code, and the
	 * objects below are empty.
	 */
	bool objects_known;
	const HvpPatchObject *objects;
	guint object_count;
	/* Over all objects. */
	guint function_count;

	/*
	 * UNKNOWN where only init code tells. Of a hand-written module: what its data
	 * says, which its init may still change.
	 */
	HvpPatchTristate replace;
	/* False: only init code tells, and the states below are empty. */
	bool states_known;
	const HvpPatchState *states;
	guint state_count;

	const HvpPatchUndefined *undefined;
	guint undefined_count;
	const HvpPatchKlpSymbol *klp_symbols;
	guint klp_symbol_count;
	const HvpPatchKlpRelocations *klp_relocations;
	guint klp_relocations_count;
	const HvpPatchSection *special_sections;
	guint special_section_count;

	/* Of all sections that are loaded, before the guest's loader rounds them up. */
	guint64 memory_bytes;

	/*< private >*/
	GStringChunk *strings;
	GHashTable *modinfo;
} HvpPatch;

/*
 * Reads the livepatch module at @path with the default layout, following
 * symbolic links; the file is read once and never again.
 *
 * NOT_FOUND or PERMISSION: the file could not be opened. INVALID_ARGUMENT: not
 * a regular file, or too large. UNSUPPORTED: a sound file that is no livepatch
 * module for x86-64. BAD_DATA: truncated, damaged or hostile; the message names
 * the file and the place. AMBIGUOUS: more than one struct klp_patch. May block
 * on the file system; not to be called while a VM is paused.
 */
HvpPatch *hvp_patch_open(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * The same for the file that @fd (borrowed) is open for reading; @label stands for it in
 * messages. No path is opened.
 */
HvpPatch *hvp_patch_open_fd(int fd, const char *label, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * The same for a file in memory. @bytes is referenced and must not change.
 * @label stands for the file in messages. @layout may be NULL: the default.
 * Does not block; errors as above, and INVALID_ARGUMENT for an absurd @layout.
 */
HvpPatch *hvp_patch_open_bytes(GBytes *bytes, const char *label, const HvpPatchLayout *layout,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Takes NULL. */
void hvp_patch_free(HvpPatch *self);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpPatch, hvp_patch_free)

/* The layout of Debian's x86-64 kernels. Static. */
const HvpPatchLayout *hvp_patch_layout_default(void);

/* "kpatch", "klp-build" or "klp". Static. */
const char *hvp_patch_format_name(HvpPatchFormat format);

/* The first value of the modinfo field @key, escaped; NULL: there is none. */
const char *hvp_patch_modinfo(const HvpPatch *self, const char *key);

/* Whether the module needs the exported symbol @name from the kernel. */
bool hvp_patch_needs_symbol(const HvpPatch *self, const char *name);

/*
 * The klp symbols that lead into the `.cold` part of the *old* version of a
 * function which this module replaces: kpatch-build 0.9.10 leaves an unchanged
 * `.cold` part out, and its jumps back end in the old function, on a frame of
 * the new one. An array of const HvpPatchKlpSymbol *, empty if there are none;
 * the caller owns the array, the patch its elements.
 */
GPtrArray *hvp_patch_cold_references(const HvpPatch *self) G_GNUC_WARN_UNUSED_RESULT;
