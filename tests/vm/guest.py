# SPDX-License-Identifier: GPL-2.0-or-later
"""A booted test guest, and hvpatch run against it.

    with Guest('6.1') as guest:
        status, output = guest.run('cat /proc/cmdline')
        result = guest.hvpatch('apply', guest.module('hvp_cmdline'))
        assert result.status == 0, result
        assert_invariants(guest)
"""

import contextlib
import ctypes
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from channel import REQUEST_MAX_BYTES, Channel, ChannelClosed, ChannelTimeout
from oracle import FINAL, Oracle
from qmp import Qmp, QmpGone

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
SCRIPT = os.path.join(ROOT, 'scripts', 'guest')

# What the module loader says once per guest when a module of ours arrives.
LOADER_NOTES = (
    r'[\w-]+: loading out-of-tree module taints kernel\.',
    r'[\w-]+: module verification failed: signature and/or required key missing - tainting kernel',
    r'[\w-]+: tainting kernel with TAINT_LIVEPATCH',
)
# What a kernel says by itself some seconds after it booted, or when an emulated CPU is slow.
KERNEL_NOISE = (
    r'tsc: Refined TSC clocksource calibration: .*',
    r'clocksource: .*',
    r'random: crng init done',
    r'hrtimer: interrupt took \d+ ns',
    r'sched_clock: .*',
    r'input: .*',
    r'workqueue: .* hogged CPU for >\d+us .*',
    r'sched: DL replenish lagged too much',
)
# What the guest's own livepatch core says; only for cases that use it.
LIVEPATCH_NOTES = (r"livepatch: .*",)
# The lines around a WARN; its own text and where it is a case has to allow itself.
WARNING_NOTES = (
    r'-+\[ (cut here|end trace .*) \]-+', r'WARNING: CPU: .*', r'Modules linked in: .*',
    r'CPU: \d+ .*', r'Tainted: .*', r'Hardware name: .*', r'Code: .*', r'Call Trace:', r' </?TASK>',
    r' \??.*\+0x[0-9a-f]+/0x.*', r'(RIP|RSP|RAX|RDX|RBP|R10|R13|FS|CS|CR2|DR0|DR3|PKRU): ?.*',
)

PR_SET_PDEATHSIG = 1
BOOT_TRIES = 3
# Of what a run printed, in a failed assertion.
SHOWN_CHARACTERS = 3000


class GuestError(Exception):
    """The guest cannot be made or used."""


class OldCodeRan(AssertionError):
    """The oracle saw what must never happen, on whatever host."""


@dataclasses.dataclass
class HvpatchResult:
    """What one run of hvpatch gave back; json is None when stdout is not one object."""
    status: int
    json: object
    stdout: str
    stderr: str
    seconds: float

    def __str__(self):
        return (f'exit status {self.status} after {self.seconds:.2f} s\n'
                f'stdout: {self.stdout[:SHOWN_CHARACTERS]}\n'
                f'stderr: {self.stderr[:SHOWN_CHARACTERS]}')


def eventually(check, timeout=60.0, interval=0.1):
    """Repeats CHECK until it raises no AssertionError, the last one after TIMEOUT; its result.

    For what is true a moment later, whatever the host is busy with.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(interval)


def hvpatch_path():
    """$HVPATCH, or the one in the build folder $HVPATCH_BUILD (default: build)."""
    build = os.environ.get('HVPATCH_BUILD') or os.path.join(ROOT, 'build')
    return os.environ.get('HVPATCH') or os.path.join(build, 'hv-patcher', 'hvpatch')


def plugin_path():
    """$HVPATCH_PLUGIN, or the one of the build that hvpatch is of; None if there is none."""
    build = os.path.dirname(os.path.dirname(os.path.realpath(hvpatch_path())))
    path = os.environ.get('HVPATCH_PLUGIN') or os.path.join(build, 'qemu-plugin',
                                                            'libhvpatch-plugin.so')
    return path if os.path.exists(path) else None


def script(*arguments):
    """Runs scripts/guest; returns the last line that it prints."""
    result = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise GuestError(result.stderr.strip())
    return result.stdout.strip().splitlines()[-1]


def prepare(kernel):
    """Makes all that booting KERNEL and patching it needs: slow the first time."""
    release = script('resolve', kernel)
    script('initramfs', release)
    script('modules', release)


def die_with_parent():
    """In the child: a killed test leaves no QEMU behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def parse_kmsg(text):
    """Records of /dev/kmsg as [(sequence number, message)]; continuation lines are dropped."""
    records = []
    for line in text.splitlines():
        match = re.match(r'\d+,(\d+),\d+,[^;]*;(.*)', line)
        if match:
            records.append((int(match.group(1)), match.group(2)))
    return records


class Guest:
    """One QEMU. Options: smp, memory (MB), shared, append, cpu, machine, files (FILE[:PATH]...),
    root ('busybox' or 'debian').

    It has hvpatch's plugin, which watches it execute, unless there is none or oracle=False. With
    HVPATCH_VM_ACCEL=kvm it runs under KVM, without the plugin, and hvpatch gets at it that way.
    """

    def __init__(self, kernel, *, boot_timeout=90.0, qemu_args=(), files=(), shared=False,
                 oracle=True, **options):
        self.release = script('resolve', kernel)
        self.kernel = kernel
        self.expected_status = 'running'
        self.trap = os.environ.get('HVPATCH_TRAP')
        self.is_kvm = os.environ.get('HVPATCH_VM_ACCEL') == 'kvm'
        oracle = oracle and not self.is_kvm
        self._boot_timeout = boot_timeout
        self._root = options.get('root', 'busybox')
        self._arguments = [f'--{name.replace("_", "-")}={value}' for name, value in options.items()]
        self._arguments += ['--accel=kvm'] if self.is_kvm else []
        if 'HVPATCH_VM_APPEND' in os.environ:
            append = f'{options.get("append", "")} {os.environ["HVPATCH_VM_APPEND"]}'
            self._arguments.append(f'--append={append}')
        self._arguments += ['--shared'] if shared else []
        self._arguments += [f'--qemu-arg={argument}' for argument in qemu_args]
        self._arguments += ['--initrd-extra', *files] if files else []
        self._process = self._channel = self.qmp = self._modules = None
        self._seen = -1
        self._plugin = plugin_path() if oracle else None
        if oracle and not self._plugin and 'CI' in os.environ:
            raise GuestError('libhvpatch-plugin.so is not beside hvpatch')
        self._next_violation = self._final = 0
        self.folder = None

    # --- life ---

    def __enter__(self):
        # An emulated SMP kernel that patches its own text at boot (jump labels) now and then dies
        # of it: QEMU runs a stale int3. Nothing of ours is there yet; such a guest is booted anew.
        for tries_left in range(BOOT_TRIES - 1, -1, -1):
            self.folder = tempfile.mkdtemp(prefix='hvp-')
            try:
                self._start()
                return self
            except GuestError as error:
                self.stop()
                if tries_left == 0:
                    raise
                print(f'# booting again: {str(error).splitlines()[0]}', flush=True)
            except BaseException:
                self.stop()
                raise
        raise AssertionError('unreachable')

    def __exit__(self, *_):
        self.stop()

    def _start(self):
        script('debian' if self._root == 'debian' else 'initramfs', self.release)
        plugin = ['--qemu-arg=-plugin', f'--qemu-arg={self._plugin},socket={self.oracle_path}']
        with open(self.path('qemu.log'), 'w') as log:
            self._process = subprocess.Popen(
                [SCRIPT, 'boot', self.release, '--qmp', self.hvpatch_qmp_path, '--qmp',
                 self.path('test.qmp'), '--channel', self.path('channel'), '--serial-file',
                 self.console_path, *self._arguments, *(plugin if self._plugin else [])],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
        try:
            self.qmp = Qmp(self.path('test.qmp'), timeout=20)
            self._channel = Channel(self.path('channel'), timeout=20)
            self._channel.wait_for_hello(self._boot_timeout)
        except (OSError, QmpGone, ChannelClosed, ChannelTimeout) as error:
            raise GuestError(
                f'{self.release} did not boot: {error}\n{self.post_mortem()}') from error
        self.mark_dmesg()

    def post_mortem(self):
        """The last that QEMU and the guest's console said."""
        parts = []
        for path in (self.path('qemu.log'), self.console_path):
            if os.path.exists(path):
                with open(path, errors='replace') as stream:
                    parts += stream.read().splitlines()[-15:]
        return '\n'.join(parts)

    def epitaph(self):
        """What it said last, if it has ended; else nothing: for a message."""
        if self._process is None or self._process.poll() is None:
            return ''
        return f'QEMU has ended ({self._process.returncode}):\n{self.post_mortem()}'

    def stop(self):
        for line in (self._channel, self.qmp):
            if line:
                line.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def wait_ended(self, timeout=60.0):
        """Until QEMU has ended by itself."""
        self._process.wait(timeout)

    @property
    def pid(self):
        """QEMU's process."""
        return self._process.pid

    def path(self, name):
        """A file in this guest's own scratch folder on the host."""
        return os.path.join(self.folder, name)

    @property
    def hvpatch_qmp_path(self):
        """The monitor socket that is hvpatch's alone."""
        return self.path('hvpatch.qmp')

    @property
    def oracle_path(self):
        """The plugin's socket; None if this guest has no plugin."""
        return self.path('oracle') if self._plugin else None

    @property
    def console_path(self):
        return self.path('console.log')

    # --- inside ---

    def run(self, command, timeout=30.0):
        """Runs a shell command; returns (exit status, output). 124: it passed the timeout.

        A command left in the background (`x >/dev/null 2>&1 &`) goes on.
        """
        status, output = self._channel.request('run', command.encode(), timeout)
        return status, output.decode(errors='replace')

    def check(self, command, timeout=30.0):
        """Runs a shell command that has to succeed; returns its output without the last newline."""
        status, output = self.run(command, timeout)
        if status != 0:
            raise AssertionError(f'in the guest: {command}: exit status {status}\n{output}')
        return output.rstrip('\n')

    def put(self, path, content, timeout=60.0):
        """Writes a file in the guest (mode 0755)."""
        head = path.encode() + b'\n'
        step = REQUEST_MAX_BYTES - len(head)
        for offset in range(0, max(len(content), 1), step):
            verb = 'add' if offset else 'put'
            status, output = self._channel.request(verb, head + content[offset:offset + step],
                                                   timeout)
            if status != 0:
                raise AssertionError(f'put: {output.decode(errors="replace")}')

    def put_file(self, source, path=None):
        """Copies a host file into the guest, by default into /tmp; returns the guest's path."""
        path = path or f'/tmp/{os.path.basename(source)}'
        with open(source, 'rb') as stream:
            self.put(path, stream.read())
        return path

    def get(self, path, timeout=60.0):
        """A guest file's bytes (4 MiB at most)."""
        status, content = self._channel.request('get', path.encode(), timeout)
        if status != 0:
            raise AssertionError(f'get: {content.decode(errors="replace")}')
        return content

    def alive(self, timeout=30.0):
        """Whether the guest still runs programs."""
        try:
            return self.run('echo alive', timeout) == (0, 'alive\n')
        except (ChannelTimeout, ChannelClosed):
            return False

    def _kmsg(self):
        status, text = self._channel.request('kmsg', timeout=30.0)
        if status != 0:
            raise AssertionError('the guest cannot read /dev/kmsg')
        return parse_kmsg(text.decode(errors='replace'))

    def dmesg(self):
        """All kernel messages still in the guest's log buffer."""
        return [message for _, message in self._kmsg()]

    def new_dmesg(self):
        """Kernel messages since the last mark."""
        return [message for sequence, message in self._kmsg() if sequence > self._seen]

    def mark_dmesg(self):
        records = self._kmsg()
        self._seen = records[-1][0] if records else -1

    def wait_for(self, command, timeout=30.0, interval=0.05):
        """Repeats a shell command until it succeeds."""
        deadline = time.monotonic() + timeout
        while True:
            status, output = self.run(command)
            if status == 0:
                return output
            if time.monotonic() > deadline:
                raise AssertionError(f'in the guest, for {timeout} s: {command}: {status} {output}')
            time.sleep(interval)

    def wait_in(self, pid, function):
        """Until task PID sleeps in a function whose name has FUNCTION in it."""
        self.wait_for(f'grep -q {function} /proc/{pid}/stack && '
                      f"grep -q '^State:[[:space:]]*[SDI]' /proc/{pid}/status", timeout=60)

    def wait_gone(self, pid):
        """Until there is no task PID."""
        self.wait_for(f'! kill -0 {pid}', timeout=60)

    def symbol(self, name):
        """Addresses of a symbol, from the guest's own kallsyms."""
        output = self.check(f"grep -F ' {name}' /proc/kallsyms || true", timeout=60)
        fields = [line.split() for line in output.splitlines()]
        # u: a module that is being used refers to it.
        return [int(field[0], 16) for field in fields if field[2] == name and field[1] != 'u']

    def memory(self, address, length):
        """Bytes at a kernel address, as QEMU's monitor sees them from the first vCPU."""
        text = self.qmp.monitor(f'x /{length}xb {address:#x}')
        return bytes(int(byte, 16) for line in text.splitlines()
                     for byte in re.findall(r'0x([0-9a-f]{2})\b', line.partition(':')[2]))

    def entry(self, function, length=32):
        """The first bytes of a function of the kernel (or of a module, while it is loaded)."""
        address, = self.symbol(function)
        return self.memory(address, length)

    def loaded(self):
        """The loaded modules of /proc/modules and their reference counts."""
        lines = self.check('cat /proc/modules').splitlines()
        return {line.split()[0]: int(line.split()[2]) for line in lines}

    def available_kib(self):
        """MemAvailable after caches, slabs and per-CPU page lists gave back what they can."""
        # 7: as 3, and no line in the kernel log.
        self.check('sync; echo 7 > /proc/sys/vm/drop_caches; echo 1 > /proc/sys/vm/compact_memory; '
                   'for file in /sys/kernel/slab/*/shrink; do echo 1 > $file; done', timeout=60)
        time.sleep(0.3)  # for what RCU frees
        return int(self.check("awk '/^MemAvailable:/ {print $2}' /proc/meminfo"))

    # --- the guest's own livepatch, for comparison ---

    def insmod(self, name, arguments=''):
        """Loads a test module the guest's own way; returns (status, output)."""
        path = self.put_file(self.module(name))
        status, output = self.run(f'insmod {path} {arguments}')
        self.run(f'rm -f {path}')
        return status, output

    def wait_transition(self, name, timeout=60.0):
        self.wait_for(f'[ ! -e /sys/kernel/livepatch/{name} ] || '
                      f'[ $(cat /sys/kernel/livepatch/{name}/transition) = 0 ]', timeout)

    def disable_livepatch(self, name, timeout=60.0):
        self.check(f'echo 0 > /sys/kernel/livepatch/{name}/enabled')
        self.wait_for(f'[ ! -e /sys/kernel/livepatch/{name} ]', timeout)
        # The core drops its reference of the module from a work, a moment later.
        self.wait_for(f'rmmod {name}', timeout)

    # --- hvpatch ---

    def module(self, name):
        """The host's path of a test module, built for this guest's kernel."""
        if not self._modules:
            self._modules = script('modules', self.release)
        return os.path.join(self._modules, name + '.ko')

    def hvpatch_command(self, *arguments, output='json'):
        oracle = ['--oracle', self.oracle_path] if self._plugin else []
        trap = ['--trap', self.trap] if self.trap else []
        return [hvpatch_path(), '--qmp', self.hvpatch_qmp_path, *oracle, *trap, '-o', output,
                *arguments]

    def hvpatch_start(self, *arguments, output='json', environment=None):
        """Starts hvpatch and returns its Popen, for cases that kill it."""
        return subprocess.Popen(self.hvpatch_command(*arguments, output=output), text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env={**os.environ, **(environment or {})},
                                preexec_fn=die_with_parent)

    def hvpatch(self, *arguments, output='json', timeout=240.0, environment=None):
        """Runs hvpatch with this guest's monitor socket; returns an HvpatchResult."""
        started = time.monotonic()
        process = self.hvpatch_start(*arguments, output=output, environment=environment)
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            stdout, stderr = process.communicate()
            raise
        try:
            parsed = json.loads(stdout)
        except ValueError:
            parsed = None
        return HvpatchResult(process.returncode, parsed, stdout, stderr, time.monotonic() - started)

    def hvpatch_in_vain(self, *arguments, seconds=(3, 9, 27)):
        """Runs what has to end as BUSY for SECONDS; the longer ones where the host is slow.

        Returns the first result of more than one attempt that names who is in the way, and for how
        long it was to wait.
        """
        for limit in seconds:
            result = self.hvpatch(*arguments, '--timeout', str(limit))
            report = result.json or {}
            if report.get('attempts', 0) > 1 and report.get('blockers'):
                break
        return result, limit

    def nearest_symbol(self, address):
        """NAME+OFFSET, from the guest's own kallsyms."""
        name = self.check(f"awk -v pc={address:016x} "
                          "'$1 <= pc && $1 > best {best = $1; name = $3} END {print best, name}' "
                          "/proc/kallsyms", timeout=60).split()
        return f'{name[1]}+{address - int(name[0], 16):#x}' if len(name) == 2 else '?'

    def oracle(self):
        """A connection to the plugin."""
        return Oracle(self.oracle_path)

    def oracle_state(self):
        with self.oracle() as oracle:
            return oracle.state()

    def take_violations(self):
        """What ran that must not have, since the last call: a line each."""
        if not self._plugin:
            return []
        with self.oracle() as oracle:
            state = oracle.state()
            final, found, following, lost = oracle.violations(self._next_violation)
            reset = 'RESET' in self.qmp.take_events()
            if reset:
                oracle.forget()  # another kernel, elsewhere
        # What is not decided yet is looked at again.
        open_ones = [item.number for item in found if item.verdict != FINAL]
        self._next_violation = min(open_ones, default=following)
        lines = [f'{self.nearest_symbol(item.pc)}: {item}' for item in found
                 if item.verdict == FINAL]
        if lost and final > self._final:
            lines.append(f'{final - self._final} executions, not all of them listed')
        self._final = 0 if reset else final
        if state.incomplete:
            lines.append(f'{state.incomplete} instructions could not be watched')
        return lines

    @contextlib.contextmanager
    def applied(self, name, *options):
        """hvpatch applies a test module, and reverts it at the end; yields the apply's result."""
        result = self.hvpatch('apply', self.module(name), *options)
        assert result.status == 0, result
        yield result
        result = self.hvpatch('revert', name)
        assert result.status == 0, result


def unexpected(messages, allow=()):
    """The kernel messages that no allowed pattern covers."""
    patterns = [re.compile(pattern) for pattern in (*LOADER_NOTES, *KERNEL_NOISE, *allow)]
    return [message for message in messages
            if not any(pattern.fullmatch(message) for pattern in patterns)]


def assert_invariants(guest, allow=()):
    """What holds after every case: run state as before, the guest answers, a clean kernel log."""
    status = guest.qmp.status()
    assert status == guest.expected_status, f'VM is {status}, not {guest.expected_status}'
    if status != 'running':
        return
    assert guest.alive(), 'the guest does not answer'
    violations = guest.take_violations()
    if violations:
        raise OldCodeRan('old code ran after the switch, or new code after the revert:\n' +
                         '\n'.join(violations[:20]))
    messages = unexpected(guest.new_dmesg(), allow)
    guest.mark_dmesg()
    assert not messages, 'unexpected kernel messages:\n' + '\n'.join(messages)
