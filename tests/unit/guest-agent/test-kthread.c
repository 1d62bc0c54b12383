/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kthread.h"

#include <string.h>

#include "fake-proc.h"

#define LONG_NAME "7 (0123456789012345678901234567890123456789012345678901234567890123) " TAIL
#define TAIL "S 2 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 11 0"
#define WORKER (FAKE_PF_KTHREAD | FAKE_PF_WQ_WORKER)

static void assert_state(guint flags, const char *comm, char letter, const char *wchan,
			 AgentKthreadState expected)
{
	g_autofree char *text = g_strdup_printf("7 (%s) %c 2 0 0 0 -1 %u 0 0 0 0 0 0 0 0 20 0 1 0 "
						"11 0 0\n",
						comm, letter, flags);
	AgentKthread kthread = { .voluntary = 3 };

	g_strlcpy(kthread.wchan, wchan, sizeof kthread.wchan);
	g_assert_true(agent_kthread_parse_stat(&kthread, text));
	if (agent_kthread_judge(&kthread) != expected)
		g_error("%s %c %s: %d", comm, letter, wchan, agent_kthread_judge(&kthread));
}

static void test_states(void)
{
	assert_state(FAKE_PF_KTHREAD, "x", 'P', "__kthread_parkme", AGENT_KTHREAD_PARKED);
	assert_state(FAKE_PF_KTHREAD, "x", 'P', "", AGENT_KTHREAD_PARKED);
	assert_state(FAKE_PF_KTHREAD, "x", 'S', "__kthread_parkme", AGENT_KTHREAD_SLEEPING);
	assert_state(FAKE_PF_KTHREAD, "x", 'D', "__refrigerator", AGENT_KTHREAD_FROZEN);
	assert_state(FAKE_PF_KTHREAD, "x", 'R', "__refrigerator", AGENT_KTHREAD_FROZEN);
	assert_state(FAKE_PF_KTHREAD, "x", 'R', "kswapd", AGENT_KTHREAD_FROZEN);
	assert_state(FAKE_PF_KTHREAD, "x", 'R', "", AGENT_KTHREAD_RUNNING);
	assert_state(FAKE_PF_KTHREAD, "x", 'S', "worker_thread", AGENT_KTHREAD_SLEEPING);
	assert_state(FAKE_PF_KTHREAD, "x", 'I', "rcu_gp_kthread", AGENT_KTHREAD_SLEEPING);
	assert_state(FAKE_PF_KTHREAD, "x", 'D', "msleep", AGENT_KTHREAD_UNINTERRUPTIBLE);
}

static void test_worker_states(void)
{
	assert_state(WORKER, "kworker/0:1-events", 'I', "worker_thread", AGENT_KTHREAD_IDLE_WORKER);
	assert_state(WORKER, "kworker/0:1", 'I', "worker_thread", AGENT_KTHREAD_IDLE_WORKER);
	assert_state(WORKER, "kworker/0:1+events", 'D', "msleep", AGENT_KTHREAD_BUSY_WORKER);
	assert_state(WORKER, "kworker/0:1+events", 'R', "", AGENT_KTHREAD_BUSY_WORKER);
	assert_state(WORKER, "kworker/0:1", 'S', "hvp_wait", AGENT_KTHREAD_BUSY_WORKER);
	assert_state(WORKER, "kworker/0:1-events", 'R', "", AGENT_KTHREAD_RUNNING);
	/* Without wchan nothing tells whether it has a work. */
	assert_state(WORKER, "kworker/0:1-events", 'I', "", AGENT_KTHREAD_SLEEPING);
	assert_state(WORKER, "kblockd", 'I', "rescuer_thread", AGENT_KTHREAD_SLEEPING);
	assert_state(WORKER, "kworker/R-nvme-wq+x", 'S', "nvme", AGENT_KTHREAD_BUSY_WORKER);
}

static void assert_comm(guint flags, const char *comm, const char *expected, bool has_work)
{
	g_autofree char *text = g_strdup_printf(
		"7 (%s) S 2 0 0 0 -1 %u 0 0 0 0 0 0 0 0 20 0 1 0 11 "
		"0\n",
		comm, flags);
	AgentKthread kthread;

	g_assert_true(agent_kthread_parse_stat(&kthread, text));
	g_assert_cmpstr(kthread.comm, ==, expected);
	g_assert_cmpint(kthread.has_work, ==, has_work);
	g_assert_cmpuint(kthread.start_ticks, ==, 11);
}

static void test_names(void)
{
	assert_comm(WORKER, "kworker/0:1H-kblockd", "kworker/0:1H", false);
	assert_comm(WORKER, "kworker/u4:2+events_unbound", "kworker/u4:2", true);
	assert_comm(WORKER, "kworker/R-nvme-", "kworker/R-nvme-", false);
	assert_comm(WORKER, "kworker/R-nvme-+nvme-wq", "kworker/R-nvme-", true);
	assert_comm(FAKE_PF_KTHREAD, "pool_workqueue_release", "pool_workqueue_", false);
	assert_comm(WORKER, "nvme-wq", "nvme-wq", false);
	assert_comm(FAKE_PF_KTHREAD, "a-b+c", "a-b+c", false);
	assert_comm(FAKE_PF_KTHREAD, "a) R 1 (b\n", "a) R 1 (b\n", false);
	assert_comm(FAKE_PF_KTHREAD, "", "", false);
}

static void test_bad_stat(void)
{
	static const char *const texts[] = {
		"",
		"7",
		"7 (a",
		"7 a) S 2",
		"7 (a)",
		"7 (a) ",
		"7 (a) S",
		"7 )a( S 2 0 0 0 -1 5",
		"7 (a) S 2 0 0 0 -1 5 0 0 0 0 0 0 0 0 20 0 1 0",
		"7 (a) S 2 0 0 0 -1 x 0 0 0 0 0 0 0 0 20 0 1 0 11 0",
		"7 (a) S 2 0 0 0 -1 5 0 0 0 0 0 0 0 0 20 0 1 0 -11 0",
		LONG_NAME,
	};
	AgentKthread kthread;

	for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
		if (agent_kthread_parse_stat(&kthread, texts[i]))
			g_error("taken: %s", texts[i]);
}

static void test_status(void)
{
	static const char *const bad[] = {
		"",
		"State:\tS",
		"State:\tS (x)\nCpus_allowed_list:\t0\n",
		"State:\tS (x)\nCpus_allowed_list:\t0\nvoluntary_ctxt_switches:\t1\n",
		"State:\tS (x)\nCpus_allowed_list:\t0\nnonvoluntary_ctxt_switches:\t1\n",
		"State:\tS (x)\nvoluntary_ctxt_switches:\t1\nnonvoluntary_ctxt_switches:\t1\n",
	};
	g_autofree char *list = g_strnfill(AGENT_KTHREAD_CPUS_CAPACITY, '1');
	g_autofree char *wide = g_strdup_printf("State:\tS\nCpus_allowed_list:\t%s\n"
						"voluntary_ctxt_switches:\t12\n"
						"nonvoluntary_ctxt_switches:\t34\n",
						list);
	AgentKthread kthread;

	for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_false(agent_kthread_parse_status(&kthread, bad[i]));
	g_assert_true(agent_kthread_parse_status(&kthread, wide));
	g_assert_cmpstr(kthread.cpus, ==, "");
	g_assert_cmpuint(kthread.voluntary, ==, 12);
	g_assert_cmpuint(kthread.involuntary, ==, 34);
	g_assert_cmpint(kthread.letter, ==, 'S');
}

static char *write_one(const AgentKthread *kthread, const AgentKthreadStack *stack)
{
	char bytes[2048];
	AgentWriter writer = { .bytes = bytes, .capacity_bytes = sizeof bytes };

	agent_kthread_write(kthread, stack, &writer);
	g_assert_false(writer.overflow);
	return g_strndup(bytes, writer.used_bytes);
}

static void test_read(void)
{
	g_autofree char *root = fake_proc_new();
	g_autofree char *text = NULL;
	static AgentProc proc;
	AgentKthread kthread;
	AgentKthreadStack stack;

	fake_proc_put_task(root, &fake_init);
	fake_proc_put_task(root, &fake_idle_worker);
	g_assert_true(agent_proc_open(&proc, root));
	g_assert_cmpint(agent_kthread_read(&proc, 1, &kthread, NULL), ==, AGENT_KTHREAD_USER);
	g_assert_cmpint(agent_kthread_read(&proc, 3, &kthread, NULL), ==, AGENT_KTHREAD_NONE);
	g_assert_cmpint(agent_kthread_read(&proc, 12, &kthread, &stack), ==, AGENT_KTHREAD_FOUND);
	g_assert_cmpuint(kthread.start_ticks, ==, 77);
	text = write_one(&kthread, &stack);
	g_assert_cmpstr(text, ==,
			"{\"pid\":12,\"comm\":\"kworker/0:1\",\"cpus\":\"0\",\"per_cpu\":true,"
			"\"state\":\"idle-worker\",\"voluntary\":123,\"involuntary\":4,"
			"\"wchan\":\"worker_thread\",\"stack\":[\"worker_thread+0x12a/0x3a0\","
			"\"kthread+0xdb/0x100\",\"hvp_x+0x1/0x2 [hvp_stacks]\"]}");
	close(proc.root_fd);
	fake_proc_remove(root);
}

static void test_read_without_stack(void)
{
	g_autofree char *root = fake_proc_new();
	g_autofree char *text = NULL;
	static AgentProc proc;
	AgentKthread kthread;
	AgentKthreadStack stack;
	FakeTask task = fake_kthreadd;

	task.letter = 'R';
	task.wchan = "0";
	fake_proc_put_task(root, &task);
	g_assert_true(agent_proc_open(&proc, root));
	g_assert_cmpint(agent_kthread_read(&proc, 2, &kthread, &stack), ==, AGENT_KTHREAD_FOUND);
	text = write_one(&kthread, &stack);
	g_assert_cmpstr(text, ==,
			"{\"pid\":2,\"comm\":\"kthreadd\",\"cpus\":\"0-1\",\"per_cpu\":false,"
			"\"state\":\"running\",\"voluntary\":90,\"involuntary\":1,"
			"\"wchan\":\"\"}");
	close(proc.root_fd);
	fake_proc_remove(root);
}

/* stat says another state than status: it changed in between, at each try. */
static void test_never_one_moment(void)
{
	g_autofree char *root = fake_proc_new();
	static AgentProc proc;
	AgentKthread kthread;
	FakeTask task = fake_idle_worker;

	fake_proc_put_task(root, &task);
	fake_proc_put_of(root, 12, "stat",
			 "12 (kworker/0:1) R 2 0 0 0 -1 69238880 0 0 0 0 0 0 0 0 "
			 "20 0 1 0 77 0 0\n");
	g_assert_true(agent_proc_open(&proc, root));
	g_assert_cmpint(agent_kthread_read(&proc, 12, &kthread, NULL), ==, AGENT_KTHREAD_FOUND);
	g_assert_cmpint(kthread.state, ==, AGENT_KTHREAD_RUNNING);
	g_assert_cmpstr(kthread.wchan, ==, "");
	close(proc.root_fd);
	fake_proc_remove(root);
}

static void test_zombie(void)
{
	g_autofree char *root = fake_proc_new();
	static AgentProc proc;
	AgentKthread kthread;
	FakeTask task = fake_kthreadd;

	task.letter = 'Z';
	fake_proc_put_task(root, &task);
	g_assert_true(agent_proc_open(&proc, root));
	g_assert_cmpint(agent_kthread_read(&proc, 2, &kthread, NULL), ==, AGENT_KTHREAD_NONE);
	close(proc.root_fd);
	fake_proc_remove(root);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/kthread/states", test_states);
	g_test_add_func("/kthread/worker-states", test_worker_states);
	g_test_add_func("/kthread/names", test_names);
	g_test_add_func("/kthread/bad-stat-REFUSED", test_bad_stat);
	g_test_add_func("/kthread/status", test_status);
	g_test_add_func("/kthread/read", test_read);
	g_test_add_func("/kthread/read-without-stack", test_read_without_stack);
	g_test_add_func("/kthread/never-one-moment-RUNNING", test_never_one_moment);
	g_test_add_func("/kthread/zombie-NONE", test_zombie);
	return g_test_run();
}
