#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The kvm backend on a bare-metal guest under QEMU with KVM.

    tests/kvm/test-kvm.py [CASE...]
    HVPATCH_VM_LONG=1 tests/kvm/test-kvm.py 'storm*'      100,000 stops instead of 200
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), 'vm'))
from machine import FUNCTIONS, HALT, PORT, DriveError, Machine, assert_runs, missing  # noqa: E402
from tap import Skip, Suite  # noqa: E402

LONG = bool(os.environ.get('HVPATCH_VM_LONG'))
STORM = 100000 if LONG else 200
# Stops are as slow as the host is busy: a vCPU's thread has to get a CPU to come out of the guest.
TIMEOUT = 3600.0 if LONG else 240.0

suite = Suite()


def case(name):
    """Skipped by name where there is no KVM."""
    def register(function):
        @suite.case(name, guest=False, timeout=TIMEOUT)
        def _():
            reason = missing()
            if reason:
                raise Skip(reason)
            function()
        return function
    return register


@contextlib.contextmanager
def attached(*arguments, **options):
    with Machine(*arguments, **options) as machine, machine.drive() as drive:
        ask(drive, 'attach')
        yield machine, drive


def error_of(drive, line):
    """The error that @line is answered with."""
    try:
        answer = drive.ask(line)
    except DriveError as error:
        return error
    raise AssertionError(f'{line} is answered with {answer}')


def refusal(drive, line):
    """The same, where the vCPUs may have to wait for a CPU at first."""
    try:
        answer = ask(drive, line)
    except DriveError as error:
        return error
    raise AssertionError(f'{line} is answered with {answer}')


def ask(drive, line):
    """A stop that has to come about, however long the vCPUs wait for a CPU."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return drive.ask(line)
        except DriveError as error:
            if error.code != 'BUSY' or time.monotonic() > deadline:
                raise


def storm(drive, count=STORM, pause_usec=200):
    """Stops until @count of them came about; BUSY ones are made up for, and counted."""
    done = busy = 0
    while done < count:
        answer = drive.ask(f'storm {min(count - done, 1000)} {pause_usec}', timeout=TIMEOUT)
        done += answer['stops']
        busy += answer['busy']
        if answer['stops'] == 0 and done < count:
            time.sleep(0.05)
    return busy


@case('storm-1-vcpu-UNDISTURBED')
def _():
    with attached(1) as (machine, drive):
        storm(drive)
        assert_runs(machine, drive)
        drive.ask('detach')
        assert machine.qmp.take_events() == []


@case('storm-more-vcpus-than-cpus-SELDOM-BUSY')
def _():
    with attached(2 * (os.cpu_count() or 1)) as (machine, drive):
        # A vCPU that was let go may be found waiting for a CPU; that alone makes no stop fail.
        assert storm(drive) * 20 <= STORM
        assert_runs(machine, drive)


@case('keeper-leaves-the-vcpus-their-CPUs')
def _():
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        raise Skip('one CPU')
    with attached(1) as (machine, drive):
        keeper = drive.keeper_pid()
        thread = machine.qmp.execute('query-cpus-fast')[0]['thread-id']
        for cpu in sorted(allowed)[:2]:
            os.sched_setaffinity(thread, {cpu})
            storm(drive, 10)
            assert os.sched_getaffinity(keeper) == allowed - {cpu}
        drive.ask('detach')
    # As many as the host has CPUs: there is none to spare.
    with attached(len(allowed)) as (machine, drive):
        storm(drive, 10)
        assert os.sched_getaffinity(drive.keeper_pid()) == allowed


@case('storm-calling-halted-and-port-io-UNDISTURBED')
def _():
    with attached(4) as (machine, drive):
        drive.ask(f'role 2 {HALT}')
        drive.ask(f'role 3 {PORT}')
        storm(drive)
        assert_runs(machine, drive, halted=(2,))
        assert machine.qmp.status() == 'running'


@case('switch-of-16-functions-NEW')
def _():
    with attached(2) as (machine, drive):
        ask(drive, 'switch')
        before = drive.ask('box')['vcpus']
        assert_runs(machine, drive)
        for old, now in zip(before, drive.ask('box')['vcpus']):
            # One round may have been counted after it was over and before its vCPU stopped.
            assert now['new'] > 0 and now['old'] <= old['old'] + 1, (old, now)
        ask(drive, 'unswitch')
        before = drive.ask('box')['vcpus']
        assert_runs(machine, drive)
        for old, now in zip(before, drive.ask('box')['vcpus']):
            assert now['old'] > old['old'] and now['new'] <= old['new'] + 1, (old, now)


@case('switch-twice-CONFLICT')
def _():
    with attached(1) as (machine, drive):
        ask(drive, 'switch')
        assert refusal(drive, 'switch').code == 'CONFLICT'
        # Nothing was written, and the stop is still the tool's.
        drive.ask('resume')
        assert_runs(machine, drive)


@case('beside-stop-cont-and-info-registers-UNDISTURBED')
def _():
    with attached(2) as (machine, drive):
        over = threading.Event()

        def disturb():
            while not over.is_set():
                machine.qmp.execute('stop', timeout=60)
                machine.qmp.execute('cont', timeout=60)
                machine.qmp.monitor('info registers -a', timeout=60)
                time.sleep(0.002)
        other = threading.Thread(target=disturb)
        other.start()
        try:
            storm(drive)
        finally:
            over.set()
            other.join()
        assert machine.qmp.status() == 'running'
        assert_runs(machine, drive)


@case('keeper-killed-while-stopped-RUNS')
def _():
    with Machine(2) as machine:
        for request in ('stop', 'begin', 'begin commit'):
            with machine.drive() as drive:
                ask(drive, 'attach')
                for line in request.split():
                    ask(drive, line)
                os.kill(drive.keeper_pid(), signal.SIGKILL)
                assert error_of(drive, 'resume').code == 'INCONSISTENT'
                # Where functions were switched all of them were: nobody was in a round.
                assert_runs(machine, drive)
            with machine.drive() as drive:
                ask(drive, 'attach')
                if request == 'begin':
                    ask(drive, 'unswitch')
                storm(drive, 20)
                assert_runs(machine, drive)


@case('keeper-killed-in-a-storm-RUNS')
def _():
    with Machine(2) as machine:
        for turn in range(10):
            with machine.drive() as drive:
                ask(drive, 'attach')
                pid = drive.keeper_pid()
                drive.send('storm 1000000 0')
                time.sleep(0.05 + turn * 0.0137)
                os.kill(pid, signal.SIGKILL)
                try:
                    drive.take()
                except DriveError as error:
                    assert error.code == 'INCONSISTENT', error
                assert_runs(machine, drive)


@case('keeper-SIGSTOPped-then-killed-RUNS')
def _():
    with attached(2) as (machine, drive):
        ask(drive, 'stop')
        pid = drive.keeper_pid()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        assert_runs(machine, drive)


@case('budget-passed-UNDONE')
def _():
    with attached(2) as (machine, drive):
        ask(drive, 'begin')
        # The drive's budget is 5 s; the rest is for a host that is busy.
        time.sleep(9)
        assert error_of(drive, 'commit').code == 'UNDONE'
        assert_runs(machine, drive)
        assert all(vcpu['new'] == 0 for vcpu in drive.ask('box')['vcpus'])


@case('tool-gone-while-writing-UNDONE')
def _():
    with Machine(2) as machine:
        with machine.drive() as drive:
            ask(drive, 'attach')
            ask(drive, 'begin')
        with machine.drive() as drive:
            assert_runs(machine, drive)
            assert all(vcpu['new'] == 0 for vcpu in drive.ask('box')['vcpus'])


@contextlib.contextmanager
def traced(thread_id):
    """Another process traces @thread_id."""
    code = ('import ctypes, sys, time\n'
            'libc = ctypes.CDLL(None, use_errno=True)\n'
            f'assert libc.ptrace(0x4206, {thread_id}, None, None) == 0\n'
            'print(flush=True)\n'
            'sys.stdin.read()\n')
    with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.stdin.close()
            process.wait()


@case('second-tracer-CONFLICT')
def _():
    with attached(2) as (machine, drive):
        with traced(machine.thread_ids()[1]) as pid:
            error = refusal(drive, 'stop')
            assert error.code == 'CONFLICT' and f'(pid {pid})' in error.message, error
    with attached(2) as (machine, drive):
        storm(drive, 20)
        assert_runs(machine, drive)


@case('paused-STAYS-PAUSED')
def _():
    with attached(2) as (machine, drive):
        machine.qmp.execute('stop')
        assert error_of(drive, 'stop').code == 'BUSY'
        assert machine.qmp.status() == 'paused'
        machine.qmp.execute('cont')
        storm(drive, 20)
        drive.ask('detach')
        machine.qmp.execute('stop')
        assert error_of(drive, 'attach').code == 'BUSY'
        assert machine.qmp.status() == 'paused'
        machine.qmp.execute('cont')
        assert_runs(machine, drive)


@case('qemu-killed-VM_GONE')
def _():
    for lines in ('attach', 'attach stop', 'attach begin', 'attach begin commit'):
        with Machine(2) as machine, machine.drive() as drive:
            for line in lines.split():
                ask(drive, line)
            machine.process.kill()
            # A thread that we trace and do not wait for would keep its process a zombie.
            machine.process.wait(60)
            error = error_of(drive, 'stop')
            assert error.code == 'VM_GONE', (lines, error)


@case('dirty-ring-UNDISTURBED')
def _():
    with attached(2, accel='kvm,dirty-ring-size=4096') as (machine, drive):
        storm(drive)
        assert_runs(machine, drive)


@case('user-space-irqchip-UNDISTURBED')
def _():
    with attached(2, arguments=('-machine', 'kernel-irqchip=off')) as (machine, drive):
        storm(drive)
        assert_runs(machine, drive)


@case('hot-added-vcpu-BUSY-then-known')
def _():
    with Machine(1, smp='1,sockets=2,maxcpus=2') as machine:
        with machine.drive() as drive:
            ask(drive, 'attach')
            machine.qmp.execute('device_add', driver='qemu64-x86_64-cpu', id='added',
                                **{'socket-id': 1, 'core-id': 0, 'thread-id': 0})
            assert ask(drive, 'stop')['vcpus'] == 1
            drive.ask('resume')
            assert error_of(drive, 'wake 1').code == 'BUSY'
        with machine.drive() as drive:
            ask(drive, 'attach')
            drive.ask('wake 1')
            machine.wait_until(lambda: machine.count() == 2, 'the added vCPU comes up')
            assert ask(drive, 'stop')['vcpus'] == 2
            drive.ask('resume')
            storm(drive, 50)
            assert_runs(machine, drive)


@case('signals-handed-back-RUNS')
def _():
    with attached(2) as (machine, drive):
        over = threading.Event()
        libc = ctypes.CDLL(None)
        threads = machine.thread_ids()

        def kick():
            # What QEMU itself kicks its vCPUs with.
            while not over.is_set():
                for thread in threads:
                    libc.tgkill(machine.process.pid, thread, signal.SIGUSR1)
                time.sleep(0.001)
        other = threading.Thread(target=kick)
        other.start()
        try:
            storm(drive)
        finally:
            over.set()
            other.join()
        assert_runs(machine, drive)
        machine.qmp.execute('stop')
        machine.qmp.execute('cont')


def wait_migration(machine, wanted):
    machine.wait_until(lambda: machine.qmp.execute('query-migrate').get('status') in wanted,
                       f'the migration is {wanted}', timeout=120)


@contextlib.contextmanager
def migrating(machine, vcpus):
    """Of another QEMU, which gets @machine's guest; the pages of its functions are sent already."""
    socket = os.path.join(machine.folder, 'migration')
    with contextlib.closing(Machine(vcpus, arguments=('-incoming', f'unix:{socket}'))) as target:
        machine.qmp.execute('migrate-set-parameters', **{'max-bandwidth': 16 << 10})
        machine.qmp.execute('migrate', uri=f'unix:{socket}')

        def is_behind_functions():
            # Pages are sent in the order of their addresses; the functions are below 2 MiB.
            answer = machine.qmp.execute('query-migrate')
            assert answer['status'] in ('setup', 'active'), answer
            ram = answer.get('ram', {'total': 0, 'remaining': 0})
            return ram['total'] - ram['remaining'] > 8 << 20
        machine.wait_until(is_behind_functions, 'the functions were sent')
        yield target


def finish_migration(machine, target):
    machine.qmp.execute('migrate-set-parameters', **{'max-bandwidth': 1 << 30,
                                                     'downtime-limit': 2000})
    wait_migration(machine, ('completed',))
    target.wait_until(lambda: target.qmp.status() == 'running', 'the guest runs over there')


def functions_over_there(machine):
    """Of the functions' entries, as another QEMU has them: how many lead to the new ones."""
    with machine.drive() as drive:
        return drive.ask('entries')['switched']


@case('migrated-in-mid-switch-ALL-NEW')
def _():
    with attached(2) as (machine, drive), migrating(machine, 2) as target:
        ask(drive, 'switch')
        drive.ask('echo')
        finish_migration(machine, target)
        assert functions_over_there(target) == FUNCTIONS
        with target.drive() as there:
            ask(there, 'attach')
            assert_runs(target, there)


@case('migrated-in-mid-switch-without-echo-OLD')
def _():
    # What the echo is for: without it this may one day see that it is needed no more.
    with attached(2) as (machine, drive), migrating(machine, 2) as target:
        ask(drive, 'switch')
        finish_migration(machine, target)
        assert functions_over_there(target) == 0


# --- without a monitor ---

MEBIBYTE = 1 << 20
# From 640 KiB to 1 MiB: no layout has it.
LEGACY_BYTES = 0x60000


def backend(name, megabytes):
    return ('-object', f'memory-backend-ram,id={name},size={megabytes}M',
            '-numa', f'node,memdev={name}')


LAYOUTS = {
    '64-megabytes': (64, ()),
    '3-gigabytes-all-below': (3072, ()),
    '3-gigabytes-q35-split': (3072, ('-machine', 'q35')),
    '5-gigabytes-split': (5120, ()),
    'memfd': (64, ('-object', 'memory-backend-memfd,id=ram,size=64M,share=on',
                   '-machine', 'memory-backend=ram')),
    'two-backends': (64, (*backend('m0', 32), *backend('m1', 32))),
    'two-backends-split': (5120, (*backend('m0', 1024), *backend('m1', 4096))),
    'many-more-mappings': (64, ('-device', 'VGA,vgamem_mb=64', '-device', 'ivshmem-plain,memdev=s',
                                '-object', 'memory-backend-memfd,id=s,size=128M,share=on')),
}


def case_layout(name, megabytes, arguments):
    @case(f'layout-{name}-SAME')
    def _():
        with Machine(2, memory=str(megabytes), arguments=arguments) as machine:
            result = machine.run_tool('tests/tools/guess-ram', machine.path)
            assert result.returncode == 0, result
            assert f' bytes {megabytes * MEBIBYTE - LEGACY_BYTES} ' in result.stdout, result
            assert machine.qmp.take_events() == []


for layout, (size, options) in LAYOUTS.items():
    case_layout(layout, size, options)


@case('layout-own-split-UNSUPPORTED')
def _():
    with Machine(1, memory='2G', arguments=('-machine', 'max-ram-below-4g=1G')) as machine:
        result = machine.run_tool('tests/tools/guess-ram', machine.path)
        assert result.returncode == 2 and 'without the VM\'s monitor' in result.stderr, result


@case('no-monitor-storm-and-switch-UNDISTURBED')
def _():
    with Machine(2) as machine, machine.drive_without_monitor() as drive:
        ask(drive, 'attach')
        storm(drive)
        ask(drive, 'switch')
        assert_runs(machine, drive)
        ask(drive, 'unswitch')
        assert_runs(machine, drive)
        drive.ask('detach')
        assert machine.qmp.take_events() == []


@case('no-monitor-migrated-in-mid-switch-ALL-NEW')
def _():
    # Without a monitor until somebody has begun to copy what was changed.
    with Machine(2) as machine, machine.drive_without_monitor() as drive, \
            migrating(machine, 2) as target:
        ask(drive, 'attach')
        ask(drive, 'switch')
        drive.ask(f'echo {machine.path}')
        finish_migration(machine, target)
        assert functions_over_there(target) == FUNCTIONS


@case('no-monitor-then-another-VMs-CONFLICT')
def _():
    with Machine(1) as machine, Machine(1) as other:
        with machine.drive_without_monitor() as drive:
            ask(drive, 'attach')
            ask(drive, 'switch')
            assert error_of(drive, f'echo {other.path}').code == 'CONFLICT'
        with machine.drive() as drive:
            ask(drive, 'attach')
            assert_runs(machine, drive)


@case('no-monitor-tool-gone-while-writing-UNDONE')
def _():
    with Machine(2) as machine:
        with machine.drive_without_monitor() as drive:
            ask(drive, 'attach')
            ask(drive, 'begin')
        with machine.drive_without_monitor() as drive:
            assert_runs(machine, drive)
            assert all(vcpu['new'] == 0 for vcpu in drive.ask('box')['vcpus'])


@case('no-monitor-qemu-killed-VM_GONE')
def _():
    with Machine(2) as machine, machine.drive_without_monitor() as drive:
        ask(drive, 'attach')
        ask(drive, 'begin')
        machine.process.kill()
        machine.process.wait(60)
        assert error_of(drive, 'commit').code == 'VM_GONE'


@case('no-monitor-paused-BUSY')
def _():
    with Machine(2) as machine:
        machine.qmp.execute('stop')
        try:
            machine.drive_without_monitor()
            raise AssertionError('a paused VM is attached to')
        except DriveError as error:
            assert error.code == 'BUSY', error
        assert machine.qmp.status() == 'paused'


@case('no-monitor-reset-CONFLICT')
def _():
    with Machine(2, reset=True) as machine:
        with machine.start_tool('tests/kvm/kvm-reset', str(machine.process.pid)) as program:
            assert program.stdout.readline() == 'trapped\n'
            machine.qmp.execute('system_reset', timeout=60)
            assert program.stdout.readline() == 'CONFLICT the VM was reset\n'
            program.wait(60)
        with machine.drive_without_monitor() as drive:
            assert_runs(machine, drive)


def hvpatch_by_pid(machine, *arguments):
    """What hvpatch ends with on a VM that is named by its process: status, code and message."""
    result = machine.run_tool('hv-patcher/hvpatch', '--pid', str(machine.process.pid), '-o', 'json',
                              *arguments)
    said = json.loads(result.stdout)
    return result.returncode, said['code'], said['message']


@case('pid-option-LOOKED-AT-not-changed')
def _():
    with Machine(2) as machine:
        # All is found but a kernel.
        status, code, message = hvpatch_by_pid(machine, 'info')
        assert (status, code) == (1, 'NOT_FOUND') and 'no Linux kernel' in message, message
        status, code, message = hvpatch_by_pid(machine, 'revert', 'some_patch')
        assert (status, code) == (3, 'UNSUPPORTED') and 'by a process alone' in message, message
        assert machine.qmp.take_events() == []
        machine.process.kill()
        machine.process.wait(60)
        assert hvpatch_by_pid(machine, 'info')[1] == 'VM_GONE'


if __name__ == '__main__':
    suite.main()
