/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/result.h"

const char *hvp_result_kind_name(HvpResultKind kind)
{
	static const char *const names[] = { "applied", "reverted", "busy",
					     "refused", "failed",   "rolled-back" };

	return (guint)kind < G_N_ELEMENTS(names) ? names[kind] : "failed";
}

HvpResultKind hvp_result_kind_of(const GError *error)
{
	switch (hvp_error_exit_status(error)) {
	case 4:
		return HVP_RESULT_BUSY;
	case 2:
	case 3:
	case 5:
		return HVP_RESULT_REFUSED;
	case 6:
		return HVP_RESULT_ROLLED_BACK;
	default:
		return HVP_RESULT_FAILED;
	}
}

static void function_free(gpointer data)
{
	HvpFunctionResult *function = data;

	g_free(function->object);
	g_free(function->name);
	g_free(function);
}

HvpResult *hvp_result_new(void)
{
	HvpResult *self = g_new0(HvpResult, 1);

	self->kind = HVP_RESULT_FAILED;
	self->functions = g_ptr_array_new_with_free_func(function_free);
	self->blockers = g_ptr_array_new_with_free_func((GDestroyNotify)hvp_prove_free_blocker);
	self->met = g_ptr_array_new_with_free_func((GDestroyNotify)hvp_prove_free_blocker);
	return self;
}

void hvp_result_free(HvpResult *self)
{
	if (self == NULL)
		return;
	g_free(self->message);
	g_free(self->patch);
	g_free(self->sha256);
	g_ptr_array_unref(self->functions);
	g_ptr_array_unref(self->blockers);
	g_ptr_array_unref(self->met);
	g_free(self);
}

void hvp_result_add_function(HvpResult *self, const char *object, const char *name,
			     HvpGva old_address, HvpGva new_address, HvpGva site)
{
	HvpFunctionResult *function = g_new0(HvpFunctionResult, 1);

	function->object = g_strdup(object);
	function->name = g_strdup(name);
	function->old_address = old_address;
	function->new_address = new_address;
	function->site = site;
	g_ptr_array_add(self->functions, function);
}
