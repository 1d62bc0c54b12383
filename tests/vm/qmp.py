# SPDX-License-Identifier: GPL-2.0-or-later
"""A QMP client for the tests' own monitor socket (hvpatch has another one)."""

import json
import time

from channel import connect


class QmpError(Exception):
    """QEMU answered with an error."""


class QmpGone(Exception):
    """QEMU closed the monitor or did not answer in time."""


class Qmp:
    def __init__(self, path, timeout=10.0):
        self._socket = connect(path, timeout)
        self._buffer = b''
        self.events = []
        self._message(time.monotonic() + timeout)
        self.execute('qmp_capabilities')

    def close(self):
        self._socket.close()

    def execute(self, command, timeout=10.0, **arguments):
        request = {'execute': command, 'arguments': arguments}
        deadline = time.monotonic() + timeout
        try:
            self._socket.sendall(json.dumps(request).encode() + b'\n')
        except OSError as error:
            raise QmpGone(str(error)) from error
        while True:
            message = self._message(deadline)
            if 'return' in message:
                return message['return']
            if 'error' in message:
                raise QmpError(f'{command}: {message["error"]["desc"]}')
            self.events.append(message)

    def monitor(self, line, timeout=10.0):
        """A command of the human monitor, for what QMP has no command (x, xp, info registers)."""
        return self.execute('human-monitor-command', timeout=timeout, **{'command-line': line})

    def status(self):
        return self.execute('query-status')['status']

    def take_events(self):
        """The names of the events since the last call."""
        self.status()
        names, self.events = [event.get('event') for event in self.events], []
        return names

    def _message(self, deadline):
        while b'\n' not in self._buffer:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                chunk = self._socket.recv(65536)
            except OSError as error:
                raise QmpGone(str(error)) from error
            if not chunk:
                raise QmpGone('QEMU closed the monitor')
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b'\n')
        return json.loads(line)
