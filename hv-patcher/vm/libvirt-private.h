/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For vm/libvirt*.c alone, which are the only ones that know libvirt's types. */
#pragma once

#include <libvirt/libvirt.h>

#include "vm/libvirt.h"

struct HvpLibvirt {
	virConnectPtr connection;
	char *uri;
};

struct HvpLibvirtDomain {
	virDomainPtr domain;
	char *name;
	char uuid[VIR_UUID_STRING_BUFLEN];
	int id;
};

/* As hvp_libvirt_set_error, behind the domain's name. */
bool hvp_libvirt_set_domain_error(const HvpLibvirtDomain *self, GError **error);
