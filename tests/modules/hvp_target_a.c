// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * An ordinary module whose functions are there to be replaced.
 *
 *   /proc/hvp_generation   what one call of hvp_generation_read() sees: the
 *                          generations of hvp_generation_read, lcm, lcm_not_zero,
 *                          hvp_a_one, hvp_a_two, hvp_b_one, hvp_b_two (-1: not
 *                          loaded), then unsteady and lost, see hvp_generation.h
 *   /proc/hvp_sleep        a read sleeps in hvp_a_sleep() until somebody writes,
 *                          and then tells its generation
 *
 * Readers only share the lock, so that several CPUs can be inside at once.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/lcm.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/rwsem.h>
#include <linux/seq_file.h>

#include "hvp_generation.h"

static HVP_TARGET int hvp_a_one(unsigned int *calls)
{
	*calls += 1;
	return 0;
}

static HVP_TARGET int hvp_a_two(unsigned int *calls)
{
	*calls += 1;
	return 0;
}

/* Nobody calls it but a livepatch, which finds it by its name (hvp_klp_build). */
static __used HVP_TARGET int hvp_a_secret(void)
{
	return 70;
}

static HVP_TARGET int hvp_a_sleep(struct hvp_sleep *sleep)
{
	return hvp_sleep_until_woken(sleep, 0);
}

static HVP_TARGET void hvp_generation_read(const struct hvp_generation_calls *calls,
					   struct hvp_generation *result)
{
	hvp_generation_fill(calls, 0, result);
}

static DECLARE_RWSEM(lock);
static struct hvp_generation_calls calls = {
	.lcm = lcm,
	.not_zero = lcm_not_zero,
	.a_one = hvp_a_one,
	.a_two = hvp_a_two,
};
static struct hvp_sleep sleep = {
	.queue = __WAIT_QUEUE_HEAD_INITIALIZER(sleep.queue),
};

void hvp_generation_join(hvp_generation_function *one, hvp_generation_function *two)
{
	down_write(&lock);
	calls.b_one = one;
	calls.b_two = two;
	up_write(&lock);
}
EXPORT_SYMBOL_GPL(hvp_generation_join);

void hvp_generation_leave(void)
{
	hvp_generation_join(NULL, NULL);
}
EXPORT_SYMBOL_GPL(hvp_generation_leave);

static int generation_show(struct seq_file *m, void *v)
{
	struct hvp_generation result;
	int i;

	down_read(&lock);
	hvp_generation_read(&calls, &result);
	up_read(&lock);
	for (i = 0; i < HVP_GENERATION_COUNT; i++)
		seq_printf(m, "%d ", result.values[i]);
	seq_printf(m, "%u %u\n", result.unsteady, result.lost);
	return 0;
}

static int sleep_show(struct seq_file *m, void *v)
{
	int generation = hvp_a_sleep(&sleep);

	if (generation < 0)
		return generation;
	seq_printf(m, "%d\n", generation);
	return 0;
}

static int sleep_open(struct inode *inode, struct file *file)
{
	return single_open(file, sleep_show, NULL);
}

static ssize_t sleep_write(struct file *file, const char __user *buf, size_t count, loff_t *offset)
{
	WRITE_ONCE(sleep.wakes, sleep.wakes + 1);
	wake_up_all(&sleep.queue);
	return count;
}

static const struct proc_ops sleep_ops = {
	.proc_open = sleep_open,
	.proc_read = seq_read,
	.proc_write = sleep_write,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
};

static int __init hvp_init(void)
{
	if (!proc_create_single("hvp_generation", 0444, NULL, generation_show))
		return -ENOMEM;
	if (!proc_create("hvp_sleep", 0666, NULL, &sleep_ops)) {
		remove_proc_entry("hvp_generation", NULL);
		return -ENOMEM;
	}
	return 0;
}

static void __exit hvp_exit(void)
{
	remove_proc_entry("hvp_sleep", NULL);
	remove_proc_entry("hvp_generation", NULL);
}

module_init(hvp_init);
module_exit(hvp_exit);
MODULE_DESCRIPTION("hvpatch test module");
MODULE_LICENSE("GPL");
