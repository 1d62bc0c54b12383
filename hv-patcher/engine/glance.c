/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/glance.h"

#include "engine/journal.h"
#include "keeper/keeper.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm/helper.h"

#define BUDGET_USEC G_USEC_PER_SEC
/* On a busy host a vCPU's thread may have to wait for a CPU to come out of the guest. */
#define PATIENCE_USEC (5 * G_USEC_PER_SEC)
#define RETRY_USEC (10 * 1000)

/* A helper, where there is one, has such a journal of its own, and we may not make any. */
static HvpKeeper *start_scratch_keeper(GError **error)
{
	HvpKeeper *keeper;
	int journal_fd;

	if (hvp_helper_is_used())
		return hvp_keeper_start(-1, -1, error);
	journal_fd = memfd_create("journal", MFD_CLOEXEC);
	if (journal_fd < 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "memory for a journal");
		return NULL;
	}
	keeper = hvp_keeper_start(-1, journal_fd, error);
	close(journal_fd);
	return keeper;
}

/* Nothing is done that somebody would have to undo: what the keeper writes down is for nobody. */
static HvpKeeper *start_keeper(const HvpMachine *machine, GError **error)
{
	HvpKvmPlace place = { .pid = hvp_machine_get_pid(machine),
			      .start_time = hvp_machine_get_start_time(machine) };
	g_autoptr(HvpKeeper) keeper = start_scratch_keeper(error);

	if (keeper == NULL || !hvp_keeper_use_kvm(keeper, &place, error) ||
	    !hvp_keeper_attach(keeper, error))
		return NULL;
	return g_steal_pointer(&keeper);
}

static bool stop_patiently(HvpKeeper *keeper, HvpKeeperStop *ret_stop, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(PATIENCE_USEC);
	GError *local = NULL;

	while (!hvp_keeper_stop(keeper, BUDGET_USEC, ret_stop, &local)) {
		if (!g_error_matches(local, HVP_ERROR, HVP_ERROR_BUSY) ||
		    hvp_deadline_passed(deadline)) {
			g_propagate_error(error, local);
			return false;
		}
		g_clear_error(&local);
		g_usleep(RETRY_USEC);
	}
	return true;
}

HvpRegisters *hvp_glance_read_registers(HvpMachine *machine, const char *folder, GError **error)
{
	/* For its lock: two must not stop one VM at once. */
	g_autoptr(HvpJournal) journal = hvp_journal_open(machine, folder, error);
	g_autoptr(HvpKeeper) keeper = journal ? start_keeper(machine, error) : NULL;
	g_auto(HvpKeeperStop) stop = { 0 };

	if (keeper == NULL || !stop_patiently(keeper, &stop, error) ||
	    !hvp_keeper_resume(keeper, NULL, error) || !hvp_keeper_detach(keeper, error))
		return NULL;
	if (stop.vcpu_count != hvp_machine_get_vcpu_count(machine)) {
		hvp_error_set(error, HVP_ERROR_BUSY, "a vCPU came or went");
		return NULL;
	}
	return g_steal_pointer(&stop.registers);
}
