/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The note of vm/domain-note.h in the metadata of a libvirt domain. What is applied belongs to the
 * running domain alone and ends with it; what is installed to its configuration as well.
 *
 * Errors as of vm/libvirt.h. Nothing here may be called while a VM is stopped.
 */
#pragma once

#include "vm/domain-note.h"
#include "vm/libvirt.h"

typedef enum {
	HVP_LIBVIRT_METADATA_LIVE,   /* of the running domain */
	HVP_LIBVIRT_METADATA_CONFIG, /* of what is started next; a transient domain has none */
} HvpLibvirtMetadataWhere;

/* An empty note where there is none, or one that nobody can read. */
HvpDomainNote *hvp_libvirt_metadata_read(const HvpLibvirtDomain *domain,
					 HvpLibvirtMetadataWhere where, GError **error);

/*
 * Removes the element where there is nothing to say. Waits while libvirt has a job at the domain,
 * for 30 s at most; then BUSY.
 */
bool hvp_libvirt_metadata_write(const HvpLibvirtDomain *domain, HvpLibvirtMetadataWhere where,
				const HvpDomainNote *note,
				GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Notes, where libvirt has the domain's metadata (in its configuration, and of the running one),
 * that @patch is installed, or that none of @name is any more.
 */
bool hvp_libvirt_metadata_install(const HvpLibvirtDomain *domain, const HvpDomainNotePatch *patch,
				  GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_libvirt_metadata_uninstall(const HvpLibvirtDomain *domain, const char *name,
				    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Keeps other processes of ours from correcting the note of the domain @uuid until the descriptor
 * that it returns is closed. -1: there is none, after a second or where nobody can have one; the
 * note is a note, it is written all the same.
 */
int hvp_libvirt_metadata_lock(const char *uuid);

/*
 * Makes the note of the running domain @uuid of @uri, which has number @id, say what the guest
 * says: hvp_domain_note_set_applied with @facts and @news (NULL: none), all copied. Writes only
 * what differs, and tells so in @ret_written.
 *
 * TIMED_OUT behind @timeout_usec, whatever libvirt does; a thread may then be at it still, which
 * ends with the process. NOT_FOUND: the domain does not run any more, or was started since.
 */
bool hvp_libvirt_metadata_correct(const char *uri, const char *uuid, int id, const GPtrArray *facts,
				  const HvpDomainNotePatch *news, gint64 timeout_usec,
				  bool *ret_written, GError **error) G_GNUC_WARN_UNUSED_RESULT;
