/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "worker/place.h"

#include "agent/port.h"
#include "engine/open.h"
#include "vm/access.h"

#define CONNECT_USEC (10 * G_USEC_PER_SEC)
#define FIND_USEC (2 * G_USEC_PER_SEC)

void hvp_place_free(HvpPlace *self)
{
	if (self == NULL)
		return;
	hvp_qmp_free(self->qmp);
	hvp_monitor_free(self->monitor);
	g_free(self->uri);
	g_free(self->uuid);
	g_free(self->agent_path);
	g_free(self);
}

bool hvp_place_check(const HvpPlace *self, GError **error)
{
	guint64 start_time;

	return (hvp_access_read_start_time(self->pid, &start_time) &&
		start_time == self->start_time) ||
	       hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d has ended", (int)self->pid);
}

bool hvp_place_check_no_job(const HvpPlace *self, GError **error)
{
	g_autoptr(HvpLibvirt) libvirt = NULL;
	g_autoptr(HvpLibvirtDomain) domain = NULL;

	if (self->uuid == NULL)
		return true;
	libvirt = hvp_libvirt_connect(self->uri, error);
	domain = libvirt ? hvp_libvirt_find(libvirt, self->uuid, error) : NULL;
	return domain != NULL && hvp_libvirt_domain_check_no_job(domain, error);
}

bool hvp_place_read_jobs(const HvpPlace *self, guint64 *ret_jobs, GError **error)
{
	g_autoptr(HvpLibvirt) libvirt = NULL;
	g_autoptr(HvpLibvirtDomain) domain = NULL;
	g_autofree char *text = NULL;

	if (self->uuid == NULL)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "the VM is no domain's");
	libvirt = hvp_libvirt_connect(self->uri, error);
	domain = libvirt ? hvp_libvirt_find(libvirt, self->uuid, error) : NULL;
	text = domain ? hvp_libvirt_domain_describe_jobs(domain, error) : NULL;
	if (text == NULL)
		return false;
	*ret_jobs = g_str_hash(text);
	return true;
}

/* A connection on which QEMU says that it is the process that it was. */
static HvpQmp *connect_again(HvpPlace *self, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(CONNECT_USEC);
	g_autoptr(HvpQmp) qmp = hvp_monitor_connect(self->monitor, deadline, error);
	pid_t pid;

	if (qmp == NULL || !hvp_machine_ask_process(qmp, deadline, &pid, error) ||
	    !hvp_place_check(self, error))
		return NULL;
	if (pid == self->pid)
		return g_steal_pointer(&qmp);
	hvp_error_set(error, HVP_ERROR_VM_GONE, "another process answers at the VM's monitor");
	return NULL;
}

HvpQmp *hvp_place_connect(HvpPlace *self, GError **error)
{
	if (self->monitor == NULL) {
		hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "the VM has no monitor here");
		return NULL;
	}
	return self->qmp ? g_steal_pointer(&self->qmp) : connect_again(self, error);
}

static bool note_start_time(HvpPlace *self, GError **error)
{
	return hvp_access_read_start_time(self->pid, &self->start_time) ||
	       hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d has ended", (int)self->pid);
}

/* No failure matters: without the agent it takes longer, and that is all. */
static void find_agent(HvpPlace *self, const HvpJob *job, const HvpLibvirtDomain *domain)
{
	if (!hvp_job_is_changing(job) || g_strcmp0(job->agent_path, "none") == 0)
		return;
	if (job->agent_path != NULL)
		self->agent_path = g_strdup(job->agent_path);
	else if (domain != NULL)
		self->agent_path = hvp_open_find_agent(domain);
	else
		(void)!hvp_port_find(self->qmp, hvp_deadline_in(FIND_USEC), &self->agent_path,
				     NULL);
}

static bool open_monitor(HvpPlace *self, const HvpJob *job, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(CONNECT_USEC);

	self->qmp = hvp_monitor_connect(self->monitor, deadline, error);
	if (self->qmp == NULL ||
	    !hvp_machine_ask_process(self->qmp, deadline, &self->pid, error) ||
	    !note_start_time(self, error))
		return false;
	find_agent(self, job, NULL);
	return true;
}

/* One that an earlier worker left to the gdb stub may stand, which only the monitor tells of. */
static bool is_seen(const HvpJob *job, const HvpLibvirtDomain *domain, bool *ret_seen,
		    GError **error)
{
	GError *local = NULL;

	*ret_seen = hvp_open_check_running(domain, &local);
	if (*ret_seen)
		return true;
	if (job->verb != HVP_JOB_RECOVER) {
		g_propagate_error(error, local);
		return false;
	}
	g_error_free(local);
	return true;
}

/* *@ret_pid is its process where that will do, so that libvirt marks nothing; else 0. */
static bool find_process(const HvpJob *job, const HvpLibvirtDomain *domain, pid_t *ret_pid,
			 GError **error)
{
	bool seen;

	*ret_pid = 0;
	if (job->backend == HVP_TARGET_BACKEND_GDBSTUB)
		return true;
	if (!hvp_open_find_kvm(domain, ret_pid, error))
		return false;
	if (*ret_pid == 0)
		return true;
	if (!is_seen(job, domain, &seen, error))
		return false;
	if (!seen)
		*ret_pid = 0;
	return true;
}

static bool open_domain(HvpPlace *self, const HvpJob *job, const HvpLibvirtDomain *domain,
			GError **error)
{
	if (!find_process(job, domain, &self->pid, error))
		return false;
	self->by_monitor = self->pid == 0;
	self->monitor = hvp_monitor_new_for_domain(self->uri, self->uuid, self->id,
						   hvp_libvirt_domain_get_name(domain));
	if (!self->by_monitor)
		find_agent(self, job, domain);
	return (self->by_monitor ? open_monitor(self, job, error) : note_start_time(self, error)) &&
	       hvp_libvirt_domain_check_process(domain, self->pid, error);
}

static bool find_domain(HvpPlace *self, const HvpJob *job, GError **error)
{
	g_autoptr(HvpLibvirt) libvirt = hvp_libvirt_connect(job->uri, error);
	g_autoptr(HvpLibvirtDomain) domain =
		libvirt ? hvp_libvirt_find(libvirt, job->uuid, error) : NULL;

	if (domain == NULL || !hvp_libvirt_check_reachable(libvirt, error) ||
	    !hvp_libvirt_domain_check_active(domain, error) ||
	    !hvp_libvirt_domain_check_has_arrived(domain, error) ||
	    (hvp_job_is_changing(job) && job->verb != HVP_JOB_RECOVER &&
	     !hvp_libvirt_domain_check_no_job(domain, error)))
		return false;
	self->uri = g_strdup(hvp_libvirt_get_uri(libvirt));
	self->uuid = g_strdup(hvp_libvirt_domain_get_uuid(domain));
	self->id = hvp_libvirt_domain_get_id(domain);
	return open_domain(self, job, domain, error);
}

HvpPlace *hvp_place_new(const HvpJob *job, GError **error)
{
	g_autoptr(HvpPlace) self = g_new0(HvpPlace, 1);
	bool found;

	if (job->qmp_path != NULL) {
		self->monitor = hvp_monitor_new_for_socket(job->qmp_path);
		self->by_monitor = true;
		found = open_monitor(self, job, error);
	} else {
		found = find_domain(self, job, error);
	}
	return found ? g_steal_pointer(&self) : NULL;
}
