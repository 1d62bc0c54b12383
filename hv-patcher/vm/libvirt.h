/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libvirt's domains: which there are, in which state, what libvirt is doing with them, and which
 * process is whose. Asks only, and sends no monitor command; that is vm/libvirt-monitor.h. Types
 * and errors of libvirt do not leave these two files.
 *
 * Every call is one to the libvirt daemon and blocks until it answers, which libvirt bounds by
 * 30 s where a job of its own is in the way; none may be made while a VM is stopped.
 *
 * Errors, if not said otherwise: NOT_FOUND, no daemon, or no such domain; PERMISSION; BUSY, a job
 * of libvirt is in the way; CONFLICT, not in this state; UNSUPPORTED; INVALID_ARGUMENT;
 * VM_GONE, the connection broke; FAULT, whatever else libvirt says. Messages have its own words.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* How libvirt marks a domain to which somebody has sent monitor commands. */
#define HVP_LIBVIRT_TAINT "custom-monitor"

typedef struct HvpLibvirt HvpLibvirt;
typedef struct HvpLibvirtDomain HvpLibvirtDomain;

/*
 * Connects to @uri; NULL: where LIBVIRT_DEFAULT_URI or libvirt's configuration say. TIMED_OUT: no
 * answer within 10 s.
 */
HvpLibvirt *hvp_libvirt_connect(const char *uri, GError **error);

/* Disconnects once no domain is left; NULL is fine. */
void hvp_libvirt_free(HvpLibvirt *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpLibvirt, hvp_libvirt_free)

/*
 * Whether domains of this connection are QEMU's and run on this host. UNSUPPORTED: they are of
 * another hypervisor, or elsewhere, where their memory is out of reach.
 */
bool hvp_libvirt_check_reachable(const HvpLibvirt *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Its URI; borrowed. */
const char *hvp_libvirt_get_uri(const HvpLibvirt *self);

/* What answers at the other end. Versions as numbers: 8.2.1 is 8002001. */
typedef struct {
	gulong library_version;	   /* the daemon's libvirt */
	gulong hypervisor_version; /* of its default QEMU; 0: not known */
} HvpLibvirtVersions;

bool hvp_libvirt_read_versions(const HvpLibvirt *self, HvpLibvirtVersions *ret_versions,
			       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The domain whose name, UUID or number @which is. AMBIGUOUS: it is the name of one and the
 * number of another. */
HvpLibvirtDomain *hvp_libvirt_find(HvpLibvirt *self, const char *which, GError **error);

/* All domains, running or not: HvpLibvirtDomain, running ones by number first, then by name. */
GPtrArray *hvp_libvirt_list(HvpLibvirt *self, GError **error);

void hvp_libvirt_domain_free(HvpLibvirtDomain *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpLibvirtDomain, hvp_libvirt_domain_free)

/* Foreign text, not escaped; borrowed. */
const char *hvp_libvirt_domain_get_name(const HvpLibvirtDomain *self);
const char *hvp_libvirt_domain_get_uuid(const HvpLibvirtDomain *self);
/* As it was when it was found; -1: it does not run. */
int hvp_libvirt_domain_get_id(const HvpLibvirtDomain *self);

/*
 * libvirt's word for its state, such as "running", "paused", "shut off", "crashed"; static.
 * NOT_FOUND: it is gone.
 */
bool hvp_libvirt_domain_read_state(const HvpLibvirtDomain *self, const char **ret_state,
				   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Whether it runs, or is paused: has a QEMU that can be looked at. CONFLICT, naming its state,
 * where it is not.
 */
bool hvp_libvirt_domain_check_active(const HvpLibvirtDomain *self,
				     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Whether no job of libvirt moves or reads its RAM: migration, save, dump, memory snapshot. BUSY,
 * naming it, where one does, and where libvirt does not tell which job it is. Backups and
 * the disks' own jobs do not count.
 */
bool hvp_libvirt_domain_check_no_job(const HvpLibvirtDomain *self,
				     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * All that libvirt tells of such jobs, the last one that ended included, as text that is another
 * one when any has come, gone or got on since; the caller's.
 */
char *hvp_libvirt_domain_describe_jobs(const HvpLibvirtDomain *self, GError **error);

/*
 * Whether no job of libvirt still brings its RAM here: migration in, restore, revert to a snapshot.
 * BUSY, naming it: what can be read is not what the guest has.
 */
bool hvp_libvirt_domain_check_has_arrived(const HvpLibvirtDomain *self,
					  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Whether @pid is its QEMU, as this host has it: by the UUID on its command line, and by
 * libvirt's own pid file where that can be read. CONFLICT.
 */
bool hvp_libvirt_domain_check_process(const HvpLibvirtDomain *self, pid_t pid,
				      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Its QEMU on this host, by libvirt's pid file or, where that is not to be seen, by its UUID on a
 * command line; no monitor command is sent. NOT_FOUND: no such process is visible from here.
 * AMBIGUOUS: several have that UUID.
 */
bool hvp_libvirt_domain_find_process(const HvpLibvirtDomain *self, pid_t *ret_pid,
				     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Its XML as it is now, secrets left out; the caller's. BAD_DATA: too long to be one. */
char *hvp_libvirt_domain_read_xml(const HvpLibvirtDomain *self, GError **error);

/* Whether it has a configuration that outlives it; false where that is not told. */
bool hvp_libvirt_domain_is_persistent(const HvpLibvirtDomain *self);

/* Sets @error from the last error of libvirt in this thread, behind @what; always false. */
bool hvp_libvirt_set_error(GError **error, const char *what);

/* Keeps libvirt from printing errors by itself; for programs, before all else. */
void hvp_libvirt_be_quiet(void);
