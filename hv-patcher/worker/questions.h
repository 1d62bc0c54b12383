/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A monitor's connection for somebody who may ask and not command: he speaks QMP at one end of a
 * socket pair, we pass on to QEMU what is on a short list of commands that change nothing.
 */
#pragma once

#include "vm/qmp.h"

typedef struct HvpQuestions HvpQuestions;

/* Takes @fd, our end, and @qmp. Never NULL. */
HvpQuestions *hvp_questions_new(int fd, HvpQmp *qmp);
void hvp_questions_free(HvpQuestions *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvpQuestions, hvp_questions_free)

/* To be polled; borrowed. */
int hvp_questions_get_fd(const HvpQuestions *self);

/* Answers what has come. False: it is over, on either side. */
bool hvp_questions_serve(HvpQuestions *self) G_GNUC_WARN_UNUSED_RESULT;

/* QEMU's own connection, the caller's; -1. From then on nothing is answered any more. */
int hvp_questions_steal_fd(HvpQuestions *self);

/* Whether command @execute with @arguments (NULL: none) is on the list. */
bool hvp_questions_are_allowed(const char *execute, JsonObject *arguments);
