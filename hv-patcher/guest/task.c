/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/task.h"

/* include/linux/sched.h: TASK_* and EXIT_*; the values are shown to user space by wchan tools. */
#define STATE_INTERRUPTIBLE 0x1U
#define STATE_UNINTERRUPTIBLE 0x2U
#define STATE_STOPPED 0x4U
#define STATE_TRACED 0x8U
#define STATE_DEAD 0x80U
/* since 5.16 (5616e895ecc5): waits for a lock of PREEMPT_RT, shown as uninterruptible */
#define STATE_RTLOCK_WAIT 0x1000U
#define STATE_NOLOAD 0x400U
#define EXIT_DEAD_STATE 0x10U
#define EXIT_ZOMBIE_STATE 0x20U

/* One that is frozen is shown as uninterruptible, as the kernel does. */
char hvp_task_state_letter(const HvpTask *task)
{
	static const struct {
		guint32 bit;
		char letter;
	} letters[] = { { STATE_INTERRUPTIBLE, 'S' },
			{ STATE_UNINTERRUPTIBLE | HVP_TASK_STATE_FROZEN | STATE_RTLOCK_WAIT, 'D' },
			{ STATE_STOPPED, 'T' },
			{ STATE_TRACED, 't' },
			{ HVP_TASK_STATE_PARKED, 'P' },
			{ STATE_DEAD, 'X' } };

	if (task->is_idle)
		return 'I';
	if (task->exit_state & EXIT_ZOMBIE_STATE)
		return 'Z';
	if (task->exit_state & EXIT_DEAD_STATE)
		return 'X';
	if ((task->state & (STATE_UNINTERRUPTIBLE | STATE_NOLOAD)) ==
	    (STATE_UNINTERRUPTIBLE | STATE_NOLOAD))
		return 'I';
	for (guint i = 0; i < G_N_ELEMENTS(letters); i++)
		if (task->state & letters[i].bit)
			return letters[i].letter;
	return 'R';
}

bool hvp_task_is_kthread(const HvpTask *task)
{
	return task->is_idle || (task->flags & HVP_TASK_PF_KTHREAD) != 0;
}

bool hvp_task_is_interruptible(const HvpTask *task)
{
	return (task->state & STATE_INTERRUPTIBLE) != 0 && !task->on_cpu &&
	       (task->flags & HVP_TASK_PF_EXITING) == 0 && task->exit_state == 0;
}

bool hvp_task_is_asleep(const HvpTask *task)
{
	return !task->on_cpu &&
	       (task->state & (STATE_INTERRUPTIBLE | STATE_UNINTERRUPTIBLE | STATE_STOPPED |
			       STATE_TRACED | STATE_RTLOCK_WAIT | HVP_TASK_STATE_PARKED |
			       HVP_TASK_STATE_FROZEN)) != 0;
}

bool hvp_task_is_standing(const HvpTask *task)
{
	return hvp_task_is_kthread(task) ||
	       (task->flags & (HVP_TASK_PF_IO_WORKER | HVP_TASK_PF_USER_WORKER)) != 0;
}

bool hvp_task_unmoved(const HvpTask *before, const HvpTask *after)
{
	return before->address.value == after->address.value && before->pid == after->pid &&
	       before->start_boottime_nsec == after->start_boottime_nsec &&
	       before->stack.value == after->stack.value && before->sp.value == after->sp.value &&
	       before->switches == after->switches &&
	       before->switches_involuntary == after->switches_involuntary && !before->on_cpu &&
	       !after->on_cpu;
}

bool hvp_task_is_dead(const HvpTask *task)
{
	return (task->state & STATE_DEAD) != 0 && !task->on_cpu;
}
