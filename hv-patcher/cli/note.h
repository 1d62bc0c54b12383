/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keeps what libvirt's metadata say of a domain in step with the guest. */
#pragma once

#include "cli/cli.h"
#include "engine/result.h"
#include "patch/manifest.h"
#include "patch/patch.h"
#include "vm/domain-note.h"

/*
 * Reads what is applied in @target and corrects the metadata of the domain that hvp_cli_open found
 * for it; nothing where it found none, or @target is NULL. @patch (NULL: none) with its @manifest
 * is what this command works on and @result what came of it. Shown results come first: this may
 * wait for libvirt, 10 s at most. That it fails is a warning on stderr and nothing else.
 */
void hvp_cli_note_update(const HvpCli *cli, HvpTarget *target, const HvpPatch *patch,
			 const HvpManifest *manifest, const HvpResult *result);

/* Says that the metadata are not what they should be. */
void hvp_cli_note_warn(const GError *reason);

/* What is known of @patch but for when and by whom; the caller's. */
HvpDomainNotePatch *hvp_cli_note_describe(const HvpPatch *patch, const HvpManifest *manifest);
