/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ram-jobs URI DOMAIN: what libvirt tells of jobs that move or copy its RAM. Run by tests/vm. */
#include <stdio.h>

#include "vm/libvirt.h"

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpLibvirt) libvirt = argc == 3 ? hvp_libvirt_connect(argv[1], &error) : NULL;
	g_autoptr(HvpLibvirtDomain) domain = libvirt ? hvp_libvirt_find(libvirt, argv[2], &error)
						     : NULL;
	g_autofree char *text = domain ? hvp_libvirt_domain_describe_jobs(domain, &error) : NULL;

	if (text == NULL)
		fprintf(stderr, "ram-jobs: %s\n", error ? error->message : "URI DOMAIN");
	else
		printf("%s\n", text);
	return text == NULL;
}
