/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Three kinds of machine: texts captured from QEMU 7.2.22 (cut to the registers that
 * matter), a scripted monitor whose VM is the test process itself, and a real QEMU.
 */
#include "vm/machine.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "scripted-qmp.h"

#define LONG_USEC (10 * G_USEC_PER_SEC)
#define RAM_BYTES (1U << 20)

/* A 6.1 guest, both vCPUs halted in the idle loop. */
static const char text_64[] =
	"\r\n"
	"CPU#0\r\n"
	"RAX=000000000001ad40 RBX=0000000000000000 RCX=0000000000000001 RDX=4000000000000000\r\n"
	"RSI=0000000000000083 RDI=0000000000001ebc RBP=ffffffff8bc1aa40 RSP=ffffffff8bc03e98\r\n"
	"R8 =0000000000000000 R9 =00000000314e0508 R10=00000000fffffffb R11=0000000000000001\r\n"
	"R12=0000000000000000 R13=0000000000000000 R14=0000000000000000 R15=0000000000014790\r\n"
	"RIP=ffffffff8ac592eb RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n"
	"CS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]\r\n"
	"SS =0018 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]\r\n"
	"FS =0000 0000000000000000 00000000 00000000\r\n"
	"GS =0000 ffff8e4f1ec00000 00000000 00000000\r\n"
	"GDT=     fffffe0000001000 0000007f\r\n"
	"IDT=     fffffe0000000000 00000fff\r\n"
	"CR0=80050033 CR2=00000000005316e2 CR3=0000000010c10000 CR4=000006f0\r\n"
	"EFER=0000000000000d01\r\n"
	"\r\n"
	"CPU#1\r\n"
	"RAX=000000000001ad40 RBX=0000000000000000 RCX=0000000000000001 RDX=4000000000000000\r\n"
	"RSI=0000000000000083 RDI=000000000000485c RBP=ffff8e4f0125c8c0 RSP=ffffd1ae4009bed8\r\n"
	"R8 =0000000000000000 R9 =00000000314e0508 R10=0000000000000000 R11=0000000000000001\r\n"
	"R12=0000000000000001 R13=0000000000000000 R14=0000000000000000 R15=0000000000000000\r\n"
	"RIP=ffffffff8ac592eb RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n"
	"CS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]\r\n"
	"SS =0018 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]\r\n"
	"FS =0000 0000000000000000 00000000 00000000\r\n"
	"GS =0000 ffff8e4f1ed00000 00000000 00000000\r\n"
	"GDT=     fffffe000003c000 0000007f\r\n"
	"IDT=     fffffe0000000000 00000fff\r\n"
	"CR0=80050033 CR2=0000000026d2fcb8 CR3=000000000247e000 CR4=000006e0\r\n"
	"EFER=0000000000000d01\r\n";

/* The firmware: one vCPU in real mode and halted, one in 32-bit protected mode. */
static const char text_firmware[] =
	"\r\n"
	"CPU#0\r\n"
	"EAX=00000000 EBX=00000000 ECX=0000b79d EDX=00000000\r\n"
	"ESI=0000b79d EDI=00000000 EBP=0000b79d ESP=00006f94\r\n"
	"EIP=0000b7b9 EFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n"
	"CS =f000 000f0000 0000ffff 00009b00\r\n"
	"SS =0000 00000000 0000ffff 00009300\r\n"
	"FS =0000 00000000 0000ffff 00009300\r\n"
	"GS =0000 00000000 0000ffff 00009300\r\n"
	"GDT=     00000000 00000000\r\n"
	"IDT=     00000000 000003ff\r\n"
	"CR0=00000010 CR2=00000000 CR3=00000000 CR4=00000000\r\n"
	"EFER=0000000000000000\r\n"
	"\r\n"
	"CPU#1\r\n"
	"EAX=000f49f6 EBX=00000000 ECX=000002ff EDX=00000001\r\n"
	"ESI=00000000 EDI=00000000 EBP=00000000 ESP=00006c5c\r\n"
	"EIP=000fd09a EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n"
	"CS =0008 00000000 ffffffff 00cf9b00 DPL=0 CS32 [-RA]\r\n"
	"SS =0010 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]\r\n"
	"FS =0010 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]\r\n"
	"GS =0010 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]\r\n"
	"GDT=     000f6180 00000037\r\n"
	"IDT=     000f61be 00000000\r\n"
	"CR0=00000011 CR2=00000000 CR3=00000000 CR4=00000000\r\n"
	"EFER=0000000000000000\r\n";

/* At reset, CPU#1 waits for its SIPI. */
static const char text_reset[] =
	"\r\n"
	"CPU#0\r\n"
	"EAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1\r\n"
	"ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000\r\n"
	"EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n"
	"CS =f000 ffff0000 0000ffff 00009b00\r\n"
	"SS =0000 00000000 0000ffff 00009300\r\n"
	"FS =0000 00000000 0000ffff 00009300\r\n"
	"GS =0000 00000000 0000ffff 00009300\r\n"
	"GDT=     00000000 0000ffff\r\n"
	"IDT=     00000000 0000ffff\r\n"
	"CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000\r\n"
	"EFER=0000000000000000\r\n"
	"\r\n"
	"CPU#1\r\n"
	"EAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1\r\n"
	"ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000\r\n"
	"EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n"
	"CS =f000 ffff0000 0000ffff 00009b00\r\n"
	"SS =0000 00000000 0000ffff 00009300\r\n"
	"FS =0000 00000000 0000ffff 00009300\r\n"
	"GS =0000 00000000 0000ffff 00009300\r\n"
	"GDT=     00000000 0000ffff\r\n"
	"IDT=     00000000 0000ffff\r\n"
	"CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000\r\n"
	"EFER=0000000000000000\r\n";

static const guint two_cpus[] = {0, 1};

static void test_registers_64(void)
{
	HvpRegisters registers[2];
	g_autoptr(GError) error = NULL;

	g_assert_true(hvp_machine_parse_registers(text_64, two_cpus, registers, 2, &error));
	g_assert_no_error(error);
	g_assert_cmphex(registers[0].general[HVP_RAX], ==, 0x1ad40);
	g_assert_cmphex(registers[0].general[HVP_RDX], ==, 0x4000000000000000);
	g_assert_cmphex(registers[0].general[HVP_RBP], ==, 0xffffffff8bc1aa40);
	g_assert_cmphex(registers[0].general[HVP_RSP], ==, 0xffffffff8bc03e98);
	g_assert_cmphex(registers[0].general[HVP_R9], ==, 0x314e0508);
	g_assert_cmphex(registers[0].general[HVP_R15], ==, 0x14790);
	g_assert_cmphex(registers[0].rip, ==, 0xffffffff8ac592eb);
	g_assert_cmphex(registers[0].rflags, ==, 0x246);
	g_assert_cmphex(registers[0].cs, ==, 0x10);
	g_assert_cmphex(registers[0].ss, ==, 0x18);
	g_assert_cmphex(registers[0].fs_base, ==, 0);
	g_assert_cmphex(registers[0].gs_base, ==, 0xffff8e4f1ec00000);
	g_assert_cmphex(registers[0].kernel_gs_base, ==, 0);
	g_assert_cmphex(registers[0].idt_base, ==, 0xfffffe0000000000);
	g_assert_cmphex(registers[0].cr0, ==, 0x80050033);
	g_assert_cmphex(registers[0].cr3, ==, 0x10c10000);
	g_assert_cmphex(registers[0].cr4, ==, 0x6f0);
	g_assert_cmphex(registers[0].efer, ==, 0xd01);
	g_assert_cmphex(registers[1].general[HVP_RSP], ==, 0xffffd1ae4009bed8);
	g_assert_cmphex(registers[1].gs_base, ==, 0xffff8e4f1ed00000);
	g_assert_cmphex(registers[1].cr3, ==, 0x247e000);
}

static void test_registers_firmware(void)
{
	HvpRegisters registers[2];

	g_assert_true(hvp_machine_parse_registers(text_firmware, two_cpus, registers, 2, NULL));
	g_assert_cmphex(registers[0].rip, ==, 0xb7b9);
	g_assert_cmphex(registers[0].cs, ==, 0xf000);
	g_assert_cmphex(registers[0].general[HVP_RSP], ==, 0x6f94);
	g_assert_cmphex(registers[0].general[HVP_R8], ==, 0);
	g_assert_cmphex(registers[1].rip, ==, 0xfd09a);
	g_assert_cmphex(registers[1].general[HVP_RAX], ==, 0xf49f6);
	g_assert_cmphex(registers[1].idt_base, ==, 0xf61be);
	g_assert_cmphex(registers[1].cr0, ==, 0x11);
}

static void test_registers_reset(void)
{
	HvpRegisters registers[2];

	g_assert_true(hvp_machine_parse_registers(text_reset, two_cpus, registers, 2, NULL));
	for (guint i = 0; i < 2; i++) {
		g_assert_cmphex(registers[i].rip, ==, 0xfff0);
		g_assert_cmphex(registers[i].rflags, ==, 2);
		g_assert_cmphex(registers[i].cr0, ==, 0x60000010);
		g_assert_cmphex(registers[i].efer, ==, 0);
	}
}

/* QEMU's indices may have gaps after an unplug, and its list any order. */
static void test_registers_order(void)
{
	static const guint indices[] = {1, 4};
	g_autoptr(GString) text = g_string_new(text_64);
	HvpRegisters registers[2];

	g_string_replace(text, "CPU#0", "CPU#4", 1);
	g_assert_true(hvp_machine_parse_registers(text->str, indices, registers, 2, NULL));
	g_assert_cmphex(registers[0].cr3, ==, 0x247e000);
	g_assert_cmphex(registers[1].cr3, ==, 0x10c10000);
}

static void assert_registers_fail(const char *text)
{
	HvpRegisters registers[2] = {{.rip = 1}, {.rip = 2}};
	g_autoptr(GError) error = NULL;

	g_assert_false(hvp_machine_parse_registers(text, two_cpus, registers, 2, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	g_assert_cmphex(registers[0].rip, ==, 1);
	g_assert_cmphex(registers[1].rip, ==, 2);
}

static void test_registers_bad(void)
{
	static const char *const changes[][2] = {
		{"CPU#1", "CPU#0"},	   {"CPU#1", "CPU#2"},
		{"CPU#1", "CPU#-1"},	   {"CPU#1", "CPU#1x"},
		{"CPU#1", "cpu#1"},	   {"CPU#1", "CPU#1\r\nCPU#2"},
		{"R9 =", "R9 "},	   {"CR3=", "CR5="},
		{"EFER=", "EFER=x"},	   {"CS =0010", "CS =10010"},
		{"IDT=     ", "IDT=-"},	   {"RFL=", ""},
		{"GS =0000 ", "GS =0000"}, {"RSI=", "RSI=00000000000000000"},
		{"RIP=", "RIQ="},
	};

	for (gsize i = 0; i < G_N_ELEMENTS(changes); i++) {
		g_autoptr(GString) text = g_string_new(text_64);

		g_assert_cmpuint(g_string_replace(text, changes[i][0], changes[i][1], 1), ==, 1);
		assert_registers_fail(text->str);
	}
	assert_registers_fail("");
	assert_registers_fail("CPU#0");
	assert_registers_fail("CPU#0CPU#1");
}

static void test_registers_truncated(void)
{
	gsize whole = strlen(text_64);

	/* All but the last value's digits. */
	for (gsize length_bytes = 0; length_bytes + 18 < whole; length_bytes++) {
		g_autofree char *text = g_strndup(text_64, length_bytes);

		assert_registers_fail(text);
	}
}

#define QUERY(command) "\"execute\":\"" command "\""
#define HMP(command)                                                                               \
	"\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"" command "\"}"
#define RETURN(value) "{\"return\":" value ",\"id\":@ID@}\r\n"

/* A monitor that follows @steps; its VM is this process, its RAM the area. */
typedef struct {
	guint8 *area;
	char *folder;
	char *path;
	char *cpus;
	char *first;
	char *last;
	GArray *steps;
	ScriptedQmp server;
} Stage;

static void add_step(Stage *stage, const char *request, const char *answer)
{
	ScriptedStep step = {request, answer};

	g_array_append_val(stage->steps, step);
}

static char *describe_hva(guint64 gpa, const guint8 *hva)
{
	return g_strdup_printf(
		RETURN("\"Host virtual address for 0x%" G_GINT64_MODIFIER "x (r) is %p\\r\\n\""),
		gpa, (const void *)hva);
}

/* The answers that hvp_machine_open needs; @replaced is answered by @answer instead. */
static void set_stage(Stage *stage, const char *replaced, const char *answer)
{
	stage->area =
		mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_assert_true(stage->area != MAP_FAILED);
	stage->folder = g_dir_make_tmp("hvpatch-test-XXXXXX", NULL);
	stage->path = g_build_filename(stage->folder, "qmp", NULL);
	stage->cpus = g_strdup_printf(RETURN("[{\"cpu-index\":1,\"thread-id\":%d},"
					     "{\"cpu-index\":0,\"thread-id\":%d}]"),
				      (int)syscall(SYS_gettid), (int)getpid());
	stage->first = describe_hva(0, stage->area);
	stage->last = describe_hva(RAM_BYTES - 1, stage->area + RAM_BYTES - 1);
	stage->steps = g_array_new(FALSE, TRUE, sizeof(ScriptedStep));
	add_step(stage, QUERY("qmp_capabilities"), RETURN("{}"));
	add_step(stage, QUERY("query-version"),
		 RETURN("{\"qemu\":{\"major\":7,\"minor\":2,\"micro\":22},\"package\":\"x\"}"));
	add_step(stage, QUERY("query-target"), RETURN("{\"arch\":\"x86_64\"}"));
	add_step(stage, QUERY("query-kvm"), RETURN("{\"enabled\":true,\"present\":true}"));
	add_step(stage, QUERY("query-cpus-fast"), stage->cpus);
	add_step(stage, QUERY("query-status"), RETURN("{\"status\":\"running\",\"running\":true}"));
	add_step(stage, HMP("info mtree -f"),
		 RETURN("\" AS \\\"memory\\\", root: system\\r\\n"
			"  0000000000000000-00000000000fffff (prio 0, ram): r\\r\\n\""));
	add_step(stage, HMP("gpa2hva 0x0"), stage->first);
	add_step(stage, HMP("gpa2hva 0xfffff"), stage->last);
	for (guint i = 0; i < stage->steps->len && replaced != NULL; i++) {
		ScriptedStep *step = &g_array_index(stage->steps, ScriptedStep, i);

		if (strstr(step->request, replaced) == NULL)
			continue;
		step->answer = answer;
		/* What fails is the last thing asked. */
		g_array_set_size(stage->steps, i + 1);
	}
}

static void start_stage(Stage *stage)
{
	scripted_listen(&stage->server, stage->path, (const ScriptedStep *)stage->steps->data,
			stage->steps->len);
}

static void strike_stage(Stage *stage)
{
	scripted_finish(&stage->server);
	munmap(stage->area, RAM_BYTES);
	g_unlink(stage->path);
	g_rmdir(stage->folder);
	g_free(stage->folder);
	g_free(stage->path);
	g_free(stage->cpus);
	g_free(stage->first);
	g_free(stage->last);
	g_array_unref(stage->steps);
}

static HvpMachine *open_stage(Stage *stage)
{
	g_autoptr(GError) error = NULL;
	HvpMachine *machine;

	start_stage(stage);
	machine = hvp_machine_open(stage->path, hvp_deadline_in(LONG_USEC), &error);
	g_assert_no_error(error);
	return machine;
}

static void test_open(void)
{
	guint8 bytes[4] = {0};
	HvpMachine *machine;
	Stage stage;

	set_stage(&stage, NULL, NULL);
	add_step(&stage, HMP("info registers -a"), RETURN("\"garbled\""));
	add_step(&stage, HMP("info registers -a"), RETURN("\"garbled\""));
	add_step(&stage, HMP("info registers -a"), RETURN("\"garbled\""));
	machine = open_stage(&stage);
	g_assert_cmpint(hvp_machine_get_pid(machine), ==, getpid());
	g_assert_cmpuint(hvp_machine_get_start_time(machine), >, 0);
	g_assert_cmpstr(hvp_machine_get_version(machine), ==, "7.2.22");
	g_assert_cmpstr(hvp_machine_get_accelerator_name(machine), ==, "kvm");
	g_assert_cmpuint(hvp_machine_get_vcpu_count(machine), ==, 2);
	g_assert_cmpuint(hvp_machine_get_vcpu_cpu_index(machine, 0), ==, 0);
	g_assert_cmpint(hvp_machine_get_vcpu_thread_id(machine, 0), ==, getpid());
	g_assert_true(hvp_machine_was_running(machine));
	g_assert_cmpstr(hvp_machine_get_status(machine), ==, "running");
	g_assert_true(hvp_machine_same_process(machine));
	memcpy(stage.area + 0xffffc, "last", 4);
	g_assert_true(hvp_physical_read(hvp_machine_get_physical(machine), hvp_gpa(0xffffc), bytes,
					4, NULL));
	g_assert_cmpint(memcmp(bytes, "last", 4), ==, 0);
	{
		HvpRegisters registers[2];
		g_autoptr(GError) error = NULL;

		g_assert_false(hvp_machine_read_registers(machine, registers, 1, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_INVALID_ARGUMENT);
		g_clear_error(&error);
		g_assert_false(hvp_machine_read_registers(machine, registers, 2, &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_BAD_DATA);
	}
	hvp_machine_free(machine);
	strike_stage(&stage);
}

static void test_open_bad(void)
{
	static const struct {
		const char *replaced;
		const char *answer;
		HvpErrorCode code;
	} cases[] = {
		{"query-version", RETURN("{}"), HVP_ERROR_BAD_DATA},
		{"query-version", RETURN("{\"qemu\":{\"major\":7,\"minor\":2}}"),
		 HVP_ERROR_BAD_DATA},
		{"query-target", RETURN("{\"arch\":\"aarch64\"}"), HVP_ERROR_UNSUPPORTED},
		{"query-kvm", RETURN("{\"enabled\":1}"), HVP_ERROR_BAD_DATA},
		{"query-cpus-fast", RETURN("{}"), HVP_ERROR_BAD_DATA},
		{"query-cpus-fast", RETURN("[]"), HVP_ERROR_UNSUPPORTED},
		{"query-cpus-fast", RETURN("[7]"), HVP_ERROR_BAD_DATA},
		{"query-cpus-fast", RETURN("[{\"cpu-index\":-1,\"thread-id\":1}]"),
		 HVP_ERROR_BAD_DATA},
		{"query-cpus-fast", RETURN("[{\"cpu-index\":0,\"thread-id\":4294967297}]"),
		 HVP_ERROR_BAD_DATA},
		{"query-cpus-fast",
		 RETURN("[{\"cpu-index\":0,\"thread-id\":1},"
			"{\"cpu-index\":0,\"thread-id\":1}]"),
		 HVP_ERROR_BAD_DATA},
		{"query-status", RETURN("{\"status\":\"running\"}"), HVP_ERROR_BAD_DATA},
		{"info mtree", RETURN("\"unknown command: 'info mtree -f'\\r\\n\""),
		 HVP_ERROR_BAD_DATA},
		{"gpa2hva 0xfffff", "junk\n", HVP_ERROR_BAD_DATA},
	};

	for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GError) error = NULL;
		Stage stage;

		set_stage(&stage, cases[i].replaced, cases[i].answer);
		start_stage(&stage);
		g_assert_null(hvp_machine_open(stage.path, hvp_deadline_in(LONG_USEC), &error));
		g_assert_error(error, HVP_ERROR, (int)cases[i].code);
		strike_stage(&stage);
	}
}

/* Threads of another PID namespace: unknown here, or somebody else's. */
static void test_open_foreign_threads(void)
{
	static const char *const answers[] = {
		RETURN("[{\"cpu-index\":0,\"thread-id\":2147483647}]"),
		RETURN("[{\"cpu-index\":0,\"thread-id\":1},{\"cpu-index\":1,\"thread-id\":%d}]"),
	};

	for (gsize i = 0; i < G_N_ELEMENTS(answers); i++) {
		g_autoptr(GString) answer = g_string_new(answers[i]);
		g_autofree char *own = g_strdup_printf("%d", (int)getpid());
		g_autoptr(GError) error = NULL;
		Stage stage;

		g_string_replace(answer, "%d", own, 0);
		set_stage(&stage, NULL, NULL);
		g_array_index(stage.steps, ScriptedStep, 4).answer = answer->str;
		g_array_set_size(stage.steps, 6);
		start_stage(&stage);
		g_assert_null(hvp_machine_open(stage.path, hvp_deadline_in(LONG_USEC), &error));
		g_assert_error(error, HVP_ERROR, HVP_ERROR_NOT_FOUND);
		strike_stage(&stage);
	}
}

#define NO_MIGRATION                                                                               \
	{                                                                                          \
		QUERY("query-migrate"), RETURN("{}")                                               \
	}
#define NO_DUMP                                                                                    \
	{                                                                                          \
		QUERY("query-dump"), RETURN("{\"status\":\"none\",\"total\":0,\"completed\":0}")   \
	}
#define STATUS(command, status)                                                                    \
	{                                                                                          \
		QUERY(command), RETURN("{\"status\":\"" status "\"}")                              \
	}
#define JOB(type, status)                                                                          \
	{                                                                                          \
		QUERY("query-jobs"),                                                               \
			RETURN("[{\"id\":\"j\",\"type\":\"" type "\",\"status\":\"" status "\"}]") \
	}

typedef struct {
	const ScriptedStep steps[3];
	const char *job; /* NULL: none */
} JobCase;

static void check_job(const JobCase *test)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *job = NULL;
	HvpMachine *machine;
	Stage stage;

	set_stage(&stage, NULL, NULL);
	for (gsize i = 0; i < 3 && test->steps[i].request != NULL; i++)
		add_step(&stage, test->steps[i].request, test->steps[i].answer);
	machine = open_stage(&stage);
	g_assert_true(hvp_machine_find_ram_job(machine, hvp_deadline_in(LONG_USEC), &job, &error));
	g_assert_no_error(error);
	g_assert_cmpstr(job, ==, test->job);
	hvp_machine_free(machine);
	strike_stage(&stage);
}

static void test_ram_jobs(void)
{
	static const JobCase cases[] = {
		{{NO_MIGRATION, NO_DUMP, {QUERY("query-jobs"), RETURN("[]")}}, NULL},
		{{STATUS("query-migrate", "completed"), STATUS("query-dump", "completed"),
		  JOB("snapshot-save", "concluded")},
		 NULL},
		{{STATUS("query-migrate", "failed"), STATUS("query-dump", "failed"),
		  JOB("backup", "running")},
		 NULL},
		{{STATUS("query-migrate", "active")}, "migration (active)"},
		{{STATUS("query-migrate", "setup")}, "migration (setup)"},
		{{STATUS("query-migrate", "postcopy-paused")}, "migration (postcopy-paused)"},
		{{STATUS("query-migrate", "a\\nb")}, "migration (a\\x0ab)"},
		{{NO_MIGRATION, STATUS("query-dump", "active")}, "dump (active)"},
		{{NO_MIGRATION, NO_DUMP, JOB("snapshot-save", "running")},
		 "snapshot-save (running)"},
		{{NO_MIGRATION, NO_DUMP, JOB("snapshot-load", "created")},
		 "snapshot-load (created)"},
	};

	for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
		check_job(&cases[i]);
}

static void test_userfaultfd(void)
{
	static const JobCase with = {{NO_MIGRATION, NO_DUMP, {QUERY("query-jobs"), RETURN("[]")}},
				     "a userfaultfd"};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */);

	if (fd < 0) {
		g_test_skip("userfaultfd is not to be had here");
		return;
	}
	check_job(&with);
	close(fd);
}

#define CHARDEVS(list)                                                                             \
	{                                                                                          \
		QUERY("query-chardev"), RETURN("[" list "]")                                       \
	}
#define CHARDEV(label) "{\"frontend-open\":true,\"filename\":\"f\",\"label\":\"" label "\"}"

/* @code: -1 where it succeeds. */
static void check_debugger(ScriptedStep step, int code, bool expected)
{
	g_autoptr(GError) error = NULL;
	bool leftover = !expected;
	HvpMachine *machine;
	Stage stage;

	set_stage(&stage, NULL, NULL);
	add_step(&stage, step.request, step.answer);
	machine = open_stage(&stage);
	g_assert_true(hvp_machine_find_debugger(machine, hvp_deadline_in(LONG_USEC), &leftover,
						&error) == (code == -1));
	if (code == -1)
		g_assert_true(leftover == expected);
	else
		g_assert_error(error, HVP_ERROR, code);
	hvp_machine_free(machine);
	strike_stage(&stage);
}

static void test_debugger(void)
{
	static const ScriptedStep none = CHARDEVS(CHARDEV("compat_monitor0"));
	static const ScriptedStep owners = CHARDEVS(CHARDEV("#chr1") "," CHARDEV("gdb"));
	static const ScriptedStep ours = CHARDEVS(CHARDEV("hvpatch-gdb") "," CHARDEV("x"));
	static const ScriptedStep both = CHARDEVS(CHARDEV("hvpatch-gdb") "," CHARDEV("gdb0"));
	static const ScriptedStep bad = CHARDEVS("{\"label\":7}");

	check_debugger(none, -1, false);
	check_debugger(owners, HVP_ERROR_CONFLICT, false);
	check_debugger(ours, -1, true);
	check_debugger(both, HVP_ERROR_CONFLICT, false);
	check_debugger(bad, HVP_ERROR_BAD_DATA, false);
}

/* A QEMU that has not run an instruction, 64 MiB in a shared memfd, and its monitor. */
typedef struct {
	char *folder;
	char *path;
	GPid pid;
} Qemu;

static void die_with_parent(gpointer data)
{
	(void)data;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* False where there is no QEMU: then the test is skipped. */
static bool start_qemu(Qemu *qemu)
{
	g_autofree char *program = g_find_program_in_path("qemu-system-x86_64");
	g_autofree char *monitor = NULL;
	g_autoptr(GError) error = NULL;

	if (program == NULL) {
		g_test_skip("qemu-system-x86_64 is missing");
		return false;
	}
	qemu->folder = g_dir_make_tmp("hvpatch-test-XXXXXX", NULL);
	qemu->path = g_build_filename(qemu->folder, "qmp", NULL);
	monitor = g_strdup_printf("unix:%s,server=on,wait=off", qemu->path);
	{
		const char *arguments[] = {program,
					   "-nodefaults",
					   "-display",
					   "none",
					   "-S",
					   "-machine",
					   "pc,accel=tcg,memory-backend=m",
					   "-smp",
					   "2",
					   "-m",
					   "64",
					   "-object",
					   "memory-backend-memfd,id=m,size=64M,share=on",
					   "-qmp",
					   monitor,
					   NULL};

		g_spawn_async(NULL, (char **)arguments, NULL, G_SPAWN_DO_NOT_REAP_CHILD,
			      die_with_parent, NULL, &qemu->pid, &error);
	}
	g_assert_no_error(error);
	for (int i = 0; i < 1000 && access(qemu->path, F_OK) != 0; i++)
		g_usleep(5000);
	return true;
}

static void stop_qemu(Qemu *qemu)
{
	kill(qemu->pid, SIGKILL);
	waitpid(qemu->pid, NULL, 0);
	g_unlink(qemu->path);
	g_rmdir(qemu->folder);
	g_free(qemu->folder);
	g_free(qemu->path);
}

static HvpMachine *open_qemu(const Qemu *qemu)
{
	g_autoptr(GError) error = NULL;
	HvpMachine *machine = NULL;

	/* Its socket is there a moment before it listens. */
	for (int i = 0; i < 100 && machine == NULL; i++) {
		g_clear_error(&error);
		machine = hvp_machine_open(qemu->path, hvp_deadline_in(LONG_USEC), &error);
		if (!g_error_matches(error, HVP_ERROR, HVP_ERROR_VM_GONE))
			break;
		g_usleep(10000);
	}
	g_assert_no_error(error);
	return machine;
}

static gint64 guest_blocks(pid_t pid)
{
	g_autofree char *folder = g_strdup_printf("/proc/%d/fd", (int)pid);
	g_autoptr(GDir) directory = g_dir_open(folder, 0, NULL);
	const char *name;

	while ((name = g_dir_read_name(directory)) != NULL) {
		g_autofree char *path = g_build_filename(folder, name, NULL);
		g_autofree char *target = g_file_read_link(path, NULL);
		struct stat status;

		if (target != NULL && g_str_has_prefix(target, "/memfd:") &&
		    stat(path, &status) == 0)
			return status.st_blocks;
	}
	g_assert_not_reached();
}

/* Reads one word of every page of RAM. */
static void sweep(HvpMachine *machine)
{
	gsize count;
	const HvpRamRange *ranges = hvp_ram_get_ranges(hvp_machine_get_ram(machine), &count);

	for (gsize i = 0; i < count; i++) {
		for (guint64 gpa = ranges[i].start.value; gpa < ranges[i].end.value;
		     gpa += HVP_PAGE_SIZE) {
			guint64 value;

			g_assert_true(hvp_physical_read(hvp_machine_get_physical(machine),
							hvp_gpa(gpa), &value, sizeof value, NULL));
		}
	}
}

static void check_qemu(HvpMachine *machine, pid_t pid)
{
	gint64 blocks = guest_blocks(pid);
	g_autoptr(GError) error = NULL;
	g_autofree char *job = NULL;
	HvpRegisters registers[2];
	guint8 opcode = 0;
	bool leftover = true;

	g_assert_cmpint(hvp_machine_get_pid(machine), ==, pid);
	g_assert_cmpstr(hvp_machine_get_accelerator_name(machine), ==, "tcg");
	g_assert_cmpstr(hvp_machine_get_status(machine), ==, "prelaunch");
	g_assert_false(hvp_machine_was_running(machine));
	g_assert_true(hvp_machine_read_registers(machine, registers, 2, &error));
	g_assert_cmphex(registers[1].rip, ==, 0xfff0);
	/* The far jump at the reset vector, in the ROM. */
	g_assert_true(hvp_physical_read(hvp_machine_get_physical(machine), hvp_gpa(0xfffffff0),
					&opcode, 1, &error));
	g_assert_cmphex(opcode, ==, 0xea);
	sweep(machine);
	g_assert_cmpint(guest_blocks(pid), ==, blocks);
	g_assert_true(hvp_machine_find_ram_job(machine, hvp_deadline_in(LONG_USEC), &job, &error));
	g_assert_cmpstr(job, ==, NULL);
	g_assert_true(
		hvp_machine_find_debugger(machine, hvp_deadline_in(LONG_USEC), &leftover, &error));
	g_assert_false(leftover);
}

static void test_qemu(void)
{
	g_autoptr(HvpMachine) machine = NULL;
	g_autoptr(GError) error = NULL;
	g_autofree char *text = NULL;
	bool leftover;
	guint8 byte;
	Qemu qemu;

	if (!start_qemu(&qemu))
		return;
	machine = open_qemu(&qemu);
	check_qemu(machine, qemu.pid);
	g_assert_null(hvp_qmp_connect(qemu.path, hvp_deadline_in(50000), &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_BUSY);
	g_clear_error(&error);
	text = hvp_qmp_monitor_command(hvp_machine_get_qmp(machine), "gdbserver tcp:127.0.0.1:0",
				       hvp_deadline_in(LONG_USEC), &error);
	g_assert_no_error(error);
	g_assert_false(
		hvp_machine_find_debugger(machine, hvp_deadline_in(LONG_USEC), &leftover, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_CONFLICT);
	g_clear_error(&error);
	stop_qemu(&qemu);
	g_assert_false(hvp_machine_same_process(machine));
	g_assert_false(
		hvp_physical_read(hvp_machine_get_physical(machine), hvp_gpa(0), &byte, 1, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
	g_clear_error(&error);
	g_assert_false(
		hvp_machine_find_debugger(machine, hvp_deadline_in(LONG_USEC), &leftover, &error));
	g_assert_error(error, HVP_ERROR, HVP_ERROR_VM_GONE);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/machine/registers/64-bit-guest", test_registers_64);
	g_test_add_func("/machine/registers/firmware", test_registers_firmware);
	g_test_add_func("/machine/registers/reset", test_registers_reset);
	g_test_add_func("/machine/registers/gaps-and-order", test_registers_order);
	g_test_add_func("/machine/registers/garbled-BAD_DATA", test_registers_bad);
	g_test_add_func("/machine/registers/truncated-BAD_DATA", test_registers_truncated);
	g_test_add_func("/machine/open", test_open);
	g_test_add_func("/machine/open-garbled-BAD_DATA", test_open_bad);
	g_test_add_func("/machine/open-foreign-threads-NOT_FOUND", test_open_foreign_threads);
	g_test_add_func("/machine/ram-jobs", test_ram_jobs);
	g_test_add_func("/machine/ram-jobs-userfaultfd", test_userfaultfd);
	g_test_add_func("/machine/debugger-CONFLICT", test_debugger);
	g_test_add_func("/machine/qemu", test_qemu);
	return g_test_run();
}
