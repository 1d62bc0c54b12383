#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a Linux guest's memory lies, told by its page tables, against what QEMU tells.

guess-ram (tests/tools) takes the registers of a guest under KVM from its vCPUs' threads; under
emulation there is nobody but the monitor to ask for them. All else it does without.
"""

import os
import re
import subprocess

from guest import hvpatch_path
from tap import Skip, Suite

suite = Suite('6.1', '6.12')

MEBIBYTE = 1 << 20
# From 640 KiB to 1 MiB: no layout has it.
LEGACY_BYTES = 0x60000
# What is told in 50 ms on a host that does nothing else.
MAX_USEC = 2000000


def guess(guest):
    folder = os.path.dirname(os.path.realpath(hvpatch_path()))
    program = os.path.join(folder, '..', 'tests', 'tools', 'guess-ram')
    if not os.path.exists(program):
        raise Skip('guess-ram is not beside the hvpatch under test')
    result = subprocess.run([program, guest.hvpatch_qmp_path], capture_output=True, text=True,
                            check=False, timeout=60)
    print(f'# {result.stdout.strip()}')
    assert result.returncode == 0, result
    return {name: int(number) for name, number in re.findall(r'(\w+) (\d+)', result.stdout)}


def resident_kib(guest):
    with open(f'/proc/{guest.pid}/status') as status:
        return int(re.search(r'^VmRSS:\s+(\d+)', status.read(), re.MULTILINE).group(1))


def check(guest, memory):
    guess(guest)
    before = resident_kib(guest)
    for _ in range(3):
        found = guess(guest)
        assert found['bytes'] == memory * MEBIBYTE - LEGACY_BYTES, found
        assert found['usec'] < MAX_USEC, found
    # The guest goes on and touches pages of its own; we none.
    assert resident_kib(guest) - before < 64 * 1024


@suite.case('default-SAME')
def _(guest):
    check(guest, 512)


@suite.case('busy-SAME')
def _(guest):
    guest.check('hvp_sleepers 200 pause > /dev/null 2>&1 &')
    guest.check('i=0; while [ $i -lt 50 ]; do /bin/true; i=$((i+1)); done > /dev/null 2>&1 &')
    try:
        check(guest, 512)
    finally:
        guest.run('killall hvp_sleepers')


@suite.case('shared-3-gigabytes-pc-SAME', options={'machine': 'pc', 'memory': 3072, 'shared': True})
def _(guest):
    check(guest, 3072)


@suite.case('3-gigabytes-q35-SAME', options={'machine': 'q35', 'memory': 3072})
def _(guest):
    check(guest, 3072)


@suite.case('5-gigabytes-pc-SAME', options={'machine': 'pc', 'memory': 5120})
def _(guest):
    check(guest, 5120)


@suite.case('no-kaslr-no-large-cpu-SAME', options={'append': 'nokaslr', 'cpu': 'qemu64'})
def _(guest):
    check(guest, 512)


@suite.case('isolated-tables-SAME', options={'append': 'pti=on'})
def _(guest):
    check(guest, 512)


NUMA = ('-object', 'memory-backend-ram,id=m0,size=256M', '-numa', 'node,memdev=m0',
        '-object', 'memory-backend-ram,id=m1,size=256M', '-numa', 'node,memdev=m1')


@suite.case('two-backends-SAME', options={'qemu_args': NUMA})
def _(guest):
    check(guest, 512)


if __name__ == '__main__':
    suite.main()
