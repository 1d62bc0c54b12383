# SPDX-License-Identifier: GPL-2.0-or-later
"""The bare-metal guest under real QEMU with KVM, and a keeper beside it that is driven by hand."""

import functools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'vm'))
from guest import die_with_parent  # noqa: E402
from qmp import Qmp, QmpGone  # noqa: E402

CALL, HALT, PORT, TIME = range(4)
FUNCTIONS = 16
QEMU = 'qemu-system-x86_64'


class MachineError(Exception):
    """The guest or the drive did not do what it is there for."""


def build_folder():
    return os.environ.get('HVPATCH_BUILD') or os.path.join(ROOT, 'build')


def tool(name):
    return os.path.join(build_folder(), 'tests', 'kvm', name)


def keeper_path():
    return os.path.join(build_folder(), 'hv-patcher', 'hvpatch-keeper')


@functools.lru_cache(maxsize=None)
def missing():
    """What this host lacks to run the guest, or None."""
    if shutil.which(QEMU) is None:
        return f'no {QEMU}'
    try:
        os.close(os.open('/dev/kvm', os.O_RDWR))
    except OSError as error:
        return f'no usable /dev/kvm: {error.strerror}'
    # That nobody has built it is no fault of the host's.
    if not os.path.exists(tool('kvm-guest.bin')):
        return None
    try:
        with Machine(1):
            return None
    except (MachineError, QmpGone, OSError) as error:
        return f'this KVM does not run the bare-metal guest: {error}'


class DriveError(Exception):
    def __init__(self, answer):
        super().__init__(f'{answer["error"]}: {answer["message"]}')
        self.code = answer['error']
        self.message = answer['message']


class Drive:
    """A keeper that is attached when asked to; see drive.c."""

    def __init__(self, path):
        self._process = subprocess.Popen([tool('kvm-drive'), path], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, preexec_fn=die_with_parent,
                                         env={**os.environ, 'HVPATCH_KEEPER': keeper_path()})
        self._buffer = b''
        self.take()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def send(self, line):
        self._process.stdin.write(line.encode() + b'\n')
        self._process.stdin.flush()

    def take(self, timeout=120.0):
        deadline = time.monotonic() + timeout
        while b'\n' not in self._buffer:
            ready = select.select([self._process.stdout], [], [],
                                  max(deadline - time.monotonic(), 0))[0]
            piece = os.read(self._process.stdout.fileno(), 65536) if ready else b''
            if not piece:
                raise MachineError('the drive ' + ('ended' if ready else 'does not answer'))
            self._buffer += piece
        line, self._buffer = self._buffer.split(b'\n', 1)
        answer = json.loads(line)
        if 'error' in answer:
            raise DriveError(answer)
        return answer

    def ask(self, line, timeout=120.0):
        self.send(line)
        return self.take(timeout)

    def keeper_pid(self):
        return self.ask('keeper')['pid']


class Machine:
    """QEMU with @vcpus vCPUs that are all up; two monitors: `qmp`, and `path` for a drive."""

    def __init__(self, vcpus=4, *, smp=None, accel='kvm', arguments=(), memory='64', reset=False):
        self.folder = tempfile.mkdtemp(prefix='hvpatch-kvm-')
        self.path = os.path.join(self.folder, 'qmp')
        self._vcpus = vcpus
        own = os.path.join(self.folder, 'own')
        # Drives come and go; QEMU serves one at a time of each monitor.
        self.process = subprocess.Popen(
            [QEMU, '-accel', accel, '-m', memory, '-smp', smp or str(vcpus), '-nodefaults',
             '-display', 'none', '-bios', tool('kvm-guest.bin'),
             *([] if reset else ['-no-reboot']),
             '-qmp', f'unix:{self.path},server=on,wait=off',
             '-qmp', f'unix:{own},server=on,wait=off', *arguments],
            stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        try:
            self.qmp = Qmp(own)
        except BaseException:
            self.stop()
            raise

    def __enter__(self):
        self.wait_until(lambda: self.count() >= self._vcpus, 'the vCPUs come up')
        return self

    def __exit__(self, *_):
        self.stop()

    def close(self):
        self.stop()

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def count(self):
        """How many vCPUs of the guest are up, through the monitor."""
        text = self.qmp.monitor('xp /4wx 0x400000')
        words = [int(word, 16) for word in text.split() if word.startswith('0x')]
        return words[2] if words[:2] == [0x624d4731, 0x68767054] else 0

    def wait_until(self, test, what, timeout=60.0):
        deadline = time.monotonic() + timeout
        while not test():
            if self.process.poll() is not None:
                raise MachineError(f'QEMU ended while waiting until {what}')
            if time.monotonic() > deadline:
                raise MachineError(f'waited {timeout} s until {what}')
            time.sleep(0.01)

    def drive(self):
        return Drive(self.path)

    def drive_without_monitor(self):
        return Drive(str(self.process.pid))

    def run_tool(self, path, *arguments, timeout=60):
        """Runs a program of the build with the keeper of the build."""
        return subprocess.run([os.path.join(build_folder(), path), *arguments], text=True,
                              capture_output=True, check=False, timeout=timeout,
                              env={**os.environ, 'HVPATCH_KEEPER': keeper_path()})

    def start_tool(self, path, *arguments):
        return subprocess.Popen([os.path.join(build_folder(), path), *arguments], text=True,
                                stdout=subprocess.PIPE, preexec_fn=die_with_parent,
                                env={**os.environ, 'HVPATCH_KEEPER': keeper_path()})

    def thread_ids(self):
        return [vcpu['thread-id'] for vcpu in self.qmp.execute('query-cpus-fast')]


def rounds(drive):
    return {vcpu['id']: vcpu['rounds'] for vcpu in drive.ask('box')['vcpus']}


def assert_runs(machine, drive, halted=()):
    """All vCPUs that are not halted get further, and nothing of theirs was ever disturbed."""
    before = rounds(drive)
    moving = [vcpu for vcpu in before if vcpu not in halted]

    def moved():
        after = rounds(drive)
        return all(after[vcpu] > before[vcpu] for vcpu in moving)
    machine.wait_until(moved, 'all vCPUs get further')
    for vcpu in drive.ask('box')['vcpus']:
        assert vcpu['disturbed'] == 0 and vcpu['mixed'] == 0, vcpu
