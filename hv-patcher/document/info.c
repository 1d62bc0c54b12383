/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "document/info.h"

#include "guest/tasks.h"

/* The guest's lists change while they are read. */
#define LIST_ATTEMPTS 20
#define LIST_WAIT_USEC 2000

void hvp_info_clear(HvpInfo *self)
{
	g_free(self->vcpus);
	hvp_patchable_clear(&self->patchable);
}

static void read_vcpus(HvpInfo *self)
{
	HvpTarget *target = self->target;

	self->vcpus = g_new0(HvpInfoVcpu, target->vcpu_count);
	for (guint i = 0; i < target->vcpu_count; i++)
		self->vcpus[i].state = hvp_target_vcpu_state(
			target, &target->registers[i], &self->vcpus[i].pid, self->vcpus[i].comm,
			sizeof self->vcpus[i].comm);
}

static bool count_tasks(HvpInfo *self, GError **error)
{
	GError *reason = NULL;

	for (guint i = 0; i < LIST_ATTEMPTS; i++) {
		g_autoptr(HvpTasks) tasks = NULL;

		g_clear_error(&reason);
		tasks = hvp_tasks_read(self->target->kernel, &reason);
		if (tasks != NULL) {
			self->task_count = hvp_tasks_count(tasks);
			return true;
		}
		if (!g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY))
			break;
		g_usleep(LIST_WAIT_USEC);
	}
	g_propagate_error(error, reason);
	return false;
}

bool hvp_info_read(HvpTarget *target, HvpInfo *ret_info, GError **error)
{
	HvpInfo self = { .target = target };
	bool ok;

	read_vcpus(&self);
	ok = count_tasks(&self, error) && hvp_patchable_read(target, &self.patchable, error);
	if (ok)
		*ret_info = self;
	else
		hvp_info_clear(&self);
	return ok;
}

static void add_vcpus(const HvpInfo *self, JsonBuilder *json)
{
	hvp_json_begin_array(json, "vcpus");
	for (guint i = 0; i < self->target->vcpu_count; i++) {
		json_builder_begin_object(json);
		hvp_json_integer(json, "index", i);
		hvp_json_text(json, "state", hvp_target_vcpu_state_name(self->vcpus[i].state));
		hvp_json_integer(json, "pid", self->vcpus[i].pid);
		hvp_json_text(json, "comm", self->vcpus[i].comm);
		json_builder_end_object(json);
	}
	json_builder_end_array(json);
}

static void add_kernel(HvpKernel *kernel, JsonBuilder *json)
{
	json_builder_set_member_name(json, "kernel");
	json_builder_begin_object(json);
	hvp_json_text(json, "release", hvp_kernel_get_release(kernel));
	hvp_json_text(json, "version", hvp_kernel_get_banner(kernel));
	hvp_json_text(json, "build_id", hvp_kernel_get_build_id(kernel));
	hvp_json_address(json, "text_base", hvp_kernel_get_text(kernel).start);
	json_builder_end_object(json);
}

bool hvp_info_is_told_of_monitor(const HvpInfo *self)
{
	const HvpTarget *target = self->target;

	return target->machine != NULL &&
	       (target->taint != NULL || !hvp_machine_has_monitor(target->machine));
}

static void add_monitor(const HvpTarget *target, JsonBuilder *json)
{
	hvp_json_bool(json, "monitor", hvp_machine_has_monitor(target->machine));
	hvp_json_text(json, "taint", target->taint);
}

JsonNode *hvp_info_to_json(const HvpInfo *self)
{
	HvpKernel *kernel = self->target->kernel;
	JsonBuilder *json = hvp_json_new();

	add_kernel(kernel, json);
	add_vcpus(self, json);
	hvp_json_integer(json, "tasks", self->task_count);
	hvp_json_text(json, "backend", hvp_patchable_backend(self->target));
	hvp_json_text(json, "backend_reason", self->target->backend_why);
	hvp_patchable_add(&self->patchable, json);
	if (hvp_info_is_told_of_monitor(self))
		add_monitor(self->target, json);
	hvp_json_integer(json, "attach_usec", hvp_kernel_get_attach_usec(kernel));
	hvp_json_bool(json, "cached", hvp_kernel_was_cached(kernel));
	hvp_json_integer(json, "connect_usec", self->target->connect_usec);
	return hvp_json_end(json);
}
