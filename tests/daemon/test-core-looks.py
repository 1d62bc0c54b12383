#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks of hvpatchd side by side, with scripted workers: who waits for whom."""

import contextlib
import json
import os
import sys
import time

from core import HERE, Bus, Core, until

sys.path.append(os.path.join(HERE, '..', 'vm'))
from tap import Suite  # pylint: disable=wrong-import-position


suite = Suite()
# As docs/daemon.md has it.
AT_WORK = 4
# Longer than the daemon takes to see what is due again.
A_TURN = 6
IN_VAIN = {'result': None, 'exit': 3, 'error': {'code': 'NOT_FOUND', 'message': 'no kernel yet'}}


def case(name, timeout=60.0):
    return suite.case(name, guest=False, timeout=timeout)


@contextlib.contextmanager
def scripted(domains, **scripts):
    """A core whose domains' looks are SCRIPTS from the start: of all, or of one as NAME__look."""
    with Bus() as bus:
        core = Core(bus, domains=domains)
        for name, script in scripts.items():
            core.script(name.replace('__', '.'), **script)
        with core:
            yield core


def looked_at(core, name=None):
    """The domains of the looks that were begun."""
    names = [job['job']['domain']['name'] for job in core.jobs('look')]
    return [one for one in names if name in (None, one)]


def refresh(core, name):
    core.call('RefreshDomain', 's', core.uuid(name))


@case('refresh-in-a-loop-ONE-LOOK-A-SECOND')
def _():
    with scripted(['web-1', 'db-1']) as core:
        until(lambda: core.domain('web-1')['seen_at'], 'first look')
        time.sleep(1.1)
        before, begin = len(looked_at(core, 'web-1')), time.monotonic()
        while time.monotonic() - begin < 3.5:
            assert json.loads(core.call('RefreshDomain', 's', core.uuid('web-1'))[0])['name']
            time.sleep(0.02)
        # One at once, each other 1 s behind the one before; and the last word is heard, once.
        count = len(looked_at(core, 'web-1')) - before
        assert 1 <= count <= 4, looked_at(core)
        until(lambda: len(looked_at(core, 'web-1')) - before == count + 1, 'a look put off')
        time.sleep(2)
        assert len(looked_at(core, 'web-1')) - before == count + 1
        assert len(looked_at(core, 'db-1')) == 1


@case('look-that-hangs-others-SEEN')
def _():
    names = [f'vm{number}' for number in range(12)]
    with scripted(names, vm5__look={'wait': 'never'}) as core:
        until(lambda: all(core.domain(name)['seen_at'] for name in names if name != 'vm5'),
              'looks at all others')
        assert core.domain('vm5')['seen_at'] is None
        count = len(looked_at(core, 'vm1'))
        refresh(core, 'vm1')
        until(lambda: len(looked_at(core, 'vm1')) == count + 1, 'another look beside it')
        assert looked_at(core, 'vm5') == ['vm5']


@case('more-looks-than-the-limit-WAIT')
def _():
    names = [f'vm{number}' for number in range(AT_WORK + 3)]
    with scripted(names, look={'wait': 'go'}) as core:
        until(lambda: len(looked_at(core)) == AT_WORK, 'as many looks as there may be')
        time.sleep(1)
        first = looked_at(core)
        assert len(set(first)) == len(first) == AT_WORK, first
        # One that ends makes room for one.
        core.script(f'{first[0]}.look')
        os.kill(core.jobs('look')[0]['pid'], 9)
        until(lambda: len(looked_at(core)) == AT_WORK + 1, 'the next one')
        time.sleep(1)
        assert len(looked_at(core)) == AT_WORK + 1
        core.go()
        until(lambda: all(core.domain(name)['seen_at'] for name in names if name != first[0]),
              'looks at all')


@case('look-wanted-while-one-is-at-work-ONCE-MORE-BEHIND-IT')
def _():
    with scripted(['vm1', 'vm2'], vm1__look={'wait': 'go'}) as core:
        until(lambda: looked_at(core, 'vm1'), 'look')
        for _ in range(5):
            refresh(core, 'vm1')
        until(lambda: core.domain('vm2')['seen_at'], 'look at another')
        assert looked_at(core, 'vm1') == ['vm1']
        core.go()
        until(lambda: len(looked_at(core, 'vm1')) == 2, 'one more')
        until(lambda: core.domain('vm1')['seen_at'], 'what it saw')
        time.sleep(1)
        assert len(looked_at(core, 'vm1')) == 2


@case('operation-among-looks-its-own-look-ENDED')
def _():
    names = [f'vm{number}' for number in range(AT_WORK + 1)]
    with scripted(names, look={'wait': 'go'}) as core:
        until(lambda: len(looked_at(core)) == AT_WORK, 'as many looks as there may be')
        first = core.jobs('look')[0]
        name = first['job']['domain']['name']
        operation = core.start(name, 'recover')
        until(lambda: not os.path.exists(f'/proc/{first["pid"]}'), 'end of its look')
        until(lambda: len(set(looked_at(core))) == AT_WORK + 1, 'the one that waited')
        core.go()
        assert core.wait_end(operation)['state'] == 'recovered'
        until(lambda: core.domain(name)['seen_at'], 'a look behind it')


@case('look-in-vain-that-hangs-then-keeps-its-DISTANCE')
def _():
    with scripted(['vm1'], look=IN_VAIN) as core:
        until(lambda: core.domain('vm1')['error'], 'look')
        core.script('look', wait='go', **IN_VAIN)
        until(lambda: len(looked_at(core)) == 2, 'the second', 30)
        # While it hangs another is due again and again.
        time.sleep(2 * A_TURN)
        core.go()
        time.sleep(A_TURN)
        assert len(looked_at(core)) == 2, looked_at(core)


if __name__ == '__main__':
    suite.main()
