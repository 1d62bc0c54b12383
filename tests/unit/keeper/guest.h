/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest of a few hundred bytes that is its own firmware (qemu -bios): copies
 * itself to RAM, brings all vCPUs into 64-bit mode, each with a stack of its own,
 * and lets them call small functions at known addresses for ever. Interrupts are
 * off, memory is mapped one to one, RBX is the vCPU's number.
 */
#pragma once

#include <glib.h>

#define GUEST_ROM_BYTES 65536
#define GUEST_RESET_OFFSET 0xfff0
#define GUEST_BASE 0x8000

/* Called by every vCPU, in turn, for ever. */
#define GUEST_WORK 0x8200
#define GUEST_INNER 0x8280   /* returns 7 */
#define GUEST_PATCHED 0x8300 /* mov $1, %eax; the result goes to GUEST_RESULT */
#define GUEST_PATCHED_BYTE (GUEST_PATCHED + 1)
/* Called by nobody. */
#define GUEST_CALLEE 0x8240	   /* returns RDI + GUEST_INNER() */
#define GUEST_CALLEE_CALL 0x8241   /* its call of GUEST_INNER, 5 bytes */
#define GUEST_SLOW 0x82c0	   /* counts RSI down to 0, then as GUEST_CALLEE */
#define GUEST_NOWHERE 0x8340	   /* a return address that nobody runs */

#define GUEST_COUNTERS 0x9010 /* u64 of each vCPU: rounds of its loop */
#define GUEST_RESULT 0x9200   /* u64 of each vCPU */
#define GUEST_SCRATCH 0xa000 /* nobody looks at it */

/* [start, end) of vCPU n's stack. */
#define GUEST_STACK(n) (0x20000 + (n) * 0x4000)
#define GUEST_STACK_BYTES 0x4000

extern const guint8 guest_start[], guest_end[];

__asm__(".pushsection .rodata\n"
	".balign 16\n"
	".globl guest_start, guest_end\n"
	"guest_start:\n"
	".code16\n"
	"	cli\n"
	"	movw %cs, %ax\n"
	"	cmpw $0xf000, %ax\n"
	"	jne 1f\n"
	"	movw %ax, %ds\n"
	"	xorw %ax, %ax\n"
	"	movw %ax, %es\n"
	"	xorw %si, %si\n"
	"	movw $0x8000, %di\n"
	"	movw $0x1000, %cx\n"
	"	cld\n"
	"	rep movsb\n"
	"	movw %ax, %ds\n"
	"	movl $0x2003, 0x1000\n" /* page tables: 2 MiB at 0, and the local APIC */
	"	movl $0x3003, 0x2000\n"
	"	movl $0x4003, 0x2018\n"
	"	movl $0x83, 0x3000\n"
	"	movl $0xfee00093, 0x4fb8\n"
	"1:	xorw %ax, %ax\n"
	"	movw %ax, %ds\n"
	"	movl $0x1000, %eax\n"
	"	movl %eax, %cr3\n"
	"	movl $0x620, %eax\n"
	"	movl %eax, %cr4\n"
	"	movl $0xc0000080, %ecx\n"
	"	rdmsr\n"
	"	orl $0x100, %eax\n"
	"	wrmsr\n"
	"	lgdtl 0x81f0\n"
	"	movl %cr0, %eax\n"
	"	orl $0x80000001, %eax\n"
	"	movl %eax, %cr0\n"
	"	ljmpl $8, $0x8100\n"
	".code64\n"
	".org guest_start + 0x100\n"
	"	movl $1, %ebx\n"
	"	lock xaddl %ebx, 0x9000\n"
	"	leaq 1(%rbx), %rsp\n"
	"	shlq $14, %rsp\n"
	"	addq $0x20000, %rsp\n"
	"	testl %ebx, %ebx\n"
	"	jnz 3f\n"
	"	movl $0xfee00300, %edi\n" /* INIT, then SIPI to 0x8000, to all others */
	"	movl $0xc4500, (%rdi)\n"
	"	movl $0x100000, %ecx\n"
	"2:	pause\n"
	"	loop 2b\n"
	"	movl $0xc4608, (%rdi)\n"
	"3:	incq 0x9010(,%rbx,8)\n"
	"	call guest_start + 0x200\n"
	"	call guest_start + 0x280\n"
	"	call guest_start + 0x300\n"
	"	movq %rax, 0x9200(,%rbx,8)\n"
	"	jmp 3b\n"
	".org guest_start + 0x1d8\n"
	"	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff\n" /* GDT: null, code64, data */
	".org guest_start + 0x1f0\n"
	"	.word 23\n"
	"	.long 0x81d8\n"
	".org guest_start + 0x200\n"
	"	xchgw %ax, %ax\n"
	"	ret\n"
	".org guest_start + 0x240\n"
	"	pushq %rdi\n"
	"	call guest_start + 0x280\n"
	"	popq %rdi\n"
	"	addq %rdi, %rax\n"
	"	ret\n"
	".org guest_start + 0x280\n"
	"	movl $7, %eax\n"
	"	ret\n"
	".org guest_start + 0x2c0\n"
	"4:	decq %rsi\n"
	"	jnz 4b\n"
	"	jmp guest_start + 0x240\n"
	".org guest_start + 0x300\n"
	"	movl $1, %eax\n"
	"	ret\n"
	".org guest_start + 0x340\n"
	"	ud2\n"
	".org guest_start + 0x400\n"
	"guest_end:\n"
	".popsection\n");

/* The firmware image; the caller frees it. */
static inline guint8 *guest_make_rom(void)
{
	/* ljmp $0xf000, $0 */
	static const guint8 reset[] = { 0xea, 0x00, 0x00, 0x00, 0xf0 };
	guint8 *rom = g_malloc0(GUEST_ROM_BYTES);

	memcpy(rom, guest_start, (gsize)(guest_end - guest_start));
	memcpy(rom + GUEST_RESET_OFFSET, reset, sizeof reset);
	return rom;
}
