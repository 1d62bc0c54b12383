#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's units under a real systemd: what they may do, and what outlives them.

The core is a program that stands in for one with a keeper at work (tests/tools/keeper-stand-in.c);
the units, users and hvpatch are those of the build ($HVPATCH_BUILD, default: build).
"""

import contextlib
import functools
import os
import signal
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.append(os.path.join(ROOT, 'tests', 'unit', 'guest-agent'))
from cases import Skip, run_cases  # pylint: disable=wrong-import-position
from machine import Machine  # pylint: disable=wrong-import-position

BUILD = os.environ.get('HVPATCH_BUILD') or os.path.join(ROOT, 'build')
CORE = 'hvpatchd.service'
FOLDER = '/run/hvpatch'
UNITS = '/usr/lib/systemd/system'
DROP_IN = f'[Service]\nExecStart=\nExecStart=/usr/local/sbin/stand-in {FOLDER}\nWatchdogSec=0\n'
# A second and a bit after the end: RestartSec.
RESTART_SECONDS = 20

stack = contextlib.ExitStack()


@functools.cache
def machine():
    """One for all cases, with the core running."""
    stand_in = os.path.join(BUILD, 'tests', 'tools', 'keeper-stand-in')
    if not os.path.exists(stand_in):
        raise Skip(f'{stand_in} is missing')
    made = stack.enter_context(Machine())
    made.copy(stand_in, '/usr/local/sbin/stand-in')
    for name in ('hvpatch', 'hvpatch-keeper'):
        made.copy(os.path.join(BUILD, 'hv-patcher', name), f'/usr/local/bin/{name}')
    for name in (CORE, 'hvpatch-apid.service'):
        made.copy(os.path.join(BUILD, 'systemd', name), f'{UNITS}/{name}')
    for name in ('hvpatch-apid.socket', 'hvpatch-apid-tls.socket'):
        made.copy(os.path.join(ROOT, 'systemd', name), f'{UNITS}/{name}')
    made.copy(os.path.join(ROOT, 'systemd', 'sysusers.conf'), '/usr/lib/sysusers.d/hvpatch.conf')
    made.copy(os.path.join(ROOT, 'systemd', 'org.hvpatch1.service'),
              '/usr/share/dbus-1/system-services/org.hvpatch1.service')
    made.write(f'/etc/systemd/system/{CORE}.d/test.conf', DROP_IN)
    made.run(f'systemd-sysusers && systemctl daemon-reload && systemctl start {CORE}')
    return made


def keeper():
    """The one of the core that started last."""
    return int(machine().read(f'{FOLDER}/keeper'))


def is_alive(pid):
    return machine().run(f'kill -0 {pid}', check=False).returncode == 0


def show(unit, *names):
    said = machine().run(f'systemctl show {unit} -p {",".join(names)}').stdout
    return dict(line.split('=', 1) for line in said.splitlines())


def wait_for(condition):
    deadline = time.monotonic() + RESTART_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def case_core_starts_confined_and_recovers_first():
    machine()
    state = show(CORE, 'ActiveState', 'ExecStartPre', 'NoNewPrivileges', 'PrivateNetwork')
    assert state['ActiveState'] == 'active', state
    assert 'status=0' in state['ExecStartPre'] and 'recover --all' in state['ExecStartPre'], state
    assert (state['NoNewPrivileges'], state['PrivateNetwork']) == ('yes', 'yes'), state


def case_keeper_may_do_its_work_in_there():
    path = f'{FOLDER}/facts'
    wait_for(lambda: os.path.exists(machine().path(path)) and machine().read(path).count('\n') == 3)
    facts = dict(line.split(' ', 1) for line in machine().read(path).splitlines())
    assert facts == {'realtime': 'ok', 'mlockall': 'ok', 'ptrace': 'ok'}, facts


def case_keeper_has_a_scope_of_its_own():
    pid = keeper()
    unit = f'hvpatch-keeper-{pid}.scope'
    assert machine().run(f'cat /proc/{pid}/cgroup').stdout.rstrip().endswith(
        f'/system.slice/{unit}')
    state = show(unit, 'ActiveState', 'KillMode', 'TimeoutStopUSec', 'ManagedOOMPreference')
    assert state == {'ActiveState': 'active', 'KillMode': 'control-group',
                     'TimeoutStopUSec': '2min', 'ManagedOOMPreference': 'omit'}, state


def case_keeper_outlives_restart_and_kill_of_the_core():
    first = keeper()
    machine().run(f'systemctl restart {CORE}')
    second = keeper()
    core = int(show(CORE, 'MainPID')['MainPID'])
    machine().run(f'kill -9 {core}')
    wait_for(lambda: show(CORE, 'ActiveState', 'MainPID') not in (
        {'ActiveState': 'active', 'MainPID': str(core)},) and
        show(CORE, 'ActiveState')['ActiveState'] == 'active')
    assert keeper() not in (first, second)
    assert is_alive(first) and is_alive(second)
    machine().run(f'systemctl stop {CORE}')
    assert is_alive(first) and is_alive(second) and is_alive(keeper())
    # What they wrote down is still there.
    assert os.path.exists(machine().path(f'{FOLDER}/facts'))
    machine().run(f'systemctl start {CORE}')


def case_keeper_is_told_before_it_is_killed():
    pid = keeper()
    assert not os.path.exists(machine().path(f'{FOLDER}/told'))
    machine().run(f'systemctl stop hvpatch-keeper-{pid}.scope')
    assert os.path.exists(machine().path(f'{FOLDER}/told'))
    assert not is_alive(pid)
    said = machine().run('systemctl list-units --no-legend --all "hvpatch-keeper-*"').stdout
    assert f'hvpatch-keeper-{pid}.scope' not in said, said


def case_command_line_does_not_start_the_daemon():
    machine().run(f'systemctl stop {CORE}')
    result = machine().run('hvpatch domains', check=False)
    assert result.returncode == 1 and result.stderr == 'hvpatch: hvpatchd does not run\n', result
    result = machine().run('hvpatch -d web status', check=False)
    assert result.returncode != 0, result
    assert show(CORE, 'ActiveState')['ActiveState'] == 'inactive'
    machine().run(f'systemctl start {CORE}')


def case_api_has_its_socket_and_its_group():
    machine().run('systemctl start hvpatch-apid.socket')
    said = machine().run(f'stat -c "%a %U %G %F" {FOLDER}/api.socket; stat -c %a {FOLDER}').stdout
    assert said == '660 root hvpatch socket\n711\n', said
    machine().run('systemctl stop hvpatch-apid.socket')
    assert not os.path.exists(machine().path(f'{FOLDER}/api.socket'))


if __name__ == '__main__':
    # Whoever ends the test ends the machine, and its cgroup goes as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with stack:
        sys.exit(run_cases(globals()))
