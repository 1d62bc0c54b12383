/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/machine.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "vm/access.h"
#include "vm/helper.h"
#include "vm/kvm-process.h"
#include "vm/process-memory.h"
#include "vm/qemu-ram.h"
#include "vm/ram-guess.h"
#include "vm/ram-jobs.h"

#define REGISTERS_WAIT_USEC (5 * G_USEC_PER_SEC)
/* A vCPU that changes between 32 and 64 bits while it is printed garbles its block. */
#define REGISTERS_TRIES 3
#define MAX_QUOTED_BYTES 64

typedef struct {
	guint cpu_index;
	pid_t thread_id;
} Vcpu;

struct HvpMachine {
	HvpMonitor *monitor; /* NULL: it was found without */
	HvpQmp *qmp;	     /* likewise */
	HvpRam *ram;
	HvpPhysical *physical;
	GArray *vcpus; /* of Vcpu, ascending by cpu_index */
	pid_t pid;
	guint64 start_time;
	HvpAccelerator accelerator;
	char *version;
	char *status;
	bool running;
};

static char *quote(const char *text)
{
	return hvp_text_escape(text, HVP_TEXT_TERMINATED, MAX_QUOTED_BYTES);
}

static bool ask_version(HvpMachine *self, HvpDeadline deadline, GError **error)
{
	g_autoptr(JsonNode) node = NULL;
	JsonObject *answer =
		hvp_qmp_query_object(self->qmp, "query-version", deadline, &node, error);
	JsonObject *version = NULL;
	gint64 major, minor, micro;

	if (answer != NULL)
		version = hvp_qmp_as_object(json_object_get_member(answer, "qemu"), "query-version",
					    error);
	if (version == NULL || !hvp_qmp_member_int(version, "major", &major, error) ||
	    !hvp_qmp_member_int(version, "minor", &minor, error) ||
	    !hvp_qmp_member_int(version, "micro", &micro, error))
		return false;
	self->version = g_strdup_printf(
		"%" G_GINT64_FORMAT ".%" G_GINT64_FORMAT ".%" G_GINT64_FORMAT, major, minor, micro);
	return true;
}

static bool ask_target(HvpMachine *self, HvpDeadline deadline, GError **error)
{
	g_autoptr(JsonNode) node = NULL;
	JsonObject *answer =
		hvp_qmp_query_object(self->qmp, "query-target", deadline, &node, error);
	g_autofree char *quoted = NULL;
	const char *arch;

	if (answer == NULL || !hvp_qmp_member_string(answer, "arch", &arch, error))
		return false;
	if (strcmp(arch, "x86_64") == 0)
		return true;
	quoted = quote(arch);
	return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "the VM's architecture is %s, not x86_64", quoted);
}

static bool ask_accelerator(HvpMachine *self, HvpDeadline deadline, GError **error)
{
	g_autoptr(JsonNode) node = NULL;
	JsonObject *answer = hvp_qmp_query_object(self->qmp, "query-kvm", deadline, &node, error);
	bool enabled;

	if (answer == NULL || !hvp_qmp_member_bool(answer, "enabled", &enabled, error))
		return false;
	self->accelerator = enabled ? HVP_ACCELERATOR_KVM : HVP_ACCELERATOR_TCG;
	return true;
}

static int compare_vcpus(const void *a, const void *b)
{
	guint a_index = ((const Vcpu *)a)->cpu_index;
	guint b_index = ((const Vcpu *)b)->cpu_index;

	return (a_index > b_index) - (a_index < b_index);
}

static bool parse_vcpu(JsonNode *node, Vcpu *ret_vcpu, GError **error)
{
	JsonObject *object = hvp_qmp_as_object(node, "query-cpus-fast", error);
	gint64 cpu_index, thread_id;

	if (object == NULL || !hvp_qmp_member_int(object, "cpu-index", &cpu_index, error) ||
	    !hvp_qmp_member_int(object, "thread-id", &thread_id, error))
		return false;
	if (cpu_index < 0 || cpu_index > G_MAXINT || thread_id <= 0 || thread_id > G_MAXINT)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "QEMU lists a vCPU with impossible numbers");
	*ret_vcpu = (Vcpu){(guint)cpu_index, (pid_t)thread_id};
	return true;
}

static bool check_distinct(GArray *vcpus, GError **error)
{
	for (guint i = 1; i < vcpus->len; i++) {
		if (g_array_index(vcpus, Vcpu, i).cpu_index ==
		    g_array_index(vcpus, Vcpu, i - 1).cpu_index)
			return hvp_error_set(error, HVP_ERROR_BAD_DATA,
					     "QEMU lists one vCPU twice");
	}
	return true;
}

static bool ask_vcpus(HvpMachine *self, HvpDeadline deadline, GError **error)
{
	g_autoptr(JsonNode) node = NULL;
	JsonArray *list = hvp_qmp_query_array(self->qmp, "query-cpus-fast", deadline, &node, error);
	guint count;

	if (list == NULL)
		return false;
	count = json_array_get_length(list);
	if (count == 0 || count > HVP_MACHINE_MAX_VCPUS)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "the VM has %u vCPUs", count);
	for (guint i = 0; i < count; i++) {
		Vcpu vcpu;

		if (!parse_vcpu(json_array_get_element(list, i), &vcpu, error))
			return false;
		g_array_append_val(self->vcpus, vcpu);
	}
	g_array_sort(self->vcpus, compare_vcpus);
	return check_distinct(self->vcpus, error);
}

/* The process that thread @thread_id belongs to. */
bool hvp_machine_read_thread_group(pid_t thread_id, pid_t *ret_pid, GError **error)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)thread_id);
	g_autofree char *text = NULL;
	const char *line = NULL;
	guint64 pid = 0;

	if (hvp_helper_is_used() &&
	    !hvp_helper_read(HVP_HELPER_THREAD_GROUP, (guint64)thread_id, &pid, error))
		return false;
	if (!hvp_helper_is_used() && g_file_get_contents(path, &text, NULL, NULL))
		line = strstr(text, "\nTgid:\t");
	if (line != NULL)
		pid = g_ascii_strtoull(line + strlen("\nTgid:\t"), NULL, 10);
	if (pid == 0 || pid > G_MAXINT)
		return hvp_error_set(
			error, HVP_ERROR_NOT_FOUND,
			"the VM's thread %d is not visible from here: QEMU has ended, or "
			"runs in another PID namespace or on another host",
			(int)thread_id);
	*ret_pid = (pid_t)pid;
	return true;
}

static bool find_process(HvpMachine *self, GError **error)
{
	for (guint i = 0; i < self->vcpus->len; i++) {
		pid_t pid = 0;

		if (!hvp_machine_read_thread_group(hvp_machine_get_vcpu_thread_id(self, i), &pid,
						   error))
			return false;
		if (i > 0 && pid != self->pid)
			return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
					     "the VM's threads belong to several processes: QEMU "
					     "runs in another PID namespace or on another host");
		self->pid = pid;
	}
	return true;
}

bool hvp_machine_ask_process(HvpQmp *qmp, HvpDeadline deadline, pid_t *ret_pid, GError **error)
{
	HvpMachine self = { .qmp = qmp, .vcpus = g_array_new(FALSE, TRUE, sizeof(Vcpu)) };
	bool ok = ask_vcpus(&self, deadline, error) && find_process(&self, error);

	g_array_unref(self.vcpus);
	if (ok)
		*ret_pid = self.pid;
	return ok;
}

bool hvp_machine_same_process(const HvpMachine *self)
{
	guint64 start_time;

	return hvp_access_read_start_time(self->pid, &start_time) && start_time == self->start_time;
}

static bool ask_all(HvpMachine *self, HvpDeadline deadline, GError **error)
{
	return ask_version(self, deadline, error) && ask_target(self, deadline, error) &&
	       ask_accelerator(self, deadline, error) && ask_vcpus(self, deadline, error) &&
	       hvp_qmp_query_status(self->qmp, deadline, &self->running, &self->status, error);
}

static bool note_start_time(HvpMachine *self, GError **error)
{
	return hvp_access_read_start_time(self->pid, &self->start_time) ||
	       hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d has ended", (int)self->pid);
}

/* Makes the reader of @ram (taken; NULL: that has failed). */
static bool take_ram(HvpMachine *self, HvpRam *ram, GError **error)
{
	g_autoptr(HvpRam) owned = ram;
	g_autoptr(HvpPhysical) physical = NULL;

	if (ram == NULL)
		return false;
	physical = hvp_process_memory_new(self->pid, ram, error);
	if (physical == NULL)
		return false;
	/* The reader holds on to the process that had this pid a moment ago. */
	if (!hvp_machine_same_process(self))
		return hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d has ended",
				     (int)self->pid);
	self->ram = g_steal_pointer(&owned);
	self->physical = g_steal_pointer(&physical);
	return true;
}

static bool attach_process(HvpMachine *self, HvpDeadline deadline, GError **error)
{
	return find_process(self, error) && note_start_time(self, error) &&
	       take_ram(self, hvp_qemu_ram_query(self->qmp, deadline, error), error);
}

HvpMachine *hvp_machine_open_monitor(HvpMonitor *monitor, HvpDeadline deadline, GError **error)
{
	g_autoptr(HvpMachine) self = g_new0(HvpMachine, 1);

	self->vcpus = g_array_new(FALSE, TRUE, sizeof(Vcpu));
	self->monitor = monitor;
	self->qmp = hvp_monitor_connect(monitor, deadline, error);
	if (self->qmp == NULL || !ask_all(self, deadline, error) ||
	    !attach_process(self, deadline, error))
		return NULL;
	return g_steal_pointer(&self);
}

HvpMachine *hvp_machine_open(const char *qmp_path, HvpDeadline deadline, GError **error)
{
	return hvp_machine_open_monitor(hvp_monitor_new_for_socket(qmp_path), deadline, error);
}

static void add_vcpu(HvpMachine *self, guint id)
{
	Vcpu vcpu = { .cpu_index = id };

	g_array_append_val(self->vcpus, vcpu);
}

static bool ask_for_vcpus(HvpMachine *self, GError **error)
{
	HvpHelperAnswer answer;

	if (!hvp_helper_ask(HVP_HELPER_VCPUS, 0, &answer, NULL, error))
		return false;
	for (guint i = 0; i < MIN(answer.id_count, HVP_HELPER_MAX_IDS); i++)
		add_vcpu(self, answer.ids[i]);
	return true;
}

static bool list_kvm_vcpus(HvpMachine *self, GError **error)
{
	g_autofree HvpKvmProcess *process = g_new0(HvpKvmProcess, 1);
	bool ok = hvp_kvm_process_open(process, self->pid, error);

	for (guint i = 0; ok && i < process->count; i++)
		add_vcpu(self, process->vcpus[i].id);
	hvp_kvm_process_close(process);
	return ok;
}

HvpMachine *hvp_machine_open_process(pid_t pid, GError **error)
{
	g_autoptr(HvpMachine) self = g_new0(HvpMachine, 1);

	self->vcpus = g_array_new(FALSE, TRUE, sizeof(Vcpu));
	self->pid = pid;
	self->accelerator = HVP_ACCELERATOR_KVM;
	self->running = true;
	self->status = g_strdup("running");
	if (!note_start_time(self, error) || !(hvp_helper_is_used() ? ask_for_vcpus(self, error)
								     : list_kvm_vcpus(self, error)))
		return NULL;
	return g_steal_pointer(&self);
}

bool hvp_machine_find_ram(HvpMachine *self, const HvpRegisters *registers, guint count,
			  GError **error)
{
	return take_ram(self, hvp_ram_guess(self->pid, registers, count, error), error);
}

bool hvp_machine_add_monitor(HvpMachine *self, HvpMonitor *monitor, HvpDeadline deadline,
			     GError **error)
{
	g_autoptr(HvpMachine) same = hvp_machine_open_monitor(monitor, deadline, error);

	if (same == NULL)
		return false;
	if (same->pid != self->pid || same->start_time != self->start_time)
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "the monitor of %s is that of process %d, not of %d",
				     hvp_monitor_get_name(same->monitor), (int)same->pid,
				     (int)self->pid);
	self->monitor = g_steal_pointer(&same->monitor);
	self->qmp = g_steal_pointer(&same->qmp);
	return true;
}

bool hvp_machine_has_monitor(const HvpMachine *self)
{
	return self->monitor != NULL;
}

void hvp_machine_free(HvpMachine *self)
{
	if (self == NULL)
		return;
	hvp_physical_free(self->physical);
	hvp_ram_free(self->ram);
	hvp_qmp_free(self->qmp);
	hvp_monitor_free(self->monitor);
	g_array_unref(self->vcpus);
	g_free(self->version);
	g_free(self->status);
	g_free(self);
}

bool hvp_machine_reconnect(HvpMachine *self, HvpDeadline deadline, GError **error)
{
	HvpQmp *qmp;

	if (self->monitor == NULL)
		return hvp_machine_same_process(self) ||
		       hvp_error_set(error, HVP_ERROR_VM_GONE, "process %d has ended",
				     (int)self->pid);
	qmp = hvp_monitor_connect(self->monitor, deadline, error);
	if (qmp == NULL)
		return false;
	hvp_qmp_free(self->qmp);
	self->qmp = qmp;
	if (!hvp_machine_same_process(self))
		return hvp_error_set(error, HVP_ERROR_VM_GONE, "the VM of %s is gone",
				     hvp_monitor_get_name(self->monitor));
	return true;
}

HvpQmp *hvp_machine_get_qmp(HvpMachine *self)
{
	return self->qmp;
}

HvpPhysical *hvp_machine_get_physical(HvpMachine *self)
{
	return self->physical;
}

const HvpRam *hvp_machine_get_ram(const HvpMachine *self)
{
	return self->ram;
}

pid_t hvp_machine_get_pid(const HvpMachine *self)
{
	return self->pid;
}

guint64 hvp_machine_get_start_time(const HvpMachine *self)
{
	return self->start_time;
}

const char *hvp_machine_get_version(const HvpMachine *self)
{
	return self->version;
}

HvpAccelerator hvp_machine_get_accelerator(const HvpMachine *self)
{
	return self->accelerator;
}

const char *hvp_machine_get_accelerator_name(const HvpMachine *self)
{
	return self->accelerator == HVP_ACCELERATOR_KVM ? "kvm" : "tcg";
}

guint hvp_machine_get_vcpu_count(const HvpMachine *self)
{
	return self->vcpus->len;
}

pid_t hvp_machine_get_vcpu_thread_id(const HvpMachine *self, guint index)
{
	g_return_val_if_fail(index < self->vcpus->len, 0);
	return g_array_index(self->vcpus, Vcpu, index).thread_id;
}

guint hvp_machine_get_vcpu_cpu_index(const HvpMachine *self, guint index)
{
	g_return_val_if_fail(index < self->vcpus->len, 0);
	return g_array_index(self->vcpus, Vcpu, index).cpu_index;
}

bool hvp_machine_was_running(const HvpMachine *self)
{
	return self->running;
}

const char *hvp_machine_get_status(const HvpMachine *self)
{
	return self->status;
}

/* Behind the "=" of field @name in @block, its padding skipped; NULL when absent. */
static const char *find_field(const char *block, const char *name)
{
	const char *at = block;

	while ((at = strstr(at, name)) != NULL) {
		const char *behind = at + strlen(name);

		if (at == block || g_ascii_isspace(at[-1])) {
			behind += strspn(behind, " ");
			if (*behind == '=')
				return behind + 1 + strspn(behind + 1, " ");
		}
		at++;
	}
	return NULL;
}

/* A hexadecimal number of at most 64 bits; moves *@at behind it and its padding. */
static bool parse_number(const char **at, guint64 *ret_value)
{
	gsize digits = strspn(*at, "0123456789abcdefABCDEF");

	if (digits == 0 || digits > 16)
		return false;
	*ret_value = g_ascii_strtoull(*at, NULL, 16);
	*at += digits;
	*at += strspn(*at, " ");
	return true;
}

static bool set_bad_field(const char *name, GError **error)
{
	return hvp_error_set(error, HVP_ERROR_BAD_DATA,
			     "QEMU's register dump: %s is missing or garbled", name);
}

static bool parse_field(const char *block, const char *name, guint64 *ret_value, GError **error)
{
	const char *at = find_field(block, name);

	return (at != NULL && parse_number(&at, ret_value)) || set_bad_field(name, error);
}

/* "CS =0010 0000000000000000 ffffffff 00af9b00 ...": the selector and the base. */
static bool parse_segment(const char *block, const char *name, guint64 *ret_selector,
			  guint64 *ret_base, GError **error)
{
	const char *at = find_field(block, name);

	return (at != NULL && parse_number(&at, ret_selector) && *ret_selector <= G_MAXUINT16 &&
		parse_number(&at, ret_base)) ||
	       set_bad_field(name, error);
}

/* QEMU prints the 64-bit names only while the vCPU runs 64-bit code. */
static bool parse_general(const char *block, HvpRegisters *ret_registers, GError **error)
{
	static const char *const names_64[HVP_GENERAL_COUNT] = {
		"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
		"R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15",
	};
	static const char *const names_32[] = {"EAX", "ECX", "EDX", "EBX",
					       "ESP", "EBP", "ESI", "EDI"};
	bool is_64 = find_field(block, "RIP") != NULL;
	gsize count = is_64 ? G_N_ELEMENTS(names_64) : G_N_ELEMENTS(names_32);
	const char *const *names = is_64 ? names_64 : names_32;

	for (gsize i = 0; i < count; i++) {
		if (!parse_field(block, names[i], &ret_registers->general[i], error))
			return false;
	}
	return parse_field(block, is_64 ? "RIP" : "EIP", &ret_registers->rip, error) &&
	       parse_field(block, is_64 ? "RFL" : "EFL", &ret_registers->rflags, error);
}

static bool parse_system(const char *block, HvpRegisters *ret_registers, GError **error)
{
	guint64 cs, ss, selector, base;

	if (!parse_segment(block, "CS", &cs, &base, error) ||
	    !parse_segment(block, "SS", &ss, &base, error) ||
	    !parse_segment(block, "FS", &selector, &ret_registers->fs_base, error) ||
	    !parse_segment(block, "GS", &selector, &ret_registers->gs_base, error))
		return false;
	/* Not needed by everybody: without it CPUs are told apart by less. */
	if (!parse_segment(block, "TR", &selector, &ret_registers->tr_base, NULL))
		ret_registers->tr_base = 0;
	ret_registers->cs = (guint32)cs;
	ret_registers->ss = (guint32)ss;
	return parse_field(block, "IDT", &ret_registers->idt_base, error) &&
	       parse_field(block, "CR0", &ret_registers->cr0, error) &&
	       parse_field(block, "CR3", &ret_registers->cr3, error) &&
	       parse_field(block, "CR4", &ret_registers->cr4, error) &&
	       parse_field(block, "EFER", &ret_registers->efer, error);
}

/* Parses the block behind "CPU#" into the slot of that vCPU, which must be free. */
static bool parse_block(const char *block, const guint *cpu_indices, bool *is_filled,
			HvpRegisters *registers, guint count, GError **error)
{
	char *end;
	guint64 cpu_index = g_ascii_strtoull(block, &end, 10);
	guint slot = 0;

	while (slot < count && cpu_indices[slot] != cpu_index)
		slot++;
	if (!g_ascii_isdigit(*block) || (*end != '\r' && *end != '\n') || slot == count ||
	    is_filled[slot])
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "QEMU's register dump: a vCPU that is unknown or told twice");
	is_filled[slot] = true;
	return parse_general(end, &registers[slot], error) &&
	       parse_system(end, &registers[slot], error);
}

bool hvp_machine_parse_registers(const char *text, const guint *cpu_indices,
				 HvpRegisters *ret_registers, guint count, GError **error)
{
	g_auto(GStrv) blocks = g_strsplit(text, "CPU#", (int)MIN(count, G_MAXINT - 2) + 2);
	g_autofree HvpRegisters *registers = g_new0(HvpRegisters, MAX(count, 1));
	g_autofree bool *is_filled = g_new0(bool, MAX(count, 1));
	guint block_count = MAX(g_strv_length(blocks), 1) - 1;

	if (block_count != count)
		return hvp_error_set(error, HVP_ERROR_BAD_DATA,
				     "QEMU's register dump does not hold exactly %u vCPUs", count);
	for (guint i = 0; i < block_count; i++) {
		if (!parse_block(blocks[i + 1], cpu_indices, is_filled, registers, count, error))
			return false;
	}
	memcpy(ret_registers, registers, count * sizeof *registers);
	return true;
}

static bool read_registers_once(HvpMachine *self, const guint *cpu_indices,
				HvpRegisters *ret_registers, HvpDeadline deadline, GError **error)
{
	g_autofree char *text =
		hvp_qmp_monitor_command(self->qmp, "info registers -a", deadline, error);

	return text != NULL && hvp_machine_parse_registers(text, cpu_indices, ret_registers,
							   self->vcpus->len, error);
}

bool hvp_machine_read_registers(HvpMachine *self, HvpRegisters *ret_registers, guint count,
				GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(REGISTERS_WAIT_USEC);
	g_autofree guint *cpu_indices = g_new0(guint, self->vcpus->len);
	g_autoptr(GError) failure = NULL;

	if (count != self->vcpus->len)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "registers of %u vCPUs asked for, the VM has %u", count,
				     self->vcpus->len);
	if (self->qmp == NULL)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "the VM has no monitor here");
	for (guint i = 0; i < count; i++)
		cpu_indices[i] = g_array_index(self->vcpus, Vcpu, i).cpu_index;
	for (int tries = 0; tries < REGISTERS_TRIES; tries++) {
		g_clear_error(&failure);
		if (read_registers_once(self, cpu_indices, ret_registers, deadline, &failure))
			return true;
		if (!g_error_matches(failure, HVP_ERROR, HVP_ERROR_BAD_DATA))
			break;
	}
	g_propagate_error(error, g_steal_pointer(&failure));
	return false;
}

/* One element of query-chardev: CONFLICT for the owner's gdb server. */
static bool check_chardev(JsonNode *node, bool *ret_leftover, GError **error)
{
	JsonObject *object = hvp_qmp_as_object(node, "query-chardev", error);
	g_autofree char *label_quoted = NULL;
	g_autofree char *where_quoted = NULL;
	const char *label;
	const char *where;

	if (object == NULL || !hvp_qmp_member_string(object, "label", &label, error) ||
	    !hvp_qmp_member_string(object, "filename", &where, error))
		return false;
	if (strcmp(label, HVP_MACHINE_GDB_LABEL) == 0)
		*ret_leftover = true;
	if (!g_str_has_prefix(label, "gdb"))
		return true;
	label_quoted = quote(label);
	where_quoted = quote(where);
	return hvp_error_set(error, HVP_ERROR_CONFLICT,
			     "the VM has a gdb server of its owner (\"%s\" at %s)", label_quoted,
			     where_quoted);
}

bool hvp_machine_find_debugger(HvpMachine *self, HvpDeadline deadline, bool *ret_leftover,
			       GError **error)
{
	g_autoptr(JsonNode) node = NULL;
	JsonArray *list;
	bool leftover = false;

	*ret_leftover = false;
	if (self->qmp == NULL)
		return true;
	list = hvp_qmp_query_array(self->qmp, "query-chardev", deadline, &node, error);
	if (list == NULL)
		return false;
	for (guint i = 0; i < json_array_get_length(list); i++) {
		if (!check_chardev(json_array_get_element(list, i), &leftover, error))
			return false;
	}
	*ret_leftover = leftover;
	return true;
}

char *hvp_machine_describe_ram_jobs(HvpMachine *self, HvpDeadline deadline, GError **error)
{
	return hvp_ram_jobs_describe(self->qmp, deadline, error);
}

bool hvp_machine_find_ram_job(HvpMachine *self, HvpDeadline deadline, char **ret_job,
			      GError **error)
{
	return self->qmp ? hvp_ram_jobs_ask(self->qmp, self->pid, deadline, ret_job, error)
			 : hvp_ram_jobs_find_userfaultfd(self->pid, ret_job, error);
}
