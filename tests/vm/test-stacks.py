#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Stacks of tasks that stand in known places: tests/kmod puts them there.

Each case tells the functions that the task may return to, innermost first, from the sources
of the kernel and of the test module, and never from what hvpatch prints. What is asleep has to
be told exactly. What runs is looked at several times: each look has to be sound (RELIABLE with
all known callers, or UNRELIABLE with a reason), and one at least RELIABLE.

All other tasks of the guest are looked at too, each time: no RELIABLE stack may end before the
place where stacks of its kind begin (assert_whole).
"""

import contextlib
import os
import re
import time

from guest import eventually
from stands import (BUSY, CONTROL, DONE, FREEZE_NOTES, HARD_SPIN_SECONDS, HOTPLUG_NOTES,
                    INTERRUPTS, LOOKS, NESTED, NMI_NOTES, PREEMPT_NOTES, SLEEP, SPIN,
                    STALL_NOTES, SYSCALL, TIMER_IRQ, TIMER_SOFTIRQ, TRACING, all_tasks,
                    assert_running, assert_sound, assert_stack, at_rest, background, expanded,
                    frames, idle, idle_loop, is_new, kthread, on_cpu_1, one_task, pids, preemption,
                    prepare, signal_at_syscall_exit, started, told, user, wait_asleep)
from tap import Suite

suite = Suite('6.1', '6.12')

FROZEN_SECONDS = 8


# --- asleep ---------------------------------------------------------------------

@suite.case('kthread-in-nested-calls-RELIABLE')
def _(guest):
    with started(guest, 'nested') as pid:
        assert_stack(at_rest(guest, pid), *SLEEP, *NESTED, 'hvp_nested_thread', *kthread(guest))


@suite.case('kthread-parked-RELIABLE')
def _(guest):
    with started(guest, 'parked') as pid:
        task = at_rest(guest, pid)
        # Parked before it ever ran, as it is where nobody is slow, it is so by kthread() itself.
        own = [name for name in ('hvp_parked_thread',) if expanded([name])[0] in frames(task)]
        assert_stack(task, '__schedule', 'schedule', 'schedule_preempt_disabled',
                     '__kthread_parkme', *own, *kthread(guest))


@suite.case('kworker-idle-RELIABLE')
def _(guest):
    prepare(guest)
    idle_workers = [task for task in all_tasks(guest)
                    if re.match(r'kworker/\d+:', task['comm']) and task['state'] == 'I']
    assert idle_workers
    for task in idle_workers:
        assert_stack(task, '__schedule', 'schedule', 'worker_thread', *kthread(guest))


@suite.case('work-item-in-nested-calls-RELIABLE')
def _(guest):
    with started(guest, 'work') as pid:
        assert_stack(at_rest(guest, pid), *SLEEP, *NESTED, 'hvp_work', 'process_one_work',
                     'worker_thread', *kthread(guest))


@suite.case('cold-part-RELIABLE')
def _(guest):
    with started(guest, 'cold') as pid:
        assert_stack(at_rest(guest, pid), *SLEEP, 'hvp_cold_place', 'hvp_cold_path.cold',
                     'hvp_cold_thread', *kthread(guest))


@suite.case('caller-of-no-return-function-RELIABLE')
def _(guest):
    # The return address is that of the next function.
    with started(guest, 'no-return') as pid:
        assert_stack(at_rest(guest, pid), *SLEEP, 'hvp_never_returns', 'hvp_before_no_return',
                     'hvp_no_return_thread', *kthread(guest))


@suite.case('read-of-module-file-RELIABLE')
def _(guest):
    with started(guest, 'read'), background(guest, 'cat /proc/hvp_read') as pid:
        assert_stack(wait_asleep(guest, pid), *SLEEP, *NESTED, 'hvp_read', 'proc_reg_read',
                     'vfs_read', 'ksys_read', *SYSCALL)
        guest.check(f'echo stop read > {CONTROL}')


@suite.case('page-fault-in-copy-from-user-RELIABLE')
def _(guest):
    copy = 'rep_movs_alternative' if is_new(guest) else 'copy_user_generic_string'
    with started(guest, 'copy'), user(guest, 'fault') as pid:
        assert_stack(wait_asleep(guest, pid), '__schedule', 'schedule', 'handle_userfault',
                     '__handle_mm_fault', 'handle_mm_fault', 'do_user_addr_fault',
                     'exc_page_fault', 'asm_exc_page_fault', copy, '_copy_from_user', 'hvp_copy',
                     'proc_reg_write', 'vfs_write', 'ksys_write', *SYSCALL)


@suite.case('page-fault-in-user-mode-RELIABLE')
def _(guest):
    with user(guest, 'fault-user') as pid:
        assert_stack(wait_asleep(guest, pid), '__schedule', 'schedule', 'handle_userfault',
                     '__handle_mm_fault', 'handle_mm_fault', 'do_user_addr_fault',
                     'exc_page_fault', 'asm_exc_page_fault')


@suite.case('vfork-parent-RELIABLE')
def _(guest):
    with user(guest, 'vfork') as pid:
        assert_stack(wait_asleep(guest, pid), '__schedule', 'schedule', 'schedule_timeout',
                     '__wait_for_common', 'wait_for_completion_state', 'kernel_clone',
                     '__do_sys_vfork', *SYSCALL)


@suite.case('system-call-by-int80-RELIABLE')
def _(guest):
    with user(guest, 'int80') as pid:
        assert_stack(wait_asleep(guest, pid), '__schedule', 'schedule', '__do_sys_pause',
                     'do_int80_emulation', 'asm_int80_emulation')


@suite.case('stopped-by-signal-RELIABLE')
def _(guest):
    with user(guest, 'stopped') as pid:
        assert_stack(wait_asleep(guest, pid), '__schedule', 'schedule', 'do_signal_stop',
                     *signal_at_syscall_exit(guest))


@suite.case('stopped-by-tracer-RELIABLE')
def _(guest):
    with user(guest, 'traced') as pid:
        assert_stack(wait_asleep(guest, pid), '__schedule', 'schedule', 'ptrace_stop',
                     *signal_at_syscall_exit(guest))


@suite.case('io-uring-worker-RELIABLE')
def _(guest):
    worker = 'io_wq_worker' if is_new(guest) else 'io_wqe_worker'
    with started(guest, 'read'), user(guest, 'uring'):
        guest.wait_for(f'grep -q "^read " {CONTROL}')
        task = at_rest(guest, pids(guest)['read'])
        assert task['comm'].startswith('iou-wrk-'), told(task)
        assert_stack(task, *SLEEP, *NESTED, 'hvp_read', 'proc_reg_read', 'loop_rw_iter',
                     '__io_read', 'io_read', 'io_issue_sqe', 'io_wq_submit_work',
                     'io_worker_handle_work', worker, *kthread(guest)[1:])
        guest.check(f'echo stop read > {CONTROL}')


@suite.case('frozen-by-cgroup-RELIABLE')
def _(guest):
    group = '/sys/fs/cgroup/frozen'
    prepare(guest)
    with background(guest, 'sleep 1000') as pid:
        guest.check(f'mkdir -p {group}; echo {pid} > {group}/cgroup.procs')
        guest.check(f'echo 1 > {group}/cgroup.freeze')
        guest.wait_for(f'grep -q "frozen 1" {group}/cgroup.events')
        # do_freezer_trap() is inlined into get_signal().
        assert_stack(wait_asleep(guest, pid), '__schedule', 'schedule',
                     *signal_at_syscall_exit(guest))
        guest.check(f'echo 0 > {group}/cgroup.freeze')


@suite.case('frozen-system-RELIABLE', allow=FREEZE_NOTES)
def _(guest):
    """Suspend's test mode freezes all tasks for some seconds, the command channel as well."""
    def in_the_refrigerator():
        task = at_rest(guest, pid)
        assert '__refrigerator' in frames(task), told(task)

    with started(guest, 'freezable') as pid:
        # It has answered by then; and there is time for three looks.
        guest.check(f'echo {FROZEN_SECONDS} > /sys/module/suspend/parameters/pm_test_delay;'
                    'echo freezer > /sys/power/pm_test;'
                    '(sleep 2; echo freeze > /sys/power/state) > /dev/null 2>&1 &')
        eventually(in_the_refrigerator, timeout=10)
        assert_stack(at_rest(guest, pid), '__schedule', 'schedule', '__refrigerator',
                     'hvp_freezable_thread', *kthread(guest))
        shell, = [task for task in all_tasks(guest) if task['pid'] == 1]
        assert_stack(shell, '__schedule', 'schedule', 'do_wait', 'kernel_wait4', '__do_sys_wait4',
                     *SYSCALL)
        # The command waits until all are thawed.
        guest.check('echo none > /sys/power/pm_test', timeout=60)


# --- born and dying ---------------------------------------------------------------

@suite.case('forked-and-never-run-RELIABLE', allow=STALL_NOTES)
def _(guest):
    prepare(guest)
    runtime = '/proc/sys/kernel/sched_rt_runtime_us'
    old = guest.check(f'cat {runtime}; echo -1 > {runtime}')
    try:
        with user(guest, 'unborn') as pid:
            assert_stack(one_task(guest, pid), kthread(guest)[-1])
    finally:
        guest.check(f'echo {old} > {runtime}')


@suite.case('exiting-and-asleep-RELIABLE')
def _(guest):
    with started(guest, 'release'), user(guest, 'exit') as pid:
        guest.wait_for(f'grep -q "^release {pid}" {CONTROL}')
        assert_stack(wait_asleep(guest, pid), *SLEEP, *NESTED, 'hvp_release', 'close_pdeo',
                     'proc_reg_release', '__fput', 'task_work_run', 'do_exit', 'do_group_exit',
                     *signal_at_syscall_exit(guest))
        guest.check(f'echo stop release > {CONTROL}')


@suite.case('zombie-RELIABLE-and-in-nobodys-way')
def _(guest):
    # It has left the CPU for good and its stack was freed: it returns to no function.
    with user(guest, 'zombie') as pid:
        assert_stack(wait_asleep(guest, pid))
        result = guest.hvpatch('blocking', guest.module('hvp_cmdline'))
        assert result.status == DONE and result.json['blockers'] == [], result


def look_for_late_exit(guest):
    """The exiting thread is in no list of the guest; hvpatch has to find it all the same."""
    tail = ['x64_sys_call'] if is_new(guest) else []
    pid = pids(guest)['late']
    assert guest.run(f'ls -d /proc/*/task/{pid}')[0] != 0
    task = one_task(guest, pid)
    assert_sound(task, 'hvp_spin', 'hvp_late_exit', 'do_exit', '__x64_sys_exit', *tail, *SYSCALL)
    return task


@suite.case('exiting-on-no-list-on-a-cpu-RELIABLE')
def _(guest):
    with started(guest, 'late'), user(guest, 'late'):
        guest.wait_for(f'grep -q "^late " {CONTROL}')
        looks = [look_for_late_exit(guest) for _ in range(LOOKS)]
        assert any(task['on_cpu'] and task['verdict'] == 'RELIABLE' for task in looks)


@suite.case('exiting-on-no-list-preempted-RELIABLE', allow=PREEMPT_NOTES)
def _(guest):
    with preemption(guest), started(guest, 'late', 'spin'), user(guest, 'late'):
        guest.wait_for(f'grep -q "^late " {CONTROL}')
        looks = [look_for_late_exit(guest) for _ in range(3 * LOOKS)]
        assert any(not task['on_cpu'] and task['verdict'] == 'RELIABLE' for task in looks)


@suite.case('exiting-on-no-list-preempted-by-deadline-RELIABLE', allow=PREEMPT_NOTES)
def _(guest):
    # Without that no deadline is granted on one CPU alone.
    limit = '/proc/sys/kernel/sched_rt_runtime_us'
    before = guest.check(f'cat {limit}; echo -1 > {limit}')
    try:
        with preemption(guest), started(guest, 'late'), user(guest, 'late-deadline'):
            guest.wait_for(f'grep -q "^late " {CONTROL}')
            looks = [look_for_late_exit(guest) for _ in range(3 * LOOKS)]
            assert any(not task['on_cpu'] and task['verdict'] == 'RELIABLE' for task in looks)
    finally:
        guest.check(f'echo {before} > {limit}')


def exiting_preempted_on_rt(guest):
    """A kernel that is preemptible everywhere, and whose spinlocks sleep."""
    assert '-rt' in guest.check('uname -r')
    with started(guest, 'late', 'spin'), user(guest, 'late'):
        guest.wait_for(f'grep -q "^late " {CONTROL}')
        looks = [look_for_late_exit(guest) for _ in range(3 * LOOKS)]
        assert any(not task['on_cpu'] and task['verdict'] == 'RELIABLE' for task in looks)


if os.environ.get('HVPATCH_VM_LONG'):
    suite.case('exiting-on-no-list-preempted-rt-RELIABLE', kernels=('6.1-rt',),
               allow=PREEMPT_NOTES)(exiting_preempted_on_rt)


@suite.case('fork-storm-SOUND')
def _(guest):
    prepare(guest)
    guest.check('for i in 1 2 3 4; do taskset 3 hvp_stand storm > /dev/null 2>&1 & done')
    try:
        for _ in range(3 * LOOKS):
            all_tasks(guest)
    finally:
        # Some are gone when their turn comes.
        guest.run('killall -9 hvp_stand')


# --- on a CPU, or taken off it ---------------------------------------------------------

@suite.case('spinning-RELIABLE')
def _(guest):
    with started(guest, 'spin') as pid:
        assert_running(guest, pid, *SPIN, *kthread(guest))


@suite.case('spinning-preempt-off-RELIABLE')
def _(guest):
    with started(guest, 'spin-preempt-off') as pid:
        assert_running(guest, pid, 'hvp_spin', 'hvp_spin_nested', 'hvp_spin_preempt_off_thread',
                       *kthread(guest))


@suite.case('spinning-interrupts-off-RELIABLE')
def _(guest):
    with started(guest, 'spin-irq-off') as pid:
        assert_running(guest, pid, 'hvp_spin', 'hvp_spin_irq_off_thread', *kthread(guest), looks=3)


@suite.case('spinning-in-user-mode-RELIABLE')
def _(guest):
    with user(guest, 'spin') as pid:
        looks = [one_task(guest, pid) for _ in range(LOOKS)]
        assert any(task['verdict'] == 'RELIABLE' and not task['stack'] for task in looks)


@suite.case('indirect-calls-SOUND')
def _(guest):
    """A retpoline's "end of stack" (6.1's UNWIND_HINT_EMPTY) is not the stack's end."""
    with started(guest, 'indirect') as pid:
        for _ in range(5 * LOOKS):
            assert_sound(one_task(guest, pid), 'hvp_call_indirectly', 'hvp_indirect_thread',
                         *kthread(guest))


@suite.case('indirect-calls-preempted-SOUND', allow=PREEMPT_NOTES)
def _(guest):
    with preemption(guest), started(guest, 'spin', 'indirect') as pid:
        looks = []
        for _ in range(8 * LOOKS):
            looks.append(one_task(guest, pid))
            assert_sound(looks[-1], 'hvp_call_indirectly', 'hvp_indirect_thread', *kthread(guest))
        assert any(not task['on_cpu'] for task in looks)


@suite.case('preempted-by-interrupt-RELIABLE', allow=PREEMPT_NOTES)
def _(guest):
    seen = 0
    with preemption(guest), started(guest, 'spin', 'spin-too'):
        for pid in (pids(guest)['spin'], pids(guest)['spin-too']) * LOOKS:
            task = one_task(guest, pid)
            assert_sound(task, *SPIN, *kthread(guest))
            seen += frames(task) == expanded(
                ['__schedule', 'preempt_schedule_irq', 'asm_sysvec_apic_timer_interrupt', *SPIN,
                 *kthread(guest)])
    assert seen, 'never preempted in hvp_spin'


@suite.case('preempted-at-preempt-enable-RELIABLE', allow=PREEMPT_NOTES)
def _(guest):
    middle = 'preempt_schedule' if is_new(guest) else 'preempt_schedule_common'
    seen = 0
    with preemption(guest), started(guest, 'spin', 'toggle') as pid:
        for _ in range(4 * LOOKS):
            task = one_task(guest, pid)
            assert_sound(task, 'hvp_toggle_preemption', 'hvp_toggle_thread', *kthread(guest))
            seen += frames(task) == expanded(
                ['__schedule', middle, 'preempt_schedule_thunk', 'hvp_toggle_preemption',
                 'hvp_toggle_thread', *kthread(guest)])
    assert seen, 'never preempted there'


@suite.case('preempted-in-user-mode-RELIABLE')
def _(guest):
    leave = [] if is_new(guest) else ['exit_to_user_mode_prepare']
    with user(guest, 'spin') as pid, background(guest, 'taskset 2 yes'):
        looks = [one_task(guest, pid) for _ in range(4 * LOOKS)]
    off = [task for task in looks if not task['on_cpu']]
    assert off
    assert any(frames(task) == ['__schedule', 'schedule', *leave, 'irqentry_exit_to_user_mode',
                                'asm_sysvec_apic_timer_interrupt'] for task in off), told(off[0])


# --- interrupts and exceptions -------------------------------------------------------------

IN_HARD_TIMER = ['hvp_spin', 'hvp_hard_timer', *TIMER_IRQ]
IN_SOFT_TIMER = ['hvp_spin', 'hvp_soft_timer', *TIMER_SOFTIRQ]


@suite.case('idle-RELIABLE')
def _(guest):
    prepare(guest)
    assert_running(guest, 0, *idle(guest))


def contains(names, part):
    return any(names[at:at + len(part)] == part for at in range(len(names) - len(part) + 1))


def look_at_interrupt(guest, pid, top, below):
    """Whether the task is RELIABLE in TOP, which interrupted BELOW; fails on an unsound stack.

    An interrupt may come to somebody else, or to another place, at times.
    """
    task = on_cpu_1(guest, pid)
    if task['verdict'] == 'RELIABLE':
        assert contains(frames(task), expanded(top)), (
            f'{told(task)}\nexpected among them: {" ".join(expanded(top))}')
    return task['verdict'] == 'RELIABLE' and frames(task) == expanded([*top, *below])


def assert_interrupting(guest, cases, top, below):
    for _ in range(INTERRUPTS):
        with started(guest, *cases) as pid:
            if pid is not None and look_at_interrupt(guest, pid, top, below):
                return
    raise AssertionError(f'in {INTERRUPTS} interrupts never {" ".join([*top, *below])}')


@suite.case('timer-interrupt-of-idle-RELIABLE')
def _(guest):
    assert_interrupting(guest, ['irq'], IN_HARD_TIMER, idle(guest))


@suite.case('timer-interrupt-of-kernel-RELIABLE')
def _(guest):
    assert_interrupting(guest, ['spin', 'irq'], IN_HARD_TIMER, [*SPIN, *kthread(guest)])


@suite.case('timer-interrupt-of-user-mode-RELIABLE')
def _(guest):
    with user(guest, 'spin'):
        assert_interrupting(guest, ['irq'], IN_HARD_TIMER, [])


@suite.case('softirq-of-idle-RELIABLE')
def _(guest):
    assert_interrupting(guest, ['softirq'], IN_SOFT_TIMER, idle(guest))


@suite.case('softirq-of-kernel-RELIABLE')
def _(guest):
    assert_interrupting(guest, ['spin', 'softirq'], IN_SOFT_TIMER, [*SPIN, *kthread(guest)])


@suite.case('timer-interrupt-of-softirq-RELIABLE')
def _(guest):
    """Both on the one interrupt stack, that of a spinning thread below."""
    assert_interrupting(guest, ['spin', 'softirq', 'irq'], IN_HARD_TIMER,
                        [*IN_SOFT_TIMER, *SPIN, *kthread(guest)])


@suite.case('tasklet-at-bh-enable-RELIABLE')
def _(guest):
    with started(guest, 'tasklet') as pid:
        assert_running(guest, pid, 'hvp_spin', 'hvp_tasklet', 'tasklet_action_common',
                       'handle_softirqs', 'do_softirq', '__local_bh_enable_ip',
                       'hvp_tasklet_thread', *kthread(guest), looks=3)


@suite.case('kprobe-by-int3-RELIABLE')
def _(guest):
    with started(guest, 'kprobe-int3') as pid:
        assert_running(guest, pid, 'hvp_spin', 'hvp_probe_handler', 'aggr_pre_handler',
                       'kprobe_int3_handler', 'exc_int3', 'asm_exc_int3', 'hvp_probed',
                       'hvp_probed_thread', *kthread(guest), looks=3)


@suite.case('kprobe-by-jump-SOUND')
def _(guest):
    """The handler's caller is a slot written at run time, without ORC: UNRELIABLE will do."""
    with started(guest, 'kprobe-jump') as pid:
        assert_sound(one_task(guest, pid), 'hvp_probed', 'hvp_probed_thread', *kthread(guest))


@suite.case('kprobe-by-ftrace-SOUND')
def _(guest):
    """Likewise: a trampoline that ftrace allocated."""
    with started(guest, 'kprobe-ftrace') as pid:
        assert_sound(one_task(guest, pid), 'hvp_probed', 'hvp_probed_thread', *kthread(guest))


@suite.case('debug-exception-stack-RELIABLE')
def _(guest):
    with started(guest, 'debug') as pid:
        # In 6.1 notifier_call_chain() is inlined into notify_die().
        notify = (['notifier_call_chain', 'notify_die', 'exc_debug_kernel'] if is_new(guest)
                  else ['notify_die', 'exc_debug'])
        assert_running(guest, pid, 'hvp_spin', 'hvp_watch_handler', '__perf_event_overflow',
                       'perf_swevent_event', 'perf_bp_event', 'hw_breakpoint_exceptions_notify',
                       *notify, 'asm_exc_debug', 'hvp_watched_thread', *kthread(guest), looks=3)


NMI = ['hvp_spin', 'hvp_nmi', 'nmi_handle', 'default_do_nmi', 'exc_nmi']
# The second processor gets the NMI line's signals too.
NMI_OPTIONS = {'append': 'apic_extnmi=all'}


def look_at_nmi(guest, pid, top, below):
    """As look_at_interrupt; but nobody tells when the handler is there."""
    task = on_cpu_1(guest, pid)
    there = 'hvp_nmi[hvp_stacks]' in frames(task)
    assert not there or contains(frames(task), expanded(top)), told(task)
    return there and task['verdict'] == 'RELIABLE' and frames(task) == expanded([*top, *below])


def assert_interrupting_by_nmi(guest, pid, top, below):
    for _ in range(INTERRUPTS):
        # No command of the guest until it is over: they may wait for CPU 1.
        over = time.monotonic() + 0.2 + HARD_SPIN_SECONDS
        guest.qmp.execute('inject-nmi')
        found = False
        while not found and time.monotonic() < over:
            found = look_at_nmi(guest, pid, top, below)
        time.sleep(max(over - time.monotonic(), 0))
        if found:
            return
    raise AssertionError(f'in {INTERRUPTS} NMIs never {" ".join([*top, *below])}')


@suite.case('nmi-of-kernel-RELIABLE', options=NMI_OPTIONS, allow=NMI_NOTES)
def _(guest):
    with started(guest, 'nmi', 'spin') as pid:
        # An NMI from kernel mode runs on its own stack, below asm_exc_nmi's end_repeat_nmi.
        assert_interrupting_by_nmi(guest, pid, NMI, ['end_repeat_nmi', *SPIN, *kthread(guest)])


@suite.case('nmi-of-user-mode-RELIABLE', options=NMI_OPTIONS, allow=NMI_NOTES)
def _(guest):
    with started(guest, 'nmi'), user(guest, 'spin') as pid:
        assert_interrupting_by_nmi(guest, pid, NMI, ['asm_exc_nmi'])


# --- hidden return addresses ----------------------------------------------------------------

GRAPHED = 'hvp_hidden_inner hvp_hidden_outer hvp_wait schedule'


@contextlib.contextmanager
def graph(guest, functions):
    """The function graph tracer on these functions (none: on all)."""
    guest.check(f'cd {TRACING}; echo {functions} > set_ftrace_filter; '
                'echo function_graph > current_tracer', timeout=60)
    try:
        yield
    finally:
        guest.check(f'cd {TRACING}; echo nop > current_tracer; echo > set_ftrace_filter; '
                    'echo > trace', timeout=60)


@contextlib.contextmanager
def kretprobe_event(guest, function):
    guest.check(f'cd {TRACING}; echo "r64:hvp_return {function}" > kprobe_events; '
                'echo 1 > events/kprobes/hvp_return/enable')
    try:
        yield
    finally:
        guest.check(f'cd {TRACING}; echo 0 > events/kprobes/hvp_return/enable; '
                    'echo > kprobe_events; echo > trace')


def look_for_hidden(guest):
    with started(guest, 'hidden') as pid:
        assert_stack(at_rest(guest, pid), *SLEEP, 'hvp_hidden_inner', 'hvp_hidden_outer',
                     'hvp_hidden_thread', *kthread(guest))


@suite.case('kretprobe-sleeper-RELIABLE')
def _(guest):
    with started(guest, 'kretprobe-inner'):
        look_for_hidden(guest)


@suite.case('kretprobe-twice-RELIABLE')
def _(guest):
    with started(guest, 'kretprobe-inner', 'kretprobe-outer'):
        look_for_hidden(guest)


@suite.case('function-graph-sleeper-RELIABLE')
def _(guest):
    prepare(guest)
    with graph(guest, GRAPHED):
        look_for_hidden(guest)


@suite.case('function-graph-of-everything-RELIABLE')
def _(guest):
    prepare(guest)
    with graph(guest, ''):
        look_for_hidden(guest)
        asleep = [task for task in all_tasks(guest) if not task['on_cpu']]
        assert all(task['verdict'] == 'RELIABLE' for task in asleep)


@suite.case('function-graph-switched-off-under-a-sleeper-RELIABLE')
def _(guest):
    prepare(guest)
    with contextlib.ExitStack() as stack:
        with graph(guest, GRAPHED):
            pid = stack.enter_context(started(guest, 'hidden'))
        assert_stack(at_rest(guest, pid), *SLEEP, 'hvp_hidden_inner', 'hvp_hidden_outer',
                     'hvp_hidden_thread', *kthread(guest))


@suite.case('kretprobe-then-graph-RELIABLE')
def _(guest):
    # The guest's own unwinder gives up on this one.
    with started(guest, 'kretprobe-inner', 'kretprobe-outer'), graph(guest, GRAPHED):
        look_for_hidden(guest)


@suite.case('graph-then-kretprobe-RELIABLE')
def _(guest):
    prepare(guest)
    with graph(guest, GRAPHED), started(guest, 'kretprobe-inner', 'kretprobe-outer'):
        look_for_hidden(guest)


@contextlib.contextmanager
def in_wait_for_partner(guest):
    """A task in the function that hvp_sleeper patches; yields its pid."""
    guest.check('[ -p /tmp/fifo ] || mkfifo /tmp/fifo')
    with background(guest, 'cat /tmp/fifo') as pid:
        wait_asleep(guest, pid)
        yield pid


def assert_blocked(guest, pid):
    result = guest.hvpatch('blocking', guest.module('hvp_sleeper'))
    assert result.status == BUSY, result
    found = [(entry['pid'], entry['function'], entry['reason'])
             for entry in result.json['blockers']]
    assert found == [(pid, 'wait_for_partner', 'ACTIVE')], result


@suite.case('patched-function-behind-graph-BUSY')
def _(guest):
    """What the graph tracer hides is the return into the very function to be patched."""
    prepare(guest)
    with graph(guest, 'schedule'), in_wait_for_partner(guest) as pid:
        assert_blocked(guest, pid)


@suite.case('patched-function-behind-kretprobe-BUSY')
def _(guest):
    prepare(guest)
    with kretprobe_event(guest, 'schedule'), in_wait_for_partner(guest) as pid:
        assert_blocked(guest, pid)


# --- CPUs ---------------------------------------------------------------------------------------

def assert_all_reliable(guest):
    """At some looks CPU 0 is in entry code, never is anybody else told otherwise."""
    unreliable = [task for task in all_tasks(guest) if task['verdict'] != 'RELIABLE']
    if any(task['cpu'] != 0 or not task['on_cpu'] for task in unreliable):
        raise RuntimeError(' / '.join(told(task) for task in unreliable))
    assert not unreliable, ' / '.join(told(task) for task in unreliable)


@suite.case('offline-cpu-RELIABLE', allow=HOTPLUG_NOTES)
def _(guest):
    prepare(guest)
    online = '/sys/devices/system/cpu/cpu1/online'
    dead = ['hlt_play_dead', 'native_play_dead'] + (['arch_cpu_idle_dead'] if is_new(guest) else [])
    guest.check(f'echo 0 > {online}')
    try:
        assert_stack(on_cpu_1(guest, 0), *dead, *idle_loop(guest))
        eventually(lambda: assert_all_reliable(guest))
    finally:
        guest.check(f'echo 1 > {online}')


@suite.case('cpu-never-started-RELIABLE', options={'append': 'maxcpus=1'})
def _(guest):
    # The vCPU waits for its first signal and runs no kernel; its idle task exists.
    for task in all_tasks(guest):
        assert task['verdict'] == 'RELIABLE' or task['on_cpu'], told(task)
    result = guest.hvpatch('blocking', guest.module('hvp_cmdline'))
    assert result.status == DONE, result


@suite.case('page-table-isolation-user-mode-RELIABLE', options={'append': 'pti=on'})
def _(guest):
    """While in user mode the vCPU's page tables hold next to nothing of the kernel."""
    assert 'PTI' in guest.check('cat /sys/devices/system/cpu/vulnerabilities/meltdown; '
                                'dmesg | grep "page tables isolation: enabled" | sed s/^/PTI:/')
    with user(guest, 'spin') as pid:
        looks = [one_task(guest, pid) for _ in range(LOOKS)]
        assert any(task['verdict'] == 'RELIABLE' and not task['stack'] for task in looks)


if __name__ == '__main__':
    suite.main()
