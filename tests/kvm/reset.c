/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvm-reset PID: a keeper without a monitor has a spin trap in the bare-metal guest of process
 * PID. Prints "trapped" when a vCPU stands there, and, once the guest is reset, what the keeper
 * says: its error's code and message. For tests.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/glance.h"
#include "keeper/keeper.h"
#include "layout.h"

#define BUDGET_USEC (5 * G_USEC_PER_SEC)
#define WAIT_USEC (60 * G_USEC_PER_SEC)
#define PAUSE_USEC (5 * 1000)

/* Stops that do not come about on a busy host are asked for again. */
static bool is_passing(const GError *error)
{
	return g_error_matches(error, HVP_ERROR, HVP_ERROR_BUSY) ||
	       g_error_matches(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
}

/* The move of the first function, behind its slot. */
static bool read_site(HvpMachine *machine, HvpKeeperSpin *ret_spin, GError **error)
{
	guint64 functions;

	if (!hvp_physical_read(hvp_machine_get_physical(machine),
			       hvp_gpa(GUEST_BOX + offsetof(GuestBox, functions)), &functions,
			       sizeof functions, error))
		return false;
	*ret_spin = (HvpKeeperSpin){ .pc = hvp_gva(functions + GUEST_SLOT_BYTES),
				     .old_bytes = { 0xb8, 1 } };
	ret_spin->gpa = hvp_gpa(ret_spin->pc.value - GUEST_VIRTUAL + GUEST_BASE);
	return true;
}

static bool plant(HvpKeeper *keeper, const HvpKeeperSpin *spin, GError **error)
{
	g_auto(HvpKeeperStop) stop = { 0 };
	GError *local = NULL;

	while (!hvp_keeper_stop(keeper, BUDGET_USEC, &stop, &local)) {
		if (!is_passing(local)) {
			g_propagate_error(error, local);
			return false;
		}
		g_clear_error(&local);
	}
	return hvp_keeper_set_spins(keeper, spin, 1, error) &&
	       hvp_keeper_set_traps(keeper, &spin->pc, 1, error);
}

static bool is_trapped(HvpKeeper *keeper, HvpDeadline deadline, GError **error)
{
	g_auto(HvpKeeperStop) stop = { 0 };

	return hvp_keeper_wait(keeper, deadline, BUDGET_USEC, &stop, error) &&
	       hvp_keeper_resume(keeper, NULL, error);
}

/* Until the session ends. Whoever is trapped stays there; in between the VMM has its turn. */
static void wait_for_end(HvpKeeper *keeper, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(WAIT_USEC);
	bool told = false;

	do {
		g_clear_error(error);
		if (is_trapped(keeper, deadline, error) && !told) {
			printf("trapped\n");
			told = true;
		}
		g_usleep(PAUSE_USEC);
	} while ((*error == NULL || is_passing(*error)) && !hvp_deadline_passed(deadline));
}

static HvpKeeper *start(HvpMachine *machine, GError **error)
{
	HvpKvmPlace place = { .pid = hvp_machine_get_pid(machine),
			      .start_time = hvp_machine_get_start_time(machine) };
	int journal = memfd_create("journal", MFD_CLOEXEC);
	HvpKeeper *keeper = hvp_keeper_start(-1, journal, error);

	close(journal);
	place.ranges = hvp_ram_get_ranges(hvp_machine_get_ram(machine), &place.range_count);
	if (keeper != NULL && hvp_keeper_use_kvm(keeper, &place, error) &&
	    hvp_keeper_attach(keeper, error))
		return keeper;
	hvp_keeper_free(keeper);
	return NULL;
}

static bool run(pid_t pid, GError **error)
{
	g_autoptr(HvpMachine) machine = hvp_machine_open_process(pid, error);
	g_autofree HvpRegisters *registers = NULL;
	g_autoptr(HvpKeeper) keeper = NULL;
	HvpKeeperSpin spin;

	registers = machine ? hvp_glance_read_registers(machine, NULL, error) : NULL;
	if (registers == NULL ||
	    !hvp_machine_find_ram(machine, registers, hvp_machine_get_vcpu_count(machine), error) ||
	    !read_site(machine, &spin, error))
		return false;
	keeper = start(machine, error);
	if (keeper == NULL || !plant(keeper, &spin, error))
		return false;
	wait_for_end(keeper, error);
	return false;
}

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;

	if (argc != 2) {
		fprintf(stderr, "usage: kvm-reset PID\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!run((pid_t)atoi(argv[1]), &error))
		printf("%s %s\n", error ? hvp_error_name(error) : "nothing",
		       error ? error->message : "");
	return 0;
}
