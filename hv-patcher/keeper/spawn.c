/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/spawn.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keeper/scope.h"
#include "keeper/wire.h"
#include "vm/helper.h"
#include "vm/program.h"

static const HvpProgram keeper_program = { "hvpatch-keeper", "HVPATCH_KEEPER", hvp_scope_take };

G_STATIC_ASSERT(HVP_WIRE_TOOL_FD == HVP_PROGRAM_FIRST_FD);
G_STATIC_ASSERT(HVP_WIRE_FIRST_OTHER_FD == HVP_PROGRAM_FIRST_FD + 3);

static int start(const char *const *arguments, const int *descriptors, guint count, GError **error)
{
	int ends[2], all[HVP_PROGRAM_MAX_FDS];
	bool started;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "socket pair");
		return -1;
	}
	all[0] = ends[1];
	for (guint i = 0; i < count; i++)
		all[i + 1] = descriptors[i];
	started = hvp_program_start(&keeper_program, arguments, all, count + 1, error);
	close(ends[1]);
	if (started)
		return ends[0];
	close(ends[0]);
	return -1;
}

/* A memory file, which has no name, is one that nobody will read. */
static bool is_journal(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && status.st_nlink > 0;
}

static int ask_for_keeper(int qmp_fd, int journal_fd, GError **error)
{
	guint64 flags = (qmp_fd >= 0 ? HVP_HELPER_KEEPER_MONITOR : 0) |
			(is_journal(journal_fd) ? 0 : HVP_HELPER_KEEPER_SCRATCH);

	return hvp_helper_open(HVP_HELPER_KEEPER, flags, error);
}

int hvp_spawn_keeper(int qmp_fd, int journal_fd, GError **error)
{
	static const char *const no_monitor[] = { HVP_WIRE_NO_MONITOR, NULL };
	/* Something has to be there; the keeper closes it. */
	int descriptors[] = { qmp_fd >= 0 ? qmp_fd : journal_fd, journal_fd };

	if (hvp_helper_is_used())
		return ask_for_keeper(qmp_fd, journal_fd, error);
	return start(qmp_fd >= 0 ? NULL : no_monitor, descriptors, G_N_ELEMENTS(descriptors),
		     error);
}

int hvp_spawn_keeper_of(pid_t pid, guint64 start_time, int qmp_fd, int journal_fd, int life_fd,
			GError **error)
{
	g_autofree char *only = g_strdup_printf(HVP_WIRE_ONLY "%d-%" G_GUINT64_FORMAT, (int)pid,
						start_time);
	const char *const arguments[] = { only, qmp_fd >= 0 ? NULL : HVP_WIRE_NO_MONITOR, NULL };
	int descriptors[] = { qmp_fd >= 0 ? qmp_fd : journal_fd, journal_fd, life_fd };

	return start(arguments, descriptors, G_N_ELEMENTS(descriptors), error);
}

char *hvp_spawn_find_keeper(GError **error)
{
	return hvp_program_find(&keeper_program, error);
}
