/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agent/port.h"

#include <string.h>

#include "../vm/scripted-qmp.h"

#define LIST(folder, answer)                                                        \
	{                                                                           \
		"\"execute\":\"qom-list\",\"arguments\":{\"path\":\"" folder "\"}", \
			"{\"return\":" answer ",\"id\":@ID@}\n"                     \
	}
#define GET(path, property, answer)                                       \
	{                                                                 \
		"\"execute\":\"qom-get\",\"arguments\":{\"path\":\"" path \
		"\",\"property\":\"" property "\"}",                      \
			"{\"return\":" answer ",\"id\":@ID@}\n"           \
	}
#define CHARDEVS(answer)                                                                 \
	{                                                                                \
		"\"execute\":\"query-chardev\"", "{\"return\":" answer ",\"id\":@ID@}\n" \
	}
#define A_PORT(name) "{\"name\":\"" name "\",\"type\":\"child<virtserialport>\"}"
#define NAMED "/machine/peripheral"
#define ANONYMOUS "/machine/peripheral-anon"
#define OURS "\"org.hvpatch.agent.0\""
#define PORT "[{\"name\":\"type\",\"type\":\"string\"}," A_PORT("p0") "]"

static bool find(const ScriptedStep *steps, gsize count, char **ret_path, GError **error)
{
	ScriptedQmp server;
	HvpQmp *qmp = hvp_qmp_new_from_fd(scripted_start(&server, steps, count));
	bool ok = hvp_port_find(qmp, hvp_deadline_in(10 * G_USEC_PER_SEC), ret_path, error);

	hvp_qmp_free(qmp);
	scripted_finish(&server);
	return ok;
}

static void assert_path(const ScriptedStep *steps, gsize count, const char *expected)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *path = NULL;

	g_assert_true(find(steps, count, &path, &error));
	g_assert_cmpstr(path, ==, expected);
}

static void test_found(void)
{
	static const ScriptedStep steps[] = {
		LIST(NAMED, PORT),
		GET(NAMED "/p0", "name", OURS),
		GET(NAMED "/p0", "chardev", "\"ch\""),
		CHARDEVS("[{\"label\":\"other\",\"filename\":\"unix:/x,server=on\"},{\"label\":"
			 "\"ch\",\"filename\":\"disconnected:unix:/run/a,b,server=on\"}]"),
	};

	assert_path(steps, G_N_ELEMENTS(steps), "/run/a,b");
}

static void test_found_without_id(void)
{
	static const ScriptedStep steps[] = {
		LIST(NAMED, PORT),
		GET(NAMED "/p0", "name", "\"org.qemu.guest_agent.0\""),
		LIST(ANONYMOUS, "[" A_PORT("device[3]") "]"),
		GET(ANONYMOUS "/device[3]", "name", OURS),
		GET(ANONYMOUS "/device[3]", "chardev", "\"ch\""),
		CHARDEVS("[{\"label\":\"ch\",\"filename\":\"unix:/run/a,server=on\"}]"),
	};

	assert_path(steps, G_N_ELEMENTS(steps), "/run/a");
}

static void test_none(void)
{
	static const ScriptedStep steps[] = {
		LIST(NAMED, "[]"),
		LIST(ANONYMOUS, "[{\"name\":\"d\",\"type\":\"child<virtio-blk-pci>\"}]"),
	};

	assert_path(steps, G_N_ELEMENTS(steps), NULL);
}

/* QEMU itself talks to the port, or something that is no socket to connect to. */
static void test_no_socket(void)
{
	static const char *const chardevs[] = {
		"[]",
		"[{\"label\":\"ch\",\"filename\":\"pty:/dev/pts/3\"}]",
		"[{\"label\":\"ch\",\"filename\":\"unix:\"}]",
		"[{\"label\":\"ch\",\"filename\":\"unix:,server=on\"}]",
		"[{\"label\":\"ch\",\"filename\":\"disconnected:tcp:127.0.0.1:1,server=on\"}]",
		"[{\"label\":\"ch\",\"filename\":\"unix:/run/agent.sock\"}]",
	};

	for (guint i = 0; i < G_N_ELEMENTS(chardevs); i++) {
		g_autofree char *answer = g_strdup_printf("{\"return\":%s,\"id\":@ID@}\n",
							  chardevs[i]);
		const ScriptedStep steps[] = {
			LIST(NAMED, PORT),
			GET(NAMED "/p0", "name", OURS),
			GET(NAMED "/p0", "chardev", "\"ch\""),
			{ "\"execute\":\"query-chardev\"", answer },
		};

		assert_path(steps, G_N_ELEMENTS(steps), NULL);
	}
}

static void check_state(const ScriptedStep *steps, gsize count, HvpPortState expected)
{
	HvpPortState state = HVP_PORT_ABSENT;
	ScriptedQmp server;
	HvpQmp *qmp = hvp_qmp_new_from_fd(scripted_start(&server, steps, count));

	g_assert_true(hvp_port_read_state(qmp, hvp_deadline_in(10 * G_USEC_PER_SEC), &state, NULL));
	hvp_qmp_free(qmp);
	scripted_finish(&server);
	g_assert_cmpint(state, ==, expected);
}

static void test_state(void)
{
	static const ScriptedStep none[] = { LIST(NAMED, "[]"), LIST(ANONYMOUS, "[]") };
	static const struct {
		const char *member;
		HvpPortState expected;
	} states[] = {
		{ "", HVP_PORT_CLOSED },
		{ ",\"frontend-open\":false", HVP_PORT_CLOSED },
		{ ",\"frontend-open\":3", HVP_PORT_CLOSED },
		{ ",\"frontend-open\":true", HVP_PORT_OPEN },
	};

	check_state(none, G_N_ELEMENTS(none), HVP_PORT_ABSENT);
	for (guint i = 0; i < G_N_ELEMENTS(states); i++) {
		g_autofree char *answer = g_strdup_printf(
			"{\"return\":[{\"label\":\"ch\",\"filename\":\"pty\"%s}],\"id\":@ID@}\n",
			states[i].member);
		const ScriptedStep steps[] = {
			LIST(NAMED, PORT),
			GET(NAMED "/p0", "name", OURS),
			GET(NAMED "/p0", "chardev", "\"ch\""),
			{ "\"execute\":\"query-chardev\"", answer },
		};

		check_state(steps, G_N_ELEMENTS(steps), states[i].expected);
	}
}

static void test_refused(void)
{
	static const ScriptedStep steps[] = {
		{ "\"execute\":\"qom-list\",\"arguments\":{\"path\":\"" NAMED "\"}",
		  "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"},\"id\":@ID@}\n" },
	};
	g_autoptr(GError) error = NULL;
	g_autofree char *path = NULL;

	g_assert_false(find(steps, G_N_ELEMENTS(steps), &path, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/port/with-id-FOUND", test_found);
	g_test_add_func("/port/without-id-FOUND", test_found_without_id);
	g_test_add_func("/port/other-devices-NONE", test_none);
	g_test_add_func("/port/no-socket-NONE", test_no_socket);
	g_test_add_func("/port/absent-closed-open-STATE", test_state);
	g_test_add_func("/port/refused-CONFLICT", test_refused);
	return g_test_run();
}
