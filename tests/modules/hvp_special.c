// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * New code with every special section that the module loader handles: a WARN
 * (__bug_table), a static key (__jump_table), user copies in line (__ex_table,
 * .altinstructions), an indirect call (.retpoline_sites), a locked instruction
 * (.smp_locks), per-CPU data.
 *
 * Replaces comm_write: what is written to /proc/PID/comm becomes the *writer's*
 * name, upside down in case while the static key is on. Reserved words:
 *
 *   warn      WARNs, and must not kill
 *   key-on    turns the static key on
 *   key-off   turns it off
 *
 * A buffer that cannot be read gives EFAULT, its first byte (a user access in
 * this module's text) as well as a later one (copy_from_user).
 * /sys/module/hvp_special/parameters/{calls,warnings} count.
 */
#include "hvp_patch.h"

#include <linux/ctype.h>
#include <linux/fs.h>
#include <linux/jump_label.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/string.h>
#include <linux/uaccess.h>

static DEFINE_STATIC_KEY_FALSE(swap_case);
static DEFINE_PER_CPU(unsigned int, calls_here);
static atomic_t warnings = ATOMIC_INIT(0);

static noinline void on_warn(void)
{
	atomic_inc(&warnings);
	WARN(1, KBUILD_MODNAME ": asked to warn\n");
}

static noinline void on_key_on(void)
{
	static_branch_enable(&swap_case);
}

static noinline void on_key_off(void)
{
	static_branch_disable(&swap_case);
}

static const struct {
	const char *word;
	void (*act)(void);
} reserved[] = {
	{ "warn", on_warn },
	{ "key-on", on_key_on },
	{ "key-off", on_key_off },
};

static bool act_on(const char *text)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(reserved); i++) {
		if (!strcmp(text, reserved[i].word)) {
			reserved[i].act();
			return true;
		}
	}
	return false;
}

static int read_first_byte(const char __user *buf, char *ret_byte)
{
	if (!user_read_access_begin(buf, 1))
		return -EFAULT;
	unsafe_get_user(*ret_byte, buf, unreadable);
	user_read_access_end();
	return 0;

unreadable:
	user_read_access_end();
	return -EFAULT;
}

static void rename_current(char *text)
{
	char *next;

	if (static_branch_unlikely(&swap_case)) {
		for (next = text; *next; next++)
			*next = isupper(*next) ? tolower(*next) : toupper(*next);
	}
	task_lock(current);
	strscpy_pad(current->comm, text, sizeof(current->comm));
	task_unlock(current);
}

static ssize_t hvp_comm_write(struct file *file, const char __user *buf, size_t count,
			      loff_t *offset)
{
	char text[TASK_COMM_LEN] = {};
	char first;

	this_cpu_inc(calls_here);
	if (read_first_byte(buf, &first))
		return -EFAULT;
	if (copy_from_user(text, buf, min(count, sizeof(text) - 1)))
		return -EFAULT;
	if (text[0] != first)
		return -EINVAL;
	strreplace(text, '\n', '\0');
	if (!act_on(text))
		rename_current(text);
	return count;
}

static int get_calls(char *buffer, const struct kernel_param *param)
{
	unsigned int sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(calls_here, cpu);
	return sysfs_emit(buffer, "%u\n", sum);
}

static int get_warnings(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%d\n", atomic_read(&warnings));
}

static const struct kernel_param_ops calls_ops = { .get = get_calls };
static const struct kernel_param_ops warnings_ops = { .get = get_warnings };
module_param_cb(calls, &calls_ops, NULL, 0444);
module_param_cb(warnings, &warnings_ops, NULL, 0444);

static struct klp_func funcs[] = {
	{ .old_name = "comm_write", .new_func = hvp_comm_write },
	{ }
};

HVP_PATCH_VMLINUX(funcs);
