# SPDX-License-Identifier: GPL-2.0-or-later
"""Random operations of hvpatch on a guest under mixed load, for scripts/soak --minutes.

What is applied is asked of the guest before and after each operation, so that a killed one may end
either way, but only whole.
"""

import random
import subprocess
import time

from guest import unexpected

DONE, BUSY, ROLLED_BACK = 0, 4, 6
# Independent of one another, but for the last, which has the function of the first.
PATCHES = ('hvp_cmdline', 'hvp_three', 'hvp_second', 'hvp_nanosleep')
RIVALS = {'hvp_overlap': 'hvp_cmdline'}
OPERATIONS = ('apply', 'apply', 'revert', 'revert', 'replace', 'kill')
# Until the first of these an operation has only read; past the last it is mostly over.
KILL_SECONDS = (0.05, 1.5)
OPERATION_SECONDS = 240
WATCH_SECONDS = 15
TIMEOUT_SECONDS = '20'
# A guest on a crowded host may be slow to answer; a hung one never does.
ALIVE_SECONDS = 60
STOP_SECONDS = 120

LOAD = r'''
ip link set lo up 2> /dev/null
mkdir -p /tmp/mixed; cd /tmp/mixed; : > on
hvp_load 2 > load.out 2>&1 & echo $! > load.pid
storm() { while [ -e on ]; do for i in 1 2 3 4 5 6 7 8; do true & done; wait; sleep 0.05; done; }
pipes() { while [ -e on ]; do seq 500 | cat | tail -n 1 > /dev/null; sleep 0.05; done; }
sockets() { while [ -e on ]; do (echo x | nc -l -p 7000 -w 2 > /dev/null 2>&1) & sleep 0.2
    echo y | nc -w 1 127.0.0.1 7000 > /dev/null 2>&1; wait; done; }
timers() { while [ -e on ]; do for i in 1 2 3 4 5 6; do sleep 0.0$i & done; wait; done; }
modules() { while [ -e on ]; do modprobe dummy; sleep 0.3; rmmod dummy; sleep 0.3; done; }
tracing() { cd /sys/kernel/tracing; echo cmdline_proc_show si_meminfo > set_ftrace_filter
    while [ -e /tmp/mixed/on ]; do echo function > current_tracer; sleep 1
        echo nop > current_tracer; sleep 1; done; echo > set_ftrace_filter; echo > trace; }
readers() { while [ -e on ]; do cat /proc/cmdline /proc/meminfo /proc/execdomains > /dev/null
    sleep 0.02; done; }
for part in storm pipes sockets timers modules tracing readers; do
    $part > $part.out 2>&1 & echo $! >> pids
done
'''
STOP = r'''
cd /tmp/mixed; rm -f on; kill $(cat load.pid) 2> /dev/null
for pid in $(cat load.pid pids); do
    while kill -0 $pid 2> /dev/null; do sleep 0.2; done
done
rmmod dummy 2> /dev/null
cat load.out storm.out pipes.out timers.out modules.out tracing.out readers.out
cd /; rm -rf /tmp/mixed /tmp/mixed.sh /tmp/unmixed.sh
'''


class Problem(Exception):
    """What must not happen."""


class MixedLoad:
    """One guest, its load, and the operations on it."""

    def __init__(self, guest, seed):
        self.guest = guest
        self.counts = {}
        self.violations = []
        self._random = random.Random(seed)
        self._watched_at = time.monotonic()

    def start(self):
        self.guest.put('/tmp/mixed.sh', LOAD.encode())
        self.guest.check('sh /tmp/mixed.sh > /dev/null 2>&1')

    def stop(self):
        """Ends the load; what its workers complained about."""
        self.guest.put('/tmp/unmixed.sh', STOP.encode())
        status, output = self.guest.run('sh /tmp/unmixed.sh', timeout=STOP_SECONDS)
        return output if status == 0 else f'{output}\nit does not end: exit status {status}'

    def wanted(self):
        """What has not gone well once yet."""
        return [kind for kind in ('apply', 'revert') if not self.counts.get(kind)]

    def applied(self):
        """What is in force, all of it as recorded."""
        result = self._run('status')
        if result.status != DONE or not all(patch['verified'] for patch in result.json['patches']):
            raise Problem(f'status: {result}')
        return {patch['name'] for patch in result.json['patches']}

    def step(self):
        """One random operation, and what must be true behind it."""
        before = self.applied()
        # Whatever chance has in mind, something is applied, and reverted.
        kind = (self.wanted() or self._random.choices(OPERATIONS))[0]
        if kind == 'kill':
            self._kill(before)
        else:
            self._operate(before, *self._choose(before, kind))
        if self.guest.qmp.status() != 'running':
            raise Problem(f'the VM is {self.guest.qmp.status()}')
        if time.monotonic() - self._watched_at > WATCH_SECONDS:
            self.watch()

    def watch(self):
        """The oracle, the kernel log, and that somebody is at home."""
        if not self.guest.alive(ALIVE_SECONDS):
            raise Problem('the guest does not answer')
        violations = self.guest.take_violations()
        messages = unexpected(self.guest.new_dmesg())
        self.guest.mark_dmesg()
        self.violations += violations
        if violations or messages:
            raise Problem('\n'.join([*violations, *messages]))
        self._watched_at = time.monotonic()

    def clean_up(self):
        """Takes everything back."""
        for name in sorted(self.applied()):
            for _ in range(5):
                if self._run('revert', name, '--timeout', TIMEOUT_SECONDS).status == DONE:
                    break
        left = self.applied()
        if left:
            raise Problem(f'{left} cannot be reverted')

    def _run(self, *arguments):
        result = self.guest.hvpatch(*arguments, timeout=OPERATION_SECONDS)
        if not result.json:
            raise Problem(f'{arguments}: {result}')
        return result

    def _choose(self, before, kind):
        """(name of what is counted, arguments of hvpatch, what is in force if it is done)."""
        if kind == 'revert' and before:
            name = self._random.choice(sorted(before))
            return 'revert', ('revert', name), before - {name}
        rivals = [name for name, rival in RIVALS.items() if rival not in before]
        fitting = [name for name in (*PATCHES, *rivals) if name not in before and
                   not any(RIVALS.get(other) == name for other in before)]
        if kind == 'replace' or not fitting:
            name = self._random.choice([name for name in (*PATCHES, *RIVALS)
                                        if name not in before])
            return 'replace', ('apply', '--replace', self.guest.module(name)), {name}
        name = self._random.choice(fitting)
        return 'apply', ('apply', self.guest.module(name)), before | {name}

    def _count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def _operate(self, before, what, arguments, after):
        result = self._run(*arguments, '--timeout', TIMEOUT_SECONDS)
        if result.status not in (DONE, BUSY, ROLLED_BACK):
            raise Problem(f'{arguments}: {result}')
        self._count(what if result.status == DONE else f'{what} {result.json["code"]}')
        found = self.applied()
        if found != (after if result.status == DONE else before):
            raise Problem(f'{arguments}: {before} before, {found} now: {result}')

    def _kill(self, before):
        kind = self._random.choice(('apply', 'revert', 'replace'))
        _, arguments, after = self._choose(before, kind)
        process = self.guest.hvpatch_start(*arguments, '--timeout', TIMEOUT_SECONDS)
        try:
            process.wait(self._random.uniform(*KILL_SECONDS))
        except subprocess.TimeoutExpired:
            pass
        process.kill()
        process.communicate()
        # The keeper leaves by itself; a call under way it brings home first.
        deadline = time.monotonic() + OPERATION_SECONDS
        while True:
            result = self._run('recover')
            if result.status == DONE:
                break
            if result.status != BUSY or time.monotonic() > deadline:
                raise Problem(f'recover behind a killed {arguments}: {result}')
            time.sleep(0.2)
        found = self.applied()
        self._count(f'kill {"late" if found == after else "early"}')
        if found not in (before, after):
            raise Problem(f'killed {arguments}: {before} before, {found} now')
