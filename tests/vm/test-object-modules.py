#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The target modules and the livepatches over them are right: tried with the guest's own livepatch.

What test-objects.py asks of hvpatch is what these cases see without it. Under load the guest has
one CPU: an emulated machine with more of them may die when its kernel patches text that runs.
"""

import contextlib
import re
import subprocess
import time

from guest import LIVEPATCH_NOTES
from objects import (A, B, KLP_BUILD, OBJECT_LINES, Log, Workload, assert_generation, calls,
                     enter_sleep, generation, klp_build, leave_sleep, load, targets, unload)
from tap import PATCHING_ITSELF, Suite

suite = Suite('6.1', '6.12', **PATCHING_ITSELF)
ALL = ('vmlinux', A, B)
# What a replaced function must not be called: the compiler would have made a copy of it.
CLONE = re.compile(r'hvp_(?:[ab]_\w+|generation_read)\.(?:constprop|isra|part|cold)')


def case(name, allow=(), **options):
    return suite.case(name, allow=(*LIVEPATCH_NOTES, *OBJECT_LINES, *allow), **options)


def patch(guest, name):
    load(guest, name)
    guest.wait_transition(name)


@contextlib.contextmanager
def patched(guest, name):
    patch(guest, name)
    yield
    guest.disable_livepatch(name)


def assert_refused(guest, name, error):
    status, output = guest.insmod(name)
    assert status != 0 and error in output, (status, output)
    assert name not in guest.loaded()


@case('targets-NOT-CLONED-AND-TRACEABLE')
def _(guest):
    for name in (A, B):
        symbols = subprocess.run(['nm', guest.module(name)], capture_output=True, text=True,
                                 check=True).stdout
        assert not CLONE.search(symbols), symbols
    with targets(guest, A, B):
        assert_generation(guest, 0)
        traceable = guest.check('cat /sys/kernel/tracing/available_filter_functions').splitlines()
        for function in generation(guest):
            assert len(guest.symbol(function)) == 1, function
            assert any(line.split()[0] == function for line in traceable), function


@case('hvp_gen1-b-comes-later-NEW-BEFORE-ITS-INIT')
def _(guest):
    with targets(guest, A):
        lines = Log(guest)
        with patched(guest, 'hvp_gen1'):
            assert_generation(guest, 1, b_loaded=False)
            lines.expect(*calls('hvp_gen1', ('vmlinux', A), 'pre_patch', 'post_patch'))
            for _ in range(2):
                load(guest, B)
                assert_generation(guest, 1)
                lines.expect(*calls('hvp_gen1', (B,), 'pre_patch', 'post_patch'),
                             f'{B}: init sees 1 1 in 2 calls')
                unload(guest, B)
                assert_generation(guest, 1, b_loaded=False)
                lines.expect(*calls('hvp_gen1', (B,), 'pre_unpatch', 'post_unpatch'))
        lines.expect(*calls('hvp_gen1', ('vmlinux', A), 'pre_unpatch', 'post_unpatch'))
        assert_generation(guest, 0, b_loaded=False)


@case('hvp_gen1-2-3-REPLACED-only-new-callbacks')
def _(guest):
    with targets(guest, A, B):
        lines = Log(guest)
        for number in (1, 2, 3):
            patch(guest, f'hvp_gen{number}')
            assert_generation(guest, number)
            lines.expect(*calls(f'hvp_gen{number}', ALL, 'pre_patch', 'post_patch'))
        guest.disable_livepatch('hvp_gen3')
        assert_generation(guest, 0)
        lines.expect(*calls('hvp_gen3', ALL, 'pre_unpatch', 'post_unpatch'))
        unload(guest, 'hvp_gen1', 'hvp_gen2')


@case('hvp_generation-SEES-EACH-SWITCH-ONCE', options={'smp': 1})
def _(guest):
    with targets(guest, A, B):
        workload = Workload(guest, 4, (0, 1, 2, 3))
        for number in (1, 2, 3):
            patch(guest, f'hvp_gen{number}')
            workload.look()
        guest.disable_livepatch('hvp_gen3')
        workload.look()
        status, counts, text = workload.end()
        assert status == 0 and counts['changes'] == 4 and counts['reads'] > 1000, text
        assert all(f'generation {number} reads' in text for number in range(4)), text
        unload(guest, 'hvp_gen1', 'hvp_gen2')


@case('hvp_generation-TELLS-A-MIX-AND-A-STEP-BACK', options={'smp': 1})
def _(guest):
    with targets(guest, A):
        workload = Workload(guest, 4)
        with patched(guest, 'hvp_alone_one'):
            workload.look()
        status, counts, text = workload.end()
        assert status == 1 and counts['mixed'] > 0 and counts['lost'] == 0, text
        assert 'first bad: mixed: 0 0 0 4 0 -1 -1' in text, text
        # After 1 only 2 may come: the original is the one before.
        workload = Workload(guest, 4, (0, 1, 2, 3))
        with patched(guest, 'hvp_gen1'):
            workload.look()
        workload.look()
        status, counts, text = workload.end()
        assert status == 1 and counts['back'] > 0 and counts['mixed'] == 0, text


@case('hvp_alone-pair-INDEPENDENT')
def _(guest):
    pair = {'hvp_alone_one': {'hvp_a_one': 4}, 'hvp_alone_two': {'hvp_a_two': 5}}
    with targets(guest, A):
        for first, second in (list(pair), list(pair)[::-1]):
            for name in pair:
                patch(guest, name)
            assert_generation(guest, 0, False, **pair[first], **pair[second])
            guest.disable_livepatch(first)
            assert_generation(guest, 0, False, **pair[second])
            guest.disable_livepatch(second)
            assert_generation(guest, 0, False)


@case('hvp_object_sleeper-STANDS-IN-OLD-AND-NEW')
def _(guest):
    transition = '/sys/kernel/livepatch/hvp_object_sleeper/transition'
    with targets(guest, A):
        pid = enter_sleep(guest)
        load(guest, 'hvp_object_sleeper')
        time.sleep(1)
        assert guest.check(f'cat {transition}') == '1'
        assert 'hvp_a_sleep' in guest.check(f'cat /proc/{pid}/stack')
        assert leave_sleep(guest) == '0'
        guest.wait_transition('hvp_object_sleeper')
        pid = enter_sleep(guest)
        assert 'hvp_new_a_sleep' in guest.check(f'cat /proc/{pid}/stack')
        assert leave_sleep(guest) == '6'
        guest.disable_livepatch('hvp_object_sleeper')


@case('hvp_object_refuse-REFUSED-vmlinux-told')
def _(guest):
    with targets(guest, A):
        lines = Log(guest)
        assert_refused(guest, 'hvp_object_refuse', 'No such device')
        # busybox tries both system calls that load a module.
        lines.expect(*2 * ('hvp_object_refuse: vmlinux pre_patch',
                           f'hvp_object_refuse: {A} pre_patch refuses',
                           'hvp_object_refuse: vmlinux post_unpatch'))
        assert_generation(guest, 0, b_loaded=False)


@case('hvp_object_never-PATCHES-THE-REST')
def _(guest):
    with targets(guest, A):
        lines = Log(guest)
        with patched(guest, 'hvp_object_never'):
            assert_generation(guest, 0, False, lcm=8)
        lines.expect(*calls('hvp_object_never', ('vmlinux',), 'pre_patch', 'post_patch',
                            'pre_unpatch', 'post_unpatch'))


def states(own, previous, *callbacks):
    """What the callbacks of hvp_stateOWN log."""
    return [f'hvp_state{own}: {A} {callback}: state {own} after {previous}'
            for callback in callbacks]


@case('hvp_state-beside-each-other-PREVIOUS-TOLD-TO-EACH-CALLBACK')
def _(guest):
    with targets(guest, A):
        lines = Log(guest)
        with patched(guest, 'hvp_state2'):
            with patched(guest, 'hvp_state3'):
                lines.expect(*states(2, 0, 'pre_patch', 'post_patch'),
                             *states(3, 2, 'pre_patch', 'post_patch'))
            lines.expect(*states(3, 2, 'pre_unpatch', 'post_unpatch'))
        lines.expect(*states(2, 0, 'pre_unpatch', 'post_unpatch'))


@case('hvp_state-OLDER-AND-MISSING-REFUSED')
def _(guest):
    with targets(guest, A):
        lines = Log(guest)
        patch(guest, 'hvp_state1')
        lines.expect(*states(1, 0, 'pre_patch', 'post_patch'))
        patch(guest, 'hvp_state2')
        lines.expect(*states(2, 1, 'pre_patch', 'post_patch'))
        assert_generation(guest, 0, False, hvp_a_one=22)
        unload(guest, 'hvp_state1')
        for name in ('hvp_state1', 'hvp_gen2'):
            assert_refused(guest, name, 'Invalid argument')
        # It does not replace, so it need not carry the state.
        with patched(guest, 'hvp_alone_two'):
            assert_generation(guest, 0, False, hvp_a_one=22, hvp_a_two=5)
        guest.disable_livepatch('hvp_state2')
        assert_generation(guest, 0, False)


@case('hvp_shadow-SURVIVES-A-REPLACE')
def _(guest):
    with targets(guest, A):
        lines = Log(guest)
        patch(guest, 'hvp_shadow1')
        assert_generation(guest, 0, False, hvp_a_two=101)
        patch(guest, 'hvp_shadow2')
        assert_generation(guest, 0, False, hvp_a_two=102)
        guest.disable_livepatch('hvp_shadow2')
        lines.expect(f'hvp_shadow1: {A} pre_patch: shadow made 100',
                     f'hvp_shadow1: {A} post_patch',
                     f'hvp_shadow2: {A} pre_patch: shadow found 100',
                     f'hvp_shadow2: {A} post_patch',
                     f'hvp_shadow2: {A} pre_unpatch',
                     f'hvp_shadow2: {A} post_unpatch: shadow freed')
        unload(guest, 'hvp_shadow1')
        with patched(guest, 'hvp_shadow2'):
            assert_generation(guest, 0, False, hvp_a_two=202)


def klp_build_case(name, number):
    @case(f'{name}-format-{number}-WORKS')
    def _(guest):
        path = guest.put_file(klp_build(guest, name, number))
        objects = ('vmlinux', A) if name == 'hvp_klp_build' else ('vmlinux',)
        with targets(guest, A):
            lines = Log(guest)
            guest.check(f'insmod {path}; rm {path}')
            guest.wait_transition(name)
            assert_generation(guest, 0, False, **KLP_BUILD[name])
            lines.expect(*calls(name, objects, 'pre_patch', 'post_patch'))
            guest.disable_livepatch(name)
            assert_generation(guest, 0, False)


for module in KLP_BUILD:
    for generation_of_format in (1, 2):
        klp_build_case(module, generation_of_format)


@case('hvp_klp_build-not-assembled-REFUSED', allow=(r'hvp_klp_build: no objects',))
def _(guest):
    assert_refused(guest, 'hvp_klp_build', 'Invalid argument')


if __name__ == '__main__':
    suite.main()
