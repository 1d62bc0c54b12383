#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a running hvpatchd makes of another configuration: a good one at once, a bad one not at all.
"""

import os
import shutil
import socket
import sys
import tempfile
import time

from core import ADMIN, HERE, INTERFACE, NAME, PATH, Signer, core_with, refused, until

import gi

gi.require_version('GLib', '2.0')
from gi.repository import GLib  # pylint: disable=wrong-import-position,wrong-import-order

sys.path.append(os.path.join(HERE, '..', 'vm'))
from tap import Skip, Suite  # pylint: disable=wrong-import-position

suite = Suite()
TAKEN, KEPT = 'the configuration was read again', 'the configuration stays as it was'
VIEWER = '[role viewer]\nprincipals=cert:viewer\nverbs=view\ndomains=*\n'
OPERATOR = '[role operator]\nprincipals=cert:operator\nverbs=*\ndomains=web-*\n'


def case(name, timeout=60.0):
    return suite.case(name, guest=False, timeout=timeout)


def reconfigure(core, config='', roles=ADMIN):
    core.write_config(config, roles)
    told = core.reload()
    assert TAKEN in told, told
    return told


def write(core, text):
    with open(core.config, 'w', encoding='utf-8') as file:
        file.write(text)


@case('roles-TAKEN-and-GIVEN')
def _():
    with core_with(domains=['web-1', 'db-1'], roles=ADMIN + VIEWER) as core:
        assert len(core.domains('cert:viewer')) == 2
        refused('FORBIDDEN', core.domains, 'cert:operator')
        reconfigure(core, roles=ADMIN + OPERATOR)
        refused('FORBIDDEN', core.domains, 'cert:viewer')
        assert [one['name'] for one in core.domains('cert:operator')] == ['web-1']
        said = [event['document']['message'] for event in core.events()[0]
                if event['type'] == 'daemon']
        assert said[-1] == 'reloaded', said
        # Others of its kind: who may say for whom he asks.
        core.write_config('', ADMIN)
        with open(core.config, encoding='utf-8') as file:
            write(core, file.read().replace('[api]\nuser=0\n', ''))
        assert TAKEN in core.reload()
        refused('FORBIDDEN', core.domains, 'uid:0')
        assert len(core.domains()) == 2


def listen(core):
    """What is heard, and what waits for something that is."""
    heard = []
    core.connection.signal_subscribe(NAME, INTERFACE, 'Event', PATH, None, 0,
                                     lambda *values: heard.append(values))

    def hears(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not heard:
            GLib.MainContext.default().iteration(False)
            time.sleep(0.01)
        return heard
    core.events()
    return heard, hears


@case('direct-listeners-STAY')
def _():
    with core_with() as core:
        with open(core.config, encoding='utf-8') as file:
            write(core, file.read().replace('[api]\nuser=0\n', ''))
        assert TAKEN in core.reload()
        heard, hears = listen(core)
        assert TAKEN in core.reload()
        while not heard or 'reloaded' not in heard[-1][-1].unpack()[1]:
            heard.clear()
            assert hears(5)
        heard.clear()
        core.upload()
        assert hears(5)


@case('api-listens-when-it-has-ASKED-ANEW')
def _():
    with core_with() as core:
        heard, hears = listen(core)
        core.upload()
        assert hears(5)
        reconfigure(core)
        # That it was read again is the last that he hears by what held before.
        assert hears(1)
        while 'reloaded' not in heard[-1][-1].unpack()[1]:
            heard.clear()
            assert hears(5)
        heard.clear()
        core.upload('kpatch')
        assert not hears(0.5)
        core.events()
        core.upload(7)
        assert hears(5)


@case('operations-at-work-GO-ON')
def _():
    roles = ADMIN + OPERATOR
    with core_with(domains=['web-1', 'web-2'], config='workers=1\n', roles=roles) as core:
        sha256 = core.upload()
        core.script('apply', wait='go')
        first = core.start('web-1', 'apply', patch=sha256, principal='cert:operator')
        until(lambda: core.jobs('apply'), 'a worker')
        second = core.start('web-2', 'apply', patch=sha256, principal='cert:operator')
        assert core.operation(second)['state'] == 'queued'
        # Neither his right nor that to use the patch is there any more.
        reconfigure(core, 'workers=1\nunsigned=refuse\n')
        refused('NOT_FOUND', core.start, 'web-2', 'recover', principal='cert:operator')
        core.go()
        assert core.wait_end(first)['state'] == 'applied'
        ended = core.wait_end(second)
        assert (ended['state'], ended['error']['code']) == ('failed', 'PERMISSION'), ended


@case('more-workers-BEGIN-what-waits')
def _():
    with core_with(domains=['web-1', 'web-2', 'web-3'], config='workers=1\n') as core:
        sha256 = core.upload()
        for verb in ('apply', 'check'):
            core.script(verb, wait='go')
        operations = [core.start(name, verb, patch=sha256)
                      for name, verb in (('web-1', 'apply'), ('web-2', 'apply'),
                                         ('web-3', 'check'))]
        until(lambda: len(core.jobs('apply')) == 1, 'a worker')
        reconfigure(core, 'workers=3\nmax-stopped=1\n')
        until(lambda: core.jobs('check'), 'another worker')
        assert len(core.jobs('apply')) == 1
        reconfigure(core, 'workers=3\nmax-stopped=2\n')
        until(lambda: len(core.jobs('apply')) == 2, 'a third worker')
        core.go()
        for operation in operations:
            assert core.wait_end(operation)['state'] in ('applied', 'checked')
        reconfigure(core, 'max-pause=5\n')
        refused('PERMISSION', core.start, 'web-1', 'apply', patch=sha256,
                options={'max_pause': 6})
        assert core.wait_end(core.start('web-1', 'apply', patch=sha256,
                                        options={'max_pause': 5}))['state'] == 'applied'


@case('broken-files-REFUSED-by-line')
def _():
    with core_with(domains=['web-1'], roles=VIEWER + ADMIN) as core:
        with open(core.config, encoding='utf-8') as file:
            good = file.read()
        core.write_config('', ADMIN)
        with open(core.config, encoding='utf-8') as file:
            without = file.read()
        # Without a right that is there, so that it shows if any of it were taken.
        last = len(without.splitlines())
        for added, line, why in (
                ('nonsense\n', 1, 'nonsense'),
                ('# fine\n\n[core]\nworkers=many\n', 4,
                 "[core] workers: 'many' is no whole number between 1 and 64"),
                ('[core]\ndrain=1\n[core]\ndrain = x\n', 4, '[core] drain'),
                ('[api]\nuser=0\nport=1\n', 3, '[api] port: there is no such key'),
                ('[api]\n  user=no-such-user-at-all\n', 2, 'there is no user'),
                ('[api]\nuser=\\q\n', 2, '[api] user: no UTF-8, or a backslash'),
                ('[key a]\nminisign=x\nnot-after=\\q\n', 3, '[key a] not-after'),
                ('[key a]\nnot-after=soon\nminisign=x\n', 2, '[key a] not-after'),
                ('[key a]\n', 1, '[key a] minisign: either this or a certificate'),
                ('\n[key a]\nminisign=RWQnonsense\n', 2, '[key a]'),
                ('[key a]\ncertificate=/no/such/file.pem\n', 1, '/no/such/file.pem'),
                ('[role b]\nprincipals=uid:0\nverbs=fly\n', 1, "'fly' is no verb"),
                ('\n[rule b]\n', 2, '[rule b]: there is no such group')):
            write(core, without + added)
            told = core.reload()
            assert KEPT in told and f'{core.config}:{last + line}: ' in told, (added, told)
            assert why in told and told.count('\n') < 4, (added, told)
            assert len(core.domains('cert:viewer')) == 1
        os.unlink(core.config)
        told = core.reload()
        assert KEPT in told and core.config in told, told
        assert len(core.domains('cert:viewer')) == 1
        write(core, good)
        assert TAKEN in core.reload() and len(core.domains('cert:viewer')) == 1


@case('state-and-connection-STAY')
def _():
    with core_with() as core:
        sha256 = core.upload()
        with open(core.config, encoding='utf-8') as file:
            text = file.read()
        write(core, text.replace(core.state, '/nowhere').replace(core.uri, 'test:///default'))
        told = core.reload()
        assert TAKEN in told and '[core] state: another one is taken at the next' in told, told
        assert '[core] uri: another one' in told, told
        assert core.wait_end(core.start('web-1', 'apply', patch=sha256))['state'] == 'applied'
        assert not os.path.exists('/nowhere')


@case('key-removed-patches-REFUSED')
def _():
    if not shutil.which('minisign'):
        raise Skip('minisign is missing')
    with core_with() as core:
        signer = Signer(core.folder, 'vendor')
        with_key = 'unsigned=refuse\n' + signer.config
        path = core.module()
        signature = signer.sign(path)
        reconfigure(core, 'unsigned=refuse\n')
        refused('PERMISSION', core.upload_file, path, signature)
        reconfigure(core, with_key)
        sha256 = core.upload_file(path, signature)[0]['sha256']
        for config, state in ((with_key, 'applied'), ('unsigned=refuse\n', 'failed'),
                              ('unsigned=allow\n', 'failed'), (with_key, 'applied')):
            reconfigure(core, config)
            ended = core.wait_end(core.start('web-1', 'apply', patch=sha256))
            assert ended['state'] == state, (config, ended)
            assert state == 'applied' or ended['error']['code'] == 'PERMISSION', ended


@case('systemd-TOLD')
def _():
    with tempfile.TemporaryDirectory() as folder, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        path = os.path.join(folder, 'notify')
        notify.bind(path)
        notify.settimeout(10)

        def told(word):
            while True:
                message = notify.recv(4096).decode()
                if word in message:
                    return message
        with core_with(environment={'NOTIFY_SOCKET': path}) as core:
            told('STATUS=ready')
            core.reload()
            assert 'MONOTONIC_USEC=' in told('RELOADING=1')
            assert told('READY=1') == 'READY=1\nSTATUS=ready'
            write(core, '[core]\nworker=1\n')
            core.reload()
            told('RELOADING=1')
            assert f'STATUS={KEPT}: {core.config}:2: ' in told('READY=1')


if __name__ == '__main__':
    suite.main()
