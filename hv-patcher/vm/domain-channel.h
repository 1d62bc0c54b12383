/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The channels of a domain of libvirt to programs in its guest, as its XML has them:
 *
 *   <devices><channel type='unix'>
 *     <source mode='bind' path='/run/.../org.hvpatch.agent.0'/>
 *     <target type='virtio' name='org.hvpatch.agent.0' state='connected'/>
 *   </channel>
 *
 * Source: libvirt's "Domain XML format", Channel.
 */
#pragma once

#include <glib.h>

/*
 * The unix socket of the host behind the virtio port @name of the domain whose XML is @xml; the
 * caller's. NULL: it has none, or @xml is no XML.
 */
char *hvp_domain_channel_find(const char *xml, const char *name);
