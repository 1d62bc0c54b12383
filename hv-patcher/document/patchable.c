/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "document/patchable.h"

#include "engine/open.h"

#define QMP_USEC (5 * G_USEC_PER_SEC)

static void add_reason(HvpPatchable *self, const char *reason)
{
	g_ptr_array_add(self->reasons, hvp_json_escape(reason));
}

static void add_obstacle(HvpPatchable *self, bool is_there, const char *reason)
{
	if (!is_there)
		return;
	self->patchable = false;
	add_reason(self, reason);
}

static bool read_policy(HvpPatchable *self, HvpTarget *target, GError **error)
{
	HvpPolicy policy;

	if (!hvp_policy_read(target->kernel, target->modules, &policy, error))
		return false;
	add_obstacle(self, !policy.can_load_modules, "the kernel is built without module support");
	add_obstacle(self, !policy.can_livepatch, "the kernel is built without livepatch support");
	add_obstacle(self, policy.modules_disabled,
		     "the guest's owner has switched module loading off (kernel.modules_disabled)");
	add_obstacle(self, policy.guard[0] != 0, "a module guards the guest's kernel text");
	add_obstacle(self, policy.loadpin,
		     "the guest pins module loading to a file system (loadpin)");
	if (policy.signature_enforced)
		add_reason(self, "the guest loads signed modules only");
	return true;
}

static void take_error(HvpPatchable *self, GError **reason)
{
	if (*reason != NULL)
		add_obstacle(self, true, (*reason)->message);
	g_clear_error(reason);
}

/* What stands against stopping the VM now. */
static void read_machine(HvpPatchable *self, HvpTarget *target)
{
	HvpMachine *machine = target->machine;
	HvpDeadline deadline = hvp_deadline_in(QMP_USEC);
	g_autofree char *paused = g_strdup_printf("the VM is not running (%s)",
						  hvp_machine_get_status(machine));
	g_autofree char *job = NULL;
	GError *reason = NULL;
	bool leftover = false;

	add_obstacle(self, !hvp_machine_was_running(machine), paused);
	if (!hvp_machine_find_debugger(machine, deadline, &leftover, &reason))
		take_error(self, &reason);
	add_obstacle(self, leftover, "a killed hvpatch left its gdb server: run hvpatch recover");
	if (!hvp_machine_find_ram_job(machine, deadline, &job, &reason))
		take_error(self, &reason);
	add_obstacle(self, job != NULL, job);
	if (!hvp_open_check_owner(target, &reason) ||
	    (target->owner.check_no_job != NULL &&
	     !target->owner.check_no_job(target->owner.data, &reason)))
		take_error(self, &reason);
}

const char *hvp_patchable_backend(const HvpTarget *target)
{
	if (target->machine == NULL)
		return "core";
	return target->by_kvm ? "kvm" : "gdbstub";
}

bool hvp_patchable_read(HvpTarget *target, HvpPatchable *ret_patchable, GError **error)
{
	HvpPatchable self = { true, g_ptr_array_new_with_free_func(g_free) };

	if (!read_policy(&self, target, error)) {
		hvp_patchable_clear(&self);
		return false;
	}
	if (target->machine != NULL)
		read_machine(&self, target);
	else
		add_obstacle(&self, true, "a dump cannot be changed");
	*ret_patchable = self;
	return true;
}

void hvp_patchable_clear(HvpPatchable *self)
{
	g_clear_pointer(&self->reasons, g_ptr_array_unref);
}

void hvp_patchable_add(const HvpPatchable *self, JsonBuilder *json)
{
	hvp_json_bool(json, "patchable", self->patchable);
	hvp_json_begin_array(json, "reasons");
	for (guint i = 0; i < self->reasons->len; i++)
		json_builder_add_string_value(json, g_ptr_array_index(self->reasons, i));
	json_builder_end_array(json);
}
