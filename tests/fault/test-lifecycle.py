#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens around hvpatch while it is at work: QEMU dies, the owner stops, resumes, resets or
quits the VM, another hvpatch comes, the journal cannot be written or is torn.

A sample of the moments; more of them with HVPATCH_VM_LONG=1.
"""

import contextlib
import os
import signal
import subprocess
import time

# First: it knows where the others are.
from scene import (BUSY, DONE, FAILED, LONG, MODULE, OPERATOR, REFUSED, ROLLED_BACK, Guest, Scene,
                   Suite, count_lines, counting, die_with_parent, frozen, injecting, sample, thaw)

KERNELS = tuple(os.environ.get('HVPATCH_VM_KERNELS', '6.1 6.12').split())
suite = Suite('6.1', '6.12')

GONE_SECONDS = 30.0
STOP_TRIES = 3
BEFORE_TRAPS = 2  # the first request behind the one to attach
MIDDLE = 20  # a request in the middle of apply: the loader is at work, or about to


def failing(syscall, number, error):
    """Command prefix: from the NUMBERth on, each call of SYSCALL fails."""
    return ['strace', '-D', '-qq', '-o', '/dev/null', '-e', f'trace={syscall}', '-e',
            f'inject={syscall}:error={error}:when={number}+', '--']


def kill_both_at(scene, operation, syscall, number):
    """Tool and keeper die together, the keeper on its NUMBERth call; whether it came so far."""
    tool = scene.start(scene.command(operation),
                       keeper_trace=injecting(syscall, number, 'SIGSTOP'))
    keeper = scene.wait_frozen(lambda: tool.poll() is None and scene.keeper_pid())
    tool.kill()
    if keeper:
        os.kill(keeper, signal.SIGKILL)
    scene.finish(tool)
    wait_unused(scene)
    return keeper is not None


def wait_unused(scene, timeout=20.0):
    """No keeper is left behind."""
    deadline = time.monotonic() + timeout
    while scene.users():
        assert time.monotonic() < deadline, scene.users()
        time.sleep(0.01)


def assert_usable(scene):
    """All is well, and both commands work."""
    new = scene.assert_healthy(leftover_allowed=True)
    scene.assert_status(new)
    scene.converge('apply')
    scene.converge('revert')
    scene.assert_healthy()


def assert_gone(status, said, seconds):
    assert status == FAILED and '"VM_GONE"' in said, f'exit status {status}: {said}'
    assert seconds < GONE_SECONDS, f'{seconds:.1f} s: {said}'


# --- QEMU goes away ---

@suite.case('qemu-killed-VM_GONE', guest=False, timeout=900)
def _():
    for number in (1, 3, 6, 9, 14, MIDDLE, 26, 33, 38, 39, 40, 42) if LONG else (3, MIDDLE, 39):
        with Guest(KERNELS[0]) as guest:
            scene = Scene(guest)
            with frozen(scene, 'apply', number) as tool:
                os.kill(guest.pid, signal.SIGKILL)
                assert_gone(*thaw(scene, tool))
            wait_unused(scene)


@suite.case('qemu-killed-with-a-tool-at-work-VM_GONE', guest=False, timeout=900)
def _():
    for delay in (0.02, 0.1, 0.2, 0.3, 0.5) if LONG else (0.15,):
        with Guest(KERNELS[0]) as guest:
            scene = Scene(guest)
            tool = scene.start(scene.command('apply'))
            while not scene.keeper_pid() and tool.poll() is None:
                time.sleep(0.005)
            time.sleep(delay)
            os.kill(guest.pid, signal.SIGKILL)
            started = time.monotonic()
            status, said = scene.finish(tool)
            if status != DONE:
                assert_gone(status, said, time.monotonic() - started)
            wait_unused(scene)


@suite.case('quit-VM_GONE', guest=False, timeout=300)
def _():
    with Guest(KERNELS[0]) as guest:
        scene = Scene(guest)
        with frozen(scene, 'apply', MIDDLE) as tool:
            guest.qmp.execute('quit')
            assert_gone(*thaw(scene, tool))
        wait_unused(scene)


@suite.case('qemu-restarted-NOTHING_LEFT', guest=False, timeout=300)
def _():
    with Guest(KERNELS[0]) as guest:
        scene = Scene(guest)
        assert kill_both_at(scene, 'apply', 'writev', 8)
        assert scene.journal_types()
        unfinished = scene.journal_path
    # As operations that ended well leave it, of a VM that is gone.
    finished = os.path.join(os.path.dirname(unfinished), f'{guest.pid}-1.journal')
    with open(finished, 'wb'), Guest(KERNELS[0]) as guest:
        scene = Scene(guest)
        result = scene.must('recover')
        assert result.json['recovered'] is False, result
        assert_usable(scene)
        assert os.path.exists(unfinished) and not os.path.exists(finished)
    os.unlink(unfinished)


# --- the owner acts in the middle ---

def stood_at(events, moment):
    """Whether by EVENTS, of a VM that ran before, hvpatch had stopped it by MOMENT."""
    names = [event['event'] for event in events
             if event['timestamp']['seconds'] + event['timestamp']['microseconds'] / 1e6 < moment]
    return [name for name in names if name in ('STOP', 'RESUME')][-1:] == ['STOP']


@suite.case('stop-STAYS_PAUSED', timeout=600)
def _(guest):
    scene = Scene(guest)
    delays = [step * 0.02 for step in range(30)] if LONG else (0.03, 0.1, 0.2, 0.35)
    kept, lost = 0, []
    # The moment may be one in which hvpatch has stopped the VM: then at others.
    for number, delay in enumerate(delays * STOP_TRIES):
        if number >= len(delays) and kept > len(delays) // 2:
            break
        tool = scene.start((*scene.command('apply'), '--timeout', '5'))
        while not scene.keeper_pid() and tool.poll() is None:
            time.sleep(0.005)
        time.sleep(delay)
        guest.qmp.take_events()
        ran, asked_at = guest.qmp.status(), time.time()
        guest.qmp.execute('stop')
        status, said = scene.finish(tool)
        now = guest.qmp.status()
        # Where hvpatch itself had stopped the VM, QEMU does not tell it of the owner's stop. Of two
        # that come together nobody can tell which was first: that is rare.
        if now != 'paused' and ran == 'running' and status == DONE and \
                not stood_at(guest.qmp.events, asked_at):
            lost.append(f'{delay:.2f} s: {ran}, then {now}: {guest.qmp.events} {status} {said}')
        assert len(lost) <= 1 + number // 10, '\n'.join(lost)
        kept += now == 'paused'
        guest.qmp.execute('cont')
        scene.settle(time.monotonic())
        scene.assert_healthy(leftover_allowed=True)
        scene.converge('apply')
        scene.converge('revert')
    assert kept > len(delays) // 2, f'{kept} of {STOP_TRIES} times {len(delays)}'


@suite.case('cont-CONFLICT', timeout=300)
def _(guest):
    scene = Scene(guest)
    for number in range(4, 43) if LONG else (8, MIDDLE, 38, 39, 40):
        with frozen(scene, 'apply', number) as tool:
            ran = guest.qmp.status()
            guest.qmp.execute('cont')
            status, said, _ = thaw(scene, tool)
        if status != DONE:
            assert status in (FAILED, BUSY, REFUSED, ROLLED_BACK), \
                f'{number}, {ran}: {status} {said}'
        scene.settle(time.monotonic())
        assert_usable(scene)


@suite.case('system_reset-CONFLICT', fresh=True, timeout=600)
def _(guest):
    guest.qmp.execute('set-action', reboot='reset')  # QEMU was started with -no-reboot
    for number in (3, 6, 8, 14, MIDDLE, 30, 33, 38) * 2 if LONG else (6, 8, 38):
        scene = Scene(guest)
        with frozen(scene, 'apply', number) as tool:
            guest.qmp.execute('system_reset')
            status, said, _ = thaw(scene, tool)
        # Done: the reset came right behind it.
        assert status in (DONE, FAILED, BUSY, REFUSED, ROLLED_BACK), f'{number}: {status} {said}'
        wait_unused(scene)
        assert guest.qmp.status() == 'running', guest.qmp.status()
        scene.assert_no_server()
        guest._channel.wait_for_hello(90)  # pylint: disable=protected-access
        guest.mark_dmesg()
        assert_usable(Scene(guest))


# --- two at once ---

@suite.case('second-hvpatch-BUSY')
def _(guest):
    scene = Scene(guest)
    with frozen(scene, 'apply', 1) as tool:
        result = guest.hvpatch('apply', guest.module(MODULE))
        assert result.status == BUSY and 'another' in result.json['message'], result
        status, said, _ = thaw(scene, tool)
        assert status == DONE, said
    scene.assert_text(True)
    first, second = scene.start(scene.command('revert')), scene.start(scene.command('revert'))
    both = [scene.finish(tool) for tool in (first, second)]
    assert DONE in [status for status, _ in both], both
    assert_usable(scene)


# --- the monitor's socket ---

@suite.case('socket-removed-FAILED')
def _(guest):
    scene = Scene(guest)
    away = guest.path('away')
    os.rename(guest.hvpatch_qmp_path, away)
    try:
        for arguments in (('status',), scene.command('apply'), ('recover',)):
            result = guest.hvpatch(*arguments)
            assert result.status == FAILED and result.json['message'], result
    finally:
        os.rename(away, guest.hvpatch_qmp_path)
    with frozen(scene, 'apply', MIDDLE) as tool:
        os.rename(guest.hvpatch_qmp_path, away)
        status, said, _ = thaw(scene, tool)
        os.rename(away, guest.hvpatch_qmp_path)
    assert status in (DONE, FAILED, ROLLED_BACK), f'{status} {said}'
    scene.settle(time.monotonic())
    assert_usable(scene)


# --- the journal ---

def in_namespace(guest, mount, *arguments):
    """hvpatch with another file system at /run/hvpatch; returns (exit status, what it said)."""
    command = ' '.join([f'mount -t tmpfs {mount} tmpfs /run/hvpatch;', 'exec "$@"'])
    result = subprocess.run(['unshare', '-m', 'sh', '-c', command, 'sh',
                             *guest.hvpatch_command(*arguments)], text=True, timeout=60,
                            check=False, capture_output=True, preexec_fn=die_with_parent)
    return result.returncode, result.stdout + result.stderr


@suite.case('journal-folder-read-only-FAILED')
def _(guest):
    scene = Scene(guest)
    status, said = in_namespace(guest, '-o ro', *scene.command('apply'))
    assert status in (FAILED, REFUSED) and 'journal' in said, f'{status} {said}'
    status, said = in_namespace(guest, '-o nr_inodes=1', *scene.command('apply'))
    assert status in (FAILED, REFUSED) and 'journal' in said, f'{status} {said}'
    scene.assert_text(False)
    assert_usable(scene)


def fill_journal(scene, operation, traces):
    """Runs with a journal that takes no more records from some point on; whether it got there."""
    was_new = operation == 'revert'
    status, said = scene.run(scene.command(operation), **traces)
    killed_at = time.monotonic()
    if status != DONE:
        assert status in (FAILED, REFUSED, ROLLED_BACK, OPERATOR), f'{traces}: {status} {said}'
    scene.settle(killed_at)
    new = scene.assert_healthy(leftover_allowed=True)
    # Behind the commit, what was decided stays, and is said.
    done = f'"result":"{"reverted" if was_new else "applied"}"' in said
    assert status == OPERATOR or (new != was_new) == (status == DONE or done), said
    scene.must('recover')
    scene.assert_status(scene.assert_healthy())
    scene.converge_unless_done(operation)
    return status != DONE


def walk_full_journal(scene, who, syscall, error):
    log = scene.guest.path('journal.log')
    for operation in ('apply', 'revert'):
        status, said = scene.run(scene.command(operation), **{who: counting(syscall, log)})
        assert status == DONE, said
        count = count_lines(log, rf'^{syscall}\(')
        for number in sample(count, 100 if LONG else 3):
            if operation == 'apply':
                scene.converge_unless_done('revert')
            else:
                scene.converge('apply')
            fill_journal(scene, operation, {who: failing(syscall, number, error)})


@suite.case('journal-full-UNDONE', timeout=1200)
def _(guest):
    scene = Scene(guest)
    for who in ('trace', 'keeper_trace'):
        walk_full_journal(scene, who, 'writev', 'ENOSPC')


@suite.case('journal-not-synced-UNDONE', timeout=1200)
def _(guest):
    scene = Scene(guest)
    for who in ('trace', 'keeper_trace') if LONG else ('keeper_trace',):
        walk_full_journal(scene, who, 'fdatasync', 'EIO')


@suite.case('journal-torn-RECOVERED', timeout=1200)
def _(guest):
    """Tool and keeper die where a record was to be written, of which only a part is there."""
    scene = Scene(guest)
    with open(guest.module(MODULE), 'rb') as stream:
        noise = stream.read(64)
    pieces = (b'H', b'HVPJ', b'HVPJ\x05\x00\x00\x00\x10\x01\x00\x00\x00\x00\x00\x00' + noise, noise)
    for operation in ('apply', 'revert'):
        for number in range(1, 16) if LONG else (2, 5, 7):
            if not kill_both_at(scene, operation, 'writev', number):
                scene.settle(time.monotonic())
                break
            with open(scene.journal_path, 'ab') as stream:
                stream.write(pieces[number % len(pieces)])
            result = scene.must('recover')
            assert result.json['recovered'] is True, result
            scene.assert_status(scene.assert_healthy())
            scene.assert_journal_closed()
            scene.converge_unless_done(operation)
            scene.converge('revert' if operation == 'apply' else 'apply')
        scene.converge(operation)


@suite.case('recover-NOTHING_TO_DO')
def _(guest):
    scene = Scene(guest)
    for operation in ('revert', 'apply', 'revert'):
        if operation == 'apply' or scene.is_new():
            scene.converge(operation)
        result = scene.must('recover')
        assert result.json['recovered'] is False, result
        scene.assert_status(operation == 'apply')


# --- jobs that copy RAM ---

@suite.case('migration-active-BUSY')
def _(guest):
    scene = Scene(guest)
    guest.qmp.execute('migrate-set-parameters', **{'max-bandwidth': 4096})
    guest.qmp.execute('migrate', uri='exec:cat > /dev/null')
    try:
        for arguments in (scene.command('apply'),):
            result = guest.hvpatch(*arguments)
            assert result.status in (BUSY, REFUSED) and 'migrat' in result.json['message'], result
        scene.assert_text(False)
    finally:
        guest.qmp.execute('migrate_cancel')
    while guest.qmp.execute('query-migrate')['status'] != 'cancelled':
        time.sleep(0.05)
    assert_usable(scene)


@suite.case('migration-begins-before-a-spin-trap-BUSY')
def _(guest):
    # Nobody would remove over there what is copied with the memory.
    scene = Scene(guest)
    guest.trap = 'spin'
    guest.qmp.execute('migrate-set-parameters', **{'max-bandwidth': 4096})
    try:
        with frozen(scene, 'apply', BEFORE_TRAPS) as tool:
            guest.qmp.execute('migrate', uri='exec:cat > /dev/null')
            status, said, _ = thaw(scene, tool)
        assert status == BUSY and 'take a trap along' in said, said
        scene.assert_text(False)
    finally:
        guest.trap = None
        guest.qmp.execute('migrate_cancel')
    while guest.qmp.execute('query-migrate')['status'] != 'cancelled':
        time.sleep(0.05)
    assert_usable(scene)


@suite.case('dump-active-BUSY')
def _(guest):
    scene = Scene(guest)
    fifo = guest.path('dump')
    os.mkfifo(fifo)
    with subprocess.Popen(['sleep', '60'], stdin=os.open(fifo, os.O_RDWR),
                          preexec_fn=die_with_parent) as reader:
        guest.qmp.execute('dump-guest-memory', paging=False, protocol=f'file:{fifo}', detach=True)
        result = guest.hvpatch(*scene.command('apply'))
        drain = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            assert result.status in (BUSY, REFUSED), result
        finally:
            while guest.qmp.execute('query-dump')['status'] == 'active':
                with contextlib.suppress(BlockingIOError):
                    os.read(drain, 1 << 20)
            os.close(drain)
            reader.kill()
    scene.settle(time.monotonic())
    assert_usable(scene)


if __name__ == '__main__':
    suite.main()
