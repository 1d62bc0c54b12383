/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every hand-written livepatch module of the tests ends with: its
 * klp_patch and the init function that hands it to klp_enable_patch.
 */
#ifndef HVP_PATCH_H
#define HVP_PATCH_H

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

/* The module applies PATCH (a struct klp_patch) when it is loaded. */
#define HVP_MODULE(patch)                          \
	static int __init hvp_init(void)           \
	{                                          \
		return klp_enable_patch(&(patch)); \
	}                                          \
	static void __exit hvp_exit(void)          \
	{                                          \
	}                                          \
	module_init(hvp_init);                     \
	module_exit(hvp_exit);                     \
	MODULE_DESCRIPTION("hvpatch test module"); \
	MODULE_LICENSE("GPL");                     \
	MODULE_INFO(livepatch, "Y")

/* The module applies OBJECTS, an array that ends in an empty entry. */
#define HVP_PATCH(objects)                  \
	static struct klp_patch hvp_patch = { \
		.mod = THIS_MODULE,         \
		.objs = (objects),          \
	};                                  \
	HVP_MODULE(hvp_patch)

/* The usual case: the functions FUNCTIONS of vmlinux and nothing else. */
#define HVP_PATCH_VMLINUX(functions)            \
	static struct klp_object hvp_objects[] = { \
		{ .funcs = (functions) },       \
		{ }                             \
	};                                      \
	HVP_PATCH(hvp_objects)

#endif
