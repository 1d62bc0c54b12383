/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/core-wait.h"

#define RELEASE_USEC (60 * G_USEC_PER_SEC)
#define POLL_USEC (20 * 1000)
/* After so long without an end the core is made to look again; each time after twice as long. */
#define FIRST_HASTE_USEC (200 * 1000)
/* A thread that does not come for so long does not make it quicker. */
#define CATCH_USEC (2 * G_USEC_PER_SEC)

typedef struct {
	gint64 pause_usec;
	HvpDeadline next;
} Haste;

static Haste haste_begin(void)
{
	return (Haste){ FIRST_HASTE_USEC, hvp_deadline_in(FIRST_HASTE_USEC) };
}

/* Nobody has to come: the core goes on by itself. */
static bool hasten_now(HvpKeeper *keeper, HvpKernel *kernel, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(CATCH_USEC);
	GError *local = NULL;
	HvpBorrow *borrow = hvp_borrow_catch(keeper, kernel, deadline, &local);
	bool ok;

	if (borrow == NULL && g_error_matches(local, HVP_ERROR, HVP_ERROR_TIMED_OUT)) {
		g_error_free(local);
		return true;
	}
	if (borrow == NULL) {
		g_propagate_error(error, local);
		return false;
	}
	ok = hvp_klp_core_hasten(borrow, kernel, deadline, error);
	return hvp_borrow_release(borrow, NULL, ok ? error : NULL) && ok;
}

static bool hasten(Haste *self, HvpKeeper *keeper, HvpKernel *kernel, GError **error)
{
	if (keeper == NULL || !hvp_deadline_passed(self->next))
		return true;
	if (!hasten_now(keeper, kernel, error))
		return false;
	self->pause_usec *= 2;
	self->next = hvp_deadline_in(self->pause_usec);
	return true;
}

bool hvp_core_wait_idle(HvpKeeper *keeper, HvpKernel *kernel, const HvpOptions *options,
			HvpDeadline deadline, GError **error)
{
	Haste haste = haste_begin();

	for (;;) {
		HvpGva patch;

		hvp_address_space_forget(hvp_kernel_get_space(kernel));
		if (!hvp_klp_core_read_transition(kernel, &patch, error))
			return false;
		if (patch.value == 0)
			return true;
		if (hvp_deadline_passed(deadline))
			return hvp_error_set(
				error, HVP_ERROR_BUSY,
				"a transition of the guest's own livepatch core does not end");
		if (!hvp_options_check_wanted(options, error) ||
		    !hasten(&haste, keeper, kernel, error))
			return false;
		g_usleep(POLL_USEC);
	}
}

/* One try to make the core let go; the thread is borrowed for just that. */
static bool disable(HvpKeeper *keeper, HvpKernel *kernel, const HvpKlpCore *core,
		    HvpDeadline deadline, GError **error)
{
	HvpBorrow *borrow = hvp_borrow_catch(keeper, kernel, deadline, error);
	bool ok;

	if (borrow == NULL)
		return false;
	ok = hvp_klp_core_disable(borrow, kernel, core, deadline, error) &&
	     hvp_klp_core_hasten(borrow, kernel, deadline, error);
	return hvp_borrow_release(borrow, NULL, ok ? error : NULL) && ok;
}

/*
 * Whether the core can be asked: not while it is at another patch. Its transition for this very
 * one may wait for a task that never comes, and is turned round instead.
 */
static bool can_ask(HvpKernel *kernel, const HvpKlpCore *core, bool *ret_can, GError **error)
{
	HvpGva transition;

	if (!hvp_klp_core_read_transition(kernel, &transition, error))
		return false;
	*ret_can = core->enabled &&
		   (transition.value == 0 || transition.value == core->patch.value);
	return true;
}

/* One more step towards the core's letting go. */
static bool urge(Haste *haste, HvpKeeper *keeper, HvpKernel *kernel, const HvpKlpCore *core,
		 HvpDeadline deadline, GError **error)
{
	bool can;

	if (!can_ask(kernel, core, &can, error))
		return false;
	return can ? disable(keeper, kernel, core, deadline, error)
		   : hasten(haste, keeper, kernel, error);
}

bool hvp_core_wait_release(HvpKeeper *keeper, HvpKernel *kernel, HvpGva module, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(RELEASE_USEC);
	Haste haste = haste_begin();

	for (;;) {
		HvpKlpCore core;

		hvp_address_space_forget(hvp_kernel_get_space(kernel));
		if (!hvp_klp_core_find(kernel, module, &core, error))
			return false;
		if (core.patch.value == 0)
			return true;
		if (hvp_deadline_passed(deadline))
			return hvp_error_set(
				error, HVP_ERROR_BUSY,
				"the guest's own livepatch core does not let go of the patch");
		if (!urge(&haste, keeper, kernel, &core, deadline, error))
			return false;
		g_usleep(POLL_USEC);
	}
}
