/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The gdb stub client against scripted stubs: exact packets, and hostile ones. */
#include "vm/gdbstub.h"

#include "scripted-gdb.h"
#include "vm/gdb-packet.h"
#include "vm/gdb-target.h"

#define CHECK(expression)                                                                          \
	do {                                                                                       \
		if (!(expression))                                                                 \
			g_error("%s:%d: %s: %s", __FILE__, __LINE__, #expression,                  \
				error != NULL ? error->message : "");                              \
	} while (0)

#define REG64(name) "<reg name=\"" name "\" bitsize=\"64\"/>"
#define REG32(name) "<reg name=\"" name "\" bitsize=\"32\"/>"
#define TARGET_XML "<target><xi:include href=\"core.xml\"/></target>"
#define GENERAL_XML                                                                                \
	REG64("rax") REG64("rbx") REG64("rcx") REG64("rdx") REG64("rsi") REG64("rdi")              \
	REG64("rbp") REG64("rsp") REG64("r8") REG64("r9") REG64("r10") REG64("r11")                \
	REG64("r12") REG64("r13") REG64("r14") REG64("r15") REG64("rip") REG32("eflags")
#define CONTROL_XML                                                                                \
	REG32("cs") REG32("ss") REG64("fs_base") REG64("gs_base") REG64("k_gs_base") REG64("cr0")  \
	REG64("cr3") REG64("cr4") REG64("efer")
#define CORE_XML "<feature name=\"x\">" GENERAL_XML CONTROL_XML "</feature>"

/* 17 registers of 8 bytes, flags, two selectors, seven of 8. */
#define G_BYTES (17 * 8 + 4 + 2 * 4 + 7 * 8)

/* "$" text "#" checksum, kept until the end of the program. */
static const char *packet(const char *before, const char *text)
{
	g_autofree char *whole = NULL;
	guint8 sum = 0;

	for (const char *c = text; *c != '\0'; c++)
		sum += (guint8)*c;
	whole = g_strdup_printf("%s$%s#%02x", before, text, sum);
	return g_intern_string(whole);
}

/* Each begins with the acknowledgement of the one before. */
static const char *request(const char *text)
{
	return packet("+", text);
}

static const char *reply(const char *text)
{
	return packet("+", text);
}

/* What follows is about requests in the state that this leaves. */
static guint begin_script(GdbTurn *turns)
{
	guint i = 0;

	/* Connecting stopped the VM, which some versions report. */
	turns[i++] = (GdbTurn){
		packet("", "qSupported:multiprocess+;xmlRegisters=i386"),
		packet(packet("", "T02thread:p01.01;"),
		       "PacketSize=1000;qXfer:features:read+;vContSupported+"),
	};
	turns[i++] = (GdbTurn){ request("Qqemu.PhyMemMode:0"), reply("OK") };
	turns[i++] = (GdbTurn){ request("qfThreadInfo"), reply("mp01.01") };
	turns[i++] = (GdbTurn){ request("qsThreadInfo"), reply("mp02.05") };
	turns[i++] = (GdbTurn){ request("qsThreadInfo"), reply("l") };
	turns[i++] = (GdbTurn){ request("Hcp1.1"), reply("OK") };
	turns[i++] = (GdbTurn){ request("?"), reply("T05thread:p01.01;") };
	turns[i++] = (GdbTurn){ request("Hcp2.5"), reply("OK") };
	turns[i++] = (GdbTurn){ request("?"), reply("T05thread:p02.05;") };
	turns[i++] = (GdbTurn){ request("qXfer:features:read:target.xml:0,ffb"),
				reply("l" TARGET_XML) };
	turns[i++] = (GdbTurn){ request("qXfer:features:read:core.xml:0,ffb"),
				reply("m<feature name=\"x\">") };
	turns[i++] = (GdbTurn){ request("qXfer:features:read:core.xml:12,ffb"),
				reply("l" GENERAL_XML CONTROL_XML "</feature>") };
	return i;
}

/* A client that has shaken hands with a stub that then plays @rest. */
static HvpGdbstub *connect_client(ScriptedGdb *peer, GdbTurn *turns, const GdbTurn *rest,
				  bool closes)
{
	g_autoptr(GError) error = NULL;
	guint i = begin_script(turns);
	HvpGdbstub *client;

	for (; rest->expect || rest->answer; rest++)
		turns[i++] = *rest;
	turns[i] = (GdbTurn){ NULL, NULL };
	scripted_gdb_start(peer, turns, closes);
	client = hvp_gdbstub_new(peer->ours, GDB_TIMEOUT_USEC);
	CHECK(hvp_gdbstub_handshake(client, &error));
	CHECK(hvp_gdbstub_learn_registers(client, &error));
	g_assert_cmpuint(hvp_gdbstub_get_vcpu_count(client), ==, 2);
	return client;
}

static void disconnect(HvpGdbstub *client, ScriptedGdb *peer)
{
	hvp_gdbstub_free(client);
	scripted_gdb_end(peer);
}

static void test_run_control(void)
{
	const GdbTurn rest[] = {
		{ request("vCont;c"), "+" },
		{ "\x03", packet("", "T02thread:p02.05;") },
		{ request("vCont;c"), "+" },
		{ NULL, packet("", "T05thread:p01.01;") },
		{ request("Hcp2.5"), reply("OK") },
		{ request("vCont;s:p2.5"), reply("T05thread:p02.05;") },
		{ request("vCont;c"), reply("T17thread:p07.01;") },
		{ request("vCont;c"), reply("W00") },
		{ NULL, NULL },
	};
	GdbTurn turns[64];
	ScriptedGdb peer;
	HvpGdbstubStop stop;
	g_autoptr(GError) error = NULL;
	HvpGdbstub *client = connect_client(&peer, turns, rest, false);
	HvpDeadline soon = hvp_deadline_in(5 * G_USEC_PER_SEC);

	CHECK(hvp_gdbstub_continue(client, &error));
	CHECK(hvp_gdbstub_interrupt(client, soon, &stop, &error));
	g_assert_cmpint(stop.kind, ==, HVP_GDBSTUB_PAUSED);
	g_assert_cmpint(stop.vcpu_index, ==, 1);
	CHECK(hvp_gdbstub_continue(client, &error));
	CHECK(hvp_gdbstub_wait_stop(client, soon, &stop, &error));
	g_assert_cmpint(stop.kind, ==, HVP_GDBSTUB_TRAP);
	g_assert_cmpint(stop.vcpu_index, ==, 0);
	CHECK(hvp_gdbstub_step(client, 1, &stop, &error));
	g_assert_cmpint(stop.kind, ==, HVP_GDBSTUB_TRAP);
	CHECK(hvp_gdbstub_continue(client, &error));
	CHECK(hvp_gdbstub_wait_stop(client, soon, &stop, &error));
	g_assert_cmpint(stop.kind, ==, HVP_GDBSTUB_OTHER);
	g_assert_cmpint(stop.vcpu_index, ==, -1);
	CHECK(hvp_gdbstub_continue(client, &error));
	CHECK(hvp_gdbstub_wait_stop(client, soon, &stop, &error));
	g_assert_cmpint(stop.kind, ==, HVP_GDBSTUB_EXITED);
	disconnect(client, &peer);
}

/* The interrupt byte is swallowed where a packet has not been acknowledged. */
static void test_acknowledged_before_interrupt(void)
{
	const GdbTurn rest[] = {
		{ request("Z0,1234,1"), reply("OK") },
		{ "+\x03", packet("", "T02thread:p01.01;") },
		{ NULL, NULL },
	};
	GdbTurn turns[64];
	ScriptedGdb peer;
	HvpGdbstubStop stop;
	g_autoptr(GError) error = NULL;
	HvpGdbstub *client = connect_client(&peer, turns, rest, false);

	CHECK(hvp_gdbstub_insert_breakpoint(client, hvp_gva(0x1234), &error));
	CHECK(hvp_gdbstub_interrupt(client, hvp_deadline_in(G_USEC_PER_SEC), &stop, &error));
	disconnect(client, &peer);
}

static void test_step_that_does_not_end_is_interrupted(void)
{
	const GdbTurn rest[] = {
		{ request("Hcp1.1"), reply("OK") },
		{ request("vCont;s:p1.1"), "+" },
		{ "\x03", packet("", "T02thread:p01.01;") },
		{ NULL, NULL },
	};
	GdbTurn turns[64];
	ScriptedGdb peer;
	HvpGdbstubStop stop;
	g_autoptr(GError) error = NULL;
	HvpGdbstub *client = connect_client(&peer, turns, rest, false);

	CHECK(hvp_gdbstub_step(client, 0, &stop, &error));
	g_assert_cmpint(stop.kind, ==, HVP_GDBSTUB_PAUSED);
	disconnect(client, &peer);
}

/* Byte n of "g" is n. */
static const char *make_g(void)
{
	guint8 bytes[G_BYTES];
	char hex[2 * G_BYTES + 1];

	for (guint i = 0; i < G_BYTES; i++)
		bytes[i] = (guint8)i;
	hvp_gdb_packet_to_hex(hex, bytes, G_BYTES);
	return g_intern_string(hex);
}

static void test_registers(void)
{
	const GdbTurn rest[] = {
		{ request("Hgp2.5"), reply("OK") },
		{ request("g"), reply(make_g()) },
		{ request("P3=efcdab8967452301"), reply("OK") }, /* rdx */
		{ request("P11=02020000"), reply("OK") },	 /* eflags, 4 bytes */
		{ request("P7=0010000000000000"), reply("OK") }, /* rsp last but one */
		{ request("P10=0020000000000000"), reply("OK") }, /* rip last */
		{ NULL, NULL },
	};
	GdbTurn turns[64];
	ScriptedGdb peer;
	HvpRegisters from, to;
	g_autoptr(GError) error = NULL;
	HvpGdbstub *client = connect_client(&peer, turns, rest, false);

	CHECK(hvp_gdbstub_read_registers(client, 1, &from, &error));
	g_assert_cmphex(from.general[HVP_RAX], ==, 0x0706050403020100);
	g_assert_cmphex(from.general[HVP_RBX], ==, 0x0f0e0d0c0b0a0908);
	g_assert_cmphex(from.rip, ==, 0x8786858483828180);
	g_assert_cmphex(from.rflags, ==, 0x8b8a8988);
	g_assert_cmphex(from.cs, ==, 0x8f8e8d8c);
	g_assert_cmphex(from.efer, ==, 0xcbcac9c8c7c6c5c4);
	to = from;
	to.rip = 0x2000;
	to.general[HVP_RSP] = 0x1000;
	to.general[HVP_RDX] = 0x0123456789abcdef;
	to.rflags = 0x202;
	to.cr3 = 0; /* never written */
	CHECK(hvp_gdbstub_write_registers(client, 1, &from, &to, &error));
	g_assert_false(hvp_gdbstub_read_registers(client, 2, &from, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
	disconnect(client, &peer);
}

static void test_memory(void)
{
	const GdbTurn rest[] = {
		{ request("Qqemu.PhyMemMode:1"), reply("OK") },
		{ request("M1000,3:a1b2c3"), reply("OK") },
		{ request("m1000,3"), reply("a1b2c3") },
		{ request("Qqemu.PhyMemMode:0"), reply("OK") },
		{ request("Hgp1.1"), reply("OK") },
		{ request("mffffffff81000000,2"), reply("9090") },
		{ request("m10,1"), reply("E14") },
		{ request("m20,8"), reply("0* ") }, /* run-length: "0000" */
		{ NULL, NULL },
	};
	GdbTurn turns[64];
	ScriptedGdb peer;
	guint8 bytes[8];
	g_autoptr(GError) error = NULL;
	HvpGdbstub *client = connect_client(&peer, turns, rest, false);

	CHECK(hvp_gdbstub_write_physical(client, hvp_gpa(0x1000), "\xa1\xb2\xc3", 3, &error));
	CHECK(hvp_gdbstub_read_physical(client, hvp_gpa(0x1000), bytes, 3, &error));
	g_assert_cmpmem(bytes, 3, "\xa1\xb2\xc3", 3);
	CHECK(hvp_gdbstub_read_virtual(client, 0, hvp_gva(0xffffffff81000000), bytes, 2, &error));
	g_assert_false(hvp_gdbstub_read_virtual(client, 0, hvp_gva(0x10), bytes, 1, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_FAULT);
	g_clear_error(&error);
	g_assert_false(hvp_gdbstub_has_failed(client));
	g_assert_false(hvp_gdbstub_read_virtual(client, 0, hvp_gva(0x20), bytes, 8, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	g_assert_true(hvp_gdbstub_has_failed(client));
	disconnect(client, &peer);
}

static void test_chunks(void)
{
	gsize length_bytes = HVP_GDBSTUB_CHUNK_BYTES + 2;
	g_autofree guint8 *bytes = g_malloc0(length_bytes);
	g_autofree char *zeros = g_strnfill(2 * HVP_GDBSTUB_CHUNK_BYTES, '0');
	g_autofree char *first = g_strdup_printf("M0,7c0:%s", zeros);
	const GdbTurn rest[] = {
		{ request("Qqemu.PhyMemMode:1"), reply("OK") },
		{ request(first), reply("OK") },
		{ request("M7c0,2:0000"), reply("OK") },
		{ request("m0,7c0"), reply(zeros) },
		{ request("m7c0,2"), reply("0102") },
		{ NULL, NULL },
	};
	GdbTurn turns[64];
	ScriptedGdb peer;
	g_autoptr(GError) error = NULL;
	HvpGdbstub *client = connect_client(&peer, turns, rest, false);

	CHECK(hvp_gdbstub_write_physical(client, hvp_gpa(0), bytes, length_bytes, &error));
	CHECK(hvp_gdbstub_read_physical(client, hvp_gpa(0), bytes, length_bytes, &error));
	g_assert_cmpuint(bytes[length_bytes - 1], ==, 2);
	disconnect(client, &peer);
}

/* Somebody else resumed the VM: our request stopped it, and that is all the answer. */
static void test_stop_reply_as_answer_CONFLICT(void)
{
	const GdbTurn rest[] = {
		{ request("Z0,1,1"), packet("", "T02thread:p01.01;") },
		{ NULL, NULL },
	};
	GdbTurn turns[64];
	ScriptedGdb peer;
	g_autoptr(GError) error = NULL;
	HvpGdbstub *client = connect_client(&peer, turns, rest, false);

	for (int tries = 0; tries < 2; tries++) {
		g_assert_false(hvp_gdbstub_insert_breakpoint(client, hvp_gva(1), &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
		g_clear_error(&error);
	}
	disconnect(client, &peer);
}

static void test_retransmission(void)
{
	const GdbTurn rest[] = {
		{ request("Z0,1,1"), "-" },
		{ packet("", "Z0,1,1"), "+$OK#00" },
		{ "-", packet("", "OK") },
		{ NULL, NULL },
	};
	GdbTurn turns[64];
	ScriptedGdb peer;
	g_autoptr(GError) error = NULL;
	HvpGdbstub *client = connect_client(&peer, turns, rest, false);

	CHECK(hvp_gdbstub_insert_breakpoint(client, hvp_gva(1), &error));
	disconnect(client, &peer);
}

/* Each is an answer to Z0 that is not one. */
static void test_hostile_answer(gconstpointer data)
{
	const GdbTurn rest[] = { { request("Z0,1,1"), data }, { NULL, NULL } };
	GdbTurn turns[64];
	ScriptedGdb peer;
	g_autoptr(GError) error = NULL;
	HvpGdbstub *client = connect_client(&peer, turns, rest, true);

	g_assert_false(hvp_gdbstub_insert_breakpoint(client, hvp_gva(1), &error));
	g_assert_true(g_error_matches(error, HVP_ERROR, HVP_ERROR_BAD_DATA) ||
		      g_error_matches(error, HVP_ERROR, HVP_ERROR_VM_GONE));
	g_assert_true(hvp_gdbstub_has_failed(client));
	disconnect(client, &peer);
}

static void test_always_damaged_BAD_DATA(void)
{
	const GdbTurn rest[] = {
		{ request("Z0,1,1"), "+$OK#00" }, { "-", "$OK#01" },
		{ "-", "$OK#02" },		  { "-", "$OK#03" },
		{ NULL, NULL },
	};
	GdbTurn turns[64];
	ScriptedGdb peer;
	g_autoptr(GError) error = NULL;
	HvpGdbstub *client = connect_client(&peer, turns, rest, false);

	g_assert_false(hvp_gdbstub_insert_breakpoint(client, hvp_gva(1), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	disconnect(client, &peer);
}

static void test_silence_TIMED_OUT(void)
{
	const GdbTurn rest[] = { { request("Z0,1,1"), "+$O" }, { NULL, NULL } };
	GdbTurn turns[64];
	ScriptedGdb peer;
	HvpGdbstubStop stop;
	g_autoptr(GError) error = NULL;
	HvpGdbstub *client = connect_client(&peer, turns, rest, false);

	/* Nobody has stopped: that is no failure. */
	g_assert_false(hvp_gdbstub_wait_stop(client, hvp_deadline_in(20000), &stop, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
	g_assert_false(hvp_gdbstub_has_failed(client));
	g_clear_error(&error);
	g_assert_false(hvp_gdbstub_insert_breakpoint(client, hvp_gva(1), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_TIMED_OUT);
	g_assert_true(hvp_gdbstub_has_failed(client));
	disconnect(client, &peer);
}

/* The first answers of a stub that will not do. */
typedef struct {
	const char *supported;
	const char *threads;
	HvpErrorCode code;
} BadHandshake;

static const BadHandshake bad_handshakes[] = {
	{ "PacketSize=1000", NULL, HVP_ERROR_UNSUPPORTED },
	{ "", NULL, HVP_ERROR_UNSUPPORTED },
	{ "qXfer:features:read+;vContSupported+", "l", HVP_ERROR_BAD_DATA },
	{ "qXfer:features:read+;vContSupported+", "mp1", HVP_ERROR_BAD_DATA },
	{ "qXfer:features:read+;vContSupported+", "m1,1", HVP_ERROR_BAD_DATA },
	{ "qXfer:features:read+;vContSupported+", "m123456789", HVP_ERROR_BAD_DATA },
	{ "qXfer:features:read+;vContSupported+", "E01", HVP_ERROR_BAD_DATA },
};

static void test_bad_handshake(gconstpointer data)
{
	const BadHandshake *bad = data;
	GdbTurn turns[4] = {
		{ packet("", "qSupported:multiprocess+;xmlRegisters=i386"),
		  reply(bad->supported) },
	};
	ScriptedGdb peer;
	HvpGdbstub *client;
	g_autoptr(GError) error = NULL;

	if (bad->threads != NULL) {
		turns[1] = (GdbTurn){ request("Qqemu.PhyMemMode:0"), reply("OK") };
		turns[2] = (GdbTurn){ request("qfThreadInfo"), reply(bad->threads) };
	}
	scripted_gdb_start(&peer, turns, false);
	client = hvp_gdbstub_new(peer.ours, GDB_TIMEOUT_USEC);
	g_assert_false(hvp_gdbstub_handshake(client, &error));
	g_assert_error(error, HVP_ERROR, (int)bad->code);
	disconnect(client, &peer);
}

static bool parse_target(const char *core, HvpGdbTarget *ret_target, GError **error)
{
	g_autoptr(GPtrArray) xmls = g_ptr_array_new();

	g_ptr_array_add(xmls, (gpointer)TARGET_XML);
	g_ptr_array_add(xmls, (gpointer)core);
	return hvp_gdb_target_parse(ret_target, xmls, error);
}

static void test_target(void)
{
	HvpGdbTarget target;
	g_autoptr(GError) error = NULL;

	CHECK(parse_target(CORE_XML, &target, &error));
	g_assert_cmpuint(target.g_bytes, ==, G_BYTES);
}

static void test_bad_target(gconstpointer data)
{
	HvpGdbTarget target;
	g_autoptr(GError) error = NULL;

	g_assert_false(parse_target(data, &target, &error));
	g_assert_true(g_error_matches(error, HVP_ERROR, HVP_ERROR_BAD_DATA) ||
		      g_error_matches(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED));
}

static void test_bad_includes(void)
{
	static const char *const bad[] = {
		"<target><xi:include/></target>",
		"<target><xi:include href=\"a#b\"/></target>",
		"<target><xi:include href=\"a:b\"/></target>",
		"<target>",
		"nothing",
	};
	g_autofree char *many = NULL;
	GString *text = g_string_new("<target>");

	for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;

		g_assert_null(hvp_gdb_target_find_includes(bad[i], &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
	for (guint i = 0; i <= HVP_GDB_TARGET_MAX_INCLUDES; i++)
		g_string_append(text, "<xi:include href=\"x\"/>");
	many = g_string_free(g_string_append(text, "</target>"), FALSE);
	g_assert_null(hvp_gdb_target_find_includes(many, NULL));
}

static void add_hostile_answers(void)
{
	static const struct {
		const char *name;
		const char *bytes;
	} answers[] = {
		{ "early-close", "+" },
		{ "close-in-a-packet", "+$OK#9" },
		{ "byte-outside-a-packet", "+x$OK#9a" },
		{ "repeat-of-nothing", "+$*!#00" },
		{ "repeat-too-short", "+$a*\x1f#00" },
		{ "many-acknowledgements", "++++++++++" },
		{ "not-an-answer", "+$hello#14" },
	};
	g_autofree char *endless = g_strnfill(100000, 'a');
	g_autofree char *repeats = g_strnfill(20000, '~');

	for (gsize i = 0; i < G_N_ELEMENTS(answers); i++) {
		g_autofree char *path =
			g_strdup_printf("/gdbstub/hostile-answer/%s", answers[i].name);

		g_test_add_data_func(path, answers[i].bytes, test_hostile_answer);
	}
	memcpy(endless, "+$", 2);
	g_test_add_data_func("/gdbstub/hostile-answer/endless", g_intern_string(endless),
			     test_hostile_answer);
	for (gsize i = 3; i < 20000; i += 2)
		repeats[i] = '*';
	memcpy(repeats, "+$a", 3);
	g_test_add_data_func("/gdbstub/hostile-answer/repeats", g_intern_string(repeats),
			     test_hostile_answer);
}

static void add_bad_targets(void)
{
	static const char *const bad[] = {
		"",
		"<feature>",
		"<feature>" GENERAL_XML "</feature>",
		"<feature>" CONTROL_XML "</feature>",
		"<feature><reg name=\"rax\"/></feature>",
		"<feature><reg name=\"rax\" bitsize=\"63\"/></feature>",
		"<feature><reg name=\"rax\" bitsize=\"16\"/></feature>",
		"<feature><reg name=\"rax\" bitsize=\"-8\"/></feature>",
		"<feature><reg name=\"rax\" bitsize=\"99999999999999999999\"/></feature>",
		"<feature><reg name=\"rax\" bitsize=\"64\" regnum=\"5\"/></feature>",
		"<feature><reg name=\"cs\" bitsize=\"128\"/></feature>",
		"<feature>" GENERAL_XML GENERAL_XML CONTROL_XML "</feature>",
	};

	for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autofree char *path = g_strdup_printf("/gdbstub/bad-target/%" G_GSIZE_FORMAT, i);

		g_test_add_data_func(path, bad[i], test_bad_target);
	}
}

static void add_bad_handshakes(void)
{
	for (gsize i = 0; i < G_N_ELEMENTS(bad_handshakes); i++) {
		g_autofree char *path =
			g_strdup_printf("/gdbstub/bad-handshake/%" G_GSIZE_FORMAT, i);

		g_test_add_data_func(path, &bad_handshakes[i], test_bad_handshake);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/gdbstub/run-control", test_run_control);
	g_test_add_func("/gdbstub/acknowledged-before-interrupt",
			test_acknowledged_before_interrupt);
	g_test_add_func("/gdbstub/step-that-does-not-end",
			test_step_that_does_not_end_is_interrupted);
	g_test_add_func("/gdbstub/registers", test_registers);
	g_test_add_func("/gdbstub/memory", test_memory);
	g_test_add_func("/gdbstub/chunks", test_chunks);
	g_test_add_func("/gdbstub/stop-reply-as-answer-CONFLICT",
			test_stop_reply_as_answer_CONFLICT);
	g_test_add_func("/gdbstub/retransmission", test_retransmission);
	g_test_add_func("/gdbstub/always-damaged-BAD_DATA", test_always_damaged_BAD_DATA);
	g_test_add_func("/gdbstub/silence-TIMED_OUT", test_silence_TIMED_OUT);
	g_test_add_func("/gdbstub/target", test_target);
	g_test_add_func("/gdbstub/bad-includes", test_bad_includes);
	add_hostile_answers();
	add_bad_targets();
	add_bad_handshakes();
	return g_test_run();
}
