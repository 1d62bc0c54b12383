#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatchd with a real libvirtd: domains that come, reboot and go, and a libvirtd that does."""

import os
import sys
import time

from core import HERE, Bus, Core, until

sys.path.append(os.path.join(HERE, '..', 'vm'))
from libvirt import URI, daemon, main, missing, virsh  # pylint: disable=wrong-import-position
from tap import Skip, Suite  # pylint: disable=wrong-import-position

# Of no use but to be there.
IDLE = ("<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>16</memory>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>")
# Long before libvirt is asked without a reason.
SOON = 8.0
suite = Suite()


def case(name):
    def register(function):
        def run():
            if missing():
                raise Skip(missing())
            daemon.ensure()
            function()
        return suite.case(name, guest=False, timeout=180.0)(run)
    return register


class Domain:
    """An idle one that runs."""

    def __init__(self, core, name):
        self.name = name
        self._path = os.path.join(core.folder, name + '.xml')
        with open(self._path, 'w', encoding='utf-8') as file:
            file.write(IDLE.format(name=name, uuid=core.uuid(name)))

    def __enter__(self):
        virsh('create', self._path)
        return self

    def __exit__(self, *_):
        daemon.ensure()
        virsh('destroy', self.name, check=False)


def names(core):
    return [domain['name'] for domain in core.domains()]


@case('domain-that-comes-and-goes-SEEN')
def _():
    with Bus() as bus, Core(bus, uri=URI) as core:
        assert names(core) == []
        with Domain(core, 'idle') as domain:
            until(lambda: names(core) == ['idle'], 'domain', SOON)
            assert core.domain('idle')['state'] == 'running'
            until(lambda: core.domain('idle')['seen_at'], 'look', SOON)
            virsh('suspend', domain.name)
            until(lambda: core.domain('idle')['state'] == 'paused', 'pause', SOON)
            virsh('resume', domain.name)
            until(lambda: core.domain('idle')['state'] == 'running', 'resume', SOON)
            count = len(core.jobs('look'))
            virsh('reset', domain.name)
            until(lambda: len(core.jobs('look')) == count + 1, 'look behind a reset', SOON)
        until(lambda: names(core) == [], 'end', SOON)
        last = [event for event in core.events()[0] if event['type'] == 'domain'][-1]
        assert (last['id'], last['document']) == (core.uuid('idle'), None)


@case('libvirtd-that-dies-and-comes-back-UNKNOWN-then-running')
def _():
    with Bus() as bus, Core(bus, uri=URI) as core, Domain(core, 'idle'):
        until(lambda: names(core) == ['idle'], 'domain', SOON)
        until(lambda: core.domain('idle')['seen_at'], 'look', SOON)
        daemon.kill()
        until(lambda: core.domain('idle')['state'] == 'unknown', 'loss', 30)
        # What was seen is shown still, and everybody is answered.
        assert core.domain('idle')['kernel']
        daemon.start()
        until(lambda: core.domain('idle')['state'] == 'running', 'return', 30)


@case('libvirtd-that-hangs-OTHERS-answered')
def _():
    with Bus() as bus, Core(bus, uri=URI) as core, Domain(core, 'idle'):
        until(lambda: names(core) == ['idle'], 'domain', SOON)
        daemon.freeze()
        try:
            core.call('RefreshDomain', 's', core.uuid('idle'))
            slowest = 0.0
            for _ in range(100):
                begin = time.monotonic()
                core.domains()
                slowest = max(slowest, time.monotonic() - begin)
                time.sleep(0.01)
            assert slowest < 0.5, slowest
            operation = core.wait_end(core.start('idle', 'recover'))
            assert operation['state'] == 'recovered', operation
            core.terminate()
            assert core.process.wait(timeout=10) == 0
        finally:
            daemon.thaw()


@case('libvirtd-that-comes-later-READY')
def _():
    daemon.kill()
    with Bus() as bus:
        core = Core(bus, uri=URI)
        try:
            core.run(wait=False)
            time.sleep(1)
            assert core.process.poll() is None
            daemon.start()
            until(core.is_ready, 'readiness', 30)
            with Domain(core, 'idle'):
                until(lambda: names(core) == ['idle'], 'domain', 15)
        finally:
            core.kill()


if __name__ == '__main__':
    main(suite)
