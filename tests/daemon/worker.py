# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts hvpatch-worker as the daemon does, and speaks to it.

    with Worker(job(guest, 'apply'), patch=path) as worker:
        result = worker.result()
        assert result.exit == 0, result
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'vm'))

# pylint: disable=wrong-import-position
from guest import die_with_parent, hvpatch_path

MAX_MESSAGE_BYTES = 256 << 10
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def worker_path():
    return os.environ.get('HVPATCH_WORKER') or os.path.join(os.path.dirname(hvpatch_path()),
                                                            'hvpatch-worker')


def job(guest, verb, *, name=None, manifest=None, **options):
    """The job VERB on a guest of tests/vm/guest.py, by its monitor's socket."""
    if guest.oracle_path:
        options.setdefault('oracle', guest.oracle_path)
    return {'version': 1, 'verb': verb, 'domain': {'qmp': guest.hvpatch_qmp_path}, 'name': name,
            'patch': None, 'manifest': manifest, 'options': options}


def sealed(content):
    """The descriptor of a memory file that cannot be changed any more."""
    fd = os.memfd_create('patch', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


@dataclasses.dataclass
class Result:
    exit: int
    document: object
    error: object

    @property
    def code(self):
        return self.error['code'] if self.error else None


class Worker:
    """One worker. JOB is an object, or bytes to be sent as they are; PATCH a file's path."""

    def __init__(self, work, patch=None, *, command=None, environment=None, stderr=None):
        self.progress = []
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()

            def prepare():
                die_with_parent()
                os.dup2(number, 3)
                os.set_inheritable(3, True)

            self.process = subprocess.Popen(
                [*(command or ()), worker_path()], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=stderr, close_fds=False, preexec_fn=prepare,
                env={**os.environ, **(environment or {})})
        self.send(work, patch)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()

    def send(self, work, patch=None):
        if patch is None:
            fds = []
        else:
            with open(patch, 'rb') as stream:
                content = stream.read()
            fds = [sealed(content)]
            if isinstance(work, dict) and work.get('patch') is None:
                work = {**work, 'patch': hashlib.sha256(content).hexdigest()}
        message = work if isinstance(work, bytes) else json.dumps(work).encode()
        try:
            socket.send_fds(self.socket, [message], fds)
        finally:
            for fd in fds:
                os.close(fd)

    def cancel(self):
        self.socket.send(b'{"cancel":true}')

    def message(self, timeout=120.0):
        """The next message; None at the end. An attached result is put in its place."""
        if not select.select([self.socket], [], [], timeout)[0]:
            raise AssertionError(f'no message for {timeout} s; so far {self.progress[-3:]}')
        try:
            text, fds, _, _ = socket.recv_fds(self.socket, MAX_MESSAGE_BYTES, 4)
        except ConnectionResetError:  # it was killed with a message of ours unread
            return None
        if not text:
            return None
        message = json.loads(text)
        if message.get('attached'):
            with open(fds[0], 'rb', closefd=False) as stream:
                stream.seek(0)
                message['result'] = json.load(stream)
        for fd in fds:
            os.close(fd)
        return message

    def wait_for_state(self, state, timeout=60.0):
        """Until the worker says that it is in STATE."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            message = self.message()
            if message is None or 'progress' not in message:
                raise AssertionError(f'instead of {state}: {message}')
            self.progress.append(message['progress'])
            if message['progress']['state'] == state:
                return message['progress']
        raise AssertionError(f'no {state} within {timeout} s: {self.progress[-3:]}')

    def result(self, timeout=180.0):
        """Reads on to the result; the worker ends then."""
        while True:
            message = self.message(timeout)
            if message is None:
                raise AssertionError('the worker ended without a result')
            if 'progress' in message:
                self.progress.append(message['progress'])
                continue
            self.process.wait(timeout=10)
            return Result(message['exit'], message['result'], message['error'])

    def last_message(self, timeout=60.0):
        """Reads on to the end: the result, or None where there is none before it."""
        while True:
            message = self.message(timeout)
            if message is None or 'progress' not in message:
                return message

    def has_no_result(self, timeout=60.0):
        return self.last_message(timeout) is None

    # --- its two halves ---

    def half(self, timeout=10.0):
        """The process without privileges."""
        deadline = time.monotonic() + timeout
        path = f'/proc/{self.process.pid}/task/{self.process.pid}/children'
        while time.monotonic() < deadline:
            with open(path) as stream:
                for child in stream.read().split():
                    if is_sandboxed(int(child)):
                        return int(child)
            time.sleep(0.002)
        raise AssertionError('the worker has no half in a sandbox')

    def kill_half(self, number=signal.SIGKILL):
        os.kill(self.half(), number)


def status_of(pid):
    """/proc/PID/status as {name: value}."""
    with open(f'/proc/{pid}/status') as stream:
        return dict(line.rstrip('\n').split(':\t', 1) for line in stream if ':\t' in line)


def is_sandboxed(pid):
    try:
        return status_of(pid)['Seccomp'].strip() == '2'
    except (OSError, KeyError):
        return False


def run(work, patch=None, **options):
    """Does a job to its end; returns its Result and what it said on the way."""
    with Worker(work, patch, **options) as worker:
        result = worker.result()
        result.progress = worker.progress
        return result
