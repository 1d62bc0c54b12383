/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/process-maps.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vm/access.h"
#include "vm/helper.h"

static FILE *ask_for_maps(GError **error)
{
	int fd = hvp_helper_open(HVP_HELPER_MAPS, 0, error);
	FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;

	if (fd >= 0 && file == NULL) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "a stream");
		close(fd);
	}
	return file;
}

FILE *hvp_process_maps_open(pid_t pid, GError **error)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/maps", (int)pid);
	FILE *file;

	if (hvp_helper_is_used())
		return ask_for_maps(error);
	file = fopen(path, "re");
	if (file == NULL)
		hvp_access_explain(pid, errno, "reading the mappings of", error);
	return file;
}

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
