#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What hvpatch says of a real domain by itself and over the daemon: the same bytes.

The daemon is all of it: hvpatchd on a bus of its own, its worker, and hvpatch-apid, which has to
tell the same of what was done. And recovery of all domains, as the daemon's service does it.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
import uuid

from guest import hvpatch_path
from libvirt import URI, LibvirtGuest, main, virsh
from tap import Skip, Suite

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path += [os.path.join(HERE, '..', 'fault'), os.path.join(HERE, '..', 'daemon')]
try:
    from core import Bus, Core, build_file, until
    from frontend import FrontEnd
    MISSING = None
except (ImportError, ValueError) as error:
    MISSING = str(error)
from scene import Scene, injecting  # pylint: disable=wrong-import-position

DONE, NEEDS_OPERATOR, MODULE = 0, 7, 'hvp_cmdline'
LOOK_SECONDS = 120.0
# No kernel is in there.
EMPTY = ("<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>16</memory>"
         "<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>")
LIE = '{"result":{"done":"so they say"},"exit":0,"error":null}'
# Times and addresses of what is loaded differ from one run to the next.
VARIES = re.compile(r'0x[0-9a-f]+|[0-9]+\.[0-9]+ s|\b[0-9]+ attempts?|\b[0-9]+\b')
# A message at once. A worker that ends without its job is a lost one.
TAKE_JOB = 'dd bs=65536 count=1 <&3 >/dev/null 2>&1'
BUSY_ANSWER = ('{"exit":4,"result":null,'
               '"error":{"code":"BUSY","message":"a keeper is at it","retry":true}}')

suite = Suite('6.1', guest_class=LibvirtGuest)


@contextlib.contextmanager
def daemon_of(guest):
    """A core that has looked at the guest."""
    if MISSING:
        raise Skip(MISSING)
    programs = [build_file('hv-patcher', *names) for names in (
        ('hvpatchd',), ('hvpatch-worker',), ('apid', 'hvpatch-apid'))]
    for program in programs:
        if not os.path.exists(program):
            raise Skip(f'{program} is not built')
    with Bus() as bus, Core(bus, uri=URI, worker=programs[1]) as core:
        core.uuid = lambda name: guest.uuid
        core.api = programs[2]
        until(lambda: core.domain('guest')['seen_at'], 'look', LOOK_SECONDS)
        yield core


def run(guest, *arguments, output='json', core=None):
    """By this guest's name, over the daemon where there is a core: a process that has ended."""
    where = {'HVPATCH_BUS': core.bus.address} if core else {}
    options = () if core else ('--direct',)
    return subprocess.run([hvpatch_path(), '-d', guest.name, '-o', output, *options, *arguments],
                          capture_output=True, text=True, check=False, timeout=120,
                          env={**os.environ, 'HVPATCH_ORACLE': 'none', **where})


def shown(result):
    return result.returncode, result.stdout, result.stderr


def shape(result):
    """Where columns begin depends on what varies."""
    return result.returncode, VARIES.sub('*', result.stdout).split(), VARIES.sub('*', result.stderr)


def begun(core):
    """How many operations there were."""
    return len(core.operations())


def assert_same(guest, core, *arguments):
    """JSON byte for byte, and the table as well, of a command that says the same each time."""
    for output in ('json', 'table'):
        before = begun(core)
        over = run(guest, *arguments, output=output, core=core)
        assert begun(core) == before + (arguments[0] != 'status'), 'it went another way'
        itself = run(guest, *arguments, output=output)
        assert shown(over) == shown(itself), (shown(over), shown(itself))
    return over


@suite.case('check-recover-and-refusals-SAME_BYTES', timeout=300)
def _(guest):
    with daemon_of(guest) as core:
        assert assert_same(guest, core, 'check', guest.module(MODULE)).returncode == DONE
        assert assert_same(guest, core, 'check', guest.module('hvp_missing')).returncode != DONE
        assert assert_same(guest, core, 'recover').returncode == DONE
        over, itself = (run(guest, 'revert', 'hvp_nothing', core=way) for way in (core, None))
        assert over.returncode != DONE and shape(over) == shape(itself), (over, itself)


@suite.case('apply-status-revert-SAME', timeout=300)
def _(guest):
    steps = ('apply', guest.module(MODULE)), ('revert', MODULE)
    with daemon_of(guest) as core:
        for output in ('json', 'table'):
            assert_same(guest, core, 'status')
            for verb, argument in steps:
                itself = run(guest, verb, argument, output=output)
                assert itself.returncode == DONE, itself
                # What was done is undone, so that the other way does it as well.
                opposite = steps[1 - (verb == 'revert')]
                assert run(guest, *opposite).returncode == DONE
                over = run(guest, verb, argument, output=output, core=core)
                assert shape(over) == shape(itself), (over, itself)
                assert_same(guest, core, 'status')


@suite.case('apid-tells-what-hvpatch-SAYS', timeout=300)
def _(guest):
    with daemon_of(guest) as core, FrontEnd(core.api, core.bus.address) as api:
        for verb, argument in (('apply', guest.module(MODULE)), ('revert', MODULE)):
            said = json.loads(run(guest, verb, argument, core=core).stdout)
            newest = api.ask('GET', '/v1/operations').json[0]
            assert (newest['verb'], newest['result']) == (verb, said), (newest, said)


@suite.case('look-at-what-stands-or-has-no-kernel-SAME_BYTES', timeout=300)
def _(guest):
    empty = types.SimpleNamespace(name='hvp-empty', uuid=str(uuid.uuid4()))
    with open(guest.path('empty.xml'), 'w') as stream:
        stream.write(EMPTY.format(name=empty.name, uuid=empty.uuid))
    with daemon_of(guest) as core:
        virsh('suspend', guest.name)
        virsh('create', guest.path('empty.xml'))
        try:
            until(lambda: core.domain('guest')['state'] == 'paused', 'pause')
            assert_same(guest, core, 'status')
            until(lambda: len(core.domains()) == 2, 'domain')
            assert assert_same(empty, core, 'status').returncode != DONE
        finally:
            virsh('destroy', empty.name)
            virsh('resume', guest.name)


@suite.case('domain-by-number-uuid-and-uri-OVER_THE_DAEMON', timeout=300)
def _(guest):
    with daemon_of(guest) as core:
        for options in (('-d', guest.id), ('-d', guest.uuid.upper()),
                        ('-c', 'qemu:///system', '-d', guest.name)):
            before = begun(core)
            result = subprocess.run([hvpatch_path(), *options, 'recover'], capture_output=True,
                                    text=True, check=False,
                                    env={**os.environ, 'HVPATCH_BUS': core.bus.address})
            assert result.stdout == 'nothing to recover\n' and begun(core) == before + 1, result


def leave_begun(guest):
    """What killed ones leave of an apply."""
    scene = Scene(guest)
    tool = scene.start(scene.command('apply'), keeper_trace=injecting('writev', 8, 'SIGSTOP'))
    keeper = scene.wait_frozen(lambda: tool.poll() is None and scene.keeper_pid())
    with contextlib.suppress(ProcessLookupError):
        tool.kill()
        os.kill(keeper, signal.SIGKILL)
    scene.finish(tool)
    return scene


def recover_all(guest, worker=None):
    """As the daemon's service does it: how the command ended, what it says of the guest, and how
    many workers were started. WORKER is a shell's command in its place; $REAL is the real one.
    """
    path, started = guest.path('worker'), guest.path('started')
    with open(path, 'w') as stream:
        stream.write(f'#!/bin/sh\necho $$ >> {started}\n{worker or "exec $REAL"}\n')
    os.chmod(path, 0o755)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(started)
    real = os.path.join(os.path.dirname(hvpatch_path()), 'hvpatch-worker')
    result = subprocess.run([hvpatch_path(), '-o', 'json', '--direct', 'recover', '--all'],
                            capture_output=True, text=True, check=False, timeout=120,
                            env={**os.environ, 'HVPATCH_WORKER': path, 'REAL': real})
    domain, = json.loads(result.stdout)['domains']
    assert domain['domain'] == guest.name and domain['uuid'] == guest.uuid, domain
    with open(started) as stream:
        return result, domain, len(stream.readlines())


@suite.case('all-killed-RECOVERED_WITH_ALL', timeout=240)
def _(guest):
    scene = leave_begun(guest)
    result, domain, workers = recover_all(guest)
    assert result.returncode == DONE and domain['recovered'] is True, result
    assert workers == 1 and result.stderr == '', result
    started = time.monotonic()
    result = subprocess.run([hvpatch_path(), 'recover', '--all'], capture_output=True, text=True,
                            check=False, timeout=120)
    assert result.stdout == 'nothing to recover\n', result
    assert time.monotonic() - started < 5
    scene.assert_healthy(leftover_allowed=True)
    assert guest.state() == 'running'


@suite.case('all-killed-worker-lost-LEFT_ALONE', timeout=240)
def _(guest):
    scene = leave_begun(guest)
    # By the guest, for all that anybody knows: it does not get to be parsed by root for that.
    result, domain, workers = recover_all(guest, 'kill -SEGV $$')
    assert (result.returncode, domain['code']) == (NEEDS_OPERATOR, 'INCONSISTENT'), result
    assert domain['recovered'] is False and 'signal 11' in domain['message'], domain
    assert workers == 2, workers
    # Nor where the second cannot be confined any more.
    result, domain, workers = recover_all(
        guest, f'test $(wc -l < {guest.path("started")}) = 2 && exit 127; kill -SEGV $$')
    assert (result.returncode, domain['code']) == (NEEDS_OPERATOR, 'INCONSISTENT'), result
    assert workers == 2, workers
    # What one says is believed, and nobody looks behind it.
    result, domain, workers = recover_all(guest, f"{TAKE_JOB}; printf '{LIE}' >&3")
    assert (result.returncode, domain['done'], workers) == (DONE, 'so they say', 1), result
    result, domain, workers = recover_all(guest)
    assert (result.returncode, domain['recovered'], workers) == (DONE, True, 1), result
    scene.assert_healthy(leftover_allowed=True)


@suite.case('all-killed-worker-busy-TRIED_AGAIN', timeout=240)
def _(guest):
    scene = leave_begun(guest)
    busy = f"{TAKE_JOB}; printf '{BUSY_ANSWER}' >&3"
    # Not for ever: the daemon, which waits for this, tries longer.
    result, domain, workers = recover_all(guest, busy)
    assert (domain['code'], domain['recovered'], workers) == ('BUSY', False, 4), (workers, result)
    assert 'a keeper is at it' in domain['message'], domain
    started = guest.path('started')
    result, domain, workers = recover_all(
        guest, f'test $(wc -l < {started}) -lt 3 && {{ {busy}; exit; }}; exec $REAL')
    assert (result.returncode, domain['recovered'], workers) == (DONE, True, 3), result
    scene.assert_healthy(leftover_allowed=True)


@suite.case('all-killed-worker-not-to-be-confined-RECOVERED_WITH_ALL', timeout=240)
def _(guest):
    for worker in ('exit 127', 'exec setpriv --bounding-set=-setuid $REAL'):
        scene = leave_begun(guest)
        result, domain, workers = recover_all(guest, worker)
        assert (result.returncode, domain['recovered'], workers) == (DONE, True, 1), result
        assert 'is recovered without a sandbox' in result.stderr, result
        scene.assert_healthy(leftover_allowed=True)


if __name__ == '__main__':
    main(suite)
