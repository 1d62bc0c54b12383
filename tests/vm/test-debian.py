#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest as tenants have them: a whole Debian with systemd, patched and with the agent's package.

Its root is made with debootstrap, in minutes the first time: only with HVPATCH_VM_LONG=1.
"""

import os
import shutil
import subprocess

from agentport import NAME, Port, agent_path, plug_port, unplug_port
from guest import ROOT
from tap import Skip, Suite

LONG = os.environ.get('HVPATCH_VM_LONG') == '1'
SERVICE = 'hvpatch-agent.service'

suite = Suite('6.1', '6.12', root='debian', boot_timeout=300)


def case(name):
    def register(function):
        def run(guest):
            guest.wait_for('systemctl is-system-running', timeout=300)
            function(guest)
            # Nothing has failed that runs under it.
            assert guest.check('systemctl is-system-running') == 'running'
        suite.case(name, timeout=900)(run)
    return register


def package(guest):
    """Builds the agent's package; returns its path on the host."""
    if not os.path.exists(agent_path()):
        raise Skip(f'{agent_path()} is missing (musl-gcc)')
    build = os.path.dirname(os.path.dirname(agent_path()))
    return subprocess.run([os.path.join(ROOT, 'scripts', 'build-agent-deb'), build, guest.folder],
                          check=True, capture_output=True, text=True).stdout.strip()


def plug(guest):
    """What an operator does on the host, and nothing in the guest."""
    path = guest.path('agent.sock')
    guest.qmp.execute('chardev-add', id='hvpagent', backend={
        'type': 'socket', 'data': {'server': True, 'wait': False, 'addr': {
            'type': 'unix', 'data': {'path': path}}}})
    guest.qmp.execute('device_add', driver='virtio-serial-pci', id='hvpserial')
    plug_port(guest)
    return path


def is_active(guest):
    guest.wait_for(f'systemctl is-active -q {SERVICE}', timeout=60)


@case('check-apply-status-revert')
def _(guest):
    path = guest.module('hvp_cmdline')
    before = guest.check('cat /proc/cmdline')
    assert guest.hvpatch('check', path).json['applicable'] is True
    result = guest.hvpatch('apply', path)
    assert result.status == 0 and result.json['tasks'] > 60, result
    assert guest.check('cat /proc/cmdline') == 'hvpatch was here'
    patch, = guest.hvpatch('status').json['patches']
    assert patch['name'] == 'hvp_cmdline' and patch['verified'] is True, patch
    result = guest.hvpatch('revert', 'hvp_cmdline')
    assert result.status == 0, result
    assert guest.check('cat /proc/cmdline') == before
    tasks = guest.hvpatch('tasks').json['tasks']
    assert 'systemd-journal' in {task['comm'] for task in tasks}, tasks


@case('agent-s-package-STARTED-BY-UDEV-RESTARTED-ENDS-WITH-THE-PORT')
def _(guest):
    guest.put_file(package(guest), '/tmp/agent.deb')
    guest.check('dpkg -i /tmp/agent.deb', timeout=120)
    assert guest.run(f'systemctl is-active -q {SERVICE}')[0] != 0
    path = plug(guest)
    is_active(guest)
    # What the kernel says of the new device.
    guest.mark_dmesg()
    port = Port(path)
    port.sync(1, timeout=60)
    kthreads, _ = port.kthreads(stack=True)
    assert kthreads[2]['comm'] == 'kthreadd' and kthreads[2]['stack'], kthreads[2]
    guest.check(f'systemctl kill -s KILL {SERVICE}')
    guest.wait_for(f'[ $(systemctl show -P NRestarts {SERVICE}) -ge 1 ]', timeout=60)
    is_active(guest)
    port.forget_half_line()
    port.sync(2, timeout=60)
    port.close()
    listed = guest.hvpatch('tasks', '--kthreads').json['tasks']
    assert any(task.get('agent') for task in listed), listed[:5]
    unplug_port(guest)
    guest.wait_for(f'! systemctl is-active -q {SERVICE}', timeout=60)
    plug_port(guest)
    guest.wait_for(f'grep -qx {NAME} /sys/class/virtio-ports/*/name')
    is_active(guest)
    guest.check('dpkg -r hvpatch-agent', timeout=120)
    assert guest.run(f'systemctl is-active -q {SERVICE}')[0] != 0


if __name__ == '__main__':
    if not LONG:
        print('1..0 # SKIP HVPATCH_VM_LONG is not set')
    elif not shutil.which('debootstrap'):
        print('1..0 # SKIP debootstrap is missing')
    else:
        suite.main()
