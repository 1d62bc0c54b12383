/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The report as one HTML page that needs nothing else: no script, no link, no image. Every text
 * that comes from the guest, the patch or the workload is escaped; a policy in the page forbids
 * what slipped through all the same.
 */
#pragma once

#include "rehearse/report.h"

/* The page; the caller's. */
char *hvp_html_make(const HvpReport *report);

/*
 * Whether a file can be made at @path, so that a long rehearsal is not in vain; leaves none.
 * INVALID_ARGUMENT: something is there that is no file; NOT_FOUND: no folder; FAULT.
 */
bool hvp_html_check(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Writes it to @path, whole or not at all. Errors as of hvp_html_check. */
bool hvp_html_write(const HvpReport *report, const char *path,
		    GError **error) G_GNUC_WARN_UNUSED_RESULT;
