/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tables that klp-build puts into a livepatch module, the means to write one
 * in C, and the init that makes struct klp_patch of them. make-klp-build turns
 * what the kernel's build makes of it into either generation of the format
 * (include/linux/livepatch_external.h since 6.19).
 *
 * The tables may lie in memory that is freed behind the init, so nothing of them
 * is kept but the strings and functions that they point to.
 */
#ifndef HVP_KLP_BUILD_H
#define HVP_KLP_BUILD_H

#ifndef pr_fmt
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#endif

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/slab.h>

struct hvp_klp_func_ext {
	const char *old_name;
	void *new_func;
	unsigned long sympos;
};

struct hvp_klp_object_ext {
	/* NULL: vmlinux. */
	const char *name;
	const struct hvp_klp_func_ext *funcs;
	struct klp_callbacks callbacks;
	unsigned int nr_funcs;
};

/* Aligned, so that the tables of several files follow each other without a gap. */
#define HVP_KLP_FUNCS __used __aligned(8) __section("__klp_funcs")
#define HVP_KLP_OBJECTS __used __aligned(8) __section("__klp_objects")

/*
 * A name that only the livepatch core can resolve, see make-klp-build. Weak: the
 * kernel's build does not know it, and is not to complain.
 */
#define HVP_KLP_SYMBOL(object, name, sympos) \
	__asm__(".klp.sym." #object "." #name ".." #sympos) __weak

/* make-klp-build says where they are. Before that there is nothing to patch. */
extern const struct hvp_klp_object_ext __start_klp_objects[] __weak;
extern const struct hvp_klp_object_ext __stop_klp_objects[] __weak;

static struct klp_object *hvp_klp_objects;
static struct klp_patch hvp_klp_patch = {
	.mod = THIS_MODULE,
	.replace = true,
};

static void hvp_klp_free_objects(void)
{
	struct klp_object *object;

	for (object = hvp_klp_objects; object && (object->name || object->funcs); object++)
		kfree(object->funcs);
	kfree(hvp_klp_objects);
}

static bool hvp_klp_fill_object(struct klp_object *object, const struct hvp_klp_object_ext *from)
{
	unsigned int i;

	object->funcs = kcalloc(from->nr_funcs + 1, sizeof(*object->funcs), GFP_KERNEL);
	if (!object->funcs)
		return false;
	object->name = from->name;
	object->callbacks = from->callbacks;
	for (i = 0; i < from->nr_funcs; i++) {
		object->funcs[i].old_name = from->funcs[i].old_name;
		object->funcs[i].new_func = from->funcs[i].new_func;
		object->funcs[i].old_sympos = from->funcs[i].sympos;
	}
	return true;
}

static bool hvp_klp_fill_objects(size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		if (!hvp_klp_fill_object(&hvp_klp_objects[i], &__start_klp_objects[i]))
			return false;
	}
	return true;
}

static int __init hvp_init(void)
{
	size_t count = __stop_klp_objects - __start_klp_objects;
	int error = -ENOMEM;

	if (count == 0) {
		pr_err("no objects\n");
		return -EINVAL;
	}
	hvp_klp_objects = kcalloc(count + 1, sizeof(*hvp_klp_objects), GFP_KERNEL);
	if (!hvp_klp_objects)
		return -ENOMEM;
	hvp_klp_patch.objs = hvp_klp_objects;
	if (hvp_klp_fill_objects(count))
		error = klp_enable_patch(&hvp_klp_patch);
	if (error)
		hvp_klp_free_objects();
	return error;
}

static void __exit hvp_exit(void)
{
	hvp_klp_free_objects();
}

module_init(hvp_init);
module_exit(hvp_exit);
MODULE_DESCRIPTION("hvpatch test module");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

#endif
