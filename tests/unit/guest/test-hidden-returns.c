/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "guest/hidden-returns.h"
#include "synthetic-guest.h"

#define SLOT 0xffffc90001000200ULL
#define TRUE_RETURN 0xffffffff9a001234ULL

typedef struct {
	SyntheticGuest *guest;
	HvpKernel *kernel;
	HvpGva task;
} Fixture;

static void set_up(Fixture *self)
{
	SyntheticOptions options = { 0 };

	self->guest = synthetic_guest_new(&options);
	self->task = synthetic_guest_add_task(self->guest, "traced", 5, hvp_gva(0));
	self->kernel = synthetic_guest_attach(self->guest);
}

static void tear_down(Fixture *self)
{
	hvp_kernel_free(self->kernel);
	synthetic_guest_free(self->guest);
}

static void assert_found(Fixture *self, guint64 slot, HvpHiddenBy by, guint64 expected)
{
	g_autoptr(GError) error = NULL;
	HvpGva found = { 0 };

	g_assert_true(hvp_hidden_returns_find(self->kernel, self->task, hvp_gva(slot), by, &found,
					      &error));
	g_assert_cmphex(found.value, ==, expected);
}

static void assert_refused(Fixture *self, guint64 slot, HvpHiddenBy by, HvpErrorCode code)
{
	g_autoptr(GError) error = NULL;
	guint64 calls = self->guest->memory->calls;
	HvpGva found = { 7 };

	g_assert_false(hvp_hidden_returns_find(self->kernel, self->task, hvp_gva(slot), by, &found,
					       &error));
	g_assert_error(error, HVP_ERROR, (int)code);
	g_assert_cmphex(found.value, ==, 7);
	g_assert_cmpuint(self->guest->memory->calls - calls, <=, 4 * HVP_HIDDEN_RETURNS_MAX_NODES);
}

/* A node behind which @next comes. */
static HvpGva add_node(Fixture *self, guint64 next, guint64 slot, guint64 address)
{
	HvpGva node = synthetic_guest_alloc(self->guest, 128);
	HvpGva link = synthetic_guest_member(self->guest, node, HVP_AT_RETHOOK_LLIST);

	synthetic_guest_put(self->guest, link, next);
	synthetic_guest_set(self->guest, node, HVP_AT_RETHOOK_FRAME, slot);
	synthetic_guest_set(self->guest, node, HVP_AT_RETHOOK_RETURN, address);
	return link;
}

static void test_rethooks(void)
{
	Fixture f;
	HvpGva nodes[3];
	guint64 trampoline;

	set_up(&f);
	trampoline = synthetic_guest_symbol(f.guest, "arch_rethook_trampoline").value;
	assert_refused(&f, SLOT, HVP_HIDDEN_BY_RETHOOK, HVP_ERROR_NOT_FOUND);
	nodes[0] = add_node(&f, 0, SLOT + 64, TRUE_RETURN + 64);
	nodes[1] = add_node(&f, nodes[0].value, SLOT, TRUE_RETURN);
	/* Two hooks on one function: the outer one saw the trampoline. */
	nodes[2] = add_node(&f, nodes[1].value, SLOT, trampoline);
	synthetic_guest_set(f.guest, f.task, HVP_AT_TASK_RETHOOKS, nodes[2].value);
	assert_found(&f, SLOT, HVP_HIDDEN_BY_RETHOOK, TRUE_RETURN);
	assert_found(&f, SLOT + 64, HVP_HIDDEN_BY_RETHOOK, TRUE_RETURN + 64);
	assert_refused(&f, SLOT + 8, HVP_HIDDEN_BY_RETHOOK, HVP_ERROR_NOT_FOUND);
	synthetic_guest_put(f.guest, nodes[0], nodes[2].value);
	assert_refused(&f, SLOT + 8, HVP_HIDDEN_BY_RETHOOK, HVP_ERROR_NOT_FOUND);
	synthetic_guest_put(f.guest, nodes[0], 0x4141414141414141);
	assert_refused(&f, SLOT + 8, HVP_HIDDEN_BY_RETHOOK, HVP_ERROR_FAULT);
	tear_down(&f);
}

/* Before 6.11: an array, and the index of its last entry. */
static void test_graph_array(void)
{
	Fixture f;
	HvpGva stack;
	guint32 size;

	set_up(&f);
	size = hvp_layout_get(&f.guest->layout, HVP_AT_GRAPH_SIZE);
	stack = synthetic_guest_alloc(f.guest, 4096);
	synthetic_guest_set(f.guest, f.task, HVP_AT_TASK_RET_STACK, stack.value);
	synthetic_guest_set(f.guest, f.task, HVP_AT_TASK_CURR_RET_STACK, G_MAXUINT32);
	assert_refused(&f, SLOT, HVP_HIDDEN_BY_FUNCTION_GRAPH, HVP_ERROR_NOT_FOUND);
	for (guint i = 0; i < 3; i++) {
		HvpGva entry = hvp_gva_add(stack, i * size);

		synthetic_guest_set(f.guest, entry, HVP_AT_GRAPH_RET, TRUE_RETURN + i);
		synthetic_guest_set(f.guest, entry, HVP_AT_GRAPH_RETP, SLOT + i * 8);
	}
	synthetic_guest_set(f.guest, f.task, HVP_AT_TASK_CURR_RET_STACK, 1);
	assert_found(&f, SLOT, HVP_HIDDEN_BY_FUNCTION_GRAPH, TRUE_RETURN);
	assert_found(&f, SLOT + 8, HVP_HIDDEN_BY_FUNCTION_GRAPH, TRUE_RETURN + 1);
	/* Not in use any more. */
	assert_refused(&f, SLOT + 16, HVP_HIDDEN_BY_FUNCTION_GRAPH, HVP_ERROR_NOT_FOUND);
	synthetic_guest_set(f.guest, f.task, HVP_AT_TASK_CURR_RET_STACK, G_MAXINT32);
	assert_refused(&f, SLOT, HVP_HIDDEN_BY_FUNCTION_GRAPH, HVP_ERROR_NOT_FOUND);
	synthetic_guest_set(f.guest, f.task, HVP_AT_TASK_CURR_RET_STACK, 1);
	synthetic_guest_set(f.guest, f.task, HVP_AT_TASK_RET_STACK, 0x1000);
	assert_refused(&f, SLOT, HVP_HIDDEN_BY_FUNCTION_GRAPH, HVP_ERROR_FAULT);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/hidden-returns/rethooks-FOUND-or-NOT_FOUND", test_rethooks);
	g_test_add_func("/hidden-returns/graph-array-FOUND-or-NOT_FOUND", test_graph_array);
	return g_test_run();
}
