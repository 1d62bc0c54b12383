#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatch on domains of a real libvirt: found by name, UUID and number, listed, patched; refused
where libvirt is at it; and whoever dies in the middle.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

from guest import eventually, hvpatch_path
from libvirt import KVM_NAME, LibvirtGuest, bridges, daemon, hvpatch, main, under_kvm, virsh
from tap import Skip, Suite

sys.path.append(os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'fault'))
from scene import MODULE, Scene, frozen, injecting, thaw  # pylint: disable=wrong-import-position

DONE, FAILED, USAGE, NOT_APPLICABLE, BUSY, REFUSED, ROLLED_BACK, OPERATOR = range(8)
# What an operation that somebody interfered with may end in.
NAMED = (DONE, FAILED, BUSY, REFUSED, ROLLED_BACK, OPERATOR)
NEW = 'hvpatch was here'
# A request of hvpatch to its keeper, in the middle of apply: the loader is at work, or about to.
MIDDLE = 20
GONE_SECONDS = 5.0
HANGS_SECONDS = 15.0
TEST_URI = 'test:///default'
# Of no use but to be there.
IDLE_UUID = '4f1c36bb-6f53-4c8f-8d4e-0a2f4b8a7f01'
IDLE_DOMAIN = ("<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid>"
               "<memory unit='MiB'>16</memory>"
               "<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>")
# As virsh dominfo words custom-monitor.
TAINT = 'custom monitor control commands issued'

suite = Suite('6.1', guest_class=LibvirtGuest)


def parsed(result):
    """Of hvpatch on no guest: its object, with the exit status."""
    return result.returncode, json.loads(result.stdout)


@contextlib.contextmanager
def defined(guest, name):
    """A further domain, which does not run."""
    path = guest.path('idle.xml')
    with open(path, 'w') as stream:
        stream.write(IDLE_DOMAIN.format(name=name, uuid=IDLE_UUID))
    virsh('define', path)
    try:
        yield
    finally:
        virsh('undefine', IDLE_UUID)


def wait_no_bridges(timeout=3.0):
    """Nobody is left who speaks to libvirt for us."""
    deadline = time.monotonic() + timeout
    while bridges():
        assert time.monotonic() < deadline, bridges()
        time.sleep(0.02)


# --- looking and patching ---

@suite.case('list-states-NO_TAINT')
def _(guest):
    assert hvpatch('list', '--states').returncode == DONE
    names = hvpatch('complete', 'running', output='table').stdout.split()
    assert names == [guest.name], names
    assert TAINT not in guest.taints(), guest.taints()


@suite.case('info-TAINT_NAMED')
def _(guest):
    result = guest.hvpatch('info')
    assert result.status == DONE and result.json['kernel']['release'] == guest.release, result
    assert result.json['patchable'] is True and result.json['taint'] == 'custom-monitor', result
    assert TAINT in guest.taints(), guest.taints()
    table = guest.hvpatch('info', output='table').stdout
    assert re.search(r'^taint +custom-monitor', table, re.MULTILINE), table
    wait_no_bridges()


def look_at_kvm(*options):
    """The code that looking at it ends with, and whether libvirt marks it."""
    _, said = parsed(hvpatch('-d', KVM_NAME, *options, 'info'))
    return said['code'], said['message'], TAINT in virsh('dominfo', KVM_NAME)


@suite.case('under-kvm-NO_TAINT')
def _(guest):
    with under_kvm(guest):
        def looked():
            code, message, tainted = look_at_kvm()
            assert code == 'NOT_FOUND' and 'no Linux kernel found' in message, message
            assert not tainted
        # It takes a moment to come up.
        eventually(looked)
        entry = next(entry for entry in parsed(hvpatch('list'))[1]['domains']
                     if entry['name'] == KVM_NAME)
        assert 'no Linux kernel found' in entry['reasons'][0], entry
        virsh('suspend', KVM_NAME)
        code, message, tainted = look_at_kvm()
        assert code == 'CONFLICT' and 'paused' in message and not tainted, message
        assert virsh('domstate', KVM_NAME) == 'paused'
        # Nor for what changes it, in as far as that comes: there is no kernel.
        virsh('resume', KVM_NAME)
        for arguments in (('apply', guest.module('hvp_cmdline')), ('revert', 'hvp_cmdline'),
                          ('recover',)):
            _, said = parsed(hvpatch('-d', KVM_NAME, *arguments))
            assert said['code'] == 'NOT_FOUND', said
        assert TAINT not in virsh('dominfo', KVM_NAME)
        virsh('suspend', KVM_NAME)
        code, _, tainted = look_at_kvm('--monitor')
        assert code == 'NOT_FOUND' and tainted
    with under_kvm(guest):
        code, _, tainted = look_at_kvm('--backend', 'gdbstub')
        assert code == 'NOT_FOUND' and tainted


def ram_jobs(guest):
    program = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(hvpatch_path()))),
                           'tests', 'tools', 'ram-jobs')
    return subprocess.run([program, 'qemu:///system', guest.name], check=True, capture_output=True,
                          text=True, timeout=60).stdout


@suite.case('jobs-on-its-RAM-TOLD')
def _(guest):
    # What an operation without a monitor asks before and after: of one text no page was copied.
    before = ram_jobs(guest)
    assert ram_jobs(guest) == before
    memory = guest.path('memory')
    virsh('snapshot-create-as', guest.name, 'copied', '--no-metadata', '--live',
          '--memspec', f'file={memory},snapshot=external')
    after = ram_jobs(guest)
    assert after != before and ram_jobs(guest) == after, after
    virsh('domjobinfo', guest.name)
    assert ram_jobs(guest) == after


@suite.case('by-name-uuid-and-id-FOUND')
def _(guest):
    for which in (guest.name, guest.uuid, guest.uuid.upper(), guest.id):
        result = hvpatch('-d', which, 'info')
        assert result.returncode == DONE, f'{which}: {result}'
    uri = {'LIBVIRT_DEFAULT_URI': TEST_URI}
    status, said = parsed(hvpatch('-d', guest.name, 'info', environment=uri))
    assert (status, said['code']) == (FAILED, 'NOT_FOUND'), said
    assert hvpatch('-c', 'qemu:///system', '-d', guest.name, 'info',
                   environment=uri).returncode == DONE


@suite.case('apply-status-revert-APPLIED')
def _(guest):
    before = guest.check('cat /proc/cmdline')
    result = guest.hvpatch('check', guest.module('hvp_cmdline'))
    assert result.status == DONE and result.json['applicable'], result
    result = guest.hvpatch('apply', guest.module('hvp_cmdline'))
    assert result.status == DONE and result.json['result'] == 'applied', result
    assert result.json['domain'] == guest.name, result
    assert guest.check('cat /proc/cmdline') == NEW
    result = guest.hvpatch('status')
    assert [patch['verified'] for patch in result.json['patches']] == [True], result
    domain, = parsed(hvpatch('list'))[1]['domains']
    assert [patch['name'] for patch in domain['patches']] == ['hvp_cmdline'], domain
    result = guest.hvpatch('revert', 'hvp_cmdline')
    assert result.status == DONE and result.json['result'] == 'reverted', result
    assert guest.check('cat /proc/cmdline') == before
    assert virsh('domstate', '--reason', guest.name) == 'running (unpaused)'


@suite.case('tasks-blocking-recover-OK')
def _(guest):
    tasks = guest.hvpatch('tasks', '--stacks')
    assert tasks.status == DONE and len(tasks.json['tasks']) > 30, tasks
    assert guest.hvpatch('blocking', guest.module('hvp_cmdline')).status == DONE
    result = guest.hvpatch('recover')
    assert result.status == DONE and result.json['recovered'] is False, result
    assert guest.state() == 'running'


@suite.case('list-ALL_DOMAINS')
def _(guest):
    with defined(guest, 'hvp-off'):
        status, said = parsed(hvpatch('list'))
        assert status == DONE and said['version'] == 1, said
        running, off = said['domains']
        assert running == {'name': guest.name, 'uuid': guest.uuid, 'id': int(guest.id),
                           'state': 'running', 'kernel': guest.release, 'backend': 'gdbstub',
                           'patchable': True, 'reasons': [], 'patches': []}, running
        assert (off['name'], off['id'], off['state'], off['kernel'], off['patchable']) == \
            ('hvp-off', None, 'shut off', None, False), off
        assert off['reasons'] == ['domain hvp-off is shut off'], off
        table = hvpatch('list', output='table').stdout
        assert re.search(rf'^ *{guest.id} +{guest.name} +running +{guest.release} .*yes', table,
                         re.MULTILINE), table
        assert re.search(r'^ *- +hvp-off +shut off .*no: ', table, re.MULTILINE), table
        states = parsed(hvpatch('list', '--states'))[1]['domains']
        assert [domain['state'] for domain in states] == ['running', 'shut off'], states
        assert states[0]['kernel'] is None, states


# --- what cannot be found ---

@suite.case('no-such-domain-NOT_FOUND')
def _(guest):
    for which in ('nobody', '4711', '00000000-0000-0000-0000-000000000001'):
        status, said = parsed(hvpatch('-d', which, 'info'))
        assert (status, said['code']) == (FAILED, 'NOT_FOUND'), said
        assert f"'{which}'" in said['message'], said
    status, said = parsed(hvpatch('-d', '', 'info'))
    assert (status, said['code']) == (USAGE, 'INVALID_ARGUMENT'), said
    with defined(guest, 'hvp-off'):
        status, said = parsed(hvpatch('-d', 'hvp-off', 'info'))
        assert (status, said['code']) == (REFUSED, 'CONFLICT') and 'shut off' in said['message']


@suite.case('name-is-another-ones-id-AMBIGUOUS')
def _(guest):
    with defined(guest, guest.id):
        status, said = parsed(hvpatch('-d', guest.id, 'info'))
        assert (status, said['code']) == (NOT_APPLICABLE, 'AMBIGUOUS'), said


@suite.case('no-daemon-NOT_FOUND')
def _(guest):
    uri = 'qemu+unix:///system?socket=/nonexistent'
    for command in (('list',), ('-d', guest.name, 'info')):
        status, said = parsed(hvpatch(*command, uri=uri))
        assert (status, said['code']) == (FAILED, 'NOT_FOUND'), said
        assert f'no connection to libvirt at {uri}: ' in said['message'], said


@suite.case('daemon-hangs-TIMED_OUT')
def _(guest):
    daemon.freeze()
    try:
        started = time.monotonic()
        status, said = parsed(hvpatch('-d', guest.name, 'info'))
        assert (status, said['code']) == (BUSY, 'TIMED_OUT'), said
        assert time.monotonic() - started < HANGS_SECONDS
    finally:
        daemon.thaw()
    assert hvpatch('-d', guest.name, 'info').returncode == DONE


@suite.case('not-a-qemu-domain-UNSUPPORTED')
def _(_guest):
    status, said = parsed(hvpatch('list', uri=TEST_URI))
    assert status == DONE, said
    domain, = said['domains']
    assert (domain['name'], domain['state'], domain['patchable']) == ('test', 'running', False)
    assert 'not a QEMU domain' in domain['reasons'][0], domain
    status, said = parsed(hvpatch('-d', 'test', 'info', uri=TEST_URI))
    assert (status, said['code']) == (NOT_APPLICABLE, 'UNSUPPORTED'), said


@suite.case('bridge-by-hand-USAGE')
def _(_guest):
    bridge = os.path.join(os.path.dirname(os.path.realpath(hvpatch_path())),
                          'hvpatch-libvirt-monitor')
    assert subprocess.run([bridge], stderr=subprocess.DEVNULL, check=False).returncode == USAGE


# --- refused ---

@suite.case('paused-CONFLICT')
def _(guest):
    virsh('suspend', guest.name)
    try:
        result = guest.hvpatch('apply', guest.module('hvp_cmdline'))
        assert (result.status, result.json['code']) == (REFUSED, 'CONFLICT'), result
        assert guest.state() == 'paused' and guest.qmp.status() == 'paused'
        domain, = parsed(hvpatch('list'))[1]['domains']
        assert domain['kernel'] == guest.release and domain['patchable'] is False, domain
        assert guest.hvpatch('tasks').status == DONE
        assert guest.state() == 'paused' and guest.qmp.status() == 'paused'
    finally:
        virsh('resume', guest.name)
    assert guest.check('cat /proc/cmdline') != NEW


@contextlib.contextmanager
def slow_job(guest, *command):
    """virsh COMMAND into a pipe that nobody empties, until the end of the block."""
    pipe = guest.path('pipe')
    os.mkfifo(pipe)
    process = subprocess.Popen(['virsh', '-q', *(pipe if word is None else word
                                                 for word in command)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        deadline = time.monotonic() + 10
        while 'Operation' not in virsh('domjobinfo', guest.name, check=False):
            if process.poll() is not None:
                raise Skip(f'{command[0]} into a pipe: {process.stderr.read().strip()}')
            assert time.monotonic() < deadline, 'the job does not begin'
            time.sleep(0.05)
        yield
    finally:
        virsh('domjobabort', guest.name, check=False)
        os.close(reader)
        process.communicate(timeout=30)
        os.unlink(pipe)


def assert_refused_by_job(guest, name):
    result = guest.hvpatch('apply', guest.module('hvp_cmdline'))
    assert (result.status, result.json['code']) == (BUSY, 'BUSY'), result
    assert name in result.json['message'], result


@suite.case('dump-runs-BUSY')
def _(guest):
    with slow_job(guest, 'dump', '--memory-only', guest.name, None):
        assert_refused_by_job(guest, 'dump')
    guest.wait_state('running')


@suite.case('save-runs-BUSY')
def _(guest):
    with slow_job(guest, 'save', guest.name, None):
        assert_refused_by_job(guest, 'save')
    guest.wait_state('running')


# --- whoever dies in the middle ---

def settle_and_use(scene):
    """By the keeper and one recover: all old or all new, and both commands work."""
    scene.settle(time.monotonic())
    wait_no_bridges()
    scene.must('recover')
    scene.assert_healthy(leftover_allowed=True)
    scene.converge('apply')
    scene.converge('revert')
    scene.assert_healthy()
    assert scene.guest.state() == 'running'


@suite.case('hvpatch-killed-RUNS_WITHIN_A_SECOND', timeout=240)
def _(guest):
    scene = Scene(guest)
    for number in (MIDDLE, 39):
        tool = scene.start(scene.command('apply'), trace=injecting('sendto', number))
        scene.finish(tool)
        scene.settle(time.monotonic())
        settle_and_use(scene)


@suite.case('hvpatch-and-libvirtd-killed-RUNS_WITHIN_A_SECOND', timeout=240)
def _(guest):
    scene = Scene(guest)
    for number in (MIDDLE, 39):
        with frozen(scene, 'apply', number) as tool:
            daemon.kill()
            tool.kill()
            killed_at = time.monotonic()
            while guest.qmp.status() != 'running':
                assert time.monotonic() < killed_at + 1, guest.qmp.status()
                time.sleep(0.01)
            daemon.start()
        settle_and_use(scene)


@suite.case('keeper-killed-too-RECOVERED', timeout=240)
def _(guest):
    scene = Scene(guest)
    tool = scene.start(scene.command('apply'), keeper_trace=injecting('writev', 8, 'SIGSTOP'))
    keeper = scene.wait_frozen(lambda: tool.poll() is None and scene.keeper_pid())
    tool.kill()
    os.kill(keeper, signal.SIGKILL)
    scene.finish(tool)
    wait_no_bridges()
    scene.must('recover')
    settle_and_use(scene)


@suite.case('bridge-killed-NAMED_STATE', timeout=240)
def _(guest):
    scene = Scene(guest)
    with frozen(scene, 'apply', MIDDLE) as tool:
        for pid in bridges():
            os.kill(pid, signal.SIGKILL)
        status, said, _ = thaw(scene, tool)
        assert status in NAMED, f'{status}: {said}'
    settle_and_use(scene)


@suite.case('libvirtd-restarted-NAMED_STATE', timeout=300)
def _(guest):
    scene = Scene(guest)
    for delay in (0.1, 0.3):
        tool = scene.start(scene.command('apply'))
        while not scene.keeper_pid() and tool.poll() is None:
            time.sleep(0.005)
        time.sleep(delay)
        daemon.kill()
        daemon.start()
        status, said = scene.finish(tool)
        assert status in NAMED, f'{status}: {said}'
        print(f'# after {delay} s: exit status {status}')
        settle_and_use(scene)


@suite.case('libvirtd-gone-NAMED_STATE', timeout=240)
def _(guest):
    scene = Scene(guest)
    with frozen(scene, 'apply', MIDDLE) as tool:
        daemon.kill()
        status, said, _ = thaw(scene, tool)
        assert status in NAMED, f'{status}: {said}'
        assert guest.qmp.status() == 'running'
        daemon.start()
    settle_and_use(scene)


@suite.case('libvirtd-hangs-NAMED_STATE', timeout=240)
def _(guest):
    scene = Scene(guest)
    with frozen(scene, 'apply', MIDDLE) as tool:
        daemon.freeze()
        timer = threading.Timer(3, daemon.thaw)
        timer.start()
        status, said, _ = thaw(scene, tool)
        timer.join()
        assert status in NAMED, f'{status}: {said}'
    settle_and_use(scene)


# --- what its owner does in the middle ---

def wait_running(guest, seconds):
    """Until it has run for so long without a stop, as far as that is seen."""
    deadline = time.monotonic() + 60
    since = None
    while since is None or time.monotonic() < since + seconds:
        if guest.qmp.status() != 'running':
            since = None
        elif since is None:
            since = time.monotonic()
        assert time.monotonic() < deadline, 'it is stopped all the time'
        time.sleep(0.02)


@suite.case('suspended-meanwhile-STAYS_PAUSED', timeout=240)
def _(guest):
    scene = Scene(guest)
    with frozen(scene, 'apply', MIDDLE) as tool:
        # The keeper ends a stop that outlives its budget, and goes home, for which it stops the
        # guest again and again; of a suspend in such a moment QEMU takes no notice
        # (docs/libvirt.md).
        wait_running(guest, 1.0)
        virsh('suspend', guest.name)
        status, said, _ = thaw(scene, tool)
    assert status in NAMED and status != DONE, f'{status}: {said}'
    assert guest.qmp.status() == 'paused' and guest.state() == 'paused', guest.state()
    virsh('resume', guest.name)
    settle_and_use(scene)


@suite.case('reset-meanwhile-NAMED_STATE', timeout=300)
def _(guest):
    scene = Scene(guest)
    with frozen(scene, 'apply', MIDDLE) as tool:
        virsh('reset', guest.name)
        status, said, _ = thaw(scene, tool)
    assert status in NAMED and status != DONE, f'{status}: {said}'
    wait_no_bridges()
    guest.wait_for_boot()
    settle_and_use(Scene(guest))


@suite.case('destroyed-VM_GONE')
def _(guest):
    scene = Scene(guest)
    with frozen(scene, 'apply', MIDDLE) as tool:
        virsh('destroy', guest.name)
        status, said, seconds = thaw(scene, tool)
    assert status == FAILED and '"VM_GONE"' in said, f'exit status {status}: {said}'
    assert seconds < GONE_SECONDS, seconds
    wait_no_bridges()
    guest.start_again()


@suite.case('started-anew-meanwhile-VM_GONE')
def _(guest):
    scene = Scene(guest)
    with frozen(scene, 'apply', MIDDLE) as tool:
        virsh('destroy', guest.name)
        guest.start_again()
        events = guest.qmp.take_events()
        status, said, _ = thaw(scene, tool)
    assert status == FAILED and '"VM_GONE"' in said, f'exit status {status}: {said}'
    wait_no_bridges()
    # Nothing was sent to the new one.
    assert 'STOP' not in events + guest.qmp.take_events()
    labels = [device['label'] for device in guest.qmp.execute('query-chardev')]
    assert 'hvpatch-gdb' not in labels and guest.state() == 'running', labels
    assert guest.hvpatch('status').json['patches'] == []


if __name__ == '__main__':
    main(suite)
