#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Living beside the guest's own tools: ftrace, kprobes and livepatch, before and after hvpatch.

Each case ends with the runner's look at the kernel log: no ftrace_bug, no WARN, ever.
"""

import contextlib
import re

from guest import LIVEPATCH_NOTES
from stands import HOTPLUG_NOTES
from tap import PATCHING_ITSELF, Suite

suite = Suite('6.1', '6.12', **PATCHING_ITSELF)

DONE, NOT_APPLICABLE, BUSY, REFUSED = 0, 3, 4, 5
OLD, NEW = 'cmdline_proc_show', 'hvp_cmdline_proc_show'
NEW_TEXT = 'hvpatch was here'
TRACING = '/sys/kernel/tracing'
READS = 5
ONLINE = '/sys/devices/system/cpu/cpu1/online'


def text(guest):
    return guest.check('cat /proc/cmdline')


def settings(guest, *lines):
    """Shell lines with the tracing folder as the current one."""
    guest.check(f'cd {TRACING}; set -e; ' + '; '.join(lines))


@contextlib.contextmanager
def tracer(guest, name, *functions):
    """A tracer on these functions (none: all); the trace starts empty."""
    settings(guest, *(f'echo {function} >> set_ftrace_filter' for function in functions),
             f'echo {name} > current_tracer', 'echo > trace')
    yield
    settings(guest, 'echo nop > current_tracer', 'echo > set_ftrace_filter', 'echo > trace')


def add_filter(guest, function):
    settings(guest, f'echo {function} >> set_ftrace_filter')


def hits(guest, function):
    """Reads /proc/cmdline some times; returns how many lines of the trace name the function."""
    settings(guest, 'echo > trace')
    guest.check(f'for i in $(seq {READS}); do cat /proc/cmdline; done')
    trace = guest.check(f'cat {TRACING}/trace')
    return len(re.findall(rf'(?<!\w){function}(?!\w)', calls_only(trace)))


def calls_only(trace):
    """What was called: without the header and the callers behind '<-'."""
    lines = [line for line in trace.splitlines() if not line.startswith('#')]
    return '\n'.join(line.partition('<-')[0] for line in lines)


@contextlib.contextmanager
def probe(guest, definition):
    """An enabled kprobe event named hvp_probe."""
    settings(guest, f'echo "{definition}" > kprobe_events', 'echo > trace',
             'echo 1 > events/kprobes/hvp_probe/enable')
    yield
    settings(guest, 'echo 0 > events/kprobes/hvp_probe/enable', 'echo > kprobe_events',
             'echo > trace')


@contextlib.contextmanager
def same_text(guest):
    before = guest.entry(OLD, 64)
    yield
    after = guest.entry(OLD, 64)
    assert after == before, (before.hex(), after.hex())


def assert_refused(result, statuses, *words):
    assert result.status in statuses, result
    said = result.stdout + result.stderr
    assert all(word in said for word in words), (words, result)


def done(guest, *arguments):
    result = guest.hvpatch(*arguments)
    assert result.status == DONE, result


def site_offset(guest):
    """Where the jump goes: behind the fentry slot, which is behind an ENDBR where there is one."""
    return 5 if guest.entry(OLD, 5) == bytes.fromhex('0f1f440000') else 9


# --- ftrace ------------------------------------------------------------------

@suite.case('function-tracer-after-apply-SEES-BOTH')
def _(guest):
    with same_text(guest), guest.applied('hvp_cmdline'):
        with tracer(guest, 'function', OLD, NEW):
            assert (hits(guest, OLD), hits(guest, NEW)) == (READS, READS)
            assert text(guest) == NEW_TEXT
            assert guest.hvpatch('status').json['patches'][0]['verified'] is True
        assert text(guest) == NEW_TEXT


@suite.case('function-tracer-before-apply-STAYS-through-revert')
def _(guest):
    with same_text(guest), tracer(guest, 'function', OLD):
        assert hits(guest, OLD) == READS
        with guest.applied('hvp_cmdline'):
            assert hits(guest, OLD) == READS
            add_filter(guest, NEW)
            assert (hits(guest, OLD), hits(guest, NEW)) == (READS, READS)
            assert text(guest) == NEW_TEXT
        assert hits(guest, OLD) == READS
        assert text(guest) != NEW_TEXT


@suite.case('every-function-traced-APPLIED-and-REVERTED')
def _(guest):
    with same_text(guest), tracer(guest, 'function'):
        with guest.applied('hvp_cmdline'):
            assert text(guest) == NEW_TEXT
        assert text(guest) != NEW_TEXT


@suite.case('tracer-comes-and-goes-between-APPLIED')
def _(guest):
    """The slot is the guest's: a call when traced at apply, a NOP at revert, and the other way."""
    with same_text(guest):
        with tracer(guest, 'function', OLD):
            done(guest, 'apply', guest.module('hvp_cmdline'))
        assert text(guest) == NEW_TEXT
        with tracer(guest, 'function', OLD):
            done(guest, 'revert', 'hvp_cmdline')
        assert text(guest) != NEW_TEXT


def graph_names(guest):
    settings(guest, 'echo > trace')
    guest.check('cat /proc/cmdline')
    return calls_only(guest.check(f'cat {TRACING}/trace'))


@suite.case('function-graph-after-apply-SEES-BOTH')
def _(guest):
    with same_text(guest), guest.applied('hvp_cmdline'):
        with tracer(guest, 'function_graph', OLD, NEW):
            trace = graph_names(guest)
            assert re.search(rf'\b{OLD}\(', trace) and re.search(rf'\b{NEW}\b', trace), trace
            for _ in range(20):
                assert text(guest) == NEW_TEXT


@suite.case('function-graph-before-apply-STAYS-through-revert')
def _(guest):
    with same_text(guest), tracer(guest, 'function_graph', OLD):
        with guest.applied('hvp_cmdline'):
            assert re.search(rf'\b{OLD}\(', graph_names(guest))
            assert text(guest) == NEW_TEXT
        assert re.search(rf'\b{OLD}\(', graph_names(guest))


@suite.case('graph-of-every-function-APPLIED-or-NAMED', timeout=180, fresh=True)
def _(guest):
    """Sleeping tasks have return_to_handler on their stacks, where the unwinder has to look up the
    real return address; a tool that cannot has to say so, and must change nothing. They have it
    until they wake, even when the tracer is off: a guest of its own."""
    with same_text(guest), tracer(guest, 'function_graph'):
        guest.check('sleep 1')
        result = guest.hvpatch('apply', guest.module('hvp_cmdline'), '--timeout', '20')
        assert result.status in (DONE, BUSY), result
        if result.status == BUSY:
            assert {task['reason'] for task in result.json['blockers']} == {'UNRELIABLE'}, result
            assert text(guest) != NEW_TEXT and 'hvp_cmdline' not in guest.loaded()
        else:
            done(guest, 'revert', 'hvp_cmdline')


# --- kprobes -----------------------------------------------------------------

def probe_after_case(title, definition):
    @suite.case(f'{title}-after-apply-HITS')
    def _(guest):
        with same_text(guest), guest.applied('hvp_cmdline'):
            with probe(guest, definition):
                assert hits(guest, 'hvp_probe') == READS
                assert text(guest) == NEW_TEXT
            assert text(guest) == NEW_TEXT


probe_after_case('kprobe-on-old-entry', f'p:hvp_probe {OLD}')
probe_after_case('kprobe-on-new-entry', f'p:hvp_probe {NEW}')
probe_after_case('kretprobe-on-old', f'r:hvp_probe {OLD}')


def probe_before_case(title, definition):
    @suite.case(f'{title}-before-apply-STAYS-through-revert')
    def _(guest):
        with same_text(guest), probe(guest, definition):
            assert hits(guest, 'hvp_probe') == READS
            with guest.applied('hvp_cmdline'):
                assert hits(guest, 'hvp_probe') == READS
                assert text(guest) == NEW_TEXT
            assert hits(guest, 'hvp_probe') == READS
            assert text(guest) != NEW_TEXT


probe_before_case('kprobe-on-entry', f'p:hvp_probe {OLD}')
probe_before_case('kretprobe', f'r:hvp_probe {OLD}')


def kprobes(guest):
    return guest.check('cat /sys/kernel/debug/kprobes/list')


def probe_in_site_case(state, *lines):
    @suite.case(f'{state}-kprobe-in-the-bytes-to-be-replaced-REFUSED')
    def _(guest):
        where = f'{OLD}+{site_offset(guest)}'
        with probe(guest, f'p:hvp_probe {where}'):
            if lines:
                settings(guest, *lines)
            assert OLD in kprobes(guest)
            with same_text(guest):
                for command in ('check', 'apply'):
                    result = guest.hvpatch(command, guest.module('hvp_cmdline'), *(
                        () if command == 'check' else ('--timeout', '5')))
                    assert_refused(result, (NOT_APPLICABLE, REFUSED), 'kprobe', OLD)
            assert 'hvp_cmdline' not in guest.loaded()
        with same_text(guest), guest.applied('hvp_cmdline'):
            assert text(guest) == NEW_TEXT


probe_in_site_case('enabled')
probe_in_site_case('disabled', 'echo 0 > events/kprobes/hvp_probe/enable')
probe_in_site_case('optimised', 'sleep 1')


@suite.case('kprobe-on-our-jump-revert-REFUSED-until-it-goes')
def _(guest):
    offset = site_offset(guest)
    with same_text(guest):
        done(guest, 'apply', guest.module('hvp_cmdline'))
        with probe(guest, f'p:hvp_probe {OLD}+{offset}'):
            assert hits(guest, 'hvp_probe') == READS
            with same_text(guest):
                result = guest.hvpatch('revert', 'hvp_cmdline', '--timeout', '5')
                assert result.status in (NOT_APPLICABLE, BUSY, REFUSED), result
                assert OLD in result.stdout + result.stderr, result
            assert text(guest) == NEW_TEXT
        done(guest, 'revert', 'hvp_cmdline')
        assert text(guest) != NEW_TEXT


# --- the guest's own livepatch -----------------------------------------------

@suite.case('livepatched-by-the-guest-first-REFUSED', allow=LIVEPATCH_NOTES)
def _(guest):
    assert guest.insmod('hvp_overlap')[0] == 0
    guest.wait_transition('hvp_overlap')
    with same_text(guest):
        for command in ('check', 'apply'):
            result = guest.hvpatch(command, guest.module('hvp_cmdline'))
            assert_refused(result, (NOT_APPLICABLE, REFUSED), OLD)
            assert re.search('IPMODIFY|livepatch', result.stdout + result.stderr), result
        assert text(guest) == 'hvpatch overlap'
    guest.disable_livepatch('hvp_overlap')
    with same_text(guest), guest.applied('hvp_cmdline'):
        assert text(guest) == NEW_TEXT


@suite.case('livepatched-elsewhere-by-the-guest-APPLIED', allow=LIVEPATCH_NOTES)
def _(guest):
    """The guest's livepatch of another function is no hindrance."""
    assert guest.insmod('hvp_second')[0] == 0
    guest.wait_transition('hvp_second')
    with same_text(guest), guest.applied('hvp_cmdline'):
        assert text(guest) == NEW_TEXT
        assert guest.check('cat /proc/execdomains') == 'hvpatch second'
    assert guest.check('cat /proc/execdomains') == 'hvpatch second'
    guest.disable_livepatch('hvp_second')


@suite.case('livepatched-by-the-guest-afterwards-THE-GUEST-WINS', allow=LIVEPATCH_NOTES)
def _(guest):
    """The guest's livepatch acts in the fentry slot, which comes before our jump: its code runs
    while it is enabled, ours again when it is disabled. Our bytes stay where they are, so status
    still verifies them."""
    with same_text(guest):
        done(guest, 'apply', guest.module('hvp_cmdline'))
        assert guest.insmod('hvp_overlap')[0] == 0
        guest.wait_transition('hvp_overlap')
        assert text(guest) == 'hvpatch overlap'
        status = guest.hvpatch('status')
        assert status.status == DONE, status
        assert [patch['name'] for patch in status.json['patches']] == ['hvp_cmdline'], status
        guest.disable_livepatch('hvp_overlap')
        assert text(guest) == NEW_TEXT
        assert guest.hvpatch('status').json['patches'][0]['verified'] is True
        done(guest, 'revert', 'hvp_cmdline')
        assert text(guest) != NEW_TEXT


@suite.case('reverted-under-the-guest-s-livepatch-EITHER-WAY-RIGHT', allow=LIVEPATCH_NOTES)
def _(guest):
    """Revert below an enabled livepatch of the same function: done or refused, but never mixed."""
    with same_text(guest):
        done(guest, 'apply', guest.module('hvp_cmdline'))
        assert guest.insmod('hvp_overlap')[0] == 0
        guest.wait_transition('hvp_overlap')
        result = guest.hvpatch('revert', 'hvp_cmdline', '--timeout', '5')
        assert result.status in (DONE, BUSY, REFUSED), result
        assert text(guest) == 'hvpatch overlap'
        guest.disable_livepatch('hvp_overlap')
        if result.status != DONE:
            assert text(guest) == NEW_TEXT
            done(guest, 'revert', 'hvp_cmdline')
        assert text(guest) != NEW_TEXT
        assert 'hvp_cmdline' not in guest.loaded()


@suite.case('guest-transition-unfinished-APPLIED-or-NAMED', allow=LIVEPATCH_NOTES)
def _(guest):
    """A sleeper keeps the guest's own transition open; another function is patched meanwhile."""
    guest.check('mkfifo /tmp/fifo; cat /tmp/fifo >/dev/null 2>&1 & echo $! > /tmp/pid')
    guest.wait_in('$(cat /tmp/pid)', 'wait_for_partner')
    assert guest.insmod('hvp_sleeper')[0] == 0
    assert guest.check('cat /sys/kernel/livepatch/hvp_sleeper/transition') == '1'
    with same_text(guest):
        result = guest.hvpatch('apply', guest.module('hvp_cmdline'), '--timeout', '5')
        assert result.status in (DONE, BUSY, REFUSED), result
        if result.status == DONE:
            assert text(guest) == NEW_TEXT
            done(guest, 'revert', 'hvp_cmdline')
        else:
            assert 'transition' in result.stdout + result.stderr, result
    guest.check('echo > /tmp/fifo; rm /tmp/fifo')
    guest.wait_transition('hvp_sleeper')
    guest.disable_livepatch('hvp_sleeper')


# --- CPUs that come and go -----------------------------------------------------

@suite.case('cpu-goes-and-comes-APPLIED-and-REVERTED', allow=HOTPLUG_NOTES)
def _(guest):
    """Applied with the CPU away and reverted with it there, and the other way round."""
    def online(value):
        guest.check(f'echo {value} > {ONLINE}')

    for at_apply, at_revert in ((0, 1), (1, 0)):
        with same_text(guest):
            online(at_apply)
            done(guest, 'apply', guest.module('hvp_cmdline'))
            online(at_revert)
            assert {guest.check(f'taskset {mask} cat /proc/cmdline')
                    for mask in range(1, 2 + 2 * at_revert)} == {NEW_TEXT}
            done(guest, 'revert', 'hvp_cmdline')
            online(1)


if __name__ == '__main__':
    suite.main()
