# SPDX-License-Identifier: GPL-2.0-or-later
"""A real hvpatchd on a bus of its own, with workers that do as they are told.

    with Bus() as bus, Core(bus, domains=['web-1', 'db-1']) as core:
        core.script('apply', wait='go')
        operation = core.start('web-1', 'apply', patch=core.upload())

Called as a program it makes one call as another user: core.py ADDRESS METHOD SIGNATURE ARGUMENTS.
"""

import contextlib
import html
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

import gi

gi.require_version('Gio', '2.0')
from gi.repository import Gio, GLib  # pylint: disable=wrong-import-position

HERE = os.path.dirname(os.path.realpath(__file__))
SCRIPTED = os.path.join(HERE, 'scripted-worker.py')
NAME, PATH, INTERFACE = 'org.hvpatch1', '/org/hvpatch1', 'org.hvpatch1.Manager'
ENDS = ('applied', 'checked', 'reverted', 'recovered', 'failed', 'rolled-back', 'needs-operator',
        'cancelled')
BUS_CONFIG = """<busconfig>
  <type>system</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="false"/>
    <allow send_type="*"/><allow receive_type="*"/>
  </policy>
</busconfig>"""
# Behaves as libvirt's own test driver with these domains.
NODE = "<node><cpu><mhz>1000</mhz></cpu><memory>4000000</memory>{domains}</node>"
DOMAIN = ("<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>"
          "<name>{name}</name><uuid>{uuid}</uuid><memory>8192</memory><os><type>hvm</type></os>"
          "<test:runstate>{state}</test:runstate></domain>")
RUNNING, SHUT_OFF = 1, 5
ADMIN = '[role admin]\nprincipals=uid:0\nverbs=*\ndomains=*\n'


class Problem(Exception):
    """An error of the daemon's: its code, and the whole document."""

    def __init__(self, document):
        super().__init__(json.dumps(document))
        self.document = document
        self.code = document['code']


def build_file(*names):
    build = os.environ.get('HVPATCH_BUILD') or os.path.join(HERE, '..', '..', 'build')
    return os.path.join(build, *names)


def call_on(connection, method, signature, *arguments, fds=None, timeout=20000):
    try:
        reply = connection.call_with_unix_fd_list_sync(
            NAME, PATH, INTERFACE, method, GLib.Variant(signature, arguments), None,
            Gio.DBusCallFlags.NONE, timeout, fds, None)[0]
    except GLib.Error as error:
        remote = Gio.DBusError.get_remote_error(error) or ''
        if not remote.startswith('org.hvpatch1.Error.'):
            raise
        document = json.loads(error.message.removeprefix(f'GDBus.Error:{remote}: '))
        assert remote == 'org.hvpatch1.Error.' + document['code'], remote
        raise Problem(document) from None
    return reply.unpack()


def connect(address):
    return Gio.DBusConnection.new_for_address_sync(
        address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT |
        Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)


def is_open(path):
    """Whether somebody listens there, which is a moment after the socket is there."""
    with socket.socket(socket.AF_UNIX) as trial:
        return trial.connect_ex(path) == 0


class Bus:
    """A dbus-daemon that everybody on the host may come to, in a folder of its own."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix='hvpatch-bus-')
        os.chmod(self.folder, 0o755)
        path = os.path.join(self.folder, 'socket')
        config = os.path.join(self.folder, 'config')
        with open(config, 'w', encoding='utf-8') as file:
            file.write(BUS_CONFIG.format(path=path))
        self.process = subprocess.Popen(['dbus-daemon', '--nofork', f'--config-file={config}'])
        self.address = f'unix:path={path}'
        until(lambda: is_open(path), 'the bus')
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


def until(condition, what, seconds=15.0, interval=0.01):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(interval)
    raise AssertionError(f'no {what} within {seconds} s')


class Core:
    """hvpatchd, and the one who calls it."""

    def __init__(self, bus, *, domains=('web-1',), stopped=(), config='', uri=None, roles=ADMIN,
                 system_bus=False, environment=None, worker=SCRIPTED):
        self.bus = bus
        self.folder = tempfile.mkdtemp(prefix='hvpatch-core-')
        os.chmod(self.folder, 0o755)
        self.scripts = os.path.join(self.folder, 'scripts')
        self.state = os.path.join(self.folder, 'state')
        os.mkdir(self.scripts)
        self.names = list(domains) + list(stopped)
        self.system_bus = system_bus
        self.environment = environment or {}
        self.worker = worker
        self.set_domains(domains, stopped)
        self.uri = uri or f'test://{self.folder}/node.xml'
        self.write_config(config, roles)
        self.process = None
        self.connection = connect(bus.address)
        self.log = open(os.path.join(self.folder, 'log'), 'wb')

    def set_domains(self, running, stopped=()):
        """Which there are, from its next start on."""
        texts = [DOMAIN.format(name=html.escape(name), uuid=self.uuid(name), state=state)
                 for names, state in ((running, RUNNING), (stopped, SHUT_OFF)) for name in names]
        with open(os.path.join(self.folder, 'node.xml'), 'w', encoding='utf-8') as file:
            file.write(NODE.format(domains=''.join(texts)))

    def write_config(self, config, roles):
        core = f'[core]\nstate={self.state}\nuri={self.uri}\n'
        if 'unsigned=' not in config:
            core += 'unsigned=allow\n'
        self.config = os.path.join(self.folder, 'hvpatchd.conf')
        with open(self.config, 'w', encoding='utf-8') as file:
            file.write(core + config + '\n[api]\nuser=0\n' + roles)

    @staticmethod
    def uuid(name):
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))

    def __enter__(self):
        self.run()
        return self

    def __exit__(self, kind, *_):
        self.kill()
        self.log.close()
        if kind is not None:
            with open(self.log.name, 'rb') as file:
                for line in file.read().decode(errors='replace').splitlines()[-40:]:
                    print('# hvpatchd:', line)
        shutil.rmtree(self.folder)

    # --- the daemon ---

    def run(self, wait=True):
        environment = {**os.environ, 'HVPATCH_BUS': self.bus.address,
                       'HVPATCH_WORKER': self.worker,
                       'HVPATCH_REAL_WORKER': build_file('hv-patcher', 'hvpatch-worker'),
                       'HVPATCH_TEST_SCRIPT': self.scripts, **self.environment}
        environment.pop('DBUS_SYSTEM_BUS_ADDRESS', None)
        if self.system_bus:
            environment['DBUS_SYSTEM_BUS_ADDRESS'] = self.bus.address
        self.process = subprocess.Popen(
            [build_file('hv-patcher', 'hvpatchd'), '--config', self.config], env=environment,
            stdout=self.log, stderr=self.log)
        if wait:
            until(self.is_ready, 'readiness')

    def log_text(self):
        with open(self.log.name, encoding='utf-8', errors='replace') as file:
            return file.read()

    def reload(self):
        """Has it read its configuration again; what it says of that."""
        before = len(self.log_text())
        self.process.send_signal(signal.SIGHUP)
        until(lambda: 'the configuration ' in self.log_text()[before:].rpartition('\n')[0],
              'the end of a reload')
        return self.log_text()[before:]

    def is_ready(self):
        assert self.process.poll() is None, 'hvpatchd has ended'
        try:
            return self.property('Ready')
        except GLib.Error:
            return False

    def property(self, name):
        return self.connection.call_sync(
            NAME, PATH, 'org.freedesktop.DBus.Properties', 'Get',
            GLib.Variant('(ss)', (INTERFACE, name)), None, Gio.DBusCallFlags.NONE, 5000,
            None).unpack()[0]

    def kill(self, signal_number=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal_number)
            self.process.wait()
            # Its name is to be free for the next one.
            time.sleep(0.05)

    def terminate(self):
        self.process.terminate()

    # --- calls ---

    def call(self, method, signature, *arguments, principal='', fds=None):
        return call_on(self.connection, method, f'(s{signature})', principal, *arguments, fds=fds)

    def call_as(self, user, method, signature, *arguments, principal=''):
        """As another user of the host."""
        result = subprocess.run(
            ['/usr/bin/python3', os.path.join(HERE, 'core.py'), self.bus.address, method,
             f'(s{signature})', json.dumps([principal, *arguments])],
            user=user, group=user, extra_groups=[], capture_output=True, text=True, check=False,
            env={'PATH': os.environ['PATH'], 'PYTHONDONTWRITEBYTECODE': '1'})
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        if 'problem' in answer:
            raise Problem(answer['problem'])
        return answer['value']

    def upload_file(self, path, signature=b'', principal=''):
        fds = Gio.UnixFDList.new()
        with open(path, 'rb') as file:
            index = fds.append(file.fileno())
        text, created = self.call('UploadPatch', 'hay', index, signature, fds=fds,
                                  principal=principal)
        return json.loads(text), created

    def module(self, kind=''):
        path = os.path.join(self.folder, f'module-{kind or "plain"}.ko')
        subprocess.run([build_file('tests', 'daemon', 'make-module'), path] +
                       ([str(kind)] if kind != '' else []), check=True)
        return path

    def upload(self, kind=''):
        return self.upload_file(self.module(kind))[0]['sha256']

    def start(self, domain, verb, *, key='', principal='', **request):
        text, created = self.call('StartOperation', 'sss', self.uuid(domain),
                                  json.dumps({'verb': verb, **request}), key, principal=principal)
        return {**json.loads(text), 'created': created}

    def operation(self, operation):
        return json.loads(self.call('GetOperation', 's', operation['id'])[0])

    def wait_end(self, operation, seconds=20.0):
        def ended():
            now = self.operation(operation)
            return now if now['state'] in ENDS else None
        return until(ended, f'end of {operation["verb"]}', seconds)

    def wait_state(self, operation, state):
        until(lambda: self.operation(operation)['state'] == state, state)

    def domain(self, name):
        return json.loads(self.call('GetDomain', 's', self.uuid(name))[0])

    def domains(self, principal=''):
        return json.loads(self.call('ListDomains', '', principal=principal)[0])

    def operations(self, principal='', **filters):
        return json.loads(self.call('ListOperations', 's', json.dumps(filters),
                                    principal=principal)[0])

    def events(self, since=0, limit=1000, principal=''):
        text, oldest, newest = self.call('GetEvents', 'tu', since, limit, principal=principal)
        return json.loads(text), oldest, newest

    def metrics(self):
        return self.call('GetMetrics', '')[0]

    # --- workers ---

    def script(self, name, **script):
        path = os.path.join(self.scripts, name + '.json')
        with open(path + '.new', 'w', encoding='utf-8') as file:
            json.dump(script, file)
        os.rename(path + '.new', path)

    def go(self, name='go'):
        with open(os.path.join(self.scripts, name), 'w', encoding='utf-8'):
            pass

    def jobs(self, verb=None):
        try:
            with open(os.path.join(self.scripts, 'jobs'), encoding='utf-8') as file:
                jobs = [json.loads(line) for line in file]
        except FileNotFoundError:
            jobs = []
        return [job for job in jobs if verb in (None, job['job']['verb'])]


class Signer:
    """A minisign key pair, in a folder that is there, and what the configuration says of it."""

    def __init__(self, folder, name):
        self.key = os.path.join(folder, name + '.key')
        public = os.path.join(folder, name + '.pub')
        self._run('-G', '-W', '-s', self.key, '-p', public)
        with open(public, encoding='utf-8') as file:
            self.config = f'[key {name}]\nminisign={file.read().splitlines()[1]}\n'

    @staticmethod
    def _run(*arguments):
        subprocess.run(['minisign', *arguments], check=True, capture_output=True)

    def sign(self, path, comment='by a test'):
        """The signature of that file."""
        signature = self.key + '.minisig'
        self._run('-S', '-s', self.key, '-m', path, '-x', signature, '-t', comment)
        with open(signature, 'rb') as file:
            return file.read()


@contextlib.contextmanager
def core_with(**options):
    with Bus() as bus, Core(bus, **options) as core:
        yield core


def switched(sha256, name='synth'):
    """What a look tells where that patch is in force."""
    return {'version': 1, 'info': {}, 'status': {'version': 1, 'patches': [
        {'name': name, 'sha256': sha256, 'state': 'switched', 'verified': True, 'functions': [],
         'applied_at': None}]}}


def refused(code, function, *arguments, **named):
    """The document of the problem that has to come of it."""
    try:
        value = function(*arguments, **named)
    except Problem as problem:
        assert problem.code == code, f'{problem}, not {code}'
        return problem.document
    raise AssertionError(f'not {code}, but {value!r}')


def main():
    _, address, method, signature, arguments = sys.argv
    try:
        value = call_on(connect(address), method, signature, *json.loads(arguments))
        print(json.dumps({'value': value}))
    except Problem as problem:
        print(json.dumps({'problem': problem.document}))


if __name__ == '__main__':
    main()
