/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A line of /proc/PID/maps (Documentation/filesystems/proc.rst):
 *
 *   start-end perms offset major:minor inode [path]
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

typedef struct {
	guint64 start;
	guint64 end;
	guint64 offset_bytes;
	dev_t device;
	guint64 inode; /* 0: anonymous */
	bool readable;
	bool writable;
	bool executable;
	bool shared;
	const char *path; /* borrowed, up to the end of the line; "": none */
} HvpProcessMapping;

/*
 * Opens the list of the mappings of process @pid, by the helper where one is used; fclose it.
 * Errors of hvp_access_explain.
 */
FILE *hvp_process_maps_open(pid_t pid, GError **error);

/* False for a line of another form. */
bool hvp_process_maps_parse(const char *line, HvpProcessMapping *ret_mapping)
	G_GNUC_WARN_UNUSED_RESULT;
