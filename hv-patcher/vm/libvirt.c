/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/libvirt.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "vm/libvirt-private.h"

#define MAX_QUOTED_BYTES 512
#define MAX_NAME_BYTES 128
#define MAX_COMMAND_LINE_BYTES (1U << 20)
#define MAX_DOMAINS 100000
#define NO_JOB (-1)
#define CONNECT_USEC (10 * G_USEC_PER_SEC)
#define MAX_XML_BYTES (16U << 20)
#define SYSTEM_FOLDER "/run/libvirt/qemu"

static char *quote(const char *text, gsize max_bytes)
{
	return hvp_text_escape(text ? text : "", HVP_TEXT_TERMINATED, max_bytes);
}

/* --- errors --- */

static void ignore_error(void *data, virErrorPtr error)
{
	(void)data;
	(void)error;
}

void hvp_libvirt_be_quiet(void)
{
	virSetErrorFunc(NULL, ignore_error);
}

/* What errno stands for in an error of the operating system, where nobody listens included. */
static HvpErrorCode code_of_errno(int errno_value)
{
	switch (errno_value) {
	case EACCES:
	case EPERM:
		return HVP_ERROR_PERMISSION;
	case ENOENT:
	case ECONNREFUSED:
		return HVP_ERROR_NOT_FOUND;
	case EPIPE:
	case ECONNRESET:
		return HVP_ERROR_VM_GONE;
	default:
		return HVP_ERROR_FAULT;
	}
}

static HvpErrorCode code_of(const virError *reason)
{
	static const struct {
		int theirs;
		HvpErrorCode ours;
	} codes[] = {
		{ VIR_ERR_NO_DOMAIN, HVP_ERROR_NOT_FOUND },
		{ VIR_ERR_AUTH_FAILED, HVP_ERROR_PERMISSION },
		{ VIR_ERR_AUTH_CANCELLED, HVP_ERROR_PERMISSION },
		{ VIR_ERR_AUTH_UNAVAILABLE, HVP_ERROR_PERMISSION },
		{ VIR_ERR_ACCESS_DENIED, HVP_ERROR_PERMISSION },
		{ VIR_ERR_OPERATION_DENIED, HVP_ERROR_PERMISSION },
		{ VIR_ERR_OPERATION_TIMEOUT, HVP_ERROR_BUSY },
		{ VIR_ERR_RESOURCE_BUSY, HVP_ERROR_BUSY },
		{ VIR_ERR_OPERATION_INVALID, HVP_ERROR_CONFLICT },
		{ VIR_ERR_NO_SUPPORT, HVP_ERROR_UNSUPPORTED },
		{ VIR_ERR_NO_CONNECT, HVP_ERROR_UNSUPPORTED },
		{ VIR_ERR_CONFIG_UNSUPPORTED, HVP_ERROR_UNSUPPORTED },
		{ VIR_ERR_ARGUMENT_UNSUPPORTED, HVP_ERROR_UNSUPPORTED },
		{ VIR_ERR_OPERATION_UNSUPPORTED, HVP_ERROR_UNSUPPORTED },
		{ VIR_ERR_INVALID_ARG, HVP_ERROR_INVALID_ARGUMENT },
		{ VIR_ERR_INVALID_CONN, HVP_ERROR_VM_GONE },
	};

	for (gsize i = 0; reason != NULL && i < G_N_ELEMENTS(codes); i++)
		if (reason->code == codes[i].theirs)
			return codes[i].ours;
	if (reason != NULL && reason->code == VIR_ERR_SYSTEM_ERROR)
		return code_of_errno(reason->int1);
	return HVP_ERROR_FAULT;
}

bool hvp_libvirt_set_error(GError **error, const char *what)
{
	virErrorPtr reason = virGetLastError();
	g_autofree char *words = quote(reason ? reason->message : "unknown error",
				       MAX_QUOTED_BYTES);

	return hvp_error_set(error, code_of(reason), "%s: %s", what, words);
}

bool hvp_libvirt_set_domain_error(const HvpLibvirtDomain *self, GError **error)
{
	g_autofree char *name = quote(self->name, MAX_NAME_BYTES);
	g_autofree char *what = g_strdup_printf("domain %s", name);

	return hvp_libvirt_set_error(error, what);
}

/* --- connections --- */

/* "libvirt at URI", where somebody has named it; the caller's. */
static char *describe_daemon(const char *uri)
{
	g_autofree char *quoted = quote(uri, MAX_QUOTED_BYTES);

	return quoted[0] != '\0' ? g_strdup_printf("libvirt at %s", quoted) : g_strdup("libvirt");
}

static bool open_connection(HvpLibvirt *self, const char *uri, GError **error)
{
	g_autofree char *daemon = describe_daemon(uri);
	g_autofree char *what = g_strdup_printf("no connection to %s", daemon);
	char *own;

	self->connection = virConnectOpen(uri);
	if (self->connection == NULL)
		return hvp_libvirt_set_error(error, what);
	own = virConnectGetURI(self->connection);
	if (own == NULL)
		return hvp_libvirt_set_error(error, "the connection's URI");
	self->uri = g_strdup(own);
	free(own);
	return true;
}

/* A connection in the making, by a thread; freed by whoever of both is the last to need it. */
typedef struct {
	GMutex mutex;
	GCond cond;
	char *uri;
	HvpLibvirt *result;
	GError *reason;
	bool is_over, is_abandoned;
} Opening;

static void opening_free(Opening *self)
{
	g_mutex_clear(&self->mutex);
	g_cond_clear(&self->cond);
	g_free(self->uri);
	hvp_libvirt_free(self->result);
	g_clear_error(&self->reason);
	g_free(self);
}

static gpointer run_opening(gpointer data)
{
	Opening *self = data;
	g_autoptr(HvpLibvirt) libvirt = g_new0(HvpLibvirt, 1);
	GError *reason = NULL;
	bool ok = open_connection(libvirt, self->uri, &reason);
	bool is_abandoned;

	g_mutex_lock(&self->mutex);
	self->result = ok ? g_steal_pointer(&libvirt) : NULL;
	self->reason = reason;
	self->is_over = true;
	is_abandoned = self->is_abandoned;
	g_cond_signal(&self->cond);
	g_mutex_unlock(&self->mutex);
	if (is_abandoned)
		opening_free(self);
	return NULL;
}

/* A daemon that hangs still takes connections, and libvirt waits for it without end. */
HvpLibvirt *hvp_libvirt_connect(const char *uri, GError **error)
{
	gint64 end_usec = g_get_monotonic_time() + CONNECT_USEC;
	Opening *opening = g_new0(Opening, 1);
	g_autofree char *daemon = describe_daemon(uri);
	HvpLibvirt *result;
	bool is_over;

	g_mutex_init(&opening->mutex);
	g_cond_init(&opening->cond);
	opening->uri = g_strdup(uri);
	g_thread_unref(g_thread_new("libvirt", run_opening, opening));
	g_mutex_lock(&opening->mutex);
	while (!opening->is_over && g_cond_wait_until(&opening->cond, &opening->mutex, end_usec))
		;
	is_over = opening->is_over;
	opening->is_abandoned = !is_over;
	g_mutex_unlock(&opening->mutex);
	/* Then it is the thread's. */
	if (!is_over) {
		hvp_error_set(error, HVP_ERROR_TIMED_OUT, "%s does not answer", daemon);
		return NULL;
	}
	result = g_steal_pointer(&opening->result);
	if (result == NULL)
		g_propagate_error(error, g_steal_pointer(&opening->reason));
	opening_free(opening);
	return result;
}

void hvp_libvirt_free(HvpLibvirt *self)
{
	if (self == NULL)
		return;
	if (self->connection != NULL)
		virConnectClose(self->connection);
	g_free(self->uri);
	g_free(self);
}

const char *hvp_libvirt_get_uri(const HvpLibvirt *self)
{
	return self->uri;
}

bool hvp_libvirt_read_versions(const HvpLibvirt *self, HvpLibvirtVersions *ret_versions,
			       GError **error)
{
	HvpLibvirtVersions versions = { 0 };

	if (virConnectGetLibVersion(self->connection, &versions.library_version) < 0)
		return hvp_libvirt_set_error(error, "the daemon's version");
	if (virConnectGetVersion(self->connection, &versions.hypervisor_version) < 0)
		versions.hypervisor_version = 0;
	*ret_versions = versions;
	return true;
}

/* qemu+ssh://HOST/system and the like; a host that is this one is not told apart. */
static bool is_elsewhere(const char *uri)
{
	g_autoptr(GUri) parsed = g_uri_parse(uri, G_URI_FLAGS_NONE, NULL);
	const char *host = parsed ? g_uri_get_host(parsed) : NULL;

	return host != NULL && host[0] != 0;
}

bool hvp_libvirt_check_reachable(const HvpLibvirt *self, GError **error)
{
	const char *type = virConnectGetType(self->connection);
	g_autofree char *uri = quote(self->uri, MAX_QUOTED_BYTES);

	if (g_strcmp0(type, "QEMU") != 0)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "%s: not a QEMU domain", uri);
	return !is_elsewhere(self->uri) ||
	       hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "%s: another host; hvpatch has to run where the VM does", uri);
}

/* --- domains --- */

/* Takes @domain. */
static HvpLibvirtDomain *domain_new(virDomainPtr domain, GError **error)
{
	g_autoptr(HvpLibvirtDomain) self = g_new0(HvpLibvirtDomain, 1);
	unsigned int id = virDomainGetID(domain);

	self->domain = domain;
	self->name = g_strdup(virDomainGetName(domain));
	self->id = id <= G_MAXINT ? (int)id : -1;
	if (self->name == NULL || virDomainGetUUIDString(domain, self->uuid) < 0) {
		hvp_libvirt_set_error(error, "a domain without name or UUID");
		return NULL;
	}
	return g_steal_pointer(&self);
}

void hvp_libvirt_domain_free(HvpLibvirtDomain *self)
{
	if (self == NULL)
		return;
	virDomainFree(self->domain);
	g_free(self->name);
	g_free(self);
}

const char *hvp_libvirt_domain_get_name(const HvpLibvirtDomain *self)
{
	return self->name;
}

const char *hvp_libvirt_domain_get_uuid(const HvpLibvirtDomain *self)
{
	return self->uuid;
}

int hvp_libvirt_domain_get_id(const HvpLibvirtDomain *self)
{
	return self->id;
}

static virDomainPtr look_up_id(HvpLibvirt *self, const char *which)
{
	guint64 id;

	if (!g_ascii_string_to_unsigned(which, 10, 0, G_MAXINT, &id, NULL))
		return NULL;
	return virDomainLookupByID(self->connection, (int)id);
}

/* Whether the last look-up found nothing, rather than failed. */
static bool found_nothing(void)
{
	virErrorPtr reason = virGetLastError();

	return reason == NULL || reason->code == VIR_ERR_NO_DOMAIN ||
	       reason->code == VIR_ERR_INVALID_ARG || reason->code == VIR_ERR_OK;
}

static bool set_ambiguous(const char *which, GError **error)
{
	g_autofree char *quoted = quote(which, MAX_NAME_BYTES);

	return hvp_error_set(error, HVP_ERROR_AMBIGUOUS,
			     "'%s' is the name of one domain and the number of another: use a UUID",
			     quoted);
}

/* One of both, the other freed; NULL where they are different domains. */
static virDomainPtr merge(virDomainPtr by_id, virDomainPtr by_name)
{
	unsigned char id_uuid[VIR_UUID_BUFLEN] = { 0 }, name_uuid[VIR_UUID_BUFLEN] = { 0 };
	bool same;

	if (by_id == NULL || by_name == NULL)
		return by_id ? by_id : by_name;
	same = virDomainGetUUID(by_id, id_uuid) == 0 && virDomainGetUUID(by_name, name_uuid) == 0 &&
	       memcmp(id_uuid, name_uuid, sizeof id_uuid) == 0;
	virDomainFree(by_name);
	if (same)
		return by_id;
	virDomainFree(by_id);
	return NULL;
}

HvpLibvirtDomain *hvp_libvirt_find(HvpLibvirt *self, const char *which, GError **error)
{
	g_autofree char *quoted = quote(which, MAX_NAME_BYTES);
	virDomainPtr by_id, by_name, found;

	virResetLastError();
	by_id = look_up_id(self, which);
	by_name = by_id != NULL || found_nothing() ? virDomainLookupByName(self->connection, which)
						   : NULL;
	found = merge(by_id, by_name);
	if (found == NULL && by_id != NULL) {
		set_ambiguous(which, error);
		return NULL;
	}
	if (found == NULL && found_nothing())
		found = virDomainLookupByUUIDString(self->connection, which);
	if (found != NULL)
		return domain_new(found, error);
	if (found_nothing())
		hvp_error_set(error, HVP_ERROR_NOT_FOUND, "there is no domain '%s' at %s", quoted,
			      self->uri);
	else
		hvp_libvirt_set_error(error, "looking for the domain");
	return NULL;
}

static void domain_destroy(gpointer data)
{
	hvp_libvirt_domain_free(data);
}

/* As virsh list has them. */
static gint compare_domains(gconstpointer a, gconstpointer b)
{
	const HvpLibvirtDomain *first = *(const HvpLibvirtDomain *const *)a;
	const HvpLibvirtDomain *second = *(const HvpLibvirtDomain *const *)b;

	if ((first->id < 0) != (second->id < 0))
		return first->id < 0 ? 1 : -1;
	if (first->id != second->id)
		return first->id < second->id ? -1 : 1;
	return strcmp(first->name, second->name);
}

GPtrArray *hvp_libvirt_list(HvpLibvirt *self, GError **error)
{
	g_autoptr(GPtrArray) domains = g_ptr_array_new_with_free_func(domain_destroy);
	virDomainPtr *found = NULL;
	int count = virConnectListAllDomains(self->connection, &found, 0);

	if (count < 0 || count > MAX_DOMAINS) {
		hvp_libvirt_set_error(error, "listing the domains");
		return NULL;
	}
	for (int i = 0; i < count; i++) {
		HvpLibvirtDomain *domain = domain_new(found[i], NULL);

		/* One that has no name is gone by now. */
		if (domain != NULL)
			g_ptr_array_add(domains, domain);
	}
	free(found);
	g_ptr_array_sort(domains, compare_domains);
	return g_steal_pointer(&domains);
}

/* --- states and jobs --- */

static bool read_state(const HvpLibvirtDomain *self, int *ret_state, GError **error)
{
	return virDomainGetState(self->domain, ret_state, NULL, 0) == 0 ||
	       hvp_libvirt_set_domain_error(self, error);
}

static const char *state_name(int state)
{
	static const char *const names[] = {
		[VIR_DOMAIN_NOSTATE] = "no state",     [VIR_DOMAIN_RUNNING] = "running",
		[VIR_DOMAIN_BLOCKED] = "idle",	       [VIR_DOMAIN_PAUSED] = "paused",
		[VIR_DOMAIN_SHUTDOWN] = "in shutdown", [VIR_DOMAIN_SHUTOFF] = "shut off",
		[VIR_DOMAIN_CRASHED] = "crashed",      [VIR_DOMAIN_PMSUSPENDED] = "pmsuspended",
	};

	return state >= 0 && state < (int)G_N_ELEMENTS(names) ? names[state] : "no state";
}

bool hvp_libvirt_domain_read_state(const HvpLibvirtDomain *self, const char **ret_state,
				   GError **error)
{
	int state;

	if (!read_state(self, &state, error))
		return false;
	*ret_state = state_name(state);
	return true;
}

bool hvp_libvirt_domain_check_active(const HvpLibvirtDomain *self, GError **error)
{
	g_autofree char *name = quote(self->name, MAX_NAME_BYTES);
	int state;

	if (!read_state(self, &state, error))
		return false;
	return (virDomainIsActive(self->domain) == 1 && self->id >= 0) ||
	       hvp_error_set(error, HVP_ERROR_CONFLICT, "domain %s is %s", name, state_name(state));
}

/* The operation of the job that runs, for people; NULL: one that leaves the RAM alone. */
static const char *ram_operation(int operation)
{
	static const char *const names[] = {
		[VIR_DOMAIN_JOB_OPERATION_UNKNOWN] = "a job of unknown kind",
		[VIR_DOMAIN_JOB_OPERATION_START] = "start",
		[VIR_DOMAIN_JOB_OPERATION_SAVE] = "save",
		[VIR_DOMAIN_JOB_OPERATION_RESTORE] = "restore",
		[VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN] = "incoming migration",
		[VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT] = "migration",
		[VIR_DOMAIN_JOB_OPERATION_SNAPSHOT] = "snapshot",
		[VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT] = "revert to a snapshot",
		[VIR_DOMAIN_JOB_OPERATION_DUMP] = "dump",
	};

	/* 6.0.0 and 9.0.0 brought these two, which are the disks'. */
	if (operation == VIR_DOMAIN_JOB_OPERATION_BACKUP || operation == 10)
		return NULL;
	return operation >= 0 && operation < (int)G_N_ELEMENTS(names)
		       ? names[operation]
		       : names[VIR_DOMAIN_JOB_OPERATION_UNKNOWN];
}

/* Which job runs, of VIR_DOMAIN_JOB_OPERATION_*; NO_JOB. */
static bool read_operation(const HvpLibvirtDomain *self, int *ret_operation, GError **error)
{
	int type = VIR_DOMAIN_JOB_NONE, count = 0;
	int operation = VIR_DOMAIN_JOB_OPERATION_UNKNOWN;
	virTypedParameterPtr parameters = NULL;

	if (virDomainGetJobStats(self->domain, &type, &parameters, &count, 0) < 0) {
		/* "migration statistics are available only on the source host" */
		if (virGetLastErrorCode() != VIR_ERR_OPERATION_UNSUPPORTED)
			return hvp_libvirt_set_domain_error(self, error);
		*ret_operation = VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN;
		return true;
	}
	(void)virTypedParamsGetInt(parameters, count, VIR_DOMAIN_JOB_OPERATION, &operation);
	virTypedParamsFree(parameters, count);
	*ret_operation = type == VIR_DOMAIN_JOB_NONE ? NO_JOB : operation;
	return true;
}

bool hvp_libvirt_domain_check_no_job(const HvpLibvirtDomain *self, GError **error)
{
	int operation = NO_JOB;
	const char *job;

	if (!read_operation(self, &operation, error))
		return false;
	job = operation == NO_JOB ? NULL : ram_operation(operation);
	return job == NULL ||
	       hvp_error_set(error, HVP_ERROR_BUSY,
			     "libvirt is at it: %s; a write now could be lost; try again when it "
			     "is over",
			     job);
}

static void append_parameters(GString *text, virTypedParameterPtr parameters, int count)
{
	for (int i = 0; i < count; i++) {
		virTypedParameterPtr parameter = &parameters[i];

		g_string_append_printf(text, " %s=", parameter->field);
		if (parameter->type == VIR_TYPED_PARAM_STRING)
			g_string_append(text, parameter->value.s);
		else if (parameter->type == VIR_TYPED_PARAM_INT)
			g_string_append_printf(text, "%d", parameter->value.i);
		else if (parameter->type == VIR_TYPED_PARAM_ULLONG)
			g_string_append_printf(text, "%llu", parameter->value.ul);
	}
}

/* Of a job of the disks' nothing is told: it gets on all the time. One that is not named counts. */
static void append_ram_job(GString *text, guint flags, virTypedParameterPtr parameters, int count)
{
	int operation = VIR_DOMAIN_JOB_OPERATION_UNKNOWN;

	(void)virTypedParamsGetInt(parameters, count, VIR_DOMAIN_JOB_OPERATION, &operation);
	if (ram_operation(operation) == NULL)
		return;
	g_string_append_printf(text, "[%u]", flags);
	append_parameters(text, parameters, count);
}

/* Adds the job that @flags choose; nothing where there is none. */
static bool append_job(const HvpLibvirtDomain *self, guint flags, GString *text, GError **error)
{
	virTypedParameterPtr parameters = NULL;
	int type = VIR_DOMAIN_JOB_NONE, count = 0;

	if (virDomainGetJobStats(self->domain, &type, &parameters, &count, flags) < 0)
		return hvp_libvirt_set_domain_error(self, error);
	if (type != VIR_DOMAIN_JOB_NONE)
		append_ram_job(text, flags, parameters, count);
	virTypedParamsFree(parameters, count);
	return true;
}

char *hvp_libvirt_domain_describe_jobs(const HvpLibvirtDomain *self, GError **error)
{
	g_autoptr(GString) text = g_string_new(NULL);

	/* Kept for others, who may ask for it as well. */
	if (!append_job(self, 0, text, error) ||
	    !append_job(self, VIR_DOMAIN_JOB_STATS_COMPLETED | VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED,
			text, error))
		return NULL;
	return g_string_free(g_steal_pointer(&text), FALSE);
}

bool hvp_libvirt_domain_check_has_arrived(const HvpLibvirtDomain *self, GError **error)
{
	int operation = NO_JOB;

	if (!read_operation(self, &operation, error))
		return false;
	switch (operation) {
	case VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN:
	case VIR_DOMAIN_JOB_OPERATION_RESTORE:
	case VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT:
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "libvirt is at it: %s; not all of the memory is there yet; "
				     "try again when it is over",
				     ram_operation(operation));
	default:
		return true;
	}
}

/* --- the process --- */

/* libvirt's pid file, for the session's or the system's daemon; the caller's. */
static char *pid_file(const HvpLibvirtDomain *self)
{
	g_autofree char *name = g_strdup_printf("%s.pid", self->name);

	if (geteuid() == 0)
		return g_build_filename(SYSTEM_FOLDER, name, NULL);
	return g_build_filename(g_get_user_runtime_dir(), "libvirt", "qemu", "run", name, NULL);
}

/* Another daemon may have its files elsewhere: then nothing is known by this. */
static bool check_pid_file(const HvpLibvirtDomain *self, pid_t pid, GError **error)
{
	g_autofree char *path = pid_file(self);
	g_autofree char *text = NULL;
	guint64 said = 0;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return true;
	said = g_ascii_strtoull(text, NULL, 10);
	return said == 0 || said == (guint64)pid ||
	       hvp_error_set(error, HVP_ERROR_CONFLICT,
			     "%s says %" G_GUINT64_FORMAT ", the monitor process %d", path, said,
			     (int)pid);
}

/* libvirt starts every QEMU with "-uuid UUID". */
static bool has_uuid(const char *command_line, gsize length_bytes, const char *uuid)
{
	const char *end = command_line + length_bytes;

	for (const char *at = command_line; at < end; at += strlen(at) + 1) {
		if (strcmp(at, "-uuid") == 0 && at + sizeof "-uuid" < end)
			return g_ascii_strcasecmp(at + sizeof "-uuid", uuid) == 0;
	}
	return false;
}

bool hvp_libvirt_domain_check_process(const HvpLibvirtDomain *self, pid_t pid, GError **error)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
	g_autofree char *text = NULL;
	gsize length_bytes;

	if (!g_file_get_contents(path, &text, &length_bytes, NULL))
		return hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d has ended", (int)pid);
	if (length_bytes > MAX_COMMAND_LINE_BYTES || !has_uuid(text, length_bytes, self->uuid))
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "process %d is not the domain's QEMU on this host", (int)pid);
	return check_pid_file(self, pid, error);
}

static bool is_process_of(const HvpLibvirtDomain *self, pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
	g_autofree char *text = NULL;
	gsize length_bytes;

	return g_file_get_contents(path, &text, &length_bytes, NULL) &&
	       length_bytes <= MAX_COMMAND_LINE_BYTES && has_uuid(text, length_bytes, self->uuid);
}

static bool read_pid_file(const HvpLibvirtDomain *self, pid_t *ret_pid)
{
	g_autofree char *path = pid_file(self);
	g_autofree char *text = NULL;
	guint64 said;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return false;
	said = g_ascii_strtoull(text, NULL, 10);
	*ret_pid = (pid_t)MIN(said, G_MAXINT);
	return said > 0 && said <= G_MAXINT && is_process_of(self, *ret_pid);
}

bool hvp_libvirt_domain_find_process(const HvpLibvirtDomain *self, pid_t *ret_pid, GError **error)
{
	g_autoptr(GDir) processes = NULL;
	const char *name;
	pid_t found = 0;

	if (read_pid_file(self, ret_pid))
		return true;
	processes = g_dir_open("/proc", 0, NULL);
	while (processes != NULL && (name = g_dir_read_name(processes)) != NULL) {
		guint64 pid;

		if (!g_ascii_string_to_unsigned(name, 10, 1, G_MAXINT, &pid, NULL) ||
		    !is_process_of(self, (pid_t)pid))
			continue;
		if (found != 0)
			return hvp_error_set(error, HVP_ERROR_AMBIGUOUS,
					     "both process %d and %d have the domain's UUID",
					     (int)found, (int)pid);
		found = (pid_t)pid;
	}
	if (found == 0)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
				     "the domain's QEMU is not visible from here: it runs in "
				     "another PID namespace or on another host");
	*ret_pid = found;
	return true;
}

/* --- the configuration --- */

char *hvp_libvirt_domain_read_xml(const HvpLibvirtDomain *self, GError **error)
{
	char *xml = virDomainGetXMLDesc(self->domain, 0);
	char *own = NULL;

	if (xml == NULL)
		hvp_libvirt_set_domain_error(self, error);
	else if (strnlen(xml, MAX_XML_BYTES + 1) > MAX_XML_BYTES)
		hvp_error_set(error, HVP_ERROR_BAD_DATA, "the domain's XML is over %u bytes long",
			      MAX_XML_BYTES);
	else
		own = g_strdup(xml);
	free(xml);
	return own;
}

bool hvp_libvirt_domain_is_persistent(const HvpLibvirtDomain *self)
{
	return virDomainIsPersistent(self->domain) == 1;
}
