/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "explore.h"

#include <string.h>

#include "guest/ftrace.h"
#include "guest/instructions.h"
#include "guest/locks.h"
#include "guest/policy.h"
#include "guest/tasks.h"
#include "guest/text-sites.h"
#include "guest/unwinder.h"

#define MOST_TASKS 64U

static void assert_answer(bool ok, const GError *error)
{
	g_assert(ok == (error == NULL));
	g_assert(error == NULL || error->domain == HVP_ERROR);
}

static void explore_modules(HvpModules *modules)
{
	for (guint i = 0; i < hvp_modules_count(modules); i++) {
		HvpModule *module = hvp_modules_get(modules, i);
		const HvpOrc *orc = hvp_modules_get_orc(modules, module);
		HvpOrcEntry entry;
		HvpGvaRange range;
		const char *name;

		g_assert_cmpuint(strlen(module->name), <, HVP_MODULE_NAME_BYTES);
		if (orc != NULL)
			hvp_orc_find(orc, module->text.start, &entry);
		if (hvp_modules_symbolize(modules, module, module->text.start, &name, &range)) {
			g_assert_true(hvp_gva_range_contains(range, module->text.start));
			g_assert_cmpuint(strlen(name), <, 128U << 20);
		}
	}
	hvp_modules_has_symbol(modules, "no_such_symbol");
	hvp_modules_still_hold(modules);
}

static void trace(HvpKernel *kernel, HvpUnwinder *unwinder, const HvpTask *task)
{
	guint32 stack_bytes = hvp_kernel_get_stack_bytes(kernel);
	g_autofree guint8 *bytes = g_malloc0(stack_bytes);
	HvpStackCopy stacks[2] = { { task->stack, stack_bytes, bytes } };
	HvpRegisters registers = { .rip = hvp_kernel_get_text(kernel).start.value + 0x1234 };
	HvpTrace trace;

	/* Half of it twice: the copies need not be apart. */
	stacks[1] = stacks[0];
	stacks[1].length_bytes /= 2;
	if (!hvp_address_space_read(hvp_kernel_get_space(kernel), task->stack, bytes, stack_bytes,
				    NULL))
		return;
	hvp_unwinder_trace_sleeping(unwinder, task->address, task->sp, &stacks[0], &trace);
	g_assert_cmpuint(trace.count, <=, HVP_TRACE_MAX_FRAMES);
	registers.general[HVP_RSP] = registers.general[HVP_RBP] = task->sp.value;
	hvp_unwinder_trace_running(unwinder, task->address, &registers, stacks, 2, &trace);
	g_assert_cmpuint(trace.count, <=, HVP_TRACE_MAX_FRAMES);
}

static void explore_tasks(HvpKernel *kernel, HvpModules *modules)
{
	g_autoptr(GError) error = NULL, no_unwinder = NULL, not_queued = NULL;
	g_autoptr(HvpTasks) tasks = hvp_tasks_read(kernel, &error);
	g_autoptr(HvpUnwinder) unwinder = hvp_unwinder_new(kernel, &no_unwinder);
	g_autofree HvpTask *now = NULL;
	bool ok;

	assert_answer(tasks != NULL, error);
	assert_answer(unwinder != NULL, no_unwinder);
	if (tasks == NULL)
		return;
	now = g_new0(HvpTask, hvp_tasks_count(tasks));
	if (hvp_tasks_reread(tasks, now))
		hvp_tasks_same_links(tasks, now);
	ok = hvp_tasks_add_queued(tasks, &not_queued);
	assert_answer(ok, not_queued);
	if (unwinder == NULL)
		return;
	hvp_unwinder_set_modules(unwinder, modules);
	for (guint i = 0; i < MIN(hvp_tasks_count(tasks), MOST_TASKS); i++) {
		hvp_task_state_letter(hvp_tasks_get(tasks, i));
		trace(kernel, unwinder, hvp_tasks_get(tasks, i));
	}
}

static void explore_text(HvpKernel *kernel)
{
	g_autoptr(GError) no_ftrace = NULL, no_sites = NULL, no_kprobes = NULL;
	g_autoptr(HvpFtrace) ftrace = hvp_ftrace_read(kernel, &no_ftrace);
	g_autoptr(HvpTextSites) sites = hvp_text_sites_read(kernel, &no_sites);
	HvpGvaRange range = { 0 };
	HvpFtraceRecord record;
	guint64 flags;
	bool ok;

	assert_answer(ftrace != NULL, no_ftrace);
	assert_answer(sites != NULL, no_sites);
	(void)!hvp_kernel_function(kernel, "do_wait", 1, &range, NULL);
	g_assert_cmpuint(hvp_gva_range_size(range), <=, HVP_IMAGE_MAX_BYTES);
	if (ftrace != NULL && hvp_ftrace_find(ftrace, range.start, &record, NULL) &&
	    hvp_ftrace_read_flags(kernel, record.record, &flags, NULL))
		(void)!hvp_ftrace_check_flags(kernel, flags, "do_wait", NULL);
	if (sites != NULL)
		(void)!hvp_text_sites_check(sites, range, NULL);
	ok = hvp_text_sites_check_kprobes(kernel, range, &no_kprobes);
	assert_answer(ok, no_kprobes);
}

static void explore_locks(HvpKernel *kernel, HvpModules *modules)
{
	g_autoptr(GError) no_locks = NULL, held = NULL, no_policy = NULL;
	g_autoptr(HvpLocks) locks = hvp_locks_new(kernel, &no_locks);
	HvpPolicy policy;
	bool ok;

	assert_answer(locks != NULL, no_locks);
	if (locks != NULL) {
		ok = hvp_locks_check_free(locks, &held);
		assert_answer(ok, held);
	}
	if (modules != NULL) {
		ok = hvp_policy_read(kernel, modules, &policy, &no_policy);
		assert_answer(ok, no_policy);
	}
}

void explore_kernel(HvpKernel *kernel)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpModules) modules = NULL;

	hvp_address_space_forget(hvp_kernel_get_space(kernel));
	hvp_kernel_is_mapped_by(kernel, hvp_kernel_get_location(kernel)->cr3);
	modules = hvp_modules_read(kernel, &error);
	assert_answer(modules != NULL, error);
	if (modules != NULL)
		explore_modules(modules);
	explore_tasks(kernel, modules);
	explore_text(kernel);
	explore_locks(kernel, modules);
}

bool explore_memory(HvpPhysical *physical, const HvpRegisters *registers)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpKernel) kernel = hvp_kernel_attach(physical, registers, 1, NULL, &error);

	assert_answer(kernel != NULL, error);
	if (kernel != NULL)
		explore_kernel(kernel);
	return kernel != NULL;
}
