#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tasks that sleep in what is to be switched are sent out: who is, who is not, what they see."""

import contextlib
import re

from guest import eventually
from tap import Suite

suite = Suite('6.1', '6.12')

DONE, BUSY = 0, 4
SLEEPERS = 20
# A thread to borrow comes by within a second; the rest is the host's, which may be a slow one. By
# itself no sleeper of these cases leaves within this time.
SOON_SECONDS = 60.0
# How long a sleep has lasted before it is disturbed.
HEAD_START_SECONDS = 5
# /proc/PID/stack leaves functions of the scheduler out, do_nanosleep among them.
SLEEP = 'hrtimer_nanosleep'


def stand_in(guest, pid, function):
    """Waits until task PID stands in FUNCTION."""
    guest.wait_for(f'grep -q {function} /proc/{pid}/stack')


def all_asleep(guest, count=SLEEPERS):
    """None is held any more, or lost on its way."""
    guest.wait_for('[ $(cat /proc/[0-9]*/task/*/stat 2>/dev/null | '
                   f'grep -c "(hvp_sleepers) S") = {count} ]')


@contextlib.contextmanager
def sleepers(guest, function, count=SLEEPERS):
    """COUNT tasks, half of them threads of one process, that stand in FUNCTION; yields its pid."""
    guest.check(f'hvp_sleepers {count} nanosleep > /tmp/sleepers 2>&1 & echo $! > /tmp/pid')
    guest.wait_for('grep -q ready /tmp/sleepers')
    pid = int(guest.check('cat /tmp/pid'))
    guest.wait_for('[ $(cat /proc/[0-9]*/task/*/stack 2>/dev/null | '
                   f'grep -c {function}) -ge {count} ]')
    yield pid
    guest.check(f'kill {pid}')
    guest.wait_gone(pid)


def switches(guest, pids):
    """How often each task was put off its CPU."""
    text = guest.check('; '.join(f'cat /proc/{pid}/status' for pid in pids))
    return [int(count) for count in re.findall(r'voluntary_ctxt_switches:\s*(\d+)', text)]


def settled_switches(guest, pids):
    """The same, of tasks that say that they are asleep: they do so before they are off the CPU."""
    def check():
        counts = switches(guest, pids)
        guest.check('sleep 0.5')
        assert switches(guest, pids) == counts, counts
        return counts
    return eventually(check)


def uptime(guest):
    return float(guest.check('cat /proc/uptime').split()[0])


def done(guest, *arguments, soon=SOON_SECONDS):
    result = guest.hvpatch(*arguments)
    assert result.status == DONE, result
    assert result.seconds < soon, result
    return result


@suite.case('many-sleepers-BUSY-without-prodding-APPLIED-and-REVERTED-with-it')
def _(guest):
    path = guest.module('hvp_nanosleep')
    with sleepers(guest, SLEEP):
        before = guest.entry('do_nanosleep')
        result, _ = guest.hvpatch_in_vain('apply', path, '--no-prod')
        assert result.status == BUSY and len(result.json['blockers']) >= SLEEPERS, result
        assert guest.entry('do_nanosleep') == before
        result = done(guest, 'apply', path)
        print(f'# applied in {result.seconds:.2f} s, {result.json["attempts"]} attempts')
        # Each has been restarted, in the new function.
        entered = '/sys/module/hvp_nanosleep/parameters/entered'
        guest.wait_for(f'[ $(cat {entered}) -ge {SLEEPERS - 1} ]')
        result, _ = guest.hvpatch_in_vain('revert', 'hvp_nanosleep', '--no-prod')
        assert result.status == BUSY and len(result.json['blockers']) >= SLEEPERS - 1, result
        result = done(guest, 'revert', 'hvp_nanosleep')
        print(f'# reverted in {result.seconds:.2f} s, {result.json["attempts"]} attempts')
        assert guest.entry('do_nanosleep') == before
        assert 'hvp_nanosleep' not in guest.loaded()


@suite.case('sleep-of-seconds-LASTS-AS-LONG')
def _(guest):
    seconds = 20
    guest.check(f'(read a b < /proc/uptime; sleep {seconds} & echo $! > /tmp/pid; wait $!; '
                'echo $? > /tmp/status; read c d < /proc/uptime; echo $a $c > /tmp/times) &')
    guest.wait_for('[ -s /tmp/pid ]')
    pid = int(guest.check('cat /tmp/pid'))
    stand_in(guest, pid, SLEEP)
    guest.check(f'sleep {HEAD_START_SECONDS}')
    disturbed = uptime(guest)
    done(guest, 'apply', guest.module('hvp_nanosleep'))
    stand_in(guest, pid, 'hvp_do_nanosleep')
    done(guest, 'revert', 'hvp_nanosleep')
    guest.wait_for('[ -s /tmp/times ]')
    start, end = map(float, guest.check('cat /tmp/times').split())
    assert guest.check('cat /tmp/status') == '0'
    # Begun anew it would end so long after it was disturbed.
    assert start + seconds <= end < disturbed + seconds, (start, disturbed, end)


@suite.case('opener-of-a-fifo-GETS-ITS-DATA')
def _(guest):
    guest.check('rm -f /tmp/fifo /tmp/read; mkfifo /tmp/fifo; cat /tmp/fifo > /tmp/read & '
                'echo $! > /tmp/pid')
    pid = int(guest.check('cat /tmp/pid'))
    stand_in(guest, pid, 'wait_for_partner')
    done(guest, 'apply', guest.module('hvp_sleeper'))
    stand_in(guest, pid, 'hvp_wait_for_partner')
    done(guest, 'revert', 'hvp_sleeper')
    stand_in(guest, pid, 'wait_for_partner')
    guest.check('echo hello > /tmp/fifo')
    guest.wait_gone(pid)
    assert guest.check('cat /tmp/read') == 'hello'


@suite.case('uninterruptible-sleeper-IS-LEFT-ALONE-and-BUSY')
def _(guest):
    done(guest, 'apply', guest.module('hvp_nanosleep'))
    linger = '/sys/module/hvp_nanosleep/parameters/linger_msec'
    with sleepers(guest, SLEEP) as other:
        # Last, and only for as long as a slow host needs to find it there.
        guest.check(f'echo 20000 > {linger}; sleep 0.1 & echo $! > /tmp/pid')
        pid = int(guest.check('cat /tmp/pid'))
        stand_in(guest, pid, 'msleep')
        guest.check(f'echo 0 > {linger}')
        before = settled_switches(guest, (pid, other))
        result = guest.hvpatch('revert', 'hvp_nanosleep', '--timeout', '3')
        assert result.status == BUSY, result
        assert any(task['pid'] == pid for task in result.json['blockers']), result
        # As long as one cannot be moved, nobody is.
        assert switches(guest, (pid, other)) == before
        guest.wait_gone(pid)
        done(guest, 'revert', 'hvp_nanosleep')


@suite.case('stopped-task-STAYS-STOPPED')
def _(guest):
    guest.check('sleep 1000 & echo $! > /tmp/pid')
    pid = int(guest.check('cat /tmp/pid'))
    stand_in(guest, pid, SLEEP)
    guest.check(f'kill -STOP {pid}')
    guest.wait_for(f'grep -q "State:.T" /proc/{pid}/status')
    before = settled_switches(guest, (pid,))
    with sleepers(guest, SLEEP, 3):
        done(guest, 'apply', guest.module('hvp_nanosleep'))
        assert 'T' in guest.check(f'grep State: /proc/{pid}/status')
        assert switches(guest, (pid,)) == before
        guest.check(f'kill -CONT {pid}')
        stand_in(guest, pid, 'hvp_do_nanosleep')
        done(guest, 'revert', 'hvp_nanosleep')
    guest.check(f'kill {pid}')


@suite.case('signals-to-others-meanwhile-ALL-ARRIVE', timeout=600)
def _(guest):
    """They come by the gate too, and pass."""
    guest.check('''(n=0; trap 'n=$((n+1))' USR1; i=0; : > /tmp/on
        while [ -e /tmp/on ]; do kill -USR1 $(sh -c 'echo $PPID'); i=$((i+1)); done
        echo $i $n > /tmp/counts) > /dev/null 2>&1 &''')
    guest.wait_for('[ -e /tmp/on ]')
    with sleepers(guest, SLEEP):
        for _ in range(2):
            # All come by the gate, each with two stops.
            done(guest, 'apply', guest.module('hvp_nanosleep'), '--timeout', '90', soon=120)
            guest.check('true')
            done(guest, 'revert', 'hvp_nanosleep', '--timeout', '90', soon=120)
    guest.check('rm /tmp/on')
    guest.wait_for('[ -s /tmp/counts ]')
    sent, counted = map(int, guest.check('cat /tmp/counts').split())
    assert sent == counted > 10, (sent, counted)


@suite.case('rounds-with-sleepers-CLEAN')
def _(guest):
    times = []
    with sleepers(guest, SLEEP):
        for _ in range(5):
            times.append(done(guest, 'apply', guest.module('hvp_nanosleep')).seconds)
            all_asleep(guest)
            times.append(done(guest, 'revert', 'hvp_nanosleep').seconds)
            all_asleep(guest)
    print('# seconds: ' + ' '.join(f'{seconds:.2f}' for seconds in times))


if __name__ == '__main__':
    suite.main()
