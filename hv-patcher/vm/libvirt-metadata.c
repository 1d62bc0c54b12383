/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/libvirt-metadata.h"

#include <fcntl.h>
#include <libvirt/virterror.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/deadline.h"
#include "vm/libvirt-private.h"

/* Where the journals are, too. */
#define SYSTEM_FOLDER "/run/hvpatch"
#define LOCK_USEC G_USEC_PER_SEC
#define RETRY_USEC (20 * 1000)

static unsigned int flags_of(HvpLibvirtMetadataWhere where)
{
	return where == HVP_LIBVIRT_METADATA_LIVE ? VIR_DOMAIN_AFFECT_LIVE
						  : VIR_DOMAIN_AFFECT_CONFIG;
}

/* @ret_damaged: there is one that nobody can read; the note is then empty. */
static HvpDomainNote *read_note(const HvpLibvirtDomain *domain, HvpLibvirtMetadataWhere where,
				bool *ret_damaged, GError **error)
{
	HvpDomainNote *note;
	char *xml = virDomainGetMetadata(domain->domain, VIR_DOMAIN_METADATA_ELEMENT,
					 HVP_DOMAIN_NOTE_URI, flags_of(where));

	if (xml == NULL && virGetLastErrorCode() != VIR_ERR_NO_DOMAIN_METADATA) {
		hvp_libvirt_set_domain_error(domain, error);
		return NULL;
	}
	note = hvp_domain_note_parse(xml, NULL);
	free(xml);
	*ret_damaged = note == NULL;
	return note ? note : hvp_domain_note_new();
}

HvpDomainNote *hvp_libvirt_metadata_read(const HvpLibvirtDomain *domain,
					 HvpLibvirtMetadataWhere where, GError **error)
{
	bool damaged;

	return read_note(domain, where, &damaged, error);
}

bool hvp_libvirt_metadata_write(const HvpLibvirtDomain *domain, HvpLibvirtMetadataWhere where,
				const HvpDomainNote *note, GError **error)
{
	g_autofree char *xml = hvp_domain_note_to_xml(note);

	if (virDomainSetMetadata(domain->domain, VIR_DOMAIN_METADATA_ELEMENT, xml,
				 HVP_DOMAIN_NOTE_KEY, HVP_DOMAIN_NOTE_URI, flags_of(where)) == 0)
		return true;
	/* There was none to remove. */
	return (xml == NULL && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_METADATA) ||
	       hvp_libvirt_set_domain_error(domain, error);
}

/* --- what is installed --- */

/* Whether there is such a place for the domain's metadata. */
static bool has_place(const HvpLibvirtDomain *domain, HvpLibvirtMetadataWhere where)
{
	if (where == HVP_LIBVIRT_METADATA_LIVE)
		return virDomainIsActive(domain->domain) == 1;
	return virDomainIsPersistent(domain->domain) == 1;
}

/* Installs @patch, or where that is NULL uninstalls @name. */
static bool change_place(const HvpLibvirtDomain *domain, HvpLibvirtMetadataWhere where,
			 const HvpDomainNotePatch *patch, const char *name, GError **error)
{
	g_autoptr(HvpDomainNote) note = NULL;

	if (!has_place(domain, where))
		return true;
	note = hvp_libvirt_metadata_read(domain, where, error);
	if (note == NULL)
		return false;
	if (patch != NULL)
		hvp_domain_note_install(note, patch);
	else if (!hvp_domain_note_uninstall(note, name))
		return true;
	return hvp_libvirt_metadata_write(domain, where, note, error);
}

bool hvp_libvirt_metadata_install(const HvpLibvirtDomain *domain, const HvpDomainNotePatch *patch,
				  GError **error)
{
	return change_place(domain, HVP_LIBVIRT_METADATA_CONFIG, patch, NULL, error) &&
	       change_place(domain, HVP_LIBVIRT_METADATA_LIVE, patch, NULL, error);
}

bool hvp_libvirt_metadata_uninstall(const HvpLibvirtDomain *domain, const char *name,
				    GError **error)
{
	return change_place(domain, HVP_LIBVIRT_METADATA_CONFIG, NULL, name, error) &&
	       change_place(domain, HVP_LIBVIRT_METADATA_LIVE, NULL, name, error);
}

/* --- one at a time --- */

static char *lock_path(const char *uuid)
{
	g_autofree char *name = g_strdup_printf("%s.note", uuid);

	if (geteuid() == 0)
		return g_build_filename(SYSTEM_FOLDER, name, NULL);
	return g_build_filename(g_get_user_runtime_dir(), "hvpatch", name, NULL);
}

int hvp_libvirt_metadata_lock(const char *uuid)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	HvpDeadline deadline = hvp_deadline_in(LOCK_USEC);
	g_autofree char *path = lock_path(uuid);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	while (fd >= 0 && fcntl(fd, F_OFD_SETLK, &lock) != 0) {
		if (hvp_deadline_passed(deadline)) {
			close(fd);
			return -1;
		}
		g_usleep(RETRY_USEC);
	}
	return fd;
}

/* --- with a deadline --- */

/* Shared by who waits and the thread that asks libvirt; whoever lets go last frees it. */
typedef struct {
	char *uri;
	char *uuid;
	int id;
	HvpDomainNote *facts; /* in its applied */
	HvpDomainNotePatch *news;
	GMutex lock;
	GCond ended;
	bool has_ended;
	bool written;
	GError *error; /* NULL: it went well */
} Task;

static void task_clear(gpointer data)
{
	Task *self = data;

	g_free(self->uri);
	g_free(self->uuid);
	hvp_domain_note_free(self->facts);
	hvp_domain_note_patch_free(self->news);
	g_mutex_clear(&self->lock);
	g_cond_clear(&self->ended);
	g_clear_error(&self->error);
}

static void task_release(Task *self)
{
	g_atomic_rc_box_release_full(self, task_clear);
}

static Task *task_new(const char *uri, const char *uuid, int id, const GPtrArray *facts,
		      const HvpDomainNotePatch *news)
{
	Task *self = g_atomic_rc_box_new0(Task);

	self->uri = g_strdup(uri);
	self->uuid = g_strdup(uuid);
	self->id = id;
	self->facts = hvp_domain_note_new();
	hvp_domain_note_set_applied(self->facts, facts, NULL);
	self->news = news ? hvp_domain_note_patch_copy(news) : NULL;
	g_mutex_init(&self->lock);
	g_cond_init(&self->ended);
	return self;
}

static bool correct_domain(Task *self, const HvpLibvirtDomain *domain, GError **error)
{
	g_autoptr(HvpDomainNote) note = NULL;
	g_autofree char *before = NULL, *after = NULL;
	bool damaged;

	if (domain->id != self->id)
		return hvp_error_set(error, HVP_ERROR_NOT_FOUND,
				     "the domain does not run any more, or was started since");
	note = read_note(domain, HVP_LIBVIRT_METADATA_LIVE, &damaged, error);
	if (note == NULL)
		return false;
	before = hvp_domain_note_to_xml(note);
	hvp_domain_note_set_applied(note, self->facts->applied, self->news);
	after = hvp_domain_note_to_xml(note);
	self->written = damaged || g_strcmp0(before, after) != 0;
	return !self->written ||
	       hvp_libvirt_metadata_write(domain, HVP_LIBVIRT_METADATA_LIVE, note, error);
}

static gpointer run_task(gpointer data)
{
	Task *self = data;
	g_autoptr(GError) error = NULL;
	g_autoptr(HvpLibvirt) libvirt = hvp_libvirt_connect(self->uri, &error);
	g_autoptr(HvpLibvirtDomain) domain = libvirt ? hvp_libvirt_find(libvirt, self->uuid, &error)
						     : NULL;

	if (domain != NULL)
		(void)!correct_domain(self, domain, &error);
	g_mutex_lock(&self->lock);
	self->error = g_steal_pointer(&error);
	self->has_ended = true;
	g_cond_signal(&self->ended);
	g_mutex_unlock(&self->lock);
	task_release(self);
	return NULL;
}

static bool wait_for_task(Task *self, HvpDeadline deadline, bool *ret_written, GError **error)
{
	bool ok = false;

	g_mutex_lock(&self->lock);
	while (!self->has_ended && g_cond_wait_until(&self->ended, &self->lock, deadline.at_usec))
		;
	if (!self->has_ended)
		hvp_error_set(error, HVP_ERROR_TIMED_OUT, "libvirt did not answer in time");
	else if (self->error != NULL)
		g_propagate_error(error, g_steal_pointer(&self->error));
	else
		ok = true;
	if (ok)
		*ret_written = self->written;
	g_mutex_unlock(&self->lock);
	return ok;
}

bool hvp_libvirt_metadata_correct(const char *uri, const char *uuid, int id, const GPtrArray *facts,
				  const HvpDomainNotePatch *news, gint64 timeout_usec,
				  bool *ret_written, GError **error)
{
	HvpDeadline deadline = hvp_deadline_in(timeout_usec);
	Task *task = task_new(uri, uuid, id, facts, news);
	GThread *thread = g_thread_try_new("metadata", run_task, g_atomic_rc_box_acquire(task),
					   NULL);
	bool ok;

	if (thread == NULL) {
		task_release(task);
		task_release(task);
		return hvp_error_set(error, HVP_ERROR_INTERNAL, "no thread to ask libvirt in");
	}
	ok = wait_for_task(task, deadline, ret_written, error);
	/* Not joined: it may hang. */
	g_thread_unref(thread);
	task_release(task);
	return ok;
}
