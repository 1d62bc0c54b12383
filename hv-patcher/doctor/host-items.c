/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "doctor/host-items.h"

#include <string.h>

#define ARCHITECTURE "x86_64"
#define YAMA_OFF 0
#define YAMA_RELATIVES 1
#define YAMA_NOBODY 3
#define LIBVIRT_RULES "/etc/apparmor.d/local/abstractions/libvirt-qemu"
#define LIBVIRT_PROFILES "/etc/apparmor.d/libvirt/libvirt-*"

/* Versions as libvirt counts them. */
#define VERSION(major, minor) ((gulong)(major)*1000000 + (gulong)(minor)*1000)
/* 8.2.0: monitor commands with descriptors, which the gdb stub is reached through. */
#define LIBVIRT_OLDEST VERSION(8, 2)
/* What hvpatch is tried with. */
#define QEMU_OLDEST VERSION(7, 2)
#define QEMU_NEWEST VERSION(10, 1)

static char *format_version(gulong version)
{
	return g_strdup_printf("%lu.%lu.%lu", version / 1000000, version / 1000 % 1000,
			       version % 1000);
}

static bool is_domain(const HvpFactsVm *vm)
{
	return vm != NULL && vm->kind == HVP_FACTS_DOMAIN;
}

static bool is_permission(const GError *error)
{
	return g_error_matches(error, HVP_ERROR, HVP_ERROR_PERMISSION);
}

static char *add_to_group(const HvpFactsHost *host, const char *group)
{
	g_autofree char *user = g_shell_quote(host->user_name);

	return g_strdup_printf("usermod -aG %s %s   # as root; then log in anew", group, user);
}

static void add_machine(GPtrArray *items, const HvpFactsHost *host)
{
	if (g_strcmp0(host->architecture, ARCHITECTURE) == 0)
		hvp_item_ok(items, "machine", "%s", host->architecture);
	else
		hvp_item_miss(items, "machine", HVP_ERROR_UNSUPPORTED,
			      g_strdup("# run hvpatch on the x86-64 host that the VM runs on"),
			      "%s: only guests of an x86-64 host can be patched",
			      host->architecture ? host->architecture : "an unknown architecture");
}

/* --- KVM --- */

static char *mend_kvm(const HvpFactsHost *host)
{
	if (is_permission(host->kvm_error))
		return add_to_group(host, "kvm");
	if (g_error_matches(host->kvm_error, HVP_ERROR, HVP_ERROR_NOT_FOUND))
		return g_strdup("modprobe kvm_intel || modprobe kvm_amd   # virtualization has to "
				"be on in the firmware");
	/* 01643c51bfcf ("KVM: x86: KVM_CAP_SYNC_REGS"), in 4.17 */
	return g_strdup("# boot the host with a kernel whose KVM has KVM_CAP_SYNC_REGS (4.17 and "
			"later)");
}

static void add_kvm(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	if (host->kvm_error == NULL)
		hvp_item_ok(items, "kvm",
			    "/dev/kvm can be used, and leaves registers where "
			    "hvpatch finds them");
	else if (vm != NULL && vm->accelerator == HVP_FACTS_ACCELERATOR_KVM)
		hvp_item_miss_error(items, "kvm", host->kvm_error, mend_kvm(host));
	else
		hvp_item_warn(items, "kvm", mend_kvm(host),
			      "%s: guests under KVM cannot be looked at, emulated ones can be "
			      "patched",
			      host->kvm_error->message);
}

/* --- tracing --- */

static char *describe_yama(gint scope)
{
	static const char *const meanings[] = {
		"processes of the same user may be traced",
		"only children may be traced, or with CAP_SYS_PTRACE anybody",
		"only who has CAP_SYS_PTRACE may trace",
		"nobody may trace, whatever the privileges",
	};

	if (scope < 0)
		return g_strdup("no Yama: processes of the same user may be traced");
	return g_strdup_printf("kernel.yama.ptrace_scope = %d: %s", scope,
			       meanings[MIN(scope, YAMA_NOBODY)]);
}

static char *mend_yama(const HvpFactsHost *host)
{
	if (host->yama_scope >= YAMA_NOBODY)
		return g_strdup("echo 'kernel.yama.ptrace_scope = 1' > /etc/sysctl.d/zz-ptrace.conf"
				"   # then reboot: 3 cannot be taken back");
	if (host->yama_scope == YAMA_RELATIVES)
		return g_strdup("# run hvpatch as root; or let users trace their own processes:\n"
				"sysctl -w kernel.yama.ptrace_scope=0");
	return g_strdup("# run hvpatch as root");
}

static void add_ptrace(GPtrArray *items, const HvpFactsHost *host)
{
	g_autofree char *yama = describe_yama(host->yama_scope);
	bool is_held = host->has_ptrace_capability;

	if (host->yama_scope >= YAMA_NOBODY || (host->yama_scope > YAMA_OFF && !is_held))
		hvp_item_miss(items, "ptrace", HVP_ERROR_PERMISSION, mend_yama(host),
			      "%s; hvpatch %s CAP_SYS_PTRACE", yama, is_held ? "has" : "lacks");
	else if (!is_held)
		hvp_item_warn(items, "ptrace", g_strdup("# run hvpatch as root"),
			      "%s; hvpatch lacks CAP_SYS_PTRACE: only VMs of user %s are in reach",
			      yama, host->user_name);
	else if (host->in_first_user_namespace == HVP_FACTS_NO)
		hvp_item_warn(
			items, "ptrace",
			g_strdup("# run hvpatch outside of the container, or in one that has "
				 "the host's user namespace (--userns=host)"),
			"%s; hvpatch has CAP_SYS_PTRACE in a user namespace of its own alone: "
			"a QEMU outside of it is out of reach",
			yama);
	else
		hvp_item_ok(items, "ptrace", "%s; hvpatch has CAP_SYS_PTRACE%s", yama,
			    host->in_first_user_namespace == HVP_FACTS_YES
				    ? " in the host's first user namespace"
				    : "");
}

static void add_selinux(GPtrArray *items, const HvpFactsHost *host)
{
	if (host->selinux_enforces == HVP_FACTS_UNKNOWN)
		hvp_item_ok(items, "selinux", "there is none");
	else if (host->selinux_enforces == HVP_FACTS_NO)
		hvp_item_ok(items, "selinux", "permissive");
	else if (host->selinux_denies_ptrace == HVP_FACTS_YES)
		hvp_item_miss(items, "selinux", HVP_ERROR_PERMISSION,
			      g_strdup("setsebool -P deny_ptrace off"),
			      "enforcing, and its boolean deny_ptrace is on: nobody may trace");
	else
		hvp_item_ok(items, "selinux", "enforcing; deny_ptrace is off");
}

/* --- AppArmor --- */

/* "PROFILE (enforce)" without the mode; the caller's. */
static char *profile_of(const char *label)
{
	const char *mode = strstr(label, " (");

	return mode ? g_strndup(label, (gsize)(mode - label)) : g_strdup(label);
}

/* Behind "peer=" in a rule, up to what ends it; NULL: any peer. The caller's. */
static char *peer_of(const char *rule)
{
	const char *peer = strstr(rule, "peer=");
	gsize length;

	if (peer == NULL)
		return NULL;
	peer += strlen("peer=");
	peer += *peer == '"' ? 1 : 0;
	length = strcspn(peer, "\", \t");
	return g_strndup(peer, length);
}

static bool rule_allows(const char *rule, const char *label)
{
	g_autofree char *peer = NULL;

	if (!g_str_has_prefix(rule, "ptrace"))
		return false;
	/* "ptrace," alone, or of a peer without permissions, is all of them. */
	if (strchr(rule, '(') != NULL &&
	    (strstr(rule, "readby") == NULL || strstr(rule, "tracedby") == NULL))
		return false;
	peer = peer_of(rule);
	return peer == NULL || g_pattern_match_simple(peer, label);
}

bool hvp_host_items_allow_tracing(const char *rules, const char *label)
{
	g_auto(GStrv) lines = g_strsplit(rules, "\n", -1);

	for (char **line = lines; *line != NULL; line++)
		if (rule_allows(g_strstrip(*line), label))
			return true;
	return false;
}

static char *mend_apparmor(const char *label)
{
	g_autofree char *rule = g_strdup_printf("ptrace (readby, tracedby) peer=%s,", label);
	g_autofree char *quoted = g_shell_quote(rule);

	return g_strdup_printf("echo %s >> " LIBVIRT_RULES "\n"
			       "apparmor_parser -r " LIBVIRT_PROFILES
			       "   # for domains that run already",
			       quoted);
}

static void add_confined(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm,
			 const char *label)
{
	if (host->apparmor_rules == NULL)
		hvp_item_unknown(items, "apparmor",
				 "hvpatch is confined as %s; libvirt's abstraction for QEMU is not "
				 "there or cannot be read",
				 label);
	else if (hvp_host_items_allow_tracing(host->apparmor_rules, label))
		hvp_item_ok(items, "apparmor", "libvirt's profiles let %s read and trace QEMU",
			    label);
	else if (is_domain(vm))
		hvp_item_miss(
			items, "apparmor", HVP_ERROR_PERMISSION, mend_apparmor(label),
			"libvirt's profiles do not let %s, as which hvpatch is confined, read "
			"and trace QEMU",
			label);
	else
		hvp_item_warn(
			items, "apparmor", mend_apparmor(label),
			"libvirt's profiles do not let %s, as which hvpatch is confined, read "
			"and trace the QEMU of a domain",
			label);
}

/*
 * What the tracer's own profile allows is not asked: only who traces without one is known to be
 * allowed. A profile says who may trace what it confines, but only of tracers that are confined
 * themselves (security/apparmor/ipc.c, profile_tracee_perm, since 4.13).
 */
static void add_apparmor(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	g_autofree char *label = NULL;

	if (host->apparmor_enabled != HVP_FACTS_YES) {
		hvp_item_ok(items, "apparmor", "not in force");
		return;
	}
	if (host->apparmor_label == NULL) {
		hvp_item_unknown(items, "apparmor",
				 "in force; it is not told how hvpatch is "
				 "confined");
		return;
	}
	label = profile_of(host->apparmor_label);
	if (strcmp(label, "unconfined") != 0)
		add_confined(items, host, vm, label);
	else
		hvp_item_ok(items, "apparmor",
			    "hvpatch is unconfined, which needs no rule in libvirt's profiles%s",
			    host->apparmor_rules != NULL && hvp_host_items_allow_tracing(
								    host->apparmor_rules, label)
				    ? " (there is one)"
				    : "");
}

/* --- programs --- */

static void add_qemu(GPtrArray *items, const HvpFactsHost *host)
{
	g_autofree char *version = format_version(host->qemu_version);
	char *install = g_strdup("apt-get install qemu-system-x86   # or: dnf install qemu-kvm");

	if (host->qemu_path == NULL) {
		hvp_item_warn(items, "qemu", install,
			      "qemu-system-x86_64 is not in the path: rehearse needs it");
		return;
	}
	if (host->qemu_version == 0)
		hvp_item_unknown(items, "qemu", "%s does not tell its version", host->qemu_path);
	else if (host->qemu_version < QEMU_OLDEST)
		hvp_item_warn(items, "qemu", g_steal_pointer(&install),
			      "%s is %s: older than what hvpatch is tried with (7.2 to 10.0), and "
			      "rehearse's plugin needs 7.2",
			      host->qemu_path, version);
	else
		hvp_item_ok(items, "qemu", "%s is %s%s", host->qemu_path, version,
			    host->qemu_version >= QEMU_NEWEST
				    ? ": newer than what hvpatch is tried with (7.2 to 10.0)"
				    : "");
	g_free(install);
}

static char *mend_libvirt(const HvpFactsHost *host)
{
	if (is_permission(host->libvirt_error))
		return add_to_group(host, "libvirt");
	if (g_error_matches(host->libvirt_error, HVP_ERROR, HVP_ERROR_NOT_FOUND) &&
	    host->user_id != 0)
		return g_strdup("# the system's domains are at: hvpatch -c qemu:///system; a "
				"session's daemon is started by:\n"
				"virsh -c qemu:///session list");
	if (g_error_matches(host->libvirt_error, HVP_ERROR, HVP_ERROR_NOT_FOUND))
		return g_strdup("systemctl start virtqemud.socket || systemctl start "
				"libvirtd.socket");
	return NULL;
}

static void add_libvirt(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	g_autofree char *version = format_version(host->libvirt_version);
	const char *uri = host->libvirt_uri ? host->libvirt_uri : "the default connection";

	if (!host->libvirt_was_asked)
		return;
	if (host->libvirt_error != NULL && is_domain(vm))
		hvp_item_miss_error(items, "libvirt", host->libvirt_error, mend_libvirt(host));
	else if (host->libvirt_error != NULL)
		hvp_item_warn(
			items, "libvirt", mend_libvirt(host),
			"%s: its domains are out of reach, a QEMU's own monitor (--qmp) is not",
			host->libvirt_error->message);
	else if (host->libvirt_version >= LIBVIRT_OLDEST)
		hvp_item_ok(items, "libvirt", "%s is %s", uri, version);
	else if (is_domain(vm))
		hvp_item_miss(items, "libvirt", HVP_ERROR_UNSUPPORTED,
			      g_strdup("# upgrade libvirt to 8.2 or later, or use --qmp"),
			      "%s is %s, and passes no descriptors on to QEMU (8.2 does)", uri,
			      version);
	else
		hvp_item_warn(items, "libvirt",
			      g_strdup("# upgrade libvirt to 8.2 or later, or use --qmp"),
			      "%s is %s, and passes no descriptors on to QEMU (8.2 does): its "
			      "domains cannot be patched",
			      uri, version);
}

static const char reinstall[] = "meson install -C BUILD   # the folder that hvpatch was built in";

static void add_program(GPtrArray *items, const char *name, const HvpFactsPlace *place,
			bool is_needed, const char *consequence)
{
	if (place->error == NULL)
		hvp_item_ok(items, name, "%s", place->path);
	else if (is_needed)
		hvp_item_miss_error(items, name, place->error, g_strdup(reinstall));
	else
		hvp_item_warn(items, name, g_strdup(reinstall), "%s: %s", place->error->message,
			      consequence);
}

/* --- folders --- */

static char *make_folder(const HvpFactsHost *host, const char *path)
{
	g_autofree char *folder = g_shell_quote(path);
	g_autofree char *user = g_shell_quote(host->user_name);

	return g_strdup_printf("install -d -m 700 -o %s %s   # as root", user, folder);
}

static void add_journal(GPtrArray *items, const HvpFactsHost *host)
{
	if (host->journal.error == NULL)
		hvp_item_ok(items, "journal", "%s can be written", host->journal.path);
	else
		hvp_item_miss_error(items, "journal", host->journal.error,
				    make_folder(host, host->journal.path));
}

static void add_cache(GPtrArray *items, const HvpFactsHost *host)
{
	if (host->cache.error == NULL)
		hvp_item_ok(items, "cache", "%s can be written", host->cache.path);
	else
		hvp_item_warn(items, "cache", make_folder(host, host->cache.path),
			      "%s: each attach decodes the guest's kernel anew",
			      host->cache.error->message);
}

void hvp_host_items_add(GPtrArray *items, const HvpFactsHost *host, const HvpFactsVm *vm)
{
	add_machine(items, host);
	add_kvm(items, host, vm);
	add_ptrace(items, host);
	add_selinux(items, host);
	add_apparmor(items, host, vm);
	add_qemu(items, host);
	add_libvirt(items, host, vm);
	add_program(items, "keeper", &host->keeper, true, "");
	add_program(items, "bridge", &host->bridge, is_domain(vm),
		    "domains of libvirt are out of reach");
	add_journal(items, host);
	add_cache(items, host);
	add_program(items, "plugin", &host->plugin, false, "there is no rehearsing without it");
}
