/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a worker is to do, read from the daemon's JSON:
 *
 *   { "verb": "look|check|apply|revert|replace|recover|inspect",
 *     "domain": { "uri", "uuid", "name" } or { "qmp": PATH }, of all verbs but inspect
 *     "patch": SHA-256 or null,         of the attached file; of revert, of what goes
 *     "name": module name or null,      of revert
 *     "manifest": {..} or null,         see patch/manifest.h
 *     "options": { "timeout", "max_pause", "prod", "replace", "accept", "kthreads",
 *                  "backend", "trap", "agent", "oracle" } }
 *
 * Options are those of the command line, all of them optional. Other members are of no concern
 * here and are left alone, but for options: what is not known there is refused.
 */
#pragma once

#include <json-glib/json-glib.h>

#include "engine/options.h"
#include "engine/target.h"

typedef enum {
	HVP_JOB_LOOK, /* info and status */
	HVP_JOB_CHECK,
	HVP_JOB_APPLY,
	HVP_JOB_REVERT,
	HVP_JOB_REPLACE, /* apply, and all that is in force goes */
	HVP_JOB_RECOVER,
	HVP_JOB_INSPECT, /* the patch file alone: what it is */
} HvpJobVerb;

typedef struct {
	HvpJobVerb verb;
	char *qmp_path; /* NULL: a domain, or no VM at all */
	char *uri;	/* of libvirt; NULL: its default */
	char *uuid;
	char *name; /* how the VM is called in documents */
	char *sha256;
	char *patch_name;
	char *agent_path;  /* "none": use none; NULL: look for it */
	char *oracle_path; /* NULL: none */
	char **accepted;
	HvpManifest *manifest;
	HvpTargetBackend backend;
	HvpKeeperTrapKind trap_kind;
	HvpOptions options; /* what it points to belongs to the job */
} HvpJob;

/* INVALID_ARGUMENT, naming what is wrong with @node, an object. */
HvpJob *hvp_job_new(JsonNode *node, GError **error);
void hvp_job_free(HvpJob *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpJob, hvp_job_free)

/* "look", "check", ... Static. */
const char *hvp_job_verb_name(HvpJobVerb verb);

/* Whether it changes the guest, and whether it takes a patch file. */
bool hvp_job_is_changing(const HvpJob *self);
bool hvp_job_takes_patch(const HvpJob *self);
