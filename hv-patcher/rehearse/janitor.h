/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process that runs a program for us and cleans up behind it when we are gone, whatever ended
 * us; see rehearse/throwaway.h.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/error.h"

/* The program's descriptors: all but the last from this number on; the last is its output. */
#define HVP_JANITOR_FIRST_FD 3
#define HVP_JANITOR_FDS 5

typedef struct HvpJanitor HvpJanitor;

typedef struct {
	const char *program;
	char **arguments;
	const int *descriptors; /* [HVP_JANITOR_FDS] */
	gsize max_file_bytes;	/* of a file that the program writes */
	const char *folder;	/* removed at the end, with the files in it */
} HvpJanitorOrder;

/* Starts both. A program that cannot be run ends at once. Only for a process of one thread. */
HvpJanitor *hvp_janitor_start(const HvpJanitorOrder *order, GError **error);

/* Kills the program, waits until all is cleaned up, and frees; NULL is fine. */
void hvp_janitor_end(HvpJanitor *self);

/* Removes a folder and the files in it, as far as they are there. */
void hvp_janitor_remove_folder(const char *path);
