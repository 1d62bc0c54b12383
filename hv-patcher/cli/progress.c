/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"

#define DEFAULT_COLUMNS 80U
#define MIN_COLUMNS 20U
#define MAX_COLUMNS 200U

HvpCliProgress hvp_cli_progress_begin(void)
{
	return (HvpCliProgress){ .is_terminal = isatty(STDERR_FILENO) };
}

static guint terminal_columns(void)
{
	struct winsize size = { 0 };

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
		return DEFAULT_COLUMNS;
	return CLAMP(size.ws_col, MIN_COLUMNS, MAX_COLUMNS);
}

static char *format(const char *step, guint attempt, guint blockers)
{
	GString *text = g_string_new(step);

	if (attempt > 1)
		g_string_append_printf(text, ", attempt %u", attempt);
	if (blockers > 0)
		g_string_append_printf(text, ", %u task%s in the way", blockers,
				       blockers == 1 ? "" : "s");
	return g_string_free(text, FALSE);
}

void hvp_cli_progress_show(const char *step, guint attempt, guint blockers, void *user_data)
{
	HvpCliProgress *self = user_data;
	g_autofree char *text = NULL;
	g_autofree char *line = NULL;
	guint columns;

	if (!self->is_terminal)
		return;
	text = format(step, attempt, blockers);
	line = hvp_text_escape(text, HVP_TEXT_TERMINATED, terminal_columns() - 1);
	columns = (guint)strlen(line);
	/* Blanks wipe what a longer line before left. */
	fprintf(stderr, "\r%-*s", (int)self->shown_columns, line);
	fflush(stderr);
	self->shown_columns = columns;
}

void hvp_cli_progress_end(HvpCliProgress *self)
{
	if (self->shown_columns == 0)
		return;
	fprintf(stderr, "\r%*s\r", (int)self->shown_columns, "");
	fflush(stderr);
	self->shown_columns = 0;
}
