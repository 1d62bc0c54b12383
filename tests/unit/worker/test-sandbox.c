/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a working half can still take of the host's memory, tried by one in its sandbox. */
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unix-message.h"
#include "errand/worker.h"
#include "worker/channel.h"

#define CPU_SECONDS 60
#define CONFINED 0
#define NOT_CONFINED 99

/* Does @act, which returns an exit status, in the sandbox; the wait status. */
static int confine(int (*act)(HvpChannel *channel), HvpChannel *channel)
{
	int fds[] = { hvp_channel_get_fd(channel), hvp_channel_get_attachment_fd(channel) };
	HvpSandbox sandbox = { .parent = getpid(),
			       .cpu_seconds = CPU_SECONDS,
			       .fds = fds,
			       .fd_count = G_N_ELEMENTS(fds) };
	int status;
	pid_t child;

	g_assert_cmpint(fds[0], <, fds[1]);
	g_assert_true(hvp_sandbox_find_user(&sandbox.user, NULL));
	child = fork();
	if (child == 0)
		_exit(hvp_sandbox_enter(&sandbox, NULL) ? act(channel) : NOT_CONFINED);
	g_assert_cmpint(waitpid(child, &status, 0), ==, child);
	return status;
}

static HvpChannel *channel_new(int *ret_other_fd)
{
	int ends[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), ==, 0);
	*ret_other_fd = ends[1];
	return hvp_channel_new(ends[0]);
}

static int confine_alone(int (*act)(HvpChannel *channel))
{
	int other_fd;
	g_autoptr(HvpChannel) channel = channel_new(&other_fd);
	int status = confine(act, channel);

	close(other_fd);
	return status;
}

/* --- memory that counts for nobody --- */

static int make_memory_file(HvpChannel *channel)
{
	(void)channel;
	return memfd_create("more", MFD_CLOEXEC) >= 0 ? CONFINED : errno;
}

static int make_shared_memory(HvpChannel *channel)
{
	(void)channel;
	return shmget(IPC_PRIVATE, 1 << 20, IPC_CREAT | 0600) >= 0 ? CONFINED : errno;
}

static void test_memory_beside_KILLED(void)
{
	int (*const acts[])(HvpChannel *) = { make_memory_file, make_shared_memory };

	for (guint i = 0; i < G_N_ELEMENTS(acts); i++) {
		int status = confine_alone(acts[i]);

		g_assert_true(WIFSIGNALED(status));
		g_assert_cmpint(WTERMSIG(status), ==, SIGSYS);
	}
}

/* The one that it has takes as much as the longest result, by whatever call. */
static int stretch_memory_file(HvpChannel *channel)
{
	int fd = hvp_channel_get_attachment_fd(channel);

	if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR ||
	    ftruncate(fd, HVP_WORKER_MAX_ATTACHED_BYTES) != 0)
		return errno;
	if (ftruncate(fd, HVP_WORKER_MAX_ATTACHED_BYTES + 1) == 0 || errno != EFBIG)
		return NOT_CONFINED;
	return pwrite(fd, "x", 1, HVP_WORKER_MAX_ATTACHED_BYTES) < 0 && errno == EFBIG
		       ? CONFINED
		       : NOT_CONFINED;
}

static void test_memory_file_IS_AS_LONG_AS_A_RESULT(void)
{
	g_assert_cmpint(confine_alone(stretch_memory_file), ==, CONFINED);
}

/* --- what goes on --- */

static JsonNode *long_result_new(void)
{
	g_autofree char *text = g_strnfill(HVP_CHANNEL_MAX_BYTES, 'x');
	JsonObject *object = json_object_new();
	JsonNode *node = json_node_new(JSON_NODE_OBJECT);

	json_object_set_string_member(object, "text", text);
	json_node_take_object(node, object);
	return node;
}

static int send_long_result(HvpChannel *channel)
{
	g_autoptr(JsonNode) result = long_result_new();

	return hvp_channel_send_result(channel, result, 0, NULL) ? CONFINED : NOT_CONFINED;
}

static void test_long_result_IS_ATTACHED(void)
{
	const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	g_autoptr(JsonNode) result = long_result_new();
	g_autofree char *expected = json_to_string(result, FALSE);
	g_autofree char *text = g_malloc0(strlen(expected) + 2);
	int other_fd, fd;
	g_autoptr(HvpChannel) channel = channel_new(&other_fd);
	char message[256] = "";

	g_assert_cmpint(confine(send_long_result, channel), ==, CONFINED);
	g_assert_cmpint(hvp_unix_message_receive(other_fd, message, sizeof message - 1, 0, &fd), >,
			0);
	g_assert_cmpstr(message, ==,
			"{\"result\":null,\"attached\":true,\"exit\":0,\"error\":null}");
	g_assert_cmpint(fcntl(fd, F_GET_SEALS), ==, seals);
	g_assert_cmpint(pread(fd, text, strlen(expected) + 1, 0), ==, (int)strlen(expected));
	g_assert_cmpstr(text, ==, expected);
	close(fd);
	close(other_fd);
}

/* --- who goes first --- */

/* Read by the parent: in there no file is opened any more. */
static void test_oom_score_IS_THE_MOST(void)
{
	g_autofree char *before = NULL;
	g_autofree char *path = NULL;
	g_autofree char *text = NULL;
	int other_fd;
	g_autoptr(HvpChannel) channel = channel_new(&other_fd);
	int fds[] = { hvp_channel_get_fd(channel), other_fd };
	HvpSandbox sandbox = { .parent = getpid(),
			       .cpu_seconds = CPU_SECONDS,
			       .fds = fds,
			       .fd_count = G_N_ELEMENTS(fds) };
	pid_t child;
	char byte;

	g_assert_true(hvp_sandbox_find_user(&sandbox.user, NULL));
	child = fork();
	if (child == 0) {
		if (!hvp_sandbox_enter(&sandbox, NULL))
			_exit(NOT_CONFINED);
		(void)!write(fds[0], "x", 1);
		(void)!read(fds[0], &byte, 1);
		_exit(CONFINED);
	}
	g_assert_cmpint(read(other_fd, &byte, 1), ==, 1);
	path = g_strdup_printf("/proc/%d/oom_score_adj", (int)child);
	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	g_assert_cmpstr(text, ==, "1000\n");
	g_assert_true(g_file_get_contents("/proc/self/oom_score_adj", &before, NULL, NULL));
	g_assert_cmpstr(before, !=, text);
	kill(child, SIGKILL);
	g_assert_cmpint(waitpid(child, NULL, 0), ==, child);
	close(other_fd);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/sandbox/memory-beside-its-own-KILLED", test_memory_beside_KILLED);
	g_test_add_func("/sandbox/memory-file-IS-AS-LONG-AS-A-RESULT",
			test_memory_file_IS_AS_LONG_AS_A_RESULT);
	g_test_add_func("/sandbox/long-result-IS-ATTACHED", test_long_result_IS_ATTACHED);
	g_test_add_func("/sandbox/oom-score-IS-THE-MOST", test_oom_score_IS_THE_MOST);
	return g_test_run();
}
