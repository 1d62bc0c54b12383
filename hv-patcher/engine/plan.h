/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From facts to writes. A function is switched by a 5-byte jump right behind its
 * fentry slot: nothing has been pushed there, and tracers, BPF trampolines and call
 * thunks all arrive at or before it. The slot's own bytes belong to ftrace.
 *
 *   function:  [endbr64]  slot (5 bytes, ftrace's)  jmp rel32 NEW, NOPs to the next
 *                                                   instruction boundary
 *
 * Pure, but for hvp_plan_gather, which reads the facts.
 */
#pragma once

#include "guest/ftrace.h"
#include "guest/text-sites.h"
#include "keeper/keeper.h"

#define HVP_PLAN_JUMP_BYTES 5U
/* The jump and the longest instruction that its last byte may hit. */
#define HVP_PLAN_MAX_SITE_BYTES 20U
#define HVP_PLAN_CODE_BYTES 64U

/* What is known of one function that is to be replaced. */
typedef struct {
	char *object;	  /* the module's name; NULL: vmlinux */
	HvpGva module;	  /* its struct module; 0: vmlinux */
	HvpGvaRange text; /* of the object */
	char *name;
	guint64 position; /* sympos */
	HvpGvaRange old;  /* up to the next symbol */
	HvpFtraceRecord slot;
	guint8 code[HVP_PLAN_CODE_BYTES]; /* from old.start on */
	gsize code_bytes;
} HvpFunctionFacts;

void hvp_plan_clear_facts(HvpFunctionFacts *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HvpFunctionFacts, hvp_plan_clear_facts)

/* One place to change: at @site the old bytes become the new ones. */
typedef struct {
	HvpGva site;
	guint length_bytes;
	guint8 old_bytes[HVP_PLAN_MAX_SITE_BYTES];
	guint8 new_bytes[HVP_PLAN_MAX_SITE_BYTES];
} HvpSite;

/*
 * Reads what there is to know of function @name, n-th @position, of the kernel's image or of
 * @object (one of @modules; NULL: the image). NOT_FOUND, AMBIGUOUS, UNSUPPORTED where it cannot
 * be replaced at all (no ftrace record).
 */
bool hvp_plan_gather(HvpKernel *kernel, HvpModules *modules, HvpModule *object,
		     const HvpFtrace *ftrace, const char *name, guint64 position,
		     HvpFunctionFacts *ret_facts, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Likewise for the function that starts at @start, which one of @modules has. */
bool hvp_plan_gather_at(HvpKernel *kernel, HvpModules *modules, HvpModule *object,
			const HvpFtrace *ftrace, HvpGva start, HvpFunctionFacts *ret_facts,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Where the jump goes and what it replaces (new bytes are left zero). UNSUPPORTED: no room;
 * CONFLICT: redirected already; BUSY: ftrace is changing the slot; and the reasons of
 * hvp_text_sites_check (@sites may be NULL: there are none). @image is the kernel's text, into
 * which a first jump may well lead, as into the function's own object.
 */
bool hvp_plan_site(const HvpFunctionFacts *facts, const HvpTextSites *sites, HvpGvaRange image,
		   HvpSite *ret_site, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Fills in @site's new bytes: a jump to @target, NOPs behind it. UNSUPPORTED: out of reach. */
bool hvp_plan_jump(HvpSite *site, HvpGva target, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether @bytes at @site are a jump of ours, and where to. */
bool hvp_plan_decode_jump(HvpGva site, const guint8 *bytes, guint length_bytes, HvpGva *ret_target);

/*
 * The keeper's list for @site, split at pages. Appends HvpKeeperWrite to @writes. FAULT where the
 * site is not mapped; UNSUPPORTED past the keeper's limit.
 */
bool hvp_plan_writes(HvpAddressSpace *space, const HvpSite *site, GArray *writes,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;
