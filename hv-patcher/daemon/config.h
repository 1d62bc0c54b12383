/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one file that says what the daemon does and for whom: hvpatchd.conf, in GKeyFile's format;
 * docs/hvpatchd.conf describes every key. Strict: what is not known is refused, so that a
 * mistyped rule does not silently allow or forbid something.
 */
#pragma once

#include "base/error.h"
#include "daemon/roles.h"

#define HVP_CONFIG_DEFAULT_PATH "/etc/hvpatch/hvpatchd.conf"

/* Whose signatures are good. One of minisign and certificate is set. */
typedef struct {
	char *name;
	char *place;	       /* FILE:LINE, to tell what is wrong with it */
	char *minisign;	       /* the public key, in minisign's base64 */
	char *certificate;     /* path of an X.509 certificate in PEM */
	gint64 not_after_usec; /* G_MAXINT64: for ever */
} HvpConfigKey;

typedef struct {
	char *state_folder;
	char *uri; /* NULL: libvirt's default */
	guint workers;
	guint max_stopped;
	double max_pause_msec;
	guint max_timeout_seconds;
	bool unsigned_allowed;
	bool downgrade_allowed;
	guint drain_seconds;
	char *api_user;	      /* NULL: nobody speaks for others */
	char *api_user_place; /* FILE:LINE; set where api_user is */
	GPtrArray *keys;  /* HvpConfigKey */
	GPtrArray *roles; /* HvpRole */
} HvpConfig;

/* What holds where there is no file. */
HvpConfig *hvp_config_new(void);

/*
 * Reads @path. NOT_FOUND, PERMISSION, FAULT: it cannot be read. INVALID_ARGUMENT, naming line,
 * group and key: something in it is not known or out of range.
 */
HvpConfig *hvp_config_read(const char *path, GError **error);

/*
 * Makes of @self what @other (taken) is, but for the state's folder and libvirt's connection, which
 * stay for as long as the daemon runs. What was borrowed of its roles and keys goes.
 */
void hvp_config_take_over(HvpConfig *self, HvpConfig *other);

void hvp_config_free(HvpConfig *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpConfig, hvp_config_free)
