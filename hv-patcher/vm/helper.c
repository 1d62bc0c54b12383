/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/helper.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "base/unix-message.h"

static int helper_fd = -1;
static bool is_lost;

void hvp_helper_use(int fd)
{
	helper_fd = fd;
}

bool hvp_helper_is_used(void)
{
	return helper_fd >= 0;
}

bool hvp_helper_is_lost(void)
{
	return is_lost;
}

/* --- messages --- */

/* A message of exactly @length_bytes; else -1 and errno, EPROTO: of another length. 0: the end. */
static ssize_t receive(int fd, void *ret_bytes, gsize length_bytes, int *ret_fd)
{
	ssize_t got = hvp_unix_message_receive(fd, ret_bytes, length_bytes, 0, ret_fd);

	if (got == 0 || got == (ssize_t)length_bytes)
		return got;
	if (*ret_fd >= 0)
		close(*ret_fd);
	*ret_fd = -1;
	if (got > 0 || errno == EMSGSIZE)
		errno = EPROTO;
	return -1;
}

static bool send_message(int fd, const void *bytes, gsize length_bytes, int attached_fd,
			 int flags)
{
	return hvp_unix_message_send(fd, bytes, length_bytes, attached_fd, flags) ==
	       (ssize_t)length_bytes;
}

/* --- who asks --- */

static bool take_failure(HvpHelperAnswer *answer, GError **error)
{
	g_autofree char *message = NULL;

	if (answer->failed == 0)
		return true;
	answer->message[sizeof answer->message - 1] = 0;
	message = hvp_text_escape(answer->message, HVP_TEXT_TERMINATED, sizeof answer->message);
	return hvp_error_set(error, MIN(answer->code, HVP_ERROR_INTERNAL), "%s", message);
}

static bool exchange(const HvpHelperRequest *request, HvpHelperAnswer *answer, int *ret_fd,
		     GError **error)
{
	if (send_message(helper_fd, request, sizeof *request, -1, 0) &&
	    receive(helper_fd, answer, sizeof *answer, ret_fd) > 0)
		return take_failure(answer, error);
	is_lost = true;
	return hvp_error_set(error, HVP_ERROR_INTERNAL, "the privileged half has ended");
}

bool hvp_helper_ask(HvpHelperQuestion question, guint64 number, HvpHelperAnswer *ret_answer,
		    int *ret_fd, GError **error)
{
	HvpHelperRequest request = { .question = question, .number = number };
	HvpHelperAnswer answer = { 0 };
	int fd = -1;
	bool ok = exchange(&request, &answer, &fd, error);

	if (fd >= 0 && (!ok || ret_fd == NULL)) {
		close(fd);
		fd = -1;
	}
	if (ok && ret_fd != NULL)
		*ret_fd = fd;
	if (ok && ret_answer != NULL)
		*ret_answer = answer;
	return ok;
}

int hvp_helper_open(HvpHelperQuestion question, guint64 number, GError **error)
{
	int fd = -1;

	if (hvp_helper_ask(question, number, NULL, &fd, error) && fd < 0)
		hvp_error_set(error, HVP_ERROR_INTERNAL, "no descriptor came");
	return fd;
}

bool hvp_helper_read(HvpHelperQuestion question, guint64 number, guint64 *ret_number,
		     GError **error)
{
	HvpHelperAnswer answer;

	if (!hvp_helper_ask(question, number, &answer, NULL, error))
		return false;
	*ret_number = answer.number;
	return true;
}

/* --- the helper --- */

HvpHelperReceived hvp_helper_receive(int fd, HvpHelperRequest *ret_request)
{
	int attached_fd;
	ssize_t got = receive(fd, ret_request, sizeof *ret_request, &attached_fd);

	if (attached_fd >= 0)
		close(attached_fd);
	if (got > 0)
		return HVP_HELPER_GOT;
	return got < 0 && errno == EPROTO ? HVP_HELPER_GARBAGE : HVP_HELPER_ENDED;
}

bool hvp_helper_answer(int fd, const HvpHelperAnswer *answer, int attached_fd)
{
	return send_message(fd, answer, sizeof *answer, attached_fd, MSG_DONTWAIT);
}

void hvp_helper_set_failed(HvpHelperAnswer *answer, const GError *reason)
{
	answer->failed = 1;
	answer->code = reason->domain == HVP_ERROR ? (guint32)reason->code : HVP_ERROR_INTERNAL;
	g_strlcpy(answer->message, reason->message, sizeof answer->message);
}
