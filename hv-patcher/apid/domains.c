/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "apid/forward.h"
#include "apid/handlers.h"

void hvp_domains_list(HvpExchange *exchange)
{
	hvp_forward_list(exchange, "ListDomains");
}

void hvp_domains_get(HvpExchange *exchange)
{
	hvp_forward_get(exchange, "GetDomain");
}

void hvp_domains_refresh(HvpExchange *exchange)
{
	hvp_forward_begin(exchange, "RefreshDomain");
}
