/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From reset to 64-bit mode. The image is linked for GUEST_VIRTUAL; what runs before paging uses
 * differences of symbols only.
 */
#include "layout.h"

#define CODE32 0x08
#define DATA 0x10
#define CODE64 0x18

#define PRESENT_WRITE 3
#define LARGE 0x80

#define LOW(symbol) (symbol - image_start + GUEST_BASE)

	.section .text.start, "ax"
	.globl image_start
image_start:
	.code16
/* The first vCPU comes from the reset vector, at GUEST_ROM; the copy is not there yet. */
first16:
	cli
	lgdtl	%cs:(rom_descriptor - image_start)
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$CODE32, $(first32 - image_start + GUEST_ROM)

	.code32
first32:
	movw	$DATA, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$GUEST_ROM, %esi
	movl	$GUEST_BASE, %edi
	movl	$(GUEST_BYTES / 4), %ecx
	rep movsl
	/* The trampoline of the others. */
	movl	$(LOW(trampoline)), %esi
	movl	$GUEST_TRAMPOLINE, %edi
	movl	$(trampoline_end - trampoline), %ecx
	rep movsb
	movl	$GUEST_STACKS, %esp
	call	make_tables
	movl	$0, %ebx
	jmp	enter64

/* Level 4 at GUEST_PML4, then level 3 (low), level 3 (high), level 2 (4 x 512 large pages). */
make_tables:
	movl	$GUEST_PML4, %edi
	xorl	%eax, %eax
	movl	$(8 * 4096 / 4), %ecx
	rep stosl
	movl	$(GUEST_PML4 + 0x1000 + PRESENT_WRITE), GUEST_PML4
	movl	$(GUEST_PML4 + 0x2000 + PRESENT_WRITE), GUEST_PML4 + 511 * 8
	/* Identity: 4 GiB in large pages. */
	movl	$(GUEST_PML4 + 0x3000 + PRESENT_WRITE), %eax
	movl	$(GUEST_PML4 + 0x1000), %edi
	movl	$4, %ecx
1:	movl	%eax, (%edi)
	addl	$0x1000, %eax
	addl	$8, %edi
	loop	1b
	movl	$(PRESENT_WRITE | LARGE), %eax
	movl	$(GUEST_PML4 + 0x3000), %edi
	movl	$2048, %ecx
1:	movl	%eax, (%edi)
	addl	$0x200000, %eax
	addl	$8, %edi
	loop	1b
	/* GUEST_VIRTUAL: entry 510 of level 3, 8 of level 2, then small pages. */
	movl	$(GUEST_PML4 + 0x7000 + PRESENT_WRITE), GUEST_PML4 + 0x2000 + 510 * 8
	movl	$(GUEST_PML4 + 0x8000 + PRESENT_WRITE), GUEST_PML4 + 0x7000 + 8 * 8
	movl	$(GUEST_BASE + PRESENT_WRITE), %eax
	movl	$(GUEST_PML4 + 0x8000), %edi
	movl	$(GUEST_BYTES / 4096), %ecx
1:	movl	%eax, (%edi)
	movl	$0, 4(%edi)
	addl	$0x1000, %eax
	addl	$8, %edi
	loop	1b
	ret

/* EBX: 0 for the first vCPU, 1 for others. */
enter64:
	movl	%cr4, %eax
	orl	$0x620, %eax		/* PAE, OSFXSR, OSXMMEXCPT */
	movl	%eax, %cr4
	movl	$GUEST_PML4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx	/* EFER */
	rdmsr
	orl	$0x100, %eax		/* LME */
	wrmsr
	movl	%cr0, %eax
	andl	$~4, %eax		/* not EM */
	orl	$0x80000002, %eax	/* PG, MP */
	movl	%eax, %cr0
	lgdtl	LOW(descriptor)
	ljmpl	$CODE64, $(LOW(low64))

	.code64
low64:
	movabsq	$high64, %rax
	jmp	*%rax
high64:
	/* Numbered as they come; the stack is by that number. */
	movl	$1, %eax
	lock xaddl %eax, next_stack(%rip)
	incl	%eax
	imull	$GUEST_STACK_BYTES, %eax
	leaq	GUEST_STACKS(%rax), %rsp
	xorl	%ebp, %ebp
	movl	%ebx, %edi
	call	guest_main
1:	hlt
	jmp	1b

	.code16
trampoline:
	cli
	lgdtl	%cs:(low_descriptor - trampoline)
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$CODE32, $(LOW(others32))
	.balign 8
low_descriptor:
	.word	descriptors_end - descriptors - 1
	.long	LOW(descriptors)
trampoline_end:

	.code32
others32:
	movw	$DATA, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$1, %ebx
	jmp	enter64

	.balign 8
descriptors:
	.quad	0
	.quad	0x00cf9b000000ffff	/* 32-bit code */
	.quad	0x00cf93000000ffff	/* data */
	.quad	0x00af9b000000ffff	/* 64-bit code */
descriptors_end:
rom_descriptor:
	.word	descriptors_end - descriptors - 1
	.long	descriptors - image_start + GUEST_ROM
	.balign 8
descriptor:
	.word	descriptors_end - descriptors - 1
	.long	LOW(descriptors)
	.balign 4
next_stack:
	.long	0

/*
 * guest_round(functions, sum): calls all, and leaves the sum of what they answered. Registers
 * that a call preserves, and those that it does not but that nobody here uses, hold known values
 * in between; returns how many of them changed.
 */
	.code64
	.text
	.globl	guest_round
guest_round:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	pushq	%rsi
	movq	%rdi, %rbx
	xorl	%r12d, %r12d
	xorl	%r13d, %r13d
	movabsq	$0x1111222233334444, %rbp
	movabsq	$0x5555666677778888, %r14
	movabsq	$0x9999aaaabbbbcccc, %r15
	movabsq	$0x0123456789abcdef, %rcx
	movabsq	$0x13579bdf02468ace, %rdx
	movabsq	$0x0f1e2d3c4b5a6978, %rsi
	movabsq	$0x1020304050607080, %rdi
	leaq	0x777(%rbp), %r8
	leaq	0x777(%r14), %r9
	leaq	0x777(%r15), %r10
	movq	%rsp, %r11
	stc
1:	call	*(%rbx, %r13, 8)
	leaq	(%r12, %rax), %r12
	leaq	1(%r13), %r13
	/* The carry is still there: leaq and jrcxz change no flags. */
	jnc	3f
	leaq	-GUEST_FUNCTIONS(%r13), %rax
	xchgq	%rax, %rcx
	jrcxz	2f
	xchgq	%rax, %rcx
	jmp	1b
2:	xchgq	%rax, %rcx
	xorl	%eax, %eax
	jmp	4f
3:	movl	$1, %eax
4:	.macro	expect value, register
	movabsq	$\value, %r13
	cmpq	%r13, \register
	setne	%r13b
	movzbl	%r13b, %r13d
	addl	%r13d, %eax
	.endm
	cmpq	%rsp, %r11
	setne	%r11b
	movzbl	%r11b, %r11d
	addl	%r11d, %eax
	expect	0x1111222233334444, %rbp
	expect	0x5555666677778888, %r14
	expect	0x9999aaaabbbbcccc, %r15
	expect	0x0123456789abcdef, %rcx
	expect	0x13579bdf02468ace, %rdx
	expect	0x0f1e2d3c4b5a6978, %rsi
	expect	0x1020304050607080, %rdi
	expect	(0x1111222233334444 + 0x777), %r8
	expect	(0x5555666677778888 + 0x777), %r9
	expect	(0x9999aaaabbbbcccc + 0x777), %r10
	popq	%rsi
	movq	%r12, (%rsi)
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret

/*
 * Functions as a kernel has them: a slot of 5 bytes in front, then the body. Old ones answer 1,
 * new ones 2. One may not be switched while somebody is in a round.
 */
	.globl	guest_old, guest_new, guest_functions_end
	.balign	GUEST_FUNCTION_BYTES
guest_old:
	.rept	GUEST_FUNCTIONS
	.balign	GUEST_FUNCTION_BYTES
	.byte	0x0f, 0x1f, 0x44, 0x00, 0x00
	movl	$1, %eax
	ret
	.endr
	.balign	GUEST_FUNCTION_BYTES
guest_new:
	.rept	GUEST_FUNCTIONS
	.balign	GUEST_FUNCTION_BYTES
	.byte	0x0f, 0x1f, 0x44, 0x00, 0x00
	movl	$2, %eax
	ret
	.endr
	.balign	GUEST_FUNCTION_BYTES
guest_functions_end:

	.section .reset, "ax"
	.code16
	/* At 0xfff0 of the segment, to its start: offsets wrap around. */
	.byte	0xe9
	.word	0x10000 - 0xfff3
