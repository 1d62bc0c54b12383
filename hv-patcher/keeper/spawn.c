/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper/spawn.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keeper/scope.h"
#include "keeper/wire.h"
#include "vm/program.h"

static const HvpProgram keeper_program = { "hvpatch-keeper", "HVPATCH_KEEPER", hvp_scope_take };

G_STATIC_ASSERT(HVP_WIRE_TOOL_FD == HVP_PROGRAM_FIRST_FD);
G_STATIC_ASSERT(HVP_WIRE_FIRST_OTHER_FD == HVP_PROGRAM_FIRST_FD + 3);

int hvp_spawn_keeper(int qmp_fd, int journal_fd, GError **error)
{
	static const char *const no_monitor[] = { HVP_WIRE_NO_MONITOR, NULL };
	int ends[2], descriptors[3];
	bool started;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
		hvp_error_set_errno(error, errno, HVP_ERROR_INTERNAL, "socket pair");
		return -1;
	}
	descriptors[0] = ends[1];
	/* Something has to be there; the keeper closes it. */
	descriptors[1] = qmp_fd >= 0 ? qmp_fd : journal_fd;
	descriptors[2] = journal_fd;
	started = hvp_program_start(&keeper_program, qmp_fd >= 0 ? NULL : no_monitor, descriptors,
				    G_N_ELEMENTS(descriptors), error);
	close(ends[1]);
	if (started)
		return ends[0];
	close(ends[0]);
	return -1;
}

char *hvp_spawn_find_keeper(GError **error)
{
	return hvp_program_find(&keeper_program, error);
}
