/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was patched, kept in the guest itself: behind the NUL of the patch module's
 * argument string. It travels with migration and snapshots and goes with a reboot.
 *
 *   record = 0 u8, "HVPREC2", length u32, site count u32, checksum[32] (SHA-256 of all with this
 *            field and the state zero), file's SHA-256[32], applied at (Unix time, usec) u64,
 *            struct klp_patch u64, tool version[16], state u64, aliases u64, site*, strings
 *   site   = old start u64, old end u64, new u64, site u64, slot u64, position u64, name (offset of
 *            a NUL-terminated string) u32, length u32, old bytes[20], new bytes[20],
 *            struct module of its object u64 (0: vmlinux), object's name u32 (0: vmlinux), 0 u32
 *   aliases = where other names of the patch's objects stand, see klp-core.h
 *   state  = 1: in force, 0: not; written in the very pause that makes it so
 *
 * It is guest-writable and therefore only believed as far as the guest's text agrees.
 */
#pragma once

#include "engine/plan.h"
#include "guest/modules.h"

#define HVP_RECORD_MAX_BYTES (1U << 20)

typedef struct {
	char *object;  /* the module's name; NULL: vmlinux */
	HvpGva module; /* its struct module; 0: vmlinux */
	char *name;
	guint64 position;
	HvpGvaRange old;
	HvpGva slot;
	HvpGva new_function;
	HvpSite site;
} HvpRecordSite;

typedef struct {
	char *patch;	     /* the module's name */
	char sha256[65];     /* of the file, hex */
	gint64 applied_usec; /* Unix time; 0: prepared, not switched */
	HvpGva klp_patch;
	HvpGva aliases;
	bool in_force;
	GArray *sites; /* HvpRecordSite */
} HvpRecord;

HvpRecord *hvp_record_new(const char *patch, const char *sha256);
void hvp_record_free(HvpRecord *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpRecord, hvp_record_free)

/*
 * How many bytes encoding takes for @site_count functions whose names, and those of their
 * objects, have @name_bytes in all.
 */
gsize hvp_record_size(guint site_count, gsize name_bytes);

/* Encodes; owned by the caller. */
GBytes *hvp_record_encode(const HvpRecord *self);

/* BAD_DATA where it is not a record; bounded. */
HvpRecord *hvp_record_decode(const guint8 *bytes, gsize length_bytes, const char *patch,
			     GError **error);

/* The record of @module, or NULL with NOT_FOUND where its arguments are none of ours. */
HvpRecord *hvp_record_read(HvpKernel *kernel, const HvpModule *module, GError **error);

typedef enum {
	HVP_RECORD_SWITCHED, /* in force: every site holds our jump */
	HVP_RECORD_ORIGINAL, /* not in force: no site holds our jump */
	HVP_RECORD_BUSY,     /* a breakpoint: the guest is changing it */
	HVP_RECORD_TAMPERED, /* anything else, a mix included */
	HVP_RECORD_GONE,     /* of a site: its module was unloaded, or loaded again, since */
} HvpRecordState;

/* "switched", "original", "busy", "tampered", "gone". Static. */
const char *hvp_record_state_name(HvpRecordState state);

/*
 * Compares the record with the guest: each site must lie behind the slot of the function it
 * names and hold either our jump into @module's text or what was there before. Sites that are
 * gone do not count. @ret_why (may be NULL) names the first that does not; the caller frees it.
 */
HvpRecordState hvp_record_verify(const HvpRecord *self, HvpKernel *kernel, HvpModules *modules,
				 const HvpModule *module, char **ret_why);

/* The same of one site; never BUSY's or TAMPERED's fault of another. */
HvpRecordState hvp_record_verify_site(const HvpRecord *self, guint index, HvpKernel *kernel,
				      HvpModules *modules, const HvpModule *module);

/* The change that marks the record at @address as in force, or as not in force any more. */
void hvp_record_plan_state(HvpGva address, bool in_force, HvpSite *ret_change);
