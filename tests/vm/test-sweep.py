#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What was seen of a guest that runs, against what is seen of it as it stands still.

look-twice (tests/tools) sweeps the running guest, stops it, and in the same stop compares what
the sweep says, brought up to date, with a sweep that knows nothing of before: verdicts and frames
of every task have to be the same. Tasks that come and go at once use task structs and stacks
again and again.
"""

import contextlib
import os
import re
import subprocess

from guest import hvpatch_path
from stands import PREEMPT_NOTES, preemption
from tap import Skip, Suite

suite = Suite('6.1', '6.12')

ROUNDS = 150
# How much moves between two looks depends on how fast the host is at that moment.
TRIES = 4
TIMEOUT = 200
SLEEPERS = 500


def look_twice(guest, rounds=ROUNDS):
    """The numbers that the program prints, by name."""
    folder = os.path.dirname(os.path.realpath(hvpatch_path()))
    program = os.path.join(folder, '..', 'tests', 'tools', 'look-twice')
    if not os.path.exists(program):
        raise Skip('look-twice is not beside the hvpatch under test')
    environment = {'HVPATCH_KEEPER': os.path.join(folder, 'hvpatch-keeper'), **os.environ}
    result = subprocess.run([program, guest.hvpatch_qmp_path, str(rounds)], capture_output=True,
                            text=True, check=False, timeout=TIMEOUT, env=environment)
    print(f'# {result.stdout.strip()}')
    assert result.returncode == 0, result
    found = {name: int(number) for name, number in re.findall(r'(\w+) (\d+)', result.stdout)}
    assert found['judged'] >= rounds // 10 and found['differ'] == 0, result
    return found


def look_until(guest, wanted):
    """Looks, each time without a difference, until the numbers are once as WANTED."""
    for _ in range(TRIES):
        found = look_twice(guest)
        if wanted(found):
            return
    raise AssertionError(found)


@contextlib.contextmanager
def load(guest, commands):
    """Runs shell commands again and again on both CPUs."""
    guest.put('/tmp/load', f'#!/bin/sh\nwhile :; do {commands}; done\n'.encode())
    guest.check('for i in 1 2; do setsid /tmp/load > /dev/null 2>&1 & echo $!; done > /tmp/pids')
    try:
        yield
    finally:
        guest.check('for pid in $(cat /tmp/pids); do kill -9 -$pid; done; rm /tmp/load')


@contextlib.contextmanager
def storm(guest):
    guest.check('for i in 1 2 3 4; do taskset 3 hvp_stand storm > /dev/null 2>&1 & done')
    try:
        yield
    finally:
        guest.run('killall -9 hvp_stand')


@suite.case('sleepers-SAME-most-not-looked-at-again', timeout=TRIES * TIMEOUT)
def _(guest):
    guest.check(f'hvp_sleepers {SLEEPERS} pause > /tmp/pause 2>&1 &')
    try:
        guest.wait_for('grep -q ready /tmp/pause', timeout=60)
        # In a stop without a short cut all keys are read, but still next to no stacks.
        look_until(guest, lambda found: found['quiet'] > found['judged'] // 2 and
                   found['moved'] < found['judged'] * 20)
    finally:
        guest.run('killall hvp_sleepers')


@suite.case('bursts-of-forks-SAME', timeout=TRIES * TIMEOUT)
def _(guest):
    """Long enough apart for a stop in which nobody moved."""
    with load(guest, 'for i in 1 2 3; do /bin/true & done; wait; usleep 60000'):
        look_until(guest, lambda found: 0 < found['quiet'] < found['judged'])


@suite.case('fork-storm-SAME', timeout=TRIES * TIMEOUT)
def _(guest):
    with storm(guest):
        look_until(guest, lambda found: found['quiet'] < found['judged'])


@suite.case('fork-storm-preemptible-SAME', allow=PREEMPT_NOTES, timeout=TRIES * TIMEOUT)
def _(guest):
    with preemption(guest), storm(guest):
        look_twice(guest)


@suite.case('threads-that-come-and-go-SAME', timeout=TRIES * TIMEOUT)
def _(guest):
    with load(guest, 'hvp_sleepers 8 futex & usleep 50000; kill -9 $!; wait'):
        look_until(guest, lambda found: found['quiet'] < found['judged'])


if __name__ == '__main__':
    suite.main()
