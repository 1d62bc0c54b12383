/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a rehearsal's report looks: one JSON object, or tables. */
#pragma once

#include "cli/cli.h"
#include "rehearse/report.h"

void hvp_cli_rehearse_show_json(const HvpReport *report);
void hvp_cli_rehearse_show_table(const HvpReport *report);
