#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest threads caught by spin traps instead of breakpoints, beside others that come by them.

Every case of the other scripts can be run so: HVPATCH_TRAP=spin.
"""

import contextlib

from tap import Suite

suite = Suite('6.1', '6.12')

DONE = 0
ROUNDS = 4
# Where a trap is written: behind the fentry slot, which is the first or the second thing.
TRAPPED = ('vmstat_shepherd', 'extfrag_for_order', 'irq_enter_rcu', 'klp_enable_patch',
           'arch_do_signal_or_restart')
SPIN = b'\xeb\xfe'
CALLBACK_LINES = (r'hvp_callbacks: (pre|post)_(un)?patch',)


def entries(guest):
    return {name: guest.entry(name) for name in TRAPPED if guest.symbol(name)}


@contextlib.contextmanager
def spinning(guest):
    """Traps of hvpatch are spin traps; at the end the text of all of them is as before."""
    before = entries(guest)
    assert not any(text[offset:offset + 2] == SPIN for text in before.values()
                   for offset in (5, 9)), before
    guest.trap = 'spin'
    try:
        yield
    finally:
        guest.trap = None
    assert entries(guest) == before


def rounds(guest, module, count=ROUNDS):
    for _ in range(count):
        with guest.applied(module):
            pass


@contextlib.contextmanager
def in_background(guest, *commands):
    """Shell commands that run until the end; each writes to /tmp/failed where it fails."""
    guest.check('rm -f /tmp/failed; touch /tmp/on')
    pids = [guest.check(f'(while [ -e /tmp/on ]; do {command}; done) > /dev/null 2>&1 & echo $!')
            for command in commands]
    yield
    guest.check('rm /tmp/on')
    # The last round of each counts as well.
    for pid in pids:
        guest.wait_gone(pid)
    assert guest.run('cat /tmp/failed')[0] != 0, guest.check('cat /tmp/failed')


@suite.case('hvp_callbacks-APPLIED-REVERTED', allow=CALLBACK_LINES)
def _(guest):
    with spinning(guest):
        rounds(guest, 'hvp_callbacks', 2)


@suite.case('others-load-modules-meanwhile-PASS', allow=(r'hvp_target_a: .*',))
def _(guest):
    """They come by the hooks in load_module and delete_module, and are let past them."""
    other = guest.put_file(guest.module('hvp_target_a'))
    with spinning(guest), in_background(
            guest, f'insmod {other} || echo insmod >> /tmp/failed; '
                   'rmmod hvp_target_a || echo rmmod >> /tmp/failed'):
        rounds(guest, 'hvp_cmdline')
    guest.wait_for('! grep -q ^hvp_target_a /proc/modules')


@suite.case('others-get-signals-meanwhile-PASS')
def _(guest):
    """They come by the place where those that are sent out of their sleep are held."""
    guest.check('hvp_sleepers 6 nanosleep > /tmp/sleepers 2>&1 & echo $! > /tmp/pid')
    guest.wait_for('grep -q ready /tmp/sleepers')
    signals = 'sh -c "trap : USR1; i=0; while [ \\$i -lt 50 ]; do kill -USR1 \\$\\$; ' \
              'i=\\$((i+1)); done" || echo signal >> /tmp/failed'
    with spinning(guest), in_background(guest, signals, signals, signals):
        rounds(guest, 'hvp_nanosleep', 2)
    guest.check('kill $(cat /tmp/pid)')
    guest.wait_for('! pidof hvp_sleepers')


@suite.case('preempted-where-they-stand-PASS', fresh=True, options={'append': 'preempt=full'},
            timeout=240)
def _(guest):
    """More busy tasks than CPUs, in a kernel that puts off whoever spins for long."""
    guest.check('hvp_load 6 > /dev/null 2>&1 & echo $! > /tmp/pid')
    other = guest.put_file(guest.module('hvp_target_a'))
    with spinning(guest), in_background(
            guest, f'insmod {other} || echo insmod >> /tmp/failed; '
                   'rmmod hvp_target_a || echo rmmod >> /tmp/failed'):
        rounds(guest, 'hvp_cmdline')
    guest.check('kill $(cat /tmp/pid)')


if __name__ == '__main__':
    suite.main()
