/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest's owner has decided about loading code into the kernel. Loading from
 * the host would pass by some of these locks; they are honoured all the same.
 */
#pragma once

#include "guest/modules.h"

typedef struct {
	bool can_load_modules;		   /* MODULES */
	bool can_livepatch;		   /* LIVEPATCH */
	bool modules_disabled;		   /* sysctl kernel.modules_disabled */
	bool signature_enforced;	   /* module.sig_enforce or lockdown */
	bool loadpin;			   /* the loadpin LSM is there */
	bool ima;			   /* IMA refuses modules that come without a file */
	char guard[HVP_MODULE_NAME_BYTES]; /* a module that guards kernel text; "" */
	char vermagic[256];		   /* what a module's must be; "" where it cannot be read */
} HvpPolicy;

bool hvp_policy_read(HvpKernel *kernel, HvpModules *modules, HvpPolicy *ret_policy,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;
