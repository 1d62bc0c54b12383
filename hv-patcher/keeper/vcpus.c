/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/vcpus.h"

#include <string.h>

#define STOP_TIMEOUT_USEC (20 * G_USEC_PER_SEC)
#define TAKE_STOP_USEC (G_USEC_PER_SEC / 10)

/* A repeated string instruction or a spurious stop need more than one step. */
#define MAX_STEPS 16

void hvp_vcpus_begin(HvpVcpus *self, HvpBackend *backend, bool stopped)
{
	self->backend = backend;
	self->stopped = stopped;
	self->owner_paused = false;
	self->count = hvp_backend_get_vcpu_count(backend);
	self->planted_count = 0;
	memset(self->known, 0, sizeof self->known);
}

static void set_stopped(HvpVcpus *self)
{
	self->stopped = true;
	memset(self->known, 0, sizeof self->known);
}

/* Sorts out stops that are neither a trap nor an answer to our interrupt. */
static bool check_stop(HvpVcpus *self, const HvpBackendStop *stop, GError **error)
{
	set_stopped(self);
	if (stop->kind == HVP_BACKEND_EXITED)
		return hvp_error_set(error, HVP_ERROR_VM_GONE, "QEMU ended");
	if (stop->kind != HVP_BACKEND_OTHER)
		return true;
	self->owner_paused = true;
	return hvp_error_set(error, HVP_ERROR_CONFLICT,
			     "the VM stopped for a reason of its own (signal %u)", stop->signal);
}

/* Whether a stop was reported that nobody has looked at yet. */
static bool has_stopped(const HvpVcpus *self)
{
	GPollFD descriptor = { hvp_backend_get_fd(self->backend), G_IO_IN, 0 };

	return hvp_backend_has_input(self->backend) || g_poll(&descriptor, 1, 0) > 0;
}

bool hvp_vcpus_stop(HvpVcpus *self, GError **error)
{
	HvpBackendStop stop;
	gint vcpu;

	if (self->stopped)
		return true;
	self->asked_usec = g_get_monotonic_time();
	/* It may be its owner's, and then not ours to resume. */
	if (has_stopped(self))
		return hvp_vcpus_take_stop(self, &vcpu, error);
	if (!hvp_backend_stop(self->backend, hvp_deadline_in(STOP_TIMEOUT_USEC), &stop, error) ||
	    !check_stop(self, &stop, error))
		return false;
	self->asked_usec = stop.asked_usec;
	/* One may have been unplugged. */
	self->count = hvp_backend_get_vcpu_count(self->backend);
	/* Those of a VM that its owner has paused could not have been stopped. */
	if (hvp_backend_runs_when_let_go(self->backend))
		self->owner_paused = false;
	return true;
}

bool hvp_vcpus_take_stop(HvpVcpus *self, gint *ret_vcpu, GError **error)
{
	HvpBackendStop stop;

	if (!hvp_backend_wait_stop(self->backend, hvp_deadline_in(TAKE_STOP_USEC), &stop, error) ||
	    !check_stop(self, &stop, error))
		return false;
	if (stop.kind == HVP_BACKEND_PAUSED) {
		self->owner_paused = true;
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "somebody else paused the VM meanwhile");
	}
	*ret_vcpu = stop.vcpu_index;
	self->owner_paused = false;
	return true;
}

bool hvp_vcpus_resume(HvpVcpus *self, GError **error)
{
	if (self->stopped && !self->owner_paused && !hvp_backend_resume(self->backend, error))
		return false;
	self->stopped = false;
	return true;
}

bool hvp_vcpus_read(HvpVcpus *self, guint index, GError **error)
{
	if (!self->known[index])
		self->known[index] = hvp_backend_read_registers(self->backend, index,
								&self->registers[index], error);
	return self->known[index];
}

bool hvp_vcpus_read_all(HvpVcpus *self, GError **error)
{
	for (guint i = 0; i < self->count; i++)
		if (!hvp_vcpus_read(self, i, error))
			return false;
	return true;
}

bool hvp_vcpus_same_registers(const HvpRegisters *a, const HvpRegisters *b)
{
	return memcmp(a->general, b->general, sizeof a->general) == 0 && a->rip == b->rip &&
	       a->rflags == b->rflags;
}

bool hvp_vcpus_write(HvpVcpus *self, guint index, const HvpRegisters *to, GError **error)
{
	HvpRegisters now;

	if (!hvp_vcpus_read(self, index, error) ||
	    !hvp_backend_read_registers(self->backend, index, &now, error))
		return false;
	if (!hvp_vcpus_same_registers(&now, &self->registers[index]))
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "vCPU %u was changed by somebody else while it was stopped",
				     index);
	/* Read anew if the write fails half way. */
	self->known[index] = false;
	if (!hvp_backend_write_registers(self->backend, index, &now, to, error))
		return false;
	memcpy(self->registers[index].general, to->general, sizeof to->general);
	self->registers[index].rip = to->rip;
	self->registers[index].rflags = to->rflags;
	self->known[index] = true;
	return true;
}

static bool contains(const HvpGva *pcs, gsize count, HvpGva pc)
{
	for (gsize i = 0; i < count; i++)
		if (pcs[i].value == pc.value)
			return true;
	return false;
}

bool hvp_vcpus_is_planted(const HvpVcpus *self, HvpGva pc)
{
	return contains(self->planted, self->planted_count, pc);
}

bool hvp_vcpus_uses_spins(const HvpVcpus *self)
{
	return self->spins.count > 0;
}

bool hvp_vcpus_can_plant(const HvpVcpus *self, HvpGva pc)
{
	return !hvp_vcpus_uses_spins(self) || hvp_spins_find(&self->spins, pc) != NULL;
}

bool hvp_vcpus_check_spins(const HvpVcpus *self, const HvpSpins *spins, GError **error)
{
	for (gsize i = 0; i < self->planted_count; i++) {
		const HvpKeeperSpin *old = hvp_spins_find(&self->spins, self->planted[i]);
		const HvpKeeperSpin *now = hvp_spins_find(spins, self->planted[i]);

		if (old == NULL || now == NULL || old->gpa.value != now->gpa.value ||
		    memcmp(old->old_bytes, now->old_bytes, sizeof old->old_bytes) != 0)
			return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
					     "a trap at 0x%" G_GINT64_MODIFIER "x is planted",
					     self->planted[i].value);
	}
	return true;
}

bool hvp_vcpus_find_planted(HvpVcpus *self, GError **error)
{
	for (gsize i = 0; i < self->spins.count; i++) {
		const HvpKeeperSpin *site = &self->spins.sites[i];
		bool planted;

		if (!hvp_spins_is_planted(site, self->backend, &planted, error))
			return false;
		if (planted && !hvp_vcpus_is_planted(self, site->pc))
			self->planted[self->planted_count++] = site->pc;
	}
	return true;
}

void hvp_vcpus_forget_spins(HvpVcpus *self)
{
	if (hvp_vcpus_uses_spins(self))
		self->planted_count = 0;
	self->spins.count = 0;
}

static bool insert(HvpVcpus *self, HvpGva pc, GError **error)
{
	const HvpKeeperSpin *site = hvp_spins_find(&self->spins, pc);

	if (!hvp_vcpus_uses_spins(self))
		return hvp_backend_insert_breakpoint(self->backend, pc, error);
	if (site == NULL)
		return hvp_error_set(error, HVP_ERROR_INTERNAL,
				     "no spin trap is known at 0x%" G_GINT64_MODIFIER "x",
				     pc.value);
	return hvp_spins_plant(site, self->backend, error);
}

/* What is planted is of one kind, and in the table. */
static bool remove_at(HvpVcpus *self, gsize index, GError **error)
{
	HvpGva pc = self->planted[index];
	bool removed, ok;

	if (hvp_vcpus_uses_spins(self)) {
		ok = hvp_spins_remove(hvp_spins_find(&self->spins, pc), self->backend, &removed,
				      error);
	} else {
		ok = hvp_backend_remove_breakpoint(self->backend, pc, error);
		removed = ok;
	}
	if (removed)
		self->planted[index] = self->planted[--self->planted_count];
	return ok;
}

bool hvp_vcpus_plant(HvpVcpus *self, const HvpGva *pcs, gsize count, GError **error)
{
	for (gsize i = self->planted_count; i-- > 0;) {
		if (contains(pcs, count, self->planted[i]))
			continue;
		if (!remove_at(self, i, error))
			return false;
	}
	for (gsize i = 0; i < count; i++) {
		if (hvp_vcpus_is_planted(self, pcs[i]))
			continue;
		if (self->planted_count == HVP_VCPUS_MAX_PLANTED)
			return hvp_error_set(error, HVP_ERROR_INTERNAL, "too many traps");
		if (!insert(self, pcs[i], error))
			return false;
		self->planted[self->planted_count++] = pcs[i];
	}
	return true;
}

static bool step(HvpVcpus *self, guint index, GError **error)
{
	HvpBackendStop stop;

	self->known[index] = false;
	return hvp_backend_step(self->backend, index, &stop, error) &&
	       (stop.kind == HVP_BACKEND_TRAP || stop.kind == HVP_BACKEND_PAUSED ||
		check_stop(self, &stop, error)) &&
	       hvp_vcpus_read(self, index, error);
}

static bool step_past(HvpVcpus *self, guint index, guint64 rip, GError **error)
{
	for (guint i = 0; i < MAX_STEPS; i++) {
		if (!step(self, index, error))
			return false;
		if (self->registers[index].rip != rip)
			return true;
	}
	return hvp_error_set(error, HVP_ERROR_BUSY,
			     "vCPU %u does not get past 0x%" G_GINT64_MODIFIER "x", index, rip);
}

bool hvp_vcpus_step_over(HvpVcpus *self, guint index, GError **error)
{
	bool lifted, stepped;
	HvpGva pc;

	if (!hvp_vcpus_read(self, index, error))
		return false;
	pc = hvp_gva(self->registers[index].rip);
	lifted = hvp_vcpus_is_planted(self, pc);
	if (lifted && !hvp_backend_remove_breakpoint(self->backend, pc, error))
		return false;
	stepped = step_past(self, index, pc.value, error);
	/* In any case: after a failure as well it is taken for planted. */
	if (lifted && !hvp_backend_insert_breakpoint(self->backend, pc, stepped ? error : NULL))
		return false;
	return stepped;
}
