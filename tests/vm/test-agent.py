#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest agent on real kernels: what it says of threads whose state is known, and what it does
when the host, the port or the agent itself misbehaves or goes.

The port is plugged into the running guest, so that all cases share one.
"""

import os
import time

from agentport import (BINARY, NAME, Agent, AgentSilent, Port, agent_path, frozen, functions,
                       plug_port, unplug_port)
from guest import eventually, hvpatch_path
from stands import HOTPLUG_NOTES, all_tasks, frames, prepare, started, told
from tap import Skip, Suite

suite = Suite('6.1', '6.12')

MAX_BINARY_BYTES = 256 << 10
MAX_RESIDENT_KIB = 2048
ONLINE = '/sys/devices/system/cpu/cpu1/online'
WATCH = 'guest-hvpatch-watch-kthreads'
GET = b'{"execute":"guest-hvpatch-get-kthreads"}\n'
PING = b'{"execute":"guest-ping"}\n'
SCHEDULER = ('__schedule', 'schedule', 'schedule_preempt_disabled', 'schedule_timeout',
             'schedule_hrtimeout_range_clock', 'schedule_hrtimeout_range', 'schedule_hrtimeout',
             'schedule_timeout_idle', 'schedule_timeout_interruptible',
             'schedule_timeout_uninterruptible')
# Until the agent sees that the host came, as main.c has it, and the time of an emulated CPU on a
# crowded host.
NOTICE_SECONDS = 10
# Of a CPU, that the watch of all may take; measured so often at most.
WATCH_SHARE, WATCH_TRIES = 0.4, 6


def needs_agent():
    if not os.path.exists(agent_path()):
        raise Skip(f'{agent_path()} is missing (musl-gcc)')


def by_comm(kthreads, comm):
    kthread, = [kthread for kthread in kthreads.values() if kthread['comm'] == comm]
    return kthread


# --- what it says ---------------------------------------------------------------

@suite.case('small-STATIC', guest=False)
def _():
    needs_agent()
    assert os.path.getsize(agent_path()) < MAX_BINARY_BYTES, os.path.getsize(agent_path())


@suite.case('info')
def _(guest):
    needs_agent()
    with Agent(guest) as agent:
        info = agent.execute('guest-info')
        assert info['protocol'] == 1 and len(info['supported_commands']) == 6, info
        assert agent.execute('guest-ping') == {}
        assert agent.resident_kib() < MAX_RESIDENT_KIB, agent.resident_kib()
        # What the service allows by its name.
        guest.check("grep -q ' virtio-portsdev$' /proc/devices")


@suite.case('parked-before-its-function-PARKED')
def _(guest):
    needs_agent()
    with started(guest, 'parked') as pid, Agent(guest) as agent:
        kthread = agent.wait_state(pid, 'parked')
        assert kthread['wchan'] == '__kthread_parkme', kthread
        assert kthread['comm'] == 'hvp_parked' and not kthread['per_cpu'], kthread
        assert functions(kthread)[:2] == ['__kthread_parkme', 'kthread'], kthread


@suite.case('asleep-in-nested-calls-SLEEPING')
def _(guest):
    needs_agent()
    with started(guest, 'nested') as pid, Agent(guest) as agent:
        kthread = agent.wait_state(pid, 'sleeping')
        assert kthread['wchan'] == 'hvp_wait', kthread
        assert functions(kthread)[:5] == ['hvp_wait', 'hvp_nested_three', 'hvp_nested_two',
                                          'hvp_nested_one', 'hvp_nested_thread'], kthread
        assert 'stack' not in agent.one(pid)

        def counts_agree():
            told = agent.one(pid)
            counts = guest.check(f'grep ctxt /proc/{pid}/status').split()
            assert counts[1::2] == [str(told['voluntary']), str(told['involuntary'])], counts
        eventually(counts_agree)


@suite.case('work-item-asleep-BUSY-WORKER')
def _(guest):
    needs_agent()
    with started(guest, 'work') as pid, Agent(guest) as agent:
        kthread = agent.wait_state(pid, 'busy-worker')
        assert kthread['wchan'] == 'hvp_wait', kthread
        comm = guest.check(f'cat /proc/{pid}/comm')
        assert comm.startswith(kthread['comm'] + '+') and '+' not in kthread['comm'], comm
        assert 'process_one_work' in functions(kthread), kthread
    # Its work is done: an idle worker, or none any more.
    with Agent(guest) as agent:
        assert agent.kthreads()[0].get(pid, {'state': 'idle-worker'})['state'] == 'idle-worker'


@suite.case('spinning-on-its-cpu-RUNNING')
def _(guest):
    needs_agent()
    with started(guest, 'spin') as pid, Agent(guest) as agent:
        kthread = agent.wait_state(pid, 'running')
        assert kthread['cpus'] == '1' and kthread['per_cpu'] and not kthread['wchan'], kthread


@suite.case('in-the-refrigerator-FROZEN')
def _(guest):
    needs_agent()
    with started(guest, 'freezable') as pid, Agent(guest) as agent:
        assert agent.one(pid)['state'] != 'frozen'
        with frozen(guest, pid):
            kthread = agent.wait_state(pid, 'frozen')
            assert kthread['wchan'] == '__refrigerator', kthread
            assert functions(kthread)[:2] == ['__refrigerator', 'hvp_freezable_thread'], kthread
        agent.wait_until(pid, lambda kthread: kthread['state'] != 'frozen')


@suite.case('frozen-where-it-slept-UNINTERRUPTIBLE')
def _(guest):
    """kcompactd sleeps freezably: the freezer does not wake it, and /proc tells no more than D."""
    needs_agent()
    with Agent(guest) as agent:
        pid = by_comm(agent.kthreads()[0], 'kcompactd0')['pid']
        with frozen(guest, pid):
            kthread = agent.wait_state(pid, 'uninterruptible')
            assert kthread['wchan'] == 'kcompactd', kthread
            time.sleep(1)
            assert agent.one(pid, stack=True) == kthread
        agent.wait_until(pid, lambda now: now['voluntary'] > kthread['voluntary'])


@suite.case('threads-of-offline-cpu-PARKED', allow=HOTPLUG_NOTES)
def _(guest):
    needs_agent()
    names = ('cpuhp/1', 'migration/1', 'ksoftirqd/1')
    with Agent(guest) as agent:
        guest.check(f'taskset -p 1 $(pidof hvp_channel); taskset -p 1 {agent.pid}')
        before, _ = agent.kthreads()
        guest.check(f'echo 0 > {ONLINE}')
        try:
            offline, _ = agent.kthreads(stack=True)
        finally:
            guest.check(f'echo 1 > {ONLINE}')
        for name in names:
            assert by_comm(before, name)['state'] != 'parked', before
            kthread = by_comm(offline, name)
            assert kthread['state'] == 'parked' and kthread['cpus'] == '1', kthread
            assert kthread['per_cpu'] and '__kthread_parkme' in functions(kthread), kthread
            agent.wait_until(kthread['pid'], lambda after: after['state'] != 'parked')
        assert by_comm(offline, 'ksoftirqd/0')['state'] != 'parked', offline


def seen_state(task):
    """What a stack that the host has seen amounts to; None: not one of these."""
    stack = [name for name in frames(task) if name not in SCHEDULER]
    if '__refrigerator' in stack:
        return 'frozen'
    if stack[0].endswith('kthread_parkme'):
        return 'parked'
    if 'process_one_work' in stack:
        return 'busy-worker'
    return 'idle-worker' if stack[0] == 'worker_thread' else None


@suite.case('all-kthreads-AGREE-with-introspection')
def _(guest):
    """Each thread that was not switched between two looks of the agent, against hvpatch's."""
    needs_agent()
    if not os.path.exists(hvpatch_path()):
        raise Skip(f'{hvpatch_path()} is missing')
    with started(guest, 'parked', 'nested', 'work'), Agent(guest) as agent:
        before, _ = agent.kthreads(stack=True)
        tasks = {task['pid']: task for task in all_tasks(guest)}
        after, _ = agent.kthreads(stack=True)
        still = {pid: kthread for pid, kthread in before.items() if after.get(pid) == kthread}
        assert len(still) > 40, f'{len(still)} of {len(before)} slept'
        listed = {pid for pid, task in tasks.items() if task['kthread'] and pid > 0}
        assert not listed.symmetric_difference(before) - set(after)
        # Who was there before and after was there in between.
        assert set(before) & set(after) <= listed
        count = {'idle-worker': 0, 'busy-worker': 0, 'parked': 0}
        for pid, kthread in still.items():
            if kthread['state'] == 'running':
                continue
            seen = seen_state(tasks[pid])
            says = kthread['state'] if kthread['state'] in (*count, 'frozen') else None
            assert seen == says, f'{kthread}\n{told(tasks[pid])}'
            assert tasks[pid]['comm'] == kthread['comm'], f'{kthread}\n{told(tasks[pid])}'
            if seen in count:
                count[seen] += 1
        assert min(count.values()) >= 1 and count['idle-worker'] > 2, count


@suite.case('modules-as-in-proc')
def _(guest):
    needs_agent()
    prepare(guest)
    with Agent(guest) as agent:
        modules = agent.execute('guest-hvpatch-get-modules')['modules']
        lines = guest.check('cat /proc/modules').splitlines()
        assert [[module['name'], str(module['size']), module['state']] for module in modules] == [
            [line.split()[0], line.split()[1], line.split()[4]] for line in lines], modules
        ours, = [module for module in modules if module['name'] == 'hvp_stacks']
        assert 'O' in ours['taint'] and ours['refcount'] == 0, ours


# --- the watch --------------------------------------------------------------------

@suite.case('watch-tells-what-changes')
def _(guest):
    needs_agent()
    prepare(guest)
    with Agent(guest) as agent:
        agent.execute(WATCH, enable=True, interval_ms=20, match=['hvp_*'])
        with started(guest, 'parked') as pid:
            # On its way there it may be seen elsewhere.
            data = agent.wait_event(lambda data: any(kthread['state'] == 'parked'
                                                     for kthread in data['kthreads']))
            assert data['boot_id'] == guest.check('cat /proc/sys/kernel/random/boot_id'), data
            kthread, = data['kthreads']
            assert kthread['pid'] == pid, data
        data = agent.wait_event(lambda data: data['gone'])
        assert data['gone'] == [pid], data
        agent.execute(WATCH, enable=False)
        agent.events.clear()
        with started(guest, 'parked'):
            time.sleep(1)
            agent.execute('guest-ping')
            assert not agent.events, agent.events


@suite.case('watch-of-all-BOUNDED')
def _(guest):
    needs_agent()
    def watch(agent):
        agent.events.clear()
        agent.execute(WATCH, enable=True, interval_ms=10)
        first, seconds = agent.cpu_seconds(), time.monotonic()
        time.sleep(2)
        agent.execute(WATCH, enable=False)
        seconds = time.monotonic() - seconds
        used = agent.cpu_seconds() - first
        assert len(agent.events) <= seconds * 100 + 1, len(agent.events)
        return used / seconds, len(agent.events)

    with Agent(guest) as agent:
        # What the host takes away counts as the guest's: one that is busy makes it look like more.
        for _ in range(WATCH_TRIES):
            share, events = watch(agent)
            if share < WATCH_SHARE and events >= 2:
                break
        assert share < WATCH_SHARE and events >= 2, f'{share:.2f} of a CPU, {events} events'


# --- who misbehaves -----------------------------------------------------------------

@suite.case('host-does-not-read-WAITS-AT-NO-COST')
def _(guest):
    needs_agent()
    with Agent(guest) as agent:
        memory = agent.resident_kib()
        agent.execute(WATCH, enable=True, interval_ms=10)
        try:
            # More than the port's ring and the sockets hold.
            agent.send(PING * 20000, timeout=2)
        except TimeoutError:
            pass
        deadline = time.monotonic() + 60
        while True:
            used = agent.cpu_seconds()
            time.sleep(1)
            if agent.cpu_seconds() - used < 0.05:
                break
            assert time.monotonic() < deadline, 'the agent works on for a host that does not read'
        used, start = agent.cpu_seconds(), time.monotonic()
        time.sleep(max(5 - (time.monotonic() - start), 0))
        assert agent.cpu_seconds() - used < 0.1, agent.cpu_seconds() - used
        assert agent.resident_kib() <= memory + 64, f'{memory} KiB, then {agent.resident_kib()}'
        assert guest.alive()
        agent.sync(77, timeout=60)


@suite.case('flood-of-garbage-BOUNDED-then-sync')
def _(guest):
    needs_agent()
    with Agent(guest) as agent:
        memory = agent.resident_kib()
        for content in (b'\xff' * 200000, b'[' * 200000 + b'\n', b'"' + b'x' * 300000,
                        b'\n' * 50000, os.urandom(100000), b'{"execute":'):
            agent.send(content, timeout=60)
        agent.sync(78, timeout=60)
        assert agent.resident_kib() <= memory + 256, f'{memory} KiB, then {agent.resident_kib()}'
        assert agent.execute('guest-ping') == {}


@suite.case('killed-at-any-moment-and-started-again')
def _(guest):
    needs_agent()
    with Agent(guest) as agent:
        for number in range(6):
            agent.execute(WATCH, enable=True, interval_ms=10)
            agent.send(GET * 4)
            time.sleep(number * 0.03)
            agent.kill()
            try:
                while True:
                    agent.line(0.5)
            except AgentSilent:
                pass
            agent.forget_half_line()
            assert guest.alive()
            agent.start()
            agent.sync(100 + number)
            agent.events.clear()
            kthreads, _ = agent.kthreads()
            assert 2 in kthreads, kthreads


# --- who comes and goes ----------------------------------------------------------------

@suite.case('host-comes-again-ANEW')
def _(guest):
    needs_agent()
    with Agent(guest) as agent:
        agent.host_events()
        for number in range(2):
            agent.execute(WATCH, enable=True, interval_ms=10)
            agent.send(GET * 3 + b'{"execute":"half')
            agent.close()
            agent.wait_silent()
            port = Port(agent.path)
            started_at = time.monotonic()
            port.sync(200 + number)
            assert time.monotonic() - started_at < NOTICE_SECONDS
            time.sleep(0.5)
            assert port.execute('guest-ping') == {} and not port.events, port.events
            port.close()
            agent.connect()
            agent.sync(300 + number)
        assert agent.host_events() == 0, 'the agent opened the port again'


@suite.case('port-unplugged-and-plugged-again')
def _(guest):
    needs_agent()
    with Agent(guest) as agent:
        first = agent.cpu_seconds()
        unplug_port(guest)
        guest.wait_for(f'! grep -qx {NAME} /sys/class/virtio-ports/*/name')
        time.sleep(2)
        assert agent.cpu_seconds() - first < 0.3, agent.cpu_seconds() - first
        plug_port(guest)
        guest.wait_for(f'grep -qx {NAME} /sys/class/virtio-ports/*/name')
        agent.sync(400)
        assert agent.execute('guest-ping') == {}


@suite.case('second-agent-WAITS')
def _(guest):
    needs_agent()
    with Agent(guest) as agent:
        pid = guest.check(f'{BINARY} > /tmp/second.log 2>&1 & echo $!')
        guest.wait_for('grep -q busy /tmp/second.log')
        assert agent.execute('guest-ping') == {}
        agent.kill()
        agent.pid = pid
        agent.sync(500)
        assert agent.execute('guest-ping') == {}


if __name__ == '__main__':
    suite.main()
