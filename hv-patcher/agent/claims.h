/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the agent says of kernel threads, read strictly: a message that is not as
 * docs/guest-agent.md has it is as good as none. Words of the guest, not facts.
 */
#pragma once

#include "agent/agent.h"

#define HVP_CLAIMS_MAX 32768U
#define HVP_CLAIM_NAME_BYTES 64U
#define HVP_CLAIM_BOOT_ID_BYTES 36U

typedef enum {
	HVP_CLAIM_PARKED,
	HVP_CLAIM_FROZEN,
	HVP_CLAIM_IDLE_WORKER,
	HVP_CLAIM_BUSY_WORKER,
	HVP_CLAIM_RUNNING,
	HVP_CLAIM_SLEEPING,
	HVP_CLAIM_UNINTERRUPTIBLE,
	HVP_CLAIM_GONE, /* the thread has ended; all else is of before, or empty */
} HvpClaimState;

/* "parked", "idle-worker", ... as in the protocol; "gone". Static. */
const char *hvp_claims_state_name(HvpClaimState state);

typedef struct {
	gint32 pid;
	HvpClaimState state;
	guint64 voluntary, involuntary;
	char comm[HVP_CLAIM_NAME_BYTES + 1];  /* escaped */
	char wchan[HVP_CLAIM_NAME_BYTES + 1]; /* escaped; "" where it is not told */
	char cpus[HVP_CLAIM_NAME_BYTES + 1];  /* a list, escaped; "" where not told, or longer */
	bool per_cpu;
} HvpClaim;

typedef struct HvpClaims HvpClaims;

HvpClaims *hvp_claims_new(void);
void hvp_claims_free(HvpClaims *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpClaims, hvp_claims_free)

/* The last claim on @pid; NULL. */
const HvpClaim *hvp_claims_find(const HvpClaims *self, gint32 pid);

guint hvp_claims_count(const HvpClaims *self);

/* The boot that all of them are of; "" before the first. */
const char *hvp_claims_get_boot_id(const HvpClaims *self);

/*
 * Adds what @data, an answer or an event, says; newer words replace older. BAD_DATA: it is not
 * well formed, of another boot than before, or too much; nothing of it is then taken.
 */
bool hvp_claims_add(HvpClaims *self, JsonNode *data, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Asks for @count threads from @start on: one answer's worth. Errors of the agent's too. */
bool hvp_claims_ask(HvpClaims *self, HvpAgent *agent, gint32 start, guint count,
		    HvpDeadline deadline, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Asks for all threads, page by page. */
bool hvp_claims_ask_all(HvpClaims *self, HvpAgent *agent, HvpDeadline deadline,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;
