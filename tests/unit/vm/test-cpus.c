/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/cpus.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* CPUs of the calling thread. */
static cpu_set_t get_own(void)
{
	cpu_set_t set;

	g_assert_cmpint(sched_getaffinity(0, sizeof set, &set), ==, 0);
	return set;
}

static gsize get_first(const cpu_set_t *set)
{
	gsize cpu = 0;

	while (!CPU_ISSET(cpu, set))
		cpu++;
	return cpu;
}

static cpu_set_t make_set(gsize cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return set;
}

static bool has_one_cpu(void)
{
	cpu_set_t own = get_own();

	if (CPU_COUNT(&own) > 1)
		return false;
	g_test_skip("one CPU");
	return true;
}

static void test_add_any_name(void)
{
	cpu_set_t own = get_own(), here = make_set(get_first(&own)), found;
	static const char name[] = "a) R 1 (b) S 2 ";

	g_assert_cmpint(sched_setaffinity(0, sizeof here, &here), ==, 0);
	g_assert_cmpint(prctl(PR_SET_NAME, name), ==, 0);
	CPU_ZERO(&found);
	hvp_cpus_add(getpid(), gettid(), &found);
	g_assert_true(CPU_EQUAL(&found, &here));
	g_assert_cmpint(sched_setaffinity(0, sizeof own, &own), ==, 0);
}

static void test_add_no_thread(void)
{
	cpu_set_t found;

	CPU_ZERO(&found);
	hvp_cpus_add(getpid(), 1, &found);
	g_assert_cmpint(CPU_COUNT(&found), ==, 0);
}

static void test_avoid_elsewhere(void)
{
	cpu_set_t own = get_own(), busy = make_set(get_first(&own)), now;
	HvpCpus cpus;

	if (has_one_cpu())
		return;
	hvp_cpus_begin(&cpus);
	g_assert_true(hvp_cpus_avoid(&cpus, &busy, 1));
	now = get_own();
	g_assert_cmpint(CPU_COUNT(&now), ==, CPU_COUNT(&own) - 1);
	g_assert_false(CPU_ISSET(get_first(&busy), &now));
	g_assert_false(CPU_ISSET((gsize)sched_getcpu(), &busy));
	/* They have moved: what was left out is taken again. */
	g_assert_true(hvp_cpus_avoid(&cpus, &(cpu_set_t){ 0 }, 1));
	now = get_own();
	g_assert_true(CPU_EQUAL(&now, &own));
	g_assert_true(hvp_cpus_avoid(&cpus, &busy, 1));
	hvp_cpus_end(&cpus);
	now = get_own();
	g_assert_true(CPU_EQUAL(&now, &own));
}

/* Those who need all CPUs are not to have one less; and somewhere we have to be. */
static void test_avoid_all_in_use(void)
{
	cpu_set_t own = get_own(), some = make_set(get_first(&own)), now;
	HvpCpus cpus;

	hvp_cpus_begin(&cpus);
	g_assert_false(hvp_cpus_avoid(&cpus, &some, (guint)CPU_COUNT(&own)));
	g_assert_false(hvp_cpus_avoid(&cpus, &own, 1));
	now = get_own();
	g_assert_true(CPU_EQUAL(&now, &own));
}

static void test_join(void)
{
	cpu_set_t own = get_own(), one = make_set(get_first(&own)), now;
	pid_t other = fork();
	HvpCpus cpus;

	if (other == 0) {
		pause();
		_exit(0);
	}
	g_assert_cmpint(sched_setaffinity(other, sizeof one, &one), ==, 0);
	hvp_cpus_begin(&cpus);
	hvp_cpus_join(&cpus, other);
	now = get_own();
	g_assert_true(CPU_EQUAL(&now, &one));
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	hvp_cpus_join(&cpus, other); /* has ended: nothing changes */
	now = get_own();
	g_assert_true(CPU_EQUAL(&now, &one));
	hvp_cpus_end(&cpus);
	now = get_own();
	g_assert_true(CPU_EQUAL(&now, &own));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cpus/add/any-name", test_add_any_name);
	g_test_add_func("/cpus/add/no-such-thread", test_add_no_thread);
	g_test_add_func("/cpus/avoid/elsewhere", test_avoid_elsewhere);
	g_test_add_func("/cpus/avoid/all-in-use", test_avoid_all_in_use);
	g_test_add_func("/cpus/join", test_join);
	return g_test_run();
}
