/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of the host's CPUs the calling thread runs on while it deals with a VM: none of those of
 * the vCPUs, where there are others. It is the more urgent one, so that on theirs a vCPU
 * would stand for whatever it prepares; and who is in the guest on another CPU comes out sooner
 * than who has to wait for ours.
 */
#pragma once

#include <glib.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct {
	bool is_known; /* false: a host of more CPUs than a cpu_set_t has; all stays as it is */
	cpu_set_t allowed;
	cpu_set_t kept; /* to these, of the allowed */
} HvpCpus;

/* From the calling thread's own. */
void hvp_cpus_begin(HvpCpus *self);

/* Adds to @set the CPU that a thread of process @pid runs on, or ran on last, if that is told. */
void hvp_cpus_add(pid_t pid, pid_t thread_id, cpu_set_t *set);

/*
 * Keeps off those in @busy; returns whether it does. Not where @users, who are on them, have use
 * for all that are allowed.
 */
bool hvp_cpus_avoid(HvpCpus *self, const cpu_set_t *busy, guint users);

/* Keeps to those that thread @other keeps to. */
void hvp_cpus_join(HvpCpus *self, pid_t other);

/* To all that are allowed, again. */
void hvp_cpus_end(HvpCpus *self);
