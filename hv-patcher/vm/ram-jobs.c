/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/ram-jobs.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "vm/helper.h"

#define MAX_QUOTED_BYTES 64
#define USERFAULTFD "a userfaultfd"

static char *quote(const char *text)
{
	return hvp_text_escape(text, HVP_TEXT_TERMINATED, MAX_QUOTED_BYTES);
}

static char *describe_job(const char *kind, const char *status)
{
	g_autofree char *quoted = quote(status);

	return g_strdup_printf("%s (%s)", kind, quoted);
}

/* "status" of what @command answers, when it is not one of @resting. */
static bool find_busy_status(HvpQmp *qmp, const char *command, const char *kind,
			     const char *const *resting, HvpDeadline deadline, char **ret_job,
			     GError **error)
{
	g_autoptr(JsonNode) node = NULL;
	JsonObject *answer = hvp_qmp_query_object(qmp, command, deadline, &node, error);
	const char *status;

	*ret_job = NULL;
	if (answer == NULL)
		return false;
	/* query-migrate tells no status before the first migration. */
	if (!json_object_has_member(answer, "status"))
		return true;
	if (!hvp_qmp_member_string(answer, "status", &status, error))
		return false;
	if (!g_strv_contains(resting, status))
		*ret_job = describe_job(kind, status);
	return true;
}

static bool find_migration(HvpQmp *qmp, HvpDeadline deadline, char **ret_job, GError **error)
{
	static const char *const resting[] = {"none", "completed", "cancelled", "failed", NULL};

	return find_busy_status(qmp, "query-migrate", "migration", resting, deadline, ret_job,
				error);
}

static bool find_dump(HvpQmp *qmp, HvpDeadline deadline, char **ret_job, GError **error)
{
	static const char *const resting[] = {"none", "completed", "failed", NULL};

	return find_busy_status(qmp, "query-dump", "dump", resting, deadline, ret_job, error);
}

/* Of the jobs only snapshot-save, -load and -delete touch RAM; the rest are the disks'. */
static bool find_snapshot(HvpQmp *qmp, HvpDeadline deadline, char **ret_job, GError **error)
{
	g_autoptr(JsonNode) node = NULL;
	JsonArray *list = hvp_qmp_query_array(qmp, "query-jobs", deadline, &node, error);

	*ret_job = NULL;
	if (list == NULL)
		return false;
	for (guint i = 0; i < json_array_get_length(list) && *ret_job == NULL; i++) {
		JsonObject *job =
			hvp_qmp_as_object(json_array_get_element(list, i), "query-jobs", error);
		const char *type;
		const char *status;

		if (job == NULL || !hvp_qmp_member_string(job, "type", &type, error) ||
		    !hvp_qmp_member_string(job, "status", &status, error))
			return false;
		if (g_str_has_prefix(type, "snapshot-") && strcmp(status, "concluded") != 0 &&
		    strcmp(status, "null") != 0)
			*ret_job = describe_job(type, status);
	}
	return true;
}

static bool ask_for_userfaultfd(char **ret_job, GError **error)
{
	guint64 found;

	if (!hvp_helper_read(HVP_HELPER_USERFAULTFD, 0, &found, error))
		return false;
	*ret_job = found != 0 ? g_strdup(USERFAULTFD) : NULL;
	return true;
}

/* Post-copy and background snapshots hold one; a page they own may block its reader. */
bool hvp_ram_jobs_find_userfaultfd(pid_t pid, char **ret_job, GError **error)
{
	g_autofree char *folder = g_strdup_printf("/proc/%d/fd", (int)pid);
	g_autoptr(GDir) directory = NULL;
	const char *name;

	*ret_job = NULL;
	if (hvp_helper_is_used())
		return ask_for_userfaultfd(ret_job, error);
	directory = g_dir_open(folder, 0, NULL);
	if (directory == NULL)
		return hvp_error_set(error, HVP_ERROR_PERMISSION,
				     "the descriptors of process %d cannot be listed",
				     (int)pid);
	while (*ret_job == NULL && (name = g_dir_read_name(directory)) != NULL) {
		g_autofree char *path = g_build_filename(folder, name, NULL);
		char target[PATH_MAX] = {0};

		if (readlink(path, target, sizeof target - 1) > 0 &&
		    strcmp(target, "anon_inode:[userfaultfd]") == 0)
			*ret_job = g_strdup(USERFAULTFD);
	}
	return true;
}

bool hvp_ram_jobs_has_userfaultfd(pid_t pid, bool *ret_has, GError **error)
{
	g_autofree char *job = NULL;

	if (!hvp_ram_jobs_find_userfaultfd(pid, &job, error))
		return false;
	*ret_has = job != NULL;
	return true;
}

bool hvp_ram_jobs_ask(HvpQmp *qmp, pid_t pid, HvpDeadline deadline, char **ret_job,
			     GError **error)
{
	g_autofree char *job = NULL;

	if (!find_migration(qmp, deadline, &job, error) ||
	    (job == NULL && !find_dump(qmp, deadline, &job, error)) ||
	    (job == NULL && !find_snapshot(qmp, deadline, &job, error)) ||
	    (job == NULL && pid != 0 && !hvp_ram_jobs_find_userfaultfd(pid, &job, error)))
		return false;
	*ret_job = g_steal_pointer(&job);
	return true;
}

/* With all its numbers: they are others for the next one. */
static bool add_answer(HvpQmp *qmp, const char *command, HvpDeadline deadline, GString *text,
		       GError **error)
{
	g_autoptr(JsonNode) node = hvp_qmp_execute(qmp, command, NULL, deadline, error);
	g_autofree char *answer = node != NULL ? json_to_string(node, FALSE) : NULL;

	if (answer != NULL)
		g_string_append(text, answer);
	return answer != NULL;
}

char *hvp_ram_jobs_describe(HvpQmp *qmp, HvpDeadline deadline, GError **error)
{
	g_autoptr(GString) text = g_string_new(NULL);
	g_autofree char *job = NULL;

	if (!add_answer(qmp, "query-migrate", deadline, text, error) ||
	    !add_answer(qmp, "query-dump", deadline, text, error) ||
	    !find_snapshot(qmp, deadline, &job, error))
		return NULL;
	/* The VM stands while one is made: one that is over has seen all or nothing. */
	if (job != NULL)
		g_string_append(text, job);
	return g_string_free(g_steal_pointer(&text), FALSE);
}
