/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvm-drive {QMP-SOCKET | PID}: a keeper with the kvm backend on the bare-metal guest, of process
 * PID without its monitor, driven by lines on stdin; one line of JSON on stdout answers each:
 * {"ok":true,...} or {"error":CODE,"message":..}.
 *
 *   attach | detach | stop | resume | keeper (its pid)
 *   storm COUNT USEC    stops and resumes, USEC apart; checks what registers each stop tells
 *   switch | unswitch   the functions' entries, when nobody is in a round
 *   begin | commit      the switch in two parts; in between it is not committed
 *   echo [SOCKET]       leaves, and has QEMU see all that was written (engine/echo.h): by the
 *                       monitor at SOCKET where none was known
 *   role ID ROLE | wake ID | epoch     what the guest is told, see layout.h
 *   box | entries       what the guest tells; how many of its functions are switched
 *
 * For tests and scripts/bench.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "engine/echo.h"
#include "engine/glance.h"
#include "keeper/keeper.h"
#include "layout.h"
#include "vm/machine.h"

#define CONNECT_USEC (10 * G_USEC_PER_SEC)
#define BUDGET_USEC (5 * G_USEC_PER_SEC)
#define MAX_SWITCH_TRIES 100000
#define PATIENCE_USEC (30 * G_USEC_PER_SEC)
#define JUMP_BYTES 5
#define JUMP 0xe9

typedef struct {
	HvpMachine *machine;
	HvpKeeper *keeper;
	GuestBox box;
} Drive;

/* Times of all stops of a storm. */
typedef struct {
	GArray *stop, *registers, *resume, *whole; /* gint64, microseconds */
	guint busy;
} Times;

static bool read_box(Drive *self, GError **error)
{
	return hvp_physical_read(hvp_machine_get_physical(self->machine), hvp_gpa(GUEST_BOX),
				 &self->box, sizeof self->box, error);
}

static void answer_ok(void)
{
	printf("{\"ok\":true}\n");
}

static void answer_error(const GError *error)
{
	g_autofree char *message = g_strescape(error->message, NULL);

	printf("{\"error\":\"%s\",\"message\":\"%s\"}\n", hvp_error_name(error), message);
}

/* --- stops --- */

static bool check_registers(const HvpRegisters *registers, guint index, GError **error)
{
	guint64 rsp = registers->general[HVP_RSP];

	if (registers->cr3 == GUEST_PML4 && registers->rip >= GUEST_VIRTUAL &&
	    registers->rip < GUEST_VIRTUAL + GUEST_BYTES && rsp > GUEST_STACKS &&
	    rsp <= GUEST_STACKS + (GUEST_MAX_VCPUS + 1) * GUEST_STACK_BYTES)
		return true;
	return hvp_error_set(error, HVP_ERROR_INTERNAL,
			     "vCPU %u has rip 0x%" G_GINT64_MODIFIER "x rsp 0x%" G_GINT64_MODIFIER
			     "x cr3 0x%" G_GINT64_MODIFIER "x",
			     index, registers->rip, rsp, registers->cr3);
}

static bool stop_once(Drive *self, Times *times, GError **error)
{
	g_auto(HvpKeeperStop) stop = { 0 };
	gint64 started = g_get_monotonic_time(), resume_usec;

	if (!hvp_keeper_stop(self->keeper, BUDGET_USEC, &stop, error))
		return false;
	for (guint i = 0; i < stop.vcpu_count; i++)
		if (!check_registers(&stop.registers[i], i, error))
			return false;
	if (!hvp_keeper_resume(self->keeper, &resume_usec, error))
		return false;
	started = g_get_monotonic_time() - started;
	g_array_append_val(times->stop, stop.stop_usec);
	g_array_append_val(times->registers, stop.registers_usec);
	g_array_append_val(times->resume, resume_usec);
	g_array_append_val(times->whole, started);
	return true;
}

static int compare_times(const void *a, const void *b)
{
	gint64 one = *(const gint64 *)a, other = *(const gint64 *)b;

	return (one > other) - (one < other);
}

static void print_times(const char *name, GArray *times)
{
	g_array_sort(times, compare_times);
	printf(",\"%s_usec\":%" G_GINT64_FORMAT ",\"%s_usec_max\":%" G_GINT64_FORMAT, name,
	       times->len ? g_array_index(times, gint64, times->len / 2) : 0, name,
	       times->len ? g_array_index(times, gint64, times->len - 1) : 0);
}

static GArray *new_times(void)
{
	return g_array_new(FALSE, FALSE, sizeof(gint64));
}

static bool run_storm(Drive *self, guint count, gulong pause_usec, Times *times, GError **error)
{
	for (guint i = 0; i < count; i++) {
		GError *local = NULL;

		if (!stop_once(self, times, &local)) {
			if (!g_error_matches(local, HVP_ERROR, HVP_ERROR_BUSY)) {
				g_propagate_error(error, local);
				return false;
			}
			g_error_free(local);
			times->busy++;
		}
		if (pause_usec > 0)
			g_usleep(pause_usec);
	}
	return true;
}

static bool storm(Drive *self, const char *arguments, GError **error)
{
	Times times = { new_times(), new_times(), new_times(), new_times(), 0 };
	char *end;
	guint count = (guint)strtoul(arguments, &end, 10);
	bool ok = run_storm(self, count, strtoul(end, NULL, 10), &times, error);

	if (ok) {
		printf("{\"ok\":true,\"stops\":%u,\"busy\":%u", times.stop->len, times.busy);
		print_times("stop", times.stop);
		print_times("registers", times.registers);
		print_times("resume", times.resume);
		print_times("whole", times.whole);
		printf("}\n");
	}
	g_array_unref(times.stop);
	g_array_unref(times.registers);
	g_array_unref(times.resume);
	g_array_unref(times.whole);
	return ok;
}

static bool stop_and_stay(Drive *self, GError **error)
{
	g_auto(HvpKeeperStop) stop = { 0 };

	if (!hvp_keeper_stop(self->keeper, BUDGET_USEC, &stop, error))
		return false;
	printf("{\"ok\":true,\"vcpus\":%u}\n", stop.vcpu_count);
	return true;
}

/* --- switching the functions --- */

/* Of function @index: behind its slot, a move to EAX or a jump to behind the other's slot. */
static HvpKeeperWrite make_write(const GuestBox *box, guint index, bool back)
{
	guint64 offset_bytes = index * GUEST_FUNCTION_BYTES + GUEST_SLOT_BYTES;
	guint64 place = box->functions + offset_bytes;
	guint32 distance = (guint32)(box->replacements - box->functions - JUMP_BYTES);
	const guint8 move[JUMP_BYTES] = { 0xb8, 1, 0, 0, 0 };
	const guint8 jump[JUMP_BYTES] = { JUMP, (guint8)distance, (guint8)(distance >> 8),
					  (guint8)(distance >> 16), (guint8)(distance >> 24) };
	HvpKeeperWrite write = { .gpa = hvp_gpa(place - GUEST_VIRTUAL + GUEST_BASE),
				 .length_bytes = JUMP_BYTES };

	memcpy(write.old_bytes, back ? jump : move, JUMP_BYTES);
	memcpy(write.new_bytes, back ? move : jump, JUMP_BYTES);
	return write;
}

static bool in_round(const Drive *self, const HvpKeeperStop *stop)
{
	for (guint i = 0; i < stop->vcpu_count; i++)
		if (stop->registers[i].rip >= self->box.round_start &&
		    stop->registers[i].rip < self->box.round_end)
			return true;
	return false;
}

/* On a busy host a vCPU's thread may not get a CPU in time to come out of the guest. */
static bool stop_patiently(Drive *self, HvpKeeperStop *ret_stop, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(PATIENCE_USEC);
	GError *local = NULL;

	while (!hvp_keeper_stop(self->keeper, BUDGET_USEC, ret_stop, &local)) {
		if (!g_error_matches(local, HVP_ERROR, HVP_ERROR_BUSY) ||
		    hvp_deadline_passed(deadline)) {
			g_propagate_error(error, local);
			return false;
		}
		g_clear_error(&local);
	}
	return true;
}

/* Stops until nobody is in a round. */
static bool stop_outside(Drive *self, GError **error)
{
	for (guint i = 0; i < MAX_SWITCH_TRIES; i++) {
		g_auto(HvpKeeperStop) stop = { 0 };

		if (!stop_patiently(self, &stop, error))
			return false;
		if (!in_round(self, &stop))
			return true;
		if (!hvp_keeper_resume(self->keeper, NULL, error))
			return false;
	}
	return hvp_error_set(error, HVP_ERROR_BUSY, "some vCPU was in a round each time");
}

static bool begin(Drive *self, bool back, GError **error)
{
	HvpKeeperWrite writes[GUEST_FUNCTIONS];

	if (!read_box(self, error))
		return false;
	for (guint i = 0; i < GUEST_FUNCTIONS; i++)
		writes[i] = make_write(&self->box, i, back);
	return stop_outside(self, error) &&
	       hvp_keeper_write(self->keeper, writes, GUEST_FUNCTIONS, error);
}

static bool switch_all(Drive *self, bool back, GError **error)
{
	return begin(self, back, error) && hvp_keeper_commit(self->keeper, error) &&
	       hvp_keeper_resume(self->keeper, NULL, error);
}

/* --- the box --- */

static bool tell(Drive *self, gsize offset_bytes, const void *bytes, gsize length_bytes,
		 GError **error)
{
	g_auto(HvpKeeperStop) stop = { 0 };

	return stop_patiently(self, &stop, error) &&
	       hvp_keeper_write_data(self->keeper, hvp_gpa(GUEST_BOX + offset_bytes), bytes,
				     length_bytes, error) &&
	       hvp_keeper_resume(self->keeper, NULL, error);
}

static bool tell_role(Drive *self, const char *arguments, GError **error)
{
	char *end;
	gsize id = strtoul(arguments, &end, 10) % GUEST_MAX_VCPUS;
	guint32 role = (guint32)strtoul(end, NULL, 10);

	return tell(self, offsetof(GuestBox, roles) + id * sizeof role, &role, sizeof role, error);
}

static bool tell_wake(Drive *self, const char *arguments, GError **error)
{
	guint64 wake = strtoul(arguments, NULL, 10) + 1;

	return tell(self, offsetof(GuestBox, wake), &wake, sizeof wake, error);
}

static bool tell_epoch(Drive *self, GError **error)
{
	guint64 epoch;

	if (!read_box(self, error))
		return false;
	epoch = self->box.gaps_epoch + 1;
	return tell(self, offsetof(GuestBox, gaps_epoch), &epoch, sizeof epoch, error);
}

static bool print_box(Drive *self, GError **error)
{
	const char *comma = "";

	if (!read_box(self, error))
		return false;
	printf("{\"ok\":true,\"up\":%s,\"count\":%" G_GUINT64_FORMAT ",\"vcpus\":[",
	       self->box.magic == GUEST_MAGIC ? "true" : "false", self->box.vcpu_count);
	for (guint i = 0; i < GUEST_MAX_VCPUS; i++) {
		const GuestVcpu *vcpu = &self->box.vcpus[i];

		if (vcpu->rounds == 0)
			continue;
		printf("%s{\"id\":%u,\"role\":%u,\"rounds\":%" G_GUINT64_FORMAT
		       ",\"old\":%" G_GUINT64_FORMAT ",\"new\":%" G_GUINT64_FORMAT
		       ",\"mixed\":%" G_GUINT64_FORMAT ",\"disturbed\":%" G_GUINT64_FORMAT
		       ",\"longest_gap\":%" G_GUINT64_FORMAT "}",
		       comma, i, vcpu->role, vcpu->rounds, vcpu->old_rounds, vcpu->new_rounds,
		       vcpu->mixed, vcpu->disturbed, vcpu->longest_gap);
		comma = ",";
	}
	printf("]}\n");
	return true;
}

/* By memory alone, whoever runs. */
static bool print_entries(Drive *self, GError **error)
{
	guint switched = 0;

	if (!read_box(self, error))
		return false;
	for (guint i = 0; i < GUEST_FUNCTIONS; i++) {
		HvpKeeperWrite write = make_write(&self->box, i, false);
		guint8 now[JUMP_BYTES];

		if (!hvp_physical_read(hvp_machine_get_physical(self->machine), write.gpa, now,
				       sizeof now, error))
			return false;
		switched += memcmp(now, write.new_bytes, sizeof now) == 0;
	}
	printf("{\"ok\":true,\"switched\":%u}\n", switched);
	return true;
}

/* --- life --- */

typedef enum { BY_KVM, BY_GDBSTUB } Way;

static bool start_keeper(Drive *self, Way way, GError **error)
{
	HvpQmp *qmp = hvp_machine_get_qmp(self->machine);
	int journal = memfd_create("journal", MFD_CLOEXEC);
	HvpKvmPlace place = { .pid = hvp_machine_get_pid(self->machine),
			      .start_time = hvp_machine_get_start_time(self->machine) };

	self->keeper = hvp_keeper_start(qmp ? hvp_qmp_get_fd(qmp) : -1, journal, error);
	if (self->keeper == NULL)
		return false;
	if (qmp != NULL)
		(void)hvp_qmp_steal_fd(qmp);
	close(journal);
	place.ranges = hvp_ram_get_ranges(hvp_machine_get_ram(self->machine), &place.range_count);
	return way == BY_GDBSTUB || hvp_keeper_use_kvm(self->keeper, &place, error);
}

static bool end_keeper(Drive *self, GError **error)
{
	bool ok = hvp_keeper_detach(self->keeper, error);

	g_clear_pointer(&self->keeper, hvp_keeper_free);
	return hvp_machine_reconnect(self->machine, hvp_deadline_in(CONNECT_USEC),
				     ok ? error : NULL) &&
	       ok;
}

/* Another keeper, which is not attached, is there afterwards. */
static bool leave_and_echo(Drive *self, const char *socket, GError **error)
{
	g_autoptr(GArray) pages = hvp_keeper_get_pages(self->keeper);

	return end_keeper(self, error) &&
	       (socket[0] == '\0' ||
		hvp_machine_add_monitor(self->machine, hvp_monitor_new_for_socket(socket + 1),
					hvp_deadline_in(CONNECT_USEC), error)) &&
	       start_keeper(self, BY_GDBSTUB, error) && hvp_keeper_attach(self->keeper, error) &&
	       hvp_echo_write(self->machine, self->keeper, pages, error) &&
	       end_keeper(self, error) && start_keeper(self, BY_KVM, error);
}

/* --- commands --- */

static const char *skip_word(const char *line, const char *word)
{
	gsize length = strlen(word);

	return strncmp(line, word, length) == 0 && (line[length] == ' ' || line[length] == '\0')
		       ? line + length
		       : NULL;
}

/* Those that answer nothing but ok; *@ret_known is false for others. */
static bool run_simple(Drive *self, const char *line, bool *ret_known, GError **error)
{
	const char *rest;

	*ret_known = true;
	if (skip_word(line, "attach"))
		return hvp_keeper_attach(self->keeper, error);
	if (skip_word(line, "detach"))
		return hvp_keeper_detach(self->keeper, error);
	if (skip_word(line, "resume"))
		return hvp_keeper_resume(self->keeper, NULL, error);
	if (skip_word(line, "switch"))
		return switch_all(self, false, error);
	if (skip_word(line, "unswitch"))
		return switch_all(self, true, error);
	if (skip_word(line, "begin"))
		return begin(self, false, error);
	if (skip_word(line, "commit"))
		return hvp_keeper_commit(self->keeper, error);
	if ((rest = skip_word(line, "echo")))
		return leave_and_echo(self, rest, error);
	if ((rest = skip_word(line, "role")))
		return tell_role(self, rest, error);
	if ((rest = skip_word(line, "wake")))
		return tell_wake(self, rest, error);
	if (skip_word(line, "epoch"))
		return tell_epoch(self, error);
	*ret_known = false;
	return true;
}

static bool run_line(Drive *self, const char *line, GError **error)
{
	const char *rest;
	bool known;

	if (!run_simple(self, line, &known, error))
		return false;
	if (known)
		answer_ok();
	else if ((rest = skip_word(line, "storm")))
		return storm(self, rest, error);
	else if (skip_word(line, "stop"))
		return stop_and_stay(self, error);
	else if (skip_word(line, "box"))
		return print_box(self, error);
	else if (skip_word(line, "entries"))
		return print_entries(self, error);
	else if (skip_word(line, "keeper"))
		printf("{\"ok\":true,\"pid\":%d}\n", (int)hvp_keeper_get_pid(self->keeper));
	else
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "no such command");
	return true;
}

static bool find_process(Drive *self, pid_t pid, GError **error)
{
	g_autofree HvpRegisters *registers = NULL;

	self->machine = hvp_machine_open_process(pid, error);
	if (self->machine == NULL)
		return false;
	registers = hvp_glance_read_registers(self->machine, NULL, error);
	return registers != NULL &&
	       hvp_machine_find_ram(self->machine, registers,
				    hvp_machine_get_vcpu_count(self->machine), error);
}

static bool start(Drive *self, const char *where, GError **error)
{
	if (g_ascii_isdigit(where[0])) {
		if (!find_process(self, (pid_t)atoi(where), error))
			return false;
	} else {
		self->machine = hvp_machine_open(where, hvp_deadline_in(CONNECT_USEC), error);
		if (self->machine == NULL)
			return false;
	}
	return start_keeper(self, BY_KVM, error);
}

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	Drive self = { 0 };
	char line[256];

	if (argc != 2) {
		fprintf(stderr, "usage: kvm-drive {QMP-SOCKET | PID}\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!start(&self, argv[1], &error)) {
		answer_error(error);
		return 1;
	}
	answer_ok();
	while (fgets(line, sizeof line, stdin) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		g_clear_error(&error);
		if (!run_line(&self, line, &error))
			answer_error(error);
	}
	hvp_keeper_free(self.keeper);
	hvp_machine_free(self.machine);
	return 0;
}
