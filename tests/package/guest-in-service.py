#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Within the machine of test-service.py: a Linux guest of a libvirtd there, patched through the
service, whose units' confinement is all that core, worker and keeper have.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path += [os.path.join(ROOT, 'tests', 'vm'), os.path.join(ROOT, 'tests', 'unit', 'guest-agent')]
import libvirt  # pylint: disable=wrong-import-position
from cases import run_cases  # pylint: disable=wrong-import-position

MODULE = 'hvp_cmdline'
SCOPES = '/sys/fs/cgroup/system.slice'
KEEPER_OOM_SCORE, CAP_SYS_RESOURCE = -900, 24
LOOK_SECONDS, END_SECONDS = 60, 120
# Times and addresses of what is loaded differ from one run to the next.
VARIES = re.compile(r'0x[0-9a-f]+|\b[0-9]+\b')
ENDS = ('applied', 'rolled-back', 'failed')


def until(condition, what, seconds=LOOK_SECONDS, interval=0.1):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f'no {what} within {seconds} s'
        time.sleep(interval)
    return found


def hvpatch(*arguments):
    return subprocess.run(['hvpatch', '-o', 'json', *arguments], capture_output=True, text=True,
                          check=False, timeout=END_SECONDS)


def at(guest, *arguments):
    return hvpatch('-d', guest.name, *arguments)


def document(*arguments):
    result = hvpatch(*arguments)
    assert result.returncode == 0, result
    return json.loads(result.stdout)


def domain(guest):
    return next((one for one in document('domains')['domains'] if one['name'] == guest.name), {})


def same(guest, *arguments):
    """What it says over the daemon, which is what it says by itself."""
    over, itself = at(guest, *arguments), at(guest, '--direct', *arguments)
    assert over.returncode == itself.returncode, (over, itself)
    assert over.stdout == itself.stdout and over.stderr == itself.stderr, (over, itself)
    return json.loads(over.stdout)


def shape(result):
    return VARIES.sub('*', result.stdout)


def case_daemon_looks_into_the_guest(guest):
    seen = until(lambda: domain(guest).get('seen_at') and domain(guest), 'look')
    assert seen['patchable'] is True and seen['backend'] == 'gdbstub', seen
    assert seen['kernel']['release'] == guest.release and seen['patches'] == [], seen


def case_check_apply_status_revert_as_without_the_daemon(guest):
    module = guest.module(MODULE)
    assert same(guest, 'status')['patches'] == []
    same(guest, 'check', module)
    itself = {verb: at(guest, '--direct', verb, what)
              for verb, what in (('apply', module), ('revert', MODULE))}
    before = guest.check('cat /proc/cmdline')
    over = at(guest, 'apply', module)
    assert over.returncode == 0 and shape(over) == shape(itself['apply']), (over, itself['apply'])
    assert guest.check('cat /proc/cmdline') != before
    assert [patch['name'] for patch in same(guest, 'status')['patches']] == [MODULE]
    over = at(guest, 'revert', MODULE)
    assert over.returncode == 0 and shape(over) == shape(itself['revert']), over
    assert guest.check('cat /proc/cmdline') == before
    states = [one['state'] for one in document('operations')['operations']
              if one['domain_name'] == guest.name]
    assert states == ['reverted', 'applied', 'checked'], states


def keepers():
    """{pid: scope} of those at work."""
    found = {}
    for name in filter(lambda name: name.endswith('.scope'), os.listdir(SCOPES)):
        match = re.fullmatch(r'hvpatch-keeper-(\d+)\.scope', name)
        # systemd may be late to put away one that is empty.
        with contextlib.suppress(FileNotFoundError), \
                open(f'{SCOPES}/{name}/cgroup.procs') as stream:
            if match and stream.read():
                found[int(match.group(1))] = name
    return found


def locked_kib(pid):
    with open(f'/proc/{pid}/status') as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith('VmLck'))


def is_prompt(pid):
    """Not paged out, and before all others."""
    return locked_kib(pid) > 0 and \
        os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK in (os.SCHED_RR, os.SCHED_FIFO)


def freeze_keeper(tool):
    """The keeper's pid and its scope, which stands from then on, with a guest in its hands."""
    while tool.poll() is None:
        for pid, scope in keepers().items():
            with contextlib.suppress(ProcessLookupError, FileNotFoundError, StopIteration):
                if is_prompt(pid):
                    os.kill(pid, signal.SIGSTOP)
                    return pid, scope
        time.sleep(0.001)
    raise AssertionError(f'there was no prompt keeper: {tool.communicate()}')


def may_set_resources():
    """What a container, in which tests run, need not have at all."""
    with open('/proc/self/status') as stream:
        bounds = next(line for line in stream if line.startswith('CapBnd'))
    return bool(int(bounds.split()[1], 16) >> CAP_SYS_RESOURCE & 1)


def assert_is_kept(pid, scope):
    """From the OOM killer, and by what ends it in order."""
    with open(f'/proc/{pid}/oom_score_adj') as stream:
        score = int(stream.read())
    assert score == (KEEPER_OOM_SCORE if may_set_resources() else 0), score
    said = subprocess.run(['systemctl', 'show', scope, '-p',
                           'ActiveState,KillMode,TimeoutStopUSec,ManagedOOMPreference'],
                          capture_output=True, text=True, check=True).stdout
    assert sorted(said.split()) == ['ActiveState=active', 'KillMode=control-group',
                                    'ManagedOOMPreference=omit', 'TimeoutStopUSec=2min'], said


def core_pid():
    return int(subprocess.run(['systemctl', 'show', 'hvpatchd', '-p', 'MainPID', '--value'],
                              capture_output=True, text=True, check=True).stdout)


def case_keeper_outlives_the_core_and_brings_the_guest_home(guest):
    core = core_pid()
    with subprocess.Popen(['hvpatch', '-o', 'json', '-d', guest.name, 'apply',
                           guest.module(MODULE)], stdout=subprocess.PIPE, text=True) as tool:
        pid, scope = freeze_keeper(tool)
        try:
            assert_is_kept(pid, scope)
            os.kill(core, signal.SIGKILL)
            until(lambda: core_pid() not in (core, 0), 'restart')
            assert pid in keepers(), (pid, keepers())
        finally:
            os.kill(pid, signal.SIGCONT)
        said, _ = tool.communicate(timeout=END_SECONDS)
    operation = until(lambda: next((one for one in document('operations')['operations']
                                    if one['ended_at']), None), 'end', END_SECONDS)
    assert operation['verb'] == 'apply' and operation['state'] in ENDS, (operation, said)
    in_force = same(guest, 'status')['patches']
    assert bool(in_force) == (operation['state'] == 'applied'), (operation, in_force)
    until(lambda: not keepers(), 'end of the keeper')
    state = libvirt.virsh('domstate', guest.name)
    assert guest.alive() and state == 'running', (state, operation)
    if in_force:
        result = at(guest, 'revert', MODULE)
        assert result.returncode == 0, result


def set_up():
    """libvirt's folders, as the tests of libvirt have them; the machine's are nobody's."""
    for path, text in libvirt.CONFIGURATION.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as stream:
            stream.write(text)
    for path, lines in libvirt.ADDITIONS.items():
        with open(path, 'a') as stream:
            stream.write(lines)
    for folder in ('/run/libvirt', '/var/lib/libvirt', '/var/log/libvirt', '/var/cache/libvirt'):
        os.makedirs(folder, exist_ok=True)


def main():
    if libvirt.missing():
        print(f'skip: {libvirt.missing()}')
        return 1
    set_up()
    try:
        with libvirt.LibvirtGuest(sys.argv[1], oracle=False) as guest:
            return run_cases(globals(), guest)
    except libvirt.Skip as reason:
        print(f'skip: {reason}')
        return 1


if __name__ == '__main__':
    sys.exit(main())
