/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A folder that looks like /proc to the agent. */
#pragma once

#include <glib.h>
#include <glib/gstdio.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#define FAKE_PF_WQ_WORKER 0x20U
#define FAKE_PF_KTHREAD 0x200000U
#define FAKE_PF_NO_SETAFFINITY 0x4000000U
#define FAKE_BOOT_ID "6c1d3c6e-8f1b-4a32-8a39-0d5b0a7f4a11"

typedef struct {
	int pid;
	const char *comm;
	guint flags;
	char letter;
	guint64 start_ticks, voluntary, involuntary;
	const char *cpus, *wchan, *stack; /* stack NULL: not readable */
} FakeTask;

static inline void fake_proc_put(const char *root, const char *path, const char *text)
{
	g_autofree char *full = g_build_filename(root, path, NULL);
	g_autofree char *folder = g_path_get_dirname(full);

	g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
	g_assert_true(g_file_set_contents(full, text, -1, NULL));
}

static inline void fake_proc_put_of(const char *root, int pid, const char *name, const char *text)
{
	g_autofree char *path = g_strdup_printf("%d/%s", pid, name);

	fake_proc_put(root, path, text);
}

static inline void fake_proc_put_task(const char *root, const FakeTask *task)
{
	g_autofree char *stat = g_strdup_printf(
		"%d (%s) %c 2 0 0 0 -1 %u 0 0 0 0 0 0 0 0 20 0 1 0 %" G_GUINT64_FORMAT
		" 0 0 18446744073709551615 0 0\n",
		task->pid, task->comm, task->letter, task->flags, task->start_ticks);
	g_autofree char *status = g_strdup_printf(
		"Name:\t%s\nUmask:\t0000\nState:\t%c (some)\nCpus_allowed:\t3\n"
		"Cpus_allowed_list:\t%s\nMems_allowed_list:\t0\n"
		"voluntary_ctxt_switches:\t%" G_GUINT64_FORMAT
		"\nnonvoluntary_ctxt_switches:\t%" G_GUINT64_FORMAT "\n",
		task->comm, task->letter, task->cpus, task->voluntary, task->involuntary);

	fake_proc_put_of(root, task->pid, "stat", stat);
	fake_proc_put_of(root, task->pid, "status", status);
	fake_proc_put_of(root, task->pid, "wchan", task->wchan);
	if (task->stack != NULL)
		fake_proc_put_of(root, task->pid, "stack", task->stack);
}

static inline void fake_proc_remove(const char *path)
{
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	const char *name;

	while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
		g_autofree char *inner = g_build_filename(path, name, NULL);

		fake_proc_remove(inner);
	}
	g_assert_cmpint(g_remove(path), ==, 0);
}

static inline void fake_proc_remove_task(const char *root, int pid)
{
	g_autofree char *name = g_strdup_printf("%d", pid);
	g_autofree char *path = g_build_filename(root, name, NULL);

	fake_proc_remove(path);
}

/* An empty one, but for what is no task. */
static inline char *fake_proc_new(void)
{
	char *root = g_dir_make_tmp("hvp-proc-XXXXXX", NULL);

	g_assert_nonnull(root);
	fake_proc_put(root, "sys/kernel/random/boot_id", FAKE_BOOT_ID "\n");
	fake_proc_put(root, "modules", "");
	fake_proc_put(root, "12x/stat", "12 (no pid) S");
	return root;
}

static const FakeTask fake_init = { .pid = 1,
				    .comm = "init",
				    .flags = 0x400100,
				    .letter = 'S',
				    .cpus = "0-1",
				    .wchan = "do_wait",
				    .voluntary = 5 };
static const FakeTask fake_kthreadd = { .pid = 2,
					.comm = "kthreadd",
					.flags = 0x208040,
					.letter = 'S',
					.cpus = "0-1",
					.wchan = "kthreadd",
					.voluntary = 90,
					.involuntary = 1 };
static const FakeTask fake_idle_worker = {
	.pid = 12,
	.comm = "kworker/0:1-events",
	.flags = 0x4208060,
	.letter = 'I',
	.cpus = "0",
	.wchan = "worker_thread",
	.start_ticks = 77,
	.voluntary = 123,
	.involuntary = 4,
	.stack = "[<0>] worker_thread+0x12a/0x3a0\n[<0>] kthread+0xdb/0x100\n"
		 "[<0>] hvp_x+0x1/0x2 [hvp_stacks]\n"
};
