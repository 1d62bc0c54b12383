/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A real QEMU (two vCPUs) that runs guest.h, with a keeper's monitor and one of the test's own to
 * look at it from the side. It emulates, and is got at through its gdb stub; with
 * HVPATCH_TEST_KVM=1 it runs under KVM, and the keeper gets at it by its threads.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "guest/instructions.h"
#include "keeper/keeper.h"
#include "keeper/journal.h"
#include "vm/access.h"
#include "vm/machine.h"
#include "vm/qemu-ram.h"
#include "vm/qmp.h"

#define BUDGET_USEC (5 * G_USEC_PER_SEC)

typedef struct {
	char *folder;
	pid_t pid;
	HvpQmp *side; /* the test's monitor */
	HvpRam *ram;
	int journal_fd;
	HvpKeeper *keeper;
	bool uses_spins; /* once it is attached */
	guint call_msec; /* how long a long call is; 0: as usual */
} Vm;

static inline bool vm_is_kvm(void)
{
	return g_getenv("HVPATCH_TEST_KVM") != NULL;
}

static inline HvpDeadline vm_soon(void)
{
	return hvp_deadline_in(20 * G_USEC_PER_SEC);
}


static inline char *vm_path(const Vm *vm, const char *name)
{
	return g_build_filename(vm->folder, name, NULL);
}

static inline HvpQmp *vm_connect(const Vm *vm, const char *name)
{
	g_autofree char *path = vm_path(vm, name);

	for (int tries = 0; tries < 500; tries++) {
		HvpQmp *qmp = hvp_qmp_connect(path, vm_soon(), NULL);

		if (qmp != NULL)
			return qmp;
		g_usleep(10000);
	}
	g_error("no monitor at %s", path);
}

static inline void vm_exec(const Vm *vm, const char *option, const char *value)
{
	g_autofree char *rom = vm_path(vm, "rom");
	g_autofree char *one =
		g_strdup_printf("unix:%s/keeper.sock,server=on,wait=off", vm->folder);
	g_autofree char *two = g_strdup_printf("unix:%s/side.sock,server=on,wait=off", vm->folder);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execlp("qemu-system-x86_64", "qemu-system-x86_64", "-accel",
	       vm_is_kvm() ? "kvm" : "tcg,thread=multi", "-smp", "2", "-m", "16",
	       "-nodefaults", "-display", "none", "-bios", rom, "-qmp", one, "-qmp", two, option,
	       value, NULL);
	_exit(127);
}

static inline char *vm_hmp(const Vm *vm, const char *line)
{
	g_autoptr(GError) error = NULL;
	char *text = hvp_qmp_monitor_command(vm->side, line, vm_soon(), &error);

	g_assert_no_error(error);
	return text;
}

/* Without the monitor, which may wait for vCPUs of KVM that stand still. */
static inline guint64 vm_peek_at_process(const Vm *vm, guint64 address)
{
	gsize count;
	const HvpRamRange *first = hvp_ram_get_ranges(vm->ram, &count);
	guint64 value;
	struct iovec local = { &value, sizeof value };
	struct iovec remote = { (void *)(guintptr)(first->hva.value + address), sizeof value };

	g_assert_cmpuint(first->start.value, ==, 0);
	g_assert_cmpint(process_vm_readv(vm->pid, &local, 1, &remote, 1, 0), ==, sizeof value);
	return value;
}

static inline guint64 vm_peek(const Vm *vm, guint64 address)
{
	g_autofree char *line = g_strdup_printf("xp /1gx 0x%" G_GINT64_MODIFIER "x", address);
	g_autofree char *text = vm_is_kvm() ? NULL : vm_hmp(vm, line);
	const char *value = text ? strstr(text, ": ") : NULL;

	if (vm_is_kvm())
		return vm_peek_at_process(vm, address);
	g_assert_nonnull(value);
	return g_ascii_strtoull(value + 2, NULL, 16);
}

static inline char *vm_status(const Vm *vm)
{
	g_autoptr(GError) error = NULL;
	bool running;
	char *status = NULL;

	if (!hvp_qmp_query_status(vm->side, vm_soon(), &running, &status, &error))
		g_error("query-status: %s", error->message);
	return status;
}

/* Both vCPUs go round their loop. */
static inline bool vm_advances(const Vm *vm)
{
	guint64 before[2] = { vm_peek(vm, GUEST_COUNTERS), vm_peek(vm, GUEST_COUNTERS + 8) };

	for (int tries = 0; tries < 2000; tries++) {
		if (vm_peek(vm, GUEST_COUNTERS) != before[0] &&
		    vm_peek(vm, GUEST_COUNTERS + 8) != before[1])
			return true;
		g_usleep(2000);
	}
	return false;
}

static inline void vm_command(const Vm *vm, const char *command)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(JsonNode) result = hvp_qmp_execute(vm->side, command, NULL, vm_soon(), &error);

	g_assert_no_error(error);
	g_assert_nonnull(result);
}

static inline bool vm_has_chardev(const Vm *vm, const char *label)
{
	g_autofree char *text = vm_hmp(vm, "info chardev");

	return strstr(text, label) != NULL;
}

static inline bool vm_is_running(const Vm *vm)
{
	g_autofree char *status = vm_status(vm);

	return strcmp(status, "running") == 0;
}

static inline void vm_assert_untouched_but_attached(const Vm *vm)
{
	/* A late stop at a breakpoint that is gone is resumed by the keeper. */
	for (int tries = 0; tries < 50 && !vm_is_running(vm); tries++)
		g_usleep(10000);
	g_assert_true(vm_is_running(vm));
	g_assert_true(vm_advances(vm));
	g_assert_cmpuint(vm_peek(vm, GUEST_PATCHED_BYTE) & 0xff, ==, 1);
	/* A guest that lost its way faults, and starts again. */
	g_assert_cmpuint(hvp_qmp_get_event_count(vm->side, HVP_QMP_EVENT_RESET), ==, 0);
}

/* The types of all records of the journal, one letter each. */
static inline char *vm_journal(const Vm *vm)
{
	static const char letters[] = "?bsAHDhWUCXEnSrcd";
	g_autofree char *path = vm_path(vm, "journal");
	g_autofree char *bytes = NULL;
	g_autoptr(GArray) records = NULL;
	GString *text = g_string_new(NULL);
	gsize length_bytes;
	bool torn;

	g_assert_true(g_file_get_contents(path, &bytes, &length_bytes, NULL));
	records = hvp_journal_parse((const guint8 *)bytes, length_bytes, &torn);
	g_assert_false(torn);
	for (guint i = 0; i < records->len; i++)
		g_string_append_c(text, letters[g_array_index(records, HvpJournalRecord, i).type]);
	return g_string_free(text, FALSE);
}

/* Whether a keeper is with it: by what QEMU shows, or, where that is nothing, by the journal. */
static inline bool vm_is_attached(const Vm *vm)
{
	g_autofree char *journal = NULL;
	const char *attached, *left;

	if (!vm_is_kvm())
		return vm_has_chardev(vm, "hvpatch-gdb");
	journal = vm_journal(vm);
	attached = strrchr(journal, 'A');
	left = strrchr(journal, 'X');
	return attached != NULL && (left == NULL || left < attached);
}

/* Runs as it did before anybody came, and nothing was left behind. */
static inline void vm_assert_untouched(const Vm *vm)
{
	g_assert_false(vm_is_attached(vm));
	vm_assert_untouched_but_attached(vm);
}

static inline void vm_wait_untouched(const Vm *vm, gint64 usec)
{
	HvpDeadline deadline = hvp_deadline_in(usec);

	while (vm_is_attached(vm) && !hvp_deadline_passed(deadline))
		g_usleep(5000);
	vm_assert_untouched(vm);
}

/* Where the keeper finds the vCPUs of KVM and the guest's memory. */
static inline void vm_tell_place(const Vm *vm, HvpKeeper *keeper)
{
	g_autoptr(GError) error = NULL;
	HvpKvmPlace place = { .pid = vm->pid };

	g_assert_true(hvp_access_read_start_time(vm->pid, &place.start_time));
	place.ranges = hvp_ram_get_ranges(vm->ram, &place.range_count);
	g_assert_true(hvp_keeper_use_kvm(keeper, &place, &error));
	g_assert_no_error(error);
}

static inline HvpKeeper *vm_start_keeper(Vm *vm)
{
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpQmp) qmp = vm_connect(vm, "keeper.sock");
	int fd = hvp_qmp_steal_fd(qmp);
	HvpKeeper *keeper = hvp_keeper_start(fd, vm->journal_fd, &error);

	g_assert_no_error(error);
	if (vm_is_kvm())
		vm_tell_place(vm, keeper);
	return keeper;
}

static inline void vm_boot(Vm *vm, const char *option, const char *value)
{
	g_autofree guint8 *rom = guest_make_rom();
	g_autoptr(GError) error = NULL;
	g_autofree char *path = NULL;
	g_autofree char *journal = NULL;

	vm->folder = g_dir_make_tmp("keeper-test-XXXXXX", NULL);
	g_assert_nonnull(vm->folder);
	path = vm_path(vm, "rom");
	journal = vm_path(vm, "journal");
	g_assert_true(g_file_set_contents(path, (const char *)rom, GUEST_ROM_BYTES, NULL));
	vm->journal_fd = open(journal, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	vm->pid = fork();
	if (vm->pid == 0)
		vm_exec(vm, option, value);
	vm->side = vm_connect(vm, "side.sock");
	vm->ram = hvp_qemu_ram_query(vm->side, vm_soon(), &error);
	g_assert_no_error(error);
}

static inline bool vm_wait_up(const Vm *vm)
{
	HvpDeadline deadline = vm_soon();

	while (vm_peek(vm, GUEST_COUNTERS + 8) == 0) {
		if (hvp_deadline_passed(deadline))
			return false;
		g_usleep(2000);
	}
	return true;
}

static inline void vm_start_with(Vm *vm, const char *option, const char *value)
{
	vm_boot(vm, option, value);
	g_assert_true(vm_wait_up(vm));
}

/* From now on traps are spin traps, at whatever the tests use. */
static inline void vm_use_spins(Vm *vm)
{
	static const guint64 pcs[] = { GUEST_WORK, GUEST_INNER, GUEST_CALLEE_CALL, GUEST_SLOW,
				       GUEST_NOWHERE };
	HvpKeeperSpin sites[G_N_ELEMENTS(pcs)] = { 0 };
	g_autoptr(GError) error = NULL;

	for (guint i = 0; i < G_N_ELEMENTS(pcs); i++) {
		const guint8 *bytes = guest_start + (pcs[i] - GUEST_BASE);

		sites[i].pc = hvp_gva(pcs[i]);
		sites[i].gpa = hvp_gpa(pcs[i]);
		memcpy(sites[i].old_bytes, bytes, HVP_KEEPER_SPIN_BYTES);
		if (!hvp_instructions_emulate(bytes, HVP_INSTRUCTION_MAX_BYTES, sites[i].pc,
					      &sites[i].emulation, NULL))
			sites[i].emulation.kind = HVP_EMULATION_NONE;
	}
	g_assert_true(hvp_keeper_set_spins(vm->keeper, sites, G_N_ELEMENTS(sites), &error));
	g_assert_no_error(error);
}

static inline void vm_start(Vm *vm)
{
	g_autoptr(GError) error = NULL;

	vm_start_with(vm, "-name", "test");
	vm->keeper = vm_start_keeper(vm);
	g_assert_true(hvp_keeper_attach(vm->keeper, &error));
	g_assert_no_error(error);
	if (vm->uses_spins)
		vm_use_spins(vm);
}

static inline void vm_remove(const Vm *vm, const char *name)
{
	g_autofree char *path = vm_path(vm, name);

	g_unlink(path);
}

static inline void vm_end(Vm *vm)
{
	if (vm->folder == NULL)
		return;
	hvp_keeper_free(vm->keeper);
	hvp_qmp_free(vm->side);
	hvp_ram_free(vm->ram);
	kill(vm->pid, SIGKILL);
	waitpid(vm->pid, NULL, 0);
	close(vm->journal_fd);
	vm_remove(vm, "rom");
	vm_remove(vm, "journal");
	vm_remove(vm, "keeper.sock");
	vm_remove(vm, "side.sock");
	g_rmdir(vm->folder);
	g_free(vm->folder);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Vm, vm_end)

/* Why this host's KVM is of no use; NULL: it is. */
static inline const char *vm_why_no_kvm(void)
{
	g_auto(Vm) vm = { 0 };
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return "no usable /dev/kvm";
	close(fd);
	vm_boot(&vm, "-name", "trial");
	return vm_wait_up(&vm) ? NULL : "this KVM does not run the bare-metal guest";
}

static inline bool vm_is_possible(void)
{
	g_autofree char *qemu = g_find_program_in_path("qemu-system-x86_64");
	static bool tried;
	static const char *why;

	if (qemu == NULL)
		why = "qemu-system-x86_64 is not installed";
	else if (vm_is_kvm() && !tried)
		why = vm_why_no_kvm();
	tried = true;
	if (why != NULL)
		g_test_skip(why);
	return why == NULL;
}
