/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which request goes where, and what it must look like to go there. */
#pragma once

#include "apid/exchange.h"

/* HvpAdmit: NOT_FOUND, METHOD_NOT_ALLOWED, and all else that a head alone can be refused for. */
bool hvp_routes_admit(const HvpConnection *connection, guint64 *ret_max_body_bytes, GError **error);

/* The methods of @path, as for the header Allow; owned by the caller. */
char *hvp_routes_allowed(const char *path);

/* Whether the body of @head's request is a patch, to be kept in a file and not in memory. */
bool hvp_routes_is_upload(const HvpHead *head);

/* Has a request that was admitted answered. Takes @exchange. */
void hvp_routes_dispatch(HvpExchange *exchange);

/* Before that: of how large a patch may be. */
void hvp_routes_set_max_patch(guint64 bytes);
