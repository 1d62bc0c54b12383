# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatch-apid with a bus of its own and a core, and clients for it."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from gi.repository import Gio, GLib

from contract import Contract

HERE = os.path.dirname(os.path.realpath(__file__))
PATIENCE_SECONDS = 20
BUS_CONFIGURATION = '''<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="false"/>
<allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy>
<limit name="max_replies_per_connection">128</limit></busconfig>
'''


class Answer:
    """Status, headers (names in lower case) and body of an answer."""

    def __init__(self, head, body):
        lines = head.decode('latin-1').split('\r\n')
        self.status = int(lines[0].split(' ')[1])
        self.headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(':')
            self.headers[name.lower()] = value.strip()
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        return self.json['code']


class Client:
    """A connection, and HTTP by hand: what libraries would not send can be sent, too."""

    def __init__(self, sock, patience=PATIENCE_SECONDS):
        self.socket = sock
        self.socket.settimeout(patience)
        self.pending = b''

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError, BrokenPipeError):
            data = b''
        self.pending += data
        return bool(data)

    def take(self, count):
        while len(self.pending) < count:
            assert self.receive(), 'the connection ended within an answer'
        data, self.pending = self.pending[:count], self.pending[count:]
        return data

    def take_until(self, mark):
        while mark not in self.pending:
            assert self.receive(), f'the connection ended: {self.pending[:200]!r}'
        data, _, self.pending = self.pending.partition(mark)
        return data

    def is_closed(self):
        """Whether the peer closes it, within the patience."""
        return not self.pending and not self.receive()

    def take_chunks(self):
        body = b''
        while True:
            size = int(self.take_until(b'\r\n'), 16)
            body += self.take(size)
            assert self.take(2) == b'\r\n'
            if size == 0:
                return body

    def answer(self, method='GET'):
        head = self.take_until(b'\r\n\r\n')
        answer = Answer(head, b'')
        if answer.status == 100:
            return self.answer(method)
        if method != 'HEAD' and answer.status not in (204, 304):
            if answer.headers.get('transfer-encoding') == 'chunked':
                answer.body = self.take_chunks()
            else:
                answer.body = self.take(int(answer.headers['content-length']))
        return answer

    def ask(self, method, path, headers=(), body=None):
        self.send(request(method, path, headers, body))
        return self.answer(method)


def request(method, path, headers=(), body=None):
    headers = dict(headers)
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
        headers.setdefault('Content-Type', 'application/json')
    if body is not None:
        headers.setdefault('Content-Length', str(len(body)))
    lines = [f'{method} {path} HTTP/1.1', f'Host: {headers.pop("Host", "localhost")}']
    lines += [f'{name}: {value}' for name, value in headers.items()]
    return '\r\n'.join(lines).encode('latin-1') + b'\r\n\r\n' + (body or b'')


def wait_for(condition, what, seconds=PATIENCE_SECONDS):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f'{what}: not within {seconds} s')


class FakeCore:
    """The scripted core as a process."""

    def __init__(self, address):
        self.address = address
        self.process = None
        self.bus = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, 'fakecore.py'), self.address],
            stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == 'ready\n'

    def tell(self, do, **order):
        if self.bus is None:
            self.bus = Gio.DBusConnection.new_for_address_sync(
                self.address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
                | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
            self.bus.set_exit_on_close(False)
        answer = self.bus.call_sync(
            'org.hvpatch1', '/org/hvpatch1', 'org.hvpatch.Test', 'Tell',
            GLib.Variant('(s)', (json.dumps({'do': do, **order}),)), None,
            Gio.DBusCallFlags.NONE, PATIENCE_SECONDS * 1000, None)
        return json.loads(answer.unpack()[0])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        if self.process.poll() is None:
            self.kill()


class Bus:
    """A private dbus-daemon, which takes as many calls at a time as the system's."""

    def __init__(self, folder):
        self.path = os.path.join(folder, 'bus')
        self.address = f'unix:path={self.path}'
        self.configuration = os.path.join(folder, 'bus.conf')
        with open(self.configuration, 'w') as stream:
            stream.write(BUS_CONFIGURATION.format(path=self.path))
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ['dbus-daemon', '--nofork', '--print-address=1', '--config-file', self.configuration],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout.readline(), 'the bus does not start'

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class FrontEnd:
    """A bus, a core and hvpatch-apid in a folder of their own; or with BUS_ADDRESS where these are
    somebody else's."""

    def __init__(self, program, bus_address=None, **settings):
        self.program = program
        self.folder = tempfile.mkdtemp(prefix='hvpatch-api-')
        os.chmod(self.folder, 0o755)
        self.socket_path = os.path.join(self.folder, 'api.socket')
        self.settings = {'socket': self.socket_path, 'socket-mode': '0666', **settings}
        self.contract = Contract()
        self.bus = None if bus_address else Bus(self.folder)
        self.bus_address = bus_address or self.bus.address
        self.core = None if bus_address else FakeCore(self.bus_address)
        self.process = None
        self.log_path = os.path.join(self.folder, 'log')
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def configure(self):
        path = os.path.join(self.folder, 'hvpatchd.conf')
        with open(path, 'w') as stream:
            stream.write('[api]\n')
            stream.writelines(f'{key}={value}\n' for key, value in self.settings.items())
        return path

    def start(self, ready=True):
        with open(self.log_path, 'a') as log:
            self.process = subprocess.Popen(
                # As its unit has it.
                ['nice', '-n', '10', self.program, '--as-root', '--bus', self.bus_address,
                 '--config', self.configure()],
                stdout=log, stderr=log, env={
                    **os.environ, 'G_MESSAGES_DEBUG': 'hvpatch',
                    # What is freed must not look as if it were held.
                    'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '')
                    + ':quarantine_size_mb=4:allocator_release_to_os_interval_ms=100'})
        if ready:
            wait_for(self.is_healthy, f'hvpatch-apid: {self.log()}')

    def log(self):
        with open(self.log_path, errors='replace') as stream:
            return stream.read()

    def is_healthy(self):
        assert self.process.poll() is None, f'hvpatch-apid has ended: {self.log()[-4000:]}'
        try:
            with self.client() as client:
                return client.ask('GET', '/v1/healthz').status == 200
        except OSError:
            return False

    def client(self, patience=PATIENCE_SECONDS, sock=None):
        sock = sock or socket.socket(socket.AF_UNIX)
        sock.connect(self.socket_path)
        return Client(sock, patience)

    def ask(self, method, path, headers=(), body=None):
        """One request on a connection of its own; the answer is held against the contract."""
        with self.client() as client:
            answer = client.ask(method, path, headers, body)
        self.contract.check(method, path, answer)
        return answer

    def send_raw(self, data, patience=PATIENCE_SECONDS):
        """The answer to DATA; None: the connection was closed without one."""
        with self.client(patience) as client:
            try:
                client.send(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return client.answer() if client.receive() else None

    def rss_kib(self):
        with open(f'/proc/{self.process.pid}/status') as stream:
            return next(int(line.split()[1]) for line in stream if line.startswith('VmRSS'))

    def cpu_seconds(self):
        with open(f'/proc/{self.process.pid}/stat') as stream:
            fields = stream.read().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def descriptors(self):
        return len(os.listdir(f'/proc/{self.process.pid}/fd'))

    def metric(self, name):
        text = self.ask('GET', '/metrics').body.decode()
        return next(float(line.split()[-1]) for line in text.splitlines()
                    if line.startswith(name + ' ') or line.startswith(name + '{'))

    def stop(self):
        """Ends it as systemd does; fails if it was dead, or dies of that."""
        self.process.terminate()
        status = self.process.wait(PATIENCE_SECONDS)
        assert status == 0, f'hvpatch-apid ends with {status}: {self.log()[-4000:]}'

    def close(self):
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
            log = self.log()
            assert 'CRITICAL' not in log and 'ERROR: ' not in log, log[-4000:]
        finally:
            if self.process is not None and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            for helper in self.core, self.bus:
                if helper is not None:
                    helper.stop()
            shutil.rmtree(self.folder)
