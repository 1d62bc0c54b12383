/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/readiness.h"

#define QMP_USEC (5 * G_USEC_PER_SEC)

bool hvp_readiness_check_way(const HvpTarget *target, GError **error)
{
	return hvp_machine_has_monitor(target->machine) || target->owner.describe_jobs != NULL ||
	       hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
			     "a guest is changed, and that finished, only where its monitor or its "
			     "owner tells what is done with its RAM");
}

static bool check_free(HvpTarget *target, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(QMP_USEC);
	g_autofree char *job = NULL;
	bool leftover;

	if (!hvp_machine_find_debugger(target->machine, deadline, &leftover, error) ||
	    !hvp_machine_find_ram_job(target->machine, deadline, &job, error) ||
	    (target->owner.check_no_job != NULL &&
	     !target->owner.check_no_job(target->owner.data, error)))
		return false;
	if (job != NULL)
		return hvp_error_set(error, HVP_ERROR_BUSY,
				     "%s: a write now could be lost; try again when it is over",
				     job);
	if (leftover)
		return hvp_error_set(
			error, HVP_ERROR_INCONSISTENT,
			"an earlier hvpatch left its gdb server in QEMU: run hvpatch recover");
	return true;
}

static bool check_running(HvpTarget *target, GError **error)
{
	g_autofree char *status = NULL;
	bool running;

	/* Attaching fails where its vCPUs are in no thread. */
	if (!hvp_machine_has_monitor(target->machine))
		return true;
	if (!hvp_qmp_query_status(hvp_machine_get_qmp(target->machine), hvp_deadline_in(QMP_USEC),
				  &running, &status, error))
		return false;
	if (!running)
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "the VM is not running (%s); it stays as it is", status);
	return true;
}

bool hvp_readiness_check(HvpTarget *target, GError **error)
{
	return check_running(target, error) && check_free(target, error);
}
