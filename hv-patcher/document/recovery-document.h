/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What recover says. */
#pragma once

#include "document/json.h"

/* The document; the caller's. @done is for people, "" where there was nothing to do. */
JsonNode *hvp_recovery_document_new(const char *done);
