/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper's main loop: waits for the tool, the vCPUs, the monitor, a signal or a
 * deadline, and has one of them handled at a time.
 */
#pragma once

/*
 * Serves @tool_fd until that closes and nothing is left to do. Takes @tool_fd and
 * @qmp_fd (-1: there is no monitor); @journal_fd and @signal_fd (a signalfd for SIGTERM) are
 * borrowed. Returns the exit status: 0, or 1 when something was left undone.
 */
int hvp_loop_run(int tool_fd, int qmp_fd, int journal_fd, int signal_fd);
