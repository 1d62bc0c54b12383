/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses as types of their own, so that a mix-up does not compile: gva in
 * the guest kernel's virtual address space, gpa in guest-physical memory, hva
 * in the virtual address space of the process that runs the VM.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct {
	guint64 value;
} HvpGva;

typedef struct {
	guint64 value;
} HvpGpa;

typedef struct {
	guint64 value;
} HvpHva;

#define HVP_PAGE_SIZE 4096U
#define HVP_PAGE_MASK ((guint64)HVP_PAGE_SIZE - 1)

/* Half-open [start, end) in the guest's virtual address space. */
typedef struct {
	HvpGva start;
	HvpGva end;
} HvpGvaRange;

/* Half-open [start, end) in guest-physical memory. */
typedef struct {
	HvpGpa start;
	HvpGpa end;
} HvpGpaRange;

static inline HvpGva hvp_gva(guint64 value)
{
	return (HvpGva){ value };
}

static inline HvpGpa hvp_gpa(guint64 value)
{
	return (HvpGpa){ value };
}

static inline HvpHva hvp_hva(guint64 value)
{
	return (HvpHva){ value };
}

static inline HvpGva hvp_gva_add(HvpGva gva, guint64 bytes)
{
	return hvp_gva(gva.value + bytes);
}

static inline bool hvp_gva_range_contains(HvpGvaRange range, HvpGva gva)
{
	return gva.value >= range.start.value && gva.value < range.end.value;
}

static inline bool hvp_gva_range_overlaps(HvpGvaRange a, HvpGvaRange b)
{
	return a.start.value < b.end.value && b.start.value < a.end.value;
}

static inline guint64 hvp_gva_range_size(HvpGvaRange range)
{
	return range.end.value - range.start.value;
}
