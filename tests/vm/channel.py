# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's end of the guest's command channel; see tests/modules/programs/hvp_channel.c."""

import os
import re
import socket
import time

# The guest's tty layer holds 64 KiB before it drops bytes; one request stays well below.
REQUEST_MAX_BYTES = 16 * 1024
REPLY_MAX_BYTES = 8 * 1024 * 1024
LINE_MAX_BYTES = 128
# How many times as long as elsewhere things take on this host.
PATIENCE = float(os.environ.get('HVPATCH_VM_PATIENCE', '1'))


class ChannelTimeout(Exception):
    """The guest did not answer in time: it may be paused, hung or dead."""


class ChannelClosed(Exception):
    """QEMU closed the line: it is gone."""


class Channel:
    """Requests with an id each, so that a late reply is never taken for the next one's."""

    def __init__(self, path, timeout):
        self._socket = connect(path, timeout)
        self._buffer = bytearray()
        self._next_id = 1

    def close(self):
        self._socket.close()

    def wait_for_hello(self, timeout):
        self._reply(0, time.monotonic() + timeout * PATIENCE)

    def request(self, verb, payload=b'', timeout=30.0):
        """Sends one request; returns (status, reply bytes)."""
        if len(payload) > REQUEST_MAX_BYTES:
            raise ValueError(f'request of {len(payload)} bytes')
        timeout *= PATIENCE
        request_id, self._next_id = self._next_id, self._next_id + 1
        head = f'HVP {request_id} {verb} {int(timeout * 1000)} {len(payload)}\n'
        # The guest has its own clock and gives up by itself; wait a little longer for its word.
        deadline = time.monotonic() + timeout + 5
        self._socket.settimeout(timeout + 5)
        try:
            self._socket.sendall(head.encode() + payload)
        except socket.timeout as error:
            raise ChannelTimeout(f'{verb}: the guest takes no bytes') from error
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        return self._reply(request_id, deadline)

    def _reply(self, request_id, deadline):
        while True:
            match = re.fullmatch(rb'HVP (\d+) (-?\d+) (\d+)', self._line(deadline))
            if not match:
                continue
            answered, status, length = (int(field) for field in match.groups())
            if length > REPLY_MAX_BYTES:
                continue
            payload = self._exactly(length, deadline)
            if answered == request_id:
                return status, payload

    def _line(self, deadline):
        while b'\n' not in self._buffer:
            if len(self._buffer) > LINE_MAX_BYTES:
                self._buffer.clear()
            self._receive(deadline)
        line, _, rest = self._buffer.partition(b'\n')
        self._buffer = rest
        return bytes(line)

    def _exactly(self, length, deadline):
        while len(self._buffer) < length:
            self._receive(deadline)
        payload = bytes(self._buffer[:length])
        del self._buffer[:length]
        return payload

    def _receive(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise ChannelTimeout('no answer from the guest')
        self._socket.settimeout(left)
        try:
            chunk = self._socket.recv(65536)
        except socket.timeout as error:
            raise ChannelTimeout('no answer from the guest') from error
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        if not chunk:
            raise ChannelClosed('the line was closed')
        self._buffer += chunk


def connect(path, timeout):
    """Connects to a unix socket that QEMU may not have made yet."""
    deadline = time.monotonic() + timeout
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.connect(path)
            return client
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
