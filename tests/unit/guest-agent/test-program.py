#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent as a program: test-program.py AGENT-FOR-GUESTS AGENT-OF-THIS-BUILD

AGENT-FOR-GUESTS is the word "missing" where it was not built.
"""

import json
import os
import pty
import socket
import subprocess
import sys
import tempfile
import termios
import time

from cases import Skip, run_cases

MAX_BYTES = 256 << 10
PATIENCE_SECONDS = 20
PING = b'{"execute":"guest-ping"}\n'
PONG = b'{"return":{}}\n'


def read_line(receive):
    line = b''
    while not line.endswith(b'\n'):
        byte = receive(1)
        assert byte, f'the end after {line!r}'
        line += byte
    return line


def ask(connection, request):
    connection.sendall(request)
    return read_line(connection.recv)


class Host:
    """A Unix socket on which the agent calls."""

    def __init__(self, folder):
        self.path = os.path.join(folder, 'port')
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen()
        self.socket.settimeout(PATIENCE_SECONDS)

    def accept(self):
        connection, _ = self.socket.accept()
        connection.settimeout(PATIENCE_SECONDS)
        return connection


def start(agent, path):
    return subprocess.Popen([agent, '--path', path], stdin=subprocess.DEVNULL)


def end(process):
    process.kill()
    process.wait()


def case_small_and_static(guest_agent, _):
    if guest_agent == 'missing':
        raise Skip('musl-gcc is missing (musl-tools)')
    assert os.path.getsize(guest_agent) < MAX_BYTES, os.path.getsize(guest_agent)
    with open(guest_agent, 'rb') as stream:
        assert b'/lib/ld-' not in stream.read(), 'it wants a dynamic loader'
    version = subprocess.run([guest_agent, '--version'], capture_output=True, check=True)
    assert version.stdout.startswith(b'hvpatch-agent '), version


def case_socket_closed_and_opened_again(_, agent):
    with tempfile.TemporaryDirectory() as folder:
        host = Host(folder)
        process = start(agent, host.path)
        try:
            for _ in range(3):
                connection = host.accept()
                assert ask(connection, PING) == PONG
                connection.close()
            # In the middle of an answer, too.
            connection = host.accept()
            connection.sendall(b'{"execute":"guest-hvpatch-get-kthreads"}\n' * 50)
            connection.recv(1)
            connection.close()
            assert ask(host.accept(), PING) == PONG
        finally:
            end(process)


def case_socket_that_comes_later(_, agent):
    with tempfile.TemporaryDirectory() as folder:
        process = start(agent, os.path.join(folder, 'port'))
        try:
            time.sleep(0.3)
            host = Host(folder)
            assert ask(host.accept(), PING) == PONG
        finally:
            end(process)


def case_killed_and_started_again(_, agent):
    with tempfile.TemporaryDirectory() as folder:
        host = Host(folder)
        for _ in range(3):
            process = start(agent, host.path)
            try:
                connection = host.accept()
                assert ask(connection, PING) == PONG
            finally:
                end(process)
            assert connection.recv(1) == b''


def case_terminal(_, agent):
    """A character device: nothing is echoed, no byte is changed."""
    primary, secondary = pty.openpty()
    process = start(agent, os.ttyname(secondary))
    try:
        deadline = time.monotonic() + 30
        while termios.tcgetattr(secondary)[3] & (termios.ECHO | termios.ICANON):
            assert time.monotonic() < deadline, 'the agent does not set the terminal up'
            time.sleep(0.01)
        os.write(primary, b'\xff{"execute":"guest-sync-delimited","arguments":{"id":3}}\n')
        assert read_line(lambda count: os.read(primary, count)) == b'\xff{"return":3}\n'
    finally:
        end(process)
        os.close(primary)
        os.close(secondary)


def case_this_machine(_, agent):
    """The host's own /proc, whatever it is: answers that JSON readers take, at bounded memory."""
    with tempfile.TemporaryDirectory() as folder:
        host = Host(folder)
        process = start(agent, host.path)
        try:
            connection = host.accept()
            start_pid = None
            while start_pid != 0:
                arguments = {'start': start_pid or 0, 'stack': True}
                request = {'execute': 'guest-hvpatch-get-kthreads', 'arguments': arguments}
                line = ask(connection, json.dumps(request).encode() + b'\n')
                assert len(line) < 65536
                start_pid = json.loads(line)['return']['next']
            answer = json.loads(ask(connection, b'{"execute":"guest-hvpatch-get-modules"}\n'))
            # A kernel without modules has no such file.
            assert ('return' if os.path.exists('/proc/modules') else 'error') in answer, answer
        finally:
            end(process)


def case_wrong_options(_, agent):
    for arguments in (['--no-such-option'], ['word'], ['--path']):
        result = subprocess.run([agent, *arguments], capture_output=True)
        assert result.returncode == 2 and b'Usage' in result.stderr, result
    result = subprocess.run([agent, '--proc', '/nonexistent'], capture_output=True)
    assert result.returncode == 1 and b'/nonexistent' in result.stderr, result


if __name__ == '__main__':
    sys.exit(run_cases(globals(), *sys.argv[1:]))
