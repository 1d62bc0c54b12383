/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stddef.h>

/* The length in bytes (1 to 4) of the well-formed character at @text; 0: there is none. */
size_t agent_utf8_length(const char *text, size_t size_bytes);
