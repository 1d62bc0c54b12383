/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's messages on the console of a throw-away guest, which was booted with
 * console_msg_format=syslog: "<6>[    1.234567] text". What else is on the console is passed by.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Of one rehearsal; what comes behind is only counted. */
#define HVP_MESSAGES_MAX 1000U

typedef enum {
	HVP_MESSAGE_QUIET,    /* notice, info, debug */
	HVP_MESSAGE_LOADER,   /* what the module loader says of any livepatch module */
	HVP_MESSAGE_EMULATOR, /* what kernels say of slow, emulated CPUs */
	HVP_MESSAGE_BEFORE,   /* the workload alone caused it, too */
	HVP_MESSAGE_AGAINST,  /* a warning or worse that only the patch explains */
} HvpMessageKind;

/* "quiet", "loader", ... Static. */
const char *hvp_messages_kind_name(HvpMessageKind kind);

typedef struct {
	guint level; /* 0 (emergency) to 7 (debug) */
	char *text;  /* escaped */
	HvpMessageKind kind;
} HvpMessage;

typedef struct {
	GPtrArray *messages; /* HvpMessage */
	guint dropped;	     /* beyond HVP_MESSAGES_MAX */
	guint against;	     /* how many of all are AGAINST */
	char *patch;
	char *ignored;	    /* NULL: none */
	GHashTable *before; /* char *: texts without their numbers */
} HvpMessages;

/* @patch: the module's name. */
HvpMessages *hvp_messages_new(const char *patch);
void hvp_messages_free(HvpMessages *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpMessages, hvp_messages_free)

/* From now on messages that hold @word are passed by: they are ours. */
void hvp_messages_ignore(HvpMessages *self, const char *word);

/* Learns from console text what the guest says without the patch. */
void hvp_messages_learn(HvpMessages *self, const char *text, gsize length_bytes);

/* Takes the messages of further console text, whole lines. */
void hvp_messages_add(HvpMessages *self, const char *text, gsize length_bytes);
