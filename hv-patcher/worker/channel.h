/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a worker and the daemon that started it say to each other: JSON objects, a message each, on
 * a socket that keeps messages apart (SOCK_SEQPACKET).
 *
 *   daemon: job, once, with the patch's descriptor attached where the verb takes one;
 *           {"cancel":true}
 *   worker: {"progress":{"state","step","attempt","blockers","cancellable"}}*
 *           {"result":{..}|null,"attached":false,"exit":N,"error":null|{"code","message"}}
 *
 * A worker that ends without a result, by a signal or by itself, has left it to be found out what
 * is in the guest: the verb recover finishes that, look tells.
 *
 * A result too long for a message is attached instead, as a descriptor of a sealed memory file
 * ("attached":true, "result":null). The worker ends after its result. The daemon that does not
 * read misses progress, and is waited for for the result only for some seconds.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "base/deadline.h"
#include "base/error.h"

#define HVP_CHANNEL_MAX_BYTES (128U << 10)

typedef struct HvpChannel HvpChannel;

/* Takes @fd. Makes the memory file of a long result, which a sandbox forbids. Never NULL. */
HvpChannel *hvp_channel_new(int fd);
void hvp_channel_free(HvpChannel *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpChannel, hvp_channel_free)

/* Its socket, borrowed. */
int hvp_channel_get_fd(const HvpChannel *self);

/* That memory file, borrowed; -1: there is none, and a long result cannot be sent. */
int hvp_channel_get_attachment_fd(const HvpChannel *self);

/*
 * Waits for the job: an object, the caller's; *@ret_patch_fd is the caller's as well, -1: none.
 * BAD_DATA: it is none, or too long. TIMED_OUT. VM_GONE: the other end is gone.
 */
JsonNode *hvp_channel_receive_job(HvpChannel *self, HvpDeadline deadline, int *ret_patch_fd,
				  GError **error);

/* Whether the daemon has said so by now, or is gone. Does not wait. */
bool hvp_channel_is_cancelled(HvpChannel *self);

typedef struct {
	const char *state;
	const char *step; /* a phrase, perhaps with a guest's words in it */
	guint attempt;
	guint blockers;
	bool cancellable;
} HvpChannelProgress;

/* Does not wait: is lost where the daemon does not read. */
void hvp_channel_send_progress(HvpChannel *self, const HvpChannelProgress *progress);

/*
 * The end. @result (borrowed) may be NULL; @failure is NULL where all went well. False: the
 * daemon has not got it.
 */
bool hvp_channel_send_result(HvpChannel *self, JsonNode *result, int exit_status,
			     const GError *failure);
