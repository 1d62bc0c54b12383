/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/gdbstub.h"

#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/text.h"
#include "vm/gdb-packet.h"
#include "vm/gdb-target.h"

/* A stop drains and flushes the guest's disks. */
#define INTERRUPT_TIMEOUT_FACTOR 4

/* "g" of QEMU 7.2 is 608 bytes. */
#define G_MAX_BYTES 4096

#define SIGNAL_INT 2
#define SIGNAL_TRAP 5

/* Room for a memory request's text around the hex digits. */
#define REQUEST_BYTES 64

typedef struct {
	guint32 process;
	guint32 thread;
} ThreadId;

struct HvpGdbstub {
	int fd;
	gint64 timeout_usec;
	HvpGdbPacket packet;
	ThreadId vcpus[HVP_GDBSTUB_MAX_VCPUS];
	guint vcpu_count;
	gint selected_vcpu; /* of "g", "P" and "m", or -1 */
	bool physical_mode;
	GPtrArray *xmls;
	HvpGdbTarget target;
	GError *failure;
	char request[2 * HVP_GDBSTUB_CHUNK_BYTES + REQUEST_BYTES];
	guint8 g_bytes[G_MAX_BYTES];
};

HvpGdbstub *hvp_gdbstub_new(int fd, gint64 request_timeout_usec)
{
	HvpGdbstub *self = g_new0(HvpGdbstub, 1);

	self->fd = fd;
	self->timeout_usec = request_timeout_usec;
	self->selected_vcpu = -1;
	hvp_gdb_packet_init(&self->packet, fd);
	return self;
}

void hvp_gdbstub_free(HvpGdbstub *self)
{
	if (self == NULL)
		return;
	close(self->fd);
	g_clear_pointer(&self->xmls, g_ptr_array_unref);
	g_clear_error(&self->failure);
	g_free(self);
}

int hvp_gdbstub_get_fd(const HvpGdbstub *self)
{
	return self->fd;
}

bool hvp_gdbstub_has_failed(const HvpGdbstub *self)
{
	return self->failure != NULL;
}

bool hvp_gdbstub_has_input(const HvpGdbstub *self)
{
	return hvp_gdb_packet_has_input(&self->packet);
}

guint hvp_gdbstub_get_vcpu_count(const HvpGdbstub *self)
{
	return self->vcpu_count;
}

static bool still_usable(HvpGdbstub *self, GError **error)
{
	if (self->failure == NULL)
		return true;
	if (error != NULL)
		*error = g_error_copy(self->failure);
	return false;
}

/* Keeps @local as the reason why nothing works from now on, and reports it. */
static bool failed(HvpGdbstub *self, GError *local, GError **error)
{
	if (self->failure == NULL)
		self->failure = g_error_copy(local);
	g_propagate_error(error, local);
	return false;
}

static HvpDeadline request_deadline(const HvpGdbstub *self)
{
	return hvp_deadline_in(self->timeout_usec);
}

static const char *answer(const HvpGdbstub *self)
{
	return self->packet.data;
}

static bool protocol_failed(HvpGdbstub *self, const char *request, GError **error)
{
	g_autofree char *text = hvp_text_escape(answer(self), HVP_TEXT_TERMINATED, 40);
	GError *local = NULL;

	hvp_error_set(&local, HVP_ERROR_BAD_DATA, "the gdb stub answered \"%.40s\" with \"%s\"",
		      request, text);
	return failed(self, local, error);
}

static bool is_stop_reply(const char *text)
{
	return (text[0] == 'T' || text[0] == 'S' || text[0] == 'W' || text[0] == 'X') &&
	       hvp_gdb_packet_hex_value(text[1]) >= 0;
}

/* One request and its answer; a stop reply is none. */
static bool exchange(HvpGdbstub *self, const char *request, GError **error)
{
	HvpDeadline deadline = request_deadline(self);
	GError *local = NULL;

	if (!still_usable(self, error))
		return false;
	if (!hvp_gdb_packet_send(&self->packet, request, deadline, &local) ||
	    !hvp_gdb_packet_receive(&self->packet, deadline, &local))
		return failed(self, local, error);
	if (is_stop_reply(answer(self))) {
		hvp_error_set(&local, HVP_ERROR_CONFLICT,
			      "somebody else resumed the VM while hvpatch had stopped it");
		return failed(self, local, error);
	}
	return true;
}

/* A request whose answer is OK. FAULT where the stub refuses it. */
static bool command(HvpGdbstub *self, const char *request, GError **error)
{
	if (!exchange(self, request, error))
		return false;
	if (strcmp(answer(self), "OK") == 0)
		return true;
	if (answer(self)[0] == 'E')
		return hvp_error_set(error, HVP_ERROR_FAULT, "the gdb stub refused \"%.40s\"",
				     request);
	if (answer(self)[0] == '\0')
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the gdb stub does not know \"%.40s\"", request);
	return protocol_failed(self, request, error);
}

static bool parse_hex(const char **text, guint32 *ret_value)
{
	guint64 value = 0;
	int digits = 0;

	for (int digit; (digit = hvp_gdb_packet_hex_value(**text)) >= 0; digits++, (*text)++) {
		value = value << 4 | (guint)digit;
		if (value > G_MAXUINT32)
			return false;
	}
	*ret_value = (guint32)value;
	return digits > 0;
}

/* "pPID.TID" or "TID". */
static bool parse_thread(const char **text, ThreadId *ret_thread)
{
	ret_thread->process = 0;
	if (**text == 'p') {
		(*text)++;
		if (!parse_hex(text, &ret_thread->process) || **text != '.')
			return false;
		(*text)++;
	}
	return parse_hex(text, &ret_thread->thread);
}

static void format_thread(char *ret_text, gsize length_bytes, ThreadId thread)
{
	if (thread.process != 0)
		g_snprintf(ret_text, length_bytes, "p%x.%x", thread.process, thread.thread);
	else
		g_snprintf(ret_text, length_bytes, "%x", thread.thread);
}

static gint find_vcpu(const HvpGdbstub *self, ThreadId thread)
{
	for (guint i = 0; i < self->vcpu_count; i++)
		if (self->vcpus[i].thread == thread.thread &&
		    self->vcpus[i].process == thread.process)
			return (gint)i;
	return -1;
}

/* "TSSkey:value;...", "WSS", "XSS". */
static bool parse_stop(HvpGdbstub *self, HvpGdbstubStop *ret_stop)
{
	const char *text = answer(self);
	HvpGdbstubStop stop = { .kind = HVP_GDBSTUB_OTHER, .vcpu_index = -1 };
	int high, low;
	const char *place;
	ThreadId thread;

	high = hvp_gdb_packet_hex_value(text[1]);
	low = high < 0 ? -1 : hvp_gdb_packet_hex_value(text[2]);
	if (low < 0)
		return false;
	stop.signal = (guint)(high << 4 | low);
	place = strstr(text, "thread:");
	if (place != NULL) {
		place += strlen("thread:");
		if (!parse_thread(&place, &thread))
			return false;
		stop.vcpu_index = find_vcpu(self, thread);
	}
	if (text[0] == 'W' || text[0] == 'X')
		stop.kind = HVP_GDBSTUB_EXITED;
	else if (stop.signal == SIGNAL_TRAP)
		stop.kind = HVP_GDBSTUB_TRAP;
	else if (stop.signal == SIGNAL_INT)
		stop.kind = HVP_GDBSTUB_PAUSED;
	*ret_stop = stop;
	return true;
}

static bool receive_stop(HvpGdbstub *self, HvpDeadline deadline, HvpGdbstubStop *ret_stop,
			 GError **error)
{
	GError *local = NULL;

	if (!hvp_gdb_packet_receive(&self->packet, deadline, &local))
		return failed(self, local, error);
	if (!is_stop_reply(answer(self)) || !parse_stop(self, ret_stop))
		return protocol_failed(self, "continue", error);
	self->selected_vcpu = -1;
	return true;
}

bool hvp_gdbstub_interrupt(HvpGdbstub *self, HvpDeadline deadline, HvpGdbstubStop *ret_stop,
			   GError **error)
{
	GError *local = NULL;

	if (!still_usable(self, error))
		return false;
	if (!hvp_gdb_packet_interrupt(&self->packet, deadline, &local))
		return failed(self, local, error);
	return receive_stop(self, deadline, ret_stop, error);
}

/* Waits for the first byte only: a packet that has begun is received in any case. */
static bool wait_input(HvpGdbstub *self, HvpDeadline deadline, GError **error)
{
	GPollFD descriptor = { self->fd, G_IO_IN, 0 };

	while (!hvp_gdbstub_has_input(self) &&
	       g_poll(&descriptor, 1, hvp_deadline_left_msec(deadline)) <= 0)
		if (hvp_deadline_passed(deadline))
			return hvp_error_set(error, HVP_ERROR_TIMED_OUT, "no vCPU stopped");
	return true;
}

bool hvp_gdbstub_wait_stop(HvpGdbstub *self, HvpDeadline deadline, HvpGdbstubStop *ret_stop,
			   GError **error)
{
	return still_usable(self, error) && wait_input(self, deadline, error) &&
	       receive_stop(self, request_deadline(self), ret_stop, error);
}

/* A request that makes vCPUs run and so has no answer but "+". */
static bool resume(HvpGdbstub *self, const char *request, GError **error)
{
	HvpDeadline deadline = request_deadline(self);
	GError *local = NULL;

	if (!still_usable(self, error))
		return false;
	self->selected_vcpu = -1;
	if (!hvp_gdb_packet_send(&self->packet, request, deadline, &local) ||
	    !hvp_gdb_packet_wait_ack(&self->packet, deadline, &local))
		return failed(self, local, error);
	return true;
}

bool hvp_gdbstub_continue(HvpGdbstub *self, GError **error)
{
	return resume(self, "vCont;c", error);
}

/* @kind: "g" for registers and memory, "c" for stepping. */
static bool select_vcpu(HvpGdbstub *self, char kind, guint vcpu_index, GError **error)
{
	char thread[32], request[48];

	if (vcpu_index >= self->vcpu_count)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "no vCPU %u", vcpu_index);
	if (kind == 'g' && self->selected_vcpu == (gint)vcpu_index)
		return true;
	format_thread(thread, sizeof thread, self->vcpus[vcpu_index]);
	g_snprintf(request, sizeof request, "H%c%s", kind, thread);
	if (!command(self, request, error))
		return false;
	if (kind == 'g')
		self->selected_vcpu = (gint)vcpu_index;
	return true;
}

bool hvp_gdbstub_step(HvpGdbstub *self, guint vcpu_index, HvpGdbstubStop *ret_stop, GError **error)
{
	char thread[32], request[48];
	g_autoptr(GError) local = NULL;

	/* QEMU ends the single-step mode of the vCPU selected with "Hc" only. */
	if (!select_vcpu(self, 'c', vcpu_index, error))
		return false;
	format_thread(thread, sizeof thread, self->vcpus[vcpu_index]);
	g_snprintf(request, sizeof request, "vCont;s:%s", thread);
	if (!resume(self, request, error))
		return false;
	if (hvp_gdbstub_wait_stop(self, request_deadline(self), ret_stop, &local))
		return true;
	if (!g_error_matches(local, HVP_ERROR, HVP_ERROR_TIMED_OUT) || self->failure != NULL) {
		g_propagate_error(error, g_steal_pointer(&local));
		return false;
	}
	return hvp_gdbstub_interrupt(self, request_deadline(self), ret_stop, error);
}

bool hvp_gdbstub_read_registers(HvpGdbstub *self, guint vcpu_index, HvpRegisters *ret_registers,
				GError **error)
{
	gsize length_bytes;

	if (!select_vcpu(self, 'g', vcpu_index, error) || !exchange(self, "g", error))
		return false;
	length_bytes = self->packet.data_bytes / 2;
	if (self->packet.data_bytes % 2 != 0 || length_bytes > sizeof self->g_bytes ||
	    length_bytes < self->target.g_bytes || self->target.g_bytes == 0 ||
	    !hvp_gdb_packet_from_hex(self->g_bytes, answer(self), length_bytes))
		return protocol_failed(self, "g", error);
	hvp_gdb_target_load(&self->target, self->g_bytes, ret_registers);
	return true;
}

static bool write_field(HvpGdbstub *self, guint index, guint64 value, GError **error)
{
	const HvpGdbTargetField *field = &self->target.fields[index];
	guint8 bytes[8];
	char hex[17], request[48];

	hvp_store_u64(bytes, value);
	hvp_gdb_packet_to_hex(hex, bytes, field->size_bytes);
	g_snprintf(request, sizeof request, "P%x=%s", field->number, hex);
	return command(self, request, error);
}

bool hvp_gdbstub_write_registers(HvpGdbstub *self, guint vcpu_index, const HvpRegisters *from,
				 const HvpRegisters *to, GError **error)
{
	guint changed[HVP_GDB_TARGET_FIELDS];
	guint count = hvp_gdb_target_difference(from, to, changed);

	if (!select_vcpu(self, 'g', vcpu_index, error))
		return false;
	for (guint i = 0; i < count; i++)
		if (!write_field(self, changed[i], hvp_gdb_target_value(to, changed[i]), error))
			return false;
	return true;
}

static bool change_breakpoint(HvpGdbstub *self, char request_type, HvpGva pc, GError **error)
{
	char request[48];

	g_snprintf(request, sizeof request, "%c0,%" G_GINT64_MODIFIER "x,1", request_type,
		   pc.value);
	return command(self, request, error);
}

bool hvp_gdbstub_insert_breakpoint(HvpGdbstub *self, HvpGva pc, GError **error)
{
	return change_breakpoint(self, 'Z', pc, error);
}

bool hvp_gdbstub_remove_breakpoint(HvpGdbstub *self, HvpGva pc, GError **error)
{
	return change_breakpoint(self, 'z', pc, error);
}

static bool enter_physical_mode(HvpGdbstub *self, GError **error)
{
	if (self->physical_mode)
		return true;
	self->physical_mode = command(self, "Qqemu.PhyMemMode:1", error);
	return self->physical_mode;
}

bool hvp_gdbstub_leave_physical_mode(HvpGdbstub *self, GError **error)
{
	if (!self->physical_mode)
		return true;
	self->physical_mode = !command(self, "Qqemu.PhyMemMode:0", error);
	return !self->physical_mode;
}

bool hvp_gdbstub_is_in_physical_mode(const HvpGdbstub *self)
{
	return self->physical_mode;
}

static bool read_chunk(HvpGdbstub *self, guint64 address, guint8 *ret_bytes, gsize length_bytes,
		       GError **error)
{
	char request[48];

	g_snprintf(request, sizeof request, "m%" G_GINT64_MODIFIER "x,%x", address,
		   (guint)length_bytes);
	if (!exchange(self, request, error))
		return false;
	if (answer(self)[0] == 'E' && self->packet.data_bytes == 3)
		return hvp_error_set(error, HVP_ERROR_FAULT,
				     "the gdb stub cannot read 0x%" G_GINT64_MODIFIER "x", address);
	if (self->packet.data_bytes != 2 * length_bytes ||
	    !hvp_gdb_packet_from_hex(ret_bytes, answer(self), length_bytes))
		return protocol_failed(self, request, error);
	return true;
}

static bool write_chunk(HvpGdbstub *self, guint64 address, const guint8 *bytes, gsize length_bytes,
			GError **error)
{
	int head = g_snprintf(self->request, REQUEST_BYTES, "M%" G_GINT64_MODIFIER "x,%x:", address,
			      (guint)length_bytes);

	hvp_gdb_packet_to_hex(self->request + head, bytes, length_bytes);
	return command(self, self->request, error);
}

bool hvp_gdbstub_read_physical(HvpGdbstub *self, HvpGpa gpa, void *ret_bytes, gsize length_bytes,
			       GError **error)
{
	if (!enter_physical_mode(self, error))
		return false;
	for (gsize done = 0; done < length_bytes; done += HVP_GDBSTUB_CHUNK_BYTES)
		if (!read_chunk(self, gpa.value + done, (guint8 *)ret_bytes + done,
				MIN(HVP_GDBSTUB_CHUNK_BYTES, length_bytes - done), error))
			return false;
	return true;
}

bool hvp_gdbstub_write_physical(HvpGdbstub *self, HvpGpa gpa, const void *bytes,
				gsize length_bytes, GError **error)
{
	if (!enter_physical_mode(self, error))
		return false;
	for (gsize done = 0; done < length_bytes; done += HVP_GDBSTUB_CHUNK_BYTES)
		if (!write_chunk(self, gpa.value + done, (const guint8 *)bytes + done,
				 MIN(HVP_GDBSTUB_CHUNK_BYTES, length_bytes - done), error))
			return false;
	return true;
}

bool hvp_gdbstub_read_virtual(HvpGdbstub *self, guint vcpu_index, HvpGva gva, void *ret_bytes,
			      gsize length_bytes, GError **error)
{
	if (length_bytes > HVP_GDBSTUB_CHUNK_BYTES)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "too much to read at once");
	return hvp_gdbstub_leave_physical_mode(self, error) &&
	       select_vcpu(self, 'g', vcpu_index, error) &&
	       read_chunk(self, gva.value, ret_bytes, length_bytes, error);
}

bool hvp_gdbstub_write_virtual(HvpGdbstub *self, guint vcpu_index, HvpGva gva, const void *bytes,
			       gsize length_bytes, GError **error)
{
	if (length_bytes > HVP_GDBSTUB_CHUNK_BYTES)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "too much to write at once");
	return hvp_gdbstub_leave_physical_mode(self, error) &&
	       select_vcpu(self, 'g', vcpu_index, error) &&
	       write_chunk(self, gva.value, bytes, length_bytes, error);
}

/* The first answer; stop replies that connecting gave rise to may come before it. */
static bool negotiate(HvpGdbstub *self, GError **error)
{
	static const char request[] = "qSupported:multiprocess+;xmlRegisters=i386";
	HvpDeadline deadline = request_deadline(self);
	GError *local = NULL;

	if (!hvp_gdb_packet_send(&self->packet, request, deadline, &local))
		return failed(self, local, error);
	for (int skipped = 0;; skipped++) {
		if (!hvp_gdb_packet_receive(&self->packet, deadline, &local))
			return failed(self, local, error);
		if (!is_stop_reply(answer(self)))
			break;
		if (skipped == 2)
			return protocol_failed(self, request, error);
	}
	if (strstr(answer(self), "qXfer:features:read+") == NULL ||
	    strstr(answer(self), "vContSupported+") == NULL)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the gdb stub lacks target descriptions or vCont");
	return true;
}

/* "mID,ID,..." */
static bool add_threads(HvpGdbstub *self, GError **error)
{
	const char *text = answer(self);

	do {
		text++;
		if (self->vcpu_count == HVP_GDBSTUB_MAX_VCPUS)
			return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
					     "the VM has more than %u vCPUs",
					     HVP_GDBSTUB_MAX_VCPUS);
		if (!parse_thread(&text, &self->vcpus[self->vcpu_count]) ||
		    find_vcpu(self, self->vcpus[self->vcpu_count]) >= 0)
			return protocol_failed(self, "qfThreadInfo", error);
		self->vcpu_count++;
	} while (*text == ',');
	return *text == '\0' || protocol_failed(self, "qfThreadInfo", error);
}

static bool list_vcpus(HvpGdbstub *self, GError **error)
{
	const char *request = "qfThreadInfo";

	for (self->vcpu_count = 0;; request = "qsThreadInfo") {
		if (!exchange(self, request, error))
			return false;
		if (strcmp(answer(self), "l") == 0)
			break;
		if (answer(self)[0] != 'm')
			return protocol_failed(self, request, error);
		if (!add_threads(self, error))
			return false;
	}
	return self->vcpu_count > 0 || protocol_failed(self, request, error);
}

/*
 * QEMU takes "?" as a sign of a new client, and removes the breakpoints that an old one
 * left, but only of the vCPU selected for stepping (7.2, handle_target_halt). One that
 * stayed would hold its vCPU for ever.
 */
static bool clear_breakpoints(HvpGdbstub *self, guint vcpu_index, GError **error)
{
	HvpDeadline deadline = request_deadline(self);
	GError *local = NULL;

	if (!select_vcpu(self, 'c', vcpu_index, error))
		return false;
	if (!hvp_gdb_packet_send(&self->packet, "?", deadline, &local) ||
	    !hvp_gdb_packet_receive(&self->packet, deadline, &local))
		return failed(self, local, error);
	if (answer(self)[0] != 'T' && answer(self)[0] != 'S')
		return protocol_failed(self, "?", error);
	return true;
}

static bool clear_all_breakpoints(HvpGdbstub *self, GError **error)
{
	for (guint i = 0; i < self->vcpu_count; i++)
		if (!clear_breakpoints(self, i, error))
			return false;
	return true;
}

/* qXfer: "m" data and there is more, or "l" data and that was all. */
static char *fetch_xml(HvpGdbstub *self, const char *file, GError **error)
{
	g_autoptr(GString) xml = g_string_new(NULL);
	char request[128];

	do {
		g_snprintf(request, sizeof request, "qXfer:features:read:%s:%x,ffb", file,
			   (guint)xml->len);
		if (!exchange(self, request, error))
			return NULL;
		if ((answer(self)[0] != 'm' || self->packet.data_bytes < 2) &&
		    answer(self)[0] != 'l') {
			protocol_failed(self, request, error);
			return NULL;
		}
		g_string_append_len(xml, answer(self) + 1, (gssize)self->packet.data_bytes - 1);
		if (xml->len > HVP_GDB_TARGET_MAX_XML_BYTES) {
			hvp_error_set(error, HVP_ERROR_BAD_DATA,
				      "gdb stub's target description is too long");
			return NULL;
		}
	} while (answer(self)[0] == 'm');
	return g_string_free(g_steal_pointer(&xml), FALSE);
}

/* Also makes QEMU accept "P": it wants to have seen a request for the description. */
static bool fetch_description(HvpGdbstub *self, GError **error)
{
	g_autoptr(GPtrArray) xmls = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GPtrArray) includes = NULL;
	char *xml = fetch_xml(self, "target.xml", error);

	if (xml == NULL)
		return false;
	g_ptr_array_add(xmls, xml);
	includes = hvp_gdb_target_find_includes(xml, error);
	if (includes == NULL)
		return false;
	for (guint i = 0; i < includes->len; i++) {
		xml = fetch_xml(self, g_ptr_array_index(includes, i), error);
		if (xml == NULL)
			return false;
		g_ptr_array_add(xmls, xml);
	}
	g_clear_pointer(&self->xmls, g_ptr_array_unref);
	self->xmls = g_steal_pointer(&xmls);
	return true;
}

bool hvp_gdbstub_handshake(HvpGdbstub *self, GError **error)
{
	/* Set, so that a mode that a dead client left is taken back. */
	self->physical_mode = true;
	return still_usable(self, error) && negotiate(self, error) &&
	       hvp_gdbstub_leave_physical_mode(self, error) && list_vcpus(self, error) &&
	       clear_all_breakpoints(self, error) && fetch_description(self, error);
}

bool hvp_gdbstub_learn_registers(HvpGdbstub *self, GError **error)
{
	if (self->xmls == NULL)
		return hvp_error_set(error, HVP_ERROR_INTERNAL, "no target description fetched");
	return hvp_gdb_target_parse(&self->target, self->xmls, error);
}
