#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The harness itself: what the other tests rest on."""

import os
import subprocess
import tempfile
import time

from guest import SCRIPT, Guest, assert_invariants
from tap import Suite

suite = Suite('6.1', '6.12')


@suite.case('commands-STATUS-AND-OUTPUT')
def _(guest):
    assert guest.run('echo out; echo err >&2; exit 3') == (3, 'out\nerr\n')
    assert guest.run('kill -9 $$') == (137, '')
    assert guest.run('printf "HVP 1 0 5\\nfalse"') == (0, 'HVP 1 0 5\nfalse')
    assert guest.run('echo before; sleep 60', timeout=3) == (124, 'before\n')
    assert guest.run('yes | head -c 5000000 | wc -c') == (0, '5000000\n')


@suite.case('background-command-DOES-NOT-HOLD-THE-CHANNEL')
def _(guest):
    started = time.monotonic()
    assert guest.run('sleep 60 & echo $! > /tmp/pid') == (0, '')
    assert time.monotonic() - started < 40
    guest.check('kill $(cat /tmp/pid)')


@suite.case('files-BYTE-FOR-BYTE')
def _(guest):
    for content in (b'', b'\0\r\n\x03\x04\x11\x13HVP 1 0 0\n\xff', os.urandom(100000)):
        guest.put('/tmp/file', content)
        assert guest.get('/tmp/file') == content


@suite.case('kernel-message-FOUND')
def _(guest):
    guest.check('echo "something broke" > /dev/kmsg')
    assert guest.new_dmesg() == ['something broke']
    try:
        assert_invariants(guest)
    except AssertionError as error:
        assert 'something broke' in str(error)
    else:
        raise AssertionError('not noticed')


@suite.case('paused-guest-NOTICED')
def _(guest):
    guest.qmp.execute('stop')
    assert not guest.alive(timeout=0.5)
    guest.expected_status = 'paused'
    assert_invariants(guest)
    guest.expected_status = 'running'
    try:
        assert_invariants(guest)
    except AssertionError as error:
        assert 'VM is paused' in str(error)
    else:
        raise AssertionError('not noticed')
    guest.qmp.execute('cont')
    # The guest now answers the late request first; its id tells it from the next one.
    assert guest.run('echo next') == (0, 'next\n')


@suite.case('kaslr-MOVES', kernels=('6.1',))
def _(guest):
    # One of some five hundred places each time: the same twice is no accident any more.
    for _ in range(2):
        with Guest(guest.kernel) as other:
            if other.symbol('_stext') != guest.symbol('_stext'):
                return
    raise AssertionError('three guests have their kernel at one place')


@suite.case('memory-READ-BY-ADDRESS')
def _(guest):
    address, = guest.symbol('linux_banner')
    assert guest.memory(address, 14) == b'Linux version '


@suite.case('shared-memory-four-cpus-extra-file', kernels=('6.12',),
            options={'shared': True, 'smp': 4, 'memory': 700, 'files': (f'{__file__}:/etc/extra',),
                     'append': 'hvp.mark=1'})
def _(guest):
    assert guest.check('nproc') == '4'
    assert 'hvp.mark=1' in guest.check('cat /proc/cmdline')
    with open(__file__, 'rb') as stream:
        assert guest.get('/etc/extra') == stream.read()
    with open(f'/proc/{guest.pid}/maps') as maps:
        assert any('memfd:memory-backend-memfd' in line and ' rw-s ' in line for line in maps)


@suite.case('unknown-kernel-REFUSED', guest=False)
def _():
    for name in ('2.2', 'no/such', '6.1.0-0-amd64'):
        result = subprocess.run([SCRIPT, 'fetch', name], capture_output=True, text=True,
                                check=False)
        assert result.returncode == 1 and result.stderr.startswith('scripts/guest: '), result
        assert 'Traceback' not in result.stderr, result.stderr


@suite.case('stdio-console-POWERS-OFF', guest=False)
def _():
    with tempfile.TemporaryFile() as console:
        console.write(b'uname -r\npoweroff -f\n')
        console.seek(0)
        result = subprocess.run([SCRIPT, 'boot', '6.1', '--append', 'quiet'], stdin=console,
                                capture_output=True, timeout=180, check=False)
    assert result.returncode == 0 and b'-amd64' in result.stdout, result


if __name__ == '__main__':
    suite.main()
