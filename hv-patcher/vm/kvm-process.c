/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/kvm-process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vm/access.h"

#define VCPU_NAME "anon_inode:kvm-vcpu:"
#define VM_NAME "anon_inode:kvm-vm"
/* Held by QEMU for SEV; guest_memfd is what TDX and SEV-SNP guests run from. */
#define SEV_NAME "/dev/sev"
#define GUEST_MEMORY_NAME "anon_inode:[kvm-gmem]"

#define LIST_BYTES 4096
/* A process may have a million descriptors; a VMM has some hundreds. */
#define MAX_DESCRIPTORS 65536
#define RUN_PAGE_BYTES 4096
/* All signals but SIGKILL and SIGSTOP. */
#define ALL_BLOCKED 0xfffffffffffbfeffULL

typedef struct {
	const HvpKvmProcess *process;
	guint vcpus;
	guint vms;
	bool encrypted;
	bool unknown; /* a vCPU that is not in the process's list */
} Count;

/* "N" behind VCPU_NAME. */
static bool parse_vcpu(const char *link, guint32 *ret_id)
{
	const char *digits = link + strlen(VCPU_NAME);
	char *end;
	unsigned long id;

	if (strncmp(link, VCPU_NAME, strlen(VCPU_NAME)) != 0 || !g_ascii_isdigit(*digits))
		return false;
	id = strtoul(digits, &end, 10);
	*ret_id = (guint32)id;
	return *end == '\0' && id <= G_MAXUINT32;
}

static gint find_descriptor(const HvpKvmProcess *self, int fd)
{
	for (guint i = 0; i < self->count; i++)
		if (self->vcpus[i].fd == fd)
			return (gint)i;
	return -1;
}

/* Calls @visit for each descriptor of the process and what it leads to. */
static bool each_descriptor(const HvpKvmProcess *self,
			    bool (*visit)(int fd, const char *link, void *data), void *data,
			    GError **error)
{
	char list[LIST_BYTES] __attribute__((aligned(8)));
	guint left = MAX_DESCRIPTORS;
	ssize_t got;

	if (lseek(self->fd_folder, 0, SEEK_SET) < 0)
		return hvp_access_explain(self->pid, errno, "listing the descriptors of", error);
	while ((got = getdents64(self->fd_folder, list, sizeof list)) > 0) {
		for (ssize_t at = 0; at < got;) {
			const struct dirent64 *entry = (const void *)(list + at);
			char link[64];
			ssize_t length;

			at += entry->d_reclen;
			if (!g_ascii_isdigit(entry->d_name[0]) || left-- == 0)
				continue;
			length = readlinkat(self->fd_folder, entry->d_name, link, sizeof link - 1);
			if (length < 0)
				continue;
			link[length] = '\0';
			if (!visit(atoi(entry->d_name), link, data))
				return true;
		}
	}
	return got == 0 ||
	       hvp_access_explain(self->pid, errno, "listing the descriptors of", error);
}

static bool add_descriptor(int fd, const char *link, void *data)
{
	HvpKvmProcess *self = data;
	guint32 id;

	if (!parse_vcpu(link, &id))
		return true;
	/* Over the limit: one too many tells. */
	if (self->count < HVP_KVM_MAX_VCPUS)
		self->vcpus[self->count] = (HvpKvmVcpu){ .id = id, .fd = fd };
	self->count++;
	return self->count <= HVP_KVM_MAX_VCPUS;
}

static bool count_descriptor(int fd, const char *link, void *data)
{
	Count *count = data;
	guint32 id;

	if (parse_vcpu(link, &id)) {
		gint index = find_descriptor(count->process, fd);

		count->vcpus++;
		count->unknown |= index < 0 || count->process->vcpus[index].id != id;
	}
	if (strcmp(link, VM_NAME) == 0)
		count->vms++;
	count->encrypted |= strcmp(link, SEV_NAME) == 0 || strcmp(link, GUEST_MEMORY_NAME) == 0;
	return true;
}

static int compare_vcpus(const void *a, const void *b)
{
	const HvpKvmVcpu *one = a;
	const HvpKvmVcpu *other = b;

	return (one->id > other->id) - (one->id < other->id);
}

/* A descriptor may be there twice (dup, or an inherited one): that is nothing that we know. */
static bool check_distinct(const HvpKvmProcess *self, GError **error)
{
	for (guint i = 1; i < self->count; i++)
		if (self->vcpus[i].id == self->vcpus[i - 1].id)
			return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
					     "process %d has vCPU %u twice: several VMs in one "
					     "process",
					     (int)self->pid, self->vcpus[i].id);
	return true;
}

static bool list_vcpus(HvpKvmProcess *self, GError **error)
{
	Count count = { .process = self };

	if (!each_descriptor(self, add_descriptor, self, error))
		return false;
	if (self->count == 0 || self->count > HVP_KVM_MAX_VCPUS)
		return hvp_error_set(error,
				     self->count ? HVP_ERROR_UNSUPPORTED : HVP_ERROR_NOT_FOUND,
				     "process %d has %s vCPUs of KVM", (int)self->pid,
				     self->count ? "too many" : "no");
	qsort(self->vcpus, self->count, sizeof *self->vcpus, compare_vcpus);
	if (!check_distinct(self, error) || !each_descriptor(self, count_descriptor, &count, error))
		return false;
	if (count.encrypted)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the guest of process %d is, or may be, encrypted (SEV, TDX)",
				     (int)self->pid);
	if (count.vms > 1)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "process %d holds %u VMs of KVM",
				     (int)self->pid, count.vms);
	return true;
}

/* Takes the address of a line that maps the first page of a vCPU. */
static void take_mapping(HvpKvmProcess *self, const char *line)
{
	unsigned long long start, end, offset_bytes;
	const char *name = strstr(line, VCPU_NAME);
	guint32 id;

	if (name == NULL || !parse_vcpu(name, &id) ||
	    sscanf(line, "%llx-%llx %*4s %llx", &start, &end, &offset_bytes) != 3 ||
	    offset_bytes != 0 || end - start < RUN_PAGE_BYTES)
		return;
	for (guint i = 0; i < self->count; i++)
		if (self->vcpus[i].id == id)
			self->vcpus[i].run = hvp_hva(start);
}

static bool find_run_pages(HvpKvmProcess *self, GError **error)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/maps", (int)self->pid);
	FILE *file = fopen(path, "re");
	size_t line_size = 0;
	char *line = NULL;

	if (file == NULL)
		return hvp_access_explain(self->pid, errno, "reading the mappings of", error);
	while (getline(&line, &line_size, file) > 0) {
		line[strcspn(line, "\n")] = '\0';
		take_mapping(self, line);
	}
	free(line);
	fclose(file);
	for (guint i = 0; i < self->count; i++)
		if (self->vcpus[i].run.value == 0)
			return hvp_error_set(error, HVP_ERROR_BUSY,
					     "vCPU %u of process %d is not mapped (yet)",
					     self->vcpus[i].id, (int)self->pid);
	return true;
}

bool hvp_kvm_process_open(HvpKvmProcess *self, pid_t pid, GError **error)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)pid);

	memset(self, 0, sizeof *self);
	self->pid = pid;
	self->fd_folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (self->fd_folder < 0)
		return hvp_access_explain(pid, errno, "listing the descriptors of", error);
	return list_vcpus(self, error) && find_run_pages(self, error);
}

void hvp_kvm_process_close(HvpKvmProcess *self)
{
	if (self->fd_folder > 0)
		close(self->fd_folder);
	self->fd_folder = -1;
}

bool hvp_kvm_process_check(const HvpKvmProcess *self, GError **error)
{
	Count count = { .process = self };

	if (!each_descriptor(self, count_descriptor, &count, error))
		return false;
	return (count.vcpus == self->count && !count.unknown) ||
	       hvp_error_set(error, HVP_ERROR_BUSY, "a vCPU came or went");
}

gint hvp_kvm_process_find_run(const HvpKvmProcess *self, const struct user_regs_struct *registers)
{
	/* A worker of the kernel (see below) has a copy of a vCPU's registers, and RIP 0. */
	if (registers->rip == 0 || registers->orig_rax != SYS_ioctl ||
	    (guint32)registers->rsi != KVM_RUN)
		return -1;
	return find_descriptor(self, (int)registers->rdi);
}

/*
 * The kernel's own workers among the threads of a process (since 5.12: io_uring, 6.4: vhost, 6.14:
 * KVM's page recovery) were copied from one of its threads, perhaps from within KVM_RUN. They
 * let no signal in, and may be long in coming to where they could be stopped.
 */
static bool is_worker(const HvpKvmProcess *self, pid_t thread_id)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/status", (int)self->pid,
						(int)thread_id);
	g_autofree char *text = NULL;
	const char *blocked;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return true;
	blocked = strstr(text, "\nSigBlk:\t");
	return blocked != NULL &&
	       g_ascii_strtoull(blocked + strlen("\nSigBlk:\t"), NULL, 16) == ALL_BLOCKED;
}

bool hvp_kvm_process_ask_thread(const HvpKvmProcess *self, pid_t thread_id, gint *ret_index,
				bool *ret_running)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/syscall", (int)self->pid,
						(int)thread_id);
	g_autofree char *text = NULL;
	unsigned long long fd, request, ip;
	long number;

	*ret_index = -1;
	*ret_running = false;
	if (!g_file_get_contents(path, &text, NULL, NULL))
		return false;
	*ret_running = g_str_has_prefix(text, "running") && !is_worker(self, thread_id);
	if (sscanf(text, "%ld %llx %llx %*x %*x %*x %*x %*x %llx", &number, &fd, &request, &ip) ==
		    4 &&
	    number == SYS_ioctl && (guint32)request == KVM_RUN && ip != 0)
		*ret_index = find_descriptor(self, (int)fd);
	return true;
}
