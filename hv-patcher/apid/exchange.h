/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One request and its answer. It lives until it is answered, which whoever was given it does once,
 * now or later.
 */
#pragma once

#include <libsoup/soup.h>

#include "apid/connection.h"
#include "apid/core.h"
#include "apid/counters.h"
#include "apid/peers.h"
#include "apid/settings.h"

#define HVP_TYPE_JSON "application/json"
#define HVP_TYPE_NDJSON "application/x-ndjson"
#define HVP_TYPE_SSE "text/event-stream"
#define HVP_TYPE_METRICS "text/plain"
#define HVP_TYPE_BYTES "application/octet-stream"

typedef struct HvpFeed HvpFeed;

/* What all requests share. */
typedef struct {
	const HvpSettings *settings;
	HvpCore *core;
	HvpFeed *feed;
	HvpPeers *uploads;
	HvpCounters counters;
} HvpApi;

typedef struct HvpExchange {
	HvpApi *api;
	SoupServerMessage *message;
	HvpConnection *connection;
	const char *principal;
	char *id;	   /* from the path; NULL: it has none */
	GHashTable *query; /* what of it was given */
	char *type;	   /* what the client wants the answer to be, of what there is */
	bool is_paused;
} HvpExchange;

/* Of the request that @message is. Owned by who answers it. */
HvpExchange *hvp_exchange_new(HvpApi *api, SoupServerMessage *message);

const HvpHead *hvp_exchange_head(const HvpExchange *self);
bool hvp_exchange_is_head(const HvpExchange *self);

/* The answer comes later. */
void hvp_exchange_pause(HvpExchange *self);

void hvp_exchange_set_header(HvpExchange *self, const char *name, const char *value);

/* Each of these answers, and ends the exchange. */
void hvp_exchange_answer(HvpExchange *self, guint status, const char *type, const char *text);
/* 204. */
void hvp_exchange_answer_nothing(HvpExchange *self, guint status);
/* 200, or 304 if the client has it: of what has an ETag. @bytes stay the caller's. */
void hvp_exchange_answer_tagged(HvpExchange *self, const char *type, GBytes *bytes);
/* With @error's problem document. */
void hvp_exchange_fail(HvpExchange *self, const GError *error);
/*
 * The head of a stream of @type, chunked. The message, which is returned with a reference, is no
 * exchange any more.
 */
SoupServerMessage *hvp_exchange_begin_stream(HvpExchange *self, const char *type);

/*
 * Whether the core's @text is JSON at all; fails the exchange if not. The core is trusted, but not
 * to be without bugs.
 */
bool hvp_exchange_check_document(HvpExchange *self, const char *text);
