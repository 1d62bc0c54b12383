/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/backend.h"

void hvp_backend_free(HvpBackend *self)
{
	if (self != NULL)
		self->ops->free(self);
}

const char *hvp_backend_get_name(const HvpBackend *self)
{
	return self->ops->name;
}

bool hvp_backend_runs_when_let_go(const HvpBackend *self)
{
	return self->ops->runs_when_let_go;
}

bool hvp_backend_has_failed(const HvpBackend *self)
{
	return self->ops->has_failed(self);
}

guint hvp_backend_get_vcpu_count(const HvpBackend *self)
{
	return self->ops->get_vcpu_count(self);
}

int hvp_backend_get_fd(const HvpBackend *self)
{
	return self->ops->get_fd(self);
}

bool hvp_backend_has_input(const HvpBackend *self)
{
	return self->ops->has_input != NULL && self->ops->has_input(self);
}

bool hvp_backend_stop(HvpBackend *self, HvpDeadline deadline, HvpBackendStop *ret_stop,
		      GError **error)
{
	return self->ops->stop(self, deadline, ret_stop, error);
}

bool hvp_backend_wait_stop(HvpBackend *self, HvpDeadline deadline, HvpBackendStop *ret_stop,
			   GError **error)
{
	return self->ops->wait_stop(self, deadline, ret_stop, error);
}

bool hvp_backend_check_stopped(HvpBackend *self, GError **error)
{
	return self->ops->check_stopped(self, error);
}

bool hvp_backend_resume(HvpBackend *self, GError **error)
{
	return self->ops->resume(self, error);
}

bool hvp_backend_read_registers(HvpBackend *self, guint vcpu_index, HvpRegisters *ret_registers,
				GError **error)
{
	return self->ops->read_registers(self, vcpu_index, ret_registers, error);
}

bool hvp_backend_can_write_registers(const HvpBackend *self, guint vcpu_index)
{
	return self->ops->can_write_registers == NULL ||
	       self->ops->can_write_registers(self, vcpu_index);
}

bool hvp_backend_write_registers(HvpBackend *self, guint vcpu_index, const HvpRegisters *from,
				 const HvpRegisters *to, GError **error)
{
	return self->ops->write_registers(self, vcpu_index, from, to, error);
}

bool hvp_backend_read_physical(HvpBackend *self, HvpGpa gpa, void *ret_bytes, gsize length_bytes,
			       GError **error)
{
	return self->ops->read_physical(self, gpa, ret_bytes, length_bytes, error);
}

bool hvp_backend_write_physical(HvpBackend *self, HvpGpa gpa, const void *bytes, gsize length_bytes,
				GError **error)
{
	return self->ops->write_physical(self, gpa, bytes, length_bytes, error);
}

bool hvp_backend_read_virtual(HvpBackend *self, guint vcpu_index, HvpGva gva, void *ret_bytes,
			      gsize length_bytes, GError **error)
{
	return self->ops->read_virtual(self, vcpu_index, gva, ret_bytes, length_bytes, error);
}

bool hvp_backend_write_virtual(HvpBackend *self, guint vcpu_index, HvpGva gva, const void *bytes,
			       gsize length_bytes, GError **error)
{
	if (self->ops->write_virtual == NULL)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the %s backend does not write to virtual memory",
				     self->ops->name);
	return self->ops->write_virtual(self, vcpu_index, gva, bytes, length_bytes, error);
}

bool hvp_backend_can_break(const HvpBackend *self)
{
	return self->ops->insert_breakpoint != NULL;
}

static bool require_breakpoints(const HvpBackend *self, GError **error)
{
	return hvp_backend_can_break(self) ||
	       hvp_error_set(error, HVP_ERROR_UNSUPPORTED, "the %s backend has no breakpoints",
			     self->ops->name);
}

bool hvp_backend_insert_breakpoint(HvpBackend *self, HvpGva pc, GError **error)
{
	return require_breakpoints(self, error) && self->ops->insert_breakpoint(self, pc, error);
}

bool hvp_backend_remove_breakpoint(HvpBackend *self, HvpGva pc, GError **error)
{
	return require_breakpoints(self, error) && self->ops->remove_breakpoint(self, pc, error);
}

bool hvp_backend_step(HvpBackend *self, guint vcpu_index, HvpBackendStop *ret_stop, GError **error)
{
	return require_breakpoints(self, error) &&
	       self->ops->step(self, vcpu_index, ret_stop, error);
}

bool hvp_backend_needs_restore(const HvpBackend *self)
{
	return self->ops->needs_restore != NULL && self->ops->needs_restore(self);
}

bool hvp_backend_restore(HvpBackend *self, GError **error)
{
	return self->ops->restore == NULL || self->ops->restore(self, error);
}
