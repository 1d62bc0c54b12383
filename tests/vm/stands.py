# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts tasks of a guest into known places (tests/kmod) and looks at their stacks with hvpatch.

Used by test-stacks.py, whose head says what is asserted.
"""

import contextlib
import os
import re

from guest import eventually, script

DONE, BUSY = 0, 4
CONTROL = '/proc/hvp_stacks'
TRACING = '/sys/kernel/tracing'
LOOKS = 12
INTERRUPTS = 8
# As in tests/kmod: how long a CPU with interrupts off stands.
HARD_SPIN_SECONDS = 5
# What gcc appends to a name when it specializes a function.
SPECIALIZED = re.compile(r'\.(part|constprop|isra)\.\d+')

PREEMPT_NOTES = (r'Dynamic Preempt: .*', r'rcu_tasks_wait_gp: .*')
FREEZE_NOTES = (r'PM: .*', r'Filesystems sync: .*', r'Freezing .*', r'OOM killer .*',
                r'Restarting tasks.*', r'\(elapsed .*')
HOTPLUG_NOTES = (r'smpboot: .*', r'x86: Booting SMP configuration:', r'.*CPU ?1.*')
NMI_NOTES = (r'INFO: NMI handler .*', r'perf: interrupt took too long .*')
STALL_NOTES = (r'sched: RT throttling activated',)

SLEEP = ['__schedule', 'schedule', 'hvp_wait']
NESTED = ['hvp_nested_three', 'hvp_nested_two', 'hvp_nested_one']
TIMER_IRQ = ['__hrtimer_run_queues', 'hrtimer_interrupt', '__sysvec_apic_timer_interrupt',
             'sysvec_apic_timer_interrupt', 'asm_sysvec_apic_timer_interrupt']
TIMER_SOFTIRQ = ['call_timer_fn', '__run_timers', 'run_timer_softirq', 'handle_softirqs',
                 '__irq_exit_rcu', 'sysvec_apic_timer_interrupt',
                 'asm_sysvec_apic_timer_interrupt']
SPIN = ['hvp_spin', 'hvp_spin_nested', 'hvp_spin_thread']


def is_new(guest):
    return guest.release.startswith('6.12')


def kthread(guest):
    """Where a kernel thread begins."""
    # Since 6.6 ret_from_fork() is C, called by ret_from_fork_asm().
    return ['kthread', 'ret_from_fork'] + (['ret_from_fork_asm'] if is_new(guest) else [])


def idle(guest):
    """Where the idle task of CPU 1 begins."""
    halt = (['pv_native_safe_halt', 'default_idle'] if is_new(guest)
            else ['native_safe_halt', 'amd_e400_idle'])
    return halt + ['default_idle_call'] + idle_loop(guest)


def idle_loop(guest):
    start = 'common_startup_64' if is_new(guest) else 'secondary_startup_64_no_verify'
    return ['do_idle', 'cpu_startup_entry', 'start_secondary', start]


SYSCALL = ['do_syscall_64', 'entry_SYSCALL_64_after_hwframe']


def signal_at_syscall_exit(guest):
    """From get_signal() to the system call's entry."""
    work = [] if is_new(guest) else ['exit_to_user_mode_prepare']
    return ['get_signal', 'arch_do_signal_or_restart', *work, 'syscall_exit_to_user_mode', *SYSCALL]


# --- looking ------------------------------------------------------------------

def frames(task):
    """The functions, those of the test module as hvp_x[hvp_stacks]."""
    return [SPECIALIZED.sub('', frame['symbol']) +
            (f'[{frame["module"]}]' if frame['module'] else '') for frame in task['stack']]


def expanded(functions):
    return [f'{name}[hvp_stacks]' if name.startswith('hvp_') else name for name in functions]


def told(task):
    return (f'{task["comm"]} (pid {task["pid"]}, {task["state"]}) {task["verdict"]} '
            f'{task["reason"]!r}: ' + ' '.join(frames(task)))


def begins(task, name):
    """Whether a stack of the task's kind may begin with this function."""
    # The idle task of a CPU that never came up has not run either.
    if name in ('ret_from_fork', 'ret_from_fork_asm'):
        return True
    if task['pid'] == 0:
        return name in ('secondary_startup_64_no_verify', 'common_startup_64')
    # On a CPU, entry and exit code are places to be as well.
    running = ('error_', 'common_interrupt_return', 'restore_regs', 'swapgs_', 'syscall_return',
               'sync_regs', 'irqentry_', '__irqentry')
    user = ('entry_', 'asm_') + (running if task['on_cpu'] else ())
    return not task['kthread'] and name.startswith(user)


def assert_whole(tasks):
    """No RELIABLE stack ends too early, and each UNRELIABLE one has a reason."""
    for task in tasks:
        stack = [frame['symbol'] for frame in task['stack']]
        if task['verdict'] != 'RELIABLE':
            assert task['reason'], told(task)
        elif stack:
            assert begins(task, stack[-1]), f'the stack ends too early: {told(task)}'
        else:
            in_user_mode = task['on_cpu'] and not task['kthread']
            assert in_user_mode or task['state'] in 'ZX', f'no stack: {told(task)}'


def all_tasks(guest):
    result = guest.hvpatch('tasks', '--stacks')
    assert result.status == DONE, result
    assert_whole(result.json['tasks'])
    return result.json['tasks']


def one_task(guest, pid):
    result = guest.hvpatch('tasks', '--stacks', '--pid', str(pid))
    assert result.status == DONE, result
    assert_whole(result.json['tasks'])
    assert [task['pid'] for task in result.json['tasks']] == [pid], result
    return result.json['tasks'][0]


def at_rest(guest, pid):
    """The task, once it is off its CPU: until then it is on its way to where it sleeps."""
    def check():
        task = one_task(guest, pid)
        assert not task['on_cpu'] and task['state'] != 'R', told(task)
        return task
    return eventually(check)


def on_cpu_1(guest, pid):
    """The task that stands on CPU 1: pid 0 is its idle task."""
    if pid:
        return one_task(guest, pid)
    task, = [task for task in all_tasks(guest) if task['comm'] == 'swapper/1']
    return task


def assert_stack(task, *functions):
    assert task['verdict'] == 'RELIABLE' and frames(task) == expanded(functions), (
        f'{told(task)}\nexpected: {" ".join(expanded(functions))}')


def assert_sound(task, *functions):
    """RELIABLE with all these callers, whatever they called last; or UNRELIABLE."""
    callers = expanded(functions)
    assert task['verdict'] == 'UNRELIABLE' and task['reason'] or (
        task['verdict'] == 'RELIABLE' and frames(task)[-len(callers):] == callers), (
            f'{told(task)}\nexpected callers: {" ".join(callers)}')


def assert_running(guest, pid, *functions, looks=LOOKS):
    """Looks some times: always sound, and at least once exactly these functions."""
    exact = 0
    for _ in range(looks):
        task = on_cpu_1(guest, pid)
        assert_sound(task, *functions)
        exact += task['verdict'] == 'RELIABLE' and frames(task) == expanded(functions)
    assert exact, f'never exactly {" ".join(expanded(functions))}, last {told(task)}'


# --- putting tasks somewhere ---------------------------------------------------

def prepare(guest):
    """Loads the module; commands run on CPU 0 from now on, CPU 1 is for what runs."""
    if 'hvp_stacks' in guest.loaded():
        return
    module = os.path.join(script('kmod', guest.release), 'hvp_stacks.ko')
    # Places that a CPU stays in for seconds are no news to anybody.
    guest.check(f'insmod {guest.put_file(module)} && taskset -p 1 $(pidof hvp_channel)'
                ' && echo 0 > /proc/sys/kernel/watchdog'
                ' && echo 1 > /sys/module/rcupdate/parameters/rcu_cpu_stall_suppress'
                ' && mount -t cgroup2 none /sys/fs/cgroup')


def pids(guest):
    """The cases in which somebody stands: name -> pid."""
    return standing(guest.check(f'cat {CONTROL}'))


def standing(text):
    return {line.split()[0]: int(line.split()[1]) for line in text.splitlines()}


@contextlib.contextmanager
def started(guest, *names):
    """Cases of the module; yields the pid of the last one (None: nobody came yet)."""
    prepare(guest)
    try:
        # The shell reads by itself: with CPU 1 deaf, a fork on CPU 0 may have to wait for it.
        text = guest.check('; '.join(f'echo start {name} > {CONTROL}' for name in names) +
                           f'; while read line; do echo $line; done < {CONTROL}')
        yield standing(text).get(names[-1])
    finally:
        for name in reversed(names):
            guest.check(f'echo stop {name} > {CONTROL}', timeout=60)


@contextlib.contextmanager
def user(guest, place):
    """A program that stands somewhere (hvp_stand); yields the pid of the one to look at."""
    prepare(guest)
    guest.check(f'hvp_stand {place} > /tmp/stand 2>&1 &')
    try:
        yield int(guest.wait_for(f'grep "^{place} " /tmp/stand').split()[1])
    finally:
        guest.check('killall -9 hvp_stand; while pidof hvp_stand > /dev/null; do sleep 0.05; done')


@contextlib.contextmanager
def background(guest, command):
    """A shell command in the background; yields its pid."""
    pid = guest.check(f'{command} > /dev/null 2>&1 & echo $!')
    try:
        yield int(pid)
    finally:
        guest.run(f'kill -9 {pid}; while [ -e /proc/{pid} ]; do sleep 0.05; done')


def wait_asleep(guest, pid):
    """The task, once it has left the CPU for good: it is in state S, D, T, t, I, Z or P."""
    guest.wait_for(f"grep -q '^State:[[:space:]]*[SDTtIZP]' /proc/{pid}/status")
    return at_rest(guest, pid)


@contextlib.contextmanager
def preemption(guest):
    """The guest's kernel is preemptible: preempt=full."""
    prepare(guest)
    guest.check('echo full > /sys/kernel/debug/sched/preempt')
    try:
        yield
    finally:
        guest.check('echo voluntary > /sys/kernel/debug/sched/preempt')
