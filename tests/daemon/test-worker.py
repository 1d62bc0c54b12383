#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatch-worker: one operation of the daemon, done, refused, cancelled, killed at any step."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

from worker import Worker, is_sandboxed, job, run, status_of, worker_path

# pylint: disable=wrong-import-order
from guest import eventually
from tap import Skip, Suite

suite = Suite('6.12', '6.1')

DONE, FAILED, USAGE, NOT_APPLICABLE, BUSY, REFUSED, ROLLED_BACK, OPERATOR = range(8)
# errand/worker.h
UNBEGUN = 75
MODULE = 'hvp_three'
FUNCTIONS = ('si_meminfo', 'si_swapinfo', 'meminfo_proc_show')
# States of a successful apply, in their order; waiting is seen where the guest is busy.
STATES = ('checking', 'loading', 'switching', 'waiting', 'verifying')
MOST_OOM_SCORE = 1000
# Far too little for a guest's kernel, enough to begin.
LITTLE_MEMORY_BYTES = 96 << 20
# Numbers that are another one each time; what they are called says so.
MEASURED = re.compile(r'(_usec|^tasks|^pid|^comm|^cached)$')


def entries(guest, functions=FUNCTIONS):
    return {name: guest.entry(name) for name in functions}


@contextlib.contextmanager
def nothing_changes(guest, functions=FUNCTIONS):
    before = entries(guest, functions), guest.loaded()
    yield
    after = entries(guest, functions), guest.loaded()
    assert after == before, (before, after)


def applied(guest):
    result = run(job(guest, 'look'))
    assert result.exit == DONE, result
    return [patch['name'] for patch in result.document['status']['patches']]


def done(guest, verb, module=None, **options):
    result = run(job(guest, verb, **options), module and guest.module(module))
    assert result.exit == DONE and result.error is None, result
    return result


def settled(document):
    """DOCUMENT without what is measured, to be compared."""
    if isinstance(document, dict):
        return {name: settled(value) for name, value in document.items()
                if not MEASURED.search(name) and name not in ('vcpus', 'attempts', 'stops',
                                                              'rechecked', 'pause')}
    if isinstance(document, list):
        return [settled(value) for value in document]
    return document


# --- what it does -------------------------------------------------------------

@suite.case('apply-look-revert-DONE')
def _(guest):
    with nothing_changes(guest):
        result = done(guest, 'apply', MODULE)
        assert result.document['result'] == 'applied', result
        assert {item['name'] for item in result.document['functions']} == set(FUNCTIONS), result
        states = [progress['state'] for progress in result.progress]
        assert states == sorted(states, key=STATES.index) and states[-1] == 'verifying', states
        assert [progress['cancellable'] for progress in result.progress] == \
            [state != 'verifying' for state in states]
        assert 'Hvpatch:' in guest.check('cat /proc/meminfo')
        assert applied(guest) == [MODULE]
        again = done(guest, 'apply', MODULE)
        assert 'applied already' in again.document['message'], again
        result = done(guest, 'revert', name=MODULE)
        assert result.document['result'] == 'reverted', result
    assert applied(guest) == []


@suite.case('revert-of-another-digest-NOT_FOUND')
def _(guest):
    done(guest, 'apply', MODULE)
    sha256 = run(job(guest, 'look')).document['status']['patches'][0]['sha256']
    other = 'ab' * 32
    result = run({**job(guest, 'revert', name=MODULE), 'patch': other})
    assert result.code == 'NOT_FOUND' and result.document['result'] == 'failed', result
    assert sha256 in result.error['message'] and other in result.error['message'], result
    assert applied(guest) == [MODULE]
    result = run({**job(guest, 'revert', name=MODULE), 'patch': sha256})
    assert result.exit == DONE and result.document['result'] == 'reverted', result
    assert applied(guest) == []


@suite.case('documents-ARE-THE-COMMAND-LINES')
def _(guest):
    path = guest.module(MODULE)
    for verb, arguments, patch, options in (
            ('check', ('check', path), path, {}),
            ('check', ('check', guest.module('hvp_missing')), guest.module('hvp_missing'), {}),
            ('apply', ('apply', guest.module('hvp_missing')), guest.module('hvp_missing'), {}),
            ('revert', ('revert', 'hvp_nobody'), None, {'name': 'hvp_nobody'}),
            ('recover', ('recover',), None, {})):
        ours, theirs = run(job(guest, verb, **options), patch), guest.hvpatch(*arguments)
        assert ours.exit == theirs.status, (ours, theirs)
        assert settled(ours.document) == settled(theirs.json), (ours, theirs)
    with guest.applied(MODULE):
        document = run(job(guest, 'look')).document
        assert settled(document['status']) == settled(guest.hvpatch('status').json), document
        assert settled(document['info']) == settled(guest.hvpatch('info').json), document
        assert document['version'] == 1


@suite.case('replace-REPLACES')
def _(guest):
    done(guest, 'apply', 'hvp_cmdline')
    result = run(job(guest, 'apply'), guest.module('hvp_overlap'))
    assert result.exit == REFUSED and result.code == 'CONFLICT', result
    done(guest, 'replace', 'hvp_overlap')
    assert applied(guest) == ['hvp_overlap']
    done(guest, 'revert', name='hvp_overlap')


@suite.case('check-that-says-no-IS-NO-FAILURE')
def _(guest):
    result = run(job(guest, 'check'), guest.module('hvp_not_livepatch'))
    assert result.exit == NOT_APPLICABLE and result.code == 'UNSUPPORTED', result
    result = run(job(guest, 'check'), guest.module('hvp_missing'))
    assert result.exit != DONE and result.error is None, result
    assert result.document['applicable'] is False and result.document['code'], result


@suite.case('manifest-of-the-job-COUNTS')
def _(guest):
    result = run(job(guest, 'apply', manifest={'kthreads': 'none of these'}), guest.module(MODULE))
    assert result.exit != DONE and result.code, result
    result = run(job(guest, 'apply', kthreads='parked=hvp*'), guest.module(MODULE))
    assert result.exit == DONE, result
    done(guest, 'revert', name=MODULE)


# --- cancelling ---------------------------------------------------------------

def enter_fifo(guest):
    """A task that sleeps in wait_for_partner."""
    guest.check('rm -f /tmp/fifo; mkfifo /tmp/fifo; cat /tmp/fifo >/dev/null 2>&1 & '
                'echo $! > /tmp/pid')
    guest.wait_in(int(guest.check('cat /tmp/pid')), 'wait_for_partner')


def leave_fifo(guest):
    guest.check('echo > /tmp/fifo; rm /tmp/fifo')
    guest.wait_gone('$(cat /tmp/pid)')


@suite.case('cancel-while-a-task-is-in-the-way-CANCELLED')
def _(guest):
    enter_fifo(guest)
    with nothing_changes(guest, ('wait_for_partner',)):
        with Worker(job(guest, 'apply', prod=False, timeout=120),
                    guest.module('hvp_sleeper')) as worker:
            progress = worker.wait_for_state('waiting')
            assert progress['cancellable'], progress
            started = time.monotonic()
            worker.cancel()
            result = worker.result()
        assert time.monotonic() - started < 60, worker.progress[-3:]
        assert result.exit == FAILED and result.code == 'CANCELLED', result
        assert result.document['result'] == 'failed', result
        assert result.document['code'] == 'CANCELLED', result
    assert done(guest, 'recover').document['recovered'] is False
    leave_fifo(guest)


@suite.case('daemon-that-closes-its-end-CANCELS')
def _(guest):
    enter_fifo(guest)
    with nothing_changes(guest, ('wait_for_partner',)):
        with Worker(job(guest, 'apply', prod=False, timeout=120),
                    guest.module('hvp_sleeper')) as worker:
            worker.wait_for_state('waiting')
            worker.socket.close()
            assert worker.process.wait(timeout=60) == 1
    leave_fifo(guest)


@suite.case('cancel-behind-the-switch-TOO-LATE')
def _(guest):
    with Worker(job(guest, 'apply'), guest.module(MODULE)) as worker:
        progress = worker.wait_for_state('verifying')
        assert not progress['cancellable'], progress
        worker.cancel()
        result = worker.result()
    assert result.exit == DONE and result.document['result'] == 'applied', result
    done(guest, 'revert', name=MODULE)


@suite.case('cancel-at-once-CHANGES-NOTHING')
def _(guest):
    with nothing_changes(guest):
        with Worker(job(guest, 'apply'), guest.module(MODULE)) as worker:
            worker.cancel()
            result = worker.result()
        assert result.code == 'CANCELLED', result


# --- jobs that are none -------------------------------------------------------

def bad_jobs(guest):
    good = job(guest, 'apply')
    yield b'', 'VM_GONE'
    yield b'{', 'BAD_DATA'
    yield b'[]', 'BAD_DATA'
    yield b'\xff\xfe{}', 'BAD_DATA'
    yield b'{}', 'INVALID_ARGUMENT'
    yield b'{"a":' * 400 + b'1' + b'}' * 400, 'BAD_DATA'
    yield b'{"verb":"apply","pad":"' + b'x' * (130 << 10) + b'"}', 'BAD_DATA'
    for change in ({'verb': 'destroy'}, {'verb': None}, {'verb': 7}, {'domain': None},
                   {'domain': {}}, {'domain': {'qmp': ''}}, {'domain': {'uuid': 'nobody'}},
                   {'domain': {**good['domain'], 'uuid': '7'}}, {'options': []},
                   {'options': {'timeout': -1}}, {'options': {'timeout': '1'}},
                   {'options': {'max_pause': 1e9}}, {'options': {'prod': 1}},
                   {'options': {'accept': ['everything']}}, {'options': {'accept': 'guard'}},
                   {'options': {'unheard_of': 1}}, {'options': {'kthreads': 'some'}},
                   {'options': {'backend': 'magic'}}, {'patch': 'zz'}, {'manifest': {'x': 1}},
                   {'verb': 'replace', 'options': {'replace': False}},
                   {'verb': 'revert', 'name': None}):
        yield {**good, **change}, None
    yield {**good, 'domain': {'qmp': '/nowhere/at/all'}}, 'NOT_FOUND'


@suite.case('bad-jobs-REFUSED')
def _(guest):
    with nothing_changes(guest):
        for work, code in bad_jobs(guest):
            with Worker(work) as worker:
                if work == b'':
                    worker.socket.close()
                    assert worker.process.wait(timeout=20) == 1
                    continue
                result = worker.result(timeout=20)
            assert result.exit != DONE and result.error, (work, result)
            assert code is None or result.code == code, (work, result)


@suite.case('bad-patches-REFUSED')
def _(guest):
    with nothing_changes(guest):
        result = run(job(guest, 'apply'))
        assert result.code == 'INVALID_ARGUMENT', result
        result = run({**job(guest, 'apply'), 'patch': '0' * 64}, guest.module(MODULE))
        assert result.code == 'BAD_DATA' and 'not the one' in result.error['message'], result
        result = run(job(guest, 'apply'), __file__)
        assert result.exit != DONE and result.document['result'] != 'applied', result


@suite.case('fd-3-that-is-no-socket-USAGE', guest=False)
def _():
    result = subprocess.run([worker_path()], stdin=subprocess.DEVNULL, capture_output=True,
                            check=False, timeout=10)
    assert result.returncode == USAGE, result


@suite.case('half-that-cannot-be-confined-SEES-NOTHING')
def _(guest):
    if os.geteuid() != 0 or not shutil.which('setpriv'):
        raise Skip('setpriv and to be root are needed')
    for command, status in ((['setpriv', '--bounding-set=-setuid'], UNBEGUN), ([], 0)):
        with Worker(job(guest, 'look'), command=command) as worker:
            result = worker.result()
            assert (result.code is None) == (status == 0), result
            assert worker.process.wait(timeout=10) == status, worker.process.returncode


# --- what it is not allowed ---------------------------------------------------

def oom_score(pid):
    with open(f'/proc/{pid}/oom_score_adj') as stream:
        return int(stream.read())


@suite.case('half-that-parses-HAS-NOTHING')
def _(guest):
    enter_fifo(guest)
    with Worker(job(guest, 'apply', prod=False, timeout=60),
                guest.module('hvp_sleeper')) as worker:
        worker.wait_for_state('waiting')
        half = worker.half()
        status = status_of(half)
        assert status['NoNewPrivs'].strip() == '1' and status['Seccomp'].strip() == '2', status
        assert int(status['CapEff'], 16) == 0 and int(status['CapPrm'], 16) == 0, status
        if os.geteuid() == 0:
            assert '0' not in status['Uid'].split() + status['Gid'].split(), status
            assert status['Groups'].strip() == '', status
        links = {}
        for fd in os.listdir(f'/proc/{half}/fd'):
            with open(f'/proc/{half}/fdinfo/{fd}') as stream:
                flags = int(re.search(r'flags:\s*(\d+)', stream.read()).group(1), 8)
            links[int(fd)] = os.readlink(f'/proc/{half}/fd/{fd}'), flags & os.O_ACCMODE
        for fd, (link, access) in links.items():
            writable = access != os.O_RDONLY
            allowed = fd < 3 or link.startswith(('socket:', '/memfd:', 'anon_inode:')) or \
                link.endswith('.journal') or not writable
            assert allowed, links
        # The patch, which is sealed, and room for a result: it can make no other.
        memory_files = sorted(link for link, _ in links.values() if link.startswith('/memfd:'))
        assert memory_files == ['/memfd:patch (deleted)', '/memfd:result (deleted)'], links
        if os.geteuid() == 0:
            assert oom_score(half) == MOST_OOM_SCORE, oom_score(half)
            # Keepers, which guests depend on, are started by this one.
            assert oom_score(worker.process.pid) == oom_score('self')
        assert not is_sandboxed(worker.process.pid)
        worker.cancel()
        worker.result()
    leave_fifo(guest)


@suite.case('memory-limit-IS-A-FAILED-OPERATION')
def _(guest):
    with nothing_changes(guest):
        with Worker(job(guest, 'apply'), guest.module(MODULE),
                    command=['prlimit', f'--as={LITTLE_MEMORY_BYTES}', '--'],
                    stderr=subprocess.DEVNULL) as worker:
            result = worker.result()
        assert result.exit != DONE and result.document['result'] != 'applied', result
    done(guest, 'apply', MODULE)
    done(guest, 'revert', name=MODULE)


# --- killed -------------------------------------------------------------------

def assert_mended(guest):
    """The guest runs by itself; recover, and after it nothing or all is in force."""
    try:
        mend(guest)
    except (AssertionError, OSError) as error:
        raise AssertionError(f'{error}\n{guest.post_mortem()}') from error


def mend(guest):
    eventually(lambda: assert_running(guest))
    eventually(lambda: recovered(guest))
    names = applied(guest)
    assert names in ([], [MODULE]), names
    if names:
        done(guest, 'revert', name=MODULE)
    assert MODULE not in guest.loaded()


def assert_running(guest):
    assert guest.qmp.status() == 'running', guest.qmp.status()


def recovered(guest):
    """The keeper may still be at work for a moment."""
    result = run(job(guest, 'recover'))
    assert result.exit == DONE, result


def kill_case(name, hurt):
    @suite.case(f'worker-{name}-at-each-state-MENDED', timeout=600)
    def _(guest):
        before = entries(guest)
        for state in STATES:
            if state == 'waiting':
                continue
            with Worker(job(guest, 'apply', max_pause=500), guest.module(MODULE)) as worker:
                worker.wait_for_state(state)
                hurt(worker)
                eventually(lambda: assert_running(guest))
                worker.process.wait(timeout=60)
            assert_mended(guest)
            assert entries(guest) == before, state


def kill_half(worker):
    worker.kill_half()
    assert worker.has_no_result()
    assert worker.process.wait(timeout=20) == -signal.SIGKILL


def kill_both(worker):
    half = worker.half()
    worker.process.kill()
    eventually(lambda: assert_gone(half), timeout=10)


def assert_gone(pid):
    assert not is_sandboxed(pid), pid


def stop_half(worker):
    """It hangs; the keeper lets the guest run, the daemon loses patience."""
    worker.kill_half(signal.SIGSTOP)
    time.sleep(1.5)
    worker.process.kill()


kill_case('killed', kill_half)
kill_case('killed-with-its-other-half', kill_both)
kill_case('stopped', stop_half)


@suite.case('worker-killed-now-and-then-MENDED', timeout=600)
def _(guest):
    before = entries(guest)
    for number in range(12):
        with Worker(job(guest, 'apply', max_pause=500), guest.module(MODULE)) as worker:
            half = worker.half()
            time.sleep(0.05 * number)
            with contextlib.suppress(ProcessLookupError):
                os.kill(half, signal.SIGKILL)
            worker.process.wait(timeout=60)
        assert_mended(guest)
        assert entries(guest) == before


def killing(number):
    """Command prefix: both halves, each at its NUMBERth receiving of a message; not the keeper."""
    return ['strace', '-D', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=recvmsg', '-e',
            f'inject=recvmsg:signal=SIGKILL:when={number}', '--']


@suite.case('killed-at-numbered-calls-MENDED', timeout=900)
def _(guest):
    if not shutil.which('strace'):
        raise Skip('no strace')
    before = entries(guest)
    number, killed = 1, 0
    while True:
        with Worker(job(guest, 'apply', max_pause=500), guest.module(MODULE),
                    command=killing(number)) as worker:
            message = worker.last_message()
            worker.process.wait(timeout=60)
        assert_mended(guest)
        assert entries(guest) == before, number
        if message is not None and message['error'] is None:
            break
        # The half that parses may have been quick enough to say that it lost the other one.
        killed += 1
        number += 1 + number // 8
    assert killed > 5, killed


LAUNCHER = '''
import json, sys, time
sys.path[:0] = json.loads(sys.argv[1])
from worker import Worker
worker = Worker(json.loads(sys.argv[2]), sys.argv[3])
worker.wait_for_state('waiting')
print(worker.process.pid, worker.half(), flush=True)
time.sleep(600)
'''


@suite.case('worker-of-a-daemon-that-is-killed-ENDS')
def _(guest):
    """Not by die_with_parent of the tests: the half in the sandbox has that of its own."""
    enter_fifo(guest)
    before = entries(guest, ('wait_for_partner',))
    work = job(guest, 'apply', prod=False, timeout=120)
    daemon = subprocess.Popen([sys.executable, '-c', LAUNCHER, json.dumps(sys.path[:3]),
                               json.dumps(work), guest.module('hvp_sleeper')],
                              stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in daemon.stdout.readline().split()]
    assert len(pids) == 2, pids
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()

    def ended():
        assert not any(os.path.exists(f'/proc/{pid}/exe') and is_sandboxed(pid) for pid in pids)
    eventually(ended, timeout=10)
    eventually(lambda: assert_running(guest))
    eventually(lambda: recovered(guest))
    assert 'hvp_sleeper' not in guest.loaded()
    assert entries(guest, ('wait_for_partner',)) == before
    leave_fifo(guest)


if __name__ == '__main__':
    suite.main()
