/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/kthread-rule.h"

#include <string.h>

typedef struct {
	HvpGvaRange range;
	const char *name; /* the manifest's */
} Standing;

struct HvpKthreadRule {
	HvpTarget *target;
	const HvpManifest *manifest;
	GArray *standing; /* Standing */
};

void hvp_kthread_rule_free(HvpKthreadRule *self)
{
	if (self == NULL)
		return;
	g_array_unref(self->standing);
	g_free(self);
}

bool hvp_kthread_rule_matches(const char *pattern, const char *name)
{
	const char *star = NULL, *resume = NULL;

	while (*name != 0) {
		if (*pattern == '*') {
			star = pattern++;
			resume = name;
		} else if (*pattern == '?' || *pattern == *name) {
			pattern++;
			name++;
		} else if (star != NULL) {
			pattern = star + 1;
			name = ++resume;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == 0;
}

static void add_range(HvpKthreadRule *self, HvpGvaRange range, const char *name)
{
	Standing standing = { range, name };

	g_array_append_val(self->standing, standing);
}

/* With the parts that the compiler made of it: NAME.cold, NAME.constprop.0. All namesakes. */
static void add_of_image(HvpKthreadRule *self, const char *function, const char *name)
{
	HvpKernel *kernel = self->target->kernel;
	const HvpSymbols *symbols = hvp_kernel_get_symbols(kernel);
	HvpGva base = hvp_kernel_get_location(kernel)->range.start;
	gsize length = strlen(function), first = 0;
	gsize count = hvp_symbols_find_prefix(symbols, function, &first);

	for (gsize i = 0; i < count; i++) {
		HvpSymbol symbol = hvp_symbols_by_name(symbols, first + i);
		const char *found;
		HvpGvaRange range;

		if ((symbol.name[length] == 0 || symbol.name[length] == '.') && !symbol.absolute &&
		    hvp_kernel_find_address(kernel, hvp_gva_add(base, symbol.value), &found,
					    &range))
			add_range(self, range, name);
	}
}

static void add_of_module(HvpKthreadRule *self, HvpModule *module, const char *function,
			  const char *name)
{
	g_autoptr(GArray)
		ranges = hvp_modules_functions_named(self->target->modules, module, function);

	for (guint i = 0; i < ranges->len; i++)
		add_range(self, g_array_index(ranges, HvpGvaRange, i), name);
}

/* In a module that is not loaded nobody stands. */
static bool add_named(HvpKthreadRule *self, const char *name, GError **error)
{
	HvpModules *modules = self->target->modules;
	const char *colon = strchr(name, ':');
	guint before = self->standing->len;

	if (colon != NULL) {
		g_autofree char *module_name = g_strndup(name, (gsize)(colon - name));
		HvpModule *module = hvp_modules_find(modules, module_name);

		if (module == NULL)
			return true;
		add_of_module(self, module, colon + 1, name);
	} else {
		add_of_image(self, name, name);
		for (guint i = 0; i < hvp_modules_count(modules); i++)
			add_of_module(self, hvp_modules_get(modules, i), name, name);
	}
	return self->standing->len > before ||
	       hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "the standing function %s is not in the guest's kernel", name);
}

bool hvp_kthread_rule_refresh(HvpKthreadRule *self, GError **error)
{
	g_array_set_size(self->standing, 0);
	for (guint i = 0; self->manifest->standing[i] != NULL; i++)
		if (!add_named(self, self->manifest->standing[i], error))
			return false;
	return true;
}

HvpKthreadRule *hvp_kthread_rule_new(HvpTarget *target, const HvpManifest *manifest, GError **error)
{
	g_autoptr(HvpKthreadRule) self = g_new0(HvpKthreadRule, 1);

	self->target = target;
	self->manifest = manifest;
	self->standing = g_array_new(FALSE, FALSE, sizeof(Standing));
	if (!hvp_manifest_check(manifest, error) || !hvp_kthread_rule_refresh(self, error))
		return NULL;
	return g_steal_pointer(&self);
}

static const char *find_standing(const HvpKthreadRule *self, const HvpSweep *sweep,
				 const HvpSweepTask *task)
{
	const HvpFrame *frames = hvp_sweep_frames(sweep, task);

	for (guint f = 0; f < task->frame_count; f++) {
		HvpGva pc = hvp_prove_frame_instruction(&frames[f]);

		for (guint i = 0; i < self->standing->len; i++) {
			const Standing *standing = &g_array_index(self->standing, Standing, i);

			if (hvp_gva_range_contains(standing->range, pc))
				return standing->name;
		}
	}
	return NULL;
}

static bool is_meant(const HvpKthreadRule *self, const HvpSweep *sweep, const HvpSweepTask *task)
{
	if (self->manifest->patterns == NULL)
		return find_standing(self, sweep, task) != NULL;
	for (guint i = 0; self->manifest->patterns[i] != NULL; i++)
		if (hvp_kthread_rule_matches(self->manifest->patterns[i], task->task.comm))
			return true;
	return false;
}

bool hvp_kthread_rule_is_broken_by(const HvpKthreadRule *self, const HvpSweep *sweep,
				   const HvpSweepTask *task, const char **ret_standing,
				   HvpKthreadState *ret_state)
{
	*ret_standing = NULL;
	*ret_state = HVP_KTHREAD_UNKNOWN;
	if (self->manifest->kthreads == HVP_KTHREADS_ANY || task->task.is_idle ||
	    !hvp_task_is_standing(&task->task) || hvp_task_is_dead(&task->task))
		return false;
	if (self->manifest->kthreads == HVP_KTHREADS_REFUSE) {
		*ret_standing = find_standing(self, sweep, task);
		return *ret_standing != NULL;
	}
	if (!is_meant(self, sweep, task))
		return false;
	*ret_state = hvp_kthread_read_state(self->target->kernel, &task->task);
	return !hvp_kthread_is_at_rest(*ret_state);
}

bool hvp_kthread_rule_is_broken(const HvpKthreadRule *self, const HvpSweep *sweep)
{
	const char *standing;
	HvpKthreadState state;

	for (guint i = 0; self != NULL && i < hvp_sweep_count(sweep); i++) {
		const HvpSweepTask *task = hvp_sweep_get(sweep, i);

		/* A sweep of the running guest has no verdict on who was on a CPU. */
		if (task->verdict != HVP_UNWIND_NOT_SEEN &&
		    hvp_kthread_rule_is_broken_by(self, sweep, task, &standing, &state))
			return true;
	}
	return false;
}

static char *describe(const char *standing, HvpKthreadState state)
{
	if (standing != NULL)
		return g_strdup_printf("%s, which the patch's manifest names as standing",
				       standing);
	return g_strdup_printf("%s, and has to be parked or an idle worker",
			       hvp_kthread_state_name(state));
}

void hvp_kthread_rule_add_blockers(const HvpKthreadRule *self, const HvpSweep *sweep,
				   GPtrArray *blockers, guint max)
{
	for (guint i = 0; self != NULL && i < hvp_sweep_count(sweep) && blockers->len < max; i++) {
		const HvpSweepTask *task = hvp_sweep_get(sweep, i);
		const char *standing;
		HvpKthreadState state;

		if (task->verdict != HVP_UNWIND_NOT_SEEN &&
		    hvp_kthread_rule_is_broken_by(self, sweep, task, &standing, &state))
			g_ptr_array_add(blockers, hvp_prove_describe(sweep, task, self->target,
								     HVP_BLOCKER_POLICY,
								     describe(standing, state)));
	}
}
