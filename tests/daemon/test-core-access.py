#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may do and see what through hvpatchd's D-Bus: by role, by uid, by polkit's word.
"""

import contextlib
import json
import os
import subprocess
import sys
import time

from core import ADMIN, HERE, core_with, refused, switched, until

import gi

gi.require_version('Gio', '2.0')
from gi.repository import Gio, GLib  # pylint: disable=wrong-import-position,wrong-import-order

sys.path.append(os.path.join(HERE, '..', 'vm'))
from tap import Skip, Suite  # pylint: disable=wrong-import-position


# Nobody: a bus wants to know its users' names.
STRANGER = 65534
suite = Suite()


def case(name, timeout=60.0):
    """Who is nobody else cannot call as somebody else."""
    def register(function):
        def run():
            if os.geteuid() != 0:
                raise Skip('needs root')
            function()
        return suite.case(name, guest=False, timeout=timeout)(run)
    return register


# --- who may ---

ROLES = """
[role viewer]
principals=cert:viewer
verbs=view
domains=*
[role operator]
principals=cert:operator
verbs=view;check;apply;cancel
domains=web-*
[role uploader]
principals=cert:uploader
verbs=upload;delete;metrics
domains=
"""
SOME = '[role some]\nprincipals=cert:uploader\nverbs=view\ndomains=web-1\n'
METHODS = {
    'ListDomains': (), 'GetDomain': ('web-1',), 'RefreshDomain': ('web-1',), 'ListPatches': (),
    'ListOperations': ('',), 'GetEvents': (0, 10), 'GetMetrics': (),
    'MayUpload': (),
}


def call_named(core, method, arguments, principal='', as_user=None):
    signature = {'GetEvents': 'tu'}.get(method, 's' * len(arguments))
    arguments = [core.uuid(value) if value in core.names else value for value in arguments]
    if as_user is None:
        return core.call(method, signature, *arguments, principal=principal)
    return core.call_as(as_user, method, signature, *arguments, principal=principal)


@case('roles-TABLE')
def _():
    allowed = {
        'cert:viewer': {'ListDomains', 'GetDomain', 'RefreshDomain', 'ListPatches',
                        'ListOperations', 'GetEvents'},
        'cert:operator': {'ListDomains', 'GetDomain', 'RefreshDomain', 'ListPatches',
                          'ListOperations', 'GetEvents'},
        'cert:uploader': {'GetMetrics', 'MayUpload'}, 'cert:nobody': set(), 'uid:0': set(),
    }
    with core_with(domains=['web-1', 'db-1'], roles=ROLES) as core:
        for principal, methods in allowed.items():
            for method, arguments in METHODS.items():
                if method in methods:
                    call_named(core, method, arguments, principal)
                    continue
                code = 'NOT_FOUND' if 'Domain' in method and arguments else 'FORBIDDEN'
                refused(code, call_named, core, method, arguments, principal)
        sha256 = core.upload_file(core.module(), principal='cert:uploader')[0]['sha256']
        refused('FORBIDDEN', core.upload_file, core.module(), principal='cert:operator')
        refused('FORBIDDEN', core.start, 'web-1', 'apply', patch=sha256, principal='cert:viewer')
        refused('FORBIDDEN', core.start, 'web-1', 'revert', name='a', principal='cert:operator')
        refused('NOT_FOUND', core.start, 'db-1', 'apply', patch=sha256, principal='cert:operator')
        refused('NOT_FOUND', core.start, 'web-1', 'apply', patch=sha256,
                principal='cert:uploader')
        operation = core.wait_end(core.start('web-1', 'apply', patch=sha256,
                                             principal='cert:operator'))
        assert operation['principal'] == 'cert:operator'
        refused('NOT_FOUND', core.call, 'CancelOperation', 's', operation['id'],
                principal='cert:uploader')
        refused('FORBIDDEN', core.call, 'CancelOperation', 's', operation['id'],
                principal='cert:viewer')


@case('apply-that-replaces-FORBIDDEN')
def _():
    roles = ROLES + '[role replacer]\nprincipals=cert:replacer\nverbs=replace\ndomains=web-*\n'
    with core_with(roles=roles + ADMIN) as core:
        sha256 = core.upload()
        request = {'patch': sha256, 'options': {'replace': True}}
        refused('FORBIDDEN', core.start, 'web-1', 'apply', principal='cert:operator', **request)
        core.wait_end(core.start('web-1', 'check', principal='cert:operator', **request))
        for verb, principal, replace in (('apply', 'cert:replacer', True),
                                         ('apply', 'cert:operator', False),
                                         ('apply', 'cert:operator', None),
                                         ('replace', 'cert:replacer', None)):
            request['options']['replace'] = replace
            ended = core.wait_end(core.start('web-1', verb, principal=principal, **request))
            assert ended['state'] == 'applied', ended


@case('metrics-and-delete-name-no-domain-of-OTHERS')
def _():
    with core_with(domains=['web-1', 'db-1'], roles=ROLES + ADMIN) as core:
        sha256 = core.upload()
        core.script('look', result=switched(sha256))
        for name in core.names:
            core.call('RefreshDomain', 's', core.uuid(name))
            until(lambda name=name: core.domain(name)['patches'], 'look')

        def metrics(principal):
            text = core.call('GetMetrics', '', principal=principal)[0]
            assert 'hvpatch_domains 2\n' in text and 'hvpatch_patched_domains 2\n' in text
            return [name for name in core.names if f'domain="{name}"' in text], text
        assert metrics('')[0] == ['web-1', 'db-1']
        named, text = metrics('cert:uploader')
        assert not named and not any(core.uuid(name) in text for name in core.names), text
        core.write_config('', ROLES + ADMIN + SOME)
        core.reload()
        assert metrics('cert:uploader')[0] == ['web-1']
        for name, code, seen in (('db-1', 'CONFLICT', False), ('web-1', 'BUSY', True)):
            core.script('check', wait=name)
            running = core.start(name, 'check', patch=sha256)
            problem = refused(code, core.call, 'DeletePatch', 's', sha256,
                              principal='cert:uploader')
            assert problem['status'] == 409 and (running['id'] in json.dumps(problem)) is seen
            core.go(name)
            core.wait_end(running)


@case('nobody-sees-OTHERS')
def _():
    with core_with(domains=['web-1', 'db-1'], roles=ROLES) as core:
        sha256 = core.upload()
        hidden = core.wait_end(core.start('db-1', 'apply', patch=sha256))
        core.wait_end(core.start('web-1', 'apply', patch=sha256))
        assert [one['name'] for one in core.domains('cert:operator')] == ['web-1']
        assert [one['domain_name'] for one in core.operations('cert:operator')] == ['web-1']
        text = json.dumps(core.events(principal='cert:operator')[0])
        assert 'web-1' in text and 'db-1' not in text and core.uuid('db-1') not in text
        refused('NOT_FOUND', core.call, 'GetOperation', 's', hidden['id'],
                principal='cert:operator')
        # The same answer, word for word, as for what there is not.
        there = refused('NOT_FOUND', core.call, 'GetDomain', 's', core.uuid('db-1'),
                        principal='cert:operator')
        assert there == refused('NOT_FOUND', core.call, 'GetDomain', 's', core.uuid('none'),
                                principal='cert:operator')


@case('strangers-DENIED')
def _():
    with core_with() as core:
        for method, arguments in METHODS.items():
            code = 'NOT_FOUND' if 'Domain' in method and arguments else 'FORBIDDEN'
            refused(code, call_named, core, method, arguments, as_user=STRANGER)
            refused('FORBIDDEN', call_named, core, method, arguments, 'uid:0', STRANGER)
            refused('FORBIDDEN', call_named, core, method, arguments, 'cert:viewer', STRANGER)
        refused('NOT_FOUND', core.call_as, STRANGER, 'StartOperation', 'sss', core.uuid('web-1'),
                '{"verb":"recover"}', '')
        for principal in ('uid:', 'uid:00', 'root', 'cert:', 'cert:a\nb', 'x' * 300):
            refused('UNAUTHENTICATED', core.call, 'ListDomains', '', principal=principal)


@case('role-of-a-user-on-the-bus-ALLOWED')
def _():
    roles = f'[role a]\nprincipals=uid:{STRANGER}\nverbs=view\ndomains=web-?\n'
    with core_with(domains=['web-1', 'db-1'], roles=roles) as core:
        domains = json.loads(core.call_as(STRANGER, 'ListDomains', '')[0])
        assert [one['name'] for one in domains] == ['web-1']
        refused('FORBIDDEN', core.call_as, STRANGER, 'GetMetrics', '')


@contextlib.contextmanager
def fake_polkit(core, answers):
    path = os.path.join(core.folder, 'answers')
    with open(path, 'w', encoding='utf-8') as file:
        json.dump({f'org.hvpatch1.{verb}': answer for verb, answer in answers.items()}, file)
    process = subprocess.Popen([os.path.join(HERE, 'fake-polkit.py'), core.bus.address, path])
    until(lambda: core.connection.call_sync(
        'org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus', 'NameHasOwner',
        GLib.Variant('(s)', ('org.freedesktop.PolicyKit1',)), None, Gio.DBusCallFlags.NONE, 1000,
        None).unpack()[0], 'polkit')
    try:
        yield path + '.asked'
    finally:
        process.kill()
        process.wait()


@case('polkit-ASKED')
def _():
    with core_with(system_bus=True) as core:
        # Nobody answers: no.
        refused('FORBIDDEN', core.call_as, STRANGER, 'ListDomains', '')
        with fake_polkit(core, {'view': 'yes', 'check': 'no', 'recover': 'yes'}) as asked:
            domains = json.loads(core.call_as(STRANGER, 'ListDomains', '')[0])
            assert len(domains) == 1
            start = [STRANGER, 'StartOperation', 'sss', core.uuid('web-1')]
            core.call_as(*start, '{"verb":"recover"}', '')
            refused('FORBIDDEN', core.call_as, *start,
                    json.dumps({'verb': 'check', 'patch': 'a' * 64}), '')
            refused('FORBIDDEN', core.call_as, STRANGER, 'GetMetrics', '')
            # For others nobody speaks, whatever polkit thinks of him.
            refused('FORBIDDEN', core.call_as, STRANGER, 'ListDomains', '', principal='uid:0')
            with open(asked, encoding='utf-8') as file:
                questions = [json.loads(line) for line in file]
            assert questions[0][:2] == ['system-bus-name', 'org.hvpatch1.view']
            assert questions[1][2] == {'domain': 'web-1', 'uuid': core.uuid('web-1')}
            # Nor is polkit asked about principals.
            count = len(questions)
            refused('FORBIDDEN', core.call, 'ListDomains', '', principal='uid:77')
            with open(asked, encoding='utf-8') as file:
                assert len(file.readlines()) == count


@case('polkit-silent-DENIED')
def _():
    with core_with(system_bus=True) as core, fake_polkit(core, {'view': 'hang'}):
        begin = time.monotonic()
        refused('FORBIDDEN', core.call_as, STRANGER, 'ListDomains', '')
        assert 10 < time.monotonic() - begin < 20
        assert len(core.domains()) == 1


# Calls at once, from one connection; prints how many were refused, and as what.
MANY = """
import collections, json, sys
import gi
gi.require_version('Gio', '2.0')
from gi.repository import Gio, GLib
sys.path.append(sys.argv[2])
from core import INTERFACE, NAME, PATH, connect
bus, seen, loop = connect(sys.argv[1]), collections.Counter(), GLib.MainLoop()
def on_answer(_, result):
    try:
        bus.call_finish(result)
    except GLib.Error as error:
        seen[Gio.DBusError.get_remote_error(error).rpartition('.')[2]] += 1
for _ in range(40):
    bus.call(NAME, PATH, INTERFACE, 'ListDomains', GLib.Variant('(s)', ('',)), None, 0, 30000, None,
             on_answer)
GLib.timeout_add(3000, loop.quit)
loop.run()
print(json.dumps(seen))
"""


@case('many-calls-of-one-user-TOO-MANY')
def _():
    with core_with(system_bus=True) as core, fake_polkit(core, {'view': 'hang'}):
        result = subprocess.run(['/usr/bin/python3', '-c', MANY, core.bus.address, HERE],
                                user=STRANGER, group=STRANGER, extra_groups=[], text=True,
                                capture_output=True, check=False,
                                env={'PATH': os.environ['PATH'], 'PYTHONDONTWRITEBYTECODE': '1'})
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout) == {'TOO_MANY': 24}, result.stdout
        assert len(core.domains()) == 1


@case('unwanted-files-REFUSED')
def _():
    with core_with() as core, open(__file__, 'rb') as file:
        fds = Gio.UnixFDList.new()
        fds.append(file.fileno())
        try:
            core.call('ListDomains', '', fds=fds)
        except GLib.Error as error:
            assert 'takes no such files' in error.message, error
        else:
            raise AssertionError('taken')


@case('polkit-of-another-bus-NOT-ASKED')
def _():
    with core_with() as core, fake_polkit(core, {'view': 'yes'}) as asked:
        refused('FORBIDDEN', core.call_as, STRANGER, 'ListDomains', '')
        assert not os.path.exists(asked)


if __name__ == '__main__':
    suite.main()
