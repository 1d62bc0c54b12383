// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Replaces do_nanosleep(), in which every sleep(1) stands; all is as before. In
 * /sys/module/hvp_nanosleep/parameters, `entered` counts calls of the new one, and with
 * `linger_msec` each stays for as long in its own text, uninterruptible, when it is done.
 */
#include "hvp_patch.h"

#include <linux/compat.h>
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/time_namespace.h>

static unsigned int entered;
module_param(entered, uint, 0444);
static unsigned int linger_msec;
module_param(linger_msec, uint, 0644);

static void hvp_sleep_until_woken(struct hrtimer_sleeper *sleeper, enum hrtimer_mode mode)
{
	while (sleeper->task) {
		set_current_state(TASK_INTERRUPTIBLE | TASK_FREEZABLE);
		hrtimer_sleeper_start_expires(sleeper, mode);
		if (sleeper->task)
			schedule();
		hrtimer_cancel(&sleeper->timer);
		mode = HRTIMER_MODE_ABS;
		if (signal_pending(current))
			break;
	}
	__set_current_state(TASK_RUNNING);
}

/* What is left, for who asked for it; the answer of a sleep that was cut short. */
static int hvp_report_left(struct hrtimer_sleeper *sleeper)
{
	struct restart_block *restart = &current->restart_block;
	ktime_t left = hrtimer_expires_remaining(&sleeper->timer);
	struct timespec64 time = ktime_to_timespec64(left);
	int error = 0;

	if (restart->nanosleep.type != TT_NONE && left <= 0)
		return 0;
	if (restart->nanosleep.type == TT_NATIVE)
		error = put_timespec64(&time, restart->nanosleep.rmtp);
	if (restart->nanosleep.type == TT_COMPAT)
		error = put_old_timespec32(&time, restart->nanosleep.compat_rmtp);
	return error ? error : -ERESTART_RESTARTBLOCK;
}

static int hvp_do_nanosleep(struct hrtimer_sleeper *sleeper, enum hrtimer_mode mode)
{
	WRITE_ONCE(entered, entered + 1);
	hvp_sleep_until_woken(sleeper, mode);
	if (linger_msec)
		msleep(linger_msec);
	return sleeper->task ? hvp_report_left(sleeper) : 0;
}

static struct klp_func funcs[] = { { .old_name = "do_nanosleep", .new_func = hvp_do_nanosleep },
				   {} };

HVP_PATCH_VMLINUX(funcs);
