#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What hvpatch says of a real domain by itself and over the daemon: the same bytes.

The daemon is a scripted one (tests/unit/cli/fake-core.c), whose results are what hvpatch printed
when it did the same itself. And recovery of all domains, as the daemon's service does it.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

from guest import hvpatch_path
from libvirt import LibvirtGuest, main
from tap import Skip, Suite

sys.path.append(os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'fault'))
from scene import Scene, injecting  # pylint: disable=wrong-import-position

DONE = 0
OPERATION = '0f9b3c8a-0000-4000-8000-00000000000a'
# Times and addresses of what is loaded differ from one run to the next.
VARIES = re.compile(r'0x[0-9a-f]+|[0-9]+\.[0-9]+ s|[0-9]+ (us|tasks|attempts?)')

suite = Suite('6.1', guest_class=LibvirtGuest)


def quoted(document):
    return json.dumps(json.dumps(document))


class Bus:
    """A bus with a scripted daemon; its address in environment."""

    def __init__(self, guest, verb, result, domain=None):
        build = os.path.dirname(os.path.dirname(os.path.realpath(hvpatch_path())))
        fake = os.path.join(build, 'tests', 'unit', 'cli', 'fake-core')
        if not os.path.exists(fake) or not shutil.which('dbus-daemon'):
            raise Skip('dbus-daemon, or fake-core beside the hvpatch under test, is missing')
        self._bus = subprocess.Popen(['dbus-daemon', '--session', '--nofork', '--print-address'],
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.environment = {'HVPATCH_BUS': self._bus.stdout.readline().strip()}
        path = guest.path('script.json')
        with open(path, 'w') as stream:
            json.dump(script(guest, verb, result, domain), stream)
        self._core = subprocess.Popen([fake, self.environment['HVPATCH_BUS'], path],
                                      stdout=subprocess.PIPE, text=True)
        assert self._core.stdout.readline() == 'ready\n'

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._core.kill()
        calls = self._core.stdout.read()
        self._bus.kill()
        for process in (self._core, self._bus):
            process.stdout.close()
            process.wait()
        assert calls and 'UNEXPECTED' not in calls, calls


def script(guest, verb, result, domain):
    operation = {'version': 1, 'id': OPERATION, 'state': 'failed', 'step': '', 'result': result}
    looked = {'seq': 2, 'type': 'domain', 'id': guest.uuid, 'document': domain}
    entry = {'uuid': guest.uuid, 'name': guest.name, 'state': 'running'}
    replies = [('ListDomains', f'({quoted([entry])},)')]
    if verb == 'status':
        replies += [('GetEvents', '("[]", uint64 1, uint64 1)'), ('RefreshDomain', '()'),
                    ('GetEvents', f'({quoted([looked])}, uint64 1, uint64 2)')]
    else:
        replies += [('UploadPatch', '("{}", true)')] if verb in ('check', 'apply') else []
        replies += [('StartOperation', f'({quoted(operation)}, true)')]
    return [{'method': method, 'reply': reply} for method, reply in replies]


def run(guest, *arguments, output='json', direct=False, environment=None):
    """By this guest's name; a finished process with text output."""
    options = ('--direct',) if direct else ()
    return subprocess.run([hvpatch_path(), '-d', guest.name, '-o', output, *options, *arguments],
                          capture_output=True, text=True, check=False, timeout=120,
                          env={**os.environ, 'HVPATCH_ORACLE': 'none', **(environment or {})})


def shown(result):
    return result.returncode, result.stdout, result.stderr


def seen(result):
    """The domain's document with what status said."""
    return {'kernel': {}, 'seen_at': '2999-01-01T00:00:00Z', 'patches': [
        {**patch, 'cves': []} for patch in json.loads(result.stdout)['patches']]}


def assert_same(guest, *arguments):
    """JSON byte for byte, and the table as well, of a command that says the same each time."""
    verb = arguments[0]
    itself = run(guest, *arguments, direct=True)
    said = json.loads(itself.stdout)
    domain = seen(itself) if verb == 'status' else None
    table = run(guest, *arguments, direct=True, output='table')
    for output, expected in (('json', itself), ('table', table)):
        with Bus(guest, verb, said, domain) as bus:
            result = run(guest, *arguments, output=output, environment=bus.environment)
        assert shown(result) == shown(expected), (shown(result), shown(expected))
    return itself


@suite.case('check-and-recover-SAME_BYTES')
def _(guest):
    assert assert_same(guest, 'check', guest.module('hvp_cmdline')).returncode == DONE
    assert assert_same(guest, 'check', guest.module('hvp_missing')).returncode != DONE
    assert assert_same(guest, 'recover').returncode == DONE
    assert assert_same(guest, 'revert', 'hvp_nothing').returncode != DONE


@suite.case('apply-status-revert-SAME_BYTES')
def _(guest):
    assert_same(guest, 'status')
    for verb, argument in (('apply', guest.module('hvp_cmdline')), ('revert', 'hvp_cmdline')):
        itself = run(guest, verb, argument, direct=True)
        assert itself.returncode == DONE, itself
        with Bus(guest, verb, json.loads(itself.stdout)) as bus:
            result = run(guest, verb, argument, environment=bus.environment)
        assert shown(result) == shown(itself), (result, itself)
        if verb == 'apply':
            assert_same(guest, 'status')
            # It is in force already: that says the same each time.
            run(guest, 'revert', 'hvp_cmdline', direct=True)
            table = run(guest, verb, argument, direct=True, output='table')
            with Bus(guest, verb, json.loads(itself.stdout)) as bus:
                result = run(guest, verb, argument, output='table', environment=bus.environment)
            assert VARIES.sub('*', result.stdout).split() == VARIES.sub('*', table.stdout).split()


@suite.case('domain-by-number-uuid-and-uri-OVER_THE_DAEMON')
def _(guest):
    itself = json.loads(run(guest, 'recover', direct=True).stdout)
    for options in (('-d', guest.id), ('-d', guest.uuid.upper()),
                    ('-c', 'qemu:///system', '-d', guest.name)):
        with Bus(guest, 'recover', {**itself, 'done': 'over the daemon'}) as bus:
            result = subprocess.run([hvpatch_path(), *options, 'recover'], capture_output=True,
                                    text=True, check=False,
                                    env={**os.environ, **bus.environment})
        assert result.stdout == 'over the daemon\n', result


@suite.case('all-killed-RECOVERED_WITH_ALL', timeout=240)
def _(guest):
    scene = Scene(guest)
    tool = scene.start(scene.command('apply'), keeper_trace=injecting('writev', 8, 'SIGSTOP'))
    keeper = scene.wait_frozen(lambda: tool.poll() is None and scene.keeper_pid())
    with contextlib.suppress(ProcessLookupError):
        tool.kill()
        os.kill(keeper, signal.SIGKILL)
    scene.finish(tool)
    result = subprocess.run([hvpatch_path(), '-o', 'json', '--direct', 'recover', '--all'],
                            capture_output=True, text=True, check=False, timeout=120)
    domain, = json.loads(result.stdout)['domains']
    assert result.returncode == DONE and domain['recovered'] is True, result
    assert domain['domain'] == guest.name and domain['uuid'] == guest.uuid, domain
    started = time.monotonic()
    result = subprocess.run([hvpatch_path(), 'recover', '--all'], capture_output=True, text=True,
                            check=False, timeout=120)
    assert result.stdout == 'nothing to recover\n', result
    assert time.monotonic() - started < 5
    scene.assert_healthy(leftover_allowed=True)
    assert guest.state() == 'running'


if __name__ == '__main__':
    main(suite)
