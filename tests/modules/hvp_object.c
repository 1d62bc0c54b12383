// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Patches a function of a loadable module: loop, whether it is there or not.
 * Seen in /sys/block/loop0/loop/offset once loop0 has a file.
 */
#include "hvp_patch.h"

#include <linux/device.h>
#include <linux/sysfs.h>

static ssize_t hvp_loop_offset_show(struct device *device, struct device_attribute *attribute,
				    char *buffer)
{
	return sysfs_emit(buffer, "hvpatch in a module\n");
}

static struct klp_func funcs[] = {
	{ .old_name = "loop_attr_do_show_offset", .new_func = hvp_loop_offset_show },
	{ }
};

static struct klp_object objects[] = {
	{ .name = "loop", .funcs = funcs },
	{ }
};

HVP_PATCH(objects);
