/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rehearse/html.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

#define MAX_TEXT_BYTES 4096U
#define BYTES_SHOWN 10U

static const char head[] =
	"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
	"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
	"style-src 'unsafe-inline'\">\n"
	"<title>hvpatch rehearsal</title>\n<style>\n"
	"body{font:15px/1.45 sans-serif;margin:2em auto;max-width:64em;padding:0 1em;color:#222}\n"
	"h2{margin-top:2em}table{border-collapse:collapse;margin:.5em 0}\n"
	"th,td{padding:.15em .8em .15em 0;text-align:left;vertical-align:top}\n"
	"th{border-bottom:1px solid #999}td.n,th.n{text-align:right}\n"
	"pre,code,table.code{font:13px/1.4 monospace}table.code td{white-space:pre}\n"
	"pre{background:#f4f4f4;padding:.6em;overflow:auto}\n"
	".pass,.fail{display:inline-block;padding:.2em .8em;color:#fff;font-weight:bold}\n"
	".pass{background:#18732d}.fail{background:#b3261e}\n"
	"tr.ran{background:#e2f3e5}tr.never{background:#fbe3e1}tr.padding{color:#999}\n"
	"tr.first td{border-top:1px solid #777}.bar{background:#fbe3e1;width:8em;height:.8em;"
	"display:inline-block}.bar i{background:#18732d;height:.8em;display:block}\n"
	"</style></head><body>\n";

/* Appends foreign text: unprintable bytes as \xNN, then what HTML would read as its own. */
static void add_text(GString *page, const char *text)
{
	g_autofree char *printable = hvp_text_escape(text ? text : "", HVP_TEXT_TERMINATED,
						     MAX_TEXT_BYTES);
	g_autofree char *escaped = g_markup_escape_text(printable, -1);

	g_string_append(page, escaped);
}

/* The same for text of several lines. */
static void add_lines(GString *page, const char *text)
{
	g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);

	for (guint i = 0; lines[i] != NULL; i++) {
		add_text(page, lines[i]);
		if (lines[i + 1] != NULL)
			g_string_append_c(page, '\n');
	}
}

static void add_cell(GString *page, const char *text)
{
	g_string_append(page, "<td>");
	add_text(page, text);
	g_string_append(page, "</td>");
}

static void add_number(GString *page, guint64 number)
{
	g_string_append_printf(page, "<td class=\"n\">%" G_GUINT64_FORMAT "</td>", number);
}

static void add_list(GString *page, const char *title, const GPtrArray *texts)
{
	if (texts->len == 0)
		return;
	g_string_append_printf(page, "<h2>%s</h2>\n<ul>\n", title);
	for (guint i = 0; i < texts->len; i++) {
		g_string_append(page, "<li>");
		add_text(page, g_ptr_array_index(texts, i));
		g_string_append(page, "</li>\n");
	}
	g_string_append(page, "</ul>\n");
}

static void add_fact(GString *page, const char *name, const char *value)
{
	g_string_append_printf(page, "<tr><th>%s</th>", name);
	add_cell(page, value);
	g_string_append(page, "</tr>\n");
}

static void add_summary(GString *page, const HvpReport *report)
{
	g_autofree char *guest = g_strdup_printf("QEMU %s, emulated, %u vCPUs",
						 report->qemu ? report->qemu : "?",
						 report->vcpu_count);
	g_autofree char *rounds = g_strdup_printf("%u of %u", report->rounds->len,
						  report->wanted_rounds);
	g_autofree char *took = g_strdup_printf("%.1f s",
						(double)report->total_usec / G_USEC_PER_SEC);

	g_string_append(page, "<h1>Rehearsal of ");
	add_text(page, report->patch);
	g_string_append_printf(page, "</h1>\n<p class=\"%s\">verdict: %s</p>\n<table>\n",
			       report->passed ? "pass" : "fail", report->passed ? "pass" : "fail");
	add_fact(page, "kernel", report->kernel);
	add_fact(page, "patch", report->patch);
	add_fact(page, "SHA-256", report->sha256);
	add_fact(page, "made as", report->format);
	add_fact(page, "guest", guest);
	add_fact(page, "rounds", rounds);
	add_fact(page, "took", took);
	g_string_append(page, "</table>\n");
	add_list(page, "Why it failed", report->reasons);
	add_list(page, "To be known", report->notes);
}

static void add_check(GString *page, const HvpCheck *check)
{
	if (check == NULL)
		return;
	g_string_append(page, "<h2>Can it be applied?</h2>\n<table>\n<tr><th>item</th><th>ok</th>"
			      "<th>why</th></tr>\n");
	for (guint i = 0; i < check->items->len; i++) {
		const HvpCheckItem *item = &g_array_index(check->items, HvpCheckItem, i);

		g_string_append(page, "<tr>");
		add_cell(page, item->item);
		add_cell(page, item->ok ? "ok" : item->accepted ? "accepted" : "no");
		add_cell(page, item->why);
		g_string_append(page, "</tr>\n");
	}
	g_string_append(page, "</table>\n");
}

static void add_result(GString *page, const HvpResult *result)
{
	if (result == NULL) {
		g_string_append(page, "<td>not reached</td><td></td><td></td>");
		return;
	}
	add_cell(page, hvp_result_kind_name(result->kind));
	add_number(page, (guint64)result->pause_usec);
	add_number(page, result->attempts);
}

static void add_status(GString *page, int status)
{
	if (status == HVP_REPORT_NOT_RUN)
		add_cell(page, "no end");
	else
		add_number(page, (guint64)status);
}

static void add_blockers(GString *page, const HvpResult *result)
{
	const GPtrArray *blockers = result ? hvp_report_blockers(result) : NULL;

	for (guint i = 0; blockers != NULL && i < blockers->len; i++) {
		const HvpBlocker *blocker = g_ptr_array_index(blockers, i);

		g_string_append(page, "<p>In the way: ");
		add_text(page, blocker->comm);
		g_string_append_printf(page, " (pid %d): ", blocker->pid);
		add_text(page, blocker->function);
		g_string_append(page, "</p>\n<pre>");
		for (guint j = 0; j < blocker->stack->len; j++) {
			add_text(page, g_ptr_array_index(blocker->stack, j));
			g_string_append_c(page, '\n');
		}
		g_string_append(page, "</pre>\n");
	}
}

static void add_rounds(GString *page, const HvpReport *report)
{
	if (report->rounds->len == 0)
		return;
	g_string_append(page, "<h2>Rounds</h2>\n<table>\n<tr><th>round</th><th>apply</th>"
			      "<th class=\"n\">pause, us</th><th class=\"n\">attempts</th>"
			      "<th class=\"n\">workload</th><th>revert</th>"
			      "<th class=\"n\">pause, us</th><th class=\"n\">attempts</th>"
			      "<th class=\"n\">workload after</th></tr>\n");
	for (guint i = 0; i < report->rounds->len; i++) {
		const HvpReportRound *round = g_ptr_array_index(report->rounds, i);

		g_string_append_printf(page, "<tr><td>%u</td>", i + 1);
		add_result(page, round->apply);
		add_status(page, round->status);
		add_result(page, round->revert);
		add_status(page, round->status_after);
		g_string_append(page, "</tr>\n");
	}
	g_string_append(page, "</table>\n");
	for (guint i = 0; i < report->rounds->len; i++) {
		const HvpReportRound *round = g_ptr_array_index(report->rounds, i);

		add_blockers(page, round->apply);
		add_blockers(page, round->revert);
		if (round->output == NULL || round->output[0] == 0)
			continue;
		g_string_append_printf(page,
				       "<details><summary>what the workload printed in round "
				       "%u</summary>\n<pre>",
				       i + 1);
		add_lines(page, round->output);
		g_string_append(page, "</pre></details>\n");
	}
}

static const char *why_no_violations(const HvpReport *report)
{
	if (report->functions->len == 0)
		return "Nothing was switched.";
	if (report->violation_count > 0)
		return "Code ran that had been switched away; where is not known.";
	if (report->is_incomplete)
		return "Not all of the code was watched; of what was, no instruction ran that had "
		       "been switched away.";
	return "No instruction ran that had been switched away.";
}

static void add_violations(GString *page, const HvpReport *report)
{
	const GPtrArray *violations = report->violations;

	g_string_append(page, "<h2>Violations</h2>\n");
	if (violations->len == 0) {
		g_string_append_printf(page, "<p>%s</p>\n", why_no_violations(report));
		return;
	}
	g_string_append(page, "<table>\n<tr><th class=\"n\">round</th><th>address</th>"
			      "<th>instruction of</th><th class=\"n\">vCPU</th>"
			      "<th class=\"n\">us after the switch</th>"
			      "<th class=\"n\">times</th></tr>\n");
	for (guint i = 0; i < violations->len; i++) {
		const HvpReportViolation *violation = g_ptr_array_index(violations, i);

		g_string_append(page, "<tr>");
		add_number(page, violation->round);
		g_string_append_printf(page, "<td><code>%016" G_GINT64_MODIFIER "x</code></td>",
				       violation->address.value);
		add_cell(page, violation->place);
		add_number(page, violation->vcpu);
		add_number(page, violation->usec);
		add_number(page, violation->count);
		g_string_append(page, "</tr>\n");
	}
	g_string_append(page, "</table>\n");
}

static void add_instruction(GString *page, const HvpReportFunction *function, guint index,
			    const char *kind, bool is_first)
{
	const HvpBlocksInstruction *instruction = &g_array_index(function->blocks->instructions,
								 HvpBlocksInstruction, index);
	guint length = instruction->decoded.length_bytes;
	g_autofree char *place = hvp_report_place(function, instruction->address);
	g_autofree char *text = hvp_instructions_format(instruction->bytes, length,
							instruction->address);
	const char *note = function->annotations ? g_ptr_array_index(function->annotations, index)
						 : NULL;

	g_string_append_printf(page, "<tr class=\"%s%s\">", kind, is_first ? " first" : "");
	add_number(page, instruction->count);
	add_cell(page, place);
	g_string_append(page, "<td>");
	for (guint i = 0; i < MIN(length, BYTES_SHOWN); i++)
		g_string_append_printf(page, "%02x ", instruction->bytes[i]);
	g_string_append_printf(page, "%s</td>", length > BYTES_SHOWN ? "..." : "");
	add_cell(page, text);
	add_cell(page, note);
	g_string_append(page, "</tr>\n");
}

static void add_code(GString *page, const HvpReportFunction *function)
{
	const HvpBlocks *blocks = function->blocks;

	g_string_append(page, "<table class=\"code\">\n<tr><th class=\"n\">ran</th><th>place</th>"
			      "<th>bytes</th><th>instruction</th><th></th></tr>\n");
	for (guint i = 0; i < blocks->blocks->len; i++) {
		const HvpBlocksBlock *block = &g_array_index(blocks->blocks, HvpBlocksBlock, i);
		const char *kind = block->is_padding		   ? "padding"
				   : hvp_blocks_ran(blocks, block) ? "ran"
								   : "never";

		for (guint j = 0; j < block->count; j++)
			add_instruction(page, function, block->first + j, kind, j == 0);
	}
	g_string_append(page, "</table>\n");
}

static void add_function(GString *page, const HvpReportFunction *function)
{
	guint total, executed;

	g_string_append(page, "<h2>");
	add_text(page, function->name);
	g_string_append(page, " <small>(");
	add_text(page, function->object);
	g_string_append_printf(page,
			       ")</small></h2>\n<p>Old code: called %" G_GUINT64_FORMAT
			       " times without the patch; with it %" G_GUINT64_FORMAT
			       " calls went to the new code, which was entered %" G_GUINT64_FORMAT
			       " times.</p>\n",
			       function->old_calls, function->redirected, function->new_calls);
	if (function->blocks == NULL) {
		g_string_append(page, "<p>Coverage is not known: ");
		add_text(page, function->why_unknown);
		g_string_append(page, "</p>\n");
		return;
	}
	total = hvp_blocks_total(function->blocks);
	executed = hvp_blocks_executed(function->blocks);
	g_string_append_printf(page,
			       "<p>Blocks of the new code that ran: %u of %u <span class=\"bar\">"
			       "<i style=\"width:%u%%\"></i></span></p>\n",
			       executed, total, total ? executed * 100 / total : 0);
	add_code(page, function);
}

static void add_messages(GString *page, const HvpMessages *messages)
{
	g_string_append(page, "<h2>Kernel messages</h2>\n");
	if (messages->messages->len == 0) {
		g_string_append(page, "<p>None.</p>\n");
		return;
	}
	g_string_append(page, "<table>\n<tr><th>level</th><th>counted</th><th>message</th></tr>\n");
	for (guint i = 0; i < messages->messages->len; i++) {
		const HvpMessage *message = g_ptr_array_index(messages->messages, i);

		g_string_append_printf(page, "<tr class=\"%s\">",
				       message->kind == HVP_MESSAGE_AGAINST ? "never" : "padding");
		add_number(page, message->level);
		add_cell(page, hvp_messages_kind_name(message->kind));
		add_cell(page, message->text);
		g_string_append(page, "</tr>\n");
	}
	g_string_append(page, "</table>\n");
	if (messages->dropped > 0)
		g_string_append_printf(page, "<p>and %u more.</p>\n", messages->dropped);
}

char *hvp_html_make(const HvpReport *report)
{
	GString *page = g_string_new(head);

	add_summary(page, report);
	add_rounds(page, report);
	add_violations(page, report);
	for (guint i = 0; i < report->functions->len; i++)
		add_function(page, g_ptr_array_index(report->functions, i));
	add_messages(page, report->messages);
	add_check(page, report->check);
	g_string_append(page, "</body></html>\n");
	return g_string_free(page, FALSE);
}

/* --- the file --- */

/* Always false. Never PERMISSION: its exit status would say that the patch is refused. */
static bool set_file_error(const char *path, int errno_value, GError **error)
{
	return hvp_error_set(error, errno_value == ENOENT ? HVP_ERROR_NOT_FOUND : HVP_ERROR_FAULT,
			     "%s: %s", path, g_strerror(errno_value));
}

/* An empty file beside @path, *@ret_name (the caller's), that may take its place; or -1. */
static int make_beside(const char *path, char **ret_name, GError **error)
{
	g_autofree char *name = g_strconcat(path, ".XXXXXX", NULL);
	struct stat status;
	int fd;

	/* The place of a device is not taken. */
	if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
		hvp_error_set(error, HVP_ERROR_INVALID_ARGUMENT, "%s: not a regular file", path);
		return -1;
	}
	fd = g_mkstemp_full(name, O_WRONLY | O_CLOEXEC, 0666);
	if (fd < 0)
		set_file_error(path, errno, error);
	else
		*ret_name = g_steal_pointer(&name);
	return fd;
}

bool hvp_html_check(const char *path, GError **error)
{
	g_autofree char *name = NULL;
	int fd = make_beside(path, &name, error);

	if (fd < 0)
		return false;
	close(fd);
	unlink(name);
	return true;
}

/* False with errno set. */
static bool fill(int fd, const char *page)
{
	gsize length_bytes = strlen(page), done = 0;

	while (done < length_bytes) {
		ssize_t count = write(fd, page + done, length_bytes - done);

		if (count > 0)
			done += (gsize)count;
		else if (count == 0 || errno != EINTR)
			return false;
	}
	return fsync(fd) == 0;
}

bool hvp_html_write(const HvpReport *report, const char *path, GError **error)
{
	g_autofree char *page = hvp_html_make(report);
	g_autofree char *name = NULL;
	int fd = make_beside(path, &name, error);
	bool ok;

	if (fd < 0)
		return false;
	ok = fill(fd, page) && rename(name, path) == 0;
	if (!ok) {
		set_file_error(path, errno, error);
		unlink(name);
	}
	close(fd);
	return ok;
}
