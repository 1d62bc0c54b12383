/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "protocol.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(HvpPluginWireHeader) + sizeof(HvpPluginWireViolations) +
			       PLUGIN_WATCH_MAX_VIOLATIONS * sizeof(HvpPluginWireViolation) <=
		       PLUGIN_PROTOCOL_MAX_REPLY_BYTES,
	       "the violations fit into a reply");
_Static_assert(sizeof(HvpPluginWireHeader) +
			       HVP_PLUGIN_WIRE_MAX_ANSWERS * sizeof(HvpPluginWireCount) <=
		       PLUGIN_PROTOCOL_MAX_REPLY_BYTES,
	       "the counts fit into a reply");

typedef struct {
	PluginWatch *watch;
	uint32_t api;
	const uint8_t *payload;
	uint32_t length_bytes;
	uint8_t *reply; /* its payload */
	size_t reply_bytes;
} Request;

bool plugin_protocol_measure(const uint8_t *bytes, size_t size_bytes, size_t *ret_whole_bytes)
{
	HvpPluginWireHeader header;

	*ret_whole_bytes = 0;
	if (size_bytes < sizeof header)
		return true;
	memcpy(&header, bytes, sizeof header);
	if (header.magic != HVP_PLUGIN_WIRE_MAGIC ||
	    header.length_bytes > PLUGIN_PROTOCOL_MAX_PAYLOAD_BYTES)
		return false;
	if (size_bytes - sizeof header >= header.length_bytes)
		*ret_whole_bytes = sizeof header + header.length_bytes;
	return true;
}

/* Whether the payload is a number of items of this size; *ret_count is how many. */
static bool count_items(const Request *request, size_t item_bytes, uint32_t *ret_count)
{
	*ret_count = request->length_bytes / (uint32_t)item_bytes;
	return request->length_bytes % item_bytes == 0 && *ret_count <= HVP_PLUGIN_WIRE_MAX_RANGES;
}

static bool take(const Request *request, void *ret_payload, size_t size_bytes)
{
	if (request->length_bytes != size_bytes)
		return false;
	memcpy(ret_payload, request->payload, size_bytes);
	return true;
}

static HvpPluginWireStatus put_state(Request *request)
{
	HvpPluginWireState state = { .protocol = HVP_PLUGIN_WIRE_PROTOCOL, .api = request->api };

	plugin_watch_read_state(request->watch, &state);
	memcpy(request->reply, &state, sizeof state);
	request->reply_bytes = sizeof state;
	return HVP_PLUGIN_WIRE_OK;
}

static HvpPluginWireStatus on_hello(Request *request)
{
	HvpPluginWireHello hello;

	return take(request, &hello, sizeof hello) && hello.protocol == HVP_PLUGIN_WIRE_PROTOCOL
		       ? put_state(request)
		       : HVP_PLUGIN_WIRE_BAD_REQUEST;
}

/* An aligned copy of the items, or NULL; to be freed. */
static void *copy_items(const Request *request)
{
	void *items = malloc(request->length_bytes + 1);

	if (items != NULL)
		memcpy(items, request->payload, request->length_bytes);
	return items;
}

static HvpPluginWireStatus on_ranges(Request *request, uint16_t type)
{
	HvpPluginWireStatus status = HVP_PLUGIN_WIRE_OK;
	HvpPluginWireRange *ranges;
	uint32_t count;

	if (!count_items(request, sizeof *ranges, &count))
		return HVP_PLUGIN_WIRE_BAD_REQUEST;
	ranges = copy_items(request);
	if (ranges == NULL)
		return HVP_PLUGIN_WIRE_NO_ROOM;
	if (type == HVP_PLUGIN_WIRE_WATCH)
		status = plugin_watch_add(request->watch, ranges, count);
	else
		plugin_watch_withdraw(request->watch, ranges, count);
	free(ranges);
	return status == HVP_PLUGIN_WIRE_OK ? put_state(request) : status;
}

static HvpPluginWireStatus on_switch(Request *request)
{
	HvpPluginWireChange *changes;
	HvpPluginWireStatus status;
	uint32_t count;

	if (!count_items(request, sizeof *changes, &count))
		return HVP_PLUGIN_WIRE_BAD_REQUEST;
	changes = copy_items(request);
	if (changes == NULL)
		return HVP_PLUGIN_WIRE_NO_ROOM;
	status = plugin_watch_switch(request->watch, changes, count);
	free(changes);
	return status == HVP_PLUGIN_WIRE_OK ? put_state(request) : status;
}

static HvpPluginWireStatus on_decide(Request *request)
{
	HvpPluginWireDecision decision;

	if (!take(request, &decision, sizeof decision) || decision.confirmed > 1)
		return HVP_PLUGIN_WIRE_BAD_REQUEST;
	plugin_watch_decide(request->watch,
			    decision.confirmed ? PLUGIN_WATCH_CONFIRMED : PLUGIN_WATCH_CANCELLED);
	return put_state(request);
}

static HvpPluginWireStatus on_forget(Request *request)
{
	if (request->length_bytes != 0)
		return HVP_PLUGIN_WIRE_BAD_REQUEST;
	plugin_watch_forget(request->watch);
	return put_state(request);
}

static HvpPluginWireStatus on_boot(Request *request)
{
	HvpPluginWireBoot boot;

	if (!take(request, &boot, sizeof boot))
		return HVP_PLUGIN_WIRE_BAD_REQUEST;
	plugin_watch_enter_boot(request->watch, boot.boot);
	return put_state(request);
}

static HvpPluginWireStatus on_counts(Request *request)
{
	HvpPluginWireCount counts[HVP_PLUGIN_WIRE_MAX_ANSWERS];
	HvpPluginWireQuery query;

	if (!take(request, &query, sizeof query))
		return HVP_PLUGIN_WIRE_BAD_REQUEST;
	request->reply_bytes = plugin_watch_read_counts(request->watch, &query, counts) *
			       sizeof *counts;
	memcpy(request->reply, counts, request->reply_bytes);
	return HVP_PLUGIN_WIRE_OK;
}

static HvpPluginWireStatus on_violations(Request *request)
{
	HvpPluginWireViolation violations[PLUGIN_WATCH_MAX_VIOLATIONS];
	HvpPluginWireViolations head;
	HvpPluginWireQuery query;
	size_t bytes;

	if (!take(request, &query, sizeof query))
		return HVP_PLUGIN_WIRE_BAD_REQUEST;
	bytes = plugin_watch_read_violations(request->watch, query.from, &head, violations) *
		sizeof *violations;
	memcpy(request->reply, &head, sizeof head);
	memcpy(request->reply + sizeof head, violations, bytes);
	request->reply_bytes = sizeof head + bytes;
	return HVP_PLUGIN_WIRE_OK;
}

static HvpPluginWireStatus dispatch(Request *request, const HvpPluginWireHeader *header)
{
	if (header->status != 0)
		return HVP_PLUGIN_WIRE_BAD_REQUEST;
	switch (header->type) {
	case HVP_PLUGIN_WIRE_HELLO:
		return on_hello(request);
	case HVP_PLUGIN_WIRE_WATCH:
	case HVP_PLUGIN_WIRE_WITHDRAW:
		return on_ranges(request, header->type);
	case HVP_PLUGIN_WIRE_SWITCH:
		return on_switch(request);
	case HVP_PLUGIN_WIRE_DECIDE:
		return on_decide(request);
	case HVP_PLUGIN_WIRE_FORGET:
		return on_forget(request);
	case HVP_PLUGIN_WIRE_COUNTS:
		return on_counts(request);
	case HVP_PLUGIN_WIRE_VIOLATIONS:
		return on_violations(request);
	case HVP_PLUGIN_WIRE_BOOT:
		return on_boot(request);
	default:
		return HVP_PLUGIN_WIRE_BAD_REQUEST;
	}
}

size_t plugin_protocol_answer(PluginWatch *watch, uint32_t api, const uint8_t *request,
			      size_t size_bytes, uint8_t *ret_reply)
{
	HvpPluginWireHeader header;
	Request parsed = { .watch = watch,
			   .api = api,
			   .payload = request + sizeof header,
			   .length_bytes = (uint32_t)(size_bytes - sizeof header),
			   .reply = ret_reply + sizeof header };

	memcpy(&header, request, sizeof header);
	header.status = (uint16_t)dispatch(&parsed, &header);
	header.type |= HVP_PLUGIN_WIRE_REPLY;
	header.length_bytes = (uint32_t)parsed.reply_bytes;
	memcpy(ret_reply, &header, sizeof header);
	return sizeof header + parsed.reply_bytes;
}
