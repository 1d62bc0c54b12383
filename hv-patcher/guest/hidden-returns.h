/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * True return addresses that tracers have taken off the stack: kretprobes (rethooks)
 * and the function-graph tracer put a trampoline's address in their place and keep
 * the real one in lists of the task.
 *
 *   rethook:        task->rethooks -> struct rethook_node { llist, ret_addr, frame } ...
 *   function graph: task->ret_stack, task->curr_ret_stack
 *       before 6.11: an array of struct ftrace_ret_stack { ret, ..., retp }, curr_ret_stack its
 *                    last index
 *       since 6.11 (7aa1eaef9f42): words; curr_ret_stack counts them, and below each frame's end
 *                    lies a word whose low 10 bits are the distance down to its struct
 *
 * Source: kernel/trace/rethook.c, kernel/trace/fgraph.c (ftrace_graph_ret_addr).
 */
#pragma once

#include "guest/kernel.h"

#define HVP_HIDDEN_RETURNS_MAX_NODES 256U

typedef enum { HVP_HIDDEN_BY_RETHOOK, HVP_HIDDEN_BY_FUNCTION_GRAPH } HvpHiddenBy;

/*
 * The return address that the slot at @slot on the stack of the task at @task would hold. NOT_FOUND
 * where the guest's data do not tell; UNSUPPORTED where this kernel keeps them otherwise. Only the
 * task itself changes these lists, so the answer holds as long as it has not run.
 */
bool hvp_hidden_returns_find(HvpKernel *kernel, HvpGva task, HvpGva slot, HvpHiddenBy by,
			     HvpGva *ret_address, GError **error) G_GNUC_WARN_UNUSED_RESULT;
