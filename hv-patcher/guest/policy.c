/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/policy.h"

#include <string.h>

/* Of ima_appraise: security/integrity/ima/ima.h. */
#define IMA_APPRAISE_ENFORCE 0x01U
#define IMA_APPRAISE_MODULES 0x08U

/*
 * module.sig_enforce by its kernel_param: the variable itself has a namesake in kexec. Without
 * MODULE_SIG there is no such parameter.
 */
static bool read_signature_parameter(HvpKernel *kernel, bool *ret_enforced, GError **error)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	HvpAddressSpace *space = hvp_kernel_get_space(kernel);
	HvpGva parameter;
	guint64 variable;
	guint8 value;

	*ret_enforced = false;
	if (!hvp_kernel_has_symbol(kernel, "__param_sig_enforce"))
		return true;
	if (!hvp_layout_require(layout, HVP_AT_KERNEL_PARAM_ARG, error) ||
	    !hvp_kernel_symbol(kernel, "__param_sig_enforce", &parameter, error) ||
	    !hvp_address_space_read_u64(
		    space, hvp_gva_add(parameter, hvp_layout_get(layout, HVP_AT_KERNEL_PARAM_ARG)),
		    &variable, error) ||
	    !hvp_address_space_read(space, hvp_gva(variable), &value, 1, error))
		return false;
	*ret_enforced = value != 0;
	return true;
}

/* A variable that a kernel without the feature does not have; 0 then. */
static bool read_optional(HvpKernel *kernel, const char *name, guint32 *ret_value, GError **error)
{
	*ret_value = 0;
	return !hvp_kernel_has_symbol(kernel, name) ||
	       hvp_kernel_read_u32(kernel, name, ret_value, error);
}

/*
 * IMA appraises modules by their files. One that comes without a file, as ours do, it refuses,
 * unless the kernel itself wants signatures: ima_load_data().
 */
static bool read_ima(HvpKernel *kernel, HvpPolicy *policy, GError **error)
{
	guint32 appraise;

	if (!read_optional(kernel, "ima_appraise", &appraise, error))
		return false;
	policy->ima = (appraise & IMA_APPRAISE_ENFORCE) != 0 &&
		      (appraise & IMA_APPRAISE_MODULES) != 0 && !policy->signature_enforced;
	return true;
}

/* Modules that watch kernel text and react to a change of it. */
static void find_guard(HvpModules *modules, HvpPolicy *policy)
{
	static const char *const guards[] = { "lkrg", "p_lkrg" };

	for (guint i = 0; i < G_N_ELEMENTS(guards); i++)
		if (hvp_modules_find(modules, guards[i]) != NULL)
			g_strlcpy(policy->guard, guards[i], sizeof policy->guard);
}

static void read_vermagic(HvpKernel *kernel, HvpPolicy *policy)
{
	HvpGva address;

	if (!hvp_kernel_symbol(kernel, "vermagic", &address, NULL) ||
	    !hvp_address_space_read_string(hvp_kernel_get_space(kernel), address, policy->vermagic,
					   sizeof policy->vermagic, NULL))
		policy->vermagic[0] = 0;
}

bool hvp_policy_read(HvpKernel *kernel, HvpModules *modules, HvpPolicy *ret_policy, GError **error)
{
	HvpPolicy policy = { 0 };
	guint32 disabled, lockdown;

	policy.can_load_modules = hvp_kernel_has_symbol(kernel, "load_module");
	policy.can_livepatch = hvp_kernel_has_symbol(kernel, "klp_enable_patch");
	if (!read_optional(kernel, "modules_disabled", &disabled, error) ||
	    !read_optional(kernel, "kernel_locked_down", &lockdown, error) ||
	    !read_signature_parameter(kernel, &policy.signature_enforced, error))
		return false;
	policy.modules_disabled = disabled != 0;
	/* LOCKDOWN_MODULE_SIGNATURE is the first step above none. */
	policy.signature_enforced |= lockdown != 0;
	policy.loadpin = hvp_kernel_has_symbol(kernel, "loadpin_read_file") ||
			 hvp_kernel_has_symbol(kernel, "loadpin_load_data");
	if (!read_ima(kernel, &policy, error))
		return false;
	find_guard(modules, &policy);
	read_vermagic(kernel, &policy);
	*ret_policy = policy;
	return true;
}
