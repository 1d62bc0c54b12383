/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The highest serial number of each name that was seen: {"NAME": NUMBER} in a file, whatever
 * becomes of the patches. What has none is HVP_MANIFEST_NO_SERIAL, below all others.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "base/error.h"

typedef struct HvpSerials HvpSerials;

/*
 * What file @path has, which may be missing; the caller's. FAULT, BAD_DATA: without the numbers an
 * old patch could come back, which is no way to go on.
 */
HvpSerials *hvp_serials_read(const char *path, GError **error);
void hvp_serials_free(HvpSerials *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpSerials, hvp_serials_free)

gint64 hvp_serials_get(const HvpSerials *self, const char *name);

/* Has @serial from now on, where that is higher; the file has it once it is saved. */
void hvp_serials_raise(HvpSerials *self, const char *name, gint64 serial);
/* FAULT: the file is still as it was; to be tried again. */
bool hvp_serials_save(HvpSerials *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;
