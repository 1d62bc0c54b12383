/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the members of the guest kernel's structs lie, resolved once from its
 * BTF. What differs between kernels is found by which of several members exists.
 */
#pragma once

#include "guest/btf.h"

/* id, struct, member path, whether every kernel must have it */
#define HVP_LAYOUT_MEMBERS(X)                                                     \
	X(TASK_TASKS, "task_struct", "tasks", true)                               \
	X(TASK_SIGNAL, "task_struct", "signal", true)                             \
	X(TASK_THREAD_NODE, "task_struct", "thread_node", true)                   \
	X(TASK_STACK, "task_struct", "stack", true)                               \
	X(TASK_SP, "task_struct", "thread.sp", true)                              \
	X(TASK_PID, "task_struct", "pid", true)                                   \
	X(TASK_TGID, "task_struct", "tgid", true)                                 \
	X(TASK_COMM, "task_struct", "comm", true)                                 \
	X(TASK_FLAGS, "task_struct", "flags", true)                               \
	X(TASK_STATE, "task_struct", "__state", true)                             \
	X(TASK_EXIT_STATE, "task_struct", "exit_state", true)                     \
	X(TASK_ON_CPU, "task_struct", "on_cpu", true)                             \
	X(TASK_START_BOOTTIME, "task_struct", "start_boottime", true)             \
	X(TASK_NVCSW, "task_struct", "nvcsw", true)                               \
	X(TASK_NIVCSW, "task_struct", "nivcsw", true)                             \
	/* since 5.16 (bcf9033e5449): in thread_info for all x86 */               \
	X(TASK_CPU, "task_struct", "thread_info.cpu", true)                       \
	/* since 5.17 (e32cf5dfbe22) */                                           \
	X(TASK_WORKER_PRIVATE, "task_struct", "worker_private", false)            \
	/* since 5.3 (3bd3706251ee) */                                            \
	X(TASK_CPUS_MASK, "task_struct", "cpus_mask", false)                      \
	X(KTHREAD_FLAGS, "kthread", "flags", false)                               \
	X(KTHREAD_DATA, "kthread", "data", false)                                 \
	X(WORKER_TASK, "worker", "task", false)                                   \
	X(WORKER_FLAGS, "worker", "flags", false)                                 \
	X(WORKER_CURRENT_WORK, "worker", "current_work", false)                   \
	X(WORKER_CURRENT_FUNC, "worker", "current_func", false)                   \
	X(DELAYED_WORK_FUNC, "delayed_work", "work.func", false)                  \
	X(WORKER_RESCUE_WQ, "worker", "rescue_wq", false)                         \
	X(TASK_RCU_NESTING, "task_struct", "rcu_read_lock_nesting", false)        \
	X(TASK_RETHOOKS, "task_struct", "rethooks", false)                        \
	X(TASK_RET_STACK, "task_struct", "ret_stack", false)                      \
	X(TASK_CURR_RET_STACK, "task_struct", "curr_ret_stack", false)            \
	X(RETHOOK_LLIST, "rethook_node", "llist", false)                          \
	X(RETHOOK_RETURN, "rethook_node", "ret_addr", false)                      \
	X(RETHOOK_FRAME, "rethook_node", "frame", false)                          \
	X(GRAPH_RET, "ftrace_ret_stack", "ret", false)                            \
	X(GRAPH_RETP, "ftrace_ret_stack", "retp", false)                          \
	X(SIGNAL_THREAD_HEAD, "signal_struct", "thread_head", true)               \
	X(RQ_CURR, "rq", "curr", true)                                            \
	X(RQ_IDLE, "rq", "idle", true)                                            \
	X(RQ_NR_SWITCHES, "rq", "nr_switches", false)                             \
	X(RQ_CFS_TASKS, "rq", "cfs_tasks", false)                                 \
	X(RQ_RT_QUEUE, "rq", "rt.active.queue", false)                            \
	X(RQ_DL_ROOT, "rq", "dl.root.rb_root.rb_node", false)                     \
	/* since 6.12 (f0e1a0643a59): sched_ext */                                \
	X(RQ_SCX_RUNNABLE, "rq", "scx.runnable_list", false)                      \
	X(TASK_GROUP_NODE, "task_struct", "se.group_node", false)                 \
	X(TASK_RT_RUN_LIST, "task_struct", "rt.run_list", false)                  \
	X(TASK_DL_NODE, "task_struct", "dl.rb_node", false)                       \
	X(TASK_SCX_NODE, "task_struct", "scx.runnable_node", false)               \
	/* with RT_GROUP_SCHED a queue also holds groups */                       \
	X(RT_ENTITY_GROUP, "sched_rt_entity", "my_q", false)                      \
	X(RT_ENTITY_RUN_LIST, "sched_rt_entity", "run_list", false)               \
	X(RT_RQ_QUEUE, "rt_rq", "active.queue", false)                            \
	X(DL_ENTITY_NODE, "sched_dl_entity", "rb_node", false)                    \
	/* since 6.8 (63ba8422f876): queued, and no task */                       \
	X(DL_ENTITY_SERVER, "sched_dl_entity", "dl_server", false)                \
	X(RB_LEFT, "rb_node", "rb_left", false)                                   \
	X(RB_RIGHT, "rb_node", "rb_right", false)                                 \
	X(RQ_LOCK, "rq", "__lock", false)                                         \
	/* 6.2 to 6.14: hot per-CPU variables in one struct */                    \
	X(HOT_CURRENT, "pcpu_hot", "current_task", false)                         \
	X(HOT_PREEMPT_COUNT, "pcpu_hot", "preempt_count", false)                  \
	X(HOT_HARDIRQ_STACK, "pcpu_hot", "hardirq_stack_ptr", false)              \
	X(FRAME_BP, "inactive_task_frame", "bp", true)                            \
	X(FRAME_RETURN, "inactive_task_frame", "ret_addr", true)                  \
	X(REGS_IP, "pt_regs", "ip", true)                                         \
	X(REGS_SP, "pt_regs", "sp", true)                                         \
	X(REGS_CS, "pt_regs", "cs", true)                                         \
	X(REGS_BP, "pt_regs", "bp", true)                                         \
	X(REGS_DI, "pt_regs", "di", true)                                         \
	X(REGS_SI, "pt_regs", "si", true)                                         \
	X(REGS_DX, "pt_regs", "dx", true)                                         \
	X(REGS_R10, "pt_regs", "r10", true)                                       \
	X(REGS_R13, "pt_regs", "r13", true)                                       \
	X(ORC_SP_OFFSET, "orc_entry", "sp_offset", true)                          \
	X(ORC_BP_OFFSET, "orc_entry", "bp_offset", true)                          \
	X(ORC_SP_REG, "orc_entry", "sp_reg", true)                                \
	X(ORC_BP_REG, "orc_entry", "bp_reg", true)                                \
	X(ORC_TYPE, "orc_entry", "type", true)                                    \
	/* until 6.3: "end"; 6.4 (fb799447ae29) made it a type */                 \
	X(ORC_END, "orc_entry", "end", false)                                     \
	X(ORC_SIGNAL, "orc_entry", "signal", false)                               \
	X(MODULE_LIST, "module", "list", false)                                   \
	X(MODULE_NAME, "module", "name", false)                                   \
	X(MODULE_STATE, "module", "state", false)                                 \
	X(MODULE_ARGS, "module", "args", false)                                   \
	X(MODULE_REFCNT, "module", "refcnt", false)                               \
	X(MODULE_KALLSYMS, "module", "kallsyms", false)                           \
	X(MODULE_CORE_KALLSYMS, "module", "core_kallsyms", false)                 \
	X(MODULE_KLP_INFO, "module", "klp_info", false)                           \
	X(MODULE_JUMP_ENTRIES, "module", "jump_entries", false)                   \
	X(MODULE_JUMP_COUNT, "module", "num_jump_entries", false)                 \
	X(MODULE_STATIC_CALLS, "module", "static_call_sites", false)              \
	X(MODULE_STATIC_CALL_COUNT, "module", "num_static_call_sites", false)     \
	X(MODULE_EXTABLE, "module", "extable", false)                             \
	X(MODULE_EXTABLE_COUNT, "module", "num_exentries", false)                 \
	X(MODULE_ORC_COUNT, "module", "arch.num_orcs", false)                     \
	X(MODULE_ORC_IP, "module", "arch.orc_unwind_ip", false)                   \
	X(MODULE_ORC, "module", "arch.orc_unwind", false)                         \
	/* before 6.4: core_layout; since (ac3b43283923): mem[] */                \
	X(MODULE_CORE_BASE, "module", "core_layout.base", false)                  \
	X(MODULE_CORE_SIZE, "module", "core_layout.size", false)                  \
	X(MODULE_CORE_TEXT_SIZE, "module", "core_layout.text_size", false)        \
	X(MODULE_INIT_BASE, "module", "init_layout.base", false)                  \
	X(MODULE_INIT_SIZE, "module", "init_layout.size", false)                  \
	X(MODULE_INIT_TEXT_SIZE, "module", "init_layout.text_size", false)        \
	X(MODULE_MEM, "module", "mem", false)                                     \
	X(MODULE_MEMORY_BASE, "module_memory", "base", false)                     \
	X(MODULE_MEMORY_SIZE, "module_memory", "size", false)                     \
	X(KALLSYMS_SYMTAB, "mod_kallsyms", "symtab", false)                       \
	X(KALLSYMS_COUNT, "mod_kallsyms", "num_symtab", false)                    \
	X(KALLSYMS_STRTAB, "mod_kallsyms", "strtab", false)                       \
	X(FTRACE_PAGE_NEXT, "ftrace_page", "next", false)                         \
	X(FTRACE_PAGE_RECORDS, "ftrace_page", "records", false)                   \
	X(FTRACE_PAGE_INDEX, "ftrace_page", "index", false)                       \
	X(FTRACE_IP, "dyn_ftrace", "ip", false)                                   \
	X(FTRACE_FLAGS, "dyn_ftrace", "flags", false)                             \
	X(KPROBE_ADDRESS, "kprobe", "addr", false)                                \
	X(JUMP_ENTRY_CODE, "jump_entry", "code", false)                           \
	X(STATIC_CALL_SITE_ADDRESS, "static_call_site", "addr", false)            \
	X(EXTABLE_INSN, "exception_table_entry", "insn", false)                   \
	X(SMP_ALT_MODULE, "smp_alt_module", "mod", false)                         \
	X(SMP_ALT_LOCKS, "smp_alt_module", "locks", false)                        \
	X(SMP_ALT_LOCKS_END, "smp_alt_module", "locks_end", false)                \
	X(SMP_ALT_NEXT, "smp_alt_module", "next", false)                          \
	X(KERNEL_PARAM_NAME, "kernel_param", "name", false)                       \
	X(KERNEL_PARAM_ARG, "kernel_param", "arg", false)                         \
	X(MUTEX_OWNER, "mutex", "owner", false)                                   \
	/* PREEMPT_RT: a mutex is an rt_mutex */                                  \
	X(MUTEX_RT_OWNER, "mutex", "rtmutex.owner", false)                        \
	X(LOAD_INFO_HDR, "load_info", "hdr", false)                               \
	X(LOAD_INFO_LEN, "load_info", "len", false)                               \
	X(KLP_INFO_HDR, "klp_modinfo", "hdr", false)                              \
	X(KLP_INFO_SECTIONS, "klp_modinfo", "sechdrs", false)                     \
	X(KLP_INFO_NAMES, "klp_modinfo", "secstrings", false)                     \
	X(KLP_INFO_SYMBOLS, "klp_modinfo", "symndx", false)                       \
	X(KOBJ_ATTRIBUTE_STORE, "kobj_attribute", "store", false)                 \
	X(KLP_PATCH_STATES, "klp_patch", "states", false)                         \
	X(KLP_PATCH_LIST, "klp_patch", "list", false)                             \
	X(KLP_PATCH_KOBJ, "klp_patch", "kobj", false)                             \
	X(KLP_PATCH_ENABLED, "klp_patch", "enabled", false)                       \
	X(KLP_STATE_ID, "klp_state", "id", false)                                 \
	X(KLP_STATE_VERSION, "klp_state", "version", false)                       \
	X(KLP_OBJECT_MOD, "klp_object", "mod", false)                             \
	X(KLP_OBJECT_PATCHED, "klp_object", "patched", false)                     \
	X(KLP_UNPATCH_DUE, "klp_object", "callbacks.post_unpatch_enabled", false) \
	X(KLP_PATCH_MOD, "klp_patch", "mod", false)                               \
	X(KLP_PATCH_OBJS, "klp_patch", "objs", false)                             \
	X(KLP_PATCH_REPLACE, "klp_patch", "replace", false)                       \
	X(KLP_OBJECT_NAME, "klp_object", "name", false)                           \
	X(KLP_OBJECT_FUNCS, "klp_object", "funcs", false)                         \
	X(KLP_OBJECT_PRE_PATCH, "klp_object", "callbacks.pre_patch", false)       \
	X(KLP_OBJECT_POST_PATCH, "klp_object", "callbacks.post_patch", false)     \
	X(KLP_OBJECT_PRE_UNPATCH, "klp_object", "callbacks.pre_unpatch", false)   \
	X(KLP_OBJECT_POST_UNPATCH, "klp_object", "callbacks.post_unpatch", false) \
	X(KLP_FUNC_OLD_NAME, "klp_func", "old_name", false)                       \
	X(KLP_FUNC_NEW_FUNC, "klp_func", "new_func", false)                       \
	X(KLP_FUNC_SYMPOS, "klp_func", "old_sympos", false)

/* id, struct, whether every kernel must have it */
#define HVP_LAYOUT_SIZES(X)                                     \
	X(TASK_SIZE, "task_struct", true)                       \
	X(FRAME_SIZE, "inactive_task_frame", true)              \
	X(REGS_SIZE, "pt_regs", true)                           \
	X(ORC_SIZE, "orc_entry", true)                          \
	X(EXCEPTION_STACKS_SIZE, "cea_exception_stacks", false) \
	X(GRAPH_SIZE, "ftrace_ret_stack", false)                \
	X(MODULE_SIZE, "module", false)                         \
	X(MODULE_MEMORY_STRIDE, "module_memory", false)         \
	X(FTRACE_SIZE, "dyn_ftrace", false)                     \
	X(LOAD_INFO_SIZE, "load_info", false)                   \
	X(KLP_PATCH_SIZE, "klp_patch", false)                   \
	X(KLP_OBJECT_SIZE, "klp_object", false)                 \
	X(KLP_FUNC_SIZE, "klp_func", false)                     \
	X(KLP_STATE_SIZE, "klp_state", false)                   \
	X(JUMP_ENTRY_SIZE, "jump_entry", false)                 \
	X(STATIC_CALL_SITE_SIZE, "static_call_site", false)     \
	X(EXTABLE_SIZE, "exception_table_entry", false)

/* id, enumerator, whether every kernel must have it */
#define HVP_LAYOUT_ENUMERATORS(X)                                \
	X(FTRACE_FL_IPMODIFY, "FTRACE_FL_IPMODIFY", false)       \
	X(FTRACE_FL_DIRECT, "FTRACE_FL_DIRECT", false)           \
	X(FTRACE_FL_DISABLED, "FTRACE_FL_DISABLED", false)       \
	X(MODULE_STATE_LIVE, "MODULE_STATE_LIVE", false)         \
	X(MODULE_STATE_UNFORMED, "MODULE_STATE_UNFORMED", false) \
	X(KTHREAD_SHOULD_PARK, "KTHREAD_SHOULD_PARK", false)     \
	X(WORKER_IDLE, "WORKER_IDLE", false)                     \
	X(SYSTEM_RUNNING, "SYSTEM_RUNNING", true)                \
	X(MOD_TEXT, "MOD_TEXT", false)                           \
	X(MOD_INIT_TEXT, "MOD_INIT_TEXT", false)

typedef enum {
#define X(id, ...) HVP_AT_##id,
	HVP_LAYOUT_MEMBERS(X) HVP_LAYOUT_SIZES(X) HVP_LAYOUT_ENUMERATORS(X)
#undef X
		HVP_LAYOUT_COUNT,
} HvpLayoutItem;

#define HVP_LAYOUT_ABSENT G_MAXUINT32

/* One item: for a member its byte offset, for a size or enumerator its value. */
typedef struct {
	guint32 value; /* HVP_LAYOUT_ABSENT where the kernel has none */
	guint8 bit;    /* of a bitfield: first bit within the byte at value */
	guint8 bits;   /* of a bitfield: its width; 0 for an ordinary member */
	guint16 count; /* elements of an array; else 1 */
} HvpLayoutValue;

/* Plain data, so that it can be cached as it is. */
typedef struct {
	HvpLayoutValue items[HVP_LAYOUT_COUNT];
} HvpLayout;

/* Resolves everything; UNSUPPORTED naming the first required item that is missing. */
bool hvp_layout_resolve(HvpBtf *btf, HvpLayout *ret_layout,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* A number that changes with the list of items: part of the cache's format. */
guint32 hvp_layout_version(void);

static inline bool hvp_layout_has(const HvpLayout *self, HvpLayoutItem item)
{
	return self->items[item].value != HVP_LAYOUT_ABSENT;
}

/* The offset, size or value of @item, which must be there. */
static inline guint32 hvp_layout_get(const HvpLayout *self, HvpLayoutItem item)
{
	g_assert(hvp_layout_has(self, item));
	return self->items[item].value;
}

/* As HVP_LAYOUT_ABSENT's callers need it: UNSUPPORTED naming the item when it is missing. */
bool hvp_layout_require(const HvpLayout *self, HvpLayoutItem item,
			GError **error) G_GNUC_WARN_UNUSED_RESULT;
