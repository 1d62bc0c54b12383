/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was found out about a host and a VM, before anybody judges it: plain data, made by the
 * *-facts.c files beside this one or written down by a test, read by *-items.c. Text is foreign
 * and not escaped.
 *
 *   /proc, /sys, libvirt, QMP -> facts -> items (ok, warning, missing) -> a table or JSON
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

typedef enum {
	HVP_FACTS_UNKNOWN,
	HVP_FACTS_NO,
	HVP_FACTS_YES,
} HvpFactsAnswer;

/* A file or a folder that hvpatch needs. */
typedef struct {
	char *path;    /* NULL: not known */
	GError *error; /* why it is of no use; NULL: it can be used */
} HvpFactsPlace;

typedef struct {
	char *architecture; /* as uname(2) has it */
	char *user_name;    /* ours */
	uid_t user_id;

	GError *kvm_error;	   /* of hvp_kvm_run_check */
	HvpFactsAnswer kvm_nested; /* the module's parameter; UNKNOWN: no KVM */

	gint yama_scope; /* kernel.yama.ptrace_scope; -1: the kernel has no Yama */
	bool has_ptrace_capability;
	HvpFactsAnswer in_first_user_namespace;
	HvpFactsAnswer selinux_enforces; /* UNKNOWN: there is no SELinux */
	HvpFactsAnswer selinux_denies_ptrace;
	HvpFactsAnswer apparmor_enabled;
	char *apparmor_label; /* ours, with its mode; NULL: not told */
	char *apparmor_rules; /* of libvirt's abstraction for QEMU; NULL: not to be read */

	char *qemu_path;     /* NULL: there is none */
	gulong qemu_version; /* 7.2.1 is 7002001; 0: not told */
	bool libvirt_was_asked;
	char *libvirt_uri;	/* NULL: not told */
	gulong libvirt_version; /* of the daemon; 0: no connection */
	GError *libvirt_error;

	HvpFactsPlace keeper;
	HvpFactsPlace bridge; /* hvpatch-libvirt-monitor */
	HvpFactsPlace journal;
	HvpFactsPlace cache;
	HvpFactsPlace plugin;
} HvpFactsHost;

void hvp_facts_host_clear(HvpFactsHost *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HvpFactsHost, hvp_facts_host_clear)

typedef enum {
	HVP_FACTS_DOMAIN, /* of libvirt; no monitor command was sent */
	HVP_FACTS_SOCKET, /* a plain QEMU by its QMP socket */
} HvpFactsKind;

typedef enum {
	HVP_FACTS_ACCELERATOR_UNKNOWN,
	HVP_FACTS_ACCELERATOR_TCG,
	HVP_FACTS_ACCELERATOR_KVM,
	HVP_FACTS_ACCELERATOR_OTHER,
} HvpFactsAccelerator;

typedef enum {
	HVP_FACTS_AGENT_UNKNOWN,
	HVP_FACTS_AGENT_ABSENT,
	HVP_FACTS_AGENT_CLOSED, /* the channel is there, nobody in the guest at it */
	HVP_FACTS_AGENT_OPEN,
} HvpFactsAgent;

typedef struct {
	HvpFactsKind kind;
	GError *reach_error; /* then nothing below is known */
	char *name;	     /* of the domain; the socket's path */
	char *uuid;	     /* of a domain: libvirt's own spelling */
	bool is_persistent;
	char *state; /* libvirt's or QEMU's word */
	bool is_running;
	bool is_active; /* has a process */
	pid_t pid;	/* 0: not known */
	gulong qemu_version;

	char *architecture; /* of the guest; NULL: not told */
	HvpFactsAccelerator accelerator;
	char *encryption;  /* such as "sev"; NULL: none */
	char *job;	   /* that moves or reads RAM; NULL: none */
	GError *job_error; /* why that is not known */
	HvpFactsAnswer has_userfaultfd;
	char **capabilities; /* of migration, that are on; NULL: not asked */
	char *debugger;	     /* a gdb stub of the owner: where; NULL: none */

	HvpFactsAnswer has_process; /* /proc/PID was read */
	uid_t process_user_id;
	char *process_user_name;
	char *tracer;	      /* "NAME (pid N)"; NULL: none */
	GError *access_error; /* of reading its memory */

	HvpFactsAnswer memory_is_shared;
	char *memory_source; /* "memfd", "hugepages"...; NULL: not told */
	HvpFactsAgent agent;
	bool has_serial_controller; /* a virtio-serial one, that the agent's channel needs */
	HvpFactsAnswer nested;	    /* the guest's CPU has vmx or svm, as far as it is told */
	char *cpu;		    /* libvirt's mode or model; NULL: not told */
	bool cpu_is_hosts;	    /* it has all that the host's has */
} HvpFactsVm;

void hvp_facts_vm_clear(HvpFactsVm *self);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HvpFactsVm, hvp_facts_vm_clear)
