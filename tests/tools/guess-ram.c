/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guess-ram QMP-SOCKET: whether the RAM layout that is told without the monitor is that which
 * the monitor tells. Registers are those of KVM's vCPUs, of an emulated VM the monitor's. Prints
 *
 *   ranges N bytes N usec N
 *
 * of the guessed one. Exits 1 if they differ, 2 if there is none. For tests.
 */
#include <stdio.h>
#include <string.h>

#include "engine/glance.h"
#include "vm/ram-guess.h"

#define CONNECT_USEC (10 * G_USEC_PER_SEC)
/* Between reading the registers and looking the guest goes on. */
#define TRIES 5
#define RETRY_USEC (20 * 1000)

static bool read_registers(HvpMachine *machine, HvpRegisters *ret_registers, guint count,
			   GError **error)
{
	g_autofree HvpRegisters *registers = NULL;
	g_autoptr(HvpMachine) process = NULL;

	if (hvp_machine_get_accelerator(machine) == HVP_ACCELERATOR_TCG)
		return hvp_machine_read_registers(machine, ret_registers, count, error);
	process = hvp_machine_open_process(hvp_machine_get_pid(machine), error);
	registers = process ? hvp_glance_read_registers(process, NULL, error) : NULL;
	if (registers != NULL)
		memcpy(ret_registers, registers, count * sizeof *registers);
	return registers != NULL;
}

static HvpRam *guess(HvpMachine *machine, GError **error)
{
	HvpRegisters registers[HVP_MACHINE_MAX_VCPUS];
	guint count = hvp_machine_get_vcpu_count(machine);

	if (!read_registers(machine, registers, count, error))
		return NULL;
	return hvp_ram_guess(hvp_machine_get_pid(machine), registers, count, error);
}

static HvpRam *guess_patiently(HvpMachine *machine, GError **error)
{
	HvpRam *ram = NULL;

	for (guint i = 0; i < TRIES && ram == NULL; i++) {
		g_clear_error(error);
		ram = guess(machine, error);
		if (ram == NULL)
			g_usleep(RETRY_USEC);
	}
	return ram;
}

/* Whether all of @range lies where @told has it; below 1 MiB other things may lie over it. */
static bool is_told(const HvpRamRange *range, const HvpRam *told)
{
	for (HvpGpa at = range->start; at.value < range->end.value;) {
		const HvpRamRange *theirs = hvp_ram_find(told, at);

		if (theirs == NULL || theirs->hva.value + (at.value - theirs->start.value) !=
					      range->hva.value + (at.value - range->start.value)) {
			fprintf(stderr, "0x%" G_GINT64_MODIFIER "x lies elsewhere\n", at.value);
			return false;
		}
		at = theirs->end;
	}
	return true;
}

static bool compare(const HvpRam *guessed, const HvpRam *told)
{
	gsize count;
	const HvpRamRange *ranges = hvp_ram_get_ranges(guessed, &count);

	for (gsize i = 0; i < count; i++)
		if (!is_told(&ranges[i], told))
			return false;
	return true;
}

int main(int argc, char **argv)
{
	g_autoptr(HvpMachine) machine = NULL;
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpRam) ram = NULL;
	gint64 started;
	gsize count;

	if (argc != 2) {
		fprintf(stderr, "usage: guess-ram QMP-SOCKET\n");
		return 2;
	}
	machine = hvp_machine_open(argv[1], hvp_deadline_in(CONNECT_USEC), &error);
	started = g_get_monotonic_time();
	if (machine != NULL)
		ram = guess_patiently(machine, &error);
	if (ram == NULL) {
		fprintf(stderr, "guess-ram: %s\n", error->message);
		return 2;
	}
	started = g_get_monotonic_time() - started;
	(void)hvp_ram_get_ranges(ram, &count);
	printf("ranges %" G_GSIZE_FORMAT " bytes %" G_GUINT64_FORMAT " usec %" G_GINT64_FORMAT "\n",
	       count, hvp_ram_get_size_bytes(ram), started);
	return compare(ram, hvp_machine_get_ram(machine)) ? 0 : 1;
}
