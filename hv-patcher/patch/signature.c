/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch/signature.h"

#include <string.h>

#include "base/bytes.h"
#include "base/error.h"

static const char signature_marker[] = "~Module signature appended~\n";
#define SIGNATURE_MARKER_BYTES (sizeof signature_marker - 1)

/* struct module_signature: algo, hash, id_type, signer_len, key_id_len, pad[3], be32 sig_len. */
#define SIGNATURE_TRAILER_BYTES 12U
#define SIGNATURE_SIGNER_LENGTH 3U
#define SIGNATURE_KEY_ID_LENGTH 4U
#define SIGNATURE_LENGTH 8U

static bool signature_has_marker(const guint8 *bytes, gsize length_bytes)
{
	return length_bytes >= SIGNATURE_MARKER_BYTES &&
	       memcmp(bytes + length_bytes - SIGNATURE_MARKER_BYTES, signature_marker,
		      SIGNATURE_MARKER_BYTES) == 0;
}

bool hvp_signature_measure(const guint8 *bytes, gsize length_bytes, gsize *ret_signature_bytes,
			   GError **error)
{
	gsize fixed_bytes = SIGNATURE_MARKER_BYTES + SIGNATURE_TRAILER_BYTES;
	const guint8 *trailer;
	guint64 variable_bytes;

	if (!signature_has_marker(bytes, length_bytes)) {
		*ret_signature_bytes = 0;
		return true;
	}
	if (length_bytes < fixed_bytes)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA, "a signature's marker and no more");
	trailer = bytes + length_bytes - fixed_bytes;
	variable_bytes = (guint64)trailer[SIGNATURE_SIGNER_LENGTH] +
			 trailer[SIGNATURE_KEY_ID_LENGTH] +
			 GUINT32_SWAP_LE_BE(hvp_load_u32(trailer + SIGNATURE_LENGTH));
	if (variable_bytes > length_bytes - fixed_bytes)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "a signature of %" G_GUINT64_FORMAT
				     " bytes in a file of %" G_GSIZE_FORMAT,
				     variable_bytes, length_bytes);
	*ret_signature_bytes = fixed_bytes + (gsize)variable_bytes;
	return true;
}
