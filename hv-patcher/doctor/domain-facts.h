/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libvirt knows of itself and of a domain: its XML, its state, its job. Sends no monitor
 * command, so that the domain is not tainted, and starts no daemon of a user's own.
 */
#pragma once

#include "doctor/facts.h"

/*
 * Connects to @uri (NULL: the default) and looks at @which (name, UUID, number; NULL: at libvirt
 * alone; @vm may then be NULL). What fails is told in the facts: libvirt_error, reach_error.
 */
void hvp_domain_facts_gather(const char *uri, const char *which, HvpFactsHost *host,
			     HvpFactsVm *vm);
