/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The loaded modules, as /proc/modules tells. */
#pragma once

#include "proc.h"
#include "writer.h"

/*
 * Writes the members "modules", from number @start on as many as fit, and "next" if there are
 * more. False with errno set: /proc/modules cannot be read.
 */
bool agent_module_write(const AgentProc *proc, int64_t start, AgentWriter *writer);

/* Writes one line of /proc/modules as an object; what is not of that form is left out. */
void agent_module_write_line(const char *line, AgentWriter *writer);
