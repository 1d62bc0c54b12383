/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a module ends in a signature, and how long that is:
 *
 *   contents | signer | key id | signature | struct module_signature | marker
 *
 * (kernel, include/linux/module_signature.h). It is not verified here.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * @ret_signature_bytes: everything behind the contents; 0 for an unsigned file.
 * BAD_DATA: a marker whose lengths pass the file. Nothing is written on failure.
 */
bool hvp_signature_measure(const guint8 *bytes, gsize length_bytes, gsize *ret_signature_bytes,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
