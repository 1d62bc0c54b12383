/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The four callbacks of an object: each logs "hvp_MODULE: OBJECT CALLBACK".
 */
#ifndef HVP_LOGGED_H
#define HVP_LOGGED_H

#include "hvp_patch.h"

static const char *hvp_logged_name(struct klp_object *object)
{
	return object->name ? object->name : "vmlinux";
}

static __maybe_unused int hvp_logged_pre_patch(struct klp_object *object)
{
	pr_info("%s pre_patch\n", hvp_logged_name(object));
	return 0;
}

static __maybe_unused void hvp_logged_post_patch(struct klp_object *object)
{
	pr_info("%s post_patch\n", hvp_logged_name(object));
}

static __maybe_unused void hvp_logged_pre_unpatch(struct klp_object *object)
{
	pr_info("%s pre_unpatch\n", hvp_logged_name(object));
}

static __maybe_unused void hvp_logged_post_unpatch(struct klp_object *object)
{
	pr_info("%s post_unpatch\n", hvp_logged_name(object));
}

/* All four, but for the pre_patch that is asked for. */
#define HVP_LOGGED_BUT(own_pre_patch)                      \
	{                                                  \
		.pre_patch = (own_pre_patch),              \
		.post_patch = hvp_logged_post_patch,       \
		.pre_unpatch = hvp_logged_pre_unpatch,     \
		.post_unpatch = hvp_logged_post_unpatch,   \
	}
#define HVP_LOGGED HVP_LOGGED_BUT(hvp_logged_pre_patch)

#endif
