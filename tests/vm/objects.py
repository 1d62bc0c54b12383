# SPDX-License-Identifier: GPL-2.0-or-later
"""hvp_target_a, hvp_target_b and the generations over them, see tests/modules/hvp_generation.h.

Used by test-modules.py (with the guest's own livepatch) and by test-objects.py (with hvpatch).
"""

import contextlib
import os
import re
import subprocess

from guest import ROOT, eventually, unexpected

A, B = 'hvp_target_a', 'hvp_target_b'
# The columns of /proc/hvp_generation, and in which object each function is.
COLUMNS = {'hvp_generation_read': A, 'lcm': 'vmlinux', 'lcm_not_zero': 'vmlinux',
           'hvp_a_one': A, 'hvp_a_two': A, 'hvp_b_one': B, 'hvp_b_two': B}
# What each generation names.
NAMED = {0: set(), 1: set(COLUMNS), 2: set(COLUMNS),
         3: {'hvp_generation_read', 'lcm', 'hvp_a_one', 'hvp_b_two'}}
ABSENT = -1
# What modules for make-klp-build make of them: one adds what hvp_a_secret says.
KLP_BUILD = {'hvp_klp_build': {'lcm': 9, 'hvp_a_one': 79}, 'hvp_klp_vmlinux': {'lcm': 10}}

# What the targets and the patches log by themselves.
OBJECT_LINES = (r'hvp_target_b: init sees -?\d+ -?\d+ in 2 calls',
                r'hvp_\w+: (vmlinux|hvp_target_\w+) (pre|post)_(un)?patch.*')
WORKLOAD_SECONDS = 100000
WORKLOAD = re.compile(r'^reads (\d+) changes (\d+) mixed (\d+) lost (\d+) back (\d+)$',
                      re.MULTILINE)


def generation(guest):
    """What one call of hvp_generation_read() sees: {function: generation}."""
    fields = [int(field) for field in guest.check('cat /proc/hvp_generation').split()]
    assert len(fields) == len(COLUMNS) + 2 and fields[-2:] == [0, 0], fields
    return dict(zip(COLUMNS, fields))


def expected(number, b_loaded=True, **others):
    """What generation() says when that generation is in force; others: single functions."""
    values = {function: number if function in NAMED[number] else 0 for function in COLUMNS}
    if not b_loaded:
        values.update({function: ABSENT for function, name in COLUMNS.items() if name == B})
    return {**values, **others}


def assert_generation(guest, number, b_loaded=True, **others):
    seen, wanted = generation(guest), expected(number, b_loaded, **others)
    assert seen == wanted, (seen, wanted)


def klp_build(guest, name, number):
    """The host's path of a module of KLP_BUILD in klp-build's format, generation 1 or 2."""
    path = guest.path(f'{name}.ko')
    subprocess.run([os.path.join(ROOT, 'tests', 'modules', 'make-klp-build'), '--generation',
                    str(number), guest.module(name), path], check=True)
    return path


def load(guest, *names):
    for name in names:
        status, output = guest.insmod(name)
        assert status == 0, (name, output)


def unload(guest, *names):
    for name in names:
        guest.wait_for(f'rmmod {name}')


@contextlib.contextmanager
def targets(guest, *names):
    """The target modules are loaded; all that are there at the end are unloaded."""
    load(guest, *names)
    yield
    loaded = guest.loaded()
    unload(guest, *[name for name in (B, A) if name in loaded])


def log(guest):
    """What targets and patches have logged since the last mark."""
    return [message for message in unexpected(guest.new_dmesg())
            if message.startswith('hvp_')]


def calls(module, objects, *callbacks):
    """The lines of callbacks, each for all objects before the next callback."""
    return [f'{module}: {name} {callback}' for callback in callbacks for name in objects]


class Log:
    """Compares what comes, piece by piece, with what has to come in that order."""

    def __init__(self, guest):
        self._guest = guest
        self._seen = len(log(guest))

    def expect(self, *lines):
        new = log(self._guest)[self._seen:]
        assert new == list(lines), '\n'.join(['seen:', *new, 'expected:', *lines])
        self._seen += len(new)


def enter_sleep(guest):
    """A task that sleeps in hvp_a_sleep, or in what replaces it; returns its pid."""
    guest.check('cat /proc/hvp_sleep > /tmp/slept 2>&1 & echo $! > /tmp/pid')
    guest.wait_in('$(cat /tmp/pid)', 'a_sleep')
    return int(guest.check('cat /tmp/pid'))


def leave_sleep(guest):
    """Wakes it; returns what its read said."""
    guest.check('echo > /proc/hvp_sleep')
    guest.wait_gone('$(cat /tmp/pid)')
    return guest.check('cat /tmp/slept')


class Workload:
    """Threads in the guest that look for a mix, see programs/hvp_generation.c."""

    def __init__(self, guest, threads=4, order=(), nice=0):
        """@nice: the guest's own threads, and those of hvpatch's calls, go first."""
        self._guest = guest
        # It is ended by end(), long before its time.
        arguments = ' '.join(str(number) for number in (WORKLOAD_SECONDS, threads, *order))
        guest.check('rm -f /tmp/generation-pid /tmp/generation; '
                    f'(sh -c "renice {nice} \\$\\$ && exec hvp_generation {arguments}" '
                    '>> /tmp/generation 2>&1 & '
                    'echo $! > /tmp/generation-pid; wait $!; '
                    'echo "status $?" >> /tmp/generation) > /dev/null 2>&1 &')
        guest.wait_for('kill -0 $(cat /tmp/generation-pid)')

    def _ticks(self):
        """CPU time of each thread."""
        lines = self._guest.check('cat /proc/$(cat /tmp/generation-pid)/task/*/stat').splitlines()
        fields = {line.split()[0]: line.rpartition(')')[2].split() for line in lines}
        return {thread: int(field[11]) + int(field[12]) for thread, field in fields.items()}

    def look(self):
        """Until each thread, but for the one that waits for the end, has read many times more."""
        before = self._ticks()

        def check():
            now = self._ticks()
            idle = [thread for thread, ticks in before.items() if now[thread] < ticks + 2]
            assert len(idle) <= 1, f'threads that do not run: {idle}'
        eventually(check, interval=0.05)

    def so_far(self):
        """Its counts, as text; nothing bad may be among them."""
        text = self._guest.check(
            ': > /tmp/generation; kill -USR1 $(cat /tmp/generation-pid); '
            'until grep "^so far" /tmp/generation; do sleep 0.05; done')
        assert re.fullmatch(r'so far: reads \d+ changes \d+ mixed 0 lost 0 back 0', text), text
        return text

    def end(self):
        """Stops it; returns its exit status, its counts by name and all that it printed."""
        self._guest.check('kill $(cat /tmp/generation-pid)')
        text = self._guest.wait_for('grep -q ^status /tmp/generation && cat /tmp/generation')
        match = WORKLOAD.search(text)
        status = int(re.search(r'^status (\d+)$', text, re.MULTILINE).group(1))
        names = ('reads', 'changes', 'mixed', 'lost', 'back')
        counts = dict(zip(names, map(int, match.groups()))) if match else {}
        return status, counts, text
