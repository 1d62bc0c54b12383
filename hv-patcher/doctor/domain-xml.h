/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libvirt's XML of a domain (virDomainGetXMLDesc) tells of it. libvirt wrote that XML itself,
 * but names, descriptions and metadata in it are whatever somebody put there.
 *
 * Read by GLib's GMarkup, which hvpatch has already: it knows neither entities of its own, nor
 * DTDs, nor files and networks, and keeps no tree, so that a large document costs nothing. All
 * that is asked for are attributes of elements at fixed places.
 */
#pragma once

#include "doctor/facts.h"

/*
 * Sets in @facts what @xml tells: architecture, accelerator, encryption, debugger, memory, agent,
 * serial controller, CPU. BAD_DATA: not XML, not a domain's, or nested too deep; then some may be
 * set.
 */
bool hvp_domain_xml_parse(const char *xml, HvpFactsVm *facts,
			  GError **error) G_GNUC_WARN_UNUSED_RESULT;
