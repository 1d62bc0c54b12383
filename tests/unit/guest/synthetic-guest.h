/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest kernel made up by tests: page tables, IDT, an image with kallsyms, BTF, ORC, notes
 * and banner, tasks with stacks, modules, ftrace records, locks, in an array of 10 MiB. Sound
 * unless a test breaks it. Asserts on every failure of its own.
 *
 *   virtual            physical
 *   image + 0          6 MiB..8 MiB   text, ORC, kallsyms, BTF, notes, banner
 *   image + 4 MiB      8 MiB..10 MiB  data, init_task, page-table root (a hole lies between)
 *   direct map         everything
 *   vmalloc, modules   what was allocated there, in pages of 4 KiB with holes between
 */
#pragma once

#include "../mem/image-memory.h"
#include "btf-maker.h"
#include "guest/kernel.h"
#include "guest/orc.h"
#include "guest/tasks.h"
#include "kallsyms-maker.h"

#define SYNTHETIC_BASE 0xffffffff9a000000ULL
#define SYNTHETIC_IMAGE_BYTES 0x600000ULL
#define SYNTHETIC_TEXT_BYTES 0x100000ULL
#define SYNTHETIC_DIRECT_MAP 0xffff888000000000ULL
#define SYNTHETIC_STACK_BYTES 16384U
#define SYNTHETIC_CPUS 2U
#define SYNTHETIC_FUNCTION_BYTES 0x100U

typedef struct {
	Generation generation;
	bool five_levels;
	bool small_pages;    /* the image in pages of 4 KiB, not 2 MiB */
	bool isolated;	     /* page-table isolation: the vCPU's root is the user's half */
	guint64 heap_bytes;  /* for tasks and what else is allocated; 0: 5 MiB */
	const char *missing; /* item that the BTF lacks, or NULL */
	const char *without; /* symbol that kallsyms lacks, or NULL */
	const char *twice;   /* symbol that kallsyms has twice, or NULL */
} SyntheticOptions;

typedef struct SyntheticGuest SyntheticGuest;

struct SyntheticGuest {
	ImageMemory *memory;
	HvpRegisters registers; /* of a vCPU in user mode */
	HvpLayout layout;
	guint64 root_gpa;
	guint64 user_root_gpa; /* 0 unless isolated */
	KallsymsPlaces kallsyms;
	HvpGva btf, notes, banner, orc_ips, orc_entries;
	guint orc_count;
	HvpGva signal_of_init;
	/* Private to the maker. */
	SyntheticOptions options;
	KallsymsMaker *symbols;
	GHashTable *addresses;
	guint64 next_table, next_heap, next_data;
	guint32 function_count;
};

SyntheticGuest *synthetic_guest_new(const SyntheticOptions *options);
void synthetic_guest_free(SyntheticGuest *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SyntheticGuest, synthetic_guest_free)

/* Attaches without a cache; fails the test if that fails. */
HvpKernel *synthetic_guest_attach(SyntheticGuest *self);

/* @length_bytes of guest memory at @gva, to write into; they must be contiguous. */
guint8 *synthetic_guest_bytes(SyntheticGuest *self, HvpGva gva, gsize length_bytes);
void synthetic_guest_put(SyntheticGuest *self, HvpGva gva, guint64 value);
guint64 synthetic_guest_get(SyntheticGuest *self, HvpGva gva);
/* The address of member @item of the struct at @gva. */
HvpGva synthetic_guest_member(SyntheticGuest *self, HvpGva gva, HvpLayoutItem item);
void synthetic_guest_set(SyntheticGuest *self, HvpGva gva, HvpLayoutItem item, guint64 value);

/* Links @node in before the list's @head. */
void synthetic_guest_list_add(SyntheticGuest *self, HvpGva head, HvpGva node);

/* Address of symbol @name, and a return address into function @name. */
HvpGva synthetic_guest_symbol(SyntheticGuest *self, const char *name);
HvpGva synthetic_guest_return_into(SyntheticGuest *self, const char *name);

/* Address of per-CPU variable @name of @cpu. */
HvpGva synthetic_guest_per_cpu(SyntheticGuest *self, const char *name, guint cpu);

/* Maps @gpa at @gva by an entry of @level. */
void synthetic_guest_map(SyntheticGuest *self, guint64 root, HvpGva gva, guint64 gpa, guint level);
/* Where the entry of @level for @gva is. */
guint64 synthetic_guest_entry(SyntheticGuest *self, guint64 root, HvpGva gva, guint level);

/* Zeroed memory in the direct map; in vmalloc's or the modules' region, holes around it. */
HvpGva synthetic_guest_alloc(SyntheticGuest *self, gsize length_bytes);
HvpGva synthetic_guest_alloc_pages(SyntheticGuest *self, gsize length_bytes);

/*
 * A sleeping task behind all others, of thread group @leader or, if that is 0, a leader of its
 * own. Its stack: __schedule, schedule, do_wait, kthread, ret_from_fork.
 */
HvpGva synthetic_guest_add_task(SyntheticGuest *self, const char *comm, guint32 pid, HvpGva leader);

/*
 * A live module behind all others: one page of text with functions @name_first and @name_second
 * at its start and middle, both with frames of 16 bytes.
 */
HvpGva synthetic_guest_add_module(SyntheticGuest *self, const char *name);

/* [@start, @end) of physical memory that holds something: where to break it. */
guint synthetic_guest_used(SyntheticGuest *self, HvpGpaRange *ret_ranges, guint most);
