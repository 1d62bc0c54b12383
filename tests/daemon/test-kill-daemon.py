#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Core, worker, keeper and hvpatch-apid are each killed, or stand still for a while, at steps of
apply and revert through the API. A step is a state of the operation, as its event tells it, or a
numbered system call of the keeper's, at which that is frozen meanwhile.

Afterwards the guest runs, all old or all new as the operation's end says, and the same request
does it. HVPATCH_VM_LONG=1: every victim at every step; else a sample.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import time
import uuid

from plane import HERE, Plane, Story, real_worker

sys.path.append(os.path.join(HERE, '..', 'fault'))

# pylint: disable=wrong-import-position,wrong-import-order
from core import until
from libvirt import URI, LibvirtGuest, main
from scene import (HOME_SECONDS_MAX, LONG, MODULE, Scene, context_switches, count_lines, counting,
                   injecting, keeper_path, process_state, sample)
from tap import Suite

STATES = {'apply': ('checking', 'loading', 'switching', 'verifying'),
          'revert': ('checking', 'switching', 'verifying')}
DONE_STATES = {'apply': 'applied', 'revert': 'reverted'}
OTHER = {'apply': 'revert', 'revert': 'apply'}
NAMED = ('applied', 'reverted', 'rolled-back', 'failed', 'cancelled')
# What the keeper does to guest and journal; how many of its calls, in the long version.
SYSCALL, CALLS = 'sendto', 10
COUNTS = {}
STANDS_SECONDS = 3.0
# For how long a keeper is frozen at a call while its victim is struck: past its deadline.
FROZEN_SECONDS = 0.5
OPTIONS = {'max_pause': 500, 'timeout': 20}
END_SECONDS = 120.0
TRIES = 3

suite = Suite('6.1', guest_class=LibvirtGuest, oracle=False)


@dataclasses.dataclass(frozen=True)
class Point:
    """verb: apply or revert. step: a state's name, or the number of a call of the keeper's.
    how: SIGKILL or SIGSTOP."""
    verb: str
    step: object
    how: signal.Signals

    def __str__(self):
        step = f'keeper call {self.step}' if isinstance(self.step, int) else self.step
        return f'{self.how.name} in {self.verb}, {step}'


class Setting:
    """A guest, a plane that may be wounded, and what is looked at behind that."""

    def __init__(self, guest):
        self.guest, self.scene = guest, Scene(guest)
        self._trace, self._wrapper = guest.path('trace'), guest.path('traced-keeper')
        self.trace(())
        with open(self._wrapper, 'w', encoding='utf-8') as stream:
            stream.write(f'#!/bin/sh\nread -r trace < {self._trace}\n'
                         f'exec $trace "{keeper_path()}" "$@"\n')
        os.chmod(self._wrapper, 0o755)
        self.plane = Plane(uri=URI, worker=real_worker(),
                           config='max-pause=1000\n', environment={'HVPATCH_KEEPER': self._wrapper})
        self.patch = None

    def __enter__(self):
        self.plane.__enter__()
        try:
            self.patch, _ = self.plane.client.upload(self.guest.module(MODULE))
            self.plane.wait_domain(self.guest.uuid, lambda domain: domain.kernel, 'look')
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error):
        self.plane.__exit__(*error)

    def trace(self, command):
        """What the next keepers are run by."""
        with open(self._trace, 'w', encoding='utf-8') as stream:
            stream.write(' '.join(command) + '\n')

    # --- operations ---

    def start(self, verb, key=None):
        return self.plane.client.start(self.guest.uuid, verb, patch=self.patch,
                                       idempotency_key=key, **OPTIONS)

    def end(self, operation):
        return self.plane.client.wait_for(operation, END_SECONDS, check=False)

    def done(self, verb):
        """The request, until it is done: what says that it left all as it was is asked again."""
        for _ in range(TRIES):
            ended = self.end(self.start(verb))
            if ended.state == DONE_STATES[verb]:
                break
            print(f'# again: {verb}: {ended.state}, {ended.error}', flush=True)
            assert ended.state in NAMED, ended
        assert ended.state == DONE_STATES[verb], ended
        self.scene.assert_text(verb == 'apply')

    def count_calls(self, verb):
        """How many calls its keeper makes in an operation without a fault."""
        if verb in COUNTS:
            return COUNTS[verb]
        log = self.guest.path('strace.log')
        self.trace(counting(SYSCALL, log))
        self.done(verb)
        self.trace(())
        COUNTS[verb] = count_lines(log, rf'^{SYSCALL}\(')
        return COUNTS[verb]

    # --- victims ---

    def core(self):
        return self.plane.core.process.pid

    def apid(self):
        return self.plane.front.process.pid

    def worker(self):
        """The half that has the guest's descriptors; with it ends the other."""
        return next(iter(children(self.core(), 'hvpatch-worker')), None)

    def sandboxed(self):
        """The half that reads guest and patch."""
        worker = self.worker()
        return worker and next(iter(children(worker, 'hvpatch-worker')), None)

    def keeper(self):
        return self.scene.keeper_pid()

    def find(self, victim, operation):
        """Its process; None: the operation ended before there was one."""
        while True:
            pid = getattr(self, victim)()
            if pid or self.plane.client.operation(operation).ended:
                return pid
            time.sleep(0.005)

    def reach(self, point, operation, story):
        """Whether the operation came to that step; at a call, the keeper is frozen then."""
        if not isinstance(point.step, int):
            return not story.wait_state(operation, point.step).ended
        since, before = 0.0, None
        while before is None or time.monotonic() - since < 0.1:
            pid = self.keeper()
            now = (pid, context_switches(pid)) if process_state(pid) in ('t', 'T') else None
            if now != before:
                before, since = now, time.monotonic()
            if now is None and any(one.ended for one in story.operations(operation.id)):
                return False
            time.sleep(0.01)
        return True

    def mend(self, victim):
        """As systemd does."""
        if victim == 'core':
            self.plane.core.process.wait()
            self.plane.core.run()
        elif victim == 'apid':
            self.plane.front.process.wait()
            self.plane.front.start()

    def strike(self, point, victim, operation):
        """Whether there was a victim. Who stood still goes on; who was frozen goes on before."""
        pid = self.find(victim, operation)
        if pid is None:
            return False
        tell(pid, point.how)
        if isinstance(point.step, int):
            time.sleep(FROZEN_SECONDS)
            if victim != 'keeper' and self.keeper():
                tell(self.keeper(), signal.SIGCONT)
        if point.how == signal.SIGSTOP:
            time.sleep(STANDS_SECONDS)
            tell(pid, signal.SIGCONT)
        else:
            self.mend(victim)
        return True

    # --- behind it ---

    def settle(self):
        """The guest runs, and nothing of ours is left, without being asked."""
        ends_at = time.monotonic() + HOME_SECONDS_MAX
        while self.scene.users() or self.guest.qmp.status() != 'running':
            assert time.monotonic() < ends_at, (self.scene.users(), self.guest.qmp.status())
            time.sleep(0.02)

    def judge(self, point, ended):
        assert ended.state in NAMED, ended
        self.settle()
        is_done = ended.state == DONE_STATES[point.verb]
        self.scene.assert_text((point.verb == 'apply') == is_done)
        new = self.scene.assert_healthy(leftover_allowed=True)
        self.plane.patches(self.guest.uuid, *([MODULE] if new else []))
        until(lambda: not self.worker(), 'end of the workers', HOME_SECONDS_MAX)
        # A patch that was taken back is not there to be taken back.
        if not is_done or point.verb == 'apply':
            self.done(point.verb)

    def at(self, point, victim):
        """One point of the matrix; whether it was reached."""
        if point.verb == 'revert' and not self.scene.is_new():
            self.done('apply')
        elif point.verb == 'apply' and self.scene.is_new():
            self.done('revert')
        if isinstance(point.step, int):
            self.trace(injecting(SYSCALL, point.step, 'SIGSTOP'))
        story, key = Story(self.plane.client, since=None), str(uuid.uuid4())
        operation = self.start(point.verb, key)
        reached = self.reach(point, operation, story) and self.strike(point, victim, operation)
        self.trace(())
        ended = self.end(operation)
        code = ended.error and ended.error['code']
        print(f'# {victim}: {point}: {"" if reached else "not reached; "}{ended.state} {code}',
              flush=True)
        # Whoever asks again because he heard nothing asks for the same operation.
        assert self.start(point.verb, key).id == operation.id
        self.judge(point, ended)
        return reached


def tell(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def children(pid, comm):
    """Pids of the children of that name, as far as they live."""
    found = []
    with contextlib.suppress(OSError), open(f'/proc/{pid}/task/{pid}/children') as stream:
        for child in map(int, stream.read().split()):
            with contextlib.suppress(OSError), open(f'/proc/{child}/comm') as name:
                if name.read().strip() == comm and process_state(child) != 'Z':
                    found.append(child)
    return found


def points(setting, victim):
    """All, or of each victim a few others."""
    kill, stop = signal.SIGKILL, signal.SIGSTOP
    if not LONG:
        number = VICTIMS.index(victim)
        verbs = ('apply', 'revert') if number % 2 else ('revert', 'apply')
        later = STATES[verbs[0]][1:]
        count = setting.count_calls('apply')
        calls = sample(count, len(VICTIMS) + 2)[1:-1]
        return [Point('apply', calls[number], kill), Point(verbs[0], later[number % len(later)],
                                                           kill),
                Point(verbs[1], 'switching', stop)]
    counts = {verb: setting.count_calls(verb) for verb in ('apply', 'revert')}
    return [Point(verb, step, how) for how in (kill, stop) for verb in ('apply', 'revert')
            for step in (*STATES[verb], *sample(counts[verb], CALLS))]


VICTIMS = ('core', 'worker', 'sandboxed', 'keeper', 'apid')


def run_matrix(guest, victim):
    with Setting(guest) as setting:
        reached = [setting.at(point, victim) for point in points(setting, victim)]
        # One may be over before it can be struck: not most of them.
        assert sum(reached) * 2 > len(reached), reached
        if setting.scene.is_new():
            setting.done('revert')
        setting.settle()
        setting.scene.assert_idle()
        setting.scene.assert_journal_closed()


def register(victim):
    @suite.case(f'{victim}-struck-ENDS-and-CONVERGES', timeout=1800 if LONG else 240)
    def _(guest):
        run_matrix(guest, victim)


for struck in VICTIMS:
    register(struck)

if __name__ == '__main__':
    main(suite)
