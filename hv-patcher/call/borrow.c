/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "call/borrow.h"

#include "base/bytes.h"
#include "call/guest-write.h"
#include "call/places.h"
#include "call/situation.h"
#include "call/watch.h"

#include <string.h>

/* How long the guest may stand at a trap or hook before the keeper lets it go. */
#define HOLD_BUDGET_USEC G_USEC_PER_SEC
/* What loading a module takes below its caller, with a good margin. */
#define NEEDED_STACK_BYTES (9U << 10)
/* How long spin traps are planted at most where others come by, and then not. */
#define PLANTED_USEC (2 * G_USEC_PER_SEC)
#define UNPLANTED_USEC (G_USEC_PER_SEC / 10)
/* Before the first look at spin traps; and between looks, whatever the guest's memory says. */
#define DWELL_USEC 500
#define LONGEST_UNLOOKED_USEC (G_USEC_PER_SEC / 4)
/* In an interrupt nothing shows: who stands there is on any task, or none. */
#define LONGEST_UNLOOKED_KICK_USEC (4 * 1000)
/* Below an interrupt that is made to queue a work item. */
#define KICK_STACK_BYTES (8U << 10)
#define KICK_USEC (5 * G_USEC_PER_SEC)
/* Below RSP nothing is in use, but leave what an interrupted push could still be writing. */
#define RED_ZONE_BYTES 128U
/* Until the borrowed thread has gone on from where it was caught. */
#define HASTE_JIFFIES 2

/*
 * Functions that kernel threads pass every so often in process context, where they may
 * sleep and hold no locks: whichever comes first.
 */
static const char *const trap_names[] = {
	"vmstat_shepherd",   /* a work on system_wq, about once a second */
	"extfrag_for_order", /* kcompactd, every half second */
};

typedef struct {
	HvpGva queue_it; /* mod_delayed_work_on */
	guint64 queue;
	HvpGva work;
} Work;

/*
 * What brings a thread there at once: any interrupt is stopped where it begins, and made to queue
 * the work again, for now.
 */
typedef struct {
	HvpGva trap;
	Work work;
} Kick;

/* Where threads are caught, and all that is needed to know of it. */
typedef struct {
	HvpGva traps[G_N_ELEMENTS(trap_names) + 1]; /* the kick's last, if it can be */
	guint count;				    /* without the kick's */
	bool can_kick;
	Kick kick;
} Bait;

/* The hooks of one call; a call made from a hook has those of the outer ones as well. */
typedef struct Level {
	struct Level *outer;
	const HvpBorrowHook *hooks;
	guint hook_count;
	void *user_data;
} Level;

struct HvpBorrow {
	HvpKeeper *keeper;
	HvpKernel *kernel;
	HvpPlaces *places;
	HvpWatch *watch;  /* NULL: breakpoints, which tell who comes */
	HvpGva return_pc; /* of all calls; nobody else comes there */
	HvpGvaRange stack;
	guint vcpu;
	HvpRegisters registers; /* where the thread stands now */
	Level *level;		/* of the innermost call; NULL: none is under way */
	gint64 stopped_at_usec; /* since when the guest stands still; 0 while it runs */
	gint64 longest_hold_usec;
	gint64 stood_usec;	   /* all holds together */
	bool is_kicking;	   /* the call under way is none of the operation's */
	const HvpBorrowGate *gate; /* NULL: none */
	HvpGva gate_pc;
};

void hvp_borrow_free(HvpBorrow *self)
{
	if (self == NULL)
		return;
	hvp_places_free(self->places);
	hvp_watch_free(self->watch);
	g_free(self);
}

static void note_resumed(HvpBorrow *self)
{
	gint64 hold_usec = 0;

	if (self->stopped_at_usec != 0)
		hold_usec = g_get_monotonic_time() - self->stopped_at_usec;
	self->longest_hold_usec = MAX(self->longest_hold_usec, hold_usec);
	self->stood_usec += hold_usec;
	self->stopped_at_usec = 0;
}

gint64 hvp_borrow_guest_usec(const HvpBorrow *self)
{
	gint64 now = self->stopped_at_usec != 0 ? self->stopped_at_usec : g_get_monotonic_time();

	return now - self->stood_usec;
}

/*
 * The guest runs, and nobody tells who comes to a spin trap: it is stopped to look when its memory
 * says that somebody may stand there, and at least every @unlooked_usec.
 */
static bool look_for_stop(HvpBorrow *self, HvpDeadline deadline, gint64 unlooked_usec,
			  HvpKeeperStop *ret_stop, GError **error)
{
	HvpDeadline look = hvp_deadline_min(deadline, hvp_deadline_in(DWELL_USEC));

	hvp_watch_begin(self->watch);
	for (;;) {
		GError *reason = NULL;

		if (hvp_keeper_wait(self->keeper, look, HOLD_BUDGET_USEC, ret_stop, &reason))
			return true;
		if (!g_error_matches(reason, HVP_ERROR, HVP_ERROR_TIMED_OUT) ||
		    hvp_deadline_passed(deadline)) {
			g_propagate_error(error, reason);
			return false;
		}
		g_error_free(reason);
		hvp_watch_wait(self->watch,
			       hvp_deadline_min(deadline, hvp_deadline_in(unlooked_usec)));
		look = hvp_deadline_in(0);
	}
}

/* Lets the guest run until the next trap, and keeps book of how long it stood. */
static bool wait_or_look(HvpBorrow *self, HvpDeadline deadline, gint64 unlooked_usec,
			 HvpKeeperStop *ret_stop, GError **error)
{
	note_resumed(self);
	if (self->watch != NULL
		    ? !look_for_stop(self, deadline, unlooked_usec, ret_stop, error)
		    : !hvp_keeper_wait(self->keeper, deadline, HOLD_BUDGET_USEC, ret_stop, error))
		return false;
	self->stopped_at_usec = g_get_monotonic_time() - ret_stop->stop_usec -
				ret_stop->registers_usec;
	return true;
}

static bool wait_for_stop(HvpBorrow *self, HvpDeadline deadline, HvpKeeperStop *ret_stop,
			  GError **error)
{
	/* A kicked CPU comes back with interrupts off. */
	return wait_or_look(self, deadline,
			    self->is_kicking ? LONGEST_UNLOOKED_KICK_USEC : LONGEST_UNLOOKED_USEC,
			    ret_stop, error);
}

/* Whether @work is a delayed work whose function is @function. */
static bool is_work_of(HvpKernel *kernel, HvpGva work, HvpGva function)
{
	const HvpLayout *layout = hvp_kernel_get_layout(kernel);
	guint64 found;

	return hvp_layout_has(layout, HVP_AT_DELAYED_WORK_FUNC) &&
	       hvp_address_space_read_u64(
		       hvp_kernel_get_space(kernel),
		       hvp_gva_add(work, hvp_layout_get(layout, HVP_AT_DELAYED_WORK_FUNC)), &found,
		       NULL) &&
	       found == function.value;
}

/* The delayed work @name of system_wq, whose function is @function, and what queues it. */
static bool find_work(HvpKernel *kernel, const char *name, const char *function, Work *ret_work)
{
	HvpGva address;

	return hvp_kernel_symbol(kernel, function, &address, NULL) &&
	       hvp_kernel_symbol(kernel, "mod_delayed_work_on", &ret_work->queue_it, NULL) &&
	       hvp_kernel_symbol(kernel, name, &ret_work->work, NULL) &&
	       is_work_of(kernel, ret_work->work, address) &&
	       hvp_kernel_has_symbol(kernel, "system_wq") &&
	       hvp_kernel_read_u64(kernel, "system_wq", &ret_work->queue, NULL) &&
	       ret_work->queue != 0;
}

/* Without one of these the thread comes by itself, a little later. */
static bool find_kick(HvpBorrow *self, Kick *ret_kick)
{
	HvpGva interrupt;

	return hvp_kernel_symbol(self->kernel, "irq_enter_rcu", &interrupt, NULL) &&
	       find_work(self->kernel, "shepherd", trap_names[0], &ret_kick->work) &&
	       hvp_places_add_entry(self->places, interrupt, HVP_PLACES_REMOVE, &ret_kick->trap,
				    NULL);
}

static bool find_bait(HvpBorrow *self, Bait *bait, GError **error)
{
	HvpGva functions[G_N_ELEMENTS(trap_names)];
	g_autoptr(GError) reason = NULL;

	for (guint i = 0; i < G_N_ELEMENTS(trap_names); i++) {
		g_clear_error(&reason);
		if (hvp_kernel_symbol(self->kernel, trap_names[i], &functions[bait->count],
				      &reason) &&
		    hvp_places_add_entry(self->places, functions[bait->count], HVP_PLACES_PASS,
					 &bait->traps[bait->count], &reason))
			bait->count++;
		else
			g_debug("not waiting at %s: %s", trap_names[i], reason->message);
	}
	if (bait->count == 0)
		return hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
				     "the guest kernel has no function to catch a thread at%s%s",
				     reason ? ": " : "", reason ? reason->message : "");
	if (!hvp_places_add_unused(self->places, functions[0], &self->return_pc, error))
		return false;
	bait->can_kick = find_kick(self, &bait->kick);
	bait->traps[bait->count] = bait->kick.trap;
	if (hvp_keeper_get_trap_kind(self->keeper) == HVP_KEEPER_SPINS)
		self->watch = hvp_watch_new(self->kernel, functions, bait->count, error);
	return hvp_keeper_get_trap_kind(self->keeper) == HVP_KEEPER_BREAKPOINTS ||
	       self->watch != NULL;
}

/* All that makes a thread fit to be borrowed; the reason when it is not. */
static const char *unfit(HvpKernel *kernel, const HvpRegisters *registers,
			 const HvpSituation *found)
{
	guint64 rsp = registers->general[HVP_RSP];
	const char *atomic = hvp_situation_why_atomic(found);

	if (atomic != NULL)
		return atomic;
	if ((found->task.flags & HVP_TASK_PF_KTHREAD) == 0)
		return "it is a user's task";
	if ((found->task.flags & (HVP_TASK_PF_MEMALLOC | HVP_TASK_PF_EXITING)) != 0)
		return "it reclaims memory or exits";
	if (found->system_state !=
	    hvp_layout_get(hvp_kernel_get_layout(kernel), HVP_AT_SYSTEM_RUNNING))
		return "the guest is not up";
	if (rsp < found->task.stack.value + NEEDED_STACK_BYTES ||
	    rsp >= found->task.stack.value + hvp_kernel_get_stack_bytes(kernel))
		return "its stack has too little room";
	return NULL;
}

static void take(HvpBorrow *self, const HvpKeeperStop *stop, HvpGvaRange stack)
{
	self->vcpu = (guint)stop->trapped_vcpu;
	self->registers = stop->registers[stop->trapped_vcpu];
	self->stack = stack;
}

/* Takes the thread at the trap; if it is not fit, lets it pass. */
static bool take_or_pass(HvpBorrow *self, const HvpKeeperStop *stop, bool *ret_taken,
			 GError **error)
{
	const HvpRegisters *registers = &stop->registers[stop->trapped_vcpu];
	const char *reason = "it cannot be told what runs there";
	HvpSituation found;

	if (hvp_situation_read(self->kernel, registers, &found, NULL))
		reason = unfit(self->kernel, registers, &found);
	*ret_taken = reason == NULL;
	if (reason == NULL) {
		guint32 stack_bytes = hvp_kernel_get_stack_bytes(self->kernel);

		take(self, stop,
		     (HvpGvaRange){ found.task.stack, hvp_gva_add(found.task.stack, stack_bytes) });
		return true;
	}
	g_debug("a thread at a trap is not borrowed: %s", reason);
	return hvp_keeper_pass(self->keeper, (guint)stop->trapped_vcpu, error);
}

/* Whether an interrupt of a guest that is up begins at @registers, with room below it. */
static bool can_be_kicked(HvpBorrow *self, const HvpRegisters *registers, guint *ret_cpu)
{
	const HvpLayout *layout = hvp_kernel_get_layout(self->kernel);
	HvpAddressSpace *space = hvp_kernel_get_space(self->kernel);
	guint64 rsp = registers->general[HVP_RSP], ignored;
	guint32 state;

	hvp_address_space_forget(space);
	return (registers->rflags & HVP_RFLAGS_IF) == 0 &&
	       hvp_kernel_find_cpu(self->kernel, registers->gs_base, ret_cpu) &&
	       hvp_kernel_read_u32(self->kernel, "system_state", &state, NULL) &&
	       state == hvp_layout_get(layout, HVP_AT_SYSTEM_RUNNING) &&
	       hvp_address_space_read_u64(space, hvp_gva((rsp - KICK_STACK_BYTES) & ~7ULL),
					  &ignored, NULL);
}

static bool call(HvpBorrow *self, HvpGva function, const guint64 *arguments, guint count,
		 guint64 cleared_rflags, HvpDeadline deadline, guint64 *ret_value,
		 GError **ret_reason, GError **error);

/*
 * The vCPU of @stop stands where an interrupt begins: makes it queue the work, which is legal
 * there. Afterwards the traps are those of @bait without the kick's.
 */
static bool kick(HvpBorrow *self, const Bait *bait, const HvpKeeperStop *stop, GError **error)
{
	const HvpRegisters *registers = &stop->registers[stop->trapped_vcpu];
	guint64 rsp = registers->general[HVP_RSP], ignored;
	guint cpu;

	if (!hvp_keeper_set_traps(self->keeper, NULL, 0, error))
		return false;
	if (can_be_kicked(self, registers, &cpu)) {
		guint64 arguments[] = { cpu, bait->kick.work.queue, bait->kick.work.work.value, 0 };

		take(self, stop,
		     (HvpGvaRange){ hvp_gva(rsp - KICK_STACK_BYTES), hvp_gva(rsp + 8) });
		self->is_kicking = true;
		/* No hooks, so no reason of theirs. */
		if (!call(self, bait->kick.work.queue_it, arguments, G_N_ELEMENTS(arguments), 0,
			  hvp_deadline_in(KICK_USEC), &ignored, NULL, error))
			return false;
		self->is_kicking = false;
	}
	return hvp_keeper_set_traps(self->keeper, bait->traps, bait->count, error);
}

/* TIMED_OUT: nobody came until @deadline. */
static bool wait_for_thread(HvpBorrow *self, const Bait *bait, HvpDeadline deadline, GError **error)
{
	bool kicks = bait->can_kick, taken = false;

	if (!hvp_keeper_set_traps(self->keeper, bait->traps, bait->count + kicks, error))
		return false;
	while (!taken) {
		g_auto(HvpKeeperStop) stop = { 0 };

		if (!wait_or_look(self, deadline,
				  kicks ? LONGEST_UNLOOKED_KICK_USEC : LONGEST_UNLOOKED_USEC, &stop,
				  error))
			return false;
		if (kicks && stop.trap.value == bait->kick.trap.value) {
			kicks = false;
			if (!kick(self, bait, &stop, error))
				return false;
		} else if (!take_or_pass(self, &stop, &taken, error)) {
			return false;
		}
	}
	return true;
}

/* Whether nobody came, or the VM could not be stopped in time; it runs, and nothing was begun. */
static bool is_worth_another_turn(HvpBorrow *self, const GError *reason)
{
	return (g_error_matches(reason, HVP_ERROR, HVP_ERROR_TIMED_OUT) ||
		g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY)) &&
	       self->stopped_at_usec == 0 && !hvp_keeper_is_calling(self->keeper);
}

static bool remove_traps(HvpBorrow *self, HvpDeadline deadline, GError **error)
{
	g_autoptr(GError) reason = NULL;

	while (!hvp_keeper_set_traps(self->keeper, NULL, 0, &reason)) {
		if (!is_worth_another_turn(self, reason) || hvp_deadline_passed(deadline)) {
			g_propagate_prefixed_error(error, g_steal_pointer(&reason),
						   "removing traps: ");
			return false;
		}
		g_clear_error(&reason);
		g_usleep(UNPLANTED_USEC);
	}
	return true;
}

/*
 * The same, with spin traps that are there for some time only, and then not for a while. On a
 * crowded host it is tried again until @deadline as well.
 */
static bool wait_in_turns(HvpBorrow *self, const Bait *bait, HvpDeadline deadline, GError **error)
{
	for (;;) {
		HvpDeadline turn = deadline;
		GError *reason = NULL;
		bool no_job;

		if (self->watch != NULL)
			turn = hvp_deadline_min(deadline, hvp_deadline_in(PLANTED_USEC));
		self->is_kicking = false;
		no_job = hvp_keeper_check_no_job(self->keeper, &reason);
		if (no_job && wait_for_thread(self, bait, turn, &reason))
			return true;
		/* The end of a job is not waited for. */
		if ((!no_job && g_error_matches(reason, HVP_ERROR, HVP_ERROR_BUSY)) ||
		    !is_worth_another_turn(self, reason) || hvp_deadline_passed(deadline)) {
			g_propagate_prefixed_error(error, reason,
						   "waiting for a guest thread to borrow: ");
			return false;
		}
		g_debug("tried again: %s", reason->message);
		g_error_free(reason);
		if (!remove_traps(self, deadline, error))
			return false;
		g_usleep(UNPLANTED_USEC);
	}
}

HvpBorrow *hvp_borrow_catch(HvpKeeper *keeper, HvpKernel *kernel, HvpDeadline deadline,
			    GError **error)
{
	g_autoptr(HvpBorrow) self = g_new0(HvpBorrow, 1);
	gint64 started = g_get_monotonic_time();
	g_autoptr(GError) reason = NULL;
	Bait bait = { 0 };

	self->keeper = keeper;
	self->kernel = kernel;
	/* Its thread comes back to one of the very traps at which another is waited for. */
	if (hvp_keeper_is_calling(keeper)) {
		hvp_error_set(error, HVP_ERROR_BUSY, "an earlier guest call is still under way");
		return NULL;
	}
	self->places = hvp_places_new(kernel, hvp_keeper_get_trap_kind(keeper), error);
	if (self->places == NULL || !find_bait(self, &bait, error) ||
	    !hvp_places_announce(self->places, keeper, error))
		return NULL;
	if (!wait_in_turns(self, &bait, deadline, &reason)) {
		/* Nobody came: leave no trap behind. */
		(void)!hvp_keeper_set_traps(keeper, NULL, 0, NULL);
		g_propagate_error(error, g_steal_pointer(&reason));
		return NULL;
	}
	if (!hvp_keeper_set_traps(keeper, NULL, 0, error))
		return NULL;
	g_debug("a guest thread was caught after %" G_GINT64_FORMAT " us",
		g_get_monotonic_time() - started);
	return g_steal_pointer(&self);
}

HvpGva hvp_borrow_scratch(HvpBorrow *self)
{
	guint64 rsp = self->registers.general[HVP_RSP];

	return hvp_gva((rsp - RED_ZONE_BYTES - HVP_BORROW_SCRATCH_BYTES) & ~(guint64)15);
}

bool hvp_borrow_write(HvpBorrow *self, HvpGva address, const void *bytes, gsize length_bytes,
		      GError **error)
{
	return hvp_guest_write(self->keeper, hvp_kernel_get_space(self->kernel), address, bytes,
			       length_bytes, error);
}

#define REGISTER_ARGUMENTS 6U

static void set_arguments(HvpRegisters *registers, const guint64 *arguments, guint count)
{
	static const guint8 order[REGISTER_ARGUMENTS] = { HVP_RDI, HVP_RSI, HVP_RDX,
							  HVP_RCX, HVP_R8,  HVP_R9 };

	for (guint i = 0; i < MIN(count, REGISTER_ARGUMENTS); i++)
		registers->general[order[i]] = arguments[i];
}

/* Sends the thread into @function, to return to return_pc, and without @cleared_rflags. */
static bool enter(HvpBorrow *self, HvpGva function, const guint64 *arguments, guint count,
		  guint64 cleared_rflags, GError **error)
{
	HvpRegisters registers = self->registers;
	guint64 rsp = hvp_borrow_scratch(self).value - 8;
	guint8 top[8 * (1 + HVP_BORROW_MAX_ARGUMENTS - REGISTER_ARGUMENTS)];
	gsize top_bytes = 8;
	HvpKeeperFrame frame = { .vcpu_index = self->vcpu,
				 .is_aside = self->is_kicking,
				 .return_pc = self->return_pc,
				 .return_rsp = rsp + 8,
				 .stack = self->stack,
				 .saved = self->registers };

	if (rsp < self->stack.start.value + NEEDED_STACK_BYTES / 2)
		return hvp_error_set(error, HVP_ERROR_BUSY, "the borrowed thread's stack is full");
	hvp_store_u64(top, self->return_pc.value);
	for (guint i = REGISTER_ARGUMENTS; i < count; i++, top_bytes += 8)
		hvp_store_u64(top + top_bytes, arguments[i]);
	if (!hvp_borrow_write(self, hvp_gva(rsp), top, top_bytes, error))
		return false;
	set_arguments(&registers, arguments, count);
	registers.rip = function.value;
	registers.general[HVP_RSP] = rsp;
	registers.general[HVP_RAX] = 0;
	registers.rflags &= ~(cleared_rflags | HVP_RFLAGS_DF | HVP_RFLAGS_TF);
	return hvp_keeper_divert(self->keeper, &frame, &registers, error);
}

static bool visit_gate(HvpBorrow *self, const HvpKeeperStop *stop, GError **error)
{
	return self->gate->visit((guint)stop->trapped_vcpu, &stop->registers[stop->trapped_vcpu],
				 self->gate->user_data, error);
}

static bool answer_hook(HvpBorrow *self, const HvpBorrowHook *hook, void *user_data,
			GError **ret_reason, GError **error)
{
	HvpBorrowReply reply = { 0 };
	GError *reason = NULL;

	if (!hook->answer(self, &self->registers, user_data, &reply, &reason)) {
		reply = (HvpBorrowReply){ .value = hook->hook.failure };
		if (*ret_reason == NULL)
			*ret_reason = g_steal_pointer(&reason);
	}
	g_clear_error(&reason);
	if (reply.run_it)
		return hvp_keeper_pass(self->keeper, self->vcpu, error);
	return hvp_keeper_answer(self->keeper, self->vcpu, reply.value, error);
}

/* Where the trap of @hook is. */
static bool place_hook(HvpBorrow *self, const HvpKeeperHook *hook, HvpGva *ret_pc, GError **error)
{
	*ret_pc = hook->pc;
	if (hook->call_bytes > 0)
		return hvp_places_add_instruction(self->places, hook->pc, error);
	return hvp_places_add_entry(self->places, hook->pc, HVP_PLACES_PASS, ret_pc, error);
}

/* Tells the keeper the hooks of all calls under way. */
static bool set_hooks(HvpBorrow *self, GError **error)
{
	HvpKeeperHook plain[HVP_KEEPER_MAX_TRAPS];
	guint count = 0;

	for (const Level *level = self->level; level != NULL; level = level->outer)
		for (guint i = 0; i < level->hook_count; i++) {
			g_assert(count < G_N_ELEMENTS(plain));
			plain[count] = level->hooks[i].hook;
			if (!place_hook(self, &level->hooks[i].hook, &plain[count++].pc, error))
				return false;
		}
	return hvp_places_announce(self->places, self->keeper, error) &&
	       hvp_keeper_set_hooks(self->keeper, plain, count, error);
}

static const HvpBorrowHook *find_hook(HvpBorrow *self, HvpGva pc, void **ret_user_data)
{
	HvpGva place;

	for (const Level *level = self->level; level != NULL; level = level->outer)
		for (guint i = 0; i < level->hook_count; i++)
			if (place_hook(self, &level->hooks[i].hook, &place, NULL) &&
			    place.value == pc.value) {
				*ret_user_data = level->user_data;
				return &level->hooks[i];
			}
	return NULL;
}

/* Until the thread is back at its return trap; hooks are answered on the way. */
static bool run_to_return(HvpBorrow *self, guint64 return_rsp, HvpDeadline deadline,
			  GError **ret_reason, GError **error)
{
	for (;;) {
		g_auto(HvpKeeperStop) stop = { 0 };
		const HvpBorrowHook *hook;
		void *user_data = NULL;

		if (!wait_for_stop(self, deadline, &stop, error))
			return false;
		if (self->gate != NULL && stop.trap.value == self->gate_pc.value) {
			if (!visit_gate(self, &stop, error))
				return false;
			continue;
		}
		self->vcpu = (guint)stop.trapped_vcpu;
		self->registers = stop.registers[stop.trapped_vcpu];
		hook = find_hook(self, stop.trap, &user_data);
		if (hook == NULL && stop.trap.value == self->return_pc.value &&
		    self->registers.general[HVP_RSP] == return_rsp)
			return true;
		if (hook == NULL)
			return hvp_error_set(error, HVP_ERROR_INTERNAL,
					     "stopped at 0x%" G_GINT64_MODIFIER
					     "x with RSP 0x%" G_GINT64_MODIFIER
					     "x, which nobody asked for",
					     stop.trap.value, self->registers.general[HVP_RSP]);
		if (!answer_hook(self, hook, user_data, ret_reason, error))
			return false;
	}
}

static bool call(HvpBorrow *self, HvpGva function, const guint64 *arguments, guint count,
		 guint64 cleared_rflags, HvpDeadline deadline, guint64 *ret_value,
		 GError **ret_reason, GError **error)
{
	HvpRegisters caught = self->registers;
	guint64 return_rsp = hvp_borrow_scratch(self).value;

	if (!enter(self, function, arguments, count, cleared_rflags, error) ||
	    !run_to_return(self, return_rsp, deadline, ret_reason, error))
		return false;
	*ret_value = self->registers.general[HVP_RAX];
	if (!hvp_keeper_come_home(self->keeper, self->vcpu, error))
		return false;
	self->registers = caught;
	return true;
}

bool hvp_borrow_call(HvpBorrow *self, HvpGva function, const guint64 *arguments,
		     guint argument_count, const HvpBorrowHook *hooks, guint hook_count,
		     void *user_data, HvpDeadline deadline, guint64 *ret_value, GError **error)
{
	Level level = { self->level, hooks, hook_count, user_data };
	g_autoptr(GError) reason = NULL;
	bool ok;

	g_assert(argument_count <= HVP_BORROW_MAX_ARGUMENTS);
	self->level = &level;
	ok = (hook_count == 0 || set_hooks(self, error)) &&
	     call(self, function, arguments, argument_count, 0, deadline, ret_value, &reason,
		  error);
	self->level = level.outer;
	if (!ok || (hook_count > 0 && !set_hooks(self, error)))
		return false;
	if (reason == NULL)
		return true;
	g_propagate_error(error, g_steal_pointer(&reason));
	return false;
}

bool hvp_borrow_call_atomic(HvpBorrow *self, HvpGva function, const guint64 *arguments,
			    guint argument_count, HvpDeadline deadline, GError **error)
{
	g_autoptr(GError) reason = NULL;
	guint64 ignored;

	g_assert(argument_count <= HVP_BORROW_MAX_ARGUMENTS);
	return call(self, function, arguments, argument_count, HVP_RFLAGS_IF, deadline, &ignored,
		    &reason, error);
}

bool hvp_borrow_update_hooks(HvpBorrow *self, GError **error)
{
	return set_hooks(self, error);
}

bool hvp_borrow_call_name(HvpBorrow *self, const char *name, const guint64 *arguments,
			  guint argument_count, HvpDeadline deadline, guint64 *ret_value,
			  GError **error)
{
	HvpGva function;

	if (!hvp_kernel_symbol(self->kernel, name, &function, error))
		return false;
	if (hvp_borrow_call(self, function, arguments, argument_count, NULL, 0, NULL, deadline,
			    ret_value, error))
		return true;
	g_prefix_error(error, "calling %s in the guest: ", name);
	return false;
}

bool hvp_borrow_hasten_work(HvpBorrow *self, const char *work, const char *function,
			    HvpDeadline deadline, GError **error)
{
	guint64 ignored;
	Work found;
	guint cpu;

	if (!find_work(self->kernel, work, function, &found) ||
	    !hvp_kernel_find_cpu(self->kernel, self->registers.gs_base, &cpu))
		return true;
	return hvp_borrow_call(self, found.queue_it,
			       (guint64[]){ cpu, found.queue, found.work.value, HASTE_JIFFIES }, 4,
			       NULL, 0, NULL, deadline, &ignored, error);
}

bool hvp_borrow_release(HvpBorrow *self, gint64 *longest_hold_usec, GError **error)
{
	bool resumed = hvp_keeper_resume(self->keeper, NULL, error);

	note_resumed(self);
	if (longest_hold_usec != NULL)
		*longest_hold_usec = MAX(*longest_hold_usec, self->longest_hold_usec);
	hvp_borrow_free(self);
	return resumed;
}

bool hvp_borrow_open_gate(HvpBorrow *self, const HvpBorrowGate *gate, GError **error)
{
	if (!hvp_places_add_entry(self->places, gate->trap, HVP_PLACES_PASS, &self->gate_pc,
				  error) ||
	    !hvp_places_announce(self->places, self->keeper, error) ||
	    !hvp_keeper_set_traps(self->keeper, &self->gate_pc, 1, error))
		return false;
	self->gate = gate;
	return true;
}

/* Until the gate is over (the guest stands still) or @deadline (it runs). */
static bool watch_gate(HvpBorrow *self, HvpDeadline deadline, GError **error)
{
	while (!self->gate->is_over(self->gate->user_data)) {
		g_auto(HvpKeeperStop) stop = { 0 };
		GError *reason = NULL;

		if (!wait_for_stop(self, deadline, &stop, &reason)) {
			if (g_error_matches(reason, HVP_ERROR, HVP_ERROR_TIMED_OUT)) {
				g_error_free(reason);
				return true;
			}
			g_propagate_error(error, reason);
			return false;
		}
		if (!visit_gate(self, &stop, error))
			return false;
	}
	return true;
}

bool hvp_borrow_release_at_gate(HvpBorrow *self, HvpDeadline deadline, gint64 *longest_hold_usec,
				gint64 *ret_stopped_at_usec, GError **error)
{
	bool ok = watch_gate(self, deadline, error) &&
		  hvp_keeper_set_traps(self->keeper, NULL, 0, error);

	*ret_stopped_at_usec = self->stopped_at_usec;
	*longest_hold_usec = MAX(*longest_hold_usec, self->longest_hold_usec);
	hvp_borrow_free(self);
	return ok;
}
