#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may do what to hvpatch-apid, over which transport: test-api-roles.py PROGRAM [CASE...]

H3: only certificates of the CA's, meant for clients, in their time and not revoked. Then a table of
role, verb and transport, each cell of it asked for.
"""

import hashlib
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import warnings

from certificates import Authority, context
from frontend import Client, FrontEnd, request, wait_for
from cases import Skip, run_cases

UUID = '5c5c1b3e-8f0a-4b43-9f0b-0c6f1f2a9d11'
OTHER_UUID = '1b7d6a52-3a7f-4c8a-a3ee-5a9a0c7e6b22'
PATCH = b'\x7fELF' + bytes(4096)
DIGEST = hashlib.sha256(PATCH).hexdigest()
BYTES = {'Content-Type': 'application/octet-stream'}
FIRST_UID = 20001


class Remote:
    """A front end with TLS, its authority and certificates of all kinds."""

    def __init__(self, program, folder):
        self.authority = Authority(folder, 'authority')
        stranger = Authority(folder, 'stranger')
        server_certificate, server_key = self.authority.issue('server', '/CN=localhost', 'server')
        issue = self.authority.issue
        past = '-startdate', '20200101000000Z', '-enddate', '20200102000000Z'
        future = '-startdate', '20490101000000Z', '-enddate', '20500102000000Z'
        self.good = issue('good', '/CN=plane', 'client')
        self.bad = {
            'no-certificate': None,
            'of-another-authority': stranger.issue('stranger', '/CN=plane', 'client'),
            'expired': issue('expired', '/CN=plane', 'client', *past),
            'not-yet-valid': issue('future', '/CN=plane', 'client', *future),
            'revoked': issue('revoked', '/CN=plane', 'client'),
            'of-a-server': issue('wrong', '/CN=plane', 'server'),
            'without-purpose': issue('nothing', '/CN=plane', 'nothing'),
            'of-the-authority-itself': (self.authority.path('ca.crt'),
                                        self.authority.path('ca.key')),
            'signed-by-itself': self.self_signed(),
            'with-two-names': issue('two', '/CN=plane/CN=admin', 'client'),
            'with-a-newline': issue('newline', '/CN=plane\nroot', 'client'),
        }
        self.roles = {name: issue('role-' + name, f'/CN={name}', 'client') for name in ROLES}
        self.authority.revoke('revoked')
        self.front = FrontEnd(program, **{
            'tcp': '127.0.0.1:0', 'cert': server_certificate, 'key': server_key,
            'client-ca': self.authority.path('ca.crt'), 'head-timeout': 2,
            'crl': self.authority.revocation_list()})

    def self_signed(self):
        authority = self.authority
        authority.key('alone')
        authority.openssl('req', '-x509', '-new', '-key', authority.path('alone.key'), '-subj',
                          '/CN=plane', '-days', '5', '-extensions', 'client', '-out',
                          authority.path('alone.crt'))
        return authority.path('alone.crt'), authority.path('alone.key')

    @property
    def port(self):
        return int(re.findall(r'port (\d+)', self.front.log())[-1])

    def connect(self, certificate, settings=None):
        settings = settings or context(self.authority, certificate)
        plain = socket.create_connection(('127.0.0.1', self.port), timeout=20)
        return Client(settings.wrap_socket(plain, server_hostname='localhost'))

    def is_refused(self, certificate, settings=None):
        """Whether no answer is to be had with it."""
        try:
            with self.connect(certificate, settings) as client:
                client.send(request('GET', '/v1/domains'))
                return not client.receive()
        except (ssl.SSLError, ConnectionError):
            return True


def fresh(remote):
    remote.front.core.tell('forget')
    remote.front.core.tell('roles', roles={}, default={'verbs': ['*'], 'domains': ['*']})
    remote.front.core.tell('calls')


# --- H3: certificates

def case_H3_good_certificate_IS_ITS_NAME(remote):
    with remote.connect(remote.good) as client:
        for _ in range(3):
            assert client.ask('GET', '/v1/domains').status == 200
        assert client.ask('POST', '/v1/patches', BYTES, PATCH).status == 201
    assert {principal for _, principal in remote.front.core.tell('calls')} == {'cert:plane'}


def case_H3_any_host_over_tls_SERVED(remote):
    with remote.connect(remote.good) as client:
        for host in 'hv1.example:8443', 'localhost', '10.0.0.1':
            assert client.ask('GET', '/v1/domains', {'Host': host}).status == 200


def case_H3_bad_certificates_REFUSED(remote):
    for name, certificate in remote.bad.items():
        assert remote.is_refused(certificate), name
    assert remote.front.core.tell('calls') == []


def case_H3_key_of_another_REFUSED(remote):
    try:
        settings = context(remote.authority, (remote.good[0], remote.bad['revoked'][1]))
    except ssl.SSLError:
        return
    assert remote.is_refused(None, settings)


def case_H3_old_protocols_REFUSED(remote):
    for version in 'TLSv1', 'TLSv1_1':
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            settings = context(remote.authority, remote.good)
            settings.set_ciphers('ALL:@SECLEVEL=0')
            settings.minimum_version = settings.maximum_version = ssl.TLSVersion[version]
        assert remote.is_refused(None, settings), version
    for version in 'TLSv1_2', 'TLSv1_3':
        settings = context(remote.authority, remote.good)
        settings.minimum_version = settings.maximum_version = ssl.TLSVersion[version]
        with remote.connect(None, settings) as client:
            assert client.ask('GET', '/v1/domains').status == 200


def case_H3_renegotiation_REFUSED(remote):
    certificate, key = remote.good
    client = subprocess.Popen(
        ['openssl', 's_client', '-connect', f'127.0.0.1:{remote.port}', '-tls1_2', '-cert',
         certificate, '-key', key, '-CAfile', remote.authority.path('ca.crt')],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    time.sleep(0.5)
    client.stdin.write(b'R\n')
    client.stdin.flush()
    time.sleep(0.5)
    try:
        output = client.communicate(request('GET', '/v1/domains', {'Connection': 'close'}),
                                    timeout=10)[0]
    finally:
        client.kill()
    assert b'RENEGOTIATING' in output and b'HTTP/1.1 200' not in output, output[-500:]


def case_H3_plain_http_REFUSED(remote):
    with Client(socket.create_connection(('127.0.0.1', remote.port), timeout=20)) as client:
        client.send(request('GET', '/v1/domains'))
        while client.receive():
            pass
        assert b'HTTP' not in client.pending


def case_H3_silent_handshake_CUT_OFF(remote):
    silent = [socket.create_connection(('127.0.0.1', remote.port), timeout=20) for _ in range(8)]
    begin = time.monotonic()
    for client in silent:
        client.settimeout(10)
        assert client.recv(1) == b''
        client.close()
    assert time.monotonic() - begin < 8
    with remote.connect(remote.good) as client:
        assert client.ask('GET', '/v1/domains').status == 200


def case_H3_connections_of_nobody_COST_LITTLE(remote):
    before = remote.front.cpu_seconds()
    for _ in range(100):
        socket.create_connection(('127.0.0.1', remote.port), timeout=20).close()
    assert remote.front.is_healthy()
    assert remote.front.cpu_seconds() - before < 0.5


def silent_from(remote, number, count):
    """COUNT connections from an address of this host's, which say nothing."""
    return [socket.create_connection(('127.0.0.1', remote.port), timeout=20,
                                     source_address=(f'127.0.0.{number}', 0))
            for _ in range(count)]


def is_served_beside(remote, silent):
    with remote.connect(remote.good) as client:
        status = client.ask('GET', '/v1/domains').status
    for other in silent:
        other.close()
    return status == 200


def case_H3_silent_handshakes_of_many_addresses_GIVE_WAY(remote):
    silent = [client for number in range(2, 9) for client in silent_from(remote, number, 8)]
    assert is_served_beside(remote, silent)


def case_H3_silent_handshakes_of_ones_own_address_GIVE_WAY(remote):
    assert is_served_beside(remote, silent_from(remote, 1, 16))


def case_H3_revoked_later_REFUSED_AFTER_RELOAD(remote):
    later = remote.authority.issue('later', '/CN=later', 'client')
    with remote.connect(later) as client:
        assert client.ask('GET', '/v1/domains').status == 200
    remote.authority.revoke('later')
    remote.authority.revocation_list()
    remote.front.process.send_signal(1)
    wait_for(lambda: remote.is_refused(later), 'the new list is in force')
    with remote.connect(remote.good) as client:
        assert client.ask('GET', '/v1/domains').status == 200


def case_H3_revoked_later_open_connections_CLOSED(remote):
    gone, whole = remote.authority.issue('gone', '/CN=gone', 'client'), remote.good
    with remote.connect(gone) as idle, remote.connect(gone) as follower, \
            remote.connect(gone) as sender, remote.connect(whole) as other, \
            remote.connect(whole) as other_follower, remote.front.client() as local:
        for client in idle, other, local:
            assert client.ask('GET', '/v1/domains').status == 200
        for client in follower, other_follower:
            client.send(request('GET', '/v1/events'))
            assert b' 200 ' in client.take_until(b'\r\n\r\n')
        sender.send(request('POST', '/v1/patches', {**BYTES, 'Content-Length': 100}) + b'x')
        remote.authority.revoke('gone')
        remote.authority.revocation_list()
        begin = time.monotonic()
        remote.front.process.send_signal(1)
        for client in idle, follower, sender:
            while client.receive():
                pass
        assert time.monotonic() - begin < 5
        for client in other, local:
            assert client.ask('GET', '/v1/domains').status == 200
        other_follower.pending = b''
        remote.front.core.tell('events', count=1)
        assert other_follower.receive()
    assert remote.front.log().count('a connection of cert:gone is closed') == 3


def case_H3_broken_files_at_reload_OLD_ONES_STAY(remote):
    with open(remote.authority.path('ca.crl'), 'r+') as stream:
        whole = stream.read()
        stream.seek(0)
        stream.truncate()
        stream.write('nonsense')
    remote.front.process.send_signal(1)
    wait_for(lambda: 'stay as they were' in remote.front.log(), 'it is noticed')
    assert remote.is_refused(remote.bad['revoked'])
    with remote.connect(remote.good) as client:
        assert client.ask('GET', '/v1/domains').status == 200
    with open(remote.authority.path('ca.crl'), 'w') as stream:
        stream.write(whole)


# --- role x verb x transport

ROLES = {
    'nobody': {'verbs': [], 'domains': []},
    'viewer': {'verbs': ['view'], 'domains': ['*']},
    'uploader': {'verbs': ['view', 'upload', 'delete'], 'domains': ['*']},
    'operator': {'verbs': ['view', 'check', 'apply', 'revert', 'replace', 'recover', 'cancel'],
                 'domains': ['web-*']},
    'monitor': {'verbs': ['metrics'], 'domains': []},
    'admin': {'verbs': ['*'], 'domains': ['*']},
}


def operation(verb, uuid=UUID):
    body = {'verb': verb}
    if verb == 'revert':
        body['name'] = 'some_patch'
    elif verb != 'recover':
        body['patch'] = DIGEST
    return 'POST', f'/v1/domains/{uuid}/operations', (), body


# Each verb: what is asked, and the status for each role in the order above.
VERBS = {
    'list-domains': (('GET', '/v1/domains', (), None), (403, 200, 200, 200, 403, 200)),
    'view': (('GET', f'/v1/domains/{UUID}', (), None), (404, 200, 200, 200, 404, 200)),
    'view-other': (('GET', f'/v1/domains/{OTHER_UUID}', (), None),
                   (404, 200, 200, 404, 404, 200)),
    'refresh': (('POST', f'/v1/domains/{UUID}/refresh', (), None),
                (404, 202, 202, 202, 404, 202)),
    'check': (operation('check'), (404, 403, 403, 202, 404, 202)),
    'apply': (operation('apply'), (404, 403, 403, 202, 404, 202)),
    'apply-other': (operation('apply', OTHER_UUID), (404, 403, 403, 404, 404, 202)),
    'revert': (operation('revert'), (404, 403, 403, 202, 404, 202)),
    'replace': (operation('replace'), (404, 403, 403, 202, 404, 202)),
    'recover': (operation('recover'), (404, 403, 403, 202, 404, 202)),
    'operations': (('GET', '/v1/operations', (), None), (403, 200, 200, 200, 403, 200)),
    'operation': (('GET', '/v1/operations/{id}', (), None), (404, 200, 200, 200, 404, 200)),
    'cancel': (('POST', '/v1/operations/{id}/cancel', (), None), (404, 403, 403, 202, 404, 202)),
    'patches': (('GET', '/v1/patches', (), None), (403, 200, 200, 200, 403, 200)),
    'patch': (('GET', f'/v1/patches/{DIGEST}', (), None), (403, 200, 200, 200, 403, 200)),
    'upload': (('POST', '/v1/patches', BYTES, PATCH + b'1'), (403, 403, 201, 403, 403, 201)),
    'delete': (('DELETE', f'/v1/patches/{DIGEST}', (), None), (403, 403, 204, 403, 403, 204)),
    'events': (('GET', '/v1/events?follow=false', (), None), (403, 200, 200, 200, 403, 200)),
    'metrics': (('GET', '/metrics', (), None), (403, 403, 403, 403, 200, 200)),
    'health': (('GET', '/v1/healthz', (), None), (200, 200, 200, 200, 200, 200)),
    'page': (('GET', '/', (), None), (200, 200, 200, 200, 200, 200)),
    'contract': (('GET', '/v1/openapi.json', (), None), (200, 200, 200, 200, 200, 200)),
}


def local_client(remote, role):
    """Over the unix socket, as the user of the role."""
    if os.geteuid() != 0:
        raise Skip('only root can be somebody else')
    os.seteuid(FIRST_UID + list(ROLES).index(role))
    try:
        return remote.front.client()
    finally:
        os.seteuid(0)


def remote_client(remote, role):
    return remote.connect(remote.roles[role])


def prepare(remote):
    """An operation to look at, with nothing in the way of another: of no domain's that is asked."""
    front = remote.front
    fresh(remote)
    front.ask('POST', '/v1/patches', BYTES, PATCH)
    answer = front.ask(*operation('check'))
    front.core.tell('release', identity=answer.json['id'])
    roles = {f'uid:{FIRST_UID + number}': role for number, role in enumerate(ROLES.values())}
    roles.update({f'cert:{name}': role for name, role in ROLES.items()})
    front.core.tell('roles', roles=roles)
    return answer.json['id']


def ask_cell(remote, connect, role, asked):
    identity = prepare(remote)
    method, path, headers, body = asked
    path = path.replace('{id}', identity)
    with connect(remote, role) as client:
        answer = client.ask(method, path, headers, body)
    remote.front.contract.check(method, path, answer)
    return answer


def check_table(remote, connect):
    wrong = []
    for verb, (asked, statuses) in VERBS.items():
        for role, status in zip(ROLES, statuses):
            answer = ask_cell(remote, connect, role, asked)
            if answer.status != status:
                wrong.append((verb, role, answer.status, status))
    assert not wrong, wrong


def case_roles_over_the_unix_socket_AS_IN_THE_TABLE(remote):
    check_table(remote, local_client)


def case_roles_over_tls_AS_IN_THE_TABLE(remote):
    check_table(remote, remote_client)


def case_uid_and_certificate_of_one_name_ARE_TWO(remote):
    remote.front.core.tell('roles', roles={'uid:0': ROLES['admin']})
    certificate = remote.authority.issue('zero', '/CN=0', 'client')
    with remote.connect(certificate) as client:
        assert client.ask('GET', '/v1/patches').status == 403
    certificate = remote.authority.issue('uid', '/CN=uid:0', 'client')
    with remote.connect(certificate) as client:
        assert client.ask('GET', '/v1/patches').status == 403


def main(program, wanted):
    with tempfile.TemporaryDirectory(prefix='hvpatch-api-') as folder:
        remote = Remote(program, folder)
        with remote.front:
            functions = {name: function for name, function in globals().items()
                         if not wanted or any(word in name for word in wanted)}
            return run_cases(functions, remote, before=fresh)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1], sys.argv[2:]))
