/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who calls a method, and for whom. The bus says which user a connection is of; names of
 * connections are never given twice, process numbers are, and are not asked for.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

#include "base/error.h"

typedef struct HvpCallers HvpCallers;

typedef struct {
	HvpCallers *callers; /* which count those of each user; outlive it */
	char *sender;	     /* the connection's own name */
	guint32 uid;
	char *principal;   /* for whom */
	bool is_direct;	   /* for himself */
	bool is_api;	   /* of the user who may call for others */
	bool may_interact; /* waits for somebody who types a password */
} HvpCaller;

/* @api_uid: who may speak for others; G_MAXUINT32: nobody. @connection is referenced. */
HvpCallers *hvp_callers_new(GDBusConnection *connection, guint32 api_uid);
/* From now on. */
void hvp_callers_set_api_uid(HvpCallers *self, guint32 api_uid);
void hvp_callers_free(HvpCallers *self);

/*
 * @caller NULL: @error says why, FORBIDDEN, UNAUTHENTICATED or TOO_MANY. Else it is the callee's.
 * May be called from within hvp_callers_identify.
 */
typedef void (*HvpCallersAnswer)(HvpCaller *caller, const GError *error, gpointer data);

/* Who @sender is, who says that he calls for @principal ("": himself). */
void hvp_callers_identify(HvpCallers *self, const char *sender, const char *principal,
			  HvpCallersAnswer answer, gpointer data);

void hvp_callers_free_caller(HvpCaller *caller);
