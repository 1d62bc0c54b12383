#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatch and its keeper killed while modules are patched, replaced and reverted.

hvp_gen1 is applied, replaced by hvp_gen2, and that is reverted, with one module loaded and one
that comes later; see tests/modules/hvp_generation.h. After each kill and one `recover`: all
functions are of one generation, only its module is left, and the same command again converges.

A sample of the points; many of them with HVPATCH_VM_LONG=1.
"""

import contextlib
import os
import signal
import time

from scene import (DONE, FAILED, LONG, OPERATOR, ROLLED_BACK, Scene, Suite, count_lines, counting,
                   injecting, sample)

# pylint: disable=wrong-import-order
from guest import LIVEPATCH_NOTES
from objects import A, B, OBJECT_LINES, expected, generation, load, log, targets, unload
from tap import PATCHING_ITSELF

suite = Suite('6.1', '6.12', **PATCHING_ITSELF)

ALLOWED = (*LIVEPATCH_NOTES, *OBJECT_LINES)
# Longer than the keeper lets the tool hold the VM.
HOLD_SECONDS = 1.5
WALK_TIMEOUT = 7200.0 if LONG else 600.0
# Command, generation before and after.
STEPS = (('apply', 'hvp_gen1', 0, 1), ('apply', 'hvp_gen2', 1, 2), ('revert', 'hvp_gen2', 2, 0))
SYSCALLS = {'sendto': (40, 4), 'fdatasync': (20, 2)}


class Walk:
    """Goes through the steps again and again; in each, one point is killed at."""

    def __init__(self, guest, of_keeper):
        self.guest = guest
        self.scene = Scene(guest)
        self._of_keeper = of_keeper
        self.reached = 0

    def command(self, step):
        operation, name = STEPS[step][:2]
        return operation, '--max-pause', '500', \
            self.guest.module(name) if operation == 'apply' else name

    def traced(self, step, trace):
        which = 'keeper_trace' if self._of_keeper else 'trace'
        return self.scene.run(self.command(step), **{which: trace})

    def count(self):
        """How often each step makes each system call."""
        log, counts = self.guest.path('strace.log'), {}
        for step in range(len(STEPS)):
            status, said = self.traced(step, counting(','.join(SYSCALLS), log))
            assert status == DONE, said
            for syscall in SYSCALLS:
                counts[step, syscall] = count_lines(log, rf'^{syscall}\(')
        return counts

    def assert_uniform(self, *allowed):
        """All of one generation, and only its module loaded."""
        seen = generation(self.guest)
        b_loaded = B in self.guest.loaded()
        matching = [number for number in (0, 1, 2) if seen == expected(number, b_loaded)]
        assert len(matching) == 1 and matching[0] in allowed, (seen, allowed)
        patches = {name for name in self.guest.loaded() if name.startswith('hvp_gen')}
        assert patches == ({f'hvp_gen{matching[0]}'} if matching[0] else set()), (patches, seen)
        return matching[0]

    @staticmethod
    def assert_undone(name, lines):
        """Each object whose pre_patch ran, and no other, had its post_unpatch."""
        ran = {callback: sorted(line.split()[1] for line in lines
                                if line.startswith(f'{name}: ') and line.endswith(callback))
               for callback in ('pre_patch', 'post_unpatch')}
        assert ran['pre_patch'] == ran['post_unpatch'], lines

    def kill_at(self, step, syscall, number):
        print(f'# {STEPS[step][:2]}, {syscall} {number}', flush=True)
        operation, name, before, after = STEPS[step]
        logged = len(log(self.guest))
        status, said = self.traced(step, injecting(syscall, number))
        self.reached += status != DONE
        if status != DONE and not self._of_keeper:
            self.scene.settle(time.monotonic())
        assert status in (DONE, FAILED, ROLLED_BACK, OPERATOR) or status < 0, said
        self.scene.must('recover')
        self.scene.assert_no_server()
        now = self.assert_uniform(before, after)
        if operation == 'apply' and now == before:
            self.assert_undone(name, log(self.guest)[logged:])
        # A module that comes now is of the same generation.
        state, output = self.guest.insmod(B)
        assert state == 0, (output, self.guest.new_dmesg()[-12:], said)
        assert generation(self.guest) == expected(now), (now, said)
        unload(self.guest, B)
        if now != after:
            self.scene.must(*self.command(step))
        assert self.assert_uniform(after) == after, name

    def over_all(self):
        counts = self.count()
        points = {step: [(syscall, number) for syscall, most in SYSCALLS.items()
                         for number in sample(counts[step, syscall], most[0 if LONG else 1])]
                  for step in range(len(STEPS))}
        total = sum(map(len, points.values()))
        while any(points.values()):
            for step in range(len(STEPS)):
                if points[step]:
                    self.kill_at(step, *points[step].pop(0))
                else:
                    self.scene.must(*self.command(step))
        print(f'# {total} points, {self.reached} reached', flush=True)
        # Some calls come more often in one run than in another; most come in all.
        assert self.reached * 2 >= total, 'too few points were killed at'


def walk(guest):
    with targets(guest, A):
        Walk(guest, False).over_all()


def walk_of_keeper(guest):
    """A keeper that dies as it gives a reference back may leave that one, never take two."""
    load(guest, A)
    killer = Walk(guest, True)
    killer.over_all()
    left = guest.loaded()[A]
    assert 0 <= left <= killer.reached, left
    print(f'# {left} references of {A} left', flush=True)


@suite.case('tool-killed-ONE-GENERATION', timeout=WALK_TIMEOUT, allow=ALLOWED)
def _(guest):
    walk(guest)


@suite.case('keeper-killed-ONE-GENERATION', timeout=WALK_TIMEOUT, allow=ALLOWED, fresh=True)
def _(guest):
    walk_of_keeper(guest)


def freeze(scene, command, number):
    """hvpatch stopped for longer than it may hold the VM, then on to its end; its exit status."""
    tool = scene.start(command, trace=injecting('sendto', number, 'SIGSTOP'))
    try:
        scene.wait_frozen(lambda: tool.poll() is None and tool.pid)
        time.sleep(HOLD_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.kill(tool.pid, signal.SIGCONT)
        return scene.finish(tool)
    finally:
        if tool.poll() is None:
            tool.kill()


@suite.case('tool-stopped-for-long-ROLLED_BACK-or-APPLIED', timeout=WALK_TIMEOUT, allow=ALLOWED)
def _(guest):
    """Whoever is told that it was rolled back has the old code, also behind the switch."""
    with targets(guest, A):
        scene, trace_log = Scene(guest), guest.path('strace.log')
        command = 'apply', '--max-pause', '500', guest.module('hvp_gen1')
        status, said = scene.run(command, trace=counting('sendto', trace_log))
        assert status == DONE, said
        count = count_lines(trace_log, r'^sendto\(')
        scene.must('revert', 'hvp_gen1')
        for number in range(count - (30 if LONG else 14), count, 1 if LONG else 3):
            logged = len(log(guest))
            status, said = freeze(scene, command, number)
            assert status in (DONE, ROLLED_BACK), said
            assert generation(guest) == expected(int(status == DONE), False), said
            scene.must('apply', guest.module('hvp_gen1'))
            assert_once(log(guest)[logged:], 'post_patch')
            scene.must('revert', 'hvp_gen1')


def assert_once(lines, callback):
    seen = sorted(line for line in lines if line.endswith(f' {callback}'))
    assert seen == sorted(f'hvp_gen1: {name} {callback}' for name in ('vmlinux', A)), lines


if __name__ == '__main__':
    suite.main()
