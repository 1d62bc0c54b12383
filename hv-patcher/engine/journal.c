/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm/access.h"
#include "vm/helper.h"

#define SYSTEM_FOLDER "/run/hvpatch"
#define SUFFIX ".journal"
#define RECOVERY "recovery"

struct HvpJournal {
	int fd;
	char *path;
};

char *hvp_journal_folder(void)
{
	if (geteuid() == 0)
		return g_strdup(SYSTEM_FOLDER);
	return g_build_filename(g_get_user_runtime_dir(), "hvpatch", NULL);
}

static bool try_lock(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

/* Whether nobody took its file away between our opening and our locking it. */
static bool is_linked(int fd)
{
	struct stat now;

	if (fstat(fd, &now) == 0 && now.st_nlink > 0)
		return true;
	errno = EAGAIN;
	return false;
}

/* Whether @name is a journal's; *@ret_alive: whether its process still runs. */
static bool parse_name(const char *name, pid_t *ret_pid, bool *ret_alive)
{
	guint64 started, alive_since;
	char *end;
	guint64 pid = g_ascii_strtoull(name, &end, 10);

	if (*end != '-' || pid > G_MAXINT32)
		return false;
	started = g_ascii_strtoull(end + 1, &end, 10);
	*ret_pid = (pid_t)pid;
	*ret_alive = hvp_access_read_start_time((pid_t)pid, &alive_since) && alive_since == started;
	return strcmp(end, SUFFIX) == 0;
}

static bool is_dead(const char *name)
{
	bool alive;
	pid_t pid;

	return parse_name(name, &pid, &alive) && !alive;
}

GArray *hvp_journal_list_open(const char *where)
{
	g_autofree char *folder = where ? g_strdup(where) : hvp_journal_folder();
	g_autoptr(GDir) files = g_dir_open(folder, 0, NULL);
	GArray *open = g_array_new(FALSE, FALSE, sizeof(pid_t));
	const char *name;

	while (files != NULL && (name = g_dir_read_name(files)) != NULL) {
		g_autofree char *path = g_build_filename(folder, name, NULL);
		struct stat status;
		bool alive;
		pid_t pid;

		if (parse_name(name, &pid, &alive) && alive && lstat(path, &status) == 0 &&
		    status.st_size > 0)
			g_array_append_val(open, pid);
	}
	return open;
}

/* Journals of VMs that are no more, and that say of nothing that it is left to do. */
static void remove_dead(const char *folder)
{
	g_autoptr(GDir) files = g_dir_open(folder, 0, NULL);
	const char *name;

	while (files != NULL && (name = g_dir_read_name(files)) != NULL) {
		g_autofree char *path = g_build_filename(folder, name, NULL);
		struct stat now;
		int fd;

		if (!is_dead(name))
			continue;
		fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd < 0)
			continue;
		if (try_lock(fd) && fstat(fd, &now) == 0 && now.st_size == 0)
			(void)unlink(path);
		close(fd);
	}
}

static bool open_file(HvpJournal *self, GError **error)
{
	self->fd = open(self->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (self->fd < 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_PERMISSION, "journal %s",
					   self->path);
	/* A dead tool's keeper may take a moment to bring everything home. */
	for (guint i = 0; i < 20; i++) {
		if (try_lock(self->fd) && is_linked(self->fd))
			return true;
		if (errno != EAGAIN && errno != EACCES)
			return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "lock %s",
						   self->path);
		g_usleep(100 * 1000);
	}
	return hvp_error_set(error, HVP_ERROR_BUSY,
			     "another hvpatch is at work on this VM (it holds %s)", self->path);
}

HvpJournal *hvp_journal_open(const HvpMachine *machine, const char *where, GError **error)
{
	return hvp_journal_open_of(hvp_machine_get_pid(machine),
				   hvp_machine_get_start_time(machine), where, error);
}

static HvpJournal *ask_for_journal(GError **error)
{
	g_autoptr(HvpJournal) self = g_new0(HvpJournal, 1);

	self->path = g_strdup("of the VM");
	self->fd = hvp_helper_open(HVP_HELPER_JOURNAL, 0, error);
	return self->fd >= 0 ? g_steal_pointer(&self) : NULL;
}

HvpJournal *hvp_journal_open_of(pid_t pid, guint64 start_time, const char *where, GError **error)
{
	g_autoptr(HvpJournal) self = NULL;
	g_autofree char *folder = where ? g_strdup(where) : hvp_journal_folder();
	g_autofree char *name = g_strdup_printf("%d-%" G_GUINT64_FORMAT SUFFIX, (int)pid,
						start_time);

	if (hvp_helper_is_used())
		return ask_for_journal(error);
	self = g_new0(HvpJournal, 1);

	self->fd = -1;
	self->path = g_build_filename(folder, name, NULL);
	if (g_mkdir_with_parents(folder, 0700) != 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_PERMISSION, "journal folder %s",
				    folder);
		return NULL;
	}
	remove_dead(folder);
	if (!open_file(self, error))
		return NULL;
	return g_steal_pointer(&self);
}

void hvp_journal_free(HvpJournal *self)
{
	if (self == NULL)
		return;
	if (self->fd >= 0)
		close(self->fd);
	g_free(self->path);
	g_free(self);
}

int hvp_journal_get_fd(const HvpJournal *self)
{
	return self->fd;
}

void hvp_journal_state_free(HvpJournalState *self)
{
	if (self == NULL)
		return;
	g_array_unref(self->frames);
	g_array_unref(self->hooks);
	g_array_unref(self->spins);
	g_array_unref(self->writes);
	g_array_unref(self->places);
	g_hash_table_unref(self->begin);
	g_ptr_array_unref(self->steps);
	g_array_unref(self->calls);
	g_array_unref(self->ranges);
	g_free(self);
}

static HvpJournalState *state_new(void)
{
	HvpJournalState *state = g_new0(HvpJournalState, 1);

	state->frames = g_array_new(FALSE, FALSE, sizeof(HvpKeeperFrame));
	state->hooks = g_array_new(FALSE, FALSE, sizeof(HvpKeeperHook));
	state->spins = g_array_new(FALSE, FALSE, sizeof(HvpKeeperSpin));
	state->writes = g_array_new(FALSE, FALSE, sizeof(HvpKeeperWrite));
	state->places = g_array_new(FALSE, FALSE, sizeof(HvpGpa));
	state->begin = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	state->steps = g_ptr_array_new_with_free_func(g_free);
	state->calls = g_array_new(FALSE, TRUE, sizeof(HvpJournalCall));
	state->ranges = g_array_new(FALSE, FALSE, sizeof(HvpJournalRange));
	return state;
}

HvpJournalState *hvp_journal_state_new_attached(void)
{
	HvpJournalState *state = state_new();

	state->attached = true;
	return state;
}

static HvpJournalCall *call_of(const HvpJournalState *state, guint index)
{
	return &g_array_index(state->calls, HvpJournalCall, index);
}

void hvp_journal_state_add_step(HvpJournalState *self, const char *text)
{
	g_ptr_array_add(self->steps, g_strdup(text));
	g_array_set_size(self->calls, self->steps->len);
	if (g_str_has_prefix(text, RECOVERY "="))
		self->first_open = self->steps->len;
}

HvpJournalRange hvp_journal_state_call(HvpJournalState *self)
{
	HvpJournalRange range = { self->first_open, self->steps->len };

	for (guint i = range.first; i < range.end; i++)
		call_of(self, i)->begun = true;
	self->first_open = range.end;
	return range;
}

static void take_back_call(HvpJournalState *state, const HvpJournalRange *range)
{
	for (guint i = range->first; i < range->end; i++)
		call_of(state, i)->begun = false;
	if (state->first_open == range->end)
		state->first_open = range->first;
}

static void take_return(HvpJournalState *state, const HvpJournalRecord *record)
{
	const HvpJournalRange *range;
	guint64 value;

	if (state->frames->len == 0 || record->length_bytes != sizeof value)
		return;
	memcpy(&value, record->payload, sizeof value);
	g_array_index(state->frames, HvpKeeperFrame, state->frames->len - 1).is_over = 1;
	range = &g_array_index(state->ranges, HvpJournalRange, state->ranges->len - 1);
	for (guint i = range->first; i < range->end; i++) {
		call_of(state, i)->over = true;
		call_of(state, i)->value = value;
	}
}

static void take_lines(HvpJournalState *state, const HvpJournalRecord *record)
{
	g_autofree char *text = g_strndup((const char *)record->payload, record->length_bytes);
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

	for (guint i = 0; lines[i] != NULL; i++) {
		char *equals = strchr(lines[i], '=');

		if (equals == NULL)
			continue;
		if (record->type == HVP_JOURNAL_STEP)
			hvp_journal_state_add_step(state, lines[i]);
		else
			g_hash_table_insert(state->begin,
					    g_strndup(lines[i], (gsize)(equals - lines[i])),
					    g_strdup(equals + 1));
	}
}

/* Replaces @array's content by the records' payload. */
static void set_items(GArray *array, const HvpJournalRecord *record)
{
	guint size = g_array_get_element_size(array);

	g_array_set_size(array, 0);
	g_array_append_vals(array, record->payload, (guint)(record->length_bytes / size));
}

/* A thread that is moved without a return, or called for something else, has begun no step. */
static void take_frame(HvpJournalState *state, const HvpJournalRecord *record)
{
	HvpJournalRange range = { 0, 0 };
	HvpKeeperFrame frame;

	if (record->length_bytes != sizeof frame)
		return;
	memcpy(&frame, record->payload, sizeof frame);
	/* Keepers before that wrote no CALLED in front. */
	if (hvp_keeper_frame_is_step(&frame))
		range = state->is_called ? state->called : hvp_journal_state_call(state);
	g_array_append_val(state->frames, frame);
	g_array_append_val(state->ranges, range);
}

static void drop_frame(HvpJournalState *state, bool began)
{
	guint left = state->frames->len;

	if (left-- == 0)
		return;
	if (!began)
		take_back_call(state, &g_array_index(state->ranges, HvpJournalRange, left));
	g_array_set_size(state->frames, left);
	g_array_set_size(state->ranges, left);
}

static void add_place(HvpJournalState *state, guint64 gpa)
{
	HvpGpa place = hvp_gpa(gpa);

	g_array_append_val(state->places, place);
}

static void take_writes(HvpJournalState *state, const HvpJournalRecord *record)
{
	HvpKeeperWrite write;

	for (gsize at = 0; at + sizeof write <= record->length_bytes; at += sizeof write) {
		memcpy(&write, record->payload + at, sizeof write);
		g_array_append_val(state->writes, write);
		g_array_append_val(state->places, write.gpa);
	}
}

static void take_data(HvpJournalState *state, const HvpJournalRecord *record)
{
	HvpJournalData data;

	if (record->length_bytes != sizeof data)
		return;
	memcpy(&data, record->payload, sizeof data);
	/* No record has more than one request of the tool's. */
	data.length_bytes = MIN(data.length_bytes, HVP_JOURNAL_MAX_RECORD_BYTES);
	for (guint64 at = 0; at < data.length_bytes; at += HVP_PAGE_SIZE)
		add_place(state, data.gpa.value + at);
	if (data.length_bytes > 0)
		add_place(state, data.gpa.value + data.length_bytes - 1);
}

static void take_spin_places(HvpJournalState *state)
{
	for (guint i = 0; i < state->spins->len; i++)
		g_array_append_val(state->places,
				   g_array_index(state->spins, HvpKeeperSpin, i).gpa);
}

static void take_record(HvpJournalState *state, const HvpJournalRecord *record)
{
	if (record->type != HVP_JOURNAL_DIVERT)
		state->is_called = false;
	switch (record->type) {
	case HVP_JOURNAL_BEGIN:
	case HVP_JOURNAL_STEP:
		take_lines(state, record);
		break;
	case HVP_JOURNAL_ATTACH:
		state->attached = true;
		break;
	case HVP_JOURNAL_HOOKS:
		set_items(state->hooks, record);
		break;
	case HVP_JOURNAL_SPINS:
		set_items(state->spins, record);
		take_spin_places(state);
		break;
	case HVP_JOURNAL_DIVERT:
		take_frame(state, record);
		state->is_called = false;
		break;
	case HVP_JOURNAL_NOT_BEGUN:
	case HVP_JOURNAL_HOME:
		drop_frame(state, record->type == HVP_JOURNAL_HOME);
		break;
	case HVP_JOURNAL_RETURNED:
		take_return(state, record);
		break;
	case HVP_JOURNAL_CALLED:
		state->called = hvp_journal_state_call(state);
		state->is_called = true;
		break;
	case HVP_JOURNAL_WRITE:
		take_writes(state, record);
		break;
	case HVP_JOURNAL_DATA:
		take_data(state, record);
		break;
	case HVP_JOURNAL_UNDONE:
		g_array_set_size(state->writes, 0);
		break;
	case HVP_JOURNAL_COMMIT:
		g_array_set_size(state->writes, 0);
		state->committed = true;
		break;
	case HVP_JOURNAL_DETACH:
		state->attached = false;
		break;
	case HVP_JOURNAL_END:
		break;
	}
}

static bool read_file(HvpJournal *self, guint8 **ret_bytes, gsize *ret_length, GError **error)
{
	struct stat status;
	g_autofree guint8 *bytes = NULL;

	if (fstat(self->fd, &status) != 0 || status.st_size > (off_t)HVP_JOURNAL_MAX_BYTES)
		return hvp_error_set(error, HVP_ERROR_INCONSISTENT, "journal %s cannot be read",
				     self->path);
	bytes = g_malloc((gsize)status.st_size + 1);
	if (pread(self->fd, bytes, (gsize)status.st_size, 0) != status.st_size)
		return hvp_error_set(error, HVP_ERROR_INCONSISTENT, "journal %s cannot be read",
				     self->path);
	*ret_length = (gsize)status.st_size;
	*ret_bytes = g_steal_pointer(&bytes);
	return true;
}

/* *@ret_whole_bytes: up to where it could be read; what follows is torn. */
static bool read_state(HvpJournal *self, HvpJournalState **ret_state, gsize *ret_whole_bytes,
		       gsize *ret_bytes, GError **error)
{
	g_autoptr(HvpJournalState) state = state_new();
	g_autofree guint8 *bytes = NULL;
	g_autoptr(GArray) records = NULL;
	bool torn, ended = true;

	*ret_state = NULL;
	*ret_whole_bytes = 0;
	if (!read_file(self, &bytes, ret_bytes, error))
		return false;
	/* A torn tail announces something that has not happened. */
	records = hvp_journal_parse(bytes, *ret_bytes, &torn);
	for (guint i = 0; i < records->len; i++) {
		const HvpJournalRecord *record = &g_array_index(records, HvpJournalRecord, i);

		ended = record->type == HVP_JOURNAL_END;
		*ret_whole_bytes = (gsize)(record->payload - bytes) + record->length_bytes;
		take_record(state, record);
	}
	if (!ended)
		*ret_state = g_steal_pointer(&state);
	return true;
}

bool hvp_journal_read_unfinished(HvpJournal *self, HvpJournalState **ret_state, GError **error)
{
	gsize whole_bytes, bytes;

	if (!read_state(self, ret_state, &whole_bytes, &bytes, error))
		return false;
	/* What is appended behind a torn record could never be read. */
	if (whole_bytes == bytes || hvp_journal_cut(self->fd, (gint64)whole_bytes))
		return true;
	g_clear_pointer(ret_state, hvp_journal_state_free);
	return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "journal %s", self->path);
}

bool hvp_journal_begin(HvpJournal *self, const char *operation, const char *patch,
		       const char *sha256, GError **error)
{
	g_autofree char *text = g_strdup_printf("operation=%s\npatch=%s\nsha256=%s\n", operation,
						patch, sha256);

	if (ftruncate(self->fd, 0) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "journal %s",
					   self->path);
	return hvp_journal_append(self->fd, HVP_JOURNAL_BEGIN, text, strlen(text), error);
}

bool hvp_journal_step(HvpJournal *self, const char *key, guint64 value, GError **error)
{
	g_autofree char *text = g_strdup_printf("%s=%" G_GUINT64_FORMAT "\n", key, value);

	return hvp_journal_append(self->fd, HVP_JOURNAL_STEP, text, strlen(text), error);
}

bool hvp_journal_step_recovery(HvpJournal *self, GError **error)
{
	return hvp_journal_step(self, RECOVERY, 1, error);
}

bool hvp_journal_drop_frame(HvpJournal *self, HvpJournalState *state, GError **error)
{
	const HvpKeeperFrame *call =
		&g_array_index(state->frames, HvpKeeperFrame, state->frames->len - 1);
	/* Of those that have returned that was written before their threads were put back. */
	bool began = !hvp_keeper_frame_is_step(call) || call->is_over != 0;

	if (!hvp_journal_append(self->fd, began ? HVP_JOURNAL_HOME : HVP_JOURNAL_NOT_BEGUN, NULL, 0,
				error))
		return false;
	drop_frame(state, began);
	return true;
}

bool hvp_journal_end(HvpJournal *self, GError **error)
{
	if (!hvp_journal_append(self->fd, HVP_JOURNAL_END, NULL, 0, error))
		return false;
	if (ftruncate(self->fd, 0) != 0)
		return hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "journal %s",
					   self->path);
	return true;
}

/* The value of the step at @index when it is one of @key. */
static bool step_value(const HvpJournalState *self, guint index, const char *key,
		       guint64 *ret_value)
{
	const char *step = g_ptr_array_index(self->steps, index);
	gsize key_bytes = strlen(key);

	if (strncmp(step, key, key_bytes) != 0 || step[key_bytes] != '=')
		return false;
	*ret_value = g_ascii_strtoull(step + key_bytes + 1, NULL, 10);
	return true;
}

bool hvp_journal_state_find(const HvpJournalState *self, const char *key, guint64 *ret_value)
{
	for (guint i = self->steps->len; i > 0; i--)
		if (step_value(self, i - 1, key, ret_value))
			return true;
	return false;
}

static bool has_step(const HvpJournalState *self, bool begun, const char *key, guint64 value)
{
	guint64 found;

	for (guint i = 0; i < self->steps->len; i++)
		if ((!begun || call_of(self, i)->begun) && step_value(self, i, key, &found) &&
		    found == value)
			return true;
	return false;
}

bool hvp_journal_state_has(const HvpJournalState *self, const char *key, guint64 value)
{
	return has_step(self, false, key, value);
}

bool hvp_journal_state_has_begun(const HvpJournalState *self, const char *key, guint64 value)
{
	return has_step(self, true, key, value);
}

bool hvp_journal_state_find_result(const HvpJournalState *self, const char *key,
				   guint64 *ret_value)
{
	guint64 value;

	return hvp_journal_state_find(self, key, &value) &&
	       hvp_journal_state_get_result(self, key, value, ret_value);
}

bool hvp_journal_state_get_result(const HvpJournalState *self, const char *key, guint64 value,
				  guint64 *ret_value)
{
	guint64 found;

	for (guint i = self->steps->len; i > 0; i--) {
		const HvpJournalCall *call = call_of(self, i - 1);

		if (!call->over || !step_value(self, i - 1, key, &found) || found != value)
			continue;
		*ret_value = call->value;
		return true;
	}
	return false;
}

bool hvp_journal_refresh_calls(HvpJournal *self, HvpJournalState *state, GError **error)
{
	g_autoptr(HvpJournalState) now = NULL;
	gsize whole_bytes, bytes;

	/* Nothing is cut off: a keeper may be about to append. */
	if (!read_state(self, &now, &whole_bytes, &bytes, error))
		return false;
	/* A journal of nothing but a keeper's attaching; what was read is all there is. */
	for (guint i = 0; now != NULL && i < state->steps->len && i < now->steps->len; i++)
		*call_of(state, i) = *call_of(now, i);
	return true;
}
