#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions in modules, replace, callbacks, states: what livepatch does, done by hvpatch.

The patches and what they are patched over: tests/modules/hvp_generation.h. What the guest's own
livepatch makes of the same files is in test-object-modules.py; logs have to be the same here.

HVPATCH_VM_LONG=1: a storm of 1,000 rounds (hours on an emulated CPU: name the case).
"""

import contextlib
import os
import re
import time

from guest import LIVEPATCH_NOTES
from objects import (A, B, COLUMNS, KLP_BUILD, NAMED, OBJECT_LINES, Log, Workload,
                     assert_generation, calls, enter_sleep, klp_build, leave_sleep, load, targets,
                     unload)
from stands import started
from tap import PATCHING_ITSELF, Suite

suite = Suite('6.1', '6.12', **PATCHING_ITSELF)

DONE, FAILED, USAGE, NOT_APPLICABLE, BUSY, REFUSED, ROLLED_BACK = range(7)
ALL = ('vmlinux', A, B)
LONG = os.environ.get('HVPATCH_VM_LONG') == '1'
STORM_ROUNDS = int(os.environ.get('HVPATCH_STORM_ROUNDS', 1000 if LONG else 3))
# Four operations; what one of them may take on a crowded host.
STORM_ROUND_SECONDS = 120
STORM_TRIES = 5
ROUNDS_BETWEEN_WORDS = 25
# Four loops and one CPU: they take what it has to spare, in which they see all there is to see.
NICE = 19
ALONE = {'hvp_alone_one': {'hvp_a_one': 4}, 'hvp_alone_two': {'hvp_a_two': 5}}
# The shortest ones lie so far from each other.
ENTRY_BYTES = 16


def case(name, timeout=300, **options):
    return suite.case(name, allow=(*LIVEPATCH_NOTES, *OBJECT_LINES), timeout=timeout, **options)


def done(guest, *arguments):
    result = guest.hvpatch(*arguments)
    assert result.status == DONE, result
    return result


def apply(guest, name, *options):
    # A transition of the core of 6.12 rewrites thousands of calls of cond_resched, one by one.
    result = done(guest, 'apply', '--timeout', '90', guest.module(name), *options)
    assert result.json['result'] == 'applied' and result.json['patch'] == name, result
    return result


def revert(guest, name):
    result = done(guest, 'revert', name, '--timeout', '90')
    assert name not in guest.loaded(), result


@contextlib.contextmanager
def applied(guest, name, *options):
    yield apply(guest, name, *options)
    revert(guest, name)


def entries(guest):
    """The first bytes, and none of the next one, of all replaced functions that are there now."""
    there = {'vmlinux', *guest.loaded()}
    return {function: guest.entry(function, ENTRY_BYTES)
            for function, name in COLUMNS.items() if name in there}


@contextlib.contextmanager
def nothing_changes(guest):
    before = entries(guest), guest.loaded()
    yield
    after = entries(guest), guest.loaded()
    assert after == before, (before, after)


def status(guest):
    return {patch['name']: patch for patch in done(guest, 'status').json['patches']}


def coverage(guest, name):
    """Who keeps each object patched: switched, core (the guest's), waiting (for it), none."""
    return {item['object']: item['covered'] for item in status(guest)[name]['objects']}


def assert_functions(guest, result, functions):
    """The report names these functions, with the object of each and the jump that is there."""
    items = {item['name']: item for item in result.json['functions']}
    assert set(items) == set(functions), result
    for function, item in items.items():
        assert item['object'] == COLUMNS[function], item
        assert [int(item['old'], 16)] == guest.symbol(function), item
        site, new = int(item['site'], 16), int(item['new'], 16)
        jump = b'\xe9' + (new - site - 5).to_bytes(4, 'little', signed=True)
        assert guest.memory(site, 5) == jump, (item, guest.memory(site, 5).hex())


def assert_refused(result, statuses, *words):
    assert result.status in statuses, result
    said = result.stdout + result.stderr
    assert all(word in said for word in words), (words, result)
    assert result.json['result'] in ('refused', 'failed') and result.json['code'], result


def assert_busy(result, pid, function):
    assert result.status == BUSY and result.json['code'] == 'BUSY', result
    blocker, = result.json['blockers']
    wanted = {'pid': pid, 'comm': 'cat', 'function': function, 'reason': 'ACTIVE'}
    assert {key: blocker[key] for key in wanted} == wanted, result


# --- objects that are there ---------------------------------------------------

@case('all-loaded-SWITCHED-AND-BACK')
def _(guest):
    with targets(guest, A, B), nothing_changes(guest):
        lines = Log(guest)
        with applied(guest, 'hvp_gen1') as result:
            assert_functions(guest, result, COLUMNS)
            assert_generation(guest, 1)
            lines.expect(*calls('hvp_gen1', ALL, 'pre_patch', 'post_patch'))
            patch = status(guest)['hvp_gen1']
            assert patch['verified'] is True, patch
            assert {item['name'] for item in patch['functions']} == set(COLUMNS), patch
        assert_generation(guest, 0)
        lines.expect(*calls('hvp_gen1', ALL, 'pre_unpatch', 'post_unpatch'))


@case('check-OBJECTS-LOADED-OR-NOT')
def _(guest):
    with targets(guest, A), nothing_changes(guest):
        result = done(guest, 'check', guest.module('hvp_gen1'))
        assert result.json['applicable'] is True and result.json['replace'] is False, result
        assert {item['object'] for item in result.json['functions']} >= {'vmlinux', A}, result
        assert any(B in item['item'] + item['why'] for item in result.json['items']), result
        result = done(guest, 'check', guest.module('hvp_gen2'))
        assert result.json['replace'] is True, result


@case('a-module-nobody-loads-PATCHES-THE-REST')
def _(guest):
    with targets(guest, A):
        lines = Log(guest)
        with applied(guest, 'hvp_object_never') as result:
            assert_functions(guest, result, ('lcm',))
            assert_generation(guest, 0, False, lcm=8)
            assert coverage(guest, 'hvp_object_never') == \
                {'vmlinux': 'switch', 'hvp_target_never': 'waiting'}
        lines.expect(*calls('hvp_object_never', ('vmlinux',), 'pre_patch', 'post_patch',
                            'pre_unpatch', 'post_unpatch'))


# --- objects that come and go -------------------------------------------------

def come(guest, lines, name, number):
    """hvp_target_b is loaded while a patch is in force, with no hvpatch running."""
    load(guest, B)
    lines.expect(*calls(name, (B,), 'pre_patch', 'post_patch'),
                 f'{B}: init sees {number} {number} in 2 calls')
    assert_generation(guest, number)


def go(guest, lines, name, number):
    unload(guest, B)
    lines.expect(*calls(name, (B,), 'pre_unpatch', 'post_unpatch'))
    assert_generation(guest, number, b_loaded=False)


@case('b-loaded-later-NEW-BEFORE-ITS-INIT')
def _(guest):
    with targets(guest, A):
        lines = Log(guest)
        with applied(guest, 'hvp_gen1') as result:
            assert_functions(guest, result, [name for name, where in COLUMNS.items() if where != B])
            assert_generation(guest, 1, b_loaded=False)
            lines.expect(*calls('hvp_gen1', ('vmlinux', A), 'pre_patch', 'post_patch'))
            come(guest, lines, 'hvp_gen1', 1)
        lines.expect(*calls('hvp_gen1', ALL, 'pre_unpatch', 'post_unpatch'))
        assert_generation(guest, 0)


@case('b-comes-and-goes-NEW-EACH-TIME')
def _(guest):
    with targets(guest, A):
        lines = Log(guest)
        with applied(guest, 'hvp_gen1'):
            lines.expect(*calls('hvp_gen1', ('vmlinux', A), 'pre_patch', 'post_patch'))
            for _ in range(3):
                come(guest, lines, 'hvp_gen1', 1)
                go(guest, lines, 'hvp_gen1', 1)
        lines.expect(*calls('hvp_gen1', ('vmlinux', A), 'pre_unpatch', 'post_unpatch'))
        assert_generation(guest, 0, b_loaded=False)
        load(guest, B)
        lines.expect(f'{B}: init sees 0 0 in 2 calls')


@case('b-unloaded-while-patched-REVERTED')
def _(guest):
    with targets(guest, A, B):
        lines = Log(guest)
        with applied(guest, 'hvp_gen1'):
            lines.expect(*calls('hvp_gen1', ALL, 'pre_patch', 'post_patch'))
            go(guest, lines, 'hvp_gen1', 1)
            assert status(guest)['hvp_gen1']['verified'] is True
        lines.expect(*calls('hvp_gen1', ('vmlinux', A), 'pre_unpatch', 'post_unpatch'))
        assert_generation(guest, 0, b_loaded=False)


@case('a-comes-again-while-patched-NEW-THEN-REVERTED')
def _(guest):
    """The module that was switched goes: another one of its name is the guest core's."""
    with targets(guest, A):
        with applied(guest, 'hvp_gen1'):
            assert_generation(guest, 1, b_loaded=False)
            unload(guest, A)
            assert status(guest)['hvp_gen1']['verified'] is True
            load(guest, A, B)
            assert_generation(guest, 1)
            assert coverage(guest, 'hvp_gen1') == {'vmlinux': 'switch', A: 'core', B: 'core'}
        assert_generation(guest, 0)


@case('objects-gone-for-good-REVERTED')
def _(guest):
    load(guest, A, B)
    with applied(guest, 'hvp_gen1'):
        unload(guest, B, A)
    with targets(guest, A, B):
        assert_generation(guest, 0)


# --- replace ------------------------------------------------------------------

def replace(guest, lines, number, before):
    name = f'hvp_gen{number}'
    result = apply(guest, name)
    assert_functions(guest, result, NAMED[number])
    assert_generation(guest, number)
    # Of the replaced patch no callback runs, and its module goes.
    lines.expect(*calls(name, ALL, 'pre_patch', 'post_patch'))
    assert set(status(guest)) == {name}
    assert not before or before not in guest.loaded(), before


@case('replace-1-2-3-ONLY-NEW-CALLBACKS-OLD-MODULES-GONE')
def _(guest):
    with targets(guest, A, B), nothing_changes(guest):
        before, lines = entries(guest), Log(guest)
        replace(guest, lines, 1, None)
        replace(guest, lines, 2, 'hvp_gen1')
        replace(guest, lines, 3, 'hvp_gen2')
        # What the third does not name is, byte for byte, as before all of them.
        now = entries(guest)
        assert all(now[function] == before[function] for function in set(COLUMNS) - NAMED[3]), now
        revert(guest, 'hvp_gen3')
        assert_generation(guest, 0)
        lines.expect(*calls('hvp_gen3', ALL, 'pre_unpatch', 'post_unpatch'))


@case('replace-while-b-is-away-THEN-IT-COMES')
def _(guest):
    with targets(guest, A):
        apply(guest, 'hvp_gen1')
        apply(guest, 'hvp_gen2')
        lines = Log(guest)
        come(guest, lines, 'hvp_gen2', 2)
        go(guest, lines, 'hvp_gen2', 2)
        apply(guest, 'hvp_gen3')
        load(guest, B)
        # hvp_b_one is not named any more.
        assert_generation(guest, 3)
        revert(guest, 'hvp_gen3')
        assert_generation(guest, 0)


@case('no-replace-overlap-CONFLICT')
def _(guest):
    with targets(guest, A, B), applied(guest, 'hvp_gen1'):
        with nothing_changes(guest):
            result = guest.hvpatch('apply', guest.module('hvp_gen2'), '--no-replace')
            assert_refused(result, (REFUSED,), 'hvp_gen1')
            assert result.json['code'] == 'CONFLICT', result
        assert_generation(guest, 1)


@case('replace-asked-for-REPLACED')
def _(guest):
    with targets(guest, A, B):
        apply(guest, 'hvp_gen1')
        with applied(guest, 'hvp_alone_one', '--replace'):
            assert_generation(guest, 0, hvp_a_one=4)
            assert 'hvp_gen1' not in guest.loaded()
        assert_generation(guest, 0)


@case('overlap-in-a-module-CONFLICT-both-named')
def _(guest):
    with targets(guest, A), applied(guest, 'hvp_gen1'):
        with nothing_changes(guest):
            result = guest.hvpatch('apply', guest.module('hvp_alone_one'))
            assert_refused(result, (REFUSED,), 'hvp_a_one', 'hvp_gen1')
            assert result.json['code'] == 'CONFLICT', result
        assert_generation(guest, 1, b_loaded=False)
        assert set(status(guest)) == {'hvp_gen1'}


@case('independent-pair-REVERTED-IN-EITHER-ORDER')
def _(guest):
    with targets(guest, A), nothing_changes(guest):
        for first, second in (list(ALONE), list(ALONE)[::-1]):
            for name in ALONE:
                apply(guest, name)
            assert_generation(guest, 0, False, **ALONE[first], **ALONE[second])
            assert set(status(guest)) == set(ALONE)
            revert(guest, first)
            assert_generation(guest, 0, False, **ALONE[second])
            revert(guest, second)
            assert_generation(guest, 0, False)


# --- callbacks, states, shadow variables --------------------------------------

@case('pre_patch-of-a-module-refuses-NOTHING-CHANGES')
def _(guest):
    with targets(guest, A), nothing_changes(guest):
        lines = Log(guest)
        result = guest.hvpatch('apply', guest.module('hvp_object_refuse'))
        assert_refused(result, (REFUSED,), 'pre_patch', A)
        lines.expect('hvp_object_refuse: vmlinux pre_patch',
                     f'hvp_object_refuse: {A} pre_patch refuses',
                     'hvp_object_refuse: vmlinux post_unpatch')
        assert_generation(guest, 0, b_loaded=False)
        assert not status(guest)


def states(own, previous, *callbacks):
    """What the callbacks of hvp_stateOWN log."""
    return [f'hvp_state{own}: {A} {callback}: state {own} after {previous}'
            for callback in callbacks]


@case('states-beside-each-other-PREVIOUS-TOLD-TO-EACH-CALLBACK')
def _(guest):
    """A previous one is what came before and is in force, also for those that undo."""
    with targets(guest, A):
        lines = Log(guest)
        apply(guest, 'hvp_state2')
        apply(guest, 'hvp_state3')
        lines.expect(*states(2, 0, 'pre_patch', 'post_patch'),
                     *states(3, 2, 'pre_patch', 'post_patch'))
        revert(guest, 'hvp_state3')
        lines.expect(*states(3, 2, 'pre_unpatch', 'post_unpatch'))
        apply(guest, 'hvp_state3')
        revert(guest, 'hvp_state2')
        revert(guest, 'hvp_state3')
        lines.expect(*states(3, 2, 'pre_patch', 'post_patch'),
                     *states(2, 0, 'pre_unpatch', 'post_unpatch'),
                     *states(3, 0, 'pre_unpatch', 'post_unpatch'))
        assert_generation(guest, 0, False)


@case('states-PREVIOUS-TOLD-OLDER-AND-MISSING-REFUSED')
def _(guest):
    with targets(guest, A):
        lines = Log(guest)
        apply(guest, 'hvp_state1')
        lines.expect(*states(1, 0, 'pre_patch', 'post_patch'))
        apply(guest, 'hvp_state2')
        lines.expect(*states(2, 1, 'pre_patch', 'post_patch'))
        for name in ('hvp_state1', 'hvp_gen2'):
            with nothing_changes(guest):
                for command in ('check', 'apply'):
                    result = guest.hvpatch(command, guest.module(name))
                    assert result.status in (NOT_APPLICABLE, REFUSED), result
                    assert 'state' in result.stdout + result.stderr, result
        # It does not replace, so it need not carry the state.
        with applied(guest, 'hvp_alone_two'):
            assert_generation(guest, 0, False, hvp_a_one=22, hvp_a_two=5)
        revert(guest, 'hvp_state2')
        assert_generation(guest, 0, False)


@case('shadow-variable-SURVIVES-REPLACE')
def _(guest):
    with targets(guest, A):
        lines = Log(guest)
        apply(guest, 'hvp_shadow1')
        assert_generation(guest, 0, False, hvp_a_two=101)
        apply(guest, 'hvp_shadow2')
        assert_generation(guest, 0, False, hvp_a_two=102)
        revert(guest, 'hvp_shadow2')
        lines.expect(f'hvp_shadow1: {A} pre_patch: shadow made 100',
                     f'hvp_shadow1: {A} post_patch',
                     f'hvp_shadow2: {A} pre_patch: shadow found 100',
                     f'hvp_shadow2: {A} post_patch',
                     f'hvp_shadow2: {A} pre_unpatch',
                     f'hvp_shadow2: {A} post_unpatch: shadow freed')
        with applied(guest, 'hvp_shadow2'):
            assert_generation(guest, 0, False, hvp_a_two=202)


# --- who stands inside --------------------------------------------------------

@case('sleeper-in-a-module-BUSY-then-APPLIED')
def _(guest):
    path = guest.module('hvp_object_sleeper')
    with targets(guest, A):
        with nothing_changes(guest):
            pid = enter_sleep(guest)
            assert_busy(guest.hvpatch_in_vain('apply', path, '--no-prod')[0], pid, 'hvp_a_sleep')
            assert leave_sleep(guest) == '0'
        with applied(guest, 'hvp_object_sleeper'):
            pid = enter_sleep(guest)
            assert 'hvp_new_a_sleep' in guest.check(f'cat /proc/{pid}/stack')
            assert_busy(guest.hvpatch_in_vain('revert', 'hvp_object_sleeper', '--no-prod')[0], pid,
                        'hvp_new_a_sleep')
            assert leave_sleep(guest) == '6'


@case('sleeper-in-a-module-PRODDED-read-restarted')
def _(guest):
    with targets(guest, A):
        pid = enter_sleep(guest)
        with applied(guest, 'hvp_object_sleeper', '--timeout', '30'):
            # It was sent out before the switch; how soon it comes back is the guest's affair.
            guest.wait_for(f'grep -q hvp_new_a_sleep /proc/{pid}/stack')
            assert leave_sleep(guest) == '6'


# --- status -------------------------------------------------------------------

@case('status-TELLS-PER-OBJECT')
def _(guest):
    with targets(guest, A), applied(guest, 'hvp_gen1'):
        states = {'vmlinux': 'switch', A: 'switch'}
        assert coverage(guest, 'hvp_gen1') == {**states, B: 'waiting'}
        load(guest, B)
        assert coverage(guest, 'hvp_gen1') == {**states, B: 'core'}
        unload(guest, B)
        assert coverage(guest, 'hvp_gen1') == {**states, B: 'waiting'}


@case('tenant-disables-the-core-REPORTED')
def _(guest):
    with targets(guest, A):
        with applied(guest, 'hvp_gen1'):
            lines = Log(guest)
            guest.check('echo 0 > /sys/kernel/livepatch/hvp_gen1/enabled')
            guest.wait_for('[ ! -e /sys/kernel/livepatch/hvp_gen1 ]')
            assert coverage(guest, 'hvp_gen1') == \
                {'vmlinux': 'switch', A: 'switch', B: 'none'}
            # Our jumps lead into its text: it cannot go.
            time.sleep(0.5)
            assert guest.run('rmmod hvp_gen1')[0] != 0
            assert_generation(guest, 1, b_loaded=False)
        # The core has run what undoes its objects' callbacks; nobody runs that again.
        lines.expect(f'hvp_gen1: {A} post_unpatch', *calls('hvp_gen1', ('vmlinux',), 'pre_unpatch',
                                                           'post_unpatch'))
        assert_generation(guest, 0, b_loaded=False)


@case('replaced-by-the-guest-s-own-livepatch-REPORTED')
def _(guest):
    """The core's half of ours goes with it; what we switched is under it, and comes back."""
    with targets(guest, A):
        with applied(guest, 'hvp_gen1'):
            status, output = guest.insmod('hvp_gen2')
            assert status == 0, output
            guest.wait_transition('hvp_gen2')
            guest.wait_for('[ ! -e /sys/kernel/livepatch/hvp_gen1 ]')
            assert_generation(guest, 2, b_loaded=False)
            assert coverage(guest, 'hvp_gen1') == \
                {'vmlinux': 'switch', A: 'switch', B: 'none'}
            guest.disable_livepatch('hvp_gen2')
            assert_generation(guest, 1, b_loaded=False)
        assert_generation(guest, 0, b_loaded=False)


@case('core-held-up-by-a-thread-BUSY-and-nothing-left')
def _(guest):
    """The core waits for a kernel thread that does not rest: its transition is turned round."""
    with targets(guest, A), started(guest, 'spin'), nothing_changes(guest):
        result = guest.hvpatch('apply', guest.module('hvp_gen1'), '--timeout', '4')
        assert result.status == BUSY and result.json['code'] == 'BUSY', result
        assert 'recover' not in result.json['message'], result
        assert 'hvp_gen1' not in guest.loaded()
    assert guest.hvpatch('recover').json['recovered'] is False


# --- klp-build's format -------------------------------------------------------

def klp_build_case(name, number, objects):
    @case(f'{name}-format-{number}-APPLIED-REVERTED')
    def _(guest):
        path, functions = klp_build(guest, name, number), KLP_BUILD[name]
        with targets(guest, A), nothing_changes(guest):
            lines = Log(guest)
            result = done(guest, 'check', path)
            assert result.json['format'] == 'klp-build', result
            assert result.json['applicable'] is True, result
            assert {item['name'] for item in result.json['functions']} == set(functions), result
            result = done(guest, 'apply', path, '--timeout', '90')
            assert_functions(guest, result, functions)
            assert_generation(guest, 0, False, **functions)
            patch = status(guest)[name]
            assert patch['verified'] is True, patch
            assert {item['name'] for item in patch['functions']} == set(functions), patch
            revert(guest, name)
            lines.expect(*calls(name, objects, 'pre_patch', 'post_patch'),
                         *calls(name, objects, 'pre_unpatch', 'post_unpatch'))
            assert_generation(guest, 0, False)


for generation_of_format in (1, 2):
    klp_build_case('hvp_klp_build', generation_of_format, ('vmlinux', A))
    klp_build_case('hvp_klp_vmlinux', generation_of_format, ('vmlinux',))


# --- a storm ------------------------------------------------------------------

def persist(guest, *arguments):
    """A host that leaves hvpatch no CPU for a second has it roll back: once more."""
    for _ in range(STORM_TRIES - 1):
        result = guest.hvpatch(*arguments)
        if result.status not in (BUSY, ROLLED_BACK):
            assert result.status == DONE, result
            return
        print(f'# {" ".join(arguments[:1])}: {result.json["message"]}', flush=True)
    done(guest, *arguments)


def storm_round(guest, workload, b_moves):
    """Apply, two replaces, revert; hvp_target_b goes and comes again on the way.

    The workload sees each generation, however few turns of the CPU it gets.
    """
    persist(guest, 'apply', '--timeout', '90', guest.module('hvp_gen1'))
    workload.look()
    if b_moves:
        unload(guest, B)
    persist(guest, 'apply', '--timeout', '90', guest.module('hvp_gen2'))
    workload.look()
    if b_moves:
        load(guest, B)
    persist(guest, 'apply', '--timeout', '90', guest.module('hvp_gen3'))
    workload.look()
    persist(guest, 'revert', 'hvp_gen3', '--timeout', '90')
    workload.look()


# One CPU: a busy guest with two in one host thread takes a tenth of a second for each call from
# one CPU to another, and the core of 6.12 makes thousands of them in a transition.
@case('storm-under-load-NEVER-MIXED', options={'smp': 1},
      timeout=120 + STORM_ROUNDS * STORM_ROUND_SECONDS)
def _(guest):
    with targets(guest, A, B):
        workload = Workload(guest, 4, (0, 1, 2, 3), nice=NICE)
        for number in range(STORM_ROUNDS):
            storm_round(guest, workload, b_moves=number % 3 == 1)
            assert re.fullmatch(r'.* (?:0|-1) 0 0', guest.check('cat /proc/hvp_generation'))
            if (number + 1) % ROUNDS_BETWEEN_WORDS == 0:
                print(f'# {number + 1} rounds, {workload.so_far()}', flush=True)
        code, counts, text = workload.end()
        assert code == 0 and counts['reads'] > 1000 * STORM_ROUNDS, text
        assert counts['changes'] == 4 * STORM_ROUNDS, text
        assert all(f'generation {number} reads' in text for number in range(4)), text
        assert not [name for name in guest.loaded() if name.startswith('hvp_gen')]


if __name__ == '__main__':
    suite.main()
