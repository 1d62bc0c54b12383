#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatch-apid before the real hvpatchd: test-api-core.py PROGRAM [CASE...]

With libvirt's test driver and scripted workers, as test-core.py; what is asked goes through HTTP,
and every answer is held against openapi.json.
"""

import base64
import json
import os
import shutil
import sys

from cases import Skip, run_cases
from core import ENDS, Bus, Core, Signer, until
from frontend import FrontEnd, request

BYTES = {'Content-Type': 'application/octet-stream'}
FIRST_UID = 20001
ROLES = {
    'nobody': None,
    'viewer': ('view', '*'),
    'uploader': ('view;upload;delete', '*'),
    'operator': ('view;check;apply;revert;replace;recover;cancel', 'web-*'),
    'monitor': ('metrics', ''),
    'admin': ('*', '*'),
    'canceller': ('cancel', 'web-*'),
}


def role_text():
    text = '[role root]\nprincipals=uid:0\nverbs=*\ndomains=*\n'
    for number, (name, role) in enumerate(ROLES.items()):
        if role is not None:
            text += (f'[role {name}]\nprincipals=uid:{FIRST_UID + number};cert:{name}\n'
                     f'verbs={role[0]}\ndomains={role[1]}\n')
    return text


class Scene:
    """The daemon, the front end, and a patch."""

    def __init__(self, program, bus):
        self.core = Core(bus, domains=['web-1', 'web-2', 'db-1'], stopped=['off'],
                         roles=role_text())
        self.front = FrontEnd.__new__(FrontEnd)
        self.program = program
        self.bus = bus
        self.client = lambda: self.front.client()

    def __enter__(self):
        self.core.__enter__()
        self.front = FrontEnd(self.program, bus_address=self.bus.address, heartbeat=1)
        examples = self.front.contract.document['components']['schemas']
        change = examples['ChangeResult']['example']
        self.core.script('apply', result=change)
        self.core.script('replace', result=change)
        self.core.script('revert', result={**change, 'operation': 'revert', 'result': 'reverted'})
        self.core.script('check', result=examples['CheckResult']['example'])
        with open(self.core.module(7), 'rb') as stream:
            self.patch = stream.read()
        # Of the same serial number, and yet another file.
        self.other_patch = self.patch + bytes(16)
        self.digest = self.upload().json['sha256']
        return self

    def __exit__(self, *error):
        try:
            self.front.close()
        finally:
            self.core.__exit__(*error)

    def ask(self, *arguments):
        return self.front.ask(*arguments)

    def upload(self):
        return self.ask('POST', '/v1/patches', BYTES, self.patch)

    def domain(self, name):
        return f'/v1/domains/{self.core.uuid(name)}'

    def start(self, name, verb='apply', headers=(), **options):
        body = {'verb': verb, 'options': options}
        if verb == 'revert':
            body['name'] = 'synth'
        elif verb != 'recover':
            body['patch'] = self.digest
        return self.ask('POST', self.domain(name) + '/operations', headers, body)

    def wait_end(self, answer):
        def ended():
            now = self.ask('GET', '/v1/operations/' + answer.json['id']).json
            return now if now['state'] in ENDS else None
        return until(ended, 'end of the operation')


def expect(answer, status, code=None):
    assert answer.status == status, (answer.status, answer.body[:500])
    assert code is None or answer.code == code, answer.body
    return answer


def case_domains_LISTED(scene):
    names = [domain['name'] for domain in expect(scene.ask('GET', '/v1/domains'), 200).json]
    assert names == ['db-1', 'off', 'web-1', 'web-2'], names
    for name in names:
        assert expect(scene.ask('GET', scene.domain(name)), 200).json['name'] == name
    expect(scene.ask('POST', scene.domain('web-1') + '/refresh'), 202)


def case_patch_UPLOADED_and_deleted(scene):
    expect(scene.upload(), 200)
    other = expect(scene.ask('POST', '/v1/patches', BYTES, scene.other_patch), 201)
    expect(scene.ask('GET', '/v1/patches'), 200)
    expect(scene.ask('GET', other.headers['location']), 200)
    expect(scene.ask('DELETE', other.headers['location']), 204)
    expect(scene.ask('GET', other.headers['location']), 404, 'NOT_FOUND')
    expect(scene.ask('POST', '/v1/patches', BYTES, b'no module'), 422)


def upload_signed(scene, signature):
    headers = {**BYTES, 'Hvpatch-Signature': base64.b64encode(signature).decode()}
    return scene.ask('POST', '/v1/patches', headers, scene.patch)


def case_signature_of_a_patch_REPLACED(scene):
    if not shutil.which('minisign'):
        raise Skip('minisign is missing')
    signer, stranger = (Signer(scene.core.folder, name) for name in ('vendor', 'stranger'))
    path = os.path.join(scene.core.folder, 'signed.ko')
    with open(path, 'wb') as file:
        file.write(scene.patch)
    scene.core.write_config(signer.config, role_text())
    scene.core.reload()
    before = expect(scene.ask('GET', '/v1/patches/' + scene.digest), 200)
    expect(upload_signed(scene, stranger.sign(path)), 403, 'PERMISSION')
    expect(upload_signed(scene, b'nonsense'), 422, 'BAD_DATA')
    expect(upload_signed(scene, signer.sign(path, 'serial:6')), 422, 'BAD_DATA')
    assert scene.ask('GET', '/v1/patches/' + scene.digest).body == before.body
    answer = expect(upload_signed(scene, signer.sign(path)), 200)
    assert answer.headers['location'] == '/v1/patches/' + scene.digest
    assert (answer.json['signed_by'], answer.json['signature']) == ('vendor', 'minisign')
    after = expect(scene.ask('GET', '/v1/patches/' + scene.digest), 200)
    assert after.json == answer.json and after.headers['etag'] != before.headers['etag']
    assert scene.wait_end(expect(scene.start('web-1'), 202))['state'] == 'applied'


def case_each_verb_to_its_END(scene):
    for verb, state in (('check', 'checked'), ('apply', 'applied'), ('replace', 'applied'),
                        ('revert', 'reverted'), ('recover', 'recovered')):
        operation = scene.wait_end(expect(scene.start('web-1', verb), 202))
        assert operation['state'] == state, operation
    assert len(expect(scene.ask('GET', '/v1/operations?verb=check'), 200).json) >= 1
    expect(scene.ask('GET', scene.domain('web-1') + '/operations?limit=2'), 200)


def case_failed_operation_SAYS_WHY(scene):
    scene.core.script('web-2.check', result=None, exit=3,
                      error={'code': 'UNSUPPORTED', 'message': 'not for this kernel'})
    operation = scene.wait_end(expect(scene.start('web-2', 'check'), 202))
    assert operation['state'] == 'failed' and operation['error']['code'] == 'UNSUPPORTED'


def case_busy_409_and_cancel_202(scene):
    scene.core.script('web-2.apply', wait='never')
    first = expect(scene.start('web-2'), 202)
    busy = expect(scene.start('web-2'), 409, 'BUSY')
    assert busy.json['operation'] == first.json['id']
    expect(scene.ask('POST', first.headers['location'] + '/cancel'), 202)
    assert scene.wait_end(first)['state'] == 'cancelled'
    expect(scene.ask('POST', first.headers['location'] + '/cancel'), 202)
    done = expect(scene.start('web-1', 'check'), 202)
    scene.wait_end(done)
    expect(scene.ask('POST', done.headers['location'] + '/cancel'), 409, 'CONFLICT')


def case_idempotency_key_ONE_OPERATION(scene):
    key = {'Idempotency-Key': 'once'}
    first = expect(scene.start('web-1', 'check', key), 202)
    assert expect(scene.start('web-1', 'check', key), 200).json['id'] == first.json['id']
    expect(scene.start('web-1', 'apply', key), 422, 'IDEMPOTENCY')
    scene.wait_end(first)


def case_events_TELL_THE_STORY(scene):
    with scene.front.client() as client:
        client.send(request('GET', '/v1/events'))
        client.take_until(b'\r\n\r\n')
        operation = scene.wait_end(expect(scene.start('web-1'), 202))
        while b'"state":"applied"' not in client.pending:
            assert client.receive(), client.pending
        assert operation['id'].encode() in client.pending
    events = expect(scene.ask('GET', '/v1/events?follow=false'), 200)
    assert len(events.body.splitlines()) > 3


def case_metrics_and_health(scene):
    text = expect(scene.ask('GET', '/metrics'), 200).body.decode()
    assert 'hvpatch_api_connections' in text and 'hvpatch_patched_domains' in text
    expect(scene.ask('GET', '/v1/healthz'), 200)


# What is asked, and the status for each role in the order above.
TABLE = {
    'list-domains': (lambda s: ('GET', '/v1/domains'), (403, 200, 200, 200, 403, 200, 403)),
    'view': (lambda s: ('GET', s.domain('web-1')), (404, 200, 200, 200, 404, 200, 404)),
    'view-other': (lambda s: ('GET', s.domain('db-1')), (404, 200, 200, 404, 404, 200, 404)),
    'check': (lambda s: s.request('check', 'web-1'), (404, 403, 403, 202, 404, 202, 404)),
    'apply': (lambda s: s.request('apply', 'web-1'), (404, 403, 403, 202, 404, 202, 404)),
    'apply-other': (lambda s: s.request('apply', 'db-1'), (404, 403, 403, 404, 404, 202, 404)),
    'revert': (lambda s: s.request('revert', 'web-1'), (404, 403, 403, 202, 404, 202, 404)),
    'replace': (lambda s: s.request('replace', 'web-1'), (404, 403, 403, 202, 404, 202, 404)),
    'recover': (lambda s: s.request('recover', 'web-1'), (404, 403, 403, 202, 404, 202, 404)),
    'operations': (lambda s: ('GET', '/v1/operations'), (403, 200, 200, 200, 403, 200, 403)),
    'operation': (lambda s: ('GET', s.running), (404, 200, 200, 200, 404, 200, 404)),
    'cancel': (lambda s: ('POST', s.running + '/cancel'), (404, 403, 403, 202, 404, 202, 202)),
    'patches': (lambda s: ('GET', '/v1/patches'), (403, 200, 200, 200, 403, 200, 403)),
    'upload': (lambda s: ('POST', '/v1/patches', BYTES, s.patch),
               (403, 403, 200, 403, 403, 200, 403)),
    'delete': (lambda s: ('DELETE', '/v1/patches/' + '0' * 64),
               (403, 403, 404, 403, 403, 404, 403)),
    'metrics': (lambda s: ('GET', '/metrics'), (403, 403, 403, 403, 200, 200, 403)),
    'health': (lambda s: ('GET', '/v1/healthz'), (200, 200, 200, 200, 200, 200, 200)),
}


def make_request(scene, verb, name):
    body = {'verb': verb}
    if verb == 'revert':
        body['name'] = 'synth'
    elif verb != 'recover':
        body['patch'] = scene.digest
    return 'POST', scene.domain(name) + '/operations', (), body


def ask_as(scene, number, asked):
    os.seteuid(FIRST_UID + number)
    try:
        client = scene.front.client()
    finally:
        os.seteuid(0)
    with client:
        answer = client.ask(*asked)
    scene.front.contract.check(asked[0], asked[1], answer)
    return answer


def case_roles_AS_IN_THE_TABLE(scene):
    if os.geteuid() != 0:
        raise Skip('only root can be somebody else')
    scene.request = lambda verb, name: make_request(scene, verb, name)
    scene.core.script('web-2.apply', wait='never')
    wrong = []
    for verb, (make, statuses) in TABLE.items():
        for number, (role, status) in enumerate(zip(ROLES, statuses)):
            running = scene.start('web-2')
            if running.status == 202:
                scene.running = running.headers['location']
            answer = ask_as(scene, number, make(scene))
            if answer.status != status:
                wrong.append((verb, role, answer.status, status))
            if answer.status == 202:
                scene.wait_end(answer)
    scene.ask('POST', scene.running + '/cancel')
    assert not wrong, wrong


def case_core_restarted_STILL_THERE(scene):
    operation = scene.wait_end(expect(scene.start('web-1', 'check'), 202))
    scene.core.kill()
    expect(scene.ask('GET', '/v1/domains'), 503, 'UNAVAILABLE')
    scene.core.run()
    expect(until(lambda: found(scene.ask('GET', '/v1/operations/' + operation['id'])), 'the core'),
           200)


def found(answer):
    return answer if answer.status == 200 else None


def main(program, wanted):
    with Bus() as bus, Scene(program, bus) as scene:
        functions = {name: function for name, function in globals().items()
                     if not wanted or any(word in name for word in wanted)}
        return run_cases(functions, scene)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1], sys.argv[2:]))
