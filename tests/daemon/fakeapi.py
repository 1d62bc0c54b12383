# SPDX-License-Identifier: GPL-2.0-or-later
"""An hvpatch-apid with no VM behind it, for tests of its readers: the web page, the Python client.

    with FakeApi() as api:              # on a port of 127.0.0.1; FakeApi(path): on a unix socket
        api.put('domain', domain('web-1'))
        ...

Each document that it gives out, and each answer, is held against the contract. Operations that are
started stay queued until the test moves them on with api.move().
"""

import contextlib
import copy
import datetime
import http.server
import json
import os
import re
import socket
import socketserver
import threading
import time
import urllib.parse
import uuid

import openapi

WEB = os.path.join(openapi.ROOT, 'hv-patcher/apid/web')
# As hvpatch-apid sends it.
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
          "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
TYPES = {'.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css'}
ENDED = {'checked', 'applied', 'reverted', 'recovered', 'failed', 'rolled-back', 'needs-operator',
         'cancelled'}
KEYS = {'domain': 'uuid', 'operation': 'id', 'patch': 'sha256'}
OPTIONS = {'timeout': 30, 'max_pause': 10, 'prod': True, 'replace': None, 'accept': [],
           'kthreads': None}
TITLES = {'BUSY': (409, 'In use'), 'NOT_FOUND': (404, 'Not found'), 'GONE': (410, 'Gone'),
          'CONFLICT': (409, 'In conflict'), 'IDEMPOTENCY': (422, 'Key used before'),
          'FORBIDDEN': (403, 'Not allowed'), 'INVALID_ARGUMENT': (400, 'Not a valid request'),
          'TIMED_OUT': (503, 'Not in time'), 'UNAVAILABLE': (503, 'Not available now'),
          'TOO_MANY': (429, 'Too many'), 'INCONSISTENT': (500, 'Needs an operator'),
          'BAD_DATA': (422, 'Bad data')}


def time_at(seconds_ago=0.0):
    moment = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=seconds_ago)
    return moment.isoformat().replace('+00:00', 'Z')


def uuid_of(name):
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def sha_of(name):
    return uuid_of(name).replace('-', '') * 2


def domain(name, **changes):
    kernel = {'release': '6.1.0-56-amd64', 'version': '#1 SMP PREEMPT_DYNAMIC Debian 6.1.147-1',
              'build_id': '3f2a9c0d6d1b8c47b2a1f0e9d8c7b6a5f4e3d2c1'}
    return {'version': 1, 'uuid': uuid_of(name), 'name': name, 'state': 'running',
            'kernel': kernel, 'backend': 'kvm', 'patchable': True, 'reasons': [], 'patches': [],
            'operation': None, 'seen_at': time_at(60), **changes}


def function(name):
    return {'object': 'vmlinux', 'name': name, 'old': '0xffffffff8139c2a0',
            'new': '0xffffffffc0201000', 'site': '0xffffffff8139c2a4'}


def applied(patch_document, **changes):
    """An entry of a domain's patches."""
    return {'name': patch_document['name'], 'sha256': patch_document['sha256'],
            'applied_at': time_at(3600), 'functions': [function('cmdline_proc_show')],
            'objects': [{'object': 'vmlinux', 'covered': 'switch'}], 'verified': True,
            'state': 'switched', 'why': '', 'cves': patch_document['cves'], **changes}


def patch(name, **changes):
    return {'version': 1, 'sha256': sha_of(name), 'name': name, 'size': 412672,
            'uploaded_at': time_at(7200), 'principal': 'uid:0', 'signed_by': 'release-2026',
            'signature': 'minisign', 'format': 'kpatch', 'functions': 3, 'cves': ['CVE-2026-1234'],
            'serial': 7, **changes}


def operation(domain_document, verb='apply', patch_document=None, **changes):
    return {'version': 1, 'id': str(uuid.uuid4()), 'domain': domain_document['uuid'],
            'domain_name': domain_document['name'], 'verb': verb,
            'patch': patch_document and patch_document['sha256'],
            'name': patch_document and patch_document['name'], 'options': dict(OPTIONS),
            'state': 'queued', 'step': 'waiting for a worker', 'attempt': 0, 'blockers': 0,
            'principal': 'uid:0', 'created_at': time_at(), 'started_at': None, 'ended_at': None,
            'error': None, 'result': None, 'cancellable': True, **changes}


def blocker(pid, comm, where, **changes):
    return {'pid': pid, 'comm': comm, 'kthread': False, 'function': where, 'reason': 'ACTIVE',
            'stack': [f'{where}+0x10/0x40', 'do_syscall_64+0x5c/0x90'], **changes}


def change_result(started, result='applied', **changes):
    """What apply and revert leave behind."""
    verb = 'revert' if started['verb'] == 'revert' else 'apply'
    pause = {name + '_usec': 14 for name in
             ('stop', 'registers', 'sweep', 'rewalk', 'switch', 'resume')}
    return {'version': 1, 'operation': verb, 'result': result, 'code': None, 'message': None,
            'domain': started['domain_name'], 'kernel': '6.1.0-56-amd64', 'patch': started['name'],
            'sha256': started['patch'], 'functions': [function('cmdline_proc_show')], 'tasks': 123,
            'rechecked': 4, 'attempts': 1, 'stops': 1, 'pause_usec': 85, 'pause': pause,
            'total_usec': 1300000, 'blockers': [], **changes}


def problem(code, detail, **changes):
    status, title = TITLES[code]
    return {'type': f'urn:hvpatch:error:{code}', 'title': title, 'status': status, 'code': code,
            'detail': detail, **changes}


class Refused(Exception):
    """Answered with a problem document."""

    def __init__(self, code, detail, **changes):
        super().__init__(detail)
        self.document = problem(code, detail, **changes)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    @property
    def api(self):
        return self.server.api

    def setup(self):
        super().setup()
        self.api.connections.add(self.connection)

    def finish(self):
        self.api.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def address_string(self):
        return ''

    def do_GET(self):  # pylint: disable=invalid-name
        self._serve('GET')

    def do_POST(self):  # pylint: disable=invalid-name
        self._serve('POST')

    def do_DELETE(self):  # pylint: disable=invalid-name
        self._serve('DELETE')

    def _serve(self, method):
        length = int(self.headers.get('Content-Length') or 0)
        body = self.rfile.read(length)
        path, _, query = self.path.partition('?')
        query = dict(urllib.parse.parse_qsl(query))
        self.api.requests.append((method, self.path, dict(self.headers), body))
        try:
            self.api.refuse_if_told(method, path)
            if path == '/v1/events':
                self._events(query)
                return
            status, answer, headers = self.api.answer(method, path, query, self.headers, body)
            if isinstance(answer, bytes):
                self._send(method, status, headers.pop('Content-Type'), answer, headers)
            else:
                self._send(method, status, 'application/json', json.dumps(answer).encode(), headers)
        except Refused as refusal:
            headers = {'Retry-After': '1'} if refusal.document['status'] in (429, 503) else {}
            self._send(method, refusal.document['status'], 'application/problem+json',
                       json.dumps(refusal.document).encode(), headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _send(self, method, status, content_type, body, headers):
        if status == 204:
            body = b''
        try:
            openapi.check_answer(method, self.path, status, content_type, body)
        except openapi.Broken as error:
            self.api.broken.append(str(error))
        self.send_response(status)
        for name, value in {'Content-Type': content_type, 'Content-Length': str(len(body)),
                            **headers}.items():
            if status != 204 or not name.startswith('Content-'):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _events(self, query):
        # Before the head is sent: what happens once a reader has that, it sees.
        epoch = self.api.epoch
        since = int(query.get('since') or self.headers.get('Last-Event-ID') or self.api.seq)
        if 'since' in query and not self.api.oldest - 1 <= since <= self.api.seq:
            raise Refused('GONE', f'events before {self.api.oldest} are not held any more',
                          oldest=self.api.oldest - 1)
        sse = 'text/event-stream' in self.headers.get('Accept', '')
        self.send_response(200)
        self.send_header('Content-Type', 'text/event-stream' if sse else 'application/x-ndjson')
        self.send_header('Connection', 'close')
        self.close_connection = True
        self.end_headers()
        for event in self.api.follow(since, epoch, query.get('follow') != 'false'):
            self.wfile.write(self._event_bytes(event, sse))

    @staticmethod
    def _event_bytes(event, sse):
        if event is None:
            return b': nothing\n\n' if sse else b'\n'
        line = json.dumps(event)
        if sse:
            return f'id: {event["seq"]}\nevent: {event["type"]}\ndata: {line}\n\n'.encode()
        return line.encode() + b'\n'


class TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


class FakeApi:
    """The documents, their events, and a server that gives them out."""

    def __init__(self, path=None, port=0):
        self.things = {kind: {} for kind in KEYS}
        self.events = []
        self.seq = 100
        self.oldest = 101
        self.keys = {}
        self.requests = []
        self.broken = []            # answers that were not as the contract says
        self.refusals = []          # (method, pattern of the path, Refused), each used once
        self.changed = threading.Condition()
        self.connections = set()
        self.epoch = 0              # counts up to end all streams of events
        self._where = path or ('127.0.0.1', port)
        self._server = None

    def __enter__(self):
        self.listen()
        return self

    def __exit__(self, *_):
        self.hang_up()

    def listen(self):
        kind = UnixServer if isinstance(self._where, str) else TcpServer
        self._server = kind(self._where, Handler)
        self._server.api = self
        self._where = self._server.server_address
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def hang_up(self):
        self._server.shutdown()
        self._server.server_close()
        self.drop_streams()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self):
        return f'http://{self._where[0]}:{self._where[1]}/'

    def drop_streams(self):
        with self.changed:
            self.epoch += 1
            self.changed.notify_all()

    def put(self, kind, document):
        """Sets a document and tells of it; returns it."""
        openapi.check_named(kind.capitalize(), document)
        with self.changed:
            self.things[kind][document[KEYS[kind]]] = document
            self._tell(kind, document[KEYS[kind]], copy.deepcopy(document))
        return document

    def drop(self, kind, key):
        with self.changed:
            del self.things[kind][key]
            self._tell(kind, key, None)

    def _tell(self, kind, key, document):
        self.seq += 1
        event = {'seq': self.seq, 'at': time_at(), 'type': kind, 'id': key, 'document': document}
        openapi.check_named('Event', event)
        self.events.append(event)
        self.changed.notify_all()

    def forget_events(self):
        with self.changed:
            self.events.clear()
            self.oldest = self.seq + 1

    def move(self, identifier, state, **changes):
        """An operation goes on to a state."""
        started = {**self.things['operation'][identifier], 'state': state, 'step': state, **changes}
        if started['started_at'] is None:
            started['started_at'] = time_at()
        if state in ENDED:
            started.update(ended_at=time_at(), cancellable=False)
        return self.put('operation', started)

    def refuse(self, method, path, code, detail, **changes):
        """The next request like this is refused."""
        self.refusals.append((method, path, Refused(code, detail, **changes)))

    def refuse_if_told(self, method, path):
        for entry in self.refusals:
            if entry[0] == method and re.fullmatch(entry[1], path):
                self.refusals.remove(entry)
                raise entry[2]

    def follow(self, since, epoch, wait):
        """Yields events after SINCE until all streams are dropped; None now and then."""
        while self.epoch == epoch:
            with self.changed:
                news = [event for event in self.events if event['seq'] > since]
                if not news and wait:
                    self.changed.wait(0.5)
                    news = [event for event in self.events if event['seq'] > since]
            for event in news:
                since = event['seq']
                yield event
            if not wait:
                return
            if not news:
                yield None

    def _get(self, kind, key):
        if key not in self.things[kind]:
            raise Refused('NOT_FOUND', f'there is no such {kind}')
        return self.things[kind][key]

    def answer(self, method, path, query, headers, body):
        """(status, document or bytes, headers)"""
        for wanted, pattern, function_of in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and wanted == method:
                return function_of(self, *match.groups(), query=query, headers=headers, body=body)
        return self._file(path)

    def _file(self, path):
        if not re.fullmatch(r'/(|app\.js|style\.css|part/[a-z-]+\.js)', path):
            raise Refused('NOT_FOUND', 'there is no such page')
        name = path[1:] or 'index.html'
        with open(os.path.join(WEB, name), 'rb') as stream:
            return 200, stream.read(), {
                'Content-Type': TYPES[os.path.splitext(name)[1]], 'ETag': f'"{"0" * 64}"',
                'Content-Security-Policy': POLICY}

    def list_domains(self, **_):
        things = sorted(self.things['domain'].values(), key=lambda thing: thing['name'])
        return 200, things, {}

    def list_patches(self, **_):
        return 200, list(self.things['patch'].values())[::-1], {}

    def list_operations(self, query, **_):
        things = sorted(self.things['operation'].values(), key=lambda thing: thing['created_at'],
                        reverse=True)
        for name in {'domain', 'state', 'verb'} & set(query):
            things = [thing for thing in things if thing[name] == query[name]]
        return 200, things[:int(query.get('limit', 100))], {}

    def get(self, kind, key, **_):
        return 200, self._get({'domains': 'domain', 'operations': 'operation',
                               'patches': 'patch'}[kind], key), {}

    def refresh(self, key, **_):
        return 202, self._get('domain', key), {}

    def start(self, key, headers, body, **_):
        target = self._get('domain', key)
        request = json.loads(body)
        try:
            openapi.check_named('OperationRequest', request)
        except openapi.Broken as error:
            raise Refused('INVALID_ARGUMENT', str(error)) from None
        name = headers.get('Idempotency-Key')
        if name in self.keys:
            before, identifier = self.keys[name]
            if before != (key, body):
                raise Refused('IDEMPOTENCY', 'the idempotency key was used with another request')
            return 200, self._get('operation', identifier), {
                'Location': f'/v1/operations/{identifier}'}
        for other in self.things['operation'].values():
            if other['domain'] == key and other['state'] not in ENDED:
                raise Refused('BUSY', f'domain {target["name"]} has an operation already',
                              operation=other['id'])
        started = self.put('operation', self._new(target, request))
        if name:
            self.keys[name] = ((key, body), started['id'])
        return 202, started, {'Location': f'/v1/operations/{started["id"]}'}

    def _new(self, target, request):
        used = self._get('patch', request['patch']) if 'patch' in request else None
        return operation(target, request['verb'], used, **({'name': request['name']}
                         if 'name' in request else {}),
                         options={**OPTIONS, **request.get('options', {})})

    def cancel(self, key, **_):
        started = self._get('operation', key)
        if not started['cancellable']:
            raise Refused('CONFLICT', 'the operation has switched already')
        return 202, self.move(key, 'cancelled'), {}

    def upload(self, headers, body, **_):
        if not body.startswith(b'\x7fELF'):
            raise Refused('BAD_DATA', 'the file is not an ELF object')
        name = 'patch_' + uuid_of(body.hex())[:8]
        fresh = sha_of(name) not in self.things['patch']
        signed = {} if 'Hvpatch-Signature' in headers else {'signed_by': None, 'signature': 'none'}
        document = self.put('patch', patch(name, size=len(body), **signed))
        return 201 if fresh else 200, document, {'Location': f'/v1/patches/{document["sha256"]}'}

    def delete(self, key, **_):
        self._get('patch', key)
        self.drop('patch', key)
        return 204, None, {}

    def metrics(self, **_):
        return 200, b'hvpatch_up 1\n', {'Content-Type': 'text/plain'}

    def health(self, **_):
        return 200, {'version': 1, 'status': 'ok', 'daemon': '0.1.0'}, {}


ROUTES = (
    ('GET', '/v1/domains', FakeApi.list_domains),
    ('GET', '/v1/patches', FakeApi.list_patches),
    ('GET', '/v1/operations', FakeApi.list_operations),
    ('GET', '/v1/(domains|operations|patches)/([^/]+)', FakeApi.get),
    ('POST', '/v1/domains/([^/]+)/refresh', FakeApi.refresh),
    ('POST', '/v1/domains/([^/]+)/operations', FakeApi.start),
    ('POST', '/v1/operations/([^/]+)/cancel', FakeApi.cancel),
    ('POST', '/v1/patches', FakeApi.upload),
    ('DELETE', '/v1/patches/([^/]+)', FakeApi.delete),
    ('GET', '/metrics', FakeApi.metrics),
    ('GET', '/v1/healthz', FakeApi.health),
)


def wait_until(condition, what, seconds=10.0):
    """Returns what CONDITION returns once that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f'not within {seconds} s: {what}')
