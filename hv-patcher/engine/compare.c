/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/compare.h"

#include "base/text.h"

#include <string.h>

#define LOOKS 4U
#define BOOT_ID_BYTES 16U
/* After the agent's answer: whether it stays doubtful. */
#define MAX_QUESTIONS 3U

const char *hvp_compare_verdict_name(HvpCompareVerdict verdict)
{
	static const char *const names[] = {
		[HVP_COMPARE_AGREES] = "agrees",
		[HVP_COMPARE_STALE] = "stale",
		[HVP_COMPARE_DOUBTFUL] = "doubtful",
		[HVP_COMPARE_FALSE] = "false",
	};

	return names[verdict];
}

static bool is_same_task(const HvpTask *a, const HvpTask *b)
{
	return a->address.value == b->address.value && a->pid == b->pid &&
	       a->start_boottime_nsec == b->start_boottime_nsec;
}

static bool have_same_counts(const HvpTask *a, const HvpTask *b)
{
	return a->switches == b->switches && a->switches_involuntary == b->switches_involuntary;
}

static bool counts_match(const HvpClaim *claim, const HvpTask *task)
{
	return claim->voluntary == task->switches &&
	       claim->involuntary == task->switches_involuntary;
}

/* Nobody switches to and fro in no time: what was claimed lies between the looks. */
static bool counts_are_possible(const HvpClaim *claim, HvpCompareOrigin origin,
				const HvpTask *before, const HvpTask *after)
{
	if (claim->voluntary > after->switches || claim->involuntary > after->switches_involuntary)
		return false;
	return origin == HVP_COMPARE_TOLD || (claim->voluntary >= before->switches &&
					      claim->involuntary >= before->switches_involuntary);
}

/* It may be renamed meanwhile; and /proc has what the task's own name has no room for (5.17). */
static bool name_matches(const HvpClaim *claim, const HvpTask *before, const HvpTask *after)
{
	g_autofree char *comm = NULL;
	bool is_cut = strlen(after->comm) == HVP_TASK_COMM_BYTES - 1;

	if (strcmp(before->comm, after->comm) != 0)
		return true;
	comm = hvp_text_escape(after->comm, HVP_TEXT_TERMINATED, HVP_CLAIM_NAME_BYTES);
	return is_cut ? g_str_has_prefix(claim->comm, comm) : strcmp(claim->comm, comm) == 0;
}

/*
 * Whether a thread that sleeps in @state can be told as @claim has it. Sleepers are frozen and
 * thawed where they are, without a switch, so these go together. The agent tells workers by where
 * they wait: a rescuer without work sleeps for it, and so does each where the kernel does not tell.
 */
static bool fits_sleep(const HvpClaim *claim, const HvpTask *task, HvpKthreadState state)
{
	bool is_worker = (task->flags & HVP_TASK_PF_WQ_WORKER) != 0;

	if ((claim->state == HVP_CLAIM_PARKED) != ((task->state & HVP_TASK_STATE_PARKED) != 0))
		return false;
	switch (claim->state) {
	case HVP_CLAIM_IDLE_WORKER:
		return is_worker && state != HVP_KTHREAD_BUSY_WORKER;
	case HVP_CLAIM_BUSY_WORKER:
		return is_worker;
	case HVP_CLAIM_SLEEPING:
	case HVP_CLAIM_UNINTERRUPTIBLE:
		return !is_worker || state == HVP_KTHREAD_IDLE_RESCUER || claim->wchan[0] == 0;
	default:
		return true;
	}
}

/* Between two looks at one sleep nothing but the truth can have been told. */
static bool fits_whole_sleep(HvpClaimState claimed, HvpKthreadState state)
{
	switch (claimed) {
	case HVP_CLAIM_RUNNING:
		return false;
	case HVP_CLAIM_FROZEN:
		return state == HVP_KTHREAD_FROZEN || state == HVP_KTHREAD_UNKNOWN;
	case HVP_CLAIM_SLEEPING:
		return state != HVP_KTHREAD_UNINTERRUPTIBLE;
	case HVP_CLAIM_UNINTERRUPTIBLE:
		return state != HVP_KTHREAD_SLEEPING;
	default:
		return true;
	}
}

static HvpCompareVerdict compare_with_sleep(const HvpClaim *claim, HvpCompareOrigin origin,
					    const HvpTask *before, const HvpTask *after,
					    HvpKthreadState state)
{
	bool whole = origin == HVP_COMPARE_ASKED && hvp_task_unmoved(before, after) &&
		     before->state == after->state;

	if (whole && !fits_whole_sleep(claim->state, state))
		return HVP_COMPARE_FALSE;
	/* It was woken after this look, or not asleep yet when it was counted. */
	if (claim->state == HVP_CLAIM_RUNNING)
		return HVP_COMPARE_STALE;
	return fits_sleep(claim, after, state) ? HVP_COMPARE_AGREES : HVP_COMPARE_FALSE;
}

static HvpCompareVerdict compare_with_run(const HvpClaim *claim, HvpCompareOrigin origin,
					  const HvpTask *before, const HvpTask *after)
{
	bool whole = origin == HVP_COMPARE_ASKED && !hvp_task_is_asleep(before) &&
		     have_same_counts(before, after);
	bool is_worker = (after->flags & HVP_TASK_PF_WQ_WORKER) != 0;

	if (claim->state == HVP_CLAIM_RUNNING ||
	    (claim->state == HVP_CLAIM_BUSY_WORKER && is_worker))
		return HVP_COMPARE_AGREES;
	return whole ? HVP_COMPARE_DOUBTFUL : HVP_COMPARE_STALE;
}

HvpCompareVerdict hvp_compare(const HvpClaim *claim, HvpCompareOrigin origin, const HvpTask *before,
			      const HvpTask *after, HvpKthreadState state)
{
	if (!is_same_task(before, after))
		return HVP_COMPARE_STALE;
	/* A thread that exits is gone for the guest's users before it is for good. */
	if ((after->flags & HVP_TASK_PF_EXITING) != 0 || hvp_task_is_dead(after))
		return HVP_COMPARE_STALE;
	if (claim->state == HVP_CLAIM_GONE)
		return HVP_COMPARE_FALSE;
	if (!counts_are_possible(claim, origin, before, after) ||
	    !name_matches(claim, before, after))
		return HVP_COMPARE_FALSE;
	if (!counts_match(claim, after))
		return HVP_COMPARE_STALE;
	return hvp_task_is_asleep(after) ? compare_with_sleep(claim, origin, before, after, state)
					 : compare_with_run(claim, origin, before, after);
}

bool hvp_compare_cpus(const HvpClaim *claim, const HvpTask *task, const char *cpus)
{
	bool one_cpu = strpbrk(cpus, ",-") == NULL;
	bool bound = (task->flags & HVP_TASK_PF_NO_SETAFFINITY) != 0;

	if (cpus[0] == '\0' || claim->cpus[0] == '\0')
		return true;
	return strcmp(claim->cpus, cpus) == 0 && claim->per_cpu == (bound && one_cpu);
}

bool hvp_compare_look(HvpKernel *kernel, HvpTasks *reader, HvpGva address, HvpTask *ret_task,
		      HvpKthreadState *ret_state)
{
	HvpTask before, after;

	if (!hvp_tasks_look(reader, address, &before))
		return false;
	for (guint i = 0; i < LOOKS; i++) {
		HvpKthreadState state = hvp_kthread_read_state(kernel, &before);

		if (!hvp_tasks_look(reader, address, &after))
			return false;
		if (have_same_counts(&before, &after) && before.state == after.state &&
		    before.on_cpu == after.on_cpu && is_same_task(&before, &after)) {
			*ret_task = after;
			*ret_state = state;
			return true;
		}
		before = after;
	}
	return false;
}

static bool ask_once(HvpKernel *kernel, HvpTasks *reader, HvpAgent *agent, const HvpTask *before,
		     HvpDeadline deadline, HvpComparison *comparison, GError **error)
{
	g_autoptr(HvpClaims) claims = hvp_claims_new();
	char cpus[HVP_KTHREAD_CPUS_BYTES];
	const HvpClaim *claim;

	hvp_kthread_read_cpus(kernel, before, cpus);
	if (!hvp_claims_ask(claims, agent, before->pid, 1, deadline, error))
		return false;
	claim = hvp_claims_find(claims, before->pid);
	if (claim == NULL || !hvp_compare_look(kernel, reader, before->address, &comparison->task,
					       &comparison->state))
		return true;
	comparison->claim = *claim;
	comparison->verdict = hvp_compare(claim, HVP_COMPARE_ASKED, before, &comparison->task,
					  comparison->state);
	hvp_kthread_read_cpus(kernel, &comparison->task, comparison->cpus);
	if (strcmp(cpus, comparison->cpus) == 0 && is_same_task(before, &comparison->task) &&
	    !hvp_compare_cpus(claim, before, cpus))
		comparison->verdict = HVP_COMPARE_FALSE;
	return true;
}

bool hvp_compare_ask(HvpKernel *kernel, HvpTasks *reader, HvpAgent *agent, const HvpTask *before,
		     HvpDeadline deadline, HvpComparison *ret_comparison, GError **error)
{
	guint doubts = 0;

	*ret_comparison = (HvpComparison){ .task = *before, .verdict = HVP_COMPARE_STALE };
	for (guint i = 0; i < MAX_QUESTIONS; i++) {
		HvpKthreadState state;
		HvpTask look;

		ret_comparison->verdict = HVP_COMPARE_STALE;
		if (!hvp_compare_look(kernel, reader, before->address, &look, &state) ||
		    !is_same_task(before, &look))
			return true;
		if (!ask_once(kernel, reader, agent, &look, deadline, ret_comparison, error))
			return false;
		if (ret_comparison->verdict == HVP_COMPARE_AGREES ||
		    ret_comparison->verdict == HVP_COMPARE_FALSE)
			return true;
		doubts += ret_comparison->verdict == HVP_COMPARE_DOUBTFUL;
	}
	ret_comparison->verdict = doubts > 1 ? HVP_COMPARE_FALSE : HVP_COMPARE_STALE;
	return true;
}

/* drivers/char/random.c; made when it is first read, which the agent has done. */
bool hvp_compare_boot(HvpKernel *kernel, const char *boot_id, GError **error)
{
	guint8 bytes[BOOT_ID_BYTES];
	g_autoptr(GString) text = g_string_new(NULL);
	HvpGva address;

	if (!hvp_kernel_symbol(kernel, "sysctl_bootid", &address, NULL) ||
	    !hvp_address_space_read(hvp_kernel_get_space(kernel), address, bytes, sizeof bytes,
				    NULL))
		return true;
	for (guint i = 0; i < BOOT_ID_BYTES; i++)
		g_string_append_printf(text, "%s%02x",
				       i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
	if (g_ascii_strcasecmp(text->str, boot_id) == 0)
		return true;
	return hvp_error_set(error, HVP_ERROR_TAMPERED,
			     "the guest's agent speaks of another boot than the guest's memory");
}

void hvp_compare_log(const HvpComparison *self)
{
	const HvpClaim *claim = &self->claim;
	g_autofree char *comm = hvp_text_escape(self->task.comm, HVP_TEXT_TERMINATED,
						HVP_CLAIM_NAME_BYTES);

	g_message("false claim of the guest's agent: pid %d is %s (%s), switches %" G_GUINT64_FORMAT
		  " and %" G_GUINT64_FORMAT ", CPUs %s; seen: %s (%s), %" G_GUINT64_FORMAT
		  " and %" G_GUINT64_FORMAT ", CPUs %s",
		  claim->pid, hvp_claims_state_name(claim->state), claim->comm, claim->voluntary,
		  claim->involuntary, claim->cpus, hvp_kthread_state_name(self->state), comm,
		  self->task.switches, self->task.switches_involuntary, self->cpus);
}

bool hvp_compare_refuse(const HvpComparison *self, GError **error)
{
	g_autofree char *comm = hvp_text_escape(self->task.comm, HVP_TEXT_TERMINATED,
						HVP_CLAIM_NAME_BYTES);

	return hvp_error_set(error, HVP_ERROR_TAMPERED,
			     "the guest's agent makes a false claim: %s (pid %d) is %s, on CPUs "
			     "%s; seen: %s, on CPUs %s",
			     comm, self->task.pid, hvp_claims_state_name(self->claim.state),
			     self->claim.cpus, hvp_kthread_state_name(self->state), self->cpus);
}
