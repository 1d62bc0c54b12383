/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/apply.h"

#include <string.h>

#include "cli/note.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/remote-show.h"
#include "cli/result.h"

static bool set_kthreads(HvpManifest *manifest, const char *kthreads, GError **error)
{
	if (kthreads == NULL || hvp_manifest_set_kthreads(manifest, kthreads, error))
		return true;
	g_prefix_error(error, "--kthreads: ");
	return false;
}

/* A mistyped option is told before any file is looked at. */
static bool check_kthreads(const char *kthreads, GError **error)
{
	g_autoptr(HvpManifest) empty = hvp_manifest_parse("{}", strlen("{}"), "--kthreads", error);

	return empty != NULL && set_kthreads(empty, kthreads, error);
}

static bool parse(HvpCli *cli, char **arguments, HvpCliLimits *limits, HvpOptions *options,
		  char **ret_kthreads, char **ret_path, GError **error)
{
	gboolean replace = FALSE, no_replace = FALSE;
	GOptionEntry entries[] = {
		{ "timeout", 0, 0, G_OPTION_ARG_STRING, &limits->timeout,
		  "give up when tasks stay in the way (30)", "SECONDS" },
		{ "max-pause", 0, 0, G_OPTION_ARG_STRING, &limits->max_pause,
		  "never stop the VM for longer to switch (10)", "MS" },
		{ "accept", 0, 0, G_OPTION_ARG_STRING_ARRAY, &limits->accepted,
		  "go on though this item of check fails", "ITEM" },
		{ "no-prod", 0, 0, G_OPTION_ARG_NONE, &limits->no_prod,
		  "leave sleeping tasks that are in the way alone", NULL },
		{ "replace", 0, 0, G_OPTION_ARG_NONE, &replace,
		  "replace all patches in force, whatever the patch says", NULL },
		{ "no-replace", 0, 0, G_OPTION_ARG_NONE, &no_replace,
		  "leave them in force, whatever the patch says", NULL },
		{ "kthreads", 0, 0, G_OPTION_ARG_STRING, ret_kthreads,
		  "any, refuse, parked or parked=PATTERN,... at the switch", "POLICY" },
		{ NULL },
	};

	return hvp_cli_options_parse(cli, arguments, entries, ret_path, error) &&
	       hvp_cli_options_read_replace(replace, no_replace, &options->replace, error) &&
	       check_kthreads(*ret_kthreads, error);
}

/* What the patch's author asks for, unless the operator asks for something else. */
static HvpManifest *open_manifest(const HvpPatch *patch, const char *path, const char *kthreads,
				  GError **error)
{
	g_autoptr(HvpManifest) manifest = hvp_manifest_open(patch, path, error);

	return manifest && set_kthreads(manifest, kthreads, error) &&
			       hvp_manifest_check(manifest, error)
		       ? g_steal_pointer(&manifest)
		       : NULL;
}

static HvpResult *run(HvpCli *cli, const HvpPatch *patch, const HvpOptions *options,
		      HvpTarget **ret_target, GError **error)
{
	*ret_target = hvp_cli_open(cli, error);
	if (*ret_target == NULL)
		return NULL;
	hvp_cli_find_agent(cli, *ret_target);
	return hvp_apply(*ret_target, patch, options, error);
}

bool hvp_cli_apply(HvpCli *cli, char **arguments, GError **error)
{
	HvpCliProgress progress = hvp_cli_progress_begin();
	HvpOptions options = { .progress = hvp_cli_progress_show, .progress_data = &progress };
	g_auto(HvpCliLimits) limits = { 0 };
	g_autofree char *path = NULL, *kthreads = NULL;
	g_autoptr(HvpManifest) manifest = NULL;
	g_autoptr(HvpPatch) patch = NULL;
	g_autoptr(HvpTarget) target = NULL;
	g_autoptr(HvpResult) result = NULL;
	g_autoptr(GError) reason = NULL;

	if (!parse(cli, arguments, &limits, &options, &kthreads, &path, error) ||
	    !hvp_cli_limits_read(&limits, &options, error))
		return false;
	patch = hvp_patch_open(path, &reason);
	manifest = patch ? open_manifest(patch, path, kthreads, &reason) : NULL;
	options.manifest = manifest;
	if (manifest != NULL &&
	    hvp_remote_show_run(cli, &(HvpRemoteRequest){ .verb = "apply",
							  .patch = patch,
							  .path = path,
							  .options = &options,
							  .has_limits = true,
							  .kthreads = kthreads,
							  .progress = &progress }))
		return true;
	if (manifest != NULL)
		result = run(cli, patch, &options, &target, &reason);
	hvp_cli_progress_end(&progress);
	hvp_cli_result_show(cli, "apply", target, result, reason);
	hvp_cli_note_update(cli, target, patch, manifest, result);
	return true;
}
