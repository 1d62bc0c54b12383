#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hvpatch's stacks against those that the guest's own kernel prints, frame by frame.

Compared: every task that is asleep and did not run (same number of context switches) from before
hvpatch looked until after it did. A frame is the text "function+offset/size [module]", as
/proc/PID/stack prints it. The lists must be equal, apart from the differences that
docs/differences.md explains:

    scheduler functions   the guest leaves out frames in the kernel's .sched.text and its
                          spinlock text, at any depth; so do we, by address, before comparing

The same for a dump of the guest's memory, taken between the same two looks of the guest: hvpatch
has to say of it exactly what it said of the live guest.

HVPATCH_VM_LONG=1 adds guests with 1000 and 5000 tasks.
"""

import gzip
import json
import os
import subprocess

from guest import hvpatch_path
from tap import Skip, Suite

suite = Suite('6.1', '6.12')

DONE, BUSY = 0, 4
# States in which a task is off its CPU and stays there until somebody wakes it.
ASLEEP = 'SDTtIP'
KINDS = ('pause', 'read', 'nanosleep', 'poll', 'futex')
# Whoever sleeps always, and is therefore to be compared: sleepers and most kernel threads.
COMPARED_SHARE = 0.9
DUMP_SECONDS = 300
DUMPS = 15
# On a slow host more tasks than usual come by a CPU between two looks.
TRIES = 4


def guest_view(guest):
    """tid -> (state, switches, frames), by the guest's own kernel."""
    guest.check('hvp_dump > /tmp/dump && gzip -f /tmp/dump', timeout=300)
    tasks, frames = {}, None
    for line in gzip.decompress(guest.get('/tmp/dump.gz', timeout=300)).decode().splitlines():
        if line.startswith('task '):
            _, tid, state, switches = line.split()
            frames = []
            tasks[int(tid)] = (state, int(switches), frames)
        else:
            frames.append(line)
    return tasks


def unchanged(before, after):
    """The tasks that were asleep all the time."""
    return [tid for tid, value in before.items()
            if after.get(tid) == value and value[0] in ASLEEP]


def text_of_frame(frame):
    module = f' [{frame["module"]}]' if frame['module'] else ''
    return f'{frame["symbol"]}+{frame["offset"]}/{frame["size"]}{module}'


def view_of(result):
    """tid -> (verdict, reason, [(pc, text)])."""
    return {task['pid']: (task['verdict'], task['reason'],
                          [(int(frame['pc'], 16), text_of_frame(frame)) for frame in task['stack']])
            for task in result['tasks'] if task['pid'] != 0}


def live_view(guest):
    result = guest.hvpatch('tasks', '--stacks')
    assert result.status == DONE, result
    return view_of(result.json)


def read_core(path):
    return subprocess.run([hvpatch_path(), '--core', path, '-o', 'json', 'tasks', '--stacks'],
                          capture_output=True, text=True, check=False, timeout=DUMP_SECONDS)


def core_view(guest):
    """Of a dump in which hvpatch finds the machine at rest: no CPU in entry code."""
    path = guest.path('core')
    for _ in range(DUMPS):
        guest.qmp.execute('dump-guest-memory', timeout=DUMP_SECONDS, paging=False,
                          protocol=f'file:{path}')
        result = read_core(path)
        if result.returncode != BUSY:
            break
    assert result.returncode == DONE, (result.stdout[:400], result.stderr)
    return view_of(json.loads(result.stdout))


def scheduler_text(guest):
    """The ranges that in_sched_functions() of the kernel tells: its /proc/PID/stack omits them."""
    return [(guest.symbol(f'__{name}_text_start')[0], guest.symbol(f'__{name}_text_end')[0])
            for name in ('sched', 'lock') if guest.symbol(f'__{name}_text_start')]


def without_scheduler(frames, ranges):
    return [text for pc, text in frames if not any(start <= pc < end for start, end in ranges)]


def assert_same_as_guest(before, tids, view, ranges):
    wrong = []
    for tid in tids:
        verdict, reason, frames = view.get(tid, ('not told', '', []))
        ours, theirs = without_scheduler(frames, ranges), before[tid][2]
        if verdict != 'RELIABLE' or ours != theirs:
            wrong.append(f'{tid}: {verdict} {reason}\n  hvpatch: {ours}\n  guest:   {theirs}')
    assert not wrong, f'{len(wrong)} of {len(tids)} tasks differ:\n' + '\n'.join(wrong[:5])


def start_load(guest, count):
    for kind in KINDS:
        guest.check(f'hvp_sleepers {count // len(KINDS)} {kind} > /tmp/{kind} 2>&1 &')
    for kind in KINDS:
        guest.wait_for(f'grep -q ready /tmp/{kind}', timeout=300)
    guest.check('mkfifo /tmp/fifo; cat /tmp/fifo > /dev/null 2>&1 &'
                ' for i in 1 2; do while :; do cat /proc/stat > /dev/null; done & done'
                ' > /dev/null 2>&1')


def compare(guest, count):
    start_load(guest, count)
    ranges = scheduler_text(guest)
    assert ranges, 'the kernel does not tell where its scheduler is'
    for _ in range(TRIES):
        tids, asleep = look_and_compare(guest, ranges)
        if len(tids) >= max(count, COMPARED_SHARE * len(asleep)):
            return
    raise AssertionError((len(tids), len(asleep)))


def look_and_compare(guest, ranges):
    """Returns who could be compared, and who was asleep."""
    before = guest_view(guest)
    live = live_view(guest)
    core = core_view(guest)
    after = guest_view(guest)
    tids = unchanged(before, after)
    assert_same_as_guest(before, tids, live, ranges)
    assert_same_as_guest(before, tids, core, ranges)
    differ = [tid for tid in tids if live[tid] != core[tid]]
    assert not differ, f'{len(differ)} tasks are told otherwise of the dump, first {differ[0]}'
    print(f'# {len(tids)} tasks compared, {sum(len(before[tid][2]) for tid in tids)} frames')
    return tids, [tid for tid, value in before.items() if value[0] in ASLEEP]


@suite.case('100-tasks-SAME-as-guest-and-dump', fresh=True)
def _(guest):
    compare(guest, 100)


def only_long():
    if not os.environ.get('HVPATCH_VM_LONG'):
        raise Skip('HVPATCH_VM_LONG is not set')


@suite.case('1000-tasks-SAME-as-guest-and-dump', fresh=True, timeout=600)
def _(guest):
    only_long()
    compare(guest, 1000)


@suite.case('5000-tasks-SAME-as-guest-and-dump', options={'memory': 1024}, timeout=1200)
def _(guest):
    only_long()
    compare(guest, 5000)


if __name__ == '__main__':
    suite.main()
