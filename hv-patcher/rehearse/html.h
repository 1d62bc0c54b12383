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

/* Writes it to @path, whole or not at all. PERMISSION, NOT_FOUND. */
bool hvp_html_write(const HvpReport *report, const char *path,
		    GError **error) G_GNUC_WARN_UNUSED_RESULT;
