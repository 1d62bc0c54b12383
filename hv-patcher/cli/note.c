/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/note.h"

#include <stdio.h>
#include <unistd.h>

#include "cli/output.h"
#include "engine/applied.h"
#include "vm/libvirt-metadata.h"

#define TIMEOUT_USEC (10 * G_USEC_PER_SEC)

/* As the guest has it; NULL: it is loaded, and not in force. */
static HvpDomainNotePatch *describe_applied(const HvpApplied *applied)
{
	HvpDomainNotePatch *patch;

	if (applied->state == HVP_RECORD_ORIGINAL)
		return NULL;
	patch = hvp_domain_note_patch_new(applied->record->patch, applied->record->sha256,
					  applied->record->applied_usec / G_USEC_PER_SEC);
	if (applied->state != HVP_RECORD_SWITCHED)
		patch->state = g_strdup(hvp_record_state_name(applied->state));
	return patch;
}

/* NULL where the guest cannot be read: that is said by whoever reads it for the user. */
static GPtrArray *read_facts(HvpTarget *target)
{
	g_autoptr(GPtrArray) all = hvp_applied_read_all(target, NULL);
	GPtrArray *facts;

	if (all == NULL)
		return NULL;
	facts = g_ptr_array_new_with_free_func((GDestroyNotify)hvp_domain_note_patch_free);
	for (guint i = 0; i < all->len; i++) {
		HvpDomainNotePatch *patch = describe_applied(g_ptr_array_index(all, i));

		if (patch != NULL)
			g_ptr_array_add(facts, patch);
	}
	return facts;
}

HvpDomainNotePatch *hvp_cli_note_describe(const HvpPatch *patch, const HvpManifest *manifest)
{
	HvpDomainNotePatch *self = hvp_domain_note_patch_new(patch->name, patch->sha256, 0);

	for (guint i = 0; manifest != NULL && manifest->cves[i] != NULL; i++)
		hvp_domain_note_patch_add_cves(self, manifest->cves[i]);
	hvp_domain_note_patch_add_cves(self, hvp_patch_modinfo(patch, "cve"));
	hvp_domain_note_patch_add_cves(self, patch->description);
	return self;
}

/* NULL where nothing was switched. */
static HvpDomainNotePatch *describe_news(const HvpPatch *patch, const HvpManifest *manifest,
					 const HvpResult *result)
{
	HvpDomainNotePatch *self;

	if (patch == NULL || result == NULL || result->kind != HVP_RESULT_APPLIED ||
	    result->attempts == 0)
		return NULL;
	self = hvp_cli_note_describe(patch, manifest);
	hvp_domain_note_patch_set_user(self);
	self->pause_usec = result->pause_usec;
	return self;
}

void hvp_cli_note_warn(const GError *reason)
{
	g_autofree char *message = hvp_cli_output_escape(reason->message);

	fflush(stdout);
	fprintf(stderr, "hvpatch: warning: the domain's metadata were not corrected: %s\n",
		message);
}

void hvp_cli_note_update(const HvpCli *cli, HvpTarget *target, const HvpPatch *patch,
			 const HvpManifest *manifest, const HvpResult *result)
{
	g_autoptr(HvpDomainNotePatch) news = describe_news(patch, manifest, result);
	g_autoptr(GPtrArray) facts = NULL;
	g_autoptr(GError) reason = NULL;
	bool written = false;
	int lock;

	if (target == NULL || cli->found_uuid == NULL)
		return;
	fflush(stdout);
	/* Read behind the lock: else somebody else's news could be overwritten by older ones. */
	lock = hvp_libvirt_metadata_lock(cli->found_uuid);
	facts = read_facts(target);
	if (facts != NULL &&
	    !hvp_libvirt_metadata_correct(cli->found_uri, cli->found_uuid, cli->found_id, facts,
					  news, TIMEOUT_USEC, &written, &reason))
		hvp_cli_note_warn(reason);
	if (written)
		g_debug("the domain's metadata were corrected");
	if (lock >= 0)
		close(lock);
}
