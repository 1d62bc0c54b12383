/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/oracle.h"

#include "call/guest-write.h"
#include "guest/instructions.h"

#define ANSWER_USEC (5 * G_USEC_PER_SEC)
/* While the guest stands still: within the keeper's budget. */
#define STOPPED_ANSWER_USEC (G_USEC_PER_SEC / 2)
#define RENEW_BUDGET_USEC G_USEC_PER_SEC
#define MAX_FUNCTION_BYTES (64U << 10)
#define MAX_WATCHED_BYTES (4U << 20)

struct HvpOracle {
	HvpTarget *target;
	HvpPlugin *plugin; /* NULL: not connected */
	GError *failure;   /* the first one */
	GArray *changes;   /* HvpPluginChange: planned */
};

HvpOracle *hvp_oracle_new(HvpTarget *target)
{
	HvpOracle *self;

	if (target->oracle_path == NULL)
		return NULL;
	self = g_new0(HvpOracle, 1);
	self->target = target;
	self->changes = g_array_new(FALSE, TRUE, sizeof(HvpPluginChange));
	if (target->machine != NULL &&
	    hvp_machine_get_accelerator(target->machine) == HVP_ACCELERATOR_KVM)
		hvp_error_set(&self->failure, HVP_ERROR_UNSUPPORTED,
			      "QEMU's plugins see nothing of a guest under KVM");
	else
		self->plugin = hvp_plugin_connect(target->oracle_path, hvp_deadline_in(ANSWER_USEC),
						  &self->failure);
	return self;
}

void hvp_oracle_free(HvpOracle *self)
{
	if (self == NULL)
		return;
	hvp_plugin_free(self->plugin);
	g_clear_error(&self->failure);
	g_array_unref(self->changes);
	g_free(self);
}

bool hvp_oracle_check(HvpOracle *self, GError **error)
{
	if (self == NULL || self->failure == NULL)
		return true;
	if (error != NULL)
		*error = g_error_copy(self->failure);
	return false;
}

static bool is_usable(const HvpOracle *self)
{
	return self != NULL && self->plugin != NULL;
}

/* Where to put a failure: only the first counts. */
static GError **failure_of(HvpOracle *self)
{
	return self->failure == NULL ? &self->failure : NULL;
}

void hvp_oracle_enter_boot(HvpOracle *self, guint64 boot)
{
	if (is_usable(self))
		(void)!hvp_plugin_enter_boot(self->plugin, boot, hvp_deadline_in(ANSWER_USEC),
					     failure_of(self));
}

void hvp_oracle_decide(HvpOracle *self, HvpPluginDecision decision)
{
	if (is_usable(self))
		(void)!hvp_plugin_decide(self->plugin, decision, hvp_deadline_in(ANSWER_USEC),
					 failure_of(self));
}

void hvp_oracle_withdraw(HvpOracle *self, HvpGvaRange text)
{
	if (is_usable(self) && hvp_gva_range_size(text) > 0)
		(void)!hvp_plugin_withdraw(self->plugin, &text, 1, hvp_deadline_in(ANSWER_USEC),
					   failure_of(self));
}

/* --- what to watch --- */

static void add(HvpOracle *self, HvpGvaRange range, bool forbidden)
{
	HvpPluginChange change = { range, range.start, forbidden };

	for (guint i = 0; i < self->changes->len; i++) {
		HvpPluginChange *known = &g_array_index(self->changes, HvpPluginChange, i);

		if (known->range.start.value == range.start.value &&
		    known->range.end.value == range.end.value)
			known->forbidden = forbidden;
		if (hvp_gva_range_overlaps(known->range, range))
			return;
	}
	if (hvp_gva_range_size(range) > 0)
		g_array_append_val(self->changes, change);
}

static bool cannot_tell(HvpOracle *self, HvpGvaRange function)
{
	(void)hvp_error_set(failure_of(self), HVP_ERROR_UNSUPPORTED,
			    "the oracle cannot tell which cold parts belong to the function at "
			    "0x%" G_GINT64_MODIFIER "x",
			    function.start.value);
	return false;
}

/* Whether the code of @function jumps into @part: of namesakes each has a cold part of its own. */
static bool jumps_into(HvpOracle *self, HvpGvaRange function, HvpGvaRange part)
{
	gsize bytes = MIN(hvp_gva_range_size(function), MAX_FUNCTION_BYTES);
	g_autofree guint8 *code = g_malloc(bytes);
	HvpInstruction instruction;

	if (!hvp_address_space_read(hvp_kernel_get_space(self->target->kernel), function.start,
				    code, bytes, NULL))
		return cannot_tell(self, function);
	for (gsize at = 0; at < bytes; at += instruction.length_bytes) {
		if (!hvp_instructions_decode(code + at, bytes - at, hvp_gva_add(function.start, at),
					     &instruction, NULL))
			return cannot_tell(self, function);
		if ((instruction.kind == HVP_INSTRUCTION_JUMP ||
		     instruction.kind == HVP_INSTRUCTION_BRANCH) &&
		    hvp_gva_range_contains(part, instruction.target))
			return true;
	}
	return false;
}

static GArray *functions_named(HvpOracle *self, HvpModule *module, const char *name)
{
	return module ? hvp_modules_functions_named(self->target->modules, module, name)
		      : hvp_kernel_functions_named(self->target->kernel, name);
}

/* The cold parts of @function, called @name, of @module (NULL: the kernel's image). */
static GArray *cold_parts(HvpOracle *self, HvpModule *module, HvpGvaRange function,
			  const char *name)
{
	g_autofree char *cold = g_strconcat(name, ".cold", NULL);
	g_autoptr(GArray) functions = functions_named(self, module, name);
	GArray *parts = functions_named(self, module, cold);

	for (guint i = functions->len > 1 ? parts->len : 0; i > 0; i--)
		if (!jumps_into(self, function, g_array_index(parts, HvpGvaRange, i - 1)))
			g_array_remove_index_fast(parts, i - 1);
	return parts;
}

static void add_function(HvpOracle *self, HvpModule *module, HvpGvaRange function, const char *name,
			 bool forbidden)
{
	g_autoptr(GArray) parts = cold_parts(self, module, function, name);

	add(self, function, forbidden);
	for (guint i = 0; i < parts->len; i++)
		add(self, g_array_index(parts, HvpGvaRange, i), forbidden);
}

static void plan_site(HvpOracle *self, const HvpRecordSite *site, HvpGvaRange new_text,
		      HvpOracleWay way)
{
	HvpModules *modules = self->target->modules;
	HvpModule *patch = hvp_modules_find_address(modules, site->new_function);
	HvpModule *object = site->module.value ? hvp_modules_find_address(modules, site->old.start)
					       : NULL;
	HvpGvaRange range;
	const char *name;

	/* Its module is gone, or was loaded again since. */
	if (site->module.value != (object ? object->address.value : 0))
		return;
	add_function(self, object, site->old, site->name, way == HVP_ORACLE_OLD_CODE_GOES);
	if (patch != NULL && hvp_gva_range_contains(new_text, site->new_function) &&
	    hvp_modules_symbolize(modules, patch, site->new_function, &name, &range))
		add_function(self, patch, range, name, way == HVP_ORACLE_NEW_CODE_GOES);
}

void hvp_oracle_plan(HvpOracle *self, const HvpRecord *record, HvpGvaRange new_text,
		     HvpOracleWay way)
{
	for (guint i = 0; self != NULL && i < record->sites->len; i++)
		plan_site(self, &g_array_index(record->sites, HvpRecordSite, i), new_text, way);
}

/* Up to behind a jump that the switch writes into @change's range. */
static void allow_jump(HvpPluginChange *change, const HvpChanges *changes)
{
	for (guint i = 0; i < changes->text->len; i++) {
		HvpGva site = g_array_index(changes->text, HvpTextChange, i).site.site;

		if (hvp_gva_range_contains(change->range, site))
			change->allowed_end = hvp_gva(
				MIN(site.value + HVP_PLAN_JUMP_BYTES, change->range.end.value));
	}
}

/* --- having it translated anew --- */

static bool renew_range(HvpOracle *self, HvpKeeper *keeper, HvpGvaRange range, GError **error)
{
	HvpAddressSpace *space = hvp_kernel_get_space(self->target->kernel);
	gsize bytes = hvp_gva_range_size(range);
	g_autofree guint8 *code = g_malloc(bytes);

	return hvp_address_space_read(space, range.start, code, bytes, error) &&
	       hvp_guest_write(keeper, space, range.start, code, bytes, error);
}

/* Writes every byte as it is: QEMU drops exactly the translations that a write touches. */
static bool renew_all(HvpOracle *self, HvpKeeper *keeper, GError **error)
{
	for (guint i = 0; i < self->changes->len; i++)
		if (!renew_range(self, keeper,
				 g_array_index(self->changes, HvpPluginChange, i).range, error))
			return false;
	return true;
}

static bool stop_and_renew(HvpOracle *self, HvpKeeper *keeper, gint64 *longest_usec, GError **error)
{
	g_auto(HvpKeeperStop) stop = { 0 };
	gint64 started = g_get_monotonic_time();
	bool ok;

	if (!hvp_keeper_stop(keeper, RENEW_BUDGET_USEC, &stop, error))
		return false;
	ok = renew_all(self, keeper, error);
	ok = hvp_keeper_resume(keeper, NULL, ok ? error : NULL) && ok;
	*longest_usec = MAX(*longest_usec, g_get_monotonic_time() - started);
	return ok;
}

static bool check_size(const HvpOracle *self, GError **error)
{
	gsize bytes = 0;

	for (guint i = 0; i < self->changes->len; i++)
		bytes += hvp_gva_range_size(g_array_index(self->changes, HvpPluginChange, i).range);
	return bytes <= MAX_WATCHED_BYTES ||
	       hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "the patch has more code than the QEMU plugin is told to watch");
}

bool hvp_oracle_watch(HvpOracle *self, HvpKeeper *keeper, const HvpChanges *changes,
		      gint64 *longest_usec, GError **error)
{
	g_autoptr(GArray) ranges = g_array_new(FALSE, FALSE, sizeof(HvpGvaRange));

	if (self == NULL)
		return true;
	if (!hvp_oracle_check(self, error) || !check_size(self, error))
		return false;
	for (guint i = 0; i < self->changes->len; i++) {
		HvpPluginChange *change = &g_array_index(self->changes, HvpPluginChange, i);

		allow_jump(change, changes);
		g_array_append_val(ranges, change->range);
	}
	return hvp_plugin_watch(self->plugin, (const HvpGvaRange *)(void *)ranges->data,
				ranges->len, hvp_deadline_in(ANSWER_USEC), error) &&
	       stop_and_renew(self, keeper, longest_usec, error);
}

bool hvp_oracle_switch(HvpOracle *self, GError **error)
{
	return self == NULL ||
	       (hvp_oracle_check(self, error) &&
		hvp_plugin_switch(self->plugin,
				  (const HvpPluginChange *)(void *)self->changes->data,
				  self->changes->len, hvp_deadline_in(STOPPED_ANSWER_USEC), error));
}
