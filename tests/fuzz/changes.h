/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Words of a made-up guest that are changed before it is looked at, or while it is:
 *
 *   change = place u8, kind u8, when u8, value u64
 *
 * The target names the places: pointers, counts, sizes. A value that is the address or content of
 * another place makes loops and lists that run into each other, which random bytes would not.
 */
#pragma once

#include "../unit/guest/synthetic-guest.h"

#define CHANGE_BYTES 11U
#define CHANGES_MAX 32U
#define CHANGE_PLACES_MAX 256U

typedef enum {
	CHANGE_VALUE,	/* the value itself */
	CHANGE_ADDRESS, /* the address of place number value, and a multiple of 8 behind it */
	CHANGE_CONTENT, /* what place number value holds */
	CHANGE_ADD,	/* what is there, and the value */
	CHANGE_KINDS
} ChangeKind;

typedef struct {
	SyntheticGuest *guest;
	HvpGva places[CHANGE_PLACES_MAX];
	guint place_count;
	struct {
		HvpGva place;
		guint64 value;
		guint64 before;
		guint64 at_call; /* of the guest's memory */
		bool made;
	} changes[CHANGES_MAX];
	guint change_count;
	guint made[CHANGES_MAX]; /* which were made, in that order */
	guint made_count;
} Changes;

static inline void changes_add_place(Changes *self, HvpGva place)
{
	g_assert(self->place_count < CHANGE_PLACES_MAX);
	self->places[self->place_count++] = place;
}

static inline void changes_add_member(Changes *self, HvpGva address, HvpLayoutItem item)
{
	if (hvp_layout_has(&self->guest->layout, item))
		changes_add_place(self, synthetic_guest_member(self->guest, address, item));
}

/* A list head or node: both its pointers. */
static inline void changes_add_list(Changes *self, HvpGva node)
{
	changes_add_place(self, node);
	changes_add_place(self, hvp_gva_add(node, 8));
}

static inline guint64 changes_value(const Changes *self, HvpGva place, guint kind, guint64 value)
{
	HvpGva other = self->places[value % self->place_count];

	switch (kind % CHANGE_KINDS) {
	case CHANGE_ADDRESS:
		return other.value + (value >> 8) % 512 * 8;
	case CHANGE_CONTENT:
		return synthetic_guest_get(self->guest, other);
	case CHANGE_ADD:
		return synthetic_guest_get(self->guest, place) + value;
	default:
		return value;
	}
}

/* Makes what is due by now. */
static inline void changes_make(ImageMemory *memory, gpointer user_data)
{
	Changes *self = user_data;

	for (guint i = 0; i < self->change_count; i++)
		if (!self->changes[i].made && memory->calls >= self->changes[i].at_call) {
			self->changes[i].made = true;
			self->made[self->made_count++] = i;
			self->changes[i].before = synthetic_guest_get(self->guest,
								      self->changes[i].place);
			synthetic_guest_put(self->guest, self->changes[i].place,
					    self->changes[i].value);
		}
}

/* Reads the changes, and has each made when its time comes: at once, or at that many a read. */
static inline void changes_begin(Changes *self, const guint8 *data, gsize size_bytes)
{
	ImageMemory *memory = self->guest->memory;

	self->change_count = self->made_count = 0;
	for (gsize at = 0; at + CHANGE_BYTES <= size_bytes && self->change_count < CHANGES_MAX;
	     at += CHANGE_BYTES) {
		guint i = self->change_count++;

		self->changes[i].place = self->places[data[at] % self->place_count];
		self->changes[i].value = changes_value(self, self->changes[i].place, data[at + 1],
						       hvp_load_u64(data + at + 3));
		self->changes[i].at_call = memory->calls + data[at + 2];
		self->changes[i].made = false;
	}
	memory->on_read = changes_make;
	memory->user_data = self;
	changes_make(memory, self);
}

/* Takes all back, the last first: a place may have been changed twice. */
static inline void changes_end(Changes *self)
{
	self->guest->memory->on_read = NULL;
	while (self->made_count > 0) {
		guint i = self->made[--self->made_count];

		synthetic_guest_put(self->guest, self->changes[i].place, self->changes[i].before);
	}
}
