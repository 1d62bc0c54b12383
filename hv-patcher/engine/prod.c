/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/prod.h"

#include "call/borrow.h"
#include "call/situation.h"
#include "guest/tasks.h"

/* More would keep the first ones too long. */
#define MAX_TASKS 256U
#define CATCH_USEC (3 * G_USEC_PER_SEC)
#define CALL_USEC (10 * G_USEC_PER_SEC)
/*
 * From being woken to the edge of user mode, on a busy guest: and as each stops it on its way,
 * some times as long as it took to wake them.
 */
#define ARRIVE_USEC (300 * 1000)
#define ARRIVE_FACTOR 2
/* How long all stay held at least when the gate closes, for another attempt. */
#define SPARE_USEC (100 * 1000)
/* Whatever the estimates say. */
#define LONGEST_HOLD_USEC (2 * G_USEC_PER_SEC)
/* include/linux/sched.h */
#define TASK_INTERRUPTIBLE 1U

typedef enum { PRODDED_NOT, PRODDED_WOKEN, PRODDED_HELD } Prodded;

typedef struct {
	HvpTask task;
	Prodded state;
} Entry;

/* Functions of the guest. */
typedef struct {
	HvpGva signal; /* signal_wake_up_state: user tasks */
	HvpGva wake;   /* wake_up_state: kernel threads */
	HvpGva gate;
	HvpGva hold;
} Functions;

typedef struct {
	HvpKernel *kernel;
	HvpKeeper *keeper;
	HvpBorrow *borrow;
	Functions functions;
	GArray *entries;	/* Entry */
	guint done;		/* of them: woken, or not to be */
	guint awaited;		/* at the gate */
	gint64 started_usec;	/* by the guest's clock, as all that follow */
	gint64 held_until_usec; /* all together */
	HvpProdRound *result;
} Round;

bool hvp_prod_is_of_use(const GArray *tasks)
{
	bool any = false;

	for (guint i = 0; i < tasks->len; i++) {
		const HvpTask *task = &g_array_index(tasks, HvpTask, i);

		if (hvp_task_is_interruptible(task))
			any = true;
		else if (task->state != 0)
			return false;
	}
	return any;
}

static bool find_functions(HvpKernel *kernel, Functions *ret_functions, GError **error)
{
	return hvp_kernel_symbol(kernel, "signal_wake_up_state", &ret_functions->signal, error) &&
	       hvp_kernel_symbol(kernel, "wake_up_state", &ret_functions->wake, error) &&
	       hvp_kernel_symbol(kernel, "arch_do_signal_or_restart", &ret_functions->gate,
				 error) &&
	       hvp_kernel_symbol(kernel, "msleep", &ret_functions->hold, error);
}

static Entry *entry_at(const Round *self, guint index)
{
	return &g_array_index(self->entries, Entry, index);
}

/* Whether the task comes by the edge of user mode: a worker is a user's by its parent only. */
static bool is_of_user_mode(const HvpTask *task)
{
	return (task->flags &
		(HVP_TASK_PF_KTHREAD | HVP_TASK_PF_IO_WORKER | HVP_TASK_PF_USER_WORKER)) == 0;
}

static Entry *find_woken(const Round *self, const HvpTask *task)
{
	for (guint i = 0; i < self->entries->len; i++) {
		Entry *entry = entry_at(self, i);

		if (entry->state != PRODDED_NOT &&
		    entry->task.address.value == task->address.value &&
		    entry->task.pid == task->pid &&
		    entry->task.start_boottime_nsec == task->start_boottime_nsec)
			return entry;
	}
	return NULL;
}

/*
 * How long it takes until all are held, at the pace so far: those that have been may well come
 * by once more.
 */
static gint64 estimate_usec(const Round *self, gint64 now_usec)
{
	gint64 each = (now_usec - self->started_usec) / MAX(self->done, 1);

	return MIN(self->entries->len * each, LONGEST_HOLD_USEC);
}

/*
 * All are to wake at the same time. One that wakes before the gate closes comes by again, and is
 * held together with those that came later.
 */
static bool hold(Round *self, guint vcpu, Entry *entry, GError **error)
{
	gint64 now = hvp_borrow_guest_usec(self->borrow);

	if (self->held_until_usec < now + SPARE_USEC)
		self->held_until_usec = now + estimate_usec(self, now) + 2 * SPARE_USEC;
	if (!hvp_keeper_redirect(self->keeper, vcpu, self->functions.hold,
				 (guint64)(self->held_until_usec - now) / 1000, error))
		return false;
	if (entry->state == PRODDED_WOKEN) {
		entry->state = PRODDED_HELD;
		self->awaited--;
		self->result->held++;
	}
	return true;
}

static bool pass(Round *self, guint vcpu, GError **error)
{
	GError *reason = NULL;

	if (hvp_keeper_pass(self->keeper, vcpu, &reason))
		return true;
	/* It will come by again. */
	if (g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY)) {
		g_error_free(reason);
		return true;
	}
	g_propagate_error(error, reason);
	return false;
}

/* Somebody is at the gate: those that were woken are held, all others go on. */
static bool visit(guint vcpu, const HvpRegisters *registers, void *user_data, GError **error)
{
	Round *self = user_data;
	HvpSituation found;
	Entry *entry;

	if (!hvp_situation_read(self->kernel, registers, &found, NULL) ||
	    hvp_situation_why_atomic(&found) != NULL)
		return pass(self, vcpu, error);
	entry = find_woken(self, &found.task);
	return entry != NULL ? hold(self, vcpu, entry, error) : pass(self, vcpu, error);
}

static bool is_over(void *user_data)
{
	const Round *self = user_data;

	return self->awaited == 0 && self->result->held > 0;
}

/*
 * While the guest stands still, so that a task that is here and asleep cannot be gone before the
 * call: its memory goes by RCU, which waits for CPUs whose interrupts are off (since 4.20 those
 * of preemptible RCU too, 45975c7d21a1).
 */
static bool wake(Round *self, Entry *entry, GError **error)
{
	const HvpTask *task = &entry->task;
	bool user = is_of_user_mode(task);
	guint64 arguments[] = { task->address.value, user ? 0 : TASK_INTERRUPTIBLE };
	HvpTask now;

	hvp_address_space_forget(hvp_kernel_get_space(self->kernel));
	if (!hvp_tasks_read_one(self->kernel, task->address, &now, NULL) ||
	    !hvp_task_unmoved(task, &now) || !hvp_task_is_interruptible(&now))
		return true;
	self->result->woken++;
	if (user) {
		entry->state = PRODDED_WOKEN;
		self->awaited++;
	}
	return hvp_borrow_call_atomic(
		self->borrow, user ? self->functions.signal : self->functions.wake, arguments,
		G_N_ELEMENTS(arguments), hvp_deadline_in(CALL_USEC), error);
}

static bool wake_all(Round *self, GError **error)
{
	for (guint i = 0; i < self->entries->len; i++) {
		if (!wake(self, entry_at(self, i), error))
			return false;
		self->done++;
	}
	return true;
}

static bool run_round(Round *self, GError **error)
{
	const HvpBorrowGate gate = { self->functions.gate, visit, is_over, self };
	gint64 started = g_get_monotonic_time(), arrive_usec = 0;
	bool released;

	if (!hvp_borrow_open_gate(self->borrow, &gate, error) || !wake_all(self, error)) {
		/* As far as that still goes. */
		(void)!hvp_keeper_set_traps(self->keeper, NULL, 0, NULL);
		(void)!hvp_borrow_release(g_steal_pointer(&self->borrow), NULL, NULL);
		return false;
	}
	if (self->result->woken > 0)
		arrive_usec = ARRIVE_USEC + ARRIVE_FACTOR * (g_get_monotonic_time() - started);
	released = hvp_borrow_release_at_gate(self->borrow, hvp_deadline_in(arrive_usec),
					      &self->result->longest_hold_usec,
					      &self->result->stopped_at_usec, error);
	self->borrow = NULL;
	return released;
}

static GArray *choose(const GArray *tasks)
{
	GArray *entries = g_array_new(FALSE, FALSE, sizeof(Entry));

	for (guint i = 0; i < tasks->len && entries->len < MAX_TASKS; i++) {
		Entry entry = { g_array_index(tasks, HvpTask, i), PRODDED_NOT };

		if (hvp_task_is_interruptible(&entry.task))
			g_array_append_val(entries, entry);
	}
	return entries;
}

/* NULL without an error: there is nobody to be had. */
static bool catch (Round *self, HvpDeadline deadline, GError **error)
{
	GError *reason = NULL;

	self->borrow = hvp_borrow_catch(self->keeper, self->kernel,
					hvp_deadline_min(deadline, hvp_deadline_in(CATCH_USEC)),
					&reason);
	if (self->borrow != NULL)
		return true;
	if (!g_error_matches(reason, HVP_ERROR, HVP_ERROR_TIMED_OUT) &&
	    !g_error_matches(reason, HVP_ERROR, HVP_ERROR_UNSUPPORTED)) {
		g_propagate_error(error, reason);
		return false;
	}
	g_debug("not prodding: %s", reason->message);
	g_error_free(reason);
	return true;
}

bool hvp_prod_run(HvpTarget *target, HvpKeeper *keeper, const GArray *tasks, HvpDeadline deadline,
		  HvpProdRound *ret_round, GError **error)
{
	g_autoptr(GArray) entries = choose(tasks);
	g_autoptr(GError) reason = NULL;
	Round round = {
		.kernel = target->kernel, .keeper = keeper, .entries = entries, .result = ret_round
	};

	*ret_round = (HvpProdRound){ 0 };
	if (!find_functions(target->kernel, &round.functions, &reason)) {
		g_debug("not prodding: %s", reason->message);
		return true;
	}
	if (!catch (&round, deadline, error))
		return false;
	if (round.borrow == NULL)
		return true;
	round.started_usec = hvp_borrow_guest_usec(round.borrow);
	if (!run_round(&round, error)) {
		g_prefix_error(error, "sending tasks out: ");
		return false;
	}
	g_debug("woke %u of %u tasks, %u are held", ret_round->woken, tasks->len, ret_round->held);
	return true;
}
