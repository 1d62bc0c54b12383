/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the vCPUs of the bare-metal guest do; see layout.h. */
#include "layout.h"

#define APIC_COMMAND_LOW ((volatile uint32_t *)0xfee00300)
#define APIC_COMMAND_HIGH ((volatile uint32_t *)0xfee00310)
#define INIT_OTHERS 0x000c4500
#define INIT_ONE 0x00004500
#define START_OTHERS (0x000c4600 | GUEST_TRAMPOLINE >> 12)
#define START_ONE (0x00004600 | GUEST_TRAMPOLINE >> 12)

#define PORT_DELAY 0x80
#define PORT_CLOCK_INDEX 0x70
#define PORT_CLOCK 0x71

/* Of the clock's memory: RAM from 16 MiB on, and from 4 GiB on, in units of 64 KiB. */
#define CLOCK_LOW 0x34
#define CLOCK_HIGH 0x5b
#define HIGH_START 0x100000000
#define PAGE_BYTES 0x1000
#define LARGE_PAGE_BYTES 0x200000
#define PRESENT_WRITE 3
#define LARGE 0x80
/* Behind the image, in the last table of GUEST_VIRTUAL. */
#define WINDOW (GUEST_VIRTUAL + 64 * PAGE_BYTES)
#define WINDOW_ENTRY ((volatile uint64_t *)(GUEST_PML4 + 0x8000 + 64 * 8))
#define PAGE_FAULT 14
#define CODE64 0x18

extern const char guest_old[], guest_new[], guest_functions_end[];

/* How many of the values that it keeps in registers changed; *@ret_sum of all answers. */
uint64_t guest_round(const uint64_t *functions, uint64_t *ret_sum);
void guest_main(uint32_t is_other);

static GuestBox *box(void)
{
	return (GuestBox *)GUEST_BOX;
}

static uint32_t apic_id(void)
{
	uint32_t a = 1, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return b >> 24;
}

static uint64_t now(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static void wait_cycles(uint64_t cycles)
{
	uint64_t start = now();

	while (now() - start < cycles)
		__asm__ volatile("pause");
}

static void out(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

/* --- a map of all RAM, and an interrupt table --- */

static uint64_t read_clock(uint8_t index, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++) {
		out(PORT_CLOCK_INDEX, (uint8_t)(index + i));
		value |= (uint64_t)in(PORT_CLOCK) << 8 * i;
	}
	return value;
}

/* The table at @gpa, wherever that is, until the next one. */
static volatile uint64_t *look_at(uint64_t gpa)
{
	*WINDOW_ENTRY = gpa | PRESENT_WRITE;
	__asm__ volatile("invlpg (%0)" : : "r"(WINDOW) : "memory");
	return (volatile uint64_t *)WINDOW;
}

static void clear_table(uint64_t gpa)
{
	volatile uint64_t *table = look_at(gpa);

	for (int i = 0; i < 512; i++)
		table[i] = 0;
}

/* Level-2 tables for [@start, @end), the first one at @tables and each further one below. */
static void map_range(uint64_t level3, uint64_t tables, uint64_t start, uint64_t end)
{
	for (uint64_t gpa = start; gpa < end; gpa += LARGE_PAGE_BYTES) {
		uint64_t table = tables - ((gpa - start) >> 30) * PAGE_BYTES;

		if ((gpa & 0x3fffffff) == 0) {
			clear_table(table);
			look_at(level3)[gpa >> 30] = table | PRESENT_WRITE;
		}
		look_at(table)[(gpa >> 21) & 511] = gpa | PRESENT_WRITE | LARGE;
	}
}

static void map_ram(void)
{
	uint64_t low_end = (16 << 20) + (read_clock(CLOCK_LOW, 2) << 16);
	uint64_t high_end = HIGH_START + (read_clock(CLOCK_HIGH, 3) << 16);
	uint64_t level3 = low_end - PAGE_BYTES;

	clear_table(level3);
	map_range(level3, level3 - PAGE_BYTES, 0, low_end);
	map_range(level3, high_end - PAGE_BYTES, HIGH_START, high_end);
	((volatile uint64_t *)GUEST_PML4)[(GUEST_LINEAR >> 39) & 511] = level3 | PRESENT_WRITE;
	*WINDOW_ENTRY = 0;
	__asm__ volatile("invlpg (%0)" : : "r"(WINDOW) : "memory");
}

/* Nobody is to come here. */
static void on_fault(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void make_gates(void)
{
	volatile uint64_t *gate = (volatile uint64_t *)GUEST_IDT + 2 * PAGE_FAULT;
	uint64_t handler = (uint64_t)on_fault;

	gate[0] = (handler & 0xffff) | CODE64 << 16 | 0x8eULL << 40 |
		  (handler >> 16 & 0xffff) << 48;
	gate[1] = handler >> 32;
}

static void use_gates(void)
{
	const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) descriptor = { PAGE_BYTES - 1, GUEST_LINEAR + GUEST_IDT };

	__asm__ volatile("lidt %0" : : "m"(descriptor));
}

static void start_others(void)
{
	*APIC_COMMAND_LOW = INIT_OTHERS;
	wait_cycles(1000 * 1000);
	*APIC_COMMAND_LOW = START_OTHERS;
}

static void start_one(uint32_t id)
{
	*APIC_COMMAND_HIGH = id << 24;
	*APIC_COMMAND_LOW = INIT_ONE;
	wait_cycles(1000 * 1000);
	*APIC_COMMAND_HIGH = id << 24;
	*APIC_COMMAND_LOW = START_ONE;
}

static void halt(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void call_round(GuestVcpu *vcpu, const uint64_t *functions)
{
	uint64_t sum;

	vcpu->disturbed += guest_round(functions, &sum);
	if (sum == GUEST_FUNCTIONS)
		vcpu->old_rounds++;
	else if (sum == 2 * GUEST_FUNCTIONS)
		vcpu->new_rounds++;
	else
		vcpu->mixed++;
}

/* Every read of the clock's seconds is below 60, in whichever of its two notations. */
static void port_round(GuestVcpu *vcpu)
{
	out(PORT_DELAY, (uint8_t)vcpu->rounds);
	out(PORT_CLOCK_INDEX, 0);
	if (in(PORT_CLOCK) > 0x59)
		vcpu->disturbed++;
}

/* A thousand readings, so that little else is done in between. */
static void time_round(GuestVcpu *vcpu)
{
	static uint64_t epoch;
	uint64_t last = now();

	if (epoch != box()->gaps_epoch) {
		epoch = box()->gaps_epoch;
		vcpu->longest_gap = 0;
	}
	for (int i = 0; i < 1000; i++) {
		uint64_t time = now();

		if (time - last > vcpu->longest_gap)
			vcpu->longest_gap = time - last;
		last = time;
	}
}

static void run(uint32_t id, const uint64_t *functions)
{
	volatile GuestBox *shared = box();
	GuestVcpu *vcpu = &box()->vcpus[id];

	for (;;) {
		uint32_t role = shared->roles[id];

		vcpu->role = role;
		vcpu->rounds++;
		if (role == GUEST_ROLE_HALT)
			halt();
		if (role == GUEST_ROLE_TIME)
			time_round(vcpu);
		else
			call_round(vcpu, functions);
		if (role == GUEST_ROLE_PORT)
			port_round(vcpu);
		if (shared->wake != 0 && id == 0) {
			start_one((uint32_t)shared->wake - 1);
			shared->wake = 0;
		}
		__asm__ volatile("" : : : "memory");
	}
}

void guest_main(uint32_t is_other)
{
	uint64_t functions[GUEST_FUNCTIONS];
	uint32_t id = apic_id() % GUEST_MAX_VCPUS;

	for (int i = 0; i < GUEST_FUNCTIONS; i++)
		functions[i] = (uint64_t)guest_old + (uint64_t)i * GUEST_FUNCTION_BYTES;
	if (!is_other) {
		map_ram();
		make_gates();
		box()->functions = (uint64_t)guest_old;
		box()->replacements = (uint64_t)guest_new;
		box()->round_start = (uint64_t)guest_round;
		box()->round_end = (uint64_t)guest_functions_end;
		start_others();
		__atomic_store_n(&box()->magic, GUEST_MAGIC, __ATOMIC_SEQ_CST);
	}
	use_gates();
	box()->vcpus[id].apic_id = id;
	__atomic_fetch_add(&box()->vcpu_count, 1, __ATOMIC_SEQ_CST);
	run(id, functions);
}
