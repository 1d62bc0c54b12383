/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Instructions that the host does for a vCPU, beside the processor that this test runs on. */
#include <string.h>
#include <sys/mman.h>

#include "guest/instructions.h"

#define CODE_BYTES 4096
#define VARIABLES_OFFSET 0x100
#define STACK_BYTES 4096
#define ROUNDS 2000
#define FLAGS_COMPARED 0x8d5U /* OF SF ZF AF PF CF */

static const struct {
	const char *bytes;
	guint length_bytes;
} known[] = {
	{ "\x41\x57", 2 },				    /* push %r15 */
	{ "\x55", 1 },					    /* push %rbp */
	{ "\x54", 1 },					    /* push %rsp */
	{ "\x48\x89\xe5", 3 },				    /* mov %rsp,%rbp */
	{ "\x41\x89\xf1", 3 },				    /* mov %esi,%r9d */
	{ "\x49\x89\xfe", 3 },				    /* mov %rdi,%r14 */
	{ "\x48\x8b\xdf", 3 },				    /* mov %rdi,%rbx, the other way */
	{ "\xb9\x0b\x00\x00\x00", 5 },			    /* mov $0xb,%ecx */
	{ "\xba\x00\x00\x00\x80", 5 },			    /* mov $0x80000000,%edx */
	{ "\x49\xc7\xc4\x00\x12\x03\xf0", 7 },		    /* mov $0xfffffffff0031200,%r12 */
	{ "\x48\xb8\x88\x77\x66\x55\x44\x33\x22\x11", 10 }, /* movabs $0x1122334455667788,%rax */
	{ "\x48\x83\xec\x10", 4 },			    /* sub $0x10,%rsp */
	{ "\x48\x81\xec\x00\x01\x00\x00", 7 },		    /* sub $0x100,%rsp */
	{ "\x48\x83\xc4\x80", 4 },			    /* add $-0x80,%rsp */
	{ "\x48\x81\xc7\x50\x01\x00\x00", 7 },		    /* add $0x150,%rdi */
	{ "\x83\xe9\x01", 3 },				    /* sub $1,%ecx */
	{ "\x05\xff\xff\xff\x7f", 5 },			    /* add $0x7fffffff,%eax */
	{ "\x48\x85\xff", 3 },				    /* test %rdi,%rdi */
	{ "\x85\xf6", 2 },				    /* test %esi,%esi */
	{ "\x31\xc0", 2 },				    /* xor %eax,%eax */
	{ "\x45\x31\xc0", 3 },				    /* xor %r8d,%r8d */
	{ "\x4c\x8d\x54\x24\x08", 5 },			    /* lea 0x8(%rsp),%r10 */
	{ "\x8d\x46\xff", 3 },				    /* lea -1(%rsi),%eax */
	{ "\x66\x90", 2 },				    /* xchg %ax,%ax */
	{ "\x0f\x1f\x44\x00\x00", 5 },			    /* nopl 0(%rax,%rax,1) */
	{ "\x48\x8b\x35\x00\x01\x00\x00", 7 },		    /* mov 0x100(%rip),%rsi */
	{ "\x44\x8b\x25\x00\x01\x00\x00", 7 },		    /* mov 0x100(%rip),%r12d */
	{ "\xe8\x00\x00\x00\x00", 5 },			    /* call to behind it */
};

/* Begin as functions do as well, but touch memory or are no single step. */
static const struct {
	const char *bytes;
	guint length_bytes;
} refused[] = {
	{ "\x48\x8b\x07", 3 },					/* mov (%rdi),%rax */
	{ "\x65\x48\x8b\x05\x62\x14\xf6\x7e", 8 },		/* mov %gs:disp(%rip),%rax */
	{ "\x48\x89\x05\x00\x01\x00\x00", 7 },			/* mov %rax,0x100(%rip) */
	{ "\x8a\x05\x00\x01\x00\x00", 6 },			/* mov 0x100(%rip),%al */
	{ "\x48\x89\x07", 3 },					/* mov %rax,(%rdi) */
	{ "\x65\x48\x8b\x04\x25\x28\x00\x00\x00", 9 },		/* mov %gs:0x28,%rax */
	{ "\x65\x81\x05\x50\x62\xf7\x7e\x00\x00\x01\x00", 11 }, /* addl $0x10000,%gs:disp(%rip) */
	{ "\x48\x8d\x05\x00\x00\x00\x00", 7 },			/* lea 0(%rip),%rax */
	{ "\x48\x8d\x04\x37", 4 },				/* lea (%rdi,%rsi,1),%rax */
	{ "\x66\x83\xc0\x01", 4 },				/* add $1,%ax */
	{ "\x04\x01", 2 },					/* add $1,%al */
	{ "\x31\xf0", 2 },					/* xor %esi,%eax */
	{ "\x48\x01\xf0", 3 },					/* add %rsi,%rax */
	{ "\x6a\x01", 2 },					/* push $1 */
	{ "\xff\x37", 2 },					/* push (%rdi) */
	{ "\x66\x50", 2 },					/* push %ax */
	{ "\x67\x8d\x07", 3 },					/* lea (%edi),%eax */
	{ "\x0f\x20\xd8", 3 },					/* mov %cr3,%rax */
	{ "\x8c\xd8", 2 },					/* mov %ds,%eax */
	{ "\x74\x10", 2 },					/* je */
	{ "\xeb\xfe", 2 },					/* jmp */
	{ "\xc3", 1 },						/* ret */
	{ "\xcc", 1 },						/* int3 */
	{ "\xf3\x0f\x1e\xfa", 4 }, /* endbr64: a NOP, but not one to stand at */
};

#define INSIDE_COUNT (HVP_GENERAL_COUNT + 1)

extern guint64 inside[INSIDE_COUNT]; /* the instruction's registers and flags */
extern void *instruction_at;

/* Runs the instruction at instruction_at with the registers inside, which has what comes of it. */
__asm__(".pushsection .bss\n"
	".balign 16\n"
	"inside:\n"
	"	.zero 136\n"
	"instruction_at:\n"
	"	.zero 8\n"
	"outside:\n"
	"	.zero 8\n"
	".popsection\n"
	".pushsection .text\n"
	"run_natively:\n"
	"	pushq %rbx\n"
	"	pushq %rbp\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, outside(%rip)\n"
	"	pushq 128+inside(%rip)\n"
	"	popfq\n"
	"	movq 0+inside(%rip), %rax\n"
	"	movq 8+inside(%rip), %rcx\n"
	"	movq 16+inside(%rip), %rdx\n"
	"	movq 24+inside(%rip), %rbx\n"
	"	movq 40+inside(%rip), %rbp\n"
	"	movq 48+inside(%rip), %rsi\n"
	"	movq 56+inside(%rip), %rdi\n"
	"	movq 64+inside(%rip), %r8\n"
	"	movq 72+inside(%rip), %r9\n"
	"	movq 80+inside(%rip), %r10\n"
	"	movq 88+inside(%rip), %r11\n"
	"	movq 96+inside(%rip), %r12\n"
	"	movq 104+inside(%rip), %r13\n"
	"	movq 112+inside(%rip), %r14\n"
	"	movq 120+inside(%rip), %r15\n"
	"	movq 32+inside(%rip), %rsp\n"
	"	jmpq *instruction_at(%rip)\n"
	"come_back:\n"
	"	movq %rsp, 32+inside(%rip)\n"
	"	movq outside(%rip), %rsp\n"
	"	movq %rax, 0+inside(%rip)\n"
	"	movq %rcx, 8+inside(%rip)\n"
	"	movq %rdx, 16+inside(%rip)\n"
	"	movq %rbx, 24+inside(%rip)\n"
	"	movq %rbp, 40+inside(%rip)\n"
	"	movq %rsi, 48+inside(%rip)\n"
	"	movq %rdi, 56+inside(%rip)\n"
	"	movq %r8, 64+inside(%rip)\n"
	"	movq %r9, 72+inside(%rip)\n"
	"	movq %r10, 80+inside(%rip)\n"
	"	movq %r11, 88+inside(%rip)\n"
	"	movq %r12, 96+inside(%rip)\n"
	"	movq %r13, 104+inside(%rip)\n"
	"	movq %r14, 112+inside(%rip)\n"
	"	movq %r15, 120+inside(%rip)\n"
	"	pushfq\n"
	"	popq 128+inside(%rip)\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbp\n"
	"	popq %rbx\n"
	"	ret\n"
	".popsection\n");
void run_natively(void);
extern const guint8 come_back[];

/* The instruction, and behind it a jump back that needs no register. */
static void place(guint8 *code, const char *bytes, guint length_bytes)
{
	static const guint8 jump[] = { 0xff, 0x25, 0, 0, 0, 0 }; /* jmp *0(%rip) */
	guint64 back = (guint64)(guintptr)come_back;

	memcpy(code, bytes, length_bytes);
	memcpy(code + length_bytes, jump, sizeof jump);
	memcpy(code + length_bytes + sizeof jump, &back, sizeof back);
	memset(code + VARIABLES_OFFSET, 0xa5, CODE_BYTES - VARIABLES_OFFSET);
	instruction_at = code;
}

static guint64 random_value(void)
{
	static const guint64 corners[] = { 0,	       1,	   0x7fffffff, 0x80000000,
					   0xffffffff, G_MAXINT64, 1ULL << 63, G_MAXUINT64 };
	guint choice = (guint)g_test_rand_int_range(0, 2 * G_N_ELEMENTS(corners));

	return choice < G_N_ELEMENTS(corners)
		       ? corners[choice]
		       : (guint64)(guint32)g_test_rand_int() << 32 | (guint32)g_test_rand_int();
}

static HvpRegisters random_registers(const guint8 *stack)
{
	guint64 flags = (guint32)g_test_rand_int() & FLAGS_COMPARED;
	HvpRegisters registers = { .rip = (guint64)(guintptr)instruction_at,
				   .rflags = 0x202 | flags };

	for (guint i = 0; i < HVP_GENERAL_COUNT; i++)
		registers.general[i] = random_value();
	registers.general[HVP_RSP] = (guint64)(guintptr)(stack + STACK_BYTES / 2);
	return registers;
}

static void compare_once(guint8 *code, guint8 *stack, guint index)
{
	HvpRegisters registers = random_registers(stack);
	g_autoptr(GError) error = NULL;
	HvpEmulation emulation;
	HvpEmulationPush push;
	guint64 pushed, memory = 0;

	G_STATIC_ASSERT(sizeof inside == 136);
	memcpy(inside, registers.general, sizeof registers.general);
	inside[HVP_GENERAL_COUNT] = registers.rflags;
	run_natively();
	if (!hvp_instructions_emulate(code, CODE_BYTES, hvp_gva((guint64)(guintptr)code),
				      &emulation, &error))
		g_error("instruction %u: %s", index, error->message);
	g_assert_true(hvp_emulation_is_valid(&emulation));
	memcpy(&memory,
	       (void *)(guintptr)(hvp_emulation_read_bytes(&emulation) > 0
					  ? emulation.value
					  : (guint64)(guintptr)code),
	       hvp_emulation_read_bytes(&emulation));
	hvp_emulation_run(&emulation, memory, &registers, &push);
	g_assert_cmphex(registers.rip, ==, (guint64)(guintptr)code + known[index].length_bytes);
	g_assert_cmpmem(inside, sizeof registers.general, registers.general,
			sizeof registers.general);
	/* AF is undefined after logic. */
	if (emulation.kind == HVP_EMULATION_TEST || emulation.kind == HVP_EMULATION_CLEAR)
		registers.rflags |= inside[HVP_GENERAL_COUNT] & 0x10;
	g_assert_cmphex(registers.rflags & FLAGS_COMPARED, ==,
			inside[HVP_GENERAL_COUNT] & FLAGS_COMPARED);
	if (!push.is_there)
		return;
	memcpy(&pushed, (void *)(guintptr)registers.general[HVP_RSP], sizeof pushed);
	g_assert_cmphex(push.value, ==, pushed);
}

static void test_known(void)
{
	guint8 *code = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_autofree guint8 *stack = g_malloc0(STACK_BYTES);

	if (code == MAP_FAILED) {
		g_test_skip("no memory that can be written and run");
		return;
	}
	for (guint i = 0; i < G_N_ELEMENTS(known); i++) {
		place(code, known[i].bytes, known[i].length_bytes);
		for (guint round = 0; round < ROUNDS; round++)
			compare_once(code, stack, i);
	}
	munmap(code, CODE_BYTES);
}

static void test_refused(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(refused); i++) {
		g_autofree guint8 *bytes = g_memdup2(refused[i].bytes, refused[i].length_bytes);
		g_autoptr(GError) error = NULL;
		HvpEmulation emulation = { .kind = HVP_EMULATION_KIND_COUNT };

		if (hvp_instructions_emulate(bytes, refused[i].length_bytes, hvp_gva(0x1000),
					     &emulation, &error))
			g_error("instruction %u was not refused", i);
		g_assert_error(error, HVP_ERROR, HVP_ERROR_UNSUPPORTED);
		g_assert_cmpuint(emulation.kind, ==, HVP_EMULATION_KIND_COUNT);
	}
}

static void test_invalid(void)
{
	const HvpEmulation good = { HVP_EMULATION_MOVE, 3, HVP_R15, HVP_RAX, 1, 0 };
	HvpEmulation bad[] = { good, good, good, good, good, good };

	bad[0].kind = HVP_EMULATION_NONE;
	bad[1].kind = HVP_EMULATION_KIND_COUNT;
	bad[2].length_bytes = 0;
	bad[3].length_bytes = 16;
	bad[4].target = HVP_GENERAL_COUNT;
	bad[5].source = 255;
	g_assert_true(hvp_emulation_is_valid(&good));
	for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_false(hvp_emulation_is_valid(&bad[i]));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/emulation/known-ones-AS-THE-PROCESSOR", test_known);
	g_test_add_func("/emulation/others-UNSUPPORTED", test_refused);
	g_test_add_func("/emulation/malformed-INVALID", test_invalid);
	return g_test_run();
}
