/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/sites.h"

#include <string.h>

#include "keeper/journal.h"

static bool check_writes(const HvpKeeperWrite *writes, gsize count, GError **error)
{
	for (gsize i = 0; i < count; i++) {
		guint32 length_bytes = writes[i].length_bytes;

		if (length_bytes == 0 || length_bytes > HVP_KEEPER_WRITE_BYTES ||
		    (writes[i].gpa.value & HVP_PAGE_MASK) + length_bytes > HVP_PAGE_SIZE)
			return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
					     "a write of %u bytes at 0x%" G_GINT64_MODIFIER "x",
					     length_bytes, writes[i].gpa.value);
	}
	return true;
}

static bool append(HvpSites *self, const HvpKeeperWrite *writes, gsize count, GError **error)
{
	if (count > HVP_KEEPER_MAX_WRITES - self->count)
		return hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT,
				     "more than %d writes at a time", HVP_KEEPER_MAX_WRITES);
	if (!check_writes(writes, count, error))
		return false;
	if (count > 0)
		memcpy(&self->writes[self->count], writes, count * sizeof *writes);
	self->count += count;
	return true;
}

static bool read_place(HvpBackend *backend, const HvpKeeperWrite *write, guint8 *ret_bytes,
		       GError **error)
{
	return hvp_backend_read_physical(backend, write->gpa, ret_bytes, write->length_bytes,
					 error);
}

static bool holds(const guint8 *bytes, const guint8 *expected, const HvpKeeperWrite *write)
{
	return memcmp(bytes, expected, write->length_bytes) == 0;
}

/* Whether all from @start on hold their old bytes. */
static bool verify_old(HvpSites *self, HvpBackend *backend, gsize start, GError **error)
{
	guint8 bytes[HVP_KEEPER_WRITE_BYTES];

	for (gsize i = start; i < self->count; i++) {
		if (!read_place(backend, &self->writes[i], bytes, error))
			return false;
		if (holds(bytes, self->writes[i].old_bytes, &self->writes[i]))
			continue;
		self->foreign = true;
		return hvp_error_set(error, HVP_ERROR_CONFLICT,
				     "foreign bytes at physical 0x%" G_GINT64_MODIFIER "x",
				     self->writes[i].gpa.value);
	}
	return true;
}

static bool verify_new(HvpSites *self, HvpBackend *backend, gsize start, HvpErrorCode code,
		       GError **error)
{
	guint8 bytes[HVP_KEEPER_WRITE_BYTES];

	for (gsize i = start; i < self->count; i++) {
		if (!read_place(backend, &self->writes[i], bytes, error))
			return false;
		if (!holds(bytes, self->writes[i].new_bytes, &self->writes[i]))
			return hvp_error_set(error, code,
					     "physical 0x%" G_GINT64_MODIFIER
					     "x does not hold what was written",
					     self->writes[i].gpa.value);
	}
	return true;
}

static bool write_new(HvpSites *self, HvpBackend *backend, gsize start, GError **error)
{
	for (gsize i = start; i < self->count; i++)
		if (!hvp_backend_write_physical(backend, self->writes[i].gpa,
						self->writes[i].new_bytes,
						self->writes[i].length_bytes, error))
			return false;
	return true;
}

/* Nothing is written yet; a page that the host has not at hand will be there the next time. */
static void refuse_cold(HvpSites *self, GError **error)
{
	self->cold = error != NULL && g_error_matches(*error, HVP_ERROR, HVP_ERROR_FAULT);
	if (self->cold)
		(*error)->code = HVP_ERROR_BUSY;
}

bool hvp_sites_write(HvpSites *self, HvpBackend *backend, const HvpKeeperWrite *writes, gsize count,
		     GError **error)
{
	gsize start = self->count;
	gint64 at = hvp_journal_get_size(self->journal_fd);

	self->foreign = self->cold = false;
	if (!append(self, writes, count, error))
		return false;
	if (!verify_old(self, backend, start, error)) {
		refuse_cold(self, error);
		self->count = start;
		return false;
	}
	if (!hvp_journal_append(self->journal_fd, HVP_JOURNAL_WRITE, writes, count * sizeof *writes,
				error)) {
		self->count = start;
		return false;
	}
	if (start == 0)
		self->journal_at = at;
	return write_new(self, backend, start, error);
}

static bool undo_one(HvpBackend *backend, const HvpKeeperWrite *write, bool *ret_foreign,
		     GError **error)
{
	guint8 bytes[HVP_KEEPER_WRITE_BYTES];

	if (!read_place(backend, write, bytes, error))
		return false;
	if (holds(bytes, write->old_bytes, write))
		return true;
	if (holds(bytes, write->new_bytes, write)) {
		if (!hvp_backend_write_physical(backend, write->gpa, write->old_bytes,
						write->length_bytes, error) ||
		    !read_place(backend, write, bytes, error))
			return false;
		if (holds(bytes, write->old_bytes, write))
			return true;
	}
	*ret_foreign = true;
	return true;
}

bool hvp_sites_undo(HvpSites *self, HvpBackend *backend, GError **error)
{
	bool foreign = false;
	gsize last_foreign = 0;
	GError *failure = NULL;

	if (self->count == 0)
		return true;
	/*
	 * Of pages that are not at hand the others are undone all the same: the guest may run
	 * before all are tried again. After any other failure each would wait for its time.
	 */
	for (gsize i = self->count; i-- > 0;) {
		bool this_foreign = false;

		if (!undo_one(backend, &self->writes[i], &this_foreign,
			      failure == NULL ? &failure : NULL) &&
		    !g_error_matches(failure, HVP_ERROR, HVP_ERROR_FAULT))
			break;
		if (this_foreign)
			last_foreign = i;
		foreign |= this_foreign;
	}
	if (failure != NULL) {
		g_propagate_error(error, failure);
		return false;
	}
	self->count = 0;
	if (foreign)
		return hvp_error_set(error, HVP_ERROR_INCONSISTENT,
				     "physical 0x%" G_GINT64_MODIFIER
				     "x holds neither the old nor the new bytes",
				     self->writes[last_foreign].gpa.value);
	/* Of writes that are undone, no recovery needs to know. */
	return hvp_journal_append(self->journal_fd, HVP_JOURNAL_UNDONE, NULL, 0, NULL) ||
	       hvp_journal_cut(self->journal_fd, self->journal_at) ||
	       hvp_error_set(error, HVP_ERROR_FAULT, "writing the journal");
}

/*
 * Reading back is left to the last moment: it also shows that the guest still stands, for a backend
 * whose VM somebody resumed answers with a stop.
 */
bool hvp_sites_commit(HvpSites *self, HvpBackend *backend, GError **error)
{
	if (!verify_new(self, backend, 0, HVP_ERROR_FAULT, error) ||
	    !hvp_journal_append(self->journal_fd, HVP_JOURNAL_COMMIT, NULL, 0, error))
		return false;
	self->count = 0;
	return true;
}

bool hvp_sites_adopt(HvpSites *self, const HvpKeeperWrite *writes, gsize count, GError **error)
{
	self->count = 0;
	self->journal_at = -1;
	return append(self, writes, count, error);
}

bool hvp_sites_roll_forward(HvpSites *self, HvpBackend *backend, GError **error)
{
	return verify_new(self, backend, 0, HVP_ERROR_INCONSISTENT, error) &&
	       hvp_sites_commit(self, backend, error);
}
