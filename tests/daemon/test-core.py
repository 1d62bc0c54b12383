#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatchd, the core, on a bus of its own, with libvirt's test driver and scripted workers: what it
does when all goes well.
"""

import json
import os
import struct
import subprocess
import sys
import time
import uuid

from core import ADMIN, HERE, Bus, Core, connect, core_with, refused, switched, until

import gi

gi.require_version('Gio', '2.0')
from gi.repository import Gio, GLib  # pylint: disable=wrong-import-position,wrong-import-order

sys.path.append(os.path.join(HERE, '..', 'vm'))
from tap import Suite  # pylint: disable=wrong-import-position


suite = Suite()


def case(name, timeout=60.0):
    return suite.case(name, guest=False, timeout=timeout)


# --- documents ---

@case('domains-listed-and-LOOKED-AT')
def _():
    with core_with(domains=['web-1', 'db-1'], stopped=['off']) as core:
        assert [(domain['name'], domain['state']) for domain in core.domains()] == [
            ('db-1', 'running'), ('off', 'shut off'), ('web-1', 'running')]
        until(lambda: core.domain('web-1')['seen_at'] and core.domain('db-1')['seen_at'], 'looks')
        domain = core.domain('web-1')
        assert domain['kernel'] == {'release': '6.1.0', 'version': '#1', 'build_id': 'ab'}
        assert (domain['backend'], domain['patchable'], domain['patches']) == ('kvm', True, [])
        off = core.domain('off')
        assert (off['kernel'], off['patchable'], off['patches']) == (None, None, None)
        assert {job['job']['domain']['name'] for job in core.jobs('look')} == {'web-1', 'db-1'}


@case('options-of-a-request-REACH-THE-WORKER')
def _():
    with core_with() as core:
        until(lambda: core.domain('web-1')['seen_at'], 'a look')
        core.wait_end(core.start('web-1', 'recover', options={'timeout': 7}))
        assert core.jobs('recover')[0]['job']['options']['timeout'] == 7


@case('look-that-fails-says-WHY')
def _():
    with Bus() as bus:
        core = Core(bus)
        core.script('look', result=None, exit=3,
                    error={'code': 'UNSUPPORTED', 'message': 'no kernel\x1b[31m'})
        with core:
            until(lambda: core.domain('web-1')['reasons'], 'reason')
            domain = core.domain('web-1')
            assert domain['reasons'] == ['no kernel\\x1b[31m'], domain
            assert domain['patchable'] is False and domain['seen_at'] is None
            assert (domain['error']['code'], domain['error']['status']) == ('UNSUPPORTED', 422)
            core.script('look')
            core.call('RefreshDomain', 's', core.uuid('web-1'))
            until(lambda: core.domain('web-1')['patchable'], 'another look')
            assert core.domain('web-1')['error'] is None


@case('look-in-vain-at-one-that-boots-DONE-AGAIN')
def _():
    with Bus() as bus:
        core = Core(bus)
        core.script('look', result=None, exit=3,
                    error={'code': 'NOT_FOUND', 'message': 'no kernel yet'})
        with core:
            until(lambda: core.domain('web-1')['error'], 'look')
            core.script('look')
            until(lambda: core.domain('web-1')['patchable'], 'another look by itself', 40)
            assert len(core.jobs('look')) < 5


@case('patch-in-force-with-its-CVES')
def _():
    with core_with() as core:
        sha256 = core.upload()
        core.script('look', result=switched(sha256))
        operation = core.wait_end(core.start('web-1', 'apply', patch=sha256))
        assert operation['state'] == 'applied', operation
        until(lambda: core.domain('web-1')['patches'], 'patches')
        patch, = core.domain('web-1')['patches']
        assert patch['sha256'] == sha256 and patch['cves'] == []
        metrics = core.metrics()
        assert 'hvpatch_patched_domains 1\n' in metrics
        assert f'hvpatch_domain_patches{{domain="web-1",uuid="{core.uuid("web-1")}"}} 1' in metrics


@case('libvirt-away-NOT-READY')
def _():
    with Bus() as bus:
        core = Core(bus, uri='qemu:///system?socket=/nowhere/libvirt-sock')
        try:
            core.run(wait=False)
            until(lambda: core.connection.call_sync(
                'org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus',
                'NameHasOwner', GLib.Variant('(s)', ('org.hvpatch1',)), None,
                Gio.DBusCallFlags.NONE, 1000, None).unpack()[0], 'name')
            time.sleep(0.5)
            assert not core.property('Ready')
            assert core.domains() == [] and core.events()[0]
            refused('NOT_FOUND', core.start, 'web-1', 'recover')
        finally:
            core.kill()


# --- operations ---

@case('apply-APPLIED-with-a-sealed-copy')
def _():
    with core_with() as core:
        path = core.module(7)
        patch, created = core.upload_file(path)
        assert created and patch['serial'] == 7 and patch['signature'] == 'none', patch
        assert not core.upload_file(path)[1]
        operation = core.start('web-1', 'apply', patch=patch['sha256'],
                               options={'timeout': 5, 'prod': False, 'accept': ['guard']})
        assert operation['created'] and operation['name'] == 'synth'
        operation = core.wait_end(operation)
        assert operation['state'] == 'applied' and operation['error'] is None
        assert operation['result']['pause_usec'] == 85 and not operation['cancellable']
        assert operation['created_at'] <= operation['started_at'] <= operation['ended_at']
        job, = core.jobs('apply')
        assert job['sha256'] == patch['sha256'] and job['sealed']
        assert job['job']['manifest'] == {'serial': 7} and job['job']['patch'] == patch['sha256']
        assert job['job']['options'] == {'timeout': 5.0, 'max_pause': 10.0, 'prod': False,
                                         'replace': None, 'accept': ['guard'], 'kthreads': None}
        assert job['job']['domain'] == {'uuid': core.uuid('web-1'), 'name': 'web-1',
                                        'uri': core.uri}


@case('verbs-END-in-their-states')
def _():
    with core_with() as core:
        sha256 = core.upload()
        for verb, request, state in (('check', {'patch': sha256}, 'checked'),
                                     ('apply', {'patch': sha256}, 'applied'),
                                     ('replace', {'patch': sha256}, 'applied'),
                                     ('revert', {'name': 'synth'}, 'reverted'),
                                     ('revert', {'patch': sha256}, 'reverted'),
                                     ('recover', {}, 'recovered')):
            operation = core.wait_end(core.start('web-1', verb, **request))
            assert operation['state'] == state, operation
        assert core.jobs('replace')[0]['job']['options']['replace'] is True
        assert [(job['job']['name'], job['job']['patch']) for job in core.jobs('revert')] == \
            [('synth', None), ('synth', sha256)]
        assert core.operations()[0]['verb'] == 'recover'
        assert len(core.operations(verb='revert', limit=1)) == 1
        assert core.operations(active=True) == []


@case('errors-END-in-their-states')
def _():
    ends = (('BUSY', 4, 'busy', 'failed'), ('UNDONE', 6, 'rolled-back', 'rolled-back'),
            ('INCONSISTENT', 7, 'failed', 'needs-operator'),
            ('TAMPERED', 7, 'refused', 'needs-operator'), ('CANCELLED', 1, 'failed', 'failed'),
            # In force, though something failed behind it.
            ('FAULT', 1, 'applied', 'applied'))
    with core_with() as core:
        sha256 = core.upload()
        for code, status, result, state in ends:
            core.script('apply', exit=status, error={'code': code, 'message': 'for a reason'},
                        result={'version': 1, 'result': result, 'code': code, 'pause_usec': 7,
                                'blockers': [{'function': 'f"\n'}], 'attempts': 2})
            operation = core.wait_end(core.start('web-1', 'apply', patch=sha256))
            assert operation['state'] == state, operation
            assert operation['error']['code'] == code, operation
            assert operation['error']['instance'] == f'/v1/operations/{operation["id"]}'
        metrics = core.metrics()
        assert 'hvpatch_operations_total{verb="apply",result="failed",code="BUSY"} 1' in metrics
        assert 'hvpatch_blockers_total{function="f\\"\\\\x0a"} 6' in metrics, metrics
        assert 'hvpatch_attempts_total 12' in metrics
        assert 'hvpatch_pause_seconds_count 1' in metrics


@case('progress-SHOWN')
def _():
    with core_with() as core:
        core.script('apply', wait='go', progress=[
            {'state': 'loading', 'step': 'loading the module'},
            {'state': 'waiting', 'step': 'switching\x1b[2J', 'attempt': 3, 'blockers': 2}])
        operation = core.start('web-1', 'apply', patch=core.upload())
        core.wait_state(operation, 'waiting')
        now = core.operation(operation)
        assert (now['attempt'], now['blockers'], now['cancellable']) == (3, 2, True), now
        assert now['step'] == 'switching\\x1b[2J'
        assert core.domain('web-1')['operation'] == operation['id']
        core.go()
        core.wait_end(operation)
        assert core.domain('web-1')['operation'] is None
        states = [event['document']['state'] for event in core.events()[0]
                  if event['type'] == 'operation']
        assert states[0] == 'queued' and states[-1] == 'applied' and 'waiting' in states, states


@case('one-operation-a-domain-BUSY')
def _():
    with core_with(domains=['web-1', 'db-1']) as core:
        sha256 = core.upload()
        core.script('apply', wait='go')
        first = core.start('web-1', 'apply', patch=sha256)
        problem = refused('BUSY', core.start, 'web-1', 'check', patch=sha256)
        assert problem['operation'] == first['id'] and problem['status'] == 409
        problem = refused('BUSY', core.call, 'DeletePatch', 's', sha256)
        assert problem['operation'] == first['id']
        second = core.start('db-1', 'apply', patch=sha256)
        core.go()
        assert core.wait_end(first)['state'] == core.wait_end(second)['state'] == 'applied'
        core.call('DeletePatch', 's', sha256)
        refused('NOT_FOUND', core.start, 'web-1', 'apply', patch=sha256)


@case('at-once-only-so-many-WORKERS-and-STOPPED')
def _():
    names = [f'vm-{number}' for number in range(8)]
    with core_with(domains=names, config='workers=3\nmax-stopped=2\n') as core:
        sha256 = core.upload()
        for verb in ('apply', 'check'):
            core.script(verb, wait='go')
        applies = [core.start(name, 'apply', patch=sha256) for name in names[:5]]
        checks = [core.start(name, 'check', patch=sha256) for name in names[5:]]
        until(lambda: len(core.jobs('apply')) == 2 and len(core.jobs('check')) == 1, 'jobs')
        time.sleep(0.3)
        assert len(core.jobs('apply')) == 2 and len(core.jobs('check')) == 1
        assert [core.operation(one)['state'] for one in applies[2:]] == ['queued'] * 3
        assert 'hvpatch_operations_running 3\n' in core.metrics()
        core.go()
        for operation in applies + checks:
            assert core.wait_end(operation)['state'] in ('applied', 'checked')
        # In the order in which they came.
        begun = [core.operation(one)['started_at'] for one in applies]
        assert begun == sorted(begun)


@case('revert-and-recover-BEFORE-applies-that-wait')
def _():
    names = [f'vm-{number}' for number in range(6)]
    with core_with(domains=names, config='workers=1\nmax-stopped=1\nmax-timeout=60\n') as core:
        sha256 = core.upload()
        core.script('apply', wait='go')
        asked = [('apply', {'patch': sha256}), ('apply', {'patch': sha256}),
                 ('check', {'patch': sha256}), ('revert', {'name': 'synth'}), ('recover', {}),
                 ('revert', {'patch': sha256})]
        started = [core.start(name, verb, **request)
                   for name, (verb, request) in zip(names, asked)]
        until(lambda: core.jobs('apply'), 'the first one')
        core.go()
        ended = [core.wait_end(operation) for operation in started]
        order = sorted(range(len(ended)), key=lambda number: ended[number]['started_at'])
        assert order == [0, 3, 4, 5, 1, 2], order
        problem = refused('PERMISSION', core.start, 'vm-0', 'apply', patch=sha256,
                          options={'timeout': 61})
        assert '60 s' in problem['detail'], problem
        assert core.start('vm-0', 'apply', patch=sha256, options={'timeout': 60})['created']


@case('idempotency-key-of-a-domain-that-is-gone-THE-SAME-operation')
def _():
    roles = ADMIN + ('[role web]\nprincipals=cert:web\nverbs=apply\ndomains=web-1\n'
                     '[role db]\nprincipals=cert:db\nverbs=apply\ndomains=db-1\n')
    with core_with(domains=['web-1', 'db-1'], roles=roles) as core:
        sha256 = core.upload()

        def start(principal, key='a-key', patch=sha256):
            return core.start('web-1', 'apply', patch=patch, key=key, principal=principal)
        first = start('cert:web')
        core.wait_end(first)
        core.kill()
        core.set_domains(['db-1'])
        core.run()
        again = start('cert:web')
        assert (again['id'], again['state'], again['created']) == (first['id'], 'applied', False)
        refused('NOT_FOUND', start, 'cert:web', key='another')
        refused('NOT_FOUND', start, 'cert:web', patch='0' * 64)
        refused('NOT_FOUND', start, 'cert:db')
        core.write_config('', roles.replace('cert:web', 'cert:x'))
        core.reload()
        refused('NOT_FOUND', start, 'cert:web')


@case('idempotency-key-ONE-operation')
def _():
    roles = '[role all]\nprincipals=uid:0;cert:b\nverbs=*\ndomains=*\n'
    with core_with(domains=['web-1', 'db-1'], roles=roles) as core:
        sha256 = core.upload()
        first = core.start('web-1', 'apply', patch=sha256, key='a-key')
        again = core.start('web-1', 'apply', patch=sha256, key='a-key')
        assert first['created'] and not again['created'] and first['id'] == again['id']
        core.wait_end(first)
        assert core.start('web-1', 'apply', patch=sha256, key='a-key')['state'] == 'applied'
        refused('IDEMPOTENCY', core.start, 'web-1', 'check', patch=sha256, key='a-key')
        refused('IDEMPOTENCY', core.start, 'db-1', 'apply', patch=sha256, key='a-key')
        # Somebody else's key is another.
        other = core.start('db-1', 'check', patch=sha256, key='a-key', principal='cert:b')
        assert other['created'] and other['id'] != first['id']
        for key in ('a b', 'x' * 129, 'a\n'):
            refused('INVALID_ARGUMENT', core.start, 'web-1', 'recover', key=key)
        core.kill()
        core.run()
        assert not core.start('web-1', 'apply', patch=sha256, key='a-key')['created']


@case('cancel-before-HONOURED-after-CONFLICT')
def _():
    with core_with(domains=['web-1', 'db-1'], config='max-stopped=1\n') as core:
        sha256 = core.upload()
        core.script('apply', wait='go', progress=[{'state': 'waiting', 'step': 'switching'}])
        running = core.start('web-1', 'apply', patch=sha256)
        waiting = core.start('db-1', 'apply', patch=sha256)
        core.wait_state(running, 'waiting')
        answer = json.loads(core.call('CancelOperation', 's', waiting['id'])[0])
        assert answer['state'] == 'cancelled' and answer == core.operation(waiting), answer
        core.call('CancelOperation', 's', running['id'])
        ended = core.wait_end(running)
        assert (ended['state'], ended['error'], ended['result']) == ('cancelled', None, None)
        core.call('CancelOperation', 's', running['id'])
        core.script('apply', wait='on', progress=[{'state': 'verifying', 'step': 'finishing'}])
        late = core.start('web-1', 'apply', patch=sha256)
        core.wait_state(late, 'verifying')
        assert not core.operation(late)['cancellable']
        assert refused('CONFLICT', core.call, 'CancelOperation', 's', late['id'])['status'] == 409
        core.go('on')
        assert core.wait_end(late)['state'] == 'applied'
        refused('CONFLICT', core.call, 'CancelOperation', 's', late['id'])
        refused('NOT_FOUND', core.call, 'CancelOperation', 's', str(uuid.uuid4()))


@case('requests-malformed-INVALID')
def _():
    with core_with(config='max-pause=20\n') as core:
        sha256 = core.upload()
        bodies = ['', '[]', '{', '{}', '{"verb":1}', '{"verb":"force"}', '{"verb":"view"}',
                  '{"verb":"apply"}', '{"verb":"apply","patch":"../../etc/passwd"}',
                  json.dumps({'verb': 'apply', 'patch': sha256.upper()}),
                  json.dumps({'verb': 'apply', 'patch': sha256, 'name': 'synth'}),
                  json.dumps({'verb': 'apply', 'patch': sha256, 'force': True}),
                  '{"verb":"revert"}', '{"verb":"revert","name":"a\\nb"}',
                  '{"verb":"revert","name":"' + 'x' * 56 + '"}', '{"verb":"recover","name":"a"}',
                  '{"verb":"recover","version":2}', '[' * 100000, '{"a":' * 1000 + '1' + '}' * 1000,
                  json.dumps({'verb': 'recover', 'x': 'y' * 70000})]
        bodies += [json.dumps({'verb': 'recover', 'options': options}) for options in (
            [], {'timeout': -1}, {'timeout': 1e9}, {'timeout': '5'}, {'max_pause': 0},
            {'prod': None}, {'prod': 1}, {'replace': 'yes'}, {'accept': 'a'}, {'accept': [1]},
            {'accept': ['A']}, {'accept': ['a'] * 17}, {'kthreads': ''}, {'kthreads': 'a b'},
            {'backend': 'kvm'}, {'agent': '/etc/passwd'})]
        for body in bodies:
            refused('INVALID_ARGUMENT', core.call, 'StartOperation', 'sss', core.uuid('web-1'),
                    body, '')
        refused('PERMISSION', core.start, 'web-1', 'recover', options={'max_pause': 21})
        for name in ('', 'web-1', core.uuid('web-1').upper(), '../' + core.uuid('web-1'),
                     core.uuid('web-1') + '\n', str(uuid.uuid4())):
            refused('NOT_FOUND', core.call, 'GetDomain', 's', name)
            refused('NOT_FOUND', core.call, 'StartOperation', 'sss', name, '{"verb":"recover"}', '')
            refused('NOT_FOUND', core.call, 'GetOperation', 's', name)
            refused('NOT_FOUND', core.call, 'GetPatch', 's', name)
            refused('NOT_FOUND', core.call, 'DeletePatch', 's', name)
        for text in ('[]', '{"state":"good"}', '{"limit":0}', '{"limit":1001}', '{"domain":1}',
                     '{"owner":"me"}', '{"active":1}'):
            refused('INVALID_ARGUMENT', core.call, 'ListOperations', 's', text)
        assert core.operations() == []


# --- patches ---

def minisign(*arguments):
    subprocess.run(['minisign', *arguments], check=True, capture_output=True)


@case('minisign-signatures')
def _():
    with Bus() as bus, Core(bus) as plain:
        key, public = (os.path.join(plain.folder, name) for name in ('key', 'key.pub'))
        minisign('-G', '-W', '-s', key, '-p', public)
        with open(public, encoding='utf-8') as file:
            line = file.read().splitlines()[1]
        plain.kill()
        with Core(bus, config=f'unsigned=refuse\n[key vendor]\nminisign={line}\n') as core:
            path = core.module()
            minisign('-S', '-s', key, '-m', path, '-t', 'serial:3 by a test')
            with open(path + '.minisig', 'rb') as file:
                signature = file.read()
            other = core.module('kpatch')
            assert refused('PERMISSION', core.upload_file, path)['status'] == 403
            refused('PERMISSION', core.upload_file, other, signature)
            refused('PERMISSION', core.upload_file, path,
                    signature.replace(b'serial:3', b'serial:4'))
            refused('BAD_DATA', core.upload_file, path, b'nonsense')
            refused('TOO_LARGE', core.upload_file, path, b'x' * 9000)
            patch, created = core.upload_file(path, signature)
            assert created and patch['signature'] == 'minisign', patch
            assert patch['signed_by'] == 'vendor' and patch['serial'] == 3
            sha256 = patch['sha256']
            assert core.wait_end(core.start('web-1', 'apply', patch=sha256))['state'] == 'applied'
            # A key that is revoked takes its patches along.
            core.kill()
            with open(core.config, encoding='utf-8') as file:
                text = file.read()
            with open(core.config, 'w', encoding='utf-8') as file:
                file.write(text.replace(f'[key vendor]\nminisign={line}\n', ''))
            core.run()
            ended = core.wait_end(core.start('web-1', 'apply', patch=sha256))
            assert (ended['state'], ended['error']['code']) == ('failed', 'PERMISSION'), ended


@case('module-signatures')
def _():
    with Bus() as bus, Core(bus) as plain:
        folder = plain.folder
        plain.kill()
        subprocess.run(['openssl', 'req', '-new', '-x509', '-newkey', 'ec', '-pkeyopt',
                        'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=a', '-keyout',
                        f'{folder}/key', '-out', f'{folder}/cert'], check=True,
                       capture_output=True)
        with Core(bus, config='unsigned=refuse\n[key distribution]\n'
                              f'certificate={folder}/cert\n') as core:
            path = core.module()
            der = subprocess.run(['openssl', 'cms', '-sign', '-binary', '-noattr', '-nocerts',
                                  '-nosmimecap', '-md', 'sha512', '-signer', f'{folder}/cert',
                                  '-inkey', f'{folder}/key', '-outform', 'DER', '-in', path],
                                 check=True, capture_output=True).stdout
            trailer = struct.pack('>BBBBB3xI', 0, 0, 2, 0, 0, len(der))
            with open(path, 'ab') as file:
                file.write(der + trailer + b'~Module signature appended~\n')
            patch, _ = core.upload_file(path)
            assert (patch['signature'], patch['signed_by']) == ('pkcs7', 'distribution'), patch
            with open(path, 'r+b') as file:
                file.seek(100)
                file.write(b'?')
            refused('PERMISSION', core.upload_file, path)


@case('files-that-are-none-REFUSED')
def _():
    with core_with() as core:
        text = os.path.join(core.folder, 'text')
        with open(text, 'wb') as file:
            file.write(b'no module')
        refused('BAD_DATA', core.upload_file, text)
        refused('INVALID_ARGUMENT', core.upload_file, '/dev/zero')
        with open(text, 'wb') as file:
            file.truncate(65 << 20)
        refused('TOO_LARGE', core.upload_file, text)
        refused('INVALID_ARGUMENT', core.call, 'UploadPatch', 'hay', 0, b'')
        reading, writing = os.pipe()
        fds = Gio.UnixFDList.new()
        refused('INVALID_ARGUMENT', core.call, 'UploadPatch', 'hay', fds.append(reading), b'',
                fds=fds)
        os.close(reading)
        os.close(writing)
        with open(text, 'wb'):
            pass
        refused('BAD_DATA', core.upload_file, text)


@case('older-serial-CONFLICT')
def _():
    with core_with() as core:
        newer = core.upload(8)
        refused('CONFLICT', core.upload, 7)
        refused('CONFLICT', core.upload)
        core.call('DeletePatch', 's', newer)
        refused('CONFLICT', core.upload, 7)
        older = core.upload(9)
        core.upload(10)
        # What was uploaded before is not applied any more either; checking it changes nothing.
        refused('CONFLICT', core.start, 'web-1', 'apply', patch=older)


@case('stored-file-changed-TAMPERED')
def _():
    with core_with() as core:
        sha256 = core.upload()
        with open(os.path.join(core.state, 'patches', sha256 + '.ko'), 'ab') as file:
            file.write(b'x')
        ended = core.wait_end(core.start('web-1', 'apply', patch=sha256))
        assert (ended['state'], ended['error']['code']) == ('failed', 'TAMPERED'), ended
        assert not core.jobs('apply')


# --- events and metrics ---

@case('events-in-order-BOUNDED')
def _():
    with core_with() as core:
        sha256 = core.upload()
        core.wait_end(core.start('web-1', 'check', patch=sha256))
        until(lambda: core.domain('web-1')['operation'] is None, 'rest')
        events, oldest, newest = core.events()
        assert [event['seq'] for event in events] == list(range(oldest, newest + 1))
        assert {event['type'] for event in events} == {'daemon', 'domain', 'patch', 'operation'}
        some, _, _ = core.events(since=oldest, limit=2)
        assert [event['seq'] for event in some] == [oldest + 1, oldest + 2]
        assert core.events(since=newest)[0] == core.events(since=1 << 63)[0] == []
        core.call('DeletePatch', 's', sha256)
        since = core.events(since=newest)[0]
        assert [(event['id'], event['document']) for event in since
                if event['type'] == 'patch'] == [(sha256, None)], since


@case('events-signalled-to-LISTENERS-alone')
def _():
    with core_with() as core:
        heard, overheard = [], []
        stranger = connect(core.bus.address)

        def listen(connection, into):
            connection.signal_subscribe(
                None, 'org.hvpatch1.Manager', 'Event', None, None, Gio.DBusSignalFlags.NONE,
                lambda *arguments: into.append(arguments[5].unpack()))
        listen(core.connection, heard)
        listen(stranger, overheard)
        core.events()
        operation = core.start('web-1', 'recover')
        context = GLib.MainContext.default()

        def ended():
            while context.iteration(False):
                pass
            return any(json.loads(text)['document'].get('state') == 'recovered'
                       for _, text in heard)
        until(ended, 'signal')
        assert [json.loads(text)['seq'] for _, text in heard] == [seq for seq, _ in heard]
        assert not overheard and core.operation(operation)['state'] == 'recovered'


@case('metrics-ESCAPED')
def _():
    evil = 'a"} 1\\'
    with core_with(domains=[evil]) as core:
        core.script('look', result=switched('a' * 64))
        core.call('RefreshDomain', 's', core.uuid(evil))
        until(lambda: core.domain(evil)['patches'], 'look')
        line, = [line for line in core.metrics().splitlines()
                 if line.startswith('hvpatch_domain_patches{')]
        assert line.startswith('hvpatch_domain_patches{domain="a\\"} 1\\\\",uuid="'), line


@case('500-domains-1000-requests', timeout=120)
def _():
    names = [f'vm-{number:03}' for number in range(500)]
    with core_with(domains=names, config='workers=8\nmax-stopped=8\n') as core:
        assert len(core.domains()) == 500

        def resident():
            with open(f'/proc/{core.process.pid}/statm', encoding='utf-8') as file:
                return int(file.read().split()[1]) * 4096
        for _ in range(100):
            core.domains()
        before = resident()
        begin = time.monotonic()
        for _ in range(1000):
            core.call('GetDomain', 's', core.uuid('vm-123'))
        seconds = time.monotonic() - begin
        for _ in range(200):
            core.domains()
        print(f'# {1000 / seconds:.0f} requests a second, {(resident() - before) >> 10} KiB more')
        with open(f'/proc/{core.process.pid}/maps', encoding='utf-8') as file:
            # A sanitizer keeps what was freed.
            assert 'libasan' in file.read() or resident() - before < 16 << 20


if __name__ == '__main__':
    suite.main()
