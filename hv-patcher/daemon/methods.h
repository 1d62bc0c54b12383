/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The methods of org.hvpatch1.Manager; org.hvpatch1.xml says what they do. */
#pragma once

#include "daemon/call.h"

/* What begins the method @name; NULL: there is none. */
HvpCallStep hvp_methods_find(const char *name);
