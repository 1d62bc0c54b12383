/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/process-maps.h"

#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

bool hvp_process_maps_parse(const char *line, HvpProcessMapping *ret_mapping)
{
	unsigned long long start, end, offset_bytes, inode;
	unsigned int device_major, device_minor;
	char permissions[5];
	const char *path;
	int at;

	if (sscanf(line, "%llx-%llx %4s %llx %x:%x %llu%n", &start, &end, permissions,
		   &offset_bytes, &device_major, &device_minor, &inode, &at) != 7 ||
	    strlen(permissions) != 4)
		return false;
	path = line + at + strspn(line + at, " ");
	*ret_mapping = (HvpProcessMapping){
		.start = start,
		.end = end,
		.offset_bytes = offset_bytes,
		.device = makedev(device_major, device_minor),
		.inode = inode,
		.readable = permissions[0] == 'r',
		.writable = permissions[1] == 'w',
		.executable = permissions[2] == 'x',
		.shared = permissions[3] == 's',
		.path = *path == '\n' ? "" : path,
	};
	return true;
}
