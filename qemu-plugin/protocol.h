/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Takes requests apart and answers them: wire/plugin-wire.h has the messages. */
#pragma once

#include "watch.h"

#define PLUGIN_PROTOCOL_MAX_PAYLOAD_BYTES \
	(HVP_PLUGIN_WIRE_MAX_RANGES * (uint32_t)sizeof(HvpPluginWireChange))
#define PLUGIN_PROTOCOL_MAX_REPLY_BYTES (64U << 10)

/*
 * Whether the @size_bytes at @bytes are a whole request: *ret_whole_bytes is its length, or 0
 * while more is to come. False: they never become one.
 */
bool plugin_protocol_measure(const uint8_t *bytes, size_t size_bytes, size_t *ret_whole_bytes);

/*
 * Answers a whole request; @ret_reply has room for PLUGIN_PROTOCOL_MAX_REPLY_BYTES. Returns the
 * reply's length.
 */
size_t plugin_protocol_answer(PluginWatch *watch, uint32_t api, const uint8_t *request,
			      size_t size_bytes, uint8_t *ret_reply);
