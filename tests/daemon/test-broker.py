#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The privileged half of hvpatch-worker against another half that a guest has taken over.

It may harm its own guest, which these cases do not; everything else is refused.
"""

import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
import time

from worker import job

# pylint: disable=wrong-import-order
from guest import die_with_parent, eventually, hvpatch_path
from tap import Suite

suite = Suite('6.12')

# vm/helper.h
(MONITOR, KEEPER, JOURNAL, MAPS, MEMORY, PAGEMAP, MAPPING, AGENT, ORACLE, START_TIME, THREAD_GROUP,
 USERFAULTFD, JOBS, NO_JOB, VCPUS) = range(1, 16)
WITH_MONITOR, SCRATCH = 1, 2
REQUEST = struct.Struct('=IIQ')
ANSWER = struct.Struct('=IIQI2048s512s4x')
# base/error.h
(INVALID_ARGUMENT, UNSUPPORTED, PERMISSION, BAD_DATA, FAULT, NOT_FOUND, AMBIGUOUS,
 BUSY) = range(8)
# keeper/wire.h
MAGIC, HELLO, OK, ERROR, PLACE, ATTACH = 0x4b505648, 1, 2, 3, 4, 5
HEADER = struct.Struct('=III')

FLOOD_SECONDS = 10
FLOOD_MESSAGES = 1000000


class Refused(Exception):
    """The broker said no; args: code, message."""

    @property
    def code(self):
        return self.args[0]


class Broker:
    """The privileged half, and we are the other one."""

    def __init__(self, work, seconds=120):
        program = os.path.join(os.path.dirname(hvpatch_path()), '..', 'tests', 'daemon',
                               'broker-host')
        environment = {'HVPATCH_KEEPER': os.path.join(os.path.dirname(hvpatch_path()),
                                                      'hvpatch-keeper'), **os.environ}
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()

            def prepare():
                die_with_parent()
                os.dup2(number, 3)
                os.set_inheritable(3, True)

            self.process = subprocess.Popen([program, json.dumps(work), str(seconds)], text=True,
                                            stdout=subprocess.PIPE, close_fds=False,
                                            preexec_fn=prepare, env=environment)
        self.pid = int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def ask(self, question, number=0):
        """(number, ids, descriptor or None), or Refused."""
        self.socket.send(REQUEST.pack(question, 0, number))
        text, fds, _, _ = socket.recv_fds(self.socket, ANSWER.size + 1, 4)
        assert len(text) == ANSWER.size, len(text)
        failed, code, answered, count, ids, message = ANSWER.unpack(text)
        assert len(fds) <= 1, fds
        if failed:
            assert not fds, fds
            raise Refused(code, message.rstrip(b'\0').decode())
        return answered, struct.unpack_from(f'={count}I', ids), fds[0] if fds else None

    def open(self, question, number=0):
        fd = self.ask(question, number)[2]
        assert fd is not None
        return fd

    def refuses(self, code, question, number=0):
        try:
            found = self.ask(question, number)
        except Refused as refused:
            assert refused.code == code, refused
            return
        raise AssertionError(f'question {question}, {number}: {found}')

    def resident_kib(self):
        with open(f'/proc/{self.process.pid}/status') as stream:
            line, = [line for line in stream if line.startswith('VmRSS:')]
        return int(line.split()[1])


def start_time(pid):
    with open(f'/proc/{pid}/stat') as stream:
        return int(stream.read().rpartition(') ')[2].split()[19])


@contextlib.contextmanager
def broker_of(guest, verb='apply'):
    with Broker(job(guest, verb)) as broker:
        assert broker.pid == guest.pid
        yield broker
    eventually(lambda: assert_running(guest))


def assert_running(guest):
    assert guest.qmp.status() == 'running', guest.qmp.status()


# --- whose it is --------------------------------------------------------------

@suite.case('numbers-of-other-processes-REFUSED')
def _(guest):
    with broker_of(guest) as broker:
        assert broker.ask(START_TIME, guest.pid)[0] == start_time(guest.pid)
        assert broker.ask(THREAD_GROUP, guest.pid)[0] == guest.pid
        for pid in (0, 1, os.getpid(), broker.process.pid, 2**31, 2**32 + guest.pid, 2**64 - 1):
            broker.refuses(PERMISSION, START_TIME, pid)
            broker.refuses(NOT_FOUND, THREAD_GROUP, pid)
        broker.ask(NO_JOB)
        # It is no domain: nobody is there to tell.
        broker.refuses(UNSUPPORTED, JOBS)
        assert broker.ask(USERFAULTFD)[0] == 0


@suite.case('files-ARE-THE-VMS-AND-FOR-READING')
def _(guest):
    with broker_of(guest) as broker:
        for question in (MAPS, MEMORY, PAGEMAP):
            fd = broker.open(question, 1)
            name = os.readlink(f'/proc/self/fd/{fd}')
            assert name.startswith(f'/proc/{guest.pid}/'), name
            assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY, name
            os.close(fd)
        with open(f'/proc/{guest.pid}/maps') as stream:
            lines = [line.split() for line in stream]
        named = next(line for line in lines if len(line) > 5 and line[5].startswith('/usr'))
        fd = broker.open(MAPPING, int(named[0].partition('-')[0], 16))
        assert os.readlink(f'/proc/self/fd/{fd}') == named[5], named
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        os.close(fd)
        heap = next(line for line in lines if line[4] == '0')
        for start in (0, 1, 2**64 - 1, int(heap[0].partition('-')[0], 16),
                      int(named[0].partition('-')[0], 16) + 1):
            broker.refuses(NOT_FOUND, MAPPING, start)


@suite.case('sockets-that-nobody-named-REFUSED')
def _(guest):
    work = job(guest, 'apply')
    work['options'].pop('oracle', None)
    with Broker(work) as broker:
        broker.refuses(NOT_FOUND, ORACLE)
        broker.refuses(NOT_FOUND, AGENT, 1)


# --- the monitor --------------------------------------------------------------

class Monitor:
    """QMP over the broker's questions."""

    def __init__(self, fd):
        self.socket = socket.socket(fileno=fd)
        self.socket.setblocking(True)
        self.socket.settimeout(20)
        self.stream = self.socket.makefile('rw')
        self.stream.readline()
        self.execute('qmp_capabilities')

    def execute(self, command, **arguments):
        self.stream.write(json.dumps({'execute': command, 'arguments': arguments}) + '\n')
        self.stream.flush()
        return json.loads(self.stream.readline())

    def close(self):
        self.stream.close()
        self.socket.close()


FORBIDDEN = (
    ('quit', {}), ('stop', {}), ('cont', {}), ('system_reset', {}), ('system_powerdown', {}),
    ('migrate', {'uri': 'exec:touch /tmp/never'}), ('getfd', {'fdname': 'x'}),
    ('chardev-add', {'id': 'x', 'backend': {'type': 'null', 'data': {}}}),
    ('screendump', {'filename': '/tmp/never'}), ('query-version', {'x': 1}),
    ('dump-guest-memory', {'paging': False, 'protocol': 'file:/tmp/never'}),
    ('memsave', {'val': 0, 'size': 1, 'filename': '/tmp/never'}), ('query-block', {}),
    ('object-add', {'qom-type': 'secret', 'id': 'x', 'data': 'y'}),
    ('qom-set', {'path': '/machine', 'property': 'x', 'value': 1}), ('qmp_nothing', {}),
)
FORBIDDEN_LINES = ('stop', 'info status', 'info registers -a\nstop', 'info mtree -f; stop', 'quit',
                   'gdbserver tcp::1', 'gpa2hva 0x', 'gpa2hva 0x0 ', 'gpa2hva 0x0\nstop',
                   'migrate exec:true', 'pmemsave 0 1 /tmp/never', '', ' info mtree -f')


@suite.case('commands-that-are-no-questions-REFUSED')
def _(guest):
    with broker_of(guest) as broker:
        monitor = Monitor(broker.open(MONITOR))
        assert monitor.execute('query-status')['return']['status'] == 'running'
        assert 'AS "memory"' in monitor.execute(
            'human-monitor-command', **{'command-line': 'info mtree -f'})['return']
        for command, arguments in FORBIDDEN:
            assert 'error' in monitor.execute(command, **arguments), command
        for line in FORBIDDEN_LINES:
            answer = monitor.execute('human-monitor-command', **{'command-line': line})
            assert 'error' in answer, (line, answer)
        answer = monitor.execute('human-monitor-command', **{'command-line': 'info mtree -f',
                                                             'cpu-index': 0})
        assert 'error' in answer, answer
        monitor.close()
    assert not os.path.exists('/tmp/never')


# --- keepers ------------------------------------------------------------------

class Keeper:
    """A keeper's socket."""

    def __init__(self, fd):
        self.socket = socket.socket(fileno=fd)
        self.socket.settimeout(20)
        kind, _ = self.receive()
        assert kind == HELLO, kind

    def receive(self):
        magic, kind, length = HEADER.unpack(self.socket.recv(HEADER.size, socket.MSG_WAITALL))
        assert magic == MAGIC
        return kind, self.socket.recv(length, socket.MSG_WAITALL) if length else b''

    def ask(self, kind, payload=b''):
        self.socket.sendall(HEADER.pack(MAGIC, kind, len(payload)) + payload)
        return self.receive()

    def close(self):
        self.socket.close()


@suite.case('keeper-for-another-process-REFUSED')
def _(guest):
    other = os.getpid()
    with broker_of(guest) as broker:
        keeper = Keeper(broker.open(KEEPER, SCRATCH))
        for pid, started in ((other, start_time(other)), (guest.pid, start_time(guest.pid) + 1),
                             (1, start_time(1)), (-1, 0), (0, 0)):
            kind, answer = keeper.ask(PLACE, struct.pack('=iIQ', pid, 0, started))
            assert kind == ERROR, (pid, kind)
            code, = struct.unpack_from('=I', answer)
            assert code in (PERMISSION, INVALID_ARGUMENT), (pid, answer)
        kind, answer = keeper.ask(PLACE, struct.pack('=iIQ', guest.pid, 0, start_time(guest.pid)))
        assert kind == OK, answer
        keeper.close()


@suite.case('keepers-ONE-AT-A-TIME')
def _(guest):
    with broker_of(guest) as broker:
        broker.refuses(INVALID_ARGUMENT, KEEPER)
        broker.refuses(INVALID_ARGUMENT, KEEPER, WITH_MONITOR)
        journal = broker.open(JOURNAL)
        broker.refuses(INVALID_ARGUMENT, KEEPER, WITH_MONITOR)
        monitor = Monitor(broker.open(MONITOR))
        first = Keeper(broker.open(KEEPER, WITH_MONITOR))
        kind, answer = first.ask(ATTACH)
        assert kind == OK, answer
        broker.refuses(BUSY, KEEPER)
        broker.refuses(BUSY, KEEPER, SCRATCH)
        # What the other half had of the monitor is over.
        assert monitor.stream.readline() == ''
        # And so is the journal's lock, but for who holds it.
        broker.refuses(BUSY, JOURNAL)
        monitor.close()
        first.close()
        os.close(journal)
        eventually(lambda: os.close(broker.open(JOURNAL)), timeout=20)
        second = Keeper(broker.open(KEEPER))
        second.close()


# --- garbage ------------------------------------------------------------------

@suite.case('garbage-ENDS-IT')
def _(guest):
    for message in (b'x', b'\0' * 15, b'\xff' * 17, b'\0' * 4096, os.urandom(REQUEST.size - 1)):
        with broker_of(guest) as broker:
            broker.socket.send(message)
            assert broker.socket.recv(1) == b'', message
            assert broker.process.wait(timeout=10) == 0


@suite.case('unknown-questions-and-descriptors-REFUSED')
def _(guest):
    with broker_of(guest) as broker:
        for question in (0, VCPUS + 1, VCPUS + 2, 255, 2**31, 2**32 - 1):
            broker.refuses(INVALID_ARGUMENT, question)
        before = len(os.listdir(f'/proc/{broker.process.pid}/fd'))
        null = os.open('/dev/null', os.O_RDONLY)
        for _ in range(64):
            socket.send_fds(broker.socket, [REQUEST.pack(START_TIME, 0, guest.pid)], [null] * 8)
            broker.socket.recv(ANSWER.size)
        os.close(null)
        assert len(os.listdir(f'/proc/{broker.process.pid}/fd')) <= before


@suite.case('flood-IS-SLOW-AND-MEMORY-FLAT')
def _(guest):
    with broker_of(guest) as broker:
        os.close(broker.open(MEMORY))
        before = broker.resident_kib()
        deadline = time.monotonic() + FLOOD_SECONDS
        served = 0
        while time.monotonic() < deadline:
            os.close(broker.open((MAPS, MEMORY, PAGEMAP)[served % 3]))
            served += 1
        assert served > 100, served
        assert broker.resident_kib() - before < 1024, (before, broker.resident_kib())


@suite.case('answers-that-are-not-taken-END-IT')
def _(guest):
    with broker_of(guest) as broker:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(FLOOD_MESSAGES):
                broker.socket.send(REQUEST.pack(MAPS, 0, 0))
        assert broker.process.wait(timeout=10) == 0


@suite.case('half-that-hangs-IS-LEFT-IN-TIME')
def _(guest):
    with Broker(job(guest, 'apply'), seconds=2) as broker:
        started = time.monotonic()
        assert broker.socket.recv(1) == b''
        assert 1 < time.monotonic() - started < 20
        assert broker.process.wait(timeout=10) == 0


if __name__ == '__main__':
    suite.main()
