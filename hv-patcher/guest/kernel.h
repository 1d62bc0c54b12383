/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel that runs in a guest: where its image is, its symbols, the layout of
 * its structs, its ORC tables, and the address space to read it through. Found from
 * memory and registers alone; immutable afterwards.
 *
 *   locate (registers, page tables) -> known to the cache? -> symbols, layout
 *                                   -> else copy the image: kallsyms, BTF -> cache it
 *
 * The cache is only ever a short cut: build-id and banner are compared with the guest's
 * memory at each attach, and a file that does not fit is made anew.
 */
#pragma once

#include "base/registers.h"
#include "guest/image.h"
#include "guest/layout.h"
#include "guest/symbols.h"

typedef struct HvpKernel HvpKernel;

#define HVP_BUILD_ID_MAX_BYTES 20U
#define HVP_BANNER_MAX_BYTES 512U
#define HVP_KERNEL_MAX_CPUS 8192U

/*
 * Attaches to the kernel in @physical (borrowed) that @registers lead to. @cache_folder may
 * be NULL (no cache). NOT_FOUND: no Linux; UNSUPPORTED: one without KALLSYMS or BTF.
 */
HvpKernel *hvp_kernel_attach(HvpPhysical *physical, const HvpRegisters *registers, guint count,
			     const char *cache_folder, GError **error);
void hvp_kernel_free(HvpKernel *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpKernel, hvp_kernel_free)

/* Accessors; everything returned is owned by @self. */
HvpAddressSpace *hvp_kernel_get_space(HvpKernel *self);
const HvpLayout *hvp_kernel_get_layout(HvpKernel *self);
const HvpSymbols *hvp_kernel_get_symbols(HvpKernel *self);
const HvpImageLocation *hvp_kernel_get_location(HvpKernel *self);
const char *hvp_kernel_get_banner(HvpKernel *self);   /* "Linux version ...", escaped */
const char *hvp_kernel_get_release(HvpKernel *self);  /* as uname -r, escaped */
const char *hvp_kernel_get_build_id(HvpKernel *self); /* hex */
bool hvp_kernel_was_cached(HvpKernel *self);
gint64 hvp_kernel_get_attach_usec(HvpKernel *self);

/* _stext.._etext: where compiled code of the image lies. */
HvpGvaRange hvp_kernel_get_text(HvpKernel *self);

/* Address of the one symbol @name; NOT_FOUND, AMBIGUOUS where several have the name. */
bool hvp_kernel_symbol(HvpKernel *self, const char *name, HvpGva *ret_address,
		       GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_kernel_has_symbol(HvpKernel *self, const char *name);

/*
 * The function @name as livepatch means it: @position 0 wants it to be unique, n >= 1
 * takes the n-th in ascending order of address. @ret_range ends at the next symbol.
 */
bool hvp_kernel_function(HvpKernel *self, const char *name, guint64 position,
			 HvpGvaRange *ret_range, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Ranges (HvpGvaRange) of all that are @name, or @name with a "." part behind. */
GArray *hvp_kernel_functions_named(HvpKernel *self, const char *name);

/* Whether symbol @name (code, data or per-CPU) is there as livepatch's @position wants it. */
bool hvp_kernel_has_symbol_at(HvpKernel *self, const char *name, guint64 position);

/* Symbol of the image that holds @address; false when there is none. */
bool hvp_kernel_find_address(HvpKernel *self, HvpGva address, const char **ret_name,
			     HvpGvaRange *ret_range);

/* Reads a variable of the image by its symbol. */
bool hvp_kernel_read_u32(HvpKernel *self, const char *name, guint32 *ret_value,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_kernel_read_u64(HvpKernel *self, const char *name, guint64 *ret_value,
			 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Size of a task's kernel stack (THREAD_SIZE), a power of two. */
guint32 hvp_kernel_get_stack_bytes(HvpKernel *self);

/* Possible CPUs and where each one's per-CPU area is offset to. */
guint hvp_kernel_get_cpu_count(HvpKernel *self);
guint64 hvp_kernel_get_cpu_offset(HvpKernel *self, guint cpu);

/* Address of per-CPU variable @name on @cpu; NOT_FOUND. */
bool hvp_kernel_per_cpu(HvpKernel *self, const char *name, guint cpu, HvpGva *ret_address,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Where @cpu keeps its current task, preempt count and hard-IRQ stack (since 6.2 in pcpu_hot). */
bool hvp_kernel_current_address(HvpKernel *self, guint cpu, HvpGva *ret_address,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_kernel_preempt_count_address(HvpKernel *self, guint cpu, HvpGva *ret_address,
				      GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_kernel_irq_stack_address(HvpKernel *self, guint cpu, HvpGva *ret_address,
				  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Whether a vCPU with root @cr3 maps this kernel: its image base leads to the same
 * memory and the banner still reads as it did. Call after forget() when stopped.
 */
bool hvp_kernel_is_mapped_by(HvpKernel *self, guint64 cr3);

/* Which CPU has @gs_base (of kernel mode) as its per-CPU offset; false when none. */
bool hvp_kernel_find_cpu(HvpKernel *self, guint64 gs_base, guint *ret_cpu);

/*
 * Which CPU's task state segment lies at @tr_base, in whatever mode the CPU is. The kernel maps
 * each CPU's cpu_tss_rw a second time for that, so that it is found by its memory. False when
 * none, or @tr_base is 0.
 */
bool hvp_kernel_find_cpu_by_tss(HvpKernel *self, guint64 tr_base, guint *ret_cpu);
