#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel threads: what guest memory and the agent say of them, policies, and hints.

Between hvpatch and the real agent stands a liar where the agent is to misbehave (liar.py).
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time

from agentport import BINARY, agent_path, frozen, plug
from guest import eventually
from liar import Liar, lie_about
from stands import HOTPLUG_NOTES, prepare, started
from tap import Skip, Suite

suite = Suite('6.1', '6.12')

THREADS = '/proc/hvp_threads'
PATCH = 'hvp_threads_patch'
DONE, INVALID, UNSUPPORTED, BUSY, TAMPERED = 0, 2, 3, 4, 7
LOOKS = 5
AGREE_SECONDS = 60
# Where nobody is in the way for long; a slow host needs some of it.
PATIENT = '120'
# What an operation costs without an agent: see guided-APPLIED.
GUIDED_STOPS, GUIDED_TRIES = 4, 4
PATCH_NOTES = (r'livepatch: .*', r'hvp_threads.*')
ONLINE = '/sys/devices/system/cpu/cpu1/online'


# --- the agent, and what stands in the guest --------------------------------------

@contextlib.contextmanager
def agent(guest):
    """The agent runs; yields the port's socket."""
    if not os.path.exists(agent_path()):
        raise Skip(f'{agent_path()} is missing (musl-gcc)')
    path = plug(guest)
    pid = guest.check(f'{BINARY} > /dev/null 2>&1 & echo $!')
    try:
        yield path
    finally:
        guest.run(f'kill -9 {pid}; while [ -e /proc/{pid} ]; do sleep 0.05; done')


@contextlib.contextmanager
def lying(guest, change):
    """The agent runs, and lies; yields the path of its socket."""
    path = guest.path('liar.sock')
    with agent(guest) as socket_path, Liar(socket_path, path, change):
        yield path


@contextlib.contextmanager
def thread(guest, mode):
    """The module's thread stands so; yields its pid."""
    if 'hvp_threads' not in guest.loaded():
        guest.check(f'insmod {guest.put_file(guest.module("hvp_threads"))}')
    guest.check(f'echo "start {mode}" > {THREADS}')
    try:
        yield int(guest.check(f'cat {THREADS}').split()[0])
    finally:
        guest.check(f'echo stop > {THREADS}')


def look(guest, *options):
    """The kernel threads by pid, and the run that told."""
    result = guest.hvpatch(*options, 'tasks', '--kthreads')
    return {task['pid']: task for task in result.json['tasks'] if task['pid']}, result


def views(guest, *options):
    tasks, result = look(guest, *options)
    assert result.status == DONE, result
    assert all(task['agent'] for task in tasks.values()), result
    assert {task['agent']['verdict'] for task in tasks.values()} <= {'agrees', 'stale'}, result
    return tasks


def assert_agree(guest, wanted):
    """On each of {comm: state} both views agree at some look; returns the last one."""
    missing = dict(wanted)
    deadline = time.monotonic() + AGREE_SECONDS
    while time.monotonic() < deadline:
        tasks = views(guest)
        for task in tasks.values():
            if (task['agent']['verdict'] == 'agrees'
                    and task['kthread_state'] == task['agent']['state']
                    and wanted.get(task['comm']) == task['kthread_state']):
                missing.pop(task['comm'], None)
        if not missing:
            return tasks
        time.sleep(0.1)
    raise AssertionError(f'no agreement on {missing}')


def apply(guest, *options, timeout=PATIENT, path=None, before=()):
    return guest.hvpatch(*before, 'apply', '--timeout', timeout, *options,
                         path or guest.module(PATCH))


def apply_in_vain(guest, *options, path=None):
    return guest.hvpatch_in_vain('apply', *options, path or guest.module(PATCH))[0]


def with_manifest(guest, text):
    """A copy of the patch with a manifest beside it."""
    path = guest.path(f'{PATCH}.ko')
    shutil.copyfile(guest.module(PATCH), path)
    with open(guest.path(f'{PATCH}.hvpatch.json'), 'w', encoding='ascii') as stream:
        stream.write(text if isinstance(text, str) else json.dumps(text))
    return path


def with_manifest_inside(guest, manifest):
    """A copy of the patch with a manifest in its modinfo, as its author would put it there."""
    path, info = guest.path(f'{PATCH}-inside.ko'), guest.path('modinfo')
    subprocess.run(['objcopy', '-O', 'binary', '--only-section=.modinfo', guest.module(PATCH),
                    info], check=True)
    with open(info, 'ab') as stream:
        stream.write(b'hvpatch=' + json.dumps(manifest).encode() + b'\0')
    subprocess.run(['objcopy', '--update-section', f'.modinfo={info}', guest.module(PATCH), path],
                   check=True)
    return path


def assert_busy(result, reason, pid, words=''):
    assert result.status == BUSY and result.json['code'] == 'BUSY', result
    blocker, = [blocker for blocker in result.json['blockers'] if blocker['pid'] == pid]
    assert blocker['reason'] == reason and blocker['kthread'], result
    assert words in blocker['function'], result


def assert_applied(guest, result):
    assert result.status == DONE and result.json['result'] == 'applied', result
    reverted = guest.hvpatch('revert', PATCH)
    assert reverted.status == DONE, reverted


# --- both views ---------------------------------------------------------------------

@suite.case('all-threads-AGREE')
def _(guest):
    with agent(guest):
        tasks = assert_agree(guest, {'kthreadd': 'sleeping', 'kswapd0': 'sleeping'})
        workers = [task for task in tasks.values()
                   if re.match(r'kworker/\d+:', task['comm'])]
        assert workers and any(task['kthread_state'] == task['agent']['state'] == 'idle-worker'
                               for task in workers), workers


@suite.case('each-state-AGREES')
def _(guest):
    with started(guest, 'parked', 'nested'), started(guest, 'work') as work, agent(guest):
        assert_agree(guest, {'hvp_parked': 'parked', 'hvp_nested': 'sleeping'})
        for _ in range(LOOKS):
            task = views(guest)[work]
            assert task['kthread_state'] == task['agent']['state'] == 'busy-worker', task


@suite.case('threads-of-offline-cpu-AGREE', allow=HOTPLUG_NOTES)
def _(guest):
    prepare(guest)
    with agent(guest):
        guest.check(f'echo 0 > {ONLINE}')
        try:
            assert_agree(guest, {f'{name}/1': 'parked'
                                 for name in ('cpuhp', 'ksoftirqd', 'migration')})
        finally:
            guest.check(f'echo 1 > {ONLINE}')
        assert_agree(guest, {f'{name}/1': 'sleeping'
                             for name in ('cpuhp', 'ksoftirqd', 'migration')})


@suite.case('no-agent-SHOWN')
def _(guest):
    for options in ((), ('--agent', 'none'), ('--agent', '/nonexistent')):
        tasks, result = look(guest, *options)
        assert result.status == DONE and result.seconds < 30, result
        assert all(task['agent'] is None and task['kthread_state'] for task in tasks.values())


# --- parked and frozen are not safe ----------------------------------------------------

@suite.case('parked-in-old-function-BUSY', allow=PATCH_NOTES)
def _(guest):
    with agent(guest):
        with thread(guest, 'parked-inside') as pid:
            assert views(guest)[pid]['kthread_state'] == 'parked'
            for policy in ('any', 'parked=hvp_thread'):
                assert_busy(apply_in_vain(guest, '--kthreads', policy), 'ACTIVE', pid,
                            'hvp_threads_turn')
        assert_applied(guest, apply(guest))


@suite.case('frozen-in-old-function-BLOCKING')
def _(guest):
    def assert_frozen(pid):
        task = look(guest, '--agent', 'none')[0][pid]
        assert task['kthread_state'] == 'frozen', task

    # By a control group: all tasks, as for a suspend, stay so for some seconds only.
    with agent(guest), thread(guest, 'freezable') as pid, frozen(guest, pid):
        eventually(lambda: assert_frozen(pid))
        result = guest.hvpatch('blocking', guest.module(PATCH))
        reasons = [blocker['reason'] for blocker in result.json['blockers']
                   if blocker['pid'] == pid]
        assert result.status == BUSY and reasons == ['ACTIVE'], result
        assert_frozen(pid)


# --- policies ---------------------------------------------------------------------------

@suite.case('policy-parked', allow=PATCH_NOTES)
def _(guest):
    for policy in ('parked=hvp_thread', 'parked=nothing,hvp_t?re*'):
        with thread(guest, 'asleep') as pid:
            assert_busy(apply_in_vain(guest, '--kthreads', policy), 'POLICY', pid, 'parked')
            assert_applied(guest, apply(guest, '--kthreads', 'parked=nobody'))
        with thread(guest, 'parked'):
            assert_applied(guest, apply(guest, '--kthreads', policy))
    # Idle workers hold no work.
    with thread(guest, 'parked'):
        assert_applied(guest, apply(guest, '--kthreads', 'parked=kworker/0:*'))


@suite.case('policy-of-manifest', allow=PATCH_NOTES)
def _(guest):
    standing = ['hvp_threads:hvp_threads_main']
    for kthreads in ('refuse', 'parked'):
        path = with_manifest(guest, {'kthreads': kthreads, 'standing': standing})
        with thread(guest, 'asleep') as pid:
            assert_busy(apply_in_vain(guest, path=path), 'POLICY', pid)
            # The operator has the last word.
            assert_applied(guest, apply(guest, '--kthreads', 'any', path=path))
        with thread(guest, 'parked') as pid:
            if kthreads == 'refuse':
                assert_busy(apply_in_vain(guest, path=path), 'POLICY', pid, 'hvp_threads_main')
            else:
                assert_applied(guest, apply(guest, path=path))
    # Nobody is in a module that is not there.
    path = with_manifest(guest, {'kthreads': 'refuse', 'standing': ['no_module:function']})
    with thread(guest, 'asleep'):
        assert_applied(guest, apply(guest, path=path))


@suite.case('manifest-in-the-module-HEEDED', allow=PATCH_NOTES)
def _(guest):
    manifest = {'kthreads': 'refuse', 'standing': ['hvp_threads:hvp_threads_main']}
    path = with_manifest_inside(guest, manifest)
    with thread(guest, 'parked') as pid:
        assert_busy(apply_in_vain(guest, path=path), 'POLICY', pid, 'hvp_threads_main')
        items = {item['item']: item['ok'] for item in guest.hvpatch('check', path).json['items']}
        assert items['kthreads'] is True, items
        assert_applied(guest, apply(guest, '--kthreads', 'any', path=path))
    path = with_manifest_inside(guest, {**manifest, 'standing': ['no_such_function']})
    result = guest.hvpatch('check', path)
    assert result.status == UNSUPPORTED and 'no_such_function' in result.json['message'], result


@suite.case('manifest-REFUSED')
def _(guest):
    for text, status in (('{', 1), ({'kthreds': 'any'}, 1), ({'kthreads': 'refuse'}, INVALID),
                         ({'kthreads': 'refuse', 'standing': ['no_such_function']}, UNSUPPORTED)):
        with thread(guest, 'asleep'):
            path = with_manifest(guest, text)
            result = apply(guest, path=path)
            assert result.status == status and not result.json['functions'], (text, result)
            checked = guest.hvpatch('check', path)
            assert checked.status == status, (text, checked)
    result = apply(guest, '--kthreads', 'idle')
    assert result.status == INVALID and '--kthreads' in result.json['message'], result


# --- hints ---------------------------------------------------------------------------------

@suite.case('guided-APPLIED', allow=PATCH_NOTES)
def _(guest):
    with agent(guest), thread(guest, 'cycle 1300 400'):
        # A hint that comes late, on a host that is slow at that moment, leads to nothing.
        for _ in range(GUIDED_TRIES):
            result = apply(guest)
            assert_applied(guest, result)
            if result.json['stops'] <= GUIDED_STOPS:
                break
        assert result.json['stops'] <= GUIDED_STOPS, result


@suite.case('agent-killed-while-waiting-APPLIED', allow=PATCH_NOTES)
def _(guest):
    with agent(guest), thread(guest, 'cycle 2700 1300'):
        process = guest.hvpatch_start('apply', '--timeout', PATIENT, guest.module(PATCH))
        time.sleep(1.5)
        guest.check('killall -9 hvpatch-agent')
        stdout, stderr = process.communicate(timeout=200)
        assert process.returncode == DONE, (stdout, stderr)
        result = guest.hvpatch('revert', PATCH)
        assert result.status == DONE, result


@suite.case('useless-agent-APPLIED', allow=PATCH_NOTES, timeout=700)
def _(guest):
    silent = bytes()
    for change in (lambda message: silent if 'data' in message else message,
                   lambda message: None,
                   lambda message: b'{"return":\n',
                   lambda message: b'[' * 70000 + b'\n',
                   lambda message: {**message, 'id': 7} if 'id' in message else message):
        with lying(guest, change) as path, thread(guest, 'cycle 850 450'):
            assert_applied(guest, apply(guest, before=('--agent', path)))


# --- lies -----------------------------------------------------------------------------------

LIES = {
    'parked': {'state': 'parked'},
    'idle': {'state': 'idle-worker'},
    'busy': {'state': 'busy-worker'},
    'frozen': {'state': 'frozen'},
    'running': {'state': 'running'},
    'uninterruptible': {'state': 'uninterruptible'},
    'comm': {'comm': 'kswapd1'},
    'voluntary': {'voluntary': lambda thread: thread['voluntary'] + 1},
    'fewer': {'voluntary': lambda thread: thread['voluntary'] - 1},
    'involuntary': {'involuntary': lambda thread: thread['involuntary'] + 1},
    'cpus': {'cpus': '1'},
    'per-cpu': {'per_cpu': True},
}


@suite.case('each-lie-TAMPERED')
def _(guest):
    """About a thread that sleeps all the time."""
    for name, members in LIES.items():
        with lying(guest, lie_about('kswapd0', **members)) as path:
            tasks, result = look(guest, '--agent', path)
        kswapd, = [task for task in tasks.values() if task['comm'] == 'kswapd0']
        assert result.status == TAMPERED and 'false claim' in result.stderr, (name, result)
        assert kswapd['agent']['verdict'] == 'false', (name, kswapd)
        others = [task for task in tasks.values() if task is not kswapd]
        assert all(task['agent']['verdict'] != 'false' for task in others), (name, others)


@suite.case('other-boot-TAMPERED')
def _(guest):
    def change(message):
        value = message.get('return')
        if isinstance(value, dict) and 'boot_id' in value:
            value['boot_id'] = '00000000-0000-4000-8000-000000000000'
        return message
    with lying(guest, change) as path:
        _, result = look(guest, '--agent', path)
        assert result.status == TAMPERED and 'another boot' in result.stderr, result


@suite.case('told-as-parked-TAMPERED', allow=PATCH_NOTES)
def _(guest):
    with thread(guest, 'asleep'):
        # With counts that it does not have.
        with lying(guest, lie_about('hvp_thread', state='parked',
                                    voluntary=lambda told: told['voluntary'] + 1000)) as path:
            result = apply(guest, '--kthreads', 'parked=hvp_thread', before=('--agent', path))
            assert result.status == TAMPERED and result.json['code'] == 'TAMPERED', result
            assert 'false claim' in result.stderr, result
        assert PATCH not in guest.loaded()
    with thread(guest, 'cycle 60000 100') as pid:
        # With its own, while it is preempted all the time: never taken for the truth.
        with lying(guest, lie_about('hvp_thread', state='parked')) as path:
            for _ in range(LOOKS):
                told = look(guest, '--agent', path)[0][pid]['agent']
                assert told['state'] == 'parked' and told['verdict'] != 'agrees', told


if __name__ == '__main__':
    suite.main()
