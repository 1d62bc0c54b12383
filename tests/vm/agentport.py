# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest agent in a test guest, and the host's end of its port.

    with Agent(guest) as agent:
        for kthread in agent.kthreads():
            ...
"""

import contextlib
import json
import os
import re
import socket
import time

from guest import ROOT, eventually

NAME = 'org.hvpatch.agent.0'
LINE_MAX_BYTES = 65535
PATIENCE_SECONDS = 20
BINARY = '/tmp/hvpatch-agent'
FREEZER = '/tmp/freezer'


def agent_path():
    """$HVPATCH_AGENT, or the one in the build folder $HVPATCH_BUILD (default: build)."""
    build = os.environ.get('HVPATCH_BUILD') or os.path.join(ROOT, 'build')
    return os.environ.get('HVPATCH_AGENT') or os.path.join(build, 'guest-agent', 'hvpatch-agent')


class AgentError(Exception):
    """The agent answered with an error."""


class AgentSilent(Exception):
    """No answer in time."""


class Port:
    """A connection to QEMU's end of the port."""

    def __init__(self, path):
        self.path = path
        self._socket = None
        self.connect()

    def connect(self):
        """Also again, after close()."""
        self.events = []
        self._buffer = b''
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(self.path)

    def forget_half_line(self):
        """The agent died in the middle of it."""
        self._buffer = b''

    def close(self):
        self._socket.close()

    def send(self, content, timeout=PATIENCE_SECONDS):
        self._socket.settimeout(timeout)
        self._socket.sendall(content)

    def line(self, timeout=PATIENCE_SECONDS):
        deadline = time.monotonic() + timeout
        while b'\n' not in self._buffer:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError as error:
                raise AgentSilent(f'nothing for {timeout} s') from error
            assert chunk, 'QEMU closed the port'
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b'\n')
        assert len(line) < LINE_MAX_BYTES, f'a line of {len(line)} bytes'
        return line

    def message(self, deadline):
        """The next line, parsed; late answers to a sync that was asked for twice are dropped."""
        while (line := self.line(max(deadline - time.monotonic(), 0.001))).startswith(b'\xff'):
            pass
        return json.loads(line)

    def answer(self, timeout=PATIENCE_SECONDS):
        """The next line that is no event; events are kept."""
        deadline = time.monotonic() + timeout
        while True:
            message = self.message(deadline)
            if 'event' not in message:
                return message
            self.events.append(message)

    def execute(self, command, timeout=PATIENCE_SECONDS, **arguments):
        self.send(json.dumps({'execute': command, 'arguments': arguments}).encode() + b'\n')
        message = self.answer(timeout)
        if 'error' in message:
            raise AgentError(message['error']['desc'])
        return message['return']

    def sync(self, number, timeout=PATIENCE_SECONDS):
        """Drops all that was said before; asks once a second until the agent answers."""
        deadline = time.monotonic() + timeout
        request = {'execute': 'guest-sync-delimited', 'arguments': {'id': number}}
        wanted = json.dumps({'return': number}, separators=(',', ':')).encode()
        while time.monotonic() < deadline:
            self.send(b'\xff' + json.dumps(request).encode() + b'\n')
            with contextlib.suppress(AgentSilent):
                while self.line(1).rpartition(b'\xff')[2] != wanted:
                    pass
                return
        raise AgentSilent(f'no sync for {timeout} s')

    def kthreads(self, **arguments):
        """All pages, by pid; and how many pages it took."""
        found, pages, start = {}, 0, 0
        while True:
            page = self.execute('guest-hvpatch-get-kthreads', start=start, **arguments)
            pages += 1
            for kthread in page['kthreads']:
                assert kthread['pid'] >= start and kthread['pid'] not in found, page
                found[kthread['pid']] = kthread
            if page['next'] == 0:
                return found, pages
            assert page['next'] > start
            start = page['next']

    def wait_event(self, wanted, timeout=PATIENCE_SECONDS):
        """Until an event's data satisfies WANTED; returns them."""
        deadline = time.monotonic() + timeout
        while True:
            while self.events:
                event = self.events.pop(0)
                assert event['event'] == 'HVPATCH_KTHREADS', event
                if wanted(event['data']):
                    return event['data']
            self.events.append(self.message(deadline))


def plug(guest):
    """Plugs a virtio-serial port into the running guest, once; returns the socket's path."""
    path = guest.path('agent.sock')
    if not os.path.exists(path):
        guest.qmp.execute('chardev-add', id='hvpagent', backend={
            'type': 'socket', 'data': {'server': True, 'wait': False, 'addr': {
                'type': 'unix', 'data': {'path': path}}}})
        guest.qmp.execute('device_add', driver='virtio-serial-pci', id='hvpserial')
        plug_port(guest)
        guest.check('modprobe -a virtio_pci virtio_console || '
                    '(modprobe virtio_pci; modprobe virtio_console)')
        guest.wait_for(f'grep -qx {NAME} /sys/class/virtio-ports/*/name')
        guest.put_file(agent_path(), BINARY)
        # What the kernel says of a new device.
        guest.mark_dmesg()
    return path


def plug_port(guest):
    guest.qmp.execute('device_add', driver='virtserialport', id='hvpport', chardev='hvpagent',
                      name=NAME)


def unplug_port(guest):
    guest.qmp.execute('device_del', id='hvpport')


class Agent(Port):
    """The agent runs in the guest, and this is connected with it."""

    def __init__(self, guest):
        self.guest = guest
        path = plug(guest)
        self.pid = None
        self.start()
        super().__init__(path)
        self.sync(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        self.kill()

    def start(self):
        """Starts the program; as a service does, once only."""
        self.pid = int(self.guest.check(f'{BINARY} > /tmp/agent.log 2>&1 & echo $!'))

    def kill(self):
        self.guest.run(f'kill -9 {self.pid}; while [ -e /proc/{self.pid} ]; do sleep 0.02; done')

    def resident_kib(self):
        return int(self.guest.check(f"awk '/^VmRSS:/ {{print $2}}' /proc/{self.pid}/status"))

    def cpu_seconds(self):
        fields = self.guest.check(f'cat /proc/{self.pid}/stat').rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def host_events(self):
        """How often the guest has opened or closed the port since the last call."""
        time.sleep(1.1)  # QEMU tells these once a second at most
        events = self.guest.qmp.take_events()
        return events.count('VSERPORT_CHANGE')

    def one(self, pid, **arguments):
        page = self.execute('guest-hvpatch-get-kthreads', start=pid, limit=1, **arguments)
        kthread, = page['kthreads']
        assert kthread['pid'] == pid, page
        return kthread

    def wait_until(self, pid, wanted):
        """Until what is told of a thread, with its stack, satisfies WANTED; returns that."""
        def check():
            kthread = self.one(pid, stack=True)
            assert wanted(kthread), kthread
            return kthread
        return eventually(check, PATIENCE_SECONDS, interval=0.05)

    def wait_state(self, pid, state):
        return self.wait_until(pid, lambda kthread: kthread['state'] == state)

    def wait_silent(self):
        """Until it does next to nothing: who watched, or read, is known to have left."""
        def switches():
            text = self.guest.check(f'cat /proc/{self.pid}/status')
            return int(re.search(r'^voluntary_ctxt_switches:\s*(\d+)', text, re.MULTILINE).group(1))

        def check():
            before = switches()
            self.guest.check('sleep 1')
            assert switches() - before < 20, 'the agent is at work'
        eventually(check, PATIENCE_SECONDS)


@contextlib.contextmanager
def frozen(guest, pid):
    """A freezable kernel thread alone is frozen: when all are, the agent is as well."""
    guest.check(f'mkdir {FREEZER} && mount -t cgroup -o freezer none {FREEZER} && '
                f'mkdir {FREEZER}/hvp && echo {pid} > {FREEZER}/hvp/tasks && '
                f'echo FROZEN > {FREEZER}/hvp/freezer.state')
    try:
        yield
    finally:
        guest.check(f'echo THAWED > {FREEZER}/hvp/freezer.state && echo {pid} > {FREEZER}/tasks && '
                    f'rmdir {FREEZER}/hvp && umount {FREEZER} && rmdir {FREEZER}')


def functions(kthread):
    """The names on a stack that the agent tells."""
    return [re.sub(r'\+.*', '', frame) for frame in kthread['stack']]
