/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/gdb-backend.h"

typedef struct {
	HvpBackend backend;
	HvpGdbstub *stub;
} HvpGdbBackend;

static HvpGdbstub *stub_of(const HvpBackend *backend)
{
	return ((const HvpGdbBackend *)backend)->stub;
}

static HvpBackendStop convert(const HvpGdbstubStop *stop)
{
	static const HvpBackendStopKind kinds[] = {
		[HVP_GDBSTUB_TRAP] = HVP_BACKEND_TRAP,
		[HVP_GDBSTUB_PAUSED] = HVP_BACKEND_PAUSED,
		[HVP_GDBSTUB_OTHER] = HVP_BACKEND_OTHER,
		[HVP_GDBSTUB_EXITED] = HVP_BACKEND_EXITED,
	};

	return (HvpBackendStop){ kinds[stop->kind], stop->signal, stop->vcpu_index, 0 };
}

static void free_backend(HvpBackend *self)
{
	hvp_gdbstub_free(stub_of(self));
	g_free(self);
}

static bool has_failed(const HvpBackend *self)
{
	return hvp_gdbstub_has_failed(stub_of(self));
}

static guint get_vcpu_count(const HvpBackend *self)
{
	return hvp_gdbstub_get_vcpu_count(stub_of(self));
}

static int get_fd(const HvpBackend *self)
{
	return hvp_gdbstub_get_fd(stub_of(self));
}

static bool has_input(const HvpBackend *self)
{
	return hvp_gdbstub_has_input(stub_of(self));
}

static bool stop(HvpBackend *self, HvpDeadline deadline, HvpBackendStop *ret_stop, GError **error)
{
	gint64 asked_usec = g_get_monotonic_time();
	HvpGdbstubStop found;

	if (!hvp_gdbstub_interrupt(stub_of(self), deadline, &found, error))
		return false;
	*ret_stop = convert(&found);
	ret_stop->asked_usec = asked_usec;
	return true;
}

static bool wait_stop(HvpBackend *self, HvpDeadline deadline, HvpBackendStop *ret_stop,
		      GError **error)
{
	HvpGdbstubStop found;

	if (!hvp_gdbstub_wait_stop(stub_of(self), deadline, &found, error))
		return false;
	*ret_stop = convert(&found);
	return true;
}

/* A stub has nothing to say of a VM that stands. */
static bool check_stopped(HvpBackend *self, GError **error)
{
	(void)self;
	return hvp_error_set(error, HVP_ERROR_CONFLICT,
			     "somebody else resumed the VM while hvpatch had stopped it");
}

static bool resume(HvpBackend *self, GError **error)
{
	return hvp_gdbstub_continue(stub_of(self), error);
}

static bool read_registers(HvpBackend *self, guint vcpu_index, HvpRegisters *ret_registers,
			   GError **error)
{
	return hvp_gdbstub_read_registers(stub_of(self), vcpu_index, ret_registers, error);
}

static bool write_registers(HvpBackend *self, guint vcpu_index, const HvpRegisters *from,
			    const HvpRegisters *to, GError **error)
{
	return hvp_gdbstub_write_registers(stub_of(self), vcpu_index, from, to, error);
}

static bool read_physical(HvpBackend *self, HvpGpa gpa, void *ret_bytes, gsize length_bytes,
			  GError **error)
{
	return hvp_gdbstub_read_physical(stub_of(self), gpa, ret_bytes, length_bytes, error);
}

static bool write_physical(HvpBackend *self, HvpGpa gpa, const void *bytes, gsize length_bytes,
			   GError **error)
{
	return hvp_gdbstub_write_physical(stub_of(self), gpa, bytes, length_bytes, error);
}

static bool read_virtual(HvpBackend *self, guint vcpu_index, HvpGva gva, void *ret_bytes,
			 gsize length_bytes, GError **error)
{
	return hvp_gdbstub_read_virtual(stub_of(self), vcpu_index, gva, ret_bytes, length_bytes,
					error);
}

static bool write_virtual(HvpBackend *self, guint vcpu_index, HvpGva gva, const void *bytes,
			  gsize length_bytes, GError **error)
{
	return hvp_gdbstub_write_virtual(stub_of(self), vcpu_index, gva, bytes, length_bytes,
					 error);
}

static bool insert_breakpoint(HvpBackend *self, HvpGva pc, GError **error)
{
	return hvp_gdbstub_insert_breakpoint(stub_of(self), pc, error);
}

static bool remove_breakpoint(HvpBackend *self, HvpGva pc, GError **error)
{
	return hvp_gdbstub_remove_breakpoint(stub_of(self), pc, error);
}

static bool step(HvpBackend *self, guint vcpu_index, HvpBackendStop *ret_stop, GError **error)
{
	HvpGdbstubStop found;

	if (!hvp_gdbstub_step(stub_of(self), vcpu_index, &found, error))
		return false;
	*ret_stop = convert(&found);
	return true;
}

static bool needs_restore(const HvpBackend *self)
{
	return hvp_gdbstub_is_in_physical_mode(stub_of(self));
}

static bool restore(HvpBackend *self, GError **error)
{
	return hvp_gdbstub_leave_physical_mode(stub_of(self), error);
}

static const HvpBackendOps ops = {
	.name = "gdbstub",
	.free = free_backend,
	.has_failed = has_failed,
	.get_vcpu_count = get_vcpu_count,
	.get_fd = get_fd,
	.has_input = has_input,
	.stop = stop,
	.wait_stop = wait_stop,
	.check_stopped = check_stopped,
	.resume = resume,
	.read_registers = read_registers,
	.write_registers = write_registers,
	.read_physical = read_physical,
	.write_physical = write_physical,
	.read_virtual = read_virtual,
	.write_virtual = write_virtual,
	.insert_breakpoint = insert_breakpoint,
	.remove_breakpoint = remove_breakpoint,
	.step = step,
	.needs_restore = needs_restore,
	.restore = restore,
};

HvpBackend *hvp_gdb_backend_new(HvpGdbstub *stub)
{
	HvpGdbBackend *self = g_new0(HvpGdbBackend, 1);

	self->backend.ops = &ops;
	self->stub = stub;
	return &self->backend;
}
