/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libhvpatch-plugin.so: qemu-system-x86_64 -plugin libhvpatch-plugin.so,socket=PATH
 *
 * Watches an emulated guest execute: how often each instruction of some address ranges runs, on
 * which vCPU, and whether one ran that must not. It never stops or changes the guest. Counting an
 * instruction takes a call: the sums that QEMU can add by itself are lost between vCPUs.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "qemu-abi.h"
#include "server.h"

#define OLDEST_API 1
/* What a QEMU has at the least that no longer takes version 1. */
#define SECOND_API 2
#define SECOND_API_SYMBOL "qemu_plugin_scoreboard_new"
#define OPTION "socket="

/*
 * QEMU reads it once the library is loaded, before it calls anything, and refuses by itself, with
 * both versions named, what is too new or too old for it.
 */
int qemu_plugin_version = OLDEST_API;

static PluginWatch watch;
static char *socket_path;

__attribute__((constructor)) static void choose_version(void)
{
	if (dlsym(RTLD_DEFAULT, SECOND_API_SYMBOL) != NULL)
		qemu_plugin_version = SECOND_API;
}

static void on_execute(unsigned int vcpu_index, void *insn)
{
	plugin_watch_execute(&watch, insn, vcpu_index);
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t count = qemu_plugin_tb_n_insns(tb);
	uint64_t first, last;

	(void)id;
	if (count == 0)
		return;
	first = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
	last = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, count - 1));
	if (!plugin_watch_may_hold(&watch, first, last + 1) ||
	    !plugin_watch_holds(&watch, first, last + 1))
		return;
	for (size_t i = 0; i < count; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		PluginInsn *record = plugin_watch_find(&watch, qemu_plugin_insn_vaddr(insn));

		if (record != NULL)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_execute,
							       QEMU_PLUGIN_CB_NO_REGS, record);
	}
}

static void on_exit(qemu_plugin_id_t id, void *data)
{
	(void)id;
	(void)data;
	unlink(socket_path);
}

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "hvpatch plugin: %s%s%s\n", what, why[0] ? ": " : "", why);
	return -1;
}

static int check_qemu(const qemu_info_t *info)
{
	if (!info->system_emulation || strcmp(info->target_name, "x86_64") != 0)
		return fail("it is for qemu-system-x86_64, not for", info->target_name);
	return 0;
}

static int check_options(int argc, char **argv)
{
	if (argc != 1 || strncmp(argv[0], OPTION, strlen(OPTION)) != 0)
		return fail("usage: -plugin libhvpatch-plugin.so," OPTION "PATH", "");
	socket_path = argv[0] + strlen(OPTION);
	return 0;
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	const char *reason;
	int listener;

	if (check_qemu(info) != 0 || check_options(argc, argv) != 0)
		return -1;
	if (!plugin_watch_init(&watch, (uint32_t)info->system.max_vcpus))
		return fail("too many vCPUs, or no memory", "");
	listener = plugin_server_listen(socket_path, &reason);
	if (listener < 0)
		return fail(socket_path, reason);
	if (!plugin_server_start(&watch, (uint32_t)qemu_plugin_version, listener))
		return fail("no thread", strerror(errno));
	qemu_plugin_register_atexit_cb(id, on_exit, NULL);
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
	return 0;
}
