#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatch-apid and clients who mean harm, or a core that fails: test-api-abuse.py PROGRAM [CASE...]

The cases' names begin with the group of faults that they are of. Limits are set low, so that they
are reached soon. After each case the service must be as well as before.
"""

import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
import time

from frontend import FrontEnd, request, wait_for
from cases import Skip, run_cases

UUID = '5c5c1b3e-8f0a-4b43-9f0b-0c6f1f2a9d11'
OTHER_UUID = '1b7d6a52-3a7f-4c8a-a3ee-5a9a0c7e6b22'
OPERATIONS = f'/v1/domains/{UUID}/operations'
PATCH = b'\x7fELF' + bytes(4096)
DIGEST = hashlib.sha256(PATCH).hexdigest()
BYTES = {'Content-Type': 'application/octet-stream'}
JSON = {'Content-Type': 'application/json'}
APPLY = {'verb': 'apply', 'patch': DIGEST}
STRANGER = 12345
MAX_PATCH = 1 << 20
EACH = 100
CALLS_EACH = 25     # as in hv-patcher/apid/core.c
LIMITS = {'head-timeout': 1, 'idle-timeout': 2, 'body-timeout': 3, 'stall-timeout': 2,
          'core-timeout': 2, 'heartbeat': 1, 'max-patch-size': MAX_PATCH,
          'max-connections': 300, 'max-connections-per-principal': EACH, 'max-uploads': 2}
# What ASan keeps of freed memory counts as resident.
SLACK_KIB = 64 << 10 if 'HVPATCH_TEST_ASAN' in os.environ else 8 << 10


def fresh(front):
    front.core.tell('forget')
    front.core.tell('hang', methods=[])
    front.core.tell('hold', methods=[])
    front.core.tell('garbage', methods=[])
    front.core.tell('roles', roles={}, default={'verbs': ['*'], 'domains': ['*']})
    wait_for(lambda: front.metric('hvpatch_api_connections') <= 1, 'all connections closed')


def upload(front):
    return front.ask('POST', '/v1/patches', BYTES, PATCH)


def start(front, headers=(), body=None):
    return front.ask('POST', OPERATIONS, headers, body or APPLY)


def expect(answer, status, code=None):
    assert answer is not None, 'no answer'
    assert answer.status == status, (answer.status, answer.body[:500])
    assert code is None or answer.code == code, answer.body
    return answer


class Uid:
    """Connections that are made within are of another user."""

    def __init__(self, uid):
        if os.geteuid() != 0:
            raise Skip('only root can be somebody else')
        self.uid = uid

    def __enter__(self):
        self.groups = os.getgroups()
        os.setgroups([])
        os.setegid(self.uid)
        os.seteuid(self.uid)

    def __exit__(self, *_):
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(self.groups)


def client_of(front, uid):
    with Uid(uid):
        return front.client()


# --- H1: who one is

def case_H1_other_uid_SEES_NOTHING(front):
    front.core.tell('roles', roles={'uid:0': {'verbs': ['*'], 'domains': ['*']}})
    upload(front)
    identity = start(front).json['id']
    with client_of(front, STRANGER) as client:
        for method, path, status in (
                ('GET', '/v1/domains', 403), ('GET', '/v1/operations', 403),
                ('GET', f'/v1/domains/{UUID}', 404), ('GET', f'/v1/operations/{identity}', 404),
                ('POST', f'/v1/operations/{identity}/cancel', 404), ('GET', '/v1/patches', 403),
                ('GET', f'/v1/patches/{DIGEST}', 403), ('DELETE', f'/v1/patches/{DIGEST}', 403),
                ('GET', '/v1/events', 403), ('GET', '/metrics', 403)):
            expect(client.ask(method, path), status)
        expect(client.ask('POST', OPERATIONS, (), APPLY), 404, 'NOT_FOUND')
        expect(client.ask('POST', '/v1/patches', BYTES, PATCH), 403, 'FORBIDDEN')


def case_H1_passed_descriptor_IS_WHO_CONNECTED(front):
    with client_of(front, STRANGER) as client:
        front.core.tell('calls')
        here, there = socket.socketpair()
        socket.send_fds(here, [b'x'], [client.socket.fileno()])
        passed = socket.socket(fileno=socket.recv_fds(there, 1, 1)[1][0])
        passed.settimeout(20)
        passed.sendall(request('GET', '/v1/domains'))
        assert passed.recv(12) == b'HTTP/1.1 200'
        passed.close()
    assert front.core.tell('calls') == [['ListDomains', f'uid:{STRANGER}']]


def case_H1_principal_in_the_request_IGNORED(front):
    front.core.tell('calls')
    front.ask('GET', '/v1/domains', {
        'Principal': 'uid:0', 'X-Remote-User': 'root', 'Authorization': 'Basic cm9vdDo=',
        'X-Forwarded-For': '127.0.0.1', 'X-SSL-Client-CN': 'admin', 'Cookie': 'uid=0'})
    assert front.core.tell('calls') == [['ListDomains', f'uid:{os.getuid()}']]


def case_H1_socket_of_a_group_CLOSED_TO_OTHERS(front):
    with FrontEnd(front.program, **{'socket-mode': '0660'}) as closed:
        try:
            client_of(closed, STRANGER).close()
        except PermissionError:
            return
    raise AssertionError('somebody else connects')


def case_H1_root_REFUSED_UNLESS_TOLD(front):
    if os.geteuid() != 0:
        raise Skip('not run as root')
    path = os.path.join(front.folder, 'other.conf')
    for text, word in ((f'[api]\nsocket={front.folder}/other\n', 'not as root'),
                       (f'[api]\nsocket={front.folder}/other\nuser=root\n', 'no user to become'),
                       (f'[api]\nsocket={front.folder}/other\nuser=nobody-such\n', 'no user'),
                       ('[api]\ntcp=127.0.0.1:0\n', 'only with cert'),
                       ('[api]\nsocket=\n', 'neither'), ('[api]\nsokcet=/x\n', 'unknown'),
                       ('[api]\nhead-timeout=0\n', 'a number'), ('[api\n', 'line')):
        with open(path, 'w') as stream:
            stream.write(text)
        result = subprocess.run([front.program, '--bus', front.bus.address, '--config', path],
                                capture_output=True, text=True, timeout=20)
        assert result.returncode not in (0, -11) and word in result.stderr, (text, result)
        assert not os.path.exists(f'{front.folder}/other')


# --- H2: what one may

def case_H2_viewer_REFUSED(front):
    upload(front)
    front.core.tell('roles', roles={}, default={'verbs': ['view'], 'domains': ['*']})
    expect(front.ask('GET', f'/v1/domains/{UUID}'), 200)
    for verb in 'check', 'apply', 'replace':
        expect(start(front, (), {'verb': verb, 'patch': DIGEST}), 403, 'FORBIDDEN')
    expect(start(front, (), {'verb': 'recover'}), 403, 'FORBIDDEN')


def case_H2_domain_outside_the_role_NOT_FOUND(front):
    upload(front)
    front.core.tell('roles', roles={}, default={'verbs': ['*'], 'domains': ['web-*']})
    expect(front.ask('GET', f'/v1/domains/{OTHER_UUID}'), 404)
    expect(front.ask('POST', f'/v1/domains/{OTHER_UUID}/operations', (), APPLY), 404)
    assert len(front.ask('GET', '/v1/domains').json) == 1


def case_H2_tricks_with_paths_NOT_FOUND(front):
    tricks = [UUID.upper(), UUID + '/', UUID + '%0a', UUID[:-1], UUID + '0', UUID.replace('-', ''),
              '..', '%2e%2e', '../patches', '..%2fpatches', '%00', UUID + '%00', f'({UUID})',
              f'./{UUID}', f'{UUID};x', f'%35{UUID[1:]}', 'web-01', '*', '-1', "'",
              'urn:uuid:' + UUID]
    front.core.tell('calls')
    for trick in tricks:
        for path in f'/v1/domains/{trick}', f'/v1/operations/{trick}', f'/v1/patches/{trick}':
            expect(front.ask('GET', path), 404, 'NOT_FOUND')
        expect(front.ask('POST', f'/v1/domains/{trick}/operations', (), APPLY), 404)
    for path in f'//v1/domains/{UUID}', f'/v1//domains/{UUID}', f'/V1/domains/{UUID}', '/v1', \
            f'/v1/domains/{UUID}/', '/v1/../v1/domains', '/v1/domains%2f' + UUID, \
            '/%76%31/domains':
        expect(front.ask('GET', path), 404, 'NOT_FOUND')
    assert front.core.tell('calls') == []


def case_H2_log_INJECTED_NOTHING(front):
    for path in '/v1/domains/x%0aroot:%20all%20is%20well', '/v1/%1b[2J', '/v1/' + 'x' * 1500:
        front.ask('DELETE', path)
    front.send_raw(b'DELETE /v1/a\nroot: all is well HTTP/1.1\r\nHost: x\r\n\r\n')
    log = front.log()
    assert '\x1b' not in log and '\nroot:' not in log and 'x' * 200 not in log


# --- H4: malformed and oversized requests

BAD_HEADS = (
    b'GET /v1/domains\r\n\r\n', b'GET  /v1/domains HTTP/1.1\r\nHost: x\r\n\r\n',
    b'GET /v1/domains HTTP/1.1 \r\nHost: x\r\n\r\n', b'GET /v1/domains HTTP/2.0\r\nHost: x\r\n\r\n',
    b'GET /v1/domains HTTP/1.2\r\nHost: x\r\n\r\n', b'GET /v1/domains http/1.1\r\nHost: x\r\n\r\n',
    b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', b'GET http://x/v1/domains HTTP/1.1\r\nHost: x\r\n\r\n',
    b'OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n', b'GET v1 HTTP/1.1\r\nHost: x\r\n\r\n',
    b'GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n', b'GET /v1/d\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n',
    b'GET /# HTTP/1.1\r\nHost: x\r\n\r\n', b'G@T / HTTP/1.1\r\nHost: x\r\n\r\n',
    b'\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n', b'GET / HTTP/1.1\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n', b'GET / HTTP/1.1\r\nHost: x/y\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost : x\r\n\r\n', b'GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n',
    b'GET / HTTP/1.1\r\n Host: x\r\n\r\n', b'GET / HTTP/1.1\r\nHost: x\r\nnocolon\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n', b'GET / HTTP/1.1\r\nHost: x\r\na b: y\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: x\r\na: \x00\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: x\r\na: b\rc\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: x\r\na: b\nc: d\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: x\r\nAccept: \x7f\r\n\r\n',
    b'X' * 17 + b' / HTTP/1.1\r\nHost: x\r\n\r\n',
    b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n')


def case_H4_malformed_heads_REFUSED(front):
    for head in BAD_HEADS:
        answer = expect(front.send_raw(head), 400, 'INVALID_ARGUMENT')
        assert answer.headers['connection'] == 'close', head
        front.contract.validate(front.contract.schema('Problem'), answer.json)


SMUGGLED = b'0\r\n\r\nDELETE /v1/patches/' + DIGEST.encode() + b' HTTP/1.1\r\nHost: x\r\n\r\n'
BAD_FRAMES = (
    b'Content-Length: 6\r\nTransfer-Encoding: chunked', b'Transfer-Encoding: chunked\r\n'
    b'Content-Length: 0', b'Content-Length: 6\r\nContent-Length: 7', b'Content-Length: 6\r\n'
    b'content-length: 6', b'Content-Length: 6, 6', b'Content-Length: +6', b'Content-Length: -1',
    b'Content-Length: 0x6', b'Content-Length: 6 6', b'Content-Length: ', b'Content-Length: six',
    b'Transfer-Encoding: gzip, chunked', b'Transfer-Encoding: chunked, identity',
    b'Transfer-Encoding: xchunked', b'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked',
    b'Transfer-Encoding: "chunked"', b'Transfer-Encoding: ', b'Transfer-Encoding:\x0bchunked',
    b'Transfer-Encoding : chunked', b'Transfer-Encoding\x00: chunked')


def case_H4_smuggling_REFUSED(front):
    upload(front)
    for frame in BAD_FRAMES:
        for body in b'', SMUGGLED:
            answer = front.send_raw(b'POST ' + OPERATIONS.encode() + b' HTTP/1.1\r\nHost: x\r\n'
                                    b'Content-Type: application/json\r\n' + frame + b'\r\n\r\n'
                                    + body)
            expect(answer, 400, 'INVALID_ARGUMENT')
            assert answer.headers['connection'] == 'close', frame
    expect(front.ask('GET', f'/v1/patches/{DIGEST}'), 200)


def case_H4_bad_chunks_REFUSED(front):
    for body in (b'x\r\n', b'5;ext=1\r\nhello\r\n0\r\n\r\n', b'5\r\nhello0\r\n\r\n', b'-1\r\n',
                 b'5\nhello\n0\n\n', b'000000005\r\nhello\r\n', b'ffffffffffffffff\r\n', b'\r\n',
                 b'0\r\nTrailer: x\r\n\r\n', b' 5\r\nhello\r\n', b'0x5\r\nhello\r\n'):
        answer = front.send_raw(request('POST', '/v1/patches', {
            **BYTES, 'Transfer-Encoding': 'chunked'}) + body)
        expect(answer, 400, 'INVALID_ARGUMENT')
        assert answer.headers['connection'] == 'close', body


def case_H4_heads_without_end_REFUSED(front):
    before = front.rss_kib()
    for data, status in ((b'GET /' + b'x' * (8 << 20), 414), (b'X' * (8 << 20), 414),
                         (request('GET', '/' + 'x' * 2048), 414),
                         (b'GET / HTTP/1.1\r\nA: ' + b'x' * (8 << 20), 431),
                         (b'GET / HTTP/1.1\r\n' + b'a: b\r\n' * 100000, 431),
                         (b'GET / HTTP/1.1\r\nHost: x\r\n' + b'a: b\r\n' * 64 + b'\r\n', 431),
                         (b'GET / HTTP/1.1\r\nHost: [::1]\r\n' + b'a: b\r\n' * 63 + b'\r\n',
                          200)):
        assert expect(front.send_raw(data), status).status == status
    assert front.rss_kib() - before < SLACK_KIB


def case_H4_large_bodies_REFUSED(front):
    before = front.rss_kib()
    for path, kind, limit in ((OPERATIONS, JSON, 65536), ('/v1/patches', BYTES, MAX_PATCH)):
        for length in limit + 1, 256 << 20, 10 ** 15, 10 ** 30:
            answer = front.send_raw(request('POST', path, {**kind, 'Content-Length': length})
                                    + bytes(1 << 20))
            expect(answer, 413, 'TOO_LARGE')
        chunk = b'10000\r\n' + bytes(65536) + b'\r\n'
        answer = front.send_raw(request('POST', path, {**kind, 'Transfer-Encoding': 'chunked'})
                                + chunk * 1024)
        expect(answer, 413, 'TOO_LARGE')
    expect(front.ask('POST', '/v1/patches', BYTES, PATCH.ljust(MAX_PATCH, b'\0')), 201)
    assert front.rss_kib() - before < SLACK_KIB


def case_H4_body_that_does_not_come_TIMED_OUT(front):
    for head in (request('POST', OPERATIONS, {**JSON, 'Content-Length': 10}) + b'{',
                 request('POST', '/v1/patches', {**BYTES, 'Transfer-Encoding': 'chunked'})
                 + b'5\r\nx'):
        expect(front.send_raw(head), 408, 'TIMED_OUT')
    with front.client() as client:
        client.send(request('POST', OPERATIONS, {**JSON, 'Content-Length': 10}) + b'{')
        client.socket.shutdown(socket.SHUT_WR)
        expect(client.answer(), 400, 'INVALID_ARGUMENT')
    with front.client() as client:
        client.send(request('POST', OPERATIONS, {**JSON, 'Content-Length': 1000}))
        begin = time.monotonic()
        while time.monotonic() - begin < 6:
            try:
                client.send(b' ')
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(0.2)
        expect(client.answer(), 408, 'TIMED_OUT')


def case_H4_body_where_none_is_taken_REFUSED(front):
    for method, path in ('GET', '/v1/domains'), ('HEAD', '/v1/domains'), \
            ('DELETE', f'/v1/patches/{DIGEST}'), ('OPTIONS', '/v1/domains'):
        with front.client() as client:
            client.send(request(method, path, {'Content-Length': 1}) + b'x')
            assert client.answer(method).status in (400, 405), method
            assert client.is_closed()


def case_H4_compressed_bodies_REFUSED(front):
    for encoding in 'gzip', 'deflate', 'br', 'identity, gzip', 'x':
        answer = front.ask('POST', OPERATIONS, {**JSON, 'Content-Encoding': encoding}, b'\x1f\x8b')
        expect(answer, 415, 'UNSUPPORTED_MEDIA_TYPE')


def case_H4_hostile_json_REFUSED(front):
    before = front.rss_kib()
    verb = b'{"verb":"apply","patch":"' + DIGEST.encode() + b'"'
    for text in (b'[' * 30000, b'{"a":' * 10000, b'[' * 5 + b']' * 5,
                 b'{"options":{"accept":[[[]]]}}',
                 verb + b',"verb":"revert"}', verb + b',"options":{"prod":true,"prod":false}}',
                 verb + b',"\\u0076erb":"revert"}', verb + b',}', verb + b'}}', verb, verb + b'} x',
                 verb + b'}/**/', b'//\n' + verb + b'}', b'\xef\xbb\xbf' + verb + b'}',
                 b"{'verb':1}",
                 verb + b',"options":{"timeout":1e999}}', verb + b',"options":{"timeout":01}}',
                 verb + b',"options":{"timeout":' + b'9' * 400 + b'}}', b'', b'\0', b'nul', b'+1',
                 verb + b',"options":{"timeout":99999999999999999999}}', b'{"verb":"\\ud800"}',
                 verb + b',"options":{"timeout":NaN}}', verb + b',"options":{"timeout":-0.5}}',
                 b'{"verb":"apply\\u0000"}', b'{"verb":"a\nb"}', b'"\xff"',
                 b'[' + b'1,' * 30000 + b'1]',
                 verb + b',"name":"\xc3\xa4"}', b'{"verb":["apply"]}',
                 b'{"verb":{"verb":"apply"}}'):
        answer = front.ask('POST', OPERATIONS, JSON, text)
        expect(answer, 400, 'INVALID_ARGUMENT')
        assert len(answer.body) < 1000
    assert front.rss_kib() - before < SLACK_KIB


# --- H5: clients that take their time

def case_H5_slow_loris_CUT_OFF(front):
    with front.client() as client:
        client.send(b'GET / HTTP/1.1\r\nHost: x\r\n')
        begin = time.monotonic()
        for _ in range(100):
            try:
                client.send(b'a: b\r\n')
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(0.05)
            if time.monotonic() - begin > 1.5:
                break
        expect(client.answer(), 408, 'TIMED_OUT')


def case_H5_idle_connections_CLOSED(front):
    with front.client() as silent, front.client() as used:
        expect(used.ask('GET', '/v1/domains'), 200)
        assert silent.is_closed() and used.is_closed()


def case_H5_connections_LIMITED_EACH_AND_ALL(front):
    clients = []
    try:
        while len(clients) < EACH:
            clients.append(front.client())
        wait_for(lambda: expect_refusal(front), 'one too many is refused')
        with client_of(front, STRANGER) as other:
            expect(other.ask('GET', '/v1/healthz'), 200)
    finally:
        for client in clients:
            client.close()
    wait_for(lambda: front.client().ask('GET', '/v1/domains').status == 200, 'room again')


def expect_refusal(front):
    with front.client() as client:
        answer = client.answer()
        return expect(answer, 429, 'TOO_MANY').headers['retry-after'] == '1'


def case_H5_half_closed_ANSWERED(front):
    with front.client() as client:
        client.send(request('GET', '/v1/domains'))
        client.socket.shutdown(socket.SHUT_WR)
        expect(client.answer(), 200)
        assert client.is_closed()


def case_H5_reader_that_takes_nothing_DROPPED(front):
    before = front.rss_kib()
    dropped = front.metric('hvpatch_api_event_readers_dropped_total')
    with front.client() as slow, front.client() as quick:
        for client in slow, quick:
            client.send(request('GET', '/v1/events'))
            client.take_until(b'\r\n\r\n')
        seen = 0
        for _ in range(20):
            front.core.tell('events', count=100, padding=4000)
            seen += len(drain(quick))
        assert seen > 1000 * 4000, seen
        wait_for(lambda: front.metric('hvpatch_api_event_readers_dropped_total') > dropped,
                 'the slow reader is dropped')
        assert front.metric('hvpatch_api_event_readers') == 1
    wait_for(lambda: front.metric('hvpatch_api_event_readers') == 0, 'the other left')
    assert front.rss_kib() - before < SLACK_KIB + (4 << 10)


def drain(client):
    """What there is to be had now."""
    client.socket.settimeout(0.3)
    try:
        while client.receive():
            pass
    except TimeoutError:
        pass
    data, client.pending = client.pending, b''
    return data


def case_H5_answer_that_is_not_taken_DROPPED(front):
    with front.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(request('GET', '/v1/openapi.json') * 20)
        wait_for(lambda: front.metric('hvpatch_api_connections') == 1, 'it is cut off')


def case_H5_pipelining_BOUNDED(front):
    with front.client() as client:
        client.send(request('GET', '/v1/healthz') * 50)
        for _ in range(50):
            expect(client.answer(), 200)
    before = front.rss_kib()
    with front.client() as client:
        client.socket.settimeout(0.5)
        try:
            for _ in range(200):
                client.send(request('GET', '/v1/openapi.json') * 500)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            pass
        assert front.rss_kib() - before < SLACK_KIB
        expect(front.ask('GET', '/v1/domains'), 200)


def case_H5_events_for_many_ASKED_ONCE(front):
    clients = [front.client() for _ in range(80)]
    for client in clients:
        client.send(request('GET', '/v1/events'))
        client.take_until(b'\r\n\r\n')
    front.core.tell('calls')
    front.core.tell('events', count=1)
    for client in clients:
        client.take_until(b'"type":"daemon"')
    calls = [call for call in front.core.tell('calls') if call[0] == 'GetEvents']
    assert len(calls) <= 6, len(calls)
    for client in clients:
        client.close()
    wait_for(lambda: front.metric('hvpatch_api_event_readers') == 0, 'all are found gone')


def ask_at_once(front, uid, count):
    """COUNT clients that have asked for the domains."""
    clients = [client_of(front, uid) for _ in range(count)]
    for client in clients:
        client.send(request('GET', '/v1/domains'))
    return clients


def take_answers(clients, status, code=None):
    for client in clients:
        expect(client.answer(), status, code)
        client.close()


def case_H5_more_at_once_than_the_bus_takes_ALL_ANSWERED(front):
    front.core.tell('hold', methods=['ListDomains'])
    front.core.tell('calls')
    clients = ask_at_once(front, os.geteuid(), 90) + ask_at_once(front, STRANGER, 60)
    asked = []
    wait_for(lambda: asked.extend(front.core.tell('calls')) or len(asked) >= 50, 'they are asked')
    # Whose share is not used up is served at once.
    with client_of(front, STRANGER + 1) as other:
        expect(other.ask('GET', '/v1/patches'), 200)
    asked += front.core.tell('calls')
    for uid in os.geteuid(), STRANGER:
        assert asked.count(['ListDomains', f'uid:{uid}']) == CALLS_EACH, asked
    front.core.tell('hold', methods=[])
    take_answers(clients, 200)


def case_H5_uploads_LIMITED(front):
    clients = [front.client() for _ in range(2)]
    for client in clients:
        client.send(request('POST', '/v1/patches', {**BYTES, 'Content-Length': 100}) + b'x')
    time.sleep(0.1)
    expect(upload(front), 429, 'TOO_MANY')
    for client in clients:
        client.close()
    wait_for(lambda: upload(front).status == 201, 'room again')


def case_H5_uploads_of_who_may_not_TAKE_NO_PLACE(front):
    front.core.tell('roles', roles={f'uid:{STRANGER}': {'verbs': ['view'], 'domains': ['*']}},
                    default={'verbs': ['*'], 'domains': ['*']})
    front.core.tell('calls')
    head = request('POST', '/v1/patches', {**BYTES, 'Content-Length': 100})
    clients = [client_of(front, STRANGER) for _ in range(2)]
    for client in clients:
        client.send(head + b'x')
    time.sleep(0.1)
    expect(upload(front), 201)
    take_answers(clients, 403, 'FORBIDDEN')
    with client_of(front, STRANGER) as client:
        client.send(head.replace(b'\r\n', b'\r\nExpect: 100-continue\r\n', 1))
        assert client.take_until(b'\r\n').startswith(b'HTTP/1.1 403 ')
    assert ['UploadPatch', f'uid:{STRANGER}'] not in front.core.tell('calls')


def case_H5_upload_left_while_it_is_asked_about_ENDED(front):
    front.core.tell('hold', methods=['MayUpload'])
    with front.client() as client:
        client.send(request('POST', '/v1/patches', {**BYTES, 'Content-Length': 100}) + b'x')
        wait_for(lambda: ['MayUpload', f'uid:{os.geteuid()}'] in front.core.tell('calls'),
                 'it is asked about')
    front.core.tell('hold', methods=[])
    wait_for(lambda: front.metric('hvpatch_api_connections') == 1, 'it has ended')
    expect(upload(front), 201)


# --- H6 to H8: operations

def case_H6_client_gone_OPERATION_GOES_ON(front):
    upload(front)
    with front.client() as client:
        client.send(request('POST', OPERATIONS, {'Idempotency-Key': 'k'}, APPLY))
    operation = wait_for(lambda: front.ask('GET', '/v1/operations').json, 'it began')[0]
    again = expect(start(front, {'Idempotency-Key': 'k'}), 200)
    assert again.json['id'] == operation['id']


def case_H7_key_with_other_request_REFUSED(front):
    upload(front)
    key = {'Idempotency-Key': 'a-key'}
    first = expect(start(front, key), 202)
    assert expect(start(front, key), 200).json['id'] == first.json['id']
    expect(start(front, key, {**APPLY, 'verb': 'check'}), 422, 'IDEMPOTENCY')
    for bad in '', 'x' * 129, 'a b':
        expect(start(front, {'Idempotency-Key': bad}), 400, 'INVALID_ARGUMENT')


def case_H7_retry_storm_ONE_OPERATION(front):
    upload(front)
    clients = [front.client() for _ in range(50)]
    for client in clients:
        client.send(request('POST', OPERATIONS, {'Idempotency-Key': 'storm'}, APPLY))
    answers = [client.answer() for client in clients]
    assert sorted({answer.status for answer in answers}) == [200, 202]
    assert [answer.status for answer in answers].count(202) == 1
    assert len({answer.json['id'] for answer in answers}) == 1
    for client in clients:
        client.close()


def case_H8_cancel_before_and_after_the_commit(front):
    upload(front)
    path = start(front).headers['location']
    answer = expect(front.ask('POST', path + '/cancel'), 202)
    assert answer.json['state'] == 'cancelled'
    begun = start(front)
    front.core.tell('commit', identity=begun.json['id'])
    expect(front.ask('POST', begun.headers['location'] + '/cancel'), 409, 'CONFLICT')


# --- H9: what is around it fails

def case_H9_restarted_OPERATION_GOES_ON(front):
    upload(front)
    path = start(front).headers['location']
    front.stop()
    front.start()
    expect(front.ask('GET', path), 200)


def case_H9_killed_SOCKET_TAKEN_AGAIN(front):
    front.process.kill()
    front.process.wait()
    front.start()
    expect(front.ask('GET', '/v1/domains'), 200)


def case_H9_second_one_REFUSED(front):
    result = subprocess.run([front.program, '--as-root', '--bus', front.bus.address, '--config',
                             front.configure()], capture_output=True, text=True, timeout=20)
    assert result.returncode == 4 and 'somebody listens' in result.stderr, result
    expect(front.ask('GET', '/v1/domains'), 200)


def case_H9_core_gone_UNAVAILABLE_AND_BACK(front):
    front.core.kill()
    for path in '/v1/domains', '/v1/healthz', '/metrics', '/v1/events', '/v1/patches':
        answer = expect(front.ask('GET', path), 503, 'UNAVAILABLE')
        assert int(answer.headers['retry-after']) > 0
    expect(front.ask('POST', '/v1/patches', BYTES, PATCH), 503)
    for path in '/', '/v1/openapi.json':
        expect(front.ask('GET', path), 200)
    front.core.bus = None
    front.core.start()
    wait_for(front.is_healthy, 'the core is back')


def case_H9_core_dies_within_a_call_UNAVAILABLE(front):
    front.core.tell('hang', methods=['ListDomains'])
    with front.client() as client:
        client.send(request('GET', '/v1/domains'))
        time.sleep(0.2)
        front.core.kill()
        expect(client.answer(), 503, 'UNAVAILABLE')
    front.core.bus = None
    front.core.start()


def case_H9_core_hangs_TIMED_OUT(front):
    front.core.tell('hang', methods=['ListDomains'])
    with front.client() as client:
        client.send(request('GET', '/v1/domains'))
        expect(front.ask('GET', f'/v1/domains/{UUID}'), 200)
        expect(client.answer(), 503, 'TIMED_OUT')


def case_H9_core_hangs_THOSE_THAT_WAIT_TIMED_OUT_TOO(front):
    front.core.tell('hang', methods=['ListDomains'])
    clients = ask_at_once(front, STRANGER, 3 * CALLS_EACH)
    begin = time.monotonic()
    expect(front.ask('GET', f'/v1/domains/{UUID}'), 200)
    take_answers(clients, 503, 'TIMED_OUT')
    assert time.monotonic() - begin < 2 * LIMITS['core-timeout']
    # What is not answered counts for as long as the bus counts it.
    front.core.kill()
    front.core.bus = None
    front.core.start()
    with client_of(front, STRANGER) as client:
        wait_for(lambda: client.ask('GET', '/v1/domains').status == 200, 'the core is back')


def case_H9_core_answers_garbage_INTERNAL(front):
    upload(front)
    front.core.tell('garbage', methods=['ListDomains', 'GetDomain', 'StartOperation', 'GetEvents',
                                        'UploadPatch', 'ListOperations', 'GetPatch'])
    for path in '/v1/domains', f'/v1/domains/{UUID}', '/v1/operations', '/v1/events', \
            f'/v1/patches/{DIGEST}':
        expect(front.ask('GET', path), 500, 'INTERNAL')
    expect(start(front), 500, 'INTERNAL')
    expect(upload(front), 500, 'INTERNAL')
    # An error whose document is none.
    expect(front.ask('GET', f'/v1/domains/{UUID[:-1]}0'), 500, 'INTERNAL')


def case_H9_bus_gone_AND_BACK(front):
    front.core.tell('hold', methods=['ListDomains'])
    clients = ask_at_once(front, os.geteuid(), 2 * CALLS_EACH)
    front.bus.stop()
    take_answers(clients, 503, 'UNAVAILABLE')
    expect(wait_for(lambda: front.ask('GET', '/v1/domains'), ''), 503, 'UNAVAILABLE')
    front.core.stop()
    front.bus.start()
    front.core.bus = None
    front.core.start()
    wait_for(front.is_healthy, 'the bus is back')


def case_H9_no_descriptors_left_NOT_SPINNING(front):
    limits = resource.prlimit(front.process.pid, resource.RLIMIT_NOFILE)
    clients = [front.client() for _ in range(3)]
    try:
        resource.prlimit(front.process.pid, resource.RLIMIT_NOFILE,
                         (front.descriptors() + 1, limits[1]))
        clients += [front.client() for _ in range(5)]
        time.sleep(0.3)
        before = front.cpu_seconds()
        time.sleep(1)
        assert front.cpu_seconds() - before < 0.3, 'it spins'
    finally:
        resource.prlimit(front.process.pid, resource.RLIMIT_NOFILE, limits)
        for client in clients:
            client.close()
    wait_for(front.is_healthy, 'connections are taken again')
    assert front.metric('hvpatch_api_accept_failures_total') > 0


# --- H11: nothing leaks

def case_H11_errors_ECHO_NOTHING(front):
    secret = 'c2VjcmV0LXNpZ25hdHVyZQ'
    for method, path, headers, body in (
            ('POST', '/v1/patches', {**BYTES, 'Hvpatch-Signature': secret}, PATCH),
            ('POST', OPERATIONS, JSON, json.dumps({secret: 1}).encode()),
            ('POST', OPERATIONS, {**JSON, 'Idempotency-Key': secret + ' x'}, b'{}'),
            ('GET', f'/v1/{secret}', (), None), ('GET', f'/v1/operations?{secret}=1', (), None)):
        answer = front.ask(method, path, headers, body)
        assert 400 <= answer.status < 500 and secret.encode() not in answer.body, answer.body
    assert secret.encode() not in front.ask('GET', '/metrics').body


def main(program, wanted):
    with FrontEnd(program, **LIMITS) as front:
        functions = {name: function for name, function in globals().items()
                     if not wanted or any(word in name for word in wanted)}
        return run_cases(functions, front, before=fresh)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1], sys.argv[2:]))
