/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All vCPUs of the VM as the keeper has them in hand: running or stopped, their
 * registers (read once a stop, kept up to date), the breakpoints that are planted.
 * Says nothing about whose breakpoints they are; that is frames.c.
 */
#pragma once

#include "keeper/keeper.h"
#include "keeper/spins.h"
#include "vm/backend.h"

#define HVP_VCPUS_MAX_PLANTED (2 * HVP_KEEPER_MAX_TRAPS + HVP_KEEPER_MAX_FRAMES)

typedef struct {
	HvpBackend *backend; /* NULL: detached */
	bool stopped;
	gint64 asked_usec; /* when the last stop that we asked for began */
	bool owner_paused; /* somebody else stopped it: it is not ours to resume */
	guint count;
	HvpRegisters registers[HVP_KEEPER_MAX_VCPUS];
	bool known[HVP_KEEPER_MAX_VCPUS]; /* registers read since the stop */
	HvpGva planted[HVP_VCPUS_MAX_PLANTED];
	gsize planted_count;
	HvpSpins spins; /* where the planted are these, and no breakpoints */
} HvpVcpus;

/* Takes @backend, on a VM that is stopped or not, without breakpoints. */
void hvp_vcpus_begin(HvpVcpus *self, HvpBackend *backend, bool stopped);

/* Stops the VM; nothing where it is. CONFLICT: it stopped for a reason of its own. */
bool hvp_vcpus_stop(HvpVcpus *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * While running, the backend has something to say: takes it. *@ret_vcpu: who stopped
 * at a trap, -1 when the backend does not tell. CONFLICT: somebody else's stop, not
 * to be resumed (owner_paused). VM_GONE.
 */
bool hvp_vcpus_take_stop(HvpVcpus *self, gint *ret_vcpu, GError **error)
	G_GNUC_WARN_UNUSED_RESULT;

/* Resumes all vCPUs; nothing where the VM runs. Where somebody else paused it, it only waits. */
bool hvp_vcpus_resume(HvpVcpus *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* While stopped: makes registers[@index] known; and of all. */
bool hvp_vcpus_read(HvpVcpus *self, guint index, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_vcpus_read_all(HvpVcpus *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * While stopped: gives @index the general registers, RIP and RFLAGS of @to. CONFLICT
 * when they are not what was read at the stop: somebody ran or reset the VM.
 */
bool hvp_vcpus_write(HvpVcpus *self, guint index, const HvpRegisters *to,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* While stopped: plants and removes so that exactly @pcs (duplicates are fine) are planted. */
bool hvp_vcpus_plant(HvpVcpus *self, const HvpGva *pcs, gsize count,
		     GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_vcpus_is_planted(const HvpVcpus *self, HvpGva pc);

/* INVALID_ARGUMENT: @spins cannot become the table, as one that is planted is not among them. */
bool hvp_vcpus_check_spins(const HvpVcpus *self, const HvpSpins *spins,
			   GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool hvp_vcpus_uses_spins(const HvpVcpus *self);

/* Whether a trap can be planted at @pc: a spin trap only where the table has one. */
bool hvp_vcpus_can_plant(const HvpVcpus *self, HvpGva pc);

/* While stopped: finds the spin traps of the table that are planted and not known to be. */
bool hvp_vcpus_find_planted(HvpVcpus *self, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The guest was reset: where spin traps were is something else now. */
void hvp_vcpus_forget_spins(HvpVcpus *self);

/*
 * While stopped: lets @index execute the instruction at its RIP, breakpoint or not,
 * while all others stand. BUSY when it does not get past it.
 */
bool hvp_vcpus_step_over(HvpVcpus *self, guint index, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Whether two sets of registers agree in all that hvp_vcpus_write writes. */
bool hvp_vcpus_same_registers(const HvpRegisters *a, const HvpRegisters *b);
