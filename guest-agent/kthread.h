/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One kernel thread, as /proc tells: docs/guest-agent.md has what each member rests on. A thread
 * of a user's process that works for the kernel (io_uring, and vhost since 6.4) is none.
 */
#pragma once

#include "proc.h"
#include "writer.h"

#define AGENT_KTHREAD_COMM_CAPACITY 64
#define AGENT_KTHREAD_CPUS_CAPACITY 1001
#define AGENT_KTHREAD_WCHAN_CAPACITY 128
#define AGENT_KTHREAD_STACK_CAPACITY 16384

typedef enum {
	AGENT_KTHREAD_PARKED,
	AGENT_KTHREAD_FROZEN,
	AGENT_KTHREAD_IDLE_WORKER,
	AGENT_KTHREAD_BUSY_WORKER,
	AGENT_KTHREAD_RUNNING,
	AGENT_KTHREAD_SLEEPING,
	AGENT_KTHREAD_UNINTERRUPTIBLE,
} AgentKthreadState;

typedef enum {
	AGENT_KTHREAD_FOUND,
	AGENT_KTHREAD_NONE, /* no such process, or it cannot be read */
	AGENT_KTHREAD_USER, /* a process of a user */
} AgentKthreadResult;

typedef struct {
	int32_t pid;
	uint32_t flags;	      /* PF_* */
	uint64_t start_ticks; /* since boot: with the pid, which thread it is */
	char comm[AGENT_KTHREAD_COMM_CAPACITY];
	bool has_work; /* a worker that runs a work item, by what the kernel puts behind comm */
	char letter;   /* of the task's state */
	char cpus[AGENT_KTHREAD_CPUS_CAPACITY];
	uint64_t voluntary, involuntary;
	char wchan[AGENT_KTHREAD_WCHAN_CAPACITY];
	AgentKthreadState state;
} AgentKthread;

/* The lines of /proc/PID/stack. */
typedef struct {
	char text[AGENT_KTHREAD_STACK_CAPACITY];
	bool readable;
} AgentKthreadStack;

/*
 * Reads all of one moment; @stack may be NULL. Members of *ret_kthread are set only as far as they
 * were read if the result is not FOUND.
 */
AgentKthreadResult agent_kthread_read(const AgentProc *proc, int32_t pid, AgentKthread *ret_kthread,
				      AgentKthreadStack *stack);

/* Reads only what stat has: pid, flags, start_ticks, comm, has_work, letter. */
AgentKthreadResult agent_kthread_identify(const AgentProc *proc, int32_t pid,
					  AgentKthread *ret_kthread);

/* Writes it as an object; @stack may be NULL. */
void agent_kthread_write(const AgentKthread *self, const AgentKthreadStack *stack,
			 AgentWriter *writer);

/* Parts of agent_kthread_read(), for texts of any kind. False: not of that form. */
bool agent_kthread_parse_stat(AgentKthread *self, const char *text);
bool agent_kthread_parse_status(AgentKthread *self, const char *text);

/* What all that was read amounts to. */
AgentKthreadState agent_kthread_judge(const AgentKthread *self);
