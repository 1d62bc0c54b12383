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
/* A line of maps that is longer than this is no vCPU's. */
#define MAPS_BYTES 8192
/* A process may have a million descriptors; a VMM has some hundreds. */
#define MAX_DESCRIPTORS 65536
#define RUN_PAGE_BYTES 4096
/* A vCPU is mapped by who has made it, right behind that. */
#define MAP_USEC 20000
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
	for (guint i = 0; i < self->count + self->parked; i++)
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
	/* One that ends has lost its memory before its descriptors. */
	if (self->count == 0 && !hvp_kvm_process_has_memory(self))
		return hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d has ended",
				     (int)self->pid);
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

/* Whether @line maps the first page of a vCPU. */
static bool parse_mapping(const char *line, guint32 *ret_id, HvpHva *ret_hva)
{
	unsigned long long start, end, offset_bytes;
	const char *name = strstr(line, VCPU_NAME);

	if (name == NULL || !parse_vcpu(name, ret_id) ||
	    sscanf(line, "%llx-%llx %*4s %llx", &start, &end, &offset_bytes) != 3 ||
	    offset_bytes != 0 || end - start < RUN_PAGE_BYTES)
		return false;
	*ret_hva = hvp_hva(start);
	return true;
}

/* Calls @visit for each line in @text; returns how many bytes of it were whole lines. */
static gsize each_line(char *text, gsize length_bytes, void (*visit)(const char *line, void *data),
		       void *data)
{
	gsize done = 0;
	char *end;

	while ((end = memchr(text + done, '\n', length_bytes - done)) != NULL) {
		*end = '\0';
		visit(text + done, data);
		done = (gsize)(end - text) + 1;
	}
	return done;
}

/* Calls @visit for each line of the process's maps. Allocates nothing. */
static bool each_mapping(const HvpKvmProcess *self, void (*visit)(const char *line, void *data),
			 void *data, GError **error)
{
	char path[64], text[MAPS_BYTES];
	gsize kept = 0;
	ssize_t got;
	int fd;

	g_snprintf(path, sizeof path, "/proc/%d/maps", (int)self->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return hvp_access_explain(self->pid, errno, "reading the mappings of", error);
	while ((got = read(fd, text + kept, sizeof text - kept)) > 0) {
		gsize length_bytes = kept + (gsize)got;
		gsize done = each_line(text, length_bytes, visit, data);

		/* One that fills it all is too long; its end is no line that anybody takes. */
		kept = length_bytes - done < sizeof text ? length_bytes - done : 0;
		memmove(text, text + done, kept);
	}
	close(fd);
	return got == 0 || hvp_access_explain(self->pid, errno, "reading the mappings of", error);
}

static void take_mapping(const char *line, void *data)
{
	HvpKvmProcess *self = data;
	guint32 id;
	HvpHva hva;

	if (!parse_mapping(line, &id, &hva))
		return;
	for (guint i = 0; i < self->count; i++)
		if (self->vcpus[i].id == id)
			self->vcpus[i].run = hva;
}

static void count_mapping(const char *line, void *data)
{
	guint32 id;
	HvpHva hva;

	*(guint *)data += parse_mapping(line, &id, &hva);
}

static guint count_mapped(const HvpKvmProcess *self)
{
	guint mapped = 0;

	for (guint i = 0; i < self->count; i++)
		mapped += self->vcpus[i].run.value != 0;
	return mapped;
}

/* Those that are not mapped go behind the others, which stay in their order. */
static void park(HvpKvmProcess *self)
{
	guint mapped = 0;

	for (guint i = 0; i < self->count; i++) {
		HvpKvmVcpu vcpu = self->vcpus[i];

		if (vcpu.run.value == 0)
			continue;
		memmove(&self->vcpus[mapped + 1], &self->vcpus[mapped], (i - mapped) * sizeof vcpu);
		self->vcpus[mapped++] = vcpu;
	}
	self->parked = self->count - mapped;
	self->count = mapped;
}

static bool find_run_pages(HvpKvmProcess *self, GError **error)
{
	if (!each_mapping(self, take_mapping, self, error))
		return false;
	if (count_mapped(self) < self->count) {
		g_usleep(MAP_USEC);
		if (!each_mapping(self, take_mapping, self, error))
			return false;
	}
	park(self);
	return self->count > 0 ||
	       hvp_error_set(error, HVP_ERROR_BUSY, "no vCPU of process %d is mapped (yet)",
			     (int)self->pid);
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

bool hvp_kvm_process_has_memory(const HvpKvmProcess *self)
{
	char path[64], byte;
	ssize_t got;
	int fd;

	g_snprintf(path, sizeof path, "/proc/%d/maps", (int)self->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, &byte, 1);
	close(fd);
	return got == 1;
}

bool hvp_kvm_process_lost_thread(const HvpKvmProcess *self)
{
	for (guint i = 0; i < self->count; i++) {
		char path[64];

		g_snprintf(path, sizeof path, "/proc/%d/task/%d", (int)self->pid,
			   (int)self->vcpus[i].thread_id);
		if (access(path, F_OK) != 0)
			return true;
	}
	return false;
}

bool hvp_kvm_process_check(const HvpKvmProcess *self, GError **error)
{
	Count count = { .process = self };

	guint mapped = 0;

	if (!each_descriptor(self, count_descriptor, &count, error) ||
	    (self->parked > 0 && !each_mapping(self, count_mapping, &mapped, error)))
		return false;
	return (count.vcpus == self->count + self->parked && !count.unknown &&
		(self->parked == 0 || mapped == self->count)) ||
	       hvp_error_set(error, HVP_ERROR_BUSY, "a vCPU came or went");
}

/* Nobody runs one that is parked: it came back, and is none of those that we know. */
static gint find_running(const HvpKvmProcess *self, int fd)
{
	gint index = find_descriptor(self, fd);

	return index < (gint)self->count ? index : -1;
}

gint hvp_kvm_process_find_run(const HvpKvmProcess *self, const struct user_regs_struct *registers)
{
	/* A worker of the kernel (see below) has a copy of a vCPU's registers, and RIP 0. */
	if (registers->rip == 0 || registers->orig_rax != SYS_ioctl ||
	    (guint32)registers->rsi != KVM_RUN)
		return -1;
	return find_running(self, (int)registers->rdi);
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
		*ret_index = find_running(self, (int)fd);
	return true;
}
