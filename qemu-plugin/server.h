/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Serves clients on a unix socket, in a thread of its own. It waits for nobody: a client that
 * does not read its replies, or leaves a request half sent, is dropped.
 */
#pragma once

#include "protocol.h"

#define PLUGIN_SERVER_MAX_CLIENTS 8
/* A client with a request half sent, or a reply half read, has as long for the rest. */
#define PLUGIN_SERVER_STALL_MSEC 3000

/* The socket, bound to @path and open to the owner only; -1 with *ret_reason, a phrase. */
int plugin_server_listen(const char *path, const char **ret_reason);

/* Starts the thread, which serves @listener and takes it over. False with errno set. */
bool plugin_server_start(PluginWatch *watch, uint32_t api, int listener);
