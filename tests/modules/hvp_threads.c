// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * An ordinary module with a kernel thread that stands where it is told to, in or outside of
 * hvp_threads_turn(), which is there to be replaced.
 *
 *   echo "start MODE" > /proc/hvp_threads   returns when it stands there
 *   echo stop > /proc/hvp_threads
 *   cat /proc/hvp_threads                   the thread's pid, and its turns so far
 *
 *   parked          parked outside
 *   parked-inside   parked in hvp_threads_turn()
 *   freezable       sleeps in hvp_threads_turn(), where the system's freezer freezes it
 *   asleep          sleeps outside
 *   cycle BUSY REST runs in hvp_threads_turn() for BUSY ms, is parked outside for REST ms, ...
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/freezer.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

#include "hvp_generation.h"

#define TEXT_MAX_BYTES 64
#define STEP_MSEC 5

enum hvp_mode { PARKED, PARKED_INSIDE, FREEZABLE, ASLEEP, CYCLE };

static const char *const mode_names[] = { "parked", "parked-inside", "freezable", "asleep",
					  "cycle" };

static enum hvp_mode mode;
static unsigned int busy_msec, rest_msec;
static struct task_struct *thread, *driver;
static unsigned int turns;
static bool has_begun, is_inside;
static DEFINE_MUTEX(lock);

static HVP_TARGET void hvp_threads_turn(void)
{
	WRITE_ONCE(turns, turns + 1);
	WRITE_ONCE(is_inside, true);
	while (!kthread_should_stop()) {
		if (mode == CYCLE && kthread_should_park())
			break;
		if (mode == PARKED_INSIDE && kthread_should_park())
			kthread_parkme();
		if (mode == FREEZABLE)
			try_to_freeze();
		if (mode == CYCLE)
			cond_resched();
		else
			schedule_timeout_interruptible(msecs_to_jiffies(STEP_MSEC));
	}
	WRITE_ONCE(is_inside, false);
}

static HVP_TARGET int hvp_threads_main(void *unused)
{
	WRITE_ONCE(has_begun, true);
	if (mode == FREEZABLE)
		set_freezable();
	while (!kthread_should_stop()) {
		if (kthread_should_park() && mode != PARKED_INSIDE)
			kthread_parkme();
		if (mode == ASLEEP || mode == PARKED)
			schedule_timeout_interruptible(msecs_to_jiffies(STEP_MSEC));
		else if (!kthread_should_park() || mode == PARKED_INSIDE)
			hvp_threads_turn();
	}
	return 0;
}

/* Parks the thread and lets it go on, to and fro. */
static int hvp_threads_drive(void *unused)
{
	while (!kthread_should_stop()) {
		msleep_interruptible(busy_msec);
		if (kthread_should_stop())
			break;
		kthread_park(thread);
		msleep_interruptible(rest_msec);
		kthread_unpark(thread);
	}
	return 0;
}

static void stop(void)
{
	if (driver)
		kthread_stop(driver);
	driver = NULL;
	if (thread)
		kthread_stop(thread);
	thread = NULL;
}

static int start(void)
{
	has_begun = false;
	thread = kthread_run(hvp_threads_main, NULL, "hvp_thread");
	if (IS_ERR(thread)) {
		int error = PTR_ERR(thread);

		thread = NULL;
		return error;
	}
	/* Told to park before it runs, it would be in none of its functions. */
	while (!(mode == PARKED_INSIDE ? READ_ONCE(is_inside) : READ_ONCE(has_begun)))
		msleep(STEP_MSEC);
	if (mode == PARKED || mode == PARKED_INSIDE)
		return kthread_park(thread);
	if (mode != CYCLE)
		return 0;
	driver = kthread_run(hvp_threads_drive, NULL, "hvp_driver");
	if (IS_ERR(driver)) {
		driver = NULL;
		stop();
		return -ENOMEM;
	}
	return 0;
}

static int start_mode(const char *text)
{
	char name[TEXT_MAX_BYTES];
	int fields = sscanf(text, "start %15s %u %u", name, &busy_msec, &rest_msec);

	for (size_t i = 0; fields > 0 && i < ARRAY_SIZE(mode_names); i++) {
		if (strcmp(name, mode_names[i]) != 0)
			continue;
		if (i == CYCLE && (fields != 3 || !busy_msec || !rest_msec))
			return -EINVAL;
		stop();
		mode = i;
		return start();
	}
	return -EINVAL;
}

static ssize_t control_write(struct file *file, const char __user *buffer, size_t count,
			     loff_t *pos)
{
	char text[TEXT_MAX_BYTES] = "";
	int error = 0;

	if (count >= sizeof(text) || copy_from_user(text, buffer, count))
		return -EINVAL;
	mutex_lock(&lock);
	if (!strncmp(text, "stop", 4))
		stop();
	else
		error = start_mode(text);
	mutex_unlock(&lock);
	return error ? error : count;
}

static int control_show(struct seq_file *seq, void *unused)
{
	mutex_lock(&lock);
	seq_printf(seq, "%d %u\n", thread ? thread->pid : 0, READ_ONCE(turns));
	mutex_unlock(&lock);
	return 0;
}

static int control_open(struct inode *inode, struct file *file)
{
	return single_open(file, control_show, NULL);
}

static const struct proc_ops control_ops = {
	.proc_open = control_open, .proc_read = seq_read, .proc_lseek = seq_lseek,
	.proc_release = single_release, .proc_write = control_write,
};

static int __init hvp_init(void)
{
	return proc_create("hvp_threads", 0600, NULL, &control_ops) ? 0 : -ENOMEM;
}

static void __exit hvp_exit(void)
{
	remove_proc_entry("hvp_threads", NULL);
	stop();
}

module_init(hvp_init);
module_exit(hvp_exit);
MODULE_DESCRIPTION("hvpatch test module: a kernel thread in and outside of a function");
MODULE_LICENSE("GPL");
