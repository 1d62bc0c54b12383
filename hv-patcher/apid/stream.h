/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the HTTP library reads and writes for one request: a GIOStream, pollable both ways, whose
 * ends are functions of whoever made it. The library never gets hold of a socket.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

typedef struct {
	/* As of a pollable stream: never block; G_IO_ERROR_WOULD_BLOCK. */
	gssize (*read)(void *data, void *buffer, gsize count, GError **error);
	gssize (*write)(void *data, const void *buffer, gsize count, GError **error);
	bool (*is_readable)(void *data);
	bool (*is_writable)(void *data);
	/* Ready when that is so; owned by the caller, with no callback yet. */
	GSource *(*read_source)(void *data);
	GSource *(*write_source)(void *data);
	/* Called once, when the stream is closed or, if it never is, goes. */
	void (*close)(void *data);
} HvpStreamEnds;

#define HVP_TYPE_STREAM (hvp_stream_get_type())
G_DECLARE_FINAL_TYPE(HvpStream, hvp_stream, HVP, STREAM, GIOStream)

/* @ends is static; @data must live until its close() was called. */
HvpStream *hvp_stream_new(const HvpStreamEnds *ends, void *data);
