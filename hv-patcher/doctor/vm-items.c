/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "doctor/vm-items.h"

#include <string.h>

#define CHANNEL                 \
	"<channel type='unix'>" \
	"<target type='virtio' name='org.hvpatch.agent.0'/></channel>"
#define MEMORY_BACKING \
	"<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"

static bool is_domain(const HvpFactsVm *vm)
{
	return vm->kind == HVP_FACTS_DOMAIN;
}

/* "virsh -c URI COMMAND UUID"; the caller's. */
static char *virsh(const HvpFactsHost *host, const HvpFactsVm *vm, const char *command)
{
	g_autofree char *uri = g_shell_quote(host->libvirt_uri ? host->libvirt_uri : "");

	return g_strdup_printf("virsh -c %s %s %s", uri, command, vm->uuid);
}

/* A command of QMP sent by hand; the caller's. */
static char *qmp(const HvpFactsVm *vm, const char *command)
{
	g_autofree char *address = g_strdup_printf("UNIX-CONNECT:%s", vm->name);
	g_autofree char *quoted = g_shell_quote(address);

	return g_strdup_printf("(echo '{\"execute\":\"qmp_capabilities\"}'; echo '%s'; sleep 1) | "
			       "socat - %s",
			       command, quoted);
}

/* What takes a change of the domain's XML that needs a cold start; the caller's. */
static char *edit(const HvpFactsHost *host, const HvpFactsVm *vm, const char *change)
{
	g_autofree char *command = virsh(host, vm, "edit");

	return g_strdup_printf("%s   # then shut it down and start it\n# %s", command, change);
}

static bool add_reached(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	g_autofree char *process = vm->pid > 0 ? g_strdup_printf(", pid %d", (int)vm->pid) : NULL;

	if (vm->reach_error == NULL) {
		hvp_item_ok(items, "vm", "%s %s%s", is_domain(vm) ? "domain" : "QEMU at", vm->name,
			    process ? process : "");
		return true;
	}
	if (is_domain(vm) && host->libvirt_error == NULL) {
		g_autofree char *uri = g_shell_quote(host->libvirt_uri ? host->libvirt_uri : "");

		hvp_item_miss_error(items, "vm", vm->reach_error,
				    g_strdup_printf("virsh -c %s list --all", uri));
	} else if (g_error_matches(vm->reach_error, HVP_ERROR, HVP_ERROR_BUSY)) {
		hvp_item_miss_error(items, "vm", vm->reach_error,
				    g_strdup("# give QEMU a monitor for hvpatch alone: -qmp "
					     "unix:PATH,server=on,wait=off"));
	} else {
		hvp_item_miss_error(items, "vm", vm->reach_error, NULL);
	}
	return false;
}

static char *mend_state(const HvpFactsHost *host, const HvpFactsVm *vm)
{
	bool is_paused = g_strcmp0(vm->state, "paused") == 0;

	if (is_domain(vm) && vm->is_active)
		return is_paused ? virsh(host, vm, "resume") : NULL;
	if (is_domain(vm))
		return virsh(host, vm, "start");
	return is_paused || g_strcmp0(vm->state, "prelaunch") == 0
		       ? qmp(vm, "{\"execute\":\"cont\"}")
		       : NULL;
}

static void add_state(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	const char *state = vm->state ? vm->state : "in a state that is not told";

	if (vm->is_running)
		hvp_item_ok(items, "state", "%s", state);
	else if (!vm->is_active)
		hvp_item_miss(items, "state", HVP_ERROR_CONFLICT, mend_state(host, vm),
			      "%s: there is no kernel to patch", state);
	else
		hvp_item_miss(items, "state", HVP_ERROR_CONFLICT, mend_state(host, vm),
			      "%s: it can be looked at, but a guest thread has to run to load a "
			      "patch, and a pause of the owner's is kept",
			      state);
}

static void add_architecture(GPtrArray *items, const HvpFactsVm *vm)
{
	if (vm->architecture == NULL)
		return;
	if (strcmp(vm->architecture, "x86_64") == 0)
		hvp_item_ok(items, "guest", "x86_64");
	else
		hvp_item_miss(items, "guest", HVP_ERROR_UNSUPPORTED, NULL,
			      "the VM's architecture is %s, not x86_64", vm->architecture);
}

static void add_accelerator(GPtrArray *items, const HvpFactsVm *vm)
{
	switch (vm->accelerator) {
	case HVP_FACTS_ACCELERATOR_TCG:
		hvp_item_ok(items, "accelerator",
			    "tcg: all commands, through QEMU's gdb stub: each stop is seen as a "
			    "short pause%s",
			    is_domain(vm) ? ", and libvirt marks the domain as custom-monitor"
					  : "");
		break;
	case HVP_FACTS_ACCELERATOR_KVM:
		hvp_item_ok(items, "accelerator",
			    "kvm: all commands, through the threads of its vCPUs: nobody sees a "
			    "pause");
		break;
	case HVP_FACTS_ACCELERATOR_OTHER:
		hvp_item_miss(items, "accelerator", HVP_ERROR_UNSUPPORTED, NULL,
			      "neither tcg nor kvm");
		break;
	default:
		hvp_item_unknown(items, "accelerator", "it is not told whether this is tcg or kvm");
	}
}

static void add_encryption(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	if (vm->encryption == NULL)
		hvp_item_ok(items, "encryption", "none: its memory can be read");
	else
		hvp_item_miss(items, "encryption", HVP_ERROR_UNSUPPORTED,
			      is_domain(vm) ? edit(host, vm, "take <launchSecurity> away") : NULL,
			      "%s: the host cannot read the guest's memory", vm->encryption);
}

static void add_job(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	if (vm->job != NULL)
		hvp_item_miss(items, "job", HVP_ERROR_BUSY,
			      is_domain(vm) ? virsh(host, vm, "domjobinfo")
					    : qmp(vm, "{\"execute\":\"query-migrate\"}"),
			      "%s: a write now could be lost; wait until it is over", vm->job);
	else if (vm->job_error != NULL)
		hvp_item_unknown(items, "job", "%s", vm->job_error->message);
	else
		hvp_item_ok(items, "job", "none that moves or reads its memory");
}

/* Of those that are on, what takes pages away from under a reader or a writer; the caller's. */
static char *harmful_capabilities(char *const *capabilities)
{
	static const char *const harmful[] = { "postcopy-ram", "background-snapshot", "x-colo",
					       NULL };
	g_autoptr(GStrvBuilder) found = g_strv_builder_new();
	g_auto(GStrv) names = NULL;

	for (; *capabilities != NULL; capabilities++)
		if (g_strv_contains(harmful, *capabilities))
			g_strv_builder_add(found, *capabilities);
	names = g_strv_builder_end(found);
	return names[0] != NULL ? g_strjoinv(", ", names) : NULL;
}

static char *clear_capabilities(const HvpFactsVm *vm, const char *names)
{
	g_auto(GStrv) each = g_strsplit(names, ", ", -1);
	g_autofree char *joined = g_strjoinv("\",\"state\":false},{\"capability\":\"", each);
	g_autofree char *command = g_strdup_printf(
		"{\"execute\":\"migrate-set-capabilities\",\"arguments\":{"
		"\"capabilities\":[{\"capability\":\"%s\",\"state\":false}]}}",
		joined);

	return qmp(vm, command);
}

static void add_migration(GPtrArray *items, const HvpFactsVm *vm)
{
	g_autofree char *harmful = vm->capabilities ? harmful_capabilities(vm->capabilities) : NULL;

	if (vm->has_userfaultfd == HVP_FACTS_YES)
		hvp_item_miss(items, "migration", HVP_ERROR_BUSY, NULL,
			      "QEMU has a userfaultfd: post-copy or a background snapshot holds "
			      "pages of the guest; wait until it is over");
	else if (harmful != NULL)
		hvp_item_warn(items, "migration", clear_capabilities(vm, harmful),
			      "%s on: the next migration or snapshot will hold pages back, and "
			      "until it is over hvpatch refuses to write",
			      harmful);
	else if (vm->has_userfaultfd == HVP_FACTS_UNKNOWN)
		hvp_item_unknown(items, "migration",
				 "QEMU's descriptors cannot be listed: post-copy or a background "
				 "snapshot may be under way");
	else if (vm->capabilities == NULL)
		hvp_item_ok(items, "migration",
			    "no page is held back; libvirt sets capabilities for each job and "
			    "takes them back, so they are not asked for");
	else
		hvp_item_ok(items, "migration",
			    "no page is held back; neither post-copy nor "
			    "background snapshots are on");
}

static void add_debugger(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	char *remedy;

	if (vm->debugger == NULL) {
		hvp_item_ok(items, "debugger", "QEMU's gdb stub is free");
		return;
	}
	remedy = is_domain(vm) ? edit(host, vm, "take -s or -gdb out of <qemu:commandline>")
			       : qmp(vm, "{\"execute\":\"human-monitor-command\",\"arguments\":"
					 "{\"command-line\":\"gdbserver none\"}}");
	hvp_item_miss(items, "debugger", HVP_ERROR_CONFLICT, remedy,
		      "a gdb stub of the owner's is there (%s), and QEMU has only one",
		      vm->debugger);
}

static void add_access(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	const char *user = vm->process_user_name ? vm->process_user_name : "?";

	if (vm->has_process != HVP_FACTS_YES)
		hvp_item_unknown(items, "access", "QEMU's process is not to be seen from here");
	else if (vm->access_error != NULL)
		hvp_item_miss_error(
			items, "access", vm->access_error,
			host->has_ptrace_capability ? NULL : g_strdup("# run hvpatch as root"));
	else if (vm->tracer != NULL && vm->accelerator == HVP_FACTS_ACCELERATOR_KVM)
		hvp_item_miss(items, "access", HVP_ERROR_CONFLICT, NULL,
			      "QEMU is traced already, by %s: a process has one tracer",
			      vm->tracer);
	else
		hvp_item_ok(items, "access", "QEMU runs as %s (uid %u) and can be read%s%s", user,
			    (guint)vm->process_user_id, vm->tracer ? "; it is traced by " : "",
			    vm->tracer ? vm->tracer : "");
}

/*
 * Shared memory is a file: it is read without QEMU's address space, and so never waits for its
 * locks or for a page that QEMU has to bring in.
 */
static void add_memory(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	const char *source = vm->memory_source ? vm->memory_source : "";
	const char *separator = vm->memory_source ? ", " : "";

	if (vm->memory_is_shared == HVP_FACTS_UNKNOWN) {
		hvp_item_unknown(items, "memory", "it is not told how it is backed");
		return;
	}
	if (vm->memory_is_shared == HVP_FACTS_YES) {
		hvp_item_ok(items, "memory", "shared%s%s: read as a file, beside QEMU", separator,
			    source);
		return;
	}
	hvp_item_ok(items, "memory",
		    "private%s%s: read through QEMU's address space; shared memory would be read "
		    "beside it",
		    separator, source);
	hvp_item_hint(items,
		      is_domain(vm)
			      ? edit(host, vm, MEMORY_BACKING)
			      : g_strdup("# start QEMU with -object memory-backend-memfd,id="
					 "ram,share=on,size=SIZE -machine memory-backend=ram"));
}

/*
 * Into the running domain, and its configuration if it has one. libvirt makes the controller that
 * a channel needs, but cannot plug one into a domain that runs.
 */
static char *attach_channel(const HvpFactsHost *host, const HvpFactsVm *vm)
{
	g_autofree char *attach = virsh(host, vm, "attach-device");
	bool is_live = vm->is_active && vm->has_serial_controller;
	const char *where = !vm->is_persistent ? "--live"
			    : is_live	       ? "--live --config"
					       : "--config";

	if (!is_live && !vm->is_persistent)
		return g_strdup(
			"# add to <devices>, and create the domain anew (it has no "
			"virtio-serial controller, which cannot be plugged in):\n# " CHANNEL);
	return g_strdup_printf("echo \"" CHANNEL "\" | %s /dev/stdin %s%s", attach, where,
			       vm->is_active && !is_live
				       ? "   # then shut it down and start it: it has no "
					 "virtio-serial controller, which cannot be plugged in"
				       : "");
}

static void add_agent(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	switch (vm->agent) {
	case HVP_FACTS_AGENT_OPEN:
		hvp_item_ok(items, "agent", "in the guest somebody is at org.hvpatch.agent.0");
		break;
	case HVP_FACTS_AGENT_CLOSED:
		hvp_item_warn(items, "agent",
			      g_strdup("dpkg -i hvpatch-agent_*.deb   # in the guest; see "
				       "guest-agent.md"),
			      "the channel is there, and in the guest nobody at it; hvpatch works "
			      "without");
		break;
	case HVP_FACTS_AGENT_ABSENT:
		hvp_item_warn(items, "agent",
			      is_domain(vm)
				      ? attach_channel(host, vm)
				      : g_strdup("# start QEMU with -device virtio-serial-pci "
						 "-chardev socket,id=hvpagent,path=PATH,server=on,"
						 "wait=off -device virtserialport,chardev="
						 "hvpagent,name=org.hvpatch.agent.0"),
			      "there is no channel org.hvpatch.agent.0; hvpatch works without, and "
			      "finds out by itself when kernel threads have moved on");
		break;
	default:
		hvp_item_unknown(items, "agent", "it is not told whether there is a channel");
	}
}

static void add_nested(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	HvpFactsAnswer nested = vm->nested;

	if (nested == HVP_FACTS_UNKNOWN && vm->cpu_is_hosts)
		nested = host->kvm_nested;
	if (nested == HVP_FACTS_NO)
		hvp_item_ok(items, "nested", "the guest cannot have guests of its own");
	else if (nested == HVP_FACTS_YES)
		hvp_item_warn(items, "nested",
			      is_domain(vm)
				      ? edit(host, vm,
					     "in <cpu>: <feature policy='disable' name='vmx'/> "
					     "or, of AMD, name='svm'")
				      : g_strdup("# start QEMU with -cpu ...,vmx=off or "
						 ",svm=off"),
			      "the guest may have guests of its own: a vCPU that runs one does not "
			      "count as standing still, and hvpatch tries again");
	else
		hvp_item_unknown(items, "nested",
				 "it is not told whether CPU %s has vmx or svm: a vCPU that runs a "
				 "guest's guest does not count as standing still",
				 vm->cpu ? vm->cpu : "(default)");
}

void hvp_vm_items_add(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	if (!add_reached(items, host, vm))
		return;
	add_state(items, host, vm);
	add_architecture(items, vm);
	add_accelerator(items, vm);
	add_encryption(items, host, vm);
	if (vm->is_active) {
		add_job(items, host, vm);
		add_migration(items, vm);
		add_debugger(items, host, vm);
		add_access(items, host, vm);
	}
	add_memory(items, host, vm);
	add_agent(items, host, vm);
	add_nested(items, host, vm);
}
