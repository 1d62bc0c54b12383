/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/echo.h"

#define ASK_USEC (5 * G_USEC_PER_SEC)
#define BUDGET_USEC G_USEC_PER_SEC
/* In each pause, so that none is long. */
#define PAGES_AT_ONCE 32U

struct HvpEcho {
	HvpTarget *target;
	guint64 jobs; /* of what QEMU told of them */
};

static char *describe_jobs(HvpTarget *target, GError **error)
{
	if (hvp_machine_has_monitor(target->machine))
		return hvp_machine_describe_ram_jobs(target->machine, hvp_deadline_in(ASK_USEC),
						     error);
	if (target->owner.describe_jobs != NULL)
		return target->owner.describe_jobs(target->owner.data, error);
	hvp_error_set(error, HVP_ERROR_UNSUPPORTED,
		      "nobody tells whether the VM's RAM is being moved or copied");
	return NULL;
}

/* What the two tell of the same jobs differs: one that is needed too much does no harm. */
static bool read_jobs(HvpTarget *target, guint64 *ret_jobs, GError **error)
{
	g_autofree char *text = describe_jobs(target, error);

	if (text == NULL)
		return false;
	*ret_jobs = g_str_hash(text);
	return true;
}

HvpEcho *hvp_echo_new_since(HvpTarget *target, guint64 jobs)
{
	HvpEcho *self = g_new0(HvpEcho, 1);

	self->target = target;
	self->jobs = jobs;
	return self;
}

HvpEcho *hvp_echo_new(HvpTarget *target, GError **error)
{
	guint64 jobs;

	return read_jobs(target, &jobs, error) ? hvp_echo_new_since(target, jobs) : NULL;
}

guint64 hvp_echo_get_jobs(const HvpEcho *self)
{
	return self->jobs;
}

void hvp_echo_free(HvpEcho *self)
{
	g_free(self);
}

bool hvp_echo_is_needed(const HvpEcho *self, bool *ret_needed, GError **error)
{
	guint64 now;

	if (!read_jobs(self->target, &now, error))
		return false;
	*ret_needed = now != self->jobs;
	return true;
}

void hvp_echo_add_places(GArray *pages, const HvpJournalState *state)
{
	g_array_append_vals(pages, state->places->data, state->places->len);
}

/* While the guest stands still: nobody changes the byte in between. */
static bool write_page(HvpMachine *machine, HvpKeeper *keeper, HvpGpa page, GError **error)
{
	guint8 byte;

	if (!hvp_physical_read(hvp_machine_get_physical(machine), page, &byte, 1, NULL))
		return true;
	return hvp_keeper_write_data(keeper, page, &byte, 1, error);
}

static bool write_some(HvpMachine *machine, HvpKeeper *keeper, const GArray *pages, guint first,
		       guint end, GError **error)
{
	g_auto(HvpKeeperStop) stop = { 0 };
	bool ok;

	if (!hvp_keeper_stop(keeper, BUDGET_USEC, &stop, error))
		return false;
	ok = true;
	for (guint i = first; i < end && ok; i++)
		ok = write_page(machine, keeper, g_array_index(pages, HvpGpa, i), error);
	return hvp_keeper_resume(keeper, NULL, ok ? error : NULL) && ok;
}

bool hvp_echo_write(HvpMachine *machine, HvpKeeper *keeper, const GArray *pages, GError **error)
{
	for (guint i = 0; i < pages->len; i += PAGES_AT_ONCE)
		if (!write_some(machine, keeper, pages, i, MIN(i + PAGES_AT_ONCE, pages->len),
				error))
			return false;
	return true;
}
