#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatch-apid as its clients see it: test-api.py PROGRAM [CASE...]

On a bus of its own. Every answer is held against openapi.json. Groups H1 to H11 are those of the
list of faults that the project tests for.
"""

import base64
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time

from frontend import Client, FrontEnd, request
from cases import run_cases

UUID = '5c5c1b3e-8f0a-4b43-9f0b-0c6f1f2a9d11'
OTHER_UUID = '1b7d6a52-3a7f-4c8a-a3ee-5a9a0c7e6b22'
NO_UUID = '00000000-0000-0000-0000-000000000000'
NO_DIGEST = '0' * 64
PATCH = b'\x7fELF' + bytes(range(256)) * 64
DIGEST = hashlib.sha256(PATCH).hexdigest()
BYTES = {'Content-Type': 'application/octet-stream'}
OPERATIONS = f'/v1/domains/{UUID}/operations'
EVENTS_NOW = '/v1/events?follow=false'


def upload(front):
    return front.ask('POST', '/v1/patches', BYTES, PATCH)


def start(front, headers=(), **options):
    return front.ask('POST', OPERATIONS, headers,
                     {'verb': 'apply', 'patch': DIGEST, 'options': options})


def fresh(front):
    """Nothing of the case before."""
    front.core.tell('forget')
    front.core.tell('hang', methods=[])
    front.core.tell('garbage', methods=[])
    front.core.tell('roles', roles={}, default={'verbs': ['*'], 'domains': ['*']})
    front.core.tell('calls')


def expect(answer, status, code=None):
    assert answer.status == status, (answer.status, answer.body[:500])
    if code is not None:
        assert answer.code == code, answer.body
    return answer


# --- resources

def case_domains_LISTED(front):
    answer = expect(front.ask('GET', '/v1/domains'), 200)
    assert [domain['name'] for domain in answer.json] == ['web-01', 'db-01']
    assert front.core.tell('calls') == [['ListDomains', f'uid:{os.getuid()}']]


def case_domain_SHOWN(front):
    assert expect(front.ask('GET', f'/v1/domains/{UUID}'), 200).json['uuid'] == UUID
    expect(front.ask('GET', f'/v1/domains/{NO_UUID}'), 404, 'NOT_FOUND')


def case_domain_REFRESHED(front):
    expect(front.ask('POST', f'/v1/domains/{UUID}/refresh'), 202)
    expect(front.ask('POST', f'/v1/domains/{NO_UUID}/refresh'), 404, 'NOT_FOUND')


def case_unchanged_NOT_SENT_AGAIN(front):
    for path in '/v1/domains', f'/v1/domains/{UUID}', '/v1/patches', '/v1/openapi.json', '/':
        tag = expect(front.ask('GET', path), 200).headers['etag']
        for value in tag, f'"x", {tag}', f'W/{tag}', '*':
            expect(front.ask('GET', path, {'If-None-Match': value}), 304)
        expect(front.ask('GET', path, {'If-None-Match': '"x"'}), 200)


def case_patch_UPLOADED_ONCE(front):
    first = expect(upload(front), 201)
    assert first.json['sha256'] == DIGEST and first.json['signature'] == 'none'
    assert first.headers['location'] == f'/v1/patches/{DIGEST}'
    expect(upload(front), 200)
    expect(front.ask('GET', f'/v1/patches/{DIGEST}'), 200)
    assert len(front.ask('GET', '/v1/patches').json) == 1


def case_signature_PASSED_ON(front):
    signature = base64.b64encode(b'untrusted comment: x\nRWQ=\n').decode()
    answer = front.ask('POST', '/v1/patches', {**BYTES, 'Hvpatch-Signature': signature}, PATCH)
    assert expect(answer, 201).json['signature'] == 'minisign'
    for bad in 'abc', '!!!!', 'a===', 'YQ==YQ==', 'A' * 8196, '':
        answer = front.ask('POST', '/v1/patches', {**BYTES, 'Hvpatch-Signature': bad}, PATCH)
        expect(answer, 400, 'INVALID_ARGUMENT')


def case_bad_patch_REFUSED(front):
    expect(front.ask('POST', '/v1/patches', BYTES, b'no ELF'), 422, 'BAD_DATA')
    expect(front.ask('POST', '/v1/patches', BYTES, b''), 400, 'INVALID_ARGUMENT')


def case_patch_DELETED(front):
    upload(front)
    expect(front.ask('DELETE', f'/v1/patches/{DIGEST}'), 204)
    expect(front.ask('DELETE', f'/v1/patches/{DIGEST}'), 404, 'NOT_FOUND')


def case_operation_FOLLOWED_TO_ITS_END(front):
    upload(front)
    begun = expect(start(front, timeout=60), 202)
    path = begun.headers['location']
    assert path == '/v1/operations/' + begun.json['id']
    assert begun.json['state'] == 'queued' and begun.json['options']['timeout'] == 60
    assert front.ask('GET', f'/v1/domains/{UUID}').json['operation'] == begun.json['id']
    front.core.tell('end', identity=begun.json['id'], state='applied')
    assert front.ask('GET', path).json['state'] == 'applied'
    assert front.ask('GET', f'/v1/domains/{UUID}').json['operation'] is None


def case_operations_FILTERED(front):
    upload(front)
    front.core.tell('end', identity=start(front).json['id'], state='applied')
    start(front)
    for query, count in ('', 2), ('?state=applied', 1), ('?verb=apply', 2), ('?verb=check', 0), \
            (f'?domain={OTHER_UUID}', 0), ('?limit=1', 1), ('?limit=1000&verb=apply', 2):
        assert len(expect(front.ask('GET', '/v1/operations' + query), 200).json) == count, query
    assert len(front.ask('GET', OPERATIONS).json) == 2
    assert len(front.ask('GET', OPERATIONS + '?state=queued').json) == 1
    expect(front.ask('GET', f'/v1/domains/{NO_UUID}/operations'), 404)
    for query in '?x=1', '?limit=0', '?limit=1001', '?limit=-1', '?limit=x', '?state=x', '?limit', \
            '?verb=apply&verb=apply', f'?domain={UUID.upper()}', '?domain=a%2fb', '?&', '?=1':
        expect(front.ask('GET', '/v1/operations' + query), 400, 'INVALID_ARGUMENT')


def case_busy_NAMES_WHAT_IS_IN_THE_WAY(front):
    upload(front)
    first = start(front).json['id']
    assert expect(start(front), 409, 'BUSY').json['operation'] == first


def case_requests_READ_STRICTLY(front):
    upload(front)
    good = {'verb': 'check', 'patch': DIGEST}
    bad = [[], 'x', 1, None, {}, {**good, 'x': 1}, {**good, 'verb': 'look'}, {'verb': 'check'},
           {**good, 'name': 'n'}, {**good, 'patch': DIGEST.upper()}, {**good, 'patch': None},
           {**good, 'version': 2}, {'verb': 'revert'}, {'verb': 'revert', 'name': 'a/b'},
           {'verb': 'revert', 'name': 'n', 'patch': DIGEST}, {'verb': 'revert', 'name': 'x' * 56},
           {'verb': 'recover', 'name': 'n'}, {**good, 'options': []}]
    options = [{'x': 1}, {'timeout': '1'}, {'timeout': -1}, {'timeout': 86401}, {'max_pause': 0},
               {'max_pause': 1001}, {'prod': 1}, {'replace': 'yes'}, {'accept': 'guard'},
               {'accept': ['Guard']}, {'accept': ['guard', 'guard']}, {'accept': [1]},
               {'accept': [f'a{i}' for i in range(17)]}, {'kthreads': ''}, {'kthreads': 'a b'},
               {'kthreads': 'x' * 1025}, {'timeout': True}, {'timeout': None}, {'timeout': [1]}]
    for body in bad + [{**good, 'options': option} for option in options]:
        answer = front.ask('POST', OPERATIONS, {'Content-Type': 'application/json'},
                           json.dumps(body).encode())
        expect(answer, 400, 'INVALID_ARGUMENT')
    assert not [call for call in front.core.tell('calls') if call[0] == 'StartOperation']
    good = [{'verb': 'revert', 'name': 'kpatch-x_1'}, {'verb': 'revert', 'patch': DIGEST},
            {'version': 1, 'verb': 'recover'}, {'verb': 'replace', 'patch': DIGEST, 'options': {
                'timeout': 0.5, 'max_pause': 1000, 'prod': False, 'replace': None,
                'accept': ['guard'], 'kthreads': 'parked=a*,b'}}]
    for body in good:
        front.core.tell('end', identity=expect(front.ask('POST', OPERATIONS, (), body),
                                               202).json['id'], state='checked')


# --- HTTP

def case_methods_ANSWERED(front):
    for path, allowed in (('/v1/domains', 'GET, HEAD, OPTIONS'),
                          (OPERATIONS, 'GET, HEAD, POST, OPTIONS'),
                          (f'/v1/patches/{DIGEST}', 'GET, HEAD, DELETE, OPTIONS'),
                          (f'/v1/operations/{UUID}/cancel', 'POST, OPTIONS'),
                          ('/', 'GET, HEAD, OPTIONS')):
        answer = expect(front.ask('OPTIONS', path), 204)
        assert answer.headers['allow'] == allowed, answer.headers
        for method in 'PUT', 'PATCH', 'TRACE', 'CONNECT', 'FOO', 'get':
            assert expect(front.ask(method, path), 405,
                          'METHOD_NOT_ALLOWED').headers['allow'] == allowed
    expect(front.ask('OPTIONS', '/nowhere'), 404)


def case_head_IS_GET_WITHOUT_BODY(front):
    for path in '/v1/domains', '/', '/metrics', '/v1/openapi.json', '/v1/operations', '/v1/healthz':
        with front.client() as client:
            head = client.ask('HEAD', path)
            get = client.ask('GET', path)
        assert head.status == get.status == 200
        if path != '/metrics':
            assert head.headers['content-length'] == get.headers['content-length']
    with front.client() as client:
        expect(client.ask('HEAD', '/v1/events'), 200)
        expect(client.ask('HEAD', '/v1/nowhere'), 404)
        expect(client.ask('GET', '/v1/domains'), 200)


def case_accept_HEEDED(front):
    for accept in 'application/json', '*/*', 'text/html, application/*;q=0.1', 'a/b;q=1,*/*;q=0.1':
        expect(front.ask('GET', '/v1/domains', {'Accept': accept}), 200)
    for accept in 'text/html', 'application/json;q=0', 'application/jsonx', '', 'a/*':
        expect(front.ask('GET', '/v1/domains', {'Accept': accept}), 406, 'NOT_ACCEPTABLE')
    for accept, kind in (('text/event-stream', 'text/event-stream'),
                         ('*/*', 'application/x-ndjson'), ('text/*', 'text/event-stream'),
                         ('application/x-ndjson;q=0.5, text/event-stream', 'text/event-stream')):
        answer = front.ask('GET', EVENTS_NOW, {'Accept': accept})
        assert expect(answer, 200).headers['content-type'] == kind, accept


def case_media_types_HEEDED(front):
    for kind in 'text/plain', 'application/x-www-form-urlencoded', 'application/json; charset=x', \
            'application/jsonx', '':
        answer = front.ask('POST', OPERATIONS, {'Content-Type': kind}, b'{}')
        expect(answer, 415, 'UNSUPPORTED_MEDIA_TYPE')
    expect(front.ask('POST', '/v1/patches', {'Content-Type': 'application/json'}, PATCH), 415)
    expect(front.ask('POST', OPERATIONS, {'Content-Type': 'Application/JSON; charset=UTF-8'},
                     b'{}'), 400)


def case_page_MAY_LOAD_ITS_OWN_FILES_ALONE(front):
    for path, kind in ('/', 'text/html'), ('/app.js', 'text/javascript'), \
            ('/style.css', 'text/css'):
        answer = expect(front.ask('GET', path), 200)
        assert answer.headers['content-type'] == kind + '; charset=utf-8'
        policy = answer.headers['content-security-policy']
        assert "default-src 'none'" in policy and 'unsafe' not in policy
        assert answer.headers['x-content-type-options'] == 'nosniff'
    parts = re.findall(r"'\./(part/[a-z-]+\.js)'", front.ask('GET', '/app.js').body.decode())
    for part in parts:
        assert expect(front.ask('GET', '/' + part), 200).headers['content-type'].startswith(
            'text/javascript')
    assert parts
    for path in '/part/nowhere.js', '/part/', '/part/../app.js', '/part/dom.js/', '/part/Dom.js', \
            '/web/index.html', '/index.html', '/openapi.json', '//', '/app.js/', '/../etc':
        expect(front.ask('GET', path), 404, 'NOT_FOUND')


def case_pages_of_others_MAY_NOT_ASK(front):
    upload(front)
    identity = start(front).json['id']
    path = f'/v1/operations/{identity}/cancel'
    for headers in {'Origin': 'https://evil.example'}, {'Origin': 'null'}, \
            {'Sec-Fetch-Site': 'cross-site'}, {'Origin': 'https://localhost.evil.example'}:
        expect(front.ask('POST', path, headers), 403, 'FORBIDDEN')
        expect(front.ask('GET', '/v1/domains', headers), 403, 'FORBIDDEN')
    expect(front.ask('POST', path, {'Origin': 'https://localhost',
                                    'Sec-Fetch-Site': 'same-origin'}), 202)


def case_hosts_that_are_not_this_one_MISDIRECTED(front):
    for host in 'evil.example', 'evil.example:8080', 'localhost.evil.example', '127.0.0.1.nip.io', \
            'localhost:x', 'localhost:80:80', '[::1]x', '::1', '10.0.0.1', '':
        # As a browser sends it whose page has its own name resolve to the tunnel.
        headers = {'Host': host, 'Origin': f'http://{host}', 'Sec-Fetch-Site': 'same-origin'}
        for method, path in ('GET', '/v1/domains'), ('GET', '/'), ('OPTIONS', '/v1/domains'), \
                ('POST', f'/v1/domains/{UUID}/refresh'), ('GET', '/nowhere'):
            expect(front.ask(method, path, headers), 421, 'MISDIRECTED')
    assert front.core.tell('calls') == []
    for host in 'localhost', 'LocalHost:8080', '127.0.0.1:1', '[::1]', '[::1]:8080':
        headers = {'Host': host, 'Origin': f'http://{host}', 'Sec-Fetch-Site': 'same-origin'}
        expect(front.ask('GET', '/v1/domains', headers), 200)


def case_connection_KEPT(front):
    with front.client() as client:
        for _ in range(20):
            expect(client.ask('GET', '/v1/domains'), 200)
            expect(client.ask('GET', '/nowhere'), 404)
            expect(client.ask('POST', OPERATIONS, (), {}), 400)
        answer = client.ask('GET', '/v1/domains', {'Connection': 'close'})
        assert answer.headers['connection'] == 'close' and client.is_closed()


def case_old_http_ANSWERED(front):
    answer = front.send_raw(b'GET /v1/domains HTTP/1.0\r\n\r\n')
    assert answer.status == 200 and 'transfer-encoding' not in answer.headers
    with front.client() as client:
        client.send(b'GET /v1/events HTTP/1.0\r\n\r\n')
        head = client.take_until(b'\r\n\r\n')
        assert b' 200 ' in head and b'chunked' not in head
        front.core.tell('events', count=1)
        assert json.loads(client.take_until(b'\n'))['type'] == 'daemon'


def case_expectations_MET(front):
    with front.client() as client:
        client.send(request('POST', '/v1/patches',
                            {**BYTES, 'Expect': '100-continue', 'Content-Length': len(PATCH)}))
        assert client.take_until(b'\r\n\r\n').startswith(b'HTTP/1.1 100 ')
        client.send(PATCH)
        expect(client.answer(), 201)
        expect(client.ask('GET', '/v1/patches'), 200)
    with front.client() as client:
        client.send(request('POST', '/v1/nowhere',
                            {**BYTES, 'Expect': '100-continue', 'Content-Length': 9}))
        assert client.take_until(b'\r\n').startswith(b'HTTP/1.1 404 ')
    expect(front.ask('GET', '/v1/domains', {'Expect': 'tea'}), 417, 'EXPECTATION')


def case_chunked_body_TAKEN(front):
    body = b'5\r\n\x7fELFx\r\n0a\r\n0123456789\r\n0\r\n\r\n'
    with front.client() as client:
        client.send(request('POST', '/v1/patches', {**BYTES, 'Transfer-Encoding': 'chunked'}))
        for byte in body:
            client.send(bytes([byte]))
        assert expect(client.answer(), 201).json['size'] == 15
        expect(client.ask('GET', '/v1/patches'), 200)


# --- events

def lines_of(answer):
    return [json.loads(line) for line in answer.body.splitlines() if line]


def case_events_HELD_READ(front):
    last = front.core.tell('events', count=5)
    events = lines_of(front.ask('GET', EVENTS_NOW))
    assert [event['seq'] for event in events[-5:]] == list(range(last - 4, last + 1))
    assert [event['seq'] for event in lines_of(front.ask('GET', f'{EVENTS_NOW}&since={last - 2}'))
            ] == [last - 1, last]
    assert lines_of(front.ask('GET', f'{EVENTS_NOW}&since={last}')) == []


def case_events_FOLLOWED(front):
    since = front.core.tell('events', count=1)
    with front.client() as client, front.client() as late:
        client.send(request('GET', f'/v1/events?since={since - 1}'))
        late.send(request('GET', '/v1/events'))
        assert client.take_until(b'\r\n\r\n').startswith(b'HTTP/1.1 200')
        assert late.take_until(b'\r\n\r\n').startswith(b'HTTP/1.1 200')
        seen = read_events(client, 1)
        last = front.core.tell('events', count=200)
        seen += read_events(client, 200)
        assert [event['seq'] for event in seen] == list(range(since, last + 1))
        assert [event['seq'] for event in read_events(late, 200)] == \
            list(range(since + 1, last + 1))


def read_events(client, count):
    """Of a chunked NDJSON stream."""
    events, rest = [], getattr(client, 'line', b'')
    while len(events) < count:
        size = int(client.take_until(b'\r\n'), 16)
        assert size > 0, 'the stream ended'
        rest += client.take(size)
        client.take(2)
        *lines, rest = rest.split(b'\n')
        events += [json.loads(line) for line in lines if line]
    client.line = rest
    return events


def case_events_for_browsers_RESUMED(front):
    last = front.core.tell('events', count=3)
    headers = {'Accept': 'text/event-stream', 'Last-Event-ID': str(last - 1)}
    answer = front.ask('GET', f'{EVENTS_NOW}&since=0', headers)
    fields = dict(line.split(': ', 1) for line in answer.body.decode().splitlines() if line)
    assert fields['id'] == str(last) and fields['event'] == 'daemon', fields
    front.contract.validate(front.contract.schema('Event'), json.loads(fields['data']))
    expect(front.ask('GET', EVENTS_NOW, {'Last-Event-ID': 'x'}), 400)


def case_events_lost_GONE(front):
    last = front.core.tell('events', count=5000)
    answer = expect(front.ask('GET', f'/v1/events?since={last - 4500}'), 410, 'GONE')
    expect(front.ask('GET', f'{EVENTS_NOW}&since={answer.json["oldest"]}'), 200)
    expect(front.ask('GET', f'/v1/events?since={last + 1}'), 410, 'GONE')
    for since in '-1', 'x', '9007199254740992', '1e3', '0x1', '':
        expect(front.ask('GET', f'/v1/events?since={since}'), 400, 'INVALID_ARGUMENT')


def case_events_core_back_FOLLOWED_AGAIN(front):
    since = front.core.tell('events', count=1)
    with front.client() as client:
        client.send(request('GET', '/v1/events'))
        client.take_until(b'\r\n\r\n')
        front.core.tell('hang', methods=['GetEvents'])
        front.core.tell('events', count=1)
        time.sleep(0.2)
        front.core.tell('hang', methods=[])
        front.core.tell('events', count=1)
        # The question that hangs is given up after core-timeout.
        assert [event['seq'] for event in read_events(client, 2)] == [since + 1, since + 2]


# --- the service

def case_health_TOLD(front):
    assert expect(front.ask('GET', '/v1/healthz'), 200).json['status'] == 'ok'


def case_contract_SERVED(front):
    served = expect(front.ask('GET', '/v1/openapi.json'), 200).json
    assert served == front.contract.document


def case_metrics_OF_BOTH(front):
    text = expect(front.ask('GET', '/metrics'), 200).body.decode()
    assert 'hvpatch_operations_total' in text and 'hvpatch_api_connections 1' in text
    names = [line.split()[2] for line in text.splitlines() if line.startswith('# TYPE')]
    assert len(names) == len(set(names)), names


# --- systemd

def run_activated(front, listener, notify_path):
    """The program with LISTENER as systemd passes it."""
    path = os.path.join(front.folder, 'activated.conf')
    with open(path, 'w') as stream:
        stream.write('[api]\nsocket=/nonexistent/socket\n')

    def pass_listener():
        os.dup2(listener.fileno(), 3)

    return subprocess.Popen(
        ['/bin/sh', '-c', 'LISTEN_PID=$$ exec "$@"', 'sh', front.program, '--as-root', '--bus',
         front.bus.address, '--config', path],
        env={**os.environ, 'LISTEN_FDS': '1', 'NOTIFY_SOCKET': notify_path,
             'WATCHDOG_USEC': '200000'},
        preexec_fn=pass_listener, pass_fds=(3, listener.fileno()), stderr=subprocess.PIPE)


def case_socket_of_systemd_SERVED(front):
    path = os.path.join(front.folder, 'activated')
    with socket.socket(socket.AF_UNIX) as listener, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        listener.bind(path)
        listener.listen()
        manager.bind(path + '.notify')
        manager.settimeout(20)
        process = run_activated(front, listener, path + '.notify')
        try:
            assert manager.recv(100) == b'READY=1'
            assert manager.recv(100) == b'WATCHDOG=1'
            with socket.socket(socket.AF_UNIX) as plain:
                plain.connect(path)
                expect(Client(plain).ask('GET', '/'), 200)
                # Without certificates there is nothing to read again, and systemd is told so.
                process.send_signal(1)
                told = iter(lambda: manager.recv(100), None)
                assert next(one for one in told if one.startswith(b'RELOADING=1\nMONOTONIC_USEC='))
                assert next(one for one in told if one != b'WATCHDOG=1') == b'READY=1'
                expect(Client(plain).ask('GET', '/'), 200)
        finally:
            process.terminate()
            process.communicate(timeout=20)
        assert process.returncode == 0 and os.path.exists(path)


def case_socket_of_a_network_without_certificates_REFUSED(front):
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        listener.listen()
        process = run_activated(front, listener, '/nonexistent')
        words = process.communicate(timeout=20)[1]
        assert process.returncode == 1 and b'only with cert' in words, words


def main(program, wanted):
    with FrontEnd(program, **{'core-timeout': 2}) as front:
        functions = {name: function for name, function in globals().items()
                     if not wanted or any(word in name for word in wanted)}
        return run_cases(functions, front, before=fresh)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1], sys.argv[2:]))
