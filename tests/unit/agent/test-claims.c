/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/claims.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BOOT "6c1d3c6e-0a35-4b5e-9d61-2a8d7f1f0c11"
#define OTHER_BOOT "7c1d3c6e-0a35-4b5e-9d61-2a8d7f1f0c11"
#define THREAD                                                                   \
	"{\"pid\":12,\"comm\":\"kworker/0:1\",\"cpus\":\"0\",\"per_cpu\":false," \
	"\"state\":\"idle-worker\",\"voluntary\":123,\"involuntary\":4,\"wchan\":\"worker_thread\"}"

static bool add(HvpClaims *claims, const char *text, GError **error)
{
	g_autoptr(JsonNode) node = json_from_string(text, NULL);

	g_assert_nonnull(node);
	return hvp_claims_add(claims, node, error);
}

static char *around(const char *threads)
{
	return g_strdup_printf("{\"boot_id\":\"%s\",\"kthreads\":[%s]}", BOOT, threads);
}

static void test_read(void)
{
	g_autoptr(HvpClaims) claims = hvp_claims_new();
	g_autoptr(GError) error = NULL;
	g_autofree char *text = around(THREAD);
	const HvpClaim *claim;

	g_assert_true(add(claims, text, &error));
	claim = hvp_claims_find(claims, 12);
	g_assert_nonnull(claim);
	g_assert_cmpint(claim->state, ==, HVP_CLAIM_IDLE_WORKER);
	g_assert_cmpuint(claim->voluntary, ==, 123);
	g_assert_cmpuint(claim->involuntary, ==, 4);
	g_assert_cmpstr(claim->comm, ==, "kworker/0:1");
	g_assert_cmpstr(claim->wchan, ==, "worker_thread");
	g_assert_cmpstr(claim->cpus, ==, "0");
	g_assert_false(claim->per_cpu);
	g_assert_cmpstr(hvp_claims_get_boot_id(claims), ==, BOOT);
	g_assert_null(hvp_claims_find(claims, 13));
}

/* Ended, ended and come again, and what is not told again stays as it was. */
static void test_newer(void)
{
	g_autoptr(HvpClaims) claims = hvp_claims_new();
	g_autofree char *text = around(THREAD);

	g_assert_true(add(claims, text, NULL));
	g_assert_true(
		add(claims, "{\"boot_id\":\"" BOOT "\",\"kthreads\":[],\"gone\":[12,99]}", NULL));
	g_assert_cmpint(hvp_claims_find(claims, 12)->state, ==, HVP_CLAIM_GONE);
	g_assert_true(add(claims,
			  "{\"boot_id\":\"" BOOT "\",\"kthreads\":[" THREAD "],\"gone\":[12]}",
			  NULL));
	g_assert_cmpint(hvp_claims_find(claims, 12)->state, ==, HVP_CLAIM_IDLE_WORKER);
	g_assert_cmpint(hvp_claims_find(claims, 99)->state, ==, HVP_CLAIM_GONE);
	g_assert_cmpuint(hvp_claims_count(claims), ==, 2);
}

static void test_escaped(void)
{
	g_autoptr(HvpClaims) claims = hvp_claims_new();
	g_autofree char *text = around("{\"pid\":1,\"comm\":\"\\u001b[2J\\n\",\"state\":\"parked\","
				       "\"voluntary\":0,\"involuntary\":0,\"wchan\":\"\","
				       "\"cpus\":\"\",\"per_cpu\":false}");

	g_assert_true(add(claims, text, NULL));
	g_assert_cmpstr(hvp_claims_find(claims, 1)->comm, ==, "\\x1b[2J\\x0a");
}

/* Each member once missing, of another type, and out of range. */
static void test_malformed_thread(void)
{
	static const struct {
		const char *from, *to;
	} breaks[] = {
		{ "\"pid\":12,", "" },
		{ "\"pid\":12", "\"pid\":0" },
		{ "\"pid\":12", "\"pid\":-1" },
		{ "\"pid\":12", "\"pid\":4294967308" },
		{ "\"pid\":12", "\"pid\":\"12\"" },
		{ "\"pid\":12", "\"pid\":1e999" },
		{ "\"pid\":12", "\"pid\":null" },
		{ "\"comm\":\"kworker/0:1\",", "" },
		{ "\"kworker/0:1\"", "7" },
		{ "\"state\":\"idle-worker\",", "" },
		{ "idle-worker", "gone" },
		{ "idle-worker", "Idle-worker" },
		{ "idle-worker", "" },
		{ "\"voluntary\":123,", "" },
		{ "\"voluntary\":123", "\"voluntary\":-1" },
		{ "\"voluntary\":123", "\"voluntary\":1.5" },
		{ "\"involuntary\":4,", "" },
		{ "\"involuntary\":4", "\"involuntary\":true" },
		{ "\"wchan\":\"worker_thread\"", "\"wchan\":[]" },
		{ ",\"wchan\":\"worker_thread\"", "" },
		{ "\"cpus\":\"0\",", "" },
		{ "\"cpus\":\"0\"", "\"cpus\":0" },
		{ "\"per_cpu\":false,", "" },
		{ "\"per_cpu\":false", "\"per_cpu\":0" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(breaks); i++) {
		g_autoptr(HvpClaims) claims = hvp_claims_new();
		g_autoptr(GError) error = NULL;
		g_autoptr(GString) thread = g_string_new(THREAD);
		g_autofree char *text = NULL;

		g_assert_cmpuint(g_string_replace(thread, breaks[i].from, breaks[i].to, 1), ==, 1);
		text = around(thread->str);
		g_assert_false(add(claims, text, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
		g_assert_cmpuint(hvp_claims_count(claims), ==, 0);
	}
}

static void test_malformed_message(void)
{
	static const char *const texts[] = {
		"[]",
		"{}",
		"{\"boot_id\":\"" BOOT "\"}",
		"{\"boot_id\":\"" BOOT "\",\"kthreads\":{}}",
		"{\"boot_id\":\"" BOOT "\",\"kthreads\":[7]}",
		"{\"boot_id\":\"\",\"kthreads\":[]}",
		"{\"boot_id\":\"6c1d3c6e\",\"kthreads\":[]}",
		"{\"boot_id\":7,\"kthreads\":[]}",
		"{\"kthreads\":[]}",
		"{\"boot_id\":\"" BOOT "\",\"kthreads\":[],\"gone\":7}",
		"{\"boot_id\":\"" BOOT "\",\"kthreads\":[],\"gone\":[\"7\"]}",
		"{\"boot_id\":\"" BOOT "\",\"kthreads\":[],\"gone\":[0]}",
		"{\"boot_id\":\"" BOOT "\",\"kthreads\":[" THREAD "," THREAD "]}",
		"{\"boot_id\":\"" OTHER_BOOT "\",\"kthreads\":[]}",
	};
	g_autoptr(HvpClaims) claims = hvp_claims_new();

	g_assert_true(add(claims, "{\"boot_id\":\"" BOOT "\",\"kthreads\":[]}", NULL));
	for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_false(add(claims, texts[i], &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
		g_assert_cmpuint(hvp_claims_count(claims), ==, 0);
	}
}

static void test_too_many(void)
{
	g_autoptr(HvpClaims) claims = hvp_claims_new();
	g_autoptr(GError) error = NULL;
	guint32 pid = 1;
	bool ok = true;

	while (ok && pid < HVP_CLAIMS_MAX * 2) {
		g_autoptr(GString) text = g_string_new("{\"boot_id\":\"" BOOT
						       "\",\"kthreads\":[],\"gone\":[1");

		for (guint i = 0; i < 4096; i++)
			g_string_append_printf(text, ",%u", ++pid);
		g_string_append(text, "]}");
		ok = add(claims, text->str, &error);
	}
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	g_assert_cmpuint(hvp_claims_count(claims), <=, HVP_CLAIMS_MAX);
}

/* --- pages --------------------------------------------------------------------- */

/* Answers to sync, guest-info and then the pages, in this order, whatever is asked. */
typedef struct {
	int fd;
	const char *const *pages;
	GThread *thread;
} Peer;

static void reply(Peer *self, const char *request, const char *value)
{
	g_autoptr(JsonNode)
		node = json_from_string(request[0] == '\xff' ? request + 1 : request, NULL);
	JsonObject *object = json_node_get_object(node);
	g_autofree char *text = NULL;

	if (request[0] == '\xff')
		text = g_strdup_printf(
			"\xff{\"return\":%" G_GINT64_FORMAT "}\n",
			json_object_get_int_member(
				json_object_get_object_member(object, "arguments"), "id"));
	else
		text = g_strdup_printf("{\"return\":%s,\"id\":%" G_GINT64_FORMAT "}\n", value,
				       json_object_get_int_member(object, "id"));
	(void)!send(self->fd, text, strlen(text), MSG_NOSIGNAL);
}

static gpointer serve(gpointer data)
{
	Peer *self = data;
	g_autoptr(GString) line = g_string_new(NULL);
	guint page = 0;
	char byte;

	while (read(self->fd, &byte, 1) == 1) {
		if (byte != '\n') {
			g_string_append_c(line, byte);
			continue;
		}
		if (strstr(line->str, "guest-info") != NULL)
			reply(self, line->str,
			      "{\"version\":\"1\",\"protocol\":1,\"supported_commands\":[]}");
		else if (strstr(line->str, "get-kthreads") != NULL)
			reply(self, line->str, self->pages[page] ? self->pages[page++] : "{}");
		else
			reply(self, line->str, "0");
		g_string_truncate(line, 0);
	}
	close(self->fd);
	return NULL;
}

static bool ask_all(const char *const *pages, HvpClaims *claims, GError **error)
{
	int fds[2];
	Peer peer = { .pages = pages };
	HvpAgent *agent;
	bool ok;

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	peer.fd = fds[1];
	peer.thread = g_thread_new("peer", serve, &peer);
	agent = hvp_agent_new_from_fd(fds[0], hvp_deadline_in(20 * G_USEC_PER_SEC), NULL);
	g_assert_nonnull(agent);
	ok = hvp_claims_ask_all(claims, agent, hvp_deadline_in(20 * G_USEC_PER_SEC), error);
	hvp_agent_free(agent);
	g_thread_join(peer.thread);
	return ok;
}

static void test_pages(void)
{
	static const char *const pages[] = {
		"{\"boot_id\":\"" BOOT "\",\"kthreads\":[],\"next\":12}",
		"{\"boot_id\":\"" BOOT "\",\"kthreads\":[" THREAD "],\"next\":40}",
		"{\"boot_id\":\"" BOOT "\",\"kthreads\":[],\"next\":0}", NULL
	};
	g_autoptr(HvpClaims) claims = hvp_claims_new();
	g_autoptr(GError) error = NULL;

	g_assert_true(ask_all(pages, claims, &error));
	g_assert_cmpuint(hvp_claims_count(claims), ==, 1);
}

static void test_pages_that_do_not_end(void)
{
	static const char *const lists[][3] = {
		{ "{\"boot_id\":\"" BOOT "\",\"kthreads\":[],\"next\":12}",
		  "{\"boot_id\":\"" BOOT "\",\"kthreads\":[],\"next\":12}", NULL },
		{ "{\"boot_id\":\"" BOOT "\",\"kthreads\":[],\"next\":12}",
		  "{\"boot_id\":\"" BOOT "\",\"kthreads\":[],\"next\":3}", NULL },
		{ "{\"boot_id\":\"" BOOT "\",\"kthreads\":[]}", NULL, NULL },
		{ "{\"boot_id\":\"" BOOT "\",\"kthreads\":[],\"next\":-1}", NULL, NULL },
		{ "7", NULL, NULL },
	};

	for (guint i = 0; i < G_N_ELEMENTS(lists); i++) {
		g_autoptr(HvpClaims) claims = hvp_claims_new();
		g_autoptr(GError) error = NULL;

		g_assert_false(ask_all(lists[i], claims, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/claims/thread-READ", test_read);
	g_test_add_func("/claims/newer-words-REPLACE", test_newer);
	g_test_add_func("/claims/names-ESCAPED", test_escaped);
	g_test_add_func("/claims/malformed-thread-REFUSED", test_malformed_thread);
	g_test_add_func("/claims/malformed-message-REFUSED", test_malformed_message);
	g_test_add_func("/claims/too-many-REFUSED", test_too_many);
	g_test_add_func("/claims/pages-READ", test_pages);
	g_test_add_func("/claims/pages-without-end-REFUSED", test_pages_that_do_not_end);
	return g_test_run();
}
