/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a guest is known by, in a backend that has two vCPUs and little memory. */
#include "keeper/guest-mark.h"

#include <string.h>

#include "base/bytes.h"

#define IDT 0xfffffe0000000000ULL
#define GATE (IDT + 14 * 16)
#define HANDLER 0xffffffff81001000ULL
#define OTHER_HANDLER 0xffffffff92001000ULL
#define SITE_GPA 0x7000ULL
#define VCPUS 2

typedef struct {
	HvpBackend backend;
	guint64 handlers[VCPUS]; /* that the gates lead to; 0: nothing is mapped there */
	bool no_text;		 /* nothing is mapped at the handlers */
	guint16 site;		 /* the bytes where a spin trap was planted */
} Fake;

static bool read_virtual(HvpBackend *backend, guint vcpu_index, HvpGva gva, void *ret_bytes,
			 gsize length_bytes, GError **error)
{
	const Fake *self = (const Fake *)backend;
	guint64 handler = self->handlers[vcpu_index];
	guint8 gate[16] = { 0 };

	hvp_store_u16(gate, (guint16)handler);
	hvp_store_u16(gate + 6, (guint16)(handler >> 16));
	hvp_store_u32(gate + 8, (guint32)(handler >> 32));
	if (gva.value == GATE && handler != 0 && length_bytes == sizeof gate)
		memcpy(ret_bytes, gate, sizeof gate);
	else if (gva.value == handler && !self->no_text)
		memset(ret_bytes, 0x90, length_bytes);
	else
		return hvp_error_set(error, HVP_ERROR_FAULT, "nothing is mapped");
	return true;
}

static bool read_physical(HvpBackend *backend, HvpGpa gpa, void *ret_bytes, gsize length_bytes,
			  GError **error)
{
	const Fake *self = (const Fake *)backend;

	(void)error;
	g_assert_cmphex(gpa.value, ==, SITE_GPA);
	g_assert_cmpuint(length_bytes, ==, sizeof self->site);
	memcpy(ret_bytes, &self->site, sizeof self->site);
	return true;
}

static const HvpBackendOps ops = { .name = "fake",
				   .read_virtual = read_virtual,
				   .read_physical = read_physical };

typedef struct {
	Fake fake;
	HvpVcpus vcpus;
	HvpGuestMark mark;
} Scene;

static Scene *scene_new(void)
{
	Scene *self = g_new0(Scene, 1);

	self->fake.backend.ops = &ops;
	self->vcpus.backend = &self->fake.backend;
	self->vcpus.count = VCPUS;
	for (guint i = 0; i < VCPUS; i++) {
		self->fake.handlers[i] = HANDLER;
		self->vcpus.registers[i] =
			(HvpRegisters){ .cr0 = 1ULL << 31 | 1, .idt_base = IDT };
	}
	return self;
}

/* A scene whose mark is known. */
static Scene *scene_new_known(void)
{
	Scene *self = scene_new();

	hvp_guest_mark_take(&self->mark, &self->vcpus);
	g_assert_true(self->mark.is_known);
	return self;
}

static void plant(Scene *self)
{
	self->vcpus.spins.sites[0] =
		(HvpKeeperSpin){ .pc = hvp_gva(HANDLER + 0x100), .gpa = hvp_gpa(SITE_GPA) };
	self->vcpus.spins.count = 1;
	self->vcpus.planted[0] = self->vcpus.spins.sites[0].pc;
	self->vcpus.planted_count = 1;
	self->fake.site = 0xfeeb;
}

static void assert_verdict(Scene *self, HvpGuestMarkVerdict expected)
{
	g_assert_cmpint(hvp_guest_mark_judge(&self->mark, &self->vcpus), ==, expected);
}

static void set_reset(Scene *self, guint index)
{
	self->vcpus.registers[index] = (HvpRegisters){ .cr0 = 0x60000010, .rip = 0xfff0 };
}

/* Firmware with tables of its own, or a guest of the guest: nothing that leads anywhere here. */
static void set_elsewhere(Scene *self, guint index)
{
	self->fake.handlers[index] = 0;
}

static void test_same(void)
{
	g_autofree Scene *scene = scene_new_known();

	assert_verdict(scene, HVP_GUEST_MARK_SAME);
	/* One that waits to be started, or is in a guest of its own, says nothing. */
	set_reset(scene, 0);
	assert_verdict(scene, HVP_GUEST_MARK_SAME);
	set_elsewhere(scene, 0);
	assert_verdict(scene, HVP_GUEST_MARK_SAME);
}

static void test_all_off(void)
{
	g_autofree Scene *scene = scene_new_known();

	set_reset(scene, 0);
	set_reset(scene, 1);
	assert_verdict(scene, HVP_GUEST_MARK_RESET);
}

static void test_another_kernel(void)
{
	g_autofree Scene *scene = scene_new_known();

	scene->fake.handlers[0] = OTHER_HANDLER;
	scene->fake.handlers[1] = OTHER_HANDLER;
	assert_verdict(scene, HVP_GUEST_MARK_RESET);
	set_reset(scene, 1);
	assert_verdict(scene, HVP_GUEST_MARK_RESET);
	/* A gate that leads nowhere is none. */
	scene->fake.no_text = true;
	assert_verdict(scene, HVP_GUEST_MARK_UNSURE);
}

static void test_elsewhere(void)
{
	g_autofree Scene *scene = scene_new_known();

	set_elsewhere(scene, 0);
	set_elsewhere(scene, 1);
	assert_verdict(scene, HVP_GUEST_MARK_UNSURE);
	set_reset(scene, 0);
	assert_verdict(scene, HVP_GUEST_MARK_UNSURE);
	/* Firmware's table is in the lower half. */
	scene->vcpus.registers[1].idt_base = 0x7f000000;
	assert_verdict(scene, HVP_GUEST_MARK_UNSURE);
}

/* Without KASLR the same kernel is where it was, but loaded anew. */
static void test_traps_lost(void)
{
	g_autofree Scene *scene = scene_new_known();

	plant(scene);
	assert_verdict(scene, HVP_GUEST_MARK_SAME);
	scene->fake.site = 0x01b8;
	assert_verdict(scene, HVP_GUEST_MARK_RESET);
}

static void test_take(void)
{
	g_autofree Scene *scene = scene_new();

	set_reset(scene, 0);
	set_elsewhere(scene, 1);
	hvp_guest_mark_take(&scene->mark, &scene->vcpus);
	g_assert_false(scene->mark.is_known);
	scene->fake.handlers[1] = HANDLER;
	hvp_guest_mark_take(&scene->mark, &scene->vcpus);
	g_assert_true(scene->mark.is_known);
	assert_verdict(scene, HVP_GUEST_MARK_SAME);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/guest-mark/same", test_same);
	g_test_add_func("/guest-mark/all-off-RESET", test_all_off);
	g_test_add_func("/guest-mark/another-kernel-RESET", test_another_kernel);
	g_test_add_func("/guest-mark/elsewhere-UNSURE", test_elsewhere);
	g_test_add_func("/guest-mark/traps-lost-RESET", test_traps_lost);
	g_test_add_func("/guest-mark/take", test_take);
	return g_test_run();
}
