# SPDX-License-Identifier: GPL-2.0-or-later
"""What the fault tests share: a guest under load with hvp_three, killing at numbered system calls.

The numbered points need no hook in the product: strace counts the system calls of hvpatch or of
its keeper, and sends a signal on entry of the Nth.
"""

import contextlib
import glob
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'vm'))

# pylint: disable=wrong-import-position,unused-import
# Guest and Suite: for the scripts, which find these modules by this one.
from channel import PATIENCE
from guest import Guest, assert_invariants, die_with_parent, eventually, hvpatch_path, unexpected
from tap import Skip, Suite

LONG = os.environ.get('HVPATCH_VM_LONG') == '1'

DONE, FAILED, USAGE, NOT_APPLICABLE, BUSY, REFUSED, ROLLED_BACK, OPERATOR = range(8)

MODULE = 'hvp_three'
FUNCTIONS = ('si_meminfo', 'si_swapinfo', 'meminfo_proc_show')
ENTRY_BYTES = 32
SERVER_LABEL = 'hvpatch-gdb'

# How soon after a kill the guest runs, and how soon the keeper has left: most times; and each
# time, on a host that has other things to do at that moment.
RUNS_SECONDS, RUNS_SECONDS_MAX = 1.0, 10.0
HOME_SECONDS, HOME_SECONDS_MAX = 2.0, 20.0
# Of the vCPUs' time that the host gave them; the load leaves about half. A spinning thread would
# leave nothing. And of each one's whole time: one that a thread spins on is never idle.
IDLE_SHARE_UNDER_LOAD, IDLE_SHARE_OF_EACH = 0.08, 0.01
IDLE_SHARE = 0.6
SPIN_TICKS = 1000
TRACED_PAUSE_MSEC = 500

# Types of journal records, see keeper/journal.h, and where a frame has its return, keeper.h.
JOURNAL_DIVERT, JOURNAL_COMMIT, JOURNAL_END = 5, 9, 11
JOURNAL_HEADER_BYTES = 16
FRAME_RETURN = slice(8, 16)

# Not all the time: who reads /proc/meminfo stands in a function of the patch.
LOAD = f'''touch /tmp/mix.on; : > /tmp/mix.out
(while [ -e /tmp/mix.on ]; do hvp_mixcheck 1 1 >> /tmp/mix.out; sleep {3 * PATIENCE}; done) \\
> /dev/null 2>&1 &
(while [ -e /tmp/mix.on ]; do cat /proc/cmdline; sleep {0.01 * PATIENCE}; done) \\
> /dev/null 2>&1 &'''
LOOK = '''grep '^cpu[0-9]' /proc/stat; echo mixed; cat /tmp/mix.out 2> /dev/null; : > /tmp/mix.out
echo modules; cat /proc/modules
echo meminfo; grep -c Hvpatch: /proc/meminfo; true'''
# Kernel threads and their CPU time in ticks.
KERNEL_THREADS = r'''for f in /proc/[0-9]*/stat; do
{ read -r line < $f; } 2>/dev/null || continue; set -- ${line##*) }
[ $2 = 2 ] && echo ${f//[^0-9]/} $((${12} + ${13}))
done; true'''


def need_strace():
    if not shutil.which('strace'):
        raise Skip('no strace')


def counting(syscall, log):
    """Command prefix: writes a line for each call of SYSCALL to the file LOG."""
    return ['strace', '-D', '-qq', '-o', log, '-e', f'trace={syscall}', '--']


def injecting(syscall, number, signal_name='SIGKILL'):
    """Command prefix: the signal arrives on entry of the NUMBERth call of SYSCALL.

    -D: the process that is started is the program itself, not strace.
    """
    return ['strace', '-D', '-qq', '-o', '/dev/null', '-e', f'trace={syscall}', '-e',
            f'inject={syscall}:signal={signal_name}:when={number}', '--']


def keeper_path():
    return os.environ.get('HVPATCH_KEEPER') or os.path.join(os.path.dirname(hvpatch_path()),
                                                            'hvpatch-keeper')


def sample(count, most):
    """At most MOST numbers of 1..COUNT, evenly spread, first and last included if more than one."""
    if count <= most:
        return list(range(1, count + 1))
    if most < 2:
        return [(count + 1) // 2] * most
    return sorted({1 + round(i * (count - 1) / (most - 1)) for i in range(most)})


def count_lines(path, pattern=''):
    if not os.path.exists(path):
        return 0
    with open(path, errors='replace') as stream:
        return sum(1 for line in stream if re.search(pattern, line) and not line.startswith('+++'))


def process_state(pid):
    """The state letter, '' if it is gone."""
    try:
        with open(f'/proc/{pid}/stat') as stream:
            return stream.read().rpartition(') ')[2][0]
    except OSError:
        return ''


def context_switches(pid):
    try:
        with open(f'/proc/{pid}/status') as stream:
            return re.findall(r'ctxt_switches:\s*(\d+)', stream.read())
    except OSError:
        return []


def start_time(pid):
    with open(f'/proc/{pid}/stat') as stream:
        return stream.read().rpartition(') ')[2].split()[19]


def users_of(path):
    """{pid: comm} of the processes that have the file open."""
    users = {}
    for folder in glob.glob('/proc/[0-9]*'):
        with contextlib.suppress(OSError):
            with open(f'{folder}/comm') as stream:
                comm = stream.read().strip()
            if comm not in ('hvpatch', 'hvpatch-keeper', 'strace'):
                continue
            if any(os.readlink(f'{folder}/fd/{fd}') == path for fd in os.listdir(f'{folder}/fd')):
                users[int(os.path.basename(folder))] = comm
    return users


class Scene:
    """A guest under load, all functions of hvp_three old at first, and what belongs to it."""

    module = MODULE
    functions = FUNCTIONS

    def __init__(self, guest):
        need_strace()
        self.guest = guest
        self.addresses = {name: guest.symbol(name)[0] for name in self.functions}
        self.old = self.entries()
        self.journal_path = os.path.join('/run/hvpatch',
                                         f'{guest.pid}-{start_time(guest.pid)}.journal')
        self._wrapper = guest.path('keeper')
        with open(self._wrapper, 'w') as stream:
            stream.write('#!/bin/sh\nexec $HVPATCH_TEST_TRACE "$HVPATCH_TEST_KEEPER"\n')
        os.chmod(self._wrapper, 0o755)
        self._cpu_times = None
        self._took = {'runs': [], 'home': []}

    @contextlib.contextmanager
    def load(self):
        """System calls, and a look for mixed functions now and then; idle again at the end."""
        self.guest.check(LOAD)
        self._cpu_times = None
        try:
            yield
        finally:
            with contextlib.suppress(Exception):
                self.guest.run('rm -f /tmp/mix.on')
        self.guest.wait_for('! pidof hvp_mixcheck')
        self.assert_idle()

    # --- commands ---

    def command(self, operation):
        """For tracing as well, under which a pause takes ten times as long."""
        what = self.guest.module(self.module) if operation == 'apply' else self.module
        return operation, '--max-pause', str(TRACED_PAUSE_MSEC), what

    def start(self, arguments, *, trace=(), keeper_trace=()):
        """Starts hvpatch; the traces are command prefixes for it and for its keeper."""
        environment = dict(os.environ)
        if keeper_trace:
            environment.update(HVPATCH_KEEPER=self._wrapper, HVPATCH_TEST_KEEPER=keeper_path(),
                               HVPATCH_TEST_TRACE=' '.join(keeper_trace))
        return subprocess.Popen([*trace, *self.guest.hvpatch_command(*arguments)], text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=environment,
                                preexec_fn=die_with_parent)

    def finish(self, process, timeout=60):
        """Waits; returns (exit status, what it said)."""
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            raise AssertionError(f'no end after {timeout} s: {stdout}{stderr}') from None
        return process.returncode, stdout + stderr

    def run(self, arguments, **traces):
        return self.finish(self.start(arguments, **traces))

    def must(self, *arguments):
        result = self.guest.hvpatch(*arguments)
        assert result.status == DONE, f'{arguments[0]}: {result}'
        return result

    def converge(self, operation):
        """The same command again, without any fault: done."""
        self.must(*self.command(operation))
        self.assert_text(operation == 'apply')
        assert (self.module in self.guest.loaded()) == (operation == 'apply'), self.guest.loaded()

    def converge_unless_done(self, operation):
        """Likewise; a patch that was taken back to the end is not there to be reverted."""
        if operation == 'apply' or self.is_new() or not self.is_journal_closed():
            self.converge(operation)

    # --- what is there ---

    def entries(self):
        return {name: self.guest.memory(address, ENTRY_BYTES)
                for name, address in self.addresses.items()}

    def is_new(self):
        """Whether all functions are new; none may differ from the others."""
        now = self.entries()
        changed = [name for name in self.functions if now[name] != self.old[name]]
        assert len(changed) in (0, len(self.functions)), f'only {changed} are new'
        return bool(changed)

    def assert_text(self, new):
        assert self.is_new() == new, f'functions are {"old" if new else "new"}'

    def users(self):
        return users_of(self.journal_path)

    def keeper_pid(self):
        return next((pid for pid, comm in self.users().items() if comm == 'hvpatch-keeper'), None)

    def journal_records(self):
        """Type and payload of each record in the journal."""
        with open(self.journal_path, 'rb') as stream:
            rest, records = stream.read(), []
        while len(rest) >= JOURNAL_HEADER_BYTES:
            end = JOURNAL_HEADER_BYTES + int.from_bytes(rest[8:12], 'little')
            records.append((int.from_bytes(rest[4:8], 'little'), rest[JOURNAL_HEADER_BYTES:end]))
            rest = rest[end:]
        return records

    def journal_types(self):
        return [kind for kind, _ in self.journal_records()]

    def wait_frozen(self, get_pid, timeout=30):
        """Waits until a process that is traced has been stopped by a signal; returns its pid.

        Its tracer stops it at each system call too, but not for long.
        """
        deadline, before, since = time.monotonic() + timeout, None, 0.0
        while time.monotonic() < deadline:
            pid = get_pid()
            now = (pid, context_switches(pid)) if process_state(pid) in ('t', 'T') else None
            if now is None or now != before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > 0.1:
                return pid
            time.sleep(0.01)
        return None

    # --- what has to hold ---

    def settle(self, killed_at):
        """The keeper alone puts things right: the VM runs at once, then nothing of ours is left."""
        runs = None
        while True:
            elapsed = time.monotonic() - killed_at
            if runs is None and self.guest.qmp.status() == 'running':
                runs = elapsed
            assert runs is not None or elapsed < RUNS_SECONDS_MAX, \
                f'VM is {self.guest.qmp.status()} {elapsed:.2f} s after the kill, {self.users()}'
            if runs is not None and not self.users() and self.guest.qmp.status() == 'running':
                break
            assert elapsed < HOME_SECONDS_MAX, \
                f'{elapsed:.2f} s after the kill: {self.users()}, {self.guest.qmp.status()}'
            time.sleep(0.01)
        self._took['runs'].append(runs)
        self._took['home'].append(elapsed)

    def assert_soon(self):
        """After most kills the guest ran, and the keeper had left, when it was due."""
        for what, limit in (('runs', RUNS_SECONDS), ('home', HOME_SECONDS)):
            took = self._took[what] or [0.0]
            print(f'# {what} after {statistics.median(took):.2f} s, {max(took):.2f} s at most')
            assert statistics.median(took) < limit, f'{what}: {took}'

    def assert_no_server(self):
        """Our gdb server is gone, and QEMU's own channel of it is not there twice."""
        labels = [chardev['label'] for chardev in self.guest.qmp.execute('query-chardev')]
        assert SERVER_LABEL not in labels, labels
        assert len([label for label in labels if label.startswith('#')]) <= 1, labels

    def assert_healthy(self, leftover_allowed=False):
        """The guest runs, is all old or all new, and its threads are well. Returns whether new."""
        status = self.guest.qmp.status()
        assert status == 'running', f'VM is {status}'
        self.assert_no_server()
        new = self.is_new()
        text = self.guest.check(LOOK)
        times, _, rest = text.partition('mixed\n')
        checks, _, rest = rest.partition('modules\n')
        modules, _, meminfo = rest.partition('meminfo\n')
        assert (meminfo.strip() != '0') == new, (meminfo, new)
        loaded = re.search(rf'^{self.module} ', modules, re.MULTILINE) is not None
        assert loaded if new else (leftover_allowed or not loaded), (modules, new)
        bad = [line for line in checks.splitlines() if not line.endswith('mixed 0')]
        assert not bad, f'hvp_mixcheck: {bad}'
        self._assert_not_spinning(times.splitlines())
        messages = unexpected(self.guest.new_dmesg())
        self.guest.mark_dmesg()
        assert not messages, 'unexpected kernel messages:\n' + '\n'.join(messages)
        return new

    def _assert_not_spinning(self, lines):
        """Over some seconds, each vCPU had idle time, however much the host took away."""
        times = [[int(word) for word in line.split()[1:9]] for line in lines]
        if self._cpu_times is None:
            self._cpu_times = times
        spent = [[now - then for now, then in zip(*pair)] for pair in zip(times, self._cpu_times)]
        if sum(map(sum, spent)) < SPIN_TICKS:
            return
        self._cpu_times = times
        idle, given = [cpu[3] + cpu[4] for cpu in spent], [sum(cpu[:7]) for cpu in spent]
        assert sum(idle) >= IDLE_SHARE_UNDER_LOAD * sum(given), f'CPU times: {spent}'
        for cpu, its_idle in zip(spent, idle):
            assert its_idle >= IDLE_SHARE_OF_EACH * sum(cpu), f'CPU times: {spent}'

    def assert_idle(self):
        """No thread spins, none is lost in a call that it was sent to: such a one never comes back.

        Others are at work for a while; what the host takes away counts as theirs.
        """
        eventually(self._assert_cpus_idle)
        eventually(self._assert_stacks)

    def _assert_cpus_idle(self):
        guest = self.guest

        def kernel_threads():
            return dict(line.split() for line in guest.check(KERNEL_THREADS).splitlines())

        def cpu():
            return [int(word) for word in guest.check('head -1 /proc/stat').split()[1:9]]

        threads, times = kernel_threads(), cpu()
        guest.check('sleep 1')
        spent = [now - then for now, then in zip(cpu(), times)]
        busy = {pid: int(ticks) - int(threads[pid]) for pid, ticks in kernel_threads().items()
                if int(ticks) - int(threads.get(pid, ticks)) > 40}
        assert not busy, f'kernel threads that spin, ticks in a second: {busy}'
        assert spent[3] + spent[4] >= IDLE_SHARE * sum(spent), f'CPU times when idle: {spent}'

    def _assert_stacks(self):
        tasks = self.must('tasks', '--kthreads', '--stacks').json['tasks']
        for task in tasks:
            symbols = {frame['symbol'] for frame in task.get('stack') or ()}
            lost = symbols & {'load_module', 'do_init_module', '__do_sys_delete_module'}
            assert not lost and task['state'] != 'D', task

    def assert_status(self, new):
        """hvpatch status tells what is so."""
        result = self.must('status')
        verified = [patch['name'] for patch in result.json['patches'] if patch['verified']]
        others = [patch['state'] for patch in result.json['patches'] if not patch['verified']]
        assert verified == ([self.module] if new else []), result
        # What a killed tool loaded and did not switch.
        assert others in ([], ['original']), result

    def is_journal_closed(self):
        return self.journal_types()[-1:] in ([], [JOURNAL_END])

    def assert_journal_closed(self):
        assert self.is_journal_closed(), self.journal_types()
        assert not self.users(), self.users()

    def reset(self):
        """After a failure: whether the guest can be used for further points."""
        try:
            for pid in self.users():
                os.kill(pid, signal.SIGKILL)
            self.guest.hvpatch('recover', timeout=30)
            self.guest.hvpatch('revert', self.module, timeout=60)
            self.assert_text(False)
            assert_invariants(self.guest)
            assert self.module not in self.guest.loaded()
        except Exception as error:  # pylint: disable=broad-except
            print(f'# this guest is of no further use: {error}')
            return False
        return True


@contextlib.contextmanager
def frozen(scene, operation, number):
    """hvpatch, stopped by a signal at its NUMBERth request to the keeper, or finished before."""
    tool = scene.start(scene.command(operation), trace=injecting('sendto', number, 'SIGSTOP'))
    try:
        scene.wait_frozen(lambda: tool.poll() is None and tool.pid)
        yield tool
    finally:
        if tool.poll() is None:
            tool.kill()


def thaw(scene, tool):
    """Lets it go on to its end; returns (exit status, what it said, how long that took)."""
    started = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        os.kill(tool.pid, signal.SIGCONT)
    status, said = scene.finish(tool)
    return status, said, time.monotonic() - started
