#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""All of it: a patch that goes through hvpatchd and its worker into a Linux guest of libvirt's,
and an hvpatchd that is killed in the middle. $HVPATCH_WORKER names a worker of another build.
"""

import contextlib
import os
import sys
import time

from core import HERE, Bus, Core, build_file, until

sys.path.append(os.path.join(HERE, '..', 'vm'))
from libvirt import URI, LibvirtGuest, main  # pylint: disable=wrong-import-position
from tap import Skip, Suite  # pylint: disable=wrong-import-position

MODULE = 'hvp_cmdline'
SECONDS = 180.0
suite = Suite('6.1', guest_class=LibvirtGuest)


@contextlib.contextmanager
def core_of(guest):
    """A core that knows the guest as "guest", once it has been looked at."""
    worker = os.environ.get('HVPATCH_WORKER') or build_file('hv-patcher', 'hvpatch-worker')
    if not os.path.exists(worker):
        raise Skip('hvpatch-worker is not built')
    with Bus() as bus, Core(bus, uri=URI, worker=worker) as core:
        core.uuid = lambda name: guest.uuid
        until(lambda: core.domain('guest')['seen_at'], 'look', SECONDS)
        yield core


def patches(core):
    """What is in force, as the guest was seen last; None: it is being looked at."""
    domain = core.domain('guest')
    if domain['operation'] or domain['patches'] is None:
        return None
    return [patch['name'] for patch in domain['patches']]


@suite.case('check-apply-revert', timeout=400)
def _(guest):
    with core_of(guest) as core:
        patch, _ = core.upload_file(guest.module(MODULE))
        for verb, state, expected in (('check', 'checked', []), ('apply', 'applied', [MODULE]),
                                      ('revert', 'reverted', [])):
            operation = core.wait_end(core.start('guest', verb, patch=patch['sha256']), SECONDS)
            assert operation['state'] == state, operation
            until(lambda expected=expected: patches(core) == expected, f'{expected}', SECONDS)
        assert 'hvpatch_pause_seconds_count 2' in core.metrics()


@suite.case('core-killed-in-the-middle-ENDS', timeout=600)
def _(guest):
    with core_of(guest) as core:
        sha256 = core.upload_file(guest.module(MODULE))[0]['sha256']
        for delay in (0.1, 0.4, 0.8):
            operation = core.start('guest', 'apply', patch=sha256)
            time.sleep(delay)
            core.kill()
            core.run()
            ended = core.wait_end(operation, SECONDS)
            assert ended['state'] in ('applied', 'rolled-back', 'failed'), ended
            in_force = [MODULE] if ended['state'] == 'applied' else []
            until(lambda expected=in_force: patches(core) == expected, f'{in_force}', SECONDS)
            print(f'# killed after {delay} s: {ended["state"]}')
            if in_force:
                ended = core.wait_end(core.start('guest', 'revert', patch=sha256), SECONDS)
                assert ended['state'] == 'reverted', ended


if __name__ == '__main__':
    main(suite)
