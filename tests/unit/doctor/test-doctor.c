/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every state of every item, each from facts where all is well but for one thing. */
#include "doctor/doctor.h"

#include <string.h>

#include "doctor/host-items.h"

#define UUID "01234567-89ab-cdef-0123-456789abcdef"

typedef struct {
	HvpFactsHost host;
	HvpFactsVm vm;
} Facts;

static GError *make_error(HvpErrorCode code, const char *message)
{
	return g_error_new_literal(HVP_ERROR, (int)code, message);
}

static HvpFactsPlace make_place(const char *path)
{
	return (HvpFactsPlace){ g_strdup(path), NULL };
}

/* A host and an emulated domain that lack nothing. */
static void facts_init(Facts *self)
{
	self->host = (HvpFactsHost){
		.architecture = g_strdup("x86_64"),
		.user_name = g_strdup("root"),
		.yama_scope = 1,
		.has_ptrace_capability = true,
		.in_first_user_namespace = HVP_FACTS_YES,
		.apparmor_enabled = HVP_FACTS_YES,
		.apparmor_label = g_strdup("unconfined"),
		.qemu_path = g_strdup("/usr/bin/qemu-system-x86_64"),
		.qemu_version = 7002022,
		.libvirt_was_asked = true,
		.libvirt_uri = g_strdup("qemu:///system"),
		.libvirt_version = 9000000,
		.keeper = make_place("/k"),
		.bridge = make_place("/b"),
		.journal = make_place("/run/hvpatch"),
		.cache = make_place("/var/cache/hvpatch"),
		.plugin = make_place("/p.so"),
	};
	self->vm = (HvpFactsVm){
		.kind = HVP_FACTS_DOMAIN,
		.name = g_strdup("web"),
		.uuid = g_strdup(UUID),
		.is_persistent = true,
		.state = g_strdup("running"),
		.is_running = true,
		.is_active = true,
		.pid = 4711,
		.architecture = g_strdup("x86_64"),
		.accelerator = HVP_FACTS_ACCELERATOR_TCG,
		.has_userfaultfd = HVP_FACTS_NO,
		.has_process = HVP_FACTS_YES,
		.process_user_id = 64055,
		.process_user_name = g_strdup("libvirt-qemu"),
		.memory_is_shared = HVP_FACTS_YES,
		.agent = HVP_FACTS_AGENT_OPEN,
		.nested = HVP_FACTS_NO,
	};
}

static void facts_clear(Facts *self)
{
	hvp_facts_host_clear(&self->host);
	hvp_facts_vm_clear(&self->vm);
}

static void set(char **where, const char *text)
{
	g_free(*where);
	*where = g_strdup(text);
}

static void fail(HvpFactsPlace *place, HvpErrorCode code)
{
	place->error = make_error(code, "it is not there");
}

/* --- what may be otherwise --- */

static void nothing(Facts *self)
{
	(void)self;
}

static void on_arm(Facts *self)
{
	set(&self->host.architecture, "aarch64");
}

static void kvm_without_device(Facts *self)
{
	self->host.kvm_error = make_error(HVP_ERROR_NOT_FOUND, "/dev/kvm: no");
}

static void kvm_guest(Facts *self)
{
	self->vm.accelerator = HVP_FACTS_ACCELERATOR_KVM;
}

static void kvm_guest_without_device(Facts *self)
{
	kvm_guest(self);
	kvm_without_device(self);
}

static void kvm_guest_forbidden(Facts *self)
{
	kvm_guest(self);
	self->host.kvm_error = make_error(HVP_ERROR_PERMISSION, "/dev/kvm: no");
}

static void kvm_guest_old(Facts *self)
{
	kvm_guest(self);
	self->host.kvm_error = make_error(HVP_ERROR_UNSUPPORTED, "no registers");
}

static void yama_none(Facts *self)
{
	self->host.yama_scope = -1;
}

static void yama_0_user(Facts *self)
{
	self->host.yama_scope = 0;
	self->host.has_ptrace_capability = false;
}

static void yama_1_user(Facts *self)
{
	self->host.has_ptrace_capability = false;
}

static void yama_2_user(Facts *self)
{
	self->host.yama_scope = 2;
	self->host.has_ptrace_capability = false;
}

static void yama_2_root(Facts *self)
{
	self->host.yama_scope = 2;
}

static void yama_3_root(Facts *self)
{
	self->host.yama_scope = 3;
}

static void in_container(Facts *self)
{
	self->host.in_first_user_namespace = HVP_FACTS_NO;
}

static void selinux_permissive(Facts *self)
{
	self->host.selinux_enforces = HVP_FACTS_NO;
	self->host.selinux_denies_ptrace = HVP_FACTS_YES;
}

static void selinux_enforcing(Facts *self)
{
	self->host.selinux_enforces = HVP_FACTS_YES;
	self->host.selinux_denies_ptrace = HVP_FACTS_NO;
}

static void selinux_denying(Facts *self)
{
	self->host.selinux_enforces = HVP_FACTS_YES;
	self->host.selinux_denies_ptrace = HVP_FACTS_YES;
}

static void apparmor_off(Facts *self)
{
	self->host.apparmor_enabled = HVP_FACTS_NO;
}

static void apparmor_untold(Facts *self)
{
	set(&self->host.apparmor_label, NULL);
}

static void apparmor_confined(Facts *self)
{
	set(&self->host.apparmor_label, "hvpatch (enforce)");
	set(&self->host.apparmor_rules, "ptrace (readby, tracedby) peer=libvirtd,");
}

static void apparmor_allowed(Facts *self)
{
	set(&self->host.apparmor_label, "hvpatch (enforce)");
	set(&self->host.apparmor_rules, "  ptrace (readby, tracedby) peer=hvpatch,");
}

static void apparmor_unreadable(Facts *self)
{
	set(&self->host.apparmor_label, "hvpatch (enforce)");
}

static void qemu_none(Facts *self)
{
	set(&self->host.qemu_path, NULL);
}

static void qemu_silent(Facts *self)
{
	self->host.qemu_version = 0;
}

static void qemu_old(Facts *self)
{
	self->host.qemu_version = 6002000;
}

static void qemu_new(Facts *self)
{
	self->host.qemu_version = 11000000;
}

static void libvirt_old(Facts *self)
{
	self->host.libvirt_version = 8001009;
}

static void libvirt_forbidden(Facts *self)
{
	self->host.libvirt_error = make_error(HVP_ERROR_PERMISSION, "polkit says no");
	self->vm.reach_error = make_error(HVP_ERROR_NOT_FOUND, "no connection");
}

static void libvirt_gone(Facts *self)
{
	self->host.libvirt_error = make_error(HVP_ERROR_NOT_FOUND, "nobody listens");
	self->vm.reach_error = make_error(HVP_ERROR_NOT_FOUND, "no connection");
}

static void keeper_none(Facts *self)
{
	fail(&self->host.keeper, HVP_ERROR_NOT_FOUND);
}

static void bridge_none(Facts *self)
{
	fail(&self->host.bridge, HVP_ERROR_NOT_FOUND);
}

static void plugin_none(Facts *self)
{
	fail(&self->host.plugin, HVP_ERROR_NOT_FOUND);
}

static void journal_forbidden(Facts *self)
{
	fail(&self->host.journal, HVP_ERROR_PERMISSION);
}

static void cache_forbidden(Facts *self)
{
	fail(&self->host.cache, HVP_ERROR_PERMISSION);
}

static void vm_none(Facts *self)
{
	self->vm.reach_error = make_error(HVP_ERROR_NOT_FOUND, "there is no domain 'web'");
}

static void socket_vm(Facts *self)
{
	self->vm.kind = HVP_FACTS_SOCKET;
	set(&self->vm.name, "/run/a b.qmp");
	set(&self->vm.uuid, NULL);
	self->vm.capabilities = g_new0(char *, 1);
	self->host.libvirt_was_asked = false;
}

static void socket_busy(Facts *self)
{
	socket_vm(self);
	self->vm.reach_error = make_error(HVP_ERROR_BUSY, "another client");
}

static void vm_paused(Facts *self)
{
	set(&self->vm.state, "paused");
	self->vm.is_running = false;
}

static void socket_paused(Facts *self)
{
	socket_vm(self);
	vm_paused(self);
}

static void vm_off(Facts *self)
{
	set(&self->vm.state, "shut off");
	self->vm.is_running = self->vm.is_active = false;
	self->vm.pid = 0;
}

static void vm_arm(Facts *self)
{
	set(&self->vm.architecture, "aarch64");
}

static void accelerator_other(Facts *self)
{
	self->vm.accelerator = HVP_FACTS_ACCELERATOR_OTHER;
}

static void accelerator_untold(Facts *self)
{
	self->vm.accelerator = HVP_FACTS_ACCELERATOR_UNKNOWN;
}

static void encrypted(Facts *self)
{
	set(&self->vm.encryption, "sev");
}

static void job_running(Facts *self)
{
	set(&self->vm.job, "migration (active)");
}

static void job_untold(Facts *self)
{
	self->vm.job_error = make_error(HVP_ERROR_FAULT, "no answer");
}

static void postcopy_running(Facts *self)
{
	self->vm.has_userfaultfd = HVP_FACTS_YES;
}

static void descriptors_hidden(Facts *self)
{
	self->vm.has_userfaultfd = HVP_FACTS_UNKNOWN;
}

static void postcopy_set(Facts *self)
{
	socket_vm(self);
	g_strfreev(self->vm.capabilities);
	self->vm.capabilities = g_strsplit("events,postcopy-ram,background-snapshot", ",", -1);
}

static void debugger(Facts *self)
{
	set(&self->vm.debugger, "tcp::1234");
}

static void socket_debugger(Facts *self)
{
	socket_vm(self);
	debugger(self);
}

static void process_hidden(Facts *self)
{
	self->vm.has_process = HVP_FACTS_UNKNOWN;
}

static void access_forbidden(Facts *self)
{
	self->host.has_ptrace_capability = false;
	self->vm.access_error = make_error(HVP_ERROR_PERMISSION, "forbidden");
}

static void traced(Facts *self)
{
	set(&self->vm.tracer, "gdb (pid 3)");
}

static void kvm_traced(Facts *self)
{
	kvm_guest(self);
	traced(self);
}

static void memory_private(Facts *self)
{
	self->vm.memory_is_shared = HVP_FACTS_NO;
}

static void memory_untold(Facts *self)
{
	self->vm.memory_is_shared = HVP_FACTS_UNKNOWN;
}

static void agent_closed(Facts *self)
{
	self->vm.agent = HVP_FACTS_AGENT_CLOSED;
}

static void agent_absent(Facts *self)
{
	self->vm.agent = HVP_FACTS_AGENT_ABSENT;
	self->vm.has_serial_controller = true;
}

static void agent_absent_transient(Facts *self)
{
	self->vm.agent = HVP_FACTS_AGENT_ABSENT;
	self->vm.is_persistent = false;
}

static void agent_absent_plugged(Facts *self)
{
	agent_absent(self);
	self->vm.is_persistent = false;
}

static void agent_absent_cold(Facts *self)
{
	self->vm.agent = HVP_FACTS_AGENT_ABSENT;
}

static void agent_absent_off(Facts *self)
{
	vm_off(self);
	self->vm.agent = HVP_FACTS_AGENT_ABSENT;
}

static void agent_untold(Facts *self)
{
	self->vm.agent = HVP_FACTS_AGENT_UNKNOWN;
}

static void nested(Facts *self)
{
	self->vm.nested = HVP_FACTS_YES;
}

static void nested_by_host(Facts *self)
{
	self->vm.nested = HVP_FACTS_UNKNOWN;
	self->vm.cpu_is_hosts = true;
	self->host.kvm_nested = HVP_FACTS_YES;
}

static void not_nested_by_host(Facts *self)
{
	nested_by_host(self);
	self->host.kvm_nested = HVP_FACTS_NO;
}

static void nested_untold(Facts *self)
{
	self->vm.nested = HVP_FACTS_UNKNOWN;
	set(&self->vm.cpu, "EPYC");
}

typedef struct {
	const char *name; /* of the item, and a word that tells the case */
	void (*change)(Facts *self);
	HvpItemState state;
	int exit_status; /* of the whole */
	const char *why; /* a piece of it */
	const char *remedy;
} Case;

#define OK HVP_ITEM_OK
#define WARNING HVP_ITEM_WARNING
#define MISSING HVP_ITEM_MISSING
#define UNKNOWN HVP_ITEM_UNKNOWN

static const Case cases[] = {
	{ "machine", nothing, OK, 0, "x86_64", NULL },
	{ "machine aarch64", on_arm, MISSING, 3, "aarch64", "on the x86-64 host" },
	{ "kvm", nothing, OK, 0, "/dev/kvm", NULL },
	{ "kvm unused", kvm_without_device, WARNING, 0, "emulated ones can", "modprobe kvm_intel" },
	{ "kvm needed", kvm_guest_without_device, MISSING, 1, "/dev/kvm: no", "modprobe" },
	{ "kvm forbidden", kvm_guest_forbidden, MISSING, 5, "/dev/kvm: no",
	  "usermod -aG kvm 'root'" },
	{ "kvm old", kvm_guest_old, MISSING, 3, "no registers", "KVM_CAP_SYNC_REGS" },
	{ "ptrace", nothing, OK, 0, "ptrace_scope = 1", NULL },
	{ "ptrace no-yama", yama_none, OK, 0, "no Yama", NULL },
	{ "ptrace 0-user", yama_0_user, WARNING, 0, "only VMs of user root", "as root" },
	{ "ptrace 1-user", yama_1_user, MISSING, 5, "lacks CAP_SYS_PTRACE", "ptrace_scope=0" },
	{ "ptrace 2-user", yama_2_user, MISSING, 5, "ptrace_scope = 2", "run hvpatch as root" },
	{ "ptrace 2-root", yama_2_root, OK, 0, "ptrace_scope = 2", NULL },
	{ "ptrace 3-root", yama_3_root, MISSING, 5, "ptrace_scope = 3: nobody", "then reboot" },
	{ "ptrace container", in_container, WARNING, 0, "user namespace of its own",
	  "userns=host" },
	{ "selinux none", nothing, OK, 0, "there is none", NULL },
	{ "selinux permissive", selinux_permissive, OK, 0, "permissive", NULL },
	{ "selinux enforcing", selinux_enforcing, OK, 0, "deny_ptrace is off", NULL },
	{ "selinux denying", selinux_denying, MISSING, 5, "deny_ptrace is on",
	  "setsebool -P deny_ptrace off" },
	{ "apparmor unconfined", nothing, OK, 0, "needs no rule", NULL },
	{ "apparmor off", apparmor_off, OK, 0, "not in force", NULL },
	{ "apparmor untold", apparmor_untold, UNKNOWN, 0, "not told", NULL },
	{ "apparmor confined", apparmor_confined, MISSING, 5, "do not let hvpatch",
	  "echo 'ptrace (readby, tracedby) peer=hvpatch,' >> "
	  "/etc/apparmor.d/local/abstractions/libvirt-qemu" },
	{ "apparmor allowed", apparmor_allowed, OK, 0, "let hvpatch read and trace", NULL },
	{ "apparmor unreadable", apparmor_unreadable, UNKNOWN, 0, "cannot be read", NULL },
	{ "qemu", nothing, OK, 0, "7.2.22", NULL },
	{ "qemu none", qemu_none, WARNING, 0, "rehearse needs it", "apt-get install" },
	{ "qemu silent", qemu_silent, UNKNOWN, 0, "does not tell", NULL },
	{ "qemu old", qemu_old, WARNING, 0, "6.2.0: older", "install" },
	{ "qemu new", qemu_new, OK, 0, "newer than what", NULL },
	{ "libvirt", nothing, OK, 0, "9.0.0", NULL },
	{ "libvirt old", libvirt_old, MISSING, 3, "8.1.9", "8.2 or later" },
	{ "libvirt forbidden", libvirt_forbidden, MISSING, 5, "polkit", "usermod -aG libvirt" },
	{ "libvirt gone", libvirt_gone, MISSING, 1, "nobody listens", "systemctl start" },
	{ "keeper", nothing, OK, 0, "/k", NULL },
	{ "keeper none", keeper_none, MISSING, 1, "not there", "meson install" },
	{ "bridge", nothing, OK, 0, "/b", NULL },
	{ "bridge none", bridge_none, MISSING, 1, "not there", "meson install" },
	{ "journal", nothing, OK, 0, "/run/hvpatch", NULL },
	{ "journal forbidden", journal_forbidden, MISSING, 5, "not there",
	  "install -d -m 700 -o 'root' '/run/hvpatch'" },
	{ "cache", nothing, OK, 0, "/var/cache/hvpatch", NULL },
	{ "cache forbidden", cache_forbidden, WARNING, 0, "decodes", "install -d -m 700" },
	{ "plugin", nothing, OK, 0, "/p.so", NULL },
	{ "plugin none", plugin_none, WARNING, 0, "no rehearsing", "meson install" },
	{ "vm", nothing, OK, 0, "domain web, pid 4711", NULL },
	{ "vm none", vm_none, MISSING, 1, "no domain", "virsh -c 'qemu:///system' list --all" },
	{ "vm socket", socket_vm, OK, 0, "QEMU at /run/a b.qmp", NULL },
	{ "vm busy", socket_busy, MISSING, 4, "another client", "monitor for hvpatch alone" },
	{ "state", nothing, OK, 0, "running", NULL },
	{ "state paused", vm_paused, MISSING, 5, "paused: it can be looked at",
	  "virsh -c 'qemu:///system' resume " UUID },
	{ "state socket-paused", socket_paused, MISSING, 5, "paused",
	  "socat - 'UNIX-CONNECT:/run/a b.qmp'" },
	{ "state off", vm_off, MISSING, 5, "no kernel", "start " UUID },
	{ "guest", nothing, OK, 0, "x86_64", NULL },
	{ "guest aarch64", vm_arm, MISSING, 3, "aarch64", NULL },
	{ "accelerator", nothing, OK, 0, "custom-monitor", NULL },
	{ "accelerator kvm", kvm_guest, OK, 0, "kvm: all commands", NULL },
	{ "accelerator other", accelerator_other, MISSING, 3, "neither", NULL },
	{ "accelerator untold", accelerator_untold, UNKNOWN, 0, "not told", NULL },
	{ "encryption", nothing, OK, 0, "none", NULL },
	{ "encryption sev", encrypted, MISSING, 3, "sev", "launchSecurity" },
	{ "job", nothing, OK, 0, "none", NULL },
	{ "job running", job_running, MISSING, 4, "migration (active)", "domjobinfo " UUID },
	{ "job untold", job_untold, UNKNOWN, 0, "no answer", NULL },
	{ "migration", nothing, OK, 0, "libvirt sets", NULL },
	{ "migration socket", socket_vm, OK, 0, "neither post-copy", NULL },
	{ "migration postcopy", postcopy_running, MISSING, 4, "userfaultfd", NULL },
	{ "migration hidden", descriptors_hidden, UNKNOWN, 0, "cannot be listed", NULL },
	{ "migration set", postcopy_set, WARNING, 0, "postcopy-ram, background-snapshot on",
	  "{\"capability\":\"background-snapshot\",\"state\":false}" },
	{ "debugger", nothing, OK, 0, "free", NULL },
	{ "debugger domain", debugger, MISSING, 5, "tcp::1234", "edit " UUID },
	{ "debugger socket", socket_debugger, MISSING, 5, "tcp::1234", "gdbserver none" },
	{ "access", nothing, OK, 0, "libvirt-qemu (uid 64055)", NULL },
	{ "access hidden", process_hidden, UNKNOWN, 0, "not to be seen", NULL },
	{ "access forbidden", access_forbidden, MISSING, 5, "forbidden", "as root" },
	{ "access traced", traced, OK, 0, "by gdb (pid 3)", NULL },
	{ "access kvm-traced", kvm_traced, MISSING, 5, "by gdb (pid 3)", NULL },
	{ "memory", nothing, OK, 0, "shared", NULL },
	{ "memory private", memory_private, OK, 0, "private", "<memoryBacking>" },
	{ "memory untold", memory_untold, UNKNOWN, 0, "not told", NULL },
	{ "agent", nothing, OK, 0, "org.hvpatch.agent.0", NULL },
	{ "agent closed", agent_closed, WARNING, 0, "nobody at it", "hvpatch-agent" },
	{ "agent absent", agent_absent, WARNING, 0, "no channel",
	  "attach-device " UUID " /dev/stdin --live --config" },
	{ "agent transient", agent_absent_transient, WARNING, 0, "no channel",
	  "create the domain anew" },
	{ "agent plugged", agent_absent_plugged, WARNING, 0, "no channel", "/dev/stdin --live" },
	{ "agent cold", agent_absent_cold, WARNING, 0, "no channel",
	  "/dev/stdin --config   # then shut it down" },
	{ "agent off", agent_absent_off, WARNING, 5, "no channel", "/dev/stdin --config" },
	{ "agent untold", agent_untold, UNKNOWN, 0, "not told", NULL },
	{ "nested", nothing, OK, 0, "cannot have", NULL },
	{ "nested vmx", nested, WARNING, 0, "may have guests", "policy='disable'" },
	{ "nested by-host", nested_by_host, WARNING, 0, "may have guests", "policy='disable'" },
	{ "nested not-by-host", not_nested_by_host, OK, 0, "cannot have", NULL },
	{ "nested untold", nested_untold, UNKNOWN, 0, "EPYC", NULL },
};

/* What host items alone have to say, where the domain does not matter. */
static const Case host_cases[] = {
	{ "libvirt gone", libvirt_gone, WARNING, 0, "--qmp", "systemctl" },
	{ "libvirt old", libvirt_old, WARNING, 0, "8.1.9", "8.2" },
	{ "bridge none", bridge_none, WARNING, 0, "out of reach", "meson install" },
	{ "apparmor confined", apparmor_confined, WARNING, 0, "of a domain", "echo 'ptrace" },
	{ "kvm forbidden", kvm_guest_forbidden, WARNING, 0, "cannot be looked at", "usermod" },
};

static const HvpItem *find(const GPtrArray *items, const char *case_name)
{
	gsize length = strcspn(case_name, " ");

	for (guint i = 0; i < items->len; i++) {
		const HvpItem *item = g_ptr_array_index(items, i);

		if (strlen(item->name) == length && strncmp(item->name, case_name, length) == 0)
			return item;
	}
	g_error("%s: there is no such item", case_name);
}

static void assert_says(const Case *self, const char *text, const char *piece)
{
	if (piece == NULL ? text != NULL : text == NULL || strstr(text, piece) == NULL)
		g_error("%s: \"%s\" does not say \"%s\"", self->name, text, piece);
}

static void check_case(const Case *self, bool has_vm)
{
	g_autoptr(GPtrArray) items = NULL;
	const HvpItem *item;
	Facts facts;

	facts_init(&facts);
	self->change(&facts);
	items = hvp_doctor_examine(&facts.host, has_vm ? &facts.vm : NULL);
	item = find(items, self->name);
	if (item->state != self->state)
		g_error("%s: %s", self->name, hvp_item_state_name(item->state));
	assert_says(self, item->why, self->why);
	assert_says(self, item->remedy, self->remedy);
	g_assert_cmpint(hvp_doctor_get_exit_status(items), ==, self->exit_status);
	g_assert_cmpint(hvp_doctor_is_healthy(items), ==, self->exit_status == 0);
	facts_clear(&facts);
}

static void test_with_vm(gconstpointer data)
{
	check_case(data, true);
}

static void test_host_alone(gconstpointer data)
{
	check_case(data, false);
}

/* 5 before 3 before 1 before 4. */
static void test_exit_status(void)
{
	static const HvpErrorCode codes[] = { HVP_ERROR_BUSY, HVP_ERROR_NOT_FOUND,
					      HVP_ERROR_UNSUPPORTED, HVP_ERROR_PERMISSION };
	static const int expected[] = { 4, 1, 3, 5 };
	g_autoptr(GPtrArray) items = hvp_item_list_new();

	hvp_item_warn(items, "a", NULL, "a");
	g_assert_cmpint(hvp_doctor_get_exit_status(items), ==, 0);
	for (gsize i = 0; i < G_N_ELEMENTS(codes); i++) {
		hvp_item_miss(items, "b", codes[i], NULL, "b");
		g_assert_cmpint(hvp_doctor_get_exit_status(items), ==, expected[i]);
	}
}

static void test_odd_exit_status(void)
{
	g_autoptr(GPtrArray) items = hvp_item_list_new();

	hvp_item_miss(items, "a", HVP_ERROR_TAMPERED, NULL, "a");
	g_assert_cmpint(hvp_doctor_get_exit_status(items), ==, 1);
}

static void test_rules(void)
{
	static const struct {
		const char *rule;
		bool allows;
	} rules[] = {
		{ "ptrace (readby, tracedby) peer=hvpatch,", true },
		{ "  ptrace (tracedby, readby) peer=\"hvpatch\",", true },
		{ "ptrace (read, trace, readby, tracedby) peer=hv*,", true },
		{ "ptrace (readby, tracedby),", true },
		{ "ptrace peer=hvpatch,", true },
		{ "ptrace,", true },
		{ "ptrace (readby) peer=hvpatch,", false },
		{ "ptrace (readby, tracedby) peer=libvirtd,", false },
		{ "# ptrace (readby, tracedby) peer=hvpatch,", false },
		{ "signal (receive) peer=hvpatch,", false },
		{ "deny ptrace (readby, tracedby) peer=hvpatch,", false },
		{ "", false },
	};

	for (gsize i = 0; i < G_N_ELEMENTS(rules); i++) {
		g_autofree char *text = g_strconcat("/dev/kvm rw,\n", rules[i].rule, "\n", NULL);

		if (hvp_host_items_allow_tracing(text, "hvpatch") != rules[i].allows)
			g_error("%s", rules[i].rule);
	}
}

static void add_cases(const char *where, const Case *all, gsize count, GTestDataFunc function)
{
	static const char *const states[] = { "OK", "WARNING", "MISSING", "UNKNOWN" };

	for (gsize i = 0; i < count; i++) {
		g_autofree char *name = g_strdelimit(g_strdup(all[i].name), " ", '-');
		g_autofree char *path = g_strdup_printf("/doctor/%s/%s-%s", where, name,
							states[all[i].state]);

		g_test_add_data_func(path, &all[i], function);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_cases("vm", cases, G_N_ELEMENTS(cases), test_with_vm);
	add_cases("host", host_cases, G_N_ELEMENTS(host_cases), test_host_alone);
	g_test_add_func("/doctor/exit-status-ORDERED", test_exit_status);
	g_test_add_func("/doctor/odd-code-FAILED", test_odd_exit_status);
	g_test_add_func("/doctor/apparmor-rules-READ", test_rules);
	return g_test_run();
}
