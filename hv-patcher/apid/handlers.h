/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is behind each route. All take the exchange and answer it. */
#pragma once

#include "apid/exchange.h"

/* domains.c */
void hvp_domains_list(HvpExchange *exchange);
void hvp_domains_get(HvpExchange *exchange);
void hvp_domains_refresh(HvpExchange *exchange);

/* operations.c */
void hvp_operations_list(HvpExchange *exchange);
void hvp_operations_list_of_domain(HvpExchange *exchange);
void hvp_operations_start(HvpExchange *exchange);
void hvp_operations_get(HvpExchange *exchange);
void hvp_operations_cancel(HvpExchange *exchange);

/* patches.c */
void hvp_patches_list(HvpExchange *exchange);
void hvp_patches_get(HvpExchange *exchange);
void hvp_patches_upload(HvpExchange *exchange);
void hvp_patches_delete(HvpExchange *exchange);
/* Has the upload at hand go on if its principal may upload. */
void hvp_patches_admit(HvpApi *api, HvpConnection *connection);
/* An upload's head is there: its body is to go into a file. */
void hvp_patches_expect(HvpApi *api, SoupServerMessage *message);

/* feed.c */
void hvp_feed_read(HvpExchange *exchange);

/* service.c */
void hvp_service_health(HvpExchange *exchange);
void hvp_service_openapi(HvpExchange *exchange);
void hvp_service_metrics(HvpExchange *exchange);
void hvp_service_page(HvpExchange *exchange);
