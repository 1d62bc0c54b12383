#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python client against an API with no VM behind it, and against peers that misbehave."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import openapi

sys.path.insert(0, os.path.join(openapi.ROOT, 'python'))

# pylint: disable=wrong-import-position
import hvpatch
import fakeapi
import taprun
from hvpatch import requests

PATCH_FILE = b'\x7fELF and so on'


class Case(unittest.TestCase):
    """A test with an API on a unix socket, a domain and a patch."""

    def setUp(self):
        if not os.path.exists(openapi.PATH):
            self.skipTest('no hv-patcher/apid/openapi.json')
        requests.FIRST_WAIT_SECONDS = 0.01
        folder = tempfile.TemporaryDirectory(prefix='hvpatch-python-')
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, 'api.socket')
        self.api = fakeapi.FakeApi(self.path)
        self.api.listen()
        self.addCleanup(self.api.hang_up)
        self.domain = self.api.put('domain', fakeapi.domain('web-1'))
        self.patch = self.api.put('patch', fakeapi.patch('fix'))
        self.client = hvpatch.Client('unix:' + self.path, timeout=5, retry_seconds=5)

    def tearDown(self):
        self.assertEqual(self.api.broken, [], 'the API that tests stand on keeps its contract')

    def sent(self, method):
        return [request for request in self.api.requests if request[0] == method]

    def end(self, operation, state='applied', **changes):
        result = fakeapi.change_result(self.api.things['operation'][operation.id])
        return self.api.move(operation.id, state, **{'result': result, **changes})


class Documents(Case):
    def test_domains_READ(self):
        entry = fakeapi.applied(self.patch)
        self.api.put('domain', fakeapi.domain('db-1', patches=[entry]))
        self.api.put('domain', fakeapi.domain('new-1', kernel=None, patches=None, patchable=None,
                                              backend=None, seen_at=None, state='shut off'))
        database, new, web = self.client.domains()
        self.assertEqual(database.patches[0].functions, ('cmdline_proc_show',))
        self.assertTrue(database.has('fix') and database.has(self.client.patches()[0]))
        self.assertFalse(web.has('fix') or new.has('fix'))
        self.assertEqual((new.kernel, new.patches, new.seen_at), (None, None, None))
        self.assertEqual(web.kernel.release, '6.1.0-56-amd64')
        self.assertIsNotNone(web.seen_at.tzinfo)
        self.assertEqual(web.raw, self.domain)

    def test_unknown_members_IGNORED(self):
        document = {**self.domain, 'colour': 'blue'}
        self.assertEqual(hvpatch.Domain.of(document).raw['colour'], 'blue')

    def test_missing_member_BAD_ANSWER(self):
        for broken in ({'name': 'x'}, [], None, {**self.domain, 'seen_at': 'yesterday'}):
            with self.assertRaises(hvpatch.BadAnswer):
                hvpatch.Domain.of(broken)

    def test_find_domain(self):
        self.assertEqual(self.client.find_domain('web-1').uuid, self.domain['uuid'])
        self.assertEqual(self.client.find_domain(self.domain['uuid']).name, 'web-1')
        with self.assertRaises(hvpatch.NotFound):
            self.client.find_domain('web-2')
        self.api.put('domain', {**self.domain, 'uuid': fakeapi.uuid_of('other')})
        with self.assertRaises(hvpatch.Ambiguous):
            self.client.find_domain('web-1')

    def test_id_that_is_a_path_REFUSED(self):
        for bad in ('../patches', 'a/b', '', 'A' * 36, 'x?y', 'a\n'):
            with self.assertRaises(ValueError):
                self.client.domain(bad)
        self.assertEqual(self.api.requests, [])

    def test_service(self):
        self.assertEqual(self.client.health()['status'], 'ok')
        self.assertIn('hvpatch_up', self.client.metrics())
        self.client.refresh(self.domain['uuid'])


class Patches(Case):
    def test_upload_twice_NEW_ONCE(self):
        first, new = self.client.upload(PATCH_FILE)
        again, new_again = self.client.upload(PATCH_FILE)
        self.assertEqual((new, new_again, first.sha256), (True, False, again.sha256))
        self.assertEqual(self.sent('POST')[0][3], PATCH_FILE)

    def test_upload_signed(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(PATCH_FILE)
            file.flush()
            patch, _ = self.client.upload(file.name, signature=b'untrusted comment: x\n')
        self.assertEqual(patch.signed_by, 'release-2026')
        headers = self.sent('POST')[0][2]
        self.assertEqual(headers['Hvpatch-Signature'], 'dW50cnVzdGVkIGNvbW1lbnQ6IHgK')
        self.assertEqual(headers['Content-Type'], 'application/octet-stream')

    def test_no_patch_BAD_DATA(self):
        with self.assertRaises(hvpatch.BadData) as raised:
            self.client.upload(b'#!/bin/sh')
        self.assertEqual((raised.exception.status, raised.exception.tries), (422, 1))

    def test_delete(self):
        self.client.delete_patch(self.client.patches()[0])
        with self.assertRaises(hvpatch.NotFound):
            self.client.delete_patch(self.patch['sha256'])

    def test_delete_whose_answer_was_lost_DONE(self):
        path = f'/v1/patches/{self.patch["sha256"]}'
        self.api.drop('patch', self.patch['sha256'])
        self.api.refuse('DELETE', path, 'UNAVAILABLE', 'hvpatchd is away')
        self.client.delete_patch(self.patch['sha256'])


class Operations(Case):
    def test_apply_APPLIED(self):
        operation = self.client.apply(self.domain['uuid'], self.patch['sha256'], timeout=60,
                                      max_pause=2.5)
        self.assertEqual(operation.options['max_pause'], 2.5)
        seen = []
        threading.Timer(0.3, self.end, (operation,)).start()
        ended = self.client.wait_for(operation, 5, progress=lambda now: seen.append(now.state))
        self.assertEqual((ended.state, ended.pause_usec, seen), ('applied', 85,
                                                                 ['queued', 'applied']))

    def test_key_SAME_OPERATION(self):
        first = self.client.check(self.domain['uuid'], self.patch['sha256'], idempotency_key='k')
        again = self.client.check(self.domain['uuid'], self.patch['sha256'], idempotency_key='k')
        self.assertEqual(first.id, again.id)
        with self.assertRaises(hvpatch.IdempotencyConflict):
            self.client.apply(self.domain['uuid'], self.patch['sha256'], idempotency_key='k')

    def test_request_that_is_lost_SENT_AGAIN_WITH_ITS_KEY(self):
        path = f'/v1/domains/{self.domain["uuid"]}/operations'
        self.api.refuse('POST', path, 'UNAVAILABLE', 'hvpatchd is away')
        self.api.refuse('POST', path, 'TIMED_OUT', 'hvpatchd did not answer')
        self.client.apply(self.domain['uuid'], self.patch['sha256'])
        keys = {headers['Idempotency-Key'] for _, _, headers, _ in self.sent('POST')}
        self.assertEqual((len(self.sent('POST')), len(keys)), (3, 1))
        self.assertEqual(len({body for *_, body in self.sent('POST')}), 1)

    def test_two_at_once_BUSY(self):
        first = self.client.apply(self.domain['uuid'], self.patch['sha256'])
        with self.assertRaises(hvpatch.Busy) as raised:
            self.client.revert(self.domain['uuid'], 'fix')
        self.assertEqual(raised.exception.operation, first.id)
        self.assertEqual(len(self.sent('POST')), 2, 'busy is for the caller to try again')

    def test_revert_by_name_or_digest(self):
        by_name = self.client.revert(self.domain['uuid'], 'fix')
        self.assertEqual((by_name.name, by_name.patch), ('fix', None))
        self.client.cancel(by_name)
        by_digest = self.client.revert(self.domain['uuid'], self.patch['sha256'])
        self.assertEqual(by_digest.patch, self.patch['sha256'])

    def test_failed_RAISED_with_code_and_blockers(self):
        operation = self.client.apply(self.domain['uuid'], self.patch['sha256'])
        blockers = [fakeapi.blocker(7, 'init', 'do_sys_poll')]
        result = fakeapi.change_result(self.api.things['operation'][operation.id], 'busy',
                                       code='BUSY', message='in the way', pause_usec=0,
                                       blockers=blockers)
        self.end(operation, 'failed', error=fakeapi.problem('BUSY', 'in the way'), result=result)
        with self.assertRaises(hvpatch.OperationFailed) as raised:
            self.client.wait_for(operation)
        self.assertEqual(raised.exception.code, 'BUSY')
        self.assertEqual(raised.exception.operation.blocking[0].comm, 'init')
        ended = self.client.wait_for(operation, check=False)
        self.assertEqual((ended.succeeded, ended.pause_usec), (False, None))

    def test_cancelled_RAISED(self):
        operation = self.client.apply(self.domain['uuid'], self.patch['sha256'])
        self.client.cancel(operation)
        with self.assertRaises(hvpatch.OperationFailed) as raised:
            self.client.wait_for(operation.id)
        self.assertEqual(raised.exception.code, 'CANCELLED')
        with self.assertRaises(hvpatch.Conflict):
            self.client.cancel(operation)

    def test_no_end_DEADLINE(self):
        operation = self.client.recover(self.domain['uuid'])
        with self.assertRaises(TimeoutError) as raised:
            self.client.wait_for(operation, 0.3)
        self.assertEqual(raised.exception.code, 'DEADLINE')

    def test_lists(self):
        ended = self.client.check(self.domain['uuid'], self.patch['sha256'])
        self.client.cancel(ended)
        running = self.client.apply(self.domain['uuid'], self.patch['sha256'])
        self.assertEqual([item.id for item in self.client.operations(state='queued')],
                         [running.id])
        self.assertEqual(len(self.client.operations(limit=1)), 1)
        self.client.operations(domain=self.domain['uuid'], state='applied', verb='apply')
        self.assertEqual(self.sent('GET')[-1][1].split('?')[1],
                         f'domain={self.domain["uuid"]}&state=applied&verb=apply')

    def test_unknown_option_REFUSED(self):
        with self.assertRaises(ValueError):
            self.client.apply(self.domain['uuid'], self.patch['sha256'], force=True)
        self.assertEqual(self.api.requests, [])


class Events(Case):
    def test_in_order_ACROSS_CONNECTIONS(self):
        with self.client.events() as stream:
            self.api.put('domain', fakeapi.domain('a'))
            self.assertEqual(next(stream).document.name, 'a')
            self.api.hang_up()
            self.api.put('domain', fakeapi.domain('b'))
            threading.Timer(0.3, self._listen_again).start()
            self.assertEqual(next(stream).document.name, 'b')
            self.api.drop('domain', fakeapi.uuid_of('b'))
            gone = next(stream)
            self.assertEqual((gone.type, gone.document), ('domain', None))
            self.assertEqual(stream.since, gone.seq)

    def _listen_again(self):
        os.unlink(self.path)
        self.api.listen()

    def test_since(self):
        start = self.api.seq
        operation = self.client.apply(self.domain['uuid'], self.patch['sha256'])
        with self.client.events(start) as stream:
            event = next(stream)
        self.assertEqual((event.seq, event.document.id), (start + 1, operation.id))

    def test_missed_GONE(self):
        self.api.forget_events()
        with self.assertRaises(hvpatch.Gone) as raised:
            self.client.events(3)
        self.assertEqual(raised.exception.oldest, self.api.seq)

    def test_broken_before_the_first_GONE(self):
        stream = self.client.events()
        self.api.drop_streams()
        with self.assertRaises(hvpatch.Gone):
            next(stream)

    def test_closed_ENDS(self):
        stream = self.client.events()
        stream.close()
        self.assertEqual(list(stream), [])


class Peer:
    """Accepts connections on a unix socket, one after the other, and lets a function answer."""

    def __init__(self, path, answer):
        self.count = 0
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen(16)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.count += 1
                with connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    self._answer(connection)

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Misbehaving(unittest.TestCase):
    def ask(self, answer, timeout=0.5, retry_seconds=0.0):
        """What the client makes of a peer; how long that took and how many connections."""
        with tempfile.TemporaryDirectory(prefix='hvpatch-python-') as folder:
            path = os.path.join(folder, 'socket')
            peer = Peer(path, answer)
            self.addCleanup(peer.close)
            client = hvpatch.Client(path, timeout=timeout, retry_seconds=retry_seconds)
            started = time.monotonic()
            try:
                return client.domains(), peer, time.monotonic() - started
            except hvpatch.Error as error:
                return error, peer, time.monotonic() - started

    def answers(self, answer, kind, **options):
        error, peer, seconds = self.ask(lambda connection: connection.sendall(answer), **options)
        self.assertIsInstance(error, kind)
        self.assertLess(seconds, 3)
        return error, peer

    def test_nobody_OFFLINE(self):
        client = hvpatch.Client('unix:/nonexistent/socket', retry_seconds=0)
        with self.assertRaises(hvpatch.ConnectionFailed) as raised:
            client.domains()
        self.assertEqual(raised.exception.code, 'OFFLINE')

    def test_silent_DEADLINE(self):
        error, _, seconds = self.ask(lambda connection: time.sleep(2))
        self.assertIsInstance(error, hvpatch.DeadlineExceeded)
        self.assertLess(seconds, 1.5)

    def test_a_byte_now_and_then_DEADLINE(self):
        def drip(connection):
            for byte in b'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n' + b'[' * 100:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
        error, _, seconds = self.ask(drip)
        self.assertIsInstance(error, hvpatch.DeadlineExceeded)
        self.assertLess(seconds, 1.5)

    def test_half_an_answer_OFFLINE(self):
        self.answers(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[', hvpatch.ConnectionFailed)
        self.answers(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[',
                     hvpatch.ConnectionFailed)
        self.answers(b'', hvpatch.ConnectionFailed)

    def test_another_protocol_BAD_ANSWER(self):
        self.answers(b'SSH-2.0-OpenSSH_9.2\r\n', hvpatch.BadAnswer)
        self.answers(b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html', hvpatch.BadAnswer)
        self.answers(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}', hvpatch.BadAnswer)
        self.answers(b'HTTP/1.1 502 Bad\r\nContent-Length: 5\r\n\r\n<html', hvpatch.BadAnswer)
        self.answers(b'HTTP/1.1 403 No\r\nContent-Length: 10\r\n\r\n{"code":1}', hvpatch.BadAnswer)

    def test_unknown_code_API_ERROR(self):
        error, _ = self.answers(b'HTTP/1.1 418 No\r\nContent-Length: 16\r\n\r\n'
                                b'{"code":"TEAPOT"', hvpatch.BadAnswer)
        error, _ = self.answers(b'HTTP/1.1 418 No\r\nContent-Length: 17\r\n\r\n'
                                b'{"code":"TEAPOT"}', hvpatch.ApiError)
        self.assertEqual((error.code, error.status), ('TEAPOT', 418))

    def test_too_many_RETRY_AFTER_HEEDED(self):
        body = b'{"code":"TOO_MANY","status":429}'
        error, peer = self.answers(
            b'HTTP/1.1 429 No\r\nRetry-After: 600\r\nContent-Length: %d\r\n\r\n%s'
            % (len(body), body), hvpatch.TooMany, retry_seconds=2)
        self.assertEqual((error.retry_after, peer.count), (600.0, 1), 'later than may be waited')

    def test_refused_before_all_was_sent_THE_REFUSAL(self):
        body = b'{"code":"PERMISSION","status":403}'

        def refuse(connection):
            connection.sendall(b'HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%s'
                               % (len(body), body))
        with tempfile.TemporaryDirectory(prefix='hvpatch-python-') as folder:
            path = os.path.join(folder, 'socket')
            peer = Peer(path, refuse)
            self.addCleanup(peer.close)
            client = hvpatch.Client(path, timeout=5, retry_seconds=0)
            with self.assertRaises(hvpatch.ApiError) as raised:
                client.upload(b'\x7fELF' + bytes(16 << 20))
        self.assertEqual((raised.exception.code, peer.count), ('PERMISSION', 1))

    def test_gone_again_and_again_TRIED_AGAIN(self):
        requests.FIRST_WAIT_SECONDS = 0.01
        error, peer = self.answers(b'', hvpatch.ConnectionFailed, retry_seconds=0.5)
        self.assertGreater(peer.count, 2)
        self.assertEqual(error.tries, peer.count)


class Addresses(unittest.TestCase):
    def test_addresses_REFUSED(self):
        for bad in ('http://10.0.0.1:80', 'https://host', 'ftp://localhost', 'host:80',
                    'http://localhost/v1', 'http://host.example'):
            with self.assertRaises(ValueError, msg=bad):
                hvpatch.Client(bad)

    def test_environment(self):
        os.environ['HVPATCH_API'] = 'unix:/run/other'
        self.addCleanup(os.environ.pop, 'HVPATCH_API')
        self.assertEqual(repr(hvpatch.Client()), "Client('unix:/run/other')")

    def test_every_code_of_the_contract_HAS_A_CLASS(self):
        if not os.path.exists(openapi.PATH):
            self.skipTest('no hv-patcher/apid/openapi.json')
        codes = set(openapi.document()['components']['schemas']['Code']['enum'])
        # What only operations end with, and what a client that keeps the contract never gets.
        never = {'CANCELLED', 'METHOD_NOT_ALLOWED', 'NOT_ACCEPTABLE', 'UNSUPPORTED_MEDIA_TYPE',
                 'EXPECTATION', 'MISDIRECTED', 'URI_TOO_LONG', 'HEADERS_TOO_LARGE'}
        self.assertEqual(codes - never - set(hvpatch.ApiError.classes), set())


def openssl(*arguments, folder):
    subprocess.run(['openssl', *arguments], cwd=folder, check=True, capture_output=True,
                   timeout=60)


def make_certificate(folder, name, issuer=None):
    subject = ['-subj', f'/CN={name}', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
    signed = ['-CA', f'{issuer}.pem', '-CAkey', f'{issuer}.key'] if issuer else []
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
            '-days', '2', '-keyout', f'{name}.key', '-out', f'{name}.pem', *subject, *signed,
            folder=folder)


@unittest.skipUnless(shutil.which('openssl'), 'no openssl')
class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls._folder = tempfile.TemporaryDirectory(prefix='hvpatch-python-')
        cls.folder = cls._folder.name
        cls.addClassCleanup(cls._folder.cleanup)
        for name, issuer in (('authority', None), ('host', 'authority'), ('client', 'authority'),
                             ('stranger', None)):
            make_certificate(cls.folder, name, issuer)

    def file(self, name):
        return os.path.join(self.folder, name)

    def serve(self):
        """A host that wants certificates and answers with an empty list; its address."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file('host.pem'), self.file('host.key'))
        context.load_verify_locations(self.file('authority.pem'))
        context.verify_mode = ssl.CERT_REQUIRED
        listener = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(listener.close)

        def answer():
            with contextlib.suppress(OSError):
                plain, _ = listener.accept()
                with plain, context.wrap_socket(plain, server_side=True) as connection:
                    connection.recv(65536)
                    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]')
        threading.Thread(target=answer, daemon=True).start()
        return f'https://localhost:{listener.getsockname()[1]}'

    def client(self, name, authority='authority'):
        return hvpatch.Client(self.serve(), ca=self.file(f'{authority}.pem'),
                              cert=self.file(f'{name}.pem'), key=self.file(f'{name}.key'),
                              timeout=5, retry_seconds=0)

    def test_certificates_on_both_sides_ANSWERED(self):
        self.assertEqual(self.client('client').domains(), [])

    def test_host_of_another_authority_REFUSED(self):
        with self.assertRaises(hvpatch.ConnectionFailed):
            self.client('client', 'stranger').domains()

    def test_client_of_another_authority_REFUSED(self):
        with self.assertRaises(hvpatch.ConnectionFailed):
            self.client('stranger').domains()


if __name__ == '__main__':
    taprun.main()
