/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Livepatch modules made up by tests: small relocatable files written by
 * libelf, in each of the three formats, sound unless a test breaks them. Also
 * the source of the fuzzer's seeds. Asserts on every failure of its own.
 */
#pragma once

#include <glib.h>

typedef struct Synth Synth;

Synth *synth_new(void);
void synth_free(Synth *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Synth, synth_free)

/* Adds a section with a copy of @data, or of zeros if it is NULL; returns its index. */
guint synth_section(Synth *self, const char *name, guint32 type, guint64 flags, const void *data,
		    gsize size_bytes);

/* The section's bytes, to write into. */
guint8 *synth_bytes(Synth *self, guint section);

/* Adds a global symbol; @section may be any st_shndx. Returns its index. */
guint synth_symbol(Synth *self, const char *name, guint section, guint64 value, guint64 size_bytes,
		   guint type);

/* A pointer in @section at @offset to the symbol + @addend. */
void synth_pointer(Synth *self, guint section, guint64 offset, guint symbol, gint64 addend);

/* A relocation of any type in .rela<section>. */
void synth_rela(Synth *self, guint section, guint64 offset, guint symbol, guint type,
		gint64 addend);

/* Adds a section .klp.rela.<object><section's name> with one relocation; returns its index. */
guint synth_klp_rela(Synth *self, const char *object, guint section, guint64 offset, guint symbol,
		     guint type);

/* Adds a string to the module's strings and a pointer to it at @offset of @section. */
void synth_string(Synth *self, guint section, guint64 offset, const char *text);

/* Writes the file; may be called once. */
GBytes *synth_finish(Synth *self);

/* struct module with @name, modinfo (of @modinfo_bytes), init_module and cleanup_module. */
void synth_module(Synth *self, const char *name, const char *modinfo, gsize modinfo_bytes);

/* The same with the modinfo of a sound livepatch module. */
void synth_livepatch_module(Synth *self);

/* A FUNC symbol in a text section of its own. Returns the symbol. */
guint synth_function(Synth *self, const char *name, gsize size_bytes);

/*
 * Whole modules. The hand-written one patches vmlinux (cmdline_proc_show;
 * sysinfo at position 2; with callbacks pre_patch and post_unpatch) and module
 * loop (lo_ioctl), replaces, and has state 7 in version 3. All three have one
 * klp symbol and section. Both generations of klp-build and kpatch patch
 * cmdline_proc_show of vmlinux and lo_ioctl of loop.
 */
Synth *synth_klp(void);
Synth *synth_klp_build(const char *objects_section, const char *funcs_section);
Synth *synth_kpatch(void);
GBytes *synth_klp_file(void);
GBytes *synth_klp_build_file(void);
GBytes *synth_kpatch_file(void);
/* @unsigned_file with a signature of 100 bytes, 140 in all with trailer and marker. */
GBytes *synth_sign(GBytes *unsigned_file);
