/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/target.h"

#include "agent/port.h"
#include "engine/glance.h"
#include "guest/tasks.h"
#include "vm/helper.h"

#include <string.h>
#include <unistd.h>

#define CONNECT_USEC (10 * G_USEC_PER_SEC)
#define FIND_USEC (2 * G_USEC_PER_SEC)
#define SYSTEM_CACHE_FOLDER "/var/cache/hvpatch"
#define CR0_PG (1ULL << 31)
/* Of the vCPUs' page tables some may be gone by the time they are looked at. */
#define FIND_RAM_TRIES 5

char *hvp_target_cache_folder(void)
{
	/* Who opens no files has none: what one guest's worker left is not for another's. */
	if (hvp_helper_is_used())
		return NULL;
	if (geteuid() == 0)
		return g_strdup(SYSTEM_CACHE_FOLDER);
	return g_build_filename(g_get_user_cache_dir(), "hvpatch", NULL);
}

void hvp_target_free(HvpTarget *self)
{
	if (self == NULL)
		return;
	hvp_unwinder_free(self->unwinder);
	hvp_modules_free(self->modules);
	hvp_kernel_free(self->kernel);
	hvp_core_free(self->core);
	hvp_machine_free(self->machine);
	if (self->owner.free_data != NULL)
		self->owner.free_data(self->owner.data);
	g_free(self->registers);
	g_free(self->agent_path);
	g_free(self->oracle_path);
	g_free(self->journal_folder);
	g_free(self->name);
	g_free(self);
}

static bool attach_kernel(HvpTarget *self, GError **error)
{
	g_autofree char *cache = hvp_target_cache_folder();

	self->kernel = hvp_kernel_attach(self->physical, self->registers, self->vcpu_count, cache,
					 error);
	return self->kernel != NULL && hvp_target_refresh_modules(self, error);
}

HvpTarget *hvp_target_open_monitor(HvpMonitor *monitor, const char *name, GError **error)
{
	g_autoptr(HvpTarget) self = g_new0(HvpTarget, 1);
	gint64 started = g_get_monotonic_time();

	self->name = g_strdup(name);
	self->machine = hvp_machine_open_monitor(monitor, hvp_deadline_in(CONNECT_USEC), error);
	if (self->machine == NULL)
		return NULL;
	self->physical = hvp_machine_get_physical(self->machine);
	self->vcpu_count = hvp_machine_get_vcpu_count(self->machine);
	self->registers = g_new0(HvpRegisters, self->vcpu_count);
	if (!hvp_machine_read_registers(self->machine, self->registers, self->vcpu_count, error))
		return NULL;
	self->connect_usec = g_get_monotonic_time() - started;
	if (!attach_kernel(self, error))
		return NULL;
	return g_steal_pointer(&self);
}

/* Registers, and with them where the RAM is. */
static bool look_at_process(HvpTarget *self, GError **error)
{
	HvpMachine *machine = self->machine;

	g_clear_pointer(&self->registers, g_free);
	self->registers = hvp_glance_read_registers(machine, self->journal_folder, error);
	return self->registers != NULL &&
	       hvp_machine_find_ram(machine, self->registers, self->vcpu_count, error);
}

static bool look_again_and_again(HvpTarget *self, GError **error)
{
	GError *local = NULL;

	for (guint i = 0; i < FIND_RAM_TRIES; i++) {
		g_clear_error(&local);
		if (look_at_process(self, &local))
			return true;
		if (!g_error_matches(local, HVP_ERROR, HVP_ERROR_UNSUPPORTED) ||
		    self->registers == NULL)
			break;
	}
	g_propagate_error(error, local);
	return false;
}

HvpTarget *hvp_target_open_process(pid_t pid, const char *name, GError **error)
{
	g_autoptr(HvpTarget) self = g_new0(HvpTarget, 1);
	gint64 started = g_get_monotonic_time();

	self->name = g_strdup(name);
	self->machine = hvp_machine_open_process(pid, error);
	if (self->machine == NULL)
		return NULL;
	self->vcpu_count = hvp_machine_get_vcpu_count(self->machine);
	if (!look_again_and_again(self, error))
		return NULL;
	self->physical = hvp_machine_get_physical(self->machine);
	self->connect_usec = g_get_monotonic_time() - started;
	if (!attach_kernel(self, error))
		return NULL;
	return g_steal_pointer(&self);
}

HvpTarget *hvp_target_open_qmp(const char *qmp_path, GError **error)
{
	return hvp_target_open_monitor(hvp_monitor_new_for_socket(qmp_path), qmp_path, error);
}

bool hvp_target_need_monitor(HvpTarget *self, const char *what_for, GError **error)
{
	if (hvp_machine_has_monitor(self->machine))
		return true;
	if (self->owner.find_monitor == NULL)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "%s needs the VM's monitor, and nobody tells where it is",
				     what_for);
	g_message("%s: the monitor is used, for which the VM is marked (%s)", what_for,
		  self->owner.taint);
	self->taint = self->owner.taint;
	return hvp_machine_add_monitor(self->machine, self->owner.find_monitor(self->owner.data),
				       hvp_deadline_in(CONNECT_USEC), error);
}

const char *const hvp_target_backend_names[] = { [HVP_TARGET_BACKEND_AUTO] = "auto",
						 [HVP_TARGET_BACKEND_GDBSTUB] = "gdbstub",
						 [HVP_TARGET_BACKEND_KVM] = "kvm",
						 NULL };

bool hvp_target_choose_backend(HvpTarget *self, HvpTargetBackend wanted, GError **error)
{
	bool is_kvm = self->machine != NULL &&
		      hvp_machine_get_accelerator(self->machine) == HVP_ACCELERATOR_KVM;
	bool is_named = wanted == HVP_TARGET_BACKEND_GDBSTUB || wanted == HVP_TARGET_BACKEND_KVM;

	if (wanted == HVP_TARGET_BACKEND_KVM && !is_kvm)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the VM is emulated: the kvm backend finds no vCPUs of KVM");
	if (wanted == HVP_TARGET_BACKEND_GDBSTUB && self->machine != NULL &&
	    !hvp_machine_has_monitor(self->machine))
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "there is no monitor here that would start the gdb stub");
	self->by_kvm = is_kvm && wanted != HVP_TARGET_BACKEND_GDBSTUB;
	if (self->machine == NULL)
		self->backend_why = "a dump does not run";
	else if (is_named)
		self->backend_why = "asked for";
	else
		self->backend_why = is_kvm ? "the VM runs under KVM" : "the VM is emulated";
	return true;
}

bool hvp_target_hand_over(HvpTarget *self, HvpKeeper *keeper, GError **error)
{
	HvpKvmPlace place = { .pid = hvp_machine_get_pid(self->machine),
			      .start_time = hvp_machine_get_start_time(self->machine) };

	place.ranges = hvp_ram_get_ranges(hvp_machine_get_ram(self->machine), &place.range_count);
	return hvp_keeper_use_kvm(keeper, &place, error);
}

static char *ask_for_agent(HvpTarget *self)
{
	g_autoptr(GError) reason = NULL;
	char *path = NULL;

	if (!hvp_port_find(hvp_machine_get_qmp(self->machine), hvp_deadline_in(FIND_USEC), &path,
			   &reason))
		g_debug("looking for the guest's agent: %s", reason->message);
	return path;
}

void hvp_target_find_agent(HvpTarget *self, const char *path)
{
	g_clear_pointer(&self->agent_path, g_free);
	if (path != NULL)
		self->agent_path = g_strdup(path);
	else if (self->machine != NULL && hvp_machine_has_monitor(self->machine))
		self->agent_path = ask_for_agent(self);
	else if (self->owner.find_agent != NULL)
		self->agent_path = self->owner.find_agent(self->owner.data);
}

HvpTarget *hvp_target_open_core(const char *path, GError **error)
{
	g_autoptr(HvpTarget) self = g_new0(HvpTarget, 1);
	const HvpRegisters *registers;

	self->name = g_strdup(path);
	self->core = hvp_core_open(path, error);
	if (self->core == NULL)
		return NULL;
	self->physical = hvp_core_get_physical(self->core);
	registers = hvp_core_get_registers(self->core, &self->vcpu_count);
	self->registers = g_memdup2(registers, self->vcpu_count * sizeof *registers);
	if (!attach_kernel(self, error))
		return NULL;
	return g_steal_pointer(&self);
}

HvpUnwinder *hvp_target_get_unwinder(HvpTarget *self, GError **error)
{
	if (self->unwinder == NULL)
		self->unwinder = hvp_unwinder_new(self->kernel, error);
	if (self->unwinder != NULL)
		hvp_unwinder_set_modules(self->unwinder, self->modules);
	return self->unwinder;
}

bool hvp_target_refresh_modules(HvpTarget *self, GError **error)
{
	HvpModules *modules;

	hvp_address_space_forget(hvp_kernel_get_space(self->kernel));
	modules = hvp_modules_read(self->kernel, error);
	if (modules == NULL)
		return false;
	if (self->unwinder != NULL)
		hvp_unwinder_set_modules(self->unwinder, modules);
	hvp_modules_free(self->modules);
	self->modules = modules;
	return true;
}

bool hvp_target_symbolize(HvpTarget *self, HvpGva pc, const char **ret_module,
			  const char **ret_name, HvpGvaRange *ret_range)
{
	HvpModule *module;

	if (hvp_kernel_find_address(self->kernel, pc, ret_name, ret_range)) {
		*ret_module = "vmlinux";
		return true;
	}
	module = hvp_modules_find_address(self->modules, pc);
	if (module == NULL)
		return false;
	*ret_module = module->name;
	return hvp_modules_symbolize(self->modules, module, pc, ret_name, ret_range);
}

const char *hvp_target_vcpu_state_name(HvpVcpuState state)
{
	static const char *const names[] = { "kernel", "user", "idle", "off" };

	return (guint)state < G_N_ELEMENTS(names) ? names[state] : "off";
}

/* The per-CPU base is in GS in kernel mode; the monitor does not tell where it is in user mode. */
static bool find_cpu(HvpTarget *self, const HvpRegisters *registers, guint *ret_cpu)
{
	guint index = (guint)(registers - self->registers);

	if (hvp_kernel_find_cpu(self->kernel, registers->gs_base, ret_cpu) ||
	    hvp_kernel_find_cpu(self->kernel, registers->kernel_gs_base, ret_cpu) ||
	    hvp_kernel_find_cpu_by_tss(self->kernel, registers->tr_base, ret_cpu))
		return true;
	/* Linux numbers CPUs as the firmware lists them, which is QEMU's order. */
	*ret_cpu = index;
	return hvp_registers_in_user_mode(registers) && index < self->vcpu_count &&
	       index < hvp_kernel_get_cpu_count(self->kernel);
}

HvpVcpuState hvp_target_vcpu_state(HvpTarget *self, const HvpRegisters *registers, gint32 *ret_pid,
				   char *ret_comm, gsize comm_bytes)
{
	HvpAddressSpace *space = hvp_kernel_get_space(self->kernel);
	HvpGva address;
	guint64 current;
	HvpTask task;
	guint cpu;

	*ret_pid = -1;
	g_strlcpy(ret_comm, "", comm_bytes);
	if ((registers->cr0 & CR0_PG) == 0 || !find_cpu(self, registers, &cpu) ||
	    hvp_kernel_get_cpu_offset(self->kernel, cpu) == 0 ||
	    !hvp_kernel_current_address(self->kernel, cpu, &address, NULL) ||
	    !hvp_address_space_read_u64(space, address, &current, NULL) ||
	    !hvp_tasks_read_one(self->kernel, hvp_gva(current), &task, NULL))
		return HVP_VCPU_OFF;
	*ret_pid = task.pid;
	g_strlcpy(ret_comm, task.comm, comm_bytes);
	if (hvp_registers_in_user_mode(registers))
		return HVP_VCPU_USER;
	return task.pid == 0 ? HVP_VCPU_IDLE : HVP_VCPU_KERNEL;
}
