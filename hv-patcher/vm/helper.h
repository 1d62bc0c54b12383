/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Somebody else who does for this process what it has no privilege for: a descriptor here, a
 * number there, all of one VM. Without one, which is the rule, each room does these things itself;
 * where one is used, they ask it, and open nothing.
 *
 * The two speak over a socket pair (SOCK_SEQPACKET): a request, an answer, never two at a time.
 * Both are of one build, so messages are C structs; the helper checks every one all the same: who
 * asks may have been taken over by a guest.
 */
#pragma once

#include <stdbool.h>

#include "base/deadline.h"
#include "base/error.h"

#define HVP_HELPER_MAX_IDS 512
#define HVP_HELPER_MESSAGE_BYTES 512

typedef enum {
	/* A descriptor: */
	HVP_HELPER_MONITOR = 1, /* a new connection to the VM's monitor, for questions */
	HVP_HELPER_KEEPER,	/* the tool's end of a keeper's socket; number: HvpHelperKeeper */
	HVP_HELPER_JOURNAL,	/* the VM's journal, locked */
	HVP_HELPER_MAPS,	/* of its process, for reading: the list of its mappings, */
	HVP_HELPER_MEMORY,	/* its memory, */
	HVP_HELPER_PAGEMAP,	/* and which pages of it are there */
	HVP_HELPER_MAPPING,	/* the file of its mapping at number, for reading; none: a device */
	HVP_HELPER_AGENT,	/* a connection to the agent in the guest, */
	HVP_HELPER_ORACLE,	/* and to the plugin in QEMU */
	/* A number: */
	HVP_HELPER_START_TIME,	 /* of process number */
	HVP_HELPER_THREAD_GROUP, /* of thread number */
	HVP_HELPER_USERFAULTFD,	 /* 1: its process has one */
	HVP_HELPER_JOBS, /* another one when a job on the VM's RAM has come, gone or got on */
	/* Nothing but whether it is so: */
	HVP_HELPER_NO_JOB, /* the VM's owner does not move or copy its RAM; BUSY */
	/* Ids: */
	HVP_HELPER_VCPUS, /* of KVM */
} HvpHelperQuestion;

typedef enum {
	HVP_HELPER_KEEPER_MONITOR = 1 << 0, /* it gets the monitor's connection */
	HVP_HELPER_KEEPER_SCRATCH = 1 << 1, /* what it writes down is for nobody */
} HvpHelperKeeper;

typedef struct {
	guint32 question;
	guint32 unused;
	guint64 number;
} HvpHelperRequest;

typedef struct {
	guint32 failed; /* 1: with @code and @message */
	guint32 code;
	guint64 number;
	guint32 id_count;
	guint32 ids[HVP_HELPER_MAX_IDS];
	char message[HVP_HELPER_MESSAGE_BYTES];
} HvpHelperAnswer;

/* From now on this process asks whoever is at the other end of @fd (taken); once. */
void hvp_helper_use(int fd);

bool hvp_helper_is_used(void);

/* Whether it has ended under us: what was begun is then nothing that we know the end of. */
bool hvp_helper_is_lost(void);

/*
 * Asks, and waits for the answer. Any error, as the helper says it; INTERNAL: it is gone.
 * @ret_answer may be NULL. *@ret_fd is the caller's, -1: none came; NULL: none is wanted.
 */
bool hvp_helper_ask(HvpHelperQuestion question, guint64 number, HvpHelperAnswer *ret_answer,
		    int *ret_fd, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same for a descriptor that has to come; -1. */
int hvp_helper_open(HvpHelperQuestion question, guint64 number, GError **error);

/* The same for a number. */
bool hvp_helper_read(HvpHelperQuestion question, guint64 number, guint64 *ret_number,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* --- for the helper itself --- */

typedef enum { HVP_HELPER_GOT, HVP_HELPER_GARBAGE, HVP_HELPER_ENDED } HvpHelperReceived;

/* Waits for a request; descriptors that come with it are closed. */
HvpHelperReceived hvp_helper_receive(int fd, HvpHelperRequest *ret_request);

/* Answers, with a copy of @attached_fd (-1: none). Does not wait. False: nobody takes it. */
bool hvp_helper_answer(int fd, const HvpHelperAnswer *answer, int attached_fd);

/* The answer that @reason means. */
void hvp_helper_set_failed(HvpHelperAnswer *answer, const GError *reason);
