// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A static function, only called directly: the compiler gives it no ENDBR, its
 * first bytes are the fentry slot. /proc/tty/drivers.
 */
#include "hvp_patch.h"

#include <linux/seq_file.h>
#include <linux/tty_driver.h>

static void hvp_show_tty_range(struct seq_file *m, struct tty_driver *driver, dev_t from, int count)
{
	seq_printf(m, "hvpatch saw %d of %s\n", count, driver->name);
}

static struct klp_func funcs[] = {
	{ .old_name = "show_tty_range", .new_func = hvp_show_tty_range },
	{ }
};

HVP_PATCH_VMLINUX(funcs);
