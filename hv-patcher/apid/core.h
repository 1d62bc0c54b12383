/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The core, hvpatchd, over D-Bus. It may be away, come back, hang, and say anything. */
#pragma once

#include <gio/gio.h>
#include <gio/gunixfdlist.h>

typedef struct HvpCore HvpCore;

/* Of a call: @answer of the method's type, or else @problem (HVP_PROBLEM). Both stay the caller's.
 */
typedef void (*HvpCoreDone)(GVariant *answer, const GError *problem, void *data);

/*
 * Connects to the bus at @address, and again whenever that is lost. A call fails while there is no
 * connection. An answer is waited for @timeout_seconds; that it was one call's turn only late, as
 * few are made at a time and each principal has his share of them, is part of that.
 */
HvpCore *hvp_core_new(const char *address, guint timeout_seconds);
/* Calls without an answer get none any more. */
void hvp_core_free(HvpCore *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpCore, hvp_core_free)

/*
 * Calls @method (static) with @arguments (floating; the first is the principal) and @descriptors
 * (may be NULL); the answer must be of @type (static). @done is called once, maybe before this
 * returns. UNAVAILABLE: there is no bus, or too many wait already; TIMED_OUT.
 */
void hvp_core_call(HvpCore *self, const char *method, GVariant *arguments, const char *type,
		   GUnixFDList *descriptors, HvpCoreDone done, void *data);

/* The same of its properties, for @principal: a{sv}. */
void hvp_core_get_properties(HvpCore *self, const char *principal, HvpCoreDone done, void *data);

/* @wake is called whenever there may be new events: the core says so, or has come anew. */
void hvp_core_set_wake(HvpCore *self, void (*wake)(void *data), void *data);
