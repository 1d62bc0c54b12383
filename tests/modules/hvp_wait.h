/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wait_for_partner() of fs/pipe.c, where an open() of a FIFO sleeps until
 * somebody opens the other end. Enter it: cat FIFO & . Leave it: echo > FIFO .
 * A static function, not inlined (two callers), without ENDBR on 6.12.
 */
#ifndef HVP_WAIT_H
#define HVP_WAIT_H

#include <linux/pipe_fs_i.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/wait.h>

/* The kernel's own code, unchanged: pipe_lock and pipe_unlock are exported. */
static __always_inline int hvp_wait_until_changed(struct pipe_inode_info *pipe, unsigned int *cnt)
{
	DEFINE_WAIT(rdwait);
	unsigned int cur = *cnt;

	while (cur == *cnt) {
		prepare_to_wait(&pipe->rd_wait, &rdwait, TASK_INTERRUPTIBLE);
		pipe_unlock(pipe);
		schedule();
		finish_wait(&pipe->rd_wait, &rdwait);
		pipe_lock(pipe);
		if (signal_pending(current))
			break;
	}
	return cur == *cnt ? -ERESTARTSYS : 0;
}

#endif
