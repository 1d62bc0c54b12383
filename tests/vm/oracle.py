# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of the QEMU plugin: what was executed that must not be.

    with Oracle(path) as oracle:
        oracle.violations()

hv-patcher/wire/plugin-wire.h has the protocol. A range that ran before is watched only once its
bytes were written again by a debugger: hvpatch does so, and renew() for a test that calls watch().
"""

import dataclasses
import socket
import struct
import time

MAGIC, PROTOCOL, REPLY = 0x50505648, 1, 0x8000
HELLO, WATCH, SWITCH, DECIDE, WITHDRAW, FORGET, COUNTS, VIOLATIONS, BOOT = range(1, 10)
OK, BAD_REQUEST, NOT_WATCHED, NO_ROOM, UNDECIDED, OVERLAP = range(6)
HEADER = struct.Struct('<IHHII')
STATE = struct.Struct('<8I')
RANGE = struct.Struct('<QQ')
CHANGE = struct.Struct('<QQQII')
QUERY = struct.Struct('<QQQII')
COUNT = struct.Struct('<QQQ')
HEAD = struct.Struct('<QQQQ')
VIOLATION = struct.Struct('<QQQQIIII')
ALL_VCPUS = 0xffffffff
FINAL, IF_CONFIRMED, IF_CANCELLED = range(3)
VERDICTS = ('final', 'if the switch is confirmed', 'if the switch is cancelled')


class Refused(Exception):
    """The plugin said no: args[0] is its status."""


@dataclasses.dataclass
class Violation:
    """An instruction that ran though it was forbidden."""
    number: int
    pc: int
    usec_since_switch: int
    count: int
    epoch: int
    vcpu: int
    verdict: int

    def __str__(self):
        return (f'{self.pc:#x} ran on vCPU {self.vcpu}, {self.usec_since_switch} us after switch '
                f'{self.epoch}, {self.count} times ({VERDICTS[self.verdict]})')


@dataclasses.dataclass
class State:
    """What the plugin says of itself."""
    protocol: int
    api: int
    vcpus: int
    ranges: int
    epoch: int
    undecided: int
    confirmed: int
    incomplete: int


class Oracle:
    """One connection."""

    def __init__(self, path, timeout=20.0):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._socket.connect(path)
        self._sequence = 0
        self.request(HELLO, struct.pack('<II', PROTOCOL, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def _receive(self, length):
        data = b''
        while len(data) < length:
            chunk = self._socket.recv(length - len(data))
            if not chunk:
                raise ConnectionError('the plugin closed the connection')
            data += chunk
        return data

    def request(self, kind, payload=b''):
        """One request; the payload of its reply."""
        self._sequence += 1
        self._socket.sendall(HEADER.pack(MAGIC, kind, 0, self._sequence, len(payload)) + payload)
        magic, reply, status, sequence, length = HEADER.unpack(self._receive(HEADER.size))
        assert (magic, reply, sequence) == (MAGIC, kind | REPLY, self._sequence), 'not its reply'
        data = self._receive(length)
        if status != OK:
            raise Refused(status)
        return data

    def state(self):
        return State(*STATE.unpack(self.request(HELLO, struct.pack('<II', PROTOCOL, 0))))

    def watch(self, *ranges):
        self.request(WATCH, b''.join(RANGE.pack(*item) for item in ranges))

    def withdraw(self, *ranges):
        self.request(WITHDRAW, b''.join(RANGE.pack(*item) for item in ranges))

    def switch(self, *changes):
        """(start, end, end of what is allowed, forbidden) of each range."""
        self.request(SWITCH, b''.join(CHANGE.pack(*item, 0) for item in changes))

    def decide(self, confirmed):
        self.request(DECIDE, struct.pack('<II', confirmed, 0))

    def forget(self):
        self.request(FORGET)

    def counts(self, start, end, vcpu=ALL_VCPUS):
        """{pc: (executions before the last switch, and since)}."""
        counts, begin = {}, start
        while True:
            data = self.request(COUNTS, QUERY.pack(start, end, begin, vcpu, 0))
            page = [COUNT.unpack_from(data, at) for at in range(0, len(data), COUNT.size)]
            counts.update({pc: (before, since) for pc, before, since in page})
            if len(page) < 1024:
                return counts
            begin = page[-1][0] + 1

    def violations(self, first=0):
        """What was seen from number first on.

        (final violations, as executions, [Violation], number of the next, how many are not kept)
        """
        data = self.request(VIOLATIONS, QUERY.pack(0, 0, first, 0, 0))
        final, _, lost, following = HEAD.unpack_from(data)
        found = [Violation(*VIOLATION.unpack_from(data, at)[:7])
                 for at in range(HEAD.size, len(data), VIOLATION.size)]
        return final, found, following, lost


class Debugger:
    """As much of a gdb client as it takes to write guest memory; the VM stands still meanwhile."""

    def __init__(self, path, timeout=20.0):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._data = b''
        deadline = time.monotonic() + timeout
        while self._socket.connect_ex(path) != 0:
            if time.monotonic() > deadline:
                raise TimeoutError(f'{path}: no gdb server')
            time.sleep(0.05)
        self.execute('?')

    def _answer(self):
        while b'#' not in self._data or len(self._data) < self._data.index(b'#') + 3:
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionError('the gdb server closed the connection')
            self._data += chunk
        end = self._data.index(b'#')
        answer, self._data = self._data[self._data.index(b'$') + 1:end], self._data[end + 3:]
        self._socket.sendall(b'+')
        return answer.decode()

    def execute(self, packet):
        """The answer to a packet; that the VM has stopped is told once more, at any time."""
        body = packet.encode()
        self._socket.sendall(b'$%s#%02x' % (body, sum(body) % 256))
        answer = self._answer()
        while packet != '?' and answer.startswith('T'):
            answer = self._answer()
        return answer

    def close(self):
        self.execute('D')
        self._socket.close()


def renew(guest, *ranges, step=512):
    """Has QEMU translate the code of RANGES anew, by writing each byte as it is."""
    path = guest.path('gdb')
    guest.qmp.monitor(f'gdbserver unix:{path},server=on,wait=off')
    debugger = Debugger(path)
    for start, end in ranges:
        for address in range(start, end, step):
            length = min(step, end - address)
            data = debugger.execute(f'm{address:x},{length:x}')
            assert len(data) == 2 * length, data
            answer = debugger.execute(f'M{address:x},{length:x}:{data}')
            assert answer == 'OK', answer
    debugger.close()
    guest.qmp.monitor('gdbserver none')
    guest.qmp.take_events()
