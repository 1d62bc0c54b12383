#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatch and its keeper killed at numbered points of apply and revert.

After each point: the guest runs within a second (by the keeper alone, or after one `recover` where
the keeper was killed too), is all old or all new, and the same command again converges.

A sample of the points; all of them with HVPATCH_VM_LONG=1.
"""

import contextlib
import dataclasses
import os
import re
import signal
import time

from scene import (BUSY, DONE, ENTRY_BYTES, FAILED, FRAME_RETURN, JOURNAL_COMMIT, JOURNAL_DIVERT,
                   LONG, OPERATOR, ROLLED_BACK, Scene, Suite, count_lines, counting, injecting,
                   sample, unexpected)

suite = Suite('6.1', '6.12')

OPERATIONS = ('apply', 'revert')
WALK_TIMEOUT = 7200.0 if LONG else 600.0
MAX_FAILURES = 20
FROZEN_SECONDS = 3.0
# The tool's, and what a crowded host may take beyond that; the tool is frozen all the time.
BUDGET_SECONDS = 10.0

# A request to the keeper is one sendto, one to QEMU's monitor one sendmsg; the journal is written
# by writev and fdatasync. While a recvfrom or poll waits, the keeper is at work on the request.
TOOL_POINTS = {'sendto': (100, 8), 'recvfrom': (40, 2), 'sendmsg': (100, 2), 'writev': (100, 3),
               'fdatasync': (100, 1), 'process_vm_readv': (12, 1), 'poll': (12, 0)}
# The keeper's sendto is a packet to the gdb stub, or an answer to the tool.
KEEPER_POINTS = {'sendto': (400, 5), 'sendmsg': (100, 1), 'writev': (100, 3),
                 'fdatasync': (100, 1), 'recvfrom': (20, 0)}


@dataclasses.dataclass(frozen=True)
class Point:
    """On entry of the NUMBERth call of SYSCALL in OPERATION."""
    operation: str
    syscall: str
    number: int

    def __str__(self):
        return f'{self.operation}, {self.syscall} {self.number}'


class SleepersScene(Scene):
    """Some tasks sleep for ever in the function that is replaced, and are sent out each time."""

    module = 'hvp_nanosleep'
    functions = ('do_nanosleep',)
    count = 6

    @contextlib.contextmanager
    def load(self):
        self.guest.check(f'hvp_sleepers {self.count} nanosleep > /tmp/sleepers 2>&1 & '
                         'echo $! > /tmp/pid')
        self.assert_asleep()
        yield
        self.guest.check('kill $(cat /tmp/pid)')
        self.guest.wait_for('! pidof hvp_sleepers')
        self.assert_idle()

    def assert_asleep(self):
        """None is lost or stuck on its way: each is back in its sleep."""
        self.guest.wait_for('[ $(cat /proc/[0-9]*/task/*/stat 2>/dev/null | '
                            f'grep -c "(hvp_sleepers) S") = {self.count} ]', timeout=60)

    def assert_healthy(self, leftover_allowed=False):
        status = self.guest.qmp.status()
        assert status == 'running', f'VM is {status}'
        self.assert_no_server()
        new, loaded = self.is_new(), self.module in self.guest.loaded()
        assert loaded if new else (leftover_allowed or not loaded), new
        self.assert_asleep()
        messages = unexpected(self.guest.new_dmesg())
        self.guest.mark_dmesg()
        assert not messages, 'unexpected kernel messages:\n' + '\n'.join(messages)
        return new


class Walk:
    """Runs points one after the other; apply and revert take turns, so that each one's is next."""

    def __init__(self, scene, run):
        self.scene = scene
        self._run = run
        self._failures = []
        self._reached = self._missed = 0

    def over(self, points):
        """Runs POINT for all points, whatever their order; raises at the end if any failed."""
        left = {operation: [point for point in points if point.operation == operation]
                for operation in OPERATIONS}
        while any(left.values()):
            for operation in OPERATIONS:
                if left[operation]:
                    self._one(left[operation].pop(0))
                else:
                    self.scene.converge(operation)
        print(f'# {self._reached} points, {self._missed} not reached', flush=True)
        self.scene.assert_soon()
        assert not self._failures, '\n'.join(self._failures)
        # Some calls come more often in one run than in another; most come in all.
        assert self._reached >= self._missed, 'too few points were killed at'

    def _one(self, point):
        try:
            reached = self._run(self.scene, point)
        except Exception as error:  # pylint: disable=broad-except
            print(f'# FAILED: {point}: {type(error).__name__}: {error}', flush=True)
            self._failures.append(f'{point}: {error}')
            if len(self._failures) >= MAX_FAILURES or not self.scene.reset():
                raise AssertionError('\n'.join(self._failures)) from error
            reached = True
            if point.operation == 'apply':
                self.scene.converge('apply')
        self._reached += reached
        self._missed += not reached


def count_calls(scene, syscalls, of_keeper=False):
    """How often apply and revert make each system call: {(operation, syscall): count}."""
    log, counts = scene.guest.path('strace.log'), {}
    for operation in OPERATIONS:
        trace = counting(','.join(syscalls), log)
        which = {'keeper_trace': trace} if of_keeper else {'trace': trace}
        for _ in range(3):
            # Traced, a pause can outlive its budget.
            status, said = scene.run(scene.command(operation), **which)
            if status not in (BUSY, ROLLED_BACK):
                break
            print(f'# counting {operation}: exit status {status}, again: {said[:800]}', flush=True)
            scene.must('recover')
        assert status == DONE, said
        for syscall in syscalls:
            counts[operation, syscall] = count_lines(log, rf'^{syscall}\(')
    return counts


def choose(scene, table, of_keeper=False):
    """The points of a table, as many as the short or the long version takes."""
    counts = count_calls(scene, table, of_keeper)
    points = []
    for (operation, syscall), count in counts.items():
        most = table[syscall][0 if LONG else 1]
        points += [Point(operation, syscall, number) for number in sample(count, most)]
    chosen = os.environ.get('HVPATCH_FAULT_POINTS')  # to repeat some: a pattern
    return [point for point in points if not chosen or re.search(chosen, str(point))]


# --- the tool is killed ---

def kill_tool(scene, point):
    status, said = scene.run(scene.command(point.operation),
                             trace=injecting(point.syscall, point.number))
    killed_at = time.monotonic()
    if status == DONE:
        scene.assert_text(point.operation == 'apply')
        return False
    assert status == -signal.SIGKILL, f'exit status {status}: {said}'
    scene.settle(killed_at)
    new = scene.assert_healthy(leftover_allowed=True)
    scene.assert_status(new)
    if point.number % 2 == 0:
        # The hand-over to recover, and the one of the next command, take turns.
        scene.must('recover')
        assert scene.assert_healthy() == new, 'recover changed the text'
        scene.assert_status(new)
        scene.assert_journal_closed()
    scene.converge_unless_done(point.operation)
    scene.assert_healthy()
    return True


# --- the keeper is killed ---

def recovered(scene, point):
    """One recover, or the next command, puts right what two dead processes left."""
    if point.number % 3:
        scene.must('recover')
        scene.assert_status(scene.assert_healthy())
        scene.assert_journal_closed()
    scene.converge_unless_done(point.operation)
    scene.assert_healthy()


def kill_keeper(scene, point):
    was_new = point.operation == 'revert'
    status, said = scene.run(scene.command(point.operation),
                             keeper_trace=injecting(point.syscall, point.number))
    if status == DONE:
        scene.assert_text(not was_new)
        # Killed behind its last answer: something may be left to close.
        return False
    assert status in (FAILED, ROLLED_BACK, OPERATOR), f'exit status {status}: {said}'
    if status != OPERATOR:
        scene.assert_text(was_new)
    recovered(scene, point)
    return True


def kill_both(scene, point):
    status, keeper = kill_both_frozen(scene, point)
    if keeper is None:
        assert status == DONE
        return False
    recovered(scene, point)
    return True


def kill_both_frozen(scene, point):
    """The keeper is frozen at the point, so that tool and keeper die at the same moment.

    Returns the tool's exit status and the keeper's pid; None: it did not come there.
    """
    tool = scene.start(scene.command(point.operation),
                       keeper_trace=injecting(point.syscall, point.number, 'SIGSTOP'))
    keeper = scene.wait_frozen(lambda: tool.poll() is None and scene.keeper_pid())
    tool.kill()
    if keeper:
        os.kill(keeper, signal.SIGKILL)
    status, _ = scene.finish(tool)
    if keeper is None:
        scene.settle(time.monotonic())
    else:
        while scene.users():
            time.sleep(0.01)
    return status, keeper


def kill_on_the_way_home(scene, point):
    """The tool is killed at the point, the keeper later, while it puts things right."""
    log = scene.guest.path('home.log')
    status, _ = scene.run(scene.command(point.operation),
                          trace=injecting(point.syscall, point.number),
                          keeper_trace=counting('sendto,recvfrom', log))
    if status == DONE:
        return False
    scene.settle(time.monotonic())
    with open(log, errors='replace') as stream:
        before, _, after = stream.read().partition('recvfrom(3, "", ')
    first, count = before.count('\nsendto('), after.count('\nsendto(')
    scene.converge(point.operation)
    other = OPERATIONS[1 - OPERATIONS.index(point.operation)]
    for number in sample(count, 12 if LONG else 2):
        scene.converge(other)
        status, _ = scene.run(scene.command(point.operation),
                              trace=injecting(point.syscall, point.number),
                              keeper_trace=injecting('sendto', first + number))
        while scene.users():
            time.sleep(0.01)
        recovered(scene, dataclasses.replace(point, number=number))
    return True


def kill_recover(scene, point):
    """Tool and keeper are killed, then the keeper of recover; another recover finishes."""
    tool = scene.start(scene.command(point.operation),
                       keeper_trace=injecting(point.syscall, point.number, 'SIGSTOP'))
    keeper = scene.wait_frozen(lambda: tool.poll() is None and scene.keeper_pid())
    tool.kill()
    if keeper:
        os.kill(keeper, signal.SIGKILL)
    scene.finish(tool)
    for number in (3, 9, 20, 30, 45, 60, 90) if LONG else (9, 30):
        while scene.users():
            time.sleep(0.01)
        status, said = scene.run(['recover'], keeper_trace=injecting('sendto', number))
        assert status in (DONE, FAILED, OPERATOR), f'recover: exit status {status}: {said}'
        if status == DONE:
            break
    recovered(scene, point)
    return keeper is not None


# Where spin traps are; the first is there from the beginning of each wait for a thread to its end.
TRAPPED = ('vmstat_shepherd', 'extfrag_for_order', 'irq_enter_rcu', 'klp_enable_patch')
# The keeper is frozen for so long while threads come to its traps, stand there and are put off.
STAND_SECONDS = 1.0
SPINNING_TRIES, SPINNING_WANTED = (60, 30) if LONG else (20, 2)


class SpinningScene(Scene):
    """Spin traps, which stay in the guest's text when a keeper dies; whoever comes there stands."""

    def __init__(self, guest):
        super().__init__(guest)
        guest.trap = 'spin'
        self._entries = {name: guest.symbol(name)[0] for name in TRAPPED}
        self._before = {name: self._text(name) for name in TRAPPED}

    def _text(self, name):
        return self.guest.memory(self._entries[name], ENTRY_BYTES)

    def is_planted(self):
        return self._text(TRAPPED[0]) != self._before[TRAPPED[0]]

    def assert_removed(self):
        left = [name for name in TRAPPED if self._text(name) != self._before[name]]
        assert not left, f'spin traps are left in {left}'


def leave_spinning(scene, operation):
    """Tool and keeper are killed while the guest runs into their traps. Whether that was so."""
    tool, left = scene.start(scene.command(operation)), False
    while tool.poll() is None and not scene.is_planted():
        pass
    keeper = scene.keeper_pid()
    if keeper:
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGSTOP)
        left = scene.guest.qmp.status() == 'running' and scene.is_planted()
        if left:
            time.sleep(STAND_SECONDS)
        tool.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGKILL)
    scene.finish(tool)
    while scene.users():
        time.sleep(0.01)
    recovered(scene, Point(operation, 'poll', 1))
    scene.assert_removed()
    return left


# --- the tool is frozen ---

def freeze_tool(scene, point):
    """The keeper acts by its deadline; the thawed tool writes nothing and says what happened."""
    tool = scene.start(scene.command(point.operation),
                       trace=injecting(point.syscall, point.number, 'SIGSTOP'))
    if not scene.wait_frozen(lambda: tool.poll() is None and tool.pid):
        status, said = scene.finish(tool)
        assert status == DONE, said
        return False
    frozen_at = time.monotonic()
    while scene.guest.qmp.status() != 'running':
        assert time.monotonic() - frozen_at < BUDGET_SECONDS, 'the pause outlives its budget'
        time.sleep(0.01)
    scene.guest.check('true')
    time.sleep(max(FROZEN_SECONDS - (time.monotonic() - frozen_at), 0))
    new = scene.is_new()
    committed = JOURNAL_COMMIT in scene.journal_types()
    os.kill(tool.pid, signal.SIGCONT)
    status, said = scene.finish(tool)
    changed = new == (point.operation == 'apply')
    if status == DONE:
        # It had no pause under way: nothing was lost.
        scene.assert_text(point.operation == 'apply')
    else:
        assert status in (FAILED, BUSY, ROLLED_BACK, OPERATOR), f'exit status {status}: {said}'
        assert scene.is_new() == new, f'written after the thaw: {said}'
        assert not changed or committed, said
    scene.settle(time.monotonic())
    scene.assert_status(scene.assert_healthy(leftover_allowed=True))
    if status != DONE:
        scene.converge(point.operation)
    scene.assert_healthy()
    return True


def walk(guest, run, points_of):
    scene = Scene(guest)
    points = points_of(scene)
    with scene.load():
        Walk(scene, run).over(points)


def walk_sending_out(guest, run, points_of):
    """Most requests, and the keeper's packets, are those that send the sleepers out."""
    scene = SleepersScene(guest)
    with scene.load():
        Walk(scene, run).over(points_of(scene))


def requests(most_long, most_short, of_keeper=False):
    """Points at the tool's requests, or the keeper's packets, only."""
    return lambda scene: choose(scene, {'sendto': (most_long, most_short)}, of_keeper)


@suite.case('tool-killed-ALL_OR_NOTHING', timeout=WALK_TIMEOUT)
def _(guest):
    walk(guest, kill_tool, lambda scene: choose(scene, TOOL_POINTS))


@suite.case('keeper-killed-RECOVERED', timeout=WALK_TIMEOUT)
def _(guest):
    walk(guest, kill_keeper, lambda scene: choose(scene, KEEPER_POINTS, of_keeper=True))


@suite.case('both-killed-RECOVERED', timeout=WALK_TIMEOUT)
def _(guest):
    walk(guest, kill_both, lambda scene: choose(scene, KEEPER_POINTS, of_keeper=True))


@suite.case('tool-then-keeper-killed-RECOVERED', timeout=WALK_TIMEOUT)
def _(guest):
    walk(guest, kill_on_the_way_home, requests(10, 3))


@suite.case('recover-killed-RECOVERED', timeout=WALK_TIMEOUT)
def _(guest):
    walk(guest, kill_recover, requests(16, 3, of_keeper=True))


@suite.case('tool-frozen-UNDONE', timeout=WALK_TIMEOUT)
def _(guest):
    walk(guest, freeze_tool, requests(22, 3))


@suite.case('tool-killed-sending-tasks-out-ALL_OR_NOTHING', timeout=WALK_TIMEOUT)
def _(guest):
    walk_sending_out(guest, kill_tool, requests(60, 6))


@suite.case('keeper-killed-sending-tasks-out-RECOVERED', timeout=WALK_TIMEOUT)
def _(guest):
    walk_sending_out(guest, kill_keeper, requests(200, 6, of_keeper=True))


@suite.case('both-killed-sending-tasks-out-RECOVERED', timeout=WALK_TIMEOUT)
def _(guest):
    walk_sending_out(guest, kill_both, requests(200, 6, of_keeper=True))


# What the guest was made to allocate: areas, and objects of the caches that keep book of who asked.
BUFFER_OPTIONS = {'append': 'slub_debug=U,kmalloc-*'}
ALLOCATED = '''grep {0} /proc/vmallocinfo; echo objects
cat /sys/kernel/debug/slab/kmalloc-*/alloc_traces | grep '^ *[0-9][0-9]* {0}'; true'''
# From the first request for memory until the module is loaded.
LOADING_POINTS = {'trace': {'sendto': (100, 7), 'writev': (20, 4)},
                  'keeper_trace': {'writev': (40, 5), 'sendto': (200, 0)}}
# The keeper's records of that time, counted from its first one.
KEEPER_LOADING = slice(3, 14)


class BufferScene(Scene):
    """Counts the buffers in the guest: our calls return to a place to which nobody else's do."""

    caller = None

    def learn_caller(self):
        for kind, frame in self.journal_records():
            if self.caller is None and kind == JOURNAL_DIVERT and \
                    int.from_bytes(frame[FRAME_RETURN], 'little') != 0:
                pc = int.from_bytes(frame[FRAME_RETURN], 'little')
                self.caller = self.guest.nearest_symbol(pc) + '/'

    def assert_none_left(self):
        """None but the record's, which is the module's where it is loaded."""
        if self.caller is None:
            return  # nobody was called yet
        areas, _, objects = self.guest.check(ALLOCATED.format(self.caller)).partition('objects')
        count = sum(int(line.split()[0]) for line in objects.split('\n')[1:])
        assert not areas.strip() and count == int(self.module in self.guest.loaded()), \
            f'allocated by {self.caller}: {areas} {objects}'


def calls_while_loading(scene, who, syscall, most):
    """The numbers of the calls to be killed at."""
    log = scene.guest.path('strace.log')
    trace = ['strace', '-D', '-qq', '-s', '40', '-o', log, '-e', f'trace=writev,{syscall}', '--']
    status, said = scene.run(scene.command('apply'), **{who: trace})
    assert status == DONE, said
    scene.must('revert', scene.module)
    number, numbers, is_loading = 0, [], who == 'keeper_trace'
    with open(log, errors='replace') as stream:
        for line in stream:
            number += line.startswith(f'{syscall}(')
            is_loading |= '"record-asked=' in line
            if is_loading and line.startswith(f'{syscall}('):
                numbers.append(number)
            if '"loaded=' in line:
                break
    if who == 'keeper_trace' and syscall == 'writev':
        numbers = numbers[KEEPER_LOADING]
    return [numbers[index - 1] for index in sample(len(numbers), most)]


def kill_while_loading(scene, who, syscall, number):
    """The tool, or it and its keeper, killed at the point; one recover; nothing is left."""
    print(f'# {who}, {syscall} {number}', flush=True)
    if who == 'trace':
        scene.run(scene.command('apply'), trace=injecting(syscall, number))
        scene.settle(time.monotonic())
    else:
        kill_both_frozen(scene, Point('apply', syscall, number))
    scene.learn_caller()
    scene.must('recover')
    scene.assert_healthy()
    scene.assert_none_left()
    if scene.is_new():
        scene.must('revert', scene.module)


@suite.case('killed-while-loading-NO-BUFFER-LEFT', timeout=WALK_TIMEOUT, fresh=True,
            options=BUFFER_OPTIONS)
def _(guest):
    scene, failures = BufferScene(guest), []
    for who, table in LOADING_POINTS.items():
        for syscall, most in table.items():
            for number in calls_while_loading(scene, who, syscall, most[0 if LONG else 1]):
                try:
                    kill_while_loading(scene, who, syscall, number)
                except AssertionError as error:
                    failures.append(f'{who}, {syscall} {number}: {error}')
    assert not failures, '\n'.join(failures)


# In a kernel that puts off whoever spins for long, for others that want to run.
@suite.case('spinning-both-killed-RECOVERED', timeout=WALK_TIMEOUT, fresh=True,
            options={'append': 'preempt=full'})
def _(guest):
    scene, left = SpinningScene(guest), 0
    with scene.load():
        for number in range(SPINNING_TRIES):
            left += leave_spinning(scene, OPERATIONS[number % 2])
            if left == SPINNING_WANTED:
                break
    print(f'# traps were left in a running guest {left} times')
    assert left > 0


@suite.case('spinning-tool-killed-ALL_OR_NOTHING', timeout=WALK_TIMEOUT)
def _(guest):
    scene = SpinningScene(guest)
    points = choose(scene, {'sendto': (100, 3)})
    try:
        with scene.load():
            Walk(scene, kill_tool).over(points)
    finally:
        guest.trap = None
    scene.assert_removed()


if __name__ == '__main__':
    suite.main()
