/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The struct klp_patch that a module's init hands to klp_enable_patch, read in the
 * guest: whatever made the module, this is what it means.
 *
 * Source: include/linux/livepatch.h.
 */
#pragma once

#include "guest/modules.h"

/* Of all objects together. */
#define HVP_KLP_PATCH_MAX_FUNCTIONS 4096U
#define HVP_KLP_PATCH_MAX_STATES 1024U
/* Of the names under which the guest's core is not to find a module; see klp-core.h. */
#define HVP_KLP_ALIAS_SUFFIX ":hvpatch"

/* One function as the guest's klp_patch names it. */
typedef struct {
	char *name;
	guint64 position;
	HvpGva new_function;
} HvpKlpFunction;

typedef enum {
	HVP_KLP_PRE_PATCH,
	HVP_KLP_POST_PATCH,
	HVP_KLP_PRE_UNPATCH,
	HVP_KLP_POST_UNPATCH,
	HVP_KLP_CALLBACK_COUNT,
} HvpKlpCallback;

/* What is changed of vmlinux or of one module. */
typedef struct {
	char *name;	/* the module's, without HVP_KLP_ALIAS_SUFFIX; NULL: vmlinux */
	HvpGva address; /* struct klp_object */
	HvpGva key;	/* that address once vmlinux's is the first, wherever it is now */
	HvpGva name_address;
	HvpGva module;	 /* the struct module that the guest's own core knows it by; 0 */
	bool patched;	 /* by the guest's own core */
	bool is_due;	 /* its callbacks have run and are to be undone, by the guest's word */
	HvpGva callbacks[HVP_KLP_CALLBACK_COUNT]; /* 0: it has none */
	GArray *functions;			  /* HvpKlpFunction */
} HvpKlpObject;

/* A state of the system that the patch changes (klp_patch.states). */
typedef struct {
	guint64 id;
	guint32 version;
	HvpGva address; /* struct klp_state */
} HvpKlpState;

/* The guest's struct klp_patch. */
typedef struct {
	HvpGva address;
	HvpGva module;	/* struct module */
	HvpGva record;	/* the module's argument string, with room for the record; 0 if just read */
	HvpGva aliases; /* room for other names of its objects; as record */
	HvpGva first_object;  /* klp_patch.objs */
	bool replace;	      /* as the guest has it */
	bool replaces;	      /* as it is to be: the same, unless somebody decides otherwise */
	guint function_count; /* of all objects */
	GPtrArray *objects;   /* HvpKlpObject, in the patch's order */
	GArray *states;	      /* HvpKlpState */
} HvpKlpPatch;

void hvp_klp_patch_free(HvpKlpPatch *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpKlpPatch, hvp_klp_patch_free)

/* Reads the klp_patch at @address; bounded. BAD_DATA where it makes no sense. */
HvpKlpPatch *hvp_klp_patch_read(HvpKernel *kernel, HvpGva address, GError **error);

/* Likewise that of @module: BAD_DATA where it is another's, whatever a record of it claims. */
HvpKlpPatch *hvp_klp_patch_read_own(HvpKernel *kernel, const HvpModule *module, HvpGva address,
				    GError **error);

/*
 * Gives each object, of @object_bytes, its key: by it the journal knows one and the same object
 * before and after they have changed places.
 */
void hvp_klp_patch_set_keys(HvpKlpPatch *self, guint32 object_bytes);

guint hvp_klp_patch_count(const HvpKlpPatch *self);
HvpKlpObject *hvp_klp_patch_get(const HvpKlpPatch *self, guint index);

/* Whether it names anything but vmlinux. */
bool hvp_klp_patch_has_modules(const HvpKlpPatch *self);

/* Whether any of its objects has callback @which. */
bool hvp_klp_patch_has_callback(const HvpKlpPatch *self, HvpKlpCallback which);

/* The state @id; NULL. */
const HvpKlpState *hvp_klp_patch_find_state(const HvpKlpPatch *self, guint64 id);

/*
 * Whether @self may come while @older is in force: of each state of @older it has the same or a
 * higher version, or does not know it and lets @older stay. CONFLICT.
 */
bool hvp_klp_patch_check_states(const HvpKlpPatch *self, const HvpKlpPatch *older, bool replaces,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;
